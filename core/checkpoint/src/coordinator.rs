//! The coordinator of a job's checkpoints: a decider, events and the time in, actions out.
//!
//! The first event is [`Event::Restarting`], at the start and before each later attempt. It is
//! answered by [`Action::Restore`] when it is certain which checkpoint is the newest.
//!
//! # Invariants
//! - Ids grow and are never reused; an id is stored before its first barrier.
//! - The final checkpoint starts when all tasks have finished. It is made of their last reports, so
//!   no task and no coordinator is told of its start.
//! - At most one checkpoint is being started, so that barriers are sent in the order of ids.
//! - A checkpoint completes when each task that ran at its trigger has acknowledged it under the
//!   same attempt, or has finished without having taken its barrier, and its pointer is stored.
//! - Checkpoints are stored one after the other, in the order of their ids (plain savepoints
//!   apart). One whose outcome is not known holds up the later ones, and a restore.
//! - A committable that came with a complete checkpoint stays in the metadata of all later ones
//!   until the committers have confirmed it.
//! - A file is deleted only when nothing refers to it or may do so, see `retention`.
//! - Everything that is kept is bounded by the options, the number of tasks, or a constant.

mod acknowledging;
mod completing;
mod ending;
mod queries;
mod starting;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use millstream_mutants::Mutant;
use millstream_types::{CheckpointId, ExecutionAttemptId, TriggerId};

use crate::commits::Commits;
use crate::history::History;
use crate::messages::{Action, Answer, Completed, Event, Now, Request};
use crate::pending::Pending;
use crate::plan::{Plan, Subtask};
use crate::policy::Policy;
use crate::retention::Retention;
use crate::settings::Settings;
use crate::stats::Ignored;
use crate::tasks::Tasks;

/// The most requests that wait for their turn.
const REQUESTS_MAX: usize = 64;
/// The most savepoints that are pending at once.
const SAVEPOINTS_MAX: usize = 8;
/// The most checkpoints whose pointers could not be removed; beyond it none starts.
const REMOVALS_MAX: usize = 16;

/// The knowledge about a job's checkpoints that survived its last master.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The highest id that the counter, a store or a task names.
    pub last_id: Option<CheckpointId>,
    /// Complete checkpoints, in the order of their ids; the job starts from the last one.
    pub completed: Vec<Completed>,
    /// Whether the last one is the job's final checkpoint or stop savepoint: it does not run again.
    pub has_ended: bool,
}

/// Whether the job runs, as far as checkpoints are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It has not started, or was told to fail.
    Idle,
    /// It restarts when the outcome of all checkpoints that are being stored is known.
    Settling,
    /// It has been told from where to start.
    Running,
}

/// The way to the end of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No checkpoint was the last one.
    None,
    /// The last checkpoint is complete; its commits are not confirmed.
    Committing,
    /// The job was told that it has ended.
    Finished,
}

/// The decider of a job's checkpoints.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    plan: Plan,
    tasks: Tasks,
    policy: Policy,
    commits: Commits,
    retention: Retention,
    history: History,
    mode: Mode,
    end: End,
    /// The subtasks of regions that restart when the outcome of all checkpoints that are being
    /// stored is known.
    restarting: BTreeSet<Subtask>,
    /// The newest id in use.
    last: CheckpointId,
    pending: BTreeMap<CheckpointId, Pending>,
    /// Tasks that had not acknowledged a checkpoint when it failed, and may do so still.
    late: BTreeSet<(CheckpointId, ExecutionAttemptId)>,
    /// The next checkpoint takes the place of one whose barriers waited too long.
    overtakes: bool,
    requests: VecDeque<(TriggerId, Request)>,
    /// When a final checkpoint that failed is tried again.
    final_again: Option<Instant>,
    host_ready: bool,
    /// Whether the committers of the present host have had their first order.
    recovered: bool,
    ignored: Ignored,
    last_complete: Option<Instant>,
    actions: Vec<Action>,
}

impl Coordinator {
    /// The coordinator of a job that has not started.
    #[must_use]
    pub fn new(settings: Settings, plan: Plan, known: Known) -> Self {
        let latest = known.completed.last();
        let newest = latest.map_or(CheckpointId::new(0), Completed::id);
        let counter = known.last_id.filter(|_| !Mutant::ReusesId.lives());
        let last = known.completed.iter().map(Completed::id).chain(counter).max();
        let carried = latest.map_or(&[][..], |latest| &latest.metadata.committables);
        let retained_max = usize::try_from(settings.retained.get()).unwrap_or(usize::MAX);
        Self {
            tasks: Tasks::new(&plan),
            policy: Policy::new(settings.interval, settings.min_pause, settings.tolerable_failures),
            commits: Commits::new(newest, carried),
            retention: Retention::new(retained_max, known.completed),
            history: History::new(settings.history),
            mode: Mode::Idle,
            end: if known.has_ended { End::Committing } else { End::None },
            restarting: BTreeSet::new(),
            last: last.unwrap_or(CheckpointId::new(0)),
            pending: BTreeMap::new(),
            late: BTreeSet::new(),
            overtakes: false,
            requests: VecDeque::new(),
            final_again: None,
            host_ready: !plan.needs_coordinator_host(),
            recovered: false,
            ignored: Ignored::default(),
            last_complete: None,
            actions: Vec::new(),
            settings,
            plan,
        }
    }

    /// Takes an event in and says what to do, in this order. Times of later events are not earlier.
    #[must_use = "actions are to be carried out"]
    pub fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        match event {
            Event::Tick => {}
            Event::Restarting { attempt } => self.on_restarting(now, attempt),
            Event::RegionsRestarting { tasks, attempt } => {
                self.on_regions_restarting(now, tasks, attempt);
            }
            Event::TaskRunning(task) => self.on_task_running(now, task),
            Event::TaskFinished { task, report } => self.on_task_finished(now, task, *report),
            Event::TaskFailed(task) => self.on_task_failed(now, task),
            Event::CoordinatorHostReady => self.on_host_ready(),
            Event::CoordinatorHostLost => self.on_host_lost(now),
            Event::Request { trigger, request } => self.on_request(trigger, request),
            Event::IdReserved(id) => self.on_id_reserved(now, id),
            Event::IdNotReserved { id, reason } => self.on_id_not_reserved(now, id, &reason),
            Event::CoordinatorsSnapshot { id, states } => self.on_coordinators(now, id, states),
            Event::CoordinatorsDeclined { id, reason } => {
                self.on_coordinators_declined(now, id, &reason);
            }
            Event::Progress { id, task, waits_for } => self.on_progress(id, task, waits_for),
            Event::Acknowledged { id, task, ack } => self.on_acknowledged(now, id, task, ack),
            Event::Declined { id, task, reason } => self.on_declined(now, id, task, &reason),
            Event::Stored(id) => self.on_stored(now, id),
            Event::StoreFailed { id, reason } => self.on_store_failed(now, id, &reason),
            Event::StoreUnknown { id, reason } => self.on_store_unknown(now, id, reason),
            Event::Committed(commit) => {
                if !self.commits.confirm(commit) {
                    self.ignored.repeated += 1;
                }
            }
            Event::Discarded(id) => self.on_discarded(id),
            Event::NotDiscarded(id) => self.on_not_discarded(now, id),
        }
        self.proceed(now);
        std::mem::take(&mut self.actions)
    }

    /// Does everything that is due, after any event.
    fn proceed(&mut self, now: Now) {
        self.give_up_late(now);
        self.give_up_aligned(now);
        self.store_next(now);
        self.look_again(now.instant);
        self.settle(now);
        self.settle_regions(now);
        if self.mode == Mode::Running && self.tasks.are_ready() {
            self.policy.on_ready(now.instant);
        }
        self.start_next(now);
        self.remove(now.instant);
        self.order_commits();
        self.finish();
    }

    fn answer(&mut self, trigger: Option<TriggerId>, answer: impl FnOnce() -> Answer) {
        if let Some(trigger) = trigger {
            self.actions.push(Action::Answer { trigger, answer: answer() });
        }
    }
}
