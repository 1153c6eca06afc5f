//! Plans a checked graph: chains, names and ids.
//!
//! # Chaining
//! As in Flink: a record goes from one operator to the next inside one task if the edge is a
//! forward edge and the only one that ends at its target, both sides are in one slot sharing
//! group, and neither the operators nor the job forbid it. A chain is a tree: one producer is
//! chained with all its consumers that fulfil this. A chain is at most 200 operators deep: each
//! calls the next one, on a stack that is not endless.

use std::collections::{BTreeMap, HashSet};

use millstream_types::{OperatorId, VertexId};

use crate::error::PlanErrors;
use crate::identity;
use crate::job_graph::{
    ChainedOperator, EdgeId, Fingerprint, JobEdge, JobGraph, JobSettings, JobVertex,
};
use crate::resolve::{Resolved, ResolvedNode, ends, resolve};
use crate::stream_graph::{
    Chaining, MAX_NAME_BYTES, NodeId, NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode,
};

/// Largest number of operators of a chain that follow each other.
const CHAIN_DEPTH_MAX: u32 = 200;

/// Plans the graph of a program for the cluster.
///
/// `name` is the one given to `execute`, `ordinal` the number of this `execute()`, and
/// `plan_values` are the values of `plan_value` so far. The same arguments always give the same
/// graph.
///
/// # Errors
/// The graph breaks rules that [`crate::PlanError`] lists: every one that it breaks is named.
pub fn plan(
    graph: &StreamGraph,
    name: &str,
    ordinal: u32,
    plan_values: BTreeMap<String, Vec<u8>>,
    settings: &JobSettings,
) -> Result<JobGraph, PlanErrors> {
    let resolved = resolve(graph, name, &plan_values, settings)?;
    let planner =
        Planner { graph, resolved: &resolved, chained: chained(graph, settings, &resolved) };
    let (vertices, vertex_of) = planner.vertices();
    let edges = planner.edges(&vertex_of);
    let mut job = JobGraph {
        name: name.to_owned(),
        vertices,
        edges,
        runtime_mode: resolved.runtime_mode,
        ordinal,
        plan_values,
        settings: settings.clone(),
        fingerprint: Fingerprint::default(),
    };
    job.fingerprint = identity::fingerprint(graph, &job);
    Ok(job)
}

/// The way of a stream edge's records to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A call inside one task.
    Chain,
    /// This exchange.
    Exchange(EdgeId),
}

/// The carrier of each edge of `stream`, in order.
///
/// `job` must be the plan of `stream`: its exchanges are the edges that end at the first operator
/// of a vertex, numbered in the order of the program.
#[must_use]
pub fn carriers(stream: &StreamGraph, job: &JobGraph) -> Vec<Carrier> {
    let heads: HashSet<NodeId> = job
        .vertices
        .iter()
        .filter_map(|vertex| vertex.operators.first())
        .map(|operator| operator.node)
        .collect();
    let mut exchanges = 0;
    let carrier = |edge: &StreamEdge| {
        if !heads.contains(&edge.target) {
            return Carrier::Chain;
        }
        exchanges += 1;
        Carrier::Exchange(EdgeId(exchanges - 1))
    };
    stream.edges.iter().map(carrier).collect()
}

struct Planner<'a> {
    graph: &'a StreamGraph,
    resolved: &'a Resolved<'a>,
    /// Whether each edge stays inside a task.
    chained: Vec<bool>,
}

/// Finds the edges that stay inside a task.
fn chained(graph: &StreamGraph, settings: &JobSettings, resolved: &Resolved<'_>) -> Vec<bool> {
    let mut chained = vec![false; graph.edges.len()];
    let mut depths = vec![1; resolved.nodes.len()];
    for &at in &resolved.order {
        for &edge in &resolved.nodes[at].outputs {
            let (source, target) = ends(&graph.edges[edge]);
            let depth = depths[source] + 1;
            let (source, node) = (&resolved.nodes[source], &resolved.nodes[target]);
            chained[edge] = settings.chaining
                && resolved.partitioners[edge] == Partitioner::Forward
                && node.inputs.len() == 1
                && source.slot_sharing_group == node.slot_sharing_group
                && source.node.chaining != Chaining::Never
                && node.node.chaining == Chaining::Always
                && depth <= CHAIN_DEPTH_MAX;
            if chained[edge] {
                depths[target] = depth;
            }
        }
    }
    chained
}

impl Planner<'_> {
    fn is_chained(&self, edge: usize) -> bool {
        self.chained[edge]
    }

    /// The vertices, and for each node the id of its vertex.
    ///
    /// A chain's first operator comes before all its others in the order of the nodes, so the
    /// order of the first operators is one of the vertices too.
    fn vertices(&self) -> (Vec<JobVertex>, Vec<VertexId>) {
        let mut vertices = Vec::new();
        let mut vertex_of = vec![VertexId::from_u128(0); self.resolved.nodes.len()];
        for &at in &self.resolved.order {
            let head = &self.resolved.nodes[at];
            if head.inputs.iter().any(|&edge| self.is_chained(edge)) {
                continue;
            }
            let (operators, name) = self.chain(at);
            let id = VertexId::from_bytes(*operator_id(head.node).as_bytes());
            for operator in &operators {
                vertex_of[operator.node.0 as usize] = id;
            }
            vertices.push(JobVertex {
                id,
                name,
                parallelism: head.parallelism,
                max_parallelism: head.max_parallelism,
                operators,
                slot_sharing_group: head.slot_sharing_group.to_owned(),
            });
        }
        (vertices, vertex_of)
    }

    /// The operators of the chain that starts at `head`, upstream first, and their names joined
    /// as Flink does: `a -> b`, `a -> (b -> c, d)`. Chains may be long, so this does not recurse.
    fn chain(&self, head: usize) -> (Vec<ChainedOperator>, String) {
        enum Step {
            Operator(usize, Option<NodeId>),
            Text(&'static str),
        }
        let mut operators = Vec::new();
        let mut name = String::new();
        let mut steps = vec![Step::Operator(head, None)];
        while let Some(step) = steps.pop() {
            let (at, upstream) = match step {
                Step::Operator(at, upstream) => (at, upstream),
                Step::Text(text) => {
                    name.push_str(text);
                    continue;
                }
            };
            let operator = chained_operator(&self.resolved.nodes[at], upstream);
            name.push_str(&operator.name);
            let node = Some(operator.node);
            operators.push(operator);
            let outputs = self.resolved.nodes[at].outputs.iter().rev();
            let next: Vec<usize> = outputs.copied().filter(|&edge| self.is_chained(edge)).collect();
            let (open, close) = match next.len() {
                0 => continue,
                1 => (" -> ", ""),
                _ => (" -> (", ")"),
            };
            steps.push(Step::Text(close));
            for (place, &edge) in next.iter().enumerate() {
                if place > 0 {
                    steps.push(Step::Text(", "));
                }
                steps.push(Step::Operator(ends(&self.graph.edges[edge]).1, node));
            }
            steps.push(Step::Text(open));
        }
        (operators, cut(name))
    }

    fn edges(&self, vertex_of: &[VertexId]) -> Vec<JobEdge> {
        let exchanges = (0..self.graph.edges.len()).filter(|&edge| !self.is_chained(edge));
        let to_job_edge = |(number, at): (u32, usize)| {
            let edge = &self.graph.edges[at];
            let (source, target) = ends(edge);
            JobEdge {
                id: EdgeId(number),
                source: vertex_of[source],
                source_node: edge.source,
                output: edge.output.clone(),
                target: vertex_of[target],
                target_node: edge.target,
                input: edge.input,
                partitioner: self.resolved.partitioners[at],
            }
        };
        (0..).zip(exchanges).map(to_job_edge).collect()
    }
}

fn operator_id(node: &StreamNode) -> OperatorId {
    match &node.uid {
        Some(uid) => identity::operator_of_uid(uid),
        None => identity::operator_at(node.id),
    }
}

fn chained_operator(resolved: &ResolvedNode<'_>, upstream: Option<NodeId>) -> ChainedOperator {
    let node = resolved.node;
    let prefix = match node.kind {
        NodeKind::Source { .. } => "Source: ",
        NodeKind::Operator => "",
        NodeKind::Sink { .. } => "Sink: ",
    };
    ChainedOperator {
        id: operator_id(node),
        node: node.id,
        uid: node.uid.clone(),
        name: format!("{prefix}{}", node.name),
        coordinated: node.kind.is_coordinated(),
        restarts_alone: node.kind.restarts_alone(),
        source: matches!(node.kind, NodeKind::Source { .. }),
        upstream,
        output_type: node.output_type.clone(),
        timed: resolved.timed,
    }
}

fn cut(mut name: String) -> String {
    if name.len() > MAX_NAME_BYTES {
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES - 4));
        name.push_str(" ...");
    }
    name
}

#[cfg(test)]
mod tests;
