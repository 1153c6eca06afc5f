//! Frames of a peer without the peer: for tests that send what no honest peer would.

use bytes::{Bytes, BytesMut};
use millstream_security::Secret;
use millstream_types::HostId;

use crate::batch::Batch;
use crate::channel_id::{ChannelId, Generation};
use crate::connection::{ConnectionError, Party, take_frames};
use crate::exchange::Exchange;
use crate::wire::{self, Credits, Data, EncodeError, Event, FrameBuffer, WireError};

fn party(token: &[u8; 32], host: HostId, generation: Generation) -> Party {
    Party { host, generation, token: Secret::new(*token), security: std::sync::Mutex::default() }
}

/// A host's hello to another one.
#[must_use]
pub fn hello_frame(
    token: &[u8; 32],
    (from, to): (HostId, HostId),
    generation: Generation,
) -> Vec<u8> {
    party(token, from, generation).hello(to).to_vec()
}

/// The frame of a short batch.
///
/// # Errors
/// Its records cannot be encoded.
pub fn data_frame<T: Data>(channel: ChannelId, batch: &Batch<T>) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = FrameBuffer::default();
    Ok(buffer.data_frame(channel, batch)?.0.to_vec())
}

/// The frame of an event.
#[must_use]
pub fn event_frame(channel: ChannelId, event: Event) -> Vec<u8> {
    wire::event_frame(channel, event).to_vec()
}

/// The frame that grants batches.
#[must_use]
pub fn credit_frame(channel: ChannelId, batches: u32) -> Vec<u8> {
    wire::credit_frame(channel, Credits { credits: batches, channels: 1 }).to_vec()
}

/// Has an exchange hear bytes that stand for what came from a host after its hello.
///
/// # Errors
/// The bytes would have ended the connection.
pub fn hear(exchange: &Exchange, from: HostId, bytes: &[u8]) -> Result<(), WireError> {
    let registry = exchange.registry();
    take_frames(&mut BytesMut::from(bytes), &registry.handle(from), registry).map(drop)
}

/// The host whose hello these bytes are, for a host that has this token.
///
/// # Errors
/// They are no hello to this host, or one of another attempt.
pub fn hear_hello(
    bytes: &[u8],
    token: &[u8; 32],
    host: HostId,
    generation: Generation,
) -> Result<HostId, String> {
    let heard = party(token, host, generation).check_hello(bytes);
    heard.map_err(|error: ConnectionError| error.to_string())
}

/// One direction of a connection between two exchanges of this process, without a socket: a test
/// decides when how many of the bytes arrive.
#[derive(Debug, Default)]
pub struct Wire {
    /// Written and not arrived yet.
    written: BytesMut,
    /// Arrived, but not as a whole frame.
    arrived: BytesMut,
}

impl Wire {
    /// Writes the frames that wait in `from`, but for those that are `lost`, and lets at most so
    /// many bytes arrive in `to`; whether any did.
    ///
    /// # Errors
    /// The bytes would have ended the connection.
    pub fn carry(
        &mut self,
        from: &Exchange,
        to: &Exchange,
        bytes: usize,
        mut lost: impl FnMut(&Bytes) -> bool,
    ) -> Result<bool, WireError> {
        let outgoing = from.registry().handle(to.host());
        if let Some(frames) = outgoing.try_take() {
            let kept = frames.iter().filter(|frame| !lost(frame));
            kept.for_each(|frame| self.written.extend_from_slice(frame));
            outgoing.finish();
        }
        let count = bytes.min(self.written.len());
        self.arrived.extend_from_slice(&self.written.split_to(count));
        let registry = to.registry();
        take_frames(&mut self.arrived, &registry.handle(from.host()), registry)?;
        Ok(count > 0)
    }
}

/// Has an exchange lose its connection to a host, for this reason.
pub fn lose(exchange: &Exchange, peer: HostId, why: &str) {
    exchange.registry().lose(peer, why);
}
