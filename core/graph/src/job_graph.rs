//! The graph that the cluster runs: one vertex per operator chain, one edge per exchange.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millstream_types::{MaxParallelism, OperatorId, RuntimeMode, VertexId};
use serde::{Deserialize, Serialize};

use crate::stream_graph::{NodeId, OutputName, Partitioner};

/// An edge's place in its [`JobGraph`], from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EdgeId(pub u32);

/// SHA-256 over everything that must be the same in all processes that build the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The planner's inputs from outside the program. They are replayed in every host, because the
/// program's graph may depend on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// The program's arguments.
    pub args: Vec<String>,
    /// The name of the job to build (`-c`), if one was given; the program knows the names.
    pub entry: Option<String>,
    /// The parallelism of operators that set none.
    pub parallelism: u32,
    /// The maximum parallelism of operators that set none; `None` derives it from each operator's
    /// parallelism.
    pub max_parallelism: Option<MaxParallelism>,
    /// Whether operators are chained at all.
    pub chaining: bool,
    /// The mode of the configuration; the program may override it.
    pub runtime_mode: RuntimeMode,
    /// Longest wait of a record in an output buffer, in milliseconds; -1 waits until full.
    pub buffer_timeout_ms: i64,
    /// Further configuration that the client gave with the job (`-D`), by key.
    pub config: BTreeMap<String, String>,
}

/// Whether records are encoded and read back between any two operators.
const SERIALIZE_ALWAYS: &str = "millstream.execution.serialize-always";

/// The time between two watermarks of a stream, as `50 ms`.
const WATERMARK_INTERVAL: &str = "pipeline.auto-watermark-interval";
const WATERMARK_INTERVAL_DEFAULT: Duration = Duration::from_millis(200);

impl JobSettings {
    /// The time between two watermarks of a stream.
    #[must_use]
    pub fn watermark_interval(&self) -> Duration {
        let millis = self.config.get(WATERMARK_INTERVAL).and_then(|text| text.strip_suffix(" ms"));
        let millis = millis.and_then(|millis| millis.parse().ok());
        millis.map_or(WATERMARK_INTERVAL_DEFAULT, Duration::from_millis)
    }

    /// Sets [`JobSettings::watermark_interval`].
    pub fn set_watermark_interval(&mut self, interval: Duration) {
        if interval == WATERMARK_INTERVAL_DEFAULT {
            self.config.remove(WATERMARK_INTERVAL);
        } else {
            let text = format!("{} ms", interval.as_millis());
            self.config.insert(WATERMARK_INTERVAL.to_owned(), text);
        }
    }

    /// Whether records are encoded and read back between any two operators.
    #[must_use]
    pub fn serializes_always(&self) -> bool {
        self.config.get(SERIALIZE_ALWAYS).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Sets [`JobSettings::serializes_always`].
    pub fn set_serialize_always(&mut self, always: bool) {
        if always {
            self.config.insert(SERIALIZE_ALWAYS.to_owned(), always.to_string());
        } else {
            self.config.remove(SERIALIZE_ALWAYS);
        }
    }
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            entry: None,
            parallelism: 1,
            max_parallelism: None,
            chaining: true,
            runtime_mode: RuntimeMode::Streaming,
            buffer_timeout_ms: 100,
            config: BTreeMap::new(),
        }
    }
}

/// One operator of a chain. Chains may branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainedOperator {
    /// Derived from the uid, or from the place in the graph where there is none.
    pub id: OperatorId,
    /// Its node in the StreamGraph.
    pub node: NodeId,
    /// Its uid, if it has one.
    pub uid: Option<String>,
    /// Its name as plans, logs and metrics show it: `Source: x`, `map`, `Sink: y`.
    pub name: String,
    /// Whether a part of it lives in the coordinator host.
    pub coordinated: bool,
    /// Whether that part can be replaced while the tasks run on.
    pub restarts_alone: bool,
    /// Whether it is a source (and so has no input).
    pub source: bool,
    /// The operator of its chain that feeds it; none for the first.
    pub upstream: Option<NodeId>,
    /// The Rust type of its results.
    pub output_type: String,
    /// Whether its results have event times, at the main output and at side outputs alike.
    pub timed: bool,
}

/// A chain of operators that run in one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVertex {
    /// Derived from its first operator's id.
    pub id: VertexId,
    /// The operators' names as Flink joins them: `a -> b`, `a -> (b -> c, d)`.
    pub name: String,
    /// The number of subtasks, at least 1.
    pub parallelism: u32,
    /// The number of key groups, at least `parallelism`.
    pub max_parallelism: MaxParallelism,
    /// The operators, upstream first. Never empty.
    pub operators: Vec<ChainedOperator>,
    /// Subtasks of one group may share a slot.
    pub slot_sharing_group: String,
}

/// An exchange between two vertices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEdge {
    /// Its place in [`JobGraph::edges`].
    pub id: EdgeId,
    /// The producing vertex.
    pub source: VertexId,
    /// The producing operator there.
    pub source_node: NodeId,
    /// The output of that operator.
    pub output: OutputName,
    /// The consuming vertex.
    pub target: VertexId,
    /// The consuming operator: always the first of its vertex.
    pub target_node: NodeId,
    /// The input of that operator.
    pub input: u8,
    /// The distribution of records over the subtasks.
    pub partitioner: Partitioner,
}

/// The job as the cluster runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGraph {
    /// The name given to `execute`.
    pub name: String,
    /// The vertices in topological order.
    pub vertices: Vec<JobVertex>,
    /// The exchanges.
    pub edges: Vec<JobEdge>,
    /// Batch or streaming; never automatic.
    pub runtime_mode: RuntimeMode,
    /// Number of the program's `execute()` that this graph belongs to, from 0.
    pub ordinal: u32,
    /// The values that `plan_value` computed in the planner, by name.
    pub plan_values: BTreeMap<String, Vec<u8>>,
    /// The planner's inputs from outside the program.
    pub settings: JobSettings,
    /// The hash of all of the above and of the StreamGraph that it was planned from.
    pub fingerprint: Fingerprint,
}

impl JobGraph {
    /// The vertex of this id.
    #[must_use]
    pub fn vertex(&self, id: VertexId) -> Option<&JobVertex> {
        self.vertices.iter().find(|vertex| vertex.id == id)
    }

    /// The exchange of this number.
    #[must_use]
    pub fn edge(&self, id: EdgeId) -> Option<&JobEdge> {
        self.edges.get(id.0 as usize)
    }

    /// The exchanges that end at this vertex, by input.
    pub fn inputs(&self, id: VertexId) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.target == id)
    }

    /// The exchanges that start at this vertex.
    pub fn outputs(&self, id: VertexId) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.source == id)
    }

    /// Whether a coordinator host is needed.
    #[must_use]
    pub fn needs_coordinator(&self) -> bool {
        self.vertices.iter().any(|vertex| vertex.operators.iter().any(|o| o.coordinated))
    }

    /// Number of slots that the job needs at once: the widest vertex of each slot sharing group.
    #[must_use]
    pub fn slots_by_group(&self) -> BTreeMap<&str, u32> {
        let mut slots = BTreeMap::new();
        for vertex in &self.vertices {
            let widest = slots.entry(vertex.slot_sharing_group.as_str()).or_insert(0);
            *widest = vertex.parallelism.max(*widest);
        }
        slots
    }
}
