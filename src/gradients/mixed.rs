//! Forces of divergences that have a parameter, in float64 lanes, and what they have in common: logarithms of mixtures.

use super::forces::Force;
use crate::pair::Pair;
use crate::simd::{Vector, math};
use crate::terms::MAX_SUMS;

/// weight·KL(a‖m) + (1 − weight)·KL(b‖m), m = weight·a + (1 − weight)·b: h = (1 − weight)·log b/m.
#[derive(Clone, Copy)]
pub struct WeightedJs(pub f64);

impl Force for WeightedJs {
    type Narrow = f64;
    const COUNT: usize = 2;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let rest = 1.0 - self.0;
        let own = pair.by_side(pair.s, V::one());
        let force = V::constant(rest) * own * log_mixture::<V, true>(pair, rest);
        V::zero() - V::select(own.eq(V::zero()), V::zero(), force)
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, _: V) -> [V; 4] {
        [to_mixture::<V, false>(pair, self.0), to_mixture::<V, true>(pair, 1.0 - self.0), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        let of_b = (1.0 - self.0) * sums[1];
        (self.0 * sums[0] + of_b, of_b)
    }
}

/// KL(a‖m), m = alpha·a + (1 − alpha)·b: h = (1 − alpha)·(1 − a/m).
#[derive(Clone, Copy)]
pub struct SkewKl(pub f64);

impl Force for SkewKl {
    type Narrow = f64;
    const COUNT: usize = 2;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let rest = 1.0 - self.0;
        let pull = V::constant(rest * rest) * pair.z;
        let (beside_a, beside_b) = mixtures(pair, self.0);
        pair.by_side(V::zero() - pull * pair.s / beside_a, pull / beside_b)
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, x: V) -> [V; 4] {
        [to_mixture::<V, false>(pair, self.0), self.force(pair, x), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], sums[1])
    }
}

/// KL(b‖m), m = alpha·b + (1 − alpha)·a: h = log b/m + alpha·(1 − b/m).
#[derive(Clone, Copy)]
pub struct SkewKlFirst(pub f64);

impl Force for SkewKlFirst {
    type Narrow = f64;
    const COUNT: usize = 2;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let own = pair.by_side(pair.s, V::one());
        let log = V::select(own.eq(V::zero()), V::zero(), own * log_mixture::<V, true>(pair, self.0));
        let pull = V::constant(self.0 * (1.0 - self.0)) * pair.z;
        // Seen from either side, m has the share of b that `mixtures` expects of a.
        let (beside_a, beside_b) = mixtures(pair, 1.0 - self.0);
        pair.by_side(pull * pair.s / beside_a, V::zero() - pull / beside_b) - log
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, x: V) -> [V; 4] {
        [to_mixture::<V, true>(pair, self.0), self.force(pair, x), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], sums[1])
    }
}

/// (Σ a^alpha·b^(1 − alpha) − 1)/(alpha·(alpha − 1)), alpha neither 0 nor 1: h = (1 − (a/b)^alpha)/alpha, whose mean is
/// (1 − alpha) times the value.
#[derive(Clone, Copy)]
pub struct Alpha {
    /// The power of a.
    pub alpha: f64,
    /// 1 − alpha, which need not be rounded where it is the smaller.
    pub rest: f64,
}

impl Force for Alpha {
    type Narrow = f64;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let alpha = self.alpha;
        let (zero, inverse) = (V::zero(), V::constant(1.0 / alpha));
        let power = pair.t * V::constant(alpha);
        let from_a = zero - pair.s * expm1_any(power);
        if pair.near {
            return from_a * inverse;
        }
        // Where a is the larger and alpha positive, e^(alpha·t) could overflow beside a small b.
        let from_a = if alpha > 0.0 {
            exp_any(pair.t * V::constant(-self.rest)) * expm1_any(zero - power)
        } else {
            V::select(pair.s.eq(zero), zero, from_a)
        };
        pair.by_side(from_a, zero - expm1_any(zero - power)) * inverse
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, _: V) -> [V; 4] {
        // From the side on which the generator does not cancel; see `alpha_value` of the Python package.
        let (beta, power) = (self.alpha.max(self.rest), self.alpha.min(self.rest));
        let of_a = self.alpha >= self.rest;
        let (zero, one, infinity) = (V::zero(), V::one(), V::constant(f64::INFINITY));
        let (inverse_power, inverse_beta) = (V::constant(1.0 / power), V::constant(1.0 / beta));
        let x = pair.t * V::constant(-power);
        let down = (phi_any(zero - pair.t, pair.phi_down(), pair.near) - phi_any(x, zero, false) * inverse_power)
            * inverse_beta;
        let far = exp_any(x * V::constant(-1.0) - pair.t) - pair.s * (one - x);
        let other = V::select(x.abs().lt(one), pair.s * math::phi_near(zero - x), far);
        let up = (pair.phi_up() - other * inverse_power) * inverse_beta;
        if pair.near {
            return [if of_a { down } else { up }, zero, zero, zero];
        }
        let alone = V::constant(if power > 0.0 { 1.0 / power } else { f64::INFINITY });
        let gone = pair.t.eq(infinity);
        let (down, up) = (V::select(gone, alone, down), V::select(gone, inverse_beta, up));
        [if of_a { pair.by_side(down, up) } else { pair.by_side(up, down) }, zero, zero, zero]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], self.rest * sums[0])
    }
}

/// m = share·a + (1 − share)·b over the larger, where a is the larger (or the pair near) and where b is.
#[inline(always)]
fn mixtures<V: Vector>(pair: &Pair<V>, share: f64) -> (V, V) {
    let one = V::one();
    (one - V::constant(1.0 - share) * pair.z, one - V::constant(share) * pair.z)
}

/// log m/o for o = b if `OF_B` else a, m = share·o + (1 − share)·(the other).
#[inline(always)]
fn log_mixture<V: Vector, const OF_B: bool>(pair: &Pair<V>, share: f64) -> V {
    let (zero, one) = (V::zero(), V::one());
    let gain = V::constant(1.0 - share) * pair.z;
    if pair.near {
        return if OF_B { ln_ratio(pair.s + gain, pair.s, gain) } else { ln_ratio(one - gain, one, zero - gain) };
    }
    let larger = zero - math::ln_quotient(one, one - gain, gain);
    let lost = V::constant(share) * pair.z;
    let smaller = pair.t - math::ln_quotient(one, one - lost, lost);
    let close = pair.t.lt(one);
    let safe = V::select(close, pair.s, one);
    let smaller = V::select(close, math::ln_quotient(safe + gain, safe, gain), smaller);
    if OF_B { pair.by_side(smaller, larger) } else { pair.by_side(larger, smaller) }
}

/// The term of KL(o‖m) over max(a, b), for o and m of [`log_mixture`]: o·φ(log m/o).
#[inline(always)]
fn to_mixture<V: Vector, const OF_B: bool>(pair: &Pair<V>, share: f64) -> V {
    let (zero, one) = (V::zero(), V::one());
    let log = log_mixture::<V, OF_B>(pair, share);
    let own = if OF_B { pair.by_side(pair.s, one) } else { pair.by_side(one, pair.s) };
    // o·(m/o − 1).
    let gain = V::constant(1.0 - share) * pair.z;
    let gain = if OF_B { pair.by_side(gain, zero - gain) } else { pair.by_side(zero - gain, gain) };
    let far = gain - V::select(own.eq(zero), zero, own * log);
    V::select(log.abs().lt(one), own * math::phi_near(log), far)
}

/// log top/bottom of positive normal numbers whose difference is known accurately.
#[inline(always)]
fn ln_ratio<V: Vector>(top: V, bottom: V, difference: V) -> V {
    let up = V::zero().lt(difference);
    let log = math::ln_quotient(V::select(up, top, bottom), V::select(up, bottom, top), difference.abs());
    V::select(up, log, V::zero() - log)
}

/// Largest argument of an exponential in float64 lanes.
const HIGHEST: f64 = 709.0;

/// e^x of any number, in float64 lanes: 0 and infinity beyond their range.
#[inline(always)]
fn exp_any<V: Vector>(x: V) -> V {
    let (low, high) = (math::lowest(0.0), V::constant(HIGHEST));
    let power = math::exp(V::select(high.lt(x), high, x.max(low)));
    V::select(x.lt(low), V::zero(), V::select(high.lt(x), V::constant(f64::INFINITY), power))
}

/// e^x − 1 of any number, in float64 lanes.
#[inline(always)]
fn expm1_any<V: Vector>(x: V) -> V {
    let high = V::constant(HIGHEST);
    V::select(high.lt(x), V::constant(f64::INFINITY), math::expm1(V::select(high.lt(x), high, x)))
}

/// φ(x) of any number in float64 lanes, unless it is known already.
#[inline(always)]
fn phi_any<V: Vector>(x: V, known: V, is_near: bool) -> V {
    if is_near {
        return known;
    }
    V::select(x.abs().lt(V::one()), math::phi_near(x), expm1_any(x) - x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::forces::{Forward, Jeffreys, Js, Reverse, SquaredHellinger, TotalVariation};
    use crate::pair::LogFrame;
    use crate::simd::{Element, Kernel, Simd, dispatch};

    /// Force and sums of one force over a vector, near and far.
    struct Both<F>(F, [f64; 8], [f64; 8]);

    impl<F: Force> Kernel for Both<F> {
        type Output = [[f64; 8]; 4];
        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            let frame = LogFrame { offset: 0.0, correction: 0.0, power: [0.0; 2], scale: [1.0; 2] };
            let (x, y) = (S::F64::load(&self.1), S::F64::load(&self.2));
            let mut out = [[0.0; f64::LANES]; 4];
            for (i, pair) in [Pair::near_logs::<true>(x, y, &frame), Pair::far_logs(x, y, &frame)].iter().enumerate() {
                (self.0.force(pair, x) * pair.big).store(&mut out[i]);
                (self.0.sums(pair, x)[0] * pair.big).store(&mut out[2 + i]);
            }
            out
        }
    }

    fn same_seen_from_either_side(force: impl Force) {
        let x = [-1.0, -2.0, -0.5, -3.0, -1.25, -1e-3, -0.25, -2.5];
        let y = [-1.5, -1.0, -0.5, -1.5, -1.24, -1.9, -0.26, -2.4];
        let [near, far, near_sum, far_sum] = dispatch(Both(force, x, y));
        for i in 0..8 {
            assert!((near[i] - far[i]).abs() < 1e-15, "{near:?} {far:?}");
            assert!((near_sum[i] - far_sum[i]).abs() < 1e-15, "{near_sum:?} {far_sum:?}");
        }
    }

    #[test]
    fn near_and_far_pairs_agree() {
        same_seen_from_either_side(Forward);
        same_seen_from_either_side(Reverse);
        same_seen_from_either_side(Jeffreys);
        same_seen_from_either_side(TotalVariation::default());
        same_seen_from_either_side(SquaredHellinger);
        same_seen_from_either_side(Js);
        for share in [0.1, 0.5, 0.9] {
            same_seen_from_either_side(WeightedJs(share));
            same_seen_from_either_side(SkewKl(share));
            same_seen_from_either_side(SkewKlFirst(share));
        }
        for alpha in [-1.5, 0.3, 0.7, 2.0] {
            same_seen_from_either_side(Alpha { alpha, rest: 1.0 - alpha });
        }
    }
}
