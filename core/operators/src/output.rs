//! The outputs of an operator: the stage that reads its results, and its side outputs.

use std::time::Instant;

use millstream_network::{Batch, Event, Flow};
use millstream_output_buffers::Results;
use millstream_task_checkpoint::Slice;

use crate::Result;
use crate::side::{OutputTag, Side, SideBuffer};
use crate::stage::{Discard, ErasedStage, Moment, Stage, reveal};

/// Where an operator's results go, their types hidden.
#[derive(Default)]
pub struct Outputs {
    /// The reader of the main output, if it has one.
    pub main: Option<ErasedStage>,
    /// The readers of the side outputs, by tag.
    pub sides: Vec<(String, Box<dyn Side>)>,
    /// Whether the results have event times.
    pub timed: bool,
}

/// Where an operator's results go.
pub(crate) struct Output<O> {
    main: Box<dyn Stage<O>>,
    pub(crate) sides: Sides,
    timed: bool,
}

/// The side outputs of an operator, by tag.
pub(crate) struct Sides {
    all: Vec<(String, Box<dyn Side>)>,
    /// The records that are kept for one of them make a batch.
    is_full: bool,
}

impl Sides {
    /// Whether the side output of this name is read.
    pub(crate) fn has(&self, tag: &str) -> bool {
        self.all.iter().any(|(name, _)| name == tag)
    }

    /// Keeps a record of this event time for a side output, if that is read.
    pub(crate) fn emit<S: Send + 'static>(
        &mut self,
        tag: &OutputTag<S>,
        record: S,
        time: Option<i64>,
    ) -> Result<()> {
        let Some((_, side)) = self.all.iter_mut().find(|(name, _)| name == tag.name()) else {
            return Ok(());
        };
        self.is_full |= SideBuffer::<S>::of(side, tag.name())?.push(record, time)?;
        Ok(())
    }
}

impl<O: 'static> Output<O> {
    /// Gives the main output its type.
    pub(crate) fn new(outputs: Outputs) -> Result<Self> {
        let main: Box<dyn Stage<O>> = match outputs.main {
            Some(stage) => reveal(stage)?,
            None => Box::new(Discard),
        };
        let sides = Sides { all: outputs.sides, is_full: false };
        Ok(Self { main, sides, timed: outputs.timed })
    }

    /// Whether the results have event times.
    pub(crate) const fn is_timed(&self) -> bool {
        self.timed
    }

    /// An empty buffer for results.
    pub(crate) const fn results(&self) -> Results<O> {
        Results::new(self.timed)
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.main.open()?;
        self.sides.all.iter_mut().try_for_each(|(_, side)| side.open())
    }

    pub(crate) fn push(&mut self, batch: Batch<O>) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Ready);
        }
        self.main.push(batch)
    }

    /// Sends on what process calls left in `buffer`.
    pub(crate) fn push_all(&mut self, buffer: &mut Results<O>) -> Result<Flow> {
        let flow = self.push(buffer.take()?)?;
        Ok(flow.and(self.flush_sides()?))
    }

    /// Whether the side output of this name is read.
    pub(crate) fn has_side(&self, tag: &str) -> bool {
        self.sides.has(tag)
    }

    /// Marks the present content of the side outputs, for [`Output::take_back_sides`].
    pub(crate) fn mark_sides(&mut self) {
        self.sides.all.iter_mut().for_each(|(_, side)| side.mark());
    }

    /// Drops the records that came to side outputs since they were marked.
    pub(crate) fn take_back_sides(&mut self) {
        self.sides.all.iter_mut().for_each(|(_, side)| side.take_back());
    }

    /// Keeps a record of this event time for a side output; [`Output::flush_sides`] sends it on.
    pub(crate) fn emit_side<S: Send + 'static>(
        &mut self,
        tag: &OutputTag<S>,
        record: S,
        time: Option<i64>,
    ) -> Result<()> {
        self.sides.emit(tag, record, time)
    }

    /// Whether the records that are kept for a side output make a batch.
    #[inline]
    pub(crate) const fn is_side_full(&self) -> bool {
        self.sides.is_full
    }

    pub(crate) fn flush_sides(&mut self) -> Result<Flow> {
        self.sides.is_full = false;
        self.sides
            .all
            .iter_mut()
            .try_fold(Flow::Ready, |flow, (_, side)| Ok(flow.and(side.flush()?)))
    }

    pub(crate) fn event(&mut self, event: Event) -> Result<Flow> {
        let flow = self.main.event(event)?;
        self.sides.all.iter_mut().try_fold(flow, |flow, (_, side)| Ok(flow.and(side.event(event)?)))
    }

    pub(crate) fn resume(&mut self) -> Result<Flow> {
        let flow = self.main.resume()?;
        self.sides.all.iter_mut().try_fold(flow, |flow, (_, side)| Ok(flow.and(side.resume()?)))
    }

    pub(crate) fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let flow = self.main.on_time(moment)?;
        self.sides
            .all
            .iter_mut()
            .try_fold(flow, |flow, (_, side)| Ok(flow.and(side.on_time(moment)?)))
    }

    pub(crate) fn next_time(&self) -> Option<Instant> {
        let sides = self.sides.all.iter().filter_map(|(_, side)| side.next_time());
        sides.chain(self.main.next_time()).min()
    }

    pub(crate) fn slice(&mut self, slice: &mut Slice<'_>) {
        self.main.slice(slice);
        self.sides.all.iter_mut().for_each(|(_, side)| side.slice(slice));
    }
}
