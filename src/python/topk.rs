//! Lists of the most probable tokens.

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::matrix;
use super::call::detached;
use crate::error::Argument;
use crate::topk::{Lists, Source, Tail, compare_lists, largest};

#[pyfunction]
#[pyo3(signature = (p, ids_p, log_tails_p, kind_p, q, ids_q, log_tails_q, kind_q, vocab_size, tail, threads, /))]
pub fn compare_topk<'py>(
    py: Python<'py>,
    p: &Bound<'py, PyUntypedArray>,
    ids_p: Option<PyReadonlyArray2<'py, i32>>,
    log_tails_p: Option<PyReadonlyArray1<'py, f64>>,
    kind_p: &str,
    q: &Bound<'py, PyUntypedArray>,
    ids_q: Option<PyReadonlyArray2<'py, i32>>,
    log_tails_q: Option<PyReadonlyArray1<'py, f64>>,
    kind_q: &str,
    vocab_size: usize,
    tail: &str,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let tail = match tail {
        "bucket" => Tail::Bucket,
        "renormalize" => Tail::Renormalize,
        "bounds" => Tail::Bounds { sorted: false },
        "sorted_bounds" => Tail::Bounds { sorted: true },
        _ => return Err(PyValueError::new_err(format!("unknown tail {tail:?}"))),
    };
    let left = source(p, ids_p.as_ref(), log_tails_p.as_ref(), kind_p, Argument::P)?;
    let right = source(q, ids_q.as_ref(), log_tails_q.as_ref(), kind_q, Argument::Q)?;
    let numbers = p.len().saturating_add(q.len()).saturating_mul(4);
    let values = detached(py, threads, numbers, |call| compare_lists(&left, &right, vocab_size, tail, call))?;
    let rows = values.len() / tail.width();
    PyArray1::from_vec(py, values).reshape([rows, tail.width()])
}

fn source<'a>(
    array: &'a Bound<'_, PyUntypedArray>,
    ids: Option<&'a PyReadonlyArray2<'_, i32>>,
    log_tails: Option<&'a PyReadonlyArray1<'_, f64>>,
    kind: &str,
    argument: Argument,
) -> PyResult<Source<'a>> {
    let log_probs = matrix(array, kind, 1.0, argument)?;
    let Some(ids) = ids else { return Ok(Source::Full(log_probs)) };
    let log_tails = log_tails.map(|tails| tails.as_slice()).transpose()?;
    Ok(Source::Lists(Lists { ids: ids.as_slice()?, log_probs, log_tails }))
}

#[pyfunction]
#[pyo3(signature = (rows, k, kind, temperature, threads, /))]
pub fn top_k<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyUntypedArray>,
    k: usize,
    kind: &str,
    temperature: f64,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let matrix = matrix(rows, kind, temperature, Argument::P)?;
    let values = detached(py, threads, rows.len(), |call| largest(&matrix, k, call))?;
    let width = 2 * k + 1;
    PyArray1::from_vec(py, values).reshape([matrix.rows(), width])
}
