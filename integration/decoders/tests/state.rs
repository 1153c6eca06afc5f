//! Checkpoints: their metadata, and the snapshots of keyed state.

use std::sync::Arc;

use millstream_checkpoint::Metadata;
use millstream_checkpoint::metadata::{
    Committables, Content, FileSegment, GroupOffset, Handle, Kind, OperatorState, Owner,
    StateDescription, StateKind, SubtaskState,
};
use millstream_state::{
    GroupSnapshot, KeyedBackend, KeyedSnapshot, ListKind, ListSnapshot, RestoredLists, StateError,
    TimeDomain,
};
use millstream_types::{
    CheckpointId, JobId, Key, KeyGroup, LeaderEpoch, MaxParallelism, OperatorId, Schema, Timestamp,
};

use millstream_decoders::run;

/// Metadata with every kind of part.
fn metadata(kind: Kind) -> Metadata {
    let owner = Owner { epoch: LeaderEpoch::new(3), attempt: 2 };
    let segment = FileSegment { path: "chk-7/a".to_owned(), offset: 5, length: 90, crc32: 1 };
    let groups = [(0, 0), (3, 40)];
    let groups =
        groups.map(|(group, offset)| GroupOffset { group: KeyGroup::new(group), offset }).into();
    let file = Handle { state: 0, owner, content: Content::File(segment), groups };
    let content = Content::Inline(vec![1; 20]);
    let inline = Handle { state: 1, owner, content, groups: Vec::new() };
    let state = |name: &str, kind| {
        let schema = b"schema".to_vec();
        StateDescription { name: name.to_owned(), kind, schema }
    };
    let operator = OperatorState {
        id: OperatorId::from_u128(1),
        uid: Some("counts".to_owned()),
        name: "count".to_owned(),
        max_parallelism: MaxParallelism::DEFAULT,
        key_schema: Some(b"key".to_vec()),
        coordinator: Some(vec![6; 30]),
        states: vec![state("total", StateKind::Value), state("all", StateKind::OperatorList)],
        subtasks: vec![
            SubtaskState { finished: true, ..SubtaskState::default() },
            SubtaskState {
                finished: false,
                positions: vec![vec![4; 9], Vec::new()],
                handles: vec![file, inline],
            },
        ],
    };
    let committables = Committables {
        operator: OperatorId::from_u128(1),
        subtask: 1,
        owner,
        checkpoint: CheckpointId::new(6),
        count: 1,
        bytes: vec![9; 40],
    };
    Metadata {
        job: JobId::from_u128(0xcafe),
        checkpoint: CheckpointId::new(7),
        kind,
        triggered: Timestamp::from_millis(-2),
        operators: vec![operator],
        committables: vec![Arc::new(committables)],
    }
}

/// The length of the whole file stands behind the magic and the version, the checksum at its end.
fn with_right_length_and_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as u64;
    if let Some(said) = bytes.get_mut(12..20) {
        said.copy_from_slice(&length.to_le_bytes());
    }
    if let Some(end) = bytes.len().checked_sub(4) {
        let checksum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

#[test]
fn metadata_of_checkpoints() {
    let kinds = [Kind::Checkpoint, Kind::Savepoint, Kind::Stop { drain: true }];
    let good = kinds.map(|kind| metadata(kind).encode().unwrap());
    run("metadata of checkpoints", 200, &good, |bytes| {
        let _ = Metadata::decode("file", bytes);
        let bytes = with_right_length_and_checksum(bytes.to_vec());
        if let Ok(metadata) = Metadata::decode("file", &bytes) {
            assert_eq!(metadata.encode().unwrap(), bytes, "it is written as it was read");
        }
    });
}

type Backend = KeyedBackend<String>;

fn backend() -> Backend {
    KeyedBackend::new(0..128, MaxParallelism::DEFAULT)
}

/// A list, a value and a timer for each of ten keys. A map is left out: at a false length serde
/// makes room for a MiB of entries, and a hash table takes twice as much for that.
fn snapshot() -> Result<KeyedSnapshot, StateError> {
    let mut backend = backend();
    let list = backend.list::<(u64, Option<String>)>("list")?;
    let value = backend.value::<(Vec<u8>, bool)>("value")?;
    let timers = backend.timers("timers", TimeDomain::Event)?;
    for number in 0..10_u32 {
        let key = format!("key {number}");
        let hash = key.stable_hash();
        backend.set_key(key, hash)?;
        list.add(&mut backend, (number.into(), Some("text".to_owned())))?;
        value.set(&mut backend, (vec![7; 20], true))?;
        timers.set(&mut backend, number.into())?;
    }
    backend.snapshot()
}

#[test]
fn snapshots_of_keyed_state() {
    let whole = snapshot().unwrap();
    let groups = whole.states.iter().flat_map(|state| &state.groups);
    let good: Vec<_> = groups.map(|group| group.bytes.clone()).collect();
    run("snapshots of keyed state", 200, &good, |bytes| {
        let mut changed = whole.clone();
        for state in &mut changed.states {
            let group = state.groups.first().map_or(0, |group| group.group);
            let entries = 1 + u64::from(bytes.first().copied().unwrap_or_default() % 3);
            state.groups = vec![GroupSnapshot { group, entries, bytes: bytes.to_vec() }];
        }
        let mut backend = backend();
        backend.restore(vec![changed]).unwrap();
        let _ = backend.list::<(u64, Option<String>)>("list");
        let _ = backend.value::<(Vec<u8>, bool)>("value");
        let _ = backend.timers("timers", TimeDomain::Event);
    });
}

#[test]
fn snapshots_of_lists() {
    let good = [(7_u64, Some("text".to_owned())), (8, None)].map(|item| {
        let mut backend = backend();
        let list = backend.value::<(u64, Option<String>)>("item").unwrap();
        backend.set_key(String::new(), 0).unwrap();
        list.set(&mut backend, item).unwrap();
        let snapshot = backend.snapshot().unwrap();
        // Behind the empty key stand the bytes of the value.
        snapshot.states[0].groups[0].bytes[1..].to_vec()
    });
    let schema = Schema::of::<(u64, Option<String>)>();
    run("snapshots of lists", 100, &good, |bytes| {
        for kind in [ListKind::Divided, ListKind::Union] {
            let (name, schema, items) = ("list".to_owned(), schema.clone(), vec![bytes.to_vec()]);
            let list = ListSnapshot { name, kind, schema: schema.clone(), items };
            let taken = RestoredLists::rescaled(vec![list], 0, 2)
                .take::<(u64, Option<String>)>("list", kind, &schema);
            if good.iter().any(|good| good == bytes) {
                assert_eq!(taken.map(|items| items.len()).ok(), Some(1));
            }
        }
    });
}
