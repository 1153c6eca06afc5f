//! The settlement by itself: a coordinator host that starts late, fails, ends or says nothing;
//! every commit and every abort comes to one end, in bounded time.

use super::*;
use crate::master::fixture::{Random, coordinated, for_seeds, operator_id};

const SEEDS: u64 = 2_000;
const STEPS: usize = 60;

struct World {
    random: Random,
    settlement: Settlement,
    hosts: u128,
    /// The coordinator host, and whether it is ready; one that ends is `None`.
    host: Option<(HostId, bool)>,
    replaceable: u32,
    /// Answers that the host has to give.
    owed: u32,
    timer: Option<(TimerKind, u64)>,
    asked: Option<Phase>,
    deployed: bool,
    answered: bool,
    ends: Vec<&'static str>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            settlement: Settlement::new(&coordinated(1), &JobMasterConfig::default()),
            hosts: 0,
            host: None,
            replaceable: 2,
            owed: 0,
            timer: None,
            asked: None,
            deployed: false,
            answered: false,
            ends: Vec::new(),
        }
    }

    fn event(&mut self, event: Event) {
        for action in self.settlement.on_event(event) {
            match action {
                Action::NeedHost if self.replaceable == 0 => self.event(Event::NotReplaced),
                Action::NeedHost => {
                    assert!(self.host.is_none(), "a second coordinator host");
                    self.replaceable -= 1;
                    self.hosts += 1;
                    let host = HostId::from_u128(self.hosts);
                    self.host = Some((host, false));
                    self.event(Event::HostStarted(host));
                }
                Action::Tell(host, message) => {
                    if !matches!(message, to_host::Message::OperatorEvent(_)) {
                        assert_eq!(self.host, Some((host, true)), "told before it is ready");
                        self.owed += 1;
                    }
                }
                Action::Kill(host) => assert_eq!(self.host.map(|(host, _)| host), Some(host)),
                Action::SetTimer { kind, generation, .. } => self.timer = Some((kind, generation)),
                Action::Committed => {
                    assert_eq!(self.asked.take(), Some(Phase::Committing));
                    assert!(self.answered, "published without the host's word");
                    self.ends.push("committed");
                }
                Action::Failed(_) => {
                    assert_eq!(self.asked.take(), Some(Phase::Committing));
                    self.ends.push("failed");
                }
                Action::Consequence(_) => assert_eq!(self.asked, Some(Phase::Aborting)),
                Action::Discarded => {
                    assert_eq!(self.asked.take(), Some(Phase::Aborting));
                    self.ends.push("discarded");
                }
            }
        }
    }

    fn loses_host(&mut self) {
        if self.host.take().is_some() {
            self.owed = 0;
            self.event(Event::HostLost);
        }
    }

    fn time_passes(&mut self) {
        if let Some((kind, generation)) = self.timer.take() {
            self.event(Event::Timer { kind, generation });
        }
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0 | 1 => {
                if let Some((host, false)) = self.host {
                    self.host = Some((host, true));
                    self.event(Event::HostReady);
                }
            }
            2 | 3 if self.owed > 0 => {
                self.owed -= 1;
                self.answered = true;
                let failed = self.random.one_in(3);
                let cause = || FailureCause::new(CauseKind::Error, "the disk is full");
                self.event(Event::Settled(failed.then(cause)));
                self.answered = false;
            }
            4 if self.random.one_in(3) => self.loses_host(),
            5 if self.host.is_some() && self.random.one_in(3) => self.event(Event::HostUnusable),
            6 if self.random.one_in(4) => self.time_passes(),
            7 => {
                let operator_id = operator_id(1).as_bytes().to_vec();
                let payload = vec![0; 100];
                self.event(Event::OperatorEvent(OperatorEvent {
                    operator_id,
                    subtask: 0,
                    payload,
                    hands_out: false,
                }));
            }
            _ => {}
        }
    }

    fn run(&mut self) {
        self.event(Event::Attempt);
        self.event(Event::Open);
        (0..self.random.below(STEPS)).for_each(|_| self.step());
        if self.random.below(3) > 0 {
            self.deployed = true;
            self.event(Event::Deployed);
        }
        if self.random.below(2) == 0 && self.host.is_some_and(|(_, ready)| ready) {
            self.asked = Some(Phase::Committing);
            self.event(Event::Commit);
            (0..self.random.below(STEPS)).for_each(|_| self.step());
        }
        if self.ends != ["committed"] {
            self.asked = Some(Phase::Aborting);
            self.event(Event::Abort);
            (0..STEPS).for_each(|_| self.step());
            while self.asked.is_some() {
                assert!(self.timer.is_some(), "it waits for nothing");
                self.time_passes();
            }
            assert_eq!(self.ends.last(), Some(&"discarded"));
        }
        assert!(self.ends.len() <= 2, "{:?}", self.ends);
    }
}

#[test]
fn whatever_happens_results_are_settled_once() {
    let ends = for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        world.run();
        world.ends
    });
    for end in ["committed", "failed", "discarded"] {
        let count = ends.iter().flatten().filter(|one| **one == end).count();
        assert!(count > 30 || ends.len() as u64 != SEEDS, "too few are {end}: {count}");
    }
}

fn running(config: &JobMasterConfig) -> Settlement {
    let mut settlement = Settlement::new(&coordinated(1), config);
    for event in [
        Event::Attempt,
        Event::Open,
        Event::HostStarted(HostId::from_u128(1)),
        Event::HostReady,
        Event::Deployed,
    ] {
        settlement.on_event(event);
    }
    settlement
}

#[test]
fn results_that_writers_name_have_a_limit() {
    let committables_max = ByteSize::from_bytes(1_000);
    let mut settlement =
        running(&JobMasterConfig { committables_max, ..JobMasterConfig::default() });
    let mut says = |operator: usize, bytes: usize| {
        let operator_id = operator_id(operator).as_bytes().to_vec();
        let payload = vec![0; bytes];
        settlement.on_event(Event::OperatorEvent(OperatorEvent {
            operator_id,
            subtask: 0,
            payload,
            hands_out: false,
        }))
    };
    // The first operator is a source: its requests are not kept.
    assert!(matches!(says(0, 5_000).as_slice(), [Action::Tell(..)]));
    assert!(matches!(says(1, 1_000).as_slice(), [Action::Tell(..)]));
    let failed = says(1, 1);
    let [Action::Failed(cause)] = failed.as_slice() else { panic!("{failed:?}") };
    assert!(cause.message.contains("more than the 1000 bytes that a job may: "), "{cause:?}");
    assert!(cause.message.ends_with("millstream.sink.committables-max"), "{cause:?}");
    assert!(says(1, 1).is_empty(), "it is said once");
}

#[test]
fn a_commit_that_is_late_is_killed_and_another_host_discards() {
    let mut settlement = running(&JobMasterConfig::default());
    let actions = settlement.on_event(Event::Commit);
    let [Action::Tell(..), Action::SetTimer { kind, generation, after }] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(*after, Duration::from_secs(1200));
    let actions = settlement.on_event(Event::Timer { kind: *kind, generation: *generation });
    let [Action::Kill(_), Action::Failed(cause)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert!(cause.message.contains("millstream.sink.commit-timeout"), "{cause:?}");
    let actions = settlement.on_event(Event::Abort);
    assert!(matches!(actions.as_slice(), [Action::SetTimer { .. }]), "it ends first: {actions:?}");
    let actions = settlement.on_event(Event::HostLost);
    assert!(matches!(actions.as_slice(), [Action::NeedHost, Action::SetTimer { .. }]));
}
