//! Results of operations: checkpoints and savepoints on request, and disposals.

use base64::Engine as _;
use millstream_gateway::{RequestDetails, RequestState};
use millstream_rest_types::jobs::SerializedThrowable;
use millstream_rest_types::operations::{
    AsynchronousOperationInfo, AsynchronousOperationResult, CheckpointInfo, SavepointInfo,
};
use millstream_types::JobStatus;

use crate::disposal::Disposal;
use crate::java::serialized_throwable;

/// A failure for Flink's Java clients.
pub(super) fn throwable(class: &str, message: &str, trace: String) -> SerializedThrowable {
    let blob = serialized_throwable(class, message, &trace);
    SerializedThrowable {
        class: class.to_owned(),
        stack_trace: trace,
        serialized_throwable: base64::engine::general_purpose::STANDARD.encode(blob),
    }
}

fn failure(class: &str, message: &str) -> SerializedThrowable {
    throwable(class, message, format!("{class}: {message}"))
}

/// A request whose job has ended goes on no more.
fn unfinished(what: &str, status: JobStatus) -> Option<String> {
    let ended = status.is_globally_terminal();
    ended.then(|| format!("the job has ended ({status}) before the {what} was complete"))
}

/// A savepoint, or a stop with one, of a job in this status.
pub(in crate::rest) fn savepoint(
    request: &RequestDetails,
    status: JobStatus,
) -> AsynchronousOperationResult<SavepointInfo> {
    let failed = |reason: &str| {
        let failure_cause = Some(failure("SavepointFailed", reason));
        AsynchronousOperationResult::completed(SavepointInfo { location: None, failure_cause })
    };
    match &request.state {
        RequestState::InProgress => match unfinished("savepoint", status) {
            Some(reason) => failed(&reason),
            None => AsynchronousOperationResult::in_progress(),
        },
        RequestState::Complete { location: Some(location), .. } => {
            let location = Some(location.clone());
            AsynchronousOperationResult::completed(SavepointInfo { location, failure_cause: None })
        }
        RequestState::Complete { checkpoint, location: None } => {
            failed(&format!("the job does not say where the savepoint {checkpoint} is"))
        }
        RequestState::Failed(reason) => failed(reason),
    }
}

/// A checkpoint of a job in this status.
pub(in crate::rest) fn checkpoint(
    request: &RequestDetails,
    status: JobStatus,
) -> AsynchronousOperationResult<CheckpointInfo> {
    let failed = |reason: &str| {
        let failure_cause = Some(failure("CheckpointFailed", reason));
        AsynchronousOperationResult::completed(CheckpointInfo {
            checkpoint_id: None,
            failure_cause,
        })
    };
    match &request.state {
        RequestState::InProgress => match unfinished("checkpoint", status) {
            Some(reason) => failed(&reason),
            None => AsynchronousOperationResult::in_progress(),
        },
        RequestState::Complete { checkpoint, .. } => {
            let checkpoint_id = Some(checkpoint.get());
            AsynchronousOperationResult::completed(CheckpointInfo {
                checkpoint_id,
                failure_cause: None,
            })
        }
        RequestState::Failed(reason) => failed(reason),
    }
}

/// The disposal of a savepoint.
pub(in crate::rest) fn disposal(
    disposal: &Disposal,
) -> AsynchronousOperationResult<AsynchronousOperationInfo> {
    let failure_cause = match disposal {
        Disposal::Running => return AsynchronousOperationResult::in_progress(),
        Disposal::Done(outcome) => outcome.as_ref().err(),
    };
    let failure_cause = failure_cause.map(|reason| failure("DisposalFailed", reason));
    AsynchronousOperationResult::completed(AsynchronousOperationInfo { failure_cause })
}
