use kullback::sinkhorn::{Dense, Entries};
use kullback::sinkhorn::sweep::{pass, Pass, Plan};
use kullback::{Call, probe::exp_sum};
use std::time::Instant;
fn main() {
    let n: usize = std::env::args().nth(1).map_or(1024, |x| x.parse().unwrap());
    let reps: usize = std::env::args().nth(2).map_or(200, |x| x.parse().unwrap());
    let mut s = 1u64;
    let mut next = || { s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (s >> 40) as f32 / (1u64 << 24) as f32 };
    let all: Vec<f32> = (0..n * n + 16).map(|_| 0.4 * next()).collect(); let off = all.as_ptr().align_offset(64); println!("off {off}"); let cost = &all[off..off + n * n];
    let dense = Dense::new(Entries::F32(cost), n, n).unwrap();
    let call = Call::new(1);
    let plan = Plan::new(n, n, false, &call);
    let a = vec![1.0 / n as f64; n];
    let h = vec![-(n as f64).ln(); n];
    let mut z = vec![0.0; n];
    let mut columns = vec![0.0; n];
    let mut run = |near: bool, reps: usize| {
        let given = Pass { cost: &dense, a: &a, h: &h, epsilon: 0.01, bend: 1.0, near };
        for _ in 0..reps { pass::<_, f32, f32>(&given, &plan, &mut z, &mut columns, None, None).unwrap(); }
        columns[0]
    };
    run(false, 1);
    let numbers: Vec<f32> = (0..4096).map(|i| -10.0 * i as f32 / 4096.0).collect();
    let (mut best, mut far, mut rate) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..20 {
        let t = Instant::now(); run(true, reps); best = best.min(t.elapsed().as_secs_f64() / (reps * n * n) as f64);
        let t = Instant::now(); run(false, reps); far = far.min(t.elapsed().as_secs_f64() / (reps * n * n) as f64);
        let k = reps * n * n / 4096;
        let t = Instant::now(); std::hint::black_box(exp_sum(&numbers, k, 1)); rate = rate.min(t.elapsed().as_secs_f64() / (k * 4096) as f64);
    }
    println!("n {n}: near {:.2} far {:.2} exp {:.2} G/s; share near {:.3} far {:.3}", 1e-9 / best, 1e-9 / far, 1e-9 / rate, rate / best, rate / far);
}
