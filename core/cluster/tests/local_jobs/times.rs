//! Event times: each record keeps its own through any operator and on any way.

use super::*;

static ASIDE: OutputTag<u64> = OutputTag::new("aside");
static REFUSED: OutputTag<u64> = OutputTag::new("refused");

/// Counts from 0, its subtasks by turns; each number has the time of [`time_of`].
pub(super) struct TimedNumbers(pub(super) u64);

pub(super) struct TimedReader(NumbersReader);

pub(super) const fn time_of(n: u64) -> i64 {
    n.cast_signed() * 10 - 100
}

impl Source for TimedNumbers {
    type Out = u64;
    type Split = ();
    type Reader = TimedReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn has_timestamps(&self) -> bool {
        true
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<TimedReader> {
        Numbers(self.0).reader(ctx).map(TimedReader)
    }
}

impl SourceReader for TimedReader {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, batch: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let Self(numbers) = self;
        while numbers.next < numbers.end && batch.len() < 7 {
            batch.push_at(numbers.next, time_of(numbers.next))?;
            numbers.next += numbers.step;
        }
        Ok(if batch.is_empty() { Polled::Finished } else { Polled::Ready })
    }
}

/// A record, and the time that it came with.
pub(super) type Stamped<T> = (T, Option<i64>);

/// Keeps what arrives with its time.
#[derive(Clone)]
pub(super) struct Times<T>(Arc<Mutex<Vec<Stamped<T>>>>);

impl<T: Clone + Ord> Times<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn arrived(&self) -> Vec<Stamped<T>> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn sorted(&self) -> Vec<Stamped<T>> {
        let mut records = self.arrived();
        records.sort();
        records
    }
}

impl<T: Data> Sink<T> for Times<T> {
    type Committable = ();
    type Writer = Self;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<Self> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

impl<T: Data> SinkWriter<T> for Times<T> {
    type Committable = ();

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.0.lock().unwrap().extend(batch);
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

/// The way of records from operator to operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Way {
    Chained,
    Encoded,
    /// Over loopback, between the hosts of two TaskManagers.
    Tcp,
}

struct On {
    way: Way,
    mode: RuntimeMode,
}

impl Executor for On {
    fn settings(&self) -> JobSettings {
        let parallelism = if self.way == Way::Chained { 1 } else { 2 };
        let mut settings =
            JobSettings { parallelism, runtime_mode: self.mode, ..JobSettings::default() };
        settings.set_serialize_always(self.way == Way::Encoded);
        settings.chaining = self.way != Way::Tcp;
        settings
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn warn(&mut self, _warning: &str) {}

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let workers = if self.way == Way::Tcp { 2 } else { 1 };
        let config = JobMasterConfig::default();
        let cluster = MiniCluster::start_on(workers, program, graph, config)?;
        Ok(Execution::Finished(cluster.wait()?))
    }
}

/// Runs a job whose records travel on this way.
pub(super) fn run_on_way(
    way: Way,
    mode: RuntimeMode,
    build: impl FnOnce(&mut Environment),
) -> Result<()> {
    let mut env = Environment::new(Box::new(On { way, mode }));
    build(&mut env);
    env.execute("times").map(drop)
}

/// The results of operators on numbers with times, in each way.
fn check<T, I>(build: impl Fn(Stream<u64>) -> Stream<T>, expected: impl Fn(u64) -> I)
where
    T: Data + Clone + Ord + std::fmt::Debug,
    I: IntoIterator<Item = T>,
{
    for way in [Way::Chained, Way::Encoded, Way::Tcp] {
        let out = Times::new();
        let result = run_on_way(way, RuntimeMode::Streaming, |env| {
            let numbers = env.source("numbers", TimedNumbers(100)).parallelism(1);
            build(numbers).sink("out", out.clone());
        });
        result.with_context(|| format!("{way:?}")).unwrap();
        let stamped = |n: u64| expected(n).into_iter().map(move |r| (r, Some(time_of(n))));
        let mut expected: Vec<Stamped<T>> = (0..100).flat_map(stamped).collect();
        expected.sort();
        assert_eq!(out.sorted(), expected, "{way:?}");
    }
}

#[test]
fn functions_on_one_record_keep_its_time() {
    check(|numbers| numbers.map(|n| Ok(n + 1)), |n| vec![n + 1]);
    check(|numbers| numbers.filter(|n| Ok(n % 3 == 0)), |n| (n % 3 == 0).then_some(n));
    check(|numbers| numbers.flat_map(|n| Ok(vec![n; 3])), |n| vec![n; 3]);
    check(|numbers| numbers.rebalance().map(Ok), |n| vec![n]);
    check(|numbers| numbers.broadcast().map(Ok).parallelism(2), |n| vec![n; 2]);
}

/// Emits each record twice, and aside too if it can be divided by three; refuses some.
struct Twice;

impl Twice {
    fn take(
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, (u64, Option<i64>)>,
    ) -> Result<()> {
        let time = ctx.timestamp();
        out.emit((n, time));
        out.emit((n, time));
        if n.is_multiple_of(3) {
            out.emit_to(&ASIDE, n)?;
        }
        ensure!(n % 5 != 4, "refused");
        Ok(())
    }
}

impl KeyedProcess<u64, u64> for Twice {
    type Out = (u64, Option<i64>);

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Self::take(n, ctx, out)
    }
}

impl KeyedCoProcess<u64, u64, u64> for Twice {
    type Out = (u64, Option<i64>);

    fn process_left(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Self::take(n, ctx, out)
    }

    fn process_right(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Self::take(n, ctx, out)
    }
}

type Processed = Stream<(u64, Option<i64>)>;

fn process(numbers: Stream<u64>) -> Processed {
    let keyed = numbers.key_by(|n| n % 7).on_error(OnError::side_output(&REFUSED));
    keyed.process("twice", |_| Ok(Twice))
}

/// The odd ones come in at one side and the even ones at the other.
fn process_two(numbers: Stream<u64>) -> Processed {
    let odd = numbers.clone().filter(|n| Ok(n % 2 == 1)).key_by(|n| n % 7);
    let even = numbers.filter(|n| Ok(n % 2 == 0)).key_by(|n| n % 7);
    let odd = odd.on_error(OnError::side_output(&REFUSED));
    let even = even.on_error(OnError::side_output(&REFUSED));
    odd.connect(even).process("twice", |_| Ok(Twice))
}

#[test]
fn results_of_keyed_functions_have_the_time_of_their_record() {
    for build in [process, process_two] {
        check(build, |n| if n % 5 == 4 { vec![] } else { vec![(n, Some(time_of(n))); 2] });
    }
}

#[test]
fn side_outputs_keep_the_time_of_the_record() {
    for build in [process, process_two] {
        let aside = move |numbers| build(numbers).side_output(&ASIDE);
        check(aside, |n| (n % 3 == 0 && n % 5 != 4).then_some(n));
        let refused = move |numbers| build(numbers).side_output(&REFUSED);
        check(refused, |n| (n % 5 == 4).then_some(n));
    }
}

#[test]
fn refused_records_keep_their_time() {
    let odd = |n: u64| {
        ensure!(n % 2 == 1, "refused");
        Ok(n)
    };
    let even = |n: u64| n.is_multiple_of(2).then_some(n);
    let policy = || OnError::side_output(&REFUSED);
    check(move |numbers| numbers.on_error(policy()).map(odd).side_output(&REFUSED), even);
    let all = move |n| odd(n).map(|n| [n]);
    check(move |numbers| numbers.on_error(policy()).flat_map(all).side_output(&REFUSED), even);
    let reduced = move |numbers: Stream<u64>| {
        let keyed = numbers.key_by(|n| n / 2).on_error(policy());
        keyed.reduce("sum", |_, _| bail!("refused")).side_output(&REFUSED)
    };
    // Of two records with one key the first makes the value, the second one is refused.
    check(reduced, |n| (n % 2 == 1).then_some(n));
}

#[test]
fn results_of_two_plain_functions_have_the_time_of_their_record() {
    check(
        |numbers| {
            let odd = numbers.clone().filter(|n| Ok(n % 2 == 1));
            let even = numbers.filter(|n| Ok(n % 2 == 0));
            odd.connect(even).flat_map(|n| Ok(vec![n; 2]), |n| Ok(Some(n)))
        },
        |n| vec![n; if n % 2 == 1 { 2 } else { 1 }],
    );
}

#[test]
fn updates_of_a_reduce_have_the_time_of_the_record_that_made_them() {
    let sums = |numbers: Stream<u64>| {
        numbers.key_by(|n| n % 10).reduce("sum", |sum, n| {
            *sum += n;
            Ok(())
        })
    };
    check(sums, |n| [(n % 10..=n).step_by(10).sum::<u64>()]);
}

#[test]
fn final_values_of_a_reduce_have_the_end_of_time() {
    for way in [Way::Chained, Way::Encoded, Way::Tcp] {
        let out = Times::new();
        run_on_way(way, RuntimeMode::Batch, |env| {
            let keyed = env.source("numbers", TimedNumbers(100)).key_by(|n| n % 10);
            let most = keyed.reduce("most", |most, n| {
                *most = n.max(*most);
                Ok(())
            });
            most.sink("out", out.clone());
        })
        .unwrap();
        let expected: Vec<_> = (90..100).map(|most: u64| (most, Some(i64::MAX))).collect();
        assert_eq!(out.sorted(), expected, "{way:?}");
    }
}

#[test]
fn streams_of_one_kind_are_united_whatever_the_size_of_their_batches() {
    check(
        |numbers| {
            let few = numbers.clone().filter(|n| Ok(n % 50 == 0));
            numbers.union(few).rebalance().map(Ok)
        },
        |n| vec![n; if n % 50 == 0 { 2 } else { 1 }],
    );
}

/// The error's text of a job that fails, or is refused.
pub(super) fn error_of(build: impl FnOnce(&mut Environment)) -> String {
    let error = run_on_way(Way::Encoded, RuntimeMode::Streaming, build).unwrap_err();
    format!("{error:#}")
}

#[test]
fn a_union_of_a_stream_with_times_and_one_without_is_refused_and_names_both() {
    let error = error_of(|env| {
        let timed = env.source("timed", TimedNumbers(10));
        let plain = env.source("plain", Numbers(10)).key_by(|n| *n);
        let plain = plain.process("aside", |_| Ok(Twice)).side_output(&ASIDE);
        let united = timed.map(Ok).name("one more").union(plain);
        united.clone().sink("out", Times::new());
        united.sink("out again", Times::new());
    });
    let expected = "a union() has records of operator \"one more\", which have event times, and of \
                    the side output \"aside\" of operator with state \"aside\", which have none";
    assert_eq!(error.matches(expected).count(), 1, "{error}");
}

#[test]
fn results_of_a_timed_and_an_untimed_input_have_no_time_and_are_warned_of() {
    let connect = |env: &mut Environment, out: &Times<u64>| {
        let timed = env.source("timed", TimedNumbers(20)).key_by(|n| *n);
        let plain = env.source("plain", Numbers(20)).key_by(|n| *n);
        let both = timed.connect(plain).process("both", |_| Ok(Both));
        both.side_output(&ASIDE).sink("aside", out.clone());
        both.sink("out", out.clone());
    };
    for way in [Way::Chained, Way::Encoded, Way::Tcp] {
        let out = Times::new();
        run_on_way(way, RuntimeMode::Streaming, |env| connect(env, &out)).unwrap();
        let expected = (0..20).flat_map(|n| [(n, None); 4]).collect::<Vec<_>>();
        assert_eq!(out.sorted(), expected, "{way:?}");
    }
    let told = graphs::warnings(|env| connect(env, &Times::new()));
    assert_eq!(told.len(), 1, "{told:?}");
    let warning = &told[0];
    let expected = "records of the first input of operator \"both\" have event times, those of the \
                    second input have none, so its results have none";
    assert!(warning.starts_with(expected), "{warning}");
}

/// Emits each record at both outputs; sees the time of those that have one.
struct Both;

impl KeyedCoProcess<u64, u64, u64> for Both {
    type Out = u64;

    fn process_left(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure!(ctx.timestamp() == Some(time_of(n)), "{n} came with {:?}", ctx.timestamp());
        out.emit(n);
        out.emit_to(&ASIDE, n)
    }

    fn process_right(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure!(ctx.timestamp().is_none(), "{n} came with {:?}", ctx.timestamp());
        out.emit(n);
        out.emit_to(&ASIDE, n)
    }
}

/// A source's word about event times, and its reader's contradiction.
#[derive(Clone, Copy)]
enum Contradiction {
    NoTimes,
    Times,
}

struct Contradicting(Contradiction);

impl Source for Contradicting {
    type Out = u64;
    type Split = ();
    type Reader = Self;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn has_timestamps(&self) -> bool {
        matches!(self.0, Contradiction::NoTimes)
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<Self> {
        Ok(Self(self.0))
    }
}

impl SourceReader for Contradicting {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, batch: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        match self.0 {
            Contradiction::NoTimes => batch.push(1)?,
            Contradiction::Times => batch.push_at(1, 10)?,
        }
        Ok(Polled::Finished)
    }
}

#[test]
fn a_reader_that_contradicts_its_source_fails_and_is_told_what_to_do() {
    let with = "source \"clock\" says that its records have event times, but a record without";
    let without = "source \"clock\" says that its records have no event times, but a record with";
    for (contradiction, says, remedy) in [
        (Contradiction::NoTimes, with, "let has_timestamps() be false"),
        (Contradiction::Times, without, "let has_timestamps() be true"),
    ] {
        let error = error_of(|env| {
            env.source("clock", Contradicting(contradiction)).sink("out", Times::new());
        });
        assert!(error.contains(says) && error.contains(remedy), "{error}");
    }
}
