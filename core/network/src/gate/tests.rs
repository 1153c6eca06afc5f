//! A task with several channels: whatever the order in which things arrive, an aligned barrier cuts
//! each channel where its producer put it.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

use millstream_types::{Barrier, BarrierKind, CheckpointId, HostId};

use super::*;
use crate::barrier_alignment::{BarrierAlignment, BarrierOutcome};
use crate::batch::Batch;
use crate::channel_id::{EndId, Generation, InputChannels};
use crate::wire::Event;

const CREDITS: usize = 3;
const SEEDS: u64 = 3_000;

/// A seeded stream of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % bound
    }
}

/// One thing that a channel sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Record,
    Barrier(u64),
    End,
}

/// The things that each channel sends: barriers grow, and some channels leave some out.
fn scripts(random: &mut Random) -> Vec<Vec<Sent>> {
    let (channels, checkpoints) = (1 + random.below(4), random.below(6));
    let leaves_out = random.below(3) == 0;
    let script = |_| {
        let mut script = Vec::new();
        for checkpoint in 1..=checkpoints {
            script.extend((0..random.below(6)).map(|_| Sent::Record));
            if leaves_out && random.below(4) == 0 {
                continue;
            }
            script.push(Sent::Barrier(checkpoint));
        }
        script.extend((0..random.below(6)).map(|_| Sent::Record));
        // Some end early.
        if random.below(4) == 0 {
            script.truncate(random.below(script.len() as u64 + 1) as usize);
        }
        script.push(Sent::End);
        script
    };
    (0..channels).map(script).collect()
}

/// The checkpoints that must be aligned, each with the number of records of each channel before it,
/// said without any order of arrival: those whose barrier each channel has sent, or that are later
/// than all barriers of a channel, which has ended then.
fn cuts(scripts: &[Vec<Sent>]) -> BTreeMap<u64, Vec<usize>> {
    let barriers = |script: &Vec<Sent>| -> BTreeMap<u64, usize> {
        let mut records = 0;
        let mut barriers = BTreeMap::new();
        for sent in script {
            match sent {
                Sent::Record => records += 1,
                Sent::Barrier(checkpoint) => drop(barriers.insert(*checkpoint, records)),
                Sent::End => {}
            }
        }
        barriers
    };
    let all: Vec<_> = scripts.iter().map(barriers).collect();
    let count = |script: &Vec<Sent>| script.iter().filter(|it| **it == Sent::Record).count();
    let sent = all.iter().flat_map(BTreeMap::keys).copied();
    let cut = |checkpoint: u64| -> Option<Vec<usize>> {
        let of_channel = |(barriers, script): (&BTreeMap<u64, usize>, &Vec<Sent>)| {
            let is_past = barriers.keys().all(|last| *last < checkpoint);
            barriers.get(&checkpoint).copied().or(is_past.then(|| count(script)))
        };
        all.iter().zip(scripts).map(of_channel).collect()
    };
    sent.filter_map(|checkpoint| Some((checkpoint, cut(checkpoint)?))).collect()
}

/// The task's side, and how far it is with each channel.
struct Task {
    gate: Gate<u64>,
    alignment: BarrierAlignment,
    records: Vec<usize>,
    taken: Vec<usize>,
    cuts: BTreeMap<u64, Vec<usize>>,
}

impl Task {
    fn new(channels: u32) -> (Self, Arc<Inbox<u64>>) {
        let end = EndId { edge: 0, subtask: 0, generation: Generation::FIRST };
        let hosts = vec![HostId::from_u128(2); channels as usize].into();
        let inputs = vec![InputChannels { end, from: 0..channels, hosts }];
        let credits = CREDITS as u32;
        let inbox = Inbox::new(inputs, credits, Waker::noop().clone(), Arc::default());
        let counts = vec![0; channels as usize];
        let task = Self {
            gate: Gate::new(Arc::clone(&inbox)),
            alignment: BarrierAlignment::new(channels as usize),
            records: counts.clone(),
            taken: counts,
            cuts: BTreeMap::new(),
        };
        (task, inbox)
    }

    /// Takes one delivery; whether there was one.
    fn take(&mut self, now: Instant) -> bool {
        let alignment = &self.alignment;
        let received = match alignment.is_pending() {
            true => self.gate.receive_but(|channel| alignment.holds(channel as usize)),
            false => self.gate.receive(),
        };
        let (channel, aligned) = match received.unwrap() {
            Received::Nothing => return false,
            Received::Batch(channel, batch) => {
                assert!(!self.alignment.holds(channel as usize), "channel {channel} is held back");
                let records = &mut self.records[channel as usize];
                assert_eq!(batch.records(), [*records as u64], "in the order of sending");
                *records += 1;
                (channel, BarrierOutcome::default())
            }
            Received::Event(channel, Event::Barrier(barrier)) => {
                (channel, self.alignment.on_barrier(now, channel as usize, barrier))
            }
            Received::Event(channel, event) => {
                assert_eq!(event, Event::EndOfInput);
                (channel, self.alignment.on_end(now, channel as usize))
            }
        };
        self.taken[channel as usize] += 1;
        if let Some((barrier, _)) = aligned.barrier {
            let last = self.cuts.last_key_value().map_or(0, |(last, _)| *last);
            assert!(barrier.checkpoint.get() > last, "checkpoints are aligned in their order");
            self.cuts.insert(barrier.checkpoint.get(), self.records.clone());
        }
        if aligned.releases() {
            self.gate.release();
        }
        true
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let scripts = scripts(&mut random);
    let (mut task, inbox) = Task::new(scripts.len() as u32);
    let (mut sent, mut records) = (vec![0; scripts.len()], vec![0; scripts.len()]);
    let now = Instant::now();
    loop {
        let able =
            |at: &usize| sent[*at] < scripts[*at].len() && sent[*at] - task.taken[*at] < CREDITS;
        let able: Vec<usize> = (0..scripts.len()).filter(able).collect();
        let sends = !able.is_empty() && random.below(2) == 0;
        if sends {
            let at = able[random.below(able.len() as u64) as usize];
            match scripts[at][sent[at]] {
                Sent::Record => {
                    inbox.push_batch(at as u32, Batch::of(vec![records[at]]));
                    records[at] += 1;
                }
                Sent::Barrier(number) => {
                    let barrier = Barrier::new(CheckpointId::new(number), BarrierKind::Checkpoint);
                    inbox.push_event(at as u32, Event::Barrier(barrier));
                }
                Sent::End => inbox.push_event(at as u32, Event::EndOfInput),
            }
            sent[at] += 1;
        } else if !task.take(now) && able.is_empty() {
            break;
        }
        assert!(task.gate.held_back() <= CREDITS * scripts.len());
    }
    let all: Vec<usize> = scripts.iter().map(Vec::len).collect();
    assert_eq!(task.taken, all, "everything arrives in the end, of {scripts:?}");
    assert_eq!(task.cuts, cuts(&scripts), "of {scripts:?}");
}

#[test]
fn barriers_cut_each_channel_where_they_were_put_whatever_arrives_first() {
    for seed in 0..SEEDS {
        run(seed);
    }
}

#[test]
fn a_lost_host_is_told_although_its_channel_is_held_back() {
    let (mut task, inbox) = Task::new(2);
    let barrier = Barrier::new(CheckpointId::FIRST, BarrierKind::Checkpoint);
    inbox.push_event(0, Event::Barrier(barrier));
    assert!(task.take(Instant::now()));
    inbox.push_batch(0, Batch::of(vec![1]));
    assert!(!task.take(Instant::now()), "it is held back");
    assert_eq!((task.gate.held_back(), task.gate.waiting()), (1, 0));
    inbox.push_lost(0, "it ended");
    let lost = task.gate.receive_but(|channel| channel == 0).unwrap_err();
    assert_eq!(lost, InboxError::Lost("it ended".to_owned()));
}
