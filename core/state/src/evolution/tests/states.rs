//! Every kind of state with values of an earlier version of their type.

use std::time::Duration;

use millstream_types::ManualClock;

use super::*;
use crate::broadcast::{BroadcastBackend, BroadcastState};
use crate::copying::SliceBudget;
use crate::expiry::Ttl;
use crate::lists::{ListKind, ListSnapshot, RestoredLists};
use crate::pane_snapshot::{PaneSlices, RestoredPanes};
use crate::panes::{ClosedPanes, OpenPanes};

type Backend = KeyedBackend<u32>;

/// Has one version write its states, and another one read them.
fn upgrade(write: impl FnOnce(&mut Backend), read: impl FnOnce(&mut Backend)) {
    let mut before = backend();
    write(&mut before);
    let snapshot = before.snapshot().unwrap();
    let mut after = backend();
    after.restore(vec![snapshot]).unwrap();
    read(&mut after);
    assert_eq!(after.not_declared(), BTreeSet::new());
}

fn page(page: u32) -> v1::Click {
    v1::Click { page, ..click() }
}

fn new_page(page: u64) -> v2::Click {
    v2::Click { page, ..new_click() }
}

#[test]
fn lists_and_maps_of_a_key_are_converted() {
    upgrade(
        |states| {
            let list = states.list::<v1::Click>("list").unwrap();
            list.add(states, page(1)).unwrap();
            list.add(states, page(2)).unwrap();
            let map = states.map::<String, v1::Click>("map").unwrap();
            map.put(states, "a".to_owned(), page(3)).unwrap();
        },
        |states| {
            let list = states.list::<v2::Click>("list").unwrap();
            let mut elements = list.elements(states).unwrap();
            assert_eq!(elements.next().unwrap(), Some(&new_page(1)));
            assert_eq!(elements.next().unwrap(), Some(&new_page(2)));
            assert_eq!(elements.next().unwrap(), None);
            let map = states.map::<String, v2::Click>("map").unwrap();
            assert_eq!(map.get(states, &"a".to_owned()).unwrap(), Some(&new_page(3)));
        },
    );
}

#[test]
fn values_that_are_combined_are_converted() {
    let add = |sum: &mut v1::Click, n: u32| sum.page += n;
    let add_new = |sum: &mut v2::Click, n: u64| sum.page += n;
    upgrade(
        |states| {
            let last = states.reducing::<v1::Click>("last", |last, click| *last = click).unwrap();
            last.add(states, page(5)).unwrap();
            let sum = states.aggregating("sum", || page(0), add, |sum| sum.page).unwrap();
            sum.add(states, 7).unwrap();
        },
        |states| {
            let last = states.reducing::<v2::Click>("last", |last, click| *last = click).unwrap();
            assert_eq!(last.get(states).unwrap(), Some(&new_page(5)));
            let sum = states.aggregating("sum", || new_page(0), add_new, |sum| sum.page).unwrap();
            sum.add(states, 1).unwrap();
            assert_eq!(sum.get(states).unwrap(), Some(8));
        },
    );
}

#[test]
fn values_that_expire_keep_their_age() {
    let clock = ManualClock::new();
    let ttl = Ttl::after(Duration::from_secs(10));
    upgrade(
        |states| {
            states.set_clock(clock.clock());
            let value = states.with_ttl(ttl).value::<v1::Click>("value").unwrap();
            value.set(states, page(1)).unwrap();
            let list = states.with_ttl(ttl).list::<v1::Click>("list").unwrap();
            list.add(states, page(2)).unwrap();
            let map = states.with_ttl(ttl).map::<u8, v1::Click>("map").unwrap();
            map.put(states, 3, page(3)).unwrap();
            clock.advance(Duration::from_secs(6));
        },
        |states| {
            states.set_clock(clock.clock());
            let value = states.with_ttl(ttl).value::<v2::Click>("value").unwrap();
            assert_eq!(value.get(states).unwrap(), Some(&new_page(1)));
            let list = states.with_ttl(ttl).list::<v2::Click>("list").unwrap();
            assert_eq!(list.elements(states).unwrap().next().unwrap(), Some(&new_page(2)));
            let map = states.with_ttl(ttl).map::<u8, v2::Click>("map").unwrap();
            assert_eq!(map.get(states, &3).unwrap(), Some(&new_page(3)));
            clock.advance(Duration::from_secs(6));
            assert_eq!(value.get(states).unwrap(), None);
        },
    );
}

#[test]
fn subtasks_of_two_versions_are_restored_together() {
    let mut other = backend();
    other.set_key(8, 8_u32.stable_hash()).unwrap();
    let state = other.value::<v2::Click>("it").unwrap();
    state.set(&mut other, new_page(8)).unwrap();
    let mut after = backend();
    let snapshots = vec![snapshot_of(page(7)), other.snapshot().unwrap()];
    after.restore(snapshots).unwrap();
    let state = after.value::<v2::Click>("it").unwrap();
    assert_eq!(state.get(&after).unwrap(), Some(&new_page(7)));
    after.set_key(8, 8_u32.stable_hash()).unwrap();
    assert_eq!(state.get(&after).unwrap(), Some(&new_page(8)));
}

#[test]
fn the_key_of_a_state_is_never_converted() {
    types! {
        #[derive(Eq, millstream_macros::Key)]
        struct Id { number: u32, part: u8 }
    }
    mod after {
        use super::*;
        types! {
            #[derive(Eq, millstream_macros::Key)]
            pub(super) struct Renamed { #[serde(alias = "number")] id: u32, part: u8 }
            #[derive(Eq, millstream_macros::Key)]
            pub(super) struct Moved { part: u8, number: u32 }
        }
    }
    let max = MaxParallelism::DEFAULT;
    let mut before = KeyedBackend::<Id>::new(0..128, max);
    let id = Id { number: 1, part: 2 };
    let hash = id.stable_hash();
    before.set_key(id, hash).unwrap();
    let count = before.value::<u8>("count").unwrap();
    count.set(&mut before, 3).unwrap();
    let snapshot = before.snapshot().unwrap();
    let mut renamed = KeyedBackend::<after::Renamed>::new(0..128, max);
    renamed.restore(vec![snapshot.clone()]).unwrap();
    renamed.value::<u8>("count").unwrap();
    let mut moved = KeyedBackend::<after::Moved>::new(0..128, max);
    let said = moved.restore(vec![snapshot]).unwrap_err().to_string();
    let both = "their keys are Id { number: u32, part: u8 } in the snapshot and Moved { part: u8, \
                number: u32 } in the program";
    assert!(said.contains(both), "{said}");
}

#[test]
fn lists_of_operators_are_converted() {
    for kind in [ListKind::Divided, ListKind::Union] {
        let clicks = [page(1), page(2)];
        let list = ListSnapshot::of("clicks", kind, Schema::of::<v1::Click>(), clicks).unwrap();
        let mut lists = RestoredLists::same(vec![list.clone()]);
        let read: Vec<v2::Click> = lists.take("clicks", kind, &Schema::of::<v2::Click>()).unwrap();
        assert_eq!(read, [new_page(1), new_page(2)]);
        let mut lists = RestoredLists::rescaled(vec![list], 1, 2);
        let read: Vec<v2::Click> = lists.take("clicks", kind, &Schema::of::<v2::Click>()).unwrap();
        assert_eq!(read.last(), Some(&new_page(2)));
    }
}

#[test]
fn broadcast_state_is_converted_entry_by_entry() {
    let mut before = BroadcastBackend::default();
    let rules: BroadcastState<String, v1::Click> = before.declare("rules").unwrap();
    rules.put(before.maps_mut(), "a".to_owned(), page(1)).unwrap();
    let lists = before.snapshot().unwrap();
    let mut after = BroadcastBackend::restored(RestoredLists::same(lists.clone()));
    let rules: BroadcastState<String, v2::Click> = after.declare("rules").unwrap();
    assert_eq!(rules.get(after.maps(), &"a".to_owned()).unwrap(), Some(&new_page(1)));
    let mut other = BroadcastBackend::restored(RestoredLists::same(lists));
    let said = other.declare::<u8, v2::Click>("rules").unwrap_err().to_string();
    let both = "as broadcast state, a key of it is string in the snapshot and u8 in the program";
    assert!(said.contains(both), "{said}");
}

#[test]
fn panes_of_windows_are_converted() {
    let max = MaxParallelism::DEFAULT;
    let mut open = OpenPanes::<u32, v1::Click>::new(0..128, max);
    open.put_back((0, 9), 7_u32.stable_hash(), 7, page(1));
    let mut closed = ClosedPanes::<u32, v1::Click>::new(0..128, max);
    closed.put_back(-10, 7_u32.stable_hash(), &7, page(2));
    let slices = PaneSlices::begin(&mut open, &mut closed, None);
    let snapshot = slices.write(&mut open, &mut closed, &mut SliceBudget::unlimited());
    let snapshot = snapshot.unwrap().unwrap();
    let restored = RestoredPanes::of::<u32, v2::Click>(vec![snapshot.clone()], &(0..128), max);
    let mut values = BTreeMap::new();
    let put =
        |_, key: u32, pane: i64, value: v2::Click| values.insert((key, pane), value.page).is_none();
    restored.unwrap().each(put).unwrap();
    assert_eq!(values, BTreeMap::from([((7, 0), 1), ((7, -10), 2)]));
    let refused = RestoredPanes::of::<u32, v2::Shape>(vec![snapshot], &(0..128), max).unwrap_err();
    assert!(refused.to_string().contains("part 1 of it is Click"), "{refused}");
}

#[test]
fn a_time_to_live_is_neither_added_nor_removed() {
    let mut after = backend();
    after.restore(vec![snapshot_of(page(1))]).unwrap();
    let ttl = Ttl::after(Duration::from_secs(10));
    let said = after.with_ttl(ttl).value::<v2::Click>("it").unwrap_err().to_string();
    assert!(said.contains("do not expire in the snapshot and do in the program"), "{said}");
}
