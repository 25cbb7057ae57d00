//! Divergences of rows, one or many at a time.

use numpy::prelude::*;
use numpy::{PyArray1, PyReadonlyArray1, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::{matrix, same_shape};
use super::call::detached;
use crate::compare::{Column, Values};
use crate::divergences::NAMES;
use crate::error::Argument;
use crate::evaluate::{COMPOSED, Metric, metric_of_rows};

/// Names that take one argument.
const ENTROPIES: [&str; 3] = ["entropy", "renyi_entropy", "tsallis_entropy"];

#[pyfunction]
#[pyo3(signature = (name, p, q, kind_p, kind_q, parameter, temperature, threads, /))]
pub fn divergence<'py>(
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
    let left = matrix(p, kind_p, temperature, Argument::P)?;
    let values = match q {
        None if name == "entropy" => detached(py, threads, p.len(), |call| crate::entropy(&left, call))?,
        None if ENTROPIES.contains(&name) => {
            let order = parameter.ok_or_else(|| PyValueError::new_err(format!("{name} needs an order")))?;
            let of_rows = if name == "renyi_entropy" { crate::renyi_entropy } else { crate::tsallis_entropy };
            detached(py, threads, p.len(), |call| of_rows(&left, order, call))?
        }
        None => return Err(PyValueError::new_err(format!("{name} takes two arguments"))),
        Some(q) => {
            same_shape(p, q)?;
            let right = matrix(q, kind_q, temperature, Argument::Q)?;
            let metric = Metric::new(name, parameter)?;
            detached(py, threads, p.len(), |call| metric_of_rows(&metric, &left, &right, call))?
        }
    };
    Ok(PyArray1::from_vec(py, values))
}

#[pyfunction]
#[pyo3(signature = (p, q, kind_p, kind_q, columns, targets, temperature, threads, /))]
pub fn compare<'py>(
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
#[pyo3(signature = (p, kind, weights, temperature, threads, /))]
pub fn js_divergence_many<'py>(
    py: Python<'py>,
    p: &Bound<'py, PyUntypedArray>,
    kind: &str,
    weights: Vec<f64>,
    temperature: f64,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let rows = matrix(p, kind, temperature, Argument::P)?;
    let values = detached(py, threads, p.len(), |call| crate::js_divergence_many(&rows, &weights, call))?;
    Ok(PyArray1::from_vec(py, values))
}

#[pyfunction]
pub fn registry() -> Vec<&'static str> {
    NAMES.iter().chain(COMPOSED).copied().chain(ENTROPIES).collect()
}
