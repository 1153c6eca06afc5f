//! Reports of hosts on their tasks, and the loss of hosts.

use millstream_gateway::{CauseKind, ExceptionEntry, FailureCause, TaskMetrics};
use millstream_protocol::host::{self, user_metric::Value};
use millstream_types::metrics::{self, HistogramSummary, MetricValue};
use millstream_types::{ExecutionAttemptId, ExecutionState, HostId, Timestamp, VertexId};

use super::{Action, Phase, Tasks};
use crate::causes;
use crate::checkpoints::TaskNews;
use crate::execution_graph::Subtask;
use crate::timer::TimerKind;

impl Tasks {
    pub(super) fn on_report(&mut self, id: HostId, report: host::TaskState) {
        let Some(subtask) = report.task.as_ref().and_then(|task| self.executions.find(id, task))
        else {
            return;
        };
        let state = match report.state() {
            host::Execution::Unspecified => return,
            host::Execution::Initializing => ExecutionState::Initializing,
            host::Execution::Running => ExecutionState::Running,
            host::Execution::Finished => ExecutionState::Finished,
            host::Execution::Canceled => ExecutionState::Canceled,
            host::Execution::Failed => ExecutionState::Failed,
        };
        if let Some(metrics) = report.metrics {
            self.executions.measure(subtask, metrics_of(metrics));
        }
        if !self.executions.report(self.now, subtask, state) {
            return;
        }
        self.actions.push(Action::Changed);
        if let Some(task) = report.task.as_ref().and_then(attempt_of) {
            let (last_barrier, committables) = (report.last_barrier, report.committables);
            let news = TaskNews { task, state, last_barrier, committables };
            self.actions.push(Action::Task(Box::new(news)));
        }
        match &self.phase {
            Phase::Running { .. } if self.is_stopping(subtask) => self.on_failover_progress(),
            Phase::Running { .. } => {
                let cause = report.cause.map(causes::of_failure);
                self.on_progress(id, subtask, state, cause);
            }
            Phase::Cancelling => self.stop_if_ended(),
            Phase::Idle | Phase::WaitingForSlots | Phase::StartingHosts => {}
        }
    }

    fn on_progress(
        &mut self,
        id: HostId,
        subtask: Subtask,
        state: ExecutionState,
        cause: Option<FailureCause>,
    ) {
        let unexplained = match state {
            ExecutionState::Failed => "the task failed without saying why",
            ExecutionState::Canceled => "the task stopped without being told to",
            ExecutionState::Running | ExecutionState::Finished => {
                self.on_failover_progress();
                if state == ExecutionState::Running || !self.executions.is_finished() {
                    return self.deploy();
                }
                self.enter(Phase::Idle);
                return self.actions.push(Action::Finished);
            }
            _ => return,
        };
        let unexplained = || FailureCause::new(CauseKind::Error, unexplained);
        let mut entry = self.entry(cause.unwrap_or_else(unexplained));
        entry.task = Some(self.executions.name(subtask));
        entry.location = self.location(id);
        self.on_task_failed(entry, vec![subtask]);
    }

    /// A broken exchange is mostly the echo of another end, whose news may come a little later.
    fn on_task_failed(&mut self, entry: ExceptionEntry, mut tasks: Vec<Subtask>) {
        let Phase::Running { held, exited } = &mut self.phase else { return };
        let reason = match entry.cause.kind {
            CauseKind::Exchange => exited.take(),
            _ => Some(entry.clone()),
        };
        match (reason, held) {
            (Some(reason), held) => {
                tasks.extend(held.take().into_iter().flat_map(|(_, others)| others));
                self.actions.push(Action::Failed(reason, tasks));
            }
            (None, Some((_, others))) => others.extend(tasks),
            (None, held) => {
                *held = Some((entry, tasks));
                self.set_timer(TimerKind::ExchangeHold, self.exchange_hold);
            }
        }
    }

    pub(super) fn on_metrics(&mut self, id: HostId, metrics: host::Metrics) {
        for task in metrics.tasks {
            if let Some(at) = task.task.as_ref().and_then(|task| self.executions.find(id, task)) {
                self.executions.measure(at, metrics_of(task));
                self.actions.push(Action::Measured);
            }
        }
    }

    pub(super) fn on_host_lost(&mut self, id: HostId, mut entry: ExceptionEntry) {
        let active = self.executions.active_on(id);
        // Before they are all ready, hosts run the build function and no task.
        if !matches!(self.phase, Phase::StartingHosts) && entry.task.is_none() {
            entry.task = self.suspects(&active);
        }
        let mut failed = active.clone();
        failed.retain(|task| !self.is_stopping(*task));
        self.executions.fail(self.now, &active);
        let was_known = self.hosts.remove(&id).is_some();
        self.actions.push(Action::Changed);
        match &mut self.phase {
            Phase::StartingHosts => self.actions.push(Action::Failed(entry, failed)),
            Phase::Running { held, exited } => {
                if !failed.is_empty() || (was_known && held.is_some()) {
                    self.on_task_failed(entry, failed);
                } else if was_known && active.is_empty() {
                    exited.get_or_insert(entry);
                }
                self.on_failover_progress();
            }
            Phase::Cancelling => self.stop_if_ended(),
            Phase::Idle | Phase::WaitingForSlots => {}
        }
    }

    /// The host's tasks end when its process has.
    pub(super) fn on_host_silent(&mut self, id: HostId, entry: ExceptionEntry) {
        let mut works = self.executions.active_on(id);
        works.retain(|task| !self.is_stopping(*task));
        if let Some(host) = self.hosts.get_mut(&id) {
            host.data_address = None;
        }
        match &mut self.phase {
            Phase::Running { held, .. } if !works.is_empty() || held.is_some() => {
                works.extend(held.take().into_iter().flat_map(|(_, others)| others));
                self.actions.push(Action::Failed(entry, works));
            }
            Phase::Running { exited, .. } => {
                exited.get_or_insert(entry);
            }
            Phase::Cancelling => self.actions.push(Action::Consequence(entry)),
            Phase::Idle | Phase::WaitingForSlots | Phase::StartingHosts => {}
        }
    }
}

/// The attempt that a host speaks of.
pub(crate) fn attempt_of(task: &host::TaskId) -> Option<ExecutionAttemptId> {
    let vertex = VertexId::try_from(task.vertex.as_slice()).ok()?;
    Some(ExecutionAttemptId { vertex, subtask: task.subtask, attempt: task.attempt })
}

/// A task's counters, as far as a host may report them.
fn metrics_of(message: host::TaskMetrics) -> TaskMetrics {
    let user = message.user.into_iter().filter_map(|metric| {
        let value = match metric.value? {
            Value::Counter(count) => MetricValue::Counter(count),
            Value::Gauge(size) => MetricValue::Gauge(size),
            Value::Histogram(it) => {
                let host::Histogram { count, min, max, mean, stddev, quantiles } = it;
                let quantiles = quantiles.try_into().ok()?;
                let summary = HistogramSummary { count, min, max, mean, stddev, quantiles };
                MetricValue::Histogram(summary)
            }
        };
        Some((metric.name, value))
    });
    TaskMetrics {
        records_in: message.records_in,
        records_out: message.records_out,
        bytes_in: message.bytes_in,
        bytes_out: message.bytes_out,
        busy_ns: message.busy_ns,
        idle_ns: message.idle_ns,
        backpressured_ns: message.backpressured_ns,
        records_dropped: message.records_dropped,
        buffers_in: message.buffers_in,
        buffers_out: message.buffers_out,
        watermark: message.watermark.map(Timestamp::from_millis),
        input_watermarks: [message.watermark_left, message.watermark_right]
            .map(|watermark| watermark.map(Timestamp::from_millis)),
        user: metrics::accepted(user).collect(),
    }
}
