//! The last stage of a task's output: spreads records over the channels of one exchange.
//!
//! Records are scattered into private buffers, one per channel, and copied out when a buffer is
//! full or has waited for the buffer timeout. (Scattering straight into buffers that the consumer's
//! core had read last was up to twice as slow.) Whole batches that can travel as they are do.

use std::ops::Range;
use std::time::{Duration, Instant};

use millstream_graph::{EdgeId, Partitioner};
use millstream_network::{
    Batch, ChannelWriter, Data, EndId, Event, Exchange, Flow, batch_capacity,
};
use millstream_types::{Key, KeyGroup, MaxParallelism};

use crate::key::KeySelector;
use crate::results::Results;
use crate::stage::{ErasedStage, Stage, erase};
use crate::task::TaskContext;
use crate::{Result, ensure};

/// Context for building one edge's writer.
pub struct WriterContext<'a> {
    /// The producing task.
    pub task: &'a TaskContext,
    /// The process's channels.
    pub exchange: &'a Exchange,
    /// The edge.
    pub edge: EdgeId,
    /// The partitioning of the records.
    pub partitioner: Partitioner,
    /// The consuming vertex's parallelism.
    pub target_parallelism: u32,
    /// The consuming vertex's key groups.
    pub target_max_parallelism: MaxParallelism,
    /// Whether the records have event times.
    pub timed: bool,
}

/// The consuming subtasks that subtask `from` of `producers` sends to.
#[must_use]
pub fn targets(partitioner: Partitioner, from: u32, producers: u32, consumers: u32) -> Range<u32> {
    let only = |to: u32| to..to + 1;
    match partitioner {
        Partitioner::Forward => only(from),
        Partitioner::Global => only(0),
        Partitioner::Rescale if consumers >= producers => {
            from * consumers / producers..(from + 1) * consumers / producers
        }
        Partitioner::Rescale => only(from * consumers / producers),
        Partitioner::Rebalance
        | Partitioner::Hash
        | Partitioner::Broadcast
        | Partitioner::Custom => 0..consumers,
    }
}

/// The producing subtasks that subtask `to` of `consumers` receives from.
#[must_use]
pub fn sources(partitioner: Partitioner, to: u32, producers: u32, consumers: u32) -> Range<u32> {
    match partitioner {
        Partitioner::Forward => to..to + 1,
        Partitioner::Global if to > 0 => 0..0,
        Partitioner::Rescale => {
            // The producers that `targets` would send to `to`: the first whose range goes beyond
            // it, or those that share it.
            let first = |to: u32| (to * producers).div_ceil(consumers);
            let end = first(to + 1);
            if consumers >= producers { end - 1..end } else { first(to)..end }
        }
        Partitioner::Global
        | Partitioner::Rebalance
        | Partitioner::Hash
        | Partitioner::Broadcast
        | Partitioner::Custom => 0..producers,
    }
}

/// Decides which channels a batch's records go to.
pub(crate) trait Route<T>: Send {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()>;
}

struct Lane<T> {
    channel: ChannelWriter<T>,
    buffer: Results<T>,
}

/// The channels of one exchange with their buffers.
pub(crate) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    capacity: usize,
    flow: Flow,
    /// Whether the records have event times.
    timed: bool,
    /// The lanes of the records of a batch, kept for its room.
    chosen: Vec<usize>,
}

impl<T: Data> Lanes<T> {
    fn len(&self) -> usize {
        self.lanes.len()
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, record: T) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        let records = &mut target.buffer.records;
        let length = records.len();
        // As `push`, but without a call on the way that would make the compiler copy twice.
        let Some(place) = records.spare_capacity_mut().first_mut() else {
            return self.put_first(lane, record);
        };
        place.write(record);
        // SAFETY: there was room for one more, and now a record is in it.
        unsafe { records.set_len(length + 1) };
        if length + 1 >= self.capacity { self.flush(lane) } else { Ok(()) }
    }

    #[cold]
    fn put_first(&mut self, lane: usize, record: T) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        target.buffer.records.reserve(self.capacity);
        target.buffer.records.push(record);
        if target.buffer.len() >= self.capacity { self.flush(lane) } else { Ok(()) }
    }

    #[inline(always)]
    fn put_timed(&mut self, lane: usize, record: T, timestamp: i64) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        target.buffer.times.push(timestamp);
        self.put(lane, record)
    }

    /// Sends a whole batch through one lane, as it is if it is large.
    fn put_batch(&mut self, lane: usize, batch: Batch<T>) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        let large = batch.len() * 2 >= self.capacity;
        if large || target.buffer.len() + batch.len() > self.capacity {
            self.flush(lane)?;
        }
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        if large {
            self.flow = self.flow.and(target.channel.send_batch(batch)?);
        } else {
            target.buffer.append(batch);
        }
        Ok(())
    }

    /// Kept out of the loop over the records.
    #[inline(never)]
    fn flush(&mut self, lane: usize) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        if target.buffer.is_empty() {
            return Ok(());
        }
        let mut batch = target.buffer.take()?;
        let sent = target.channel.send_all_of(&mut batch)?;
        target.buffer.reuse(batch);
        self.flow = self.flow.and(sent);
        Ok(())
    }

    fn flush_all(&mut self) -> Result<()> {
        (0..self.len()).try_for_each(|lane| self.flush(lane))
    }

    fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.buffer.is_empty())
    }
}

#[cold]
fn no_lane(lane: usize) -> crate::Error {
    anyhow::anyhow!("the partitioner chose subtask {lane}, which does not exist")
}

struct ExchangeWriter<T, R> {
    route: R,
    lanes: Lanes<T>,
    timeout: Option<Duration>,
    /// Time when the lanes' records are sent on; known from the first look at the time.
    due: Option<Instant>,
}

impl<T: Data, R: Route<T>> Stage<T> for ExchangeWriter<T, R> {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        ensure!(
            batch.is_timed() == self.lanes.timed,
            "records with event times and without meet in one stream"
        );
        self.lanes.flow = Flow::Ready;
        self.route.route(batch, &mut self.lanes)?;
        if self.timeout == Some(Duration::ZERO) {
            self.lanes.flush_all()?;
        }
        Ok(self.lanes.flow)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.lanes.flow = Flow::Ready;
        self.lanes.flush_all()?;
        for lane in &mut self.lanes.lanes {
            self.lanes.flow = self.lanes.flow.and(lane.channel.send_event(event)?);
        }
        Ok(self.lanes.flow)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.lanes
            .lanes
            .iter_mut()
            .try_fold(Flow::Ready, |flow, lane| Ok(flow.and(lane.channel.drain()?)))
    }

    fn on_time(&mut self, now: Instant) -> Result<Flow> {
        let Some(timeout) = self.timeout else { return Ok(Flow::Ready) };
        if self.lanes.is_empty() {
            self.due = None;
            return Ok(Flow::Ready);
        }
        if now < *self.due.get_or_insert(now + timeout) {
            return Ok(Flow::Ready);
        }
        self.due = None;
        self.lanes.flow = Flow::Ready;
        self.lanes.flush_all()?;
        Ok(self.lanes.flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.due
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Writer
    }
}

struct OneLane;

impl<T: Data> Route<T> for OneLane {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        lanes.put_batch(0, batch)
    }
}

/// Large batches go round whole; small ones record by record, so that few records spread too.
struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    fn advance(&mut self, lanes: usize) -> usize {
        let lane = self.next;
        self.next = if lane + 1 >= lanes { 0 } else { lane + 1 };
        lane
    }
}

impl<T: Data> Route<T> for RoundRobin {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        if batch.len() * 4 >= lanes.capacity {
            let lane = self.advance(lanes.len());
            return lanes.put_batch(lane, batch);
        }
        let count = lanes.len();
        each(batch, lanes, |_| self.advance(count))
    }
}

/// Puts every record into the lane that `choose` returns. All lanes are chosen first: a record
/// whose address is taken while it moves is copied once more.
#[inline]
fn each<T: Data>(
    batch: Batch<T>,
    lanes: &mut Lanes<T>,
    choose: impl FnMut(&T) -> usize,
) -> Result<()> {
    let mut chosen = std::mem::take(&mut lanes.chosen);
    chosen.clear();
    chosen.extend(batch.records().iter().map(choose));
    let (records, times) = batch.into_parts();
    let records = records.into_iter().zip(&chosen);
    match times {
        None => {
            for (record, lane) in records {
                lanes.put(*lane, record)?;
            }
        }
        Some(times) => {
            for ((record, lane), time) in records.zip(times) {
                lanes.put_timed(*lane, record, time)?;
            }
        }
    }
    lanes.chosen = chosen;
    Ok(())
}

/// Every record to every lane.
struct ToAll<T> {
    clone: fn(&Batch<T>) -> Batch<T>,
}

impl<T: Data> Route<T> for ToAll<T> {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        let last = lanes.len().saturating_sub(1);
        for lane in 0..last {
            lanes.put_batch(lane, (self.clone)(&batch))?;
        }
        lanes.put_batch(last, batch)
    }
}

/// To the lane that the function names.
struct ByFunction<F>(F);

impl<T: Data, F: FnMut(&T, usize) -> usize + Send> Route<T> for ByFunction<F> {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        let count = lanes.len();
        each(batch, lanes, |record| (self.0)(record, count))
    }
}

fn build<T: Data, R: Route<T> + 'static>(ctx: &WriterContext<'_>, route: R) -> ErasedStage {
    let task = ctx.task;
    let EdgeId(edge) = ctx.edge;
    let output = EndId { edge, subtask: task.subtask, generation: task.generation };
    let to = targets(ctx.partitioner, task.subtask, task.parallelism, ctx.target_parallelism);
    let lanes = ctx
        .exchange
        .writers(output, to, task.waker.clone(), &task.counters)
        .map(|channel| Lane { channel, buffer: Results::new(ctx.timed) })
        .collect();
    erase::<T>(Box::new(ExchangeWriter {
        route,
        lanes: Lanes {
            lanes,
            capacity: batch_capacity::<T>(),
            flow: Flow::Ready,
            timed: ctx.timed,
            chosen: Vec::new(),
        },
        timeout: task.buffer_timeout,
        due: None,
    }))
}

/// A writer that does not look at the records.
///
/// # Errors
/// The exchange is one that looks at them.
pub fn plain<T: Data>(ctx: &WriterContext<'_>) -> Result<ErasedStage> {
    match ctx.partitioner {
        Partitioner::Forward | Partitioner::Global => Ok(build::<T, _>(ctx, OneLane)),
        Partitioner::Rebalance | Partitioner::Rescale => {
            // Subtasks start at different lanes, so that the first batches spread too.
            let next = ctx.task.subtask as usize;
            let lanes = targets(
                ctx.partitioner,
                ctx.task.subtask,
                ctx.task.parallelism,
                ctx.target_parallelism,
            );
            Ok(build::<T, _>(ctx, RoundRobin { next: next % lanes.len().max(1) }))
        }
        Partitioner::Hash | Partitioner::Broadcast | Partitioner::Custom => Err(anyhow::anyhow!(
            "a {} exchange needs its function",
            ctx.partitioner.ship_strategy()
        )),
    }
}

/// A writer that sends everything everywhere.
#[must_use]
pub fn broadcast<T: Data + Clone>(ctx: &WriterContext<'_>) -> ErasedStage {
    build::<T, _>(ctx, ToAll { clone: Batch::clone })
}

/// A writer that sends each record where a function says; `choose` is given the number of subtasks.
pub fn by_function<T: Data>(
    ctx: &WriterContext<'_>,
    choose: impl FnMut(&T, usize) -> usize + Send + 'static,
) -> ErasedStage {
    build::<T, _>(ctx, ByFunction(choose))
}

/// A writer that sends each record to the owner of its key's group.
pub fn by_key<T: Data, S: KeySelector<T>>(ctx: &WriterContext<'_>, selector: S) -> ErasedStage {
    let (groups, parallelism) = (ctx.target_max_parallelism, ctx.target_parallelism);
    let owners: Vec<u32> = (0..groups.get())
        .map(|group| u16::try_from(group).unwrap_or(u16::MAX))
        .map(|group| KeyGroup::new(group).owner(groups, parallelism))
        .collect();
    by_function::<T>(ctx, move |record, _| {
        let hash = selector.with(record, Key::stable_hash);
        let group = KeyGroup::of_hash(hash, groups).get();
        owners.get(usize::from(group)).map_or(usize::MAX, |owner| *owner as usize)
    })
}

#[cfg(test)]
mod tests;
