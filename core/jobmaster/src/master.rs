//! The decider of one job: routes what happens to the parts that decide, and decides what the job
//! as a whole does.
//!
//! | part | decides |
//! |---|---|
//! | [`crate::tasks`] | how tasks get slots and hosts, run, and stop |
//! | [`crate::hosts`] | which processes are up and whether they live |
//! | [`crate::settlement`] | how results are published or discarded |
//! | [`crate::restarts`] | whether a job restarts after a failure, and when |
//! | [`crate::checkpoints`] | when checkpoints are taken, and from which one an attempt begins |
//!
//! ```text
//! New -> Running -> Committing --(outcome: Finish)------------------+
//!         ^  |          |                                           |
//!         |  +----------+-- failure or cancel                       v
//!         |  v                                                StoppingHosts
//!         | Cancelling -------> Aborting -----------------------^   |
//!         |        (outcome: Cancel, Fail, Restart)                 |
//!         +---- WaitingForRestart <--------------------- Restart ---+-> Ended
//! ```
//! A job that takes checkpoints restarts from the newest one, without an abort: what it carries is
//! published, and the committers of the next attempt discard the rest. Its end waits for the last
//! checkpoint.
//!
//! A job's status is what Flink calls these phases; a phase says what is being waited for.

mod checkpointing;
mod ending;
mod explanations;
mod failover;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod random_tests;
mod requesting;
mod routing;
mod takeover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_checkpoint::messages::Now;
use millstream_gateway::{
    AllocatedSlot, CauseKind, ExceptionEntry, FailureCause, HostCommand, JobDetails,
    JobMasterEvent, JobSubmission, SlotRequirement, StartHost, TaskManagerGateway,
};
use millstream_types::{AllocationId, HostId, JobStatus, TaskManagerId, Timestamp};

use crate::checkpoints;
use crate::checkpoints::{Checkpoints, Loaded, Restoring, StorageAnswer, StorageRequest};
use crate::config::{JobMasterConfig, Recovery};
use crate::history::History;
use crate::hosts::{self, Hosts};
use crate::ids::IdSource;
use crate::regions::Regions;
use crate::requests::Requests;
use crate::restarts::Restarts;
use crate::settlement::{self, Settlement};
use crate::slots::SlotPool;
use crate::tasks::{self, Tasks, WaitsFor};
use crate::timer::{Owner, Timer, TimerKind};
use failover::Failover;
use takeover::Takeover;

/// An event of a job.
#[derive(Debug)]
pub enum Event {
    /// The job shall run; the first event and only once.
    Start,
    /// As [`Event::Start`] of a job that starts from a checkpoint or savepoint.
    StartFrom(Box<Loaded>),
    /// As [`Event::Start`] of a job that cannot run, for this reason.
    Refuse(FailureCause),
    /// News from other components.
    Gateway(JobMasterEvent),
    /// A timer that was set has run out.
    Timer(Timer),
    /// The storage of checkpoints has answered.
    Storage(StorageAnswer),
}

/// An instruction for the actor. TaskManager and coordinator host are reached through the same
/// gateway.
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
    /// Ask the storage of checkpoints.
    Storage(StorageRequest),
    /// Show [`JobMaster::details`] to the world.
    Publish,
    /// The job has ended; late news is still to be handed in, nothing else will come of it.
    End,
}

/// The phase of a job.
#[derive(Debug, Clone, Copy)]
enum Phase {
    New,
    /// The tasks get their slots and hosts, and run.
    Running,
    /// The results are being published.
    Committing,
    /// The tasks are being stopped.
    Cancelling {
        then: Outcome,
    },
    /// Unpublished output is being discarded.
    Aborting {
        then: Outcome,
    },
    StoppingHosts {
        then: Outcome,
    },
    WaitingForRestart,
    Ended,
}

/// The next step after the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Finish,
    Cancel,
    Fail,
    Restart { due: Timestamp },
}

/// Changes that were not published yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unseen {
    Nothing,
    Metrics,
    State,
}

/// True if a job may go from one status to the other at once.
fn may_follow(from: JobStatus, to: JobStatus) -> bool {
    use JobStatus as S;
    match from {
        S::Initializing => matches!(to, S::Created | S::Cancelling),
        S::Created => matches!(to, S::Running | S::Failing | S::Cancelling),
        S::Running => matches!(to, S::Failing | S::Restarting | S::Cancelling | S::Finished),
        S::Restarting => matches!(to, S::Running | S::Failing | S::Cancelling),
        S::Failing => matches!(to, S::Failed | S::Cancelling),
        S::Cancelling => matches!(to, S::Canceled),
        S::Failed | S::Canceled | S::Finished | S::Suspended | S::Reconciling => false,
    }
}

/// The master of one job, as a decider.
pub struct JobMaster {
    submission: JobSubmission,
    config: JobMasterConfig,
    /// The error in its settings that keeps the job from starting.
    refused: Option<FailureCause>,
    tasks: Tasks,
    regions: Regions,
    /// The restarts of some regions while the others run, by their attempts.
    failovers: BTreeMap<u32, Failover>,
    hosts: Hosts,
    settlement: Settlement,
    /// `None` if the job takes none.
    checkpoints: Option<Checkpoints>,
    requests: Requests,
    /// The coordinator host has died, and another one is started after a pause.
    coordinators_due: bool,
    /// Another coordinator host is on its way into the place of one that has died.
    takeover: Option<Takeover>,
    /// The number of takeovers so far.
    takeovers: u64,
    /// The beginning of the next attempt, once that is certain.
    restoring: Option<Restoring>,
    /// The next attempt waits for that alone.
    waits_for_restore: bool,
    /// The abort waits until it is certain which checkpoint is the last one.
    waits_to_abort: bool,
    /// The last attempt's output was left to the committers of the next one.
    owes_abort: bool,

    instant: Instant,
    now: Timestamp,
    start_time: Timestamp,
    status: JobStatus,
    status_times: BTreeMap<JobStatus, Timestamp>,
    phase: Phase,
    generation: u64,
    restarts: u32,
    /// The decider of the restart strategy.
    strategy: Restarts,
    /// The time since when a storage is away, for which restarts do not count.
    outage_since: Option<Timestamp>,
    slots: SlotPool,
    /// The reason why slots may never come; the ResourceManager says it once, in any phase.
    shortage: Option<String>,
    history: History,
    /// TaskManagers that were lost, with the time until when the end of a failed job waits for the
    /// reason; none once that is known.
    losses: BTreeMap<TaskManagerId, Option<Timestamp>>,

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
        now: Now,
    ) -> Self {
        let Now { instant, wall: now } = now;
        let graph = Arc::clone(&submission.graph);
        let (config, refused) = match cluster.for_job(&graph.settings.config) {
            Ok(config) => (config, None),
            Err(error) => {
                let cause = FailureCause::new(CauseKind::Error, error.to_string());
                (cluster.clone(), Some(cause))
            }
        };
        let checkpoints = Checkpoints::new(submission.job, &graph, &config);
        let strategy = config.restarts.of_job(checkpoints.is_some());
        Self {
            tasks: Tasks::new(&graph, &config, now),
            regions: Regions::new(&graph),
            failovers: BTreeMap::new(),
            hosts: Hosts::new(submission.clone(), &config, coordinators, ids, now),
            settlement: Settlement::new(&graph, &config),
            checkpoints,
            requests: Requests::default(),
            coordinators_due: false,
            takeover: None,
            takeovers: 0,
            restoring: None,
            waits_for_restore: false,
            waits_to_abort: false,
            owes_abort: false,
            instant,
            slots: SlotPool::new(&graph),
            history: History::new(config.exception_history_size),
            submission,
            config,
            refused,
            now,
            start_time: now,
            status: JobStatus::Initializing,
            status_times: BTreeMap::from([(JobStatus::Initializing, now)]),
            phase: Phase::New,
            generation: 0,
            restarts: 0,
            strategy: Restarts::new(strategy),
            outage_since: None,
            shortage: None,
            losses: BTreeMap::new(),
            unseen: Unseen::Nothing,
            published_at: now,
            publish_timer_set: false,
            actions: Vec::new(),
        }
    }

    /// Takes an event in and says what to do, in this order.
    pub fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        (self.instant, self.now) = (now.instant, now.wall);
        match event {
            Event::Start => self.start(),
            Event::Refuse(cause) => {
                self.refused.get_or_insert(cause);
                self.start();
            }
            Event::Gateway(news) => self.on_news(news),
            Event::Timer(timer) => self.on_timer(timer),
            Event::StartFrom(loaded) => self.start_from(*loaded),
            Event::Storage(StorageAnswer::News(news)) => {
                self.tell_checkpoints(checkpoints::Event::Storage(news));
            }
            Event::Storage(StorageAnswer::Prepared(trigger, prepared)) => {
                self.on_prepared(trigger, prepared);
            }
        }
        self.publish();
        std::mem::take(&mut self.actions)
    }

    fn on_timer(&mut self, Timer { owner, kind, generation }: Timer) {
        match owner {
            Owner::Tasks => self.tell_tasks(tasks::Event::Timer { kind, generation }),
            Owner::Failover if kind == TimerKind::Restart => self.go_on_with_failovers(),
            Owner::Failover => {
                let attempt = u32::try_from(generation).unwrap_or(u32::MAX);
                self.tell_tasks(tasks::Event::FailoverTimer { attempt, kind });
            }
            Owner::Hosts => self.tell_hosts(hosts::Event::Heartbeat { generation }),
            Owner::Settlement => {
                self.tell_settlement(settlement::Event::Timer { kind, generation });
            }
            Owner::Checkpoints => self.tell_checkpoints(checkpoints::Event::Timer),
            Owner::Job if kind == TimerKind::Publish => self.publish_timer_set = false,
            Owner::Job if generation != self.generation => {}
            Owner::Job if kind == TimerKind::Restart && self.coordinators_due => {
                self.start_coordinators();
            }
            Owner::Job if kind == TimerKind::Restart => self.restart(),
            Owner::Job => self.end_if_explained(),
        }
    }

    fn start(&mut self) {
        if !matches!(self.phase, Phase::New) {
            return;
        }
        self.set_status(JobStatus::Created);
        if let Some(cause) = self.refused.take() {
            self.history.add(self.entry(cause));
            self.set_status(JobStatus::Failing);
            self.cancel_tasks(Outcome::Fail);
            return;
        }
        self.tell_checkpoints(checkpoints::Event::Attempt(0));
        self.schedule();
    }

    /// Whether it is certain from which checkpoint the next attempt begins. If it is not, the
    /// attempt begins later.
    fn knows_restore(&mut self) -> bool {
        self.waits_for_restore = self.checkpoints.is_some() && self.restoring.is_none();
        !self.waits_for_restore
    }

    /// Tells all but the tasks that an attempt begins.
    fn begin_attempt(&mut self) -> Restoring {
        let restoring = self.restoring.take().unwrap_or_default();
        self.owes_abort = false;
        self.set_status(JobStatus::Running);
        self.enter(Phase::Running);
        self.tell_settlement(settlement::Event::Attempt);
        let checkpointing = self.checkpoints.as_ref().map(|it| it.begin(&restoring));
        self.tell_hosts(hosts::Event::Attempt { number: self.restarts, checkpointing });
        restoring
    }

    /// Begins an attempt.
    fn schedule(&mut self) {
        let restoring = self.begin_attempt();
        self.actions.push(Action::DeclareSlots(self.slots.requirements()));
        let slots = self.slots.assign();
        self.tell_tasks(tasks::Event::Start(self.restarts, slots, restoring));
    }

    fn on_slots_granted(&mut self, granted: Vec<AllocatedSlot>) {
        let surplus = match &self.phase {
            // Declared nothing, or nothing any more: these crossed the withdrawal on the way.
            Phase::New
            | Phase::Ended
            | Phase::Cancelling { then: Outcome::Finish | Outcome::Cancel | Outcome::Fail }
            | Phase::Aborting { then: Outcome::Finish | Outcome::Cancel | Outcome::Fail }
            | Phase::StoppingHosts { then: Outcome::Finish | Outcome::Cancel | Outcome::Fail } => {
                granted.into_iter().map(|slot| slot.allocation).collect()
            }
            // After a loss, replacements are welcome before the next attempt starts.
            Phase::Running
            | Phase::Committing
            | Phase::Cancelling { then: Outcome::Restart { .. } }
            | Phase::Aborting { then: Outcome::Restart { .. } }
            | Phase::StoppingHosts { then: Outcome::Restart { .. } }
            | Phase::WaitingForRestart => self.slots.offer(granted),
        };
        if !surplus.is_empty() {
            self.actions.push(Action::ReleaseSlots(surplus));
        }
        if self.tasks.needs_slots() {
            self.unseen = Unseen::State;
            if let Some(slots) = self.slots.assign() {
                self.tell_tasks(tasks::Event::Slots(slots));
            }
        }
    }

    fn on_shortage(&mut self, sentence: Option<String>) {
        self.shortage = sentence;
        self.unseen = Unseen::State;
    }

    fn on_slots_late(&mut self) {
        let needed = self.slots.needed();
        let mut message = format!(
            "the job needs {needed} {} and got {} within {:?}",
            if needed == 1 { "slot" } else { "slots" },
            needed - self.slots.missing(),
            self.config.slot_request_timeout
        );
        if let Some(sentence) = &self.shortage {
            message = format!("{message}: {sentence}");
        }
        let entry = self.entry(FailureCause::new(CauseKind::NoSlots, message));
        self.fail(entry);
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
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
        let timer = Timer { owner: Owner::Job, kind, generation: self.generation };
        self.actions.push(Action::SetTimer(timer, after));
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

    /// The directory of the job's checkpoints, if it takes any and does not keep them in memory.
    #[must_use]
    pub fn checkpoint_directory(&self) -> Option<&str> {
        self.checkpoints.as_ref()?;
        self.config.checkpointing.directory.as_deref()
    }

    /// The checkpoint that the job starts from, if it does not start from nothing.
    #[must_use]
    pub const fn recovery(&self) -> Option<&Recovery> {
        self.config.checkpointing.recovery.as_ref()
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
            vertices: self.tasks.executions().details(),
            exceptions: self.history.entries(),
            exceptions_truncated: self.history.is_truncated(),
            restarts: self.restarts,
            waiting_for: self.waiting_for(),
            checkpoints: self.checkpoints.as_ref().map(|it| Arc::new(it.overview(self.instant))),
            requests: self.requests.details(),
        }
    }

    fn waiting_for(&self) -> Option<String> {
        match &self.phase {
            Phase::New | Phase::Ended => None,
            Phase::Running | Phase::Cancelling { .. } => self.tasks_wait_for(),
            Phase::Committing => Some("its sinks to publish their results".to_owned()),
            Phase::Aborting { .. } => {
                Some("its sinks to discard what they did not publish".to_owned())
            }
            Phase::StoppingHosts { .. } => Some(match self.hosts.count() {
                0 => "the reason why a TaskManager ended".to_owned(),
                hosts => format!("{hosts} processes to end"),
            }),
            Phase::WaitingForRestart => {
                Some(format!("its restart, {:?} after the failure", self.strategy.pause()))
            }
        }
    }

    fn tasks_wait_for(&self) -> Option<String> {
        match self.tasks.waits_for() {
            WaitsFor::Nothing => None,
            WaitsFor::Slots => {
                let slots = format!("{} of {} slots", self.slots.missing(), self.slots.needed());
                Some(match &self.shortage {
                    Some(sentence) => format!("{slots}: {sentence}"),
                    None => slots,
                })
            }
            WaitsFor::Hosts => {
                let (starting, all) = (self.hosts.count_not_ready(), self.hosts.count());
                Some(format!("{starting} of {all} processes to start"))
            }
            WaitsFor::Tasks(1) => Some("one task to stop".to_owned()),
            WaitsFor::Tasks(active) => Some(format!("{active} tasks to stop")),
        }
    }
}
