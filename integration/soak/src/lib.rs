//! The two sizes of a test: the short form that CI runs, and the long form of `scripts/soak.sh`.
//!
//! `MILLSTREAM_SOAK=1` asks for the long forms, `MILLSTREAM_SOAK_MINUTES` says how much time all
//! of them have together; without it they have their full size, however long that takes. Nothing
//! else reads these variables.
//!
//! - A test with a size (so many megabytes, so many seconds) asks [`scale`]: its long form grows
//!   with the minutes and is complete at [`FULL_MINUTES`].
//! - A test that repeats itself iterates over [`rounds`]: its long form ends in order when its
//!   share of the minutes is used, and says how far it got.
//!
//! Seeded worlds have sizes of their own, see [`simulation`].

pub mod simulation;

use std::io::Write;
use std::time::{Duration, Instant};

/// Minutes for which the full long forms are made.
pub const FULL_MINUTES: f64 = 120.0;

/// The time for long forms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Budget {
    /// CI: there are no long forms.
    Short,
    /// Long forms in their full size.
    Full,
    /// Long forms within so many minutes.
    Minutes(f64),
}

impl Budget {
    fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::read(variable("MILLSTREAM_SOAK"), variable("MILLSTREAM_SOAK_MINUTES"))
    }

    #[expect(clippy::panic, reason = "only tests call it")]
    fn read(soak: Option<String>, minutes: Option<String>) -> Self {
        if soak.is_none_or(|value| value.is_empty() || value == "0") {
            return Self::Short;
        }
        match minutes {
            None => Self::Full,
            Some(text) => match text.parse() {
                Ok(minutes) if minutes > 0.0 => Self::Minutes(minutes),
                _ => panic!("MILLSTREAM_SOAK_MINUTES must be a number above 0, not {text:?}"),
            },
        }
    }

    /// The part of a long form's size that fits into the time: 0 is the short form, 1 the full one.
    fn factor(self) -> f64 {
        match self {
            Self::Short => 0.0,
            Self::Full => 1.0,
            Self::Minutes(minutes) => (minutes / FULL_MINUTES).min(1.0),
        }
    }
}

/// A size of a test.
pub trait Scale {
    /// The size that is `factor` of the way from `short` to `long`.
    #[must_use]
    fn between(short: Self, long: Self, factor: f64) -> Self;
}

macro_rules! scale_numbers {
    ($($number:ty),*) => {$(
        impl Scale for $number {
            fn between(short: Self, long: Self, factor: f64) -> Self {
                let (from, to) = (short as f64, long as f64);
                (from + (to - from) * factor).round() as Self
            }
        }
    )*};
}
scale_numbers!(i32, u32, u64, usize);

impl Scale for Duration {
    fn between(short: Self, long: Self, factor: f64) -> Self {
        short + long.saturating_sub(short).mul_f64(factor)
    }
}

impl<A: Scale, B: Scale> Scale for (A, B) {
    fn between(short: Self, long: Self, factor: f64) -> Self {
        (A::between(short.0, long.0, factor), B::between(short.1, long.1, factor))
    }
}

/// The size of this run: `short` in CI, up to `long` in the long run.
#[must_use]
pub fn scale<T: Scale>(short: T, long: T) -> T {
    T::between(short, long, Budget::of_process().factor())
}

/// Whether this is the long run, for what cannot be had in part.
#[must_use]
pub fn is_long() -> bool {
    Budget::of_process() != Budget::Short
}

/// The rounds of a test: `short` in CI; in the long run `long`, or as many as fit into `share` of
/// the minutes (0.1 is a tenth), at least `short`.
///
/// Shares are chosen so that those of all tests, which partly run side by side, are below 1.
#[must_use]
pub fn rounds(test: &str, share: f64, short: u64, long: u64) -> Rounds {
    Rounds::new(Budget::of_process(), test, share, short, long)
}

/// An iterator over the numbers of the rounds, from 0; see [`rounds`].
#[derive(Debug)]
pub struct Rounds {
    test: String,
    next: u64,
    /// These are done however long they take.
    least: u64,
    most: u64,
    start: Instant,
    /// Unlimited without it.
    time: Option<Duration>,
    is_long: bool,
}

impl Rounds {
    fn new(budget: Budget, test: &str, share: f64, short: u64, long: u64) -> Self {
        let time = match budget {
            Budget::Minutes(minutes) => Some(Duration::from_secs_f64(minutes * 60.0 * share)),
            Budget::Short | Budget::Full => None,
        };
        let is_long = budget != Budget::Short;
        let most = if is_long { long } else { short };
        let test = test.to_owned();
        Self { test, next: 0, least: short.min(most), most, start: Instant::now(), time, is_long }
    }

    fn is_over(&self) -> bool {
        let late = self.time.is_some_and(|time| self.start.elapsed() >= time);
        self.next >= self.most || (self.next >= self.least && late)
    }

    /// The number of finished rounds, as a line.
    fn report(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        format!("soak: {}: {} of {} rounds in {seconds:.0} s", self.test, self.next, self.most)
    }
}

impl Iterator for Rounds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.is_over() {
            if self.is_long {
                // Not by `eprintln!`, which the test runner keeps for itself.
                let _ = writeln!(std::io::stderr(), "{}", self.report());
            }
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(soak: Option<&str>, minutes: Option<&str>) -> Budget {
        Budget::read(soak.map(str::to_owned), minutes.map(str::to_owned))
    }

    #[test]
    fn without_soak_every_test_is_short() {
        for soak in [None, Some(""), Some("0")] {
            assert_eq!(read(soak, Some("30")), Budget::Short);
        }
        assert_eq!(read(Some("1"), None), Budget::Full);
        assert_eq!(read(Some("1"), Some("0.5")), Budget::Minutes(0.5));
    }

    #[test]
    #[should_panic(expected = "must be a number above 0")]
    fn minutes_are_a_number() {
        let _ = read(Some("1"), Some("half an hour"));
    }

    #[test]
    fn sizes_grow_with_the_minutes_up_to_the_full_one() {
        let size = |minutes| u64::between(45, 200, Budget::Minutes(minutes).factor());
        assert_eq!([0.001, 60.0, 120.0, 1000.0].map(size), [45, 123, 200, 200]);
        assert_eq!(u64::between(45, 200, Budget::Short.factor()), 45);
        let seconds = Duration::from_secs;
        let pair = Scale::between((1_usize, seconds(2)), (3, seconds(4)), 0.5);
        assert_eq!(pair, (2, seconds(3)));
    }

    #[test]
    fn a_short_run_does_its_rounds_without_looking_at_the_clock() {
        assert_eq!(Rounds::new(Budget::Short, "a", 0.0, 3, 1000).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(Rounds::new(Budget::Full, "a", 0.0, 3, 1000).count(), 1000);
    }

    #[test]
    fn a_long_run_ends_in_order_when_its_share_is_used() {
        // 50 ms of the minute, which is time for some of the rounds, but not for all of them.
        let share = 0.05 / 60.0;
        let mut rounds = Rounds::new(Budget::Minutes(1.0), "a", share, 3, 1_000_000);
        let start = Instant::now();
        let done =
            rounds.by_ref().inspect(|_| std::thread::sleep(Duration::from_millis(1))).count();
        assert!((3..1_000_000).contains(&done), "{done} rounds");
        assert!(start.elapsed() >= Duration::from_millis(50));
        let report = rounds.report();
        assert!(report.starts_with(&format!("soak: a: {done} of 1000000 rounds in ")), "{report}");
    }

    #[test]
    fn a_share_that_is_too_small_still_does_what_ci_does() {
        assert_eq!(Rounds::new(Budget::Minutes(0.001), "a", 0.0, 3, 1000).count(), 3);
    }
}
