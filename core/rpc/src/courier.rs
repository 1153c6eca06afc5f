//! Delivers the messages of one TaskManager's hosts to a JobMaster, in order.
//!
//! A TaskManager's stream is read for all jobs, so reading never waits for one of them: each
//! JobMaster has a courier with a bounded queue. A host whose message finds no room is given up: it
//! is stopped, and of its later messages only its end is delivered, with the reason.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use millstream_gateway::{CauseKind, FailureCause, HostExit, JobMasterEvent, JobMasterGateway};
use millstream_protocol::host::FromHost;
use millstream_types::HostId;
use prost::Message;
use tokio::sync::Notify;

use crate::lock;

/// The most messages that a JobMaster leaves unread per TaskManager, beside those in its mailbox.
const UNREAD_MAX: usize = 4096;
/// The most bytes that they have together. One that is longer waits alone.
const UNREAD_BYTES_MAX: usize = 64 << 20;

/// There was no room for a host's message: the host is to be stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

/// The way to one JobMaster. Queued messages are delivered even after it is dropped.
#[derive(Debug)]
pub(crate) struct Courier {
    owner: Arc<dyn JobMasterGateway>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each with its size; ends have none and always find room: each host has one.
    events: VecDeque<(JobMasterEvent, usize)>,
    /// Of the messages that are not delivered yet.
    messages: usize,
    bytes: usize,
    given_up: HashSet<HostId>,
    /// Nothing more will come.
    closed: bool,
}

impl Courier {
    /// Starts a courier to `owner` on the current runtime.
    pub(crate) fn start(owner: Arc<dyn JobMasterGateway>) -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(deliver(Arc::clone(&owner), Arc::clone(&shared)));
        Self { owner, shared }
    }

    /// Whether it delivers to `owner`.
    pub(crate) fn is_to(&self, owner: &Arc<dyn JobMasterGateway>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.owner), Arc::as_ptr(owner))
    }

    /// Queues a message. The first one of a host that finds no room is an [`Overrun`].
    pub(crate) fn message(&self, host: HostId, message: FromHost) -> Result<(), Overrun> {
        let bytes = message.encoded_len();
        let mut queue = lock(&self.shared.queue);
        if queue.given_up.contains(&host) {
            return Ok(());
        }
        let has_room = queue.messages < UNREAD_MAX
            && (queue.messages == 0 || queue.bytes.saturating_add(bytes) <= UNREAD_BYTES_MAX);
        if !has_room {
            queue.given_up.insert(host);
            return Err(Overrun);
        }
        queue.messages += 1;
        queue.bytes = queue.bytes.saturating_add(bytes);
        queue
            .events
            .push_back((JobMasterEvent::HostMessage { host, message: Box::new(message) }, bytes));
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Queues a host's end.
    pub(crate) fn exited(&self, mut exit: HostExit) {
        let mut queue = lock(&self.shared.queue);
        if queue.given_up.remove(&exit.host) {
            let message = format!(
                "the task host was stopped because it said more than its JobMaster took: {} \
                 messages of {} bytes were unread",
                queue.messages, queue.bytes
            );
            exit.cause = FailureCause::new(CauseKind::Stuck, message);
        }
        queue.events.push_back((JobMasterEvent::HostExited(exit), 0));
        self.shared.changed.notify_one();
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.changed.notify_one();
    }
}

/// Delivers until nothing more will come, or the job has ended.
async fn deliver(owner: Arc<dyn JobMasterGateway>, shared: Arc<Shared>) {
    loop {
        let (next, closed) = {
            let mut queue = lock(&shared.queue);
            (queue.events.pop_front(), queue.closed)
        };
        let Some((event, bytes)) = next else {
            if closed {
                return;
            }
            shared.changed.notified().await;
            continue;
        };
        let is_message = matches!(event, JobMasterEvent::HostMessage { .. });
        // A job that has ended has stopped its hosts: their last messages are dropped.
        let _ = owner.post(event).await;
        if is_message {
            let mut queue = lock(&shared.queue);
            queue.messages -= 1;
            queue.bytes = queue.bytes.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use millstream_gateway::{JobDetails, Stopped};
    use millstream_protocol::host::{OperatorEvent, from_host};
    use millstream_types::JobId;
    use tokio::sync::{Semaphore, mpsc, watch};

    use super::*;

    /// Takes events only as far as it is allowed to.
    #[derive(Debug)]
    struct Slow {
        allowed: Semaphore,
        events: mpsc::Sender<JobMasterEvent>,
    }

    impl JobMasterGateway for Slow {
        fn job(&self) -> JobId {
            JobId::from_u128(1)
        }

        fn post(&self, event: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>> {
            Box::pin(async move {
                self.allowed.acquire().await.map_err(|_| Stopped)?.forget();
                self.events.send(event).await.map_err(|_| Stopped)
            })
        }

        fn details(&self) -> watch::Receiver<Arc<JobDetails>> {
            panic!("nothing asks for them")
        }
    }

    fn slow() -> (Arc<Slow>, Courier, mpsc::Receiver<JobMasterEvent>) {
        let (events, received) = mpsc::channel(100_000);
        let slow = Arc::new(Slow { allowed: Semaphore::new(0), events });
        (Arc::clone(&slow), Courier::start(slow), received)
    }

    fn message(bytes: usize) -> FromHost {
        let event = OperatorEvent { payload: vec![0; bytes], ..OperatorEvent::default() };
        FromHost { message: Some(from_host::Message::OperatorEvent(event)) }
    }

    fn exit(host: HostId) -> HostExit {
        let cause = FailureCause::new(CauseKind::Requested, "was told to end");
        HostExit { host, cause, stderr_tail: String::new() }
    }

    async fn next_exit(events: &mut mpsc::Receiver<JobMasterEvent>) -> HostExit {
        loop {
            match events.recv().await.unwrap() {
                JobMasterEvent::HostExited(exit) => return exit,
                JobMasterEvent::HostMessage { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_host_whose_messages_find_no_room_is_given_up_and_its_end_says_why() {
        let (slow, courier, mut events) = slow();
        let (loud, quiet) = (HostId::from_u128(1), HostId::from_u128(2));
        for _ in 0..UNREAD_MAX {
            assert_eq!(courier.message(loud, message(1)), Ok(()));
        }
        assert_eq!(courier.message(loud, message(1)), Err(Overrun));
        assert_eq!(courier.message(loud, message(1)), Ok(()), "it is said once");
        courier.exited(exit(loud));
        courier.exited(exit(quiet));
        drop(courier);
        slow.allowed.add_permits(UNREAD_MAX + 2);
        let loud = next_exit(&mut events).await;
        assert!(loud.cause.message.contains("4096 messages"), "{loud:?}");
        assert_eq!(next_exit(&mut events).await, exit(quiet));
    }

    #[tokio::test]
    async fn messages_have_a_limit_of_bytes_and_a_long_one_waits_alone() {
        let (slow, courier, mut events) = slow();
        let host = HostId::from_u128(1);
        assert_eq!(courier.message(host, message(UNREAD_BYTES_MAX + 1)), Ok(()));
        assert_eq!(courier.message(HostId::from_u128(2), message(1)), Err(Overrun));
        slow.allowed.add_permits(1);
        events.recv().await.unwrap();
        // Each delivery makes room.
        while courier.message(HostId::from_u128(3), message(1)).is_err() {
            tokio::task::yield_now().await;
            lock(&courier.shared.queue).given_up.clear();
        }
        slow.allowed.add_permits(1);
        events.recv().await.unwrap();
    }
}
