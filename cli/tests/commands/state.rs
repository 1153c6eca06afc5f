//! `state show` against metadata of these tests.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use millstream_checkpoint::metadata::{
    Committables, Content, FileSegment, GroupOffset, Handle, Kind, Metadata, OperatorState, Owner,
    StateDescription, StateKind, SubtaskState,
};
use millstream_state::{StateKind as KeyedKind, TimeDomain};
use millstream_types::{
    CheckpointId, JobId, KeyGroup, LeaderEpoch, MaxParallelism, OperatorId, Schema, Timestamp,
};

use super::command;

const OWNER: Owner = Owner { epoch: LeaderEpoch::new(3), attempt: 2 };

fn counts() -> OperatorState {
    let values = KeyedKind::Values { schema: Schema::of::<u64>(), expires: true };
    let timers = KeyedKind::Timers(TimeDomain::Event);
    let list = Schema::of::<(String, bool)>();
    let state = |name: &str, kind, schema: Vec<u8>| StateDescription {
        name: name.to_owned(),
        kind,
        schema,
    };
    let handle = |state, content, groups| Handle { state, owner: OWNER, content, groups };
    let segment = FileSegment { path: "chk-7/a".to_owned(), offset: 5, length: 9, crc32: 0xabcd };
    let group = GroupOffset { group: KeyGroup::new(0), offset: 0 };
    let inline = |bytes: &[u8]| Content::Inline(bytes.to_vec());
    OperatorState {
        id: OperatorId::from_u128(1),
        uid: Some("counts".to_owned()),
        name: "count \u{1b}[31mwords".to_owned(),
        max_parallelism: MaxParallelism::new(4).unwrap(),
        key_schema: Some(postcard::to_stdvec(&Schema::of::<String>()).unwrap()),
        coordinator: None,
        states: vec![
            state("sum", StateKind::Value, postcard::to_stdvec(&values).unwrap()),
            state("close", StateKind::Timers, postcard::to_stdvec(&timers).unwrap()),
            state("seen", StateKind::OperatorList, postcard::to_stdvec(&list).unwrap()),
            state("new", StateKind::Broadcast, vec![0xff; 3]),
        ],
        subtasks: vec![
            SubtaskState {
                handles: vec![
                    handle(0, Content::File(segment), vec![group]),
                    handle(2, inline(&[1, 2]), vec![]),
                ],
                ..SubtaskState::default()
            },
            SubtaskState {
                handles: vec![handle(2, inline(&[3, 4, 5]), vec![])],
                ..SubtaskState::default()
            },
        ],
    }
}

fn metadata() -> Metadata {
    let source = OperatorState {
        id: OperatorId::from_u128(2),
        uid: None,
        name: "Source: words".to_owned(),
        max_parallelism: MaxParallelism::DEFAULT,
        key_schema: None,
        coordinator: Some(vec![6, 6]),
        states: vec![],
        subtasks: vec![
            SubtaskState { finished: true, ..SubtaskState::default() },
            SubtaskState { positions: vec![vec![4], vec![]], ..SubtaskState::default() },
        ],
    };
    let committables = Committables {
        operator: OperatorId::from_u128(2),
        subtask: 1,
        owner: OWNER,
        checkpoint: CheckpointId::new(6),
        count: 3,
        bytes: vec![9],
    };
    Metadata {
        job: JobId::from_u128(0xcafe),
        checkpoint: CheckpointId::new(7),
        kind: Kind::Stop { drain: true },
        triggered: Timestamp::from_millis(1_795_218_058_373),
        operators: vec![counts(), source],
        committables: vec![Arc::new(committables)],
    }
}

fn show(path: &Path, options: &[&str]) -> Output {
    let mut command = command(&["state", "show"]);
    command.arg(path).args(options).env("TZ", "UTC").output().unwrap()
}

/// The output with the directory's name replaced.
fn without(directory: &Path, mut output: Output) -> Output {
    for bytes in [&mut output.stdout, &mut output.stderr] {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace(directory.to_str().unwrap(), "DIR").into_bytes();
    }
    output
}

#[test]
fn the_state_of_a_savepoint_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("_metadata");
    std::fs::write(&file, metadata().encode().unwrap()).unwrap();
    let shown = without(directory.path(), show(directory.path(), &[]));
    let by_file = without(directory.path(), show(&file, &[]));
    assert_eq!(shown.stdout, by_file.stdout);
    let text = String::from_utf8(shown.stdout).unwrap();
    let (key, list) = (Schema::of::<String>(), Schema::of::<(String, bool)>());
    let count = Schema::of::<u64>();
    for line in [
        "File:                 DIR/_metadata",
        "Checkpoint:           7 (stop savepoint)",
        "Job:                  0000000000000000000000000000cafe",
        "State:                14 bytes",
        "Pending committables: 3",
        "Operator \"count \\u{1b}[31mwords\", uid \"counts\", id 00000000000000000000000000000001",
        "  max parallelism 4, parallelism 2, finished subtasks 0, splits 0, no coordinator state",
        &format!("  key: {key}"),
        &format!("  value \"sum\": {count}, expiring, 9 bytes"),
        "  timers \"close\": event time, 0 bytes",
        &format!("  operator list \"seen\": {list}, 5 bytes"),
        "  broadcast \"new\": a schema that this build cannot read (3 bytes), 0 bytes",
        "Operator \"Source: words\", no uid, id 00000000000000000000000000000002",
        "  max parallelism 128, parallelism 2, finished subtasks 1, splits 2, a coordinator state",
    ] {
        assert!(text.lines().any(|it| it == line), "no line {line:?} in\n{text}");
    }
    let json = show(&file, &["--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["checkpoint-id"], &json["state-bytes"]), (&7.into(), &14.into()));
    assert_eq!(json["operators"][0]["states"][0]["schema"], format!("{count}, expiring"));
    assert_eq!(json["operators"][1]["uid"], serde_json::Value::Null);
}

#[test]
fn what_is_no_savepoint_is_told_with_its_fault() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("_metadata");
    let complaint = || {
        let output = without(directory.path(), show(directory.path(), &[]));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stdout, b"");
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = complaint();
    assert!(missing.contains("DIR/_metadata does not exist"), "{missing}");
    std::fs::write(&file, "words, not metadata: as many as a head has, and more").unwrap();
    assert_eq!(complaint(), "error: DIR/_metadata is not the metadata of a checkpoint\n");
    let whole = metadata().encode().unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let cut = complaint();
    assert!(cut.contains("DIR/_metadata has ") && cut.contains("it was cut off"), "{cut}");
    let mut altered = whole;
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&file, &altered).unwrap();
    let damaged = complaint();
    assert!(damaged.contains("DIR/_metadata is damaged: its checksum"), "{damaged}");
    let unknown = show(Path::new("moon://x/savepoint"), &[]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}
