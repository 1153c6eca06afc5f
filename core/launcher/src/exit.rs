//! Reasons for the end of a host, in one sentence each; pure.
//!
//! Order of belief: first our own actions on the process, then its own last message, then the
//! signal, the exit code and the last lines of standard error.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use millstream_protocol::HOST_SOCKET_LOST;
use millstream_protocol::host::Failure;
use millstream_types::{ByteSize, CauseKind, FailureCause};

/// The cause if user code closed the socket: the engine's part of a host never does.
const CLOSED: &str =
    "user code closed the file descriptors of its process, its connection to the engine too";

/// The end of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProcessExit {
    /// The exit code, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// True if it has said hello, so that it is a program of ours.
    pub said_hello: bool,
    /// The reason in one sentence; also when it was asked to end.
    pub cause: FailureCause,
    /// The last that it wrote to standard error, at most 8 KiB.
    pub stderr_tail: String,
}

/// The reason for killing a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// It was told to stop and did not within this time (zero: it was killed at once).
    Requested { waited: Duration },
    /// It used too much memory.
    Memory { used: ByteSize, limit: ByteSize },
    /// It never said hello.
    SilentStart(Duration),
    /// It speaks another version; the sentence says which.
    Mismatch(String),
    /// Its messages do not follow the protocol.
    Malformed(String),
    /// It does not read its messages.
    NotReading(Duration),
    /// More messages wait for it than may.
    QueueFull,
    /// It closed its connection and went on.
    Closed,
}

/// All that is known of an ended host.
#[derive(Debug)]
pub(crate) struct ExitFacts<'a> {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) killed: Option<KillReason>,
    pub(crate) asked_to_stop: bool,
    pub(crate) said_hello: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) stderr_tail: &'a str,
    pub(crate) memory_limit: Option<ByteSize>,
}

impl ExitFacts<'_> {
    pub(crate) fn into_exit(self) -> HostProcessExit {
        let cause = self.cause();
        // The process's own message is complete; without one its last words are the detail.
        let cause = match cause {
            cause if cause.detail.is_empty() => cause.with_detail(self.stderr_tail),
            cause => cause,
        };
        HostProcessExit {
            exit_code: self.status.and_then(|status| status.code()),
            signal: self.status.and_then(|status| status.signal()),
            said_hello: self.said_hello,
            cause,
            stderr_tail: self.stderr_tail.to_owned(),
        }
    }

    fn cause(&self) -> FailureCause {
        if let Some(reason) = &self.killed {
            return self.kill_cause(reason);
        }
        if let Some(failure) = &self.failure {
            return failure_cause(failure);
        }
        let Some(status) = self.status else {
            return FailureCause::new(
                CauseKind::Exit,
                "the process is gone, its status is unknown",
            );
        };
        if self.asked_to_stop && status.success() {
            return FailureCause::new(CauseKind::Requested, "the process was stopped");
        }
        if status.code() == Some(HOST_SOCKET_LOST) && self.said_hello {
            let code = HOST_SOCKET_LOST;
            let sentence = format!("{CLOSED}, and the process ended (exit code {code})");
            return FailureCause::new(CauseKind::Exit, sentence);
        }
        if let Some(cause) = self.cause_from_stderr() {
            return cause;
        }
        match (status.signal(), status.code()) {
            (Some(signal), _) => FailureCause::new(CauseKind::Signal, signal_sentence(signal)),
            (None, code) if self.said_hello => FailureCause::new(
                CauseKind::Exit,
                format!("user code ended its process with exit code {}", code.unwrap_or(-1)),
            ),
            (None, code) => FailureCause::new(CauseKind::Start, self.no_hello(code.unwrap_or(-1))),
        }
    }

    /// A dynamic loader that lacks a library says so; else this is probably no program of ours.
    fn no_hello(&self, code: i32) -> String {
        if let Some(line) = self.last_line_with("error while loading shared libraries: ") {
            return format!("the program exited with code {code} before it said hello: {line}");
        }
        let last = self.stderr_tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let said = last.map(|line| format!(" (it wrote: {line})")).unwrap_or_default();
        format!(
            "the program exited with code {code} before it said hello{said}: it is not a \
             Millstream program; its main function must be the one of #[millstream::main]"
        )
    }

    fn kill_cause(&self, reason: &KillReason) -> FailureCause {
        match reason {
            KillReason::Requested { waited } if waited.is_zero() => {
                FailureCause::new(CauseKind::Requested, "the process was killed as asked")
            }
            KillReason::Requested { waited } => FailureCause::new(
                CauseKind::Requested,
                format!("the process did not stop within {waited:?} and was killed"),
            ),
            KillReason::Memory { used, limit } => FailureCause::new(
                CauseKind::Memory,
                format!(
                    "the process was killed for its memory: it used {}",
                    of_limit(*used, *limit)
                ),
            ),
            KillReason::SilentStart(timeout) => {
                FailureCause::new(CauseKind::Start, silent_start(*timeout))
            }
            KillReason::Mismatch(sentence) => {
                FailureCause::new(CauseKind::Mismatch, sentence.clone())
            }
            KillReason::Malformed(what) => FailureCause::new(
                CauseKind::Mismatch,
                format!("the process was killed: it does not keep to the host protocol: {what}"),
            ),
            KillReason::NotReading(timeout) => FailureCause::new(
                CauseKind::Stuck,
                format!("the process was killed: it did not read a message within {timeout:?}"),
            ),
            KillReason::QueueFull => FailureCause::new(
                CauseKind::Stuck,
                "the process was killed: it reads messages more slowly than they come",
            ),
            KillReason::Closed => {
                FailureCause::new(CauseKind::Exit, format!("{CLOSED}, and the process was killed"))
            }
        }
    }

    fn cause_from_stderr(&self) -> Option<FailureCause> {
        if self.status.is_some_and(|status| status.success()) {
            return None;
        }
        if let Some(line) = self.last_line_with("has overflowed its stack") {
            let sentence = format!("a stack overflow ended the process: {line}");
            return Some(FailureCause::new(CauseKind::Signal, sentence));
        }
        if let Some(line) = self.last_line_with("memory allocation of ") {
            let sentence = format!("the process ran out of memory: {}", self.asked_for(line));
            return Some(FailureCause::new(CauseKind::Memory, sentence));
        }
        // Panics are caught and reported; one that ends the process was in a place of its own
        // (a thread of the user's, a destructor) or the program aborts on panic.
        let at = self.stderr_tail.rfind(" panicked at ")?;
        let mut lines = self.stderr_tail.get(at..)?.lines();
        let place = lines.next()?.trim_start_matches(" panicked at ").trim_end_matches(':');
        let message = lines.next().unwrap_or_default();
        let sentence = format!("the process panicked at {place}: {message}");
        Some(FailureCause::new(CauseKind::Panic, sentence))
    }

    /// The size in an allocator's last line, in the unit of the limit.
    fn asked_for(&self, line: &str) -> String {
        let number = line.split("memory allocation of ").nth(1).unwrap_or_default();
        let number = number.split(' ').next().and_then(|number| number.parse().ok());
        match (number.map(ByteSize::from_bytes), self.memory_limit) {
            (Some(asked), Some(limit)) => {
                format!("it asked for {} more, its limit is {}", megabytes(asked), megabytes(limit))
            }
            (Some(asked), None) => format!("it asked for {} more", megabytes(asked)),
            (None, _) => line.to_owned(),
        }
    }

    fn last_line_with(&self, text: &str) -> Option<&str> {
        self.stderr_tail.lines().rev().find(|line| line.contains(text)).map(str::trim)
    }
}

/// The reason for killing a program that never said hello.
pub(crate) fn silent_start(timeout: Duration) -> String {
    format!(
        "the program did not say hello within {timeout:?} and was killed: it is not a Millstream \
         program, or it hangs before its main function"
    )
}

/// `80.5 mb of 64 mb`.
fn of_limit(used: ByteSize, limit: ByteSize) -> String {
    format!("{} of {}", megabytes(used), megabytes(limit))
}

/// Sizes that are compared need one unit.
fn megabytes(size: ByteSize) -> String {
    let tenths = u128::from(size.as_bytes()).saturating_mul(10).div_ceil(1 << 20);
    match tenths % 10 {
        0 => format!("{} mb", tenths / 10),
        rest => format!("{}.{rest} mb", tenths / 10),
    }
}

fn failure_cause(failure: &Failure) -> FailureCause {
    let kind = match failure.kind.as_str() {
        "panic" => CauseKind::Panic,
        "error" => CauseKind::Error,
        "fingerprint" | "mismatch" | "version" => CauseKind::Mismatch,
        other => CauseKind::from_name(other).unwrap_or(CauseKind::Exit),
    };
    FailureCause::new(kind, failure.message.clone()).with_detail(failure.detail.clone()).bounded()
}

fn signal_sentence(signal: i32) -> String {
    let (name, meaning) = match signal {
        libc::SIGABRT => ("SIGABRT", "it aborted"),
        libc::SIGSEGV => ("SIGSEGV", "it touched memory that it may not"),
        libc::SIGBUS => ("SIGBUS", "it touched memory that is not there"),
        libc::SIGILL => ("SIGILL", "it ran an instruction that this machine does not have"),
        libc::SIGFPE => ("SIGFPE", "a calculation went wrong"),
        libc::SIGKILL => ("SIGKILL", "someone or, for lack of memory, the kernel killed it"),
        libc::SIGTERM => ("SIGTERM", "someone asked it to end"),
        libc::SIGINT => ("SIGINT", "someone interrupted it"),
        libc::SIGHUP => ("SIGHUP", "its terminal is gone"),
        libc::SIGQUIT => ("SIGQUIT", "someone asked it to end"),
        libc::SIGPIPE => ("SIGPIPE", "nobody reads what it writes"),
        libc::SIGXCPU => ("SIGXCPU", "it used up its CPU time"),
        libc::SIGXFSZ => ("SIGXFSZ", "a file became too long"),
        libc::SIGSYS => ("SIGSYS", "it made a forbidden system call"),
        libc::SIGTRAP => ("SIGTRAP", "it hit a breakpoint"),
        other => return format!("signal {other} ended the process"),
    };
    format!("signal {name} ended the process: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: i32, stderr_tail: &str) -> ExitFacts<'_> {
        ExitFacts {
            status: Some(ExitStatus::from_raw(status)),
            killed: None,
            asked_to_stop: false,
            said_hello: true,
            failure: None,
            stderr_tail,
            memory_limit: Some(ByteSize::from_mib(64)),
        }
    }

    fn check(facts: ExitFacts<'_>, kind: CauseKind, sentence: &str) {
        let exit = facts.into_exit();
        assert_eq!((exit.cause.kind, exit.cause.message.as_str()), (kind, sentence));
    }

    #[test]
    fn our_own_kill_explains_the_signal() {
        let limit = ByteSize::from_mib(64);
        let killed = KillReason::Memory { used: ByteSize::from_mib(80), limit };
        check(
            ExitFacts { killed: Some(killed), ..facts(libc::SIGKILL, "") },
            CauseKind::Memory,
            "the process was killed for its memory: it used 80 mb of 64 mb",
        );
        check(
            facts(libc::SIGKILL, ""),
            CauseKind::Signal,
            "signal SIGKILL ended the process: someone or, for lack of memory, the kernel killed \
             it",
        );
    }

    #[test]
    fn what_the_host_said_beats_what_is_guessed() {
        let failure = Failure {
            kind: "panic".to_owned(),
            message: "map panicked: boom".to_owned(),
            detail: "src/main.rs:7".to_owned(),
        };
        let exit = ExitFacts { failure: Some(failure), ..facts(101 << 8, "noise") }.into_exit();
        assert_eq!(exit.cause.kind, CauseKind::Panic);
        assert_eq!(exit.cause.detail, "src/main.rs:7");
        assert_eq!(exit.exit_code, Some(101));
    }

    #[test]
    fn standard_error_tells_signals_apart() {
        check(
            facts(libc::SIGABRT, "\nthread 'slot-0' has overflowed its stack\nfatal runtime error"),
            CauseKind::Signal,
            "a stack overflow ended the process: thread 'slot-0' has overflowed its stack",
        );
        check(
            facts(libc::SIGABRT, "memory allocation of 1048576 bytes failed\n"),
            CauseKind::Memory,
            "the process ran out of memory: it asked for 1 mb more, its limit is 64 mb",
        );
        check(
            facts(libc::SIGABRT, "thread 'x' (7) panicked at src/a.rs:1:2:\nboom\nnote: run with"),
            CauseKind::Panic,
            "the process panicked at src/a.rs:1:2: boom",
        );
        check(
            facts(libc::SIGABRT, ""),
            CauseKind::Signal,
            "signal SIGABRT ended the process: it aborted",
        );
    }

    #[test]
    fn exits_are_told_apart() {
        check(facts(7 << 8, ""), CauseKind::Exit, "user code ended its process with exit code 7");
        check(
            ExitFacts { asked_to_stop: true, ..facts(0, "thread 'x' panicked at y:\nz") },
            CauseKind::Requested,
            "the process was stopped",
        );
        check(
            facts(HOST_SOCKET_LOST << 8, "thread 'x' panicked at y:\nz"),
            CauseKind::Exit,
            "user code closed the file descriptors of its process, its connection to the engine \
             too, and the process ended (exit code 113)",
        );
        let exit = ExitFacts { said_hello: false, ..facts(0, "") }.into_exit();
        assert_eq!(exit.cause.kind, CauseKind::Start);
        assert!(exit.cause.message.contains("is not a Millstream program"));
    }
}
