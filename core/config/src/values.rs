//! The types of options, each read as Flink reads it.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use millstream_types::{ByteSize, RuntimeMode};

use crate::option::OptionValue;
use crate::syntax;

impl OptionValue for bool {
    const KIND: &'static str = "boolean";

    fn read(text: &str) -> Result<Self, String> {
        one_of(text, &[("true", true), ("false", false)])
    }
}

macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl OptionValue for $type {
            const KIND: &'static str = "whole number";

            fn read(text: &str) -> Result<Self, String> {
                let range = || format!("a whole number from {} to {}", Self::MIN, Self::MAX);
                text.trim().parse().map_err(|_| format!("expected {}", range()))
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }
        }
    )+};
}

whole_number!(u16, i32, u32, u64);

impl OptionValue for f64 {
    const KIND: &'static str = "number";

    fn read(text: &str) -> Result<Self, String> {
        let number = text.trim().parse().ok().filter(|number: &Self| number.is_finite());
        number.ok_or_else(|| "expected a number".to_owned())
    }
}

impl OptionValue for String {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl OptionValue for PathBuf {
    const KIND: &'static str = "path";

    fn read(text: &str) -> Result<Self, String> {
        match text.trim().is_empty() {
            true => Err("expected a path; to have the default, remove the key".to_owned()),
            false => Ok(Self::from(text)),
        }
    }
}

/// Directories, separated by commas or colons.
impl OptionValue for Vec<PathBuf> {
    const KIND: &'static str = "paths";

    fn read(text: &str) -> Result<Self, String> {
        let paths = text.split([',', ':']).map(str::trim).filter(|path| !path.is_empty());
        let paths: Self = paths.map(PathBuf::from).collect();
        match paths.is_empty() {
            true => Err("expected one directory or several, such as /a,/b".to_owned()),
            false => Ok(paths),
        }
    }
}

/// `[a, b]` as in YAML, or `a;b` as in old files.
impl OptionValue for Vec<String> {
    const KIND: &'static str = "list";

    fn read(text: &str) -> Result<Self, String> {
        syntax::read_list(text).map_err(|reason| format!("expected [a, b] or a;b; {reason}"))
    }
}

impl OptionValue for ByteSize {
    const KIND: &'static str = "size";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "expected a number and a unit, such as 512 kb, 64 mb or 1 gb".into())
    }

    fn is_zero(&self) -> bool {
        self.as_bytes() == 0
    }
}

impl OptionValue for Duration {
    const KIND: &'static str = "duration";

    fn read(text: &str) -> Result<Self, String> {
        read_duration(text, Duration::from_millis(1)).ok_or_else(|| {
            "expected a number and a unit, such as 500 ms, 10 s, 5 min, 1 h or 1 d".into()
        })
    }

    fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// A duration whose bare numbers are seconds; other durations take them for milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(Duration);

impl Seconds {
    /// The duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl OptionValue for Seconds {
    const KIND: &'static str = "seconds";

    fn read(text: &str) -> Result<Self, String> {
        read_duration(text, Duration::from_secs(1))
            .map(Self)
            .ok_or_else(|| "expected a number of seconds, such as 3600, or 1 h".into())
    }
}

const NANOS_OF_UNITS: [(&[&str], u64); 7] = [
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["m", "min", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["ms", "milli", "millis", "millisecond", "milliseconds"], 1_000_000),
    (&["µs", "us", "micro", "micros", "microsecond", "microseconds"], 1_000),
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
];

fn read_duration(text: &str, bare_unit: Duration) -> Option<Duration> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim().to_lowercase();
    let nanos = match unit.as_str() {
        "" => bare_unit.as_nanos(),
        unit => NANOS_OF_UNITS.iter().find(|(names, _)| names.contains(&unit))?.1.into(),
    };
    let nanos = u128::from(number).checked_mul(nanos)?;
    // What people write for "never" must not overflow an instant that it is added to.
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?.min(u64::from(u32::MAX));
    Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
}

/// Ports to try in order: `8081`, `50100-50200`, `8081,9000-9010`; 0 lets the system choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange(Vec<RangeInclusive<u16>>);

impl PortRange {
    /// Just this port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self(vec![port..=port])
    }

    /// The ports in the order in which to try them; never none.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().cloned().flatten()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (first, last) = (range.start(), range.end());
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl OptionValue for PortRange {
    const KIND: &'static str = "ports";

    fn read(text: &str) -> Result<Self, String> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range: RangeInclusive<u16> =
                first.trim().parse().ok()?..=last.trim().parse().ok()?;
            (!range.is_empty()).then_some(range)
        };
        text.split(',')
            .map(range)
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| "expected a port, a range or several, such as 8081,9000-9010".into())
    }
}

impl OptionValue for RuntimeMode {
    const KIND: &'static str = "STREAMING, BATCH or AUTOMATIC";

    fn read(text: &str) -> Result<Self, String> {
        let names = [
            ("STREAMING", Self::Streaming),
            ("BATCH", Self::Batch),
            ("AUTOMATIC", Self::Automatic),
        ];
        one_of(text, &names)
    }
}

/// Reaction to a failure of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartStrategyType {
    /// It fails.
    None,
    /// It restarts a number of times, after the same delay each time.
    FixedDelay,
    /// It restarts, each time after a longer delay, up to a longest one.
    ExponentialDelay,
    /// It restarts unless it fails too often within some time.
    FailureRate,
}

impl OptionValue for RestartStrategyType {
    const KIND: &'static str = "none, fixed-delay, exponential-delay or failure-rate";

    fn read(text: &str) -> Result<Self, String> {
        let names = [
            ("none", Self::None),
            ("off", Self::None),
            ("disable", Self::None),
            ("fixed-delay", Self::FixedDelay),
            ("fixeddelay", Self::FixedDelay),
            ("exponential-delay", Self::ExponentialDelay),
            ("exponentialdelay", Self::ExponentialDelay),
            ("failure-rate", Self::FailureRate),
            ("failurerate", Self::FailureRate),
        ];
        one_of(text, &names)
    }
}

/// The time between the starts of two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInterval(Duration);

impl CheckpointInterval {
    /// The shortest interval, which is Flink's too.
    pub const MIN: Duration = Duration::from_millis(10);

    /// The interval; `None` for 0, which switches checkpoints off.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        Some(self.0).filter(|interval| !interval.is_zero())
    }
}

impl OptionValue for CheckpointInterval {
    const KIND: &'static str = "duration";

    fn read(text: &str) -> Result<Self, String> {
        let interval = Duration::read(text)?;
        match interval.is_zero() || interval >= Self::MIN {
            true => Ok(Self(interval)),
            false => Err("expected at least 10 ms, or 0 for no checkpoints".to_owned()),
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

/// The guarantee that checkpoints give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointingMode {
    /// Every record takes effect once.
    ExactlyOnce,
}

impl OptionValue for CheckpointingMode {
    const KIND: &'static str = "EXACTLY_ONCE";

    fn read(text: &str) -> Result<Self, String> {
        let lacking = ["AT_LEAST_ONCE", "AT-LEAST-ONCE"];
        if lacking.iter().any(|name| name.eq_ignore_ascii_case(text.trim())) {
            return Err("it is not supported, use EXACTLY_ONCE".to_owned());
        }
        one_of(text, &[("EXACTLY_ONCE", Self::ExactlyOnce), ("EXACTLY-ONCE", Self::ExactlyOnce)])
            .map_err(|_| "expected EXACTLY_ONCE".to_owned())
    }
}

/// The fate of a job's complete checkpoints when the job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckpointRetention {
    /// They are deleted, whatever the end; Flink's `NO_EXTERNALIZED_CHECKPOINTS`.
    #[default]
    DeleteAlways,
    /// They stay if the job failed.
    DeleteOnCancellation,
    /// They stay if the job failed or was cancelled.
    RetainOnCancellation,
}

impl CheckpointRetention {
    /// Whether they stay when the job has failed.
    #[must_use]
    pub const fn keeps_after_failure(self) -> bool {
        match self {
            Self::DeleteAlways => false,
            Self::DeleteOnCancellation | Self::RetainOnCancellation => true,
        }
    }

    /// Whether they stay when the job was cancelled.
    #[must_use]
    pub const fn keeps_after_cancellation(self) -> bool {
        match self {
            Self::DeleteAlways | Self::DeleteOnCancellation => false,
            Self::RetainOnCancellation => true,
        }
    }
}

impl OptionValue for CheckpointRetention {
    const KIND: &'static str =
        "NO_EXTERNALIZED_CHECKPOINTS, DELETE_ON_CANCELLATION or RETAIN_ON_CANCELLATION";

    fn read(text: &str) -> Result<Self, String> {
        let names = [
            ("NO_EXTERNALIZED_CHECKPOINTS", Self::DeleteAlways),
            ("DELETE_ON_CANCELLATION", Self::DeleteOnCancellation),
            ("RETAIN_ON_CANCELLATION", Self::RetainOnCancellation),
        ];
        one_of(text, &names)
    }
}

/// The owner of a savepoint or checkpoint from which a job has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClaimMode {
    /// The user keeps it: the job never touches its files.
    #[default]
    NoClaim,
    /// The job: it is deleted like a checkpoint of its own when later ones are complete.
    Claim,
}

impl OptionValue for ClaimMode {
    const KIND: &'static str = "NO_CLAIM or CLAIM";

    fn read(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("LEGACY") {
            return Err("LEGACY is not supported, use NO_CLAIM or CLAIM".to_owned());
        }
        one_of(text, &[("NO_CLAIM", Self::NoClaim), ("CLAIM", Self::Claim)])
    }
}

/// The tasks that restart after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailoverStrategy {
    /// Those that failed, and all that channels connect with them.
    #[default]
    Region,
    /// All of the job.
    Full,
    /// Those that failed. Where channels connect them with others it is [`Self::Region`].
    Individual,
}

impl OptionValue for FailoverStrategy {
    const KIND: &'static str = "region, full or individual";

    fn read(text: &str) -> Result<Self, String> {
        let values =
            [("region", Self::Region), ("full", Self::Full), ("individual", Self::Individual)];
        one_of(text, &values)
    }
}

/// From which importance on a process writes log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only faults that a person must act on.
    Error,
    /// Also unexpected events from which the system recovered.
    Warn,
    /// Also the life cycle of processes and jobs.
    Info,
    /// Also the reasoning of the components.
    Debug,
    /// Everything.
    Trace,
    /// Nothing.
    Off,
}

impl LogLevel {
    /// Its name in lower case, as log filters write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
            Self::Off => "off",
        }
    }
}

impl OptionValue for LogLevel {
    const KIND: &'static str = "ERROR, WARN, INFO, DEBUG, TRACE or OFF";

    fn read(text: &str) -> Result<Self, String> {
        let names = [
            ("ERROR", Self::Error),
            ("WARN", Self::Warn),
            ("INFO", Self::Info),
            ("DEBUG", Self::Debug),
            ("TRACE", Self::Trace),
            ("OFF", Self::Off),
        ];
        one_of(text, &names)
    }
}

/// Reads one of several names, in capitals or not.
///
/// # Errors
/// The text is none of them.
pub fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("expected {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_flink_reads_them() {
        for (text, millis) in [
            ("10 s", 10_000),
            ("500ms", 500),
            ("5 min", 300_000),
            ("2m", 120_000),
            ("1 H", 3_600_000),
            ("1 d", 86_400_000),
            ("42", 42),
            (" 7 seconds ", 7_000),
        ] {
            assert_eq!(Duration::read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(Duration::read("3 µs"), Ok(Duration::from_micros(3)));
        for text in ["", "s", "-1 s", "1.5 s", "1 fortnight", "99999999999999999999 s", "1e3"] {
            assert!(Duration::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endless_duration_can_still_be_added_to_now() {
        let endless = Duration::read("9223372036854775807 ms").unwrap();
        assert!(endless > Duration::from_secs(100 * 365 * 86_400));
        assert!(std::time::Instant::now().checked_add(endless).is_some());
    }

    #[test]
    fn bare_seconds_are_seconds() {
        assert_eq!(Seconds::read("3600").unwrap().duration(), Duration::from_secs(3600));
        assert_eq!(Seconds::read("1 h").unwrap().duration(), Duration::from_secs(3600));
    }

    #[test]
    fn port_ranges_list_their_ports_in_order() {
        let ports = |text| PortRange::read(text).map(|range| range.ports().collect::<Vec<_>>());
        assert_eq!(ports("8081"), Ok(vec![8081]));
        assert_eq!(ports("0"), Ok(vec![0]));
        assert_eq!(ports("9, 5-7"), Ok(vec![9, 5, 6, 7]));
        for text in ["", "65536", "7-5", "1-2-3", ",", "-", "a"] {
            assert!(ports(text).is_err(), "{text}");
        }
        assert_eq!(PortRange::read("9,5-7").unwrap().to_string(), "9,5-7");
    }

    #[test]
    fn lists_read_in_both_spellings() {
        let list = |text| Vec::<String>::read(text).unwrap();
        assert_eq!(list("a; b;c"), ["a", "b", "c"]);
        assert_eq!(list("[a, 'b;c', \"d, e\"]"), ["a", "b;c", "d, e"]);
        assert_eq!(list("a"), ["a"]);
        assert!(list("").is_empty());
        assert!(list("[]").is_empty());
        assert!(Vec::<String>::read("[a, {b: c}]").is_err());
    }

    #[test]
    fn an_unknown_strategy_is_told_which_there_are() {
        let reason = RestartStrategyType::read("sometimes").unwrap_err();
        assert!(reason.contains("exponential-delay"), "{reason}");
        let exponential = RestartStrategyType::read("exponentialdelay");
        assert_eq!(exponential, Ok(RestartStrategyType::ExponentialDelay));
        assert_eq!(RestartStrategyType::read("FixedDelay"), Ok(RestartStrategyType::FixedDelay));
    }

    #[test]
    fn a_checkpoint_interval_is_long_enough_or_none() {
        let interval = |text| CheckpointInterval::read(text).map(CheckpointInterval::duration);
        assert_eq!(interval("10 ms"), Ok(Some(Duration::from_millis(10))));
        assert_eq!(interval("0"), Ok(None));
        let reason = interval("9 ms").unwrap_err();
        assert!(reason.contains("at least 10 ms"), "{reason}");
        assert!(interval("often").is_err());
    }

    #[test]
    fn a_lacking_guarantee_says_what_to_use() {
        let reason = CheckpointingMode::read("at_least_once").unwrap_err();
        assert!(reason.contains("use EXACTLY_ONCE"), "{reason}");
        let exactly_once = Ok(CheckpointingMode::ExactlyOnce);
        assert_eq!(CheckpointingMode::read("exactly_once"), exactly_once);
        let kept = CheckpointRetention::read("RETAIN_ON_CANCELLATION");
        assert_eq!(kept, Ok(CheckpointRetention::RetainOnCancellation));
    }
}
