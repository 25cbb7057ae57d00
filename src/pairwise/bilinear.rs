//! Divergences that are functions of products of rows, Σ p·log q or Σ √p·√q, and the test whether enough digits remain.

use crate::divergences::Row;
use crate::evaluate::Metric;

use super::ready::{ABSENT, Field};

/// Sums beyond this hold the logarithm of 0 beside a probability: tame rows have none so low.
const INFINITE: f64 = ABSENT * 1e-235;

/// Error of logarithms of normalisers and of roundings that no sum bounds.
const CONSTANT: f64 = 24.0 * f64::EPSILON;

/// Share of the promised error that products may use up.
const SHARE: f64 = 0.7;

/// A function of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Σ p·log p − Σ p·log q.
    Kl,
    /// −Σ p·log q.
    CrossEntropy,
    /// KL in both directions.
    Jeffreys,
    /// ½·(Σ p + Σ q) − Σ √p·√q.
    SquaredHellinger,
    /// Its root.
    Hellinger,
    /// 4·arcsin(its root over √2).
    FisherRao,
    /// −log Σ √p·√q.
    Bhattacharyya,
    /// −log((Σ p·q)²/(Σ p²·Σ q²)).
    CauchySchwarz,
}

impl Form {
    /// The form of a metric, and whether its arguments are exchanged.
    pub fn of(metric: &Metric) -> Option<(Form, bool)> {
        Some(match metric {
            Metric::CrossEntropy => (Form::CrossEntropy, false),
            Metric::Listed(Row::Kl(_)) => (Form::Kl, false),
            Metric::Listed(Row::ReverseKl(_)) => (Form::Kl, true),
            Metric::Listed(Row::Jeffreys(_)) => (Form::Jeffreys, false),
            Metric::Listed(Row::SquaredHellinger(_)) => (Form::SquaredHellinger, false),
            Metric::Listed(Row::Hellinger(_)) => (Form::Hellinger, false),
            Metric::Listed(Row::FisherRao(_)) => (Form::FisherRao, false),
            Metric::Listed(Row::Bhattacharyya(_)) => (Form::Bhattacharyya, false),
            Metric::Listed(Row::CauchySchwarz(_)) => (Form::CauchySchwarz, false),
            Metric::Listed(_) => return None,
        })
    }

    /// The products needed.
    pub fn products(self) -> &'static [(Field, Field)] {
        match self {
            Form::Kl | Form::CrossEntropy => &[(Field::Prob, Field::Log)],
            Form::Jeffreys => &[(Field::Prob, Field::Log), (Field::Log, Field::Prob)],
            Form::CauchySchwarz => &[(Field::Prob, Field::Prob)],
            _ => &[(Field::Root, Field::Root)],
        }
    }

    /// The product of a row of p, and of q, with itself that is needed.
    pub fn own(self) -> [Option<(Field, Field)>; 2] {
        let own = self.products()[0];
        match self {
            Form::Kl => [Some(own), None],
            Form::CrossEntropy => [None, None],
            _ => [Some(own), Some(own)],
        }
    }

    /// The value from its products and the rows' own ones, or `None` if it would keep too few digits.
    ///
    /// `rounding` is the error of a product relative to the sum of its terms' magnitudes, `promise` that of the value.
    pub fn value(self, products: [f64; 2], own: [f64; 2], rounding: f64, promise: f64) -> Option<f64> {
        let [product, other] = products;
        let (value, size) = match self {
            Form::Kl | Form::CrossEntropy | Form::Jeffreys if product < INFINITE || other < INFINITE => {
                return Some(f64::INFINITY);
            }
            Form::Kl => (own[0] - product, own[0].abs() + product.abs()),
            Form::CrossEntropy => (-product, product.abs()),
            Form::Jeffreys => {
                ((own[0] - product) + (own[1] - other), own[0].abs() + product.abs() + own[1].abs() + other.abs())
            }
            Form::SquaredHellinger | Form::Hellinger | Form::FisherRao => (0.5 * (own[0] + own[1]) - product, 2.0),
            // Rows without a common token have roots far above underflow, so their product is exactly zero.
            Form::Bhattacharyya if product == 0.0 => return Some(f64::INFINITY),
            Form::Bhattacharyya | Form::CauchySchwarz if product < 1e-100 => return None,
            Form::Bhattacharyya => (-libm::log(product / (own[0] * own[1]).sqrt()), 2.0),
            Form::CauchySchwarz => (-2.0 * libm::log(product / (own[0] * own[1]).sqrt()), 4.0),
        };
        let keeps = rounding * size + CONSTANT <= SHARE * promise * value;
        keeps.then(|| match self {
            Form::SquaredHellinger => value.min(1.0),
            Form::Hellinger => value.min(1.0).sqrt(),
            Form::FisherRao => 4.0 * libm::asin((0.5 * value.min(1.0)).sqrt()),
            _ => value,
        })
    }
}
