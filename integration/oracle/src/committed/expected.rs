//! The results that a job must publish.

use super::answers;
use super::workload::Workload;

/// The input of a run, and what the job makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The job.
    pub workload: Workload,
    /// The seed of the records.
    pub seed: u64,
    /// Number of records.
    pub records: u64,
    /// Number of keys in each lane.
    pub keys_per_lane: u64,
    /// The length of spans of event time, in milliseconds.
    pub span_ms: i64,
}

impl Input {
    /// An input of the workload `keyed-sum`.
    #[must_use]
    pub const fn keyed_sum(seed: u64, records: u64, keys_per_lane: u64) -> Self {
        Self { workload: Workload::KeyedSum, seed, records, keys_per_lane, span_ms: 1_000 }
    }
}

/// A result. Integers that the workload does not have are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    /// The integers that say which result it is; the key is the first.
    pub identity: [i64; 3],
    /// The integers that the job has computed.
    pub content: [i64; 2],
}

impl Outcome {
    pub(super) const fn new(identity: [i64; 3], content: [i64; 2]) -> Self {
        Self { identity, content }
    }

    /// Reads a line, which is written in one way only.
    pub(super) fn parse(workload: Workload, line: &str) -> Option<Self> {
        let fields = workload.fields();
        let mut numbers = line.split(' ').map(|field| field.parse::<i64>().ok());
        let mut outcome = Self::new([0; 3], [0; 2]);
        let identity = outcome.identity.iter_mut().take(fields.identity.len());
        for field in identity.chain(outcome.content.iter_mut().take(fields.content.len())) {
            *field = numbers.next()??;
        }
        (outcome.line(workload) == line).then_some(outcome)
    }

    /// Its line, without the newline.
    #[must_use]
    pub fn line(&self, workload: Workload) -> String {
        let fields = workload.fields();
        let numbers = self.identity.iter().take(fields.identity.len());
        let numbers = numbers.chain(self.content.iter().take(fields.content.len()));
        numbers.map(i64::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The name of the result: `key 5, sequence 3`.
    pub(super) fn name(&self, workload: Workload) -> String {
        named(workload.fields().identity, &self.identity)
    }

    /// The integers that the job has computed: `sum 17`.
    pub(super) fn computed(&self, workload: Workload) -> String {
        named(workload.fields().content, &self.content)
    }
}

fn named(names: &[&str], numbers: &[i64]) -> String {
    let named = names.iter().zip(numbers).map(|(name, number)| format!("{name} {number}"));
    named.collect::<Vec<_>>().join(", ")
}

/// The results that a job on an [`Input`] must publish: 40 bytes for each.
#[derive(Debug)]
pub struct Expected {
    workload: Workload,
    /// In the order of their identities.
    outcomes: Vec<Outcome>,
}

impl Expected {
    /// Computes the results of an input.
    #[must_use]
    pub fn of(input: &Input) -> Self {
        let mut outcomes = answers::of(input);
        outcomes.sort_unstable();
        Self { workload: input.workload, outcomes }
    }

    /// The job.
    #[must_use]
    pub const fn workload(&self) -> Workload {
        self.workload
    }

    /// Number of all results.
    #[must_use]
    pub fn results(&self) -> u64 {
        self.outcomes.len() as u64
    }

    /// Number of results of a key; 0 for a key that the input lacks.
    #[must_use]
    pub fn results_of(&self, key: i64) -> u64 {
        let first = self.outcomes.partition_point(|outcome| outcome.identity[0] < key);
        let end = self.outcomes.partition_point(|outcome| outcome.identity[0] <= key);
        (end - first) as u64
    }

    /// All lines, without newlines, sorted by the integers that say which results they are.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.outcomes.iter().map(|outcome| outcome.line(self.workload))
    }

    /// The results in the order of their identities.
    pub(super) fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The index of a result among all; none if there is no such result.
    pub(super) fn index(&self, identity: &[i64; 3]) -> Option<usize> {
        self.outcomes.binary_search_by(|outcome| outcome.identity.cmp(identity)).ok()
    }
}
