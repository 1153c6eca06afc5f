//! A job without an end whose every part fails as its test says: numbers that an enumerator hands
//! out, a sum of them for each key, and a sink that commits them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_gateway::{CheckpointRequest, JobDetails, RequestState};
use millstream_graph::JobSettings;
use millstream_types::schema::{Kind, SchemaBuilder, State};
use millstream_types::{ExecutionState, TriggerId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Fault, MANY_KEYS, fault, set, watched};

/// Far longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The numbers of a split.
const SPLIT: u64 = 50;

/// Numbers from 0 on.
struct Numbers {
    test: usize,
}

struct Enumerator {
    test: usize,
    next: u64,
    returned: Vec<Range<u64>>,
}

#[derive(Default)]
struct Reader(Vec<Range<u64>>);

impl Source for Numbers {
    type Out = u64;
    type Split = Range<u64>;
    type Reader = Reader;
    type Enumerator = Enumerator;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn reader(&self, _: &ReaderContext) -> Result<Reader> {
        Ok(Reader::default())
    }

    fn enumerator(&self, restored: Option<(u64, Vec<Range<u64>>)>) -> Result<Enumerator> {
        let (next, returned) = restored.unwrap_or_default();
        Ok(Enumerator { test: self.test, next, returned })
    }
}

impl SplitEnumerator for Enumerator {
    type Split = Range<u64>;
    type State = (u64, Vec<Range<u64>>);

    fn discover(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn next_split(&mut self, _: u32) -> Result<NextSplit<Range<u64>>> {
        if let Some(returned) = self.returned.pop() {
            return Ok(NextSplit::Split(returned));
        }
        self.next += SPLIT;
        Ok(NextSplit::Split(self.next - SPLIT..self.next))
    }

    fn give_back(&mut self, _: u32, splits: Vec<Range<u64>>) -> Result<()> {
        self.returned.extend(splits);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Self::State> {
        ensure!(fault(self.test) != Fault::Enumerator, "the list of splits is locked");
        Ok((self.next, self.returned.clone()))
    }
}

impl SourceReader for Reader {
    type Out = u64;
    type Split = Range<u64>;

    fn add_splits(&mut self, splits: Vec<Range<u64>>) -> Result<()> {
        self.0.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let Some(numbers) = self.0.last_mut() else { return Ok(Polled::NeedSplit) };
        match numbers.next() {
            Some(number) => out.extend([number])?,
            None => drop(self.0.pop()),
        }
        Ok(Polled::Pending(Some(Instant::now() + Duration::from_micros(300))))
    }

    fn snapshot(&mut self) -> Result<Vec<Range<u64>>> {
        Ok(self.0.clone())
    }
}

/// A number that cannot always be written or read.
struct Fragile<const TEST: usize>(u64);

impl<const TEST: usize> Serialize for Fragile<TEST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if fault(TEST) == Fault::Write {
            return Err(serde::ser::Error::custom("a number that is not written"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de, const TEST: usize> Deserialize<'de> for Fragile<TEST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        if fault(TEST) == Fault::Read {
            return Err(serde::de::Error::custom("a number that is not read"));
        }
        Ok(Self(number))
    }
}

impl<const TEST: usize> State for Fragile<TEST> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        u64::schema(builder)
    }
}

/// Adds up the numbers of each key, and passes them on.
struct Sums<const TEST: usize>(ValueState<Fragile<TEST>>);

impl<const TEST: usize> KeyedProcess<u64, u64> for Sums<TEST> {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        let sum = self.0.get(ctx)?.map_or(0, |sum| sum.0);
        self.0.set(ctx, Fragile(sum + number))?;
        out.emit(number);
        Ok(())
    }
}

/// Hands each number over when it is committed.
#[derive(Clone)]
struct Kept {
    test: usize,
    committed: Arc<Mutex<Vec<u64>>>,
}

struct Writer {
    test: usize,
    numbers: Vec<u64>,
}

impl Sink<u64> for Kept {
    type Committable = u64;
    type Writer = Writer;
    type Committer = Self;

    fn writer(&self, _: &WriterInfo) -> Result<Writer> {
        Ok(Writer { test: self.test, numbers: Vec::new() })
    }

    fn committer(&self, _: &CommitterInfo) -> Result<Self> {
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for Writer {
    type Committable = u64;

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        self.numbers.extend(batch.into_records());
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<u64>> {
        match fault(self.test) {
            Fault::PreCommit => {
                set(self.test, Fault::None);
                bail!("the table is locked");
            }
            Fault::SlowPreCommit => std::thread::sleep(Duration::from_secs(2)),
            _ => {}
        }
        Ok(std::mem::take(&mut self.numbers))
    }
}

impl Committer for Kept {
    type Committable = u64;

    fn recover(&mut self, pending: Vec<(CheckpointId, Vec<u64>)>, _: &[AttemptId]) -> Result<()> {
        pending.into_iter().try_for_each(|(id, numbers)| self.commit(id, numbers))
    }

    fn commit(&mut self, _: CheckpointId, numbers: Vec<u64>) -> Result<()> {
        self.committed.lock().unwrap().extend(numbers);
        Ok(())
    }

    fn abort(&mut self, _: &[AttemptId]) -> Result<()> {
        Ok(())
    }
}

/// The job as it runs.
pub(super) struct Running<'a> {
    cluster: &'a MiniCluster,
    pub(super) directory: PathBuf,
}

/// The job as it ended.
pub(super) struct Ended {
    pub(super) result: Result<()>,
    pub(super) job: Arc<JobDetails>,
    pub(super) committed: Vec<u64>,
}

pub(super) fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs the job, whose checkpoints are in this directory, and looks at it meanwhile. They are taken
/// when they are asked for, and each state is in a file.
pub(super) fn run<const TEST: usize>(
    directory: &Path,
    settings: &[(&str, &str)],
    watch: impl FnOnce(&Running<'_>) + 'static,
) -> Ended {
    let name = super::disk::faulty(TEST, directory);
    let usual = [
        ("execution.checkpointing.interval", "1 h"),
        ("execution.checkpointing.dir", &name),
        ("execution.checkpointing.data-inline-threshold", "0 b"),
        ("execution.checkpointing.tolerable-failed-checkpoints", "100"),
        ("restart-strategy.type", "fixed-delay"),
        ("restart-strategy.fixed-delay.attempts", "10"),
        ("restart-strategy.fixed-delay.delay", "1 ms"),
    ];
    let config: BTreeMap<String, String> = usual
        .iter()
        .chain(settings)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let committed = Arc::<Mutex<Vec<u64>>>::default();
    let settings = JobSettings { parallelism: 1, config, ..JobSettings::default() };
    let directory = directory.to_path_buf();
    let watch = move |cluster: &MiniCluster| watch(&Running { cluster, directory });
    let (mut env, seen) = watched::environment(settings, watch);
    let numbers = env.source("numbers", Numbers { test: TEST });
    let keys = if TEST == MANY_KEYS { u64::MAX } else { 10 };
    let sums = numbers
        .key_by(move |n| n % keys)
        .process("sums", |states| Ok(Sums::<TEST>(states.value("sum of numbers")?)));
    let failing = sums.map(|n| {
        let then = match fault(TEST) {
            Fault::Map => Fault::None,
            Fault::MapAndRead => Fault::Read,
            _ => return Ok(n),
        };
        set(TEST, then);
        bail!("no luck with {n}");
    });
    failing.sink("kept", Kept { test: TEST, committed: Arc::clone(&committed) });
    let result = env.execute("test").map(drop);
    let job = seen.take(&result);
    let mut committed = std::mem::take(&mut *committed.lock().unwrap());
    committed.sort_unstable();
    Ended { result, job, committed }
}

impl Running<'_> {
    fn details(&self) -> Arc<JobDetails> {
        Arc::clone(&self.cluster.details().borrow())
    }

    pub(super) fn restarts(&self) -> u32 {
        self.details().restarts
    }

    /// The directory of the job's checkpoints.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join(self.cluster.job().to_string())
    }

    /// Waits until all tasks run.
    pub(super) fn wait_for_tasks(&self) {
        wait_until("the tasks", || {
            let job = self.details();
            assert!(!job.status.is_globally_terminal(), "{:#?}", job.exceptions);
            let mut tasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
            tasks.all(|task| task.state == ExecutionState::Running).then_some(())
        });
    }

    /// Asks for a checkpoint or a savepoint and waits for it: its number, or why there is none;
    /// `None` if the job ends before.
    fn request(&self, request: CheckpointRequest) -> Option<Result<u64, String>> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let trigger = TriggerId::from_u128(1 + u128::from(LAST.fetch_add(1, Ordering::Relaxed)));
        self.cluster.request(trigger, request);
        wait_until("the checkpoint", || {
            let job = self.details();
            let asked = job.requests.iter().find(|request| request.trigger == trigger);
            match asked.map(|asked| &asked.state) {
                Some(RequestState::Complete { checkpoint, .. }) => Some(Some(Ok(checkpoint.get()))),
                Some(RequestState::Failed(reason)) => Some(Some(Err(reason.clone()))),
                Some(RequestState::InProgress) | None => {
                    job.status.is_globally_terminal().then_some(None)
                }
            }
        })
    }

    /// Takes a checkpoint: its number, or why there is none.
    pub(super) fn checkpoint(&self) -> Result<u64, String> {
        self.wait_for_tasks();
        let outcome = self.request(CheckpointRequest::Checkpoint);
        outcome.unwrap_or_else(|| panic!("{:#?}", self.details().exceptions))
    }

    /// Takes a checkpoint, which is complete, and all that is left of the earlier ones.
    pub(super) fn good_checkpoint(&self) -> u64 {
        let id = wait_until("a good checkpoint", || self.checkpoint().ok());
        let mut left = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let entries = std::fs::read_dir(self.root()).unwrap();
            left = entries.map(|entry| entry.unwrap().file_name()).collect();
            if left == [std::ffi::OsString::from(format!("chk-{id}"))] {
                return id;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("beside chk-{id} there is {left:?}");
    }

    /// Whether the job has come to run, or has ended before.
    pub(super) fn runs(&self) -> bool {
        wait_until("the tasks or the end", || {
            let job = self.details();
            let mut tasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
            let is_over = job.status.is_globally_terminal();
            let run = tasks.all(|task| task.state == ExecutionState::Running);
            (run || is_over).then_some(!is_over)
        })
    }

    /// Waits until the function has seen so many numbers.
    pub(super) fn wait_for_numbers(&self, count: u64) {
        wait_until("the numbers", || {
            let job = self.details();
            let mut tasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
            tasks.any(|task| task.metrics.records_in >= count).then_some(())
        });
    }

    /// Stops the job with a savepoint, however often one is refused.
    pub(super) fn stop(&self) {
        let target = Some(self.directory.join("savepoints").display().to_string());
        let stop = CheckpointRequest::Stop { target, drain: false };
        wait_until("the stop", || match self.request(stop.clone()) {
            Some(Err(_)) => None,
            Some(Ok(_)) | None => Some(()),
        });
    }
}

impl Ended {
    /// Checks that the job has stopped, and has committed each number once.
    pub(super) fn check(&self) {
        self.check_from(0);
    }

    /// The same of a job that goes on with this number.
    pub(super) fn check_from(&self, first: u64) {
        assert!(self.result.is_ok(), "{:?}: {:#?}", self.result, self.job.exceptions);
        let committed = &self.committed;
        let end = first + committed.len() as u64;
        assert!(end > first && committed.iter().copied().eq(first..end), "{committed:?}");
    }

    /// The savepoint with which the job has stopped.
    pub(super) fn savepoint(&self) -> String {
        let location = self.job.requests.iter().find_map(|request| match &request.state {
            RequestState::Complete { location, .. } => location.clone(),
            RequestState::InProgress | RequestState::Failed(_) => None,
        });
        location.unwrap_or_else(|| panic!("{:?}", self.job.requests))
    }
}
