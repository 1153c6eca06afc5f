//! The JobGraph as a message and back, every field checked on the way in.

use std::collections::BTreeSet;

use millstream_graph as graph;
use millstream_types::{MaxParallelism, OperatorId, VertexId};

use crate::job;

/// Why a message is not a JobGraph; names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job graph is malformed: {0}")]
pub struct MalformedJobGraph(String);

fn malformed(what: impl Into<String>) -> MalformedJobGraph {
    MalformedJobGraph(what.into())
}

const PARTITIONERS: [(graph::Partitioner, job::Partitioner); 7] = [
    (graph::Partitioner::Forward, job::Partitioner::Forward),
    (graph::Partitioner::Rebalance, job::Partitioner::Rebalance),
    (graph::Partitioner::Rescale, job::Partitioner::Rescale),
    (graph::Partitioner::Hash, job::Partitioner::Hash),
    (graph::Partitioner::Broadcast, job::Partitioner::Broadcast),
    (graph::Partitioner::Global, job::Partitioner::Global),
    (graph::Partitioner::Custom, job::Partitioner::Custom),
];

const RUNTIME_MODES: [(graph::RuntimeMode, job::RuntimeMode); 3] = [
    (graph::RuntimeMode::Streaming, job::RuntimeMode::Streaming),
    (graph::RuntimeMode::Batch, job::RuntimeMode::Batch),
    (graph::RuntimeMode::Automatic, job::RuntimeMode::Automatic),
];

fn to_message<A: PartialEq, B: Copy + Into<i32>>(table: &[(A, B)], value: &A) -> i32 {
    table.iter().find(|(ours, _)| ours == value).map_or(0, |(_, message)| (*message).into())
}

fn from_message<A: Copy, B: Copy + Into<i32>>(
    table: &[(A, B)],
    number: i32,
    field: &str,
) -> Result<A, MalformedJobGraph> {
    table
        .iter()
        .find(|(_, message)| (*message).into() == number)
        .map(|(ours, _)| *ours)
        .ok_or_else(|| malformed(format!("{field} has the unknown value {number}")))
}

impl From<&graph::JobSettings> for job::JobSettings {
    fn from(settings: &graph::JobSettings) -> Self {
        Self {
            args: settings.args.clone(),
            entry: settings.entry.clone(),
            parallelism: settings.parallelism,
            max_parallelism: settings.max_parallelism.map_or(0, MaxParallelism::get),
            chaining: settings.chaining,
            runtime_mode: to_message(&RUNTIME_MODES, &settings.runtime_mode),
            buffer_timeout_ms: settings.buffer_timeout_ms,
            config: settings.config.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<job::JobSettings> for graph::JobSettings {
    type Error = MalformedJobGraph;

    fn try_from(settings: job::JobSettings) -> Result<Self, Self::Error> {
        Ok(Self {
            args: settings.args,
            entry: settings.entry,
            parallelism: settings.parallelism,
            max_parallelism: match settings.max_parallelism {
                0 => None,
                count => Some(max_parallelism(count)?),
            },
            chaining: settings.chaining,
            runtime_mode: from_message(&RUNTIME_MODES, settings.runtime_mode, "runtime_mode")?,
            buffer_timeout_ms: settings.buffer_timeout_ms,
            config: settings.config.into_iter().collect(),
        })
    }
}

fn max_parallelism(count: u32) -> Result<MaxParallelism, MalformedJobGraph> {
    MaxParallelism::new(count)
        .ok_or_else(|| malformed(format!("max_parallelism {count} is not in 1..=32768")))
}

fn vertex_id(bytes: &[u8]) -> Result<VertexId, MalformedJobGraph> {
    VertexId::try_from(bytes).map_err(|error| malformed(error.to_string()))
}

impl From<&graph::JobGraph> for job::JobGraph {
    fn from(graph: &graph::JobGraph) -> Self {
        Self {
            name: graph.name.clone(),
            vertices: graph.vertices.iter().map(vertex_to_message).collect(),
            edges: graph.edges.iter().map(edge_to_message).collect(),
            runtime_mode: to_message(&RUNTIME_MODES, &graph.runtime_mode),
            ordinal: graph.ordinal,
            plan_values: graph.plan_values.clone().into_iter().collect(),
            settings: Some((&graph.settings).into()),
            fingerprint: graph.fingerprint.0.to_vec(),
        }
    }
}

fn vertex_to_message(vertex: &graph::JobVertex) -> job::JobVertex {
    job::JobVertex {
        id: vertex.id.as_bytes().to_vec(),
        name: vertex.name.clone(),
        parallelism: vertex.parallelism,
        max_parallelism: vertex.max_parallelism.get(),
        operators: vertex
            .operators
            .iter()
            .map(|operator| job::ChainedOperator {
                id: operator.id.as_bytes().to_vec(),
                node: operator.node.0,
                uid: operator.uid.clone(),
                name: operator.name.clone(),
                coordinated: operator.coordinated,
                restarts_alone: operator.restarts_alone,
                source: operator.source,
                upstream: operator.upstream.map(|node| node.0),
                output_type: operator.output_type.clone(),
                timed: operator.timed,
            })
            .collect(),
        slot_sharing_group: vertex.slot_sharing_group.clone(),
    }
}

fn edge_to_message(edge: &graph::JobEdge) -> job::JobEdge {
    job::JobEdge {
        id: edge.id.0,
        source: edge.source.as_bytes().to_vec(),
        source_node: edge.source_node.0,
        side_output: match &edge.output {
            graph::OutputName::Main => None,
            graph::OutputName::Side(tag) => Some(tag.clone()),
        },
        target: edge.target.as_bytes().to_vec(),
        target_node: edge.target_node.0,
        input: u32::from(edge.input),
        partitioner: to_message(&PARTITIONERS, &edge.partitioner),
    }
}

impl TryFrom<job::JobGraph> for graph::JobGraph {
    type Error = MalformedJobGraph;

    fn try_from(message: job::JobGraph) -> Result<Self, Self::Error> {
        let vertices: Vec<_> =
            message.vertices.into_iter().map(vertex_from_message).collect::<Result<_, _>>()?;
        if vertices.is_empty() {
            return Err(malformed("it has no vertex"));
        }
        let ids: BTreeSet<VertexId> = vertices.iter().map(|vertex| vertex.id).collect();
        if ids.len() != vertices.len() {
            return Err(malformed("two vertices have one id"));
        }
        let edges: Vec<_> = message
            .edges
            .into_iter()
            .enumerate()
            .map(|(at, edge)| edge_from_message(at, edge, &ids))
            .collect::<Result<_, _>>()?;
        let runtime_mode = from_message(&RUNTIME_MODES, message.runtime_mode, "runtime_mode")?;
        let settings = message.settings.ok_or_else(|| malformed("it has no settings"))?;
        let fingerprint = <[u8; 32]>::try_from(message.fingerprint.as_slice())
            .map_err(|_| malformed("its fingerprint is not 32 bytes"))?;
        Ok(Self {
            name: message.name,
            vertices,
            edges,
            runtime_mode,
            ordinal: message.ordinal,
            plan_values: message.plan_values.into_iter().collect(),
            settings: settings.try_into()?,
            fingerprint: graph::Fingerprint(fingerprint),
        })
    }
}

fn vertex_from_message(vertex: job::JobVertex) -> Result<graph::JobVertex, MalformedJobGraph> {
    let max_parallelism = max_parallelism(vertex.max_parallelism)?;
    if vertex.parallelism == 0 || vertex.parallelism > max_parallelism.get() {
        return Err(malformed(format!(
            "vertex {:?} has parallelism {} and maximum {}",
            vertex.name,
            vertex.parallelism,
            max_parallelism.get()
        )));
    }
    let operators: Vec<_> = vertex
        .operators
        .into_iter()
        .map(|operator| {
            Ok(graph::ChainedOperator {
                id: OperatorId::try_from(operator.id.as_slice())
                    .map_err(|error| malformed(error.to_string()))?,
                node: graph::NodeId(operator.node),
                uid: operator.uid,
                name: operator.name,
                coordinated: operator.coordinated,
                restarts_alone: operator.restarts_alone,
                source: operator.source,
                upstream: operator.upstream.map(graph::NodeId),
                output_type: operator.output_type,
                timed: operator.timed,
            })
        })
        .collect::<Result<_, MalformedJobGraph>>()?;
    if operators.is_empty() {
        return Err(malformed(format!("vertex {:?} has no operator", vertex.name)));
    }
    let mut before = BTreeSet::new();
    for operator in &operators {
        if operator.upstream.is_some_and(|node| !before.contains(&node))
            || operator.upstream.is_none() != before.is_empty()
            || !before.insert(operator.node)
        {
            let name = &operator.name;
            return Err(malformed(format!("operator {name:?} is not in the order of its chain")));
        }
    }
    Ok(graph::JobVertex {
        id: vertex_id(&vertex.id)?,
        name: vertex.name,
        parallelism: vertex.parallelism,
        max_parallelism,
        operators,
        slot_sharing_group: vertex.slot_sharing_group,
    })
}

fn edge_from_message(
    at: usize,
    edge: job::JobEdge,
    vertices: &BTreeSet<VertexId>,
) -> Result<graph::JobEdge, MalformedJobGraph> {
    let (source, target) = (vertex_id(&edge.source)?, vertex_id(&edge.target)?);
    if edge.id as usize != at || !vertices.contains(&source) || !vertices.contains(&target) {
        return Err(malformed(format!("edge {at} is misnumbered or has an unknown end")));
    }
    Ok(graph::JobEdge {
        id: graph::EdgeId(edge.id),
        source,
        source_node: graph::NodeId(edge.source_node),
        output: edge.side_output.map_or(graph::OutputName::Main, graph::OutputName::Side),
        target,
        target_node: graph::NodeId(edge.target_node),
        input: u8::try_from(edge.input)
            .map_err(|_| malformed(format!("edge {at} has input {}", edge.input)))?,
        partitioner: from_message(&PARTITIONERS, edge.partitioner, "partitioner")?,
    })
}
