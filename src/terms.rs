//! The second pass: sums of terms over two rows whose normalisers are known.

use crate::divergences::Term;
use crate::linear::Totals;
use crate::moments::Moments;
use crate::pair::{LogFrame, NEAR, Pair};
use crate::rows::{BLOCK, InPlace, Row, Scratch, block_of, over_segments};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, total};

/// Most sums that one pass yields.
pub const MAX_SUMS: usize = 8;

/// Adds the terms of one vector to up to [`MAX_SUMS`] sums.
pub trait Terms: Copy + Send + Sync {
    /// How many sums are used.
    const COUNT: usize;
    /// Adds the terms; `x` and `y` are the numbers of the rows.
    fn add<V: Vector>(&self, pair: &Pair<V>, x: V, y: V, sums: &mut [V; MAX_SUMS]);
}

/// The term of one divergence.
#[derive(Clone, Copy)]
pub struct Single<T>(pub T);

impl<T: Term> Terms for Single<T> {
    const COUNT: usize = 1;
    #[inline(always)]
    fn add<V: Vector>(&self, pair: &Pair<V>, _x: V, _y: V, sums: &mut [V; MAX_SUMS]) {
        sums[0] = pair.big.mul_add(T::term(pair), sums[0]);
    }
}

/// Constants that make probabilities of two rows of logits.
fn frame(moments: &Moments<'_>) -> LogFrame {
    use std::f64::consts::{LN_2, LOG2_E};
    let split = |lse: f64| {
        let power = (lse * LOG2_E).round();
        (power, libm::exp(power * LN_2 - lse))
    };
    let lse_x = moments.lse_x();
    let (power_x, scale_x) = split(lse_x);
    let (power_y, scale_y) = split(lse_x + moments.offset + moments.correction);
    LogFrame {
        offset: moments.offset,
        correction: moments.correction,
        power: [power_x, power_y],
        scale: [scale_x, scale_y],
    }
}

/// The sums of `terms` over rows of logits.
pub fn log_sums(moments: &Moments<'_>, terms: impl Terms, parallel: bool) -> [f64; MAX_SUMS] {
    if moments.wide {
        log_sums_in::<f64>(moments, terms, parallel)
    } else {
        log_sums_in::<f32>(moments, terms, parallel)
    }
}

/// [`log_sums`] in lanes of one type, whatever the rows need.
pub fn log_sums_in<T: InPlace>(moments: &Moments<'_>, terms: impl Terms, parallel: bool) -> [f64; MAX_SUMS] {
    let (x, y, frame, exact) = (moments.x, moments.y, frame(moments), moments.needs_exact_differences());
    over_segments(
        x.len(),
        parallel,
        |from, to| dispatch(LogPass::<T, _> { x, y, from, to, frame, exact, terms, elem: std::marker::PhantomData }),
        add_sums,
    )
}

fn add_sums(a: [f64; MAX_SUMS], b: [f64; MAX_SUMS]) -> [f64; MAX_SUMS] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// The sums that are used; the others are 0.
#[inline(always)]
fn used<K: Terms>(sum: impl Fn(usize) -> f64) -> [f64; MAX_SUMS] {
    std::array::from_fn(|i| if i < K::COUNT { sum(i) } else { 0.0 })
}

struct LogPass<'a, T, K> {
    x: Row<'a>,
    y: Row<'a>,
    from: usize,
    to: usize,
    frame: LogFrame,
    exact: bool,
    terms: K,
    elem: std::marker::PhantomData<T>,
}

/// How [`log_block`] forms its pairs: near, with y − x as rounded or exactly, or far.
const NEAR_ROUNDED: u8 = 0;
const NEAR_EXACT: u8 = 1;
const FAR: u8 = 2;

/// The lane sums of one block, and the largest t².
#[inline(always)]
fn log_block<V: Vector, K: Terms, const PATH: u8>(
    xs: &[V::Elem],
    ys: &[V::Elem],
    frame: &LogFrame,
    terms: &K,
) -> ([V; MAX_SUMS], V) {
    let mut sums = [V::zero(); MAX_SUMS];
    let mut square = V::zero();
    let lanes = <V::Elem as Element>::LANES;
    for (x, y) in xs.chunks_exact(lanes).zip(ys.chunks_exact(lanes)) {
        let (x, y) = (V::load(x), V::load(y));
        let pair = match PATH {
            NEAR_ROUNDED => Pair::near_logs::<false>(x, y, frame),
            NEAR_EXACT => Pair::near_logs::<true>(x, y, frame),
            _ => Pair::far_logs(x, y, frame),
        };
        square = (pair.t * pair.t).max(square);
        terms.add(&pair, x, y, &mut sums);
    }
    (sums, square)
}

impl<T: InPlace, K: Terms> Kernel for LogPass<'_, T, K> {
    type Output = [f64; MAX_SUMS];

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
        let mut near_sums: [Sum; MAX_SUMS] = [[0.0; 16]; MAX_SUMS];
        let mut far_sums = near_sums;
        let mut near = true;
        let none = T::from_f64(f64::NEG_INFINITY);
        let limit = T::In::<S>::constant(NEAR * NEAR);
        let mut from = self.from;
        while from < self.to {
            let len = block_of::<T>(self.to - from);
            // Each block starts on the path the one before it should have taken.
            if near {
                let xs = self.x.block_repeating::<S, T>(from, len, &mut scratch_x);
                let ys = self.y.block_repeating::<S, T>(from, len, &mut scratch_y);
                let (lanes, square) = if self.exact {
                    log_block::<T::In<S>, K, NEAR_EXACT>(xs, ys, &self.frame, &self.terms)
                } else {
                    log_block::<T::In<S>, K, NEAR_ROUNDED>(xs, ys, &self.frame, &self.terms)
                };
                // A NaN (−∞ − −∞) passes the maximum but not the sum.
                near = square.lt(limit).and(lanes[0].eq(lanes[0])).all();
                if near {
                    let kept = |lane| T::In::<S>::select(T::In::<S>::first(len), lane, T::In::<S>::zero());
                    for (sum, lane) in near_sums.iter_mut().zip(lanes).take(K::COUNT) {
                        let lane = if len >= T::LANES { lane } else { kept(lane) };
                        lane.add_to(sum);
                    }
                    from += len;
                    continue;
                }
            }
            let xs = self.x.block::<S, T>(from, len, &mut scratch_x, none);
            let ys = self.y.block::<S, T>(from, len, &mut scratch_y, none);
            from += len;
            let (lanes, square) = log_block::<T::In<S>, K, FAR>(xs, ys, &self.frame, &self.terms);
            near = square.lt(limit).all();
            for (sum, lane) in far_sums.iter_mut().zip(lanes).take(K::COUNT) {
                lane.add_to(sum);
            }
        }
        used::<K>(|i| total(&near_sums[i]).mul_add(self.frame.scale[0], total(&far_sums[i])))
    }
}

/// The sums of `terms` over rows of weights, in units of Σp, in float64 lanes.
pub fn weight_sums(p: Row<'_>, q: Row<'_>, totals: &[Totals; 2], terms: impl Terms, parallel: bool) -> [f64; MAX_SUMS] {
    // Powers of two that put both totals near 2^400: products stay normal however small a weight is.
    let scale = totals.map(|t| t.scale(400, 1000));
    let ratio = totals[0].quotient(&totals[1], scale[0], scale[1]);
    let factor = if totals[0].power == 0 { scale[0] } else { libm::scalbn(scale[0], totals[0].power) };
    let unit = 1.0 / (totals[0].sum * factor);
    let sums = over_segments(
        p.len(),
        parallel,
        |from, to| dispatch(WeightPass { p, q, from, to, ratio: ratio.into(), scale, terms }),
        add_sums,
    );
    sums.map(|sum| sum * unit)
}

struct WeightPass<'a, K> {
    p: Row<'a>,
    q: Row<'a>,
    from: usize,
    to: usize,
    ratio: [f64; 2],
    scale: [f64; 2],
    terms: K,
}

impl<K: Terms> Kernel for WeightPass<'_, K> {
    type Output = [f64; MAX_SUMS];

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let (mut scratch_p, mut scratch_q) = (Scratch::<f64>::new(), Scratch::<f64>::new());
        let mut sums: [Sum; MAX_SUMS] = [[0.0; 16]; MAX_SUMS];
        let [ratio, ratio_low] = S::F64::constants(self.ratio);
        let scale = S::F64::constants(self.scale);
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let ps = self.p.block::<S, f64>(from, len, &mut scratch_p, 0.0);
            let qs = self.q.block::<S, f64>(from, len, &mut scratch_q, 0.0);
            let mut lanes = [S::F64::zero(); MAX_SUMS];
            for (p, q) in ps.chunks_exact(f64::LANES).zip(qs.chunks_exact(f64::LANES)) {
                let (p, q) = (S::F64::load(p), S::F64::load(q));
                let pair = Pair::from_weights(p * scale[0], q * scale[1], ratio, ratio_low);
                self.terms.add(&pair, p, q, &mut lanes);
            }
            for (sum, lane) in sums.iter_mut().zip(lanes).take(K::COUNT) {
                lane.add_to(sum);
            }
        }
        used::<K>(|i| total(&sums[i]))
    }
}
