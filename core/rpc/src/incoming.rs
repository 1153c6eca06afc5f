//! Connections as they are accepted: few enough, and speaking HTTP/2 soon.
//!
//! Whoever does not begin with HTTP/2's opening words in time is dropped before anything is
//! allocated for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_DEADLINE: Duration = Duration::from_secs(10);
/// A part of the preface cannot be waited for, only asked for again.
const PREFACE_RETRY: Duration = Duration::from_millis(20);
/// How long to wait when this process has no descriptor to spare.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A connection that counts against the limit as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

/// Accepts until `shutdown`.
pub(crate) fn accept(
    listener: TcpListener,
    connections_max: usize,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Counted>> {
    let (ready, incoming) = mpsc::channel(16);
    let permits = Arc::new(Semaphore::new(connections_max));
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                tracing::warn!(connections_max, "too many connections: a new one is dropped");
                continue;
            };
            let ready = ready.clone();
            tokio::spawn(async move {
                let greeted = tokio::time::timeout(PREFACE_DEADLINE, speaks_http2(&stream)).await;
                // Small messages must not wait for more.
                if greeted.is_ok_and(|greeted| greeted) && stream.set_nodelay(true).is_ok() {
                    let _ = ready.send(Ok(Counted { stream, _permit: permit })).await;
                }
            });
        }
    }));
    ReceiverStream::new(incoming)
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
        // What was sent before the other side closed is still there to be peeked at.
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => {}
            Ok(_) | Err(_) => return false,
        }
        tokio::time::sleep(PREFACE_RETRY).await;
    }
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
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
