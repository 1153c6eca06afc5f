//! The job as the coordinator of checkpoints needs to know it.

use millstream_types::{ExecutionAttemptId, JobId, MaxParallelism, OperatorId, VertexId};

/// A subtask of a vertex, whatever its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtask {
    /// The vertex.
    pub vertex: VertexId,
    /// The subtask's number, from 0.
    pub index: u32,
}

impl From<ExecutionAttemptId> for Subtask {
    fn from(task: ExecutionAttemptId) -> Self {
        Self { vertex: task.vertex, index: task.subtask }
    }
}

impl Subtask {
    /// An attempt of this subtask.
    #[must_use]
    pub const fn attempt(self, attempt: u32) -> ExecutionAttemptId {
        ExecutionAttemptId { vertex: self.vertex, subtask: self.index, attempt }
    }
}

/// An operator of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOperator {
    /// Its id.
    pub id: OperatorId,
    /// Its uid, if the program gives it one.
    pub uid: Option<String>,
    /// Its name, for people.
    pub name: String,
    /// Whether it has a coordinator with state: the enumerator of a source.
    pub coordinated: bool,
    /// Whether it has a committer.
    pub commits: bool,
}

/// A vertex of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedVertex {
    /// Its id.
    pub id: VertexId,
    /// Its name, for people.
    pub name: String,
    /// The number of its subtasks.
    pub parallelism: u32,
    /// The number of its key groups.
    pub max_parallelism: MaxParallelism,
    /// Its operators.
    pub operators: Vec<PlannedOperator>,
}

/// The vertices of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The job.
    pub job: JobId,
    /// Its vertices.
    pub vertices: Vec<PlannedVertex>,
}

impl Plan {
    /// Every subtask of the job.
    pub fn subtasks(&self) -> impl Iterator<Item = Subtask> {
        self.vertices.iter().flat_map(|vertex| {
            (0..vertex.parallelism).map(|index| Subtask { vertex: vertex.id, index })
        })
    }

    /// The vertex of this id.
    #[must_use]
    pub fn vertex(&self, id: VertexId) -> Option<&PlannedVertex> {
        self.vertices.iter().find(|vertex| vertex.id == id)
    }

    /// The operators whose coordinators have state.
    #[must_use]
    pub fn coordinated(&self) -> Vec<OperatorId> {
        let operators = self.vertices.iter().flat_map(|vertex| &vertex.operators);
        operators.filter(|operator| operator.coordinated).map(|operator| operator.id).collect()
    }

    /// Whether the job has committers.
    #[must_use]
    pub fn has_committers(&self) -> bool {
        let mut operators = self.vertices.iter().flat_map(|vertex| &vertex.operators);
        operators.any(|operator| operator.commits)
    }

    /// Whether the job has coordinators or committers, and so a coordinator host.
    #[must_use]
    pub fn needs_coordinator_host(&self) -> bool {
        let mut operators = self.vertices.iter().flat_map(|vertex| &vertex.operators);
        operators.any(|operator| operator.coordinated || operator.commits)
    }

    /// A subtask as a sentence names it: its vertex's name, its number as Flink shows it (from 1)
    /// and the parallelism.
    #[must_use]
    pub fn name_of(&self, subtask: Subtask) -> String {
        match self.vertex(subtask.vertex) {
            Some(vertex) => {
                let number = u64::from(subtask.index) + 1;
                format!("{} ({number}/{})", vertex.name, vertex.parallelism)
            }
            None => format!("{}_{}", subtask.vertex, subtask.index),
        }
    }
}
