//! The kinds of windows, as the methods of streams take them.

use std::time::Duration;

use millstream_event_time::{AtEnd, Trigger, WindowFold};
use millstream_state::KeySelector;

use super::functions::WindowFunction;
use super::kinds::Triggered;
use crate::Result;
use crate::late::LateRecords;
use crate::on_error::OnError;
use crate::program::StageMaker;
use crate::runtime_context::RuntimeContext;

/// The time for which windows are kept, and the fate of records that come later.
#[derive(Debug)]
pub struct WindowSettings<T> {
    /// A window is kept for so long, in event time, after the watermark has reached its end.
    pub lateness: Duration,
    /// The fate of records whose windows are no longer kept.
    pub late: LateRecords<T>,
}

/// The windows that a stream is cut into: [`Tumbling`](crate::Tumbling),
/// [`Sliding`](crate::Sliding), [`Session`](crate::Session) or [`Global`](crate::Global), or
/// windows of [`ProcessingTime`](crate::ProcessingTime).
pub trait WindowAssigner<T: Send + 'static>: Send + Sync + 'static {
    /// A sentence about lengths that no window can have.
    #[doc(hidden)]
    fn fault(&self) -> Option<String>;

    /// Whether the records must have event times.
    #[doc(hidden)]
    fn needs_times(&self) -> bool {
        true
    }

    /// The operator that makes results of the records of a key in a window.
    #[doc(hidden)]
    fn stage<S, W, P>(
        self,
        settings: WindowSettings<T>,
        on_error: OnError<T>,
        selector: S,
        fold: W,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
    ) -> StageMaker
    where
        S: KeySelector<T> + Sync,
        W: WindowFold<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, W::Value> + 'static;
}

/// Windows of which each is kept by itself, with the trigger that they have.
pub trait WithTrigger<T> {
    /// The windows.
    type Windows: Spans;
    /// The trigger.
    type Trigger: Trigger<T>;

    /// The windows and the trigger.
    #[doc(hidden)]
    fn triggered(self) -> Triggered<Self::Windows, Self::Trigger>;
}

impl<T, A: Spans> WithTrigger<T> for A {
    type Windows = A;
    type Trigger = AtEnd;

    fn triggered(self) -> Triggered<A, AtEnd> {
        Triggered { windows: self, trigger: AtEnd }
    }
}

impl<T, A: Spans, G: Trigger<T>> WithTrigger<T> for Triggered<A, G> {
    type Windows = A;
    type Trigger = G;

    fn triggered(self) -> Self {
        self
    }
}

/// Windows, each by itself, as triggers look at them.
pub trait Spans: Clone + Send + Sync + 'static {
    /// Windows of a key that touch become one.
    const MERGES: bool = false;

    /// The windows depend on the event times of records.
    const TIMED: bool = true;

    /// The windows are of processing time: the time of a record is the one at which it comes.
    const PROCESSING: bool = false;

    /// A sentence about lengths that no window can have.
    #[doc(hidden)]
    fn fault(&self) -> Option<String>;

    /// The first and the last time of each window that a time is in, as far as records can have
    /// them.
    #[doc(hidden)]
    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>);
}
