//! Connectors: where records come from and where they go.
//!
//! | source | records |
//! |---|---|
//! | [`FileSource`] | lines, JSON lines or CSV of a file or a directory, once or watched |
//! | [`SocketSource`] | lines of a TCP connection |
//! | [`Datagen`] | computed from their number, at full speed or at a rate |
//!
//! | sink | |
//! |---|---|
//! | [`FileSink`] | files that appear as checkpoints complete, or when the job has finished |
//! | [`PrintSink`] | standard output of the task's process |
//! | [`CollectSink`] | memory of this process, for tests in local mode |
//! | [`DiscardSink`] | nowhere, but counted |
//!
//! A reader never blocks its task: files and sockets are read by a thread of their own, which hands
//! over chunks of whole lines through a bounded queue; the task's thread
//! turns them into records.

mod collect;
mod datagen;
mod discard;
mod file;
mod file_sink;
mod handover;
mod lines;
mod print;
mod socket;

#[cfg(test)]
mod testing;

pub use collect::{CollectSink, CollectWriter};
pub use datagen::{Datagen, DatagenReader, DatagenSplit, Random};
pub use discard::{DiscardSink, DiscardWriter};
pub use file::csv::{Csv, CsvDecoder};
pub use file::enumerator::{FileEnumerator, FoundFiles};
pub use file::format::{
    BadRecord, ByteLine, DecodeError, Decoder, Format, JsonLine, Kept, KeptDecoder, LineParser,
    Lines, LinesDecoder, ParsedLine, TextLine,
};
pub use file::head::Head;
pub use file::reader::FileSourceReader;
pub use file::{FileError, FileRange, FileSource, FileSplit, OnBadRecord};
pub use file_sink::committer::FileCommitter;
pub use file_sink::encoder::{CsvRecords, DisplayLines, Encoder, JsonLines, RecordsWith};
pub use file_sink::writer::{FileSinkWriter, FinishedFile};
pub use file_sink::{FileSink, FileSinkError};
pub use lines::Chunk;
pub use print::{PrintFunction, PrintSink, PrintWriter};
pub use socket::{SocketError, SocketReader, SocketSource};
