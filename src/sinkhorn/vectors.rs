//! Vectors of one number a row or a column, in lanes.

use std::ops::{Deref, DerefMut};

use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch, math, total};

/// Bytes of a cache line.
const LINE: usize = 64;

/// The vector that starts at `at`, filled up with `pad` beyond the end.
///
/// Loops over rows are written out with it: a closure around the body of one is not always inlined, and without that
/// every intrinsic in it becomes a call.
#[inline(always)]
pub fn load_or<V: Vector>(numbers: &[V::Elem], at: usize, pad: V::Elem) -> V {
    if let Some(lanes) = numbers.get(at..at + V::Elem::LANES) {
        return V::load(lanes);
    }
    let mut last = [pad; SUM_LANES];
    let rest = numbers.get(at..).unwrap_or_default();
    last[..rest.len()].copy_from_slice(rest);
    V::load(&last)
}

/// [`crate::simd::total`], inlined: for small problems the call is most of a row.
#[inline(always)]
pub fn sum_lanes(sum: &Sum) -> f64 {
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

/// Numbers that start where a cache line does: lanes that lie across two cost twice as much.
#[derive(Debug)]
pub struct Aligned<E> {
    numbers: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Element> Aligned<E> {
    /// So many of one number.
    pub fn new(value: f64, len: usize) -> Self {
        let numbers = vec![E::from_f64(value); len + LINE / size_of::<E>()];
        let start = numbers.as_ptr().align_offset(LINE).min(LINE / size_of::<E>());
        Self { numbers, start, len }
    }
}

impl<E> Deref for Aligned<E> {
    type Target = [E];
    #[inline(always)]
    fn deref(&self) -> &[E] {
        &self.numbers[self.start..self.start + self.len]
    }
}

impl<E> DerefMut for Aligned<E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.numbers[self.start..self.start + self.len]
    }
}

/// The numbers as another type, filled up to a multiple of [`SUM_LANES`] with `pad`.
pub fn padded<E: Element>(numbers: &[f64], pad: f64) -> Aligned<E> {
    let mut out = Aligned::new(pad, numbers.len().next_multiple_of(SUM_LANES));
    for (out, &x) in out.iter_mut().zip(numbers) {
        *out = E::from_f64(x);
    }
    out
}

/// Replaces every number by a function of it, in lanes.
struct Map<'a, F>(&'a mut [f64], F);

/// A function of lanes.
trait Function {
    fn apply<V: Vector>(&self, x: V) -> V;
}

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        map::<S, F>(self.0, &self.1);
    }
}

#[inline(always)]
fn map<S: Simd, F: Function>(numbers: &mut [f64], function: &F) {
    let mut chunks = numbers.chunks_exact_mut(f64::LANES);
    for chunk in &mut chunks {
        function.apply(S::F64::load(chunk)).store(chunk);
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let mut last = [1.0; SUM_LANES];
        last[..rest.len()].copy_from_slice(rest);
        function.apply(S::F64::load(&last)).store(&mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// ln x of each, within a kernel.
#[inline(always)]
pub fn ln_within<S: Simd>(numbers: &mut [f64]) {
    map::<S, Ln>(numbers, &Ln);
}

struct Exp;

impl Function for Exp {
    #[inline(always)]
    fn apply<V: Vector>(&self, x: V) -> V {
        let (low, high) = (V::constant(-700.0), V::constant(700.0));
        let x = V::select(x.lt(high), x, high);
        V::select(low.lt(x), math::exp(x.max(low)), V::zero())
    }
}

struct Ln;

impl Function for Ln {
    #[inline(always)]
    fn apply<V: Vector>(&self, x: V) -> V {
        math::ln_any(x)
    }
}

/// e^x of each, 0 below e^-700 and never above e^700.
pub fn exp_all(numbers: &mut [f64]) {
    dispatch(Map(numbers, Exp));
}

/// ln x of each, −∞ for 0.
pub fn ln_all(numbers: &mut [f64]) {
    dispatch(Map(numbers, Ln));
}

struct Dot<'a>(&'a [f64], &'a [f64]);

impl Kernel for Dot<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let mut sums = [S::F64::zero(); 2];
        let len = self.0.len().min(self.1.len());
        let (x, y) = (&self.0[..len], &self.1[..len]);
        let mut at = 0;
        while at + 2 * f64::LANES <= len {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * f64::LANES;
                *sum = S::F64::load(&x[at..]).mul_add(S::F64::load(&y[at..]), *sum);
            }
            at += 2 * f64::LANES;
        }
        let mut out: Sum = [0.0; SUM_LANES];
        for sum in sums {
            sum.add_to(&mut out);
        }
        let mut value = total(&out);
        while at < len {
            value = x[at].mul_add(y[at], value);
            at += 1;
        }
        value
    }
}

/// Σ x·y, in one fixed order.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    dispatch(Dot(x, y))
}

/// The largest size of a pair, 0 at least; NaN is passed over.
pub fn largest(x: &[f64], y: &[f64], size: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes: Sum = [0.0; SUM_LANES];
    for (x, y) in x.chunks(SUM_LANES).zip(y.chunks(SUM_LANES)) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            let size = size(x, y);
            *lane = if size > *lane { size } else { *lane };
        }
    }
    lanes.into_iter().fold(0.0, f64::max)
}

/// Σ |x − y|.
pub fn distance(x: &[f64], y: &[f64]) -> f64 {
    let mut lanes: Sum = [0.0; SUM_LANES];
    let (x, y) = (x.chunks(SUM_LANES), y.chunks(SUM_LANES));
    for (x, y) in x.zip(y) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += (x - y).abs();
        }
    }
    total(&lanes)
}
