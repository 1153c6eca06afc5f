//! Where user functions put their results.

use millstream_output_buffers::append;

use crate::Result;
use crate::output::Output;
use crate::side::OutputTag;

/// Takes the results of a function: those of the main output and those of side outputs. Each gets
/// the event time of the record or timer at hand.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// static ODD: OutputTag<u32> = OutputTag::new("odd");
///
/// /// Sends odd numbers elsewhere.
/// #[derive(Clone)]
/// struct Split;
///
/// impl Process<u32> for Split {
///     type Out = u32;
///
///     fn process(&mut self, n: u32, out: &mut Collector<'_, u32>) -> Result<()> {
///         if n % 2 == 1 {
///             return out.emit_to(&ODD, n);
///         }
///         out.emit(n);
///         Ok(())
///     }
/// }
///
/// let odd = run_on([1, 2, 3], |numbers| numbers.process(|_| Ok(Split)).side_output(&ODD));
/// assert_eq!(odd.unwrap(), [1, 3]);
/// ```
pub struct Collector<'a, O> {
    pub(crate) results: &'a mut Vec<O>,
    pub(crate) output: &'a mut Output<O>,
    pub(crate) timestamp: Option<i64>,
}

impl<O: Send + 'static> Collector<'_, O> {
    /// Emits a result.
    #[inline]
    pub fn emit(&mut self, result: O) {
        append(self.results, || Some(result));
    }

    /// Emits a record to a side output; it is dropped if no stream reads that.
    ///
    /// # Errors
    /// The tag's name is used with another record type.
    pub fn emit_to<S: Send + 'static>(&mut self, tag: &OutputTag<S>, record: S) -> Result<()> {
        self.output.emit_side(tag, record, self.timestamp)
    }

    /// The event time of the results in milliseconds since 1970; `None` if the records of the
    /// stream have no times. It is that of the record at hand, or that of the timer, or for a
    /// timer of processing time the earliest that is not late, or the end of time when the input
    /// has ended.
    #[must_use]
    pub const fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
}
