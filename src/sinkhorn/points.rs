//! Costs between the points of two clouds, computed row by row and never stored.
//!
//! ```text
//! sqeuclidean  s·Σ_c (x_c − y_c)²      euclidean  s·√Σ_c (x_c − y_c)²      manhattan  s·Σ_c |x_c − y_c|
//! ```
//!
//! Coordinates are subtracted, not expanded into x² − 2xy + y²: the cost of points near each other keeps its digits,
//! however far from the origin they lie. Columns lie coordinate by coordinate, so that lanes run over points, and in
//! both precisions: sweeps that may run in float32 do, the final ones see the float64 coordinates.

use super::cost::{Cost, Number};
use super::problem::{Extent, Flaw};
use super::vectors::Aligned;
use crate::simd::{SUM_LANES, Simd, Vector};

/// Beyond this magnitude a float32 square may overflow, and below its inverse vanish.
const FAR: f64 = 1e15;

/// Pairs up to which the kernel is kept between sweeps: at most 32 MB.
const KEPT: usize = 1 << 22;

/// What lies between two points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Sum of squares.
    SquaredEuclidean,
    /// Its root.
    Euclidean,
    /// Sum of magnitudes.
    Manhattan,
}

impl Distance {
    /// The distance of that name.
    pub fn from_name(name: &str) -> Option<Distance> {
        Some(match name {
            "sqeuclidean" => Distance::SquaredEuclidean,
            "euclidean" => Distance::Euclidean,
            "manhattan" => Distance::Manhattan,
            _ => return None,
        })
    }
}

/// Two clouds.
#[derive(Debug)]
pub struct Clouds<'a> {
    x: &'a [f64],
    /// Columns, coordinate by coordinate, each filled up to whole vectors.
    narrow: Aligned<f32>,
    wide: Aligned<f64>,
    stride: usize,
    columns: usize,
    /// Coordinates of a point.
    pub dimension: usize,
    /// What lies between two points.
    pub distance: Distance,
    /// Factor of every cost.
    pub scale: f64,
    extent: Extent,
    far: bool,
}

impl<'a> Clouds<'a> {
    /// Clouds of points with `dimension` finite coordinates each, point after point.
    pub fn new(x: &'a [f64], y: &[f64], dimension: usize, distance: Distance, scale: f64) -> Result<Self, Flaw> {
        for (argument, points) in [("x", x), ("y", y)] {
            if dimension == 0 || points.is_empty() || !points.len().is_multiple_of(dimension) {
                return Err(Flaw::new("length", argument, points.len(), dimension, f64::NAN));
            }
            if let Some(at) = points.iter().position(|x| !x.is_finite()) {
                return Err(Flaw::new("not finite", argument, at / dimension, at % dimension, points[at]));
            }
        }
        let columns = y.len() / dimension;
        let stride = columns.next_multiple_of(SUM_LANES);
        let (mut narrow, mut wide) = (Aligned::new(0.0, dimension * stride), Aligned::new(0.0, dimension * stride));
        for (j, point) in y.chunks_exact(dimension).enumerate() {
            for (c, &x) in point.iter().enumerate() {
                narrow[c * stride + j] = x as f32;
                wide[c * stride + j] = x;
            }
        }
        let (highest, largest) = reach(x, y, dimension, distance);
        let extent = Extent { lowest: 0.0, highest: scale * highest, forbids: false };
        if !extent.highest.is_finite() {
            return Err(Flaw::new("too far", "x", 0, 0, largest));
        }
        let far = largest > FAR || extent.highest > FAR || (largest > 0.0 && largest < 1.0 / FAR);
        Ok(Self { x, narrow, wide, stride, columns, dimension, distance, scale, extent, far })
    }

    /// The coordinates of a row.
    pub fn point(&self, row: usize) -> &'a [f64] {
        &self.x[row * self.dimension..(row + 1) * self.dimension]
    }

    /// Coordinate `c` of the columns, filled up to whole vectors.
    #[inline(always)]
    pub fn coordinate<E: Number>(&self, c: usize) -> &[E] {
        let range = c * self.stride..(c + 1) * self.stride;
        E::either(&self.narrow, &self.wide, range)
    }

    /// One row. Four vectors at a time: their chains of additions run side by side, and a coordinate is spread once.
    #[inline(always)]
    fn fill<S: Simd, E: Number>(&self, point: &[f64], out: &mut [E]) {
        let mut at = 0;
        while at + 4 * E::LANES <= self.stride {
            self.fill_part::<S, E, 4>(point, at, out);
            at += 4 * E::LANES;
        }
        while at < self.stride {
            self.fill_part::<S, E, 1>(point, at, out);
            at += E::LANES;
        }
    }

    /// `N` vectors of a row. By index: iterators here are not inlined by every build, and then take most of the time.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn fill_part<S: Simd, E: Number, const N: usize>(&self, point: &[f64], at: usize, out: &mut [E]) {
        let lanes = E::LANES;
        let scale = E::In::<S>::constant(self.scale);
        let (root, straight) = (self.distance == Distance::Euclidean, self.distance == Distance::Manhattan);
        let mut sums = [E::In::<S>::zero(); N];
        for c in 0..point.len() {
            let x = E::In::<S>::constant(point[c]);
            let y = &self.coordinate::<E>(c)[at..at + N * lanes];
            for i in 0..N {
                let apart = x - E::In::<S>::load(&y[i * lanes..]);
                sums[i] = if straight { sums[i] + apart.abs() } else { apart.mul_add(apart, sums[i]) };
            }
        }
        let out = &mut out[at..at + N * lanes];
        for i in 0..N {
            let sum = if root { sums[i].sqrt() } else { sums[i] };
            (sum * scale).store(&mut out[i * lanes..]);
        }
    }
}

/// An upper bound of the distance of any two points, and the largest magnitude of a coordinate.
fn reach(x: &[f64], y: &[f64], dimension: usize, distance: Distance) -> (f64, f64) {
    let (mut sum, mut largest) = (0.0f64, 0.0f64);
    let span = |points: &[f64], c: usize| {
        let along = points.iter().skip(c).step_by(dimension);
        along.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
    };
    for c in 0..dimension {
        let ((low_x, high_x), (low_y, high_y)) = (span(x, c), span(y, c));
        let far = (high_x - low_y).max(high_y - low_x).max(0.0);
        sum += if distance == Distance::Manhattan { far } else { far * far };
        largest = largest.max(high_x.abs()).max(low_x.abs()).max(high_y.abs()).max(low_y.abs());
    }
    (if distance == Distance::Euclidean { sum.sqrt() } else { sum }, largest)
}

impl Cost for Clouds<'_> {
    fn rows(&self) -> usize {
        self.x.len() / self.dimension
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn is_wide(&self) -> bool {
        self.far
    }

    fn is_lazy(&self) -> bool {
        self.rows().saturating_mul(self.columns) > KEPT
    }

    fn known_extent(&self) -> Option<Extent> {
        Some(self.extent)
    }

    #[inline(always)]
    fn row<'b, S: Simd, E: Number>(&'b self, index: usize, buffer: &'b mut [E]) -> &'b [E] {
        let (point, out) = (self.point(index), &mut buffer[..self.stride]);
        self.fill::<S, E>(point, out);
        &out[..self.columns]
    }
}
