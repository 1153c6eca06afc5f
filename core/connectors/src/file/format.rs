//! Formats: decoders that turn bytes of a file into records.

use std::fmt;
use std::marker::PhantomData;

use millstream_connector::{Counter, Data, ReaderContext, Result};
use serde::{Deserialize, Serialize};

use crate::file::head::Head;
use crate::lines::Chunk;

/// A format of files.
pub trait Format: Send + Sync + 'static {
    /// Its records.
    type Out: Data;
    /// Reads it.
    type Decoder: Decoder<Out = Self::Out>;

    /// Whether a file may be cut after any line.
    fn may_cut_files(&self) -> bool;

    /// Whether a chunk must consist of whole lines. Otherwise chunks may end anywhere, and the
    /// decoder keeps what it has of a record until the next one arrives.
    fn needs_whole_lines(&self) -> bool {
        true
    }

    /// The part of a file's beginning that is needed to read the rest.
    fn head(&self) -> Head {
        Head::None
    }

    /// A decoder for one reader.
    fn decoder(&self, ctx: &ReaderContext) -> Self::Decoder;
}

/// Turns the chunks of one range after another into records.
pub trait Decoder: Send {
    /// Its records.
    type Out;

    /// The next record of `chunk` from byte `at`, which it moves on; `None` when there is no more
    /// in it. What a decoder keeps of a chunk ends with its range.
    ///
    /// # Errors
    /// The record does not parse, or is longer than [`Chunk::record_bytes_max`].
    fn next(&mut self, chunk: &Chunk, at: &mut usize) -> Option<Result<Self::Out, DecodeError>>;

    /// The byte of the file at which the record begins that the decoder has a part of; `None` if it
    /// keeps nothing of the bytes that it was given, as where chunks consist of whole lines. From
    /// there on the file is read again after a restore.
    fn keeps_from(&self) -> Option<u64> {
        None
    }
}

/// Why a decoder has no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record does not parse; the next one may. [`OnBadRecord`](crate::OnBadRecord) says what
    /// becomes of it.
    #[error(transparent)]
    Bad(#[from] BadRecord),
    /// The record is longer than the limit, so its end is not looked for: the task fails.
    #[error("the record at byte {offset} is longer than the limit")]
    LongRecord {
        /// Where the record begins.
        offset: u64,
    },
}

/// A record that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// The file.
    pub file: String,
    /// Where in it the record begins.
    pub offset: u64,
    /// The fault.
    pub reason: String,
    /// The record as it was read.
    pub bytes: Vec<u8>,
}

/// Bytes of a bad record that a message shows.
const SHOWN_BYTES_MAX: usize = 80;

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.bytes.get(..SHOWN_BYTES_MAX).unwrap_or(&self.bytes);
        let more = if shown.len() < self.bytes.len() { "..." } else { "" };
        write!(
            f,
            "the record at byte {} of {} does not parse: {}: {:?}{more}",
            self.offset,
            self.file,
            self.reason,
            String::from_utf8_lossy(shown),
        )
    }
}

impl std::error::Error for BadRecord {}

/// Turns one line into a record.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("pairs");
/// /// `key=value`; lines that begin with `#` hold nothing.
/// #[derive(Clone)]
/// struct Pair;
///
/// impl LineParser for Pair {
///     type Out = (String, String);
///
///     fn parse(&self, line: &[u8]) -> Result<Option<(String, String)>, String> {
///         let line = str::from_utf8(line).map_err(|error| error.to_string())?;
///         if line.starts_with('#') {
///             return Ok(None);
///         }
///         let (key, value) = line.split_once('=').ok_or("there is no `=` in it")?;
///         Ok(Some((key.to_owned(), value.to_owned())))
///     }
/// }
///
/// std::fs::write(&file, "# what to drink\ndrink=tea\n")?;
/// let pairs = CollectSink::new();
/// env.source("pairs", FileSource::with_format(file, Lines(Pair))).sink("collect", pairs.clone());
/// env.execute("pairs")?;
/// assert_eq!(pairs.take(), [("drink".to_owned(), "tea".to_owned())]);
/// # Ok::<(), millstream::Error>(())
/// ```
pub trait LineParser: Clone + Send + Sync + 'static {
    /// The record.
    type Out: Data;

    /// The record of a line without its end, or `None` if the line holds none.
    ///
    /// # Errors
    /// The line does not parse; the message says what is wrong with it, not where it is.
    fn parse(&self, line: &[u8]) -> Result<Option<Self::Out>, String>;

    /// The parser of one reader.
    #[must_use]
    fn for_reader(&self, ctx: &ReaderContext) -> Self {
        let _ = ctx;
        self.clone()
    }
}

/// One record per line.
#[derive(Debug, Clone, Copy)]
pub struct Lines<P>(pub P);

/// A line's bytes.
#[derive(Debug, Clone, Copy)]
pub struct ByteLine;

impl LineParser for ByteLine {
    type Out = Vec<u8>;

    #[inline]
    fn parse(&self, line: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(line.to_vec()))
    }
}

/// A line's text.
#[derive(Debug, Clone, Default)]
pub struct TextLine {
    /// Whether bytes that are not UTF-8 make the line bad.
    pub(crate) strict: bool,
    replaced: Counter,
}

impl LineParser for TextLine {
    type Out = String;

    #[inline]
    fn parse(&self, line: &[u8]) -> Result<Option<String>, String> {
        match str::from_utf8(line) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) if self.strict => Err(error.to_string()),
            Err(_) => {
                self.replaced.add(1);
                Ok(Some(String::from_utf8_lossy(line).into_owned()))
            }
        }
    }

    fn for_reader(&self, ctx: &ReaderContext) -> Self {
        Self { strict: self.strict, replaced: ctx.replaced.clone() }
    }
}

/// A line of JSON.
pub struct JsonLine<T>(PhantomData<fn() -> T>);

impl<T> JsonLine<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for JsonLine<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: Data> LineParser for JsonLine<T> {
    type Out = T;

    fn parse(&self, line: &[u8]) -> Result<Option<T>, String> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        // One look at the whole line costs a third of one at each of its texts. If the line is not
        // UTF-8, the parser tells whether that matters, and where.
        let parsed = match str::from_utf8(line) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(line),
        };
        parsed.map(Some).map_err(|error| error.to_string())
    }
}

/// A line through a function.
#[derive(Debug, Clone, Copy)]
pub struct ParsedLine<P>(pub(crate) P);

impl<T, P> LineParser for ParsedLine<P>
where
    T: Data,
    P: Fn(&[u8]) -> Result<T> + Clone + Send + Sync + 'static,
{
    type Out = T;

    #[inline]
    fn parse(&self, line: &[u8]) -> Result<Option<T>, String> {
        (self.0)(line).map(Some).map_err(|error| format!("{error:#}"))
    }
}

impl<P: LineParser> Format for Lines<P> {
    type Out = P::Out;
    type Decoder = LinesDecoder<P>;

    fn may_cut_files(&self) -> bool {
        true
    }

    fn decoder(&self, ctx: &ReaderContext) -> LinesDecoder<P> {
        LinesDecoder(self.0.for_reader(ctx))
    }
}

/// Gives each line to a parser.
#[derive(Debug)]
pub struct LinesDecoder<P>(P);

impl<P: LineParser> Decoder for LinesDecoder<P> {
    type Out = P::Out;

    #[inline]
    fn next(&mut self, chunk: &Chunk, at: &mut usize) -> Option<Result<P::Out, DecodeError>> {
        loop {
            let rest = chunk.bytes().get(*at..)?;
            if rest.is_empty() {
                return None;
            }
            let offset = chunk.offset + *at as u64;
            let line = match memchr::memchr(b'\n', rest) {
                Some(end) => {
                    *at += end + 1;
                    rest.get(..end)?
                }
                None => {
                    *at += rest.len();
                    rest
                }
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match self.0.parse(line) {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => {}
                Err(reason) => {
                    let file = chunk.origin.display().to_string();
                    let bad = BadRecord { file, offset, reason, bytes: line.to_vec() };
                    return Some(Err(bad.into()));
                }
            }
        }
    }
}

/// A format whose bad records are values.
#[derive(Debug, Clone, Copy)]
pub struct Kept<F>(pub(crate) F);

impl<F: Format> Format for Kept<F> {
    type Out = Result<F::Out, BadRecord>;
    type Decoder = KeptDecoder<F::Decoder>;

    fn may_cut_files(&self) -> bool {
        self.0.may_cut_files()
    }

    fn needs_whole_lines(&self) -> bool {
        self.0.needs_whole_lines()
    }

    fn head(&self) -> Head {
        self.0.head()
    }

    fn decoder(&self, ctx: &ReaderContext) -> Self::Decoder {
        KeptDecoder(self.0.decoder(ctx))
    }
}

/// Makes values of bad records.
#[derive(Debug)]
pub struct KeptDecoder<D>(D);

impl<D: Decoder> Decoder for KeptDecoder<D> {
    type Out = Result<D::Out, BadRecord>;

    #[inline]
    fn next(&mut self, chunk: &Chunk, at: &mut usize) -> Option<Result<Self::Out, DecodeError>> {
        self.0.next(chunk, at).map(|decoded| match decoded {
            Ok(record) => Ok(Ok(record)),
            Err(DecodeError::Bad(bad)) => Ok(Err(bad)),
            Err(error) => Err(error),
        })
    }

    fn keeps_from(&self) -> Option<u64> {
        self.0.keeps_from()
    }
}
