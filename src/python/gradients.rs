//! Values with gradients, written into arrays that Python has made.

use numpy::prelude::*;
use numpy::{PyArray1, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{matrix, same_shape};
use super::call::detached;
use crate::error::Argument;
use crate::gradients::{NAMES, Request, value_and_gradient};

#[pyfunction]
#[pyo3(signature = (name, p, q, kind_p, kind_q, parameter, wrt, temperature, values, gradient, threads, /))]
pub fn value_and_grad(
    py: Python<'_>,
    name: &str,
    p: &Bound<'_, PyUntypedArray>,
    q: &Bound<'_, PyUntypedArray>,
    kind_p: &str,
    kind_q: &str,
    parameter: Option<f64>,
    wrt: &str,
    temperature: f64,
    values: &Bound<'_, PyArray1<f64>>,
    gradient: &Bound<'_, PyUntypedArray>,
    threads: usize,
) -> PyResult<()> {
    same_shape(p, q)?;
    let left = matrix(p, kind_p, temperature, Argument::P)?;
    let right = matrix(q, kind_q, temperature, Argument::Q)?;
    let wrt = match wrt {
        "p" => Argument::P,
        "q" => Argument::Q,
        _ => return Err(PyValueError::new_err(format!("unknown side {wrt:?}"))),
    };
    let request = Request { name, parameter: parameter.unwrap_or(f64::NAN), wrt };
    let mut values = values.try_readwrite()?;
    let values = values.as_slice_mut()?;
    if let Ok(array) = gradient.cast::<PyArray1<f32>>() {
        let mut array = array.try_readwrite()?;
        let out = array.as_slice_mut()?;
        return detached(py, threads, p.len(), |call| value_and_gradient(request, &left, &right, values, out, call));
    }
    let mut array = gradient.cast::<PyArray1<f64>>()?.try_readwrite()?;
    let out = array.as_slice_mut()?;
    detached(py, threads, p.len(), |call| value_and_gradient(request, &left, &right, values, out, call))
}

#[pyfunction]
pub fn gradient_names() -> Vec<&'static str> {
    NAMES.to_vec()
}
