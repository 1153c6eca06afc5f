//! Hosts by themselves: random needs, news and stops; every host is started, told and reported as
//! its state allows.

use millstream_gateway::testing::TestingTaskManager;
use millstream_types::JobId;

use super::*;
use crate::master::fixture::{Counting, Random, coordinated, for_seeds, submission};

const SEEDS: u64 = 500;
const STEPS: usize = 300;

/// The state of a host, as its actions show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    user: User,
    ready: bool,
    broken: bool,
    stopped: bool,
}

/// An attempt that takes no checkpoints.
fn attempt(number: u32) -> Event {
    Event::Attempt { number, checkpointing: None }
}

struct World {
    random: Random,
    hosts: Hosts,
    now: Timestamp,
    seen: BTreeMap<HostId, Seen>,
    gone: Vec<HostId>,
    coordinators: u32,
    refused: usize,
    silent: usize,
    /// The newest timer for signs of life.
    timer: Option<(u64, Timestamp)>,
    /// The time of each host's last message.
    heard: BTreeMap<HostId, Timestamp>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (coordinators, _) = TestingTaskManager::new("coordinators");
        let (now, ids) = (Timestamp::from_millis(0), Box::new(Counting(0)));
        let config = JobMasterConfig::default();
        let submission = submission(coordinated(1));
        Self {
            random: Random::new(seed),
            hosts: Hosts::new(submission, &config, coordinators, ids, now),
            now,
            seen: BTreeMap::new(),
            gone: Vec::new(),
            coordinators: 0,
            refused: 0,
            silent: 0,
            timer: None,
            heard: BTreeMap::new(),
        }
    }

    fn event(&mut self, event: Event) {
        let stops = matches!(event, Event::Stop(..) | Event::StopAll | Event::Heartbeat { .. });
        for action in self.hosts.on_event(self.now, event) {
            match action {
                Action::Start(_, start) => {
                    assert!(
                        !self.seen.contains_key(&start.host) && !self.gone.contains(&start.host)
                    );
                    assert_eq!(start.begin.host_id, start.host.as_bytes());
                }
                Action::Started { user, host, .. } => {
                    self.coordinators += u32::from(user == User::Settlement);
                    let seen = Seen { user, ready: false, broken: false, stopped: false };
                    self.seen.insert(host, seen);
                }
                Action::NotReplaced => {
                    assert_eq!(self.coordinators, COORDINATORS_MAX);
                    self.refused += 1;
                }
                Action::Tell(_, command) => {
                    let seen = self.seen[&command.host];
                    assert!(seen.ready && !seen.broken && !seen.stopped, "told: {seen:?}");
                }
                Action::Stop(_, host, _) => {
                    let seen = self.seen.get_mut(&host).expect("a host is stopped while it lives");
                    assert!(stops && !seen.stopped);
                    seen.stopped = true;
                }
                Action::Ready { host, .. } => {
                    let seen = self.seen.get_mut(&host).expect("a host that lives gets ready");
                    assert!(!seen.ready && !seen.broken && !seen.stopped);
                    seen.ready = true;
                }
                Action::SetTimer { generation, after } => {
                    self.timer = Some((generation, self.now.saturating_add(after)));
                }
                Action::Lost(loss) => self.check_loss(&loss),
            }
        }
        assert!(self.coordinators <= COORDINATORS_MAX);
        assert_eq!(self.hosts.count(), self.seen.len());
    }

    fn check_loss(&mut self, loss: &Loss) {
        let seen = self.seen.get_mut(&loss.host).expect("a host that lives is lost");
        assert_eq!((loss.user, loss.location.is_some()), (seen.user, seen.user == User::Tasks));
        match &loss.how {
            How::Broken => {
                assert!(!seen.broken && !seen.stopped);
                seen.broken = true;
            }
            How::Silent => {
                self.silent += 1;
                assert!(seen.ready && seen.stopped, "a silent host is killed first");
                let silence = self.now.saturating_since(self.heard[&loss.host]);
                assert!(silence >= self.hosts.heartbeat_timeout, "silent for {silence:?} only");
            }
            How::Ended { unasked, last_words } => {
                assert_eq!(*unasked, !seen.broken && !seen.stopped);
                assert!(last_words.is_none() || seen.stopped);
                self.seen.remove(&loss.host);
                self.gone.push(loss.host);
            }
        }
    }

    fn any_host(&mut self) -> HostId {
        let mut hosts: Vec<HostId> = self.seen.keys().chain(&self.gone).copied().collect();
        hosts.push(HostId::from_u128(77_777));
        self.random.pick(&hosts).expect("there is one at least")
    }

    fn need(&mut self) -> Need {
        if self.random.one_in(3) {
            return Need::Coordinator;
        }
        let name = format!("tm{}", self.random.below(3));
        let (on, _) = TestingTaskManager::new(&name);
        Need::Tasks { on, address: name, slots: vec![0] }
    }

    fn step(&mut self) {
        let (host, cause) = (self.any_host(), FailureCause::new(CauseKind::Signal, "killed"));
        match self.random.below(13) {
            0 if self.seen.is_empty() => {
                self.coordinators = 0;
                self.event(attempt(1));
            }
            0 | 1 => {
                let need = self.need();
                self.event(Event::Need(need));
            }
            2 | 3 => {
                self.heard.insert(host, self.now);
                self.event(Event::Heard(host));
                self.event(Event::Ready { host, data_address: "here:1".to_owned() });
            }
            4 => self.event(Event::Broken { host, cause }),
            5 => {
                let exit = HostExit { host, cause, stderr_tail: "so long".to_owned() };
                self.event(Event::Exited(exit));
            }
            6 => {
                let worker = TaskManagerId::new(format!("tm{}", self.random.below(3)).as_str());
                self.event(Event::WorkerLost { worker, cause });
            }
            7 => {
                let shutdown = to_host::Message::Abort(millstream_protocol::host::Abort {});
                self.event(Event::Tell(host, shutdown));
            }
            8 => self.event(Event::Stop(host, Duration::ZERO)),
            9 if self.random.one_in(5) => self.event(Event::StopAll),
            10 if self.random.one_in(3) => self.event(Event::Unwatch),
            10 => self.event(Event::Watch),
            _ => {
                if let Some((generation, due)) = self.timer.take() {
                    self.now = self.now.max(due);
                    self.event(Event::Heartbeat { generation });
                }
            }
        }
    }
}

#[test]
fn whatever_happens_each_host_is_told_and_reported_as_it_is() {
    let seen = for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        world.event(attempt(0));
        (0..STEPS).for_each(|_| world.step());
        [world.gone.len(), world.refused, world.silent]
    });
    let sum = |at: usize| seen.iter().map(|counts| counts[at]).sum::<usize>();
    let (ended, refused, silent) = (sum(0), sum(1), sum(2));
    let all = seen.len() as u64 == SEEDS;
    assert!(!all || ended.min(refused).min(silent) > 100, "{ended} {refused} {silent}");
}

/// Ids with the number of certificates that were issued as the next one.
struct Issuing(u8);

impl IdSource for Issuing {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn host_credentials(&mut self, _job: JobId, _host: HostId) -> Vec<u8> {
        self.0 += 1;
        vec![self.0]
    }
}

#[test]
fn a_host_gets_another_certificate_before_its_own_runs_out() {
    let (coordinators, _) = TestingTaskManager::new("coordinators");
    let mut now = Timestamp::from_millis(0);
    let config = JobMasterConfig::default();
    let submission = submission(coordinated(1));
    let mut hosts = Hosts::new(submission, &config, coordinators, Box::new(Issuing(0)), now);
    hosts.on_event(now, attempt(0));
    let (on, _) = TestingTaskManager::new("tm1");
    let tasks = Need::Tasks { on, address: "here".to_owned(), slots: vec![0] };
    let started = hosts.on_event(now, Event::Need(tasks));
    let Some(Action::Start(_, StartHost { host, begin, .. })) = started.into_iter().next() else {
        panic!("a host is started")
    };
    assert_eq!(begin.credentials, [1]);
    hosts.on_event(now, Event::Ready { host, data_address: "here:1".to_owned() });
    hosts.on_event(now, Event::Watch);

    let day = Duration::from_secs(24 * 60 * 60);
    let mut renewed = Vec::new();
    for at in 1..=15 {
        now = now.saturating_add(day);
        hosts.on_event(now, Event::Heard(host));
        for action in hosts.on_event(now, Event::Heartbeat { generation: 0 }) {
            if let Action::Tell(_, command) = action
                && let Some(to_host::Message::Credentials(told)) = command.message.message
            {
                renewed.push((at, told.credentials));
            }
        }
    }
    assert_eq!(renewed, [(4, vec![2]), (8, vec![3]), (12, vec![4])], "each is good for 7 days");
}
