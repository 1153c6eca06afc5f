//! The kinds of windows, as the methods of streams take them.

use std::time::Duration;

use super::functions::{WindowFold, WindowFunction};
use crate::Result;
use crate::key::KeySelector;
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
/// [`Sliding`](crate::Sliding) or [`Session`](crate::Session).
pub trait WindowAssigner: Send + Sync + 'static {
    /// A sentence about lengths that no window can have.
    #[doc(hidden)]
    fn fault(&self) -> Option<String>;

    /// The operator that makes results of the records of a key in a window.
    #[doc(hidden)]
    fn stage<T, S, W, P>(
        self,
        settings: WindowSettings<T>,
        on_error: OnError<T>,
        selector: S,
        fold: W,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
    ) -> StageMaker
    where
        T: Send + 'static,
        S: KeySelector<T> + Sync,
        W: WindowFold<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, W::Value> + 'static;
}
