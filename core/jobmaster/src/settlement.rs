//! Settles a job's results: the coordinator host publishes or discards them.
//!
//! ```text
//! Idle --Commit--> Committing --(Settled, in time)--> Committed
//!  |                   |
//!  |                   +--(failure, deadline)--> Failed
//!  +--Abort--> Aborting --(Settled, or nothing to discard)--> Discarded
//! ```
//! A coordinator host that is lost while there may be something to discard is replaced by another
//! one, as often as [`crate::hosts`] allows. Each answer has a deadline. A commit that misses it is
//! killed, so that nothing is published after the job has failed.

#[cfg(test)]
mod random_tests;

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_config::options;
use millstream_gateway::{CauseKind, FailureCause};
use millstream_graph::JobGraph;
use millstream_protocol::host::{Abort, Commit, OperatorEvent, to_host};
use millstream_types::{ByteSize, HostId, OperatorId};

use crate::config::JobMasterConfig;
use crate::timer::TimerKind;

/// An event of the settlement.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug)]
pub(crate) enum Event {
    /// An attempt of the job begins.
    Attempt,
    /// The attempt's tasks are going to need the coordinator host.
    Open,
    /// The coordinator host has this name.
    HostStarted(HostId),
    /// The coordinator host is to be told this, which it does not answer to the settlement.
    Tell(to_host::Message),
    /// The coordinator host takes commands.
    HostReady,
    /// The coordinator host takes no commands any more, and is going to end.
    HostUnusable,
    /// The coordinator host has ended.
    HostLost,
    /// There will be no other coordinator host.
    NotReplaced,
    /// Tasks are deployed: from now on there may be output to discard.
    Deployed,
    /// An event of a task for its operator's coordinator.
    OperatorEvent(OperatorEvent),
    /// All tasks have finished: the results are to be published. Comes again if the coordinator
    /// host that was told so is replaced.
    Commit,
    /// No task runs and the attempt has failed: its output is to be discarded.
    Abort,
    /// The coordinator host has carried out the last command.
    Settled(Option<FailureCause>),
    /// A timer has run out.
    Timer { kind: TimerKind, generation: u64 },
}

/// An instruction for the router, or a result.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug)]
pub(crate) enum Action {
    /// A coordinator host is needed.
    NeedHost,
    /// Tell the coordinator host.
    Tell(HostId, to_host::Message),
    /// Kill the coordinator host.
    Kill(HostId),
    /// Set a timer.
    SetTimer { kind: TimerKind, generation: u64, after: Duration },
    /// The results are published.
    Committed,
    /// The results cannot be published, or not all of them.
    Failed(FailureCause),
    /// A failure on the way to [`Action::Discarded`].
    Consequence(FailureCause),
    /// Nothing is left to discard, or nothing more can be done about it.
    Discarded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Committing,
    Aborting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    /// It is going to end.
    Unusable,
}

#[derive(Debug)]
struct Coordinator {
    host: HostId,
    state: State,
    /// The number of answers that it owes.
    owes: u32,
}

/// The decider of a job's results.
#[derive(Debug)]
pub(crate) struct Settlement {
    /// True if the job has coordinators.
    needed: bool,
    /// The operators that have committers.
    sinks: BTreeSet<OperatorId>,
    start_timeout: Duration,
    cancel_timeout: Duration,
    commit_timeout: Duration,
    abort_timeout: Duration,
    committables_max: ByteSize,

    phase: Phase,
    generation: u64,
    coordinator: Option<Coordinator>,
    may_have_output: bool,
    /// The bytes in which writers have named their results.
    named: u64,
    actions: Vec<Action>,
}

impl Settlement {
    /// Nothing to settle yet of a job that runs `graph`.
    pub(crate) fn new(graph: &JobGraph, config: &JobMasterConfig) -> Self {
        let operators = graph.vertices.iter().flat_map(|vertex| &vertex.operators);
        let sinks = operators.filter(|operator| operator.coordinated && !operator.source);
        Self {
            needed: graph.needs_coordinator(),
            sinks: sinks.map(|operator| operator.id).collect(),
            start_timeout: config.host_start_timeout,
            cancel_timeout: config.cancel_timeout,
            commit_timeout: config.commit_timeout,
            abort_timeout: config.abort_timeout,
            committables_max: config.committables_max,
            phase: Phase::Idle,
            generation: 0,
            coordinator: None,
            may_have_output: false,
            named: 0,
            actions: Vec::new(),
        }
    }

    /// Takes an event in and says what to do, in this order.
    pub(crate) fn on_event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Attempt => {
                self.enter(Phase::Idle);
                (self.may_have_output, self.named) = (false, 0);
            }
            Event::Open => {
                if self.needed {
                    self.actions.push(Action::NeedHost);
                }
            }
            Event::HostStarted(host) => {
                self.coordinator = Some(Coordinator { host, state: State::Starting, owes: 0 });
            }
            Event::Tell(message) => {
                if let Some(coordinator) = &self.coordinator {
                    self.actions.push(Action::Tell(coordinator.host, message));
                }
            }
            Event::HostReady => self.on_host_ready(),
            Event::HostUnusable => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.state = State::Unusable;
                }
            }
            Event::HostLost => self.on_host_lost(),
            Event::NotReplaced => self.give_up("the coordinator host ended twice"),
            Event::Deployed => self.may_have_output = true,
            Event::OperatorEvent(event) => self.on_operator_event(event),
            Event::Commit => self.commit(),
            Event::Abort => self.abort(),
            Event::Settled(failure) => self.on_settled(failure),
            Event::Timer { kind, generation } => {
                if generation == self.generation {
                    self.on_late(kind);
                }
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// Whether the coordinator host takes commands.
    pub(crate) fn is_ready(&self) -> bool {
        self.coordinator.as_ref().is_some_and(|it| it.state == State::Ready)
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
        self.phase = phase;
    }

    fn set_timer(&mut self, kind: TimerKind, after: Duration) {
        self.actions.push(Action::SetTimer { kind, generation: self.generation, after });
    }

    /// Sends a message to the ready coordinator host, which answers it.
    fn tell(&mut self, message: to_host::Message) {
        if let Some(coordinator) = &mut self.coordinator
            && coordinator.state == State::Ready
        {
            coordinator.owes += 1;
            self.actions.push(Action::Tell(coordinator.host, message));
        }
    }

    fn on_host_ready(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        coordinator.state = State::Ready;
        if self.phase == Phase::Aborting {
            self.tell(to_host::Message::Abort(Abort {}));
        }
    }

    fn on_host_lost(&mut self) {
        self.coordinator = None;
        if self.phase == Phase::Aborting {
            self.discard_in_another();
        }
    }

    /// Passes the message on. What writers name for committers counts: the coordinator host keeps
    /// it until the end.
    fn on_operator_event(&mut self, event: OperatorEvent) {
        let operator = OperatorId::try_from(event.operator_id.as_slice());
        if operator.is_ok_and(|operator| self.sinks.contains(&operator)) {
            let was_within = self.named <= self.committables_max.as_bytes();
            let bytes = u64::try_from(event.payload.len()).unwrap_or(u64::MAX);
            self.named = self.named.saturating_add(bytes);
            if self.named > self.committables_max.as_bytes() {
                if was_within {
                    self.actions.push(Action::Failed(self.too_many()));
                }
                return;
            }
        }
        if let Some(coordinator) = &self.coordinator {
            let message = to_host::Message::OperatorEvent(event);
            self.actions.push(Action::Tell(coordinator.host, message));
        }
    }

    fn too_many(&self) -> FailureCause {
        let message = format!(
            "the writers of the job's sinks named {} of results to publish, more than the {} that \
             a job may: let them write fewer and larger files, or raise {}",
            ByteSize::from_bytes(self.named),
            self.committables_max,
            options::SINK_COMMITTABLES_MAX.key()
        );
        FailureCause::new(CauseKind::Commit, message)
    }

    fn commit(&mut self) {
        if !self.needed {
            return self.actions.push(Action::Committed);
        }
        let is_told = self.coordinator.as_ref().is_some_and(|coordinator| coordinator.owes > 0);
        if self.phase == Phase::Committing && is_told {
            return;
        }
        self.enter(Phase::Committing);
        self.tell(to_host::Message::Commit(Commit {}));
        self.set_timer(TimerKind::Commit, self.commit_timeout);
    }

    fn abort(&mut self) {
        match self.coordinator.as_ref().map(|coordinator| coordinator.state) {
            Some(state) => {
                self.enter(Phase::Aborting);
                self.tell(to_host::Message::Abort(Abort {}));
                let after = match state {
                    // It may be opening its committers: it is told to discard when it has.
                    State::Starting => self.cancel_timeout,
                    // One that is going to end is replaced when it has.
                    State::Ready | State::Unusable => self.abort_timeout,
                };
                self.set_timer(TimerKind::Abort, after);
            }
            None => self.discard_in_another(),
        }
    }

    /// The coordinator host is gone: another one discards the results that are left.
    fn discard_in_another(&mut self) {
        if !self.may_have_output || !self.needed {
            return self.discarded();
        }
        self.enter(Phase::Aborting);
        self.actions.push(Action::NeedHost);
        self.set_timer(TimerKind::Abort, self.start_timeout + self.abort_timeout);
    }

    fn discarded(&mut self) {
        self.enter(Phase::Idle);
        self.actions.push(Action::Discarded);
    }

    fn on_settled(&mut self, failure: Option<FailureCause>) {
        let Some(coordinator) = &mut self.coordinator else { return };
        // One that cannot go on, or is being stopped, has nothing settled any more.
        if coordinator.state != State::Ready || coordinator.owes == 0 {
            return;
        }
        coordinator.owes -= 1;
        let done = coordinator.owes == 0;
        match (self.phase, failure) {
            (Phase::Idle, _) => {}
            (Phase::Committing, None) => {
                self.enter(Phase::Idle);
                self.actions.push(Action::Committed);
            }
            (Phase::Committing, Some(cause)) => {
                self.enter(Phase::Idle);
                let cause = FailureCause { kind: CauseKind::Commit, ..cause };
                self.actions.push(Action::Failed(cause));
            }
            (Phase::Aborting, failure) => {
                self.actions.extend(failure.map(Action::Consequence));
                if done {
                    self.discarded();
                }
            }
        }
    }

    fn on_late(&mut self, kind: TimerKind) {
        match self.phase {
            Phase::Committing if kind == TimerKind::Commit => self.on_commit_late(),
            Phase::Aborting if kind == TimerKind::Abort && self.may_have_output => {
                self.give_up("the coordinator host did not answer in time");
            }
            Phase::Aborting if kind == TimerKind::Abort => self.discarded(),
            Phase::Idle | Phase::Committing | Phase::Aborting => {}
        }
    }

    fn on_commit_late(&mut self) {
        self.enter(Phase::Idle);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.state = State::Unusable;
            self.actions.push(Action::Kill(coordinator.host));
        }
        let message = format!(
            "the job's sinks did not publish their results within {:?} and were stopped: see \
             whether the storage that they write to is slow or away, or raise {}",
            self.commit_timeout,
            options::SINK_COMMIT_TIMEOUT.key()
        );
        let cause = FailureCause::new(CauseKind::Commit, message);
        self.actions.push(Action::Failed(cause));
    }

    fn give_up(&mut self, why: &str) {
        let message = format!("unpublished output of the job may be left behind: {why}");
        self.actions.push(Action::Consequence(FailureCause::new(CauseKind::Commit, message)));
        self.discarded();
    }
}
