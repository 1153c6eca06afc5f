//! Writes a file. What the library cannot overcome loses the file, except at its very end: whether
//! that came to pass is found out.

use std::time::Duration;

use bytes::Bytes;
use hdfs_native::HdfsError;
use hdfs_native::file::FileWriter as NativeWriter;
use millstream_storage::{BoxFuture, FilePath, FileWriter, Result, StorageError};
use tokio::time::Instant;

use crate::Hdfs;
use crate::calls::{Ended, anywhere, within};
use crate::errors::Failure;
use crate::file_system::name;

/// How long the library may be busy with bytes: it waits a minute for a DataNode that hangs, and
/// another for the NameNode.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks at a lease that is being recovered.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct HdfsWriter {
    hdfs: Hdfs,
    path: FilePath,
    /// None once the file is lost.
    file: Option<NativeWriter>,
    written: u64,
}

impl HdfsWriter {
    pub(crate) const fn new(hdfs: Hdfs, path: FilePath, file: NativeWriter) -> Self {
        Self { hdfs, path, file: Some(file), written: 0 }
    }

    /// Does something with the file; an error is the end of it.
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

    async fn close(mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else {
            let reason = "an earlier call has failed".to_owned();
            return Err(StorageError::Lost { path: self.path, reason });
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

    /// Ends the file whose end is in doubt, and sees whether all of it is there.
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
        anywhere(async move {
            let count = bytes.len() as u64;
            self.with_file("write to", async |file| file.write_bytes(bytes).await).await?;
            self.written += count;
            Ok(())
        })
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<()>> {
        anywhere(self.with_file("write to disk", async |file| file.hsync().await))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        anywhere((*self).close())
    }
}
