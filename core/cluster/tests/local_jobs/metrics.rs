//! Metrics of user code, and where they are shown.

use millstream_types::metrics::{HistogramSummary, MetricValue};

use super::*;

/// Counts, sizes and measures the numbers that it lets through or refuses.
fn measured(env: &mut Environment, out: &Collect<u64>) {
    env.source("numbers", Numbers(1_000))
        .on_error(OnError::drop_record())
        .map_with(|ctx| {
            let seen = ctx.counter("seen")?;
            let (newest, unset) = (ctx.gauge("newest")?, ctx.gauge("unset")?);
            let number = ctx.histogram("number")?;
            Ok(move |n: u64| {
                seen.add(1);
                newest.set(n as f64);
                number.update(n);
                ensure!(n.is_multiple_of(2), "{n} is odd");
                assert_eq!((newest.get(), unset.get()), (Some(n as f64), None));
                Ok(n)
            })
        })
        .sink("out", out.clone());
}

#[test]
fn counters_gauges_and_histograms_of_each_subtask_are_reported() {
    for (mode, parallelism) in [(RuntimeMode::Streaming, 2), (RuntimeMode::Batch, 1)] {
        let out = Collect::new();
        let settings = JobSettings { parallelism, runtime_mode: mode, ..JobSettings::default() };
        let (result, seen) = run_and_see(settings, |env| {
            measured(env, &out);
            Ok(())
        });
        result.unwrap();
        assert_eq!(out.records().len(), 500);
        let seen = seen.unwrap();
        let of_all = seen.vertices.iter().flat_map(|it| &it.subtasks).map(|it| &it.metrics);
        let (mut dropped, mut count, mut max, mut newest) = (0, 0, 0, 0.0_f64);
        for metrics in of_all {
            let users: Vec<(&str, &MetricValue)> = metrics.users().collect();
            let [
                ("newest", MetricValue::Gauge(last)),
                ("number", MetricValue::Histogram(number)),
                ("seen", MetricValue::Counter(seen)),
            ] = users[..]
            else {
                panic!("{users:?}")
            };
            assert_eq!(i64::try_from(number.count).unwrap(), *seen);
            let HistogramSummary { mean, quantiles: [median, ..], .. } = *number;
            assert!((mean - 499.5).abs() <= 1.0 && (median as f64 - 499.5).abs() < 20.0);
            (dropped, count) = (dropped + metrics.records_dropped, count + seen);
            (max, newest) = (max.max(number.max), newest.max(*last));
        }
        assert_eq!((dropped, count, max, newest), (500, 1_000, 999, 999.0));
    }
}

#[test]
fn a_metric_that_cannot_be_fails_the_job_with_a_sentence() {
    for (second, expected) in [
        ("a,b", "the histogram \"a,b\" cannot be made: a name is made of 1 to 100 letters"),
        ("first", "metric \"first\" is a counter: give the histogram another name"),
        ("numRecordsDropped", "the engine counts under this name"),
    ] {
        let (result, ..) = run_with(JobSettings::default(), |env| {
            env.source("numbers", Numbers(1))
                .map_with(move |ctx| {
                    let (_first, _second) = (ctx.counter("first")?, ctx.histogram(second)?);
                    Ok(Ok)
                })
                .sink("out", Collect::<u64>::new());
            Ok(())
        });
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}
