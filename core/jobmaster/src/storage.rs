//! The storage of a job's checkpoints, as the actor uses it: each request in a task of its own,
//! with a deadline.

use std::time::Duration;

use millstream_checkpoint::Event;
use millstream_checkpoint_storage::{CheckpointFiles, Outcome};
use millstream_gateway::{CauseKind, FailureCause};
use millstream_types::{CheckpointId, JobId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{Instrument, Span, warn};

use crate::checkpoints::StorageRequest;

/// The longest time that a request may take. Whether it has an effect afterwards is not known.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of answers that may wait.
const ANSWERS_MAX: usize = 64;

/// The storage of one job's checkpoints.
#[derive(Debug)]
pub(crate) struct Storage {
    files: Option<CheckpointFiles>,
    answers: mpsc::Sender<Event>,
}

impl Storage {
    /// The storage in a directory, which is none if checkpoints are kept in memory; its answers;
    /// and why it cannot be used, if that is so.
    pub(crate) async fn open(
        job: JobId,
        directory: Option<String>,
    ) -> (Self, mpsc::Receiver<Event>, Option<FailureCause>) {
        let (answers, received) = mpsc::channel(ANSWERS_MAX);
        let Some(directory) = directory else {
            return (Self { files: None, answers }, received, None);
        };
        let (files, why) = match CheckpointFiles::open(&directory, job) {
            Err(error) => (None, Some(error.to_string())),
            Ok(files) => {
                let why = match timeout(PATIENCE, files.prepare()).await {
                    Ok(prepared) => prepared.err().map(|error| error.to_string()),
                    Err(_) => Some(late()),
                };
                (Some(files), why)
            }
        };
        let refusal = why.map(|why| {
            let message =
                format!("the directory for checkpoints {directory} cannot be used: {why}");
            FailureCause::new(CauseKind::Checkpoint, message)
        });
        (Self { files, answers }, received, refusal)
    }

    /// Carries a request out beside the actor.
    pub(crate) fn ask(&self, request: StorageRequest) {
        let Some(files) = self.files.clone() else { return };
        let answers = self.answers.clone();
        let work = async move {
            if let Some(answer) = answer(&files, request).await {
                let _ = answers.send(answer).await;
            }
        };
        tokio::spawn(work.instrument(Span::current()));
    }
}

fn late() -> String {
    format!("it did not answer within {PATIENCE:?}")
}

async fn answer(files: &CheckpointFiles, request: StorageRequest) -> Option<Event> {
    match request {
        StorageRequest::Store(id, metadata) => {
            let bytes = match metadata.encode() {
                Ok(bytes) => bytes,
                Err(error) => {
                    return Some(Event::StoreFailed { id, reason: error.to_string() });
                }
            };
            let stored = timeout(PATIENCE, files.store_metadata(id, bytes)).await;
            Some(outcome(id, stored.unwrap_or_else(|_| Outcome::Unknown(late()))))
        }
        StorageRequest::ReadBack(id) => {
            let stored = timeout(PATIENCE, files.is_stored(id)).await;
            Some(outcome(id, stored.unwrap_or_else(|_| Outcome::Unknown(late()))))
        }
        StorageRequest::Discard(id) => {
            Some(match timeout(PATIENCE, files.discard_metadata(id)).await {
                Ok(Ok(())) => Event::Discarded(id),
                Ok(Err(_)) | Err(_) => Event::NotDiscarded(id),
            })
        }
        StorageRequest::Delete(checkpoint, paths) => {
            let deleted = timeout(PATIENCE, files.delete(&paths)).await;
            tell(deleted);
            if let Some(id) = checkpoint {
                tell(timeout(PATIENCE, files.delete_checkpoint(id)).await);
            }
            None
        }
        StorageRequest::DeleteAll => {
            tell(timeout(PATIENCE, files.delete_all()).await);
            None
        }
    }
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
