//! One divergence of every row of p and every row of q.
//!
//! Each row is made ready once: checked, its normaliser found. Then tiles of rows go to threads, on one of three paths:
//!
//! - products: KL, cross entropy, Jeffreys, Hellinger and their relatives are functions of Σ p·log q or Σ √p·√q, a
//!   matrix product of the rows (`product`, `bilinear`);
//! - mixtures: Jensen-Shannon needs one logarithm a coordinate beside what each row tabulates (`mixture`);
//! - pairs: everything else, and every entry in which the other two would leave too few digits, is one pass over the
//!   two rows by the kernels of [`crate::evaluate`].
//!
//! A value depends on its two rows only: on none of the others, nor on tiles or threads. Beside the result, memory is
//! what rows need to be ready (some 300 bytes each) and at most 4 MB a thread.

mod bilinear;
mod mixture;
mod nearest;
mod product;
mod ready;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::batch::Matrix;
use crate::divergences::{Divergence, Row, Visitor, visit};
use crate::error::{Error, Result};
use crate::evaluate::{Metric, value};
use crate::moments::Moments;
use crate::pool::{Call, install};
use crate::prepare::{Prepared, Side};
use crate::series::Series;
use bilinear::Form;
use mixture::{Mantissa, fractions, mixtures};
use product::{products, rounding};
use ready::{Field, Ready};

pub use nearest::{Nearest, nearest};

/// Metrics that do not change if their arguments are exchanged, given no parameter.
const SYMMETRIC: &[&str] = &[
    "js",
    "js_distance",
    "jeffreys",
    "total_variation",
    "squared_hellinger",
    "hellinger",
    "triangular_discrimination",
    "bhattacharyya",
    "cauchy_schwarz",
    "fisher_rao",
    "acceptance_rate",
];

/// Coordinates of pairs below which a call runs on the calling thread.
const INLINE: usize = 32 * 1024;

/// Largest |logit| beside which float32 lanes hold a row whatever its partner.
const LEVEL: f64 = 1e4;

/// How entries are found, before those that lost their digits are found again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    /// From products; `true` if the arguments are exchanged.
    Products(Form, bool),
    /// From mixtures; `true` for the square root.
    Mixtures(bool),
    /// One by one.
    Pairs,
}

impl Path {
    fn of(metric: &Metric) -> Path {
        if let Some((form, exchanged)) = Form::of(metric) {
            return Path::Products(form, exchanged);
        }
        match metric {
            Metric::Listed(Row::JsDistance(_)) => Path::Mixtures(true),
            metric if Metric::new("js", None).as_ref() == Ok(metric) => Path::Mixtures(false),
            _ => Path::Pairs,
        }
    }

    /// Most rows of p and of q in a tile.
    fn tile(self, wide: bool) -> (usize, usize) {
        let tall = if wide { product::TALL_EXACT } else { product::TALL };
        match self {
            Path::Products(_, false) => (tall, product::WIDE),
            Path::Products(_, true) => (product::WIDE, tall),
            Path::Mixtures(_) => (mixture::SIDE, mixture::SIDE),
            // A few rows stay in the cache while others meet them.
            Path::Pairs => (4, 8),
        }
    }
}

/// Pieces of a range, all but the last of one length.
struct Cut {
    range: Range<usize>,
    step: usize,
}

impl Cut {
    fn pieces(&self) -> usize {
        self.range.len().div_ceil(self.step)
    }

    fn piece(&self, index: usize) -> Range<usize> {
        let from = self.range.start + index * self.step;
        from..(from + self.step).min(self.range.end)
    }
}

/// Two tables of rows, ready, and what is wanted of them.
#[derive(Debug)]
struct Grid<'a> {
    name: String,
    /// The parameter, if there is one, has its default value.
    is_default: bool,
    metric: Metric,
    series: Option<Series>,
    path: Path,
    p: Vec<Ready<'a>>,
    /// `None` if it is p.
    q: Option<Vec<Ready<'a>>>,
    /// Float64 lanes are needed.
    wide: bool,
}

impl<'a> Grid<'a> {
    /// Checks every row of p, then every row of q; `None` means the rows of p.
    fn new(
        name: &str,
        parameter: Option<f64>,
        p: &Matrix<'a>,
        q: Option<&Matrix<'a>>,
        call: &Call,
    ) -> Result<Grid<'a>> {
        let metric = Metric::new(name, parameter)?;
        if let Some(q) = q.filter(|q| q.columns() != p.columns()) {
            return Err(Error::Shape(format!("p has rows of {} and q of {}", p.columns(), q.columns())));
        }
        let path = Path::of(&metric);
        let kinds = |matrix: &Matrix<'a>| (matrix.rows() > 0).then(|| matrix.side(0));
        let first = [kinds(p), q.and_then(kinds)];
        let wide = first.iter().flatten().any(|side| side.row.is_wide());
        let mixed = matches!(first, [Some(a), Some(b)] if a.kind.is_log() != b.kind.is_log());
        let lanes = |side: Side<'a>| {
            let side = side.widened(wide);
            if mixed && !wide { side.in_wide_lanes() } else { side }
        };
        let wide = wide || mixed;
        // Where p is also q its rows stand on both sides, and no form asks less of the first than of the second.
        let own = |mut row: Ready<'a>, side: usize| match path {
            Path::Products(_, true) if q.is_some() => row.with_own(form_own(path, 1 - side)),
            Path::Products(..) => row.with_own(form_own(path, side)),
            Path::Mixtures(_) if row.is_defined() => {
                row = row.with_own(None);
                row.own = if wide { fractions::<f64>(&row) } else { fractions::<f32>(&row) };
                row
            }
            _ => row,
        };
        let table = |matrix: &Matrix<'a>, side: usize| -> Result<Vec<Ready<'a>>> {
            let one = |index: usize| {
                if call.stopped() {
                    return Err(Error::Interrupted);
                }
                Ready::new(lanes(matrix.side(index))).map(|row| own(row, side))
            };
            if matrix.rows().saturating_mul(matrix.columns()) <= INLINE {
                return (0..matrix.rows()).map(one).collect();
            }
            let found: Vec<Result<Ready<'a>>> =
                install(call.threads(), || (0..matrix.rows()).into_par_iter().map(one).collect());
            found.into_iter().collect()
        };
        let p = table(p, 0)?;
        let q = q.map(|q| table(q, 1)).transpose()?;
        let is_default = Metric::new(name, None).as_ref() == Ok(&metric);
        let series = metric.series();
        Ok(Grid { name: name.to_owned(), is_default, metric, series, path, p, q, wide })
    }

    /// Number of rows of p and of q.
    fn shape(&self) -> (usize, usize) {
        (self.p.len(), self.q().len())
    }

    fn q(&self) -> &[Ready<'a>] {
        self.q.as_deref().unwrap_or(&self.p)
    }

    /// The relative error that these inputs are promised.
    fn promise(&self) -> f64 {
        if self.wide { 1e-12 } else { 1e-6 }
    }

    /// The rows of p and of q that are no distributions.
    fn undefined(&self) -> [Vec<usize>; 2] {
        let of = |rows: &[Ready<'a>]| (0..rows.len()).filter(|&i| !rows[i].is_defined()).collect();
        [of(&self.p), of(self.q())]
    }

    /// Writes the values of some rows of p against some of q, one line a row of p.
    fn fill(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f64], call: &Call) -> Result<()> {
        let width = columns.len();
        if rows.is_empty() || width == 0 {
            return Ok(());
        }
        let mirrored = self.q.is_none() && rows == columns && self.is_default && SYMMETRIC.contains(&&*self.name);
        let count = call.threads();
        let (down, across) = self.cut(&rows, &columns, count);
        let out = Mutex::new(out);
        let one = |index: usize| -> Result<()> {
            let (tall, wide) = (down.piece(index / across.pieces()), across.piece(index % across.pieces()));
            if mirrored && wide.end <= tall.start {
                return Ok(());
            }
            let found = self.tile(tall.clone(), wide.clone(), mirrored, call)?;
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            for (i, line) in tall.clone().zip(found.chunks_exact(wide.len())) {
                let at = (i - rows.start) * width;
                for (j, &x) in wide.clone().zip(line) {
                    if !mirrored {
                        out[at + j - columns.start] = x;
                    } else if i <= j {
                        out[at + j - columns.start] = x;
                        out[(j - rows.start) * width + i - columns.start] = x;
                    }
                }
            }
            Ok(())
        };
        let length = self.p.first().map_or(0, Ready::len);
        if rows.len().saturating_mul(width).saturating_mul(length) <= INLINE {
            return (0..down.pieces() * across.pieces()).try_for_each(one);
        }
        install(count, || (0..down.pieces() * across.pieces()).into_par_iter().try_for_each(one))
    }

    /// Cuts rows and columns into tiles: as large as the path likes them, and a multiple of the threads if few.
    fn cut(&self, rows: &Range<usize>, columns: &Range<usize>, threads: usize) -> (Cut, Cut) {
        /// Rows in a piece that is not worth cutting further.
        const SMALL: usize = 32;
        let (tall, wide) = self.path.tile(self.wide);
        let (mut down, mut across) = (rows.len().div_ceil(tall), columns.len().div_ceil(wide));
        while down * across < 4 * threads && (down * across) % threads != 0 {
            let (height, width) = (rows.len() / down, columns.len() / across);
            match height.max(width) {
                ..=SMALL => break,
                most if most == width => across += 1,
                _ => down += 1,
            }
        }
        let unit = if self.path == Path::Pairs { 1 } else { 8 };
        let cut = |range: &Range<usize>, pieces: usize| Cut {
            range: range.clone(),
            step: range.len().div_ceil(pieces).next_multiple_of(unit),
        };
        (cut(rows, down), cut(columns, across))
    }

    /// The values of a tile; where `mirrored`, those below the diagonal are left out.
    fn tile(&self, tall: Range<usize>, wide: Range<usize>, mirrored: bool, call: &Call) -> Result<Vec<f64>> {
        let (p, q) = (&self.p[tall.clone()], &self.q()[wide.clone()]);
        let guess: Box<dyn Fn(usize, usize) -> Option<f64>> = match self.path {
            Path::Pairs => Box::new(|_, _| None),
            Path::Mixtures(is_root) => {
                let (found, least) = if self.wide {
                    (mixtures::<f64>(p, q, call)?, f64::LEAST)
                } else {
                    (mixtures::<f32>(p, q, call)?, f32::LEAST)
                };
                let width = q.len();
                Box::new(move |i, j| {
                    let js = found[i * width + j];
                    (js >= least).then(|| if is_root { js.sqrt() } else { js })
                })
            }
            Path::Products(form, exchanged) => {
                let (a, b) = if exchanged { (q, p) } else { (p, q) };
                let of = |&(of_a, of_b)| products(a, of_a, b, of_b, self.wide, call);
                let found = form.products().iter().map(of).collect::<Result<Vec<_>>>()?;
                let (width, promise) = (b.len(), self.promise());
                let rounding = rounding(a.first().map_or(0, Ready::len), self.wide);
                Box::new(move |i, j| {
                    let (i, j) = if exchanged { (j, i) } else { (i, j) };
                    let product = |n: usize| found.get(n).map_or(0.0, |sums| sums[i * width + j]);
                    form.value([product(0), product(1)], [a[i].own, b[j].own], rounding, promise)
                })
            }
        };
        let mut out = vec![f64::NAN; p.len() * q.len()];
        for (i, (p, line)) in p.iter().zip(out.chunks_exact_mut(q.len())).enumerate() {
            for (j, (q, x)) in q.iter().zip(line).enumerate() {
                if !p.is_defined() || !q.is_defined() || (mirrored && tall.start + i > wide.start + j) {
                    continue;
                }
                let quick = if p.tame && q.tame { guess(i, j) } else { None };
                *x = match quick {
                    Some(x) => x,
                    None if call.stopped() => return Err(Error::Interrupted),
                    None => self.pair(p, q)?,
                };
            }
        }
        Ok(out)
    }

    /// One entry, from its two rows.
    fn pair(&self, p: &Ready<'a>, q: &Ready<'a>) -> Result<f64> {
        /// The sum of a row of the table.
        struct Sum<'a, 'b>(&'b Prepared<'a>);
        impl Visitor for Sum<'_, '_> {
            type Output = Option<f64>;
            fn visit<D: Divergence>(self, divergence: D) -> Option<f64> {
                // The pass that finds normalisers yields KL, too: there is nothing to save.
                (!D::IS_KL).then(|| value(divergence, self.0, false))
            }
        }
        if let (Some(a), Some(b)) = (p.totals, q.totals) {
            let (p, q) =
                if self.metric.is_wide() { (p.side.in_wide_lanes(), q.side.in_wide_lanes()) } else { (p.side, q.side) };
            return self.metric.value(&Prepared::Weights(p.row, q.row, [a, b]), &p, false);
        }
        if !self.wide
            && self.is_default
            && let Some(moments) = known_moments(p, q)
            && let Some(Some(x)) = visit(&self.name, Sum(&Prepared::Logs(moments)))
        {
            return Ok(x);
        }
        self.metric.of_sides(&p.side, &q.side, self.series.as_ref(), false)
    }
}

/// The moments of narrow logits from their normalisers in float64, all but KL; `None` for logits of unusual size.
fn known_moments<'a>(p: &Ready<'a>, q: &Ready<'a>) -> Option<Moments<'a>> {
    let ((top_p, log_p), (top_q, log_q)) = (p.level()?, q.level()?);
    if top_p.abs().max(top_q.abs()) > LEVEL {
        return None;
    }
    let difference = (top_q - top_p) + (log_q - log_p);
    let offset = f64::from(difference as f32);
    Some(Moments {
        x: p.side.row,
        y: q.side.row,
        wide: false,
        base: top_p + log_p,
        power: 0.0,
        weights: 1.0,
        offset,
        correction: difference - offset,
        kl: f64::NAN,
    })
}

/// The product of a row with itself that a form asks of a side.
fn form_own(path: Path, side: usize) -> Option<(Field, Field)> {
    match path {
        Path::Products(form, _) => form.own()[side],
        _ => None,
    }
}

/// Every row of p against every row of q (of p, for `None`) into `out`, one line a row of p; the rows that are no
/// distributions.
pub fn pairwise(
    name: &str,
    parameter: Option<f64>,
    p: &Matrix<'_>,
    q: Option<&Matrix<'_>>,
    out: &mut [f64],
    call: &Call,
) -> Result<[Vec<usize>; 2]> {
    let grid = Grid::new(name, parameter, p, q, call)?;
    let (rows, columns) = grid.shape();
    if rows.checked_mul(columns) != Some(out.len()) {
        return Err(Error::Shape(format!("out holds {} numbers, not {rows} times {columns}", out.len())));
    }
    grid.fill(0..rows, 0..columns, out, call)?;
    Ok(grid.undefined())
}

#[cfg(test)]
mod tests {
    use super::SYMMETRIC;
    use crate::divergences::NAMES;

    #[test]
    fn symmetric_names_are_registered() {
        assert!(SYMMETRIC.iter().all(|name| NAMES.contains(name)));
    }
}
