//! AVX2 with FMA and F16C: two 256-bit registers a vector. Nothing but intrinsics.
//!
//! Safety of every block: the types of this file are reachable only below [`enter`], which the caller may use only
//! after AVX2, FMA and F16C were detected; loads and stores are bounds-checked first.

#[allow(clippy::wildcard_imports)] // intrinsics, by the dozen
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

use super::{EIGHTHS_F32, EIGHTHS_F64, Element, Kernel, Mask, Simd, Sum, Vector};

/// The instruction set.
pub struct Avx2;

impl Simd for Avx2 {
    type F32 = F32;
    type F64 = F64;

    #[inline(never)]
    fn apart<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: see the head of this file.
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    fn load_f16(from: &[f16]) -> F32 {
        let from = &from[..f32::LANES];
        // SAFETY: the slice holds sixteen numbers of two bytes.
        unsafe {
            let half = |i: usize| _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(i).cast()));
            F32(half(0), half(8))
        }
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> F32 {
        let from = &from[..f32::LANES];
        // SAFETY: as above.
        unsafe {
            let half = |i: usize| {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(i).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            };
            F32(half(0), half(8))
        }
    }
}

/// Runs a kernel compiled for AVX2.
///
/// # Safety
/// The machine must have AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// Sixteen float32 lanes, also the mask over them.
#[derive(Clone, Copy)]
pub struct F32(__m256, __m256);
/// Eight float64 lanes, also the mask over them.
#[derive(Clone, Copy)]
pub struct F64(__m256d, __m256d);

macro_rules! operators {
    ($vector:ident: $($op:ident $method:ident $intrinsic:ident),*) => {$(
        impl $op for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: see the head of this file.
                unsafe { Self($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
            }
        }
    )*};
}
operators!(F32: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
operators!(F64: Add add _mm256_add_pd, Sub sub _mm256_sub_pd, Mul mul _mm256_mul_pd, Div div _mm256_div_pd);

macro_rules! mask {
    ($vector:ident, $and:ident, $or:ident, $movemask:ident, $full:literal) => {
        impl Mask for $vector {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                // SAFETY: see the head of this file.
                unsafe { Self($and(self.0, other.0), $and(self.1, other.1)) }
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                // SAFETY: see the head of this file.
                unsafe { Self($or(self.0, other.0), $or(self.1, other.1)) }
            }
            #[inline(always)]
            fn all(self) -> bool {
                // SAFETY: see the head of this file.
                unsafe { $movemask($and(self.0, self.1)) == $full }
            }
            #[inline(always)]
            fn bits(self) -> u32 {
                // SAFETY: see the head of this file.
                unsafe { $movemask(self.0) as u32 | (($movemask(self.1) as u32) << ($full as u32).count_ones()) }
            }
        }
    };
}
mask!(F32, _mm256_and_ps, _mm256_or_ps, _mm256_movemask_ps, 0xff);
mask!(F64, _mm256_and_pd, _mm256_or_pd, _mm256_movemask_pd, 0xf);

impl Vector for F32 {
    type Elem = f32;
    type Mask = Self;
    type Wide = F64;

    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a prefetch does not read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..f32::LANES];
        // SAFETY: the slice holds sixteen elements.
        unsafe { Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..f32::LANES];
        // SAFETY: the slice holds sixteen elements.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0), _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, other.1)) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0), _mm256_cmp_ps::<_CMP_EQ_OQ>(self.1, other.1)) }
    }
    #[inline(always)]
    fn select(mask: Self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_blendv_ps(b.0, a.0, mask.0), _mm256_blendv_ps(b.1, a.1, mask.1)) }
    }
    #[inline(always)]
    fn shift_exponent(self, n: Self) -> Self {
        #[inline(always)]
        fn half(x: __m256, n: __m256) -> __m256 {
            // SAFETY: see the head of this file.
            unsafe {
                let k = _mm256_slli_epi32::<23>(_mm256_castps_si256(n));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), k))
            }
        }
        Self(half(self.0, n.0), half(self.1, n.1))
    }
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        #[inline(always)]
        fn half(n: __m256) -> __m256 {
            // SAFETY: the table holds eight numbers.
            unsafe {
                let table = _mm256_loadu_si256(EIGHTHS_F32.as_ptr().cast());
                let bits = _mm256_castps_si256(n);
                let power = _mm256_permutevar8x32_epi32(table, bits);
                _mm256_castsi256_ps(_mm256_add_epi32(power, _mm256_slli_epi32::<20>(bits)))
            }
        }
        Self(half(self.0), half(self.1))
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        #[inline(always)]
        fn half(x: __m256) -> (__m256, __m256) {
            const OFFSET: i32 = 0x3f80_0000 - 0x3f35_04f3; // bits of 1 less bits of √½
            // SAFETY: see the head of this file.
            unsafe {
                let bits = _mm256_castps_si256(x);
                let exponent = _mm256_srli_epi32::<23>(_mm256_add_epi32(bits, _mm256_set1_epi32(OFFSET)));
                let scaled = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(exponent));
                let mantissa = _mm256_castsi256_ps(_mm256_add_epi32(scaled, _mm256_set1_epi32(127 << 23)));
                let k = _mm256_castsi256_ps(_mm256_or_si256(exponent, _mm256_set1_epi32(0x4b00_0000)));
                (mantissa, _mm256_sub_ps(k, _mm256_set1_ps(8_388_608.0 + 127.0)))
            }
        }
        let ((m0, k0), (m1, k1)) = (half(self.0), half(self.1));
        (Self(m0, m1), Self(k0, k1))
    }
    #[inline(always)]
    fn align(self, to: Self) -> (Self, Self) {
        #[inline(always)]
        fn half(x: __m256, to: __m256) -> (__m256, __m256) {
            // SAFETY: see the head of this file.
            unsafe {
                let bits = _mm256_castps_si256(x);
                let gap = _mm256_sub_epi32(bits, _mm256_castps_si256(to));
                let rounded = _mm256_add_epi32(gap, _mm256_set1_epi32(1 << 22));
                let power = _mm256_and_si256(rounded, _mm256_set1_epi32(-1 << 23));
                let aligned = _mm256_castsi256_ps(_mm256_sub_epi32(bits, power));
                (aligned, _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(power)))
            }
        }
        let ((a0, k0), (a1, k1)) = (half(self.0, to.0), half(self.1, to.1));
        (Self(a0, a1), Self(k0, k1))
    }
    #[inline(always)]
    fn add_to(self, sum: &mut Sum) {
        let mut lanes = [0.0f32; f32::LANES];
        self.store(&mut lanes);
        for (total, x) in sum.iter_mut().zip(lanes) {
            *total += f64::from(x);
        }
    }
}

impl Vector for F64 {
    type Elem = f64;
    type Mask = Self;
    type Wide = F64;

    #[inline(always)]
    fn prefetch(at: *const f64) {
        // SAFETY: a prefetch does not read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn splat(x: f64) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_set1_pd(x), _mm256_set1_pd(x)) }
    }
    #[inline(always)]
    fn load(from: &[f64]) -> Self {
        let from = &from[..f64::LANES];
        // SAFETY: the slice holds eight elements.
        unsafe { Self(_mm256_loadu_pd(from.as_ptr()), _mm256_loadu_pd(from.as_ptr().add(4))) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f64]) {
        let to = &mut to[..f64::LANES];
        // SAFETY: the slice holds eight elements.
        unsafe {
            _mm256_storeu_pd(to.as_mut_ptr(), self.0);
            _mm256_storeu_pd(to.as_mut_ptr().add(4), self.1);
        }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_fmadd_pd(self.0, a.0, b.0), _mm256_fmadd_pd(self.1, a.1, b.1)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_sqrt_pd(self.0), _mm256_sqrt_pd(self.1)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe {
            let sign = _mm256_set1_pd(-0.0);
            Self(_mm256_andnot_pd(sign, self.0), _mm256_andnot_pd(sign, self.1))
        }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_max_pd(self.0, other.0), _mm256_max_pd(self.1, other.1)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_min_pd(self.0, other.0), _mm256_min_pd(self.1, other.1)) }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_cmp_pd::<_CMP_LT_OQ>(self.0, other.0), _mm256_cmp_pd::<_CMP_LT_OQ>(self.1, other.1)) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_cmp_pd::<_CMP_EQ_OQ>(self.0, other.0), _mm256_cmp_pd::<_CMP_EQ_OQ>(self.1, other.1)) }
    }
    #[inline(always)]
    fn select(mask: Self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm256_blendv_pd(b.0, a.0, mask.0), _mm256_blendv_pd(b.1, a.1, mask.1)) }
    }
    #[inline(always)]
    fn shift_exponent(self, n: Self) -> Self {
        #[inline(always)]
        fn half(x: __m256d, n: __m256d) -> __m256d {
            // SAFETY: see the head of this file.
            unsafe {
                let k = _mm256_slli_epi64::<52>(_mm256_castpd_si256(n));
                _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(x), k))
            }
        }
        Self(half(self.0, n.0), half(self.1, n.1))
    }
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        #[inline(always)]
        fn half(n: __m256d) -> __m256d {
            // SAFETY: the table holds eight numbers.
            unsafe {
                let low = _mm256_loadu_si256(EIGHTHS_F64.as_ptr().cast());
                let high = _mm256_loadu_si256(EIGHTHS_F64.as_ptr().add(4).cast());
                let bits = _mm256_castpd_si256(n);
                // AVX2 picks numbers of 32 bits: both halves of the one of 64.
                let both = _mm256_slli_epi32::<1>(_mm256_shuffle_epi32::<0b10_10_00_00>(bits));
                let place = _mm256_add_epi32(both, _mm256_set1_epi64x(1 << 32));
                let pick = |table| _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(table, place));
                let third_bit = _mm256_castsi256_pd(_mm256_slli_epi64::<61>(bits));
                let power = _mm256_castpd_si256(_mm256_blendv_pd(pick(low), pick(high), third_bit));
                _mm256_castsi256_pd(_mm256_add_epi64(power, _mm256_slli_epi64::<49>(bits)))
            }
        }
        Self(half(self.0), half(self.1))
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        #[inline(always)]
        fn half(x: __m256d) -> (__m256d, __m256d) {
            const OFFSET: i64 = 0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd;
            // SAFETY: see the head of this file.
            unsafe {
                let bits = _mm256_castpd_si256(x);
                let exponent = _mm256_srli_epi64::<52>(_mm256_add_epi64(bits, _mm256_set1_epi64x(OFFSET)));
                let scaled = _mm256_sub_epi64(bits, _mm256_slli_epi64::<52>(exponent));
                let mantissa = _mm256_castsi256_pd(_mm256_add_epi64(scaled, _mm256_set1_epi64x(1023 << 52)));
                let k = _mm256_castsi256_pd(_mm256_or_si256(exponent, _mm256_set1_epi64x(0x4330_0000_0000_0000)));
                (mantissa, _mm256_sub_pd(k, _mm256_set1_pd(4_503_599_627_370_496.0 + 1023.0)))
            }
        }
        let ((m0, k0), (m1, k1)) = (half(self.0), half(self.1));
        (Self(m0, m1), Self(k0, k1))
    }
    #[inline(always)]
    fn align(self, to: Self) -> (Self, Self) {
        #[inline(always)]
        fn half(x: __m256d, to: __m256d) -> (__m256d, __m256d) {
            // SAFETY: see the head of this file.
            unsafe {
                let bits = _mm256_castpd_si256(x);
                let gap = _mm256_sub_epi64(bits, _mm256_castpd_si256(to));
                let rounded = _mm256_add_epi64(gap, _mm256_set1_epi64x(1 << 51));
                let power = _mm256_and_si256(rounded, _mm256_set1_epi64x(-1 << 52));
                let aligned = _mm256_castsi256_pd(_mm256_sub_epi64(bits, power));
                // AVX2 neither shifts nor converts signed 64-bit integers: k + 2048 is positive.
                let biased = _mm256_add_epi64(power, _mm256_set1_epi64x(i64::MIN));
                let integer = _mm256_or_si256(_mm256_srli_epi64::<52>(biased), _mm256_set1_epi64x(0x4330 << 48));
                let k = _mm256_sub_pd(_mm256_castsi256_pd(integer), _mm256_set1_pd(4_503_599_627_370_496.0 + 2048.0));
                (aligned, k)
            }
        }
        let ((a0, k0), (a1, k1)) = (half(self.0, to.0), half(self.1, to.1));
        (Self(a0, a1), Self(k0, k1))
    }
    #[inline(always)]
    fn add_to(self, sum: &mut Sum) {
        let mut lanes = [0.0; f64::LANES];
        self.store(&mut lanes);
        for (total, x) in sum.iter_mut().zip(lanes) {
            *total += x;
        }
    }
}
