//! Every divergence on every instruction set this machine has: `cargo bench`, or `cargo bench -- kl/avx512`.
//!
//! One thread, one pair of float32 rows. Before a row of the table is timed its value is held against the textbook
//! formula in float64, and against the bits that the scalar lanes give.

#![allow(missing_docs)] // what the macros of criterion make is public

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kullback::divergences::NAMES;
use kullback::simd::{Isa, set_isa};
use kullback::{Argument, Call, Kind, Matrix, Numbers, divergence, entropy};

/// A row that stays in the second-level cache, and a vocabulary of today.
const LENGTHS: [usize; 2] = [4_096, 128_256];

/// Standard deviation of q's logits around p's.
const NOISE: f64 = 0.3;

/// Allowed relative error of float32 lanes.
const PROMISE: f64 = 1e-6;

/// Sums of twelve uniform numbers: normal enough, and the same everywhere.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn logits(len: usize) -> (Vec<f32>, Vec<f32>) {
    let mut random = Normal(20240711);
    (0..len)
        .map(|_| {
            let x = 3.0 * random.next();
            (x as f32, NOISE.mul_add(random.next(), x) as f32)
        })
        .unzip()
}

fn log_probs(row: &[f32]) -> Vec<f64> {
    let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
    row.iter().map(|&x| f64::from(x) - total.ln()).collect()
}

/// The textbook formulas, which are good enough at this distance of q from p. `None` for a name this file lacks.
fn expected(name: &str, p: &[f32], q: &[f32]) -> Option<f64> {
    let (log_p, log_q) = (log_probs(p), log_probs(q));
    let sum = |term: &dyn Fn(f64, f64) -> f64| log_p.iter().zip(&log_q).map(|(&a, &b)| term(a, b)).sum::<f64>();
    let js = |a: f64, b: f64| {
        let middle = f64::midpoint(a.exp(), b.exp()).ln();
        0.5 * (a.exp() * (a - middle) + b.exp() * (b - middle))
    };
    let squared_hellinger = |a: f64, b: f64| 0.5 * ((0.5 * a).exp() - (0.5 * b).exp()).powi(2);
    Some(match name {
        "kl" => sum(&|a, b| a.exp() * (a - b)),
        "reverse_kl" => sum(&|a, b| b.exp() * (b - a)),
        "js" => sum(&js),
        "js_distance" => sum(&js).sqrt(),
        "jeffreys" => sum(&|a, b| (a.exp() - b.exp()) * (a - b)),
        "total_variation" => sum(&|a, b| 0.5 * (a.exp() - b.exp()).abs()),
        "squared_hellinger" => sum(&squared_hellinger),
        "hellinger" => sum(&squared_hellinger).sqrt(),
        "skew_kl" => sum(&|a, b| a.exp() * (a - 0.1f64.mul_add(a.exp(), 0.9 * b.exp()).ln())),
        "chi2" => sum(&|a, b| (a.exp() - b.exp()).powi(2) / b.exp()),
        "neyman_chi2" => sum(&|a, b| (a.exp() - b.exp()).powi(2) / a.exp()),
        "triangular_discrimination" => sum(&|a, b| (a.exp() - b.exp()).powi(2) / (a.exp() + b.exp())),
        "alpha:alpha=0.3" => (sum(&|a, b| 0.3f64.mul_add(a, 0.7 * b).exp()) - 1.0) / -0.21,
        "renyi:order=2" => sum(&|a, b| 2.0f64.mul_add(a, -b).exp()).ln(),
        "bhattacharyya" => -(1.0 - sum(&squared_hellinger)).ln(),
        "cauchy_schwarz" => {
            let product = |x: f64, y: f64| sum(&|a, b| (x * a + y * b).exp());
            (product(2.0, 0.0) * product(0.0, 2.0)).ln() - 2.0 * product(1.0, 1.0).ln()
        }
        "fisher_rao" => 4.0 * (0.5 * sum(&squared_hellinger)).sqrt().asin(),
        "acceptance_rate" => sum(&|a, b| a.min(b).exp()),
        "entropy" => -sum(&|a, _| a.exp() * a),
        _ => return None,
    })
}

fn evaluate(name: &str, p: &Matrix<'_>, q: &Matrix<'_>, call: &Call) -> f64 {
    let values = if name == "entropy" { entropy(p, call) } else { divergence(name, p, q, call) };
    values.expect("ordinary rows")[0]
}

fn kernels(criterion: &mut Criterion) {
    let call = Call::new(1);
    for name in NAMES.iter().copied().chain(["entropy"]) {
        // A parameter for the names that have no default.
        let name = match name {
            "alpha" => "alpha:alpha=0.3",
            "renyi" => "renyi:order=2",
            other => other,
        };
        let mut group = criterion.benchmark_group(name);
        for len in LENGTHS {
            let (x, y) = logits(len);
            let matrix = |numbers, argument| Matrix::contiguous(Numbers::F32(numbers), 1, Kind::Logits, argument);
            let (p, q) = (matrix(&x, Argument::P).expect("a row"), matrix(&y, Argument::Q).expect("a row"));
            assert!(set_isa(Some(Isa::Scalar)));
            let portable = evaluate(name, &p, &q, &call);
            if let Some(expected) = expected(name, &x, &y) {
                let error = (portable - expected).abs() / expected;
                assert!(error < PROMISE, "{name} of {len} logits: {portable}, not {expected}");
            }
            let rows = if name == "entropy" { 1 } else { 2 };
            group.throughput(Throughput::Bytes((rows * len * size_of::<f32>()) as u64));
            for isa in Isa::available() {
                assert!(set_isa(Some(isa)));
                let value = evaluate(name, &p, &q, &call);
                assert_eq!(value.to_bits(), portable.to_bits(), "{name} of {len} logits on {}", isa.name());
                group.bench_function(BenchmarkId::new(isa.name(), len), |bencher| {
                    bencher.iter(|| evaluate(name, &p, &q, &call));
                });
            }
        }
        group.finish();
    }
    set_isa(None);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    targets = kernels
}
criterion_main!(benches);
