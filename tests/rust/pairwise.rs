//! All pairs of rows against plain formulas, on every instruction set and thread count, around every tile boundary.

use std::sync::{Mutex, PoisonError};

use kullback::simd::{Isa, set_isa};
use kullback::{Argument, Call, Error, Kind, Matrix, Numbers, divergence, nearest, pairwise};

/// Runs a computation on every instruction set; all must give the same bits.
fn on_every_isa(compute: impl Fn() -> Vec<f64>) -> Vec<f64> {
    static ISA: Mutex<()> = Mutex::new(());
    let _turn = ISA.lock().unwrap_or_else(PoisonError::into_inner);
    let bits = |found: &[f64]| found.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
    let mut first: Option<Vec<f64>> = None;
    for isa in Isa::available() {
        assert!(set_isa(Some(isa)));
        let found = compute();
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(bits(first), bits(&found), "{isa:?}");
    }
    set_isa(None);
    first.expect("scalar code is always available")
}

/// Reproducible weights, some of them zero.
fn weights(rows: usize, columns: usize, seed: u64, zeros: bool) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..rows * columns)
        .map(|i| {
            let (size, chance) = ((8.0 * next()).exp() as f32, next());
            if zeros && chance < 0.01 && i % columns > 0 { 0.0 } else { size }
        })
        .collect()
}

fn matrix(numbers: &[f32], rows: usize, argument: Argument) -> Matrix<'_> {
    Matrix::contiguous(Numbers::F32(numbers), rows, Kind::Weights, argument).expect("a matrix")
}

fn all(name: &str, p: &Matrix<'_>, q: Option<&Matrix<'_>>, threads: usize) -> Vec<f64> {
    let mut out = vec![0.0; p.rows() * q.unwrap_or(p).rows()];
    pairwise(name, None, p, q, &mut out, &Call::new(threads)).expect("weights");
    out
}

fn formula(name: &str, p: &[f32], q: &[f32]) -> f64 {
    let (sum_p, sum_q) = (p.iter().map(|&x| f64::from(x)).sum::<f64>(), q.iter().map(|&x| f64::from(x)).sum::<f64>());
    let pairs = p.iter().zip(q).map(|(&p, &q)| (f64::from(p) / sum_p, f64::from(q) / sum_q));
    let log = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    match name {
        "kl" => pairs.map(|(p, q)| log(p, q)).sum(),
        "reverse_kl" => pairs.map(|(p, q)| log(q, p)).sum(),
        "js" => pairs.map(|(p, q)| 0.5 * (log(p, 0.5 * (p + q)) + log(q, 0.5 * (p + q)))).sum(),
        "squared_hellinger" => pairs.map(|(p, q)| 0.5 * (p.sqrt() - q.sqrt()).powi(2)).sum(),
        _ => pairs.map(|(p, q)| 0.5 * (p - q).abs()).sum(),
    }
}

#[test]
fn values_and_bits() {
    for (rows, columns, len, zeros) in
        [(1, 1, 1, false), (3, 70, 40, false), (7, 9, 129, true), (67, 5, 33, false), (4, 3, 1100, true)]
    {
        let (x, y) = (weights(rows, len, 1, zeros), weights(columns, len, 2, zeros));
        let (p, q) = (matrix(&x, rows, Argument::P), matrix(&y, columns, Argument::Q));
        for name in ["kl", "reverse_kl", "js", "squared_hellinger", "total_variation"] {
            let found = on_every_isa(|| all(name, &p, Some(&q), 1));
            for threads in [2, 3] {
                assert_eq!(found, all(name, &p, Some(&q), threads));
            }
            for (i, p) in x.chunks_exact(len).enumerate() {
                for (j, q) in y.chunks_exact(len).enumerate() {
                    let (found, expected) = (found[i * columns + j], formula(name, p, q));
                    let near = (found - expected).abs() <= 1e-6 * expected.abs() + 1e-14;
                    assert!(near || found == expected, "{name} {i} {j}: {found} {expected}");
                }
            }
        }
    }
}

#[test]
fn equal_and_close_rows() {
    let (rows, len) = (5, 3000);
    let x = weights(rows, len, 5, false);
    let y: Vec<f32> = x.iter().enumerate().map(|(i, &x)| if i % 3 == 0 { x * (1.0 + 1e-5) } else { x }).collect();
    let (p, q) = (matrix(&x, rows, Argument::P), matrix(&y, rows, Argument::Q));
    for name in ["kl", "js", "jeffreys", "hellinger", "total_variation"] {
        let own = all(name, &p, None, 2);
        let (found, paired) = (all(name, &p, Some(&q), 2), divergence(name, &p, &q, &Call::new(1)).expect("weights"));
        for i in 0..rows {
            assert_eq!(own[i * rows + i], 0.0, "{name}");
            let found = found[i * rows + i];
            assert!(found > 0.0 && (found / paired[i] - 1.0).abs() < 2e-6, "{name}: {found} {}", paired[i]);
        }
    }
}

#[test]
fn nearest_are_the_smallest() {
    let (rows, columns, len) = (3, 2500, 6);
    let (x, y) = (weights(rows, len, 7, false), weights(columns, len, 8, true));
    let (p, q) = (matrix(&x, rows, Argument::P), matrix(&y, columns, Argument::Q));
    let (found, values) = (nearest("kl", None, &p, &q, 4, &Call::new(2)).expect("weights"), all("kl", &p, Some(&q), 1));
    for (i, line) in values.chunks_exact(columns).enumerate() {
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| line[a].total_cmp(&line[b]).then(a.cmp(&b)));
        for (k, &j) in order[..4].iter().enumerate() {
            assert_eq!((found.indices[4 * i + k], found.values[4 * i + k]), (j as i64, line[j]));
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (x, mut y) = (weights(4, 6, 9, false), weights(3, 8, 10, false));
    let call = Call::new(2);
    let p = matrix(&x, 4, Argument::P);
    let mut out = [0.0; 12];
    let wide = matrix(&y, 3, Argument::Q);
    assert!(matches!(pairwise("kl", None, &p, Some(&wide), &mut out, &call), Err(Error::Shape(_))));
    let q = matrix(&y, 4, Argument::Q);
    assert!(matches!(pairwise("kl", None, &p, Some(&q), &mut out, &call), Err(Error::Shape(_))));
    assert!(matches!(nearest("kl", None, &p, &q, 5, &call), Err(Error::Shape(_))));
    assert!(matches!(pairwise("nonsense", None, &p, Some(&q), &mut out, &call), Err(Error::UnknownName(_))));
    y[7] = -1.0;
    let q = matrix(&y, 4, Argument::Q);
    let negative = Error::Negative { argument: Argument::Q, row: 1, column: 1, value: -1.0 };
    let mut out = [0.0; 16];
    assert_eq!(pairwise("js", None, &p, Some(&q), &mut out, &call), Err(negative));
    let stopped = Call::new(2);
    stopped.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(pairwise("js", None, &p, None, &mut out, &stopped), Err(Error::Interrupted));
}
