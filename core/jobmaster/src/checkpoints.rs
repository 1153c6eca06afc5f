//! The checkpoints of a job: the decider of `millstream-checkpoint` between the job's processes and
//! its storage.
//!
//! From the snapshot of a coordinator until the barrier is on its way to the sources, what the
//! coordinator says to its tasks is held back here: splits that it hands out behind its snapshot
//! must be read behind the barrier.

mod convert;
mod restoring;
mod unclaimed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_checkpoint::coordinator::Known;
use millstream_checkpoint::messages::{
    Answer, CommitId, Completed, FinalReport, Now, Request, WaitsFor,
};
use millstream_checkpoint::metadata::{Kind, Metadata};
use millstream_checkpoint::plan::Subtask;
use millstream_checkpoint::stats::Overview;
use millstream_checkpoint::{Action as Decision, Coordinator, Event as News, Settings};
use millstream_config::ClaimMode;
use millstream_graph::JobGraph;
use millstream_mutants::Mutant;
use millstream_protocol::host::{
    self, CommitCheckpoint, EndCheckpoint, OperatorEvent, SnapshotCoordinators, TriggerCheckpoint,
    to_host,
};
use millstream_types::{
    CheckpointId, ExecutionAttemptId, ExecutionState, JobId, OperatorId, TriggerId,
};

pub(crate) use self::restoring::Restoring;
use crate::config::{JobMasterConfig, Recovery, Retention};

/// State of more bytes is not kept in memory.
const MEMORY_STATE_MAX: u64 = 5 << 20;

/// An event of a job's checkpoints.
#[derive(Debug)]
pub(crate) enum Event {
    /// All tasks are told to stop, or none runs yet; the next attempt has this number.
    Attempt(u32),
    /// These tasks are told to stop while the others run; their next attempt has this number.
    Regions(Vec<Subtask>, u32),
    /// A task of the present attempt has entered a state.
    Task(Box<TaskNews>),
    /// The coordinator host takes commands.
    HostReady,
    /// The coordinator host takes none any more.
    HostLost,
    /// A task has acknowledged a checkpoint.
    Acknowledged(ExecutionAttemptId, Box<host::CheckpointAck>),
    /// The barriers up to that of a checkpoint have left a task.
    Passed(ExecutionAttemptId, CheckpointId),
    /// A task takes no part in a checkpoint.
    Declined(ExecutionAttemptId, host::CheckpointDeclined),
    /// A coordinator has its snapshot, or none.
    Coordinator(host::CoordinatorSnapshot),
    /// The committers have carried out an order.
    Committed(u64),
    /// The storage has answered.
    Storage(News),
    /// A user asks for a checkpoint.
    Request(TriggerId, Request),
    /// Time has passed.
    Timer,
}

/// The state of a task, with its last report if it has finished.
#[derive(Debug)]
pub(crate) struct TaskNews {
    pub(crate) task: ExecutionAttemptId,
    pub(crate) state: ExecutionState,
    pub(crate) last_barrier: u64,
    pub(crate) committables: Vec<host::Committables>,
}

/// Work for the storage of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageRequest {
    /// Make the directory of a savepoint; the answer is [`StorageAnswer::Prepared`].
    Prepare(TriggerId, String),
    /// Delete what there is of a savepoint that has failed.
    Remove(String),
    /// Write metadata, of a savepoint into its directory; the answer is [`News::Stored`] and its
    /// like.
    Store(CheckpointId, Arc<Metadata>, Option<String>),
    /// Look whether the metadata is there; answered likewise.
    ReadBack(CheckpointId, Option<String>),
    /// Remove metadata; the answer is [`News::Discarded`] or [`News::NotDiscarded`].
    Discard(CheckpointId),
    /// Delete files, and the directory of a checkpoint.
    Delete(Option<CheckpointId>, Vec<String>),
    /// Delete everything of the job.
    DeleteAll,
    /// Delete the checkpoint that the job has taken over from a user.
    DeleteClaimed,
}

/// An answer of the storage.
#[derive(Debug)]
pub enum StorageAnswer {
    /// News for the decider of checkpoints.
    News(News),
    /// The directory of a savepoint can be used, or why it cannot.
    Prepared(TriggerId, Result<(), String>),
}

/// The checkpoint or savepoint from which a job starts, as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// Its metadata, with the files where they are now.
    pub metadata: Metadata,
    /// Its directory.
    pub directory: String,
}

/// An instruction for the router, or a result.
#[derive(Debug)]
pub(crate) enum Action {
    /// Tell the coordinator host.
    TellCoordinator(to_host::Message),
    /// Tell the hosts of these tasks, each of its own ones.
    Trigger(TriggerCheckpoint, Vec<ExecutionAttemptId>),
    /// Tell all task hosts.
    TellAll(to_host::Message),
    /// Pass on what a coordinator has said to a task.
    Deliver(OperatorEvent),
    /// Ask the storage.
    Storage(StorageRequest),
    /// Hand in [`Event::Timer`] after so long.
    SetTimer(Duration),
    /// The next attempt begins from here.
    Restore(Restoring),
    /// The tasks of [`Event::Regions`] begin from here.
    RestoreRegions(Restoring),
    /// The committers of the coordinator host have recovered, or there are none.
    Recovered,
    /// A request has ended.
    Answer(TriggerId, Answer),
    /// Fail the tasks.
    Fail(String),
    /// The last checkpoint is complete and published.
    Finish,
}

/// The states of coordinators for the checkpoint that is being started.
#[derive(Debug)]
struct Gathering {
    id: CheckpointId,
    missing: BTreeSet<OperatorId>,
    states: Vec<(OperatorId, Vec<u8>)>,
}

/// A job's checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    job: JobId,
    settings: Settings,
    coordinator: Coordinator,
    graph: Arc<JobGraph>,
    /// The directory of all jobs' checkpoints; `None`: they are kept in memory.
    directory: Option<String>,
    inline_max: u64,
    retention: Retention,
    has_committers: bool,
    gathering: Option<Gathering>,
    /// Messages of coordinators behind their snapshots.
    parked: BTreeMap<OperatorId, Vec<OperatorEvent>>,
    /// The order to recover, until it is confirmed.
    recovery: Option<CommitId>,
    timer_at: Option<Instant>,
    has_finished: bool,
    /// The directories of the savepoints that are being taken.
    savepoints: BTreeMap<CheckpointId, String>,
    /// The newest checkpoint or savepoint of which tasks were told; 0: none.
    newest_told: u64,
    /// The checkpoint of a user that the job has taken over.
    claimed: Option<CheckpointId>,
    news: VecDeque<News>,
    actions: Vec<Action>,
}

impl Checkpoints {
    /// Those of a job that takes any.
    pub(crate) fn new(job: JobId, graph: &Arc<JobGraph>, config: &JobMasterConfig) -> Option<Self> {
        let checkpointing = &config.checkpointing;
        let is_batch = graph.runtime_mode == millstream_graph::RuntimeMode::Batch;
        let takes_any =
            checkpointing.settings.interval.is_some() || checkpointing.recovery.is_some();
        if !takes_any || is_batch {
            return None;
        }
        let plan = convert::plan(job, graph);
        let has_committers = plan.has_committers();
        let settings = checkpointing.settings.clone();
        let coordinator = Coordinator::new(settings.clone(), plan, Known::default());
        let directory = checkpointing.directory.clone();
        let inline_max = match directory {
            Some(_) => checkpointing.inline_max,
            None => MEMORY_STATE_MAX,
        };
        Some(Self {
            job,
            settings,
            coordinator,
            graph: Arc::clone(graph),
            directory,
            inline_max,
            retention: checkpointing.retention,
            has_committers,
            gathering: None,
            parked: BTreeMap::new(),
            recovery: None,
            timer_at: None,
            has_finished: false,
            savepoints: BTreeMap::new(),
            newest_told: 0,
            claimed: None,
            news: VecDeque::new(),
            actions: Vec::new(),
        })
    }

    /// Lets the job start from a checkpoint or savepoint, before the first event.
    ///
    /// # Errors
    /// The job cannot start from it, for this reason.
    pub(crate) fn start_from(&mut self, loaded: Loaded, how: &Recovery) -> Result<(), String> {
        let Loaded { mut metadata, directory } = loaded;
        unclaimed::check(&mut metadata, &self.graph, how.ignore_unclaimed)?;
        let (id, owned) = (metadata.checkpoint, how.claim == ClaimMode::Claim);
        self.claimed = owned.then_some(id);
        let (metadata, directory) = (Arc::new(metadata), Some(directory));
        let completed = vec![Completed { metadata, owned, directory }];
        let known = Known { last_id: Some(id), completed, has_ended: false };
        let plan = convert::plan(self.job, &self.graph);
        self.coordinator = Coordinator::new(self.settings.clone(), plan, known);
        Ok(())
    }

    /// Takes an event in and says what to do, in this order.
    pub(crate) fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        match event {
            Event::Attempt(attempt) => self.news.push_back(News::Restarting { attempt }),
            Event::Regions(tasks, attempt) => {
                self.news.push_back(News::RegionsRestarting { tasks, attempt });
            }
            Event::Task(news) => self.on_task(*news),
            Event::HostReady => {
                self.news.push_back(News::CoordinatorHostReady);
                if !self.has_committers {
                    self.actions.push(Action::Recovered);
                }
            }
            Event::HostLost => {
                self.recovery = None;
                self.news.push_back(News::CoordinatorHostLost);
            }
            Event::Acknowledged(task, ack) => self.on_ack(task, *ack),
            Event::Declined(task, declined) => {
                let host::CheckpointDeclined { checkpoint, reason, .. } = declined;
                let id = CheckpointId::new(checkpoint);
                self.news.push_back(News::Declined { id, task, reason });
            }
            Event::Passed(task, last) => {
                let upload = |id| News::Progress { id, task, waits_for: WaitsFor::Upload };
                self.news.extend(self.coordinator.pending_until(last).map(upload));
            }
            Event::Coordinator(snapshot) => self.on_coordinator(snapshot),
            Event::Committed(commit) => self.on_committed(commit),
            Event::Storage(news) => self.news.push_back(news),
            Event::Request(trigger, request) => {
                self.news.push_back(News::Request { trigger, request });
            }
            Event::Timer => {
                self.timer_at = None;
                self.news.push_back(News::Tick);
            }
        }
        while let Some(news) = self.news.pop_front() {
            for decision in self.coordinator.on_event(now, news) {
                self.carry_out(decision);
            }
        }
        self.set_timer(now);
        std::mem::take(&mut self.actions)
    }

    /// The newest checkpoint whose results are published, or will be.
    pub(crate) fn latest(&self) -> Option<CheckpointId> {
        self.coordinator.latest().map(Completed::id)
    }

    /// Whether a checkpoint up to this one is pending.
    pub(crate) fn is_awaited(&self, last: CheckpointId) -> bool {
        self.coordinator.pending_until(last).next().is_some()
    }

    /// The beginning of coordinators that take the place of others while tasks run on: the newest
    /// complete checkpoint.
    pub(crate) fn newest(&self) -> Restoring {
        self.restoring(self.latest(), Vec::new())
    }

    /// The newest checkpoint or savepoint of which tasks were told; 0: none.
    pub(crate) const fn newest_told(&self) -> u64 {
        self.newest_told
    }

    /// The directory of the checkpoint or savepoint from which the tasks began last, if it has one.
    pub(crate) fn origin(&self) -> Option<String> {
        let restored = self.coordinator.report().latest_restored?;
        let own = || {
            let directory = self.directory.as_ref()?;
            Some(format!("{}/{}/{}", directory.trim_end_matches('/'), self.job, restored.id))
        };
        restored.directory.clone().or_else(own)
    }

    /// Whether it is certain from which checkpoint a restart begins.
    pub(crate) fn is_settled(&self) -> bool {
        self.coordinator.is_settled()
    }

    /// Whether the last checkpoint is complete: no task runs again.
    pub(crate) fn has_ended(&self) -> bool {
        self.coordinator.has_ended()
    }

    /// Whether the last checkpoint is complete and published.
    pub(crate) const fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// Takes a message of a coordinator to a task that the task must not see yet; gives it back if
    /// it may.
    pub(crate) fn park(&mut self, event: OperatorEvent) -> Option<OperatorEvent> {
        let operator = OperatorId::try_from(event.operator_id.as_slice()).ok();
        match operator.and_then(|operator| self.parked.get_mut(&operator)) {
            None => Some(event),
            Some(_) if Mutant::OvertakesBarrier.lives() => Some(event),
            Some(_) if Mutant::LosesParkedEvent.lives() => None,
            Some(parked) => {
                parked.push(event);
                None
            }
        }
    }

    /// The checkpoints as the world sees them.
    pub(crate) fn overview(&self, now: Instant) -> Overview {
        let directory = self
            .directory
            .as_ref()
            .map(|directory| format!("{}/{}", directory.trim_end_matches('/'), self.job));
        Overview {
            settings: self.settings.clone(),
            directory,
            kept_on_failure: self.retention.keeps_after_failure(),
            kept_on_cancellation: self.retention.keeps_after_cancellation(),
            report: self.coordinator.report(),
            status: self.coordinator.status(now),
        }
    }

    /// The beginning of an attempt's processes, as they are told it.
    pub(crate) fn begin(&self, restoring: &Restoring) -> host::Checkpointing {
        host::Checkpointing {
            directory: self.directory.clone().unwrap_or_default(),
            inline_max: self.inline_max,
            restores: restoring.metadata.is_some(),
            coordinators: restoring.coordinators(),
            running: Vec::new(),
        }
    }

    fn on_task(&mut self, news: TaskNews) {
        let TaskNews { task, state, last_barrier, committables } = news;
        match state {
            ExecutionState::Running => self.news.push_back(News::TaskRunning(task)),
            ExecutionState::Failed => self.news.push_back(News::TaskFailed(task)),
            ExecutionState::Finished => {
                let last_barrier = (last_barrier > 0).then(|| CheckpointId::new(last_barrier));
                match convert::committables(committables) {
                    Ok(committables) => {
                        let snapshots = Vec::new();
                        let report = FinalReport { last_barrier, snapshots, committables };
                        let report = Box::new(report);
                        self.news.push_back(News::TaskFinished { task, report });
                    }
                    Err(why) => self.actions.push(Action::Fail(malformed(&why))),
                }
            }
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Initializing
            | ExecutionState::Canceling
            | ExecutionState::Canceled
            | ExecutionState::Reconciling => {}
        }
    }

    fn on_ack(&mut self, task: ExecutionAttemptId, ack: host::CheckpointAck) {
        let id = CheckpointId::new(ack.checkpoint);
        self.news.push_back(match convert::ack(ack) {
            Ok(ack) => News::Acknowledged { id, task, ack: Box::new(ack) },
            Err(why) => News::Declined { id, task, reason: malformed(&why) },
        });
    }

    fn on_coordinator(&mut self, snapshot: host::CoordinatorSnapshot) {
        let host::CoordinatorSnapshot { checkpoint, operator_id, state, failure } = snapshot;
        let Ok(operator) = OperatorId::try_from(operator_id.as_slice()) else { return };
        let Some(gathering) = &mut self.gathering else { return };
        let id = CheckpointId::new(checkpoint);
        if gathering.id != id || !gathering.missing.remove(&operator) {
            return;
        }
        self.parked.entry(operator).or_default();
        if let Some(failure) = failure {
            self.gathering = None;
            let reason = failure.message;
            return self.news.push_back(News::CoordinatorsDeclined { id, reason });
        }
        gathering.states.push((operator, state));
        if gathering.missing.is_empty()
            && let Some(Gathering { id, states, .. }) = self.gathering.take()
        {
            self.news.push_back(News::CoordinatorsSnapshot { id, states });
        }
    }

    fn on_committed(&mut self, commit: u64) {
        let commit = CommitId::new(commit);
        if self.recovery.take_if(|recovery| *recovery == commit).is_some() {
            self.actions.push(Action::Recovered);
        }
        self.news.push_back(News::Committed(commit));
    }

    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::ReserveId(id) => self.news.push_back(News::IdReserved(id)),
            Decision::SnapshotCoordinators { id, operators } => self.gather(id, operators),
            Decision::Trigger { id, kind, unaligned, directory, tasks, base: _ } => {
                self.trigger(id, (kind, unaligned), directory, tasks);
            }
            Decision::Abort { id, tasks } => {
                self.savepoints.remove(&id);
                if self.gathering.take_if(|gathering| gathering.id == id).is_some()
                    || tasks.is_empty()
                {
                    self.release();
                }
                if !tasks.is_empty() {
                    self.end(id, false, false);
                }
            }
            Decision::Store { id, metadata, directory } => {
                self.ask(id, StorageRequest::Store(id, metadata, directory), News::Stored(id));
            }
            Decision::ReadBack(id) => {
                let directory = self.savepoints.get(&id).cloned();
                self.ask(id, StorageRequest::ReadBack(id, directory), News::Stored(id));
            }
            Decision::Complete { id, kind, tasks: _ } => {
                self.savepoints.remove(&id);
                self.end(id, true, kind.commits());
            }
            Decision::Commit { commit, checkpoint, recover, committables } => {
                if recover {
                    self.recovery = Some(commit);
                }
                let order = CommitCheckpoint {
                    commit: commit.get(),
                    checkpoint: checkpoint.get(),
                    recover,
                    committables: committables.iter().map(|one| convert::of(one)).collect(),
                };
                let order = to_host::Message::CommitCheckpoint(order);
                self.actions.push(Action::TellCoordinator(order));
            }
            Decision::Discard(id) => {
                self.ask(id, StorageRequest::Discard(id), News::Discarded(id));
            }
            Decision::Delete { checkpoint, files } => {
                let is_claimed = self.claimed.take_if(|claimed| checkpoint == Some(*claimed));
                if self.directory.is_some() || is_claimed.is_some() {
                    let request = StorageRequest::Delete(checkpoint, files);
                    self.actions.push(Action::Storage(request));
                }
            }
            Decision::Answer { trigger, answer } => {
                self.actions.push(Action::Answer(trigger, answer));
            }
            Decision::Restore { from, finished } => self.restore(from, finished),
            Decision::RestoreRegions { from, finished } => {
                let restoring = self.restoring(from, finished);
                self.actions.push(Action::RestoreRegions(restoring));
            }
            Decision::FailJob(reason) => self.actions.push(Action::Fail(reason)),
            Decision::Finish => {
                self.has_finished = true;
                self.actions.push(Action::Finish);
            }
        }
    }

    fn trigger(
        &mut self,
        id: CheckpointId,
        (kind, unaligned): (Kind, bool),
        directory: Option<String>,
        tasks: Vec<ExecutionAttemptId>,
    ) {
        self.savepoints.extend(directory.clone().map(|directory| (id, directory)));
        self.newest_told = id.get();
        let kind = match kind {
            Kind::Checkpoint if unaligned => host::CheckpointKind::Unaligned,
            kind => convert::kind(kind),
        };
        let trigger = TriggerCheckpoint {
            checkpoint: id.get(),
            kind: kind.into(),
            directory: directory.unwrap_or_default(),
            tasks: Vec::new(),
        };
        self.actions.push(Action::Trigger(trigger, tasks));
        self.release();
    }

    /// Asks the storage; what is kept in memory is there at once.
    fn ask(&mut self, id: CheckpointId, request: StorageRequest, in_memory: News) {
        let is_elsewhere = self.claimed == Some(id) || self.savepoints.contains_key(&id);
        if self.directory.is_some() || is_elsewhere {
            self.actions.push(Action::Storage(request));
        } else {
            self.news.push_back(in_memory);
        }
    }

    fn gather(&mut self, id: CheckpointId, operators: Vec<OperatorId>) {
        let asked = SnapshotCoordinators {
            checkpoint: id.get(),
            operator_ids: operators.iter().map(|operator| operator.as_bytes().to_vec()).collect(),
        };
        let missing = operators.into_iter().collect();
        self.gathering = Some(Gathering { id, missing, states: Vec::new() });
        let asked = to_host::Message::SnapshotCoordinators(asked);
        self.actions.push(Action::TellCoordinator(asked));
    }

    /// Passes on what was held back.
    fn release(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        self.actions.extend(parked.into_values().flatten().map(Action::Deliver));
    }

    fn end(&mut self, id: CheckpointId, complete: bool, commits: bool) {
        let end = to_host::Message::EndCheckpoint(EndCheckpoint {
            checkpoint: id.get(),
            complete,
            commits,
        });
        if complete && commits {
            self.actions.push(Action::TellCoordinator(end.clone()));
        }
        self.actions.push(Action::TellAll(end));
    }

    fn restore(&mut self, from: Option<CheckpointId>, finished: Vec<Subtask>) {
        // What was held back was for tasks that are gone.
        self.parked.clear();
        self.gathering = None;
        let restoring = self.restoring(from, finished);
        self.actions.push(Action::Restore(restoring));
    }

    fn restoring(&self, from: Option<CheckpointId>, finished: Vec<Subtask>) -> Restoring {
        let mut retained = self.coordinator.retained();
        let metadata = from.and_then(|from| retained.find(|one| one.id() == from));
        let metadata = metadata.map(|Completed { metadata, .. }| Arc::clone(metadata));
        let finished = finished.into_iter().collect();
        let graph = Some(Arc::clone(&self.graph));
        Restoring { graph, metadata, finished }
    }

    /// Asks for a tick when the next thing is due, unless one comes before.
    fn set_timer(&mut self, now: Now) {
        let Some(next) = self.coordinator.next_time() else { return };
        if self.timer_at.is_none_or(|set| next < set) {
            self.timer_at = Some(next);
            let after = next.saturating_duration_since(now.instant);
            self.actions.push(Action::SetTimer(after));
        }
    }
}

fn malformed(why: &str) -> String {
    format!("its message about checkpoints is malformed: {why}")
}
