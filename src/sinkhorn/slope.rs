//! The gradient of the value with respect to the points of the first cloud.
//!
//! At the solution the value moves with the costs as the plan says, so that of point i it is Σ_j P_ij ∂C_ij/∂x_i:
//!
//! ```text
//! sqeuclidean  2s·(x − y)      euclidean  s·(x − y)/|x − y|, 0 where they meet      manhattan  s·sign(x − y)
//! ```
//!
//! In float64, from the costs: nothing of their size is stored. That of the other cloud is the same of the problem
//! turned round.

use super::cost::Cost;
use super::plan::exponents;
use super::points::{Clouds, Distance};
use super::problem::Problem;
use super::sweep::Plan;
use super::vectors::padded;
use crate::error::Result;
use crate::pool::{Call, install};
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch, math, total};

/// The gradient of every point, and after its coordinates the mass of its row.
pub fn slope(problem: &Problem<'_, Clouds<'_>>, f: &[f64], g: &[f64], call: &Call) -> Result<Vec<f64>> {
    let (n, m) = (problem.a.len(), problem.b.len());
    let width = problem.cost.dimension + 1;
    let wanted = call.threads();
    let plan = Plan::new(n, m, wanted > 1, call);
    let rows = exponents(f, problem.a, problem.epsilon);
    let h = padded::<f64>(&exponents(g, problem.b, problem.epsilon), f64::NEG_INFINITY);
    let mut out = vec![0.0; n * width];
    let chunks: Vec<_> = out.chunks_mut(plan.rows * width).enumerate().collect();
    let run = || {
        plan.run(chunks, |(index, out)| {
            let first = *index * plan.rows;
            dispatch(Chunk { clouds: problem.cost, rows: &rows, h: &h, epsilon: problem.epsilon, first, out });
        })
    };
    if plan.parallel {
        install(wanted, run)?;
    } else {
        run()?;
    }
    Ok(out)
}

struct Chunk<'a, 'b> {
    clouds: &'a Clouds<'b>,
    rows: &'a [f64],
    h: &'a [f64],
    epsilon: f64,
    first: usize,
    out: &'a mut [f64],
}

impl Kernel for Chunk<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let clouds = self.clouds;
        let len = self.h.len();
        let (mut lent, mut flow) = (vec![0.0; len], vec![0.0; len]);
        let (scale, low) = (S::F64::constant(-1.0 / self.epsilon), S::F64::constant(-700.0));
        let factor = S::F64::constant(clouds.scale * clouds.scale);
        for (i, out) in self.out.chunks_exact_mut(clouds.dimension + 1).enumerate() {
            let row = self.first + i;
            if self.rows[row] == f64::NEG_INFINITY {
                continue;
            }
            let level = S::F64::splat(self.rows[row]);
            clouds.row::<S, f64>(row, &mut lent);
            let mut mass: Sum = [0.0; SUM_LANES];
            for at in (0..len).step_by(f64::LANES) {
                let cost = S::F64::load(&lent[at..]);
                let x = cost.mul_add(scale, S::F64::load(&self.h[at..])) + level;
                let e = S::F64::select(low.lt(x), math::exp(x.max(low)), S::F64::zero());
                e.add_to(&mut mass);
                let met = cost.eq(S::F64::zero());
                let euclidean = clouds.distance == Distance::Euclidean;
                let e = if euclidean { S::F64::select(met, S::F64::zero(), e * factor / cost) } else { e };
                e.store(&mut flow[at..]);
            }
            for (c, (&x, out)) in clouds.point(row).iter().zip(out.iter_mut()).enumerate() {
                let x = S::F64::splat(x);
                let y = clouds.coordinate::<f64>(c);
                let mut sum: Sum = [0.0; SUM_LANES];
                for at in (0..len).step_by(f64::LANES) {
                    let apart = x - S::F64::load(&y[at..]);
                    let along = if clouds.distance == Distance::Manhattan { sign(apart) } else { apart };
                    (along * S::F64::load(&flow[at..])).add_to(&mut sum);
                }
                let times = match clouds.distance {
                    Distance::SquaredEuclidean => 2.0 * clouds.scale,
                    Distance::Euclidean => 1.0,
                    Distance::Manhattan => clouds.scale,
                };
                *out = times * total(&sum);
            }
            out[clouds.dimension] = total(&mass);
        }
    }
}

/// −1, 0 or 1.
#[inline(always)]
fn sign<V: Vector>(x: V) -> V {
    let (zero, one) = (V::zero(), V::one());
    V::select(zero.lt(x), one, V::select(x.lt(zero), zero - one, zero))
}
