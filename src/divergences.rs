//! The table: one row a divergence. Add a row here and a function in `python/kullback/divergences.py`.
//!
//! A row gives its name, its parameter if it has one (with its default), and how it is computed, in one of two ways:
//!
//! - `sum`: the term as lane arithmetic on a [`Pair`], relative to max(p, q), and `value`: how the sum of terms becomes
//!   the value. Computed in the narrowest lanes that hold the numbers. `weights`: the term from p and q themselves,
//!   where that is shorter, and the zeros (of p, of q) that it is blind to. `series`: the generator of a smooth one as a
//!   power series, by which close rows of logits take one pass (see [`crate::series`]).
//! - `measure`: a struct that holds whatever its parameter lets it prepare once a call, and takes passes of its own, in
//!   float64 lanes (see [`crate::sided`]): powers, mixtures, more than one sum.
//!
//! A row with both is computed by its `measure`, which may fall back on the sum.

use crate::cosine::CauchySchwarzMeasure;
use crate::error::{Error, Result};
use crate::evaluate::value;
use crate::jet::Jet;
use crate::mixtures::{Acceptance, JensenShannon, SkewDivergence};
use crate::pair::Pair;
use crate::powers::{AlphaDivergence, RenyiDivergence};
use crate::prepare::Prepared;
use crate::simd::Vector;
use crate::weights::Weights;

/// The summand of a divergence.
pub trait Term: Copy + Default + Send + Sync {
    /// The term of weights is infinite where p is zero and q is not, and where q is zero and p is not, and
    /// [`Term::of_weights`] says otherwise.
    const INFINITE_AT_ZERO: [bool; 2] = [false, false];
    /// The term divided by max(p, q).
    fn term<V: Vector>(pair: &Pair<V>) -> V;
    /// The term of weights, if there is a shorter way to it than a pair.
    #[inline(always)]
    fn of_weights<V: Vector>(at: &Weights<V>) -> V {
        let pair = at.pair();
        pair.big * Self::term(&pair)
    }
    /// g(t) of Σ p·g(log q/p), if it is smooth and no other pass is cheaper; see [`crate::series`].
    fn generator() -> Option<Jet> {
        None
    }
}

/// A function of a sum of terms of one sign.
pub trait Divergence: Copy + Send + Sync {
    /// Name in the registry.
    const NAME: &'static str;
    /// The value is KL(p‖q), which the pass that finds the normalisers of logits already yields.
    const IS_KL: bool = false;
    /// An error of the normalisers enters in the first order, where it enters the others squared.
    const IS_FIRST_ORDER: bool = false;
    /// What is summed. Divergences that differ only in `finish` share it, and its kernels.
    type Term: Term;
    /// The value from the sum of the terms.
    fn finish(sum: f64) -> f64;
}

/// A number for two prepared rows.
pub trait Measure: Copy + Send + Sync {
    /// Logits must be read and normalised in float64 lanes.
    fn is_wide(&self) -> bool;
    /// The value; NaN if a row has no distribution.
    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64;
    /// See [`Term::generator`].
    fn generator(&self) -> Option<Jet> {
        None
    }
    /// The value from Σ p·g, or `None` where that does not give it.
    fn of_sum(&self, sum: f64) -> Option<f64> {
        Some(sum)
    }
    /// Does something for the divergence that this is, if it is one sum and no more.
    fn as_sum<A: Visitor>(&self, _visitor: A) -> Option<A::Output> {
        None
    }
}

macro_rules! divergences {
    (@term $type:ident, {|$pair:ident| $term:expr} [$(|$at:ident| $weights:expr $(, $infinite:expr)?)?] [$($series:expr)?]) => {
        impl Term for $type {
            $($(const INFINITE_AT_ZERO: [bool; 2] = $infinite;)?)?
            #[inline(always)]
            fn term<V: Vector>($pair: &Pair<V>) -> V {
                $term
            }
            $(
                #[inline(always)]
                fn of_weights<V: Vector>($at: &Weights<V>) -> V {
                    $weights
                }
            )?
            $(fn generator() -> Option<Jet> {
                $series
            })?
        }
    };
    (@term $type:ident, {$other:ident} [] []) => {};
    (@term_type $type:ident, {|$pair:ident| $term:expr}) => { $type };
    (@term_type $type:ident, {$other:ident}) => { $other };

    // What a row defines.
    (@define $doc:tt $type:ident $name:literal measure: $measure:ident, $new:expr) => {};
    (@define [$($doc:meta)*] $type:ident $name:literal
        sum: $term:tt, $(weights: {$($weights:tt)*},)? $(series: {$($series:tt)*},)? value: |$sum:ident| $finish:expr
        $(, is_kl: $is_kl:literal)? $(, is_first_order: $first:literal)?
        $(; $($measure:tt)*)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $type;
        divergences!(@term $type, $term [$($($weights)*)?] [$($($series)*)?]);
        impl Divergence for $type {
            const NAME: &'static str = $name;
            $(const IS_KL: bool = $is_kl;)?
            $(const IS_FIRST_ORDER: bool = $first;)?
            type Term = divergences!(@term_type $type, $term);
            #[inline(always)]
            fn finish($sum: f64) -> f64 {
                $finish
            }
        }
        impl Measure for $type {
            fn is_wide(&self) -> bool {
                false
            }
            fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
                value(*self, rows, parallel)
            }
            fn generator(&self) -> Option<Jet> {
                <<Self as Divergence>::Term as Term>::generator()
            }
            fn of_sum(&self, sum: f64) -> Option<f64> {
                Some(Self::finish(sum))
            }
            fn as_sum<A: Visitor>(&self, visitor: A) -> Option<A::Output> {
                Some(visitor.visit(*self))
            }
        }
    };

    // What computes a row, and how it is made.
    (@measure $type:ident $(sum: $term:tt, $(weights: $weights:tt,)? $(series: $series:tt,)? value: |$sum:ident| $finish:expr;)? measure: $measure:ident, $new:expr) => {
        $measure
    };
    (@measure $type:ident $($sum:tt)*) => { $type };
    (@new $type:ident $(sum: $term:tt, $(weights: $weights:tt,)? $(series: $series:tt,)? value: |$sum:ident| $finish:expr;)? measure: $measure:ident, $new:expr) => {
        $new
    };
    (@new $type:ident $($sum:tt)*) => { Some($type) };

    // The parameter of a row, bound to its name.
    (@bind $name:literal $given:ident) => {
        if $given.is_some() {
            return Err(Error::Parameter(format!("{} takes no parameter", $name)));
        }
    };
    (@bind $name:literal $given:ident $parameter:ident) => {
        let Some($parameter) = $given else {
            return Err(Error::Parameter(format!("{} needs {}", $name, stringify!($parameter))));
        };
    };
    (@bind $name:literal $given:ident $parameter:ident $default:literal) => {
        let $parameter = $given.unwrap_or($default);
    };

    // What a row with a sum is visited as.
    (@visit $visitor:ident $type:ident measure: $($rest:tt)*) => { None };
    (@visit $visitor:ident $type:ident sum: $($rest:tt)*) => { Some($visitor.visit($type)) };

    ($(
        $(#[$doc:meta])*
        $type:ident $(($parameter:ident $(= $default:literal)?))? = $name:literal { $($body:tt)* }
    )*) => {
        $(divergences!(@define [$($doc)*] $type $name $($body)*);)*

        /// Names of the table, in its order.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Does something for the divergence of a name; `None` for a row without a sum.
        pub fn visit<A: Visitor>(name: &str, visitor: A) -> Option<A::Output> {
            match name {
                $($name => divergences!(@visit visitor $type $($body)*),)*
                _ => None,
            }
        }

        /// A row of the table with its parameter.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Row {
            $($(#[$doc])* $type(divergences!(@measure $type $($body)*)),)*
        }

        impl Row {
            /// The row of a name with its parameter; the default one for `None`.
            pub fn new(name: &str, given: Option<f64>) -> Result<Row> {
                match name {
                    $($name => {
                        divergences!(@bind $name given $($parameter $($default)?)?);
                        let made = divergences!(@new $type $($body)*).map(Row::$type);
                        made.ok_or_else(|| Error::Parameter(format!("{} of {given:?}", $name)))
                    })*
                    _ => Err(Error::UnknownName(name.to_owned())),
                }
            }

            /// The parameter that a name takes.
            pub fn parameter(name: &str) -> Option<&'static str> {
                match name {
                    $($name => [$(stringify!($parameter))?].first().copied(),)*
                    _ => None,
                }
            }

            /// See [`Measure::is_wide`].
            pub fn is_wide(&self) -> bool {
                match self {
                    $(Row::$type(measure) => measure.is_wide(),)*
                }
            }

            /// See [`Measure::as_sum`].
            pub fn as_sum<A: Visitor>(&self, visitor: A) -> Option<A::Output> {
                match self {
                    $(Row::$type(measure) => measure.as_sum(visitor),)*
                }
            }

            /// See [`Measure::generator`].
            pub fn generator(&self) -> Option<Jet> {
                match self {
                    $(Row::$type(measure) => measure.generator(),)*
                }
            }

            /// See [`Measure::of_sum`].
            pub fn of_sum(&self, sum: f64) -> Option<f64> {
                match self {
                    $(Row::$type(measure) => measure.of_sum(sum),)*
                }
            }

            /// See [`Measure::value`].
            pub fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
                match self {
                    $(Row::$type(measure) => measure.value(rows, parallel),)*
                }
            }
        }
    };
}

/// What [`visit`] and [`Measure::as_sum`] do with a row of the table.
pub trait Visitor {
    /// What it yields.
    type Output;
    /// Called with the row.
    fn visit<D: Divergence>(self, divergence: D) -> Self::Output;
}

divergences! {
    /// KL(p‖q) = Σ p·log(p/q).
    Kl = "kl" {
        sum: {|x| x.by_side(x.phi_down(), x.phi_up())}, weights: {|x| x.kl(), [false, true]},
        value: |sum| sum, is_kl: true
    }
    /// KL(q‖p).
    ReverseKl = "reverse_kl" {
        sum: {|x| x.by_side(x.phi_up(), x.phi_down())}, weights: {|x| x.swapped().kl(), [true, false]}, value: |sum| sum
    }
    /// weight·KL(p‖m) + (1 − weight)·KL(q‖m), m = weight·p + (1 − weight)·q.
    Js(weight = 0.5) = "js" {
        sum: {|x| x.js()}, weights: {|x| x.js()}, series: {JensenShannon::new(0.5)?.generator()}, value: |sum| sum;
        measure: JensenShannon, JensenShannon::new(weight)
    }
    /// √JS.
    JsDistance = "js_distance" { sum: {Js}, value: |sum| sum.sqrt() }
    /// KL(p‖alpha·p + (1 − alpha)·q).
    SkewKl(alpha = 0.1) = "skew_kl" { measure: SkewDivergence, SkewDivergence::new(alpha) }
    /// KL(p‖q) + KL(q‖p).
    Jeffreys = "jeffreys" {
        sum: {|x| x.t * x.z}, weights: {|x| x.jeffreys(), [true, true]},
        series: {Some(Jet::variable() * (Jet::exp(1.0) - Jet::constant(1.0)))}, value: |sum| sum
    }
    /// ½·Σ|p − q|.
    TotalVariation = "total_variation" {
        sum: {|x| V::constant(0.5) * x.z.abs()}, weights: {|x| V::constant(0.5) * x.gap.abs()},
        value: |sum| sum, is_first_order: true
    }
    /// ½·Σ(√p − √q)².
    SquaredHellinger = "squared_hellinger" {
        sum: {|x| V::constant(0.5) * x.h * x.h}, weights: {|x| x.squared_hellinger()},
        series: {Some(0.5 * (Jet::exp(1.0) - 2.0 * Jet::exp(0.5)))}, value: |sum| sum
    }
    /// √(½·Σ(√p − √q)²).
    Hellinger = "hellinger" { sum: {SquaredHellinger}, value: |sum| sum.sqrt() }
    /// Σ(p − q)²/q.
    Chi2 = "chi2" { measure: AlphaDivergence, AlphaDivergence::times(2.0, 2.0) }
    /// Σ(p − q)²/p.
    NeymanChi2 = "neyman_chi2" { measure: AlphaDivergence, AlphaDivergence::times(2.0, -1.0) }
    /// Σ(p − q)²/(p + q).
    TriangularDiscrimination = "triangular_discrimination" {
        sum: {|x| x.z * x.z / (V::one() + x.s)}, weights: {|x| x.gap * (x.gap / x.sum())},
        series: {Some(Jet::tanh_half() * (Jet::exp(1.0) - Jet::constant(1.0)))}, value: |sum| sum
    }
    /// (Σp^alpha·q^(1 − alpha) − 1)/(alpha·(alpha − 1)).
    Alpha(alpha) = "alpha" { measure: AlphaDivergence, AlphaDivergence::times(1.0, alpha) }
    /// log(Σp^order·q^(1 − order))/(order − 1).
    Renyi(order) = "renyi" { measure: RenyiDivergence, RenyiDivergence::times(1.0, order) }
    /// −log Σ√(pq).
    Bhattacharyya = "bhattacharyya" { measure: RenyiDivergence, RenyiDivergence::times(0.5, 0.5) }
    /// −log((Σpq)²/(Σp²·Σq²)).
    CauchySchwarz = "cauchy_schwarz" { measure: CauchySchwarzMeasure, Some(CauchySchwarzMeasure) }
    /// 2·arccos Σ√(pq), as 4·arcsin of the Hellinger distance over √2.
    FisherRao = "fisher_rao" { sum: {SquaredHellinger}, value: |sum| 4.0 * libm::asin((0.5 * sum.min(1.0)).sqrt()) }
    /// Σ min(p, q).
    AcceptanceRate = "acceptance_rate" { measure: Acceptance, Some(Acceptance) }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Row};

    #[test]
    fn names_are_unique() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(Row::new("js", None), Row::new("js", Some(0.5)));
        assert_ne!(Row::new("js", None), Row::new("js", Some(0.25)));
        for (name, given) in [
            ("kl", Some(1.0)),
            ("renyi", None),
            ("renyi", Some(-1.0)),
            ("renyi", Some(f64::NAN)),
            ("alpha", Some(f64::INFINITY)),
            ("skew_kl", Some(1.5)),
            ("js", Some(-0.5)),
            ("nonsense", None),
        ] {
            assert!(Row::new(name, given).is_err(), "{name} {given:?}");
        }
        assert_eq!(NAMES.iter().filter_map(|name| Row::parameter(name)).count(), 4);
    }
}
