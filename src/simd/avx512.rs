//! AVX-512: one 512-bit register a vector. Nothing but intrinsics.
//!
//! Safety of every block: the types of this file are reachable only below [`enter`], which the caller may use only
//! after AVX-512 F, BW, DQ and VL were detected; loads and stores are bounds-checked first.

#[allow(clippy::wildcard_imports)] // intrinsics, by the dozen
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

use super::{EIGHTHS_F32, EIGHTHS_F64, Element, Kernel, Mask, Simd, Sum, Vector};

/// What is left of a number beside the multiple of 2^-3 nearest to it, halfway cases to even, without exceptions.
const NEAREST_EIGHTH: i32 = 3 << 4 | 8;

/// The instruction set.
pub struct Avx512;

impl Simd for Avx512 {
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
        unsafe { F32(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> F32 {
        let from = &from[..f32::LANES];
        // SAFETY: as above.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            F32(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
        }
    }
    #[inline(always)]
    fn widen_bf16(from: &[bf16], out: &mut [f32]) {
        if std::is_x86_feature_detected!("avx512vbmi") {
            // SAFETY: the machine has what it needs.
            unsafe { widen_bf16_by_bytes(from, out) }
        } else {
            for (from, out) in from.chunks_exact(f32::LANES).zip(out.chunks_exact_mut(f32::LANES)) {
                Self::load_bf16(from).store(out);
            }
        }
    }
}

/// [`Simd::widen_bf16`] by one move of bytes a vector, where widening and shifting would take two operations from the
/// ports that the kernel lives on.
///
/// # Safety
/// The machine must have AVX-512 F and VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn widen_bf16_by_bytes(from: &[bf16], out: &mut [f32]) {
    // The two bytes of number i become the upper two of its four; the lower two are zero.
    let places: [u8; 64] = std::array::from_fn(|byte| (byte / 4 * 2 + byte % 2) as u8);
    let upper = 0xCCCC_CCCC_CCCC_CCCC;
    // SAFETY: the array has 64 bytes; the slices of the loop sixteen numbers each, of two bytes and of four.
    unsafe {
        let places = _mm512_loadu_si512(places.as_ptr().cast());
        for (from, out) in from.chunks_exact(f32::LANES).zip(out.chunks_exact_mut(f32::LANES)) {
            let numbers = _mm512_castsi256_si512(_mm256_loadu_si256(from.as_ptr().cast()));
            let wide = _mm512_maskz_permutexvar_epi8(upper, places, numbers);
            _mm512_storeu_si512(out.as_mut_ptr().cast(), wide);
        }
    }
}

/// Runs a kernel compiled for AVX-512.
///
/// # Safety
/// The machine must have AVX-512 F, BW, DQ and VL, and FMA.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Sixteen float32 lanes.
#[derive(Clone, Copy)]
pub struct F32(__m512);
/// Eight float64 lanes.
#[derive(Clone, Copy)]
pub struct F64(__m512d);

macro_rules! operators {
    ($vector:ident: $($op:ident $method:ident $intrinsic:ident),*) => {$(
        impl $op for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: see the head of this file.
                unsafe { Self($intrinsic(self.0, other.0)) }
            }
        }
    )*};
}
operators!(F32: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
operators!(F64: Add add _mm512_add_pd, Sub sub _mm512_sub_pd, Mul mul _mm512_mul_pd, Div div _mm512_div_pd);

macro_rules! masks {
    ($($mask:ident)*) => {$(
        impl Mask for $mask {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn all(self) -> bool {
                self == $mask::MAX
            }
            #[inline(always)]
            fn bits(self) -> u32 {
                u32::from(self)
            }
        }
    )*};
}
masks!(__mmask8 __mmask16);

impl Vector for F32 {
    type Elem = f32;
    type Mask = __mmask16;
    type Wide = F64;

    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a prefetch does not read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..f32::LANES];
        // SAFETY: the slice holds sixteen elements.
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..f32::LANES];
        // SAFETY: the slice holds sixteen elements.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_fmadd_ps(self.0, a.0, b.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_sqrt_ps(self.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __mmask16 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> __mmask16 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: __mmask16, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_mask_blend_ps(mask, b.0, a.0)) }
    }
    #[inline(always)]
    fn shift_exponent(self, n: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe {
            let k = _mm512_slli_epi32::<23>(_mm512_castps_si512(n.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), k)))
        }
    }
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        // SAFETY: the table holds eight numbers.
        unsafe {
            let table = _mm512_broadcast_i32x8(_mm256_loadu_si256(EIGHTHS_F32.as_ptr().cast()));
            let bits = _mm512_castps_si512(self.0);
            let power = _mm512_permutexvar_epi32(bits, table);
            Self(_mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_slli_epi32::<20>(bits))))
        }
    }
    #[inline(always)]
    fn less_eighths(self, _: Self, _: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_reduce_ps::<NEAREST_EIGHTH>(self.0)) }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        const OFFSET: i32 = 0x3f80_0000 - 0x3f35_04f3; // bits of 1 less bits of √½
        // SAFETY: see the head of this file.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let exponent = _mm512_srli_epi32::<23>(_mm512_add_epi32(bits, _mm512_set1_epi32(OFFSET)));
            let scaled = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(exponent));
            let mantissa = _mm512_castsi512_ps(_mm512_add_epi32(scaled, _mm512_set1_epi32(127 << 23)));
            let k = _mm512_castsi512_ps(_mm512_or_si512(exponent, _mm512_set1_epi32(0x4b00_0000)));
            (Self(mantissa), Self(_mm512_sub_ps(k, _mm512_set1_ps(8_388_608.0 + 127.0))))
        }
    }
    #[inline(always)]
    fn align(self, to: Self) -> (Self, Self) {
        // SAFETY: see the head of this file.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            // Bits of a positive number grow like its logarithm.
            let gap = _mm512_sub_epi32(bits, _mm512_castps_si512(to.0));
            let rounded = _mm512_add_epi32(gap, _mm512_set1_epi32(1 << 22));
            let power = _mm512_and_si512(rounded, _mm512_set1_epi32(-1 << 23));
            let aligned = _mm512_castsi512_ps(_mm512_sub_epi32(bits, power));
            (Self(aligned), Self(_mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(power))))
        }
    }
    #[inline(always)]
    fn add_to(self, sum: &mut Sum) {
        // SAFETY: a sum holds two vectors of eight float64.
        unsafe {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(self.0));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self.0));
            let at = sum.as_mut_ptr();
            _mm512_storeu_pd(at, _mm512_add_pd(_mm512_loadu_pd(at), low));
            _mm512_storeu_pd(at.add(8), _mm512_add_pd(_mm512_loadu_pd(at.add(8)), high));
        }
    }
}

impl Vector for F64 {
    type Elem = f64;
    type Mask = __mmask8;
    type Wide = F64;

    #[inline(always)]
    fn prefetch(at: *const f64) {
        // SAFETY: a prefetch does not read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn splat(x: f64) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_set1_pd(x)) }
    }
    #[inline(always)]
    fn load(from: &[f64]) -> Self {
        let from = &from[..f64::LANES];
        // SAFETY: the slice holds eight elements.
        unsafe { Self(_mm512_loadu_pd(from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f64]) {
        let to = &mut to[..f64::LANES];
        // SAFETY: the slice holds eight elements.
        unsafe { _mm512_storeu_pd(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_fmadd_pd(self.0, a.0, b.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_sqrt_pd(self.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_abs_pd(self.0)) }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_max_pd(self.0, other.0)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_min_pd(self.0, other.0)) }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __mmask8 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> __mmask8 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: __mmask8, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_mask_blend_pd(mask, b.0, a.0)) }
    }
    #[inline(always)]
    fn shift_exponent(self, n: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe {
            let k = _mm512_slli_epi64::<52>(_mm512_castpd_si512(n.0));
            Self(_mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(self.0), k)))
        }
    }
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        // SAFETY: the table holds eight numbers.
        unsafe {
            let table = _mm512_loadu_si512(EIGHTHS_F64.as_ptr().cast());
            let bits = _mm512_castpd_si512(self.0);
            let power = _mm512_permutexvar_epi64(bits, table);
            Self(_mm512_castsi512_pd(_mm512_add_epi64(power, _mm512_slli_epi64::<49>(bits))))
        }
    }
    #[inline(always)]
    fn less_eighths(self, _: Self, _: Self) -> Self {
        // SAFETY: see the head of this file.
        unsafe { Self(_mm512_reduce_pd::<NEAREST_EIGHTH>(self.0)) }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        const OFFSET: i64 = 0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd;
        // SAFETY: see the head of this file.
        unsafe {
            let bits = _mm512_castpd_si512(self.0);
            let exponent = _mm512_srli_epi64::<52>(_mm512_add_epi64(bits, _mm512_set1_epi64(OFFSET)));
            let scaled = _mm512_sub_epi64(bits, _mm512_slli_epi64::<52>(exponent));
            let mantissa = _mm512_castsi512_pd(_mm512_add_epi64(scaled, _mm512_set1_epi64(1023 << 52)));
            let k = _mm512_castsi512_pd(_mm512_or_si512(exponent, _mm512_set1_epi64(0x4330_0000_0000_0000)));
            (Self(mantissa), Self(_mm512_sub_pd(k, _mm512_set1_pd(4_503_599_627_370_496.0 + 1023.0))))
        }
    }
    #[inline(always)]
    fn align(self, to: Self) -> (Self, Self) {
        // SAFETY: see the head of this file.
        unsafe {
            let bits = _mm512_castpd_si512(self.0);
            let gap = _mm512_sub_epi64(bits, _mm512_castpd_si512(to.0));
            let rounded = _mm512_add_epi64(gap, _mm512_set1_epi64(1 << 51));
            let power = _mm512_and_si512(rounded, _mm512_set1_epi64(-1 << 52));
            let aligned = _mm512_castsi512_pd(_mm512_sub_epi64(bits, power));
            (Self(aligned), Self(_mm512_cvtepi64_pd(_mm512_srai_epi64::<52>(power))))
        }
    }
    #[inline(always)]
    fn add_to(self, sum: &mut Sum) {
        // SAFETY: a sum holds at least eight float64.
        unsafe {
            let at = sum.as_mut_ptr();
            _mm512_storeu_pd(at, _mm512_add_pd(_mm512_loadu_pd(at), self.0));
        }
    }
}
