//! Panes that are written and restored by other numbers of subtasks.

use std::collections::BTreeMap;

use super::*;
use crate::panes::PaneValues;
use crate::{KeyedValues, Place};

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

    fn snapshot(&self) -> KeyedSnapshot {
        snapshot_panes(&self.open, &self.closed, self.groups.clone(), MAX).unwrap()
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
        let snapshots: Vec<_> = snapshots.iter().map(Subtask::snapshot).collect();
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
