//! The contract of a sink: writers in the tasks, a committer in the coordinator host.
//!
//! A writer makes what it wrote durable in `pre_commit`, without publishing it, and names it by
//! committables. They are kept until a checkpoint that carries them is complete; then the committer
//! publishes them. A job that takes no checkpoints publishes once, when its input has ended.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

use millstream_network::{Batch, Flow};
use millstream_types::{AttemptId, CheckpointId, JobId, OperatorId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::plan::PlanContext;

/// The surroundings of a writer.
#[derive(Debug, Clone)]
pub struct WriterInfo {
    /// The job; with the operator, the subtask and the attempt it names what the writer leaves
    /// behind.
    pub job: JobId,
    /// The sink's operator.
    pub operator: OperatorId,
    /// The subtask's number, from 0.
    pub subtask: u32,
    /// The number of subtasks.
    pub parallelism: u32,
    /// The attempt that the writer belongs to. Whatever it leaves behind must show it.
    pub attempt: AttemptId,
    /// Wakes the task after [`Flow::Full`].
    pub waker: Waker,
}

/// The surroundings of a committer.
#[derive(Debug, Clone)]
pub struct CommitterInfo {
    /// The job.
    pub job: JobId,
    /// The sink's operator.
    pub operator: OperatorId,
}

/// A sink for records.
///
/// ```
/// # use millstream::{connectors::*, testing, Result};
/// # use std::collections::BTreeMap;
/// # use std::sync::{Arc, Mutex};
/// /// Sums what each subtask gets; the committer publishes the sums once they count.
/// #[derive(Clone, Default)]
/// struct Sums(Arc<Mutex<BTreeMap<String, u64>>>);
///
/// impl Sink<u64> for Sums {
///     type Committable = (String, u64);
///     type Writer = Summer;
///     type Committer = Publisher;
///
///     fn writer(&self, info: &WriterInfo) -> Result<Summer> {
///         Ok(Summer { name: format!("{}-{}", info.attempt, info.subtask), sum: 0 })
///     }
///
///     fn committer(&self, _info: &CommitterInfo) -> Result<Publisher> {
///         Ok(Publisher { place: self.clone() })
///     }
/// }
///
/// struct Summer {
///     name: String,
///     sum: u64,
/// }
///
/// impl SinkWriter<u64> for Summer {
///     type Committable = (String, u64);
///
///     fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
///         self.sum += batch.records().iter().sum::<u64>();
///         Ok(Flow::Ready)
///     }
///
///     fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<(String, u64)>> {
///         Ok(vec![(format!("{}-{id}", self.name), std::mem::take(&mut self.sum))])
///     }
/// }
///
/// struct Publisher {
///     place: Sums,
/// }
///
/// impl Committer for Publisher {
///     type Committable = (String, u64);
///
///     fn recover(
///         &mut self,
///         pending: Vec<(CheckpointId, Vec<(String, u64)>)>,
///         _ended: &[AttemptId], // which leave nothing outside of their tasks
///     ) -> Result<()> {
///         pending.into_iter().try_for_each(|(id, sums)| self.commit(id, sums))
///     }
///
///     fn commit(&mut self, _id: CheckpointId, sums: Vec<(String, u64)>) -> Result<()> {
///         self.place.0.lock().unwrap().extend(sums); // a second time changes nothing
///         Ok(())
///     }
///
///     fn abort(&mut self, ended: &[AttemptId]) -> Result<()> {
///         let is_of = |name: &str, attempt: &AttemptId| name.starts_with(&format!("{attempt}-"));
///         let mut sums = self.place.0.lock().unwrap();
///         sums.retain(|name, _| !ended.iter().any(|attempt| is_of(name, attempt)));
///         Ok(())
///     }
/// }
///
/// let sums = Sums::default();
/// let mut env = testing::environment();
/// env.source("numbers", Datagen::sequence(0..100)).sink("sums", sums.clone());
/// env.execute("sums")?;
/// assert_eq!(sums.0.lock().unwrap().values().sum::<u64>(), 4_950);
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take records of type `{T}`",
    note = "map the stream's records to what the sink takes"
)]
pub trait Sink<T>: Send + Sync + 'static {
    /// Names something that a writer wrote, for the committer. It outlives the processes of the job
    /// and must name the same thing in any later one.
    type Committable: Serialize + DeserializeOwned + Send + 'static;
    /// Writes records.
    type Writer: SinkWriter<T, Committable = Self::Committable>;
    /// Publishes what was written; [`NoCommitter`] if writing is all.
    type Committer: Committer<Committable = Self::Committable>;

    /// Checks and completes the sink when it is added to a job. Every fault that can be known is
    /// refused here, before anything runs. Called in every process of the job, so the result must
    /// be the same everywhere.
    ///
    /// # Errors
    /// The sink cannot be used like this; the job is refused.
    fn plan(&mut self, ctx: &mut PlanContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Makes a writer for one subtask. Runs in the task host.
    ///
    /// # Errors
    /// The writer cannot be made.
    fn writer(&self, info: &WriterInfo) -> Result<Self::Writer>;

    /// Makes the committer. Runs in the coordinator host, before any writer. In a job without
    /// checkpoints the input of a sink with a committer must end: one in which a source above it
    /// never ends is refused. A sink without one ([`NoCommitter`]) leaves this method out.
    ///
    /// # Errors
    /// The committer cannot be made.
    fn committer(&self, info: &CommitterInfo) -> Result<Self::Committer> {
        let _ = info;
        Err(anyhow::anyhow!(
            "the sink {} names {} as its committer and makes none: implement Sink::committer(), or \
             name NoCommitter",
            std::any::type_name::<Self>(),
            std::any::type_name::<Self::Committer>()
        ))
    }
}

/// The calls of a writer that may block: by waiting for a disk, a network or another process.
///
/// They run on a thread beside the slot of the writer's task, one at a time, while the other tasks
/// of that slot go on. The task itself waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// No call blocks.
    Nothing,
    /// [`SinkWriter::pre_commit`] alone may block.
    PreCommit,
    /// Every call may block. Each costs a change of threads, which takes some microseconds.
    Everything,
}

/// Writes records, on its task's thread or beside it ([`SinkWriter::blocks`]).
///
/// See [`Sink`] for an example.
pub trait SinkWriter<T>: Send {
    /// Names what it wrote.
    type Committable;

    /// The calls that may block. Asked once, when the writer has been made.
    fn blocks(&self) -> Blocks {
        Blocks::PreCommit
    }

    /// Writes a batch. [`Flow::Full`] says that the batch was taken and that no more can be: the
    /// task is suspended until the writer wakes it, and then only
    /// [`SinkWriter::resume`] is called, until that answers [`Flow::Ready`].
    ///
    /// # Errors
    /// The batch cannot be written.
    fn write(&mut self, batch: Batch<T>) -> Result<Flow>;

    /// Goes on after [`Flow::Full`].
    ///
    /// # Errors
    /// What was taken before cannot be written.
    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    /// Gives back what the writer has taken and not begun to write, while it is full: an unaligned
    /// checkpoint stores these records, and they come again by [`SinkWriter::write`]. After that
    /// the writer is ready. The default is `None`: then the checkpoint waits until the writer is
    /// ready by itself. Not called of a writer all of whose calls may block.
    ///
    /// # Errors
    /// The records that it has taken are lost.
    fn hand_back(&mut self) -> Result<Option<Batch<T>>> {
        Ok(None)
    }

    /// Does what is due at a time, and may answer [`Flow::Full`] as [`SinkWriter::write`] does.
    /// Called after each step of the task while the writer is ready, and at
    /// [`SinkWriter::next_time`]; at that time alone if every call may block.
    ///
    /// # Errors
    /// What is due cannot be done.
    fn on_time(&mut self, now: Instant) -> Result<Flow> {
        let _ = now;
        Ok(Flow::Ready)
    }

    /// When something will be due, as far as the last call could know.
    fn next_time(&self) -> Option<Instant> {
        None
    }

    /// Makes everything durable that was written since the last call, without publishing it, and
    /// names it. Called at each checkpoint and at the end of the input, after the last record that
    /// belongs to it; never while the writer is full. It may block unless [`SinkWriter::blocks`]
    /// says that it does not. The runtime keeps the committables until a checkpoint that carries
    /// them is complete; whether this checkpoint will be is not known.
    ///
    /// # Errors
    /// What was written cannot be made durable.
    fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<Self::Committable>>;
}

/// Publishes what the writers of a job wrote.
///
/// Every call may come again, in this process or in another one after a crash, with the same
/// committables or with more: a committer decides by looking at the target what is left to do. It
/// touches nothing of attempts that it is not told of, as their writers may be running. It has a
/// thread of its own in the coordinator host, so that its calls may block.
///
/// See [`Sink`] for an example.
pub trait Committer: Send {
    /// Names what a writer wrote.
    type Committable;

    /// Whether there is one: `false` for [`NoCommitter`] alone.
    #[doc(hidden)]
    const EXISTS: bool = true;

    /// Publishes `pending`, the committables of complete checkpoints whose commit is not confirmed,
    /// and then discards whatever else the `ended` attempts left unpublished. What they have
    /// published stays. Called once before anything else, and again when some of the job's tasks
    /// are restarted from a checkpoint while others run.
    ///
    /// # Errors
    /// Something cannot be published; the error names it.
    fn recover(
        &mut self,
        pending: Vec<(CheckpointId, Vec<Self::Committable>)>,
        ended: &[AttemptId],
    ) -> Result<()>;

    /// Publishes the committables of a complete checkpoint. Those that are published already are
    /// left as they are.
    ///
    /// # Errors
    /// Something cannot be published, or was published and is gone; the error names it.
    fn commit(&mut self, id: CheckpointId, committables: Vec<Self::Committable>) -> Result<()>;

    /// Discards everything that the `ended` attempts wrote, also what a commit that was not
    /// confirmed has published: no checkpoint of them was complete, so the job begins anew or
    /// fails.
    ///
    /// # Errors
    /// Something was left behind; the error names it.
    fn abort(&mut self, ended: &[AttemptId]) -> Result<()>;

    /// Removes what the committer needs for itself. Called once after the last commit.
    ///
    /// # Errors
    /// Something was left behind; the error names it.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The committer of a sink that has none.
///
/// ```
/// # use millstream::{connectors::*, testing, Result};
/// # use std::sync::mpsc;
/// /// Sends records into a channel of the program.
/// struct Channel(mpsc::Sender<u64>);
///
/// impl Sink<u64> for Channel {
///     type Committable = ();
///     type Writer = ChannelWriter;
///     type Committer = NoCommitter<()>;
///
///     fn writer(&self, _info: &WriterInfo) -> Result<ChannelWriter> {
///         Ok(ChannelWriter(self.0.clone()))
///     }
/// }
///
/// struct ChannelWriter(mpsc::Sender<u64>);
///
/// impl SinkWriter<u64> for ChannelWriter {
///     type Committable = ();
///
///     fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
///         batch.into_records().into_iter().try_for_each(|record| self.0.send(record))?;
///         Ok(Flow::Ready)
///     }
///
///     fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
///         Ok(Vec::new())
///     }
/// }
///
/// let (sender, receiver) = mpsc::channel();
/// let mut env = testing::environment();
/// env.source("numbers", Datagen::sequence(0..3)).sink("channel", Channel(sender));
/// env.execute("channel")?;
/// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug)]
pub struct NoCommitter<C> {
    never: std::convert::Infallible,
    committable: std::marker::PhantomData<fn() -> C>,
}

impl<C> Committer for NoCommitter<C> {
    type Committable = C;

    const EXISTS: bool = false;

    fn recover(&mut self, _: Vec<(CheckpointId, Vec<C>)>, _: &[AttemptId]) -> Result<()> {
        match self.never {}
    }

    fn commit(&mut self, _id: CheckpointId, _committables: Vec<C>) -> Result<()> {
        match self.never {}
    }

    fn abort(&mut self, _ended: &[AttemptId]) -> Result<()> {
        match self.never {}
    }
}

/// The most committables that wait for their commit.
pub const COMMITTABLES_MAX: usize = 1_000_000;

/// The most bytes in which a task names results: they travel in one message.
pub const COMMITTABLES_BYTES_MAX: usize = 48 << 20;

/// Checks that results are named in so few bytes that a message holds them.
///
/// # Errors
/// They are too many.
pub fn check_names(bytes: usize) -> Result<()> {
    anyhow::ensure!(
        bytes <= COMMITTABLES_BYTES_MAX,
        "its writer named its results in {bytes} bytes, and {COMMITTABLES_BYTES_MAX} are the most: \
         let it write fewer and larger ones"
    );
    Ok(())
}

/// Committables that are not published yet, by the checkpoint for which they were pre-committed.
///
/// A task keeps all that its writers gave until it learns that a checkpoint that carries them is
/// complete: each checkpoint carries all that the task keeps, because an earlier one may have
/// failed. A committer's side keeps those of complete checkpoints until their commit is confirmed.
#[derive(Debug)]
pub struct Uncommitted<C> {
    by_checkpoint: BTreeMap<CheckpointId, Vec<C>>,
    count: usize,
}

impl<C> Default for Uncommitted<C> {
    fn default() -> Self {
        Self { by_checkpoint: BTreeMap::new(), count: 0 }
    }
}

impl<C> Uncommitted<C> {
    /// Adds committables that were pre-committed for a checkpoint.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&mut self, id: CheckpointId, committables: Vec<C>) -> Result<()> {
        self.count += committables.len();
        if self.count > COMMITTABLES_MAX {
            return Err(anyhow::anyhow!(
                "its writers named {} results to publish, and {COMMITTABLES_MAX} are the most: let \
                 them write fewer and larger ones",
                self.count
            ));
        }
        if !committables.is_empty() {
            self.by_checkpoint.entry(id).or_default().extend(committables);
        }
        Ok(())
    }

    /// The committables, by checkpoint in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (CheckpointId, &[C])> {
        self.by_checkpoint.iter().map(|(id, committables)| (*id, committables.as_slice()))
    }

    /// Takes out those that were pre-committed for this checkpoint or an earlier one.
    pub fn take_through(&mut self, id: CheckpointId) -> Vec<(CheckpointId, Vec<C>)> {
        let later = self.by_checkpoint.split_off(&id.next());
        let taken = std::mem::replace(&mut self.by_checkpoint, later);
        self.count = self.by_checkpoint.values().map(Vec::len).sum();
        taken.into_iter().collect()
    }

    /// Takes all of them.
    #[must_use]
    pub fn take_all(&mut self) -> Vec<(CheckpointId, Vec<C>)> {
        std::mem::take(self).by_checkpoint.into_iter().collect()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
