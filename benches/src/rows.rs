//! The rows: the figure of each, the shape of its cluster and the number of its records.
//!
//! The counts are the same on both sides. They are chosen so that a round takes Flink 5 to 20
//! CPU-seconds; 0.2 to 2 remain for an engine ten to forty times as fast, against a clock that
//! ticks every 10 ms.

use crate::shapes::{self, Listed};

/// Seed of every generator.
pub const SEED: u64 = 42;

/// One row of the matrix.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name on the command line and in the output.
    pub name: String,
    /// The figure.
    pub kind: Kind,
    /// The group that chooses it together with others; a row in no group runs when none is named.
    pub group: Option<&'static str>,
}

impl Row {
    /// Multiplies the number of its records, if they are generated.
    pub fn lengthen(&mut self, times: u64) {
        if let Kind::Throughput(throughput) = &mut self.kind {
            throughput.records = throughput.records.saturating_mul(times);
        }
    }
}

/// The figure of a row.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Records per CPU-second of all workers.
    Throughput(Throughput),
    /// The time from a record's creation to a sink, seconds.
    Latency {
        /// Records per second.
        rate: u64,
        /// The part of the records that did not take longer.
        part: f64,
        /// With a checkpoint each second, and the peer tuned for it.
        checkpoints: bool,
    },
    /// Memory of all workers while records flow from each subtask to each.
    Memory {
        /// Of both vertices.
        parallelism: u32,
        /// TaskManagers.
        workers: u32,
    },
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
    /// The start of a large job.
    Start(StartFigure),
    /// From the death of a worker until a record of its keys is published, seconds.
    Recovery,
    /// On YARN.
    Yarn(YarnFigure),
}

/// A figure of the start of a large job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFigure {
    /// From the submission until 3,200 tasks run.
    Seconds,
    /// CPU time of the JobManager meanwhile, with that of the process that plans the job.
    JobManagerCpu,
    /// Seconds until 20,000 tasks run on 10,000 slots of made-up TaskManagers.
    Slots,
}

impl StartFigure {
    /// Its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Seconds | Self::Slots => "s",
            Self::JobManagerCpu => "cpu-s",
        }
    }
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
            Self::Start(figure) => figure.unit(),
            Self::ColdStart | Self::Submit { .. } | Self::Latency { .. } | Self::Recovery => "s",
            Self::List => "cpu-s",
            Self::IdleJobManager
            | Self::IdleTaskManager
            | Self::Memory { .. }
            | Self::Yarn(
                YarnFigure::UploadedBytes | YarnFigure::MasterMemory | YarnFigure::WorkerMemory,
            ) => "bytes",
            Self::Yarn(_) => "s",
        }
    }

    /// Bytes of a record, where the row is about a shape of records.
    #[must_use]
    pub fn record_bytes(&self) -> Option<usize> {
        match self {
            Self::Throughput(row) => row.job.shape().map(|shape| shape.bytes),
            _ => None,
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
    /// Records that the source makes; 0 if files hold them.
    pub records: u64,
    /// Different keys, where there are keys.
    pub keys: u64,
    /// Of every operator.
    pub parallelism: u32,
    /// The cluster.
    pub size: Size,
}

impl Throughput {
    fn with_tls(mut self) -> Self {
        self.size.tls = true;
        self
    }
}

/// The TaskManagers of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// TaskManagers.
    pub workers: u32,
    /// Slots of each.
    pub slots: u32,
    /// Memory of all TaskManagers together.
    pub memory_mb: u32,
    /// Whether there is TLS between the TaskManagers.
    pub tls: bool,
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
    /// A running sum per key, in a state of 1 KB.
    WideSum,
    /// A running sum per key, and a timer that each record sets anew.
    TimedSum,
    /// Counts per key and window.
    Windows(Spans),
    /// Counts per key and session.
    Sessions,
    /// Pairs of even and odd numbers of a key whose event times are near each other.
    IntervalJoin,
    /// A running sum per key, which is a text of 36 characters.
    TextSum,
    /// A running count per word.
    WordCount,
    /// A running sum per user over lines of JSON, from files to files.
    JsonLines {
        /// Whether our record has all fields of a line, or those alone that the job needs.
        all: bool,
    },
    /// Records at a steady rate, by key.
    Paced,
    /// A thousand records; the first one leaves a time stamp.
    Stamp,
    /// Sums in states of 1 KB at a steady rate, into files that say where they were made.
    Recover,
    /// Counts per key and second at a steady rate, into files.
    Trillion,
    /// Four vertices, all of whose subtasks are connected, and no record.
    WideStart,
    /// Records of one shape through an exchange.
    Shape(Listed, Way),
}

/// Bytes of a key's text in the state of [`Job::WideSum`].
pub const TEXT_BYTES: usize = 1_000;

/// The windows of a job; the event time of its records advances by a second for each million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spans {
    /// One second, tumbling.
    Second,
    /// Ten seconds, sliding by a second.
    TenBySecond,
    /// Ten seconds, sliding by a tenth of one.
    TenByTenth,
}

impl Spans {
    /// The length of a window and the time between two, in milliseconds.
    #[must_use]
    pub const fn millis(self) -> (u64, u64) {
        match self {
            Self::Second => (1_000, 1_000),
            Self::TenBySecond => (10_000, 1_000),
            Self::TenByTenth => (10_000, 100),
        }
    }
}

/// The gap between two sessions of a key, in milliseconds of event time. No record is exactly so
/// far from another: whether it were in the session would depend on how far time has come by then.
pub const GAP_MS: u64 = 201;

/// Two records are a pair of the interval join if they are at most so far from each other, in
/// milliseconds of event time.
pub const NEAR_MS: u64 = 1_000;

/// The exchange of the records of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Round robin.
    Rebalance,
    /// By key.
    Hash,
    /// From one worker to the other.
    Wire,
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
            Self::WideSum => "wide-sum",
            Self::TimedSum => "timed-sum",
            Self::Windows(Spans::Second) => "tumbling",
            Self::Sessions => "sessions",
            Self::IntervalJoin => "interval-join",
            Self::Windows(Spans::TenBySecond) => "sliding-1s",
            Self::Windows(Spans::TenByTenth) => "sliding-100ms",
            Self::TextSum => "text-sum",
            Self::WordCount => "word-count",
            Self::JsonLines { all: false } => "json-lines",
            Self::JsonLines { all: true } => "json-lines-12",
            Self::Paced => "paced",
            Self::Stamp => "stamp",
            Self::Recover => "recover",
            Self::Trillion => "trillion",
            Self::WideStart => "wide-start",
            Self::Shape(_, Way::Rebalance) => "shape-rebalance",
            Self::Shape(_, Way::Hash) => "shape-hash",
            Self::Shape(_, Way::Wire) => "shape-wire",
        }
    }

    /// Whether our side of it is in the program `record_job`.
    #[must_use]
    pub fn is_about_records(self) -> bool {
        matches!(self, Self::Shape(..) | Self::JsonLines { .. } | Self::Paced)
    }

    /// The shape of the records, if the job is about one.
    #[must_use]
    pub fn shape(self) -> Option<Listed> {
        match self {
            Self::Shape(shape, _) => Some(shape),
            _ => None,
        }
    }
}

const M: u64 = 1_000_000;

/// One TaskManager with a slot for each subtask.
fn local(job: Job, records: u64, keys: u64, parallelism: u32) -> Throughput {
    let size = Size { workers: 1, slots: parallelism, memory_mb: 4_096, tls: false };
    Throughput { job, records, keys, parallelism, size }
}

/// Two TaskManagers of one slot.
fn spread(job: Job, records: u64, parallelism: u32) -> Throughput {
    let size = Size { workers: 2, slots: 1, memory_mb: 4_096, tls: false };
    Throughput { size, ..local(job, records, 1, parallelism) }
}

const fn latency(rate: u64, part: f64, checkpoints: bool) -> Kind {
    Kind::Latency { rate, part, checkpoints }
}

/// All rows in the order in which they run.
#[must_use]
pub fn all() -> Vec<Row> {
    let row = |name: &str, kind| Row { name: name.to_owned(), kind, group: None };
    let of = |name, throughput| row(name, Kind::Throughput(throughput));
    let mut rows = vec![
        of("p1-chain-1", local(Job::Chain, 200 * M, 1, 1)),
        of("p1-chain-2", local(Job::Chain, 200 * M, 1, 2)),
        of("p2-rebalance", local(Job::Rebalance, 80 * M, 1, 2)),
        of("p2-hash", local(Job::Hash, 60 * M, 1, 2)),
        of("p3-rebalance", spread(Job::WideRebalance, 30 * M, 2)),
        of("p3-hash", spread(Job::WideHash, 30 * M, 2)),
        of("p3-wire", spread(Job::WideWire, 30 * M, 1)),
        of("p4", local(Job::KeyedSum, 50 * M, 1_000, 2)),
        of("p5", local(Job::KeyedSum, 20 * M, M, 2)),
        of("p6-1k", local(Job::Windows(Spans::Second), 50 * M, 1_000, 2)),
        of("p6-100k", local(Job::Windows(Spans::Second), 50 * M, 100_000, 2)),
        of("p7-1s", local(Job::Windows(Spans::TenBySecond), 40 * M, 1_000, 2)),
        of("p7-100ms", local(Job::Windows(Spans::TenByTenth), 10 * M, 1_000, 2)),
        of("p8-session", local(Job::Sessions, 20 * M, 100_000, 2)),
        of("p8-join", local(Job::IntervalJoin, 5 * M, 100_000, 2)),
        of("p8-timers", local(Job::TimedSum, 20 * M, 100_000, 2)),
        of("p15", local(Job::WideSum, 20 * M, M, 2)),
        of("text-sum", local(Job::TextSum, 20 * M, M, 2)),
        of("p12", local(Job::WordCount, 0, 1, 2)),
        of("json-lines", local(Job::JsonLines { all: false }, 0, 1, 2)),
        of("json-lines-12", local(Job::JsonLines { all: true }, 0, 1, 2)),
    ];
    rows.extend(wires());
    rows.extend(blobs());
    rows.extend([
        row("latency-100k", latency(100_000, 0.99, false)),
        row("latency-100k-p50", latency(100_000, 0.5, false)),
        row("latency-1k", latency(1_000, 0.99, false)),
        row("latency-1k-p50", latency(1_000, 0.5, false)),
        row("p14", latency(100_000, 0.99, true)),
        row("p14-p50", latency(100_000, 0.5, true)),
        row("memory-200", Kind::Memory { parallelism: 200, workers: 2 }),
        row("memory-200-local", Kind::Memory { parallelism: 200, workers: 1 }),
        row("memory-400", Kind::Memory { parallelism: 400, workers: 2 }),
        row("memory-400-local", Kind::Memory { parallelism: 400, workers: 1 }),
        row("p16", Kind::Recovery),
        row("p17-start-3200", Kind::Start(StartFigure::Seconds)),
        row("p17-start-3200-jm", Kind::Start(StartFigure::JobManagerCpu)),
        row("p18-slots", Kind::Start(StartFigure::Slots)),
        row("p19-cold", Kind::ColdStart),
        row("p19-list", Kind::List),
        row("p19-submit", Kind::Submit { rest: false }),
        row("p19-submit-rest", Kind::Submit { rest: true }),
        row("p20-jm", Kind::IdleJobManager),
        row("p20-tm", Kind::IdleTaskManager),
        row("p21-application", Kind::Yarn(YarnFigure::Application)),
        row("p21-application-uploaded", Kind::Yarn(YarnFigure::ApplicationUploaded)),
        row("p21-uploaded-bytes", Kind::Yarn(YarnFigure::UploadedBytes)),
        row("p21-session", Kind::Yarn(YarnFigure::Session)),
        row("p21-first-job", Kind::Yarn(YarnFigure::FirstJob)),
        row("p21-warm-job", Kind::Yarn(YarnFigure::WarmJob)),
        row("p21-jm", Kind::Yarn(YarnFigure::MasterMemory)),
        row("p21-tm", Kind::Yarn(YarnFigure::WorkerMemory)),
    ]);
    rows.extend(shapes::ALL.iter().flat_map(|shape| table(*shape)));
    rows
}

/// Long records of four shapes from one worker to the other, with TLS too.
fn wires() -> impl Iterator<Item = Row> {
    let wires = [("bytes", "bytes-10k"), ("f64", "f64-1k"), ("u64", "u64-1k"), ("text", "text-1k")];
    let both = |(name, shape)| {
        let listed = shapes::ALL.iter().find(move |listed| listed.name == shape);
        let row = move |(end, tls), listed: Listed| {
            let job = Job::Shape(listed, Way::Wire);
            // Larger than in the table of all shapes: these have floors.
            let throughput = spread(job, 2 * listed.records, 1);
            let kind = Kind::Throughput(if tls { throughput.with_tls() } else { throughput });
            Row { name: format!("{name}-wire{end}"), kind, group: None }
        };
        let ends = [("", false), ("-tls", true)];
        ends.into_iter().filter_map(move |end| listed.map(|listed| row(end, *listed)))
    };
    wires.into_iter().flat_map(both)
}

/// Records of 1 MB by key in a TaskManager of 1 GB.
fn blobs() -> Option<Row> {
    let shape = *shapes::ALL.iter().find(|listed| listed.name == "bytes-1m")?;
    let job = Job::Shape(shape, Way::Hash);
    let mut throughput = local(job, 2 * shape.records, 1, 2);
    throughput.size.memory_mb = 1_024;
    Some(Row { name: "blob-1m".to_owned(), kind: Kind::Throughput(throughput), group: None })
}

/// The rows of one shape in the table of all.
fn table(shape: Listed) -> [Row; 3] {
    let within = local(Job::Shape(shape, Way::Rebalance), shape.records, 1, 2);
    let wire = spread(Job::Shape(shape, Way::Wire), shape.records, 1);
    let row = |end, throughput| Row {
        name: format!("shape-{}-{end}", shape.name),
        kind: Kind::Throughput(throughput),
        group: Some("shapes"),
    };
    [row("local", within), row("tcp", wire.clone()), row("tls", wire.with_tls())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_has_the_name_of_another() {
        let all = all();
        let mut names: Vec<_> = all.iter().map(|row| &row.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
