//! Stateful stream processing.
//!
//! A job is a program: a build function that makes streams from sources, transforms them and ends
//! them in sinks. Run by itself it runs the job in its own process; given to `millstream run` the
//! same executable runs on a cluster.
//!
//! ```
//! use millstream::prelude::*;
//!
//! #[millstream::main]
//! fn main(env: &mut Environment, _args: Args) -> Result<()> {
//!     let numbers = env.source("numbers", Datagen::sequence(0..1_000));
//!     numbers
//!         .filter(|n| Ok(n % 2 == 0))
//!         .map(|n| Ok((n % 10, 1u64)))
//!         .key_by(|(digit, _)| *digit)
//!         .reduce("count", |total, next| Ok(total.1 += next.1))
//!         .sink("counts", DiscardSink::new());
//!     env.execute("count even numbers")?;
//!     Ok(())
//! }
//! ```

pub mod connectors;
#[cfg(feature = "local")]
mod local;
#[cfg(doctest)]
mod pages;
mod roles;
pub mod testing;

/// Batches are allocated by one thread and freed by another, and `String`s one by one: glibc's
/// allocator makes a chain a third slower and a count of `String`s 1.6 times.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[doc(inline)]
pub use millstream_api::{
    AggregatingState, Args, AtEnd, Batch, Boundedness, BroadcastConnectedStream, BroadcastMaps,
    BroadcastProcess, BroadcastRuntimeContext, BroadcastState, ByRef, ByValue, Calendar,
    CoGroupedStreams, CollectedRecords, Collector, ConnectedStreams, Context, Counter, Data,
    Environment, Error, ErrorContext, EveryRecords, EveryStep, Evictor, EvictorContext, Expiry,
    Fire, Function, Gauge, Global, Histogram, IntervalJoined, JobClient, JobId, JobResult,
    JobStatus, JoinedStreams, KeepAfter, KeepLast, KeepNear, KeepRecent, Key, KeyHasher,
    KeySelector, KeyedBroadcastConnectedStream, KeyedBroadcastProcess, KeyedCoProcess,
    KeyedConnectedStreams, KeyedProcess, KeyedRuntimeContext, KeyedStream, LateRecords, ListState,
    MapState, NoTtl, Number, OnError, OutputTag, Process, ProcessingTime, Purging, ReducingState,
    Result, RuntimeContext, RuntimeMode, Session, Sliding, StateError, Stream, StreamSink, Timer,
    Timers, Trigger, TriggerContext, Ttl, Tumbling, ValueState, WatermarkGenerator,
    WatermarkOutput, WatermarkStrategy, Window, WindowAssigner, WindowFunction, WindowedCoGroup,
    WindowedJoin, WindowedStream, bail, ensure, error,
};
/// ```
/// use millstream::Key;
///
/// #[millstream::record]
/// #[derive(PartialEq, Eq, Key)]
/// enum Visitor {
///     Anonymous,
///     User { country: String, number: u64 },
/// }
///
/// let user = |number| Visitor::User { country: "is".to_owned(), number };
/// assert_eq!(user(7).stable_hash(), user(7).stable_hash());
/// assert_ne!(user(7).stable_hash(), Visitor::Anonymous.stable_hash());
/// ```
#[doc(inline)]
pub use millstream_macros::Key;
/// ```
/// use millstream::schema::Schema;
/// use millstream::serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, millstream::State)]
/// #[serde(crate = "millstream::serde")]
/// struct Visit {
///     #[serde(rename = "url")]
///     page: String,
///     #[serde(default)]
///     seconds: u32,
/// }
///
/// let schema = Schema::of::<Visit>().to_string();
/// assert_eq!(schema, "Visit { url: string, seconds: u32 = default }");
/// ```
#[doc(inline)]
pub use millstream_macros::State;
/// ```
/// use millstream::prelude::*;
///
/// #[millstream::main]
/// fn main(env: &mut Environment, args: Args) -> Result<()> {
///     let count = args.optional("count")?.unwrap_or(1_000);
///     env.source("numbers", Datagen::sequence(0..count)).sink("nowhere", DiscardSink::new());
///     env.execute("numbers to nowhere")?;
///     Ok(())
/// }
/// ```
#[doc(inline)]
pub use millstream_macros::main;
/// ```
/// use millstream::testing::run_on;
///
/// #[millstream::record]
/// #[derive(PartialEq)]
/// struct Visit {
///     page: String,
///     seconds: u32,
/// }
///
/// let visit = Visit { page: "home".to_owned(), seconds: 7 };
/// let long = run_on([visit.clone()], |visits| visits.filter(|visit| Ok(visit.seconds > 5)));
/// assert_eq!(long.unwrap(), [visit]);
/// ```
#[doc(inline)]
pub use millstream_macros::record;
#[doc(inline)]
pub use millstream_types::{Opaque, State, Str, schema};
#[doc(no_inline)]
pub use serde;

/// Items that most jobs use.
///
/// ```
/// use millstream::prelude::*;
///
/// /// Part of a job: how often each word came.
/// fn count(words: Stream<Str>) -> Stream<(Str, u64)> {
///     words
///         .map(|word| Ok((word, 1)))
///         .key_by_ref(|(word, _)| word)
///         .reduce("count", |total, next| Ok(total.1 += next.1))
/// }
///
/// let counts = millstream::testing::run_on(["to", "be", "to"].map(Str::from), count)?;
/// assert_eq!(counts.last(), Some(&("to".into(), 2)));
/// # Ok::<(), millstream::Error>(())
/// ```
pub mod prelude {
    #[doc(no_inline)]
    pub use crate::connectors::*;
    #[doc(no_inline)]
    pub use crate::{
        AggregatingState, Args, BroadcastMaps, BroadcastProcess, BroadcastState, Collector,
        Context, Environment, ErrorContext, Key, KeyedBroadcastProcess, KeyedCoProcess,
        KeyedProcess, KeyedRuntimeContext, LateRecords, ListState, MapState, OnError, Opaque,
        OutputTag, Process, ReducingState, Result, RuntimeContext, RuntimeMode, Session, Sliding,
        Str, Stream, Timer, Timers, Ttl, Tumbling, ValueState, WatermarkGenerator, WatermarkOutput,
        WatermarkStrategy, Window, WindowFunction, bail,
    };
}

/// Items for the expansion of our macros.
#[doc(hidden)]
pub mod __private {
    use std::process::ExitCode;

    use crate::roles::{self, BuildFunction};

    /// Finds the process's role and runs it.
    pub fn run(build: BuildFunction) -> ExitCode {
        register_file_systems();
        match roles::inherited_socket() {
            Some(socket) => roles::run_child(socket, build),
            None => run_alone(build),
        }
    }

    /// Makes known what paths may begin with.
    pub(crate) fn register_file_systems() {
        #[cfg(feature = "hdfs")]
        millstream_storage_hdfs::register(millstream_storage::FileSystems::of_process());
    }

    #[cfg(feature = "local")]
    fn run_alone(build: BuildFunction) -> ExitCode {
        crate::local::run(build)
    }

    #[cfg(not(feature = "local"))]
    fn run_alone(_build: BuildFunction) -> ExitCode {
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "this program was built without the feature `local`: give it to `millstream run`"
        );
        ExitCode::FAILURE
    }
}
