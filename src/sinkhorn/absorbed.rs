//! The kernel at the last absorption, and the iteration over it without exponentials.
//!
//! Absorbing at g stores Q_ij = b_j·exp((φ_i + g_j − C_ij)/ε), φ the normaliser of each row, so that the rows of Q sum
//! to 1. While g moves to g + ε·ln v, the same fused sweep runs on products:
//!
//! ```text
//! for each group of rows
//!     d_i = Σ_j Q_ij·v_j               row sums: z_i = φ_i/ε − ln d_i
//!     column_j += c_i·Q_ij             c_i = a_i/d_i: the plan's columns, less their factor v_j
//! ```
//!
//! With c_i = a_i·u_i²·d_i instead it is the product with the Hessian of the semi-dual that Newton steps need. As rows
//! of Q sum to 1, |ln u| is never larger than |ln v|: one limit on ln v decides when to absorb again, long before
//! anything leaves the range of the numbers. float32 kernels come from float64 exponents, so they carry 6e-8 and not
//! the rounding of C/ε.

use super::cost::Number;
use super::sweep::{Plan, add_chunks, sums_len};
use super::sweeps::Kept;
use super::vectors::{padded, sum_lanes};
use crate::error::Result;
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, dispatch};

/// Rows whose column sums meet in registers before they are added to memory.
const GROUP: usize = 8;

/// Rows whose dots run side by side: eight chains of additions hide their latency.
const HALF: usize = 4;

/// Numbers between two additions of lanes to a float64 sum.
const BLOCK: usize = 1024;

/// A stored kernel.
#[derive(Debug)]
pub struct Absorbed<K> {
    numbers: Vec<K>,
    stride: usize,
    rows: usize,
    /// Where it was absorbed: φ/ε and g.
    pub z: Vec<f64>,
    /// Potential of the columns there.
    pub g: Vec<f64>,
}

impl<K: Number> Absorbed<K> {
    /// Room for a kernel.
    pub fn new(rows: usize, columns: usize) -> Self {
        let stride = columns.next_multiple_of(SUM_LANES);
        let numbers = vec![K::from_f64(0.0); rows.next_multiple_of(GROUP) * stride];
        Self { numbers, stride, rows, z: vec![0.0; rows], g: Vec::new() }
    }

    /// A row, filled up with zeros.
    pub fn row(&self, index: usize) -> &[K] {
        &self.numbers[index * self.stride..(index + 1) * self.stride]
    }

    /// Absorbs at g by a pass that is given z and where to keep the kernel.
    pub fn absorb(&mut self, g: &[f64], pass: impl FnOnce(&mut [f64], Kept<'_, K>) -> Result<()>) -> Result<()> {
        self.g.clear();
        let used = self.rows * self.stride;
        pass(&mut self.z, (&mut self.numbers[..used], self.stride))?;
        self.g.extend_from_slice(g);
        Ok(())
    }

    /// One sweep: `dots` receives Σ_j Q_ij·v_j, `columns` Σ_i c_i·Q_ij with c_i = coefficient(i, dot).
    pub fn sweep(
        &self,
        plan: &Plan<'_>,
        v: &[f64],
        dots: &mut [f64],
        columns: &mut [f64],
        coefficient: impl Fn(usize, f64) -> f64 + Sync,
    ) -> Result<()> {
        self.run::<false>(plan, v, dots, columns, coefficient)
    }

    /// Like [`Absorbed::sweep`], but with the squares of the kernel in the columns.
    pub fn squares(
        &self,
        plan: &Plan<'_>,
        columns: &mut [f64],
        coefficient: impl Fn(usize, f64) -> f64 + Sync,
    ) -> Result<()> {
        let mut dots = vec![0.0; self.rows];
        let v = vec![0.0; columns.len()];
        self.run::<true>(plan, &v, &mut dots, columns, coefficient)?;
        for sum in columns {
            *sum /= K::LIFT * K::LIFT;
        }
        Ok(())
    }

    fn run<const SQUARES: bool>(
        &self,
        plan: &Plan<'_>,
        v: &[f64],
        dots: &mut [f64],
        columns: &mut [f64],
        coefficient: impl Fn(usize, f64) -> f64 + Sync,
    ) -> Result<()> {
        let stride = sums_len(columns.len());
        let mut sums = vec![0.0; dots.len().div_ceil(plan.rows) * stride];
        let v = padded::<K>(v, 0.0);
        let items: Vec<_> = dots
            .chunks_mut(plan.rows)
            .zip(sums.chunks_mut(stride))
            .enumerate()
            .map(|(index, (dots, sums))| (index * plan.rows, dots, sums))
            .collect();
        plan.run(items, |(first, dots, sums)| {
            let kernel = &self.numbers[*first * self.stride..];
            let coefficient = &coefficient;
            let stride = self.stride;
            dispatch(Chunk::<'_, K, _, SQUARES> { kernel, stride, v: &v, first: *first, dots, sums, coefficient });
        })?;
        add_chunks(&sums, stride, columns);
        Ok(())
    }
}

struct Chunk<'a, K, F, const SQUARES: bool> {
    kernel: &'a [K],
    stride: usize,
    v: &'a [K],
    first: usize,
    dots: &'a mut [f64],
    sums: &'a mut [f64],
    coefficient: &'a F,
}

impl<K: Number, F: Fn(usize, f64) -> f64 + Sync, const SQUARES: bool> Kernel for Chunk<'_, K, F, SQUARES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let count = self.dots.len();
        for from in (0..count).step_by(GROUP) {
            let group = &self.kernel[from * self.stride..(from + GROUP) * self.stride];
            let mut coefficients = [0.0; GROUP];
            if !SQUARES {
                for half in [0, HALF] {
                    let rows = &group[half * self.stride..(half + HALF) * self.stride];
                    let found = dots::<K::In<S>>(rows, self.stride, self.v);
                    for (i, dot) in found.into_iter().enumerate() {
                        if from + half + i < count {
                            self.dots[from + half + i] = dot;
                        }
                    }
                }
            }
            for (i, coefficient) in coefficients.iter_mut().enumerate().take(count - from) {
                *coefficient = (self.coefficient)(self.first + from + i, self.dots[from + i]);
            }
            add_rows::<K, K::In<S>, SQUARES>(group, self.stride, &coefficients, self.sums);
        }
    }
}

/// The dots of four rows with v.
#[inline(always)]
fn dots<V: Vector>(rows: &[V::Elem], stride: usize, v: &[V::Elem]) -> [f64; HALF] {
    let lanes = V::Elem::LANES;
    let rows: [&[V::Elem]; HALF] = std::array::from_fn(|r| &rows[r * stride..(r + 1) * stride]);
    let v = &v[..stride];
    let mut all: [Sum; HALF] = [[0.0; SUM_LANES]; HALF];
    let mut from = 0;
    while from < stride {
        let to = stride.min(from + BLOCK);
        let mut even = [V::zero(); HALF];
        let mut odd = even;
        let mut at = from;
        while at + 2 * lanes <= to {
            let (first, second) = (V::load(&v[at..]), V::load(&v[at + lanes..]));
            for r in 0..HALF {
                even[r] = V::load(&rows[r][at..]).mul_add(first, even[r]);
                odd[r] = V::load(&rows[r][at + lanes..]).mul_add(second, odd[r]);
            }
            at += 2 * lanes;
        }
        if at < to {
            let first = V::load(&v[at..]);
            for r in 0..HALF {
                even[r] = V::load(&rows[r][at..]).mul_add(first, even[r]);
            }
        }
        for r in 0..HALF {
            (even[r] + odd[r]).add_to(&mut all[r]);
        }
        from = to;
    }
    [sum_lanes(&all[0]), sum_lanes(&all[1]), sum_lanes(&all[2]), sum_lanes(&all[3])]
}

/// Adds weighted rows, or their squares, to the column sums.
#[inline(always)]
fn add_rows<K: Number, V: Vector<Elem = K>, const SQUARES: bool>(
    rows: &[K],
    stride: usize,
    coefficients: &[f64; GROUP],
    sums: &mut [f64],
) {
    let coefficients = V::constants(*coefficients);
    let lift = V::constant(K::LIFT);
    let rows: [&[K]; GROUP] = std::array::from_fn(|r| &rows[r * stride..(r + 1) * stride]);
    let mut at = 0;
    while at < stride {
        let mut halves = [V::zero(); 2];
        for r in 0..GROUP {
            let x = V::load(&rows[r][at..]);
            let x = if SQUARES { (x * lift) * (x * lift) } else { x };
            halves[r % 2] = x.mul_add(coefficients[r], halves[r % 2]);
        }
        if let Ok(sums) = <&mut Sum>::try_from(&mut sums[at..at + SUM_LANES]) {
            (halves[0] + halves[1]).add_to(sums);
        }
        at += K::LANES;
    }
}
