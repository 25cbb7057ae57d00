//! Products of all rows of two groups, Σ a·b over the columns: a matrix product in float64 lanes.
//!
//! Panels of [`CHUNK`] columns are packed (six rows of the first group side by side, eight of the second), and a
//! register-blocked kernel multiplies six rows by one or four vectors of eight. Each product has its own accumulator,
//! to which columns are added in order, one fused multiply-add each; the sums of the chunks are then added in order, in
//! twice the digits if `EXACT`. So its bits are the same whatever the blocking, the instruction set, the number of
//! threads, and the rows beside it. The error is at most [`rounding`] times Σ |a·b|, for terms spread over the columns.
//!
//! Memory: two panels and one float64 number a product, two if `EXACT`: at most 1.5 MB for a tile of [`TALL`] (or
//! [`TALL_EXACT`]) by [`WIDE`], which a second-level cache holds.
//!
//! Tried and dropped (512 by 512 by 8,192 on one core with AVX-512, in 10⁹ multiply-adds a second): `gemm` 0.18 with
//! 21, `matrixmultiply` 0.3 with 28; a whole cross entropy by this kernel, with packing, logarithms and checks, reaches
//! 25. Both gave the same bits for any number of threads, but `matrixmultiply` gives others without AVX-512, and `gemm`
//! takes its blocking along the columns from the sizes of the caches.

use crate::error::{Error, Result};
use crate::pool::Call;
use crate::simd::{Element, Isa, Kernel, Simd, Vector, dispatch, isa};

use super::ready::{Field, Reader, Ready};

/// Columns of a panel.
pub const CHUNK: usize = 128;

/// Rows of the first group that one kernel takes.
const ROWS: usize = 6;

/// How many rows ahead memory is asked for: a chunk of a row is too short for the hardware to look beyond it, and waiting
/// took a quarter of the time.
const AHEAD: usize = 4;

/// Most rows of the first group in a tile.
pub const TALL: usize = 512;

/// The same where the sums have twice the digits.
pub const TALL_EXACT: usize = 288;

/// Most rows of the second group in a tile.
pub const WIDE: usize = 192;

/// Bound of the error relative to Σ |a·b|: half of the additions, and what the factors carry.
pub fn rounding(columns: usize, exact: bool) -> f64 {
    let chunks = if exact { 0 } else { columns.div_ceil(CHUNK) };
    (CHUNK.midpoint(chunks) + 8) as f64 * (f64::EPSILON / 2.0)
}

/// Every Σ a·b, one line a row of `a`.
pub fn products(
    a: &[Ready<'_>],
    of_a: Field,
    b: &[Ready<'_>],
    of_b: Field,
    exact: bool,
    call: &Call,
) -> Result<Vec<f64>> {
    // Thirty-two registers hold six rows by four vectors where a vector is one register.
    match (isa() == Isa::Avx512, exact) {
        (true, true) => dispatch(Product::<4, true> { a, of_a, b, of_b, call }),
        (true, false) => dispatch(Product::<4, false> { a, of_a, b, of_b, call }),
        (false, true) => dispatch(Product::<1, true> { a, of_a, b, of_b, call }),
        (false, false) => dispatch(Product::<1, false> { a, of_a, b, of_b, call }),
    }
}

struct Product<'a, 'b, const VECTORS: usize, const EXACT: bool> {
    a: &'b [Ready<'a>],
    of_a: Field,
    b: &'b [Ready<'a>],
    of_b: Field,
    call: &'b Call,
}

impl<const VECTORS: usize, const EXACT: bool> Kernel for Product<'_, '_, VECTORS, EXACT> {
    type Output = Result<Vec<f64>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Result<Vec<f64>> {
        let (rows, columns) = (self.a.len(), self.b.len());
        let height = rows.next_multiple_of(ROWS);
        let width = columns.next_multiple_of(f64::LANES * VECTORS);
        let (mut panel_a, mut panel_b) = (vec![0.0; height * CHUNK], vec![0.0; width * CHUNK]);
        let mut sums = vec![0.0; height * width];
        let mut rests = vec![0.0; if EXACT { height * width } else { 0 }];
        let mut reader = Reader::new();
        let len = self.a.first().map_or(0, Ready::len);
        for from in (0..len).step_by(CHUNK) {
            if self.call.stopped() {
                return Err(Error::Interrupted);
            }
            let count = CHUNK.min(len - from);
            pack::<S, ROWS>(self.a, self.of_a, from, count, &mut reader, &mut panel_a);
            pack::<S, { f64::LANES }>(self.b, self.of_b, from, count, &mut reader, &mut panel_b);
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
                        for (v, x) in found.into_iter().enumerate() {
                            let at = at + v * f64::LANES;
                            let sums = &mut sums[at..at + f64::LANES];
                            if EXACT {
                                merge(x, sums, &mut rests[at..at + f64::LANES]);
                            } else {
                                (S::F64::load(sums) + x).store(sums);
                            }
                        }
                    }
                }
            }
        }
        let mut out = Vec::with_capacity(rows * columns);
        for (sum, rest) in sums.iter_mut().zip(&rests) {
            *sum += rest;
        }
        for sums in sums.chunks_exact(width).take(rows) {
            out.extend_from_slice(&sums[..columns]);
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

/// Writes columns of rows into panels of `GROUP` rows side by side, zeros for missing rows.
#[inline(always)]
fn pack<S: Simd, const GROUP: usize>(
    rows: &[Ready<'_>],
    field: Field,
    from: usize,
    len: usize,
    reader: &mut Reader,
    panels: &mut [f64],
) {
    let mut lines = [[0.0; CHUNK]; GROUP];
    for (g, (group, panel)) in rows.chunks(GROUP).zip(panels.chunks_exact_mut(GROUP * CHUNK)).enumerate() {
        for (r, (row, line)) in group.iter().zip(&mut lines).enumerate() {
            if let Some(later) = rows.get(g * GROUP + r + AHEAD) {
                later.side.row.prefetch::<S>(from, len);
            }
            row.fill::<S>(field, from, len, reader, line);
        }
        for line in &mut lines[group.len()..] {
            line.fill(0.0);
        }
        let (panel, _) = panel.as_chunks_mut::<GROUP>();
        for (k, place) in panel.iter_mut().enumerate().take(CHUNK) {
            for (x, line) in place.iter_mut().zip(&lines) {
                *x = line[k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Product, products, rounding};
    use crate::batch::Matrix;
    use crate::error::Argument;
    use crate::pairwise::ready::{Field, Ready};
    use crate::pool::Call;
    use crate::rows::{Kind, Numbers};
    use crate::simd::dispatch;

    fn weights(rows: usize, columns: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..rows * columns).map(|_| next() * next()).collect()
    }

    fn ready(numbers: &[f64], rows: usize) -> Vec<Ready<'_>> {
        let matrix = Matrix::contiguous(Numbers::F64(numbers), rows, Kind::Weights, Argument::P).expect("a matrix");
        (0..rows).map(|i| Ready::new(matrix.side(i)).expect("weights")).collect()
    }

    #[test]
    fn products_are_sums_of_products() {
        for (rows, columns, len) in [(1, 1, 1), (6, 8, CHUNK), (7, 33, CHUNK + 1), (13, 9, 5), (2, 31, 3 * CHUNK - 3)] {
            let (x, y) = (weights(rows, len, 1), weights(columns, len, 2));
            let (a, b) = (ready(&x, rows), ready(&y, columns));
            let call = Call::new(1);
            for exact in [true, false] {
                let found = products(&a, Field::Prob, &b, Field::Root, exact, &call).expect("not stopped");
                assert_eq!(found.len(), rows * columns);
                for (i, p) in x.chunks_exact(len).enumerate() {
                    for (j, q) in y.chunks_exact(len).enumerate() {
                        let (sum_p, sum_q): (f64, f64) = (p.iter().sum(), q.iter().sum());
                        let expected: f64 = p.iter().zip(q).map(|(p, q)| p / sum_p * (q / sum_q).sqrt()).sum();
                        let found = found[i * columns + j];
                        let bound = rounding(len, exact) + len as f64 * f64::EPSILON;
                        assert!((found - expected).abs() <= bound * expected, "{found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn blocking_does_not_change_a_bit() {
        let (rows, columns, len) = (20, 45, 5 * CHUNK + 77);
        let (x, y) = (weights(rows, len, 3), weights(columns, len, 4));
        let (a, b, call) = (&ready(&x, rows)[..], &ready(&y, columns)[..], &Call::new(1));
        let (of_a, of_b) = (Field::Prob, Field::Log);
        let bits = |found: crate::Result<Vec<f64>>| -> Vec<u64> {
            found.expect("not stopped").into_iter().map(f64::to_bits).collect()
        };
        let four = bits(dispatch(Product::<4, true> { a, of_a, b, of_b, call }));
        let one = bits(dispatch(Product::<1, true> { a, of_a, b, of_b, call }));
        assert_eq!(four, one);
        let part = bits(products(&a[3..5], of_a, &b[17..18], of_b, true, call));
        assert_eq!(part, [four[3 * columns + 17], four[4 * columns + 17]]);
        let four = bits(dispatch(Product::<4, false> { a, of_a, b, of_b, call }));
        let one = bits(dispatch(Product::<1, false> { a, of_a, b, of_b, call }));
        assert_eq!(four, one);
    }
}
