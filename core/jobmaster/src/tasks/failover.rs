//! Restarts of some tasks while the others run.
//!
//! ```text
//!    Restart           all have ended         Begin          slots          hosts ready
//! ---------> Stopping ---------------> Stopped -----> Waiting -----> Starting ---> Deployed
//!                                                                    all run: done <---+
//! ```
//! A failure on the way is reported as any other; the restart that follows takes this one's place.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::host::{Cancel, TaskId, to_host};
use millstream_types::{ExecutionState, HostId};

use super::{Action, Phase, Slots, Tasks, WaitsFor};
use crate::checkpoints::Restoring;
use crate::execution_graph::Subtask;
use crate::timer::TimerKind;

/// The progress of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its tasks were told to stop.
    Stopping,
    /// None of its tasks runs.
    Stopped,
    /// There are not enough slots.
    Waiting,
    /// Processes are being started.
    Starting,
    /// Its tasks were told to begin.
    Deployed,
}

/// A restart of some tasks.
#[derive(Debug)]
pub(super) struct Failover {
    pub(super) tasks: BTreeSet<Subtask>,
    step: Step,
    restoring: Restoring,
}

impl Failover {
    /// Whether it looks for a process for the task.
    pub(super) fn places(&self, task: &Subtask) -> bool {
        self.step == Step::Starting && self.tasks.contains(task)
    }
}

impl Tasks {
    /// Whether a task was told to stop, so that it begins again.
    pub(super) fn is_stopping(&self, task: Subtask) -> bool {
        let mut stopping = self.failovers.values().filter(|it| it.step == Step::Stopping);
        stopping.any(|it| it.tasks.contains(&task))
    }

    /// Stops these tasks, and those of restarts that they are part of.
    pub(super) fn restart(&mut self, attempt: u32, mut tasks: BTreeSet<Subtask>) {
        if !matches!(self.phase, Phase::Running { .. }) {
            return;
        }
        let absorbed = self.failovers.extract_if(.., |_, it| !it.tasks.is_disjoint(&tasks));
        let absorbed: Vec<Failover> = absorbed.map(|(_, failover)| failover).collect();
        tasks.extend(absorbed.into_iter().flat_map(|failover| failover.tasks));
        self.executions.cancel_some(self.now, &tasks);
        let mut by_host: BTreeMap<HostId, Vec<TaskId>> = BTreeMap::new();
        for task in &tasks {
            let Some(host) = self.executions.active_host(*task) else { continue };
            let Some(execution) = self.executions.get(*task) else { continue };
            let ((vertex, subtask), attempt) =
                (self.executions.message_id(*task), execution.attempt());
            by_host.entry(host).or_default().push(TaskId { vertex, subtask, attempt });
        }
        if !by_host.is_empty() {
            let (kind, after) = (TimerKind::Cancel, self.cancel_timeout);
            self.actions.push(Action::SetFailoverTimer { attempt, kind, after });
        }
        for (host, tasks) in by_host {
            let cancel = to_host::Message::Cancel(Cancel { tasks });
            self.actions.push(Action::Tell(host, cancel));
        }
        let (step, restoring) = (Step::Stopping, Restoring::default());
        self.failovers.insert(attempt, Failover { tasks, step, restoring });
        self.actions.push(Action::Changed);
        self.on_failover_progress();
    }

    /// The tasks of a restart begin: they get slots, and processes where there are none.
    pub(super) fn begin(&mut self, attempt: u32, slots: Option<Slots>, restoring: Restoring) {
        let Some(failover) = self.failovers.get_mut(&attempt) else { return };
        if failover.step != Step::Stopped {
            return;
        }
        (failover.step, failover.restoring) = (Step::Waiting, restoring);
        let tasks = failover.tasks.clone();
        self.executions.reset_some(self.now, &tasks, attempt);
        let tasks: Vec<Subtask> = tasks.into_iter().collect();
        self.executions.schedule(self.now, &tasks);
        self.actions.push(Action::Changed);
        match slots {
            Some(slots) => self.start_waiting(&slots),
            None => {
                let (kind, after) = (TimerKind::SlotRequest, self.slot_request_timeout);
                self.actions.push(Action::SetFailoverTimer { attempt, kind, after });
            }
        }
    }

    /// There are enough slots: the tasks that wait for them get their processes.
    pub(super) fn start_waiting(&mut self, slots: &Slots) {
        let waiting = self.failovers.iter_mut().filter(|(_, it)| it.step == Step::Waiting);
        let mut starting = Vec::new();
        for (attempt, failover) in waiting {
            failover.step = Step::Starting;
            let tasks: Vec<Subtask> = failover.tasks.iter().copied().collect();
            self.executions.start_deploying(self.now, &tasks);
            starting.push(*attempt);
        }
        if starting.is_empty() {
            return;
        }
        self.take_slots(slots);
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        hosts.into_iter().for_each(|host| self.place_on(host));
        let shares = self.shares_without_host();
        if !shares.is_empty() {
            self.actions.push(Action::NeedMoreHosts(shares));
        }
        for attempt in starting {
            let (kind, after) = (TimerKind::HostStart, self.host_start_timeout);
            self.actions.push(Action::SetFailoverTimer { attempt, kind, after });
        }
        self.run_failovers();
    }

    /// Deploys the tasks whose processes are all ready.
    pub(super) fn run_failovers(&mut self) {
        let is_ready = |task: &Subtask| {
            let host = self.executions.active_host(*task).and_then(|host| self.hosts.get(&host));
            host.is_some_and(|host| host.data_address.is_some())
        };
        let starting = self.failovers.iter().filter(|(_, it)| it.step == Step::Starting);
        let ready = starting.filter(|(_, it)| it.tasks.iter().all(is_ready));
        let ready: Vec<u32> = ready.map(|(attempt, _)| *attempt).collect();
        for attempt in ready {
            let Some(failover) = self.failovers.get_mut(&attempt) else { continue };
            failover.step = Step::Deployed;
            let restoring = std::mem::take(&mut failover.restoring);
            let tasks: Vec<Subtask> = failover.tasks.iter().copied().collect();
            self.executions.mark_deployed(&tasks);
            let tasks = self.tasks_by_host(&tasks, &restoring);
            self.tell_tasks(tasks, false);
            self.actions.push(Action::Changed);
        }
    }

    /// Tells of restarts whose tasks have all stopped, or all run.
    pub(super) fn on_failover_progress(&mut self) {
        let executions = &self.executions;
        let all = |failover: &Failover, is_so: fn(ExecutionState) -> bool| {
            let mut states = failover.tasks.iter().filter_map(|task| executions.get(*task));
            states.all(|execution| is_so(execution.state()))
        };
        let mut done = Vec::new();
        for (attempt, failover) in &mut self.failovers {
            match failover.step {
                Step::Stopping if all(failover, ExecutionState::is_terminal) => {
                    failover.step = Step::Stopped;
                    self.actions.push(Action::FailoverStopped(*attempt));
                }
                Step::Deployed if all(failover, runs) => done.push(*attempt),
                Step::Stopping
                | Step::Stopped
                | Step::Waiting
                | Step::Starting
                | Step::Deployed => {}
            }
        }
        for attempt in done {
            self.failovers.remove(&attempt);
            self.actions.push(Action::FailoverDone(attempt));
        }
    }

    pub(super) fn on_failover_timer(&mut self, attempt: u32, kind: TimerKind) {
        let Some(failover) = self.failovers.get(&attempt) else { return };
        let tasks: Vec<Subtask> = failover.tasks.iter().copied().collect();
        match (failover.step, kind) {
            (Step::Stopping, TimerKind::Cancel) => {
                let hosts = tasks.iter().filter_map(|task| self.executions.active_host(*task));
                let hosts: BTreeSet<HostId> = hosts.collect();
                self.on_tasks_stuck(hosts.into_iter().collect());
            }
            (Step::Waiting, TimerKind::SlotRequest) => self.actions.push(Action::SlotsLate),
            (Step::Starting, TimerKind::HostStart) => {
                self.on_hosts_late(tasks);
                self.kill_late_hosts();
            }
            _ => {}
        }
    }

    /// Gives up processes that do not get ready: the next restart begins with others.
    fn kill_late_hosts(&mut self) {
        let late = self.hosts.extract_if(.., |_, host| host.data_address.is_none());
        self.actions.extend(late.map(|(host, _)| Action::Kill(host)));
    }

    /// The thing that the restarts wait for.
    pub(super) fn failovers_wait_for(&self) -> WaitsFor {
        let is_active = |task: &&Subtask| self.executions.active_host(**task).is_some();
        let of = |step| self.failovers.values().filter(move |it| it.step == step);
        let active = of(Step::Stopping).flat_map(|it| &it.tasks).filter(is_active).count();
        if active > 0 {
            WaitsFor::Tasks(active)
        } else if self.needs_slots() {
            WaitsFor::Slots
        } else if of(Step::Starting).next().is_some() {
            WaitsFor::Hosts
        } else {
            WaitsFor::Nothing
        }
    }

    /// Whether tasks wait for slots.
    pub(crate) fn needs_slots(&self) -> bool {
        matches!(self.phase, Phase::WaitingForSlots)
            || self.failovers.values().any(|it| it.step == Step::Waiting)
    }
}

const fn runs(state: ExecutionState) -> bool {
    matches!(state, ExecutionState::Running | ExecutionState::Finished)
}
