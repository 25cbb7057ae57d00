//! The machine's limits, measured with the same lanes as the kernels: how fast memory is read and exp is computed.

use rayon::prelude::*;

use crate::pool::{install, threads};
use crate::rows::BLOCK;
use crate::simd::{Element, Kernel, Lanes, Simd, Sum, Vector, dispatch, math, total};

/// Numbers one task reads.
const TASK: usize = 1 << 20;

struct Read<'a>(&'a [f32]);

impl Kernel for Read<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let mut sums = [S::F32::zero(); 8];
        for chunk in self.0.chunks_exact(8 * f32::LANES) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let lanes = &chunk[i * f32::LANES..];
                S::F32::prefetch(lanes.as_ptr().wrapping_add(BLOCK));
                *sum = *sum + S::F32::load(lanes);
            }
        }
        let mut out: Sum = [0.0; 16];
        for sum in sums {
            sum.add_to(&mut out);
        }
        total(&out)
    }
}

struct Exp<'a, T>(&'a [T], usize);

impl<T: Lanes> Kernel for Exp<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let mut out: Sum = [0.0; 16];
        let (magic, low) = (math::magic::<T::In<S>>(0.0), math::lowest::<T::In<S>>(0.0));
        for _ in 0..self.1 {
            let mut sums = [T::In::<S>::zero(); 4];
            for chunk in std::hint::black_box(self.0).chunks_exact(4 * T::LANES) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = T::In::<S>::load(&chunk[i * T::LANES..]);
                    *sum = *sum + math::exp_scaled(x.max(low), magic);
                }
            }
            for sum in sums {
                sum.add_to(&mut out);
            }
        }
        total(&out)
    }
}

/// Sums an array: every number is read once, and next to nothing else happens.
pub fn read_sum(numbers: &[f32], thread_count: usize) -> f64 {
    let count = if thread_count == 0 { threads() } else { thread_count };
    let read = || numbers.par_chunks(TASK).map(|chunk| dispatch(Read(chunk))).collect::<Vec<f64>>();
    install(count, read).into_iter().sum()
}

/// Sums e^x over an array that fits the first-level cache, `repeats` times on every thread.
pub fn exp_sum<T: Lanes>(numbers: &[T], repeats: usize, thread_count: usize) -> f64 {
    let count = if thread_count == 0 { threads() } else { thread_count };
    let run = || (0..count).into_par_iter().map(|_| dispatch(Exp(numbers, repeats))).collect::<Vec<f64>>();
    install(count, run).into_iter().sum()
}
