//! Vertices and subtasks.

use std::collections::BTreeMap;

use millstream_gateway::{SubtaskDetails, TaskLocation, VertexDetails};
use millstream_graph::JobVertex;
use millstream_types::{ExecutionState, JobId, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{IoMetrics, count_states, distribution, duration, location, merge, or_unset};

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

/// An entry of `vertices` in `/jobs/:jobid`.
pub(super) fn row(
    job: JobId,
    vertex: &VertexDetails,
    planned: &JobVertex,
    now: Timestamp,
) -> Value {
    let mut row = json!({
        "id": vertex.id,
        "slotSharingGroupId": sharing_group_id(job, &planned.slot_sharing_group),
        "name": planned.name,
        "maxParallelism": planned.max_parallelism.get(),
        "parallelism": planned.parallelism,
        "status": aggregate_state(vertex.subtasks.iter()),
        "tasks": count_states(vertex.subtasks.iter()),
        "metrics": IoMetrics::of(&vertex.subtasks).json(),
    });
    Span::of(vertex.subtasks.iter()).add_to(&mut row, now);
    row
}

/// Flink's groups have ids, ours names.
fn sharing_group_id(job: JobId, group: &str) -> String {
    let digest: [u8; 32] =
        Sha256::new().chain_update(job.as_bytes()).chain_update(group).finalize().into();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// `/jobs/:jobid/vertices/:vertexid`.
pub(in crate::rest) fn details(
    vertex: &VertexDetails,
    planned: &JobVertex,
    now: Timestamp,
) -> Value {
    let subtasks: Vec<Value> = vertex.subtasks.iter().map(|one| subtask(one, now)).collect();
    json!({
        "id": vertex.id,
        "name": planned.name,
        "parallelism": planned.parallelism,
        "maxParallelism": planned.max_parallelism.get(),
        "now": now.as_millis(),
        "subtasks": subtasks,
        "aggregated": aggregated(vertex.subtasks.iter(), now),
    })
}

/// One subtask.
pub(in crate::rest) fn subtask(subtask: &SubtaskDetails, now: Timestamp) -> Value {
    let span = Span::of([subtask].into_iter());
    let mut value = json!({
        "subtask": subtask.subtask,
        "status": subtask.state,
        "attempt": subtask.attempt,
        "metrics": IoMetrics::of([subtask]).json(),
        "status-duration": state_durations(subtask, now),
        "start_time": or_unset(span.start),
        "other-concurrent-attempts": [],
    });
    span.add_to(&mut value, now);
    merge(&mut value, location(subtask.location.as_ref()));
    value
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

/// `/jobs/:jobid/vertices/:vertexid/backpressure`.
pub(in crate::rest) fn backpressure(vertex: &VertexDetails, now: Timestamp) -> Value {
    let share = |ms_per_second: f64| (ms_per_second.clamp(0.0, 1000.0)).round() / 1000.0;
    let mut worst: f64 = 0.0;
    let mut subtasks = Vec::new();
    for subtask in &vertex.subtasks {
        let ratio = share(subtask.backpressured_ms_per_second);
        worst = worst.max(ratio);
        let mut row = json!({
            "subtask": subtask.subtask,
            "backpressureLevel": level(ratio),
            "backpressure-level": level(ratio),
            "ratio": ratio,
            "idleRatio": share(subtask.idle_ms_per_second),
            "busyRatio": share(subtask.busy_ms_per_second),
        });
        if subtask.attempt > 0 {
            let attempt = ("attempt-number".to_owned(), json!(subtask.attempt));
            merge(&mut row, Map::from_iter([attempt]));
        }
        subtasks.push(row);
    }
    json!({
        "status": "ok",
        "backpressureLevel": level(worst),
        "backpressure-level": level(worst),
        "end-timestamp": now.as_millis(),
        "subtasks": subtasks,
    })
}

/// Flink's limits.
fn level(ratio: f64) -> &'static str {
    match ratio {
        r if r <= 0.1 => "ok",
        r if r <= 0.5 => "low",
        _ => "high",
    }
}

/// `/jobs/:jobid/vertices/:vertexid/subtasktimes`.
pub(in crate::rest) fn subtask_times(
    vertex: &VertexDetails,
    planned: &JobVertex,
    now: Timestamp,
) -> Value {
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
        "id": vertex.id,
        "name": planned.name,
        "now": now.as_millis(),
        "subtasks": vertex.subtasks.iter().map(row).collect::<Vec<_>>(),
    })
}

/// `/jobs/:jobid/vertices/:vertexid/taskmanagers`.
pub(in crate::rest) fn task_managers(
    vertex: &VertexDetails,
    planned: &JobVertex,
    now: Timestamp,
) -> Value {
    let mut by_worker: BTreeMap<_, Vec<&SubtaskDetails>> = BTreeMap::new();
    for subtask in &vertex.subtasks {
        let worker = subtask.location.as_ref().map(|location| &location.task_manager);
        by_worker.entry(worker).or_default().push(subtask);
    }
    let row = |subtasks: &Vec<&SubtaskDetails>| {
        let all = subtasks.iter().copied();
        let place: Option<&TaskLocation> = all.clone().find_map(|one| one.location.as_ref());
        let mut row = json!({
            "status": aggregate_state(all.clone()),
            "metrics": IoMetrics::of(all.clone()).json(),
            "status-counts": count_states(all.clone()),
            "aggregated": aggregated(all.clone(), now),
        });
        Span::of(all).add_to(&mut row, now);
        merge(&mut row, location(place));
        row
    };
    json!({
        "id": vertex.id,
        "name": planned.name,
        "now": now.as_millis(),
        "taskmanagers": by_worker.values().map(row).collect::<Vec<_>>(),
    })
}

/// The metrics of one subtask, by Flink's names.
#[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
pub(in crate::rest) fn metrics(subtask: &SubtaskDetails) -> Vec<(String, f64)> {
    let metrics = &subtask.metrics;
    let counts = [
        ("numRecordsIn", metrics.records_in),
        ("numRecordsOut", metrics.records_out),
        ("numBytesIn", metrics.bytes_in),
        ("numBytesOut", metrics.bytes_out),
        ("numBuffersOut", metrics.buffers_out),
        ("numRecordsDropped", metrics.records_dropped),
        ("accumulateBusyTimeMs", metrics.busy_ns / 1_000_000),
        ("accumulateIdleTimeMs", metrics.idle_ns / 1_000_000),
        ("accumulateBackPressuredTimeMs", metrics.backpressured_ns / 1_000_000),
        ("buffers.inputQueueLength", metrics.buffers_in),
    ];
    let rates = [
        ("busyTimeMsPerSecond", subtask.busy_ms_per_second),
        ("idleTimeMsPerSecond", subtask.idle_ms_per_second),
        ("backPressuredTimeMsPerSecond", subtask.backpressured_ms_per_second),
    ];
    let named = counts.map(|(name, count)| (name, count as f64)).into_iter().chain(rates);
    let user = metrics.user.iter().map(|(name, count)| (format!("user.{name}"), *count as f64));
    named.map(|(name, value)| (name.to_owned(), value)).chain(user).collect()
}
