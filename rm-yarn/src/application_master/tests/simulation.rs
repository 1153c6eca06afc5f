//! The master in a seeded world: answers are lost or come twice, the ResourceManager restarts and
//! forgets, allocates too much and too late, rolls tokens; starts fail, containers end for every
//! reason. A failure prints the seed and the step that lead to it; `SIM_SEED=…` replays one.

use std::collections::BTreeSet;
use std::io::Write;

use super::*;
use crate::proto::yarn::ResourceBlacklistRequestProto;

const HOSTS: [&str; 4] = ["a", "b", "c", "sick"];
/// Number of containers that fit into the cluster, and the most workers wanted at a time.
const ROOM: usize = 40;
const WANTED_MAX: usize = 30;
const ENDS: [i32; 16] =
    [-1000, -109, -108, -107, -106, -105, -104, -103, -102, -101, -100, 0, 1, 137, 143, 154];

/// A seeded stream of numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Clone>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.into_iter().collect();
        (!all.is_empty()).then(|| all[self.below(all.len())].clone())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Unfetched,
    Fetched,
    Running,
}

/// ResourceManager and NodeManagers.
#[derive(Default)]
struct Yarn {
    epoch: i64,
    containers: i64,
    registered: bool,
    response_id: i32,
    last: AllocateResponseProto,
    asks: BTreeMap<i64, i32>,
    live: BTreeMap<ContainerId, (ContainerProto, Stage)>,
    ended: Vec<ContainerStatusProto>,
    /// Told in the last answer; told again by a successor.
    told: Vec<ContainerStatusProto>,
    blacklist: BTreeSet<String>,
    /// To be killed with the next heartbeats of their nodes.
    doomed: BTreeSet<ContainerId>,
}

fn status(container: ContainerId, exit_status: i32) -> ContainerStatusProto {
    ContainerStatusProto {
        container_id: Some(container.into()),
        exit_status: Some(exit_status),
        ..ContainerStatusProto::default()
    }
}

impl Yarn {
    fn end(&mut self, container: ContainerId, exit_status: i32) {
        if self.live.remove(&container).is_some() {
            self.ended.push(status(container, exit_status));
        }
    }

    fn place(&mut self, key: i64, numbers: &mut Numbers) {
        // Now and then one was under way when its node came onto the list.
        let late = numbers.percent(5);
        let hosts = HOSTS.iter().filter(|host| late || !self.blacklist.contains(**host));
        let Some(host) = numbers.pick(hosts) else { return };
        self.containers += 1;
        let id = ContainerIdProto {
            app_id: None,
            app_attempt_id: Some(attempt(2).into()),
            id: Some((self.epoch << 40) | self.containers),
        };
        let container = ContainerProto { id: Some(id), ..container(0, key.cast_unsigned(), host) };
        self.live.insert(ContainerId::from(&id), (container, Stage::Unfetched));
    }

    fn schedule(&mut self, faults: bool, numbers: &mut Numbers) {
        for (key, count) in self.asks.clone() {
            if count > 0 && self.live.len() < ROOM && numbers.percent(50) {
                self.asks.insert(key, count - 1);
                self.place(key, numbers);
                if faults && numbers.percent(5) {
                    self.place(key, numbers);
                }
            }
        }
    }

    fn allocate(
        &mut self,
        request: &AllocateRequestProto,
        faults: bool,
        numbers: &mut Numbers,
    ) -> Result<Box<AllocateResponseProto>, IpcError> {
        if !self.registered {
            return Err(forgotten());
        }
        if request.response_id() + 1 == self.response_id {
            return Ok(Box::new(self.last.clone()));
        }
        if request.response_id() != self.response_id {
            let expected = self.response_id;
            let text = format!("Invalid responseId, expect responseId to be {expected} but get");
            return Err(remote("InvalidApplicationMasterRequestException", &text));
        }
        for ask in &request.ask {
            self.asks.insert(ask.allocation_request_id(), ask.num_containers());
        }
        for id in &request.release {
            let id = ContainerId::from(id);
            match self.live.get(&id) {
                Some((_, Stage::Running)) => drop(self.doomed.insert(id)),
                Some(_) | None => self.end(id, -100),
            }
        }
        let nothing = ResourceBlacklistRequestProto::default();
        let blacklist = request.blacklist_request.as_ref().unwrap_or(&nothing);
        self.blacklist.extend(blacklist.blacklist_additions.iter().cloned());
        self.blacklist.retain(|host| !blacklist.blacklist_removals.contains(host));

        let mut allocated = Vec::new();
        for (container, stage) in self.live.values_mut() {
            if *stage == Stage::Unfetched {
                *stage = Stage::Fetched;
                allocated.push(container.clone());
            } else if faults && numbers.percent(1) {
                allocated.push(container.clone());
            }
        }
        self.told = std::mem::take(&mut self.ended);
        self.schedule(faults, numbers);
        self.response_id += 1;
        self.last = AllocateResponseProto {
            response_id: Some(self.response_id),
            allocated_containers: allocated,
            completed_container_statuses: self.told.clone(),
            num_cluster_nodes: Some(HOSTS.len().try_into().unwrap()),
            am_rm_token: (faults && numbers.percent(5)).then(|| token("rolled")),
            a_m_command: None,
            ..AllocateResponseProto::default()
        };
        Ok(Box::new(self.last.clone()))
    }

    /// A new ResourceManager takes over. It learns of what runs from the nodes alone.
    fn restart(&mut self, numbers: &mut Numbers) {
        self.epoch += 1;
        self.registered = false;
        self.asks.clear();
        self.blacklist.clear();
        self.doomed.clear();
        self.live.retain(|_, (_, stage)| *stage == Stage::Running);
        if numbers.percent(50) {
            self.ended.append(&mut self.told);
        }
    }
}

/// The master, YARN, and a ResourceManager component that wants workers.
struct World {
    numbers: Numbers,
    now: Instant,
    master: ApplicationMaster,
    yarn: Yarn,
    /// Whether anything goes wrong.
    faults: bool,
    requests: u64,
    open: BTreeSet<RequestId>,
    workers: BTreeSet<TaskManagerId>,
    ever: BTreeSet<TaskManagerId>,
    #[expect(clippy::vec_box, reason = "as the action brings them")]
    starts: Vec<Box<WorkerStart>>,
    call: Option<Action>,
    recovered: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            numbers: Numbers(seed),
            now: Instant::now(),
            master: ApplicationMaster::new(settings()),
            yarn: Yarn::default(),
            faults: true,
            requests: 0,
            open: BTreeSet::new(),
            workers: BTreeSet::new(),
            ever: BTreeSet::new(),
            starts: Vec::new(),
            call: None,
            recovered: false,
        };
        world.event(Event::Tick);
        world
    }

    fn event(&mut self, event: Event) {
        for action in self.master.on_events(self.now, [event]) {
            match action {
                Action::Register(_) | Action::Allocate(_) => {
                    assert!(self.call.is_none(), "two calls at a time");
                    self.call = Some(action);
                }
                Action::Start(start) => self.starts.push(start),
                // A node may be deaf; the ResourceManager knows of it too.
                Action::Stop { container, .. } if self.numbers.percent(50) => {
                    self.yarn.end(container, -105);
                }
                Action::Stop { .. } => {}
                Action::Post(event) => self.on_event(event),
                Action::NodeToken { .. } | Action::NewToken(_) | Action::OtherToken => {}
                Action::Finish(_) | Action::End => panic!("{action:?}"),
            }
        }
    }

    fn on_event(&mut self, event: DriverEvent) {
        match event {
            Recovered(workers) => {
                assert!(workers.is_empty() && !std::mem::replace(&mut self.recovered, true));
            }
            Allocated { request, worker } => {
                assert!(self.open.remove(&request), "{request} was not open");
                assert!(self.ever.insert(worker.clone()), "{worker} was there before");
                self.workers.insert(worker);
            }
            Terminated { worker, .. } => {
                assert!(self.workers.remove(&worker), "{worker} was not held");
            }
            DriverEvent::Waiting { .. } => {}
            RequestFailed { .. } | Draining { .. } | Fatal { .. } => panic!("{event:?}"),
        }
    }

    fn ask_or_give_back(&mut self) {
        match self.numbers.below(10) {
            0..=3 if self.open.len() + self.workers.len() < WANTED_MAX => {
                self.requests += 1;
                let request = RequestId::new(self.requests);
                self.open.insert(request);
                self.event(Event::Requested { request, memory_mb: MEMORY });
            }
            4 => {
                if let Some(request) = self.numbers.pick(self.open.iter().copied()) {
                    self.open.remove(&request);
                    self.event(Event::Withdrawn(request));
                }
            }
            5 => {
                if let Some(worker) = self.numbers.pick(self.workers.iter().cloned()) {
                    self.workers.remove(&worker);
                    self.event(Event::Released(worker));
                }
            }
            _ => {}
        }
    }

    /// Lets a random pending start succeed or fail.
    fn start_one(&mut self) {
        if self.starts.is_empty() {
            return;
        }
        let start = self.starts.swap_remove(self.numbers.below(self.starts.len()));
        let chance = if start.node.host == "sick" { 80 } else { 10 };
        let failed = self.numbers.percent(chance);
        let known = self.yarn.live.get_mut(&start.container);
        let outcome = match known {
            Some((_, stage)) if !failed => {
                *stage = Stage::Running;
                Ok(())
            }
            known => Err(StartError { reason: "no".to_owned(), blames_node: known.is_some() }),
        };
        self.event(Event::Started { container: start.container, outcome });
    }

    fn answer(&mut self) {
        let Some(call) = self.call.take() else { return };
        let fault = if self.faults { self.numbers.below(20) } else { 20 };
        if fault == 0 {
            self.yarn.restart(&mut self.numbers);
        }
        let event = match call {
            Action::Register(_) => {
                let again = std::mem::replace(&mut self.yarn.registered, true);
                // The answer was lost and the call repeated.
                if again || fault == 1 {
                    let text = "Application Master is already registered : application_1_2";
                    let error = remote("InvalidApplicationMasterRequestException", text);
                    Event::Registered(Err(error))
                } else {
                    Event::Registered(Ok(Box::default()))
                }
            }
            Action::Allocate(_) if fault == 5 => {
                Event::Allocated(Err(remote("YarnException", "UnknownHostException")))
            }
            Action::Allocate(request) => {
                let (yarn, numbers) = (&mut self.yarn, &mut self.numbers);
                let mut answer = yarn.allocate(&request, self.faults, numbers);
                if fault == 3 {
                    yarn.restart(numbers);
                }
                if fault == 2 || fault == 3 {
                    // It was lost, and the call is repeated.
                    answer = yarn.allocate(&request, self.faults, numbers);
                }
                if fault == 4 {
                    self.yarn.registered = false;
                    self.yarn.restart(&mut self.numbers);
                    let resync = Some(AmCommandProto::AmResync.into());
                    answer = answer
                        .map(|it| Box::new(AllocateResponseProto { a_m_command: resync, ..*it }));
                }
                Event::Allocated(answer)
            }
            other => panic!("{other:?}"),
        };
        if let Event::Registered(_) = event {
            self.yarn.response_id = 0;
        }
        self.event(event);
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(20);
        if self.numbers.percent(20)
            && let Some(doomed) = self.yarn.doomed.pop_first()
        {
            self.yarn.end(doomed, -100);
        }
        for _ in 0..3 {
            match self.numbers.below(4) {
                0 => self.answer(),
                1 => self.start_one(),
                2 if self.faults => self.ask_or_give_back(),
                3 if self.faults && self.numbers.percent(20) => {
                    let running = self.yarn.live.iter().filter(|(_, (_, s))| *s == Stage::Running);
                    let running: Vec<ContainerId> = running.map(|(id, _)| *id).collect();
                    if let Some(container) = self.numbers.pick(running) {
                        let end = self.numbers.pick(ENDS).unwrap();
                        self.yarn.end(container, end);
                    }
                }
                _ => {}
            }
        }
        if self.master.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.event(Event::Tick);
        }
        self.check();
    }

    fn check(&self) {
        let held: BTreeSet<TaskManagerId> = self.master.held.keys().map(|id| worker(*id)).collect();
        assert_eq!(held, self.workers, "what is held is what was told");
        assert!(self.master.requests.keys().eq(&self.open), "what is asked for is what is open");
        let given_back = |id: &ContainerId| self.master.released.contains_key(id);
        assert!(!self.master.held.keys().any(given_back), "what is held is not given back");
        if self.call.is_some() {
            return;
        }
        for (id, (_, stage)) in &self.yarn.live {
            let known = self.master.held.contains_key(id) || self.master.released.contains_key(id);
            assert!(known || *stage == Stage::Unfetched, "{id} is kept for nobody");
        }
    }

    /// Lets nothing go wrong any more, for so long.
    fn calm(&mut self, steps: usize) {
        self.faults = false;
        (0..steps).for_each(|_| self.step());
    }
}

#[test]
fn nothing_leaks_and_nothing_is_answered_twice_whatever_yarn_does() {
    let asked = millstream_soak::simulation::asked();
    let is_asked = asked.is_some();
    let seeds: Box<dyn Iterator<Item = u64>> = match asked {
        Some(seeds) => Box::new(seeds),
        None => Box::new(millstream_soak::rounds("YARN simulated", 0.1, 300, 20_000)),
    };
    let mut count = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..1000).for_each(|_| world.step());
            world.calm(3000);
            assert_eq!(world.open, BTreeSet::new(), "every request was answered");
            for worker in std::mem::take(&mut world.workers) {
                world.event(Event::Released(worker));
            }
            world.calm(3000);
            assert_eq!(world.yarn.live.len(), 0, "a container was leaked");
            assert!(world.yarn.asks.values().all(|count| *count == 0), "an ask was left");
            assert!(world.master.starting.is_empty());
        }));
        assert!(outcome.is_ok(), "SIM_SEED={seed}");
        count += 1;
    }
    if is_asked {
        let _ = writeln!(std::io::stderr(), "simulation yarn: seeds {count}");
    }
}
