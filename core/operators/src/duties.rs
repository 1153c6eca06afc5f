//! The work of an operator beside its records: timers that are due, keys to finish, events.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_network::{Data, Event, Flow, batch_capacity};
use millstream_output_buffers::Results;
use millstream_state::{TimeDomain, Timer};
use millstream_task_checkpoint::Slice;
use millstream_types::{Clock, Timestamp};

use crate::collector::Collector;
use crate::on_error::continue_while;
use crate::output::Output;
use crate::stint::Stint;
use crate::task::OperatorContext;
use crate::{Error, Result};

/// A function that is called when a time has come, and at the end of the input.
pub(crate) trait TimedFunction: Send {
    /// The type of its results.
    type Out: Data;

    /// The watermark that the function begins with: one that was restored.
    fn watermark(&self) -> Timestamp {
        Timestamp::MIN
    }

    /// The watermark has come so far. The function's timers up to it are fired next.
    fn on_watermark(&mut self, watermark: Timestamp) {
        let _ = watermark;
    }

    /// The time of the earliest timer.
    fn next_timer(&self, domain: TimeDomain) -> Option<i64> {
        let _ = domain;
        None
    }

    /// Takes the earliest timer up to a time, which [`Self::on_timer`] is called with next.
    fn take_timer(&mut self, domain: TimeDomain, until: i64) -> Result<Option<Timer>> {
        let _ = (domain, until);
        Ok(None)
    }

    /// From now on processing-time timers that are set never fire.
    fn close_processing_timers(&mut self) {}

    /// The barrier of a checkpoint passes: the state is part of it as it is now.
    fn on_barrier(&mut self) {}

    /// Writes a part of its state's snapshot, if one is being written.
    fn slice(&mut self, slice: &mut Slice<'_>) {
        let _ = slice;
    }

    /// Fires a timer.
    fn on_timer(&mut self, timer: Timer, out: &mut Collector<'_, Self::Out>) -> Result<()> {
        let _ = (timer, out);
        Ok(())
    }

    /// The event times of the last call's results, one each, if they have times of their own.
    #[inline]
    fn times(&self) -> Option<&[i64]> {
        None
    }

    /// Does the next piece of work at the end of input; `false` if there is none.
    fn finish_next(&mut self, out: &mut Collector<'_, Self::Out>) -> Result<bool>;
}

#[derive(Debug, Clone, Copy)]
enum Duty {
    /// Fire the timers up to a time.
    Fire(TimeDomain, i64),
    CloseProcessingTimers,
    Finish,
    HandOn(Event),
}

/// After so many timers at the end of the input each time the log says so.
const LOGGED_TIMERS: u64 = 10_000_000;

/// The work that is left before the operator takes the next record.
pub(crate) struct Duties {
    queue: VecDeque<Duty>,
    watermark: Timestamp,
    /// In batch mode the end of the input fires all timers.
    batch: bool,
    /// The end of the input was processed before the restore: it is only handed on.
    has_finished: bool,
    clock: Clock,
    waker: Waker,
    operator: String,
    /// Number of timers that were fired since the input has ended.
    fired_at_end: u64,
}

impl Duties {
    pub(crate) fn new(ctx: &OperatorContext<'_>, function: &impl TimedFunction) -> Self {
        Self {
            queue: VecDeque::new(),
            watermark: function.watermark(),
            batch: ctx.task.batch,
            has_finished: ctx.task.has_finished,
            clock: ctx.task.clock.clone(),
            waker: ctx.task.waker.clone(),
            operator: ctx.name.to_owned(),
            fired_at_end: 0,
        }
    }

    /// Notes an event; [`Self::run`] does what it asks for.
    ///
    /// At the end of the input all timers fire: those of event time, because the watermark is at
    /// the end of time, and then those of processing time, whose time the task will not see.
    pub(crate) fn on_event(&mut self, event: Event, function: &mut impl TimedFunction) {
        if self.has_finished {
            self.queue.push_back(Duty::HandOn(event));
            return;
        }
        let watermark = match event {
            Event::Watermark(watermark) => Some(watermark),
            Event::EndOfInput => Some(Timestamp::MAX),
            Event::Idle(_) | Event::Barrier(_) => None,
        };
        if let Some(watermark) = watermark {
            self.watermark = self.watermark.max(watermark);
            function.on_watermark(self.watermark);
            self.queue.push_back(Duty::Fire(TimeDomain::Event, self.watermark.as_millis()));
        }
        if event == Event::EndOfInput {
            self.queue.extend([
                Duty::CloseProcessingTimers,
                Duty::Fire(TimeDomain::Processing, i64::MAX),
                Duty::Fire(TimeDomain::Event, i64::MAX),
                Duty::Finish,
            ]);
        }
        self.queue.push_back(Duty::HandOn(event));
    }

    /// Looks at the clock if a timer waits for it.
    pub(crate) fn on_time(&mut self, function: &impl TimedFunction) {
        let next = function.next_timer(TimeDomain::Processing).filter(|_| !self.batch);
        if let Some(next) = next {
            let now = self.clock.wall().as_millis();
            if next <= now {
                self.queue.push_back(Duty::Fire(TimeDomain::Processing, now));
            }
        }
    }

    /// The time when a timer will be due.
    pub(crate) fn next_time(&self, function: &impl TimedFunction) -> Option<Instant> {
        let next = function.next_timer(TimeDomain::Processing).filter(|_| !self.batch)?;
        let left: Duration = Timestamp::from_millis(next).saturating_since(self.clock.wall());
        self.clock.now().checked_add(left)
    }

    /// Does what is left as far as the output takes the results. After many calls the answer is
    /// [`Flow::Full`] too, and the task is awake.
    pub(crate) fn run<O: Data>(
        &mut self,
        flow: Flow,
        function: &mut impl TimedFunction<Out = O>,
        results: &mut Results<O>,
        output: &mut Output<O>,
    ) -> Result<Flow> {
        // The queue is empty after almost every batch.
        if self.queue.is_empty() {
            return Ok(flow);
        }
        let mut stint = Stint::of(&self.waker);
        continue_while(flow, || {
            let Some(duty) = self.queue.front().copied() else { return Ok(None) };
            if stint.is_over() {
                return Ok(Some(Flow::Full));
            }
            let done = match duty {
                Duty::Fire(domain, until) => {
                    self.fire_some(domain, until, function, results, output)?
                }
                Duty::Finish => self.finish_some(function, results, output)?,
                Duty::CloseProcessingTimers => {
                    function.close_processing_timers();
                    0
                }
                Duty::HandOn(event) => {
                    self.queue.pop_front();
                    if matches!(event, Event::Barrier(_)) {
                        function.on_barrier();
                    }
                    return output.event(event).map(Some);
                }
            };
            if done == 0 {
                self.queue.pop_front();
                return Ok(Some(Flow::Ready));
            }
            stint.add(done);
            output.push_all(results).map(Some)
        })
    }

    /// Fires timers for about a batch of results; their number.
    fn fire_some<O: Data>(
        &mut self,
        domain: TimeDomain,
        until: i64,
        function: &mut impl TimedFunction<Out = O>,
        results: &mut Results<O>,
        output: &mut Output<O>,
    ) -> Result<usize> {
        let mut calls = 0;
        while calls < batch_capacity::<O>() && !results.is_full() && !output.is_side_full() {
            let Some(timer) = function.take_timer(domain, until)? else { break };
            let time = match domain {
                TimeDomain::Event => timer.time(),
                // The earliest that is not late.
                TimeDomain::Processing => self.watermark.as_millis().saturating_add(1),
            };
            let timestamp = output.is_timed().then_some(time);
            let records = &mut results.records;
            let mut out = Collector { results: records, output: &mut *output, timestamp };
            let done = function.on_timer(timer, &mut out);
            done.map_err(|error| self.failed(error, domain, timer.time()))?;
            results.stamp_as(function.times(), timestamp)?;
            calls += 1;
        }
        if self.watermark == Timestamp::MAX {
            self.log_if_many(calls);
        }
        Ok(calls)
    }

    /// The error of a function that failed at a timer.
    #[cold]
    fn failed(&self, error: Error, domain: TimeDomain, time: i64) -> Error {
        let (operator, domain) = (
            &self.operator,
            match domain {
                TimeDomain::Event => "event",
                TimeDomain::Processing => "processing",
            },
        );
        error.context(format!("operator {operator:?} failed at a timer of {domain} time {time}"))
    }

    /// Says in the log that many timers fire: one that always sets another never ends.
    fn log_if_many(&mut self, fired: usize) {
        let before = self.fired_at_end;
        self.fired_at_end += fired as u64;
        if before / LOGGED_TIMERS < self.fired_at_end / LOGGED_TIMERS {
            tracing::warn!(
                operator = self.operator,
                fired = self.fired_at_end,
                "timers fire since the input has ended: one that always sets another never ends, \
                 unless it looks at current_watermark()"
            );
        }
    }

    /// Finishes keys for about a batch of results; their number. The results' time is the end of
    /// time: they stand for everything up to the end of the input.
    fn finish_some<O: Data>(
        &self,
        function: &mut impl TimedFunction<Out = O>,
        results: &mut Results<O>,
        output: &mut Output<O>,
    ) -> Result<usize> {
        let timestamp = output.is_timed().then_some(self.watermark.as_millis());
        let mut calls = 0;
        while calls < batch_capacity::<O>() && !results.is_full() && !output.is_side_full() {
            let records = &mut results.records;
            let mut out = Collector { results: records, output: &mut *output, timestamp };
            let finished = function.finish_next(&mut out).map_err(|error| {
                error
                    .context(format!("operator {:?} failed at the end of the input", self.operator))
            });
            if !finished? {
                break;
            }
            results.stamp_as(function.times(), timestamp)?;
            calls += 1;
        }
        Ok(calls)
    }
}
