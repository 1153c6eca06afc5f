//! The part of an operator that lives in the coordinator host, its types hidden: its messages to
//! and from subtasks, and that of a sink.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millstream_types::{AttemptId, Barrier, BarrierKind, CheckpointId, OperatorId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::sink::{Committer, Uncommitted};

/// A message of a coordinator for a subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The subtask.
    pub subtask: u32,
    /// The message, encoded.
    pub payload: Vec<u8>,
    /// Whether it hands out what is in no snapshot of the coordinator from then on: a coordinator
    /// that takes the place of this one is told of it.
    pub hands_out: bool,
}

/// Messages for subtasks.
pub type Replies = Vec<Reply>;

/// The beginning of an attempt, as coordinators need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The newest attempt.
    pub attempt: AttemptId,
    /// Earlier attempts of which tasks run on, or have finished.
    pub running: Vec<AttemptId>,
    /// Whether the job takes checkpoints: then committers begin with an order to recover.
    pub takes_checkpoints: bool,
}

/// An order to publish what complete checkpoints carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOrder {
    /// Whether it is the first one of the process, so that what earlier attempts left is discarded.
    pub recovers: bool,
    /// The committables of each writer, encoded with the checkpoint that they were made for.
    pub committables: Vec<Vec<u8>>,
}

/// Some subtasks of an operator have ended and begin again, while others may run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// The attempt that begins.
    pub attempt: AttemptId,
    /// The subtasks.
    pub subtasks: Vec<u32>,
    /// The checkpoint that they begin from; `None`: from nothing.
    pub restored: Option<CheckpointId>,
}

/// The messages of the coordinator before to tasks that run on, as far as they have handed out what
/// the state does not know of from which this one began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The checkpoint of that state; 0: there is none.
    pub from: u64,
    /// The newest checkpoint of which tasks were told; 0: none.
    pub newest: u64,
    /// The subtasks that have finished.
    pub ended: Vec<u32>,
    /// The messages.
    pub handed: Vec<HandedOut>,
}

/// A message by which a coordinator handed something out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOut {
    /// The subtask that has got it.
    pub subtask: u32,
    /// The newest checkpoint whose barrier the subtask was told before; 0: none.
    pub after: u64,
    /// The message, encoded.
    pub payload: Vec<u8>,
}

/// An operator's coordinator.
pub trait OperatorCoordinator: Send {
    /// Starts, before any task of an attempt does.
    ///
    /// # Errors
    /// What earlier attempts left cannot be discarded.
    fn open(&mut self, opening: Opening) -> Result<()>;

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

    /// The state that a checkpoint keeps; `None` if there is none to keep.
    ///
    /// # Errors
    /// The state cannot be told; the checkpoint fails.
    fn snapshot(&mut self, id: CheckpointId) -> Result<Option<Vec<u8>>> {
        let _ = id;
        Ok(None)
    }

    /// Some subtasks begin again; everything that they have said in their attempts before has been
    /// handled.
    ///
    /// # Errors
    /// The job fails.
    fn restart(&mut self, restart: &Restart) -> Result<()> {
        let _ = restart;
        Ok(())
    }

    /// It takes the place of a coordinator whose host has died while tasks run on. Called after
    /// [`OperatorCoordinator::open`] and before everything else, more than once if there is much.
    ///
    /// # Errors
    /// What was handed out cannot be told apart from the rest; the job fails.
    fn take_over(&mut self, before: TakeOver) -> Result<()> {
        let _ = before;
        Ok(())
    }

    /// A checkpoint is complete: no restart begins from an earlier one.
    fn on_complete(&mut self, id: CheckpointId) {
        let _ = id;
    }

    /// Publishes what complete checkpoints carry.
    ///
    /// # Errors
    /// The results cannot be published; the job fails.
    fn publish(&mut self, order: CommitOrder) -> Result<()> {
        let _ = order;
        Ok(())
    }

    /// Called once all tasks have finished, and everything that checkpoints carry is published.
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
///
/// # Errors
/// The type's `Serialize` refuses it.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>> {
    Ok(postcard::to_stdvec(message)?)
}

/// Decodes one.
///
/// # Errors
/// The bytes are not those of such a message.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M> {
    postcard::from_bytes(payload).map_err(|error| {
        anyhow::anyhow!(
            "a message of type {} between a task and its coordinator cannot be read back: {error}; \
             a split or committable needs a Deserialize that reads what its Serialize writes, \
             without names (no flatten, untagged, skip_serializing_if, ...)",
            std::any::type_name::<M>()
        )
    })
}

/// The most messages of its coordinator that a task leaves unread.
const EVENTS_UNREAD_MAX: usize = 1024;

/// A message to one operator's subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mail {
    /// A message of its coordinator, encoded.
    Event(Vec<u8>),
    /// A source is to emit this barrier. Its coordinator has sent the messages before it ahead of
    /// its own snapshot, and those behind it afterwards.
    Barrier(Barrier),
    /// The coordinator is another one, which knows of no question that it has not answered.
    Repeat,
}

/// Messages to one operator's subtask. A coordinator only answers requests, so few ever wait.
#[derive(Debug, Default)]
pub struct EventMailbox(Mutex<VecDeque<Mail>>);

impl EventMailbox {
    /// Adds a message; the caller wakes the task.
    ///
    /// # Errors
    /// The task has left too many unread.
    pub fn push(&self, mail: Mail) -> Result<()> {
        let mut messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= EVENTS_UNREAD_MAX {
            return Err(anyhow::anyhow!(
                "it has left {EVENTS_UNREAD_MAX} messages of its coordinator unread: see whether \
                 its reader waits in poll()"
            ));
        }
        messages.push_back(mail);
        Ok(())
    }

    /// Whether a barrier waits that takes the place of this one: it overtakes records, and the
    /// checkpoint of the aligned one was given up.
    #[must_use]
    pub fn replaces(&self, held: Barrier) -> bool {
        let messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds = messages.iter().filter_map(|mail| match mail {
            Mail::Barrier(barrier) => Some(barrier.kind),
            Mail::Event(_) | Mail::Repeat => None,
        });
        held.kind == BarrierKind::Checkpoint && kinds.any(|kind| kind == BarrierKind::Unaligned)
    }

    /// Takes the oldest message.
    #[must_use]
    pub fn pop(&self) -> Option<Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Sends a message to an operator's coordinator: operator, subtask, encoded message.
pub type EventSender = Arc<dyn Fn(OperatorId, u32, Vec<u8>) + Send + Sync>;

/// A message from a sink's subtask to its committer: committables, and the checkpoint for which
/// they were pre-committed.
pub type PreCommitted<C> = (CheckpointId, Vec<C>);

/// Collects the committables of one sink's writers.
pub struct SinkCoordinator<C: Committer> {
    committer: C,
    uncommitted: Uncommitted<C::Committable>,
    /// The newest attempt and all before it.
    attempts: Vec<AttemptId>,
    /// Earlier attempts of which tasks may run, or have finished.
    running: Vec<AttemptId>,
    takes_checkpoints: bool,
    /// Some subtasks have begun again while others ran on.
    has_restarted: bool,
}

impl<C: Committer> SinkCoordinator<C> {
    /// The coordinator of this committer's sink.
    #[must_use]
    pub fn new(committer: C) -> Self {
        let (uncommitted, attempts) = (Uncommitted::default(), Vec::new());
        let (running, takes_checkpoints, has_restarted) = (Vec::new(), false, false);
        Self { committer, uncommitted, attempts, running, takes_checkpoints, has_restarted }
    }
}

impl<C: Committer> OperatorCoordinator for SinkCoordinator<C>
where
    C::Committable: DeserializeOwned + Send,
{
    fn open(&mut self, opening: Opening) -> Result<()> {
        let Opening { attempt, running, takes_checkpoints } = opening;
        self.attempts = attempt.earlier().collect();
        self.has_restarted = !running.is_empty();
        self.running = running;
        self.takes_checkpoints = takes_checkpoints;
        if takes_checkpoints {
            self.attempts.push(attempt);
            return Ok(());
        }
        // Without checkpoints a job begins anew: nothing of earlier attempts counts.
        if !self.attempts.is_empty() {
            self.committer.abort(&self.attempts)?;
        }
        self.committer.recover(Vec::new(), &self.attempts)?;
        self.attempts.push(attempt);
        Ok(())
    }

    fn on_event(&mut self, _subtask: u32, payload: &[u8], _replies: &mut Replies) -> Result<()> {
        let (id, committables) = decode::<PreCommitted<C::Committable>>(payload)?;
        self.uncommitted.add(id, committables)
    }

    fn tick(&mut self, _now: Instant, _replies: &mut Replies) -> Result<Option<Instant>> {
        Ok(None)
    }

    fn publish(&mut self, order: CommitOrder) -> Result<()> {
        let CommitOrder { recovers, committables } = order;
        let mut pending = Uncommitted::default();
        for payload in &committables {
            let (id, committables) = decode::<PreCommitted<C::Committable>>(payload)?;
            pending.add(id, committables)?;
        }
        let pending = pending.take_all();
        if recovers {
            let mut ended = self.attempts.clone();
            ended.pop();
            ended.retain(|attempt| !self.running.contains(attempt));
            return self.committer.recover(pending, &ended);
        }
        pending.into_iter().try_for_each(|(id, it)| self.committer.commit(id, it))
    }

    fn restart(&mut self, restart: &Restart) -> Result<()> {
        self.attempts.push(restart.attempt);
        self.has_restarted = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if self.takes_checkpoints {
            if self.has_restarted {
                // Everything is published; what is left is of tasks that have begun again.
                self.committer.recover(Vec::new(), &self.attempts)?;
            }
            return self.committer.close();
        }
        let mut pending = self.uncommitted.take_through(CheckpointId::FIRST);
        if pending.is_empty() {
            pending.push((CheckpointId::FIRST, Vec::new()));
        }
        for (id, committables) in pending {
            self.committer.commit(id, committables)?;
        }
        self.committer.close()
    }

    fn abort(&mut self) -> Result<()> {
        if self.takes_checkpoints {
            // What complete checkpoints carry is published by then and stays.
            self.committer.recover(Vec::new(), &self.attempts)?;
            return self.committer.close();
        }
        self.uncommitted.clear();
        self.committer.abort(&self.attempts)?;
        self.committer.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::COMMITTABLES_MAX;

    #[test]
    fn a_barrier_that_overtakes_takes_the_place_of_an_aligned_one_alone() {
        let barrier = |id, kind| Barrier::new(CheckpointId::new(id), kind);
        let held = barrier(1, BarrierKind::Checkpoint);
        let mailbox = EventMailbox::default();
        mailbox.push(Mail::Event(Vec::new())).unwrap();
        mailbox.push(Mail::Barrier(barrier(2, BarrierKind::Checkpoint))).unwrap();
        assert!(!mailbox.replaces(held), "both are wanted");
        mailbox.push(Mail::Barrier(barrier(3, BarrierKind::Unaligned))).unwrap();
        assert!(mailbox.replaces(held));
        let savepoint = barrier(1, BarrierKind::Savepoint);
        assert!(!mailbox.replaces(savepoint) && mailbox.pop().is_some(), "it stays");
    }

    /// Has nothing to do.
    struct Idle;

    impl Committer for Idle {
        type Committable = u8;

        fn recover(&mut self, _: Vec<(CheckpointId, Vec<u8>)>, _: &[AttemptId]) -> Result<()> {
            Ok(())
        }

        fn commit(&mut self, _: CheckpointId, _: Vec<u8>) -> Result<()> {
            Ok(())
        }

        fn abort(&mut self, _: &[AttemptId]) -> Result<()> {
            Ok(())
        }
    }

    /// Notes the attempts whose rest it is to discard.
    #[derive(Default)]
    struct Noting(Arc<Mutex<Vec<Vec<AttemptId>>>>);

    impl Committer for Noting {
        type Committable = u8;

        fn recover(&mut self, _: Vec<(CheckpointId, Vec<u8>)>, ended: &[AttemptId]) -> Result<()> {
            self.0.lock().unwrap().push(ended.to_vec());
            Ok(())
        }

        fn commit(&mut self, _: CheckpointId, _: Vec<u8>) -> Result<()> {
            Ok(())
        }

        fn abort(&mut self, _: &[AttemptId]) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn committers_that_take_over_leave_the_files_of_running_writers() {
        let noting = Noting::default();
        let noted = Arc::clone(&noting.0);
        let mut sink = SinkCoordinator::new(noting);
        let attempts = |numbers: &[u32]| numbers.iter().map(|n| AttemptId::new(*n)).collect();
        let (attempt, running) = (AttemptId::new(3), attempts(&[0, 3]));
        sink.open(Opening { attempt, running, takes_checkpoints: true }).unwrap();
        sink.publish(CommitOrder { recovers: true, committables: Vec::new() }).unwrap();
        let (attempt, subtasks) = (AttemptId::new(4), vec![0]);
        sink.restart(&Restart { attempt, subtasks, restored: None }).unwrap();
        // At the end nothing runs, and all that is left goes.
        sink.commit().unwrap();
        let noted = noted.lock().unwrap().clone();
        assert_eq!(noted, [attempts(&[1, 2]), attempts(&[0, 1, 2, 3, 4])]);
    }

    #[test]
    fn results_to_publish_are_limited_in_number() {
        let mut sink = SinkCoordinator::new(Idle);
        let id = CheckpointId::FIRST;
        let half = encode(&(id, vec![0_u8; COMMITTABLES_MAX / 2])).unwrap();
        sink.on_event(0, &half, &mut Replies::new()).unwrap();
        sink.on_event(1, &half, &mut Replies::new()).unwrap();
        let one = encode(&(id, vec![0_u8; 1])).unwrap();
        let error = sink.on_event(2, &one, &mut Replies::new()).unwrap_err().to_string();
        assert!(error.contains("named 1000001 results to publish"), "{error}");
    }

    #[test]
    fn a_mailbox_takes_so_many_messages_and_no_more() {
        let mailbox = EventMailbox::default();
        for _ in 0..EVENTS_UNREAD_MAX {
            mailbox.push(Mail::Event(vec![1])).unwrap();
        }
        let error = mailbox.push(Mail::Event(vec![2])).unwrap_err().to_string();
        assert!(error.contains("1024 messages of its coordinator unread"), "{error}");
        assert_eq!(mailbox.pop(), Some(Mail::Event(vec![1])));
        mailbox.push(Mail::Event(vec![3])).unwrap();
    }
}
