//! Kernels against plain formulas, on every instruction set of the machine and every thread count.
//!
//! Each test of values crosses element types with lengths around every boundary (lanes, blocks, segments) and with the
//! ways a row can lie in its array; the numbers between the rows are poison. Whatever a test computes, all instruction
//! sets must give the same bits. `REQUIRE_ISA=avx512` makes it a failure if the machine lacks that instruction set.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use kullback::compare::compare;
use kullback::divergences::NAMES;
use kullback::evaluate::{Metric, sides};
use kullback::order::{order, order_of_valid};
use kullback::rows::{BLOCK, Row, SEGMENT, Transform};
use kullback::simd::{Isa, set_isa};
use kullback::{
    Argument, Call, Column, Error, Kind, Matrix, Numbers, Values, divergence, entropy, js_divergence_many,
    renyi_entropy, tsallis_entropy,
};
use proptest::prelude::*;

// ---------------------------------------------------------------------------------------------------------------------
// Instruction sets
// ---------------------------------------------------------------------------------------------------------------------

/// Runs a computation on every instruction set; all must give the same bits.
fn on_every_isa(what: &dyn std::fmt::Debug, compute: impl Fn() -> Vec<f64>) -> Vec<f64> {
    /// The instruction set is one for the whole process, so tests that choose it take turns.
    static ISA: Mutex<()> = Mutex::new(());
    let _turn = ISA.lock().unwrap_or_else(PoisonError::into_inner);
    let mut first: Option<Vec<f64>> = None;
    for isa in Isa::available() {
        assert!(set_isa(Some(isa)));
        let found = compute();
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(bits(first), bits(&found), "{what:?}: {isa:?} gives {found:?}, others {first:?}");
    }
    set_isa(None);
    first.expect("scalar code is always available")
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn instruction_sets() {
    let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    // Not `println`, which a passing test would swallow.
    writeln!(std::io::stderr(), "instruction sets: {}", names.join(", ")).expect("standard error is open");
    if let Ok(required) = std::env::var("REQUIRE_ISA") {
        assert!(names.contains(&required.as_str()), "this machine lacks {required}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Arrays
// ---------------------------------------------------------------------------------------------------------------------

/// Reproducible numbers, uniform in [0, 1).
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn logits(&mut self, len: usize, scale: f64) -> Vec<f64> {
        (0..len).map(|_| scale * (self.next() + self.next() + self.next() - 1.5) * 2.0).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    F64,
    F32,
    F16,
    BF16,
}

const TYPES: [Type; 4] = [Type::F64, Type::F32, Type::F16, Type::BF16];

impl Type {
    /// The error promised, relative to the value.
    fn tolerance(self) -> f64 {
        if self == Type::F64 { 1e-12 } else { 1e-6 }
    }
}

#[derive(Debug)]
enum Array {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Array {
    fn new(kind: Type, numbers: &[f64]) -> Array {
        match kind {
            Type::F64 => Array::F64(numbers.to_vec()),
            Type::F32 => Array::F32(numbers.iter().map(|&x| x as f32).collect()),
            Type::F16 => Array::F16(numbers.iter().map(|&x| f16::from_f64(x)).collect()),
            Type::BF16 => Array::BF16(numbers.iter().map(|&x| bf16::from_f64(x)).collect()),
        }
    }

    fn numbers(&self) -> Numbers<'_> {
        match self {
            Array::F64(n) => Numbers::F64(n),
            Array::F32(n) => Numbers::F32(n),
            Array::F16(n) => Numbers::F16(n),
            Array::BF16(n) => Numbers::BF16(n),
        }
    }

    /// One number, as the array's type holds it.
    fn at(&self, index: usize) -> f64 {
        match self {
            Array::F64(n) => n[index],
            Array::F32(n) => f64::from(n[index]),
            Array::F16(n) => n[index].to_f64(),
            Array::BF16(n) => n[index].to_f64(),
        }
    }
}

/// Where rows lie in an array: the first number, the distance of rows and that of columns.
#[derive(Clone, Copy, Debug)]
struct Layout {
    start: usize,
    row: isize,
    column: isize,
}

const ROWS: usize = 2;

/// A few ways to lay out rows of that length.
fn layouts(columns: usize) -> Vec<Layout> {
    let n = columns as isize;
    vec![
        Layout { start: 0, row: n, column: 1 },
        Layout { start: 1, row: n + 3, column: 1 },
        Layout { start: 7, row: n, column: 1 },
        Layout { start: columns, row: -n, column: 1 },
        Layout { start: 0, row: 0, column: 1 },
        Layout { start: 5, row: 2 * n, column: 2 },
        Layout { start: 0, row: 1, column: ROWS as isize },
        Layout { start: 2 * columns - 1, row: -n, column: -1 },
        Layout { start: 3 * (columns - 1) + 1, row: 1, column: -3 },
        Layout { start: 2, row: 1, column: 0 },
    ]
}

/// Rows of numbers in an array, poison between them.
#[derive(Debug)]
struct Rows {
    array: Array,
    layout: Layout,
    columns: usize,
    kind: Kind,
    temperature: f64,
    argument: Argument,
}

impl Rows {
    fn new(kind: Kind, of: Type, argument: Argument, layout: Layout, rows: &[Vec<f64>]) -> Rows {
        let columns = rows[0].len();
        let mut this = Rows { array: Array::F64(Vec::new()), layout, columns, kind, temperature: 1.0, argument };
        let places: Vec<usize> = (0..rows.len() * columns).map(|i| this.place(i / columns, i % columns)).collect();
        let mut numbers = vec![f64::NAN; places.iter().max().map_or(0, |last| last + 1)];
        for (place, &x) in places.into_iter().zip(rows.iter().flatten()) {
            numbers[place] = x;
        }
        this.array = Array::new(of, &numbers);
        this
    }

    fn place(&self, row: usize, column: usize) -> usize {
        let Layout { start, row: by_row, column: by_column } = self.layout;
        start.checked_add_signed(row as isize * by_row + column as isize * by_column).expect("inside the array")
    }

    fn matrix(&self, rows: usize) -> Matrix<'_> {
        let Layout { start, row, column } = self.layout;
        let (shape, strides) = ([rows, self.columns], [row, column]);
        Matrix::new(self.array.numbers(), start, &shape, &strides, self.kind, self.temperature, self.argument)
            .expect("a valid layout")
    }

    /// The numbers of a row, as its type holds them.
    fn row(&self, row: usize) -> Vec<f64> {
        (0..self.columns).map(|column| self.array.at(self.place(row, column))).collect()
    }

    /// The probabilities of a row.
    fn distribution(&self, row: usize) -> Vec<f64> {
        let mut row = self.row(row);
        if self.kind.is_log() {
            // The temperature divides in the precision of the lanes.
            let wide = matches!(self.array, Array::F64(_));
            let divide =
                |x: f64| if wide { x / self.temperature } else { f64::from(x as f32 / self.temperature as f32) };
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for x in &mut row {
                *x = (divide(*x) - divide(top)).exp();
            }
        }
        let mass: f64 = row.iter().sum();
        row.iter().map(|x| x / mass).collect()
    }
}

/// Numbers that mean about the same as those logits.
fn encode(kind: Kind, logits: &[f64]) -> Vec<f64> {
    let mass: f64 = logits.iter().map(|x| x.exp()).sum();
    logits
        .iter()
        .map(|x| match kind {
            Kind::Probs => x.exp() / mass,
            Kind::Weights => 3.0 * x.exp(),
            Kind::LogProbs => x - mass.ln(),
            Kind::Logits => *x,
        })
        .collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Plain formulas
// ---------------------------------------------------------------------------------------------------------------------

fn plain_kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

fn plain_entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// Of order 1.3.
fn plain_tsallis(p: &[f64]) -> f64 {
    (1.0 - p.iter().map(|p| p.powf(1.3)).sum::<f64>()) / 0.3
}

fn plain(name: &str, p: &[f64], q: &[f64]) -> f64 {
    let halves = |f: &dyn Fn(f64, f64) -> f64| p.iter().zip(q).map(|(&p, &q)| 0.5 * f(p, q)).sum::<f64>();
    match name {
        "kl" => plain_kl(p, q),
        "reverse_kl" => plain_kl(q, p),
        "js" => {
            let middle: Vec<f64> = p.iter().zip(q).map(|(p, q)| 0.5 * (p + q)).collect();
            0.5 * plain_kl(p, &middle) + 0.5 * plain_kl(q, &middle)
        }
        "js_distance" => plain("js", p, q).max(0.0).sqrt(),
        "jeffreys" => plain_kl(p, q) + plain_kl(q, p),
        "total_variation" => halves(&|p, q| (p - q).abs()),
        "squared_hellinger" => halves(&|p, q| (p.sqrt() - q.sqrt()).powi(2)),
        "hellinger" => plain("squared_hellinger", p, q).sqrt(),
        "js:weight=0.25" => 0.25 * plain("skew_kl:alpha=0.25", p, q) + 0.75 * plain("skew_kl:alpha=0.75", q, p),
        "skew_kl" => plain("skew_kl:alpha=0.1", p, q),
        "chi2" => 2.0 * plain("alpha:alpha=2", p, q),
        "neyman_chi2" => 2.0 * plain("alpha:alpha=-1", p, q),
        "triangular_discrimination" => 2.0 * halves(&|p, q| if p + q > 0.0 { (p - q).powi(2) / (p + q) } else { 0.0 }),
        "bhattacharyya" => 0.5 * plain("renyi:order=0.5", p, q),
        "cauchy_schwarz" => {
            let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            (sum(p, p) * sum(q, q) / sum(p, q).powi(2)).ln().max(0.0)
        }
        "fisher_rao" => 4.0 * (plain("hellinger", p, q) / std::f64::consts::SQRT_2).asin(),
        "acceptance_rate" => p.iter().zip(q).map(|(p, q)| p.min(*q)).sum(),
        "renyi:order=0" => -p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(_, q)| q).sum::<f64>().ln(),
        "renyi:order=inf" => p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| (p / q).ln()).fold(0.0, f64::max),
        "entropy" => plain_entropy(p),
        "renyi_entropy" => plain_tsallis(p).mul_add(-0.3, 1.0).ln() / -0.3,
        "tsallis_entropy" => plain_tsallis(p),
        "cross_entropy" => plain_entropy(p) + plain_kl(p, q),
        other => {
            let number = |prefix: &str| other.strip_prefix(prefix).and_then(|number| number.parse::<f64>().ok());
            let powers = |a: f64| {
                p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (q / p).powf(1.0 - a)).sum::<f64>()
            };
            if let Some(alpha) = number("skew_kl:alpha=") {
                let mixed: Vec<f64> = p.iter().zip(q).map(|(p, q)| alpha * p + (1.0 - alpha) * q).collect();
                plain_kl(p, &mixed)
            } else if let Some(alpha) = number("alpha:alpha=") {
                (powers(alpha) - 1.0) / (alpha * (alpha - 1.0))
            } else if let Some(order) = number("renyi:order=") {
                powers(order).ln() / (order - 1.0)
            } else {
                panic!("no plain formula for {other}: add one")
            }
        }
    }
}

/// Parameters other than the default ones, on every path of their kernels.
const WITH_PARAMETER: [&str; 10] = [
    "js:weight=0.25",
    "skew_kl:alpha=0.6",
    "alpha:alpha=0.3",
    "alpha:alpha=-0.7",
    "alpha:alpha=3.5",
    "renyi:order=0",
    "renyi:order=0.5",
    "renyi:order=0.75",
    "renyi:order=4",
    "renyi:order=inf",
];

/// Every metric of two arguments, its parameter written out if it has no default.
fn metrics() -> impl Iterator<Item = &'static str> {
    let plain = NAMES.iter().copied().filter(|name| !["alpha", "renyi"].contains(name));
    plain.chain(WITH_PARAMETER).chain(["cross_entropy"])
}

const ENTROPIES: [&str; 3] = ["entropy", "renyi_entropy", "tsallis_entropy"];

/// Every divergence of two arguments, then the entropies of the first, for every row.
fn everything(p: &Matrix<'_>, q: &Matrix<'_>, call: &Call) -> Vec<f64> {
    every_so_many(1, 0, p, q, call)
}

/// [`everything`], but of the metrics only the first after `from`, the `step`-th after that, and so on.
fn every_so_many(step: usize, from: usize, p: &Matrix<'_>, q: &Matrix<'_>, call: &Call) -> Vec<f64> {
    let metrics = metrics().skip(from).step_by(step);
    let values = metrics.flat_map(|name| divergence(name, p, q, call).expect("valid rows"));
    let entropies = [entropy(p, call), renyi_entropy(p, 1.3, call), tsallis_entropy(p, 1.3, call)];
    values.chain(entropies.into_iter().flat_map(|values| values.expect("valid rows"))).collect()
}

fn everything_plain(p: &Rows, q: &Rows, rows: usize) -> Vec<f64> {
    every_so_many_plain(1, 0, p, q, rows)
}

fn every_so_many_plain(step: usize, from: usize, p: &Rows, q: &Rows, rows: usize) -> Vec<f64> {
    let pairs: Vec<_> = (0..rows).map(|row| (p.distribution(row), q.distribution(row))).collect();
    metrics()
        .skip(from)
        .step_by(step)
        .chain(ENTROPIES)
        .flat_map(|name| pairs.iter().map(move |(p, q)| plain(name, p, q)))
        .collect()
}

fn assert_close(what: &dyn std::fmt::Debug, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        // Where rows agree, a plain formula leaves rounding errors, and a distance their root.
        let close = (got - want).abs() <= tolerance * want.abs() + 1e-13 || (want.abs() < 1e-7 && got.abs() < 1e-7);
        assert!(close, "{what:?}: number {i} is {got:e}, not {want:e}");
    }
}

/// All values of `rows` rows on all instruction sets against the plain formulas.
fn check(p: &Rows, q: &Rows, rows: usize, tolerance: f64) {
    check_every(1, 0, p, q, rows, tolerance);
}

fn check_every(step: usize, from: usize, p: &Rows, q: &Rows, rows: usize, tolerance: f64) {
    let what = (p.layout, q.layout, p.kind, q.kind, p.array.numbers().len(), p.columns);
    let got = on_every_isa(&what, || every_so_many(step, from, &p.matrix(rows), &q.matrix(rows), &Call::new(1)));
    assert_close(&what, &got, &every_so_many_plain(step, from, p, q, rows), tolerance);
}

// ---------------------------------------------------------------------------------------------------------------------
// Values
// ---------------------------------------------------------------------------------------------------------------------

fn lengths() -> impl Iterator<Item = usize> {
    let around = |n: usize| [n - 1, n, n + 1, n + 17];
    (1..=4 * 16 + 1).chain(around(BLOCK)).chain(around(2 * BLOCK))
}

#[test]
fn every_type_length_and_layout() {
    let mut uniform = Uniform(1);
    for columns in lengths() {
        for of in TYPES {
            let layouts = layouts(columns);
            for (i, &layout) in layouts.iter().enumerate() {
                let mut rows = |argument, layout| {
                    let logits: Vec<_> = (0..ROWS).map(|_| uniform.logits(columns, 1.0)).collect();
                    Rows::new(Kind::Logits, of, argument, layout, &logits)
                };
                let p = rows(Argument::P, layout);
                let q = rows(Argument::Q, layouts[(i + columns) % layouts.len()]);
                // One layout in ten, another for each length, takes every metric; each metric meets every layout.
                let (step, from) = if i == columns % layouts.len() { (1, 0) } else { (5, (i + columns / 10) % 5) };
                check_every(step, from, &p, &q, ROWS, of.tolerance());
            }
        }
    }
}

#[test]
fn every_kind_beside_every_other() {
    let kinds = [Kind::Probs, Kind::Weights, Kind::LogProbs, Kind::Logits];
    let mut uniform = Uniform(2);
    for columns in [1, 2, 15, 16, 17, 33, BLOCK - 1, BLOCK + 1] {
        for of in TYPES {
            for (p_kind, q_kind) in kinds.iter().flat_map(|&p| kinds.map(|q| (p, q))) {
                let other = if columns % 2 == 0 { of } else { TYPES[columns % TYPES.len()] };
                let mut rows = |kind, of, argument, layout| {
                    let rows: Vec<_> = (0..ROWS).map(|_| encode(kind, &uniform.logits(columns, 1.0))).collect();
                    Rows::new(kind, of, argument, layout, &rows)
                };
                let p = rows(p_kind, of, Argument::P, layouts(columns)[1]);
                let q = rows(q_kind, other, Argument::Q, layouts(columns)[6]);
                check(&p, &q, ROWS, of.tolerance().max(other.tolerance()));
            }
        }
    }
}

#[test]
fn temperatures() {
    let mut uniform = Uniform(3);
    for of in TYPES {
        for temperature in [0.5, 0.7, 3.0] {
            let mut rows = |argument| {
                let rows: Vec<_> = (0..ROWS).map(|_| uniform.logits(77, 1.0)).collect();
                Rows { temperature, ..Rows::new(Kind::Logits, of, argument, layouts(77)[0], &rows) }
            };
            let (p, q) = (rows(Argument::P), rows(Argument::Q));
            check(&p, &q, ROWS, of.tolerance());
        }
    }
}

#[test]
fn around_segments() {
    let mut uniform = Uniform(4);
    for columns in [SEGMENT - 1, SEGMENT, SEGMENT + 1, SEGMENT + BLOCK + 1] {
        for (of, layout) in TYPES.iter().flat_map(|&of| [0, 7].map(|i| (of, layouts(columns)[i]))) {
            let mut rows = |kind, argument| {
                let rows: Vec<_> = (0..ROWS).map(|_| encode(kind, &uniform.logits(columns, 1.0))).collect();
                Rows::new(kind, of, argument, layout, &rows)
            };
            let kind = if columns % 2 == 0 { Kind::Logits } else { Kind::Weights };
            let (p, q) = (rows(kind, Argument::P), rows(kind, Argument::Q));
            check(&p, &q, ROWS, of.tolerance());
        }
    }
}

/// Logits of every size of noise, infinities among them: every path through a kernel, still with one set of bits.
#[test]
fn bits_on_every_path() {
    let mut uniform = Uniform(5);
    for of in TYPES {
        for noise in [1e-6f64, 1e-3, 0.1, 3.0, 30.0, 1e3, 3e4] {
            for holes in [0, 2, 3] {
                if of == Type::F16 && noise > 1e4 {
                    continue; // no such number in float16
                }
                let columns = 2 * BLOCK + 37;
                let p = uniform.logits(columns, noise.min(10.0));
                let mut q: Vec<f64> = p.iter().zip(uniform.logits(columns, noise)).map(|(p, d)| p + d).collect();
                let mut p = p;
                for i in 0..holes {
                    q[300 * i + 5] = f64::NEG_INFINITY;
                    p[300 * i + 5 + i % 2] = f64::NEG_INFINITY;
                }
                let p = Rows::new(Kind::Logits, of, Argument::P, layouts(columns)[0], &[p]);
                let q = Rows::new(Kind::Logits, of, Argument::Q, layouts(columns)[1], &[q]);
                let what = (of, noise, holes);
                let got = on_every_isa(&what, || everything(&p.matrix(1), &q.matrix(1), &Call::new(1)));
                assert!(got.iter().all(|&x| x >= 0.0), "{what:?}: {got:?}");
                if holes == 0 && (0.1..100.0).contains(&noise) {
                    assert_close(&what, &got, &everything_plain(&p, &q, 1), 2.0 * of.tolerance());
                }
                assert_eq!(got[0].is_infinite(), holes > 1 || (holes > 0 && noise > 700.0), "{what:?}");
            }
        }
    }
}

#[test]
fn many_at_once() {
    let mut uniform = Uniform(18);
    for columns in [1, 9, BLOCK + 3, SEGMENT + 5] {
        for (of, kind) in TYPES.iter().flat_map(|&of| [Kind::Logits, Kind::Weights].map(|kind| (of, kind))) {
            let rows: Vec<_> = (0..6).map(|_| encode(kind, &uniform.logits(columns, 1.0))).collect();
            let p = Rows::new(kind, of, Argument::P, layouts(columns)[0], &rows);
            let run = |weights: &[f64], threads| {
                js_divergence_many(&p.matrix(6), weights, &Call::new(threads)).expect("valid rows")
            };
            let got = on_every_isa(&(columns, of, kind), || {
                let alone = run(&[0.5, 0.25, 0.25], 1);
                assert_eq!(bits(&alone), bits(&run(&[0.5, 0.25, 0.25], 3)));
                [alone, run(&[0.5, 0.5], 1)].concat()
            });
            let distributions: Vec<_> = (0..6).map(|row| p.distribution(row)).collect();
            let want = |weights: &[f64]| -> Vec<f64> {
                let step = 6 / weights.len();
                let of_row = |row: usize| {
                    let rows: Vec<_> = (0..weights.len()).map(|m| &distributions[m * step + row]).collect();
                    let mean = |i: usize| weights.iter().zip(&rows).map(|(w, row)| w * row[i]).sum::<f64>();
                    let mean: Vec<f64> = (0..columns).map(mean).collect();
                    weights.iter().zip(rows).map(|(w, row)| w * plain_kl(row, &mean)).sum()
                };
                (0..step).map(of_row).collect()
            };
            let want = [want(&[0.5, 0.25, 0.25]), want(&[0.5, 0.5])].concat();
            assert_close(&(columns, of, kind), &got, &want, of.tolerance());
        }
    }
}

#[test]
fn not_a_number() {
    for of in TYPES {
        for columns in [1, 16, 17, BLOCK + 3, SEGMENT + 1] {
            for at in [0, columns / 2, columns - 1] {
                for (kind, poison) in [
                    (Kind::Logits, f64::NAN),
                    (Kind::Logits, f64::INFINITY),
                    (Kind::Weights, f64::NAN),
                    (Kind::Weights, f64::INFINITY),
                ] {
                    let fine = vec![0.5; columns];
                    let mut bad = fine.clone();
                    bad[at] = poison;
                    let layout = layouts(columns)[0];
                    let fine = Rows::new(kind, of, Argument::P, layout, &[fine]);
                    let bad = Rows::new(kind, of, Argument::Q, layout, &[bad]);
                    let got = on_every_isa(&(of, columns, at), || {
                        let mut got = everything(&fine.matrix(1), &bad.matrix(1), &Call::new(1));
                        got.truncate(got.len() - ENTROPIES.len());
                        got.extend(everything(&bad.matrix(1), &fine.matrix(1), &Call::new(1)));
                        got.iter().map(|x| if x.is_nan() { 1.0 } else { 0.0 }).collect()
                    });
                    assert!(got.iter().all(|&x| x == 1.0), "{of:?} {columns} {at} {kind:?} {poison}: {got:?}");
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparison and order
// ---------------------------------------------------------------------------------------------------------------------

/// Columns in the order in which they are to stand, the first of equal numbers first.
fn sorted(row: &[f64]) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..row.len()).collect();
    columns.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    columns
}

const COLUMNS: [&str; 22] = [
    "kl",
    "reverse_kl",
    "js",
    "jeffreys",
    "total_variation",
    "squared_hellinger",
    "entropy_p",
    "entropy_q",
    "cross_entropy",
    "js_distance",
    "hellinger",
    "top1_p",
    "top1_q",
    "top1_prob_p",
    "top1_prob_q",
    "overlap_1",
    "overlap_5",
    "log_prob_p",
    "log_prob_q",
    "delta_prob",
    "rank_p",
    "rank_q",
];

fn plain_column(name: &str, p: &Rows, q: &Rows, row: usize, target: usize) -> f64 {
    let (a, b) = (p.distribution(row), q.distribution(row));
    let (a_order, b_order) = (sorted(&p.row(row)), sorted(&q.row(row)));
    let rank = |order: &[usize]| order.iter().position(|&at| at == target).map_or(f64::NAN, |at| (at + 1) as f64);
    match name {
        "entropy_p" => plain_entropy(&a),
        "entropy_q" => plain_entropy(&b),
        "top1_p" => a_order[0] as f64,
        "top1_q" => b_order[0] as f64,
        "top1_prob_p" => a[a_order[0]],
        "top1_prob_q" => b[b_order[0]],
        "log_prob_p" => a[target].ln(),
        "log_prob_q" => b[target].ln(),
        "delta_prob" => b[target] - a[target],
        "rank_p" => rank(&a_order),
        "rank_q" => rank(&b_order),
        _ => match name.strip_prefix("overlap_").and_then(|k| k.parse().ok()) {
            Some(k) => {
                let k = a.len().min(k);
                a_order[..k].iter().filter(|at| b_order[..k].contains(at)).count() as f64 / k as f64
            }
            None => plain(name, &a, &b),
        },
    }
}

/// All columns of `compare`, integers as float64, one after another.
fn compared(p: &Rows, q: &Rows, rows: usize, targets: &[i64], threads: usize) -> Vec<f64> {
    let columns: Vec<Column> = COLUMNS.iter().map(|name| Column::from_name(name).expect("a column")).collect();
    compare(&p.matrix(rows), &q.matrix(rows), &columns, Some(targets), &Call::new(threads))
        .expect("valid rows")
        .into_iter()
        .flat_map(|values| match values {
            Values::Float(values) => values,
            Values::Integer(values) => values.into_iter().map(|x| x as f64).collect(),
        })
        .collect()
}

#[test]
fn comparison() {
    let mut uniform = Uniform(6);
    for columns in [1, 2, 16, 17, 65, BLOCK + 1, SEGMENT + 5] {
        for (of, kind) in TYPES.iter().flat_map(|&of| [Kind::Logits, Kind::Weights].map(|kind| (of, kind))) {
            let mut rows = |argument, layout: usize| {
                let rows: Vec<_> = (0..ROWS).map(|_| encode(kind, &uniform.logits(columns, 1.0))).collect();
                Rows::new(kind, of, argument, layouts(columns)[layout], &rows)
            };
            let (p, q) = (rows(Argument::P, 5), rows(Argument::Q, 0));
            let targets = [(columns / 3) as i64, (columns - 1) as i64];
            let got = on_every_isa(&(columns, of, kind), || compared(&p, &q, ROWS, &targets, 1));
            let places = COLUMNS.iter().flat_map(|name| (0..ROWS).map(move |row| (name, row)));
            for (&got, (name, row)) in got.iter().zip(places) {
                let target = targets[row] as usize;
                let want = plain_column(name, &p, &q, row, target);
                // A difference of probabilities is as good as they are.
                let size =
                    if *name == "delta_prob" { p.distribution(row)[target] + q.distribution(row)[target] } else { 0.0 };
                assert_close(&(columns, of, kind, name), &[got + size], &[want + size], of.tolerance());
            }
        }
    }
}

#[test]
fn order_is_that_of_a_stable_sort() {
    let mut uniform = Uniform(7);
    for columns in lengths().chain([SEGMENT + 3, 2 * SEGMENT + 1]) {
        let few = [1, 2, 5, 40][columns % 4];
        // Few distinct numbers: ties everywhere.
        let mut row: Vec<f64> = (0..columns).map(|_| (uniform.next() * 8.0).floor() - 4.0).collect();
        row[columns / 2] = f64::NEG_INFINITY;
        let target = (uniform.next() * columns as f64) as usize;
        for of in TYPES {
            for layout in [0, 1, 7] {
                let rows =
                    Rows::new(Kind::Logits, of, Argument::P, layouts(columns)[layout], std::slice::from_ref(&row));
                let Layout { start, column, .. } = rows.layout;
                let view = Row::new(rows.array.numbers(), start, column, columns, Transform::Keep);
                let sorted = sorted(&row);
                let rank = sorted.iter().position(|&at| at == target).expect("a column");
                on_every_isa(&(columns, of, layout), || {
                    for parallel in [false, true] {
                        for found in [
                            order(&view, few, Some(target), parallel),
                            order_of_valid(&view, few, Some(target), parallel),
                            order(&view, (columns + 1).min(100), Some(target), parallel),
                        ] {
                            let top: Vec<usize> = found.top.iter().map(|entry| entry.index).collect();
                            assert!(top.len() >= few.min(columns) && found.valid);
                            assert_eq!(top, sorted[..top.len()], "{columns} {of:?}");
                            assert!(found.top.iter().all(|entry| entry.value == row[entry.index]));
                            assert_eq!(found.before, rank, "{columns} {of:?} target {target}");
                        }
                    }
                    Vec::new()
                });
            }
        }
    }
}

/// Many short rows are computed in one kernel: what it takes, and what it leaves to the long way, has the same bits.
#[test]
fn short_rows_are_computed_as_long_ones_are() {
    let mut uniform = Uniform(11);
    for (columns, kind) in [1, 5, 8, 16, 17, 64, 100, BLOCK - 24, BLOCK + 40]
        .into_iter()
        .flat_map(|columns| [Kind::Probs, Kind::Weights, Kind::Logits].map(|kind| (columns, kind)))
    {
        // Far rows, near ones, the same ones; with zeros on either side; without a distribution.
        let noises = [3.0, 0.5, 1e-3, 0.0, 0.5, 0.5, 0.5];
        let (mut p, mut q) = (Vec::new(), Vec::new());
        for (row, noise) in noises.into_iter().enumerate() {
            let x = uniform.logits(columns, 2.0);
            let mut y: Vec<f64> = x.iter().map(|x| x + noise * (uniform.next() - 0.5)).collect();
            if row > 3 {
                y[columns / 2] = [f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NAN][row - 4];
            }
            let pair = if row == 5 { [&y, &x] } else { [&x, &y] };
            for (logits, to) in pair.into_iter().zip([&mut p, &mut q]) {
                let total: f64 = logits.iter().map(|x| libm::exp(*x)).sum();
                let log_total = if kind == Kind::Probs { libm::log(total) } else { 0.0 };
                to.extend(logits.iter().map(|&x| if kind == Kind::Logits { x } else { libm::exp(x - log_total) }));
            }
        }
        for of in TYPES {
            let (p, q) = (Array::new(of, &p), Array::new(of, &q));
            let matrix = |array, argument| {
                Matrix::contiguous(Array::numbers(array), noises.len(), kind, argument).expect("a shape")
            };
            let (p, q) = (matrix(&p, Argument::P), matrix(&q, Argument::Q));
            for name in NAMES.iter().filter(|name| Metric::parse(name).is_ok()) {
                on_every_isa(&(columns, kind, of, name), || {
                    let metric = Metric::parse(name).expect("a name");
                    let one_by_one = (0..p.rows()).map(|row| {
                        let (p, q) = sides(&p, &q, row);
                        metric.of_sides(&p, &q, metric.series().as_ref(), false)
                    });
                    let one_by_one: Result<Vec<f64>, Error> = one_by_one.collect();
                    let at_once = divergence(name, &p, &q, &Call::new(1));
                    match (one_by_one, at_once) {
                        (Ok(one_by_one), Ok(at_once)) => {
                            assert_eq!(bits(&one_by_one), bits(&at_once), "{columns} {kind:?} {of:?} {name}");
                            at_once
                        }
                        (Err(one), Err(other)) => {
                            assert_eq!(one.to_string(), other.to_string());
                            Vec::new()
                        }
                        (one, other) => panic!("{one:?}, at once {other:?}"),
                    }
                });
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Threads
// ---------------------------------------------------------------------------------------------------------------------

const THREADS: [usize; 4] = [1, 2, 3, 7];

fn random_rows(kind: Kind, of: Type, argument: Argument, rows: usize, columns: usize, seed: u64) -> Rows {
    let mut uniform = Uniform(seed);
    let rows: Vec<_> = (0..rows).map(|_| encode(kind, &uniform.logits(columns, 1.0))).collect();
    Rows::new(kind, of, argument, layouts(columns)[0], &rows)
}

#[test]
fn threads_do_not_change_bits() {
    let inputs =
        [(Type::F64, Kind::Logits), (Type::F32, Kind::Logits), (Type::F32, Kind::Weights), (Type::BF16, Kind::Logits)];
    // One row that is split over threads, a few that are not, and many.
    for (rows, columns) in [(1, 16 * SEGMENT + 77), (5, 2 * SEGMENT + 1), (300, 513)] {
        for (of, kind) in inputs {
            let p = random_rows(kind, of, Argument::P, rows, columns, 8);
            let q = random_rows(kind, of, Argument::Q, rows, columns, 9);
            let targets: Vec<i64> = (0..rows).map(|row| (row * 31 % columns) as i64).collect();
            on_every_isa(&(rows, columns, of, kind), || {
                let run = |threads| {
                    let mut found = compared(&p, &q, rows, &targets, threads);
                    let call = Call::new(threads);
                    found.extend(divergence("js", &p.matrix(rows), &q.matrix(rows), &call).expect("valid rows"));
                    found.extend(entropy(&p.matrix(rows), &call).expect("valid rows"));
                    found
                };
                let alone = run(1);
                for threads in THREADS {
                    assert_eq!(bits(&alone), bits(&run(threads)), "{rows} rows, {of:?}, {threads} threads");
                }
                alone
            });
        }
    }
}

#[test]
fn rows_do_not_depend_on_their_batch() {
    let (rows, columns) = (200, 301);
    let p = random_rows(Kind::Logits, Type::F32, Argument::P, rows, columns, 10);
    let q = random_rows(Kind::Logits, Type::F32, Argument::Q, rows, columns, 11);
    let all = divergence("kl", &p.matrix(rows), &q.matrix(rows), &Call::new(3)).expect("valid rows");
    for (row, &together) in all.iter().enumerate() {
        let start = row * columns;
        let numbers = |rows: &Rows| match &rows.array {
            Array::F32(numbers) => numbers[start..start + columns].to_vec(),
            _ => unreachable!("made above"),
        };
        let (p, q) = (numbers(&p), numbers(&q));
        let one = |numbers| Matrix::contiguous(Numbers::F32(numbers), 1, Kind::Logits, Argument::P).expect("one row");
        let alone = divergence("kl", &one(&p), &one(&q), &Call::new(1)).expect("valid rows")[0];
        assert_eq!(alone.to_bits(), together.to_bits(), "row {row}");
    }
}

#[test]
fn sixteen_threads_call_at_once() {
    let (rows, columns) = (40, 2049);
    let p = random_rows(Kind::Logits, Type::F32, Argument::P, rows, columns, 12);
    let q = random_rows(Kind::Logits, Type::F32, Argument::Q, rows, columns, 13);
    let want = divergence("js", &p.matrix(rows), &q.matrix(rows), &Call::new(1)).expect("valid rows");
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let (p, q, want) = (&p, &q, &want);
            scope.spawn(move || {
                for repeat in 0..20 {
                    // Pools that exist, and pools that several callers want built at the same moment.
                    let call = Call::new(1 + (caller * repeat) % 9);
                    let got = divergence("js", &p.matrix(rows), &q.matrix(rows), &call).expect("valid rows");
                    assert_eq!(bits(&got), bits(want));
                }
            });
        }
    });
}

#[test]
fn a_stopped_call_is_interrupted() {
    use std::sync::atomic::Ordering;
    for (rows, columns) in [(1, 5), (300, 513)] {
        let p = random_rows(Kind::Logits, Type::F32, Argument::P, rows, columns, 14);
        for threads in THREADS {
            let call = Call::new(threads);
            call.stop.store(true, Ordering::Relaxed);
            let (a, b) = (p.matrix(rows), p.matrix(rows));
            assert_eq!(divergence("kl", &a, &b, &call), Err(Error::Interrupted));
            assert_eq!(entropy(&a, &call), Err(Error::Interrupted));
            assert_eq!(compare(&a, &b, &[Column::Kl], None, &call).err(), Some(Error::Interrupted));
        }
    }
}

#[test]
fn a_running_call_can_be_stopped() {
    // The same row, a million times: it would run for minutes.
    let row = random_rows(Kind::Logits, Type::F32, Argument::P, 1, 4096, 15);
    let numbers = row.array.numbers();
    let many = || Matrix::new(numbers, 0, &[1 << 24, 4096], &[0, 1], Kind::Logits, 1.0, Argument::P).expect("one row");
    let call = Call::new(2);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| divergence("js", &many(), &many(), &call));
        std::thread::sleep(std::time::Duration::from_millis(100));
        call.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(running.join().expect("no panic"), Err(Error::Interrupted));
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn errors_name_the_first_bad_row() {
    let columns = 3000;
    let mut rows = vec![vec![1.0; columns]; 50];
    rows[31][2999] = -1.0;
    rows[7][1500] = -2.0;
    rows[7][2500] = -3.0;
    let good = Rows::new(Kind::Weights, Type::F32, Argument::P, layouts(columns)[0], &vec![vec![1.0; columns]; 50]);
    let bad = Rows::new(Kind::Weights, Type::F32, Argument::Q, layouts(columns)[0], &rows);
    let wanted = Error::Negative { argument: Argument::Q, row: 7, column: 1500, value: -2.0 };
    for threads in THREADS {
        let found = divergence("js", &good.matrix(50), &bad.matrix(50), &Call::new(threads));
        assert_eq!(found, Err(wanted.clone()));
    }
    for text in ["renyi", "kl:order=2", "renyi:alpha=2", "renyi:order=x", "renyi:order=-1", "cross_entropy:x=1"] {
        let found = divergence(text, &good.matrix(50), &good.matrix(50), &Call::default());
        assert!(matches!(found, Err(Error::Parameter(_))), "{text}: {found:?}");
    }
    assert!(renyi_entropy(&good.matrix(50), f64::NAN, &Call::default()).is_err());
    let known = divergence("nonsense", &good.matrix(50), &good.matrix(50), &Call::default());
    assert_eq!(known, Err(Error::UnknownName("nonsense".to_owned())));
}

#[test]
fn shapes_that_differ_are_an_error() {
    let small = random_rows(Kind::Logits, Type::F32, Argument::P, 2, 30, 16);
    let large = random_rows(Kind::Logits, Type::F32, Argument::Q, 3, 40, 17);
    for ((p_rows, p), (q_rows, q)) in
        [((2, &small), (2, &large)), ((2, &large), (3, &large)), ((3, &large), (2, &large))]
    {
        let (p, q) = (p.matrix(p_rows), q.matrix(q_rows));
        assert!(matches!(divergence("js", &p, &q, &Call::default()), Err(Error::Shape(_))));
        assert!(matches!(compare(&p, &q, &[Column::Kl], None, &Call::default()), Err(Error::Shape(_))));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Laws
// ---------------------------------------------------------------------------------------------------------------------

/// Lengths and strides: mostly sensible ones, now and then absurd ones.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0usize..6, 1 => 0usize..70, 1 => any::<usize>()]
}

fn stride() -> impl Strategy<Value = isize> {
    prop_oneof![8 => -8isize..9, 1 => any::<isize>(), 1 => Just(isize::MIN)]
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * a.abs().max(b.abs()) + tolerance * 1e-3
}

#[test]
fn no_rows_of_any_shape_are_no_rows() {
    let numbers = [0.5f32; 4];
    for shape in [[0, 1 << 40, 1 << 40, 2], [1 << 40, 0, 1 << 40, 2]] {
        let found = Matrix::new(Numbers::F32(&numbers), 0, &shape, &[0, 0, 0, 1], Kind::Logits, 1.0, Argument::P)
            .expect("empty");
        assert_eq!(entropy(&found, &Call::new(1)), Ok(vec![]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strides_outside_the_array_are_rejected(
        len in 0usize..70,
        start in size(),
        axes in prop::collection::vec((size(), stride()), 0..5),
    ) {
        let numbers = vec![0.5f32; len];
        let (shape, strides): (Vec<usize>, Vec<isize>) = axes.iter().copied().unzip();
        let numbers = Numbers::F32(&numbers);
        let found = Matrix::new(numbers, start, &shape, &strides, Kind::Logits, 1.0, Argument::P);
        // Every corner of the array, exactly.
        let reach = |wanted: i128| -> i128 {
            let far = axes.iter().map(|&(len, stride)| (len as i128 - 1) * stride as i128);
            far.filter(|far| far.signum() == wanted).fold(0, i128::saturating_add)
        };
        let inside = reach(-1).saturating_add(start as i128) >= 0 && reach(1).saturating_add(start as i128) < len as i128;
        let no_rows = shape.split_last().is_some_and(|(&columns, rows)| columns > 0 && rows.contains(&0));
        if let Ok(matrix) = found {
            prop_assert!(inside || no_rows, "{:?} {:?} {} of {}", shape, strides, start, len);
            if matrix.rows() < 100 && matrix.columns() < 100 {
                let got = entropy(&matrix, &Call::new(1)).expect("logits are never wrong");
                prop_assert_eq!(got.len(), matrix.rows());
                prop_assert!(got.iter().all(|h| near(*h, (matrix.columns() as f64).ln(), 1e-6)));
            }
        } else {
            // Whatever is refused reaches outside, has no columns, or is too large to count.
            let too_large = shape.iter().map(|&len| len as f64).product::<f64>() > 9e18;
            prop_assert!(!inside || shape.is_empty() || shape.contains(&0) || too_large, "{:?} {:?}", shape, strides);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws(
        logits in prop::collection::vec((-9.0..9.0f64, -9.0..9.0f64), 1..200),
        of in prop::sample::select(TYPES.to_vec()),
        shift in -50.0..50.0f64,
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = logits.into_iter().unzip();
        let layout = Layout { start: 0, row: 0, column: 1 };
        let rows = |numbers: &[f64]| Rows::new(Kind::Logits, of, Argument::P, layout, &[numbers.to_vec()]);
        let (p, q) = (rows(&x), rows(&y));
        let value = |name: &str, p: &Rows, q: &Rows| {
            divergence(name, &p.matrix(1), &q.matrix(1), &Call::new(1)).expect("logits are never wrong")[0]
        };
        for name in metrics().filter(|name| *name != "cross_entropy") {
            let there = value(name, &p, &q);
            prop_assert!(there >= 0.0, "{} is {}", name, there);
            if name == "acceptance_rate" {
                prop_assert!(near(value(name, &p, &p), 1.0, 1e-12));
            } else {
                prop_assert_eq!(value(name, &p, &p), 0.0);
            }
            let mirrored = match name {
                "kl" => "reverse_kl",
                "reverse_kl" => "kl",
                "chi2" => "neyman_chi2",
                "neyman_chi2" => "chi2",
                "alpha:alpha=0.3" => "alpha:alpha=0.7",
                "alpha:alpha=-0.7" => "alpha:alpha=1.7",
                "alpha:alpha=3.5" => "alpha:alpha=-2.5",
                "js:weight=0.25" => "js:weight=0.75",
                name if name.starts_with("skew_kl") || name.starts_with("renyi") => continue,
                name => name,
            };
            let back = value(mirrored, &q, &p);
            prop_assert!(near(there, back, 2.0 * of.tolerance()), "{} {} {} {}", name, mirrored, there, back);
            // A shift in float64 rounds the logits by 1e-14; narrower types would round them to others.
            if of == Type::F64 {
                let shifted: Vec<f64> = y.iter().map(|y| y + shift).collect();
                let there_shifted = value(name, &p, &rows(&shifted));
                prop_assert!(near(there, there_shifted, 1e-10), "{} {} {}", name, there, there_shifted);
            }
        }
        let bounds = [("js", std::f64::consts::LN_2), ("total_variation", 1.0), ("hellinger", 1.0)];
        for (name, most) in bounds {
            prop_assert!(value(name, &p, &q) <= most * (1.0 + of.tolerance()));
        }
        let h = entropy(&p.matrix(1), &Call::new(1)).expect("logits are never wrong")[0];
        prop_assert!(h >= 0.0 && h <= (x.len() as f64).ln() * (1.0 + of.tolerance()) + 1e-300);
        let cross = value("cross_entropy", &p, &q);
        prop_assert!(near(cross, h + value("kl", &p, &q), of.tolerance()));
    }
}
