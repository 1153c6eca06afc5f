//! The part of an operator that lives in the coordinator host, its types hidden.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use millstream_connector::{Committer, NextSplit, SplitEnumerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Result;

/// A message between a source's subtask and its enumerator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SourceEvent<S> {
    /// Subtask: I have nothing to read.
    RequestSplit,
    /// Enumerator: read this.
    Split(S),
    /// Enumerator: there will never be more.
    NoMoreSplits,
}

/// Messages for subtasks: subtask, encoded message.
pub type Replies = Vec<(u32, Vec<u8>)>;

/// An operator's coordinator.
pub trait OperatorCoordinator: Send {
    /// Before any task starts.
    ///
    /// # Errors
    /// The job fails.
    fn open(&mut self) -> Result<()>;

    /// Handles a message of a subtask.
    ///
    /// # Errors
    /// The message is malformed, or cannot be handled; the job fails.
    fn on_event(&mut self, subtask: u32, payload: &[u8], replies: &mut Replies) -> Result<()>;

    /// Called once at the start, and again when the time that it returned has come; after `None` it
    /// is not called again.
    ///
    /// # Errors
    /// The work that was due failed; the job fails.
    fn tick(&mut self, now: Instant, replies: &mut Replies) -> Result<Option<Instant>>;

    /// Called once all tasks have finished.
    ///
    /// # Errors
    /// The results cannot be published; the job fails.
    fn commit(&mut self) -> Result<()>;

    /// Called when the attempt is over without success.
    ///
    /// # Errors
    /// Some results are left.
    fn abort(&mut self) -> Result<()>;
}

/// Encodes a message between a subtask and its coordinator.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>> {
    Ok(postcard::to_stdvec(message)?)
}

/// Decodes one.
pub(crate) fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M> {
    postcard::from_bytes(payload).map_err(|error| {
        anyhow::anyhow!(
            "a message of type {} between a task and its coordinator cannot be read back: {error}; \
             a split or committable needs a Deserialize that reads what its Serialize writes, \
             without names (no flatten, untagged, skip_serializing_if, ...)",
            std::any::type_name::<M>()
        )
    })
}

/// The bounds of the time between two looks for splits: a delay of nothing would keep a core busy,
/// one beyond what a clock can show would end the coordinator.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Serves the readers of one source.
pub(crate) struct SourceCoordinator<E> {
    enumerator: E,
    /// The subtasks that have asked for a split, each once.
    waiting: VecDeque<u32>,
    next_discovery: Option<Instant>,
    discovered: bool,
}

impl<E> SourceCoordinator<E> {
    pub(crate) const fn new(enumerator: E) -> Self {
        Self { enumerator, waiting: VecDeque::new(), next_discovery: None, discovered: false }
    }
}

impl<E: SplitEnumerator> SourceCoordinator<E>
where
    E::Split: Serialize,
{
    /// Answers the subtasks that wait, as far as there are splits.
    fn serve(&mut self, replies: &mut Replies) -> Result<()> {
        for _ in 0..self.waiting.len() {
            let Some(subtask) = self.waiting.pop_front() else { break };
            match self.enumerator.next_split(subtask)? {
                NextSplit::Split(split) => {
                    replies.push((subtask, encode(&SourceEvent::Split(split))?));
                }
                NextSplit::NoMore => {
                    replies.push((subtask, encode(&SourceEvent::<E::Split>::NoMoreSplits)?));
                }
                NextSplit::Later if self.next_discovery.is_none() => {
                    return Err(anyhow::anyhow!(
                        "the source's enumerator answered subtask {subtask} with \
                         NextSplit::Later, but there is no later: its discover() has answered \
                         None and is not called again. Answer NextSplit::NoMore, or let discover() \
                         answer the time until the next look"
                    ));
                }
                NextSplit::Later => self.waiting.push_back(subtask),
            }
        }
        Ok(())
    }
}

impl<E: SplitEnumerator> OperatorCoordinator for SourceCoordinator<E>
where
    E::Split: Serialize + DeserializeOwned,
{
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn on_event(&mut self, subtask: u32, payload: &[u8], replies: &mut Replies) -> Result<()> {
        match decode::<SourceEvent<E::Split>>(payload)? {
            // A restarted subtask asks again while its question before waits: it gets one split.
            SourceEvent::RequestSplit if self.waiting.contains(&subtask) => {}
            SourceEvent::RequestSplit => self.waiting.push_back(subtask),
            SourceEvent::Split(_) | SourceEvent::NoMoreSplits => {}
        }
        if self.discovered { self.serve(replies) } else { Ok(()) }
    }

    fn tick(&mut self, now: Instant, replies: &mut Replies) -> Result<Option<Instant>> {
        let due = !self.discovered || self.next_discovery.is_some_and(|next| now >= next);
        if due {
            self.discovered = true;
            let delay = self.enumerator.discover()?;
            self.next_discovery = delay.map(|delay| now + delay.clamp(DELAY_MIN, DELAY_MAX));
            self.serve(replies)?;
        }
        Ok(self.next_discovery)
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The most results of its writers that a sink has to publish at its end.
const COMMITTABLES_MAX: usize = 1_000_000;

/// Collects the committables of one sink's writers.
pub(crate) struct SinkCoordinator<C: Committer> {
    committer: C,
    committables: Vec<C::Committable>,
}

impl<C: Committer> SinkCoordinator<C> {
    pub(crate) const fn new(committer: C) -> Self {
        Self { committer, committables: Vec::new() }
    }
}

impl<C: Committer> OperatorCoordinator for SinkCoordinator<C>
where
    C::Committable: DeserializeOwned + Send,
{
    fn open(&mut self) -> Result<()> {
        self.committer.open()
    }

    fn on_event(&mut self, _subtask: u32, payload: &[u8], _replies: &mut Replies) -> Result<()> {
        self.committables.extend(decode::<Vec<C::Committable>>(payload)?);
        match self.committables.len() {
            0..=COMMITTABLES_MAX => Ok(()),
            count => Err(anyhow::anyhow!(
                "its writers named {count} results to publish, and {COMMITTABLES_MAX} are the \
                 most: let them write fewer and larger ones"
            )),
        }
    }

    fn tick(&mut self, _now: Instant, _replies: &mut Replies) -> Result<Option<Instant>> {
        Ok(None)
    }

    fn commit(&mut self) -> Result<()> {
        self.committer.commit(std::mem::take(&mut self.committables))
    }

    fn abort(&mut self) -> Result<()> {
        self.committables.clear();
        self.committer.abort()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from lists; `None` and no more once they are used up.
    struct Scripted {
        delays: VecDeque<Option<Duration>>,
        splits: VecDeque<NextSplit<u32>>,
    }

    impl SplitEnumerator for Scripted {
        type Split = u32;

        fn discover(&mut self) -> Result<Option<Duration>> {
            Ok(self.delays.pop_front().flatten())
        }

        fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<u32>> {
            Ok(self.splits.pop_front().unwrap_or(NextSplit::NoMore))
        }
    }

    fn coordinator<const D: usize, const S: usize>(
        delays: [Option<Duration>; D],
        splits: [NextSplit<u32>; S],
    ) -> SourceCoordinator<Scripted> {
        SourceCoordinator::new(Scripted { delays: delays.into(), splits: splits.into() })
    }

    fn request(coordinator: &mut SourceCoordinator<Scripted>) -> Result<Replies> {
        let mut replies = Replies::new();
        let request = encode(&SourceEvent::<u32>::RequestSplit).unwrap();
        coordinator.on_event(3, &request, &mut replies)?;
        Ok(replies)
    }

    #[test]
    fn later_after_the_last_discovery_is_an_error() {
        let mut source = coordinator([None], [NextSplit::Split(1), NextSplit::Later]);
        let mut replies = Replies::new();
        assert_eq!(source.tick(Instant::now(), &mut replies).unwrap(), None);
        assert_eq!(request(&mut source).unwrap().len(), 1);
        let error = request(&mut source).unwrap_err().to_string();
        assert!(error.contains("answered subtask 3 with NextSplit::Later"), "{error}");
    }

    #[test]
    fn a_reader_that_waits_when_the_discovery_ends_is_an_error() {
        let second = Duration::from_secs(1);
        let mut source = coordinator([Some(second), None], [NextSplit::Later, NextSplit::Later]);
        let (start, mut replies) = (Instant::now(), Replies::new());
        assert_eq!(source.tick(start, &mut replies).unwrap(), Some(start + second));
        assert!(request(&mut source).unwrap().is_empty());
        let error = source.tick(start + second, &mut replies).unwrap_err().to_string();
        assert!(error.contains("there is no later"), "{error}");
    }

    #[test]
    fn later_before_the_next_discovery_waits_for_it() {
        let second = Duration::from_secs(1);
        let mut source = coordinator([Some(second), None], [NextSplit::Later]);
        let (start, mut replies) = (Instant::now(), Replies::new());
        source.tick(start, &mut replies).unwrap();
        assert!(request(&mut source).unwrap().is_empty());
        source.tick(start + second, &mut replies).unwrap();
        assert_eq!(replies.len(), 1);
    }

    #[test]
    fn a_subtask_that_asks_again_while_it_waits_gets_one_split() {
        let mut source = coordinator([None], [NextSplit::Split(1), NextSplit::Split(2)]);
        for _ in 0..1_000 {
            assert!(request(&mut source).unwrap().is_empty(), "nothing is discovered yet");
        }
        let mut replies = Replies::new();
        source.tick(Instant::now(), &mut replies).unwrap();
        assert_eq!(replies.len(), 1);
    }

    #[test]
    fn delays_of_nothing_and_of_for_ever_are_bounded() {
        let mut source = coordinator([Some(Duration::ZERO), Some(Duration::MAX)], []);
        let (start, mut replies) = (Instant::now(), Replies::new());
        let next = source.tick(start, &mut replies).unwrap().unwrap();
        assert_eq!(next, start + DELAY_MIN);
        assert_eq!(source.tick(next, &mut replies).unwrap(), Some(next + DELAY_MAX));
    }

    /// Has nothing to do.
    struct Idle;

    impl Committer for Idle {
        type Committable = u8;

        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn commit(&mut self, _: Vec<u8>) -> Result<()> {
            Ok(())
        }

        fn abort(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn results_to_publish_are_limited_in_number() {
        let mut sink = SinkCoordinator::new(Idle);
        let half = encode(&vec![0_u8; COMMITTABLES_MAX / 2]).unwrap();
        sink.on_event(0, &half, &mut Replies::new()).unwrap();
        sink.on_event(1, &half, &mut Replies::new()).unwrap();
        let one = encode(&vec![0_u8; 1]).unwrap();
        let error = sink.on_event(2, &one, &mut Replies::new()).unwrap_err().to_string();
        assert!(error.contains("named 1000001 results to publish"), "{error}");
    }
}
