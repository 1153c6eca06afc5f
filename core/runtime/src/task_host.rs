//! A job's tasks in one process: builds them, runs them on slot threads, reports on them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_graph::JobGraph;
use millstream_network::{Exchange, ExchangeConfig, Generation, PeerAddress, TaskCounters};
use millstream_operators::{
    Beside, EventMailbox, EventSender, Mail, Program, Result, UserMetrics, error,
};
use millstream_protocol::host::{
    self, Execution, Failure, Metrics, OperatorEvent, Ready, TaskId, TaskMetrics, TaskState,
    UserMetric, from_host, to_host, user_metric::Value,
};
use millstream_security::{Credentials, Secret};
use millstream_storage::patience::{Waiting, set_waiting};
use millstream_task_checkpoint::{SnapshotSender, TaskCheckpoints};
use millstream_types::metrics::{HistogramSummary, MetricValue};
use millstream_types::{
    BarrierKind, CheckpointId, Clock, ExecutionAttemptId, HostId, JobId, LeaderEpoch, OperatorId,
    Timestamp, VertexId, counters,
};

use crate::build::{Blueprint, Placements, TaskOwn, TaskParts, task_name};
use crate::checkpoints::{
    HostCheckpointing, Owner, Restore, Upload, Uploads, all_committables, barrier,
};
use crate::failure::{self, place_of_panic};
use crate::handed::HandedOut;
use crate::link::{Outbox, TaskReport, ToControl};
use crate::memory;
use crate::slot::{NewTask, Slot};
use crate::tasks::{Tasks, task_id};
use crate::time_spent::TimeSpent;
use crate::turns::{Part, Threads};

/// Interval of metrics while a task runs.
const METRICS_EVERY: Duration = Duration::from_millis(250);

/// The most tasks of which one message tells: each may have a hundred metrics with long names.
const TASKS_PER_MESSAGE: usize = 64;

/// With more slots the process never gets huge pages: each thread has memory of its own, which
/// they round up to megabytes for each slot.
const HUGE_PAGES_SLOTS_MAX: usize = 16;

/// The identity of a task host.
#[derive(Debug, Clone)]
pub struct TaskHostConfig {
    /// The job.
    pub job: JobId,
    /// This host.
    pub host: HostId,
    /// The epoch of the leader that started it.
    pub epoch: LeaderEpoch,
    /// Number of restarts of the job so far.
    pub attempt: u32,
    /// The secret of the job attempt's hosts.
    pub token: Secret<[u8; 32]>,
    /// This host's key and certificate, if the cluster has TLS.
    pub credentials: Option<Credentials>,
    /// Where to listen for other hosts; empty for a job of one process.
    pub bind: Vec<SocketAddr>,
    /// The clock of its slots and tasks.
    pub clock: Clock,
    /// The part of its tasks in checkpoints, if the job takes any.
    pub checkpointing: Option<Arc<HostCheckpointing>>,
}

struct HostedTask {
    slot: u32,
    name: String,
    waker: Waker,
    counters: Arc<TaskCounters>,
    time: Arc<TimeSpent>,
    metrics: Arc<UserMetrics>,
    inputs_waiting: Arc<AtomicU64>,
    mailboxes: BTreeMap<OperatorId, Arc<EventMailbox>>,
    checkpoints: Option<Arc<TaskCheckpoints>>,
}

/// One job's tasks in this process.
pub struct TaskHost {
    config: TaskHostConfig,
    threads: Threads,
    blueprint: Arc<Blueprint>,
    exchange: Arc<Exchange>,
    control: SyncSender<ToControl>,
    outbox: Outbox,
    slots: BTreeMap<u32, Slot>,
    tasks: Tasks<HostedTask>,
    placements: Placements,
    /// The writer of snapshots, if the job takes checkpoints.
    uploads: Option<Arc<Uploads>>,
    /// The savepoints that are being taken.
    savepoints: BTreeSet<CheckpointId>,
    /// The messages that another coordinator host would have to know.
    handed: HandedOut,
    /// The savepoint with which the job stops.
    stop: Option<CheckpointId>,
}

impl TaskHost {
    /// Opens the data port and says that the host is ready. `control` is the sending end of what
    /// [`TaskHost::run`] reads.
    ///
    /// # Errors
    /// The data port cannot be opened.
    pub fn start(
        config: TaskHostConfig,
        program: Arc<Program>,
        graph: JobGraph,
        control: SyncSender<ToControl>,
        outbox: Outbox,
    ) -> Result<Self> {
        Self::start_with(Threads::Own, config, (program, graph), control, outbox)
    }

    /// As [`TaskHost::start`] for a simulation, which takes the host's parts from the other end of
    /// `parts` and gives turns to them, and messages to [`TaskHost::on_control`].
    ///
    /// # Errors
    /// As [`TaskHost::start`].
    pub fn stepped(
        config: TaskHostConfig,
        job: (Arc<Program>, JobGraph),
        parts: SyncSender<Box<dyn Part>>,
        control: SyncSender<ToControl>,
        outbox: Outbox,
    ) -> Result<Self> {
        Self::start_with(Threads::None(parts), config, job, control, outbox)
    }

    fn start_with(
        threads: Threads,
        config: TaskHostConfig,
        (program, graph): (Arc<Program>, JobGraph),
        control: SyncSender<ToControl>,
        outbox: Outbox,
    ) -> Result<Self> {
        failure::install_panic_hook();
        let blueprint = Blueprint::new(program, graph);
        let exchange = Exchange::start(ExchangeConfig {
            host: config.host,
            generation: Generation { epoch: config.epoch, attempt: config.attempt },
            token: config.token.clone(),
            credentials: config.credentials.clone(),
            bind: config.bind.clone(),
            layout: blueprint.layout(),
        })?
        .encoding_always(blueprint.graph.settings.serializes_always());
        let address = exchange.address().map_or_else(String::new, |address| address.to_string());
        let uploads = config.checkpointing.clone().map(|checkpointing| {
            Uploads::start(&threads, checkpointing, outbox.clone(), config.clock.clone())
                .map(Arc::new)
        });
        let uploads = uploads.transpose()?;
        set_waiting(Waiting::Running);
        outbox.send(from_host::Message::Ready(Ready { data_address: address }));
        Ok(Self {
            config,
            threads,
            blueprint: Arc::new(blueprint),
            exchange: Arc::new(exchange),
            control,
            outbox,
            slots: BTreeMap::new(),
            tasks: Tasks::new(),
            placements: Placements::default(),
            uploads,
            savepoints: BTreeSet::new(),
            handed: HandedOut::default(),
            stop: None,
        })
    }

    /// Obeys the parent until it says stop or is gone.
    pub fn run(mut self, control: &Receiver<ToControl>) {
        let clock = self.config.clock.clone();
        let mut next_metrics = clock.now() + METRICS_EVERY;
        memory::allow_huge_pages(false);
        let mut huge_pages = false;
        loop {
            let wait = clock.sleep_until(next_metrics);
            match control.recv_timeout(wait) {
                Ok(message) => {
                    if !self.on_control(message) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if clock.now() >= next_metrics {
                self.send_metrics();
                if !huge_pages && self.slots.len() <= HUGE_PAGES_SLOTS_MAX && memory::is_large() {
                    memory::allow_huge_pages(true);
                    huge_pages = true;
                }
                next_metrics = clock.now() + METRICS_EVERY;
            }
        }
    }

    /// Does what one message to the control thread asks for; `false` when the host is to stop.
    pub fn on_control(&mut self, message: ToControl) -> bool {
        match message {
            ToControl::Parent(message) => return self.on_parent(message.message),
            ToControl::ParentGone => return false,
            ToControl::Task(report) => self.on_report(report),
            ToControl::CoordinatorFailed(_) => {}
        }
        true
    }

    /// The host's end of the exchanges.
    #[must_use]
    pub const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// `false` when the host is to stop.
    fn on_parent(&mut self, message: Option<to_host::Message>) -> bool {
        match message {
            Some(to_host::Message::Deploy(deploy)) => self.deploy(deploy),
            Some(to_host::Message::Cancel(cancel)) => self.cancel(&cancel),
            Some(to_host::Message::OperatorEvent(event)) => self.on_operator_event(event),
            Some(to_host::Message::TriggerCheckpoint(trigger)) => self.trigger(&trigger),
            Some(to_host::Message::EndCheckpoint(end)) => self.end_checkpoint(&end),
            Some(to_host::Message::ReportHandedOut(asked)) => self.report_handed_out(&asked),
            Some(to_host::Message::Shutdown(_)) => return false,
            Some(
                to_host::Message::Begin(_)
                | to_host::Message::Commit(_)
                | to_host::Message::Abort(_)
                | to_host::Message::SnapshotCoordinators(_)
                | to_host::Message::CommitCheckpoint(_)
                | to_host::Message::RestartSubtasks(_)
                | to_host::Message::TakeOver(_)
                | to_host::Message::Answer(_),
            )
            | None => {}
            Some(to_host::Message::Credentials(renewed)) => self.renew(&renewed),
        }
        true
    }

    /// Shows new peers a new certificate. Connections that there are go on with the old one.
    fn renew(&self, renewed: &host::Credentials) {
        let credentials = Credentials::from_secret(&renewed.credentials);
        if let Err(error) = credentials.and_then(|renewed| self.exchange.renew(renewed)) {
            tracing::error!(%error, "failed to renew this host's certificate");
        }
    }

    fn deploy(&mut self, deploy: host::Deploy) {
        let peers = deploy.peers.iter().filter_map(|peer| {
            let host = HostId::try_from(peer.host_id.as_slice()).ok()?;
            Some(PeerAddress { host, address: peer.data_address.clone() })
        });
        self.exchange.connect(peers);
        for placement in deploy.placements {
            let vertex = VertexId::try_from(placement.vertex.as_slice());
            let host = HostId::try_from(placement.host_id.as_slice());
            if let (Ok(vertex), Ok(host)) = (vertex, host)
                && let Ok(vertex) = self.blueprint.vertex(vertex)
            {
                self.placements.place(vertex, placement.subtask, host);
            }
        }
        self.placements.settle();
        for task in deploy.tasks {
            let Ok(vertex) = VertexId::try_from(task.vertex.as_slice()) else { continue };
            let (subtask, attempt) = (task.subtask, task.attempt);
            let id = ExecutionAttemptId { vertex, subtask, attempt };
            if let Err(error) = self.start_task(id, task) {
                let cause = Some(failure::of_error(&error));
                self.send_state(id, Execution::Failed, cause, None);
            }
        }
    }

    fn has_subtask(&self, vertex: VertexId, subtask: u32) -> bool {
        self.blueprint.vertex(vertex).is_ok_and(|vertex| subtask < vertex.parallelism)
    }

    fn generation_of(&self, id: ExecutionAttemptId) -> Generation {
        Generation { epoch: self.config.epoch, attempt: id.attempt }
    }

    /// Starts a task in place of the subtask's attempt before it; one that was started already is
    /// not started again.
    fn start_task(&mut self, id: ExecutionAttemptId, task: host::Task) -> Result<()> {
        let slot = task.slot;
        if !self.has_subtask(id.vertex, id.subtask) {
            return Err(error!("the job has no subtask {} of vertex {}", id.subtask, id.vertex));
        }
        if let Some(before) = self.tasks.newest(id) {
            if before.attempt >= id.attempt {
                return Ok(());
            }
            self.cancel_task(before);
        }
        let generation = self.generation_of(id);
        let blueprint = Arc::clone(&self.blueprint);
        let vertex = blueprint.vertex(id.vertex)?;
        let inputs = blueprint.inputs(vertex, (id.subtask, generation), &self.placements)?;
        let (waker, wake) = self.slot(slot)?.waker();
        let (counters, metrics) = (Arc::<TaskCounters>::default(), Arc::<UserMetrics>::default());
        let name = task_name(vertex, id.subtask);
        let checkpoints = self.checkpoints_of(id, task.restored);
        let restore = self.config.checkpointing.as_ref();
        let restore = restore.map(|it| Restore::new(task.snapshots, id.subtask, vertex, it));
        let mailboxes: BTreeMap<_, Arc<EventMailbox>> =
            vertex.operators.iter().map(|operator| (operator.id, Arc::default())).collect();
        let beside = Arc::new(Beside::new(place_of_panic));
        let own = TaskOwn {
            job: self.config.job,
            subtask: id.subtask,
            attempt: id.attempt,
            generation,
            waker: waker.clone(),
            clock: self.config.clock.clone(),
            counters: Arc::clone(&counters),
            metrics: Arc::clone(&metrics),
            checkpoints: checkpoints.clone(),
            has_finished: task.finished,
            beside: Some(Arc::clone(&beside)),
        };
        let parts = TaskParts {
            blueprint: Arc::clone(&blueprint),
            exchange: Arc::clone(&self.exchange),
            vertex: id.vertex,
            context: blueprint.task_context(vertex, own),
            inputs,
            to_coordinator: self.event_sender(),
            mailboxes: mailboxes.clone(),
            restore,
        };
        let (inputs_waiting, time) = (Arc::new(AtomicU64::new(0)), Arc::<TimeSpent>::default());
        self.slot(slot)?.run(NewTask {
            id,
            wake,
            time: Arc::clone(&time),
            build: Box::new(move || parts.build()),
            inputs_waiting: Arc::clone(&inputs_waiting),
            beside,
        });
        let hosted = HostedTask {
            slot,
            name,
            waker,
            counters,
            time,
            metrics,
            inputs_waiting,
            mailboxes,
            checkpoints,
        };
        self.add(id, hosted, task.restored);
        Ok(())
    }

    fn add(&mut self, id: ExecutionAttemptId, hosted: HostedTask, restored: u64) {
        self.tasks.insert(id, hosted);
        if let (true, Ok(vertex)) = (self.uploads.is_some(), self.blueprint.vertex(id.vertex)) {
            self.handed.begin(id, vertex, restored);
        }
    }

    /// A task's part in checkpoints, if the job takes any.
    fn checkpoints_of(
        &self,
        task: ExecutionAttemptId,
        restored: u64,
    ) -> Option<Arc<TaskCheckpoints>> {
        let uploads = Arc::clone(self.uploads.as_ref()?);
        let owner = self.owner_of(task);
        let sinks = uploads.sinks(task, owner);
        let sender: SnapshotSender =
            Arc::new(move |snapshot| uploads.upload(Upload { task, owner, snapshot }));
        let restored = (restored > 0).then(|| CheckpointId::new(restored));
        let clock = self.config.clock.clone();
        Some(Arc::new(TaskCheckpoints::new(restored, sender, clock).with_sinks(sinks)))
    }

    const fn owner_of(&self, task: ExecutionAttemptId) -> Owner {
        Owner { epoch: self.config.epoch, attempt: task.attempt }
    }

    /// Has sources emit a barrier. It comes to the other tasks on their channels; one whose inputs
    /// have all ended ends without it, and says so.
    fn trigger(&mut self, trigger: &host::TriggerCheckpoint) {
        let Ok(barrier) = barrier(trigger) else { return };
        if matches!(barrier.kind, BarrierKind::Stop { .. }) {
            self.stop = Some(barrier.checkpoint);
        }
        if let Some(uploads) = &self.uploads
            && !trigger.directory.is_empty()
        {
            self.savepoints.insert(barrier.checkpoint);
            uploads.begin_savepoint(barrier.checkpoint, trigger.directory.clone());
        }
        for task in &trigger.tasks {
            if let Some((task, _)) = self.hosted(task) {
                self.handed.on_barrier(task, barrier.checkpoint);
            }
        }
        for (task, hosted) in trigger.tasks.iter().filter_map(|task| self.hosted(task)) {
            let Ok(vertex) = self.blueprint.vertex(task.vertex) else { continue };
            let Some(source) = vertex.operators.first().filter(|first| first.source) else {
                continue;
            };
            let Some(mailbox) = hosted.mailboxes.get(&source.id) else { continue };
            match mailbox.push(Mail::Barrier(barrier)) {
                Ok(()) => hosted.waker.wake_by_ref(),
                Err(error) => {
                    let declined = host::CheckpointDeclined {
                        task: Some(task_id(task)),
                        checkpoint: trigger.checkpoint,
                        reason: format!("{error:#}"),
                    };
                    self.outbox.send(from_host::Message::CheckpointDeclined(declined));
                }
            }
        }
    }

    /// The task of this attempt, unless it has ended.
    fn hosted(&self, task: &TaskId) -> Option<(ExecutionAttemptId, &HostedTask)> {
        let vertex = VertexId::try_from(task.vertex.as_slice()).ok()?;
        let (subtask, attempt) = (task.subtask, task.attempt);
        let id = ExecutionAttemptId { vertex, subtask, attempt };
        Some((id, self.tasks.get(id)?))
    }

    /// Has tasks forget what a complete checkpoint carries; with the one that stops the job they
    /// have finished.
    fn end_checkpoint(&mut self, end: &host::EndCheckpoint) {
        let id = CheckpointId::new(end.checkpoint);
        if let Some(uploads) = &self.uploads
            && self.savepoints.remove(&id)
        {
            uploads.end_savepoint(id);
        }
        if !end.complete {
            self.checkpoints().for_each(|checkpoints| checkpoints.on_aborted(id));
        }
        if !end.complete || !end.commits {
            return;
        }
        self.handed.on_complete(id);
        self.checkpoints().for_each(|checkpoints| checkpoints.on_committed(id));
        if self.stop == Some(id) {
            self.slots.values().for_each(Slot::finish_stopped);
        }
    }

    /// The parts of the running tasks in checkpoints.
    fn checkpoints(&self) -> impl Iterator<Item = &Arc<TaskCheckpoints>> {
        self.tasks.running().filter_map(|(_, task)| task.checkpoints.as_ref())
    }

    /// The thread of a slot.
    fn slot(&mut self, slot: u32) -> Result<&Slot> {
        let (threads, control, clock) = (&self.threads, &self.control, &self.config.clock);
        Ok(match self.slots.entry(slot) {
            Entry::Occupied(thread) => thread.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Slot::start(slot, threads, control.clone(), clock.clone())?)
            }
        })
    }

    fn event_sender(&self) -> EventSender {
        let control = self.control.clone();
        Arc::new(move |operator, subtask, payload| {
            let report = TaskReport::OperatorEvent(operator, subtask, payload);
            let _ = control.send(ToControl::Task(report));
        })
    }

    fn cancel(&self, cancel: &host::Cancel) {
        if cancel.tasks.is_empty() {
            self.slots.values().for_each(Slot::cancel_all);
        }
        for task in &cancel.tasks {
            let Ok(vertex) = VertexId::try_from(task.vertex.as_slice()) else { continue };
            let (subtask, attempt) = (task.subtask, task.attempt);
            let id = ExecutionAttemptId { vertex, subtask, attempt };
            self.cancel_task(id);
        }
    }

    fn cancel_task(&self, id: ExecutionAttemptId) {
        if let Some(slot) = self.tasks.get(id).and_then(|task| self.slots.get(&task.slot)) {
            slot.cancel(id);
        }
    }

    /// Says what tasks were given, and has their readers ask again: the coordinators that are to
    /// know of it are others.
    fn report_handed_out(&self, asked: &host::ReportHandedOut) {
        for part in self.handed.report(asked) {
            self.outbox.send(from_host::Message::HandedOut(part));
        }
        for (id, task) in self.tasks.running() {
            let Ok(vertex) = self.blueprint.vertex(id.vertex) else { continue };
            let source = vertex.operators.first().filter(|first| first.source);
            if let Some(mailbox) = source.and_then(|source| task.mailboxes.get(&source.id)) {
                self.push(task, mailbox, Mail::Repeat);
            }
        }
    }

    fn on_operator_event(&mut self, event: OperatorEvent) {
        let Ok(operator) = OperatorId::try_from(event.operator_id.as_slice()) else { return };
        let mut of_subtask = self.tasks.running().filter(|(id, _)| id.subtask == event.subtask);
        let hosted =
            of_subtask.find_map(|(id, task)| Some((id, task, task.mailboxes.get(&operator)?)));
        let Some((id, task, mailbox)) = hosted else { return };
        self.handed.on_event(id, &event);
        self.push(task, mailbox, Mail::Event(event.payload));
    }

    fn push(&self, task: &HostedTask, mailbox: &EventMailbox, mail: Mail) {
        match mailbox.push(mail) {
            Ok(()) => task.waker.wake_by_ref(),
            Err(error) => {
                let message = format!("{}: {error}", task.name);
                let failure = failure::of_kind("stuck", message);
                self.outbox.send(from_host::Message::Failure(failure));
            }
        }
    }

    fn on_report(&mut self, report: TaskReport) {
        match report {
            TaskReport::OperatorEvent(operator, subtask, payload) => {
                self.outbox.send(from_host::Message::OperatorEvent(OperatorEvent {
                    operator_id: operator.as_bytes().to_vec(),
                    subtask,
                    payload,
                    hands_out: false,
                }));
            }
            TaskReport::State(id, state, cause) => {
                let terminal =
                    matches!(state, Execution::Finished | Execution::Canceled | Execution::Failed);
                // In a job of one process the caller hears of it.
                if let (Some(task), Some(cause)) = (self.tasks.get(id), &cause)
                    && !self.config.bind.is_empty()
                {
                    failure::note(self.config.job, Some(&task.name), &cause.message);
                }
                if terminal {
                    self.handed.end(id, state == Execution::Finished);
                }
                let ended = if terminal { self.tasks.end(id) } else { None };
                let checkpoints = ended.as_ref().and_then(|task| task.checkpoints.clone());
                let metrics = ended.map(|task| {
                    let metrics = task_metrics(id, &task, self.config.clock.now());
                    let (blueprint, generation) = (&self.blueprint, self.generation_of(id));
                    let inputs = blueprint.input_ends(id, generation);
                    self.exchange.forget(inputs, blueprint.output_ends(id, generation));
                    metrics
                });
                match (&self.uploads, checkpoints) {
                    (Some(uploads), Some(checkpoints)) if state == Execution::Finished => {
                        let (last, kept) = checkpoints.at_end();
                        uploads.send(from_host::Message::TaskState(TaskState {
                            last_barrier: last.map_or(0, CheckpointId::get),
                            committables: all_committables(&kept, id.subtask, self.owner_of(id)),
                            ..task_state(id, state, cause, metrics)
                        }));
                    }
                    _ => self.send_state(id, state, cause, metrics),
                }
            }
        }
    }

    fn send_state(
        &self,
        id: ExecutionAttemptId,
        state: Execution,
        cause: Option<Failure>,
        metrics: Option<TaskMetrics>,
    ) {
        let state = task_state(id, state, cause, metrics);
        self.outbox.send(from_host::Message::TaskState(state));
    }

    /// Tells the metrics of the running tasks.
    pub fn send_metrics(&self) {
        let (running, now) = (self.tasks.running(), self.config.clock.now());
        let mut tasks = running.map(|(id, task)| task_metrics(id, task, now)).peekable();
        while tasks.peek().is_some() {
            let tasks = tasks.by_ref().take(TASKS_PER_MESSAGE).collect();
            self.outbox.send(from_host::Message::Metrics(Metrics { tasks }));
        }
    }
}

fn task_state(
    id: ExecutionAttemptId,
    state: Execution,
    cause: Option<Failure>,
    metrics: Option<TaskMetrics>,
) -> TaskState {
    let (task, state) = (Some(task_id(id)), state.into());
    TaskState { task, state, cause, metrics, ..TaskState::default() }
}

fn task_metrics(id: ExecutionAttemptId, task: &HostedTask, now: Instant) -> TaskMetrics {
    let (values, spent) = (task.counters.values(), task.time.until(now));
    let mut dropped = values.records_dropped;
    let mut user = Vec::new();
    for (name, value) in task.metrics.values() {
        let value = match value {
            // What sources drop and what operators drop is one number.
            MetricValue::Counter(count) if name == counters::RECORDS_DROPPED => {
                dropped += count.unsigned_abs();
                continue;
            }
            MetricValue::Counter(count) => Value::Counter(count),
            MetricValue::Gauge(size) => Value::Gauge(size),
            MetricValue::Histogram(summary) => Value::Histogram(histogram(summary)),
        };
        user.push(UserMetric { name, value: Some(value) });
    }
    let [left, right] = values.input_watermarks;
    TaskMetrics {
        task: Some(task_id(id)),
        records_in: values.records_in,
        records_out: values.records_out,
        bytes_in: values.bytes_in,
        bytes_out: values.bytes_out,
        busy_ns: spent.busy_ns,
        idle_ns: spent.idle_ns,
        backpressured_ns: spent.backpressured_ns,
        records_dropped: dropped,
        buffers_in: task.inputs_waiting.load(Ordering::Relaxed),
        user,
        buffers_out: values.buffers_out,
        watermark: values.watermark.map(Timestamp::as_millis),
        watermark_left: left.map(Timestamp::as_millis),
        watermark_right: right.map(Timestamp::as_millis),
        last_barrier: task.checkpoints.as_ref().map_or(0, |it| it.last_left().get()),
    }
}

fn histogram(summary: HistogramSummary) -> host::Histogram {
    let HistogramSummary { count, min, max, mean, stddev, quantiles } = summary;
    host::Histogram { count, min, max, mean, stddev, quantiles: quantiles.to_vec() }
}
