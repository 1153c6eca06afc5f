//! Another coordinator host takes the place of one that has died, and the tasks run on.
//!
//! The coordinators begin from the newest complete checkpoint. The splits that their predecessors
//! have handed out since are known to the task hosts alone: the hosts are asked at the moment at
//! which the checkpoint is chosen, and keep the messages that no complete checkpoint has. When all
//! of them have answered and the new coordinator host is there, that host is told everything at
//! once. Until then no checkpoint starts. Events that tasks send behind their host's answer are
//! held back, and the tasks repeat those that they have sent before it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_gateway::{CauseKind, FailureCause};
use millstream_protocol::host::{
    HandedEvent, HandedOut, OperatorEvent, OperatorSubtasks, ReportHandedOut, TakeOver, TaskHanded,
    to_host,
};
use millstream_types::HostId;

use super::{JobMaster, Phase};
use crate::checkpoints::{self, Checkpoints};
use crate::execution_graph::Subtask;
use crate::{hosts, settlement};

/// The most bytes that are handed over. If there are more, the tasks restart.
const HANDED_BYTES_MAX: usize = 64 << 20;
/// The bytes from which on a message is continued in another one.
const PART_BYTES: usize = 1 << 20;
/// The most messages of tasks that are held back: each subtask has a few at a time.
const HELD_BACK_MAX: usize = 16_384;

/// The way of another coordinator host into its place.
#[derive(Debug)]
pub(super) struct Takeover {
    instance: u64,
    /// The checkpoint that its coordinators begin from; 0: none.
    from: u64,
    /// Whether it takes commands.
    ready: bool,
    /// The operators whose coordinators take over.
    operators: BTreeSet<Vec<u8>>,
    /// The task hosts that have not said everything.
    waiting: BTreeSet<HostId>,
    /// The subtasks of which no host has said anything.
    missing: BTreeSet<Subtask>,
    events: Vec<HandedEvent>,
    bytes: usize,
    /// The subtasks that have finished, by operator.
    ended: BTreeMap<Vec<u8>, Vec<u32>>,
    held_back: Vec<OperatorEvent>,
}

impl JobMaster {
    /// Asks the task hosts what the coordinators that are gone have handed out, if they have handed
    /// out anything that the new ones have to know.
    pub(super) fn begin_takeover(&mut self, from: u64) {
        let graph = &self.submission.graph;
        let (mut operators, mut missing) = (BTreeSet::new(), BTreeSet::new());
        for (at, vertex) in graph.vertices.iter().enumerate() {
            let mut sources = vertex.operators.iter().filter(|it| it.source && it.coordinated);
            if let Some(source) = sources.next() {
                operators.insert(source.id.as_bytes().to_vec());
                let subtasks = 0..vertex.parallelism as usize;
                missing.extend(subtasks.map(|index| Subtask { vertex: at, index }));
            }
        }
        if operators.is_empty() {
            return;
        }
        let executions = self.tasks.executions();
        let hosts = missing.iter().filter_map(|subtask| executions.last_host(*subtask));
        let takes_commands = |host: &HostId| self.hosts.user_of(*host).is_some_and(|it| it.1);
        let waiting: BTreeSet<HostId> = hosts.filter(takes_commands).collect();
        self.takeovers += 1;
        let instance = self.takeovers;
        for host in &waiting {
            let asked = ReportHandedOut { instance, from };
            let asked = to_host::Message::ReportHandedOut(asked);
            self.tell_hosts(hosts::Event::Tell(*host, asked));
        }
        self.takeover = Some(Takeover {
            instance,
            from,
            ready: false,
            operators,
            waiting,
            missing,
            events: Vec::new(),
            bytes: 0,
            ended: BTreeMap::new(),
            held_back: Vec::new(),
        });
        self.go_on_with_takeover();
    }

    /// A task host has said a part of what its tasks were given.
    pub(super) fn on_handed_out(&mut self, host: HostId, said: HandedOut) {
        let executions = self.tasks.executions();
        let Some(takeover) = &mut self.takeover else { return };
        if takeover.instance != said.instance || !takeover.waiting.contains(&host) {
            return;
        }
        for TaskHanded { task, ended, events } in said.tasks {
            let Some(task) = task else { continue };
            let Some(subtask) = executions.find(host, &task) else { continue };
            let is_new = takeover.missing.remove(&subtask);
            if ended && is_new {
                let vertex = self.submission.graph.vertices.get(subtask.vertex);
                let operators = vertex.into_iter().flat_map(|vertex| &vertex.operators);
                for operator in operators.filter(|it| it.source && it.coordinated) {
                    let operator = operator.id.as_bytes().to_vec();
                    takeover.ended.entry(operator).or_default().push(task.subtask);
                }
            }
            takeover.bytes += events.iter().map(|event| event.payload.len()).sum::<usize>();
            takeover.events.extend(events);
        }
        if takeover.bytes > HANDED_BYTES_MAX {
            return self.fail_takeover("too much was handed out since the newest checkpoint");
        }
        if said.last {
            takeover.waiting.remove(&host);
            self.go_on_with_takeover();
        }
    }

    /// A task host is gone. If tasks have failed with it, the takeover is over already.
    pub(super) fn on_reporter_lost(&mut self, host: HostId) {
        if let Some(takeover) = &mut self.takeover
            && takeover.waiting.remove(&host)
        {
            self.go_on_with_takeover();
        }
    }

    /// The new coordinator host takes commands.
    pub(super) fn on_coordinator_ready(&mut self) {
        if let Some(takeover) = &mut self.takeover {
            takeover.ready = true;
            self.tell_settlement(settlement::Event::HostReady);
            return self.go_on_with_takeover();
        }
        // Committers recover before they are told anything else.
        self.tell_checkpoints(checkpoints::Event::HostReady);
        self.tell_settlement(settlement::Event::HostReady);
        if self.checkpoints.is_none() {
            self.tell_tasks(crate::tasks::Event::CoordinatorReady);
        }
    }

    /// Passes on a message of a task to its coordinator, unless that waits for a takeover.
    pub(super) fn on_event_of_task(&mut self, from: HostId, event: OperatorEvent) {
        match &mut self.takeover {
            Some(takeover) if takeover.operators.contains(&event.operator_id) => {
                let is_repeated = takeover.waiting.contains(&from);
                if !is_repeated && takeover.held_back.len() < HELD_BACK_MAX {
                    takeover.held_back.push(event);
                }
            }
            _ => self.tell_settlement(settlement::Event::OperatorEvent(event)),
        }
    }

    fn go_on_with_takeover(&mut self) {
        let Some(takeover) = self.takeover.take_if(|it| it.waiting.is_empty()) else { return };
        if !takeover.missing.is_empty() {
            self.takeover = Some(takeover);
            return self.fail_takeover("a process is gone in which a source had finished");
        }
        if !takeover.ready {
            self.takeover = Some(takeover);
            return;
        }
        let told = self.checkpoints.as_ref().map_or(0, Checkpoints::newest_told);
        let (from, newest) = (takeover.from, told.max(takeover.from));
        let ended = takeover.ended.into_iter();
        let ended = ended.map(|(operator_id, subtasks)| OperatorSubtasks { operator_id, subtasks });
        let first = TakeOver { from, newest, events: Vec::new(), ended: ended.collect() };
        let mut parts = vec![first];
        let mut bytes = 0;
        for event in takeover.events {
            if bytes >= PART_BYTES {
                parts.push(TakeOver { from, newest, ..TakeOver::default() });
                bytes = 0;
            }
            bytes += event.payload.len();
            if let Some(part) = parts.last_mut() {
                part.events.push(event);
            }
        }
        for part in parts {
            let part = to_host::Message::TakeOver(part);
            self.tell_settlement(settlement::Event::Tell(part));
        }
        self.tell_checkpoints(checkpoints::Event::HostReady);
        for event in takeover.held_back {
            self.tell_settlement(settlement::Event::OperatorEvent(event));
        }
        tracing::info!(job = %self.submission.job, "another coordinator host has taken over");
    }

    /// The tasks restart after all.
    fn fail_takeover(&mut self, why: &str) {
        let message = format!("the coordinator host cannot be replaced while tasks run on: {why}");
        self.fail(self.entry(FailureCause::new(CauseKind::Error, message)));
    }

    /// The tasks do not run on: nothing is taken over.
    pub(super) fn give_up_takeover(&mut self) {
        if let Some(takeover) = self.takeover.take()
            && takeover.ready
        {
            // Its committers have not recovered yet.
            self.tell_checkpoints(checkpoints::Event::HostReady);
        }
    }

    /// Whether the tasks run on while another coordinator host takes the place of one that is lost:
    /// committers begin with what the checkpoints carry, and enumerators with that and with what
    /// their readers were given since, if their sources say that this is enough.
    pub(super) fn can_replace_coordinators(&self) -> bool {
        let operators = self.submission.graph.vertices.iter().flat_map(|it| &it.operators);
        let mut coordinated = operators.filter(|operator| operator.coordinated);
        matches!(self.phase, Phase::Running)
            && self.checkpoints.is_some()
            && self.tasks.is_deployed()
            && self.failovers.is_empty()
            && coordinated.all(|operator| !operator.source || operator.restarts_alone)
    }
}

#[cfg(test)]
mod tests;
