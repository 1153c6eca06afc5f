//! Copies of tables, timers and values that expire, while they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Key, ManualClock, MaxParallelism};
use serde::de::DeserializeOwned;

use super::*;
use crate::{Expiry, GroupTable, InSlices, KeyedBackend, KeyedSnapshot, MapState, TimeDomain, Ttl};

/// Random numbers of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        self.0.stable_hash() % end
    }
}

const GROUPS: std::ops::Range<u16> = 0..4;

fn groups() -> MaxParallelism {
    MaxParallelism::new(4).unwrap()
}

/// Takes two parts of three.
#[derive(Debug, Default)]
struct Shelf(Mutex<(u32, Vec<(u32, GroupSnapshot)>)>);

impl PartSink for Shelf {
    fn take(&self, state: u32, part: GroupSnapshot) -> Result<Vec<u8>, GroupSnapshot> {
        let (asked, parts) = &mut *self.0.lock().unwrap();
        *asked += 1;
        if *asked % 3 == 0 {
            return Err(part);
        }
        parts.push((state, part));
        Ok(Vec::new())
    }
}

impl Shelf {
    /// The sink, for half of all numbers.
    fn of_half(number: u64) -> (Arc<Self>, Option<Arc<dyn PartSink>>) {
        let shelf = Arc::<Self>::default();
        let sink: Arc<dyn PartSink> = Arc::clone(&shelf) as _;
        (shelf, (number % 2 == 1).then_some(sink))
    }

    fn has_parts(&self) -> bool {
        !self.0.lock().unwrap().1.is_empty()
    }

    /// The parts of a state, and the rest of it.
    fn with(&self, state: u32, rest: Vec<GroupSnapshot>) -> Vec<GroupSnapshot> {
        let parts = &self.0.lock().unwrap().1;
        let own = parts.iter().filter(|(of, _)| *of == state).map(|(_, part)| part.clone());
        own.chain(rest).collect()
    }

    /// A snapshot with its parts.
    fn complete(&self, mut snapshot: KeyedSnapshot) -> KeyedSnapshot {
        for (number, state) in (0..).zip(&mut snapshot.states) {
            state.groups = self.with(number, std::mem::take(&mut state.groups));
        }
        snapshot
    }
}

/// The entries of all groups, each of which is there once.
fn entries<A, B>(groups: &[GroupSnapshot]) -> BTreeMap<A, B>
where
    A: DeserializeOwned + Ord,
    B: DeserializeOwned,
{
    let mut all = BTreeMap::new();
    for group in groups {
        let mut rest = &group.bytes[..];
        for _ in 0..group.entries {
            let ((a, b), left) = postcard::take_from_bytes(rest).unwrap();
            assert!(all.insert(a, b).is_none(), "an entry is there twice");
            rest = left;
        }
        assert!(rest.is_empty());
    }
    all
}

/// One random change of a table and of what it should have.
fn change(table: &mut GroupTable<u64, u64>, model: &mut BTreeMap<u64, u64>, random: &mut Random) {
    let (key, value) = (random.below(400), random.below(1 << 40));
    let hash = key.stable_hash();
    match random.below(9) {
        0 => assert_eq!(table.replace(hash, &key, value), model.insert(key, value)),
        1 => assert_eq!(table.remove(hash, &key), model.remove(&key)),
        2 => {
            let (found, _) = table.get_or_insert_with(hash, &key, || value);
            *found += 1;
            *model.entry(key).or_insert(value) += 1;
        }
        3 => match table.get_mut(hash, &key) {
            Some(found) => *found = model.insert(key, value).map(|_| value).unwrap(),
            None => {
                table.insert_new(hash, key, value);
                model.insert(key, value);
            }
        },
        4 => {
            let place = table.prefetch(hash);
            if let Some(found) = table.get_mut_at(hash, place, &key) {
                *found = value;
                model.insert(key, value);
            }
        }
        5 => {
            let (group, from) = (random.below(4) as usize, random.below(64) as usize);
            if let Some(at) = table.next_place(group, from) {
                let (key, found) = table.entry_at(group, at).unwrap();
                *found = value;
                model.insert(*key, value);
            }
        }
        6 => {
            let (group, from) = (random.below(4) as usize, random.below(64) as usize);
            if let Some(at) = table.next_place(group, from) {
                let key = table.entry_at(group, at).unwrap().0;
                table.remove_at(group, at);
                model.remove(&key);
            }
        }
        7 if random.below(50) == 0 => {
            for (key, value) in table.take_group(random.below(4) as usize) {
                assert_eq!(model.remove(&key), Some(value));
            }
        }
        7 => {}
        _ => {
            let bucket = random.below(64) as usize;
            let mut gone = None;
            table.retain_bucket(random.below(4) as usize, bucket, |value| {
                gone = Some(*value);
                false
            });
            if let Some(value) = gone {
                model.retain(|_, other| *other != value);
            }
        }
    }
}

#[test]
fn a_copy_has_the_entries_of_its_begin_whatever_is_done_meanwhile() {
    let (mut copies, mut in_parts) = (0, 0);
    for seed in 0..200 {
        let mut random = Random(seed << 32);
        let mut table = GroupTable::<u64, u64>::new(GROUPS, groups());
        let mut model = BTreeMap::new();
        for _ in 0..20 {
            for _ in 0..random.below(200) {
                change(&mut table, &mut model, &mut random);
            }
            let (begun, mut written) = (model.clone(), Written::of(GROUPS));
            let (shelf, sink) = Shelf::of_half(seed);
            sink.iter().for_each(|sink| written.send_parts(sink, 7));
            let written = written.shared();
            let write = |key: &u64, value: &u64, bytes: &mut GroupBytes| {
                bytes.add("numbers", &(key, value))
            };
            table.begin_copy(&written, Box::new(write));
            while !table.copy_some(&mut SliceBudget::of(random.below(300) as usize)) {
                for _ in 0..random.below(40) {
                    change(&mut table, &mut model, &mut random);
                }
            }
            let rest = GroupSnapshot::all(lock(&written).take().unwrap());
            let found: BTreeMap<u64, u64> = entries(&shelf.with(7, rest));
            in_parts += usize::from(shelf.has_parts());
            assert_eq!(found, begun, "seed {seed}");
            assert_eq!(lock(&written).tables, 0);
            copies += usize::from(found != model);
        }
    }
    assert!(in_parts > 1_000, "{in_parts}");
    assert!(copies > 1_000, "only {copies} copies were not those of their end");
}

#[test]
fn a_table_that_is_taken_apart_leaves_a_whole_copy() {
    let mut table = GroupTable::<u64, u64>::new(GROUPS, groups());
    (0..1_000).for_each(|key: u64| table.insert(key.stable_hash(), &key, key));
    let written = Written::of(GROUPS).shared();
    let write =
        |key: &u64, value: &u64, bytes: &mut GroupBytes| bytes.add("numbers", &(key, value));
    table.begin_copy(&written, Box::new(write));
    assert!(!table.copy_some(&mut SliceBudget::of(100)));
    while table.pop_group().is_some() {}
    drop(table);
    let mut written = lock(&written);
    assert_eq!(written.tables, 0);
    assert_eq!(entries::<u64, u64>(&GroupSnapshot::all(written.take().unwrap())).len(), 1_000);
}

#[test]
fn timers_are_those_of_the_begin_whatever_is_done_meanwhile() {
    let mut in_parts = 0;
    for seed in 0..100 {
        let mut random = Random(seed << 32);
        let mut backend = KeyedBackend::<u16>::new(GROUPS, groups());
        let names = [
            backend.timers("a", TimeDomain::Event).unwrap(),
            backend.timers("b", TimeDomain::Event).unwrap(),
            backend.timers("c", TimeDomain::Processing).unwrap(),
        ];
        let work = |backend: &mut KeyedBackend<u16>, random: &mut Random| {
            for _ in 0..random.below(30) {
                let (key, name) = (random.below(50) as u16, random.below(3) as usize);
                let time = random.below(40) as i64;
                backend.set_key(key, key.stable_hash()).unwrap();
                match random.below(6) {
                    0..4 => names[name].set(backend, time).unwrap(),
                    4 => names[name].delete(backend, time).unwrap(),
                    _ => {
                        let until = random.below(4) as i64;
                        backend.take_timer(TimeDomain::Event, until).unwrap();
                    }
                }
            }
        };
        let read = |snapshot: &KeyedSnapshot| -> Vec<BTreeSet<(i64, u16)>> {
            let states = snapshot.states.iter();
            states.map(|state| entries::<(i64, u16), ()>(&state.groups)).map(keys).collect()
        };
        for _ in 0..10 {
            work(&mut backend, &mut random);
            let begun = read(&backend.snapshot().unwrap());
            let (shelf, sink) = Shelf::of_half(seed);
            backend.begin_slices(sink.as_ref()).unwrap();
            let snapshot = loop {
                let mut budget = SliceBudget::of(random.below(200) as usize);
                if let Some(snapshot) = backend.write_slice(&mut budget).unwrap() {
                    break snapshot;
                }
                work(&mut backend, &mut random);
            };
            assert_eq!(read(&shelf.complete(snapshot)), begun, "seed {seed}");
            in_parts += usize::from(shelf.has_parts());
        }
    }
    assert!(in_parts > 50, "{in_parts}");
}

fn keys<A: Ord, B>(map: BTreeMap<A, B>) -> BTreeSet<A> {
    map.into_keys().collect()
}

/// The values of each key with the times at which they expire.
type Expiring = BTreeMap<u32, BTreeMap<u8, (i64, u64)>>;

fn expiring(snapshot: &KeyedSnapshot) -> Expiring {
    entries(&snapshot.states[0].groups)
}

#[test]
fn values_that_expire_are_those_of_the_begin_also_if_a_read_renews_them() {
    let second = Ttl::after(Duration::from_secs(1));
    for (seed, ttl) in (0..60).zip([second, second.on_read_and_write()].into_iter().cycle()) {
        let (manual, mut random) = (ManualClock::new(), Random(seed << 32));
        let mut backend = KeyedBackend::<u32>::new(GROUPS, groups());
        backend.set_clock(manual.clock());
        let map: MapState<u8, u64, Ttl> = backend.with_ttl(ttl).map("map").unwrap();
        let mut changed = 0;
        for _ in 0..30 {
            work(&mut backend, &map, &manual, &mut random);
            let begun = expiring(&backend.snapshot().unwrap());
            let (shelf, sink) = Shelf::of_half(seed / 2);
            backend.begin_slices(sink.as_ref()).unwrap();
            let snapshot = loop {
                let mut budget = SliceBudget::of(random.below(200) as usize);
                if let Some(snapshot) = backend.write_slice(&mut budget).unwrap() {
                    break snapshot;
                }
                work(&mut backend, &map, &manual, &mut random);
            };
            assert_eq!(expiring(&shelf.complete(snapshot)), begun, "seed {seed}");
            changed += u32::from(expiring(&backend.snapshot().unwrap()) != begun);
        }
        assert!(changed > 5, "{changed}");
    }
}

fn work<E: Expiry>(
    backend: &mut KeyedBackend<u32>,
    map: &MapState<u8, u64, E>,
    manual: &ManualClock,
    random: &mut Random,
) {
    manual.advance(Duration::from_millis(random.below(100)));
    backend.clean(10).unwrap();
    for _ in 0..random.below(12) {
        let (key, name) = (random.below(40) as u32, random.below(4) as u8);
        backend.set_key(key, key.stable_hash()).unwrap();
        match random.below(5) {
            0 | 1 => map.put(backend, name, random.below(1_000)).unwrap(),
            2 => drop(map.get(backend, &name).unwrap()),
            3 => drop(map.entries(backend).unwrap()),
            _ => drop(map.remove(backend, &name).unwrap()),
        }
    }
}

#[test]
fn a_value_that_cannot_be_written_refuses_the_snapshot_and_no_record() {
    let written = Written::of(GROUPS).shared();
    let mut table = GroupTable::<u64, u64>::new(GROUPS, groups());
    (0..100).for_each(|key: u64| table.insert(key.stable_hash(), &key, key));
    let fails = |_: &u64, _: &u64, _: &mut GroupBytes| Err(StateError::TooMany);
    table.begin_copy(&written, Box::new(fails));
    *table.get_mut(7_u64.stable_hash(), &7).unwrap() = 8;
    assert!(table.copy_some(&mut SliceBudget::of(1)), "nothing more is written");
    assert!(matches!(lock(&written).take(), Err(StateError::TooMany)));
    assert_eq!(Arc::strong_count(&written), 1);
}
