//! Many short rows at once.
//!
//! A row of 64 numbers is four vectors: less work than entering a kernel, spreading its constants over lanes, and
//! handing its results back through three calls. So rows that go to one thread together are computed in one kernel,
//! with the loop over them inside. The arithmetic is that of [`crate::one_read`], operation for operation: how rows are
//! split into calls and threads changes no bit.

use std::marker::PhantomData;

use crate::batch::Matrix;
use crate::divergences::Divergence;
use crate::one_read::{Verdict, sums_of, unscaled};
use crate::rows::{InPlace, Kind, SEGMENT, Scratch};
use crate::simd::{Kernel, Simd, dispatch};
use crate::weights::Constants;

/// Fills in a divergence of rows `first ..` of probabilities, and returns those that were left out: all of them if the
/// rows are of another kind or too long, and any that [`crate::one_read::of_probs`] does not take.
pub fn of_probs<D: Divergence>(p: &Matrix<'_>, q: &Matrix<'_>, first: usize, out: &mut [f64]) -> Vec<usize> {
    if p.kind() != Kind::Probs || q.kind() != Kind::Probs || p.columns() > SEGMENT {
        return (0..out.len()).collect();
    }
    if p.is_wide() || q.is_wide() {
        dispatch(Probs::<f64, D> { p, q, first, out, types: PhantomData })
    } else {
        dispatch(Probs::<f32, D> { p, q, first, out, types: PhantomData })
    }
}

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
