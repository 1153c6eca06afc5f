//! Builds graphs for tests, briefly.

use std::collections::BTreeMap;

use crate::{
    Boundedness, Chaining, JobGraph, JobSettings, NodeId, NodeKind, OutputName, Partitioner,
    PlanErrors, StreamEdge, StreamGraph, StreamNode, plan,
};

pub(crate) const BOUNDED: NodeKind = NodeKind::Source {
    boundedness: Boundedness::Bounded,
    coordinated: true,
    restarts_alone: false,
};
pub(crate) const UNBOUNDED: NodeKind = NodeKind::Source {
    boundedness: Boundedness::Unbounded,
    coordinated: true,
    restarts_alone: false,
};
pub(crate) const SINK: NodeKind = NodeKind::Sink { coordinated: false };

#[derive(Debug, Default)]
pub(crate) struct Builder(pub(crate) StreamGraph);

impl Builder {
    pub(crate) fn node(&mut self, kind: NodeKind, name: &str) -> NodeId {
        let id = NodeId(u32::try_from(self.0.nodes.len()).unwrap());
        self.0.nodes.push(StreamNode {
            id,
            uid: None,
            name: name.to_owned(),
            kind,
            stateful: false,
            assigns_times: false,
            needs_times: false,
            parallelism: None,
            max_parallelism: None,
            slot_sharing_group: None,
            chaining: Chaining::Always,
            output_type: "u64".to_owned(),
        });
        id
    }

    pub(crate) fn source(&mut self, name: &str) -> NodeId {
        self.node(BOUNDED, name)
    }

    /// An operator with these first inputs.
    pub(crate) fn operator<const N: usize>(&mut self, name: &str, inputs: [NodeId; N]) -> NodeId {
        let id = self.node(NodeKind::Operator, name);
        inputs.iter().for_each(|input| self.edge(*input, id, None));
        id
    }

    pub(crate) fn sink(&mut self, name: &str, input: NodeId) -> NodeId {
        let id = self.node(SINK, name);
        self.edge(input, id, None);
        id
    }

    pub(crate) fn edge(&mut self, source: NodeId, target: NodeId, by: Option<Partitioner>) {
        let output = OutputName::Main;
        self.0.edges.push(StreamEdge { source, output, target, input: 0, partitioner: by });
    }

    pub(crate) fn last_edge(&mut self) -> &mut StreamEdge {
        self.0.edges.last_mut().unwrap()
    }

    pub(crate) fn at(&mut self, node: NodeId) -> &mut StreamNode {
        &mut self.0.nodes[node.0 as usize]
    }

    pub(crate) fn try_plan_with(&self, settings: &JobSettings) -> Result<JobGraph, PlanErrors> {
        plan(&self.0, "test", 0, BTreeMap::new(), settings)
    }

    pub(crate) fn plan(&self) -> JobGraph {
        self.try_plan_with(&settings(2)).unwrap()
    }
}

pub(crate) fn settings(parallelism: u32) -> JobSettings {
    JobSettings { parallelism, ..JobSettings::default() }
}

/// Source, flat map, keyed count with a uid, sink.
pub(crate) fn word_count() -> Builder {
    let mut graph = Builder::default();
    let lines = graph.source("lines");
    let words = graph.operator("words", [lines]);
    let count = graph.node(NodeKind::Operator, "count");
    graph.edge(words, count, Some(Partitioner::Hash));
    graph.at(count).uid = Some("count".to_owned());
    graph.at(count).stateful = true;
    graph.at(count).output_type = "(alloc::string::String, u64)".to_owned();
    graph.sink("out", count);
    graph
}

/// The vertices' names and the exchanges, one a line.
pub(crate) fn shape(job: &JobGraph) -> String {
    let mut lines: Vec<String> =
        job.vertices.iter().map(|v| format!("{} x{}", v.name, v.parallelism)).collect();
    let name = |id| job.vertex(id).unwrap().name.clone();
    lines.extend(job.edges.iter().map(|edge| {
        let by = edge.partitioner.ship_strategy();
        format!("[{}] {by} [{}]", name(edge.source), name(edge.target))
    }));
    lines.join("\n")
}
