//! The head of a file: what must be known of its beginning to read any part of it.
//!
//! The head is found here and nowhere else, from the first byte of the file, for every range alike.
//! So all ranges agree on what it is and on where the records begin.

use csv_core::ReadRecordResult;

/// The part of a file's beginning that a format needs. Each range of the file is preceded by a
/// chunk with the whole head ([`Chunk::is_head`](crate::Chunk::is_head)); records begin behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing.
    None,
    /// The first line.
    Line,
    /// The first record of CSV; blank lines before it belong to the head.
    CsvRecord {
        /// The separator of fields.
        delimiter: u8,
    },
}

impl Head {
    /// A scanner of one file's head, unless there is none.
    pub(crate) fn scanner(self) -> Option<HeadScanner> {
        let state = match self {
            Self::None => return None,
            Self::Line => State::Line,
            Self::CsvRecord { delimiter } => {
                let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
                State::Csv { parser: Box::new(parser), begun: false }
            }
        };
        Some(HeadScanner { state, scanned: 0, ended: false })
    }
}

enum State {
    Line,
    Csv {
        parser: Box<csv_core::Reader>,
        /// Whether the blank lines are over.
        begun: bool,
    },
}

/// Finds where a head ends, in bytes that are given bit by bit.
pub(crate) struct HeadScanner {
    state: State,
    scanned: usize,
    /// The head has ended, except for the `\n` of a `\r\n`.
    ended: bool,
}

impl HeadScanner {
    /// The length of the head if it ends in `bytes`, which are all from the beginning on so far;
    /// `is_all` says that the file has no more.
    pub(crate) fn end(&mut self, bytes: &[u8], is_all: bool) -> Option<usize> {
        while !self.ended
            && let Some(rest) = bytes.get(self.scanned..).filter(|rest| !rest.is_empty())
        {
            self.advance(rest);
        }
        match bytes.get(self.scanned) {
            // A `\r` ends a record by itself; with a `\n` behind it both are its end.
            Some(b'\n') if self.ended && bytes[..self.scanned].ends_with(b"\r") => {
                Some(self.scanned + 1)
            }
            None if !is_all && (!self.ended || bytes.ends_with(b"\r")) => None,
            _ => Some(self.scanned),
        }
    }

    fn advance(&mut self, rest: &[u8]) {
        match &mut self.state {
            State::Line => {
                let newline = memchr::memchr(b'\n', rest);
                self.scanned += newline.map_or(rest.len(), |at| at + 1);
                self.ended = newline.is_some();
            }
            State::Csv { parser, begun } => {
                if !*begun {
                    let blank = rest.iter().take_while(|byte| b"\r\n".contains(byte)).count();
                    self.scanned += blank;
                    *begun = blank < rest.len();
                    if blank > 0 {
                        return;
                    }
                }
                let (mut fields, mut ends) = ([0; 1024], [0; 64]);
                let (result, read, ..) = parser.read_record(rest, &mut fields, &mut ends);
                self.scanned += read;
                self.ended = result == ReadRecordResult::Record;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(head: Head, text: &[u8], step: usize) -> usize {
        let mut scanner = head.scanner().unwrap();
        let ends = (0..=text.len()).step_by(step);
        let mut partial = ends.filter_map(|end| scanner.end(&text[..end], false));
        if let Some(end) = partial.next() {
            return end;
        }
        scanner.end(text, true).unwrap()
    }

    #[test]
    fn the_first_record_is_the_head() {
        let csv = Head::CsvRecord { delimiter: b',' };
        for (text, expected) in [
            ("a,b\n1,2\n", 4),
            ("a,b\r\n1,2\r\n", 5),
            ("a,b\r1,2\r", 4),
            ("\n\r\n\na,b\n1,2", 8),
            ("\"a\n,\"\"\",b\n1,2", 10),
            ("a,b", 3),
            ("a,b\r", 4),
            ("\n\n", 2),
            ("", 0),
        ] {
            for step in [1, 2, 3, 100] {
                assert_eq!(head(csv, text.as_bytes(), step), expected, "{text:?} by {step}");
            }
        }
        assert_eq!(head(Head::Line, b"\nx\n", 1), 1);
        assert_eq!(head(Head::Line, b"ab", 1), 2);
        let wide = format!("{}\nx", "field,".repeat(10_000));
        assert_eq!(head(csv, wide.as_bytes(), 1000), 60_001);
    }
}
