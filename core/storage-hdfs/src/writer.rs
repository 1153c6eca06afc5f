//! Writes a file. A fault that the library cannot overcome loses the file, with two exceptions.
//!
//! - *Its beginning.* The library gives up when a DataNode of a new block does not answer, and the
//!   NameNode goes on naming a dead one for minutes. So the first bytes are kept, and while there
//!   are no more the file is begun again, at last with a single copy, which the NameNode is told to
//!   multiply once the file is closed.
//! - *Its end.* Whether a close that failed came to pass is found out by recovering the lease.

use std::time::Duration;

use bytes::Bytes;
use hdfs_native::file::FileWriter as NativeWriter;
use hdfs_native::{HdfsError, WriteOptions};
use millstream_storage::{BoxFuture, FilePath, FileWriter, Result, StorageError};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::Hdfs;
use crate::calls::{Ended, anywhere, within};
use crate::errors::Failure;
use crate::name::name;

/// Deadline of a write: the library waits a minute for a DataNode that hangs, and another for the
/// NameNode.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(180);
/// Number of first bytes that are kept.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// Number of times that a file is begun again. With a single copy on one of two DataNodes, of which
/// one is dead, it fails once in a thousand times.
const BEGINNINGS_MAX: u32 = 12;
/// Pause between two looks at a lease that is being recovered, and between two beginnings.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct HdfsWriter {
    hdfs: Hdfs,
    path: FilePath,
    options: WriteOptions,
    /// None once the file is lost.
    file: Option<NativeWriter>,
    written: u64,
    /// All bytes so far, while there are few.
    kept: Option<Vec<Bytes>>,
    /// The wanted number of copies, if the file has fewer.
    copies: Option<u32>,
}

impl HdfsWriter {
    pub(crate) fn new(
        hdfs: Hdfs,
        path: FilePath,
        options: WriteOptions,
        file: NativeWriter,
    ) -> Self {
        let options = options.overwrite(true);
        let (kept, copies) = (Some(Vec::new()), None);
        Self { hdfs, path, options, file: Some(file), written: 0, kept, copies }
    }

    /// Calls the library's writer; after an error the file is lost.
    async fn with_file<T>(
        &mut self,
        action: &'static str,
        work: impl AsyncFnOnce(&mut NativeWriter) -> std::result::Result<T, HdfsError>,
    ) -> Result<T> {
        let Some(mut file) = self.file.take() else {
            let reason = "an earlier call has failed".to_owned();
            return Err(StorageError::Lost { path: self.path.clone(), reason });
        };
        match within(WRITE_DEADLINE, work(&mut file)).await {
            Ok(done) => {
                self.file = Some(file);
                Ok(done)
            }
            Err(ended) => Err(failure(ended).explain_writing(action, &self.path)),
        }
    }

    async fn add(&mut self, bytes: Bytes) -> Result<()> {
        let more = bytes.clone();
        let written = self.with_file("write to", async |file| file.write_bytes(more).await).await;
        if let Some(kept) = &mut self.kept {
            kept.push(bytes.clone());
        }
        self.written += bytes.len() as u64;
        if let Err(error) = written {
            self.begin_again(error).await?;
        }
        if self.written > KEPT_BYTES_MAX {
            self.kept = None;
        }
        Ok(())
    }

    /// Begins the file again with the kept bytes.
    async fn begin_again(&mut self, mut error: StorageError) -> Result<()> {
        let name = name("create", &self.path)?.to_owned();
        for beginning in 0..BEGINNINGS_MAX {
            let (StorageError::Lost { .. }, Some(kept)) = (&error, self.kept.clone()) else {
                break;
            };
            info!(path = %self.path, %error, "a file on HDFS is begun again");
            tokio::time::sleep(PAUSE * beginning.min(5)).await;
            let named = name.as_str();
            let known = self.hdfs.calls.call(self.hdfs.patience, true, |client| async move {
                client.get_file_info(named).await
            });
            // A file that is gone was deleted on purpose, and is not begun again.
            let Ok(known) = known.await else { break };
            let wanted = *self.copies.get_or_insert(known.replication.unwrap_or(1));
            let options = self.options.clone();
            self.options = options.replication(wanted.saturating_sub(beginning).max(1));
            let client = self.hdfs.calls.enduring();
            match within(WRITE_DEADLINE, client.create(&name, &self.options)).await {
                Ok(file) => self.file = Some(file),
                Err(ended) => {
                    error = failure(ended).explain_writing("create", &self.path);
                    continue;
                }
            }
            let rewritten = self.with_file("write to", async |file| {
                for bytes in kept {
                    file.write_bytes(bytes).await?;
                }
                Ok(())
            });
            match rewritten.await {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
        self.file = None;
        Err(error)
    }

    async fn close(mut self) -> Result<()> {
        loop {
            match self.try_close().await {
                Ok(()) => break,
                Err(error) => self.begin_again(error).await?,
            }
        }
        // A file that was begun with fewer copies than it should have gets the others now.
        if let (Some(copies), Ok(name)) = (self.copies, name("close", &self.path)) {
            let set = self.hdfs.calls.call(self.hdfs.patience, true, |client| async move {
                client.set_replication(name, copies).await
            });
            if let Err(failure) = set.await {
                warn!(path = %self.path, ?failure, "a file on HDFS lacks copies");
            }
        }
        Ok(())
    }

    async fn try_close(&mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else {
            let reason = "an earlier call has failed".to_owned();
            return Err(StorageError::Lost { path: self.path.clone(), reason });
        };
        match within(WRITE_DEADLINE, file.close()).await.map_err(failure) {
            Ok(()) => Ok(()),
            Err(Failure::NotNow(reason) | Failure::Ambiguous(reason)) => {
                drop(file);
                self.settle(reason).await
            }
            Err(known) => Err(known.explain_writing("close", &self.path)),
        }
    }

    /// Recovers the lease of a file whose close is in doubt, and checks that it is complete.
    async fn settle(&self, reason: String) -> Result<()> {
        let (action, until) = ("close", Instant::now() + self.hdfs.patience);
        let name = name(action, &self.path)?;
        loop {
            let recovered = self.hdfs.calls.call(self.hdfs.patience, true, |client| async move {
                client.recover_lease(name).await
            });
            match recovered.await {
                Ok(true) => break,
                Ok(false) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(Failure::NotFound(reason)) => {
                    return Err(StorageError::Lost { path: self.path.clone(), reason });
                }
                Ok(false) | Err(_) => {
                    let path = self.path.clone();
                    return Err(StorageError::OutcomeUnknown { action, path, reason });
                }
            }
        }
        let length = self.hdfs.look_at(&self.path).await?.length;
        if length == self.written {
            return Ok(());
        }
        let reason = format!("{length} of {} bytes were kept: {reason}", self.written);
        Err(StorageError::Lost { path: self.path.clone(), reason })
    }
}

fn failure(ended: Ended) -> Failure {
    match ended {
        Ended::Failed(failure) => failure,
        Ended::Hung => {
            let seconds = WRITE_DEADLINE.as_secs();
            Failure::Ambiguous(format!("HDFS gave no answer for {seconds} s"))
        }
    }
}

impl FileWriter for HdfsWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        anywhere(self.add(bytes))
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<()>> {
        anywhere(async move {
            let synced = self.with_file("write to disk", async |file| file.hsync().await).await;
            if let Err(error) = synced {
                self.begin_again(error).await?;
                self.with_file("write to disk", async |file| file.hsync().await).await?;
            }
            // Bytes that are safe are not put at risk by beginning again.
            self.kept = None;
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        anywhere((*self).close())
    }
}
