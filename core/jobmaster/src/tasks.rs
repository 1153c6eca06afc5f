//! The tasks of a job: from slots and hosts to tasks that run, and how they stop.
//!
//! ```text
//!         Start                 Slots              all ready          all finished
//! Idle ---------> WaitingForSlots ---> StartingHosts ------> Running -------------> Idle
//!                       |                   |                   |
//!                       +-------------------+-------- Cancel ---+
//!                                                       v     no task runs
//!                                                   Cancelling ------------> Idle
//! ```
//! This decider reports a failure and goes on as it is until it is told to cancel: what follows a
//! failure is the job's decision. While it runs, some of its tasks may restart: see [`failover`].

mod deployment;
mod failover;
#[cfg(test)]
mod random_tests;
mod reports;

pub(crate) use reports::attempt_of;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{
    AllocatedSlot, CauseKind, ExceptionEntry, FailureCause, TaskLocation, TaskManagerGateway,
};
use millstream_graph::JobGraph;
use millstream_protocol::host::{self, Cancel, to_host};
use millstream_types::{ExecutionState, HostId, TaskManagerId, Timestamp};

use crate::checkpoints::{Restoring, TaskNews};
use crate::config::{JobMasterConfig, SchedulingStrategy};
use crate::execution_graph::{ExecutionGraph, Subtask};
use crate::slots::SharedSlot;
use crate::timer::TimerKind;
use failover::Failover;

/// Every slot of the job, with its subtasks.
pub(crate) type Slots = Vec<(SharedSlot, AllocatedSlot)>;

/// An event of the tasks.
#[derive(Debug)]
pub(crate) enum Event {
    /// All tasks shall run under this attempt, on these slots if there are enough already, and
    /// begin from here.
    Start(u32, Option<Slots>, Restoring),
    /// These tasks shall stop and begin again under this attempt, while the others run. A restart
    /// of some of them that is under way is part of this one.
    Restart(u32, BTreeSet<Subtask>),
    /// The tasks of that restart, which have stopped, shall begin.
    Begin(u32, Option<Slots>, Restoring),
    /// There are enough slots now.
    Slots(Slots),
    /// The process on a TaskManager has this name.
    HostStarted { host: HostId, on: TaskManagerId },
    /// A process takes commands, and listens there for the records of others.
    HostReady { host: HostId, data_address: String },
    /// The coordinator host takes commands.
    CoordinatorReady,
    /// A host says what became of a task.
    Reported { host: HostId, report: Box<host::TaskState> },
    /// A host says what its tasks have counted.
    Measured { host: HostId, metrics: host::Metrics },
    /// Nothing more will come of a host's tasks.
    HostLost { host: HostId, entry: ExceptionEntry },
    /// A host says nothing and is being killed.
    HostSilent { host: HostId, entry: ExceptionEntry },
    /// Every task shall stop.
    Cancel,
    /// A timer has run out.
    Timer { kind: TimerKind, generation: u64 },
    /// A timer of a restart has run out.
    FailoverTimer { attempt: u32, kind: TimerKind },
}

/// An instruction for the router, or a result.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug)]
pub(crate) enum Action {
    /// Processes are needed for the tasks of these slots, and the coordinator host.
    NeedHosts(Vec<Share>),
    /// Tell a host, if it is in a state to hear it.
    Tell(HostId, to_host::Message),
    /// Kill a host.
    Kill(HostId),
    /// Set a timer.
    SetTimer { kind: TimerKind, generation: u64, after: Duration },
    /// All hosts are ready and tasks are being deployed: from now on there may be output.
    Deployed,
    /// Slots did not come in time.
    SlotsLate,
    /// These tasks have failed.
    Failed(ExceptionEntry, Vec<Subtask>),
    /// More processes are needed for the tasks of these slots.
    NeedMoreHosts(Vec<Share>),
    /// As [`Action::SetTimer`], of the restart of this attempt.
    SetFailoverTimer { attempt: u32, kind: TimerKind, after: Duration },
    /// The tasks of the restart of this attempt have stopped.
    FailoverStopped(u32),
    /// The tasks of the restart of this attempt run.
    FailoverDone(u32),
    /// A further failure on the way to [`Action::Stopped`].
    Consequence(ExceptionEntry),
    /// All tasks have finished.
    Finished,
    /// No task runs any more, as was asked for.
    Stopped,
    /// The state of a task, or of all of them, has changed.
    Changed,
    /// Counters have changed.
    Measured,
    /// A task has entered a state.
    Task(Box<TaskNews>),
}

/// The slots of one TaskManager.
#[derive(Debug)]
pub(crate) struct Share {
    /// The TaskManager.
    pub(crate) on: Arc<dyn TaskManagerGateway>,
    /// Its address.
    pub(crate) address: String,
    /// The numbers of its slots.
    pub(crate) slots: Vec<u32>,
}

/// The thing that the tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// The end of their input, or to be started.
    Nothing,
    /// Their slots.
    Slots,
    /// Their processes, and the coordinator host.
    Hosts,
    /// So many tasks to stop.
    Tasks(usize),
}

#[expect(clippy::large_enum_variant, reason = "one per job")]
#[derive(Debug)]
enum Phase {
    Idle,
    WaitingForSlots,
    StartingHosts,
    Running {
        /// A broken exchange, with the tasks that it failed, until what broke it is known.
        held: Option<(ExceptionEntry, Vec<Subtask>)>,
        /// A host that ended although its tasks had no need of it any more.
        exited: Option<ExceptionEntry>,
    },
    Cancelling,
}

/// One of the processes.
#[derive(Debug)]
struct TaskHost {
    on: TaskManagerId,
    address: String,
    /// The numbers of its slots.
    slots: Vec<u32>,
    /// The address of its data port, once it is ready.
    data_address: Option<String>,
}

/// The decider of a job's tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    needs_coordinator: bool,
    eager: bool,
    slot_request_timeout: Duration,
    host_start_timeout: Duration,
    exchange_hold: Duration,
    cancel_timeout: Duration,

    now: Timestamp,
    phase: Phase,
    generation: u64,
    executions: ExecutionGraph,
    /// True once an attempt was started.
    started: bool,
    /// True once the hosts of the attempt were told their peers.
    deployed: bool,
    coordinator_ready: bool,
    /// The beginning of the attempt.
    restoring: Restoring,
    /// The slots of the attempt, by TaskManager.
    slots: BTreeMap<TaskManagerId, Slots>,
    /// The processes of the attempt that are not lost.
    hosts: BTreeMap<HostId, TaskHost>,
    /// The slots of the process that is being started on a TaskManager.
    shares: BTreeMap<TaskManagerId, Vec<u32>>,
    /// The restarts of some tasks, by their attempts. No task is part of two.
    failovers: BTreeMap<u32, Failover>,
    actions: Vec<Action>,
}

impl Tasks {
    /// All tasks of `graph`, of which none runs.
    pub(crate) fn new(graph: &JobGraph, config: &JobMasterConfig, now: Timestamp) -> Self {
        Self {
            needs_coordinator: graph.needs_coordinator(),
            eager: config.scheduling_of(graph) == SchedulingStrategy::Eager,
            slot_request_timeout: config.slot_request_timeout,
            host_start_timeout: config.host_start_timeout,
            exchange_hold: config.exchange_hold,
            cancel_timeout: config.cancel_timeout,
            now,
            phase: Phase::Idle,
            generation: 0,
            executions: ExecutionGraph::new(graph, now),
            started: false,
            deployed: false,
            coordinator_ready: false,
            restoring: Restoring::default(),
            slots: BTreeMap::new(),
            hosts: BTreeMap::new(),
            shares: BTreeMap::new(),
            failovers: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    /// Takes an event in and says what to do, in this order.
    pub(crate) fn on_event(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Start(attempt, slots, restoring) => {
                self.restoring = restoring;
                self.start(attempt, slots);
            }
            Event::Restart(attempt, tasks) => self.restart(attempt, tasks),
            Event::Begin(attempt, slots, restoring) => self.begin(attempt, slots, restoring),
            Event::Slots(slots) => match self.phase {
                Phase::WaitingForSlots => self.start_hosts(slots),
                Phase::Running { .. } => self.start_waiting(&slots),
                Phase::Idle | Phase::StartingHosts | Phase::Cancelling => {}
            },
            Event::HostStarted { host, on } => self.on_host_started(host, on),
            Event::HostReady { host, data_address } => self.on_host_ready(host, data_address),
            Event::CoordinatorReady => {
                self.coordinator_ready = true;
                self.run_if_ready();
            }
            Event::Reported { host, report } => self.on_report(host, *report),
            Event::Measured { host, metrics } => self.on_metrics(host, metrics),
            Event::HostLost { host, entry } => self.on_host_lost(host, entry),
            Event::HostSilent { host, entry } => self.on_host_silent(host, entry),
            Event::Cancel => self.cancel(),
            Event::FailoverTimer { attempt, kind } => self.on_failover_timer(attempt, kind),
            Event::Timer { kind, generation } => {
                if generation == self.generation {
                    self.on_timer(kind);
                }
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// The processes of its tasks.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostId> {
        self.hosts.keys().copied()
    }

    /// Whether its processes were told to run tasks.
    pub(crate) const fn is_deployed(&self) -> bool {
        self.deployed && matches!(self.phase, Phase::Running { .. })
    }

    /// Each of them.
    pub(crate) fn executions(&self) -> &ExecutionGraph {
        &self.executions
    }

    /// The thing that they wait for.
    pub(crate) fn waits_for(&self) -> WaitsFor {
        match self.phase {
            Phase::Idle => WaitsFor::Nothing,
            Phase::Running { .. } => self.failovers_wait_for(),
            Phase::WaitingForSlots => WaitsFor::Slots,
            Phase::StartingHosts => WaitsFor::Hosts,
            Phase::Cancelling => WaitsFor::Tasks(self.executions.active()),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
        self.phase = phase;
        self.actions.push(Action::Changed);
    }

    fn set_timer(&mut self, kind: TimerKind, after: Duration) {
        self.actions.push(Action::SetTimer { kind, generation: self.generation, after });
    }

    fn on_timer(&mut self, kind: TimerKind) {
        match (&mut self.phase, kind) {
            (Phase::WaitingForSlots, TimerKind::SlotRequest) => {
                self.actions.push(Action::SlotsLate);
            }
            (Phase::StartingHosts, TimerKind::HostStart) => self.on_hosts_late(Vec::new()),
            (Phase::Running { held, .. }, TimerKind::ExchangeHold) => {
                let failed = held.take().map(|(entry, tasks)| Action::Failed(entry, tasks));
                self.actions.extend(failed);
            }
            (Phase::Cancelling, TimerKind::Cancel) => self.on_tasks_stuck(self.busy_hosts()),
            _ => {}
        }
    }

    /// A failure that is seen now and is not one task's.
    fn entry(&self, cause: FailureCause) -> ExceptionEntry {
        ExceptionEntry { timestamp: self.now, cause, task: None, location: None }
    }

    fn location(&self, id: HostId) -> Option<TaskLocation> {
        self.hosts.get(&id).map(|host| TaskLocation {
            task_manager: host.on.clone(),
            address: host.address.clone(),
            host: id,
            data_port: host.data_address.as_deref().and_then(crate::hosts::port_of),
        })
    }

    /// Stops every task.
    fn cancel(&mut self) {
        self.failovers.clear();
        self.executions.cancel(self.now);
        self.enter(Phase::Cancelling);
        let busy = self.busy_hosts();
        for host in &busy {
            let cancel = to_host::Message::Cancel(Cancel { tasks: Vec::new() });
            self.actions.push(Action::Tell(*host, cancel));
        }
        if !busy.is_empty() {
            self.set_timer(TimerKind::Cancel, self.cancel_timeout);
        }
        self.stop_if_ended();
    }

    fn stop_if_ended(&mut self) {
        if matches!(self.phase, Phase::Cancelling) && self.executions.active() == 0 {
            self.enter(Phase::Idle);
            self.actions.push(Action::Stopped);
        }
    }

    /// Hosts with tasks that have not ended.
    fn busy_hosts(&self) -> Vec<HostId> {
        let busy = |id: &HostId| !self.executions.active_on(*id).is_empty();
        self.hosts.keys().copied().filter(busy).collect()
    }

    /// Tasks do not stop: their processes are killed, which ends them.
    fn on_tasks_stuck(&mut self, hosts: Vec<HostId>) {
        let timeout = self.cancel_timeout;
        for id in hosts {
            let is_stuck = |task: &Subtask| {
                self.executions.get(*task).is_some_and(|it| it.state() == ExecutionState::Canceling)
            };
            let active = self.executions.active_on(id).into_iter();
            let stuck: Vec<Subtask> = active.filter(is_stuck).collect();
            let Some(first) = stuck.first().map(|task| self.executions.name(*task)) else {
                continue;
            };
            let others = match stuck.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let message = format!(
                "{first}{others} did not stop within {timeout:?}, its task host was killed"
            );
            let mut entry = self.entry(FailureCause::new(CauseKind::Stuck, message));
            entry.task = Some(first);
            entry.location = self.location(id);
            self.actions.push(Action::Consequence(entry));
            self.actions.push(Action::Kill(id));
        }
        self.actions.push(Action::Changed);
    }

    /// The task that ended its process, as far as it is known: any of those that ran in it.
    fn suspects(&self, active: &[Subtask]) -> Option<String> {
        const NAMED_MAX: usize = 3;
        let names = active.iter().take(NAMED_MAX).map(|task| self.executions.name(*task));
        let names = names.collect::<Vec<_>>().join(", ");
        match active.len() {
            0 => None,
            1 => Some(names),
            count if count <= NAMED_MAX => Some(format!("one of {names}")),
            count => Some(format!("one of {names} and {} more", count - NAMED_MAX)),
        }
    }
}
