//! Exact, fast and reproducible divergences between distributions over huge vocabularies.
//!
//! The data flows one way, and the modules are best read in its order:
//!
//! ```text
//! python          borrow arrays, release the interpreter, map the error          (feature `python`)
//! batch, pool     rows of an array; rows onto threads
//! evaluate        one divergence of every pair of rows;   compare: many at once;   pairwise: every row with every other
//! prepare         checks; normalisers; one domain for both sides
//! rows            a row, cut into segments and blocks, as lanes;   convert: numbers of any type, for the lanes
//! simd            the instruction set, detected once; lane mathematics
//! moments, sweep  the first pass over logits: normalisers and KL
//! series, jet     one pass instead, for smooth divergences of close rows of logits
//! weights         the lanes of two rows of linear numbers;   linear: their totals
//! one_read        divergences of probabilities in one read;   short: those of many short rows at once
//! terms, pair     the second pass: terms of two distributions, seen from the larger side
//! divergences     the table: one row a divergence
//! sided, js_many  the second pass for terms that need room:   powers, mixtures, cosine
//! entropy, order  what concerns one row only;   renyi_entropy: the other entropies
//! sinkhorn        entropic optimal transport, a family of its own
//! wasserstein     transport on the line: sorting, the monotone plan, projections
//! gradients       a divergence and its gradient with respect to logits
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
pub mod convert;
pub mod cosine;
pub mod divergences;
pub mod entropy;
pub mod error;
pub mod evaluate;
pub mod gradients;
pub mod jet;
pub mod js_many;
pub mod known;
pub mod linear;
pub mod mixtures;
pub mod moments;
pub mod one_read;
pub mod order;
pub mod pair;
pub mod pairwise;
pub mod pool;
pub mod powers;
pub mod prepare;
pub mod probe;
pub mod renyi_entropy;
pub mod rows;
pub mod scalar;
pub mod series;
pub mod short;
pub mod sided;
pub mod simd;
pub mod sinkhorn;
pub mod sweep;
pub mod terms;
pub mod topk;
pub mod wasserstein;
pub mod weights;

#[cfg(feature = "python")]
mod python;

pub use batch::Matrix;
pub use compare::{Column, Values, compare};
pub use error::{Argument, Error, Result};
pub use evaluate::{Metric, divergence, entropy};
pub use js_many::js_divergence_many;
pub use pairwise::{nearest, pairwise};
pub use pool::Call;
pub use renyi_entropy::{renyi_entropy, tsallis_entropy};
pub use rows::{Kind, Numbers};
