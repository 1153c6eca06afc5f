//! Writes the snapshots of a host's tasks beside their work, and acknowledges each checkpoint once
//! its state is durable. What a task says at its end waits for what it has said before.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use millstream_checkpoint_storage::CheckpointFiles;
use millstream_operators::{Result, bail, ensure};
use millstream_protocol::host::{self, from_host, state_handle::Content};
use millstream_storage::block_on;
use millstream_task_checkpoint::TaskSnapshot;
use millstream_types::{Barrier, BarrierKind, CheckpointId, Clock, ExecutionAttemptId};

use super::HostCheckpointing;
use super::snapshot::{self, Owner, all_committables, operators};
use crate::link::Outbox;
use crate::tasks::task_id;

/// The most snapshots that wait for their upload, each with the state of one task.
const WAITING_MAX: usize = 4096;

/// The largest state within a savepoint's metadata, also of a job that keeps its checkpoints in
/// memory and so has them all there.
const SAVEPOINT_INLINE_MAX: u64 = 1 << 20;

/// A snapshot that is to be written.
pub(crate) struct Upload {
    pub(crate) task: ExecutionAttemptId,
    pub(crate) owner: Owner,
    pub(crate) snapshot: TaskSnapshot,
}

enum Request {
    Upload(Upload),
    /// To be sent behind everything before it.
    Send(from_host::Message),
    /// The states of a savepoint go into this directory.
    BeginSavepoint(CheckpointId, String),
    /// A savepoint has ended.
    EndSavepoint(CheckpointId),
}

/// The control thread's way to the thread that writes.
pub(crate) struct Uploads {
    requests: SyncSender<Request>,
    outbox: Outbox,
}

impl Uploads {
    /// Starts the thread, which ends with this.
    pub(crate) fn start(
        checkpointing: Arc<HostCheckpointing>,
        outbox: Outbox,
        clock: Clock,
    ) -> io::Result<Self> {
        let (requests, received) = sync_channel(WAITING_MAX);
        let (savepoints, early) = (BTreeMap::new(), Vec::new());
        let mut uploader =
            Uploader { checkpointing, outbox: outbox.clone(), clock, savepoints, early };
        let thread = std::thread::Builder::new().name("checkpoint-writer".to_owned());
        thread.spawn(move || uploader.run(&received))?;
        Ok(Self { requests, outbox })
    }

    /// Has a snapshot written and acknowledged; refused if too many wait.
    pub(crate) fn upload(&self, upload: Upload) {
        if let Err(TrySendError::Full(Request::Upload(upload))) =
            self.requests.try_send(Request::Upload(upload))
        {
            let why = format!(
                "{WAITING_MAX} snapshots wait to be written: see whether the storage of \
                 checkpoints is slow or away"
            );
            self.outbox.send(declined(&upload, why));
        }
    }

    /// Says where a savepoint's states go. Those of tasks that were faster wait for it.
    pub(crate) fn begin_savepoint(&self, id: CheckpointId, directory: String) {
        let _ = self.requests.send(Request::BeginSavepoint(id, directory));
    }

    /// Forgets a savepoint.
    pub(crate) fn end_savepoint(&self, id: CheckpointId) {
        let _ = self.requests.send(Request::EndSavepoint(id));
    }

    /// Sends a message behind the acknowledgements of what is being written.
    pub(crate) fn send(&self, message: from_host::Message) {
        let _ = self.requests.send(Request::Send(message));
    }
}

fn declined(upload: &Upload, reason: String) -> from_host::Message {
    from_host::Message::CheckpointDeclined(host::CheckpointDeclined {
        task: Some(task_id(upload.task)),
        checkpoint: upload.snapshot.barrier.checkpoint.get(),
        reason,
    })
}

struct Uploader {
    checkpointing: Arc<HostCheckpointing>,
    outbox: Outbox,
    clock: Clock,
    /// The directories of the savepoints that are being taken, or why they cannot be used.
    savepoints: BTreeMap<CheckpointId, Result<CheckpointFiles, String>>,
    /// Snapshots for savepoints whose directory is not known yet.
    early: Vec<Upload>,
}

impl Uploader {
    fn run(&mut self, requests: &Receiver<Request>) {
        for request in requests {
            match request {
                Request::Send(message) => self.outbox.send(message),
                Request::Upload(upload) if self.is_early(&upload) => self.early.push(upload),
                Request::Upload(upload) => self.outbox.send(self.upload(upload)),
                Request::BeginSavepoint(id, directory) => self.begin_savepoint(id, &directory),
                Request::EndSavepoint(id) => {
                    self.savepoints.remove(&id);
                    self.early.retain(|upload| upload.snapshot.barrier.checkpoint > id);
                }
            }
        }
    }

    /// Whether the directory of a snapshot is still to be told: other hosts heard of the savepoint
    /// before this one, and their barriers were faster.
    fn is_early(&self, upload: &Upload) -> bool {
        let Barrier { checkpoint, kind, .. } = upload.snapshot.barrier;
        let is_checkpoint = matches!(kind, BarrierKind::Checkpoint | BarrierKind::Unaligned);
        !is_checkpoint && !self.savepoints.contains_key(&checkpoint)
    }

    fn begin_savepoint(&mut self, id: CheckpointId, directory: &str) {
        let files = CheckpointFiles::single(directory).map_err(|error| error.to_string());
        self.savepoints.insert(id, files);
        let is_known = |upload: &mut Upload| upload.snapshot.barrier.checkpoint == id;
        let known: Vec<Upload> = self.early.extract_if(.., is_known).collect();
        for upload in known {
            self.outbox.send(self.upload(upload));
        }
    }

    /// The files that a snapshot goes to, and the most bytes of a state that need none.
    fn files_for(&self, upload: &Upload) -> Result<(Option<&CheckpointFiles>, u64)> {
        let HostCheckpointing { files, inline_max } = &*self.checkpointing;
        match self.savepoints.get(&upload.snapshot.barrier.checkpoint) {
            Some(Ok(savepoint)) => Ok((Some(savepoint), (*inline_max).min(SAVEPOINT_INLINE_MAX))),
            Some(Err(why)) => bail!("{why}"),
            None => Ok((files.as_ref(), *inline_max)),
        }
    }

    /// Writes a snapshot: its acknowledgement, or why there is none.
    fn upload(&self, mut upload: Upload) -> from_host::Message {
        let parts = std::mem::replace(&mut upload.snapshot.parts, Ok(Vec::new()));
        let mut contents = Vec::new();
        let written = match parts {
            Err(why) => return declined(&upload, why),
            Ok(parts) => operators(parts, upload.owner, &mut contents)
                .and_then(|operators| self.write(&upload, operators, contents)),
        };
        match written {
            Ok((snapshots, bytes)) => self.acknowledged(&upload, snapshots, bytes),
            Err(error) => declined(&upload, format!("{error:#}")),
        }
    }

    fn acknowledged(
        &self,
        upload: &Upload,
        snapshots: Vec<host::OperatorSnapshot>,
        bytes: u64,
    ) -> from_host::Message {
        let Upload { task, owner, snapshot } = upload;
        if snapshot.in_flight.fell_back {
            tracing::info!(
                vertex = %task.vertex,
                subtask = task.subtask,
                checkpoint = %snapshot.barrier.checkpoint,
                "the barrier could not overtake at once: a writer keeps what it has taken, or what \
                 the task had accepted makes more results than fit beyond credits",
            );
        }
        let metrics = host::CheckpointMetrics {
            sync_ns: nanos(snapshot.sync),
            async_ns: nanos(self.clock.now().saturating_duration_since(snapshot.left)),
            checkpointed_bytes: bytes,
            persisted_bytes: snapshot.in_flight.bytes,
            unaligned: snapshot.in_flight.unaligned,
            alignment_ns: nanos(snapshot.in_flight.alignment),
            ..host::CheckpointMetrics::default()
        };
        from_host::Message::CheckpointAck(host::CheckpointAck {
            task: Some(task_id(*task)),
            checkpoint: snapshot.barrier.checkpoint.get(),
            snapshots,
            committables: all_committables(&snapshot.committables, task.subtask, *owner),
            metrics: Some(metrics),
        })
    }

    /// Gives each handle its content; the number of bytes. Large contents are one file.
    fn write(
        &self,
        upload: &Upload,
        mut operators: Vec<host::OperatorSnapshot>,
        contents: Vec<snapshot::Content>,
    ) -> Result<(Vec<host::OperatorSnapshot>, u64)> {
        let (files, inline_max) = self.files_for(upload)?;
        let (mut bytes, mut in_file, mut filed) = (0, 0, Vec::new());
        let handles = operators.iter_mut().flat_map(|operator| &mut operator.handles);
        for (handle, content) in handles.zip(contents) {
            let length = content.length;
            bytes += length;
            handle.content = Some(if length <= inline_max {
                Content::Inline(content.into_bytes())
            } else {
                ensure!(files.is_some(), "{}", too_large(length, inline_max));
                // Path and checksum are known when it is written.
                let (path, offset, crc32) = (String::new(), in_file, 0);
                in_file += length;
                filed.push(content.into_chunks());
                Content::File(host::FileSegment { path, offset, length, crc32 })
            });
        }
        if let (Some(files), false) = (files, filed.is_empty()) {
            let id = upload.snapshot.barrier.checkpoint;
            let written = block_on(files.write_state(id, &file_name(upload), filed))?;
            let handles = operators.iter_mut().flat_map(|operator| &mut operator.handles);
            let segments = handles.filter_map(|handle| match &mut handle.content {
                Some(Content::File(segment)) => Some(segment),
                Some(Content::Inline(_)) | None => None,
            });
            for (segment, crc32) in segments.zip(written.contents) {
                (segment.path, segment.crc32) = (written.path.clone(), crc32);
            }
        }
        Ok((operators, bytes))
    }
}

/// The name of the file for a task's state, which no other attempt of it uses.
fn file_name(upload: &Upload) -> String {
    let Upload { task, owner: Owner { epoch, attempt }, .. } = upload;
    format!("{}-{}-{}-{attempt}", task.vertex, task.subtask, epoch.get())
}

fn too_large(length: u64, most: u64) -> String {
    format!(
        "a state has {length} bytes, and without a directory for checkpoints {most} are the most: \
         set execution.checkpointing.dir"
    )
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
