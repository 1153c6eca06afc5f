//! The frames of a connection on their way to its socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millstream_types::HostId;
use tokio::sync::Notify;

use crate::channel_id::ChannelId;
use crate::socket::Socket;
use crate::wire::{self, Credits};

/// Frames for one peer. A sender writes (and before that encrypts) by itself if no other does and
/// the socket takes it: that spares a change of threads per batch. The rest waits for the
/// connection's own task: frames for which their channels have credits, and one grant of each
/// channel.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionHandle(Arc<Outgoing>);

#[derive(Debug)]
struct Outgoing {
    peer: HostId,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// There while there is a connection.
    socket: Option<Arc<Socket>>,
    /// Whether a sender or the task writes: it alone may, and the others queue their frames.
    writing: bool,
    /// Whether encrypted bytes from before the frames still wait for the socket.
    encrypted: bool,
    frames: VecDeque<Bytes>,
    /// The credits of each channel that are not in a frame yet.
    grants: BTreeMap<ChannelId, u32>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.grants.is_empty() && !self.encrypted
    }

    /// The socket, for a sender that may write by itself; [`ConnectionHandle::write`] must follow.
    fn begin(&mut self) -> Option<Arc<Socket>> {
        let socket = self.socket.clone().filter(|_| !self.writing && self.is_empty())?;
        self.writing = true;
        Some(socket)
    }
}

impl ConnectionHandle {
    pub(crate) fn new(peer: HostId) -> Self {
        let outgoing = Outgoing { peer, state: Mutex::default(), arrived: Notify::new() };
        Self(Arc::new(outgoing))
    }

    /// Has frames go to this socket until the answer is dropped, whose connection it is.
    pub(crate) fn open(&self, socket: &Arc<Socket>) -> Detach<'_> {
        self.lock().socket = Some(Arc::clone(socket));
        Detach(self)
    }

    pub(crate) fn peer(&self) -> HostId {
        self.0.peer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame: data or an event, for which a credit was taken, or first credits.
    pub(crate) fn send(&self, frame: &[u8]) {
        let mut state = self.lock();
        match state.begin() {
            Some(socket) => {
                drop(state);
                self.write(&socket, frame);
            }
            None => self.wait(state, |state| state.frames.push_back(Bytes::copy_from_slice(frame))),
        }
    }

    /// Grants channels their first credits, the same to each of so many producers from this one on.
    pub(crate) fn grant_first(&self, channel: ChannelId, credits: Credits) {
        self.send(&wire::credit_frame(channel, credits));
    }

    /// Grants a channel credits. Those that wait become one frame, so that a peer that sends and
    /// does not read makes no queue.
    pub(crate) fn grant(&self, channel: ChannelId, credits: u32) {
        let mut state = self.lock();
        match state.begin() {
            Some(socket) => {
                drop(state);
                self.write(&socket, &credit_frame(channel, credits));
            }
            None => self.wait(state, |state| {
                let waiting = state.grants.entry(channel).or_default();
                *waiting = waiting.saturating_add(credits);
            }),
        }
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, add: impl FnOnce(&mut State)) {
        let first = state.is_empty() && !state.writing;
        add(&mut state);
        drop(state);
        if first {
            self.0.arrived.notify_one();
        }
    }

    fn write(&self, socket: &Socket, frame: &[u8]) {
        // An error shows again to the connection's task, which tells it to all channels.
        let written = socket.try_write(frame).unwrap_or_default();
        let mut state = self.lock();
        state.writing = false;
        state.encrypted |= written.waiting;
        match frame.get(written.taken..) {
            None | Some([]) => {}
            Some(left) => state.frames.push_front(Bytes::copy_from_slice(left)),
        }
        let more = !state.is_empty();
        drop(state);
        if more {
            self.0.arrived.notify_one();
        }
    }

    /// Has the connection's task write what TLS says by itself.
    pub(crate) fn send_encrypted(&self) {
        self.lock().encrypted = true;
        self.0.arrived.notify_one();
    }

    /// The waiting frames, once there are some and no sender writes; [`Self::finish`] must follow.
    pub(crate) async fn take(&self) -> VecDeque<Bytes> {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(frames) = self.try_take() {
                return frames;
            }
            arrived.await;
        }
    }

    /// As [`Self::take`], if there is something now.
    pub(crate) fn try_take(&self) -> Option<VecDeque<Bytes>> {
        let mut state = self.lock();
        if state.is_empty() || state.writing {
            return None;
        }
        state.writing = true;
        state.encrypted = false;
        let grants = std::mem::take(&mut state.grants);
        let grants = grants.into_iter().map(|(at, credits)| credit_frame(at, credits));
        state.frames.extend(grants);
        Some(std::mem::take(&mut state.frames))
    }

    pub(crate) fn finish(&self) {
        self.lock().writing = false;
    }
}

fn credit_frame(channel: ChannelId, credits: u32) -> Bytes {
    wire::credit_frame(channel, Credits { credits, channels: 1 })
}

/// Closes the connection although handles live on, however its task ends.
pub(crate) struct Detach<'a>(&'a ConnectionHandle);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        self.0.lock().socket = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel_id::Generation;

    #[tokio::test]
    async fn grants_that_wait_for_the_socket_become_one_frame_of_each_channel() {
        let handle = ConnectionHandle::new(HostId::from_u128(2));
        let [seven, eight] = [7, 8].map(|number| ChannelId::of_wire(number, Generation::FIRST));
        handle.send(b"a frame");
        for _ in 0..1_000 {
            handle.grant(seven, 4);
            handle.grant(eight, 1);
        }
        let expected = [credit_frame(seven, 4_000), credit_frame(eight, 1_000)];
        let waiting = handle.take().await;
        assert_eq!(waiting, [&[Bytes::from_static(b"a frame")][..], &expected].concat());
        assert!(handle.lock().is_empty());
    }
}
