//! Functions of two inputs that have work left when both have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_state::{ByValue, Timer, Timers, ValueState};

use super::bodies::{Explored, drive, results};
use super::cases::{Operator, SIDE, bad, ensure_time, is_bad, refuse_bad};
use super::probe::Item;
use super::stages::{AT_THE_END, Oracle};
use super::{BodyKind, Case, roll};
use crate::collector::Collector;
use crate::connected::{KeyedCoProcess, co_process};
use crate::keyed::Context;
use crate::program::OperatorMaker;
use crate::task::TaskBody;
use crate::{Result, bail};

/// Keeps the record of each key, and emits its results when both inputs have ended, or when its
/// timer is due.
struct AtLast {
    record: ValueState<u64>,
    event: Option<Timers>,
    processing: Option<Timers>,
    /// Whether a key was finished.
    has_finished: Arc<AtomicBool>,
}

impl KeyedCoProcess<u64, u64, u64> for AtLast {
    type Out = u64;

    fn process_left(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure_time(ctx.timestamp(), record)?;
        if let Some(timers) = self.event {
            timers.set(ctx, AT_THE_END)?;
        } else if let Some(timers) = self.processing {
            timers.set(ctx, ctx.processing_time() + roll(record, 48, 50) as i64)?;
        }
        refuse_bad(record)?;
        Ok(self.record.set(ctx, record)?)
    }

    fn on_timer(
        &mut self,
        _: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.finish_key(ctx, out)?;
        Ok(self.record.clear(ctx)?)
    }

    fn process_right(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.process_left(record, ctx, out)
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.has_finished.store(true, Ordering::Relaxed);
        let Some(record) = self.record.get(ctx)?.copied() else { bail!("no record is kept") };
        results(record).into_iter().for_each(|result| out.emit(result));
        if roll(record, 4, 3) == 0 {
            out.emit_to(&SIDE, record)?;
        }
        Ok(())
    }
}

/// Refused records at once, the results of all others at the end.
#[derive(Default)]
struct Last(Vec<u64>);

impl Oracle for Last {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        match is_bad(record) {
            true => outputs[2].push(Item::Record(record)),
            false => self.0.push(record),
        }
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        for record in self.0.drain(..) {
            outputs[0].extend(results(record).into_iter().map(Item::Record));
            if roll(record, 4, 3) == 0 {
                outputs[1].push(Item::Record(record));
            }
        }
        outputs.iter_mut().for_each(|output| output.sort());
    }
}

/// The flag is set once a key was finished.
type WrapFinishing = fn(Box<dyn TaskBody>, Arc<AtomicBool>) -> Box<dyn TaskBody>;

/// Each record is the one of its key, so that more than a batch of keys is finished.
pub(super) fn finishing(name: &'static str, by_timers: bool, wrap: WrapFinishing) -> Case {
    let has_finished = Arc::<AtomicBool>::default();
    let finished = Arc::clone(&has_finished);
    let own = ByValue(|record: &u64| *record);
    let make = co_process((bad(), bad()), (own.clone(), own), move |states| {
        let event = states.event_timers("event").ok().filter(|_| by_timers);
        let processing = states.processing_timers("processing").ok().filter(|_| by_timers);
        let (record, has_finished) = (states.value("last")?, Arc::clone(&finished));
        Ok(AtLast { record, event, processing, has_finished })
    });
    let operator = Operator::of(OperatorMaker::two_inputs(make));
    Case::new(name, move |schedule| {
        has_finished.store(false, Ordering::Relaxed);
        let oracle = || -> Box<dyn Oracle> { Box::<Last>::default() };
        let explored = Explored { operator: &operator, inputs: &[2, 1], oracle, sorts: true };
        let wrap = |body| wrap(body, Arc::clone(&has_finished));
        drive(BodyKind::TwoInput, &explored, schedule, wrap)
    })
}
