//! The contract of a source: an enumerator that finds splits, readers that read them.
//!
//! The enumerator lives in the job's coordinator host, one for all subtasks; readers live in the
//! tasks. A reader asks for a split when it has none, so fast readers get more. A source whose
//! subtasks need nothing from each other (a generator) has no enumerator: [`NoEnumerator`].

use std::marker::PhantomData;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_graph::Boundedness;
use millstream_network::{Batch, Data};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::metrics::Counter;
use crate::plan::PlanContext;

/// The surroundings of a reader.
#[derive(Debug, Clone)]
pub struct ReaderContext {
    /// The subtask's number, from 0.
    pub subtask: u32,
    /// The number of subtasks.
    pub parallelism: u32,
    /// Wakes the task when the reader has more, after [`Polled::Pending`].
    pub waker: Waker,
    /// Counts records that the reader dropped because they could not be read.
    pub dropped: Counter,
    /// Counts records in which the reader replaced what could not be read.
    pub replaced: Counter,
    /// Counts files, or what corresponds to them, that the reader left out because they were gone.
    pub skipped: Counter,
}

/// A source of records.
///
/// ```
/// # use millstream::{connectors::*, testing, Boundedness, Result};
/// # use std::ops::Range;
/// /// Numbers up to 100, ten at a time to whichever subtask is free.
/// struct Numbers;
///
/// impl Source for Numbers {
///     type Out = u64;
///     type Split = Range<u64>;
///     type Reader = NumberReader;
///     type Enumerator = Tens;
///
///     fn boundedness(&self) -> Boundedness {
///         Boundedness::Bounded
///     }
///
///     fn reader(&self, _ctx: &ReaderContext) -> Result<NumberReader> {
///         Ok(NumberReader { range: 0..0 })
///     }
///
///     fn enumerator(&self) -> Result<Option<Tens>> {
///         Ok(Some(Tens { next: 0 }))
///     }
///
///     fn has_enumerator(&self) -> bool {
///         true
///     }
/// }
///
/// struct Tens {
///     next: u64,
/// }
///
/// impl SplitEnumerator for Tens {
///     type Split = Range<u64>;
///
///     fn discover(&mut self) -> Result<Option<std::time::Duration>> {
///         Ok(None) // there is nothing to look for
///     }
///
///     fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Range<u64>>> {
///         let start = self.next;
///         self.next += 10;
///         Ok(if start < 100 { NextSplit::Split(start..start + 10) } else { NextSplit::NoMore })
///     }
/// }
///
/// struct NumberReader {
///     range: Range<u64>,
/// }
///
/// impl SourceReader for NumberReader {
///     type Out = u64;
///     type Split = Range<u64>;
///
///     fn add_split(&mut self, split: Range<u64>) -> Result<()> {
///         self.range = split;
///         Ok(())
///     }
///
///     fn poll(&mut self, batch: &mut Batch<u64>) -> Result<Polled> {
///         if self.range.is_empty() {
///             return Ok(Polled::NeedSplit);
///         }
///         batch.extend(&mut self.range)?;
///         Ok(Polled::Ready)
///     }
/// }
///
/// let numbers = CollectSink::new();
/// let mut env = testing::environment();
/// env.source("numbers", Numbers).sink("collect", numbers.clone());
/// env.execute("numbers")?;
/// assert_eq!(numbers.take().iter().sum::<u64>(), 4_950);
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a source")]
pub trait Source: Send + Sync + 'static {
    /// Its records.
    type Out: Data;
    /// A piece of work for one reader.
    type Split: Serialize + DeserializeOwned + Send + 'static;
    /// Reads splits.
    type Reader: SourceReader<Out = Self::Out, Split = Self::Split>;
    /// Finds splits.
    type Enumerator: SplitEnumerator<Split = Self::Split>;

    /// Checks and completes the source when it is added to a job. Every fault that can be known is
    /// refused here, before anything runs. Called in every process of the job, so the result must
    /// be the same everywhere.
    ///
    /// # Errors
    /// The source cannot be used like this; the job is refused.
    fn plan(&mut self, ctx: &mut PlanContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Whether it ends by itself.
    fn boundedness(&self) -> Boundedness;

    /// Whether its records have event times. A stream has times or it has none, which is known
    /// when the job is planned: the reader of a source that says `true` gives each record one with
    /// [`Batch::push_at`], and every other reader gives none; otherwise the job fails. Operators
    /// keep the times, and keyed functions see them as `Context::timestamp`. Nothing else uses them
    /// yet: there are no watermarks.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing, Boundedness};
    /// /// Three measurements, one a second.
    /// struct Measurements;
    ///
    /// impl Source for Measurements {
    ///     type Out = u32;
    ///     type Split = ();
    ///     type Reader = Measurements;
    ///     type Enumerator = NoEnumerator<()>;
    ///
    ///     fn boundedness(&self) -> Boundedness {
    ///         Boundedness::Bounded
    ///     }
    ///
    ///     fn has_timestamps(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn reader(&self, _ctx: &ReaderContext) -> Result<Measurements> {
    ///         Ok(Measurements)
    ///     }
    ///
    ///     fn enumerator(&self) -> Result<Option<NoEnumerator<()>>> {
    ///         Ok(None)
    ///     }
    ///
    ///     fn has_enumerator(&self) -> bool {
    ///         false
    ///     }
    /// }
    ///
    /// impl SourceReader for Measurements {
    ///     type Out = u32;
    ///     type Split = ();
    ///
    ///     fn add_split(&mut self, _split: ()) -> Result<()> {
    ///         Ok(())
    ///     }
    ///
    ///     fn poll(&mut self, batch: &mut Batch<u32>) -> Result<Polled> {
    ///         for (value, second) in [(20, 0), (21, 1), (19, 2)] {
    ///             batch.push_at(value, 1_700_000_000_000 + second * 1_000)?;
    ///         }
    ///         Ok(Polled::Finished)
    ///     }
    /// }
    ///
    /// /// The measured values with their times.
    /// struct Timed;
    ///
    /// impl KeyedProcess<(), u32> for Timed {
    ///     type Out = (u32, Option<i64>);
    ///
    ///     fn process(
    ///         &mut self,
    ///         value: u32,
    ///         ctx: &mut Context<'_, ()>,
    ///         out: &mut Collector<'_, Self::Out>,
    ///     ) -> Result<()> {
    ///         let time = ctx.timestamp();
    ///         out.emit((value, time));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let timed = CollectSink::new();
    /// let mut env = testing::environment();
    /// let values = env.source("measurements", Measurements).key_by(|_| ());
    /// values.process("timed", |_| Ok(Timed)).sink("collect", timed.clone());
    /// env.execute("measurements")?;
    /// assert_eq!(timed.take().last(), Some(&(19, Some(1_700_000_002_000))));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    fn has_timestamps(&self) -> bool {
        false
    }

    /// A reader for one subtask. Runs in the task host.
    ///
    /// # Errors
    /// The task fails.
    fn reader(&self, ctx: &ReaderContext) -> Result<Self::Reader>;

    /// The enumerator, or `None` if readers need no splits. Runs in the coordinator host.
    ///
    /// # Errors
    /// The job fails.
    fn enumerator(&self) -> Result<Option<Self::Enumerator>>;

    /// Whether [`Source::enumerator`] gives one; known when the job is planned, and an error when
    /// the job starts if the two disagree.
    fn has_enumerator(&self) -> bool;
}

/// The outcome of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Records were added, or progress was made; poll again.
    Ready,
    /// Nothing now: the waker will be called, or poll again at the given time.
    Pending(Option<Instant>),
    /// The reader has read all its splits. The runtime asks the enumerator for the next one and
    /// ends the reader if there will be none. An error in a source without an enumerator.
    NeedSplit,
    /// Nothing will follow: the reader is not polled again.
    Finished,
}

/// Reads splits on its task's thread. Blocking I/O belongs on a thread of the reader's own that
/// calls the waker.
///
/// See [`Source`] for an example.
pub trait SourceReader: Send {
    /// Its records.
    type Out: Data;
    /// The splits that it reads.
    type Split;

    /// Takes a split; called after [`Polled::NeedSplit`].
    ///
    /// # Errors
    /// The task fails.
    fn add_split(&mut self, split: Self::Split) -> Result<()>;

    /// Adds records to the empty `batch`, about one batch's worth, without blocking.
    ///
    /// # Errors
    /// The task fails.
    fn poll(&mut self, batch: &mut Batch<Self::Out>) -> Result<Polled>;
}

/// The answer of an enumerator to a reader that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextSplit<S> {
    /// Read this.
    Split(S),
    /// Nothing now; the reader waits for the next discovery. An error if there is none: if
    /// [`SplitEnumerator::discover`] has answered `None`.
    Later,
    /// There will never be more.
    NoMore,
}

/// Finds splits and hands them out. It has a thread of its own in the coordinator host, so that its
/// calls may block.
///
/// See [`Source`] for an example.
pub trait SplitEnumerator: Send {
    /// The splits that it finds.
    type Split;

    /// Looks for work. Called once at the start, and again after the time that it answered, from a
    /// millisecond to a year. After `None` it is not called again, and
    /// [`SplitEnumerator::next_split`] must no longer answer [`NextSplit::Later`].
    ///
    /// # Errors
    /// The job fails.
    fn discover(&mut self) -> Result<Option<Duration>>;

    /// The next split for a subtask that has none.
    ///
    /// # Errors
    /// The job fails.
    fn next_split(&mut self, subtask: u32) -> Result<NextSplit<Self::Split>>;
}

/// The enumerator of a source that has none.
///
/// ```
/// # use millstream::{connectors::*, testing, Boundedness, Result};
/// /// The number of the subtask, once.
/// struct Subtask;
///
/// impl Source for Subtask {
///     type Out = u32;
///     type Split = ();
///     type Reader = Once;
///     type Enumerator = NoEnumerator<()>;
///
///     fn boundedness(&self) -> Boundedness {
///         Boundedness::Bounded
///     }
///
///     fn reader(&self, ctx: &ReaderContext) -> Result<Once> {
///         Ok(Once(Some(ctx.subtask)))
///     }
///
///     fn enumerator(&self) -> Result<Option<NoEnumerator<()>>> {
///         Ok(None)
///     }
///
///     fn has_enumerator(&self) -> bool {
///         false
///     }
/// }
///
/// struct Once(Option<u32>);
///
/// impl SourceReader for Once {
///     type Out = u32;
///     type Split = ();
///
///     fn add_split(&mut self, _split: ()) -> Result<()> {
///         Ok(())
///     }
///
///     fn poll(&mut self, batch: &mut Batch<u32>) -> Result<Polled> {
///         batch.extend(self.0.take())?;
///         Ok(Polled::Finished)
///     }
/// }
///
/// let subtasks = CollectSink::new();
/// let mut env = testing::environment();
/// env.set_parallelism(2);
/// env.source("subtasks", Subtask).sink("collect", subtasks.clone());
/// env.execute("subtasks")?;
/// assert_eq!(subtasks.take().iter().sum::<u32>(), 1);
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug)]
pub struct NoEnumerator<S> {
    never: std::convert::Infallible,
    split: PhantomData<fn() -> S>,
}

impl<S> SplitEnumerator for NoEnumerator<S> {
    type Split = S;

    fn discover(&mut self) -> Result<Option<Duration>> {
        match self.never {}
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<S>> {
        match self.never {}
    }
}
