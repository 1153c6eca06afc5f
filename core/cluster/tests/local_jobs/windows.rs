//! Windows of many keys, their times, and functions that fail.

use std::collections::BTreeMap;

use millstream_connectors::Datagen;

use super::times::{Stamped, TimedNumbers, Times, Way, error_of, run_on_way};
use super::*;

const RECORDS: u64 = 60_000;

/// So many keys that the results of a window are several batches.
const KEYS: u64 = 5_000;

/// The time of a number: out of order by up to 20 ms.
fn time(n: &u64) -> Result<i64> {
    Ok((n / 500 + n * 7 % 20).cast_signed())
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Emits a watermark behind each tenth number.
struct Behind20;

impl WatermarkGenerator<u64> for Behind20 {
    fn on_record(&mut self, n: &u64, _: i64, out: &mut WatermarkOutput) {
        if n.is_multiple_of(10) {
            out.emit((n / 500).cast_signed() - 1);
        }
    }
}

fn numbers(env: &mut Environment) -> Stream<u64> {
    let numbers = env.source("numbers", Datagen::sequence(0..RECORDS)).parallelism(1);
    let strategy = WatermarkStrategy::generator(|| Behind20).timestamps(time);
    numbers.assign_timestamps(strategy).parallelism(1)
}

/// Runs a job at parallelism 2; what it sends to a sink, sorted.
fn arrived<T: Data + Clone + Ord + Sync>(
    mode: RuntimeMode,
    build: impl FnOnce(&mut Environment) -> Stream<T>,
) -> Vec<Stamped<T>> {
    let settings = JobSettings { parallelism: 2, runtime_mode: mode, ..JobSettings::default() };
    let out = Times::new();
    let (result, ..) = run_with(settings, |env| {
        build(env).sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    out.sorted()
}

#[test]
fn many_keys_have_the_windows_of_a_plain_computation() {
    for (size, slide) in [(20, 20), (40, 15), (15, 40)] {
        let mut windows = BTreeMap::<(u64, i64), u64>::new();
        for n in 0..RECORDS {
            let time = time(&n).unwrap();
            let first = time.div_euclid(slide) * slide;
            let begins = (0..).map(|back| first - back * slide);
            for begin in begins.take_while(|begin| *begin > time - size) {
                *windows.entry((n % KEYS, begin)).or_default() += n;
            }
        }
        let expected: Vec<_> = windows
            .into_iter()
            .map(|((key, begin), sum)| ((key, begin, sum), Some(begin + size - 1)))
            .collect();
        let sliding =
            Sliding::event_time(millis(size.cast_unsigned()), millis(slide.cast_unsigned()));
        for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
            let came = arrived(mode, |env| {
                numbers(env).key_by(|n| n % KEYS).window(sliding).aggregate(
                    "sums",
                    || 0,
                    |sum, n| {
                        *sum += n;
                        Ok(())
                    },
                    |sum, later| {
                        *sum += later;
                        Ok(())
                    },
                    |key, window, sum| Ok((key, window.start, sum)),
                )
            });
            assert!(came == expected, "{size} by {slide}, {mode:?}");
        }
    }
}

#[test]
fn windows_of_a_number_of_records_need_no_times() {
    let mut expected = Vec::new();
    for key in 0..7 {
        let numbers: Vec<u64> = (0..1_000).filter(|n| n % 7 == key).collect();
        expected.extend(numbers.chunks_exact(10).map(|ten| ((key, ten.iter().sum()), None)));
    }
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        let came = arrived(mode, |env| {
            let numbers = env.source("numbers", Datagen::sequence(0..1_000)).parallelism(1);
            numbers.key_by(|n| n % 7).count_window(10).sum("sums", |n| *n)
        });
        expected.sort();
        assert_eq!(came, expected, "{mode:?}");
    }
}

/// Gives the result of a window when the wall clock is looked at after its first record, and then
/// no more.
#[derive(Clone)]
struct Soon;

impl Trigger<u64> for Soon {
    type State = bool;

    fn on_record(&mut self, _: &u64, ctx: &mut TriggerContext<'_, bool>) -> Result<Fire> {
        if !std::mem::replace(ctx.state(), true) {
            ctx.at_processing_time(ctx.processing_time());
        }
        Ok(Fire::No)
    }

    fn on_processing_time(&mut self, _: i64, _: &mut TriggerContext<'_, bool>) -> Result<Fire> {
        Ok(Fire::ResultAndPurge)
    }
}

#[test]
fn a_trigger_may_look_at_the_wall_clock() {
    let came = arrived(RuntimeMode::Streaming, |env| {
        let numbers = numbers(env).key_by(|n| n % 5).window(Tumbling::event_time(millis(1_000)));
        numbers.trigger(Soon).count("counts")
    });
    // All records of a key are in one window; its clock is looked at behind each batch.
    let keys: Vec<u64> = came.iter().map(|((key, _), _)| *key).collect();
    assert!(keys == [0, 1, 2, 3, 4] && came.iter().all(|(_, time)| *time == Some(999)), "{came:?}");
}

#[test]
fn windows_in_sequence_align() {
    let second = || Tumbling::event_time(millis(30));
    let came = arrived(RuntimeMode::Streaming, |env| {
        let counts = numbers(env).key_by(|n| n % 7).window(second()).count("of keys");
        counts.window_all(second()).reduce_then(
            "of all",
            |all, next| {
                all.1 += next.1;
                Ok(())
            },
            |(), window, all| Ok((window.start, all.1)),
        )
    });
    let mut expected = BTreeMap::<i64, u64>::new();
    for n in 0..RECORDS {
        *expected.entry(time(&n).unwrap() / 30 * 30).or_default() += 1;
    }
    let expected: Vec<_> =
        expected.into_iter().map(|(start, count)| ((start, count), Some(start + 29))).collect();
    assert_eq!(came, expected);
}

#[test]
fn windows_of_records_without_times_are_refused() {
    let says = error_of(|env| {
        let numbers = env.source("numbers", Datagen::sequence(0..10)).key_by(|n| n % 2);
        numbers.window(Tumbling::event_time(millis(10))).count("counts").sink("out", Times::new());
    });
    assert!(says.contains("\"counts\"") && says.contains("event times"), "{says}");
}

#[test]
fn lengths_that_no_window_has_are_refused() {
    let says = error_of(|env| {
        numbers(env)
            .window_all(Session::event_time(Duration::ZERO))
            .reduce("all", |_, _| Ok(()))
            .sink("out", Times::new());
    });
    assert!(says.contains("the gap of a window is 0ns"), "{says}");
}

#[test]
fn a_window_function_that_fails_is_named_with_its_window() {
    for fails in [true, false] {
        let says = error_of(|env| {
            numbers(env)
                .key_by(|n| n % 2)
                .window(Tumbling::event_time(millis(50)))
                .reduce_then(
                    "sums",
                    |sum, n| {
                        *sum += n;
                        Ok(())
                    },
                    move |_, window, sum| {
                        ensure!(!fails || window.start != 50, "the sum {sum} is odd");
                        assert!(fails || window.start != 50, "the sum {sum} is odd");
                        Ok(sum)
                    },
                )
                .sink("out", Times::new());
        });
        assert!(says.contains("is odd"), "{says}");
        let names =
            "operator \"sums\" failed at the end of the windows whose last millisecond is 99";
        assert!(!fails || says.contains(names), "{says}");
    }
}

/// Counts the windows of one key that are all open at the end of the input, and kept for some time
/// after their ends.
fn count_windows<A: WindowAssigner<u64> + Send + Sync>(
    mode: RuntimeMode,
    windows: A,
    lateness: Duration,
) {
    const WINDOWS: u64 = 1_000_000;
    let settings = JobSettings { runtime_mode: mode, ..JobSettings::default() };
    let out = Collect::new();
    let (result, ..) = run_with(settings, |env| {
        let times = WatermarkStrategy::none().timestamps(|n: &u64| Ok(n.cast_signed() * 1_000));
        env.source("numbers", Datagen::sequence(0..WINDOWS))
            .assign_timestamps(times)
            .on_error(OnError::drop_record())
            .key_by(|_| ())
            .window(windows)
            .allowed_lateness(lateness)
            .reduce("sums", |sum, n| {
                ensure!(n < WINDOWS, "it is too large");
                *sum += n;
                Ok(())
            })
            .key_by(|_| ())
            .count("windows")
            .filter(|(_, count)| Ok(*count == WINDOWS))
            .sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    assert_eq!(out.records(), [((), WINDOWS)]);
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_million_windows_of_a_key_are_open_at_once() {
    for lateness in [Duration::ZERO, DAY] {
        count_windows(RuntimeMode::Streaming, Tumbling::event_time(millis(1_000)), lateness);
    }
}

#[test]
fn a_million_sessions_of_a_key_are_open_at_once() {
    let sessions = Session::event_time(millis(500));
    count_windows(RuntimeMode::Streaming, sessions, DAY);
    count_windows(RuntimeMode::Batch, sessions, Duration::ZERO);
}

#[test]
fn a_million_windows_of_a_key_with_a_trigger_are_open_at_once() {
    let windows = Tumbling::event_time(millis(1_000));
    count_windows(RuntimeMode::Streaming, Triggered { windows, trigger: AtEnd }, DAY);
    let windows = Session::event_time(millis(500));
    count_windows(RuntimeMode::Batch, Triggered { windows, trigger: AtEnd }, Duration::ZERO);
}

/// Windows that end long after the input.
fn century() -> ProcessingTime<Tumbling> {
    Tumbling::processing_time(Duration::from_secs(100 * 365 * 86_400))
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

#[test]
fn windows_of_processing_time_end_by_the_clock_and_with_the_input() {
    let before = now();
    let came = arrived(RuntimeMode::Streaming, |env| {
        let numbers = Datagen::sequence(0..60).rate_per_second(100);
        let numbers = env.source("numbers", numbers).parallelism(1).key_by(|n| n % 2);
        let windows = Tumbling::processing_time(millis(100)).offset_millis(30);
        numbers.window(windows).aggregate(
            "counts",
            || 0,
            |count, _| {
                *count += 1;
                Ok(())
            },
            |_, _| bail!("a tumbling window has no parts"),
            |key, window, count: u64| Ok((key, window.start, window.end, count, now())),
        )
    });
    let after = now();
    for key in 0..2 {
        let of_key: Vec<_> =
            came.iter().map(|(result, _)| *result).filter(|r| r.0 == key).collect();
        assert_eq!(of_key.iter().map(|(.., count, _)| count).sum::<u64>(), 30, "{came:?}");
        assert!(of_key.len() > 1, "the input took half a second: {came:?}");
        for (at, (_, start, end, _, fired)) in of_key.iter().enumerate() {
            assert!(end - start == 100 && (start - 30) % 100 == 0, "{came:?}");
            assert!(*end > before && *start <= after, "{came:?}");
            assert!(fired >= end || at == of_key.len() - 1, "{at} of {key} is early: {came:?}");
        }
    }
    assert!(came.iter().all(|(_, time)| time.is_none()), "{came:?}");
}

#[test]
fn windows_of_processing_time_give_their_results_at_the_end_in_every_mode() {
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        // Results at the end of the input have the end of time, if records have times at all.
        for timed in [true, false] {
            let source = |env: &mut Environment| match timed {
                true => numbers(env),
                false => env.source("plain", Datagen::sequence(0..RECORDS)).parallelism(1),
            };
            let expected: Vec<_> =
                (0..5).map(|key| ((key, RECORDS / 5), timed.then_some(i64::MAX))).collect();
            let tumbling = arrived(mode, |env| {
                source(env).key_by(|n| n % 5).window(century()).count("counts")
            });
            assert_eq!(tumbling, expected, "{mode:?}, {timed}");
            let session = Session::processing_time(Duration::from_secs(86_400));
            let sessions =
                arrived(mode, |env| source(env).key_by(|n| n % 5).window(session).count("counts"));
            assert_eq!(sessions, expected, "{mode:?}, {timed}");
        }
    }
}

#[test]
fn windows_of_processing_time_take_triggers() {
    let came = arrived(RuntimeMode::Streaming, |env| {
        let windowed = numbers(env).key_by(|n| n % 3).window(century());
        windowed.trigger(Purging(EveryRecords(7_000))).count("counts")
    });
    // Records have the times of those that fire; 6,000 of each key are left, and give no result.
    let mut expected: Vec<_> = (0..3)
        .flat_map(|key| {
            [7_000, 14_000].map(|nth| ((key, 7_000), time(&(3 * (nth - 1) + key)).ok()))
        })
        .collect();
    expected.sort();
    assert_eq!(came, expected);

    let steps = arrived(RuntimeMode::Streaming, |env| {
        let slowly = env.source("slowly", Datagen::sequence(0..40).rate_per_second(100));
        let windowed = slowly.parallelism(1).window_all(century());
        windowed.trigger(EveryStep::new(millis(20))).count("counts")
    });
    let counts: Vec<u64> = steps.iter().map(|(((), count), _)| *count).collect();
    assert!(counts.len() > 2 && counts.is_sorted() && counts.last() == Some(&40), "{counts:?}");
}

#[test]
fn joins_take_windows_of_processing_time() {
    let came = arrived(RuntimeMode::Streaming, |env| {
        let left = env.source("left", Datagen::sequence(0..4)).key_by(|n| n % 2);
        let right = env.source("right", Datagen::sequence(10..12)).key_by(|n| n % 2);
        left.join(right).window(century()).apply("pairs", |left, right| Ok((*left, *right)))
    });
    let pairs: Vec<_> = came.into_iter().map(|(pair, _)| pair).collect();
    assert_eq!(pairs, [(0, 10), (1, 11), (2, 10), (3, 11)]);
}

#[test]
fn a_lateness_of_windows_that_are_not_of_event_time_is_refused() {
    let says = error_of(|env| {
        let numbers = env.source("numbers", Datagen::sequence(0..10)).key_by(|n| n % 2);
        let windowed = numbers.window(century()).allowed_lateness(millis(1));
        windowed.count("counts").sink("out", Times::new());
    });
    let expected = "the windows of \"counts\" have a lateness, but they are not of event time, so \
                    that no record comes too late: leave allowed_lateness() out";
    assert!(says.contains(expected), "{says}");
}

#[test]
fn lengths_that_no_window_of_processing_time_has_are_refused() {
    let says = error_of(|env| {
        let numbers = env.source("numbers", Datagen::sequence(0..10)).key_by(|n| n % 2);
        let windows = Sliding::processing_time(millis(10), Duration::from_micros(1));
        numbers.window(windows).count("counts").sink("out", Times::new());
    });
    assert!(says.contains("the slide of a window is 1µs"), "{says}");
}

#[test]
fn days_of_a_place_are_windows() {
    const HOUR: i64 = 3_600_000;
    // Two hours before the night in which Vienna's clocks were put back.
    let evening = 1_729_972_800_000;
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        let out = Times::new();
        run_on_way(Way::Encoded, mode, |env| {
            let times = WatermarkStrategy::monotonous()
                .timestamps(move |n: &u64| Ok(evening + HOUR * n.cast_signed()));
            let hours = env.source("hours", Numbers(30)).parallelism(1);
            let days = hours.assign_timestamps(times).parallelism(1);
            days.window_all(Calendar::days("Europe/Vienna"))
                .count("hours of each day")
                .sink("out", out.clone());
        })
        .unwrap();
        let ends = [2, 27, 51].map(|hours| Some(evening + HOUR * hours - 1));
        assert_eq!(out.sorted(), [(((), 2), ends[0]), (((), 3), ends[2]), (((), 25), ends[1])]);
    }
}

#[test]
fn days_of_a_zone_that_there_is_not_are_refused() {
    let error = error_of(|env| {
        let hours = env.source("hours", TimedNumbers(3));
        hours.window_all(Calendar::days("Vienna")).count("days").sink("out", Times::new());
    });
    assert!(error.contains("there is no time zone \"Vienna\""), "{error}");
}
