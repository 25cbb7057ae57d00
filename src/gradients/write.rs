//! The pass that writes a gradient: g = b·(h − Σ b·h)·scale, block by block.
//!
//! Lanes go to a block in the first-level cache, and from there to the array in its own type: as cheap as storing them
//! at once, and one kernel for both types.

use std::f64::consts::{LN_2, LOG2_E};

use rayon::prelude::*;

use super::forces::Force;
use crate::linear::Totals;
use crate::moments::Moments;
use crate::pair::{LogFrame, NEAR, Pair};
use crate::rows::{BLOCK, InPlace, Row, SEGMENT, Scratch, block_of};
use crate::simd::{Element, Kernel, Lanes, Mask, SUM_LANES, Simd, Vector, dispatch, total};

/// Numbers of a gradient.
pub enum Slots<'a> {
    /// float64
    F64(&'a mut [f64]),
    /// float32
    F32(&'a mut [f32]),
}

impl Slots<'_> {
    /// Writes a block of lanes at a place.
    #[inline(always)]
    fn put<T: Element>(&mut self, at: usize, from: &[T]) {
        match self {
            Slots::F64(out) => {
                out[at..at + from.len()].iter_mut().zip(from).for_each(|(out, g)| *out = g.to_f64());
            }
            Slots::F32(out) => {
                out[at..at + from.len()].iter_mut().zip(from).for_each(|(out, g)| *out = g.to_f64() as f32);
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Slots::F64(out) => out.len(),
            Slots::F32(out) => out.len(),
        }
    }
}

/// float32 or float64.
pub trait Number: Element {
    /// Where numbers of this type are written.
    fn slots(out: &mut [Self]) -> Slots<'_>;
}

impl Number for f64 {
    fn slots(out: &mut [Self]) -> Slots<'_> {
        Slots::F64(out)
    }
}

impl Number for f32 {
    fn slots(out: &mut [Self]) -> Slots<'_> {
        Slots::F32(out)
    }
}

/// The largest b, and the sum of what was written.
pub type Written = (f64, f64);

/// Runs `part` on the segments of `out`, each with its start in the row.
fn over_parts<O: Number>(out: &mut [O], parallel: bool, part: impl Fn(usize, Slots<'_>) -> Written + Sync) -> Written {
    let part = |(i, out): (usize, &mut [O])| part(i * SEGMENT, O::slots(out));
    let parts: Vec<Written> = if parallel {
        out.par_chunks_mut(SEGMENT).enumerate().map(part).collect()
    } else {
        out.chunks_mut(SEGMENT).enumerate().map(part).collect()
    };
    parts.into_iter().fold((0.0, 0.0), |a, b| (a.0.max(b.0), a.1 + b.1))
}

/// Writes the gradient of rows of logits.
pub fn write_logs<T: InPlace, F: Force, O: Number>(
    moments: &Moments<'_>,
    force: F,
    mean: f64,
    scale: f64,
    parallel: bool,
    out: &mut [O],
) -> Written {
    let split = |lse: f64| {
        let power = (lse * LOG2_E).round();
        (power, libm::exp(power * LN_2 - lse))
    };
    let ((power_x, scale_x), (power_y, scale_y)) = (split(moments.lse_x()), split(moments.lse_y()));
    let frame = LogFrame {
        offset: moments.offset,
        correction: moments.correction,
        power: [power_x, power_y],
        scale: [scale_x, scale_y],
    };
    let (x, y) = (moments.x, moments.y);
    over_parts(out, parallel, |from, out| {
        dispatch(LogWrite { x, y, from, frame, force, mean, scale, out, elem: std::marker::PhantomData::<T> })
    })
}

/// The gradient of one part of a row of logits.
struct LogWrite<'a, 'o, T, F> {
    x: Row<'a>,
    y: Row<'a>,
    from: usize,
    frame: LogFrame,
    force: F,
    mean: f64,
    scale: f64,
    out: Slots<'o>,
    elem: std::marker::PhantomData<T>,
}

impl<T: InPlace, F: Force> Kernel for LogWrite<'_, '_, T, F> {
    type Output = Written;

    #[inline(always)]
    fn run<S: Simd>(mut self) -> Written {
        let mut lanes = [T::from_f64(0.0); BLOCK];
        let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
        let none = T::from_f64(f64::NEG_INFINITY);
        let limit = T::In::<S>::constant(NEAR * NEAR);
        let mut heaviest = 0.0f64;
        let mut sum = [0.0; SUM_LANES];
        let mut near = true;
        let mut done = 0;
        while done < self.out.len() {
            let len = block_of::<T>(self.out.len() - done);
            let xs = self.x.block::<S, T>(self.from + done, len, &mut scratch_x, none);
            let ys = self.y.block::<S, T>(self.from + done, len, &mut scratch_y, none);
            let out = &mut lanes[..xs.len()];
            // Near pairs are in units of the reference's power of two.
            let (mut unit, mut found) = (self.frame.scale[0], None);
            if near && len >= T::LANES {
                let write = Write { force: self.force, mean: self.mean, unit: unit * self.scale };
                let block = write.block::<T::In<S>>(xs, ys, out, |x, y| Pair::near_logs::<true>(x, y, &self.frame));
                near = block.square.lt(limit).all();
                found = near.then_some(block);
            }
            let block = if let Some(block) = found {
                block
            } else {
                unit = 1.0;
                let write = Write { force: self.force, mean: self.mean, unit: self.scale };
                let block = write.block::<T::In<S>>(xs, ys, out, |x, y| Pair::far_logs(x, y, &self.frame));
                near = block.square.lt(limit).all();
                block
            };
            self.out.put(done, &lanes[..len]);
            done += len;
            if !F::IS_FORWARD {
                heaviest = heaviest.max(block.heaviest.largest().to_f64() * unit);
                block.sum.add_to(&mut sum);
            }
        }
        (heaviest, total(&sum))
    }
}

/// How one block is written.
#[derive(Clone, Copy)]
struct Write<F> {
    force: F,
    mean: f64,
    unit: f64,
}

/// What was written in one block.
struct Block<V> {
    /// Largest t², infinite if a NaN was met.
    square: V,
    /// Largest b, in the unit of the pairs.
    heaviest: V,
    sum: V,
}

impl<F: Force> Write<F> {
    #[inline(always)]
    fn block<V: Vector>(
        &self,
        xs: &[V::Elem],
        ys: &[V::Elem],
        out: &mut [V::Elem],
        pair: impl Fn(V, V) -> Pair<V>,
    ) -> Block<V> {
        let lanes = V::Elem::LANES;
        let (mean, unit) = (V::constant(self.mean), V::constant(self.unit));
        let mut block = Block { square: V::zero(), heaviest: V::zero(), sum: V::zero() };
        let lines = xs.chunks_exact(lanes).zip(ys.chunks_exact(lanes));
        for ((x, y), out) in lines.zip(out.chunks_exact_mut(lanes)) {
            let (x, y) = (V::load(x), V::load(y));
            let pair = pair(x, y);
            let tt = pair.t * pair.t;
            block.square = V::select(tt.eq(tt), tt.max(block.square), V::constant(f64::INFINITY));
            if F::IS_FORWARD {
                (pair.big * unit * self.force.force(&pair, x)).store(out);
                continue;
            }
            let own = pair.by_side(pair.s, V::one());
            let gradient = pair.big * unit * self.force.centred(&pair, x, own, mean);
            block.heaviest = (pair.big * own).max(block.heaviest);
            block.sum = block.sum + gradient;
            gradient.store(out);
        }
        block
    }
}

/// Writes the gradient of rows of weights, which come in float64 lanes: scaling their totals needs the room.
#[allow(clippy::too_many_arguments)]
pub fn write_weights<F: Force, O: Number>(
    a: Row<'_>,
    b: Row<'_>,
    totals: &[Totals; 2],
    force: F,
    mean: f64,
    scale: f64,
    parallel: bool,
    out: &mut [O],
) -> Written {
    // As in `terms::weight_sums`: both totals near 2^400, so that products stay normal.
    let scales = totals.map(|t| t.scale(400, 1000));
    let (ratio, low) = totals[0].quotient(&totals[1], scales[0], scales[1]);
    let unit = 1.0 / (totals[0].sum * libm::scalbn(scales[0], totals[0].power));
    over_parts(out, parallel, |from, out| {
        dispatch(WeightWrite { a, b, from, ratio: [ratio, low], scales, force, mean, unit: [unit, scale], out })
    })
}

/// The gradient of one part of a row of weights.
struct WeightWrite<'a, 'o, F> {
    a: Row<'a>,
    b: Row<'a>,
    from: usize,
    ratio: [f64; 2],
    scales: [f64; 2],
    force: F,
    mean: f64,
    /// Of the pairs, and the factor of the gradient.
    unit: [f64; 2],
    out: Slots<'o>,
}

impl<F: Force> Kernel for WeightWrite<'_, '_, F> {
    type Output = Written;

    #[inline(always)]
    fn run<S: Simd>(mut self) -> Written {
        let mut lanes = [0.0; BLOCK];
        let (mut scratch_a, mut scratch_b) = (Scratch::<f64>::new(), Scratch::<f64>::new());
        let constant = <f64 as Lanes>::In::<S>::constant;
        let ([ratio, ratio_low], [scale_a, scale_b]) = (self.ratio.map(constant), self.scales.map(constant));
        let write = Write { force: self.force, mean: self.mean, unit: self.unit[0] * self.unit[1] };
        let mut heaviest = 0.0f64;
        let mut sum = [0.0; SUM_LANES];
        let mut done = 0;
        while done < self.out.len() {
            let len = BLOCK.min(self.out.len() - done);
            let from = self.from + done;
            let a = self.a.block::<S, f64>(from, len, &mut scratch_a, 0.0);
            let b = self.b.block::<S, f64>(from, len, &mut scratch_b, 0.0);
            let out = &mut lanes[..a.len()];
            let block =
                write.block::<S::F64>(a, b, out, |x, y| Pair::from_weights(x * scale_a, y * scale_b, ratio, ratio_low));
            self.out.put(done, &lanes[..len]);
            done += len;
            heaviest = heaviest.max(block.heaviest.largest() * self.unit[0]);
            block.sum.add_to(&mut sum);
        }
        (heaviest, total(&sum))
    }
}
