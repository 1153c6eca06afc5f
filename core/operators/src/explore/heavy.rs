//! Results that say that they own much memory: stages stop in the middle of their input then.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use millstream_network::{Batch, Event, Flow};
use millstream_state::{ByValue, KeySelector};
use serde::{Deserialize, Serialize, Serializer};

use super::cases::{
    AtTheEnd, Operator, bad, by_key, ensure_time, operator, refuse_bad, task, to_nobody, unordered,
    without_bad,
};
use super::probe::Item;
use super::stages::each;
use super::{Case, Kind, batch, roll};
use crate::Result;
use crate::collector::Collector;
use crate::flat_map::flat_map;
use crate::fold::{Emitted, Fold, fold};
use crate::keyed::{Context, KeyedProcess, keyed_process};
use crate::map::map;
use crate::on_error::OnError;
use crate::output::Outputs;
use crate::process::{Process, process};
use crate::program::StageMaker;
use crate::side::{OutputTag, SideBuffer};
use crate::stage::{Moment, Stage, erase};

/// The bytes that some of the records seem to own.
static OWNED: [u8; 100_000] = [0; 100_000];

/// A number that takes as many bytes as [`bytes_of`] says where it is written.
#[derive(Debug, Deserialize)]
pub(super) struct Heavy(Box<u64>);

impl Heavy {
    pub(super) fn of(number: u64) -> Self {
        Self(Box::new(number))
    }

    pub(super) fn number(self) -> u64 {
        *self.0
    }
}

/// Numbers with this bit own much.
const MUCH: u64 = 1 << 62;

/// The bytes of a number: few, or many for one in five.
fn bytes_of(number: u64) -> usize {
    if number & MUCH != 0 || roll(number, 24, 5) == 0 { OWNED.len() } else { 10 }
}

impl Serialize for Heavy {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(OWNED.get(..bytes_of(*self.0)).unwrap_or_default())
    }
}

/// One heavy record for each.
struct Weigh;

impl Process<u64> for Weigh {
    type Out = Heavy;

    fn process(&mut self, record: u64, out: &mut Collector<'_, Heavy>) -> Result<()> {
        ensure_time(out.timestamp(), record)?;
        out.emit(Heavy::of(record + 1));
        refuse_bad(record).map(|_| ())
    }
}

/// The last record of each key, heavy; after each record with 1 added.
#[derive(Clone)]
struct Last {
    refuses: bool,
}

impl Fold<u64, u64> for Last {
    type Value = u64;
    type Out = Heavy;

    fn first(&mut self, record: u64) -> Result<u64> {
        if self.refuses { refuse_bad(record) } else { Ok(record) }
    }

    fn add<S: KeySelector<u64, Key = u64>>(
        &mut self,
        value: &mut u64,
        record: u64,
        _selector: &S,
        results: Emitted<'_, Heavy>,
    ) -> Result<()> {
        *value = record;
        refuse_bad(record)?;
        results.emit(|| Heavy::of(record + 1));
        Ok(())
    }

    fn result(_key: &u64, value: &u64) -> Heavy {
        Heavy::of(value + 1)
    }

    fn last(_key: u64, value: u64) -> Heavy {
        Heavy::of(value)
    }
}

fn heavier(record: u64) -> Result<Option<Heavy>> {
    refuse_bad(record).map(|record| Some(Heavy::of(record + 1)))
}

pub(super) fn cases(kind: Kind) -> Vec<Case> {
    let case = |name, stage: StageMaker, kept| {
        operator(name, kind, false, stage, Heavy::number, move || {
            without_bad(kept, |record, outputs| outputs[0].push(Item::Record(record + 1)))
        })
    };
    match kind {
        Kind::Map => vec![
            case("map to heavy results", map(OnError::drop_record(), |_| Ok(heavier)), false),
            case("map to heavy results or side output", map(bad(), |_| Ok(heavier)), true),
        ],
        Kind::FlatMap => {
            let twice = |record| Ok([record, record + 1].map(Heavy::of));
            let stage = flat_map(OnError::fail(), move |_| Ok(twice));
            let oracle = || each(|record| vec![record, record + 1]);
            vec![operator("flat_map to heavy results", kind, false, stage, Heavy::number, oracle)]
        }
        Kind::Process => {
            vec![case("process to heavy results", process(bad(), |_| Ok(Weigh)), true)]
        }
        Kind::Fold => {
            let last = Last { refuses: true };
            let dropping = fold(OnError::drop_record(), by_key(), last.clone());
            let sorting = fold(bad(), by_key(), last);
            let last = Last { refuses: false };
            let distinct = fold(OnError::fail(), ByValue(|r: &u64| *r), last);
            vec![
                case("fold to heavy results", dropping, false),
                case("fold to heavy results or side output", sorting, true),
                unordered("fold to heavy final values", kind, distinct, Heavy::number, || {
                    Box::new(AtTheEnd::default())
                }),
            ]
        }
        _ => Vec::new(),
    }
}

/// Notes the number of records of each batch.
#[derive(Clone, Default)]
struct Sizes(Arc<Mutex<Vec<usize>>>);

impl<T: Send> Stage<T> for Sizes {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.0.lock().unwrap().push(batch.len());
        Ok(Flow::Ready)
    }

    fn event(&mut self, _event: Event) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn next_time(&self) -> Option<Instant> {
        None
    }

    fn kind(&self) -> Kind {
        Kind::Probe
    }
}

/// As many records as came, each of which owns much.
struct Much;

impl KeyedProcess<u64, u64> for Much {
    type Out = Heavy;

    fn process(
        &mut self,
        record: u64,
        _ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Heavy>,
    ) -> Result<()> {
        out.emit(Heavy::of(record | MUCH));
        Ok(())
    }
}

static BESIDE: OutputTag<Heavy> = OutputTag::new("beside");

/// As [`Much`], to a side output.
struct Beside;

impl KeyedProcess<u64, u64> for Beside {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        _ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        out.emit_to(&BESIDE, Heavy::of(record | MUCH))
    }
}

#[test]
fn no_side_output_gets_a_batch_of_many_heavy_records() {
    for timed in [false, true] {
        let sizes = Sizes::default();
        let reader = erase::<Heavy>(Box::new(sizes.clone()));
        let beside = SideBuffer::<Heavy>::erased(reader, timed).unwrap();
        let sides = vec![(BESIDE.name().to_owned(), beside)];
        let outputs = Outputs { sides, timed, ..Outputs::default() };
        let operator = Operator::of_stage(keyed_process(OnError::fail(), by_key(), |_| Ok(Beside)));
        let mut stage = operator.build(&task(false), &to_nobody(), outputs);
        stage.open().unwrap();
        assert_eq!(stage.push(batch((0..500).collect(), timed)).unwrap(), Flow::Ready);
        let sizes = sizes.0.lock().unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), 500);
        assert!(sizes.iter().all(|records| *records <= 3), "{sizes:?}");
    }
}

#[test]
fn no_stage_makes_a_batch_of_many_heavy_results() {
    let much = |record| Ok(Some(Heavy::of(record | MUCH)));
    let all = |record: u64| Ok((0..3).map(move |n| Heavy::of((record + n) | MUCH)));
    for (stage, results) in [
        (map(OnError::fail(), move |_| Ok(much)), 1),
        (map(bad(), move |_| Ok(much)), 1),
        (flat_map(OnError::fail(), move |_| Ok(all)), 3),
        (keyed_process(OnError::fail(), by_key(), |_| Ok(Much)), 1),
    ] {
        for timed in [false, true] {
            let sizes = Sizes::default();
            let main = erase::<Heavy>(Box::new(sizes.clone()));
            let outputs = Outputs { main: Some(main), timed, ..Outputs::default() };
            let operator = Operator::of_stage(Arc::clone(&stage));
            let mut stage = operator.build(&task(false), &to_nobody(), outputs);
            stage.open().unwrap();
            assert_eq!(stage.push(batch((0..500).collect(), timed)).unwrap(), Flow::Ready);
            let sizes = sizes.0.lock().unwrap();
            assert_eq!(sizes.iter().sum::<usize>(), 500 * results);
            assert!(sizes.iter().all(|records| *records <= 3), "{sizes:?}");
        }
    }
}
