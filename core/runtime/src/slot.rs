//! A slot: one thread that steps its tasks by turns.
//!
//! Each task has a waker of its own. The thread steps the tasks that were woken or made progress
//! and parks when none is ready, until a waker or a deadline. A task's time is accounted for by
//! what it waits for: working (its steps, and waiting for its turn), idle, or backpressured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use millstream_api::{Counter, Step, TaskBody};
use millstream_network::TaskCounters;
use millstream_protocol::host::{Execution, Failure};
use millstream_types::{ExecutionAttemptId, OperatorId};

use crate::failure::guard;
use crate::link::ToControl;

/// What a task tells its host's control thread.
#[derive(Debug)]
pub enum TaskReport {
    /// It entered a state.
    State(ExecutionAttemptId, Execution, Option<Failure>),
    /// It has a message for an operator's coordinator.
    OperatorEvent(OperatorId, u32, Vec<u8>),
}

/// A slot thread that is parked, or will notice before it parks.
#[derive(Debug)]
pub(crate) struct Parker {
    parked: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Parker {
    fn unpark(&self) {
        if self.parked.swap(false, Ordering::SeqCst) {
            let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(thread) = thread.as_ref() {
                thread.unpark();
            }
        }
    }
}

/// Wakes one task.
#[derive(Debug)]
pub(crate) struct TaskWake {
    ready: AtomicBool,
    parker: Arc<Parker>,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        self.parker.unpark();
    }
}

type BuildTask = Box<dyn FnOnce() -> millstream_api::Result<Box<dyn TaskBody>> + Send>;

/// A task that is to run.
pub(crate) struct NewTask {
    pub(crate) id: ExecutionAttemptId,
    pub(crate) wake: Arc<TaskWake>,
    pub(crate) counters: Arc<TaskCounters>,
    /// Builds the operators; runs on the slot's thread, because it is user code.
    pub(crate) build: BuildTask,
    /// How many batches wait at the inputs, for the metrics.
    pub(crate) inputs_waiting: Arc<std::sync::atomic::AtomicU64>,
}

enum Command {
    Start(NewTask),
    Cancel(ExecutionAttemptId),
    CancelAll,
}

/// A slot's thread seen from the control thread. Dropping it ends the thread and its tasks.
#[derive(Debug)]
pub(crate) struct Slot {
    commands: Option<Sender<Command>>,
    parker: Arc<Parker>,
}

impl Slot {
    /// Starts the thread.
    pub(crate) fn start(index: u32, control: Sender<ToControl>) -> std::io::Result<Self> {
        let (commands, received) = channel();
        let parker = Arc::new(Parker { parked: AtomicBool::new(false), thread: Mutex::default() });
        let shared = Arc::clone(&parker);
        let thread = std::thread::Builder::new()
            .name(format!("slot-{index}"))
            .spawn(move || SlotLoop::new(received, shared, control).run())?;
        let mut slot = parker.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = Some(thread.thread().clone());
        drop(slot);
        Ok(Self { commands: Some(commands), parker })
    }

    /// A waker for a task that will run here, and what it sets.
    pub(crate) fn waker(&self) -> (Waker, Arc<TaskWake>) {
        let ready = AtomicBool::new(true);
        let wake = Arc::new(TaskWake { ready, parker: Arc::clone(&self.parker) });
        (Arc::clone(&wake).into(), wake)
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
        self.parker.unpark();
    }

    pub(crate) fn run(&self, task: NewTask) {
        self.send(Command::Start(task));
    }

    pub(crate) fn cancel(&self, task: ExecutionAttemptId) {
        self.send(Command::Cancel(task));
    }

    pub(crate) fn cancel_all(&self) {
        self.send(Command::CancelAll);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.commands = None;
        self.parker.unpark();
    }
}

/// What a task waits for between its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Turn,
    Input,
    Output,
}

struct RunningTask {
    id: ExecutionAttemptId,
    body: Box<dyn TaskBody>,
    wake: Arc<TaskWake>,
    counters: Arc<TaskCounters>,
    inputs_waiting: Arc<std::sync::atomic::AtomicU64>,
    waiting: Waiting,
    since: Instant,
    deadline: Option<Instant>,
}

impl RunningTask {
    /// Accounts for the time up to `now` by what the task waited for.
    fn account(&mut self, now: Instant) {
        let nanos = u64::try_from(now.saturating_duration_since(self.since).as_nanos());
        let nanos = nanos.unwrap_or(u64::MAX);
        match self.waiting {
            Waiting::Turn => self.counters.add_busy_ns(nanos),
            Waiting::Input => self.counters.add_idle_ns(nanos),
            Waiting::Output => self.counters.add_backpressured_ns(nanos),
        }
        self.since = now;
    }
}

struct SlotLoop {
    commands: Receiver<Command>,
    parker: Arc<Parker>,
    control: Sender<ToControl>,
    tasks: Vec<RunningTask>,
    open: bool,
}

/// How often waiting tasks' times are brought up to date while the thread is parked.
const ACCOUNT_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

impl SlotLoop {
    fn new(commands: Receiver<Command>, parker: Arc<Parker>, control: Sender<ToControl>) -> Self {
        Self { commands, parker, control, tasks: Vec::new(), open: true }
    }

    fn report(&self, id: ExecutionAttemptId, state: Execution, cause: Option<Failure>) {
        let _ = self.control.send(ToControl::Task(TaskReport::State(id, state, cause)));
    }

    fn run(mut self) {
        while self.open {
            self.take_commands();
            let mut now = Instant::now();
            let mut at = 0;
            while at < self.tasks.len() {
                if self.is_ready(at, now) {
                    let ended = self.step(at);
                    now = Instant::now();
                    if ended {
                        continue;
                    }
                }
                at += 1;
            }
            if !self.tasks.iter().any(|task| task.wake.ready.load(Ordering::SeqCst)) {
                self.park(now);
            }
        }
    }

    fn is_ready(&self, at: usize, now: Instant) -> bool {
        self.tasks.get(at).is_some_and(|task| {
            task.wake.ready.load(Ordering::Relaxed) || task.deadline.is_some_and(|due| now >= due)
        })
    }

    /// Steps one task; `true` if it ended.
    fn step(&mut self, at: usize) -> bool {
        let Some(task) = self.tasks.get_mut(at) else { return true };
        // Cleared before the step: what wakes the task during it counts.
        task.wake.ready.store(false, Ordering::SeqCst);
        task.account(Instant::now());
        let result = guard(|| {
            let step = task.body.step()?;
            let deadline = match step {
                Step::Full | Step::Finished => None,
                Step::Progress | Step::Idle(_) => task.body.tick(Instant::now())?,
            };
            Ok((step, deadline))
        });
        task.waiting = Waiting::Turn;
        task.account(Instant::now());
        task.inputs_waiting.store(task.body.inputs_waiting() as u64, Ordering::Relaxed);
        let ended = match result {
            Ok((Step::Finished, _)) => Some((Execution::Finished, None)),
            Err(failure) => Some((Execution::Failed, Some(failure))),
            Ok((step, deadline)) => {
                task.deadline = deadline;
                match step {
                    Step::Progress => task.wake.ready.store(true, Ordering::SeqCst),
                    Step::Idle(until) => {
                        task.waiting = Waiting::Input;
                        task.deadline = match (deadline, until) {
                            (Some(left), Some(right)) => Some(left.min(right)),
                            (one, other) => one.or(other),
                        };
                    }
                    Step::Full => task.waiting = Waiting::Output,
                    Step::Finished => {}
                }
                None
            }
        };
        match ended {
            None => false,
            Some((state, cause)) => {
                self.end(at, state, cause);
                true
            }
        }
    }

    /// Drops a task's operators, then reports its end.
    fn end(&mut self, at: usize, state: Execution, cause: Option<Failure>) {
        let task = self.tasks.remove(at);
        let dropped = guard(|| {
            drop(task.body);
            Ok(())
        });
        let (state, cause) = match (state, dropped) {
            (Execution::Finished, Err(failure)) => (Execution::Failed, Some(failure)),
            (state, _) => (state, cause),
        };
        self.report(task.id, state, cause);
    }

    fn take_commands(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start(task)) => self.start(task),
                Ok(Command::Cancel(id)) => {
                    if let Some(at) = self.tasks.iter().position(|task| task.id == id) {
                        self.end(at, Execution::Canceled, None);
                    }
                }
                Ok(Command::CancelAll) => {
                    while !self.tasks.is_empty() {
                        self.end(0, Execution::Canceled, None);
                    }
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    fn start(&mut self, task: NewTask) {
        self.report(task.id, Execution::Initializing, None);
        let since = Instant::now();
        let opened = guard(|| {
            let mut body = (task.build)()?;
            body.open()?;
            Ok(body)
        });
        match opened {
            Err(failure) => self.report(task.id, Execution::Failed, Some(failure)),
            Ok(body) => {
                self.report(task.id, Execution::Running, None);
                self.tasks.push(RunningTask {
                    id: task.id,
                    body,
                    wake: task.wake,
                    counters: task.counters,
                    inputs_waiting: task.inputs_waiting,
                    waiting: Waiting::Turn,
                    since,
                    deadline: None,
                });
            }
        }
    }

    fn park(&mut self, now: Instant) {
        self.parker.parked.store(true, Ordering::SeqCst);
        // Looked at again after the announcement: a wake in between is not lost. A command
        // unparks too, and one that came before the announcement is found by the next turn.
        let ready = self.tasks.iter().any(|task| task.wake.ready.load(Ordering::SeqCst));
        let deadline = self.tasks.iter().filter_map(|task| task.deadline).min();
        if ready || self.has_commands() {
            self.parker.parked.store(false, Ordering::SeqCst);
            return;
        }
        match deadline {
            Some(due) => {
                std::thread::park_timeout(due.saturating_duration_since(now).min(ACCOUNT_EVERY));
            }
            None if self.tasks.is_empty() => std::thread::park(),
            None => std::thread::park_timeout(ACCOUNT_EVERY),
        }
        self.parker.parked.store(false, Ordering::SeqCst);
        let now = Instant::now();
        for task in &mut self.tasks {
            task.account(now);
        }
    }

    /// Takes commands that came while the thread was about to park; `true` if there were any.
    fn has_commands(&mut self) -> bool {
        let before = self.tasks.len();
        self.take_commands();
        !self.open || self.tasks.len() != before
    }
}

/// Counters that user code made, by name; shared by control and slot thread.
pub(crate) type UserCounters = Arc<Mutex<BTreeMap<String, Counter>>>;
