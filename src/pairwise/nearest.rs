//! The rows of q nearest to each row of p, from blocks of the matrix that is never held as a whole.

use crate::batch::Matrix;
use crate::error::{Error, Result};
use crate::pool::Call;

use super::Grid;

/// Rows of p, and of q, in a block: at most 8 MB of values.
const BLOCK: (usize, usize) = (512, 2048);

/// The k smallest values of each row of p and where they stand, smallest first, then by index; −1 and NaN where there
/// are not so many.
#[derive(Debug)]
pub struct Nearest {
    /// Rows of q, k a row of p.
    pub indices: Vec<i64>,
    /// Their values.
    pub values: Vec<f64>,
    /// The rows of p and of q that are no distributions.
    pub undefined: [Vec<usize>; 2],
}

/// See [`Nearest`].
pub fn nearest(
    name: &str,
    parameter: Option<f64>,
    p: &Matrix<'_>,
    q: &Matrix<'_>,
    k: usize,
    call: &Call,
) -> Result<Nearest> {
    let grid = Grid::new(name, parameter, p, Some(q), call)?;
    let (rows, columns) = grid.shape();
    if k > columns {
        return Err(Error::Shape(format!("k is {k}, but q has {columns} rows")));
    }
    let (mut indices, mut values) = (vec![-1; rows * k], vec![f64::NAN; rows * k]);
    let mut block = vec![0.0; BLOCK.0.min(rows) * BLOCK.1.min(columns)];
    for from in (0..rows).step_by(BLOCK.0) {
        let lines = from..rows.min(from + BLOCK.0);
        let mut best = vec![Best::default(); lines.len()];
        for start in (0..columns).step_by(BLOCK.1) {
            let across = start..columns.min(start + BLOCK.1);
            let block = &mut block[..lines.len() * across.len()];
            grid.fill(lines.clone(), across.clone(), block, call)?;
            for (best, line) in best.iter_mut().zip(block.chunks_exact(across.len())) {
                for (index, &value) in across.clone().zip(line) {
                    best.offer(value, index, k);
                }
            }
        }
        for (i, best) in lines.zip(best) {
            for (at, (value, index)) in (i * k..).zip(best.sorted(k)) {
                (values[at], indices[at]) = (value, index as i64);
            }
        }
    }
    Ok(Nearest { indices, values, undefined: grid.undefined() })
}

/// The smallest of the values offered so far, and at most as many again that may still be among them.
#[derive(Clone, Debug, Default)]
struct Best {
    entries: Vec<(f64, usize)>,
    /// A later value must be below this one.
    bar: Option<f64>,
}

impl Best {
    /// Indices come in ascending order, so that of equal values the first one wins.
    fn offer(&mut self, value: f64, index: usize, k: usize) {
        if value.is_nan() || self.bar.is_some_and(|bar| value >= bar) {
            return;
        }
        self.entries.push((value, index));
        if self.entries.len() >= 2 * k + 16 {
            self.shorten(k);
        }
    }

    fn shorten(&mut self, k: usize) {
        self.entries.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.entries.truncate(k);
        if self.entries.len() == k {
            self.bar = self.entries.last().map(|&(value, _)| value);
        }
    }

    fn sorted(mut self, k: usize) -> Vec<(f64, usize)> {
        self.shorten(k);
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::Best;

    #[test]
    fn the_first_of_equal_values_wins() {
        let values = [3.0, 1.0, f64::NAN, 1.0, f64::INFINITY, 0.0, 3.0].repeat(20);
        for k in 1..30 {
            let mut best = Best::default();
            for (i, &value) in values.iter().enumerate() {
                best.offer(value, i, k);
            }
            let mut all: Vec<(f64, usize)> = values.iter().copied().zip(0..).filter(|(x, _)| !x.is_nan()).collect();
            all.sort_by(|a, b| a.partial_cmp(b).expect("no NaN is left"));
            all.truncate(k);
            assert_eq!(best.sorted(k), all);
        }
    }
}
