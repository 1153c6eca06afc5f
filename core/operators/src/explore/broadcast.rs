//! A function whose second input is broadcast.

use millstream_state::{BroadcastMaps, BroadcastState, ValueState};

use super::bodies::{Explored, count, counted, drive, emit_counted};
use super::cases::{Operator, bad, by_key, ensure_time};
use super::{BodyKind, Case, key};
use crate::Result;
use crate::broadcast::{KeyedBroadcastProcess, keyed_broadcast_process};
use crate::collector::Collector;
use crate::keyed::Context;
use crate::program::OperatorMaker;

/// Counts the records of each side by key: those that are broadcast in broadcast state.
struct Both {
    left: ValueState<u64>,
    right: BroadcastState<u64, u64>,
}

impl KeyedBroadcastProcess<u64, u64, u64> for Both {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        _: &BroadcastMaps,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        count(&self.left, record, ctx, out)
    }

    fn process_broadcast(
        &mut self,
        record: u64,
        maps: &mut BroadcastMaps,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure_time(out.timestamp(), record)?;
        let count = self.right.get(maps, &key(record))?.map_or(1, |count| count + 1);
        self.right.put(maps, key(record), count)?;
        emit_counted(record, count, out)
    }
}

pub(super) fn case() -> Case {
    let make = keyed_broadcast_process((bad(), bad()), by_key(), |states| {
        Ok(Both { left: states.value("left")?, right: states.broadcast("right")? })
    });
    let operator = Operator::of(OperatorMaker::two_inputs(make));
    Case::new("a keyed input and a broadcast one", move |schedule| {
        let explored =
            Explored { operator: &operator, inputs: &[1, 1], oracle: counted, sorts: false };
        drive(BodyKind::TwoInput, &explored, schedule, |body| body)
    })
}
