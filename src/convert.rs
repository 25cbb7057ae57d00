//! Numbers of any type become those of the lanes: in place where they are of that type, else through a buffer.
//!
//! float16 and bfloat16 are widened sixteen at a time by the instruction set's own conversion; strided numbers one by
//! one. A buffer belongs to one block of one row and stays in the first-level cache.

use half::{bf16, f16};

use crate::rows::{BLOCK, Numbers};
use crate::simd::{Element, Lanes, Simd};

/// Numbers of the buffer for what does not fill a vector, and for short rows: a block's buffer takes longer to clear
/// than they take to compute.
const SHORT: usize = 64;

/// A buffer a block can be converted into; written only where a row needs it.
pub struct Scratch<T> {
    short: Option<[T; SHORT]>,
    block: Option<[T; BLOCK]>,
}

impl<T: Element> Scratch<T> {
    /// An empty buffer.
    #[inline(always)]
    pub fn new() -> Self {
        Self { short: None, block: None }
    }

    /// Room for `len` numbers.
    #[inline(always)]
    #[allow(clippy::unnecessary_lazy_evaluations)] // clearing a buffer is what must not happen again
    pub(crate) fn get(&mut self, len: usize) -> &mut [T] {
        let zero = T::from_f64(0.0);
        if len <= SHORT {
            &mut self.short.get_or_insert_with(|| [zero; SHORT])[..len]
        } else {
            &mut self.block.get_or_insert_with(|| [zero; BLOCK])[..len]
        }
    }
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Element types whose rows can be read in place.
pub trait InPlace: Lanes {
    /// The numbers, if they are of this type.
    fn in_place<'a>(numbers: &Numbers<'a>) -> Option<&'a [Self]>;
    /// Converts `out.len()` numbers.
    fn convert<S: Simd>(numbers: &Numbers<'_>, start: usize, stride: isize, out: &mut [Self]);
}

/// Copies strided numbers.
#[inline(always)]
fn gather<T: Copy>(from: &[T], start: usize, stride: isize, out: &mut [T]) {
    if stride == 1 {
        out.copy_from_slice(&from[start..start + out.len()]);
        return;
    }
    for (i, value) in out.iter_mut().enumerate() {
        *value = from[start.wrapping_add_signed(stride * i as isize)];
    }
}

/// Numbers of two bytes. (A trait and not functions as arguments, which would not be compiled for the instruction set.)
trait Half: Copy + Into<f32> {
    /// Widens the numbers of a slice, a multiple of sixteen.
    fn widen_vectors<S: Simd>(from: &[Self], out: &mut [f32]);
}

impl Half for f16 {
    #[inline(always)]
    fn widen_vectors<S: Simd>(from: &[f16], out: &mut [f32]) {
        S::widen_f16(from, out);
    }
}

impl Half for bf16 {
    #[inline(always)]
    fn widen_vectors<S: Simd>(from: &[bf16], out: &mut [f32]) {
        S::widen_bf16(from, out);
    }
}

/// Widens contiguous numbers of two bytes: whole vectors at once, the rest one by one.
#[inline(always)]
fn widen<S: Simd, H: Half>(from: &[H], out: &mut [f32]) {
    let whole = out.len() - out.len() % f32::LANES;
    let (from, from_rest) = from[..out.len()].split_at(whole);
    let (out, out_rest) = out.split_at_mut(whole);
    H::widen_vectors::<S>(from, out);
    for (&x, out) in from_rest.iter().zip(out_rest) {
        *out = x.into();
    }
}

impl InPlace for f32 {
    #[inline(always)]
    fn in_place<'a>(numbers: &Numbers<'a>) -> Option<&'a [f32]> {
        match numbers {
            Numbers::F32(n) => Some(n),
            _ => None,
        }
    }

    #[inline(always)]
    fn convert<S: Simd>(numbers: &Numbers<'_>, start: usize, stride: isize, out: &mut [f32]) {
        let at = |i: usize| start.wrapping_add_signed(stride * i as isize);
        match numbers {
            Numbers::F32(n) => gather(n, start, stride, out),
            Numbers::F16(n) if stride == 1 => widen::<S, _>(&n[start..], out),
            Numbers::BF16(n) if stride == 1 => widen::<S, _>(&n[start..], out),
            Numbers::F16(n) => out.iter_mut().enumerate().for_each(|(i, value)| *value = n[at(i)].to_f32()),
            Numbers::BF16(n) => out.iter_mut().enumerate().for_each(|(i, value)| *value = n[at(i)].to_f32()),
            Numbers::F64(n) => {
                out.iter_mut().enumerate().for_each(|(i, value)| *value = n[at(i)] as f32);
            }
        }
    }
}

impl InPlace for f64 {
    #[inline(always)]
    fn in_place<'a>(numbers: &Numbers<'a>) -> Option<&'a [f64]> {
        match numbers {
            Numbers::F64(n) => Some(n),
            _ => None,
        }
    }

    #[inline(always)]
    fn convert<S: Simd>(numbers: &Numbers<'_>, start: usize, stride: isize, out: &mut [f64]) {
        if let Numbers::F64(n) = numbers {
            return gather(n, start, stride, out);
        }
        let mut narrow = Scratch::<f32>::new();
        let narrow = narrow.get(out.len());
        f32::convert::<S>(numbers, start, stride, narrow);
        for (value, &x) in out.iter_mut().zip(narrow.iter()) {
            *value = f64::from(x);
        }
    }
}
