//! The content of answers: pure functions from reports of components to Flink's bodies.
//!
//! Fields are those of Flink 1.20 and 2.x together, so that the clients of both find theirs. The
//! one place where a client refuses the other's field is `execution-mode` of a job's configuration;
//! an option chooses between them.

pub(super) mod checkpoint;
pub(super) mod job;
pub(super) mod operation;
pub(super) mod vertex;
pub(super) mod worker;

use std::collections::{BTreeMap, BTreeSet};

use millstream_gateway::{JobDetails, SubtaskDetails, TaskLocation};
use millstream_rest_types::vertices::{
    AccumulatorType, Distribution, IoMetricsInfo, Place, StateCounts, UserAccumulator,
};
use millstream_types::metrics::MetricValue;
use millstream_types::{ExecutionState, HostId, Timestamp, VertexId};

/// Our version, where Flink's stands.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Milliseconds from `start` to `end`, or to now.
pub(super) fn duration(start: Timestamp, end: Option<Timestamp>, now: Timestamp) -> i64 {
    end.unwrap_or(now).as_millis().saturating_sub(start.as_millis()).max(0)
}

/// A time, or -1.
pub(super) fn or_unset(time: Option<Timestamp>) -> i64 {
    time.map_or(-1, Timestamp::as_millis)
}

/// Counts the subtasks in each state, zeros included.
pub(super) fn count_states<'a>(subtasks: impl Iterator<Item = &'a SubtaskDetails>) -> StateCounts {
    let mut counts: StateCounts = ExecutionState::ALL.iter().map(|state| (*state, 0)).collect();
    for subtask in subtasks {
        *counts.entry(subtask.state).or_insert(0) += 1;
    }
    counts
}

/// Bytes and records that subtasks exchanged, and the use of their time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IoMetrics {
    pub(super) read_bytes: u64,
    pub(super) write_bytes: u64,
    pub(super) read_records: u64,
    pub(super) write_records: u64,
    pub(super) backpressured_ms: u64,
    pub(super) idle_ms: u64,
    pub(super) busy_ms: u64,
    /// True if some of the records read, and of those written, stayed in one process: they are not
    /// encoded, so they have no bytes to count.
    pub(super) uncounted: (bool, bool),
}

/// The processes that a vertex exchanges records with.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    producers: BTreeSet<HostId>,
    consumers: BTreeSet<HostId>,
}

impl Neighbours {
    pub(super) fn of(job: &JobDetails, vertex: VertexId) -> Self {
        let hosts = |ids: Vec<VertexId>| {
            let vertices = job.vertices.iter().filter(|vertex| ids.contains(&vertex.id));
            let subtasks = vertices.flat_map(|vertex| &vertex.subtasks);
            subtasks.filter_map(|subtask| Some(subtask.location.as_ref()?.host)).collect()
        };
        Self {
            producers: hosts(job.graph.inputs(vertex).map(|edge| edge.source).collect()),
            consumers: hosts(job.graph.outputs(vertex).map(|edge| edge.target).collect()),
        }
    }
}

impl IoMetrics {
    pub(super) fn of<'a>(
        subtasks: impl IntoIterator<Item = &'a SubtaskDetails>,
        neighbours: &Neighbours,
    ) -> Self {
        let mut sum = Self::default();
        for subtask in subtasks {
            let metrics = &subtask.metrics;
            if let Some(TaskLocation { host, .. }) = &subtask.location {
                sum.uncounted.0 |= metrics.records_in > 0 && neighbours.producers.contains(host);
                sum.uncounted.1 |= metrics.records_out > 0 && neighbours.consumers.contains(host);
            }
            sum.read_bytes = sum.read_bytes.saturating_add(metrics.bytes_in);
            sum.write_bytes = sum.write_bytes.saturating_add(metrics.bytes_out);
            sum.read_records = sum.read_records.saturating_add(metrics.records_in);
            sum.write_records = sum.write_records.saturating_add(metrics.records_out);
            sum.backpressured_ms += metrics.backpressured_ns / 1_000_000;
            sum.idle_ms += metrics.idle_ns / 1_000_000;
            sum.busy_ms += metrics.busy_ns / 1_000_000;
        }
        sum
    }

    fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("read-bytes", self.read_bytes),
            ("write-bytes", self.write_bytes),
            ("read-records", self.read_records),
            ("write-records", self.write_records),
            ("accumulated-backpressured-time", self.backpressured_ms),
            ("accumulated-idle-time", self.idle_ms),
            ("accumulated-busy-time", self.busy_ms),
        ]
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
    pub(super) fn info(&self) -> IoMetricsInfo {
        IoMetricsInfo {
            read_bytes: self.read_bytes,
            read_bytes_complete: !self.uncounted.0,
            write_bytes: self.write_bytes,
            write_bytes_complete: !self.uncounted.1,
            read_records: self.read_records,
            read_records_complete: true,
            write_records: self.write_records,
            write_records_complete: true,
            accumulated_backpressured_time: self.backpressured_ms,
            accumulated_idle_time: self.idle_ms,
            accumulated_busy_time: self.busy_ms as f64,
        }
    }

    /// Distribution of each of them over these subtasks.
    pub(super) fn aggregated<'a>(
        subtasks: impl IntoIterator<Item = &'a SubtaskDetails>,
    ) -> BTreeMap<String, Distribution> {
        let one = |subtask| Self::of([subtask], &Neighbours::default());
        let each: Vec<Self> = subtasks.into_iter().map(one).collect();
        let names = Self::default().named().map(|(name, _)| name);
        let values = |at: usize| {
            each.iter().filter_map(|one| one.named().get(at).map(|(_, value)| *value)).collect()
        };
        (0..).zip(names).map(|(at, name)| (name.to_owned(), distribution(values(at)))).collect()
    }
}

/// Smallest, largest, mean, sum and quantiles, all whole numbers.
pub(super) fn distribution(mut values: Vec<u64>) -> Distribution {
    values.sort_unstable();
    let sum = values.iter().fold(0_u64, |sum, value| sum.saturating_add(*value));
    let quantile = |percent: usize| {
        // Between the two neighbours, weighted, as Flink does it.
        let position = percent * (values.len() + 1);
        let (at, rest) = (position / 100, (position % 100) as u64);
        let clamped = |at: usize| {
            let at = at.clamp(1, values.len().max(1)) - 1;
            values.get(at).copied().unwrap_or(0)
        };
        let (low, high) = (clamped(at), clamped(at + 1));
        low.saturating_add((high - low).saturating_mul(rest) / 100)
    };
    Distribution {
        min: values.first().copied().unwrap_or(0),
        max: values.last().copied().unwrap_or(0),
        avg: sum / (values.len() as u64).max(1),
        sum,
        median: quantile(50),
        p25: quantile(25),
        p75: quantile(75),
        p95: quantile(95),
    }
}

/// Counters that user code made, summed by name.
pub(super) fn accumulators<'a>(
    subtasks: impl IntoIterator<Item = &'a SubtaskDetails>,
) -> Vec<UserAccumulator> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, value) in subtasks.into_iter().flat_map(|it| it.metrics.users()) {
        if let MetricValue::Counter(count) = value {
            let sum = sums.entry(name).or_insert(0);
            *sum = sum.saturating_add(*count);
        }
    }
    let row = |(name, sum): (&str, i64)| UserAccumulator {
        name: name.to_owned(),
        kind: AccumulatorType::LongCounter,
        value: sum.to_string(),
    };
    sums.into_iter().map(row).collect()
}

/// Describes the place of a task in the fields of both versions of Flink.
pub(super) fn place(location: Option<&TaskLocation>) -> Place {
    const NOWHERE: &str = "(unassigned)";
    let or_nowhere = |text: Option<String>| text.unwrap_or_else(|| NOWHERE.to_owned());
    Place {
        host: or_nowhere(location.map(|location| location.address.clone())),
        endpoint: or_nowhere(location.map(TaskLocation::endpoint)),
        taskmanager_id: or_nowhere(location.map(|location| location.task_manager.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_those_of_flink() {
        let golden = Distribution {
            p25: 71_247,
            min: 71_247,
            avg: 71_429,
            median: 71_429,
            max: 71_612,
            sum: 142_859,
            p95: 71_612,
            p75: 71_612,
        };
        assert_eq!(distribution(vec![71_612, 71_247]), golden);
        assert_eq!(distribution(vec![]), Distribution::default());
        assert_eq!(distribution(vec![u64::MAX, u64::MAX]).median, u64::MAX);
    }
}
