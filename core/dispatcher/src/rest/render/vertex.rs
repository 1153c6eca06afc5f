//! Vertices and subtasks.

use std::collections::BTreeMap;

use millstream_gateway::{JobDetails, SubtaskDetails, Subtasks, VertexDetails};
use millstream_graph::JobVertex;
use millstream_rest_types::metrics::Metric;
use millstream_rest_types::vertices::{
    AggregatedTaskDetailsInfo, Distribution, JobDetailsVertexInfo, JobVertexBackPressureInfo,
    JobVertexDetailsInfo, JobVertexTaskManagerInfo, JobVertexTaskManagersInfo, Place, Span,
    SubtaskAccumulatorsInfo, SubtaskBackPressureInfo, SubtaskExecutionAttemptDetailsInfo,
    SubtaskTimeInfo, SubtasksAllAccumulatorsInfo, SubtasksTimesInfo, VertexBackPressureLevel,
    VertexBackPressureStatus,
};
use millstream_types::{ExecutionState, JobId, Timestamp, VertexId, counters};
use sha2::{Digest as _, Sha256};

use super::{
    IoMetrics, Neighbours, accumulators, count_states, distribution, duration, or_unset, place,
};

/// The states whose durations are shown.
const TIMED: [ExecutionState; 5] = [
    ExecutionState::Created,
    ExecutionState::Scheduled,
    ExecutionState::Deploying,
    ExecutionState::Initializing,
    ExecutionState::Running,
];

/// The begin and the end of subtasks, as one.
fn span<'a>(subtasks: impl Iterator<Item = &'a SubtaskDetails> + Clone, now: Timestamp) -> Span {
    let start =
        |subtask: &SubtaskDetails| subtask.state_times.get(&ExecutionState::Deploying).copied();
    let end = |subtask: &SubtaskDetails| {
        subtask.state_times.get(&subtask.state).filter(|_| subtask.state.is_terminal()).copied()
    };
    let all_ended = subtasks.clone().all(|subtask| subtask.state.is_terminal());
    let last = subtasks.clone().filter_map(end).max().filter(|_| all_ended);
    let first = subtasks.filter_map(start).min();
    Span {
        start_time: or_unset(first),
        end_time: or_unset(last),
        duration: first.map_or(-1, |first| duration(first, last, now)),
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

    pub(in crate::rest) fn subtasks(&self) -> &'a Subtasks {
        &self.details.subtasks
    }

    fn io(&self, subtasks: impl IntoIterator<Item = &'a SubtaskDetails>) -> IoMetrics {
        IoMetrics::of(subtasks, &self.neighbours)
    }

    /// An entry of `vertices` in `/jobs/:jobid`.
    pub(super) fn row(&self, now: Timestamp) -> JobDetailsVertexInfo {
        let group = &self.planned.slot_sharing_group;
        JobDetailsVertexInfo {
            id: self.details.id,
            slot_sharing_group_id: sharing_group_id(self.job.job, group),
            name: self.planned.name.clone(),
            max_parallelism: self.planned.max_parallelism.get(),
            parallelism: self.planned.parallelism,
            status: aggregate_state(self.subtasks().iter()),
            span: span(self.subtasks().iter(), now),
            tasks: count_states(self.subtasks().iter()),
            metrics: self.io(self.subtasks()).info(),
        }
    }

    /// `/jobs/:jobid/vertices/:vertexid`.
    pub(in crate::rest) fn details(&self, now: Timestamp) -> JobVertexDetailsInfo {
        JobVertexDetailsInfo {
            id: self.details.id,
            name: self.planned.name.clone(),
            parallelism: self.planned.parallelism,
            max_parallelism: self.planned.max_parallelism.get(),
            now: now.as_millis(),
            subtasks: self.subtasks().iter().map(|one| self.subtask(one, now)).collect(),
            aggregated: aggregated(self.subtasks().iter(), now),
        }
    }

    /// One subtask.
    pub(in crate::rest) fn subtask(
        &self,
        subtask: &'a SubtaskDetails,
        now: Timestamp,
    ) -> SubtaskExecutionAttemptDetailsInfo {
        let span = span([subtask].into_iter(), now);
        SubtaskExecutionAttemptDetailsInfo {
            subtask: subtask.subtask,
            status: subtask.state,
            attempt: subtask.attempt,
            span,
            start_time: span.start_time,
            place: place(subtask.location.as_ref()),
            metrics: self.io([subtask]).info(),
            status_duration: state_durations(subtask, now),
            other_concurrent_attempts: [],
        }
    }

    /// `/jobs/:jobid/vertices/:vertexid/subtasktimes`.
    pub(in crate::rest) fn subtask_times(&self, now: Timestamp) -> SubtasksTimesInfo {
        let row = |subtask: &SubtaskDetails| {
            let entered = |state: &ExecutionState| {
                (*state, subtask.state_times.get(state).map_or(0, |time| time.as_millis()))
            };
            SubtaskTimeInfo {
                subtask: subtask.subtask,
                place: place(subtask.location.as_ref()),
                duration: span([subtask].into_iter(), now).duration,
                timestamps: ExecutionState::ALL.iter().map(entered).collect(),
            }
        };
        SubtasksTimesInfo {
            id: self.details.id,
            name: self.planned.name.clone(),
            now: now.as_millis(),
            subtasks: self.subtasks().iter().map(row).collect(),
        }
    }

    /// `/jobs/:jobid/vertices/:vertexid/taskmanagers`.
    pub(in crate::rest) fn task_managers(&self, now: Timestamp) -> JobVertexTaskManagersInfo {
        let mut by_worker: BTreeMap<_, Vec<&SubtaskDetails>> = BTreeMap::new();
        for subtask in self.subtasks() {
            let worker = subtask.location.as_ref().map(|location| &location.task_manager);
            by_worker.entry(worker).or_default().push(subtask);
        }
        let row = |subtasks: &Vec<&'a SubtaskDetails>| {
            let all = subtasks.iter().copied();
            let place = place(all.clone().find_map(|one| one.location.as_ref()));
            JobVertexTaskManagerInfo {
                // Here the host of Flink 1.20 has its port, and nowhere else.
                place: Place { host: place.endpoint.clone(), ..place },
                status: aggregate_state(all.clone()),
                span: span(all.clone(), now),
                metrics: self.io(all.clone()).info(),
                status_counts: count_states(all.clone()),
                aggregated: aggregated(all, now),
            }
        };
        JobVertexTaskManagersInfo {
            id: self.details.id,
            name: self.planned.name.clone(),
            now: now.as_millis(),
            taskmanagers: by_worker.values().map(row).collect(),
        }
    }

    /// `/jobs/:jobid/vertices/:vertexid/subtasks/accumulators`.
    pub(in crate::rest) fn subtask_accumulators(&self) -> SubtasksAllAccumulatorsInfo {
        let row = |subtask: &SubtaskDetails| SubtaskAccumulatorsInfo {
            subtask: subtask.subtask,
            attempt: subtask.attempt,
            place: place(subtask.location.as_ref()),
            user_accumulators: accumulators([subtask]),
        };
        SubtasksAllAccumulatorsInfo {
            id: self.details.id,
            parallelism: self.planned.parallelism,
            subtasks: self.subtasks().iter().map(row).collect(),
        }
    }

    /// `/jobs/:jobid/vertices/:vertexid/watermarks`: of the subtasks that have one.
    pub(in crate::rest) fn watermarks(&self) -> Vec<Metric> {
        let of = |subtask: &SubtaskDetails| {
            Some(Metric {
                id: format!("{}.{WATERMARK}", subtask.subtask),
                value: Some(subtask.metrics.watermark?.as_millis().to_string()),
            })
        };
        self.subtasks().iter().filter_map(of).collect()
    }

    /// The metrics of one subtask, by Flink's names. A number that cannot be known is left out.
    #[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
    pub(in crate::rest) fn metrics(
        &self,
        subtask: &SubtaskDetails,
        now: Timestamp,
    ) -> Vec<(String, f64)> {
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
        let watermarks = [(WATERMARK, metrics.watermark)].into_iter();
        let watermarks =
            watermarks.chain(INPUT_WATERMARKS.into_iter().zip(metrics.input_watermarks));
        let watermarks = watermarks.filter_map(|(name, it)| Some((name, it?.as_millis() as f64)));
        // Behind the last watermark there is no lag.
        let open = metrics.watermark.filter(|watermark| *watermark < Timestamp::MAX);
        let lag =
            open.map(|it| (WATERMARK_LAG, now.as_millis().saturating_sub(it.as_millis()) as f64));
        let named = named.chain(watermarks).chain(lag);
        let user = metrics.users().flat_map(|(name, value)| value.shown(&format!("user.{name}")));
        named.map(|(name, value)| (name.to_owned(), value)).chain(user).collect()
    }
}

/// The metric of a subtask's watermark.
const WATERMARK: &str = "currentInputWatermark";

/// Those of its inputs, if it has two.
const INPUT_WATERMARKS: [&str; 2] = ["currentInput1Watermark", "currentInput2Watermark"];

/// The time by which a subtask's watermark is behind the clock, in milliseconds.
const WATERMARK_LAG: &str = "watermarkLag";

/// Flink's groups have ids, ours names.
fn sharing_group_id(job: JobId, group: &str) -> String {
    let digest: [u8; 32] =
        Sha256::new().chain_update(job.as_bytes()).chain_update(group).finalize().into();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn state_durations(subtask: &SubtaskDetails, now: Timestamp) -> BTreeMap<ExecutionState, i64> {
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
    TIMED.iter().map(|state| (*state, spent(state))).collect()
}

fn aggregated<'a>(
    subtasks: impl Iterator<Item = &'a SubtaskDetails> + Clone,
    now: Timestamp,
) -> AggregatedTaskDetailsInfo {
    let durations: Vec<_> = subtasks.clone().map(|one| state_durations(one, now)).collect();
    let over_subtasks = |state: &ExecutionState| -> (ExecutionState, Distribution) {
        let values = durations.iter().filter_map(|one| one.get(state));
        let values = values.filter_map(|spent| u64::try_from(*spent).ok());
        (*state, distribution(values.collect()))
    };
    AggregatedTaskDetailsInfo {
        metrics: IoMetrics::aggregated(subtasks),
        status_duration: TIMED.iter().map(over_subtasks).collect(),
    }
}

/// `/jobs/:jobid/vertices/:vertexid/backpressure`. Subtasks that have not reported how they spend
/// their time are not listed; while none has, the answer has Flink's word for that.
pub(in crate::rest) fn backpressure(
    subtasks: &Subtasks,
    now: Timestamp,
) -> JobVertexBackPressureInfo {
    let row = |subtask: &SubtaskDetails| {
        let rates = subtask.rates?;
        let [ratio, idle_ratio, busy_ratio] =
            thousandths([rates.backpressured, rates.idle, rates.busy]);
        Some(SubtaskBackPressureInfo {
            subtask: subtask.subtask,
            attempt_number: Some(subtask.attempt).filter(|attempt| *attempt > 0),
            level: level(ratio).into(),
            ratio,
            idle_ratio,
            busy_ratio,
        })
    };
    let subtasks: Vec<_> = subtasks.iter().filter_map(row).collect();
    if subtasks.is_empty() {
        let status = VertexBackPressureStatus::Deprecated;
        return JobVertexBackPressureInfo { status, level: None, end_timestamp: None, subtasks };
    }
    let worst = subtasks.iter().fold(0.0, |worst: f64, subtask| worst.max(subtask.ratio));
    JobVertexBackPressureInfo {
        status: VertexBackPressureStatus::Ok,
        level: Some(level(worst).into()),
        end_timestamp: Some(now.as_millis()),
        subtasks,
    }
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

/// Grades a ratio by Flink's limits.
fn level(ratio: f64) -> VertexBackPressureLevel {
    match ratio {
        r if r <= 0.1 => VertexBackPressureLevel::Ok,
        r if r <= 0.5 => VertexBackPressureLevel::Low,
        _ => VertexBackPressureLevel::High,
    }
}
