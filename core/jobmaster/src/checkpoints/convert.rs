//! Messages of hosts as the decider of checkpoints knows them, and back. Everything that comes from
//! a host is checked.

use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::messages::{Ack, AckMetrics, OperatorSnapshot};
use millstream_checkpoint::metadata::{
    Committables, Content, FileSegment, GroupOffset, Handle, Kind, Owner, StateDescription,
    StateKind, SubtaskState,
};
use millstream_checkpoint::plan::{Plan, PlannedOperator, PlannedVertex};
use millstream_graph::JobGraph;
use millstream_protocol::host::{self, state_handle};
use millstream_types::{CheckpointId, JobId, KeyGroup, LeaderEpoch, OperatorId};

const STATE_KINDS: [(StateKind, host::StateKind); 9] = [
    (StateKind::Value, host::StateKind::Value),
    (StateKind::List, host::StateKind::List),
    (StateKind::Map, host::StateKind::Map),
    (StateKind::Reducing, host::StateKind::Reducing),
    (StateKind::Aggregating, host::StateKind::Aggregating),
    (StateKind::Timers, host::StateKind::Timers),
    (StateKind::Broadcast, host::StateKind::Broadcast),
    (StateKind::OperatorList, host::StateKind::OperatorList),
    (StateKind::OperatorUnion, host::StateKind::OperatorUnion),
];

/// The job as the decider needs to know it.
pub(super) fn plan(job: JobId, graph: &JobGraph) -> Plan {
    let vertices = graph.vertices.iter().map(|vertex| {
        let operators = vertex.operators.iter().map(|operator| PlannedOperator {
            id: operator.id,
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            coordinated: operator.coordinated && operator.source,
            commits: operator.coordinated && !operator.source,
        });
        PlannedVertex {
            id: vertex.id,
            name: vertex.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            operators: operators.collect(),
        }
    });
    Plan { job, vertices: vertices.collect() }
}

/// The kind of a checkpoint as tasks are told it.
pub(super) const fn kind(kind: Kind) -> host::CheckpointKind {
    match kind {
        Kind::Checkpoint | Kind::Final => host::CheckpointKind::Checkpoint,
        Kind::Savepoint => host::CheckpointKind::Savepoint,
        Kind::Stop { drain: false } => host::CheckpointKind::Stop,
        Kind::Stop { drain: true } => host::CheckpointKind::StopAndDrain,
    }
}

/// Committables as a message.
pub(super) fn of(one: &Committables) -> host::Committables {
    host::Committables {
        operator_id: one.operator.as_bytes().to_vec(),
        subtask: one.subtask,
        epoch: one.owner.epoch.get(),
        attempt: one.owner.attempt,
        checkpoint: one.checkpoint.get(),
        count: one.count,
        payload: one.bytes.clone(),
    }
}

/// Committables of a message.
///
/// # Errors
/// An operator has no id.
pub(super) fn committables(
    messages: Vec<host::Committables>,
) -> Result<Vec<Arc<Committables>>, String> {
    let committables = messages.into_iter().map(|one| {
        Ok(Arc::new(Committables {
            operator: operator(&one.operator_id)?,
            subtask: one.subtask,
            owner: Owner { epoch: LeaderEpoch::new(one.epoch), attempt: one.attempt },
            checkpoint: CheckpointId::new(one.checkpoint),
            count: one.count,
            bytes: one.payload,
        }))
    });
    committables.collect()
}

fn operator(bytes: &[u8]) -> Result<OperatorId, String> {
    OperatorId::try_from(bytes).map_err(|error| error.to_string())
}

/// The acknowledgement of a task.
///
/// # Errors
/// A part of it is missing or unknown.
pub(super) fn ack(ack: host::CheckpointAck) -> Result<Ack, String> {
    let snapshots = ack.snapshots.into_iter().map(snapshot).collect::<Result<_, _>>()?;
    let metrics = ack.metrics.unwrap_or_default();
    Ok(Ack {
        snapshots,
        committables: committables(ack.committables)?,
        metrics: AckMetrics {
            start_delay: Duration::from_nanos(metrics.start_delay_ns),
            alignment_duration: Duration::from_nanos(metrics.alignment_ns),
            sync_duration: Duration::from_nanos(metrics.sync_ns),
            async_duration: Duration::from_nanos(metrics.async_ns),
            checkpointed_bytes: metrics.checkpointed_bytes,
            processed_bytes: metrics.processed_bytes,
            persisted_bytes: metrics.persisted_bytes,
            unaligned: metrics.unaligned,
        },
    })
}

fn snapshot(message: host::OperatorSnapshot) -> Result<OperatorSnapshot, String> {
    let states = message.states.into_iter().map(|state| {
        let known = STATE_KINDS.iter().find(|(_, kind)| *kind == state.kind());
        let (kind, _) = known.ok_or_else(|| format!("{} is of an unknown kind", state.name))?;
        Ok(StateDescription { kind: *kind, name: state.name, schema: state.schema })
    });
    let states = states.collect::<Result<_, String>>()?;
    let handles = message.handles.into_iter().map(handle).collect::<Result<_, _>>()?;
    Ok(OperatorSnapshot {
        operator: operator(&message.operator_id)?,
        key_schema: message.key_schema,
        states,
        subtask: SubtaskState { finished: false, positions: message.positions, handles },
    })
}

fn handle(message: host::StateHandle) -> Result<Handle, String> {
    let content = match message.content {
        Some(state_handle::Content::Inline(bytes)) => Content::Inline(bytes),
        Some(state_handle::Content::File(file)) => {
            let host::FileSegment { path, offset, length, crc32 } = file;
            Content::File(FileSegment { path, offset, length, crc32 })
        }
        None => return Err("a state has no content".to_owned()),
    };
    let groups = message.groups.into_iter().map(|at| {
        let group = u16::try_from(at.group).map_err(|_| format!("no key group {}", at.group))?;
        Ok(GroupOffset { group: KeyGroup::new(group), offset: at.offset })
    });
    Ok(Handle {
        state: message.state,
        owner: Owner { epoch: LeaderEpoch::new(message.epoch), attempt: message.attempt },
        content,
        groups: groups.collect::<Result<_, String>>()?,
    })
}

/// A handle as a message.
pub(super) fn of_handle(handle: &Handle) -> host::StateHandle {
    let content = match &handle.content {
        Content::Inline(bytes) => state_handle::Content::Inline(bytes.clone()),
        Content::File(FileSegment { path, offset, length, crc32 }) => {
            let path = path.clone();
            let (offset, length, crc32) = (*offset, *length, *crc32);
            state_handle::Content::File(host::FileSegment { path, offset, length, crc32 })
        }
    };
    let groups = handle
        .groups
        .iter()
        .map(|at| host::GroupOffset { group: u32::from(at.group.get()), offset: at.offset });
    host::StateHandle {
        state: handle.state,
        epoch: handle.owner.epoch.get(),
        attempt: handle.owner.attempt,
        content: Some(content),
        groups: groups.collect(),
    }
}

/// The description of a state as a message.
pub(super) fn of_description(state: &StateDescription) -> host::StateDescription {
    let kind = STATE_KINDS.iter().find(|(kind, _)| *kind == state.kind);
    let kind = kind.map_or(host::StateKind::Unspecified, |(_, kind)| *kind);
    host::StateDescription {
        name: state.name.clone(),
        kind: kind.into(),
        schema: state.schema.clone(),
    }
}
