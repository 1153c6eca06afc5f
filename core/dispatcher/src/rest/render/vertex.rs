//! Vertices and subtasks.

use std::collections::BTreeMap;

use millstream_gateway::{JobDetails, SubtaskDetails, TaskLocation, VertexDetails};
use millstream_graph::JobVertex;
use millstream_types::{ExecutionState, JobId, Timestamp, VertexId, counters};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    IoMetrics, Neighbours, accumulators, count_states, distribution, duration, endpoint, location,
    merge, or_unset,
};

/// The states whose durations are shown.
const TIMED: [ExecutionState; 5] = [
    ExecutionState::Created,
    ExecutionState::Scheduled,
    ExecutionState::Deploying,
    ExecutionState::Initializing,
    ExecutionState::Running,
];

/// When subtasks began and ended, as one.
struct Span {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Span {
    fn of<'a>(subtasks: impl Iterator<Item = &'a SubtaskDetails> + Clone) -> Self {
        let start =
            |subtask: &SubtaskDetails| subtask.state_times.get(&ExecutionState::Deploying).copied();
        let end = |subtask: &SubtaskDetails| {
            subtask.state_times.get(&subtask.state).filter(|_| subtask.state.is_terminal()).copied()
        };
        let all_ended = subtasks.clone().all(|subtask| subtask.state.is_terminal());
        let last = subtasks.clone().filter_map(end).max().filter(|_| all_ended);
        Self { start: subtasks.filter_map(start).min(), end: last }
    }

    fn add_to(&self, value: &mut Value, now: Timestamp) {
        let lasted = self.start.map_or(-1, |start| duration(start, self.end, now));
        let fields = [
            ("start-time", or_unset(self.start)),
            ("end-time", or_unset(self.end)),
            ("duration", lasted),
        ];
        merge(
            value,
            fields.map(|(name, time)| (name.to_owned(), json!(time))).into_iter().collect(),
        );
    }
}

/// The state of a vertex, from those of its subtasks.
fn aggregate_state<'a>(subtasks: impl Iterator<Item = &'a SubtaskDetails>) -> ExecutionState {
    use ExecutionState as S;
    let states: Vec<S> = subtasks.map(|subtask| subtask.state).collect();
    let worst = [S::Failed, S::Canceling, S::Canceled, S::Initializing, S::Running];
    match worst.into_iter().find(|state| states.contains(state)) {
        Some(state) => state,
        None if !states.is_empty() && states.iter().all(|s| *s == S::Finished) => S::Finished,
        None if states.contains(&S::Finished) => S::Running,
        None => [S::Deploying, S::Scheduled]
            .into_iter()
            .find(|s| states.contains(s))
            .unwrap_or(S::Created),
    }
}

/// A vertex of a job with its place in the plan.
pub(in crate::rest) struct Vertex<'a> {
    job: &'a JobDetails,
    details: &'a VertexDetails,
    planned: &'a JobVertex,
    neighbours: Neighbours,
}

impl<'a> Vertex<'a> {
    pub(in crate::rest) fn of(job: &'a JobDetails, id: VertexId) -> Option<Self> {
        let details = job.vertices.iter().find(|vertex| vertex.id == id)?;
        let planned = job.graph.vertex(id)?;
        Some(Self { job, details, planned, neighbours: Neighbours::of(job, id) })
    }

    pub(in crate::rest) fn subtasks(&self) -> &'a [SubtaskDetails] {
        &self.details.subtasks
    }

    fn io(&self, subtasks: impl IntoIterator<Item = &'a SubtaskDetails>) -> IoMetrics {
        IoMetrics::of(subtasks, &self.neighbours)
    }

    /// An entry of `vertices` in `/jobs/:jobid`.
    pub(super) fn row(&self, now: Timestamp) -> Value {
        let mut row = json!({
            "id": self.details.id,
            "slotSharingGroupId": sharing_group_id(self.job.job, &self.planned.slot_sharing_group),
            "name": self.planned.name,
            "maxParallelism": self.planned.max_parallelism.get(),
            "parallelism": self.planned.parallelism,
            "status": aggregate_state(self.subtasks().iter()),
            "tasks": count_states(self.subtasks().iter()),
            "metrics": self.io(self.subtasks()).json(),
        });
        Span::of(self.subtasks().iter()).add_to(&mut row, now);
        row
    }

    /// `/jobs/:jobid/vertices/:vertexid`.
    pub(in crate::rest) fn details(&self, now: Timestamp) -> Value {
        let subtasks: Vec<Value> =
            self.subtasks().iter().map(|one| self.subtask(one, now)).collect();
        json!({
            "id": self.details.id,
            "name": self.planned.name,
            "parallelism": self.planned.parallelism,
            "maxParallelism": self.planned.max_parallelism.get(),
            "now": now.as_millis(),
            "subtasks": subtasks,
            "aggregated": aggregated(self.subtasks().iter(), now),
        })
    }

    /// One subtask.
    pub(in crate::rest) fn subtask(&self, subtask: &'a SubtaskDetails, now: Timestamp) -> Value {
        let span = Span::of([subtask].into_iter());
        let mut value = json!({
            "subtask": subtask.subtask,
            "status": subtask.state,
            "attempt": subtask.attempt,
            "metrics": self.io([subtask]).json(),
            "status-duration": state_durations(subtask, now),
            "start_time": or_unset(span.start),
            "other-concurrent-attempts": [],
        });
        span.add_to(&mut value, now);
        merge(&mut value, location(subtask.location.as_ref()));
        value
    }

    /// `/jobs/:jobid/vertices/:vertexid/subtasktimes`.
    pub(in crate::rest) fn subtask_times(&self, now: Timestamp) -> Value {
        let row = |subtask: &SubtaskDetails| {
            let times: BTreeMap<&str, i64> = ExecutionState::ALL
                .iter()
                .map(|state| {
                    let time = subtask.state_times.get(state).map_or(0, |time| time.as_millis());
                    (state.as_str(), time)
                })
                .collect();
            let span = Span::of([subtask].into_iter());
            let mut row = json!({
                "subtask": subtask.subtask,
                "duration": span.start.map_or(-1, |start| duration(start, span.end, now)),
                "timestamps": times,
            });
            merge(&mut row, location(subtask.location.as_ref()));
            row
        };
        json!({
            "id": self.details.id,
            "name": self.planned.name,
            "now": now.as_millis(),
            "subtasks": self.subtasks().iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// `/jobs/:jobid/vertices/:vertexid/taskmanagers`.
    pub(in crate::rest) fn task_managers(&self, now: Timestamp) -> Value {
        let mut by_worker: BTreeMap<_, Vec<&SubtaskDetails>> = BTreeMap::new();
        for subtask in self.subtasks() {
            let worker = subtask.location.as_ref().map(|location| &location.task_manager);
            by_worker.entry(worker).or_default().push(subtask);
        }
        let row = |subtasks: &Vec<&'a SubtaskDetails>| {
            let all = subtasks.iter().copied();
            let place: Option<&TaskLocation> = all.clone().find_map(|one| one.location.as_ref());
            let mut row = json!({
                "status": aggregate_state(all.clone()),
                "metrics": self.io(all.clone()).json(),
                "status-counts": count_states(all.clone()),
                "aggregated": aggregated(all.clone(), now),
            });
            Span::of(all).add_to(&mut row, now);
            merge(&mut row, location(place));
            // Here the host of Flink 1.20 has its port, and nowhere else.
            merge(&mut row, Map::from_iter([("host".to_owned(), json!(endpoint(place)))]));
            row
        };
        json!({
            "id": self.details.id,
            "name": self.planned.name,
            "now": now.as_millis(),
            "taskmanagers": by_worker.values().map(row).collect::<Vec<_>>(),
        })
    }

    /// `/jobs/:jobid/vertices/:vertexid/subtasks/accumulators`.
    pub(in crate::rest) fn subtask_accumulators(&self) -> Value {
        let row = |subtask: &SubtaskDetails| {
            let mut row = json!({
                "subtask": subtask.subtask,
                "attempt": subtask.attempt,
                "user-accumulators": accumulators([subtask]),
            });
            merge(&mut row, location(subtask.location.as_ref()));
            row
        };
        json!({
            "id": self.details.id,
            "parallelism": self.planned.parallelism,
            "subtasks": self.subtasks().iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// The metrics of one subtask, by Flink's names. A number that cannot be known is left out.
    #[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
    pub(in crate::rest) fn metrics(&self, subtask: &SubtaskDetails) -> Vec<(String, f64)> {
        let metrics = &subtask.metrics;
        let (reads_locally, writes_locally) = IoMetrics::of([subtask], &self.neighbours).uncounted;
        let mut counts = vec![
            ("numRecordsIn", metrics.records_in),
            ("numRecordsOut", metrics.records_out),
            ("numBytesInRemote", metrics.bytes_in),
            ("numBuffersOut", metrics.buffers_out),
            ("accumulateBusyTimeMs", metrics.busy_ns / 1_000_000),
            ("accumulateIdleTimeMs", metrics.idle_ns / 1_000_000),
            ("accumulateBackPressuredTimeMs", metrics.backpressured_ns / 1_000_000),
            ("buffers.inputQueueLength", metrics.buffers_in),
        ];
        counts.extend(counters::LEFT_OUT.map(|(name, _)| (name, metrics.left_out(name))));
        if !reads_locally {
            counts.push(("numBytesIn", metrics.bytes_in));
        }
        if !writes_locally {
            counts.push(("numBytesOut", metrics.bytes_out));
        }
        let rates = subtask.rates.iter().flat_map(|rates| {
            [
                ("busyTimeMsPerSecond", rates.busy),
                ("idleTimeMsPerSecond", rates.idle),
                ("backPressuredTimeMsPerSecond", rates.backpressured),
                ("numRecordsInPerSecond", rates.records_in),
                ("numRecordsOutPerSecond", rates.records_out),
            ]
        });
        let named = counts.into_iter().map(|(name, count)| (name, count as f64)).chain(rates);
        let user = metrics.users().map(|(name, count)| (format!("user.{name}"), count as f64));
        named.map(|(name, value)| (name.to_owned(), value)).chain(user).collect()
    }
}

/// Flink's groups have ids, ours names.
fn sharing_group_id(job: JobId, group: &str) -> String {
    let digest: [u8; 32] =
        Sha256::new().chain_update(job.as_bytes()).chain_update(group).finalize().into();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn state_durations(subtask: &SubtaskDetails, now: Timestamp) -> BTreeMap<&'static str, i64> {
    let spent = |state: &ExecutionState| {
        let Some(since) = subtask.state_times.get(state) else { return -1 };
        let next = subtask
            .state_times
            .iter()
            .filter(|(other, time)| (**time, **other) > (*since, *state))
            .map(|(_, time)| *time)
            .min();
        duration(*since, next, now)
    };
    TIMED.iter().map(|state| (state.as_str(), spent(state))).collect()
}

fn aggregated<'a>(
    subtasks: impl Iterator<Item = &'a SubtaskDetails> + Clone,
    now: Timestamp,
) -> Value {
    let durations: Vec<_> = subtasks.clone().map(|one| state_durations(one, now)).collect();
    let over_subtasks = |state: &ExecutionState| {
        let values = durations.iter().filter_map(|one| one.get(state.as_str()));
        distribution(values.filter_map(|spent| u64::try_from(*spent).ok()).collect())
    };
    let by_state: Map<String, Value> =
        TIMED.iter().map(|state| (state.as_str().to_owned(), over_subtasks(state))).collect();
    json!({ "metrics": IoMetrics::aggregated(subtasks), "status-duration": by_state })
}

/// `/jobs/:jobid/vertices/:vertexid/backpressure`. Subtasks that have not reported how they spend
/// their time are not listed; while none has, the answer has Flink's word for that.
pub(in crate::rest) fn backpressure(subtasks: &[SubtaskDetails], now: Timestamp) -> Value {
    let reported = subtasks.iter().filter_map(|subtask| Some((subtask, subtask.rates?)));
    let reported: Vec<_> = reported.collect();
    if reported.is_empty() {
        return json!({ "status": "deprecated", "subtasks": [] });
    }
    let mut worst: f64 = 0.0;
    let mut rows = Vec::new();
    for (subtask, rates) in reported {
        let [ratio, idle, busy] = thousandths([rates.backpressured, rates.idle, rates.busy]);
        worst = worst.max(ratio);
        let mut row = json!({
            "subtask": subtask.subtask,
            "backpressureLevel": level(ratio),
            "backpressure-level": level(ratio),
            "ratio": ratio,
            "idleRatio": idle,
            "busyRatio": busy,
        });
        if subtask.attempt > 0 {
            let attempt = ("attempt-number".to_owned(), json!(subtask.attempt));
            merge(&mut row, Map::from_iter([attempt]));
        }
        rows.push(row);
    }
    json!({
        "status": "ok",
        "backpressureLevel": level(worst),
        "backpressure-level": level(worst),
        "end-timestamp": now.as_millis(),
        "subtasks": rows,
    })
}

/// Three shares of a thousand as ratios of three digits. The largest takes what rounding left, so
/// that they add up to one.
fn thousandths(shares: [f64; 3]) -> [f64; 3] {
    let mut whole = shares.map(f64::round);
    let missing = 1000.0 - whole.iter().sum::<f64>();
    if let Some(largest) = whole.iter_mut().max_by(|a, b| a.total_cmp(b)) {
        *largest += missing;
    }
    whole.map(|share| share / 1000.0)
}

/// Flink's limits.
fn level(ratio: f64) -> &'static str {
    match ratio {
        r if r <= 0.1 => "ok",
        r if r <= 0.5 => "low",
        _ => "high",
    }
}
