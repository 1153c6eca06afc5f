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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_gateway::{Rates, SubtaskDetails, TaskLocation, TaskMetrics, VertexDetails};
use millstream_graph::JobGraph;
use millstream_protocol::host;
use millstream_types::{ExecutionState, HostId, OperatorId, Timestamp, VertexId};

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
    attempt: u32,
    state: ExecutionState,
    state_times: BTreeMap<ExecutionState, Timestamp>,
    place: Option<Place>,
    deployed: bool,
    metrics: TaskMetrics,
    /// The counters that the rates are counted from.
    measured: TaskMetrics,
    rates: Option<Rates>,
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
}

/// All of a job's vertices, in the graph's order.
#[derive(Debug, Clone)]
pub struct ExecutionGraph {
    vertices: Vec<ExecutionVertex>,
    operators: BTreeMap<OperatorId, usize>,
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
    fn new(attempt: u32, now: Timestamp) -> Self {
        Self {
            attempt,
            state: ExecutionState::Created,
            state_times: BTreeMap::from([(ExecutionState::Created, now)]),
            place: None,
            deployed: false,
            metrics: TaskMetrics::default(),
            measured: TaskMetrics::default(),
            rates: None,
        }
    }

    /// The number of attempts before this one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> ExecutionState {
        self.state
    }

    /// The place where it runs or is going to.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// True if a host was told to run it.
    #[must_use]
    pub fn is_deployed(&self) -> bool {
        self.deployed
    }

    /// The process that runs it.
    fn host(&self) -> Option<HostId> {
        self.place.as_ref().map(|place| place.location.host)
    }

    /// Goes to `to` if that may follow; `false` leaves it as it is.
    fn enter(&mut self, now: Timestamp, to: ExecutionState) -> bool {
        let canceling = self.state == ExecutionState::Canceling && to.is_terminal();
        let to = if canceling { ExecutionState::Canceled } else { to };
        let allowed = can_follow(self.state, to);
        if allowed {
            self.state = to;
            self.state_times.insert(to, now);
            if to.is_terminal() {
                self.rates = None;
            }
        }
        allowed
    }

    fn measure(&mut self, metrics: TaskMetrics) {
        if let Some(rates) = rates(&self.measured, &metrics) {
            self.rates = Some(rates);
            self.measured = metrics.clone();
        }
        self.metrics = metrics;
    }
}

impl ExecutionGraph {
    /// Every subtask of `graph`, created now.
    #[must_use]
    pub fn new(graph: &JobGraph, now: Timestamp) -> Self {
        let place_of = |id: VertexId| graph.vertices.iter().position(|vertex| vertex.id == id);
        let vertices = graph.vertices.iter().map(|vertex| ExecutionVertex {
            id: vertex.id,
            name: vertex.name.clone(),
            group: vertex.slot_sharing_group.clone(),
            producers: graph.inputs(vertex.id).filter_map(|edge| place_of(edge.source)).collect(),
            subtasks: (0..vertex.parallelism).map(|_| Execution::new(0, now)).collect(),
        });
        let operators = graph.vertices.iter().enumerate().flat_map(|(place, vertex)| {
            vertex.operators.iter().map(move |operator| (operator.id, place))
        });
        Self { vertices: vertices.collect(), operators: operators.collect() }
    }

    /// All subtasks, by vertex.
    pub fn iter(&self) -> impl Iterator<Item = (Subtask, &Execution)> {
        self.vertices.iter().enumerate().flat_map(|(vertex, executions)| {
            let numbered = executions.subtasks.iter().enumerate();
            numbered.map(move |(index, execution)| (Subtask { vertex, index }, execution))
        })
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Execution> {
        self.vertices.iter_mut().flat_map(|vertex| &mut vertex.subtasks)
    }

    /// The subtask's current attempt.
    #[must_use]
    pub fn get(&self, subtask: Subtask) -> Option<&Execution> {
        self.vertices.get(subtask.vertex)?.subtasks.get(subtask.index)
    }

    fn get_mut(&mut self, subtask: Subtask) -> Option<&mut Execution> {
        self.vertices.get_mut(subtask.vertex)?.subtasks.get_mut(subtask.index)
    }

    /// The subtask that a host speaks of; none if it is not the host's, or of an earlier attempt.
    #[must_use]
    pub fn find(&self, host: HostId, task: &host::TaskId) -> Option<Subtask> {
        let id = VertexId::try_from(task.vertex.as_slice()).ok()?;
        let vertex = self.vertices.iter().position(|vertex| vertex.id == id)?;
        let subtask = Subtask { vertex, index: task.subtask as usize };
        let execution = self.get(subtask)?;
        let current = execution.attempt == task.attempt && execution.host() == Some(host);
        (current && execution.deployed).then_some(subtask)
    }

    /// The process that runs this subtask of an operator's vertex.
    #[must_use]
    pub fn host_of_operator(&self, operator: &[u8], subtask: u32) -> Option<HostId> {
        let vertex = *self.operators.get(&OperatorId::try_from(operator).ok()?)?;
        self.get(Subtask { vertex, index: subtask as usize })?.host()
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
        let runs = |execution: &Execution| {
            matches!(execution.state, ExecutionState::Running | ExecutionState::Finished)
        };
        let fed = |vertex: &ExecutionVertex| {
            vertex.producers.iter().all(|at| self.vertices[*at].subtasks.iter().all(runs))
        };
        let eligible: Vec<bool> = self.vertices.iter().map(|vertex| eager || fed(vertex)).collect();
        self.iter()
            .filter(|(subtask, execution)| {
                eligible[subtask.vertex] && !execution.deployed && !execution.state.is_terminal()
            })
            .map(|(subtask, _)| subtask)
            .collect()
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
            if let Some(execution) = self.get_mut(*subtask) {
                execution.enter(now, state);
            }
        }
    }

    /// Puts subtasks where the slot of their number of their vertex's slot sharing group is; those
    /// of other slots stay where they are.
    pub(crate) fn place(&mut self, places: &BTreeMap<(String, u32), Place>) {
        for vertex in &mut self.vertices {
            for (index, execution) in (0..).zip(&mut vertex.subtasks) {
                if let Some(place) = places.get(&(vertex.group.clone(), index)) {
                    execution.place = Some(place.clone());
                }
            }
        }
    }

    /// A process is ready and listens for the records of others.
    pub(crate) fn set_data_port(&mut self, host: HostId, port: Option<u16>) {
        let places = self.iter_mut().filter_map(|execution| execution.place.as_mut());
        for place in places.filter(|place| place.location.host == host) {
            place.location.data_port = port;
        }
    }

    /// A host is being told to run these.
    pub(crate) fn mark_deployed(&mut self, subtasks: &[Subtask]) {
        for subtask in subtasks {
            if let Some(execution) = self.get_mut(*subtask) {
                execution.deployed = true;
            }
        }
    }

    /// A host says what became of a subtask; `false` if that cannot be.
    pub(crate) fn report(&mut self, now: Timestamp, task: Subtask, state: ExecutionState) -> bool {
        self.get_mut(task).is_some_and(|execution| execution.enter(now, state))
    }

    /// Takes a report of a subtask's counters. Its final counters are never replaced.
    pub(crate) fn measure(&mut self, subtask: Subtask, metrics: TaskMetrics) {
        if let Some(execution) = self.get_mut(subtask)
            && !execution.state.is_terminal()
        {
            execution.measure(metrics);
        }
    }

    /// Subtasks of a process that have not ended.
    #[must_use]
    pub fn active_on(&self, host: HostId) -> Vec<Subtask> {
        let active = |execution: &Execution| {
            execution.host() == Some(host) && !execution.state.is_terminal()
        };
        self.iter().filter(|(_, execution)| active(execution)).map(|(task, _)| task).collect()
    }

    /// These ended with their process.
    pub(crate) fn fail(&mut self, now: Timestamp, subtasks: &[Subtask]) {
        self.enter_all(now, subtasks, ExecutionState::Failed);
    }

    /// Cancels every attempt that has not ended: CANCELING if a host knows it, else CANCELED.
    pub(crate) fn cancel(&mut self, now: Timestamp) {
        for execution in self.iter_mut() {
            if !execution.state.is_terminal() {
                execution.enter(
                    now,
                    match execution.deployed {
                        true => ExecutionState::Canceling,
                        false => ExecutionState::Canceled,
                    },
                );
            }
        }
    }

    /// The next attempt of every subtask.
    pub(crate) fn reset(&mut self, now: Timestamp) {
        for execution in self.iter_mut() {
            *execution = Execution::new(execution.attempt + 1, now);
        }
    }

    /// The number of subtasks that have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.iter().filter(|(_, execution)| !execution.state.is_terminal()).count()
    }

    /// True if every subtask has finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.iter().all(|(_, execution)| execution.state == ExecutionState::Finished)
    }

    /// The vertices as REST shows them.
    #[must_use]
    pub fn details(&self) -> Vec<VertexDetails> {
        let subtask = |(index, execution): (u32, &Execution)| SubtaskDetails {
            subtask: index,
            attempt: execution.attempt,
            state: execution.state,
            state_times: execution.state_times.clone(),
            location: execution.place.as_ref().map(|place| place.location.clone()),
            metrics: execution.metrics.clone(),
            rates: execution.rates,
            slot: execution.place.as_ref().map(|place| place.slot),
        };
        let vertex = |vertex: &ExecutionVertex| VertexDetails {
            id: vertex.id,
            subtasks: (0..).zip(&vertex.subtasks).map(subtask).collect(),
        };
        self.vertices.iter().map(vertex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(now: Timestamp) -> Execution {
        let mut execution = Execution::new(0, now);
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
            assert!(!execution.state_times.contains_key(&ExecutionState::Failed));
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
            execution.rates.map(|rates| [rates.busy, rates.idle, rates.backpressured])
        };
        execution.measure(spent(1, 0, 0));
        assert_eq!(shown(&execution), None, "too short an interval");
        execution.measure(spent(100, 0, 300));
        assert_eq!(shown(&execution), Some([250.0, 0.0, 750.0]), "the first report counts");
        assert_eq!(execution.rates.unwrap().records_in, 7000.0);
        execution.measure(spent(100, 100, 350));
        assert_eq!(shown(&execution), Some([250.0, 0.0, 750.0]), "too short an interval");
        execution.measure(spent(100, 100, 500));
        assert_eq!(shown(&execution).unwrap().iter().sum::<f64>(), 1000.0);
        assert_eq!(shown(&execution).unwrap()[0], 0.0);
        assert!(execution.enter(Timestamp::from_millis(9), ExecutionState::Finished));
        assert_eq!(shown(&execution), None, "an ended task spends no time");
    }
}
