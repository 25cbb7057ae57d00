//! Entropic optimal transport: problems borrowed from arrays, solutions as tuples that Python turns into records.

use std::sync::Mutex;

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{borrow, has};
use super::call::detached;
use crate::pool::Call;
use crate::sinkhorn::batch::solve_batch;
use crate::sinkhorn::plan::Potentials;
use crate::sinkhorn::problem::Watch;
use crate::sinkhorn::{Cost, Dense, Entries, Flaw, Method, Options, Problem, Solution, solve};

pyo3::create_exception!(
    kullback._core._native,
    ProblemError,
    PyValueError,
    "A transport problem that is none: (reason, argument, row, column, value)."
);

pub type Vector<'py> = Bound<'py, PyArray1<f64>>;

/// f, g, history, then numbers, then the method.
pub type Found<'py> = (Vector<'py>, Vector<'py>, Vector<'py>, [f64; 5], usize, bool, &'static str);

fn flaw_fields(flaw: &Flaw) -> (&'static str, &'static str, usize, usize, f64) {
    (flaw.reason, flaw.argument, flaw.row, flaw.column, flaw.value)
}

/// The exception of a flaw.
pub fn problem_error(flaw: &Flaw) -> PyErr {
    ProblemError::new_err(flaw_fields(flaw))
}

/// Costs in C order.
pub fn dense<'a>(cost: &'a Bound<'_, PyUntypedArray>) -> PyResult<Dense<'a>> {
    let (py, descr) = (cost.py(), cost.dtype());
    let &[rows, columns] = cost.shape() else { return Err(PyValueError::new_err("cost must be a matrix")) };
    if !cost.is_c_contiguous() {
        return Err(PyValueError::new_err("cost must be contiguous"));
    }
    let entries = if has::<f32>(py, &descr) {
        Entries::F32(borrow::<f32>(cost)?.0)
    } else if has::<f64>(py, &descr) {
        Entries::F64(borrow::<f64>(cost)?.0)
    } else {
        return Err(PyValueError::new_err(format!("unsupported dtype {descr}")));
    };
    Dense::new(entries, rows, columns).map_err(|flaw| problem_error(&flaw))
}

fn method_of(name: &str) -> PyResult<Method> {
    Method::from_name(name).ok_or_else(|| PyValueError::new_err(format!("unknown method {name:?}")))
}

/// Work of a solve as [`detached`] counts it: a sweep of a problem is less than a pass over rows, but there are many.
pub fn work(entries: usize, max_iter: usize) -> usize {
    entries.saturating_mul(max_iter) / 256
}

pub fn found(py: Python<'_>, solution: Solution) -> Found<'_> {
    (
        PyArray1::from_vec(py, solution.f),
        PyArray1::from_vec(py, solution.g),
        PyArray1::from_vec(py, solution.history),
        [solution.value, solution.transport_cost, solution.mass, solution.error, solution.target],
        solution.n_iter,
        solution.converged,
        solution.method.name(),
    )
}

/// What a call asks of a solve.
pub struct Asked<'a, 'py> {
    pub tol: f64,
    pub max_iter: usize,
    pub method: &'a str,
    pub init: Option<PyReadonlyArray1<'py, f64>>,
    pub wide: bool,
    pub threads: usize,
    /// Called with the sweeps done and the error; what it raises ends the solve.
    pub progress: Option<Py<PyAny>>,
}

/// Solves a problem as asked.
pub fn solved<'py, C: Cost>(py: Python<'py>, problem: &Problem<'_, C>, asked: &Asked<'_, 'py>) -> PyResult<Found<'py>> {
    let init = asked.init.as_ref().map(|init| init.as_slice()).transpose()?;
    let (progress, raised) = (&asked.progress, Mutex::new(None));
    let watch = |sweeps: usize, error: f64| {
        let Some(progress) = progress else { return true };
        let outcome = Python::attach(|py| progress.call1(py, (sweeps, error)).map(drop));
        let goes_on = outcome.is_ok();
        if let (Err(error), Ok(mut slot)) = (outcome, raised.lock()) {
            *slot = Some(error);
        }
        goes_on
    };
    let options = Options {
        tol: asked.tol,
        max_iter: asked.max_iter,
        method: method_of(asked.method)?,
        init,
        wide: asked.wide,
        watch: progress.is_some().then_some(&watch as Watch<'_>),
    };
    let entries = problem.a.len().saturating_mul(problem.b.len());
    let outcome = detached(py, asked.threads, work(entries, asked.max_iter), |call| solve(problem, &options, call));
    if let Some(error) = raised.lock().ok().and_then(|mut slot| slot.take()) {
        return Err(error);
    }
    Ok(found(py, outcome?))
}

#[pyfunction]
#[pyo3(signature = (a, b, cost, epsilon, reach, tol, max_iter, method, init, wide, threads, progress, /))]
pub fn sinkhorn<'py>(
    py: Python<'py>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    cost: &Bound<'py, PyUntypedArray>,
    epsilon: f64,
    reach: (f64, f64),
    tol: f64,
    max_iter: usize,
    method: &str,
    init: Option<PyReadonlyArray1<'py, f64>>,
    wide: bool,
    threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Found<'py>> {
    let costs = dense(cost)?;
    let problem = Problem { cost: &costs, a: a.as_slice()?, b: b.as_slice()?, epsilon, reach: [reach.0, reach.1] };
    solved(py, &problem, &Asked { tol, max_iter, method, init, wide, threads, progress })
}

/// The solutions of a batch, one after the other, and the flaws of those that have none.
type FoundMany<'py> = (
    (Vector<'py>, Vector<'py>, Vector<'py>),
    Bound<'py, PyArray2<f64>>,
    Vec<(usize, usize, bool, &'static str)>,
    Vec<(usize, (&'static str, &'static str, usize, usize, f64))>,
);

#[pyfunction]
#[pyo3(signature = (a, b, cost, shapes, starts, epsilon, reach, tol, max_iter, method, init, threads, /))]
pub fn sinkhorn_batch<'py>(
    py: Python<'py>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    cost: &Bound<'py, PyUntypedArray>,
    shapes: Vec<(usize, usize)>,
    starts: Vec<usize>,
    epsilon: Vec<f64>,
    reach: (f64, f64),
    tol: f64,
    max_iter: usize,
    method: &str,
    init: Option<PyReadonlyArray1<'py, f64>>,
    threads: usize,
) -> PyResult<FoundMany<'py>> {
    let method = method_of(method)?;
    let misfit = || PyValueError::new_err("the arrays of a batch do not fit its shapes");
    if epsilon.len() != shapes.len() || starts.len() != shapes.len() || !cost.is_c_contiguous() {
        return Err(misfit());
    }
    let (a, b) = (a.as_slice()?, b.as_slice()?);
    let init = init.as_ref().map(|init| init.as_slice()).transpose()?;
    let descr = cost.dtype();
    let narrow = has::<f32>(py, &descr);
    if !narrow && !has::<f64>(py, &descr) {
        return Err(PyValueError::new_err(format!("unsupported dtype {descr}")));
    }
    let entries = if narrow { Entries::F32(borrow::<f32>(cost)?.0) } else { Entries::F64(borrow::<f64>(cost)?.0) };
    let (mut costs, mut entered) = (Vec::with_capacity(shapes.len()), 0usize);
    for (&(rows, columns), &start) in shapes.iter().zip(&starts) {
        let part = rows.checked_mul(columns).and_then(|len| entries.part(start, len)).ok_or_else(misfit)?;
        entered = entered.saturating_add(part.len());
        costs.push(Dense::new(part, rows, columns).map_err(|flaw| problem_error(&flaw))?);
    }
    let (mut posed, mut options) = (Vec::with_capacity(shapes.len()), Vec::with_capacity(shapes.len()));
    let (mut row, mut column) = (0, 0);
    for ((cost, &(rows, columns)), &epsilon) in costs.iter().zip(&shapes).zip(&epsilon) {
        let a = a.get(row..row + rows).ok_or_else(misfit)?;
        let b = b.get(column..column + columns).ok_or_else(misfit)?;
        let init = init.map(|init| init.get(column..column + columns).ok_or_else(misfit)).transpose()?;
        posed.push(Problem { cost, a, b, epsilon, reach: [reach.0, reach.1] });
        options.push(Options { tol, max_iter, method, init, wide: false, watch: None });
        row += rows;
        column += columns;
    }
    let solved = detached(py, threads, work(entered, max_iter), |call| solve_batch(&posed, &options, call))?;
    let (mut f, mut g, mut history) = (Vec::with_capacity(row), Vec::with_capacity(column), Vec::new());
    let (mut numbers, mut counts, mut flaws) = (Vec::new(), Vec::with_capacity(shapes.len()), Vec::new());
    for (index, (outcome, &(rows, columns))) in solved.into_iter().zip(&shapes).enumerate() {
        match outcome {
            Ok(found) => {
                f.extend(found.f);
                g.extend(found.g);
                numbers.extend([found.value, found.transport_cost, found.mass, found.error, found.target]);
                counts.push((found.n_iter, found.history.len(), found.converged, found.method.name()));
                history.extend(found.history);
            }
            Err(flaw) => {
                f.resize(f.len() + rows, f64::NAN);
                g.resize(g.len() + columns, f64::NAN);
                numbers.extend([f64::NAN; 5]);
                counts.push((0, 0, false, method.name()));
                flaws.push((index, flaw_fields(&flaw)));
            }
        }
    }
    let vector = |numbers| PyArray1::from_vec(py, numbers);
    Ok(((vector(f), vector(g), vector(history)), vector(numbers).reshape([counts.len(), 5])?, counts, flaws))
}

/// The arrays of a solved problem.
struct Solved<'py> {
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
}

impl Solved<'_> {
    /// Lends the problem and its potentials to `work`.
    fn with<'a, R>(
        &'a self,
        costs: &'a Dense<'a>,
        epsilon: f64,
        work: impl FnOnce(&Potentials<'_, '_, Dense<'a>>) -> PyResult<R>,
    ) -> PyResult<R> {
        let (a, b) = (self.a.as_slice()?, self.b.as_slice()?);
        let problem = Problem { cost: costs, a, b, epsilon, reach: [f64::INFINITY; 2] };
        let (f, g) = (self.f.as_slice()?, self.g.as_slice()?);
        problem.check_shape().map_err(|flaw| problem_error(&flaw))?;
        if f.len() != a.len() || g.len() != b.len() {
            return Err(PyValueError::new_err("one potential a weight"));
        }
        work(&Potentials { problem: &problem, f, g })
    }
}

#[pyfunction]
#[pyo3(signature = (a, b, cost, epsilon, f, g, threads, /))]
pub fn sinkhorn_plan<'py>(
    py: Python<'py>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    cost: &Bound<'py, PyUntypedArray>,
    epsilon: f64,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    threads: usize,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let costs = dense(cost)?;
    let (rows, columns) = (cost.shape()[0], cost.shape()[1]);
    let narrow = has::<f32>(py, &cost.dtype());
    Solved { a, b, f, g }.with(&costs, epsilon, |solved| {
        if narrow {
            let mut out = vec![0.0f32; rows * columns];
            detached(py, threads, cost.len(), |call: &Call| solved.plan(&mut out, call))?;
            Ok(PyArray1::from_vec(py, out).reshape([rows, columns])?.as_untyped().clone())
        } else {
            let mut out = vec![0.0f64; rows * columns];
            detached(py, threads, cost.len(), |call: &Call| solved.plan(&mut out, call))?;
            Ok(PyArray1::from_vec(py, out).reshape([rows, columns])?.as_untyped().clone())
        }
    })
}

#[pyfunction]
#[pyo3(signature = (a, b, cost, epsilon, f, g, vectors, transposed, threads, /))]
pub fn sinkhorn_apply<'py>(
    py: Python<'py>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    cost: &Bound<'py, PyUntypedArray>,
    epsilon: f64,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    vectors: &Bound<'py, PyArray2<f64>>,
    transposed: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let costs = dense(cost)?;
    let (rows, columns) = (cost.shape()[0], cost.shape()[1]);
    let (inner, outer) = if transposed { (rows, columns) } else { (columns, rows) };
    let read = vectors.readonly();
    let values = read.as_slice()?;
    let count = vectors.shape()[0];
    if vectors.shape()[1] != inner {
        return Err(PyValueError::new_err("vectors do not fit the plan"));
    }
    Solved { a, b, f, g }.with(&costs, epsilon, |solved| {
        let mut out = vec![0.0; count * outer];
        detached(py, threads, cost.len().saturating_mul(count.max(1)), |call: &Call| {
            if count == 0 {
                Ok(())
            } else if transposed {
                solved.apply_transposed(values, &mut out, call)
            } else {
                solved.apply(values, &mut out, call)
            }
        })?;
        PyArray1::from_vec(py, out).reshape([count, outer])
    })
}
