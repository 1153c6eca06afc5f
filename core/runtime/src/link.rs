//! How a host's control thread hears and speaks.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

use millstream_protocol::frame::{self, FrameError};
use millstream_protocol::host::{FromHost, ToHost, from_host};

use crate::slot::TaskReport;

/// What reaches a host's control thread.
#[derive(Debug)]
pub enum ToControl {
    /// The parent said something.
    Parent(Box<ToHost>),
    /// The parent is gone: so is the host.
    ParentGone,
    /// A task said something.
    #[doc(hidden)]
    Task(TaskReport),
}

/// Messages that wait for the parent to read; one that stops reading stops the host.
const OUTBOX_MESSAGES: usize = 1024;

/// Where a host's messages go.
#[derive(Debug, Clone)]
pub struct Outbox(SyncSender<FromHost>);

impl Outbox {
    /// An outbox and what takes the messages out of it.
    #[must_use]
    pub fn new() -> (Self, Receiver<FromHost>) {
        let (sender, receiver) = sync_channel(OUTBOX_MESSAGES);
        (Self(sender), receiver)
    }

    /// Sends a message, waiting for room. A parent that is gone is noticed by the reading side.
    pub(crate) fn send(&self, message: from_host::Message) {
        let _ = self.0.send(FromHost { message: Some(message) });
    }
}

/// Reads the parent's messages on a thread until it is gone.
pub(crate) fn read_parent(
    mut socket: UnixStream,
    control: Sender<ToControl>,
) -> std::io::Result<()> {
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
pub(crate) fn write_parent(
    mut socket: UnixStream,
    messages: Receiver<FromHost>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("parent-writer".to_owned()).spawn(move || {
        for message in messages {
            if frame::write_blocking(&mut socket, &message).is_err() {
                return;
            }
        }
    })
}
