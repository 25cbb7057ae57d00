//! Lane operations that move bits: alignment of exponents, masks, smallest and largest lanes, half precision.
//!
//! Each is held against its definition on scalars, on every instruction set of the machine.

use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use kullback::simd::{Isa, Kernel, Lanes, Mask, Simd, Vector, dispatch, math, set_isa};

/// The instruction set is one for the whole process, so tests that choose it take turns.
static ISA: Mutex<()> = Mutex::new(());

fn on_every_isa(test: impl Fn(Isa)) {
    let _turn = ISA.lock().unwrap_or_else(PoisonError::into_inner);
    for isa in Isa::available() {
        assert!(set_isa(Some(isa)));
        test(isa);
    }
    set_isa(None);
}

/// `x.align(to)` for each pair: the aligned number and the power.
struct Align<'a, T>(&'a [T], &'a [T]);

impl<T: Lanes> Kernel for Align<'_, T> {
    type Output = Vec<(f64, f64)>;
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let pairs = self.0.chunks_exact(T::LANES).zip(self.1.chunks_exact(T::LANES));
        let mut found = Vec::new();
        for (x, to) in pairs {
            let (aligned, power) = T::In::<S>::load(x).align(T::In::<S>::load(to));
            let (mut a, mut k) = ([T::from_f64(0.0); 16], [T::from_f64(0.0); 16]);
            aligned.store(&mut a);
            power.store(&mut k);
            found.extend((0..T::LANES).map(|i| (a[i].to_f64(), k[i].to_f64())));
        }
        found
    }
}

fn check_align<T: Lanes>(isa: Isa, least: i32, greatest: i32) {
    let mantissas = [1.0, 1.25, 1.499, 1.5, 1.501, 1.75, 1.999];
    let powers = [least + 1, least / 2, -1, 0, 1, 2, greatest / 2, greatest - 2];
    let numbers: Vec<f64> = powers.iter().flat_map(|&n| mantissas.iter().map(move |m| libm::scalbn(*m, n))).collect();
    let (x, to): (Vec<T>, Vec<T>) =
        numbers.iter().flat_map(|&x| numbers.iter().map(move |&to| (T::from_f64(x), T::from_f64(to)))).unzip();
    let whole = x.len() - x.len() % T::LANES;
    let found = dispatch(Align(&x[..whole], &to[..whole]));
    for (i, (aligned, power)) in found.into_iter().enumerate() {
        let (x, to) = (x[i].to_f64(), to[i].to_f64());
        assert_eq!(libm::scalbn(aligned, power as i32), x, "{isa:?}: {x} to {to}");
        let ratio = aligned / to;
        assert!((2.0 / 3.0 - 1e-6..=1.5 + 1e-6).contains(&ratio), "{isa:?}: {x} to {to} gives {ratio}");
    }
}

#[test]
fn align_brings_any_number_near_any_other() {
    on_every_isa(|isa| {
        check_align::<f32>(isa, -126, 128);
        check_align::<f64>(isa, -1022, 1024);
    });
}

/// What is left of each number beside its nearest eighth, and the power of two of that eighth, less an integer.
struct Eighths<'a, T>(&'a [T], f64);

impl<T: Lanes> Kernel for Eighths<'_, T> {
    type Output = Vec<(f64, f64)>;
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let magic = math::magic_of_eighths::<T::In<S>>(self.1);
        let mut found = Vec::new();
        for x in self.0.chunks_exact(T::LANES) {
            let x = T::In::<S>::load(x);
            let n = x + magic;
            let (mut rest, mut power) = ([T::from_f64(0.0); 16], [T::from_f64(0.0); 16]);
            x.less_eighths(n, magic).store(&mut rest);
            n.exp2_eighths().store(&mut power);
            found.extend((0..T::LANES).map(|i| (rest[i].to_f64(), power[i].to_f64())));
        }
        found
    }
}

fn check_eighths<T: Lanes>(isa: Isa, taken: f64, places: i32) {
    // Sixteenths are halfway between eighths, and go to the even one.
    let x: Vec<T> = (-640..640).map(|k| T::from_f64(taken + f64::from(k) / 64.0)).collect();
    for (x, (rest, power)) in x.iter().zip(dispatch(Eighths(&x, taken))) {
        let x = x.to_f64();
        let nearest = (8.0 * x).round_ties_even() / 8.0;
        assert_eq!(rest, x - nearest, "{isa:?}: {x}");
        let exact = libm::exp2(nearest - taken);
        assert!((power / exact - 1.0).abs() < libm::scalbn(1.0, -places), "{isa:?}: {x} gives {power}");
    }
}

#[test]
fn eighths_are_the_nearest_and_their_powers_those_of_two() {
    on_every_isa(|isa| {
        for taken in [0.0, 1.0, -7.0, 1000.0, 500_001.0] {
            check_eighths::<f32>(isa, if taken > 1e5 { 100_001.0 } else { taken }, 24);
            check_eighths::<f64>(isa, taken, 52);
        }
    });
}

/// Sixteen patterns of bits widened as float16 and as bfloat16.
struct Widen([u16; 16]);

impl Kernel for Widen {
    type Output = [[f32; 16]; 2];
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let mut wide = [[0.0; 16]; 2];
        S::load_f16(&self.0.map(f16::from_bits)).store(&mut wide[0]);
        S::load_bf16(&self.0.map(bf16::from_bits)).store(&mut wide[1]);
        wide
    }
}

#[test]
fn every_half_precision_number_is_widened_exactly() {
    on_every_isa(|isa| {
        for start in (0..=u16::MAX).step_by(16) {
            let bits = std::array::from_fn(|i| start + i as u16);
            let wide = dispatch(Widen(bits));
            for (i, bits) in bits.into_iter().enumerate() {
                let exact = [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()];
                for (found, exact) in [wide[0][i], wide[1][i]].into_iter().zip(exact) {
                    let same = found.to_bits() == exact.to_bits() || (found.is_nan() && exact.is_nan());
                    assert!(same, "{isa:?}: {bits:#06x} is {found}, not {exact}");
                }
            }
        }
    });
}

/// `a.min(b)`, `a.max(b)`, the largest lane of `a`, and the lanes below 5.
struct Extremes([f32; 16], [f32; 16]);

impl Kernel for Extremes {
    type Output = ([f32; 16], [f32; 16], f32, u32);
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let (a, b) = (S::F32::load(&self.0), S::F32::load(&self.1));
        let (mut least, mut most) = ([0.0; 16], [0.0; 16]);
        a.min(b).store(&mut least);
        a.max(b).store(&mut most);
        (least, most, a.largest(), S::F32::first(5).count())
    }
}

#[test]
fn extremes_have_one_rule_for_nan_and_signed_zero() {
    let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, -1.0, 1e-45];
    on_every_isa(|isa| {
        for (i, &x) in special.iter().enumerate() {
            let a = [x; 16];
            let b = std::array::from_fn(|j| special[j % special.len()]);
            let (least, most, ..) = dispatch(Extremes(a, b));
            for (j, &y) in b.iter().enumerate() {
                assert_eq!(least[j].to_bits(), (if x < y { x } else { y }).to_bits(), "{isa:?}: min {i} {j}");
                assert_eq!(most[j].to_bits(), (if x > y { x } else { y }).to_bits(), "{isa:?}: max {i} {j}");
            }
        }
        for place in 0..16 {
            let a = std::array::from_fn(|i| if i == place { 3.0 } else { -(i as f32) });
            let (.., largest, first) = dispatch(Extremes(a, a));
            assert_eq!((largest, first), (3.0, 5), "{isa:?}");
        }
    });
}
