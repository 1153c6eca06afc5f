//! The part of an operator that lives in the coordinator host, its types hidden.

use std::collections::VecDeque;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::sink::Committer;
use crate::source::{NextSplit, SplitEnumerator};

/// What a source's subtask and its enumerator say.
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

    /// A subtask said something.
    ///
    /// # Errors
    /// The job fails.
    fn on_event(&mut self, subtask: u32, payload: &[u8], replies: &mut Replies) -> Result<()>;

    /// Looks at the clock; the answer is when to look again.
    ///
    /// # Errors
    /// The job fails.
    fn tick(&mut self, now: Instant, replies: &mut Replies) -> Result<Option<Instant>>;

    /// All tasks have finished.
    ///
    /// # Errors
    /// The job fails.
    fn commit(&mut self) -> Result<()>;

    /// The attempt is over without success.
    ///
    /// # Errors
    /// Something was left behind.
    fn abort(&mut self) -> Result<()>;
}

/// Encodes a message between a subtask and its coordinator.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>> {
    Ok(postcard::to_stdvec(message)?)
}

/// Decodes one.
pub(crate) fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M> {
    postcard::from_bytes(payload)
        .map_err(|error| anyhow::anyhow!("a message of another version of the connector: {error}"))
}

/// Serves the readers of one source.
pub(crate) struct SourceCoordinator<E> {
    enumerator: E,
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
            SourceEvent::RequestSplit => self.waiting.push_back(subtask),
            SourceEvent::Split(_) | SourceEvent::NoMoreSplits => {}
        }
        if self.discovered { self.serve(replies) } else { Ok(()) }
    }

    fn tick(&mut self, now: Instant, replies: &mut Replies) -> Result<Option<Instant>> {
        let due = !self.discovered || self.next_discovery.is_some_and(|next| now >= next);
        if due {
            self.discovered = true;
            self.next_discovery = self.enumerator.discover()?.map(|delay| now + delay);
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

/// Collects what the writers of one sink say.
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
        Ok(())
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
