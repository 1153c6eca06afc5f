//! Stateful stream processing.
//!
//! A job is a program: a build function that makes streams from sources, transforms them and ends
//! them in sinks. Run by itself it runs the job in its own process; given to `millstream run` the
//! same executable runs on a cluster.
//!
//! ```
//! use millstream::prelude::*;
//!
//! # fn main() -> std::process::ExitCode { millstream::__private::run(job) }
//! // #[millstream::main] goes here
//! fn job(env: &mut Environment, _args: Args) -> Result<()> {
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

#[cfg(feature = "local")]
mod local;
#[cfg(feature = "local")]
pub mod testing;

pub use millstream_api::{
    Args, Batch, Boundedness, ByRef, ByValue, ConnectedStreams, Context, Data, Environment, Error,
    ErrorContext, Function, JobClient, JobId, JobResult, JobStatus, Key, KeyHasher, KeySelector,
    KeyedBackend, KeyedCoProcess, KeyedConnectedStreams, KeyedProcess, KeyedStream, ListState,
    MapState, OnError, OutputTag, Result, RuntimeMode, StateError, Stream, StreamSink, ValueState,
    bail, ensure, error,
};
pub use millstream_macros::{Key, main, record};
pub use millstream_types::Str;
#[doc(no_inline)]
pub use serde;

/// Sources and sinks that come with the engine, and what it takes to write others.
pub mod connectors {
    pub use millstream_api::{
        Batch, Committer, CommitterInfo, NextSplit, NoCommitter, NoEnumerator, Polled,
        ReaderContext, Sink, SinkWriter, Source, SourceReader, SplitEnumerator, WriterInfo,
    };
    pub use millstream_connectors::*;
}

/// What most jobs use.
pub mod prelude {
    pub use crate::connectors::*;
    pub use crate::{
        Args, Context, Environment, ErrorContext, KeyedBackend, KeyedCoProcess, KeyedProcess,
        ListState, MapState, OnError, OutputTag, Result, RuntimeMode, Str, Stream, ValueState,
    };
}

/// What the macros expand to.
#[doc(hidden)]
pub mod __private {
    use std::process::ExitCode;

    use millstream_runtime::BuildFunction;

    /// Finds the process's role and runs it.
    pub fn run(build: BuildFunction) -> ExitCode {
        match millstream_runtime::inherited_socket() {
            Some(socket) => millstream_runtime::run_child(socket, build),
            None => run_alone(build),
        }
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
