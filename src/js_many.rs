//! Jensen-Shannon divergence of any number of distributions: Σ w_m·KL(p_m‖p̄), p̄ = Σ w_m·p_m.
//!
//! In each column the logarithms of all distributions are taken relative to the first (or their own, where that has no
//! probability), then to the largest: r_m = p_m/max p and z_m = 1 − r_m keep their digits where all are close. With
//! g_m = z_m − Σ w·z, which is (p̄ − p_m)/max p, the term of p_m is r_m·φ(log p̄/p_m): g − r·log(p̄/p_m) where p̄ is the
//! larger, r·log(p_m/p̄) + g where p_m is.

use crate::batch::{Matrix, map_rows};
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::prepare::{Prepared, Side, prepare};
use crate::rows::{BLOCK, Row, Scratch, over_segments};
use crate::sided::{LogSource, Source, WeightSource};
use crate::simd::{Element, Kernel, Simd, Sum, Vector, dispatch, math, special, total};

/// The divergence of rows r, n + r, 2n + r, … of a matrix of as many times n rows as there are weights, for each r.
pub fn js_divergence_many(p: &Matrix<'_>, weights: &[f64], call: &Call) -> Result<Vec<f64>> {
    let count = weights.len();
    if count == 0 || !p.rows().is_multiple_of(count) {
        return Err(Error::Shape(format!("{count} weights for {} rows", p.rows())));
    }
    let rows = p.rows() / count;
    map_rows(rows, p.columns(), 1, call, |index, parallel, out| {
        let sides: Vec<Side<'_>> = (0..count).map(|m| p.side(m * rows + index).in_wide_lanes()).collect();
        out[0] = of_sides(&sides, weights, parallel)?;
        Ok(())
    })
}

fn of_sides(sides: &[Side<'_>], weights: &[f64], parallel: bool) -> Result<f64> {
    let first = &sides[0];
    // A single one beside itself is checked as any other.
    let others = if sides.len() == 1 { sides } else { &sides[1..] };
    let pairs = others.iter().map(|other| prepare(first, other, parallel)).collect::<Result<Vec<_>>>()?;
    let (mut logs, mut linear) = (Vec::new(), Vec::new());
    for pair in &pairs {
        match pair {
            Prepared::Nothing => return Ok(f64::NAN),
            Prepared::Logs(moments) => logs.push(((moments.x, moments.y), LogSource::new(moments))),
            Prepared::Weights(p, q, totals) => linear.push(((*p, *q), WeightSource::new(totals))),
        }
    }
    if sides.len() == 1 {
        return Ok(0.0);
    }
    Ok(if linear.is_empty() { pass(&logs, weights, parallel) } else { pass(&linear, weights, parallel) })
}

type Beside<'a, F> = ((Row<'a>, Row<'a>), F);

fn pass<F: Source>(pairs: &[Beside<'_, F>], weights: &[f64], parallel: bool) -> f64 {
    let len = pairs.first().map_or(0, |((row, _), _)| row.len());
    over_segments(len, parallel, |from, to| dispatch(Pass { pairs, weights, from, to }), |a, b| a + b)
}

struct Pass<'a, 'b, F> {
    /// The first distribution beside each of the others.
    pairs: &'a [Beside<'b, F>],
    weights: &'a [f64],
    from: usize,
    to: usize,
}

impl<F: Source> Kernel for Pass<'_, '_, F> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let mut scratch: Vec<_> = self.pairs.iter().map(|_| (Scratch::<f64>::new(), Scratch::<f64>::new())).collect();
        let mut logs = vec![S::F64::zero(); self.weights.len()];
        let mut sum: Sum = [0.0; 16];
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let mut blocks = Vec::with_capacity(self.pairs.len());
            for (((x, y), _), (scratch_x, scratch_y)) in self.pairs.iter().zip(&mut scratch) {
                let x = x.block::<S, f64>(from, len, scratch_x, F::NONE);
                blocks.push((x, y.block::<S, f64>(from, len, scratch_y, F::NONE)));
            }
            for at in (0..len).step_by(f64::LANES) {
                let mut larger = S::F64::constant(f64::NEG_INFINITY);
                for (m, ((x, y), (_, source))) in blocks.iter().zip(self.pairs).enumerate() {
                    let pair = source.sided(S::F64::load(&x[at..]), S::F64::load(&y[at..]));
                    let below = pair.log_big - pair.t;
                    let own = pair.by_side(below, pair.log_big);
                    let present = S::F64::constant(f64::NEG_INFINITY).lt(pair.by_side(pair.log_big, below));
                    let relative = pair.by_side(S::F64::zero() - pair.t, pair.t);
                    logs[m + 1] = S::F64::select(present, relative, own);
                    logs[0] = S::F64::select(present, S::F64::zero(), S::F64::constant(f64::NEG_INFINITY));
                    larger = pair.log_big.max(larger);
                }
                (special::exp_any(larger) * terms(&mut logs, self.weights)).add_to(&mut sum);
            }
        }
        total(&sum)
    }
}

/// Σ w·r·φ(log p̄/p), relative to the largest, from logarithms relative to anything.
#[inline(always)]
fn terms<V: Vector>(logs: &mut [V], weights: &[f64]) -> V {
    let (zero, none) = (V::zero(), V::constant(f64::NEG_INFINITY));
    let tiny = V::constant(f64::MIN_POSITIVE);
    let (mut top, mut mixed, mut mean) = (none, zero, zero);
    for log in &*logs {
        top = log.max(top);
    }
    for (log, &weight) in logs.iter_mut().zip(weights) {
        // Without any probability in the column, all are as one.
        *log = V::select(none.lt(top), *log - top, zero);
        mixed = V::constant(weight).mul_add(special::exp_any(*log), mixed);
        mean = V::constant(weight).mul_add(special::one_less_exp(zero - *log), mean);
    }
    let mut sum = zero;
    for (log, &weight) in logs.iter().zip(weights) {
        let own = special::exp_any(*log);
        let gap = special::one_less_exp(zero - *log) - mean;
        let mixed_larger = zero.lt(gap);
        let bottom = V::select(mixed_larger, own, mixed).max(tiny);
        let ratio = math::ln_quotient(own.max(mixed).max(tiny), bottom, gap.abs());
        let near = own * math::phi_near(V::select(mixed_larger, ratio, zero - ratio));
        let far = gap + own * V::select(mixed_larger, zero - ratio, ratio);
        let term = V::select(ratio.lt(V::one()), near, far);
        sum = V::constant(weight).mul_add(term, sum);
    }
    sum
}
