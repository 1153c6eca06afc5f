//! Common parts of both daemons: checks of addresses, signals, log files.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use millstream_config::{ConfigError, Configuration, options};
use millstream_rm_driver::ClusterStatus;
use millstream_taskmanager::{LogDirectory, TempDirs, WorkingDir};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Why a daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration has a value that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Other hosts could reach a port that does not authenticate its clients.
    #[error(
        "{key}: {address} is not a loopback address and nothing secures this cluster: bind to \
         localhost, or set {allow}: true if everyone who reaches the machine may run code on it",
        allow = options::ALLOW_INSECURE_NON_LOOPBACK_BIND.key()
    )]
    OpenBind {
        /// The option that names the address.
        key: &'static str,
        /// The address.
        address: String,
    },
    /// A port is taken or an address is not this machine's.
    #[error("failed to listen on {address} ({key}): {reason}")]
    Bind {
        /// The option that names the port.
        key: &'static str,
        /// Where.
        address: String,
        /// The system's error.
        reason: String,
    },
    /// A directory or signal handler could not be made, or a part of the process failed.
    #[error("{what}")]
    Failed {
        /// The failed step.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The JobManager does not want this TaskManager, or there is none.
    #[error("{0}")]
    Refused(String),
}

impl DaemonError {
    pub(crate) fn failed(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { what: what.into(), source: source.into() }
    }
}

/// Where a daemon writes: the log file that the launch scripts name, and `.out` beside it.
#[derive(Debug, Clone, Default)]
pub struct DaemonFiles {
    /// The log; standard error when there is none.
    pub log: Option<PathBuf>,
    /// The file that says that the daemon is ready and where it listens.
    pub ready: Option<PathBuf>,
}

impl DaemonFiles {
    /// The log's directory and the names in it. Without a log file hosts write below `fallback`.
    pub(crate) fn directory(&self, fallback: &Path) -> LogDirectory {
        let named = self.log.as_ref().and_then(|log| {
            let name = log.file_name()?.to_str()?.to_owned();
            Some((log.parent()?.to_owned(), name))
        });
        let (dir, log_name) =
            named.unwrap_or_else(|| (fallback.to_owned(), "millstream.log".to_owned()));
        let out_name = match log_name.strip_suffix(".log") {
            Some(stem) => format!("{stem}.out"),
            None => format!("{log_name}.out"),
        };
        LogDirectory { dir, log_name, out_name }
    }
}

/// The file by which a daemon tells that it is ready: `key=value` lines, the first of which is its
/// process id. A JobManager adds `rest` and `rpc`, a TaskManager its `worker` id once it has
/// registered. The file appears whole and is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct ReadyFile(PathBuf);

impl ReadyFile {
    pub(crate) fn write(path: &Path, lines: &[(&str, String)]) -> Result<Self, DaemonError> {
        let mut text = format!("pid={}\n", std::process::id());
        for (key, value) in lines {
            text.push_str(&format!("{key}={value}\n"));
        }
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = std::fs::write(&temporary, text).and_then(|()| {
            std::fs::rename(&temporary, path).inspect_err(|_| {
                let _ = std::fs::remove_file(&temporary);
            })
        });
        let failed =
            |error| DaemonError::failed(format!("failed to write {}", path.display()), error);
        written.map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Flink's keys that ask for TLS with key stores; a user who sets one must not get a cluster
/// without.
const TLS_KEYS: [&str; 3] =
    ["security.ssl.enabled", "security.ssl.internal.enabled", "security.ssl.rest.enabled"];

/// Refuses to run without TLS where the configuration asks for it.
fn refuse_missing_tls(configuration: &Configuration) -> Result<(), DaemonError> {
    let asks = |key: &&&str| {
        configuration.text(key).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    };
    match TLS_KEYS.iter().find(asks) {
        None => Ok(()),
        Some(key) => Err(DaemonError::Refused(format!(
            "{key} is true, but only clusters on YARN have TLS, with keys of their own: remove the \
             key and keep this cluster on loopback or a network of your own"
        ))),
    }
}

/// Refuses an address that other hosts reach, unless every client has to show a certificate or the
/// configuration allows it. Without certificates it also refuses a configuration that asks for TLS.
pub(crate) fn refuse_open_bind(
    configuration: &Configuration,
    key: &'static str,
    address: &str,
    secured: bool,
) -> Result<(), DaemonError> {
    if secured {
        return Ok(());
    }
    refuse_missing_tls(configuration)?;
    if configuration.get(&options::ALLOW_INSECURE_NON_LOOPBACK_BIND)? {
        return Ok(());
    }
    let resolved = (address, 0).to_socket_addrs().map_err(|error| DaemonError::Bind {
        key,
        address: address.to_owned(),
        reason: error.to_string(),
    })?;
    if resolved.into_iter().all(|socket| socket.ip().is_loopback()) {
        Ok(())
    } else {
        Err(DaemonError::OpenBind { key, address: address.to_owned() })
    }
}

/// The end of a daemon that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its lifecycle has ended with this status, or it was asked to end over its ports.
    Done(ClusterStatus),
    /// This signal ended it. The sender knows why, and another process may go on.
    Signalled(i32),
}

/// Whether a signal came, and which.
#[derive(Debug, Default, Clone)]
pub(crate) struct Signalled(Arc<OnceLock<i32>>);

impl Signalled {
    /// The end of the daemon: by a signal if one came first, else with `status`.
    pub(crate) fn or_done(&self, status: ClusterStatus) -> Ended {
        self.0.get().map_or(Ended::Done(status), |signal| Ended::Signalled(*signal))
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT.
pub(crate) fn stop_at_signals(stop: CancellationToken) -> Result<Signalled, DaemonError> {
    let handler =
        |kind| signal(kind).map_err(|error| DaemonError::failed("failed to handle signals", error));
    let (terminates, interrupts) = (SignalKind::terminate(), SignalKind::interrupt());
    let (mut terminate, mut interrupt) = (handler(terminates)?, handler(interrupts)?);
    let signalled = Signalled::default();
    let first = signalled.clone();
    tokio::spawn(async move {
        let (name, kind) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", terminates),
            _ = interrupt.recv() => ("SIGINT", interrupts),
        };
        tracing::info!("{name}: stopping");
        let _ = first.0.set(kind.as_raw_value());
        stop.cancel();
    });
    Ok(signalled)
}

/// Makes this process the parent of what its hosts leave behind.
pub(crate) async fn adopt_orphans() -> Result<(), DaemonError> {
    let adopted = millstream_launcher::adopt_orphans().await;
    adopted.map_err(|error| DaemonError::failed("failed to become a subreaper", error))
}

/// A directory of the daemon's own in each of `io.tmp.dirs`; the list is never empty.
pub(crate) fn working_dirs(
    configuration: &Configuration,
    prefix: &str,
) -> Result<Vec<WorkingDir>, DaemonError> {
    let create = |base: PathBuf| {
        WorkingDir::create(&base, prefix).map_err(|error| {
            let key = options::IO_TMP_DIRS.key();
            let what = format!("failed to make a directory in {} ({key})", base.display());
            DaemonError::failed(what, error)
        })
    };
    configuration.get(&options::IO_TMP_DIRS)?.into_iter().map(create).collect()
}

/// The first of a daemon's directories, and the directories `name` in all of them, to be used in
/// turn.
pub(crate) fn first_and_all<'a>(
    dirs: &'a [WorkingDir],
    name: &str,
) -> Result<(&'a Path, TempDirs), DaemonError> {
    let Some((first, others)) = dirs.split_first() else {
        let key = options::IO_TMP_DIRS.key();
        return Err(DaemonError::Refused(format!("{key} names no directory")));
    };
    let others = others.iter().map(|dir| dir.path().join(name));
    Ok((first.path(), TempDirs::new(first.path().join(name), others)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_that_is_asked_for_and_not_there_is_no_warning() {
        let with = |value: &str, secured| {
            let pairs = [("security.ssl.rest.enabled".to_owned(), value.to_owned())];
            let configuration = Configuration::from_pairs(pairs).unwrap();
            refuse_open_bind(&configuration, "rest.bind-address", "localhost", secured)
        };
        assert!(with("false", false).is_ok() && with("true", true).is_ok());
        let error = with("true", false).unwrap_err().to_string();
        assert!(error.starts_with("security.ssl.rest.enabled is true, but"), "{error}");
    }

    #[test]
    fn only_loopback_is_bound_without_being_told_twice() {
        let closed = Configuration::new();
        for address in ["localhost", "127.0.0.1", "::1"] {
            assert!(
                refuse_open_bind(&closed, "rest.bind-address", address, false).is_ok(),
                "{address}"
            );
        }
        let error = refuse_open_bind(&closed, "rest.bind-address", "0.0.0.0", false).unwrap_err();
        assert!(error.to_string().starts_with("rest.bind-address: 0.0.0.0 is not"), "{error}");
        let open = Configuration::from_pairs([(
            options::ALLOW_INSECURE_NON_LOOPBACK_BIND.key().to_owned(),
            "true".to_owned(),
        )])
        .unwrap();
        assert!(refuse_open_bind(&open, "rest.bind-address", "0.0.0.0", false).is_ok());
        assert!(refuse_open_bind(&closed, "rest.bind-address", "0.0.0.0", true).is_ok());
    }
}
