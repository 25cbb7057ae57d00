//! Two sorted sides cut into the pieces that move together.
//!
//! On the line the mass between two levels t of one distribution function goes where the other has those levels. The
//! pieces lie between neighbouring levels of either side. To keep a small difference of two nearly equal histograms,
//! levels are not divided by the total mass: side x counts in units of y's total and y in units of x's, in twice the
//! precision, so that both end at one and the same number and whole weights are exact.

/// A non-negative number as a sum high + low, good to 106 bits.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Level {
    high: f64,
    low: f64,
}

impl Level {
    const ZERO: Level = Level { high: 0.0, low: 0.0 };

    #[inline(always)]
    fn normalised(high: f64, low: f64) -> Self {
        let sum = high + low;
        Self { high: sum, low: low - (sum - high) }
    }

    #[inline(always)]
    fn plus(self, weight: f64) -> Self {
        let sum = self.high + weight;
        let back = sum - self.high;
        let error = (self.high - (sum - back)) + (weight - back);
        Self::normalised(sum, error + self.low)
    }

    /// The product; the same bits whichever comes first.
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        let product = self.high * other.high;
        let error = libm::fma(self.high, other.high, -product);
        Self::normalised(product, error + (self.high * other.low + self.low * other.high))
    }

    /// self − other, never negative.
    #[inline(always)]
    fn beyond(self, other: Self) -> f64 {
        ((self.high - other.high) + (self.low - other.low)).max(0.0)
    }
}

/// The weights of one side, in the order of its sorted points.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// So many points of equal weight.
    Equal(usize),
    /// Any non-negative weights; what they sum to must neither overflow nor vanish when multiplied by the other side's.
    Any(&'a [f64]),
}

impl Weights<'_> {
    /// Number of points.
    pub fn len(&self) -> usize {
        match self {
            Weights::Equal(len) => *len,
            Weights::Any(weights) => weights.len(),
        }
    }

    /// True without points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    fn at(&self, rank: usize) -> f64 {
        match self {
            Weights::Equal(_) => 1.0,
            Weights::Any(weights) => weights[rank],
        }
    }

    fn total(&self) -> Level {
        (0..self.len()).fold(Level::ZERO, |total, rank| total.plus(self.at(rank)))
    }
}

/// Calls `visit` with the rank in x, the rank in y and the mass of each piece, in rising order, and returns the total
/// mass. Pieces without mass are left out.
#[inline(always)]
pub fn pieces(x: Weights<'_>, y: Weights<'_>, visit: impl FnMut(usize, usize, f64)) -> f64 {
    match (x, y) {
        (Weights::Equal(n), Weights::Equal(m)) => equal_pieces(n, m, visit),
        _ => weighted_pieces(x, y, visit),
    }
}

/// n points of mass m against m points of mass n: whole numbers.
#[inline(always)]
fn equal_pieces(n: usize, m: usize, mut visit: impl FnMut(usize, usize, f64)) -> f64 {
    let (mut i, mut j) = (0, 0);
    let (mut left_x, mut left_y) = (m, n);
    while i < n && j < m {
        let mass = left_x.min(left_y);
        visit(i, j, mass as f64);
        left_x -= mass;
        left_y -= mass;
        if left_x == 0 {
            i += 1;
            left_x = m;
        }
        if left_y == 0 {
            j += 1;
            left_y = n;
        }
    }
    n as f64 * m as f64
}

#[inline(always)]
fn weighted_pieces(x: Weights<'_>, y: Weights<'_>, mut visit: impl FnMut(usize, usize, f64)) -> f64 {
    let (total_x, total_y) = (x.total(), y.total());
    let total = total_x.times(total_y).high;
    let (mut i, mut j) = (0, 0);
    let (mut sum_x, mut sum_y) = (Level::ZERO, Level::ZERO);
    let (mut level_x, mut level_y, mut reached) = (Level::ZERO, Level::ZERO, Level::ZERO);
    let (mut next_x, mut next_y) = (true, true);
    while i < x.len() && j < y.len() {
        if next_x {
            sum_x = sum_x.plus(x.at(i));
            level_x = sum_x.times(total_y);
        }
        if next_y {
            sum_y = sum_y.plus(y.at(j));
            level_y = sum_y.times(total_x);
        }
        let (x_ends_first, y_ends_first) = (level_x < level_y, level_y < level_x);
        let level = if y_ends_first { level_y } else { level_x };
        let mass = level.beyond(reached);
        if mass > 0.0 {
            visit(i, j, mass);
        }
        reached = level;
        // At least one side goes on, also where a level is NaN: the loop ends.
        (next_x, next_y) = (!y_ends_first, !x_ends_first);
        i += usize::from(next_x);
        j += usize::from(next_y);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::{Weights, pieces};

    fn collect(x: Weights<'_>, y: Weights<'_>) -> (Vec<(usize, usize, f64)>, f64) {
        let mut found = Vec::new();
        let total = pieces(x, y, |i, j, mass| found.push((i, j, mass)));
        (found, total)
    }

    #[test]
    fn equal_weights_are_whole_numbers() {
        let (found, total) = collect(Weights::Equal(2), Weights::Equal(3));
        assert_eq!(found, [(0, 0, 2.0), (0, 1, 1.0), (1, 1, 1.0), (1, 2, 2.0)]);
        assert_eq!(total, 6.0);
        let (found, _) = collect(Weights::Any(&[1.0, 1.0]), Weights::Equal(3));
        assert_eq!(found, [(0, 0, 2.0), (0, 1, 1.0), (1, 1, 1.0), (1, 2, 2.0)]);
    }

    #[test]
    fn points_without_weight_take_no_part() {
        let (found, total) = collect(Weights::Any(&[0.0, 3.0, 0.0]), Weights::Any(&[0.0, 1.0, 1.0, 0.0]));
        assert_eq!(found, [(1, 1, 3.0), (1, 2, 3.0)]);
        assert_eq!(total, 6.0);
    }

    #[test]
    fn a_difference_far_below_the_rounding_of_the_sum_survives() {
        let (found, total) = collect(Weights::Any(&[1.0, 1e-20, 1.0]), Weights::Any(&[1.0, 0.0, 1.0]));
        // The middle point holds 1e-20 of 2; half of it lies beyond the middle.
        assert!((found[1].2 / total / 5e-21 * 2.0 - 1.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn weights_that_are_no_numbers_end_too() {
        collect(Weights::Any(&[f64::NAN, 1.0]), Weights::Any(&[1.0, f64::INFINITY, 0.0]));
        assert!(collect(Weights::Any(&[]), Weights::Equal(2)).0.is_empty());
    }
}
