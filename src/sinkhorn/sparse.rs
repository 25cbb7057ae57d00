//! The plan where it is not negligible: what products with the Hessian need of it.
//!
//! At small ε a plan of n·m entries has little more than n + m that matter. W_ij = P_ij/r_i, r the row sums, is kept
//! where it exceeds a share so far below the damping that the Hessian diag(columns) − Wᵀ·diag(r)·W loses nothing that
//! is not hidden, and stays positive. In float64: where points lie far from all others the plan all but falls apart,
//! and what holds it together is the difference of numbers that agree in all digits of float32. Gradients and errors
//! never come from here.
//!
//! An entry costs some 1.5 ns, one of a dense float32 sweep 0.1 and of a float64 one 0.25: hence [`DENSEST`].

use super::absorbed::Absorbed;
use super::cost::Number;
use super::sweep::{Plan, add_chunks, sums_len};
use super::vectors::padded;
use crate::error::Result;
use crate::simd::{Kernel, Mask, SUM_LANES, Simd, Vector, dispatch};

/// Largest share of entries kept for products.
pub const DENSEST: f64 = 0.05;

/// Rows of a chunk.
#[derive(Default)]
struct Part {
    /// Where each row ends.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
    full: bool,
}

/// A sparse plan, in chunks of rows.
pub struct Sparse {
    parts: Vec<Part>,
    /// Row sums of the plan.
    rows: Vec<f64>,
    columns: usize,
}

impl Sparse {
    /// Gathers the entries of an absorbed kernel under v, whose dots with v are `dots`; `rows` are the row sums of the
    /// plan. `kept` is the share of its row from which an entry is. None if there are more of them than `densest`.
    pub fn gather<K: Number>(
        kernel: &Absorbed<K>,
        plan: &Plan<'_>,
        v: &[f64],
        dots: &[f64],
        rows: Vec<f64>,
        kept: f64,
        densest: f64,
    ) -> Result<Option<Sparse>> {
        let columns = v.len();
        let v = padded::<K>(v, 0.0);
        let most = (densest * (plan.rows * columns) as f64) as usize;
        let mut parts: Vec<Part> = (0..dots.len().div_ceil(plan.rows)).map(|_| Part::default()).collect();
        let items: Vec<_> = parts.iter_mut().enumerate().collect();
        plan.run(items, |(index, part)| {
            let first = *index * plan.rows;
            let dots = &dots[first..dots.len().min(first + plan.rows)];
            dispatch(Gather { kernel, first, v: &v, dots, kept, most, part });
        })?;
        let fits = u32::try_from(columns).is_ok() && !parts.iter().any(|part| part.full);
        Ok(fits.then_some(Sparse { parts, rows, columns }))
    }

    /// Σ_i r_i·(W·w)_i·W_ij for every column.
    pub fn product(&self, plan: &Plan<'_>, w: &[f64], out: &mut [f64]) -> Result<()> {
        self.run(plan, out, |entries, row, sums| {
            let dot: f64 = entries.clone().map(|(column, value)| w[column] * value).sum();
            for (column, value) in entries {
                sums[column] += row * dot * value;
            }
        })
    }

    /// Σ_i r_i·W_ij² for every column.
    pub fn diagonal(&self, plan: &Plan<'_>, out: &mut [f64]) -> Result<()> {
        self.run(plan, out, |entries, row, sums| {
            for (column, value) in entries {
                sums[column] += row * value * value;
            }
        })
    }

    /// Calls `work` with the sum of each row and its entries.
    pub fn each_row(&self, mut work: impl FnMut(f64, Entries<'_>)) {
        let mut rows = self.rows.iter();
        for part in &self.parts {
            let mut from = 0;
            for (&to, &row) in part.ends.iter().zip(&mut rows) {
                work(row, Entries(part.columns[from..to].iter().zip(&part.values[from..to])));
                from = to;
            }
        }
    }

    /// Lets `add` add each row, its entries and its sum given, to the column sums of its chunk.
    fn run(&self, plan: &Plan<'_>, out: &mut [f64], add: impl Fn(Entries<'_>, f64, &mut [f64]) + Sync) -> Result<()> {
        let stride = sums_len(self.columns);
        let mut sums = vec![0.0; self.parts.len() * stride];
        let items: Vec<_> = sums.chunks_mut(stride).enumerate().collect();
        plan.run(items, |(index, sums)| {
            let part = &self.parts[*index];
            let mut from = 0;
            for (&to, &row) in part.ends.iter().zip(&self.rows[*index * plan.rows..]) {
                add(Entries(part.columns[from..to].iter().zip(&part.values[from..to])), row, sums);
                from = to;
            }
        })?;
        add_chunks(&sums, stride, out);
        Ok(())
    }
}

/// The entries of a row: columns and values.
#[derive(Clone)]
pub struct Entries<'a>(std::iter::Zip<std::slice::Iter<'a, u32>, std::slice::Iter<'a, f64>>);

impl Iterator for Entries<'_> {
    type Item = (usize, f64);
    #[inline]
    fn next(&mut self) -> Option<(usize, f64)> {
        self.0.next().map(|(&column, &value)| (column as usize, value))
    }
}

struct Gather<'a, K> {
    kernel: &'a Absorbed<K>,
    first: usize,
    v: &'a [K],
    dots: &'a [f64],
    kept: f64,
    most: usize,
    part: &'a mut Part,
}

impl<K: Number> Kernel for Gather<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let part = self.part;
        for (i, &dot) in self.dots.iter().enumerate() {
            let row = self.kernel.row(self.first + i);
            let least = K::In::<S>::constant(self.kept * dot);
            let scale = 1.0 / dot;
            let mut at = 0;
            while at < row.len() && dot > 0.0 {
                let x = K::In::<S>::load(&row[at..]) * K::In::<S>::load(&self.v[at..]);
                if least.lt(x).count() > 0 {
                    let mut lanes = [K::from_f64(0.0); SUM_LANES];
                    x.store(&mut lanes);
                    for (lane, x) in lanes.iter().take(K::LANES).enumerate() {
                        let x = x.to_f64();
                        if x > self.kept * dot {
                            part.columns.push((at + lane) as u32);
                            part.values.push(x * scale);
                        }
                    }
                }
                at += K::LANES;
            }
            part.ends.push(part.columns.len());
            if part.columns.len() > self.most {
                part.full = true;
                return;
            }
        }
    }
}
