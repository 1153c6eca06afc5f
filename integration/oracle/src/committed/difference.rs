//! The first fault of a committed output, as a sentence that names its place.

use std::fmt;

/// The place of a result in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name of the file.
    pub file: String,
    /// The number of the line, from 1.
    pub line: usize,
}

/// A fault of a committed output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The directory of the output cannot be listed.
    Unlisted {
        /// The file system's answer.
        why: String,
    },
    /// A published file cannot be read.
    Unreadable {
        /// The name of the file.
        file: String,
        /// The file system's answer.
        why: String,
    },
    /// A file is not as it was when it was published.
    Changed {
        /// The name of the file.
        file: String,
        /// Its length at first, in bytes.
        was: u64,
        /// Its length now; the same if bytes alone have changed.
        is: u64,
    },
    /// A published file is gone.
    Disappeared {
        /// The name of the file.
        file: String,
    },
    /// The last line of a file has no newline.
    Torn {
        /// The place of the line.
        at: Place,
        /// The line.
        text: String,
    },
    /// A line is no result.
    Malformed {
        /// The place of the line.
        at: Place,
        /// The line.
        text: String,
    },
    /// The input has no record for a result.
    NotInInput {
        /// The place of the result.
        at: Place,
        /// The key.
        key: u64,
        /// The number of the result among those of the key.
        sequence: u64,
        /// Number of records that the key has in the input.
        records: u64,
    },
    /// The sum of a result is wrong.
    WrongSum {
        /// The place of the result.
        at: Place,
        /// The key.
        key: u64,
        /// The number of the result among those of the key.
        sequence: u64,
        /// The sum that was published.
        sum: u64,
        /// The sum of the input.
        expected: u64,
    },
    /// A result was published before.
    Repeated {
        /// The place of the second one.
        at: Place,
        /// The key.
        key: u64,
        /// The number of the result among those of the key.
        sequence: u64,
        /// The file of the first one.
        first: String,
    },
    /// A result of a key stands in a file behind a later one.
    Disordered {
        /// The place of the result.
        at: Place,
        /// The key.
        key: u64,
        /// The number of the result among those of the key.
        sequence: u64,
        /// The number of the result before it.
        before: u64,
    },
    /// The job has finished, and not all results are published.
    Missing {
        /// Number of results that are missing.
        missing: u64,
        /// Number of all results.
        results: u64,
        /// The key of the first that is missing.
        key: u64,
        /// The number of that result among those of the key.
        sequence: u64,
        /// Number of results of that key.
        results_of_key: u64,
        /// The sum of all amounts of that key.
        total: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, line {}", self.file, self.line)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted { why } => write!(out, "the output directory cannot be listed: {why}"),
            Self::Unreadable { file, why } => write!(out, "{file} cannot be read: {why}"),
            Self::Changed { file, was, is } if was == is => {
                write!(out, "{file} has changed since it was published, and still has {is} bytes")
            }
            Self::Changed { file, was, is } => {
                write!(out, "{file} had {was} bytes when it was published and has {is} now")
            }
            Self::Disappeared { file } => write!(out, "{file} was published and has disappeared"),
            Self::Torn { at, text } => {
                write!(out, "{at}: the file ends within the line {text:?}, without a newline")
            }
            Self::Malformed { at, text } => {
                write!(out, "{at}: {text:?} is not a key, a sequence number and a sum")
            }
            Self::NotInInput { at, key, sequence, records } => write!(
                out,
                "{at}: the input has no record for result {sequence} of key {key}, which has \
                 {records} records"
            ),
            Self::WrongSum { at, key, sequence, sum, expected } => write!(
                out,
                "{at}: result {sequence} of key {key} has the sum {sum}, and must have {expected}"
            ),
            Self::Repeated { at, key, sequence, first } => {
                write!(out, "{at}: result {sequence} of key {key} was published before, in {first}")
            }
            Self::Disordered { at, key, sequence, before } => write!(
                out,
                "{at}: result {sequence} of key {key} stands behind its result {before}"
            ),
            Self::Missing { missing, results, key, sequence, results_of_key, total } => write!(
                out,
                "{missing} of {results} results are missing, the first of them result {sequence} \
                 of key {key}, which must have {results_of_key} results and the total {total}"
            ),
        }
    }
}

impl std::error::Error for Difference {}
