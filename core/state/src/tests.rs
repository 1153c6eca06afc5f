//! Keyed state on the heap and in a store.

mod broadcast;
mod ttl;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_types::{Key, MaxParallelism};

use crate::{Backing, ByteStore, Each, KeyedBackend, MemoryStore, StateError, Ttl, conformance};

/// A store that counts its reads and fails when it is told to.
#[derive(Debug, Default)]
struct Watched {
    inner: MemoryStore,
    reads: AtomicUsize,
    fails: AtomicBool,
}

impl Watched {
    fn check(&self) -> io::Result<()> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the disk is gone")),
            false => Ok(()),
        }
    }
}

impl ByteStore for Watched {
    fn get(&self, keys: &[Vec<u8>]) -> io::Result<Vec<Option<Vec<u8>>>> {
        self.check()?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.get(keys)
    }

    fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> io::Result<()> {
        self.check()?;
        self.inner.put(key, value)
    }

    fn scan(&self, prefix: &[u8], after: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        self.check()?;
        self.inner.scan(prefix, after, each)
    }
}

fn watched() -> (Arc<Watched>, KeyedBackend<u32>) {
    let store = Arc::new(Watched::default());
    let backing = Backing::Store(Arc::clone(&store) as _);
    (store, KeyedBackend::on(backing, 0..128, MaxParallelism::DEFAULT))
}

#[test]
fn state_on_the_heap_keeps_the_contract() {
    conformance::run(|| Backing::Heap, 20);
}

#[test]
fn state_in_a_store_keeps_the_contract() {
    conformance::run(|| Backing::Store(Arc::new(MemoryStore::default())), 20);
}

#[test]
fn a_batch_that_was_announced_is_read_at_once() {
    let (store, mut states) = watched();
    let value = states.value::<u64>("value").unwrap();
    for round in 0..2 {
        let read_before = store.reads.load(Ordering::Relaxed);
        let keys = (0..100).map(|key: u32| (key, key.stable_hash()));
        states.prepare(keys.clone()).unwrap();
        for (key, hash) in keys {
            states.set_key(key, hash).unwrap();
            *value.get_or_insert_with(&mut states, || 0).unwrap() += 1;
            assert_eq!(value.get(&states).unwrap(), Some(&(round + 1)));
        }
        assert_eq!(store.reads.load(Ordering::Relaxed), read_before + 1);
    }
}

#[test]
fn a_value_that_is_set_is_not_read_before() {
    let (store, mut states) = watched();
    let value = states.value::<u64>("value").unwrap();
    states.set_key(1, 1u32.stable_hash()).unwrap();
    value.set(&mut states, 7).unwrap();
    states.set_key(2, 2u32.stable_hash()).unwrap();
    assert_eq!(store.reads.load(Ordering::Relaxed), 0);
    states.set_key(1, 1u32.stable_hash()).unwrap();
    assert_eq!(value.get(&states).unwrap(), Some(&7));
}

#[test]
fn a_store_that_fails_is_told_with_the_states_name() {
    let (store, mut states) = watched();
    let value = states.value::<u64>("sum").unwrap();
    states.set_key(1, 1u32.stable_hash()).unwrap();
    value.set(&mut states, 7).unwrap();
    store.fails.store(true, Ordering::Relaxed);
    for error in [
        states.set_key(2, 2u32.stable_hash()).unwrap_err(),
        value.get(&states).unwrap_err(),
        states.prepare([(3, 3u32.stable_hash())].into_iter()).unwrap_err(),
        states.keys_of_group(0).unwrap_err(),
    ] {
        assert!(matches!(error, StateError::Io { state: "sum", .. }), "{error}");
    }
}

#[test]
fn bytes_of_another_type_are_an_error() {
    let store = Arc::new(MemoryStore::default());
    let backend = || {
        KeyedBackend::on(Backing::Store(Arc::clone(&store) as _), 0..128, MaxParallelism::DEFAULT)
    };
    let mut states = backend();
    let text = states.value::<String>("value").unwrap();
    states.set_key(1u32, 1u32.stable_hash()).unwrap();
    text.set(&mut states, "text".to_owned()).unwrap();
    states.set_key(2, 2u32.stable_hash()).unwrap();
    let mut states = backend();
    let number = states.value::<Option<bool>>("value").unwrap();
    states.set_key(1u32, 1u32.stable_hash()).unwrap();
    let error = number.get(&states).unwrap_err();
    assert!(matches!(error, StateError::Codec { state: "value", .. }), "{error}");
}

#[test]
fn declared_states_have_schemas() {
    let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
    let _ = states.value::<u64>("count").unwrap();
    let _ = states.list::<String>("names").unwrap();
    let _ = states.map::<String, Option<u8>>("entries").unwrap();
    let second = Ttl::after(Duration::from_secs(1));
    let _ = states.with_ttl(second).value::<u64>("seen").unwrap();
    let _ = states.with_ttl(second.on_read_and_write()).list::<u8>("last").unwrap();
    let _ = states.with_ttl(second.on_creation()).map::<u8, String>("by number").unwrap();
    let schemas: Vec<_> = states
        .schemas()
        .map(|(name, schema, ttl)| {
            format!("{name}: {schema}{}", ttl.map_or(String::new(), |ttl| format!(", {ttl}")))
        })
        .collect();
    let expected = [
        "count: u64",
        "names: [string]",
        "entries: map<string, u8?>",
        "seen: (i64, u64), expires 1000 ms after the last write",
        "last: [(i64, u8)], expires 1000 ms after the last read or write",
        "by number: map<u8, (i64, string)>, expires 1000 ms after creation",
    ];
    assert_eq!(schemas, expected);
}
