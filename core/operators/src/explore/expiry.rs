//! A function whose state expires, and a plain computation of what it must emit.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_state::{Ttl, ValueState};

use super::cases::{
    Operator, SIDE, bad, by_key, refuse_bad, same, task, three, to_nobody, without_bad,
};
use super::hosts::clock;
use super::probe::Item;
use super::stages::{Explored, Oracle, drive, outputs};
use super::{Case, Kind, key};
use crate::Result;
use crate::collector::Collector;
use crate::keyed::{Context, KeyedProcess, keyed_process};

const TTL_MS: i64 = 20;

pub(super) fn case() -> Case {
    let stage = keyed_process(bad(), by_key(), |states| {
        let ttl = Ttl::after(Duration::from_millis(20));
        Ok(Recent(states.with_ttl(ttl).value("count")?))
    });
    let (operator, task, nobody) = (Operator::of_stage(stage), task(false), to_nobody());
    Case::new("process with state that expires", move |schedule| {
        let outputs = outputs(schedule, 3);
        let stage = operator.build(&task, &nobody, three(&outputs, same, schedule.is_timed()));
        let oracle = recent();
        drive(Explored { stage, kind: Kind::Process, outputs, oracle }, schedule)
    })
}

/// Counts the records of a key, until for some time there was none; emits the first ones aside.
struct Recent(ValueState<u64, Ttl>);

impl KeyedProcess<u64, u64> for Recent {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if self.0.get(ctx)?.is_none() {
            out.emit_to(&SIDE, record)?;
        }
        let count = self.0.get_or_insert_with(ctx, || 0)?;
        *count += 1;
        out.emit((record << 12) | (*count % 4096));
        // Everything above is taken back.
        refuse_bad(record).map(|_| ())
    }
}

/// The oracle of [`Recent`].
fn recent() -> Box<dyn Oracle> {
    let mut counts = BTreeMap::<u64, (u64, i64)>::new();
    let clock = clock();
    without_bad(true, move |record, outputs| {
        let now = clock.clock().wall().as_millis();
        let (count, until) = counts.entry(key(record)).or_insert((0, now));
        if *until <= now {
            *count = 0;
            outputs[1].push(Item::Record(record));
        }
        (*count, *until) = (*count + 1, now + TTL_MS);
        outputs[0].push(Item::Record((record << 12) | (*count % 4096)));
    })
}
