//! Paths as HDFS knows them.

use millstream_storage::{FilePath, Result, StorageError};

/// The path on the NameNode: UTF-8 without zero bytes.
pub(crate) fn name<'a>(action: &'static str, path: &'a FilePath) -> Result<&'a str> {
    let name = path.path().to_str().filter(|name| !name.contains('\0'));
    name.ok_or_else(|| StorageError::Other {
        action,
        path: path.clone(),
        reason: "a name on HDFS is UTF-8 without zero bytes".to_owned(),
    })
}
