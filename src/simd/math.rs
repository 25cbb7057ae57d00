//! Lane mathematics: exp, expm1, φ, log and the even part of JS, in float32 and float64.
//!
//! Every function is the same sequence of correctly rounded operations on every instruction set, so the bits agree;
//! only coefficients and their number differ between the precisions. Worst errors in units in the last place, held by
//! `tests/rust/lane_math.rs` (`make test` takes a dense sample, `make test-full` every float32):
//!
//! | function | domain | float32 | float64 |
//! |---|---|---|---|
//! | [`exp`] | results from the smallest normal number up | 1.0 | 1.0 |
//! | [`exps2_scaled`] | the same, for x below 127.9 and 1023.9 | 1.3 | 1.2 |
//! | [`expm1`] | x ≤ 40 | 2.2 | 2.5 |
//! | [`phi_near`] | abs(u) ≤ 2 | 2.8 | 2.7 |
//! | [`phi_wide`] | abs(u) ≤ 8 | 10.0 | 8.0 |
//! | [`half_near`] | abs(t) ≤ 2 | 2.2 | 1.6 |
//! | [`ln`] | positive normal | 3.0 | 3.0 |
//! | [`log1p_small`] | 0 ≤ s ≤ 1/e | 1.2 | 1.3 |
//! | [`js_near`] | t ≤ 2 | 2.5 | 2.2 |
//! | [`js_even`] | 0 ≤ s ≤ 1/2 | 2.0 | 2.0 |

use super::{Element, Mask, Vector, coefficients as c};

/// The coefficient tables of an element type.
pub trait Coefficients: Sized + 'static {
    /// (e^r − 1)/r.
    const EXPM1: &'static [Self];
    /// (2^r − 1)/r.
    const EXP2M1: &'static [Self];
    /// (1 − e^(−t/2))/t.
    const HALF: &'static [Self];
    /// (e^u − 1 − u)/u².
    const PHI: &'static [Self];
    /// 4·φ(u/4)/u².
    const PHI_QUARTER: &'static [Self];
    /// 2·atanh(f)/f in f².
    const LOG: &'static [Self];
    /// 2·(atanh(f) − f)/f³ in f².
    const ATANH: &'static [Self];
    /// log(1 + s)/s.
    const LOG1P: &'static [Self];
    /// JS/(√(pq)·t²) in t².
    const JS: &'static [Self];
    /// JS/((p + q)·s) in s = ((p − q)/(p + q))².
    const JS_EVEN: &'static [Self];
    /// High part of ln 2, short enough that its product with an exponent is exact.
    const LN2_HIGH: f64;
    /// ln 2 less its high part.
    const LN2_LOW: f64;
}

impl Coefficients for f32 {
    const EXPM1: &'static [f32] = &c::EXPM1_F32;
    const EXP2M1: &'static [f32] = &c::EXP2M1_F32;
    const HALF: &'static [f32] = &c::HALF_F32;
    const PHI: &'static [f32] = &c::PHI_F32;
    const PHI_QUARTER: &'static [f32] = &c::PHI_QUARTER_F32;
    const LOG: &'static [f32] = &c::LOG_F32;
    const ATANH: &'static [f32] = &c::ATANH_F32;
    const LOG1P: &'static [f32] = &c::LOG1P_F32;
    const JS: &'static [f32] = &c::JS_F32;
    const JS_EVEN: &'static [f32] = &c::JS_EVEN_F32;
    const LN2_HIGH: f64 = 0.693_145_751_953_125;
    const LN2_LOW: f64 = 1.428_606_820_309_417_2e-6;
}

impl Coefficients for f64 {
    const EXPM1: &'static [f64] = &c::EXPM1_F64;
    const EXP2M1: &'static [f64] = &c::EXP2M1_F64;
    const HALF: &'static [f64] = &c::HALF_F64;
    const PHI: &'static [f64] = &c::PHI_F64;
    const PHI_QUARTER: &'static [f64] = &c::PHI_QUARTER_F64;
    const LOG: &'static [f64] = &c::LOG_F64;
    const ATANH: &'static [f64] = &c::ATANH_F64;
    const LOG1P: &'static [f64] = &c::LOG1P_F64;
    const JS: &'static [f64] = &c::JS_F64;
    const JS_EVEN: &'static [f64] = &c::JS_EVEN_F64;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
}

/// Evaluates a polynomial given highest power first.
#[inline(always)]
pub fn polynomial<V: Vector>(x: V, coefficients: &[V::Elem]) -> V {
    let mut value = V::splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        value = value.mul_add(x, V::splat(coefficient));
    }
    value
}

/// Writes x = k·ln 2 + r with |r| ≤ ½·ln 2. Returns r and n = magic + k, whose low bits hold the integer k
/// (less K, if `magic` is [`Element::MAGIC`] − K).
#[inline(always)]
fn reduce<V: Vector>(x: V, magic: V) -> (V, V) {
    let n = x.mul_add(V::constant(std::f64::consts::LOG2_E), magic);
    let k = n - magic;
    let r = k.mul_add(V::constant(-V::Elem::LN2_HIGH), x);
    (k.mul_add(V::constant(-V::Elem::LN2_LOW), r), n)
}

/// The `magic` that makes [`exp_scaled`] return e^x · 2^-K.
#[inline(always)]
pub fn magic<V: Vector>(power: f64) -> V {
    V::constant(V::Elem::MAGIC - power)
}

/// The smallest argument of [`exp_scaled`] whose result is a normal number.
#[inline(always)]
pub fn lowest<V: Vector>(power: f64) -> V {
    V::constant((power + V::Elem::MIN_EXPONENT + 1.0) * std::f64::consts::LN_2)
}

/// e^x · 2^-K without rounding the shift: K enters through `magic` as an integer. No range check: the result must
/// be a normal number, so clamp x to [`lowest`] first.
#[inline(always)]
pub fn exp_scaled<V: Vector>(x: V, magic: V) -> V {
    let [value] = exps_scaled(&[x], magic);
    value
}

/// [`exp_scaled`] of several vectors, side by side.
#[inline(always)]
pub fn exps_scaled<V: Vector, const N: usize>(x: &[V; N], magic: V) -> [V; N] {
    let (mut n, mut r) = (*x, *x);
    for i in 0..N {
        (r[i], n[i]) = reduce(x[i], magic);
    }
    shifted(&r, &n, V::Elem::EXPM1)
}

/// The `magic` for [`exps2_scaled`].
#[inline(always)]
pub fn magic_of_eighths<V: Vector>(power: f64) -> V {
    V::constant(V::Elem::MAGIC / 8.0 - power)
}

/// 2^x · 2^-K of several vectors: no rounding of the shift and no range check, as for [`exp_scaled`], but in units of
/// ln 2. K is below 2¹⁹ in float32 and 2⁴⁸ in float64.
///
/// A table of the powers of 2^⅛ takes the place of half of the polynomial.
#[inline(always)]
pub fn exps2_scaled<V: Vector, const N: usize>(x: &[V; N], magic: V) -> [V; N] {
    let (mut power, mut r) = (*x, *x);
    for i in 0..N {
        let n = x[i] + magic;
        r[i] = x[i].less_eighths(n, magic);
        power[i] = n.exp2_eighths();
    }
    // The loop of `shifted` again: with one function for both, KL took a part in thirty longer.
    let coefficients = V::Elem::EXP2M1;
    let mut value = [V::splat(coefficients[0]); N];
    for &coefficient in &coefficients[1..] {
        for i in 0..N {
            value[i] = value[i].mul_add(r[i], V::splat(coefficient));
        }
    }
    for i in 0..N {
        value[i] = (value[i] * r[i]).mul_add(power[i], power[i]);
    }
    value
}

/// (1 + r·P(r))·2^n of several vectors.
///
/// Each operation is done for all of them before the next: a processor's scheduler does not hold as many chains of
/// dependent operations, one after the other, as it takes to hide their latency.
#[inline(always)]
fn shifted<V: Vector, const N: usize>(r: &[V; N], n: &[V; N], coefficients: &[V::Elem]) -> [V; N] {
    let mut value = [V::splat(coefficients[0]); N];
    for &coefficient in &coefficients[1..] {
        for i in 0..N {
            value[i] = value[i].mul_add(r[i], V::splat(coefficient));
        }
    }
    for i in 0..N {
        value[i] = r[i].mul_add(value[i], V::one()).shift_exponent(n[i]);
    }
    value
}

/// e^x for x whose result is a normal number.
#[inline(always)]
pub fn exp<V: Vector>(x: V) -> V {
    exp_scaled(x, V::constant(V::Elem::MAGIC))
}

/// e^x − 1, accurate near zero, for x ≤ 40 (below the clamp it is −1).
#[inline(always)]
pub fn expm1<V: Vector>(x: V) -> V {
    let (r, n) = reduce(x.max(lowest(0.0)), V::constant(V::Elem::MAGIC));
    let scale = V::one().shift_exponent(n);
    (r * polynomial(r, V::Elem::EXPM1)).mul_add(scale, scale - V::one())
}

/// 1 − e^(−t/2) for |t| ≤ 2.
#[inline(always)]
pub fn half_near<V: Vector>(t: V) -> V {
    t * polynomial(t, V::Elem::HALF)
}

/// φ(u) = e^u − 1 − u for |u| ≤ 2.
#[inline(always)]
pub fn phi_near<V: Vector>(u: V) -> V {
    u * u * polynomial(u, V::Elem::PHI)
}

/// φ(u) for |u| ≤ 8, from a quarter of u by φ(2t) = (t + φ(t))² + 2·φ(t), whose two terms are never negative.
#[inline(always)]
pub fn phi_wide<V: Vector>(u: V) -> V {
    // Powers of two drawn into the coefficients and factors: 4·φ(u/4), 2·φ(u/2), φ(u).
    let fourfold = u * u * polynomial(u, V::Elem::PHI_QUARTER);
    let gain = u + fourfold;
    let twofold = (gain * V::constant(0.125)).mul_add(gain, fourfold);
    let gain = u + twofold;
    (gain * V::constant(0.25)).mul_add(gain, twofold)
}

/// 2·atanh(f) for |f| ≤ 1/3.
#[inline(always)]
fn two_atanh<V: Vector>(f: V) -> V {
    f * polynomial(f * f, V::Elem::LOG)
}

/// Natural logarithm of a positive normal number.
#[inline(always)]
pub fn ln<V: Vector>(x: V) -> V {
    let (m, k) = x.split_exponent();
    let near = two_atanh((m - V::one()) / (m + V::one()));
    k.mul_add(V::constant(V::Elem::LN2_HIGH), k.mul_add(V::constant(V::Elem::LN2_LOW), near))
}

/// log(1 + s) for 0 ≤ s ≤ 1/e.
#[inline(always)]
pub fn log1p_small<V: Vector>(s: V) -> V {
    s * polynomial(s, V::Elem::LOG1P)
}

/// log(big/small) ≥ 0 of positive normal numbers whose difference big − small is known accurately.
///
/// Within a factor of two the difference carries the digits, beyond it the quotient does.
#[inline(always)]
pub fn ln_quotient<V: Vector>(big: V, small: V, difference: V) -> V {
    let (big_m, big_k) = big.split_exponent();
    let (small_m, small_k) = small.split_exponent();
    let near = (difference + difference).lt(big);
    let top = V::select(near, difference, big_m - small_m);
    let bottom = V::select(near, big + small, big_m + small_m);
    let k = V::select(near, V::zero(), big_k - small_k);
    let log = two_atanh(top / bottom);
    k.mul_add(V::constant(V::Elem::LN2_HIGH), k.mul_add(V::constant(V::Elem::LN2_LOW), log))
}

/// JS(p, q)/√(pq) for t = |log p/q| ≤ 2.
#[inline(always)]
pub fn js_near<V: Vector>(t: V) -> V {
    let square = t * t;
    square * polynomial(square, V::Elem::JS)
}

/// JS(p, q)/(p + q) for s = ((p − q)/(p + q))² ≤ 1/2.
#[inline(always)]
pub fn js_even<V: Vector>(s: V) -> V {
    s * polynomial(s, V::Elem::JS_EVEN)
}

/// Natural logarithm of any number: log 0 = −∞, that of a negative number is NaN.
#[inline(always)]
pub fn ln_any<V: Vector>(x: V) -> V {
    let tiny = x.lt(V::constant(f64::from_bits(((V::Elem::MIN_EXPONENT + 1023.0) as u64) << 52)));
    let scale = -V::Elem::MIN_EXPONENT / 2.0;
    let lift = f64::from_bits(((scale + 1023.0) as u64) << 52);
    let scaled = V::select(tiny, x * V::constant(lift), x);
    let log = ln(scaled) - V::select(tiny, V::constant(scale * std::f64::consts::LN_2), V::zero());
    let log = V::select(x.eq(V::zero()), V::constant(f64::NEG_INFINITY), log);
    let log = V::select(x.eq(V::constant(f64::INFINITY)), V::constant(f64::INFINITY), log);
    V::select(V::zero().lt(x).or(x.eq(V::zero())), log, V::constant(f64::NAN))
}
