//! Jobs that fail in the middle and go on from a checkpoint: their files have the lines of a job
//! that never failed, each once.
//!
//! A job fails only when a file is there, which a checkpoint has published: so it begins with state
//! again, and its results are in part those of the first attempt. Each job is also stopped twice
//! with a savepoint, and goes on at another parallelism.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where a step fails")]

#[path = "restored_jobs/functions.rs"]
mod functions;
#[path = "restored_jobs/golden.rs"]
mod golden;
#[path = "restored_jobs/regions.rs"]
mod regions;
#[path = "restored_jobs/savepoints.rs"]
mod savepoints;
#[path = "restored_jobs/takeovers.rs"]
mod takeovers;
#[path = "restored_jobs/unaligned.rs"]
mod unaligned;
mod watched;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_connectors::{Datagen, FileSink, FileSource};
use millstream_gateway::{CheckpointRequest, JobDetails, RequestState};
use millstream_graph::JobSettings;
use millstream_types::{ExecutionState, JobStatus, TriggerId};

use functions::{Allowed, Buckets, Punctual, Rules};

/// The numbers that a job reads, and how many of them in a second.
const COUNT: u64 = 6_000;
const RATE: u64 = 4_000;

/// The ways to stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Suspend,
    Drain,
    /// A savepoint is taken, and the job is cancelled once it is complete.
    Cancel,
    /// The same by hand, in a job that has published nothing.
    CancelLater,
    /// The job is cancelled, and its newest checkpoint stays.
    Retain,
}

/// Stops a job with a savepoint, once it has published some more files.
fn stop(cluster: &MiniCluster, files: &Path, how: Stop) {
    let count = || match how {
        Stop::CancelLater => hidden(files),
        Stop::Suspend | Stop::Drain | Stop::Cancel | Stop::Retain => published(files).count(),
    };
    let before = count();
    while count() < before + 8 && !cluster.status().is_globally_terminal() {
        std::thread::sleep(millis(1));
    }
    let target = Some(files.with_file_name("savepoints").display().to_string());
    let request = match how {
        Stop::Suspend => CheckpointRequest::Stop { target, drain: false },
        Stop::Drain => CheckpointRequest::Stop { target, drain: true },
        Stop::Cancel => CheckpointRequest::Savepoint { target, cancel: true },
        Stop::CancelLater => CheckpointRequest::Savepoint { target, cancel: false },
        Stop::Retain => return cluster.cancel(),
    };
    cluster.request(TriggerId::from_u128(count() as u128), request);
    if how == Stop::CancelLater {
        let details = cluster.details();
        let is_open = |job: &JobDetails| {
            job.requests.first().is_none_or(|it| it.state == RequestState::InProgress)
        };
        while is_open(&details.borrow()) && !cluster.status().is_globally_terminal() {
            std::thread::sleep(millis(1));
        }
        cluster.cancel();
    }
}

/// One run of a job.
#[derive(Clone)]
struct Run {
    /// The directory of its files.
    files: PathBuf,
    /// The number of attempts that fail, each once its files are more than before.
    failures: u32,
    failed: Arc<AtomicU32>,
    /// The parallelism of operators that have more than one subtask.
    parallelism: u32,
    /// The savepoint to start from, and whether to stop with one.
    from: Option<String>,
    claims: bool,
    /// Whether state of operators that the job lacks is left out.
    ignores: bool,
    stops: Option<Stop>,
    /// Settings of the job beside those of every run.
    settings: Vec<(&'static str, &'static str)>,
}

impl Run {
    /// A run of a job in this directory.
    fn new(directory: &Path, failures: u32) -> Self {
        let (files, failed) = (directory.join("files"), Arc::default());
        Self {
            files,
            failures,
            failed,
            parallelism: 2,
            from: None,
            claims: false,
            ignores: false,
            stops: None,
            settings: Vec::new(),
        }
    }

    /// The parallelism of an operator: another one after a restore, unless it is a single subtask.
    const fn wide(&self, parallelism: u32) -> u32 {
        if parallelism == 1 { 1 } else { self.parallelism }
    }

    /// Whether something is to happen while it runs.
    const fn is_slow(&self) -> bool {
        self.failures > 0 || self.stops.is_some()
    }

    /// Numbers from 0 on. In the second half the subtasks that make them fail.
    fn numbers(&self, env: &mut Environment, parallelism: u32) -> Stream<u64> {
        let numbers = Datagen::sequence(0..COUNT);
        let numbers = if self.is_slow() { numbers.rate_per_second(RATE) } else { numbers };
        let numbers = env.source("numbers", numbers).parallelism(self.wide(parallelism));
        self.failing(numbers, parallelism)
    }

    /// The numbers from files of a few hundred lines, read no faster than by [`RATE`].
    fn numbers_of_files(&self, env: &mut Environment, parallelism: u32) -> Stream<u64> {
        let numbers = self.read_files(env, parallelism, 1);
        self.failing(numbers, parallelism)
    }

    /// As [`Run::numbers_of_files`], of lines of this width, and of a job that fails elsewhere.
    fn read_files(&self, env: &mut Environment, parallelism: u32, width: usize) -> Stream<u64> {
        let directory = self.files.with_file_name("input");
        std::fs::create_dir_all(&directory).unwrap();
        for first in (0..COUNT).step_by(300) {
            let lines: String = (first..first + 300).map(|n| format!("{n:0width$}\n")).collect();
            std::fs::write(directory.join(format!("{first:05}")), lines).unwrap();
        }
        let lines = env.source("lines", FileSource::text(directory.display().to_string()));
        let pause = Duration::from_secs(u64::from(self.is_slow())) / RATE as u32 * parallelism;
        let parallelism = self.wide(parallelism);
        let numbers = lines.parallelism(parallelism).map(move |line| {
            std::thread::sleep(pause);
            Ok(line.parse()?)
        });
        numbers.parallelism(parallelism)
    }

    fn failing(&self, numbers: Stream<u64>, parallelism: u32) -> Stream<u64> {
        let run = self.clone();
        let failing = numbers.map_with(move |ctx| {
            let (run, attempt) = (run.clone(), ctx.attempt());
            let files = published(&run.files).count();
            // Each attempt gets a little further.
            let from = COUNT / 2 + COUNT / 4 / u64::from(run.failures + 1) * u64::from(attempt);
            Ok(move |n| {
                if n >= from && attempt < run.failures && published(&run.files).count() > files {
                    run.failed.fetch_max(attempt + 1, Ordering::Relaxed);
                    bail!("attempt {attempt} fails at {n}");
                }
                Ok(n)
            })
        });
        failing.parallelism(self.wide(parallelism))
    }

    /// Numbers whose event times are out of order by up to 20 ms, none of them late.
    fn timed(&self, env: &mut Environment) -> Stream<u64> {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(100));
        let numbers = self.numbers(env, 2);
        let parallelism = self.wide(2);
        numbers.assign_timestamps(strategy.timestamps(|n| Ok(time(*n)))).parallelism(parallelism)
    }
}

const fn time(n: u64) -> i64 {
    (n + n * 7 % 20).cast_signed()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The files that are published.
fn published(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let visible = entries.filter(|it| !it.file_name().to_string_lossy().starts_with('.'));
    visible.map(|entry| entry.path())
}

/// The number of files that are not published.
fn hidden(directory: &Path) -> usize {
    let entries = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let hidden = entries(directory).filter(|it| it.path().is_dir());
    let attempts = hidden.flat_map(|it| entries(&it.path()).collect::<Vec<_>>());
    attempts.map(|it| entries(&it.path()).count()).sum()
}

/// Runs a job until it ends.
fn run_job(
    run: &Run,
    build: impl Fn(&mut Environment, &Run) -> Stream<String>,
) -> (Result<()>, Arc<JobDetails>) {
    let checkpoints = run.files.with_file_name("checkpoints");
    let interval = if run.stops == Some(Stop::CancelLater) { "1 h" } else { "10 ms" };
    let mut config = BTreeMap::from([
        ("execution.checkpointing.interval", interval.to_owned()),
        ("restart-strategy.type", "fixed-delay".to_owned()),
        ("restart-strategy.fixed-delay.attempts", "10".to_owned()),
        ("restart-strategy.fixed-delay.delay", "1 ms".to_owned()),
        ("execution.checkpointing.dir", format!("file://{}", checkpoints.display())),
        ("execution.checkpointing.data-inline-threshold", "100 b".to_owned()),
    ]);
    config.extend(run.from.clone().map(|from| ("execution.state-recovery.path", from)));
    if run.stops == Some(Stop::Retain) {
        let retention = "execution.checkpointing.externalized-checkpoint-retention";
        config.insert(retention, "RETAIN_ON_CANCELLATION".to_owned());
    }
    if run.ignores {
        config.insert("execution.state-recovery.ignore-unclaimed-state", "true".to_owned());
    }
    if run.claims {
        config.insert("execution.state-recovery.claim-mode", "CLAIM".to_owned());
    }
    config.extend(run.settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let parallelism = run.parallelism;
    let mut settings = JobSettings { parallelism, config, ..JobSettings::default() };
    settings.set_watermark_interval(millis(10));
    let stops = run.stops.map(|how| (run.files.clone(), how));
    let (mut env, seen) = watched::environment(settings, move |cluster| {
        if let Some((files, how)) = stops {
            stop(cluster, &files, how);
        }
    });
    let sink = FileSink::lines(run.files.display().to_string()).roll_at_bytes(1_000);
    build(&mut env, run).sink("files", sink);
    let result = env.execute("test").map(drop);
    let seen = seen.take(&result);
    let is_cancelled = matches!(run.stops, Some(Stop::Cancel | Stop::CancelLater | Stop::Retain));
    let is_wanted = is_cancelled && seen.status == JobStatus::Canceled;
    (if is_wanted { Ok(()) } else { result }, seen)
}

/// The lines of the published files, each with the times that it is there.
fn lines_in(files: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for text in published(files).map(|path| std::fs::read_to_string(path).unwrap()) {
        text.lines().for_each(|line| *counts.entry(line.to_owned()).or_default() += 1);
    }
    counts
}

/// Runs a job until it ends, with failures on the way: the lines of its files, and the job.
fn lines_of(
    failures: u32,
    build: impl Fn(&mut Environment, &Run) -> Stream<String>,
) -> (BTreeMap<String, usize>, Arc<JobDetails>) {
    let directory = tempfile::tempdir().unwrap();
    let run = Run::new(directory.path(), failures);
    let (result, job) = run_job(&run, build);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    assert_eq!(run.failed.load(Ordering::Relaxed), failures, "too few checkpoints in time");
    (lines_in(&run.files), job)
}

/// Runs a job that stops twice and starts again, each time with another parallelism.
fn lines_of_stopped(
    build: impl Fn(&mut Environment, &Run) -> Stream<String>,
) -> BTreeMap<String, usize> {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    let legs = [(2, Some(Stop::Suspend)), (3, Some(Stop::Cancel)), (1, None)];
    for (parallelism, stops) in legs {
        (run.parallelism, run.stops) = (parallelism, stops);
        let (result, job) = run_job(&run, &build);
        assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
        assert_eq!(job.restarts, 0);
        let report = &job.checkpoints.as_ref().unwrap().report;
        let restored = report.latest_restored.as_ref();
        assert_eq!(restored.and_then(|it| it.directory.clone()), run.from);
        if stops.is_some() {
            // A savepoint that was moved is as good as before.
            let moved = format!("{}-moved", location_of(&job));
            std::fs::rename(location_of(&job), &moved).unwrap();
            run.from = Some(moved);
        }
    }
    lines_in(&run.files)
}

/// The directory of the savepoint with which a job has stopped.
fn location_of(job: &JobDetails) -> String {
    match &job.requests[0].state {
        RequestState::Complete { location, .. } => location.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn check_lines(expected: &BTreeMap<String, usize>, lines: &BTreeMap<String, usize>) {
    let lost = expected.iter().filter(|(line, times)| lines.get(*line) != Some(times));
    let more = lines.iter().filter(|(line, times)| expected.get(*line) != Some(times));
    let (lost, more): (Vec<_>, Vec<_>) = (lost.take(9).collect(), more.take(9).collect());
    assert!(lost.is_empty() && more.is_empty(), "expected {lost:?}, and there are {more:?}");
}

/// Checks that a job has the same lines whether it fails or not, and that it restores checkpoints;
/// and that it has them when it is stopped twice and goes on with another parallelism.
fn check(failures: u32, build: impl Fn(&mut Environment, &Run) -> Stream<String>) {
    let (expected, _) = lines_of(0, &build);
    assert!(expected.len() > 50, "{expected:?}");
    let (lines, job) = lines_of(failures, &build);
    // Where nothing connects the subtasks, each of them fails so often.
    assert!(job.restarts >= failures, "{:#?}", job.exceptions);
    let report = &job.checkpoints.as_ref().unwrap().report;
    let restored = report.latest_restored.as_ref().unwrap().id.get();
    assert!(restored > 0 && report.counts.restored >= u64::from(failures), "{report:?}");
    check_lines(&expected, &lines);
    check_lines(&expected, &lines_of_stopped(&build));
}

#[test]
fn a_keyed_function_keeps_its_states_and_timers() {
    check(2, |env, run| {
        let buckets = run.timed(env).key_by(|n| n % 50).process("buckets", Buckets::new);
        buckets.map(|bucket| Ok(format!("{bucket:?}")))
    });
}

#[test]
fn files_are_read_on_from_where_their_readers_were() {
    check(3, |env, run| run.numbers_of_files(env, 2).map(|n| Ok(n.to_string())));
}

#[test]
fn sums_go_on() {
    check(2, |env, run| {
        // All counts of a key come, in whatever order its numbers do.
        let sums = run.numbers(env, 2).map(|n| Ok((n % 10, 1))).key_by(|(key, _)| *key);
        let sums = sums.reduce("sums", |sum, (_, n)| {
            sum.1 += n;
            Ok(())
        });
        sums.map(|sum| Ok(format!("{sum:?}")))
    });
}

/// A text that makes the states of some thousand keys larger than a slice of a snapshot.
fn long_text() -> String {
    "text ".repeat(400)
}

/// With so many key groups each of them is large enough for parts that are written before the rest.
const FEW_GROUPS: u32 = 4;

#[test]
fn sums_that_are_written_in_slices_go_on() {
    check(2, |env, run| {
        env.set_max_parallelism(FEW_GROUPS).unwrap();
        let sums = run.numbers(env, 2).map(|n| Ok((n % 2_000, 1, long_text())));
        let sums = sums.key_by(|(key, ..)| *key).reduce("sums", |sum, (_, n, _)| {
            sum.1 += n;
            Ok(())
        });
        sums.map(|(key, sum, text)| Ok(format!("{key} {sum} {}", text.len())))
    });
}

#[test]
fn windows_that_are_written_in_slices_go_on() {
    check(2, |env, run| {
        env.set_max_parallelism(FEW_GROUPS).unwrap();
        let windows = Sliding::event_time(millis(1_000), millis(500));
        run.timed(env).key_by(|n| n % 1_000).window(windows).aggregate(
            "sums",
            || (0, long_text()),
            |sum, n| {
                sum.0 += n;
                Ok(())
            },
            |sum, later| {
                sum.0 += later.0;
                Ok(())
            },
            |key, window, (sum, text)| Ok(format!("{key} {window} {sum} {}", text.len())),
        )
    });
}

/// The sums and counts of windows of 40 keys.
fn sums<A: WindowAssigner<u64>>(numbers: Stream<u64>, windows: A) -> Stream<String> {
    numbers.key_by(|n| n % 40).window(windows).aggregate(
        "sums",
        || (0, 0),
        |sum, n| {
            *sum = (sum.0 + n, sum.1 + 1);
            Ok(())
        },
        |sum, later| {
            *sum = (sum.0 + later.0, sum.1 + later.1);
            Ok(())
        },
        |key, window, sum| Ok(format!("{key} {window} {sum:?}")),
    )
}

#[test]
fn tumbling_windows_go_on() {
    check(2, |env, run| sums(run.timed(env), Tumbling::event_time(millis(200))));
}

#[test]
fn sliding_windows_go_on() {
    check(2, |env, run| sums(run.timed(env), Sliding::event_time(millis(200), millis(70))));
}

#[test]
fn sessions_go_on() {
    check(2, |env, run| {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(millis(200));
        // Bursts of 50 ms, and 50 ms between them.
        let bursts = strategy.timestamps(|n: &u64| Ok((n / 50 * 100 + n % 50).cast_signed()));
        let numbers = run.numbers(env, 2).assign_timestamps(bursts);
        let numbers = numbers.parallelism(run.wide(2));
        sums(numbers, Session::event_time(millis(45)))
    });
}

#[test]
fn windows_with_a_trigger_go_on() {
    check(2, |env, run| {
        let numbers = run.timed(env).key_by(|n| n % 40);
        let windows = numbers.window(Tumbling::event_time(millis(200))).trigger(Purging(AtEnd));
        let listed = windows.reduce("sums", |sum, n| {
            *sum += n;
            Ok(())
        });
        listed.map(|sum| Ok(sum.to_string()))
    });
}

#[test]
fn an_interval_join_keeps_records_that_wait_for_partners() {
    check(2, |env, run| {
        let left = run.timed(env).key_by(|n| n % 20);
        let right = Datagen::sequence(0..COUNT).rate_per_second(RATE);
        let strategy = WatermarkStrategy::bounded_out_of_orderness(millis(100));
        let right = env.source("right", right).parallelism(run.wide(2));
        let right = right.assign_timestamps(strategy.timestamps(|n| Ok(time(*n))));
        let right = right.parallelism(run.wide(2));
        let right = right.key_by(|n| n % 20);
        left.interval_join(right, -20..=30).apply("pairs", |a, b| Ok(format!("{a} {b}")))
    });
}

#[test]
fn records_that_wait_for_their_time_wait_on() {
    check(2, |env, run| {
        let ordered = run.timed(env).order_by_time("ordered", LateRecords::drop_record());
        ordered.map(|n| Ok(n.to_string()))
    });
}

#[test]
fn broadcast_maps_are_restored_beside_the_states_of_keys() {
    check(2, |env, run| {
        // They have ended long before the failure.
        let rules = env.source("rules", Datagen::sequence(0..20)).parallelism(1);
        let numbers = run.numbers(env, 2).key_by(|n| n % 100);
        let ruled = numbers.connect_broadcast(rules).process("ruled", Rules::new);
        ruled.map(|ruled| Ok(format!("{ruled:?}")))
    });
}

#[test]
fn broadcast_maps_without_keys_are_restored() {
    check(1, |env, run| {
        let rules = env.source("rules", Datagen::sequence(0..60)).parallelism(1);
        let numbers = run.numbers(env, 2);
        let allowed = numbers.connect_broadcast(rules).process("allowed", Allowed::new);
        // Each subtask hands on the rules.
        let allowed = allowed.parallelism(2);
        allowed.map(|n| Ok(n.to_string()))
    });
}

/// Every other number is half a second late: right behind a restore, too.
fn half_late(env: &mut Environment, run: &Run) -> Stream<u64> {
    let times = |n: &u64| {
        let behind = if n.is_multiple_of(2) { 0 } else { 500 };
        Ok(n.cast_signed() - behind)
    };
    let strategy = WatermarkStrategy::generator(|| Punctual).timestamps(times);
    run.numbers(env, 1).assign_timestamps(strategy).parallelism(1)
}

#[test]
fn a_record_that_was_late_is_late_after_a_restore() {
    check(4, |env, run| sums(half_late(env, run), Tumbling::event_time(millis(100))));
}

#[test]
fn a_record_that_was_late_opens_no_session_after_a_restore() {
    check(4, |env, run| {
        let numbers = half_late(env, run).key_by(|n| n / 100);
        let sessions = numbers.window(Session::event_time(millis(50))).reduce("sums", |sum, n| {
            *sum += n;
            Ok(())
        });
        sessions.map(|sum| Ok(sum.to_string()))
    });
}

#[test]
fn windows_that_are_kept_take_late_records_after_a_restore() {
    check(3, |env, run| {
        let windows = Sliding::event_time(millis(200), millis(100));
        let numbers = half_late(env, run).key_by(|_| 0).window(windows);
        numbers.allowed_lateness(millis(600)).aggregate(
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
            |_, window, sum| Ok(format!("{window} {sum}")),
        )
    });
}
