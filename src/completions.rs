//! The lowest and the highest value that a completion of two unseen tails can give a divergence.
//!
//! A completion spreads the tail a of p over the tokens that p does not list (those that q alone lists, and those that
//! neither does), at most c on each, and the tail b of q over those that q does not list, at most d on each. Every
//! divergence here is Σ f(p, q), f convex and homogeneous. `docs/topk.md` proves what follows.
//!
//! **Lowest.** One completion serves every f. Water-filling: x = min(c, s·q) beside a known q, y = min(d, w·p) beside a
//! known p, and even shares X/n, Y/n on the n tokens that neither lists. The levels s and w leave X = Y = 0 if s·w ≤ 1;
//! otherwise s = 1/w = X/Y, unless a cap holds on those n tokens. Without caps this is closed form: the bucket's value
//! if a·b ≥ P·Q (P and Q the masses listed by one side only), else f(a, Q) + f(P, b).
//!
//! **Highest.** A convex function of x and y is largest at corners: full tokens at the cap and one remainder. On the n
//! unlisted tokens the sides keep apart as long as there is room. If there is not, the full tokens that go beside known
//! ones go to the smallest, and how many is found by climbing a concave function.

use crate::known::{Four, Known, Mass, add, exact_sum, terms};

/// f of every divergence at the best completion. `caps` are the largest probabilities of an unseen token, or infinity.
pub fn lowest(known: &Known, caps: [f64; 2]) -> Four {
    let [a, b] = known.tail;
    let masses = known.alone_mass;
    if caps.iter().all(|cap| *cap == f64::INFINITY) {
        if known.unseen > 0 && a * b >= masses[0] * masses[1] {
            return known.bucket();
        }
        let beside_q = terms(Mass::new(a), Mass::new(masses[1]));
        return add(known.common, add(beside_q, terms(Mass::new(masses[0]), Mass::new(b))));
    }
    let waters = [0, 1].map(|side| Water::new(known.alone[side].iter().map(|&log| (libm::exp(log), 1.0)).collect()));
    let levels = Levels::find(&waters, known.tail, caps, known.unseen as f64);
    let beside_q =
        waters[1].items.iter().map(|item| terms(Mass::new(caps[0].min(levels.s * item.0)), Mass::new(item.0)));
    let beside_p =
        waters[0].items.iter().map(|item| terms(Mass::new(item.0), Mass::new(caps[1].min(levels.w * item.0))));
    let rest = terms(Mass::new(levels.unseen[0]), Mass::new(levels.unseen[1]));
    // What no token has room for stands beside probabilities that are known to be 0.
    let left = |side: usize, level: f64| {
        let left = known.tail[side] - waters[1 - side].poured(caps[side], level) - levels.unseen[side];
        if level == f64::INFINITY && left > 1e-12 * known.tail[side] { Mass::new(left) } else { Mass::NONE }
    };
    let beside_nothing = add(terms(left(0, levels.s), Mass::NONE), terms(Mass::NONE, left(1, levels.w)));
    beside_q.chain(beside_p).fold(add(known.common, add(rest, beside_nothing)), add)
}

/// Values to pour over, largest first, each with the number of tokens it stands for.
struct Water {
    items: Vec<(f64, f64)>,
    /// Σ value·count from each item on.
    suffix: Vec<f64>,
}

impl Water {
    /// Of those above 0.
    fn new(mut items: Vec<(f64, f64)>) -> Self {
        items.retain(|item| item.0 > 0.0);
        items.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut suffix = vec![0.0; items.len() + 1];
        for (i, &(value, count)) in items.iter().enumerate().rev() {
            suffix[i] = suffix[i + 1] + value * count;
        }
        Self { items, suffix }
    }

    fn with(&self, value: f64, count: f64) -> Self {
        Self::new(self.items.iter().copied().chain([(value, count)]).collect())
    }

    /// The level s with Σ min(cap, s·value) = total, infinite if the caps hold less.
    fn level(&self, cap: f64, total: f64) -> f64 {
        if total <= 0.0 {
            return 0.0;
        }
        let mut clipped = 0.0;
        for (i, &(value, count)) in self.items.iter().enumerate() {
            let level = (total - clipped) / self.suffix[i];
            if level * value <= cap {
                return level;
            }
            clipped += cap * count;
        }
        f64::INFINITY
    }

    fn poured(&self, cap: f64, level: f64) -> f64 {
        self.items.iter().map(|&(value, count)| count * cap.min(level * value)).sum()
    }
}

/// The best completion: levels beside known probabilities, and the masses left for the tokens that neither side lists.
struct Levels {
    s: f64,
    w: f64,
    unseen: [f64; 2],
}

impl Levels {
    fn find(alone: &[Water; 2], tail: [f64; 2], caps: [f64; 2], n: f64) -> Self {
        let ([beside_p, beside_q], [a, b], [c, d]) = (alone, tail, caps);
        let (s, w) = (beside_q.level(c, a), beside_p.level(d, b));
        if n == 0.0 || (a > 0.0 && b > 0.0 && s * w <= 1.0) {
            return Self { s, w, unseen: [0.0; 2] };
        }
        let left = |s: f64, w: f64| [(a - beside_q.poured(c, s)).max(0.0), (b - beside_p.poured(d, w)).max(0.0)];
        if a <= 0.0 || b <= 0.0 {
            return Self { s, w, unseen: left(s, w) };
        }
        let r = common_ratio(alone, tail, caps, [1.0 / w, s]);
        let unseen = left(r, 1.0 / r);
        if unseen[0] <= n * c && unseen[1] <= n * d {
            return Self { s: r, w: 1.0 / r, unseen };
        }
        if c <= r * d {
            // p is full on the unlisted tokens; for q they are tokens beside c.
            let w = beside_p.with(c, n).level(d, b);
            return Self { s: beside_q.level(c, a - n * c), w, unseen: [n * c, n * d.min(w * c)] };
        }
        let s = beside_q.with(d, n).level(c, a);
        Self { s, w: beside_p.level(d, b - n * d), unseen: [n * c.min(s * d), n * d] }
    }
}

/// r where X = r·Y: the root of h(r) = a − r·b − Σ min(c, r·q) + Σ min(r·d, p), which falls between the bounds and is
/// linear from one kink to the next.
fn common_ratio([beside_p, beside_q]: &[Water; 2], [a, b]: [f64; 2], [c, d]: [f64; 2], [low, high]: [f64; 2]) -> f64 {
    let kinks_q = beside_q.items.iter().map(|item| c / item.0);
    let kinks_p = beside_p.items.iter().map(|item| item.0 / d);
    let mut ends: Vec<f64> = kinks_q.chain(kinks_p).filter(|&r| low < r && r < high).collect();
    ends.sort_unstable_by(f64::total_cmp);
    let excess = |r: f64| {
        let of_p: f64 = beside_p.items.iter().map(|item| item.1 * item.0.min(r * d)).sum();
        a - r * b - beside_q.poured(c, r) + of_p
    };
    let at = ends.partition_point(|&r| excess(r) > 0.0);
    let from = if at == 0 { low } else { ends[at - 1] };
    let to = ends.get(at).copied().unwrap_or(high);
    // Which side of every kink this piece is on.
    let inside = if to.is_finite() { 0.5 * (from + to) } else { 2.0 * from + 1.0 };
    let (mut constant, mut slope) = (a, b);
    for &(q, count) in &beside_q.items {
        if inside * q < c { slope += count * q } else { constant -= count * c }
    }
    for &(p, count) in &beside_p.items {
        if inside * d < p { slope -= count * d } else { constant += count * p }
    }
    let root = if slope > 0.0 { constant / slope } else { inside };
    root.clamp(from, to)
}

/// A corner of one tail: tokens at the cap, and at most one with what remains.
#[derive(Clone, Copy)]
struct Corner {
    full: usize,
    cap: f64,
    rest: f64,
}

impl Corner {
    fn new(total: f64, cap: f64, tokens: usize) -> Self {
        if total <= 0.0 || total < cap {
            return Self { full: 0, cap, rest: total.max(0.0) };
        }
        let full = (total / cap).floor();
        if full >= tokens as f64 {
            return Self { full: tokens, cap, rest: 0.0 };
        }
        let rest = total - full * cap;
        // Rounding must not ask for one more token.
        Self { full: full as usize, cap, rest: if rest > 1e-12 * cap { rest } else { 0.0 } }
    }

    fn tokens(&self) -> usize {
        self.full + usize::from(self.rest > 0.0)
    }
}

/// f of every divergence at the worst completion.
pub fn highest(known: &Known, caps: [f64; 2]) -> Four {
    let n = known.unseen;
    let corner = |side: usize| Corner::new(known.tail[side], caps[side], known.alone[1 - side].len() + n);
    let corners = [corner(0), corner(1)];
    if corners[0].tokens() + corners[1].tokens() <= n {
        let lost = |side: usize| Mass::new(known.tail[side] + known.alone_mass[side]);
        return add(known.common, add(terms(lost(0), Mass::NONE), terms(Mass::NONE, lost(1))));
    }
    let crowd = Crowd::new(known, corners);
    let infinite = [infinite(known, corners, 0), infinite(known, corners, 1), false, false];
    std::array::from_fn(
        |which| {
            if infinite[which] { f64::INFINITY } else { known.common[which] + crowd.largest(which) }
        },
    )
}

/// True if some completion gives the side mass where the other has none.
fn infinite(known: &Known, corners: [Corner; 2], side: usize) -> bool {
    let other = 1 - side;
    let has_tail = known.tail[side] > 0.0;
    let beside_nothing = has_tail && known.alone[other].contains(&f64::NEG_INFINITY);
    let may_vanish = corners[other].tokens() < known.alone[side].len() + known.unseen;
    let something = known.alone[side].iter().any(|&log| log > f64::NEG_INFINITY) || (has_tail && known.unseen > 0);
    beside_nothing || (may_vanish && something)
}

/// One side's corner beside the probabilities that only the other side lists, smallest first.
struct Beside {
    corner: Corner,
    known: Vec<Mass>,
    /// Of the tokens in `known` and those left out of it because they are too large to matter.
    tokens: usize,
    /// Σ f(cap, known) over the first so many.
    full: Vec<Four>,
    /// Σ f(0, known) from so many on.
    none: Vec<Four>,
    /// f with this side's mass first or second.
    flipped: bool,
}

impl Beside {
    fn new(corner: Corner, logs: &[f64], flipped: bool) -> Self {
        let (mut logs, tokens) = (logs.to_vec(), logs.len());
        let reach = corner.full + 1;
        if reach < tokens {
            logs.select_nth_unstable_by(reach, f64::total_cmp);
        }
        let larger = exact_sum(logs.iter().skip(reach).map(|&log| libm::exp(log)));
        logs.truncate(reach);
        logs.sort_unstable_by(f64::total_cmp);
        let known: Vec<Mass> = logs.into_iter().map(Mass::from_log).collect();
        let mut beside = Self { corner, known, tokens, full: vec![[0.0; 4]], none: Vec::new(), flipped };
        beside.none.push(beside.terms(Mass::NONE, Mass::new(larger)));
        let cap = Mass::new(corner.cap);
        for i in 0..beside.known.len().min(corner.full) {
            beside.full.push(add(beside.full[i], beside.terms(cap, beside.known[i])));
        }
        for i in (0..beside.known.len()).rev() {
            let last = beside.none[beside.none.len() - 1];
            beside.none.push(add(last, beside.terms(Mass::NONE, beside.known[i])));
        }
        beside.none.reverse();
        beside
    }

    fn terms(&self, own: Mass, known: Mass) -> Four {
        if self.flipped { terms(known, own) } else { terms(own, known) }
    }

    /// Σ f with `full` tokens and, if `rest`, the remainder beside the smallest known ones.
    fn total(&self, full: usize, rest: bool) -> Four {
        let sum = add(self.full[full], self.none[full + usize::from(rest)]);
        if rest { add(sum, self.terms(Mass::new(self.corner.rest), self.known[full])) } else { sum }
    }

    /// Least and most full tokens that can stand beside known ones, if there are any.
    fn range(&self, n: usize, rest: bool) -> Option<(usize, usize)> {
        if rest && (self.corner.rest <= 0.0 || self.tokens == 0) {
            return None;
        }
        let elsewhere = usize::from(!rest && self.corner.rest > 0.0);
        let least = (self.corner.full + elsewhere).saturating_sub(n);
        let most = self.corner.full.min(self.tokens - usize::from(rest));
        (least <= most && elsewhere <= n).then_some((least, most))
    }
}

/// Corners that do not fit apart on the tokens that neither side lists.
struct Crowd {
    sides: [Beside; 2],
    n: usize,
}

impl Crowd {
    fn new(known: &Known, corners: [Corner; 2]) -> Self {
        let sides = [Beside::new(corners[0], &known.alone[1], false), Beside::new(corners[1], &known.alone[0], true)];
        Self { sides, n: known.unseen }
    }

    /// The largest Σ f over everything not listed by both, for one of the four.
    fn largest(&self, which: usize) -> f64 {
        let mut best = 0.0f64;
        for rests in [[false, false], [false, true], [true, false], [true, true]] {
            let ranges = [0, 1].map(|side| self.sides[side].range(self.n, rests[side]));
            let [Some(of_p), Some((least, most))] = ranges else { continue };
            // The best j falls as i grows, and the function of j has one hill.
            let mut j = most;
            for i in of_p.0..=of_p.1 {
                let mut value = self.value([i, j], rests)[which];
                while j > least {
                    let next = self.value([i, j - 1], rests)[which];
                    if next < value {
                        break;
                    }
                    (j, value) = (j - 1, next);
                }
                best = best.max(value);
            }
        }
        best
    }

    /// Σ f with so many full tokens, and perhaps the remainder, of each side beside known ones.
    fn value(&self, beside: [usize; 2], rests: [bool; 2]) -> Four {
        let [x, y] = [0, 1].map(|side| {
            let corner = self.sides[side].corner;
            Corner { full: corner.full - beside[side], rest: if rests[side] { 0.0 } else { corner.rest }, ..corner }
        });
        let known = add(self.sides[0].total(beside[0], rests[0]), self.sides[1].total(beside[1], rests[1]));
        add(known, together(x, y, self.n))
    }
}

/// Σ f over n tokens, the largest x beside the smallest y.
fn together(x: Corner, y: Corner, n: usize) -> Four {
    let overlap = (x.tokens() + y.tokens()).saturating_sub(n);
    let apart = |corner: Corner| {
        // The smallest masses of each side are the ones that overlap.
        let left = corner.tokens() - overlap;
        let full = left.min(corner.full);
        full as f64 * corner.cap.min(f64::MAX) + if left > full { corner.rest } else { 0.0 }
    };
    let mut sum = add(terms(Mass::new(apart(x)), Mass::NONE), terms(Mass::NONE, Mass::new(apart(y))));
    if overlap == 0 {
        return sum;
    }
    let [[x_cap, x_last], [y_cap, y_first]] = [x, y].map(|corner| {
        let small = if corner.rest > 0.0 { corner.rest } else { corner.cap };
        [corner.cap, small].map(Mass::new)
    });
    if overlap == 1 {
        return add(sum, terms(x_last, y_first));
    }
    sum = add(sum, add(terms(x_cap, y_first), terms(x_last, y_cap)));
    let middle = terms(x_cap, y_cap);
    add(sum, middle.map(|term| if overlap > 2 { (overlap - 2) as f64 * term } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use super::{highest, lowest};
    use crate::known::{Four, Known, List, Mass, add, terms};

    fn list(entries: &[(i32, f64)], vocabulary: usize) -> List {
        let logs = entries.iter().map(|&(id, p)| (id, libm::log(p))).collect();
        List::new(logs, None, vocabulary).unwrap_or_else(|| unreachable!("a distribution"))
    }

    fn full(p: &[f64], q: &[f64]) -> Four {
        p.iter().zip(q).map(|(&p, &q)| terms(Mass::new(p), Mass::new(q))).fold([0.0; 4], add)
    }

    fn assert_near(found: Four, wanted: Four) {
        for (a, b) in found.into_iter().zip(wanted) {
            assert!(a == b || (a - b).abs() <= 1e-13 * b.abs().max(1e-3), "{found:?} {wanted:?}");
        }
    }

    #[test]
    fn without_caps_both_ends_are_closed_forms() {
        let (p, q) = (list(&[(0, 0.5), (1, 0.25)], 8), list(&[(0, 0.25), (2, 0.5)], 8));
        let known = Known::new(&p, &q, 8);
        let none = [f64::INFINITY; 2];
        // a·b = 1/16 < P·Q = 1/8: each tail beside what the other side lists.
        assert_near(lowest(&known, none), full(&[0.5, 0.25, 0.25], &[0.25, 0.25, 0.5]));
        assert_near(highest(&known, none), full(&[0.5, 0.25, 0.0, 0.25, 0.0], &[0.25, 0.0, 0.5, 0.0, 0.25]));
    }

    #[test]
    fn caps_pour_what_is_left_on_the_unlisted_tokens() {
        // Ratios 1.5 everywhere would put 0.15 beside q = 0.1; the cap of 0.1 sends the rest to tokens 3 and 4.
        let (p, q) = (list(&[(0, 0.6), (1, 0.1)], 5), list(&[(0, 0.7), (2, 0.1)], 5));
        let known = Known::new(&p, &q, 5);
        let capped = lowest(&known, [0.1, 0.1]);
        let ways = [0.0f64, 0.05, 0.1].into_iter().flat_map(|x| [0.0, 0.05, 0.1].map(|y| (x, y)));
        for (x, y) in ways {
            let (left, right) = (0.5 * (0.3 - x), 0.5 * (0.2 - y));
            let some = full(&[0.6, 0.1, x, left, left], &[0.7, y, 0.1, right, right]);
            assert!(capped.iter().zip(some).all(|(low, value)| *low <= value + 1e-15), "{capped:?} {some:?}");
        }
        assert_near(capped, full(&[0.6, 0.1, 0.1, 0.1, 0.1], &[0.7, 0.2 / 3.0, 0.1, 0.2 / 3.0, 0.2 / 3.0]));
    }

    #[test]
    fn crowded_tails_overlap_where_it_costs_least() {
        // Two unlisted tokens; p needs three tokens at its cap of 0.1, q two.
        let (p, q) = (list(&[(0, 0.6), (1, 0.1)], 5), list(&[(0, 0.6), (2, 0.2)], 5));
        let known = Known::new(&p, &q, 5);
        let found = highest(&known, [0.1, 0.1]);
        let of_p = [0.6, 0.1, 0.1, 0.1, 0.1];
        let ways = [[0.1, 0.1, 0.0], [0.1, 0.0, 0.1], [0.0, 0.1, 0.1]];
        let values = ways.map(|y| full(&of_p, &[0.6, y[0], 0.2, y[1], y[2]]));
        let best = values.into_iter().reduce(|a, b| std::array::from_fn(|i| a[i].max(b[i])));
        assert_near(found, best.unwrap_or([0.0; 4]));
    }
}
