//! The series against the two passes that it takes the place of.

use super::Series;
use crate::batch::Matrix;
use crate::divergences::NAMES;
use crate::error::Argument;
use crate::evaluate::Metric;
use crate::rows::{Kind, Numbers};

/// Standard normal numbers, always the same.
fn normal(count: usize, mut seed: u64) -> Vec<f64> {
    let mut uniform = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..count).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()).collect()
}

fn matrix(numbers: &[f32], argument: Argument) -> Matrix<'_> {
    Matrix::contiguous(Numbers::F32(numbers), 1, Kind::Logits, argument).unwrap()
}

/// Every metric with a series, by both ways; the number of those that the series yielded.
fn compare(x: &[f32], y: &[f32], tolerance: f64) -> usize {
    let (p, q) = (matrix(x, Argument::P), matrix(y, Argument::Q));
    let (p, q) = (p.side(0), q.side(0));
    let parameters = |name| if crate::divergences::Row::parameter(name).is_some() { vec![0.3, 0.8] } else { vec![] };
    let metrics = NAMES.iter().flat_map(|&name| {
        let given: Vec<Option<f64>> = parameters(name).into_iter().map(Some).collect();
        let given = if given.is_empty() { vec![None] } else { given };
        given.into_iter().map(move |given| Metric::new(name, given).unwrap())
    });
    let mut found = 0;
    for metric in metrics {
        let Some(series) = metric.series() else { continue };
        let Some(value) = series.value(&p, &q, false).unwrap() else { continue };
        let wanted = metric.of_sides(&p, &q, None, false).unwrap();
        assert!((value - wanted).abs() <= tolerance * wanted, "{metric:?}: {value} {wanted}");
        found += 1;
    }
    found
}

fn rows(len: usize, noise: f64, offset: f32) -> (Vec<f32>, Vec<f32>) {
    let x: Vec<f32> = normal(len, 1).iter().map(|z| (2.5 * z) as f32).collect();
    let y = x.iter().zip(normal(len, 2)).map(|(x, z)| x + (noise * z) as f32 + offset).collect();
    (x, y)
}

#[test]
fn both_ways_agree() {
    for (noise, offset) in [(0.25, 0.0), (0.1, 3.25), (1e-2, -40.5), (1e-3, 0.0), (1e-4, 0.125)] {
        for len in [16, 17, 100, 1024, 5000, 70_000] {
            let (x, y) = rows(len, noise, offset);
            // The series of some end too slowly for the largest noise.
            let least = if noise > 0.2 { 10 } else { 16 };
            let found = compare(&x, &y, 4e-7);
            assert!(found >= least, "{noise} {len}: {found}");
        }
    }
}

#[test]
fn what_comes_late_is_found() {
    let (mut x, mut y) = rows(40_000, 0.05, 0.0);
    // Nothing moves in the first blocks, and nearly all mass lies behind them.
    y[..3000].copy_from_slice(&x[..3000]);
    for i in [20_000, 35_000] {
        x[i] += 90.0;
        y[i] += 90.125;
    }
    assert!(compare(&x, &y, 4e-7) >= 16);
    y[39_990] = x[39_990] + 2.5;
    assert_eq!(compare(&x, &y, 0.0), 0);
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        y[39_990] = wrong;
        assert_eq!(compare(&x, &y, 0.0), 0);
    }
}

#[test]
fn rows_that_are_the_same_are_at_0() {
    let (x, _) = rows(5000, 0.0, 0.0);
    assert!(compare(&x, &x, 0.0) >= 16);
}

#[test]
fn far_rows_are_left_alone() {
    for noise in [0.7, 1.0, 5.0] {
        let (x, y) = rows(5000, noise, 0.0);
        assert_eq!(compare(&x, &y, 0.0), 0, "{noise}");
    }
}

#[test]
fn generators_are_those_of_the_divergences() {
    let second = |name, given| {
        let metric = Metric::new(name, given).unwrap();
        metric.series().map(|Series { terms, .. }| (terms[2], terms[3]))
    };
    assert_eq!(second("jeffreys", None), Some((1.0, 0.5)));
    assert_eq!(second("neyman_chi2", None), Some((1.0, 1.0)));
    assert_eq!(second("chi2", None), Some((1.0, 0.0)));
    assert_eq!(second("squared_hellinger", None), Some((0.125, 0.0625)));
    assert_eq!(second("js", None), Some((0.125, 0.0625)));
    assert_eq!(second("kl", None), None);
    assert_eq!(second("total_variation", None), None);
    assert_eq!(second("js", Some(1e-5)), None);
}
