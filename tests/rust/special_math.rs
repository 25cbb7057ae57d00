//! Worst errors of `src/simd/special.rs`, in units in the last place, on every instruction set of the machine.
//!
//! Float32 is held against float64 libm, float64 against libm itself, whose own error is allowed for. `--include-ignored`
//! takes every float32.

use std::sync::{Mutex, PoisonError};

use kullback::simd::{Element, Isa, Kernel, Lanes, Simd, Vector, dispatch, set_isa, special};

#[derive(Clone, Copy, Debug)]
enum Function {
    ExpAny,
    OneLessExp,
}

/// A function of many numbers on the instruction set in use.
struct Apply<'a, T>(Function, &'a [T], &'a mut [T]);

impl<T: Lanes> Kernel for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (x, y) in self.1.chunks_exact(T::LANES).zip(self.2.chunks_exact_mut(T::LANES)) {
            let x = T::In::<S>::load(x);
            match self.0 {
                Function::ExpAny => special::exp_any(x),
                Function::OneLessExp => special::one_less_exp(x),
            }
            .store(y);
        }
    }
}

/// The function on every instruction set, which must give the same bits.
fn apply<T: Lanes>(function: Function, from: &[T]) -> Vec<T> {
    /// The instruction set is one for the whole process, so tests that choose it take turns.
    static ISA: Mutex<()> = Mutex::new(());
    let _turn = ISA.lock().unwrap_or_else(PoisonError::into_inner);
    let mut padded = from.to_vec();
    padded.resize(from.len().next_multiple_of(T::LANES), T::from_f64(1.0));
    let mut first: Option<Vec<T>> = None;
    for isa in Isa::available() {
        assert!(set_isa(Some(isa)));
        let mut to = padded.clone();
        dispatch(Apply(function, &padded, &mut to));
        let first = first.get_or_insert_with(|| to.clone());
        let differ = first.iter().zip(&to).position(|(a, b)| a.to_f64().to_bits() != b.to_f64().to_bits());
        assert!(differ.is_none(), "{function:?}({:?}) on {isa:?}", padded[differ.unwrap_or(0)]);
    }
    set_isa(None);
    let mut to = first.expect("scalar code is always available");
    to.truncate(from.len());
    to
}

fn exact(function: Function, x: f64) -> f64 {
    match function {
        Function::ExpAny => libm::exp(x),
        Function::OneLessExp => -libm::expm1(-x),
    }
}

/// The worst error in ulp where the result is a normal number; what lies outside must be 0 or infinite.
fn worst<T: Lanes>(function: Function, from: &[T]) -> f64 {
    let precision = if T::LANES == f32::LANES { 24 } else { 53 };
    let (least, most) =
        if precision == 24 { (2f64.powi(-125), f64::from(f32::MAX)) } else { (2f64.powi(-1021), f64::MAX) };
    let mut worst = 0.0f64;
    for (x, y) in from.iter().zip(apply(function, from)) {
        let (y, exact) = (y.to_f64(), exact(function, x.to_f64()));
        if exact == 0.0 || exact >= most * (1.0 - 1e-12) {
            assert!(y == exact || y.is_infinite(), "{function:?}({x:?}) is {y}");
        } else if exact < least {
            assert!(
                y == 0.0 || matches!(function, Function::OneLessExp) || (y / exact - 1.0).abs() < 1e-6,
                "{function:?}({x:?}) is {y}"
            );
        } else {
            let ulp = libm::scalbn(1.0, libm::ilogb(exact) - precision + 1);
            worst = worst.max((y - exact).abs() / ulp);
        }
    }
    worst
}

fn check<T: Lanes>(numbers: &[T], slack: f64) {
    let positive: Vec<T> = numbers.iter().copied().filter(|x| x.to_f64() >= 0.0).collect();
    for (function, numbers, bound) in [
        (Function::ExpAny, numbers, 1.0),
        (Function::OneLessExp, &positive[..], if T::LANES == f32::LANES { 2.2 } else { 2.5 }),
    ] {
        let found = worst(function, numbers);
        println!("{function:?} {}: {found:.3} ulp", std::any::type_name::<T>());
        assert!(found <= bound + slack, "{function:?}: {found}");
    }
}

#[test]
fn sample_of_float32() {
    let numbers: Vec<f32> = (0..1u32 << 18).map(|i| f32::from_bits(i << 14)).filter(|x| !x.is_nan()).collect();
    check(&numbers, 0.0);
    check(&(-120_000..120_000).map(|i| i as f32 * 0.001).collect::<Vec<_>>(), 0.0);
}

#[test]
fn sample_of_float64() {
    // libm itself is off by up to half a unit and a little more.
    let numbers: Vec<f64> = (0..1u64 << 18).map(|i| f64::from_bits(i << 46)).filter(|x| !x.is_nan()).collect();
    check(&numbers, 0.6);
    check(&(-200_000..200_000).map(|i| f64::from(i) * 0.004).collect::<Vec<_>>(), 0.6);
}

#[test]
#[ignore = "minutes: every float32"]
fn every_float32() {
    for chunk in 0..1u32 << 10 {
        let numbers: Vec<f32> =
            (0..1u32 << 22).map(|i| f32::from_bits((chunk << 22) | i)).filter(|x| !x.is_nan()).collect();
        check(&numbers, 0.0);
    }
}

#[test]
fn ends() {
    let x = [f64::NEG_INFINITY, -1e300, -746.0, -0.0, 0.0, 709.0, 711.0, 1e300, f64::INFINITY];
    let y = apply(Function::ExpAny, &x);
    assert_eq!(y[..5], [0.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(y[6..], [f64::INFINITY; 3]);
    assert_eq!(apply(Function::OneLessExp, &[0.0, f64::INFINITY, 1e300]), [0.0, 1.0, 1.0]);
    let narrow = apply(Function::ExpAny, &[f32::NEG_INFINITY, -104.0, 0.0, 88.0, 89.0, f32::INFINITY]);
    assert_eq!([narrow[0], narrow[1], narrow[2], narrow[4], narrow[5]], [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
}
