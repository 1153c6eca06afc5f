//! A connected socket, with TLS or without: bytes in, bytes out, nothing that waits.
//!
//! With TLS one lock guards the keys of both directions, so one thread encrypts or decrypts at a
//! time. Encrypted bytes wait here for the socket, in order; the one thread with the right to write
//! (see [`connection`](crate::connection)) flushes them.

use std::io::{self, BufRead, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use millstream_security::Stream;
use millstream_security::rustls::Connection;
use tokio::net::TcpStream;

use crate::low_water::LowWater;

/// The result of a write.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// So many are the socket's, or wait here.
    pub(crate) taken: usize,
    /// Whether encrypted bytes wait here for the socket.
    pub(crate) waiting: bool,
}

#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    tls: Option<Mutex<Connection>>,
}

/// State of a socket's one reader between its reads.
#[derive(Debug)]
pub(crate) struct Reader {
    low_water: LowWater,
    /// Room for one read from a socket with TLS.
    encrypted: Vec<u8>,
}

impl Reader {
    pub(crate) const fn new() -> Self {
        Self { low_water: LowWater::new(), encrypted: Vec::new() }
    }
}

const READ_BYTES: usize = 256 << 10;

impl Socket {
    pub(crate) fn new(stream: Stream) -> Self {
        let (stream, tls) = stream.into_parts();
        let tls = tls.map(|mut tls| {
            // How much may wait is bounded by the credits of the channels.
            tls.set_buffer_limit(None);
            Mutex::new(tls)
        });
        Self { stream, tls }
    }

    /// Waits for bytes, where so many of a frame that has come in part are `missing`.
    pub(crate) async fn readable(&self, reader: &mut Reader, missing: usize) -> io::Result<()> {
        // Records of TLS end where they will, and each has to be decrypted anyway.
        if self.tls.is_none() {
            reader.low_water.set(&self.stream, missing);
        }
        self.stream.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Writes as much of `bytes` as the socket takes now. With TLS all of them are taken.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<Written> {
        let Some(tls) = &self.tls else {
            return Ok(Written { taken: self.stream.try_write(bytes)?, waiting: false });
        };
        let mut tls = lock(tls);
        tls.writer().write_all(bytes)?;
        // The error will resurface in the connection's task, which flushes the rest.
        let waiting = self.flush(&mut tls).unwrap_or(true);
        Ok(Written { taken: bytes.len(), waiting })
    }

    /// Flushes encrypted bytes; returns whether some still wait.
    pub(crate) fn try_flush(&self) -> io::Result<bool> {
        match &self.tls {
            None => Ok(false),
            Some(tls) => self.flush(&mut lock(tls)),
        }
    }

    fn flush(&self, tls: &mut Connection) -> io::Result<bool> {
        while tls.wants_write() {
            match tls.write_tls(&mut Outward(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Appends the available bytes to `buffer`; returns 0 at the end of the stream.
    pub(crate) fn try_read(&self, reader: &mut Reader, buffer: &mut BytesMut) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.try_read_buf(buffer) };
        let encrypted = &mut reader.encrypted;
        encrypted.resize(READ_BYTES, 0);
        let count = self.stream.try_read(encrypted)?;
        decrypt(&mut lock(tls), encrypted.get(..count).unwrap_or_default(), buffer)?;
        Ok(count)
    }

    /// Adds what came with the end of the handshake.
    pub(crate) fn begin(&self, buffer: &mut BytesMut) -> io::Result<()> {
        match &self.tls {
            None => Ok(()),
            Some(tls) => decrypt(&mut lock(tls), &[], buffer),
        }
    }

    /// Whether TLS has bytes to send without a write of ours: it answers by itself.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| lock(tls).wants_write())
    }
}

fn lock(tls: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decrypt(tls: &mut Connection, mut bytes: &[u8], buffer: &mut BytesMut) -> io::Result<()> {
    loop {
        let state = tls.process_new_packets();
        let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let mut reader = tls.reader();
            let part = reader.fill_buf()?;
            let count = part.len();
            buffer.extend_from_slice(part);
            reader.consume(count);
            left = left.saturating_sub(count.max(1));
        }
        if state.peer_has_closed() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // Some thousand bytes at a time, and never more than a record.
        tls.read_tls(&mut bytes)?;
    }
}

/// The socket as TLS writes to it.
struct Outward<'a>(&'a TcpStream);

impl Write for Outward<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
