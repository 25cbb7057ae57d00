//! The second pass in float64 lanes, for terms that need room: unbounded powers of p/q, mixtures, products of p and q.
//!
//! Each coordinate is seen from the larger side, so that only e^−t with t = |log p/q| ≥ 0 is ever computed; beside the
//! larger probability stands its logarithm, so that a term such as p²/q counts where p² has underflowed. Unlike
//! [`crate::pair`] there is no path for close rows: what these terms cost is their own arithmetic.

use crate::linear::Totals;
use crate::moments::Moments;
use crate::pair::Pair;
use crate::prepare::Prepared;
use crate::rows::{BLOCK, Row, Scratch, over_segments};
use crate::simd::{Element, Kernel, Simd, Sum, Vector, dispatch, math, special, total};
use crate::sweep::difference;

/// Most sums that one pass yields.
pub const MOST: usize = 4;

/// One vector of coordinates of p and q.
#[derive(Clone, Copy)]
pub struct Sided<V: Vector> {
    /// max(p, q).
    pub big: V,
    /// Its logarithm.
    pub log_big: V,
    /// |log p/q|; +∞ if only one of them is zero, 0 if both are.
    pub t: V,
    /// min(p, q)/max(p, q).
    pub s: V,
    /// 1 − s.
    pub z: V,
    /// Where q > p.
    pub q_larger: V::Mask,
}

impl<V: Vector> Sided<V> {
    /// `p_side` where p is the larger, `q_side` where q is.
    #[inline(always)]
    pub fn by_side(&self, p_side: V, q_side: V) -> V {
        V::select(self.q_larger, q_side, p_side)
    }

    /// `first` where the first distribution is the larger, `other` where the other is; `q_first`: q is the first.
    #[inline(always)]
    pub fn by_first(&self, q_first: bool, first: V, other: V) -> V {
        if q_first { self.by_side(other, first) } else { self.by_side(first, other) }
    }

    /// log(p^a · q^b), −∞ where that is zero; neither a nor b is zero.
    #[inline(always)]
    pub fn log_power(&self, a: f64, b: f64) -> V {
        let slope = self.by_side(V::constant(b), V::constant(a));
        V::constant(a + b) * self.log_big - slope * self.t
    }
}

/// What a pass adds up: up to [`MOST`] sums, or largest values.
pub trait Addends: Copy + Send + Sync {
    /// Results are the largest of the values, not their sums.
    const LARGEST: bool = false;
    /// The values of one vector of coordinates.
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST];
}

/// The results of one pass over two prepared rows; NaN if they have no distribution.
pub fn sums<A: Addends>(rows: &Prepared<'_>, addends: A, parallel: bool) -> [f64; MOST] {
    match rows {
        Prepared::Nothing => [f64::NAN; MOST],
        Prepared::Logs(moments) => pass((moments.x, moments.y), LogSource::new(moments), addends, parallel),
        Prepared::Weights(p, q, totals) => pass((*p, *q), WeightSource::new(totals), addends, parallel),
    }
}

/// How numbers of two rows become coordinates.
pub(crate) trait Source: Copy + Send + Sync {
    /// A number that has no probability.
    const NONE: f64;
    /// The coordinates of one vector of numbers.
    fn sided<V: Vector>(&self, x: V, y: V) -> Sided<V>;
}

#[derive(Clone, Copy)]
pub(crate) struct LogSource {
    lse: [f64; 2],
    offset: f64,
    correction: f64,
}

impl LogSource {
    pub(crate) fn new(moments: &Moments<'_>) -> Self {
        let Moments { offset, correction, .. } = *moments;
        Self { lse: [moments.lse_x(), moments.lse_y()], offset, correction }
    }
}

impl Source for LogSource {
    const NONE: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn sided<V: Vector>(&self, x: V, y: V) -> Sided<V> {
        let tau = difference::<V, true>(x, y, V::constant(self.offset)) - V::constant(self.correction);
        let q_larger = V::zero().lt(tau);
        let log_big = V::select(q_larger, y - V::constant(self.lse[1]), x - V::constant(self.lse[0]));
        // −∞ − −∞: both are zero, and their quotient does not matter.
        let t = V::select(tau.eq(tau), tau.abs(), V::zero());
        let minus = V::zero() - t;
        let (s, z) = (special::exp_any(minus), special::one_less_exp(t));
        Sided { big: special::exp_any(log_big), log_big, t, s, z, q_larger }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct WeightSource {
    /// Powers of two that keep every product a normal number.
    scale: [f64; 2],
    /// Scaled Σp over scaled Σq, and what rounding left out.
    ratio: [f64; 2],
    /// Scaled Σp.
    mass: f64,
}

impl WeightSource {
    pub(crate) fn new(totals: &[Totals; 2]) -> Self {
        let scale = totals.map(|t| t.scale(400, 1000));
        let (ratio, ratio_low) = totals[0].quotient(&totals[1], scale[0], scale[1]);
        Self { scale, ratio: [ratio, ratio_low], mass: totals[0].sum * libm::scalbn(scale[0], totals[0].power) }
    }
}

impl Source for WeightSource {
    const NONE: f64 = 0.0;

    #[inline(always)]
    fn sided<V: Vector>(&self, x: V, y: V) -> Sided<V> {
        let [scale_p, scale_q] = V::constants(self.scale);
        let [ratio, ratio_low] = V::constants(self.ratio);
        let pair = Pair::from_weights(x * scale_p, y * scale_q, ratio, ratio_low);
        let Pair { t, s, z, q_larger, .. } = pair;
        let log_big = math::ln_any(pair.big) - V::constant(libm::log(self.mass));
        Sided { big: pair.big * V::constant(1.0 / self.mass), log_big, t, s, z, q_larger }
    }
}

fn pass<A: Addends, F: Source>(rows: (Row<'_>, Row<'_>), source: F, addends: A, parallel: bool) -> [f64; MOST] {
    over_segments(
        rows.0.len(),
        parallel,
        |from, to| dispatch(Pass { rows, from, to, source, addends }),
        |a, b| std::array::from_fn(|i| if A::LARGEST { a[i].max(b[i]) } else { a[i] + b[i] }),
    )
}

struct Pass<'a, F, A> {
    rows: (Row<'a>, Row<'a>),
    from: usize,
    to: usize,
    source: F,
    addends: A,
}

impl<F: Source, A: Addends> Kernel for Pass<'_, F, A> {
    type Output = [f64; MOST];

    #[inline(always)]
    fn run<S: Simd>(self) -> [f64; MOST] {
        let (mut scratch_x, mut scratch_y) = (Scratch::<f64>::new(), Scratch::<f64>::new());
        let mut totals: [Sum; MOST] = [[0.0; 16]; MOST];
        let mut largest = [S::F64::constant(f64::NEG_INFINITY); MOST];
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let xs = self.rows.0.block::<S, f64>(from, len, &mut scratch_x, F::NONE);
            let ys = self.rows.1.block::<S, f64>(from, len, &mut scratch_y, F::NONE);
            let mut lanes = [S::F64::zero(); MOST];
            for (x, y) in xs.chunks_exact(f64::LANES).zip(ys.chunks_exact(f64::LANES)) {
                let at = self.source.sided(S::F64::load(x), S::F64::load(y));
                let values = self.addends.values(&at);
                // By index: iterators, once not inlined, would keep the sums in memory.
                for i in 0..MOST {
                    if A::LARGEST {
                        largest[i] = values[i].max(largest[i]);
                    } else {
                        lanes[i] = lanes[i] + values[i];
                    }
                }
            }
            for (sum, lane) in totals.iter_mut().zip(lanes) {
                lane.add_to(sum);
            }
        }
        std::array::from_fn(|i| if A::LARGEST { largest[i].largest() } else { total(&totals[i]) })
    }
}
