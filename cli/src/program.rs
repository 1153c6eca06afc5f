//! A user's program as a child process: it plans, we decide what becomes of its graphs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use millstream_graph::JobSettings;
use millstream_launcher::{
    HostEnvironment, HostEvents, HostProcess, HostProcessEvent, HostSpec, inspect_artifact,
};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{Answer, Begin, Failure, Role, ToHost, answer, from_host, to_host};
use millstream_types::HostId;

/// What a program does next.
#[derive(Debug)]
pub(crate) enum ProgramEvent {
    /// It called `execute`.
    Planned(Box<millstream_protocol::job::JobGraph>),
    /// Its build function returned, after so many `execute` calls.
    Finished { executes: u32 },
    /// Someone interrupted it from the terminal.
    Interrupted,
    /// It failed, and this is why.
    Failed(anyhow::Error),
    /// Its process has ended; the last event.
    Ended,
}

/// A program that runs as our child; it ends with this value.
pub(crate) struct Program {
    process: HostProcess,
    events: HostEvents,
    path: PathBuf,
    finished: bool,
}

impl Program {
    /// Starts a program. It runs in this shell's environment and writes to this terminal.
    pub(crate) async fn start(path: &Path, role: Role, settings: &JobSettings) -> Result<Self> {
        // A name without a slash would be looked up in PATH, and a relative one moves with the
        // working directory.
        let path = std::path::absolute(path)?;
        inspect_artifact(&path).with_context(|| format!("cannot run {}", path.display()))?;
        let host = HostId::from_bytes(random_id()?);
        let spec = HostSpec {
            environment: HostEnvironment::Inherited,
            ..HostSpec::new(host, path.clone())
        };
        let (process, events) = HostProcess::spawn(spec).await?;
        let begin = Begin {
            role: role.into(),
            major: HOST_PROTOCOL.major,
            minor: HOST_PROTOCOL.minor,
            settings: Some(settings.into()),
            host_id: host.as_bytes().to_vec(),
            ..Begin::default()
        };
        let message = to_host::Message::Begin(begin);
        let started = Self { process, events, path, finished: false };
        // If it is gone already, its last event says why.
        let _ = started.process.send(&ToHost { message: Some(message) });
        Ok(started)
    }

    /// Tells the program what became of its last graph.
    pub(crate) fn answer(&self, answer: answer::Answer) {
        let message = to_host::Message::Answer(Answer { answer: Some(answer) });
        let _ = self.process.send(&ToHost { message: Some(message) });
    }

    /// Lets the program end, or ends it.
    pub(crate) fn stop(&self) {
        self.process.stop(Duration::ZERO);
    }

    /// What it does next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> ProgramEvent {
        loop {
            let message = match self.events.next().await {
                None => return ProgramEvent::Ended,
                Some(HostProcessEvent::Exited(_)) if self.finished => return ProgramEvent::Ended,
                Some(HostProcessEvent::Exited(exit)) if exit.signal == Some(libc::SIGINT) => {
                    return ProgramEvent::Interrupted;
                }
                Some(HostProcessEvent::Exited(exit)) => {
                    self.finished = true;
                    return ProgramEvent::Failed(self.failed(&exit.cause.message, ""));
                }
                Some(HostProcessEvent::Message(message)) => message.message,
            };
            match message {
                Some(from_host::Message::Planned(graph)) => {
                    return ProgramEvent::Planned(Box::new(graph));
                }
                Some(from_host::Message::Failure(failure)) => return self.on_failure(&failure),
                Some(from_host::Message::Finished(finished)) => match finished.failure {
                    Some(failure) => return self.on_failure(&failure),
                    None => {
                        self.finished = true;
                        return ProgramEvent::Finished { executes: finished.executes };
                    }
                },
                // Nothing else concerns a client.
                Some(_) | None => {}
            }
        }
    }

    fn on_failure(&mut self, failure: &Failure) -> ProgramEvent {
        self.finished = true;
        ProgramEvent::Failed(self.failed(&failure.message, &failure.detail))
    }

    /// The program's name, what it said, and the place if there is one; no backtraces.
    fn failed(&self, message: &str, detail: &str) -> anyhow::Error {
        let detail = detail.trim();
        let place = match detail.is_empty() || detail.contains('\n') || message.contains(detail) {
            true => String::new(),
            false => format!(" ({detail})"),
        };
        anyhow!("the program {} failed: {message}{place}", self.path.display())
    }
}

/// 16 random bytes.
pub(crate) fn random_id() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system has no random numbers")?;
    Ok(bytes)
}
