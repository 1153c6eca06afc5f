//! Answers and errors in Flink's shape, and bodies read within limits.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use millstream_gateway::{Stopped, SubmitJobError, UnknownJob};
use millstream_rest_types::{EmptyBody, ErrorBody};
use millstream_types::with_sources;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::artifacts::StoreError;

/// The largest JSON body.
const JSON_BYTES_MAX: usize = 1 << 20;
/// The longest complaint about a body, in characters.
const FAULT_CHARS_MAX: usize = 400;
/// Time that a client has to send a small body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// Time that a client may pause in the middle of a large body.
const CHUNK_DEADLINE: Duration = Duration::from_secs(20);

/// Time that a whole upload may take.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(600);

/// Runs an upload up to its deadline.
pub(super) async fn within_deadline<T>(upload: impl Future<Output = Answer<T>>) -> Answer<T> {
    tokio::time::timeout(UPLOAD_DEADLINE, upload).await.unwrap_or_else(|_| Err(too_slow()))
}

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Json<T>(pub StatusCode, pub T);

impl Json<EmptyBody> {
    /// `{}`.
    pub(super) fn empty() -> Self {
        Self::from(EmptyBody {})
    }

    /// `{}` for an action that goes on after the answer.
    pub(super) fn accepted() -> Self {
        Self(StatusCode::ACCEPTED, EmptyBody {})
    }
}

impl<T> From<T> for Json<T> {
    fn from(body: T) -> Self {
        Self(StatusCode::OK, body)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // A value's objects have their fields by name, however the type declares them.
        let (status, text) = match serde_json::to_value(&self.1) {
            Ok(value) => (self.0, value.to_string()),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, unwritable(&error).to_string()),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json; charset=UTF-8");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// The body of an answer that JSON has no form for.
fn unwritable(error: &serde_json::Error) -> serde_json::Value {
    serde_json::json!({ "errors": [format!("the answer cannot be written: {error}")] })
}

/// A refusal: a status and one sentence.
#[derive(Debug)]
pub(super) struct RestError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

pub(super) type Answer<T = EmptyBody> = Result<Json<T>, RestError>;

impl RestError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Refuses a feature of Flink that this version lacks.
    pub(super) fn not_here(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        Json(self.status, ErrorBody { errors: vec![self.message] }).into_response()
    }
}

impl From<UnknownJob> for RestError {
    fn from(error: UnknownJob) -> Self {
        Self::not_found(format!("Job {} not found", error.0))
    }
}

impl From<Stopped> for RestError {
    fn from(_: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the cluster is shutting down")
    }
}

impl From<SubmitJobError> for RestError {
    fn from(error: SubmitJobError) -> Self {
        let status = match &error {
            SubmitJobError::Duplicate { .. } => StatusCode::CONFLICT,
            SubmitJobError::UnknownArtifact { .. } => StatusCode::NOT_FOUND,
            SubmitJobError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<StoreError> for RestError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            StoreError::WrongHash { .. } | StoreError::Empty => StatusCode::BAD_REQUEST,
            StoreError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, with_sources(&error))
    }
}

/// The part of a request that has a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Path,
    Query,
    Body,
}

/// Reads an id or a number of the path.
pub(super) fn parse_id<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, RestError> {
    parse_from(Place::Path, name, text)
}

/// Reads an id or a number; the complaint says where it stands.
pub(super) fn parse_from<T: std::str::FromStr>(
    place: Place,
    name: &str,
    text: &str,
) -> Result<T, RestError> {
    text.parse().map_err(|_| {
        let what = match place {
            Place::Path => "path parameter",
            Place::Query => "query parameter",
            Place::Body => "field of the body",
        };
        let shown = shortened(text);
        RestError::bad(format!("Cannot resolve {what} ({name}) from value {shown:?}."))
    })
}

/// The beginning of a text from outside, for a complaint about it.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(body: Body, limit: usize) -> Result<Bytes, RestError> {
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(RestError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request's body is larger than {limit} bytes"),
        )),
        Ok(Err(_)) => Err(RestError::bad("the request's body ended early or is malformed")),
        Err(_) => Err(too_slow()),
    }
}

/// Reads a JSON body; an empty one is the default.
pub(super) async fn read_json<T: DeserializeOwned + Default>(body: Body) -> Result<T, RestError> {
    let bytes = read_body(body, JSON_BYTES_MAX).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        // It quotes the body.
        let error: String = error.to_string().chars().take(FAULT_CHARS_MAX).collect();
        RestError::bad(format!("the request's body is not as expected: {error}"))
    })
}

/// Reads the next bytes of a large body; none at its end. Trailers are skipped.
pub(super) async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, RestError> {
    loop {
        let frame = tokio::time::timeout(CHUNK_DEADLINE, body.frame()).await;
        match frame.map_err(|_| too_slow())? {
            None => return Ok(None),
            Some(Err(_)) => return Err(RestError::bad("the upload ended early or is malformed")),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

pub(super) fn too_slow() -> RestError {
    RestError::new(StatusCode::REQUEST_TIMEOUT, "the request's body came too slowly")
}
