//! The workloads: the jobs whose committed output is judged, and the lines that each publishes.
//!
//! A line has integers, one space between two of them. The first ones say which result it is, and
//! no two results have the same; the others are what the job has computed for it.

use std::fmt;
use std::str::FromStr;

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// Sums by key: state of keys.
    KeyedSum,
    /// Alarms that records set and put off, and their echoes: state of keys with timers.
    Timers,
    /// Counts and sums in windows one after the other.
    Tumbling,
    /// Counts and sums in windows that overlap.
    Sliding,
    /// Counts and sums in windows that end after a gap.
    Session,
    /// Pairs of two streams.
    IntervalJoin,
    /// Records with the rules of their time: state that each subtask has.
    Broadcast,
}

/// The integers of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// The names of those that say which result it is; the key is the first.
    pub identity: &'static [&'static str],
    /// The names of the others.
    pub content: &'static [&'static str],
    /// Whether the results of a key stand in the order of their identities within a file.
    pub ordered: bool,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KeyedSum,
        Self::Timers,
        Self::Tumbling,
        Self::Sliding,
        Self::Session,
        Self::IntervalJoin,
        Self::Broadcast,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyedSum => "keyed-sum",
            Self::Timers => "timers",
            Self::Tumbling => "tumbling",
            Self::Sliding => "sliding",
            Self::Session => "session",
            Self::IntervalJoin => "interval-join",
            Self::Broadcast => "broadcast",
        }
    }

    /// The integers of its lines.
    #[must_use]
    pub const fn fields(self) -> Fields {
        let (identity, content): (&[&str], &[&str]) = match self {
            Self::KeyedSum => (&["key", "sequence"], &["sum"]),
            Self::Timers => (&["key", "time"], &["count", "sum"]),
            Self::Tumbling | Self::Sliding | Self::Session => {
                (&["key", "start", "end"], &["count", "sum"])
            }
            Self::IntervalJoin => (&["key", "left", "right"], &["time", "sum"]),
            Self::Broadcast => (&["key", "sequence"], &["time", "product"]),
        };
        Fields { identity, content, ordered: matches!(self, Self::KeyedSum) }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|workload| workload.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no such workload; there are all, {names}")
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_known_by_its_name() {
        for workload in Workload::ALL {
            assert_eq!(workload.to_string().parse(), Ok(workload));
        }
        let refusal = "windows".parse::<Workload>().unwrap_err();
        assert_eq!(
            refusal,
            "there is no such workload; there are all, keyed-sum, timers, tumbling, sliding, \
             session, interval-join, broadcast"
        );
    }
}
