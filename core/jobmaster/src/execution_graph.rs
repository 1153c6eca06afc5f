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

use millstream_gateway::{SubtaskDetails, TaskLocation, TaskMetrics, VertexDetails};
use millstream_graph::JobGraph;
use millstream_protocol::host;
use millstream_types::{ExecutionState, HostId, OperatorId, Timestamp, VertexId};

/// Rates are taken over at least this long.
const RATE_INTERVAL_MIN_MS: u64 = 200;

/// Names a subtask by its vertex's place in the graph and its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtask {
    /// The vertex's place.
    pub vertex: usize,
    /// The number, from 0.
    pub index: usize,
}

/// Where an attempt runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The process and its worker.
    pub location: TaskLocation,
    /// The worker's slot; subtasks of one slot share a thread.
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
    rates: Rates,
}

/// Milliseconds per second spent working, idle and backpressured, since the last look.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    since: Option<(Timestamp, [u64; 3])>,
    per_second: [f64; 3],
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

/// Whether an attempt may go from one state to the other at once.
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
            rates: Rates::default(),
        }
    }

    /// How many attempts came before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> ExecutionState {
        self.state
    }

    /// Where it runs or is going to.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Whether a host was told to run it.
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
                self.rates = Rates::default();
            }
        }
        allowed
    }

    fn measure(&mut self, now: Timestamp, metrics: TaskMetrics) {
        let spent = [metrics.busy_ns, metrics.idle_ns, metrics.backpressured_ns];
        self.metrics = metrics;
        match self.rates.since {
            None => self.rates.since = Some((now, spent)),
            Some((since, before)) => {
                let millis = now.saturating_since(since).as_millis() as u64;
                if millis >= RATE_INTERVAL_MIN_MS {
                    self.rates.since = Some((now, spent));
                    self.rates.per_second = std::array::from_fn(|at| {
                        let nanos = spent[at].saturating_sub(before[at]) as f64;
                        (nanos / 1e3 / millis as f64).min(1000.0)
                    });
                }
            }
        }
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

    /// What people call a subtask: `Map (2/4)`.
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

    /// Puts every subtask where slot `index` of its vertex's slot sharing group is.
    pub(crate) fn place(&mut self, places: &BTreeMap<(String, u32), Place>) {
        for vertex in &mut self.vertices {
            for (index, execution) in (0..).zip(&mut vertex.subtasks) {
                execution.place = places.get(&(vertex.group.clone(), index)).cloned();
            }
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

    /// A host says what a subtask has counted. What it counted at its end is never replaced.
    pub(crate) fn measure(&mut self, now: Timestamp, subtask: Subtask, metrics: TaskMetrics) {
        if let Some(execution) = self.get_mut(subtask)
            && !execution.state.is_terminal()
        {
            execution.measure(now, metrics);
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

    /// Whatever has not ended shall: CANCELING where a host knows it, else CANCELED.
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

    /// How many subtasks have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.iter().filter(|(_, execution)| !execution.state.is_terminal()).count()
    }

    /// Whether every subtask has done its work.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.iter().all(|(_, execution)| execution.state == ExecutionState::Finished)
    }

    /// What the outside sees.
    #[must_use]
    pub fn details(&self) -> Vec<VertexDetails> {
        let subtask = |(index, execution): (u32, &Execution)| SubtaskDetails {
            subtask: index,
            attempt: execution.attempt,
            state: execution.state,
            state_times: execution.state_times.clone(),
            location: execution.place.as_ref().map(|place| place.location.clone()),
            metrics: execution.metrics.clone(),
            busy_ms_per_second: execution.rates.per_second[0],
            idle_ms_per_second: execution.rates.per_second[1],
            backpressured_ms_per_second: execution.rates.per_second[2],
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
    fn rates_are_of_the_last_interval() {
        let mut execution = running(Timestamp::from_millis(0));
        let busy = |busy_ms: u64| TaskMetrics {
            busy_ns: busy_ms * 1_000_000,
            idle_ns: (1000 - busy_ms) * 1_000_000,
            ..TaskMetrics::default()
        };
        execution.measure(Timestamp::from_millis(0), busy(0));
        execution.measure(Timestamp::from_millis(1000), busy(250));
        assert_eq!(execution.rates.per_second[0], 250.0);
        execution.measure(Timestamp::from_millis(1050), busy(300));
        assert_eq!(execution.rates.per_second[0], 250.0, "too short an interval");
        execution.measure(Timestamp::from_millis(1250), busy(450));
        assert_eq!(execution.rates.per_second[0], 800.0);
    }
}
