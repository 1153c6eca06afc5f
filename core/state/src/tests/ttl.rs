//! States whose values expire, beside a plain model, with a clock that is moved by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Key, ManualClock, MaxParallelism};
use proptest::prelude::*;

use crate::{
    AggregatingState, Backing, KeyedBackend, ListState, MapState, MemoryStore, ReducingState, Ttl,
    ValueState,
};

const TTL_MS: i64 = 10;

fn ttl() -> Ttl {
    Ttl::after(Duration::from_millis(10))
}

fn backings() -> [Backing; 2] {
    [Backing::Heap, Backing::Store(Arc::new(MemoryStore::default()))]
}

fn backend(backing: Backing, clock: &ManualClock) -> KeyedBackend<u8> {
    let mut backend = KeyedBackend::on(backing, 0..128, MaxParallelism::DEFAULT);
    backend.set_clock(clock.clock());
    backend
}

fn set_key(backend: &mut KeyedBackend<u8>, key: u8) {
    backend.set_key(key, key.stable_hash()).unwrap();
}

/// The uses that prolong a value's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewed {
    Never,
    OnWrite,
    OnReadAndWrite,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Set(u64),
    Change(u64),
    Clear,
    Get,
    Add(u64),
    Update(usize),
    Take,
    Elements,
    Put(u8, u64),
    Remove(u8),
    GetEntry(u8),
    Entries,
    Reduce(u64),
    GetReduced,
    Aggregate(u64),
    GetAggregated,
}

#[derive(Debug, Clone)]
enum Step {
    /// A record of a key, which is perhaps refused.
    Record(u8, Vec<Act>, bool),
    Pass(u64),
    SetBack(i64),
    Clean(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..3_u8;
    prop_oneof![
        (0..9_u64).prop_map(Act::Set),
        (0..9_u64).prop_map(Act::Change),
        Just(Act::Clear),
        Just(Act::Get),
        (0..9_u64).prop_map(Act::Add),
        (0..3_usize).prop_map(Act::Update),
        Just(Act::Take),
        Just(Act::Elements),
        (name.clone(), 0..9_u64).prop_map(|(name, value)| Act::Put(name, value)),
        name.clone().prop_map(Act::Remove),
        name.prop_map(Act::GetEntry),
        Just(Act::Entries),
        (0..9_u64).prop_map(Act::Reduce),
        Just(Act::GetReduced),
        (0..9_u64).prop_map(Act::Aggregate),
        Just(Act::GetAggregated),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..4_u8, prop::collection::vec(act(), 0..6), prop::bool::weighted(0.3));
    prop_oneof![
        6 => record.prop_map(|(key, acts, refused)| Step::Record(key, acts, refused)),
        3 => (0..7_u64).prop_map(Step::Pass),
        1 => (1..30_i64).prop_map(Step::SetBack),
        1 => (0..200_usize).prop_map(Step::Clean),
    ]
}

/// A value and when it expires.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Timed(u64, i64);

/// The state of one key.
#[derive(Debug, Clone, Default)]
struct Model {
    value: Option<Timed>,
    list: Vec<Timed>,
    map: BTreeMap<u8, Timed>,
    reduced: Option<Timed>,
    aggregated: Option<Timed>,
}

#[derive(Debug, Clone, Copy)]
struct Time {
    now: i64,
    renewed: Renewed,
}

impl Time {
    fn is_live(self, timed: &Timed) -> bool {
        self.now < timed.1
    }

    fn until(self) -> i64 {
        self.now + TTL_MS
    }

    /// A value that takes the place of another.
    fn written(self, value: u64, before: Option<Timed>) -> Timed {
        match before.filter(|before| self.is_live(before) && self.renewed == Renewed::Never) {
            Some(before) => Timed(value, before.1),
            None => Timed(value, self.until()),
        }
    }

    fn read(self, timed: &mut Timed) -> Option<u64> {
        if !self.is_live(timed) {
            return None;
        }
        if self.renewed == Renewed::OnReadAndWrite {
            timed.1 = self.until();
        }
        Some(timed.0)
    }

    fn read_some(self, timed: &mut Option<Timed>) -> Option<u64> {
        timed.as_mut().and_then(|timed| self.read(timed))
    }

    /// Adds to a value, or makes it.
    fn add(self, timed: &mut Option<Timed>, number: u64) {
        let sum = timed.filter(|timed| self.is_live(timed)).map_or(0, |timed| timed.0) + number;
        *timed = Some(self.written(sum, *timed));
    }

    fn has_live(self, model: &Model) -> bool {
        let singles = [model.value, model.reduced, model.aggregated].into_iter().flatten();
        let all = singles.chain(model.list.iter().copied()).chain(model.map.values().copied());
        all.into_iter().any(|timed| self.is_live(&timed))
    }
}

struct States {
    value: ValueState<u64, Ttl>,
    list: ListState<u64, Ttl>,
    map: MapState<u8, u64, Ttl>,
    reduced: ReducingState<u64, Ttl>,
    aggregated: AggregatingState<u64, (u64, String), u64, Ttl>,
}

impl States {
    fn declare(backend: &mut KeyedBackend<u8>, renewed: Renewed) -> Self {
        let ttl = match renewed {
            Renewed::Never => ttl().on_creation(),
            Renewed::OnWrite => ttl(),
            Renewed::OnReadAndWrite => ttl().on_read_and_write(),
        };
        let init = || (0, "text".to_owned());
        let add = |sum: &mut (u64, String), number| sum.0 += number;
        let aggregated = backend.with_ttl(ttl).aggregating("aggregated", init, add, |sum| sum.0);
        let sum = |sum: &mut u64, number| *sum += number;
        Self {
            value: backend.with_ttl(ttl).value("value").unwrap(),
            list: backend.with_ttl(ttl).list("list").unwrap(),
            map: backend.with_ttl(ttl).map("map").unwrap(),
            reduced: backend.with_ttl(ttl).reducing("reduced", sum).unwrap(),
            aggregated: aggregated.unwrap(),
        }
    }

    fn elements(&self, backend: &KeyedBackend<u8>) -> Vec<u64> {
        let (mut elements, mut all) = (self.list.elements(backend).unwrap(), Vec::new());
        while let Some(element) = elements.next().unwrap() {
            all.push(*element);
        }
        all
    }

    fn entries(&self, backend: &KeyedBackend<u8>) -> BTreeMap<u8, u64> {
        let (mut entries, mut all) = (self.map.entries(backend).unwrap(), BTreeMap::new());
        while let Some((name, value)) = entries.next().unwrap() {
            all.insert(*name, *value);
        }
        all
    }

    /// Does the same to a state and to its model.
    fn act(&self, backend: &mut KeyedBackend<u8>, act: Act, model: &mut Model, time: Time) {
        match act {
            Act::Set(value) => {
                self.value.set(backend, value).unwrap();
                model.value = Some(time.written(value, model.value));
            }
            Act::Change(number) => {
                *self.value.get_or_insert_with(backend, || 0).unwrap() += number;
                time.add(&mut model.value, number);
            }
            Act::Clear => {
                self.value.clear(backend).unwrap();
                model.value = None;
            }
            Act::Get => {
                let came = self.value.get(backend).unwrap().copied();
                assert_eq!(came, time.read_some(&mut model.value));
            }
            Act::Reduce(number) => {
                self.reduced.add(backend, number).unwrap();
                time.add(&mut model.reduced, number);
            }
            Act::GetReduced => {
                let came = self.reduced.get(backend).unwrap().copied();
                assert_eq!(came, time.read_some(&mut model.reduced));
            }
            Act::Aggregate(number) => {
                self.aggregated.add(backend, number).unwrap();
                time.add(&mut model.aggregated, number);
            }
            Act::GetAggregated => {
                let came = self.aggregated.get(backend).unwrap();
                assert_eq!(came, time.read_some(&mut model.aggregated));
            }
            other => self.act_on_many(backend, other, model, time),
        }
    }

    fn act_on_many(&self, backend: &mut KeyedBackend<u8>, act: Act, model: &mut Model, time: Time) {
        let is_live = |timed: &Timed| time.is_live(timed);
        match act {
            Act::Add(value) => {
                self.list.add(backend, value).unwrap();
                model.list.push(Timed(value, time.until()));
            }
            Act::Update(count) => {
                self.list.update(backend, vec![7; count]).unwrap();
                model.list = vec![Timed(7, time.until()); count];
            }
            Act::Take => {
                let live = model.list.drain(..).filter(is_live).map(|timed| timed.0);
                assert_eq!(self.list.take(backend).unwrap(), live.collect::<Vec<_>>());
            }
            Act::Elements => {
                let is_empty = self.list.is_empty(backend).unwrap();
                let live: Vec<_> = model.list.iter_mut().filter_map(|all| time.read(all)).collect();
                assert_eq!((self.elements(backend), is_empty), (live.clone(), live.is_empty()));
            }
            Act::Put(name, value) => {
                self.map.put(backend, name, value).unwrap();
                let before = model.map.get(&name).copied();
                model.map.insert(name, time.written(value, before));
            }
            Act::Remove(name) => {
                let live = model.map.remove(&name).filter(is_live).map(|timed| timed.0);
                assert_eq!(self.map.remove(backend, &name).unwrap(), live);
            }
            Act::GetEntry(name) => {
                let live = model.map.get_mut(&name).and_then(|timed| time.read(timed));
                assert_eq!(self.map.get(backend, &name).unwrap().copied(), live);
                assert_eq!(self.map.contains(backend, &name).unwrap(), live.is_some());
            }
            _ => {
                let is_empty = self.map.is_empty(backend).unwrap();
                let read = |(name, timed): (&u8, &mut Timed)| Some((*name, time.read(timed)?));
                let live: BTreeMap<_, _> = model.map.iter_mut().filter_map(read).collect();
                assert_eq!((self.entries(backend), is_empty), (live.clone(), live.is_empty()));
            }
        }
    }

    fn check(&self, backend: &mut KeyedBackend<u8>, model: &mut Model, time: Time) {
        for act in [Act::Get, Act::GetReduced, Act::GetAggregated, Act::Elements, Act::Entries] {
            self.act(backend, act, model, time);
        }
    }
}

/// Number of keys that are kept, expired or not: none is expired for a clock that is far behind.
fn kept(backend: &mut KeyedBackend<u8>) -> usize {
    let past = ManualClock::new();
    past.set_wall(-1_000_000_000);
    backend.set_clock(past.clock());
    let groups = (0..).map_while(|at| backend.keys_of_group(at).unwrap());
    groups.map(|keys| keys.len()).sum()
}

fn run(backing: Backing, renewed: Renewed, steps: &[Step]) {
    let clock = ManualClock::new();
    let mut backend = backend(backing, &clock);
    backend.keep_undo();
    let states = States::declare(&mut backend, renewed);
    let mut models: BTreeMap<u8, Model> = BTreeMap::new();
    let mut time = Time { now: 0, renewed };
    for step in steps {
        match step {
            Step::Record(key, acts, refused) => {
                set_key(&mut backend, *key);
                let model = models.entry(*key).or_default();
                let before = model.clone();
                acts.iter().for_each(|act| states.act(&mut backend, *act, model, time));
                if *refused {
                    backend.take_back().unwrap();
                    *model = before;
                    states.check(&mut backend, model, time);
                }
            }
            Step::Pass(millis) => {
                clock.advance(Duration::from_millis(*millis));
                time.now += i64::try_from(*millis).unwrap();
                // The clock is asked before it is set back.
                backend.clean(0).unwrap();
            }
            Step::SetBack(millis) => {
                clock.set_wall(-millis);
                backend.clean(0).unwrap();
            }
            Step::Clean(records) => backend.clean(*records).unwrap(),
        }
    }
    let groups = (0..).map_while(|at| backend.keys_of_group(at).unwrap());
    let mut live: Vec<u8> = groups.flatten().collect();
    live.sort_unstable();
    let expected = models.iter().filter(|(_, model)| time.has_live(model)).map(|(key, _)| *key);
    assert_eq!(live, expected.collect::<Vec<_>>());
    for (key, model) in &mut models {
        set_key(&mut backend, *key);
        states.check(&mut backend, model, time);
    }
    clock.advance(Duration::from_millis(10));
    // To the end of each table, and once more from its start.
    (0..2).for_each(|_| backend.clean(1_000).unwrap());
    assert_eq!(kept(&mut backend), 0, "expired values are not deleted");
}

proptest! {
    #[test]
    fn values_expire_as_in_a_plain_model(steps in prop::collection::vec(step(), 0..60)) {
        for renewed in [Renewed::Never, Renewed::OnWrite, Renewed::OnReadAndWrite] {
            for backing in backings() {
                run(backing, renewed, &steps);
            }
        }
    }
}

#[test]
fn a_value_expires_at_the_millisecond_and_not_before() {
    for backing in backings() {
        let clock = ManualClock::new();
        let mut backend = backend(backing, &clock);
        let seen: ValueState<u64, Ttl> = backend.with_ttl(ttl()).value("seen").unwrap();
        set_key(&mut backend, 1);
        seen.set(&mut backend, 7).unwrap();
        clock.advance(Duration::from_millis(9));
        assert_eq!(seen.get(&backend).unwrap(), Some(&7));
        clock.advance(Duration::from_nanos(999_999));
        assert_eq!(seen.get(&backend).unwrap(), Some(&7));
        clock.advance(Duration::from_nanos(1));
        assert_eq!(seen.get(&backend).unwrap(), None);
        assert_eq!(seen.get_or_insert_with(&mut backend, || 1).unwrap(), &1);
    }
}

#[test]
fn a_clock_that_is_set_back_brings_no_value_back_and_keeps_none_for_long() {
    for backing in backings() {
        let clock = ManualClock::new();
        let mut backend = backend(backing, &clock);
        let seen: ValueState<u64, Ttl> = backend.with_ttl(ttl()).value("seen").unwrap();
        set_key(&mut backend, 1);
        seen.set(&mut backend, 7).unwrap();
        clock.advance(Duration::from_millis(10));
        assert_eq!(seen.get(&backend).unwrap(), None);
        clock.set_wall(-1_000_000);
        assert_eq!(seen.get(&backend).unwrap(), None);
        seen.set(&mut backend, 8).unwrap();
        clock.advance(Duration::from_millis(9));
        assert_eq!(seen.get(&backend).unwrap(), Some(&8));
        clock.advance(Duration::from_millis(1));
        assert_eq!(seen.get(&backend).unwrap(), None);
    }
}

#[test]
fn expired_keys_do_not_pile_up() {
    for backing in backings() {
        let clock = ManualClock::new();
        let mut backend = KeyedBackend::<u64>::on(backing, 0..128, MaxParallelism::DEFAULT);
        backend.set_clock(clock.clock());
        let ttl = Ttl::after(Duration::from_millis(2_000));
        let seen: ValueState<u64, Ttl> = backend.with_ttl(ttl).value("seen").unwrap();
        for key in 0..20_000_u64 {
            clock.advance(Duration::from_millis(1));
            backend.clean(1).unwrap();
            backend.set_key(key, key.stable_hash()).unwrap();
            seen.set(&mut backend, key).unwrap();
        }
        let past = ManualClock::new();
        past.set_wall(-1_000_000_000);
        backend.set_clock(past.clock());
        let groups = (0..).map_while(|at| backend.keys_of_group(at).unwrap());
        let kept: usize = groups.map(|keys| keys.len()).sum();
        assert!(kept < 3_000, "{kept} keys are kept, of which 2000 have not expired");
    }
}

#[test]
fn a_long_list_is_not_looked_at_with_every_record() {
    let clock = ManualClock::new();
    let mut backend = backend(Backing::Heap, &clock);
    let list: ListState<u64, Ttl> = backend.with_ttl(ttl()).list("list").unwrap();
    set_key(&mut backend, 1);
    list.update(&mut backend, (0..100_000).collect()).unwrap();
    clock.advance(Duration::from_millis(5));
    list.add(&mut backend, 1).unwrap();
    // The list is looked at once, and then paid for.
    (0..1_000).for_each(|_| backend.clean(1).unwrap());
    clock.advance(Duration::from_millis(5));
    (0..10_000).for_each(|_| backend.clean(1).unwrap());
    set_key(&mut backend, 1);
    let length = |backend: &KeyedBackend<u8>| {
        let mut elements = list.elements(backend).unwrap();
        let mut length = 0;
        while elements.next().unwrap().is_some() {
            length += 1;
        }
        length
    };
    assert_eq!(length(&backend), 1);
    let past = ManualClock::new();
    past.set_wall(-1_000_000_000);
    backend.set_clock(past.clock());
    assert_eq!(length(&backend), 100_001, "it is not paid for yet");
    backend.set_clock(clock.clock());
    (0..15_000).for_each(|_| backend.clean(1).unwrap());
    backend.set_clock(past.clock());
    assert_eq!(length(&backend), 1);
}
