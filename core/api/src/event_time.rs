//! Event times and watermarks of streams.

use millstream_connector::Data;
use millstream_operators::{self as operators, LateRecords, OnError, WatermarkStrategy};

use crate::stream::Stream;

impl<T: Data> Stream<T> {
    /// Gives the records event times and the stream watermarks, in place of those that they have. A
    /// record whose time cannot be told, or is too far ahead of the clock, is refused: see
    /// [`Stream::on_error`].
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let clicks = env.source("clicks", Datagen::from_fn(|n| (n, 1_000 * n as i64)).count(9));
    /// let strategy = WatermarkStrategy::monotonous().timestamps(|(_, millis)| Ok(*millis));
    /// let timed = clicks.assign_timestamps(strategy);
    /// timed.sink("nowhere", DiscardSink::new());
    /// env.execute("clicks")?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn assign_timestamps(self, strategy: WatermarkStrategy<T>) -> Self {
        let finds_times = strategy.finds_times();
        if strategy.is_aligned() {
            self.builder.borrow_mut().add_faults([
                "assign_timestamps() has a strategy that is aligned(), but only a source can be \
                 told to wait: use watermarks_per_split() right behind source()"
                    .to_owned(),
            ]);
        }
        let stage = operators::assign_timestamps(self.on_error.clone(), strategy);
        let stream = self.operator("Timestamps/Watermarks", None, false, stage);
        stream.edit("assign_timestamps()", |node| {
            node.assigns_times = finds_times;
            node.needs_times = !finds_times;
        })
    }

    /// As [`Stream::assign_timestamps`], with watermarks for each split of the source that the
    /// stream comes from: called right behind [`Environment::source`](crate::Environment::source).
    /// A subtask's watermark is the least of those of its open splits, so that no record is late
    /// because the subtask reads another split by turns that is ahead. A split without records for
    /// [`WatermarkStrategy::idle_after`] is not waited for, nor is one that has ended. A split that
    /// comes later, as a file that is read behind another one, does not move the watermark back:
    /// its records are late if their times are earlier.
    ///
    /// A subtask that has no split is idle after `idle_after`, or after one interval of watermarks
    /// (`pipeline.auto-watermark-interval`) if that is not set.
    ///
    /// All splits of a source whose reader does not name them are one; see
    /// [`ReaderOutput::of_split`](crate::ReaderOutput::of_split). The times and watermarks are
    /// those of the source, also for other streams that were cloned from this one before.
    ///
    /// ```
    /// # use millstream::{ensure, prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// static BAD: OutputTag<(String, i64)> = OutputTag::new("bad");
    ///
    /// std::fs::write(directory.join("clicks.csv"), "page,millis\n/,2000\n/help,-1\n/,1000\n")?;
    /// let strategy = WatermarkStrategy::monotonous().timestamps(|(_, millis): &(String, i64)| {
    ///     ensure!(*millis >= 0, "a click has no time");
    ///     Ok(*millis)
    /// });
    /// let clicks = env
    ///     .source("clicks", FileSource::csv(directory))
    ///     .on_error(OnError::side_output(&BAD))
    ///     .watermarks_per_split(strategy);
    /// let (good, bad) = (CollectSink::new(), CollectSink::new());
    /// clicks.side_output(&BAD).sink("bad", bad.clone());
    /// clicks.order_by_time("in order", LateRecords::drop_record()).sink("good", good.clone());
    /// env.execute("clicks")?;
    /// assert_eq!(good.take().iter().map(|click| click.1).collect::<Vec<_>>(), [1_000, 2_000]);
    /// assert_eq!(bad.take(), [("/help".to_owned(), -1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watermarks_per_split(mut self, strategy: WatermarkStrategy<T>) -> Self {
        let on_error = std::mem::replace(&mut self.on_error, OnError::fail());
        self.builder.borrow_mut().watermarks_per_split(&self.origins, on_error, strategy);
        self
    }

    /// Keeps records until the watermark has reached their event times, and hands them on in order
    /// of time; those of one time in the order in which they came. The order is that of each
    /// subtask. In batch mode, and without watermarks, all records are kept until the end of the
    /// input. See [`LateRecords`](crate::LateRecords) for an example.
    pub fn order_by_time(self, uid: &str, late: LateRecords<T>) -> Self {
        let stage = operators::order_by_time(late);
        let stream = self.operator("Order", Some(uid.to_owned()), true, stage);
        stream.edit("order_by_time()", |node| node.needs_times = true)
    }
}
