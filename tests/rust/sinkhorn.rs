//! Entropic transport from Rust: costs that are computed and not stored, every instruction set, and stopping.

use std::sync::atomic::Ordering;

use kullback::simd::{Isa, Simd, set_isa};
use kullback::sinkhorn::batch::solve_batch;
use kullback::sinkhorn::plan::Potentials;
use kullback::sinkhorn::{Cost, Dense, Entries, Method, Number, Options, Problem, Solution, solve};
use kullback::{Call, Error};

/// Squared distances of points on a line: rows are computed when asked for.
struct Line {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Cost for Line {
    fn rows(&self) -> usize {
        self.x.len()
    }
    fn columns(&self) -> usize {
        self.y.len()
    }
    fn is_wide(&self) -> bool {
        true
    }
    fn row<'b, S: Simd, E: Number>(&'b self, index: usize, buffer: &'b mut [E]) -> &'b [E] {
        let out = &mut buffer[..self.y.len()];
        for (out, y) in out.iter_mut().zip(&self.y) {
            *out = E::from_f64((self.x[index] - y).powi(2));
        }
        out
    }
}

/// Points that look random, the same everywhere.
fn points(count: usize, step: f64) -> Vec<f64> {
    (0..count).map(|i| (i as f64 * step).fract()).collect()
}

fn line(n: usize, m: usize) -> Line {
    Line { x: points(n, 0.618_033_988_749_895), y: points(m, 0.414_213_562_373_095) }
}

fn uniform(count: usize) -> Vec<f64> {
    vec![1.0 / count as f64; count]
}

fn problem<'a, C: Cost>(cost: &'a C, a: &'a [f64], b: &'a [f64], epsilon: f64) -> Problem<'a, C> {
    Problem { cost, a, b, epsilon, reach: [f64::INFINITY; 2] }
}

fn numbers(solution: &Solution) -> Vec<u64> {
    let scalars = [solution.value, solution.transport_cost, solution.error, solution.n_iter as f64];
    solution.f.iter().chain(&solution.g).chain(&scalars).map(|x| x.to_bits()).collect()
}

#[test]
fn computed_costs_give_what_stored_ones_do_without_storing_anything() {
    let line = line(90, 70);
    let stored: Vec<f64> = line.x.iter().flat_map(|x| line.y.iter().map(move |y| (x - y).powi(2))).collect();
    let dense = Dense::new(Entries::F64(&stored), 90, 70).expect("a matrix");
    let (a, b) = (uniform(90), uniform(70));
    let call = Call::new(1);
    let method = |method| Options { method, tol: 1e-9, ..Options::default() };
    let log = solve(&problem(&line, &a, &b, 0.02), &method(Method::Log), &call).expect("valid");
    let same = solve(&problem(&dense, &a, &b, 0.02), &method(Method::Log), &call).expect("valid");
    assert_eq!(numbers(&log), numbers(&same));
    assert!(log.converged);
    for other in [Method::Auto, Method::Sinkhorn, Method::Accelerated, Method::Newton] {
        let found = solve(&problem(&dense, &a, &b, 0.02), &method(other), &call).expect("valid");
        assert!(found.converged && (found.value - log.value).abs() < 1e-8, "{other:?}: {} {}", found.value, log.value);
    }
}

#[test]
fn every_instruction_set_and_thread_count_gives_the_same_bits() {
    let line = line(301, 517);
    let (a, b) = (uniform(301), uniform(517));
    let mut first: Option<Vec<u64>> = None;
    for isa in Isa::available() {
        assert!(set_isa(Some(isa)));
        for threads in [1, 3] {
            let options = Options { method: Method::Newton, ..Options::default() };
            let found = solve(&problem(&line, &a, &b, 0.01), &options, &Call::new(threads)).expect("valid");
            assert!(found.converged);
            let bits = numbers(&found);
            assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{isa:?}, {threads} threads");
        }
    }
    set_isa(None);
}

#[test]
fn the_plan_has_the_marginals() {
    let line = line(40, 30);
    let (a, b) = (uniform(40), uniform(30));
    let problem = problem(&line, &a, &b, 0.05);
    let call = Call::default();
    let found = solve(&problem, &Options::default(), &call).expect("valid");
    let potentials = Potentials { problem: &problem, f: &found.f, g: &found.g };
    let mut plan = vec![0.0f64; 40 * 30];
    potentials.plan(&mut plan, &call).expect("not stopped");
    let mut sums = vec![0.0; 40];
    potentials.apply(&[1.0; 30], &mut sums, &call).expect("not stopped");
    for (row, sum) in plan.chunks(30).zip(&sums) {
        assert!((row.iter().sum::<f64>() - 1.0 / 40.0).abs() < 1e-7);
        assert!((sum - 1.0 / 40.0).abs() < 1e-7);
    }
}

#[test]
fn a_bad_problem_of_a_batch_fails_alone() {
    let (good, bad) = ([0.0, 1.0, 1.0, 0.0], [0.0, f64::NAN, 1.0, 0.0]);
    let weights = [0.5, 0.5];
    let costs = [good, bad, good].map(|costs| costs.to_vec());
    let dense: Vec<_> = costs.iter().map(|costs| Dense::new(Entries::F64(costs), 2, 2).expect("a matrix")).collect();
    let problems: Vec<_> = dense.iter().map(|cost| problem(cost, &weights, &weights, 0.1)).collect();
    let found = solve_batch(&problems, &[Options::default(); 3], &Call::new(2)).expect("not stopped");
    assert!(found[0].as_ref().is_ok_and(|solution| solution.converged));
    assert!(found[1].as_ref().is_err_and(|flaw| (flaw.row, flaw.column) == (0, 1)));
    assert!(found[2].as_ref().is_ok_and(|solution| solution.converged));
}

#[test]
fn a_caller_can_stop() {
    let line = line(200, 200);
    let weights = uniform(200);
    let call = Call::new(1);
    call.stop.store(true, Ordering::Relaxed);
    let stopped = solve(&problem(&line, &weights, &weights, 0.01), &Options::default(), &call);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let watch = |sweeps: usize, _: f64| sweeps < 3;
    let options = Options { watch: Some(&watch), ..Options::default() };
    let stopped = solve(&problem(&line, &weights, &weights, 0.001), &options, &Call::new(1));
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
