//! The two directions of a host's socket, each with a queue that is limited in messages and bytes.
//!
//! From the host: when the consumer is slow, the queue fills, nothing more is read, and the host's
//! writes block. To the host: sending never waits; one that does not read is stuck and is killed.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::frame::{self, FrameError};
use millstream_protocol::host::{Failure, FromHost, Hello, ToHost, from_host};
use millstream_protocol::{HOST_PROTOCOL, Version};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::exit::KillReason;

/// A queue's limits. A message over the limit of bytes waits alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    bytes: u32,
}

/// Limits for unread messages from a host; small, because user code controls them.
pub(crate) const FROM_HOST: Limits = Limits { messages: 1024, bytes: 8 << 20 };
/// Limits for messages that a host has not read; above them it counts as stuck. Bursts of splits
/// fit.
pub(crate) const TO_HOST: Limits = Limits { messages: 8192, bytes: 64 << 20 };

/// A message in a queue, with its share of the queue's bytes.
pub(crate) type Queued<T> = (T, OwnedSemaphorePermit);

/// The byte limit of one queue.
#[derive(Debug, Clone)]
pub(crate) struct ByteLimit {
    permits: Arc<Semaphore>,
    bytes: u32,
}

impl ByteLimit {
    pub(crate) fn new(limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.bytes as usize));
        Self { permits, bytes: limits.bytes }
    }

    fn share(&self, length: usize) -> u32 {
        u32::try_from(length).unwrap_or(u32::MAX).min(self.bytes)
    }

    async fn acquire(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_many_owned(self.share(length)).await.ok()
    }

    pub(crate) fn try_acquire(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_many_owned(self.share(length)).ok()
    }
}

/// The facts learnt from a host's messages.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) said_hello: bool,
    pub(crate) failure: Option<Failure>,
    /// The fault of the host, if reading ended for one.
    pub(crate) fault: Option<KillReason>,
}

/// Reads until the host closes or misbehaves, or all receivers are gone. `greeted` fires at a good
/// hello.
pub(crate) async fn read(
    mut socket: OwnedReadHalf,
    messages: mpsc::Sender<Queued<FromHost>>,
    greeted: watch::Sender<bool>,
) -> Heard {
    let limit = ByteLimit::new(FROM_HOST);
    let mut heard = Heard::default();
    loop {
        let payload = match read_frame(&mut socket).await {
            Ok(payload) => payload,
            Err(FrameError::Closed | FrameError::Io(_)) => return heard,
            Err(error) => {
                heard.fault = Some(KillReason::Malformed(error.to_string()));
                return heard;
            }
        };
        let Ok(message) = FromHost::decode(payload.as_slice()) else {
            heard.fault = Some(KillReason::Malformed("a message could not be decoded".to_owned()));
            return heard;
        };
        if !heard.said_hello {
            if let Err(fault) = check_hello(&message) {
                heard.fault = Some(fault);
                return heard;
            }
            heard.said_hello = true;
            greeted.send_replace(true);
            continue;
        }
        if let Some(from_host::Message::Failure(failure)) = &message.message {
            heard.failure = Some(failure.clone());
        }
        let Some(share) = limit.acquire(payload.len()).await else { return heard };
        drop(payload);
        if messages.send((message, share)).await.is_err() {
            return heard;
        }
    }
}

async fn read_frame(socket: &mut OwnedReadHalf) -> Result<Vec<u8>, FrameError> {
    let mut prefix = [0; 4];
    socket.read_exact(&mut prefix).await.map_err(FrameError::Io)?;
    let length = frame::payload_length(prefix)?;
    // Grows with what arrives: a length alone must not allocate.
    let mut payload = Vec::new();
    let mut rest = socket.take(length as u64);
    rest.read_to_end(&mut payload).await.map_err(FrameError::Io)?;
    if payload.len() < length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(payload)
}

fn check_hello(message: &FromHost) -> Result<(), KillReason> {
    let Some(from_host::Message::Hello(hello)) = &message.message else {
        return Err(KillReason::Malformed("its first message is not a hello".to_owned()));
    };
    let Hello { major, minor, engine_version, .. } = hello;
    if *major == HOST_PROTOCOL.major {
        return Ok(());
    }
    let theirs = Version { major: *major, minor: *minor };
    let engine: String = engine_version.chars().take(40).collect();
    let ours = env!("CARGO_PKG_VERSION");
    Err(KillReason::Mismatch(format!(
        "the artifact speaks version {theirs} of the host protocol (millstream {engine}), the \
         cluster speaks {HOST_PROTOCOL}: rebuild the artifact with millstream {ours}"
    )))
}

/// Encodes a message for [`write`].
pub(crate) fn encode(message: &ToHost) -> Result<Vec<u8>, FrameError> {
    frame::encode(message)
}

/// Writes queued frames once the host has said hello. Returns when the host is stuck or gone, or
/// all senders are gone.
pub(crate) async fn write(
    mut socket: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Queued<Vec<u8>>>,
    mut greeted: watch::Receiver<bool>,
    timeout: Duration,
) -> Option<KillReason> {
    greeted.wait_for(|greeted| *greeted).await.ok()?;
    while let Some((frame, _share)) = frames.recv().await {
        match tokio::time::timeout(timeout, socket.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(KillReason::NotReading(timeout)),
        }
    }
    None
}
