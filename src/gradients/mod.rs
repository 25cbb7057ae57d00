//! A divergence of every pair of rows together with its gradient with respect to the logits of one side.
//!
//! ```text
//! prepare   normalisers of both rows (and KL, from logits)
//! sum       Σ b·h and the value, if they need a pass of their own
//! write     g = b·(h − Σ b·h)·scale
//! ```
//!
//! The side that is moved is always the second, b: gradients with respect to p exchange the rows. Each pass reads both
//! rows, the later ones from the cache. Kernels are compiled only for the lanes that a force can meet (float64 ones for
//! weights and for what has a parameter), since each counts three times: once an instruction set.

mod forces;
mod mixed;
mod write;

pub use write::Number;

use crate::batch::{Matrix, Sharing};
use crate::entropy::log_tail;
use crate::error::{Argument, Error, Result};
use crate::evaluate::{same_shape, sides};
use crate::moments::Moments;
use crate::order::peak;
use crate::pair::Pair;
use crate::pool::Call;
use crate::prepare::{Prepared, Side, prepare};
use crate::rows::SEGMENT;
use crate::simd::Vector;
use crate::terms::{MAX_SUMS, Terms, log_sums_in, weight_sums};
use forces::{CrossEntropy, Force, Forward, Jeffreys, Js, Reverse, SquaredHellinger, TotalVariation};
use mixed::{Alpha, SkewKl, SkewKlFirst, WeightedJs};
use write::{write_logs, write_weights};

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
const INLINE: usize = 64 * 1024;

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
pub fn value_and_gradient<O: Number>(
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
    let sharing = Sharing::new(rows, columns, INLINE, call);
    let group = (SEGMENT / columns.max(1)).max(1);
    let run = |(task, (values, gradient)): (usize, (&mut [f64], &mut [O]))| -> Result<()> {
        for (i, (value, out)) in values.iter_mut().zip(gradient.chunks_mut(columns)).enumerate() {
            if call.stopped() {
                return Err(Error::Interrupted);
            }
            let (p, q) = sides(p, q, task * group + i);
            *value = RowTask { request, p, q, parallel: sharing.splits_rows }.fill(out)?;
        }
        Ok(())
    };
    sharing.run(values.chunks_mut(group).zip(gradient.chunks_mut(group * columns)).enumerate(), run)
}

struct RowTask<'a, 'b> {
    request: Request<'b>,
    p: Side<'a>,
    q: Side<'a>,
    parallel: bool,
}

impl RowTask<'_, '_> {
    fn fill<O: Number>(&self, out: &mut [O]) -> Result<f64> {
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
            ("total_variation", _) => task.run(TotalVariation::default(), out),
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
            (_, true) => task.run(Alpha { alpha: 1.0 - parameter, rest: parameter }, out),
            (_, false) => task.run(Alpha { alpha: parameter, rest: 1.0 - parameter }, out),
        })
    }
}

/// The rows in the lanes that a force needs.
fn lanes_of<'a, F: Force>(moments: &Moments<'a>) -> Moments<'a> {
    if !F::WIDE || moments.wide {
        return *moments;
    }
    Moments { x: moments.x.in_wide_lanes(), y: moments.y.in_wide_lanes(), wide: true, ..*moments }
}

/// A row without a distribution.
fn nothing<O: Number>(out: &mut [O]) -> f64 {
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
    fn run<F: Force, O: Number>(self, force: F, out: &mut [O]) -> f64 {
        let (force, value, mean) = self.settle(force);
        self.write(force, value, mean, self.scale, out);
        value
    }

    /// Value and gradient of √D; the gradient is 0 where D is.
    fn root<F: Force, O: Number>(self, force: F, out: &mut [O]) -> f64 {
        let (force, square, mean) = self.settle(force);
        let value = square.sqrt();
        let scale = if value == 0.0 { 0.0 } else { self.scale / (2.0 * value) };
        self.write(force, value, mean, scale, out);
        value
    }

    /// A divergence that is 0 whatever the rows are.
    fn none<O: Number>(self, out: &mut [O]) -> f64 {
        if matches!(self.rows, Prepared::Nothing) {
            return nothing(out);
        }
        out.fill(O::from_f64(0.0));
        0.0
    }

    /// The force that knows its sums, the value, and the mean.
    fn settle<F: Force>(self, force: F) -> (F, f64, f64) {
        let sums = match self.rows {
            Prepared::Nothing => [f64::NAN; MAX_SUMS],
            Prepared::Logs(moments) if F::IS_FORWARD => return (force, moments.kl, 0.0),
            Prepared::Logs(moments) => {
                let moments = lanes_of::<F>(moments);
                if moments.wide {
                    log_sums_in::<f64>(&moments, Sums(force), self.parallel)
                } else {
                    log_sums_in::<F::Narrow>(&moments, Sums(force), self.parallel)
                }
            }
            Prepared::Weights(a, b, totals) => {
                weight_sums(a.widened(true), b.widened(true), totals, Sums(force), self.parallel)
            }
        };
        let (value, mean) = force.conclude(&sums);
        (force.settled(&sums), value, mean)
    }

    fn write<F: Force, O: Number>(self, force: F, value: f64, mean: f64, scale: f64, out: &mut [O]) {
        if value.is_nan() || !mean.is_finite() {
            nothing(out);
            return;
        }
        let (heaviest, left) = match self.rows {
            Prepared::Nothing => return,
            Prepared::Logs(moments) => {
                let moments = lanes_of::<F>(moments);
                if moments.wide {
                    write_logs::<f64, F, O>(&moments, force, mean, scale, self.parallel, out)
                } else {
                    write_logs::<F::Narrow, F, O>(&moments, force, mean, scale, self.parallel, out)
                }
            }
            Prepared::Weights(a, b, totals) => {
                write_weights(a.widened(true), b.widened(true), totals, force, mean, scale, self.parallel, out)
            }
        };
        // Where b is nearly certain of one token, that one's h and the mean are nearly equal. All others keep their
        // digits, and what it gains they lose.
        if !F::IS_FORWARD && heaviest > 0.5 {
            let b = match self.rows {
                Prepared::Logs(moments) => moments.y.widened(moments.wide),
                Prepared::Weights(_, b, _) => *b,
                Prepared::Nothing => return,
            };
            if let Some(top) = peak(&b, self.parallel) {
                out[top.index] = O::from_f64(out[top.index].to_f64() - left);
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
