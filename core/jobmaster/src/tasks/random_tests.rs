//! The tasks by themselves: hosts that start, report, die or fall silent, in any order; they finish
//! once all have finished, and stop once when they are told to.

use millstream_gateway::testing::TestingTaskManager;
use millstream_protocol::host::{Execution, Failure, Task, TaskId, TaskState};
use millstream_types::{AllocationId, ExecutionState, ResourceProfile, SlotId};

use super::*;
use crate::master::fixture::{Random, coordinated, failure, for_seeds, pipeline};
use crate::slots::SlotPool;

const SEEDS: u64 = 500;
const STEPS: usize = 200;

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Start,
    Cancel,
}

struct World {
    random: Random,
    tasks: Tasks,
    pool: SlotPool,
    parallelism: u32,
    workers: u128,
    now: Timestamp,
    asked: Asked,
    /// Hosts of the attempt, with the state of the tasks that were deployed in them.
    hosts: BTreeMap<HostId, Vec<(Task, Execution)>>,
    lost: Vec<HostId>,
    told: BTreeMap<(Vec<u8>, u32), u32>,
    timer: Option<(TimerKind, u64)>,
    failed: bool,
    attempt: u32,
    finished: u32,
    stopped: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let parallelism = 1 + u32::try_from(random.below(3)).expect("it is small");
        let graph = if random.one_in(2) { coordinated(parallelism) } else { pipeline(parallelism) };
        let scheduling = random.one_in(2).then_some(SchedulingStrategy::LazyFromSource);
        let config = JobMasterConfig { scheduling, ..JobMasterConfig::default() };
        Self {
            random,
            tasks: Tasks::new(&graph, &config, Timestamp::from_millis(0)),
            pool: SlotPool::new(&graph),
            parallelism,
            workers: 0,
            now: Timestamp::from_millis(0),
            asked: Asked::Nothing,
            hosts: BTreeMap::new(),
            lost: Vec::new(),
            told: BTreeMap::new(),
            timer: None,
            failed: false,
            attempt: 0,
            finished: 0,
            stopped: 0,
        }
    }

    fn slots(&mut self) -> Slots {
        while self.pool.missing() > 0 {
            self.workers += 1;
            let worker = format!("tm{}", self.workers);
            let (gateway, _) = TestingTaskManager::new(&worker);
            self.pool.offer(vec![AllocatedSlot {
                allocation: AllocationId::from_u128(self.workers),
                slot: SlotId { task_manager: TaskManagerId::new(worker.as_str()), index: 0 },
                profile: ResourceProfile::UNKNOWN,
                address: worker,
                gateway,
            }]);
        }
        self.pool.assign().expect("none is missing")
    }

    fn event(&mut self, event: Event) {
        let actions = self.tasks.on_event(self.now, event);
        self.tasks.executions().check_counts();
        for action in actions {
            match action {
                Action::NeedHosts(shares) => {
                    assert_eq!(self.asked, Asked::Start);
                    for share in shares {
                        self.workers += 1;
                        let host = HostId::from_u128(0x1000 + self.workers);
                        self.hosts.insert(host, Vec::new());
                        self.event(Event::HostStarted { host, on: share.on.id().clone() });
                    }
                }
                Action::Tell(host, to_host::Message::Deploy(deploy)) => {
                    assert_eq!(self.asked, Asked::Start);
                    let tasks = self.hosts.get_mut(&host).expect("a host of the attempt");
                    for task in deploy.tasks {
                        assert_eq!(task.attempt, self.attempt);
                        *self.told.entry((task.vertex.clone(), task.subtask)).or_default() += 1;
                        tasks.push((task, Execution::Unspecified));
                    }
                }
                Action::Tell(host, _) | Action::Kill(host) => {
                    assert!(self.hosts.contains_key(&host) && !self.lost.contains(&host));
                    assert_eq!(self.asked, Asked::Cancel);
                }
                Action::SetTimer { kind, generation, .. } => self.timer = Some((kind, generation)),
                Action::Failed(..) => {
                    assert_eq!(self.asked, Asked::Start, "it fails while it runs");
                    self.failed = true;
                }
                Action::Consequence(_) => assert_eq!(self.asked, Asked::Cancel),
                Action::Finished => {
                    assert!(self.tasks.executions().is_finished());
                    assert_eq!(self.asked, Asked::Start);
                    self.asked = Asked::Nothing;
                    self.finished += 1;
                }
                Action::Stopped => {
                    assert_eq!(self.tasks.executions().active(), 0);
                    assert_eq!(self.asked, Asked::Cancel);
                    self.asked = Asked::Nothing;
                    self.stopped += 1;
                }
                Action::SlotsLate => self.failed = true,
                Action::NeedMoreHosts(_)
                | Action::SetFailoverTimer { .. }
                | Action::FailoverStopped(_)
                | Action::FailoverDone(_) => panic!("no task restarts alone: {action:?}"),
                Action::Deployed | Action::Changed | Action::Measured | Action::Task(_) => {}
            }
        }
        assert!(self.told.values().all(|count| *count == 1), "deployed twice: {:?}", self.told);
    }

    fn start(&mut self) {
        self.hosts.clear();
        self.lost.clear();
        self.told.clear();
        self.failed = false;
        self.asked = Asked::Start;
        let slots = self.slots();
        if self.random.one_in(2) {
            self.event(Event::Start(self.attempt, Some(slots), Restoring::default()));
        } else {
            self.event(Event::Start(self.attempt, None, Restoring::default()));
            self.event(Event::Slots(slots));
        }
        let attempts: Vec<u32> =
            self.tasks.executions().iter().map(|(_, execution)| execution.attempt()).collect();
        assert!(attempts.iter().all(|attempt| *attempt == self.attempt), "{attempts:?}");
        assert_eq!(self.hosts.len(), self.parallelism as usize, "a host for each slot");
    }

    fn living_host(&mut self) -> Option<HostId> {
        let living: Vec<HostId> =
            self.hosts.keys().filter(|host| !self.lost.contains(host)).copied().collect();
        self.random.pick(&living)
    }

    fn entry(&self) -> ExceptionEntry {
        self.tasks.entry(FailureCause::new(CauseKind::Signal, "killed"))
    }

    fn lose(&mut self, host: HostId) {
        self.lost.push(host);
        let entry = self.entry();
        self.event(Event::HostLost { host, entry });
    }

    /// A task does the next thing that it would do.
    fn work(&mut self, host: HostId) {
        let cancelled = self.asked == Asked::Cancel;
        let tasks = self.hosts.get_mut(&host).expect("it lives");
        let Some((task, state)) = tasks.first_mut() else { return };
        let mut cause: Option<Failure> = None;
        *state = match state {
            _ if cancelled => Execution::Canceled,
            Execution::Unspecified => Execution::Initializing,
            Execution::Initializing => Execution::Running,
            _ if self.random.one_in(20) => {
                cause =
                    Some(failure(if self.random.one_in(2) { "exchange" } else { "error" }, "no"));
                Execution::Failed
            }
            _ => Execution::Finished,
        };
        let id =
            TaskId { vertex: task.vertex.clone(), subtask: task.subtask, attempt: task.attempt };
        let report =
            TaskState { task: Some(id), state: (*state).into(), cause, ..Default::default() };
        let ended = !matches!(*state, Execution::Initializing | Execution::Running);
        if ended {
            tasks.remove(0);
        } else {
            tasks.rotate_left(1);
        }
        self.event(Event::Reported { host, report: Box::new(report) });
    }

    fn step(&mut self) {
        let Some(host) = self.living_host() else { return };
        match self.random.below(20) {
            0 if self.random.one_in(4) => self.lose(host),
            1 if self.random.one_in(6) => {
                let entry = self.entry();
                self.event(Event::HostSilent { host, entry });
                self.lose(host);
            }
            2 if self.random.one_in(4) => {
                if let Some((kind, generation)) = self.timer.take() {
                    self.event(Event::Timer { kind, generation });
                }
            }
            3..7 => {
                if matches!(self.tasks.waits_for(), WaitsFor::Hosts) {
                    self.event(Event::HostReady { host, data_address: format!("{host}:1") });
                }
            }
            7 => self.event(Event::CoordinatorReady),
            _ => self.work(host),
        }
    }

    /// Cancels the unfinished tasks and brings them to their end.
    fn stop(&mut self) {
        self.asked = Asked::Cancel;
        self.event(Event::Cancel);
        let mut turns = 0;
        while self.asked == Asked::Cancel {
            let host = self.living_host().expect("a task that has not ended has a host");
            if self.random.one_in(3) {
                self.lose(host)
            } else {
                self.work(host)
            }
            turns += 1;
            assert!(turns < 1_000, "it does not stop: {:?}", self.tasks);
        }
    }

    fn run(&mut self) {
        for attempt in 0..3 {
            self.attempt = attempt;
            self.start();
            for _ in 0..STEPS {
                if self.asked != Asked::Start || self.failed {
                    break;
                }
                self.step();
            }
            let finished = self.asked == Asked::Nothing;
            if finished {
                let states = self.tasks.executions().iter().map(|(_, it)| it.state());
                assert!(states.into_iter().all(|state| state == ExecutionState::Finished));
            }
            self.stop();
        }
        assert_eq!(self.stopped, 3, "each cancellation is answered once");
    }
}

#[test]
fn whatever_happens_tasks_finish_or_stop() {
    let finished = for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        world.run();
        world.finished
    });
    let sum: u32 = finished.iter().sum();
    assert!(sum > 100 || finished.len() as u64 != SEEDS, "too few finish: {sum}");
}
