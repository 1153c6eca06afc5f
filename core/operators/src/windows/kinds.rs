//! Windows that are kept each by itself: those with a trigger or an evictor, the global one of a
//! key, and those of the calendar and of processing time.

use millstream_event_time::{
    AtEnd, Calendar, Evicted, Evictor, Folded, ProcessingTime, Trigger, WindowFold,
};
use millstream_state::KeySelector;
use millstream_types::State;

use super::assigner::{Spans, WindowAssigner, WindowSettings};
use super::functions::WindowFunction;
use crate::Result;
use crate::on_error::OnError;
use crate::program::StageMaker;
use crate::runtime_context::RuntimeContext;

/// Windows that give their results when a trigger says so. Made by `WindowedStream::trigger`.
#[derive(Debug, Clone)]
pub struct Triggered<A, G> {
    /// The windows.
    pub windows: A,
    /// The trigger.
    pub trigger: G,
}

impl<T, A, G> WindowAssigner<T> for Triggered<A, G>
where
    T: Clone + Send + 'static,
    A: Spans,
    G: Trigger<T>,
{
    fn fault(&self) -> Option<String> {
        self.windows.fault()
    }

    fn needs_times(&self) -> bool {
        A::TIMED
    }

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
        P: WindowFunction<S::Key, W::Value> + 'static,
    {
        self.stage_with(settings, on_error, selector, Folded(fold), make)
    }
}

/// Windows that give their results when a trigger says so, of the records that an evictor leaves.
/// Made by `WindowedStream::evictor`.
#[derive(Debug, Clone)]
pub struct Evicting<A, G, E> {
    /// The windows with their trigger.
    pub windows: Triggered<A, G>,
    /// The evictor.
    pub evictor: E,
}

impl<T, A, G, E> WindowAssigner<T> for Evicting<A, G, E>
where
    T: State + Clone,
    A: Spans,
    G: Trigger<T>,
    E: Evictor<T>,
{
    fn fault(&self) -> Option<String> {
        self.windows.windows.fault()
    }

    fn needs_times(&self) -> bool {
        A::TIMED
    }

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
        P: WindowFunction<S::Key, W::Value> + 'static,
    {
        let contents = Evicted::new(self.evictor, fold);
        self.windows.stage_with(settings, on_error, selector, contents, make)
    }
}

/// The one window of a key, which ends with the input: a trigger gives results before.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, EveryRecords, Global};
/// // The sum of all records so far, for every second one.
/// let sums = run_on([1, 2, 3, 4, 5], |numbers| {
///     numbers.window_all(Global).trigger(EveryRecords(2)).reduce("sums", |sum, n| Ok(*sum += n))
/// });
/// assert_eq!(sums.unwrap(), [3, 10]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Global;

impl Spans for Global {
    const TIMED: bool = false;

    fn fault(&self) -> Option<String> {
        None
    }

    fn spans(&self, _time: i64, spans: &mut Vec<(i64, i64)>) {
        spans.push((i64::MIN, i64::MAX));
    }
}

impl EachAlone for Global {}

impl Spans for Calendar {
    fn fault(&self) -> Option<String> {
        Self::fault(self)
    }

    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>) {
        spans.push(self.span(time));
    }
}

impl EachAlone for Calendar {}

impl<A: Spans> Spans for ProcessingTime<A> {
    const MERGES: bool = A::MERGES;
    const TIMED: bool = false;
    const PROCESSING: bool = true;

    fn fault(&self) -> Option<String> {
        self.windows().fault()
    }

    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>) {
        self.windows().spans(time, spans);
    }
}

impl<A: Spans> EachAlone for ProcessingTime<A> {}

/// Windows that are kept each by itself also without a trigger.
pub trait EachAlone: Spans {}

impl<T: Clone + Send + 'static, A: EachAlone> WindowAssigner<T> for A {
    fn fault(&self) -> Option<String> {
        Spans::fault(self)
    }

    fn needs_times(&self) -> bool {
        A::TIMED
    }

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
        P: WindowFunction<S::Key, W::Value> + 'static,
    {
        let windows = Triggered { windows: self, trigger: AtEnd };
        windows.stage(settings, on_error, selector, fold, make)
    }
}
