//! The body of a task that starts with a source.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use millstream_connector::{
    Polled, ReaderContext, ReaderOutput, Source, SourceReader, SplitEnumerator,
};
use millstream_network::{Batch, BatchLimit, Event, Flow, TimesError};
use millstream_types::{OperatorId, counters};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::Upstream;
use crate::coordinator::{OperatorCoordinator, SourceCoordinator, SourceEvent, decode, encode};
use crate::output::Output;
use crate::program::{CoordinatorMaker, SourceMaker};
use crate::stage::Moment;
use crate::task::{EventMailbox, EventSender, Step, TaskBody};
use crate::{Result, bail};

/// The operator that reads a source, whose uid it is given.
pub fn source<S: Source>(source: &Arc<S>, uid: &str) -> SourceMaker {
    let (source, uid) = (Arc::clone(source), uid.to_owned());
    let coordinated = S::Enumerator::EXISTS;
    Arc::new(move |ctx, outputs| {
        let (subtask, parallelism) = (ctx.task.subtask, ctx.task.parallelism.max(1));
        let mut reader = source.reader(&ReaderContext {
            subtask: ctx.task.subtask,
            parallelism: ctx.task.parallelism,
            waker: ctx.task.waker.clone(),
            dropped: ctx.task.metrics.engines(counters::RECORDS_DROPPED),
            replaced: ctx.task.metrics.engines(counters::RECORDS_REPLACED),
            skipped: ctx.task.metrics.engines(counters::FILES_SKIPPED),
        })?;
        if !coordinated {
            let splits = source.splits()?.into_iter().skip(subtask as usize);
            reader.add_splits(splits.step_by(parallelism as usize).collect())?;
        }
        let splits = coordinated.then(|| SplitRequests {
            operator: ctx.operator,
            subtask: ctx.task.subtask,
            to_coordinator: Arc::clone(ctx.to_coordinator),
            from_coordinator: Arc::clone(ctx.from_coordinator),
            requested: false,
            no_more: false,
        });
        let output = Output::new(outputs)?;
        let (state, uid) = (Upstream::Reading, uid.clone());
        let limit = BatchLimit::new();
        Ok(Box::new(SourceBody { reader, output, splits, state, is_read: false, limit, uid }))
    })
}

/// The coordinator of a source, if it hands out splits.
pub fn source_coordinator<S: Source>(source: &Arc<S>) -> Option<CoordinatorMaker> {
    let source = Arc::clone(source);
    S::Enumerator::EXISTS.then(|| {
        let make: CoordinatorMaker = Arc::new(move |_info| {
            let enumerator = source.enumerator(None)?;
            Ok(Box::new(SourceCoordinator::new(enumerator)) as Box<dyn OperatorCoordinator>)
        });
        make
    })
}

/// The way by which a reader gets its splits.
pub(crate) struct SplitRequests {
    pub(crate) operator: OperatorId,
    pub(crate) subtask: u32,
    pub(crate) to_coordinator: EventSender,
    pub(crate) from_coordinator: Arc<EventMailbox>,
    pub(crate) requested: bool,
    pub(crate) no_more: bool,
}

/// Polls a reader.
pub(crate) struct SourceBody<R: SourceReader> {
    pub(crate) reader: R,
    pub(crate) output: Output<R::Out>,
    /// `None` for a source without an enumerator.
    pub(crate) splits: Option<SplitRequests>,
    pub(crate) state: Upstream,
    /// The reader will never have more; the end of input waits until the output takes it.
    pub(crate) is_read: bool,
    /// Says when the records of a poll make a batch.
    pub(crate) limit: BatchLimit<R::Out>,
    pub(crate) uid: String,
}

impl<R: SourceReader> SourceBody<R>
where
    R::Split: Serialize + DeserializeOwned,
{
    fn take_splits(&mut self) -> Result<()> {
        let Some(splits) = &mut self.splits else { return Ok(()) };
        while let Some(payload) = splits.from_coordinator.pop() {
            match decode::<SourceEvent<R::Split>>(&payload)? {
                SourceEvent::Splits(found) => {
                    splits.requested = false;
                    self.reader.add_splits(found)?;
                }
                SourceEvent::NoMoreSplits => splits.no_more = true,
                SourceEvent::RequestSplit => {}
            }
        }
        Ok(())
    }

    /// The reader has nothing to read; `true` if it never will again.
    fn needs_split(&mut self) -> Result<bool> {
        let Some(splits) = &mut self.splits else { return Ok(true) };
        if splits.no_more {
            return Ok(true);
        }
        if !splits.requested {
            splits.requested = true;
            let request = encode(&SourceEvent::<R::Split>::RequestSplit)?;
            (splits.to_coordinator)(splits.operator, splits.subtask, request);
        }
        Ok(false)
    }

    /// Lets the reader add records, which must have event times if the source says so.
    fn poll(&mut self) -> Result<(Batch<R::Out>, Polled)> {
        let mut batch = Batch::empty(self.output.is_timed());
        match self.reader.poll(&mut ReaderOutput::new(&mut batch, &mut self.limit)) {
            Ok(polled) => Ok((batch, polled)),
            Err(error) if error.is::<TimesError>() => bail!("{}", self.contradiction(&error)),
            Err(error) => Err(error),
        }
    }

    /// The reader did not do what its source says of event times.
    #[cold]
    fn contradiction(&self, error: &impl Display) -> String {
        let (says, remedy) = if self.output.is_timed() {
            ("have", "add each with push_at(), or let has_timestamps() be false")
        } else {
            ("have no", "add each with push(), or let has_timestamps() be true")
        };
        let uid = &self.uid;
        format!("source {uid:?} says that its records {says} event times, but {error}: {remedy}")
    }

    fn end(&mut self) -> Result<Step> {
        self.state = Upstream::Ending;
        let flow = self.output.event(Event::EndOfInput)?;
        Ok(self.state.after(flow))
    }
}

impl<R: SourceReader> TaskBody for SourceBody<R>
where
    R::Split: Serialize + DeserializeOwned,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn step(&mut self) -> Result<Step> {
        if self.state.must_resume() {
            let flow = self.output.resume()?;
            if flow == Flow::Ready && self.state == Upstream::Blocked && self.is_read {
                return self.end();
            }
            return Ok(self.state.after(flow));
        }
        self.take_splits()?;
        let (batch, polled) = self.poll()?;
        let flow = if batch.is_empty() { Flow::Ready } else { self.output.push(batch)? };
        let (is_read, step) = match polled {
            Polled::Ready => (false, Step::Progress),
            Polled::Pending(until) => (false, Step::Idle(until)),
            Polled::NeedSplit => (self.needs_split()?, Step::Idle(None)),
            Polled::Finished => (true, Step::Idle(None)),
        };
        self.is_read = is_read;
        match flow {
            Flow::Full => Ok(self.state.after(flow)),
            Flow::Ready if is_read => self.end(),
            Flow::Ready => Ok(step),
        }
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let flow = self.output.on_time(moment)?;
        self.state.block_if(flow);
        Ok(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind {
        crate::explore::BodyKind::Source
    }

    fn inputs_waiting(&self) -> usize {
        0
    }
}
