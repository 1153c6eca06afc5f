//! A connection: opened once, then many calls at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Protocol;
use super::digest_md5::{DigestError, Layer, Protection};
use super::error::{IpcError, RemoteError};
use super::frames::{
    CONTEXT, Delimited, preamble, put_frame, request_header, take_frame, take_message,
};
use super::sasl::{Handshake, Refusal, Step, Unwrapper, wrapped};
use crate::credentials::Token;
use crate::proto::common::{
    IpcConnectionContextProto, RequestHeaderProto, RpcResponseHeaderProto, RpcSaslProto,
    RpcStatusProto, UserInformationProto,
};

/// Limit on calls that wait to be written.
const CALLS_MAX: usize = 64;
const READ_BYTES: usize = 16 << 10;
/// A host that is gone is noticed after a minute of silence.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
const PROTOCOL_VERSION: u64 = 1;

/// The identity of the client of a connection.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A name that the server believes: clients of a cluster without security.
    User(String),
    /// The identity in a token: used by containers, on every cluster.
    Token(Token),
}

/// Time limits and protection of a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// For connecting, and again for identification.
    pub connect_timeout: Duration,
    /// For the answer to a call.
    pub call_timeout: Duration,
    /// The most protection to agree to (`hadoop.rpc.protection`).
    pub protection: Protection,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(120),
            protection: Protection::Privacy,
        }
    }
}

/// A connection to one protocol of one server as one identity; closed when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    address: Arc<str>,
    protocol: Protocol,
    call_timeout: Duration,
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    header: RequestHeaderProto,
    /// Its length first.
    request: BytesMut,
    answer: oneshot::Sender<Result<Bytes, Fate>>,
}

/// Why calls got no answer; every one that waits is told.
#[derive(Debug, Clone)]
enum Fate {
    Remote(RemoteError),
    Broken(String),
    Foreign(String),
}

impl Fate {
    fn into_error(self, address: &str) -> IpcError {
        let address = address.to_owned();
        match self {
            Self::Remote(error) => IpcError::Remote(error),
            Self::Broken(why) => IpcError::Broken { address, why },
            Self::Foreign(why) => IpcError::Foreign { address, why },
        }
    }
}

impl Connection {
    /// Connects to `host:port` and identifies. A user name is sent only with the first call, whose
    /// answer tells whether the server accepts it.
    ///
    /// # Errors
    /// The server does not answer in time or as expected, or refuses the identity.
    pub async fn open(
        address: &str,
        protocol: Protocol,
        identity: Identity,
        options: &Options,
    ) -> Result<Self, IpcError> {
        let limit = options.connect_timeout;
        let stream = timeout(limit, TcpStream::connect(address))
            .await
            .map_err(|_| IpcError::Timeout {
                address: address.to_owned(),
                what: "the connection request".to_owned(),
                after: limit,
            })?
            .map_err(|why| IpcError::Connect { address: address.to_owned(), why })?;
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        Self::over(stream, address, protocol, identity, options).await
    }

    /// Identifies over a stream that is connected to `address` already.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: &str,
        protocol: Protocol,
        identity: Identity,
        options: &Options,
    ) -> Result<Self, IpcError> {
        let mut client_id = [0; 16];
        getrandom::fill(&mut client_id).map_err(|_| {
            let (address, why) = (address.to_owned(), DigestError::NoRandomness);
            IpcError::Identify { address, why }
        })?;
        let mut wire = Wire::new(address, stream);
        let mut context =
            IpcConnectionContextProto { user_info: None, protocol: Some(protocol.0.to_owned()) };
        match identity {
            Identity::User(user) => {
                wire.out.extend_from_slice(&preamble(false));
                context.user_info =
                    Some(UserInformationProto { effective_user: Some(user), real_user: None });
            }
            Identity::Token(token) => {
                let after = options.connect_timeout;
                let handshake = wire.identify(&token, options.protection);
                timeout(after, handshake).await.map_err(|_| {
                    let (address, what) = (address.to_owned(), "the identification".to_owned());
                    IpcError::Timeout { address, what, after }
                })??;
            }
        }
        let header = request_header(CONTEXT, &client_id, -1);
        wire.put(|out| put_frame(out, &header, &[&context]));

        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        let task = Task { wire, client_id, next: 0, pending: HashMap::new() };
        tokio::spawn(task.run(waiting));
        let address = address.into();
        Ok(Self { address, protocol, call_timeout: options.call_timeout, calls })
    }

    /// Calls a method. Dropping the future forgets the answer, not the call.
    ///
    /// # Errors
    /// The server's exception; or no answer, in which case the call may have been carried out or
    /// not.
    pub async fn call<Q, A>(&self, method: &str, request: &Q) -> Result<A, IpcError>
    where
        Q: Message,
        A: Message + Default,
    {
        let header = RequestHeaderProto {
            method_name: method.to_owned(),
            declaring_class_protocol_name: self.protocol.0.to_owned(),
            client_protocol_version: PROTOCOL_VERSION,
        };
        let mut bytes = BytesMut::new();
        request.put_delimited(&mut bytes);
        let (answer, answered) = oneshot::channel();
        let call = Call { header, request: bytes, answer };
        let exchange = async {
            let closed = || Fate::Broken("it was closed before".to_owned());
            self.calls.send(call).await.map_err(|_| closed())?;
            answered.await.unwrap_or_else(|_| Err(closed()))
        };
        let mut answer = timeout(self.call_timeout, exchange)
            .await
            .map_err(|_| IpcError::Timeout {
                address: self.address.to_string(),
                what: method.to_owned(),
                after: self.call_timeout,
            })?
            .map_err(|fate| fate.into_error(&self.address))?;
        take_message(&mut answer)
            .map_err(|why| IpcError::Foreign { address: self.address.to_string(), why })
    }
}

/// Enables TCP keepalive, so that the loss of the other host is noticed while the connection is
/// idle. Options that the system does not support are left out.
fn keep_alive(stream: &TcpStream) {
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES);
}

/// The socket, with the bytes that are read but not parsed yet, and the layer that protects
/// messages.
struct Wire<S> {
    address: String,
    stream: S,
    raw: BytesMut,
    out: BytesMut,
    protection: Option<(Layer, Unwrapper)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(address: &str, stream: S) -> Self {
        let (raw, out) = (BytesMut::new(), BytesMut::new());
        Self { address: address.to_owned(), stream, raw, out, protection: None }
    }

    /// Appends a frame to the output buffer.
    fn put(&mut self, frame: impl FnOnce(&mut BytesMut)) {
        match &mut self.protection {
            None => frame(&mut self.out),
            Some((layer, _)) => {
                let mut plain = BytesMut::new();
                frame(&mut plain);
                self.out.extend_from_slice(&wrapped(layer.wrap(&plain)));
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Fate> {
        let written = self.stream.write_all_buf(&mut self.out).await;
        written.map_err(|error| Fate::Broken(error.to_string()))
    }

    /// Reads more. Cancel-safe.
    async fn read(&mut self) -> Result<(), Fate> {
        self.raw.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.raw).await {
            Ok(0) => Err(Fate::Broken("the server closed it".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(Fate::Broken(error.to_string())),
        }
    }

    /// The next answer, if it is there: its header and what follows it.
    fn take(&mut self) -> Result<Option<(RpcResponseHeaderProto, Bytes)>, Fate> {
        loop {
            let open = match &mut self.protection {
                None => &mut self.raw,
                Some((_, unwrapper)) => &mut unwrapper.open,
            };
            if let Some(mut frame) = take_frame(open).map_err(Fate::Foreign)? {
                let header = take_message(&mut frame).map_err(Fate::Foreign)?;
                return Ok(Some((header, frame)));
            }
            let Some((layer, unwrapper)) = &mut self.protection else { return Ok(None) };
            let Some(mut frame) = take_frame(&mut self.raw).map_err(Fate::Foreign)? else {
                return Ok(None);
            };
            let header: RpcResponseHeaderProto = take_message(&mut frame).map_err(Fate::Foreign)?;
            if header.status() != RpcStatusProto::Success {
                return Err(Fate::Remote(RemoteError::new(&self.address, &header, true)));
            }
            let message: RpcSaslProto = take_message(&mut frame).map_err(Fate::Foreign)?;
            unwrapper.take(layer, &message).map_err(|refusal| match refusal {
                Refusal::Identify(error) => Fate::Broken(error.to_string()),
                Refusal::Foreign(why) => Fate::Foreign(why),
            })?;
        }
    }

    async fn next(&mut self) -> Result<(RpcResponseHeaderProto, Bytes), Fate> {
        loop {
            if let Some(answer) = self.take()? {
                return Ok(answer);
            }
            self.read().await?;
        }
    }

    /// Shows the token.
    async fn identify(&mut self, token: &Token, most: Protection) -> Result<(), IpcError> {
        let address = self.address.clone();
        let failed = |fate: Fate| fate.into_error(&address);
        let mut handshake = Handshake::new(token, most);
        self.out.extend_from_slice(&preamble(true));
        self.out.extend_from_slice(&Handshake::open());
        loop {
            self.flush().await.map_err(failed)?;
            let (header, mut body) = self.next().await.map_err(failed)?;
            if header.status() != RpcStatusProto::Success {
                return Err(RemoteError::new(&address, &header, true).into());
            }
            let message = take_message(&mut body).map_err(|why| failed(Fate::Foreign(why)))?;
            match handshake.on_message(message) {
                Ok(Step::Send(frame)) => self.out.extend_from_slice(&frame),
                Ok(Step::Done(layer)) => {
                    let unwrapper = Unwrapper { open: BytesMut::new() };
                    self.protection = layer.map(|layer| (layer, unwrapper));
                    return Ok(());
                }
                Err(Refusal::Identify(why)) => return Err(IpcError::Identify { address, why }),
                Err(Refusal::Foreign(why)) => return Err(failed(Fate::Foreign(why))),
            }
        }
    }
}

/// Writes calls and hands out answers until the connection breaks or all callers are gone.
struct Task<S> {
    wire: Wire<S>,
    client_id: [u8; 16],
    next: i32,
    pending: HashMap<i32, oneshot::Sender<Result<Bytes, Fate>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let fate = loop {
            let step = tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => self.send(call).await,
                    None => return,
                },
                read = self.wire.read() => match read {
                    Ok(()) => self.answer(),
                    Err(fate) => Err(fate),
                },
            };
            if let Err(fate) = step {
                break fate;
            }
        };
        tracing::debug!(address = self.wire.address, ?fate, "a connection ended");
        calls.close();
        for answer in self.pending.into_values() {
            let _ = answer.send(Err(fate.clone()));
        }
        while let Some(call) = calls.recv().await {
            let _ = call.answer.send(Err(fate.clone()));
        }
    }

    async fn send(&mut self, call: Call) -> Result<(), Fate> {
        // Callers that gave up have closed their end; a server that never answers must not fill
        // memory.
        self.pending.retain(|_, answer| !answer.is_closed());
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(0);
        let header = request_header(id, &self.client_id, 0);
        self.wire.put(|out| put_call(out, &header, &call));
        self.pending.insert(id, call.answer);
        self.wire.flush().await
    }

    fn answer(&mut self) -> Result<(), Fate> {
        while let Some((header, body)) = self.wire.take()? {
            let fatal = header.status() == RpcStatusProto::Fatal;
            let answer = if header.status() == RpcStatusProto::Success {
                Ok(body)
            } else {
                Err(Fate::Remote(RemoteError::new(&self.wire.address, &header, fatal)))
            };
            if fatal {
                return answer.map(drop);
            }
            // Negative call ids (handshake) are encoded as u32.
            if let Some(waiting) = self.pending.remove(&header.call_id.cast_signed()) {
                let _ = waiting.send(answer);
            }
        }
        Ok(())
    }
}

fn put_call(out: &mut BytesMut, header: &crate::proto::common::RpcRequestHeaderProto, call: &Call) {
    put_frame(out, header, &[&call.header, &Encoded(&call.request)]);
}

/// A message that was encoded before.
struct Encoded<'a>(&'a [u8]);

impl Delimited for Encoded<'_> {
    fn put_delimited(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.0);
    }
}
