//! Many metrics of every pair of rows from one read of the data.
//!
//! The first pass over two rows of logits brings them into the cache and yields both normalisers and KL; the second
//! yields every other default metric together, and the order (largest numbers, ranks) takes a third, cheap one. A
//! metric outside the default set costs one more pass over the cached rows.

use crate::batch::{Matrix, map_rows};
use crate::divergences::{Js, Kl, ReverseKl, SquaredHellinger, TotalVariation};
use crate::entropy::log_tail;
use crate::error::{Error, Result};
use crate::evaluate::{Metric, same_shape, sides, value};
use crate::linear::Totals;
use crate::moments::Moments;
use crate::order::{Entry, Order, order_of_valid};
use crate::pair::Pair;
use crate::pool::Call;
use crate::prepare::{Prepared, Side, prepare};
use crate::simd::Vector;
use crate::terms::{MAX_SUMS, Terms, log_sums};

/// A column of the result.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// KL(p‖q).
    Kl,
    /// A metric that the second pass yields with all others of its kind.
    Fused(Fused),
    /// H(p), H(q) or −Σ p·log q.
    EntropyP,
    /// See `EntropyP`.
    EntropyQ,
    /// See `EntropyP`.
    CrossEntropy,
    /// First largest number of p, q.
    Top1(usize),
    /// Probability of that number under p, q.
    Top1Prob(usize),
    /// Share of p's k largest among q's.
    Overlap(usize),
    /// log-probability of the target under p, q.
    LogProb(usize),
    /// q − p at the target.
    DeltaProb,
    /// 1 + numbers before the target in p, q.
    Rank(usize),
    /// Any other registered name, with its parameter.
    Named(Metric),
}

/// The metrics of the second pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fused {
    /// KL(q‖p).
    ReverseKl,
    /// Jensen-Shannon divergence.
    Js,
    /// KL(p‖q) + KL(q‖p).
    Jeffreys,
    /// ½·Σ|p − q|.
    TotalVariation,
    /// ½·Σ(√p − √q)².
    SquaredHellinger,
}

impl Column {
    /// The column of that name.
    pub fn from_name(name: &str) -> Result<Column> {
        Ok(match name {
            "kl" => Column::Kl,
            "reverse_kl" => Column::Fused(Fused::ReverseKl),
            "js" => Column::Fused(Fused::Js),
            "jeffreys" => Column::Fused(Fused::Jeffreys),
            "total_variation" => Column::Fused(Fused::TotalVariation),
            "squared_hellinger" => Column::Fused(Fused::SquaredHellinger),
            "entropy_p" => Column::EntropyP,
            "entropy_q" => Column::EntropyQ,
            "cross_entropy" => Column::CrossEntropy,
            "top1_p" => Column::Top1(0),
            "top1_q" => Column::Top1(1),
            "top1_prob_p" => Column::Top1Prob(0),
            "top1_prob_q" => Column::Top1Prob(1),
            "log_prob_p" => Column::LogProb(0),
            "log_prob_q" => Column::LogProb(1),
            "delta_prob" => Column::DeltaProb,
            "rank_p" => Column::Rank(0),
            "rank_q" => Column::Rank(1),
            other => match other.strip_prefix("overlap_").and_then(|k| k.parse().ok()) {
                Some(k) if k > 0 => Column::Overlap(k),
                _ => Column::Named(Metric::parse(other)?),
            },
        })
    }

    /// True for token ids and ranks.
    pub fn is_integer(&self) -> bool {
        matches!(self, Column::Top1(_) | Column::Rank(_))
    }

    fn needs_target(&self) -> bool {
        matches!(self, Column::LogProb(_) | Column::DeltaProb | Column::Rank(_))
    }
}

/// One column of values, one a row.
#[derive(Clone, Debug)]
pub enum Values {
    /// A metric; NaN for a row without a distribution.
    Float(Vec<f64>),
    /// A token id or rank; −1 for a row without a distribution.
    Integer(Vec<i64>),
}

/// The columns for every pair of rows.
pub fn compare(
    p: &Matrix<'_>,
    q: &Matrix<'_>,
    columns: &[Column],
    targets: Option<&[i64]>,
    call: &Call,
) -> Result<Vec<Values>> {
    same_shape(p, q)?;
    if columns.iter().any(Column::needs_target) && targets.is_none_or(|ids| ids.len() != p.rows()) {
        return Err(Error::Shape("targets: one token id a row is needed".to_owned()));
    }
    if targets.is_some_and(|ids| ids.iter().any(|&id| id < 0 || id as usize >= p.columns())) {
        return Err(Error::Shape("targets: a token id is outside the vocabulary".to_owned()));
    }
    let table = map_rows(p.rows(), p.columns(), columns.len(), call, |index, parallel, out| {
        let (p, q) = sides(p, q, index);
        let target = targets.map(|ids| ids[index] as usize);
        let row = RowPair { p, q, target, parallel };
        row.fill(columns, out)
    })?;
    let column = |i: usize| table.iter().skip(i).step_by(columns.len().max(1));
    Ok(columns
        .iter()
        .enumerate()
        .map(|(i, kind)| {
            if kind.is_integer() {
                Values::Integer(column(i).map(|&x| if x.is_nan() { -1 } else { x as i64 }).collect())
            } else {
                Values::Float(column(i).copied().collect())
            }
        })
        .collect())
}

struct RowPair<'a> {
    p: Side<'a>,
    q: Side<'a>,
    target: Option<usize>,
    parallel: bool,
}

impl RowPair<'_> {
    fn fill(&self, columns: &[Column], out: &mut [f64]) -> Result<()> {
        let rows = prepare(&self.p, &self.q, self.parallel)?;
        if matches!(rows, Prepared::Nothing) {
            out.fill(f64::NAN);
            return Ok(());
        }
        let kl = value(Kl, &rows, self.parallel);
        let wanted = |f: fn(&Column) -> bool| columns.iter().any(f);
        let entropies = wanted(|c| matches!(c, Column::EntropyP | Column::EntropyQ | Column::CrossEntropy));
        let most = columns.iter().map(|c| match c {
            Column::Overlap(k) => *k,
            Column::Top1(_) | Column::Top1Prob(_) | Column::EntropyP | Column::EntropyQ | Column::CrossEntropy => 1,
            _ => 0,
        });
        let most = most.max().unwrap_or(0);
        let rank_target = self.target.filter(|_| wanted(|c| matches!(c, Column::Rank(_))));
        let orders = (most > 0 || rank_target.is_some())
            .then(|| [&self.p, &self.q].map(|side| order_of_valid(&side.row, most, rank_target, self.parallel)));
        let fused = wanted(|c| matches!(c, Column::Fused(_)));
        let second = match &rows {
            Prepared::Logs(moments) if fused || entropies => self.logs(moments, orders.as_ref(), entropies),
            Prepared::Weights(..) if fused || entropies => self.one_by_one(&rows, fused, entropies)?,
            _ => Second::default(),
        };
        let at_target = self.target.map(|target| target_log_probs(&rows, target, second.peaks.as_ref(), self.parallel));
        let mut wide = None;
        for (column, out) in columns.iter().zip(out) {
            let order = |side: usize| orders.as_ref().map(|orders| &orders[side]);
            *out = match column {
                Column::Kl => kl,
                Column::Fused(Fused::ReverseKl) => second.reverse_kl,
                Column::Fused(Fused::Js) => second.js,
                Column::Fused(Fused::Jeffreys) => kl + second.reverse_kl,
                Column::Fused(Fused::TotalVariation) => second.total_variation,
                Column::Fused(Fused::SquaredHellinger) => second.squared_hellinger,
                Column::EntropyP => second.entropy[0],
                Column::EntropyQ => second.entropy[1],
                Column::CrossEntropy => second.entropy[0] + kl,
                Column::Top1(side) => order(*side).map_or(f64::NAN, |o| o.top[0].index as f64),
                Column::Top1Prob(side) => order(*side).map_or(f64::NAN, |o| {
                    libm::exp(log_prob(&rows, *side, o.top[0].index, second.peaks.as_ref(), self.parallel))
                }),
                Column::Overlap(k) => orders.as_ref().map_or(f64::NAN, |[p, q]| overlap(&p.top, &q.top, *k)),
                Column::LogProb(side) => at_target.map_or(f64::NAN, |t| t.log_prob[*side]),
                Column::DeltaProb => at_target.map_or(f64::NAN, |t| t.delta),
                Column::Rank(side) => order(*side).map_or(f64::NAN, |o| (o.before + 1) as f64),
                Column::Named(metric) if metric.is_wide() => {
                    // Read once more, in float64 lanes, for all the columns that need them.
                    if wide.is_none() {
                        let (p, q) = (self.p.in_wide_lanes(), self.q.in_wide_lanes());
                        wide = Some(if self.p.row.is_wide() { rows } else { prepare(&p, &q, self.parallel)? });
                    }
                    match &wide {
                        Some(wide) => metric.value(wide, &self.p, self.parallel)?,
                        None => f64::NAN,
                    }
                }
                Column::Named(metric) => metric.value(&rows, &self.p, self.parallel)?,
            };
        }
        Ok(())
    }

    fn logs(&self, moments: &Moments<'_>, orders: Option<&[Order; 2]>, entropies: bool) -> Second {
        // Rows read relative to their maxima have their maxima at zero.
        let top = |side: usize, row: &crate::rows::Row<'_>| -> Entry {
            let entry = orders.map_or(Entry { value: 0.0, index: 0 }, |orders| orders[side].top[0]);
            Entry { value: if entropies { row.at(entry.index) } else { 0.0 }, ..entry }
        };
        let tops = [top(0, &moments.x), top(1, &moments.y)];
        let terms = All { tops: tops.map(|top| top.value) };
        let mut sums = log_sums(moments, terms, self.parallel);
        if moments.shows_in(0.5 * sums[2]) {
            sums = log_sums(&moments.refined(self.parallel), terms, self.parallel);
        }
        let peak = |row: &crate::rows::Row<'_>, lse: f64, top: Entry| Peak {
            index: top.index,
            above: above(row, lse, top, self.parallel),
        };
        let peaks =
            entropies.then(|| [peak(&moments.x, moments.lse_x(), tops[0]), peak(&moments.y, moments.lse_y(), tops[1])]);
        let entropy = match &peaks {
            Some([p, q]) => [p.above + sums[4], q.above + sums[5]],
            None => [f64::NAN; 2],
        };
        // Jeffreys less KL, unless KL is nearly all of it, or both are infinite.
        let reverse_kl = sums[0] - moments.kl;
        let reverse_kl = if reverse_kl >= moments.kl / 8.0 {
            reverse_kl
        } else {
            value(ReverseKl, &Prepared::Logs(*moments), self.parallel)
        };
        Second {
            reverse_kl,
            js: sums[1],
            total_variation: 0.5 * sums[2],
            squared_hellinger: 0.5 * sums[3],
            entropy,
            peaks,
        }
    }

    fn one_by_one(&self, rows: &Prepared<'_>, fused: bool, entropies: bool) -> Result<Second> {
        let mut second = Second::default();
        if fused {
            second.reverse_kl = value(ReverseKl, rows, self.parallel);
            second.js = value(Js, rows, self.parallel);
            second.total_variation = value(TotalVariation, rows, self.parallel);
            second.squared_hellinger = value(SquaredHellinger, rows, self.parallel);
        }
        if entropies {
            second.entropy = [self.p.entropy(self.parallel)?, self.q.entropy(self.parallel)?];
        }
        Ok(second)
    }
}

/// The largest number of a row of logits.
#[derive(Clone, Copy)]
struct Peak {
    index: usize,
    /// How far log Σ e^x lies above it.
    above: f64,
}

/// log Σ e^x less the number of an entry. Where nearly all mass sits in it, the difference has lost its digits, and the
/// mass outside it has them.
fn above(row: &crate::rows::Row<'_>, lse: f64, entry: Entry, parallel: bool) -> f64 {
    let difference = lse - entry.value;
    if difference > 0.5 { difference } else { libm::log1p(log_tail(row, entry, parallel).mass) }
}

/// Log-probability of a token under p (side 0) or q.
fn log_prob(rows: &Prepared<'_>, side: usize, index: usize, peaks: Option<&[Peak; 2]>, parallel: bool) -> f64 {
    match rows {
        Prepared::Logs(m) => {
            let lse_x = m.lse_x();
            let (row, lse) = [(&m.x, lse_x), (&m.y, lse_x + m.offset + m.correction)][side];
            let known = peaks.map(|peaks| peaks[side]).filter(|peak| peak.index == index);
            -known.map_or_else(|| above(row, lse, Entry { value: row.at(index), index }, parallel), |peak| peak.above)
        }
        Prepared::Weights(p, q, totals) => log_share([p, q][side].at(index), &totals[side]),
        Prepared::Nothing => f64::NAN,
    }
}

/// What the target token gets.
fn target_log_probs(rows: &Prepared<'_>, target: usize, peaks: Option<&[Peak; 2]>, parallel: bool) -> AtTarget {
    let log_prob: [f64; 2] = std::array::from_fn(|side| log_prob(rows, side, target, peaks, parallel));
    let delta = match rows {
        Prepared::Logs(m) if log_prob[0] > f64::NEG_INFINITY => {
            let t = (m.y.at(target) - m.x.at(target) - m.offset) - m.correction;
            // From the larger side: e^-|t| never overflows.
            let larger = libm::exp(log_prob[0].max(log_prob[1]));
            if t > 0.0 { -larger * libm::expm1(-t) } else { larger * libm::expm1(t) }
        }
        Prepared::Weights(p, q, totals) => {
            let share = |x: f64, t: &Totals| libm::scalbn(x, -t.power) / t.sum;
            share(q.at(target), &totals[1]) - share(p.at(target), &totals[0])
        }
        _ => libm::exp(log_prob[1]),
    };
    AtTarget { log_prob, delta }
}

fn log_share(x: f64, totals: &Totals) -> f64 {
    let share = libm::scalbn(x, -totals.power) / totals.sum;
    if share > 0.5 { libm::log1p((libm::scalbn(x, -totals.power) - totals.sum) / totals.sum) } else { libm::log(share) }
}

#[derive(Clone, Copy)]
struct AtTarget {
    log_prob: [f64; 2],
    delta: f64,
}

#[derive(Clone, Copy, Default)]
struct Second {
    reverse_kl: f64,
    js: f64,
    total_variation: f64,
    squared_hellinger: f64,
    entropy: [f64; 2],
    /// Of rows of logits, if the entropies were wanted.
    peaks: Option<[Peak; 2]>,
}

/// Share of the first k of `p` among the first k of `q`.
fn overlap(p: &[Entry], q: &[Entry], k: usize) -> f64 {
    let k = k.min(p.len());
    let common = p[..k].iter().filter(|a| q[..k].iter().any(|b| a.index == b.index)).count();
    common as f64 / k as f64
}

/// Every sum of the second pass: Jeffreys, JS, twice TV, twice squared Hellinger, Σp·(max x − x), Σq·(max y − y).
#[derive(Clone, Copy)]
struct All {
    tops: [f64; 2],
}

impl Terms for All {
    const COUNT: usize = 6;

    #[inline(always)]
    fn add<V: Vector>(&self, pair: &Pair<V>, x: V, y: V, sums: &mut [V; MAX_SUMS]) {
        let small = pair.big * pair.s;
        let (p, q) = (pair.by_side(pair.big, small), pair.by_side(small, pair.big));
        sums[0] = (pair.big * pair.t).mul_add(pair.z, sums[0]);
        sums[1] = pair.big.mul_add(pair.js(), sums[1]);
        sums[2] = pair.big.mul_add(pair.z.abs(), sums[2]);
        sums[3] = (pair.big * pair.h).mul_add(pair.h, sums[3]);
        // Clamped: where p is 0 the distance is infinite, and counts for nothing.
        let distance = |top: f64, at: V| V::constant(top) - if pair.near { at } else { at.max(V::constant(-1e30)) };
        sums[4] = p.mul_add(distance(self.tops[0], x), sums[4]);
        sums[5] = q.mul_add(distance(self.tops[1], y), sums[5]);
    }
}
