//! Everything that can be wrong with the numbers of a call. Python words the message; see `kullback._core.validation`.

use thiserror::Error;

/// Which argument of a two-argument function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The reference.
    P,
    /// The candidate.
    Q,
}

impl Argument {
    /// The name users know it by.
    pub fn name(self) -> &'static str {
        match self {
            Argument::P => "p",
            Argument::Q => "q",
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// A probability or weight below zero.
    #[error("{} has the negative value {value} in row {row}, column {column}", argument.name())]
    Negative {
        /// The argument it stands in.
        argument: Argument,
        /// Row, counted in C order over the leading axes.
        row: usize,
        /// Column.
        column: usize,
        /// The value.
        value: f64,
    },
    /// Probabilities that do not sum to 1, or log-probabilities whose log-sum-exp is not 0.
    #[error("row {row} of {} is not normalised: {value}", argument.name())]
    Normalisation {
        /// The argument it stands in.
        argument: Argument,
        /// Row, counted in C order over the leading axes.
        row: usize,
        /// The sum, or the log-sum-exp.
        value: f64,
    },
    /// A name that is not in the registry.
    #[error("unknown divergence {0:?}")]
    UnknownName(String),
    /// A parameter that is missing, out of range, or not one of its name.
    #[error("parameter: {0}")]
    Parameter(String),
    /// A transport problem that is none.
    #[error(transparent)]
    Transport(#[from] crate::sinkhorn::Flaw),
    /// Arrays whose sizes do not fit together.
    #[error("{0}")]
    Shape(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The result of a fallible call.
pub type Result<T> = std::result::Result<T, Error>;
