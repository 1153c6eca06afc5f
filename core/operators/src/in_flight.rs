//! Records in flight as tasks begin from them, also at another parallelism than they had.

use std::collections::VecDeque;
use std::time::Instant;

use millstream_graph::Partitioner;
use millstream_mutants::Mutant;
use millstream_network::{
    Batch, Data, Event, FlightChannel, Flow, InFlight, ReadInFlight, read_in_flight,
};
use millstream_task_checkpoint::{RestoredInFlight, Slice};

use crate::stage::{ErasedStage, Moment, Stage, erase, reveal};
use crate::{Result, error};

/// A stream that ends at a task and whose records barriers may overtake.
pub struct InputStream {
    /// Its name in checkpoints with records in flight.
    pub name: String,
    /// The distribution of its records.
    pub partitioner: Partitioner,
    /// Made with [`WriterContext::sieves`](crate::writer::WriterContext::sieves), if records of
    /// keys are restored at another parallelism.
    pub sieve: Option<ErasedStage>,
}

/// Says which subtask a record goes to, of so many.
pub(crate) type Choose<T> = dyn FnMut(&T, usize) -> usize + Send;

/// The function that says where records go.
pub(crate) struct Sieve<T>(pub(crate) Box<Choose<T>>);

impl<T: Data> Sieve<T> {
    /// The records of a batch that go to this subtask.
    fn sift(&mut self, batch: Batch<T>, (subtask, parallelism): (u32, u32)) -> Result<Batch<T>> {
        let mut own = Batch::empty(batch.is_timed());
        for (record, time) in batch {
            let mut owner = (self.0)(&record, parallelism as usize);
            if Mutant::RestoresInFlightElsewhere.lives() {
                owner = (owner + 1) % parallelism.max(1) as usize;
            }
            if owner == subtask as usize {
                match time {
                    Some(time) => own.push_at(record, time)?,
                    None => own.push(record)?,
                }
            }
        }
        Ok(own)
    }
}

/// Reads the records in flight to a task through one of its streams, by their producers. At another
/// parallelism a record goes to the owner of its key group, what went round goes by whole channels,
/// and of what was broadcast each subtask takes one copy.
pub(crate) fn to_task<T: Data>(
    restored: &RestoredInFlight,
    own: (u32, u32),
    producers: u32,
    stream: &mut InputStream,
) -> Result<Vec<(u32, InFlight<T>)>> {
    let ReadInFlight { items, .. } = read_in_flight::<T>(&restored.items, (producers, own.1))?;
    let is_by_key = restored.rescaled && stream.partitioner == Partitioner::Hash;
    let mut taken = Vec::with_capacity(items.len());
    for (channel, found) in items {
        let is_mine = match stream.partitioner {
            _ if !restored.rescaled => channel.to == own.0,
            Partitioner::Hash => true,
            Partitioner::Broadcast => channel.to == 0,
            _ => channel.to % own.1.max(1) == own.0,
        };
        let found = match found {
            InFlight::Batch(batch) if is_by_key => {
                let sieve = stream.sieve.as_mut().and_then(|it| it.downcast_mut::<Sieve<T>>());
                let sieve = sieve.ok_or_else(|| error!("a stream by key has no sieve"))?;
                InFlight::Batch(sieve.sift(batch, own)?)
            }
            found => found,
        };
        if is_mine {
            taken.push((channel.from, found));
        }
    }
    Ok(taken)
}

/// Whether a subtask, of so many, takes what was in a channel of an output: it has its own part,
/// or those of all subtasks of another parallelism.
pub(crate) const fn is_from_task(
    restored: &RestoredInFlight,
    (subtask, parallelism): (u32, u32),
    channel: FlightChannel,
) -> bool {
    let parallelism = if parallelism == 0 { 1 } else { parallelism };
    !restored.rescaled || channel.from % parallelism == subtask
}

/// Puts records in flight of an exchange that has become a chain before its consumer: those that
/// waited in the output of the producing operator, and those that had come to the consuming one.
pub(crate) fn replay<T: Data>(
    stage: ErasedStage,
    own: (u32, u32),
    from: &RestoredInFlight,
    to: &RestoredInFlight,
) -> Result<ErasedStage> {
    let is_to = |channel: FlightChannel| !to.rescaled || channel.to % own.1.max(1) == own.0;
    let arrived = read_in_flight::<T>(&to.items, (0, 0))?.items;
    let arrived = arrived.into_iter().filter(|(channel, _)| is_to(*channel));
    let waiting = read_in_flight::<T>(&from.items, (0, 0))?.items;
    let waiting = waiting.into_iter().filter(|(channel, _)| is_from_task(from, own, *channel));
    let mut batches = VecDeque::new();
    for (_, found) in arrived.chain(waiting) {
        if let InFlight::Batch(batch) = found {
            batches.push_back(batch);
        }
    }
    Ok(erase::<T>(Box::new(ReplayStage { batches, next: reveal::<T>(stage)? })))
}

/// Hands on what was in flight before everything else.
pub(crate) struct ReplayStage<T> {
    batches: VecDeque<Batch<T>>,
    next: Box<dyn Stage<T>>,
}

impl<T: Data> Stage<T> for ReplayStage<T> {
    fn open(&mut self) -> Result<()> {
        self.next.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.next.push(batch)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.next.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        let mut flow = self.next.resume()?;
        while flow == Flow::Ready
            && let Some(batch) = self.batches.pop_front()
        {
            flow = self.next.push(batch)?;
        }
        Ok(flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.next.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.next.next_time()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.next.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        self.next.kind()
    }
}
