//! A checkpoint that is not complete.
//!
//! ```text
//! Reserving --> Coordinators --> Tasks --(all acknowledged)--> Queued --> Storing --> complete
//!     |              |             |                             |          |  ^
//!     +--------------+-------------+-----------------------------+          |  | (read back)
//!                    | (decline, timeout, failure of a task, restart)       v  |
//!                    +-----------------> aborted <--(not stored)-------- InDoubt
//! ```
//! The final checkpoint needs no acknowledgement: it goes from `Reserving` to `Queued`.
//! From `Storing` on a checkpoint may be the newest one of the store: nothing but its outcome ends
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_types::{CheckpointId, ExecutionAttemptId, OperatorId, Timestamp, TriggerId};

use crate::messages::{Ack, AckMetrics, FinalReport, Now, OperatorSnapshot, WaitsFor};
use crate::metadata::{Committables, Kind, Metadata};
use crate::plan::{Plan, Subtask};
use crate::stats::{CheckpointStats, Missing, PendingStatus, SubtaskStats, WaitingFor};

/// The contribution of a subtask.
#[derive(Debug)]
pub(crate) enum Report {
    /// It has acknowledged.
    Acknowledged(Box<Ack>),
    /// It has finished.
    Finished(Arc<FinalReport>),
}

impl Report {
    pub(crate) fn snapshots(&self) -> &[OperatorSnapshot] {
        match self {
            Self::Acknowledged(ack) => &ack.snapshots,
            Self::Finished(report) => &report.snapshots,
        }
    }

    pub(crate) fn committables(&self) -> &[Arc<Committables>] {
        match self {
            Self::Acknowledged(ack) => &ack.committables,
            Self::Finished(report) => &report.committables,
        }
    }

    pub(crate) const fn is_finished(&self) -> bool {
        match self {
            Self::Acknowledged(_) => false,
            Self::Finished(_) => true,
        }
    }

    fn stats(&self, acknowledged: Timestamp) -> SubtaskStats {
        let handles = self.snapshots().iter().flat_map(|snapshot| &snapshot.subtask.handles);
        let state_bytes =
            handles.fold(0_u64, |sum, handle| sum.saturating_add(handle.content.length()));
        let metrics = match self {
            Self::Acknowledged(ack) => ack.metrics,
            Self::Finished(_) => AckMetrics::default(),
        };
        SubtaskStats { acknowledged, finished: self.is_finished(), state_bytes, metrics }
    }
}

#[derive(Debug)]
struct Waiting {
    attempt: u32,
    waits_for: WaitsFor,
}

/// The states that have come so far.
#[derive(Debug, Default)]
pub(crate) struct Contributions {
    coordinators: CoordinatorStates,
    waiting: BTreeMap<Subtask, Waiting>,
    reports: BTreeMap<Subtask, Report>,
}

/// The state of each coordinator.
pub(crate) type CoordinatorStates = Vec<(OperatorId, Vec<u8>)>;

impl Contributions {
    /// The tasks that have not acknowledged.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = ExecutionAttemptId> {
        self.waiting.iter().map(|(subtask, waiting)| subtask.attempt(waiting.attempt))
    }

    /// The states of the coordinators and the reports of all subtasks.
    pub(crate) fn into_parts(self) -> (CoordinatorStates, BTreeMap<Subtask, Report>) {
        (self.coordinators, self.reports)
    }

    /// The reports that have come.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.values()
    }
}

/// The phase of a pending checkpoint.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its id is being stored.
    Reserving,
    /// Coordinators make snapshots.
    Coordinators,
    /// Tasks have been told.
    Tasks(Contributions),
    /// All have acknowledged; an earlier checkpoint is being stored.
    Queued(Contributions),
    /// It is being stored.
    Storing(Arc<Metadata>),
    /// It may be stored.
    InDoubt {
        metadata: Arc<Metadata>,
        /// The reason why that is not known.
        reason: String,
        /// When to look again; without it that is under way.
        look_at: Option<Instant>,
    },
}

/// The fate of a task's message about a pending checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It fits.
    Fits,
    /// The task has acknowledged before, or the checkpoint needs nothing more of it.
    Repeated,
    /// It is not one of the tasks that were told.
    NotTold,
}

/// A checkpoint that is not complete.
#[derive(Debug)]
pub(crate) struct Pending {
    kind: Kind,
    trigger: Option<TriggerId>,
    directory: Option<String>,
    base: Option<CheckpointId>,
    start: Now,
    deadline: Option<Instant>,
    unaligned: bool,
    /// When to give up an aligned one whose barriers still wait.
    align_until: Option<Instant>,
    phase: Phase,
    stats: CheckpointStats,
}

/// The properties of a checkpoint that starts.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) kind: Kind,
    pub(crate) trigger: Option<TriggerId>,
    pub(crate) directory: Option<String>,
    /// Whether its barriers overtake records.
    pub(crate) unaligned: bool,
    /// The time after which it is given up, if its barriers still wait for records.
    pub(crate) aligned_timeout: Option<Duration>,
}

impl Pending {
    pub(crate) fn new(
        id: CheckpointId,
        start: Start,
        base: Option<CheckpointId>,
        now: Now,
        deadline: Option<Instant>,
    ) -> Self {
        let align_until = start.aligned_timeout.and_then(|after| now.instant.checked_add(after));
        let mut stats = CheckpointStats::new(id, start.kind, now.wall);
        stats.directory.clone_from(&start.directory);
        Self {
            kind: start.kind,
            trigger: start.trigger,
            directory: start.directory,
            base,
            start: now,
            deadline,
            unaligned: start.unaligned,
            align_until,
            phase: Phase::Reserving,
            stats,
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn trigger(&self) -> Option<TriggerId> {
        self.trigger
    }

    pub(crate) fn directory(&self) -> Option<String> {
        self.directory.clone()
    }

    pub(crate) const fn base(&self) -> Option<CheckpointId> {
        self.base
    }

    pub(crate) const fn started(&self) -> Timestamp {
        self.start.wall
    }

    pub(crate) const fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(crate) fn into_ended(self) -> (Phase, CheckpointStats) {
        (self.phase, self.stats)
    }

    pub(crate) const fn stats(&self) -> &CheckpointStats {
        &self.stats
    }

    /// Whether its barriers have not been sent yet.
    pub(crate) const fn is_starting(&self) -> bool {
        match self.phase {
            Phase::Reserving | Phase::Coordinators => true,
            Phase::Tasks(_) | Phase::Queued(_) | Phase::Storing(_) | Phase::InDoubt { .. } => false,
        }
    }

    /// Whether acknowledgements may still come.
    pub(crate) const fn is_open(&self) -> bool {
        match self.phase {
            Phase::Reserving | Phase::Coordinators | Phase::Tasks(_) => true,
            Phase::Queued(_) | Phase::Storing(_) | Phase::InDoubt { .. } => false,
        }
    }

    /// Whether it may be in the store already.
    pub(crate) const fn is_completing(&self) -> bool {
        match self.phase {
            Phase::Storing(_) | Phase::InDoubt { .. } => true,
            Phase::Reserving | Phase::Coordinators | Phase::Tasks(_) | Phase::Queued(_) => false,
        }
    }

    /// When it is given up: it has to be acknowledged by then.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Reserving | Phase::Coordinators | Phase::Tasks(_) => self.deadline,
            Phase::Queued(_) | Phase::Storing(_) | Phase::InDoubt { .. } => None,
        }
    }

    /// Whether its barriers overtake records.
    pub(crate) const fn is_unaligned(&self) -> bool {
        self.unaligned
    }

    /// When to look whether its barriers still wait.
    pub(crate) const fn align_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Tasks(_) => self.align_until,
            Phase::Reserving
            | Phase::Coordinators
            | Phase::Queued(_)
            | Phase::Storing(_)
            | Phase::InDoubt { .. } => None,
        }
    }

    /// Whether the time of its alignment is over and its barriers have not left all tasks. If they
    /// have, it is not asked again.
    pub(crate) fn waits_too_long(&mut self, now: Instant) -> bool {
        let Phase::Tasks(contributions) = &self.phase else { return false };
        if self.align_until.take_if(|until| *until <= now).is_none() {
            return false;
        }
        let mut waiting = contributions.waiting.values();
        waiting.any(|waiting| !matches!(waiting.waits_for, WaitsFor::Snapshot | WaitsFor::Upload))
    }

    /// Goes on from `Reserving`; false in any other phase.
    pub(crate) fn on_reserved(&mut self) -> bool {
        let is_reserving = matches!(self.phase, Phase::Reserving);
        if is_reserving {
            self.phase = Phase::Coordinators;
        }
        is_reserving
    }

    /// Whether the coordinators' answer is awaited.
    pub(crate) const fn awaits_coordinators(&self) -> bool {
        matches!(self.phase, Phase::Coordinators)
    }

    /// Goes on to the tasks that run; those that have finished count by their last reports. If none
    /// runs, nothing more is awaited.
    pub(crate) fn on_triggered<'a>(
        &mut self,
        coordinators: CoordinatorStates,
        running: impl Iterator<Item = ExecutionAttemptId>,
        finished: impl Iterator<Item = (Subtask, &'a Arc<FinalReport>)>,
        wall: Timestamp,
    ) {
        let waits = |task: ExecutionAttemptId| {
            let waits_for = WaitsFor::default();
            (Subtask::from(task), Waiting { attempt: task.attempt, waits_for })
        };
        let waiting: BTreeMap<Subtask, Waiting> = running.map(waits).collect();
        let reports: BTreeMap<Subtask, Report> = finished
            .map(|(subtask, report)| (subtask, Report::Finished(Arc::clone(report))))
            .collect();
        let stats = reports.iter().map(|(subtask, report)| (*subtask, report.stats(wall)));
        self.stats.subtasks = stats.collect();
        self.stats.subtasks_total = waiting.len() + reports.len();
        let is_complete = waiting.is_empty();
        let contributions = Contributions { coordinators, waiting, reports };
        self.phase =
            if is_complete { Phase::Queued(contributions) } else { Phase::Tasks(contributions) };
    }

    /// Whether this attempt of a task still has to acknowledge it.
    pub(crate) fn fit(&self, task: ExecutionAttemptId) -> Fit {
        match &self.phase {
            Phase::Reserving | Phase::Coordinators => Fit::NotTold,
            Phase::Tasks(contributions) => match contributions.waiting.get(&task.into()) {
                Some(waiting) if waiting.attempt == task.attempt => Fit::Fits,
                Some(_) => Fit::NotTold,
                None => Fit::Repeated,
            },
            Phase::Queued(_) | Phase::Storing(_) | Phase::InDoubt { .. } => Fit::Repeated,
        }
    }

    /// Takes in the contribution of a task that fits.
    pub(crate) fn on_report(&mut self, task: ExecutionAttemptId, report: Report, wall: Timestamp) {
        let Phase::Tasks(contributions) = &mut self.phase else { return };
        contributions.waiting.remove(&task.into());
        self.stats.subtasks.insert(task.into(), report.stats(wall));
        contributions.reports.insert(task.into(), report);
        if contributions.waiting.is_empty() {
            let phase = std::mem::replace(&mut self.phase, Phase::Coordinators);
            self.phase = match phase {
                Phase::Tasks(contributions) => Phase::Queued(contributions),
                other => other,
            };
        }
    }

    /// Takes in what a task that fits waits for.
    pub(crate) fn on_progress(&mut self, task: ExecutionAttemptId, waits_for: WaitsFor) {
        if let Phase::Tasks(contributions) = &mut self.phase
            && let Some(waiting) = contributions.waiting.get_mut(&task.into())
        {
            waiting.waits_for = waits_for;
        }
    }

    /// Goes on from `Queued` to `Storing`, with the metadata that `assemble` makes.
    ///
    /// # Errors
    /// The error of `assemble`; the contributions are lost.
    pub(crate) fn store(
        &mut self,
        assemble: impl FnOnce(Contributions) -> Result<Metadata, String>,
    ) -> Result<Option<Arc<Metadata>>, String> {
        let emptied = Phase::Queued(Contributions::default());
        match std::mem::replace(&mut self.phase, emptied) {
            Phase::Queued(contributions) => {
                let metadata = Arc::new(assemble(contributions)?);
                self.phase = Phase::Storing(Arc::clone(&metadata));
                Ok(Some(metadata))
            }
            other => {
                self.phase = other;
                Ok(None)
            }
        }
    }

    /// Goes on to `InDoubt`; false if it is not being stored.
    pub(crate) fn on_unknown(&mut self, look_at: Instant, reason: String) -> bool {
        let (metadata, look_at) = match &self.phase {
            Phase::Storing(metadata) => (Arc::clone(metadata), None),
            Phase::InDoubt { metadata, .. } => (Arc::clone(metadata), Some(look_at)),
            Phase::Reserving | Phase::Coordinators | Phase::Tasks(_) | Phase::Queued(_) => {
                return false;
            }
        };
        self.phase = Phase::InDoubt { metadata, reason, look_at };
        true
    }

    /// When to look again whether it is stored.
    pub(crate) const fn look_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::InDoubt { look_at, .. } => *look_at,
            Phase::Reserving
            | Phase::Coordinators
            | Phase::Tasks(_)
            | Phase::Queued(_)
            | Phase::Storing(_) => None,
        }
    }

    /// Takes in that it is being looked for.
    pub(crate) const fn on_look(&mut self) {
        if let Phase::InDoubt { look_at, .. } = &mut self.phase {
            *look_at = None;
        }
    }

    /// The tasks that have not acknowledged.
    fn missing(&self, plan: &Plan) -> Vec<Missing> {
        let Phase::Tasks(contributions) = &self.phase else { return Vec::new() };
        let missing = contributions.waiting.iter().map(|(subtask, waiting)| Missing {
            task: subtask.attempt(waiting.attempt),
            name: plan.name_of(*subtask),
            waits_for: waiting.waits_for.clone(),
        });
        missing.collect()
    }

    /// The status that users see.
    pub(crate) fn status(&self, plan: &Plan, now: Instant) -> PendingStatus {
        let waiting_for = match &self.phase {
            Phase::Reserving => WaitingFor::Id,
            Phase::Coordinators => WaitingFor::Coordinators,
            Phase::Tasks(_) => WaitingFor::Tasks(self.missing(plan)),
            Phase::Queued(_) => WaitingFor::Earlier,
            Phase::Storing(_) => WaitingFor::Store,
            Phase::InDoubt { reason, .. } => WaitingFor::ReadBack(reason.clone()),
        };
        let age = now.saturating_duration_since(self.start.instant);
        PendingStatus { id: self.stats.id, kind: self.kind, age, waiting_for }
    }

    /// The rest of a sentence on a checkpoint that is late.
    pub(crate) fn reason_of_delay(&self, plan: &Plan) -> String {
        /// The most subtasks that a sentence names.
        const NAMED_MAX: usize = 3;
        let missing = match &self.phase {
            Phase::Reserving => return "its id could not be stored".to_owned(),
            Phase::Coordinators => return "the coordinators have not answered".to_owned(),
            Phase::Queued(_) => return "an earlier checkpoint is being stored".to_owned(),
            Phase::Storing(_) | Phase::InDoubt { .. } => return "it is being stored".to_owned(),
            Phase::Tasks(_) => self.missing(plan),
        };
        let names: Vec<String> = missing
            .iter()
            .take(NAMED_MAX)
            .map(|one| format!("{} waits for {}", one.name, one.waits_for))
            .collect();
        let more = match missing.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!(
            "{} of {} subtasks have not acknowledged it: {}{more}",
            missing.len(),
            self.stats.subtasks_total,
            names.join(", ")
        )
    }
}
