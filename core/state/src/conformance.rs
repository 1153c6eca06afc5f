//! Suite for keyed state wherever it is kept: random work on all kinds of state, beside a model.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use millstream_types::{Key, KeyGroup, MaxParallelism};

use crate::backend::KeyedBackend;
use crate::combined::{AggregatingState, ReducingState};
use crate::copying::SliceBudget;
use crate::error::StateError;
use crate::handles::{ListState, ValueState};
use crate::keyed::Backing;
use crate::maps::MapState;
use crate::slices::InSlices;
use crate::snapshot::KeyedSnapshot;

/// The state of one key.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    value: Option<(u64, String)>,
    list: Vec<Option<u32>>,
    map: BTreeMap<String, Vec<u8>>,
    longest: Option<String>,
    numbers: Vec<u64>,
}

impl Model {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

struct States {
    value: ValueState<(u64, String)>,
    list: ListState<Option<u32>>,
    map: MapState<String, Vec<u8>>,
    longest: ReducingState<String>,
    mean: AggregatingState<u64, (u64, u64), u64>,
}

impl States {
    fn declare(backend: &mut KeyedBackend<String>) -> Result<Self, StateError> {
        let longer = |longest: &mut String, next: String| {
            if next.len() > longest.len() {
                *longest = next;
            }
        };
        let add = |(sum, count): &mut (u64, u64), n| (*sum, *count) = (*sum + n, *count + 1);
        Ok(Self {
            value: backend.value("value")?,
            list: backend.list("list")?,
            map: backend.map("map")?,
            longest: backend.reducing("longest", longer)?,
            mean: backend.aggregating("mean", || (0, 0), add, |(sum, count)| sum / count)?,
        })
    }
}

/// Random numbers of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        self.0.stable_hash() % end
    }
}

const GROUPS: Range<u16> = 3..9;
const STEPS: usize = 400;

/// Runs the suite on backends that `backing` makes, each on an empty store.
///
/// # Panics
/// The state of a key is not what was done to it.
pub fn run(backing: impl Fn() -> Backing, seeds: u64) {
    for seed in 0..seeds {
        for keeps_undo in [false, true] {
            let run = run_seed(seed, &backing, keeps_undo);
            assert!(run.is_ok(), "seed {seed}, undo {keeps_undo}: {run:?}");
        }
    }
}

fn run_seed(seed: u64, backing: &impl Fn() -> Backing, keeps_undo: bool) -> Result<(), StateError> {
    let groups = max_parallelism();
    let mut backend = KeyedBackend::<String>::on(backing(), GROUPS, groups);
    let states = States::declare(&mut backend)?;
    if keeps_undo {
        backend.keep_undo();
    }
    let owned = |key: &String| {
        let group = KeyGroup::of_hash(key.stable_hash(), groups);
        GROUPS.contains(&group.get())
    };
    // Many keys make tables grow.
    let count = if seed.is_multiple_of(2) { 12 } else { 120 };
    let keys: Vec<String> = (0..).map(|n| format!("key {n}")).filter(owned).take(count).collect();
    let mut random = Random(seed << 32);
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let mut slices = Slices::default();
    for step in 0..STEPS {
        slices.step(&mut backend, backing, &models, &mut random)?;
        if step % 16 == 0 {
            backend.prepare(keys.iter().step_by(2).map(|key| (key.clone(), key.stable_hash())))?;
        }
        let at = random.below(keys.len() as u64) as usize;
        let Some(key) = keys.get(at) else { continue };
        if random.below(2) == 0 {
            backend.set_key(key.clone(), key.stable_hash())?;
        } else {
            backend.copy_key(key, key.stable_hash())?;
        }
        let before = models.get(key).cloned().unwrap_or_default();
        let mut model = before.clone();
        for _ in 0..random.below(4) {
            change(&mut backend, &states, &mut model, &mut random)?;
            check(&backend, &states, &model)?;
        }
        if keeps_undo && random.below(3) == 0 {
            backend.take_back()?;
            model = before;
            check(&backend, &states, &model)?;
        }
        models.insert(key.clone(), model);
    }
    slices.check(&backend);
    models.retain(|_, model| !model.is_empty());
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(keys) = backend.keys_of_group(at)? {
        for key in keys {
            backend.set_key(key.clone(), key.stable_hash())?;
            check(&backend, &states, &models.get(&key).cloned().unwrap_or_default())?;
            assert!(found.insert(key), "a key is there twice");
        }
        at += 1;
    }
    assert!(found.iter().eq(models.keys()), "{found:?} are there, but not {models:?}");
    let snapshot = backend.snapshot()?;
    for (backing, groups) in [(Backing::Heap, 3..5), (backing(), 5..9)] {
        check_restored(&snapshot, backing, groups, &models)?;
    }
    let mut taken = BTreeMap::new();
    let table = backend.table(&states.value)?;
    while let Some(group) = table.pop_group()? {
        taken.extend(group);
    }
    let values = models.into_iter().filter_map(|(key, model)| Some((key, model.value?)));
    let values: BTreeMap<_, _> = values.collect();
    assert_eq!(taken, values);
    Ok(())
}

/// Snapshots in slices between the steps of a run.
#[derive(Debug, Default)]
struct Slices {
    /// The state at the begin of the snapshot that is being written.
    begun: Option<BTreeMap<String, Model>>,
    /// The number of snapshots that were written to their ends.
    whole: u32,
    /// The number of those after whose begin the state changed.
    changed: u32,
}

impl Slices {
    fn check(&self, backend: &KeyedBackend<String>) {
        let Self { whole, changed, .. } = self;
        // A store's snapshots are written at once.
        let is_sliced = matches!(backend.backing(), Backing::Heap);
        assert!(*whole > 0 && (*changed > 0 || !is_sliced), "{whole} whole, {changed} in slices");
    }

    fn step(
        &mut self,
        backend: &mut KeyedBackend<String>,
        backing: &impl Fn() -> Backing,
        models: &BTreeMap<String, Model>,
        random: &mut Random,
    ) -> Result<(), StateError> {
        match random.below(16) {
            // Seldom in the place of one that is being written.
            0 if self.begun.is_none() || random.below(8) == 0 => {
                backend.begin_slices(None)?;
                self.begun = Some(models.clone());
            }
            1 if random.below(8) == 0 => {
                backend.drop_slices();
                self.begun = None;
            }
            2..12 => {}
            _ => return Ok(()),
        }
        let most = 1 << random.below(14);
        let Some(snapshot) = backend.write_slice(&mut SliceBudget::of(most as usize))? else {
            return Ok(());
        };
        let begun = self.begun.take().unwrap_or_default();
        self.whole += 1;
        self.changed += u32::from(begun != *models);
        for (backing, groups) in [(Backing::Heap, 3..6), (backing(), 6..9)] {
            check_restored(&snapshot, backing, groups, &begun)?;
        }
        Ok(())
    }
}

fn max_parallelism() -> MaxParallelism {
    MaxParallelism::new(16).unwrap_or(MaxParallelism::DEFAULT)
}

/// Restores some key groups from a snapshot and compares the states of their keys.
fn check_restored(
    snapshot: &KeyedSnapshot,
    backing: Backing,
    groups: Range<u16>,
    models: &BTreeMap<String, Model>,
) -> Result<(), StateError> {
    let mut backend = KeyedBackend::<String>::on(backing, groups.clone(), max_parallelism());
    backend.restore(vec![snapshot.clone()])?;
    let states = States::declare(&mut backend)?;
    assert!(backend.not_declared().is_empty());
    let is_owned = |key: &String| {
        groups.contains(&KeyGroup::of_hash(key.stable_hash(), max_parallelism()).get())
    };
    let mut count = 0;
    while let Some(keys) = backend.keys_of_group(count)? {
        assert!(keys.iter().all(|key| models.contains_key(key)), "{keys:?} are too many");
        count += 1;
    }
    for (key, model) in models.iter().filter(|(key, _)| is_owned(key)) {
        backend.set_key(key.clone(), key.stable_hash())?;
        check(&backend, &states, model)?;
    }
    // The same entries, though perhaps in another order.
    let entries = |snapshot: &KeyedSnapshot| {
        let mut entries = BTreeMap::<(String, u16), (u64, usize)>::new();
        for state in &snapshot.states {
            for group in state.groups.iter().filter(|group| groups.contains(&group.group)) {
                let sums = entries.entry((state.name.clone(), group.group)).or_default();
                *sums = (sums.0 + group.entries, sums.1 + group.bytes.len());
            }
        }
        entries
    };
    assert_eq!(entries(&backend.snapshot()?), entries(snapshot));
    Ok(())
}

/// One random call of a handle, and what it does to the model.
fn change(
    backend: &mut KeyedBackend<String>,
    states: &States,
    model: &mut Model,
    random: &mut Random,
) -> Result<(), StateError> {
    let name = format!("entry {}", random.below(4));
    let number = random.below(1_000);
    match random.below(13) {
        0 => {
            states.value.set(backend, (number, name.clone()))?;
            model.value = Some((number, name));
        }
        1 => {
            states.value.get_or_insert_with(backend, Default::default)?.0 += number;
            model.value.get_or_insert_default().0 += number;
        }
        2 => {
            states.value.clear(backend)?;
            model.value = None;
        }
        3 => {
            states.list.add(backend, Some(number as u32))?;
            model.list.push(Some(number as u32));
        }
        4 => {
            model.list = vec![None; (number % 3) as usize];
            states.list.update(backend, model.list.clone())?;
        }
        5 => assert_eq!(states.list.take(backend)?, std::mem::take(&mut model.list)),
        6 => {
            states.map.put(backend, name.clone(), vec![1; number as usize])?;
            model.map.insert(name, vec![1; number as usize]);
        }
        7 => assert_eq!(states.map.remove(backend, &name)?, model.map.remove(&name)),
        8 => {
            states.map.clear(backend)?;
            model.map.clear();
        }
        9 => {
            let text = name.repeat(number as usize % 5);
            let is_longer = model.longest.as_ref().is_none_or(|old| text.len() > old.len());
            states.longest.add(backend, text.clone())?;
            if is_longer {
                model.longest = Some(text);
            }
        }
        10 => {
            states.longest.clear(backend)?;
            model.longest = None;
        }
        11 => {
            states.mean.add(backend, number)?;
            model.numbers.push(number);
        }
        _ => {
            states.mean.clear(backend)?;
            model.numbers.clear();
        }
    }
    Ok(())
}

/// Compares all states of the current key with the model, while all are readable at once.
fn check(backend: &KeyedBackend<String>, states: &States, model: &Model) -> Result<(), StateError> {
    let value = states.value.get(backend)?;
    let (mut elements, mut entries) =
        (states.list.elements(backend)?, states.map.entries(backend)?);
    let mut list = Vec::new();
    while let Some(element) = elements.next()? {
        list.push(*element);
    }
    let mut map = BTreeMap::new();
    while let Some((name, value)) = entries.next()? {
        assert_eq!(states.map.get(backend, name)?, Some(value));
        map.insert(name.clone(), value.clone());
    }
    assert_eq!(value, model.value.as_ref());
    assert_eq!(states.longest.get(backend)?, model.longest.as_ref());
    let mean = model.numbers.iter().sum::<u64>().checked_div(model.numbers.len() as u64);
    assert_eq!(states.mean.get(backend)?, mean);
    assert_eq!((&list, &map), (&model.list, &model.map));
    assert_eq!(states.list.is_empty(backend)?, model.list.is_empty());
    assert_eq!(states.map.is_empty(backend)?, model.map.is_empty());
    assert!(!states.map.contains(backend, &"none".to_owned())?);
    Ok(())
}
