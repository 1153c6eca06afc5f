//! Plans as Flink's JSON (`/jobs/:j/plan`) and as text for people.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use millstream_types::{JobId, RuntimeMode, VertexId};
use serde::{Deserialize, Serialize};

use crate::job_graph::{ChainedOperator, JobEdge, JobGraph, JobVertex};
use crate::stream_graph::{NodeId, OutputName, Partitioner};

/// Deeper levels of a chain are not indented any further; text would grow with their square.
const INDENTED_LEVELS_MAX: usize = 40;

/// A plan as Flink's JSON has it: the answer of `/jobs/:jobid/plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInfo {
    /// The job.
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// Its runtime mode.
    #[serde(rename = "type")]
    pub mode: String,
    /// Its vertices.
    pub nodes: Vec<PlanNode>,
}

/// One vertex of a [`PlanInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// The vertex.
    pub id: VertexId,
    /// The parallelism.
    pub parallelism: u32,
    /// Empty; Flink's plans of its former batch engine used it.
    pub operator: String,
    /// Empty, as `operator`.
    pub operator_strategy: String,
    /// The operators as a tree, in HTML.
    pub description: String,
    /// The exchanges that it reads; absent for a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<PlanInput>>,
    /// Empty, as `operator`.
    pub optimizer_properties: BTreeMap<String, ()>,
}

/// One exchange that a [`PlanNode`] reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInput {
    /// The number, from 0.
    pub num: usize,
    /// The vertex that writes.
    pub id: VertexId,
    /// The partitioner.
    pub ship_strategy: String,
    /// The kind of exchange.
    pub exchange: String,
}

/// Describes a plan as Flink does.
#[must_use]
pub fn plan_info(graph: &JobGraph, job: JobId) -> PlanInfo {
    let inputs = inputs_by_vertex(graph);
    let node = |vertex: &JobVertex| plan_node(vertex, inputs.get(&vertex.id), graph.runtime_mode);
    PlanInfo {
        jid: job,
        name: graph.name.clone(),
        mode: mode_name(graph.runtime_mode).to_owned(),
        nodes: graph.vertices.iter().map(node).collect(),
    }
}

fn plan_node(vertex: &JobVertex, inputs: Option<&Vec<&JobEdge>>, mode: RuntimeMode) -> PlanNode {
    let rows = |inputs: &Vec<&JobEdge>| {
        inputs.iter().enumerate().map(|(num, edge)| plan_input(num, edge, mode)).collect()
    };
    PlanNode {
        id: vertex.id,
        parallelism: vertex.parallelism,
        operator: String::new(),
        operator_strategy: String::new(),
        description: escaped(&chain_tree(vertex, |operator| operator.name.clone())),
        inputs: inputs.map(rows),
        optimizer_properties: BTreeMap::new(),
    }
}

fn plan_input(num: usize, edge: &JobEdge, mode: RuntimeMode) -> PlanInput {
    let exchange = if mode == RuntimeMode::Batch { "blocking" } else { "pipelined_bounded" };
    PlanInput {
        num,
        id: edge.source,
        ship_strategy: edge.partitioner.ship_strategy().to_owned(),
        exchange: exchange.to_owned(),
    }
}

fn mode_name(mode: RuntimeMode) -> &'static str {
    match mode {
        RuntimeMode::Streaming => "STREAMING",
        RuntimeMode::Batch => "BATCH",
        RuntimeMode::Automatic => "AUTOMATIC",
    }
}

fn inputs_by_vertex(graph: &JobGraph) -> HashMap<VertexId, Vec<&JobEdge>> {
    let mut inputs: HashMap<VertexId, Vec<&JobEdge>> = HashMap::new();
    for edge in &graph.edges {
        inputs.entry(edge.target).or_default().push(edge);
    }
    inputs
}

/// Escapes for HTML, a line's end becomes `<br/>`: Flink's front end shows descriptions as HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\\' => html.push_str("&#92;"),
            '\n' => html.push_str("<br/>"),
            c => html.push(c),
        }
    }
    html
}

/// A chain as a tree, one line an operator, as Flink draws it.
fn chain_tree(vertex: &JobVertex, label: impl Fn(&ChainedOperator) -> String) -> String {
    let mut children: HashMap<NodeId, Vec<&ChainedOperator>> = HashMap::new();
    for operator in &vertex.operators {
        if let Some(upstream) = operator.upstream {
            children.entry(upstream).or_default().push(operator);
        }
    }
    let mut tree = String::new();
    let mut lines: Vec<(&ChainedOperator, String, &str, &str)> =
        vertex.operators.first().map(|head| (head, String::new(), "", "")).into_iter().collect();
    while let Some((operator, indent, branch, trunk)) = lines.pop() {
        let _ = writeln!(tree, "{indent}{branch}{}", label(operator));
        let mut deeper = indent;
        if deeper.len() < INDENTED_LEVELS_MAX * 3 {
            deeper.push_str(trunk);
        }
        let below = children.remove(&operator.node).unwrap_or_default();
        for (place, child) in below.iter().rev().enumerate() {
            let (branch, trunk) = if place == 0 { ("+- ", "   ") } else { (":- ", ":  ") };
            lines.push((child, deeper.clone(), branch, trunk));
        }
    }
    tree
}

/// The plan for people: each vertex with its operators and where its records come from.
#[must_use]
pub fn plan_text(graph: &JobGraph) -> String {
    let slots: u32 = graph.slots_by_group().values().sum();
    let mut text = format!(
        "Job {:?}: {}, vertices {}, exchanges {}, slots {slots}, fingerprint {}\n",
        graph.name,
        mode_name(graph.runtime_mode),
        graph.vertices.len(),
        graph.edges.len(),
        graph.fingerprint,
    );
    let numbers: HashMap<VertexId, usize> =
        graph.vertices.iter().enumerate().map(|(at, vertex)| (vertex.id, at + 1)).collect();
    let inputs = inputs_by_vertex(graph);
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let _ = writeln!(
            text,
            "\nVertex {}, id {}, parallelism {} (at most {}), slot sharing group {:?}",
            at + 1,
            vertex.id,
            vertex.parallelism,
            vertex.max_parallelism.get(),
            vertex.slot_sharing_group,
        );
        for edge in inputs.get(&vertex.id).into_iter().flatten() {
            let from = numbers.get(&edge.source).copied().unwrap_or_default();
            let _ = writeln!(text, "  <- vertex {from}{}", how(edge));
        }
        for line in chain_tree(vertex, operator_text).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn how(edge: &JobEdge) -> String {
    let mut how = match edge.partitioner {
        Partitioner::Forward => ", subtask to subtask (FORWARD)".to_owned(),
        other => format!(" by {}", other.ship_strategy()),
    };
    if let OutputName::Side(_) = edge.output {
        let _ = write!(how, ", {}", edge.output);
    }
    if edge.input > 0 {
        how.push_str(", into the second input");
    }
    how
}

fn operator_text(operator: &ChainedOperator) -> String {
    let mut text = operator.name.clone();
    if let Some(uid) = &operator.uid {
        let _ = write!(text, " (uid {uid:?})");
    }
    if !operator.output_type.is_empty() {
        let _ = write!(text, ": {}", operator.output_type);
    }
    if operator.timed {
        text.push_str(", with event times");
    }
    text
}

#[cfg(test)]
mod tests;
