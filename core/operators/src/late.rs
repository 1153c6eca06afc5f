//! Records that come behind the watermark.

use millstream_connector::Counter;
use millstream_types::counters;

use crate::Result;
use crate::output::{Output, Sides};
use crate::side::OutputTag;
use crate::task::OperatorContext;

/// The fate of records that an operator which waits for the watermark gets too late: the watermark
/// has reached their event time before.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// static LATE: OutputTag<(char, i64)> = OutputTag::new("late");
///
/// // The watermark comes right behind "c".
/// let strategy = WatermarkStrategy::generator(|| AtC).timestamps(|(_, time)| Ok(*time));
/// struct AtC;
///
/// impl WatermarkGenerator<(char, i64)> for AtC {
///     fn on_record(&mut self, (name, _): &(char, i64), time: i64, out: &mut WatermarkOutput) {
///         if *name == 'c' {
///             out.emit(time);
///         }
///     }
/// }
///
/// let events = [('b', 2), ('a', 1), ('c', 3), ('d', 2)];
/// let (sorted, late) = (CollectSink::new(), CollectSink::new());
/// let stream = env
///     .source("events", Datagen::from_fn(move |n| events[n as usize]).count(4))
///     .assign_timestamps(strategy)
///     .order_by_time("sorted", LateRecords::side_output(&LATE));
/// stream.side_output(&LATE).sink("late", late.clone());
/// stream.sink("in order", sorted.clone());
/// env.set_runtime_mode(RuntimeMode::Streaming);
/// env.execute("order")?;
/// assert_eq!((sorted.take(), late.take()), (vec![('a', 1), ('b', 2), ('c', 3)], vec![('d', 2)]));
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug)]
pub struct LateRecords<T>(Policy<T>);

#[derive(Debug)]
enum Policy<T> {
    Drop,
    To(OutputTag<T>),
    /// Records of two kinds go to side outputs of these names.
    OfTwo([Option<&'static str>; 2], EmitEither<T>),
}

/// Takes a late record of either kind to the side output of its kind.
type EmitEither<T> = fn(T, [Option<&'static str>; 2], &mut LateOutput<'_>) -> Result<()>;

/// Takes late records to side outputs.
pub(crate) struct LateOutput<'a> {
    sides: &'a mut Sides,
    time: i64,
    dropped: &'a Counter,
}

impl LateOutput<'_> {
    /// Emits a record if there is a tag for it that is read, and counts it otherwise.
    pub(crate) fn emit<S: Send + 'static>(
        &mut self,
        tag: Option<OutputTag<S>>,
        record: S,
    ) -> Result<()> {
        match tag {
            Some(tag) if self.sides.has(tag.name()) => {
                self.sides.emit(&tag, record, Some(self.time))
            }
            Some(_) | None => {
                self.dropped.add(1);
                Ok(())
            }
        }
    }
}

impl<T> LateRecords<T> {
    /// They are dropped and counted (`numLateRecordsDropped`).
    #[must_use]
    pub const fn drop_record() -> Self {
        Self(Policy::Drop)
    }

    /// They go to a side output, with their event times; if nothing reads that, they are dropped
    /// and counted.
    #[must_use]
    pub const fn side_output(tag: &OutputTag<T>) -> Self {
        Self(Policy::To(*tag))
    }

    /// A policy for records of two kinds that go to side outputs of two types.
    pub(crate) const fn of_two(names: [Option<&'static str>; 2], emit: EmitEither<T>) -> Self {
        Self(Policy::OfTwo(names, emit))
    }

    /// The name of the side output, if it is one.
    pub(crate) fn tag_name(&self) -> Option<&'static str> {
        match &self.0 {
            Policy::To(tag) => Some(tag.name()),
            Policy::Drop | Policy::OfTwo(..) => None,
        }
    }
}

impl<T> Clone for LateRecords<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for LateRecords<T> {}

impl<T> Clone for Policy<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Policy<T> {}

/// The policy inside a task.
pub(crate) struct Late<T> {
    policy: LateRecords<T>,
    dropped: Counter,
}

impl<T: Send + 'static> Late<T> {
    pub(crate) fn of(policy: LateRecords<T>, ctx: &OperatorContext<'_>) -> Self {
        Self { policy, dropped: ctx.task.metrics.engines(counters::LATE_RECORDS_DROPPED) }
    }

    /// Applies the policy to a record.
    #[cold]
    pub(crate) fn take<O: 'static>(
        &self,
        record: T,
        time: i64,
        output: &mut Output<O>,
    ) -> Result<()> {
        let mut late = LateOutput { sides: &mut output.sides, time, dropped: &self.dropped };
        match self.policy.0 {
            Policy::Drop => late.emit(None, record),
            Policy::To(tag) => late.emit(Some(tag), record),
            Policy::OfTwo(names, emit) => emit(record, names, &mut late),
        }
    }
}
