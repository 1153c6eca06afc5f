//! The job of the workload `broadcast`: at the end of its span each record writes `key sequence
//! time product`, its amount times the sum of that span's rules for its key.

use millstream::prelude::*;

use super::Line;
use super::entries::{Entry, Input, end_of_span};

/// A rule comes for so many records.
const RECORDS_PER_RULE: u64 = 8;
/// Number of rules that are valid at one time.
const RULES: u64 = 8;

pub(super) fn lines(env: &mut Environment, input: &Input) -> Stream<Line> {
    let (entries, span) = (input.timed(env, "entries"), input.span);
    let rules = input.other().one_key().every(RECORDS_PER_RULE);
    let rules = rules.timed(env, "rules");
    entries.key_by(|entry| entry.key).connect_broadcast(rules).process("products", move |states| {
        Ok(Products {
            span,
            rules: states.broadcast("rules")?,
            sequence: states.value("sequence")?,
            waiting: states.map("waiting")?,
            ends: states.event_timers("ends")?,
        })
    })
}

struct Products {
    span: i64,
    /// The sums of the rules of each span.
    rules: BroadcastState<(i64, u64), i64>,
    sequence: ValueState<i64>,
    /// The sequences and amounts of the records of each span.
    waiting: MapState<i64, Vec<(i64, i64)>>,
    ends: Timers,
}

impl KeyedBroadcastProcess<u64, Entry, Entry> for Products {
    type Out = Line;

    fn process(
        &mut self,
        entry: Entry,
        ctx: &mut Context<'_, u64>,
        _: &BroadcastMaps,
        _: &mut Collector<'_, Line>,
    ) -> Result<()> {
        if ctx.current_watermark().is_some_and(|watermark| entry.time <= watermark) {
            return Ok(());
        }
        let sequence = self.sequence.get_or_insert_with(ctx, || 0)?;
        *sequence += 1;
        let waits = (*sequence, entry.amount as i64);
        let end = end_of_span(entry.time, self.span);
        let mut waiting = self.waiting.remove(ctx, &end)?.unwrap_or_default();
        waiting.push(waits);
        self.waiting.put(ctx, end, waiting)?;
        self.ends.set(ctx, end)?;
        Ok(())
    }

    /// Adds a rule up. One of the day before is for a span that no record is in.
    fn process_broadcast(
        &mut self,
        rule: Entry,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, Line>,
    ) -> Result<()> {
        let name = (end_of_span(rule.time, self.span), rule.key % RULES);
        let sum = self.rules.get(maps, &name)?.copied().unwrap_or(0);
        Ok(self.rules.put(maps, name, sum + (rule.amount % 1_000) as i64)?)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Line>,
    ) -> Result<()> {
        let (key, end) = (*ctx.key(), timer.time());
        let rule = self.rules.get(maps, &(end, key % RULES))?.copied().unwrap_or(0);
        for (sequence, amount) in self.waiting.remove(ctx, &end)?.unwrap_or_default() {
            out.emit(vec![key as i64, sequence, end, amount * rule]);
        }
        Ok(())
    }
}
