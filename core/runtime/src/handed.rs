//! The messages by which coordinators have handed something to a host's tasks, as long as no
//! complete checkpoint has that: another coordinator host, which begins from such a checkpoint, is
//! told of them.

use std::collections::BTreeMap;

use millstream_graph::JobVertex;
use millstream_protocol::host::{self, HandedEvent, OperatorEvent, TaskHanded};
use millstream_types::{CheckpointId, ExecutionAttemptId};

use crate::tasks::task_id;

/// The bytes of messages from which on a report is continued in another part.
const PART_BYTES: usize = 1 << 20;

/// The messages of one task.
#[derive(Debug, Default)]
struct Handed {
    /// The newest checkpoint of which the task was told, by its barrier or its beginning; 0: none.
    newest: u64,
    events: Vec<HandedEvent>,
    has_ended: bool,
}

/// The messages of all tasks whose coordinators restart alone.
#[derive(Debug, Default)]
pub(crate) struct HandedOut(BTreeMap<ExecutionAttemptId, Handed>);

impl HandedOut {
    /// Takes in that a task begins, from a checkpoint or from nothing (0).
    pub(crate) fn begin(&mut self, task: ExecutionAttemptId, vertex: &JobVertex, restored: u64) {
        self.0.retain(|it, _| (it.vertex, it.subtask) != (task.vertex, task.subtask));
        let mut operators = vertex.operators.iter();
        if operators.any(|it| it.source && it.coordinated && it.restarts_alone) {
            self.0.insert(task, Handed { newest: restored, ..Handed::default() });
        }
    }

    /// Takes in that a task is told of a checkpoint.
    pub(crate) fn on_barrier(&mut self, task: ExecutionAttemptId, id: CheckpointId) {
        if let Some(handed) = self.0.get_mut(&task) {
            handed.newest = id.get();
        }
    }

    /// Takes in that a task gets a message of its coordinator.
    pub(crate) fn on_event(&mut self, task: ExecutionAttemptId, event: &OperatorEvent) {
        if !event.hands_out {
            return;
        }
        if let Some(handed) = self.0.get_mut(&task) {
            handed.events.push(HandedEvent {
                operator_id: event.operator_id.clone(),
                subtask: event.subtask,
                after: handed.newest,
                payload: event.payload.clone(),
            });
        }
    }

    /// Takes in that a checkpoint is complete: no coordinator begins from an earlier one.
    pub(crate) fn on_complete(&mut self, id: CheckpointId) {
        for handed in self.0.values_mut() {
            handed.events.retain(|event| event.after >= id.get());
        }
    }

    /// Takes in that a task has ended. What one has read that has finished is read; one that has
    /// not begins again, and its coordinators take back what it got.
    pub(crate) fn end(&mut self, task: ExecutionAttemptId, has_finished: bool) {
        if !has_finished {
            self.0.remove(&task);
        } else if let Some(handed) = self.0.get_mut(&task) {
            handed.has_ended = true;
        }
    }

    /// The report of what was handed out behind a checkpoint, in parts.
    pub(crate) fn report(&self, asked: &host::ReportHandedOut) -> Vec<host::HandedOut> {
        let mut parts = Vec::new();
        let (mut tasks, mut bytes) = (Vec::new(), 0);
        for (task, handed) in &self.0 {
            let part = || TaskHanded {
                task: Some(task_id(*task)),
                ended: handed.has_ended,
                events: Vec::new(),
            };
            let mut of_task = part();
            for event in handed.events.iter().filter(|event| event.after >= asked.from) {
                bytes += event.payload.len();
                of_task.events.push(event.clone());
                if bytes >= PART_BYTES {
                    tasks.push(std::mem::replace(&mut of_task, part()));
                    parts.push(std::mem::take(&mut tasks));
                    bytes = 0;
                }
            }
            tasks.push(of_task);
        }
        parts.push(tasks);
        let last = parts.len() - 1;
        let parts = parts.into_iter().enumerate().map(|(number, tasks)| host::HandedOut {
            instance: asked.instance,
            tasks,
            last: number == last,
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use millstream_graph::{ChainedOperator, NodeId};
    use millstream_types::{MaxParallelism, OperatorId, VertexId};

    use super::*;

    fn vertex(restarts_alone: bool) -> JobVertex {
        JobVertex {
            id: VertexId::from_u128(1),
            name: "source".to_owned(),
            parallelism: 2,
            max_parallelism: MaxParallelism::DEFAULT,
            operators: vec![ChainedOperator {
                id: OperatorId::from_u128(1),
                node: NodeId(0),
                uid: None,
                name: "source".to_owned(),
                coordinated: true,
                restarts_alone,
                source: true,
                upstream: None,
                output_type: "u64".to_owned(),
                timed: false,
            }],
            slot_sharing_group: "default".to_owned(),
        }
    }

    fn task(subtask: u32, attempt: u32) -> ExecutionAttemptId {
        ExecutionAttemptId { vertex: VertexId::from_u128(1), subtask, attempt }
    }

    fn event(payload: Vec<u8>) -> OperatorEvent {
        OperatorEvent { payload, hands_out: true, ..OperatorEvent::default() }
    }

    /// A subtask, whether it has ended, and its messages.
    type Reported = (u32, bool, Vec<(u64, Vec<u8>)>);

    /// The payloads of a report, each with the checkpoint before it, by task.
    fn reported(handed: &HandedOut, from: u64) -> Vec<Reported> {
        let parts = handed.report(&host::ReportHandedOut { instance: 3, from });
        assert!(parts.iter().all(|part| part.instance == 3));
        let tasks = parts.into_iter().flat_map(|part| part.tasks).map(|it| {
            let events = it.events.into_iter().map(|event| (event.after, event.payload));
            (it.task.unwrap().subtask, it.ended, events.collect())
        });
        tasks.collect()
    }

    #[test]
    fn what_was_handed_out_behind_a_checkpoint_is_reported() {
        let mut handed = HandedOut::default();
        handed.begin(task(0, 0), &vertex(true), 4);
        handed.begin(task(1, 0), &vertex(true), 4);
        handed.on_event(task(0, 0), &event(vec![1]));
        handed.on_event(task(0, 0), &OperatorEvent { hands_out: false, ..event(vec![9]) });
        handed.on_barrier(task(0, 0), CheckpointId::new(5));
        handed.on_event(task(0, 0), &event(vec![2]));
        handed.on_barrier(task(0, 0), CheckpointId::new(6));
        handed.on_event(task(0, 0), &event(vec![3]));
        let all = vec![(4, vec![1]), (5, vec![2]), (6, vec![3])];
        assert_eq!(reported(&handed, 4), [(0, false, all.clone()), (1, false, vec![])]);
        // The one that finishes is not forgotten before a checkpoint has what it got.
        handed.end(task(0, 0), true);
        handed.end(task(1, 0), false);
        assert_eq!(reported(&handed, 0), [(0, true, all.clone())]);
        handed.on_complete(CheckpointId::new(5));
        assert_eq!(reported(&handed, 4), [(0, true, all[1..].to_vec())]);
        handed.begin(task(0, 1), &vertex(true), 5);
        assert_eq!(reported(&handed, 0), [(0, false, vec![])], "it was given back");
    }

    #[test]
    fn nothing_is_kept_for_coordinators_that_restart_their_tasks() {
        let mut handed = HandedOut::default();
        handed.begin(task(0, 0), &vertex(false), 0);
        handed.on_event(task(0, 0), &event(vec![1]));
        assert_eq!(reported(&handed, 0), []);
    }

    #[test]
    fn a_long_report_comes_in_parts() {
        let mut handed = HandedOut::default();
        handed.begin(task(0, 0), &vertex(true), 0);
        let events = [1, 2, 3].map(|number| event(vec![number; 700_000]));
        events.iter().for_each(|event| handed.on_event(task(0, 0), event));
        let parts = handed.report(&host::ReportHandedOut::default());
        let last: Vec<bool> = parts.iter().map(|part| part.last).collect();
        assert_eq!(last, [false, true]);
        let all: Vec<(u64, Vec<u8>)> = events.into_iter().map(|event| (0, event.payload)).collect();
        let parts = reported(&handed, 0).into_iter().flat_map(|(_, _, events)| events);
        assert_eq!(parts.collect::<Vec<_>>(), all);
    }
}
