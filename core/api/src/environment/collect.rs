//! The records of a job, in the program that has started it.

use std::sync::Arc;
use std::time::Duration;

use millstream_connector::{Data, Result};
use millstream_operators::{CollectQueue, Taken};

use super::Environment;
use crate::job::JobClient;
use crate::stream::Stream;

/// Interval between looks at whether the job has ended, while no records come.
const ASKED_EVERY: Duration = Duration::from_millis(5);

impl Environment {
    /// Runs what was built since the last call, and gives the records of a stream to the program
    /// while the job runs. Their order between subtasks is by chance.
    ///
    /// A few batches wait for the program, then the job does. Dropping the iterator cancels the
    /// job. The job runs in this process: on a cluster the records are in other processes, and the
    /// call is refused.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let squares = env.source("numbers", Datagen::from_fn(|n| n)).map(|n| Ok(n * n));
    /// let mut sum = 0;
    /// for square in env.execute_and_collect("squares", squares)? {
    ///     sum += square?;
    ///     if sum > 1_000 {
    ///         break; // ends the job, whose source has no end
    ///     }
    /// }
    /// assert_eq!(sum, (0..=14).map(|n| n * n).sum::<u64>());
    ///
    /// let words = env.source("words", Datagen::from_fn(|n| format!("word {n}")).count(3));
    /// let words: Vec<String> = env.execute_and_collect("words", words)?.collect::<Result<_>>()?;
    /// assert_eq!(words, ["word 0", "word 1", "word 2"]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// The graph is faulty, the job was refused, or it does not run in this process.
    pub fn execute_and_collect<T: Data>(
        &mut self,
        name: &str,
        stream: Stream<T>,
    ) -> Result<CollectedRecords<T>> {
        if !self.executor.runs_here() {
            let directory = std::mem::take(&mut *self.builder.borrow_mut()).directory;
            self.builder.borrow_mut().directory = directory;
            anyhow::bail!(
                "job {name:?}: its records cannot be collected by the program, because on a \
                 cluster they are in other processes: end the stream in a sink, such as FileSink, \
                 or start the program by itself instead of with `millstream run`"
            );
        }
        let queue = Arc::<CollectQueue<T>>::default();
        stream.collect_into(&queue);
        let job = self.execute_async(name)?;
        Ok(CollectedRecords { queue, job, batch: Vec::new().into_iter(), over: false })
    }
}

/// The records of a stream of a job that runs in this process; made by
/// [`Environment::execute_and_collect`], where an example is.
///
/// The last item is an error if the job failed, or was restarted after the first record was taken:
/// its records would come twice.
pub struct CollectedRecords<T> {
    queue: Arc<CollectQueue<T>>,
    job: JobClient,
    batch: std::vec::IntoIter<T>,
    over: bool,
}

impl<T> CollectedRecords<T> {
    /// The job.
    #[must_use]
    pub const fn job(&self) -> &JobClient {
        &self.job
    }

    /// The next batch; `None` when the job has finished.
    fn next_batch(&mut self) -> Result<Option<Vec<T>>> {
        loop {
            let patience = match self.job.status()?.is_globally_terminal() {
                true => Duration::ZERO,
                false => ASKED_EVERY,
            };
            match self.queue.take(patience) {
                Taken::Batch(batch) => return Ok(Some(batch)),
                Taken::Nothing if patience.is_zero() => return self.job.result().map(|_| None),
                Taken::Nothing => {}
                Taken::Restarted => {
                    self.job.cancel()?;
                    anyhow::bail!(
                        "job {} was restarted after a failure, and the records that were taken \
                         before would come again: end the stream in a sink instead",
                        self.job.job
                    );
                }
            }
        }
    }
}

impl<T> Iterator for CollectedRecords<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(Ok(record));
            }
            if self.over {
                return None;
            }
            match self.next_batch() {
                Ok(Some(batch)) => self.batch = batch.into_iter(),
                Ok(None) => self.over = true,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<T> Drop for CollectedRecords<T> {
    fn drop(&mut self) {
        self.queue.abandon();
        if !self.over {
            // It ends by itself, or with the process.
            let _ = self.job.cancel();
        }
    }
}
