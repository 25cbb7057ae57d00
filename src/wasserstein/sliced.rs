//! Clouds of points projected onto directions, and W_p of each projection.
//!
//! A block of directions shares one reading of the points, in tiles of sixty-four turned so that lanes run over points:
//! a projection is then one chain of fused multiply-adds over the coordinates, in float64, whatever the block or the
//! number of threads. Beside the input, memory holds a block of projections for each thread and nothing else.

use rayon::prelude::*;

use super::line::{Sorted, distance};
use super::order::Number;
use crate::error::{Error, Result};
use crate::pool::{Call, install};
use crate::simd::{Element, Kernel, Simd, Vector, dispatch};

/// Points in a tile.
const TILE: usize = 64;

/// Most directions that share one reading.
const TOGETHER: usize = 8;

/// Bytes of projections that a thread should not exceed for the sake of sharing.
const BUDGET: usize = 64 << 20;

/// A cloud of points in space.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a, T> {
    /// Their coordinates, point after point; finite.
    pub points: &'a [T],
    /// Weight of each point; equal ones if there are none.
    pub weights: Option<&'a [f64]>,
}

struct Project<'a> {
    /// Coordinates in turn, each of a whole tile.
    tile: &'a [f64],
    direction: &'a [f64],
    out: &'a mut [f64; TILE],
}

impl Kernel for Project<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut sums = [S::F64::zero(); TILE / f64::LANES];
        for (coordinate, &along) in self.tile.chunks_exact(TILE).zip(self.direction) {
            let along = S::F64::splat(along);
            for (sum, lanes) in sums.iter_mut().zip(coordinate.chunks_exact(f64::LANES)) {
                *sum = S::F64::load(lanes).mul_add(along, *sum);
            }
        }
        for (sum, lanes) in sums.iter().zip(self.out.chunks_exact_mut(f64::LANES)) {
            sum.store(lanes);
        }
    }
}

/// The projections of all points on each direction, sorted.
fn projections<T: Number>(cloud: &Points<'_, T>, directions: &[f64], dimension: usize) -> Vec<Sorted<f64>> {
    let count = cloud.points.len() / dimension;
    let mut keys: Vec<Vec<u64>> = directions.chunks_exact(dimension).map(|_| Vec::with_capacity(count)).collect();
    let mut tile = vec![0.0; TILE * dimension];
    let mut out = [0.0; TILE];
    for points in cloud.points.chunks(TILE * dimension) {
        for (i, point) in points.chunks_exact(dimension).enumerate() {
            for (c, x) in point.iter().enumerate() {
                tile[c * TILE + i] = x.wide();
            }
        }
        for (keys, direction) in keys.iter_mut().zip(directions.chunks_exact(dimension)) {
            dispatch(Project { tile: &tile, direction, out: &mut out });
            keys.extend(out[..points.len() / dimension].iter().map(|x| x.key()));
        }
    }
    keys.into_iter().map(|keys| Sorted::from_keys(keys, cloud.weights, false)).collect()
}

/// W_p of the projections on each of the directions, rows of `dimension` numbers.
pub fn sliced_wasserstein<T: Number>(
    x: &Points<'_, T>,
    y: &Points<'_, T>,
    directions: &[f64],
    dimension: usize,
    p: f64,
    call: &Call,
) -> Result<Vec<f64>> {
    if dimension == 0 {
        return Err(Error::Shape("points without coordinates".to_owned()));
    }
    let whole = |len: usize| len.is_multiple_of(dimension);
    if !whole(x.points.len()) || !whole(y.points.len()) || !whole(directions.len()) {
        return Err(Error::Shape(format!("points or directions that are no rows of {dimension} coordinates")));
    }
    for (cloud, name) in [(x, "x"), (y, "y")] {
        let count = cloud.points.len() / dimension;
        if count == 0 || cloud.weights.is_some_and(|weights| weights.len() != count) {
            return Err(Error::Shape(format!("{name}: no points, or not one weight for each")));
        }
    }
    let bytes = (x.points.len() + y.points.len()) / dimension * size_of::<f64>();
    let together = (BUDGET / bytes.max(1)).clamp(1, TOGETHER);
    let work = |directions: &[f64]| -> Result<Vec<f64>> {
        if call.stopped() {
            return Err(Error::Interrupted);
        }
        let (x, y) = (projections(x, directions, dimension), projections(y, directions, dimension));
        Ok(x.iter().zip(&y).map(|(x, y)| distance(x, y, p)).collect())
    };
    let threads = call.threads();
    let blocks = || directions.par_chunks(together * dimension).map(work).collect::<Vec<_>>();
    let found = install(threads, blocks).into_iter().collect::<Result<Vec<_>>>()?;
    Ok(found.concat())
}
