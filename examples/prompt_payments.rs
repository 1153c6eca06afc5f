//! Finds the payments that came within ten minutes after their orders, by an interval join.
//!
//! Orders and payments are CSV, `time_ms,order,cents`, in any order. A line of the output is CSV:
//! the order, the cents that were paid, and how many milliseconds after the order. An order that
//! was paid in parts has a line for each part in time.
//!
//! Files are read side by side and one after another, so time is told by their end alone. Streams
//! that never end need another strategy, like `WatermarkStrategy::bounded_out_of_orderness`: then
//! the join keeps orders for ten minutes only.
//!
//! ```text
//! cargo run --release --example prompt_payments -- \
//!     --orders FILE_OR_DIR --payments FILE_OR_DIR --output DIR
//! ```

use millstream::prelude::*;

const TEN_MINUTES_MS: i64 = 10 * 60 * 1000;

#[millstream::record]
struct Order {
    time_ms: i64,
    order: u64,
    cents: u64,
}

#[millstream::record]
struct Payment {
    time_ms: i64,
    order: u64,
    cents: u64,
}

#[millstream::record]
struct Prompt {
    order: u64,
    cents: u64,
    after_ms: i64,
}

#[millstream::main]
fn prompt_payments(env: &mut Environment, args: Args) -> Result<()> {
    let orders = env.source("orders", FileSource::csv(args.required("orders")?));
    let payments = env.source("payments", FileSource::csv(args.required("payments")?));
    let output = args.required("output")?;
    args.finish()?;

    join(orders, payments).sink("prompt", FileSink::csv(output).suffix(".csv"));
    env.execute("prompt payments")?;
    Ok(())
}

/// The job between its sources and its sink.
fn join(orders: Stream<Order>, payments: Stream<Payment>) -> Stream<Prompt> {
    let ordered = WatermarkStrategy::none().timestamps(|order: &Order| Ok(order.time_ms));
    let paid = WatermarkStrategy::none().timestamps(|payment: &Payment| Ok(payment.time_ms));
    let orders = orders.assign_timestamps(ordered).key_by(|order| order.order);
    let payments = payments.assign_timestamps(paid).key_by(|payment| payment.order);
    orders.interval_join(payments, 0..=TEN_MINUTES_MS).apply("join", |order, payment| {
        let after_ms = payment.time_ms - order.time_ms;
        Ok(Prompt { order: order.order, cents: payment.cents, after_ms })
    })
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

    /// 2,000 orders of numbers of their own, and 3,000 payments of them.
    fn make_files(directory: &Path) {
        let mut below = random(14);
        let head = "time_ms,order,cents\n";
        let (mut orders, mut payments) = (head.to_owned(), head.to_owned());
        for order in 0..2_000 {
            let time_ms = 1_760_000_000_000 + below(1_000_000);
            writeln!(orders, "{time_ms},{order},{}", 100 + below(900)).unwrap();
        }
        for _ in 0..3_000 {
            let time_ms = 1_760_000_000_000 + below(2_000_000);
            writeln!(payments, "{time_ms},{},{}", below(2_100), below(500)).unwrap();
        }
        std::fs::write(directory.join("orders.csv"), orders).unwrap();
        std::fs::write(directory.join("payments.csv"), payments).unwrap();
    }

    fn run(files: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        let prompt = CollectSink::new();
        let orders = env.source("orders", FileSource::csv(files.join("orders.csv")));
        let payments = env.source("payments", FileSource::csv(files.join("payments.csv")));
        join(orders, payments).sink("prompt", prompt.clone());
        env.execute("prompt payments").unwrap();
        let prompt = prompt.take().into_iter();
        prompt.map(|p| format!("{},{},{}", p.order, p.cents, p.after_ms)).collect()
    }

    #[test]
    fn payments_are_those_that_awk_finds_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("prompt_payments", make_files, run);
        assert!((300..3_000).contains(&lines.len()), "{} payments", lines.len());
    }
}
