//! The extension module `kullback._core._native`: borrow, release the interpreter, call, map the error.

// A binding takes what Python hands it.
#![allow(clippy::needless_pass_by_value, clippy::too_many_arguments)]

mod arrays;
mod call;
mod divergences;
mod gradients;
mod machine;
mod pairwise;
mod points;
mod sinkhorn;
mod topk;
mod wasserstein;

/// The fast kernels behind the public functions of `kullback`.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::call::RowError;

    #[pymodule_export]
    use super::divergences::{compare, divergence, js_divergence_many, registry};

    #[pymodule_export]
    use super::gradients::{gradient_names, value_and_grad};

    #[pymodule_export]
    use super::machine::{
        available_isas, build_profile, exp_sum, isa, num_threads, read_rate, set_isa, set_num_threads,
    };

    #[pymodule_export]
    use super::pairwise::{nearest, pairwise};

    #[pymodule_export]
    use super::points::{
        sinkhorn_mirror, sinkhorn_points, sinkhorn_points_apply, sinkhorn_points_plan, sinkhorn_points_slope,
        soft_minima,
    };

    #[pymodule_export]
    use super::sinkhorn::{ProblemError, sinkhorn, sinkhorn_apply, sinkhorn_batch, sinkhorn_plan};

    #[pymodule_export]
    use super::wasserstein::{monotone_plan, sliced_wasserstein, wasserstein_1d};

    #[pymodule_export]
    use super::topk::{compare_topk, top_k};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
