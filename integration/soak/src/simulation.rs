//! Seeded worlds: which seeds run, how often each kind of thing happened in them, and whether that
//! is enough to show anything.
//!
//! `SIM_SEED` is the first seed and `SIM_SEEDS` their number; the first alone means that seed
//! alone. `scripts/simulate.sh` sets both, and nothing else reads them. One seed of a hundred runs
//! twice, and must do the same both times, as far as its [`Trace`] says.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Write as _};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

/// The name of the count of steps behind the first complete checkpoint.
pub const STEPS: &str = "steps behind a checkpoint";

/// The least number of steps behind the first complete checkpoint in each seed of a world that
/// takes checkpoints.
pub const STEPS_LEAST: u64 = 200;

/// One seed of so many runs twice.
const TWICE_EVERY: u64 = 100;

/// The seeds that the environment asks for.
///
/// # Panics
/// A variable is no number.
#[must_use]
pub fn asked() -> Option<RangeInclusive<u64>> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| unreadable(name, &text)))
    };
    range(number("SIM_SEED"), number("SIM_SEEDS"))
}

#[expect(clippy::panic, reason = "only tests call it")]
fn unreadable(name: &str, text: &str) -> u64 {
    panic!("{name} must be a whole number, not {text:?}")
}

fn range(first: Option<u64>, count: Option<u64>) -> Option<RangeInclusive<u64>> {
    let count = count.or(first.map(|_| 1))?;
    let first = first.unwrap_or(1);
    Some(first..=first.saturating_add(count).saturating_sub(1))
}

/// The number of times that things happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    /// Counts one of these.
    pub fn one(&mut self, name: &'static str) {
        self.many(name, 1);
    }

    /// Counts so many of these.
    pub fn many(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    /// Adds what another one has seen.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, count)| self.many(name, *count));
    }

    /// The number of times that something happened.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The first of these things that happened less often in so many seeds than it should have in
    /// a thousand, with both numbers.
    fn lacks(&self, least: &[(&'static str, u64)], seeds: u64) -> Option<(&'static str, u64, u64)> {
        let least = least.iter().map(|(name, least)| (*name, least * seeds / 1_000));
        let mut counts = least.map(|(name, least)| (name, self.count(name), least));
        counts.find(|(_, count, least)| count < least)
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {count}")?;
        }
        Ok(())
    }
}

/// The events and actions of a seed, as one number; nothing unless the seed runs twice.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Rc<Cell<u64>>>);

impl Trace {
    fn kept() -> Self {
        Self(Some(Rc::new(Cell::new(0xcbf2_9ce4_8422_2325))))
    }

    /// Adds an event or an action.
    pub fn note(&self, what: &impl Debug) {
        if let Some(number) = &self.0 {
            let mut hash = Fnv(number.get());
            // It has no errors of its own.
            let _ = write!(hash, "{what:?};");
            number.set(hash.0);
        }
    }

    fn number(&self) -> Option<u64> {
        self.0.as_ref().map(|number| number.get())
    }
}

/// The hash of a text, as FNV-1a.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}

/// A world that seeds are run in.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Its name in `scripts/simulate.sh`.
    pub name: &'static str,
    /// The number of seeds, if the environment asks for none.
    pub seeds: u64,
    /// The number of times that things must have happened in a thousand seeds.
    pub least: &'static [(&'static str, u64)],
}

impl World {
    /// Runs one seed after the other. The sums are written to the standard error stream if the
    /// environment asks for seeds.
    ///
    /// # Panics
    /// A seed fails, which is named, or does something else when it runs again; or too little has
    /// happened.
    pub fn simulate(self, run: impl Fn(u64, &Trace) -> Seen + RefUnwindSafe) {
        let asked = asked();
        let seeds = asked.clone().unwrap_or(1..=self.seeds);
        let mut sum = Seen::default();
        let mut count = 0;
        for seed in seeds {
            sum.add(&self.run(seed, &run));
            count += 1;
        }
        if asked.is_some() {
            // Not by `eprintln!`, which the test runner keeps for itself.
            let _ = writeln!(std::io::stderr(), "simulation {}: seeds {count}, {sum}", self.name);
        }
        let lacks = sum.lacks(self.least, count);
        let why = lacks.map(|(name, count, least)| {
            format!("\"{name}\" happened {count} times, and {least} are the least: {sum}")
        });
        assert!(why.is_none(), "{}", why.unwrap_or_default());
    }

    fn run(self, seed: u64, run: &(impl Fn(u64, &Trace) -> Seen + RefUnwindSafe)) -> Seen {
        let twice = seed.is_multiple_of(TWICE_EVERY);
        let first = if twice { Trace::kept() } else { Trace::default() };
        let world = AssertUnwindSafe(|| {
            let seen = run(seed, &first);
            if twice {
                let second = Trace::kept();
                let again = run(seed, &second);
                assert_eq!(first.number(), second.number(), "seed {seed} does something else");
                assert_eq!(seen, again, "seed {seed} sees something else");
            }
            seen
        });
        let mut seen = catch_unwind(world).unwrap_or_else(|panic| {
            let (name, err) = (self.name, &mut std::io::stderr());
            let _ = writeln!(
                err,
                "simulation {name}: seed {seed} fails; this repeats it: scripts/simulate.sh \
                 --world {name} --seed {seed} --seeds 1"
            );
            resume_unwind(panic)
        });
        seen.many("run twice", u64::from(twice));
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: World = World { name: "test", seeds: 1_000, least: &[("fall", 900)] };

    fn falls(seed: u64, trace: &Trace) -> Seen {
        let mut seen = Seen::default();
        trace.note(&seed);
        if !seed.is_multiple_of(20) {
            seen.one("fall");
        }
        seen
    }

    #[test]
    fn a_first_seed_alone_is_that_seed_alone() {
        assert_eq!(range(None, None), None);
        assert_eq!(range(Some(7), None), Some(7..=7));
        assert_eq!(range(None, Some(200)), Some(1..=200));
        assert_eq!(range(Some(7), Some(3)), Some(7..=9));
        assert_eq!(range(Some(7), Some(0)).map(Iterator::count), Some(0));
    }

    #[test]
    fn too_little_is_refused_in_any_number_of_seeds() {
        let mut seen = Seen::default();
        seen.many("fall", 9);
        assert_eq!(seen.lacks(&[("fall", 90)], 100), None);
        assert_eq!(seen.lacks(&[("fall", 100)], 100), Some(("fall", 9, 10)));
        assert_eq!(seen.lacks(&[("rise", 90)], 10), None, "so few seeds show nothing");
        assert_eq!(seen.lacks(&[("rise", 90)], 100), Some(("rise", 0, 9)));
    }

    #[test]
    fn a_world_in_which_enough_happens_passes() {
        WORLD.simulate(falls);
    }

    #[test]
    #[should_panic(expected = "\"fall\" happened 0 times, and 900 are the least")]
    fn an_empty_world_does_not_pass() {
        WORLD.simulate(|_, _| Seen::default());
    }

    #[test]
    #[should_panic(expected = "seed 100 does something else")]
    fn a_seed_that_does_something_else_the_second_time_is_found() {
        let calls = std::sync::atomic::AtomicU64::new(0);
        WORLD.simulate(|seed, trace| {
            trace.note(&calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            falls(seed, trace)
        });
    }

    #[test]
    #[should_panic(expected = "it falls at 3")]
    fn a_seed_that_fails_ends_the_world() {
        WORLD.simulate(|seed, trace| {
            assert_ne!(seed, 3, "it falls at 3");
            falls(seed, trace)
        });
    }
}
