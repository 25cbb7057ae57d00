//! Lanes: one algorithm, several instruction sets, the same bits.
//!
//! A kernel is written once, generic over [`Vector`]: sixteen float32 lanes or eight float64 lanes, *whatever registers
//! hold them* (one 512-bit register, two 256-bit ones, four 128-bit ones, or an array). The lane count is part of the
//! result: sums are taken lane by lane, so a fixed count, one order of operations and fused multiply-adds everywhere
//! give the same bits on every machine. Only operations that IEEE 754 rounds correctly are used, and `max` has one
//! stated rule for NaN, so no instruction set can differ.
//!
//! [`dispatch`] detects the instruction set once and enters one `#[target_feature]` trampoline; everything below it is
//! `#[inline(always)]` and so is compiled for that instruction set. Adding a kernel never touches this file.
//!
//! Why our own trait: see `docs/simd-choice.md` for the measured trial against `pulp` and `fearless_simd`.
//!
//! Safety: the vector types are private to this module and reach a kernel only as the type parameter that a
//! trampoline chose after detection, so an intrinsic never runs on a machine that lacks it.

mod coefficients;
pub mod math;
mod scalar;
pub mod special;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use half::{bf16, f16, slice::HalfFloatSliceExt};

use std::ops::{Add, Div, Mul, Sub};
use std::sync::atomic::{AtomicU8, Ordering};

/// Lanes of the float64 accumulators that every vector adds into.
pub const SUM_LANES: usize = 16;

/// Block sums widened to float64, lane by lane.
pub type Sum = [f64; SUM_LANES];

/// Adds the lanes of a sum in one fixed order.
#[inline(always)]
pub fn total(sum: &Sum) -> f64 {
    let mut lanes = *sum;
    let mut width = SUM_LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// A floating-point type that lanes are made of.
pub trait Element:
    math::Coefficients
    + Copy
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + 'static
{
    /// Lanes of a [`Vector`] of this element.
    const LANES: usize;
    /// 1.5 · 2^mantissa: adding it rounds to an integer that then stands in the low bits.
    const MAGIC: f64;
    /// Exponent of the smallest normal number.
    const MIN_EXPONENT: f64;
    /// Rounds from float64.
    fn from_f64(x: f64) -> Self;
    /// Widens exactly.
    fn to_f64(self) -> f64;
    /// 2^(k/8), k the integer in the low bits: no range check.
    fn exp2_eighths(self) -> Self;
}

/// The bits of 2^(j/8), less what j itself adds when it is shifted to where the eighths of an exponent would stand.
macro_rules! eighths {
    ($bits:ident, $mantissa:literal, $powers:expr) => {{
        let mut eighths = [0; 8];
        let mut j = 0;
        while j < 8 {
            eighths[j] = $powers[j].to_bits() - ((j as $bits) << ($mantissa - 3));
            j += 1;
        }
        eighths
    }};
}
const EIGHTHS_F32: [u32; 8] = eighths!(u32, 23, coefficients::EIGHTHS_F32);
const EIGHTHS_F64: [u64; 8] = eighths!(u64, 52, coefficients::EIGHTHS_F64);

impl Element for f32 {
    const LANES: usize = 16;
    const MAGIC: f64 = 12_582_912.0;
    const MIN_EXPONENT: f64 = -126.0;
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        let bits = self.to_bits();
        Self::from_bits(EIGHTHS_F32[bits as usize % 8].wrapping_add(bits << 20))
    }
}

impl Element for f64 {
    const LANES: usize = 8;
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    const MIN_EXPONENT: f64 = -1022.0;
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        let bits = self.to_bits();
        Self::from_bits(EIGHTHS_F64[bits as usize % 8].wrapping_add(bits << 49))
    }
}

/// One truth value a lane.
pub trait Mask: Copy {
    /// Lanes where both hold.
    fn and(self, other: Self) -> Self;
    /// Lanes where either holds.
    fn or(self, other: Self) -> Self;
    /// True if it holds in every lane.
    fn all(self) -> bool;
    /// One bit a lane, the first lane's the lowest.
    fn bits(self) -> u32;
    /// The number of lanes where it holds.
    #[inline(always)]
    fn count(self) -> u32 {
        self.bits().count_ones()
    }
}

/// Sixteen float32 or eight float64 lanes.
pub trait Vector: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// The lane type.
    type Elem: Element;
    /// The result of a comparison.
    type Mask: Mask;
    /// The float64 vector of the same instruction set.
    type Wide: Vector<Elem = f64>;

    /// The same value in every lane.
    fn splat(x: Self::Elem) -> Self;
    /// The first lanes of a slice.
    fn load(from: &[Self::Elem]) -> Self;
    /// Writes the lanes to the front of a slice.
    fn store(self, to: &mut [Self::Elem]);
    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self;
    /// `self` where `self > other`, else `other` (also where either is NaN).
    fn max(self, other: Self) -> Self;
    /// `self` where `self < other`, else `other` (also where either is NaN).
    fn min(self, other: Self) -> Self;
    /// Ordered less-than: false where either is NaN.
    fn lt(self, other: Self) -> Self::Mask;
    /// Ordered equality: false where either is NaN.
    fn eq(self, other: Self) -> Self::Mask;
    /// `a` where the mask holds, else `b`.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;
    /// `self · 2^k`, k the integer in the low bits of `n`, by integer addition: no range check.
    fn shift_exponent(self, n: Self) -> Self;
    /// Splits a positive normal number into a mantissa in [√½, √2) and its exponent.
    fn split_exponent(self) -> (Self, Self);
    /// `self · 2^-k` and k, for the integer k that brings it within a factor of 3/2 of `to`; both positive and normal,
    /// and so must be the double and the half of `to`.
    fn align(self, to: Self) -> (Self, Self);
    /// Adds each lane to the float64 sums.
    fn add_to(self, sum: &mut Sum);

    /// 2^(k/8), k the integer in the low bits: no range check.
    #[inline(always)]
    fn exp2_eighths(self) -> Self {
        let mut lanes = [Self::Elem::from_f64(0.0); SUM_LANES];
        self.store(&mut lanes);
        Self::load(&lanes.map(Self::Elem::exp2_eighths))
    }
    /// `self` less the nearest multiple of 1/8, which is `n - magic`.
    #[inline(always)]
    fn less_eighths(self, n: Self, magic: Self) -> Self {
        self - (n - magic)
    }

    /// Asks for the cache line at an address that may soon be read; never reads, so any address will do.
    #[inline(always)]
    fn prefetch(at: *const Self::Elem) {
        let _ = at;
    }
    /// A constant given in float64.
    #[inline(always)]
    fn constant(x: f64) -> Self {
        Self::splat(Self::Elem::from_f64(x))
    }
    /// Constants given in float64. (`map` would not be compiled for the instruction set.)
    #[inline(always)]
    fn constants<const N: usize>(numbers: [f64; N]) -> [Self; N] {
        let mut found = [Self::zero(); N];
        for (found, x) in found.iter_mut().zip(numbers) {
            *found = Self::constant(x);
        }
        found
    }
    /// Zero in every lane.
    #[inline(always)]
    fn zero() -> Self {
        Self::constant(0.0)
    }
    /// One in every lane.
    #[inline(always)]
    fn one() -> Self {
        Self::constant(1.0)
    }
    /// Largest lane; lanes that may be NaN give any lane.
    #[inline(always)]
    fn largest(self) -> Self::Elem {
        let mut lanes = [Self::Elem::from_f64(0.0); SUM_LANES];
        self.store(&mut lanes);
        let mut width = Self::Elem::LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = if lanes[i + width] > lanes[i] { lanes[i + width] } else { lanes[i] };
            }
            width /= 2;
        }
        lanes[0]
    }
    /// True in the first `count` lanes.
    #[inline(always)]
    fn first(count: usize) -> Self::Mask {
        let lanes: [Self::Elem; SUM_LANES] = std::array::from_fn(|i| Self::Elem::from_f64(i as f64));
        Self::load(&lanes).lt(Self::constant(count as f64))
    }
}

/// The vectors of one instruction set.
pub trait Simd {
    /// Sixteen float32 lanes.
    type F32: Vector<Elem = f32, Wide = Self::F64>;
    /// Eight float64 lanes.
    type F64: Vector<Elem = f64, Wide = Self::F64>;

    /// Runs a part of a kernel in a function of its own. A loop that fills the registers is compiled as if it were
    /// alone, where inlined into a long kernel it shares them with everything around it, and spills: a row of
    /// transport costs took twice as long. (`inline(never)` on a
    /// function with target features is ignored, so what is never inlined is one without.)
    fn apart<K: Kernel>(kernel: K) -> K::Output;

    /// The first sixteen numbers of a slice, widened.
    #[inline(always)]
    fn load_f16(from: &[f16]) -> Self::F32 {
        let mut wide = [0.0; f32::LANES];
        from[..f32::LANES].convert_to_f32_slice(&mut wide);
        Self::F32::load(&wide)
    }
    /// The first sixteen numbers of a slice, widened.
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self::F32 {
        let from = &from[..f32::LANES];
        Self::F32::load(&std::array::from_fn::<f32, { f32::LANES }, _>(|i| from[i].to_f32()))
    }
    /// Widens the numbers of a slice, a multiple of sixteen.
    #[inline(always)]
    fn widen_f16(from: &[f16], out: &mut [f32]) {
        for (from, out) in from.chunks_exact(f32::LANES).zip(out.chunks_exact_mut(f32::LANES)) {
            Self::load_f16(from).store(out);
        }
    }
    /// Widens the numbers of a slice, a multiple of sixteen.
    #[inline(always)]
    fn widen_bf16(from: &[bf16], out: &mut [f32]) {
        for (from, out) in from.chunks_exact(f32::LANES).zip(out.chunks_exact_mut(f32::LANES)) {
            Self::load_bf16(from).store(out);
        }
    }
}

/// Picks a vector of an instruction set by its element, so that one kernel serves both precisions.
pub trait Lanes: Element {
    /// The vector of this element in the instruction set `S`.
    type In<S: Simd>: Vector<Elem = Self, Wide = S::F64>;
}
impl Lanes for f32 {
    type In<S: Simd> = S::F32;
}
impl Lanes for f64 {
    type In<S: Simd> = S::F64;
}

/// Work that is compiled once for every instruction set.
pub trait Kernel {
    /// What it computes.
    type Output;
    /// Must be `#[inline(always)]`, like everything it calls.
    fn run<S: Simd>(self) -> Self::Output;
}

/// An instruction set this crate has code for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Isa {
    /// Portable arrays; fused multiply-add in software where the machine has none.
    Scalar = 1,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2 = 2,
    /// x86-64 with AVX-512 F, BW, DQ and VL (Skylake-X and later, Zen 4 and later).
    Avx512 = 3,
    /// 64-bit Arm.
    Neon = 4,
}

impl Isa {
    /// Every instruction set, best last within one architecture.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// The instruction set of that name.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// True if this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Those this machine can run, best last.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }
}

/// The instruction set in use; 0 until first asked.
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// The instruction set in use: the best one, unless [`set_isa`] or `KULLBACK_ISA` (an available name) said otherwise.
pub fn isa() -> Isa {
    let known = CURRENT.load(Ordering::Relaxed);
    if let Some(isa) = Isa::ALL.into_iter().find(|isa| *isa as u8 == known) {
        return isa;
    }
    let wanted = std::env::var("KULLBACK_ISA").ok().and_then(|name| Isa::from_name(&name));
    let isa = wanted.filter(|isa| isa.is_available()).unwrap_or_else(Isa::best);
    CURRENT.store(isa as u8, Ordering::Relaxed);
    isa
}

/// Uses that instruction set from now on, or the best one for `None`; false if this machine lacks it.
pub fn set_isa(isa: Option<Isa>) -> bool {
    let isa = isa.unwrap_or_else(Isa::best);
    let available = isa.is_available();
    if available {
        CURRENT.store(isa as u8, Ordering::Relaxed);
    }
    available
}

/// Runs a kernel on the instruction set in use.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match isa() {
        // SAFETY: `isa` returns only instruction sets that were detected on this machine.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::enter(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::enter(kernel) },
        // SAFETY: every 64-bit Arm machine has NEON.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => unsafe { neon::enter(kernel) },
        _ => kernel.run::<scalar::Scalar>(),
    }
}
