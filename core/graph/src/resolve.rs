//! Checks a [`StreamGraph`] and fills in the settings that the program left open.
//!
//! Every check is linear in the graph. Structure comes first (numbers, ends of edges, cycles), so
//! that later checks may index nodes and walk upstream first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use millstream_types::{MaxParallelism, RuntimeMode};

use crate::error::{PlanError, PlanErrors};
use crate::stream_graph::{
    Boundedness, NodeKind, OutputName, Partitioner, StreamEdge, StreamGraph, StreamNode,
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
    /// Whether its results have event times.
    pub(crate) timed: bool,
    /// Indexes of the edges that end here and start here, in the program's order.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

pub(crate) fn resolve<'a>(
    graph: &'a StreamGraph,
    name: &str,
    plan_values: &BTreeMap<String, Vec<u8>>,
    settings: &JobSettings,
) -> Result<Resolved<'a>, PlanErrors> {
    let mut faults = PlanErrors::default();
    check_limits(graph, name, plan_values, &mut faults);
    let mut nodes = connect(graph, &mut faults);
    // The other checks index nodes and walk upstream.
    faults.none_yet()?;
    let order = topological_order(graph, &nodes)?;
    check_inputs(graph, &nodes, &mut faults);
    check_uids(graph, &mut faults);
    resolve_parallelism(&mut nodes, settings, &mut faults);
    resolve_groups(graph, &mut nodes, &order, &mut faults);
    resolve_times(graph, &mut nodes, &order, &mut faults);
    let runtime_mode = resolve_runtime_mode(graph, settings.runtime_mode, &mut faults);
    let partitioners = resolve_partitioners(graph, &nodes, &mut faults);
    faults.none_yet()?;
    Ok(Resolved { nodes, partitioners, order, runtime_mode })
}

/// The name of an operator in errors.
fn describe(node: &StreamNode) -> String {
    match &node.uid {
        Some(uid) => format!("operator {:?} (uid {uid:?})", node.name),
        None => format!("operator {:?}", node.name),
    }
}

/// The name in errors of one of two operators whose names may be the same.
fn kind_and_name(node: &StreamNode) -> String {
    let kind = match (node.kind, node.stateful) {
        (NodeKind::Source { .. }, _) => "source",
        (NodeKind::Sink { .. }, _) => "sink",
        (NodeKind::Operator, true) => "operator with state",
        (NodeKind::Operator, false) => "operator",
    };
    format!("{kind} {:?}", node.name)
}

fn check_limit(what: &'static str, count: u64, limit: u64, faults: &mut PlanErrors) {
    if count > limit {
        faults.add(PlanError::TooMany { what, count, limit });
    }
}

fn check_name(what: &'static str, name: &str, faults: &mut PlanErrors) {
    if name.len() > MAX_NAME_BYTES {
        let start = name.chars().take(40).collect();
        faults.add(PlanError::NameTooLong { what, start, bytes: name.len() });
    }
}

fn check_limits(
    graph: &StreamGraph,
    name: &str,
    plan_values: &BTreeMap<String, Vec<u8>>,
    faults: &mut PlanErrors,
) {
    if graph.nodes.is_empty() {
        faults.add(PlanError::Empty);
    }
    check_limit("operators", graph.nodes.len() as u64, MAX_OPERATORS, faults);
    check_limit("connections", graph.edges.len() as u64, MAX_EDGES, faults);
    let bytes = plan_values.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
    check_limit("bytes of plan values", bytes, MAX_PLAN_VALUE_BYTES, faults);
    check_name("job name", name, faults);
    for node in &graph.nodes {
        check_name("operator name", &node.name, faults);
        check_name("uid", node.uid.as_deref().unwrap_or_default(), faults);
        let group = node.slot_sharing_group.as_deref().unwrap_or_default();
        check_name("slot sharing group", group, faults);
    }
    for edge in &graph.edges {
        if let OutputName::Side(tag) = &edge.output {
            check_name("side output", tag, faults);
        }
    }
}

/// The nodes with their edges; parallelism and groups are filled in later.
fn connect<'a>(graph: &'a StreamGraph, faults: &mut PlanErrors) -> Vec<ResolvedNode<'a>> {
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (place, node) in graph.nodes.iter().enumerate() {
        if node.id.0 as usize != place {
            faults.add(PlanError::Misnumbered { place, id: node.id.0 });
        }
        nodes.push(ResolvedNode {
            node,
            parallelism: 1,
            max_parallelism: MaxParallelism::DEFAULT,
            slot_sharing_group: DEFAULT_GROUP,
            timed: false,
            inputs: Vec::new(),
            outputs: Vec::new(),
        });
    }
    for (at, edge) in graph.edges.iter().enumerate() {
        let (source, target) = ends(edge);
        if source >= nodes.len() || target >= nodes.len() {
            faults.add(PlanError::DanglingEdge {
                source_node: edge.source.0,
                target_node: edge.target.0,
                nodes: nodes.len(),
            });
            continue;
        }
        nodes[source].outputs.push(at);
        nodes[target].inputs.push(at);
    }
    nodes
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

fn check_inputs(graph: &StreamGraph, nodes: &[ResolvedNode<'_>], faults: &mut PlanErrors) {
    for ResolvedNode { node, inputs, .. } in nodes {
        let is_source = matches!(node.kind, NodeKind::Source { .. });
        let mut connected = [false; 2];
        for edge in inputs.iter().map(|&edge| &graph.edges[edge]) {
            let input = edge.input;
            match connected.get_mut(usize::from(input)) {
                _ if is_source => faults.add(PlanError::SourceWithInput {
                    source_operator: describe(node),
                    input_operator: describe(nodes[ends(edge).0].node),
                }),
                Some(connected) => *connected = true,
                None => faults.add(PlanError::NoSuchInput { operator: describe(node), input }),
            }
        }
        if !is_source && !connected[0] {
            faults.add(PlanError::MissingInput { operator: describe(node) });
        }
    }
}

fn check_uids(graph: &StreamGraph, faults: &mut PlanErrors) {
    let mut owners: BTreeMap<&str, Vec<&StreamNode>> = BTreeMap::new();
    for node in &graph.nodes {
        match &node.uid {
            Some(uid) => owners.entry(uid).or_default().push(node),
            None if node.stateful => {
                faults.add(PlanError::StatefulWithoutUid { operator: describe(node) });
            }
            None => {}
        }
    }
    for (uid, owners) in owners.into_iter().filter(|(_, owners)| owners.len() > 1) {
        let operators = owners.into_iter().map(kind_and_name).collect();
        faults.add(PlanError::DuplicateUid { uid: uid.to_owned(), operators });
    }
}

fn resolve_parallelism(
    nodes: &mut [ResolvedNode<'_>],
    settings: &JobSettings,
    faults: &mut PlanErrors,
) {
    let mut subtasks = 0;
    let mut defaults_are_wrong = false;
    for resolved in nodes {
        let node = resolved.node;
        let parallelism = node.parallelism.unwrap_or(settings.parallelism);
        let default = || settings.max_parallelism.unwrap_or(MaxParallelism::derived(parallelism));
        let max = node.max_parallelism.unwrap_or_else(|| default().get());
        let operator = || describe(node);
        let fault = match MaxParallelism::new(max) {
            _ if parallelism == 0 => Some(PlanError::ZeroParallelism { operator: operator() }),
            Some(_) if parallelism > max => Some(PlanError::AboveMaxParallelism {
                operator: operator(),
                parallelism,
                max_parallelism: max,
            }),
            Some(max) => {
                resolved.max_parallelism = max;
                None
            }
            None => Some(PlanError::InvalidMaxParallelism {
                operator: operator(),
                max_parallelism: max,
            }),
        };
        // A fault of the job's defaults is one, however many operators have them.
        let has_defaults = node.parallelism.is_none() && node.max_parallelism.is_none();
        if let Some(fault) = fault
            && !(has_defaults && std::mem::replace(&mut defaults_are_wrong, true))
        {
            faults.add(fault);
        }
        resolved.parallelism = parallelism;
        subtasks += u64::from(parallelism);
    }
    check_limit("subtasks", subtasks, MAX_SUBTASKS, faults);
}

/// An operator that names no group is in that of its inputs; inputs of the default group and of a
/// named one make it the default, as in Flink, and inputs of two named groups are a conflict.
fn resolve_groups<'a>(
    graph: &'a StreamGraph,
    nodes: &mut [ResolvedNode<'a>],
    order: &[usize],
    faults: &mut PlanErrors,
) {
    for &at in order {
        let node = nodes[at].node;
        nodes[at].slot_sharing_group = match &node.slot_sharing_group {
            Some(group) => group,
            None => group_of_inputs(graph, nodes, at, faults),
        };
    }
}

fn group_of_inputs<'a>(
    graph: &'a StreamGraph,
    nodes: &[ResolvedNode<'a>],
    at: usize,
    faults: &mut PlanErrors,
) -> &'a str {
    let mut named: Option<&'a str> = None;
    let mut any_default = false;
    for &edge in &nodes[at].inputs {
        let group = nodes[ends(&graph.edges[edge]).0].slot_sharing_group;
        match named {
            _ if group == DEFAULT_GROUP => any_default = true,
            Some(first) if first != group => {
                faults.add(PlanError::SlotSharingGroupConflict {
                    operator: describe(nodes[at].node),
                    first: first.to_owned(),
                    second: group.to_owned(),
                });
                break;
            }
            Some(_) | None => named = Some(group),
        }
    }
    named.filter(|_| !any_default).unwrap_or(DEFAULT_GROUP)
}

/// A stream has event times or it has none: those of one input must agree. Results have times if
/// the operator gives them some, or if the records of all its inputs have them.
fn resolve_times(
    graph: &StreamGraph,
    nodes: &mut [ResolvedNode<'_>],
    order: &[usize],
    faults: &mut PlanErrors,
) {
    let mut told = HashSet::new();
    for &at in order {
        // For each input, the first stream without times and the first with times.
        let mut found: [[Option<&StreamEdge>; 2]; 2] = Default::default();
        for edge in nodes[at].inputs.iter().map(|&edge| &graph.edges[edge]) {
            let timed = usize::from(nodes[ends(edge).0].timed);
            if let Some(input) = found.get_mut(usize::from(edge.input)) {
                input[timed].get_or_insert(edge);
            }
        }
        for [plain, timed] in found {
            let (Some(plain), Some(timed)) = (plain, timed) else { continue };
            let stream = |edge: &StreamEdge| {
                let source = kind_and_name(nodes[ends(edge).0].node);
                match &edge.output {
                    OutputName::Main => source,
                    side @ OutputName::Side(_) => format!("the {side} of {source}"),
                }
            };
            let (timed, plain) = (stream(timed), stream(plain));
            // Each operator that reads the union would say the same.
            if told.insert((timed.clone(), plain.clone())) {
                faults.add(PlanError::UnionOfTimedAndUntimed { timed, plain });
            }
        }
        let node = nodes[at].node;
        let has_untimed_input = found.iter().any(|[plain, _]| plain.is_some());
        if node.needs_times && has_untimed_input {
            faults.add(PlanError::WithoutTimes { operator: describe(node) });
        }
        let inherits = !nodes[at].inputs.is_empty() && !has_untimed_input;
        nodes[at].timed = node.kind.has_output() && (node.assigns_times || inherits);
    }
}

fn resolve_runtime_mode(
    graph: &StreamGraph,
    asked: RuntimeMode,
    faults: &mut PlanErrors,
) -> RuntimeMode {
    let is_unbounded = |node: &&StreamNode| {
        matches!(node.kind, NodeKind::Source { boundedness: Boundedness::Unbounded, .. })
    };
    let mut unbounded = graph.nodes.iter().filter(is_unbounded).peekable();
    match asked {
        RuntimeMode::Batch => {
            for node in unbounded {
                faults.add(PlanError::UnboundedInBatch { operator: describe(node) });
            }
            RuntimeMode::Batch
        }
        RuntimeMode::Automatic if unbounded.peek().is_none() => RuntimeMode::Batch,
        RuntimeMode::Streaming | RuntimeMode::Automatic => RuntimeMode::Streaming,
    }
}

fn resolve_partitioners(
    graph: &StreamGraph,
    nodes: &[ResolvedNode<'_>],
    faults: &mut PlanErrors,
) -> Vec<Partitioner> {
    let resolve = |edge: &StreamEdge| {
        let (source, target) = ends(edge);
        let (source, target) = (&nodes[source], &nodes[target]);
        let same = source.parallelism == target.parallelism;
        match edge.partitioner {
            None if same => Partitioner::Forward,
            None => Partitioner::Rebalance,
            Some(partitioner) => {
                if partitioner == Partitioner::Forward && !same {
                    faults.add(PlanError::ForwardBetweenParallelisms {
                        output: edge.output.clone(),
                        source_operator: describe(source.node),
                        source_parallelism: source.parallelism,
                        target_operator: describe(target.node),
                        target_parallelism: target.parallelism,
                    });
                }
                partitioner
            }
        }
    };
    graph.edges.iter().map(resolve).collect()
}

#[cfg(test)]
mod tests;
