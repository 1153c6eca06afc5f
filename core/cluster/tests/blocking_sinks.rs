//! Sinks that block: the other tasks of their slot go on, and whatever happens meanwhile, each
//! record is committed once.
//!
//! A job has two pipelines in one slot. The sink of one blocks, mostly until the other pipeline has
//! delivered more, which a slot that stands still never would.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where a step fails")]

mod watched;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_connectors::Datagen;
use millstream_gateway::{CheckpointRequest, JobDetails, RequestState};
use millstream_graph::JobSettings;
use millstream_types::{JobStatus, TriggerId};

/// The records of the pipeline with the sink that blocks.
const COUNT: u64 = 3_000;
/// The records that the other pipeline must deliver while a call blocks.
const MEANWHILE: u64 = 300;
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The counters and results that the tests share with the sinks of a job.
#[derive(Default)]
struct Shared {
    /// The records that the other pipeline has delivered.
    delivered: AtomicU64,
    /// The threads that have written into the other pipeline's sink, and that made the writers.
    threads: Mutex<HashSet<ThreadId>>,
    /// The number of calls that have blocked.
    blocked: AtomicU64,
    /// A call that waits for it goes on.
    released: AtomicBool,
    /// Writers that live.
    writers: AtomicU64,
    committed: Mutex<Vec<u64>>,
}

/// The way in which a sink blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The first three pre-commits, until the other pipeline has delivered more.
    PreCommits,
    /// The first three batches, until then.
    Writes,
    /// The first pre-commit, until it is released.
    UntilReleased,
    /// Each pre-commit, for a while.
    AWhile,
    /// The first pre-commit fails while the other pipeline goes on.
    Fails,
    /// It panics.
    Panics,
    Never,
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        ensure!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[derive(Clone)]
struct Blocking {
    way: Way,
    shared: Arc<Shared>,
}

struct BlockingWriter {
    sink: Blocking,
    records: Vec<u64>,
}

impl Drop for BlockingWriter {
    fn drop(&mut self) {
        self.sink.shared.writers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Blocking {
    /// Waits until the other pipeline has delivered more.
    fn wait_for_others(&self) -> Result<()> {
        let delivered = || self.shared.delivered.load(Ordering::SeqCst);
        let before = delivered();
        wait_until("a record of the other task", || delivered() >= before + MEANWHILE)
    }
}

impl Sink<u64> for Blocking {
    type Committable = u64;
    type Writer = BlockingWriter;
    type Committer = Self;

    fn writer(&self, _info: &WriterInfo) -> Result<BlockingWriter> {
        self.shared.writers.fetch_add(1, Ordering::SeqCst);
        self.shared.threads.lock().unwrap().insert(std::thread::current().id());
        Ok(BlockingWriter { sink: self.clone(), records: Vec::new() })
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Self> {
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for BlockingWriter {
    type Committable = u64;

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        if self.sink.way == Way::Writes && self.sink.shared.blocked.load(Ordering::SeqCst) < 3 {
            self.sink.wait_for_others()?;
            self.sink.shared.blocked.fetch_add(1, Ordering::SeqCst);
        }
        self.records.extend(batch.into_records());
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<u64>> {
        let Blocking { way, shared } = &self.sink;
        match way {
            Way::PreCommits if shared.blocked.load(Ordering::SeqCst) < 3 => {
                self.sink.wait_for_others()?;
                shared.blocked.fetch_add(1, Ordering::SeqCst);
            }
            Way::UntilReleased if shared.blocked.fetch_add(1, Ordering::SeqCst) == 0 => {
                wait_until("the release", || shared.released.load(Ordering::SeqCst))?;
            }
            Way::AWhile => {
                shared.blocked.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
            Way::Fails => {
                self.sink.wait_for_others()?;
                bail!("the disk is gone");
            }
            Way::Panics => panic!("no luck"),
            Way::PreCommits | Way::UntilReleased | Way::Writes | Way::Never => {}
        }
        Ok(std::mem::take(&mut self.records))
    }
}

impl Committer for Blocking {
    type Committable = u64;

    fn recover(&mut self, pending: Vec<(CheckpointId, Vec<u64>)>, _: &[AttemptId]) -> Result<()> {
        pending.into_iter().try_for_each(|(id, records)| self.commit(id, records))
    }

    fn commit(&mut self, _: CheckpointId, records: Vec<u64>) -> Result<()> {
        self.shared.committed.lock().unwrap().extend(records);
        Ok(())
    }

    fn abort(&mut self, _: &[AttemptId]) -> Result<()> {
        Ok(())
    }
}

/// Says that each of its calls may block.
struct EachCall<W>(W);

impl Sink<u64> for EachCall<Blocking> {
    type Committable = u64;
    type Writer = EachCall<BlockingWriter>;
    type Committer = Blocking;

    fn writer(&self, info: &WriterInfo) -> Result<Self::Writer> {
        self.0.writer(info).map(EachCall)
    }

    fn committer(&self, info: &CommitterInfo) -> Result<Blocking> {
        self.0.committer(info)
    }
}

impl SinkWriter<u64> for EachCall<BlockingWriter> {
    type Committable = u64;

    fn blocks(&self) -> Blocks {
        Blocks::Everything
    }

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        self.0.write(batch)
    }

    fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<u64>> {
        self.0.pre_commit(id)
    }
}

/// Counts the records of the other pipeline.
struct Delivered(Arc<Shared>);

impl Sink<u64> for Delivered {
    type Committable = ();
    type Writer = Self;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<Self> {
        self.0.threads.lock().unwrap().insert(std::thread::current().id());
        Ok(Self(Arc::clone(&self.0)))
    }
}

impl SinkWriter<u64> for Delivered {
    type Committable = ();

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        self.0.delivered.fetch_add(batch.len() as u64, Ordering::SeqCst);
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

/// One run of the job.
struct Run {
    result: Result<()>,
    job: Arc<JobDetails>,
    shared: Arc<Shared>,
}

/// The settings of a job that takes checkpoints, with more.
fn checkpoints<'a>(more: &[(&'a str, &'a str)]) -> BTreeMap<String, String> {
    let usual = [
        ("execution.checkpointing.interval", "10 ms"),
        ("restart-strategy.type", "none"),
        ("execution.checkpointing.tolerable-failed-checkpoints", "1000"),
    ];
    let pairs = usual.iter().chain(more);
    pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn run(
    way: Way,
    config: BTreeMap<String, String>,
    watch: impl FnOnce(&MiniCluster, &Shared) + 'static,
) -> Run {
    run_with(&[way], config, watch)
}

/// Runs a job in which these sinks are behind one source, and another pipeline is beside them.
fn run_with(
    ways: &[Way],
    config: BTreeMap<String, String>,
    watch: impl FnOnce(&MiniCluster, &Shared) + 'static,
) -> Run {
    let shared = Arc::<Shared>::default();
    let watched = Arc::clone(&shared);
    let settings = JobSettings { parallelism: 1, config, ..JobSettings::default() };
    let (mut env, seen) = watched::environment(settings, move |it| watch(it, &watched));
    let numbers = env.source("numbers", Datagen::sequence(0..COUNT).rate_per_second(3_000));
    for (at, way) in ways.iter().enumerate() {
        let sink = Blocking { way: *way, shared: Arc::clone(&shared) };
        let name = format!("blocking {at}");
        match way {
            Way::Writes => numbers.clone().sink(&name, EachCall(sink)),
            _ => numbers.clone().sink(&name, sink),
        };
    }
    let others = Datagen::sequence(0..20_000).rate_per_second(8_000);
    env.source("others", others).sink("delivered", Delivered(Arc::clone(&shared)));
    let result = env.execute("test").map(drop);
    let job = seen.take(&result);
    assert_eq!(shared.threads.lock().unwrap().len(), 1, "they are in one slot");
    assert_eq!(shared.writers.load(Ordering::SeqCst), 0, "a writer is left");
    Run { result, job, shared }
}

impl Run {
    /// Checks that the first records were committed, each once, and none is missing between.
    fn committed(&self) -> u64 {
        let mut committed = self.shared.committed.lock().unwrap().clone();
        committed.sort_unstable();
        assert!(committed.iter().copied().eq(0..committed.len() as u64), "{committed:?}");
        committed.len() as u64
    }
}

#[test]
fn a_pre_commit_that_blocks_holds_back_no_other_task_of_its_slot() {
    let run = run(Way::PreCommits, checkpoints(&[]), |_, _| {});
    run.result.as_ref().unwrap();
    assert_eq!(run.shared.blocked.load(Ordering::SeqCst), 3);
    assert_eq!(run.committed(), COUNT);
}

#[test]
fn the_last_pre_commit_of_a_job_without_checkpoints_holds_back_no_other_task() {
    let run = run(Way::PreCommits, BTreeMap::new(), |_, _| {});
    run.result.as_ref().unwrap();
    assert_eq!(run.shared.blocked.load(Ordering::SeqCst), 1);
    assert_eq!(run.committed(), COUNT);
}

#[test]
fn writes_that_block_hold_back_no_other_task_if_the_writer_says_so() {
    let run = run(Way::Writes, checkpoints(&[]), |_, _| {});
    run.result.as_ref().unwrap();
    assert_eq!(run.shared.blocked.load(Ordering::SeqCst), 3);
    assert_eq!(run.committed(), COUNT);
}

#[test]
fn a_checkpoint_that_is_aborted_during_a_pre_commit_loses_nothing_of_it() {
    let config = checkpoints(&[("execution.checkpointing.timeout", "100 ms")]);
    let run = run(Way::UntilReleased, config, |cluster, shared| {
        let details = cluster.details();
        let failed = || {
            let job = Arc::clone(&details.borrow());
            job.checkpoints.as_ref().map_or(0, |it| it.report.counts.failed)
        };
        wait_until("a failed checkpoint", || failed() > 0).unwrap();
        shared.released.store(true, Ordering::SeqCst);
    });
    run.result.as_ref().unwrap();
    let counts = &run.job.checkpoints.as_ref().unwrap().report.counts;
    assert!(counts.failed > 0 && counts.completed > 0, "{counts:?}");
    assert_eq!(run.committed(), COUNT);
}

#[test]
fn a_stop_waits_for_the_pre_commit_of_its_barrier() {
    let savepoints = tempfile::tempdir().unwrap();
    let target = Some(savepoints.path().display().to_string());
    let config = checkpoints(&[("execution.checkpointing.interval", "1 h")]);
    let run = run(Way::AWhile, config, |cluster, shared| {
        wait_until("records", || shared.delivered.load(Ordering::SeqCst) > 2_000).unwrap();
        let request = CheckpointRequest::Stop { target, drain: false };
        cluster.request(TriggerId::from_u128(1), request);
    });
    run.result.as_ref().unwrap();
    let RequestState::Complete { .. } = run.job.requests[0].state else {
        panic!("{:?}", run.job.requests)
    };
    assert_eq!(run.shared.blocked.load(Ordering::SeqCst), 1);
    assert!((1..COUNT).contains(&run.committed()));
}

#[test]
fn a_task_that_is_cancelled_ends_once_its_pre_commit_has() {
    let run = run(Way::UntilReleased, checkpoints(&[]), |cluster, shared| {
        wait_until("a pre-commit", || shared.blocked.load(Ordering::SeqCst) > 0).unwrap();
        cluster.cancel();
        let details = cluster.details();
        let ended = || {
            let job = Arc::clone(&details.borrow());
            let subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
            subtasks.filter(|subtask| subtask.state.is_terminal()).count()
        };
        // The other task does not wait for it.
        wait_until("the end of the other task", || ended() == 1).unwrap();
        assert_eq!(cluster.status(), JobStatus::Cancelling);
        assert_eq!(shared.writers.load(Ordering::SeqCst), 1);
        shared.released.store(true, Ordering::SeqCst);
    });
    assert_eq!(run.job.status, JobStatus::Canceled);
}

#[test]
fn a_task_that_fails_ends_once_nothing_of_it_runs() {
    let ways = [Way::PreCommits, Way::Fails];
    let run = run_with(&ways, checkpoints(&[]), |_, _| {});
    let error = format!("{:#}", run.result.unwrap_err());
    assert!(error.contains("sink \"Sink: blocking 1\" failed: the disk is gone"), "{error}");
    let run = run_with(&[Way::Never, Way::Panics], checkpoints(&[]), |_, _| {});
    let error = format!("{:#}", run.result.unwrap_err());
    assert!(
        error.contains("user code panicked: sink \"Sink: blocking 1\" at core/cluster"),
        "{error}"
    );
    assert!(error.contains("no luck"), "{error}");
}
