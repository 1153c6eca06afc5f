//! The last stage of a chain that ends in a sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use millstream_connector::{
    Answer, Committer, EventSender, OperatorCoordinator, PlacedWriter, PreCommitted, Sink,
    SinkCoordinator, SinkWriter, WriterInfo, check_names, encode,
};
use millstream_network::{
    Batch, Data, Event, FlightChannel, Flow, InFlight, InFlightItems, bytes_of, read_in_flight,
};
use millstream_task_checkpoint::{PreCommitted as Kept, TaskCheckpoints};
use millstream_types::{AttemptId, BarrierKind, CheckpointId, OperatorId};
use serde::Serialize;

use crate::Result;
use crate::program::{CoordinatorMaker, StageMaker};
use crate::stage::{Moment, Stage, erase};
use crate::task::OperatorContext;

/// The operator that writes into a sink.
pub fn sink<I: Data, S: Sink<I>>(sink: &Arc<S>) -> StageMaker {
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
        let unwritten = restored::<I>(ctx)?;
        Ok(erase::<I>(Box::new(SinkStage {
            unwritten,
            parallelism: ctx.task.parallelism,
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

/// The name of records that a writer has not written, in checkpoints with records in flight.
const UNWRITTEN: &str = "not written";

/// The records that the writer of a subtask has not written in the checkpoint that is restored.
fn restored<I: Data>(ctx: &OperatorContext<'_>) -> Result<VecDeque<Batch<I>>> {
    let mut unwritten = VecDeque::new();
    let Some(checkpoints) = &ctx.task.checkpoints else { return Ok(unwritten) };
    let restored = checkpoints.take_in_flight(ctx.operator, UNWRITTEN);
    let parallelism = ctx.task.parallelism.max(1);
    for (channel, found) in read_in_flight::<I>(&restored.items, (1, parallelism))?.items {
        let is_mine = channel.to % parallelism == ctx.task.subtask;
        if let (InFlight::Batch(batch), true) = (found, is_mine) {
            unwritten.push_back(batch);
            checkpoints.resume_first();
        }
    }
    Ok(unwritten)
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
    /// Records that the writer has given back, those that came behind them, or restored ones.
    pub(crate) unwritten: VecDeque<Batch<T>>,
    /// The number of subtasks.
    pub(crate) parallelism: u32,
}

impl<T: Data, W: SinkWriter<T>> SinkStage<T, W> {
    /// Whether records may be kept for a barrier that is to overtake them.
    fn keeps(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.overdraft().is_open())
    }

    /// Adds the records that are not written to the checkpoint whose unaligned barrier passes.
    fn store_unwritten(&self, checkpoints: &TaskCheckpoints) -> Result<()> {
        let mut items = InFlightItems::of::<T>(1, self.parallelism);
        for batch in &self.unwritten {
            items.add_batch(FlightChannel { from: 0, to: self.subtask }, batch)?;
        }
        checkpoints.add_in_flight(self.operator, UNWRITTEN, items.into_items());
        Ok(())
    }
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
    T: Data,
    W: SinkWriter<T> + 'static,
    W::Committable: Serialize + Send + 'static,
{
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        if !self.unwritten.is_empty() {
            // What comes before is not written yet.
            if let Some(checkpoints) = &self.checkpoints {
                checkpoints.overdraft().charge(bytes_of(&batch));
            }
            self.unwritten.push_back(batch);
            return Ok(if self.keeps() { Flow::Ready } else { Flow::Full });
        }
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
        if let (Event::Barrier(barrier), Some(checkpoints)) = (event, &self.checkpoints)
            && barrier.kind == BarrierKind::Unaligned
        {
            self.store_unwritten(checkpoints)?;
        }
        let answer = self.writer.pre_commit(id);
        self.take(answer)
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.flow == Flow::Full {
            if self.keeps()
                && let Some(batch) = self.writer.hand_back()?
            {
                self.unwritten.push_front(batch);
                self.flow = Flow::Ready;
                return Ok(Flow::Ready);
            }
            let answer = self.writer.resume();
            self.take(answer)?;
        }
        // A barrier that is to overtake them comes first.
        while self.flow == Flow::Ready
            && !self.keeps()
            && let Some(batch) = self.unwritten.pop_front()
        {
            let answer = self.writer.write(batch);
            self.take(answer)?;
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
            let (flow, unwritten) = (Flow::Ready, VecDeque::new());
            let (checkpoints, subtask, parallelism) = (None, 0, 1);
            SinkStage {
                writer,
                operator,
                name,
                subtask,
                to_committer,
                checkpoints,
                flow,
                unwritten,
                parallelism,
            }
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
            unwritten: VecDeque::new(),
            parallelism: 1,
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
