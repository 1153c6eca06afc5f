//! The operator of windows of one length.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;
use std::vec::IntoIter;

use millstream_event_time::{Firing, Grid, Panes, Sliding, Standing, Tumbling, Walk, WindowFold};
use millstream_network::{Batch, Event, Flow};
use millstream_output_buffers::Results;
use millstream_state::{KeySelector, KeyedValues, PaneEntries, PaneValues};
use millstream_task_checkpoint::{RestoredOperator, Slice, TaskCheckpoints};
use millstream_types::OperatorId;

use super::assigner::{Spans, WindowAssigner, WindowSettings};
use super::functions::{Silent, WindowFunction};
use crate::ahead::{Ahead, hash_all, most_point};
use crate::collector::Collector;
use crate::fold::Adding;
use crate::keyed::{not_restored, take_restored};
use crate::late::Late;
use crate::on_error::{BadRecords, OnError, continue_while};
use crate::output::Output;
use crate::program::StageMaker;
use crate::runtime_context::RuntimeContext;
use crate::stage::{Moment, Stage, erase};
use crate::stint::Stint;
use crate::task::groups;
use crate::{Error, Result};

impl<T: Send + 'static> WindowAssigner<T> for Tumbling {
    fn fault(&self) -> Option<String> {
        Spans::fault(self)
    }

    fn stage<S, W, P>(
        self,
        settings: WindowSettings<T>,
        on_error: OnError<T>,
        selector: S,
        fold: W,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
    ) -> StageMaker
    where
        S: KeySelector<T> + Sync,
        W: WindowFold<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, W::Value> + 'static,
    {
        Sliding::from(self).stage(settings, on_error, selector, fold, make)
    }
}

impl<T: Send + 'static> WindowAssigner<T> for Sliding {
    fn fault(&self) -> Option<String> {
        Spans::fault(self)
    }

    fn stage<S, W, P>(
        self,
        settings: WindowSettings<T>,
        on_error: OnError<T>,
        selector: S,
        fold: W,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
    ) -> StageMaker
    where
        S: KeySelector<T> + Sync,
        W: WindowFold<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, W::Value> + 'static,
    {
        Arc::new(move |ctx, outputs| {
            let output = Output::new(outputs)?;
            let grid = self.grid()?;
            let lateness = i128::try_from(settings.lateness.as_millis()).unwrap_or(i128::MAX >> 1);
            let groups = groups(ctx.task);
            let days = 2 * i128::from(millstream_mutants::Mutant::KeepsLateData.lives());
            let more = days * 24 * 60 * 60 * 1_000;
            let mut panes = Panes::new(grid, lateness + more, groups, ctx.task.max_parallelism);
            let RestoredOperator { keyed, lists, .. } = take_restored(ctx);
            let restored = panes.restore(keyed, lists);
            restored.map_err(|error| not_restored(error, ctx))?;
            Ok(erase::<T>(Box::new(WindowStage {
                selector: selector.clone(),
                fold: Silent(fold.clone()),
                function: make(&RuntimeContext::new(ctx.task))?,
                bad: BadRecords::of(&on_error, ctx),
                late: Late::of(settings.late, ctx),
                operator: ctx.name.to_owned(),
                id: ctx.operator,
                checkpoints: ctx.task.checkpoints.clone(),
                panes,
                records: Vec::new().into_iter(),
                times: Vec::new(),
                hashes: Vec::new(),
                firing: None,
                event: None,
                waker: ctx.task.waker.clone(),
                results: output.results(),
                output,
            })))
        })
    }
}

impl Spans for Tumbling {
    fn fault(&self) -> Option<String> {
        Spans::fault(&Sliding::from(*self))
    }

    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>) {
        Sliding::from(*self).spans(time, spans);
    }
}

impl Spans for Sliding {
    fn fault(&self) -> Option<String> {
        self.grid().err().map(|error| error.to_string())
    }

    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>) {
        let Ok(grid) = self.grid() else { return };
        let Some((first, last)) = grid.ends(time) else { return };
        let ends = std::iter::successors(Some(first), |end| Some(end + grid.slide()));
        let ends = ends.take_while(|end| *end <= last);
        spans.extend(ends.map(|end| (grid.window(end).start, Grid::result_time(end))));
    }
}

/// Runs shorter than this are not worth asking for table entries ahead.
const LONG_RUN: usize = 64;

/// Adds records to the values of their keys and panes, and makes results of windows.
struct WindowStage<T, S, W, P>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
    P: WindowFunction<S::Key, W::Value>,
{
    selector: S,
    fold: Silent<W>,
    function: P,
    bad: BadRecords<T>,
    late: Late<T>,
    operator: String,
    id: OperatorId,
    checkpoints: Option<Arc<TaskCheckpoints>>,
    panes: Panes<S::Key, W::Value>,
    /// The records that are left of the last batch, with the times and hashes of the whole batch.
    records: IntoIter<T>,
    times: Vec<i64>,
    hashes: Vec<u64>,
    firing: Option<Firing<S::Key, W::Value>>,
    /// The event that follows the results of the windows which are complete.
    event: Option<Event>,
    waker: Waker,
    results: Results<P::Out>,
    output: Output<P::Out>,
}

impl<T, S, W, P> WindowStage<T, S, W, P>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
    P: WindowFunction<S::Key, W::Value>,
{
    /// Adds records until late ones have made a batch of results; `None` if no record is left.
    fn advance(&mut self) -> Result<Option<Flow>> {
        while self.records.len() > 0 && !self.results.is_full() && !self.output.is_side_full() {
            let at = self.times.len() - self.records.len();
            let time = self.times.get(at).copied().unwrap_or(i64::MIN);
            if let Some((first, last, _)) = self.panes.open.find(time) {
                self.add_run(first, last)?;
                continue;
            }
            match self.panes.standing(time) {
                Standing::Timely(first, last) => {
                    self.panes.open.open(first, last);
                    self.add_run(first, last)?;
                }
                Standing::Delayed(first) => self.add_delayed(time, first)?,
                Standing::Late => {
                    if let Some(record) = self.records.next() {
                        self.late.take(record, time, &mut self.output)?;
                    }
                }
                Standing::Gap => drop(self.records.next()),
            }
        }
        if self.results.is_empty() && self.records.len() == 0 {
            return self.output.flush_sides().map(|flow| (flow == Flow::Full).then_some(flow));
        }
        self.output.push_all(&mut self.results).map(Some)
    }

    /// Adds the records up to the first that is not in the open pane with these first and last
    /// times.
    fn add_run(&mut self, first: i64, last: i64) -> Result<()> {
        let begin = self.times.len() - self.records.len();
        let times = self.times.get(begin..).unwrap_or_default();
        // One comparison for both bounds.
        let span = last.abs_diff(first);
        let is_outside = |time: &i64| time.wrapping_sub(first).cast_unsigned() > span;
        let outside = times.iter().position(is_outside);
        let run = begin..begin + outside.unwrap_or(times.len());
        let Some((_, _, values)) = self.panes.open.find(first) else { return Ok(()) };
        let mut adding = Run {
            adding: Adding {
                selector: &self.selector,
                fold: &mut self.fold,
                bad: &self.bad,
                emits: false,
            },
            hashes: &self.hashes,
            times: &self.times,
            end: run.end,
        };
        let (records, output) = (&mut self.records, &mut self.output);
        match values {
            PaneValues::Few(values) => adding.add_to(values, records, output)?,
            PaneValues::Many(values) => return adding.add_to(values, records, output),
        }
        self.panes.open.settle(first);
        Ok(())
    }

    /// Adds a record to a pane of which windows are complete, and makes their results again.
    fn add_delayed(&mut self, time: i64, first: i64) -> Result<()> {
        let at = self.times.len() - self.records.len();
        let Some(record) = self.records.next() else { return Ok(()) };
        let hash = self.hashes.get(at).copied().unwrap_or_default();
        let key = self.selector.owned(&record);
        let kept = self.bad.keep(&record);
        let panes = self.panes.closed.of_key(hash, &key);
        let added = match panes.find(first) {
            Ok(value) => {
                // After an error the value is as it was.
                let mut copy = value.clone();
                self.fold.0.add(&mut copy, record).map(|()| *value = copy)
            }
            Err(at) => self.fold.0.first(record).map(|value| panes.insert(at, first, value)),
        };
        if let Err(error) = added {
            self.panes.closed.forget_empty(hash, &key);
            return self.bad.refuse(error, kept, Some(time), &mut self.output);
        }
        self.panes.note_closed(first);
        for end in self.panes.kept_ends(time) {
            let begin = self.panes.grid.begin(end);
            let panes = self.panes.closed.of_key(hash, &key);
            let value = merged(&mut self.fold.0, panes.between(begin, end));
            let value = value.map_err(|error| failed(error, &self.operator, end))?;
            let Some(value) = value else { continue };
            let (key, window) = (key.clone(), self.panes.grid.window(end));
            let timestamp = Some(Grid::result_time(end));
            let (results, output) = (&mut self.results.records, &mut self.output);
            let mut out = Collector { results, output, timestamp };
            let done = self.function.process(key, window, value, &mut out);
            done.map_err(|error| failed(error, &self.operator, end))?;
            self.results.stamp(timestamp)?;
        }
        Ok(())
    }

    /// Makes results of the windows that are complete, and hands the event on.
    fn fire(&mut self, flow: Flow) -> Result<Flow> {
        if self.event.is_none() {
            return Ok(flow);
        }
        let mut stint = Stint::of(&self.waker);
        continue_while(flow, || {
            let Some(event) = self.event else { return Ok(None) };
            if stint.is_over() {
                return Ok(Some(Flow::Full));
            }
            if self.firing.is_none() {
                self.firing = self.panes.next_firing();
            }
            let Some(mut firing) = self.firing.take() else {
                self.event = None;
                return self.output.event(event).map(Some);
            };
            let (keys, is_over) = match &mut firing {
                Firing::Last { end, entries } => self.fire_last(*end, entries)?,
                Firing::Walk(walk) => self.fire_walk(walk)?,
            };
            if !is_over {
                self.firing = Some(firing);
            }
            stint.add(keys + 1);
            self.output.push_all(&mut self.results).map(Some)
        })
    }

    /// Makes results of the values of a pane, about a batch; the number of keys, and whether it was
    /// the rest of them.
    fn fire_last(
        &mut self,
        end: i128,
        entries: &mut PaneEntries<S::Key, W::Value>,
    ) -> Result<(usize, bool)> {
        let window = self.panes.grid.window(end);
        let timestamp = Some(Grid::result_time(end));
        let most = self.results.until_look();
        let (results, output) = (&mut self.results.records, &mut self.output);
        let mut out = Collector { results, output, timestamp };
        let (mut keys, mut is_over) = (0, false);
        while keys < most && out.results.len() < most && !out.output.is_side_full() {
            let Some((key, value)) = entries.next() else {
                is_over = true;
                break;
            };
            if millstream_mutants::Mutant::FiresTwice.strikes(16) {
                self.function.process(key.clone(), window, value.clone(), &mut out)?;
            }
            let done = self.function.process(key, window, value, &mut out);
            done.map_err(|error| failed(error, &self.operator, end))?;
            keys += 1;
        }
        self.results.stamp(timestamp)?;
        Ok((keys, is_over))
    }

    /// As [`Self::fire_last`], of the values of closed panes, and forgets values.
    fn fire_walk(&mut self, walk: &mut Walk<S::Key, W::Value>) -> Result<(usize, bool)> {
        let grid = self.panes.grid;
        let timestamp = walk.end.map(Grid::result_time);
        let most = self.results.until_look();
        let (results, output) = (&mut self.results.records, &mut self.output);
        let mut out = Collector { results, output, timestamp };
        let (mut keys, mut is_over) = (0, false);
        while keys < most && out.results.len() < most && !out.output.is_side_full() {
            if !self.panes.walk_on(walk) {
                is_over = true;
                break;
            }
            keys += 1;
            let Some((key, panes)) = self.panes.closed.entry(walk.cursor) else { continue };
            if let Some(end) = walk.end
                && let Some(value) = merged(&mut self.fold.0, panes.between(grid.begin(end), end))?
            {
                let done = self.function.process(key.clone(), grid.window(end), value, &mut out);
                done.map_err(|error| failed(error, &self.operator, end))?;
            }
            if !panes.keep_from(walk.keep_from) {
                self.panes.closed.forget(walk.cursor);
            }
        }
        if timestamp.is_some() {
            self.results.stamp(timestamp)?;
        }
        Ok((keys, is_over))
    }

    fn run(&mut self, flow: Flow) -> Result<Flow> {
        let flow = continue_while(flow, || self.advance())?;
        self.fire(flow)
    }

    /// Adds the panes to the snapshot of the barrier that passes. It comes between two firings:
    /// while windows are fired the stage takes no event.
    fn add_snapshot(&mut self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.begin_keyed(self.id, &mut self.panes);
            checkpoints.add_watermark(self.id, self.panes.watermark());
        }
    }
}

/// The records of a batch that are in one pane.
struct Run<'a, T, S, W> {
    adding: Adding<'a, T, S, Silent<W>>,
    hashes: &'a [u64],
    times: &'a [i64],
    /// The place in the batch behind the last one.
    end: usize,
}

impl<T, S, W> Run<'_, T, S, W>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
{
    fn add_to<O: 'static>(
        &mut self,
        values: &mut impl KeyedValues<S::Key, W::Value>,
        records: &mut IntoIter<T>,
        output: &mut Output<O>,
    ) -> Result<()> {
        let place = |records: &IntoIter<T>| self.times.len() - records.len();
        let begin = place(records);
        let asked = if self.end - begin < LONG_RUN { 0 } else { self.end };
        let hashes = self.hashes.get(..asked).unwrap_or_default();
        let selector = self.adding.selector;
        let far = || most_point(records.as_slice(), selector);
        let mut ahead = Ahead::new(hashes, begin, values, far);
        while place(records) < self.end {
            let run = place(records)..self.end;
            let hashes = (self.hashes, run);
            let refused = self.adding.add_run(records, hashes, &mut ahead, values, &mut Vec::new());
            if let Some((error, kept)) = refused {
                let time = self.times.get(place(records) - 1).copied();
                self.adding.bad.refuse(error, kept, time, output)?;
            }
        }
        Ok(())
    }
}

/// One value of those of panes, in order of time.
#[inline]
fn merged<'a, T, W: WindowFold<T>>(
    fold: &mut W,
    mut values: impl Iterator<Item = &'a W::Value>,
) -> Result<Option<W::Value>>
where
    W::Value: 'a,
{
    let Some(mut value) = values.next().cloned() else { return Ok(None) };
    for later in values {
        fold.merge(&mut value, later.clone())?;
    }
    Ok(Some(value))
}

/// The error of a function that failed at a window.
#[cold]
fn failed(error: Error, operator: &str, end: i128) -> Error {
    let last = Grid::result_time(end);
    error.context(format!(
        "operator {operator:?} failed at the end of the windows whose last millisecond is {last}"
    ))
}

impl<T, S, W, P> Stage<T> for WindowStage<T, S, W, P>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
    P: WindowFunction<S::Key, W::Value>,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        hash_all(&mut self.hashes, batch.records(), &self.selector);
        let (records, times) = batch.into_parts();
        self.times = times.unwrap_or_else(|| vec![i64::MIN; records.len()]);
        self.records = records.into_iter();
        self.run(Flow::Ready)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        match event {
            Event::Watermark(watermark) => self.panes.reach(watermark.as_millis().into()),
            Event::EndOfInput => self.panes.reach(i128::MAX),
            Event::Idle(_) => return self.output.event(event),
            Event::Barrier(_) => {
                self.add_snapshot();
                return self.output.event(event);
            }
        }
        self.event = Some(event);
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
        slice.write(self.id, &mut self.panes);
        self.output.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Window
    }
}
