//! The contracts of sources and sinks, which connectors implement and operators drive.
//!
//! A [`Source`] has readers in the tasks and, if it hands out splits, an enumerator in the
//! coordinator host; a [`Sink`] has writers in the tasks and, if it publishes results after the
//! last record, a committer in the coordinator host. [`conformance`] has a suite for each. Both are
//! checked and completed while the job is planned ([`PlanContext`]). [`OperatorCoordinator`] is
//! either of the two as its host drives it.

mod beside;
pub mod conformance;
mod coordinator;
mod handed;
mod metrics;
mod plan;
mod reader_output;
mod sink;
mod source;

pub use anyhow::{Context as ErrorContext, Error, anyhow as error, bail, ensure};
pub use beside::{Answer, Beside, PlacedWriter};
pub use coordinator::{
    CommitOrder, EventMailbox, EventSender, HandedOut, Mail, Opening, OperatorCoordinator,
    PreCommitted, Replies, Reply, Restart, SinkCoordinator, TakeOver, decode, encode,
};
pub use handed::HandedSplits;
pub use metrics::{Counter, Gauge, Histogram, UserMetrics};
pub use millstream_graph::Boundedness;
pub use millstream_network::{Batch, BatchLimit, Data, Flow, Records, TimesError};
pub use millstream_types::{AttemptId, CheckpointId, JobId, OperatorId};
pub use plan::{PlanContext, WorkingDirectory};
pub use reader_output::{ReaderOutput, SplitError, SplitNotes};
pub use sink::{
    Blocks, COMMITTABLES_BYTES_MAX, COMMITTABLES_MAX, Committer, CommitterInfo, NoCommitter, Sink,
    SinkWriter, Uncommitted, WriterInfo, check_names,
};
pub use source::{
    NextSplit, NoEnumerator, Polled, ReaderContext, Source, SourceReader, SplitEnumerator,
};

/// The result of a user's function.
pub type Result<T, E = Error> = std::result::Result<T, E>;
