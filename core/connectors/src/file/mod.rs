//! Records of a file or of the files of a directory.
//!
//! The enumerator ([`enumerator`]) lists the files and cuts them into byte ranges; a line belongs
//! to the range in which it begins, so every line is read exactly once wherever the cuts fall.
//! Readers ([`reader`]) ask for ranges, read them on a thread of their own ([`fetch`]) and turn
//! lines into records ([`format`], [`csv`]). What must be known of a file's beginning is read for
//! each range by one function ([`head`]); compressed files ([`content`]) are read whole.
//!
//! Not done here: files that are read while they are written. Put files into a watched directory by
//! renaming them.

mod buffered;
mod content;
pub(crate) mod csv;
#[cfg(feature = "decompression")]
mod decompress;
pub(crate) mod enumerator;
mod fetch;
pub(crate) mod format;
pub(crate) mod head;
mod input;
pub(crate) mod place;
pub(crate) mod reader;

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use millstream_connector::{Boundedness, Data, PlanContext, ReaderContext, Result, Source};
use millstream_storage::{FilePath, StorageError};
use serde::{Deserialize, Serialize};

use crate::file::csv::Csv;
use crate::file::enumerator::{FileEnumerator, FoundFiles};
use crate::file::fetch::ReadOptions;
use crate::file::format::{ByteLine, Format, JsonLine, Kept, Lines, ParsedLine, TextLine};
use crate::file::place::settled;
use crate::file::reader::FileSourceReader;
use crate::lines::LINE_BYTES_MAX;

/// Default size of a split: small enough that subtasks end together.
const SPLIT_BYTES: u64 = 16 << 20;

/// Patience with a watched directory that cannot be listed, and with its files.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Why a file source failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path to read does not exist.
    #[error("there is no file or directory {path}")]
    Missing {
        /// The path, absolute.
        path: FilePath,
    },
    /// The path is a device, a pipe or the like.
    #[error("{path} is neither a file nor a directory")]
    NotAFile {
        /// The path.
        path: FilePath,
    },
    /// A watched directory has been away for too long.
    #[error("{path} could not be listed for {seconds} s")]
    NotBack {
        /// The directory.
        path: FilePath,
        /// The time of waiting.
        seconds: u64,
        /// The last error.
        #[source]
        source: Box<Self>,
    },
    /// The file was there when the files were listed.
    #[error("file {path} was removed after it had been listed")]
    Vanished {
        /// The file.
        path: FilePath,
    },
    /// Directories in directories without end.
    #[error(
        "{path} lies more than {levels} directories deep: is there a symbolic link in a circle?"
    )]
    TooDeep {
        /// The directory.
        path: FilePath,
        /// The limit.
        levels: usize,
    },
    /// The file system refused, or is not there.
    #[error("the input cannot be read")]
    Storage(#[from] StorageError),
    /// The system has no thread for a reader.
    #[error("failed to start a thread that reads files")]
    Thread(#[source] io::Error),
    /// A line has no end in sight.
    #[error(
        "the line at byte {offset} of {path} is longer than {limit} bytes: is it a text file? \
         line_bytes_max() raises the limit"
    )]
    LongLine {
        /// The file.
        path: FilePath,
        /// Where the line begins.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// A record has no end in sight, or none within the limit.
    #[error(
        "the record at byte {offset} of {file} is longer than {limit} bytes: is a quote left open? \
         line_bytes_max() raises the limit"
    )]
    LongRecord {
        /// The file.
        file: String,
        /// Where the record begins.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// Compressed bytes that are damaged, cut off, or followed by something else.
    #[error("failed to decompress {path} ({format}) at byte {at}: {reason}")]
    Compressed {
        /// The file.
        path: FilePath,
        /// Its format.
        format: String,
        /// Number of compressed bytes that were read.
        at: u64,
        /// The fault.
        reason: String,
    },
    /// Text in units of more than one byte.
    #[error(
        "{path} is {encoding} text, which is not read: convert it to UTF-8, as `iconv -f \
         {encoding} -t UTF-8` does; raw_bytes() reads it as it is"
    )]
    Encoding {
        /// The file.
        path: FilePath,
        /// The encoding.
        encoding: &'static str,
    },
    /// An archive, or compressed in a way that is not read.
    #[error("{path} is {what}: unpack it first; raw_bytes() reads it as it is")]
    NotText {
        /// The file.
        path: FilePath,
        /// The kind of content.
        what: &'static str,
    },
    /// The thread that read died; its panic message is in the process's log.
    #[error("the thread that reads files died")]
    ReaderDied,
}

/// The treatment of a record that does not parse. To get it as a value instead, see
/// [`FileSource::keep_bad_records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRecord {
    /// The task fails, naming the file, the place and what was wrong.
    #[default]
    Fail,
    /// It is dropped and counted in `numRecordsDropped`.
    Drop,
}

/// The version of a file: the time of its last change, and its length.
type Version = (SystemTime, u64);

/// A piece of a file: the lines that begin in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    pub(crate) path: FilePath,
    /// The version of the file that was listed.
    pub(crate) version: Version,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Whether other ranges hold the rest of the file.
    pub(crate) is_cut: bool,
    /// The byte of the text at which the first record begins that is not read yet; `None` if none
    /// is read. In a compressed file it counts what the file holds.
    pub(crate) position: Option<u64>,
}

/// The unit of a reader's work: a piece of one large file, or several small files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    pub(crate) ranges: Vec<FileRange>,
}

/// Reads the records of a file, or of all files in a directory and the directories below.
///
/// Files and directories whose names begin with `.` or `_` are left out, and so are pipes, devices
/// and links that lead nowhere or in a circle; how many is said on standard error.
///
/// A path is on the disk of
/// the machines that the tasks run on, or on HDFS if it begins with `hdfs://` and the crate
/// `millstream` has its feature `hdfs`. A relative one starts at the working directory of the
/// client; where the program is planned on the cluster it is refused.
///
/// # What is read
/// Text that is UTF-8 or another encoding in which ASCII characters are single bytes. A UTF-8 byte
/// order mark is left out; UTF-16, UTF-32 and archives are refused. [`FileSource::raw_bytes`] reads
/// bytes as they are.
///
/// Files compressed by gzip, zstd, bzip2 or xz are decompressed, if the crate `millstream` has its
/// feature `decompression`, as it has by default. They are recognised by their first bytes,
/// whatever their names, and each is read as one piece. A file may consist of several members,
/// streams or frames. One that is cut off or damaged, or that something else follows, fails the
/// task; zeros may follow after gzip and xz. A window of zstd or a dictionary of xz may have up to
/// 128 MiB, which each subtask may need. An empty file has no records, whatever its name.
///
/// # Units
/// [`FileSource::split_bytes`] and [`FileSource::line_bytes_max`] count bytes. A record's limit
/// holds exactly; for lines it counts what is before the line's end, for CSV the record as it is
/// written, with quotes, commas and line ends in quotes.
///
/// # Errors
/// A record that does not parse fails the task, unless [`FileSource::on_bad_record`] or
/// [`FileSource::keep_bad_records`] says otherwise. A record over the limit, a file that cannot be
/// read or was removed after it was listed always do. Where a directory is watched, a file that is
/// gone is left out instead, said on standard error and counted in `numFilesSkipped`; the directory
/// itself may be away for a minute, and a file that is back within a minute is not read again.
///
/// ```
/// use millstream::connectors::{FileSource, OnBadRecord};
/// use std::time::Duration;
///
/// let text = FileSource::text("/data/book.txt");
/// let bytes = FileSource::byte_lines("/data/logs").watch(Duration::from_secs(10));
/// let visits = FileSource::json_lines::<(String, u64)>("/data/visits.json");
/// let prices = FileSource::csv::<(String, f64)>("/data/prices.csv")
///     .delimiter(b';')
///     .on_bad_record(OnBadRecord::Drop);
/// let numbers = FileSource::parse_lines("/data/numbers", |line: &[u8]| {
///     Ok(str::from_utf8(line)?.parse::<i64>()?)
/// });
/// # let _ = (text, bytes, visits, prices, numbers);
/// ```
#[derive(Debug, Clone)]
pub struct FileSource<F> {
    path: FilePath,
    format: F,
    split_bytes: u64,
    line_bytes_max: usize,
    watch: Option<Duration>,
    raw: bool,
    on_bad_record: OnBadRecord,
}

impl FileSource<()> {
    /// Lines as bytes, without their end (`\n` or `\r\n`). No line is bad.
    /// [`FileSource::raw_bytes`] reads files that are not text.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let file = directory.join("bytes");
    /// std::fs::write(&file, b"caf\xe9\r\nt\xe9\n")?;
    /// let lines = CollectSink::new();
    /// env.source("bytes", FileSource::byte_lines(file)).sink("lines", lines.clone());
    /// env.execute("bytes")?;
    /// assert_eq!(lines.take(), [b"caf\xe9".to_vec(), b"t\xe9".to_vec()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn byte_lines(path: impl Into<FilePath>) -> FileSource<Lines<ByteLine>> {
        FileSource::with_format(path, Lines(ByteLine))
    }

    /// Lines as text, without their end (`\n` or `\r\n`). What is not UTF-8 becomes U+FFFD, and
    /// such lines are counted in `numRecordsReplaced`; see [`FileSource::strict`].
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let file = directory.join("text");
    /// std::fs::write(&file, "to be\nor not to be\n")?;
    /// let lines = CollectSink::new();
    /// env.source("text", FileSource::text(file)).sink("lines", lines.clone());
    /// env.execute("text")?;
    /// assert_eq!(lines.take(), ["to be", "or not to be"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn text(path: impl Into<FilePath>) -> FileSource<Lines<TextLine>> {
        FileSource::with_format(path, Lines(TextLine::default()))
    }

    /// One JSON value per line. Blank lines are skipped. A number too large for its type makes a
    /// bad record.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// #[millstream::record]
    /// struct Visit {
    ///     page: String,
    ///     seconds: u32,
    /// }
    ///
    /// let file = directory.join("visits.json");
    /// std::fs::write(&file, r#"{"page": "home", "seconds": 7}"#)?;
    /// let seconds = CollectSink::new();
    /// env.source("visits", FileSource::json_lines::<Visit>(file))
    ///     .map(|visit| Ok(visit.seconds))
    ///     .sink("seconds", seconds.clone());
    /// env.execute("visits")?;
    /// assert_eq!(seconds.take(), [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn json_lines<T: Data>(path: impl Into<FilePath>) -> FileSource<Lines<JsonLine<T>>> {
        FileSource::with_format(path, Lines(JsonLine::new()))
    }

    /// Lines through a function, which sees the bytes of the line without its end. The fastest way
    /// to read a format of one's own: the line itself is never copied.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let file = directory.join("numbers");
    /// std::fs::write(&file, "1\n2\n")?;
    /// let parse = |line: &[u8]| Ok(std::str::from_utf8(line)?.parse::<u32>()?);
    /// let numbers = CollectSink::new();
    /// env.source("lines", FileSource::parse_lines(file, parse)).sink("numbers", numbers.clone());
    /// env.execute("numbers")?;
    /// assert_eq!(numbers.take(), [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn parse_lines<T, P>(
        path: impl Into<FilePath>,
        parse: P,
    ) -> FileSource<Lines<ParsedLine<P>>>
    where
        T: Data,
        P: Fn(&[u8]) -> Result<T> + Clone + Send + Sync + 'static,
    {
        FileSource::with_format(path, Lines(ParsedLine(parse)))
    }

    /// Records of CSV. The first record of each file names the fields, unless
    /// [`FileSource::headers`] says otherwise; blank lines before it and elsewhere are skipped. A
    /// record ends at `\n`, `\r\n` or `\r`. A quote that is still open at the end of the file makes
    /// a bad record.
    ///
    /// A file is read as one piece, because nothing tells a line end in quotes from another in the
    /// middle of a file; see [`FileSource::split_at_newlines`].
    ///
    /// Numbers are read as the crate `csv` reads them: an integer may be hexadecimal (`0x10` is
    /// 16), and a float too large for its type is infinite (`1e400`). Where that matters, read the
    /// field as a `String` and parse it in a `map`.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// #[millstream::record]
    /// struct Price {
    ///     item: String,
    ///     cents: u64,
    /// }
    ///
    /// std::fs::write(directory.join("monday.csv"), "item;cents\ntea;250\n")?;
    /// std::fs::write(directory.join("tuesday.csv"), "cents;item\n300;tea\nfree;water\n")?;
    /// let source = FileSource::csv::<Price>(directory)
    ///     .delimiter(b';')
    ///     .split_at_newlines()
    ///     .on_bad_record(OnBadRecord::Drop);
    /// let cents = CollectSink::new();
    /// env.source("prices", source).map(|price| Ok(price.cents)).sink("cents", cents.clone());
    /// env.execute("prices")?;
    /// assert_eq!(cents.take().iter().sum::<u64>(), 550);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn csv<T: Data>(path: impl Into<FilePath>) -> FileSource<Csv<T>> {
        FileSource::with_format(path, Csv::new())
    }
}

impl FileSource<Lines<TextLine>> {
    /// Makes a line that is not UTF-8 a bad record.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let file = directory.join("text");
    /// std::fs::write(&file, b"to be\ncaf\xe9\n")?;
    /// let lines = CollectSink::new();
    /// env.source("text", FileSource::text(file).strict().on_bad_record(OnBadRecord::Drop))
    ///     .sink("lines", lines.clone());
    /// env.execute("text")?;
    /// assert_eq!(lines.take(), ["to be"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.format.0.strict = true;
        self
    }
}

impl<T: Data> FileSource<Csv<T>> {
    /// Whether the first line of each file names the fields. Without names, fields are taken in
    /// order.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let file = directory.join("prices.csv");
    /// std::fs::write(&file, "tea,250\nwater,0\n")?;
    /// let prices = CollectSink::new();
    /// env.source("prices", FileSource::csv::<(String, u64)>(file).headers(false))
    ///     .sink("collect", prices.clone());
    /// env.execute("prices")?;
    /// assert_eq!(prices.take(), [("tea".to_owned(), 250), ("water".to_owned(), 0)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn headers(mut self, headers: bool) -> Self {
        self.format.headers = headers;
        self
    }

    /// Sets the separator of fields; a comma by default.
    #[must_use]
    pub const fn delimiter(mut self, delimiter: u8) -> Self {
        self.format.delimiter = delimiter;
        self
    }

    /// Promises that no field holds a line end, so that large files can be cut.
    #[must_use]
    pub const fn split_at_newlines(mut self) -> Self {
        self.format.newlines_end_records = true;
        self
    }
}

impl<F: Format> FileSource<F> {
    /// Records in a format of one's own.
    #[must_use]
    pub fn with_format(path: impl Into<FilePath>, format: F) -> Self {
        Self {
            path: path.into(),
            format,
            split_bytes: SPLIT_BYTES,
            line_bytes_max: LINE_BYTES_MAX,
            watch: None,
            raw: false,
            on_bad_record: OnBadRecord::default(),
        }
    }

    /// Sets the size of splits in bytes: 16 MiB by default, at least 1.
    /// On HDFS no piece lies in two blocks.
    #[must_use]
    pub fn split_bytes(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes.max(1);
        self
    }

    /// The longest line in bytes, without its end, and the longest record of CSV; a longer one
    /// fails the task. 16 MiB unless said otherwise.
    #[must_use]
    pub const fn line_bytes_max(mut self, bytes: usize) -> Self {
        self.line_bytes_max = bytes;
        self
    }

    /// Looks for new files again and again; the source never ends. A file is read once as a whole,
    /// and again if its modification time or size has changed; an empty file is not read until it
    /// has content.
    ///
    /// The directory must be there at the start. Later it may be away for a minute, and for three
    /// looks at least, before the job fails.
    #[must_use]
    pub const fn watch(mut self, every: Duration) -> Self {
        self.watch = Some(every);
        self
    }

    /// Reads the files' bytes as they are. Otherwise compressed files are decompressed, a UTF-8
    /// byte order mark is left out, and UTF-16, UTF-32 and archives are refused.
    #[must_use]
    pub const fn raw_bytes(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Sets the treatment of a record that does not parse: by default the task fails.
    #[must_use]
    pub const fn on_bad_record(mut self, policy: OnBadRecord) -> Self {
        self.on_bad_record = policy;
        self
    }

    /// Hands on each record as `Ok`, and one that does not parse as
    /// `Err` of a [`BadRecord`](crate::BadRecord).
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let file = directory.join("numbers");
    /// std::fs::write(&file, "1\none\n")?;
    /// let (good, bad) = (CollectSink::new(), CollectSink::new());
    /// let records = env.source("numbers", FileSource::json_lines::<u32>(file).keep_bad_records());
    /// records.clone().flat_map(|record| Ok(record.ok())).sink("good", good.clone());
    /// records.flat_map(|record| Ok(record.err())).sink("bad", bad.clone());
    /// env.execute("numbers")?;
    /// assert_eq!(good.take(), [1]);
    /// assert_eq!(bad.take()[0].bytes, b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep_bad_records(self) -> FileSource<Kept<F>> {
        FileSource {
            path: self.path,
            format: Kept(self.format),
            split_bytes: self.split_bytes,
            line_bytes_max: self.line_bytes_max,
            watch: self.watch,
            raw: self.raw,
            on_bad_record: self.on_bad_record,
        }
    }
}

impl<F: Format> Source for FileSource<F> {
    type Out = F::Out;
    type Split = FileSplit;
    type Reader = FileSourceReader<F>;
    type Enumerator = FileEnumerator;

    fn plan(&mut self, ctx: &mut PlanContext<'_>) -> Result<()> {
        self.path = settled(&self.path, ctx)?;
        Ok(())
    }

    fn boundedness(&self) -> Boundedness {
        match self.watch {
            None => Boundedness::Bounded,
            Some(_) => Boundedness::Unbounded,
        }
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<FileSourceReader<F>> {
        let options = ReadOptions {
            record_bytes_max: self.line_bytes_max,
            whole_lines: self.format.needs_whole_lines(),
            head: self.format.head(),
            raw: self.raw,
            watched: self.watch.map(|_| self.path.clone()),
        };
        Ok(FileSourceReader::new(&self.format, options, self.on_bad_record, ctx.clone()))
    }

    fn enumerator(&self, restored: Option<FoundFiles>) -> Result<FileEnumerator> {
        let split_bytes = self.format.may_cut_files().then_some(self.split_bytes);
        let enumerator = FileEnumerator::new(self.path.clone(), split_bytes, self.watch);
        let enumerator = enumerator.restored(restored.unwrap_or_default());
        Ok(if self.raw { enumerator.of_raw_bytes() } else { enumerator })
    }
}

/// Tells the user something that fails nothing, on standard error: in the log of the process.
fn say(what: &str) {
    // There is no other place to say it.
    let _ = writeln!(io::stderr(), "{what}");
}
