//! Differences, each in the words that people will read.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;
use crate::testing::{Builder, settings, word_count};
use crate::{NodeId, Partitioner, plan};

fn check(rebuilt: &JobGraph, expected: Expect) {
    let difference = fingerprint_difference(&word_count().plan(), rebuilt).unwrap();
    let (_, what) = difference.split_once("planned: ").unwrap();
    expected.assert_eq(&format!("{what}\n"));
}

fn check_edited(edit: impl FnOnce(&mut Builder), expected: Expect) {
    let mut graph = word_count();
    edit(&mut graph);
    check(&graph.plan(), expected);
}

const WORDS: NodeId = NodeId(1);
const COUNT: NodeId = NodeId(2);

#[test]
fn equal_graphs_do_not_differ() {
    assert_eq!(fingerprint_difference(&word_count().plan(), &word_count().plan()), None);
}

#[test]
fn the_first_difference_is_named() {
    check_edited(
        |graph| graph.at(WORDS).name = "tokens".to_owned(),
        expect![[r#"
        operator 1 is "tokens", but "words" was planned
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).uid = Some("sum".to_owned()),
        expect![[r#"
            the uid of operator 2 ("count") is "sum", but "count" was planned
        "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).output_type = "u64".to_owned(),
        expect![[r#"
        the result type of operator 2 ("count") is "u64", but "(alloc::string::String, u64)" was planned
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).parallelism = Some(1),
        expect![[r#"
        the parallelism of operator 2 ("count") is 1, but 2 was planned
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).max_parallelism = Some(64),
        expect![[r#"
        the maximum parallelism of vertex "count -> Sink: out" is 64, but 128 was planned
    "#]],
    );
    check_edited(
        |graph| graph.at(WORDS).chaining = crate::Chaining::Head,
        expect![[r#"
            the chained input of operator 1 ("words") is none, but 0 was planned
        "#]],
    );
    check_edited(
        |graph| _ = graph.sink("more", COUNT),
        expect![[r#"
        operator 4 ("Sink: more") was not planned
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).slot_sharing_group = Some("a".to_owned()),
        expect![[r#"
        the slot sharing group of vertex "count -> Sink: out" is "a", but "default" was planned
    "#]],
    );
    check_edited(
        |graph| graph.last_edge().partitioner = Some(Partitioner::Rescale),
        expect![[r#"
            the chained input of operator 3 ("Sink: out") is none, but 2 was planned
        "#]],
    );
    check_edited(
        |graph| graph.0.edges[1].partitioner = Some(Partitioner::Custom),
        expect![[r#"
        it sends main output of operator 1 to input 0 of operator 2 by CUSTOM, but main output of operator 1 to input 0 of operator 2 by HASH was planned
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).stateful = false,
        expect![[r#"
        the kinds or options of its operators differ, though not their names
    "#]],
    );
}

#[test]
fn settings_and_plan_values_are_named() {
    let planned = |name, values: &[(&str, u8)], settings| {
        let values: BTreeMap<_, _> =
            values.iter().map(|(name, value)| ((*name).to_owned(), vec![*value])).collect();
        plan(&word_count().0, name, 0, values, &settings).unwrap()
    };
    check(
        &planned("other", &[], settings(2)),
        expect![[r#"
        the job's name is "other", but "test" was planned
    "#]],
    );
    check(
        &planned("test", &[], settings(3)),
        expect![[r#"
        the default parallelism is 3, but 2 was planned
    "#]],
    );
    check(
        &planned("test", &[], JobSettings { entry: Some("other".to_owned()), ..settings(2) }),
        expect![[r#"
        the job to build is "other", but none was planned
    "#]],
    );
    check(
        &planned("test", &[("now", 1)], settings(2)),
        expect![[r#"
        it asks for the plan value "now", which was not planned
    "#]],
    );
    let first = planned("test", &[("now", 1)], settings(2));
    let changed = planned("test", &[("now", 2)], settings(2));
    let difference = fingerprint_difference(&first, &changed).unwrap();
    expect![[r#"
        the program builds another graph here than when it was planned: the plan value "now" differs
    "#]]
    .assert_eq(&format!("{difference}\n"));
    let difference = fingerprint_difference(&first, &word_count().plan()).unwrap();
    expect![[r#"
        the program builds another graph here than when it was planned: it does not ask for the plan value "now", which was planned
    "#]].assert_eq(&format!("{difference}\n"));
}

#[test]
fn times_are_a_difference() {
    check_edited(
        |graph| graph.at(NodeId(0)).assigns_times = true,
        expect![[r#"
            whether event times go with the results of operator 0 ("Source: lines") is true, but false was planned
        "#]],
    );
}
