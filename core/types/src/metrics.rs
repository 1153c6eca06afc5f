//! The metrics that user code makes: their names and what their values are.

use serde::{Deserialize, Serialize};

use crate::counters;

/// The most metrics that the user code of one subtask may make.
pub const PER_SUBTASK_MAX: usize = 100;

/// The most bytes of a metric's name.
pub const NAME_BYTES_MAX: usize = 100;

/// The shares of a histogram's values that lie at or below each of its quantiles, with the endings
/// of the quantiles' names.
pub const QUANTILES: [(&str, f64); 7] = [
    ("median", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p98", 0.98),
    ("p99", 0.99),
    ("p999", 0.999),
];

/// Whether a metric may have this name: letters, digits, `_`, `-` and `.` of ASCII. Queries of REST
/// separate names by commas.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// The value of one metric of a subtask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MetricValue {
    /// A sum that is added to.
    Counter(i64),
    /// The present size of something; always finite.
    Gauge(f64),
    /// A distribution of values.
    Histogram(HistogramSummary),
}

/// A distribution of values, summarized.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HistogramSummary {
    /// The number of values.
    pub count: u64,
    /// The smallest value.
    pub min: u64,
    /// The largest value.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub stddev: f64,
    /// The quantiles of [`QUANTILES`], in its order.
    pub quantiles: [u64; QUANTILES.len()],
}

impl HistogramSummary {
    /// Names each number by the ending that follows the histogram's name.
    #[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
    pub fn named(self) -> impl Iterator<Item = (&'static str, f64)> {
        let first = [
            ("count", self.count as f64),
            ("min", self.min as f64),
            ("max", self.max as f64),
            ("mean", self.mean),
            ("stddev", self.stddev),
        ];
        let quantiles = self.quantiles.map(|value| value as f64);
        first.into_iter().chain(QUANTILES.map(|(ending, _)| ending).into_iter().zip(quantiles))
    }
}

impl MetricValue {
    /// The numbers by which the metric `name` is shown. A histogram's are those of Flink.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
    pub fn shown(&self, name: &str) -> Vec<(String, f64)> {
        match self {
            Self::Counter(value) => vec![(name.to_owned(), *value as f64)],
            Self::Gauge(value) => vec![(name.to_owned(), *value)],
            Self::Histogram(summary) => {
                summary.named().map(|(ending, value)| (format!("{name}_{ending}"), value)).collect()
            }
        }
    }
}

/// Keeps of what a process of user code has reported what it may report: well-formed names, finite
/// numbers, and no more than one subtask can make.
pub fn accepted(
    metrics: impl IntoIterator<Item = (String, MetricValue)>,
) -> impl Iterator<Item = (String, MetricValue)> {
    let is_finite = |value: &MetricValue| match value {
        MetricValue::Counter(_) => true,
        MetricValue::Gauge(value) => value.is_finite(),
        MetricValue::Histogram(it) => it.mean.is_finite() && it.stddev.is_finite(),
    };
    let well_formed =
        metrics.into_iter().filter(move |(name, value)| is_name(name) && is_finite(value));
    well_formed.take(PER_SUBTASK_MAX + counters::LEFT_OUT.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "db.latency_us", "A-1", "n".repeat(NAME_BYTES_MAX).as_str()] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a,b", "a b", "a\n", "größe", "n".repeat(NAME_BYTES_MAX + 1).as_str()] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_a_process_reports_is_bounded() {
        let many = (0..10_000).map(|n| (format!("n{n}"), MetricValue::Counter(n)));
        assert_eq!(accepted(many).count(), PER_SUBTASK_MAX + counters::LEFT_OUT.len());
        let summary = HistogramSummary { mean: f64::INFINITY, ..HistogramSummary::default() };
        let odd = [
            (String::new(), MetricValue::Counter(1)),
            ("x".repeat(1 << 20), MetricValue::Counter(1)),
            ("nan".to_owned(), MetricValue::Gauge(f64::NAN)),
            ("infinite".to_owned(), MetricValue::Histogram(summary)),
            ("good".to_owned(), MetricValue::Gauge(1.5)),
        ];
        let kept: Vec<_> = accepted(odd).collect();
        assert_eq!(kept, [("good".to_owned(), MetricValue::Gauge(1.5))]);
    }
}
