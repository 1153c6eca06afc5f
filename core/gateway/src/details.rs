//! The snapshot of a job that a JobMaster publishes and REST renders.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_checkpoint::stats::Overview;
use millstream_graph::JobGraph;
use millstream_types::metrics::MetricValue;
use millstream_types::{
    ArtifactHash, Escaped, ExecutionState, FailureCause, HostId, JobId, JobStatus, TaskManagerId,
    Timestamp, VertexId, counters,
};
use serde::{Deserialize, Serialize};

use crate::RequestDetails;

/// A subtask's counters; exact once its state is terminal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskMetrics {
    /// Records that entered from other tasks.
    pub records_in: u64,
    /// Records that left to other tasks.
    pub records_out: u64,
    /// Bytes that entered from other processes.
    pub bytes_in: u64,
    /// Bytes that left to other processes.
    pub bytes_out: u64,
    /// Time spent working.
    pub busy_ns: u64,
    /// Time without input.
    pub idle_ns: u64,
    /// Time with output that its consumers did not take.
    pub backpressured_ns: u64,
    /// Bad records that were dropped.
    pub records_dropped: u64,
    /// Batches that wait at the inputs.
    pub buffers_in: u64,
    /// Batches that left to other tasks.
    pub buffers_out: u64,
    /// The watermark of the inputs, if there is one.
    pub watermark: Option<Timestamp>,
    /// The watermark of each input of a task with two, if there is one.
    pub input_watermarks: [Option<Timestamp>; 2],
    /// The metrics that user code and sources made, by name; see [`TaskMetrics::users`].
    pub user: BTreeMap<String, MetricValue>,
}

impl TaskMetrics {
    /// The engine's counter of this name, one of [`counters::LEFT_OUT`].
    #[must_use]
    pub fn left_out(&self, name: &str) -> u64 {
        match name {
            counters::RECORDS_DROPPED => self.records_dropped,
            name if counters::is_engines(name) => match self.user.get(name) {
                Some(MetricValue::Counter(count)) => count.unsigned_abs(),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// The metrics that user code made.
    pub fn users(&self) -> impl Iterator<Item = (&str, &MetricValue)> {
        let metrics = self.user.iter().map(|(name, value)| (name.as_str(), value));
        metrics.filter(|(name, _)| !counters::is_engines(name))
    }
}

/// The place of a subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLocation {
    /// The TaskManager.
    pub task_manager: TaskManagerId,
    /// The address of the TaskManager.
    pub address: String,
    /// The process.
    pub host: HostId,
    /// The port on which the process receives records of others; none until it is ready.
    pub data_port: Option<u16>,
}

impl TaskLocation {
    /// Writes `address:port` for people and REST, without the port while there is none.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self.data_port {
            Some(port) if self.address.contains(':') => format!("[{}]:{port}", self.address),
            Some(port) => format!("{}:{port}", self.address),
            None => self.address.clone(),
        }
    }
}

/// The recent activity of a subtask, per second. The three times are milliseconds and add up to
/// 1,000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Time spent working.
    pub busy: f64,
    /// Time without input.
    pub idle: f64,
    /// Time with output that its consumers do not take.
    pub backpressured: f64,
    /// Records that entered from other tasks.
    pub records_in: f64,
    /// Records that left to other tasks.
    pub records_out: f64,
}

/// One subtask's current attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct SubtaskDetails {
    /// Its number, from 0.
    pub subtask: u32,
    /// The number of earlier attempts.
    pub attempt: u32,
    /// Its state.
    pub state: ExecutionState,
    /// The time at which it entered each state.
    pub state_times: BTreeMap<ExecutionState, Timestamp>,
    /// The place, once it has a slot.
    pub location: Option<TaskLocation>,
    /// Its counters.
    pub metrics: TaskMetrics,
    /// The recent activity; none before its first report and after its end.
    pub rates: Option<Rates>,
    /// The number of its slot on the TaskManager.
    pub slot: Option<u32>,
}

/// One vertex.
#[derive(Debug, Clone, PartialEq)]
pub struct VertexDetails {
    /// The vertex of the graph.
    pub id: VertexId,
    /// Its subtasks.
    pub subtasks: Subtasks,
}

/// The subtasks of a vertex. A snapshot shares those that have not changed since the one before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subtasks(Vec<Arc<SubtaskDetails>>);

impl Subtasks {
    /// All of them, by their numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SubtaskDetails> + Clone {
        self.0.iter().map(AsRef::as_ref)
    }

    /// All of them, to be changed in this snapshot alone.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut SubtaskDetails> {
        self.0.iter_mut().map(Arc::make_mut)
    }

    /// The subtask of this number.
    #[must_use]
    pub fn get(&self, subtask: usize) -> Option<&SubtaskDetails> {
        self.0.get(subtask).map(AsRef::as_ref)
    }
}

impl FromIterator<Arc<SubtaskDetails>> for Subtasks {
    fn from_iter<I: IntoIterator<Item = Arc<SubtaskDetails>>>(subtasks: I) -> Self {
        Self(subtasks.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Subtasks {
    type Item = &'a SubtaskDetails;
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, Arc<SubtaskDetails>>,
        fn(&'a Arc<SubtaskDetails>) -> &'a SubtaskDetails,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// One failure of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionEntry {
    /// The time.
    pub timestamp: Timestamp,
    /// The cause.
    pub cause: FailureCause,
    /// The task, as `name (2/4)`; none for a failure of the whole job.
    pub task: Option<String>,
    /// The place of the task.
    pub location: Option<TaskLocation>,
}

/// A job as it is now.
#[derive(Debug, Clone)]
pub struct JobDetails {
    /// The job.
    pub job: JobId,
    /// Its plan.
    pub graph: Arc<JobGraph>,
    /// Its executable.
    pub artifact: ArtifactHash,
    /// Its state.
    pub status: JobStatus,
    /// The time at which it last entered each state.
    pub status_times: BTreeMap<JobStatus, Timestamp>,
    /// The time of its submission.
    pub start_time: Timestamp,
    /// The time of its end.
    pub end_time: Option<Timestamp>,
    /// Its vertices, in the graph's order.
    pub vertices: Vec<VertexDetails>,
    /// Its failures, newest first.
    pub exceptions: Vec<ExceptionEntry>,
    /// True if older failures were dropped.
    pub exceptions_truncated: bool,
    /// The number of restarts.
    pub restarts: u32,
    /// The missing thing that the job waits for, in words, if it waits.
    pub waiting_for: Option<String>,
    /// Its checkpoints, if it takes any.
    pub checkpoints: Option<Arc<Overview>>,
    /// The checkpoints that users asked for, oldest first; ended ones go when there are many.
    pub requests: Vec<Arc<RequestDetails>>,
}

/// A job as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOverview {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub status: JobStatus,
    /// The time of its submission.
    pub start_time: Timestamp,
    /// The time of its end.
    pub end_time: Option<Timestamp>,
    /// The time at which its state last changed.
    pub last_modification: Timestamp,
    /// The number of subtasks in each state.
    pub tasks: BTreeMap<ExecutionState, u32>,
    /// True for a batch job.
    pub batch: bool,
}

impl ExceptionEntry {
    /// Says in one sentence the cause, the task and the TaskManager.
    #[must_use]
    pub fn sentence(&self) -> String {
        let why = self.cause.message.lines().next().unwrap_or_default();
        let place = self.location.as_ref().map(|place| place.task_manager.to_string());
        let place = place.filter(|worker| !why.contains(worker.as_str()));
        let place = match (self.task.as_deref(), place) {
            (None, None) => String::new(),
            (Some(task), None) => format!(" ({})", task_words(task)),
            (None, Some(worker)) => format!(" (on TaskManager {worker})"),
            (Some(task), Some(worker)) => {
                format!(" ({} on TaskManager {worker})", task_words(task))
            }
        };
        format!("{}{}", Escaped::line(why), Escaped::line(&place))
    }
}

fn task_words(task: &str) -> String {
    match task.starts_with("one of ") {
        true => task.to_owned(),
        false => format!("task {task}"),
    }
}

impl JobDetails {
    /// Says in one sentence that the job ended, in which state, and the cause.
    #[must_use]
    pub fn end_sentence(&self) -> String {
        let job = format!("job {} ({})", self.job, Escaped::line(&self.graph.name));
        match self.status {
            JobStatus::Finished => format!("{job} finished"),
            JobStatus::Canceled => format!("{job} was cancelled"),
            _ => {
                let newest = self.exceptions.first().map(ExceptionEntry::sentence);
                let why = newest.unwrap_or_else(|| "no cause is known".to_owned());
                format!("{job} failed: {why}")
            }
        }
    }

    /// Returns the short form for lists.
    #[must_use]
    pub fn overview(&self) -> JobOverview {
        let mut tasks = BTreeMap::new();
        for subtask in self.vertices.iter().flat_map(|vertex| &vertex.subtasks) {
            *tasks.entry(subtask.state).or_insert(0) += 1;
        }
        let newest = self.status_times.values().max().copied();
        JobOverview {
            job: self.job,
            name: self.graph.name.clone(),
            status: self.status,
            start_time: self.start_time,
            end_time: self.end_time,
            last_modification: newest.unwrap_or(self.start_time),
            tasks,
            batch: self.graph.runtime_mode == millstream_graph::RuntimeMode::Batch,
        }
    }
}
