//! Small builders for the coordinator's tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_types::{
    CheckpointId, ExecutionAttemptId, JobId, LeaderEpoch, MaxParallelism, OperatorId, Timestamp,
    VertexId,
};

use crate::messages::{Now, OperatorSnapshot};
use crate::metadata::{
    Committables, Content, FileSegment, Handle, Owner, StateDescription, StateKind, SubtaskState,
};
use crate::plan::{Plan, PlannedOperator, PlannedVertex, Subtask};

/// A small generator (xorshift64*): the same numbers for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// A clock that a test moves.
#[derive(Clone, Copy)]
pub(crate) struct Time {
    start: Instant,
    pub(crate) ms: u64,
}

impl Time {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), ms: 0 }
    }

    pub(crate) fn now(self) -> Now {
        let wall = Timestamp::from_millis(i64::try_from(self.ms).unwrap());
        Now { instant: self.start + Duration::from_millis(self.ms), wall }
    }

    /// Moves to a time that the coordinator named.
    pub(crate) fn advance_to(&mut self, at: Instant) {
        let ms = at.saturating_duration_since(self.start).as_millis();
        self.ms = self.ms.max(u64::try_from(ms).unwrap());
    }
}

pub(crate) const fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number)
}

pub(crate) fn vertex_id(at: usize) -> VertexId {
    VertexId::from_u128(0x100 + at as u128)
}

pub(crate) fn operator_id(at: usize) -> OperatorId {
    OperatorId::from_u128(0x200 + at as u128)
}

pub(crate) fn subtask(vertex: usize, index: u32) -> Subtask {
    Subtask { vertex: vertex_id(vertex), index }
}

pub(crate) fn task(vertex: usize, index: u32, attempt: u32) -> ExecutionAttemptId {
    subtask(vertex, index).attempt(attempt)
}

/// A chain of vertices of these parallelisms: the first has an enumerator if the job has
/// coordinators, the last one a committer.
pub(crate) fn plan(parallelisms: &[u32], coordinated: bool) -> Plan {
    let last = parallelisms.len() - 1;
    let vertex = |(at, parallelism): (usize, &u32)| PlannedVertex {
        id: vertex_id(at),
        name: format!("v{at}"),
        parallelism: *parallelism,
        max_parallelism: MaxParallelism::DEFAULT,
        operators: vec![PlannedOperator {
            id: operator_id(at),
            uid: Some(format!("uid-{at}")),
            name: format!("o{at}"),
            coordinated: coordinated && at == 0,
            commits: at == last,
        }],
    };
    let vertices = parallelisms.iter().enumerate().map(vertex).collect();
    Plan { job: JobId::from_u128(7), vertices }
}

/// The index of a vertex of [`plan`].
pub(crate) fn place_of(vertex: VertexId) -> usize {
    usize::try_from(u128::from_be_bytes(*vertex.as_bytes()) - 0x100).unwrap()
}

pub(crate) const fn owner(attempt: u32) -> Owner {
    Owner { epoch: LeaderEpoch::new(1), attempt }
}

/// A snapshot of a task whose state is in these files.
pub(crate) fn snapshot(task: ExecutionAttemptId, files: &[String]) -> OperatorSnapshot {
    let handles = files.iter().map(|path| Handle {
        state: 0,
        owner: owner(task.attempt),
        content: Content::File(FileSegment { path: path.clone(), offset: 0, length: 9, crc32: 1 }),
        groups: Vec::new(),
    });
    OperatorSnapshot {
        operator: operator_id(place_of(task.vertex)),
        key_schema: None,
        states: vec![StateDescription {
            name: "s".to_owned(),
            kind: StateKind::Value,
            schema: Vec::new(),
        }],
        subtask: SubtaskState {
            finished: false,
            positions: Vec::new(),
            handles: handles.collect(),
        },
    }
}

/// Committables of a task.
pub(crate) fn committables(task: ExecutionAttemptId, checkpoint: u64) -> Arc<Committables> {
    Arc::new(Committables {
        operator: operator_id(place_of(task.vertex)),
        subtask: task.subtask,
        owner: owner(task.attempt),
        checkpoint: id(checkpoint),
        count: 1,
        bytes: vec![1],
    })
}
