//! Exact, fast and reproducible divergences between distributions over huge vocabularies.
//!
//! The data flows one way, and the modules are best read in its order:
//!
//! ```text
//! python          borrow arrays, release the interpreter, map the error          (feature `python`)
//! batch, pool     rows of an array; rows onto threads
//! evaluate        one divergence of every pair of rows;   compare: many at once
//! prepare         checks; normalisers; one domain for both sides
//! rows            a row, cut into segments and blocks, as lanes
//! simd            the instruction set, detected once; lane mathematics
//! moments, sweep  the first pass over logits: normalisers and KL;   linear: totals of weights
//! terms, pair     the second pass: terms of two distributions, seen from the larger side
//! divergences     the table: one row a divergence
//! entropy, order  what concerns one row only
//! gradients   a divergence and its gradient with respect to logits
//! topk, known     rows of which only the largest probabilities are listed;   completions: what their tails allow
//! ```
//!
//! ```
//! use kullback::{Argument, Call, Kind, Matrix, Numbers, divergence};
//!
//! let (p, q) = ([0.5, 0.5, 0.0], [0.25, 0.25, 0.5]);
//! let p = Matrix::contiguous(Numbers::F64(&p), 1, Kind::Probs, Argument::P)?;
//! let q = Matrix::contiguous(Numbers::F64(&q), 1, Kind::Probs, Argument::Q)?;
//! let kl = divergence("kl", &p, &q, &Call::default())?;
//! assert!((kl[0] - 2.0f64.ln()).abs() < 1e-15);
//! # Ok::<(), kullback::Error>(())
//! ```

pub mod batch;
pub mod compare;
pub mod completions;
pub mod divergences;
pub mod entropy;
pub mod error;
pub mod evaluate;
pub mod gradients;
pub mod known;
pub mod linear;
pub mod moments;
pub mod order;
pub mod pair;
pub mod pool;
pub mod prepare;
pub mod probe;
pub mod rows;
pub mod scalar;
pub mod simd;
pub mod sweep;
pub mod terms;
pub mod topk;

#[cfg(feature = "python")]
mod python;

pub use batch::Matrix;
pub use compare::{Column, Values, compare};
pub use error::{Argument, Error, Result};
pub use evaluate::{divergence, entropy};
pub use pool::Call;
pub use rows::{Kind, Numbers};
