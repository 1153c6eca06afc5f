//! A user's program that plans: its parent decides what becomes of its graphs.

use std::time::Duration;

use millstream_graph::JobSettings;
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{Answer, Begin, Failure, Role, ToHost, answer, from_host, to_host};

use crate::{HostEvents, HostProcess, HostProcessEvent, HostSpec, inspect_artifact};

/// What a program does next.
#[derive(Debug)]
pub enum ProgramEvent {
    /// It called `execute`.
    Planned(Box<millstream_protocol::job::JobGraph>),
    /// Its build function returned, after so many `execute` calls.
    Finished {
        /// How many.
        executes: u32,
    },
    /// Someone interrupted it from the terminal.
    Interrupted,
    /// It failed, and this is why.
    Failed(ProgramFailed),
    /// Its process has ended; the last event.
    Ended,
}

/// A program could not be started, or failed by itself; retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProgramFailed(String);

/// A program that runs as our child; it ends with this value.
#[derive(Debug)]
pub struct Program {
    process: HostProcess,
    events: HostEvents,
    name: String,
    finished: bool,
}

impl Program {
    /// Starts a program in one of the roles that plan. The executable's path must be absolute.
    ///
    /// # Errors
    /// It is no artifact for this machine, or cannot be started.
    pub async fn start(
        spec: HostSpec,
        role: Role,
        settings: &JobSettings,
    ) -> Result<Self, ProgramFailed> {
        let (path, host) = (spec.executable.clone(), spec.host);
        let name = path.display().to_string();
        let cannot = |why: String| ProgramFailed(format!("cannot run {name}: {why}"));
        let inspected = tokio::task::spawn_blocking(move || inspect_artifact(&path)).await;
        match inspected {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(cannot(error.to_string())),
            Err(error) => return Err(cannot(error.to_string())),
        }
        let spawned = HostProcess::spawn(spec).await;
        let (process, events) = spawned.map_err(|error| cannot(error.to_string()))?;
        let begin = Begin {
            role: role.into(),
            major: HOST_PROTOCOL.major,
            minor: HOST_PROTOCOL.minor,
            settings: Some(settings.into()),
            host_id: host.as_bytes().to_vec(),
            ..Begin::default()
        };
        let message = to_host::Message::Begin(begin);
        // If it is gone already, its last event says why.
        let _ = process.send(&ToHost { message: Some(message) });
        Ok(Self { process, events, name, finished: false })
    }

    /// Tells the program what became of its last graph.
    pub fn answer(&self, answer: answer::Answer) {
        let message = to_host::Message::Answer(Answer { answer: Some(answer) });
        let _ = self.process.send(&ToHost { message: Some(message) });
    }

    /// Lets the program end, or ends it.
    pub fn stop(&self) {
        self.process.stop(Duration::ZERO);
    }

    /// What it does next. Cancel-safe.
    pub async fn next(&mut self) -> ProgramEvent {
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
                // Nothing else concerns whoever only plans.
                Some(_) | None => {}
            }
        }
    }

    fn on_failure(&mut self, failure: &Failure) -> ProgramEvent {
        self.finished = true;
        ProgramEvent::Failed(self.failed(&failure.message, &failure.detail))
    }

    /// The program's name, what it said, and the place if there is one; no backtraces.
    fn failed(&self, message: &str, detail: &str) -> ProgramFailed {
        let detail = detail.trim();
        let place = match detail.is_empty() || detail.contains('\n') || message.contains(detail) {
            true => String::new(),
            false => format!(" ({detail})"),
        };
        ProgramFailed(format!("the program {} failed: {message}{place}", self.name))
    }
}
