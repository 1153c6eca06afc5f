//! Raises an alert for each payment above the limit of its country, by broadcast state.
//!
//! Payments are CSV, `card,country,cents`, limits are CSV, `country,cents`. Every subtask has all
//! limits. A payment may be read before the limit of its country and waits for it; a country
//! without a limit has no alerts. The result is CSV, `card,country,cents`.
//!
//! ```text
//! cargo run --release --example payment_limits -- \
//!     --payments FILE_OR_DIR --limits FILE_OR_DIR --output DIR
//! ```

use millstream::prelude::*;

#[millstream::record]
struct Payment {
    card: u64,
    country: String,
    cents: u64,
}

#[millstream::record]
struct Limit {
    country: String,
    cents: u64,
}

#[millstream::main]
fn payment_limits(env: &mut Environment, args: Args) -> Result<()> {
    let payments = env.source("payments", FileSource::csv(args.required("payments")?));
    let limits = env.source("limits", FileSource::csv(args.required("limits")?));
    let output = args.required("output")?;
    args.finish()?;

    alerts(payments, limits).sink("alerts", FileSink::csv(output).suffix(".csv"));
    env.execute("payment limits")?;
    Ok(())
}

/// The job between its sources and its sink. Each subtask has some of the cards and all limits.
fn alerts(payments: Stream<Payment>, limits: Stream<Limit>) -> Stream<Payment> {
    payments.key_by(|payment| payment.card).connect_broadcast(limits).process("compare", |states| {
        Ok(Alerts { limits: states.broadcast("limits")?, waiting: states.list("waiting")? })
    })
}

struct Alerts {
    limits: BroadcastState<String, u64>,
    /// The card's payments in countries whose limits are not known yet.
    waiting: ListState<Payment>,
}

impl KeyedBroadcastProcess<u64, Payment, Limit> for Alerts {
    type Out = Payment;

    fn process(
        &mut self,
        payment: Payment,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Payment>,
    ) -> Result<()> {
        match self.limits.get(maps, &payment.country)? {
            Some(limit) if payment.cents > *limit => out.emit(payment),
            Some(_) => {}
            None => self.waiting.add(ctx, payment)?,
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        limit: Limit,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, Payment>,
    ) -> Result<()> {
        Ok(self.limits.put(maps, limit.country, limit.cents)?)
    }

    /// Looks at the payments that still wait: by now all limits are known.
    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Payment>,
    ) -> Result<()> {
        for payment in self.waiting.take(ctx)? {
            if self.limits.get(maps, &payment.country)?.is_some_and(|limit| payment.cents > *limit)
            {
                out.emit(payment);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "reference/mod.rs"]
mod reference;

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use millstream::testing;

    use super::reference::{hold_to_awk, random};
    use super::*;

    /// 5,000 payments in 20 countries, of which 15 have a limit.
    fn make_input(directory: &Path) {
        let (mut payments, mut limits) =
            ("card,country,cents\n".to_owned(), "country,cents\n".to_owned());
        let mut below = random(7);
        for _ in 0..5_000 {
            let (card, country, cents) = (below(300), below(20), below(1_000));
            writeln!(payments, "{card},country {country},{cents}").unwrap();
        }
        for country in 0..15 {
            writeln!(limits, "country {country},{}", 500 + below(500)).unwrap();
        }
        std::fs::write(directory.join("payments.csv"), payments).unwrap();
        std::fs::write(directory.join("limits.csv"), limits).unwrap();
    }

    fn run(directory: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        let payments = env.source("payments", FileSource::csv(directory.join("payments.csv")));
        let limits = env.source("limits", FileSource::csv(directory.join("limits.csv")));
        let results = CollectSink::new();
        alerts(payments, limits).sink("alerts", results.clone());
        env.execute("payment limits").unwrap();
        let results = results.take().into_iter();
        results.map(|p| format!("{},{},{}", p.card, p.country, p.cents)).collect()
    }

    #[test]
    fn alerts_are_what_awk_finds_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("payment_limits", make_input, run);
        assert!((100..4_000).contains(&lines.len()), "{} alerts", lines.len());
    }
}
