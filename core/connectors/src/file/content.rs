//! Recognizes the content of a file by its first bytes.
//!
//! Compressed files are recognised whatever their name. Everything else is taken for text, except
//! what would be read as text in silence and be wrong: UTF-16, UTF-32 and archives.

use std::fmt;

use millstream_storage::FilePath;

/// Number of first bytes that suffice to recognize a file.
pub(crate) const TELLING_BYTES: usize = 512;

/// The mark that some programs put before UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The fault of a file that ends too early.
pub(crate) const CUT_OFF: &str = "the file ends within its compressed data: it was cut off, or is \
                                  still being written";

/// A compressed format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

impl Compression {
    const ALL: [Self; 4] = [Self::Gzip, Self::Zstd, Self::Bzip2, Self::Xz];

    /// The first bytes of one of its members.
    const fn magic(self) -> &'static [u8] {
        match self {
            Self::Gzip => b"\x1f\x8b\x08",
            Self::Zstd => b"\x28\xb5\x2f\xfd",
            // Followed by a digit, then by the first block or the end.
            Self::Bzip2 => b"BZh",
            Self::Xz => b"\xfd7zXZ\0",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
            Self::Bzip2 => "bz2",
            Self::Xz => "xz",
        }
    }

    /// Whether a member of this format begins with these bytes.
    pub(crate) fn begins(self, bytes: &[u8]) -> bool {
        match self {
            Self::Gzip | Self::Xz => bytes.starts_with(self.magic()),
            Self::Zstd => bytes.starts_with(self.magic()) || is_skippable_frame(bytes),
            Self::Bzip2 => BZIP2_BLOCKS.iter().any(|block| {
                let level = bytes.get(3).is_some_and(|level| (b'1'..=b'9').contains(level));
                level && bytes.starts_with(b"BZh") && bytes.get(4..10) == Some(&block[..])
            }),
        }
    }

    /// Whether these few bytes, which are a whole file, are a file of this format cut off.
    fn is_cut_off(self, bytes: &[u8], path: &FilePath) -> bool {
        let named = path
            .path()
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case(self.extension()));
        let stub = bytes.len() < 10
            && (self.magic().starts_with(bytes)
                || self == Self::Bzip2 && bytes.starts_with(b"BZh"));
        stub && !bytes.is_empty() && (named || str::from_utf8(bytes).is_err())
    }
}

/// The bytes after the beginning of a bzip2 stream: a block, or the end of an empty one.
const BZIP2_BLOCKS: [[u8; 6]; 2] =
    [[0x31, 0x41, 0x59, 0x26, 0x53, 0x59], [0x17, 0x72, 0x45, 0x38, 0x50, 0x90]];

/// Whether this is a frame of zstd's family that holds no data.
pub(crate) fn is_skippable_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The first bytes of other files that are no text, their offset, and the name of the kind.
const NOT_READ: [(usize, &[u8], &str); 9] = [
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4"),
    (0, b"\x1f\x9d", "compressed by compress"),
    (0, b"\xff\x06\0\0sNaPpY", "compressed by snappy"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"LZIP\x01", "compressed by lzip"),
    (0, b"\x89LZO\0", "compressed by lzop"),
    (257, b"ustar", "a tar archive"),
];

/// The content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes to be read as they are, from this place on: a byte order mark is left out.
    Plain(usize),
    /// Compressed bytes.
    Compressed(Compression),
    /// Compressed bytes that end before it is clear what they hold.
    CutOff(Compression),
    /// Text in an encoding that is not read.
    Encoded(&'static str),
    /// Content that is not read.
    NotRead(&'static str),
}

impl Content {
    /// The content of a file that begins with `bytes`: [`TELLING_BYTES`] of them, or the whole
    /// file.
    pub(crate) fn of(bytes: &[u8], path: &FilePath) -> Self {
        if let Some(format) = Compression::ALL.into_iter().find(|format| format.begins(bytes)) {
            return Self::Compressed(format);
        }
        if let Some(format) = Compression::ALL.into_iter().find(|it| it.is_cut_off(bytes, path)) {
            return Self::CutOff(format);
        }
        if let Some(encoding) = wide_encoding(bytes) {
            return Self::Encoded(encoding);
        }
        for (at, magic, what) in NOT_READ {
            if bytes.get(at..).is_some_and(|rest| rest.starts_with(magic)) {
                return Self::NotRead(what);
            }
        }
        Self::Plain(if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 })
    }
}

/// The encoding of text in units of 2 or 4 bytes: by its byte order mark, or by the zeros that
/// ASCII characters have in it.
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    let start = bytes.get(..16.min(bytes.len() & !3)).filter(|start| start.len() >= 8)?;
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~');
    // One character of each unit is text, all others are zero.
    let all = |unit: usize, text_at: usize| {
        start.iter().enumerate().all(|(at, byte)| match at % unit == text_at {
            true => is_text(byte),
            false => *byte == 0,
        })
    };
    if all(4, 0) || all(4, 3) {
        return Some("UTF-32");
    }
    (all(2, 0) || all(2, 1)).then_some("UTF-16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Content {
        Content::of(bytes, &FilePath::from("/x"))
    }

    #[test]
    fn compressed_files_are_known_by_their_first_bytes() {
        for (bytes, format) in [
            (&b"\x1f\x8b\x08\0\0\0"[..], Compression::Gzip),
            (b"\x28\xb5\x2f\xfd\x04", Compression::Zstd),
            (b"\x5f\x2a\x4d\x18\x04", Compression::Zstd),
            (b"BZh91AY&SY....", Compression::Bzip2),
            (b"BZh1\x17\x72\x45\x38\x50\x90\0\0\0\0", Compression::Bzip2),
            (b"\xfd7zXZ\0\0\x04", Compression::Xz),
        ] {
            assert_eq!(of(bytes), Content::Compressed(format), "{bytes:?}");
        }
    }

    #[test]
    fn text_stays_text() {
        for text in
            ["", "\x1f", "B", "BZh", "BZh9", "BZh9 is how it begins", "(", "P*M", "PK", "7z\n"]
        {
            assert_eq!(of(text.as_bytes()), Content::Plain(0), "{text:?}");
        }
        assert_eq!(of(b"\xe4\xf6\xfc in Latin-1"), Content::Plain(0));
        assert_eq!(of(b"a\0b\0c\0"), Content::Plain(0));
        assert_eq!(of(&[0; 100]), Content::Plain(0));
        assert_eq!(of("\u{feff}text".as_bytes()), Content::Plain(3));
        assert_eq!(of("\u{feff}".as_bytes()), Content::Plain(3));
    }

    #[test]
    fn a_file_that_ends_within_its_magic_is_cut_off() {
        assert_eq!(of(b"\x1f\x8b"), Content::CutOff(Compression::Gzip));
        assert_eq!(of(b"\x28\xb5\x2f"), Content::CutOff(Compression::Zstd));
        assert_eq!(of(b"\xfd7zXZ"), Content::CutOff(Compression::Xz));
        for (name, bytes, format) in [
            ("/a.gz", &b"\x1f"[..], Compression::Gzip),
            ("/a.bz2", b"BZh91AY", Compression::Bzip2),
            ("/a.BZ2", b"B", Compression::Bzip2),
            ("/a.zst", b"(", Compression::Zstd),
        ] {
            let content = Content::of(bytes, &FilePath::from(name));
            assert_eq!(content, Content::CutOff(format), "{name}");
        }
    }

    #[test]
    fn wide_text_and_archives_are_told_apart() {
        let wide = |encode: fn(char) -> Vec<u8>| "wide text".chars().flat_map(encode).collect();
        let utf16: Vec<u8> = wide(|c| (c as u16).to_le_bytes().to_vec());
        let utf16be: Vec<u8> = wide(|c| (c as u16).to_be_bytes().to_vec());
        let utf32: Vec<u8> = wide(|c| (c as u32).to_le_bytes().to_vec());
        let utf32be: Vec<u8> = wide(|c| (c as u32).to_be_bytes().to_vec());
        for (bytes, encoding) in
            [(utf16, "UTF-16"), (utf16be, "UTF-16"), (utf32, "UTF-32"), (utf32be, "UTF-32")]
        {
            assert_eq!(of(&bytes), Content::Encoded(encoding));
        }
        assert_eq!(of(b"\xff\xfea\0"), Content::Encoded("UTF-16"));
        assert_eq!(of(b"\xfe\xff\0a"), Content::Encoded("UTF-16"));
        assert_eq!(of(b"\xff\xfe\0\0a\0\0\0"), Content::Encoded("UTF-32"));
        assert_eq!(of(b"PK\x03\x04...."), Content::NotRead("a zip archive"));
        let tar = [b"name".to_vec(), vec![0; 253], b"ustar\0".to_vec()].concat();
        assert_eq!(of(&tar), Content::NotRead("a tar archive"));
    }
}
