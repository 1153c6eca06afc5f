//! Contexts and drivers for tests of readers and writers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_connector::{
    AttemptId, Batch, BatchLimit, CommitterInfo, JobId, NextSplit, OperatorId, Polled,
    ReaderContext, ReaderOutput, Result, Source, SourceReader, SplitEnumerator, WriterInfo,
};

/// Patience of a test with an event that must come.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bell(SyncSender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _rung_already = self.0.try_send(());
    }
}

/// The task's side of a waker.
pub(crate) struct Woken(Receiver<()>);

impl Woken {
    /// Waits until the waker is called.
    pub(crate) fn wait(&self) {
        self.0.recv_timeout(PATIENCE).expect("the reader wakes its task");
    }
}

/// The context of a reader, and what its waker rings.
pub(crate) fn context(subtask: u32, parallelism: u32) -> (ReaderContext, Woken) {
    let (sender, receiver) = sync_channel(1);
    let waker = Waker::from(Arc::new(Bell(sender)));
    let (dropped, replaced, skipped) = Default::default();
    let ctx = ReaderContext { subtask, parallelism, waker, dropped, replaced, skipped };
    (ctx, Woken(receiver))
}

fn step<R: SourceReader>(
    reader: &mut R,
    records: &mut Vec<R::Out>,
    woken: &Woken,
) -> Result<Polled> {
    let mut batch = Batch::empty(false);
    let polled = reader.poll(&mut ReaderOutput::new(&mut batch, &mut BatchLimit::new()))?;
    records.append(&mut batch.into_records());
    match polled {
        Polled::Pending(Some(until)) => {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        Polled::Pending(None) => woken.wait(),
        Polled::Ready | Polled::NeedSplit | Polled::Finished => {}
    }
    Ok(polled)
}

/// Reads everything that a reader without splits has.
pub(crate) fn read_reader<R: SourceReader>(mut reader: R, woken: &Woken) -> Result<Vec<R::Out>> {
    let mut records = Vec::new();
    while step(&mut reader, &mut records, woken)? != Polled::Finished {}
    Ok(records)
}

/// Reads everything that the splits hold which an enumerator has now.
pub(crate) fn read_splits<R, E>(reader: &mut R, found: &mut E, woken: &Woken) -> Result<Vec<R::Out>>
where
    R: SourceReader,
    E: SplitEnumerator<Split = R::Split>,
{
    let mut records = Vec::new();
    loop {
        if step(reader, &mut records, woken)? == Polled::NeedSplit {
            match found.next_split(0)? {
                NextSplit::Split(split) => reader.add_splits(vec![split])?,
                NextSplit::Later | NextSplit::NoMore => return Ok(records),
            }
        }
    }
}

/// Reads a source with an enumerator to its end with one subtask; also how many were dropped.
pub(crate) fn read_source<S: Source>(source: &S) -> Result<(Vec<S::Out>, i64)> {
    let (ctx, woken) = context(0, 1);
    let mut enumerator = source.enumerator(None)?;
    enumerator.discover()?;
    let mut reader = source.reader(&ctx)?;
    let records = read_splits(&mut reader, &mut enumerator, &woken)?;
    Ok((records, ctx.dropped.get()))
}

fn job() -> JobId {
    JobId::from_bytes([0xab; 16])
}

fn operator() -> OperatorId {
    OperatorId::from_bytes([0xcd; 16])
}

/// The context of a writer.
pub(crate) fn writer_info(subtask: u32, parallelism: u32, attempt: u32) -> WriterInfo {
    let (job, operator, attempt) = (job(), operator(), AttemptId::new(attempt));
    WriterInfo { job, operator, subtask, parallelism, attempt, waker: Waker::noop().clone() }
}

/// The context of a committer.
pub(crate) fn committer_info() -> CommitterInfo {
    CommitterInfo { job: job(), operator: operator() }
}

/// The attempts before this one.
pub(crate) fn before(attempt: u32) -> Vec<AttemptId> {
    AttemptId::new(attempt).earlier().collect()
}

/// A reader of a source without an enumerator, with its share of the splits.
pub(crate) fn reader_of<S: Source>(source: &S, ctx: &ReaderContext) -> S::Reader {
    let mut reader = source.reader(ctx).unwrap();
    let splits = source.splits().unwrap().into_iter().skip(ctx.subtask as usize);
    reader.add_splits(splits.step_by(ctx.parallelism as usize).collect()).unwrap();
    reader
}
