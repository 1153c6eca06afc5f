//! The functions that make results of windows, and a fold that makes none.

use std::marker::PhantomData;

use millstream_event_time::{Window, WindowFold};
use millstream_network::Data;
use millstream_state::KeySelector;

use crate::Result;
use crate::collector::Collector;
use crate::fold::{Emitted, Fold};

/// A [`WindowFold`] for the loop that adds records, which gives no results.
pub(super) struct Silent<W>(pub(super) W);

impl<T, K, W: WindowFold<T>> Fold<T, K> for Silent<W> {
    type Value = W::Value;
    type Out = ();

    const REFUSES: bool = W::REFUSES;

    #[inline]
    fn first(&mut self, record: T) -> Result<W::Value> {
        self.0.first(record)
    }

    #[inline(always)]
    fn add<S: KeySelector<T, Key = K>>(
        &mut self,
        value: &mut W::Value,
        record: T,
        _selector: &S,
        _results: Emitted<'_, ()>,
    ) -> Result<()> {
        self.0.add(value, record)
    }

    fn result(_key: &K, _value: &W::Value) {}

    fn last(_key: K, _value: W::Value) {}
}

/// Makes results of a window.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// /// The middle one of the values of each second.
/// struct Median;
///
/// impl WindowFunction<(), Vec<(u32, i64)>> for Median {
///     type Out = (i64, u32);
///
///     fn process(
///         &mut self,
///         _key: (),
///         window: Window,
///         mut records: Vec<(u32, i64)>,
///         out: &mut Collector<'_, (i64, u32)>,
///     ) -> Result<()> {
///         records.sort();
///         out.emit((window.start, records[records.len() / 2].0));
///         Ok(())
///     }
/// }
///
/// let medians = run_on([(5, 0), (1, 300), (4, 600), (8, 1_000)], |readings| {
///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
///     let seconds = Tumbling::event_time(Duration::from_secs(1));
///     let keyed = readings.assign_timestamps(times).key_by(|_| ());
///     keyed.window(seconds).process("medians", |_| Ok(Median))
/// });
/// assert_eq!(medians.unwrap(), [(0, 4), (1_000, 8)]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no results of windows with keys of type `{K}` and values of type \
               `{V}`",
    note = "implement `WindowFunction<{K}, {V}>` for it"
)]
pub trait WindowFunction<K, V>: Send {
    /// The type of its results.
    type Out: Data;

    /// Called when a window gives its result, with the key, the window, and the value of all its
    /// records: when the watermark or, in processing time, the clock has reached its end, for each
    /// record that comes late and is allowed to, or when a [`Trigger`](crate::Trigger) says so.
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`](crate::OnError) says, unless a record makes a session,
    /// or a window with a trigger, give its result: that record is refused.
    fn process(
        &mut self,
        key: K,
        window: Window,
        value: V,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
}

/// A [`WindowFunction`] that makes one result by a closure.
pub struct Finish<F, O> {
    function: F,
    results: PhantomData<fn() -> O>,
}

impl<F, O> Finish<F, O> {
    /// Calls the function for each window.
    pub const fn new(function: F) -> Self {
        Self { function, results: PhantomData }
    }
}

impl<K, V, O, F> WindowFunction<K, V> for Finish<F, O>
where
    O: Data,
    F: FnMut(K, Window, V) -> Result<O> + Send,
{
    type Out = O;

    #[inline]
    fn process(
        &mut self,
        key: K,
        window: Window,
        value: V,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        out.emit((self.function)(key, window, value)?);
        Ok(())
    }
}
