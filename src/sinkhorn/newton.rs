//! Truncated Newton steps on the semi-dual.
//!
//! With f eliminated the dual is concave in g alone. Its gradient is wanted − columns, and its Hessian, times −ε,
//! diag(columns) − Pᵀ·diag(1/r)·P with r the row sums: one fused sweep a product, and never more of it is formed. Conjugate gradients
//! with Jacobi's preconditioner solve it as well as the error deserves. A step is taken whole where the slope along it
//! is not reversed by more than half, otherwise shortened by the secant rule; after a step that hardly helped a few
//! Sinkhorn steps follow, which always do.

use super::fixed::{End, Fixed, iterate};
use super::state::State;
use super::vectors::dot;
use crate::error::Result;

/// Most products for one step.
const PRODUCTS: usize = 120;

/// Largest change of g/ε in one step, of each column by itself: no kernel need be absorbed again within it.
const LONGEST: f64 = 10.0;

/// Most attempts to shorten a step.
const ATTEMPTS: usize = 8;

/// Sinkhorn steps after a poor step.
const STEADY: usize = 3;

/// A step is poor if more than this share of the error is left.
const POOR: f64 = 0.7;

/// Steps from the state's point, which has been evaluated, until the error is within the target.
pub fn newton(state: &mut State<'_>, target: f64) -> Result<End> {
    loop {
        if state.error <= target {
            return Ok(End::Converged);
        }
        if state.spent() {
            return Ok(End::Spent);
        }
        let before = state.error;
        let share = before / state.mass;
        let damping = (1e-3 * share).clamp(1e-12, 1e-3);
        let gradient: Vec<f64> = state.wanted.iter().zip(&state.columns).map(|(w, c)| w - c).collect();
        let forcing = (0.3 * share.sqrt()).clamp(1e-3, 0.1);
        let mut direction = direction(state, &gradient, damping, forcing)?;
        // Where the plan all but falls apart, directions are long in a few columns: shortening the whole of one
        // would stop the others.
        for w in &mut direction {
            *w = w.clamp(-LONGEST, LONGEST);
        }
        search(state, &direction, &gradient)?;
        if state.error > POOR * before {
            let steady = Fixed { mixing: false, target, patience: None, most: STEADY };
            if iterate(state, &steady)? == End::Converged {
                return Ok(End::Converged);
            }
        }
    }
}

/// The Newton direction: by conjugate gradients until they were seen to fail, then by factorisations if there can be any.
fn direction(state: &mut State<'_>, gradient: &[f64], damping: f64, forcing: f64) -> Result<Vec<f64>> {
    if !state.stiff {
        let (direction, solved) = conjugate(state, gradient, damping, forcing)?;
        if solved || state.spent() {
            return Ok(direction);
        }
        state.stiff = true;
        return Ok(state.factorised(damping, gradient)?.unwrap_or(direction));
    }
    if let Some(direction) = state.factorised(damping, gradient)? {
        return Ok(direction);
    }
    Ok(conjugate(state, gradient, damping, forcing)?.0)
}

/// Moves along the direction as far as the slope allows.
fn search(state: &mut State<'_>, direction: &[f64], gradient: &[f64]) -> Result<()> {
    let origin = state.g.clone();
    let slope = dot(direction, gradient);
    if !(slope > 0.0 && slope.is_finite()) {
        return Ok(());
    }
    let mut length = 1.0;
    for _ in 0..ATTEMPTS {
        let scale = length * state.epsilon;
        let next: Vec<f64> = origin.iter().zip(direction).map(|(g, w)| g + scale * w).collect();
        state.evaluate(&next)?;
        let at: f64 = {
            let rest: Vec<f64> = state.wanted.iter().zip(&state.columns).map(|(w, c)| w - c).collect();
            dot(direction, &rest)
        };
        if at >= -0.5 * slope || state.spent() {
            return Ok(());
        }
        length *= (slope / (slope - at)).clamp(0.1, 0.5);
    }
    Ok(())
}

/// Solves Hessian·w = right by preconditioned conjugate gradients; false if the given share of the residual was not
/// reached.
fn conjugate(state: &mut State<'_>, right: &[f64], damping: f64, forcing: f64) -> Result<(Vec<f64>, bool)> {
    let len = right.len();
    let weight = |j: usize, x: f64, d: f64, b: &[f64]| if b[j] > 0.0 && d > 0.0 { x / d } else { 0.0 };
    let hessian = state.hessian(damping)?;
    let b = state.b.clone();
    let precondition = |r: &[f64]| -> Vec<f64> {
        r.iter().zip(&hessian.diagonal).enumerate().map(|(j, (&r, &d))| weight(j, r, d, &b)).collect()
    };
    let mut x = vec![0.0; len];
    let mut r = right.to_vec();
    let mut z = precondition(&r);
    let mut p = z.clone();
    let mut rz = dot(&r, &z);
    let enough = rz * forcing * forcing;
    let mut product = vec![0.0; len];
    for _ in 0..PRODUCTS {
        if state.spent() || rz <= enough || rz.is_nan() {
            break;
        }
        state.product(&hessian, &p, &mut product)?;
        let curvature = dot(&p, &product);
        if curvature <= 0.0 || curvature.is_nan() {
            break;
        }
        let alpha = rz / curvature;
        for j in 0..len {
            x[j] += alpha * p[j];
            r[j] -= alpha * product[j];
        }
        z = precondition(&r);
        let next = dot(&r, &z);
        let beta = next / rz;
        rz = next;
        for j in 0..len {
            p[j] = z[j] + beta * p[j];
        }
    }
    Ok((x, rz <= enough))
}
