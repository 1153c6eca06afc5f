//! A job's coordinators in one process: split enumerators and sink committers.
//!
//! Each has a thread of its own, so that one that takes its time (a search for splits on a slow
//! storage) holds up none of the others, and not the answer to a commit or an abort: that is the
//! word of the committers alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_graph::{ChainedOperator, JobGraph};
use millstream_operators::{
    AlignmentGroups, CommitOrder, CommitterInfo, CoordinatorContext, HandedOut, Opening,
    OperatorCoordinator, Program, Replies, Reply, Restart, Result, TakeOver, error,
};
use millstream_protocol::host::{
    self, Begin, CommitCheckpoint, Committed, CoordinatorSnapshot, EndCheckpoint, Failure,
    HandedEvent, OperatorEvent, Ready, RestartSubtasks, Settled, SnapshotCoordinators,
    SubtasksRestarted, from_host, to_host,
};
use millstream_storage::patience::{Waiting, set_waiting};
use millstream_types::{AttemptId, CheckpointId, Clock, JobId, OperatorId};

use crate::failure::{self, guard};
use crate::link::{Outbox, ToControl};
use crate::turns::{Part, Run, Threads};

/// The most messages of its tasks that a coordinator leaves unread. Each subtask has one at a time.
const UNREAD_MAX: usize = 16_384;

/// The longest time that the end of the host waits for coordinators that are at work; after that
/// they end with the process.
const END_PATIENCE: Duration = Duration::from_millis(200);

/// The messages to a coordinator's thread.
enum Request {
    /// An event of a subtask.
    Event(OperatorEvent),
    /// The results are to be published or discarded.
    Settle(Settle, Arc<Settling>),
    /// The coordinator's state is wanted for this checkpoint.
    Snapshot(u64),
    /// Results that complete checkpoints carry are to be published.
    Publish(CommitOrder, Arc<Publishing>),
    /// Some subtasks begin again.
    Restart(Restart, Arc<Restarting>),
    /// Tasks run on that the coordinator before has served.
    TakeOver(TakeOver),
    /// A checkpoint is complete.
    Complete(CheckpointId),
}

#[derive(Debug, Clone, Copy)]
enum Settle {
    Commit,
    Abort,
}

/// One commit or abort, as long as committers are at it: the last of them answers for all.
struct Settling {
    outbox: Outbox,
    /// The number that have not settled yet, and the first failure.
    state: Mutex<(usize, Option<Failure>)>,
}

impl Settling {
    fn settled(&self, result: Result<(), Failure>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(1);
        if let Err(failure) = result {
            state.1.get_or_insert(failure);
        }
        if state.0 == 0 {
            let failure = state.1.take();
            self.outbox.send(from_host::Message::Settled(Settled { failure }));
        }
    }
}

/// An order to publish, as long as committers are at it: the last of them answers for all. If one
/// fails, so does the host, and there is no answer.
struct Publishing {
    outbox: Outbox,
    commit: u64,
    /// The number that have not published yet.
    left: AtomicUsize,
}

impl Publishing {
    fn published(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.answer();
        }
    }

    fn answer(&self) {
        self.outbox.send(from_host::Message::Committed(Committed { commit: self.commit }));
    }
}

/// A restart of subtasks, as long as their coordinators do not know of it: the last of them answers
/// for all. If one fails, so does the host, and there is no answer.
struct Restarting {
    outbox: Outbox,
    attempt: u32,
    /// The number of coordinators that do not know of it.
    left: AtomicUsize,
}

impl Restarting {
    fn restarted(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.answer();
        }
    }

    fn answer(&self) {
        let restarted = SubtasksRestarted { attempt: self.attempt };
        self.outbox.send(from_host::Message::SubtasksRestarted(restarted));
    }
}

/// The control thread's way to a coordinator.
struct Handle {
    name: String,
    /// Whether it publishes or discards results.
    settles: bool,
    requests: SyncSender<Request>,
}

/// Says [`ToControl::CoordinatorFailed`].
pub type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

/// One job's coordinators.
pub struct CoordinatorHost {
    threads: Threads,
    coordinators: BTreeMap<OperatorId, Handle>,
    outbox: Outbox,
    /// Given to each thread; closed once all of them have ended.
    running: Option<SyncSender<()>>,
    ended: Receiver<()>,
    on_failure: OnFailure,
    clock: Clock,
}

impl CoordinatorHost {
    /// Builds and opens the coordinators and says that the host is ready. `on_failure` is called on
    /// the thread of a coordinator that has failed, and says so to what [`CoordinatorHost::run`]
    /// reads.
    ///
    /// # Errors
    /// A coordinator could not be built or opened: what failed, in one sentence.
    pub fn start(
        begin: &Begin,
        job: JobId,
        program: &Program,
        graph: &JobGraph,
        on_failure: OnFailure,
        outbox: Outbox,
        clock: Clock,
    ) -> Result<Self, Failure> {
        Self::empty(Threads::Own, on_failure, outbox, clock).open(begin, (job, program, graph))
    }

    /// As [`CoordinatorHost::start`] for a simulation, which takes the coordinators from the other
    /// end of `parts` and gives turns to them, and messages to [`CoordinatorHost::on_control`].
    ///
    /// # Errors
    /// As [`CoordinatorHost::start`].
    pub fn stepped(
        begin: &Begin,
        job: (JobId, &Program, &JobGraph),
        parts: SyncSender<Box<dyn Part>>,
        on_failure: OnFailure,
        outbox: Outbox,
        clock: Clock,
    ) -> Result<Self, Failure> {
        Self::empty(Threads::None(parts), on_failure, outbox, clock).open(begin, job)
    }

    fn open(
        mut self,
        begin: &Begin,
        (job, program, graph): (JobId, &Program, &JobGraph),
    ) -> Result<Self, Failure> {
        failure::install_panic_hook();
        let start = CoordinatorsStart::of(begin);
        open_coordinators(job, &start, program, graph, |operator, coordinator| {
            self.add(operator, coordinator)
        })?;
        set_waiting(Waiting::Running);
        self.outbox.send(from_host::Message::Ready(Ready::default()));
        Ok(self)
    }

    fn empty(threads: Threads, on_failure: OnFailure, outbox: Outbox, clock: Clock) -> Self {
        let (running, ended) = sync_channel(0);
        let (coordinators, running) = (BTreeMap::new(), Some(running));
        Self { threads, coordinators, outbox, running, ended, on_failure, clock }
    }

    /// Starts a coordinator's thread.
    fn add(
        &mut self,
        operator: &ChainedOperator,
        coordinator: Box<dyn OperatorCoordinator>,
    ) -> Result<(), Failure> {
        let name = described(operator);
        let (requests, received) = sync_channel(UNREAD_MAX);
        let coordinator = Coordinator {
            operator: operator.id,
            name: name.clone(),
            coordinator,
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
            next_tick: None,
        };
        let serving = Serving {
            coordinator,
            requests: received,
            on_failure: Some(Arc::clone(&self.on_failure)),
            _running: self.running.clone(),
        };
        let started = self.threads.start("coordinator".to_owned(), serving);
        let no_thread = |error| failure::of_kind("start", format!("{name}: no thread: {error}"));
        started.map_err(no_thread)?;
        let settles = !operator.source;
        self.coordinators.insert(operator.id, Handle { name, settles, requests });
        Ok(())
    }

    /// Obeys the parent until it says stop or is gone.
    ///
    /// # Errors
    /// A coordinator failed: the job does.
    pub fn run(mut self, control: &Receiver<ToControl>) -> Result<(), Failure> {
        let result = self.listen(control);
        // Threads end when nothing more can come.
        self.coordinators.clear();
        self.running = None;
        let _ = self.ended.recv_timeout(END_PATIENCE);
        result
    }

    fn listen(&self, control: &Receiver<ToControl>) -> Result<(), Failure> {
        while let Ok(message) = control.recv() {
            if !self.on_control(message)? {
                break;
            }
        }
        Ok(())
    }

    /// Does what one message to the control thread asks for; `false` when the host is to stop.
    ///
    /// # Errors
    /// A coordinator failed: the job does.
    pub fn on_control(&self, message: ToControl) -> Result<bool, Failure> {
        match message {
            ToControl::Parent(parent) => match parent.message {
                Some(to_host::Message::OperatorEvent(event)) => self.on_event(event)?,
                Some(to_host::Message::Commit(_)) => self.settle(Settle::Commit)?,
                Some(to_host::Message::Abort(_)) => self.settle(Settle::Abort)?,
                Some(to_host::Message::SnapshotCoordinators(asked)) => self.snapshot(&asked)?,
                Some(to_host::Message::CommitCheckpoint(order)) => self.publish(order)?,
                Some(to_host::Message::RestartSubtasks(restart)) => self.restart(restart)?,
                Some(to_host::Message::EndCheckpoint(end)) => self.end_checkpoint(&end)?,
                Some(to_host::Message::TakeOver(before)) => self.take_over(before)?,
                Some(to_host::Message::Shutdown(_)) => return Ok(false),
                Some(
                    to_host::Message::Begin(_)
                    | to_host::Message::Deploy(_)
                    | to_host::Message::Cancel(_)
                    | to_host::Message::Credentials(_)
                    | to_host::Message::TriggerCheckpoint(_)
                    | to_host::Message::ReportHandedOut(_)
                    | to_host::Message::Answer(_),
                )
                | None => {}
            },
            ToControl::CoordinatorFailed(failure) => return Err(*failure),
            ToControl::ParentGone => return Ok(false),
            ToControl::Task(_) => {}
        }
        Ok(true)
    }

    fn on_event(&self, event: OperatorEvent) -> Result<(), Failure> {
        let Ok(operator) = OperatorId::try_from(event.operator_id.as_slice()) else {
            return Ok(());
        };
        match self.coordinators.get(&operator) {
            Some(coordinator) => coordinator.tell(Request::Event(event)),
            None => guard(|| Err(error!("operator {operator} has no coordinator"))),
        }
    }

    /// Asks coordinators for their state; each answers by itself, ahead of all that it says later.
    fn snapshot(&self, asked: &SnapshotCoordinators) -> Result<(), Failure> {
        let operators = asked.operator_ids.iter();
        operators
            .filter_map(|id| self.coordinators.get(&OperatorId::try_from(id.as_slice()).ok()?))
            .try_for_each(|coordinator| coordinator.tell(Request::Snapshot(asked.checkpoint)))
    }

    /// Tells the coordinators of subtasks that begin again.
    fn restart(&self, restart: RestartSubtasks) -> Result<(), Failure> {
        let RestartSubtasks { attempt, restored, operators } = restart;
        let known = operators.into_iter().filter_map(|one| {
            let operator = OperatorId::try_from(one.operator_id.as_slice()).ok()?;
            Some((self.coordinators.get(&operator)?, one.subtasks))
        });
        let known: Vec<_> = known.collect();
        let (outbox, left) = (self.outbox.clone(), AtomicUsize::new(known.len()));
        let restarting = Arc::new(Restarting { outbox, attempt, left });
        if known.is_empty() {
            restarting.answer();
        }
        let (attempt, restored) = (AttemptId::new(attempt), (restored > 0).then_some(restored));
        known.into_iter().try_for_each(|(coordinator, subtasks)| {
            let restored = restored.map(CheckpointId::new);
            let restart = Restart { attempt, subtasks, restored };
            coordinator.tell(Request::Restart(restart, Arc::clone(&restarting)))
        })
    }

    /// Tells the coordinators of sources what those before them have handed out.
    fn take_over(&self, before: host::TakeOver) -> Result<(), Failure> {
        let host::TakeOver { from, newest, events, ended } = before;
        let sources = self.coordinators.iter().filter(|(_, it)| !it.settles);
        let none = || TakeOver { from, newest, ended: Vec::new(), handed: Vec::new() };
        let mut of_each: BTreeMap<_, _> = sources.map(|(id, _)| (*id, none())).collect();
        for event in events {
            let HandedEvent { operator_id, subtask, after, payload } = event;
            let operator = OperatorId::try_from(operator_id.as_slice()).ok();
            if let Some(before) = operator.and_then(|operator| of_each.get_mut(&operator)) {
                before.handed.push(HandedOut { subtask, after, payload });
            }
        }
        for one in ended {
            let operator = OperatorId::try_from(one.operator_id.as_slice()).ok();
            if let Some(before) = operator.and_then(|operator| of_each.get_mut(&operator)) {
                before.ended = one.subtasks;
            }
        }
        of_each.into_iter().try_for_each(|(operator, before)| {
            match self.coordinators.get(&operator) {
                Some(coordinator) => coordinator.tell(Request::TakeOver(before)),
                None => Ok(()),
            }
        })
    }

    /// Tells coordinators that a restart begins from no earlier checkpoint.
    fn end_checkpoint(&self, end: &EndCheckpoint) -> Result<(), Failure> {
        if !end.complete || !end.commits {
            return Ok(());
        }
        let id = CheckpointId::new(end.checkpoint);
        self.coordinators.values().try_for_each(|it| it.tell(Request::Complete(id)))
    }

    /// Hands each committer what it is to publish.
    fn publish(&self, order: CommitCheckpoint) -> Result<(), Failure> {
        let CommitCheckpoint { commit, recover: recovers, committables, .. } = order;
        let mut by_operator: BTreeMap<OperatorId, Vec<Vec<u8>>> = BTreeMap::new();
        if recovers {
            let committers = self.coordinators.iter().filter(|(_, it)| it.settles);
            by_operator.extend(committers.map(|(operator, _)| (*operator, Vec::new())));
        }
        for one in committables {
            if let Ok(operator) = OperatorId::try_from(one.operator_id.as_slice()) {
                by_operator.entry(operator).or_default().push(one.payload);
            }
        }
        let left = AtomicUsize::new(by_operator.len());
        let publishing = Arc::new(Publishing { outbox: self.outbox.clone(), commit, left });
        if by_operator.is_empty() {
            publishing.answer();
        }
        for (operator, committables) in by_operator {
            let Some(committer) = self.coordinators.get(&operator) else {
                return guard(|| Err(error!("operator {operator} has no committer")));
            };
            let order = CommitOrder { recovers, committables };
            committer.tell(Request::Publish(order, Arc::clone(&publishing)))?;
        }
        Ok(())
    }

    fn settle(&self, settle: Settle) -> Result<(), Failure> {
        let committers: Vec<&Handle> = self.coordinators.values().filter(|it| it.settles).collect();
        let state = Mutex::new((committers.len(), None));
        let settling = Arc::new(Settling { outbox: self.outbox.clone(), state });
        if committers.is_empty() {
            settling.settled(Ok(()));
        }
        let settle = |it: &Handle| it.tell(Request::Settle(settle, Arc::clone(&settling)));
        committers.into_iter().try_for_each(settle)
    }
}

impl Handle {
    fn tell(&self, request: Request) -> Result<(), Failure> {
        match self.requests.try_send(request) {
            // One that has failed has said so.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => {
                let message = format!(
                    "its coordinator has left {UNREAD_MAX} messages of its tasks unread: see what \
                     it waits for in discover(), next_split() or commit()"
                );
                Err(of_operator(failure::of_kind("stuck", message), &self.name))
            }
        }
    }
}

/// A coordinator on its thread.
struct Coordinator {
    operator: OperatorId,
    /// The operator's name, which every failure carries.
    name: String,
    coordinator: Box<dyn OperatorCoordinator>,
    outbox: Outbox,
    clock: Clock,
    next_tick: Option<Instant>,
}

/// A coordinator with what it is asked for.
struct Serving {
    coordinator: Coordinator,
    requests: Receiver<Request>,
    /// `None` once it has failed.
    on_failure: Option<OnFailure>,
    /// Dropped at its end, for which the end of the host waits.
    _running: Option<SyncSender<()>>,
}

impl Serving {
    /// Handles requests until no more can come.
    fn serve(&mut self) -> Result<(), Failure> {
        loop {
            self.coordinator.tick()?;
            let request = match self.coordinator.next_tick {
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(next) => self.requests.recv_timeout(self.coordinator.clock.sleep_until(next)),
            };
            match request {
                Ok(request) => self.coordinator.serve(request)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        if let Some(on_failure) = self.on_failure.take() {
            on_failure(failure);
        }
    }
}

impl Run for Serving {
    fn run(mut self) {
        if let Err(failure) = self.serve() {
            self.fail(failure);
        }
    }
}

impl Part for Serving {
    fn turn(&mut self, _choice: usize) -> bool {
        if self.on_failure.is_none() {
            return false;
        }
        let now = self.coordinator.clock.now();
        let done = if self.coordinator.next_tick.is_some_and(|next| next <= now) {
            self.coordinator.tick()
        } else if let Ok(request) = self.requests.try_recv() {
            self.coordinator.serve(request)
        } else {
            return false;
        };
        done.unwrap_or_else(|failure| self.fail(failure));
        true
    }

    fn next_time(&self) -> Option<Instant> {
        self.coordinator.next_tick.filter(|_| self.on_failure.is_some())
    }
}

impl Coordinator {
    fn serve(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Event(event) => self.on_event(&event)?,
            Request::Settle(settle, settling) => {
                settling.settled(self.guard(|it| match settle {
                    Settle::Commit => it.commit(),
                    Settle::Abort => it.abort(),
                }));
            }
            Request::Snapshot(checkpoint) => self.snapshot(checkpoint),
            Request::Restart(restart, restarting) => {
                self.guard(|it| it.restart(&restart))?;
                restarting.restarted();
            }
            Request::TakeOver(before) => self.guard(|it| it.take_over(before))?,
            Request::Complete(id) => self.coordinator.on_complete(id),
            Request::Publish(order, publishing) => {
                self.guard(|it| it.publish(order))?;
                publishing.published();
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, checkpoint: u64) {
        let (state, failure) = match self.guard(|it| it.snapshot(CheckpointId::new(checkpoint))) {
            Ok(state) => (state.unwrap_or_default(), None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let operator_id = self.operator.as_bytes().to_vec();
        let snapshot = CoordinatorSnapshot { checkpoint, operator_id, state, failure };
        self.outbox.send(from_host::Message::CoordinatorSnapshot(snapshot));
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        if self.next_tick.is_none_or(|next| now < next) {
            return Ok(());
        }
        let mut replies = Replies::new();
        self.next_tick = self.guard(|it| it.tick(now, &mut replies))?;
        self.send(replies);
        Ok(())
    }

    fn on_event(&mut self, event: &OperatorEvent) -> Result<(), Failure> {
        let mut replies = Replies::new();
        self.guard(|it| it.on_event(event.subtask, &event.payload, &mut replies))?;
        self.send(replies);
        // The first reader that asks starts the search for splits; one that is started only to
        // discard never searches.
        self.next_tick.get_or_insert_with(|| self.clock.now());
        Ok(())
    }

    /// Runs user code of the coordinator.
    fn guard<R>(
        &mut self,
        run: impl FnOnce(&mut dyn OperatorCoordinator) -> Result<R>,
    ) -> Result<R, Failure> {
        guard(|| run(self.coordinator.as_mut())).map_err(|failure| of_operator(failure, &self.name))
    }

    fn send(&self, replies: Replies) {
        for Reply { subtask, payload, hands_out } in replies {
            self.outbox.send(from_host::Message::OperatorEvent(OperatorEvent {
                operator_id: self.operator.as_bytes().to_vec(),
                subtask,
                payload,
                hands_out,
            }));
        }
    }
}

/// The beginning of an attempt's coordinators.
pub(crate) struct CoordinatorsStart {
    opening: Opening,
    /// The states that they begin from.
    restored: BTreeMap<OperatorId, Vec<u8>>,
}

impl CoordinatorsStart {
    /// Without checkpoints.
    pub(crate) fn first() -> Self {
        let attempt = AttemptId::new(0);
        let opening = Opening { attempt, running: Vec::new(), takes_checkpoints: false };
        Self { opening, restored: BTreeMap::new() }
    }

    fn of(begin: &Begin) -> Self {
        let states = begin.checkpointing.iter().flat_map(|it| &it.coordinators);
        let restored = states.filter_map(|one| {
            let operator = OperatorId::try_from(one.operator_id.as_slice()).ok()?;
            Some((operator, one.state.clone()))
        });
        let takes_checkpoints = begin.checkpointing.is_some();
        let running = begin.checkpointing.iter().flat_map(|it| &it.running);
        let running = running.map(|attempt| AttemptId::new(*attempt)).collect();
        let attempt = AttemptId::new(begin.attempt);
        let opening = Opening { attempt, running, takes_checkpoints };
        Self { opening, restored: restored.collect() }
    }
}

/// Builds and opens the coordinators of a job, and hands each to `take`.
pub(crate) fn open_coordinators(
    job: JobId,
    start: &CoordinatorsStart,
    program: &Program,
    graph: &JobGraph,
    mut take: impl FnMut(&ChainedOperator, Box<dyn OperatorCoordinator>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let groups = AlignmentGroups::default();
    for vertex in &graph.vertices {
        for operator in vertex.operators.iter().filter(|operator| operator.coordinated) {
            let info = CommitterInfo { job, operator: operator.id };
            let mut context = CoordinatorContext::new(info, vertex.parallelism, &groups);
            context.restored = start.restored.get(&operator.id).map(Vec::as_slice);
            let built = guard(|| {
                let mut coordinator = program
                    .build_coordinator(operator.node, context)?
                    .ok_or_else(|| error!("the program has no coordinator for it"))?;
                coordinator.open(start.opening.clone())?;
                Ok(coordinator)
            });
            let coordinator =
                built.map_err(|failure| of_operator(failure, &described(operator)))?;
            take(operator, coordinator)?;
        }
    }
    Ok(())
}

/// An operator's name, and its uid where that says more.
pub(crate) fn described(operator: &ChainedOperator) -> String {
    let name = format!("operator {:?}", operator.name);
    match &operator.uid {
        Some(uid) if !operator.name.contains(uid.as_str()) => format!("{name} (uid {uid:?})"),
        Some(_) | None => name,
    }
}

pub(crate) fn of_operator(failure: Failure, operator: &str) -> Failure {
    Failure { message: format!("{operator}: {}", failure.message), ..failure }
}

#[cfg(test)]
mod tests {
    use millstream_graph::NodeId;
    use millstream_protocol::host::{Abort, Commit, Shutdown, ToHost};

    use super::*;

    /// Fails every call.
    struct Failing;

    impl OperatorCoordinator for Failing {
        fn open(&mut self, _opening: Opening) -> Result<()> {
            Ok(())
        }

        fn on_event(&mut self, _: u32, _: &[u8], _: &mut Replies) -> Result<()> {
            Err(error!("the directory is gone"))
        }

        fn tick(&mut self, _: Instant, _: &mut Replies) -> Result<Option<Instant>> {
            Ok(None)
        }

        fn commit(&mut self) -> Result<()> {
            Err(error!("the disk is full"))
        }

        fn abort(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Searches until it is released; then it may panic.
    struct Slow {
        released: Receiver<()>,
        panics: bool,
    }

    impl OperatorCoordinator for Slow {
        fn open(&mut self, _opening: Opening) -> Result<()> {
            Ok(())
        }

        fn on_event(&mut self, _: u32, _: &[u8], _: &mut Replies) -> Result<()> {
            Ok(())
        }

        fn tick(&mut self, _: Instant, _: &mut Replies) -> Result<Option<Instant>> {
            let _ = self.released.recv();
            assert!(!self.panics, "no luck");
            Ok(None)
        }

        fn commit(&mut self) -> Result<()> {
            Ok(())
        }

        fn abort(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn operator(number: u32, name: &str, source: bool) -> ChainedOperator {
        ChainedOperator {
            id: OperatorId::from_u128(u128::from(number)),
            node: NodeId(number),
            uid: Some("orders".to_owned()),
            name: name.to_owned(),
            coordinated: true,
            restarts_alone: false,
            source,
            upstream: None,
            output_type: "u64".to_owned(),
            timed: false,
        }
    }

    /// A host that runs, with these coordinators.
    struct Running {
        control: SyncSender<ToControl>,
        said: Receiver<from_host::Message>,
        result: Receiver<Result<(), Failure>>,
    }

    impl Running {
        fn start(coordinators: Vec<(ChainedOperator, Box<dyn OperatorCoordinator>)>) -> Self {
            let (outbox, outgoing) = Outbox::new();
            let (control, messages) = sync_channel(1024);
            let failed = control.clone();
            let on_failure = Arc::new(move |failure| {
                let _ = failed.send(ToControl::CoordinatorFailed(Box::new(failure)));
            });
            let mut host =
                CoordinatorHost::empty(Threads::Own, on_failure, outbox, Clock::system());
            for (operator, coordinator) in coordinators {
                host.add(&operator, coordinator).unwrap();
            }
            let (ended, result) = sync_channel(1024);
            std::thread::spawn(move || ended.send(host.run(&messages)));
            let (hears, said) = sync_channel(1024);
            std::thread::spawn(move || {
                for message in outgoing.filter_map(|message| message.message) {
                    let _ = hears.send(message);
                }
            });
            Self { control, said, result }
        }

        fn tell(&self, message: to_host::Message) {
            let message = Box::new(ToHost { message: Some(message) });
            // One that has failed hears nothing more.
            let _ = self.control.send(ToControl::Parent(message));
        }

        fn tell_event(&self, operator: u32) {
            let id = OperatorId::from_u128(u128::from(operator));
            let operator_id = id.as_bytes().to_vec();
            let event = OperatorEvent { operator_id, ..OperatorEvent::default() };
            self.tell(to_host::Message::OperatorEvent(event));
        }

        fn settled(&self) -> Settled {
            match self.said.recv_timeout(Duration::from_secs(20)).unwrap() {
                from_host::Message::Settled(settled) => settled,
                other => panic!("{other:?}"),
            }
        }

        fn result(&self) -> Result<(), Failure> {
            self.result.recv_timeout(Duration::from_secs(20)).unwrap()
        }
    }

    #[test]
    fn whatever_fails_in_a_coordinator_names_its_operator() {
        let named = "operator \"Source: Source\" (uid \"orders\"): ";
        let coordinator = || vec![(operator(1, "Source: Source", false), Box::new(Failing) as _)];
        let host = Running::start(coordinator());
        host.tell_event(1);
        let failure = host.result().unwrap_err();
        assert_eq!(failure.message, format!("{named}the directory is gone"));
        let host = Running::start(coordinator());
        host.tell(to_host::Message::Commit(Commit {}));
        let failure = host.settled().failure.unwrap();
        assert_eq!(failure.message, format!("{named}the disk is full"));
        host.tell(to_host::Message::Abort(Abort {}));
        assert_eq!(host.settled().failure, None);
        let slow = Box::new(Slow { released: sync_channel(0).1, panics: true });
        let host = Running::start(vec![(operator(1, "Source: Source", true), slow as _)]);
        host.tell_event(1);
        let failure = host.result().unwrap_err();
        assert!(failure.message.starts_with(named), "{failure:?}");
        assert!(failure.message.ends_with("no luck"), "{failure:?}");
    }

    #[test]
    fn an_abort_does_not_wait_for_a_search_for_splits() {
        let (release, released) = sync_channel(1024);
        let slow = Box::new(Slow { released, panics: false });
        let host = Running::start(vec![
            (operator(1, "source", true), slow as _),
            (operator(2, "sink", false), Box::new(Failing) as _),
        ]);
        host.tell_event(1);
        host.tell(to_host::Message::Abort(Abort {}));
        assert_eq!(host.settled().failure, None);
        host.tell(to_host::Message::Shutdown(Shutdown::default()));
        assert_eq!(host.result(), Ok(()), "the end does not wait either");
        drop(release);
    }

    #[test]
    fn messages_that_a_coordinator_leaves_unread_are_limited() {
        let (release, released) = sync_channel(1024);
        let slow = Box::new(Slow { released, panics: false });
        let host = Running::start(vec![(operator(1, "source", true), slow as _)]);
        for _ in 0..UNREAD_MAX + 2 {
            host.tell_event(1);
        }
        let failure = host.result().unwrap_err();
        assert!(failure.message.contains("messages of its tasks unread"), "{failure:?}");
        drop(release);
    }
}
