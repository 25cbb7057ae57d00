//! Worst errors of the lane mathematics, in units in the last place, on every instruction set of the machine.
//!
//! The bounds are those of the table at the head of `src/simd/math.rs`. The oracle is float64 libm for float32 lanes and
//! double-double arithmetic for float64 lanes. A default run takes a dense sample; `--include-ignored` takes every
//! float32 in each function's domain. All instruction sets must give the same bits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kullback::simd::{Isa, Kernel, Lanes, Simd, Vector, dispatch, math, set_isa};
use rayon::prelude::*;

/// The instruction set is one for the whole process, so tests that choose it take turns.
static ISA: Mutex<()> = Mutex::new(());

fn take_turns() -> MutexGuard<'static, ()> {
    ISA.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Exp2,
    Expm1,
    PhiNear,
    PhiWide,
    Ln,
    Log1pSmall,
    JsNear,
    JsEven,
    HalfNear,
}
use Function::{Exp, Exp2, Expm1, HalfNear, JsEven, JsNear, Ln, Log1pSmall, PhiNear, PhiWide};

/// A function, the worst error allowed in float32 and in float64.
const BOUNDS: [(Function, f64, f64); 10] = [
    (Exp, 1.0, 1.0),
    (Exp2, 1.3, 1.2),
    (Expm1, 2.2, 2.5),
    (PhiNear, 2.8, 2.7),
    (PhiWide, 10.0, 8.0),
    (Ln, 3.0, 3.0),
    (Log1pSmall, 1.2, 1.3),
    (JsNear, 2.5, 2.2),
    (JsEven, 2.0, 2.0),
    (HalfNear, 2.2, 1.6),
];

/// A lane type and its oracle.
trait Real: Lanes {
    /// Bits of the significand, the hidden one included.
    const PRECISION: i32;
    /// Exponent of the last place of a subnormal number.
    const LAST: i32;
    fn bits(self) -> u64;
    fn exact(function: Function, x: Self) -> Double;
}

impl Real for f32 {
    const PRECISION: i32 = 24;
    const LAST: i32 = -149;
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
    fn exact(function: Function, x: f32) -> Double {
        let x = f64::from(x);
        Double(
            match function {
                Exp => libm::exp(x),
                Exp2 => libm::exp2(x),
                Expm1 => libm::expm1(x),
                PhiNear | PhiWide if x.abs() < 0.5 => {
                    (2..17).rev().fold(0.0, |sum, n| (sum * x + 1.0) / f64::from(n)) * x * x
                }
                PhiNear | PhiWide => libm::expm1(x) - x,
                Ln => libm::log(x),
                Log1pSmall => libm::log1p(x),
                JsNear => {
                    let half = x / 2.0;
                    let above_one = 2.0 * libm::sinh(half / 2.0).powi(2);
                    half * libm::sinh(half) - (1.0 + above_one) * libm::log1p(above_one)
                }
                JsEven => (1..=60).rev().fold(0.0, |sum, k| x * (sum + 0.25 / f64::from(k * (2 * k - 1)))),
                HalfNear => -libm::expm1(-x / 2.0),
            },
            0.0,
        )
    }
}

impl Real for f64 {
    const PRECISION: i32 = 53;
    const LAST: i32 = -1074;
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn exact(function: Function, x: f64) -> Double {
        let x = Double(x, 0.0);
        match function {
            Exp => x.exp(),
            Exp2 => x.mul(Double::LN_2).exp(),
            Expm1 => x.expm1(),
            PhiNear | PhiWide => x.phi(),
            Ln => x.ln(),
            Log1pSmall => x.log1p(),
            JsNear => {
                let half = x.times(0.5);
                let above_one = half.times(0.5).sinh();
                let above_one = above_one.mul(above_one).times(2.0);
                half.mul(half.sinh()).sub(Double(1.0, 0.0).add(above_one).mul(above_one.log1p()))
            }
            JsEven => (1..=110).rev().fold(Double(0.0, 0.0), |sum, k| {
                let divisor = Double(f64::from(4 * k * (2 * k - 1)), 0.0);
                sum.add(Double(1.0, 0.0).div(divisor)).mul(x)
            }),
            HalfNear => x.times(-0.5).expm1().times(-1.0),
        }
    }
}

/// The unevaluated sum of two float64 numbers: about 106 bits.
#[derive(Clone, Copy, Debug)]
struct Double(f64, f64);

impl Double {
    const LN_2: Double = Double(std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17);

    /// Any two numbers, the sum exact.
    fn sum(a: f64, b: f64) -> Double {
        let sum = a + b;
        let from_b = sum - a;
        Double(sum, (a - (sum - from_b)) + (b - from_b))
    }

    fn product(a: f64, b: f64) -> Double {
        Double(a * b, a.mul_add(b, -(a * b)))
    }

    fn add(self, other: Double) -> Double {
        let (high, low) = (Double::sum(self.0, other.0), Double::sum(self.1, other.1));
        let high = Double::sum(high.0, high.1 + low.0);
        Double::sum(high.0, high.1 + low.1)
    }

    fn sub(self, other: Double) -> Double {
        self.add(other.times(-1.0))
    }

    fn mul(self, other: Double) -> Double {
        let high = Double::product(self.0, other.0);
        Double::sum(high.0, high.1 + (self.0 * other.1 + self.1 * other.0))
    }

    /// Times a power of two.
    fn times(self, power: f64) -> Double {
        Double(self.0 * power, self.1 * power)
    }

    fn div(self, other: Double) -> Double {
        let first = self.0 / other.0;
        let rest = self.sub(other.mul(Double(first, 0.0)));
        let second = rest.0 / other.0;
        let rest = rest.sub(other.mul(Double(second, 0.0)));
        Double::sum(first, second).add(Double(rest.0 / other.0, 0.0))
    }

    /// k and x − k·ln 2.
    fn reduced(self) -> (i32, Double) {
        let k = (self.0 * std::f64::consts::LOG2_E).round();
        (k as i32, self.sub(Double::LN_2.mul(Double(k, 0.0))))
    }

    /// e^x − 1 for |x| ≤ ½·ln 2: the series at x/32, then E(2x) = E(x)·(2 + E(x)).
    fn expm1_reduced(self) -> Double {
        if self.0.abs() < 1e-100 {
            return self; // its 32nd part might lose bits
        }
        let x = self.times(1.0 / 32.0);
        let one = Double(1.0, 0.0);
        let series = (2..=14).rev().fold(one, |sum, n| one.add(sum.mul(x).div(Double(f64::from(n), 0.0))));
        (0..5).fold(series.mul(x), |e, _| e.mul(e.add(Double(2.0, 0.0))))
    }

    fn exp(self) -> Double {
        let (k, r) = self.reduced();
        let e = r.expm1_reduced().add(Double(1.0, 0.0));
        Double(libm::scalbn(e.0, k), libm::scalbn(e.1, k))
    }

    fn expm1(self) -> Double {
        let (k, r) = self.reduced();
        match k {
            0 => r.expm1_reduced(),
            ..=-200 => Double(-1.0, 0.0),
            _ => self.exp().sub(Double(1.0, 0.0)),
        }
    }

    /// e^x − 1 − x.
    fn phi(self) -> Double {
        if self.0.abs() > 1.0 {
            return self.expm1().sub(self);
        }
        let one = Double(1.0, 0.0);
        let series = (3..=30).rev().fold(one, |sum, n| one.add(sum.mul(self).div(Double(f64::from(n), 0.0))));
        series.mul(self).mul(self).times(0.5)
    }

    /// One Newton step in double-double from the float64 logarithm.
    fn log1p(self) -> Double {
        let near = Double(libm::log1p(self.0), 0.0);
        let e = near.times(-1.0).expm1();
        let rest = self.add(e).add(self.mul(e));
        near.add(rest.sub(rest.mul(rest).times(0.5)))
    }

    /// Of a positive normal float64 number.
    fn ln(self) -> Double {
        let k = libm::ilogb(self.0 / std::f64::consts::SQRT_2) + 1;
        let m = libm::scalbn(self.0, -k);
        Double::LN_2.mul(Double(f64::from(k), 0.0)).add(Double(m - 1.0, 0.0).log1p())
    }

    fn sinh(self) -> Double {
        let e = self.expm1();
        e.add(e.div(e.add(Double(1.0, 0.0)))).times(0.5)
    }
}

/// The distance of a result from the exact one, in units in the last place of the exact one.
fn ulps<T: Real>(got: T, exact: Double) -> f64 {
    let got = got.to_f64();
    if got == exact.0 && (exact.1 == 0.0 || got.is_infinite()) {
        return 0.0;
    }
    // A double-double just below a power of two has the power as its first half.
    let below = exact.0.to_bits() << 12 == 0 && exact.1 != 0.0 && (exact.1 < 0.0) == (exact.0 > 0.0);
    let exponent = ((exact.0.to_bits() >> 52) & 0x7ff) as i32 - 1023 - i32::from(below);
    let last = (exponent - (T::PRECISION - 1)).max(T::LAST);
    let power = |k: i32| f64::from_bits(((1023 + k) as u64) << 52);
    let error = ((got - exact.0) - exact.1).abs() * power(-last / 2) * power(-last + last / 2);
    if error.is_nan() { f64::INFINITY } else { error }
}

#[inline(always)]
fn exp2<V: Vector>(x: V) -> V {
    math::exps2_scaled(&[x], math::magic_of_eighths(0.0))[0]
}

/// A function of many numbers on the instruction set in use.
struct Apply<'a, T> {
    function: Function,
    from: &'a [T],
    to: &'a mut [T],
}

impl<T: Lanes> Kernel for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        macro_rules! each {
            ($function:path) => {
                for (x, y) in self.from.chunks_exact(T::LANES).zip(self.to.chunks_exact_mut(T::LANES)) {
                    $function(T::In::<S>::load(x)).store(y);
                }
            };
        }
        match self.function {
            Exp => each!(math::exp),
            Exp2 => each!(exp2),
            Expm1 => each!(math::expm1),
            PhiNear => each!(math::phi_near),
            PhiWide => each!(math::phi_wide),
            Ln => each!(math::ln),
            Log1pSmall => each!(math::log1p_small),
            JsNear => each!(math::js_near),
            JsEven => each!(math::js_even),
            HalfNear => each!(math::half_near),
        }
    }
}

/// The domain in bit patterns of positive and of negative numbers: each from the least magnitude to the greatest.
fn domain<T: Real>(function: Function) -> ([f64; 2], Option<[f64; 2]>) {
    let wide = T::PRECISION == 53;
    let (least, greatest) = if wide { (f64::MIN_POSITIVE, f64::MAX) } else { (2f64.powi(-126), f64::from(f32::MAX)) };
    match function {
        // The last numbers whose exponentials are normal.
        Exp if wide => ([0.0, 709.782_712_893_383_9], Some([0.0, 708.396_418_532_264])),
        Exp => ([0.0, 88.722_83], Some([0.0, 87.336_54])),
        Exp2 if wide => ([0.0, 1023.9], Some([0.0, 1022.0])),
        Exp2 => ([0.0, 127.9], Some([0.0, 126.0])),
        // The squares of smaller numbers have no double-double.
        JsNear | PhiNear if wide => ([1e-140, 2.0], Some([1e-140, 2.0])),
        PhiWide => ([if wide { 1e-140 } else { 0.0 }, 8.0], Some([if wide { 1e-140 } else { 0.0 }, 8.0])),
        Expm1 => ([0.0, 40.0], Some([0.0, f64::INFINITY])),
        Ln => ([least, greatest], None),
        Log1pSmall => ([0.0, 0.367_879_4], None),
        JsEven => ([if wide { 1e-140 } else { 0.0 }, 0.5], None),
        JsNear | HalfNear | PhiNear => ([0.0, 2.0], Some([0.0, 2.0])),
    }
}

/// Numbers at a time.
const CHUNK: usize = 1 << 20;

/// The worst error over numbers given by index, and where; every instruction set must give the same bits.
fn worst<T: Real>(function: Function, count: usize, number: impl Fn(usize) -> T + Sync) -> (f64, T) {
    let mut worst = (0.0, number(0));
    for start in (0..count).step_by(CHUNK) {
        // Past the end the last number fills the chunk up.
        let from: Vec<T> = (0..CHUNK).into_par_iter().map(|i| number((start + i).min(count - 1))).collect();
        let from = &from[..(count - start).min(CHUNK).next_multiple_of(T::LANES)];
        let mut first: Option<(Isa, Vec<T>)> = None;
        for isa in Isa::available() {
            assert!(set_isa(Some(isa)));
            let mut to = vec![T::from_f64(0.0); from.len()];
            (from.par_chunks(4096), to.par_chunks_mut(4096))
                .into_par_iter()
                .for_each(|(from, to)| dispatch(Apply { function, from, to }));
            let (first_isa, first) = first.get_or_insert_with(|| (isa, to.clone()));
            if let Some(i) = (0..to.len()).find(|&i| to[i].bits() != first[i].bits()) {
                let (x, a, b) = (from[i], first[i], to[i]);
                panic!("{function:?}({x:?}) is {a:?} with {first_isa:?}, {b:?} with {isa:?}");
            }
        }
        let (_, got) = first.expect("scalar code is always available");
        let here = from
            .par_iter()
            .zip(&got)
            .map(|(&x, &y)| (ulps(y, T::exact(function, x)), x))
            .reduce(|| worst, |a, b| if b.0 > a.0 { b } else { a });
        worst = here;
    }
    set_isa(None);
    worst
}

/// Prints what was found, and says what is wrong about it.
fn check<T: Real>(function: Function, bound: f64, (found, at): (f64, T)) -> Option<String> {
    let line = format!("{function:?} {}: {found:.4} ulp at {at:?}, allowed {bound}", std::any::type_name::<T>());
    println!("{line}");
    (found > bound).then_some(line)
}

fn assert_none(wrong: impl Iterator<Item = Option<String>>) {
    let wrong: Vec<String> = wrong.flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `count` patterns of bits and as many evenly spaced numbers, of either sign.
fn sample<T: Real>(function: Function, count: usize, from_bits: fn(u64) -> T) -> (f64, T) {
    let (positive, negative) = domain::<T>(function);
    let sides: Vec<(bool, [f64; 2])> =
        [(false, positive)].into_iter().chain(negative.map(|range| (true, range))).collect();
    let number = |i: usize| {
        let (i, (negative, [least, greatest])) = (i / sides.len(), sides[i % sides.len()]);
        let x = if i % 2 == 0 {
            let (least, greatest) = (T::from_f64(least).bits(), T::from_f64(greatest).bits());
            let share = u128::from(greatest - least) * (i / 2) as u128 / (count / 2 - 1) as u128;
            from_bits(least + share as u64)
        } else {
            // Where the domain is endless, the first hundred are the ones that differ.
            T::from_f64(least + (greatest.min(100.0) - least) * (i / 2) as f64 / (count / 2) as f64)
        };
        if negative { T::from_f64(-x.to_f64()) } else { x }
    };
    worst(function, count * sides.len(), number)
}

#[test]
fn sample_of_float32() {
    let _turn = take_turns();
    let run = |function| sample(function, 1 << 19, |bits| f32::from_bits(bits as u32));
    assert_none(BOUNDS.into_iter().map(|(function, bound, _)| check(function, bound, run(function))));
}

#[test]
fn sample_of_float64() {
    let _turn = take_turns();
    let run = |function| sample(function, 1 << 17, f64::from_bits);
    assert_none(BOUNDS.into_iter().map(|(function, _, bound)| check(function, bound, run(function))));
}

#[test]
#[ignore = "minutes: every float32"]
fn every_float32() {
    let _turn = take_turns();
    let run = |function, sign: u32, [least, greatest]: [f64; 2]| {
        let (least, greatest) = ((least as f32).to_bits(), (greatest as f32).to_bits());
        worst(function, (greatest - least) as usize + 1, |i| f32::from_bits((least + i as u32) | sign))
    };
    assert_none(BOUNDS.into_iter().flat_map(|(function, bound, _)| {
        let (positive, negative) = domain::<f32>(function);
        let signs = [Some((0, positive)), negative.map(|range| (1 << 31, range))];
        signs.into_iter().flatten().map(move |(sign, range)| check(function, bound, run(function, sign, range)))
    }));
}

#[test]
#[ignore = "minutes: millions of double-double results"]
fn dense_float64() {
    let _turn = take_turns();
    let run = |function| sample(function, 1 << 22, f64::from_bits);
    assert_none(BOUNDS.into_iter().map(|(function, _, bound)| check(function, bound, run(function))));
}

/// Every function whose argument may be any number at all, at the edges of its domain.
#[test]
fn ends_of_domains() {
    struct LnAny<T>(Vec<T>);
    impl<T: Lanes> Kernel for LnAny<T> {
        type Output = Vec<T>;
        #[inline(always)]
        fn run<S: Simd>(self) -> Vec<T> {
            let mut out = self.0.clone();
            for lanes in out.chunks_exact_mut(T::LANES) {
                math::ln_any(T::In::<S>::load(lanes)).store(lanes);
            }
            out
        }
    }
    fn ln_any<T: Real>(least: f64) {
        let mut x = vec![0.0, -0.0, 1.0, f64::INFINITY, f64::NAN, -1.0, f64::NEG_INFINITY, least, least * 12.0];
        x.resize(16, 2.0);
        let y = dispatch(LnAny(x.iter().map(|&x| T::from_f64(x)).collect()));
        for (&x, y) in x.iter().zip(y) {
            let (y, exact) = (y.to_f64(), libm::log(x));
            let tolerance = 2f64.powi(2 - T::PRECISION) * exact.abs();
            assert!(y == exact || (y.is_nan() && exact.is_nan()) || (y - exact).abs() <= tolerance, "{x}: {y} {exact}");
        }
    }
    let _turn = take_turns();
    for isa in Isa::available() {
        assert!(set_isa(Some(isa)));
        ln_any::<f32>(2f64.powi(-149));
        ln_any::<f64>(f64::from_bits(1));
        let x: Vec<f32> = [f32::NEG_INFINITY, -1e30, -104.0, -0.0].into_iter().cycle().take(16).collect();
        let mut y = vec![0.0f32; 16];
        dispatch(Apply { function: Expm1, from: &x, to: &mut y });
        assert_eq!(y[..4], [-1.0, -1.0, -1.0, 0.0], "{isa:?}");
    }
    set_isa(None);
}

/// Digits from tables: the oracle itself must be right far beyond float64.
#[test]
fn the_oracle_knows_constants() {
    let known = [
        (Double(1.0, 0.0).exp(), Double(std::f64::consts::E, 1.445_646_891_729_250_2e-16)),
        (Double(-3.0, 0.0).expm1(), Double(-0.950_212_931_632_136, -8.422_032_873_046_665e-18)),
        (Double(10.0, 0.0).ln(), Double(std::f64::consts::LN_10, -2.170_756_223_382_249_4e-16)),
        (Double(0.25, 0.0).log1p(), Double(0.223_143_551_314_209_76, -9.091_270_597_324_799e-18)),
        (Double(0.5, 0.0).phi(), Double(0.148_721_270_700_128_14, 8.195_466_436_899_492e-18)),
    ];
    for (got, exact) in known {
        assert!(got.sub(exact).0.abs() < 1e-30 * exact.0.abs(), "{got:?} {exact:?}");
    }
}
