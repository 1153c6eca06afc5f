//! The checkpoints of a host's tasks: what travels to the JobMaster and back, and the thread that
//! writes state beside the tasks' work.

mod parts;
mod restore;
mod snapshot;
mod uploads;

use std::sync::Arc;

use millstream_checkpoint_storage::CheckpointFiles;
use millstream_operators::{Result, bail};
use millstream_protocol::host;
use millstream_types::{Barrier, BarrierKind, CheckpointId, JobId};

pub(crate) use restore::Restore;
pub(crate) use snapshot::{Owner, all_committables};
pub(crate) use uploads::{Upload, Uploads};

/// The part of a host in checkpoints: where its tasks put their state.
#[derive(Debug, Clone)]
pub struct HostCheckpointing {
    /// `None`: checkpoints are kept in the memory of the JobManager.
    files: Option<CheckpointFiles>,
    /// State of more bytes goes into a file; if there are none, it is refused.
    inline_max: u64,
}

impl HostCheckpointing {
    /// As the parent says it when the host begins.
    ///
    /// # Errors
    /// The directory cannot be meant as it is written.
    pub fn of(begin: &host::Begin) -> Result<Option<Arc<Self>>> {
        let Some(checkpointing) = &begin.checkpointing else { return Ok(None) };
        let job = JobId::try_from(begin.job_id.as_slice())?;
        let files = match checkpointing.directory.as_str() {
            "" => None,
            directory => Some(CheckpointFiles::open(directory, job)?),
        };
        Ok(Some(Arc::new(Self { files, inline_max: checkpointing.inline_max })))
    }
}

/// The barrier that tasks are told to emit.
pub(crate) fn barrier(trigger: &host::TriggerCheckpoint) -> Result<Barrier> {
    let kind = match trigger.kind() {
        host::CheckpointKind::Unspecified => bail!("a checkpoint of an unknown kind"),
        host::CheckpointKind::Checkpoint => BarrierKind::Checkpoint,
        host::CheckpointKind::Unaligned => BarrierKind::Unaligned,
        host::CheckpointKind::Savepoint => BarrierKind::Savepoint,
        host::CheckpointKind::Stop => BarrierKind::Stop { drain: false },
        host::CheckpointKind::StopAndDrain => BarrierKind::Stop { drain: true },
    };
    Ok(Barrier::new(CheckpointId::new(trigger.checkpoint), kind))
}
