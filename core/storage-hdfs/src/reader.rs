//! Reads a file, over the loss of DataNodes and the restart of the NameNode.
//!
//! A stream of the library reads ahead up to its end; so it is told to end soon at first, and later
//! and later while the file is read in order: a few bytes here and there cost little, and a long
//! read little more than the network.

use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hdfs_native::HdfsError;
use hdfs_native::file::FileReader as NativeReader;
use millstream_storage::{BoxFuture, FilePath, FileReader, Result, StorageError};
use tokio::time::Instant;

use crate::Hdfs;
use crate::calls::{Ended, anywhere, within};
use crate::errors::Failure;
use crate::name::name;

/// Bytes that the first stream reads, and the longest.
const WINDOWS: (usize, usize) = (1 << 20, 16 << 20);
/// Deadline of the next bytes: the library asks one DataNode after the other.
const READ_DEADLINE: Duration = Duration::from_secs(90);
/// Pause before the file is opened again.
const PAUSE: Duration = Duration::from_millis(200);
/// Time in which the NameNode hears of a new block: DataNodes report it at once, or with a
/// heartbeat.
const COMPLETION_DEADLINE: Duration = Duration::from_secs(5);
const ACTION: &str = "read";

pub(crate) struct HdfsReader {
    hdfs: Hdfs,
    path: FilePath,
    modified: SystemTime,
    length: usize,
    /// None after a failure, until it is opened again.
    file: Option<NativeReader>,
    stream: Option<BoxStream<'static, std::result::Result<Bytes, HdfsError>>>,
    /// The offset at which the stream goes on, behind `ahead`.
    ahead: Bytes,
    position: usize,
    window: usize,
}

impl HdfsReader {
    pub(crate) async fn open(hdfs: Hdfs, path: FilePath) -> Result<Self> {
        let (modified, file) = open(&hdfs, &path).await?;
        Ok(Self {
            hdfs,
            path,
            modified,
            length: file.file_length(),
            file: Some(file),
            stream: None,
            ahead: Bytes::new(),
            position: 0,
            window: WINDOWS.0,
        })
    }

    /// Opens the file again, if it is still the same.
    async fn reopen(&mut self) -> Result<()> {
        let (modified, file) = open(&self.hdfs, &self.path).await?;
        if modified != self.modified || file.file_length() < self.length {
            let reason = "it was replaced while it was read".to_owned();
            return Err(StorageError::Other { action: ACTION, path: self.path.clone(), reason });
        }
        self.file = Some(file);
        Ok(())
    }

    async fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(offset) = usize::try_from(offset).ok().filter(|offset| *offset < self.length)
        else {
            return Ok(0);
        };
        if buffer.is_empty() {
            return Ok(0);
        }
        let ahead_at = self.position - self.ahead.len();
        if (ahead_at..self.position).contains(&offset) {
            self.ahead.advance(offset - ahead_at);
        } else if offset != self.position {
            self.stream = None;
            self.window = WINDOWS.0;
            self.ahead = Bytes::new();
            self.position = offset;
        }
        let until = Instant::now() + self.hdfs.patience;
        while self.ahead.is_empty() {
            match self.advance().await {
                Ok(()) => {}
                Err(failure) => self.recover(failure, until).await?,
            }
        }
        Ok(self.hand_out(buffer))
    }

    /// Waits for the next bytes of the stream.
    async fn advance(&mut self) -> std::result::Result<(), Failure> {
        let Some(file) = &self.file else {
            return Err(Failure::NotNow("it is not open".to_owned()));
        };
        if self.stream.is_none() {
            let window = self.window.min(self.length - self.position);
            self.stream = Some(file.read_range_stream(self.position, window).boxed());
            self.window = (self.window * 2).min(WINDOWS.1);
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match within(READ_DEADLINE, stream.next().map(Option::transpose)).await {
            Ok(Some(bytes)) => {
                self.position += bytes.len();
                self.ahead = bytes;
            }
            Ok(None) => self.stream = None,
            Err(Ended::Failed(failure)) => return Err(failure),
            Err(Ended::Hung) => return Err(Failure::NotNow("no DataNode answers".to_owned())),
        }
        Ok(())
    }

    /// Opens the file again after an error that may pass, with the present places of its blocks.
    async fn recover(&mut self, failure: Failure, until: Instant) -> Result<()> {
        (self.stream, self.file, self.window) = (None, None, WINDOWS.0);
        let again = matches!(failure, Failure::NotNow(_) | Failure::Ambiguous(_));
        if !again || Instant::now() > until {
            return Err(failure.explain_reading(ACTION, &self.path));
        }
        tokio::time::sleep(PAUSE).await;
        self.reopen().await
    }

    /// Copies the bytes that have come, and those that come without waiting.
    fn hand_out(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            if self.ahead.is_empty() {
                let next = self.stream.as_mut().and_then(|stream| stream.next().now_or_never());
                match next {
                    Some(Some(Ok(bytes))) => {
                        self.position += bytes.len();
                        self.ahead = bytes;
                    }
                    Some(None) => self.stream = None,
                    // An error comes again, or is overcome, at the next call.
                    Some(Some(Err(_))) => (self.stream, self.file) = (None, None),
                    None => {}
                }
                if self.ahead.is_empty() {
                    break;
                }
            }
            let count = room.len().min(self.ahead.len());
            if let Some(room) = room.get_mut(..count) {
                self.ahead.copy_to_slice(room);
            }
            filled += count;
        }
        filled
    }
}

/// Opens a file and returns the time of its last change. Just after a file was closed the NameNode
/// may not have heard of its last block yet; the library would then end the file before it.
async fn open(hdfs: &Hdfs, path: &FilePath) -> Result<(SystemTime, NativeReader)> {
    let (action, until) = ("open", Instant::now() + COMPLETION_DEADLINE.min(hdfs.patience));
    let name = name(action, path)?;
    let mut pause = PAUSE / 50;
    loop {
        let status = hdfs.look_at(path).await?;
        if status.is_directory() {
            let (path, reason) = (path.clone(), "it is a directory".to_owned());
            return Err(StorageError::Other { action, path, reason });
        }
        let opened =
            hdfs.calls.call(hdfs.patience, true, |client| async move { client.read(name).await });
        let file = opened.await.map_err(|failure| failure.explain_reading(action, path))?;
        if file.file_length() as u64 >= status.length {
            return Ok((status.modified, file));
        }
        if Instant::now() > until {
            let (path, reason) = (path.clone(), "its last block is still being written".to_owned());
            return Err(StorageError::Unavailable { action, path, reason });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}

impl FileReader for HdfsReader {
    fn length(&self) -> u64 {
        self.length as u64
    }

    fn read_at<'a>(
        &'a mut self,
        offset: u64,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<usize>> {
        anywhere(self.read(offset, buffer))
    }
}
