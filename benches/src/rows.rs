//! The rows: the figure of each, the shape of its cluster and the number of its records.
//!
//! The counts are the same on both sides. They are chosen so that a round takes Flink 5 to 20
//! CPU-seconds; 0.2 to 2 remain for an engine ten to forty times as fast, against a clock that
//! ticks every 10 ms.

/// Seed of every generator.
pub const SEED: u64 = 42;

/// One row of the matrix.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name on the command line and in the output.
    pub name: &'static str,
    /// The figure.
    pub kind: Kind,
}

/// The figure of a row.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Records per CPU-second of all workers.
    Throughput(Throughput),
    /// `start-cluster.sh` until the TaskManager is registered, seconds.
    ColdStart,
    /// CPU time of the command line's `list`.
    List,
    /// From the start of the submission until user code sees the first record, seconds.
    Submit {
        /// Over REST with the artifact uploaded before, instead of by the command line.
        rest: bool,
    },
    /// Resident memory of an idle JobManager.
    IdleJobManager,
    /// Resident memory of an idle TaskManager.
    IdleTaskManager,
    /// On YARN.
    Yarn(YarnFigure),
}

/// A figure on YARN; times are seconds from the start of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YarnFigure {
    /// An application whose program and engine lie on HDFS, until its first record.
    Application,
    /// The same with everything uploaded, and no cache that has it.
    ApplicationUploaded,
    /// Bytes of these uploads.
    UploadedBytes,
    /// A session's deployment, until the command line returns.
    Session,
    /// The first job of a fresh session, until its first record.
    FirstJob,
    /// A job of a session that has run others.
    WarmJob,
    /// Resident memory of the JobManager's container after a job.
    MasterMemory,
    /// Resident memory of the TaskManager's container after a job.
    WorkerMemory,
}

impl YarnFigure {
    /// Whether the row is about uploads: then nothing lies on HDFS beforehand.
    #[must_use]
    pub fn uploads(self) -> bool {
        matches!(self, Self::ApplicationUploaded | Self::UploadedBytes)
    }
}

impl Kind {
    /// The unit of the three figures.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Throughput(row) if row.job == Job::WordCount => "words/cpu-s",
            Self::Throughput(_) => "records/cpu-s",
            Self::ColdStart | Self::Submit { .. } => "s",
            Self::List => "cpu-s",
            Self::IdleJobManager
            | Self::IdleTaskManager
            | Self::Yarn(
                YarnFigure::UploadedBytes | YarnFigure::MasterMemory | YarnFigure::WorkerMemory,
            ) => "bytes",
            Self::Yarn(_) => "s",
        }
    }

    /// Whether the larger figure is the better one.
    #[must_use]
    pub fn more_is_better(&self) -> bool {
        matches!(self, Self::Throughput(_))
    }
}

/// A throughput row.
#[derive(Debug, Clone)]
pub struct Throughput {
    /// The job.
    pub job: Job,
    /// Records that the source makes; WordCount has as many as the text has words.
    pub records: u64,
    /// Different keys, where there are keys.
    pub keys: u64,
    /// Of every operator.
    pub parallelism: u32,
    /// TaskManagers.
    pub workers: u32,
    /// Slots of each.
    pub slots: u32,
}

/// The jobs; README.md says what each computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// source, map, filter, map, sink in one task.
    Chain,
    /// 16-byte records, round robin.
    Rebalance,
    /// 16-byte records by key.
    Hash,
    /// 100-byte records, round robin.
    WideRebalance,
    /// 100-byte records by key.
    WideHash,
    /// 100-byte records from one worker to the other, none stays.
    WideWire,
    /// A running sum per key.
    KeyedSum,
    /// A running sum per key, which is a text of 36 characters.
    TextSum,
    /// A running count per word.
    WordCount,
    /// A thousand records; the first one leaves a time stamp.
    Stamp,
}

impl Job {
    /// The value of the program's `--job`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Rebalance => "rebalance",
            Self::Hash => "hash",
            Self::WideRebalance => "wide-rebalance",
            Self::WideHash => "wide-hash",
            Self::WideWire => "wide-wire",
            Self::KeyedSum => "keyed-sum",
            Self::TextSum => "text-sum",
            Self::WordCount => "word-count",
            Self::Stamp => "stamp",
        }
    }
}

const M: u64 = 1_000_000;

/// All rows in the order in which they run.
#[must_use]
pub fn all() -> Vec<Row> {
    let local = |name, job, records, keys, parallelism| Row {
        name,
        kind: Kind::Throughput(Throughput {
            job,
            records,
            keys,
            parallelism,
            workers: 1,
            slots: parallelism,
        }),
    };
    let spread = |name, job, records, parallelism| Row {
        name,
        kind: Kind::Throughput(Throughput {
            job,
            records,
            keys: 1,
            parallelism,
            workers: 2,
            slots: 1,
        }),
    };
    let simple = |name, kind| Row { name, kind };
    vec![
        local("p1-chain-1", Job::Chain, 200 * M, 1, 1),
        local("p1-chain-2", Job::Chain, 200 * M, 1, 2),
        local("p2-rebalance", Job::Rebalance, 80 * M, 1, 2),
        local("p2-hash", Job::Hash, 60 * M, 1, 2),
        spread("p3-rebalance", Job::WideRebalance, 30 * M, 2),
        spread("p3-hash", Job::WideHash, 30 * M, 2),
        spread("p3-wire", Job::WideWire, 30 * M, 1),
        local("p4", Job::KeyedSum, 50 * M, 1_000, 2),
        local("p5", Job::KeyedSum, 20 * M, M, 2),
        local("p12", Job::WordCount, 0, 1, 2),
        simple("p19-cold", Kind::ColdStart),
        simple("p19-list", Kind::List),
        simple("p19-submit", Kind::Submit { rest: false }),
        simple("p19-submit-rest", Kind::Submit { rest: true }),
        simple("p20-jm", Kind::IdleJobManager),
        simple("p20-tm", Kind::IdleTaskManager),
        simple("p21-application", Kind::Yarn(YarnFigure::Application)),
        simple("p21-application-uploaded", Kind::Yarn(YarnFigure::ApplicationUploaded)),
        simple("p21-uploaded-bytes", Kind::Yarn(YarnFigure::UploadedBytes)),
        simple("p21-session", Kind::Yarn(YarnFigure::Session)),
        simple("p21-first-job", Kind::Yarn(YarnFigure::FirstJob)),
        simple("p21-warm-job", Kind::Yarn(YarnFigure::WarmJob)),
        simple("p21-jm", Kind::Yarn(YarnFigure::MasterMemory)),
        simple("p21-tm", Kind::Yarn(YarnFigure::WorkerMemory)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_has_the_name_of_another() {
        let mut names: Vec<_> = all().iter().map(|row| row.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
