//! Snapshots that do not fit, that are damaged, and of timers.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_types::{ManualClock, MaxParallelism};
use proptest::prelude::*;

use super::*;
use crate::expiry::Ttl;
use crate::handles::ValueState;
use crate::timer_queue::TimeDomain;

type Backend = KeyedBackend<u32>;

fn backend() -> Backend {
    KeyedBackend::new(0..128, MaxParallelism::DEFAULT)
}

fn at(backend: &mut Backend, key: u32) -> &mut Backend {
    backend.set_key(key, key.stable_hash()).unwrap();
    backend
}

/// Ten keys with a value, and a timer each.
fn snapshot() -> KeyedSnapshot {
    let mut backend = backend();
    let count = backend.value::<u64>("count").unwrap();
    let timeout = backend.timers("timeout", TimeDomain::Event).unwrap();
    for key in 0..10 {
        let ctx = at(&mut backend, key);
        count.set(ctx, u64::from(key) * 1_000).unwrap();
        timeout.set(ctx, i64::from(key)).unwrap();
    }
    backend.snapshot().unwrap()
}

/// Why the snapshot cannot be restored in an operator that `declare`s its states.
fn refusal(
    snapshot: KeyedSnapshot,
    declare: impl Fn(&mut Backend) -> Result<(), StateError>,
) -> String {
    let mut backend = backend();
    backend.restore(vec![snapshot]).unwrap();
    declare(&mut backend).unwrap_err().to_string()
}

#[test]
fn a_state_of_another_type_is_refused_with_both() {
    let said = refusal(snapshot(), |backend| backend.value::<String>("count").map(drop));
    let both = "state \"count\" cannot be restored: it is u64 in the snapshot and string in the \
                program";
    assert_eq!(said, both);
    let said = refusal(snapshot(), |backend| {
        let hour = Ttl::after(Duration::from_secs(3_600));
        backend.with_ttl(hour).value::<u64>("count").map(drop)
    });
    assert!(said.contains("do not expire in the snapshot and do in the program"), "{said}");
    let said =
        refusal(snapshot(), |backend| backend.timers("timeout", TimeDomain::Processing).map(drop));
    assert!(said.contains("of event time in the snapshot and of processing time"), "{said}");
    let said = refusal(snapshot(), |backend| backend.value::<u64>("timeout").map(drop));
    assert!(said.contains("the snapshot has timers of this name"), "{said}");
    let said = refusal(snapshot(), |backend| backend.timers("count", TimeDomain::Event).map(drop));
    assert!(said.contains("has a state of this name and the program has timers"), "{said}");
}

#[test]
fn other_keys_and_key_groups_are_refused_with_both() {
    let mut other = KeyedBackend::<u64>::new(0..128, MaxParallelism::DEFAULT);
    let said = other.restore(vec![snapshot()]).unwrap_err().to_string();
    assert!(said.contains("their keys are u32 in the snapshot and u64 in the program"), "{said}");
    let few = MaxParallelism::new(64).unwrap();
    let said = Backend::new(0..64, few).restore(vec![snapshot()]).unwrap_err().to_string();
    assert!(said.contains("128 key groups in the snapshot and into 64 in the program"), "{said}");
}

#[test]
fn states_that_the_program_does_not_have_are_named() {
    let mut backend = backend();
    backend.restore(vec![snapshot(), snapshot()]).unwrap();
    assert_eq!(backend.not_declared(), BTreeSet::from(["count", "timeout"]));
    let said = backend.value::<u64>("count").unwrap_err().to_string();
    assert!(said.contains("two snapshots have the same part of it"), "{said}");
    assert_eq!(backend.not_declared(), BTreeSet::from(["timeout"]));
}

#[test]
fn a_state_that_is_new_begins_empty() {
    let mut backend = backend();
    backend.restore(vec![snapshot()]).unwrap();
    let new = backend.value::<u64>("new").unwrap();
    let count = backend.value::<u64>("count").unwrap();
    let ctx = at(&mut backend, 7);
    assert_eq!((new.get(ctx).unwrap(), count.get(ctx).unwrap()), (None, Some(&7_000)));
}

#[test]
fn values_that_have_expired_are_left_out_and_others_keep_their_age() {
    let clock = ManualClock::new();
    let declare = |backend: &mut Backend| -> ValueState<u64, Ttl> {
        backend.set_clock(clock.clock());
        backend.with_ttl(Ttl::after(Duration::from_secs(10))).value("seen").unwrap()
    };
    let mut before = backend();
    let seen = declare(&mut before);
    seen.set(at(&mut before, 1), 1).unwrap();
    clock.advance(Duration::from_secs(6));
    seen.set(at(&mut before, 2), 2).unwrap();
    clock.advance(Duration::from_secs(6));
    let snapshot = before.snapshot().unwrap();
    let entries = snapshot.states[0].groups.iter().map(|group| group.entries);
    assert_eq!(entries.sum::<u64>(), 1);
    let mut after = backend();
    after.restore(vec![snapshot]).unwrap();
    let seen = declare(&mut after);
    assert_eq!(seen.get(at(&mut after, 2)).unwrap(), Some(&2));
    clock.advance(Duration::from_secs(6));
    assert_eq!(seen.get(at(&mut after, 2)).unwrap(), None);
}

#[test]
fn a_key_in_a_foreign_group_is_refused() {
    let mut damaged = snapshot();
    let [one, other] = [0, 1].map(|at| damaged.states[0].groups[at].group);
    damaged.states[0].groups[0].group = other;
    damaged.states[0].groups[1].group = one;
    let said = refusal(damaged, |backend| backend.value::<u64>("count").map(drop));
    assert!(said.contains("the snapshot is damaged"), "{said}");
}

/// A damaged snapshot is refused, or it was damaged where any bytes are values.
#[test]
fn damaged_bytes_never_panic() {
    let declare = |backend: &mut Backend| {
        backend.value::<u64>("count")?;
        backend.timers("timeout", TimeDomain::Event).map(drop)
    };
    let restore = |snapshot: KeyedSnapshot| {
        let mut backend = backend();
        backend.restore(vec![snapshot]).unwrap();
        declare(&mut backend)
    };
    assert!(restore(snapshot()).is_ok());
    for state in 0..2 {
        let mut cut = snapshot();
        cut.states[state].groups[0].bytes.pop();
        assert!(matches!(restore(cut), Err(StateError::Incompatible { .. })));
        let mut long = snapshot();
        long.states[state].groups[0].bytes.push(0);
        let said = restore(long).unwrap_err().to_string();
        assert!(said.contains("1 bytes behind 1 entries are left over"), "{said}");
        let mut more = snapshot();
        more.states[state].groups[0].entries = u64::MAX;
        assert!(matches!(restore(more), Err(StateError::Incompatible { .. })));
        for bit in 0..8 * snapshot().states[state].groups[0].bytes.len() {
            let mut flipped = snapshot();
            flipped.states[state].groups[0].bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = restore(flipped);
        }
    }
}

proptest! {
    #[test]
    fn timers_are_the_same_after_a_rescale(
        timers in prop::collection::btree_set((0..40_u32, 0..3_usize, -5..5_i64), 0..60),
        cut in 0..=128_u16,
    ) {
        let declare = |backend: &mut Backend| {
            let event = TimeDomain::Event;
            [("a", event), ("b", event), ("c", TimeDomain::Processing)]
                .map(|(name, domain)| backend.timers(name, domain).unwrap())
        };
        let mut before = backend();
        let names = declare(&mut before);
        for (key, name, millis) in &timers {
            names[*name].set(at(&mut before, *key), *millis).unwrap();
        }
        let snapshot = before.snapshot().unwrap();
        let mut found = BTreeSet::new();
        for groups in [0..cut, cut..128] {
            let mut after = Backend::new(groups, MaxParallelism::DEFAULT);
            after.restore(vec![snapshot.clone()]).unwrap();
            let names = declare(&mut after);
            for domain in [TimeDomain::Event, TimeDomain::Processing] {
                let mut last = i64::MIN;
                while let Some(timer) = after.take_timer(domain, i64::MAX).unwrap() {
                    prop_assert!(last <= timer.time());
                    last = timer.time();
                    let name = names.iter().position(|name| timer.is_of(name)).unwrap();
                    prop_assert!(found.insert((*after.key(), name, timer.time())));
                }
            }
        }
        prop_assert_eq!(found, timers);
    }
}
