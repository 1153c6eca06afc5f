//! The stage that gives records their event times and the stream its watermarks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connector::{SplitError, SplitNotes};
use millstream_event_time::{Begin, FindTimes, WatermarkStrategy, Watermarks};
use millstream_network::{Batch, Data, Event, Flow};
use millstream_task_checkpoint::Slice;
use millstream_types::Timestamp;

use crate::on_error::{BadRecords, OnError};
use crate::output::{Output, Outputs};
use crate::program::{ErasedSourceTimes, StageMaker};
use crate::stage::{Moment, Stage, erase};
use crate::task::OperatorContext;
use crate::{Error, Result, error};

/// The operator that gives a stream event times and watermarks.
pub fn assign_timestamps<T: Data>(
    on_error: OnError<T>,
    strategy: WatermarkStrategy<T>,
) -> StageMaker {
    let times = SourceTimes { on_error, strategy };
    Arc::new(move |ctx, outputs| {
        Ok(erase::<T>(Box::new(TimestampStage::new(&times, Begin::One, ctx, outputs)?)))
    })
}

/// The event times and watermarks of a source's records, found where it is read.
#[must_use]
pub fn watermarks_per_split<T: Data>(
    on_error: OnError<T>,
    strategy: WatermarkStrategy<T>,
) -> ErasedSourceTimes {
    let alignment = strategy.alignment.clone();
    ErasedSourceTimes { times: Box::new(SourceTimes { on_error, strategy }), alignment }
}

/// The event times of a source's records and its watermarks, and what to do with records that have
/// no time.
pub(crate) struct SourceTimes<T> {
    pub(crate) on_error: OnError<T>,
    pub(crate) strategy: WatermarkStrategy<T>,
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

/// Records one behind the other that are of one split.
struct Run {
    /// The channel of the split.
    channel: usize,
    count: usize,
}

/// Leaves out the record at a place, which was refused.
#[cold]
fn forget(runs: &mut VecDeque<Run>, place: usize) {
    let mut end = 0;
    for run in runs {
        end += run.count;
        if place < end {
            run.count -= 1;
            return;
        }
    }
}

/// Gives records event times and the stream watermarks, in place of those that it has.
pub(crate) struct TimestampStage<T> {
    times: Option<Box<dyn FindTimes<T>>>,
    limit: Option<Limit>,
    bad: BadRecords<T>,
    watermarks: Watermarks<T>,
    /// The records behind those at which the last watermark was emitted.
    rest: Batch<T>,
    /// The splits of those records.
    runs: VecDeque<Run>,
    /// The splits that end behind those records.
    ended: VecDeque<u64>,
    /// Events that come before those records.
    pending: VecDeque<Event>,
    output: Output<T>,
    /// The output was full since the last look at the time.
    was_full: bool,
}

impl<T: Data> TimestampStage<T> {
    pub(crate) fn new(
        times: &SourceTimes<T>,
        begin: Begin,
        ctx: &OperatorContext<'_>,
        outputs: Outputs,
    ) -> Result<Self> {
        let strategy = &times.strategy;
        Ok(Self {
            times: strategy.times.as_ref().map(|make| make()),
            limit: strategy.ahead_max.map(Limit::new),
            bad: BadRecords::of(&times.on_error, ctx),
            watermarks: Watermarks::new(
                strategy,
                begin,
                (!ctx.task.batch).then_some(ctx.task.watermark_interval),
            )
            .aligned(ctx.task.parallelism),
            rest: Batch::empty(true),
            runs: VecDeque::new(),
            ended: VecDeque::new(),
            pending: VecDeque::new(),
            output: Output::new(outputs)?,
            was_full: false,
        })
    }

    /// A reader was given more splits.
    pub(crate) fn on_added(&mut self, count: u64) {
        self.watermarks.on_added(count, &mut self.pending);
    }

    /// Takes what a reader has added in a poll.
    pub(crate) fn push_poll(&mut self, batch: Batch<T>, splits: &SplitNotes) -> Result<Flow> {
        if splits.has_any() {
            self.watermarks.on_named(&mut self.pending);
        }
        for (split, count) in splits.runs(batch.len()) {
            if splits.is_paused(split) {
                return Err(self.not_paused(split));
            }
            let channel = self.watermarks.channel(split).ok_or_else(|| self.misnamed(split))?;
            self.runs.push_back(Run { channel, count });
        }
        self.ended.extend(splits.ended());
        self.take(batch)
    }

    #[cold]
    fn misnamed(&self, split: u64) -> Error {
        let fault = SplitError::of(split, self.watermarks.given());
        error!("operator {:?}: {fault}", self.bad.operator)
    }

    #[cold]
    fn not_paused(&self, split: u64) -> Error {
        error!(
            "operator {:?}: the reader adds records of split {split}, which waits for others of \
             its alignment group: let it ask ReaderOutput::is_paused() before it reads a split, \
             or use a strategy that is not aligned()",
            self.bad.operator
        )
    }

    /// Says which splits wait for others, before the reader is polled; whether all do.
    pub(crate) fn align(&mut self, splits: &mut SplitNotes) -> bool {
        self.watermarks.align();
        splits.pause(self.watermarks.waiting());
        self.watermarks.all_wait()
    }

    /// Whether it is in an alignment group.
    pub(crate) const fn is_aligned(&self) -> bool {
        self.watermarks.is_aligned()
    }

    /// The alignment group has answered.
    pub(crate) const fn on_others(&mut self, others: Option<Timestamp>) {
        self.watermarks.on_others(others);
    }

    /// The alignment group has forgotten this source.
    pub(crate) const fn on_forgotten(&mut self) {
        self.watermarks.on_forgotten();
    }

    /// The report to the alignment group that is due, if one is.
    pub(crate) fn report(&mut self, now: Instant) -> Option<Option<Timestamp>> {
        self.watermarks.report(now)
    }

    /// Takes a batch, whose runs are known.
    fn take(&mut self, batch: Batch<T>) -> Result<Flow> {
        if !batch.is_empty() {
            self.rest = self.with_times(batch)?;
        }
        self.runs.retain(|run| run.count > 0);
        for run in &self.runs {
            self.watermarks.wake(run.channel, &mut self.pending);
        }
        let flow = self.output.flush_sides()?;
        self.run(flow)
    }

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
                    forget(&mut self.runs, at);
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
                    forget(&mut self.runs, at);
                    self.bad.refuse(error, Some(record), Some(time), &mut self.output)?;
                } else {
                    at += 1;
                }
            }
        }
        Ok(Batch::timed(records, times)?)
    }

    /// Looks at records up to the first at which a watermark is emitted; their number.
    fn look(&mut self) -> usize {
        let (records, times) = (self.rest.records(), self.rest.timestamps().unwrap_or_default());
        let mut seen = 0;
        while self.pending.is_empty()
            && let Some(run) = self.runs.front_mut()
        {
            let of_run = seen..seen + run.count;
            let records = records.get(of_run.clone()).unwrap_or_default();
            let times = times.get(of_run).unwrap_or_default();
            let count = self.watermarks.on_records(run.channel, records, times, &mut self.pending);
            seen += count;
            run.count -= count;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
        if self.runs.is_empty() { records.len() } else { seen }
    }

    /// Hands on events and records until the output is full.
    fn run(&mut self, mut flow: Flow) -> Result<Flow> {
        while flow == Flow::Ready {
            if let Some(event) = self.pending.pop_front() {
                flow = self.output.event(event)?;
            } else if !self.rest.is_empty() {
                let count = self.look();
                let batch = if count < self.rest.len() {
                    self.rest.take_first(count)
                } else {
                    self.rest.take()
                };
                flow = self.output.push(batch)?;
            } else if let Some(split) = self.ended.pop_front() {
                if !self.watermarks.on_ended(split, &mut self.pending) {
                    return Err(self.misnamed(split));
                }
            } else {
                break;
            }
        }
        self.was_full |= flow == Flow::Full;
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
        self.runs.push_back(Run { channel: 0, count: batch.len() });
        self.take(batch)
    }

    /// Drops the watermarks and the idleness of the input: this stage makes those of its output.
    fn event(&mut self, event: Event) -> Result<Flow> {
        match event {
            // The end of event time comes of a drain, and goes on to all operators.
            Event::Watermark(watermark) if watermark < Timestamp::MAX => Ok(Flow::Ready),
            Event::Idle(_) => Ok(Flow::Ready),
            Event::Watermark(_) | Event::Barrier(_) | Event::EndOfInput => {
                let flow = self.output.event(event)?;
                self.was_full |= flow == Flow::Full;
                Ok(flow)
            }
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
        let was_full = std::mem::take(&mut self.was_full);
        self.watermarks.on_time(moment.now, was_full, &mut self.pending);
        let flow = self.output.on_time(moment)?;
        self.run(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time().into_iter().chain(self.watermarks.next_time()).min()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.output.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Timestamps
    }
}
