//! Jobs that were executed: how they ended, and what a program asks of those that run.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use millstream_types::{JobId, JobStatus};

use millstream_connector::Result;

/// The end of a job that finished.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// use millstream::JobStatus;
///
/// env.source("numbers", Datagen::sequence(0..6)).sink("nowhere", DiscardSink::new());
/// let result = env.execute("to nowhere")?;
/// assert_eq!(result.status, JobStatus::Finished);
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// The job.
    pub job: JobId,
    /// Its last state: always [`JobStatus::Finished`], other ends are errors.
    pub status: JobStatus,
    /// From submission to end.
    pub runtime: Duration,
}

/// A job that was submitted and not waited for. Clones are the same job.
///
/// A program that waits neither here nor with [`Environment::execute`] ends when its jobs have.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// use millstream::JobStatus;
///
/// env.source("numbers", Datagen::sequence(0..6)).sink("nowhere", DiscardSink::new());
/// let job = env.execute_async("six numbers")?;
/// println!("job {} runs", job.job);
/// assert_eq!(job.result()?.status, JobStatus::Finished);
///
/// env.source("numbers", Datagen::from_fn(|n| n)).sink("nowhere", DiscardSink::new());
/// let endless = env.execute_async("all numbers")?;
/// assert!(!endless.status()?.is_globally_terminal());
/// endless.cancel()?;
/// assert!(endless.result().unwrap_err().to_string().ends_with("was cancelled"));
/// assert_eq!(endless.status()?, JobStatus::Canceled);
/// # Ok::<(), millstream::Error>(())
/// ```
///
/// [`Environment::execute`]: crate::Environment::execute
#[derive(Clone)]
pub struct JobClient {
    /// The job.
    pub job: JobId,
    handle: Rc<dyn JobHandle>,
}

/// A job as the role of the process reaches it.
pub trait JobHandle {
    /// The state of the job now.
    ///
    /// # Errors
    /// The role cannot learn it.
    fn status(&self) -> Result<JobStatus>;

    /// Asks the job to stop; one that has ended stays as it is.
    ///
    /// # Errors
    /// The role cannot reach it.
    fn cancel(&self) -> Result<()>;

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// The job failed or was cancelled, or the role does not learn of its end.
    fn result(&self) -> Result<JobResult>;
}

/// A job that has ended.
impl JobHandle for JobResult {
    fn status(&self) -> Result<JobStatus> {
        Ok(self.status)
    }

    fn cancel(&self) -> Result<()> {
        Ok(())
    }

    fn result(&self) -> Result<JobResult> {
        Ok(self.clone())
    }
}

impl JobClient {
    /// Wraps the handle of a role.
    #[must_use]
    pub fn new(job: JobId, handle: Rc<dyn JobHandle>) -> Self {
        Self { job, handle }
    }

    /// The state of the job now.
    ///
    /// # Errors
    /// The cluster cannot be asked.
    pub fn status(&self) -> Result<JobStatus> {
        self.handle.status()
    }

    /// Asks the job to stop and does not wait for its end, which [`JobClient::result`] does. A
    /// cancellation by its own program is no failure of the program. A job that has ended stays
    /// as it is.
    ///
    /// # Errors
    /// The cluster cannot be asked.
    pub fn cancel(&self) -> Result<()> {
        self.handle.cancel()
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// The job failed or was cancelled. On a cluster also: the program was started with `-d` or by
    /// REST, so that it does not learn of ends.
    pub fn result(&self) -> Result<JobResult> {
        self.handle.result()
    }
}

impl fmt::Debug for JobClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobClient").field("job", &self.job).finish_non_exhaustive()
    }
}
