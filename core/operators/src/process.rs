//! `process`: a function that emits to the main output and to side outputs.

use std::sync::Arc;
use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow, Records, batch_capacity};
use millstream_types::Timestamp;

use crate::Result;
use crate::collector::Collector;
use crate::on_error::{BadRecords, OnError, continue_while};
use crate::output::Output;
use crate::program::StageMaker;
use crate::results::Results;
use crate::runtime_context::RuntimeContext;
use crate::stage::{Moment, Stage, erase};

/// A function on a stream without a key, with a main output and side outputs. One instance per
/// subtask serves all its records. See [`Collector`] for an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not process records of type `{I}`",
    note = "implement `Process<{I}>` for it"
)]
pub trait Process<I>: Send {
    /// The type of its results.
    type Out: Data;

    /// Processes one record.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`](crate::OnError).
    fn process(&mut self, record: I, out: &mut Collector<'_, Self::Out>) -> Result<()>;

    /// Called once, when the input has ended; never for input without end.
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`](crate::OnError) says: there is no record to refuse.
    fn finish(&mut self, out: &mut Collector<'_, Self::Out>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// The function that a [`ProcessStage`] runs on each record.
pub(crate) trait RecordFunction<I>: Send {
    type Out: Data;

    /// Says which records come next, so that their state can be read at once.
    fn prepare(&mut self, records: &[I]) -> Result<()> {
        let _ = records;
        Ok(())
    }

    fn process(&mut self, record: I, out: &mut Collector<'_, Self::Out>) -> Result<()>;

    /// Undoes what the last record changed in the function's state.
    fn take_back(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does the next piece of work at the end of input; `false` if there is none.
    fn finish_next(&mut self, out: &mut Collector<'_, Self::Out>) -> Result<bool>;
}

/// A [`Process`] in its task.
pub(crate) struct Plain<P> {
    pub(crate) process: P,
    pub(crate) finished: bool,
}

impl<I, P: Process<I>> RecordFunction<I> for Plain<P> {
    type Out = P::Out;

    fn process(&mut self, record: I, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.process.process(record, out)
    }

    fn finish_next(&mut self, out: &mut Collector<'_, P::Out>) -> Result<bool> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(false);
        }
        self.process.finish(out)?;
        Ok(true)
    }
}

/// The operator that runs a function without a key.
pub fn process<I, P>(
    on_error: OnError<I>,
    make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
) -> StageMaker
where
    I: Send + 'static,
    P: Process<I> + 'static,
{
    Arc::new(move |ctx, outputs| {
        let process = make(&RuntimeContext::new(ctx.task))?;
        let (function, bad) = (Plain { process, finished: false }, BadRecords::of(&on_error, ctx));
        Ok(erase::<I>(Box::new(ProcessStage::new(function, bad, Output::new(outputs)?))))
    })
}

/// Runs a function on each record, and at the end of input.
pub(crate) struct ProcessStage<I, F: RecordFunction<I>> {
    function: F,
    bad: BadRecords<I>,
    output: Output<F::Out>,
    records: Records<I>,
    results: Results<F::Out>,
    /// The input has ended, and the function has work left.
    ending: bool,
}

impl<I: Send + 'static, F: RecordFunction<I>> ProcessStage<I, F> {
    pub(crate) fn new(function: F, bad: BadRecords<I>, output: Output<F::Out>) -> Self {
        Self {
            function,
            bad,
            records: Batch::empty(false).into_iter(),
            results: output.results(),
            output,
            ending: false,
        }
    }

    fn advance(&mut self) -> Result<Option<Flow>> {
        while !self.results.is_full() && !self.output.is_side_full() {
            let Some((record, timestamp)) = self.records.next() else { break };
            let kept = self.bad.keep(&record);
            let before = self.results.len();
            if self.bad.goes_on() {
                self.output.mark_sides();
            }
            let (results, output) = (&mut self.results.records, &mut self.output);
            let mut out = Collector { results, output, timestamp };
            if let Err(error) = self.function.process(record, &mut out) {
                self.results.truncate(before);
                self.output.take_back_sides();
                self.function.take_back()?;
                self.bad.refuse(error, kept, timestamp, &mut self.output)?;
            }
            self.results.stamp(timestamp)?;
        }
        if self.results.is_empty() && self.records.len() == 0 {
            return self.output.flush_sides().map(|flow| (flow == Flow::Full).then_some(flow));
        }
        self.output.push_all(&mut self.results).map(Some)
    }

    fn run(&mut self, flow: Flow) -> Result<Flow> {
        if !self.ending {
            return continue_while(flow, || self.advance());
        }
        let flow = continue_while(flow, || {
            finish_some(&mut self.results, &mut self.output, |out| self.function.finish_next(out))
        })?;
        if flow == Flow::Full {
            return Ok(flow);
        }
        self.ending = false;
        self.output.event(Event::EndOfInput)
    }
}

/// Calls `next` for about a batch of results and sends them; `None` once `next` has answered
/// `false`. Side outputs are sent each time, so the calls are bounded too. The results' time is the
/// end of time: they stand for everything up to the end of the input.
pub(crate) fn finish_some<O: Data>(
    results: &mut Results<O>,
    output: &mut Output<O>,
    mut next: impl FnMut(&mut Collector<'_, O>) -> Result<bool>,
) -> Result<Option<Flow>> {
    let capacity = batch_capacity::<O>();
    let timestamp = output.is_timed().then_some(Timestamp::MAX.as_millis());
    let mut calls = 0;
    while calls < capacity && !results.is_full() && !output.is_side_full() {
        let mut out = Collector { results: &mut results.records, output: &mut *output, timestamp };
        if !next(&mut out)? {
            break;
        }
        calls += 1;
    }
    if calls == 0 {
        return Ok(None);
    }
    results.stamp(timestamp)?;
    output.push_all(results).map(Some)
}

impl<I: Send + 'static, F: RecordFunction<I>> Stage<I> for ProcessStage<I, F> {
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<I>) -> Result<Flow> {
        self.function.prepare(batch.records())?;
        self.records = batch.into_iter();
        self.run(Flow::Ready)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        if event == Event::EndOfInput {
            self.ending = true;
            return self.run(Flow::Ready);
        }
        self.output.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        self.run(flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.output.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Process
    }
}
