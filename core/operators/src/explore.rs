//! Explores what stages and bodies do when outputs are full at any call and time passes at any
//! call.
//!
//! A seed stands for a schedule: batches, events, time that passes, and how often each output is
//! full after each call, or how slowly the consumer of an exchange takes what comes. A stage is
//! built as a task builds it, from a program of one operator; exchanges lead to consumers in the
//! same process and in another one. A plain computation says what each output must see. What must
//! hold:
//!
//! - nothing is lost, doubled or reordered, and events stay in their place among the records;
//! - each record keeps its own event time, on a stream that has them;
//! - a stage is full exactly while one of its outputs is, so that something will wake its task;
//! - nothing is pushed into what is full, and nothing comes after the end;
//! - once everything is ready and the time has passed, nothing is kept back.
//!
//! A seed that fails is printed with a small schedule that fails too. The environment can ask for
//! seeds, see [`millstream_soak::simulation`].

mod barriers;
mod bodies;
mod broadcast;
mod cases;
mod chains;
mod clock_windows;
mod evictors;
mod expiry;
mod finishing;
mod heavy;
mod hosts;
mod joins;
mod mutants;
mod probe;
mod schedule;
mod split_sources;
mod stages;
mod timers;
mod watermarks;
mod windows;
mod writers;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_network::Batch;
use schedule::{Schedule, failure, mix};

/// The number of seeds of a kind that gate each run of the tests.
const SEEDS: u64 = 10_000;
/// The number of seeds of the day that are tried beside them.
const SEEDS_OF_THE_DAY: u64 = 1_000;

/// Declares the kinds of stages or bodies, with a test for each.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident in $tests:ident by $cases:path:
     $(#[test] fn $test:ident() { $kind:ident })*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($kind,)*
        }

        mod $tests {
            $(
                #[test]
                fn $test() {
                    for case in $cases(super::$name::$kind) {
                        super::explore(&case);
                    }
                }
            )*
        }
    };
}

kinds! {
    /// Every kind of stage. A new one is added here and in [`cases::cases`].
    Kind in every_stage by crate::explore::cases::cases:
    #[test]
    fn collect() { Collect }
    #[test]
    fn discard() { Discard }
    #[test]
    fn fan_out() { FanOut }
    #[test]
    fn flat_map() { FlatMap }
    #[test]
    fn fold() { Fold }
    #[test]
    fn map() { Map }
    #[test]
    fn order() { Order }
    #[test]
    fn probe() { Probe }
    #[test]
    fn process() { Process }
    #[test]
    fn rows() { Rows }
    #[test]
    fn sink() { Sink }
    #[test]
    fn timestamps() { Timestamps }
    #[test]
    fn window() { Window }
    #[test]
    fn exchange_writer() { Writer }
}

kinds! {
    /// Every kind of body. A new one is added here and in [`bodies::cases`].
    BodyKind in every_body by crate::explore::bodies::cases:
    #[test]
    fn one_input() { OneInput }
    #[test]
    fn two_input() { TwoInput }
    #[test]
    fn source() { Source }
}

/// Does what a schedule says; the error is what went wrong.
type Run = Box<dyn Fn(&Schedule) -> Result<(), String>>;

/// One way in which a kind can be built.
pub(crate) struct Case {
    name: &'static str,
    run: Run,
}

impl Case {
    fn new(name: &'static str, run: impl Fn(&Schedule) -> Result<(), String> + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// The first of these seeds that fails, with a small schedule that does.
    fn first_failure(&self, seeds: impl Iterator<Item = u64>) -> Option<(u64, String)> {
        for seed in seeds {
            let schedule = Schedule::random(mix(seed));
            if failure(&*self.run, &schedule).is_some() {
                let (small, why) = schedule.shrink(&*self.run);
                let Self { name, .. } = self;
                return Some((seed, format!("{name}, SIM_SEED={seed}: {why}\n{small:?}")));
            }
        }
        None
    }
}

/// Gates on the fixed seeds; says what a seed of the day finds.
fn explore(case: &Case) {
    if let Some(seeds) = millstream_soak::simulation::asked() {
        let count = seeds.clone().count();
        let failed = case.first_failure(seeds);
        assert!(failed.is_none(), "{}", failed.unwrap().1);
        let _ = writeln!(std::io::stderr(), "simulation {}: seeds {count}", case.name);
        return;
    }
    let rounds = millstream_soak::rounds(case.name, 0.004, SEEDS, 100 * SEEDS);
    let failed = case.first_failure(rounds);
    assert!(failed.is_none(), "{}", failed.unwrap().1);
    let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let first = mix(day) >> 1;
    if let Some((_, why)) = case.first_failure(first..first + SEEDS_OF_THE_DAY) {
        // Not by `eprintln!`, which the test runner keeps for itself.
        let _ = writeln!(std::io::stderr(), "explore: a seed of day {day} found: {why}");
    }
}

/// The number of bits of a record that are its number.
const NUMBER_BITS: u32 = 20;

/// The record of this number: noise, a key and the number, below 2^39.
fn record(seed: u64, number: u64) -> u64 {
    let noise = mix(seed ^ mix(number));
    (noise >> 48) << (NUMBER_BITS + 3) | (noise % 5) << NUMBER_BITS | number
}

const fn key(record: u64) -> u64 {
    record >> NUMBER_BITS & 7
}

const fn number(record: u64) -> u64 {
    record & ((1 << NUMBER_BITS) - 1)
}

/// The event time of a record, on a stream that has them.
fn time_of(record: u64) -> i64 {
    roll(record, 21, 1 << 40) as i64
}

/// A batch of these records, with their event times if `timed`.
fn batch(records: Vec<u64>, timed: bool) -> Batch<u64> {
    if !timed {
        return Batch::of(records);
    }
    let times = records.iter().map(|record| time_of(*record)).collect();
    Batch::timed(records, times).unwrap()
}

/// A number below `bound` that a record stands for, another one for each `salt`.
fn roll(record: u64, salt: u64, bound: u64) -> u64 {
    mix(record ^ mix(salt)) % bound
}
