//! Operators as tasks run them, and the traits of functions that users write.
//!
//! A [`Program`] is the graph of a job and a maker for each of its operators, edges and
//! coordinators. The methods of a stream add to it; [`map()`], [`fold`] and their like make the
//! operators, each of which hides its stage. The planner takes the graph, and the task hosts their
//! operators.
//!
//! The runtime drives tasks as [`TaskBody`]s and coordinators as [`OperatorCoordinator`]s; record
//! types are hidden behind them, so that only an operator's own code is compiled per job.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests measure by the system's clock")
)]

mod aggregate;
mod ahead;
mod body;
mod broadcast;
mod collect;
mod collector;
mod connected;
mod coordinator;
mod duties;
#[cfg(test)]
mod explore;
mod flat_map;
mod fold;
mod in_flight;
mod joins;
mod keyed;
mod late;
mod map;
mod on_error;
mod order;
mod output;
mod process;
mod program;
mod rows;
mod runtime_context;
mod side;
mod sink;
mod source;
mod stage;
mod stint;
mod task;
mod watermarks;
mod windows;
pub mod writer;

pub use aggregate::{Aggregate, MapWithState, Number, Reduce, Summary, keep_better};
pub use broadcast::{
    BroadcastProcess, BroadcastRuntimeContext, KeyedBroadcastProcess, broadcast_process,
    keyed_broadcast_process,
};
pub use collect::collect;
pub use collector::Collector;
pub use connected::{KeyedCoProcess, co_flat_map, co_process};
pub use flat_map::flat_map;
pub use fold::{Emitted, Fold, fold};
pub use in_flight::InputStream;
pub use joins::{BothListed, BySide, EachPair, IntervalJoin, Sided, interval_join};
pub use keyed::{Context, KeyedProcess, keyed_process};
pub use late::LateRecords;
pub use map::map;
pub use millstream_connector::{
    Beside, CommitOrder, CommitterInfo, Counter, Error, EventMailbox, EventSender, HandedOut, Mail,
    Opening, OperatorCoordinator, Replies, Reply, Restart, Result, TakeOver, UserMetrics, bail,
    ensure, error,
};
pub use millstream_event_time::{
    Aggregated, AlignmentGroups, AtEnd, Calendar, EveryRecords, EveryStep, Evictor, EvictorContext,
    Fire, KeepAfter, KeepLast, KeepNear, KeepRecent, Listed, ProcessingTime, Purging, Reduced,
    Sliding, Summed, Trigger, TriggerContext, Tumbling, WatermarkGenerator, WatermarkOutput,
    WatermarkStrategy, Window, WindowFold,
};
pub use millstream_output_buffers::{CollectQueue, Taken};
pub use millstream_state::{ByRef, ByValue, KeySelector};
pub use on_error::OnError;
pub use order::order_by_time;
pub use output::Outputs;
pub use process::{Process, process};
pub use program::{
    Built, CoordinatorContext, CoordinatorMaker, ErasedSourceTimes, NewOperator, OperatorMaker,
    OutputMaker, Program, SourceMaker, StageMaker, TwoInputMaker, WriterMaker,
};
pub use runtime_context::{KeyedRuntimeContext, RuntimeContext};
pub use side::{OutputTag, Side};
pub use sink::{sink, sink_coordinator};
pub use source::{has_enumerator, source, source_coordinator};
pub use stage::{ErasedStage, Moment, Stage, erase, reveal};
pub use task::{InputContext, OUTPUT_BYTES, OperatorContext, Step, TaskBody, TaskContext, turn};
pub use watermarks::{assign_timestamps, watermarks_per_split};
pub use windows::{
    Evicting, Finish, Global, Session, Spans, Triggered, WindowAssigner, WindowFunction,
    WindowSettings, WithTrigger,
};
