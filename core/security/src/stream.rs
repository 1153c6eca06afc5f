//! A connection with TLS or without, for servers and clients that offer both.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{Identity, peer_identity, server_name};

/// Bytes and time for which a refused peer is still read, so that it can read the reason.
const DISMISSED_BYTES_MAX: u64 = 64 << 10;
const DISMISSAL_MAX: Duration = Duration::from_secs(1);

/// A connection with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS: the peer is unknown.
    Plain(TcpStream),
    /// With TLS: the peer has shown its certificate.
    Secured(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Makes a connection of an accepted socket, without a deadline. With TLS the call returns when
    /// the client has shown a certificate that the configuration accepts.
    ///
    /// # Errors
    /// The handshake failed; the client has been told.
    pub async fn accept(stream: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let Some(config) = config else { return Ok(Self::Plain(stream)) };
        match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => Ok(Self::Secured(Box::new(stream.into()))),
            Err((error, stream)) => {
                dismiss(stream).await;
                Err(error)
            }
        }
    }

    /// Makes a connection of a connected socket, without a deadline. A server that refuses this
    /// client may be noticed only by the first read.
    ///
    /// # Errors
    /// The handshake failed, or the peer is not the one that the configuration expects.
    pub async fn connect(stream: TcpStream, config: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let Some(config) = config else { return Ok(Self::Plain(stream)) };
        let stream = TlsConnector::from(config).connect(server_name(), stream).await?;
        Ok(Self::Secured(Box::new(stream.into())))
    }

    /// The socket and its TLS state, for callers that drive both themselves. The state may already
    /// hold decrypted bytes of the peer.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Option<rustls::Connection>) {
        match self {
            Self::Plain(stream) => (stream, None),
            Self::Secured(stream) => match *stream {
                TlsStream::Client(stream) => {
                    let (socket, session) = stream.into_inner();
                    (socket, Some(session.into()))
                }
                TlsStream::Server(stream) => {
                    let (socket, session) = stream.into_inner();
                    (socket, Some(session.into()))
                }
            },
        }
    }

    /// The identity of the peer, if it is known.
    #[must_use]
    pub fn peer(&self) -> Option<Identity> {
        match self {
            Self::Plain(_) => None,
            Self::Secured(stream) => peer_identity(stream.get_ref().1),
        }
    }
}

/// Ends a connection so that the peer can still read the reason: closing a socket with unread bytes
/// resets it, and the last bytes written may be lost.
async fn dismiss(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut unread = (&mut stream).take(DISMISSED_BYTES_MAX);
    let mut nowhere = tokio::io::sink();
    let drained = tokio::io::copy(&mut unread, &mut nowhere);
    let _ = tokio::time::timeout(DISMISSAL_MAX, drained).await;
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_write(context, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Secured(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secured(stream) => stream.is_write_vectored(),
        }
    }
}
