//! The job of the workload `timers`. A record sets the alarm at the end of its span, or takes it
//! back. An alarm writes `key time count sum` of the records that wait up to it, and sets an echo,
//! which writes the same half a span later.

use millstream::prelude::*;

use super::Line;
use super::entries::{Entry, Input, end_of_span};

pub(super) fn lines(env: &mut Environment, input: &Input) -> Stream<Line> {
    let (entries, span) = (input.timed(env, "entries"), input.span);
    entries.key_by(|entry| entry.key).process("alarms", move |states| {
        Ok(Alarms {
            span,
            waiting: states.map("waiting")?,
            reported: states.map("reported")?,
            alarms: states.event_timers("alarms")?,
            echoes: states.event_timers("echoes")?,
        })
    })
}

struct Alarms {
    span: i64,
    /// The count and the sum of the records of each span that no alarm has reported.
    waiting: MapState<i64, (i64, i64)>,
    /// The count and the sum that each echo will write.
    reported: MapState<i64, (i64, i64)>,
    alarms: Timers,
    echoes: Timers,
}

impl KeyedProcess<u64, Entry> for Alarms {
    type Out = Line;

    fn process(
        &mut self,
        entry: Entry,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Line>,
    ) -> Result<()> {
        if ctx.current_watermark().is_some_and(|watermark| entry.time <= watermark) {
            return Ok(());
        }
        let alarm = end_of_span(entry.time, self.span);
        let (count, sum) = self.waiting.get(ctx, &alarm)?.copied().unwrap_or((0, 0));
        self.waiting.put(ctx, alarm, (count + 1, sum + entry.amount as i64))?;
        if entry.amount.is_multiple_of(3) {
            self.alarms.delete(ctx, alarm)?;
        } else {
            self.alarms.set(ctx, alarm)?;
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Line>,
    ) -> Result<()> {
        let time = timer.time();
        let key = *ctx.key() as i64;
        if timer.is_of(&self.echoes) {
            if let Some((count, sum)) = self.reported.remove(ctx, &time)? {
                out.emit(vec![key, time, count, sum]);
            }
            return Ok(());
        }
        let mut ends = Vec::new();
        let mut waiting = self.waiting.keys(ctx)?;
        while let Some(end) = waiting.next()? {
            ends.push(*end);
        }
        let mut total = (0, 0);
        for end in ends.into_iter().filter(|end| *end <= time) {
            if let Some((count, sum)) = self.waiting.remove(ctx, &end)? {
                total = (total.0 + count, total.1 + sum);
            }
        }
        out.emit(vec![key, time, total.0, total.1]);
        let echo = time + self.span / 2;
        self.reported.put(ctx, echo, total)?;
        self.echoes.set(ctx, echo)?;
        Ok(())
    }
}
