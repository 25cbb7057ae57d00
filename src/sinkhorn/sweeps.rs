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

/// A kind of pass.
pub enum Kind<'a> {
    /// In float32.
    Narrow,
    /// In float64.
    Wide,
    /// In float64, and measures.
    Measure(&'a mut Measured),
    /// In float64, and stores a float32 kernel.
    KeepNarrow(Kept<'a, f32>),
    /// In float64, and stores a float64 kernel.
    KeepWide(Kept<'a, f64>),
}

/// Passes over costs.
pub trait Sweeps: Sync {
    /// True if float64 is needed to hold the costs.
    fn is_wide(&self) -> bool;
    /// See [`pass`].
    fn sweep(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        kind: Kind<'_>,
    ) -> Result<()>;
    /// See [`ln_columns`].
    fn ln_columns(&self, plan: &Plan<'_>, rows: &[f64], h: &[f64], epsilon: f64) -> Result<Vec<f64>>;
}

impl<C: Cost> Sweeps for C {
    fn is_wide(&self) -> bool {
        Cost::is_wide(self)
    }

    fn sweep(
        &self,
        given: &Pass<'_>,
        plan: &Plan<'_>,
        z: &mut [f64],
        columns: &mut [f64],
        kind: Kind<'_>,
    ) -> Result<()> {
        match kind {
            Kind::Narrow => pass::<C, f32, f32>(self, given, plan, z, columns, None, None),
            Kind::Wide => pass::<C, f64, f64>(self, given, plan, z, columns, None, None),
            Kind::Measure(found) => pass::<C, f64, f64>(self, given, plan, z, columns, None, Some(found)),
            Kind::KeepNarrow(kept) => pass::<C, f64, f32>(self, given, plan, z, columns, Some(kept), None),
            Kind::KeepWide(kept) => pass::<C, f64, f64>(self, given, plan, z, columns, Some(kept), None),
        }
    }

    fn ln_columns(&self, plan: &Plan<'_>, rows: &[f64], h: &[f64], epsilon: f64) -> Result<Vec<f64>> {
        ln_columns(self, plan, rows, h, epsilon)
    }
}
