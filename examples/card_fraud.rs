//! Finds suspicious card payments, with state for each card.
//!
//! Payments are CSV, `time_ms,card,cents,country`, in the order in which they happened. An alert is
//! written, as a line of CSV, when
//! - a payment of at least 500.00 comes within a minute after one below 1.00, the card's last
//!   (`probe`: a payment that only tries whether the card works);
//! - a card pays in a country within an hour of a payment in another (`travel`).
//!
//! What a card did is kept in a value (its last payment) and a map (its last payment in each
//! country). The rules need a card's payments in their order, so all of them must be in one file,
//! and that file is read as one piece: CSV is, unless `split_at_newlines` says otherwise.
//!
//! ```text
//! cargo run --release --example card_fraud -- --input FILE_OR_DIR --output DIR
//! millstream run card_fraud --input FILE_OR_DIR --output DIR
//! ```

use std::path::{PathBuf, absolute};

use millstream::prelude::*;

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Below this a payment may be a probe.
const SMALL_CENTS: u64 = 100;
/// From this on a payment after a probe is suspicious.
const LARGE_CENTS: u64 = 50_000;

#[millstream::record]
struct Payment {
    time_ms: i64,
    card: String,
    cents: u64,
    country: String,
}

#[millstream::record]
struct Alert {
    time_ms: i64,
    card: String,
    rule: String,
}

#[millstream::main]
fn card_fraud(env: &mut Environment, args: Args) -> Result<()> {
    // Computed once, where the user is: the job's processes have working directories of their own.
    let input: PathBuf = env.plan_value("input", || Ok(absolute(args.required("input")?)?))?;
    let output: PathBuf = env.plan_value("output", || Ok(absolute(args.required("output")?)?))?;

    env.set_runtime_mode(RuntimeMode::Automatic);
    let alerts = find_fraud(env.source("payments", FileSource::csv(input)));
    alerts.sink("alerts", FileSink::csv(output).suffix(".csv"));
    env.execute("card fraud")?;
    Ok(())
}

/// The job between its source and its sink.
fn find_fraud(payments: Stream<Payment>) -> Stream<Alert> {
    payments.key_by_ref(|payment| &payment.card).process("rules", |states| {
        Ok(Rules { last: states.value("last payment")?, countries: states.map("countries")? })
    })
}

/// The rules; its states are those of the card at hand.
struct Rules {
    /// When the last payment was, and of how much.
    last: ValueState<(i64, u64)>,
    /// When the last payment was in each country.
    countries: MapState<String, i64>,
}

impl KeyedProcess<String, Payment> for Rules {
    type Out = Alert;

    fn process(
        &mut self,
        payment: Payment,
        ctx: &mut Context<'_, String>,
        out: &mut Collector<'_, Alert>,
    ) -> Result<()> {
        let Payment { time_ms, card, cents, country } = payment;
        let alert = |rule: &str| Alert { time_ms, card: card.clone(), rule: rule.to_owned() };

        let probed = self
            .last
            .get(ctx)?
            .is_some_and(|(time, cents)| *cents < SMALL_CENTS && time_ms - time <= MINUTE_MS);
        if probed && cents >= LARGE_CENTS {
            out.emit(alert("probe"));
        }
        self.last.set(ctx, (time_ms, cents))?;

        let mut countries = self.countries.entries(ctx)?;
        while let Some((name, time)) = countries.next()? {
            if *name != country && time_ms - time <= HOUR_MS {
                out.emit(alert("travel"));
                break;
            }
        }
        self.countries.put(ctx, country, time_ms)?;
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

    /// Four files of 1,500 payments by ten cards each.
    fn make_payments(directory: &Path) {
        let mut below = random(11);
        for file in 0..4 {
            let mut payments = "time_ms,card,cents,country\n".to_owned();
            let mut time_ms = 1_760_000_000_000_u64;
            for _ in 0..1_500 {
                time_ms += below(20_000);
                let cents = [below(100), below(10_000), 50_000 + below(9)][below(3) as usize];
                let country = ["is", "is", "is", "is", "jp", "\"n,o\""][below(6) as usize];
                let card = below(10);
                writeln!(payments, "{time_ms},{file}-{card},{cents},{country}").unwrap();
            }
            std::fs::write(directory.join(format!("{file}.csv")), payments).unwrap();
        }
    }

    fn run(payments: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        let alerts = CollectSink::new();
        find_fraud(env.source("payments", FileSource::csv(payments)))
            .sink("alerts", alerts.clone());
        env.execute("card fraud").unwrap();
        let alerts = alerts.take().into_iter();
        alerts.map(|a| format!("{},{},{}", a.time_ms, a.card, a.rule)).collect()
    }

    #[test]
    fn alerts_are_what_awk_finds_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("card_fraud", make_payments, run);
        for rule in ["probe", "travel"] {
            let alerts = lines.iter().filter(|line| line.ends_with(rule)).count();
            assert!((100..6_000).contains(&alerts), "{alerts} alerts of {rule}");
        }
    }
}
