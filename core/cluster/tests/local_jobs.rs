//! Jobs in one process: what each operator and each way of partitioning does to records.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

#[path = "local_jobs/alignment.rs"]
mod alignment;
#[path = "local_jobs/broadcast.rs"]
mod broadcast;
#[path = "local_jobs/contracts.rs"]
mod contracts;
#[path = "local_jobs/finish.rs"]
mod finish;
#[path = "local_jobs/graphs.rs"]
mod graphs;
#[path = "local_jobs/joins.rs"]
mod joins;
#[path = "local_jobs/metrics.rs"]
mod metrics;
#[path = "local_jobs/refused.rs"]
mod refused;
#[path = "local_jobs/second_opinion.rs"]
mod second_opinion;
#[path = "local_jobs/timers.rs"]
mod timers;
#[path = "local_jobs/times.rs"]
mod times;
#[path = "local_jobs/travel.rs"]
mod travel;
#[path = "local_jobs/watermarks.rs"]
mod watermarks;
#[path = "local_jobs/windows.rs"]
mod windows;
#[path = "local_jobs/windows_that_fail.rs"]
mod windows_that_fail;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_gateway::JobDetails;
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;

/// Counts from 0, its subtasks by turns.
struct Numbers(u64);

struct NumbersReader {
    next: u64,
    end: u64,
    step: u64,
}

impl Source for Numbers {
    type Out = u64;
    type Split = ();
    type Reader = NumbersReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<NumbersReader> {
        let (next, step) = (u64::from(ctx.subtask), u64::from(ctx.parallelism));
        Ok(NumbersReader { next, end: self.0, step })
    }
}

impl SourceReader for NumbersReader {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, batch: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        while self.next < self.end && batch.len() < 1000 {
            batch.push(self.next)?;
            self.next += self.step;
        }
        Ok(if batch.is_empty() { Polled::Finished } else { Polled::Ready })
    }
}

/// Hands records to the test, through the committer like any other sink.
#[derive(Clone)]
struct Collect<T>(Arc<Mutex<Vec<(u32, T)>>>);

impl<T> Collect<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn records(&self) -> Vec<T>
    where
        T: Clone + Ord,
    {
        let mut records: Vec<T> = self.0.lock().unwrap().iter().map(|(_, r)| r.clone()).collect();
        records.sort();
        records
    }

    fn by_subtask(&self, subtask: u32) -> usize {
        self.0.lock().unwrap().iter().filter(|(at, _)| *at == subtask).count()
    }
}

struct CollectWriter<T> {
    subtask: u32,
    records: Vec<T>,
}

struct CollectCommitter<T>(Arc<Mutex<Vec<(u32, T)>>>);

impl<T: Data + Sync> Sink<T> for Collect<T> {
    type Committable = (u32, T);
    type Writer = CollectWriter<T>;
    type Committer = CollectCommitter<T>;

    fn writer(&self, info: &WriterInfo) -> Result<CollectWriter<T>> {
        Ok(CollectWriter { subtask: info.subtask, records: Vec::new() })
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<CollectCommitter<T>> {
        Ok(CollectCommitter(Arc::clone(&self.0)))
    }
}

impl<T: Data> SinkWriter<T> for CollectWriter<T> {
    type Committable = (u32, T);

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.records.extend(batch.into_records());
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<(u32, T)>> {
        Ok(self.records.drain(..).map(|record| (self.subtask, record)).collect())
    }
}

impl<T: Data> Committer for CollectCommitter<T> {
    type Committable = (u32, T);

    fn recover(
        &mut self,
        _pending: Vec<(CheckpointId, Vec<(u32, T)>)>,
        _ended: &[AttemptId],
    ) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _id: CheckpointId, committables: Vec<(u32, T)>) -> Result<()> {
        self.0.lock().unwrap().extend(committables);
        Ok(())
    }

    fn abort(&mut self, _ended: &[AttemptId]) -> Result<()> {
        Ok(())
    }
}

/// The key with which a test says that it wants records handed over as they are.
const AS_THEY_ARE: &str = "as-they-are";

/// The job as it was when it ended.
type Seen = Rc<RefCell<Option<Arc<JobDetails>>>>;

struct Local {
    settings: JobSettings,
    config: JobMasterConfig,
    seen: Seen,
}

impl Executor for Local {
    /// Settings under which records that cannot pass between processes fail here too.
    fn settings(&self) -> JobSettings {
        let mut settings = self.settings.clone();
        let as_they_are = settings.config.remove(AS_THEY_ARE).is_some();
        settings.set_serialize_always(!as_they_are);
        settings
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let config = self.config.for_job(&graph.settings.config)?;
        let cluster = MiniCluster::start(program, graph, config)?;
        let details = cluster.details();
        let result = cluster.wait();
        *self.seen.borrow_mut() = Some(Arc::clone(&details.borrow()));
        Ok(Execution::Finished(result?))
    }
}

/// Runs a job at a parallelism: its result, and how it looked at its end if it was planned.
fn run_and_see(
    settings: JobSettings,
    build: impl FnOnce(&mut Environment) -> Result<()>,
) -> (Result<()>, Option<Arc<JobDetails>>) {
    run_under(JobMasterConfig::default(), settings, build)
}

fn run_under(
    config: JobMasterConfig,
    settings: JobSettings,
    build: impl FnOnce(&mut Environment) -> Result<()>,
) -> (Result<()>, Option<Arc<JobDetails>>) {
    let seen = Seen::default();
    let local = Local { settings, config, seen: Rc::clone(&seen) };
    let mut env = Environment::new(Box::new(local));
    let result = build(&mut env).and_then(|()| env.execute("test").map(drop));
    (result, seen.borrow_mut().take())
}

/// Runs a job at a parallelism; the error's text if it failed, and restarts and dropped records.
fn run_with(
    settings: JobSettings,
    build: impl FnOnce(&mut Environment) -> Result<()>,
) -> (Result<()>, u32, u64) {
    let (result, seen) = run_and_see(settings, build);
    let vertices = seen.iter().flat_map(|details| &details.vertices);
    let subtasks = vertices.flat_map(|vertex| &vertex.subtasks);
    let dropped = subtasks.map(|subtask| subtask.metrics.records_dropped).sum();
    (result, seen.map_or(0, |details| details.restarts), dropped)
}

fn run(parallelism: u32, build: impl FnOnce(&mut Environment) -> Result<()>) {
    let settings = JobSettings { parallelism, ..JobSettings::default() };
    run_with(settings, build).0.unwrap();
}

#[test]
fn stateless_operators_do_what_they_say() {
    for parallelism in [1, 3] {
        let out = Collect::new();
        run(parallelism, |env| {
            env.source("numbers", Numbers(10_000))
                .map(|n| Ok(n * 2))
                .filter(|n| Ok(n % 3 == 0))
                .flat_map(|n| Ok([n, n + 1]))
                .sink("out", out.clone());
            Ok(())
        });
        let mut expected: Vec<u64> =
            (0..10_000).map(|n| n * 2).filter(|n| n % 3 == 0).flat_map(|n| [n, n + 1]).collect();
        expected.sort_unstable();
        assert_eq!(out.records(), expected);
    }
}

/// Counts the batches that reach its writers.
#[derive(Clone, Default)]
struct CountBatches(Arc<AtomicU64>);

impl Sink<u64> for CountBatches {
    type Committable = ();
    type Writer = Self;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<Self> {
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for CountBatches {
    type Committable = ();

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        drop(batch);
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

/// The coordinators have nothing to say for longer than hosts may be silent, and user code blocks.
#[test]
fn a_job_with_nothing_to_say_is_alive() {
    let out = Collect::new();
    let heartbeat_timeout = Duration::from_secs(2);
    let config = JobMasterConfig { heartbeat_timeout, ..JobMasterConfig::default() };
    let (result, seen) = run_under(config, JobSettings::default(), |env| {
        let number = env.source("numbers", Numbers(1));
        let slow = number.map(move |n| {
            std::thread::sleep(heartbeat_timeout * 2);
            Ok(n)
        });
        slow.sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    assert_eq!(out.records(), [0]);
    assert_eq!(seen.unwrap().exceptions.len(), 0);
}

#[test]
fn batches_that_leave_a_task_are_counted_exactly() {
    let spreads: [Spread; 3] = [Stream::forward, Stream::rebalance, Stream::broadcast];
    for spread in spreads {
        let received = CountBatches::default();
        let settings = JobSettings { parallelism: 3, ..JobSettings::default() };
        let (result, seen) = run_and_see(settings, |env| {
            let numbers = env.source("numbers", Numbers(100_000)).disable_chaining();
            spread(numbers).sink("received", received.clone());
            Ok(())
        });
        result.unwrap();
        let details = seen.unwrap();
        let sent = |vertex: usize| -> u64 {
            let subtasks = details.vertices[vertex].subtasks.iter();
            subtasks.map(|subtask| subtask.metrics.buffers_out).sum()
        };
        assert_eq!((sent(0), sent(1)), (received.0.load(Ordering::Relaxed), 0));
        assert!(sent(0) >= 3);
    }
}

type Spread = fn(Stream<u64>) -> Stream<u64>;

#[test]
fn every_partitioning_delivers_every_record_once() {
    let spreads: [(&str, Spread); 6] = [
        ("forward", Stream::forward),
        ("rebalance", Stream::rebalance),
        ("rescale", Stream::rescale),
        ("global", Stream::global),
        ("custom", |s| s.partition_custom(|n, count| usize::try_from(*n).unwrap() % count)),
        ("unsaid", |s| s),
    ];
    for (name, spread) in spreads {
        let out = Collect::new();
        run(4, |env| {
            let numbers = env.source("numbers", Numbers(100_000)).disable_chaining();
            spread(numbers).map(Ok).disable_chaining().sink("out", out.clone());
            Ok(())
        });
        assert_eq!(out.records(), (0..100_000).collect::<Vec<_>>(), "{name}");
        let busy = (0..4).filter(|subtask| out.by_subtask(*subtask) > 0).count();
        assert_eq!(busy, if name == "global" { 1 } else { 4 }, "{name}");
    }
}

#[test]
fn few_records_spread_too() {
    let out = Collect::new();
    run(4, |env| {
        let numbers = env.source("numbers", Numbers(40)).parallelism(1);
        numbers.rebalance().map(Ok).sink("out", out.clone());
        Ok(())
    });
    assert!((0..4).all(|subtask| out.by_subtask(subtask) == 10));
}

#[test]
fn broadcast_delivers_every_record_to_every_subtask() {
    let out = Collect::new();
    run(3, |env| {
        env.source("numbers", Numbers(5_000)).broadcast().map(Ok).sink("out", out.clone());
        Ok(())
    });
    assert!((0..3).all(|subtask| out.by_subtask(subtask) == 5_000));
}

#[test]
fn reduce_emits_updates_in_streaming_and_final_values_in_batch() {
    for (mode, parallelism) in
        [(RuntimeMode::Streaming, 1), (RuntimeMode::Streaming, 3), (RuntimeMode::Batch, 2)]
    {
        let out = Collect::new();
        run(parallelism, |env| {
            env.set_runtime_mode(mode);
            env.source("numbers", Numbers(50_000))
                .map(|n| Ok((n % 777, 1u64)))
                .key_by(|(key, _)| *key)
                .reduce("count", |total, next| {
                    total.1 += next.1;
                    Ok(())
                })
                .sink("out", out.clone());
            Ok(())
        });
        let records = out.records();
        let total = |key: u64| 50_000 / 777 + u64::from(key < 50_000 % 777);
        let expected: Vec<(u64, u64)> = match mode {
            RuntimeMode::Batch => (0..777).map(|key| (key, total(key))).collect(),
            _ => (0..777).flat_map(|key| (1..=total(key)).map(move |n| (key, n))).collect(),
        };
        assert_eq!(records, expected, "{mode:?} at {parallelism}");
    }
}

struct Distinct {
    seen: MapState<u64, ()>,
    last: ValueState<u64>,
    all: ListState<u64>,
}

static REPEATED: OutputTag<(u64, u64)> = OutputTag::new("repeated");

impl KeyedProcess<u64, u64> for Distinct {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if self.seen.get(ctx, &record)?.is_some() {
            let before = self.last.get(ctx)?.copied().unwrap_or_default();
            return out.emit_to(&REPEATED, (record, before));
        }
        self.seen.put(ctx, record, ())?;
        self.last.set(ctx, record)?;
        self.all.add(ctx, record)?;
        let mut count = 0;
        let mut all = self.all.elements(ctx)?;
        while all.next()?.is_some() {
            count += 1;
        }
        out.emit(count);
        Ok(())
    }
}

#[test]
fn a_keyed_process_has_state_and_side_outputs() {
    let (out, repeated) = (Collect::new(), Collect::new());
    run(2, |env| {
        let distinct = env
            .source("numbers", Numbers(3_000))
            .map(|n| Ok(n % 1_000))
            .key_by(|n| n % 10)
            .process("distinct", |states| {
                Ok(Distinct {
                    seen: states.map("seen")?,
                    last: states.value("last")?,
                    all: states.list("all")?,
                })
            });
        distinct.side_output(&REPEATED).sink("repeated", repeated.clone());
        distinct.sink("out", out.clone());
        Ok(())
    });
    let expected: Vec<u64> = (1..=100).flat_map(|n| [n; 10]).collect();
    assert_eq!(out.records(), expected);
    assert_eq!(repeated.records().len(), 2_000);
}

#[test]
fn union_connect_and_clones_bring_streams_together() {
    let (united, connected, twice) = (Collect::new(), Collect::new(), Collect::new());
    run(2, |env| {
        let low = env.source("low", Numbers(100));
        let high = env.source("high", Numbers(100)).map(|n| Ok(n + 100));
        low.clone().union(high.clone()).sink("united", united.clone());
        let words = high.clone().map(|n| Ok(n.to_string()));
        low.clone()
            .connect(words)
            .map(Ok, |word| Ok(word.parse()?))
            .sink("connected", connected.clone());
        low.clone().union(low).union(high).sink("twice", twice.clone());
        Ok(())
    });
    assert_eq!(united.records(), (0..200).collect::<Vec<u64>>());
    assert_eq!(connected.records(), (0..200).collect::<Vec<u64>>());
    assert_eq!(twice.records().len(), 300);
}

struct Limit {
    limit: ValueState<u64>,
}

impl KeyedCoProcess<u64, u64, (u64, u64)> for Limit {
    type Out = (u64, u64);

    fn process_left(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let limit = self.limit.get(ctx)?.copied().unwrap_or_default();
        out.emit((record, limit));
        Ok(())
    }

    fn process_right(
        &mut self,
        record: (u64, u64),
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.limit.set(ctx, record.1).map_err(Into::into)
    }
}

#[test]
fn keyed_streams_connect_by_key() {
    let out = Collect::new();
    run(2, |env| {
        let limits = env.source("limits", Numbers(10)).map(|n| Ok((n, n * 7)));
        let values = env.source("values", Numbers(10_000));
        values
            .key_by(|n| n % 10)
            .connect(limits.key_by(|(key, _)| *key))
            .process("limit", |states| Ok(Limit { limit: states.value("limit")? }))
            .sink("out", out.clone());
        Ok(())
    });
    let records = out.records();
    assert_eq!(records.len(), 10_000);
    assert!(records.iter().all(|(n, limit)| *limit == 0 || *limit == (n % 10) * 7));
}

#[test]
fn a_flat_map_with_a_million_results_is_suspended_and_resumed() {
    let out = Collect::new();
    run(1, |env| {
        env.source("numbers", Numbers(3))
            .flat_map(|n| Ok((0..1_000_000u64).map(move |i| n * 1_000_000 + i)))
            .disable_chaining()
            .filter(|n| Ok(n % 1_000 == 0))
            .disable_chaining()
            .sink("out", out.clone());
        Ok(())
    });
    assert_eq!(out.records(), (0..3_000).map(|n| n * 1_000).collect::<Vec<u64>>());
}

#[test]
fn a_bad_record_fails_the_task_is_dropped_or_goes_aside() {
    static BAD: OutputTag<u64> = OutputTag::new("bad");
    fn odd_only(n: u64) -> Result<u64> {
        ensure!(n % 2 == 1, "{n} is even");
        Ok(n)
    }
    let (failed, ..) = run_with(JobSettings::default(), |env| {
        env.source("numbers", Numbers(10)).map(odd_only).sink("out", Collect::new());
        Ok(())
    });
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("operator \"Map\" failed on a record: 0 is even"), "{error}");

    let out = Collect::new();
    let (result, _, dropped) = run_with(JobSettings::default(), |env| {
        let numbers = env.source("numbers", Numbers(10)).on_error(OnError::drop_record());
        numbers.map(odd_only).sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    assert_eq!((out.records(), dropped), (vec![1, 3, 5, 7, 9], 5));

    let (out, bad) = (Collect::new(), Collect::new());
    run(2, |env| {
        let numbers = env.source("numbers", Numbers(10)).on_error(OnError::side_output(&BAD));
        let good = numbers.flat_map(|n| odd_only(n).map(Some));
        good.side_output(&BAD).sink("bad", bad.clone());
        good.sink("out", out.clone());
        Ok(())
    });
    assert_eq!((out.records(), bad.records()), (vec![1, 3, 5, 7, 9], vec![0, 2, 4, 6, 8]));
}

#[test]
fn a_panic_fails_the_job_with_its_message_and_place() {
    let (failed, ..) = run_with(JobSettings::default(), |env| {
        env.source("numbers", Numbers(10))
            .map(|n| if n == 7 { panic!("seven") } else { Ok(n) })
            .sink("out", Collect::new());
        Ok(())
    });
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("user code panicked at core/cluster/tests/local_jobs.rs"), "{error}");
    assert!(error.contains(": seven"), "{error}");
}

#[test]
fn a_restart_begins_anew_and_its_output_is_exact() {
    let mut settings = JobSettings { parallelism: 2, ..JobSettings::default() };
    let config = &mut settings.config;
    config.insert("restart-strategy.type".into(), "fixed-delay".into());
    config.insert("restart-strategy.fixed-delay.attempts".into(), "2".into());
    config.insert("restart-strategy.fixed-delay.delay".into(), "10 ms".into());
    let (out, failures) = (Collect::new(), Arc::new(Mutex::new(2)));
    let left = Arc::clone(&failures);
    let (result, restarts, _) = run_with(settings, |env| {
        env.source("numbers", Numbers(10_000))
            .map(move |n| {
                let mut left = left.lock().unwrap();
                if n == 9_000 && *left > 0 {
                    *left -= 1;
                    bail!("not yet");
                }
                Ok(n)
            })
            .sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    assert_eq!(restarts, 2);
    assert_eq!(out.records(), (0..10_000).collect::<Vec<u64>>());
}

#[test]
fn faults_of_the_graph_are_told_in_one_sentence() {
    let (result, ..) = run_with(JobSettings::default(), |env| {
        let low = env.source("low", Numbers(1));
        let high = env.source("high", Numbers(1));
        low.union(high).name("both").sink("out", Collect::new());
        Ok(())
    });
    let error = result.unwrap_err().to_string();
    assert!(error.contains("name() must follow an operator directly"), "{error}");
}

/// Numbers, of which each subtask's reader has dropped three.
struct Unreadable(Numbers);

impl Source for Unreadable {
    type Out = u64;
    type Split = ();
    type Reader = NumbersReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        self.0.boundedness()
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<NumbersReader> {
        ctx.dropped.add(3);
        ctx.skipped.add(1);
        self.0.reader(ctx)
    }
}

#[test]
fn records_that_readers_and_operators_drop_are_one_number() {
    let settings = JobSettings { parallelism: 2, ..JobSettings::default() };
    let (result, seen) = run_and_see(settings, |env| {
        let odd = |n: u64| if n % 2 == 1 { Err(error!("{n} is odd")) } else { Ok(n) };
        env.source("numbers", Unreadable(Numbers(10)))
            .on_error(OnError::drop_record())
            .map(odd)
            .sink("even", Collect::new());
        Ok(())
    });
    result.unwrap();
    let seen = seen.unwrap();
    let metrics = || seen.vertices.iter().flat_map(|it| &it.subtasks).map(|it| &it.metrics);
    assert_eq!(metrics().map(|metrics| metrics.records_dropped).sum::<u64>(), 2 * 3 + 5);
    let users: Vec<&str> =
        metrics().flat_map(|metrics| metrics.user.keys().map(String::as_str)).collect();
    assert!(!users.contains(&"numRecordsDropped"), "{users:?}");
}
