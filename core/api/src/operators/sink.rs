//! The last stage of a chain that ends in a sink.

use std::time::Instant;

use millstream_network::{Batch, Event, Flow};
use millstream_types::OperatorId;
use serde::Serialize;

use crate::Result;
use crate::coordinator::encode;
use crate::sink::SinkWriter;
use crate::stage::Stage;
use crate::task::EventSender;

/// Hands batches to a writer.
pub(crate) struct SinkStage<W> {
    pub(crate) writer: W,
    pub(crate) operator: OperatorId,
    pub(crate) name: String,
    pub(crate) subtask: u32,
    /// `None` for a sink without a committer.
    pub(crate) to_committer: Option<EventSender>,
    /// When the writer asked to be called again.
    pub(crate) next_time: Option<Instant>,
}

impl<W> SinkStage<W> {
    fn explain(&self, error: crate::Error) -> crate::Error {
        error.context(format!("sink {:?} failed", self.name))
    }
}

impl<T, W> Stage<T> for SinkStage<W>
where
    T: Send + 'static,
    W: SinkWriter<T>,
    W::Committable: Serialize,
{
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.writer.write(batch).map_err(|error| self.explain(error))?;
        Ok(Flow::Ready)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        if event == Event::EndOfInput {
            let committables = self.writer.finish().map_err(|error| self.explain(error))?;
            match &self.to_committer {
                Some(send) => send(self.operator, self.subtask, encode(&committables)?),
                None if committables.is_empty() => {}
                None => {
                    return Err(self.explain(anyhow::anyhow!(
                        "its writer gave {} committables, but has_committer() is false, so that \
                         nothing would commit them",
                        committables.len()
                    )));
                }
            }
        }
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn on_time(&mut self, now: Instant) -> Result<Flow> {
        self.next_time = self.writer.tick(now).map_err(|error| self.explain(error))?;
        Ok(Flow::Ready)
    }

    fn next_time(&self) -> Option<Instant> {
        self.next_time
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Sink
    }
}
