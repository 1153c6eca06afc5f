//! Windows with an evictor, and a plain computation of their results. All records have one key.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_event_time::{
    Aggregated, Evictor, Fire, KeepAfter, KeepLast, Trigger, TriggerContext, Tumbling, WindowFold,
};
use millstream_network::Event;
use millstream_state::ByValue;

use super::cases::{Operator, SIDE, bad, is_bad, refuse_bad, same, task, three, to_nobody};
use super::mutants::{Hidden, Mutant};
use super::probe::Item;
use super::stages::{Explored, Oracle, drive, outputs};
use super::windows::{LATENESS, Plain, Repeated, SIZE, near, push_near};
use super::{Case, Kind, time_of};
use crate::Result;
use crate::late::LateRecords;
use crate::windows::{Evicting, Triggered, WindowAssigner, WindowSettings};

/// The number of records that a window keeps.
const KEPT: usize = 3;

/// A window gives a result for each so many records before its end.
const EVERY: u64 = 7;

pub(super) fn cases() -> Vec<Case> {
    let keep = KeepLast(KEPT as u64);
    vec![
        case("windows with an evictor", keep, false),
        case("windows with an evictor after their results", KeepAfter(keep), true),
    ]
}

fn case(name: &'static str, evictor: impl Evictor<u64>, after: bool) -> Case {
    let millis = |millis: i64| Duration::from_millis(millis.cast_unsigned());
    let (lateness, late) = (millis(LATENESS), LateRecords::side_output(&SIDE));
    let triggered = Triggered { windows: Tumbling::event_time(millis(SIZE)), trigger: Often };
    let windows = Evicting { windows: triggered, evictor };
    let (settings, selector) = (WindowSettings { lateness, late }, ByValue(|_: &u64| 7u64));
    let stage = windows.stage(settings, bad(), selector, in_order(), |_| Ok(Repeated));
    let (operator, task, nobody) = (Operator::of_stage(stage), task(false), to_nobody());
    Case::new(name, move |schedule| {
        let outputs = outputs(schedule, 3);
        let windows = operator.build(&task, &nobody, three(&outputs, same, true));
        let mut stage = Box::new(Mutant::of(Hidden(windows)));
        stage.push = push_near;
        let (windows, watermark) = (BTreeMap::new(), i64::MIN);
        let oracle = Box::new(PlainLists { after, windows, watermark });
        drive(Explored { stage, kind: Kind::Process, outputs, oracle }, schedule)
    })
}

/// A window gives its result at its end, for records that come later, and for some records before,
/// so that it never has many. Bad records are refused when they are in their window.
#[derive(Clone)]
struct Often;

impl Trigger<u64> for Often {
    type State = u64;

    fn on_record(&mut self, record: &u64, ctx: &mut TriggerContext<'_, u64>) -> Result<Fire> {
        refuse_bad(*record)?;
        *ctx.state() += 1;
        let last = ctx.window().last_millis();
        if ctx.current_watermark().is_some_and(|watermark| last <= watermark) {
            return Ok(Fire::Result);
        }
        ctx.at_event_time(last);
        Ok(if ctx.state().is_multiple_of(EVERY) { Fire::Result } else { Fire::No })
    }

    fn on_event_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, u64>) -> Result<Fire> {
        Ok(if time == ctx.window().last_millis() { Fire::Result } else { Fire::No })
    }
}

const fn combine(value: u64, record: u64) -> u64 {
    value.rotate_left(5) ^ record
}

/// A value that tells the order of records.
fn in_order() -> impl WindowFold<u64, Value = u64> + Clone + Sync + 'static {
    Aggregated {
        init: || 7u64,
        add: |value: &mut u64, record| {
            *value = combine(*value, record);
            Ok(())
        },
        merge: |_: &mut u64, _| crate::bail!("a list has no parts"),
    }
}

/// All windows by their ends, with their records, the number of all that came, and whether the end
/// has.
struct PlainLists {
    after: bool,
    windows: BTreeMap<i64, (Vec<u64>, u64, bool)>,
    watermark: i64,
}

impl PlainLists {
    fn fire(after: bool, end: i64, records: &mut Vec<u64>, outputs: &mut [Vec<Item>]) {
        let kept = records.split_off(records.len().saturating_sub(KEPT));
        let evicted = std::mem::replace(records, kept);
        let all = evicted.iter().filter(|_| after).chain(records.iter());
        let value = all.fold(7, |value, record| combine(value, *record));
        Plain::fire(end, value, outputs);
    }

    fn reach(&mut self, watermark: i64, outputs: &mut [Vec<Item>]) {
        self.watermark = self.watermark.max(watermark);
        for (end, (records, _, fired)) in &mut self.windows {
            if *end - 1 <= self.watermark && !std::mem::replace(fired, true) {
                Self::fire(self.after, *end, records, outputs);
            }
        }
        self.windows.retain(|end, _| end - 1 + LATENESS > self.watermark);
    }
}

impl Oracle for PlainLists {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        let time = near(time_of(record));
        let end = time.div_euclid(SIZE) * SIZE + SIZE;
        if end - 1 + LATENESS <= self.watermark {
            outputs[1].push(Item::Timed(record, time));
        } else if is_bad(record) {
            outputs[2].push(Item::Timed(record, time));
        } else {
            let is_due = end - 1 <= self.watermark;
            let (records, count, _) = self.windows.entry(end).or_insert((Vec::new(), 0, is_due));
            records.push(record);
            *count += 1;
            if is_due || count.is_multiple_of(EVERY) {
                Self::fire(self.after, end, records, outputs);
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
