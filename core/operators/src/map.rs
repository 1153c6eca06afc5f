//! `map` and `filter`: one record in, at most one out, in place where the types allow it.

use std::sync::Arc;
use std::time::Instant;

use millstream_network::{Batch, Event, Flow};

use crate::Result;
use crate::in_place;
use crate::on_error::{BadRecords, OnError, Policy};
use crate::output::Output;
use crate::program::StageMaker;
use crate::results::Results;
use crate::runtime_context::RuntimeContext;
use crate::stage::{Moment, Stage, erase};

/// The operator that turns each record into one or none.
pub fn map<I, O, F>(
    on_error: OnError<I>,
    make: impl Fn(&RuntimeContext<'_>) -> Result<F> + Send + Sync + 'static,
) -> StageMaker
where
    I: Send + 'static,
    O: Send + 'static,
    F: FnMut(I) -> Result<Option<O>> + Send + 'static,
{
    Arc::new(move |ctx, outputs| {
        Ok(erase::<I>(Box::new(MapStage {
            function: make(&RuntimeContext::new(ctx.task))?,
            bad: BadRecords::of(&on_error, ctx),
            output: Output::new(outputs)?,
        })))
    })
}

/// Turns each record into one or none.
pub(crate) struct MapStage<I, O, F> {
    pub(crate) function: F,
    pub(crate) bad: BadRecords<I>,
    pub(crate) output: Output<O>,
}

impl<I, O, F> MapStage<I, O, F>
where
    I: Send + 'static,
    O: Send + 'static,
    F: FnMut(I) -> Result<Option<O>> + Send,
{
    /// The common case: no event times and nothing to keep.
    fn apply_untimed(&mut self, records: Vec<I>) -> Result<Vec<O>> {
        let (function, bad, output) = (&mut self.function, &self.bad, &mut self.output);
        in_place::filter_map(records, |record| match function(record) {
            Ok(result) => Ok(result),
            Err(error) => bad.refuse(error, None, None, output).map(|()| None),
        })
    }

    fn apply(&mut self, batch: Batch<I>) -> Result<Batch<O>> {
        let mut results = Results::new(batch.is_timed());
        results.records.reserve(batch.len());
        for (record, time) in batch {
            let kept = self.bad.keep(&record);
            match (self.function)(record) {
                Ok(Some(result)) => results.push(result, time)?,
                Ok(None) => {}
                Err(error) => self.bad.refuse(error, kept, time, &mut self.output)?,
            }
        }
        results.take()
    }
}

impl<I, O, F> Stage<I> for MapStage<I, O, F>
where
    I: Send + 'static,
    O: Send + 'static,
    F: FnMut(I) -> Result<Option<O>> + Send,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<I>) -> Result<Flow> {
        let plain = !batch.is_timed() && !matches!(self.bad.policy, Policy::SideOutput { .. });
        let batch = if plain {
            Batch::of(self.apply_untimed(batch.into_records())?)
        } else {
            self.apply(batch)?
        };
        let flow = self.output.push(batch)?;
        Ok(flow.and(self.output.flush_sides()?))
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.output.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.output.resume()
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.output.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Map
    }
}
