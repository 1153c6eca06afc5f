//! The storage of a job's checkpoints, as the actor uses it: each request in a task of its own,
//! with a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_checkpoint::{Event, Metadata, metadata::Content};
use millstream_checkpoint_storage::{CheckpointFiles, Outcome};
use millstream_config::ClaimMode;
use millstream_gateway::{CauseKind, FailureCause};
use millstream_types::{CheckpointId, JobId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{Instrument, Span, warn};

use crate::checkpoints::{Loaded, StorageAnswer, StorageRequest};
use crate::config::Recovery;

/// The longest time that a request may take. Whether it has an effect afterwards is not known.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of answers that may wait.
const ANSWERS_MAX: usize = 64;

/// The checkpoint of a user that the job has taken over: it is elsewhere than the job's own.
#[derive(Debug, Clone)]
struct Claimed {
    id: CheckpointId,
    place: CheckpointFiles,
    files: Vec<String>,
}

/// The storage of one job's checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// `None`: they are kept in memory.
    files: Option<CheckpointFiles>,
    claimed: Option<Claimed>,
    answers: mpsc::Sender<StorageAnswer>,
}

/// The beginning of a job, as far as its checkpoints are concerned.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) storage: Storage,
    pub(crate) answers: mpsc::Receiver<StorageAnswer>,
    /// The checkpoint that the job starts from, or why it cannot start.
    pub(crate) start: Result<Option<Box<Loaded>>, FailureCause>,
}

impl Storage {
    /// The storage in a directory, which is none if checkpoints are kept in memory, and the
    /// checkpoint that the job starts from.
    pub(crate) async fn open(
        job: JobId,
        directory: Option<String>,
        recovery: Option<Recovery>,
    ) -> Opened {
        let (answers, received) = mpsc::channel(ANSWERS_MAX);
        let mut storage = Self { files: None, claimed: None, answers };
        let start = match storage.begin(job, directory, recovery).await {
            Ok(loaded) => Ok(loaded.map(Box::new)),
            Err(message) => Err(FailureCause::new(CauseKind::Checkpoint, message)),
        };
        Opened { storage, answers: received, start }
    }

    async fn begin(
        &mut self,
        job: JobId,
        directory: Option<String>,
        recovery: Option<Recovery>,
    ) -> Result<Option<Loaded>, String> {
        if let Some(directory) = directory {
            let refused =
                |why| format!("the directory for checkpoints {directory} cannot be used: {why}");
            let files = CheckpointFiles::open(&directory, job);
            let files = files.map_err(|error| refused(error.to_string()))?;
            prepare(&files).await.map_err(refused)?;
            self.files = Some(files);
        }
        let Some(Recovery { path, claim, .. }) = recovery else { return Ok(None) };
        let refused = |why| format!("the job cannot start from {path}: {why}");
        let place = CheckpointFiles::single(&path).map_err(|error| refused(error.to_string()))?;
        let loaded = timeout(PATIENCE, load(&place)).await.unwrap_or_else(|_| Err(late()));
        let loaded = loaded.map_err(refused)?;
        if claim == ClaimMode::Claim {
            let id = loaded.metadata.checkpoint;
            let files = loaded.metadata.files().map(str::to_owned).collect();
            self.claimed = Some(Claimed { id, place, files });
        }
        Ok(Some(loaded))
    }

    /// Carries a request out beside the actor.
    pub(crate) fn ask(&self, request: StorageRequest) {
        let storage = self.clone();
        let work = async move {
            if let Some(answer) = storage.answer(request).await {
                let _ = storage.answers.send(answer).await;
            }
        };
        tokio::spawn(work.instrument(Span::current()));
    }

    async fn answer(&self, request: StorageRequest) -> Option<StorageAnswer> {
        Some(StorageAnswer::News(match request {
            StorageRequest::Prepare(trigger, directory) => {
                let prepared = match CheckpointFiles::single(&directory) {
                    Ok(files) => prepare(&files).await,
                    Err(error) => Err(error.to_string()),
                };
                let refused =
                    |why| format!("the directory for savepoints {directory} cannot be used: {why}");
                return Some(StorageAnswer::Prepared(trigger, prepared.map_err(refused)));
            }
            StorageRequest::Remove(directory) => {
                if let Ok(files) = CheckpointFiles::single(&directory) {
                    tell(timeout(PATIENCE, files.delete_all()).await);
                }
                return None;
            }
            StorageRequest::Store(id, metadata, directory) => {
                match (self.place(id, directory), metadata.encode()) {
                    (Ok(files), Ok(bytes)) => {
                        let stored = timeout(PATIENCE, files.store_metadata(id, bytes)).await;
                        outcome(id, stored.unwrap_or_else(|_| Outcome::Unknown(late())))
                    }
                    (Err(reason), _) => Event::StoreFailed { id, reason },
                    (_, Err(error)) => Event::StoreFailed { id, reason: error.to_string() },
                }
            }
            StorageRequest::ReadBack(id, directory) => match self.place(id, directory) {
                Ok(files) => {
                    let stored = timeout(PATIENCE, files.is_stored(id)).await;
                    outcome(id, stored.unwrap_or_else(|_| Outcome::Unknown(late())))
                }
                Err(reason) => Event::StoreUnknown { id, reason },
            },
            StorageRequest::Discard(id) => {
                let files = self.place(id, None).ok()?;
                match timeout(PATIENCE, files.discard_metadata(id)).await {
                    Ok(Ok(())) => Event::Discarded(id),
                    Ok(Err(_)) | Err(_) => Event::NotDiscarded(id),
                }
            }
            StorageRequest::Delete(checkpoint, paths) => {
                self.delete(checkpoint, &paths).await;
                return None;
            }
            StorageRequest::DeleteAll => {
                if let Some(files) = &self.files {
                    tell(timeout(PATIENCE, files.delete_all()).await);
                }
                return None;
            }
            StorageRequest::DeleteClaimed => {
                if let Some(Claimed { id, place, files }) = &self.claimed {
                    tell(timeout(PATIENCE, place.discard_metadata(*id)).await);
                    self.delete(Some(*id), files).await;
                }
                return None;
            }
        }))
    }

    /// The files of a checkpoint: in the directory of its savepoint, or in that of the job.
    fn place(
        &self,
        id: CheckpointId,
        directory: Option<String>,
    ) -> Result<CheckpointFiles, String> {
        if let Some(directory) = directory {
            return CheckpointFiles::single(&directory).map_err(|error| error.to_string());
        }
        let claimed = self.claimed.as_ref().filter(|claimed| claimed.id == id);
        let files = claimed.map(|claimed| &claimed.place).or(self.files.as_ref());
        files.cloned().ok_or_else(|| "checkpoints are kept in memory".to_owned())
    }

    /// Deletes files, each where it belongs. One of a savepoint is left to its user.
    async fn delete(&self, checkpoint: Option<CheckpointId>, paths: &[String]) {
        let claimed = self.claimed.as_ref().filter(|claimed| checkpoint == Some(claimed.id));
        let place = claimed.map(|claimed| &claimed.place).or(self.files.as_ref());
        let Some(place) = place else { return };
        let own: Vec<String> = paths.iter().filter(|path| place.contains(path)).cloned().collect();
        tell(timeout(PATIENCE, place.delete(&own)).await);
        if let Some(id) = checkpoint {
            tell(timeout(PATIENCE, place.delete_checkpoint(id)).await);
        }
    }
}

async fn prepare(files: &CheckpointFiles) -> Result<(), String> {
    match timeout(PATIENCE, files.prepare()).await {
        Ok(prepared) => prepared.map_err(|error| error.to_string()),
        Err(_) => Err(late()),
    }
}

/// Reads the metadata of a checkpoint that was moved perhaps, and looks for each of its files.
async fn load(place: &CheckpointFiles) -> Result<Loaded, String> {
    let id = CheckpointId::new(0);
    let bytes = place.load_metadata(id).await.map_err(|error| error.to_string())?;
    let directory = place.root();
    let file = format!("{}/_metadata", directory.trim_end_matches('/'));
    let mut metadata = Metadata::decode(&file, &bytes).map_err(|error| error.to_string())?;
    let mut lengths: BTreeMap<String, u64> = BTreeMap::new();
    let subtasks = metadata.operators.iter_mut().flat_map(|operator| &mut operator.subtasks);
    for handle in subtasks.flat_map(|subtask| &mut subtask.handles) {
        if let Content::File(segment) = &mut handle.content {
            let moved = place.moved(&segment.path);
            segment.path = moved.ok_or_else(|| format!("{file} names no file for a state"))?;
            let end = segment.offset.saturating_add(segment.length);
            let length = lengths.entry(segment.path.clone()).or_default();
            *length = end.max(*length);
        }
    }
    for (path, length) in lengths {
        place.check_length(&path, length).await.map_err(|error| error.to_string())?;
    }
    Ok(Loaded { metadata, directory })
}

fn late() -> String {
    format!("it did not answer within {PATIENCE:?}")
}

fn outcome(id: CheckpointId, outcome: Outcome) -> Event {
    match outcome {
        Outcome::Stored => Event::Stored(id),
        Outcome::Failed(reason) => Event::StoreFailed { id, reason },
        Outcome::Unknown(reason) => Event::StoreUnknown { id, reason },
    }
}

/// Says in the log that files of checkpoints are left behind.
fn tell<E: std::fmt::Display>(deleted: Result<Result<(), E>, tokio::time::error::Elapsed>) {
    match deleted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "files of a checkpoint are left behind"),
        Err(_) => warn!(error = late(), "files of a checkpoint are left behind"),
    }
}

#[cfg(test)]
mod tests {
    use millstream_checkpoint::metadata::{
        FileSegment, Handle, Kind, OperatorState, Owner, StateDescription, StateKind, SubtaskState,
    };
    use millstream_types::{LeaderEpoch, MaxParallelism, OperatorId, Timestamp};

    use super::*;

    /// A savepoint with a file that it names where it was before it was moved.
    fn savepoint() -> Metadata {
        let path = "/before/state-1".to_owned();
        let handle = Handle {
            state: 0,
            owner: Owner { epoch: LeaderEpoch::new(1), attempt: 0 },
            content: Content::File(FileSegment { path, offset: 0, length: 5, crc32: 0 }),
            groups: Vec::new(),
        };
        let kind = StateKind::OperatorList;
        let counts = OperatorState {
            id: OperatorId::from_u128(1),
            uid: None,
            name: "count".to_owned(),
            max_parallelism: MaxParallelism::DEFAULT,
            key_schema: None,
            coordinator: None,
            states: vec![StateDescription { name: "s".to_owned(), kind, schema: Vec::new() }],
            subtasks: vec![SubtaskState { handles: vec![handle], ..SubtaskState::default() }],
        };
        Metadata {
            job: JobId::from_u128(8),
            checkpoint: CheckpointId::new(40),
            kind: Kind::Savepoint,
            triggered: Timestamp::from_millis(0),
            operators: vec![counts],
            committables: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_job_deletes_a_savepoint_that_it_has_claimed_and_no_other() {
        for (claim, stays) in [(ClaimMode::NoClaim, true), (ClaimMode::Claim, false)] {
            let directory = tempfile::tempdir().unwrap();
            let [metadata, state] = ["_metadata", "state-1"].map(|it| directory.path().join(it));
            std::fs::write(&metadata, savepoint().encode().unwrap()).unwrap();
            std::fs::write(&state, "state").unwrap();
            let path = directory.path().display().to_string();
            let recovery = Recovery { path, ignore_unclaimed: false, claim };
            let Opened { storage, start, .. } =
                Storage::open(JobId::from_u128(7), None, Some(recovery)).await;
            let loaded = start.unwrap().unwrap();
            let found = loaded.metadata.files().next().map(str::to_owned);
            assert_eq!(found, Some(state.display().to_string()), "where it is now");
            storage.answer(StorageRequest::DeleteAll).await;
            assert!(metadata.exists() && state.exists(), "it is not the job's alone");
            storage.answer(StorageRequest::DeleteClaimed).await;
            assert_eq!((metadata.exists(), state.exists()), (stays, stays), "{claim:?}");
        }
    }

    #[tokio::test]
    async fn a_savepoint_that_is_not_whole_starts_no_job() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let claim = ClaimMode::NoClaim;
        let recovery = Some(Recovery { path, ignore_unclaimed: false, claim });
        let open = || async {
            let opened = Storage::open(JobId::from_u128(7), None, recovery.clone()).await;
            opened.start.unwrap_err().message
        };
        assert!(open().await.starts_with("the job cannot start from "));
        std::fs::write(directory.path().join("_metadata"), savepoint().encode().unwrap()).unwrap();
        assert!(open().await.contains("state-1"));
        std::fs::write(directory.path().join("state-1"), "stat").unwrap();
        assert!(open().await.contains("state-1"));
    }
}
