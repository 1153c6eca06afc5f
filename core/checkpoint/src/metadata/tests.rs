//! Metadata survives its bytes, and no other bytes are taken for it.

use std::sync::Arc;

use expect_test::expect;
use millstream_types::{
    CheckpointId, JobId, KeyGroup, LeaderEpoch, MaxParallelism, OperatorId, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::samples::small;
use super::*;

fn decode(bytes: &[u8]) -> Result<Metadata, DecodeError> {
    Metadata::decode("chk-7/metadata", bytes)
}

/// The bytes with a checksum and a length that fit, as a program with a fault would write them.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(4));
    let length = bytes.len() as u64 + 4;
    if bytes.len() >= 20 {
        bytes[12..20].copy_from_slice(&length.to_le_bytes());
    }
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn the_bytes_of_version_1_never_change() {
    let bytes = small().encode().unwrap();
    let hex: Vec<String> = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    expect![[r#"
        4d494c4c5343484b010000006d01000000000000000000000000000000000000
        0000cafe070000000000000004feffffffffffffff0200000000000000000000
        000000000000000001010100000075010000006e040000000101000000080002
        0000000100000073000100000007010000007407000000000100000000000000
        000200000000000000030000000000000002000000010700000063686b2d372f
        6105000000000000000900000000000000cdab00000200000000000000000000
        0000000300040000000000000001000000030000000000000002000000000200
        0000010200000000000000000000000000000000000000020000000000800000
        0000010200000006060000000002000000010000000000000000000200000001
        0000000400000000000000000100000000000000000000000000000000000002
        0100000003000000000000000200000006000000000000000100000001000000
        090b0000000000000016861d38"#]]
    .assert_eq(&hex.join("\n"));
    assert_eq!(decode(&bytes), Ok(small()));
}

#[test]
fn a_file_that_was_cut_off_or_continued_is_refused() {
    let bytes = small().encode().unwrap();
    for end in 0..bytes.len() {
        match decode(&bytes[..end]) {
            Err(DecodeError::NotMetadata { .. }) if end == 0 => {}
            Err(DecodeError::Length { found, .. }) if end > 0 => assert_eq!(found, end as u64),
            other => panic!("cut off at {end}: {other:?}"),
        }
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(decode(&longer), Err(DecodeError::Length { .. })));
}

#[test]
fn a_bit_that_was_flipped_is_noticed_wherever_it_is() {
    let bytes = small().encode().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&damaged).expect_err("a flipped bit");
        let is_expected = match &error {
            DecodeError::NotMetadata { .. } => bit < 64,
            DecodeError::NewerVersion { .. } | DecodeError::UnknownVersion { .. } => {
                (64..96).contains(&bit)
            }
            DecodeError::Length { .. } => (96..160).contains(&bit),
            DecodeError::Checksum { .. } => bit >= 160,
            DecodeError::Malformed { .. } => false,
        };
        assert!(is_expected, "bit {bit}: {error}");
    }
}

#[test]
fn a_program_with_a_fault_that_writes_a_right_checksum_is_not_believed() {
    let bytes = small().encode().unwrap();
    for bit in 160..(bytes.len() - 4) * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = sealed(changed);
        match decode(&changed) {
            // It says something else, and nothing but what it says is taken.
            Ok(metadata) => assert_eq!(metadata.encode(), Ok(changed), "bit {bit}"),
            Err(DecodeError::Malformed { at, .. }) => assert!(at <= bytes.len() as u64),
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    for end in 24..bytes.len() {
        let result = decode(&sealed(bytes[..end].to_vec()));
        assert!(matches!(result, Err(DecodeError::Malformed { .. })), "{end}: {result:?}");
    }
    let more = sealed([&bytes[..bytes.len() - 4], &[0; 5]].concat());
    let Err(error) = decode(&more) else { panic!("a byte more is taken") };
    let text = millstream_types::with_sources(&error);
    assert_eq!(
        text,
        format!(
            "chk-7/metadata is malformed before byte {}, in the end: 1 bytes are left over",
            bytes.len() - 4
        )
    );
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    // The number of operators, right behind the head.
    let mut bytes = small().encode().unwrap();
    let count = 20 + 16 + 8 + 1 + 8;
    bytes[count..count + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let Err(DecodeError::Malformed { section, .. }) = decode(&sealed(bytes)) else {
        panic!("a false number of operators is taken")
    };
    assert_eq!(section, Section::Operator(2));
}

#[test]
fn a_later_version_is_refused_with_both_versions() {
    let mut bytes = small().encode().unwrap();
    bytes[8] = 2;
    let text = decode(&sealed(bytes)).unwrap_err().to_string();
    assert_eq!(
        text,
        "chk-7/metadata has version 2 of the format of metadata, and this build reads versions up \
         to 1: use the build that wrote it, or a later one"
    );
}

#[test]
fn another_jobs_checkpoint_is_told_from_ours() {
    assert_eq!(small().check_job(JobId::from_u128(0xcafe)), Ok(()));
    let error = small().check_job(JobId::from_u128(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "chk-7 is one of job 0000000000000000000000000000cafe, not of job \
         00000000000000000000000000000001"
    );
}

#[test]
fn metadata_that_contradicts_itself_is_not_written() {
    let refused = |change: fn(&mut Metadata)| {
        let mut metadata = small();
        change(&mut metadata);
        match metadata.encode() {
            Err(EncodeError::Invalid { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused(|it| it.operators.swap(0, 1)), Fault::Operator(_)));
    assert!(matches!(
        refused(|it| it.operators[0].subtasks.resize(5, SubtaskState::default())),
        Fault::Subtasks { subtasks: 5, max_parallelism: 4 }
    ));
    assert!(matches!(
        refused(|it| {
            let twice = it.operators[0].states[1].clone();
            it.operators[0].states.push(twice);
        }),
        Fault::StateTwice(_)
    ));
    let mut metadata = small();
    metadata.operators[0].states[1].name = "s".to_owned();
    assert!(metadata.encode().is_ok(), "a list may have the name of a keyed state");
    assert!(matches!(
        refused(|it| it.operators[0].subtasks[0].handles[0].state = 2),
        Fault::State { state: 2, declared: 2 }
    ));
    assert!(matches!(
        refused(|it| it.operators[0].subtasks[0].handles[0].groups.reverse()),
        Fault::Group(0)
    ));
    assert!(matches!(
        refused(|it| it.operators[0].subtasks[0].handles[0].groups[1].offset = 10),
        Fault::Group(3)
    ));
    assert!(matches!(
        refused(|it| it.operators[0].subtasks[0].handles[0].groups[1].group = KeyGroup::new(4)),
        Fault::Group(4)
    ));
    assert!(matches!(
        refused(|it| it.committables.push(it.committables[0].clone())),
        Fault::Committables { .. }
    ));
    assert!(matches!(refused(|it| it.checkpoint = CheckpointId::new(5)), Fault::Later { .. }));
}

fn owner() -> impl Strategy<Value = Owner> {
    (any::<u64>(), any::<u32>())
        .prop_map(|(epoch, attempt)| Owner { epoch: LeaderEpoch::new(epoch), attempt })
}

fn content() -> impl Strategy<Value = Content> {
    let segment = ("[a-z]{1,9}", 0..u64::MAX / 2, 0..u64::MAX / 100, any::<u32>());
    prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(Content::Inline),
        segment.prop_map(|(path, offset, length, crc32)| Content::File(FileSegment {
            path,
            offset,
            length,
            crc32
        })),
    ]
}

fn state_kind() -> impl Strategy<Value = StateKind> {
    proptest::sample::select(vec![
        StateKind::Value,
        StateKind::List,
        StateKind::Map,
        StateKind::Reducing,
        StateKind::Aggregating,
        StateKind::Timers,
        StateKind::Broadcast,
        StateKind::OperatorList,
        StateKind::OperatorUnion,
    ])
}

fn operator(id: u128) -> impl Strategy<Value = OperatorState> {
    let states = vec((state_kind(), vec(any::<u8>(), 0..9)), 1..4);
    let handle = (0_u32..4, owner(), content(), vec((0_u16..8, any::<u64>()), 0..4));
    let subtask = (any::<bool>(), vec(vec(any::<u8>(), 0..5), 0..3), vec(handle, 0..4));
    let texts =
        (proptest::option::of(".{0,8}"), ".{0,8}", any::<Option<u8>>(), any::<Option<u8>>());
    (texts, states, vec(subtask, 0..5)).prop_map(move |(texts, states, subtasks)| {
        let declared = u32::try_from(states.len()).unwrap();
        let states = (0..).zip(states).map(|(at, (kind, schema)): (u32, _)| StateDescription {
            name: format!("state {at}"),
            kind,
            schema,
        });
        let subtasks = subtasks.into_iter().map(|(finished, positions, handles)| SubtaskState {
            finished,
            positions,
            handles: handles
                .into_iter()
                .map(|(state, owner, content, mut groups)| {
                    groups.sort_unstable();
                    groups.dedup_by_key(|(group, _)| *group);
                    let mut least = 0;
                    let groups = groups.into_iter().map(|(group, offset)| {
                        least = (offset % (content.length() + 1)).max(least);
                        GroupOffset { group: KeyGroup::new(group), offset: least }
                    });
                    let groups = groups.collect();
                    Handle { state: state % declared, owner, content, groups }
                })
                .collect(),
        });
        OperatorState {
            id: OperatorId::from_u128(id),
            uid: texts.0,
            name: texts.1,
            max_parallelism: MaxParallelism::new(8).unwrap(),
            key_schema: texts.2.map(|byte| vec![byte; usize::from(byte)]),
            coordinator: texts.3.map(|byte| vec![byte; usize::from(byte)]),
            states: states.collect(),
            subtasks: subtasks.collect(),
        }
    })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let kind = proptest::sample::select(vec![
        Kind::Checkpoint,
        Kind::Final,
        Kind::Savepoint,
        Kind::Stop { drain: false },
        Kind::Stop { drain: true },
    ]);
    let operators = (operator(1), operator(2), operator(u128::MAX), 0_usize..4);
    let committables = vec((0_u64..9, 0_u128..3, owner(), vec(any::<u8>(), 0..9)), 0..5);
    (any::<u128>(), any::<u64>(), kind, any::<i64>(), operators, committables).prop_map(
        |(job, checkpoint, kind, triggered, operators, committables)| {
            let (first, second, third, count) = operators;
            let mut committables: Vec<_> = committables
                .into_iter()
                .map(|(checkpoint, operator, owner, bytes)| {
                    Arc::new(Committables {
                        operator: OperatorId::from_u128(operator),
                        subtask: 0,
                        owner,
                        checkpoint: CheckpointId::new(checkpoint),
                        count: 1,
                        bytes,
                    })
                })
                .collect();
            let key = |one: &Arc<Committables>| (one.checkpoint, one.operator, one.owner);
            committables.sort_by_key(key);
            committables.dedup_by_key(|one| key(one));
            Metadata {
                job: JobId::from_u128(job),
                checkpoint: CheckpointId::new(checkpoint.max(9)),
                kind,
                triggered: Timestamp::from_millis(triggered),
                operators: [first, second, third].into_iter().take(count).collect(),
                committables,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn metadata_survives_its_bytes(metadata in metadata()) {
        let bytes = metadata.encode().unwrap();
        prop_assert_eq!(decode(&bytes), Ok(metadata));
    }

    #[test]
    fn bytes_of_any_kind_are_refused_in_order(
        metadata in metadata(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        noise in vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(decode(&noise).is_err());
        let good = metadata.encode().unwrap();
        let mut bytes = good.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if bytes != good {
            // A change of several bytes can have the checksum of the original, once in 2^32.
            prop_assert!(decode(&bytes).is_err());
        }
        let bytes = sealed(bytes);
        if let Ok(metadata) = decode(&bytes) {
            prop_assert_eq!(metadata.encode().unwrap(), bytes);
        }
    }
}
