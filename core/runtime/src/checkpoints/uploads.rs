//! Writes the snapshots of a host's tasks beside their work, and acknowledges each checkpoint once
//! its state is durable. What a task says at its end waits for what it has said before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use std::{fmt, io};

use millstream_checkpoint_storage::CheckpointFiles;
use millstream_operators::{Result, bail, error};
use millstream_protocol::host::{self, from_host, state_handle::Content};
use millstream_state::{GroupSnapshot, PartSink};
use millstream_storage::block_on;
use millstream_task_checkpoint::{PartSinks, TaskSnapshot};
use millstream_types::{Barrier, BarrierKind, CheckpointId, Clock, ExecutionAttemptId, OperatorId};

use super::HostCheckpointing;
use super::parts::{AllParts, Parts, Rooms, SnapshotId, StatePart, file_name, segment};
use super::snapshot::{self, Owner, all_committables, operators};
use crate::link::Outbox;
use crate::tasks::task_id;
use crate::turns::{Part, Run, Threads};

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
    /// A part of a snapshot that is being made.
    Part(StatePart),
    /// A snapshot comes to no end.
    Discard(SnapshotId),
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
    rooms: Arc<Rooms>,
    /// Whether parts can go to a file before their snapshots.
    takes_parts: bool,
}

impl Uploads {
    /// Starts the thread, if there are to be any; it ends with this.
    pub(crate) fn start(
        threads: &Threads,
        checkpointing: Arc<HostCheckpointing>,
        outbox: Outbox,
        clock: Clock,
    ) -> io::Result<Self> {
        let (requests, received) = sync_channel(WAITING_MAX);
        let (rooms, takes_parts) = (Arc::<Rooms>::default(), checkpointing.files.is_some());
        let uploader = Uploader {
            checkpointing,
            outbox: outbox.clone(),
            clock,
            savepoints: BTreeMap::new(),
            early: Vec::new(),
            parts: AllParts::default(),
            rooms: Arc::clone(&rooms),
        };
        threads.start("checkpoint-writer".to_owned(), Writer { uploader, requests: received })?;
        Ok(Self { requests, outbox, rooms, takes_parts })
    }

    /// The sinks for parts of a task's snapshots, if these go into files.
    pub(crate) fn sinks(&self, task: ExecutionAttemptId, owner: Owner) -> Option<PartSinks> {
        if !self.takes_parts {
            return None;
        }
        let (requests, rooms) = (self.requests.clone(), Arc::clone(&self.rooms));
        Some(Arc::new(move |checkpoint, operator| {
            Arc::new(OperatorParts {
                id: (task, checkpoint),
                owner,
                operator,
                requests: requests.clone(),
                rooms: Arc::clone(&rooms),
                begun: AtomicBool::new(false),
            })
        }))
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

/// Hands the parts of one operator's states to the thread that writes.
struct OperatorParts {
    id: SnapshotId,
    owner: Owner,
    operator: OperatorId,
    requests: SyncSender<Request>,
    rooms: Arc<Rooms>,
    /// Whether it has taken any.
    begun: AtomicBool,
}

impl PartSink for OperatorParts {
    fn take(&self, state: u32, part: GroupSnapshot) -> Result<Vec<u8>, GroupSnapshot> {
        if !self.rooms.enter() {
            return Err(part);
        }
        let Self { id, owner, operator, .. } = *self;
        let part = StatePart { id, owner, operator, state, part };
        match self.requests.try_send(Request::Part(part)) {
            Ok(()) => {
                self.begun.store(true, Ordering::Relaxed);
                Ok(self.rooms.get())
            }
            Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => {
                self.rooms.leave();
                let Request::Part(part) = request else { return Ok(Vec::new()) };
                Err(part.part)
            }
        }
    }
}

impl Drop for OperatorParts {
    fn drop(&mut self) {
        if self.begun.load(Ordering::Relaxed) {
            // If there is no room the file goes with the task's next snapshot.
            let _ = self.requests.try_send(Request::Discard(self.id));
        }
    }
}

impl fmt::Debug for OperatorParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorParts").field("operator", &self.operator).finish_non_exhaustive()
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
    parts: AllParts,
    rooms: Arc<Rooms>,
}

/// The uploader with what it is asked for.
struct Writer {
    uploader: Uploader,
    requests: Receiver<Request>,
}

impl Run for Writer {
    fn run(mut self) {
        for request in &self.requests {
            self.uploader.serve(request);
        }
    }
}

impl Part for Writer {
    fn turn(&mut self, _choice: usize) -> bool {
        let request = self.requests.try_recv();
        request.is_ok_and(|request| {
            self.uploader.serve(request);
            true
        })
    }

    fn writes_snapshots(&self) -> bool {
        true
    }
}

impl Uploader {
    fn serve(&mut self, request: Request) {
        match request {
            Request::Send(message) => self.outbox.send(message),
            Request::Upload(upload) if self.is_early(&upload) => self.early.push(upload),
            Request::Upload(upload) => {
                let said = self.upload(upload);
                self.outbox.send(said);
                self.parts.rest(&self.rooms);
            }
            Request::Part(part) => {
                self.parts.write(self.checkpointing.files.as_ref(), part, &self.rooms);
            }
            Request::Discard(id) => {
                self.parts.discard(id);
                self.parts.rest(&self.rooms);
            }
            Request::BeginSavepoint(id, directory) => self.begin_savepoint(id, &directory),
            Request::EndSavepoint(id) => {
                self.savepoints.remove(&id);
                self.early.retain(|upload| upload.snapshot.barrier.checkpoint > id);
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
            let said = self.upload(upload);
            self.outbox.send(said);
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
    fn upload(&mut self, mut upload: Upload) -> from_host::Message {
        let parts = std::mem::replace(&mut upload.snapshot.parts, Ok(Vec::new()));
        let id = (upload.task, upload.snapshot.barrier.checkpoint);
        let mut contents = Vec::new();
        let written = match parts {
            Err(why) => {
                self.parts.discard(id);
                return declined(&upload, why);
            }
            Ok(parts) => operators(parts, upload.owner, &mut contents).and_then(|operators| {
                let before = self.parts.take(id).map_err(|why| error!("{why}"))?;
                self.write(&upload, operators, contents, before)
            }),
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

    /// Gives each handle its content; the number of bytes. Large contents are one file, behind the
    /// parts that stand in it already.
    fn write(
        &self,
        upload: &Upload,
        mut operators: Vec<host::OperatorSnapshot>,
        contents: Vec<snapshot::Content>,
        before: Option<Parts>,
    ) -> Result<(Vec<host::OperatorSnapshot>, u64)> {
        let (files, inline_max) = self.files_for(upload)?;
        let id = upload.snapshot.barrier.checkpoint;
        let (mut bytes, mut file) = (0, None);
        if let Some(Parts { file: begun, handles, .. }) = before {
            file = Some(begun);
            bytes += add_handles(&mut operators, handles)?;
        }
        let handles = operators.iter_mut().flat_map(|operator| &mut operator.handles);
        let open = handles.filter(|handle| handle.content.is_none());
        let written = block_on(async {
            for (handle, content) in open.zip(contents) {
                let length = content.length;
                bytes += length;
                handle.content = Some(if length <= inline_max {
                    Content::Inline(content.into_bytes())
                } else {
                    let Some(files) = files else { bail!("{}", too_large(length, inline_max)) };
                    let to = match &mut file {
                        Some(file) => file,
                        None => file.insert(
                            files.create_state(id, &file_name(upload.task, upload.owner)).await?,
                        ),
                    };
                    for chunk in content.into_chunks() {
                        to.write(chunk).await?;
                    }
                    Content::File(segment(to.path(), to.end_content()))
                });
            }
            Ok(())
        });
        match (written, file) {
            (Ok(()), Some(file)) => block_on(file.close())?,
            (Ok(()), None) => {}
            (Err(error), file) => {
                file.into_iter().for_each(|file| block_on(file.discard()));
                return Err(error);
            }
        }
        Ok((operators, bytes))
    }
}

/// Adds handles of parts to those of their operators; the number of their bytes.
fn add_handles(
    operators: &mut [host::OperatorSnapshot],
    handles: Vec<(OperatorId, host::StateHandle)>,
) -> Result<u64> {
    let mut bytes = 0;
    for (operator, handle) in handles {
        if let Some(Content::File(segment)) = &handle.content {
            bytes += segment.length;
        }
        let of = operators.iter_mut().find(|of| of.operator_id == operator.as_bytes());
        let of = of.ok_or_else(|| error!("parts of operator {operator}, which has no snapshot"))?;
        of.handles.push(handle);
    }
    Ok(bytes)
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
