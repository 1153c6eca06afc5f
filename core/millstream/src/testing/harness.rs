//! A pipeline with one input and one output that stands still between two calls.

use std::time::Duration;

use crate::testing::job_harness::{Input, JobHarness, Output};
use crate::{Data, Result, Stream};

/// A pipeline with one input and one output, driven call by call.
///
/// Every call that pushes something returns after all of its consequences: the results are there,
/// timers that are due have fired. Event time moves by [`Harness::watermark`] alone, and processing
/// time by [`Harness::advance`] and [`Harness::advance_to`] alone; it begins at 0, in 1970. For
/// several inputs or outputs there is [`JobHarness`].
///
/// ```
/// use std::time::Duration;
///
/// use millstream::prelude::*;
/// use millstream::testing::Harness;
///
/// /// Sums of ten seconds by event time.
/// fn sums(values: Stream<u64>) -> Stream<u64> {
///     values
///         .key_by(|_| ())
///         .window(Tumbling::event_time(Duration::from_secs(10)))
///         .reduce("sum", |sum, value| Ok(*sum += value))
/// }
///
/// let harness = Harness::timed(sums)?;
/// harness.push_at(1, 1_000)?;
/// harness.push_at(2, 9_999)?;
/// harness.push_at(4, 10_000)?;
/// assert!(harness.take().is_empty());
/// harness.watermark(9_999)?;
/// assert_eq!(harness.take_timed(), [(3, Some(9_999))]);
/// assert_eq!(harness.finish()?, [4]);
/// # Ok::<(), millstream::Error>(())
/// ```
///
/// An error of a function fails the job: the call that caused it returns the sentence with which a
/// failed job ends, and so does every call after it. There are no restarts.
pub struct Harness<T, O> {
    job: JobHarness,
    input: Input<T>,
    output: Output<O>,
}

impl<T: Data, O: Data> Harness<T, O> {
    /// A pipeline whose input has no event times.
    ///
    /// ```
    /// use millstream::testing::Harness;
    ///
    /// let harness = Harness::new(|numbers| numbers.filter(|n| Ok(n % 2 == 0)))?;
    /// harness.push(1)?;
    /// assert!(harness.take().is_empty());
    /// harness.push(2)?;
    /// assert_eq!(harness.take(), [2]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// The job is refused, or an operator cannot be made.
    pub fn new(transform: impl FnOnce(Stream<T>) -> Stream<O>) -> Result<Self> {
        let mut job = JobHarness::new();
        let (input, stream) = job.input();
        Self::start(job, input, transform(stream))
    }

    /// A pipeline whose input has event times.
    ///
    /// # Errors
    /// The job is refused, or an operator cannot be made.
    pub fn timed(transform: impl FnOnce(Stream<T>) -> Stream<O>) -> Result<Self> {
        let mut job = JobHarness::new();
        let (input, stream) = job.timed_input();
        Self::start(job, input, transform(stream))
    }

    fn start(mut job: JobHarness, input: Input<T>, results: Stream<O>) -> Result<Self> {
        let output = job.output(results);
        job.start()?;
        Ok(Self { job, input, output })
    }

    /// Pushes a record into a pipeline without event times.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has event times or has ended.
    pub fn push(&self, record: T) -> Result<()> {
        self.input.push(record)
    }

    /// Pushes a record with its event time, in milliseconds since 1970.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has no event times or has ended.
    pub fn push_at(&self, record: T, millis: i64) -> Result<()> {
        self.input.push_at(record, millis)
    }

    /// Says that no record at or before this time will follow: a later one is late.
    ///
    /// # Errors
    /// As for [`Input::watermark`].
    pub fn watermark(&self, millis: i64) -> Result<()> {
        self.input.watermark(millis)
    }

    /// Moves processing time forward; timers fire on the way, each at its time.
    ///
    /// # Errors
    /// As for [`JobHarness::advance`].
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.job.advance(by)
    }

    /// Moves processing time forward to a time in milliseconds since 1970.
    ///
    /// # Errors
    /// As for [`JobHarness::advance_to`].
    pub fn advance_to(&self, millis: i64) -> Result<()> {
        self.job.advance_to(millis)
    }

    /// The processing time, in milliseconds since 1970.
    #[must_use]
    pub fn processing_time(&self) -> i64 {
        self.job.processing_time()
    }

    /// Takes the results since the last call, in the order in which they came.
    #[must_use]
    pub fn take(&self) -> Vec<O> {
        self.output.take()
    }

    /// Takes the results since the last call with their event times.
    #[must_use]
    pub fn take_timed(&self) -> Vec<(O, Option<i64>)> {
        self.output.take_timed()
    }

    /// Ends the input, as a bounded source does, and takes the results since the last call.
    ///
    /// # Errors
    /// As for [`JobHarness::finish`].
    pub fn finish(&self) -> Result<Vec<O>> {
        self.job.finish()?;
        Ok(self.output.take())
    }
}
