//! Reading with a look ahead.

use std::io::{self, BufRead, Read};

use millstream_storage::StorageError;

/// Bytes that are read at once for a small request.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads through a buffer that can be looked into as far as one likes, and knows how far it is.
pub(crate) struct Buffered<R> {
    input: R,
    buffer: Vec<u8>,
    /// The bytes that are read and not taken: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Number of bytes that were taken.
    position: u64,
    /// The error of the file system, if it could not be read.
    failure: Option<StorageError>,
}

impl<R: Read> Buffered<R> {
    pub(crate) const fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, position: 0, failure: None }
    }

    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// Number of bytes that were taken.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// The error of the file system, if it could not be read.
    #[cfg(feature = "decompression")]
    pub(crate) const fn take_failure(&mut self) -> Option<StorageError> {
        self.failure.take()
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The next `wanted` bytes, which stay; fewer only where the input ends.
    pub(crate) fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.end - self.start < wanted && self.read_more(wanted)? > 0 {}
        let waiting = self.waiting();
        Ok(waiting.get(..wanted).unwrap_or(waiting))
    }

    /// Reads once behind what waits, where there is room for `wanted` bytes in all.
    fn read_more(&mut self, wanted: usize) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted.max(BUFFER_BYTES) {
            self.buffer.resize(wanted.max(BUFFER_BYTES), 0);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = self.input.read(room);
        let read = self.keep_failure(read)?;
        self.end += read;
        Ok(read)
    }

    /// Keeps a copy of what the file system said, which decompressors may lose.
    fn keep_failure(&mut self, read: io::Result<usize>) -> io::Result<usize> {
        read.inspect_err(|error| {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<StorageError>());
            self.failure = cause.cloned();
        })
    }
}

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && into.len() >= BUFFER_BYTES {
            let read = self.input.read(into);
            let read = self.keep_failure(read)?;
            self.position += read as u64;
            return Ok(read);
        }
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Buffered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.read_more(0)?;
        }
        Ok(self.waiting())
    }

    fn consume(&mut self, taken: usize) {
        self.start += taken;
        self.position += taken as u64;
    }
}
