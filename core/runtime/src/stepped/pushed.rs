//! A source whose records and events are pushed into it, one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use millstream_network::{Batch, Data, Event, Flow};
use millstream_operators::{
    ErasedSourceTimes, Moment, OperatorContext, Outputs, Result, SourceMaker, Stage, Step,
    TaskBody, bail, error, reveal,
};
use millstream_types::Timestamp;

/// An item for a [`PushedInput`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed<T> {
    /// A record, with its event time if the source has times.
    Record(T, Option<i64>),
    /// No record at or before this time will follow. One that is not later than the last has no
    /// effect.
    Watermark(Timestamp),
    /// No watermark waits for this source, until it has a record or watermark again.
    Idle,
    /// Nothing will follow.
    End,
}

/// The item that the source has not taken yet, and the waker of its task.
struct Place<T> {
    item: Option<Pushed<T>>,
    waker: Waker,
}

/// The outer end of a source: room for one item. Clones are the same.
pub struct PushedInput<T>(Arc<Mutex<Place<T>>>);

impl<T> Clone for PushedInput<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for PushedInput<T> {
    fn default() -> Self {
        let waker = Waker::noop().clone();
        Self(Arc::new(Mutex::new(Place { item: None, waker })))
    }
}

impl<T> PushedInput<T> {
    fn place(&self) -> MutexGuard<'_, Place<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the source an item and wakes its task; `false` if there is no room, because the source
    /// has not taken the item before.
    pub fn push(&self, item: Pushed<T>) -> bool {
        let mut place = self.place();
        if place.item.is_some() {
            return false;
        }
        place.item = Some(item);
        place.waker.wake_by_ref();
        true
    }

    /// Whether the source has taken all items.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.place().item.is_none()
    }
}

impl<T: Data> PushedInput<T> {
    /// The maker of the source. Its first subtask has all items; others end at once.
    #[must_use]
    pub fn source(&self) -> SourceMaker {
        let input = self.clone();
        Arc::new(move |ctx, outputs, times| {
            Ok(Box::new(PushedBody::new(input.clone(), ctx, outputs, times)?))
        })
    }
}

struct PushedBody<T> {
    input: PushedInput<T>,
    /// The operators behind; `None` if nothing reads the source.
    stage: Option<Box<dyn Stage<T>>>,
    timed: bool,
    /// The item that comes next, taken from the place already.
    next: Option<Pushed<T>>,
    watermark: Timestamp,
    is_idle: bool,
    is_full: bool,
    has_ended: bool,
}

impl<T: Data> PushedBody<T> {
    fn new(
        input: PushedInput<T>,
        ctx: &OperatorContext<'_>,
        outputs: Outputs,
        times: Option<&ErasedSourceTimes>,
    ) -> Result<Self> {
        if times.is_some() {
            bail!(
                "input {:?} is a test's: it has no splits, and its watermarks are pushed; call \
                 assign_timestamps() in place of watermarks_per_split()",
                ctx.name
            );
        }
        let is_first = ctx.task.subtask == 0;
        if is_first {
            input.place().waker = ctx.task.waker.clone();
        }
        Ok(Self {
            input,
            stage: outputs.main.map(reveal).transpose()?,
            timed: outputs.timed,
            next: (!is_first).then_some(Pushed::End),
            watermark: Timestamp::MIN,
            is_idle: false,
            is_full: false,
            has_ended: false,
        })
    }

    /// Takes the next item. What follows idleness is behind its end.
    fn take(&mut self) -> Option<Pushed<T>> {
        self.next.take().or_else(|| self.input.place().item.take())
    }

    fn hand_on(&mut self, item: Pushed<T>) -> Result<Flow> {
        let Some(stage) = &mut self.stage else { return Ok(Flow::Ready) };
        if self.is_idle && matches!(item, Pushed::Record(..) | Pushed::Watermark(_)) {
            self.is_idle = false;
            self.next = Some(item);
            return stage.event(Event::Idle(false));
        }
        match item {
            Pushed::Record(record, time) => {
                let batch = match (self.timed, time) {
                    (false, _) => Batch::of(vec![record]),
                    (true, Some(time)) => Batch::timed(vec![record], vec![time])?,
                    (true, None) => return Err(error!("a record has no event time")),
                };
                stage.push(batch)
            }
            Pushed::Watermark(watermark) => {
                // The end of the input alone stands for the end of time.
                let watermark = watermark.min(Timestamp::from_millis(i64::MAX - 1));
                if watermark <= self.watermark {
                    return Ok(Flow::Ready);
                }
                self.watermark = watermark;
                stage.event(Event::Watermark(watermark))
            }
            Pushed::Idle if self.is_idle => Ok(Flow::Ready),
            Pushed::Idle => {
                self.is_idle = true;
                stage.event(Event::Idle(true))
            }
            Pushed::End => stage.event(Event::EndOfInput),
        }
    }

    /// The outcome of a step whose last answer was `flow`.
    const fn after(&mut self, flow: Flow) -> Step {
        self.is_full = matches!(flow, Flow::Full);
        match (self.is_full, self.has_ended) {
            (true, _) => Step::Full,
            (false, true) => Step::Finished,
            (false, false) => Step::Progress,
        }
    }
}

impl<T: Data> TaskBody for PushedBody<T> {
    fn open(&mut self) -> Result<()> {
        self.stage.as_mut().map_or(Ok(()), |stage| stage.open())
    }

    fn step(&mut self) -> Result<Step> {
        if self.is_full {
            let flow = self.stage.as_mut().map_or(Ok(Flow::Ready), |stage| stage.resume())?;
            return Ok(self.after(flow));
        }
        let Some(item) = self.take() else { return Ok(Step::Idle(None)) };
        self.has_ended = matches!(item, Pushed::End);
        let flow = self.hand_on(item)?;
        Ok(self.after(flow))
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let flow = self.stage.as_mut().map_or(Ok(Flow::Ready), |stage| stage.on_time(moment))?;
        self.is_full |= flow == Flow::Full;
        Ok(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.stage.as_ref().and_then(|stage| stage.next_time())
    }

    fn inputs_waiting(&self) -> usize {
        0
    }
}
