//! The extension module `kullback._core._native`: borrow, release the interpreter, call, map the error.
//!
//! Arrays are borrowed, never copied; as with NumPy's own functions, changing one from another thread during a call
//! gives an unspecified result. Work runs on a thread of its own so that the calling one can answer Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use half::{bf16, f16};
use numpy::prelude::*;
use numpy::{Element, PyArray1, PyArrayDescr, PyReadonlyArray1, PyUntypedArray};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::batch::Matrix;
use crate::compare::{Column, Values};
use crate::divergences::NAMES;
use crate::error::{Argument, Error};
use crate::evaluate::COMPOSED;
use crate::pool::Call;
use crate::rows::{Kind, Numbers};
use crate::simd::{Isa, isa as current_isa, set_isa as use_isa};

/// How often a waiting call looks for Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(50);

pyo3::create_exception!(
    kullback._core._native,
    RowError,
    PyValueError,
    "A row that is no distribution: (reason, argument, row, column, value)."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Negative { argument, row, column, value } => {
                RowError::new_err(("negative", argument.name(), row, column as i64, value))
            }
            Error::Normalisation { argument, row, value } => {
                RowError::new_err(("normalisation", argument.name(), row, -1i64, value))
            }
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
            Error::UnknownName(_) | Error::Shape(_) => PyValueError::new_err(error.to_string()),
        }
    }
}

/// Runs work without the interpreter lock; stops it if a signal handler raises.
fn detached<T: Send>(
    py: Python<'_>,
    threads: usize,
    numbers: usize,
    work: impl FnOnce(&Call) -> crate::Result<T> + Send,
) -> PyResult<T> {
    /// Numbers that take less than the patience of any user.
    const QUICK: usize = 1 << 20;
    let call = &Call::new(threads);
    let guarded = move || catch_unwind(AssertUnwindSafe(|| work(call)));
    let outcome = py.detach(move || {
        if numbers <= QUICK {
            return Ok(guarded());
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let worker = std::thread::Builder::new().name("kullback-call".to_owned());
            let spawned = worker.spawn_scoped(scope, move || {
                // The receiver outlives the scope, so the outcome always arrives.
                let _ = sender.send(guarded());
            });
            if spawned.is_err() {
                return Err(PyRuntimeError::new_err("the system refused to start a thread"));
            }
            let mut interrupted = None;
            loop {
                match receiver.recv_timeout(PATIENCE) {
                    Ok(outcome) => return interrupted.map_or(Ok(outcome), Err),
                    Err(RecvTimeoutError::Timeout) if interrupted.is_none() => {
                        #[allow(clippy::redundant_closure_for_method_calls)] // the method is not general enough
                        let signals = Python::attach(|py| py.check_signals());
                        interrupted = signals.err();
                        call.stop.store(interrupted.is_some(), Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(PyRuntimeError::new_err("a worker thread ended without a result"));
                    }
                }
            }
        })
    })?;
    outcome
        .map_err(|_| PyRuntimeError::new_err("internal error: please report it with the input that caused it"))?
        .map_err(PyErr::from)
}

/// The numbers of an array and the index of its first element.
///
/// The slice spans every element that shape and strides can reach, so that all indexing behind it is bounds-checked.
fn borrow<'a, T: Element>(array: &'a Bound<'_, PyUntypedArray>) -> PyResult<(&'a [T], usize, Vec<isize>)> {
    let size = std::mem::size_of::<T>() as isize;
    if array.len() == 0 {
        return Ok((&[], 0, vec![0; array.ndim()]));
    }
    if array.strides().iter().any(|stride| stride % size != 0) {
        return Err(PyValueError::new_err("an array whose strides are no multiple of its item size"));
    }
    let strides: Vec<isize> = array.strides().iter().map(|stride| stride / size).collect();
    let reach = |sign: isize| -> isize {
        let far = array.shape().iter().zip(&strides).map(|(&len, &stride)| stride * (len as isize - 1));
        far.filter(|far| far.signum() == sign).sum()
    };
    let (low, high) = (reach(-1), reach(1));
    // SAFETY: NumPy guarantees that `data` plus any index within the shape times the strides lies inside one
    // allocation, which `array` keeps alive for 'a; `low` and `high` are the extreme ones. Python checked the
    // alignment and the dtype. See the head of this file for concurrent writes.
    unsafe {
        let data = (*array.as_array_ptr()).fields.data.cast::<T>();
        if !data.is_aligned() {
            return Err(PyValueError::new_err("an array that is not aligned"));
        }
        Ok((std::slice::from_raw_parts(data.offset(low), (high - low + 1) as usize), low.unsigned_abs(), strides))
    }
}

fn has<T: Element>(py: Python<'_>, descr: &Bound<'_, PyArrayDescr>) -> bool {
    descr.is_equiv_to(&T::get_dtype(py))
}

fn matrix<'a>(
    array: &'a Bound<'_, PyUntypedArray>,
    kind: &str,
    temperature: f64,
    argument: Argument,
) -> PyResult<Matrix<'a>> {
    let kind = Kind::from_name(kind).ok_or_else(|| PyValueError::new_err(format!("unknown kind {kind:?}")))?;
    let (py, descr) = (array.py(), array.dtype());
    let (numbers, start, strides) = if has::<f32>(py, &descr) {
        let (numbers, start, strides) = borrow::<f32>(array)?;
        (Numbers::F32(numbers), start, strides)
    } else if has::<f64>(py, &descr) {
        let (numbers, start, strides) = borrow::<f64>(array)?;
        (Numbers::F64(numbers), start, strides)
    } else if has::<f16>(py, &descr) {
        let (numbers, start, strides) = borrow::<f16>(array)?;
        (Numbers::F16(numbers), start, strides)
    } else if has::<u16>(py, &descr) {
        use half::slice::HalfBitsSliceExt;
        let (bits, start, strides) = borrow::<u16>(array)?;
        (Numbers::BF16(bits.reinterpret_cast::<bf16>()), start, strides)
    } else {
        return Err(PyValueError::new_err(format!("unsupported dtype {descr}")));
    };
    Ok(Matrix::new(numbers, start, array.shape(), &strides, kind, temperature, argument)?)
}

fn same_shape(p: &Bound<'_, PyUntypedArray>, q: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    if p.shape() == q.shape() { Ok(()) } else { Err(PyValueError::new_err("p and q must have one shape")) }
}

/// The fast kernels behind the public functions of `kullback`.
#[pymodule]
#[allow(clippy::wildcard_imports, clippy::needless_pass_by_value)] // a binding takes what Python hands it
mod _native {
    use super::*;

    #[pymodule_export]
    use super::RowError;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    #[pyfunction]
    #[pyo3(signature = (name, p, q, kind_p, kind_q, parameter, temperature, threads, /))]
    #[allow(clippy::too_many_arguments)]
    fn divergence<'py>(
        py: Python<'py>,
        name: &str,
        p: &Bound<'py, PyUntypedArray>,
        q: Option<&Bound<'py, PyUntypedArray>>,
        kind_p: &str,
        kind_q: &str,
        parameter: Option<f64>,
        temperature: f64,
        threads: usize,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        if parameter.is_some() {
            return Err(PyValueError::new_err(format!("{name} takes no parameter")));
        }
        let left = matrix(p, kind_p, temperature, Argument::P)?;
        let values = match q {
            None if name == "entropy" => detached(py, threads, p.len(), |call| crate::entropy(&left, call))?,
            None => return Err(PyValueError::new_err(format!("{name} takes two arguments"))),
            Some(q) => {
                same_shape(p, q)?;
                let right = matrix(q, kind_q, temperature, Argument::Q)?;
                detached(py, threads, p.len(), |call| crate::divergence(name, &left, &right, call))?
            }
        };
        Ok(PyArray1::from_vec(py, values))
    }

    #[pyfunction]
    #[pyo3(signature = (p, q, kind_p, kind_q, columns, targets, temperature, threads, /))]
    #[allow(clippy::too_many_arguments)]
    fn compare<'py>(
        py: Python<'py>,
        p: &Bound<'py, PyUntypedArray>,
        q: &Bound<'py, PyUntypedArray>,
        kind_p: &str,
        kind_q: &str,
        columns: Vec<String>,
        targets: Option<PyReadonlyArray1<'py, i64>>,
        temperature: f64,
        threads: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        same_shape(p, q)?;
        let left = matrix(p, kind_p, temperature, Argument::P)?;
        let right = matrix(q, kind_q, temperature, Argument::Q)?;
        let wanted = columns.iter().map(|name| Column::from_name(name)).collect::<crate::Result<Vec<_>>>()?;
        let targets = targets.map(|ids| ids.as_array().to_vec());
        let values =
            detached(py, threads, p.len(), |call| crate::compare(&left, &right, &wanted, targets.as_deref(), call))?;
        let table = PyDict::new(py);
        for (name, values) in columns.iter().zip(values) {
            match values {
                Values::Float(values) => table.set_item(name, PyArray1::from_vec(py, values))?,
                Values::Integer(values) => table.set_item(name, PyArray1::from_vec(py, values))?,
            }
        }
        Ok(table)
    }

    #[pyfunction]
    fn registry() -> Vec<&'static str> {
        NAMES.iter().chain(COMPOSED).copied().chain(["entropy"]).collect()
    }

    #[pyfunction]
    fn num_threads() -> usize {
        crate::pool::threads()
    }

    #[pyfunction]
    #[pyo3(signature = (n, /))]
    fn set_num_threads(n: usize) {
        crate::pool::set_threads(n);
    }

    #[pyfunction]
    fn isa() -> &'static str {
        current_isa().name()
    }

    #[pyfunction]
    #[pyo3(signature = (name, /))]
    fn set_isa(name: &str) -> PyResult<()> {
        let wanted = match name {
            "auto" => None,
            _ => Some(Isa::from_name(name).ok_or_else(|| PyValueError::new_err(format!("unknown isa {name:?}")))?),
        };
        if use_isa(wanted) {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("this machine does not have {name:?}")))
    }

    #[pyfunction]
    fn available_isas() -> Vec<&'static str> {
        Isa::available().into_iter().map(Isa::name).collect()
    }

    #[pyfunction]
    fn build_profile() -> &'static str {
        if cfg!(debug_assertions) { "debug" } else { "release" }
    }

    #[pyfunction]
    #[pyo3(signature = (array, threads, /))]
    fn read_rate(py: Python<'_>, array: PyReadonlyArray1<'_, f32>, threads: usize) -> PyResult<f64> {
        let numbers = array.as_slice()?;
        Ok(py.detach(|| crate::probe::read_sum(numbers, threads)))
    }

    #[pyfunction]
    #[pyo3(signature = (array, repeats, threads, /))]
    fn exp_sum(py: Python<'_>, array: PyReadonlyArray1<'_, f32>, repeats: usize, threads: usize) -> PyResult<f64> {
        let numbers = array.as_slice()?;
        Ok(py.detach(|| crate::probe::exp_sum(numbers, repeats, threads)))
    }
}
