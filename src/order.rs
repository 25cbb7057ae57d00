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

/// [`order`] of a row that is known to hold neither NaN nor +inf.
pub fn order_of_valid(row: &Row<'_>, k: usize, target: Option<usize>, parallel: bool) -> Order {
    if row.is_wide() {
        order_in::<f64, false>(row, k, target, parallel)
    } else {
        order_in::<f32, false>(row, k, target, parallel)
    }
}

fn order_in<T: InPlace, const CHECK: bool>(
    row: &Row<'_>,
    k: usize,
    target: Option<usize>,
    parallel: bool,
) -> Order {
    let k = k.min(row.len());
    let target = target.map(|index| Entry { value: row.at(index), index });
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
            let mut largest = T::In::<S>::splat(none);
            for lanes in block.chunks_exact(T::LANES) {
                let lanes = T::In::<S>::load(lanes);
                largest = lanes.max(largest);
                if CHECK {
                    // NaN counts as +inf, which sticks.
                    largest = T::In::<S>::select(lanes.eq(lanes), largest, infinity);
                }
            }
            found.valid &= !CHECK || largest.lt(infinity).all();
            if let Some(target) = self.target {
                found.before += before::<S, T>(&block[..len], block, from, target);
            }
            if self.k > 0 {
                let full = found.top.len() == self.k;
                let bar = if full { found.top[self.k - 1].value } else { f64::NAN };
                if !full || T::In::<S>::splat(T::from_f64(bar)).lt(largest).count() > 0 {
                    scan::<S, T>(&block[..len], block, from, self.k, &mut found.top);
                }
            }
        }
        found
    }
}

/// Inserts the numbers of a block that belong to the largest.
#[inline(always)]
fn scan<S: Simd, T: InPlace>(block: &[T], padded: &[T], from: usize, k: usize, top: &mut Vec<Entry>) {
    for (i, lanes) in padded.chunks_exact(T::LANES).enumerate() {
        if top.len() == k {
            let bar = T::In::<S>::splat(T::from_f64(top[k - 1].value));
            if bar.lt(T::In::<S>::load(lanes)).count() == 0 {
                continue;
            }
        }
        let start = i * T::LANES;
        for (j, &x) in block[start..(start + T::LANES).min(block.len())].iter().enumerate() {
            insert(top, k, Entry { value: x.to_f64(), index: from + start + j });
        }
    }
}

/// How many numbers of a block come before the target in the order of the row.
#[inline(always)]
fn before<S: Simd, T: InPlace>(block: &[T], padded: &[T], from: usize, target: Entry) -> usize {
    let bar = T::In::<S>::splat(T::from_f64(target.value));
    let mut count = 0;
    if target.index < from {
        for lanes in padded.chunks_exact(T::LANES) {
            count += bar.lt(T::In::<S>::load(lanes)).count() as usize;
        }
    } else if target.index >= from + block.len() {
        for lanes in padded.chunks_exact(T::LANES) {
            count += T::LANES - T::In::<S>::load(lanes).lt(bar).count() as usize;
        }
    } else {
        for (i, &x) in block.iter().enumerate() {
            let x = x.to_f64();
            count += usize::from(x > target.value || (x == target.value && from + i < target.index));
        }
    }
    count
}
