//! Errors of configurations, with the place of each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fault of a configuration. No retry helps; a person must edit the place that it names.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists but could not be read.
    #[error("failed to read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The directory that was asked for holds no configuration.
    #[error(
        "no config.yaml or flink-conf.yaml in {}; create one or correct MILLSTREAM_CONF_DIR",
        directory.display()
    )]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// The text is not a configuration.
    #[error("{origin}: {reason}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// The fault, and the text to write instead.
        reason: String,
    },
    /// Neither Millstream nor Flink has such an option.
    #[error("{origin}: unknown option {key:?}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key as it was written.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// The option exists, its value does not parse.
    #[error("{origin}: {key} {}{reason}", shown_value(value))]
    Value {
        /// Where.
        origin: Origin,
        /// The option.
        key: String,
        /// Its text; empty for an option that holds a secret.
        value: String,
        /// The expected form of the value.
        reason: String,
    },
    /// Two options contradict each other.
    #[error("{0}")]
    Conflict(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("; did you mean {key}?"),
        None => "; docs/configuration.md lists all".to_owned(),
    }
}

fn shown_value(value: &str) -> String {
    let mut shown: String = value.chars().take(80).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    if shown.is_empty() { String::new() } else { format!("is {shown:?}: ") }
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file; the first is 1.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line.
        line: usize,
    },
    /// A line of the environment variable `MILLSTREAM_PROPERTIES`.
    Environment {
        /// The line.
        line: usize,
    },
    /// `-D key=value`.
    CommandLine,
    /// The program itself.
    Program,
    /// The configuration in a request to the REST server.
    Request,
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment { line } => write!(f, "MILLSTREAM_PROPERTIES line {line}"),
            Self::CommandLine => f.write_str("command line -D"),
            Self::Program => f.write_str("set by the program"),
            Self::Request => f.write_str("flinkConfiguration of the request"),
            Self::Default => f.write_str("default"),
        }
    }
}
