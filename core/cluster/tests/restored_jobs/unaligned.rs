//! Jobs whose barriers overtake the records that wait for slow tasks: the records are part of the
//! checkpoint, and come again after a failure.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::task::Waker;

use millstream_types::{AttemptId, CheckpointId};

use super::golden::retained;
use super::*;

/// The time that a slow function takes for a record: more than passes until the next one comes to
/// its subtask, of two.
const PAUSE: Duration = Duration::from_micros(2_400_000 / RATE);

/// Lets barriers overtake.
const UNALIGNED: (&str, &str) = ("execution.checkpointing.unaligned.enabled", "true");

/// Hands on what comes, less fast than it does: some always waits.
fn slowly(numbers: Stream<u64>, run: &Run) -> Stream<u64> {
    let is_slow = run.is_slow();
    numbers.map(move |n| {
        if is_slow {
            std::thread::sleep(PAUSE);
        }
        Ok(n)
    })
}

/// Runs a job that fails so often, without aligned checkpoints: it has the lines of one that never
/// fails, and some of its checkpoints have records in flight.
fn check_unaligned(failures: u32, build: impl Fn(&mut Environment, &Run) -> Stream<String>) {
    let (expected, _) = lines_of(0, &build);
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), failures);
    run.settings.push(UNALIGNED);
    let (result, job) = run_job(&run, &build);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    assert_eq!(run.failed.load(Ordering::Relaxed), failures, "too few checkpoints in time");
    let report = &job.checkpoints.as_ref().unwrap().report;
    assert!(report.counts.restored >= u64::from(failures), "{report:?}");
    assert!(report.persisted_bytes.max > 0, "nothing was in flight: {report:?}");
    check_lines(&expected, &lines_in(&run.files));
}

/// Runs a job that is cancelled twice and goes on from its last checkpoint, each time at another
/// parallelism: it has the lines of one that never stops.
fn check_rescaled(build: impl Fn(&mut Environment, &Run) -> Stream<String>) {
    let (expected, _) = lines_of(0, &build);
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    run.settings.push(UNALIGNED);
    let mut in_flight = 0;
    for (parallelism, stops) in [(2, Some(Stop::Retain)), (3, Some(Stop::Retain)), (1, None)] {
        (run.parallelism, run.stops) = (parallelism, stops);
        let (result, job) = run_job(&run, &build);
        assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
        if stops.is_some() {
            run.from = Some(retained(&run, &job).display().to_string());
            let report = &job.checkpoints.as_ref().unwrap().report;
            in_flight += report.latest_completed.as_ref().unwrap().persisted_bytes();
        }
    }
    assert!(in_flight > 0, "nothing was in flight");
    check_lines(&expected, &lines_in(&run.files));
}

fn slow_buckets(env: &mut Environment, run: &Run) -> Stream<String> {
    let buckets = run.timed(env).key_by(|n| n % 50).process("buckets", Buckets::new);
    let buckets = buckets.map(|bucket| Ok(format!("{bucket:?}")));
    let is_slow = run.is_slow();
    buckets.map(move |line| {
        std::thread::sleep(millis(u64::from(is_slow)));
        Ok(line)
    })
}

#[test]
fn records_in_flight_to_a_keyed_function_come_again() {
    check_unaligned(2, slow_buckets);
}

#[test]
fn records_in_flight_go_to_the_new_owners_of_their_keys() {
    check_rescaled(|env, run| {
        let sums = run.numbers(env, 2).map(|n| Ok((n % 100, 1))).key_by(|(key, _)| *key);
        let sums = sums.reduce("sums", |sum, (_, n)| {
            sum.1 += n;
            Ok(())
        });
        let is_slow = run.is_slow();
        sums.map(move |sum| {
            if is_slow {
                std::thread::sleep(PAUSE);
            }
            Ok(format!("{sum:?}"))
        })
    });
}

#[test]
fn records_in_flight_that_went_round_go_to_other_subtasks_each_once() {
    check_rescaled(|env, run| {
        let numbers = slowly(run.numbers(env, 2), run).parallelism(run.wide(2));
        // Not with one subtask: then the two are one task.
        let twice = numbers.flat_map(|n| Ok([n, n + 1_000_000])).parallelism(2);
        slowly(twice, run).map(|n| Ok(n.to_string())).parallelism(run.wide(2))
    });
}

#[test]
fn records_in_flight_that_go_round_come_again_each_once() {
    check_unaligned(3, |env, run| {
        let numbers = slowly(run.numbers(env, 2).rebalance(), run).parallelism(2);
        let twice = numbers.flat_map(|n| Ok([n, n + 1_000_000]));
        slowly(twice.parallelism(2).rebalance(), run).map(|n| Ok(n.to_string()))
    });
}

#[test]
fn watermarks_in_flight_come_again() {
    check_unaligned(2, |env, run| {
        let numbers = slowly(run.timed(env).rebalance(), run).parallelism(2);
        sums(numbers, Tumbling::event_time(millis(200)))
    });
}

#[test]
fn tasks_whose_records_cannot_be_overtaken_are_aligned_between_others() {
    check_unaligned(2, |env, run| {
        let rules = env.source("rules", Datagen::sequence(0..60)).parallelism(1);
        let numbers = slowly(run.numbers(env, 2).rebalance(), run).parallelism(2);
        // The numbers come forward, and the rules by broadcast.
        let allowed = numbers.connect_broadcast(rules).process("allowed", Allowed::new);
        let allowed = slowly(allowed.parallelism(2).rebalance(), run);
        allowed.map(|n| Ok(n.to_string()))
    });
}

#[test]
fn records_in_flight_to_both_inputs_come_again() {
    check_unaligned(2, |env, run| {
        let left = run.timed(env).key_by(|n| n % 20);
        let right = Datagen::sequence(0..COUNT).rate_per_second(RATE);
        let strategy = WatermarkStrategy::bounded_out_of_orderness(millis(100));
        let right = env.source("right", right).parallelism(2);
        let right = right.assign_timestamps(strategy.timestamps(|n| Ok(time(*n)))).parallelism(2);
        let right = right.key_by(|n| n % 20);
        let pairs = left.interval_join(right, -5..=5).apply("pairs", |a, b| Ok((*a, *b)));
        let is_slow = run.is_slow();
        pairs.map(move |(a, b)| {
            if is_slow && a % 2 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(format!("{a} {b}"))
        })
    });
}

/// The place that a sink writes to: it takes some batches, and then none until it is opened.
#[derive(Default)]
struct Place {
    is_open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    /// The records that each committable has published.
    published: Mutex<BTreeMap<String, Vec<(u64, u64)>>>,
}

#[derive(Clone, Default)]
struct Stalling(Arc<Place>);

impl Sink<(u64, u64, String)> for Stalling {
    type Committable = (String, Vec<(u64, u64)>);
    type Writer = StallingWriter;
    type Committer = Stalling;

    fn writer(&self, info: &WriterInfo) -> Result<StallingWriter> {
        Ok(StallingWriter {
            place: self.clone(),
            name: format!("{}-{}-{}", info.job, info.attempt, info.subtask),
            waker: info.waker.clone(),
            taken: 0,
            held: None,
            written: Vec::new(),
        })
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Stalling> {
        Ok(self.clone())
    }
}

impl Committer for Stalling {
    type Committable = (String, Vec<(u64, u64)>);

    fn recover(
        &mut self,
        pending: Vec<(CheckpointId, Vec<Self::Committable>)>,
        _ended: &[AttemptId],
    ) -> Result<()> {
        pending.into_iter().try_for_each(|(id, named)| self.commit(id, named))
    }

    fn commit(&mut self, _id: CheckpointId, named: Vec<Self::Committable>) -> Result<()> {
        self.0.published.lock().unwrap().extend(named);
        Ok(())
    }

    fn abort(&mut self, _ended: &[AttemptId]) -> Result<()> {
        Ok(())
    }
}

struct StallingWriter {
    place: Stalling,
    name: String,
    waker: Waker,
    taken: usize,
    held: Option<Batch<(u64, u64, String)>>,
    written: Vec<(u64, u64)>,
}

impl SinkWriter<(u64, u64, String)> for StallingWriter {
    type Committable = (String, Vec<(u64, u64)>);

    fn write(&mut self, batch: Batch<(u64, u64, String)>) -> Result<Flow> {
        self.taken += 1;
        self.held = Some(batch);
        self.resume()
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.taken > 3 && !self.place.0.is_open.load(Ordering::SeqCst) {
            self.place.0.wakers.lock().unwrap().push(self.waker.clone());
            return Ok(Flow::Full);
        }
        let records = self.held.take().into_iter().flat_map(Batch::into_records);
        self.written.extend(records.map(|(n, count, _)| (n, count)));
        Ok(Flow::Ready)
    }

    fn hand_back(&mut self) -> Result<Option<Batch<(u64, u64, String)>>> {
        Ok(self.held.take())
    }

    fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<Self::Committable>> {
        Ok(vec![(format!("{}-{id}", self.name), std::mem::take(&mut self.written))])
    }
}

const RECORDS: u64 = 20_000;
const KEYS: u64 = 97;

/// Counts records of 1 KB by key, at full speed, into a sink. Barriers overtake after a time.
fn count_into(
    sink: &Stalling,
    directory: &Path,
    timeout: &str,
    parallelism: u32,
    from: Option<&Path>,
    watch: fn(&MiniCluster),
) -> (Result<()>, Arc<JobDetails>) {
    let mut config = BTreeMap::from([
        ("execution.checkpointing.interval".to_owned(), "20 ms".to_owned()),
        (UNALIGNED.0.to_owned(), UNALIGNED.1.to_owned()),
        ("execution.checkpointing.aligned-checkpoint-timeout".to_owned(), timeout.to_owned()),
        ("execution.checkpointing.dir".to_owned(), format!("file://{}", directory.display())),
        (
            "execution.checkpointing.externalized-checkpoint-retention".to_owned(),
            "RETAIN_ON_CANCELLATION".to_owned(),
        ),
    ]);
    let from = from.map(|from| from.display().to_string());
    config.extend(from.map(|from| ("execution.state-recovery.path".to_owned(), from)));
    let settings = JobSettings { parallelism, config, ..JobSettings::default() };
    let (mut env, seen) = watched::environment(settings, watch);
    let numbers = env.source("numbers", Datagen::sequence(0..RECORDS));
    let long = numbers.map(|n| Ok((n, 1, "x".repeat(1_000))));
    let counts = long.key_by(|(n, ..)| n % KEYS).reduce("counts", |sum, (n, one, _)| {
        sum.0 = n;
        sum.1 += one;
        Ok(())
    });
    counts.sink("stalling", sink.clone());
    let result = env.execute("counts").map(drop);
    let job = seen.take(&result);
    (result, job)
}

/// Cancels a job once it has completed 20 checkpoints, the last of them with 1 MB in flight.
fn until_it_stalls(cluster: &MiniCluster) {
    let details = cluster.details();
    let is_enough = |job: &JobDetails| {
        job.checkpoints.as_ref().is_some_and(|checkpoints| {
            let latest = checkpoints.report.latest_completed.as_ref();
            let is_large = latest.is_some_and(|latest| latest.persisted_bytes() > 1 << 20);
            is_large && checkpoints.report.counts.completed >= 20
        })
    };
    while !is_enough(&details.borrow()) && !cluster.status().is_globally_terminal() {
        std::thread::sleep(millis(1));
    }
    cluster.cancel();
}

#[test]
fn a_sink_that_stalls_holds_up_no_checkpoint_and_what_is_in_flight_moves_to_other_subtasks() {
    check_stalled("0 ms");
}

#[test]
fn a_sink_that_stalls_has_barriers_overtake_after_the_timeout_of_aligned_ones() {
    let job = check_stalled("10 ms");
    let report = &job.checkpoints.as_ref().unwrap().report;
    let outcomes = format!("{:?}", report.history);
    assert!(outcomes.contains("have not left all tasks within 10ms"), "{outcomes}");
    assert!(report.counts.failed > 10, "{:?}", report.counts);
    assert_eq!(job.restarts, 0);
}

/// Has a job stall whose barriers overtake after a time, and go on at another parallelism: the job
/// that stalls.
fn check_stalled(timeout: &str) -> Arc<JobDetails> {
    let directory = tempfile::tempdir().unwrap();
    let sink = Stalling::default();
    let (_, stalled) = count_into(&sink, directory.path(), timeout, 2, None, until_it_stalls);
    let job = &stalled;
    assert_eq!(job.status, JobStatus::Canceled, "{:#?}", job.exceptions);
    let checkpoints = directory.path().join(job.job.to_string());
    let from = published(&checkpoints).find(|it| it.join("_metadata").exists()).unwrap();

    sink.0.is_open.store(true, Ordering::SeqCst);
    let (result, job) = count_into(&sink, directory.path(), timeout, 3, Some(&from), |_| {});
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    let published = sink.0.published.lock().unwrap();
    let mut numbers: Vec<u64> = published.values().flatten().map(|(n, _)| *n).collect();
    let mut counts: Vec<(u64, u64)> =
        published.values().flatten().map(|(n, count)| (n % KEYS, *count)).collect();
    numbers.sort_unstable();
    counts.sort_unstable();
    assert!(numbers.into_iter().eq(0..RECORDS), "each record once");
    let of_key = |key: u64| (key..RECORDS).step_by(KEYS as usize).zip(1..);
    let expected = (0..KEYS).flat_map(|key| of_key(key).map(move |(_, count)| (key, count)));
    assert!(counts.into_iter().eq(expected), "each count of a key once");
    stalled
}
