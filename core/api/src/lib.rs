//! What users write: a build function that makes streams, and the traits of connectors.
//!
//! Users reach this crate through the facade `millstream`, whose pages have running examples. A
//! build function gets an [`Environment`], starts [`Stream`]s from sources, transforms them and
//! ends them in sinks. Nothing runs while it builds: the calls fill a [`Program`] from which the
//! planner takes the graph and the task hosts their operators.
//!
//! The runtime drives tasks as [`TaskBody`]s and coordinators as [`OperatorCoordinator`]s; record
//! types are hidden behind them, so that only an operator's own code is compiled per job.

mod args;
mod body;
mod builder;
mod connected;
mod coordinator;
mod environment;
#[cfg(test)]
mod explore;
mod key;
mod keyed_stream;
mod operators;
mod program;
mod runtime_context;
mod side;
mod stage;
mod stream;
mod task;
mod writer;

pub use args::Args;
pub use connected::{ConnectedStreams, KeyedConnectedStreams};
pub use coordinator::{OperatorCoordinator, Replies};
pub use environment::{Environment, Execution, Executor, JobClient, JobResult};
pub use key::{ByRef, ByValue, KeySelector};
pub use keyed_stream::KeyedStream;
pub use millstream_connector::{
    Batch, Boundedness, Committer, CommitterInfo, Counter, Data, Error, ErrorContext, JobId,
    NextSplit, NoCommitter, NoEnumerator, PlanContext, Polled, ReaderContext, Records, Result,
    Sink, SinkWriter, Source, SourceReader, SplitEnumerator, TimesError, WriterInfo, bail, ensure,
    error,
};
pub use millstream_graph::RuntimeMode;
pub use millstream_network::{Event, Flow};
pub use millstream_state::{ListState, MapState, StateError, ValueState};
pub use millstream_types::{JobStatus, Key, KeyHasher};
pub use operators::OnError;
pub use operators::aggregate::Number;
pub use operators::collector::Collector;
pub use operators::connected::KeyedCoProcess;
pub use operators::keyed::{Context, KeyedProcess};
pub use operators::process::Process;
pub use program::{Built, Program};
pub use runtime_context::{KeyedRuntimeContext, RuntimeContext};
pub use side::{OutputTag, Side};
pub use stage::{ErasedStage, Outputs, Stage, erase, reveal};
pub use stream::{Cloneable, Function, Stream, StreamSink};
pub use task::{
    EventMailbox, EventSender, InputChannel, InputContext, OperatorContext, Step, TaskBody,
    TaskContext, turn,
};
pub use writer::{WriterContext, sources, targets};
