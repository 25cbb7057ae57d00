//! z_i = −ln Σ_j exp(h_j − C_ij/ε) of every row: half a Sinkhorn iteration, of any problem at any point.
//!
//! The last z is the guess of the power, as in a full pass; nothing is stored, so that a row costs one exponential and
//! one addition an entry.

use super::cost::{Cost, Number};
use super::exponentials::{Against, Row, in_bits, normaliser};
use super::sweep::Plan;
use super::vectors::Aligned;
use crate::error::Result;
use crate::pool::Call;
use crate::simd::{Kernel, Simd, dispatch};

/// Replaces z, guesses of it or zeros, by the exact ones; E is what exponents are computed in.
pub fn soft_minimum<C: Cost, E: Number>(
    cost: &C,
    h: &[f64],
    epsilon: f64,
    plan: &Plan<'_>,
    z: &mut [f64],
) -> Result<()> {
    let h = in_bits::<E>(h);
    let chunks: Vec<_> = z.chunks_mut(plan.rows).enumerate().collect();
    plan.run(chunks, |(index, z)| {
        dispatch(Chunk { cost, call: plan.call, h: &h, epsilon, first: *index * plan.rows, z });
    })
}

struct Chunk<'a, C, E> {
    cost: &'a C,
    call: &'a Call,
    h: &'a [E],
    epsilon: f64,
    first: usize,
    z: &'a mut [f64],
}

impl<C: Cost, E: Number> Kernel for Chunk<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut lent = Aligned::<E>::new(0.0, self.h.len());
        let against = Against { h: self.h, epsilon: self.epsilon, near: false };
        for (i, z) in self.z.iter_mut().enumerate() {
            if self.call.stopped() {
                return;
            }
            let costs = self.cost.row::<S, E>(self.first + i, &mut lent);
            let mut row = [Row { costs, power: Row::<E>::guess(*z), sum: 0.0, top: 0.0 }];
            against.exponentials::<S, false>(&mut row, &mut [], 0);
            *z = normaliser(row[0].power, libm::log(row[0].sum));
        }
    }
}
