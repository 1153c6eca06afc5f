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
        /// The names of the integers that a line has.
        fields: String,
    },
    /// The input has no such result.
    NotInInput {
        /// The place of the result.
        at: Place,
        /// The name of the result.
        result: String,
        /// Number of results that its key has.
        results_of_key: u64,
    },
    /// A result is another one than that of the input.
    Wrong {
        /// The place of the result.
        at: Place,
        /// The name of the result.
        result: String,
        /// The published integers.
        computed: String,
        /// Those of the input.
        expected: String,
    },
    /// A result was published before.
    Repeated {
        /// The place of the second one.
        at: Place,
        /// The name of the result.
        result: String,
        /// The file of the first one.
        first: String,
    },
    /// A result of a key stands in a file behind a later one.
    Disordered {
        /// The place of the result.
        at: Place,
        /// The name of the result.
        result: String,
        /// The name of the result before it.
        before: String,
    },
    /// The job has finished, and not all results are published.
    Missing {
        /// Number of results that are missing.
        missing: u64,
        /// Number of all results.
        results: u64,
        /// The name of the first that is missing.
        result: String,
        /// Its integers.
        expected: String,
        /// Number of results that its key has.
        results_of_key: u64,
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
            Self::Malformed { at, text, fields } => {
                write!(out, "{at}: {text:?} is not the integers {fields}")
            }
            Self::NotInInput { at, result, results_of_key } => write!(
                out,
                "{at}: the input has no result {result}; the key has {results_of_key} results"
            ),
            Self::Wrong { at, result, computed, expected } => {
                write!(out, "{at}: the result {result} has {computed}, and must have {expected}")
            }
            Self::Repeated { at, result, first } => {
                write!(out, "{at}: the result {result} was published before, in {first}")
            }
            Self::Disordered { at, result, before } => {
                write!(out, "{at}: the result {result} stands behind the result {before}")
            }
            Self::Missing { missing, results, result, expected, results_of_key } => write!(
                out,
                "{missing} of {results} results are missing, the first of them {result} with \
                 {expected}; its key must have {results_of_key} results"
            ),
        }
    }
}

impl std::error::Error for Difference {}
