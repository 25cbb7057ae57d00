//! W_p between points on the line: sort both sides, then sum over the pieces of the monotone plan.
//!
//! ```text
//! W_p = (∫₀¹ |X(t) − Y(t)|^p dt)^(1/p),   X, Y the quantile functions;   W_∞ = max |X(t) − Y(t)|
//! ```
//!
//! Gaps are differences of float64 (or widened float32) numbers, each rounded once; for p ≠ 1 they are divided by the
//! largest before the power, so that neither a square nor a hundredth power overflows. Sums are float64, in lanes or
//! blocks. Relative error about 1e-15 beside that of the input.

use super::merge::{Weights, pieces};
use super::network::{LONGEST, sort_together};
use super::order::{Number, sort, sort_pairs};
use crate::batch::map_rows;
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::simd::{Kernel, Lanes, SUM_LANES, Simd, Sum, dispatch};

/// Rows of points, one after the other, and their weights.
#[derive(Clone, Copy, Debug)]
pub struct Cloud<'a, T> {
    /// The points; finite.
    pub points: &'a [T],
    /// Points in a row.
    pub width: usize,
    /// Weights of one row for all, or of each; equal ones if there are none.
    pub weights: Option<&'a [f64]>,
}

impl<'a, T> Cloud<'a, T> {
    fn rows(&self, name: &str) -> Result<usize> {
        let wrong = |what: &str| Err(Error::Shape(format!("{name}: {what}")));
        if self.width == 0 || !self.points.len().is_multiple_of(self.width) {
            return wrong("points that fill no whole rows");
        }
        match self.weights {
            Some(weights) if weights.len() != self.width && weights.len() != self.points.len() => {
                wrong("neither one row of weights nor one for each row of points")
            }
            _ => Ok(self.points.len() / self.width),
        }
    }

    fn row(&self, index: usize) -> (&'a [T], Option<&'a [f64]>) {
        let range = index * self.width..(index + 1) * self.width;
        let weights = self.weights.map(|all| if all.len() == self.width { all } else { &all[range.clone()] });
        (&self.points[range], weights)
    }
}

/// One sorted side.
pub struct Sorted<T: Number> {
    keys: Vec<T::Key>,
    weights: Option<Vec<f64>>,
}

impl<T: Number> Sorted<T> {
    /// Sorts points by value, then weight.
    pub fn new(points: &[T], weights: Option<&[f64]>, parallel: bool) -> Self {
        Self::from_keys(points.iter().map(|x| x.key()).collect(), weights, parallel)
    }

    /// Sorts keys by value, then weight.
    pub fn from_keys(mut keys: Vec<T::Key>, weights: Option<&[f64]>, parallel: bool) -> Self {
        let Some(weights) = weights else {
            sort::<T>(&mut keys, parallel);
            return Self { keys, weights: None };
        };
        // Weights are not negative, so that their bits have their order.
        let mut pairs: Vec<_> = keys.iter().zip(weights).map(|(&key, w)| (key, w.to_bits())).collect();
        sort_pairs(&mut pairs, parallel);
        for (key, pair) in keys.iter_mut().zip(&pairs) {
            *key = pair.0;
        }
        Self { keys, weights: Some(pairs.into_iter().map(|pair| f64::from_bits(pair.1)).collect()) }
    }

    fn weights(&self) -> Weights<'_> {
        self.weights.as_ref().map_or(Weights::Equal(self.keys.len()), |weights| Weights::Any(weights))
    }
}

/// A sum that adds blocks of terms, so that its error does not grow with their number.
#[derive(Default)]
struct BlockedSum {
    sum: f64,
    block: f64,
    terms: u32,
}

impl BlockedSum {
    #[inline(always)]
    fn add(&mut self, term: f64) {
        self.block += term;
        self.terms += 1;
        if self.terms == 512 {
            self.sum += std::mem::take(&mut self.block);
            self.terms = 0;
        }
    }

    fn value(&self) -> f64 {
        self.sum + self.block
    }
}

/// The gaps of a plan and their masses.
trait Gaps {
    /// The largest gap.
    fn largest(&self) -> f64;
    /// The mean of `term` of the gap.
    fn mean(&self, term: impl Fn(f64) -> f64 + Copy) -> f64;
}

/// Two sorted sides, seen piece by piece.
struct Pieces<'a, T: Number>(&'a Sorted<T>, &'a Sorted<T>);

impl<T: Number> Pieces<'_, T> {
    /// Calls `visit` with the gap and the mass of each piece; returns the total mass.
    #[inline(always)]
    fn visit(&self, mut visit: impl FnMut(f64, f64)) -> f64 {
        pieces(self.0.weights(), self.1.weights(), |i, j, mass| {
            visit((T::number(self.0.keys[i]) - T::number(self.1.keys[j])).abs(), mass);
        })
    }

    /// True if every point has its partner, and lanes can take sixteen pairs at a time.
    fn paired(&self) -> bool {
        self.0.weights.is_none() && self.1.weights.is_none() && self.0.keys.len() == self.1.keys.len()
    }
}

/// The larger of two, or NaN if either is: a gap between infinities must not pass for none.
fn larger(best: f64, gap: f64) -> f64 {
    if best.is_nan() || gap <= best { best } else { gap }
}

impl<T: Number> Gaps for Pieces<'_, T> {
    fn largest(&self) -> f64 {
        if self.paired() {
            return dispatch(Paired(self, larger, larger));
        }
        let mut best = 0.0;
        self.visit(|gap, _| best = larger(best, gap));
        best
    }

    fn mean(&self, term: impl Fn(f64) -> f64 + Copy) -> f64 {
        if self.paired() {
            let sum = dispatch(Paired(self, move |sum: f64, gap: f64| sum + term(gap), |a, b| a + b));
            return sum / self.0.keys.len() as f64;
        }
        let mut sum = BlockedSum::default();
        let total = self.visit(|gap, mass| sum.add(mass * term(gap)));
        sum.value() / total
    }
}

/// One of the rows that were sorted together, in the lanes of each rank. The order of its sums is that of [`Paired`].
struct Lane<'a, T> {
    x: &'a [T],
    y: &'a [T],
    index: usize,
}

impl<T: Number + Lanes> Lane<'_, T> {
    #[inline(always)]
    fn fold(&self, fold: impl Fn(f64, f64) -> f64, combine: impl Fn(f64, f64) -> f64) -> f64 {
        let mut lanes: Sum = [0.0; SUM_LANES];
        let ranks = self.x.chunks_exact(T::LANES).zip(self.y.chunks_exact(T::LANES));
        for (rank, (x, y)) in ranks.enumerate() {
            let sum = &mut lanes[rank % SUM_LANES];
            *sum = fold(*sum, (x[self.index].wide() - y[self.index].wide()).abs());
        }
        lanes.into_iter().fold(0.0, combine)
    }
}

impl<T: Number + Lanes> Gaps for Lane<'_, T> {
    fn largest(&self) -> f64 {
        self.fold(larger, larger)
    }

    fn mean(&self, term: impl Fn(f64) -> f64 + Copy) -> f64 {
        self.fold(|sum, gap| sum + term(gap), |a, b| a + b) / (self.x.len() / T::LANES) as f64
    }
}

/// Folds the gaps of points with partners, lane by lane, blocks of them in order.
struct Paired<'a, 'b, T: Number, F, G>(&'a Pieces<'b, T>, F, G);

impl<T: Number, F: Fn(f64, f64) -> f64, G: Fn(f64, f64) -> f64> Kernel for Paired<'_, '_, T, F, G> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        const BLOCK: usize = 512 * SUM_LANES;
        let Self(gaps, fold, combine) = self;
        let mut result = 0.0;
        for (x, y) in gaps.0.keys.chunks(BLOCK).zip(gaps.1.keys.chunks(BLOCK)) {
            let mut lanes: Sum = [0.0; SUM_LANES];
            let (x, x_rest) = x.as_chunks::<SUM_LANES>();
            let (y, y_rest) = y.as_chunks::<SUM_LANES>();
            for (x, y) in x.iter().zip(y) {
                for i in 0..SUM_LANES {
                    lanes[i] = fold(lanes[i], (T::number(x[i]) - T::number(y[i])).abs());
                }
            }
            for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
                *lane = fold(*lane, (T::number(x) - T::number(y)).abs());
            }
            result = lanes.into_iter().fold(result, &combine);
        }
        result
    }
}

/// W_p of two sorted sides; p from 1 to infinity.
pub fn distance<T: Number>(x: &Sorted<T>, y: &Sorted<T>, p: f64) -> f64 {
    of_order(&Pieces(x, y), p)
}

fn of_order(gaps: &impl Gaps, p: f64) -> f64 {
    if p == 1.0 {
        return gaps.mean(|gap| gap);
    }
    let largest = gaps.largest();
    if p == f64::INFINITY || largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    if p == 2.0 {
        let mean = gaps.mean(|gap| {
            let part = gap / largest;
            part * part
        });
        return largest * mean.sqrt();
    }
    largest * libm::pow(gaps.mean(|gap| libm::pow(gap / largest, p)), 1.0 / p)
}

/// W_p of every pair of rows. Weights are normalised; see [`Weights`] for their range.
pub fn wasserstein_1d<T: Number + Lanes>(x: &Cloud<'_, T>, y: &Cloud<'_, T>, p: f64, call: &Call) -> Result<Vec<f64>> {
    let (rows, others) = (x.rows("x")?, y.rows("y")?);
    if rows != others {
        return Err(Error::Shape(format!("x has {rows} rows and y {others}")));
    }
    let paired = x.weights.is_none() && y.weights.is_none() && x.width == y.width && x.width <= LONGEST;
    let mut values = if paired { together(x, y, p, call)? } else { Vec::new() };
    let done = values.len();
    values.extend(map_rows(rows - done, x.width.saturating_add(y.width), 1, call, |index, parallel, out| {
        let ((points_x, weights_x), (points_y, weights_y)) = (x.row(done + index), y.row(done + index));
        let sort_x = || Sorted::new(points_x, weights_x, parallel);
        let sort_y = || Sorted::new(points_y, weights_y, parallel);
        let (x, y) = if parallel { rayon::join(sort_x, sort_y) } else { (sort_x(), sort_y()) };
        out[0] = distance(&x, &y, p);
        Ok(())
    })?);
    Ok(values)
}

/// W_p of as many pairs of short rows as fill whole vectors.
fn together<T: Number + Lanes>(x: &Cloud<'_, T>, y: &Cloud<'_, T>, p: f64, call: &Call) -> Result<Vec<f64>> {
    let block = T::LANES * x.width;
    map_rows(x.points.len() / block, 2 * block, T::LANES, call, |index, _, out| {
        let (mut sorted_x, mut sorted_y) = (Vec::with_capacity(block), Vec::with_capacity(block));
        sort_together(&x.points[index * block..(index + 1) * block], x.width, &mut sorted_x);
        sort_together(&y.points[index * block..(index + 1) * block], y.width, &mut sorted_y);
        for (index, out) in out.iter_mut().enumerate() {
            *out = of_order(&Lane { x: &sorted_x, y: &sorted_y, index }, p);
        }
        Ok(())
    })
}

/// The monotone plan: index in x, index in y and mass of each piece, in rising order; the masses sum to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Index in x.
    pub from: Vec<i64>,
    /// Index in y.
    pub to: Vec<i64>,
    /// Mass.
    pub mass: Vec<f64>,
}

/// The monotone plan between two rows; of equal points the first in the input is served first.
pub fn monotone_plan<T: Number>(x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Result<Plan> {
    if x.rows("x")? != 1 || y.rows("y")? != 1 {
        return Err(Error::Shape("a plan is made for one row of x and one of y".to_owned()));
    }
    let sorted = |cloud: &Cloud<'_, T>| {
        let mut order: Vec<_> = cloud.points.iter().enumerate().map(|(i, x)| (x.key(), i)).collect();
        sort_pairs(&mut order, false);
        let weights = cloud.weights.map(|weights| order.iter().map(|&(_, i)| weights[i]).collect::<Vec<f64>>());
        (order, weights)
    };
    let (order_x, weights_x) = sorted(x);
    let (order_y, weights_y) = sorted(y);
    let x = weights_x.as_deref().map_or(Weights::Equal(order_x.len()), Weights::Any);
    let y = weights_y.as_deref().map_or(Weights::Equal(order_y.len()), Weights::Any);
    let mut plan = Plan::default();
    let total = pieces(x, y, |i, j, mass| {
        plan.from.push(order_x[i].1 as i64);
        plan.to.push(order_y[j].1 as i64);
        plan.mass.push(mass);
    });
    plan.mass.iter_mut().for_each(|mass| *mass /= total);
    Ok(plan)
}
