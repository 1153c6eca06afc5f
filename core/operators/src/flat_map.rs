//! `flat_map`: one record in, any number out, with a cursor inside the record's results.

use std::sync::Arc;
use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow, Records};
use millstream_output_buffers::{Results, append};
use millstream_task_checkpoint::Slice;

use crate::Result;
use crate::on_error::{BadRecords, OnError, continue_while};
use crate::output::Output;
use crate::program::StageMaker;
use crate::runtime_context::RuntimeContext;
use crate::stage::{Moment, Stage, erase};

/// The operator that turns each record into any number of them.
pub fn flat_map<I, It, F>(
    on_error: OnError<I>,
    make: impl Fn(&RuntimeContext<'_>) -> Result<F> + Send + Sync + 'static,
) -> StageMaker
where
    I: Send + 'static,
    It: IntoIterator + 'static,
    It::IntoIter: Send + 'static,
    It::Item: Data,
    F: FnMut(I) -> Result<It> + Send + 'static,
{
    Arc::new(move |ctx, outputs| {
        let output = Output::new(outputs)?;
        Ok(erase::<I>(Box::new(FlatMapStage::<I, It, F> {
            function: make(&RuntimeContext::new(ctx.task))?,
            bad: BadRecords::of(&on_error, ctx),
            records: Batch::empty(false).into_iter(),
            current: None,
            results: output.results(),
            output,
        })))
    })
}

/// Keeps the iterator of the record at hand, so that a record with a million results needs no more
/// memory than one with a thousand.
pub(crate) struct FlatMapStage<I, It: IntoIterator, F> {
    pub(crate) function: F,
    pub(crate) bad: BadRecords<I>,
    pub(crate) output: Output<It::Item>,
    pub(crate) records: Records<I>,
    pub(crate) current: Option<(It::IntoIter, Option<i64>)>,
    pub(crate) results: Results<It::Item>,
}

impl<I, It, F> FlatMapStage<I, It, F>
where
    I: Send + 'static,
    It: IntoIterator,
    It::IntoIter: Send,
    It::Item: Data,
    F: FnMut(I) -> Result<It> + Send,
{
    /// Fills one batch of results; `None` when there is nothing left to do.
    fn advance(&mut self) -> Result<Option<Flow>> {
        loop {
            if let Some((results, time)) = &mut self.current {
                while !self.results.is_full()
                    && append(&mut self.results.records, || results.next())
                {}
                self.results.stamp(*time)?;
                if self.results.is_full() {
                    return self.flush().map(Some);
                }
                self.current = None;
            }
            let Some((record, time)) = self.records.next() else {
                let left = !self.results.is_empty();
                return if left { self.flush().map(Some) } else { Ok(None) };
            };
            let kept = self.bad.keep(&record);
            match (self.function)(record) {
                Ok(results) => self.current = Some((results.into_iter(), time)),
                Err(error) => self.bad.refuse(error, kept, time, &mut self.output)?,
            }
        }
    }

    fn flush(&mut self) -> Result<Flow> {
        let capacity = self.results.records.capacity();
        let results = self.results.take()?;
        self.results.records.reserve(capacity);
        self.output.push(results)
    }

    fn run(&mut self, flow: Flow) -> Result<Flow> {
        let flow = continue_while(flow, || self.advance())?;
        Ok(flow.and(self.output.flush_sides()?))
    }
}

impl<I, It, F> Stage<I> for FlatMapStage<I, It, F>
where
    I: Send + 'static,
    It: IntoIterator,
    It::IntoIter: Send,
    It::Item: Data,
    F: FnMut(I) -> Result<It> + Send,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<I>) -> Result<Flow> {
        self.records = batch.into_iter();
        self.run(Flow::Ready)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
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

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.output.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::FlatMap
    }
}
