//! What a solver needs of costs, whatever they are: the passes over them.
//!
//! The passes are compiled for every kind of cost, precision and instruction set. What is built on them, the state and
//! the methods, is compiled once: a call through a table is nothing beside a pass.

use super::columns::ln_columns;
use super::cost::Cost;
use super::sweep::{Measured, Pass, Plan, pass};
use crate::error::Result;

/// A kernel to store, and the length of its rows.
pub type Kept<'a, K> = (&'a mut [K], usize);

/// Passes over costs; see [`pass`].
pub trait Sweeps: Sync {
    /// True if float64 is needed to hold the costs.
    fn is_wide(&self) -> bool;
    /// A pass in float32.
    fn narrow(&self, given: &Pass<'_>, plan: &Plan<'_>, z: &mut [f64], columns: &mut [f64]) -> Result<()>;
    /// A pass in float64.
    fn wide(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        measured: Option<&mut Measured>,
    ) -> Result<()>;
    /// A pass in float64 that stores a float32 kernel.
    fn keep_narrow(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        kept: Kept<'_, f32>,
    ) -> Result<()>;
    /// A pass in float64 that stores a float64 kernel.
    fn keep_wide(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        kept: Kept<'_, f64>,
    ) -> Result<()>;
    /// See [`ln_columns`].
    fn ln_columns(&self, plan: &Plan<'_>, rows: &[f64], h: &[f64], epsilon: f64) -> Result<Vec<f64>>;
}

impl<C: Cost> Sweeps for C {
    fn is_wide(&self) -> bool {
        Cost::is_wide(self)
    }

    fn narrow(&self, given: &Pass<'_>, plan: &Plan<'_>, z: &mut [f64], columns: &mut [f64]) -> Result<()> {
        pass::<C, f32, f32>(self, given, plan, z, columns, None, None)
    }

    fn wide(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        measured: Option<&mut Measured>,
    ) -> Result<()> {
        pass::<C, f64, f64>(self, given, plan, z, columns, None, measured)
    }

    fn keep_narrow(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        kept: Kept<'_, f32>,
    ) -> Result<()> {
        pass::<C, f64, f32>(self, given, plan, z, columns, Some(kept), None)
    }

    fn keep_wide(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        kept: Kept<'_, f64>,
    ) -> Result<()> {
        pass::<C, f64, f64>(self, given, plan, z, columns, Some(kept), None)
    }

    fn ln_columns(&self, plan: &Plan<'_>, rows: &[f64], h: &[f64], epsilon: f64) -> Result<Vec<f64>> {
        ln_columns(self, plan, rows, h, epsilon)
    }
}
