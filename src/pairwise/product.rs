//! Products of all rows of two groups, Σ a·b over the columns: a matrix product in float64 lanes.
//!
//! Panels of [`CHUNK`] columns are packed (six rows of the first group side by side, eight of the second), and a
//! register-blocked kernel multiplies six rows by one or four vectors of eight. Each product has its own accumulator,
//! to which columns are added in order, one fused multiply-add each; the sums of the chunks are added in twice the
//! digits. So its bits are the same whatever the blocking, the instruction set, the number of threads, and the rows
//! beside it. The error is at most [`ROUNDING`] times Σ |a·b|, for terms spread over a chunk.
//!
//! Memory: two panels and two float64 numbers a product, at most 1.5 MB for a tile of [`TALL`] by [`WIDE`].
//!
//! Tried and dropped (512 by 512 by 8,192 on two busy cores with AVX-512, one and two threads, in 10⁹ multiply-adds a
//! second): `gemm` 0.18 with 22 and 35, `matrixmultiply` 0.3 with 28 and 52, this kernel with OURS. `matrixmultiply`
//! without AVX-512 gives other bits than with it; `gemm` takes its blocking along the columns from the sizes of the
//! caches.

use crate::error::{Error, Result};
use crate::pool::Call;
use crate::simd::{Element, Isa, Kernel, Simd, Vector, dispatch, isa};

use super::ready::{Field, Ready};

/// Columns of a panel.
pub const CHUNK: usize = 128;

/// Rows of the first group that one kernel takes.
const ROWS: usize = 6;

/// Most rows of the first group in a tile.
pub const TALL: usize = 288;

/// Most rows of the second group in a tile.
pub const WIDE: usize = 192;

/// Bound of the error relative to Σ |a·b|: half a chunk of additions, and what the factors carry.
pub const ROUNDING: f64 = (CHUNK / 2 + 8) as f64 * f64::EPSILON / 2.0;

/// Every Σ a·b, one line a row of `a`.
pub fn products(a: &[Ready<'_>], of_a: Field, b: &[Ready<'_>], of_b: Field, call: &Call) -> Result<Vec<f64>> {
    // Thirty-two registers hold six rows by four vectors where a vector is one register.
    if isa() == Isa::Avx512 {
        dispatch(Product::<4> { a, of_a, b, of_b, call })
    } else {
        dispatch(Product::<1> { a, of_a, b, of_b, call })
    }
}

struct Product<'a, 'b, const VECTORS: usize> {
    a: &'b [Ready<'a>],
    of_a: Field,
    b: &'b [Ready<'a>],
    of_b: Field,
    call: &'b Call,
}

impl<const VECTORS: usize> Kernel for Product<'_, '_, VECTORS> {
    type Output = Result<Vec<f64>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Result<Vec<f64>> {
        let (rows, columns) = (self.a.len(), self.b.len());
        let height = rows.next_multiple_of(ROWS);
        let width = columns.next_multiple_of(f64::LANES * VECTORS);
        let (mut panel_a, mut panel_b) = (vec![0.0; height * CHUNK], vec![0.0; width * CHUNK]);
        let (mut sums, mut rests) = (vec![0.0; height * width], vec![0.0; height * width]);
        let len = self.a.first().map_or(0, Ready::len);
        for from in (0..len).step_by(CHUNK) {
            if self.call.stopped() {
                return Err(Error::Interrupted);
            }
            let count = CHUNK.min(len - from);
            pack::<S, ROWS>(self.a, self.of_a, from, count, &mut panel_a);
            pack::<S, { f64::LANES }>(self.b, self.of_b, from, count, &mut panel_b);
            let depth = count.next_multiple_of(f64::LANES);
            for (j, panels) in panel_b.chunks_exact(f64::LANES * CHUNK * VECTORS).enumerate() {
                let mut b = [panels; VECTORS];
                for (i, b) in b.iter_mut().enumerate() {
                    *b = &panels[i * f64::LANES * CHUNK..][..f64::LANES * depth];
                }
                let column = j * f64::LANES * VECTORS;
                for (i, panel) in panel_a.chunks_exact(ROWS * CHUNK).enumerate() {
                    let found = multiply::<S::F64, VECTORS>(&panel[..ROWS * depth], b);
                    for (r, found) in found.into_iter().enumerate() {
                        let at = (i * ROWS + r) * width + column;
                        let sums = &mut sums[at..at + f64::LANES * VECTORS];
                        let rests = &mut rests[at..at + f64::LANES * VECTORS];
                        for (v, x) in found.into_iter().enumerate() {
                            let (sum, rest) = (&mut sums[v * f64::LANES..], &mut rests[v * f64::LANES..]);
                            merge(x, sum, rest);
                        }
                    }
                }
            }
        }
        let mut out = Vec::with_capacity(rows * columns);
        for (sums, rests) in sums.chunks_exact(width).zip(rests.chunks_exact(width)).take(rows) {
            out.extend(sums.iter().zip(rests).take(columns).map(|(sum, rest)| sum + rest));
        }
        Ok(out)
    }
}

/// Adds a vector to sums in twice the digits.
#[inline(always)]
fn merge<V: Vector<Elem = f64>>(x: V, sums: &mut [f64], rests: &mut [f64]) {
    let sum = V::load(sums);
    let next = sum + x;
    let from_x = next - sum;
    let lost = (sum - (next - from_x)) + (x - from_x);
    next.store(sums);
    (V::load(rests) + lost).store(rests);
}

/// Six rows, side by side, by `VECTORS` groups of eight.
#[inline(always)]
fn multiply<V: Vector<Elem = f64>, const VECTORS: usize>(a: &[f64], b: [&[f64]; VECTORS]) -> [[V; VECTORS]; ROWS] {
    let mut sums = [[V::zero(); VECTORS]; ROWS];
    let (a, _) = a.as_chunks::<ROWS>();
    let mut chunks = [&[] as &[[f64; f64::LANES]]; VECTORS];
    for (chunks, b) in chunks.iter_mut().zip(b) {
        *chunks = &b.as_chunks().0[..a.len()];
    }
    for (k, a) in a.iter().enumerate() {
        let mut vectors = [V::zero(); VECTORS];
        for (vector, chunks) in vectors.iter_mut().zip(chunks) {
            *vector = V::load(&chunks[k]);
        }
        for (sums, &a) in sums.iter_mut().zip(a) {
            let a = V::splat(a);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = a.mul_add(vector, *sum);
            }
        }
    }
    sums
}

/// Writes columns of rows into panels of `GROUP` rows side by side; missing rows are zero already.
#[inline(always)]
fn pack<S: Simd, const GROUP: usize>(rows: &[Ready<'_>], field: Field, from: usize, len: usize, panels: &mut [f64]) {
    let mut numbers = [0.0; CHUNK];
    let padded = len.next_multiple_of(f64::LANES);
    for (group, panel) in rows.chunks(GROUP).zip(panels.chunks_exact_mut(GROUP * CHUNK)) {
        let (panel, _) = panel.as_chunks_mut::<GROUP>();
        for (r, row) in group.iter().enumerate() {
            row.fill::<S>(field, from, len, &mut numbers[..padded]);
            for (place, &x) in panel.iter_mut().zip(&numbers[..padded]) {
                place[r] = x;
            }
        }
    }
}
