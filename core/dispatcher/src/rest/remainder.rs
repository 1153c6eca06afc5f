//! Reads and discards the rest of a request's body before the answer is sent.
//!
//! A client that is still writing when the server closes the connection sees a reset instead of the
//! answer. That must not happen to any refusal, so the whole service is wrapped in [`drained`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

/// Time that a client may pause.
const CHUNK_DEADLINE: Duration = Duration::from_secs(20);
/// Time that reading all of it may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// A body that is read by a handler first, and by [`drained`] afterwards.
#[derive(Debug, Clone)]
struct SharedBody(Arc<Mutex<BodyState>>);

#[derive(Debug)]
struct BodyState {
    body: Body,
    /// The handler asked for bytes: until then a client that waits for `100 Continue` sends none.
    begun: bool,
}

impl SharedBody {
    fn state(&self) -> MutexGuard<'_, BodyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = self.state();
        state.begun = true;
        Pin::new(&mut state.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.state().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}

/// Answers with `answer`, then reads up to `limit` bytes that it has left of the body. If there are
/// more, the connection is closed after the answer.
pub(super) async fn drained<F: Future<Output = Response>>(
    request: Request,
    limit: u64,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return answer(Request::from_parts(parts, body)).await;
    }
    let waits = waits_for_continue(&parts.headers);
    let body = SharedBody(Arc::new(Mutex::new(BodyState { body, begun: false })));
    let mut response = answer(Request::from_parts(parts, Body::new(body.clone()))).await;
    let unsent = waits && !body.state().begun;
    // A client that was too slow once is not waited for again.
    let hopeless = response.status() == StatusCode::REQUEST_TIMEOUT;
    if unsent || hopeless || !discard(body, limit).await {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads a body to its end without keeping it; `false` if there is more than `limit`.
async fn discard(mut body: SharedBody, limit: u64) -> bool {
    let all = async {
        let mut seen = 0_u64;
        while seen <= limit {
            match tokio::time::timeout(CHUNK_DEADLINE, body.frame()).await {
                Ok(None) => return true,
                Ok(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    seen = seen.saturating_add(length);
                }
                Ok(Some(Err(_))) | Err(_) => return false,
            }
        }
        false
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap_or(false)
}
