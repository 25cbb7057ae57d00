//! Every row with every other.

use numpy::prelude::*;
use numpy::{PyArray1, PyReadwriteArray2, PyUntypedArray};
use pyo3::prelude::*;

use super::arrays::matrix;
use super::call::detached;
use crate::error::Argument;

/// Rows that are no distributions, of p and of q.
type Undefined = (Vec<usize>, Vec<usize>);

/// Indices and values, flat, and the rows that are no distributions.
type Found<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>, Undefined);

#[pyfunction]
#[pyo3(signature = (name, p, q, kind_p, kind_q, parameter, temperature, threads, out, /))]
pub fn pairwise<'py>(
    py: Python<'py>,
    name: &str,
    p: &Bound<'py, PyUntypedArray>,
    q: Option<&Bound<'py, PyUntypedArray>>,
    kind_p: &str,
    kind_q: &str,
    parameter: Option<f64>,
    temperature: f64,
    threads: usize,
    mut out: PyReadwriteArray2<'py, f64>,
) -> PyResult<Undefined> {
    let left = matrix(p, kind_p, temperature, Argument::P)?;
    let right = q.map(|q| matrix(q, kind_q, temperature, Argument::Q)).transpose()?;
    let numbers = p.len().saturating_mul(right.as_ref().map_or(left.rows(), crate::Matrix::rows));
    let values = out.as_slice_mut()?;
    let [of_p, of_q] = detached(py, threads, numbers, |call| {
        crate::pairwise::pairwise(name, parameter, &left, right.as_ref(), values, call)
    })?;
    Ok((of_p, of_q))
}

#[pyfunction]
#[pyo3(signature = (name, p, q, kind_p, kind_q, parameter, temperature, threads, k, /))]
pub fn nearest<'py>(
    py: Python<'py>,
    name: &str,
    p: &Bound<'py, PyUntypedArray>,
    q: &Bound<'py, PyUntypedArray>,
    kind_p: &str,
    kind_q: &str,
    parameter: Option<f64>,
    temperature: f64,
    threads: usize,
    k: usize,
) -> PyResult<Found<'py>> {
    let left = matrix(p, kind_p, temperature, Argument::P)?;
    let right = matrix(q, kind_q, temperature, Argument::Q)?;
    let numbers = p.len().saturating_mul(right.rows());
    let found = detached(py, threads, numbers, |call| crate::nearest(name, parameter, &left, &right, k, call))?;
    let [of_p, of_q] = found.undefined;
    Ok((PyArray1::from_vec(py, found.indices), PyArray1::from_vec(py, found.values), (of_p, of_q)))
}
