//! Turns reports of hosts, and their ends, into the causes that people see.

use millstream_gateway::{CauseKind, FailureCause, HostExit};
use millstream_protocol::host::Failure;

/// The cause that a host reports.
pub(crate) fn of_failure(failure: Failure) -> FailureCause {
    let kind = match failure.kind.as_str() {
        "panic" => CauseKind::Panic,
        "error" => CauseKind::Error,
        "mismatch" | "fingerprint" | "protocol" => CauseKind::Mismatch,
        "exchange" => CauseKind::Exchange,
        "stuck" => CauseKind::Stuck,
        "commit" => CauseKind::Commit,
        "state" => CauseKind::State,
        "storage" => CauseKind::Storage,
        "memory" => CauseKind::Memory,
        "start" => CauseKind::Start,
        name => CauseKind::from_name(name).unwrap_or(CauseKind::Error),
    };
    let message = match failure.message.is_empty() {
        true => "failed without saying why".to_owned(),
        false => failure.message,
    };
    FailureCause { kind, message, detail: failure.detail }.bounded()
}

/// The cause of a process's unexpected end, with its last output. Its supervisor has read a panic
/// or an overflow out of those lines already.
pub(crate) fn of_exit(exit: &HostExit) -> FailureCause {
    let mut cause = exit.cause.clone();
    let tail = exit.stderr_tail.trim_end();
    if !cause.detail.contains(tail) {
        let above = if cause.detail.is_empty() { "" } else { "\n" };
        cause.detail = format!("{}{above}last lines of standard error:\n{tail}", cause.detail);
    }
    cause
}

#[cfg(test)]
mod tests {
    use millstream_types::HostId;

    use super::*;

    fn exit(detail: &str, stderr: &str) -> String {
        let cause = FailureCause::new(CauseKind::Signal, "killed").with_detail(detail);
        let (host, stderr_tail) = (HostId::from_u128(1), stderr.to_owned());
        of_exit(&HostExit { host, cause, stderr_tail }).detail
    }

    #[test]
    fn the_last_lines_are_in_the_detail_once() {
        assert_eq!(exit("", "so long\n"), "last lines of standard error:\nso long");
        assert_eq!(exit("at x.rs:1", "so"), "at x.rs:1\nlast lines of standard error:\nso");
        assert_eq!(exit("so long\n", "so long\n"), "so long\n");
        assert_eq!(exit("", ""), "");
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
