//! The file system on HDFS: hdfs-native, and what it lacks.
//!
//! - *Every call ends.* The library waits for a NameNode without limit; here each attempt has a
//!   deadline, after which the connection is given up, and under high availability the next
//!   attempt begins with the next NameNode (`calls`).
//! - *No foreign server is believed.* Before the library connects for the first time, and after a
//!   connection was lost, a small question tells whether a NameNode is there (`probe`).
//! - *Patience.* A NameNode that starts, is in safe mode or hands over is asked again until the
//!   patience is at its end; then the error says what it said last.
//! - *Outcomes are not guessed.* After a lost reply the outcome is looked up before anything else:
//!   of a rename by the names that exist, of the end of a file by recovering its lease.
//! - *Errors by what to do*, in one line, without Java's stack traces (`errors`).
//! - *Readers go on* over the restart of a NameNode or the loss of a DataNode, and refuse a file
//!   that was replaced meanwhile (`reader`). *Writers* survive what the library survives; when
//!   they do not, the file is [`Lost`](millstream_storage::StorageError::Lost) (`writer`).
//! - *Permission bits* are the caller's, or those that `fs.permissions.umask-mode` leaves.
//!
//! Closing a file costs half a second when the NameNode has not heard from the DataNodes yet; the
//! NameNode setting `dfs.namenode.file.close.num-committed-allowed=1` and two copies avoid that.
//!
//! Not here: Kerberos, which is refused; append; encryption zones.

mod address;
mod calls;
mod errors;
mod file_system;
mod name;
mod probe;
mod reader;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use millstream_hadoop_config::{HadoopConfigError, HadoopConfiguration, user_name};
use millstream_storage::{FileSystem, FileSystems};

use crate::address::Address;
use crate::calls::Calls;

/// Default time for which a call is tried again while the cluster cannot serve it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why an HDFS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] HadoopConfigError),
    /// No path without a NameNode can be resolved.
    #[error(
        "fs.defaultFS is {default_fs:?}: name the NameNode in the path, as hdfs://host:8020/, or \
         set fs.defaultFS to it in core-site.xml"
    )]
    NoDefault {
        /// Its value.
        default_fs: String,
    },
    /// The library refused the address.
    #[error("failed to use {url} as the address of HDFS: {reason}")]
    Address {
        /// The address.
        url: String,
        /// The library's reason.
        reason: String,
    },
}

/// One HDFS, as one user. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Hdfs {
    calls: Arc<Calls>,
    patience: Duration,
    umask: u32,
}

impl Hdfs {
    /// Makes a client of `authority`: `host:port`, a nameservice, a host, or nothing for
    /// `fs.defaultFS`. Connects to nothing yet.
    ///
    /// # Errors
    /// The configuration does not name the NameNode, or wants Kerberos.
    pub fn open(
        configuration: &HadoopConfiguration,
        authority: &str,
        user: &str,
    ) -> Result<Self, OpenError> {
        configuration.refuse_kerberos()?;
        let address = Address::find(configuration, authority)?;
        let umask = configuration.get("fs.permissions.umask-mode");
        // Symbolic masks are rare; the default is what nearly all of them say.
        let umask = umask.and_then(|mask| u32::from_str_radix(&mask, 8).ok()).unwrap_or(0o022);
        let calls = Arc::new(Calls::new(configuration, address, user)?);
        Ok(Self { calls, patience: PATIENCE, umask })
    }

    /// Sets the time for which a call is tried again; a minute by default.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// Makes `hdfs://` known, configured at its first use by what `HADOOP_CONF_DIR` (or
/// `YARN_CONF_DIR`, `HADOOP_HOME`) and `HADOOP_USER_NAME` say then. Without a configuration
/// directory, paths must name the NameNode.
pub fn register(systems: &FileSystems) {
    systems.register(
        "hdfs",
        Arc::new(|authority| {
            let configuration = match HadoopConfiguration::from_environment() {
                Err(HadoopConfigError::NoDirectory) if !authority.is_empty() => {
                    HadoopConfiguration::new()
                }
                read => read.map_err(|error| error.to_string())?,
            };
            let hdfs = Hdfs::open(&configuration, authority, &user_name());
            let hdfs = hdfs.map_err(|error| error.to_string())?;
            Ok(Arc::new(hdfs) as Arc<dyn FileSystem>)
        }),
    );
}
