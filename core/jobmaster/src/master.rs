//! The decider of one job: what happens in, what to do out.
//!
//! ```text
//! New -> WaitingForSlots -> StartingHosts -> Running -> Committing --(outcome: Finish)--+
//!              ^     \            |             |            |                          |
//!              |      +-----------+-- failure or cancel -----+                          |
//!              |                  v                                                     v
//!              |           CancellingTasks -------> Aborting ------------------> StoppingHosts
//!              |                  (outcome: Cancel, Fail, Restart)                      |
//!              +---- WaitingForRestart <--------------------------------------- Restart-+-> Ended
//! ```
//! `Committing` and `Aborting` are passed only by jobs with a coordinator host. A job's status is
//! what Flink calls these phases; a phase says what is being waited for.

mod ending;
mod explanations;
#[cfg(test)]
pub(crate) mod fixture;
mod messages;
#[cfg(test)]
mod random_tests;
mod schedule;
mod silence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{
    CauseKind, ExceptionEntry, FailureCause, HostCommand, JobDetails, JobMasterEvent,
    JobSubmission, SlotRequirement, StartHost, TaskManagerGateway,
};
use millstream_graph::JobGraph;
use millstream_protocol::job;
use millstream_types::{AllocationId, HostId, JobStatus, TaskManagerId, Timestamp};

use crate::config::{JobMasterConfig, SchedulingStrategy};
use crate::execution_graph::ExecutionGraph;
use crate::history::History;
use crate::hosts::Hosts;
use crate::ids::IdSource;
use crate::slots::SlotPool;

/// What happens to a job.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug)]
pub enum Event {
    /// It shall run; the first event and only once.
    Start,
    /// News from other components.
    Gateway(JobMasterEvent),
    /// A timer that was set has run out.
    Timer(Timer),
}

/// What is to be done. Worker and coordinator host are reached through the same gateway.
#[derive(Debug)]
pub enum Action {
    /// Replace what the job asks the ResourceManager for.
    DeclareSlots(Vec<SlotRequirement>),
    /// Give slots back.
    ReleaseSlots(Vec<AllocationId>),
    /// Start a process.
    StartHost(Arc<dyn TaskManagerGateway>, StartHost),
    /// Tell a process something.
    Command(Arc<dyn TaskManagerGateway>, HostCommand),
    /// End a process; after so long, by force.
    StopHost(Arc<dyn TaskManagerGateway>, HostId, Duration),
    /// Hand back the timer after so long.
    SetTimer(Timer, Duration),
    /// Show [`JobMaster::details`] to the world.
    Publish,
    /// The job has ended; late news is still to be handed in, nothing else will come of it.
    End,
}

/// A timer. One that was set in an earlier phase is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// What for.
    pub kind: TimerKind,
    /// When it was set; grows with every change of phase.
    pub round: u64,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// Slots did not come.
    SlotRequest,
    /// Hosts did not get ready.
    HostStart,
    /// Nothing explained a broken exchange.
    ExchangeHold,
    /// Hosts had time for a sign of life.
    Heartbeat,
    /// Tasks did not stop.
    Cancel,
    /// The coordinator host did not discard what was not published.
    Abort,
    /// It is time to restart.
    Restart,
    /// The reason for the loss of a worker was not told in time.
    Explanation,
    /// It is time to show metrics.
    Publish,
}

/// What a job waits for.
#[expect(clippy::large_enum_variant, reason = "one per job")]
#[derive(Debug)]
enum Phase {
    New,
    WaitingForSlots,
    StartingHosts,
    Running {
        /// A broken exchange, until what broke it is known.
        held: Option<ExceptionEntry>,
        /// A host that ended although its tasks had no need of it any more.
        exited: Option<ExceptionEntry>,
    },
    Committing,
    CancellingTasks {
        then: Outcome,
    },
    Aborting {
        then: Outcome,
        /// Whether the coordinator host was started only for this.
        fresh: bool,
    },
    StoppingHosts {
        then: Outcome,
    },
    WaitingForRestart,
    Ended,
}

/// What follows the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Finish,
    Cancel,
    Fail,
    Restart { due: Timestamp },
}

/// What the outside has not seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unseen {
    Nothing,
    Metrics,
    State,
}

/// Whether a job may go from one status to the other at once.
fn may_follow(from: JobStatus, to: JobStatus) -> bool {
    use JobStatus as S;
    match from {
        S::Initializing => matches!(to, S::Created | S::Cancelling),
        S::Created => matches!(to, S::Running | S::Failing | S::Cancelling),
        S::Running => matches!(to, S::Failing | S::Restarting | S::Cancelling | S::Finished),
        S::Restarting => matches!(to, S::Running | S::Cancelling),
        S::Failing => matches!(to, S::Failed | S::Cancelling),
        S::Cancelling => matches!(to, S::Canceled),
        S::Failed | S::Canceled | S::Finished | S::Suspended | S::Reconciling => false,
    }
}

/// The master of one job, as a decider.
pub struct JobMaster {
    submission: JobSubmission,
    /// The graph as hosts are told it.
    graph_message: job::JobGraph,
    config: JobMasterConfig,
    /// Why the job cannot even start.
    refused: Option<FailureCause>,
    scheduling: SchedulingStrategy,
    coordinators: Arc<dyn TaskManagerGateway>,
    ids: Box<dyn IdSource>,

    now: Timestamp,
    start_time: Timestamp,
    status: JobStatus,
    status_times: BTreeMap<JobStatus, Timestamp>,
    phase: Phase,
    round: u64,
    restarts: u32,
    /// Restarts that do not count, and since when the storage is away that they were for.
    uncounted: u32,
    outage_since: Option<Timestamp>,
    slots: SlotPool,
    /// Why slots may never come; the ResourceManager says it once, whatever the phase.
    shortage: Option<String>,
    hosts: Hosts,
    /// When the present interval for signs of life began.
    signs_expected_since: Timestamp,
    executions: ExecutionGraph,
    history: History,
    /// Workers that were lost, with the time until when the end of a failed job waits for the
    /// reason; none once that is known.
    losses: BTreeMap<TaskManagerId, Option<Timestamp>>,
    /// Whether tasks of this attempt were deployed, so that output may have to be discarded.
    may_have_output: bool,
    /// How many `Settled` the coordinator host owes.
    settles_due: u32,

    unseen: Unseen,
    published_at: Timestamp,
    publish_timer_set: bool,
    actions: Vec<Action>,
}

impl JobMaster {
    /// The master of `submission`, submitted now. `coordinators` starts the coordinator host.
    #[must_use]
    pub fn new(
        submission: JobSubmission,
        cluster: &JobMasterConfig,
        coordinators: Arc<dyn TaskManagerGateway>,
        ids: Box<dyn IdSource>,
        now: Timestamp,
    ) -> Self {
        let graph: &JobGraph = &submission.graph;
        let (config, refused) = match cluster.for_job(&graph.settings.config) {
            Ok(config) => (config, None),
            Err(error) => {
                let cause = FailureCause::new(CauseKind::Error, error.to_string());
                (cluster.clone(), Some(cause))
            }
        };
        Self {
            graph_message: graph.into(),
            scheduling: config.scheduling_of(graph),
            slots: SlotPool::new(graph),
            executions: ExecutionGraph::new(graph, now),
            history: History::new(config.exception_history_size),
            submission,
            config,
            refused,
            coordinators,
            ids,
            now,
            start_time: now,
            status: JobStatus::Initializing,
            status_times: BTreeMap::from([(JobStatus::Initializing, now)]),
            phase: Phase::New,
            round: 0,
            restarts: 0,
            uncounted: 0,
            outage_since: None,
            shortage: None,
            hosts: Hosts::default(),
            signs_expected_since: now,
            losses: BTreeMap::new(),
            may_have_output: false,
            settles_due: 0,
            unseen: Unseen::Nothing,
            published_at: now,
            publish_timer_set: false,
            actions: Vec::new(),
        }
    }

    /// Takes an event in and says what to do, in this order.
    pub fn on_event(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Start => self.start(),
            Event::Gateway(news) => self.on_news(news),
            Event::Timer(timer) => self.on_timer(timer),
        }
        self.publish();
        std::mem::take(&mut self.actions)
    }

    fn on_news(&mut self, news: JobMasterEvent) {
        match news {
            JobMasterEvent::SlotsGranted(slots) => self.on_slots_granted(slots),
            JobMasterEvent::NotEnoughSlots(sentence) => self.on_shortage(Some(sentence)),
            JobMasterEvent::EnoughSlots => self.on_shortage(None),
            JobMasterEvent::TaskManagerLost { task_manager, cause, explanation } => {
                self.expect_explanation(&task_manager, explanation);
                self.on_task_manager_lost(&task_manager, &cause);
                self.end_if_explained();
            }
            JobMasterEvent::TaskManagerEnded { task_manager, reason } => {
                self.on_task_manager_ended(&task_manager, &reason);
            }
            JobMasterEvent::HostMessage { host, message } => self.on_host_message(host, message),
            JobMasterEvent::HostExited(exit) => self.on_host_exited(&exit),
            JobMasterEvent::Cancel => self.on_cancel(),
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        if timer.kind == TimerKind::Publish {
            self.publish_timer_set = false;
            return;
        }
        if timer.round != self.round {
            return;
        }
        match timer.kind {
            TimerKind::SlotRequest => self.on_slots_late(),
            TimerKind::HostStart => self.on_hosts_late(),
            TimerKind::ExchangeHold => self.on_exchange_unexplained(),
            TimerKind::Heartbeat => self.on_heartbeat(),
            TimerKind::Cancel => self.on_tasks_stuck(),
            TimerKind::Abort => self.on_abort_late(),
            TimerKind::Restart => self.restart(),
            TimerKind::Explanation => self.end_if_explained(),
            TimerKind::Publish => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.round += 1;
        self.phase = phase;
        self.unseen = Unseen::State;
    }

    fn set_status(&mut self, status: JobStatus) {
        debug_assert!(may_follow(self.status, status), "{} -> {status}", self.status);
        self.status = status;
        self.status_times.insert(status, self.now);
        self.unseen = Unseen::State;
    }

    fn set_timer(&mut self, kind: TimerKind, after: Duration) {
        self.actions.push(Action::SetTimer(Timer { kind, round: self.round }, after));
    }

    /// A failure that is seen now and is not one task's.
    fn entry(&self, cause: FailureCause) -> ExceptionEntry {
        ExceptionEntry { timestamp: self.now, cause, task: None, location: None }
    }

    /// Changes of state are shown at once, metrics at most once in an interval.
    fn publish(&mut self) {
        if self.unseen == Unseen::Nothing {
            return;
        }
        let since = self.now.saturating_since(self.published_at);
        let wait = self.config.publish_interval.saturating_sub(since);
        if self.unseen == Unseen::State || wait.is_zero() {
            self.unseen = Unseen::Nothing;
            self.published_at = self.now;
            self.actions.push(Action::Publish);
        } else if !self.publish_timer_set {
            self.publish_timer_set = true;
            self.set_timer(TimerKind::Publish, wait);
        }
    }

    /// The job as it is now.
    #[must_use]
    pub fn details(&self) -> JobDetails {
        let ended = self.status.is_globally_terminal();
        JobDetails {
            job: self.submission.job,
            graph: Arc::clone(&self.submission.graph),
            artifact: self.submission.artifact,
            status: self.status,
            status_times: self.status_times.clone(),
            start_time: self.start_time,
            end_time: ended.then(|| self.status_times.get(&self.status).copied()).flatten(),
            vertices: self.executions.details(),
            exceptions: self.history.entries(),
            exceptions_truncated: self.history.is_truncated(),
            restarts: self.restarts,
            waiting_for: self.waiting_for(),
        }
    }

    fn waiting_for(&self) -> Option<String> {
        match &self.phase {
            Phase::New | Phase::Running { .. } | Phase::Ended => None,
            Phase::WaitingForSlots => {
                let slots = format!("{} of {} slots", self.slots.missing(), self.slots.needed());
                Some(match &self.shortage {
                    Some(sentence) => format!("{slots}: {sentence}"),
                    None => slots,
                })
            }
            Phase::StartingHosts => {
                let starting = self.hosts.iter().filter(|(_, host)| !host.is_ready()).count();
                Some(format!("{starting} of {} processes to start", self.hosts.len()))
            }
            Phase::Committing => Some("its sinks to publish their results".to_owned()),
            Phase::CancellingTasks { .. } => Some(match self.executions.active() {
                1 => "one task to stop".to_owned(),
                active => format!("{active} tasks to stop"),
            }),
            Phase::Aborting { .. } => {
                Some("its sinks to discard what they did not publish".to_owned())
            }
            Phase::StoppingHosts { .. } => Some(match self.hosts.len() {
                0 => "the reason why a TaskManager ended".to_owned(),
                hosts => format!("{hosts} processes to end"),
            }),
            Phase::WaitingForRestart => {
                Some(format!("its restart, {:?} after the failure", self.config.restart_delay))
            }
        }
    }
}
