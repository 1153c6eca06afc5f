//! The threads, the log and the exit code of a daemon, alike for every driver.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use millstream_cluster::{DaemonError, DaemonFiles, Ended};
use millstream_config::{Configuration, options};
use tracing_subscriber::EnvFilter;

use crate::log_lines::LogLines;

/// Both daemons wait most of the time; user code runs in their children.
const THREADS: usize = 2;

/// The exit code of a process that this signal ended, as in a shell.
pub(crate) fn of_signal(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

/// Runs the daemon of a container with this configuration and log file. After a signal
/// the exit code names it, as in a shell: if the process ended with 0, a NodeManager would forget
/// why it killed the container.
pub(crate) fn run_configured<F: Future<Output = Result<Ended, DaemonError>>>(
    configuration: Configuration,
    log_file: &Path,
    daemon: impl FnOnce(Configuration, DaemonFiles) -> F,
) -> Result<ExitCode> {
    let level = configuration.get(&options::ENV_LOG_LEVEL)?;
    log_to(Some(log_file), level.as_str())?;
    let files = DaemonFiles { log: Some(log_file.to_owned()), ready: None };
    Ok(match block_on(daemon(configuration, files))? {
        Ended::Done(_) => ExitCode::SUCCESS,
        Ended::Signalled(signal) => of_signal(signal),
    })
}

/// Runs a daemon to its end.
pub(crate) fn block_on(daemon: impl Future<Output = Result<Ended, DaemonError>>) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("daemon")
        .enable_all()
        .build()
        .context("failed to start threads")?;
    let result = runtime.block_on(daemon);
    if let Err(error) = &result {
        let error: &dyn std::error::Error = error;
        tracing::error!(error, "the daemon ends");
    }
    Ok(result?)
}

/// Sends log lines to a file, or to standard error. A line that cannot be written (the disk is
/// full) is lost and nothing else is.
pub(crate) fn log_to(file: Option<&Path>, level: &str) -> Result<()> {
    let filter = EnvFilter::try_new(level).context("env.log.level")?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match file {
        None => subscriber.with_writer(|| LogLines(std::io::stderr())).init(),
        Some(path) => {
            let opened = File::options().create(true).append(true).open(path);
            let file = opened
                .with_context(|| format!("failed to open the log file {}", path.display()))?;
            let writer = Mutex::new(LogLines(file));
            subscriber.with_writer(writer).log_internal_errors(false).init();
        }
    }
    Ok(())
}
