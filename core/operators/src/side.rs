//! Side outputs: named, typed streams beside an operator's main one.

use std::any::Any;
use std::marker::PhantomData;
use std::time::Instant;

use millstream_network::{Data, Event, Flow};
use millstream_output_buffers::Results;
use millstream_task_checkpoint::Slice;

use crate::Result;
use crate::stage::{ErasedStage, Moment, Stage, reveal};

/// Names a side output and the type of its records. Usually a `static`.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// static LATE: OutputTag<u64> = OutputTag::new("late");
///
/// /// Sends what is smaller than the record before it elsewhere.
/// struct Ascending(ValueState<u64>);
///
/// impl KeyedProcess<(), u64> for Ascending {
///     type Out = u64;
///
///     fn process(
///         &mut self,
///         n: u64,
///         ctx: &mut Context<'_, ()>,
///         out: &mut Collector<'_, u64>,
///     ) -> Result<()> {
///         if self.0.get(ctx)?.is_some_and(|last| n < *last) {
///             return out.emit_to(&LATE, n);
///         }
///         self.0.set(ctx, n)?;
///         out.emit(n);
///         Ok(())
///     }
/// }
///
/// let (ascending, late) = (CollectSink::new(), CollectSink::new());
/// let stream = env
///     .source("numbers", Datagen::from_fn(|n| [3, 1, 4][n as usize]).count(3))
///     .key_by(|_| ())
///     .process("ascending", |states| Ok(Ascending(states.value("last")?)));
/// stream.side_output(&LATE).sink("late", late.clone());
/// stream.sink("in order", ascending.clone());
/// env.execute("order")?;
/// assert_eq!((ascending.take(), late.take()), (vec![3, 4], vec![1]));
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug)]
pub struct OutputTag<T> {
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// A tag of this name; names are unique within an operator.
    ///
    /// ```
    /// # use millstream::OutputTag;
    /// static LATE: OutputTag<u64> = OutputTag::new("late");
    /// assert_eq!(LATE.name(), "late");
    /// ```
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, record: PhantomData }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OutputTag<T> {}

/// A side output inside a task: records that were emitted and not yet sent, and their reader.
#[allow(missing_docs, reason = "the methods are those of Stage, without the record type")]
pub trait Side: Send {
    fn open(&mut self) -> Result<()>;
    fn mark(&mut self);
    fn take_back(&mut self);
    fn flush(&mut self) -> Result<Flow>;
    fn event(&mut self, event: Event) -> Result<Flow>;
    fn resume(&mut self) -> Result<Flow>;
    fn on_time(&mut self, moment: Moment) -> Result<Flow>;
    fn next_time(&self) -> Option<Instant>;
    fn slice(&mut self, slice: &mut Slice<'_>);
    fn as_any(&mut self) -> &mut dyn Any;
}

/// A side output whose record type is known.
pub(crate) struct SideBuffer<S> {
    buffer: Results<S>,
    is_full: fn(&mut Results<S>) -> bool,
    /// Length of the buffer when it was marked.
    marked: usize,
    stage: Box<dyn Stage<S>>,
}

impl<S: Send + 'static> SideBuffer<S> {
    /// The side output that `stage` reads, of records with event times or without.
    pub(crate) fn erased(stage: ErasedStage, timed: bool) -> Result<Box<dyn Side>>
    where
        S: Data,
    {
        let (buffer, stage) = (Results::new(timed), reveal::<S>(stage)?);
        Ok(Box::new(Self { buffer, is_full: Results::is_full, marked: 0, stage }))
    }

    /// Keeps a record; whether those that are kept make a batch.
    pub(crate) fn push(&mut self, record: S, time: Option<i64>) -> Result<bool> {
        self.buffer.push(record, time)?;
        Ok((self.is_full)(&mut self.buffer))
    }

    /// The buffer behind `side`.
    pub(crate) fn of<'a>(side: &'a mut Box<dyn Side>, tag: &str) -> Result<&'a mut Self> {
        side.as_any()
            .downcast_mut()
            .ok_or_else(|| anyhow::anyhow!("side output {tag:?} is used with two record types"))
    }
}

impl<S: Send + 'static> Side for SideBuffer<S> {
    fn open(&mut self) -> Result<()> {
        self.stage.open()
    }

    fn mark(&mut self) {
        self.marked = self.buffer.len();
    }

    fn take_back(&mut self) {
        self.buffer.truncate(self.marked);
    }

    fn flush(&mut self) -> Result<Flow> {
        if self.buffer.is_empty() {
            return Ok(Flow::Ready);
        }
        self.stage.push(self.buffer.take()?)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.stage.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.stage.resume()
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.stage.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.stage.next_time()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.stage.slice(slice);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
