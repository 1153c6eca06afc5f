//! A slot: one thread that steps its tasks by turns.
//!
//! Each task has a waker of its own. The thread gives a turn to each task that was woken or made
//! progress, and parks when none is ready, until a waker or a deadline. A turn is a step, or more
//! while batches wait at the task's inputs: they are read while they are in the cache, and the
//! tasks that wrote them get no turn to add more (keyed sums of a million keys: 1.16 times the
//! rate). A task whose snapshot is being written writes one slice of it after each turn, and goes
//! on with slices while it waits for input or for its output. Around each step the thread notes the
//! task's next activity in its [`TimeSpent`]: working, idle, or backpressured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use millstream_operators::{Beside, Step, TaskBody, turn};
use millstream_protocol::host::{Execution, Failure};
use millstream_state::SliceBudget;
use millstream_task_checkpoint::SLICE_BYTES;
use millstream_types::{Clock, ExecutionAttemptId};

use crate::failure::guard;
use crate::link::{TaskReport, ToControl};
use crate::time_spent::{Activity, TimeSpent};
use crate::turns::{Part, Run, Threads};

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

type BuildTask = Box<dyn FnOnce() -> millstream_operators::Result<Box<dyn TaskBody>> + Send>;

/// A task that is to run.
pub(crate) struct NewTask {
    pub(crate) id: ExecutionAttemptId,
    pub(crate) wake: Arc<TaskWake>,
    pub(crate) time: Arc<TimeSpent>,
    /// Builds the operators; runs on the slot's thread, because it is user code.
    pub(crate) build: BuildTask,
    /// Number of batches that wait at the inputs, for the metrics.
    pub(crate) inputs_waiting: Arc<std::sync::atomic::AtomicU64>,
    /// Its calls beside the slot.
    pub(crate) beside: Arc<Beside>,
}

enum Command {
    Start(NewTask),
    Cancel(ExecutionAttemptId),
    CancelAll,
    /// The job has stopped: the tasks that stand behind its barrier have finished.
    FinishStopped,
}

/// The commands that a slot's thread has not carried out yet, in order. A host starts each attempt
/// once and other commands that wait are not repeated, so these are few per attempt.
#[derive(Default)]
struct Commands {
    waiting: Vec<Command>,
    closed: bool,
}

impl Commands {
    fn add(&mut self, command: Command) {
        let repeated = match &command {
            Command::Start(_) => false,
            Command::Cancel(id) => self
                .waiting
                .iter()
                .any(|waiting| matches!(waiting, Command::Cancel(other) if other == id)),
            Command::CancelAll => matches!(self.waiting.last(), Some(Command::CancelAll)),
            Command::FinishStopped => matches!(self.waiting.last(), Some(Command::FinishStopped)),
        };
        if !repeated {
            self.waiting.push(command);
        }
    }
}

fn lock(commands: &Mutex<Commands>) -> MutexGuard<'_, Commands> {
    commands.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot's thread seen from the control thread. Dropping it ends the thread and its tasks.
pub(crate) struct Slot {
    commands: Arc<Mutex<Commands>>,
    parker: Arc<Parker>,
}

impl Slot {
    /// Starts the thread, if there are to be any.
    pub(crate) fn start(
        index: u32,
        threads: &Threads,
        control: SyncSender<ToControl>,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let commands = Arc::<Mutex<Commands>>::default();
        let received = Arc::clone(&commands);
        let parker = Arc::new(Parker { parked: AtomicBool::new(false), thread: Mutex::default() });
        let shared = Arc::clone(&parker);
        let thread = threads
            .start(format!("slot-{index}"), SlotLoop::new(received, shared, control, clock))?;
        *parker.thread.lock().unwrap_or_else(PoisonError::into_inner) = thread;
        Ok(Self { commands, parker })
    }

    /// A waker for a task that will run here, and the flag that it sets.
    pub(crate) fn waker(&self) -> (Waker, Arc<TaskWake>) {
        let ready = AtomicBool::new(true);
        let wake = Arc::new(TaskWake { ready, parker: Arc::clone(&self.parker) });
        (Arc::clone(&wake).into(), wake)
    }

    fn send(&self, command: Command) {
        lock(&self.commands).add(command);
        self.parker.unpark();
    }

    pub(crate) fn run(&self, task: NewTask) {
        self.send(Command::Start(task));
    }

    pub(crate) fn cancel(&self, task: ExecutionAttemptId) {
        self.send(Command::Cancel(task));
    }

    pub(crate) fn finish_stopped(&self) {
        self.send(Command::FinishStopped);
    }

    pub(crate) fn cancel_all(&self) {
        self.send(Command::CancelAll);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.commands).closed = true;
        self.parker.unpark();
    }
}

/// A task with input gives way to the others of its slot after this time.
const TURN: Duration = Duration::from_millis(1);

struct RunningTask {
    id: ExecutionAttemptId,
    body: Box<dyn TaskBody>,
    wake: Arc<TaskWake>,
    time: Arc<TimeSpent>,
    inputs_waiting: Arc<std::sync::atomic::AtomicU64>,
    deadline: Option<Instant>,
    /// A barrier that stops the job has left it.
    stopped: bool,
    beside: Arc<Beside>,
    /// Its end, once nothing of it runs beside the slot any more.
    ending: Option<(Execution, Option<Failure>)>,
    /// A part of its snapshot is left to write.
    slices: bool,
}

impl RunningTask {
    fn is_woken(&self) -> bool {
        match self.ending {
            None => self.wake.ready.load(Ordering::SeqCst) && !self.stopped,
            Some(_) => !self.beside.is_working(),
        }
    }
}

struct SlotLoop {
    commands: Arc<Mutex<Commands>>,
    parker: Arc<Parker>,
    control: SyncSender<ToControl>,
    clock: Clock,
    tasks: Vec<RunningTask>,
    open: bool,
}

impl SlotLoop {
    fn new(
        commands: Arc<Mutex<Commands>>,
        parker: Arc<Parker>,
        control: SyncSender<ToControl>,
        clock: Clock,
    ) -> Self {
        Self { commands, parker, control, clock, tasks: Vec::new(), open: true }
    }

    fn report(&self, id: ExecutionAttemptId, state: Execution, cause: Option<Failure>) {
        let _ = self.control.send(ToControl::Task(TaskReport::State(id, state, cause)));
    }

    /// Gives one task its turn, if it is ready or has slices to write: whether it ended, and the
    /// time after it.
    fn visit(&mut self, at: usize, mut now: Instant) -> (bool, Instant) {
        let is_ready = self.is_ready(at, now);
        let mut ended = false;
        if is_ready {
            (ended, now) = self.turn(at, now);
        }
        if !ended && (is_ready || self.has_slices(at)) {
            (ended, now) = self.slice(at, now);
        }
        (ended, now)
    }

    fn is_ready(&self, at: usize, now: Instant) -> bool {
        self.tasks.get(at).is_some_and(|task| {
            if task.ending.is_some() {
                return !task.beside.is_working();
            }
            let is_due = || task.deadline.is_some_and(|due| now >= due);
            (task.wake.ready.load(Ordering::Relaxed) || is_due()) && !task.stopped
        })
    }

    fn has_slices(&self, at: usize) -> bool {
        self.tasks.get(at).is_some_and(|task| task.slices)
    }

    /// Writes a slice of a task's snapshot, if one is being written: whether the task ended, and
    /// the time after it.
    fn slice(&mut self, at: usize, now: Instant) -> (bool, Instant) {
        let Some(task) = self.tasks.get_mut(at) else { return (true, now) };
        if !std::mem::replace(&mut task.slices, false) && !task.body.has_slices() {
            return (false, now);
        }
        let before = task.time.replace(Activity::Busy, self.clock.now());
        let written = guard(|| Ok(task.body.slice(SliceBudget::of(SLICE_BYTES))));
        let after = self.clock.now();
        match written {
            Ok(left) => {
                task.slices = left;
                task.time.turn_to(before, after);
                (false, after)
            }
            Err(failure) => (self.end(at, Execution::Failed, Some(failure)), self.clock.now()),
        }
    }

    /// Steps one task, again and again for [`TURN`] while it makes progress and batches wait at its
    /// inputs. The answer is that of [`Self::step`].
    fn turn(&mut self, at: usize, now: Instant) -> (bool, Instant) {
        let (end, mut now) = (now + TURN, now);
        loop {
            let ended;
            (ended, now) = self.step(at, now);
            if ended || now >= end || !self.has_input(at) {
                return (ended, now);
            }
        }
    }

    /// Whether a task made progress and more batches wait for it.
    fn has_input(&self, at: usize) -> bool {
        self.tasks.get(at).is_some_and(|task| {
            let waiting = task.inputs_waiting.load(Ordering::Relaxed);
            waiting > 0 && task.wake.ready.load(Ordering::Relaxed) && !task.stopped
        })
    }

    /// Steps one task: whether it ended, and the time after its work on input. A task that makes
    /// progress looks at the clock once; one that comes to rest once more, behind its flush.
    fn step(&mut self, at: usize, now: Instant) -> (bool, Instant) {
        let clock = &self.clock;
        let Some(task) = self.tasks.get_mut(at) else { return (true, now) };
        if let Some((state, cause)) = task.ending.take() {
            return (self.end(at, state, cause), self.clock.now());
        }
        // Cleared before the step: what wakes the task during it counts.
        task.wake.ready.store(false, Ordering::SeqCst);
        task.time.turn_to(Activity::Busy, now);
        let mut after = None;
        let result = guard(|| turn(&mut *task.body, || *after.insert(clock.now())));
        let after = after.unwrap_or_else(|| clock.now());
        task.inputs_waiting.store(task.body.inputs_waiting() as u64, Ordering::Relaxed);
        let ended = match result {
            Ok((Step::Finished, _)) => Some((Execution::Finished, None)),
            Err(failure) => Some((Execution::Failed, Some(failure))),
            Ok((step, deadline)) => {
                task.deadline = deadline;
                match step {
                    Step::Progress => task.wake.ready.store(true, Ordering::SeqCst),
                    Step::Idle(_) => task.time.turn_to(Activity::Idle, clock.now()),
                    Step::Full if task.beside.is_working() => {}
                    Step::Full => task.time.turn_to(Activity::Backpressured, clock.now()),
                    Step::Stopped => {
                        task.stopped = true;
                        task.time.turn_to(Activity::Idle, clock.now());
                    }
                    Step::Finished => {}
                }
                None
            }
        };
        match ended {
            None => (false, after),
            Some((state, cause)) => (self.end(at, state, cause), self.clock.now()),
        }
    }

    /// Drops a task's operators, then reports its end; `false` if that must wait until nothing of
    /// the task runs beside the slot: the other tasks have their turns meanwhile.
    fn end(&mut self, at: usize, state: Execution, cause: Option<Failure>) -> bool {
        if let Some(task) = self.tasks.get_mut(at).filter(|task| task.beside.is_working()) {
            task.ending.get_or_insert((state, cause));
            return false;
        }
        let task = self.tasks.remove(at);
        let (state, cause) = task.ending.unwrap_or((state, cause));
        let dropped = guard(|| {
            drop(task.body);
            Ok(())
        });
        task.time.end(self.clock.now());
        let (state, cause) = match (state, dropped) {
            (Execution::Finished, Err(failure)) => (Execution::Failed, Some(failure)),
            (state, _) => (state, cause),
        };
        self.report(task.id, state, cause);
        true
    }

    /// Carries out the commands that wait; `true` if there were any.
    fn take_commands(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut commands = lock(&self.commands);
            self.open = !commands.closed;
            if commands.waiting.is_empty() || !self.open {
                return any;
            }
            any = true;
            let waiting = std::mem::take(&mut commands.waiting);
            drop(commands);
            waiting.into_iter().for_each(|command| self.obey(command));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(task) => self.start(task),
            Command::Cancel(id) => {
                if let Some(at) = self.tasks.iter().position(|task| task.id == id) {
                    self.end(at, Execution::Canceled, None);
                }
            }
            Command::FinishStopped => {
                let has_stopped = |task: &RunningTask| task.stopped && task.ending.is_none();
                while let Some(at) = self.tasks.iter().position(has_stopped) {
                    self.end(at, Execution::Finished, None);
                }
            }
            Command::CancelAll => {
                let mut at = 0;
                while at < self.tasks.len() {
                    at += usize::from(!self.end(at, Execution::Canceled, None));
                }
            }
        }
    }

    fn start(&mut self, task: NewTask) {
        self.report(task.id, Execution::Initializing, None);
        task.time.turn_to(Activity::Busy, self.clock.now());
        let opened = guard(|| {
            let mut body = (task.build)()?;
            body.open()?;
            Ok(body)
        });
        match opened {
            Err(failure) => {
                task.time.end(self.clock.now());
                self.report(task.id, Execution::Failed, Some(failure));
            }
            Ok(body) => {
                self.report(task.id, Execution::Running, None);
                self.tasks.push(RunningTask {
                    id: task.id,
                    body,
                    wake: task.wake,
                    time: task.time,
                    inputs_waiting: task.inputs_waiting,
                    deadline: None,
                    stopped: false,
                    beside: task.beside,
                    ending: None,
                    slices: false,
                });
            }
        }
    }

    fn park(&mut self) {
        self.parker.parked.store(true, Ordering::SeqCst);
        // Looked at again after the announcement: a wake in between is not lost. A command
        // unparks too, and one that came before the announcement is found by the next turn.
        let ready = self.tasks.iter().any(RunningTask::is_woken);
        let deadline = self.tasks.iter().filter_map(|task| task.deadline).min();
        if ready || self.take_commands() || !self.open {
            self.parker.parked.store(false, Ordering::SeqCst);
            return;
        }
        match deadline {
            Some(due) => std::thread::park_timeout(self.clock.sleep_until(due)),
            None => std::thread::park(),
        }
        self.parker.parked.store(false, Ordering::SeqCst);
    }
}

impl Run for SlotLoop {
    fn run(mut self) {
        let mut now = self.clock.now();
        while self.open {
            if self.take_commands() {
                now = self.clock.now();
            }
            let mut at = 0;
            while at < self.tasks.len() {
                let ended;
                (ended, now) = self.visit(at, now);
                at += usize::from(!ended);
            }
            if !self.tasks.iter().any(|task| task.is_woken() || task.slices) {
                self.park();
                now = self.clock.now();
            }
        }
    }
}

impl Part for SlotLoop {
    /// Carries out commands, or visits one of the tasks that are ready.
    fn turn(&mut self, choice: usize) -> bool {
        if self.take_commands() {
            return true;
        }
        let now = self.clock.now();
        let is_ready = |at: &usize| self.is_ready(*at, now) || self.has_slices(*at);
        let ready = (0..self.tasks.len()).filter(is_ready).count();
        let Some(chosen) = choice.checked_rem(ready) else { return false };
        if let Some(at) = (0..self.tasks.len()).filter(is_ready).nth(chosen) {
            self.visit(at, now);
        }
        true
    }

    fn next_time(&self) -> Option<Instant> {
        let running = self.tasks.iter().filter(|task| !task.stopped && task.ending.is_none());
        running.filter_map(|task| task.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use millstream_network::Flow;
    use millstream_operators::{Moment, Result};
    use millstream_types::{ManualClock, VertexId};

    use super::*;

    #[test]
    fn a_cancellation_that_waits_is_not_repeated() {
        let id =
            |attempt| ExecutionAttemptId { vertex: VertexId::from_u128(1), subtask: 0, attempt };
        let mut commands = Commands::default();
        for _ in 0..1_000 {
            (0..3).for_each(|attempt| commands.add(Command::Cancel(id(attempt))));
        }
        (0..1_000).for_each(|_| commands.add(Command::CancelAll));
        assert_eq!(commands.waiting.len(), 4);
    }

    /// Runs a subtask in a slot.
    fn run(
        slot: &Slot,
        subtask: u32,
        time: Arc<TimeSpent>,
        build: impl FnOnce() -> Result<Box<dyn TaskBody>> + Send + 'static,
    ) {
        slot.run(NewTask {
            id: ExecutionAttemptId { vertex: VertexId::from_u128(1), subtask, attempt: 0 },
            wake: slot.waker().1,
            time,
            build: Box::new(build),
            inputs_waiting: Arc::default(),
            beside: Arc::new(Beside::new(|| None)),
        });
    }

    /// A task whose every step takes this long and ends like this.
    struct Fixed(Duration, Step);

    impl TaskBody for Fixed {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn step(&mut self) -> Result<Step> {
            std::thread::sleep(self.0);
            Ok(self.1)
        }

        fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
            Ok(Flow::Ready)
        }

        fn next_time(&self) -> Option<Instant> {
            None
        }

        fn inputs_waiting(&self) -> usize {
            0
        }
    }

    /// A task without input, whose output is due at some time, as records in a buffer are.
    struct Waiting {
        due: Option<Instant>,
        seen: Arc<Seen>,
    }

    #[derive(Default)]
    struct Seen {
        stepped: AtomicBool,
        flushed: AtomicBool,
    }

    impl TaskBody for Waiting {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn step(&mut self) -> Result<Step> {
            self.seen.stepped.store(true, Ordering::SeqCst);
            Ok(Step::Idle(None))
        }

        fn on_time(&mut self, moment: Moment) -> Result<Flow> {
            if self.due.take_if(|due| moment.now >= *due).is_some() {
                self.seen.flushed.store(true, Ordering::SeqCst);
            }
            Ok(Flow::Ready)
        }

        fn next_time(&self) -> Option<Instant> {
            self.due
        }

        fn inputs_waiting(&self) -> usize {
            0
        }
    }

    /// A task that waits for input and whose output takes an hour to flush, once.
    struct SlowFlush {
        manual: ManualClock,
        flushed: bool,
    }

    impl TaskBody for SlowFlush {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn step(&mut self) -> Result<Step> {
            Ok(Step::Idle(None))
        }

        fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
            if !std::mem::replace(&mut self.flushed, true) {
                self.manual.advance(Duration::from_secs(3600));
            }
            Ok(Flow::Ready)
        }

        fn next_time(&self) -> Option<Instant> {
            None
        }

        fn inputs_waiting(&self) -> usize {
            0
        }
    }

    /// A task of a hundred steps, each of a tenth of a turn, that notes them; so many batches wait
    /// for it at first.
    struct Reader {
        name: char,
        waiting: usize,
        steps: Arc<Mutex<String>>,
        manual: ManualClock,
        left: u32,
    }

    impl TaskBody for Reader {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn step(&mut self) -> Result<Step> {
            self.manual.advance(TURN / 10);
            self.steps.lock().unwrap().push(self.name);
            self.waiting = self.waiting.saturating_sub(1);
            self.left = self.left.saturating_sub(1);
            Ok(if self.left == 0 { Step::Finished } else { Step::Progress })
        }

        fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
            Ok(Flow::Ready)
        }

        fn next_time(&self) -> Option<Instant> {
            None
        }

        fn inputs_waiting(&self) -> usize {
            self.waiting
        }
    }

    /// A task whose every step ends like this, with slices of a snapshot that are left.
    struct InSlices {
        step: Step,
        left: Arc<AtomicU32>,
        steps: Arc<AtomicU32>,
    }

    impl TaskBody for InSlices {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn step(&mut self) -> Result<Step> {
            self.steps.fetch_add(1, Ordering::SeqCst);
            Ok(self.step)
        }

        fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
            Ok(Flow::Ready)
        }

        fn next_time(&self) -> Option<Instant> {
            None
        }

        fn inputs_waiting(&self) -> usize {
            0
        }

        fn has_slices(&self) -> bool {
            self.left.load(Ordering::SeqCst) > 0
        }

        fn slice(&mut self, _budget: SliceBudget) -> bool {
            self.left.fetch_sub(1, Ordering::SeqCst) > 1
        }
    }

    #[test]
    fn a_task_without_input_and_one_whose_output_is_full_go_on_with_their_slices() {
        let (control, _reports) = std::sync::mpsc::sync_channel(64);
        let slot = Slot::start(0, &Threads::Own, control, Clock::system()).unwrap();
        let tasks =
            [(Step::Idle(None), 50), (Step::Full, 50), (Step::Progress, 20)].map(|(step, left)| {
                (step, Arc::new(AtomicU32::new(left)), Arc::<AtomicU32>::default())
            });
        for (subtask, (step, left, steps)) in (0..).zip(&tasks) {
            let (left, steps) = (Arc::clone(left), Arc::clone(steps));
            let body = InSlices { step: *step, left, steps };
            run(&slot, subtask, Arc::default(), move || Ok(Box::new(body)));
        }
        let left = |at: usize| tasks[at].1.load(Ordering::SeqCst);
        until("all slices are written", || (0..3).all(|at| left(at) == 0));
        let steps = |at: usize| tasks[at].2.load(Ordering::SeqCst);
        assert!(steps(0) < 5 && steps(1) < 5, "{} and {} steps", steps(0), steps(1));
        until("the third has its turns", || steps(2) > 30);
    }

    #[test]
    fn a_task_reads_what_waits_for_it_before_the_others_have_their_turns() {
        let (manual, steps) = (ManualClock::new(), Arc::<Mutex<String>>::default());
        let (control, reports) = std::sync::mpsc::sync_channel(64);
        let slot = Slot::start(0, &Threads::Own, control, manual.clock()).unwrap();
        // Both are there before the first turn: their slot waits until the first is built.
        let (go, begin) = std::sync::mpsc::channel::<()>();
        let mut begin = Some(begin);
        for (subtask, name, waiting) in [(0, 's', 0), (1, 'r', 24)] {
            let (steps, manual) = (Arc::clone(&steps), manual.clone());
            let body = Reader { name, waiting, steps, manual, left: 100 };
            let begin = (subtask == 0).then(|| begin.take()).flatten();
            run(&slot, subtask, Arc::default(), move || {
                begin.map(|begin| begin.recv());
                Ok(Box::new(body))
            });
        }
        drop(go);
        until("both have finished", || steps.lock().unwrap().len() == 200);
        drop(reports);
        let steps = steps.lock().unwrap();
        let runs: Vec<usize> = steps.split('s').map(str::len).filter(|run| *run > 0).collect();
        assert_eq!(runs[..5], [10, 10, 4, 1, 1], "{steps}");
    }

    #[test]
    fn a_flush_at_the_end_of_a_step_is_work() {
        let (manual, time) = (ManualClock::new(), Arc::<TimeSpent>::default());
        let (control, _reports) = std::sync::mpsc::sync_channel(64);
        let slot = Slot::start(0, &Threads::Own, control, manual.clock()).unwrap();
        let body = SlowFlush { manual: manual.clone(), flushed: false };
        run(&slot, 0, Arc::clone(&time), move || Ok(Box::new(body)));
        let hour = 3_600_000_000_000;
        let now = || time.until(manual.clock().now());
        until("an hour is spent", || now().busy_ns + now().idle_ns >= hour);
        assert_eq!((now().busy_ns, now().idle_ns), (hour, 0));
    }

    /// A slot that runs such a task, by a clock of its own.
    fn waiting_slot(
        manual: &ManualClock,
        due: Option<Duration>,
    ) -> (Slot, Arc<TimeSpent>, Arc<Seen>) {
        let (control, reports) = std::sync::mpsc::sync_channel(64);
        let slot = Slot::start(0, &Threads::Own, control, manual.clock()).unwrap();
        let (time, seen) = (Arc::<TimeSpent>::default(), Arc::<Seen>::default());
        let due = due.map(|due| manual.clock().now() + due);
        let body = Waiting { due, seen: Arc::clone(&seen) };
        run(&slot, 0, Arc::clone(&time), move || Ok(Box::new(body)));
        for _ in 0..2 {
            assert!(matches!(reports.recv(), Ok(ToControl::Task(TaskReport::State(..)))));
        }
        until("the slot sleeps", || {
            seen.stepped.load(Ordering::SeqCst) && slot.parker.parked.load(Ordering::SeqCst)
        });
        (slot, time, seen)
    }

    fn until(what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is() {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_slot_flushes_when_its_clock_says_so() {
        let manual = ManualClock::new();
        let (_slot, _, seen) = waiting_slot(&manual, Some(Duration::from_secs(3600)));
        manual.advance(Duration::from_secs(3599));
        let asked = manual.asked();
        until("the slot looks at its clock", || manual.asked() > asked + 10);
        assert!(!seen.flushed.load(Ordering::SeqCst), "a second is left");
        manual.advance(Duration::from_secs(1));
        until("the output is flushed", || seen.flushed.load(Ordering::SeqCst));
    }

    #[test]
    fn an_idle_slot_sleeps_until_it_is_woken_and_its_time_is_counted() {
        let manual = ManualClock::new();
        let (slot, time, _) = waiting_slot(&manual, None);
        let asked = manual.asked();
        std::thread::sleep(Duration::from_millis(500));
        // The command that started the task may wake it once more.
        let looks = manual.asked() - asked;
        assert!(looks <= 1, "it looked at its clock {looks} times while nothing was to be done");
        manual.advance(Duration::from_secs(60));
        let spent = time.until(manual.clock().now());
        assert_eq!(spent.idle_ns, 60_000_000_000);
        let asked = manual.asked();
        slot.cancel_all();
        until("the slot is woken", || manual.asked() > asked);
    }

    /// One task never lets the thread park, and two wait behind it.
    #[test]
    fn the_times_of_all_tasks_of_a_slot_add_up_in_every_sample() {
        let (control, reports) = std::sync::mpsc::sync_channel(64);
        let slot = Slot::start(0, &Threads::Own, control, Clock::system()).unwrap();
        let bodies = [
            Fixed(Duration::from_millis(40), Step::Progress),
            Fixed(Duration::ZERO, Step::Full),
            Fixed(Duration::ZERO, Step::Idle(None)),
        ];
        let times: Vec<Arc<TimeSpent>> = (0..)
            .zip(bodies)
            .map(|(subtask, body)| {
                let time = Arc::<TimeSpent>::default();
                run(&slot, subtask, Arc::clone(&time), move || Ok(Box::new(body)));
                time
            })
            .collect();
        // Each says that it initializes and that it runs.
        for _ in 0..2 * times.len() {
            assert!(matches!(reports.recv(), Ok(ToControl::Task(TaskReport::State(..)))));
        }
        let sum = |time: &TimeSpent, now| {
            let spent = time.until(now);
            spent.busy_ns + spent.idle_ns + spent.backpressured_ns
        };
        for _ in 0..5 {
            let from = Instant::now();
            let before: Vec<u64> = times.iter().map(|time| sum(time, from)).collect();
            std::thread::sleep(Duration::from_millis(15));
            let to = Instant::now();
            for (time, before) in times.iter().zip(before) {
                assert_eq!(u128::from(sum(time, to) - before), (to - from).as_nanos());
            }
        }
        // The hog may have its turn first, and each of its turns takes a while.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now: Vec<_> = times.iter().map(|time| time.until(Instant::now())).collect();
            assert_eq!((now[0].idle_ns, now[0].backpressured_ns), (0, 0));
            if now[1].backpressured_ns > 0 && now[2].idle_ns > 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{now:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
