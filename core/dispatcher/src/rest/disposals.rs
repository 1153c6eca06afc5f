//! The disposal of savepoints.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_rest_types::operations::{
    AsynchronousOperationInfo, AsynchronousOperationResult, SavepointDisposalRequest,
    TriggerResponse,
};
use millstream_types::TriggerId;

use super::answer::{Answer, RestError, parse_id, read_json};
use super::savepoints::{checked_path, trigger_of};
use super::{Shared, render};
use crate::disposal::Refused;

/// Starts the disposal of a savepoint.
pub(super) async fn start(State(context): Shared, body: Body) -> Answer<TriggerResponse> {
    let body: SavepointDisposalRequest = read_json(body).await?;
    let trigger = trigger_of(body.trigger_id)?;
    let path = checked_path("savepoint-path", body.savepoint_path)?;
    let path = path.ok_or_else(|| {
        RestError::bad("the body must have savepoint-path, the directory of a savepoint")
    })?;
    match context.services.disposals.start(trigger, path) {
        Ok(()) => Ok(TriggerResponse { request_id: trigger }.into()),
        Err(Refused::OtherPath) => {
            let message = format!("triggerId={trigger} is the disposal of another savepoint");
            Err(RestError::new(StatusCode::CONFLICT, message))
        }
        Err(Refused::Full) => {
            let message = "too many savepoints are being disposed of: try again later";
            Err(RestError::new(StatusCode::SERVICE_UNAVAILABLE, message))
        }
    }
}

/// Shows the outcome of a disposal.
pub(super) async fn outcome(
    State(context): Shared,
    Path(trigger): Path<String>,
) -> Answer<AsynchronousOperationResult<AsynchronousOperationInfo>> {
    let trigger: TriggerId = parse_id("triggerid", &trigger)?;
    let disposal = context.services.disposals.get(trigger);
    let unknown = || format!("There is no operation with triggerId={trigger}.");
    let disposal = disposal.ok_or_else(|| RestError::not_found(unknown()))?;
    Ok(render::operation::disposal(&disposal).into())
}
