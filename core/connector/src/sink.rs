//! The contract of a sink: writers in the tasks, a committer in the coordinator host.

use millstream_network::Batch;
use millstream_types::{JobId, OperatorId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Instant;

use crate::Result;
use crate::plan::PlanContext;

/// The surroundings of a writer.
#[derive(Debug, Clone)]
pub struct WriterInfo {
    /// The job; with the operator and attempt it names what the writer leaves behind.
    pub job: JobId,
    /// The sink's operator.
    pub operator: OperatorId,
    /// The subtask's number, from 0.
    pub subtask: u32,
    /// The number of subtasks.
    pub parallelism: u32,
    /// Number of restarts of the job so far.
    pub attempt: u32,
}

/// The surroundings of a committer.
#[derive(Debug, Clone)]
pub struct CommitterInfo {
    /// The job.
    pub job: JobId,
    /// The sink's operator.
    pub operator: OperatorId,
    /// Number of restarts of the job so far. Results of earlier attempts are to be discarded.
    pub attempt: u32,
}

/// A sink for records.
///
/// ```
/// # use millstream::{connectors::*, testing, Result};
/// # use std::sync::{Arc, Mutex};
/// /// Sums what each subtask gets; the committer publishes the total once the job has finished.
/// #[derive(Clone, Default)]
/// struct Total(Arc<Mutex<Option<u64>>>);
///
/// impl Sink<u64> for Total {
///     type Committable = u64;
///     type Writer = Summer;
///     type Committer = Publisher;
///
///     fn writer(&self, _info: &WriterInfo) -> Result<Summer> {
///         Ok(Summer { sum: 0 })
///     }
///
///     fn committer(&self, _info: &CommitterInfo) -> Result<Option<Publisher>> {
///         Ok(Some(Publisher { place: self.clone() }))
///     }
///
///     fn has_committer(&self) -> bool {
///         true
///     }
/// }
///
/// struct Summer {
///     sum: u64,
/// }
///
/// impl SinkWriter<u64> for Summer {
///     type Committable = u64;
///
///     fn write(&mut self, batch: Batch<u64>) -> Result<()> {
///         self.sum += batch.records().iter().sum::<u64>();
///         Ok(())
///     }
///
///     fn finish(&mut self) -> Result<Vec<u64>> {
///         Ok(vec![self.sum])
///     }
/// }
///
/// struct Publisher {
///     place: Total,
/// }
///
/// impl Committer for Publisher {
///     type Committable = u64;
///
///     fn open(&mut self) -> Result<()> {
///         self.abort() // whatever an earlier attempt left
///     }
///
///     fn commit(&mut self, sums: Vec<u64>) -> Result<()> {
///         *self.place.0.lock().unwrap() = Some(sums.into_iter().sum());
///         Ok(())
///     }
///
///     fn abort(&mut self) -> Result<()> {
///         *self.place.0.lock().unwrap() = None;
///         Ok(())
///     }
/// }
///
/// let total = Total::default();
/// let mut env = testing::environment();
/// env.source("numbers", Datagen::sequence(0..100)).sink("total", total.clone());
/// env.execute("total")?;
/// assert_eq!(*total.0.lock().unwrap(), Some(4_950));
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take records of type `{T}`",
    note = "map the stream's records to what the sink takes"
)]
pub trait Sink<T>: Send + Sync + 'static {
    /// Names results of a writer for the committer.
    type Committable: Serialize + DeserializeOwned + Send + 'static;
    /// Writes records.
    type Writer: SinkWriter<T, Committable = Self::Committable>;
    /// Publishes what was written.
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

    /// A writer for one subtask. Runs in the task host.
    ///
    /// # Errors
    /// The task fails.
    fn writer(&self, info: &WriterInfo) -> Result<Self::Writer>;

    /// The committer, or `None` if writing is all. Runs in the coordinator host, before any
    /// writer.
    ///
    /// # Errors
    /// The job fails.
    fn committer(&self, info: &CommitterInfo) -> Result<Option<Self::Committer>>;

    /// Whether [`Sink::committer`] gives one; known when the job is planned. Then the sink's input
    /// must end: a job in which a source above it never ends is refused.
    fn has_committer(&self) -> bool;
}

/// Writes records on its task's thread.
///
/// See [`Sink`] for an example.
pub trait SinkWriter<T>: Send {
    /// Names what it wrote.
    type Committable;

    /// Writes a batch.
    ///
    /// # Errors
    /// The task fails.
    fn write(&mut self, batch: Batch<T>) -> Result<()>;

    /// Looks at the clock; the answer is when to look again.
    ///
    /// # Errors
    /// The task fails.
    fn tick(&mut self, now: Instant) -> Result<Option<Instant>> {
        let _ = now;
        Ok(None)
    }

    /// All records were written: makes them durable and names them.
    ///
    /// # Errors
    /// The task fails.
    fn finish(&mut self) -> Result<Vec<Self::Committable>>;
}

/// Publishes what a job's writers wrote. Every call may be repeated by a later attempt. It has a
/// thread of its own in the coordinator host, so that its calls may block.
///
/// See [`Sink`] for an example.
pub trait Committer: Send {
    /// Names what a writer wrote.
    type Committable;

    /// Before any writer starts: discards what earlier attempts of the job left.
    ///
    /// # Errors
    /// The job fails.
    fn open(&mut self) -> Result<()>;

    /// All tasks have finished: publishes everything, or nothing with an error.
    ///
    /// # Errors
    /// The job fails.
    fn commit(&mut self, committables: Vec<Self::Committable>) -> Result<()>;

    /// The attempt is over without success: discards what it wrote.
    ///
    /// # Errors
    /// Something was left behind; the error says what.
    fn abort(&mut self) -> Result<()>;
}

/// The committer of a sink that has none.
///
/// ```
/// # use millstream::{connectors::*, testing, Result};
/// # use std::sync::mpsc;
/// /// Hands records to whoever holds the other end.
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
///
///     fn committer(&self, _info: &CommitterInfo) -> Result<Option<NoCommitter<()>>> {
///         Ok(None)
///     }
///
///     fn has_committer(&self) -> bool {
///         false
///     }
/// }
///
/// struct ChannelWriter(mpsc::Sender<u64>);
///
/// impl SinkWriter<u64> for ChannelWriter {
///     type Committable = ();
///
///     fn write(&mut self, batch: Batch<u64>) -> Result<()> {
///         Ok(batch.into_records().into_iter().try_for_each(|record| self.0.send(record))?)
///     }
///
///     fn finish(&mut self) -> Result<Vec<()>> {
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

    fn open(&mut self) -> Result<()> {
        match self.never {}
    }

    fn commit(&mut self, _committables: Vec<C>) -> Result<()> {
        match self.never {}
    }

    fn abort(&mut self) -> Result<()> {
        match self.never {}
    }
}
