//! A job as it runs: per vertex its subtasks, per subtask the current attempt.
//!
//! ```text
//! CREATED -> SCHEDULED -> DEPLOYING -> INITIALIZING -> RUNNING -> FINISHED
//!                             |             |             |
//!                             +-------------+-------------+-> CANCELING -> CANCELED
//! ```
//! FAILED follows any state that is not the end, except CANCELING: an attempt that was told to stop
//! is CANCELED however it ends. An attempt that no host knows yet goes to CANCELED at once.
//!
//! The partitions between subtasks have no state of their own: a host derives its channels from
//! the JobGraph's edges and the [`Place`] of every subtask, and a vertex may consume once all its
//! producers run.
//!
//! A report costs the same however many subtasks there are: each vertex counts its own by their
//! states, and a snapshot ([`ExecutionGraph::details`]) shares all that have not changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{Rates, SubtaskDetails, TaskLocation, TaskMetrics, VertexDetails};
use millstream_graph::JobGraph;
use millstream_protocol::host;
use millstream_types::{
    ExecutionAttemptId, ExecutionState, HostId, OperatorId, Timestamp, VertexId,
};

/// Rates are taken over at least this long.
const RATES_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Names a subtask by its vertex's place in the graph and its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtask {
    /// The vertex's place.
    pub vertex: usize,
    /// The number, from 0.
    pub index: usize,
}

/// The place where an attempt runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The process and its TaskManager.
    pub location: TaskLocation,
    /// The TaskManager's slot; subtasks of one slot share a thread.
    pub slot: u32,
}

/// The current attempt of one subtask.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Shared with the snapshots that show it as it is.
    shown: Arc<SubtaskDetails>,
    deployed: bool,
    /// The counters that the rates are counted from.
    measured: TaskMetrics,
}

/// The rates between two reports; none if they are too near to each other. The time
/// is the task's own account of it, so that its parts add up however long a report was under way.
#[expect(clippy::cast_precision_loss, reason = "numbers on a dashboard")]
fn rates(before: &TaskMetrics, now: &TaskMetrics) -> Option<Rates> {
    let since = |of: fn(&TaskMetrics) -> u64| of(now).saturating_sub(of(before));
    let spent = [since(|it| it.busy_ns), since(|it| it.idle_ns), since(|it| it.backpressured_ns)];
    let total = spent.iter().fold(0_u64, |sum, nanos| sum.saturating_add(*nanos));
    if Duration::from_nanos(total) < RATES_INTERVAL_MIN {
        return None;
    }
    let [busy, idle, backpressured] = spent.map(|nanos| nanos as f64 / total as f64 * 1000.0);
    let per_second = |count: u64| count as f64 / Duration::from_nanos(total).as_secs_f64();
    let records_in = per_second(since(|it| it.records_in));
    let records_out = per_second(since(|it| it.records_out));
    Some(Rates { busy, idle, backpressured, records_in, records_out })
}

/// One vertex with its subtasks.
#[derive(Debug, Clone)]
pub struct ExecutionVertex {
    id: VertexId,
    name: String,
    group: String,
    producers: BTreeSet<usize>,
    subtasks: Vec<Execution>,
    counts: Counts,
}

/// The numbers of a vertex's subtasks in some states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    /// Those that run or have finished.
    run: usize,
    finished: usize,
    /// Those that have ended, in any way.
    ended: usize,
    /// Those that no host was told to run, and that have not ended.
    undeployed: usize,
}

impl Counts {
    fn of(executions: &[Execution]) -> Self {
        let mut counts = Self::default();
        executions.iter().for_each(|execution| counts.change(execution, |count| *count += 1));
        counts
    }

    /// Changes the numbers that an execution is part of.
    fn change(&mut self, execution: &Execution, change: impl Fn(&mut usize)) {
        let state = execution.state();
        let parts = [
            (matches!(state, ExecutionState::Running | ExecutionState::Finished), &mut self.run),
            (state == ExecutionState::Finished, &mut self.finished),
            (state.is_terminal(), &mut self.ended),
            (!execution.deployed && !state.is_terminal(), &mut self.undeployed),
        ];
        parts.into_iter().filter(|(is_part, _)| *is_part).for_each(|(_, count)| change(count));
    }
}

impl ExecutionVertex {
    /// Changes an execution and what is counted of it.
    fn update<T>(&mut self, index: usize, change: impl FnOnce(&mut Execution) -> T) -> Option<T> {
        let execution = self.subtasks.get_mut(index)?;
        self.counts.change(execution, |count| *count -= 1);
        let result = change(execution);
        self.counts.change(execution, |count| *count += 1);
        Some(result)
    }
}

/// All of a job's vertices, in the graph's order.
#[derive(Debug, Clone)]
pub struct ExecutionGraph {
    vertices: Vec<ExecutionVertex>,
    places: HashMap<VertexId, usize>,
    operators: BTreeMap<OperatorId, usize>,
    /// The subtasks of each process.
    hosted: BTreeMap<HostId, Vec<Subtask>>,
}

/// True if an attempt may go from one state to the other at once.
fn can_follow(from: ExecutionState, to: ExecutionState) -> bool {
    use ExecutionState as S;
    match from {
        S::Created => matches!(to, S::Scheduled | S::Canceled | S::Failed),
        S::Scheduled => matches!(to, S::Deploying | S::Canceled | S::Failed),
        S::Deploying => !matches!(to, S::Created | S::Scheduled | S::Deploying | S::Reconciling),
        S::Initializing => {
            matches!(to, S::Running | S::Finished | S::Canceling | S::Canceled | S::Failed)
        }
        S::Running => matches!(to, S::Finished | S::Canceling | S::Canceled | S::Failed),
        S::Canceling => matches!(to, S::Canceled),
        S::Finished | S::Canceled | S::Failed | S::Reconciling => false,
    }
}

impl Execution {
    fn new(subtask: u32, attempt: u32, now: Timestamp) -> Self {
        let shown = SubtaskDetails {
            subtask,
            attempt,
            state: ExecutionState::Created,
            state_times: BTreeMap::from([(ExecutionState::Created, now)]),
            location: None,
            metrics: TaskMetrics::default(),
            rates: None,
            slot: None,
        };
        Self { shown: Arc::new(shown), deployed: false, measured: TaskMetrics::default() }
    }

    /// The number of attempts before this one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shown.attempt
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> ExecutionState {
        self.shown.state
    }

    /// The process that runs it, and the slot.
    #[must_use]
    pub fn place(&self) -> Option<(&TaskLocation, u32)> {
        self.shown.location.as_ref().zip(self.shown.slot)
    }

    /// True if a host was told to run it.
    #[must_use]
    pub fn is_deployed(&self) -> bool {
        self.deployed
    }

    /// The process that runs it.
    fn host(&self) -> Option<HostId> {
        self.shown.location.as_ref().map(|location| location.host)
    }

    /// Goes to `to` if that may follow; `false` leaves it as it is.
    fn enter(&mut self, now: Timestamp, to: ExecutionState) -> bool {
        let canceling = self.state() == ExecutionState::Canceling && to.is_terminal();
        let to = if canceling { ExecutionState::Canceled } else { to };
        let allowed = can_follow(self.state(), to);
        if allowed {
            let shown = Arc::make_mut(&mut self.shown);
            shown.state = to;
            shown.state_times.insert(to, now);
            if to.is_terminal() {
                shown.rates = None;
            }
        }
        allowed
    }

    fn measure(&mut self, metrics: TaskMetrics) {
        let shown = Arc::make_mut(&mut self.shown);
        if let Some(rates) = rates(&self.measured, &metrics) {
            shown.rates = Some(rates);
            self.measured = metrics.clone();
        }
        shown.metrics = metrics;
    }
}

impl ExecutionGraph {
    /// Every subtask of `graph`, created now.
    #[must_use]
    pub fn new(graph: &JobGraph, now: Timestamp) -> Self {
        let numbered = graph.vertices.iter().enumerate();
        let places: HashMap<_, _> = numbered.map(|(place, vertex)| (vertex.id, place)).collect();
        let producers = |id| graph.inputs(id).filter_map(|edge| places.get(&edge.source).copied());
        let vertices = graph.vertices.iter().map(|vertex| {
            let created = (0..vertex.parallelism).map(|subtask| Execution::new(subtask, 0, now));
            let subtasks: Vec<_> = created.collect();
            ExecutionVertex {
                id: vertex.id,
                name: vertex.name.clone(),
                group: vertex.slot_sharing_group.clone(),
                producers: producers(vertex.id).collect(),
                counts: Counts::of(&subtasks),
                subtasks,
            }
        });
        let vertices = vertices.collect();
        let operators = graph.vertices.iter().enumerate().flat_map(|(place, vertex)| {
            vertex.operators.iter().map(move |operator| (operator.id, place))
        });
        let operators = operators.collect();
        Self { vertices, places, operators, hosted: BTreeMap::new() }
    }

    /// All subtasks, by vertex.
    pub fn iter(&self) -> impl Iterator<Item = (Subtask, &Execution)> {
        self.vertices.iter().enumerate().flat_map(|(vertex, executions)| {
            let numbered = executions.subtasks.iter().enumerate();
            numbered.map(move |(index, execution)| (Subtask { vertex, index }, execution))
        })
    }

    /// The subtask's current attempt.
    #[must_use]
    pub fn get(&self, subtask: Subtask) -> Option<&Execution> {
        self.vertices.get(subtask.vertex)?.subtasks.get(subtask.index)
    }

    /// Changes the subtask's current attempt.
    fn update<T>(
        &mut self,
        subtask: Subtask,
        change: impl FnOnce(&mut Execution) -> T,
    ) -> Option<T> {
        self.vertices.get_mut(subtask.vertex)?.update(subtask.index, change)
    }

    /// The subtask that a host speaks of; none if it is not the host's, or of an earlier attempt.
    #[must_use]
    pub fn find(&self, host: HostId, task: &host::TaskId) -> Option<Subtask> {
        let id = VertexId::try_from(task.vertex.as_slice()).ok()?;
        let vertex = *self.places.get(&id)?;
        let subtask = Subtask { vertex, index: task.subtask as usize };
        let execution = self.get(subtask)?;
        let current = execution.attempt() == task.attempt && execution.host() == Some(host);
        (current && execution.deployed).then_some(subtask)
    }

    /// The process that runs this attempt, if it is the current one.
    #[must_use]
    pub fn host_of(&self, task: ExecutionAttemptId) -> Option<HostId> {
        let vertex = *self.places.get(&task.vertex)?;
        let execution = self.get(Subtask { vertex, index: task.subtask as usize })?;
        execution.host().filter(|_| execution.attempt() == task.attempt)
    }

    /// The task of this subtask of an operator.
    #[must_use]
    pub fn of_operator(&self, operator: &[u8], subtask: u32) -> Option<Subtask> {
        let vertex = *self.operators.get(&OperatorId::try_from(operator).ok()?)?;
        let task = Subtask { vertex, index: subtask as usize };
        self.get(task).map(|_| task)
    }

    /// The name of a subtask for people: `Map (2/4)`.
    #[must_use]
    pub fn name(&self, subtask: Subtask) -> String {
        self.vertices.get(subtask.vertex).map_or_else(String::new, |vertex| {
            format!("{} ({}/{})", vertex.name, subtask.index + 1, vertex.subtasks.len())
        })
    }

    /// Its name in messages.
    #[must_use]
    pub fn message_id(&self, subtask: Subtask) -> (Vec<u8>, u32) {
        let id = self.vertices.get(subtask.vertex).map(|vertex| vertex.id.as_bytes().to_vec());
        (id.unwrap_or_default(), u32::try_from(subtask.index).unwrap_or(u32::MAX))
    }

    /// Subtasks that no host was told to run although all producers of their vertex run; with
    /// `eager`, all that no host was told to run.
    #[must_use]
    pub fn deployable(&self, eager: bool) -> Vec<Subtask> {
        let runs = |at: &usize| {
            self.vertices.get(*at).is_none_or(|vertex| vertex.counts.run == vertex.subtasks.len())
        };
        let mut deployable = Vec::new();
        for (vertex, state) in self.vertices.iter().enumerate() {
            if state.counts.undeployed > 0 && (eager || state.producers.iter().all(runs)) {
                let subtasks = state.subtasks.iter().enumerate();
                let waits = |it: &Execution| !it.deployed && !it.state().is_terminal();
                let waiting = subtasks.filter(|(_, execution)| waits(execution));
                deployable.extend(waiting.map(|(index, _)| Subtask { vertex, index }));
            }
        }
        deployable
    }

    /// CREATED to SCHEDULED.
    pub(crate) fn schedule(&mut self, now: Timestamp, subtasks: &[Subtask]) {
        self.enter_all(now, subtasks, ExecutionState::Scheduled);
    }

    /// SCHEDULED to DEPLOYING, those that are not there yet.
    pub(crate) fn start_deploying(&mut self, now: Timestamp, subtasks: &[Subtask]) {
        self.enter_all(now, subtasks, ExecutionState::Deploying);
    }

    fn enter_all(&mut self, now: Timestamp, subtasks: &[Subtask], state: ExecutionState) {
        for subtask in subtasks {
            self.update(*subtask, |execution| execution.enter(now, state));
        }
    }

    /// Puts subtasks of this number of a slot sharing group into a slot: those that are asked for.
    pub(crate) fn place(
        &mut self,
        (group, number): (&str, u32),
        place: &Place,
        is_asked_for: impl Fn(&Subtask) -> bool,
    ) {
        let index = number as usize;
        for (vertex, state) in self.vertices.iter_mut().enumerate() {
            if state.group == group
                && is_asked_for(&Subtask { vertex, index })
                && let Some(execution) = state.subtasks.get_mut(index)
            {
                let shown = Arc::make_mut(&mut execution.shown);
                shown.location = Some(place.location.clone());
                shown.slot = Some(place.slot);
                let hosted = self.hosted.entry(place.location.host).or_default();
                hosted.push(Subtask { vertex, index });
            }
        }
    }

    /// A process is ready and listens for the records of others.
    pub(crate) fn set_data_port(&mut self, host: HostId, port: Option<u16>) {
        for subtask in self.hosted.get(&host).into_iter().flatten() {
            let vertex = self.vertices.get_mut(subtask.vertex);
            if let Some(execution) = vertex.and_then(|it| it.subtasks.get_mut(subtask.index))
                && let Some(location) = &mut Arc::make_mut(&mut execution.shown).location
            {
                location.data_port = port;
            }
        }
    }

    /// A host is being told to run these.
    pub(crate) fn mark_deployed(&mut self, subtasks: &[Subtask]) {
        for subtask in subtasks {
            self.update(*subtask, |execution| execution.deployed = true);
        }
    }

    /// A host says what became of a subtask; `false` if that cannot be.
    pub(crate) fn report(&mut self, now: Timestamp, task: Subtask, state: ExecutionState) -> bool {
        self.update(task, |execution| execution.enter(now, state)).unwrap_or(false)
    }

    /// Takes a report of a subtask's counters. Its final counters are never replaced.
    pub(crate) fn measure(&mut self, subtask: Subtask, metrics: TaskMetrics) {
        self.update(subtask, |execution| {
            if !execution.state().is_terminal() {
                execution.measure(metrics);
            }
        });
    }

    /// Subtasks of a process that have not ended.
    #[must_use]
    pub fn active_on(&self, host: HostId) -> Vec<Subtask> {
        let is_active = |subtask: &Subtask| {
            self.get(*subtask).is_some_and(|execution| !execution.state().is_terminal())
        };
        let hosted = self.hosted.get(&host).into_iter().flatten().copied();
        let mut active: Vec<_> = hosted.filter(is_active).collect();
        active.sort_unstable();
        active
    }

    /// These ended with their process.
    pub(crate) fn fail(&mut self, now: Timestamp, subtasks: &[Subtask]) {
        self.enter_all(now, subtasks, ExecutionState::Failed);
    }

    /// Cancels every attempt that has not ended: CANCELING if a host knows it, else CANCELED.
    pub(crate) fn cancel(&mut self, now: Timestamp) {
        let all: Vec<Subtask> = self.iter().map(|(subtask, _)| subtask).collect();
        self.cancel_some(now, &all);
    }

    /// As [`ExecutionGraph::cancel`], of these subtasks alone.
    pub(crate) fn cancel_some<'a>(
        &mut self,
        now: Timestamp,
        subtasks: impl IntoIterator<Item = &'a Subtask>,
    ) {
        for subtask in subtasks {
            self.update(*subtask, |execution| {
                let canceled = match execution.deployed {
                    true => ExecutionState::Canceling,
                    false => ExecutionState::Canceled,
                };
                execution.enter(now, canceled)
            });
        }
    }

    /// The process that a subtask is placed in, if it has not ended.
    pub(crate) fn active_host(&self, subtask: Subtask) -> Option<HostId> {
        let execution = self.get(subtask)?;
        execution.host().filter(|_| !execution.state().is_terminal())
    }

    /// The process that runs a subtask, or has run it to its end.
    pub(crate) fn last_host(&self, subtask: Subtask) -> Option<HostId> {
        self.get(subtask)?.host()
    }

    /// The present attempts of all subtasks. What those have written that have finished may not be
    /// published yet.
    pub(crate) fn attempts(&self) -> Vec<u32> {
        let attempts: BTreeSet<u32> =
            self.iter().map(|(_, execution)| execution.attempt()).collect();
        attempts.into_iter().collect()
    }

    /// The operators of subtasks that have coordinators, with the subtasks of each.
    pub(crate) fn coordinated(
        &self,
        graph: &JobGraph,
        subtasks: &BTreeSet<Subtask>,
    ) -> BTreeMap<OperatorId, Vec<u32>> {
        let mut coordinated: BTreeMap<OperatorId, Vec<u32>> = BTreeMap::new();
        for subtask in subtasks {
            let operators = graph.vertices.get(subtask.vertex).map(|vertex| &vertex.operators);
            for operator in operators.into_iter().flatten().filter(|it| it.coordinated) {
                let number = u32::try_from(subtask.index).unwrap_or(u32::MAX);
                coordinated.entry(operator.id).or_default().push(number);
            }
        }
        coordinated
    }

    /// Begins an attempt of every subtask.
    pub(crate) fn reset(&mut self, now: Timestamp, attempt: u32) {
        self.hosted.clear();
        for vertex in &mut self.vertices {
            for execution in &mut vertex.subtasks {
                *execution = Execution::new(execution.shown.subtask, attempt, now);
            }
            vertex.counts = Counts::of(&vertex.subtasks);
        }
    }

    /// Begins an attempt of these subtasks, which have ended.
    pub(crate) fn reset_some(
        &mut self,
        now: Timestamp,
        subtasks: &BTreeSet<Subtask>,
        attempt: u32,
    ) {
        for hosted in self.hosted.values_mut() {
            hosted.retain(|subtask| !subtasks.contains(subtask));
        }
        self.hosted.retain(|_, hosted| !hosted.is_empty());
        for subtask in subtasks {
            self.update(*subtask, |execution| {
                *execution = Execution::new(execution.shown.subtask, attempt, now);
            });
        }
    }

    /// The number of subtasks that have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.vertices.iter().map(|vertex| vertex.subtasks.len() - vertex.counts.ended).sum()
    }

    /// True if every subtask has finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.vertices.iter().all(|vertex| vertex.counts.finished == vertex.subtasks.len())
    }

    /// Counts everything once more.
    #[cfg(test)]
    pub(crate) fn check_counts(&self) {
        for vertex in &self.vertices {
            assert_eq!(vertex.counts, Counts::of(&vertex.subtasks), "{}", vertex.name);
        }
    }

    /// The vertices as REST shows them.
    #[must_use]
    pub fn details(&self) -> Vec<VertexDetails> {
        let shown = |execution: &Execution| Arc::clone(&execution.shown);
        let vertex = |vertex: &ExecutionVertex| VertexDetails {
            id: vertex.id,
            subtasks: vertex.subtasks.iter().map(shown).collect(),
        };
        self.vertices.iter().map(vertex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::fixture::pipeline;

    fn running(now: Timestamp) -> Execution {
        let mut execution = Execution::new(0, 0, now);
        for state in [
            ExecutionState::Scheduled,
            ExecutionState::Deploying,
            ExecutionState::Initializing,
            ExecutionState::Running,
        ] {
            assert!(execution.enter(now, state));
        }
        execution
    }

    #[test]
    fn snapshots_share_the_subtasks_that_have_not_changed() {
        let now = Timestamp::from_millis(1);
        let mut graph = ExecutionGraph::new(&pipeline(1_000), now);
        let before = graph.details();
        let changed = Subtask { vertex: 1, index: 7 };
        graph.schedule(now, &[changed]);
        let after = graph.details();
        for (vertex, (before, after)) in before.iter().zip(&after).enumerate() {
            for (index, (before, after)) in before.subtasks.iter().zip(&after.subtasks).enumerate()
            {
                let is_same = std::ptr::eq(before, after);
                assert_eq!(is_same, changed != Subtask { vertex, index });
                assert_eq!(before.state, ExecutionState::Created, "a snapshot does not change");
            }
        }
    }

    #[test]
    fn nothing_follows_an_end() {
        for end in ExecutionState::ALL.iter().filter(|state| state.is_terminal()) {
            for to in ExecutionState::ALL {
                assert!(!can_follow(*end, *to), "{end} -> {to}");
            }
        }
    }

    #[test]
    fn an_attempt_never_goes_back() {
        let now = Timestamp::from_millis(1);
        let mut execution = running(now);
        assert!(!execution.enter(now, ExecutionState::Initializing));
        assert_eq!(execution.state(), ExecutionState::Running);
    }

    #[test]
    fn an_attempt_that_was_told_to_stop_is_canceled_however_it_ends() {
        for end in [ExecutionState::Finished, ExecutionState::Failed, ExecutionState::Canceled] {
            let mut execution = running(Timestamp::from_millis(1));
            assert!(execution.enter(Timestamp::from_millis(2), ExecutionState::Canceling));
            assert!(execution.enter(Timestamp::from_millis(3), end));
            assert_eq!(execution.state(), ExecutionState::Canceled);
            assert!(!execution.shown.state_times.contains_key(&ExecutionState::Failed));
        }
    }

    #[test]
    fn rates_of_time_add_up_in_every_report() {
        let mut execution = running(Timestamp::from_millis(0));
        let spent = |busy_ms: u64, idle_ms: u64, backpressured_ms: u64| TaskMetrics {
            busy_ns: busy_ms * 1_000_000,
            idle_ns: idle_ms * 1_000_000,
            backpressured_ns: backpressured_ms * 1_000_000,
            records_in: (busy_ms + idle_ms + backpressured_ms) * 7,
            ..TaskMetrics::default()
        };
        let shown = |execution: &Execution| {
            execution.shown.rates.map(|rates| [rates.busy, rates.idle, rates.backpressured])
        };
        execution.measure(spent(1, 0, 0));
        assert_eq!(shown(&execution), None, "too short an interval");
        execution.measure(spent(100, 0, 300));
        assert_eq!(shown(&execution), Some([250.0, 0.0, 750.0]), "the first report counts");
        assert_eq!(execution.shown.rates.unwrap().records_in, 7000.0);
        execution.measure(spent(100, 100, 350));
        assert_eq!(shown(&execution), Some([250.0, 0.0, 750.0]), "too short an interval");
        execution.measure(spent(100, 100, 500));
        assert_eq!(shown(&execution).unwrap().iter().sum::<f64>(), 1000.0);
        assert_eq!(shown(&execution).unwrap()[0], 0.0);
        assert!(execution.enter(Timestamp::from_millis(9), ExecutionState::Finished));
        assert_eq!(shown(&execution), None, "an ended task spends no time");
    }
}
