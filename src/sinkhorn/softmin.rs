//! z_i = −ln Σ_j exp(h_j − C_ij/ε) of every row: half a Sinkhorn iteration, of any problem at any point.
//!
//! The last z is the guess of the shift, as in a full pass; nothing is stored, so that a row costs one exponential and
//! one addition an entry.

use super::cost::{Cost, Number};
use super::sweep::Plan;
use super::vectors::padded;
use crate::error::Result;
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch, math, total};

/// Numbers between two additions of a row's lanes to its float64 sum.
const BLOCK: usize = 1024;

/// Replaces z, guesses of it or zeros, by the exact ones; E is what exponents are computed in.
pub fn soft_minimum<C: Cost, E: Number>(
    cost: &C,
    h: &[f64],
    epsilon: f64,
    plan: &Plan<'_>,
    z: &mut [f64],
) -> Result<()> {
    let h = padded::<E>(h, f64::NEG_INFINITY);
    let chunks: Vec<_> = z.chunks_mut(plan.rows).enumerate().collect();
    plan.run(chunks, |(index, z)| dispatch(Chunk { cost, h: &h, epsilon, first: *index * plan.rows, z }))
}

struct Chunk<'a, C, E> {
    cost: &'a C,
    h: &'a [E],
    epsilon: f64,
    first: usize,
    z: &'a mut [f64],
}

impl<C: Cost, E: Number> Kernel for Chunk<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let scale = E::In::<S>::constant(-1.0 / self.epsilon);
        let mut lent = vec![E::from_f64(0.0); self.h.len()];
        for (i, z) in self.z.iter_mut().enumerate() {
            let costs = self.cost.row::<S, E>(self.first + i, &mut lent);
            let mut shift = if z.is_finite() { *z } else { 0.0 };
            for _ in 0..4 {
                // As the lanes see it, so that it cancels exactly.
                shift = E::from_f64(shift).to_f64();
                let (top, sum) = shifted::<E::In<S>>(costs, self.h, scale, E::In::<S>::constant(shift));
                *z = shift - libm::log(sum.max(f64::MIN_POSITIVE));
                // Above -30 the clamped exponentials of far entries are still nothing beside the sum.
                if (top > -30.0 && top < 60.0) || !top.is_finite() {
                    break;
                }
                shift -= top;
            }
        }
    }
}

/// The largest x_j = h_j + s − C_j/ε, and Σ exp(x_j).
#[inline(always)]
fn shifted<V: Vector>(costs: &[V::Elem], h: &[V::Elem], scale: V, shift: V) -> (f64, f64) {
    let lanes = V::Elem::LANES;
    let (low, magic) = (math::lowest::<V>(0.0), math::magic::<V>(0.0));
    let mut top = [V::constant(f64::NEG_INFINITY); 2];
    let mut all: Sum = [0.0; SUM_LANES];
    let whole = costs.len() - costs.len() % lanes;
    for from in (0..whole).step_by(BLOCK) {
        let to = whole.min(from + BLOCK);
        let mut sum = [V::zero(); 2];
        for (k, at) in (from..to).step_by(lanes).enumerate() {
            let x = V::load(&costs[at..]).mul_add(scale, V::load(&h[at..])) + shift;
            top[k % 2] = x.max(top[k % 2]);
            sum[k % 2] = sum[k % 2] + math::exp_scaled(x.max(low), magic);
        }
        (sum[0] + sum[1]).add_to(&mut all);
    }
    if whole < costs.len() {
        let mut last = [V::Elem::from_f64(f64::INFINITY); SUM_LANES];
        last[..costs.len() - whole].copy_from_slice(&costs[whole..]);
        let x = V::load(&last).mul_add(scale, V::load(&h[whole..])) + shift;
        top[0] = x.max(top[0]);
        math::exp_scaled(x.max(low), magic).add_to(&mut all);
    }
    (top[0].max(top[1]).largest().to_f64(), total(&all))
}
