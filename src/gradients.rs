//! A divergence of every pair of rows together with its gradient with respect to the logits of one side.
//!
//! ```text
//! prepare   normalisers of both rows (and KL, from logits)
//! sum       Σ b·h and the value, if they need a pass of their own
//! write     g = b·(h − Σ b·h)·scale
//! ```
//!
//! The side that is moved is always the second, b: gradients with respect to p exchange the rows. Each pass reads both
//! rows, the later ones from the cache; [`crate::forces`] has the arithmetic.

use std::f64::consts::{LN_2, LOG2_E};

use rayon::prelude::*;

use crate::batch::Matrix;
use crate::entropy::log_tail;
use crate::error::{Argument, Error, Result};
use crate::evaluate::{same_shape, sides};
use crate::forces::{
    Alpha, CrossEntropy, Force, Forward, Jeffreys, Js, Reverse, SkewKl, SkewKlFirst, SquaredHellinger, TotalVariation,
    WeightedJs,
};
use crate::linear::Totals;
use crate::moments::Moments;
use crate::order::peak;
use crate::pair::{LogFrame, NEAR, Pair};
use crate::pool::{Call, install, threads};
use crate::prepare::{Prepared, Side, prepare};
use crate::rows::{BLOCK, InPlace, Row, SEGMENT, Scratch};
use crate::simd::{Element, Kernel, Lanes, Mask, SUM_LANES, Simd, Vector, dispatch};
use crate::terms::{MAX_SUMS, Terms, log_sums, weight_sums};

/// Names that have a gradient.
pub const NAMES: &[&str] = &[
    "kl",
    "reverse_kl",
    "jeffreys",
    "total_variation",
    "squared_hellinger",
    "hellinger",
    "cross_entropy",
    "js",
    "skew_kl",
    "alpha",
];

/// Numbers below which a call runs on the calling thread.
const INLINE: usize = 16 * 1024;

/// What to compute.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// One of [`NAMES`].
    pub name: &'a str,
    /// The weight of `js`, the alpha of `skew_kl` and `alpha`.
    pub parameter: f64,
    /// The side whose logits are moved.
    pub wrt: Argument,
}

/// Writes the value of each pair of rows, and its gradient row by row, of as many numbers as the rows have.
pub fn value_and_gradient<O: Element>(
    request: Request<'_>,
    p: &Matrix<'_>,
    q: &Matrix<'_>,
    values: &mut [f64],
    gradient: &mut [O],
    call: &Call,
) -> Result<()> {
    if !NAMES.contains(&request.name) {
        return Err(Error::UnknownName(request.name.to_owned()));
    }
    same_shape(p, q)?;
    let (rows, columns) = (p.rows(), p.columns());
    if values.len() != rows || rows.checked_mul(columns) != Some(gradient.len()) {
        return Err(Error::Shape("the results differ in shape from the rows".to_owned()));
    }
    let threads = if call.threads == 0 { threads() } else { call.threads };
    let parallel = threads > 1 && rows < 4 * threads && columns >= 2 * SEGMENT;
    let run = |(index, (value, out)): (usize, (&mut f64, &mut [O]))| -> Result<()> {
        if call.stopped() {
            return Err(Error::Interrupted);
        }
        let (p, q) = sides(p, q, index);
        *value = RowTask { request, p, q, parallel }.fill(out)?;
        Ok(())
    };
    if gradient.len() <= INLINE {
        return values.iter_mut().zip(gradient.chunks_mut(columns)).enumerate().try_for_each(run);
    }
    let results: Vec<Result<()>> = install(threads, || {
        let rows = values.par_iter_mut().zip(gradient.par_chunks_mut(columns)).enumerate();
        rows.with_min_len((SEGMENT / columns).max(1)).map(run).collect()
    });
    results.into_iter().collect()
}

struct RowTask<'a, 'b> {
    request: Request<'b>,
    p: Side<'a>,
    q: Side<'a>,
    parallel: bool,
}

impl RowTask<'_, '_> {
    fn fill<O: Element>(&self, out: &mut [O]) -> Result<f64> {
        let Request { name, parameter, wrt } = self.request;
        let first = wrt == Argument::P;
        let (a, b) = if first { (&self.q, &self.p) } else { (&self.p, &self.q) };
        // Of two faulty rows that of p is reported.
        let rows =
            prepare(a, b, self.parallel).or_else(|error| prepare(&self.p, &self.q, self.parallel).and(Err(error)))?;
        let divisor = if b.kind.is_log() { b.temperature } else { 1.0 };
        let task = Task { rows: &rows, scale: 1.0 / divisor, parallel: self.parallel };
        let is = |number: f64| parameter == number;
        Ok(match (name, first) {
            ("kl", false) | ("reverse_kl", true) => task.run(Forward, out),
            ("kl", true) | ("reverse_kl", false) => task.run(Reverse, out),
            ("jeffreys", _) => task.run(Jeffreys, out),
            ("total_variation", _) => task.run(TotalVariation, out),
            ("squared_hellinger", _) => task.run(SquaredHellinger, out),
            ("hellinger", _) => task.root(SquaredHellinger, out),
            ("cross_entropy", false) => {
                let kl = task.run(Forward, out);
                if kl.is_nan() { kl } else { kl + self.p.entropy(self.parallel)? }
            }
            ("cross_entropy", true) => match surprise(&rows, self.parallel) {
                Some(force) => task.run(force, out),
                None => nothing(out),
            },
            ("js", _) if is(0.5) => task.run(Js, out),
            ("js", _) if is(0.0) || is(1.0) => task.none(out),
            ("js", _) => task.run(WeightedJs(if first { 1.0 - parameter } else { parameter }), out),
            ("skew_kl", false) if is(0.0) => task.run(Forward, out),
            ("skew_kl", true) if is(0.0) => task.run(Reverse, out),
            ("skew_kl", _) if is(1.0) => task.none(out),
            ("skew_kl", false) => task.run(SkewKl(parameter), out),
            ("skew_kl", true) => task.run(SkewKlFirst(parameter), out),
            // "alpha": exchanging the rows exchanges alpha and 1 − alpha.
            (_, false) if is(1.0) => task.run(Forward, out),
            (_, true) if is(0.0) => task.run(Forward, out),
            _ if is(0.0) || is(1.0) => task.run(Reverse, out),
            _ => task.run(Alpha(if first { 1.0 - parameter } else { parameter }), out),
        })
    }
}

/// A row without a distribution.
fn nothing<O: Element>(out: &mut [O]) -> f64 {
    out.fill(O::from_f64(f64::NAN));
    f64::NAN
}

/// Where the maximum of a stands and how unlikely it is.
fn surprise(rows: &Prepared<'_>, parallel: bool) -> Option<CrossEntropy> {
    match rows {
        Prepared::Nothing => None,
        Prepared::Logs(moments) => {
            let row = moments.x.widened(moments.wide);
            let top = peak(&row, parallel)?;
            let above = libm::log1p(log_tail(&row, top, parallel).mass);
            Some(CrossEntropy { top: top.value, above, linear: false })
        }
        Prepared::Weights(a, _, totals) => {
            let top = peak(a, parallel)?;
            let outside = totals[0].value() / top.value - 1.0;
            Some(CrossEntropy { top: top.value, above: libm::log1p(outside.max(0.0)), linear: true })
        }
    }
}

#[derive(Clone, Copy)]
struct Task<'a, 'b> {
    rows: &'a Prepared<'b>,
    scale: f64,
    parallel: bool,
}

impl Task<'_, '_> {
    /// Value and gradient of D.
    fn run<F: Force, O: Element>(self, force: F, out: &mut [O]) -> f64 {
        let (value, mean) = self.value_and_mean(force);
        self.write(force, value, mean, self.scale, out);
        value
    }

    /// Value and gradient of √D; the gradient is 0 where D is.
    fn root<F: Force, O: Element>(self, force: F, out: &mut [O]) -> f64 {
        let (square, mean) = self.value_and_mean(force);
        let value = square.sqrt();
        let scale = if value == 0.0 { 0.0 } else { self.scale / (2.0 * value) };
        self.write(force, value, mean, scale, out);
        value
    }

    /// A divergence that is 0 whatever the rows are.
    fn none<O: Element>(self, out: &mut [O]) -> f64 {
        if matches!(self.rows, Prepared::Nothing) {
            return nothing(out);
        }
        out.fill(O::from_f64(0.0));
        0.0
    }

    fn value_and_mean<F: Force>(self, force: F) -> (f64, f64) {
        match self.rows {
            Prepared::Nothing => (f64::NAN, f64::NAN),
            Prepared::Logs(moments) if F::IS_FORWARD => (moments.kl, 0.0),
            Prepared::Logs(moments) => {
                let wide = Moments { wide: moments.wide || F::WIDE, ..*moments };
                force.conclude(&log_sums(&wide, Sums(force), self.parallel))
            }
            Prepared::Weights(a, b, totals) => {
                let (a, b) = (a.widened(F::WIDE), b.widened(F::WIDE));
                force.conclude(&weight_sums(a, b, totals, Sums(force), self.parallel))
            }
        }
    }

    fn write<F: Force, O: Element>(self, force: F, value: f64, mean: f64, scale: f64, out: &mut [O]) {
        if value.is_nan() || !mean.is_finite() {
            nothing(out);
            return;
        }
        match self.rows {
            Prepared::Nothing => {}
            Prepared::Logs(moments) if moments.wide || F::WIDE => {
                write_logs::<f64, F, O>(moments, force, mean, scale, self.parallel, out);
            }
            Prepared::Logs(moments) => write_logs::<f32, F, O>(moments, force, mean, scale, self.parallel, out),
            // Rows of weights come in float64 lanes: scaling their totals needs the room.
            Prepared::Weights(a, b, totals) => {
                write_weights(a.widened(true), b.widened(true), totals, force, mean, scale, self.parallel, out);
            }
        }
    }
}

/// The sums of a force.
#[derive(Clone, Copy)]
struct Sums<F>(F);

impl<F: Force> Terms for Sums<F> {
    const COUNT: usize = F::COUNT;
    #[inline(always)]
    fn add<V: Vector>(&self, pair: &Pair<V>, x: V, _: V, sums: &mut [V; MAX_SUMS]) {
        let terms = self.0.sums(pair, x);
        for (sum, term) in sums.iter_mut().zip(terms).take(F::COUNT) {
            *sum = pair.big.mul_add(term, *sum);
        }
    }
}

/// Runs `part` on the segments of `out`, each with its start in the row.
fn over_parts<O: Element>(out: &mut [O], parallel: bool, part: impl Fn(usize, &mut [O]) + Sync) {
    if parallel {
        out.par_chunks_mut(SEGMENT).enumerate().for_each(|(i, out)| part(i * SEGMENT, out));
    } else {
        part(0, out);
    }
}

fn write_logs<T: InPlace, F: Force, O: Element>(
    moments: &Moments<'_>,
    force: F,
    mean: f64,
    scale: f64,
    parallel: bool,
    out: &mut [O],
) {
    let split = |lse: f64| {
        let power = (lse * LOG2_E).round();
        (power, libm::exp(power * LN_2 - lse))
    };
    let ((power_x, scale_x), (power_y, scale_y)) = (split(moments.lse_x), split(moments.lse_y()));
    let frame = LogFrame {
        offset: moments.offset,
        correction: moments.correction,
        power: [power_x, power_y],
        scale: [scale_x, scale_y],
    };
    let (x, y) = (moments.x, moments.y);
    over_parts(out, parallel, |from, out| {
        dispatch(LogWrite { x, y, from, frame, force, mean, scale, out, elem: std::marker::PhantomData::<T> });
    });
}

/// The gradient of one part of a row of logits.
struct LogWrite<'a, 'o, T, F, O> {
    x: Row<'a>,
    y: Row<'a>,
    from: usize,
    frame: LogFrame,
    force: F,
    mean: f64,
    scale: f64,
    out: &'o mut [O],
    elem: std::marker::PhantomData<T>,
}

impl<T: InPlace, F: Force, O: Element> Kernel for LogWrite<'_, '_, T, F, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
        let none = T::from_f64(f64::NEG_INFINITY);
        let limit = T::In::<S>::constant(NEAR * NEAR);
        // Near pairs are in units of the reference's power of two.
        let (near_unit, far_unit) = (self.frame.scale[0] * self.scale, self.scale);
        let mut near = true;
        let mut done = 0;
        while done < self.out.len() {
            let left = BLOCK.min(self.out.len() - done);
            let whole = left - left % T::LANES;
            let len = if whole > 0 { whole } else { left };
            let xs = self.x.block::<S, T>(self.from + done, len, &mut scratch_x, none);
            let ys = self.y.block::<S, T>(self.from + done, len, &mut scratch_y, none);
            let out = &mut self.out[done..done + len];
            done += len;
            if near && whole > 0 {
                let square = write_block::<T::In<S>, F, O>(xs, ys, &self.force, self.mean, near_unit, out, |x, y| {
                    Pair::near_logs(x, y, &self.frame)
                });
                near = square.lt(limit).all();
                if near {
                    continue;
                }
            }
            let square = write_block::<T::In<S>, F, O>(xs, ys, &self.force, self.mean, far_unit, out, |x, y| {
                Pair::far_logs(x, y, &self.frame)
            });
            near = square.lt(limit).all();
        }
    }
}

/// Writes the gradient of one block; returns the largest t², infinite if a NaN was met.
#[inline(always)]
fn write_block<V: Vector, F: Force, O: Element>(
    xs: &[V::Elem],
    ys: &[V::Elem],
    force: &F,
    mean: f64,
    unit: f64,
    out: &mut [O],
    pair: impl Fn(V, V) -> Pair<V>,
) -> V {
    let lanes = V::Elem::LANES;
    let (mean, unit) = (V::constant(mean), V::constant(unit));
    let mut square = V::zero();
    let mut gradient = |x: &[V::Elem], y: &[V::Elem]| {
        let (x, y) = (V::load(x), V::load(y));
        let pair = pair(x, y);
        let tt = pair.t * pair.t;
        square = V::select(tt.eq(tt), tt.max(square), V::constant(f64::INFINITY));
        let own = pair.by_side(pair.s, V::one());
        let force = force.force(&pair, x);
        pair.big * unit * if F::IS_FORWARD { force } else { force - own * mean }
    };
    let mut buffer = [V::Elem::from_f64(0.0); SUM_LANES];
    let mut outs = out.chunks_exact_mut(lanes);
    let (mut x, mut y) = (xs.chunks_exact(lanes), ys.chunks_exact(lanes));
    for ((out, x), y) in outs.by_ref().zip(x.by_ref()).zip(y.by_ref()) {
        gradient(x, y).store(&mut buffer);
        for (out, &g) in out.iter_mut().zip(&buffer) {
            *out = O::from_f64(g.to_f64());
        }
    }
    // Only rows that do not fill their last vector get here; the lanes have been filled up.
    let rest = outs.into_remainder();
    if let (false, Some(x), Some(y)) = (rest.is_empty(), x.next(), y.next()) {
        gradient(x, y).store(&mut buffer);
        for (out, &g) in rest.iter_mut().zip(&buffer) {
            *out = O::from_f64(g.to_f64());
        }
    }
    square
}

#[allow(clippy::too_many_arguments)]
fn write_weights<F: Force, O: Element>(
    a: Row<'_>,
    b: Row<'_>,
    totals: &[Totals; 2],
    force: F,
    mean: f64,
    scale: f64,
    parallel: bool,
    out: &mut [O],
) {
    // As in `terms::weight_sums`: both totals near 2^400, so that products stay normal.
    let scales = totals.map(|t| t.scale(400, 1000));
    let (ratio, low) = totals[0].quotient(&totals[1], scales[0], scales[1]);
    let unit = scale / (totals[0].sum * libm::scalbn(scales[0], totals[0].power));
    over_parts(out, parallel, |from, out| {
        dispatch(WeightWrite { a, b, from, ratio: [ratio, low], scales, force, mean, unit, out });
    });
}

/// The gradient of one part of a row of weights.
struct WeightWrite<'a, 'o, F, O> {
    a: Row<'a>,
    b: Row<'a>,
    from: usize,
    ratio: [f64; 2],
    scales: [f64; 2],
    force: F,
    mean: f64,
    unit: f64,
    out: &'o mut [O],
}

impl<F: Force, O: Element> Kernel for WeightWrite<'_, '_, F, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        type In<S> = <f64 as Lanes>::In<S>;
        let (mut scratch_a, mut scratch_b) = (Scratch::<f64>::new(), Scratch::<f64>::new());
        let constant = In::<S>::constant;
        let ([ratio, ratio_low], [scale_a, scale_b]) = (self.ratio.map(constant), self.scales.map(constant));
        let (mean, unit) = (constant(self.mean), constant(self.unit));
        let mut buffer = [0.0; SUM_LANES];
        let mut done = 0;
        while done < self.out.len() {
            let len = BLOCK.min(self.out.len() - done);
            let from = self.from + done;
            let a = self.a.block::<S, f64>(from, len, &mut scratch_a, 0.0);
            let b = self.b.block::<S, f64>(from, len, &mut scratch_b, 0.0);
            let out = &mut self.out[done..done + len];
            done += len;
            for ((out, a), b) in
                out.chunks_mut(f64::LANES).zip(a.chunks_exact(f64::LANES)).zip(b.chunks_exact(f64::LANES))
            {
                let (x, y) = (In::<S>::load(a), In::<S>::load(b));
                let pair = Pair::from_weights(x * scale_a, y * scale_b, ratio, ratio_low);
                let own = pair.by_side(pair.s, In::<S>::one());
                let gradient = pair.big * unit * (self.force.force(&pair, x) - own * mean);
                gradient.store(&mut buffer);
                for (out, &g) in out.iter_mut().zip(&buffer) {
                    *out = O::from_f64(g);
                }
            }
        }
    }
}
