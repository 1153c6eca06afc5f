//! Checkpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_checkpoint::metadata::Kind;
use millstream_checkpoint::stats::{
    self, CheckpointStats, Outcome, Overview, PendingStatus, Restored, SubtaskStats,
};
use millstream_graph::{JobGraph, JobVertex};
use millstream_rest_types::checkpoints::{
    CheckpointAlignment, CheckpointConfigInfo, CheckpointDuration, CheckpointOutcome,
    CheckpointStatistics, CheckpointStatus, CheckpointType, CheckpointingStatistics, Counts,
    ExternalizedCheckpointInfo, LatestCheckpoints, MillstreamCheckpointsInfo,
    PendingCheckpointInfo, ProcessingMode, RestoredCheckpointStatistics, SavepointFormat,
    StatsSummary, SubtaskAcknowledgement, SubtaskCheckpointOutcome, SubtaskCheckpointStatistics,
    SubtaskCheckpointStatus, Summary, TaskCheckpointStatistics,
    TaskCheckpointStatisticsWithSubtaskDetails, TaskSummary,
};
use millstream_types::{CheckpointId, Timestamp, VertexId};

use super::{duration, or_unset};

/// Flink's text for the directory of a checkpoint that has none.
const NOT_ADDRESSABLE: &str = "<checkpoint-not-externally-addressable>";

/// `/jobs/:jobid/checkpoints`.
pub(in crate::rest) fn overview(overview: &Overview) -> CheckpointingStatistics {
    let (report, status) = (&overview.report, &overview.status);
    let row = |stats: &CheckpointStats| statistics(overview, stats, BTreeMap::new());
    CheckpointingStatistics {
        counts: Counts {
            restored: report.counts.restored,
            total: report.counts.total,
            in_progress: report.counts.in_progress,
            completed: report.counts.completed,
            failed: report.counts.failed,
        },
        summary: Summary {
            checkpointed_size: summary(&report.checkpointed_bytes),
            state_size: summary(&report.state_bytes),
            end_to_end_duration: summary(&report.end_to_end_ms),
            alignment_buffered: summary(&stats::Summary::default()),
            processed_data: summary(&report.processed_bytes),
            persisted_data: summary(&report.persisted_bytes),
        },
        latest: LatestCheckpoints {
            completed: report.latest_completed.as_deref().map(row),
            savepoint: report.latest_savepoint.as_deref().map(row),
            failed: report.latest_failed.as_deref().map(row),
            restored: report
                .latest_restored
                .as_ref()
                .map(|restored| of_restore(overview, restored)),
        },
        history: report.history.iter().map(|stats| row(stats)).collect(),
        millstream: MillstreamCheckpointsInfo {
            blocked: status.blocked.as_ref().map(ToString::to_string),
            pending: status.pending.iter().map(pending).collect(),
            uncommitted: status.uncommitted,
            failures_in_a_row: status.failures_in_a_row,
        },
    }
}

fn pending(status: &PendingStatus) -> PendingCheckpointInfo {
    PendingCheckpointInfo {
        id: status.id.get(),
        kind: status.kind.to_string(),
        age_ms: whole_millis(status.age),
        waiting_for: status.waiting_for.to_string(),
    }
}

fn of_restore(overview: &Overview, restored: &Restored) -> RestoredCheckpointStatistics {
    let own = || external_path(overview, restored.id, restored.kind, None);
    RestoredCheckpointStatistics {
        id: restored.id.get(),
        restore_timestamp: restored.at.as_millis(),
        is_savepoint: restored.kind.is_savepoint(),
        external_path: restored.directory.clone().unwrap_or_else(own),
    }
}

/// The directory of a checkpoint, or Flink's text for none.
fn external_path(
    overview: &Overview,
    id: CheckpointId,
    kind: Kind,
    of_savepoint: Option<&str>,
) -> String {
    let path = match (kind.is_savepoint(), &overview.directory) {
        (true, _) => of_savepoint.map(str::to_owned),
        (false, directory) => {
            directory.as_ref().map(|parent| format!("{}/{id}", parent.trim_end_matches('/')))
        }
    };
    path.unwrap_or_else(|| NOT_ADDRESSABLE.to_owned())
}

/// `/jobs/:jobid/checkpoints/details/:checkpointid`.
pub(in crate::rest) fn details(
    overview: &Overview,
    graph: &JobGraph,
    stats: &CheckpointStats,
) -> CheckpointStatistics {
    let tasks = graph.vertices.iter().map(|vertex| (vertex.id, task(stats, vertex))).collect();
    statistics(overview, stats, tasks)
}

fn statistics(
    overview: &Overview,
    stats: &CheckpointStats,
    tasks: BTreeMap<VertexId, TaskCheckpointStatistics>,
) -> CheckpointStatistics {
    let CheckpointStats { id, kind, triggered, .. } = *stats;
    let until_ack = since(triggered, stats.latest_ack());
    let (outcome, end_to_end_duration) = match &stats.outcome {
        Outcome::InProgress => (CheckpointOutcome::InProgress, until_ack),
        Outcome::Completed { discarded, .. } => {
            let external_path = external_path(overview, id, kind, stats.directory.as_deref());
            (CheckpointOutcome::Completed { external_path, discarded: *discarded }, until_ack)
        }
        Outcome::Failed { at, reason } => {
            let failure_message = Some(reason.clone());
            let failure_timestamp = at.as_millis();
            let outcome = CheckpointOutcome::Failed { failure_timestamp, failure_message };
            (outcome, since(triggered, Some(*at)))
        }
    };
    CheckpointStatistics {
        outcome,
        id: id.get(),
        status: status(&stats.outcome),
        is_savepoint: kind.is_savepoint(),
        savepoint_format: kind.is_savepoint().then_some(SavepointFormat::Canonical),
        trigger_timestamp: triggered.as_millis(),
        latest_ack_timestamp: or_unset(stats.latest_ack()),
        checkpointed_size: stats.checkpointed_bytes(),
        state_size: match stats.outcome {
            Outcome::Completed { state_bytes, .. } => state_bytes,
            Outcome::InProgress | Outcome::Failed { .. } => stats.state_bytes(),
        },
        end_to_end_duration,
        alignment_buffered: 0,
        processed_data: stats.processed_bytes(),
        persisted_data: stats.persisted_bytes(),
        num_subtasks: stats.subtasks_total as u64,
        num_acknowledged_subtasks: stats.subtasks.len() as u64,
        checkpoint_type: match kind {
            Kind::Checkpoint | Kind::Final if stats.is_unaligned() => {
                CheckpointType::UnalignedCheckpoint
            }
            Kind::Checkpoint | Kind::Final => CheckpointType::Checkpoint,
            Kind::Savepoint => CheckpointType::Savepoint,
            Kind::Stop { .. } => CheckpointType::SyncSavepoint,
        },
        tasks,
    }
}

const fn status(outcome: &Outcome) -> CheckpointStatus {
    match outcome {
        Outcome::InProgress => CheckpointStatus::InProgress,
        Outcome::Completed { .. } => CheckpointStatus::Completed,
        Outcome::Failed { .. } => CheckpointStatus::Failed,
    }
}

/// One vertex in a checkpoint.
fn task(stats: &CheckpointStats, vertex: &JobVertex) -> TaskCheckpointStatistics {
    let subtasks = || stats.of_vertex(vertex.id).map(|(_, subtask)| subtask);
    let sum = |of: fn(&SubtaskStats) -> u64| {
        subtasks().fold(0_u64, |sum, subtask| sum.saturating_add(of(subtask)))
    };
    let latest_ack = subtasks().map(|subtask| subtask.acknowledged).max();
    TaskCheckpointStatistics {
        id: stats.id.get(),
        status: status(&stats.outcome),
        latest_ack_timestamp: or_unset(latest_ack),
        checkpointed_size: sum(|subtask| subtask.metrics.checkpointed_bytes),
        state_size: sum(|subtask| subtask.state_bytes),
        end_to_end_duration: since(stats.triggered, latest_ack),
        alignment_buffered: 0,
        processed_data: sum(|subtask| subtask.metrics.processed_bytes),
        persisted_data: sum(|subtask| subtask.metrics.persisted_bytes),
        num_subtasks: u64::from(vertex.parallelism),
        num_acknowledged_subtasks: subtasks().count() as u64,
    }
}

/// `/jobs/:jobid/checkpoints/details/:checkpointid/subtasks/:vertexid`.
pub(in crate::rest) fn subtasks(
    stats: &CheckpointStats,
    vertex: &JobVertex,
) -> TaskCheckpointStatisticsWithSubtaskDetails {
    let acknowledged: BTreeMap<u32, &SubtaskStats> = stats.of_vertex(vertex.id).collect();
    let over = |of: &dyn Fn(&SubtaskStats) -> u64| {
        summary(&stats::Summary::of(acknowledged.values().map(|subtask| of(subtask)).collect()))
    };
    let until_ack = |subtask: &SubtaskStats| {
        whole_millis(subtask.acknowledged.saturating_since(stats.triggered))
    };
    let row = |index: u32| match acknowledged.get(&index) {
        Some(subtask) => SubtaskCheckpointStatistics {
            index,
            status: SubtaskCheckpointStatus::Completed,
            outcome: SubtaskCheckpointOutcome::Completed(acknowledgement(stats, subtask)),
        },
        None => SubtaskCheckpointStatistics {
            index,
            status: SubtaskCheckpointStatus::PendingOrFailed,
            outcome: SubtaskCheckpointOutcome::Pending,
        },
    };
    TaskCheckpointStatisticsWithSubtaskDetails {
        task: task(stats, vertex),
        summary: TaskSummary {
            checkpointed_size: over(&|subtask| subtask.metrics.checkpointed_bytes),
            state_size: over(&|subtask| subtask.state_bytes),
            end_to_end_duration: over(&until_ack),
            checkpoint_duration: CheckpointDuration {
                sync: over(&|subtask| whole_millis(subtask.metrics.sync_duration)),
                asynchronous: over(&|subtask| whole_millis(subtask.metrics.async_duration)),
            },
            alignment: CheckpointAlignment {
                buffered: over(&|_| 0),
                processed: over(&|subtask| subtask.metrics.processed_bytes),
                persisted: over(&|subtask| subtask.metrics.persisted_bytes),
                duration: over(&|subtask| whole_millis(subtask.metrics.alignment_duration)),
            },
            start_delay: over(&|subtask| whole_millis(subtask.metrics.start_delay)),
        },
        subtasks: (0..vertex.parallelism).map(row).collect(),
    }
}

fn acknowledgement(stats: &CheckpointStats, subtask: &SubtaskStats) -> SubtaskAcknowledgement {
    let metrics = &subtask.metrics;
    SubtaskAcknowledgement {
        ack_timestamp: subtask.acknowledged.as_millis(),
        end_to_end_duration: since(stats.triggered, Some(subtask.acknowledged)),
        checkpointed_size: metrics.checkpointed_bytes,
        state_size: subtask.state_bytes,
        checkpoint: CheckpointDuration {
            sync: whole_millis(metrics.sync_duration),
            asynchronous: whole_millis(metrics.async_duration),
        },
        alignment: CheckpointAlignment {
            buffered: 0,
            processed: metrics.processed_bytes,
            persisted: metrics.persisted_bytes,
            duration: whole_millis(metrics.alignment_duration),
        },
        start_delay: whole_millis(metrics.start_delay),
        unaligned_checkpoint: metrics.unaligned,
        aborted: false,
    }
}

/// `/jobs/:jobid/checkpoints/config`.
pub(in crate::rest) fn config(overview: &Overview) -> CheckpointConfigInfo {
    let settings = &overview.settings;
    CheckpointConfigInfo {
        mode: ProcessingMode::ExactlyOnce,
        interval: settings.interval.map_or(i64::MAX, signed_millis),
        timeout: signed_millis(settings.timeout),
        min_pause: signed_millis(settings.min_pause),
        max_concurrent: settings.concurrent_max.get(),
        externalization: ExternalizedCheckpointInfo {
            enabled: overview.kept_on_failure,
            delete_on_cancellation: !overview.kept_on_cancellation,
        },
        state_backend: "HashMapStateBackend".to_owned(),
        checkpoint_storage: match &overview.directory {
            Some(_) => "FileSystemCheckpointStorage",
            None => "JobManagerCheckpointStorage",
        }
        .to_owned(),
        unaligned_checkpoints: settings.unaligned,
        tolerable_failed_checkpoints: settings.tolerable_failures,
        aligned_checkpoint_timeout: signed_millis(settings.aligned_timeout),
        checkpoints_after_tasks_finish: settings.after_tasks_finished,
        state_changelog_enabled: false,
        changelog_periodic_materialization_interval: -1,
        changelog_storage: "none".to_owned(),
    }
}

/// The metrics of a job that takes checkpoints, by Flink's names; -1 is for the latest of none.
#[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
pub(super) fn metrics(overview: &Overview) -> Vec<(String, f64)> {
    let (report, counts) = (&overview.report, &overview.report.counts);
    let complete = [report.latest_completed.as_deref(), report.latest_savepoint.as_deref()];
    let latest = complete.into_iter().flatten().max_by_key(|stats| stats.id);
    let latest = latest.map(|stats| statistics(overview, stats, BTreeMap::new()));
    let of_latest = |of: fn(&CheckpointStatistics) -> u64| {
        latest.as_ref().map_or(-1.0, |latest| of(latest) as f64)
    };
    let duration = latest.as_ref().map_or(-1, |latest| latest.end_to_end_duration);
    let restored = or_unset(report.latest_restored.as_ref().map(|restored| restored.at));
    [
        ("totalNumberOfCheckpoints", counts.total as f64),
        ("numberOfInProgressCheckpoints", counts.in_progress as f64),
        ("numberOfCompletedCheckpoints", counts.completed as f64),
        ("numberOfFailedCheckpoints", counts.failed as f64),
        ("lastCompletedCheckpointId", of_latest(|latest| latest.id)),
        ("lastCheckpointDuration", duration as f64),
        ("lastCheckpointSize", of_latest(|latest| latest.checkpointed_size)),
        ("lastCheckpointFullSize", of_latest(|latest| latest.state_size)),
        ("lastCheckpointProcessedData", of_latest(|latest| latest.processed_data)),
        ("lastCheckpointPersistedData", of_latest(|latest| latest.persisted_data)),
        ("lastCheckpointRestoreTimestamp", restored as f64),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
fn summary(of: &stats::Summary) -> StatsSummary {
    let [p50, p90, p95, p99, p999] = of.quantiles.map(|quantile| quantile as f64);
    StatsSummary { min: of.min, max: of.max, avg: of.avg, p50, p90, p95, p99, p999 }
}

/// Milliseconds from `start` to `end`, or -1.
fn since(start: Timestamp, end: Option<Timestamp>) -> i64 {
    end.map_or(-1, |end| duration(start, Some(end), end))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn signed_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
