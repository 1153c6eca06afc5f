//! The metrics of user code: what it counts and measures in a subtask.
//!
//! A handle is a pointer to numbers that its user changes and the reporting thread reads; neither
//! waits for the other, and nothing is allocated after the metric was made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_types::counters;
use millstream_types::metrics::{
    HistogramSummary, MetricValue, NAME_BYTES_MAX, PER_SUBTASK_MAX, QUANTILES, is_name,
};

use crate::Result;

/// A sum that user code adds to; made by `RuntimeContext::counter`.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicI64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The present size of something (a cache, a queue, a lag); made by `RuntimeContext::gauge`.
///
/// It is shown once it has been set. A value that is infinite or no number hides it again.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<AtomicU64>);

impl Default for Gauge {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(f64::NAN.to_bits())))
    }
}

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// The value; `None` while it is not shown.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Relaxed))).filter(|value| value.is_finite())
    }
}

/// Each power of two is divided into so many buckets of equal width: a quantile is wrong by half a
/// bucket, a 32nd of its value.
const BUCKETS_PER_OCTAVE: u64 = 16;
/// The values below [`BUCKETS_PER_OCTAVE`] have a bucket each; then come the octaves.
const BUCKETS: usize = 16 + (u64::BITS as usize - 4) * 16;

/// The distribution of values (a latency, a length) since the attempt of the subtask began; made by
/// `RuntimeContext::histogram`.
///
/// Values are whole numbers in a unit of the user's choice, which belongs into the name, as in
/// `latency_us`. The count, the smallest and the largest value are exact, and so is the mean until
/// the sum of all values exceeds 2^64; the quantiles and the standard deviation are accurate to
/// 3 %. A histogram takes 8 KB, however many values it gets.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Distribution>);

#[derive(Debug)]
struct Distribution {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Adds a value.
    #[inline]
    pub fn update(&self, value: u64) {
        let Distribution { buckets, sum, min, max } = &*self.0;
        if let Some(bucket) = buckets.get(bucket_of(value)) {
            bucket.fetch_add(1, Relaxed);
        }
        let add = |sum: u64| Some(sum.saturating_add(value));
        let _ = sum.fetch_update(Relaxed, Relaxed, add);
        // Most values are neither; a load is cheaper.
        if value < min.load(Relaxed) {
            min.fetch_min(value, Relaxed);
        }
        if value > max.load(Relaxed) {
            max.fetch_max(value, Relaxed);
        }
    }

    /// The distribution so far; `None` while it is empty.
    #[expect(clippy::cast_precision_loss, reason = "a mean is no exact number")]
    fn summary(&self) -> Option<HistogramSummary> {
        let counts: Vec<u64> = self.0.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let (min, max) = (self.0.min.load(Relaxed), self.0.max.load(Relaxed));
        // A value that is being added may be in its bucket and nowhere else yet.
        if count == 0 || min > max {
            return None;
        }
        let total = count as f64;
        let mean = (self.0.sum.load(Relaxed) as f64 / total).clamp(min as f64, max as f64);
        let middle = |at: usize| middle_of(at).clamp(min, max);
        let square = |at: usize| (middle(at) as f64 - mean).powi(2);
        let filled = || counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let variance = filled().map(|(at, count)| *count as f64 * square(at)).sum::<f64>() / total;
        let quantiles = QUANTILES.map(|(_, share)| {
            let (wanted, mut seen) = ((share * total).ceil(), 0.0);
            let found = filled().find(|(_, count)| {
                seen += **count as f64;
                seen >= wanted
            });
            found.map_or(max, |(at, _)| middle(at))
        });
        Some(HistogramSummary { count, min, max, mean, stddev: variance.sqrt(), quantiles })
    }
}

/// The number of the bucket of a value.
#[inline]
fn bucket_of(value: u64) -> usize {
    if value < BUCKETS_PER_OCTAVE {
        return value as usize;
    }
    let shift = value.ilog2() - BUCKETS_PER_OCTAVE.ilog2();
    // The bits above the shift are 16 to 31: an octave's buckets follow those of the one before.
    (shift as usize) * 16 + (value >> shift) as usize
}

/// The value in the middle of a bucket.
fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * BUCKETS_PER_OCTAVE {
        return bucket;
    }
    let shift = bucket / BUCKETS_PER_OCTAVE - 1;
    let first = (BUCKETS_PER_OCTAVE + bucket % BUCKETS_PER_OCTAVE) << shift;
    first + ((1 << shift) >> 1)
}

#[derive(Debug, Clone)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// The metrics of one subtask by name, shared by its operators and the reporting thread.
#[derive(Debug, Default)]
pub struct UserMetrics(Mutex<BTreeMap<String, Metric>>);

impl UserMetrics {
    /// The engine's own counter of this name.
    #[must_use]
    pub fn engines(&self, name: &'static str) -> Counter {
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let metric =
            metrics.entry(name.to_owned()).or_insert_with(|| Metric::Counter(Counter::default()));
        match metric {
            Metric::Counter(counter) => counter.clone(),
            // No user's metric has a name of the engine's.
            Metric::Gauge(_) | Metric::Histogram(_) => Counter::default(),
        }
    }

    /// The values of those that have one.
    #[must_use]
    pub fn values(&self) -> Vec<(String, MetricValue)> {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |metric: &Metric| match metric {
            Metric::Counter(counter) => Some(MetricValue::Counter(counter.get())),
            Metric::Gauge(gauge) => gauge.get().map(MetricValue::Gauge),
            Metric::Histogram(histogram) => histogram.summary().map(MetricValue::Histogram),
        };
        metrics.iter().filter_map(|(name, metric)| Some((name.clone(), value(metric)?))).collect()
    }
}

/// A kind of metric.
trait UserMetric: Clone + Default {
    /// The word for the kind.
    const KIND: &'static str;
    fn wrapped(self) -> Metric;
    fn of(metric: &Metric) -> Option<&Self>;
}

macro_rules! user_metrics {
    ($($kind:ident $word:literal)*) => {
        $(impl UserMetric for $kind {
            const KIND: &'static str = $word;

            fn wrapped(self) -> Metric {
                Metric::$kind(self)
            }

            fn of(metric: &Metric) -> Option<&Self> {
                if let Metric::$kind(it) = metric { Some(it) } else { None }
            }
        })*

        impl Metric {
            const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $word,)*
                }
            }
        }
    };
}

user_metrics!(Counter "counter" Gauge "gauge" Histogram "histogram");

impl UserMetrics {
    /// The user's counter of this name, made at its first use.
    ///
    /// # Errors
    /// No metric may have this name, it is taken, or there are too many.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        self.user(name)
    }

    /// The user's gauge of this name, made at its first use.
    ///
    /// # Errors
    /// As of [`UserMetrics::counter`].
    pub fn gauge(&self, name: &str) -> Result<Gauge> {
        self.user(name)
    }

    /// The user's histogram of this name, made at its first use.
    ///
    /// # Errors
    /// As of [`UserMetrics::counter`].
    pub fn histogram(&self, name: &str) -> Result<Histogram> {
        self.user(name)
    }

    fn user<M: UserMetric>(&self, name: &str) -> Result<M> {
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = metrics.get(name).filter(|_| !counters::is_engines(name)) {
            return M::of(metric).cloned().ok_or_else(|| {
                let (is, wanted) = (metric.kind(), M::KIND);
                anyhow::anyhow!("metric {name:?} is a {is}: give the {wanted} another name")
            });
        }
        if let Some(fault) = name_fault(&metrics, name) {
            anyhow::bail!("the {} {name:?} cannot be made: {fault}", M::KIND);
        }
        let metric = M::default();
        metrics.insert(name.to_owned(), metric.clone().wrapped());
        Ok(metric)
    }
}

/// The reason why a new metric cannot have this name.
fn name_fault(metrics: &BTreeMap<String, Metric>, name: &str) -> Option<String> {
    if !is_name(name) {
        return Some(format!(
            "a name is made of 1 to {NAME_BYTES_MAX} letters, digits, '_', '-' and '.' of ASCII"
        ));
    }
    if counters::is_engines(name) {
        return Some("the engine counts under this name: choose another one".to_owned());
    }
    let is_users = |name: &&String| !counters::is_engines(name);
    if metrics.keys().filter(is_users).count() >= PER_SUBTASK_MAX {
        return Some(format!(
            "its subtask has {PER_SUBTASK_MAX} metrics, which are the most: name metrics after \
             kinds of things, not after keys or records"
        ));
    }
    let mut endings = HistogramSummary::default().named();
    let clash = endings.find_map(|(ending, _)| {
        let below = format!("{name}_{ending}");
        let above = name.strip_suffix(ending).and_then(|name| name.strip_suffix('_'));
        let above = above.filter(|name| matches!(metrics.get(*name), Some(Metric::Histogram(_))));
        above.map(str::to_owned).or_else(|| metrics.contains_key(&below).then_some(below))
    })?;
    Some(format!(
        "it and the metric {clash:?} would be shown under the same name, because a histogram is \
         shown as NAME_count, NAME_min and so on: choose another name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_near_it() {
        let mut last = 0;
        for value in (0..64).flat_map(|bit| [0, 1, 3].map(|more| (1_u64 << bit) + more)) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS && bucket >= last || value < 8, "{value}");
            last = bucket;
            assert!(middle_of(bucket).abs_diff(value) <= value / 32, "{value}");
        }
        assert_eq!((bucket_of(u64::MAX), bucket_of(0)), (BUCKETS - 1, 0));
    }

    #[test]
    fn a_distribution_is_summarized() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), None);
        (1..=1_000).rev().for_each(|value| histogram.update(value * 1_000));
        let summary = histogram.summary().unwrap();
        assert_eq!((summary.count, summary.min, summary.max), (1_000, 1_000, 1_000_000));
        assert_eq!(summary.mean, 500_500.0);
        assert!((summary.stddev - 288_675.0).abs() < 10_000.0, "{summary:?}");
        for ((name, share), found) in QUANTILES.into_iter().zip(summary.quantiles) {
            let expected = share * 1_000_000.0;
            assert!((found as f64 - expected).abs() <= expected / 32.0, "{name}: {summary:?}");
        }
        let extreme = Histogram::default();
        [0, u64::MAX, u64::MAX].into_iter().for_each(|value| extreme.update(value));
        let summary = extreme.summary().unwrap();
        assert_eq!((summary.count, summary.min, summary.max), (3, 0, u64::MAX));
        assert!(summary.mean.is_finite() && summary.stddev.is_finite(), "{summary:?}");
    }

    fn refused<M: UserMetric>(metrics: &UserMetrics, name: &str) -> String {
        metrics.user::<M>(name).err().map_or_else(|| "fine".to_owned(), |error| error.to_string())
    }

    #[test]
    fn names_are_checked_and_one_name_is_one_metric() {
        let metrics = UserMetrics::default();
        let words: Counter = metrics.user("words").unwrap();
        words.add(2);
        metrics.user::<Counter>("words").unwrap().add(3);
        assert_eq!(words.get(), 5);
        metrics.engines(counters::RECORDS_DROPPED).add(1);
        let latency: Histogram = metrics.user("latency_us").unwrap();
        latency.update(7);
        for (error, expected) in [
            (refused::<Gauge>(&metrics, "words"), "\"words\" is a counter: give the gauge another"),
            (refused::<Gauge>(&metrics, "a,b"), "the gauge \"a,b\" cannot be made: a name is made"),
            (refused::<Counter>(&metrics, counters::RECORDS_DROPPED), "the engine counts under"),
            (refused::<Counter>(&metrics, "latency_us_p99"), "and the metric \"latency_us\" would"),
            (refused::<Counter>(&metrics, "latency_us_p"), "fine"),
        ] {
            assert!(error.contains(expected), "{error}");
        }
        let _: Gauge = metrics.user("cache_min").unwrap();
        let error = refused::<Histogram>(&metrics, "cache");
        assert!(error.contains("and the metric \"cache_min\" would be shown"), "{error}");
        let values: Vec<String> = metrics.values().into_iter().map(|(name, _)| name).collect();
        // A gauge is shown once it is set.
        assert_eq!(values, ["latency_us", "latency_us_p", counters::RECORDS_DROPPED, "words"]);
    }

    #[test]
    fn a_subtask_has_so_many_metrics_and_no_more() {
        let metrics = UserMetrics::default();
        metrics.engines(counters::RECORDS_DROPPED).add(1);
        for n in 0..PER_SUBTASK_MAX {
            let _: Counter = metrics.user(&format!("n{n}")).unwrap();
        }
        let error = refused::<Histogram>(&metrics, "another");
        assert!(error.contains("has 100 metrics") && error.contains("not after keys"), "{error}");
        assert_eq!(refused::<Counter>(&metrics, "n5"), "fine");
    }
}
