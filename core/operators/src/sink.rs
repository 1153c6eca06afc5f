//! The last stage of a chain that ends in a sink.

use std::sync::Arc;
use std::time::Instant;

use millstream_connector::{
    Answer, Committer, EventSender, OperatorCoordinator, PlacedWriter, PreCommitted, Sink,
    SinkCoordinator, SinkWriter, WriterInfo, check_names, encode,
};
use millstream_network::{Batch, Event, Flow};
use millstream_task_checkpoint::{PreCommitted as Kept, TaskCheckpoints};
use millstream_types::{AttemptId, CheckpointId, OperatorId};
use serde::Serialize;

use crate::Result;
use crate::program::{CoordinatorMaker, StageMaker};
use crate::stage::{Moment, Stage, erase};

/// The operator that writes into a sink.
pub fn sink<I: Send + 'static, S: Sink<I>>(sink: &Arc<S>) -> StageMaker {
    let sink = Arc::clone(sink);
    let coordinated = S::Committer::EXISTS;
    Arc::new(move |ctx, _outputs| {
        let (name, beside) = (ctx.name.to_owned(), ctx.task.beside.clone());
        let writer = PlacedWriter::new(name, &ctx.task.waker, beside, |waker| {
            sink.writer(&WriterInfo {
                job: ctx.task.job,
                operator: ctx.operator,
                subtask: ctx.task.subtask,
                parallelism: ctx.task.parallelism,
                attempt: AttemptId::new(ctx.task.attempt),
                waker,
            })
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

/// Hands batches to a writer. While a call of it runs beside the slot the stage is full.
pub(crate) struct SinkStage<T, W: SinkWriter<T>> {
    pub(crate) writer: PlacedWriter<T, W>,
    pub(crate) operator: OperatorId,
    pub(crate) name: String,
    pub(crate) subtask: u32,
    /// `None` for a sink without a committer.
    pub(crate) to_committer: Option<EventSender>,
    /// `None` if the job takes no checkpoints: then the end of the input is the only one.
    pub(crate) checkpoints: Option<Arc<TaskCheckpoints>>,
    /// The last answer.
    pub(crate) flow: Flow,
}

impl<T, W: SinkWriter<T>> SinkStage<T, W> {
    fn explain(&self, error: crate::Error) -> crate::Error {
        error.context(format!("sink {:?} failed", self.name))
    }

    /// Takes the writer's answer.
    fn take(&mut self, answer: Result<Answer<W::Committable>>) -> Result<Flow>
    where
        W::Committable: Serialize,
    {
        self.flow = match answer.map_err(|error| self.explain(error))? {
            Answer::Flow(flow) => flow,
            Answer::Later => Flow::Full,
            Answer::PreCommitted(id, committables) => {
                self.send((id, committables))?;
                Flow::Ready
            }
        };
        Ok(self.flow)
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
        let kept = checkpoints.keep(Kept {
            operator: self.operator,
            checkpoint: committables.0,
            count: u32::try_from(committables.1.len())?,
            bytes: self.encoded(&committables)?,
        });
        let long = "no checkpoint was complete for long: see why checkpoints fail";
        check_names(kept).map_err(|error| self.explain(error.context(long)))
    }

    fn encoded<M: Serialize>(&self, committables: &M) -> Result<Vec<u8>> {
        let payload = encode(committables)?;
        check_names(payload.len()).map_err(|error| self.explain(error))?;
        Ok(payload)
    }
}

impl<T, W> Stage<T> for SinkStage<T, W>
where
    T: Send + 'static,
    W: SinkWriter<T> + 'static,
    W::Committable: Serialize + Send + 'static,
{
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        let answer = self.writer.write(batch);
        self.take(answer)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        let id = match (event, &self.checkpoints) {
            (Event::Barrier(barrier), Some(_)) => barrier.checkpoint,
            (Event::EndOfInput, Some(checkpoints)) => checkpoints.id_at_end(),
            // The end of the input is the one checkpoint of a job that takes none.
            (Event::EndOfInput, None) => CheckpointId::FIRST,
            (Event::Barrier(_) | Event::Watermark(_) | Event::Idle(_), _) => {
                return Ok(Flow::Ready);
            }
        };
        let answer = self.writer.pre_commit(id);
        self.take(answer)
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.flow == Flow::Full {
            let answer = self.writer.resume();
            return self.take(answer);
        }
        Ok(self.flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let answer = self.writer.on_time(moment.now);
        self.take(answer)
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
    use std::task::Waker;

    use millstream_connector::COMMITTABLES_BYTES_MAX;
    use millstream_types::{Barrier, BarrierKind, Clock};

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
            let naming = |_| Ok(Naming(bytes));
            let writer = PlacedWriter::new(name.clone(), Waker::noop(), None, naming).unwrap();
            let flow = Flow::Ready;
            SinkStage { writer, operator, name, subtask: 0, to_committer, checkpoints: None, flow }
                .event(Event::EndOfInput)
        };
        assert!(end(1_000).is_ok());
        let error = format!("{:#}", end(COMMITTABLES_BYTES_MAX).unwrap_err());
        assert!(error.contains("\"files\"") && error.contains("fewer and larger"), "{error}");
    }

    #[test]
    fn results_of_checkpoints_that_fail_have_the_same_limit() {
        let checkpoints = TaskCheckpoints::new(None, Arc::new(|_| {}), Clock::system());
        let checkpoints = Arc::new(checkpoints);
        let name = "files".to_owned();
        let naming = |_| Ok(Naming(20 << 20));
        let mut stage = SinkStage {
            writer: PlacedWriter::new(name.clone(), Waker::noop(), None, naming).unwrap(),
            operator: OperatorId::from_u128(1),
            name,
            subtask: 0,
            to_committer: Some(Arc::new(|_, _, _| {})),
            checkpoints: Some(Arc::clone(&checkpoints)),
            flow: Flow::Ready,
        };
        let mut barrier = |id| {
            stage
                .event(Event::Barrier(Barrier::new(CheckpointId::new(id), BarrierKind::Checkpoint)))
        };
        for id in 1..=3 {
            assert_eq!(barrier(id).unwrap(), Flow::Ready);
            if id == 1 {
                checkpoints.on_committed(CheckpointId::new(1));
            }
        }
        let error = format!("{:#}", barrier(4).unwrap_err());
        assert!(error.contains("\"files\"") && error.contains("why checkpoints fail"), "{error}");
    }
}
