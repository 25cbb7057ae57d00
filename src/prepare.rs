//! What a pair of rows needs before any divergence: checks, normalisers, and one domain for both sides.

use crate::entropy::{log_sum_exp, log_tail, weight_entropy};
use crate::error::{Argument, Error, Result};
use crate::linear::{Totals, totals};
use crate::moments::{Moments, moments};
use crate::order::peak;
use crate::rows::{Kind, Row, Transform};

/// How far a sum may be from 1, or a log-sum-exp from 0, before it is an error.
pub const TOLERANCE: f64 = 1e-2;

/// One argument's row, what it means, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The numbers.
    pub row: Row<'a>,
    /// Their meaning.
    pub kind: Kind,
    /// The temperature, already part of the row's transform.
    pub temperature: f64,
    /// Which argument.
    pub argument: Argument,
    /// Which row of it.
    pub index: usize,
}

impl<'a> Side<'a> {
    fn not_normalised(&self, value: f64) -> Error {
        Error::Normalisation { argument: self.argument, row: self.index, value }
    }

    /// Totals of probabilities or weights; without mass or with NaN they have no mass, which is not an error.
    pub fn totals(&self, parallel: bool) -> Result<Totals> {
        let found = totals(&self.row, parallel).map_err(|column| Error::Negative {
            argument: self.argument,
            row: self.index,
            column,
            value: self.row.at(column),
        })?;
        if self.kind == Kind::Probs && found.has_mass() && (found.value() - 1.0).abs() > TOLERANCE {
            return Err(self.not_normalised(found.value()));
        }
        Ok(found)
    }

    /// Fails if log-probabilities are not normalised; `lse` is known if no temperature was applied.
    pub fn check_log_probs(&self, lse: f64, parallel: bool) -> Result<()> {
        if self.kind != Kind::LogProbs {
            return Ok(());
        }
        let untempered = self.row.with(Transform::Keep);
        let lse = if self.temperature == 1.0 { Some(lse) } else { log_sum_exp(&untempered, parallel) };
        match lse {
            Some(lse) if lse.abs() > TOLERANCE => Err(self.not_normalised(lse)),
            _ => Ok(()),
        }
    }

    /// [`Side::check_log_probs`] where the other row has no distribution.
    fn check_alone(&self, parallel: bool) -> Result<()> {
        let lse = if self.kind == Kind::LogProbs { log_sum_exp(&self.row, parallel) } else { None };
        lse.map_or(Ok(()), |lse| self.check_log_probs(lse, parallel))
    }

    /// The same, to be computed with in float64 lanes if `wide`.
    pub fn widened(self, wide: bool) -> Self {
        Self { row: self.row.widened(wide), ..self }
    }

    /// The row as logits.
    fn logits(&self) -> Row<'a> {
        if self.kind.is_log() { self.row } else { self.row.with(Transform::Log) }
    }

    /// The entropy; NaN without a distribution.
    pub fn entropy(&self, parallel: bool) -> Result<f64> {
        if !self.kind.is_log() {
            let totals = self.totals(parallel)?;
            return Ok(if totals.has_mass() { weight_entropy(&self.row, &totals, parallel) } else { f64::NAN });
        }
        let Some(top) = peak(&self.row, parallel) else { return Ok(f64::NAN) };
        let tail = log_tail(&self.row, top, parallel);
        self.check_log_probs(top.value + libm::log1p(tail.mass), parallel)?;
        Ok(tail.entropy())
    }
}

/// Two rows with known normalisers.
#[derive(Clone, Copy, Debug)]
pub enum Prepared<'a> {
    /// As logits.
    Logs(Moments<'a>),
    /// As weights.
    Weights(Row<'a>, Row<'a>, [Totals; 2]),
    /// A row has no distribution: every result is NaN.
    Nothing,
}

/// Checks both rows and finds their normalisers.
pub fn prepare<'a>(p: &Side<'a>, q: &Side<'a>, parallel: bool) -> Result<Prepared<'a>> {
    if !p.kind.is_log() && !q.kind.is_log() {
        let both = [p.totals(parallel)?, q.totals(parallel)?];
        let massive = both.iter().all(Totals::has_mass);
        return Ok(if massive { Prepared::Weights(p.row, q.row, both) } else { Prepared::Nothing });
    }
    let massive = |side: &Side<'_>| Ok(side.kind.is_log() || side.totals(parallel)?.has_mass());
    let p_massive = massive(p)?;
    let q_massive = massive(q).or_else(|error| p.check_alone(parallel).and(Err(error)))?;
    let found = if p_massive && q_massive { moments(p.logits(), q.logits(), parallel) } else { None };
    let Some(found) = found else {
        p.check_alone(parallel)?;
        q.check_alone(parallel)?;
        return Ok(Prepared::Nothing);
    };
    p.check_log_probs(found.lse_x, parallel)?;
    q.check_log_probs(found.lse_y(), parallel)?;
    Ok(Prepared::Logs(found))
}
