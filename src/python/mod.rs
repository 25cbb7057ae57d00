//! The extension module `kullback._core._native`: borrow, release the interpreter, call, map the error.

// A binding takes what Python hands it.
#![allow(clippy::needless_pass_by_value, clippy::too_many_arguments)]

mod arrays;
mod call;
mod divergences;
mod gradients;
mod machine;
mod topk;

/// The fast kernels behind the public functions of `kullback`.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::call::RowError;

    #[pymodule_export]
    use super::divergences::{compare, divergence, registry};

    #[pymodule_export]
    use super::gradients::{gradient_names, value_and_grad};

    #[pymodule_export]
    use super::machine::{
        available_isas, build_profile, exp_sum, isa, num_threads, read_rate, set_isa, set_num_threads,
    };

    #[pymodule_export]
    use super::topk::{compare_topk, top_k};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
