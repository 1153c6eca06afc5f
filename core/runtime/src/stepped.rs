//! A job whose tasks are stepped by the thread that calls, for tests of pipelines.
//!
//! [`SteppedJob`] builds the same tasks from the same blueprint as a task host, and the same
//! coordinators as a coordinator host. No thread belongs to it: [`SteppedJob::run`] gives the tasks
//! turns in a fixed order until none can go on, so its return is the proof that everything has
//! happened. With threads the same proof needs a protocol that counts records in flight, in user
//! code too, and the order of results would still be by chance. Its clock is moved by
//! [`SteppedJob::advance`] alone, from one due time to the next.
//!
//! # Invariants
//! - Between two calls no task is ready, unless a thread of user code has woken it.
//! - A job that has failed stays failed: each later call answers the same sentence.
//! - The committers are told once that the job has finished, or that it has not.

mod pushed;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use millstream_graph::{ChainedOperator, JobGraph};
use millstream_network::{Exchange, ExchangeConfig, Generation};
use millstream_operators::{
    EventMailbox, EventSender, Mail, OperatorCoordinator, Program, Replies, Reply, Result, Step,
    TaskBody, error, turn,
};
use millstream_protocol::host::Failure;
use millstream_security::Secret;
use millstream_types::{Escaped, HostId, JobId, ManualClock, OperatorId, Timestamp, VertexId};

pub use self::pushed::{Pushed, PushedInput};
use crate::build::{Blueprint, Placements, TaskOwn, TaskParts, task_name};
use crate::coordinator_host::{CoordinatorsStart, described, of_operator, open_coordinators};
use crate::failure::{self, guard, install_panic_hook};

/// The host of all tasks.
const HOST: HostId = HostId::from_u128(1);

/// Notes that a task is to have a turn.
#[derive(Debug, Default)]
struct Awake(AtomicBool);

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct SteppedTask {
    name: String,
    /// `None` once the task has finished.
    body: Option<Box<dyn TaskBody>>,
    awake: Arc<Awake>,
    deadline: Option<Instant>,
    subtask: u32,
    mailboxes: BTreeMap<OperatorId, Arc<EventMailbox>>,
}

struct Coordinator {
    name: String,
    coordinator: Box<dyn OperatorCoordinator>,
    next_tick: Option<Instant>,
}

/// Messages of one task's turn to coordinators. They are taken behind the turn, in which each
/// operator sends a few at most.
type Events = Arc<Mutex<Vec<(OperatorId, u32, Vec<u8>)>>>;

/// A job that stands still between two calls.
pub struct SteppedJob {
    job: JobId,
    name: String,
    clock: ManualClock,
    tasks: Vec<SteppedTask>,
    coordinators: BTreeMap<OperatorId, Coordinator>,
    events: Events,
    end: End,
}

enum End {
    /// Some task has not finished.
    None,
    Finished,
    /// The sentence says why.
    Failed(String),
}

impl SteppedJob {
    /// Builds and opens all coordinators and tasks, and lets them run until they rest.
    ///
    /// # Errors
    /// An operator cannot be built or opened, or fails at once; the sentence is the job's.
    pub fn start(
        job: JobId,
        program: Program,
        graph: JobGraph,
        clock: ManualClock,
    ) -> Result<Self> {
        install_panic_hook();
        let mut stepped = Self {
            job,
            name: graph.name.clone(),
            clock,
            tasks: Vec::new(),
            coordinators: BTreeMap::new(),
            events: Events::default(),
            end: End::None,
        };
        let blueprint = Arc::new(Blueprint::new(Arc::new(program), graph));
        stepped.open_coordinators(&blueprint)?;
        stepped.open_tasks(&blueprint)?;
        stepped.run()?;
        Ok(stepped)
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// Whether all tasks have finished and all results are published.
    #[must_use]
    pub const fn has_finished(&self) -> bool {
        matches!(self.end, End::Finished)
    }

    /// The tasks that have not finished.
    pub fn running(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().filter(|task| task.body.is_some()).map(|task| task.name.as_str())
    }

    fn open_coordinators(&mut self, blueprint: &Blueprint) -> Result<()> {
        let Blueprint { program, graph, .. } = blueprint;
        let start = CoordinatorsStart::first();
        let opened =
            open_coordinators(self.job, &start, program, graph, |operator, coordinator| {
                let name = described(operator);
                let coordinator = Coordinator { name, coordinator, next_tick: None };
                self.coordinators.insert(operator.id, coordinator);
                Ok(())
            });
        opened.map_err(|failure| self.fail(&failure, None))
    }

    fn open_tasks(&mut self, blueprint: &Arc<Blueprint>) -> Result<()> {
        let exchange = Exchange::start(ExchangeConfig {
            host: HOST,
            generation: Generation::FIRST,
            token: Secret::new([0; 32]),
            credentials: None,
            bind: Vec::new(),
            layout: blueprint.layout(),
        })?
        .encoding_always(blueprint.graph.settings.serializes_always());
        let exchange = Arc::new(exchange);
        let mut placements = Placements::default();
        for vertex in &blueprint.graph.vertices {
            (0..vertex.parallelism).for_each(|subtask| placements.place(vertex, subtask, HOST));
        }
        placements.settle();
        for vertex in &blueprint.graph.vertices {
            for subtask in 0..vertex.parallelism {
                let place = (vertex.id, subtask);
                self.open_task(blueprint, &exchange, &placements, place)?;
            }
        }
        Ok(())
    }

    fn open_task(
        &mut self,
        blueprint: &Arc<Blueprint>,
        exchange: &Arc<Exchange>,
        placements: &Placements,
        (vertex, subtask): (VertexId, u32),
    ) -> Result<()> {
        let vertex = blueprint.vertex(vertex)?;
        let generation = Generation::FIRST;
        let awake = Arc::new(Awake(AtomicBool::new(true)));
        let mailbox = |operator: &ChainedOperator| (operator.id, Arc::default());
        let mailboxes: BTreeMap<_, _> = vertex.operators.iter().map(mailbox).collect();
        let parts = TaskParts {
            blueprint: Arc::clone(blueprint),
            exchange: Arc::clone(exchange),
            vertex: vertex.id,
            context: blueprint.task_context(
                vertex,
                TaskOwn {
                    job: self.job,
                    subtask,
                    attempt: generation.attempt,
                    generation,
                    waker: Arc::clone(&awake).into(),
                    clock: self.clock.clock(),
                    counters: Arc::default(),
                    metrics: Arc::default(),
                    checkpoints: None,
                    has_finished: false,
                    beside: None,
                },
            ),
            inputs: blueprint.inputs(vertex, (subtask, generation), placements)?,
            to_coordinator: self.event_sender(),
            mailboxes: BTreeMap::clone(&mailboxes),
            restore: None,
        };
        let name = task_name(vertex, subtask);
        let opened = guard(|| {
            let mut body = parts.build()?;
            body.open()?;
            Ok(body)
        });
        match opened {
            Err(failure) => Err(self.fail(&failure, Some(&name))),
            Ok(body) => {
                let (body, deadline) = (Some(body), None);
                self.tasks.push(SteppedTask { name, body, awake, deadline, subtask, mailboxes });
                Ok(())
            }
        }
    }

    fn event_sender(&self) -> EventSender {
        let events = Arc::clone(&self.events);
        Arc::new(move |operator, subtask, payload| {
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            events.push((operator, subtask, payload));
        })
    }

    /// Gives turns to the tasks and coordinators until none can go on. A source without end, or a
    /// timer that always sets another that is due, keeps them going for ever.
    ///
    /// # Errors
    /// A function, source or sink fails, now or before; the sentence is that of a failed job.
    pub fn run(&mut self) -> Result<()> {
        if let End::Failed(sentence) = &self.end {
            return Err(error!("{sentence}"));
        }
        let mut rests = false;
        while !rests {
            rests = true;
            for at in 0..self.tasks.len() {
                if self.is_ready(at) {
                    rests = false;
                    self.turn(at)?;
                }
            }
            rests &= !self.tick()?;
        }
        self.commit()
    }

    /// Moves the clock, and fires on the way what is due, each at its time.
    ///
    /// # Errors
    /// As for [`SteppedJob::run`].
    pub fn advance(&mut self, by: Duration) -> Result<()> {
        self.run()?;
        let clock = self.clock.clock();
        let target = clock.now().checked_add(by);
        let target = target.ok_or_else(|| error!("no clock can be advanced by {by:?}"))?;
        while let Some(due) = self.next_due()
            && due <= target
        {
            self.clock.advance(due.saturating_duration_since(clock.now()));
            self.run()?;
        }
        self.clock.advance(target.saturating_duration_since(clock.now()));
        self.run()
    }

    /// The time of the wall clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.clock.clock().wall()
    }

    /// The next time at which something is due.
    fn next_due(&self) -> Option<Instant> {
        let running = self.tasks.iter().filter(|task| task.body.is_some());
        let ticks = self.coordinators.values().filter_map(|it| it.next_tick);
        running.filter_map(|task| task.deadline).chain(ticks).min()
    }

    fn is_ready(&self, at: usize) -> bool {
        let now = self.clock.clock().now();
        self.tasks.get(at).is_some_and(|task| {
            let is_due = task.deadline.is_some_and(|due| due <= now);
            task.body.is_some() && (is_due || task.awake.0.load(Ordering::SeqCst))
        })
    }

    /// One turn of a task, and the delivery of the messages that it has sent.
    fn turn(&mut self, at: usize) -> Result<()> {
        let clock = self.clock.clock();
        let Some(task) = self.tasks.get_mut(at) else { return Ok(()) };
        let Some(body) = &mut task.body else { return Ok(()) };
        // Cleared before the turn: what wakes the task during it counts.
        task.awake.0.store(false, Ordering::SeqCst);
        let mut result = guard(|| turn(body.as_mut(), || clock.now()));
        if let Ok((Step::Finished, _)) = result {
            let body = task.body.take();
            let dropped = guard(|| {
                drop(body);
                Ok(())
            });
            result = dropped.map(|()| (Step::Finished, None));
        }
        match result {
            Ok((step, deadline)) => {
                task.deadline = deadline;
                if step == Step::Progress {
                    task.awake.0.store(true, Ordering::SeqCst);
                }
            }
            Err(failure) => {
                let name = task.name.clone();
                return Err(self.fail(&failure, Some(&name)));
            }
        }
        self.deliver()
    }

    /// Brings messages of tasks to their coordinators, and the answers back.
    fn deliver(&mut self) -> Result<()> {
        let events = {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *events)
        };
        for (operator, subtask, payload) in events {
            let now = self.clock.clock().now();
            let mut replies = Replies::new();
            self.coordinate(operator, |it| {
                it.next_tick.get_or_insert(now);
                it.coordinator.on_event(subtask, &payload, &mut replies)
            })?;
            self.answer(operator, replies)?;
        }
        Ok(())
    }

    fn answer(&mut self, operator: OperatorId, replies: Replies) -> Result<()> {
        for Reply { subtask, payload, .. } in replies {
            let mut of_subtask = self.tasks.iter().filter(|task| task.subtask == subtask);
            let found = of_subtask.find_map(|task| Some((task, task.mailboxes.get(&operator)?)));
            if let Some((task, mailbox)) = found {
                let pushed = mailbox.push(Mail::Event(payload));
                task.awake.wake_by_ref();
                if let Err(error) = pushed {
                    let name = task.name.clone();
                    return Err(self.fail(&failure::of_error(&error), Some(&name)));
                }
            }
        }
        Ok(())
    }

    /// Lets the coordinators do what is due; whether there was any.
    fn tick(&mut self) -> Result<bool> {
        let now = self.clock.clock().now();
        let is_due = |it: &Coordinator| it.next_tick.is_some_and(|next| next <= now);
        let due = self.coordinators.iter().filter(|(_, it)| is_due(it));
        let due: Vec<OperatorId> = due.map(|(operator, _)| *operator).collect();
        for operator in &due {
            let mut replies = Replies::new();
            self.coordinate(*operator, |it| {
                it.next_tick = it.coordinator.tick(now, &mut replies)?;
                Ok(())
            })?;
            self.answer(*operator, replies)?;
        }
        Ok(!due.is_empty())
    }

    /// Runs user code of a coordinator.
    fn coordinate(
        &mut self,
        operator: OperatorId,
        run: impl FnOnce(&mut Coordinator) -> Result<()>,
    ) -> Result<()> {
        let Some(coordinator) = self.coordinators.get_mut(&operator) else {
            return Err(error!("operator {operator} has no coordinator"));
        };
        match guard(|| run(coordinator)) {
            Ok(()) => Ok(()),
            Err(failure) => {
                let failure = of_operator(failure, &coordinator.name);
                Err(self.fail(&failure, None))
            }
        }
    }

    /// Publishes the results once all tasks have finished.
    fn commit(&mut self) -> Result<()> {
        let all_finished = self.tasks.iter().all(|task| task.body.is_none());
        if !all_finished || self.has_finished() {
            return Ok(());
        }
        let operators: Vec<OperatorId> = self.coordinators.keys().copied().collect();
        for operator in operators {
            self.coordinate(operator, |it| it.coordinator.commit())?;
        }
        self.end = End::Finished;
        Ok(())
    }

    /// Ends the job; the answer is the sentence of its end.
    fn fail(&mut self, failure: &Failure, task: Option<&str>) -> millstream_operators::Error {
        let why = failure.message.lines().next().unwrap_or_default();
        let task = task.map(|task| format!(" (task {task})")).unwrap_or_default();
        let sentence = format!(
            "job {} ({}) failed: {}{}",
            self.job,
            Escaped::line(&self.name),
            Escaped::line(why),
            Escaped::line(&task)
        );
        self.discard();
        self.end = End::Failed(sentence.clone());
        error!("{sentence}")
    }

    /// Drops the tasks, and has the committers discard their results.
    fn discard(&mut self) {
        for task in &mut self.tasks {
            let body = task.body.take();
            // The job's end is known already.
            let _ = guard(|| {
                drop(body);
                Ok(())
            });
        }
        for coordinator in self.coordinators.values_mut() {
            let _ = guard(|| coordinator.coordinator.abort());
        }
        self.coordinators.clear();
    }
}

impl Drop for SteppedJob {
    fn drop(&mut self) {
        if matches!(self.end, End::None) {
            self.discard();
        }
    }
}
