//! A sink that commits in two phases: rows are prepared in a table of their own, and moved into
//! `totals` when they count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::connectors::*;
use millstream::{Result, bail};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::Cents;

/// The time for which a writer waits while another one writes.
const PATIENCE: Duration = Duration::from_secs(60);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS prepared (
        attempt TEXT, batch TEXT, customer TEXT, cents INTEGER);
    CREATE TABLE IF NOT EXISTS committed (
        attempt TEXT, batch TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS totals (
        customer TEXT, cents INTEGER, batch TEXT);";

/// The table `totals`.
pub(crate) struct TotalsTable {
    database: PathBuf,
    /// Called behind each transaction that has moved rows: tests end the process there.
    on_moved: fn(),
}

impl TotalsTable {
    /// Writes to the table of this database, which is made if it does not exist.
    pub(crate) fn new(database: impl Into<PathBuf>) -> Self {
        Self { database: database.into(), on_moved: || () }
    }

    #[cfg(test)]
    pub(crate) fn on_moved(mut self, call: fn()) -> Self {
        self.on_moved = call;
        self
    }
}

/// Names rows that are prepared. The text has the job, the attempt, the subtask and the checkpoint,
/// so that no two names are the same, whenever they are given.
#[millstream::record]
pub(crate) struct Batch {
    name: String,
}

impl Sink<Cents> for TotalsTable {
    type Committable = Batch;
    type Writer = RowWriter;
    type Committer = RowCommitter;

    fn plan(&mut self, ctx: &mut PlanContext<'_>) -> Result<()> {
        if self.database.is_relative() {
            self.database = ctx.working_directory()?.join(&self.database);
        }
        Ok(())
    }

    fn writer(&self, info: &WriterInfo) -> Result<RowWriter> {
        let attempt = attempt_name(info.job, info.attempt);
        Ok(RowWriter {
            database: self.database.clone(),
            name: format!("{attempt}/{}", info.subtask),
            attempt,
            rows: Vec::new(),
        })
    }

    fn committer(&self, info: &CommitterInfo) -> Result<RowCommitter> {
        let (database, on_moved) = (self.database.clone(), self.on_moved);
        Ok(RowCommitter { database, job: info.job, on_moved })
    }
}

fn attempt_name(job: JobId, attempt: AttemptId) -> String {
    format!("{job}/{attempt}")
}

fn open(database: &Path) -> Result<Connection> {
    let database = Connection::open(database)?;
    database.busy_timeout(PATIENCE)?;
    Ok(database)
}

/// Does something in one transaction.
fn in_transaction<R>(
    database: &Path,
    act: impl FnOnce(&Transaction<'_>) -> Result<R>,
) -> Result<R> {
    let mut database = open(database)?;
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = act(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Keeps rows until a checkpoint, then prepares them.
pub(crate) struct RowWriter {
    database: PathBuf,
    attempt: String,
    name: String,
    rows: Vec<Cents>,
}

impl SinkWriter<Cents> for RowWriter {
    type Committable = Batch;

    fn write(&mut self, batch: millstream::Batch<Cents>) -> Result<Flow> {
        self.rows.extend(batch.into_records());
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<Batch>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch { name: format!("{}/{id}", self.name) };
        in_transaction(&self.database, |transaction| {
            let mut insert = transaction.prepare("INSERT INTO prepared VALUES (?1, ?2, ?3, ?4)")?;
            for row in &self.rows {
                insert.execute((&self.attempt, &batch.name, &row.customer, row.cents))?;
            }
            Ok(())
        })?;
        self.rows.clear();
        Ok(vec![batch])
    }
}

/// Moves prepared rows to where they are read.
pub(crate) struct RowCommitter {
    database: PathBuf,
    job: JobId,
    on_moved: fn(),
}

impl RowCommitter {
    fn attempts(&self, ended: &[AttemptId]) -> impl Iterator<Item = String> {
        ended.iter().map(|attempt| attempt_name(self.job, *attempt))
    }
}

impl Committer for RowCommitter {
    type Committable = Batch;

    fn recover(
        &mut self,
        pending: Vec<(CheckpointId, Vec<Batch>)>,
        ended: &[AttemptId],
    ) -> Result<()> {
        open(&self.database)?.execute_batch(TABLES)?;
        for (id, batches) in pending {
            self.commit(id, batches)?;
        }
        in_transaction(&self.database, |transaction| {
            for attempt in self.attempts(ended) {
                transaction.execute("DELETE FROM prepared WHERE attempt = ?1", [attempt])?;
            }
            Ok(())
        })
    }

    fn commit(&mut self, id: CheckpointId, batches: Vec<Batch>) -> Result<()> {
        in_transaction(&self.database, |transaction| {
            for Batch { name } in &batches {
                let query = "SELECT COUNT(*) FROM committed WHERE batch = ?1";
                if transaction.query_row(query, [name], |row| row.get::<_, i64>(0))? > 0 {
                    continue; // by this committer, or by one before it
                }
                let moved = transaction.execute(
                    "INSERT INTO totals SELECT customer, cents, batch FROM prepared \
                     WHERE batch = ?1",
                    [name],
                )?;
                if moved == 0 {
                    bail!("the rows {name} of {id} are neither prepared nor committed");
                }
                transaction.execute(
                    "INSERT INTO committed SELECT DISTINCT attempt, batch FROM prepared \
                     WHERE batch = ?1",
                    [name],
                )?;
                transaction.execute("DELETE FROM prepared WHERE batch = ?1", [name])?;
            }
            Ok(())
        })?;
        if !batches.is_empty() {
            (self.on_moved)(); // a process that dies here is asked to commit again
        }
        Ok(())
    }

    fn abort(&mut self, ended: &[AttemptId]) -> Result<()> {
        open(&self.database)?.execute_batch(TABLES)?;
        in_transaction(&self.database, |transaction| {
            for attempt in self.attempts(ended) {
                transaction.execute(
                    "DELETE FROM totals WHERE batch IN \
                     (SELECT batch FROM committed WHERE attempt = ?1)",
                    [&attempt],
                )?;
                transaction.execute("DELETE FROM committed WHERE attempt = ?1", [&attempt])?;
                transaction.execute("DELETE FROM prepared WHERE attempt = ?1", [&attempt])?;
            }
            Ok(())
        })
    }
}
