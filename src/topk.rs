//! Rows of which only the most probable tokens are known: reading them, comparing them, and making them from full rows.
//!
//! A list stands beside another list or beside a full row. A full row is cut at the ids of the list: their
//! log-probabilities and the mass of the rest, each to its own last digits (the rest is summed by itself, never as 1
//! less the others).

use crate::batch::{Matrix, map_rows};
use crate::completions::{highest, lowest};
use crate::entropy::log_tail;
use crate::error::{Error, Result};
use crate::known::{Known, List, renormalised};
use crate::order::{order, peak};
use crate::pool::Call;
use crate::prepare::Side;
use crate::rows::{BLOCK, Kind, Numbers, Row, Scratch, Transform};
use crate::simd::{Kernel, Simd, dispatch};

/// Rows that list some of their tokens.
#[derive(Clone, Debug)]
pub struct Lists<'a> {
    /// Token ids, as many a row as `log_probs` has columns; a negative one fills up a shorter row.
    pub ids: &'a [i32],
    /// Their log-probabilities.
    pub log_probs: Matrix<'a>,
    /// The logarithm of the mass of the other tokens, where it is known by itself.
    pub log_tails: Option<&'a [f64]>,
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// Lists.
    Lists(Lists<'a>),
    /// Full rows.
    Full(Matrix<'a>),
}

impl Source<'_> {
    fn matrix(&self) -> &Matrix<'_> {
        match self {
            Source::Lists(lists) => &lists.log_probs,
            Source::Full(matrix) => matrix,
        }
    }
}

/// What happens to the mass outside the lists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tail {
    /// One outcome more.
    Bucket,
    /// Nothing: the lists are taken as whole distributions.
    Renormalize,
    /// Lowest and highest value over all completions; `sorted` if no unseen token is above a listed one.
    Bounds {
        /// See there.
        sorted: bool,
    },
}

impl Tail {
    /// Numbers a row.
    pub fn width(self) -> usize {
        if matches!(self, Tail::Bounds { .. }) { 8 } else { 4 }
    }
}

/// The four divergences of every pair of rows, or their bounds: four lowest, then four highest.
pub fn compare_lists(p: &Source<'_>, q: &Source<'_>, vocabulary: usize, tail: Tail, call: &Call) -> Result<Vec<f64>> {
    for source in [p, q] {
        match source {
            Source::Lists(lists) => check(lists, vocabulary)?,
            Source::Full(matrix) if matrix.columns() == vocabulary => {}
            Source::Full(_) => {
                return Err(Error::Shape("a full row has another length than the vocabulary".to_owned()));
            }
        }
    }
    let rows = p.matrix().rows();
    if rows != q.matrix().rows() {
        return Err(Error::Shape("p and q differ in their number of rows".to_owned()));
    }
    let columns = p.matrix().columns() + q.matrix().columns();
    map_rows(rows, columns, tail.width(), call, |index, parallel, out| {
        match row_pair(p, q, index, vocabulary, parallel)? {
            None => out.fill(f64::NAN),
            Some(pair) => pair.fill(vocabulary, tail, out),
        }
        Ok(())
    })
}

fn check(lists: &Lists<'_>, vocabulary: usize) -> Result<()> {
    let rows = lists.log_probs.rows();
    if lists.ids.len() != rows * lists.log_probs.columns() || lists.log_tails.is_some_and(|tails| tails.len() != rows) {
        return Err(Error::Shape("ids, log_probs and log_tails differ in shape".to_owned()));
    }
    if lists.ids.iter().any(|&id| id >= 0 && id as usize >= vocabulary) {
        return Err(Error::Shape("an id is outside the vocabulary".to_owned()));
    }
    Ok(())
}

/// Two lists; what a full row has outside the list.
struct RowPair {
    p: List,
    q: List,
    rest: [Option<Vec<f64>>; 2],
}

fn row_pair(
    p: &Source<'_>,
    q: &Source<'_>,
    index: usize,
    vocabulary: usize,
    parallel: bool,
) -> Result<Option<RowPair>> {
    let list = |lists: &Lists<'_>| {
        let columns = lists.log_probs.columns();
        let logs = read(&lists.log_probs.side(index).row);
        let ids = &lists.ids[index * columns..][..columns];
        let entries = ids.iter().copied().zip(logs).filter(|entry| entry.0 >= 0).collect();
        List::new(entries, lists.log_tails.map(|tails| tails[index]), vocabulary)
    };
    let cut_at = |matrix: &Matrix<'_>, list: &List| -> Result<Option<(List, Vec<f64>)>> {
        let ids: Vec<usize> = list.entries.iter().map(|entry| entry.0 as usize).collect();
        let Some(cut) = cut(&matrix.side(index), &ids, parallel)? else { return Ok(None) };
        let entries: Vec<_> = list.entries.iter().map(|entry| entry.0).zip(cut.listed).collect();
        let smallest = f64::INFINITY;
        Ok(Some((List { entries, tail: libm::exp(cut.log_rest), derived: false, smallest }, cut.rest)))
    };
    Ok(match (p, q) {
        (Source::Lists(p), Source::Lists(q)) => list(p).zip(list(q)).map(|(p, q)| RowPair { p, q, rest: [None, None] }),
        (Source::Lists(p), Source::Full(q)) => match list(p) {
            // A row of no distribution on one side does not hide an error on the other.
            None => cut(&q.side(index), &[], parallel)?.and(None),
            Some(p) => cut_at(q, &p)?.map(|(q, rest)| RowPair { p, q, rest: [None, Some(rest)] }),
        },
        (Source::Full(p), Source::Lists(q)) => match list(q) {
            None => cut(&p.side(index), &[], parallel)?.and(None),
            Some(q) => cut_at(p, &q)?.map(|(p, rest)| RowPair { p, q, rest: [Some(rest), None] }),
        },
        (Source::Full(_), Source::Full(_)) => return Err(Error::Shape("one side must be lists".to_owned())),
    })
}

impl RowPair {
    fn fill(self, vocabulary: usize, tail: Tail, out: &mut [f64]) {
        let mut known = Known::new(&self.p, &self.q, vocabulary);
        match tail {
            Tail::Bucket => out.copy_from_slice(&known.bucket()),
            Tail::Renormalize => {
                out.copy_from_slice(&renormalised(&self.p, &self.q, vocabulary).unwrap_or([f64::NAN; 4]));
            }
            Tail::Bounds { sorted } => {
                let cap = |list: &List| {
                    // Rounding of the numbers given may leave the tail a little more than fits below the cap.
                    let tokens = vocabulary.saturating_sub(list.entries.len()).max(1);
                    if sorted { libm::exp(list.smallest).max(list.tail / tokens as f64) } else { f64::INFINITY }
                };
                let caps = [cap(&self.p), cap(&self.q)];
                for (side, rest) in self.rest.into_iter().enumerate() {
                    if let Some(rest) = rest {
                        known.alone_mass[side] = known.tail[side];
                        (known.alone[side], known.tail[side], known.unseen) = (rest, 0.0, 0);
                    }
                }
                out[..4].copy_from_slice(&lowest(&known, caps));
                out[4..].copy_from_slice(&highest(&known, caps));
                // The bounds may meet: rounding must not let them cross.
                for i in 0..4 {
                    out[4 + i] = out[4 + i].max(out[i]);
                }
            }
        }
    }
}

/// A full row, cut in two.
struct Cut {
    /// Log-probabilities at the ids asked for.
    listed: Vec<f64>,
    /// Logarithm of the mass of all others.
    log_rest: f64,
    /// Their log-probabilities.
    rest: Vec<f64>,
}

/// Cuts a full row at some ids; `None` if it is no distribution.
fn cut(side: &Side<'_>, ids: &[usize], parallel: bool) -> Result<Option<Cut>> {
    let logs_row = if side.kind.is_log() {
        side.row.widened(true)
    } else if side.totals(parallel)?.has_mass() {
        side.row.with(Transform::Log)
    } else {
        return Ok(None);
    };
    let Some(top) = peak(&logs_row, parallel) else { return Ok(None) };
    let above = libm::log1p(log_tail(&logs_row, top, parallel).mass);
    if side.kind == Kind::LogProbs {
        side.check_log_probs(|| top.value + above, parallel)?;
    }
    // Relative to the maximum, so that the log-probability of a nearly certain token keeps its digits.
    let mut rest = read(&logs_row);
    for log in &mut rest {
        *log = (*log - top.value) - above;
    }
    let listed = ids.iter().map(|&id| std::mem::replace(&mut rest[id], f64::NEG_INFINITY)).collect();
    let remainder = Row::new(Numbers::F64(&rest), 0, 1, rest.len(), Transform::Keep);
    let log_rest = crate::entropy::log_sum_exp(&remainder, parallel).unwrap_or(f64::NEG_INFINITY);
    for &id in ids {
        rest[id] = f64::NAN;
    }
    rest.retain(|log| !log.is_nan());
    Ok(Some(Cut { listed, log_rest, rest }))
}

/// The numbers of a row in float64.
fn read(row: &Row<'_>) -> Vec<f64> {
    struct Read<'a>(&'a Row<'a>);
    impl Kernel for Read<'_> {
        type Output = Vec<f64>;
        #[inline(always)]
        fn run<S: Simd>(self) -> Vec<f64> {
            let (row, mut scratch) = (self.0, Scratch::<f64>::new());
            let mut numbers = Vec::with_capacity(row.len());
            for from in (0..row.len()).step_by(BLOCK) {
                let len = BLOCK.min(row.len() - from);
                numbers.extend_from_slice(&row.block::<S, f64>(from, len, &mut scratch, 0.0)[..len]);
            }
            numbers
        }
    }
    dispatch(Read(row))
}

/// Lists above which sorting the row beats keeping the list sorted.
const LONG: usize = 1024;

/// The k most probable tokens of every row, the first of equal ones: k ids, k log-probabilities, and the logarithm of
/// the mass of the others. NaN throughout for a row without a distribution.
pub fn largest(rows: &Matrix<'_>, k: usize, call: &Call) -> Result<Vec<f64>> {
    if k == 0 || k > rows.columns() {
        return Err(Error::Shape("k must be between 1 and the length of a row".to_owned()));
    }
    map_rows(rows.rows(), rows.columns(), 2 * k + 1, call, |index, parallel, out| {
        let side = rows.side(index);
        let ids: Vec<usize> = if k <= LONG {
            order(&side.row, k, None, parallel).top.iter().map(|entry| entry.index).collect()
        } else {
            let numbers = read(&side.row);
            let mut ids: Vec<usize> = (0..numbers.len()).collect();
            // Adding 0 makes one zero of both.
            ids.sort_by(|&i, &j| (numbers[j] + 0.0).total_cmp(&(numbers[i] + 0.0)));
            ids.truncate(k);
            ids
        };
        let cut = if ids.len() == k { cut(&side, &ids, parallel)? } else { cut(&side, &[], parallel)?.and(None) };
        let Some(cut) = cut else {
            out.fill(f64::NAN);
            return Ok(());
        };
        for (i, (id, log)) in ids.into_iter().zip(cut.listed).enumerate() {
            (out[i], out[k + i]) = (id as f64, log);
        }
        out[2 * k] = cut.log_rest;
        Ok(())
    })
}
