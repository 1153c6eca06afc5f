//! Sources and sinks that come with the engine.
//!
//! | source | records | ends |
//! |---|---|---|
//! | [`FileSource`] | lines, JSON lines or CSV of files, compressed or not | unless it watches |
//! | [`SocketSource`] | lines of a TCP connection | counts as endless |
//! | [`Datagen`] | computed from their number, at full speed or at a rate | if it has a count |
//!
//! | sink | what it writes to | takes endless input |
//! |---|---|---|
//! | [`FileSink`] | files that appear all at once at the end | no: such a job is refused |
//! | [`PrintSink`] | standard output of the task's process | yes |
//! | [`CollectSink`] | memory of this process, for tests in local mode | shows nothing of it |
//! | [`DiscardSink`] | nowhere, but counts | yes |
//!
//! Where files lie is a [`FilePath`]: a path of the local disk, or `hdfs://…`.
//!
//! # Units
//! Sizes are in bytes, times are [`Duration`](std::time::Duration)s, rates are records per second
//! of all subtasks together. Offsets in messages count bytes from the beginning of the file, from
//! 0; in a compressed file they count what it holds.
//!
//! # Errors
//! What can be refused is refused when the job is planned, before anything runs: paths that cannot
//! be meant as they are written, schemes that are not known, names that no file can have, a sink
//! that would never publish because its input never ends. Later errors fail the task, and name the
//! file and the place in it. A record that does not parse fails the task too, unless
//! [`FileSource::on_bad_record`] or [`FileSource::keep_bad_records`] says otherwise.
//!
//! # Example
//! ```no_run
//! use millstream::prelude::*;
//!
//! #[millstream::main]
//! fn what_costs_money(env: &mut Environment, args: Args) -> Result<()> {
//!     let prices = FileSource::csv::<(String, u64)>(env.path(&args, "input")?);
//!     env.source("prices", prices)
//!         .filter(|(_item, cents)| Ok(*cents > 0))
//!         .sink("files", FileSink::csv(args.required("output")?).suffix(".csv"));
//!     env.execute("what costs money")?;
//!     Ok(())
//! }
//! ```
//!
//! To write a connector of one's own, see [`interface`].

#[doc(inline)]
pub use millstream_connectors::{
    CollectSink, Datagen, DiscardSink, FileSink, FileSource, PrintSink, SocketSource,
};
#[doc(inline)]
pub use millstream_storage::FilePath;

/// Traits and types for connectors and formats of one's own.
///
/// - a source implements [`Source`], a sink [`Sink`];
/// - a format of [`FileSource`] is a [`LineParser`] if its records are lines, otherwise a
///   [`Format`]; one of [`FileSink`] is an [`Encoder`].
///
/// All of it is in [`connectors`](super::connectors) too.
pub mod interface {
    #[doc(inline)]
    pub use millstream_api::{
        AttemptId, Batch, Blocks, Boundedness, CheckpointId, Committer, CommitterInfo, Flow, JobId,
        NextSplit, NoCommitter, NoEnumerator, OperatorId, PlanContext, Polled, ReaderContext,
        ReaderOutput, Records, Sink, SinkWriter, Source, SourceReader, SplitEnumerator, TimesError,
        WriterInfo,
    };
    #[doc(inline)]
    pub use millstream_connectors::{
        BadRecord, Chunk, DecodeError, Decoder, Encoder, FileError, FileSinkError, Format, Head,
        LineParser, Lines, OnBadRecord, Random, SocketError,
    };
}

#[doc(hidden)]
pub use interface::*;
#[doc(hidden)]
pub use millstream_connectors::*;
