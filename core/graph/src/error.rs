//! Why a program's graph cannot become a job: one sentence per fault, for the program's author.

use std::fmt;

use crate::stream_graph::{MAX_NAME_BYTES, OutputName};

/// One reason why there is no [`crate::JobGraph`]. Planning again cannot help; the program must
/// change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The program calls `execute` without any operator.
    #[error("the job has no operators: add a source before calling execute")]
    Empty,
    /// The job has too many operators, connections or subtasks, or too large plan values.
    #[error("the job has {count} {what}, but {limit} is the limit")]
    TooMany {
        /// The things that are counted.
        what: &'static str,
        /// Their number.
        count: u64,
        /// The largest number allowed.
        limit: u64,
    },
    /// A name is too long to be shown and stored.
    #[error("the {what} {start:?}... has {bytes} bytes, but {} is the limit", MAX_NAME_BYTES)]
    NameTooLong {
        /// The kind of name.
        what: &'static str,
        /// The beginning of the name.
        start: String,
        /// Its length.
        bytes: usize,
    },
    /// A node's id is not its index.
    #[error("the operator at place {place} has the number {id}: operators are numbered in order")]
    Misnumbered {
        /// Its index.
        place: usize,
        /// Its id.
        id: u32,
    },
    /// An edge starts or ends at a node that is not in the graph.
    #[error(
        "the edge from operator {source_node} to operator {target_node} has an end outside of the \
         job, which has {nodes} operators: connect only streams of one environment"
    )]
    DanglingEdge {
        /// Where it starts.
        source_node: u32,
        /// Where it ends.
        target_node: u32,
        /// Number of operators of the job.
        nodes: usize,
    },
    /// The operators form a cycle: records would go round for ever.
    #[error("the operators {} form a cycle: remove one of these connections", chain(.0))]
    Cycle(Vec<String>),
    /// A source has an input.
    #[error("{source_operator} is a source, but {input_operator} is connected to its input")]
    SourceWithInput {
        /// The source.
        source_operator: String,
        /// The operator that feeds it.
        input_operator: String,
    },
    /// An operator has no input, or its second without its first.
    #[error("{operator} has nothing connected to its first input: connect a stream to it")]
    MissingInput {
        /// The operator.
        operator: String,
    },
    /// An edge ends at an input that no operator has.
    #[error("{operator} has an edge to its input {input}, but operators have inputs 0 and 1")]
    NoSuchInput {
        /// The operator.
        operator: String,
        /// The input.
        input: u8,
    },
    /// The parallelism is zero.
    #[error("{operator} has parallelism 0: set at least 1")]
    ZeroParallelism {
        /// The operator.
        operator: String,
    },
    /// More subtasks than key groups.
    #[error(
        "{operator} has parallelism {parallelism}, above its maximum parallelism \
         {max_parallelism}: lower the one or raise the other"
    )]
    AboveMaxParallelism {
        /// The operator.
        operator: String,
        /// Its parallelism.
        parallelism: u32,
        /// Its number of key groups.
        max_parallelism: u32,
    },
    /// The number of key groups is out of bounds.
    #[error("{operator} has maximum parallelism {max_parallelism}, which is not in 1 to 32768")]
    InvalidMaxParallelism {
        /// The operator.
        operator: String,
        /// The number.
        max_parallelism: u32,
    },
    /// Several operators have one uid, so their state could not be told apart.
    #[error("{} have the uid {uid:?}: make uids unique", all_of(.operators))]
    DuplicateUid {
        /// The uid.
        uid: String,
        /// The operators that have it: kinds and names, two or more.
        operators: Vec<String>,
    },
    /// An operator with state has no uid, which would survive changes of the program.
    #[error("{operator} keeps state but has no uid: give it one, its state is found by it")]
    StatefulWithoutUid {
        /// The operator.
        operator: String,
    },
    /// A batch job has an unbounded source and would never end.
    #[error(
        "{operator} never ends, which batch mode cannot run: bound it, or use streaming mode \
         (execution.runtime-mode)"
    )]
    UnboundedInBatch {
        /// The source.
        operator: String,
    },
    /// An operator could be in either of two slot sharing groups.
    #[error(
        "{operator} has inputs of the slot sharing groups {first:?} and {second:?} and names none \
         itself: set its slot sharing group"
    )]
    SlotSharingGroupConflict {
        /// The operator.
        operator: String,
        /// One input's group.
        first: String,
        /// Another input's group.
        second: String,
    },
    /// A union of a stream with event times and one without.
    #[error(
        "a union() has records of {timed}, which have event times, and of {plain}, which have \
         none: unite streams of one kind, or let both sources give event times (has_timestamps())"
    )]
    UnionOfTimedAndUntimed {
        /// Where records with times come from.
        timed: String,
        /// Where records without times come from.
        plain: String,
    },
    /// An operator works on event times, and its records have none.
    #[error(
        "{operator} needs event times, and its records have none: name the function that gives \
         them with timestamps() of the WatermarkStrategy, or let the source give them \
         (has_timestamps())"
    )]
    WithoutTimes {
        /// The operator.
        operator: String,
    },
    /// Forward pairs subtasks, which needs as many on both sides.
    #[error(
        "the {output} of {source_operator} (parallelism {source_parallelism}) is forwarded to \
         {target_operator} (parallelism {target_parallelism}): use rebalance or rescale, or make \
         both parallelisms the same"
    )]
    ForwardBetweenParallelisms {
        /// The output.
        output: OutputName,
        /// Where it starts.
        source_operator: String,
        /// With how many subtasks.
        source_parallelism: u32,
        /// Where it ends.
        target_operator: String,
        /// With how many subtasks.
        target_parallelism: u32,
    },
}

/// Every fault of one graph, in the order in which they were found. Planning stops at the first
/// kind of fault that makes other checks meaningless.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanErrors {
    faults: Vec<PlanError>,
    /// Number of faults that are not kept.
    more: usize,
}

/// Number of faults that are kept: a generated program may repeat one ten thousand times.
const FAULTS_MAX: usize = 50;

impl PlanErrors {
    pub(crate) fn add(&mut self, fault: PlanError) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// # Errors
    /// The faults that were found, if there are any.
    pub(crate) fn none_yet(&mut self) -> Result<(), Self> {
        if self.faults.is_empty() { Ok(()) } else { Err(std::mem::take(self)) }
    }

    /// The faults, the first fifty of them.
    #[must_use]
    pub fn faults(&self) -> &[PlanError] {
        &self.faults
    }
}

impl From<PlanError> for PlanErrors {
    fn from(fault: PlanError) -> Self {
        Self { faults: vec![fault], more: 0 }
    }
}

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if at == 0 { "" } else { "; " })?;
        }
        if self.more > 0 {
            write!(f, "; and {} more faults", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}

/// Names in a sentence: `a and b both`, `a, b and c all`.
fn all_of(names: &[String]) -> String {
    match names {
        [first, second] => format!("{first} and {second} both"),
        [first @ .., last] => format!("{} and {last} all", first.join(", ")),
        [] => String::new(),
    }
}

/// At most eight names with arrows between them, back to the first.
fn chain(names: &[String]) -> String {
    let mut text = String::new();
    for name in names.iter().take(8) {
        text.push_str(&format!("{name:?} -> "));
    }
    if names.len() > 8 {
        text.push_str("... -> ");
    }
    text + &names.first().map_or_else(String::new, |first| format!("{first:?}"))
}
