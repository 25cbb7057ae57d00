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

use std::f64::consts::{LN_2, LOG2_E};

use rayon::prelude::*;

use super::cost::{Cost, Number};
use super::vectors::{ln_within, load_or, padded, sum_lanes};
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch, math};

/// Rows whose column sums meet in registers before they are added to memory.
const GROUP: usize = 8;

/// Numbers between two additions of a row's lanes to its float64 sum.
const BLOCK: usize = 1024;

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
pub struct Pass<'a, C> {
    /// Costs.
    pub cost: &'a C,
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

/// Runs a pass. `z` holds the last normalisers, or zeros, and receives the new ones; `columns` receives the column
/// sums. `store` receives b_j·exp((φ_i + g_j − C_ij)/ε), φ = ε·z, in rows of the given stride; `measured` what
/// [`Measured`] says, chunk by chunk in order.
pub fn pass<C: Cost, E: Number, K: Number>(
    given: &Pass<'_, C>,
    plan: &Plan<'_>,
    z: &mut [f64],
    columns: &mut [f64],
    store: Option<(&mut [K], usize)>,
    measured: Option<&mut Measured>,
) -> Result<()> {
    let stride = sums_len(columns.len());
    let chunks = z.len().div_ceil(plan.rows);
    let mut sums = vec![0.0; chunks * stride];
    let h = padded::<E>(given.h, f64::NEG_INFINITY);
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
        let chunk = Chunk { given, h: &h, first: *first, z, sums, kernel: kernel.as_deref_mut(), measures, found };
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
    given: &'a Pass<'b, C>,
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
        let stride = self.h.len();
        let mut lent = vec![E::from_f64(0.0); stride];
        let mut exps = vec![E::from_f64(0.0); GROUP * stride];
        let scale = E::In::<S>::constant(-1.0 / given.epsilon);
        let rows = self.z.len();
        for from in (0..rows).step_by(GROUP) {
            let mut weights = [0.0; GROUP];
            let count = GROUP.min(rows - from);
            let (mut powers, mut logs) = ([0.0; GROUP], [1.0; GROUP]);
            for r in 0..count {
                let (local, row) = (from + r, self.first + from + r);
                let out = &mut exps[r * stride..(r + 1) * stride];
                let kernel = self.kernel.as_deref_mut().map(|kernel| &mut kernel[local * stride..(local + 1) * stride]);
                if given.a[row] == 0.0 {
                    self.z[local] = f64::NEG_INFINITY;
                    if let Some(kernel) = kernel {
                        kernel.fill(K::from_f64(0.0));
                    }
                    continue;
                }
                let costs = given.cost.row::<S, E>(row, &mut lent);
                let (power, sum) = exponentials::<E::In<S>>(costs, self.h, scale, self.z[local], given.near, out);
                (powers[r], logs[r]) = (power, sum);
                weights[r] = if given.bend == 1.0 {
                    given.a[row] / sum
                } else {
                    let z = -power * LN2_HIGH - (power * LN2_LOW + libm::log(sum));
                    given.a[row] * libm::exp(given.bend * z + power * LN_2)
                };
                if let Some(kernel) = kernel {
                    keep(out, 1.0 / sum, kernel);
                }
                if self.measures {
                    self.found.mass += weights[r] * sum;
                    self.found.cost += weights[r] * weighted::<E::In<S>>(costs, out);
                }
            }
            ln_within::<S>(&mut logs);
            for r in 0..count {
                if given.a[self.first + from + r] > 0.0 {
                    self.z[from + r] = -powers[r] * LN2_HIGH - (powers[r] * LN2_LOW + logs[r]);
                }
            }
            add_rows::<E::In<S>>(&exps, stride, &weights, self.sums);
        }
    }
}

/// ln 2 in two parts: the product of the first with any power in use is exact.
const LN2_HIGH: f64 = <f64 as math::Coefficients>::LN2_HIGH;
const LN2_LOW: f64 = <f64 as math::Coefficients>::LN2_LOW;

/// e_j for a row, the power of two that was taken out of them, and their sum.
#[inline(always)]
fn exponentials<V: Vector>(
    costs: &[V::Elem],
    h: &[V::Elem],
    scale: V,
    z: f64,
    near: bool,
    out: &mut [V::Elem],
) -> (f64, f64) {
    let mut power = if z.is_finite() { (-z * LOG2_E).round() } else { 0.0 };
    if near && z.is_finite() {
        let (_, sum) = scaled::<V, false>(costs, h, scale, power, out);
        return (power, sum);
    }
    let mut tries = 0;
    loop {
        let (top, sum) = scaled::<V, true>(costs, h, scale, power, out);
        let above = top - power * LN_2;
        // Above -30 the clamped exponentials of far entries are still nothing beside the sum.
        if (above > -30.0 && above < 60.0) || tries == 3 || !top.is_finite() {
            return (power, if sum > 0.0 { sum } else { f64::MIN_POSITIVE });
        }
        power = (top * LOG2_E).round();
        tries += 1;
    }
}

/// e_j·2^−power and their sum; also the largest x if `TOP`.
#[inline(always)]
fn scaled<V: Vector, const TOP: bool>(
    costs: &[V::Elem],
    h: &[V::Elem],
    scale: V,
    power: f64,
    out: &mut [V::Elem],
) -> (f64, f64) {
    let lanes = V::Elem::LANES;
    let (low, magic) = (math::lowest::<V>(power), math::magic::<V>(power));
    let mut top = [V::constant(f64::NEG_INFINITY); 2];
    let mut all: Sum = [0.0; SUM_LANES];
    let len = costs.len();
    let whole = len - len % lanes;
    let (h, out) = (&h[..len.next_multiple_of(lanes)], &mut out[..len.next_multiple_of(lanes)]);
    let mut from = 0;
    while from < whole {
        let to = whole.min(from + BLOCK);
        let mut sum = [V::zero(); 2];
        let mut at = from;
        while at + 2 * lanes <= to {
            for i in 0..2 {
                let at = at + i * lanes;
                let x = V::load(&costs[at..]).mul_add(scale, V::load(&h[at..]));
                if TOP {
                    top[i] = x.max(top[i]);
                }
                let e = math::exp_scaled(x.max(low), magic);
                e.store(&mut out[at..]);
                sum[i] = sum[i] + e;
            }
            at += 2 * lanes;
        }
        if at < to {
            let x = V::load(&costs[at..]).mul_add(scale, V::load(&h[at..]));
            top[0] = x.max(top[0]);
            let e = math::exp_scaled(x.max(low), magic);
            e.store(&mut out[at..]);
            sum[0] = sum[0] + e;
        }
        (sum[0] + sum[1]).add_to(&mut all);
        from = to;
    }
    if whole < len {
        let last = load_or::<V>(costs, whole, V::Elem::from_f64(f64::INFINITY));
        let x = last.mul_add(scale, V::load(&h[whole..]));
        top[0] = x.max(top[0]);
        let e = math::exp_scaled(x.max(low), magic);
        e.store(&mut out[whole..]);
        e.add_to(&mut all);
    }
    (top[0].max(top[1]).largest().to_f64(), sum_lanes(&all))
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

/// Adds weighted rows to the column sums.
#[inline(always)]
fn add_rows<V: Vector>(exps: &[V::Elem], stride: usize, weights: &[f64; GROUP], sums: &mut [f64]) {
    let weights = weights.map(V::constant);
    let rows: [&[V::Elem]; GROUP] = std::array::from_fn(|r| &exps[r * stride..(r + 1) * stride]);
    let mut at = 0;
    while at < stride {
        let mut halves = [V::zero(); 2];
        for r in 0..GROUP {
            halves[r % 2] = V::load(&rows[r][at..]).mul_add(weights[r], halves[r % 2]);
        }
        let sum = halves[0] + halves[1];
        if let Ok(sums) = <&mut Sum>::try_from(&mut sums[at..at + SUM_LANES]) {
            sum.add_to(sums);
        }
        at += V::Elem::LANES;
    }
}
