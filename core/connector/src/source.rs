//! The contract of a source: an enumerator that finds splits, readers that read them.
//!
//! The enumerator lives in the job's coordinator host, one for all subtasks; readers live in the
//! tasks. A reader asks for a split when it has none, so fast readers get more. A source whose
//! splits are known from the start (a generator) has no enumerator: see [`NoEnumerator`].
//!
//! A split carries its position: a reader's snapshot is the splits that it has not read to their
//! end, each with the position after the last record that it has handed over. Another reader that
//! is given them goes on there. Jobs that take checkpoints take snapshots, and so does the suite in
//! [`conformance`](crate::conformance).

use std::marker::PhantomData;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_graph::Boundedness;
use millstream_network::Data;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::metrics::Counter;
use crate::plan::PlanContext;
use crate::reader_output::ReaderOutput;

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
///         Ok(NumberReader { ranges: Vec::new() })
///     }
///
///     fn enumerator(&self, restored: Option<Tens>) -> Result<Tens> {
///         Ok(restored.unwrap_or(Tens { next: 0, returned: Vec::new() }))
///     }
/// }
///
/// #[millstream::record]
/// struct Tens {
///     next: u64,
///     returned: Vec<Range<u64>>,
/// }
///
/// impl SplitEnumerator for Tens {
///     type Split = Range<u64>;
///     type State = Tens;
///
///     fn discover(&mut self) -> Result<Option<std::time::Duration>> {
///         Ok(None) // there is nothing to look for
///     }
///
///     fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Range<u64>>> {
///         if let Some(split) = self.returned.pop() {
///             return Ok(NextSplit::Split(split));
///         }
///         let start = self.next;
///         self.next += 10;
///         Ok(if start < 100 { NextSplit::Split(start..start + 10) } else { NextSplit::NoMore })
///     }
///
///     fn give_back(&mut self, _subtask: u32, splits: Vec<Range<u64>>) -> Result<()> {
///         self.returned.extend(splits);
///         Ok(())
///     }
///
///     fn snapshot(&mut self) -> Result<Tens> {
///         Ok(self.clone())
///     }
/// }
///
/// struct NumberReader {
///     ranges: Vec<Range<u64>>,
/// }
///
/// impl SourceReader for NumberReader {
///     type Out = u64;
///     type Split = Range<u64>;
///
///     fn add_splits(&mut self, splits: Vec<Range<u64>>) -> Result<()> {
///         self.ranges.extend(splits);
///         Ok(())
///     }
///
///     fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
///         let Some(range) = self.ranges.last_mut() else { return Ok(Polled::NeedSplit) };
///         out.fill(range.by_ref())?; // until it makes a batch
///         if range.is_empty() {
///             self.ranges.pop();
///         }
///         Ok(Polled::Ready)
///     }
///
///     fn snapshot(&mut self) -> Result<Vec<Range<u64>>> {
///         Ok(self.ranges.clone()) // what is left of each is its position
///     }
/// }
///
/// let numbers = CollectSink::new();
/// let mut env = testing::environment();
/// env.source("numbers", Numbers).sink("collect", numbers.clone());
/// env.execute("numbers")?;
/// assert_eq!(numbers.take().iter().sum::<u64>(), 4_950);
///
/// // Whenever it is stopped and restored, nothing is lost or doubled.
/// testing::conformance::check_source(|| Numbers, &(0..100).collect::<Vec<_>>(), 0..20)?;
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a source")]
pub trait Source: Send + Sync + 'static {
    /// Its records.
    type Out: Data;
    /// A piece of work for one reader, with the position from which on it is to be read.
    type Split: Serialize + DeserializeOwned + Send + 'static;
    /// Reads splits.
    type Reader: SourceReader<Out = Self::Out, Split = Self::Split>;
    /// Finds splits; [`NoEnumerator`] if [`Source::splits`] names all of them.
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
    /// [`ReaderOutput::push_at`], and every other reader gives none; otherwise the job fails.
    /// Operators keep the times, and keyed functions see them as `Context::timestamp`.
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
    /// }
    ///
    /// impl SourceReader for Measurements {
    ///     type Out = u32;
    ///     type Split = ();
    ///
    ///     fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
    ///         Ok(())
    ///     }
    ///
    ///     fn poll(&mut self, out: &mut ReaderOutput<'_, u32>) -> Result<Polled> {
    ///         for (value, second) in [(20, 0), (21, 1), (19, 2)] {
    ///             out.push_at(value, 1_700_000_000_000 + second * 1_000)?;
    ///         }
    ///         Ok(Polled::Finished)
    ///     }
    ///
    ///     fn snapshot(&mut self) -> Result<Vec<()>> {
    ///         Ok(Vec::new())
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

    /// All splits of a source without an enumerator: the same ones in the same order whatever the
    /// parallelism. Subtask `s` of `p` is given those at `s`, `s + p`, `s + 2p` and so on before
    /// its reader is polled; after a restore readers are given the splits of the checkpoint
    /// instead. So there should be more of them than there will ever be subtasks. Runs in the task
    /// host.
    ///
    /// # Errors
    /// The splits cannot be named.
    fn splits(&self) -> Result<Vec<Self::Split>> {
        Ok(Vec::new())
    }

    /// Makes a reader for one subtask. Runs in the task host.
    ///
    /// # Errors
    /// The reader cannot be made.
    fn reader(&self, ctx: &ReaderContext) -> Result<Self::Reader>;

    /// Makes the enumerator, from what its predecessor's [`SplitEnumerator::snapshot`] answered if
    /// the job goes on from a checkpoint. Runs in the coordinator host. A source without one
    /// ([`NoEnumerator`]) leaves this method out.
    ///
    /// # Errors
    /// The enumerator cannot be made.
    fn enumerator(
        &self,
        restored: Option<<Self::Enumerator as SplitEnumerator>::State>,
    ) -> Result<Self::Enumerator> {
        let _ = restored;
        Err(anyhow::anyhow!(
            "the source {} names {} as its enumerator and makes none: implement \
             Source::enumerator(), or name NoEnumerator",
            std::any::type_name::<Self>(),
            std::any::type_name::<Self::Enumerator>()
        ))
    }
}

/// The outcome of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Records were added, or progress was made; poll again.
    Ready,
    /// Nothing now: the waker will be called, or poll again at the given time.
    Pending(Option<Instant>),
    /// The reader has read all its splits. The runtime asks the enumerator for the next one and
    /// ends the reader if there will be none, as in a source without an enumerator.
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
    /// A piece of work, with its position.
    type Split;

    /// Takes splits to read, each from its position on: those that the source or a checkpoint has
    /// for this subtask before the first poll, then one after each [`Polled::NeedSplit`]. A reader
    /// that reads several by turns tells their records apart: see [`ReaderOutput::of_split`].
    ///
    /// # Errors
    /// Reading cannot begin.
    fn add_splits(&mut self, splits: Vec<Self::Split>) -> Result<()>;

    /// Adds records to the empty output, about one batch's worth, without blocking.
    ///
    /// # Errors
    /// A split cannot be read.
    fn poll(&mut self, out: &mut ReaderOutput<'_, Self::Out>) -> Result<Polled>;

    /// Returns the splits that are not read to their end, each with the position after the last
    /// record that `poll` has handed over. Whatever was fetched beyond is read again by a reader
    /// that is restored. Called between two polls, also while the reader waits, and reading goes on
    /// afterwards; must not block.
    ///
    /// # Errors
    /// The positions cannot be told.
    fn snapshot(&mut self) -> Result<Vec<Self::Split>>;
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
    /// A piece of work, with its position.
    type Split;
    /// The part of it that a checkpoint keeps.
    type State: Serialize + DeserializeOwned + Send + 'static;

    /// Whether there is one: `false` for [`NoEnumerator`] alone.
    #[doc(hidden)]
    const EXISTS: bool = true;

    /// Whether another enumerator takes the place of this one while the readers read on, if the
    /// process of the enumerators has died and the job takes checkpoints. If any source of the job
    /// says `false`, all tasks restart then.
    ///
    /// A source that says `true` promises that [`SplitEnumerator::was_handed_out`] and the state
    /// of the newest checkpoint are enough to go on: the splits that were handed out behind that
    /// checkpoint can be told apart from those that were not, and what was found behind it and not
    /// handed out is found again by [`SplitEnumerator::discover`].
    /// [`conformance::check_source`](crate::conformance::check_source) tries it.
    const RESTARTS_ALONE: bool = false;

    /// Looks for work. Called once at the start, also after a restore, and again after the time
    /// that it answered, from a millisecond to a year. After `None` it is not called again, and
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

    /// Takes back splits that a subtask has not read to their end because it has failed, with the
    /// positions from which on they are to be read. [`SplitEnumerator::next_split`] hands them out
    /// again, to any subtask, also after it has answered [`NextSplit::NoMore`].
    ///
    /// # Errors
    /// The splits cannot be handed out again.
    fn give_back(&mut self, subtask: u32, splits: Vec<Self::Split>) -> Result<()>;

    /// Takes in that the enumerator before has handed out these splits, each to a subtask, behind
    /// the snapshot from which this one was made. They are being read, or read already: neither
    /// [`SplitEnumerator::discover`] nor [`SplitEnumerator::next_split`] finds them again, but a
    /// reader that fails later gives them back. Called before the first `discover`, in parts if
    /// there are many, and only if [`SplitEnumerator::RESTARTS_ALONE`].
    ///
    /// # Errors
    /// The job fails.
    fn was_handed_out(&mut self, splits: Vec<(u32, Self::Split)>) -> Result<()> {
        let _ = splits;
        Err(anyhow::anyhow!(
            "the enumerator {} says that it restarts alone: implement \
             SplitEnumerator::was_handed_out()",
            std::any::type_name::<Self>()
        ))
    }

    /// Returns what [`Source::enumerator`] needs to go on from here: splits that were handed out
    /// belong to their readers and are not part of it.
    ///
    /// # Errors
    /// The state cannot be told.
    fn snapshot(&mut self) -> Result<Self::State>;
}

/// The enumerator of a source that has none: [`Source::splits`] names its splits.
///
/// ```
/// # use millstream::{connectors::*, testing, Boundedness, Result};
/// # use std::ops::Range;
/// /// The numbers up to 100 in ten splits.
/// struct Numbers;
///
/// impl Source for Numbers {
///     type Out = u64;
///     type Split = Range<u64>;
///     type Reader = NumberReader;
///     type Enumerator = NoEnumerator<Range<u64>>;
///
///     fn boundedness(&self) -> Boundedness {
///         Boundedness::Bounded
///     }
///
///     fn splits(&self) -> Result<Vec<Range<u64>>> {
///         Ok((0..10).map(|n| n * 10..n * 10 + 10).collect())
///     }
///
///     fn reader(&self, _ctx: &ReaderContext) -> Result<NumberReader> {
///         Ok(NumberReader(Vec::new()))
///     }
/// }
///
/// struct NumberReader(Vec<Range<u64>>);
///
/// impl SourceReader for NumberReader {
///     type Out = u64;
///     type Split = Range<u64>;
///
///     fn add_splits(&mut self, splits: Vec<Range<u64>>) -> Result<()> {
///         self.0.extend(splits);
///         Ok(())
///     }
///
///     fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
///         let Some(range) = self.0.pop() else { return Ok(Polled::Finished) };
///         out.extend(range)?;
///         Ok(Polled::Ready)
///     }
///
///     fn snapshot(&mut self) -> Result<Vec<Range<u64>>> {
///         Ok(self.0.clone())
///     }
/// }
///
/// let numbers = CollectSink::new();
/// let mut env = testing::environment();
/// env.set_parallelism(2);
/// env.source("numbers", Numbers).sink("collect", numbers.clone());
/// env.execute("numbers")?;
/// assert_eq!(numbers.take().iter().sum::<u64>(), 4_950);
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug)]
pub struct NoEnumerator<S> {
    never: std::convert::Infallible,
    split: PhantomData<fn() -> S>,
}

impl<S> SplitEnumerator for NoEnumerator<S> {
    type Split = S;
    type State = ();

    const EXISTS: bool = false;

    fn discover(&mut self) -> Result<Option<Duration>> {
        match self.never {}
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<S>> {
        match self.never {}
    }

    fn give_back(&mut self, _subtask: u32, _splits: Vec<S>) -> Result<()> {
        match self.never {}
    }

    fn snapshot(&mut self) -> Result<()> {
        match self.never {}
    }
}
