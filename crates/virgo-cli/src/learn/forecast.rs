// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Forecasts of a series: exponential smoothing, whose kind is chosen by how well it fits (augurs).

use augurs::ets::AutoETS;
use augurs::{Fit as _, Predict as _};

/// Fewer samples than this let nothing be said.
pub(super) const LEAST: usize = 10;

/// What a value is expected to be, and between what it will be in so many of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) point: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

fn constant(series: &[f64]) -> Option<f64> {
    let first = *series.first()?;
    series.iter().all(|value| *value == first).then_some(first)
}

/// The next `ahead` values after a series, at `level` (0.95 for 95 of 100 cases). `None` for a
/// series that is too short or has no forecast.
pub(super) fn ahead(series: &[f64], ahead: usize, level: f64) -> Option<Vec<Expected>> {
    if series.len() < LEAST || series.iter().any(|value| !value.is_finite()) {
        return None;
    }
    if let Some(point) = constant(series) {
        let expected = Expected {
            point,
            low: point,
            high: point,
        };
        return Some(vec![expected; ahead]);
    }
    // Errors that add up: a rate that falls to nothing has no ratio.
    let search = AutoETS::new(1, "AZN").ok()?;
    let forecast = search.fit(series).ok()?.predict(ahead, level).ok()?;
    let bounds = forecast.intervals?;
    let all = forecast
        .point
        .into_iter()
        .zip(bounds.lower)
        .zip(bounds.upper);
    Some(
        all.map(|((point, low), high)| Expected { point, low, high })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_goes_on_and_a_constant_stays() {
        let line: Vec<f64> = (0..30)
            .map(|x| f64::from(x) * 2.0 + f64::from(x % 2))
            .collect();
        let next = ahead(&line, 5, 0.95).expect("a forecast");
        assert!((next[4].point - 69.0).abs() < 4.0, "{next:?}");
        assert!(next.iter().all(|e| e.low <= e.point && e.point <= e.high));
        let flat = ahead(&[3.0; 20], 2, 0.95).expect("a forecast");
        assert_eq!((flat[1].low, flat[1].high), (3.0, 3.0));
        assert!(ahead(&line[..LEAST - 1], 1, 0.95).is_none());
        assert!(ahead(&[f64::NAN; 20], 1, 0.95).is_none());
    }
}
