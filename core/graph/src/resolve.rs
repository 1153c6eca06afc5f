//! Checks a [`StreamGraph`] and fills in what the program left open.
//!
//! Every check is linear in the graph. Structure comes first (numbers, ends of edges, cycles), so
//! that later checks may index nodes and walk upstream first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use millstream_types::MaxParallelism;

use crate::error::PlanError;
use crate::stream_graph::{
    Boundedness, NodeKind, OutputName, Partitioner, RuntimeMode, StreamEdge, StreamGraph,
    StreamNode,
};
use crate::{JobSettings, MAX_NAME_BYTES};

const MAX_OPERATORS: u64 = 10_000;
const MAX_EDGES: u64 = 100_000;
const MAX_SUBTASKS: u64 = 100_000;
const MAX_PLAN_VALUE_BYTES: u64 = 16 << 20;

/// The group of operators whose inputs name none.
const DEFAULT_GROUP: &str = "default";

/// A checked graph with nothing left open. Indexes are those of the stream graph.
pub(crate) struct Resolved<'a> {
    pub(crate) nodes: Vec<ResolvedNode<'a>>,
    /// One for each stream edge.
    pub(crate) partitioners: Vec<Partitioner>,
    /// The nodes, upstream first; of several possible orders the one nearest to the program's.
    pub(crate) order: Vec<usize>,
    pub(crate) runtime_mode: RuntimeMode,
}

pub(crate) struct ResolvedNode<'a> {
    pub(crate) node: &'a StreamNode,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: MaxParallelism,
    pub(crate) slot_sharing_group: &'a str,
    /// Indexes of the edges that end here and start here, in the program's order.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

pub(crate) fn resolve<'a>(
    graph: &'a StreamGraph,
    name: &str,
    plan_values: &BTreeMap<String, Vec<u8>>,
    settings: &JobSettings,
) -> Result<Resolved<'a>, PlanError> {
    check_limits(graph, name, plan_values)?;
    let mut nodes = connect(graph)?;
    let order = topological_order(graph, &nodes)?;
    check_inputs(graph, &nodes)?;
    check_uids(graph)?;
    resolve_parallelism(&mut nodes, settings)?;
    resolve_groups(graph, &mut nodes, &order)?;
    let runtime_mode = resolve_runtime_mode(graph, settings.runtime_mode)?;
    let partitioners = resolve_partitioners(graph, &nodes)?;
    Ok(Resolved { nodes, partitioners, order, runtime_mode })
}

/// How errors call an operator.
fn describe(node: &StreamNode) -> String {
    match &node.uid {
        Some(uid) => format!("operator {:?} (uid {uid:?})", node.name),
        None => format!("operator {:?}", node.name),
    }
}

/// How errors call one of two operators whose names may be the same.
fn kind_and_name(node: &StreamNode) -> String {
    let kind = match (node.kind, node.stateful) {
        (NodeKind::Source { .. }, _) => "source",
        (NodeKind::Sink { .. }, _) => "sink",
        (NodeKind::Operator, true) => "operator with state",
        (NodeKind::Operator, false) => "operator",
    };
    format!("{kind} {:?}", node.name)
}

fn limit(what: &'static str, count: u64, limit: u64) -> Result<(), PlanError> {
    if count > limit { Err(PlanError::TooMany { what, count, limit }) } else { Ok(()) }
}

fn check_name(what: &'static str, name: &str) -> Result<(), PlanError> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let start = name.chars().take(40).collect();
    Err(PlanError::NameTooLong { what, start, bytes: name.len() })
}

fn check_limits(
    graph: &StreamGraph,
    name: &str,
    plan_values: &BTreeMap<String, Vec<u8>>,
) -> Result<(), PlanError> {
    if graph.nodes.is_empty() {
        return Err(PlanError::Empty);
    }
    limit("operators", graph.nodes.len() as u64, MAX_OPERATORS)?;
    limit("connections", graph.edges.len() as u64, MAX_EDGES)?;
    let bytes = plan_values.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
    limit("bytes of plan values", bytes, MAX_PLAN_VALUE_BYTES)?;
    check_name("job name", name)?;
    for node in &graph.nodes {
        check_name("operator name", &node.name)?;
        check_name("uid", node.uid.as_deref().unwrap_or_default())?;
        check_name("slot sharing group", node.slot_sharing_group.as_deref().unwrap_or_default())?;
    }
    for edge in &graph.edges {
        if let OutputName::Side(tag) = &edge.output {
            check_name("side output", tag)?;
        }
    }
    Ok(())
}

/// The nodes with their edges; parallelism and groups are filled in later.
fn connect(graph: &StreamGraph) -> Result<Vec<ResolvedNode<'_>>, PlanError> {
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (place, node) in graph.nodes.iter().enumerate() {
        if node.id.0 as usize != place {
            return Err(PlanError::Misnumbered { place, id: node.id.0 });
        }
        nodes.push(ResolvedNode {
            node,
            parallelism: 1,
            max_parallelism: MaxParallelism::DEFAULT,
            slot_sharing_group: DEFAULT_GROUP,
            inputs: Vec::new(),
            outputs: Vec::new(),
        });
    }
    for (at, edge) in graph.edges.iter().enumerate() {
        let (source, target) = ends(edge);
        if source >= nodes.len() || target >= nodes.len() {
            return Err(PlanError::DanglingEdge {
                source_node: edge.source.0,
                target_node: edge.target.0,
                nodes: nodes.len(),
            });
        }
        nodes[source].outputs.push(at);
        nodes[target].inputs.push(at);
    }
    Ok(nodes)
}

pub(crate) fn ends(edge: &StreamEdge) -> (usize, usize) {
    (edge.source.0 as usize, edge.target.0 as usize)
}

fn topological_order(
    graph: &StreamGraph,
    nodes: &[ResolvedNode<'_>],
) -> Result<Vec<usize>, PlanError> {
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.inputs.len()).collect();
    let mut ready: BinaryHeap<_> =
        (0..nodes.len()).filter(|&at| missing[at] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for &edge in &nodes[at].outputs {
            let (_, target) = ends(&graph.edges[edge]);
            missing[target] -= 1;
            if missing[target] == 0 {
                ready.push(Reverse(target));
            }
        }
    }
    match missing.iter().position(|&missing| missing > 0) {
        None => Ok(order),
        Some(stuck) => Err(PlanError::Cycle(find_cycle(graph, nodes, &missing, stuck))),
    }
}

/// Walks upstream among the nodes that wait for an input; each waits for another one, so the walk
/// must meet itself.
fn find_cycle(
    graph: &StreamGraph,
    nodes: &[ResolvedNode<'_>],
    missing: &[usize],
    stuck: usize,
) -> Vec<String> {
    let mut path = vec![stuck];
    let mut places = HashMap::from([(stuck, 0)]);
    let mut at = stuck;
    loop {
        let upstream = nodes[at].inputs.iter().map(|&edge| ends(&graph.edges[edge]).0);
        let Some(next) = upstream.into_iter().find(|&source| missing[source] > 0) else { break };
        if let Some(&start) = places.get(&next) {
            path.drain(..start);
            break;
        }
        places.insert(next, path.len());
        path.push(next);
        at = next;
    }
    path.into_iter().rev().map(|at| nodes[at].node.name.clone()).collect()
}

fn check_inputs(graph: &StreamGraph, nodes: &[ResolvedNode<'_>]) -> Result<(), PlanError> {
    for ResolvedNode { node, inputs, .. } in nodes {
        let is_source = matches!(node.kind, NodeKind::Source { .. });
        let mut connected = [false; 2];
        for edge in inputs.iter().map(|&edge| &graph.edges[edge]) {
            if is_source {
                return Err(PlanError::SourceWithInput {
                    source_operator: describe(node),
                    input_operator: describe(nodes[ends(edge).0].node),
                });
            }
            let input = edge.input;
            match connected.get_mut(usize::from(input)) {
                Some(connected) => *connected = true,
                None => return Err(PlanError::NoSuchInput { operator: describe(node), input }),
            }
        }
        if !is_source && !connected[0] {
            return Err(PlanError::MissingInput { operator: describe(node) });
        }
    }
    Ok(())
}

fn check_uids(graph: &StreamGraph) -> Result<(), PlanError> {
    let mut owners: HashMap<&str, &StreamNode> = HashMap::new();
    for node in &graph.nodes {
        match &node.uid {
            Some(uid) => {
                if let Some(first) = owners.insert(uid, node) {
                    return Err(PlanError::DuplicateUid {
                        uid: uid.clone(),
                        first: kind_and_name(first),
                        second: kind_and_name(node),
                    });
                }
            }
            None if node.stateful => {
                return Err(PlanError::StatefulWithoutUid { operator: describe(node) });
            }
            None => {}
        }
    }
    Ok(())
}

fn resolve_parallelism(
    nodes: &mut [ResolvedNode<'_>],
    settings: &JobSettings,
) -> Result<(), PlanError> {
    let mut subtasks = 0;
    for resolved in nodes {
        let node = resolved.node;
        let parallelism = node.parallelism.unwrap_or(settings.parallelism);
        let max = node.max_parallelism.unwrap_or(settings.max_parallelism.get());
        let operator = || describe(node);
        if parallelism == 0 {
            return Err(PlanError::ZeroParallelism { operator: operator() });
        }
        let Some(max_parallelism) = MaxParallelism::new(max) else {
            return Err(PlanError::InvalidMaxParallelism {
                operator: operator(),
                max_parallelism: max,
            });
        };
        if parallelism > max {
            return Err(PlanError::AboveMaxParallelism {
                operator: operator(),
                parallelism,
                max_parallelism: max,
            });
        }
        resolved.parallelism = parallelism;
        resolved.max_parallelism = max_parallelism;
        subtasks += u64::from(parallelism);
    }
    limit("subtasks", subtasks, MAX_SUBTASKS)
}

/// An operator that names no group is in that of its inputs; inputs of the default group and of a
/// named one make it the default, as in Flink, and inputs of two named groups are a conflict.
fn resolve_groups<'a>(
    graph: &'a StreamGraph,
    nodes: &mut [ResolvedNode<'a>],
    order: &[usize],
) -> Result<(), PlanError> {
    for &at in order {
        let node = nodes[at].node;
        nodes[at].slot_sharing_group = match &node.slot_sharing_group {
            Some(group) => group,
            None => group_of_inputs(graph, nodes, at)?,
        };
    }
    Ok(())
}

fn group_of_inputs<'a>(
    graph: &'a StreamGraph,
    nodes: &[ResolvedNode<'a>],
    at: usize,
) -> Result<&'a str, PlanError> {
    let mut named: Option<&'a str> = None;
    let mut any_default = false;
    for &edge in &nodes[at].inputs {
        let group = nodes[ends(&graph.edges[edge]).0].slot_sharing_group;
        match named {
            _ if group == DEFAULT_GROUP => any_default = true,
            Some(first) if first != group => {
                return Err(PlanError::SlotSharingGroupConflict {
                    operator: describe(nodes[at].node),
                    first: first.to_owned(),
                    second: group.to_owned(),
                });
            }
            Some(_) | None => named = Some(group),
        }
    }
    Ok(named.filter(|_| !any_default).unwrap_or(DEFAULT_GROUP))
}

fn resolve_runtime_mode(graph: &StreamGraph, asked: RuntimeMode) -> Result<RuntimeMode, PlanError> {
    let unbounded = graph.nodes.iter().find(|node| {
        matches!(node.kind, NodeKind::Source { boundedness: Boundedness::Unbounded, .. })
    });
    match (asked, unbounded) {
        (RuntimeMode::Batch, Some(node)) => {
            Err(PlanError::UnboundedInBatch { operator: describe(node) })
        }
        (RuntimeMode::Streaming, _) | (RuntimeMode::Automatic, Some(_)) => {
            Ok(RuntimeMode::Streaming)
        }
        (RuntimeMode::Batch | RuntimeMode::Automatic, None) => Ok(RuntimeMode::Batch),
    }
}

fn resolve_partitioners(
    graph: &StreamGraph,
    nodes: &[ResolvedNode<'_>],
) -> Result<Vec<Partitioner>, PlanError> {
    let resolve = |edge: &StreamEdge| {
        let (source, target) = ends(edge);
        let (source, target) = (&nodes[source], &nodes[target]);
        let same = source.parallelism == target.parallelism;
        match edge.partitioner {
            None if same => Ok(Partitioner::Forward),
            None => Ok(Partitioner::Rebalance),
            Some(Partitioner::Forward) if !same => Err(PlanError::ForwardBetweenParallelisms {
                output: edge.output.clone(),
                source_operator: describe(source.node),
                source_parallelism: source.parallelism,
                target_operator: describe(target.node),
                target_parallelism: target.parallelism,
            }),
            Some(partitioner) => Ok(partitioner),
        }
    };
    graph.edges.iter().map(resolve).collect()
}

#[cfg(test)]
mod tests;
