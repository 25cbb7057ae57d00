//! One pass over two rows of logits for any smooth divergence, where the rows are close: moments of the log-ratio.
//!
//! A divergence is Σ p·g(t), t = log q/p, and t is u = (y − x) − c less a constant λ that is known only once the pass
//! has seen both normalisers. Where g is a quickly converging series, that does not matter: from
//!
//! ```text
//! M_k = Σ w·u^k,  k = 0 … 12,   w = e^x·2^-K
//! ```
//!
//! follow λ (from Σ w·(e^u − 1) = Σ M_k/k!), the moments about λ (binomially, in float64), and Σ p·g(t) =
//! Σ g_k·N_k/M_0. Every even M_k has terms of one sign, and g₀ = g₁ = 0, so little cancels while λ² is no larger than
//! the variance. So c follows what the blocks say (see `pass`), and where it came too late the pass is done again. One exponential and two operations a moment pair
//! take the place of the first pass (normalisers) and the second (terms), or of the float64 lanes of
//! [`crate::sided`], which are ten times slower.
//!
//! What the series leaves out is bounded by N₁₂ and the largest |t|. Rows where it would show (log-ratios with a
//! standard deviation beyond about 0.35), rows with zeros, NaN or |u| ≥ 2 anywhere, and float64 numbers are left to the
//! two passes.

mod pass;

use std::f64::consts::LN_2;
use std::marker::PhantomData;

use crate::divergences::Row as Entry;
use crate::error::Result;
use crate::jet::{Jet, TERMS};
use crate::moments::{guess, guess_in, offset_shows};
use crate::prepare::Side;
use crate::rows::{Row, over_segments};
use crate::simd::{Element, Simd, dispatch, total};
use crate::sweep::Shift;
use pass::{MOMENTS, ORDER, Pass, SQUARE, Spread, Start, Sums, segment, spread, unit_for};

/// What the series may leave out, relative to the sum.
const REMAINDER: f64 = 1e-7;

/// How far λ may be from the c of the blocks: the mean square of that, over the variance, before c counts as poor.
const DRIFT: f64 = 0.625;

/// What a first block may say that the series would leave out, before the rest is spared.
const HOPELESS: f64 = 1e-6;

/// Places for the moments that fill vectors.
const PLACES: usize = 16;

/// The generator g of a divergence, and what makes the value of Σ p·g.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    entry: Entry,
    terms: [f64; TERMS],
    /// g_(i+j)·(i+j over i) at [j][i]: what M_j is to be multiplied by for the coefficient of (−λ)^i in Σ g_k·N_k.
    about: [[f64; PLACES]; MOMENTS],
    /// Largest M₁₂/M₂ of a first block.
    hopeless: f64,
}

impl Series {
    /// That of a row of the table, if it is smooth.
    pub fn of(entry: Entry) -> Option<Self> {
        let Jet(mut terms) = entry.generator()?;
        // Exactly: what rounding left of them would be multiplied by 1 and t.
        (terms[0], terms[1]) = (0.0, 0.0);
        let about = std::array::from_fn(|j| {
            std::array::from_fn(|i| if i + j <= ORDER { terms[i + j] * BINOMIALS[i + j][i] } else { 0.0 })
        });
        let hopeless = terms[2].abs() * HOPELESS / remainder(&terms, SQUARE.sqrt());
        Some(Self { entry, terms, about, hopeless })
    }

    /// The divergence of two rows, or `None` if they are none of those this pass is for.
    pub fn value(&self, p: &Side<'_>, q: &Side<'_>, parallel: bool) -> Result<Option<f64>> {
        let narrow = |side: &Side<'_>| side.kind.is_log() && !side.row.is_wide();
        if !narrow(p) || !narrow(q) || p.row.len() < f32::LANES {
            return Ok(None);
        }
        let (x, y) = (p.row, q.row);
        let Some(shift) = guess::<f32>(x, y) else { return Ok(None) };
        let Some(found) = self.settle(shift, &BySegments { x, y, parallel }) else { return Ok(None) };
        p.check_log_probs(|| found.lse_x(), parallel)?;
        q.check_log_probs(|| found.lse_x() + found.gain, parallel)?;
        Ok(self.of_sum(&found))
    }

    /// [`Series::value`] of float32 logits in rows no longer than a segment, within a kernel.
    #[inline(always)]
    pub fn of_segment<S: Simd>(&self, x: &Row<'_>, y: &Row<'_>) -> Option<f64> {
        if x.len() < f32::LANES {
            return None;
        }
        let found = self.settle(guess_in::<S, f32>(x, y)?, &InKernel::<S> { x, y, isa: PhantomData })?;
        self.of_sum(&found)
    }

    #[inline(always)]
    fn of_sum(&self, found: &Found) -> Option<f64> {
        self.entry.of_sum(found.sum.max(0.0))
    }

    /// The sum from a pass around a guessed shift and, if that was poor, one around what it found.
    #[inline(always)]
    fn settle(&self, mut shift: Shift, rows: &impl Passes) -> Option<Found> {
        if shift.careful {
            return None;
        }
        let (mut exact, mut follow) = (shift.offset.abs() > 1.0, true);
        for _ in 0..3 {
            let unit = match rows.spread(shift.offset) {
                Some(spread) => unit_for(spread),
                None => 1.0,
            };
            let start = Start { shift, unit, follow, hopeless: self.hopeless * unit.powi(ORDER as i32 - 2) };
            match self.judge(&rows.pass(&start, exact)?, exact) {
                Verdict::Settled(found) => return Some(found),
                Verdict::Rounded => exact = true,
                Verdict::Again(next) => (shift, follow) = (next, false),
                Verdict::Unsuitable => return None,
            }
        }
        None
    }

    /// What a pass is worth.
    #[inline(always)]
    fn judge(&self, sums: &Sums, exact: bool) -> Verdict {
        let moments = &sums.moments;
        let lambda = libm::log1p(dot(&EXPONENTIAL, &places(moments)) / moments[0]);
        let second = (moments[2] - 2.0 * lambda * moments[1]) + lambda * lambda * moments[0];
        if !exact && offset_shows(sums.furthest, 0.5 * second / moments[0]) {
            return Verdict::Rounded;
        }
        let drift = sums.drift + 2.0 * lambda * sums.lean + lambda * lambda * moments[0];
        if drift > DRIFT * second {
            let offset = f64::from((sums.offset + lambda) as f32);
            if offset != sums.offset {
                return Verdict::Again(Shift { power: sums.power, offset, careful: false });
            }
        }
        let powers = powers(-lambda);
        let mut coefficients = [0.0; PLACES];
        for (row, moment) in self.about.iter().zip(moments) {
            for (coefficient, entry) in coefficients.iter_mut().zip(row) {
                *coefficient += entry * moment;
            }
        }
        let sum = dot(&coefficients, &powers);
        let mut last = [0.0; PLACES];
        for (i, entry) in last.iter_mut().enumerate().take(MOMENTS) {
            *entry = BINOMIALS[ORDER][i] * moments[ORDER - i];
        }
        let left_out = remainder(&self.terms, sums.square.sqrt() + lambda.abs()) * dot(&last, &powers);
        // Not for a sum that is NaN either.
        if !(left_out <= REMAINDER * sum || sum == 0.0) {
            return Verdict::Unsuitable;
        }
        let sum = sum / moments[0];
        Verdict::Settled(Found { sum, power: sums.power, weights: moments[0], gain: sums.offset + lambda })
    }
}

/// Two rows, and how passes over them are made. (Not closures: within a kernel they would be compiled without its
/// instructions.)
trait Passes {
    /// The size of u.
    fn spread(&self, offset: f64) -> Option<f64>;
    /// The sums.
    fn pass(&self, start: &Start, exact: bool) -> Option<Sums>;
}

/// Rows of any length, each segment in a kernel of its own.
struct BySegments<'a> {
    x: Row<'a>,
    y: Row<'a>,
    parallel: bool,
}

impl Passes for BySegments<'_> {
    fn spread(&self, offset: f64) -> Option<f64> {
        dispatch(Spread { x: &self.x, y: &self.y, offset })
    }

    fn pass(&self, start: &Start, exact: bool) -> Option<Sums> {
        let (x, y) = (&self.x, &self.y);
        let part = |from, to| {
            if exact {
                dispatch(Pass::<true> { x, y, from, to, start })
            } else {
                dispatch(Pass::<false> { x, y, from, to, start })
            }
        };
        over_segments(x.len(), self.parallel, part, |a, b| Some(a?.merge(b?)))
    }
}

/// Rows no longer than a segment, in the kernel that is running.
struct InKernel<'a, S> {
    x: &'a Row<'a>,
    y: &'a Row<'a>,
    isa: PhantomData<S>,
}

impl<S: Simd> Passes for InKernel<'_, S> {
    #[inline(always)]
    fn spread(&self, offset: f64) -> Option<f64> {
        spread::<S>(self.x, self.y, offset)
    }

    #[inline(always)]
    fn pass(&self, start: &Start, exact: bool) -> Option<Sums> {
        let to = self.x.len();
        if exact {
            segment::<S, true>(self.x, self.y, 0, to, start)
        } else {
            segment::<S, false>(self.x, self.y, 0, to, start)
        }
    }
}

/// What the sums of a pass say.
enum Verdict {
    /// The result.
    Settled(Found),
    /// The differences y − x have to be exact.
    Rounded,
    /// c was poor: once more around this one.
    Again(Shift),
    /// The series leaves out too much.
    Unsuitable,
}

/// What the pass says about two rows.
struct Found {
    /// Σ p·g(t).
    sum: f64,
    /// Σ e^x is 2^power · weights.
    power: f64,
    /// See `power`.
    weights: f64,
    /// log Σ e^y less log Σ e^x.
    gain: f64,
}

impl Found {
    /// log Σ e^x.
    fn lse_x(&self) -> f64 {
        self.power * LN_2 + libm::log(self.weights)
    }
}

/// Bounds Σ g_k·t^(k − 12) over the terms left out, for |t| up to `largest`.
#[inline(always)]
fn remainder(terms: &[f64; TERMS], largest: f64) -> f64 {
    // Three times those at hand: the ones beyond fall off like a geometric series of ratio 2/π.
    let sum = terms[ORDER + 1..].iter().rev().fold(0.0, |sum, term| largest * (term.abs() + sum));
    3.0 * sum
}

/// k over i at [k][i].
const BINOMIALS: [[f64; MOMENTS]; MOMENTS] = {
    let mut table = [[0.0; MOMENTS]; MOMENTS];
    let mut k = 0;
    while k < MOMENTS {
        table[k][0] = 1.0;
        let mut i = 1;
        while i <= k {
            table[k][i] = table[k - 1][i - 1] + table[k - 1][i];
            i += 1;
        }
        k += 1;
    }
    table
};

/// The coefficients of e^u − 1.
const EXPONENTIAL: [f64; PLACES] = {
    let mut terms = [0.0; PLACES];
    let (mut k, mut term) = (1, 1.0);
    while k < MOMENTS {
        term /= k as f64;
        terms[k] = term;
        k += 1;
    }
    terms
};

/// x^0 to x^15.
#[inline(always)]
fn powers(x: f64) -> [f64; PLACES] {
    let mut powers = [1.0; PLACES];
    powers[1] = x;
    let (mut width, mut high) = (2, x * x);
    while width < PLACES {
        for i in 0..width {
            powers[width + i] = powers[i] * high;
        }
        (width, high) = (2 * width, high * high);
    }
    powers
}

/// Σ a·b. No fused operation: outside a kernel it would be a call.
#[inline(always)]
fn dot(a: &[f64; PLACES], b: &[f64; PLACES]) -> f64 {
    let products: [f64; PLACES] = std::array::from_fn(|i| a[i] * b[i]);
    total(&products)
}

/// Moments filled up with zeros.
#[inline(always)]
fn places(moments: &[f64; MOMENTS]) -> [f64; PLACES] {
    let mut filled = [0.0; PLACES];
    filled[..MOMENTS].copy_from_slice(moments);
    filled
}

#[cfg(test)]
mod tests;
