//! From what a host says, or how it ended, to a cause that names what really went wrong.

use millstream_gateway::{CauseKind, FailureCause, HostExit};
use millstream_protocol::host::Failure;

/// Beginnings of what a dying Rust program writes, each with how many lines belong to it.
const LAST_WORDS: [(&str, usize); 3] =
    [("panicked at ", 2), ("has overflowed its stack", 1), ("memory allocation of ", 1)];

/// A line of standard error is quoted up to this length.
const QUOTED_CHARS_MAX: usize = 300;

/// The cause that a host reports.
pub(crate) fn of_failure(failure: Failure) -> FailureCause {
    let kind = match failure.kind.as_str() {
        "panic" => CauseKind::Panic,
        "error" => CauseKind::Error,
        "mismatch" | "fingerprint" | "protocol" => CauseKind::Mismatch,
        "exchange" => CauseKind::Exchange,
        "stuck" => CauseKind::Stuck,
        "commit" => CauseKind::Commit,
        "memory" => CauseKind::Memory,
        "start" => CauseKind::Start,
        name => CauseKind::from_name(name).unwrap_or(CauseKind::Error),
    };
    let message = match failure.message.is_empty() {
        true => "failed without saying why".to_owned(),
        false => failure.message,
    };
    FailureCause { kind, message, detail: failure.detail }
}

/// The cause of a process's unexpected end: how it ended, and its own last words if it had any.
pub(crate) fn of_exit(exit: &HostExit) -> FailureCause {
    let mut cause = exit.cause.clone();
    let tail = exit.stderr_tail.trim_end();
    if let Some(words) = last_words(tail).filter(|words| !cause.message.contains(words)) {
        cause.message = format!("{}: {words}", cause.message);
    }
    if !tail.is_empty() && !cause.detail.contains(tail) {
        if !cause.detail.is_empty() {
            cause.detail.push('\n');
        }
        cause.detail.push_str("last lines of standard error:\n");
        cause.detail.push_str(tail);
    }
    cause
}

/// The newest panic, overflow or failed allocation in the last lines of standard error.
fn last_words(tail: &str) -> Option<String> {
    let lines: Vec<&str> = tail.lines().collect();
    let (at, count) = lines.iter().enumerate().rev().find_map(|(at, line)| {
        let (_, count) = LAST_WORDS.iter().find(|(part, _)| line.contains(part))?;
        Some((at, *count))
    })?;
    let words: Vec<&str> = lines.iter().skip(at).take(count).map(|line| line.trim()).collect();
    Some(words.join(" ").trim().chars().take(QUOTED_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use millstream_types::HostId;

    use super::*;

    fn exit(stderr: &str) -> FailureCause {
        of_exit(&HostExit {
            host: HostId::from_u128(1),
            cause: FailureCause::new(CauseKind::Signal, "the task host was killed by SIGABRT"),
            stderr_tail: stderr.to_owned(),
        })
    }

    #[test]
    fn a_panic_in_the_last_lines_is_quoted_with_its_place() {
        let cause =
            exit("starting\nthread 'x' (7) panicked at src/main.rs:3:5:\nboom\nnote: run\n");
        assert_eq!(
            cause.message,
            "the task host was killed by SIGABRT: \
             thread 'x' (7) panicked at src/main.rs:3:5: boom"
        );
        assert!(cause.detail.starts_with("last lines of standard error:\nstarting\n"));
    }

    #[test]
    fn a_stack_overflow_is_quoted() {
        let cause = exit("\nthread 'slot-0' has overflowed its stack\nfatal runtime error: stack");
        assert!(cause.message.ends_with(": thread 'slot-0' has overflowed its stack"));
    }

    #[test]
    fn silence_adds_nothing() {
        let cause = exit("");
        assert_eq!(cause, FailureCause::new(CauseKind::Signal, cause.message.clone()));
    }

    #[test]
    fn kinds_are_read_in_both_spellings_and_unknown_ones_are_errors() {
        let kind = |kind: &str| {
            of_failure(Failure { kind: kind.into(), message: "m".into(), detail: String::new() })
                .kind
        };
        assert_eq!(kind("panic"), CauseKind::Panic);
        assert_eq!(kind("UserPanic"), CauseKind::Panic);
        assert_eq!(kind("exchange"), CauseKind::Exchange);
        assert_eq!(kind("gremlins"), CauseKind::Error);
    }
}
