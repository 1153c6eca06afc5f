//! Sums the orders of each customer, from one SQLite database into another: a source and a sink of
//! one's own.
//!
//! The input has a table `orders (customer TEXT, cents INTEGER)`. The result is the table
//! `totals (customer TEXT, cents INTEGER)` of the output, whose rows appear in one transaction.
//!
//! ```text
//! cargo run --release --example sqlite_totals -- --input orders.db --output totals.db
//! ```

mod table_sink;
mod table_source;

use millstream::prelude::*;

use crate::table_sink::TotalsTable;
use crate::table_source::OrdersTable;

/// A customer and cents: an order, or the sum of all orders.
#[millstream::record]
#[derive(PartialEq)]
struct Cents {
    customer: String,
    cents: i64,
}

#[millstream::main]
fn sqlite_totals(env: &mut Environment, args: Args) -> Result<()> {
    let orders = OrdersTable::new(args.required("input")?);
    let totals = TotalsTable::new(args.required("output")?);
    args.finish()?;

    sum(env.source("orders", orders)).sink("totals", totals);
    env.execute("sqlite totals")?;
    Ok(())
}

/// The job between its source and its sink.
fn sum(orders: Stream<Cents>) -> Stream<Cents> {
    orders.key_by_ref(|order| &order.customer).reduce("sum", |total, order| {
        total.cents += order.cents;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use millstream::testing::{self, conformance};
    use rusqlite::Connection;

    use super::*;

    /// A database of orders whose cents are all different.
    fn make_orders(path: &Path, count: i64) -> Vec<Cents> {
        let mut database = Connection::open(path).unwrap();
        let transaction = database.transaction().unwrap();
        transaction.execute("CREATE TABLE orders (customer TEXT, cents INTEGER)", ()).unwrap();
        let orders: Vec<Cents> =
            (0..count).map(|n| Cents { customer: format!("c{}", n * n % 97), cents: n }).collect();
        for Cents { customer, cents } in &orders {
            let row = (customer, cents);
            transaction.execute("INSERT INTO orders VALUES (?1, ?2)", row).unwrap();
        }
        transaction.commit().unwrap();
        orders
    }

    /// Reads with Python's SQLite, a program of its own.
    fn python(database: &Path, query: &str) -> String {
        let program = "import sqlite3, sys\n\
                       for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(*row)";
        let arguments = [database.to_str().unwrap(), query];
        let output = Command::new("python3").args(["-c", program]).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn totals_are_those_of_another_program() {
        let directory = tempfile::tempdir().unwrap();
        let (input, output) = (directory.path().join("in.db"), directory.path().join("out.db"));
        make_orders(&input, 5_000);
        let mut env = testing::environment();
        env.set_parallelism(3);
        env.set_runtime_mode(RuntimeMode::Batch);
        let orders = env.source("orders", OrdersTable::new(&input));
        sum(orders).sink("totals", TotalsTable::new(&output));
        env.execute("totals").unwrap();
        let expected = python(
            &input,
            "SELECT customer, SUM(cents) FROM orders GROUP BY customer ORDER BY customer",
        );
        assert_eq!(expected.lines().count(), 49);
        let totals = python(&output, "SELECT customer, cents FROM totals ORDER BY customer");
        assert_eq!(totals, expected);
        assert_eq!(python(&output, "SELECT COUNT(*) FROM prepared"), "0\n");
    }

    #[test]
    fn the_source_reads_every_row_once_whatever_happens() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("in.db");
        let orders = make_orders(&input, 2_500);
        let source = || OrdersTable::new(&input).rows_per_split(300);
        conformance::check_source(source, &orders, 0..30).unwrap();
    }

    /// A database that the sink writes numbers to.
    struct Totals(tempfile::TempDir);

    impl conformance::SinkTarget for Totals {
        type Record = Cents;
        type Sink = TotalsTable;

        fn sink(&self) -> TotalsTable {
            TotalsTable::new(self.0.path().join("out.db"))
        }

        fn record(&self, number: u64) -> Cents {
            Cents { customer: "one".to_owned(), cents: number as i64 }
        }

        fn published(&self) -> Result<Vec<u64>> {
            let database = Connection::open(self.0.path().join("out.db"))?;
            let mut rows = database.prepare("SELECT cents FROM totals")?;
            let numbers = rows.query_map((), |row| row.get::<_, i64>(0))?;
            numbers.map(|number| Ok(number? as u64)).collect()
        }

        fn leftovers(&self) -> Result<Vec<String>> {
            let database = Connection::open(self.0.path().join("out.db"))?;
            let mut rows = database.prepare("SELECT attempt FROM prepared")?;
            let attempts = rows.query_map((), |row| row.get::<_, String>(0))?;
            Ok(attempts.collect::<Result<_, _>>()?)
        }
    }

    #[test]
    fn the_sink_publishes_every_row_once_whatever_happens() {
        conformance::check_sink(|| Ok(Totals(tempfile::tempdir()?)), 0..20).unwrap();
    }
}
