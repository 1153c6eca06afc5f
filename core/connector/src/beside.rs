//! Calls of a writer that may block, on a thread beside the slot of its task.
//!
//! The writer itself goes to the thread with a call and comes back with the answer, so it needs no
//! lock and none of its calls overlap. Its task is full meanwhile and the other tasks of the slot
//! have their turns. A task ends when nothing of it runs beside the slot any more: what its writers
//! leave behind is complete when others hear of its end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Instant;

use millstream_network::{Batch, Flow};
use millstream_types::CheckpointId;

use crate::sink::{Blocks, SinkWriter};
use crate::{ErrorContext, Result, bail};

/// The calls of one task that run beside its slot.
#[derive(Debug)]
pub struct Beside {
    running: AtomicUsize,
    place_of_panic: fn() -> Option<String>,
}

impl Beside {
    /// None is running. The function says where the last panic of the thread was that calls it.
    #[must_use]
    pub fn new(place_of_panic: fn() -> Option<String>) -> Self {
        Self { running: AtomicUsize::new(0), place_of_panic }
    }

    /// Whether a call is running. The task is woken when that changes.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0
    }
}

/// A call that is running, until it is dropped.
struct Running {
    beside: Arc<Beside>,
    waker: Waker,
}

impl Running {
    fn new(beside: &Arc<Beside>, waker: &Waker) -> Self {
        beside.running.fetch_add(1, Ordering::SeqCst);
        Self { beside: Arc::clone(beside), waker: waker.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.beside.running.fetch_sub(1, Ordering::SeqCst);
        self.waker.wake_by_ref();
    }
}

/// Wakes the task of a writer, and notes that the writer has.
struct WriterWake {
    called: AtomicBool,
    waker: Waker,
}

impl Wake for WriterWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::SeqCst);
        self.waker.wake_by_ref();
    }
}

/// A call of a writer.
enum Call<T> {
    Write(Batch<T>),
    Resume,
    OnTime(Instant),
    PreCommit(CheckpointId),
}

impl<T> Call<T> {
    fn make<W: SinkWriter<T>>(self, writer: &mut W) -> Result<Answer<W::Committable>> {
        match self {
            Self::Write(batch) => writer.write(batch).map(Answer::Flow),
            Self::Resume => writer.resume().map(Answer::Flow),
            Self::OnTime(now) => writer.on_time(now).map(Answer::Flow),
            Self::PreCommit(id) => {
                writer.pre_commit(id).map(|named| Answer::PreCommitted(id, named))
            }
        }
    }
}

/// The answer to a call of a writer.
#[derive(Debug)]
pub enum Answer<C> {
    /// Whether the writer takes more.
    Flow(Flow),
    /// The committables that it has named for this checkpoint.
    PreCommitted(CheckpointId, Vec<C>),
    /// None yet: the call runs beside the slot, and the task will be woken.
    Later,
}

type Outcome<C> = thread::Result<Result<Answer<C>>>;

/// A thread that makes calls, one at a time. It ends when this is dropped.
struct Caller<T, W: SinkWriter<T>> {
    calls: SyncSender<(W, Call<T>, Running)>,
    answers: Receiver<(W, Outcome<W::Committable>)>,
}

impl<T, W> Caller<T, W>
where
    T: Send + 'static,
    W: SinkWriter<T> + 'static,
    W::Committable: Send + 'static,
{
    fn start(place_of_panic: fn() -> Option<String>) -> Result<Self> {
        let (calls, waiting) = sync_channel::<(W, Call<T>, Running)>(1);
        let (sender, answers) = sync_channel(1);
        let run = move || {
            for (mut writer, call, running) in waiting {
                let outcome = catch_unwind(AssertUnwindSafe(|| call.make(&mut writer)));
                let outcome = outcome.map_err(|panic| with_place(panic, place_of_panic()));
                // The task takes the answer, or waits for it before it ends.
                let _ = sender.send((writer, outcome));
                drop(running);
            }
        };
        let thread = thread::Builder::new().name("sink-writer".to_owned()).spawn(run);
        thread.context("no thread could be started for what blocks")?;
        Ok(Self { calls, answers })
    }
}

/// A panic's message with the place of the panic.
fn with_place(panic: Box<dyn Any + Send>, place: Option<String>) -> Box<dyn Any + Send> {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    match (message, place) {
        (Some(message), Some(place)) => Box::new(format!(" at {place}: {message}")),
        (Some(message), None) => Box::new(format!(": {message}")),
        (None, _) => panic,
    }
}

/// A writer whose calls run where it says, with the surroundings of its task.
pub struct PlacedWriter<T, W: SinkWriter<T>> {
    /// `None` while a call runs beside the slot.
    writer: Option<W>,
    blocks: Blocks,
    /// `None` if every call is made at once, as in a job that a test steps.
    beside: Option<Arc<Beside>>,
    caller: Option<Caller<T, W>>,
    wake: Arc<WriterWake>,
    /// The sink's name.
    name: String,
}

impl<T, W> PlacedWriter<T, W>
where
    T: Send + 'static,
    W: SinkWriter<T> + 'static,
    W::Committable: Send + 'static,
{
    /// Makes the writer of the sink of this name with the waker that it is to call.
    ///
    /// # Errors
    /// The writer cannot be made.
    pub fn new(
        name: String,
        waker: &Waker,
        beside: Option<Arc<Beside>>,
        make: impl FnOnce(Waker) -> Result<W>,
    ) -> Result<Self> {
        let wake = WriterWake { called: AtomicBool::new(false), waker: waker.clone() };
        let wake = Arc::new(wake);
        let writer = make(Arc::clone(&wake).into())?;
        let blocks = if beside.is_some() { writer.blocks() } else { Blocks::Nothing };
        Ok(Self { writer: Some(writer), blocks, beside, caller: None, wake, name })
    }

    /// Has the writer write a batch.
    ///
    /// # Errors
    /// The writer cannot.
    pub fn write(&mut self, batch: Batch<T>) -> Result<Answer<W::Committable>> {
        self.call(Call::Write(batch))
    }

    /// Has the writer do what is due.
    ///
    /// # Errors
    /// The writer cannot.
    pub fn on_time(&mut self, now: Instant) -> Result<Answer<W::Committable>> {
        // A thread is not woken for nothing.
        let is_due = || self.next_time().is_some_and(|due| now >= due);
        match self.blocks {
            Blocks::Everything if !is_due() => Ok(Answer::Flow(Flow::Ready)),
            Blocks::Nothing | Blocks::PreCommit | Blocks::Everything => {
                self.call(Call::OnTime(now))
            }
        }
    }

    /// The time of [`SinkWriter::next_time`].
    #[must_use]
    pub fn next_time(&self) -> Option<Instant> {
        self.writer.as_ref()?.next_time()
    }

    /// Has the writer complete what it has written.
    ///
    /// # Errors
    /// The writer cannot.
    pub fn pre_commit(&mut self, id: CheckpointId) -> Result<Answer<W::Committable>> {
        self.call(Call::PreCommit(id))
    }

    /// Goes on after [`Flow::Full`] or [`Answer::Later`].
    ///
    /// # Errors
    /// As of the call that was answered so.
    pub fn resume(&mut self) -> Result<Answer<W::Committable>> {
        if self.writer.is_none() {
            return self.take_answer();
        }
        match self.blocks {
            // It was woken by something else.
            Blocks::Everything if !self.wake.called.load(Ordering::SeqCst) => {
                Ok(Answer::Flow(Flow::Full))
            }
            Blocks::Nothing | Blocks::PreCommit | Blocks::Everything => self.call(Call::Resume),
        }
    }

    /// The records that the writer has taken and not begun to write, if it gives them back. It is
    /// not asked while a call runs, or if all of its calls may block.
    ///
    /// # Errors
    /// The writer has lost them.
    pub fn hand_back(&mut self) -> Result<Option<Batch<T>>> {
        match (&mut self.writer, self.blocks) {
            (Some(writer), Blocks::Nothing | Blocks::PreCommit) => writer.hand_back(),
            (None, _) | (_, Blocks::Everything) => Ok(None),
        }
    }

    fn call(&mut self, call: Call<T>) -> Result<Answer<W::Committable>> {
        let may_block = match self.blocks {
            Blocks::Nothing => false,
            Blocks::PreCommit => matches!(call, Call::PreCommit(_)),
            Blocks::Everything => true,
        };
        let Some(beside) = self.beside.as_ref().filter(|_| may_block) else {
            return match &mut self.writer {
                Some(writer) => call.make(writer),
                None => bail!("its writer was called while another call runs"),
            };
        };
        self.wake.called.store(false, Ordering::SeqCst);
        let caller = match self.caller.take() {
            Some(caller) => caller,
            None => Caller::start(beside.place_of_panic)?,
        };
        let running = Running::new(beside, &self.wake.waker);
        let writer = self.writer.take().context("its writer was called while another call runs")?;
        let sent = caller.calls.send((writer, call, running));
        self.caller = Some(caller);
        if sent.is_err() {
            bail!("the thread of its writer has died");
        }
        Ok(Answer::Later)
    }

    /// Takes the answer of the call that runs, if it is there.
    fn take_answer(&mut self) -> Result<Answer<W::Committable>> {
        let answer = self.caller.as_ref().map(|caller| caller.answers.try_recv());
        let (writer, outcome) = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(TryRecvError::Empty)) => return Ok(Answer::Later),
            Some(Err(TryRecvError::Disconnected)) | None => {
                bail!("the thread of its writer has died")
            }
        };
        if self.blocks == Blocks::PreCommit {
            // No thread waits for the next checkpoint.
            self.caller = None;
        }
        self.writer = Some(writer);
        let answer = outcome.unwrap_or_else(|panic| match panic.downcast::<String>() {
            Ok(message) => resume_unwind(Box::new(format!("sink {:?}{message}", self.name))),
            Err(panic) => resume_unwind(panic),
        })?;
        // The writer may have called its waker before its answer was here.
        match answer {
            Answer::Flow(Flow::Full) if self.wake.called.load(Ordering::SeqCst) => {
                self.call(Call::Resume)
            }
            answer => Ok(answer),
        }
    }
}

impl<T, W: SinkWriter<T>> Drop for PlacedWriter<T, W> {
    fn drop(&mut self) {
        if let (None, Some(caller)) = (&self.writer, &self.caller) {
            // The end of the task is told when the call has ended: committers rely on that.
            drop(caller.answers.recv());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Wakes the test.
    struct Bell(SyncSender<()>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.try_send(());
        }
    }

    /// A writer that is full behind each batch until it has called its waker so many times.
    struct Filling {
        waker: Waker,
        left: u32,
        resumed: Arc<AtomicUsize>,
        /// Where the waker is called once more.
        later: SyncSender<Waker>,
    }

    impl Filling {
        /// Is full, and calls its waker: at once or later, by another thread.
        fn fill(&mut self) -> Flow {
            if self.left == 0 {
                return Flow::Ready;
            }
            self.left -= 1;
            match self.left % 2 {
                0 => self.waker.wake_by_ref(),
                _ => drop(self.later.send(self.waker.clone())),
            }
            Flow::Full
        }
    }

    impl SinkWriter<u32> for Filling {
        type Committable = ();

        fn blocks(&self) -> Blocks {
            Blocks::Everything
        }

        fn write(&mut self, batch: Batch<u32>) -> Result<Flow> {
            self.left = batch.records().iter().sum();
            Ok(self.fill())
        }

        fn resume(&mut self) -> Result<Flow> {
            self.resumed.fetch_add(1, Ordering::SeqCst);
            Ok(self.fill())
        }

        fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<()>> {
            Ok(vec![()])
        }
    }

    /// Answers of a writer beside the slot, as its task takes them.
    fn settle(
        writer: &mut PlacedWriter<u32, Filling>,
        woken: &Receiver<()>,
        mut answer: Answer<()>,
    ) -> Answer<()> {
        while matches!(answer, Answer::Later | Answer::Flow(Flow::Full)) {
            woken.recv_timeout(Duration::from_secs(30)).expect("the task is not woken");
            answer = writer.resume().unwrap();
        }
        answer
    }

    #[test]
    fn no_call_of_a_waker_is_lost_and_none_comes_without_it() {
        let (bell, woken) = sync_channel(1);
        let (later, wakers) = sync_channel::<Waker>(16);
        let waking = thread::spawn(move || wakers.iter().for_each(|waker| waker.wake()));
        let (resumed, beside) = (Arc::<AtomicUsize>::default(), Arc::new(Beside::new(|| None)));
        let make = |waker| {
            Ok(Filling { waker, left: 0, resumed: Arc::clone(&resumed), later: later.clone() })
        };
        let waker = Waker::from(Arc::new(Bell(bell)));
        let name = "sums".to_owned();
        let mut writer = PlacedWriter::new(name, &waker, Some(Arc::clone(&beside)), make).unwrap();
        for _ in 0..2_000 {
            for times in 0..4 {
                let before = resumed.load(Ordering::SeqCst);
                let answer = writer.write(Batch::of(vec![times])).unwrap();
                let answer = settle(&mut writer, &woken, answer);
                assert!(matches!(answer, Answer::Flow(Flow::Ready)));
                assert_eq!(resumed.load(Ordering::SeqCst) - before, times as usize);
            }
            let answer = writer.pre_commit(CheckpointId::FIRST).unwrap();
            let answer = settle(&mut writer, &woken, answer);
            assert!(matches!(answer, Answer::PreCommitted(_, named) if named.len() == 1));
        }
        drop((writer, later));
        assert!(!beside.is_working());
        waking.join().unwrap();
    }
}
