//! Plain arrays: portable, always compiled, always tested, and what an interpreter such as Miri runs.
//!
//! Lanes are never inlined: sixteen unrolled lanes of every expression would be most of the crate's code and of its build time.

use std::ops::{Add, Div, Mul, Sub};

use super::{Element, Kernel, Mask, Simd, Sum, Vector};

/// The instruction set.
pub struct Scalar;

impl Simd for Scalar {
    type F32 = Array<f32, 16>;
    type F64 = Array<f64, 8>;

    #[inline(never)]
    fn apart<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Scalar>()
    }
}

/// `N` lanes of `T`.
#[derive(Clone, Copy)]
pub struct Array<T, const N: usize>([T; N]);

/// `N` truth values.
#[derive(Clone, Copy)]
pub struct Truth<const N: usize>([bool; N]);

impl<const N: usize> Mask for Truth<N> {
    #[inline(never)]
    fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }
    #[inline(never)]
    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
    #[inline(never)]
    fn all(self) -> bool {
        self.0.iter().all(|&holds| holds)
    }
    #[inline(never)]
    fn bits(self) -> u32 {
        self.0.iter().rev().fold(0, |bits, &holds| 2 * bits + u32::from(holds))
    }
}

macro_rules! operators {
    ($($op:ident $method:ident),*) => {$(
        impl<T: Element, const N: usize> $op for Array<T, N> {
            type Output = Self;
            #[inline(never)]
            fn $method(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i].$method(other.0[i])))
            }
        }
    )*};
}
operators!(Add add, Sub sub, Mul mul, Div div);

macro_rules! vector {
    ($elem:ident, $lanes:literal, $bits:ident, $mantissa:literal, $bias:literal, $half_root:literal) => {
        impl Vector for Array<$elem, $lanes> {
            type Elem = $elem;
            type Mask = Truth<$lanes>;
            type Wide = Array<f64, 8>;

            #[inline(never)]
            fn splat(x: $elem) -> Self {
                Self([x; $lanes])
            }
            #[inline(never)]
            fn load(from: &[$elem]) -> Self {
                let from = &from[..$lanes];
                Self(std::array::from_fn(|i| from[i]))
            }
            #[inline(never)]
            fn store(self, to: &mut [$elem]) {
                to[..$lanes].copy_from_slice(&self.0);
            }
            #[inline(never)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i].mul_add(a.0[i], b.0[i])))
            }
            #[inline(never)]
            fn sqrt(self) -> Self {
                Self(self.0.map($elem::sqrt))
            }
            #[inline(never)]
            fn abs(self) -> Self {
                Self(self.0.map($elem::abs))
            }
            #[inline(never)]
            fn max(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
            }
            #[inline(never)]
            fn min(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }))
            }
            #[inline(never)]
            fn lt(self, other: Self) -> Truth<$lanes> {
                Truth(std::array::from_fn(|i| self.0[i] < other.0[i]))
            }
            #[inline(never)]
            fn eq(self, other: Self) -> Truth<$lanes> {
                Truth(std::array::from_fn(|i| self.0[i] == other.0[i]))
            }
            #[inline(never)]
            fn select(mask: Truth<$lanes>, a: Self, b: Self) -> Self {
                Self(std::array::from_fn(|i| if mask.0[i] { a.0[i] } else { b.0[i] }))
            }
            #[inline(never)]
            fn shift_exponent(self, n: Self) -> Self {
                Self(std::array::from_fn(|i| {
                    let k = n.0[i].to_bits() << $mantissa;
                    $elem::from_bits(self.0[i].to_bits().wrapping_add(k))
                }))
            }
            #[inline(never)]
            fn split_exponent(self) -> (Self, Self) {
                const ONE: $bits = $bias << $mantissa;
                let exponent = |x: $elem| x.to_bits().wrapping_add(ONE - $half_root) >> $mantissa;
                let mantissa = self.0.map(|x| {
                    let scaled = x.to_bits().wrapping_sub(exponent(x) << $mantissa);
                    $elem::from_bits(scaled.wrapping_add(ONE))
                });
                (Self(mantissa), Self(self.0.map(|x| exponent(x) as $elem - $elem::from_f64(f64::from($bias)))))
            }
            #[inline(never)]
            fn align(self, to: Self) -> (Self, Self) {
                // Bits of a positive number grow like its logarithm.
                let power = |i: usize| {
                    let gap = self.0[i].to_bits().wrapping_sub(to.0[i].to_bits());
                    gap.wrapping_add(1 << ($mantissa - 1)).cast_signed() >> $mantissa
                };
                let aligned = std::array::from_fn(|i| {
                    let bits = self.0[i].to_bits().wrapping_sub(power(i).cast_unsigned() << $mantissa);
                    $elem::from_bits(bits)
                });
                (Self(aligned), Self(std::array::from_fn(|i| power(i) as $elem)))
            }
            #[inline(never)]
            fn add_to(self, sum: &mut Sum) {
                for (total, x) in sum.iter_mut().zip(self.0) {
                    *total += x.to_f64();
                }
            }
        }
    };
}
vector!(f32, 16, u32, 23, 127, 0x3f35_04f3);
vector!(f64, 8, u64, 52, 1023, 0x3fe6_a09e_667f_3bcd);
