//! One divergence of one pair of rows, or of many.

use crate::batch::{Matrix, map_groups, map_rows};
use crate::divergences::{Divergence, Kl, Row, Visitor};
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::prepare::{Prepared, Side, prepare};
use crate::series::Series;
use crate::terms::{Single, log_sums};
use crate::{one_read, short};

/// Names that take two arguments but are no row of the table: they are made of others.
pub const COMPOSED: &[&str] = &["cross_entropy"];

/// A divergence of prepared rows.
pub fn value<D: Divergence>(_: D, rows: &Prepared<'_>, parallel: bool) -> f64 {
    let sum = match rows {
        Prepared::Nothing => return f64::NAN,
        Prepared::Logs(moments) if D::IS_KL => return moments.kl,
        Prepared::Weights(p, q, totals) => return one_read::of_weights::<D>(*p, *q, totals, parallel),
        Prepared::Logs(moments) => {
            let sum = |moments| log_sums(moments, Single(D::Term::default()), parallel)[0];
            let first = sum(moments);
            if D::IS_FIRST_ORDER && moments.shows_in(first) { sum(&moments.refined(parallel)) } else { first }
        }
    };
    D::finish(sum)
}

/// A registered name with its parameter, prepared once for all rows of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A row of the table.
    Listed(Row),
    /// H(p) + KL(p‖q).
    CrossEntropy,
}

impl Metric {
    /// The metric of a name; without a parameter, that of its default.
    pub fn new(name: &str, parameter: Option<f64>) -> Result<Metric> {
        match (name, parameter) {
            ("cross_entropy", None) => Ok(Metric::CrossEntropy),
            ("cross_entropy", Some(_)) => Err(Error::Parameter("cross_entropy takes no parameter".to_owned())),
            _ => Row::new(name, parameter).map(Metric::Listed),
        }
    }

    /// The metric written as a name, or as `name:parameter=number`.
    pub fn parse(text: &str) -> Result<Metric> {
        let Some((name, option)) = text.split_once(':') else { return Metric::new(text, None) };
        let number = option.split_once('=').filter(|(parameter, _)| Row::parameter(name) == Some(parameter));
        match number.and_then(|(_, number)| number.parse().ok()) {
            Some(number) => Metric::new(name, Some(number)),
            None => Err(Error::Parameter(text.to_owned())),
        }
    }

    /// Logits must be prepared in float64 lanes; see [`Side::in_wide_lanes`].
    pub fn is_wide(&self) -> bool {
        matches!(self, Metric::Listed(row) if row.is_wide())
    }

    /// The value for prepared rows, the first of which is `p`.
    pub fn value(&self, rows: &Prepared<'_>, p: &Side<'_>, parallel: bool) -> Result<f64> {
        match self {
            Metric::Listed(row) => Ok(row.value(rows, parallel)),
            Metric::CrossEntropy => {
                let kl = value(Kl, rows, parallel);
                Ok(if kl.is_nan() { kl } else { kl + p.entropy(parallel)? })
            }
        }
    }

    /// Does something for the divergence that one read of probabilities yields: of q and p in this order if `true`.
    fn in_one_read<A: Visitor>(&self, visitor: impl FnOnce(bool) -> A) -> Option<A::Output> {
        match self {
            Metric::Listed(Row::ReverseKl(_)) => Some(visitor(true).visit(Kl)),
            Metric::Listed(row) => row.as_sum(visitor(false)),
            Metric::CrossEntropy => None,
        }
    }

    /// The values of rows `first ..` that are computed many at once; the others are returned.
    fn of_short_rows(&self, p: &Matrix<'_>, q: &Matrix<'_>, first: usize, out: &mut [f64]) -> Vec<usize> {
        struct Short<'a>(&'a Matrix<'a>, &'a Matrix<'a>, usize, &'a mut [f64]);
        impl Visitor for Short<'_> {
            type Output = Vec<usize>;
            fn visit<D: Divergence>(self, _: D) -> Vec<usize> {
                short::fill::<D>(self.0, self.1, self.2, self.3)
            }
        }
        let all = 0..out.len();
        let found = self.in_one_read(|swap| if swap { Short(q, p, first, out) } else { Short(p, q, first, out) });
        found.unwrap_or_else(|| all.collect())
    }

    /// The series of a smooth divergence, to be made once a call.
    pub fn series(&self) -> Option<Series> {
        match self {
            Metric::Listed(row) => Series::of(*row),
            Metric::CrossEntropy => None,
        }
    }

    /// The value for two rows; `series` is that of this metric.
    pub fn of_sides(&self, p: &Side<'_>, q: &Side<'_>, series: Option<&Series>, parallel: bool) -> Result<f64> {
        struct Probs<'a, 'b>(&'a Side<'b>, &'a Side<'b>, bool);
        impl Visitor for Probs<'_, '_> {
            type Output = Option<f64>;
            fn visit<D: Divergence>(self, _: D) -> Option<f64> {
                one_read::of_probs::<D>(self.0, self.1, self.2)
            }
        }
        let found = self.in_one_read(|swap| if swap { Probs(q, p, parallel) } else { Probs(p, q, parallel) });
        if let Some(value) = found.flatten() {
            return Ok(value);
        }
        if let Some(series) = series
            && let Some(value) = series.value(p, q, parallel)?
        {
            return Ok(value);
        }
        // The pass that finds the normalisers of q and p yields this one, too; errors are for p's side to report first.
        if let Metric::Listed(Row::ReverseKl(_)) = self
            && let Ok(rows) = prepare(q, p, parallel)
        {
            return Ok(value(Kl, &rows, parallel));
        }
        if self.is_wide() {
            let (p, q) = (p.in_wide_lanes(), q.in_wide_lanes());
            return self.value(&prepare(&p, &q, parallel)?, &p, parallel);
        }
        self.value(&prepare(p, q, parallel)?, p, parallel)
    }
}

/// A pair of rows; both in float64 lanes if one needs them.
pub fn sides<'a>(p: &Matrix<'a>, q: &Matrix<'a>, index: usize) -> (Side<'a>, Side<'a>) {
    let (p, q) = (p.side(index), q.side(index));
    if p.row.is_wide() || q.row.is_wide() {
        return (p.widened(true), q.widened(true));
    }
    if p.kind.is_log() == q.kind.is_log() { (p, q) } else { (p.in_wide_lanes(), q.in_wide_lanes()) }
}

/// Fails unless every row of one argument has a partner of its length.
pub fn same_shape(p: &Matrix<'_>, q: &Matrix<'_>) -> Result<()> {
    let shapes = [(p.rows(), p.columns()), (q.rows(), q.columns())];
    if shapes[0] == shapes[1] {
        return Ok(());
    }
    Err(Error::Shape(format!("p has {} rows of {} and q {} of {}", shapes[0].0, shapes[0].1, shapes[1].0, shapes[1].1)))
}

/// A divergence of every pair of rows, by name or by `name:parameter=number`.
pub fn divergence(name: &str, p: &Matrix<'_>, q: &Matrix<'_>, call: &Call) -> Result<Vec<f64>> {
    metric_of_rows(&Metric::parse(name)?, p, q, call)
}

/// A metric of every pair of rows.
pub fn metric_of_rows(metric: &Metric, p: &Matrix<'_>, q: &Matrix<'_>, call: &Call) -> Result<Vec<f64>> {
    same_shape(p, q)?;
    let series = metric.series();
    map_groups(p.rows(), p.columns(), 1, call, |first, parallel, out| {
        let by_series = series.as_ref().and_then(|series| short::fill_by_series(series, p, q, first, out));
        let series = series.as_ref().filter(|_| by_series.is_none());
        for i in by_series.unwrap_or_else(|| metric.of_short_rows(p, q, first, out)) {
            if call.stopped() {
                return Err(Error::Interrupted);
            }
            let (p, q) = sides(p, q, first + i);
            out[i] = metric.of_sides(&p, &q, series, parallel)?;
        }
        Ok(())
    })
}

/// The entropy of every row.
pub fn entropy(p: &Matrix<'_>, call: &Call) -> Result<Vec<f64>> {
    map_rows(p.rows(), p.columns(), 1, call, |index, parallel, out| {
        out[0] = p.side(index).entropy(parallel)?;
        Ok(())
    })
}
