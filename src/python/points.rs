//! Entropic transport between clouds of points; the costs are computed on the way.

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::call::detached;
use super::sinkhorn::{Asked, Found, dense, found, problem_error, solved, work};
use crate::pool::{Call, install};
use crate::sinkhorn::mirror::solve_mirror;
use crate::sinkhorn::plan::Potentials;
use crate::sinkhorn::points::{Clouds, Distance};
use crate::sinkhorn::slope::slope;
use crate::sinkhorn::softmin::soft_minimum;
use crate::sinkhorn::sweep::Plan;
use crate::sinkhorn::{Cost, Method, Options, Problem};

const BALANCED: [f64; 2] = [f64::INFINITY; 2];

/// Two clouds with their weights.
#[derive(FromPyObject)]
pub struct Weighted<'py> {
    #[pyo3(item(0))]
    x: PyReadonlyArray2<'py, f64>,
    #[pyo3(item(1))]
    y: PyReadonlyArray2<'py, f64>,
    #[pyo3(item(2))]
    a: PyReadonlyArray1<'py, f64>,
    #[pyo3(item(3))]
    b: PyReadonlyArray1<'py, f64>,
    #[pyo3(item(4))]
    distance: String,
    #[pyo3(item(5))]
    scale: f64,
    #[pyo3(item(6))]
    epsilon: f64,
}

impl Weighted<'_> {
    fn costs(&self) -> PyResult<Clouds<'_>> {
        let dimension = self.x.shape()[1];
        if self.y.shape()[1] != dimension {
            return Err(PyValueError::new_err("clouds of different dimensions"));
        }
        let distance = Distance::from_name(&self.distance)
            .ok_or_else(|| PyValueError::new_err(format!("unknown distance {:?}", self.distance)))?;
        Clouds::new(self.x.as_slice()?, self.y.as_slice()?, dimension, distance, self.scale)
            .map_err(|flaw| problem_error(&flaw))
    }

    fn problem<'a>(&'a self, costs: &'a Clouds<'a>, reach: [f64; 2]) -> PyResult<Problem<'a, Clouds<'a>>> {
        let problem =
            Problem { cost: costs, a: self.a.as_slice()?, b: self.b.as_slice()?, epsilon: self.epsilon, reach };
        problem.check_shape().map_err(|flaw| problem_error(&flaw))?;
        Ok(problem)
    }

    /// Checks potentials of a solution.
    fn potentials<'a>(
        &self,
        f: &'a PyReadonlyArray1<'_, f64>,
        g: &'a PyReadonlyArray1<'_, f64>,
    ) -> PyResult<(&'a [f64], &'a [f64])> {
        if f.len() != self.a.len() || g.len() != self.b.len() {
            return Err(PyValueError::new_err("one potential a weight"));
        }
        Ok((f.as_slice()?, g.as_slice()?))
    }
}

fn entries(costs: &Clouds<'_>) -> usize {
    costs.rows().saturating_mul(costs.columns())
}

#[pyfunction]
#[pyo3(signature = (clouds, reach, tol, max_iter, method, init, wide, threads, progress, /))]
pub fn sinkhorn_points<'py>(
    py: Python<'py>,
    clouds: Weighted<'py>,
    reach: (f64, f64),
    tol: f64,
    max_iter: usize,
    method: &str,
    init: Option<PyReadonlyArray1<'py, f64>>,
    wide: bool,
    threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Found<'py>> {
    let costs = clouds.costs()?;
    let problem = clouds.problem(&costs, [reach.0, reach.1])?;
    solved(py, &problem, &Asked { tol, max_iter, method, init, wide, threads, progress })
}

#[pyfunction]
#[pyo3(signature = (clouds, tol, max_iter, init, threads, /))]
pub fn sinkhorn_mirror<'py>(
    py: Python<'py>,
    clouds: Weighted<'py>,
    tol: f64,
    max_iter: usize,
    init: Option<PyReadonlyArray1<'py, f64>>,
    threads: usize,
) -> PyResult<Found<'py>> {
    let costs = clouds.costs()?;
    let problem = clouds.problem(&costs, BALANCED)?;
    let init = init.as_ref().map(|init| init.as_slice()).transpose()?;
    if problem.a.len() != problem.b.len() || init.is_some_and(|init| init.len() != problem.a.len()) {
        return Err(PyValueError::new_err("a mirror of another size"));
    }
    let options = Options { tol, max_iter, method: Method::Sinkhorn, init, wide: true, watch: None };
    let size = work(entries(&costs), max_iter);
    Ok(found(py, detached(py, threads, size, |call| solve_mirror(&problem, &options, call))?))
}

#[pyfunction]
#[pyo3(signature = (clouds, f, g, threads, /))]
pub fn sinkhorn_points_plan<'py>(
    py: Python<'py>,
    clouds: Weighted<'py>,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let costs = clouds.costs()?;
    let problem = clouds.problem(&costs, BALANCED)?;
    let (f, g) = clouds.potentials(&f, &g)?;
    let mut out = vec![0.0; entries(&costs)];
    let solved = Potentials { problem: &problem, f, g };
    detached(py, threads, out.len(), |call: &Call| solved.plan(&mut out, call))?;
    PyArray1::from_vec(py, out).reshape([costs.rows(), costs.columns()])
}

#[pyfunction]
#[pyo3(signature = (clouds, f, g, vectors, transposed, threads, /))]
pub fn sinkhorn_points_apply<'py>(
    py: Python<'py>,
    clouds: Weighted<'py>,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    vectors: PyReadonlyArray2<'py, f64>,
    transposed: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let costs = clouds.costs()?;
    let problem = clouds.problem(&costs, BALANCED)?;
    let (f, g) = clouds.potentials(&f, &g)?;
    let (rows, columns) = (costs.rows(), costs.columns());
    let (inner, outer) = if transposed { (rows, columns) } else { (columns, rows) };
    let (count, values) = (vectors.shape()[0], vectors.as_slice()?);
    if vectors.shape()[1] != inner {
        return Err(PyValueError::new_err("vectors do not fit the plan"));
    }
    let mut out = vec![0.0; count * outer];
    let solved = Potentials { problem: &problem, f, g };
    if count > 0 {
        detached(py, threads, entries(&costs).saturating_mul(count), |call: &Call| {
            if transposed {
                solved.apply_transposed(values, &mut out, call)
            } else {
                solved.apply(values, &mut out, call)
            }
        })?;
    }
    PyArray1::from_vec(py, out).reshape([count, outer])
}

#[pyfunction]
#[pyo3(signature = (clouds, f, g, threads, /))]
pub fn sinkhorn_points_slope<'py>(
    py: Python<'py>,
    clouds: Weighted<'py>,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let costs = clouds.costs()?;
    let problem = clouds.problem(&costs, BALANCED)?;
    let (f, g) = clouds.potentials(&f, &g)?;
    let out = detached(py, threads, entries(&costs), |call| slope(&problem, f, g, call))?;
    PyArray1::from_vec(py, out).reshape([costs.rows(), costs.dimension + 1])
}

#[pyfunction]
#[pyo3(signature = (cost, h, epsilon, threads, /))]
pub fn soft_minima<'py>(
    py: Python<'py>,
    cost: PyReadonlyArray2<'py, f64>,
    h: PyReadonlyArray2<'py, f64>,
    epsilon: f64,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let costs = dense(cost.as_untyped())?;
    let (rows, columns, count) = (costs.rows(), costs.columns(), h.shape()[0]);
    if h.shape()[1] != columns {
        return Err(PyValueError::new_err("rows of h do not fit the costs"));
    }
    let (h, mut out) = (h.as_slice()?, vec![0.0; count * rows]);
    detached(py, threads, (rows * columns).saturating_mul(count), |call| {
        let wanted = call.threads();
        let plan = Plan::new(rows, columns, wanted > 1, call);
        let mut run = || {
            let mut pairs = h.chunks(columns).zip(out.chunks_mut(rows));
            pairs.try_for_each(|(h, z)| soft_minimum::<_, f64>(&costs, h, epsilon, &plan, z))
        };
        if plan.parallel { install(wanted, run) } else { run() }
    })?;
    PyArray1::from_vec(py, out).reshape([count, rows])
}
