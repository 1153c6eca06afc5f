//! Cuts the bytes of a file or a connection into chunks, of whole lines or as they come.

use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The longest line unless the user says otherwise.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// The kind of a chunk's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The head of the file, whole: see [`Head`](crate::Head).
    Head,
    /// Records.
    Records,
    /// Nothing: the range ends here.
    End,
}

/// A piece of one input. Where the format wants whole lines, only the last line of a file may lack
/// its newline; otherwise a record may begin in one chunk and end in another.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The file, or what stands for it in messages.
    pub(crate) origin: Arc<Path>,
    /// Where in the file the first byte is.
    pub(crate) offset: u64,
    /// The bytes; those from `len` on mean nothing.
    pub(crate) buffer: Vec<u8>,
    /// Number of bytes that count.
    pub(crate) len: usize,
    pub(crate) part: Part,
    /// The longest record, in bytes without its end.
    pub(crate) record_bytes_max: usize,
}

impl Chunk {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Drops the bytes before a byte of the file.
    pub(crate) fn drop_before(&mut self, position: u64) {
        let dropped = position.saturating_sub(self.offset);
        let dropped = usize::try_from(dropped).unwrap_or(usize::MAX).min(self.len);
        if dropped > 0 {
            self.buffer.copy_within(dropped..self.len, 0);
            self.len -= dropped;
            self.offset += dropped as u64;
        }
    }

    /// Where in the file the first byte is.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The file, or what stands for it in messages.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Whether this ends a range of a file: what a decoder still holds is a whole record.
    #[must_use]
    pub const fn ends_range(&self) -> bool {
        matches!(self.part, Part::End)
    }

    /// Whether this is the whole head of the file, which comes before the records of each range
    /// if the format asks for it.
    #[must_use]
    pub const fn is_head(&self) -> bool {
        matches!(self.part, Part::Head)
    }

    /// The most bytes that a record may have, without its end.
    #[must_use]
    pub const fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }
}

/// Why no lines could be cut.
#[derive(Debug)]
pub(crate) enum CutError {
    /// Reading failed.
    Io(io::Error),
    /// The line that begins at this offset is longer than the limit.
    LongLine(u64),
}

/// Cuts what it reads into chunks, up to the end of the last line that begins before an offset.
pub(crate) struct LineCutter<R> {
    input: R,
    origin: Arc<Path>,
    /// The bytes that were read and not yet cut off, the first `filled`; the rest is room.
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the file the buffer begins.
    offset: u64,
    /// Lines that begin here or later belong to someone else.
    end: u64,
    line_bytes_max: usize,
    /// Whether chunks consist of whole lines, none of them longer than the limit.
    whole_lines: bool,
    done: bool,
}

impl<R: Read> LineCutter<R> {
    /// Cuts `input`, whose next byte is the byte `offset` of the file, up to the lines that begin
    /// before `end`.
    pub(crate) const fn new(
        input: R,
        origin: Arc<Path>,
        offset: u64,
        end: u64,
        line_bytes_max: usize,
    ) -> Self {
        Self {
            input,
            origin,
            buffer: Vec::new(),
            filled: 0,
            offset,
            end,
            line_bytes_max,
            whole_lines: true,
            done: false,
        }
    }

    /// Hands over bytes as they come: chunks may end inside of lines, and lines have no limit.
    pub(crate) const fn without_lines(mut self) -> Self {
        self.whole_lines = false;
        self
    }

    /// Drops everything up to and with the first newline.
    pub(crate) fn skip_line(&mut self) -> Result<(), CutError> {
        loop {
            let before = self.filled;
            let added = self.fill()?;
            let found = memchr::memchr(b'\n', self.bytes_from(before)).map(|at| before + at + 1);
            let dropped = found.unwrap_or(self.filled);
            self.buffer.copy_within(dropped..self.filled, 0);
            self.filled -= dropped;
            self.offset += dropped as u64;
            if found.is_some() || added == 0 {
                self.done = added == 0 || self.offset >= self.end;
                return Ok(());
            }
        }
    }

    /// The next chunk, in exchange for a buffer to read on with; `None` at the end. Reads once
    /// unless that gives no whole line.
    pub(crate) fn next_chunk(&mut self, spare: Vec<u8>) -> Result<Option<Chunk>, CutError> {
        // What is left of earlier reads holds no newline, except after a skipped line.
        let mut searched = 0;
        while !self.done {
            let cut = self.cut(searched);
            if let Some(cut) = cut {
                self.check_lines(cut)?;
                return Ok(Some(self.split_off(cut, spare)));
            }
            searched = self.filled;
            // One byte more may be the first of the line's end.
            if self.whole_lines && self.filled > self.line_bytes_max.saturating_add(1) {
                return Err(CutError::LongLine(self.offset));
            }
            if self.fill()? == 0 {
                self.done = true;
                let rest = self.filled;
                self.check_lines(rest)?;
                return Ok((rest > 0).then(|| self.split_off(rest, spare)));
            }
        }
        Ok(None)
    }

    /// Refuses the first `cut` bytes if one of their lines is over the limit.
    fn check_lines(&self, cut: usize) -> Result<(), CutError> {
        if !self.whole_lines || cut <= self.line_bytes_max {
            return Ok(());
        }
        let mut rest = self.buffer.get(..cut).unwrap_or_default();
        while rest.len() > self.line_bytes_max {
            let newline = memchr::memchr(b'\n', rest);
            let line = rest.get(..newline.unwrap_or(rest.len())).unwrap_or_default();
            if line.strip_suffix(b"\r").unwrap_or(line).len() > self.line_bytes_max {
                return Err(CutError::LongLine(self.offset + (cut - rest.len()) as u64));
            }
            rest = newline.and_then(|at| rest.get(at + 1..)).unwrap_or_default();
        }
        Ok(())
    }

    /// Where the lines that are ours and whole end; bytes before `searched` hold no newline.
    fn cut(&mut self, searched: usize) -> Option<usize> {
        // The line that holds the byte before `end` is the last of ours.
        let last = self.end.saturating_sub(1).saturating_sub(self.offset);
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        if last < self.filled {
            let from = last.max(searched);
            let found = memchr::memchr(b'\n', self.bytes_from(from)).map(|at| from + at + 1);
            if found.is_some() {
                self.done = true;
                return found;
            }
        }
        if !self.whole_lines {
            return (self.filled > 0).then_some(self.filled);
        }
        memchr::memrchr(b'\n', self.bytes_from(searched)).map(|at| searched + at + 1)
    }

    fn bytes_from(&self, from: usize) -> &[u8] {
        self.buffer.get(from..self.filled).unwrap_or_default()
    }

    /// Hands out the first `cut` bytes and goes on with `spare`, beginning with what is left.
    fn split_off(&mut self, cut: usize, mut spare: Vec<u8>) -> Chunk {
        let rest = self.filled - cut;
        if spare.len() < rest.max(CHUNK_BYTES) {
            spare.resize(rest.max(CHUNK_BYTES), 0);
        }
        if let (Some(to), Some(from)) = (spare.get_mut(..rest), self.buffer.get(cut..self.filled)) {
            to.copy_from_slice(from);
        }
        let chunk = Chunk {
            origin: Arc::clone(&self.origin),
            offset: self.offset,
            buffer: std::mem::replace(&mut self.buffer, spare),
            len: cut,
            part: Part::Records,
            record_bytes_max: self.line_bytes_max,
        };
        self.filled = rest;
        self.offset += cut as u64;
        chunk
    }

    /// Reads once behind what there is, making room if there is none; 0 at the end.
    fn fill(&mut self) -> Result<usize, CutError> {
        if self.filled == self.buffer.len() {
            self.buffer.resize((self.filled * 2).max(CHUNK_BYTES), 0);
        }
        loop {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match self.input.read(room) {
                Ok(added) => {
                    self.filled += added;
                    return Ok(added);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CutError::Io(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives few bytes at a time, as a socket does.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(self.1).min(into.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    /// The lines that begin in `start..end`, read `step` bytes at a time.
    fn lines(text: &[u8], start: usize, end: usize, step: usize) -> Vec<(u64, Vec<u8>)> {
        let from = start.saturating_sub(1);
        let input = Dribble(&text[from..], step);
        let origin = Arc::from(Path::new("text"));
        let mut cutter = LineCutter::new(input, origin, from as u64, end as u64, 1 << 20);
        if start > 0 {
            cutter.skip_line().unwrap();
        }
        let mut lines = Vec::new();
        while let Some(chunk) = cutter.next_chunk(Vec::new()).unwrap() {
            let mut offset = chunk.offset;
            for line in chunk.bytes().split_inclusive(|byte| *byte == b'\n') {
                lines.push((offset, line.to_vec()));
                offset += line.len() as u64;
            }
        }
        lines
    }

    fn all_lines(text: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut offset = 0;
        let pieces = text.split_inclusive(|byte| *byte == b'\n');
        pieces
            .map(|line| {
                let at = offset;
                offset += line.len() as u64;
                (at, line.to_vec())
            })
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn cut_anywhere_every_line_comes_once(
            text in "([a-z]{0,5}\r?\n|[\n]|[a-z]{0,20}){0,12}",
            cuts in proptest::collection::vec(0usize..64, 0..4),
            step in 1usize..9,
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let ranges = cuts.windows(2).filter(|range| range[0] < range[1]);
            let found: Vec<_> =
                ranges.flat_map(|range| lines(text, range[0], range[1], step)).collect();
            proptest::prop_assert_eq!(found, all_lines(text));
        }
    }

    #[test]
    fn two_ranges_at_every_offset() {
        let text = b"first\n\nthird line\r\n\nlast without newline";
        for cut in 1..text.len() {
            for step in [1, 3, 1000] {
                let mut found = lines(text, 0, cut, step);
                found.extend(lines(text, cut, text.len(), step));
                assert_eq!(found, all_lines(text), "cut at {cut}, {step} bytes at a time");
            }
        }
    }

    #[test]
    fn a_line_may_be_longer_than_a_chunk() {
        let mut text = vec![b'x'; 3 * CHUNK_BYTES];
        text.extend(b"\nend\n");
        assert_eq!(lines(&text, 0, text.len(), usize::MAX), all_lines(&text));
        assert_eq!(lines(&text, 5, text.len(), usize::MAX), all_lines(&text)[1..]);
    }

    #[test]
    fn a_line_over_the_limit_is_refused_with_its_place() {
        let text = [b"ok\n".to_vec(), vec![b'x'; 2 * CHUNK_BYTES]].concat();
        let origin = Arc::from(Path::new("text"));
        let mut cutter = LineCutter::new(&text[..], origin, 0, u64::MAX, 1000);
        assert_eq!(cutter.next_chunk(Vec::new()).unwrap().unwrap().bytes(), b"ok\n");
        assert!(matches!(cutter.next_chunk(Vec::new()), Err(CutError::LongLine(3))));
    }
}
