//! Entropic optimal transport in the log domain.
//!
//! ```text
//! cost       the costs, row by row, in any storage
//! problem    weights, regularisation, marginals that hold or bend; what makes a problem invalid
//! sweep      one pass over the costs: one full Sinkhorn iteration at one exponential an entry
//! exponentials  of rows, which a pass adds up
//! sweeps     the passes, whatever the costs are: all below but the kernels is compiled once
//! absorbed   the kernel at the last absorption, and the same pass over it without exponentials
//! state      the gradient of the semi-dual at any g, by whichever of the two is due
//! columns    column sums that underflowed
//! fixed      iterations of the Sinkhorn map: plain, and with Anderson mixing
//! newton     truncated Newton steps on the semi-dual
//! direct     the same steps by a factorisation, where products do not suffice
//! hessian    products with the Hessian of the semi-dual
//! sparse     the plan where it is not negligible, for their products
//! solve      which of them, along which ladder of regularisations, and the final verification
//! plan       the plan, or its product with vectors, from the potentials
//! batch      many problems, one a task
//! points     costs between two clouds, computed on the way;   slope: the gradient with respect to their points
//! softmin    the log-sum-exp of every row;   mirror: a distribution against itself
//! ```
//!
//! The state is always the potential g: for a given g the best f is known exactly, so every method works on the
//! semi-dual in g alone, rows are always exact, and the error of the columns is the error.

pub mod absorbed;
pub mod batch;
mod columns;
pub mod cost;
mod direct;
mod exponentials;
mod fixed;
mod hessian;
pub mod mirror;
mod newton;
pub mod plan;
pub mod points;
pub mod problem;
pub mod slope;
pub mod softmin;
pub mod solve;
mod sparse;
mod state;
pub mod sweep;
pub mod sweeps;
mod vectors;

pub use cost::{Cost, Dense, Entries, Number};
pub use problem::{Flaw, Method, Options, Problem, Solution};
pub use solve::solve;
