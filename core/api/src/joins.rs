//! Joins of keyed streams on event time.

use std::ops::RangeInclusive;

use millstream_network::Data;
use millstream_operators::{self as operators, IntervalJoin, KeySelector, LateRecords};
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
    /// let (ads, clicks) = ([("shoes", 1_000), ("hats", 2_000)], [("hats", 4_000), ("shoes", 9_000)]);
    /// let timed = |stream: Stream<(Str, i64)>| {
    ///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time): &(Str, i64)| Ok(*time));
    ///     stream.assign_timestamps(times).key_by_ref(|(ad, _)| ad)
    /// };
    /// let events = |events: [(&'static str, i64); 2]| {
    ///     Datagen::from_fn(move |n| (Str::from(events[n as usize].0), events[n as usize].1)).count(2)
    /// };
    /// let shown = timed(env.source("ads", events(ads)));
    /// let clicked = timed(env.source("clicks", events(clicks)));
    /// let joined = CollectSink::new();
    /// shown
    ///     .interval_join(clicked, 0..=5_000)
    ///     .apply("clicked", |(ad, shown), (_, clicked)| Ok((ad.clone(), clicked - shown)))
    ///     .sink("joined", joined.clone());
    /// env.execute("join")?;
    /// assert_eq!(joined.take(), [("hats".into(), 2_000)]);
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
