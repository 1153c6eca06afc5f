//! `process`: a function that emits to the main output and to side outputs.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow, Records};
use millstream_output_buffers::Results;
use millstream_task_checkpoint::Slice;

use crate::Result;
use crate::collector::Collector;
use crate::duties::{Duties, TimedFunction};
use crate::on_error::{BadRecords, OnError, continue_while};
use crate::output::Output;
use crate::program::StageMaker;
use crate::runtime_context::RuntimeContext;
use crate::stage::{Moment, Stage, erase};
use crate::task::OperatorContext;

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
pub(crate) trait RecordFunction<I>: TimedFunction {
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
}

/// A [`Process`] in its task.
struct Plain<I, P> {
    process: P,
    finished: bool,
    records: PhantomData<fn(I)>,
}

impl<I, P: Process<I>> RecordFunction<I> for Plain<I, P> {
    fn process(&mut self, record: I, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.process.process(record, out)
    }
}

impl<I, P: Process<I>> TimedFunction for Plain<I, P> {
    type Out = P::Out;

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
        let function = Plain { process, finished: false, records: PhantomData };
        let bad = BadRecords::of(&on_error, ctx);
        Ok(erase::<I>(Box::new(ProcessStage::new(ctx, function, bad, Output::new(outputs)?))))
    })
}

/// Runs a function on each record, and when time asks for it.
pub(crate) struct ProcessStage<I, F: RecordFunction<I>> {
    function: F,
    bad: BadRecords<I>,
    output: Output<F::Out>,
    records: Records<I>,
    results: Results<F::Out>,
    duties: Duties,
}

impl<I: Send + 'static, F: RecordFunction<I>> ProcessStage<I, F> {
    pub(crate) fn new(
        ctx: &OperatorContext<'_>,
        function: F,
        bad: BadRecords<I>,
        output: Output<F::Out>,
    ) -> Self {
        Self {
            duties: Duties::new(ctx, &function),
            function,
            bad,
            records: Batch::empty(false).into_iter(),
            results: output.results(),
            output,
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
            let done = self.function.process(record, &mut out);
            // Windows give their results a time of their own.
            let time = out.timestamp;
            if let Err(error) = done {
                self.results.truncate(before);
                self.output.take_back_sides();
                self.function.take_back()?;
                self.bad.refuse(error, kept, timestamp, &mut self.output)?;
            }
            self.results.stamp_as(self.function.times(), time)?;
        }
        if self.results.is_empty() && self.records.len() == 0 {
            return self.output.flush_sides().map(|flow| (flow == Flow::Full).then_some(flow));
        }
        self.output.push_all(&mut self.results).map(Some)
    }

    fn run(&mut self, flow: Flow) -> Result<Flow> {
        let flow = continue_while(flow, || self.advance())?;
        self.duties.run(flow, &mut self.function, &mut self.results, &mut self.output)
    }
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
        self.duties.on_event(event, &mut self.function);
        self.run(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        self.run(flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.duties.on_time(&self.function);
        let flow = self.output.on_time(moment)?;
        self.run(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        let own = self.duties.next_time(&self.function);
        self.output.next_time().into_iter().chain(own).min()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.function.slice(slice);
        self.output.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Process
    }
}
