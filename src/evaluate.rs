//! One divergence of one pair of rows, or of many.

use crate::batch::{Matrix, map_rows};
use crate::divergences::{Divergence, Visitor, visit};
use crate::error::{Error, Result};
use crate::pool::Call;
use crate::prepare::{Prepared, Side, prepare};
use crate::terms::{Single, log_sums, weight_sums};
use crate::weight_kl;

/// Names that take two arguments but are no row of the table: they are made of others.
pub const COMPOSED: &[&str] = &["cross_entropy"];

/// A divergence of prepared rows.
pub fn value<D: Divergence>(_: D, rows: &Prepared<'_>, parallel: bool) -> f64 {
    let sum = match rows {
        Prepared::Nothing => return f64::NAN,
        Prepared::Logs(moments) if D::IS_KL => return moments.kl,
        Prepared::Weights(p, q, totals) if D::IS_KL => return weight_kl::of_weights(*p, *q, totals, parallel),
        Prepared::Logs(moments) => log_sums(moments, Single(D::Term::default()), parallel)[0],
        Prepared::Weights(p, q, totals) => weight_sums(*p, *q, totals, Single(D::Term::default()), parallel)[0],
    };
    D::finish(sum)
}

/// The value of a registered name for prepared rows.
pub fn named_value(name: &str, rows: &Prepared<'_>, p: &Side<'_>, parallel: bool) -> Result<f64> {
    struct Value<'a, 'b>(&'a Prepared<'b>, bool);
    impl Visitor for Value<'_, '_> {
        type Output = f64;
        fn visit<D: Divergence>(self, divergence: D) -> f64 {
            value(divergence, self.0, self.1)
        }
    }
    if name == "cross_entropy" {
        let kl = value(crate::divergences::Kl, rows, parallel);
        return Ok(if kl.is_nan() { kl } else { kl + p.entropy(parallel)? });
    }
    visit(name, Value(rows, parallel)).ok_or_else(|| Error::UnknownName(name.to_owned()))
}

/// True if the name can be evaluated.
pub fn is_known(name: &str) -> bool {
    crate::divergences::NAMES.contains(&name) || COMPOSED.contains(&name)
}

/// A pair of rows; both in float64 lanes if one needs them.
pub fn sides<'a>(p: &Matrix<'a>, q: &Matrix<'a>, index: usize) -> (Side<'a>, Side<'a>) {
    let (p, q) = (p.side(index), q.side(index));
    let wide = p.row.is_wide() || q.row.is_wide() || p.kind.is_log() != q.kind.is_log();
    (p.widened(wide), q.widened(wide))
}

/// Fails unless every row of one argument has a partner of its length.
pub fn same_shape(p: &Matrix<'_>, q: &Matrix<'_>) -> Result<()> {
    let shapes = [(p.rows(), p.columns()), (q.rows(), q.columns())];
    if shapes[0] == shapes[1] {
        return Ok(());
    }
    Err(Error::Shape(format!("p has {} rows of {} and q {} of {}", shapes[0].0, shapes[0].1, shapes[1].0, shapes[1].1)))
}

/// KL of either direction where both rows are probabilities, which needs no preparation.
fn kl_of_probs(name: &str, p: &Side<'_>, q: &Side<'_>, parallel: bool) -> Option<f64> {
    match name {
        "kl" => weight_kl::of_probs(p, q, parallel),
        "reverse_kl" => weight_kl::of_probs(q, p, parallel),
        _ => None,
    }
}

/// A divergence of every pair of rows.
pub fn divergence(name: &str, p: &Matrix<'_>, q: &Matrix<'_>, call: &Call) -> Result<Vec<f64>> {
    if !is_known(name) {
        return Err(Error::UnknownName(name.to_owned()));
    }
    same_shape(p, q)?;
    map_rows(p.rows(), p.columns(), 1, call, |index, parallel, out| {
        let (p, q) = sides(p, q, index);
        if let Some(kl) = kl_of_probs(name, &p, &q, parallel) {
            out[0] = kl;
            return Ok(());
        }
        out[0] = named_value(name, &prepare(&p, &q, parallel)?, &p, parallel)?;
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
