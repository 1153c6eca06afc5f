//! The bytes of one file: as they lie there, or what they hold if they are compressed.

use std::io::{self, Read};

use millstream_storage::{FilePath, FileReader, FileSystems, StorageError, block_on};

use crate::file::FileError;
use crate::file::buffered::Buffered;
use crate::file::content::{CUT_OFF, Content, TELLING_BYTES};
#[cfg(feature = "decompression")]
use crate::file::decompress::{DecompressError, Decompressor};

/// A file that is read on from where one says.
pub(crate) struct Input {
    file: Box<dyn FileReader>,
    pub(crate) at: u64,
}

impl Input {
    pub(crate) fn open(path: &FilePath) -> Result<Self, FileError> {
        let system = FileSystems::of_process().of(path)?;
        match block_on(system.open(path)) {
            Ok(file) => Ok(Self { file, at: 0 }),
            Err(StorageError::NotFound { path }) => Err(FileError::Vanished { path }),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = block_on(self.file.read_at(self.at, into)).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The text of a file from its beginning on.
pub(crate) enum Text {
    /// The file's own bytes.
    Plain(Buffered<Input>),
    /// The content of a compressed file.
    #[cfg(feature = "decompression")]
    Decompressed(Box<Buffered<Decompressor<Input>>>),
}

impl Text {
    /// Finds out what the file holds, and skips a byte order mark; `is_cut` says that other ranges
    /// of the file are read elsewhere, so that it cannot be compressed.
    pub(crate) fn open(input: Input, path: &FilePath, is_cut: bool) -> Result<Self, FileError> {
        let mut input = Buffered::new(input);
        let beginning = input.peek(TELLING_BYTES);
        let content = Content::of(beginning.map_err(|error| unreadable(path, error))?, path);
        let text = match content {
            Content::Compressed(_) if is_cut => {
                return Err(refused(path, "compressed now, and was not when it was listed"));
            }
            #[cfg(feature = "decompression")]
            Content::Compressed(format) => {
                let decompressed = Decompressor::new(format, input);
                Self::Decompressed(Box::new(Buffered::new(decompressed)))
            }
            #[cfg(not(feature = "decompression"))]
            Content::Compressed(_) => {
                let what = "compressed; this program was built without the feature `decompression`";
                return Err(refused(path, what));
            }
            _ => Self::Plain(input),
        };
        text.skip_mark(path)
    }

    /// The file's bytes, whatever they are.
    pub(crate) const fn raw(input: Input) -> Self {
        Self::Plain(Buffered::new(input))
    }

    fn skip_mark(mut self, path: &FilePath) -> Result<Self, FileError> {
        // The extension speaks of the file, not of what is in it.
        let inner = FilePath::from("/");
        let named = if self.is_plain() { path } else { &inner };
        let beginning = self.peek(TELLING_BYTES).map_err(|error| unreadable(path, error))?;
        let mark = match Content::of(beginning, named) {
            Content::Plain(mark) => mark,
            Content::Compressed(_) => return Err(refused(path, "compressed twice")),
            Content::CutOff(format) => {
                let (format, at) = (format.to_string(), beginning.len() as u64);
                let reason = CUT_OFF.to_owned();
                return Err(FileError::Compressed { path: path.clone(), format, at, reason });
            }
            Content::Encoded(encoding) => {
                return Err(FileError::Encoding { path: path.clone(), encoding });
            }
            Content::NotRead(what) => return Err(refused(path, what)),
        };
        let mut skipped = [0; TELLING_BYTES];
        let skipped = skipped.get_mut(..mark).unwrap_or_default();
        self.read_exact(skipped).map_err(|error| unreadable(path, error))?;
        Ok(self)
    }

    /// Whether the text is the file's own bytes.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Number of bytes of text that were taken, a mark included.
    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Plain(text) => text.position(),
            #[cfg(feature = "decompression")]
            Self::Decompressed(text) => text.position(),
        }
    }

    /// The next bytes, which stay; see [`Buffered::peek`].
    pub(crate) fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        match self {
            Self::Plain(text) => text.peek(wanted),
            #[cfg(feature = "decompression")]
            Self::Decompressed(text) => text.peek(wanted),
        }
    }

    /// The file itself, unless its bytes are not the text.
    pub(crate) fn into_input(self) -> Option<Input> {
        match self {
            Self::Plain(text) => Some(text.into_inner()),
            #[cfg(feature = "decompression")]
            Self::Decompressed(_) => None,
        }
    }
}

impl Read for Text {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(text) => text.read(into),
            #[cfg(feature = "decompression")]
            Self::Decompressed(text) => text.read(into),
        }
    }
}

fn refused(path: &FilePath, what: &'static str) -> FileError {
    FileError::NotText { path: path.clone(), what }
}

/// Why a file cannot be read, from what reading said.
pub(crate) fn unreadable(path: &FilePath, error: io::Error) -> FileError {
    let error = match error.downcast::<StorageError>() {
        Ok(error) => return FileError::Storage(error),
        Err(error) => error,
    };
    #[cfg(feature = "decompression")]
    let error = match error.downcast::<DecompressError>() {
        Ok(DecompressError { format, at, reason }) => {
            let (path, format) = (path.clone(), format.to_string());
            return FileError::Compressed { path, format, at, reason };
        }
        Err(error) => error,
    };
    FileError::Storage(StorageError::of_io("read", path, &error))
}

/// Whether a file is compressed, so that it cannot be cut. One that cannot be read now is not cut
/// either: its reader will say why.
pub(crate) fn may_be_compressed(path: &FilePath) -> bool {
    let Ok(input) = Input::open(path) else { return true };
    let mut input = Buffered::new(input);
    let Ok(beginning) = input.peek(TELLING_BYTES) else { return true };
    matches!(Content::of(beginning, path), Content::Compressed(_))
}
