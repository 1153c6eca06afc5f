//! Restarts of some regions while the others run.
//!
//! A region begins again when its tasks have stopped, the checkpoint that it begins from is
//! certain, the coordinators have taken back what its tasks were given behind that checkpoint, the
//! restart strategy's pause is over, and no process that it has lost is left.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_checkpoint::plan;
use millstream_config::FailoverStrategy;
use millstream_gateway::ExceptionEntry;
use millstream_protocol::host::{OperatorEvent, OperatorSubtasks, RestartSubtasks, to_host};
use millstream_types::{HostId, JobStatus, Timestamp, VertexId};

use super::{Action, JobMaster, Phase};
use crate::checkpoints::{self, Restoring};
use crate::config::SchedulingStrategy;
use crate::execution_graph::Subtask;
use crate::timer::{Owner, Timer, TimerKind};
use crate::{hosts, settlement, tasks};

/// Whether the coordinators know of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinators {
    NotTold,
    Told,
    Know,
}

/// A restart of some regions.
#[derive(Debug)]
pub(super) struct Failover {
    tasks: BTreeSet<Subtask>,
    /// The end of the restart strategy's pause.
    due: Timestamp,
    stopped: bool,
    /// The beginning of its tasks, once that is certain.
    restoring: Option<Restoring>,
    coordinators: Coordinators,
    begun: bool,
}

impl JobMaster {
    /// These tasks have failed: their regions restart, or all tasks if it has to be.
    pub(super) fn fail_tasks(&mut self, entry: ExceptionEntry, tasks: &[Subtask]) {
        let regions = self.regions.around(tasks);
        let regions = match self.reason_to_restart_all(&regions) {
            None => {
                let individual = self.config.failover == FailoverStrategy::Individual;
                if individual && regions.len() > tasks.len() {
                    tracing::info!(
                        job = %self.submission.job,
                        "the tasks that failed restart with those that channels connect with them"
                    );
                }
                Some(regions)
            }
            Some(reason) => {
                if matches!(self.phase, Phase::Running) {
                    tracing::info!(job = %self.submission.job, reason, "all tasks restart");
                }
                None
            }
        };
        self.fail_regions(entry, regions);
    }

    /// The reason why these regions cannot restart without the others.
    fn reason_to_restart_all(&self, regions: &BTreeSet<Subtask>) -> Option<&'static str> {
        let graph = &self.submission.graph;
        let coordinated = || !self.tasks.executions().coordinated(graph, regions).is_empty();
        if !matches!(self.phase, Phase::Running) || regions.is_empty() {
            Some("the tasks are not running")
        } else if regions.len() == self.regions.task_count() {
            Some("channels connect all tasks with those that failed")
        } else if self.config.failover == FailoverStrategy::Full {
            Some("the failover strategy says so")
        } else if self.config.scheduling_of(graph) != SchedulingStrategy::Eager {
            Some("tasks are scheduled one after the other")
        } else if !self.tasks.is_deployed() {
            Some("not all tasks were told to run")
        } else if self.checkpoints.is_none() && coordinated() {
            Some("without checkpoints sources and sinks cannot go back for some tasks alone")
        } else if (!self.settlement.is_ready() || self.takeover.is_some()) && coordinated() {
            Some("the coordinator host is away")
        } else {
            None
        }
    }

    /// Restarts these regions, and those of restarts under way that are among them.
    pub(super) fn restart_regions(&mut self, mut tasks: BTreeSet<Subtask>, due: Timestamp) {
        self.restarts += 1;
        let attempt = self.restarts;
        let absorbed = self.failovers.extract_if(.., |_, it| !it.tasks.is_disjoint(&tasks));
        let absorbed: Vec<Failover> = absorbed.map(|(_, failover)| failover).collect();
        tasks.extend(absorbed.into_iter().flat_map(|failover| failover.tasks));
        let failover = Failover {
            tasks: tasks.clone(),
            due,
            stopped: false,
            restoring: self.checkpoints.is_none().then(Restoring::default),
            coordinators: Coordinators::NotTold,
            begun: false,
        };
        self.failovers.insert(attempt, failover);
        let wait = due.saturating_since(self.now);
        if !wait.is_zero() {
            self.set_failover_timer(attempt, TimerKind::Restart, wait);
        }
        let vertices = &self.submission.graph.vertices;
        let named = tasks.iter().filter_map(|task| {
            let vertex: VertexId = vertices.get(task.vertex)?.id;
            let index = u32::try_from(task.index).unwrap_or(u32::MAX);
            Some(plan::Subtask { vertex, index })
        });
        let named = named.collect();
        self.tell_checkpoints(checkpoints::Event::Regions(named, attempt));
        // A stop that has failed by that restarts all tasks.
        if self.failovers.contains_key(&attempt) {
            self.tell_tasks(tasks::Event::Restart(attempt, tasks));
        }
    }

    pub(super) fn set_failover_timer(&mut self, attempt: u32, kind: TimerKind, after: Duration) {
        let timer = Timer { owner: Owner::Failover, kind, generation: u64::from(attempt) };
        self.actions.push(Action::SetTimer(timer, after));
    }

    pub(super) fn set_restarting(&mut self) {
        if self.status != JobStatus::Restarting {
            self.set_status(JobStatus::Restarting);
        }
    }

    pub(super) fn on_failover_stopped(&mut self, attempt: u32) {
        if let Some(failover) = self.failovers.get_mut(&attempt) {
            failover.stopped = true;
            self.go_on_with_failovers();
        }
    }

    /// It is certain which checkpoint is the newest one.
    pub(super) fn on_restore_regions(&mut self, restoring: &Restoring) {
        for failover in self.failovers.values_mut() {
            failover.restoring.get_or_insert_with(|| restoring.clone());
        }
        self.go_on_with_failovers();
    }

    pub(super) fn on_subtasks_restarted(&mut self, attempt: u32) {
        if let Some(failover) = self.failovers.get_mut(&attempt)
            && failover.coordinators == Coordinators::Told
        {
            failover.coordinators = Coordinators::Know;
            self.go_on_with_failovers();
        }
    }

    /// Takes each restart as far as it can go.
    pub(super) fn go_on_with_failovers(&mut self) {
        let waiting = self.failovers.iter().filter(|(_, it)| !it.begun && it.stopped);
        let waiting: Vec<u32> = waiting.map(|(attempt, _)| *attempt).collect();
        for attempt in waiting {
            self.tell_coordinators(attempt);
            self.begin_failover(attempt);
        }
    }

    /// Has coordinators take back what the tasks were given behind the checkpoint.
    fn tell_coordinators(&mut self, attempt: u32) {
        let Some(failover) = self.failovers.get_mut(&attempt) else { return };
        let Some(restoring) = &failover.restoring else { return };
        if failover.coordinators != Coordinators::NotTold {
            return;
        }
        let restored = restoring.checkpoint();
        let graph = &self.submission.graph;
        let coordinated = self.tasks.executions().coordinated(graph, &failover.tasks);
        if coordinated.is_empty() {
            failover.coordinators = Coordinators::Know;
            return;
        }
        failover.coordinators = Coordinators::Told;
        let operators = coordinated.into_iter().map(|(operator, subtasks)| OperatorSubtasks {
            operator_id: operator.as_bytes().to_vec(),
            subtasks,
        });
        let operators = operators.collect();
        let restart = RestartSubtasks { attempt, restored, operators };
        let restart = to_host::Message::RestartSubtasks(restart);
        self.tell_settlement(settlement::Event::Tell(restart));
    }

    fn begin_failover(&mut self, attempt: u32) {
        let living: BTreeSet<HostId> = self.tasks.hosts().collect();
        let Some(failover) = self.failovers.get(&attempt) else { return };
        let is_due = failover.due.saturating_since(self.now).is_zero();
        let know = failover.coordinators == Coordinators::Know;
        if !is_due || !know {
            return;
        }
        let Some(restoring) = failover.restoring.clone() else { return };
        // One that said that it cannot go on ends soon; its slots are in use until then.
        let leaving = self.hosts.others(&living);
        if !leaving.is_empty() {
            let grace = self.config.stop_grace;
            leaving.into_iter().for_each(|host| self.tell_hosts(hosts::Event::Stop(host, grace)));
            return;
        }
        if let Some(failover) = self.failovers.get_mut(&attempt) {
            failover.begun = true;
        }
        let slots = self.slots.assign();
        self.tell_tasks(tasks::Event::Begin(attempt, slots, restoring));
    }

    pub(super) fn on_failover_done(&mut self, attempt: u32) {
        self.failovers.remove(&attempt);
        if self.failovers.is_empty() && self.status == JobStatus::Restarting {
            self.set_status(JobStatus::Running);
        }
    }

    /// Passes on what a coordinator says to a task, unless it is for an attempt that is over.
    pub(super) fn deliver(&mut self, event: OperatorEvent) {
        let executions = self.tasks.executions();
        let Some(task) = executions.of_operator(&event.operator_id, event.subtask) else { return };
        let is_over = |failover: &Failover| {
            failover.coordinators != Coordinators::Know && failover.tasks.contains(&task)
        };
        if self.failovers.values().any(is_over) {
            return;
        }
        if let Some(host) = executions.active_host(task) {
            let event = to_host::Message::OperatorEvent(event);
            self.tell_hosts(hosts::Event::Tell(host, event));
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_gateway::{CauseKind, FailureCause};
    use millstream_protocol::host::{Execution, from_host, to_host};

    use super::*;
    use crate::master::Event;
    use crate::master::fixture::{
        Job, commands, coordinated, deployments, failure, forward, pipeline, stops, with_restarts,
    };

    const TWO: [(&str, u32); 2] = [("tm1", 0), ("tm2", 0)];

    /// The attempts of the subtasks of each vertex.
    fn attempts(job: &Job) -> Vec<Vec<u32>> {
        let vertices = job.details().vertices.into_iter();
        vertices.map(|it| it.subtasks.iter().map(|subtask| subtask.attempt).collect()).collect()
    }

    /// The task fails.
    fn fails(job: &mut Job, task: (usize, u32)) -> Vec<super::Action> {
        job.reports(task, Execution::Failed, Some(failure("error", "no")))
    }

    #[test]
    fn the_tasks_of_other_regions_are_told_nothing() {
        let mut job = Job::running_on(with_restarts(forward(2), 3), &TWO);
        let hosts = job.started.len();
        let actions = fails(&mut job, (0, 0));
        let [(host, to_host::Message::Cancel(cancel))] = &commands(&actions)[..] else {
            panic!("{actions:?}");
        };
        assert_eq!((*host, cancel.tasks.len()), (job.host("tm1"), 1), "the sink of its region");
        assert_eq!(job.status(), JobStatus::Restarting);
        job.reports((1, 0), Execution::Canceled, None);
        let actions = job.time_out(TimerKind::Restart);
        let deployed = deployments(&actions);
        assert_eq!(deployed.keys().copied().collect::<Vec<_>>(), [job.host("tm1")]);
        assert_eq!((job.started.len(), attempts(&job)), (hosts, vec![vec![1, 0], vec![1, 0]]));
        for state in [Execution::Initializing, Execution::Running] {
            job.reports((0, 0), state, None);
            job.reports((1, 0), state, None);
        }
        assert_eq!((job.status(), job.details().restarts), (JobStatus::Running, 1));
        assert!(stops(&actions).is_empty());
    }

    #[test]
    fn a_failure_in_another_region_is_a_restart_of_its_own() {
        let mut job =
            Job::running_on(with_restarts(forward(3), 9), &[("tm1", 0), ("tm2", 0), ("tm3", 0)]);
        fails(&mut job, (0, 0));
        fails(&mut job, (1, 2));
        job.reports((1, 0), Execution::Canceled, None);
        job.reports((0, 2), Execution::Canceled, None);
        job.time_out(TimerKind::Restart);
        job.time_out(TimerKind::Restart);
        assert_eq!(attempts(&job), [[1, 0, 2], [1, 0, 2]]);
        // A second failure of a region on its way begins anew.
        job.reports((0, 0), Execution::Initializing, None);
        fails(&mut job, (0, 0));
        job.reports((1, 0), Execution::Canceled, None);
        job.time_out(TimerKind::Restart);
        assert_eq!(attempts(&job), [[3, 0, 2], [3, 0, 2]]);
    }

    #[test]
    fn a_lost_host_restarts_the_regions_that_had_tasks_in_it() {
        let mut job =
            Job::running_on(with_restarts(forward(3), 3), &[("tm1", 0), ("tm1", 1), ("tm2", 0)]);
        let (lost, hosts) = (job.host("tm1"), job.started.len());
        job.exits(lost, FailureCause::new(CauseKind::Signal, "killed by signal 9"), "");
        job.time_out(TimerKind::Restart);
        assert_eq!(job.started.len(), hosts + 1);
        assert_eq!(attempts(&job), [[1, 1, 0], [1, 1, 0]]);
        let actions = job.ready("tm1");
        let deployed = deployments(&actions);
        assert_eq!(deployed[&job.host("tm1")].tasks.len(), 4);
        assert_eq!(deployed.len(), 1, "the other host is not touched");
    }

    #[test]
    fn all_tasks_restart_where_they_are_connected_or_cannot_go_back() {
        for graph in [pipeline(2), coordinated_forward()] {
            let mut job = Job::new(with_restarts(graph, 3));
            job.start();
            job.run_on(&TWO);
            if job.started.iter().any(|(on, _)| on == "coordinators") {
                job.ready("coordinators");
                job.all_report(Execution::Initializing);
                job.all_report(Execution::Running);
            }
            let actions = fails(&mut job, (0, 0));
            let told = commands(&actions);
            let cancels = told.iter().filter(|(_, it)| matches!(it, to_host::Message::Cancel(_)));
            assert_eq!(cancels.count(), 2, "{told:?}");
        }
    }

    fn coordinated_forward() -> millstream_graph::JobGraph {
        let mut graph = coordinated(2);
        graph.edges[0].partitioner = millstream_graph::Partitioner::Forward;
        graph
    }

    #[test]
    fn the_restart_strategy_ends_a_job_whose_region_fails_too_often() {
        let mut job = Job::running_on(with_restarts(forward(2), 1), &TWO);
        fails(&mut job, (0, 0));
        job.reports((1, 0), Execution::Canceled, None);
        job.time_out(TimerKind::Restart);
        job.reports((0, 0), Execution::Initializing, None);
        let actions = fails(&mut job, (0, 0));
        assert_eq!(job.status(), JobStatus::Failing);
        let cancelled = commands(&actions);
        assert_eq!(cancelled.len(), 2, "every host is told: {cancelled:?}");
        let late = from_host::Message::SubtasksRestarted(Default::default());
        job.says(job.host("tm1"), late);
        job.event(Event::Timer(Timer {
            owner: Owner::Failover,
            kind: TimerKind::Restart,
            generation: 1,
        }));
        assert_eq!(job.status(), JobStatus::Failing);
    }
}
