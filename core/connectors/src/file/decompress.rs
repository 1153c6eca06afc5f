//! Reads compressed bytes, member by member.
//!
//! A file may consist of several members (gzip), streams (bzip2, xz) or frames (zstd), and a line
//! may go on from one to the next. After the last one nothing may follow, except zeros after gzip
//! and xz, which fill up blocks of tapes and the like. A member that is cut off or damaged is an
//! error, never a short read.
//!
//! The memory of a member is limited, as its header can demand any amount.

use std::io::{self, BufRead, ErrorKind, Read};
use std::mem;

use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::file::buffered::Buffered;
use crate::file::content::{CUT_OFF, Compression, is_skippable_frame};

/// The largest window of zstd and the largest dictionary of xz: as much as `zstd --long` needs, and
/// twice as much as `xz -9`.
const WINDOW_BYTES_MAX: u64 = 128 << 20;
/// Memory limit of xz in KiB: the dictionary and the rest of the decoder.
const XZ_KIB_MAX: u32 = (128 << 10) + 1024;

/// Why compressed bytes could not be read on.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct DecompressError {
    pub(crate) format: Compression,
    /// Number of compressed bytes that were taken.
    pub(crate) at: u64,
    pub(crate) reason: String,
}

/// Reads what compressed bytes hold.
pub(crate) struct Decompressor<R: Read> {
    format: Compression,
    member: Member<Buffered<R>>,
    /// No member was begun yet.
    is_first: bool,
}

enum Member<R: BufRead> {
    /// Between two members.
    Between(R),
    Gzip(Box<flate2::bufread::GzDecoder<R>>),
    Zstd(Box<ZstdFrame<R>>),
    Bzip2(Box<bzip2::bufread::BzDecoder<R>>),
    Xz(Box<lzma_rust2::XzReader<R>>),
    /// All is read, or nothing more can be.
    Over,
}

impl<R: BufRead> Member<R> {
    fn input(&mut self) -> Option<&mut R> {
        match self {
            Self::Between(input) => Some(input),
            Self::Gzip(member) => Some(member.get_mut()),
            Self::Zstd(frame) => Some(&mut frame.input),
            Self::Bzip2(stream) => Some(stream.get_mut()),
            Self::Xz(stream) => Some(stream.inner_mut()),
            Self::Over => None,
        }
    }

    fn into_input(self) -> Option<R> {
        match self {
            Self::Between(input) => Some(input),
            Self::Gzip(member) => Some(member.into_inner()),
            Self::Zstd(frame) => Some(frame.input),
            Self::Bzip2(stream) => Some(stream.into_inner()),
            Self::Xz(stream) => Some(stream.into_inner()),
            Self::Over => None,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Between(_) | Self::Over => Ok(0),
            Self::Gzip(member) => member.read(into),
            Self::Zstd(frame) => frame.read(into),
            Self::Bzip2(stream) => stream.read(into),
            Self::Xz(stream) => stream.read(into),
        }
    }
}

impl<R: Read> Decompressor<R> {
    /// Reads what `input` holds, whose first member is of this format.
    pub(crate) fn new(format: Compression, input: Buffered<R>) -> Self {
        Self { format, member: Member::Between(input), is_first: true }
    }

    /// Begins the next member, or ends if there is none.
    fn next_member(&mut self) -> io::Result<()> {
        let Some(mut input) = mem::replace(&mut self.member, Member::Over).into_input() else {
            return Ok(());
        };
        let begins = self.look_for_member(&mut input);
        match begins {
            Ok(true) => {
                self.is_first = false;
                let begun = begin(self.format, input);
                self.member = begun?;
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => {
                self.member = Member::Between(input);
                Err(error)
            }
        }
    }

    /// Skips what may lie between members; says whether one follows.
    fn look_for_member(&self, input: &mut Buffered<R>) -> io::Result<bool> {
        let zeros = if self.is_first { 0 } else { self.skip_zeros(input)? };
        while is_skippable_frame(input.peek(4)?) && self.format == Compression::Zstd {
            skip_frame(input)?;
        }
        if self.format == Compression::Xz && !zeros.is_multiple_of(4) {
            return Err(io::Error::other("the zeros after a stream are no multiple of 4"));
        }
        let next = input.peek(10)?;
        if next.is_empty() {
            return Ok(false);
        }
        let may_follow = zeros == 0 || self.format == Compression::Xz;
        if self.format.begins(next) && may_follow {
            return Ok(true);
        }
        let (format, at) = (self.format, input.position());
        Err(io::Error::other(format!("something that is not {format} follows at byte {at}")))
    }

    fn skip_zeros(&self, input: &mut Buffered<R>) -> io::Result<u64> {
        let begun = input.position();
        if matches!(self.format, Compression::Gzip | Compression::Xz) {
            loop {
                let next = input.fill_buf()?;
                let zeros = next.iter().take_while(|byte| **byte == 0).count();
                if zeros == 0 {
                    break;
                }
                input.consume(zeros);
            }
        }
        Ok(input.position() - begun)
    }

    /// Tells an error of the input from a fault of its bytes.
    fn explain(&mut self, error: &io::Error) -> io::Error {
        let format = self.format;
        let mut at = 0;
        if let Some(input) = self.member.input() {
            if let Some(failure) = input.take_failure() {
                return io::Error::other(failure);
            }
            at = input.position();
        }
        self.member = Member::Over;
        let reason = match error.kind() {
            ErrorKind::OutOfMemory => {
                format!("it needs more than {} MiB of memory", WINDOW_BYTES_MAX >> 20)
            }
            _ if is_end_of_input(error) => CUT_OFF.to_owned(),
            _ => error.to_string(),
        };
        io::Error::other(DecompressError { format, at, reason })
    }
}

/// Whether the input ended where more was expected, as far down as the causes go.
fn is_end_of_input(error: &io::Error) -> bool {
    if error.kind() == ErrorKind::UnexpectedEof {
        return true;
    }
    let mut cause = error.get_ref().map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_end_of_input) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn begin<R: BufRead>(format: Compression, input: R) -> io::Result<Member<R>> {
    Ok(match format {
        Compression::Gzip => Member::Gzip(Box::new(flate2::bufread::GzDecoder::new(input))),
        Compression::Zstd => Member::Zstd(Box::new(ZstdFrame::new(input))),
        Compression::Bzip2 => Member::Bzip2(Box::new(bzip2::bufread::BzDecoder::new(input))),
        Compression::Xz => {
            let reader = lzma_rust2::XzReader::new_mem_limit(input, false, XZ_KIB_MAX);
            Member::Xz(Box::new(reader))
        }
    })
}

/// Skips a frame of zstd that holds no data: its magic number, its length, and that many bytes.
fn skip_frame<R: Read>(input: &mut Buffered<R>) -> io::Result<()> {
    let mut header = [0; 8];
    input.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let skipped = io::copy(&mut input.by_ref().take(length), &mut io::sink())?;
    if skipped < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match self.member.read(into) {
                Ok(0) => {}
                Ok(read) => return Ok(read),
                Err(error) => return Err(self.explain(&error)),
            }
            if let Err(error) = self.next_member() {
                return Err(self.explain(&error));
            }
            if matches!(self.member, Member::Over) {
                return Ok(0);
            }
        }
    }
}

/// One frame of zstd.
struct ZstdFrame<R> {
    decoder: FrameDecoder,
    input: R,
    begun: bool,
}

impl<R: Read> ZstdFrame<R> {
    fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self { decoder, input, begun: false }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.decoder.init(&mut self.input).map_err(of_zstd)?;
            self.begun = true;
        }
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                return self.check();
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.input, one).map_err(of_zstd)?;
        }
        self.decoder.read(into)
    }

    /// Compares the checksum at the end of the frame.
    fn check(&self) -> io::Result<usize> {
        match self.decoder.get_checksum_from_data() {
            Some(expected) if Some(expected) != self.decoder.get_calculated_checksum() => {
                Err(io::Error::other("the checksum of a frame is wrong"))
            }
            _ => Ok(0),
        }
    }
}

fn of_zstd(error: FrameDecoderError) -> io::Error {
    match error {
        FrameDecoderError::WindowSizeTooBig { .. } => ErrorKind::OutOfMemory.into(),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
