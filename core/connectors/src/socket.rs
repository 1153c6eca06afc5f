//! Lines of a TCP connection, for trying things out: nothing can be read twice.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use millstream_connector::{
    Boundedness, NoEnumerator, Polled, ReaderContext, ReaderOutput, Result, Source, SourceReader,
};
use millstream_network::BATCH_RECORDS;

use crate::file::format::{Decoder, Format, Lines, LinesDecoder, TextLine};
use crate::handover::{Intake, Outlet, Taken, handover};
use crate::lines::{Chunk, CutError, LINE_BYTES_MAX, LineCutter};

/// Deadline of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a socket source failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is no such host, or it does not listen; retrying helps once it does.
    #[error("failed to connect to {address}: does something listen there?")]
    Connect {
        /// Host and port.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the peer closed it.
    #[error("the connection to {address} broke")]
    Broken {
        /// Host and port.
        address: String,
        /// The error of the socket.
        #[source]
        source: io::Error,
    },
    /// The peer sends no line ends.
    #[error("{address} sent a line of more than {LINE_BYTES_MAX} bytes: is it text?")]
    LongLine {
        /// Host and port.
        address: String,
    },
    /// No thread could be started for the connection.
    #[error("failed to start a thread for the connection to {address}")]
    Thread {
        /// Host and port.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The thread died; its panic message is in the process's log.
    #[error("the thread that reads from {address} died")]
    ReaderDied {
        /// Host and port.
        address: String,
    },
}

/// Connects to a TCP server and reads lines of text until the server closes the connection.
///
/// Only the first subtask reads, the others end at once. What is not UTF-8 becomes U+FFFD, and such
/// lines are counted in `numRecordsReplaced`. A broken connection fails the task, and what was read
/// before the restart is not read again.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// use std::io::Write;
///
/// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = server.local_addr()?.port();
/// let peer = std::thread::spawn(move || server.accept()?.0.write_all(b"to be\nor not\n"));
/// let lines = CollectSink::new();
/// env.source("words", SocketSource::lines("127.0.0.1", port)).sink("lines", lines.clone());
/// env.execute("read lines")?;
/// assert_eq!(lines.take(), ["to be", "or not"]);
/// # peer.join().unwrap()?;
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SocketSource {
    host: String,
    port: u16,
}

impl SocketSource {
    /// Lines from this host and port.
    #[must_use]
    pub fn lines(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Source for SocketSource {
    type Out = String;
    type Split = ();
    type Reader = SocketReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn splits(&self) -> Result<Vec<()>> {
        Ok(vec![()])
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<SocketReader> {
        Ok(SocketReader {
            source: self.clone(),
            ctx: ctx.clone(),
            connection: None,
            decoder: Lines(TextLine::default()).decoder(ctx),
            chunk: None,
        })
    }
}

/// The thread that reads, as the task sees it.
struct Connection {
    chunks: Intake<Result<Chunk, SocketError>>,
    /// The stream once it is there, to end a read that would wait for ever.
    stream: Arc<Mutex<Option<TcpStream>>>,
}

impl Connection {
    fn open(source: &SocketSource, ctx: &ReaderContext) -> Result<Self, SocketError> {
        let (outlet, chunks) = handover(ctx.waker.clone());
        let stream = Arc::new(Mutex::new(None));
        let (server, name) = (source.clone(), source.address());
        let shared = Arc::clone(&stream);
        thread::Builder::new()
            .name("socket-reader".to_owned())
            .spawn(move || read(&server, &name, &shared, outlet))
            .map_err(|error| SocketError::Thread { address: source.address(), source: error })?;
        Ok(Self { chunks, stream })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = &*stream {
            // Fails only if the peer was faster.
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Reads until the peer closes the connection or nobody wants more.
fn read(
    source: &SocketSource,
    address: &str,
    shared: &Mutex<Option<TcpStream>>,
    outlet: Outlet<Result<Chunk, SocketError>>,
) {
    let connected = connect(&source.host, source.port).and_then(|stream| {
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.try_clone()?);
        Ok(stream)
    });
    let stream = match connected {
        Ok(stream) => stream,
        Err(source) => {
            outlet.send(Err(SocketError::Connect { address: address.to_owned(), source }));
            return;
        }
    };
    let origin = Arc::from(Path::new(address));
    let mut cutter = LineCutter::new(stream, origin, 0, u64::MAX, LINE_BYTES_MAX);
    loop {
        match cutter.next_chunk(Vec::new()) {
            Ok(Some(chunk)) => {
                if !outlet.send(Ok(chunk)) {
                    return;
                }
            }
            Ok(None) => return outlet.done(),
            Err(error) => {
                let address = address.to_owned();
                outlet.send(Err(match error {
                    CutError::Io(source) => SocketError::Broken { address, source },
                    CutError::LongLine(_) => SocketError::LongLine { address },
                }));
                return;
            }
        }
    }
}

/// Connects to the first address that answers.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads from one connection.
pub struct SocketReader {
    source: SocketSource,
    ctx: ReaderContext,
    /// `None` in every subtask but the first, and when all was read.
    connection: Option<Connection>,
    decoder: LinesDecoder<TextLine>,
    chunk: Option<(Chunk, usize)>,
}

impl SourceReader for SocketReader {
    type Out = String;
    type Split = ();

    fn add_splits(&mut self, splits: Vec<()>) -> Result<()> {
        if !splits.is_empty() {
            self.connection = Some(Connection::open(&self.source, &self.ctx)?);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, String>) -> Result<Polled> {
        let Some(connection) = &self.connection else { return Ok(Polled::Finished) };
        if self.chunk.is_none() {
            match connection.chunks.take() {
                Taken::Item(chunk) => self.chunk = Some((chunk?, 0)),
                Taken::Nothing => return Ok(Polled::Pending(None)),
                Taken::Done => {
                    self.connection = None;
                    return Ok(Polled::Finished);
                }
                Taken::Died => {
                    let address = self.source.address();
                    return Err(SocketError::ReaderDied { address }.into());
                }
            }
        }
        let Some((chunk, at)) = &mut self.chunk else { return Ok(Polled::Ready) };
        while out.len() < BATCH_RECORDS {
            match self.decoder.next(chunk, at) {
                Some(line) => out.push(line?)?,
                None => {
                    self.chunk = None;
                    break;
                }
            }
        }
        Ok(Polled::Ready)
    }

    /// The connection as a whole: what was received cannot be asked for again.
    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(self.connection.iter().map(|_| ()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use millstream_connector::{Batch, BatchLimit};

    use super::*;
    use crate::testing::{context, read_reader, reader_of};

    #[test]
    fn the_first_subtask_reads_until_the_peer_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            for part in [&b"one\r\ntw"[..], b"o\n\xff\n", b"rest"] {
                peer.write_all(part).unwrap();
            }
        });
        let source = SocketSource::lines("127.0.0.1", port);
        let (ctx, woken) = context(0, 2);
        let read = read_reader(reader_of(&source, &ctx), &woken).unwrap();
        assert_eq!(read, ["one", "two", "\u{fffd}", "rest"]);
        server.join().unwrap();

        let (ctx, _) = context(1, 2);
        let (mut other, mut batch) = (reader_of(&source, &ctx), Batch::empty(false));
        let polled =
            other.poll(&mut ReaderOutput::new(&mut batch, &mut BatchLimit::new())).unwrap();
        assert_eq!(polled, Polled::Finished);
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (ctx, woken) = context(0, 1);
        let reader = reader_of(&SocketSource::lines("127.0.0.1", port), &ctx);
        let error = format!("{:#}", read_reader(reader, &woken).unwrap_err());
        assert!(error.contains(&format!("failed to connect to 127.0.0.1:{port}")), "{error}");
    }

    #[test]
    fn a_reader_that_is_dropped_closes_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ctx, woken) = context(0, 1);
        let mut reader = reader_of(&SocketSource::lines("127.0.0.1", port), &ctx);
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"line\n").unwrap();
        let mut batch = Batch::empty(false);
        while batch.is_empty() {
            if let Polled::Pending(_) =
                reader.poll(&mut ReaderOutput::new(&mut batch, &mut BatchLimit::new())).unwrap()
            {
                woken.wait();
            }
        }
        drop(reader);
        // Without the shutdown this would wait for ever.
        assert_eq!(io::Read::read(&mut peer, &mut [0; 8]).unwrap(), 0);
    }
}
