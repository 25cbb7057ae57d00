//! The order of a row: its largest numbers and the rank of one of them. The first of equal numbers wins.

use crate::rows::{BLOCK, InPlace, Row, Scratch, over_segments};
use crate::simd::{Kernel, Mask, SUM_LANES, Simd, Vector, dispatch};

/// A number and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The number.
    pub value: f64,
    /// Its column.
    pub index: usize,
}

/// What [`order`] finds.
#[derive(Clone, Debug)]
pub struct Order {
    /// The largest numbers, largest first.
    pub top: Vec<Entry>,
    /// Numbers before the target in the order; the target's rank less one.
    pub before: usize,
    /// False if the row holds NaN or +inf.
    pub valid: bool,
}

/// The `k` largest numbers of a row, and how many come before its number at `target`.
pub fn order(row: &Row<'_>, k: usize, target: Option<usize>, parallel: bool) -> Order {
    if row.is_wide() {
        order_in::<f64, true>(row, k, target, parallel)
    } else {
        order_in::<f32, true>(row, k, target, parallel)
    }
}

/// The first maximum of a row, or `None` if the row has NaN, +inf or no mass.
pub fn peak(row: &Row<'_>, parallel: bool) -> Option<Entry> {
    let found = order(row, 1, None, parallel);
    found.top.first().copied().filter(|top| found.valid && top.value.is_finite())
}

/// [`order`] of a row that is known to hold neither NaN nor +inf.
pub fn order_of_valid(row: &Row<'_>, k: usize, target: Option<usize>, parallel: bool) -> Order {
    if row.is_wide() {
        order_in::<f64, false>(row, k, target, parallel)
    } else {
        order_in::<f32, false>(row, k, target, parallel)
    }
}

fn order_in<T: InPlace, const CHECK: bool>(row: &Row<'_>, k: usize, target: Option<usize>, parallel: bool) -> Order {
    let k = k.min(row.len());
    let target = target.map(|index| Entry { value: row.at(index), index });
    if !parallel {
        // The answer is exact, so cutting the row would only make the list of the largest start anew.
        let (from, to) = (0, row.len());
        return dispatch(Scan::<T, CHECK> { row: *row, from, to, k, target, elem: std::marker::PhantomData });
    }
    over_segments(
        row.len(),
        parallel,
        |from, to| dispatch(Scan::<T, CHECK> { row: *row, from, to, k, target, elem: std::marker::PhantomData }),
        |mut a, b| {
            for entry in b.top {
                insert(&mut a.top, k, entry);
            }
            Order { top: a.top, before: a.before + b.before, valid: a.valid & b.valid }
        },
    )
}

/// Inserts an entry that stands after all entries of `top` in the row.
fn insert(top: &mut Vec<Entry>, k: usize, entry: Entry) {
    let at = top.partition_point(|other| other.value >= entry.value);
    if at < k {
        top.truncate(k - 1);
        top.insert(at, entry);
    }
}

struct Scan<'a, T, const CHECK: bool> {
    row: Row<'a>,
    from: usize,
    to: usize,
    k: usize,
    target: Option<Entry>,
    elem: std::marker::PhantomData<T>,
}

impl<T: InPlace, const CHECK: bool> Kernel for Scan<'_, T, CHECK> {
    type Output = Order;

    #[inline(always)]
    fn run<S: Simd>(self) -> Order {
        let mut scratch = Scratch::<T>::new();
        let none = T::from_f64(f64::NEG_INFINITY);
        let infinity = T::In::<S>::constant(f64::INFINITY);
        let mut found = Order { top: Vec::with_capacity(self.k + 1), before: 0, valid: true };
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let block = self.row.block::<S, T>(from, len, &mut scratch, none);
            let largest = match self.target {
                // What precedes the target counts if it is no smaller, what follows it if it is larger.
                Some(target) if target.index >= from + len => {
                    let (largest, below) = survey::<S, T, CHECK, BELOW>(block, target.value);
                    found.before += block.len() - below;
                    largest
                }
                Some(target) => {
                    let (largest, above) = survey::<S, T, CHECK, ABOVE>(block, target.value);
                    found.before += above;
                    if target.index >= from {
                        let (bar, preceding) = (T::from_f64(target.value), &block[..target.index - from]);
                        found.before += preceding.iter().map(|&x| usize::from(x == bar)).sum::<usize>();
                    }
                    largest
                }
                None => survey::<S, T, CHECK, NOTHING>(block, 0.0).0,
            };
            let top = largest[0].max(largest[1]);
            found.valid &= !CHECK || top.lt(infinity).all();
            if self.k == 0 {
                continue;
            }
            // A number that is not among the k largest is not worth looking at.
            let least = match bar::<S, T>(&found.top, self.k) {
                Some(bar) if bar.lt(top).count() == 0 => continue,
                Some(bar) => bar,
                None => T::In::<S>::splat(at_least::<S, T>(largest, self.k)),
            };
            scan::<S, T>(&block[..len], block, least, from, self.k, &mut found.top);
        }
        found
    }
}

/// What a number must exceed to be among the `k` largest; `None` while there are fewer.
#[inline(always)]
fn bar<S: Simd, T: InPlace>(top: &[Entry], k: usize) -> Option<T::In<S>> {
    (top.len() == k).then(|| T::In::<S>::constant(top[k - 1].value))
}

/// A number that at least `k` numbers of a block reach: the k-th largest of the largest of its parts, or −∞.
#[inline(always)]
fn at_least<S: Simd, T: InPlace>(largest: [T::In<S>; 2], k: usize) -> T {
    let mut found = T::from_f64(f64::NEG_INFINITY);
    if k > 2 * T::LANES {
        return found;
    }
    let mut lanes = [found; 2 * SUM_LANES];
    largest[0].store(&mut lanes);
    largest[1].store(&mut lanes[T::LANES..]);
    for &x in &lanes[..2 * T::LANES] {
        let bar = T::In::<S>::splat(x);
        let below = largest[0].lt(bar).count() + largest[1].lt(bar).count();
        if below as usize + k <= 2 * T::LANES && x > found {
            found = x;
        }
    }
    found
}

/// Inserts the numbers of a block that belong to the largest and are no less than `least`.
#[inline(always)]
fn scan<S: Simd, T: InPlace>(
    block: &[T],
    padded: &[T],
    mut least: T::In<S>,
    from: usize,
    k: usize,
    top: &mut Vec<Entry>,
) {
    let all = (1u32 << T::LANES) - 1;
    for (i, lanes) in padded.chunks_exact(T::LANES).enumerate() {
        let lanes = T::In::<S>::load(lanes);
        // Once there are k, the first of equal numbers wins.
        let mut left = if top.len() < k { all & !lanes.lt(least).bits() } else { least.lt(lanes).bits() };
        let start = i * T::LANES;
        while left != 0 {
            let at = start + left.trailing_zeros() as usize;
            left &= left - 1;
            let Some(&x) = block.get(at) else { break };
            let entry = Entry { value: x.to_f64(), index: from + at };
            if top.len() < k || entry.value > top[k - 1].value {
                insert(top, k, entry);
                if let Some(bar) = bar::<S, T>(top, k) {
                    least = bar;
                }
            }
        }
    }
}

/// What [`survey`] counts: numbers above the bar, numbers below it, or nothing.
const ABOVE: u8 = 1;
const BELOW: u8 = 2;
const NOTHING: u8 = 0;

/// The largest number of each lane of two halves (with `CHECK`, NaN counts as +inf) and a count against a bar.
#[inline(always)]
fn survey<S: Simd, T: InPlace, const CHECK: bool, const COUNT: u8>(block: &[T], bar: f64) -> ([T::In<S>; 2], usize) {
    let bar = T::In::<S>::constant(bar);
    let infinity = T::In::<S>::constant(f64::INFINITY);
    let mut count = 0;
    let mut add = |largest: &mut T::In<S>, lanes: T::In<S>| {
        *largest = lanes.max(*largest);
        if CHECK {
            *largest = T::In::<S>::select(lanes.eq(lanes), *largest, infinity);
        }
        match COUNT {
            ABOVE => count += bar.lt(lanes).count(),
            BELOW => count += lanes.lt(bar).count(),
            _ => {}
        }
    };
    // Four running maxima: one would wait for itself.
    let mut largest = [T::In::<S>::constant(f64::NEG_INFINITY); 4];
    let fours = block.chunks_exact(4 * T::LANES);
    for lanes in fours.remainder().chunks_exact(T::LANES) {
        add(&mut largest[0], T::In::<S>::load(lanes));
    }
    for four in fours {
        for (i, largest) in largest.iter_mut().enumerate() {
            add(largest, T::In::<S>::load(&four[i * T::LANES..]));
        }
    }
    let [a, b, c, d] = largest;
    ([a.max(b), c.max(d)], count as usize)
}
