//! From errors and panics of user code to causes that people understand.

use std::any::Any;
use std::cell::RefCell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use millstream_checkpoint_storage::ReadError;
use millstream_network::{ExchangeError, InboxError};
use millstream_operators::Error;
use millstream_protocol::host::Failure;
use millstream_state::StateError;
use millstream_storage::StorageError;
use millstream_types::{Escaped, JobId, with_sources};

thread_local! {
    /// Where the last panic of this thread was, written by the hook.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Notes the place of each panic, in addition to the hook before it (which prints to standard
/// error).
pub fn install_panic_hook() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            PLACE.with(|slot| *slot.borrow_mut() = place);
            before(info);
        }));
    });
}

/// Takes the place of the last panic of this thread.
pub(crate) fn place_of_panic() -> Option<String> {
    PLACE.with(|slot| slot.borrow_mut().take())
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a panic without a message)")
}

/// Runs user code; its panic becomes a failure.
///
/// # Errors
/// What went wrong, in one sentence.
pub fn guard<R>(run: impl FnOnce() -> millstream_operators::Result<R>) -> Result<R, Failure> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(of_error(&error)),
        Err(payload) => Err(of_panic(payload.as_ref())),
    }
}

fn of_panic(payload: &(dyn Any + Send)) -> Failure {
    let place = place_of_panic();
    let message = panic_message(payload);
    let message = match &place {
        Some(place) => format!("user code panicked at {place}: {message}"),
        None => format!("user code panicked: {message}"),
    };
    Failure { kind: "panic".to_owned(), message, detail: String::new() }
}

/// Whether a task could not begin from its state, and never will.
fn is_of_restore(cause: &(dyn std::error::Error + 'static)) -> bool {
    let is_lost = match cause.downcast_ref() {
        Some(
            ReadError::Missing { .. }
            | ReadError::Truncated { .. }
            | ReadError::Altered { .. }
            | ReadError::Outside { .. },
        ) => true,
        Some(ReadError::TooLarge { .. } | ReadError::Storage(_)) | None => false,
    };
    let is_other = match cause.downcast_ref() {
        Some(
            StateError::Incompatible { .. }
            | StateError::KeyType { .. }
            | StateError::MaxParallelism { .. },
        ) => true,
        Some(_) | None => false,
    };
    is_lost || is_other
}

/// One sentence from an error and its causes.
pub fn of_error(error: &Error) -> Failure {
    let exchange = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(ExchangeError::Lost(_)))
            || matches!(cause.downcast_ref(), Some(InboxError::Lost(_)))
    });
    let storage = error.chain().any(|cause| {
        cause.downcast_ref::<StorageError>().is_some_and(StorageError::is_of_infrastructure)
    });
    let kind = match (exchange, storage) {
        (true, _) => "exchange",
        (false, true) => "storage",
        (false, false) if error.chain().any(is_of_restore) => "state",
        (false, false) => "error",
    };
    Failure { kind: kind.to_owned(), message: with_sources(error.as_ref()), detail: String::new() }
}

/// Writes to standard error, which ends up in the worker's `.out` file, whose failure this is: what
/// a panic prints names neither job nor task.
pub fn note(job: JobId, task: Option<&str>, message: &str) {
    let task = task.map(|task| format!(", task {task}")).unwrap_or_default();
    let line = format!("job {job}{task}: {message}");
    // Standard error may be closed by user code.
    let _ = writeln!(std::io::stderr(), "{}", Escaped::line(&line));
}

/// A failure of the host itself.
pub fn of_kind(kind: &str, message: impl Into<String>) -> Failure {
    Failure { kind: kind.to_owned(), message: message.into(), detail: String::new() }
}

#[cfg(test)]
mod tests {
    use millstream_storage::FilePath;

    use super::*;

    #[test]
    fn a_panic_is_told_with_its_message_and_place() {
        install_panic_hook();
        let failure = guard(|| -> millstream_operators::Result<()> { panic!("no {}", "luck") });
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind, "panic");
        assert!(failure.message.starts_with("user code panicked at "), "{failure:?}");
        assert!(failure.message.ends_with(": no luck"), "{failure:?}");
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = millstream_operators::error!("disk full").context("sink \"x\" failed");
        assert_eq!(of_error(&error).message, "sink \"x\" failed: disk full");
    }

    /// A connector's error around that of a file system.
    #[derive(Debug, thiserror::Error)]
    #[error("the output cannot be written")]
    struct Wrapped(#[from] StorageError);

    #[test]
    fn a_storage_that_is_away_is_no_error_of_the_user() {
        let path = || FilePath::from("hdfs://nn:8020/x");
        let away = || StorageError::Unavailable {
            action: "open",
            path: path(),
            reason: "SafeModeException: Name node is in safe mode".to_owned(),
        };
        let failure = of_error(&Error::from(away()).context("sink \"x\" failed"));
        assert_eq!(failure.kind, "storage");
        assert!(failure.message.contains("SafeModeException"), "{failure:?}");
        let failure = of_error(&Wrapped(away()).into());
        let message = format!("the output cannot be written: {}", away());
        assert_eq!((failure.kind.as_str(), failure.message), ("storage", message));
        let reason = "its DataNode died".to_owned();
        let path = path();
        let lost = StorageError::Lost { path: path.clone(), reason };
        assert_eq!(of_error(&lost.into()).kind, "storage");
        assert_eq!(of_error(&StorageError::NotFound { path }.into()).kind, "error");
    }
}
