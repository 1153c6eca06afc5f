//! The messages of a host's control thread, in both directions.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use millstream_protocol::HOST_SOCKET_LOST;
use millstream_protocol::frame::{self, FrameError};
use millstream_protocol::host::{Alive, Execution, Failure, FromHost, ToHost, from_host};
use millstream_types::{ExecutionAttemptId, OperatorId};

use crate::failure;

/// A task's report to its host's control thread.
#[derive(Debug)]
pub enum TaskReport {
    /// It entered a state.
    State(ExecutionAttemptId, Execution, Option<Failure>),
    /// It has a message for an operator's coordinator.
    OperatorEvent(OperatorId, u32, Vec<u8>),
}

/// A message to a host's control thread.
#[derive(Debug)]
pub enum ToControl {
    /// A message of the parent.
    Parent(Box<ToHost>),
    /// The parent is gone: so is the host.
    ParentGone,
    /// A report of a task.
    #[doc(hidden)]
    Task(TaskReport),
    /// A coordinator failed: the job does.
    #[doc(hidden)]
    CoordinatorFailed(Box<Failure>),
}

/// Limit on messages that wait for a host's control thread. Beyond it tasks wait with their
/// reports, and the parent's messages stay unread.
const CONTROL_MESSAGES: usize = 4096;

/// The messages to a host's control thread, and their sender.
#[must_use]
pub fn control_queue() -> (SyncSender<ToControl>, Receiver<ToControl>) {
    sync_channel(CONTROL_MESSAGES)
}

/// Messages that wait for the parent to read; one that stops reading stops the host.
const OUTBOX_MESSAGES: usize = 1024;

/// A host writes so often even if it might be silent longer: a write is how a socket that user code
/// has closed is noticed.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Where a host's messages go.
#[derive(Debug, Clone)]
pub struct Outbox {
    messages: SyncSender<FromHost>,
    /// In milliseconds; zero: for ever.
    silence_max: Arc<AtomicU64>,
}

impl Outbox {
    /// An outbox and what takes the messages out of it.
    #[must_use]
    pub fn new() -> (Self, Outgoing) {
        let (sender, messages) = sync_channel(OUTBOX_MESSAGES);
        let silence_max = Arc::<AtomicU64>::default();
        let outgoing = Outgoing { messages, silence_max: Arc::clone(&silence_max) };
        (Self { messages: sender, silence_max }, outgoing)
    }

    /// Signs of life are given now and from now on at least so often. No user code is involved in
    /// it, so none can hold it up; zero: none are given.
    pub fn show_life(&self, interval_ms: u64) {
        let most = u64::try_from(SILENCE_MAX.as_millis()).unwrap_or(u64::MAX);
        self.silence_max.store(interval_ms.min(most), Ordering::Relaxed);
        if interval_ms > 0 {
            self.send(from_host::Message::Alive(Alive {}));
        }
    }

    /// Sends a message, waiting for room. A parent that is gone is noticed by the reading side.
    pub fn send(&self, message: from_host::Message) {
        let _ = self.messages.send(FromHost { message: Some(message) });
    }
}

/// The messages to the parent, in order; ends with the last outbox.
#[derive(Debug)]
pub struct Outgoing {
    messages: Receiver<FromHost>,
    silence_max: Arc<AtomicU64>,
}

impl Outgoing {
    /// The next message, if one waits. Signs of life are left to the caller.
    pub fn take_waiting(&mut self) -> Option<FromHost> {
        self.messages.try_recv().ok()
    }
}

impl Iterator for Outgoing {
    type Item = FromHost;

    fn next(&mut self) -> Option<FromHost> {
        let silence_max = Duration::from_millis(self.silence_max.load(Ordering::Relaxed));
        if silence_max.is_zero() {
            return self.messages.recv().ok();
        }
        match self.messages.recv_timeout(silence_max) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => {
                Some(FromHost { message: Some(from_host::Message::Alive(Alive {})) })
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

/// Whether the error says that the socket does not exist any more on our side. The engine does not
/// close it, so user code did, and no message can pass any more.
fn is_lost(error: &FrameError) -> bool {
    let lost =
        |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK));
    matches!(error, FrameError::Io(error) if lost(error))
}

fn end_without_socket() -> ! {
    tracing::error!("the socket to the parent process was closed in this process: it ends");
    std::process::exit(HOST_SOCKET_LOST)
}

/// Reads the parent's messages on a thread until it is gone.
pub fn read_parent(mut socket: UnixStream, control: SyncSender<ToControl>) -> std::io::Result<()> {
    std::thread::Builder::new().name("parent-reader".to_owned()).spawn(move || {
        let reader: &mut dyn Read = &mut socket;
        let mut reader = std::io::BufReader::new(reader);
        loop {
            match frame::read_blocking::<ToHost>(&mut reader) {
                Ok(message) => {
                    if control.send(ToControl::Parent(Box::new(message))).is_err() {
                        return;
                    }
                }
                Err(error) if is_lost(&error) => end_without_socket(),
                Err(error) => {
                    if !matches!(error, FrameError::Closed) {
                        tracing::error!(%error, "failed to read from the parent process");
                    }
                    let _ = control.send(ToControl::ParentGone);
                    return;
                }
            }
        }
    })?;
    Ok(())
}

/// Writes messages to the parent on a thread; ends when the outbox is dropped and empty.
pub fn write_parent(
    mut socket: UnixStream,
    messages: Outgoing,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("parent-writer".to_owned()).spawn(move || {
        for message in messages {
            match frame::write_blocking(&mut socket, &message) {
                Ok(()) => {}
                Err(error) if is_lost(&error) => end_without_socket(),
                Err(error @ FrameError::TooLong(_)) => {
                    // Nothing of it was written, so that the reason arrives in its place.
                    tracing::error!(%error, "failed to speak to the parent process");
                    let why = format!(
                        "failed to speak to the parent process: {error}; results that are named \
                         in one message, or the plan, take less if there are fewer of them"
                    );
                    let failure = from_host::Message::Failure(failure::of_kind("error", why));
                    let _ =
                        frame::write_blocking(&mut socket, &FromHost { message: Some(failure) });
                    return;
                }
                // The reading side notices a parent that is gone.
                Err(_) => return,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use millstream_protocol::host::OperatorEvent;

    use super::*;

    fn is_alive(message: Option<FromHost>) -> bool {
        matches!(message, Some(FromHost { message: Some(from_host::Message::Alive(_)) }))
    }

    #[test]
    fn an_outbox_in_use_gives_signs_of_life() {
        let (outbox, mut outgoing) = Outbox::new();
        outbox.show_life(5);
        assert!((0..3).all(|_| is_alive(outgoing.next())));
        drop(outbox);
        assert!(outgoing.next().is_none(), "the end is the end");
    }

    #[test]
    fn a_message_that_is_too_long_is_reported_in_its_place() {
        let (ours, mut parents) = UnixStream::pair().unwrap();
        let (outbox, outgoing) = Outbox::new();
        let writer = write_parent(ours, outgoing).unwrap();
        let said = |bytes: usize| OperatorEvent { payload: vec![0; bytes], ..Default::default() };
        outbox.send(from_host::Message::OperatorEvent(said(1)));
        outbox.send(from_host::Message::OperatorEvent(said(frame::FRAME_BYTES_MAX)));
        let mut heard = || frame::read_blocking::<FromHost>(&mut parents).map(|it| it.message);
        let first = heard().unwrap();
        assert_eq!(first, Some(from_host::Message::OperatorEvent(said(1))));
        let Ok(Some(from_host::Message::Failure(failure))) = heard() else {
            panic!("the reason is missing")
        };
        assert!(failure.message.contains("is over the limit of 67108864"), "{failure:?}");
        writer.join().unwrap();
    }

    #[test]
    fn an_outbox_that_shows_no_life_waits_for_messages() {
        let (outbox, mut outgoing) = Outbox::new();
        outbox.show_life(0);
        drop(outbox);
        assert!(outgoing.next().is_none());
    }
}
