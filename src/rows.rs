//! Rows: where the numbers of a row lie, and how a block of them becomes lanes.
//!
//! Kernels see blocks of [`BLOCK`] float32 or float64 numbers. A contiguous row of that very type is read in place;
//! anything else (half precision, strides, a temperature, logarithms of probabilities) is converted block by block
//! into a buffer that stays in the first-level cache, so nothing of the input's size is ever copied.

use half::{bf16, f16};

use crate::simd::{Lanes, Simd, Vector, math};

pub use crate::convert::{InPlace, Scratch};

/// Numbers a kernel handles between two additions to its float64 sums.
pub const BLOCK: usize = 1024;

/// Numbers in the unit of work of a thread inside one row. Fixed, so that results do not depend on the thread count.
pub const SEGMENT: usize = 32 * BLOCK;

/// How many of the numbers `left` the next block takes: whole vectors while there are any, so that only what is left of
/// them at the end of a row needs filling up.
#[inline(always)]
pub fn block_of<T: Lanes>(left: usize) -> usize {
    let most = BLOCK.min(left);
    if most < T::LANES { most } else { most - most % T::LANES }
}

/// What the numbers of an argument mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Probabilities: sum to 1.
    Probs,
    /// Non-negative numbers to be normalised.
    Weights,
    /// Logarithms of probabilities.
    LogProbs,
    /// Any real numbers.
    Logits,
}

impl Kind {
    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        match name {
            "probs" => Some(Kind::Probs),
            "weights" => Some(Kind::Weights),
            "log_probs" => Some(Kind::LogProbs),
            "logits" => Some(Kind::Logits),
            _ => None,
        }
    }

    /// True for log-probabilities and logits.
    pub fn is_log(self) -> bool {
        matches!(self, Kind::LogProbs | Kind::Logits)
    }
}

/// Borrowed numbers of one of the supported types.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// float64
    F64(&'a [f64]),
    /// float32
    F32(&'a [f32]),
    /// float16
    F16(&'a [f16]),
    /// bfloat16
    BF16(&'a [bf16]),
}

impl Numbers<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::F64(n) => n.len(),
            Numbers::F32(n) => n.len(),
            Numbers::F16(n) => n.len(),
            Numbers::BF16(n) => n.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if float64 lanes are needed to hold them exactly.
    #[inline]
    pub fn is_wide(&self) -> bool {
        matches!(self, Numbers::F64(_))
    }
}

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Where the numbers of the block after a block lie in memory, to be asked for while that block is worked on: hardware
/// does not look beyond a page, and a block that is converted first would wait for all of its own at once.
#[derive(Clone, Copy)]
pub struct Ahead {
    start: *const u8,
    width: usize,
}

impl Ahead {
    /// Asks for the vector at that place in the block; never reads, so a place outside the array does no harm.
    #[inline(always)]
    pub fn ask<V: Vector>(&self, place: usize) {
        V::prefetch(self.start.wrapping_add(place * self.width).cast());
    }
}

/// What happens to each number before a kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transform {
    /// Nothing.
    Keep,
    /// Division by the temperature.
    Divide(f64),
    /// Division by the temperature, rounded to float32 in float64 lanes too: narrow numbers in wide lanes.
    DivideNarrow(f64),
    /// Natural logarithm: a probability beside a logit.
    Log,
    /// Division by the temperature, then subtraction of the row's maximum: logits too large to exponentiate.
    Below(f64, f64),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    numbers: Numbers<'a>,
    start: usize,
    stride: isize,
    len: usize,
    transform: Transform,
    wide: bool,
}

impl<'a> Row<'a> {
    /// A row of `len` numbers, the first at `start`, `stride` apart. Every one of them must lie inside `numbers`.
    #[inline]
    pub fn new(numbers: Numbers<'a>, start: usize, stride: isize, len: usize, transform: Transform) -> Self {
        let last = start.wrapping_add_signed(stride.wrapping_mul(len.saturating_sub(1) as isize));
        assert!(len == 0 || (start < numbers.len() && last < numbers.len()), "row outside its array");
        let wide = numbers.is_wide();
        Self { numbers, start, stride, len, transform, wide }
    }

    /// Length.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without numbers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if float64 lanes are needed to hold the numbers.
    pub fn is_wide(&self) -> bool {
        self.wide || self.transform == Transform::Log
    }

    /// The same row, to be computed with in float64 lanes if `wide`: a row beside one of float64 numbers.
    pub fn widened(self, wide: bool) -> Self {
        Self { wide: self.wide | wide, ..self }
    }

    /// The same row in float64 lanes, its numbers what they are in float32 ones.
    pub fn in_wide_lanes(self) -> Self {
        let narrow = !self.is_wide();
        let row = self.widened(true);
        match row.transform {
            Transform::Divide(temperature) if narrow => row.with(Transform::DivideNarrow(temperature)),
            _ => row,
        }
    }

    /// The same row under another transform.
    pub fn with(self, transform: Transform) -> Self {
        Self { transform, ..self }
    }

    /// The same row, its numbers relative to `maximum`.
    pub fn below(self, maximum: f64) -> Self {
        match self.transform {
            Transform::Keep => self.with(Transform::Below(1.0, maximum)),
            Transform::Divide(temperature) | Transform::DivideNarrow(temperature) => {
                self.with(Transform::Below(temperature, maximum))
            }
            Transform::Log | Transform::Below(..) => self,
        }
    }

    /// Where the numbers one block after `from` lie.
    #[inline(always)]
    pub fn ahead(&self, from: usize) -> Ahead {
        self.place(from + BLOCK)
    }

    /// Where the number at `index` lies, inside the array or not.
    #[inline(always)]
    fn place(&self, index: usize) -> Ahead {
        let index = self.start.wrapping_add_signed(self.stride.wrapping_mul(index as isize));
        let (start, width) = match self.numbers {
            Numbers::F64(n) => (n.as_ptr().cast::<u8>(), 8),
            Numbers::F32(n) => (n.as_ptr().cast::<u8>(), 4),
            Numbers::F16(n) => (n.as_ptr().cast::<u8>(), 2),
            Numbers::BF16(n) => (n.as_ptr().cast::<u8>(), 2),
        };
        Ahead { start: start.wrapping_add(index.wrapping_mul(width)), width }
    }

    /// One number as the kernels see it, in float64.
    pub fn at(&self, index: usize) -> f64 {
        struct One<'a>(Row<'a>, usize, bool);
        impl crate::simd::Kernel for One<'_> {
            type Output = f64;
            #[inline(always)]
            fn run<S: Simd>(self) -> f64 {
                if self.2 {
                    self.0.block::<S, f64>(self.1, 1, &mut Scratch::new(), 0.0)[0]
                } else {
                    f64::from(self.0.block::<S, f32>(self.1, 1, &mut Scratch::new(), 0.0)[0])
                }
            }
        }
        crate::simd::dispatch(One(*self, index, self.is_wide()))
    }

    /// The numbers `from .. from + len` (at most [`BLOCK`]) as lanes; a last vector is filled up with `pad`.
    #[inline(always)]
    pub fn block<'b, S: Simd, T: InPlace>(
        &'b self,
        from: usize,
        len: usize,
        scratch: &'b mut Scratch<T>,
        pad: T,
    ) -> &'b [T] {
        self.filled::<S, T>(from, len, scratch, Some(pad))
    }

    /// Like [`Row::block`], but a last vector is filled up with its last number.
    #[inline(always)]
    pub fn block_repeating<'b, S: Simd, T: InPlace>(
        &'b self,
        from: usize,
        len: usize,
        scratch: &'b mut Scratch<T>,
    ) -> &'b [T] {
        self.filled::<S, T>(from, len, scratch, None)
    }

    #[inline(always)]
    fn filled<'b, S: Simd, T: InPlace>(
        &'b self,
        from: usize,
        len: usize,
        scratch: &'b mut Scratch<T>,
        pad: Option<T>,
    ) -> &'b [T] {
        let start = self.start.wrapping_add_signed(self.stride * from as isize);
        let padded = len.next_multiple_of(T::LANES);
        let as_they_are = self.stride == 1 && self.transform == Transform::Keep;
        if let Some(numbers) = T::in_place(&self.numbers).filter(|_| as_they_are) {
            if padded == len {
                return &numbers[start..start + len];
            }
            if len < T::LANES && start + T::LANES <= numbers.len() {
                // Part of a vector, with other rows' numbers behind it: read whole, and blended.
                let pad = T::In::<S>::splat(pad.unwrap_or(numbers[start + len - 1]));
                let out = scratch.get(T::LANES);
                let lanes = T::In::<S>::load(&numbers[start..]);
                T::In::<S>::select(T::In::<S>::first(len), lanes, pad).store(out);
                return out;
            }
        }
        let out = scratch.get(padded);
        T::convert::<S>(&self.numbers, start, self.stride, &mut out[..len]);
        match self.transform {
            Transform::Keep => {}
            Transform::Divide(temperature) => {
                let temperature = T::from_f64(temperature);
                out[..len].iter_mut().for_each(|x| *x = *x / temperature);
            }
            Transform::DivideNarrow(temperature) => {
                let temperature = temperature as f32;
                out[..len].iter_mut().for_each(|x| *x = T::from_f64(f64::from(x.to_f64() as f32 / temperature)));
            }
            Transform::Below(temperature, maximum) => {
                let (temperature, maximum) = (T::from_f64(temperature), T::from_f64(maximum));
                out[..len].iter_mut().for_each(|x| *x = *x / temperature - maximum);
            }
            Transform::Log => {
                for lanes in out.chunks_exact_mut(T::LANES) {
                    math::ln_any(T::In::<S>::load(lanes)).store(lanes);
                }
            }
        }
        let pad = pad.unwrap_or(out[len.max(1) - 1]);
        out[len..].fill(pad);
        out
    }

    /// Asks for the memory of the numbers `from .. from + len`, which will be read soon, if they lie side by side.
    #[inline(always)]
    pub fn prefetch<S: Simd>(&self, from: usize, len: usize) {
        if self.stride == 1 {
            let at = self.place(from);
            for place in (0..len).step_by(CACHE_LINE / at.width) {
                at.ask::<S::F32>(place);
            }
        }
    }

    /// Like [`Row::block`], but with the number at index `skip` replaced by `pad`.
    #[inline(always)]
    pub fn block_without<'b, S: Simd, T: InPlace>(
        &'b self,
        from: usize,
        len: usize,
        scratch: &'b mut Scratch<T>,
        pad: T,
        skip: usize,
    ) -> &'b [T] {
        if skip < from || skip >= from + len {
            return self.block::<S, T>(from, len, scratch, pad);
        }
        let mut copy = Scratch::new();
        let block = self.block::<S, T>(from, len, &mut copy, pad);
        let out = scratch.get(block.len());
        out.copy_from_slice(block);
        out[skip - from] = pad;
        out
    }
}

/// Runs `part` on each segment of a row of `len` numbers and merges the results in order. The order, and so every
/// bit, is the same whether the segments run one after another or on many threads.
pub fn over_segments<R: Send>(
    len: usize,
    parallel: bool,
    part: impl Fn(usize, usize) -> R + Sync,
    mut merge: impl FnMut(R, R) -> R,
) -> R {
    use rayon::prelude::*;
    let segments = len.div_ceil(SEGMENT).max(1);
    let range = |i: usize| (i * SEGMENT, ((i + 1) * SEGMENT).min(len));
    if !parallel || segments == 1 {
        let (from, to) = range(0);
        let mut result = part(from, to);
        for i in 1..segments {
            let (from, to) = range(i);
            result = merge(result, part(from, to));
        }
        return result;
    }
    let parts: Vec<R> = (0..segments)
        .into_par_iter()
        .map(|i| {
            let (from, to) = range(i);
            part(from, to)
        })
        .collect();
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_else(|| part(0, len));
    parts.fold(first, merge)
}
