//! The costs of a problem, row by row: a stored matrix, or anything that can compute a row when asked.

use std::ops::Range;

use super::problem::{Extent, Flaw};
use crate::simd::{Lanes, Simd};

/// Stored numbers of one of the two types that kernels compute in.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    /// float32
    F32(&'a [f32]),
    /// float64
    F64(&'a [f64]),
}

impl<'a> Entries<'a> {
    /// `len` of them from `start` on, if there are so many.
    pub fn part(&self, start: usize, len: usize) -> Option<Entries<'a>> {
        let end = start.checked_add(len)?;
        Some(match self {
            Entries::F32(numbers) => Entries::F32(numbers.get(start..end)?),
            Entries::F64(numbers) => Entries::F64(numbers.get(start..end)?),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Entries::F32(numbers) => numbers.len(),
            Entries::F64(numbers) => numbers.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A type that kernels compute in.
pub trait Number: Lanes {
    /// Entries below are stored as zero: their sums lie far below any column sum that is believed, and products of
    /// smaller ones would be subnormal, which processors handle a hundred times more slowly (float32 sweeps at
    /// ε = 0.001 took five times as long as float64 ones before).
    const NEGLIGIBLE: f64;
    /// Squares are taken of so many times an entry, for the same reason.
    const LIFT: f64;
    /// A column sum below is worked out again from the costs, as what was flushed to zero may matter there.
    const LOST: f64;
    /// The numbers in place, if they are of this type.
    fn lend<'a>(entries: &Entries<'a>) -> Option<&'a [Self]>;
    /// A part of whichever of two slices is of this type.
    fn either<'a>(narrow: &'a [f32], wide: &'a [f64], part: Range<usize>) -> &'a [Self];
}

impl Number for f32 {
    const NEGLIGIBLE: f64 = 1e-27;
    const LIFT: f64 = 1_099_511_627_776.0;
    const LOST: f64 = 1e-20;
    #[inline(always)]
    fn lend<'a>(entries: &Entries<'a>) -> Option<&'a [f32]> {
        match entries {
            Entries::F32(numbers) => Some(numbers),
            Entries::F64(_) => None,
        }
    }
    #[inline(always)]
    fn either<'a>(narrow: &'a [f32], _: &'a [f64], part: Range<usize>) -> &'a [f32] {
        &narrow[part]
    }
}

impl Number for f64 {
    const NEGLIGIBLE: f64 = 1e-140;
    const LIFT: f64 = 1.0;
    const LOST: f64 = 1e-120;
    #[inline(always)]
    fn lend<'a>(entries: &Entries<'a>) -> Option<&'a [f64]> {
        match entries {
            Entries::F32(_) => None,
            Entries::F64(numbers) => Some(numbers),
        }
    }
    #[inline(always)]
    fn either<'a>(_: &'a [f32], wide: &'a [f64], part: Range<usize>) -> &'a [f64] {
        &wide[part]
    }
}

/// Costs of every pair: rows on demand. `+inf` forbids a pair; NaN and `-inf` are not allowed.
pub trait Cost: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of columns.
    fn columns(&self) -> usize;
    /// True if float64 is needed to hold the costs.
    fn is_wide(&self) -> bool;
    /// True if the kernel is too large to be kept: every sweep then starts from the costs.
    fn is_lazy(&self) -> bool {
        false
    }
    /// The extent of the costs, or bounds of it, where a look over all of them can be spared.
    fn known_extent(&self) -> Option<Extent> {
        None
    }
    /// One row, if it is stored as numbers of `E`.
    #[inline(always)]
    fn held<E: Number>(&self, index: usize) -> Option<&[E]> {
        let _ = index;
        None
    }
    /// One row as numbers of `E`: lent in place, or written to the front of `buffer`, which is at least a row long.
    fn row<'b, S: Simd, E: Number>(&'b self, index: usize, buffer: &'b mut [E]) -> &'b [E];
}

/// A stored matrix in C order.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    entries: Entries<'a>,
    rows: usize,
    columns: usize,
}

impl<'a> Dense<'a> {
    /// A matrix of that shape.
    pub fn new(entries: Entries<'a>, rows: usize, columns: usize) -> Result<Self, Flaw> {
        if rows == 0 || columns == 0 || rows.checked_mul(columns) != Some(entries.len()) {
            return Err(Flaw::new("shape", "cost", rows, columns, entries.len() as f64));
        }
        Ok(Self { entries, rows, columns })
    }
}

impl Cost for Dense<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn is_wide(&self) -> bool {
        matches!(self.entries, Entries::F64(_))
    }

    #[inline(always)]
    fn held<E: Number>(&self, index: usize) -> Option<&[E]> {
        E::lend(&self.entries).map(|numbers| &numbers[index * self.columns..(index + 1) * self.columns])
    }

    #[inline(always)]
    fn row<'b, S: Simd, E: Number>(&'b self, index: usize, buffer: &'b mut [E]) -> &'b [E] {
        if let Some(numbers) = self.held(index) {
            return numbers;
        }
        let range = index * self.columns..(index + 1) * self.columns;
        let out = &mut buffer[..self.columns];
        match self.entries {
            Entries::F32(numbers) => {
                for (out, &x) in out.iter_mut().zip(&numbers[range]) {
                    *out = E::from_f64(f64::from(x));
                }
            }
            Entries::F64(numbers) => {
                for (out, &x) in out.iter_mut().zip(&numbers[range]) {
                    *out = E::from_f64(x);
                }
            }
        }
        out
    }
}
