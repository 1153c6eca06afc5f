//! Windows, whose results a second computation knows.

use std::time::Duration;

use millstream_oracle::windows::{
    Eviction, Keep, Output, Rules, Windows, distance, evicting_windows, windows,
};

use super::*;

/// An output as it travels: key, first millisecond, end, number of records, sum of their values and
/// of the squares.
pub(super) type Told = (u64, i64, i64, u64, u64, u64);

/// The number of records, the sum of their values and of the squares.
type Summary = (u64, u64, u64);

/// A fault that the engine could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The watermark is a millisecond ahead, so that a window ends too early.
    EndEarly,
    /// Windows begin and end, or sessions end, a millisecond too late.
    Shifted,
    LatenessIgnored,
    /// Windows are kept a millisecond too long.
    LateKept,
    /// A record is added twice where two panes of a window meet.
    PaneTwice,
    /// The parts of a window are not merged.
    PaneLost,
    FiredTwice,
    /// Windows keep what an evictor takes out of them.
    NotEvicted,
    /// Sessions that touch stay two.
    SessionNotMerged,
    /// A session that two others have become has no timer.
    TimerLostOnMerge,
    /// None: the means by which there are faults must not be found themselves.
    Harmless,
}

/// Sessions that do not become one.
#[derive(Clone, Copy)]
struct NotMerged(Session);

impl Spans for NotMerged {
    fn fault(&self) -> Option<String> {
        Spans::fault(&self.0)
    }

    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>) {
        self.0.spans(time, spans);
    }
}

/// As [`AtEnd`], but a session that two others have become may ask for no time.
#[derive(Clone, Copy)]
struct AtOwnEnd {
    loses_on_merge: bool,
}

impl AtOwnEnd {
    /// The event time of the results of a window.
    const fn last(window: Window) -> i64 {
        if window.end == i64::MAX { i64::MAX } else { window.end - 1 }
    }
}

impl Trigger<Row> for AtOwnEnd {
    /// Whether the session has lost its timer.
    type State = bool;

    fn on_record(&mut self, _: &Row, ctx: &mut TriggerContext<'_, bool>) -> Result<Fire> {
        let last = Self::last(ctx.window());
        if ctx.current_watermark().is_some_and(|watermark| last <= watermark) {
            return Ok(Fire::Result);
        }
        if !*ctx.state() {
            ctx.at_event_time(last);
        }
        Ok(Fire::No)
    }

    fn on_event_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, bool>) -> Result<Fire> {
        let is_end = time == Self::last(ctx.window());
        Ok(if is_end && !*ctx.state() { Fire::Result } else { Fire::No })
    }

    fn merge(&mut self, has_lost: &mut bool, _: bool) -> Result<()> {
        *has_lost = self.loses_on_merge;
        Ok(())
    }
}

const fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.cast_unsigned())
}

/// The rules of a case, and the number that says how its job is built.
pub(super) struct Job {
    pub(super) seed: u64,
    pub(super) rules: Rules,
    pub(super) eviction: Option<Eviction>,
}

/// The results of the windows of a case.
pub(super) fn windowed(stream: Stream<Row>, job: &Job, fault: Option<Fault>) -> Stream<Told> {
    let longer = i64::from(fault == Some(Fault::Shifted));
    match job.rules.windows {
        Windows::Tumbling { size, offset } => {
            let tumbling = Tumbling::event_time(millis(size)).offset_millis(offset + longer);
            results(stream, job, tumbling, fault)
        }
        Windows::Sliding { size, slide, offset } => {
            let sliding = Sliding::event_time(millis(size), millis(slide));
            results(stream, job, sliding.offset_millis(offset + longer), fault)
        }
        Windows::Session { gap } => {
            let session = Session::event_time(millis(gap + longer));
            match fault {
                Some(Fault::SessionNotMerged) => {
                    let windows = Triggered { windows: NotMerged(session), trigger: AtEnd };
                    made(cut(stream, job, windows, fault), job.seed, fault)
                }
                Some(Fault::TimerLostOnMerge | Fault::Harmless) => {
                    let loses_on_merge = fault == Some(Fault::TimerLostOnMerge);
                    let trigger = AtOwnEnd { loses_on_merge };
                    let windows = Triggered { windows: session, trigger };
                    made(cut(stream, job, windows, fault), job.seed, fault)
                }
                _ => results(stream, job, session, fault),
            }
        }
    }
}

fn add(summary: &mut Summary, value: u64) {
    merge(summary, (1, value, value.wrapping_mul(value)));
}

const fn merge(summary: &mut Summary, (count, sum, squares): Summary) {
    summary.0 += count;
    summary.1 = summary.1.wrapping_add(sum);
    summary.2 = summary.2.wrapping_add(squares);
}

const fn told(key: u64, window: Window, (count, sum, squares): Summary) -> Told {
    (key, window.start, window.end, count, sum, squares)
}

/// Sums up the records of a window when it is complete.
struct SumUp;

impl WindowFunction<u64, Vec<Row>> for SumUp {
    type Out = Told;

    fn process(
        &mut self,
        key: u64,
        window: Window,
        records: Vec<Row>,
        out: &mut Collector<'_, Told>,
    ) -> Result<()> {
        let mut summary = Summary::default();
        for (of, value, time, _) in records {
            ensure!(of == key && window.start <= time, "a record of another key or window");
            ensure!(time < window.end || window.end == i64::MAX, "a record of a later window");
            add(&mut summary, value);
        }
        out.emit(told(key, window, summary));
        Ok(())
    }
}

/// The results of the windows of a case, made as records come, or of all of them at the end.
fn results(
    stream: Stream<Row>,
    job: &Job,
    windows: impl WindowAssigner<Row> + Spans,
    fault: Option<Fault>,
) -> Stream<Told> {
    let (seed, windowed) = (job.seed, cut(stream, job, windows, fault));
    // A window with the trigger that all have does the same by other means.
    match job.eviction.filter(|_| fault != Some(Fault::NotEvicted)) {
        None if seed % 4 < 2 => made(windowed, seed, fault),
        None => made(windowed.trigger(AtEnd), seed, fault),
        Some(eviction) if seed % 4 < 2 => made(windowed.evictor(Evict(eviction)), seed, fault),
        Some(eviction) => made(windowed.trigger(AtEnd).evictor(Evict(eviction)), seed, fault),
    }
}

/// The windows of a case by key.
fn cut<A: WindowAssigner<Row>>(
    stream: Stream<Row>,
    job: &Job,
    windows: A,
    fault: Option<Fault>,
) -> WindowedStream<Row, impl KeySelector<Row, Key = u64> + Sync, A> {
    let lateness = match fault {
        Some(Fault::LatenessIgnored) => 0,
        Some(Fault::LateKept) => job.rules.lateness.saturating_add(1),
        _ => job.rules.lateness,
    };
    stream
        .key_by(|(key, ..)| *key)
        .window(windows)
        .allowed_lateness(millis(lateness))
        .late(LateRecords::side_output(&LATE))
}

/// The evictor that keeps what a case says.
#[derive(Clone)]
struct Evict(Eviction);

impl Evict {
    fn keep(&self, records: &mut Vec<(Row, i64)>, ctx: &EvictorContext) -> Result<()> {
        ensure!(records.iter().all(|(row, time)| row.2 == *time), "the times are of others");
        match self.0.keep {
            Keep::Last(count) => KeepLast(count as u64).before(records, ctx),
            Keep::Recent(span) => KeepRecent::new(millis(span)).before(records, ctx),
            Keep::Near(most) => {
                let near = move |row: &Row, last: &Row| distance(row.1, last.1) <= most;
                KeepNear(near).before(records, ctx)
            }
        }
    }
}

impl Evictor<Row> for Evict {
    fn before(&mut self, records: &mut Vec<(Row, i64)>, ctx: &EvictorContext) -> Result<()> {
        if self.0.after { Ok(()) } else { self.keep(records, ctx) }
    }

    fn after(&mut self, records: &mut Vec<(Row, i64)>, ctx: &EvictorContext) -> Result<()> {
        if self.0.after { self.keep(records, ctx) } else { Ok(()) }
    }
}

fn made<S, A>(windowed: WindowedStream<Row, S, A>, seed: u64, fault: Option<Fault>) -> Stream<Told>
where
    S: KeySelector<Row, Key = u64> + Sync,
    A: WindowAssigner<Row>,
{
    if seed.is_multiple_of(3) && fault.is_none() {
        return windowed.process("windows", |_| Ok(SumUp));
    }
    windowed.aggregate(
        "windows",
        Summary::default,
        |summary, (_, value, ..)| {
            add(summary, value);
            Ok(())
        },
        move |summary, later| {
            match fault {
                Some(Fault::PaneLost) => {}
                Some(Fault::PaneTwice) => {
                    merge(summary, later);
                    merge(summary, later);
                }
                _ => merge(summary, later),
            }
            Ok(())
        },
        |key, window, summary| Ok(told(key, window, summary)),
    )
}

/// The results as a fault would have left them.
fn spoiled(results: Stream<Told>, fault: Option<Fault>) -> Stream<Told> {
    let twice = move |told: &Told| fault == Some(Fault::FiredTwice) && told.1 % 8 == 0;
    if fault.is_none() {
        return results;
    }
    results.flat_map(move |told| Ok(vec![told; 1 + usize::from(twice(&told))]))
}

/// Runs a case; the numbers of results and late records that were compared, or the verdict if they
/// are not right.
fn judge(seed: u64, batch: bool, fault: Option<Fault>) -> Result<(usize, usize), String> {
    let random = &mut Random::new(seed);
    let (case, rules) = (Case::random(random), Rules::random(random));
    let evicts = fault.map_or(seed % 5 < 2, |fault| fault == Fault::NotEvicted);
    let eviction = evicts.then(|| Eviction::random(random));
    let job = Job { seed, rules, eviction };
    let (out, aside) = (Times::new(), Times::new());
    let ahead = (fault == Some(Fault::EndEarly)).then_some(super::Fault::WatermarkAhead);
    let (result, ..) = run_with(settings(seed, &case, batch), |env| {
        let results = windowed(stream(env, &case, ahead), &job, fault);
        results.side_output(&LATE).sink("late", aside.clone());
        spoiled(results, fault).sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    let inputs = if batch { case.without_watermarks() } else { case.inputs.clone() };
    let expected = match eviction {
        Some(eviction) => evicting_windows(&inputs, &rules, eviction),
        None => windows(&inputs, &rules),
    };
    compare_all(expected, &out, &aside).map_err(|why| {
        format!("seed {seed}, batch {batch}: {why}\n{rules:?}, {eviction:?}\n{case:?}")
    })
}

/// Compares results and late records with those that came; the numbers of both.
pub(super) fn compare_all(
    (expected, late): (Vec<Output>, Vec<Record>),
    out: &Times<Told>,
    aside: &Times<Row>,
) -> Result<(usize, usize), String> {
    let counts = (expected.len(), late.len());
    let expected = expected.into_iter().map(|output| {
        let Output { key, start, end, count, sum, squares, time } = output;
        ((key, start, end, count, sum, squares), Some(time))
    });
    let late = late.into_iter().map(|Record { key, value, time }| ((key, value, time), Some(time)));
    let came = |((key, value, time, _), stamp): Stamped<Row>| ((key, value, time), stamp);
    compare(expected.collect(), out.arrived())
        .and_then(|()| compare(late.collect(), aside.arrived().into_iter().map(came).collect()))?;
    Ok(counts)
}

#[test]
fn windows_are_those_of_the_second_computation() {
    let (mut results, mut late) = (0, 0);
    for seed in millstream_soak::rounds("windows by a second opinion", 0.005, CASES, 100 * CASES) {
        for batch in [false, true] {
            let compared = judge(seed, batch, None).unwrap();
            (results, late) = (results + compared.0, late + compared.1);
        }
    }
    assert!(results > 10 * CASES as usize && late > 1_000, "{results} results, {late} late");
}

#[test]
fn faults_of_windows_are_found() {
    for fault in [
        Fault::EndEarly,
        Fault::Shifted,
        Fault::LatenessIgnored,
        Fault::LateKept,
        Fault::PaneTwice,
        Fault::PaneLost,
        Fault::FiredTwice,
        Fault::NotEvicted,
        Fault::SessionNotMerged,
        Fault::TimerLostOnMerge,
    ] {
        let found = (0..FAULT_CASES).any(|seed| judge(seed, false, Some(fault)).is_err());
        assert!(found, "{fault:?} is not found");
    }
    for seed in 0..FAULT_CASES {
        judge(seed, false, Some(Fault::Harmless)).unwrap();
    }
}
