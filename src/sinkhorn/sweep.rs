//! One pass over the costs is one full iteration, and its stopping error is free.
//!
//! ```text
//! for each row i
//!     x_j = h_j − C_ij/ε + s          h_j = g_j/ε + ln b_j,  s the row's shift, from its last normaliser
//!     e_j = exp(x_j),  S = Σ e_j      one exponential an entry
//!     z_i = s − ln S                  minus the row's log-sum-exp: f_i = ε·z_i makes the row exact
//!     column_j += (a_i/S)·e_j         the same exponentials: the column sums of the plan
//! ```
//!
//! The columns' sums are those of the plan whose rows are exact, so Σ|column − b| is the error of (f, g) itself, and
//! g_j += ε·ln(b_j/column_j) is the other half of the iteration. No transposed access; each cost is read once.
//!
//! The shift is a guess: in later iterations z hardly changes, so a row needs no pass for its maximum. The maximum is
//! taken on the way, at one instruction, and a row whose guess was bad is done again with a better one.
//!
//! Rows go in fixed chunks, each with its own column sums, added up in the order of the chunks: the number of threads
//! cannot change a bit. Exponents are float64 unless the caller takes float32: there x_j carries the rounding of
//! numbers of the size of C/ε, 6e-8·C/ε, which is what an absorbed kernel from float64 exponents avoids.

use rayon::prelude::*;

use super::cost::{Cost, Number};
use super::vectors::padded;
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch, math, total};

/// Rows whose column sums meet in registers before they are added to memory.
const GROUP: usize = 4;

/// Numbers between two additions of a row's lanes to its float64 sum.
const BLOCK: usize = 1024;

/// Entries that make a chunk worth handing to a thread.
const CHUNK: usize = 1 << 16;

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
        let chunk = (CHUNK / columns.max(1)).max(rows.div_ceil(MOST_CHUNKS)).next_multiple_of(8);
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
}

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
        *measured = found.iter().fold(Measured::default(), |all, one| Measured {
            cost: all.cost + one.cost,
            mass: all.mass + one.mass,
        });
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
            for r in 0..GROUP.min(rows - from) {
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
                let (shift, sum) = exponentials::<E::In<S>>(costs, self.h, scale, self.z[local], out);
                let z = shift - libm::log(sum);
                self.z[local] = z;
                weights[r] = if given.bend == 1.0 {
                    given.a[row] / sum
                } else {
                    given.a[row] * libm::exp(given.bend * z - shift)
                };
                if let Some(kernel) = kernel {
                    keep(out, 1.0 / sum, kernel);
                }
                if self.measures {
                    self.found.mass += weights[r] * sum;
                    self.found.cost += weights[r] * weighted::<E::In<S>>(costs, out);
                }
            }
            add_rows::<E::In<S>>(&exps, stride, &weights, self.sums);
        }
    }
}

/// e_j for a row, their sum and the shift they were taken with.
#[inline(always)]
fn exponentials<V: Vector>(
    costs: &[V::Elem],
    h: &[V::Elem],
    scale: V,
    guess: f64,
    out: &mut [V::Elem],
) -> (f64, f64) {
    let mut shift = if guess.is_finite() { guess } else { 0.0 };
    let mut tries = 0;
    loop {
        // As the lanes see it, so that it cancels exactly.
        shift = V::Elem::from_f64(shift).to_f64();
        let (top, sum) = shifted::<V>(costs, h, scale, V::constant(shift), out);
        // Above -30 the clamped exponentials of far entries are still nothing beside the sum.
        if (top > -30.0 && top < 60.0) || tries == 3 || !top.is_finite() {
            return (shift, if sum > 0.0 { sum } else { f64::MIN_POSITIVE });
        }
        shift -= top;
        tries += 1;
    }
}

#[inline(always)]
fn shifted<V: Vector>(
    costs: &[V::Elem],
    h: &[V::Elem],
    scale: V,
    shift: V,
    out: &mut [V::Elem],
) -> (f64, f64) {
    let lanes = V::Elem::LANES;
    let (low, magic) = (math::lowest::<V>(0.0), math::magic::<V>(0.0));
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
                let x = V::load(&costs[at..]).mul_add(scale, V::load(&h[at..])) + shift;
                top[i] = x.max(top[i]);
                let e = math::exp_scaled(x.max(low), magic);
                e.store(&mut out[at..]);
                sum[i] = sum[i] + e;
            }
            at += 2 * lanes;
        }
        if at < to {
            let x = V::load(&costs[at..]).mul_add(scale, V::load(&h[at..])) + shift;
            top[0] = x.max(top[0]);
            let e = math::exp_scaled(x.max(low), magic);
            e.store(&mut out[at..]);
            sum[0] = sum[0] + e;
        }
        (sum[0] + sum[1]).add_to(&mut all);
        from = to;
    }
    if whole < len {
        let mut last = [V::Elem::from_f64(f64::INFINITY); SUM_LANES];
        last[..len - whole].copy_from_slice(&costs[whole..]);
        let x = V::load(&last).mul_add(scale, V::load(&h[whole..])) + shift;
        top[0] = x.max(top[0]);
        let e = math::exp_scaled(x.max(low), magic);
        e.store(&mut out[whole..]);
        e.add_to(&mut all);
    }
    (top[0].max(top[1]).largest().to_f64(), total(&all))
}

/// Σ C·e over the pairs that are not forbidden.
#[inline(always)]
fn weighted<V: Vector>(costs: &[V::Elem], exps: &[V::Elem]) -> f64 {
    let mut all: Sum = [0.0; SUM_LANES];
    super::vectors::each_vector::<V>(costs, V::Elem::from_f64(0.0), |at, cost| {
        let open = cost.lt(V::constant(f64::INFINITY));
        let cost = V::select(open, cost, V::zero());
        (cost * V::load(&exps[at..])).add_to(&mut all);
    });
    total(&all)
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
        let mut sum = V::load(&rows[0][at..]) * weights[0];
        for r in 1..GROUP {
            sum = V::load(&rows[r][at..]).mul_add(weights[r], sum);
        }
        if let Ok(sums) = <&mut Sum>::try_from(&mut sums[at..at + SUM_LANES]) {
            sum.add_to(sums);
        }
        at += V::Elem::LANES;
    }
}
