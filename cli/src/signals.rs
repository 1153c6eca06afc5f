//! The signals that end a command early.

use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C or a polite kill and says which.
pub(crate) async fn interruption() -> Result<i32> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(libc::SIGTERM),
        _ = interrupt.recv() => Ok(libc::SIGINT),
    }
}

/// The exit code of a command that was interrupted by this signal.
pub(crate) fn exit_code(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}
