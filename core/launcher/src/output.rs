//! The standard output and standard error of a host, and their last lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::{HostOutput, lock};

/// So much of standard error becomes part of a cause.
const TAIL_BYTES_MAX: usize = 8 << 10;
/// The time that the rest of the output may take after the process has ended: a terminal may be
/// stopped.
const REST_DEADLINE: Duration = Duration::from_secs(5);

/// The reading ends of a host's standard output and standard error.
#[derive(Debug)]
pub(crate) struct OutputPipes {
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
}

/// The place of a host's output, where its last lines are found.
#[derive(Debug)]
pub(crate) enum Output {
    /// It goes to the terminal alone.
    Unseen,
    /// In a file, from this byte on.
    File { path: PathBuf, start: u64 },
    /// In pipes that are read once the host has said hello, and then shown or not.
    Held { pipes: OutputPipes, shown: bool },
    /// On the way to our own standard output and standard error, or to nowhere.
    Relayed { tail: Arc<Mutex<Tail>>, ended: Receiver<()> },
}

impl Output {
    pub(crate) fn new(spec: &HostOutput, pipes: Option<OutputPipes>) -> Self {
        match (spec, pipes) {
            (HostOutput::Files { stderr, .. }, _) => {
                let start = std::fs::metadata(stderr).map_or(0, |metadata| metadata.len());
                Self::File { path: stderr.clone(), start }
            }
            (HostOutput::Tail, Some(pipes)) => Self::Held { pipes, shown: false },
            (_, Some(pipes)) => Self::Held { pipes, shown: true },
            (_, None) => Self::Unseen,
        }
    }

    /// The host has proved to be a program of ours: its output is taken out of its pipes.
    pub(crate) fn open(&mut self) {
        if !matches!(self, Self::Held { .. }) {
            return;
        }
        let Self::Held { pipes, shown } = std::mem::replace(self, Self::Unseen) else { return };
        let tail = Arc::<Mutex<Tail>>::default();
        let (done, ended) = mpsc::sync_channel(1);
        let OutputPipes { stdout, stderr } = pipes;
        let kept = Some(Arc::clone(&tail));
        if shown {
            relay(stdout, io::stdout(), None, done.clone());
            relay(stderr, io::stderr(), kept, done);
        } else {
            relay(stdout, io::sink(), None, done.clone());
            relay(stderr, io::sink(), kept, done);
        }
        *self = Self::Relayed { tail, ended };
    }

    /// The last that was written to standard error, once the process has ended.
    pub(crate) fn into_tail(self) -> String {
        let bytes = match self {
            Self::Unseen => Vec::new(),
            Self::File { path, start } => tail_of_file(&path, start).unwrap_or_default(),
            Self::Held { pipes, .. } => what_waits(pipes.stderr).unwrap_or_default(),
            Self::Relayed { tail, ended } => {
                // Both relays drop their sender at the end; nothing is ever sent.
                let _ = ended.recv_timeout(REST_DEADLINE);
                lock(&tail).0.iter().copied().collect()
            }
        };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The newest bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let surplus = self.0.len().saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..surplus);
    }
}

/// Copies until the other end is closed. A target that takes no more is no reason to stop: the
/// program must not die because its output is not read.
fn relay(
    mut from: PipeReader,
    mut to: impl Write + Send + 'static,
    tail: Option<Arc<Mutex<Tail>>>,
    done: mpsc::SyncSender<()>,
) {
    let copy = move || {
        let _done = done;
        let mut buffer = [0; 16 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            let _ = to.write_all(bytes).and_then(|()| to.flush());
            if let Some(tail) = &tail {
                lock(tail).push(bytes);
            }
        }
    };
    // Without a thread nothing is shown, and the program is told so: its pipe is closed.
    let _ = std::thread::Builder::new().name("host-output".to_owned()).spawn(copy);
}

fn tail_of_file(path: &PathBuf, start: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let start = start.max(end.saturating_sub(TAIL_BYTES_MAX as u64)).min(end);
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    let count = file.read_at(&mut bytes, start)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Reads the bytes that are in a pipe, without waiting for more.
fn what_waits(mut pipe: PipeReader) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::fcntl_getfl(pipe.as_fd())?;
    rustix::fs::fcntl_setfl(pipe.as_fd(), flags | OFlags::NONBLOCK)?;
    let mut tail = Tail::default();
    let mut buffer = [0; 4 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => tail.push(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process still holds the other end and writes nothing.
            Err(_) => break,
        }
    }
    Ok(tail.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_newest_and_bounded() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; TAIL_BYTES_MAX]);
        tail.push(b"end");
        assert_eq!(tail.0.len(), TAIL_BYTES_MAX);
        assert!(tail.0.iter().rev().take(3).copied().eq(*b"dne"));
    }

    #[test]
    fn what_waits_in_a_pipe_is_read_though_somebody_holds_it() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"last words").unwrap();
        assert_eq!(what_waits(reader).unwrap(), b"last words");
    }
}
