//! A source whose reader reads several splits by turns, each of which has watermarks of its own;
//! also with splits that wait for others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream_connector::{
    EventSender, Mail, NoEnumerator, Polled, ReaderContext, ReaderOutput, Source, SourceReader,
    decode, encode,
};
use millstream_event_time::WatermarkStrategy;
use millstream_graph::Boundedness;
use millstream_network::Event;
use millstream_types::Timestamp;

use super::bodies::{OUTPUTS, Parts, Slot, TURNS_MAX, build, ended};
use super::cases::{Markers, Operator, is_bad, is_marker, refuse_bad};
use super::probe::{END, Item};
use super::schedule::{Act, Schedule};
use super::stages::{compare, outputs};
use super::writers::Bell;
use super::{BodyKind, Case, record, roll, time_of};
use crate::coordinator::SourceEvent;
use crate::on_error::OnError;
use crate::program::OperatorMaker;
use crate::source::source as source_operator;
use crate::task::Step;
use crate::watermarks::watermarks_per_split;
use crate::{Result, ensure};

const SPLITS: u64 = 3;

/// Of event time: a part of the span of the times.
const DRIFT: Duration = Duration::from_millis(1 << 37);

/// Records one behind the other that are of one split.
const RUN: u64 = 3;

/// The script of the reader, and what must come of it.
#[derive(Debug, Default)]
struct Script {
    seed: u64,
    acts: VecDeque<Act>,
    /// The number of acts that are left when splits begin to end.
    ends_at: usize,
    next: u64,
    now: Option<Instant>,
    sleeps: bool,
    /// The open splits with their watermarks.
    open: BTreeMap<u64, i64>,
    told: i64,
    expected: Vec<Item>,
}

impl Script {
    fn of(schedule: &Schedule) -> Self {
        Self {
            seed: schedule.seed,
            acts: schedule.acts.iter().copied().collect(),
            ends_at: schedule.acts.len() / 2,
            open: (0..SPLITS).map(|split| (split, i64::MIN)).collect(),
            told: i64::MIN,
            ..Self::default()
        }
    }

    fn add(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<()> {
        let record = record(self.seed, self.next);
        let open = self.open.keys().copied().filter(|split| !out.is_paused(*split));
        let open: Vec<u64> = open.collect();
        ensure!(!open.is_empty(), "it was polled although all splits wait");
        let split = open[(self.next / RUN) as usize % open.len()];
        self.next += 1;
        out.of_split(split);
        out.push(record)?;
        if is_bad(record) {
            return Ok(());
        }
        let time = time_of(record);
        self.expected.push(Item::Record(record).at(Some(time)));
        if is_marker(record) {
            let watermark = self.open.entry(split).or_insert(i64::MIN);
            *watermark = time.max(*watermark);
            self.tell();
        }
        Ok(())
    }

    /// A split ends with this poll, if it is time and it is not the last one.
    fn end_one(&mut self, out: &mut ReaderOutput<'_, u64>) {
        if self.acts.len() <= self.ends_at && self.open.len() > 1 {
            self.ends_at = self.acts.len() / 2;
            if let Some((split, _)) = self.open.pop_first() {
                out.end_split(split);
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let least = self.open.values().copied().min().unwrap_or(i64::MIN);
        if least > self.told {
            self.told = least;
            self.expected.push(Event::Watermark(Timestamp::from_millis(least)).into());
        }
    }
}

struct Scripted(Arc<Mutex<Script>>);

struct Reader(Arc<Mutex<Script>>);

impl Source for Scripted {
    type Out = u64;
    type Split = ();
    type Reader = Reader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self) -> Result<Vec<()>> {
        Ok(vec![(); SPLITS as usize])
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<Reader> {
        Ok(Reader(Arc::clone(&self.0)))
    }
}

impl SourceReader for Reader {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, splits: Vec<()>) -> Result<()> {
        ensure!(splits.len() as u64 == SPLITS, "it was given {} splits", splits.len());
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let mut script = self.0.lock().unwrap();
        let Some(act) = script.acts.pop_front() else { return Ok(Polled::Finished) };
        let soon = script.now.map(|now| now + Duration::from_millis(3));
        if let Act::Batch { records, .. } = act {
            for _ in 0..records {
                script.add(out)?;
            }
        }
        script.end_one(out);
        Ok(match act {
            Act::Batch { input: 1, .. } | Act::Wait { .. } => Polled::Pending(soon),
            Act::Take { .. } => {
                script.sleeps = true;
                Polled::Pending(None)
            }
            Act::Batch { .. } | Act::Event { .. } | Act::Turn { .. } => Polled::Ready,
        })
    }
}

/// An aligned source has a group of its own, or others are in it that are as far as its times are
/// by now, or a little behind.
pub(super) fn source(aligned: bool) -> Case {
    let script = Arc::<Mutex<Script>>::default();
    let scripted = Arc::new(Scripted(Arc::clone(&script)));
    let mut operator = Operator::of(OperatorMaker::source(source_operator(&scripted, "source")));
    let strategy = WatermarkStrategy::generator(|| Markers)
        .timestamps(|record| refuse_bad(*record).map(time_of));
    let strategy = if aligned { strategy.aligned("group", DRIFT) } else { strategy };
    let times = watermarks_per_split(OnError::drop_record(), strategy);
    assert!(operator.program.set_source_times(operator.node, times));
    let name =
        if aligned { "source with aligned splits" } else { "source with watermarks per split" };
    Case::new(name, move |schedule| {
        let bell = Arc::new(Bell::default());
        let group = Arc::new(Group::default());
        let parts =
            Parts { timed: true, to_coordinator: Arc::clone(&group).sender(), ..Parts::default() };
        *script.lock().unwrap() = Script::of(schedule);
        let outputs = outputs(schedule, OUTPUTS);
        let body = build(&operator, &bell, None, &outputs, &parts);
        let mut slot = Slot::start(BodyKind::Source, body, outputs, bell)?;
        for turn in 0..TURNS_MAX {
            script.lock().unwrap().now = Some(slot.now);
            let turned = slot.turn()?;
            if let Some(answer) = group.answer(schedule.seed, turn as u64) {
                parts.from_coordinator.push(Mail::Event(answer)).unwrap();
                slot.bell.ring();
                continue;
            }
            if turned {
                continue;
            }
            if slot.step == Step::Finished {
                break;
            }
            if std::mem::take(&mut script.lock().unwrap().sleeps) {
                slot.bell.ring();
            } else if let Some(due) = slot.deadline {
                slot.now = slot.now.max(due);
            } else {
                return Err("nothing will ever wake it".to_owned());
            }
        }
        ended(&slot, false)?;
        group.check(aligned)?;
        let mut expected = script.lock().unwrap().expected.clone();
        expected.push(END);
        compare(0, &slot.outputs[0].lock().seen, &expected, 0, true)
    })
}

/// The rest of an alignment group.
#[derive(Default)]
struct Group {
    /// The report that is not answered yet, and the last one.
    asked: Mutex<Option<Option<Timestamp>>>,
    last: Mutex<Option<Option<Timestamp>>>,
}

impl Group {
    fn sender(self: Arc<Self>) -> EventSender {
        Arc::new(move |_, _, payload| match decode::<SourceEvent<()>>(&payload) {
            Ok(SourceEvent::Least(least)) => {
                *self.asked.lock().unwrap() = Some(least);
                *self.last.lock().unwrap() = Some(least);
            }
            other => panic!("{other:?}"),
        })
    }

    /// The answer to a report, at some turn after it.
    fn answer(&self, seed: u64, turn: u64) -> Option<Vec<u8>> {
        if roll(seed, turn, 3) != 0 {
            return None;
        }
        let least = self.asked.lock().unwrap().take()?;
        let behind = roll(seed, turn + 1, 4);
        let others = least
            .filter(|_| behind < 3)
            .map(|least| Timestamp::from_millis(least.as_millis().saturating_sub(behind as i64)));
        Some(encode(&SourceEvent::<()>::Others(others)).unwrap())
    }

    /// At its end a source says that it takes part no more.
    fn check(&self, aligned: bool) -> Result<(), String> {
        let last = *self.last.lock().unwrap();
        if last == aligned.then_some(None) { Ok(()) } else { Err(format!("it said {last:?} last")) }
    }
}
