//! Accepts connections: a limited number, and only from authenticated peers.
//!
//! Without TLS, a connection that does not begin with HTTP/2's opening words in time is dropped
//! before anything is allocated for it; with TLS, one that has not shown a TaskManager's
//! certificate in time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_security::rustls::ServerConfig;
use millstream_security::{Identity, Stream};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A part of the preface cannot be waited for, only asked for again.
const PREFACE_RETRY: Duration = Duration::from_millis(20);
/// Pause while this process has no descriptor to spare.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A connection that counts against the limit as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: Stream,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

/// The identity of a connection's other side; `None` without TLS.
#[derive(Debug, Clone)]
pub(crate) struct Peer(pub(crate) Option<Identity>);

impl Connected for Counted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts until `shutdown`. A new connection must say within `deadline` that it is one of ours.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    connections_max: usize,
    deadline: Duration,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Counted>> {
    let (ready, incoming) = mpsc::channel(16);
    let permits = Arc::new(Semaphore::new(connections_max));
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            let Ok((stream, address)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                tracing::warn!(connections_max, "too many connections: a new one is dropped");
                continue;
            };
            let (ready, tls) = (ready.clone(), tls.clone());
            tokio::spawn(async move {
                let greeted = tokio::time::timeout(deadline, greet(stream, tls)).await;
                match greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok((stream, peer)) => {
                        let _ = ready.send(Ok(Counted { stream, peer, _permit: permit })).await;
                    }
                    // Logged at debug: port scans would flood the log.
                    Err(error) => tracing::debug!(%address, %error, "a stranger was sent away"),
                }
            });
        }
    }));
    ReceiverStream::new(incoming)
}

async fn greet(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<(Stream, Peer)> {
    // Small messages must not wait for more.
    stream.set_nodelay(true)?;
    if tls.is_none() && !speaks_http2(&stream).await {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let stream = Stream::accept(stream, tls).await?;
    let peer = Peer(stream.peer());
    Ok((stream, peer))
}

async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    loop {
        let Ok(count @ 1..) = stream.peek(&mut seen).await else { return false };
        if seen.get(..count) != PREFACE.get(..count) {
            return false;
        }
        if count == PREFACE.len() {
            return true;
        }
        // Bytes that were sent before the other side closed can still be peeked at.
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => {}
            Ok(_) | Err(_) => return false,
        }
        tokio::time::sleep(PREFACE_RETRY).await;
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
