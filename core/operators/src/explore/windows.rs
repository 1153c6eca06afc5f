//! Windows, and a plain computation of their results. All records have one key: the order of the
//! results of several is not told.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_event_time::{Aggregated, Sliding, Tumbling, Window, WindowFold};
use millstream_network::{Batch, Event, Flow};
use millstream_state::ByValue;

use super::cases::{Operator, SIDE, bad, is_bad, refuse_bad, same, task, three, to_nobody};
use super::mutants::{Hidden, Mutant};
use super::probe::Item;
use super::stages::{Explored, Oracle, drive, outputs};
use super::{Case, Kind, roll, time_of};
use crate::collector::Collector;
use crate::late::LateRecords;
use crate::stage::Stage;
use crate::windows::{Session, WindowAssigner, WindowFunction, WindowSettings};
use crate::{Result, ensure};

pub(super) const SIZE: i64 = 45;
pub(super) const LATENESS: i64 = 30;
/// The gap between sessions: records of a schedule are few.
const GAP: i64 = 60;

pub(super) fn cases() -> Vec<Case> {
    [
        ("tumbling windows", SIZE, 0),
        ("sliding windows", 20, 0),
        ("tumbling windows that are kept", SIZE, LATENESS),
        ("sliding windows that are kept", 20, LATENESS),
    ]
    .map(|(name, slide, lateness)| {
        let millis = |millis: i64| Duration::from_millis(millis.cast_unsigned());
        let late = LateRecords::side_output(&SIDE);
        let settings = WindowSettings { lateness: millis(lateness), late };
        let selector = ByValue(|_: &u64| 7u64);
        let stage = if slide == SIZE {
            let windows = Tumbling::event_time(millis(SIZE));
            windows.stage(settings, bad(), selector, sums(), |_| Ok(Repeated))
        } else {
            let windows = Sliding::event_time(millis(SIZE), millis(slide));
            windows.stage(settings, bad(), selector, sums(), |_| Ok(Repeated))
        };
        let (operator, task, nobody) = (Operator::of_stage(stage), task(false), to_nobody());
        Case::new(name, move |schedule| {
            let outputs = outputs(schedule, 3);
            let windows = operator.build(&task, &nobody, three(&outputs, same, true));
            let mut stage = Box::new(Mutant::of(Hidden(windows)));
            stage.push = push_near;
            let (windows, watermark) = (BTreeMap::new(), i64::MIN);
            let oracle = Box::new(Plain { slide, lateness, windows, watermark });
            drive(Explored { stage, kind: Kind::Window, outputs, oracle }, schedule)
        })
    })
    .into()
}

/// Sessions, of which some are kept.
pub(super) fn sessions() -> Vec<Case> {
    [("sessions", 0), ("sessions that are kept", LATENESS)]
        .map(|(name, lateness)| {
            let millis = |millis: i64| Duration::from_millis(millis.cast_unsigned());
            let late = LateRecords::side_output(&SIDE);
            let settings = WindowSettings { lateness: millis(lateness), late };
            let (windows, selector) = (Session::event_time(millis(GAP)), ByValue(|_: &u64| 7u64));
            let stage = windows.stage(settings, bad(), selector, sums(), |_| Ok(Repeated));
            let (operator, task, nobody) = (Operator::of_stage(stage), task(false), to_nobody());
            Case::new(name, move |schedule| {
                let outputs = outputs(schedule, 3);
                let windows = operator.build(&task, &nobody, three(&outputs, same, true));
                let mut stage = Box::new(Mutant::of(Hidden(windows)));
                stage.push = push_near;
                let (sessions, watermark) = (Vec::new(), i64::MIN);
                let oracle = Box::new(PlainSessions { lateness, sessions, watermark });
                drive(Explored { stage, kind: Kind::Process, outputs, oracle }, schedule)
            })
        })
        .into()
}

/// The sum of records, of which bad ones are refused after they were added.
pub(super) fn sums() -> impl WindowFold<u64, Value = u64> + Clone + Sync + 'static {
    Aggregated {
        init: || 0u64,
        add: |sum: &mut u64, record| {
            *sum = sum.wrapping_add(record);
            refuse_bad(record).map(|_| ())
        },
        merge: |sum: &mut u64, later| {
            *sum = sum.wrapping_add(later);
            Ok(())
        },
    }
}

/// The time of a record that watermarks of schedules may reach.
pub(super) const fn near(time: i64) -> i64 {
    time % 1_100
}

pub(super) fn push_near(stage: &mut Hidden, batch: Batch<u64>) -> Result<Flow> {
    let (records, _) = batch.into_parts();
    let times = records.iter().map(|record| near(time_of(*record))).collect();
    stage.push(Batch::timed(records, times)?)
}

/// The results of a window: mostly one, seldom none or more than a batch.
pub(super) fn results(end: i64, sum: u64) -> impl Iterator<Item = u64> {
    let count = match roll(sum ^ end.cast_unsigned(), 51, 60) {
        0 => 1_200,
        1 => 0,
        _ => 1,
    };
    (0..count).map(move |number| sum.wrapping_mul(31).wrapping_add(number))
}

pub(super) struct Repeated;

impl WindowFunction<u64, u64> for Repeated {
    type Out = u64;

    fn process(
        &mut self,
        key: u64,
        window: Window,
        sum: u64,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure!(key == 7 && out.timestamp() == Some(window.end - 1), "{window}");
        results(window.end, sum).for_each(|result| out.emit(result));
        Ok(())
    }
}

/// All windows by their ends, with the sums of their records.
pub(super) struct Plain {
    slide: i64,
    lateness: i64,
    windows: BTreeMap<i64, (u64, bool)>,
    watermark: i64,
}

impl Plain {
    pub(super) fn fire(end: i64, sum: u64, outputs: &mut [Vec<Item>]) {
        outputs[0].extend(results(end, sum).map(|result| Item::Timed(result, end - 1)));
    }

    fn reach(&mut self, watermark: i64, outputs: &mut [Vec<Item>]) {
        self.watermark = self.watermark.max(watermark);
        for (end, (sum, fired)) in &mut self.windows {
            if *end - 1 <= self.watermark && !std::mem::replace(fired, true) {
                Self::fire(*end, *sum, outputs);
            }
        }
        let (lateness, watermark) = (self.lateness, self.watermark);
        self.windows.retain(|end, _| end - 1 + lateness > watermark);
    }
}

impl Oracle for Plain {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        let time = near(time_of(record));
        let first = time.div_euclid(self.slide) * self.slide + SIZE;
        let ends = std::iter::successors(Some(first), |end| Some(end - self.slide));
        let ends = ends.take_while(|end| *end > time);
        let mut kept: Vec<i64> =
            ends.filter(|end| end - 1 + self.lateness > self.watermark).collect();
        kept.reverse();
        if kept.is_empty() {
            outputs[1].push(Item::Timed(record, time));
            return;
        }
        if is_bad(record) {
            outputs[2].push(Item::Timed(record, time));
            return;
        }
        for end in kept {
            let is_due = end - 1 <= self.watermark;
            let (sum, _) = self.windows.entry(end).or_insert((0, is_due));
            *sum = sum.wrapping_add(record);
            if is_due {
                Self::fire(end, *sum, outputs);
            }
        }
    }

    fn event(&mut self, event: Event, outputs: &mut [Vec<Item>]) {
        if let Event::Watermark(watermark) = event {
            self.reach(watermark.as_millis(), outputs);
        }
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        self.reach(i64::MAX, outputs);
    }
}

/// A session by its first time and its last millisecond, the sum of its records, and whether it has
/// fired.
type PlainSession = (i64, i64, u64, bool);

struct PlainSessions {
    lateness: i64,
    sessions: Vec<PlainSession>,
    watermark: i64,
}

impl PlainSessions {
    fn reach(&mut self, watermark: i64, outputs: &mut [Vec<Item>]) {
        self.watermark = self.watermark.max(watermark);
        self.sessions.sort_by_key(|session| session.1);
        for (_, last, sum, fired) in &mut self.sessions {
            if *last <= self.watermark && !std::mem::replace(fired, true) {
                Plain::fire(*last + 1, *sum, outputs);
            }
        }
        let (lateness, watermark) = (self.lateness, self.watermark);
        self.sessions.retain(|(_, last, ..)| last + lateness > watermark);
    }
}

impl Oracle for PlainSessions {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        let (start, last) = (near(time_of(record)), near(time_of(record)) + GAP - 1);
        let touches = |session: &mut PlainSession| session.0 <= last + 1 && start <= session.1 + 1;
        let touched: Vec<_> = self.sessions.extract_if(.., touches).collect();
        if touched.is_empty() && last + self.lateness <= self.watermark {
            outputs[1].push(Item::Timed(record, start));
            return;
        }
        if is_bad(record) {
            self.sessions.extend(touched);
            outputs[2].push(Item::Timed(record, start));
            return;
        }
        let one = touched.into_iter().fold((start, last, record, false), |one, other| {
            (one.0.min(other.0), one.1.max(other.1), one.2.wrapping_add(other.2), false)
        });
        let fired = one.1 <= self.watermark;
        if fired {
            Plain::fire(one.1 + 1, one.2, outputs);
        }
        self.sessions.push((one.0, one.1, one.2, fired));
    }

    fn event(&mut self, event: Event, outputs: &mut [Vec<Item>]) {
        if let Event::Watermark(watermark) = event {
            self.reach(watermark.as_millis(), outputs);
        }
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        self.reach(i64::MAX, outputs);
    }
}
