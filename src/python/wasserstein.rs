//! Transport on the line.
//!
//! Points come as C-contiguous arrays of float32 or float64, both of one dtype, with as many rows in x as in y; weights
//! and directions as C-contiguous float64.

use numpy::prelude::*;
use numpy::{Element, PyArray1, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{borrow, has};
use super::call::detached;
use crate::wasserstein::sliced::Points;
use crate::wasserstein::{Cloud, line, sliced};

/// The numbers of a C-contiguous array.
fn contiguous<'a, T: Element>(array: &'a Bound<'_, PyUntypedArray>) -> PyResult<&'a [T]> {
    if !has::<T>(array.py(), &array.dtype()) || !array.is_c_contiguous() {
        return Err(PyValueError::new_err(format!("a C-contiguous array of another dtype than {}", array.dtype())));
    }
    Ok(borrow::<T>(array)?.0)
}

fn optional<'a>(weights: Option<&'a Bound<'_, PyUntypedArray>>) -> PyResult<Option<&'a [f64]>> {
    weights.map(contiguous).transpose()
}

/// Length of a row.
fn width(array: &Bound<'_, PyUntypedArray>) -> usize {
    array.shape().last().copied().unwrap_or(0)
}

/// Evaluates a generic call for points of float32 or float64.
macro_rules! by_dtype {
    (|$x:ident, $y:ident| $call:expr) => {
        if has::<f32>($x.py(), &$x.dtype()) {
            let ($x, $y) = (contiguous::<f32>($x)?, contiguous::<f32>($y)?);
            $call
        } else {
            let ($x, $y) = (contiguous::<f64>($x)?, contiguous::<f64>($y)?);
            $call
        }
    };
}

#[pyfunction]
#[pyo3(signature = (x, y, a, b, p, /))]
pub fn wasserstein_1d<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyUntypedArray>,
    y: &Bound<'py, PyUntypedArray>,
    a: Option<&Bound<'py, PyUntypedArray>>,
    b: Option<&Bound<'py, PyUntypedArray>>,
    p: f64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (a, b, n, m, numbers) = (optional(a)?, optional(b)?, width(x), width(y), x.len() + y.len());
    let values = by_dtype!(|x, y| {
        let (x, y) = (Cloud { points: x, width: n, weights: a }, Cloud { points: y, width: m, weights: b });
        detached(py, 0, numbers, |call| line::wasserstein_1d(&x, &y, p, call))?
    });
    Ok(PyArray1::from_vec(py, values))
}

type Pieces<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>);

#[pyfunction]
#[pyo3(signature = (x, y, a, b, /))]
pub fn monotone_plan<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyUntypedArray>,
    y: &Bound<'py, PyUntypedArray>,
    a: Option<&Bound<'py, PyUntypedArray>>,
    b: Option<&Bound<'py, PyUntypedArray>>,
) -> PyResult<Pieces<'py>> {
    let (a, b, n, m, numbers) = (optional(a)?, optional(b)?, width(x), width(y), x.len() + y.len());
    let plan = by_dtype!(|x, y| {
        let (x, y) = (Cloud { points: x, width: n, weights: a }, Cloud { points: y, width: m, weights: b });
        detached(py, 0, numbers, |_| line::monotone_plan(&x, &y))?
    });
    Ok((PyArray1::from_vec(py, plan.from), PyArray1::from_vec(py, plan.to), PyArray1::from_vec(py, plan.mass)))
}

#[pyfunction]
#[pyo3(signature = (x, y, a, b, directions, p, /))]
pub fn sliced_wasserstein<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyUntypedArray>,
    y: &Bound<'py, PyUntypedArray>,
    a: Option<&Bound<'py, PyUntypedArray>>,
    b: Option<&Bound<'py, PyUntypedArray>>,
    directions: &Bound<'py, PyUntypedArray>,
    p: f64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (a, b, dimension) = (optional(a)?, optional(b)?, width(directions));
    if width(x) != dimension || width(y) != dimension {
        return Err(PyValueError::new_err("points and directions of different dimensions"));
    }
    let numbers = (x.len() + y.len()).saturating_mul(directions.len());
    let directions = contiguous::<f64>(directions)?;
    let values = by_dtype!(|x, y| {
        let (x, y) = (Points { points: x, weights: a }, Points { points: y, weights: b });
        detached(py, 0, numbers, |call| sliced::sliced_wasserstein(&x, &y, directions, dimension, p, call))?
    });
    Ok(PyArray1::from_vec(py, values))
}
