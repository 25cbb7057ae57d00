//! Many problems, one a task: each with its own size, its own convergence and its own failure.
//!
//! A problem of a batch is solved by the very code that solves a single one, on one thread, and results do not depend
//! on threads: so each is that of the single problem, bit for bit.

use rayon::prelude::*;

use super::cost::Cost;
use super::problem::{Flaw, Options, Problem, Solution};
use super::solve::solve_here;
use crate::error::{Error, Result};
use crate::pool::{Call, install};

/// Solves every problem; one that cannot be solved as posed says why and disturbs no other.
pub fn solve_batch<C: Cost + Send>(
    problems: &[Problem<'_, C>],
    options: &[Options<'_>],
    call: &Call,
) -> Result<Vec<std::result::Result<Solution, Flaw>>> {
    let solve = |(problem, options): (&Problem<'_, C>, &Options<'_>)| {
        if call.stopped() {
            return Err(Error::Interrupted);
        }
        match solve_here(problem, options, false, call) {
            Ok(solution) => Ok(Ok(solution)),
            Err(Error::Transport(flaw)) => Ok(Err(flaw)),
            Err(error) => Err(error),
        }
    };
    let wanted = call.threads();
    if wanted == 1 || problems.len() < 2 {
        return problems.iter().zip(options).map(solve).collect();
    }
    let pairs: Vec<_> = problems.iter().zip(options).collect();
    install(wanted, || pairs.into_par_iter().map(solve).collect())
}
