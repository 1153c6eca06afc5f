//! The outputs of an operator: the stage that reads its results, and its side outputs.

use std::time::Instant;

use millstream_network::{Batch, Event, Flow};

use crate::Result;
use crate::results::Results;
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
    sides: Vec<(String, Box<dyn Side>)>,
    /// The records that are kept for one of the side outputs make a batch.
    side_full: bool,
    timed: bool,
}

impl<O: 'static> Output<O> {
    /// Gives the main output its type.
    pub(crate) fn new(outputs: Outputs) -> Result<Self> {
        let main: Box<dyn Stage<O>> = match outputs.main {
            Some(stage) => reveal(stage)?,
            None => Box::new(Discard),
        };
        Ok(Self { main, sides: outputs.sides, side_full: false, timed: outputs.timed })
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
        self.sides.iter_mut().try_for_each(|(_, side)| side.open())
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
        self.sides.iter().any(|(name, _)| name == tag)
    }

    /// Marks the present content of the side outputs, for [`Output::take_back_sides`].
    pub(crate) fn mark_sides(&mut self) {
        self.sides.iter_mut().for_each(|(_, side)| side.mark());
    }

    /// Drops the records that came to side outputs since they were marked.
    pub(crate) fn take_back_sides(&mut self) {
        self.sides.iter_mut().for_each(|(_, side)| side.take_back());
    }

    /// Keeps a record of this event time for a side output; [`Output::flush_sides`] sends it on.
    pub(crate) fn emit_side<S: Send + 'static>(
        &mut self,
        tag: &OutputTag<S>,
        record: S,
        time: Option<i64>,
    ) -> Result<()> {
        let Some((_, side)) = self.sides.iter_mut().find(|(name, _)| name == tag.name()) else {
            return Ok(());
        };
        self.side_full |= SideBuffer::<S>::of(side, tag.name())?.push(record, time)?;
        Ok(())
    }

    /// Whether the records that are kept for a side output make a batch.
    #[inline]
    pub(crate) const fn is_side_full(&self) -> bool {
        self.side_full
    }

    pub(crate) fn flush_sides(&mut self) -> Result<Flow> {
        self.side_full = false;
        self.sides.iter_mut().try_fold(Flow::Ready, |flow, (_, side)| Ok(flow.and(side.flush()?)))
    }

    pub(crate) fn event(&mut self, event: Event) -> Result<Flow> {
        let flow = self.main.event(event)?;
        self.sides.iter_mut().try_fold(flow, |flow, (_, side)| Ok(flow.and(side.event(event)?)))
    }

    pub(crate) fn resume(&mut self) -> Result<Flow> {
        let flow = self.main.resume()?;
        self.sides.iter_mut().try_fold(flow, |flow, (_, side)| Ok(flow.and(side.resume()?)))
    }

    pub(crate) fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let flow = self.main.on_time(moment)?;
        self.sides.iter_mut().try_fold(flow, |flow, (_, side)| Ok(flow.and(side.on_time(moment)?)))
    }

    pub(crate) fn next_time(&self) -> Option<Instant> {
        let sides = self.sides.iter().filter_map(|(_, side)| side.next_time());
        sides.chain(self.main.next_time()).min()
    }
}
