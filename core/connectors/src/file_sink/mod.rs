//! Files that appear when the checkpoint that has them is complete; in a job without periodic
//! checkpoints, all at once when the job has finished.
//!
//! ```text
//! output/.millstream-<job>-<operator>/attempt-<n>/part-<subtask>-<number>   before
//! output/part-<job>-<operator>-<n>-<subtask>-<number><suffix>               published
//! ```
//!
//! In published names, job and operator are the first 8 digits of their ids, so several jobs and
//! several sinks can share a directory, and an attempt's own files are known by their names.
//!
//! # Invariants
//! - Names that do not begin with a dot are files that are complete and on disk, and that a
//!   complete checkpoint has.
//! - A commit looks: a file that is gone from the hidden directory and there under its published
//!   name, with the length and the checksum that its writer noted, is published. So a commit may
//!   come again, also after one that died halfway. It looks at its own files and at the hidden
//!   directories alone, so its cost does not grow with the number of published files.
//! - Only what belongs to attempts that are named as ended is discarded. What they published stays
//!   where the job goes on from a checkpoint, and goes where it begins anew.
//! - The hidden directory goes last: while it exists, publishing is not over.
//! - Files of others are never touched; a published file never replaces one that is there. Only
//!   hidden directories of attempts that are surely dead are removed ([`leftovers`]).
//! - A job that fails removes the directories that it has made, if they are empty.

pub(crate) mod committer;
pub(crate) mod encoder;
mod leftovers;
pub(crate) mod writer;

use std::sync::Arc;
use std::time::Duration;

use millstream_connector::{
    AttemptId, CommitterInfo, JobId, OperatorId, PlanContext, Result, Sink, WriterInfo, bail,
};
use millstream_storage::{FilePath, FileSystem, FileSystems, StorageError};

use crate::file::place::settled;
use crate::file_sink::committer::FileCommitter;
use crate::file_sink::encoder::{CsvRecords, DisplayLines, Encoder, JsonLines, RecordsWith};
use crate::file_sink::leftovers::HIDDEN_PREFIX;
use crate::file_sink::writer::{FileSinkWriter, FinishedFile};

/// Default size of a file before the next one is begun.
const ROLL_BYTES: u64 = 128 << 20;

/// The longest suffix. A file's name may have 255 bytes, and what comes before needs up to 55.
const SUFFIX_BYTES_MAX: usize = 200;

/// Why a file sink failed.
#[derive(Debug, thiserror::Error)]
pub enum FileSinkError {
    /// The file system refused, or is not there.
    #[error("the output cannot be written")]
    Storage(#[from] StorageError),
    /// A file that is complete could not get its name.
    #[error("failed to publish {path}")]
    Publish {
        /// The file.
        path: FilePath,
        /// Why not.
        #[source]
        source: StorageError,
    },
    /// A file that is to be published is gone.
    #[error("{path} cannot be published: neither it nor {unpublished} exists; was it removed?")]
    Lost {
        /// The published name.
        path: FilePath,
        /// The name before.
        unpublished: FilePath,
    },
    /// Publishing would replace a file.
    #[error("{path} exists already and is not replaced: remove it first")]
    Exists {
        /// The file.
        path: FilePath,
    },
    /// Another attempt of the job has taken over and removed what this one wrote to.
    #[error("directory {path} of this attempt is gone: another attempt runs, or it was removed")]
    AttemptGone {
        /// The directory.
        path: FilePath,
    },
    /// The thread that completes files could not be started, or died.
    #[error("the thread that completes {path} died or was not started")]
    CloserDied {
        /// The file.
        path: FilePath,
    },
}

/// Writes records to files of a directory, which is made if it does not exist.
///
/// A path is on the disk of the machines that the tasks and the coordinator run on, and must lead
/// to the same directory on all of them, or on HDFS if it begins with `hdfs://` and the crate
/// `millstream` has its feature `hdfs`. A relative one starts at the working directory of the
/// client; where the program is planned on the cluster it is refused.
///
/// # Units
/// [`FileSink::roll_at_bytes`] counts bytes before any file ends, so files are larger than that by
/// up to one batch. A file also ends at each checkpoint.
///
/// # Errors
/// Files are published as checkpoints complete, and without checkpoints when the job's input has
/// ended: then a job with a source that never ends is refused. What the file system refuses fails
/// the task and names the file. A file that exists is never replaced: the job fails instead, when
/// it publishes.
///
/// # What stays behind
/// While the job runs, its files are in a directory `.millstream-<job>-<operator>` of the output
/// directory; both are gone after a failure, unless something else is in the output directory. A
/// job that is killed leaves the hidden directory, and the next job into the same directory removes
/// it: at once if the killed one's coordinator ran on the same machine, otherwise if it runs for
/// half a minute and the killed one has shown no sign of life for three. A job that has taken a
/// savepoint and ends before its next checkpoint leaves the directory too: a job that starts from
/// the savepoint publishes these files.
///
/// ```
/// use millstream::connectors::FileSink;
/// use std::time::Duration;
///
/// let lines = FileSink::lines("/data/lines").suffix(".txt");
/// let json = FileSink::json_lines("/data/json").roll_at_bytes(1 << 30);
/// let csv = FileSink::csv("/data/csv").roll_after(Duration::from_secs(3600));
/// # let _ = (lines, json, csv);
/// ```
#[derive(Debug, Clone)]
pub struct FileSink<E> {
    directory: FilePath,
    encoder: E,
    rolling: Rolling,
    suffix: String,
}

/// When a file is closed and the next one begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rolling {
    pub(crate) bytes: u64,
    pub(crate) after: Option<Duration>,
}

impl FileSink<()> {
    /// One line per record, as `Display` writes it.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let numbers = env.source("numbers", Datagen::sequence(0..3));
    /// numbers.sink("file", FileSink::lines(directory).suffix(".txt"));
    /// env.execute("write lines")?;
    /// let file = std::fs::read_dir(directory)?.next().unwrap()?.path();
    /// assert_eq!(std::fs::read_to_string(file)?, "0\n1\n2\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lines(directory: impl Into<FilePath>) -> FileSink<DisplayLines> {
        FileSink::with_encoder(directory, DisplayLines)
    }

    /// One JSON value per line. JSON has no infinite numbers: infinity and NaN are written as
    /// `null`, as serde does.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let pairs = env.source("pairs", Datagen::from_fn(|n| (n, n * n)).count(2));
    /// pairs.sink("file", FileSink::json_lines(directory).suffix(".json"));
    /// env.execute("write JSON")?;
    /// let file = std::fs::read_dir(directory)?.next().unwrap()?.path();
    /// assert_eq!(std::fs::read_to_string(file)?, "[0,0]\n[1,1]\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn json_lines(directory: impl Into<FilePath>) -> FileSink<JsonLines> {
        FileSink::with_encoder(directory, JsonLines)
    }

    /// CSV; each file begins with the names of the fields if the records have names.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// #[millstream::record]
    /// struct Square {
    ///     n: u64,
    ///     square: u64,
    /// }
    ///
    /// let source = Datagen::from_fn(|n| Square { n, square: n * n }).count(2);
    /// let squares = env.source("squares", source);
    /// squares.sink("file", FileSink::csv(directory).suffix(".csv"));
    /// env.execute("write CSV")?;
    /// let file = std::fs::read_dir(directory)?.next().unwrap()?.path();
    /// assert_eq!(std::fs::read_to_string(file)?, "n,square\n0,0\n1,1\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn csv(directory: impl Into<FilePath>) -> FileSink<CsvRecords> {
        FileSink::with_encoder(directory, CsvRecords)
    }

    /// Makes a sink whose function writes each record to the buffer, line end included.
    ///
    /// ```
    /// use std::io::Write;
    /// use millstream::connectors::FileSink;
    ///
    /// let sink = FileSink::with("/tmp/counts", |(word, count): &(String, u64), out| {
    ///     Ok(writeln!(out, "{word} {count}")?)
    /// });
    /// ```
    #[must_use]
    pub fn with<T, F>(directory: impl Into<FilePath>, write: F) -> FileSink<RecordsWith<F>>
    where
        F: FnMut(&T, &mut Vec<u8>) -> Result<()> + Clone + Send + Sync + 'static,
    {
        FileSink::with_encoder(directory, RecordsWith(write))
    }
}

impl<E> FileSink<E> {
    /// Records in a format of one's own.
    #[must_use]
    pub fn with_encoder(directory: impl Into<FilePath>, encoder: E) -> Self {
        let rolling = Rolling { bytes: ROLL_BYTES, after: None };
        Self { directory: directory.into(), encoder, rolling, suffix: String::new() }
    }

    /// Begins the next file when one has about this size: 128 MiB unless said otherwise.
    #[must_use]
    pub const fn roll_at_bytes(mut self, bytes: u64) -> Self {
        self.rolling.bytes = bytes;
        self
    }

    /// Begins the next file when one is this old; never unless said otherwise.
    #[must_use]
    pub const fn roll_after(mut self, age: Duration) -> Self {
        self.rolling.after = Some(age);
        self
    }

    /// The end of published names, as `.csv`: at most 200 bytes, without slashes.
    #[must_use]
    pub fn suffix(mut self, suffix: &str) -> Self {
        suffix.clone_into(&mut self.suffix);
        self
    }
}

impl<T, E> Sink<T> for FileSink<E>
where
    T: Send + 'static,
    E: Encoder<T>,
{
    type Committable = FinishedFile;
    type Writer = FileSinkWriter<E>;
    type Committer = FileCommitter;

    fn plan(&mut self, ctx: &mut PlanContext<'_>) -> Result<()> {
        check_suffix(&self.suffix, &self.directory)?;
        self.directory = settled(&self.directory, ctx)?;
        Ok(())
    }

    fn writer(&self, info: &WriterInfo) -> Result<FileSinkWriter<E>> {
        let places = Places::new(&self.directory, info.job, info.operator)?;
        Ok(FileSinkWriter::new(places, self.encoder.clone(), self.rolling, info))
    }

    fn committer(&self, info: &CommitterInfo) -> Result<FileCommitter> {
        let places = Places::new(&self.directory, info.job, info.operator)?;
        Ok(FileCommitter::new(places, self.suffix.clone()))
    }
}

/// Refuses an end of names that published files cannot have.
fn check_suffix(suffix: &str, directory: &FilePath) -> Result<()> {
    let why = if suffix.len() > SUFFIX_BYTES_MAX {
        format!("it has {} bytes, and at most {SUFFIX_BYTES_MAX} are possible", suffix.len())
    } else if suffix.contains('/') {
        "it holds a slash: name directories in the sink's path".to_owned()
    } else if suffix.chars().any(char::is_control) {
        "it holds a control character".to_owned()
    } else if suffix.contains("..") || suffix.ends_with('.') {
        "it holds two dots in a row, or ends in one".to_owned()
    } else if directory.local().is_none() && suffix.contains(':') {
        "it holds a colon, which names on HDFS cannot".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = suffix.chars().take(40).collect();
    bail!("the suffix {shown:?} cannot end the name of a file: {why}")
}

/// Where a job puts its files.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) system: Arc<dyn FileSystem>,
    /// The output directory that the user named.
    pub(crate) output: FilePath,
    /// The hidden directory of the attempts of this job.
    pub(crate) hidden: FilePath,
    /// The prefix of published files.
    prefix: String,
    pub(crate) job: JobId,
    operator: OperatorId,
}

impl Places {
    fn new(output: &FilePath, job: JobId, operator: OperatorId) -> Result<Self, FileSinkError> {
        Ok(Self::on(FileSystems::of_process().of(output)?, output, job, operator))
    }

    fn on(
        system: Arc<dyn FileSystem>,
        output: &FilePath,
        job: JobId,
        operator: OperatorId,
    ) -> Self {
        let (job_id, operator_id) = (job.to_string(), operator.to_string());
        let hidden = output.join(format!("{HIDDEN_PREFIX}{job_id}-{operator_id}"));
        let prefix = format!("part-{job_id:.8}-{operator_id:.8}-");
        Self { system, output: output.clone(), hidden, prefix, job, operator }
    }

    /// The places of another job, from whose savepoint this one has started.
    pub(crate) fn of_job(&self, job: JobId) -> Self {
        Self::on(Arc::clone(&self.system), &self.output, job, self.operator)
    }

    /// The directory of an attempt.
    pub(crate) fn attempt(&self, attempt: AttemptId) -> FilePath {
        self.hidden.join(format!("attempt-{attempt}"))
    }

    /// The name of a file until it is published.
    pub(crate) fn unpublished(&self, attempt: AttemptId, subtask: u32, number: u32) -> FilePath {
        self.attempt(attempt).join(format!("part-{subtask}-{number}"))
    }

    /// The name of a published file.
    pub(crate) fn published(&self, file: &FinishedFile, suffix: &str) -> FilePath {
        let FinishedFile { attempt, subtask, number, .. } = file;
        self.output.join(format!("{}{attempt}-{subtask}-{number}{suffix}", self.prefix))
    }

    /// Whether this is the name of a file that one of these attempts of the job has published.
    pub(crate) fn is_published_by(&self, attempts: &[AttemptId], name: &str) -> bool {
        let attempt = name.strip_prefix(&self.prefix).and_then(|rest| rest.split('-').next());
        attempt.is_some_and(|it| attempts.iter().any(|attempt| attempt.to_string() == it))
    }
}

#[cfg(test)]
mod tests;
