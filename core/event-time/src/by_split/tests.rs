//! Watermarks of streams and of splits, at a clock that the test moves.

use super::*;
use crate::strategy::WatermarkGenerator;

const BOUND: Duration = Duration::from_millis(10);
/// The time between two watermarks.
const INTERVAL: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(60);

/// Watermarks of a stream or source, and the events that come of them.
struct Watched {
    watermarks: Watermarks<u64>,
    now: Instant,
    pending: VecDeque<Event>,
    /// The alignment group's answers, and the last report to it.
    others: Option<Timestamp>,
    reported: Option<Option<Timestamp>>,
}

impl Watched {
    fn new(strategy: &WatermarkStrategy<u64>, batch: bool) -> Self {
        Self::begin(strategy, Begin::One, batch)
    }

    fn begin(strategy: &WatermarkStrategy<u64>, begin: Begin, batch: bool) -> Self {
        let watermarks = Watermarks::new(strategy, begin, (!batch).then_some(INTERVAL));
        let (pending, others, reported) = (VecDeque::new(), None, None);
        Self { watermarks, now: Instant::now(), pending, others, reported }
    }

    /// A source whose reader was given so many splits and names them.
    fn of_splits(strategy: &WatermarkStrategy<u64>, splits: u64) -> Self {
        let mut source = Self::begin(strategy, Begin::One, false);
        source.name(splits);
        source
    }

    fn name(&mut self, splits: u64) {
        self.add(splits);
        self.watermarks.on_named(&mut self.pending);
        self.watermarks.on_time(self.now, false, &mut self.pending);
        assert_eq!(self.pending, []);
    }

    fn add(&mut self, splits: u64) {
        self.watermarks.on_added(splits, &mut self.pending);
    }

    fn records(&mut self, times: &[i64]) {
        self.records_of(0, times);
    }

    fn records_of(&mut self, split: u64, times: &[i64]) {
        let channel = self.watermarks.channel(split).unwrap();
        self.watermarks.wake(channel, &mut self.pending);
        let records = vec![0; times.len()];
        let mut events = VecDeque::new();
        assert_eq!(self.watermarks.on_records(channel, &records, times, &mut events), times.len());
        // A split that may have to wait is asked at once.
        assert!(events.is_empty() || self.watermarks.is_aligned(), "{events:?}");
        self.pending.extend(events);
    }

    fn end(&mut self, split: u64) {
        assert!(self.watermarks.on_ended(split, &mut self.pending));
    }

    /// The events after some time, which is not before anything is due.
    fn after(&mut self, passed: Duration) -> Vec<Event> {
        self.look(passed, false)
    }

    /// The same after a time in which the output was full.
    fn after_full(&mut self, passed: Duration) -> Vec<Event> {
        self.look(passed, true)
    }

    fn look(&mut self, passed: Duration, was_full: bool) -> Vec<Event> {
        self.now += passed;
        self.watermarks.on_time(self.now, was_full, &mut self.pending);
        while let Some(report) = self.watermarks.report(self.now) {
            self.reported = Some(report);
            self.watermarks.on_others(self.others);
        }
        assert!(self.watermarks.next_time().is_none_or(|due| due > self.now));
        self.pending.drain(..).collect()
    }

    fn after_an_interval(&mut self) -> Vec<Event> {
        self.after(self.watermarks.interval)
    }

    /// The events of records that came at this moment.
    fn after_their_interval(&mut self) -> Vec<Event> {
        let mut events = self.after(Duration::ZERO);
        events.extend(self.after_an_interval());
        events
    }
}

fn watermark(millis: i64) -> Event {
    Event::Watermark(Timestamp::from_millis(millis))
}

#[test]
fn a_watermark_comes_once_an_interval_and_only_if_it_advances() {
    let mut stream = Watched::new(&WatermarkStrategy::bounded_out_of_orderness(BOUND), false);
    assert_eq!(stream.after_an_interval(), []);
    assert_eq!(stream.watermarks.next_time(), None, "nothing is due");
    stream.records(&[100, 300, 200]);
    assert_eq!(stream.after(Duration::ZERO), []);
    stream.records(&[250]);
    assert_eq!(stream.after_an_interval(), [watermark(289)]);
    stream.records(&[299]);
    assert_eq!(stream.after(Duration::ZERO), []);
    assert_eq!(stream.after_an_interval(), []);
    stream.records(&[i64::MAX]);
    assert_eq!(stream.after(Duration::ZERO), []);
    assert_eq!(stream.after_an_interval(), [watermark(i64::MAX - 11)]);
}

#[test]
fn times_at_their_limits_are_fine() {
    let mut stream = Watched::new(&WatermarkStrategy::monotonous(), false);
    for (time, expected) in [(i64::MIN, None), (i64::MIN + 2, Some(i64::MIN + 1))] {
        stream.records(&[time]);
        assert_eq!(stream.after(Duration::ZERO), []);
        let events: Vec<Event> = expected.map(watermark).into_iter().collect();
        assert_eq!(stream.after_an_interval(), events);
    }
    let mut stream = Watched::new(&WatermarkStrategy::generator(|| Always(i64::MAX)), false);
    let _ = stream.after(Duration::ZERO);
    assert_eq!(stream.after_an_interval(), [watermark(i64::MAX - 1)], "it is not the end");
}

/// Emits at the end of each interval.
struct Always(i64);

impl WatermarkGenerator<u64> for Always {
    fn on_record(&mut self, _record: &u64, _time: i64, _out: &mut WatermarkOutput) {}

    fn on_interval(&mut self, out: &mut WatermarkOutput) {
        out.emit(self.0);
        self.0 = self.0.saturating_add(1);
    }
}

#[test]
fn a_generator_is_asked_in_each_interval() {
    let mut stream = Watched::new(&WatermarkStrategy::generator(|| Always(5)), false);
    assert_eq!(stream.after(Duration::ZERO), []);
    assert_eq!(stream.after_an_interval(), [watermark(5)]);
    assert_eq!(stream.after_an_interval(), [watermark(6)]);
}

#[test]
fn a_silent_stream_is_idle_and_its_last_watermark_comes_before() {
    let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
    let mut stream = Watched::new(&strategy, false);
    assert_eq!(stream.after(Duration::ZERO), []);
    assert_eq!(stream.after(IDLE / 2), []);
    stream.records(&[5]);
    assert_eq!(stream.after(IDLE), [], "a record came");
    assert_eq!(stream.after(IDLE), [watermark(4), Event::Idle(true)]);
    assert_eq!(stream.after(IDLE), []);
    stream.records(&[6]);
    assert_eq!(stream.after_their_interval(), [Event::Idle(false), watermark(5)]);
    assert_eq!(stream.after(IDLE), [Event::Idle(true)]);
}

#[test]
fn in_batch_mode_only_the_end_says_how_far_time_has_come() {
    let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
    let mut stream = Watched::new(&strategy, true);
    stream.records(&[5]);
    assert_eq!(stream.after(IDLE), []);
    assert_eq!(stream.after(IDLE), []);
}
#[test]
fn the_split_that_is_behind_decides() {
    let mut source = Watched::of_splits(&WatermarkStrategy::monotonous(), 3);
    source.records_of(0, &[3_600_000]);
    source.records_of(1, &[10]);
    assert_eq!(source.after_their_interval(), [], "the third one has had no record");
    source.records_of(2, &[20]);
    assert_eq!(source.after_their_interval(), [watermark(9)]);
    source.records_of(1, &[30]);
    source.records_of(0, &[3_600_001]);
    assert_eq!(source.after_their_interval(), [watermark(19)]);
}

#[test]
fn a_split_that_has_ended_is_not_waited_for() {
    let mut source = Watched::of_splits(&WatermarkStrategy::monotonous(), 2);
    source.records_of(0, &[100]);
    source.records_of(1, &[10]);
    assert_eq!(source.after_their_interval(), [watermark(9)]);
    source.end(1);
    assert_eq!(source.after(Duration::ZERO), [watermark(99)]);
    source.end(0);
    assert_eq!(source.watermarks.channel(0), None, "it has ended");
    assert!(!source.watermarks.on_ended(1, &mut source.pending), "it has ended before");
    assert_eq!((source.watermarks.channel(2), source.watermarks.given()), (None, 2));
}

#[test]
fn a_split_that_comes_later_is_waited_for_and_does_not_move_the_watermark_back() {
    let mut source = Watched::of_splits(&WatermarkStrategy::monotonous(), 1);
    source.records_of(0, &[100]);
    assert_eq!(source.after_their_interval(), [watermark(99)]);
    source.add(1);
    source.records_of(0, &[200]);
    assert_eq!(source.after_their_interval(), [], "the new one has had no record");
    source.records_of(1, &[50]);
    assert_eq!(source.after_their_interval(), []);
    source.records_of(1, &[150]);
    assert_eq!(source.after_their_interval(), [watermark(149)]);
}

#[test]
fn an_idle_split_is_not_waited_for_until_it_has_records_again() {
    let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
    let mut source = Watched::of_splits(&strategy, 2);
    assert_eq!(source.after(IDLE / 2), []);
    source.records_of(0, &[100]);
    assert_eq!(source.after_their_interval(), []);
    assert_eq!(source.after(IDLE / 2), [watermark(99)], "the other one is idle");
    source.records_of(1, &[50, 60]);
    source.records_of(0, &[200]);
    assert_eq!(source.after_their_interval(), [], "it is behind");
    source.records_of(1, &[180]);
    assert_eq!(source.after_their_interval(), [watermark(179)]);
}

#[test]
fn a_source_is_idle_when_all_its_open_splits_are() {
    let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
    let mut source = Watched::of_splits(&strategy, 3);
    source.records_of(0, &[100]);
    source.records_of(1, &[50]);
    source.end(2);
    assert_eq!(source.after_their_interval(), [watermark(49)]);
    source.records_of(0, &[101]);
    assert_eq!(source.after_their_interval(), []);
    assert_eq!(source.after(IDLE - source.watermarks.interval * 2), [watermark(100)]);
    assert_eq!(source.after_an_interval(), [Event::Idle(true)]);
    assert_eq!(source.watermarks.next_time(), None);
    source.records_of(1, &[70]);
    assert_eq!(source.after_their_interval(), [Event::Idle(false)]);
    source.end(1);
    assert_eq!(source.after(Duration::ZERO), [Event::Idle(true)], "the other one still is");
}

#[test]
fn a_timeout_without_bound_is_fine() {
    let strategy = WatermarkStrategy::monotonous().idle_after(Duration::MAX);
    let mut source = Watched::of_splits(&strategy, 2);
    source.records_of(0, &[100]);
    assert_eq!(source.after_their_interval(), []);
    assert_eq!(source.after(IDLE), [], "no split is ever idle");
}

#[test]
fn a_full_output_makes_no_split_idle() {
    let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
    let mut source = Watched::of_splits(&strategy, 2);
    source.records_of(0, &[100]);
    assert_eq!(source.after_full(IDLE * 10), []);
    assert_eq!(source.after_full(IDLE * 10), [], "the other one is waited for");
    assert_eq!(source.after(IDLE), [watermark(99), Event::Idle(true)]);
}

#[test]
fn a_reader_that_waits_for_a_split_is_idle_after_an_interval() {
    let strategy = WatermarkStrategy::monotonous();
    let mut source = Watched::begin(&strategy, Begin::None, false);
    assert_eq!(source.after_their_interval(), [Event::Idle(true)]);
    for (split, time) in [(0, 100), (1, 200)] {
        source.add(1);
        source.watermarks.on_named(&mut source.pending);
        source.records_of(split, &[time]);
        assert_eq!(source.after(Duration::ZERO), [Event::Idle(false)]);
        source.end(split);
        assert_eq!(source.after(source.watermarks.interval / 2), []);
        assert_eq!(source.after(source.watermarks.interval / 2), [watermark(time - 1)]);
        assert_eq!(source.after_an_interval(), [Event::Idle(true)]);
        assert_eq!(source.watermarks.next_time(), None);
    }
}

#[test]
fn a_reader_that_soon_has_its_next_split_is_not_idle_between() {
    for strategy in [
        WatermarkStrategy::monotonous(),
        WatermarkStrategy::monotonous().idle_after(IDLE),
        WatermarkStrategy::generator(|| Always(5)),
    ] {
        let mut source = Watched::of_splits(&strategy, 1);
        let patience = strategy.idle_after.unwrap_or(source.watermarks.interval);
        for split in 0..1_000 {
            source.records_of(split, &[100]);
            source.end(split);
            let mut events = source.after(Duration::ZERO);
            events.extend(source.after(patience * 9 / 10));
            source.add(1);
            events.extend(source.after(patience * 9 / 10));
            assert!(!events.contains(&Event::Idle(true)), "split {split}: {events:?}");
        }
        assert!(source.watermarks.splits.len() <= 2, "channels are used again");
    }
}

#[test]
fn all_splits_of_a_reader_that_names_none_are_one() {
    let mut source = Watched::begin(&WatermarkStrategy::monotonous(), Begin::None, false);
    assert_eq!(source.after(Duration::ZERO), []);
    source.add(2);
    source.records(&[100]);
    assert_eq!(source.after_their_interval(), [watermark(99)]);
    source.add(1);
    source.records(&[200]);
    assert_eq!(source.after_their_interval(), [watermark(199)]);
    assert_eq!(source.after(IDLE), [], "it may have more at any time");
}

#[test]
fn a_reader_that_names_its_splits_late_has_read_the_first_one() {
    let mut source = Watched::begin(&WatermarkStrategy::monotonous(), Begin::One, false);
    source.add(2);
    source.records(&[100]);
    assert_eq!(source.after_their_interval(), [watermark(99)]);
    source.watermarks.on_named(&mut source.pending);
    source.records_of(0, &[200]);
    source.records_of(1, &[150]);
    assert_eq!(source.after_their_interval(), [watermark(149)]);
}

#[test]
fn in_batch_mode_splits_have_no_watermarks() {
    let strategy = WatermarkStrategy::monotonous().idle_after(IDLE);
    let mut source = Watched::begin(&strategy, Begin::None, true);
    source.add(2);
    source.watermarks.on_named(&mut source.pending);
    source.records_of(0, &[100]);
    source.records_of(1, &[200]);
    source.end(1);
    assert_eq!(source.after_their_interval(), []);
    assert_eq!(source.after(IDLE), []);
    assert_eq!(source.watermarks.next_time(), None);
}

/// A source of two splits in an alignment group.
fn aligned(others: Option<i64>) -> Watched {
    let strategy = WatermarkStrategy::monotonous().aligned("group", BOUND).idle_after(IDLE);
    let mut source = Watched::begin(&strategy, Begin::One, false);
    source.watermarks = source.watermarks.aligned(1);
    source.name(2);
    source.others = others.map(Timestamp::from_millis);
    assert_eq!(source.after(Duration::ZERO), []);
    assert_eq!(source.reported, Some(Some(Timestamp::MIN)));
    source
}

/// The splits that wait after another answer.
fn told(source: &mut Watched, others: Option<i64>) -> Vec<u64> {
    source.others = others.map(Timestamp::from_millis);
    source.watermarks.on_others(source.others);
    waiting(source)
}

fn waiting(source: &mut Watched) -> Vec<u64> {
    source.watermarks.align();
    source.watermarks.waiting().collect()
}

#[test]
fn a_split_waits_while_it_is_ahead_by_more_than_the_drift() {
    let mut source = aligned(None);
    assert_eq!(waiting(&mut source), [], "no split has a watermark yet");
    source.records_of(0, &[100]);
    assert_eq!(waiting(&mut source), [0], "the other one has none");
    assert!(!source.watermarks.all_wait());
    source.records_of(1, &[89]);
    source.after_their_interval();
    assert_eq!(waiting(&mut source), [0]);
    source.records_of(1, &[90]);
    source.after_their_interval();
    assert_eq!(waiting(&mut source), [], "ten milliseconds are the drift");
    assert_eq!(told(&mut source, Some(0)), [0, 1]);
    assert!(source.watermarks.all_wait());
    assert_eq!(told(&mut source, Some(1_000)), []);
    source.end(1);
    source.records_of(0, &[100_000]);
    source.after_their_interval();
    assert_eq!(waiting(&mut source), [0], "the others are behind it");
    assert_eq!(told(&mut source, None), [], "it is the only one");
}

#[test]
fn the_watermark_of_a_split_that_may_have_to_wait_does_not_wait_for_its_interval() {
    let mut source = aligned(Some(200));
    source.records_of(1, &[190]);
    source.after_their_interval();
    let mut pending = VecDeque::new();
    let channel = source.watermarks.channel(0).unwrap();
    let count = source.watermarks.on_records(channel, &[0, 0], &[100, 300], &mut pending);
    assert_eq!((count, pending), (2, VecDeque::from([watermark(189)])));
    assert_eq!(waiting(&mut source), [0]);
}

#[test]
fn a_split_that_waits_is_not_idle() {
    let mut source = aligned(Some(0));
    source.records_of(0, &[100]);
    source.records_of(1, &[100]);
    assert_eq!(source.after_their_interval(), [watermark(99)]);
    assert_eq!(waiting(&mut source), [0, 1]);
    assert_eq!(source.after(2 * IDLE), []);
    assert_eq!(told(&mut source, Some(100)), []);
    assert_eq!(source.after(IDLE - INTERVAL), []);
    assert_eq!(source.reported, Some(Some(Timestamp::from_millis(99))));
    assert_eq!(source.after(INTERVAL), [Event::Idle(true)]);
    assert_eq!(source.reported, Some(None), "it takes no part");
}

#[test]
fn in_batch_mode_no_split_waits() {
    let strategy = WatermarkStrategy::<u64>::monotonous().aligned("group", BOUND);
    let mut source = Watermarks::new(&strategy, Begin::One, None).aligned(1);
    source.align();
    assert_eq!((source.is_aligned(), source.report(Instant::now())), (false, None));
}
