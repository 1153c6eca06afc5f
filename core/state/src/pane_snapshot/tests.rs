//! Panes that are written and restored by other numbers of subtasks.

use std::collections::BTreeMap;

use millstream_types::KeyGroup;

use super::*;
use crate::panes::{Cursor, PaneEntries, PaneValues};
use crate::{GroupTable, KeyedValues, Place};

const MAX: MaxParallelism = MaxParallelism::DEFAULT;
const CLOSED: i64 = 40;

/// The panes of one subtask: ten milliseconds each, closed before a time.
struct Subtask {
    groups: Range<u16>,
    open: OpenPanes<u64, u64>,
    closed: ClosedPanes<u64, u64>,
}

type Entries = BTreeMap<(u64, i64), u64>;

impl Subtask {
    fn all(parallelism: u32) -> Vec<Self> {
        let of = |subtask| {
            let groups = KeyGroup::range_of(subtask, MAX, parallelism);
            let open = OpenPanes::new(groups.clone(), MAX);
            Self { closed: ClosedPanes::new(groups.clone(), MAX), open, groups }
        };
        (0..parallelism).map(of).collect()
    }

    fn put(&mut self, hash: u64, key: u64, pane: i64, value: u64) -> bool {
        if pane < CLOSED {
            self.closed.put_back(pane, hash, &key, value);
        } else {
            self.open.put_back((pane, pane + 9), hash, key, value);
        }
        pane % 10 == 0
    }

    fn snapshot(mut self) -> KeyedSnapshot {
        let slices = PaneSlices::begin(&mut self.open, &mut self.closed, None);
        self.slice(&slices, SliceBudget::unlimited()).unwrap()
    }

    fn slice(&mut self, slices: &PaneSlices, mut budget: SliceBudget) -> Option<KeyedSnapshot> {
        slices.write(&mut self.open, &mut self.closed, &mut budget).unwrap()
    }

    /// Changes a value, wherever it is.
    fn change(&mut self, key: u64, pane: i64) {
        let hash = key.stable_hash();
        if let Some((_, _, values)) = self.open.find(pane) {
            let value = match values {
                PaneValues::Few(few) => few.value_mut(hash, Place::NOWHERE, &key),
                PaneValues::Many(many) => many.value_mut(hash, Place::NOWHERE, &key),
            };
            if let Some(value) = value.unwrap() {
                *value += 1;
            }
        } else {
            let panes = self.closed.of_key(hash, &key);
            match panes.find(pane) {
                Ok(value) => *value += 1,
                Err(at) => panes.insert(at, pane, 1),
            }
        }
    }

    fn restore(&mut self, snapshots: Vec<KeyedSnapshot>) -> Result<(), StateError> {
        let restored = RestoredPanes::of::<u64, u64>(snapshots, &self.groups, MAX)?;
        restored.each(|hash, key, pane, value| self.put(hash, key, pane, value))
    }

    /// Adds all values that it has, each found as a record would find it.
    fn add_to(&mut self, found: &mut Entries, wanted: &Entries) {
        for (key, pane) in wanted.keys() {
            let hash = key.stable_hash();
            let value = if *pane < CLOSED {
                match KeyGroup::of_hash(hash, MAX).get() {
                    group if self.groups.contains(&group) => {
                        self.closed.of_key(hash, key).find(*pane).ok().copied()
                    }
                    _ => None,
                }
            } else {
                let pane = self.open.find(*pane + 5);
                pane.and_then(|(first, last, values)| {
                    assert_eq!((first % 10, last), (0, first + 9));
                    let group = KeyGroup::of_hash(hash, MAX).get();
                    let is_own = self.groups.contains(&group);
                    let value = match values {
                        PaneValues::Few(few) => few.value_mut(hash, Place::NOWHERE, key),
                        PaneValues::Many(many) if is_own => {
                            many.value_mut(hash, Place::NOWHERE, key)
                        }
                        PaneValues::Many(_) => Ok(None),
                    };
                    value.unwrap().copied()
                })
            };
            if let Some(value) = value {
                assert_eq!(found.insert((*key, *pane), value), None, "two subtasks have {key}");
            }
        }
    }
}

/// Few keys in some panes and many in others.
fn entries() -> Entries {
    let keys = |pane: i64| if pane % 20 == 0 { 300 } else { 5 };
    let panes = (0..8).map(|pane| pane * 10);
    panes.flat_map(|pane| (0..keys(pane)).map(move |key| ((key, pane), key * 7 + 1))).collect()
}

fn subtasks_with(entries: &Entries, parallelism: u32) -> Vec<Subtask> {
    let mut subtasks = Subtask::all(parallelism);
    for ((key, pane), value) in entries {
        let hash = key.stable_hash();
        let group = KeyGroup::of_hash(hash, MAX).get();
        let owner = subtasks.iter_mut().find(|subtask| subtask.groups.contains(&group)).unwrap();
        owner.put(hash, *key, *pane, *value);
    }
    subtasks
}

#[test]
fn panes_are_restored_by_any_number_of_subtasks() {
    let wanted = entries();
    for before in [1, 2, 3] {
        let snapshots = subtasks_with(&wanted, before);
        let snapshots: Vec<_> = snapshots.into_iter().map(Subtask::snapshot).collect();
        for after in [1, 2, 3] {
            let mut found = Entries::new();
            for mut subtask in Subtask::all(after) {
                subtask.restore(snapshots.clone()).unwrap();
                subtask.add_to(&mut found, &wanted);
            }
            assert_eq!(found, wanted, "from {before} to {after}");
        }
    }
}

#[test]
fn what_was_restored_is_written_again() {
    let wanted = entries();
    let first = subtasks_with(&wanted, 1).remove(0).snapshot();
    let mut restored = Subtask::all(1).remove(0);
    restored.restore(vec![first.clone()]).unwrap();
    let again = restored.snapshot();
    let count = |snapshot: &KeyedSnapshot| -> u64 {
        snapshot.states.iter().flat_map(|state| &state.groups).map(|group| group.entries).sum()
    };
    assert_eq!((count(&first), count(&again)), (wanted.len() as u64, wanted.len() as u64));
}

#[test]
fn panes_of_other_windows_keys_and_values_are_refused() {
    let wanted = Entries::from([((1, 45), 1)]);
    let snapshot = subtasks_with(&wanted, 1).remove(0).snapshot();
    let said = Subtask::all(1).remove(0).restore(vec![snapshot.clone()]).unwrap_err().to_string();
    assert!(said.contains("45 ms") && said.contains("size, slide and offset"), "{said}");
    let groups = 0..MAX.get() as u16;
    let said = RestoredPanes::of::<u64, String>(vec![snapshot.clone()], &groups, MAX);
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("\"panes\"") && said.contains("u64") && said.contains("string"),
        "{said}"
    );
    let said = RestoredPanes::of::<u32, u64>(vec![snapshot], &groups, MAX).unwrap_err();
    assert!(matches!(said, StateError::KeyType { .. }), "{said}");
}

/// The panes of each group, by their numbers.
type Groups = Vec<(i64, GroupTable<u64, u64>)>;

/// The windows that are fired while a snapshot is being written.
#[derive(Default)]
struct Fired {
    /// A pane that is taken into the closed ones, group by group.
    closing: Option<(Cursor, Groups)>,
    /// One that is in no window to come.
    last: Option<PaneEntries<u64, u64>>,
    steps: u32,
}

impl Fired {
    /// Goes on; each time for a few groups and keys.
    fn step(&mut self, subtask: &mut Subtask) {
        self.steps += 1;
        let Subtask { open, closed, .. } = subtask;
        match (self.steps, &mut self.closing) {
            (2, _) => {
                let (first, values) = open.take_earliest(i128::MAX).unwrap();
                self.closing = Some((Cursor::default(), vec![(first, closed.grouped(values))]));
            }
            (_, Some((cursor, closing))) => {
                closed.take_in(*cursor, closing);
                while closed.next_entry(cursor) {
                    let (key, panes) = closed.entry(*cursor).unwrap();
                    if *key % 3 == 0 && !panes.keep_from(i128::from(CLOSED)) || *key % 7 == 0 {
                        closed.forget(*cursor);
                    }
                }
                if !closed.next_group(cursor) {
                    self.closing = None;
                }
            }
            (_, None) => {}
        }
        match (self.steps, &mut self.last) {
            (4, _) => {
                let few = open.take_earliest(i128::MAX).unwrap().1;
                assert_eq!(few.into_entries().count(), 5);
                self.last = open.take_earliest(i128::MAX).map(|(_, many)| many.into_entries());
            }
            (_, Some(entries)) => {
                if entries.by_ref().take(5).count() < 5 {
                    self.last = None;
                }
            }
            (_, None) => {}
        }
    }
}

#[test]
fn a_snapshot_in_slices_has_the_panes_of_its_begin_whatever_is_done_meanwhile() {
    let wanted = entries();
    for seed in 0..60 {
        let mut subtask = subtasks_with(&wanted, 1).remove(0);
        let slices = PaneSlices::begin(&mut subtask.open, &mut subtask.closed, None);
        let (mut fired, mut random) = (Fired::default(), seed << 32);
        let snapshot = loop {
            let mut below = |end: u64| {
                random += 1;
                u64::stable_hash(&random) % end
            };
            // Many slices, or none until all windows have been fired.
            let most = if seed % 3 == 0 { 1 } else { below(300) };
            if let Some(snapshot) = subtask.slice(&slices, SliceBudget::of(most as usize)) {
                break snapshot;
            }
            for _ in 0..below(20) {
                subtask.change(below(400), below(9).cast_signed() * 10);
            }
            fired.step(&mut subtask);
        };
        let mut restored = Subtask::all(1).remove(0);
        restored.restore(vec![snapshot]).unwrap();
        let mut found = Entries::new();
        restored.add_to(&mut found, &wanted);
        assert_eq!(found, wanted, "seed {seed}");
        let again = restored.snapshot();
        let count: u64 = again.states[0].groups.iter().map(|group| group.entries).sum();
        assert_eq!(count, wanted.len() as u64, "seed {seed}");
        assert!(fired.steps > 4);
    }
}
