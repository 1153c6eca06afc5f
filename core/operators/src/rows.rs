//! Between two operators of a chain: records pass as if their tasks were in different processes.

use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow, send_through_rows};
use millstream_task_checkpoint::Slice;

use crate::Result;
use crate::stage::{Moment, Stage};

/// Encodes each batch and reads it back before the next stage gets it.
pub(crate) struct RowsStage<T> {
    pub(crate) next: Box<dyn Stage<T>>,
}

impl<T: Data> Stage<T> for RowsStage<T> {
    fn open(&mut self) -> Result<()> {
        self.next.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.next.push(send_through_rows(batch)?)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.next.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.next.resume()
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.next.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.next.next_time()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.next.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Rows
    }
}
