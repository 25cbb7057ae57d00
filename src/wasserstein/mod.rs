//! Optimal transport on the line, where sorting solves it.
//!
//! ```text
//! order    numbers as integers of the same order; sorting them
//! network  short rows sorted side by side
//! merge    two sorted sides cut into pieces that move together: the monotone plan
//! line     W_p of many pairs of rows, and the plan of one pair
//! sliced   clouds projected onto directions; W_p of each projection
//! ```
//!
//! Everything that could depend on threads or instruction sets is fixed: points are ordered by value, then weight, so
//! that even the order of the input leaves no trace in the result.

pub mod line;
pub mod merge;
pub mod network;
pub mod order;
pub mod sliced;

pub use line::{Cloud, monotone_plan, wasserstein_1d};
pub use sliced::sliced_wasserstein;
