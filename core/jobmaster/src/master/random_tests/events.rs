//! Events of the sources' coordinators. Each reader registers with its coordinator, which numbers
//! what it says to it from then on, also between its snapshots and the barriers. A reader gets each
//! number once and in order; when the barrier of a checkpoint comes, it has got those of the
//! coordinator's snapshot, and no others.

use millstream_protocol::host::{
    CoordinatorSnapshot, OperatorEvent, RestartSubtasks, SnapshotCoordinators, TriggerCheckpoint,
};
use millstream_types::{OperatorId, VertexId};

use super::super::fixture::{operator_id, vertex_id};
use super::*;

/// The sources' places in the graph; a job has the first one or both.
pub(super) const SOURCES: [usize; 2] = [0, 2];

/// A subtask of a source's operator, by the operator's id.
type Reader = (Vec<u8>, u32);

/// The events that one attempt of a reader was sent, or has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    attempt: u32,
    events: u64,
}

/// The coordinators' side.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<Reader, Stream>);

/// The part of the events that each snapshot of a coordinator knows of.
#[derive(Debug, Default)]
pub(super) struct Snapshots(BTreeMap<(u64, Reader), Stream>);

/// The readers' side, in one task host.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<Reader, Stream>);

/// The operator of a source's vertex.
fn operator_of(vertex: &[u8]) -> Option<OperatorId> {
    let is_it = |at: &usize| vertex == VertexId::as_bytes(&vertex_id(*at));
    SOURCES.into_iter().find(is_it).map(operator_id)
}

fn reader_of(vertex: &[u8], subtask: u32) -> Option<Reader> {
    Some((operator_of(vertex)?.as_bytes().to_vec(), subtask))
}

/// The first event of a reader to its coordinator, which names its attempt.
pub(super) fn registration(task: &Task) -> Option<from_host::Message> {
    let (operator_id, subtask) = reader_of(&task.vertex, task.subtask)?;
    let payload = task.attempt.to_be_bytes().to_vec();
    let event = OperatorEvent { operator_id, subtask, payload, hands_out: false };
    Some(from_host::Message::OperatorEvent(event))
}

pub(super) fn is_barrier(message: &to_host::Message) -> bool {
    matches!(message, to_host::Message::TriggerCheckpoint(_))
}

pub(super) fn is_event(message: &to_host::Message) -> bool {
    matches!(message, to_host::Message::OperatorEvent(_))
}

impl Said {
    pub(super) fn register(&mut self, event: OperatorEvent) {
        let attempt = event.payload.as_slice().try_into().expect("a number of four bytes");
        let stream = Stream { attempt: u32::from_be_bytes(attempt), events: 0 };
        self.0.insert((event.operator_id, event.subtask), stream);
    }

    pub(super) fn restart(&mut self, restart: &RestartSubtasks) {
        for operator in &restart.operators {
            for subtask in &operator.subtasks {
                self.0.remove(&(operator.operator_id.clone(), *subtask));
            }
        }
    }

    /// The next event to a reader that has registered; with `operator`, to one of that operator.
    pub(super) fn event(
        &mut self,
        random: &mut Random,
        operator: Option<&[u8]>,
    ) -> Option<from_host::Message> {
        let readers = self.0.keys().filter(|(id, _)| operator.is_none_or(|asked| asked == id));
        let readers: Vec<Reader> = readers.cloned().collect();
        let reader = random.pick(&readers)?;
        let stream = self.0.get_mut(&reader).expect("picked from the keys");
        let mut payload = stream.attempt.to_be_bytes().to_vec();
        payload.extend(stream.events.to_be_bytes());
        stream.events += 1;
        let (operator_id, subtask) = reader;
        let event = OperatorEvent { operator_id, subtask, payload, hands_out: false };
        Some(from_host::Message::OperatorEvent(event))
    }

    /// Each coordinator takes its snapshot and goes on, at its own pace.
    pub(super) fn snapshots(
        &mut self,
        random: &mut Random,
        asked: &SnapshotCoordinators,
        snapshots: &mut Snapshots,
    ) -> Vec<from_host::Message> {
        let mut waiting = asked.operator_ids.clone();
        let mut speaking: Vec<Vec<u8>> = Vec::new();
        let mut messages = Vec::new();
        while !waiting.is_empty() {
            if random.one_in(2) {
                let operator_id = waiting.swap_remove(random.below(waiting.len()));
                let of_it = self.0.iter().filter(|((id, _), _)| *id == operator_id);
                let of_it = of_it.map(|(reader, it)| ((asked.checkpoint, reader.clone()), *it));
                snapshots.0.extend(of_it);
                speaking.push(operator_id.clone());
                messages.push(from_host::Message::CoordinatorSnapshot(CoordinatorSnapshot {
                    checkpoint: asked.checkpoint,
                    operator_id,
                    ..CoordinatorSnapshot::default()
                }));
            } else {
                messages.extend(self.event(random, None));
            }
        }
        for operator in &speaking {
            messages.extend(self.event(random, Some(operator)));
        }
        messages
    }
}

impl Heard {
    /// Begins anew with an attempt of a reader.
    pub(super) fn deployment(&mut self, deploy: &host::Deploy) {
        for Task { vertex, subtask, attempt, .. } in &deploy.tasks {
            if let Some(reader) = reader_of(vertex, *subtask) {
                self.0.insert(reader, Stream { attempt: *attempt, events: 0 });
            }
        }
    }

    pub(super) fn event(&mut self, event: &OperatorEvent) {
        let (attempt, number) = event.payload.split_at(4);
        let attempt = u32::from_be_bytes(attempt.try_into().expect("four bytes"));
        let number = u64::from_be_bytes(number.try_into().expect("eight bytes"));
        let reader = (event.operator_id.clone(), event.subtask);
        let stream = self.0.get_mut(&reader).expect("its host runs the reader");
        assert_eq!(attempt, stream.attempt, "an event for another attempt of {reader:?}");
        assert_eq!(number, stream.events, "the events of {reader:?} are not in order");
        stream.events += 1;
    }

    pub(super) fn barrier(&self, trigger: &TriggerCheckpoint, snapshots: &Snapshots) {
        let number = trigger.checkpoint;
        for task in &trigger.tasks {
            let Some(reader) = reader_of(&task.vertex, task.subtask) else { continue };
            let Some(stream) = self.0.get(&reader) else { continue };
            assert_eq!(stream.attempt, task.attempt, "a barrier for another attempt");
            let said = snapshots.0.get(&(number, reader.clone()));
            let said = said.filter(|it| it.attempt == stream.attempt).map_or(0, |it| it.events);
            assert!(stream.events <= said, "an event overtakes the barrier of {number}");
            assert!(stream.events >= said, "an event ahead of the barrier of {number} is lost");
        }
    }
}
