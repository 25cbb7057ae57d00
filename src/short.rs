//! Many short rows at once.
//!
//! A row of 64 numbers is four vectors: less work than entering a kernel, spreading its constants over lanes, and
//! handing its results back through three calls. So rows that go to one thread together are computed in one kernel,
//! with the loop over them inside. The arithmetic is that of [`crate::one_read`], [`crate::moments`] and
//! [`crate::series`], operation for operation: how rows are split into calls and threads changes no bit.

use std::marker::PhantomData;

use crate::batch::Matrix;
use crate::divergences::Divergence;
use crate::moments::kl_of_segment;
use crate::one_read::{probs_of_segment, weights_of_segment};
use crate::rows::{InPlace, Kind, Row, SEGMENT};
use crate::series::Series;
use crate::simd::{Kernel, Simd, dispatch};

/// Fills in a divergence of rows `first ..`, and returns those that were left out: all of them if the rows are long or
/// there is no such kernel for their kind, and any that need more care than it takes.
pub fn fill<D: Divergence>(p: &Matrix<'_>, q: &Matrix<'_>, first: usize, out: &mut [f64]) -> Vec<usize> {
    let wide = p.is_wide() || q.is_wide();
    match (p.kind(), q.kind()) {
        _ if p.columns() > SEGMENT => (0..out.len()).collect(),
        (Kind::Probs, Kind::Probs) if wide => Many::fill(p, q, first, out, Probs::<f64, D>(PhantomData)),
        (Kind::Probs, Kind::Probs) => Many::fill(p, q, first, out, Probs::<f32, D>(PhantomData)),
        (Kind::Weights, Kind::Weights) if !wide => Many::fill(p, q, first, out, Weights::<D>(PhantomData)),
        (Kind::Logits, Kind::Logits) if D::IS_KL && !wide => Many::fill(p, q, first, out, KlOfLogits),
        _ => (0..out.len()).collect(),
    }
}

/// [`fill`] by the series of a metric; `None` if it is not one for these rows, which the caller must not try again with
/// those that are left out.
pub fn fill_by_series(
    series: &Series,
    p: &Matrix<'_>,
    q: &Matrix<'_>,
    first: usize,
    out: &mut [f64],
) -> Option<Vec<usize>> {
    let narrow = |side: &Matrix<'_>| side.kind() == Kind::Logits && !side.is_wide();
    let fits = narrow(p) && narrow(q) && p.columns() <= SEGMENT;
    fits.then(|| Many::fill(p, q, first, out, BySeries(series)))
}

/// What is computed of a pair of rows, neither longer than a segment.
trait OfPair {
    /// The value; `None` where it takes more care.
    fn value<S: Simd>(&self, p: &Row<'_>, q: &Row<'_>) -> Option<f64>;
}

struct Probs<T, D>(PhantomData<(T, D)>);

impl<T: InPlace, D: Divergence> OfPair for Probs<T, D> {
    #[inline(always)]
    fn value<S: Simd>(&self, p: &Row<'_>, q: &Row<'_>) -> Option<f64> {
        probs_of_segment::<S, T, D>(p, q)
    }
}

struct Weights<D>(PhantomData<D>);

impl<D: Divergence> OfPair for Weights<D> {
    #[inline(always)]
    fn value<S: Simd>(&self, p: &Row<'_>, q: &Row<'_>) -> Option<f64> {
        weights_of_segment::<S, D>(p, q)
    }
}

struct KlOfLogits;

impl OfPair for KlOfLogits {
    #[inline(always)]
    fn value<S: Simd>(&self, x: &Row<'_>, y: &Row<'_>) -> Option<f64> {
        kl_of_segment::<S>(x, y)
    }
}

struct BySeries<'a>(&'a Series);

impl OfPair for BySeries<'_> {
    #[inline(always)]
    fn value<S: Simd>(&self, x: &Row<'_>, y: &Row<'_>) -> Option<f64> {
        self.0.of_segment::<S>(x, y)
    }
}

/// Many pairs.
struct Many<'a, O> {
    p: &'a Matrix<'a>,
    q: &'a Matrix<'a>,
    first: usize,
    out: &'a mut [f64],
    of_pair: O,
}

impl<O: OfPair> Many<'_, O> {
    fn fill(p: &Matrix<'_>, q: &Matrix<'_>, first: usize, out: &mut [f64], of_pair: O) -> Vec<usize> {
        dispatch(Many { p, q, first, out, of_pair })
    }
}

impl<O: OfPair> Kernel for Many<'_, O> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<usize> {
        let mut left = Vec::new();
        for (i, out) in self.out.iter_mut().enumerate() {
            let (p, q) = (self.p.row(self.first + i), self.q.row(self.first + i));
            match self.of_pair.value::<S>(&p, &q) {
                Some(value) => *out = value,
                None => left.push(i),
            }
        }
        left
    }
}
