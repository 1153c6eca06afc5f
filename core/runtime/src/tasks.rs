//! The tasks of a host: the newest attempt of each subtask, forgotten but for its number when it
//! has ended. So there are never more than the job has subtasks.

use std::collections::BTreeMap;

use millstream_protocol::host::TaskId;
use millstream_types::{ExecutionAttemptId, VertexId};

/// The newest attempt of each subtask.
#[derive(Debug)]
pub(crate) struct Tasks<T>(BTreeMap<(VertexId, u32), Attempt<T>>);

#[derive(Debug)]
struct Attempt<T> {
    number: u32,
    /// None once it has ended.
    task: Option<T>,
}

impl<T> Tasks<T> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The newest attempt of the same subtask, whether it runs or has ended.
    pub(crate) fn newest(&self, id: ExecutionAttemptId) -> Option<ExecutionAttemptId> {
        let newest = self.0.get(&(id.vertex, id.subtask))?;
        Some(ExecutionAttemptId { attempt: newest.number, ..id })
    }

    /// The task of this attempt, unless it has ended.
    pub(crate) fn get(&self, id: ExecutionAttemptId) -> Option<&T> {
        let newest = self.0.get(&(id.vertex, id.subtask))?;
        newest.task.as_ref().filter(|_| newest.number == id.attempt)
    }

    /// Adds an attempt in place of its subtask's one before it.
    pub(crate) fn insert(&mut self, id: ExecutionAttemptId, task: T) {
        let attempt = Attempt { number: id.attempt, task: Some(task) };
        self.0.insert((id.vertex, id.subtask), attempt);
    }

    /// Takes the task of an attempt that has ended.
    pub(crate) fn end(&mut self, id: ExecutionAttemptId) -> Option<T> {
        let newest = self.0.get_mut(&(id.vertex, id.subtask))?;
        if newest.number == id.attempt { newest.task.take() } else { None }
    }

    /// The attempts that have not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = (ExecutionAttemptId, &T)> {
        self.0.iter().filter_map(|((vertex, subtask), attempt)| {
            let (vertex, subtask, number) = (*vertex, *subtask, attempt.number);
            let id = ExecutionAttemptId { vertex, subtask, attempt: number };
            Some((id, attempt.task.as_ref()?))
        })
    }
}

/// The name of an attempt in messages.
pub(crate) fn task_id(id: ExecutionAttemptId) -> TaskId {
    let vertex = id.vertex.as_bytes().to_vec();
    TaskId { vertex, subtask: id.subtask, attempt: id.attempt }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(subtask: u32, attempt: u32) -> ExecutionAttemptId {
        ExecutionAttemptId { vertex: VertexId::from_u128(1), subtask, attempt }
    }

    #[test]
    fn a_host_keeps_one_attempt_of_each_subtask_and_forgets_what_has_ended() {
        let mut tasks = Tasks::new();
        for attempt in 0..1_000 {
            for subtask in 0..3 {
                assert_eq!(tasks.get(id(subtask, attempt)), None);
                tasks.insert(id(subtask, attempt), attempt);
            }
            assert_eq!(tasks.end(id(0, attempt)), Some(attempt));
            assert_eq!(tasks.end(id(0, attempt)), None, "it has ended");
            assert_eq!(tasks.newest(id(0, 0)), Some(id(0, attempt)), "so it is not started again");
        }
        assert_eq!(tasks.end(id(1, 998)), None, "a newer one is in its place");
        let running: Vec<_> = tasks.running().collect();
        assert_eq!(running, [(id(1, 999), &999), (id(2, 999), &999)]);
        assert_eq!(tasks.0.len(), 3);
    }
}
