//! The disposal of savepoints.
//!
//! [`StoredSavepoints`] deletes the files of one; [`Disposals`] does so beside the request and
//! remembers the outcome for a while, so that clients can ask for it.
//!
//! The metadata of a savepoint is deleted first: without it the files that are left start no job.
//! Only files that the metadata names are deleted, and only in the savepoint's own directory;
//! nothing is deleted recursively.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_checkpoint::Metadata;
use millstream_checkpoint_storage::CheckpointFiles;
use millstream_types::{CheckpointId, TriggerId, with_sources};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

/// Limit of operations that are remembered.
const OPERATIONS_MAX: usize = 256;
/// Time for which the outcome of an operation is remembered.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// Limit of disposals that run at the same time.
const RUNNING_MAX: usize = 4;

/// Deletes savepoints.
pub trait SavepointDisposer: Send + Sync + std::fmt::Debug {
    /// Deletes the savepoint in this directory; the path may name its metadata, too.
    ///
    /// # Errors
    /// It is none, or something of it is left, as a sentence.
    fn dispose(&self, path: String) -> BoxFuture<'static, Result<(), String>>;
}

/// Savepoints on the file systems of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoredSavepoints;

impl SavepointDisposer for StoredSavepoints {
    fn dispose(&self, path: String) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move { dispose(&path).await })
    }
}

/// The checkpoint that a directory of its own holds needs no id.
const ANY: CheckpointId = CheckpointId::FIRST;

async fn dispose(path: &str) -> Result<(), String> {
    let place = CheckpointFiles::single(path).map_err(|error| with_sources(&error))?;
    let directory = place.root();
    let metadata = metadata_of_savepoint(&place).await?;
    let files = place.present(metadata.files()).await.map_err(|error| with_sources(&error))?;
    place.discard_metadata(ANY).await.map_err(|error| with_sources(&error))?;
    if let Err(error) = place.delete(&files).await {
        let error = with_sources(&error);
        return Err(format!(
            "the savepoint {directory} is gone, but files of it are left: {error}"
        ));
    }
    // Other files are not the savepoint's: a directory with contents stays.
    let _ = place.delete_checkpoint(ANY).await;
    info!(directory, "savepoint disposed of");
    Ok(())
}

async fn metadata_of_savepoint(place: &CheckpointFiles) -> Result<Metadata, String> {
    let directory = place.root();
    let bytes = match place.load_metadata(ANY).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            return Err(format!("there is no savepoint in {directory}: it has no _metadata"));
        }
        Err(error) => return Err(with_sources(&error)),
    };
    let file = format!("{}/_metadata", directory.trim_end_matches('/'));
    let decoded = tokio::task::spawn_blocking(move || Metadata::decode(&file, &bytes)).await;
    let decoded = decoded
        .map_err(|_| format!("{directory} cannot be read because of a bug in the JobManager"))?
        .map_err(|error| with_sources(&error))?;
    if !decoded.kind.is_savepoint() {
        let (job, kind) = (decoded.job, decoded.kind);
        return Err(format!(
            "{directory} is no savepoint but a {kind} of job {job}, whose files other checkpoints \
             may need"
        ));
    }
    Ok(decoded)
}

/// The state of a disposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disposal {
    /// It waits or runs.
    Running,
    /// It has ended.
    Done(Result<(), String>),
}

/// The reason why a disposal was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The id belongs to the disposal of another savepoint.
    OtherPath,
    /// Too many run.
    Full,
}

#[derive(Debug)]
struct Operation {
    path: String,
    state: Disposal,
    /// The time of its end; of its start while it runs.
    since: Instant,
}

/// Disposals of savepoints, running and lately ended. Cloned cheaply.
#[derive(Debug, Clone)]
pub struct Disposals {
    disposer: Arc<dyn SavepointDisposer>,
    operations: Arc<Mutex<BTreeMap<TriggerId, Operation>>>,
    turns: Arc<Semaphore>,
}

impl Disposals {
    /// No disposals yet.
    #[must_use]
    pub fn new(disposer: Arc<dyn SavepointDisposer>) -> Self {
        Self { disposer, operations: Arc::default(), turns: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }

    /// Starts one beside the caller. A known id starts nothing.
    pub(crate) fn start(&self, trigger: TriggerId, path: String) -> Result<(), Refused> {
        let mut operations = self.remembered();
        match operations.get(&trigger) {
            Some(known) if known.path == path => return Ok(()),
            Some(_) => return Err(Refused::OtherPath),
            None => {}
        }
        if operations.len() >= OPERATIONS_MAX {
            let ended = operations.iter().filter(|(_, known)| known.state != Disposal::Running);
            let oldest = ended.min_by_key(|(_, known)| known.since).map(|(trigger, _)| *trigger);
            operations.remove(&oldest.ok_or(Refused::Full)?);
        }
        let (state, since) = (Disposal::Running, Instant::now());
        operations.insert(trigger, Operation { path: path.clone(), state, since });
        drop(operations);
        tokio::spawn(self.clone().run(trigger, path));
        Ok(())
    }

    async fn run(self, trigger: TriggerId, path: String) {
        let _turn = self.turns.acquire().await;
        // A task of its own, so that a panic is an outcome, too.
        let outcome = tokio::spawn(self.disposer.dispose(path.clone())).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(format!("the disposal of {path} ended because of a bug in the JobManager"))
        });
        if let Err(reason) = &outcome {
            warn!(path, reason, "a savepoint was not disposed of");
        }
        if let Some(operation) = self.remembered().get_mut(&trigger) {
            (operation.state, operation.since) = (Disposal::Done(outcome), Instant::now());
        }
    }

    /// The state of the disposal with this id, if it is remembered.
    pub(crate) fn get(&self, trigger: TriggerId) -> Option<Disposal> {
        self.remembered().get(&trigger).map(|operation| operation.state.clone())
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeMap<TriggerId, Operation>> {
        // Whole entries are changed: nothing is left half done by a panic.
        let mut all = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, known| known.state == Disposal::Running || known.since + KEPT_FOR > now);
        all
    }
}

#[cfg(test)]
mod tests;
