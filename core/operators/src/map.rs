//! `map` and `filter`: one record in, at most one out, in place where the types allow it.

use std::sync::Arc;
use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow, filter_map_in_place};
use millstream_output_buffers::Results;
use millstream_task_checkpoint::Slice;

use crate::Result;
use crate::on_error::{BadRecords, OnError, Policy};
use crate::output::Output;
use crate::program::StageMaker;
use crate::runtime_context::RuntimeContext;
use crate::stage::{Moment, Stage, erase};

/// The operator that turns each record into one or none.
pub fn map<I, O, F>(
    on_error: OnError<I>,
    make: impl Fn(&RuntimeContext<'_>) -> Result<F> + Send + Sync + 'static,
) -> StageMaker
where
    I: Send + 'static,
    O: Data,
    F: FnMut(I) -> Result<Option<O>> + Send + 'static,
{
    Arc::new(move |ctx, outputs| {
        let output = Output::new(outputs)?;
        Ok(erase::<I>(Box::new(MapStage {
            function: make(&RuntimeContext::new(ctx.task))?,
            bad: BadRecords::of(&on_error, ctx),
            records: Batch::empty(output.is_timed()),
            results: output.results(),
            output,
        })))
    })
}

/// Turns each record into one or none, in batches that the results fill.
pub(crate) struct MapStage<I, O, F> {
    pub(crate) function: F,
    pub(crate) bad: BadRecords<I>,
    pub(crate) output: Output<O>,
    /// The records that are left of the last batch.
    pub(crate) records: Batch<I>,
    pub(crate) results: Results<O>,
}

impl<I, O, F> MapStage<I, O, F>
where
    I: Send + 'static,
    O: Data,
    F: FnMut(I) -> Result<Option<O>> + Send,
{
    /// The common case: no event times and nothing to keep.
    fn apply_untimed(&mut self, records: Vec<I>) -> Result<Batch<O>> {
        let (function, bad, output) = (&mut self.function, &self.bad, &mut self.output);
        let limit = &mut self.results.limit;
        limit.restart();
        let function = |record| match function(record) {
            Ok(result) => Ok(result),
            Err(error) => bad.refuse(error, None, None, output).map(|()| None),
        };
        let is_full = |results: &[O]| limit.is_full(results);
        let (results, left) = filter_map_in_place(records, function, is_full)?;
        self.records = Batch::of(left);
        Ok(Batch::of(results))
    }

    fn apply(&mut self, batch: Batch<I>) -> Result<Batch<O>> {
        self.results.records.reserve(batch.len().min(self.results.limit.capacity()));
        let timed = batch.is_timed();
        let mut records = batch.into_iter();
        while !self.results.is_full()
            && let Some((record, time)) = records.next()
        {
            let kept = self.bad.keep(&record);
            match (self.function)(record) {
                Ok(Some(result)) => self.results.push(result, time)?,
                Ok(None) => {}
                Err(error) => self.bad.refuse(error, kept, time, &mut self.output)?,
            }
        }
        self.records = records.into_batch(timed);
        self.results.take()
    }

    /// Sends on the results of some of these records, and keeps the others.
    fn advance(&mut self, batch: Batch<I>) -> Result<Flow> {
        let plain = !batch.is_timed() && !matches!(self.bad.policy, Policy::SideOutput { .. });
        let results =
            if plain { self.apply_untimed(batch.into_records())? } else { self.apply(batch)? };
        let flow = self.output.push(results)?;
        Ok(flow.and(self.output.flush_sides()?))
    }

    /// Goes on with the records that are left.
    fn run(&mut self, mut flow: Flow) -> Result<Flow> {
        while flow == Flow::Ready && !self.records.is_empty() {
            let batch = self.records.take();
            flow = self.advance(batch)?;
        }
        Ok(flow)
    }
}

impl<I, O, F> Stage<I> for MapStage<I, O, F>
where
    I: Send + 'static,
    O: Data,
    F: FnMut(I) -> Result<Option<O>> + Send,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<I>) -> Result<Flow> {
        let flow = self.advance(batch)?;
        self.run(flow)
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
        crate::explore::Kind::Map
    }
}
