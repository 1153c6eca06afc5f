//! One TCP connection to another host of the same job, with TLS if the cluster has it: a queue out,
//! frames in.

use std::io::ErrorKind::WouldBlock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac};
use millstream_security::{Credentials, Role, Secret, SecurityError, Stream, rustls};
use millstream_types::HostId;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::channel_id::{ChannelId, Generation};
use crate::outgoing::ConnectionHandle;
use crate::registry::Registry;
use crate::socket::{Reader, Socket, Written};
use crate::wire::{self, HEAD_BYTES, Head, Kind, WireError};

const MAGIC: u64 = u64::from_le_bytes(*b"MILLDATA");
const VERSION: u32 = 4;
const HELLO_BYTES: usize = 8 + 4 + 16 + 32;
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 256 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the other side said nothing for 10 s")]
    Silent,
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("the certificate of {0} is not that of the host that it says it is")]
    Impostor(String),
    #[error("the other side is not a host of {own}, but of {theirs}")]
    OtherAttempt { own: Generation, theirs: Generation },
}

/// The identity of this host to its peers.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) host: HostId,
    pub(crate) generation: Generation,
    pub(crate) token: Secret<[u8; 32]>,
    /// None without TLS; replaced before its certificate runs out.
    pub(crate) security: Mutex<Option<Arc<Security>>>,
}

/// The proof of this host's identity, if the cluster has TLS.
#[derive(Debug)]
pub(crate) struct Security {
    credentials: Credentials,
    server: Arc<rustls::ServerConfig>,
    job: String,
}

impl Security {
    pub(crate) fn new(credentials: Credentials) -> Result<Self, SecurityError> {
        let server = credentials.server_config(&[Role::Host])?;
        let name = &credentials.identity().name;
        let job = name.split_once('/').map_or_else(String::new, |(job, _)| job.to_owned());
        Ok(Self { credentials, server, job })
    }

    /// The name in the certificate of a host of the same job.
    fn name_of(&self, host: HostId) -> String {
        format!("{}/{host}", self.job)
    }
}

/// The proof of a hello: of what it says, and of the host that it is for.
fn proof(token: &[u8; 32], generation: Generation, from: &[u8], to: HostId) -> Hmac<Sha256> {
    let mut proof = Hmac::<Sha256>::new_from_slice(token).expect("HMAC takes a key of any length");
    proof.update(&MAGIC.to_le_bytes());
    proof.update(&VERSION.to_le_bytes());
    proof.update(&generation.epoch.get().to_le_bytes());
    proof.update(&generation.attempt.to_le_bytes());
    proof.update(from);
    proof.update(to.as_bytes());
    proof
}

impl Party {
    fn security(&self) -> Option<Arc<Security>> {
        self.security.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows another certificate from the next connection on.
    pub(crate) fn renew(&self, security: Security) {
        let security = Some(Arc::new(security));
        *self.security.lock().unwrap_or_else(PoisonError::into_inner) = security;
    }

    /// This host's hello to another one.
    pub(crate) fn hello(&self, to: HostId) -> Bytes {
        let from = self.host.as_bytes();
        let proof = proof(self.token.expose(), self.generation, from, to).finalize();
        let channel = ChannelId::of_wire(0, self.generation);
        wire::frame(Kind::Hello, channel, |bytes| {
            bytes.put_u64_le(MAGIC);
            bytes.put_u32_le(VERSION);
            bytes.put_slice(from);
            bytes.put_slice(&proof.into_bytes());
        })
    }

    /// The host that has said this hello to this one.
    pub(crate) fn check_hello(&self, bytes: &[u8]) -> Result<HostId, ConnectionError> {
        let cut_off = || WireError("a hello is cut off");
        let (head, payload) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(cut_off)?;
        let head = Head::decode(head)?;
        let fields = payload.split_at_checked(8).and_then(|(magic, rest)| {
            let (version, rest) = rest.split_at_checked(4)?;
            let (host, shown) = rest.split_at_checked(16)?;
            Some((magic, version, host, shown))
        });
        let (magic, version, host, shown) = fields.ok_or_else(cut_off)?;
        let is_hello = head.kind == Kind::Hello && head.length == HELLO_BYTES;
        if !is_hello || magic != MAGIC.to_le_bytes() {
            return Err(WireError("the first frame is not a hello").into());
        }
        if version != VERSION.to_le_bytes() {
            return Err(WireError("the other host speaks another version of the exchange").into());
        }
        let (own, theirs) = (self.generation, head.channel.generation);
        if theirs != own {
            return Err(ConnectionError::OtherAttempt { own, theirs });
        }
        if proof(self.token.expose(), own, host, self.host).verify_slice(shown).is_err() {
            return Err(WireError("the other side is not a host of this job attempt").into());
        }
        Ok(HostId::try_from(host).map_err(|_| WireError("a hello's host id is malformed"))?)
    }

    /// Makes a connection of a socket that was accepted; the other side speaks first, so that a
    /// stranger learns nothing.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(HostId, Socket), ConnectionError> {
        let greet = async {
            let security = self.security();
            let server = security.as_ref().map(|security| Arc::clone(&security.server));
            let mut stream = Stream::accept(stream, server).await?;
            let peer = self.hear(&mut stream).await?;
            check_name(security.as_deref(), &stream, peer)?;
            stream.write_all(&self.hello(peer)).await?;
            stream.flush().await?;
            Ok((peer, Socket::new(stream)))
        };
        tokio::time::timeout(HELLO_DEADLINE, greet).await.unwrap_or(Err(ConnectionError::Silent))
    }

    /// Makes a connection of a socket that was connected to this host.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        expected: HostId,
    ) -> Result<Socket, ConnectionError> {
        let greet = async {
            let client = self.security().map(|security| {
                let name = security.name_of(expected);
                security.credentials.client_config(Role::Host, Some(&name))
            });
            let mut stream = Stream::connect(stream, client.transpose()?).await?;
            stream.write_all(&self.hello(expected)).await?;
            stream.flush().await?;
            if self.hear(&mut stream).await? == expected {
                Ok(Socket::new(stream))
            } else {
                Err(ConnectionError::Wire(WireError("another host answered")))
            }
        };
        tokio::time::timeout(HELLO_DEADLINE, greet).await.unwrap_or(Err(ConnectionError::Silent))
    }

    async fn hear(&self, stream: &mut Stream) -> Result<HostId, ConnectionError> {
        let mut bytes = [0; HEAD_BYTES + HELLO_BYTES];
        stream.read_exact(&mut bytes).await?;
        self.check_hello(&bytes)
    }
}

/// With TLS a host's certificate must be of this job and of the host that its hello says.
fn check_name(
    security: Option<&Security>,
    stream: &Stream,
    peer: HostId,
) -> Result<(), ConnectionError> {
    let Some(security) = security else { return Ok(()) };
    match stream.peer() {
        Some(identity) if identity.name == security.name_of(peer) => Ok(()),
        Some(other) => Err(ConnectionError::Impostor(other.to_string())),
        None => Err(ConnectionError::Impostor("nobody".to_owned())),
    }
}

/// Moves frames both ways until the connection breaks.
pub(crate) async fn run(
    socket: Socket,
    handle: ConnectionHandle,
    registry: &Registry,
) -> ConnectionError {
    let socket = Arc::new(socket);
    let _open = handle.open(&socket);
    let result = tokio::select! {
        result = write_frames(&socket, &handle) => result,
        result = read_frames(&socket, &handle, registry) => result,
    };
    result.err().unwrap_or_else(closed)
}

fn closed() -> ConnectionError {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}

/// Writes what senders could not write by themselves.
async fn write_frames(socket: &Socket, handle: &ConnectionHandle) -> Result<(), ConnectionError> {
    let mut small = BytesMut::new();
    loop {
        for frame in handle.take().await {
            if small.len() + frame.len() > WRITE_BYTES && !small.is_empty() {
                write_all(socket, &small).await?;
                small.clear();
            }
            if frame.len() >= WRITE_BYTES / 8 {
                write_all(socket, &small).await?;
                small.clear();
                write_all(socket, &frame).await?;
            } else {
                small.extend_from_slice(&frame);
            }
        }
        write_all(socket, &small).await?;
        small.clear();
        handle.finish();
    }
}

/// Not cancel-safe: a part may have been written.
async fn write_all(socket: &Socket, mut bytes: &[u8]) -> Result<(), ConnectionError> {
    loop {
        while socket.try_flush()? {
            socket.writable().await?;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        socket.writable().await?;
        // TLS takes all that it is given: not too much at once.
        match socket.try_write(bytes.get(..WRITE_BYTES).unwrap_or(bytes)) {
            Ok(Written { taken: 0, .. }) => return Err(closed()),
            Ok(written) => bytes.advance(written.taken),
            Err(error) if error.kind() == WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn read_frames(
    socket: &Socket,
    handle: &ConnectionHandle,
    registry: &Registry,
) -> Result<(), ConnectionError> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut reader = Reader::new();
    socket.begin(&mut buffer)?;
    loop {
        let begun = take_frames(&mut buffer, handle, registry)?;
        make_room(&mut buffer, begun);
        // Tasks that want this core go first, and what arrives meanwhile is read at once. Woken for
        // every packet, this thread took a quarter of their time.
        std::thread::yield_now();
        socket.readable(&mut reader, begun.saturating_sub(buffer.len())).await?;
        match socket.try_read(&mut reader, &mut buffer) {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(error) if error.kind() == WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        if socket.wants_write() {
            handle.send_encrypted();
        }
    }
}

/// Makes room for the next read, where `begun` is the length of the frame that has come in part.
/// There is room for the rest of a long frame at once, so that its bytes move once: grown read by
/// read, the buffer was copied 1.7 times for a frame of 1 MiB.
fn make_room(buffer: &mut BytesMut, begun: usize) {
    let missing = begun.saturating_sub(buffer.len());
    if begun <= READ_BYTES {
        buffer.reserve(READ_BYTES);
    } else if buffer.capacity() - buffer.len() < missing.min(READ_BYTES / 4) {
        // The peer alone says how long the frame is; what has come of it says how much to believe.
        buffer.reserve(missing.min(4 * buffer.len()).max(READ_BYTES));
    }
}

/// Hands over the frames that have come whole. Returns the length of the one that has come in part,
/// 0 if its head has not.
pub(crate) fn take_frames(
    buffer: &mut BytesMut,
    handle: &ConnectionHandle,
    registry: &Registry,
) -> Result<usize, WireError> {
    while buffer.len() >= HEAD_BYTES {
        let head = Head::decode(buffer)?;
        if buffer.len() < HEAD_BYTES + head.length {
            return Ok(HEAD_BYTES + head.length);
        }
        let mut frame = buffer.split_to(HEAD_BYTES + head.length);
        let payload = frame.split_off(HEAD_BYTES).freeze();
        registry.on_frame(handle, head, payload)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::task::Waker;

    use millstream_types::LeaderEpoch;

    use super::*;
    use crate::batch::Batch;
    use crate::channel_id::InputChannels;
    use crate::exchange::Exchange;
    use crate::inbox::{Inbox, Received};
    use crate::wire::FrameBuffer;

    fn party(host: u128, token: u8, epoch: u64, attempt: u32) -> Party {
        let (host, token) = (HostId::from_u128(host), Secret::new([token; 32]));
        let generation = Generation { epoch: LeaderEpoch::new(epoch), attempt };
        Party { host, generation, token, security: Mutex::default() }
    }

    #[test]
    fn a_hello_that_is_changed_or_cut_off_is_refused() {
        let (from, to) = (party(9, 7, 3, 2), party(1, 7, 3, 2));
        let good = from.hello(to.host);
        assert_eq!(to.check_hello(&good).unwrap(), from.host);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x55;
            // A hello has no channel, and the bytes behind the kind mean nothing.
            let unused = (5..8).contains(&at) || (20..HEAD_BYTES).contains(&at);
            assert_eq!(to.check_hello(&bad).is_ok(), unused, "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(to.check_hello(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_bytes_of_a_long_frame_move_once_and_its_length_alone_makes_no_room() {
        let (begun, mut moves) = (1 << 20, 0);
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        while buffer.len() < begun {
            let before = buffer.as_ptr();
            make_room(&mut buffer, begun);
            moves += usize::from(buffer.as_ptr() != before && !buffer.is_empty());
            let room = buffer.capacity() - buffer.len();
            buffer.put_bytes(7, room.min(READ_BYTES / 4));
        }
        assert!(moves <= 1, "{moves} moves");
        let mut buffer = BytesMut::from(&[0; HEAD_BYTES][..]);
        make_room(&mut buffer, wire::PAYLOAD_BYTES_MAX);
        assert!(buffer.capacity() <= 2 * READ_BYTES, "{}", buffer.capacity());
    }

    #[test]
    fn a_long_frame_arrives_wherever_its_sender_pauses() {
        let (peer, own) = (party(1, 9, 3, 2), party(2, 9, 3, 2));
        let exchange = Exchange::listening(&own);
        let channel = ChannelId { edge: 0, from: 0, to: 0, generation: own.generation };
        let input = vec![InputChannels::one(channel, peer.host)];
        let inbox = Inbox::<Vec<u8>>::new(input, 4, Waker::noop().clone(), Arc::default());
        exchange.attach(&inbox);
        let mut stream = std::net::TcpStream::connect(exchange.address().unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&peer.hello(own.host)).unwrap();

        let record = vec![7; 300 << 10];
        let mut buffer = FrameBuffer::default();
        let frame =
            buffer.data_frame(channel, &Batch::of(vec![record.clone()])).unwrap().0.to_vec();
        let length = frame.len();
        let near = |at: usize| at - 1..=at + 1;
        let at_the_marks = [HEAD_BYTES, length - (64 << 10), length - (128 << 10), length / 2];
        let cuts = at_the_marks.into_iter().flat_map(near).chain((1..length).step_by(17_389));
        for cut in cuts.chain([length - 1]) {
            stream.write_all(&frame[..cut]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            stream.write_all(&frame[cut..]).unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            let batch = loop {
                match inbox.receive().unwrap() {
                    Received::Batch(0, batch) => break batch,
                    received => assert!(matches!(received, Received::Nothing), "{received:?}"),
                }
                assert!(
                    std::time::Instant::now() < deadline,
                    "cut at {cut}: nothing came for 10 s"
                );
                std::thread::sleep(Duration::from_micros(100));
            };
            assert!(batch.records() == [&record[..]], "cut at {cut}");
        }
    }

    #[test]
    fn a_hello_is_good_for_one_pair_of_hosts_and_one_attempt() {
        let (from, to) = (party(9, 7, 3, 2), party(1, 7, 3, 2));
        let good = from.hello(to.host);
        let why = |to: Party| to.check_hello(&good).unwrap_err().to_string();
        let stranger = "malformed data from another host: the other side is not a host of this job \
                        attempt";
        assert_eq!(why(party(2, 7, 3, 2)), stranger, "it was said to another host");
        assert_eq!(why(party(1, 8, 3, 2)), stranger, "the token is another one");
        let other =
            |own| format!("the other side is not a host of {own}, but of attempt 2 of epoch-3");
        assert_eq!(why(party(1, 7, 4, 2)), other("attempt 2 of epoch-4"));
        assert_eq!(why(party(1, 7, 3, 1)), other("attempt 1 of epoch-3"));
        assert!(from.check_hello(&good).is_err(), "it is not sent back");
    }
}
