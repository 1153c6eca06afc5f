//! Events that the coordinator of the source sends behind its snapshots: each names the checkpoint,
//! and goes to the first subtask. It must come behind the barrier of that checkpoint, and ahead of
//! that of the next one.

use millstream_protocol::host::{OperatorEvent, SnapshotCoordinators, TriggerCheckpoint};

use super::super::fixture::{operator_id, vertex_id};
use super::*;

/// The event behind the snapshot for a checkpoint, if the source's coordinator makes one.
pub(super) fn behind(asked: &SnapshotCoordinators) -> Option<from_host::Message> {
    let source = operator_id(0).as_bytes().to_vec();
    asked.operator_ids.contains(&source).then(|| {
        from_host::Message::OperatorEvent(OperatorEvent {
            operator_id: source,
            subtask: 0,
            payload: asked.checkpoint.to_be_bytes().to_vec(),
        })
    })
}

/// The checkpoints that the first subtask of the source has heard of.
#[derive(Debug, Default)]
pub(super) struct Heard {
    barrier: u64,
    event: u64,
}

impl Heard {
    pub(super) fn event(&mut self, event: &OperatorEvent) {
        let payload = event.payload.as_slice().try_into().expect("a number of eight bytes");
        self.event = self.event.max(u64::from_be_bytes(payload));
    }

    /// Begins anew with an attempt of that subtask.
    pub(super) fn deployment(&mut self, deploy: &host::Deploy) {
        let is_first = |task: &Task| task.vertex == vertex_id(0).as_bytes() && task.subtask == 0;
        if deploy.tasks.iter().any(is_first) {
            *self = Self::default();
        }
    }

    pub(super) fn barrier(&mut self, trigger: &TriggerCheckpoint) {
        let is_first = |task: &TaskId| task.vertex == vertex_id(0).as_bytes() && task.subtask == 0;
        let (number, before) = (trigger.checkpoint, self.barrier);
        if trigger.tasks.iter().any(is_first) {
            assert!(self.event < number, "an event overtakes the barrier of {number}");
            assert!(self.event >= before, "the event behind the barrier of {before} is lost");
            self.barrier = number;
        }
    }
}
