//! Jensen-Shannon divergence of all rows of two groups, one logarithm a coordinate and no division.
//!
//! With m = (p + q)/2, x = 2^k(x)·e^f(x) and f within ±½·ln 2,
//!
//! ```text
//! 2·JS = Σ p·log p + q·log q − 2m·log m
//!      = ln 2·Σ [p·(k(p) − k(m)) + q·(k(q) − k(m))] + Σ p·f(p) + Σ q·f(q) − Σ 2m·f(m)
//! ```
//!
//! The exponents k are integers, their differences exact, and what remains of the logarithms is small: nothing of the
//! size of an entropy is ever rounded. Σ p·f(p) is found once a row, k(p) once a tile. What cancels is at most of the
//! order of 1, so a value of [`Mantissa::LEAST`] or more keeps the digits promised; below it, pairs of close rows, the
//! kernel of pairs takes over.
//!
//! Memory: probabilities and exponents of a block of columns, at most 1 MB for a tile in float32, 2 MB in float64.

use std::f64::consts::LN_2;

use crate::error::{Error, Result};
use crate::pool::Call;
use crate::rows::{BLOCK, InPlace};
use crate::simd::{Element, Kernel, Simd, Sum, Vector, dispatch, math, total};

use super::ready::{Exactly, Field, Reader, Ready};

/// Most rows of either side in a tile.
pub const SIDE: usize = 64;

/// Probabilities are scaled by this, so that float32 holds small ones.
const UNIT: f64 = 18_446_744_073_709_551_616.0; // 2^64

/// What the mixture needs of an element type.
pub trait Mantissa: InPlace {
    /// log(1 + x)/x for √½ ≤ 1 + x ≤ √2, highest power first; printed by `tools/minimax.py`.
    const LOG: &'static [Self];
    /// Smallest divergence that keeps its digits.
    const LEAST: f64;
    /// Smallest normal number.
    const NORMAL: f64;
}

impl Mantissa for f32 {
    const LOG: &'static [f32] = &[
        -7.451187287e-2,
        1.280661223e-1,
        -1.326603186e-1,
        1.419964988e-1,
        -1.660836933e-1,
        2.000093945e-1,
        -2.50015791e-1,
        3.333334535e-1,
        -4.99999885e-1,
        9.999999994e-1,
    ];
    const LEAST: f64 = 0.15;
    const NORMAL: f64 = f32::MIN_POSITIVE as f64;
}

impl Mantissa for f64 {
    const LOG: &'static [f64] = &[
        -2.3612690388277335e-2,
        5.6254241376224799e-2,
        -6.28427869966525062e-2,
        5.44835264033932462e-2,
        -5.33057053773534898e-2,
        5.81140145333526604e-2,
        -6.26851730983619065e-2,
        6.67586693224021662e-2,
        -7.14217234075158603e-2,
        7.69166320245521043e-2,
        -8.3333328442404822e-2,
        9.09093591956078345e-2,
        -1.00000009660795629e-1,
        1.11111104408853644e-1,
        -1.24999999662410572e-1,
        1.4285714295327054e-1,
        -1.66666666671557626e-1,
        1.99999999999293636e-1,
        -2.49999999999971091e-1,
        3.33333333333335378e-1,
        -5.00000000000000047e-1,
        1.0,
    ];
    const LEAST: f64 = 1e-3;
    const NORMAL: f64 = f64::MIN_POSITIVE;
}

/// Σ p·f(p) of a row, in units of [`UNIT`]: what [`mixtures`] expects as the rows' own sums.
pub fn fractions<T: Mantissa>(row: &Ready<'_>) -> f64 {
    dispatch(Fractions::<T> { row, elem: std::marker::PhantomData })
}

/// Every JS, one line a row of `p`; below [`Mantissa::LEAST`] not to be trusted.
pub fn mixtures<T: Mantissa>(p: &[Ready<'_>], q: &[Ready<'_>], call: &Call) -> Result<Vec<f64>> {
    dispatch(Mixture::<T> { p, q, call, elem: std::marker::PhantomData })
}

struct Fractions<'a, 'b, T> {
    row: &'b Ready<'a>,
    elem: std::marker::PhantomData<T>,
}

impl<T: Mantissa> Kernel for Fractions<'_, '_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let mut probs = [T::from_f64(0.0); BLOCK];
        let mut mantissas = [T::from_f64(0.0); BLOCK];
        let (mut sum, mut reader) = (Exactly::<S::F64>::new(), Reader::new());
        for from in (0..self.row.len()).step_by(BLOCK) {
            let len = BLOCK.min(self.row.len() - from);
            let padded = load::<S, T>(self.row, from, len, &mut reader, &mut probs);
            for (p, out) in probs[..padded].chunks_exact(T::LANES).zip(mantissas.chunks_exact_mut(T::LANES)) {
                let p = T::In::<S>::load(p);
                let (mantissa, _) = p.split_exponent();
                let none = p.eq(T::In::<S>::zero());
                T::In::<S>::select(none, T::In::<S>::one(), mantissa).store(out);
            }
            let (mut wide, mut weights) = ([0.0; BLOCK], [0.0; BLOCK]);
            for ((wide, weight), (m, p)) in wide.iter_mut().zip(&mut weights).zip(mantissas.iter().zip(&probs)) {
                (*wide, *weight) = (m.to_f64(), p.to_f64());
            }
            let mut block = S::F64::zero();
            for (m, p) in wide[..padded].chunks_exact(f64::LANES).zip(weights[..padded].chunks_exact(f64::LANES)) {
                block = S::F64::load(p).mul_add(math::ln(S::F64::load(m)), block);
            }
            sum.add(block);
        }
        sum.total()
    }
}

/// Probabilities in units of 2^-64, rounded to the lane type; the length filled up to a whole vector.
#[inline(always)]
fn load<S: Simd, T: Mantissa>(row: &Ready<'_>, from: usize, len: usize, reader: &mut Reader, out: &mut [T]) -> usize {
    let mut wide = [0.0; BLOCK];
    row.fill::<S>(Field::Prob, from, len, reader, &mut wide);
    let padded = len.next_multiple_of(T::LANES);
    for (out, &p) in out[..padded].iter_mut().zip(&wide) {
        let p = p * UNIT;
        *out = T::from_f64(if p < T::NORMAL { 0.0 } else { p });
    }
    padded
}

struct Mixture<'a, 'b, T> {
    p: &'b [Ready<'a>],
    q: &'b [Ready<'a>],
    call: &'b Call,
    elem: std::marker::PhantomData<T>,
}

/// A block of columns of some rows: probabilities, and their exponents less that of ½.
struct Table<T> {
    probs: Vec<T>,
    exponents: Vec<T>,
    padded: usize,
}

impl<T: Mantissa> Table<T> {
    fn new(rows: usize) -> Self {
        let zeros = vec![T::from_f64(0.0); rows * BLOCK];
        Self { probs: zeros.clone(), exponents: zeros, padded: 0 }
    }

    #[inline(always)]
    fn load<S: Simd>(&mut self, rows: &[Ready<'_>], from: usize, len: usize, reader: &mut Reader) {
        let (zero, one) = (T::In::<S>::zero(), T::In::<S>::one());
        let lines = self.probs.chunks_exact_mut(BLOCK).zip(self.exponents.chunks_exact_mut(BLOCK));
        for (row, (probs, exponents)) in rows.iter().zip(lines) {
            self.padded = load::<S, T>(row, from, len, reader, probs);
            for (p, k) in probs.chunks_exact(T::LANES).zip(exponents.chunks_exact_mut(T::LANES)) {
                let p = T::In::<S>::load(p);
                let (_, exponent) = p.split_exponent();
                T::In::<S>::select(p.eq(zero), zero, exponent + one).store(k);
            }
        }
    }

    #[inline(always)]
    fn line(&self, row: usize) -> (&[T], &[T]) {
        let from = row * BLOCK;
        (&self.probs[from..from + self.padded], &self.exponents[from..from + self.padded])
    }
}

impl<T: Mantissa> Kernel for Mixture<'_, '_, T> {
    type Output = Result<Vec<f64>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Result<Vec<f64>> {
        let width = self.q.len();
        let mut sums = vec![0.0; self.p.len() * width];
        let (mut of_p, mut of_q) = (Table::<T>::new(self.p.len()), Table::<T>::new(width));
        let mut reader = Reader::new();
        let len = self.p.first().map_or(0, Ready::len);
        for from in (0..len).step_by(BLOCK) {
            let count = BLOCK.min(len - from);
            of_p.load::<S>(self.p, from, count, &mut reader);
            of_q.load::<S>(self.q, from, count, &mut reader);
            for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                if self.call.stopped() {
                    return Err(Error::Interrupted);
                }
                let p = of_p.line(i);
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum += block::<T::In<S>>(p, of_q.line(j));
                }
            }
        }
        for (p, sums) in self.p.iter().zip(sums.chunks_exact_mut(width)) {
            for (q, sum) in self.q.iter().zip(sums) {
                *sum = ((*sum + (p.own + q.own)) * (0.5 / UNIT)).clamp(0.0, LN_2);
            }
        }
        Ok(sums)
    }
}

/// ln 2·Σ [p·(k(p) − k(m)) + q·(k(q) − k(m))] − Σ 2m·f(m) over a block.
#[inline(always)]
fn block<V: Vector<Elem: Mantissa>>((ps, ks): (&[V::Elem], &[V::Elem]), (qs, ls): (&[V::Elem], &[V::Elem])) -> f64 {
    let lanes = <V::Elem as Element>::LANES;
    let one = V::one();
    let (mut of_p, mut of_q, mut fraction) = (V::zero(), V::zero(), V::zero());
    let p_lanes = ps.chunks_exact(lanes).zip(ks.chunks_exact(lanes));
    let q_lanes = qs.chunks_exact(lanes).zip(ls.chunks_exact(lanes));
    for ((p, k), (q, l)) in p_lanes.zip(q_lanes) {
        let (p, k, q, l) = (V::load(p), V::load(k), V::load(q), V::load(l));
        let both = p + q;
        let (mantissa, exponent) = both.split_exponent();
        let x = mantissa - one;
        let log = x * math::polynomial(x, V::Elem::LOG);
        of_p = p.mul_add(k - exponent, of_p);
        of_q = q.mul_add(l - exponent, of_q);
        fraction = both.mul_add(log, fraction);
    }
    let sum = (of_p + of_q).mul_add(V::constant(LN_2), V::zero() - fraction);
    let mut wide: Sum = [0.0; 16];
    sum.add_to(&mut wide);
    total(&wide)
}
