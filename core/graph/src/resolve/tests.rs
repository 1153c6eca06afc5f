//! One test for each fault that a program can have.

use expect_test::{Expect, expect};
use millstream_types::{MaxParallelism, RuntimeMode};

use crate::stream_graph::{NodeId, NodeKind, OutputName, Partitioner};
use crate::testing::{BOUNDED, Builder, SINK, UNBOUNDED, settings, word_count};
use crate::{JobSettings, plan};

fn check(graph: &Builder, settings: &JobSettings, expected: Expect) {
    let error = graph.try_plan_with(settings).unwrap_err();
    expected.assert_eq(&format!("{error}\n"));
}

fn check_edited(edit: impl FnOnce(&mut Builder), expected: Expect) {
    let mut graph = word_count();
    edit(&mut graph);
    check(&graph, &settings(2), expected);
}

const LINES: NodeId = NodeId(0);
const WORDS: NodeId = NodeId(1);
const COUNT: NodeId = NodeId(2);

#[test]
fn an_empty_job_is_refused() {
    check(
        &Builder::default(),
        &settings(1),
        expect![[r#"
        the job has no operators: add a source before calling execute
    "#]],
    );
}

#[test]
fn a_cycle_is_refused_with_its_operators() {
    check_edited(
        |graph| graph.edge(COUNT, WORDS, None),
        expect![[r#"
        the operators "count" -> "words" -> "count" form a cycle: remove one of these connections
    "#]],
    );
}

#[test]
fn an_operator_that_feeds_itself_is_a_cycle() {
    check_edited(
        |graph| graph.edge(COUNT, COUNT, None),
        expect![[r#"
        the operators "count" -> "count" form a cycle: remove one of these connections
    "#]],
    );
}

#[test]
fn a_long_cycle_is_cut() {
    let mut graph = Builder::default();
    let source = graph.source("in");
    let first = graph.operator("step 0", [source]);
    let last = (1..5_000).fold(first, |at, n| graph.operator(&format!("step {n}"), [at]));
    graph.edge(last, first, None);
    graph.sink("out", last);
    check(
        &graph,
        &settings(1),
        expect![[r#"
        the operators "step 1" -> "step 2" -> "step 3" -> "step 4" -> "step 5" -> "step 6" -> "step 7" -> "step 8" -> ... -> "step 1" form a cycle: remove one of these connections
    "#]],
    );
}

#[test]
fn dangling_edges_are_refused() {
    check_edited(
        |graph| graph.edge(COUNT, NodeId(7), None),
        expect![[r#"
        the edge from operator 2 to operator 7 has an end outside of the job, which has 4 operators: connect only streams of one environment
    "#]],
    );
    check_edited(
        |graph| graph.edge(NodeId(u32::MAX), COUNT, None),
        expect![[r#"
        the edge from operator 4294967295 to operator 2 has an end outside of the job, which has 4 operators: connect only streams of one environment
    "#]],
    );
}

#[test]
fn misnumbered_nodes_are_refused() {
    check_edited(
        |graph| graph.at(COUNT).id = NodeId(1),
        expect![[r#"
        the operator at place 2 has the number 1: operators are numbered in order
    "#]],
    );
}

#[test]
fn a_source_with_an_input_is_refused() {
    check_edited(
        |graph| graph.at(WORDS).kind = BOUNDED,
        expect![[r#"
        operator "words" is a source, but operator "lines" is connected to its input
    "#]],
    );
}

#[test]
fn missing_inputs_are_refused() {
    let mut graph = word_count();
    graph.node(SINK, "nothing");
    check(
        &graph,
        &settings(1),
        expect![[r#"
        operator "nothing" has nothing connected to its first input: connect a stream to it
    "#]],
    );
    check_edited(
        |graph| graph.last_edge().input = 1,
        expect![[r#"
        operator "out" has nothing connected to its first input: connect a stream to it
    "#]],
    );
    check_edited(
        |graph| graph.last_edge().input = 2,
        expect![[r#"
        operator "out" has an edge to its input 2, but operators have inputs 0 and 1; operator "out" has nothing connected to its first input: connect a stream to it
    "#]],
    );
}

#[test]
fn impossible_parallelism_is_refused() {
    check_edited(
        |graph| graph.at(COUNT).parallelism = Some(0),
        expect![[r#"
        operator "count" (uid "count") has parallelism 0: set at least 1
    "#]],
    );
    check_edited(
        |graph| graph.at(WORDS).parallelism = Some(32_769),
        expect![[r#"
        operator "words" has parallelism 32769, above its maximum parallelism 32768: lower the one or raise the other
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).max_parallelism = Some(1),
        expect![[r#"
        operator "count" (uid "count") has parallelism 2, above its maximum parallelism 1: lower the one or raise the other
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).max_parallelism = Some(0),
        expect![[r#"
        operator "count" (uid "count") has maximum parallelism 0, which is not in 1 to 32768
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).max_parallelism = Some(32_769),
        expect![[r#"
        operator "count" (uid "count") has maximum parallelism 32769, which is not in 1 to 32768
    "#]],
    );
    check(
        &word_count(),
        &settings(0),
        expect![[r#"
        operator "lines" has parallelism 0: set at least 1
    "#]],
    );
}

#[test]
fn the_maximum_parallelism_is_derived_from_each_operators_own() {
    let mut graph = word_count();
    graph.at(LINES).parallelism = Some(1);
    graph.at(WORDS).parallelism = Some(100);
    graph.at(COUNT).parallelism = Some(3);
    graph.at(COUNT).max_parallelism = Some(7);
    let found = |settings: &JobSettings| {
        let job = graph.try_plan_with(settings).unwrap();
        let mut found: Vec<_> = job
            .vertices
            .iter()
            .map(|vertex| (vertex.parallelism, vertex.max_parallelism.get()))
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(found(&settings(1_000)), [(1, 128), (3, 7), (100, 256), (1_000, 2_048)]);
    let max_parallelism = MaxParallelism::new(4_096);
    let configured = JobSettings { max_parallelism, ..settings(1_000) };
    assert_eq!(found(&configured), [(1, 4_096), (3, 7), (100, 4_096), (1_000, 4_096)]);
}

#[test]
fn all_faults_are_named() {
    let mut graph = Builder::default();
    for uid in ["a", "b", "c", "a", "b", "c", "c"] {
        let source = graph.source("in");
        graph.at(source).uid = Some(uid.to_owned());
    }
    let wide = graph.operator("wide", [NodeId(0)]);
    graph.at(wide).parallelism = Some(0);
    graph.edge(NodeId(1), wide, Some(Partitioner::Forward));
    graph.node(SINK, "nothing");
    check(
        &graph,
        &settings(1),
        expect![[r#"
        operator "nothing" has nothing connected to its first input: connect a stream to it; source "in" and source "in" both have the uid "a": make uids unique; source "in" and source "in" both have the uid "b": make uids unique; source "in", source "in" and source "in" all have the uid "c": make uids unique; operator "wide" has parallelism 0: set at least 1; the main output of operator "in" (uid "b") (parallelism 1) is forwarded to operator "wide" (parallelism 0): use rebalance or rescale, or make both parallelisms the same
    "#]],
    );
}

#[test]
fn a_fault_that_is_repeated_thousands_of_times_is_cut() {
    let mut graph = Builder::default();
    for _ in 0..2_000 {
        graph.node(SINK, "nothing");
    }
    let error = graph.try_plan_with(&settings(1)).unwrap_err();
    assert_eq!(error.faults().len(), 50);
    assert!(error.to_string().ends_with("; and 1950 more faults"));
}

#[test]
fn uids_are_unique_and_state_has_one() {
    check_edited(
        |graph| graph.at(WORDS).uid = Some("count".to_owned()),
        expect![[r#"
        operator "words" and operator with state "count" both have the uid "count": make uids unique
    "#]],
    );
    check_edited(
        |graph| {
            graph.at(LINES).uid = Some("count".to_owned());
            graph.at(LINES).name = "count".to_owned();
        },
        expect![[r#"
        source "count" and operator with state "count" both have the uid "count": make uids unique
    "#]],
    );
    check_edited(
        |graph| graph.at(COUNT).uid = None,
        expect![[r#"
        operator "count" keeps state but has no uid: give it one, its state is found by it
    "#]],
    );
}

#[test]
fn batch_mode_needs_an_end() {
    let mut graph = word_count();
    let mode = |runtime_mode| JobSettings { runtime_mode, ..JobSettings::default() };
    let resolved = |graph: &Builder, asked| graph.try_plan_with(&mode(asked)).unwrap().runtime_mode;
    assert_eq!(resolved(&graph, RuntimeMode::Automatic), RuntimeMode::Batch);
    assert_eq!(resolved(&graph, RuntimeMode::Batch), RuntimeMode::Batch);
    assert_eq!(resolved(&graph, RuntimeMode::Streaming), RuntimeMode::Streaming);
    graph.at(LINES).kind = UNBOUNDED;
    assert_eq!(resolved(&graph, RuntimeMode::Automatic), RuntimeMode::Streaming);
    check(
        &graph,
        &mode(RuntimeMode::Batch),
        expect![[r#"
        operator "lines" never ends, which batch mode cannot run: bound it, or use streaming mode (execution.runtime-mode)
    "#]],
    );
}

#[test]
fn groups_are_inherited_unless_they_conflict() {
    let groups = |a: Option<&str>, b: Option<&str>| {
        let mut graph = Builder::default();
        let (left, right) = (graph.source("left"), graph.source("right"));
        graph.at(left).slot_sharing_group = a.map(str::to_owned);
        graph.at(right).slot_sharing_group = b.map(str::to_owned);
        let both = graph.operator("both", [left, right]);
        graph.sink("out", both);
        graph
    };
    let inherited = |graph: Builder| graph.plan().vertices[2].slot_sharing_group.clone();
    assert_eq!(inherited(groups(None, None)), "default");
    assert_eq!(inherited(groups(Some("a"), Some("a"))), "a");
    assert_eq!(inherited(groups(Some("a"), None)), "default");
    let mut conflict = groups(Some("a"), Some("b"));
    check(
        &conflict,
        &settings(1),
        expect![[r#"
        operator "both" has inputs of the slot sharing groups "a" and "b" and names none itself: set its slot sharing group
    "#]],
    );
    conflict.at(NodeId(2)).slot_sharing_group = Some("c".to_owned());
    assert_eq!(inherited(conflict), "c");
}

#[test]
fn forward_needs_one_parallelism() {
    check_edited(
        |graph| {
            graph.last_edge().partitioner = Some(Partitioner::Forward);
            graph.at(COUNT).parallelism = Some(3);
        },
        expect![[r#"
            the main output of operator "count" (uid "count") (parallelism 3) is forwarded to operator "out" (parallelism 2): use rebalance or rescale, or make both parallelisms the same
        "#]],
    );
}

#[test]
fn limits_are_kept() {
    check_edited(
        |graph| graph.at(WORDS).name = "é".repeat(501),
        expect![[r#"
        the operator name "éééééééééééééééééééééééééééééééééééééééé"... has 1002 bytes, but 1000 is the limit
    "#]],
    );
    check_edited(
        |graph| graph.at(WORDS).uid = Some("u".repeat(1_001)),
        expect![[r#"
        the uid "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu"... has 1001 bytes, but 1000 is the limit
    "#]],
    );
    check_edited(
        |graph| graph.last_edge().output = OutputName::Side("t".repeat(1_001)),
        expect![[r#"
            the side output "tttttttttttttttttttttttttttttttttttttttt"... has 1001 bytes, but 1000 is the limit
        "#]],
    );
    check_edited(
        |graph| (0..10_000).for_each(|_| _ = graph.node(NodeKind::Operator, "more")),
        expect![[r#"
            the job has 10004 operators, but 10000 is the limit
        "#]],
    );
    check_edited(
        |graph| (0..100_000).for_each(|_| graph.edge(LINES, WORDS, None)),
        expect![[r#"
        the job has 100003 connections, but 100000 is the limit
    "#]],
    );
    check_edited(
        |graph| {
            for _ in 0..4 {
                let source = graph.source("wide");
                graph.at(source).parallelism = Some(32_768);
                graph.at(source).max_parallelism = Some(32_768);
            }
        },
        expect![[r#"
            the job has 131080 subtasks, but 100000 is the limit
        "#]],
    );
    let values = [("v".to_owned(), vec![0; (16 << 20) + 1])].into();
    let error = plan(&word_count().0, "test", 0, values, &settings(1)).unwrap_err();
    expect![[r#"
        the job has 16777218 bytes of plan values, but 16777216 is the limit
    "#]]
    .assert_eq(&format!("{error}\n"));
}

#[test]
fn a_stream_has_times_if_all_it_is_made_of_have() {
    let mut graph = Builder::default();
    let clicks = graph.source("clicks");
    graph.at(clicks).assigns_times = true;
    let names = graph.source("names");
    let mapped = graph.operator("map", [clicks, clicks]);
    let join = |graph: &mut Builder, name: &str, left, right| {
        let joined = graph.operator(name, [left]);
        graph.edge(right, joined, None);
        graph.last_edge().input = 1;
        joined
    };
    let both = join(&mut graph, "both", mapped, clicks);
    let one = join(&mut graph, "one", names, mapped);
    // An operator that gives times has them for any input.
    let given = graph.operator("given", [one]);
    graph.at(given).assigns_times = true;
    let after = graph.operator("after", [given, both]);
    graph.sink("out", after);
    let job = graph.plan();
    let operators = job.vertices.iter().flat_map(|vertex| &vertex.operators);
    let mut timed: Vec<&str> =
        operators.filter(|o| o.timed).map(|operator| operator.name.as_str()).collect();
    timed.sort_unstable();
    assert_eq!(timed, ["Source: clicks", "after", "both", "given", "map"]);
}

#[test]
fn an_operator_that_needs_times_is_refused_without_them() {
    check_edited(
        |graph| {
            let timed = graph.source("timed");
            graph.at(timed).assigns_times = true;
            for (name, input) in [("fine", timed), ("wrong", WORDS)] {
                let watermarks = graph.operator(name, [input]);
                graph.at(watermarks).needs_times = true;
            }
        },
        expect![[r#"
            operator "wrong" needs event times, and its records have none: name the function that gives them with timestamps() of the WatermarkStrategy, or let the source give them (has_timestamps())
        "#]],
    );
}

#[test]
fn a_stream_with_times_and_one_without_are_not_united() {
    check_edited(
        |graph| {
            let timed = graph.source("timed");
            graph.at(timed).assigns_times = true;
            graph.edge(timed, COUNT, Some(Partitioner::Hash));
            graph.last_edge().output = OutputName::Side("late".to_owned());
            // The same union again.
            let again = graph.operator("again", [WORDS]);
            graph.edge(timed, again, None);
            graph.last_edge().output = OutputName::Side("late".to_owned());
        },
        expect![[r#"
            a union() has records of the side output "late" of source "timed", which have event times, and of operator "words", which have none: unite streams of one kind, or let both sources give event times (has_timestamps())
        "#]],
    );
}
