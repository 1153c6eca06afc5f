//! Event times that an operator assigns, and watermarks.

use std::time::Duration;

use millstream_types::Timestamp;

use super::times::{Stamped, Times, Way, error_of, run_on_way, time_of};
use super::*;

fn strategy() -> WatermarkStrategy<u64> {
    WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(20))
}

#[test]
fn assigned_times_travel_with_their_records() {
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        for way in [Way::Chained, Way::Encoded, Way::Tcp] {
            let out = Times::new();
            let result = run_on_way(way, mode, |env| {
                let numbers = env.source("numbers", Numbers(100));
                let timed = numbers.assign_timestamps(strategy().timestamps(|n| Ok(time_of(*n))));
                // Assigned again, from the times that are there and on the other side of an
                // exchange.
                timed.rebalance().assign_timestamps(strategy()).sink("out", out.clone());
            });
            result.with_context(|| format!("{way:?}")).unwrap();
            let expected: Vec<Stamped<u64>> = (0..100).map(|n| (n, Some(time_of(n)))).collect();
            assert_eq!(out.sorted(), expected, "{way:?}");
        }
    }
}

#[test]
fn the_end_of_the_input_is_the_last_watermark_of_those_that_read_it() {
    let settings = JobSettings { parallelism: 2, ..JobSettings::default() };
    let (result, seen) = run_and_see(settings, |env| {
        let numbers = env.source("numbers", Numbers(100));
        let timed = numbers.assign_timestamps(strategy().timestamps(|n| Ok(time_of(*n))));
        timed.rebalance().map(Ok).sink("out", Times::new());
        Ok(())
    });
    result.unwrap();
    let seen = seen.unwrap();
    let subtasks = seen.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let mut known = 0;
    for metrics in subtasks.map(|subtask| &subtask.metrics) {
        let reads = metrics.records_in > 0;
        assert_eq!(metrics.watermark, reads.then_some(Timestamp::MAX), "{metrics:?}");
        known += usize::from(reads);
    }
    assert_eq!(known, 2, "a source reads no stream");
}

#[test]
fn records_without_a_time_are_refused() {
    let even = |n: &u64| {
        ensure!(n.is_multiple_of(2), "{n} has no time");
        Ok(time_of(*n))
    };
    let out = Times::new();
    let result = run_on_way(Way::Encoded, RuntimeMode::Streaming, |env| {
        let numbers = env.source("numbers", Numbers(100)).on_error(OnError::drop_record());
        numbers.assign_timestamps(strategy().timestamps(even)).sink("out", out.clone());
    });
    result.unwrap();
    let expected: Vec<Stamped<u64>> =
        (0..100).filter(|n| n % 2 == 0).map(|n| (n, Some(time_of(n)))).collect();
    assert_eq!(out.sorted(), expected);

    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(100));
        let timed = numbers.assign_timestamps(strategy().timestamps(even));
        timed.sink("out", Times::new());
    });
    let expected = "operator \"Timestamps/Watermarks\" failed on a record: 1 has no time";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn times_far_ahead_of_the_clock_are_refused_unless_they_are_meant() {
    let with = |strategy: WatermarkStrategy<u64>| {
        let out = Times::new();
        let error = run_on_way(Way::Encoded, RuntimeMode::Streaming, |env| {
            let micros = strategy.timestamps(|n| Ok(1_700_000_000_000_000 + n.cast_signed()));
            env.source("numbers", Numbers(3)).assign_timestamps(micros).sink("out", out.clone());
        });
        error.map_err(|error| format!("{error:#}")).map(|()| out.sorted().len())
    };
    let error = with(strategy()).unwrap_err();
    assert!(error.contains("the event time 170000000000000"), "{error}");
    let expected = "is more than 3660 days ahead of the clock: see that timestamps() gives \
                    milliseconds since 1970, or set another limit with max_ahead()";
    assert!(error.contains(expected), "{error}");
    assert_eq!(with(strategy().max_ahead(None)), Ok(3));
}

#[test]
fn watermarks_of_a_stream_without_times_are_refused() {
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(3));
        numbers.assign_timestamps(strategy()).sink("out", Times::new());
    });
    let expected = "operator \"Timestamps/Watermarks\" needs event times, and its records have \
                    none: name the function that gives them with timestamps()";
    assert!(error.contains(expected), "{error}");
}
