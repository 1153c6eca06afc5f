//! The last stage of a chain that ends in a sink.

use std::sync::Arc;
use std::time::Instant;

use millstream_connector::{
    Committer, EventSender, OperatorCoordinator, PreCommitted, Sink, SinkCoordinator, SinkWriter,
    WriterInfo, encode,
};
use millstream_network::{Batch, Event, Flow};
use millstream_task_checkpoint::{PreCommitted as Kept, TaskCheckpoints};
use millstream_types::{AttemptId, CheckpointId, OperatorId};
use serde::Serialize;

use crate::Result;
use crate::program::{CoordinatorMaker, StageMaker};
use crate::stage::{Moment, Stage, erase};

/// The most bytes in which a writer names its results: they travel in one message.
const COMMITTABLES_BYTES_MAX: usize = 48 << 20;

fn too_long(bytes: usize) -> crate::Error {
    anyhow::anyhow!(
        "its writer named its results in {bytes} bytes, and {COMMITTABLES_BYTES_MAX} are the most: \
         let it write fewer and larger ones"
    )
}

/// The operator that writes into a sink.
pub fn sink<I: Send + 'static, S: Sink<I>>(sink: &Arc<S>) -> StageMaker {
    let sink = Arc::clone(sink);
    let coordinated = S::Committer::EXISTS;
    Arc::new(move |ctx, _outputs| {
        let writer = sink.writer(&WriterInfo {
            job: ctx.task.job,
            operator: ctx.operator,
            subtask: ctx.task.subtask,
            parallelism: ctx.task.parallelism,
            attempt: AttemptId::new(ctx.task.attempt),
            waker: ctx.task.waker.clone(),
        })?;
        Ok(erase::<I>(Box::new(SinkStage {
            writer,
            operator: ctx.operator,
            name: ctx.name.to_owned(),
            subtask: ctx.task.subtask,
            to_committer: coordinated.then(|| Arc::clone(ctx.to_coordinator)),
            checkpoints: ctx.task.checkpoints.clone(),
            flow: Flow::Ready,
        })))
    })
}

/// The coordinator of a sink, if it has a committer.
pub fn sink_coordinator<I: Send + 'static, S: Sink<I>>(sink: &Arc<S>) -> Option<CoordinatorMaker> {
    let sink = Arc::clone(sink);
    S::Committer::EXISTS.then(|| {
        let make: CoordinatorMaker = Arc::new(move |ctx| {
            let committer = sink.committer(&ctx.info)?;
            Ok(Box::new(SinkCoordinator::new(committer)) as Box<dyn OperatorCoordinator>)
        });
        make
    })
}

/// Hands batches to a writer.
pub(crate) struct SinkStage<W> {
    pub(crate) writer: W,
    pub(crate) operator: OperatorId,
    pub(crate) name: String,
    pub(crate) subtask: u32,
    /// `None` for a sink without a committer.
    pub(crate) to_committer: Option<EventSender>,
    /// `None` if the job takes no checkpoints: then the end of the input is the only one.
    pub(crate) checkpoints: Option<Arc<TaskCheckpoints>>,
    /// The writer's last answer.
    pub(crate) flow: Flow,
}

impl<W> SinkStage<W> {
    fn explain(&self, error: crate::Error) -> crate::Error {
        error.context(format!("sink {:?} failed", self.name))
    }
}

impl<W> SinkStage<W> {
    /// Lets the writer complete what it has written, for this checkpoint.
    fn pre_commit<T>(&mut self, id: CheckpointId) -> Result<()>
    where
        W: SinkWriter<T>,
        W::Committable: Serialize,
    {
        let committables = self.writer.pre_commit(id).map_err(|error| self.explain(error))?;
        self.send((id, committables))
    }

    /// Keeps committables for the checkpoints that carry them. A job that takes none sends them to
    /// the committer, which keeps them until the end.
    fn send<C: Serialize>(&self, committables: PreCommitted<C>) -> Result<()> {
        let Some(send) = &self.to_committer else {
            let count = committables.1.len();
            if count == 0 {
                return Ok(());
            }
            return Err(self.explain(anyhow::anyhow!(
                "its writer gave {count} committables, but the sink has NoCommitter, so that \
                 nothing would commit them"
            )));
        };
        let Some(checkpoints) = &self.checkpoints else {
            send(self.operator, self.subtask, self.encoded(&committables)?);
            return Ok(());
        };
        checkpoints.keep(Kept {
            operator: self.operator,
            checkpoint: committables.0,
            count: u32::try_from(committables.1.len())?,
            bytes: self.encoded(&committables)?,
        });
        Ok(())
    }

    fn encoded<M: Serialize>(&self, committables: &M) -> Result<Vec<u8>> {
        let payload = encode(committables)?;
        if payload.len() > COMMITTABLES_BYTES_MAX {
            return Err(self.explain(too_long(payload.len())));
        }
        Ok(payload)
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
        self.flow = self.writer.write(batch).map_err(|error| self.explain(error))?;
        Ok(self.flow)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        match (event, &self.checkpoints) {
            (Event::Barrier(barrier), Some(_)) => self.pre_commit(barrier.checkpoint)?,
            (Event::EndOfInput, Some(checkpoints)) => {
                let id = checkpoints.id_at_end();
                self.pre_commit(id)?;
            }
            // The end of the input is the one checkpoint of a job that takes none.
            (Event::EndOfInput, None) => self.pre_commit(CheckpointId::FIRST)?,
            (Event::Barrier(_) | Event::Watermark(_) | Event::Idle(_), _) => {}
        }
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.flow == Flow::Full {
            self.flow = self.writer.resume().map_err(|error| self.explain(error))?;
        }
        Ok(self.flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.flow = self.writer.on_time(moment.now).map_err(|error| self.explain(error))?;
        Ok(self.flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.writer.next_time()
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Sink
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Names one result of so many bytes.
    struct Naming(usize);

    impl SinkWriter<u8> for Naming {
        type Committable = String;

        fn write(&mut self, _: Batch<u8>) -> Result<Flow> {
            Ok(Flow::Ready)
        }

        fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<String>> {
            Ok(vec!["x".repeat(self.0)])
        }
    }

    #[test]
    fn results_that_no_message_can_hold_fail_the_task_with_a_sentence() {
        let end = |bytes: usize| {
            let operator = OperatorId::from_u128(1);
            let to_committer: EventSender = Arc::new(|_, _, _| {});
            let (name, to_committer) = ("files".to_owned(), Some(to_committer));
            let writer = Naming(bytes);
            let flow = Flow::Ready;
            SinkStage { writer, operator, name, subtask: 0, to_committer, checkpoints: None, flow }
                .event(Event::EndOfInput)
        };
        assert!(end(1_000).is_ok());
        let error = format!("{:#}", end(COMMITTABLES_BYTES_MAX).unwrap_err());
        assert!(error.contains("\"files\"") && error.contains("fewer and larger"), "{error}");
    }
}
