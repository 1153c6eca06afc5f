//! The last stage of a task's output: spreads records over the channels of one exchange.
//!
//! Records are scattered into private buffers, one per channel, and copied out when a buffer is
//! full or has waited for the buffer timeout. (Scattering straight into buffers that the consumer's
//! core had read last was up to twice as slow.) Whole batches that can travel as they are do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_graph::{EdgeId, Partitioner, targets};
use millstream_network::{
    Batch, Data, Element, EndId, Event, Exchange, FlightChannel, Flow, InFlight, InFlightItems,
    ReadInFlight, read_in_flight,
};
use millstream_output_buffers::Lanes;
use millstream_state::KeySelector;
use millstream_task_checkpoint::TaskCheckpoints;
use millstream_types::{Barrier, BarrierKind, Key, KeyGroup, MaxParallelism, OperatorId};

use crate::in_flight::{Sieve, is_from_task};
use crate::stage::{ErasedStage, Moment, Stage, erase};
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
    /// The operator that the records are of, and the name of the exchange in its checkpoints with
    /// records in flight; none if barriers may not overtake them.
    pub overtaken: Option<(OperatorId, String)>,
    /// Whether not the writer is made, but what says where each record goes.
    pub sieves: bool,
}

/// Whether barriers may overtake the records of such an exchange. Those of the others belong to
/// their channels, so that they cannot be restored at another parallelism.
#[must_use]
pub const fn may_be_overtaken(partitioner: Partitioner) -> bool {
    match partitioner {
        Partitioner::Rebalance
        | Partitioner::Hash
        | Partitioner::Broadcast
        | Partitioner::Global => true,
        Partitioner::Forward | Partitioner::Rescale | Partitioner::Custom => false,
    }
}

/// Decides which channels a batch's records go to.
pub(crate) trait Route<T>: Send {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()>;

    /// The function behind it, if each record chooses its channel.
    fn sieve(self) -> Option<Sieve<T>>
    where
        Self: Sized,
    {
        None
    }
}

/// The records in flight of an exchange, in checkpoints.
struct Overtaken {
    checkpoints: Arc<TaskCheckpoints>,
    operator: OperatorId,
    name: String,
    /// The subtask, and the numbers of producers and consumers.
    from: u32,
    producers: u32,
    consumers: u32,
}

struct ExchangeWriter<T, R> {
    route: R,
    lanes: Lanes<T>,
    timeout: Option<Duration>,
    /// Time when the lanes' records are sent on; known from the first look at the time.
    due: Option<Instant>,
    overtaken: Option<Overtaken>,
}

impl<T: Data, R: Route<T>> ExchangeWriter<T, R> {
    /// Sends a barrier before everything that waits, which becomes part of its checkpoint.
    #[cold]
    fn overtake(&mut self, barrier: Barrier) -> Result<()> {
        self.lanes.flush_all()?;
        if let Some(it) = &self.overtaken {
            let mut items = InFlightItems::of::<T>(it.producers, it.consumers);
            self.lanes.overtake(barrier, |to, element| {
                let channel = FlightChannel { from: it.from, to };
                match element {
                    Element::Data(batch) => items.add_batch(channel, batch)?,
                    Element::Event(event) => items.add_event(channel, *event),
                }
                Ok(())
            })?;
            it.checkpoints.add_in_flight(it.operator, &it.name, items.into_items());
        }
        // What waits is sent when the task is resumed.
        self.lanes.answer();
        Ok(())
    }

    /// Begins with what was in flight in the checkpoint that is restored.
    fn restore(&mut self, partitioner: Partitioner) -> Result<()> {
        let Some(it) = &self.overtaken else { return Ok(()) };
        let restored = it.checkpoints.take_in_flight(it.operator, &it.name);
        if restored.items.is_empty() {
            return Ok(());
        }
        it.checkpoints.resume_first();
        let own = (it.from, it.producers);
        let all = (it.producers, it.consumers);
        let ReadInFlight { items, consumers } = read_in_flight::<T>(&restored.items, all)?;
        let is_mine = |channel| is_from_task(&restored, own, channel);
        for (channel, found) in items.into_iter().filter(|(channel, _)| is_mine(*channel)) {
            match found {
                InFlight::Watermark(time) => {
                    let watermark = Element::Event(Event::Watermark(time));
                    self.lanes.restore(channel.to, watermark)?;
                }
                InFlight::Batch(batch) if consumers == it.consumers => {
                    self.lanes.restore(channel.to, Element::Data(batch))?;
                }
                InFlight::Batch(batch) => match partitioner {
                    Partitioner::Broadcast if channel.to > 0 => {}
                    Partitioner::Hash | Partitioner::Broadcast => {
                        self.route.route(batch, &mut self.lanes)?;
                    }
                    _ => self.lanes.restore(channel.to % it.consumers, Element::Data(batch))?,
                },
            }
        }
        self.lanes.flush_all()?;
        self.lanes.answer();
        Ok(())
    }
}

impl<T: Data, R: Route<T>> Stage<T> for ExchangeWriter<T, R> {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        ensure!(
            batch.is_timed() == self.lanes.is_timed(),
            "records with event times and without meet in one stream"
        );
        self.route.route(batch, &mut self.lanes)?;
        if self.timeout == Some(Duration::ZERO) {
            self.lanes.flush_all()?;
        }
        Ok(self.lanes.answer())
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        if let Event::Barrier(barrier) = event
            && barrier.kind == BarrierKind::Unaligned
            && self.overtaken.is_some()
        {
            self.overtake(barrier)?;
            return Ok(Flow::Ready);
        }
        self.lanes.send_event(event)?;
        Ok(self.lanes.answer())
    }

    fn resume(&mut self) -> Result<Flow> {
        self.lanes.drain()
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let Some(timeout) = self.timeout else { return Ok(Flow::Ready) };
        if moment.idle {
            self.lanes.flush_awaited()?;
        }
        if self.lanes.is_empty() {
            self.due = None;
        } else if moment.now >= *self.due.get_or_insert(moment.now + timeout) {
            self.due = None;
            self.lanes.flush_all()?;
        }
        Ok(self.lanes.answer())
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
        lanes.in_parts(batch, |lanes, part| lanes.put_batch(0, part))
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
        let count = lanes.len();
        if batch.len() * 4 >= lanes.capacity() {
            return lanes.in_parts(batch, |lanes, part| lanes.put_batch(self.advance(count), part));
        }
        lanes.put_each(batch, |_| self.advance(count))
    }
}

/// Every record to every lane.
struct ToAll<T> {
    clone: fn(&Batch<T>) -> Batch<T>,
}

impl<T: Data> Route<T> for ToAll<T> {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        let last = lanes.len().saturating_sub(1);
        lanes.in_parts(batch, |lanes, part| {
            for lane in 0..last {
                lanes.put_batch(lane, (self.clone)(&part))?;
            }
            lanes.put_batch(last, part)
        })
    }
}

/// To the lane that the function names.
struct ByFunction<F>(F);

impl<T: Data, F: FnMut(&T, usize) -> usize + Send + 'static> Route<T> for ByFunction<F> {
    fn route(&mut self, batch: Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        let count = lanes.len();
        lanes.put_each(batch, |record| (self.0)(record, count))
    }

    fn sieve(self) -> Option<Sieve<T>> {
        Some(Sieve(Box::new(self.0)))
    }
}

fn build<T: Data, R: Route<T> + 'static>(ctx: &WriterContext<'_>, route: R) -> Result<ErasedStage> {
    if ctx.sieves {
        let sieve = route.sieve().ok_or_else(|| anyhow::anyhow!("no record chooses its lane"))?;
        return Ok(Box::new(sieve));
    }
    let task = ctx.task;
    let EdgeId(edge) = ctx.edge;
    let output = EndId { edge, subtask: task.subtask, generation: task.generation };
    let to = targets(ctx.partitioner, task.subtask, task.parallelism, ctx.target_parallelism);
    let channels = ctx.exchange.writers(output, to, task.waker.clone(), &task.counters);
    let overdraft = task.checkpoints.as_ref().map(|checkpoints| checkpoints.overdraft());
    let channels = channels.map(|channel| channel.with_overdraft(overdraft.cloned())).collect();
    let overtaken = task.checkpoints.as_ref().zip(ctx.overtaken.as_ref());
    let overtaken = overtaken.map(|(checkpoints, (operator, name))| Overtaken {
        checkpoints: Arc::clone(checkpoints),
        operator: *operator,
        name: name.clone(),
        from: task.subtask,
        producers: task.parallelism,
        consumers: ctx.target_parallelism,
    });
    let mut writer = ExchangeWriter {
        route,
        lanes: Lanes::new(channels, task.output_bytes, ctx.timed),
        timeout: task.buffer_timeout,
        due: None,
        overtaken,
    };
    writer.restore(ctx.partitioner)?;
    Ok(erase::<T>(Box::new(writer)))
}

/// A writer that does not look at the records.
///
/// # Errors
/// The exchange is one that looks at them.
pub fn plain<T: Data>(ctx: &WriterContext<'_>) -> Result<ErasedStage> {
    match ctx.partitioner {
        Partitioner::Forward | Partitioner::Global => build::<T, _>(ctx, OneLane),
        Partitioner::Rebalance | Partitioner::Rescale => {
            // Subtasks start at different lanes, so that the first batches spread too.
            let next = ctx.task.subtask as usize;
            let lanes = targets(
                ctx.partitioner,
                ctx.task.subtask,
                ctx.task.parallelism,
                ctx.target_parallelism,
            );
            build::<T, _>(ctx, RoundRobin { next: next % lanes.len().max(1) })
        }
        Partitioner::Hash | Partitioner::Broadcast | Partitioner::Custom => Err(anyhow::anyhow!(
            "a {} exchange needs its function",
            ctx.partitioner.ship_strategy()
        )),
    }
}

/// A writer that sends everything everywhere.
///
/// # Errors
/// What was in flight in the checkpoint that is restored cannot be read.
pub fn broadcast<T: Data + Clone>(ctx: &WriterContext<'_>) -> Result<ErasedStage> {
    build::<T, _>(ctx, ToAll { clone: Batch::clone })
}

/// A writer that sends each record where a function says; `choose` is given the number of subtasks.
///
/// # Errors
/// As [`broadcast`].
pub fn by_function<T: Data>(
    ctx: &WriterContext<'_>,
    choose: impl FnMut(&T, usize) -> usize + Send + 'static,
) -> Result<ErasedStage> {
    build::<T, _>(ctx, ByFunction(choose))
}

/// A writer that sends each record to the owner of its key's group.
///
/// # Errors
/// As [`broadcast`].
pub fn by_key<T: Data, S: KeySelector<T>>(
    ctx: &WriterContext<'_>,
    selector: S,
) -> Result<ErasedStage> {
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
