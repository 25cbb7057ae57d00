//! One kernel, run a number of times on rows that are always the same, for `benches/instructions.py` to count the
//! instructions of: `instructions KERNEL REPEATS`. Without arguments it lists the kernels.
//!
//! One thread. A kernel is a call, a kind of numbers and a row length; all have the same number of pairs.

use std::hint::black_box;
use std::process::ExitCode;

use kullback::probe::exp_sum;
use kullback::{Argument, Call, Column, Kind, Matrix, Numbers, compare, divergence, entropy};

/// Pairs of numbers of every kernel.
const PAIRS: usize = 1 << 15;

/// Standard deviation of q's logits around p's: close enough for the short series everywhere, and too far for it.
const NEAR: f32 = 0.1;
const FAR: f32 = 2.0;

/// Name, kind, columns and noise.
const KERNELS: [(&str, Kind, usize, f32); 10] = [
    ("exp", Kind::Logits, PAIRS, NEAR),
    ("kl", Kind::Logits, PAIRS, NEAR),
    ("kl", Kind::Logits, PAIRS, FAR),
    ("js", Kind::Logits, PAIRS, NEAR),
    ("js", Kind::Logits, PAIRS, FAR),
    ("entropy", Kind::Logits, PAIRS, NEAR),
    ("compare", Kind::Logits, PAIRS, NEAR),
    ("kl", Kind::Probs, PAIRS, NEAR),
    ("js", Kind::Weights, 64, NEAR),
    ("kl", Kind::Logits, 64, NEAR),
];

/// Uniform numbers, the same everywhere.
struct Uniform(u64);

impl Uniform {
    /// A number of mean 0 and standard deviation 1: the sum of four.
    fn next(&mut self) -> f32 {
        let mut sum = -2.0;
        for _ in 0..4 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32;
        }
        sum * 1.732_050_8
    }
}

/// Writes a row of logits as numbers of a kind.
fn write(logits: &[f32], kind: Kind) -> Vec<f32> {
    let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let log_total = if kind == Kind::Probs { total.ln() } else { 0.0 };
    match kind {
        Kind::Probs | Kind::Weights => logits.iter().map(|&x| (f64::from(x) - log_total).exp() as f32).collect(),
        Kind::Logits | Kind::LogProbs => logits.to_vec(),
    }
}

fn title((name, kind, columns, noise): &(&str, Kind, usize, f32)) -> String {
    let kind = match kind {
        Kind::Probs => "probs",
        Kind::Weights => "weights",
        Kind::LogProbs => "log_probs",
        Kind::Logits => "logits",
    };
    let distance = if *noise == NEAR { "near" } else { "far" };
    let length = if *columns == PAIRS { "long" } else { "short" };
    format!("{name}-{kind}-{distance}-{length}")
}

fn run(name: &str, p: &Matrix<'_>, q: &Matrix<'_>, numbers: &[f32]) -> kullback::Result<f64> {
    let call = Call::new(1);
    Ok(match name {
        "exp" => numbers.chunks(4096).map(|chunk| exp_sum(chunk, 1, 1)).sum(),
        "entropy" => entropy(p, &call)?[0],
        "compare" => {
            let names = ["kl", "reverse_kl", "js", "total_variation", "entropy_p", "top1_p", "overlap_10"];
            let columns = names.into_iter().map(Column::from_name).collect::<kullback::Result<Vec<_>>>()?;
            compare(p, q, &columns, None, &call)?.len() as f64
        }
        _ => divergence(name, p, q, &call)?[0],
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [wanted, repeats] = arguments.as_slice() else {
        println!("{}", KERNELS.iter().map(title).collect::<Vec<_>>().join("\n"));
        return ExitCode::SUCCESS;
    };
    let found = KERNELS.iter().find(|kernel| title(kernel) == *wanted);
    let (Some(&(name, kind, columns, noise)), Ok(repeats)) = (found, repeats.parse::<usize>()) else {
        eprintln!("usage: instructions [KERNEL REPEATS]");
        return ExitCode::FAILURE;
    };
    let mut random = Uniform(20240711);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS / columns {
        let logits: Vec<f32> = (0..columns).map(|_| 2.0 * random.next()).collect();
        let moved: Vec<f32> = logits.iter().map(|&x| x + noise * random.next()).collect();
        x.extend(write(&logits, kind));
        y.extend(write(&moved, kind));
    }
    let matrix = |numbers, argument| Matrix::contiguous(Numbers::F32(numbers), PAIRS / columns, kind, argument);
    let (Ok(p), Ok(q)) = (matrix(&x, Argument::P), matrix(&y, Argument::Q)) else {
        return ExitCode::FAILURE;
    };
    for _ in 0..repeats {
        match run(name, black_box(&p), black_box(&q), black_box(&x)) {
            Ok(value) if value.is_finite() => black_box(value),
            _ => return ExitCode::FAILURE,
        };
    }
    ExitCode::SUCCESS
}
