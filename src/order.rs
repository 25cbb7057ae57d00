//! The order of a row: its largest numbers and the rank of one of them. The first of equal numbers wins.

use crate::rows::{BLOCK, InPlace, Row, Scratch, over_segments};
use crate::simd::{Kernel, Mask, Simd, Vector, dispatch};

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
                Some(target) if target.index < from => {
                    let (largest, above) = survey::<S, T, CHECK, ABOVE>(block, target.value);
                    found.before += above;
                    largest
                }
                Some(target) if target.index >= from + len => {
                    let (largest, below) = survey::<S, T, CHECK, BELOW>(block, target.value);
                    found.before += block.len() - below;
                    largest
                }
                Some(target) => {
                    found.before += block[..len].iter().enumerate().map(|(i, x)| (from + i, x.to_f64())).fold(
                        0,
                        |count, (i, x)| {
                            count + usize::from(x > target.value || (x == target.value && i < target.index))
                        },
                    );
                    survey::<S, T, CHECK, NOTHING>(block, 0.0).0
                }
                None => survey::<S, T, CHECK, NOTHING>(block, 0.0).0,
            };
            found.valid &= !CHECK || largest.lt(infinity).all();
            if self.k > 0 && bar::<S, T>(&found.top, self.k).is_none_or(|bar| bar.lt(largest).count() > 0) {
                scan::<S, T>(&block[..len], block, from, self.k, &mut found.top);
            }
        }
        found
    }
}

/// What a number must exceed to be among the `k` largest; `None` while there are fewer.
#[inline(always)]
fn bar<S: Simd, T: InPlace>(top: &[Entry], k: usize) -> Option<T::In<S>> {
    (top.len() == k).then(|| T::In::<S>::constant(top[k - 1].value))
}

/// Inserts the numbers of a block that belong to the largest.
#[inline(always)]
fn scan<S: Simd, T: InPlace>(block: &[T], padded: &[T], from: usize, k: usize, top: &mut Vec<Entry>) {
    for (i, lanes) in padded.chunks_exact(T::LANES).enumerate() {
        if bar::<S, T>(top, k).is_some_and(|bar| bar.lt(T::In::<S>::load(lanes)).count() == 0) {
            continue;
        }
        let start = i * T::LANES;
        for (j, &x) in block[start..(start + T::LANES).min(block.len())].iter().enumerate() {
            let entry = Entry { value: x.to_f64(), index: from + start + j };
            if top.len() < k || entry.value > top[k - 1].value {
                insert(top, k, entry);
            }
        }
    }
}

/// What [`survey`] counts: numbers above the bar, numbers below it, or nothing.
const ABOVE: u8 = 1;
const BELOW: u8 = 2;
const NOTHING: u8 = 0;

/// The largest number of each lane (with `CHECK`, NaN counts as +inf) and a count against a bar.
#[inline(always)]
fn survey<S: Simd, T: InPlace, const CHECK: bool, const COUNT: u8>(block: &[T], bar: f64) -> (T::In<S>, usize) {
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
    (a.max(b).max(c.max(d)), count as usize)
}
