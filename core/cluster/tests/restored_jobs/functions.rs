//! Functions with every kind of state, whose results do not depend on the order between subtasks.

use super::*;

/// Emits a watermark behind each record that is not late.
pub(super) struct Punctual;

impl WatermarkGenerator<u64> for Punctual {
    fn on_record(&mut self, _: &u64, time: i64, out: &mut WatermarkOutput) {
        out.emit(time - 1);
    }
}

/// Counts the records of each tenth of a second.
pub(super) struct Buckets {
    counts: MapState<i64, u64>,
    over: Timers,
}

impl Buckets {
    pub(super) fn new(states: &mut KeyedRuntimeContext<'_, u64>) -> Result<Self> {
        Ok(Self { counts: states.map("counts")?, over: states.event_timers("over")? })
    }
}

impl KeyedProcess<u64, u64> for Buckets {
    type Out = (u64, i64, u64);

    fn process(
        &mut self,
        _: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let end = ctx.timestamp().unwrap() / 100 * 100 + 99;
        let count = self.counts.get(ctx, &end)?.copied().unwrap_or_default();
        self.counts.put(ctx, end, count + 1)?;
        Ok(self.over.set(ctx, end)?)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let end = timer.time();
        let count = self.counts.remove(ctx, &end)?.unwrap_or_default();
        out.emit((*ctx.key(), end, count));
        Ok(())
    }
}

/// Numbers of each key wait until its rule is there; the last keys have none, and wait to the end.
pub(super) struct Rules {
    rules: BroadcastState<u64, u64>,
    waiting: ListState<u64>,
}

impl Rules {
    pub(super) fn new(
        states: &mut BroadcastRuntimeContext<'_, KeyedRuntimeContext<'_, u64>>,
    ) -> Result<Self> {
        // A keyed state and a broadcast state may have one name.
        Ok(Self { rules: states.broadcast("rules")?, waiting: states.list("rules")? })
    }
}

impl KeyedBroadcastProcess<u64, u64, u64> for Rules {
    type Out = (u64, Option<u64>);

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.waiting.add(ctx, n)?;
        let Some(rule) = self.rules.get(maps, &(ctx.key() % 25))?.copied() else { return Ok(()) };
        self.waiting.take(ctx)?.into_iter().for_each(|n| out.emit((n, Some(rule))));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        n: u64,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Ok(self.rules.put(maps, n, n * 1_000)?)
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let rule = self.rules.get(maps, &(ctx.key() % 25))?.copied();
        self.waiting.take(ctx)?.into_iter().for_each(|n| out.emit((n, rule)));
        Ok(())
    }
}

/// Hands on all numbers, and the rules at the end.
pub(super) struct Allowed(BroadcastState<u64, u64>);

impl Allowed {
    pub(super) fn new(
        states: &mut BroadcastRuntimeContext<'_, RuntimeContext<'_>>,
    ) -> Result<Self> {
        Ok(Self(states.broadcast("rules")?))
    }
}

impl BroadcastProcess<u64, u64> for Allowed {
    type Out = u64;

    fn process(&mut self, n: u64, _: &BroadcastMaps, out: &mut Collector<'_, u64>) -> Result<()> {
        out.emit(n);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        n: u64,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.put(maps, n, n + COUNT)?)
    }

    fn finish(&mut self, maps: &BroadcastMaps, out: &mut Collector<'_, u64>) -> Result<()> {
        self.0.entries(maps)?.for_each(|(_, n)| out.emit(*n));
        Ok(())
    }
}
