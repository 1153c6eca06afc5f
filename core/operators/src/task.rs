//! The surroundings of an operator in its task, and the task's body for the runtime.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_connector::{Beside, EventMailbox, EventSender, Result, UserMetrics};
use millstream_network::{
    Data, Event, Exchange, Flow, Gate, Generation, Inbox, InputChannels, TaskCounters,
};
use millstream_state::SliceBudget;
use millstream_task_checkpoint::TaskCheckpoints;
use millstream_types::{Clock, JobId, KeyGroup, MaxParallelism, OperatorId};

use crate::in_flight::{InputStream, to_task};
use crate::stage::Moment;

/// Context that a task's operators share.
#[derive(Clone)]
pub struct TaskContext {
    /// The job.
    pub job: JobId,
    /// The task's name with its number, as `Map (2/4)`.
    pub name: String,
    /// The subtask's number, from 0.
    pub subtask: u32,
    /// The number of subtasks.
    pub parallelism: u32,
    /// The number of key groups.
    pub max_parallelism: MaxParallelism,
    /// Number of attempts before this one.
    pub attempt: u32,
    /// The attempt of the task's region, as its channels say it.
    pub generation: Generation,
    /// The task's counters.
    pub counters: Arc<TaskCounters>,
    /// Wakes the task.
    pub waker: Waker,
    /// The task's clock.
    pub clock: Clock,
    /// The metrics of user code and sources.
    pub metrics: Arc<UserMetrics>,
    /// The longest time that a record waits in an output buffer; `None`: until the buffer is full.
    pub buffer_timeout: Option<Duration>,
    /// The most bytes of records that wait in the buffers of one of its outputs, about.
    pub output_bytes: usize,
    /// The time between two watermarks of a stream.
    pub watermark_interval: Duration,
    /// Whether only final results are emitted.
    pub batch: bool,
    /// The task's part in checkpoints, if the job takes any.
    pub checkpoints: Option<Arc<TaskCheckpoints>>,
    /// Whether the task had finished in the checkpoint that is restored: it only hands on the end.
    pub has_finished: bool,
    /// The calls beside the slot; `None` in a job that a test steps, where none is.
    pub beside: Option<Arc<Beside>>,
}

/// Context for building one operator of a task.
pub struct OperatorContext<'a> {
    /// The task.
    pub task: &'a TaskContext,
    /// The operator.
    pub operator: OperatorId,
    /// The operator's name.
    pub name: &'a str,
    /// To its coordinator.
    pub to_coordinator: &'a EventSender,
    /// From its coordinator.
    pub from_coordinator: &'a Arc<EventMailbox>,
}

/// Context for building a task's inputs.
pub struct InputContext<'a> {
    /// The process's channels.
    pub exchange: &'a Exchange,
    /// The channels of each input, by exchange.
    pub inputs: Vec<Vec<InputChannels>>,
    /// The task's first operator.
    pub operator: OperatorId,
    /// Those exchanges as checkpoints with records in flight have them; none if the records of some
    /// of them cannot be overtaken.
    pub overtaken: Option<Vec<Vec<InputStream>>>,
}

/// The most bytes of records that wait in the buffers of one output of a task, about: each of its
/// channels has an equal share.
pub const OUTPUT_BYTES: usize = 1 << 20;

/// The most batches that wait at one channel.
const CHANNEL_CREDITS: u32 = 8;
/// An input of many channels has this many credits, or two for each channel.
const INPUT_CREDITS: u32 = 256;

/// The number of batches that may wait at each of so many channels of one input. What the channels
/// of an output share becomes smaller as they become more, so an input holds about as much as its
/// producers' outputs, whatever the parallelism is.
fn credits(channels: u32) -> u32 {
    (INPUT_CREDITS / channels.max(1)).clamp(2, CHANNEL_CREDITS)
}

/// The end of one input, its channels attached to their producers, behind the records that were in
/// flight to it in the checkpoint that is restored.
pub(crate) fn gate<T: Data>(
    task: &TaskContext,
    inputs: &mut InputContext<'_>,
    input: usize,
) -> Result<Gate<T>> {
    let channels = inputs.inputs.get(input).cloned().unwrap_or_default();
    let counters = Arc::clone(&task.counters);
    let producers: Vec<u32> = channels.iter().map(InputChannels::count).collect();
    let count = producers.iter().sum();
    let inbox = Inbox::new(channels, credits(count), task.waker.clone(), counters);
    inputs.exchange.attach(&inbox);
    let mut gate = Gate::new(inbox);
    let streams = inputs.overtaken.as_mut().and_then(|streams| streams.get_mut(input));
    if let (Some(checkpoints), Some(streams)) = (&task.checkpoints, streams) {
        for (number, stream) in streams.iter_mut().enumerate() {
            let restored = checkpoints.take_in_flight(inputs.operator, &stream.name);
            if !restored.items.is_empty() {
                let producers = producers.get(number).copied().unwrap_or_default();
                let own = (task.subtask, task.parallelism);
                gate.restore(number, to_task::<T>(&restored, own, producers, stream)?);
            }
        }
    }
    Ok(gate)
}

/// The key groups of a task.
pub(crate) fn groups(task: &TaskContext) -> std::ops::Range<u16> {
    KeyGroup::range_of(task.subtask, task.max_parallelism, task.parallelism)
}

/// The outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Some work was done; there may be more.
    Progress,
    /// No input now; the waker will be called, or look again at the given time.
    Idle(Option<Instant>),
    /// The output takes no more, or other tasks have their turns; the waker will be called, or was.
    Full,
    /// All input was processed and everything was sent.
    Finished,
    /// A barrier that stops the job has left: there is nothing more to do until the task is ended.
    Stopped,
}

/// One task: a synchronous state machine that a slot's thread steps.
pub trait TaskBody: Send {
    /// Opens the operators.
    ///
    /// # Errors
    /// An operator cannot start; the task fails.
    fn open(&mut self) -> Result<()>;

    /// Does a bounded piece of work: about one batch.
    ///
    /// # Errors
    /// A function failed, or input or output broke; the task fails.
    fn step(&mut self) -> Result<Step>;

    /// Does the work that is due: fires timers, sends records that have waited long enough, or that
    /// nothing is gained by keeping. Called only while nothing is full; after [`Flow::Full`] the
    /// task is suspended as after [`Step::Full`].
    ///
    /// # Errors
    /// A function failed at a timer, or the records cannot be sent.
    fn on_time(&mut self, moment: Moment) -> Result<Flow>;

    /// The time when work will be due, as far as the last `on_time` could know.
    fn next_time(&self) -> Option<Instant>;

    /// Number of batches that wait at the inputs.
    fn inputs_waiting(&self) -> usize;

    /// Whether a barrier that stops the job has left the task.
    fn has_stopped(&self) -> bool {
        false
    }

    /// Whether a snapshot of the task is not whole, so that slices of it may be left.
    fn has_slices(&self) -> bool {
        false
    }

    /// Writes a slice of the task's snapshot, if one is being written; whether more of it is left.
    /// Called between two steps, also while the task's output is full.
    fn slice(&mut self, budget: SliceBudget) -> bool {
        let _ = budget;
        false
    }

    /// Names the kind of body, so that the tests have a case for each.
    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind;
}

/// Before a barrier is handed on: what is left of the snapshot of the one before it is written at
/// once.
pub(crate) fn finish_snapshot(body: &mut impl TaskBody, next: Event) {
    if matches!(next, Event::Barrier(_)) {
        body.slice(SliceBudget::unlimited());
    }
}

/// One turn of a task: a step, and then the work that is due if its output takes more. Returns the
/// outcome of the step, and the time when the task must have its next turn if nothing wakes it
/// before. At the end of the task what is left of its snapshot is written at once.
///
/// # Errors
/// The step or the work failed; the task fails.
pub fn turn(
    body: &mut dyn TaskBody,
    clock: impl FnOnce() -> Instant,
) -> Result<(Step, Option<Instant>)> {
    let done = step_and_work(body, clock)?;
    if matches!(done.0, Step::Finished | Step::Stopped) {
        body.slice(SliceBudget::unlimited());
    }
    Ok(done)
}

fn step_and_work(
    body: &mut dyn TaskBody,
    clock: impl FnOnce() -> Instant,
) -> Result<(Step, Option<Instant>)> {
    let step = body.step()?;
    match step {
        _ if body.has_stopped() => Ok((Step::Stopped, None)),
        Step::Full | Step::Finished | Step::Stopped => Ok((step, None)),
        Step::Progress | Step::Idle(_) => {
            let (idle, due) = match step {
                Step::Idle(until) => (true, until),
                Step::Progress | Step::Full | Step::Finished | Step::Stopped => (false, None),
            };
            match body.on_time(Moment { now: clock(), idle })? {
                Flow::Full => Ok((Step::Full, None)),
                Flow::Ready if body.has_stopped() => Ok((Step::Stopped, None)),
                Flow::Ready => Ok((step, due.into_iter().chain(body.next_time()).min())),
            }
        }
    }
}
