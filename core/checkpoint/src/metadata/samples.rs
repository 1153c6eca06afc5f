//! Metadata for tests: a small one, and random ones.

use std::sync::Arc;

use millstream_types::{
    CheckpointId, JobId, KeyGroup, LeaderEpoch, MaxParallelism, OperatorId, Timestamp,
};

use super::{
    Committables, Content, FileSegment, GroupOffset, Handle, Kind, Metadata, OperatorState, Owner,
    StateDescription, StateKind, SubtaskState,
};

const OWNER: Owner = Owner { epoch: LeaderEpoch::new(3), attempt: 2 };

/// Metadata with every kind of part, in few bytes.
pub(crate) fn small() -> Metadata {
    let segment = FileSegment { path: "chk-7/a".to_owned(), offset: 5, length: 9, crc32: 0xabcd };
    let group = |group, offset| GroupOffset { group: KeyGroup::new(group), offset };
    let keyed = Handle {
        state: 0,
        owner: OWNER,
        content: Content::File(segment),
        groups: vec![group(0, 0), group(3, 4)],
    };
    let inline =
        Handle { state: 1, owner: OWNER, content: Content::Inline(vec![1, 2]), groups: vec![] };
    let counts = OperatorState {
        id: OperatorId::from_u128(1),
        uid: Some("u".to_owned()),
        name: "n".to_owned(),
        max_parallelism: MaxParallelism::new(4).unwrap(),
        key_schema: Some(vec![8]),
        coordinator: None,
        states: vec![
            StateDescription { name: "s".to_owned(), kind: StateKind::Value, schema: vec![7] },
            StateDescription {
                name: "t".to_owned(),
                kind: StateKind::OperatorList,
                schema: vec![],
            },
        ],
        subtasks: vec![SubtaskState {
            finished: false,
            positions: vec![],
            handles: vec![keyed, inline],
        }],
    };
    let source = OperatorState {
        id: OperatorId::from_u128(2),
        uid: None,
        name: String::new(),
        max_parallelism: MaxParallelism::DEFAULT,
        key_schema: None,
        coordinator: Some(vec![6, 6]),
        states: vec![],
        subtasks: vec![
            SubtaskState { finished: true, ..SubtaskState::default() },
            SubtaskState { finished: false, positions: vec![vec![4], vec![]], handles: vec![] },
        ],
    };
    let committables = Committables {
        operator: OperatorId::from_u128(2),
        subtask: 1,
        owner: OWNER,
        checkpoint: CheckpointId::new(6),
        count: 1,
        bytes: vec![9],
    };
    Metadata {
        job: JobId::from_u128(0xcafe),
        checkpoint: CheckpointId::new(7),
        kind: Kind::Stop { drain: true },
        triggered: Timestamp::from_millis(-2),
        operators: vec![counts, source],
        committables: vec![Arc::new(committables)],
    }
}
