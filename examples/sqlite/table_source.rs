//! A source that reads a table in ranges of row ids.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use millstream::connectors::*;
use millstream::{Result, error};
use rusqlite::Connection;

use crate::Cents;

/// The rows that are fetched at once.
const FETCHED_ROWS: i64 = 500;

/// The rows of the table `orders`.
#[derive(Clone)]
pub(crate) struct OrdersTable {
    database: PathBuf,
    rows_per_split: i64,
}

impl OrdersTable {
    /// Reads the table of this database.
    pub(crate) fn new(database: impl Into<PathBuf>) -> Self {
        Self { database: database.into(), rows_per_split: 10_000 }
    }

    /// Sets the number of rows that a subtask is given at a time.
    #[cfg(test)]
    pub(crate) fn rows_per_split(self, rows: i64) -> Self {
        Self { rows_per_split: rows, ..self }
    }
}

/// Row ids from the first one that is not read to before the end: a split is its own position.
#[millstream::record]
pub(crate) struct Rows {
    next: i64,
    end: i64,
}

impl Source for OrdersTable {
    type Out = Cents;
    type Split = Rows;
    type Reader = RowReader;
    type Enumerator = RowRanges;

    fn plan(&mut self, ctx: &mut PlanContext<'_>) -> Result<()> {
        if self.database.is_relative() {
            self.database = ctx.working_directory()?.join(&self.database);
        }
        Ok(())
    }

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<RowReader> {
        let (source, ctx) = (self.clone(), ctx.clone());
        Ok(RowReader { source, ctx, splits: Vec::new(), fetched: None })
    }

    fn enumerator(&self, restored: Option<Ranges>) -> Result<RowRanges> {
        let ranges = match restored {
            Some(ranges) => ranges,
            None => {
                let query = "SELECT COALESCE(MIN(rowid), 0), COALESCE(MAX(rowid), -1) FROM orders";
                let ids = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
                let (next, last): (i64, i64) =
                    Connection::open(&self.database)?.query_row(query, (), ids)?;
                Ranges { left: Rows { next, end: last + 1 }, returned: Vec::new() }
            }
        };
        Ok(RowRanges { ranges, rows_per_split: self.rows_per_split })
    }
}

/// The rows that are not handed out, as a checkpoint keeps them.
#[millstream::record]
pub(crate) struct Ranges {
    left: Rows,
    returned: Vec<Rows>,
}

/// Hands out ranges of rows.
pub(crate) struct RowRanges {
    ranges: Ranges,
    rows_per_split: i64,
}

impl SplitEnumerator for RowRanges {
    type Split = Rows;
    type State = Ranges;

    fn discover(&mut self) -> Result<Option<Duration>> {
        Ok(None) // rows that are added later are not read
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Rows>> {
        if let Some(split) = self.ranges.returned.pop() {
            return Ok(NextSplit::Split(split));
        }
        let left = &mut self.ranges.left;
        if left.next >= left.end {
            return Ok(NextSplit::NoMore);
        }
        let next = left.next;
        left.next = left.end.min(next + self.rows_per_split);
        Ok(NextSplit::Split(Rows { next, end: left.next }))
    }

    fn give_back(&mut self, _subtask: u32, splits: Vec<Rows>) -> Result<()> {
        self.ranges.returned.extend(splits);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Ranges> {
        Ok(self.ranges.clone())
    }
}

/// Rows with their ids; empty after the last one.
type Fetched = Result<Vec<(i64, Cents)>>;

/// Reads one range after another. SQLite is asked on a thread of its own, as it may block.
pub(crate) struct RowReader {
    source: OrdersTable,
    ctx: ReaderContext,
    /// The rows that are not handed over yet; the first one is being fetched.
    splits: Vec<Rows>,
    fetched: Option<Receiver<Fetched>>,
}

impl SourceReader for RowReader {
    type Out = Cents;
    type Split = Rows;

    fn add_splits(&mut self, splits: Vec<Rows>) -> Result<()> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, Cents>) -> Result<Polled> {
        let Some(split) = self.splits.first_mut() else { return Ok(Polled::NeedSplit) };
        let fetched = self.fetched.get_or_insert_with(|| {
            // The thread is at most two fetches ahead, and ends when the reader is dropped.
            let (sender, fetched) = sync_channel(1);
            let (source, ctx, rows) = (self.source.clone(), self.ctx.clone(), split.clone());
            thread::spawn(move || fetch_all(&source, rows, &sender, &ctx));
            fetched
        });
        match fetched.try_recv() {
            Ok(rows) => {
                let rows = rows?;
                if rows.is_empty() {
                    self.splits.remove(0);
                    self.fetched = None;
                }
                for (id, order) in rows {
                    out.push(order)?;
                    // The position moves with the records that are handed over.
                    if let Some(split) = self.splits.first_mut() {
                        split.next = id + 1;
                    }
                }
                Ok(Polled::Ready)
            }
            Err(TryRecvError::Empty) => Ok(Polled::Pending(None)),
            Err(TryRecvError::Disconnected) => Err(error!("the thread that fetches rows has died")),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Rows>> {
        Ok(self.splits.clone())
    }
}

/// Hands over the rows of a range, and wakes the task each time.
fn fetch_all(
    source: &OrdersTable,
    mut rows: Rows,
    sender: &SyncSender<Fetched>,
    ctx: &ReaderContext,
) {
    loop {
        let fetched = fetch(source, &rows);
        let is_last = fetched.as_ref().map_or(true, Vec::is_empty);
        if let Ok(fetched) = &fetched {
            rows.next = fetched.last().map_or(rows.next, |(id, _)| id + 1);
        }
        let is_wanted = sender.send(fetched).is_ok();
        ctx.waker.wake_by_ref();
        if is_last || !is_wanted {
            return;
        }
    }
}

fn fetch(source: &OrdersTable, rows: &Rows) -> Fetched {
    let database = Connection::open(&source.database)?;
    let mut query = database.prepare(
        "SELECT rowid, customer, cents FROM orders WHERE rowid >= ?1 AND rowid < ?2 \
         ORDER BY rowid LIMIT ?3",
    )?;
    let orders = query.query_map((rows.next, rows.end, FETCHED_ROWS), |row| {
        Ok((row.get(0)?, Cents { customer: row.get(1)?, cents: row.get(2)? }))
    })?;
    Ok(orders.collect::<Result<_, _>>()?)
}
