//! Arrays of Python, borrowed.
//!
//! They are never copied; as with NumPy's own functions, changing one from another thread during a call gives an
//! unspecified result.

use half::{bf16, f16};
use numpy::prelude::*;
use numpy::{Element, PyArrayDescr, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::batch::Matrix;
use crate::error::Argument;
use crate::rows::{Kind, Numbers};

/// The numbers of an array and the index of its first element.
///
/// The slice spans every element that shape and strides can reach, so that all indexing behind it is bounds-checked.
pub fn borrow<'a, T: Element>(array: &'a Bound<'_, PyUntypedArray>) -> PyResult<(&'a [T], usize, Vec<isize>)> {
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

pub fn has<T: Element>(py: Python<'_>, descr: &Bound<'_, PyArrayDescr>) -> bool {
    descr.is_equiv_to(&T::get_dtype(py))
}

pub fn matrix<'a>(
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

pub fn same_shape(p: &Bound<'_, PyUntypedArray>, q: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    if p.shape() == q.shape() { Ok(()) } else { Err(PyValueError::new_err("p and q must have one shape")) }
}
