//! Brings orders and their payments together, and reports those without a partner at the end.
//!
//! Orders are CSV, `order,customer,cents`, payments are CSV, `order,cents`. Either may come first,
//! and an order may be paid in parts. The result is CSV, `order,outcome,cents`:
//! - `paid`, as soon as the payments of an order reach its price, with their sum;
//! - `open`, at the end, for an order that was paid in part or not at all, with the missing sum;
//! - `unknown`, at the end, for payments without an order, with their sum.
//!
//! ```text
//! cargo run --release --example orders_and_payments -- \
//!     --orders FILE_OR_DIR --payments FILE_OR_DIR --output DIR
//! ```

use millstream::prelude::*;

#[millstream::record]
struct Order {
    order: u64,
    customer: String,
    cents: u64,
}

#[millstream::record]
struct Payment {
    order: u64,
    cents: u64,
}

#[millstream::record]
struct Outcome {
    order: u64,
    outcome: String,
    cents: u64,
}

#[millstream::main]
fn orders_and_payments(env: &mut Environment, args: Args) -> Result<()> {
    let orders = env.source("orders", FileSource::csv(args.required("orders")?));
    let payments = env.source("payments", FileSource::csv(args.required("payments")?));
    let output = args.required("output")?;
    args.finish()?;

    settle(orders, payments).sink("outcomes", FileSink::csv(output).suffix(".csv"));
    env.execute("orders and payments")?;
    Ok(())
}

/// The job between its sources and its sink.
fn settle(orders: Stream<Order>, payments: Stream<Payment>) -> Stream<Outcome> {
    orders
        .key_by(|order| order.order)
        .connect(payments.key_by(|payment| payment.order))
        .process("settle", |ctx| {
            Ok(Settle { price: ctx.value("price")?, paid: ctx.value("paid")? })
        })
}

/// The states are those of the order at hand.
struct Settle {
    /// The order's price, once the order has come.
    price: ValueState<u64>,
    /// The sum of the payments that have come.
    paid: ValueState<u64>,
}

impl Settle {
    /// Says `paid` when the payments have just reached the price.
    fn look(
        &self,
        paid_before: Option<u64>,
        ctx: &Context<'_, u64>,
        out: &mut Collector<'_, Outcome>,
    ) -> Result<()> {
        let (price, paid) = (self.price.get(ctx)?, self.paid.get(ctx)?);
        if let (Some(price), Some(paid)) = (price, paid)
            && paid >= price
            && paid_before.is_none_or(|before| before < *price)
        {
            out.emit(outcome(ctx, "paid", *paid));
        }
        Ok(())
    }
}

fn outcome(ctx: &Context<'_, u64>, outcome: &str, cents: u64) -> Outcome {
    Outcome { order: *ctx.key(), outcome: outcome.to_owned(), cents }
}

impl KeyedCoProcess<u64, Order, Payment> for Settle {
    type Out = Outcome;

    fn process_left(
        &mut self,
        order: Order,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Outcome>,
    ) -> Result<()> {
        self.price.set(ctx, order.cents)?;
        self.look(None, ctx, out)
    }

    fn process_right(
        &mut self,
        payment: Payment,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Outcome>,
    ) -> Result<()> {
        let paid = self.paid.get_or_insert_with(ctx, || 0)?;
        let before = *paid;
        *paid = before.checked_add(payment.cents).context("more than all money was paid")?;
        self.look(Some(before), ctx, out)
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Outcome>,
    ) -> Result<()> {
        let paid = self.paid.get(ctx)?.copied().unwrap_or_default();
        match self.price.get(ctx)? {
            Some(price) if paid < *price => out.emit(outcome(ctx, "open", price - paid)),
            Some(_) => {}
            None => out.emit(outcome(ctx, "unknown", paid)),
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

    /// 2,000 orders, some of them paid, some in parts, and payments without an order.
    fn make_input(directory: &Path) {
        let (mut orders, mut payments) =
            ("order,customer,cents\n".to_owned(), "order,cents\n".to_owned());
        let mut below = random(5);
        for n in 0..2_000_u64 {
            let cents = 100 + below(900);
            writeln!(orders, "{n},\"customer, {}\",{cents}", n % 90).unwrap();
            match below(5) {
                0 => {}
                1 => writeln!(payments, "{n},{}", cents / 2).unwrap(),
                2 => writeln!(payments, "{n},{}\n{n},{}", cents / 2, cents - cents / 2).unwrap(),
                _ => writeln!(payments, "{n},{cents}").unwrap(),
            }
            if n % 11 == 0 {
                writeln!(payments, "{},{n}", 1_000_000 + n % 121).unwrap();
            }
        }
        std::fs::write(directory.join("orders.csv"), orders).unwrap();
        std::fs::write(directory.join("payments.csv"), payments).unwrap();
    }

    fn run(directory: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        let orders = env.source("orders", FileSource::csv(directory.join("orders.csv")));
        let payments = env.source("payments", FileSource::csv(directory.join("payments.csv")));
        let outcomes = CollectSink::new();
        settle(orders, payments).sink("outcomes", outcomes.clone());
        env.execute("orders and payments").unwrap();
        let outcomes = outcomes.take().into_iter();
        outcomes.map(|o| format!("{},{},{}", o.order, o.outcome, o.cents)).collect()
    }

    #[test]
    fn outcomes_are_what_awk_finds_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("orders_and_payments", make_input, run);
        for outcome in [",paid,", ",open,", ",unknown,"] {
            let found = lines.iter().filter(|line| line.contains(outcome)).count();
            assert!((11..2_000).contains(&found), "{found} times {outcome}");
        }
    }
}
