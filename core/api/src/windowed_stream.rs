//! Streams that are cut into windows.

use std::cmp::Ordering;
use std::time::Duration;

use millstream_network::Data;
use millstream_operators::{
    Aggregated, ByValue, EveryRecords, Evicting, Evictor, Finish, Global, KeySelector, LateRecords,
    Listed, Number, Purging, Reduced, RuntimeContext, Spans, Summed, Trigger, Triggered, Window,
    WindowAssigner, WindowFold, WindowFunction, WindowSettings, WithTrigger, keep_better,
};
use millstream_types::State;

use crate::Result;
use crate::keyed_stream::{KeyedStream, sum_of};
use crate::stream::{Function, Stream};

/// A stream that is cut into windows, for each key of its own.
///
/// A window of event time is complete when the watermark has reached its last millisecond, which is
/// the event time of its results. A record that comes later is late, unless lateness is allowed.
/// [`ProcessingTime`](crate::ProcessingTime) says what is different in windows by the wall clock.
///
/// The records of a window may be added up in parts, which are merged in order of time: a function
/// that combines records must give the same result for any such parts.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # use std::time::Duration;
/// # let env = &mut testing::environment();
/// static LATE: OutputTag<(u32, i64)> = OutputTag::new("late");
///
/// // Each record says how far time has come.
/// struct Follow;
///
/// impl<T> WatermarkGenerator<T> for Follow {
///     fn on_record(&mut self, _: &T, time: i64, out: &mut WatermarkOutput) {
///         out.emit(time);
///     }
/// }
///
/// let readings = [(5, 100), (7, 1_100), (1, 900), (2, 3_000), (3, 200)];
/// let (sums, late) = (CollectSink::new(), CollectSink::new());
/// let stream = env
///     .source("readings", Datagen::from_fn(move |n| readings[n as usize]).count(5))
///     .assign_timestamps(WatermarkStrategy::generator(|| Follow).timestamps(|(_, t)| Ok(*t)))
///     .key_by(|_| ())
///     .window(Tumbling::event_time(Duration::from_secs(1)))
///     .allowed_lateness(Duration::from_millis(500)) // of event time
///     .late(LateRecords::side_output(&LATE))
///     .reduce_then(
///         "sums",
///         |sum, next| Ok(sum.0 += next.0),
///         |(), window, sum| Ok((window.start, sum.0)),
///     );
/// stream.side_output(&LATE).sink("late", late.clone());
/// stream.sink("collect", sums.clone());
/// env.set_runtime_mode(RuntimeMode::Streaming);
/// env.execute("sums")?;
/// // The record of time 900 comes late and makes its window's result anew.
/// assert_eq!(sums.take(), [(0, 5), (0, 6), (1_000, 7), (3_000, 2)]);
/// assert_eq!(late.take(), [(3, 200)]);
/// # Ok::<(), millstream::Error>(())
/// ```
#[must_use = "a stream that nothing reads is discarded"]
pub struct WindowedStream<T, S, A> {
    keyed: KeyedStream<T, S>,
    windows: A,
    settings: WindowSettings<T>,
    /// There is one subtask, because all records have one key.
    all: bool,
}

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// Cuts the stream of each key into windows: [`Tumbling`](crate::Tumbling),
    /// [`Sliding`](crate::Sliding) or [`Session`](crate::Session) ones. The records must have event
    /// times, unless the windows are of [`ProcessingTime`](crate::ProcessingTime).
    pub fn window<A: WindowAssigner<T>>(self, windows: A) -> WindowedStream<T, S, A> {
        self.stream.builder.borrow_mut().add_faults(windows.fault());
        let settings =
            WindowSettings { lateness: Duration::ZERO, late: LateRecords::drop_record() };
        WindowedStream { keyed: self, windows, settings, all: false }
    }
}

impl<T: Data + Clone, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// Cuts the stream of each key into windows of so many records, in the order in which they
    /// come. Records at the end of the input that are fewer have no result.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let sums = run_on([1, 2, 3, 4, 5], |numbers| {
    ///     numbers.key_by(|_| ()).count_window(2).reduce("sums", |sum, n| Ok(*sum += n))
    /// });
    /// assert_eq!(sums.unwrap(), [3, 7]);
    /// ```
    pub fn count_window(
        self,
        records: u64,
    ) -> WindowedStream<T, S, Triggered<Global, Purging<EveryRecords>>> {
        self.window(Global).trigger(Purging(EveryRecords(records)))
    }
}

impl<T: Data> Stream<T> {
    /// Cuts the stream as a whole into windows, which one subtask alone computes.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # use std::time::Duration;
    /// let sums = run_on([1, 20, 300, 1_000], |times| {
    ///     times
    ///         .assign_timestamps(WatermarkStrategy::monotonous().timestamps(|time| Ok(*time)))
    ///         .window_all(Tumbling::event_time(Duration::from_secs(1)))
    ///         .reduce("sums", |sum, next| Ok(*sum += next))
    /// });
    /// assert_eq!(sums.unwrap(), [321, 1_000]);
    /// ```
    pub fn window_all<A: WindowAssigner<T>>(
        self,
        windows: A,
    ) -> WindowedStream<T, ByValue<impl Fn(&T) + Function>, A> {
        let windowed = self.key_by(|_: &T| ()).window(windows);
        WindowedStream { all: true, ..windowed }
    }
}

impl<T: Data, S: KeySelector<T> + Sync, A: WindowAssigner<T>> WindowedStream<T, S, A> {
    /// Keeps each window for so long, in event time, after the watermark has reached its end. A
    /// record that comes meanwhile makes the window's result anew. Only windows of event time take
    /// it: a job with others is refused.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.settings.lateness = lateness;
        self
    }

    /// Lets a trigger say when windows give their results, in place of [`AtEnd`](crate::AtEnd).
    ///
    /// Each window of each key is then one by itself, also where windows overlap, and a record
    /// costs more. See [`Trigger`](crate::Trigger) for an example.
    pub fn trigger<G: Trigger<T>>(self, trigger: G) -> WindowedStream<T, S, Triggered<A, G>>
    where
        T: Clone,
        A: Spans,
    {
        let Self { keyed, windows, settings, all } = self;
        WindowedStream { keyed, windows: Triggered { windows, trigger }, settings, all }
    }

    /// Takes records out of each window when it gives its result: [`KeepLast`](crate::KeepLast),
    /// [`KeepRecent`](crate::KeepRecent), [`KeepNear`](crate::KeepNear), or an
    /// [`Evictor`] of one's own. A trigger, if there is one, is set before.
    ///
    /// Each window keeps all its records, and the functions of `reduce` and `aggregate` are called
    /// when it gives its result: an error of theirs fails the task then, if no record made the
    /// window do so. `merge` of `aggregate` is never called.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on, KeepLast};
    /// # use std::time::Duration;
    /// // The last price of each minute.
    /// let last = run_on([(5, 0), (7, 59_000), (6, 61_000)], |prices| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
    ///     let minutes = Tumbling::event_time(Duration::from_secs(60));
    ///     let windowed = prices.assign_timestamps(times).window_all(minutes);
    ///     windowed.evictor(KeepLast(1)).sum("last", |(price, _)| *price)
    /// });
    /// assert_eq!(last.unwrap(), [((), 7), ((), 6)]);
    /// ```
    pub fn evictor<E: Evictor<T>>(
        self,
        evictor: E,
    ) -> WindowedStream<T, S, Evicting<A::Windows, A::Trigger, E>>
    where
        T: State + Clone,
        A: WithTrigger<T>,
    {
        let Self { keyed, windows, settings, all } = self;
        let windows = Evicting { windows: windows.triggered(), evictor };
        WindowedStream { keyed, windows, settings, all }
    }

    /// Sets the fate of records that come when none of their windows is kept any more. They are
    /// dropped and counted if nothing else is said.
    pub fn late(mut self, late: LateRecords<T>) -> Self {
        self.settings.late = late;
        self
    }

    /// Adds the operator that makes results of the values of a fold.
    pub(crate) fn operator<W, P>(
        self,
        name: &'static str,
        uid: &str,
        fold: W,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Function,
    ) -> Stream<P::Out>
    where
        W: WindowFold<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, W::Value> + 'static,
        P::Out: Data,
    {
        let (stream, selector) = self.keyed.partitioned();
        let (on_error, needs_times) = (stream.on_error.clone(), self.windows.needs_times());
        if !needs_times && !self.settings.lateness.is_zero() {
            let fault = format!(
                "the windows of {uid:?} have a lateness, but they are not of event time, so that \
                 no record comes too late: leave allowed_lateness() out"
            );
            stream.builder.borrow_mut().add_faults(Some(fault));
        }
        let stage = self.windows.stage(self.settings, on_error, selector, fold, make);
        let stream = stream.operator(name, Some(uid.to_owned()), true, stage);
        stream.edit("window()", |node| {
            node.needs_times = needs_times;
            if self.all {
                (node.parallelism, node.max_parallelism) = (Some(1), Some(1));
            }
        })
    }

    fn finished<W, O, F>(self, name: &'static str, uid: &str, fold: W, finish: F) -> Stream<O>
    where
        W: WindowFold<T> + Clone + Sync + 'static,
        O: Data,
        F: FnMut(S::Key, Window, W::Value) -> Result<O> + Function,
    {
        self.operator(name, uid, fold, move |_| Ok(Finish::new(finish.clone())))
    }

    /// Combines the records of each key and window: `combine` adds a later record, or what later
    /// records were combined to. The results are combined records.
    pub fn reduce<F>(self, uid: &str, combine: F) -> Stream<T>
    where
        T: State + Clone,
        F: FnMut(&mut T, T) -> Result<()> + Function,
    {
        self.reduce_then(uid, combine, |_, _, record| Ok(record))
    }

    /// As [`WindowedStream::reduce`]; `finish` makes the result of the key, the window, and the
    /// combined record.
    pub fn reduce_then<O, F, R>(self, uid: &str, combine: F, finish: R) -> Stream<O>
    where
        T: State + Clone,
        O: Data,
        F: FnMut(&mut T, T) -> Result<()> + Function,
        R: FnMut(S::Key, Window, T) -> Result<O> + Function,
    {
        self.finished("Window Reduce", uid, Reduced(combine), finish)
    }

    /// Adds the records of each key and window to a value of another type, which `init` makes;
    /// `merge` adds the value of later records to one. `finish` makes the result of the key, the
    /// window, and the value.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # use std::time::Duration;
    /// let means = run_on([(1.0, 0), (2.0, 700), (6.0, 1_500)], |readings| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
    ///     let seconds = Tumbling::event_time(Duration::from_secs(1));
    ///     readings.assign_timestamps(times).key_by(|_| ()).window(seconds).aggregate(
    ///         "means",
    ///         || (0.0, 0u32),
    ///         |(sum, count), (value, _)| {
    ///             *sum += value;
    ///             *count += 1;
    ///             Ok(())
    ///         },
    ///         |(sum, count), later| {
    ///             *sum += later.0;
    ///             *count += later.1;
    ///             Ok(())
    ///         },
    ///         |(), window, (sum, count)| Ok((window.start, sum / f64::from(count))),
    ///     )
    /// });
    /// assert_eq!(means.unwrap(), [(0, 1.5), (1_000, 6.0)]);
    /// ```
    pub fn aggregate<V, O, N, F, M, R>(
        self,
        uid: &str,
        init: N,
        add: F,
        merge: M,
        finish: R,
    ) -> Stream<O>
    where
        V: State + Clone,
        O: Data,
        N: Fn() -> V + Function,
        F: FnMut(&mut V, T) -> Result<()> + Function,
        M: FnMut(&mut V, V) -> Result<()> + Function,
        R: FnMut(S::Key, Window, V) -> Result<O> + Function,
    {
        self.finished("Window Aggregate", uid, Aggregated { init, add, merge }, finish)
    }

    /// Counts the records of each key and window. See [`Tumbling`](crate::Tumbling) for an example.
    pub fn count(self, uid: &str) -> Stream<(S::Key, u64)>
    where
        S::Key: Data,
    {
        let add = |count: &mut u64, _: &T| {
            *count += 1;
            Ok(())
        };
        let merge = |count: &mut u64, later| {
            *count += later;
            Ok(())
        };
        let fold = Summed { first: |_: &T| Ok(1), add, merge };
        self.finished("Window Count", uid, fold, |key, _, count| Ok((key, count)))
    }

    /// Adds up a number of the records of each key and window. A sum of integers that its type
    /// cannot hold is an error: of the record that makes it, or, if parts of a window are too large
    /// together, of the task.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # use std::time::Duration;
    /// let sums = run_on([(1, 0), (2, 700), (6, 1_500)], |readings| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
    ///     let seconds = Tumbling::event_time(Duration::from_secs(1));
    ///     let keyed = readings.assign_timestamps(times).key_by(|(value, _)| value % 2);
    ///     keyed.window(seconds).sum("sums", |(value, _)| *value)
    /// });
    /// let mut sums = sums.unwrap();
    /// sums.sort();
    /// assert_eq!(sums, [(0, 2), (0, 6), (1, 1)]);
    /// ```
    pub fn sum<N, F>(self, uid: &str, number: F) -> Stream<(S::Key, N)>
    where
        S::Key: Data,
        N: Number + Data,
        F: Fn(&T) -> N + Function,
    {
        let first = number.clone();
        let first = move |record: &T| Ok(first(record));
        let add = move |value: &mut N, record: &T| {
            *value = sum_of(*value, number(record))?;
            Ok(())
        };
        let merge = move |value: &mut N, later: N| {
            *value = sum_of(*value, later)?;
            Ok(())
        };
        let fold = Summed { first, add, merge };
        self.finished("Window Sum", uid, fold, |key, _, sum| Ok((key, sum)))
    }

    /// The smallest value of the records of each key and window. A value that compares with
    /// nothing, like a NaN, gives way to any other.
    pub fn min<V, F>(self, uid: &str, value: F) -> Stream<(S::Key, V)>
    where
        S::Key: Data,
        V: PartialOrd + Clone + Data + State,
        F: Fn(&T) -> V + Function,
    {
        self.best("Window Min", uid, Ordering::Less, value)
    }

    /// The largest value of the records of each key and window; see [`WindowedStream::min`], and
    /// [`Sliding`](crate::Sliding) for an example.
    pub fn max<V, F>(self, uid: &str, value: F) -> Stream<(S::Key, V)>
    where
        S::Key: Data,
        V: PartialOrd + Clone + Data + State,
        F: Fn(&T) -> V + Function,
    {
        self.best("Window Max", uid, Ordering::Greater, value)
    }

    fn best<V, F>(
        self,
        name: &'static str,
        uid: &str,
        better: Ordering,
        value: F,
    ) -> Stream<(S::Key, V)>
    where
        S::Key: Data,
        V: PartialOrd + Clone + Data + State,
        F: Fn(&T) -> V + Function,
    {
        let first = value.clone();
        let first = move |record: &T| Ok(first(record));
        let add = move |best: &mut V, record: &T| {
            keep_better(best, value(record), better);
            Ok(())
        };
        let merge = move |best: &mut V, later| {
            keep_better(best, later, better);
            Ok(())
        };
        self.finished(name, uid, Summed { first, add, merge }, |key, _, best| Ok((key, best)))
    }

    /// Keeps the records of each key and window, and calls a function with all of them; `make`
    /// makes one instance per subtask. See [`WindowFunction`](crate::WindowFunction) for an
    /// example. `reduce` and `aggregate` keep one value instead.
    pub fn process<P, F>(self, uid: &str, make: F) -> Stream<P::Out>
    where
        T: State + Clone,
        P: WindowFunction<S::Key, Vec<T>> + 'static,
        P::Out: Data,
        F: Fn(&RuntimeContext<'_>) -> Result<P> + Function,
    {
        self.operator("Window Process", uid, Listed, make)
    }
}
