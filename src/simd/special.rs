//! Lane functions for any argument, for terms whose exponents have no bound.
//!
//! Worst errors in units in the last place, held by `tests/rust/special_math.rs` (`make test` takes a dense sample,
//! `make test-full` every float32):
//!
//! | function | domain | float32 | float64 |
//! |---|---|---|---|
//! | [`exp_any`] | results from twice the smallest normal number up; 0 below, +∞ above | 1.0 | 1.0 |
//! | [`one_less_exp`] | x ≥ 0, +∞ included | 2.2 | 2.5 |

use super::{Element, Vector, math};

/// e^x for any x but NaN: 0 where the result would be less than twice the smallest normal number, +∞ where it would be
/// too large (within a part in 10¹² of the largest number).
#[inline(always)]
pub fn exp_any<V: Vector>(x: V) -> V {
    let (low, high) = (math::lowest::<V>(0.0), V::constant((2.0 - V::Elem::MIN_EXPONENT) * std::f64::consts::LN_2));
    let power = V::select(x.lt(low), V::zero(), math::exp(x.max(low)));
    V::select(x.lt(high), power, V::constant(f64::INFINITY))
}

/// 1 − e^−x for x ≥ 0.
#[inline(always)]
pub fn one_less_exp<V: Vector>(x: V) -> V {
    V::zero() - math::expm1(V::zero() - x)
}
