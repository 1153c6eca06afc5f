//! The stage that gives records their event times and the stream its watermarks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_network::{Batch, Data, Event, Flow};
use millstream_types::Timestamp;

use super::strategy::{FindTimes, Generate, WatermarkOutput, WatermarkStrategy};
use crate::on_error::{BadRecords, OnError};
use crate::output::Output;
use crate::program::StageMaker;
use crate::stage::{Moment, Stage, erase};
use crate::task::TaskContext;
use crate::{Error, Result, error};

/// The operator that gives a stream event times and watermarks.
pub fn assign_timestamps<T: Data>(
    on_error: OnError<T>,
    strategy: WatermarkStrategy<T>,
) -> StageMaker {
    Arc::new(move |ctx, outputs| {
        Ok(erase::<T>(Box::new(TimestampStage {
            times: strategy.times.as_ref().map(|make| make()),
            limit: strategy.ahead_max.map(Limit::new),
            bad: BadRecords::of(&on_error, ctx),
            watermarks: Watermarks::new(&strategy, ctx.task),
            rest: Batch::empty(true),
            pending: VecDeque::new(),
            output: Output::new(outputs)?,
        })))
    })
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// The largest event time that is accepted.
struct Limit {
    ahead: Duration,
    /// The clock's time when the stage was made.
    made: Timestamp,
    /// The first look at the time.
    first: Option<Instant>,
    largest: Timestamp,
}

impl Limit {
    fn new(ahead: Duration) -> Self {
        let made = Timestamp::now();
        Self { ahead, made, first: None, largest: made.saturating_add(ahead) }
    }

    fn on_time(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(*self.first.get_or_insert(now));
        self.largest = self.made.saturating_add(passed).saturating_add(self.ahead);
    }

    fn is_beyond(&self, time: i64) -> bool {
        time > self.largest.as_millis()
    }

    #[cold]
    fn error(&self, time: i64) -> Error {
        let ahead = match (self.ahead.as_secs() / SECONDS_PER_DAY, self.ahead) {
            (0, ahead) => format!("{ahead:?}"),
            (days, _) => format!("{days} days"),
        };
        error!(
            "the event time {time} of a record is more than {ahead} ahead of the clock: see that \
             timestamps() gives milliseconds since 1970, or set another limit with max_ahead()"
        )
    }
}

/// The watermarks of a stream, and whether it is idle.
struct Watermarks<T> {
    /// `None` in batch mode, where the end of the input is the only watermark.
    generator: Option<Box<dyn Generate<T>>>,
    emitted: WatermarkOutput,
    interval: Duration,
    /// The end of the present interval: the generator is asked then.
    due: Option<Instant>,
    /// The generator has seen records since it was asked last.
    has_news: bool,
    told: Option<Timestamp>,
    idle_after: Option<Duration>,
    /// Records came since the last look at the time.
    came: bool,
    /// The last look at the time that found that records had come.
    last: Option<Instant>,
    idle: bool,
}

impl<T> Watermarks<T> {
    fn new(strategy: &WatermarkStrategy<T>, task: &TaskContext) -> Self {
        Self {
            generator: (!task.batch).then(|| (strategy.generator)()),
            emitted: WatermarkOutput::default(),
            interval: task.watermark_interval,
            due: None,
            has_news: false,
            told: None,
            idle_after: strategy.idle_after.filter(|_| !task.batch),
            came: false,
            last: None,
            idle: false,
        }
    }

    /// Looks at records up to the first at which a watermark is emitted; their number.
    fn on_records(&mut self, records: &[T], times: &[i64]) -> usize {
        self.came = true;
        let Some(generator) = &mut self.generator else { return records.len() };
        self.has_news = true;
        generator.on_records(records, times, &mut self.emitted).clamp(1, records.len().max(1))
    }

    /// Takes the watermark that was emitted, if it advances.
    fn news(&mut self) -> Option<Event> {
        let emitted = self.emitted.watermark.take()?;
        // The end of the input alone stands for the end of time.
        let new = emitted.min(Timestamp::from_millis(i64::MAX - 1));
        if new == Timestamp::MIN || self.told.is_some_and(|told| new <= told) {
            return None;
        }
        self.told = Some(new);
        Some(Event::Watermark(new))
    }

    fn ask(&mut self) -> Option<Event> {
        self.has_news = false;
        self.generator.as_mut()?.on_interval(&mut self.emitted);
        self.news()
    }

    /// Emits the watermark that is due, and the idleness of a stream that has fallen silent.
    fn on_time(&mut self, now: Instant, pending: &mut VecDeque<Event>) {
        let always = self.generator.as_deref().is_some_and(Generate::is_always_asked);
        let is_asked = self.has_news || always && !self.idle;
        if is_asked && now >= *self.due.get_or_insert(now + self.interval) {
            pending.extend(self.ask());
            let again = always && !self.interval.is_zero();
            self.due = again.then(|| now + self.interval);
        }
        if std::mem::take(&mut self.came) || self.last.is_none() {
            self.last = Some(now);
        } else if !self.idle && self.idle_from().is_some_and(|from| now >= from) {
            self.idle = true;
            self.due = None;
            pending.extend(self.ask());
            pending.push_back(Event::Idle(true));
        }
    }

    /// The time from which on the stream is idle if no record comes.
    fn idle_from(&self) -> Option<Instant> {
        Some(self.last? + self.idle_after?)
    }

    fn next_time(&self) -> Option<Instant> {
        let idle_from = if self.idle { None } else { self.idle_from() };
        idle_from.into_iter().chain(self.due).min()
    }
}

/// Gives records event times and the stream watermarks, in place of those that it has.
struct TimestampStage<T> {
    times: Option<Box<dyn FindTimes<T>>>,
    limit: Option<Limit>,
    bad: BadRecords<T>,
    watermarks: Watermarks<T>,
    /// The records behind those at which the last watermark was emitted.
    rest: Batch<T>,
    /// Events that come before those records.
    pending: VecDeque<Event>,
    output: Output<T>,
}

impl<T: Data> TimestampStage<T> {
    /// Gives the records of a batch their times, without those that are refused.
    fn with_times(&mut self, batch: Batch<T>) -> Result<Batch<T>> {
        let (mut records, own) = batch.into_parts();
        let mut times = match (&mut self.times, own) {
            (None, Some(own)) => own,
            (None, None) => return Err(without_times()),
            (Some(find), own) => {
                let mut times = Vec::with_capacity(records.len());
                let mut own = own.unwrap_or_default();
                while let Err(error) =
                    find.find(records.get(times.len()..).unwrap_or_default(), &mut times)
                {
                    let at = times.len();
                    let time = if at < own.len() { own.remove(at) } else { i64::MIN };
                    let record = records.remove(at);
                    self.bad.refuse(error, Some(record), Some(time), &mut self.output)?;
                }
                times
            }
        };
        if let Some(limit) = &self.limit
            && times.iter().any(|time| limit.is_beyond(*time))
        {
            let mut at = 0;
            while let Some(&time) = times.get(at) {
                if limit.is_beyond(time) {
                    let (record, time) = (records.remove(at), times.remove(at));
                    let error = limit.error(time);
                    self.bad.refuse(error, Some(record), Some(time), &mut self.output)?;
                } else {
                    at += 1;
                }
            }
        }
        Ok(Batch::timed(records, times)?)
    }

    /// Hands on events and records until the output is full.
    fn run(&mut self, mut flow: Flow) -> Result<Flow> {
        while flow == Flow::Ready {
            if let Some(event) = self.pending.pop_front() {
                flow = self.output.event(event)?;
                continue;
            }
            let times = self.rest.timestamps().unwrap_or_default();
            if times.is_empty() {
                break;
            }
            let count = self.watermarks.on_records(self.rest.records(), times);
            self.pending.extend(self.watermarks.news());
            let batch = if count < self.rest.len() {
                self.rest.take_first(count)
            } else {
                self.rest.take()
            };
            flow = self.output.push(batch)?;
        }
        Ok(flow)
    }
}

#[cold]
fn without_times() -> Error {
    error!(
        "the records have no event times: name the function that gives them with timestamps() of \
         the WatermarkStrategy"
    )
}

impl<T: Data> Stage<T> for TimestampStage<T> {
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.rest = self.with_times(batch)?;
        if !self.rest.is_empty() && std::mem::take(&mut self.watermarks.idle) {
            self.pending.push_back(Event::Idle(false));
        }
        let flow = self.output.flush_sides()?;
        self.run(flow)
    }

    /// Drops the watermarks and the idleness of the input: this stage makes those of its output.
    fn event(&mut self, event: Event) -> Result<Flow> {
        match event {
            Event::Watermark(_) | Event::Idle(_) => Ok(Flow::Ready),
            Event::Barrier(_) | Event::EndOfInput => self.output.event(event),
        }
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        self.run(flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        if let Some(limit) = &mut self.limit {
            limit.on_time(moment.now);
        }
        self.watermarks.on_time(moment.now, &mut self.pending);
        let flow = self.output.on_time(moment)?;
        self.run(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time().into_iter().chain(self.watermarks.next_time()).min()
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Timestamps
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategy::WatermarkGenerator;
    use super::*;
    use crate::explore::task;

    const BOUND: Duration = Duration::from_millis(10);
    const IDLE: Duration = Duration::from_secs(60);

    /// Watermarks of a stream at a clock that the test moves.
    struct Watched {
        watermarks: Watermarks<u64>,
        now: Instant,
    }

    impl Watched {
        fn new(strategy: &WatermarkStrategy<u64>, batch: bool) -> Self {
            Self { watermarks: Watermarks::new(strategy, &task(batch)), now: Instant::now() }
        }

        fn records(&mut self, times: &[i64]) {
            self.watermarks.idle = false;
            let records = vec![0; times.len()];
            assert_eq!(self.watermarks.on_records(&records, times), times.len());
        }

        /// The events after some time, which is not before anything is due.
        fn after(&mut self, passed: Duration) -> Vec<Event> {
            self.now += passed;
            let mut pending = VecDeque::new();
            self.watermarks.on_time(self.now, &mut pending);
            assert!(self.watermarks.next_time().is_none_or(|due| due > self.now));
            pending.into()
        }

        fn after_an_interval(&mut self) -> Vec<Event> {
            self.after(self.watermarks.interval)
        }
    }

    fn watermark(millis: i64) -> Event {
        Event::Watermark(Timestamp::from_millis(millis))
    }

    #[test]
    fn a_watermark_comes_once_an_interval_and_only_if_it_advances() {
        let mut stream = Watched::new(&WatermarkStrategy::bounded_out_of_orderness(BOUND), false);
        assert_eq!(stream.after_an_interval(), []);
        assert_eq!(stream.watermarks.next_time(), None, "nothing is due");
        stream.records(&[100, 300, 200]);
        assert_eq!(stream.after(Duration::ZERO), []);
        stream.records(&[250]);
        assert_eq!(stream.after_an_interval(), [watermark(289)]);
        stream.records(&[299]);
        assert_eq!(stream.after(Duration::ZERO), []);
        assert_eq!(stream.after_an_interval(), []);
        stream.records(&[i64::MAX]);
        assert_eq!(stream.after(Duration::ZERO), []);
        assert_eq!(stream.after_an_interval(), [watermark(i64::MAX - 11)]);
    }

    #[test]
    fn times_at_their_limits_are_fine() {
        let mut stream = Watched::new(&WatermarkStrategy::monotonous(), false);
        for (time, expected) in [(i64::MIN, None), (i64::MIN + 2, Some(i64::MIN + 1))] {
            stream.records(&[time]);
            assert_eq!(stream.after(Duration::ZERO), []);
            let events: Vec<Event> = expected.map(watermark).into_iter().collect();
            assert_eq!(stream.after_an_interval(), events);
        }
        let mut stream = Watched::new(&WatermarkStrategy::generator(|| Always(i64::MAX)), false);
        let _ = stream.after(Duration::ZERO);
        assert_eq!(stream.after_an_interval(), [watermark(i64::MAX - 1)], "it is not the end");
    }

    /// Emits at the end of each interval.
    struct Always(i64);

    impl WatermarkGenerator<u64> for Always {
        fn on_record(&mut self, _record: &u64, _time: i64, _out: &mut WatermarkOutput) {}

        fn on_interval(&mut self, out: &mut WatermarkOutput) {
            out.emit(self.0);
            self.0 = self.0.saturating_add(1);
        }
    }

    #[test]
    fn a_generator_is_asked_in_each_interval() {
        let mut stream = Watched::new(&WatermarkStrategy::generator(|| Always(5)), false);
        assert_eq!(stream.after(Duration::ZERO), []);
        assert_eq!(stream.after_an_interval(), [watermark(5)]);
        assert_eq!(stream.after_an_interval(), [watermark(6)]);
    }

    #[test]
    fn a_silent_stream_is_idle_and_its_last_watermark_comes_before() {
        let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
        let mut stream = Watched::new(&strategy, false);
        assert_eq!(stream.after(Duration::ZERO), []);
        assert_eq!(stream.after(IDLE / 2), []);
        stream.records(&[5]);
        assert_eq!(stream.after(IDLE), [], "a record came");
        assert_eq!(stream.after(IDLE), [watermark(4), Event::Idle(true)]);
        assert_eq!(stream.after(IDLE), []);
        stream.records(&[6]);
        assert_eq!(stream.after(Duration::ZERO), []);
        assert_eq!(stream.after_an_interval(), [watermark(5)]);
        assert_eq!(stream.after(IDLE), [Event::Idle(true)]);
    }

    #[test]
    fn in_batch_mode_only_the_end_says_how_far_time_has_come() {
        let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
        let mut stream = Watched::new(&strategy, true);
        stream.records(&[5]);
        assert_eq!(stream.after(IDLE), []);
        assert_eq!(stream.after(IDLE), []);
    }
}
