//! Parts of large states that are written while the rest of a snapshot is still being made, so that
//! a snapshot does not take the memory of the state once more.
//!
//! A task's parts go to the file of its state, in the order in which they come. The parts of one
//! state that stand together there with ascending key groups are one handle. The rest of the
//! snapshot follows in the same file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use millstream_checkpoint_storage::{CheckpointFiles, Segment, StateFile};
use millstream_protocol::host::{self, state_handle::Content};
use millstream_state::GroupSnapshot;
use millstream_storage::block_on;
use millstream_types::{CheckpointId, ExecutionAttemptId, OperatorId};

use super::snapshot::Owner;

/// The most parts of a host that wait to be written. Those beyond stay in their snapshots.
const WAITING_MAX: usize = 64;

/// The largest buffer that is used again: a part is no larger unless one of its entries is.
const ROOM_MAX: usize = 512 << 10;

/// The buffers of parts, which go round between tasks and the thread that writes.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// The number of parts that wait.
    waiting: AtomicUsize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Rooms {
    /// Whether one more part may wait.
    pub(crate) fn enter(&self) -> bool {
        let enter = |waiting| (waiting < WAITING_MAX).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_ok()
    }

    /// A part does not wait any more.
    pub(crate) fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// A buffer, if one is free; the one that was used last.
    pub(crate) fn get(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes a buffer back, unless it is still in use.
    fn put(&self, bytes: Bytes) {
        if let Ok(room) = bytes.try_into_mut()
            && room.capacity() <= ROOM_MAX
        {
            let mut room = Vec::from(room);
            room.clear();
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(room);
        }
    }

    fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The snapshot of one task for one checkpoint.
pub(crate) type SnapshotId = (ExecutionAttemptId, CheckpointId);

/// A part that is to be written.
pub(crate) struct StatePart {
    pub(crate) id: SnapshotId,
    pub(crate) owner: Owner,
    pub(crate) operator: OperatorId,
    pub(crate) state: u32,
    pub(crate) part: GroupSnapshot,
}

/// The parts of one state that stand together in a file.
struct Run {
    operator: OperatorId,
    state: u32,
    groups: Vec<host::GroupOffset>,
    length: u64,
}

impl Run {
    fn is_followed_by(&self, part: &StatePart) -> bool {
        let last = self.groups.last().map_or(0, |last| last.group);
        (self.operator, self.state) == (part.operator, part.state)
            && last <= u32::from(part.part.group)
    }
}

/// A task's file, and what it has of the task's states so far.
pub(crate) struct Parts {
    pub(crate) file: StateFile,
    owner: Owner,
    /// The states that stand in it, by operator.
    pub(crate) handles: Vec<(OperatorId, host::StateHandle)>,
    run: Option<Run>,
}

impl Parts {
    fn end_run(&mut self) {
        let Some(Run { operator, state, groups, .. }) = self.run.take() else { return };
        let segment = segment(self.file.path(), self.file.end_content());
        let Owner { epoch, attempt } = self.owner;
        let content = Some(Content::File(segment));
        let handle = host::StateHandle { state, epoch: epoch.get(), attempt, content, groups };
        self.handles.push((operator, handle));
    }

    fn write(&mut self, part: StatePart, rooms: &Rooms) -> Result<(), String> {
        if self.run.as_ref().is_some_and(|run| !run.is_followed_by(&part)) {
            self.end_run();
        }
        let StatePart { operator, state, part, .. } = part;
        let GroupSnapshot { group, entries, bytes } = part;
        let (groups, length) = (Vec::new(), 0);
        let run = self.run.get_or_insert(Run { operator, state, groups, length });
        run.groups.push(host::GroupOffset { group: u32::from(group), offset: run.length });
        let (count, bytes) = (Bytes::copy_from_slice(&entries.to_le_bytes()), Bytes::from(bytes));
        run.length += (count.len() + bytes.len()) as u64;
        let written = block_on(async {
            self.file.write(count).await?;
            self.file.write(bytes.clone()).await
        });
        rooms.put(bytes);
        written.map_err(|error| error.to_string())
    }
}

/// The name of the file for a task's state, which no other attempt of it uses.
pub(crate) fn file_name(task: ExecutionAttemptId, Owner { epoch, attempt }: Owner) -> String {
    format!("{}-{}-{}-{attempt}", task.vertex, task.subtask, epoch.get())
}

/// A segment as a message.
pub(crate) fn segment(path: String, segment: Segment) -> host::FileSegment {
    let Segment { offset, length, crc32 } = segment;
    host::FileSegment { path, offset, length, crc32 }
}

/// The files of the snapshots of which parts have come, or why they cannot be written.
#[derive(Default)]
pub(crate) struct AllParts(BTreeMap<SnapshotId, Result<Parts, String>>);

impl AllParts {
    /// Writes a part.
    pub(crate) fn write(
        &mut self,
        files: Option<&CheckpointFiles>,
        part: StatePart,
        rooms: &Rooms,
    ) {
        rooms.leave();
        let (id, owner) = (part.id, part.owner);
        if !self.0.contains_key(&id) {
            // A task takes one snapshot at a time.
            self.discard_of(id.0);
        }
        let parts = self.0.entry(id).or_insert_with(|| {
            let files = files.ok_or("there is no directory for checkpoints")?;
            let file = block_on(files.create_state(id.1, &file_name(id.0, owner)));
            let file = file.map_err(|error| error.to_string())?;
            Ok(Parts { file, owner, handles: Vec::new(), run: None })
        });
        let Ok(to) = parts else { return };
        if let Err(why) = to.write(part, rooms)
            && let Ok(broken) = std::mem::replace(parts, Err(why))
        {
            block_on(broken.file.discard());
        }
    }

    /// Takes what there is of a snapshot that is whole.
    ///
    /// # Errors
    /// A part could not be written.
    pub(crate) fn take(&mut self, id: SnapshotId) -> Result<Option<Parts>, String> {
        let mut parts = self.0.remove(&id).transpose()?;
        parts.iter_mut().for_each(Parts::end_run);
        Ok(parts)
    }

    /// Deletes what there is of a snapshot without an end.
    pub(crate) fn discard(&mut self, id: SnapshotId) {
        if let Some(Ok(parts)) = self.0.remove(&id) {
            block_on(parts.file.discard());
        }
    }

    /// Frees the buffers if no snapshot is being written.
    pub(crate) fn rest(&self, rooms: &Rooms) {
        if self.0.is_empty() {
            rooms.clear();
        }
    }

    fn discard_of(&mut self, task: ExecutionAttemptId) {
        let ids: Vec<_> = self.0.keys().filter(|(other, _)| *other == task).copied().collect();
        ids.into_iter().for_each(|id| self.discard(id));
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{JobId, LeaderEpoch, VertexId};

    use super::*;

    const TASK: ExecutionAttemptId =
        ExecutionAttemptId { vertex: VertexId::from_u128(7), subtask: 1, attempt: 3 };

    fn part(checkpoint: u64, operator: u128, state: u32, group: u16) -> StatePart {
        let owner = Owner { epoch: LeaderEpoch::new(5), attempt: 3 };
        let (id, operator) =
            ((TASK, CheckpointId::new(checkpoint)), OperatorId::from_u128(operator));
        let bytes = vec![group as u8; 10 + usize::from(group)];
        StatePart { id, owner, operator, state, part: GroupSnapshot { group, entries: 2, bytes } }
    }

    fn files(directory: &tempfile::TempDir) -> CheckpointFiles {
        CheckpointFiles::open(directory.path().to_str().unwrap(), JobId::from_u128(1)).unwrap()
    }

    fn write(all: &mut AllParts, files: &CheckpointFiles, rooms: &Rooms, part: StatePart) {
        assert!(rooms.enter());
        all.write(Some(files), part, rooms);
    }

    #[test]
    fn parts_of_one_state_with_ascending_groups_are_one_handle() {
        let directory = tempfile::tempdir().unwrap();
        let (files, rooms, mut all) = (files(&directory), Rooms::default(), AllParts::default());
        let order = [(1, 0, 4), (1, 0, 4), (1, 0, 9), (1, 0, 2), (1, 1, 3), (2, 1, 3), (2, 1, 5)];
        for (operator, state, group) in order {
            write(&mut all, &files, &rooms, part(8, operator, state, group));
        }
        let parts = all.take((TASK, CheckpointId::new(8))).unwrap().unwrap();
        let path = parts.file.path();
        assert!(path.ends_with(&file_name(TASK, parts.owner)), "{path}");
        block_on(parts.file.close()).unwrap();
        let mut found = Vec::new();
        for (operator, handle) in parts.handles {
            let Some(Content::File(host::FileSegment { path, offset, length, crc32 })) =
                handle.content
            else {
                panic!("{operator} has no file")
            };
            let bytes = block_on(files.read(&path, offset, length, crc32)).unwrap();
            let numbers: Vec<u32> = handle.groups.iter().map(|at| at.group).collect();
            for host::GroupOffset { group, offset } in handle.groups {
                let (count, entries) = bytes[offset as usize..].split_first_chunk().unwrap();
                assert_eq!(u64::from_le_bytes(*count), 2);
                assert!(entries[..10 + group as usize].iter().all(|byte| *byte == group as u8));
            }
            found.push((operator, handle.state, numbers));
        }
        let operator = OperatorId::from_u128;
        let expected = [
            (operator(1), 0, vec![4, 4, 9]),
            (operator(1), 0, vec![2]),
            (operator(1), 1, vec![3]),
            (operator(2), 1, vec![3, 5]),
        ];
        assert_eq!(found, expected);
        assert!(all.take((TASK, CheckpointId::new(8))).unwrap().is_none(), "taken twice");
    }

    #[test]
    fn the_file_of_a_snapshot_without_an_end_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (files, rooms, mut all) = (files(&directory), Rooms::default(), AllParts::default());
        let left = || walk(directory.path());
        write(&mut all, &files, &rooms, part(1, 1, 0, 0));
        assert_eq!(left(), 1);
        all.discard((TASK, CheckpointId::new(1)));
        assert_eq!(left(), 0);
        write(&mut all, &files, &rooms, part(2, 1, 0, 0));
        write(&mut all, &files, &rooms, part(3, 1, 0, 0));
        assert_eq!(left(), 1, "the task's next snapshot ends the one before");
        assert!(all.take((TASK, CheckpointId::new(2))).unwrap().is_none());
        assert!(all.take((TASK, CheckpointId::new(3))).unwrap().is_some());
    }

    /// The number of files.
    fn walk(directory: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
        entries.map(|it| if it.path().is_dir() { walk(&it.path()) } else { 1 }).sum()
    }

    #[test]
    fn parts_that_cannot_be_written_refuse_the_snapshot_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (files, rooms, mut all) = (files(&directory), Rooms::default(), AllParts::default());
        std::fs::write(directory.path().join(JobId::from_u128(1).to_string()), "").unwrap();
        for _ in 0..3 {
            write(&mut all, &files, &rooms, part(1, 1, 0, 0));
        }
        let Err(why) = all.take((TASK, CheckpointId::new(1))) else { panic!("it is written") };
        assert!(why.contains("failed to"), "{why}");
        assert!(all.take((TASK, CheckpointId::new(1))).unwrap().is_none());
    }

    #[test]
    fn buffers_go_round_and_only_so_many_parts_wait() {
        let rooms = Rooms::default();
        assert!((0..WAITING_MAX).all(|_| rooms.enter()) && !rooms.enter());
        rooms.leave();
        assert!(rooms.enter());
        let mut used = Vec::with_capacity(100);
        used.push(1);
        let bytes = Bytes::from(used);
        let shared = bytes.clone();
        rooms.put(bytes);
        assert_eq!(rooms.get().capacity(), 0, "it is in use");
        rooms.put(shared);
        let room = rooms.get();
        assert_eq!((room.len(), room.capacity()), (0, 100));
    }
}
