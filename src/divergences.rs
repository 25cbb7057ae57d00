//! The table: one row a divergence. Its name, its term as lane arithmetic on a [`Pair`] (relative to max(p, q)), and
//! how the sum of terms becomes the value. Add a row here and a function in `python/kullback/divergences.py`.

use crate::pair::Pair;
use crate::simd::Vector;

/// The summand of a divergence.
pub trait Term: Copy + Default + Send + Sync {
    /// The term divided by max(p, q).
    fn term<V: Vector>(pair: &Pair<V>) -> V;
}

/// A function of a sum of terms of one sign.
pub trait Divergence: Copy + Send + Sync {
    /// Name in the registry.
    const NAME: &'static str;
    /// The value is KL(p‖q), which the pass that finds the normalisers of logits already yields.
    const IS_KL: bool = false;
    /// What is summed. Divergences that differ only in `finish` share it, and its kernels.
    type Term: Term;
    /// The value from the sum of the terms.
    fn finish(sum: f64) -> f64;
}

macro_rules! divergences {
    (@term $type:ident, |$pair:ident| $term:expr) => {
        impl Term for $type {
            #[inline(always)]
            fn term<V: Vector>($pair: &Pair<V>) -> V {
                $term
            }
        }
    };
    (@term $type:ident, $other:ident) => {};
    (@term_type $type:ident, |$pair:ident| $term:expr) => { $type };
    (@term_type $type:ident, $other:ident) => { $other };
    ($(
        $(#[$doc:meta])*
        $type:ident = $name:literal { sum: {$($term:tt)*}, value: |$sum:ident| $finish:expr $(, is_kl: $is_kl:literal)? }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Default)]
            pub struct $type;
            divergences!(@term $type, $($term)*);
            impl Divergence for $type {
                const NAME: &'static str = $name;
                $(const IS_KL: bool = $is_kl;)?
                type Term = divergences!(@term_type $type, $($term)*);
                #[inline(always)]
                fn finish($sum: f64) -> f64 {
                    $finish
                }
            }
        )*

        /// Names of the table, in its order.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Does something for the divergence of a name.
        pub fn visit<A: Visitor>(name: &str, visitor: A) -> Option<A::Output> {
            match name {
                $($name => Some(visitor.visit($type)),)*
                _ => None,
            }
        }
    };
}

/// What [`visit`] does with a row of the table.
pub trait Visitor {
    /// What it yields.
    type Output;
    /// Called with the row.
    fn visit<D: Divergence>(self, divergence: D) -> Self::Output;
}

divergences! {
    /// KL(p‖q) = Σ p·log(p/q).
    Kl = "kl" { sum: {|x| x.by_side(x.phi_down(), x.phi_up())}, value: |sum| sum, is_kl: true }
    /// KL(q‖p).
    ReverseKl = "reverse_kl" { sum: {|x| x.by_side(x.phi_up(), x.phi_down())}, value: |sum| sum }
    /// ½·KL(p‖m) + ½·KL(q‖m), m = (p + q)/2.
    Js = "js" { sum: {|x| x.js()}, value: |sum| sum }
    /// √JS.
    JsDistance = "js_distance" { sum: {Js}, value: |sum| sum.sqrt() }
    /// KL(p‖q) + KL(q‖p).
    Jeffreys = "jeffreys" { sum: {|x| x.t * x.z}, value: |sum| sum }
    /// ½·Σ|p − q|.
    TotalVariation = "total_variation" { sum: {|x| V::constant(0.5) * x.z.abs()}, value: |sum| sum }
    /// ½·Σ(√p − √q)².
    SquaredHellinger = "squared_hellinger" { sum: {|x| V::constant(0.5) * x.h * x.h}, value: |sum| sum }
    /// √(½·Σ(√p − √q)²).
    Hellinger = "hellinger" { sum: {SquaredHellinger}, value: |sum| sum.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn names_are_unique() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
