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
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};

    use millstream::ensure;
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

    /// The settings of a job that takes checkpoints here, with more.
    fn settings<'a>(checkpoints: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut settings = vec![
            ("execution.checkpointing.interval", "10 ms"),
            ("execution.checkpointing.dir", checkpoints),
            ("restart-strategy.type", "fixed-delay"),
            ("restart-strategy.fixed-delay.attempts", "3"),
            ("restart-strategy.fixed-delay.delay", "1 ms"),
        ];
        settings.extend(more);
        settings
    }

    /// The rows of an output so far.
    fn count_rows(output: &Path) -> i64 {
        let count = |database: Connection| {
            database.query_row("SELECT COUNT(*) FROM totals", (), |row| row.get(0))
        };
        Connection::open(output).and_then(count).unwrap_or(0)
    }

    /// Copies orders one by one, so that each is a row of the output. The first attempt fails in
    /// the second half if it should, once some rows are there.
    fn copy_orders(
        input: &Path,
        table: TotalsTable,
        fails: Option<&Path>,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut env = testing::environment_with(settings.iter().copied());
        env.set_parallelism(2);
        env.set_runtime_mode(RuntimeMode::Streaming);
        let orders = env.source("orders", OrdersTable::new(input).rows_per_split(100));
        let output = fails.map(Path::to_owned);
        let orders = orders.map_with(move |ctx| {
            let output = output.clone().filter(|_| ctx.attempt() == 0);
            Ok(move |order: Cents| {
                std::thread::sleep(std::time::Duration::from_micros(300));
                let fails = |output: &PathBuf| order.cents >= 1_500 && count_rows(output) > 0;
                ensure!(!output.as_ref().is_some_and(fails), "it fails at {}", order.cents);
                Ok(order)
            })
        });
        orders.sink("rows", table);
        env.execute("rows")?;
        Ok(())
    }

    /// Checks that all orders are in the output, each once.
    fn check_rows(input: &Path, output: &Path) {
        let rows = |table| format!("SELECT customer, cents FROM {table} ORDER BY cents");
        assert_eq!(python(output, &rows("totals")), python(input, &rows("orders")));
    }

    #[test]
    fn a_job_that_fails_in_the_middle_has_each_row_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let (input, output) = (path("in.db"), path("out.db"));
        make_orders(&input, 3_000);
        let checkpoints = path("checkpoints").display().to_string();
        let settings = settings(&checkpoints, &[]);
        static MOVES: AtomicU32 = AtomicU32::new(0);
        let table = TotalsTable::new(&output).on_moved(|| {
            MOVES.fetch_add(1, Ordering::SeqCst);
        });
        copy_orders(&input, table, Some(&output), &settings).unwrap();
        assert!(MOVES.load(Ordering::SeqCst) > 2, "its rows have come by and by");
        check_rows(&input, &output);
        assert_eq!(python(&output, "SELECT COUNT(*) FROM prepared"), "0\n");
        let attempts = "SELECT COUNT(DISTINCT attempt) FROM committed";
        // Nothing connects the two subtasks: each of them may have failed by itself.
        let attempts: u32 = python(&output, attempts).trim().parse().unwrap();
        assert!((2..=3).contains(&attempts), "{attempts} attempts");
    }

    /// The directory of a process that is to die, in its environment.
    const DIES_IN: &str = "SQLITE_TOTALS_DIES_IN";

    /// The newest checkpoint below a directory.
    fn newest_checkpoint(directory: &Path) -> PathBuf {
        let jobs = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let all = jobs.flat_map(|job| std::fs::read_dir(job).unwrap());
        let all = all.map(|entry| entry.unwrap().path());
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix("chk-")?;
            name.parse::<u64>().ok().filter(|_| path.join("_metadata").exists())
        };
        all.max_by_key(number).filter(|path| number(path).is_some()).expect("no checkpoint")
    }

    #[test]
    fn a_process_that_dies_between_a_commit_and_its_confirmation_doubles_no_row() {
        if let Some(directory) = std::env::var_os(DIES_IN).map(PathBuf::from) {
            let checkpoints = directory.join("checkpoints").display().to_string();
            let table = TotalsTable::new(directory.join("out.db")).on_moved(|| {
                static MOVES: AtomicU32 = AtomicU32::new(0);
                if MOVES.fetch_add(1, Ordering::SeqCst) == 2 {
                    std::process::abort();
                }
            });
            copy_orders(&directory.join("in.db"), table, None, &settings(&checkpoints, &[]))
                .unwrap();
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let (input, output) = (path("in.db"), path("out.db"));
        make_orders(&input, 3_000);
        let this = std::env::current_exe().unwrap();
        let test = "a_process_that_dies_between_a_commit_and_its_confirmation_doubles_no_row";
        let dies = Command::new(this)
            .args(["--exact", &format!("tests::{test}")])
            .env(DIES_IN, directory.path())
            .output()
            .unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&dies.status),
            Some(6),
            "{dies:?}"
        );
        assert!((1..3_000).contains(&count_rows(&output)));
        let from = newest_checkpoint(&path("checkpoints"));
        // The checkpoint names rows that are moved already: their commit comes again.
        let metadata = std::fs::read(from.join("_metadata")).unwrap();
        let moved = python(&output, "SELECT batch FROM committed");
        let is_named = |batch: &str| metadata.windows(batch.len()).any(|it| it == batch.as_bytes());
        assert!(moved.lines().any(is_named), "{moved}");
        let from = from.display().to_string();
        let checkpoints = path("later").display().to_string();
        let settings = settings(&checkpoints, &[("execution.state-recovery.path", &from)]);
        copy_orders(&input, TotalsTable::new(&output), None, &settings).unwrap();
        check_rows(&input, &output);
    }
}
