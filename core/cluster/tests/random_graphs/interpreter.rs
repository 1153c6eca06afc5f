//! The meaning of a graph, node after node, with lists of records for streams.

use std::collections::BTreeMap;

use millstream_api::Key;

use crate::Mask;
use crate::graph::{By, Edge, Graph, Kind, Node, Out, Record};

type Placed = Vec<(Record, Mask)>;

/// The expected records of every sink.
pub fn run(graph: &Graph) -> BTreeMap<usize, Placed> {
    let mut outputs = all(graph);
    let is_sink = |at: &usize| graph.nodes[*at].kind == Kind::Sink;
    (0..graph.nodes.len())
        .filter(is_sink)
        .map(|at| (at, outputs.remove(&(at, Out::Main)).unwrap_or_default()))
        .collect()
}

/// The most records that one output of a node has.
pub fn most_records(graph: &Graph) -> usize {
    all(graph).values().map(Vec::len).max().unwrap_or_default()
}

fn all(graph: &Graph) -> BTreeMap<(usize, Out), Placed> {
    let mut outputs: BTreeMap<(usize, Out), Placed> = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let mut inputs = Placed::new();
        for edge in node.inputs.iter().flatten() {
            let producers = graph.nodes[edge.from].parallelism;
            let records = outputs.get(&(edge.from, edge.out)).cloned().unwrap_or_default();
            inputs.extend(records.into_iter().flat_map(|it| travel(it, edge, producers, node)));
        }
        if let Kind::Source(count) = node.kind {
            let numbers = (0..count).map(|n| ((n, vec![]), 1 << (n % u64::from(node.parallelism))));
            inputs.extend(numbers);
        }
        for (record, mask) in inputs {
            for (out, record) in process(at, node.kind, record) {
                outputs.entry((at, out)).or_default().push((record, mask));
            }
        }
    }
    outputs
}

/// The copies of a record that an edge brings to its target.
fn travel((record, from): (Record, Mask), edge: &Edge, producers: u32, to: &Node) -> Placed {
    let consumers = to.parallelism;
    let everywhere = (1 << consumers) - 1;
    let mask = match edge.by {
        By::Forward => from,
        By::Unsaid if producers == consumers => from,
        By::Unsaid | By::Rebalance => everywhere,
        By::Rescale => near(from, producers, consumers),
        By::Global => 1,
        By::Hash(modulus) => 1 << owner(record.0 % modulus, consumers),
        By::Custom(factor, plus) => 1 << custom(record.0, factor, plus, consumers),
        By::Broadcast => {
            return (0..consumers).map(|subtask| (record.clone(), 1 << subtask)).collect();
        }
    };
    vec![(record, mask)]
}

pub fn custom(number: u64, factor: u64, plus: u64, consumers: u32) -> u64 {
    (number * factor + plus) % u64::from(consumers)
}

/// 128 key groups, each subtask with a range of them.
fn owner(key: u64, consumers: u32) -> u32 {
    let group = (((key.stable_hash() >> 16) & 0xffff_ffff) * 128) >> 32;
    u32::try_from(group).unwrap() * consumers / 128
}

/// The subtasks beside those of `from`, if the fewer are spread evenly over the more.
fn near(from: Mask, producers: u32, consumers: u32) -> Mask {
    let mut near = 0;
    for producer in (0..producers).filter(|producer| from >> producer & 1 == 1) {
        for consumer in 0..consumers {
            let is_near = if consumers >= producers {
                let first = |producer: u32| producer * consumers / producers;
                (first(producer)..first(producer + 1)).contains(&consumer)
            } else {
                producer * consumers / producers == consumer
            };
            near |= Mask::from(is_near) << consumer;
        }
    }
    near
}

/// The results of a node for one record.
pub fn process(at: usize, kind: Kind, (number, mut trail): Record) -> Vec<(Out, Record)> {
    let before = (number, trail.clone());
    trail.push(u8::try_from(at).unwrap());
    let record = (number, trail);
    match (kind, number % 6) {
        (Kind::Source(_) | Kind::Map | Kind::Connect, _) => vec![(Out::Main, record)],
        (Kind::Sink, _) => vec![(Out::Main, before)],
        (Kind::Filter, 0 | 3) => vec![],
        (Kind::Filter, _) => vec![(Out::Main, before)],
        (Kind::FlatMap, rest) => vec![(Out::Main, record); usize::try_from(rest % 3).unwrap()],
        (Kind::Refuse, 1 | 3 | 5) => vec![(Out::Left, before)],
        (Kind::Refuse, _) => vec![(Out::Main, record)],
        (Kind::Process, 0 | 3) => vec![(Out::Main, record)],
        (Kind::Process, 1 | 4) => vec![(Out::Left, record)],
        (Kind::Process, _) => vec![(Out::Right, record)],
    }
}
