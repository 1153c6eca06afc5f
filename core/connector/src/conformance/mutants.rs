//! Faults that sources and sinks could have: the suites must find each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_graph::Boundedness;
use millstream_network::{Batch, Flow};
use millstream_types::{AttemptId, CheckpointId};
use serde::{Deserialize, Serialize};

use super::{SinkTarget, check_sink, check_source};
use crate::Result;
use crate::reader_output::ReaderOutput;
use crate::sink::{Committer, CommitterInfo, Sink, SinkWriter, WriterInfo};
use crate::source::{NextSplit, Polled, ReaderContext, Source, SourceReader, SplitEnumerator};

const SEEDS: Range<u64> = 0..500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceFault {
    None,
    /// The position is that of what was fetched.
    PositionAhead,
    /// The position is the beginning of the split.
    PositionForgotten,
    /// A snapshot has only the split that is being read.
    WaitingSplitsForgotten,
    /// A snapshot has a split that is read.
    EndedSplitKept,
    /// A snapshot takes the splits away.
    SnapshotTakes,
    /// Reading is backwards after a restore.
    Reordered,
    /// Splits that are given back are dropped.
    GivenBackLost,
    /// They are read from their beginning.
    GivenBackAnew,
    /// Splits that an enumerator before has handed out are handed out again.
    HandedOutIgnored,
    /// With them others are taken for handed out.
    HandedOutTakesOthers,
    /// The state of the enumerator has too few splits.
    StateForgets,
    /// The enumerator begins anew after a restore.
    StateIgnored,
    /// The last record is lost once in a while: nothing to do with restores.
    LosesRecord,
    /// Records are said to be of the split that was read first.
    NamesFirstSplit,
    /// A split ends before its last records.
    EndsSplitEarly,
}

const SOURCE_FAULTS: [SourceFault; 15] = [
    SourceFault::PositionAhead,
    SourceFault::PositionForgotten,
    SourceFault::WaitingSplitsForgotten,
    SourceFault::EndedSplitKept,
    SourceFault::SnapshotTakes,
    SourceFault::Reordered,
    SourceFault::GivenBackLost,
    SourceFault::GivenBackAnew,
    SourceFault::HandedOutIgnored,
    SourceFault::HandedOutTakesOthers,
    SourceFault::StateForgets,
    SourceFault::StateIgnored,
    SourceFault::LosesRecord,
    SourceFault::NamesFirstSplit,
    SourceFault::EndsSplitEarly,
];

/// Numbers in splits of ten.
struct Numbers(SourceFault);

const COUNT: u64 = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Split {
    begin: u64,
    next: u64,
    end: u64,
}

struct Reader {
    fault: SourceFault,
    splits: Vec<Split>,
    read: Option<Split>,
    /// The number of splits that have ended.
    ended: u64,
    is_restored: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Found {
    next: u64,
    returned: Vec<Split>,
    /// The beginnings of splits behind the next one that were handed out already.
    handed: BTreeSet<u64>,
}

struct Enumerator(SourceFault, Found);

impl Source for Numbers {
    type Out = u64;
    type Split = Split;
    type Reader = Reader;
    type Enumerator = Enumerator;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<Reader> {
        let (fault, splits) = (self.0, Vec::new());
        Ok(Reader { fault, splits, read: None, ended: 0, is_restored: false })
    }

    fn enumerator(&self, restored: Option<Found>) -> Result<Enumerator> {
        let found = restored.filter(|_| self.0 != SourceFault::StateIgnored);
        Ok(Enumerator(self.0, found.unwrap_or_default()))
    }
}

impl SourceReader for Reader {
    type Out = u64;
    type Split = Split;

    fn add_splits(&mut self, mut splits: Vec<Split>) -> Result<()> {
        if self.fault == SourceFault::PositionForgotten {
            splits.iter_mut().for_each(|split| split.next = split.begin);
        }
        self.is_restored |= splits.iter().any(|split| split.next > split.begin);
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let Some(split) = self.splits.first_mut() else { return Ok(Polled::NeedSplit) };
        let mut count = 3.min(split.end - split.next);
        let names_first = self.fault == SourceFault::NamesFirstSplit;
        out.of_split(if names_first { 0 } else { self.ended });
        if self.fault == SourceFault::Reordered && self.is_restored {
            out.extend((split.next..split.next + count).rev())?;
        } else {
            if self.fault == SourceFault::LosesRecord && split.next == 40 {
                count = 2;
                split.next += 1;
            }
            out.extend(split.next..split.next + count)?;
        }
        split.next += count;
        let ends_at = split.end - u64::from(self.fault == SourceFault::EndsSplitEarly) * 5;
        if !names_first && (ends_at..ends_at + 3).contains(&split.next) {
            out.end_split(self.ended);
        }
        if split.next >= split.end {
            self.ended += 1;
            self.read = Some(self.splits.remove(0));
        }
        Ok(Polled::Ready)
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let mut splits = self.splits.clone();
        match self.fault {
            SourceFault::PositionAhead => {
                splits.iter_mut().for_each(|it| it.next = (it.next + 1).min(it.end));
            }
            SourceFault::WaitingSplitsForgotten => splits.truncate(1),
            SourceFault::EndedSplitKept => {
                splits.extend(self.read.clone().map(|it| Split { next: it.begin, ..it }));
            }
            SourceFault::SnapshotTakes => self.splits.clear(),
            _ => {}
        }
        Ok(splits)
    }
}

impl SplitEnumerator for Enumerator {
    type Split = Split;
    type State = Found;

    const RESTARTS_ALONE: bool = true;

    fn discover(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Split>> {
        if let Some(split) = self.1.returned.pop() {
            return Ok(NextSplit::Split(split));
        }
        while self.1.handed.remove(&self.1.next) {
            self.1.next += 10;
        }
        let begin = self.1.next;
        if begin >= COUNT {
            return Ok(NextSplit::NoMore);
        }
        self.1.next += 10;
        Ok(NextSplit::Split(Split { begin, next: begin, end: begin + 10 }))
    }

    fn give_back(&mut self, _subtask: u32, splits: Vec<Split>) -> Result<()> {
        match self.0 {
            SourceFault::GivenBackLost => {}
            SourceFault::GivenBackAnew => {
                let anew = splits.into_iter().map(|split| Split { next: split.begin, ..split });
                self.1.returned.extend(anew);
            }
            _ => self.1.returned.extend(splits),
        }
        Ok(())
    }

    fn was_handed_out(&mut self, splits: Vec<(u32, Split)>) -> Result<()> {
        for (_, Split { begin, .. }) in splits {
            match self.0 {
                SourceFault::HandedOutIgnored => {}
                SourceFault::HandedOutTakesOthers => self.1.next = self.1.next.max(begin + 10),
                _ => {
                    let before = self.1.returned.len();
                    self.1.returned.retain(|split| split.begin != begin);
                    if self.1.returned.len() == before {
                        self.1.handed.insert(begin);
                    }
                }
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Found> {
        let mut found = self.1.clone();
        if self.0 == SourceFault::StateForgets {
            found.returned.clear();
        }
        Ok(found)
    }
}

/// The first failure of a source with a fault.
fn check(fault: SourceFault) -> Result<()> {
    check_source(|| Numbers(fault), &(0..COUNT).collect::<Vec<_>>(), SEEDS)
}

#[test]
fn faults_of_a_source_are_found() {
    check(SourceFault::None).unwrap();
    for fault in SOURCE_FAULTS {
        let Err(error) = check(fault) else { panic!("{fault:?} is not found") };
        println!("{fault:?}: {error:#}");
    }
}

#[test]
fn records_that_look_alike_are_refused() {
    let error = check_source(|| Numbers(SourceFault::None), &[1, 2, 1], 0..1).unwrap_err();
    assert!(error.to_string().contains("1 is expected twice"), "{error}");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinkFault {
    None,
    /// Each batch is published at once.
    PublishesEarly,
    /// A pre-commit leaves out the record that was written last.
    PreCommitForgets,
    /// A commit adds its records again.
    CommitRepeats,
    /// A recovery publishes nothing.
    PendingIgnored,
    /// A recovery discards what running writers have named.
    DiscardsOthers,
    /// A recovery takes back what is published.
    DiscardsPublished,
    /// Nothing is ever discarded.
    DiscardsNothing,
    /// Closing leaves things behind.
    CloseForgets,
    /// A commit of what is gone is answered as one of what is published.
    LostIgnored,
    /// Results of a commit without confirmation stay when their attempt is aborted.
    AbortKeepsPublished,
    /// Names become others on their way.
    NamesChange,
}

const SINK_FAULTS: [SinkFault; 11] = [
    SinkFault::PublishesEarly,
    SinkFault::PreCommitForgets,
    SinkFault::CommitRepeats,
    SinkFault::PendingIgnored,
    SinkFault::DiscardsOthers,
    SinkFault::DiscardsPublished,
    SinkFault::DiscardsNothing,
    SinkFault::CloseForgets,
    SinkFault::LostIgnored,
    SinkFault::AbortKeepsPublished,
    SinkFault::NamesChange,
];

/// Names what one writer wrote between two checkpoints: attempt, subtask, number, and a part that
/// does not travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Name(AttemptId, u32, u64, #[serde(skip)] u64);

/// A store with a part that no reader sees.
#[derive(Debug, Default)]
struct Store {
    staged: BTreeMap<Name, Vec<u64>>,
    published: BTreeMap<Name, Vec<u64>>,
}

#[derive(Clone)]
struct Memory {
    fault: SinkFault,
    store: Arc<Mutex<Store>>,
}

impl SinkTarget for Memory {
    type Record = u64;
    type Sink = Self;

    fn sink(&self) -> Self {
        self.clone()
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn published(&self) -> Result<Vec<u64>> {
        Ok(self.store.lock().unwrap().published.values().flatten().copied().collect())
    }

    fn leftovers(&self) -> Result<Vec<String>> {
        Ok(self.store.lock().unwrap().staged.keys().map(|name| format!("{name:?}")).collect())
    }
}

struct MemoryWriter {
    memory: Memory,
    attempt: AttemptId,
    subtask: u32,
    number: u64,
    buffer: Vec<u64>,
}

impl Sink<u64> for Memory {
    type Committable = Name;
    type Writer = MemoryWriter;
    type Committer = Memory;

    fn writer(&self, info: &WriterInfo) -> Result<MemoryWriter> {
        Ok(MemoryWriter {
            memory: self.clone(),
            attempt: info.attempt,
            subtask: info.subtask,
            number: 0,
            buffer: Vec::new(),
        })
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Memory> {
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for MemoryWriter {
    type Committable = Name;

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        self.buffer.extend(batch.into_records());
        if self.memory.fault == SinkFault::PublishesEarly {
            drop(self.pre_commit(CheckpointId::FIRST)?);
            let mut store = self.memory.store.lock().unwrap();
            let staged = std::mem::take(&mut store.staged);
            store.published.extend(staged);
        }
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<Name>> {
        let mut records = std::mem::take(&mut self.buffer);
        if self.memory.fault == SinkFault::PreCommitForgets {
            self.buffer.extend(records.pop());
        }
        self.number += 1;
        let part = u64::from(self.memory.fault == SinkFault::NamesChange);
        let name = Name(self.attempt, self.subtask, self.number, part);
        self.memory.store.lock().unwrap().staged.insert(name, records);
        Ok(vec![name])
    }
}

impl Committer for Memory {
    type Committable = Name;

    fn recover(
        &mut self,
        pending: Vec<(CheckpointId, Vec<Name>)>,
        ended: &[AttemptId],
    ) -> Result<()> {
        if self.fault != SinkFault::PendingIgnored {
            pending.into_iter().try_for_each(|(id, names)| self.commit(id, names))?;
        }
        let mut store = self.store.lock().unwrap();
        match self.fault {
            SinkFault::DiscardsNothing => return Ok(()),
            SinkFault::DiscardsOthers => store.staged.clear(),
            SinkFault::DiscardsPublished => {
                store.published.retain(|name, _| !ended.contains(&name.0));
            }
            _ => {}
        }
        store.staged.retain(|name, _| !ended.contains(&name.0));
        Ok(())
    }

    fn commit(&mut self, id: CheckpointId, names: Vec<Name>) -> Result<()> {
        let mut store = self.store.lock().unwrap();
        for name in names {
            match store.staged.remove(&name) {
                Some(records) => drop(store.published.insert(name, records)),
                None if self.fault == SinkFault::LostIgnored => {}
                None if !store.published.contains_key(&name) => {
                    crate::bail!("{id}: {name:?} is neither staged nor published")
                }
                None if self.fault == SinkFault::CommitRepeats => {
                    let again = store.published.get(&name).cloned().unwrap_or_default();
                    store.published.insert(Name(name.0, name.1, name.2 + 1_000_000, 0), again);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn abort(&mut self, ended: &[AttemptId]) -> Result<()> {
        let mut store = self.store.lock().unwrap();
        store.staged.retain(|name, _| !ended.contains(&name.0));
        if self.fault != SinkFault::AbortKeepsPublished {
            store.published.retain(|name, _| !ended.contains(&name.0));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if self.fault == SinkFault::CloseForgets {
            let left = Name(AttemptId::new(0), 0, 0, 0);
            self.store.lock().unwrap().staged.insert(left, Vec::new());
        }
        Ok(())
    }
}

fn check_memory(fault: SinkFault) -> Result<()> {
    check_sink(|| Ok(Memory { fault, store: Arc::default() }), SEEDS)
}

#[test]
fn faults_of_a_sink_are_found() {
    check_memory(SinkFault::None).unwrap();
    for fault in SINK_FAULTS {
        let Err(error) = check_memory(fault) else { panic!("{fault:?} is not found") };
        println!("{fault:?}: {error:#}");
    }
}
