//! The operator that hands records on in order of their event times.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow};
use millstream_output_buffers::Results;
use millstream_state::{ListKind, ListSnapshot};
use millstream_task_checkpoint::{Slice, TaskCheckpoints};
use millstream_types::{Opaque, OperatorId, Schema, Timestamp};

use crate::Result;
use crate::keyed::{not_restored, take_restored};
use crate::late::{Late, LateRecords};
use crate::on_error::continue_while;
use crate::output::Output;
use crate::program::StageMaker;
use crate::stage::{Moment, Stage, erase};
use crate::stint::Stint;

/// The operator that keeps records until the watermark has reached their event times, and hands
/// them on in order of time.
pub fn order_by_time<T: Data>(late: LateRecords<T>) -> StageMaker {
    Arc::new(move |ctx, outputs| {
        let output = Output::new(outputs)?;
        let mut lists = take_restored(ctx).lists;
        let watermark = lists.take_watermark().map_err(|error| not_restored(error, ctx))?;
        let new = lists.take(RECORDS, ListKind::Divided, &Schema::of::<(i64, Opaque<T>)>());
        Ok(erase::<T>(Box::new(OrderStage {
            sorted: VecDeque::new(),
            new: new.map_err(|error| not_restored(error, ctx))?,
            watermark,
            operator: ctx.operator,
            checkpoints: ctx.task.checkpoints.clone(),
            event: None,
            late: Late::of(late, ctx),
            waker: ctx.task.waker.clone(),
            results: output.results(),
            output,
        })))
    })
}

/// The name of the list of records in a checkpoint.
const RECORDS: &str = "records";

/// Keeps records until the watermark has reached them.
///
/// What has come since the last watermark is sorted when the next one comes, and then merged with
/// the records from its earliest on: those of a stream that is nearly in order are not touched
/// again.
struct OrderStage<T: 'static> {
    /// Records in order of time, and of their arrival where times are equal.
    sorted: VecDeque<(i64, T)>,
    /// Records as they have come.
    new: Vec<(i64, T)>,
    watermark: Timestamp,
    operator: OperatorId,
    checkpoints: Option<Arc<TaskCheckpoints>>,
    /// The event that follows the records which the watermark has reached.
    event: Option<Event>,
    late: Late<T>,
    waker: Waker,
    results: Results<T>,
    output: Output<T>,
}

impl<T: Data> OrderStage<T> {
    fn sort(&mut self) {
        self.new.sort_by_key(|(time, _)| *time);
        let Some((earliest, _)) = self.new.first() else { return };
        let from = self.sorted.partition_point(|(time, _)| time <= earliest);
        let is_last = from == self.sorted.len();
        self.sorted.extend(self.new.drain(..));
        if !is_last {
            let rest = self.sorted.make_contiguous().get_mut(from..).unwrap_or_default();
            rest.sort_by_key(|(time, _)| *time);
        }
    }

    /// Adds the records to the snapshot of the barrier that passes, in order of their arrival
    /// where times are equal.
    fn add_snapshot(&self) {
        if let Some(checkpoints) = &self.checkpoints {
            let records = self.sorted.iter().chain(&self.new);
            let list = ListSnapshot::of(
                RECORDS,
                ListKind::Divided,
                Schema::of::<(i64, Opaque<T>)>(),
                records,
            );
            checkpoints.add_lists(self.operator, list.map(|list| vec![list]));
            checkpoints.add_watermark(self.operator, self.watermark);
        }
    }

    /// Hands on the records that the watermark has reached, and then the event.
    fn run(&mut self, flow: Flow) -> Result<Flow> {
        let mut stint = Stint::of(&self.waker);
        continue_while(flow, || {
            let Some(event) = self.event else { return Ok(None) };
            if stint.is_over() {
                return Ok(Some(Flow::Full));
            }
            let until = self.watermark.as_millis();
            while !self.results.is_full()
                && let Some((time, record)) = self.sorted.pop_front_if(|next| next.0 <= until)
            {
                self.results.push(record, Some(time))?;
            }
            if self.results.is_empty() {
                self.event = None;
                return self.output.event(event).map(Some);
            }
            stint.add(self.results.len());
            self.output.push_all(&mut self.results).map(Some)
        })
    }
}

impl<T: Data> Stage<T> for OrderStage<T> {
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        let until = self.watermark.as_millis();
        for (record, time) in batch {
            let time = time.unwrap_or(i64::MIN);
            if time <= until && self.watermark > Timestamp::MIN {
                self.late.take(record, time, &mut self.output)?;
            } else {
                self.new.push((time, record));
            }
        }
        self.output.flush_sides()
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        let watermark = match event {
            Event::Watermark(watermark) => Some(watermark),
            Event::EndOfInput => Some(Timestamp::MAX),
            Event::Idle(_) | Event::Barrier(_) => None,
        };
        let Some(watermark) = watermark else {
            if matches!(event, Event::Barrier(_)) {
                self.add_snapshot();
            }
            return self.output.event(event);
        };
        self.watermark = self.watermark.max(watermark);
        self.event = Some(event);
        self.sort();
        self.run(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        self.run(flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.output.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.output.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Order
    }
}
