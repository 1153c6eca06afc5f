//! A job that stands still between two calls, each of which returns after what it has caused.
//!
//! It is a job like any other: the planner plans it, and its tasks are those of a cluster, with
//! their exchanges, encoded records and state. They run on the thread of the test, which steps them
//! in a fixed order until none can go on, and by a clock that only the test moves. So a result
//! depends on the calls alone, neither on threads nor on the time of day, and no call waits. (The
//! other way, a job on threads and a source that waits for acknowledgements, would have to count
//! every record in flight, and operators with two inputs would still see them in any order.)

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_api::{
    Batch, CheckpointId, Environment, Execution, Executor, Flow, JobClient, JobResult, JobStatus,
    NoCommitter, Program, Sink, SinkWriter, Source, WriterInfo, bail, ensure, error,
};
use millstream_graph::{JobGraph, JobSettings};
use millstream_runtime::{Pushed, PushedInput, SteppedJob};
use millstream_types::{JobId, ManualClock, Timestamp};

use crate::{Data, Result, RuntimeMode, Stream};

/// The latest processing time, in the year 2500: a [`ManualClock`] counts nanoseconds.
const LATEST: Timestamp = Timestamp::from_millis(16_725_225_600_000);

/// A job with any number of inputs and outputs, driven call by call as a
/// [`Harness`](crate::testing::Harness) is.
///
/// The job starts at the first call that pushes something, or with [`JobHarness::start`]. Inputs,
/// outputs and sources are added before: if one is added later, every call after it is an error.
///
/// ```
/// use millstream::prelude::*;
/// use millstream::testing::JobHarness;
///
/// /// Orders with their payments, which come at most a minute later.
/// fn paid(orders: Stream<u64>, payments: Stream<(u64, u32)>) -> Stream<(u64, u32)> {
///     let payments = payments.key_by(|(order, _)| *order);
///     orders
///         .key_by(|order| *order)
///         .interval_join(payments, 0..=60_000)
///         .apply("paid", |order, payment| Ok((*order, payment.1)))
/// }
///
/// let mut job = JobHarness::new();
/// let (orders, order_stream) = job.timed_input();
/// let (payments, payment_stream) = job.timed_input();
/// let paid = job.output(paid(order_stream, payment_stream));
///
/// orders.push_at(7, 1_000)?;
/// payments.push_at((7, 99), 61_000)?;
/// assert_eq!(paid.take(), [(7, 99)]);
/// payments.push_at((7, 1), 61_001)?;
/// assert!(paid.take().is_empty());
/// job.finish()?;
/// # Ok::<(), millstream::Error>(())
/// ```
pub struct JobHarness(Rc<Shared>);

/// The part of a harness that its inputs need too.
struct Shared {
    environment: RefCell<Environment>,
    clock: ManualClock,
    job: Started,
    /// The job was refused, for this reason.
    refused: RefCell<Option<String>>,
    /// Ends an input that has not ended, one for each.
    inputs: RefCell<Vec<EndInput>>,
    /// The number of outputs.
    outputs: Cell<u32>,
}

type Started = Rc<RefCell<Option<SteppedJob>>>;
type EndInput = Box<dyn Fn(&Shared) -> Result<()>>;

impl Shared {
    /// Whether the job has started, or was refused.
    fn has_begun(&self) -> bool {
        self.job.borrow().is_some() || self.refused.borrow().is_some()
    }

    /// Has every later call say that something was added too late.
    fn refuse_if_begun(&self, what: &str) {
        if self.has_begun() {
            let why = format!("the {what} was added to a harness whose job had started");
            self.refused.borrow_mut().get_or_insert(why);
        }
    }

    /// Starts the job if it has not started, and has it act.
    fn drive(&self, act: impl FnOnce(&mut SteppedJob) -> Result<()>) -> Result<()> {
        if let Some(why) = &*self.refused.borrow() {
            bail!("{why}");
        }
        if self.job.borrow().is_none() {
            let started = self.environment.borrow_mut().execute_async("test");
            if let Err(error) = started {
                *self.refused.borrow_mut() = Some(format!("{error:#}"));
                return Err(error);
            }
        }
        match &mut *self.job.borrow_mut() {
            Some(job) => act(job),
            None => Err(error!("the job has not started")),
        }
    }
}

impl Default for JobHarness {
    fn default() -> Self {
        Self::new()
    }
}

impl JobHarness {
    /// A harness without inputs, with parallelism 1 unless the job says otherwise.
    #[must_use]
    pub fn new() -> Self {
        crate::__private::register_file_systems();
        let (clock, job) = (ManualClock::at(Timestamp::from_millis(0)), Started::default());
        let stepping = Stepping { clock: clock.clone(), job: Rc::clone(&job) };
        let mut environment = Environment::new(Box::new(stepping));
        environment.set_runtime_mode(RuntimeMode::Streaming);
        environment.set_buffer_timeout(Some(Duration::ZERO));
        environment.set_serialize_always(true);
        let environment = RefCell::new(environment);
        let (refused, inputs, outputs) = Default::default();
        Self(Rc::new(Shared { environment, clock, job, refused, inputs, outputs }))
    }

    /// Sets the parallelism of operators that set none.
    ///
    /// The results are the same in each run, but those of different subtasks may come in another
    /// order than the records that caused them.
    pub fn set_parallelism(&mut self, parallelism: u32) {
        self.0.environment.borrow_mut().set_parallelism(parallelism);
    }

    /// Adds an input without event times, and gives its stream.
    pub fn input<T: Data>(&mut self) -> (Input<T>, Stream<T>) {
        self.add_input(false)
    }

    /// Adds an input with event times, and gives its stream.
    pub fn timed_input<T: Data>(&mut self) -> (Input<T>, Stream<T>) {
        self.add_input(true)
    }

    fn add_input<T: Data>(&mut self, timed: bool) -> (Input<T>, Stream<T>) {
        self.0.refuse_if_begun("input");
        let mut inputs = self.0.inputs.borrow_mut();
        let uid = format!("harness input {}", inputs.len() + 1);
        let outer = PushedInput::default();
        let mut environment = self.0.environment.borrow_mut();
        let stream = environment.source_of_body(&uid, timed, outer.source()).parallelism(1);
        let source = Rc::new(InputSource { uid, outer, has_ended: Cell::new(false) });
        let ended = Rc::clone(&source);
        inputs.push(Box::new(move |shared| match ended.has_ended.get() {
            true => Ok(()),
            false => ended.end(shared),
        }));
        (Input { shared: Rc::clone(&self.0), source, timed }, stream)
    }

    /// Starts a stream from a source of the job's own. It reads at the start as far as it can, and
    /// a source without end must at times answer `Polled::Pending`. Threads of a source are its own
    /// and not waited for: what they read comes by chance, in any later call.
    pub fn source<S: Source>(&mut self, uid: &str, source: S) -> Stream<S::Out> {
        self.0.refuse_if_begun("source");
        self.0.environment.borrow_mut().source(uid, source)
    }

    /// Ends a stream in an output, whose results can be taken. A stream of late records or a side
    /// output is one like any other.
    pub fn output<O: Data>(&mut self, stream: Stream<O>) -> Output<O> {
        self.0.refuse_if_begun("output");
        let number = self.0.outputs.get() + 1;
        self.0.outputs.set(number);
        let results = Arc::default();
        stream.sink(&format!("harness output {number}"), Collect(Arc::clone(&results)));
        Output(results)
    }

    /// Starts the job if it has not started.
    ///
    /// # Errors
    /// The job is refused, or an operator cannot be made.
    pub fn start(&self) -> Result<()> {
        self.0.drive(|_| Ok(()))
    }

    /// Moves processing time forward; timers fire on the way, each at its time. A job that has not
    /// started does not start, and has that time at its start.
    ///
    /// # Errors
    /// The job fails or has failed, or the time is beyond the year 2500.
    pub fn advance(&self, by: Duration) -> Result<()> {
        let to = self.0.clock.clock().wall().saturating_add(by);
        ensure!(to <= LATEST, "a harness has no processing time beyond {LATEST}");
        if self.0.has_begun() {
            return self.0.drive(|job| job.advance(by));
        }
        self.0.clock.advance(by);
        Ok(())
    }

    /// Moves processing time forward to a time in milliseconds since 1970, as
    /// [`JobHarness::advance`] does.
    ///
    /// # Errors
    /// The job fails or has failed, or the time is before [`JobHarness::processing_time`] or beyond
    /// the year 2500.
    pub fn advance_to(&self, millis: i64) -> Result<()> {
        let (now, to) = (self.0.clock.clock().wall(), Timestamp::from_millis(millis));
        ensure!(to >= now, "processing time is at {now} and cannot go back to {to}");
        self.advance(to.saturating_since(now))
    }

    /// The processing time, in milliseconds since 1970.
    #[must_use]
    pub fn processing_time(&self) -> i64 {
        self.0.clock.clock().wall().as_millis()
    }

    /// Ends all inputs that have not ended, and so the job.
    ///
    /// # Errors
    /// The job fails or has failed, or it goes on without its inputs: a source of its own has not
    /// ended.
    pub fn finish(&self) -> Result<()> {
        for end in &*self.0.inputs.borrow() {
            end(&self.0)?;
        }
        self.0.drive(|job| {
            job.run()?;
            let running: Vec<&str> = job.running().collect();
            ensure!(
                running.is_empty(),
                "the job's inputs have ended and it has not: {} waits for processing time, which \
                 advance() moves, or for a thread of user code",
                running.join(", ")
            );
            Ok(())
        })
    }
}

/// The source of an input. The harness has it too, to end it.
struct InputSource<T> {
    uid: String,
    outer: PushedInput<T>,
    has_ended: Cell<bool>,
}

impl<T: Data> InputSource<T> {
    /// Gives the source an item, and returns when all of its consequences have happened.
    fn give(&self, shared: &Shared, item: Pushed<T>) -> Result<()> {
        ensure!(!self.has_ended.get(), "{} has ended", self.uid);
        shared.drive(|job| {
            // A job that has failed says so.
            job.run()?;
            ensure!(self.outer.push(item), self.held_up());
            job.run()?;
            ensure!(self.outer.is_taken(), self.held_up());
            Ok(())
        })
    }

    fn end(&self, shared: &Shared) -> Result<()> {
        self.give(shared, Pushed::End)?;
        self.has_ended.set(true);
        Ok(())
    }

    fn held_up(&self) -> String {
        format!(
            "{} is held up: an operator behind it takes no more before processing time has moved, \
             which advance() does, or a thread of user code is done",
            self.uid
        )
    }
}

/// An input of a [`JobHarness`].
pub struct Input<T> {
    shared: Rc<Shared>,
    source: Rc<InputSource<T>>,
    timed: bool,
}

impl<T: Data> Input<T> {
    /// Pushes a record into an input without event times.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has event times or has ended.
    pub fn push(&self, record: T) -> Result<()> {
        let uid = &self.source.uid;
        ensure!(!self.timed, "the records of {uid} have event times: use push_at()");
        self.give(Pushed::Record(record, None))
    }

    /// Pushes a record with its event time, in milliseconds since 1970.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has no event times or has ended.
    pub fn push_at(&self, record: T, millis: i64) -> Result<()> {
        self.check_timed()?;
        self.give(Pushed::Record(record, Some(millis)))
    }

    /// Says that no record at or before this time will follow in this input. As in any job a
    /// watermark that is not later than the one before has no effect, and an operator with several
    /// inputs goes by the least of theirs.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has no event times or has ended.
    pub fn watermark(&self, millis: i64) -> Result<()> {
        self.check_timed()?;
        self.give(Pushed::Watermark(Timestamp::from_millis(millis)))
    }

    /// Says that no watermark waits for this input, until it has a record or a watermark again.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has no event times or has ended.
    pub fn idle(&self) -> Result<()> {
        self.check_timed()?;
        self.give(Pushed::Idle)
    }

    /// Ends this input alone.
    ///
    /// # Errors
    /// The job fails or has failed, or the input has ended.
    pub fn end(&self) -> Result<()> {
        self.source.end(&self.shared)
    }

    fn check_timed(&self) -> Result<()> {
        let uid = &self.source.uid;
        ensure!(
            self.timed,
            "{uid} has no event times: make it with timed_input(), or the harness with timed()"
        );
        Ok(())
    }

    fn give(&self, item: Pushed<T>) -> Result<()> {
        self.source.give(&self.shared, item)
    }
}

/// An output of a [`JobHarness`].
pub struct Output<O>(Results<O>);

/// The results that were not taken, with their event times.
type Results<O> = Arc<Mutex<Vec<(O, Option<i64>)>>>;

impl<O> Output<O> {
    /// Takes the results since the last call, in the order in which they came.
    #[must_use]
    pub fn take(&self) -> Vec<O> {
        self.take_timed().into_iter().map(|(result, _)| result).collect()
    }

    /// Takes the results since the last call with their event times.
    #[must_use]
    pub fn take_timed(&self) -> Vec<(O, Option<i64>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sink before an output.
struct Collect<O>(Results<O>);

impl<O: Send + 'static> Sink<O> for Collect<O> {
    type Committable = ();
    type Writer = Self;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<Self> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

impl<O: Send> SinkWriter<O> for Collect<O> {
    type Committable = ();

    fn write(&mut self, batch: Batch<O>) -> Result<Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

/// The role of a test that steps its job.
struct Stepping {
    clock: ManualClock,
    job: Started,
}

impl Executor for Stepping {
    fn settings(&self) -> JobSettings {
        JobSettings { parallelism: 1, ..JobSettings::default() }
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn runs_here(&self) -> bool {
        true
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        // The same in each run, as all that the job sees.
        let id = JobId::from_u128(1);
        let job = SteppedJob::start(id, program, graph, self.clock.clone())?;
        *self.job.borrow_mut() = Some(job);
        let running = JobResult { job: id, status: JobStatus::Running, runtime: Duration::ZERO };
        Ok(Execution::Submitted(JobClient::new(id, Rc::new(running))))
    }
}
