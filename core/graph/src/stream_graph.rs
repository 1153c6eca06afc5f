//! The graph that a program builds: one node per operator, one edge per stream between two.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, uid, slot sharing group or side output tag in bytes; the planner cuts a
/// chain's longer name.
pub const MAX_NAME_BYTES: usize = 1_000;

/// A node's place in its [`StreamGraph`], from 0 in the order of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// An edge's place in [`StreamGraph::edges`], from 0 in the order of the program. It alone names
/// an edge: two edges may be alike in everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamEdgeId(pub u32);

/// The distribution of records from the subtasks of one operator to those of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Partitioner {
    /// Subtask i to subtask i; both sides have the same parallelism.
    Forward,
    /// Batches are distributed round-robin over all subtasks.
    Rebalance,
    /// Batches are distributed round-robin over a fixed subset of the subtasks.
    Rescale,
    /// By the key group of the record's key.
    Hash,
    /// Every record to every subtask.
    Broadcast,
    /// All records to subtask 0.
    Global,
    /// By the user's function.
    Custom,
}

impl Partitioner {
    /// Flink's name of it, in plans (`ship_strategy`).
    #[must_use]
    pub const fn ship_strategy(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Rebalance => "REBALANCE",
            Self::Rescale => "RESCALE",
            Self::Hash => "HASH",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Custom => "CUSTOM",
        }
    }
}

/// The output of a node from which an edge starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OutputName {
    /// The operator's own results.
    Main,
    /// The side output of this tag.
    Side(String),
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("main output"),
            Self::Side(tag) => write!(f, "side output {tag:?}"),
        }
    }
}

/// Whether a source ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boundedness {
    /// The source ends.
    Bounded,
    /// The source runs until the job is cancelled.
    Unbounded,
}

/// The kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Produces records; a part of it runs in the coordinator host if `coordinated`.
    Source {
        /// Whether it ends.
        boundedness: Boundedness,
        /// Whether it has an enumerator in the coordinator host, or is in an alignment group.
        coordinated: bool,
        /// Whether that part can be replaced while its tasks run on.
        restarts_alone: bool,
    },
    /// Turns records into records.
    Operator,
    /// Ends a stream; its committer runs in the coordinator host if `coordinated`.
    Sink {
        /// Whether it has a committer in the coordinator host.
        coordinated: bool,
    },
}

impl NodeKind {
    /// Whether it has results that others may read.
    #[must_use]
    pub const fn has_output(self) -> bool {
        !matches!(self, Self::Sink { .. })
    }

    /// Whether the part that lives in the coordinator host can be replaced while tasks run on:
    /// committers always can.
    #[must_use]
    pub const fn restarts_alone(self) -> bool {
        match self {
            Self::Source { restarts_alone, .. } => restarts_alone,
            Self::Operator | Self::Sink { .. } => true,
        }
    }

    /// Whether a part of it lives in the coordinator host.
    #[must_use]
    pub const fn is_coordinated(self) -> bool {
        match self {
            Self::Source { coordinated, .. } | Self::Sink { coordinated } => coordinated,
            Self::Operator => false,
        }
    }
}

/// Whether an operator may share a task with its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Chaining {
    /// It may be chained with the operators before and after it.
    #[default]
    Always,
    /// It may be chained with those after it only: it starts a chain.
    Head,
    /// It is never chained.
    Never,
}

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamNode {
    /// Its place in the graph.
    pub id: NodeId,
    /// The name that the user gave; required on stateful operators, unique in the job.
    pub uid: Option<String>,
    /// Shown in plans, logs and REST.
    pub name: String,
    /// Source, operator or sink.
    pub kind: NodeKind,
    /// Whether it keeps keyed state.
    pub stateful: bool,
    /// Whether it gives its results their event times, as a source does whose records have some.
    /// Results of any other operator have the time of the record that they were made of, if the
    /// records of all its inputs have times.
    pub assigns_times: bool,
    /// Whether it is refused if the records of one of its inputs have no event times.
    pub needs_times: bool,
    /// `None` takes the job's default.
    pub parallelism: Option<u32>,
    /// `None` takes the job's default.
    pub max_parallelism: Option<u32>,
    /// `None` takes the group of its inputs if they agree, or `default` if one of them is in it.
    pub slot_sharing_group: Option<String>,
    /// Whether it may share a task.
    pub chaining: Chaining,
    /// The Rust type of its results; part of the fingerprint, shown in plans.
    pub output_type: String,
}

/// A stream from one operator to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEdge {
    /// Where it starts.
    pub source: NodeId,
    /// From which output.
    pub output: OutputName,
    /// Where it ends.
    pub target: NodeId,
    /// At which input: 0, or 1 for the second input of a connected operator.
    pub input: u8,
    /// The distribution of records. `None` is forward if both sides have the same parallelism, else
    /// rebalance.
    pub partitioner: Option<Partitioner>,
}

/// The graph that a program has built up to one `execute()`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamGraph {
    /// The operators; a node's id is its index.
    pub nodes: Vec<StreamNode>,
    /// The streams between them.
    pub edges: Vec<StreamEdge>,
}

impl StreamGraph {
    /// The edge of this number.
    #[must_use]
    pub fn edge(&self, id: StreamEdgeId) -> Option<&StreamEdge> {
        self.edges.get(id.0 as usize)
    }
}
