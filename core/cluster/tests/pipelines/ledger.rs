//! The place where a job publishes: a sink in the memory of the world, which checks that nothing is
//! published that no complete checkpoint carries, or that the job's input does not say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use millstream_api::{
    AttemptId, Batch, Blocks, CheckpointId, Committer, CommitterInfo, Flow, JobId, Result, Sink,
    SinkWriter, WriterInfo, bail,
};
use serde::{Deserialize, Serialize};

use crate::program::Trouble;

/// A result of any of the programs.
pub type Record = (u64, i64, u64);

/// Names what a writer wrote for one checkpoint: its job, attempt and subtask, and the number of
/// its parts before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    job: JobId,
    attempt: AttemptId,
    subtask: u32,
    part: u32,
    checkpoint: u64,
}

/// The results outside of the job.
#[derive(Debug, Default)]
struct Pages {
    /// Written and not published.
    staged: BTreeMap<Name, Vec<Record>>,
    published: BTreeSet<Name>,
    /// The results that are to come, each as often.
    left: BTreeMap<Record, u64>,
    /// The number of results that are published.
    results: u64,
    /// The newest checkpoint of the storage.
    stored: u64,
    /// The first thing that must not have happened.
    fault: Option<String>,
    /// The writers take nothing.
    stalled: bool,
    wakers: Vec<Waker>,
    /// The number of times that a writer was full.
    full: u64,
    /// Commits of what was published already.
    repeated: u64,
    /// Parts that were discarded.
    discarded: u64,
    /// Records that a full writer gave back.
    handed_back: u64,
}

/// Clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pages: Arc<Mutex<Pages>>,
    /// Has the committer fail.
    pub trouble: Trouble,
}

impl Ledger {
    pub fn new(expected: BTreeMap<Record, u64>) -> Self {
        let pages = Mutex::new(Pages { left: expected, ..Pages::default() });
        Self { pages: Arc::new(pages), trouble: Trouble::default() }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A checkpoint is in the storage.
    pub fn on_stored(&self, id: u64) {
        let mut pages = self.pages();
        pages.stored = pages.stored.max(id);
    }

    /// Has writers take nothing from now on, or go on.
    pub fn stall(&self, stalled: bool) {
        let mut pages = self.pages();
        pages.stalled = stalled;
        if !stalled {
            pages.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// The first thing that must not have happened.
    pub fn fault(&self) -> Option<String> {
        self.pages().fault.clone()
    }

    /// The first of the results that are missing, and their number.
    pub fn missing(&self) -> Option<(Record, usize)> {
        let pages = self.pages();
        let first = pages.left.first_key_value()?;
        Some((*first.0, pages.left.len()))
    }

    /// Results published, writers full, commits repeated, parts discarded, records handed back.
    pub fn counts(&self) -> [u64; 5] {
        let pages = self.pages();
        [pages.results, pages.full, pages.repeated, pages.discarded, pages.handed_back]
    }
}

impl Pages {
    fn wrong(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    fn publish(&mut self, name: Name) {
        if self.published.contains(&name) {
            self.repeated += 1;
            return;
        }
        let Some(records) = self.staged.remove(&name) else {
            return self.wrong(format!("{name:?} is to be published and is not there"));
        };
        if name.checkpoint > self.stored {
            let stored = self.stored;
            self.wrong(format!("{name:?} is published, and the newest checkpoint is {stored}"));
        }
        self.published.insert(name);
        for record in records {
            self.results += 1;
            match self.left.get_mut(&record) {
                Some(1) => drop(self.left.remove(&record)),
                Some(left) => *left -= 1,
                None => self.wrong(format!("{record:?} is published, once too often: {name:?}")),
            }
        }
    }

    fn discard(&mut self, job: JobId, ended: &[AttemptId]) {
        let before = self.staged.len();
        self.staged.retain(|name, _| name.job != job || !ended.contains(&name.attempt));
        self.discarded += (before - self.staged.len()) as u64;
    }
}

impl Sink<Record> for Ledger {
    type Committable = Name;
    type Writer = Writer;
    type Committer = Publisher;

    fn writer(&self, info: &WriterInfo) -> Result<Writer> {
        let (job, attempt, subtask) = (info.job, info.attempt, info.subtask);
        Ok(Writer {
            ledger: self.clone(),
            next: Name { job, attempt, subtask, part: 0, checkpoint: 0 },
            records: Vec::new(),
            taken: None,
            waker: info.waker.clone(),
        })
    }

    fn committer(&self, info: &CommitterInfo) -> Result<Publisher> {
        Ok(Publisher(self.clone(), info.job))
    }
}

pub struct Writer {
    ledger: Ledger,
    /// The name of the next part.
    next: Name,
    records: Vec<Record>,
    /// The batch that it has taken while the ledger is stalled.
    taken: Option<Batch<Record>>,
    waker: Waker,
}

impl SinkWriter<Record> for Writer {
    type Committable = Name;

    fn blocks(&self) -> Blocks {
        Blocks::Nothing
    }

    fn write(&mut self, batch: Batch<Record>) -> Result<Flow> {
        let mut pages = self.ledger.pages();
        if pages.stalled {
            pages.full += 1;
            pages.wakers.push(self.waker.clone());
            self.taken = Some(batch);
            return Ok(Flow::Full);
        }
        self.records.extend(batch.into_records());
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        let mut pages = self.ledger.pages();
        if pages.stalled {
            pages.wakers.push(self.waker.clone());
            return Ok(Flow::Full);
        }
        self.records.extend(self.taken.take().into_iter().flat_map(Batch::into_records));
        Ok(Flow::Ready)
    }

    fn hand_back(&mut self) -> Result<Option<Batch<Record>>> {
        let back = self.taken.take();
        self.ledger.pages().handed_back += back.as_ref().map_or(0, Batch::len) as u64;
        Ok(back)
    }

    fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<Name>> {
        if self.records.is_empty() {
            return Ok(Vec::new());
        }
        let name = Name { checkpoint: id.get(), ..self.next };
        self.next.part += 1;
        let mut pages = self.ledger.pages();
        if pages.staged.contains_key(&name) || pages.published.contains(&name) {
            pages.wrong(format!("{name:?} is written twice"));
        }
        pages.staged.insert(name, std::mem::take(&mut self.records));
        Ok(vec![name])
    }
}

pub struct Publisher(Ledger, JobId);

impl Committer for Publisher {
    type Committable = Name;

    fn recover(
        &mut self,
        pending: Vec<(CheckpointId, Vec<Name>)>,
        ended: &[AttemptId],
    ) -> Result<()> {
        // A failure of the last call, which has nothing to publish, fails the job for good.
        if !pending.is_empty() {
            self.0.trouble.strike()?;
        }
        let mut pages = self.0.pages();
        pending.into_iter().flat_map(|(_, names)| names).for_each(|name| pages.publish(name));
        pages.discard(self.1, ended);
        Ok(())
    }

    fn commit(&mut self, _id: CheckpointId, names: Vec<Name>) -> Result<()> {
        self.0.trouble.strike()?;
        let mut pages = self.0.pages();
        names.into_iter().for_each(|name| pages.publish(name));
        Ok(())
    }

    fn abort(&mut self, ended: &[AttemptId]) -> Result<()> {
        let mut pages = self.0.pages();
        let is_ended = |name: &&Name| name.job == self.1 && ended.contains(&name.attempt);
        if let Some(name) = pages.published.iter().find(is_ended) {
            bail!("{name:?} is published and was to be given up");
        }
        pages.discard(self.1, ended);
        Ok(())
    }
}
