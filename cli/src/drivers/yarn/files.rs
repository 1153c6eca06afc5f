//! The file systems on which an application's files are staged.

use std::sync::Arc;

use anyhow::{Result, bail};
use millstream_hadoop_config::HadoopConfiguration;
use millstream_storage::{FilePath, FileSystem, LocalFileSystem};

/// The file system of a path on the cluster.
pub(super) fn open(
    hadoop: &HadoopConfiguration,
    path: &FilePath,
    user: &str,
) -> Result<Arc<dyn FileSystem>> {
    match path.scheme() {
        "hdfs" => hdfs(hadoop, path, user),
        "file" => Ok(Arc::new(LocalFileSystem)),
        scheme => bail!("{path}: there is no file system for {scheme}://, only for hdfs://"),
    }
}

#[cfg(feature = "hdfs")]
fn hdfs(hadoop: &HadoopConfiguration, path: &FilePath, user: &str) -> Result<Arc<dyn FileSystem>> {
    /// Time for which HDFS may refuse to serve before a call fails.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
    let hdfs = millstream_storage_hdfs::Hdfs::open(hadoop, path.authority(), user)?;
    Ok(Arc::new(hdfs.patience(PATIENCE)))
}

#[cfg(not(feature = "hdfs"))]
fn hdfs(
    _hadoop: &HadoopConfiguration,
    path: &FilePath,
    _user: &str,
) -> Result<Arc<dyn FileSystem>> {
    bail!("{path}: this engine was built without HDFS: cargo build --release --workspace has it")
}
