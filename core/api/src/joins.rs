//! Joins of keyed streams on event time.

use std::ops::RangeInclusive;
use std::time::Duration;

use millstream_network::Data;
use millstream_operators::{
    self as operators, BothListed, BySide, EachPair, Finish, IntervalJoin, KeySelector,
    LateRecords, RuntimeContext, Sided, Window, WindowAssigner, WindowFunction,
};
use millstream_types::State;

use crate::Result;
use crate::connected::two_inputs;
use crate::keyed_stream::KeyedStream;
use crate::stream::{Function, Stream};

/// Two keyed streams whose records are joined if their event times are near each other; see
/// [`KeyedStream::interval_join`].
#[must_use = "streams that nothing reads are discarded"]
pub struct IntervalJoined<A, B, S, U> {
    left: KeyedStream<A, S>,
    right: KeyedStream<B, U>,
    rules: IntervalJoin<A, B>,
}

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// Joins the records of this stream, the left one, with those of another stream of the same key
    /// whose event times are in an interval around theirs, in milliseconds: `0..=60_000` are the
    /// records of the minute that begins with the left record, `-5_000..=0` those of the five
    /// seconds before it. Both bounds are in the interval. Both streams must have event times.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let timed = |stream: Stream<(Str, i64)>| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|(_, at): &(Str, i64)| Ok(*at));
    ///     stream.assign_timestamps(times).key_by_ref(|(ad, _)| ad)
    /// };
    /// let events = |times: [i64; 2]| {
    ///     let event = move |n| (Str::from(["hats", "shoes"][n as usize]), times[n as usize]);
    ///     Datagen::from_fn(event).count(2)
    /// };
    /// let shown = timed(env.source("ads", events([1_000, 2_000])));
    /// let clicked = timed(env.source("clicks", events([4_000, 9_000])));
    /// let joined = CollectSink::new();
    /// shown
    ///     .interval_join(clicked, 0..=5_000)
    ///     .apply("clicked", |(ad, shown), (_, clicked)| Ok((ad.clone(), clicked - shown)))
    ///     .sink("joined", joined.clone());
    /// env.execute("join")?;
    /// assert_eq!(joined.take(), [("hats".into(), 3_000)]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn interval_join<B, U>(
        self,
        right: KeyedStream<B, U>,
        later_millis: RangeInclusive<i64>,
    ) -> IntervalJoined<T, B, S, U>
    where
        B: Data,
        U: KeySelector<B, Key = S::Key> + Sync,
    {
        let (late_left, late_right) = (LateRecords::drop_record(), LateRecords::drop_record());
        let rules = IntervalJoin { later: later_millis, late_left, late_right };
        self.stream.builder.borrow_mut().add_faults(rules.fault());
        IntervalJoined { left: self, right, rules }
    }
}

impl<A, B, S, U> IntervalJoined<A, B, S, U>
where
    A: Data + State,
    B: Data + State,
    S: KeySelector<A> + Sync,
    U: KeySelector<B, Key = S::Key> + Sync,
{
    /// Sets the fate of left records that come when the watermark of both streams has reached their
    /// times. They are dropped and counted if nothing else is said.
    pub fn late_left(mut self, late: LateRecords<A>) -> Self {
        self.rules.late_left = late;
        self
    }

    /// Sets the fate of right records, as [`IntervalJoined::late_left`] that of left ones.
    pub fn late_right(mut self, late: LateRecords<B>) -> Self {
        self.rules.late_right = late;
        self
    }

    /// Makes a result of each pair, as soon as both of its records are there. Its event time is the
    /// later one of the two.
    ///
    /// If the function returns `Err`, the record that came last is refused, and is joined with no
    /// other: `on_error` of its stream, called before `interval_join`, says what happens to it.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// // The rises of a price within a second.
    /// let rises = run_on([(5, 0), (7, 400), (6, 1_300), (8, 9_000)], |prices| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
    ///     let prices = prices.assign_timestamps(times);
    ///     let (before, after) = (prices.clone().key_by(|_| ()), prices.key_by(|_| ()));
    ///     before.interval_join(after, 1..=1_000).apply("rises", |(b, _), (a, _)| Ok(a - b))
    /// });
    /// let mut rises: Vec<i32> = rises.unwrap();
    /// rises.sort();
    /// assert_eq!(rises, [-1, 2]);
    /// ```
    pub fn apply<O, F>(self, uid: &str, pair: F) -> Stream<O>
    where
        O: Data,
        F: FnMut(&A, &B) -> Result<O> + Function,
    {
        let Self { left, right, rules } = self;
        let ((left, left_key), (right, right_key)) = (left.partitioned(), right.partitioned());
        let joined =
            two_inputs((left, right), ("Interval Join", Some(uid.to_owned())), |on_error| {
                operators::interval_join(rules, on_error, (left_key, right_key), pair)
            });
        joined.edit("interval_join()", |node| node.needs_times = true)
    }
}

/// Two keyed streams that are joined in windows; see [`KeyedStream::join`].
#[must_use = "streams that nothing reads are discarded"]
pub struct JoinedStreams<A, B, S, U> {
    left: KeyedStream<A, S>,
    right: KeyedStream<B, U>,
}

/// Two keyed streams that are grouped together in windows; see [`KeyedStream::co_group`].
#[must_use = "streams that nothing reads are discarded"]
pub struct CoGroupedStreams<A, B, S, U> {
    left: KeyedStream<A, S>,
    right: KeyedStream<B, U>,
}

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// Joins the records of this stream, the left one, with those of another stream of the same key
    /// that are in the same windows. Both streams must have event times.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # use std::time::Duration;
    /// // Pairs of an even and an odd number in one window of ten.
    /// let pairs = run_on([1, 2, 4, 11, 13, 16, 25], |numbers| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|n| Ok(*n));
    ///     let numbers = numbers.assign_timestamps(times);
    ///     let even = numbers.clone().filter(|n| Ok(n % 2 == 0)).key_by(|_| ());
    ///     even.join(numbers.filter(|n| Ok(n % 2 == 1)).key_by(|_| ()))
    ///         .window(Tumbling::event_time(Duration::from_millis(10)))
    ///         .apply("pairs", |even, odd| Ok((*even, *odd)))
    /// });
    /// let mut pairs = pairs.unwrap();
    /// pairs.sort();
    /// assert_eq!(pairs, [(2, 1), (4, 1), (16, 11), (16, 13)]);
    /// ```
    pub fn join<B, U>(self, right: KeyedStream<B, U>) -> JoinedStreams<T, B, S, U>
    where
        B: Data,
        U: KeySelector<B, Key = S::Key> + Sync,
    {
        JoinedStreams { left: self, right }
    }

    /// Brings the records of this stream, the left one, together with those of another stream of
    /// the same key that are in the same windows: one side of a window may have no record. Both
    /// streams must have event times.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # use std::time::Duration;
    /// // How many even and odd numbers each ten have.
    /// let counts = run_on([1, 2, 4, 11, 13, 16, 25], |numbers| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|n| Ok(*n));
    ///     let numbers = numbers.assign_timestamps(times);
    ///     let even = numbers.clone().filter(|n| Ok(n % 2 == 0)).key_by(|_| ());
    ///     even.co_group(numbers.filter(|n| Ok(n % 2 == 1)).key_by(|_| ()))
    ///         .window(Tumbling::event_time(Duration::from_millis(10)))
    ///         .apply("counts", |(), ten, even, odd| Ok((ten.start, even.len(), odd.len())))
    /// });
    /// assert_eq!(counts.unwrap(), [(0, 2, 1), (10, 1, 2), (20, 0, 1)]);
    /// ```
    pub fn co_group<B, U>(self, right: KeyedStream<B, U>) -> CoGroupedStreams<T, B, S, U>
    where
        B: Data,
        U: KeySelector<B, Key = S::Key> + Sync,
    {
        CoGroupedStreams { left: self, right }
    }
}

impl<A: Data, B: Data, S, U> JoinedStreams<A, B, S, U> {
    /// Cuts both streams into windows: [`Tumbling`](crate::Tumbling), [`Sliding`](crate::Sliding)
    /// or [`Session`](crate::Session) ones, whose sessions are those of both streams together.
    pub fn window<W>(self, windows: W) -> WindowedJoin<A, B, S, U, W>
    where
        W: WindowAssigner<Sided<A, B>>,
    {
        WindowedJoin(Windowed::new(self.left, self.right, windows))
    }
}

impl<A: Data, B: Data, S, U> CoGroupedStreams<A, B, S, U> {
    /// Cuts both streams into windows: [`Tumbling`](crate::Tumbling), [`Sliding`](crate::Sliding)
    /// or [`Session`](crate::Session) ones, whose sessions are those of both streams together.
    pub fn window<W>(self, windows: W) -> WindowedCoGroup<A, B, S, U, W>
    where
        W: WindowAssigner<Sided<A, B>>,
    {
        WindowedCoGroup(Windowed::new(self.left, self.right, windows))
    }
}

/// Two keyed streams in windows.
struct Windowed<A, B, S, U, W> {
    left: KeyedStream<A, S>,
    right: KeyedStream<B, U>,
    windows: W,
    lateness: Duration,
    late_left: LateRecords<A>,
    late_right: LateRecords<B>,
}

impl<A, B, S, U, W> Windowed<A, B, S, U, W> {
    const fn new(left: KeyedStream<A, S>, right: KeyedStream<B, U>, windows: W) -> Self {
        let (late_left, late_right) = (LateRecords::drop_record(), LateRecords::drop_record());
        Self { left, right, windows, lateness: Duration::ZERO, late_left, late_right }
    }

    fn operator<P>(
        self,
        name: &'static str,
        uid: &str,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Function,
    ) -> Stream<P::Out>
    where
        A: Data + State + Clone,
        B: Data + State + Clone,
        S: KeySelector<A> + Sync,
        U: KeySelector<B, Key = S::Key> + Sync,
        W: WindowAssigner<Sided<A, B>>,
        P: WindowFunction<S::Key, (Vec<A>, Vec<B>)> + 'static,
        P::Out: Data,
    {
        let selector = BySide(self.left.selector, self.right.selector);
        let left = sided(self.left.stream, "Left", |record| Ok(Sided::Left(record)));
        let right = sided(self.right.stream, "Right", |record| Ok(Sided::Right(record)));
        KeyedStream { stream: left.union(right), selector }
            .window(self.windows)
            .allowed_lateness(self.lateness)
            .late(Sided::late(self.late_left, self.late_right))
            .operator(name, uid, BothListed, make)
    }
}

/// The records of a stream with their side, made where the records come from.
fn sided<T: Data, A: Data, B: Data>(
    stream: Stream<T>,
    name: &str,
    side: impl FnMut(T) -> Result<Sided<A, B>> + Function,
) -> Stream<Sided<A, B>> {
    let parallelism = stream.parallelism_of_origin();
    let sided = stream.map(side).name(name);
    match parallelism {
        Some(parallelism) => sided.parallelism(parallelism),
        None => sided,
    }
}

/// Two keyed streams whose records are joined if they are in one window; see
/// [`KeyedStream::join`].
#[must_use = "streams that nothing reads are discarded"]
pub struct WindowedJoin<A, B, S, U, W>(Windowed<A, B, S, U, W>);

/// Two keyed streams whose records in one window come together; see [`KeyedStream::co_group`].
#[must_use = "streams that nothing reads are discarded"]
pub struct WindowedCoGroup<A, B, S, U, W>(Windowed<A, B, S, U, W>);

macro_rules! settings {
    ($name:ident) => {
        impl<A, B, S, U, W> $name<A, B, S, U, W> {
            /// Keeps each window for so long, in event time, after the watermark has reached its
            /// end. A record that comes meanwhile makes all results of the window anew.
            pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
                self.0.lateness = lateness;
                self
            }

            /// Sets the fate of left records that come when none of their windows is kept any more.
            /// They are dropped and counted if nothing else is said.
            pub fn late_left(mut self, late: LateRecords<A>) -> Self {
                self.0.late_left = late;
                self
            }

            /// Sets the fate of right records that come when none of their windows is kept any
            /// more. They are dropped and counted if nothing else is said.
            pub fn late_right(mut self, late: LateRecords<B>) -> Self {
                self.0.late_right = late;
                self
            }
        }
    };
}

settings!(WindowedJoin);
settings!(WindowedCoGroup);

impl<A, B, S, U, W> WindowedJoin<A, B, S, U, W>
where
    A: Data + State + Clone,
    B: Data + State + Clone,
    S: KeySelector<A> + Sync,
    U: KeySelector<B, Key = S::Key> + Sync,
    W: WindowAssigner<Sided<A, B>>,
{
    /// Makes a result of each pair of a left and a right record of one key and window, when the
    /// watermark has reached the window's last millisecond, which is the results' event time. An
    /// error of the function fails the job, whatever `on_error` says. See [`KeyedStream::join`]
    /// for an example.
    pub fn apply<O, F>(self, uid: &str, pair: F) -> Stream<O>
    where
        O: Data,
        F: FnMut(&A, &B) -> Result<O> + Function,
    {
        self.0.operator("Window Join", uid, move |_| Ok(EachPair::new(pair.clone())))
    }
}

impl<A, B, S, U, W> WindowedCoGroup<A, B, S, U, W>
where
    A: Data + State + Clone,
    B: Data + State + Clone,
    S: KeySelector<A> + Sync,
    U: KeySelector<B, Key = S::Key> + Sync,
    W: WindowAssigner<Sided<A, B>>,
{
    /// Makes a result of each key and window with all its left and right records, when the
    /// watermark has reached the window's last millisecond, which is the result's event time. An
    /// error of the function fails the job, whatever `on_error` says. See
    /// [`KeyedStream::co_group`] for an example.
    pub fn apply<O, F>(self, uid: &str, group: F) -> Stream<O>
    where
        O: Data,
        F: FnMut(S::Key, Window, Vec<A>, Vec<B>) -> Result<O> + Function,
    {
        self.0.operator("Co-Group", uid, move |_| {
            let mut group = group.clone();
            Ok(Finish::new(move |key, window, (lefts, rights)| group(key, window, lefts, rights)))
        })
    }

    /// As [`WindowedCoGroup::apply`] with any number of results: calls a function with the key, the
    /// window, and all its left and right records; `make` makes one instance per subtask.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # use std::time::Duration;
    /// /// The left records of windows that have no right one.
    /// struct Alone;
    ///
    /// impl WindowFunction<(), (Vec<i64>, Vec<i64>)> for Alone {
    ///     type Out = i64;
    ///
    ///     fn process(
    ///         &mut self,
    ///         _key: (),
    ///         _window: Window,
    ///         (lefts, rights): (Vec<i64>, Vec<i64>),
    ///         out: &mut Collector<'_, i64>,
    ///     ) -> Result<()> {
    ///         if rights.is_empty() {
    ///             lefts.into_iter().for_each(|left| out.emit(left));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let alone = run_on([1, 2, 14, 16, 25], |numbers| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|n| Ok(*n));
    ///     let numbers = numbers.assign_timestamps(times);
    ///     let even = numbers.clone().filter(|n| Ok(n % 2 == 0)).key_by(|_| ());
    ///     even.co_group(numbers.filter(|n| Ok(n % 2 == 1)).key_by(|_| ()))
    ///         .window(Tumbling::event_time(Duration::from_millis(10)))
    ///         .process("alone", |_| Ok(Alone))
    /// });
    /// assert_eq!(alone.unwrap(), [14, 16]);
    /// ```
    pub fn process<P, F>(self, uid: &str, make: F) -> Stream<P::Out>
    where
        P: WindowFunction<S::Key, (Vec<A>, Vec<B>)> + 'static,
        P::Out: Data,
        F: Fn(&RuntimeContext<'_>) -> Result<P> + Function,
    {
        self.0.operator("Co-Group", uid, make)
    }
}
