//! Chains, ids and fingerprints of small graphs, and laws of any graph.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::plan_text;
use crate::stream_graph::OutputName;
use crate::testing::{BOUNDED, Builder, SINK, settings, shape, word_count};

fn check(graph: &Builder, expected: Expect) {
    expected.assert_eq(&shape(&graph.plan()));
}

#[test]
fn word_count_is_two_chains() {
    let job = word_count().plan();
    expect![[r#"
        Source: lines -> words x2
        count -> Sink: out x2
        [Source: lines -> words] HASH [count -> Sink: out]"#]]
    .assert_eq(&shape(&job));
    assert_eq!(
        job.vertices[1].id,
        VertexId::from_bytes(*identity::operator_of_uid("count").as_bytes())
    );
    let carriers = carriers(&word_count().0, &job);
    assert_eq!(carriers, [Carrier::Chain, Carrier::Exchange(EdgeId(0)), Carrier::Chain]);
}

#[test]
fn a_chain_branches() {
    let mut graph = Builder::default();
    let source = graph.source("in");
    let split = graph.operator("split", [source]);
    let left = graph.operator("left", [split]);
    graph.sink("a", left);
    graph.sink("b", split);
    graph.last_edge().output = OutputName::Side("late".to_owned());
    check(&graph, expect!["Source: in -> split -> (left -> Sink: a, Sink: b) x2"]);
    let operators = &graph.plan().vertices[0].operators;
    let upstream: Vec<_> = operators.iter().map(|o| o.upstream.map(|node| node.0)).collect();
    assert_eq!(upstream, [None, Some(0), Some(1), Some(2), Some(1)]);
}

#[test]
fn several_inputs_end_a_chain() {
    let mut graph = Builder::default();
    let (left, right) = (graph.source("left"), graph.source("right"));
    let both = graph.operator("both", [left, right]);
    graph.sink("out", both);
    check(
        &graph,
        expect![[r#"
        Source: left x2
        Source: right x2
        both -> Sink: out x2
        [Source: left] FORWARD [both -> Sink: out]
        [Source: right] FORWARD [both -> Sink: out]"#]],
    );
}

#[test]
fn one_stream_united_with_itself_is_two_exchanges() {
    let mut graph = Builder::default();
    let source = graph.source("in");
    let twice = graph.operator("twice", [source, source]);
    graph.sink("out", twice);
    check(
        &graph,
        expect![[r#"
        Source: in x2
        twice -> Sink: out x2
        [Source: in] FORWARD [twice -> Sink: out]
        [Source: in] FORWARD [twice -> Sink: out]"#]],
    );
}

#[test]
fn groups_parallelism_and_options_end_a_chain() {
    let chain = |edit: &dyn Fn(&mut StreamNode)| {
        let mut graph = Builder::default();
        let source = graph.source("in");
        let map = graph.operator("map", [source]);
        graph.sink("out", map);
        edit(graph.at(map));
        graph
    };
    check(&chain(&|_| {}), expect!["Source: in -> map -> Sink: out x2"]);
    check(
        &chain(&|map| map.slot_sharing_group = Some("a".to_owned())),
        expect![[r#"
        Source: in x2
        map -> Sink: out x2
        [Source: in] FORWARD [map -> Sink: out]"#]],
    );
    check(
        &chain(&|map| map.parallelism = Some(1)),
        expect![[r#"
        Source: in x2
        map x1
        Sink: out x2
        [Source: in] REBALANCE [map]
        [map] REBALANCE [Sink: out]"#]],
    );
    check(
        &chain(&|map| map.chaining = Chaining::Head),
        expect![[r#"
        Source: in x2
        map -> Sink: out x2
        [Source: in] FORWARD [map -> Sink: out]"#]],
    );
    check(
        &chain(&|map| map.chaining = Chaining::Never),
        expect![[r#"
        Source: in x2
        map x2
        Sink: out x2
        [Source: in] FORWARD [map]
        [map] FORWARD [Sink: out]"#]],
    );
    let unchained = JobSettings { chaining: false, ..settings(1) };
    let job = chain(&|_| {}).try_plan_with(&unchained).unwrap();
    expect![[r#"
        Source: in x1
        map x1
        Sink: out x1
        [Source: in] FORWARD [map]
        [map] FORWARD [Sink: out]"#]]
    .assert_eq(&shape(&job));
    assert!(!carriers(&chain(&|_| {}).0, &job).contains(&Carrier::Chain));
}

#[test]
fn vertices_are_ordered_even_if_the_program_is_not() {
    let mut graph = Builder::default();
    let sink = graph.node(SINK, "out");
    let source = graph.node(BOUNDED, "in");
    graph.edge(source, sink, Some(Partitioner::Rebalance));
    check(
        &graph,
        expect![[r#"
        Source: in x2
        Sink: out x2
        [Source: in] REBALANCE [Sink: out]"#]],
    );
}

#[test]
fn long_names_are_cut_at_a_character() {
    let mut graph = Builder::default();
    let source = graph.source(&"ä".repeat(500));
    graph.sink("out", source);
    let name = &graph.plan().vertices[0].name;
    assert!(name.len() <= MAX_NAME_BYTES && name.ends_with("ä ..."), "{name}");
}

#[test]
fn the_fingerprint_covers_what_must_match() {
    let mut fingerprints = vec![word_count().plan().fingerprint];
    let mut add = |edit: &dyn Fn(&mut Builder)| {
        let mut graph = word_count();
        edit(&mut graph);
        fingerprints.push(graph.plan().fingerprint);
    };
    add(&|graph| graph.at(NodeId(1)).output_type = "u32".to_owned());
    add(&|graph| graph.at(NodeId(1)).chaining = Chaining::Head);
    add(&|graph| graph.at(NodeId(2)).stateful = false);
    add(&|graph| graph.at(NodeId(2)).uid = Some("total".to_owned()));
    add(&|graph| graph.at(NodeId(2)).max_parallelism = Some(64));
    add(&|graph| graph.last_edge().partitioner = Some(Partitioner::Rescale));
    fingerprints.push(word_count().try_plan_with(&settings(3)).unwrap().fingerprint);
    let values = BTreeMap::from([("now".to_owned(), vec![1])]);
    let other = |name, ordinal, values: &BTreeMap<_, _>| {
        plan(&word_count().0, name, ordinal, values.clone(), &settings(2)).unwrap().fingerprint
    };
    fingerprints.push(other("test", 1, &BTreeMap::new()));
    fingerprints.push(other("other", 0, &BTreeMap::new()));
    fingerprints.push(other("test", 0, &values));
    let distinct: HashSet<_> = fingerprints.iter().collect();
    assert_eq!(distinct.len(), fingerprints.len());
    assert_eq!(word_count().plan().fingerprint, fingerprints[0]);
}

/// Deep, wide and dense graphs of the largest size are planned before a user would notice a delay.
#[test]
fn ten_thousand_operators_are_planned_quickly() {
    let mut deep = Builder::default();
    let mut at = deep.source("in");
    let mut wide = Builder::default();
    let source = wide.source("in");
    for n in 1..10_000 {
        at = deep.operator("step", [at]);
        wide.sink("out", source);
        if n % 3 == 0 {
            deep.at(at).chaining = Chaining::Head;
            wide.at(NodeId(n)).chaining = Chaining::Head;
        }
    }
    let start = Instant::now();
    let vertices = |graph: &Builder| {
        let job = graph.try_plan_with(&settings(1)).unwrap();
        assert!(plan_text(&job).len() < 10 << 20);
        assert_eq!(carriers(&graph.0, &job).len(), 9_999);
        job.vertices.len()
    };
    assert_eq!((vertices(&deep), vertices(&wide)), (3_334, 3_334));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn chains_are_not_deeper_than_a_stack() {
    let mut graph = Builder::default();
    let mut at = graph.source("in");
    for _ in 0..1_000 {
        at = graph.operator("step", [at]);
    }
    graph.sink("out", at);
    let job = graph.plan();
    let lengths: Vec<usize> = job.vertices.iter().map(|vertex| vertex.operators.len()).collect();
    assert_eq!(lengths, [200, 200, 200, 200, 200, 2]);
}

/// Any graph without cycles whose edges go from lower to higher numbers.
fn any_graph() -> impl Strategy<Value = Builder> {
    let node = (any::<u8>(), 1..4u32, any::<u64>());
    proptest::collection::vec((node, proptest::collection::vec(any::<u16>(), 1..3)), 1..40)
        .prop_map(|nodes| {
            let mut graph = Builder::default();
            graph.source("first");
            for ((options, parallelism, seed), inputs) in nodes {
                let count = u64::try_from(graph.0.nodes.len()).unwrap();
                let id = if options & 3 == 0 {
                    graph.source("source")
                } else {
                    let id = graph.operator("operator", []);
                    for input in inputs {
                        let source = NodeId(u32::try_from(u64::from(input) % count).unwrap());
                        let by = [None, Some(Partitioner::Hash), None, None][(seed % 4) as usize];
                        graph.edge(source, id, by);
                    }
                    id
                };
                let node = graph.at(id);
                node.parallelism = Some(if options & 4 == 0 { 1 } else { parallelism });
                node.chaining =
                    [Chaining::Always, Chaining::Always, Chaining::Head, Chaining::Never]
                        [(seed / 4 % 4) as usize];
                node.uid = (options & 8 == 0).then(|| format!("uid {id:?}"));
            }
            graph
        })
}

proptest! {
    #[test]
    fn every_plan_is_sound(graph in any_graph()) {
        let job = graph.plan();
        prop_assert_eq!(&job, &graph.plan());
        let place: BTreeMap<_, _> = job.vertices.iter().map(|v| v.id).zip(0..).collect();
        prop_assert_eq!(place.len(), job.vertices.len(), "ids are unique");
        for (edge, at) in job.edges.iter().zip(0..) {
            prop_assert_eq!(edge.id, EdgeId(at));
            prop_assert!(place[&edge.source] < place[&edge.target], "topological order");
            let source = job.vertex(edge.source).unwrap();
            let target = job.vertex(edge.target).unwrap();
            prop_assert_eq!(target.operators[0].node, edge.target_node);
            if edge.partitioner == Partitioner::Forward {
                prop_assert_eq!(source.parallelism, target.parallelism);
            }
        }
        let mut nodes: Vec<_> =
            job.vertices.iter().flat_map(|v| &v.operators).map(|o| o.node.0).collect();
        nodes.sort_unstable();
        let all: Vec<u32> = (0..).take(graph.0.nodes.len()).collect();
        prop_assert_eq!(nodes, all, "each operator is in one vertex");
        let carriers = carriers(&graph.0, &job);
        let exchanges = carriers.iter().filter(|carrier| **carrier != Carrier::Chain).count();
        prop_assert_eq!(exchanges, job.edges.len());
        prop_assert_eq!(carriers.len(), graph.0.edges.len());
        for (edge, carrier) in graph.0.edges.iter().zip(carriers) {
            if let Carrier::Exchange(id) = carrier {
                let exchange = job.edge(id).unwrap();
                prop_assert_eq!(exchange.id, id);
                prop_assert_eq!(exchange.source_node, edge.source);
                prop_assert_eq!(exchange.target_node, edge.target);
                prop_assert_eq!((&exchange.output, exchange.input), (&edge.output, edge.input));
                prop_assert!(edge.partitioner.is_none_or(|by| by == exchange.partitioner));
                continue;
            }
            let same = |v: &&JobVertex| v.operators.iter().any(|o| o.node == edge.target);
            let vertex = job.vertices.iter().find(same).unwrap();
            let source = vertex.operators.iter().position(|o| o.node == edge.source);
            let target = vertex.operators.iter().position(|o| o.node == edge.target);
            prop_assert!(source.is_some() && source < target, "upstream first");
        }
    }
}
