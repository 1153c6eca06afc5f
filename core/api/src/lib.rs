//! The API of jobs: build functions that make streams.
//!
//! Users reach this crate through the facade `millstream`, whose pages have running examples. A
//! build function gets an [`Environment`], starts [`Stream`]s from sources, transforms them and
//! ends them in sinks. Nothing runs while it builds: the calls fill a [`Program`] from which the
//! planner takes the graph and the task hosts their operators.

mod args;
mod broadcast;
mod builder;
mod connected;
mod environment;
mod event_time;
mod job;
mod joins;
mod keyed_stream;
mod stream;
mod windowed_stream;

pub use args::Args;
pub use broadcast::{BroadcastConnectedStream, KeyedBroadcastConnectedStream};
pub use connected::{ConnectedStreams, KeyedConnectedStreams};
pub use environment::{CollectedRecords, Environment, Execution, Executor};
pub use job::{JobClient, JobHandle, JobResult};
pub use joins::{CoGroupedStreams, IntervalJoined, JoinedStreams, WindowedCoGroup, WindowedJoin};
pub use keyed_stream::KeyedStream;
pub use millstream_connector::{
    AttemptId, Batch, Blocks, Boundedness, CheckpointId, Committer, CommitterInfo, Counter, Data,
    Error, ErrorContext, Flow, Gauge, Histogram, JobId, NextSplit, NoCommitter, NoEnumerator,
    OperatorId, PlanContext, Polled, ReaderContext, ReaderOutput, Records, Result, Sink,
    SinkWriter, Source, SourceReader, SplitEnumerator, TimesError, UserMetrics, WriterInfo, bail,
    conformance, ensure, error,
};
pub use millstream_graph::RuntimeMode;
pub use millstream_network::Event;
pub use millstream_operators::{
    AtEnd, BroadcastProcess, BroadcastRuntimeContext, ByRef, ByValue, Calendar, Collector, Context,
    EveryRecords, EveryStep, Evicting, Evictor, EvictorContext, Fire, Global, KeepAfter, KeepLast,
    KeepNear, KeepRecent, KeySelector, KeyedBroadcastProcess, KeyedCoProcess, KeyedProcess,
    KeyedRuntimeContext, LateRecords, Number, OnError, OutputTag, Process, ProcessingTime, Program,
    Purging, RuntimeContext, Session, Sided, Sliding, Spans, Trigger, TriggerContext, Triggered,
    Tumbling, WatermarkGenerator, WatermarkOutput, WatermarkStrategy, Window, WindowAssigner,
    WindowFunction,
};
pub use millstream_state::{
    AggregatingState, BroadcastMaps, BroadcastState, Expiry, ListState, MapState, NoTtl,
    ReducingState, StateError, Timer, Timers, Ttl, ValueState, WithTtl,
};
pub use millstream_types::{JobStatus, Key, KeyHasher};
pub use stream::{Cloneable, Function, Stream, StreamSink};
pub use windowed_stream::WindowedStream;
