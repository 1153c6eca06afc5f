//! Jobs in tests: run in the test's own process, their records at hand.
//!
//! [`run_on`] gives a pipeline all its records at once, [`Harness`] one by one, with event time and
//! processing time in the test's hand. [`environment`] runs whole jobs.
//!
//! ```
//! use millstream::prelude::*;
//! use millstream::testing;
//!
//! /// The part of a job that is worth testing: streams in, streams out.
//! fn squares_of_even(numbers: Stream<u64>) -> Stream<u64> {
//!     numbers.filter(|n| Ok(n % 2 == 0)).map(|n| Ok(n * n))
//! }
//!
//! assert_eq!(testing::run_on([1, 2, 3, 4], squares_of_even)?, [4, 16]);
//! # Ok::<(), millstream::Error>(())
//! ```

mod harness;
mod job_harness;

pub use self::harness::Harness;
pub use self::job_harness::{Input, JobHarness, Output};
/// Suites that every source and every sink must pass.
pub use millstream_api::conformance;

#[cfg(feature = "local")]
use crate::connectors::{CollectSink, Datagen};
#[cfg(feature = "local")]
use crate::{Data, Environment, Result, Stream};

/// An environment whose jobs run in this process, with parallelism 1 unless the job says otherwise.
/// A job that was not waited for ends with its environment.
///
/// Records are encoded and read back between any two operators, as between the processes of a
/// cluster ([`Environment::set_serialize_always`]): a type that cannot do that fails the test.
///
/// ```
/// use millstream::prelude::*;
///
/// let mut env = millstream::testing::environment();
/// let numbers = CollectSink::new();
/// env.source("numbers", Datagen::sequence(0..3)).sink("collect", numbers.clone());
/// env.execute("collect numbers")?;
/// assert_eq!(numbers.take(), [0, 1, 2]);
/// # Ok::<(), millstream::Error>(())
/// ```
#[cfg(feature = "local")]
#[must_use]
pub fn environment() -> Environment {
    environment_with([])
}

/// An environment as [`environment`] makes it, with settings of the configuration: a job that takes
/// checkpoints and restarts when it fails, for example.
///
/// ```
/// use millstream::prelude::*;
///
/// let directory = tempfile::tempdir()?;
/// let mut env = millstream::testing::environment_with([
///     ("execution.checkpointing.interval", "10 ms"),
///     ("execution.checkpointing.dir", directory.path().to_str().context("no UTF-8")?),
/// ]);
/// let numbers = CollectSink::new();
/// env.source("numbers", Datagen::sequence(0..3)).sink("collect", numbers.clone());
/// env.execute("collect numbers")?;
/// assert_eq!(numbers.take(), [0, 1, 2]);
/// # Ok::<(), millstream::Error>(())
/// ```
#[cfg(feature = "local")]
#[must_use]
pub fn environment_with<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
    crate::__private::register_file_systems();
    let jobs = std::rc::Rc::default();
    let mut environment = crate::local::environment_with(Vec::new(), 1, settings, &jobs);
    environment.set_serialize_always(true);
    environment
}

/// Makes a stream of `records`, gives it to `transform`, and returns what comes out, in order as
/// far as the operators keep it.
///
/// ```
/// let doubled = millstream::testing::run_on([1, 2], |numbers| numbers.map(|n| Ok(n * 2)));
/// assert_eq!(doubled.unwrap(), [2, 4]);
/// ```
///
/// # Errors
/// The job was refused or failed.
#[cfg(feature = "local")]
pub fn run_on<T, O>(
    records: impl IntoIterator<Item = T>,
    transform: impl FnOnce(Stream<T>) -> Stream<O>,
) -> Result<Vec<O>>
where
    T: Data + Clone + Sync,
    O: Data,
{
    let records: Vec<T> = records.into_iter().collect();
    let count = u64::try_from(records.len())?;
    let nth = move |at| usize::try_from(at).ok().and_then(|at| records.get(at).cloned());
    let mut env = environment();
    let source = env.source("records", Datagen::from_fn(nth).count(count));
    let collected = CollectSink::new();
    transform(source.flat_map(Ok)).sink("collect", collected.clone());
    env.execute("test")?;
    Ok(collected.take())
}
