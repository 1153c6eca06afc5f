//! Functions that are called when it is time.

use std::collections::{BTreeMap, BTreeSet};

use millstream_connectors::Datagen;
use millstream_types::counters;

use super::times::{Times, Way, error_of, run_on_way, time_of};
use super::*;

/// The sum of a key's numbers in each span of 200 ms of event time, when the span is over.
struct Spans {
    sums: MapState<i64, u64>,
    over: Timers,
}

const SPAN: i64 = 200;

/// The last millisecond of the span that a time is in.
const fn end_of_span(time: i64) -> i64 {
    time - time.rem_euclid(SPAN) + SPAN - 1
}

impl Spans {
    fn new(ctx: &mut KeyedRuntimeContext<'_, u64>) -> Result<Self> {
        Ok(Self { sums: ctx.map("sums")?, over: ctx.event_timers("over")? })
    }

    fn add(&self, n: u64, ctx: &mut Context<'_, u64>) -> Result<()> {
        let end = end_of_span(ctx.timestamp().context("no time")?);
        ensure!(ctx.current_watermark().is_none_or(|watermark| watermark < end), "{n} is late");
        let sum = self.sums.get(ctx, &end)?.copied().unwrap_or_default();
        self.sums.put(ctx, end, sum + n)?;
        Ok(self.over.set(ctx, end)?)
    }

    fn end(
        &self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, (u64, i64, u64)>,
    ) -> Result<()> {
        ensure!(timer.is_of(&self.over) && timer.name() == "over", "{timer:?}");
        let sum = self.sums.remove(ctx, &timer.time())?.context("fired twice")?;
        out.emit((*ctx.key(), timer.time(), sum));
        Ok(())
    }
}

impl KeyedProcess<u64, u64> for Spans {
    type Out = (u64, i64, u64);

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.add(n, ctx)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.end(timer, ctx, out)
    }

    fn finish_key(
        &mut self,
        _: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        bail!("a key has state when all timers have fired")
    }
}

impl KeyedCoProcess<u64, u64, u64> for Spans {
    type Out = (u64, i64, u64);

    fn process_left(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.add(n, ctx)
    }

    fn process_right(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.add(n, ctx)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.end(timer, ctx, out)
    }
}

const COUNT: u64 = 5_000;

fn sums() -> Vec<((u64, i64, u64), Option<i64>)> {
    let mut sums = BTreeMap::new();
    for n in 0..COUNT {
        *sums.entry((n % 7, end_of_span(time_of(n)))).or_insert(0) += n;
    }
    sums.into_iter().map(|((key, end), sum)| ((key, end, sum), Some(end))).collect()
}

/// Numbers whose watermarks come often.
fn timed(env: &mut Environment, uid: &str) -> Stream<u64> {
    let strategy = WatermarkStrategy::generator(|| NowAndThen);
    env.source(uid, Numbers(COUNT)).assign_timestamps(strategy.timestamps(|n| Ok(time_of(*n))))
}

/// Emits a watermark now and then; the numbers of a subtask come in order.
struct NowAndThen;

impl WatermarkGenerator<u64> for NowAndThen {
    fn on_record(&mut self, n: &u64, time: i64, out: &mut WatermarkOutput) {
        if n % 10 < 2 {
            out.emit(time - 1);
        }
    }
}

#[test]
fn timers_of_event_time_fire_when_all_records_before_them_have_come() {
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        for way in [Way::Chained, Way::Encoded, Way::Tcp] {
            let out = Times::new();
            run_on_way(way, mode, |env| {
                let numbers = timed(env, "numbers").key_by(|n| n % 7);
                numbers.process("spans", Spans::new).sink("out", out.clone());
            })
            .with_context(|| format!("{way:?} {mode:?}"))
            .unwrap();
            assert_eq!(out.sorted(), sums(), "{way:?} {mode:?}");
        }
    }
}

#[test]
fn timers_of_two_inputs_wait_for_both() {
    for way in [Way::Chained, Way::Tcp] {
        let out = Times::new();
        run_on_way(way, RuntimeMode::Streaming, |env| {
            let [left, right] = ["left", "right"].map(|uid| timed(env, uid).key_by(|n| n % 7));
            left.connect(right).process("spans", Spans::new).sink("out", out.clone());
        })
        .unwrap();
        let both = sums().into_iter().map(|((key, end, sum), time)| ((key, end, 2 * sum), time));
        assert_eq!(out.sorted(), both.collect::<Vec<_>>(), "{way:?}");
    }
}

/// Sets a timer of processing time for each record, and another one when it fires.
struct Clocked {
    soon: Timers,
    far: Timers,
}

impl KeyedProcess<u64, u64> for Clocked {
    /// The key, whether the input had ended, and the name of the timer.
    type Out = (u64, bool, String);

    fn process(
        &mut self,
        _: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let now = ctx.processing_time();
        self.far.set(ctx, now + 3_600_000)?;
        Ok(self.soon.set(ctx, now + 1)?)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let has_ended = ctx.current_watermark() == Some(i64::MAX);
        ensure!(has_ended || ctx.processing_time() >= timer.time(), "too early");
        out.emit((*ctx.key(), has_ended, timer.name().to_owned()));
        // Periodic, so at the end of the input it would never end.
        if timer.is_of(&self.far) {
            self.far.set(ctx, timer.time() + 1)?;
        }
        Ok(())
    }
}

#[test]
fn timers_of_processing_time_fire_by_the_clock_and_at_the_end() {
    let out = Collect::new();
    let kept = out.clone();
    run(1, move |env| {
        let numbers = Datagen::from_fn(|n| n).count(4).rate_per_second(20);
        let clocked = |ctx: &mut KeyedRuntimeContext<'_, u64>| {
            Ok(Clocked { soon: ctx.processing_timers("soon")?, far: ctx.processing_timers("far")? })
        };
        let keyed = env.source("numbers", numbers).key_by(|n| *n);
        keyed.process("clocked", clocked).sink("out", kept);
        Ok(())
    });
    let fired = out.records();
    let of = |name: &str| fired.iter().filter(|(_, _, own)| own == name).collect::<Vec<_>>();
    let keys = |fired: &[&(u64, bool, String)]| fired.iter().map(|f| f.0).collect::<BTreeSet<_>>();
    let (soon, far) = (of("soon"), of("far"));
    assert_eq!((soon.len(), keys(&soon)), (4, (0..4).collect()), "{fired:?}");
    assert_eq!((far.len(), keys(&far)), (4, (0..4).collect()), "each once: {fired:?}");
    assert!(soon.iter().any(|(_, has_ended, _)| !has_ended), "the clock fires none: {fired:?}");
    assert!(far.iter().all(|(_, has_ended, _)| *has_ended), "an hour has not passed: {fired:?}");
}

/// Sets a timer and does not say what it does.
struct Mute(Timers);

impl KeyedProcess<u64, u64> for Mute {
    type Out = u64;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.set(ctx, n.cast_signed())?)
    }
}

#[test]
fn timers_that_cannot_work_say_why() {
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(1)).key_by(|n| *n);
        numbers
            .process("mute", |ctx| Ok(Mute(ctx.event_timers("late")?)))
            .sink("out", Times::new());
    });
    let expected = "the timers \"late\" wait for event time, and the records have none: use \
                    assign_timestamps() before, or processing_timers()";
    assert!(error.contains(expected), "{error}");

    let error = error_of(|env| {
        let numbers = timed(env, "numbers").key_by(|n| *n);
        numbers
            .process("mute", |ctx| Ok(Mute(ctx.event_timers("late")?)))
            .sink("out", Times::new());
    });
    let expected = "the timer \"late\" is due, but the function that set it has no on_timer()";
    assert!(error.contains(expected), "{error}");
}

static LATE: OutputTag<u64> = OutputTag::new("late");

/// A number's time: blocks of a hundred come in order, the numbers of a block backwards.
const fn shuffled(n: u64) -> i64 {
    time_of(n - n % 100 + 99 - n % 100)
}

/// Behind each block the watermark reaches its end, but for the last one, where it goes too far.
struct BehindBlocks;

impl WatermarkGenerator<u64> for BehindBlocks {
    fn on_record(&mut self, n: &u64, _: i64, out: &mut WatermarkOutput) {
        if n % 100 == 99 {
            out.emit(time_of(*n));
        }
        if *n == COUNT - 50 {
            out.emit(time_of(*n));
        }
    }
}

#[test]
fn records_come_in_order_of_time_and_late_ones_go_aside() {
    for (mode, late_ones) in [(RuntimeMode::Streaming, true), (RuntimeMode::Batch, false)] {
        let (order, late) = (Times::new(), Times::new());
        run_on_way(Way::Chained, mode, |env| {
            let times = WatermarkStrategy::generator(|| BehindBlocks);
            let ordered = env
                .source("numbers", Numbers(COUNT))
                .assign_timestamps(times.timestamps(|n| Ok(shuffled(*n))))
                .order_by_time("order", LateRecords::side_output(&LATE));
            ordered.side_output(&LATE).sink("late", late.clone());
            ordered.sink("out", order.clone());
        })
        .unwrap();
        let is_late = |n: u64| late_ones && n > COUNT - 50;
        let mut expected: Vec<_> =
            (0..COUNT).filter(|n| !is_late(*n)).map(|n| (n, Some(shuffled(n)))).collect();
        expected.sort_by_key(|(_, time)| *time);
        assert!(order.arrived() == expected, "{mode:?}: not in order");
        let aside: Vec<_> =
            (0..COUNT).filter(|n| is_late(*n)).map(|n| (n, Some(shuffled(n)))).collect();
        assert_eq!(late.arrived(), aside, "{mode:?}");
    }
}

#[test]
fn late_records_that_are_dropped_are_counted() {
    let (result, seen) =
        run_and_see(JobSettings { parallelism: 1, ..JobSettings::default() }, |env| {
            let times = WatermarkStrategy::generator(|| BehindBlocks);
            let numbers = env
                .source("numbers", Numbers(COUNT))
                .assign_timestamps(times.timestamps(|n| Ok(shuffled(*n))));
            numbers.order_by_time("order", LateRecords::drop_record()).sink("out", Times::new());
            Ok(())
        });
    result.unwrap();
    let seen = seen.unwrap();
    let subtasks = seen.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let of = |name| subtasks.clone().map(|subtask| subtask.metrics.left_out(name)).sum::<u64>();
    assert_eq!(of(counters::LATE_RECORDS_DROPPED), 49);
    assert_eq!(of(counters::RECORDS_DROPPED), 0);
}

#[test]
fn records_without_times_have_no_order() {
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(1));
        numbers.order_by_time("order", LateRecords::drop_record()).sink("out", Times::new());
    });
    assert!(error.contains("\"order\"") && error.contains("event times"), "{error}");
}

/// Sets one timer for each record, all for the same time.
struct AllAtOnce(Timers);

impl KeyedProcess<u64, u64> for AllAtOnce {
    type Out = u64;

    fn process(
        &mut self,
        _: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.set(ctx, i64::MAX)?)
    }

    fn on_timer(
        &mut self,
        _: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        out.emit(*ctx.key());
        Ok(())
    }
}

#[test]
fn many_timers_that_are_due_at_once_all_fire() {
    let count = millstream_soak::scale(300_000, 10_000_000);
    let sum = Collect::new();
    let kept = sum.clone();
    let mut settings = JobSettings { parallelism: 1, ..JobSettings::default() };
    settings.runtime_mode = RuntimeMode::Batch;
    let (result, ..) = run_with(settings, move |env| {
        let strategy = WatermarkStrategy::monotonous().timestamps(|_| Ok(0));
        let numbers = env.source("numbers", Numbers(count)).assign_timestamps(strategy);
        let fired =
            numbers.key_by(|n| *n).process("all", |ctx| Ok(AllAtOnce(ctx.event_timers("end")?)));
        fired.key_by(|_| ()).sum("sum", |n| *n).sink("out", kept);
        Ok(())
    });
    result.unwrap();
    assert_eq!(sum.records(), [((), count * (count - 1) / 2)]);
}
