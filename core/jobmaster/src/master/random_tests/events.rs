//! Events of the sources' coordinators. Each reader registers with its coordinator, which numbers
//! what it says to it from then on, also between its snapshots and the barriers. A reader gets each
//! number once and in order; when the barrier of a checkpoint comes, it has got those of the
//! coordinator's snapshot, and no others. The first event answers the registration, and no reader
//! finishes without it. A coordinator that takes the place of another one goes on with its numbers.

use millstream_protocol::host::{
    Begin, CoordinatorSnapshot, CoordinatorState, EndCheckpoint, HandedEvent, HandedOut,
    OperatorEvent, ReportHandedOut, RestartSubtasks, SnapshotCoordinators, TakeOver, TaskHanded,
    TriggerCheckpoint,
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
pub(super) struct Said {
    streams: BTreeMap<Reader, Stream>,
    /// The readers that have registered with this host.
    registered: BTreeSet<Reader>,
}

/// The part of the events that each snapshot of a coordinator knows of, and its host.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    streams: BTreeMap<(u64, Reader), Stream>,
    hosts: BTreeMap<u64, HostId>,
}

/// The ears of one attempt of a reader.
#[derive(Debug)]
struct Listener {
    task: TaskId,
    stream: Stream,
    has_ended: bool,
    /// The newest checkpoint that it was told of.
    newest: u64,
    /// The events behind the newest complete one, each with the one before it.
    handed: Vec<HandedEvent>,
}

/// The readers' side, in one task host.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<Reader, Listener>);

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

/// The attempt and the number that an event names.
fn named(payload: &[u8]) -> Stream {
    let (attempt, number) = payload.split_at(4);
    let attempt = u32::from_be_bytes(attempt.try_into().expect("four bytes"));
    let events = u64::from_be_bytes(number.try_into().expect("eight bytes"));
    Stream { attempt, events }
}

impl Snapshots {
    /// A host is asked for the snapshots of its coordinators.
    pub(super) fn gives(&mut self, checkpoint: u64, host: HostId) {
        self.hosts.insert(checkpoint, host);
    }

    /// The host of the coordinators whose snapshots a checkpoint has.
    pub(super) fn host_of(&self, checkpoint: u64) -> Option<HostId> {
        self.hosts.get(&checkpoint).copied()
    }
}

impl Said {
    /// The knowledge of coordinators that begin from their states.
    pub(super) fn restored(begin: &Begin) -> Self {
        let mut streams = BTreeMap::new();
        let states = begin.checkpointing.iter().flat_map(|it| &it.coordinators);
        for CoordinatorState { operator_id, state } in states {
            for one in state.chunks(16) {
                let (subtask, stream) = one.split_at(4);
                let subtask = u32::from_be_bytes(subtask.try_into().expect("four bytes"));
                streams.insert((operator_id.clone(), subtask), named(stream));
            }
        }
        Self { streams, registered: BTreeSet::new() }
    }

    /// The state of one coordinator.
    fn state(&self, operator: &[u8]) -> Vec<u8> {
        let mut state = Vec::new();
        for ((_, subtask), stream) in self.streams.iter().filter(|((id, _), _)| id == operator) {
            state.extend(subtask.to_be_bytes());
            state.extend(stream.attempt.to_be_bytes());
            state.extend(stream.events.to_be_bytes());
        }
        state
    }

    /// Goes on where the coordinators before were.
    pub(super) fn take_over(&mut self, before: &TakeOver) {
        assert!(self.registered.is_empty(), "a reader is served before the takeover");
        for HandedEvent { operator_id, subtask, payload, .. } in &before.events {
            let Stream { attempt, events } = named(payload);
            let reader = (operator_id.clone(), *subtask);
            let stream = self.streams.entry(reader).or_insert(Stream { attempt, events: 0 });
            if stream.attempt != attempt {
                *stream = Stream { attempt, events: 0 };
            }
            assert_eq!(events, stream.events, "the reports are not what was handed out");
            stream.events += 1;
        }
    }

    /// Takes in that a reader asks, and answers it unless that was done.
    pub(super) fn register(&mut self, event: OperatorEvent) -> Option<from_host::Message> {
        let attempt = event.payload.as_slice().try_into().expect("a number of four bytes");
        let attempt = u32::from_be_bytes(attempt);
        let reader = (event.operator_id, event.subtask);
        self.registered.insert(reader.clone());
        let stream = self.streams.entry(reader.clone()).or_insert(Stream { attempt, events: 0 });
        if stream.attempt != attempt {
            *stream = Stream { attempt, events: 0 };
        }
        (stream.events == 0).then(|| self.next_event(reader)).flatten()
    }

    pub(super) fn restart(&mut self, restart: &RestartSubtasks) {
        for operator in &restart.operators {
            for subtask in &operator.subtasks {
                let reader = (operator.operator_id.clone(), *subtask);
                self.streams.remove(&reader);
                self.registered.remove(&reader);
            }
        }
    }

    fn next_event(&mut self, reader: Reader) -> Option<from_host::Message> {
        let stream = self.streams.get_mut(&reader)?;
        let mut payload = stream.attempt.to_be_bytes().to_vec();
        payload.extend(stream.events.to_be_bytes());
        stream.events += 1;
        let (operator_id, subtask) = reader;
        let event = OperatorEvent { operator_id, subtask, payload, hands_out: true };
        Some(from_host::Message::OperatorEvent(event))
    }

    /// The next event to a reader that has registered; with `operator`, to one of that operator.
    pub(super) fn event(
        &mut self,
        random: &mut Random,
        operator: Option<&[u8]>,
    ) -> Option<from_host::Message> {
        let readers = self.registered.iter();
        let readers = readers.filter(|(id, _)| operator.is_none_or(|asked| asked == id));
        let readers: Vec<Reader> = readers.cloned().collect();
        self.next_event(random.pick(&readers)?)
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
                let of_it = self.streams.iter().filter(|((id, _), _)| *id == operator_id);
                let of_it = of_it.map(|(reader, it)| ((asked.checkpoint, reader.clone()), *it));
                snapshots.streams.extend(of_it);
                speaking.push(operator_id.clone());
                messages.push(from_host::Message::CoordinatorSnapshot(CoordinatorSnapshot {
                    checkpoint: asked.checkpoint,
                    state: self.state(&operator_id),
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
        for Task { vertex, subtask, attempt, restored, .. } in &deploy.tasks {
            if let Some(reader) = reader_of(vertex, *subtask) {
                let (subtask, attempt) = (*subtask, *attempt);
                let listener = Listener {
                    task: TaskId { vertex: vertex.clone(), subtask, attempt },
                    stream: Stream { attempt, events: 0 },
                    has_ended: false,
                    newest: *restored,
                    handed: Vec::new(),
                };
                self.0.insert(reader, listener);
            }
        }
    }

    /// Takes in that a task has entered a state.
    pub(super) fn task(&mut self, task: &Task, state: Execution) {
        let Some(reader) = reader_of(&task.vertex, task.subtask) else { return };
        let Some(listener) = self.0.get_mut(&reader) else { return };
        if listener.stream.attempt != task.attempt {
            return;
        }
        match state {
            Execution::Finished => listener.has_ended = true,
            Execution::Failed | Execution::Canceled => drop(self.0.remove(&reader)),
            Execution::Unspecified | Execution::Initializing | Execution::Running => {}
        }
    }

    /// Whether a task's reader waits for the answer to its registration.
    pub(super) fn waits(&self, task: &Task) -> bool {
        let listener = reader_of(&task.vertex, task.subtask).and_then(|reader| self.0.get(&reader));
        !task.finished && listener.is_some_and(|it| it.stream.events == 0)
    }

    pub(super) fn event(&mut self, event: &OperatorEvent) {
        let Stream { attempt, events } = named(&event.payload);
        let reader = (event.operator_id.clone(), event.subtask);
        // One that has failed is not there any more, and its end is on its way.
        let Some(Listener { stream, newest, handed, .. }) = self.0.get_mut(&reader) else { return };
        assert_eq!(attempt, stream.attempt, "an event for another attempt of {reader:?}");
        assert_eq!(events, stream.events, "the events of {reader:?} are not in order");
        stream.events += 1;
        let (after, payload) = (*newest, event.payload.clone());
        let (operator_id, subtask) = reader;
        handed.push(HandedEvent { operator_id, subtask, after, payload });
    }

    pub(super) fn barrier(&mut self, trigger: &TriggerCheckpoint, snapshots: &Snapshots) {
        let number = trigger.checkpoint;
        for task in &trigger.tasks {
            let Some(reader) = reader_of(&task.vertex, task.subtask) else { continue };
            let Some(Listener { stream, newest, .. }) = self.0.get_mut(&reader) else { continue };
            *newest = number;
            assert_eq!(stream.attempt, task.attempt, "a barrier for another attempt");
            let said = snapshots.streams.get(&(number, reader.clone()));
            let said = said.filter(|it| it.attempt == stream.attempt).map_or(0, |it| it.events);
            assert!(stream.events <= said, "an event overtakes the barrier of {number}");
            assert!(stream.events >= said, "an event ahead of the barrier of {number} is lost");
        }
    }

    pub(super) fn end_checkpoint(&mut self, end: &EndCheckpoint) {
        if end.complete && end.commits {
            for listener in self.0.values_mut() {
                listener.handed.retain(|event| event.after >= end.checkpoint);
            }
        }
    }

    /// The report of what was handed out, in one part or in many.
    pub(super) fn report(
        &self,
        random: &mut Random,
        asked: &ReportHandedOut,
    ) -> Vec<from_host::Message> {
        let instance = asked.instance;
        let mut parts = vec![HandedOut { instance, ..HandedOut::default() }];
        for Listener { task, has_ended, handed, .. } in self.0.values() {
            if random.one_in(3) {
                parts.push(HandedOut { instance, ..HandedOut::default() });
            }
            let events = handed.iter().filter(|event| event.after >= asked.from).cloned();
            let (task, events) = (Some(task.clone()), events.collect());
            let part = parts.last_mut().expect("there is one");
            part.tasks.push(TaskHanded { task, ended: *has_ended, events });
        }
        parts.last_mut().expect("there is one").last = true;
        parts.into_iter().map(from_host::Message::HandedOut).collect()
    }
}
