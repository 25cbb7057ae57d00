//! What is known of a pair of rows when only the largest probabilities of each are listed.
//!
//! Tokens fall into four classes: listed by both sides, by p alone, by q alone, by neither. An id that one side does not
//! list has an unknown probability there, a part of that side's tail, which is the mass outside its list.
//!
//! Four divergences are summed together: every one is Σ f(p, q) with f convex, homogeneous (f(cp, cq) = c·f(p, q)) and
//! never negative, taken from the larger side through t = log q/p as everywhere in this crate. `docs/topk.md` derives
//! what the tails allow.

use std::cmp::Ordering;

use crate::scalar::{phi, phi_mirrored, psi2};

/// The divergences, in the order of [`Four`].
pub const NAMES: [&str; 4] = ["kl", "reverse_kl", "js", "total_variation"];

/// A tail that is 1 less a list, and smaller than this share of what lies outside the largest, is but rounding.
const FLOOR: f64 = 1.0 / (1u64 << 49) as f64;

/// One number for each of [`NAMES`].
pub type Four = [f64; 4];

/// A probability and its logarithm, which survives where the probability underflows.
#[derive(Clone, Copy, Debug)]
pub struct Mass {
    /// The probability.
    pub value: f64,
    /// Its logarithm.
    pub log: f64,
}

impl Mass {
    /// No mass.
    pub const NONE: Mass = Mass { value: 0.0, log: f64::NEG_INFINITY };

    /// From a logarithm.
    pub fn from_log(log: f64) -> Self {
        Self { value: libm::exp(log), log }
    }

    /// From a probability.
    pub fn new(value: f64) -> Self {
        Self { value, log: libm::log(value) }
    }
}

/// Adds term by term.
pub fn add(a: Four, b: Four) -> Four {
    std::array::from_fn(|i| a[i] + b[i])
}

/// f(p, q).
pub fn terms(p: Mass, q: Mass) -> Four {
    terms_at(p.value.max(q.value), q.log - p.log)
}

/// f(p, q) from the larger of the two and t = log q/p.
pub fn terms_at(larger: f64, t: f64) -> Four {
    if t.is_nan() {
        return [0.0; 4]; // both are zero
    }
    let s = -t.abs();
    let (down, up) = (phi(s), phi_mirrored(s));
    let (kl, reverse) = if t > 0.0 { (up, down) } else { (down, up) };
    // What is infinite counts even if the probability beside it has underflowed.
    let weighted = |term: f64| if term == f64::INFINITY { term } else { larger * term };
    let js = (0.25 + 0.25 * libm::exp(s)) * psi2(s);
    [weighted(kl), weighted(reverse), larger * js, -0.5 * larger * libm::expm1(s)]
}

/// A sum that keeps what rounding drops (Neumaier).
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact {
    sum: f64,
    lost: f64,
}

impl Exact {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        let (large, small) = if self.sum.abs() >= x.abs() { (self.sum, x) } else { (x, self.sum) };
        self.lost += (large - sum) + small;
        self.sum = sum;
    }

    /// The sum.
    pub fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// The sum of some numbers.
pub fn exact_sum(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Exact::default();
    numbers.into_iter().for_each(|x| sum.add(x));
    sum.value()
}

/// The list of one row, normalised: together with the tail it sums to 1.
#[derive(Clone, Debug)]
pub struct List {
    /// Ids and log-probabilities, ascending by id.
    pub entries: Vec<(i32, f64)>,
    /// Mass outside the list.
    pub tail: f64,
    /// The tail is 1 less the list, rather than known by itself.
    pub derived: bool,
    /// Logarithm of the smallest listed probability.
    pub smallest: f64,
}

impl List {
    /// From entries in any order and, if it is known by itself, the logarithm of the tail; `None` if there is no
    /// distribution. A list that reaches a mass of 1, or holds all of the vocabulary, has no tail.
    pub fn new(mut entries: Vec<(i32, f64)>, log_tail: Option<f64>, vocabulary: usize) -> Option<Self> {
        if entries.iter().any(|&(_, log)| log.is_nan() || log == f64::INFINITY) {
            return None;
        }
        entries.sort_unstable_by_key(|&(id, _)| id);
        let (slack, outside) = one_less(&entries);
        let known = log_tail.filter(|_| entries.len() < vocabulary).map(libm::exp);
        // The total less 1.
        let (tail, excess) = match known {
            Some(tail) => (tail, tail - slack),
            None if slack > FLOOR * outside && entries.len() < vocabulary => (slack, 0.0),
            None => (0.0, -slack),
        };
        let shift = libm::log1p(excess);
        if !shift.is_finite() {
            return None;
        }
        let smallest = entries.iter().fold(f64::INFINITY, |least, &(_, log)| least.min(log)) - shift;
        for (_, log) in &mut entries {
            *log -= shift;
        }
        Some(Self { entries, tail: tail / (1.0 + excess), derived: known.is_none(), smallest })
    }

    /// The list as a whole distribution.
    fn alone(&self) -> Option<Self> {
        let shift = libm::log1p(-one_less(&self.entries).0);
        let entries = self.entries.iter().map(|&(id, log)| (id, log - shift)).collect();
        shift.is_finite().then_some(Self { entries, tail: 0.0, derived: true, smallest: self.smallest - shift })
    }
}

/// 1 less the listed mass, and 1 less the largest. Only what lies outside the largest is rounded: 1 − e^l is exact to
/// its own last digits.
fn one_less(entries: &[(i32, f64)]) -> (f64, f64) {
    let mut top: Option<usize> = None;
    for (i, entry) in entries.iter().enumerate() {
        if top.is_none_or(|at| entry.1 > entries[at].1) {
            top = Some(i);
        }
    }
    let Some(top) = top else { return (1.0, 1.0) };
    let outside = -libm::expm1(entries[top].1);
    let others = entries.iter().enumerate().filter(|&(i, _)| i != top).map(|(_, &(_, log))| -libm::exp(log));
    (exact_sum(std::iter::once(outside).chain(others)), outside)
}

/// Two lists, matched.
#[derive(Clone, Debug)]
pub struct Known {
    /// Σ f over the ids that both list.
    pub common: Four,
    /// Log-probabilities of the ids that only this side lists.
    pub alone: [Vec<f64>; 2],
    /// Their sums.
    pub alone_mass: [f64; 2],
    /// Mass outside each list.
    pub tail: [f64; 2],
    /// Logarithm of each side's smallest listed probability.
    pub smallest: [f64; 2],
    /// Tokens that neither lists.
    pub unseen: usize,
    /// Σ (q − p) over the ids that both list, if the tails are but 1 less the lists.
    moved: Option<f64>,
}

impl Known {
    /// Matches two lists.
    pub fn new(p: &List, q: &List, vocabulary: usize) -> Self {
        let (mut common, mut moved) = ([0.0; 4], Exact::default());
        let mut alone = [Vec::new(), Vec::new()];
        let (mut i, mut j, mut both) = (0, 0, 0);
        while i < p.entries.len() || j < q.entries.len() {
            let next = |list: &List, at: usize| list.entries.get(at).map_or(i64::MAX, |entry| i64::from(entry.0));
            let (a, b) = (next(p, i), next(q, j));
            match a.cmp(&b) {
                Ordering::Less => alone[0].push(p.entries[i].1),
                Ordering::Greater => alone[1].push(q.entries[j].1),
                Ordering::Equal => {
                    let (from, to) = (p.entries[i].1, q.entries[j].1);
                    let (larger, t) = (libm::exp(from.max(to)), to - from);
                    common = add(common, terms_at(larger, t));
                    if !t.is_nan() {
                        moved.add(-larger * libm::expm1(-t.abs()) * if t > 0.0 { 1.0 } else { -1.0 });
                    }
                    both += 1;
                }
            }
            i += usize::from(a <= b);
            j += usize::from(b <= a);
        }
        let unseen = (vocabulary + both).saturating_sub(p.entries.len() + q.entries.len());
        let moved = (p.derived && q.derived).then(|| moved.value());
        let alone_mass = [0, 1].map(|side: usize| exact_sum(alone[side].iter().map(|&log| libm::exp(log))));
        Self { common, alone, alone_mass, tail: [p.tail, q.tail], smallest: [p.smallest, q.smallest], unseen, moved }
    }

    /// Everything that is not listed by both sides as one outcome.
    pub fn bucket(&self) -> Four {
        let [p, q] = [0, 1].map(|side| Mass::new(self.tail[side] + self.alone_mass[side]));
        let t = match self.moved {
            // What the common ids gained the bucket lost: with more digits than 1 less each list has.
            Some(moved) if moved.abs() < 0.5 * p.value => libm::log1p(-moved / p.value),
            _ => q.log - p.log,
        };
        add(self.common, terms_at(p.value.max(q.value), t))
    }
}

/// Both lists as whole distributions: an id that a side does not list has probability 0 there. `None` without mass.
pub fn renormalised(p: &List, q: &List, vocabulary: usize) -> Option<Four> {
    let (p, q) = (p.alone()?, q.alone()?);
    let known = Known::new(&p, &q, vocabulary);
    let [p_only, q_only] = known.alone_mass.map(Mass::new);
    Some(add(known.common, add(terms(p_only, Mass::NONE), terms(Mass::NONE, q_only))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(i32, f64)], vocabulary: usize) -> List {
        let logs = entries.iter().map(|&(id, p)| (id, libm::log(p))).collect();
        List::new(logs, None, vocabulary).unwrap_or_else(|| unreachable!("a distribution"))
    }

    #[test]
    fn a_tail_has_digits_of_its_own() {
        let found = List::new(vec![(0, -1e-12)], None, 10).map(|list| list.tail);
        assert!(found.is_some_and(|tail| (tail / 1e-12 - 1.0).abs() < 1e-11));
    }

    #[test]
    fn classes_and_the_bucket() {
        let p = list(&[(3, 0.5), (1, 0.25)], 6);
        let q = list(&[(3, 0.25), (2, 0.5)], 6);
        let known = Known::new(&p, &q, 6);
        assert_eq!((known.unseen, known.alone[0].len(), known.alone[1].len()), (3, 1, 1));
        let kl = 0.5 * std::f64::consts::LN_2 + 0.5 * libm::log(0.5 / 0.75);
        assert!((known.bucket()[0] - kl).abs() < 1e-15);
        assert_eq!(known.bucket()[3], 0.25);
    }

    #[test]
    fn a_whole_distribution_has_no_tail() {
        let p = list(&[(0, 0.5), (1, 0.5000001)], 2);
        assert_eq!(p.tail, 0.0);
        let same = renormalised(&p, &list(&[(1, 0.25), (0, 0.25)], 9), 9);
        // 5e-8 apart: squared in the first three.
        assert!(same.is_some_and(|[kl, reverse, js, distance]| kl.max(reverse).max(js) < 1e-14 && distance < 1e-7));
        assert!(List::new(vec![(0, f64::NAN)], None, 2).is_none());
        assert!(renormalised(&p, &List::new(vec![], None, 2).unwrap_or_else(|| p.clone()), 2).is_none());
    }
}
