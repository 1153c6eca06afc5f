//! The programs: built by the public interface, and their results computed without any of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use millstream_api::*;
use millstream_connectors::Random;
use millstream_graph::{JobGraph, JobSettings};
use millstream_types::Clock;

use crate::ledger::{Ledger, Record};
use crate::source::{Handed, Listed, Pace};

/// The length of windows, in milliseconds.
const WINDOW: i64 = 100;

/// The number of keys.
const KEYS: u64 = 13;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each subtask has channels to the one of its number alone.
    Forward,
    /// The counts of each key, and its sum at last.
    Counts,
    /// As [`Kind::Counts`], of numbers that go round before.
    Rounds,
    /// Counts of each key in a time, by timers.
    Timers,
    /// Sums of each key in windows.
    Windows,
    /// The same of numbers of which every other one is late.
    Late,
}

/// A program and its settings, as a seed chooses them.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: Kind,
    pub parallelism: u32,
    /// The number of numbers.
    pub count: u64,
    pub per_poll: usize,
    pub pause: Duration,
    /// Whether an enumerator hands out the splits.
    pub enumerated: bool,
    /// Whether two enumerators do, each of its half.
    pub two_sources: bool,
    /// Whether enumerators restart alone.
    pub alone: bool,
    pub unaligned: bool,
    /// The time after which barriers overtake.
    pub aligned_timeout: Duration,
    /// Whether records are encoded within a host, too.
    pub encodes: bool,
    pub chaining: bool,
    pub buffer_timeout: Duration,
    /// The time between two checkpoints.
    pub interval: Duration,
    /// The number of complete checkpoints that are kept.
    pub retained: u32,
    /// The slots of each TaskManager.
    pub per_worker: u32,
}

impl Plan {
    pub fn random(random: &mut Random) -> Self {
        let untimed = [Kind::Forward, Kind::Counts, Kind::Rounds];
        let timed = [Kind::Timers, Kind::Windows, Kind::Late];
        let kind = [untimed, timed].as_flattened()[random.below(6) as usize];
        let millis = |millis| Duration::from_millis(millis);
        Self {
            kind,
            parallelism: 1 + random.below(3) as u32,
            count: 600 + random.below(600),
            per_poll: 2 + random.below(6) as usize,
            pause: Duration::from_micros(random.below(3_000)),
            enumerated: untimed.contains(&kind) && random.below(2) == 0,
            two_sources: random.below(2) == 0,
            alone: random.below(2) == 0,
            unaligned: random.below(3) == 0,
            aligned_timeout: millis(random.below(2) * random.below(10)),
            encodes: random.below(2) == 0,
            chaining: random.below(3) > 0,
            buffer_timeout: millis(random.below(3)),
            interval: millis(10 + random.below(20)),
            retained: 1 + random.below(3) as u32,
            per_worker: 1 + random.below(2) as u32,
        }
    }

    fn settings(&self, from: Option<&str>) -> JobSettings {
        let config = [
            ("execution.checkpointing.interval", format!("{} ms", self.interval.as_millis())),
            ("execution.checkpointing.timeout", "500 ms".to_owned()),
            ("execution.checkpointing.unaligned.enabled", self.unaligned.to_string()),
            (
                "execution.checkpointing.aligned-checkpoint-timeout",
                format!("{} ms", self.aligned_timeout.as_millis()),
            ),
            ("execution.checkpointing.tolerable-failed-checkpoints", "3".to_owned()),
            // No task opens a file there, and the world answers for the storage.
            ("execution.checkpointing.dir", "/simulated".to_owned()),
            ("execution.checkpointing.data-inline-threshold", "1 mb".to_owned()),
            ("execution.checkpointing.num-retained", self.retained.to_string()),
            (
                "execution.checkpointing.externalized-checkpoint-retention",
                "RETAIN_ON_CANCELLATION".to_owned(),
            ),
            ("restart-strategy.type", "fixed-delay".to_owned()),
            ("restart-strategy.fixed-delay.attempts", "1000".to_owned()),
            ("restart-strategy.fixed-delay.delay", "5 ms".to_owned()),
        ];
        let mut config: BTreeMap<String, String> =
            config.map(|(key, value)| (key.to_owned(), value)).into();
        let from = from.map(|from| ("execution.state-recovery.path".to_owned(), from.to_owned()));
        config.extend(from);
        let (parallelism, chaining) = (self.parallelism, self.chaining);
        let mut settings = JobSettings { parallelism, chaining, config, ..JobSettings::default() };
        settings.set_watermark_interval(Duration::from_millis(2));
        settings
    }

    /// The program with its plan, to start from a checkpoint or from nothing.
    pub fn build(
        &self,
        from: Option<&str>,
        clock: &Clock,
        ledger: &Ledger,
        trouble: &Trouble,
    ) -> (Program, JobGraph) {
        let taken = Rc::new(RefCell::new(None));
        let capture = Capture { settings: self.settings(from), taken: Rc::clone(&taken) };
        let mut env = Environment::new(Box::new(capture));
        env.set_runtime_mode(RuntimeMode::Streaming);
        env.set_buffer_timeout(Some(self.buffer_timeout));
        env.set_serialize_always(self.encodes);
        let pace = Pace { per_poll: self.per_poll, pause: self.pause, clock: clock.clone() };
        let numbers = self.numbers(&mut env, pace);
        let trouble = trouble.clone();
        let numbers = match self.kind {
            Kind::Rounds => numbers.rebalance(),
            _ => numbers,
        };
        let numbers = numbers.map(move |n| {
            trouble.strike()?;
            Ok(n)
        });
        self.results(numbers).sink("ledger", ledger.clone());
        env.execute("pipeline").expect("the program is planned");
        taken.take().expect("the job was handed over")
    }

    fn numbers(&self, env: &mut Environment, pace: Pace) -> Stream<u64> {
        match (self.enumerated, self.alone) {
            (true, true) => self.handed::<true>(env, pace),
            (true, false) => self.handed::<false>(env, pace),
            (false, _) => {
                let numbers = env.source("numbers", Listed(self.count, pace));
                // Whether a record is late would depend on the other subtasks.
                if self.kind == Kind::Late { numbers.parallelism(1) } else { numbers }
            }
        }
    }

    fn handed<const ALONE: bool>(&self, env: &mut Environment, pace: Pace) -> Stream<u64> {
        if !self.two_sources {
            return env.source("numbers", Handed::<ALONE>(0..self.count, pace));
        }
        let half = self.count / 2;
        let first = env.source("numbers", Handed::<ALONE>(0..half, pace.clone()));
        first.union(env.source("more numbers", Handed::<ALONE>(half..self.count, pace)))
    }

    fn results(&self, numbers: Stream<u64>) -> Stream<Record> {
        let last: BTreeMap<u64, i64> =
            (0..KEYS).map(|key| (key, self.of_key(key).count() as i64)).collect();
        match self.kind {
            Kind::Forward => numbers.map(|n| Ok((n, 0, 1))),
            Kind::Counts | Kind::Rounds => {
                let last = Arc::new(last);
                numbers.key_by(|n| n % KEYS).process("counts", move |states| {
                    Ok(Counts { sums: states.value("sums")?, last: Arc::clone(&last) })
                })
            }
            Kind::Timers => timed(numbers).key_by(|n| n % KEYS).process("timers", |states| {
                Ok(Buckets { counts: states.map("counts")?, over: states.event_timers("over")? })
            }),
            Kind::Windows => windows(timed(numbers)),
            Kind::Late => windows(half_late(numbers.parallelism(1))),
        }
    }

    fn of_key(&self, key: u64) -> impl Iterator<Item = u64> {
        (0..self.count).filter(move |n| n % KEYS == key)
    }

    /// The results, each with the times that it comes.
    pub fn expected(&self) -> BTreeMap<Record, u64> {
        let mut expected = BTreeMap::new();
        match self.kind {
            Kind::Forward => expected.extend((0..self.count).map(|n| ((n, 0, 1), 1))),
            Kind::Counts | Kind::Rounds => {
                for key in 0..KEYS {
                    let (all, sum) = (self.of_key(key).count() as i64, self.of_key(key).sum());
                    let result = |count| (key, count, if count == all { sum } else { 0 });
                    expected.extend((1..=all).map(|count| (result(count), 1)));
                }
            }
            Kind::Timers | Kind::Windows | Kind::Late => {
                let mut windows: BTreeMap<(u64, i64), (u64, u64)> = BTreeMap::new();
                let is_late = |n: &u64| self.kind == Kind::Late && !n.is_multiple_of(2);
                for n in (0..self.count).filter(|n| !is_late(n)) {
                    let time = if self.kind == Kind::Late { n.cast_signed() } else { time(n) };
                    let of = windows.entry((n % KEYS, time / WINDOW * WINDOW)).or_default();
                    *of = (of.0 + 1, of.1 + n);
                }
                let is_timers = self.kind == Kind::Timers;
                expected.extend(windows.into_iter().map(|((key, start), (count, sum))| {
                    ((key, start, if is_timers { count } else { sum }), 1)
                }));
            }
        }
        expected
    }
}

/// The event time of a number: out of order by up to 20 ms.
const fn time(n: u64) -> i64 {
    (n + n * 7 % 20).cast_signed()
}

fn timed(numbers: Stream<u64>) -> Stream<u64> {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(60));
    numbers.assign_timestamps(strategy.timestamps(|n| Ok(time(*n))))
}

/// Every other number is half a second late, right behind a restore, too.
fn half_late(numbers: Stream<u64>) -> Stream<u64> {
    let times = |n: &u64| Ok(n.cast_signed() - if n.is_multiple_of(2) { 0 } else { 500 });
    let strategy = WatermarkStrategy::generator(|| Punctual).timestamps(times);
    numbers.assign_timestamps(strategy).parallelism(1)
}

/// Emits a watermark behind each record that is not late.
struct Punctual;

impl WatermarkGenerator<u64> for Punctual {
    fn on_record(&mut self, _: &u64, time: i64, out: &mut WatermarkOutput) {
        out.emit(time - 1);
    }
}

fn windows(numbers: Stream<u64>) -> Stream<Record> {
    let windows = Tumbling::event_time(Duration::from_millis(WINDOW as u64));
    numbers.key_by(|n| n % KEYS).window(windows).aggregate(
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
}

/// Has a function fail once.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<AtomicU8>);

/// The message of a failure that the world causes.
pub const TROUBLE: &str = "the world has it fail";

impl Trouble {
    pub fn arm(&self, panics: bool) {
        self.0.store(1 + u8::from(panics), Ordering::Relaxed);
    }

    /// Fails if it is to.
    pub fn strike(&self) -> Result<()> {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            1 => bail!("{TROUBLE}"),
            _ => std::panic::panic_any(TROUBLE),
        }
    }
}

struct Counts {
    sums: ValueState<(i64, u64)>,
    /// The last count of each key.
    last: Arc<BTreeMap<u64, i64>>,
}

impl KeyedProcess<u64, u64> for Counts {
    type Out = Record;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Record>,
    ) -> Result<()> {
        let (count, sum) = self.sums.get(ctx)?.copied().unwrap_or_default();
        let (count, sum) = (count + 1, sum + n);
        self.sums.set(ctx, (count, sum))?;
        let is_last = self.last.get(ctx.key()) == Some(&count);
        out.emit((*ctx.key(), count, if is_last { sum } else { 0 }));
        Ok(())
    }
}

/// Counts the records of each tenth of a second.
struct Buckets {
    counts: MapState<i64, u64>,
    over: Timers,
}

impl KeyedProcess<u64, u64> for Buckets {
    type Out = Record;

    fn process(
        &mut self,
        _: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Record>,
    ) -> Result<()> {
        let time = ctx.timestamp().ok_or_else(|| error!("a record without time"))?;
        let start = time / WINDOW * WINDOW;
        let count = self.counts.get(ctx, &start)?.copied().unwrap_or_default();
        self.counts.put(ctx, start, count + 1)?;
        Ok(self.over.set(ctx, start + WINDOW - 1)?)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Record>,
    ) -> Result<()> {
        let start = timer.time() + 1 - WINDOW;
        let count = self.counts.remove(ctx, &start)?.unwrap_or_default();
        out.emit((*ctx.key(), start, count));
        Ok(())
    }
}

/// The role of the world: it takes the job.
struct Capture {
    settings: JobSettings,
    taken: Rc<RefCell<Option<(Program, JobGraph)>>>,
}

impl Executor for Capture {
    fn settings(&self) -> JobSettings {
        self.settings.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        *self.taken.borrow_mut() = Some((program, graph));
        let (job, status) = (JobId::from_u128(1), JobStatus::Finished);
        Ok(Execution::Finished(JobResult { job, status, runtime: Duration::ZERO }))
    }
}
