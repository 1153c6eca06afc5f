//! Windows of processing time, and a plain computation of their results. All records have one key.

use std::time::{Duration, Instant};

use millstream_event_time::{Sliding, Tumbling, Window};
use millstream_network::Event;
use millstream_state::ByValue;
use millstream_types::{ManualClock, Timestamp};

use super::cases::{Operator, bad, is_bad, same, task, three, to_nobody};
use super::hosts::clock;
use super::probe::Item;
use super::stages::{Explored, Oracle, drive, outputs};
use super::windows::{results, sums};
use super::{Case, Kind};
use crate::collector::Collector;
use crate::late::LateRecords;
use crate::program::StageMaker;
use crate::windows::{Session, WindowAssigner, WindowFunction, WindowSettings};
use crate::{Result, ensure};

const SIZE: i64 = 450;
const SLIDE: i64 = 200;
const GAP: i64 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Windows {
    Tumbling,
    Sliding,
    Session,
}

impl Windows {
    fn stage(self) -> StageMaker {
        let millis = |millis: i64| Duration::from_millis(millis.cast_unsigned());
        let late = LateRecords::drop_record();
        let settings = WindowSettings { lateness: Duration::ZERO, late };
        let selector = ByValue(|_: &u64| 7u64);
        match self {
            Self::Tumbling => {
                let windows = Tumbling::processing_time(millis(SIZE)).offset_millis(7);
                windows.stage(settings, bad(), selector, sums(), |_| Ok(ByClock))
            }
            Self::Sliding => {
                let windows = Sliding::processing_time(millis(SIZE), millis(SLIDE));
                windows.stage(settings, bad(), selector, sums(), |_| Ok(ByClock))
            }
            Self::Session => {
                let windows = Session::processing_time(millis(GAP));
                windows.stage(settings, bad(), selector, sums(), |_| Ok(ByClock))
            }
        }
    }

    /// The begins and ends of the windows of a time.
    fn of(self, now: i64) -> Vec<(i64, i64)> {
        match self {
            Self::Tumbling => {
                let begin = (now - 7).div_euclid(SIZE) * SIZE + 7;
                vec![(begin, begin + SIZE)]
            }
            Self::Sliding => {
                let begins = (now - SIZE + 1..=now).filter(|begin| begin.rem_euclid(SLIDE) == 0);
                begins.map(|begin| (begin, begin + SIZE)).collect()
            }
            Self::Session => vec![(now, now + GAP)],
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    [
        ("tumbling windows of processing time", Windows::Tumbling, false),
        ("sliding windows of processing time", Windows::Sliding, false),
        ("sessions of processing time", Windows::Session, false),
        ("sessions of processing time in batch mode", Windows::Session, true),
    ]
    .map(|(name, windows, batch)| {
        let (operator, task) = (Operator::of_stage(windows.stage()), task(batch));
        let nobody = to_nobody();
        Case::new(name, move |schedule| {
            let (outputs, timed) = (outputs(schedule, 3), schedule.is_timed());
            let stage = operator.build(&task, &nobody, three(&outputs, same, timed));
            let (clock, open, watermark) = (clock(), Vec::new(), i64::MIN);
            let oracle = Box::new(Plain { windows, timed, batch, clock, open, watermark });
            drive(Explored { stage, kind: Kind::Process, outputs, oracle }, schedule)
        })
    })
    .into()
}

struct ByClock;

impl WindowFunction<u64, u64> for ByClock {
    type Out = u64;

    fn process(
        &mut self,
        key: u64,
        window: Window,
        sum: u64,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure!(key == 7, "a result of {window} has the key {key}");
        results(window.end, sum).for_each(|result| out.emit(result));
        Ok(())
    }
}

/// The windows that are open, as begin, end and the sum of the records.
struct Plain {
    windows: Windows,
    timed: bool,
    batch: bool,
    clock: ManualClock,
    open: Vec<(i64, i64, u64)>,
    watermark: i64,
}

impl Plain {
    fn now(&self) -> i64 {
        self.clock.clock().wall().as_millis()
    }

    fn fire(&mut self, until: i64, outputs: &mut [Vec<Item>]) {
        self.open.sort_by_key(|(_, end, _)| *end);
        // The earliest time that is not late.
        let time = self.timed.then_some(self.watermark.saturating_add(1));
        for (_, end, sum) in self.open.extract_if(.., |(_, end, _)| *end <= until) {
            let results = results(end, sum).map(|result| Item::Record(result).at(time));
            outputs[0].extend(results);
        }
    }
}

impl Oracle for Plain {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        if is_bad(record) {
            outputs[2].push(Item::Record(record));
            return;
        }
        for (begin, end) in self.windows.of(self.now()) {
            let is_it = |open: &mut (i64, i64, u64)| match self.windows {
                Windows::Session => open.1 >= begin,
                Windows::Tumbling | Windows::Sliding => open.1 == end,
            };
            let joined = self.open.extract_if(.., is_it);
            let one = joined.fold((begin, end, record), |one, other| {
                (one.0.min(other.0), one.1.max(other.1), one.2.wrapping_add(other.2))
            });
            self.open.push(one);
        }
    }

    fn event(&mut self, event: Event, _: &mut [Vec<Item>]) {
        if let Event::Watermark(watermark) = event {
            self.watermark = self.watermark.max(watermark.as_millis());
        }
    }

    fn on_time(&mut self, outputs: &mut [Vec<Item>]) {
        if !self.batch {
            self.fire(self.now(), outputs);
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let ends = self.open.iter().map(|(_, end, _)| *end);
        let next = ends.min().filter(|_| !self.batch)?;
        let clock = self.clock.clock();
        Some(clock.now() + Timestamp::from_millis(next).saturating_since(clock.wall()))
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        self.watermark = i64::MAX;
        self.fire(i64::MAX, outputs);
    }
}
