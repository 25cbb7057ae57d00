//! One pass over the costs is one full iteration, and its stopping error is free.
//!
//! ```text
//! for each row i
//!     x_j = h_j − C_ij/ε              h_j = g_j/ε + ln b_j
//!     e_j = exp(x_j)·2^−p, S = Σ e_j  one exponential an entry; p the row's power, from its last normaliser
//!     z_i = −ln S − p·ln 2            minus the row's log-sum-exp: f_i = ε·z_i makes the row exact
//!     column_j += (a_i/S)·e_j         the same exponentials: the column sums of the plan
//! ```
//!
//! The columns' sums are those of the plan whose rows are exact, so Σ|column − b| is the error of (f, g) itself, and
//! g_j += ε·ln(b_j/column_j) is the other half of the iteration. No transposed access; each cost is read once.
//!
//! The power is a guess, entered as an integer into the exponent: it costs nothing and rounds nothing. As the
//! exponentials of a row summed to 1 under the last h, its maximum has moved by no more than h has; where h moved little
//! there is no pass for the maximum at all. Otherwise the maximum is taken on the way, at one instruction, and a row
//! whose guess was bad is done again with a better one.
//!
//! Rows go in fixed chunks, each with its own column sums, added up in the order of the chunks: the number of threads
//! cannot change a bit. Exponents are float64 unless the caller takes float32: there x_j carries the rounding of
//! numbers of the size of C/ε, 6e-8·C/ε, which is what an absorbed kernel from float64 exponents avoids.

use std::f64::consts::LN_2;

use rayon::prelude::*;

use super::cost::{Cost, Number};
use super::exponentials::{Against, BLOCK, Row, UNROLLED, in_bits, normaliser};
use super::vectors::{Aligned, ln_within, load_or, sum_lanes};
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch};

/// Rows whose exponentials are held, so few that they stay in the first-level cache beside everything else.
const GROUP: usize = 4;

/// Entries that make a chunk worth handing to a thread.
const CHUNK: usize = 1 << 17;

/// Most chunks: each has column sums of its own.
const MOST_CHUNKS: usize = 64;

/// How work is cut and run.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Rows of a chunk, a multiple of eight; depends on the size of the problem only.
    pub rows: usize,
    /// Whether chunks go to threads.
    pub parallel: bool,
    /// Asked whether to stop.
    pub call: &'a Call,
}

impl<'a> Plan<'a> {
    /// The cut of `rows` by `columns`.
    pub fn new(rows: usize, columns: usize, parallel: bool, call: &'a Call) -> Self {
        let count = rows.saturating_mul(columns).div_ceil(CHUNK).clamp(1, MOST_CHUNKS);
        // Of one size, so that two threads get halves.
        let chunk = rows.div_ceil(count).next_multiple_of(8);
        Self { rows: chunk, parallel: parallel && rows > chunk, call }
    }

    /// Runs `work` on every item, in order or on threads; stops between items if the caller asks to.
    pub fn run<T: Send>(&self, mut items: Vec<T>, work: impl Fn(&mut T) + Sync) -> Result<()> {
        let one = |item: &mut T| {
            if !self.call.stopped() {
                work(item);
            }
        };
        if self.parallel {
            items.par_iter_mut().for_each(one);
        } else {
            items.iter_mut().for_each(one);
        }
        if self.call.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Adds the column sums of chunks, each `stride` long, in order.
pub fn add_chunks(sums: &[f64], stride: usize, out: &mut [f64]) {
    out.fill(0.0);
    for chunk in sums.chunks(stride) {
        for (out, &x) in out.iter_mut().zip(chunk) {
            *out += x;
        }
    }
}

/// The length of a chunk's column sums: room for a whole [`Sum`] at every vector.
pub fn sums_len(columns: usize) -> usize {
    columns.next_multiple_of(SUM_LANES) + SUM_LANES
}

/// What a pass is given.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Weights of the rows, over their mass.
    pub a: &'a [f64],
    /// h_j = g_j/ε + ln b_j.
    pub h: &'a [f64],
    /// Regularisation.
    pub epsilon: f64,
    /// ρ/(ρ + ε) of the rows; 1 where the marginal holds: f_i = bend·ε·z_i.
    pub bend: f64,
    /// True if no h_j has moved by more than [`NEAR`] since `z` was right.
    pub near: bool,
}

/// Largest move of h for which the last normalisers keep every exponential in range.
pub const NEAR: f64 = 25.0;

/// What a pass gives, besides z and the columns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// ⟨C,P⟩.
    pub cost: f64,
    /// Mass of the plan.
    pub mass: f64,
}

/// Runs a pass over costs. `z` holds the last normalisers, or zeros, and receives the new ones; `columns` receives the column
/// sums. `store` receives b_j·exp((φ_i + g_j − C_ij)/ε), φ = ε·z, in rows of the given stride; `measured` what
/// [`Measured`] says, chunk by chunk in order.
pub fn pass<C: Cost, E: Number, K: Number>(
    cost: &C,
    given: &Pass<'_>,
    plan: &Plan<'_>,
    z: &mut [f64],
    columns: &mut [f64],
    store: Option<(&mut [K], usize)>,
    measured: Option<&mut Measured>,
) -> Result<()> {
    let stride = sums_len(columns.len());
    let chunks = z.len().div_ceil(plan.rows);
    let mut sums = Aligned::<f64>::new(0.0, chunks * stride);
    let h = in_bits::<E>(given.h);
    let mut found = vec![Measured::default(); chunks];
    let measures = measured.is_some();
    let mut stores: Vec<Option<&mut [K]>> = match store {
        Some((kernel, width)) => kernel.chunks_mut(plan.rows * width).map(Some).collect(),
        None => (0..chunks).map(|_| None).collect(),
    };
    let items: Vec<_> = z
        .chunks_mut(plan.rows)
        .zip(sums.chunks_mut(stride))
        .zip(stores.drain(..))
        .zip(&mut found)
        .enumerate()
        .map(|(index, (((z, sums), kernel), found))| (index * plan.rows, z, sums, kernel, found))
        .collect();
    plan.run(items, |(first, z, sums, kernel, found)| {
        let chunk = Chunk {
            cost,
            given,
            call: plan.call,
            h: &h,
            first: *first,
            z,
            sums,
            kernel: kernel.as_deref_mut(),
            measures,
            found,
        };
        dispatch(chunk);
    })?;
    add_chunks(&sums, stride, columns);
    if let Some(measured) = measured {
        *measured = found
            .iter()
            .fold(Measured::default(), |all, one| Measured { cost: all.cost + one.cost, mass: all.mass + one.mass });
    }
    Ok(())
}

struct Chunk<'a, 'b, C, E, K> {
    cost: &'a C,
    given: &'a Pass<'b>,
    call: &'a Call,
    h: &'a [E],
    first: usize,
    z: &'a mut [f64],
    sums: &'a mut [f64],
    kernel: Option<&'a mut [K]>,
    measures: bool,
    found: &'a mut Measured,
}

impl<C: Cost, E: Number, K: Number> Kernel for Chunk<'_, '_, C, E, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let given = self.given;
        let width = self.h.len();
        // Rows a whole number of pages apart would compete for the same places in the first-level cache.
        let stride = width + SUM_LANES;
        let mut lent = Aligned::<E>::new(0.0, width);
        let mut exps = Aligned::<E>::new(0.0, GROUP * stride);
        // Two groups meet in the precision of the exponentials: widening takes as long as their additions.
        let mut partial = Aligned::<E>::new(0.0, width);
        let against = Against { h: self.h, epsilon: given.epsilon, near: given.near };
        let rows = self.z.len();
        let (mut powers, mut logs) = (vec![0.0; rows], vec![1.0; rows]);
        for from in (0..rows).step_by(GROUP) {
            if self.call.stopped() {
                return;
            }
            let mut weights = [0.0; GROUP];
            let first = self.first + from;
            let count = GROUP.min(rows - from);
            let mut group = [Row { costs: &[], power: 0.0, sum: 1.0, top: 0.0 }; GROUP];
            let held = self.cost.held::<E>(first).is_some();
            for (r, row) in group.iter_mut().enumerate().take(count) {
                // Nothing bounds the exponentials of a row without weight, so none are taken.
                if given.a[first + r] > 0.0 {
                    row.costs = self.cost.held::<E>(first + r).unwrap_or_default();
                    row.power = Row::<E>::guess(self.z[from + r]);
                }
            }
            if held {
                against.exponentials::<S, true>(&mut group[..count], &mut exps, stride);
            }
            for r in 0..count {
                let (local, row) = (from + r, first + r);
                let out = &mut exps[r * stride..r * stride + width];
                let kernel = self.kernel.as_deref_mut().map(|kernel| &mut kernel[local * width..(local + 1) * width]);
                if given.a[row] == 0.0 {
                    self.z[local] = f64::NEG_INFINITY;
                    if let Some(kernel) = kernel {
                        kernel.fill(K::from_f64(0.0));
                    }
                    continue;
                }
                let costs = self.cost.row::<S, E>(row, &mut lent);
                let mut own = [Row { costs, ..group[r] }];
                if !held {
                    against.exponentials::<S, true>(&mut own, out, stride);
                }
                let Row { power, sum, .. } = own[0];
                weights[r] = if given.bend == 1.0 {
                    given.a[row] / sum
                } else {
                    given.a[row] * libm::exp(given.bend * normaliser(power, libm::log(sum)) + power * LN_2)
                };
                if let Some(kernel) = kernel {
                    keep(out, 1.0 / sum, kernel);
                }
                if self.measures {
                    self.found.mass += weights[r] * sum;
                    self.found.cost += weights[r] * weighted::<E::In<S>>(costs, out);
                }
                (powers[local], logs[local]) = (power, sum);
            }
            let is_second = from / GROUP % 2 == 1;
            let sums = (is_second || from + GROUP >= rows).then_some(&mut *self.sums);
            S::apart(AddRows { exps: &exps, stride, weights: &weights, is_second, partial: &mut partial, sums });
        }
        for sum in self.sums {
            *sum /= E::LIFT;
        }
        // All at once: one logarithm after the other would each wait for the last.
        ln_within::<S>(&mut logs);
        for (i, z) in self.z.iter_mut().enumerate() {
            if given.a[self.first + i] > 0.0 {
                *z = normaliser(powers[i], logs[i]);
            }
        }
    }
}

/// Σ C·e over the pairs that are not forbidden.
#[inline(always)]
fn weighted<V: Vector>(costs: &[V::Elem], exps: &[V::Elem]) -> f64 {
    let mut all: Sum = [0.0; SUM_LANES];
    let infinity = V::constant(f64::INFINITY);
    for from in (0..costs.len()).step_by(BLOCK) {
        let mut sum = V::zero();
        for at in (from..costs.len().min(from + BLOCK)).step_by(V::Elem::LANES) {
            let cost = load_or::<V>(costs, at, V::Elem::from_f64(0.0));
            let cost = V::select(cost.lt(infinity), cost, V::zero());
            sum = cost.mul_add(V::load(&exps[at..]), sum);
        }
        sum.add_to(&mut all);
    }
    sum_lanes(&all)
}

/// Stores a row's share of each column.
#[inline(always)]
fn keep<E: Element, K: Number>(exps: &[E], scale: f64, kernel: &mut [K]) {
    for (kernel, e) in kernel.iter_mut().zip(exps) {
        let x = e.to_f64() * scale;
        *kernel = K::from_f64(if x < K::NEGLIGIBLE { 0.0 } else { x });
    }
}

/// Adds weighted rows, lifted, to those of the last group if this is a second one, and then to the column sums, if they
/// are given.
struct AddRows<'a, E> {
    exps: &'a [E],
    stride: usize,
    weights: &'a [f64; GROUP],
    is_second: bool,
    partial: &'a mut [E],
    sums: Option<&'a mut [f64]>,
}

impl<E: Number> Kernel for AddRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut weights = [E::In::<S>::zero(); GROUP];
        for (lanes, weight) in weights.iter_mut().zip(self.weights) {
            *lanes = E::In::<S>::constant(weight * E::LIFT);
        }
        let Self { exps, stride, is_second, partial, mut sums, .. } = self;
        let width = partial.len();
        let mut at = 0;
        while at < width {
            let sums = sums.as_deref_mut();
            if at + UNROLLED * E::LANES <= width {
                add_columns::<E::In<S>, UNROLLED>(exps, stride, at, &weights, is_second, partial, sums);
                at += UNROLLED * E::LANES;
            } else {
                add_columns::<E::In<S>, 1>(exps, stride, at, &weights, is_second, partial, sums);
                at += E::LANES;
            }
        }
    }
}

/// Adds `N` vectors of every row. Their bounds are checked here once, and not at every load.
#[inline(always)]
fn add_columns<V: Vector, const N: usize>(
    exps: &[V::Elem],
    stride: usize,
    at: usize,
    weights: &[V; GROUP],
    is_second: bool,
    partial: &mut [V::Elem],
    sums: Option<&mut [f64]>,
) {
    let lanes = V::Elem::LANES;
    let partial = &mut partial[at..at + N * lanes];
    let mut all = [V::zero(); N];
    if is_second {
        for i in 0..N {
            all[i] = V::load(&partial[i * lanes..]);
        }
    }
    for r in 0..GROUP {
        let row = &exps[r * stride + at..][..N * lanes];
        for i in 0..N {
            all[i] = V::load(&row[i * lanes..]).mul_add(weights[r], all[i]);
        }
    }
    let Some(sums) = sums else {
        for i in 0..N {
            all[i].store(&mut partial[i * lanes..]);
        }
        return;
    };
    let sums = &mut sums[at..at + (N - 1) * lanes + SUM_LANES];
    for i in 0..N {
        if let Ok(sums) = <&mut Sum>::try_from(&mut sums[i * lanes..i * lanes + SUM_LANES]) {
            all[i].add_to(sums);
        }
    }
}
