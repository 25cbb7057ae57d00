//! NEON: four 128-bit registers a vector. Nothing but intrinsics.
//!
//! Safety of every block: every 64-bit Arm machine has NEON; loads and stores are bounds-checked first.

#[allow(clippy::wildcard_imports)] // intrinsics, by the dozen
use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::{Element, Kernel, Mask, Simd, Sum, Vector};

/// The instruction set.
pub struct Neon;

impl Simd for Neon {
    type F32 = F32;
    type F64 = F64;

    #[inline(never)]
    fn apart<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: see the head of this file.
        unsafe { enter(kernel) }
    }
}

/// Runs a kernel compiled for NEON.
///
/// # Safety
/// The machine must have NEON.
#[target_feature(enable = "neon")]
pub unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

/// Sixteen float32 lanes.
#[derive(Clone, Copy)]
pub struct F32([float32x4_t; 4]);
/// Eight float64 lanes.
#[derive(Clone, Copy)]
pub struct F64([float64x2_t; 4]);
/// Sixteen truth values.
#[derive(Clone, Copy)]
pub struct M32([uint32x4_t; 4]);
/// Eight truth values.
#[derive(Clone, Copy)]
pub struct M64([uint64x2_t; 4]);

/// Applies an intrinsic to each of the four registers.
macro_rules! each {
    ($wrap:ident, $i:ident => $value:expr) => {
        // SAFETY: see the head of this file.
        unsafe {
            $wrap([
                {
                    const $i: usize = 0;
                    $value
                },
                {
                    const $i: usize = 1;
                    $value
                },
                {
                    const $i: usize = 2;
                    $value
                },
                {
                    const $i: usize = 3;
                    $value
                },
            ])
        }
    };
}

macro_rules! vector {
    (
        $vector:ident, $mask:ident, $elem:ident, $uint:ident, $lanes:literal, $mantissa:literal, $ones:expr,
        $one_bits:expr, $offset:expr, $integer_bits:expr, $integer_less:expr, $integer:expr,
        $dup:ident $ld:ident $st:ident $add:ident $sub:ident $mul:ident $div:ident $fma:ident $sqrt:ident $abs:ident
        $clt:ident $cgt:ident $ceq:ident $bsl:ident $and:ident $or:ident $shl:ident $shr:ident $addu:ident $subu:ident
        $dupu:ident $to_bits:ident $from_bits:ident $addv:ident $shr_mask:literal
    ) => {
        impl Add for $vector {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                each!($vector, I => $add(self.0[I], other.0[I]))
            }
        }
        impl Sub for $vector {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                each!($vector, I => $sub(self.0[I], other.0[I]))
            }
        }
        impl Mul for $vector {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                each!($vector, I => $mul(self.0[I], other.0[I]))
            }
        }
        impl Div for $vector {
            type Output = Self;
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                each!($vector, I => $div(self.0[I], other.0[I]))
            }
        }
        impl Mask for $mask {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                each!($mask, I => $and(self.0[I], other.0[I]))
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                each!($mask, I => $or(self.0[I], other.0[I]))
            }
            #[inline(always)]
            fn all(self) -> bool {
                self.count() == $lanes
            }
            #[inline(always)]
            fn bits(self) -> u32 {
                // SAFETY: four registers are as many bytes as their lanes.
                let lanes = unsafe { std::mem::transmute::<_, [$uint; $lanes]>(self.0) };
                lanes.into_iter().rev().fold(0, |bits, lane| 2 * bits + (lane & 1) as u32)
            }
            #[inline(always)]
            fn count(self) -> u32 {
                // SAFETY: see the head of this file.
                unsafe { (0..4).map(|i| $addv($shr::<$shr_mask>(self.0[i])) as u32).sum() }
            }
        }
        impl Vector for $vector {
            type Elem = $elem;
            type Mask = $mask;
            type Wide = F64;

            #[inline(always)]
            fn splat(x: $elem) -> Self {
                // SAFETY: see the head of this file.
                unsafe { Self([$dup(x); 4]) }
            }
            #[inline(always)]
            fn load(from: &[$elem]) -> Self {
                let from = &from[..$lanes];
                each!($vector, I => $ld(from.as_ptr().add(I * $lanes / 4)))
            }
            #[inline(always)]
            fn store(self, to: &mut [$elem]) {
                let to = &mut to[..$lanes];
                for (i, register) in self.0.into_iter().enumerate() {
                    // SAFETY: the slice holds every lane.
                    unsafe { $st(to.as_mut_ptr().add(i * $lanes / 4), register) }
                }
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                each!($vector, I => $fma(b.0[I], self.0[I], a.0[I]))
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                each!($vector, I => $sqrt(self.0[I]))
            }
            #[inline(always)]
            fn abs(self) -> Self {
                each!($vector, I => $abs(self.0[I]))
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // Not the max instruction: it returns NaN where either is NaN.
                each!($vector, I => $bsl($cgt(self.0[I], other.0[I]), self.0[I], other.0[I]))
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                each!($vector, I => $bsl($clt(self.0[I], other.0[I]), self.0[I], other.0[I]))
            }
            #[inline(always)]
            fn lt(self, other: Self) -> $mask {
                each!($mask, I => $clt(self.0[I], other.0[I]))
            }
            #[inline(always)]
            fn eq(self, other: Self) -> $mask {
                each!($mask, I => $ceq(self.0[I], other.0[I]))
            }
            #[inline(always)]
            fn select(mask: $mask, a: Self, b: Self) -> Self {
                each!($vector, I => $bsl(mask.0[I], a.0[I], b.0[I]))
            }
            #[inline(always)]
            fn shift_exponent(self, n: Self) -> Self {
                each!($vector, I => $from_bits($addu($to_bits(self.0[I]), $shl::<$mantissa>($to_bits(n.0[I])))))
            }
            #[inline(always)]
            fn split_exponent(self) -> (Self, Self) {
                let exponent = each!($mask, I => $shr::<$mantissa>($addu($to_bits(self.0[I]), $dupu($offset))));
                let mantissa = each!($vector, I => $from_bits($addu(
                    $subu($to_bits(self.0[I]), $shl::<$mantissa>(exponent.0[I])),
                    $dupu($one_bits)
                )));
                let k = each!($vector, I => $sub(
                    $from_bits($or(exponent.0[I], $dupu($integer_bits))),
                    $dup($integer)
                ));
                (mantissa, k)
            }
            #[inline(always)]
            fn align(self, to: Self) -> (Self, Self) {
                let power = each!($mask, I => $and(
                    $addu($subu($to_bits(self.0[I]), $to_bits(to.0[I])), $dupu(1 << ($mantissa - 1))),
                    $dupu($ones << $mantissa)
                ));
                let aligned = each!($vector, I => $from_bits($subu($to_bits(self.0[I]), power.0[I])));
                // k + bias is positive: its bits below the exponent of 2^mantissa make a number to subtract from.
                let k = each!($vector, I => $sub(
                    $from_bits($or($shr::<$mantissa>($addu(power.0[I], $dupu(1 << ($uint::BITS - 1)))), $dupu($integer_bits))),
                    $dup($integer_less + (1u64 << ($uint::BITS - 1 - $mantissa)) as $elem)
                ));
                (aligned, k)
            }
            #[inline(always)]
            fn add_to(self, sum: &mut Sum) {
                let mut lanes = [0.0; $lanes];
                self.store(&mut lanes);
                for (total, x) in sum.iter_mut().zip(lanes) {
                    *total += x.to_f64();
                }
            }
        }
    };
}

vector!(
    F32, M32, f32, u32, 16, 23, u32::MAX,
    127 << 23, 0x3f80_0000 - 0x3f35_04f3, 0x4b00_0000, 8_388_608.0, 8_388_608.0 + 127.0,
    vdupq_n_f32 vld1q_f32 vst1q_f32 vaddq_f32 vsubq_f32 vmulq_f32 vdivq_f32 vfmaq_f32 vsqrtq_f32 vabsq_f32
    vcltq_f32 vcgtq_f32 vceqq_f32 vbslq_f32 vandq_u32 vorrq_u32 vshlq_n_u32 vshrq_n_u32 vaddq_u32 vsubq_u32
    vdupq_n_u32 vreinterpretq_u32_f32 vreinterpretq_f32_u32 vaddvq_u32 31
);
vector!(
    F64, M64, f64, u64, 8, 52, u64::MAX,
    1023 << 52, 0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd, 0x4330_0000_0000_0000,
    4_503_599_627_370_496.0, 4_503_599_627_370_496.0 + 1023.0,
    vdupq_n_f64 vld1q_f64 vst1q_f64 vaddq_f64 vsubq_f64 vmulq_f64 vdivq_f64 vfmaq_f64 vsqrtq_f64 vabsq_f64
    vcltq_f64 vcgtq_f64 vceqq_f64 vbslq_f64 vandq_u64 vorrq_u64 vshlq_n_u64 vshrq_n_u64 vaddq_u64 vsubq_u64
    vdupq_n_u64 vreinterpretq_u64_f64 vreinterpretq_f64_u64 vaddvq_u64 63
);
