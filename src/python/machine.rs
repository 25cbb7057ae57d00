//! Threads, instruction sets, and the limits of the machine.

use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::simd::{Isa, Lanes, isa as current_isa, set_isa as use_isa};

#[pyfunction]
pub fn num_threads() -> usize {
    crate::pool::threads()
}

#[pyfunction]
#[pyo3(signature = (n, /))]
pub fn set_num_threads(n: usize) {
    crate::pool::set_threads(n);
}

#[pyfunction]
pub fn isa() -> &'static str {
    current_isa().name()
}

#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn set_isa(name: &str) -> PyResult<()> {
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
pub fn available_isas() -> Vec<&'static str> {
    Isa::available().into_iter().map(Isa::name).collect()
}

#[pyfunction]
pub fn build_profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

#[pyfunction]
#[pyo3(signature = (array, threads, /))]
pub fn read_rate(py: Python<'_>, array: PyReadonlyArray1<'_, f32>, threads: usize) -> PyResult<f64> {
    let numbers = array.as_slice()?;
    Ok(py.detach(|| crate::probe::read_sum(numbers, threads)))
}

/// Numbers whose exponentials are timed.
#[derive(FromPyObject)]
pub enum Floats<'py> {
    Single(PyReadonlyArray1<'py, f32>),
    Double(PyReadonlyArray1<'py, f64>),
}

#[pyfunction]
#[pyo3(signature = (array, repeats, threads, /))]
pub fn exp_sum(py: Python<'_>, array: Floats<'_>, repeats: usize, threads: usize) -> PyResult<f64> {
    Ok(match &array {
        Floats::Single(array) => exp_sum_of(py, array.as_slice()?, repeats, threads),
        Floats::Double(array) => exp_sum_of(py, array.as_slice()?, repeats, threads),
    })
}

fn exp_sum_of<T: Lanes>(py: Python<'_>, numbers: &[T], repeats: usize, threads: usize) -> f64 {
    py.detach(|| crate::probe::exp_sum(numbers, repeats, threads))
}
