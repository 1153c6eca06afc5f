//! A user's program that plans: its parent decides the fate of its graphs.

use std::time::Duration;

use millstream_graph::JobSettings;
use millstream_protocol::host::{
    Answer, Begin, Failure, JobQuery, Role, ToHost, answer, from_host, to_host,
};
use millstream_protocol::{HOST_PROTOCOL, HOST_SOCKET_LOST, NEVER_EXECUTED};
use millstream_types::{CauseKind, FailureCause};
use tokio::time::Instant;

use crate::exit::silent_start;
use crate::{
    HostEvents, HostProcess, HostProcessEvent, HostProcessExit, HostSpec, inspect_artifact,
};

/// The next step of a program.
#[derive(Debug)]
pub enum ProgramEvent {
    /// It called `execute`.
    Planned(Box<millstream_protocol::job::JobGraph>),
    /// It asks after one of its jobs, or cancels it.
    Asked(JobQuery),
    /// Its build function returned, after at least one `execute` call.
    Finished,
    /// Someone interrupted it from the terminal.
    Interrupted,
    /// It failed, and this is why.
    Failed(ProgramFailed),
    /// Its process has ended; the last event.
    Ended,
}

/// A program could not be started, or failed by itself; retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {message}{}", self.place())]
pub struct ProgramFailed {
    what: String,
    message: String,
    detail: String,
}

impl ProgramFailed {
    /// The reason, without the program's name.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The place of a panic, or the last lines of standard error. May be empty.
    #[must_use]
    pub fn detail(&self) -> &str {
        self.detail.trim()
    }

    /// The place, if the detail is one; no backtraces.
    fn place(&self) -> String {
        let detail = self.detail();
        match detail.is_empty() || detail.contains('\n') || self.message.contains(detail) {
            true => String::new(),
            false => format!(" ({detail})"),
        }
    }
}

/// A program that runs as our child; it ends with this value.
#[derive(Debug)]
pub struct ProgramProcess {
    process: HostProcess,
    events: HostEvents,
    name: String,
    finished: bool,
    /// Until when it must have called `execute`, and how long that is from its start.
    deadline: Option<(Instant, Duration)>,
    /// It has not, and is ended.
    timed_out: Option<Duration>,
}

impl ProgramProcess {
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
        let cannot = |message: String| {
            let what = format!("cannot run {name}");
            ProgramFailed { what, message, detail: String::new() }
        };
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
        Ok(Self { process, events, name, finished: false, deadline: None, timed_out: None })
    }

    /// Fails the program if it has not called `execute` after this time
    /// (`millstream.plan.timeout`).
    #[must_use]
    pub fn with_plan_timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout).map(|due| (due, timeout));
        self
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

    /// Waits for its next step. Cancel-safe.
    pub async fn next(&mut self) -> ProgramEvent {
        loop {
            let event = match self.deadline {
                None => self.events.next().await,
                Some((due, timeout)) => {
                    match tokio::time::timeout_at(due, self.events.next()).await {
                        Ok(event) => event,
                        Err(_) => {
                            // Its exit says whether it was a program of ours.
                            (self.deadline, self.timed_out) = (None, Some(timeout));
                            self.stop();
                            continue;
                        }
                    }
                }
            };
            let message = match event {
                None => return ProgramEvent::Ended,
                Some(HostProcessEvent::Exited(_)) if self.finished => return ProgramEvent::Ended,
                Some(HostProcessEvent::Exited(exit)) if exit.signal == Some(libc::SIGINT) => {
                    return ProgramEvent::Interrupted;
                }
                Some(HostProcessEvent::Exited(exit)) => return self.on_exit(exit),
                Some(HostProcessEvent::Message(message)) => message.message,
            };
            match message {
                _ if self.timed_out.is_some() => {}
                Some(from_host::Message::Planned(graph)) => {
                    self.deadline = None;
                    return ProgramEvent::Planned(Box::new(graph));
                }
                Some(from_host::Message::JobQuery(query)) => return ProgramEvent::Asked(query),
                Some(from_host::Message::Failure(failure)) => return self.on_failure(failure),
                Some(from_host::Message::Finished(finished)) => {
                    return match finished.failure {
                        Some(failure) => self.on_failure(failure),
                        None if finished.executes == 0 => self.fail(NEVER_EXECUTED, ""),
                        None => {
                            (self.finished, self.deadline) = (true, None);
                            ProgramEvent::Finished
                        }
                    };
                }
                // Nothing else concerns a parent that only plans.
                Some(_) | None => {}
            }
        }
    }

    /// The process ended before its build function had returned.
    fn on_exit(&mut self, exit: HostProcessExit) -> ProgramEvent {
        if let Some(timeout) = self.timed_out {
            let message = match exit.said_hello {
                false => silent_start(timeout),
                true => format!(
                    "it has not called execute within {timeout:?} (millstream.plan.timeout): its \
                     build function hangs or does too much"
                ),
            };
            return self.fail(message, exit.stderr_tail);
        }
        match exit.exit_code {
            Some(code) if exit.cause.kind == CauseKind::Exit && code != HOST_SOCKET_LOST => {
                let message = format!(
                    "its process ended with exit code {code} before the build function returned: \
                     return from it instead of calling exit"
                );
                self.fail(message, exit.stderr_tail)
            }
            _ => self.fail(exit.cause.message, exit.stderr_tail),
        }
    }

    fn on_failure(&mut self, failure: Failure) -> ProgramEvent {
        self.fail(failure.message, failure.detail)
    }

    fn fail(&mut self, message: impl Into<String>, detail: impl Into<String>) -> ProgramEvent {
        (self.finished, self.deadline) = (true, None);
        let what = format!("the program {} failed", self.name);
        let cause = FailureCause::new(CauseKind::Error, message).with_detail(detail).bounded();
        let FailureCause { message, detail, .. } = cause;
        ProgramEvent::Failed(ProgramFailed { what, message, detail })
    }
}
