//! Many short rows at once.
//!
//! A row of 64 numbers is four vectors: less work than entering a kernel, spreading its constants over lanes, and
//! handing its results back through three calls. So rows that go to one thread together are computed in one kernel,
//! with the loop over them inside. The arithmetic is that of [`crate::one_read`] and [`crate::moments`], operation for operation:
//! how rows are split into calls and threads changes no bit.

use std::marker::PhantomData;

use crate::batch::Matrix;
use crate::divergences::Divergence;
use crate::moments::kl_of_one_segment;
use crate::one_read::{Verdict, sums_of, unscaled};
use crate::rows::{InPlace, Kind, SEGMENT, Scratch};
use crate::simd::{Kernel, Simd, dispatch};
use crate::weights::Constants;

/// Fills in a divergence of rows `first ..`, and returns those that were left out: all of them if the rows are long or
/// there is no such kernel for their kind, and any that need more care than it takes.
pub fn fill<D: Divergence>(p: &Matrix<'_>, q: &Matrix<'_>, first: usize, out: &mut [f64]) -> Vec<usize> {
    let wide = p.is_wide() || q.is_wide();
    match (p.kind(), q.kind()) {
        _ if p.columns() > SEGMENT => (0..out.len()).collect(),
        (Kind::Probs, Kind::Probs) if wide => dispatch(Probs::<f64, D> { p, q, first, out, types: PhantomData }),
        (Kind::Probs, Kind::Probs) => dispatch(Probs::<f32, D> { p, q, first, out, types: PhantomData }),
        (Kind::Logits, Kind::Logits) if D::IS_KL && !wide => dispatch(Logits { p, q, first, out }),
        _ => (0..out.len()).collect(),
    }
}

/// KL of rows of logits.
struct Logits<'a> {
    p: &'a Matrix<'a>,
    q: &'a Matrix<'a>,
    first: usize,
    out: &'a mut [f64],
}

impl Kernel for Logits<'_> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<usize> {
        let mut left = Vec::new();
        for (i, out) in self.out.iter_mut().enumerate() {
            let (x, y) = (self.p.row(self.first + i), self.q.row(self.first + i));
            match kl_of_one_segment::<S>(&x, &y) {
                Some(kl) => *out = kl,
                None => left.push(i),
            }
        }
        left
    }
}

/// A divergence of rows of probabilities.
struct Probs<'a, T, D> {
    p: &'a Matrix<'a>,
    q: &'a Matrix<'a>,
    first: usize,
    out: &'a mut [f64],
    types: PhantomData<(T, D)>,
}

impl<T: InPlace, D: Divergence> Kernel for Probs<'_, T, D> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<usize> {
        let frame = unscaled::<T>();
        let k = Constants::<T::In<S>, false>::new(&frame);
        let (mut scratch_p, mut scratch_q) = (Scratch::<T>::new(), Scratch::<T>::new());
        let mut left = Vec::new();
        for (i, out) in self.out.iter_mut().enumerate() {
            let (p, q) = (self.p.row(self.first + i), self.q.row(self.first + i));
            let (rows, len) = ([&p, &q], p.len());
            let sums = sums_of::<S, T, D::Term, false>(&k, rows, 0, len, [&mut scratch_p, &mut scratch_q]);
            match sums.judge::<T, D>(&frame) {
                Verdict::Settled(value) => *out = value,
                Verdict::Again(frame) => {
                    let k = Constants::<T::In<S>, true>::new(&frame);
                    let scratch = [&mut scratch_p, &mut scratch_q];
                    *out = sums_of::<S, T, D::Term, true>(&k, rows, 0, len, scratch).value::<D>();
                }
                Verdict::Unusual => left.push(i),
            }
        }
        left
    }
}
