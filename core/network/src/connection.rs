//! One TCP connection to another host of the same job: a queue out, frames in.

use std::collections::VecDeque;
use std::io::ErrorKind::WouldBlock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_types::HostId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::exchange::Registry;
use crate::wire::{self, HEAD_BYTES, Head, Kind, WireError};

const MAGIC: u64 = u64::from_le_bytes(*b"MILLDATA");
const VERSION: u32 = 1;
const HELLO_BYTES: usize = 8 + 4 + 32 + 16;
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_BYTES: usize = 256 << 10;

/// What is to be written to one peer. A sender writes by itself as long as nobody else does and the
/// socket takes it: that spares a change of threads per batch. What is left waits for the
/// connection's own task; how much that can be is bounded by the credits of its channels.
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
    stream: Option<Arc<TcpStream>>,
    /// Whether somebody writes: only they may, and whoever else has a frame queues it.
    writing: bool,
    frames: VecDeque<Bytes>,
}

impl ConnectionHandle {
    pub(crate) fn new(peer: HostId) -> Self {
        let outgoing = Outgoing { peer, state: Mutex::default(), arrived: Notify::new() };
        Self(Arc::new(outgoing))
    }

    pub(crate) fn peer(&self) -> HostId {
        self.0.peer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let mut state = self.lock();
        let stream = state.stream.clone().filter(|_| !state.writing && state.frames.is_empty());
        let Some(stream) = stream else {
            state.frames.push_back(Bytes::copy_from_slice(frame));
            let first = state.frames.len() == 1 && !state.writing;
            drop(state);
            if first {
                self.0.arrived.notify_one();
            }
            return;
        };
        state.writing = true;
        drop(state);

        // An error shows again to the connection's task, which tells it to all channels.
        let written = stream.try_write(frame).unwrap_or(0);
        let mut state = self.lock();
        state.writing = false;
        match frame.get(written..) {
            None | Some([]) => {}
            Some(left) => state.frames.push_front(Bytes::copy_from_slice(left)),
        }
        let more = !state.frames.is_empty();
        drop(state);
        if more {
            self.0.arrived.notify_one();
        }
    }

    /// What waits, once there is something and nobody else writes; [`Self::finish`] must follow.
    async fn take(&self) -> VecDeque<Bytes> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut state = self.lock();
                if !state.frames.is_empty() && !state.writing {
                    state.writing = true;
                    return std::mem::take(&mut state.frames);
                }
            }
            arrived.await;
        }
    }

    fn finish(&self) {
        self.lock().writing = false;
    }
}

/// Closes the connection although handles live on, however its task ends.
struct Detach<'a>(&'a ConnectionHandle);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        self.0.lock().stream = None;
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the other side said nothing for 10 s")]
    Silent,
}

fn hello(token: &[u8; 32], host: HostId) -> Bytes {
    wire::frame(Kind::Hello, 0, |bytes| {
        bytes.put_u64_le(MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_slice(token);
        bytes.put_slice(host.as_bytes());
    })
}

/// Compares without telling by its duration how much was right.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn check_hello(bytes: &[u8], token: &[u8; 32]) -> Result<HostId, WireError> {
    let (head, payload) =
        bytes.split_at_checked(HEAD_BYTES).ok_or(WireError("a hello is cut off"))?;
    let head = Head::decode(head)?;
    let expected = (MAGIC.to_le_bytes(), VERSION.to_le_bytes());
    let fields = payload.split_at_checked(8).and_then(|(magic, rest)| {
        let (version, rest) = rest.split_at_checked(4)?;
        let (sent, host) = rest.split_at_checked(32)?;
        Some((magic, version, sent, host))
    });
    let Some((magic, version, sent, host)) = fields else {
        return Err(WireError("a hello is cut off"));
    };
    if head.kind != Kind::Hello || head.length != HELLO_BYTES || magic != expected.0 {
        return Err(WireError("the first frame is not a hello"));
    }
    if version != expected.1 {
        return Err(WireError("the other host speaks another version of the exchange"));
    }
    if !same(sent, token) {
        return Err(WireError("the other side is not a host of this job attempt"));
    }
    HostId::try_from(host).map_err(|_| WireError("a hello's host id is malformed"))
}

/// Exchanges hellos; the accepting side reads first, so that a stranger learns nothing.
pub(crate) async fn shake_hands(
    stream: &mut TcpStream,
    token: &[u8; 32],
    own: HostId,
    accepting: bool,
) -> Result<HostId, ConnectionError> {
    let exchange = async {
        if !accepting {
            stream.write_all(&hello(token, own)).await?;
        }
        let mut bytes = [0; HEAD_BYTES + HELLO_BYTES];
        stream.read_exact(&mut bytes).await?;
        let peer = check_hello(&bytes, token)?;
        if accepting {
            stream.write_all(&hello(token, own)).await?;
        }
        Ok(peer)
    };
    tokio::time::timeout(HELLO_DEADLINE, exchange).await.unwrap_or(Err(ConnectionError::Silent))
}

/// Moves frames both ways until the connection breaks.
pub(crate) async fn run(
    stream: TcpStream,
    handle: ConnectionHandle,
    registry: &Registry,
) -> ConnectionError {
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    handle.lock().stream = Some(Arc::clone(&stream));
    let _detach = Detach(&handle);
    let result = tokio::select! {
        result = write_frames(&stream, &handle) => result,
        result = read_frames(&stream, &handle, registry) => result,
    };
    result.err().unwrap_or_else(closed)
}

fn closed() -> ConnectionError {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}

/// Writes what senders could not write by themselves.
async fn write_frames(
    stream: &TcpStream,
    handle: &ConnectionHandle,
) -> Result<(), ConnectionError> {
    let mut small = BytesMut::new();
    loop {
        for frame in handle.take().await {
            if small.len() + frame.len() > WRITE_BYTES && !small.is_empty() {
                write_all(stream, &small).await?;
                small.clear();
            }
            if frame.len() >= WRITE_BYTES / 8 {
                write_all(stream, &small).await?;
                small.clear();
                write_all(stream, &frame).await?;
            } else {
                small.extend_from_slice(&frame);
            }
        }
        write_all(stream, &small).await?;
        small.clear();
        handle.finish();
    }
}

/// Not cancel-safe: a part may have been written.
async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), ConnectionError> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(closed()),
            Ok(written) => bytes.advance(written),
            Err(error) if error.kind() == WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn read_frames(
    stream: &TcpStream,
    handle: &ConnectionHandle,
    registry: &Registry,
) -> Result<(), ConnectionError> {
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(error) if error.kind() == WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        while buffer.len() >= HEAD_BYTES {
            let head = Head::decode(&buffer)?;
            if buffer.len() < HEAD_BYTES + head.length {
                break;
            }
            let mut frame = buffer.split_to(HEAD_BYTES + head.length);
            let payload = frame.split_off(HEAD_BYTES).freeze();
            registry.on_frame(handle, head, payload)?;
        }
        buffer.reserve(WRITE_BYTES);
        // Tasks that want this core go first, and what arrives meanwhile is read at once. Woken for
        // every packet, this thread took a quarter of their time.
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_with_another_token_magic_or_length_is_refused() {
        let token = [7; 32];
        let good = hello(&token, HostId::from_u128(9));
        assert_eq!(check_hello(&good, &token), Ok(HostId::from_u128(9)));
        assert!(check_hello(&good, &[8; 32]).is_err());
        for at in 0..HEAD_BYTES + 12 {
            let mut bad = good.to_vec();
            bad[at] ^= 0x55;
            // Bytes 5 to 15 of a head say nothing in a hello.
            assert_eq!(check_hello(&bad, &token).is_ok(), (5..16).contains(&at), "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(check_hello(&good[..cut], &token).is_err(), "cut at {cut}");
        }
    }
}
