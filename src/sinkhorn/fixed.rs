//! Iterations of the Sinkhorn map on g: plain, or with Anderson mixing.
//!
//! Anderson mixing takes, instead of the image of the last point, the combination of the last images whose residuals
//! cancel best. Its linear algebra is that of a few vectors of one number a column, nothing beside a sweep. Far from the
//! solution it may leave for good: a mixed point with a larger error and a smaller dual than the last one is given up
//! for the plain step, which never fails, and the memory with it.

use super::direct::cholesky;
use super::state::State;
use super::vectors::dot;
use crate::error::Result;

/// Points remembered by Anderson mixing.
const MEMORY: usize = 6;

/// Evaluations over which the contraction is estimated.
const WINDOW: usize = 6;

/// Growth of the best error that mixing is never allowed.
const WORST: f64 = 4.0;

/// Why iterations ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The error is within the target.
    Converged,
    /// No sweep is left.
    Spent,
    /// At the rate observed, more sweeps than the patience would be needed.
    Slow,
}

/// How to iterate.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// With Anderson mixing.
    pub mixing: bool,
    /// L1 error to reach.
    pub target: f64,
    /// Most sweeps still to come, as the rate observed predicts them, before giving up.
    pub patience: Option<usize>,
    /// Most sweeps here.
    pub most: usize,
}

/// The step of the Sinkhorn map at the state's point.
pub fn step(state: &State<'_>, out: &mut Vec<f64>) {
    let factor = state.bend(1) * state.epsilon;
    out.clear();
    out.extend(state.gap.iter().map(|gap| factor * gap));
    let [rows, columns] = [state.reach(0), state.reach(1)];
    if rows.is_infinite() && columns.is_infinite() {
        return;
    }
    // The best translation of the potentials against each other, in closed form: without it masses that differ
    // from the plan's are found at the rate of ε/ρ only.
    let tau = if rows.is_infinite() {
        columns
    } else if columns.is_infinite() {
        rows
    } else {
        rows * columns / (rows + columns)
    };
    let left: f64 = if rows.is_infinite() { state.mass } else { state.columns.iter().sum() };
    let moved = state.g.iter().zip(out.iter()).zip(&state.b);
    let right: f64 = if columns.is_infinite() {
        state.b.iter().sum()
    } else {
        moved.filter(|&(_, &b)| b > 0.0).map(|((g, step), b)| b * libm::exp(-(g + step) / columns)).sum()
    };
    let shift = tau * libm::log(left / right);
    if shift.is_finite() {
        for out in out {
            *out -= shift;
        }
    }
}

/// Iterates from the state's point, which has been evaluated.
pub fn iterate(state: &mut State<'_>, how: &Fixed) -> Result<End> {
    let first = state.history.len() - 1;
    let last = state.sweeps.saturating_add(how.most);
    let mut memory = Memory::default();
    let mut step_now = Vec::new();
    let mut best = f64::INFINITY;
    loop {
        if state.error <= how.target {
            return Ok(End::Converged);
        }
        if state.spent() || state.sweeps >= last {
            return Ok(End::Spent);
        }
        let recent = &state.history[first..];
        if let (Some(patience), true) = (how.patience, recent.len() > WINDOW) {
            let before = recent[recent.len() - 1 - WINDOW];
            let rate = libm::log(before / state.error) / WINDOW as f64;
            let ahead = libm::log(state.error / how.target) / rate.max(1e-12);
            if ahead > patience as f64 {
                return Ok(End::Slow);
            }
        }
        step(state, &mut step_now);
        let plain: Vec<f64> = state.g.iter().zip(&step_now).map(|(g, step)| g + step).collect();
        if !how.mixing {
            state.evaluate(&plain)?;
            continue;
        }
        let before = state.error;
        best = best.min(before);
        let (dual, noise) = state.dual();
        let mut mixed = memory.mix(&step_now, &plain, &state.b);
        if state.reach(0).is_infinite() && state.reach(1).is_infinite() {
            // A constant in g means nothing; left alone it may grow until it costs digits.
            let shift = dot(&mixed, &state.b) / state.mass;
            for g in &mut mixed {
                *g -= shift;
            }
        }
        let furthest = state.furthest();
        if !mixed.iter().zip(&state.g).all(|(mixed, g)| (mixed - g).abs() <= furthest) {
            memory = Memory::default();
            mixed.clone_from(&plain);
        }
        state.evaluate(&mixed)?;
        let worse = state.error > before && (state.dual().0 < dual - noise || state.error > WORST * best);
        if worse && memory.len() > 0 && !state.spent() {
            memory = Memory::default();
            state.evaluate(&plain)?;
        }
    }
}

/// What Anderson mixing remembers: differences of successive steps and of successive images.
#[derive(Default)]
struct Memory {
    last: Option<(Vec<f64>, Vec<f64>)>,
    steps: Vec<Vec<f64>>,
    images: Vec<Vec<f64>>,
}

impl Memory {
    /// Differences remembered.
    fn len(&self) -> usize {
        self.steps.len()
    }

    /// The next point after one whose step and image these are; `weights` weigh the steps.
    fn mix(&mut self, step: &[f64], image: &[f64], weights: &[f64]) -> Vec<f64> {
        let difference = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<f64>>();
        if let Some((old_step, old_image)) = self.last.take() {
            if self.steps.len() == MEMORY {
                self.steps.remove(0);
                self.images.remove(0);
            }
            self.steps.push(difference(step, &old_step));
            self.images.push(difference(image, &old_image));
        }
        let weighted: Vec<f64> = step.iter().zip(weights).map(|(step, w)| step * w).collect();
        let share = self.combination(&weighted, weights);
        let mut next = image.to_vec();
        for (share, image) in share.iter().zip(&self.images) {
            for (next, image) in next.iter_mut().zip(image) {
                *next -= share * image;
            }
        }
        self.last = Some((step.to_vec(), image.to_vec()));
        next
    }

    /// Shares of the differences whose sum is nearest to the step, by weighted least squares.
    fn combination(&self, weighted: &[f64], weights: &[f64]) -> Vec<f64> {
        let k = self.steps.len();
        let mut normal = vec![0.0; k * k];
        let mut right = vec![0.0; k];
        for i in 0..k {
            let own: Vec<f64> = self.steps[i].iter().zip(weights).map(|(x, w)| x * w).collect();
            for j in 0..=i {
                let entry = dot(&own, &self.steps[j]);
                normal[i * k + j] = entry;
                normal[j * k + i] = entry;
            }
            right[i] = dot(weighted, &self.steps[i]);
        }
        cholesky(&mut normal, &mut right, k, 1e-10, 1e-13);
        right
    }
}
