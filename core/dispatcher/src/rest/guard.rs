//! Protection against web pages that use a visitor's browser to reach this server.
//!
//! - *DNS rebinding*: a page of an evil name whose address is now ours. Its requests carry that
//!   name as `Host`; only `localhost`, IP addresses and our own names are answered.
//! - *Cross-site requests*: a page that posts a form or a `fetch` here. Browsers say so by `Origin`
//!   or `Sec-Fetch-Site`; such requests may read (CORS) but not change anything.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Context;
use super::answer::RestError;
use super::remainder::drained;

/// Checks the request, and adds the headers that every answer has.
pub(super) async fn guard(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Response {
    let limit = context.config.content_length_max.as_bytes();
    let answer = async |request: Request| match check(&context.config.host_names, &request) {
        Ok(()) => in_shape(next.run(request).await).await,
        Err(refusal) => refusal.into_response(),
    };
    let mut response = drained(request, limit, answer).await;
    const ALWAYS: [(HeaderName, &str); 3] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ];
    for (name, value) in ALWAYS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Gives refusals that were made before a handler ran the shape of all others.
async fn in_shape(response: Response) -> Response {
    const REFUSAL_BYTES_MAX: usize = 4096;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let refusal = status.is_client_error() || status.is_server_error();
    if !refusal || kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), REFUSAL_BYTES_MAX).await;
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    RestError::new(status, text).into_response()
}

fn check(host_names: &[String], request: &Request) -> Result<(), RestError> {
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(RestError::bad("the request has two Host headers")),
        (Some(authority), _, _) => Some(authority),
        (None, Some(host), None) => Some(host.to_str().unwrap_or("?")),
        (None, None, None) => None,
    };
    match host {
        None if request.version() <= Version::HTTP_10 => {}
        None => return Err(RestError::bad("the request has no Host header")),
        Some(host) if is_own(host, host_names) => {}
        Some(host) => {
            let shown: String = host.chars().take(64).collect();
            return Err(RestError::new(
                StatusCode::FORBIDDEN,
                format!(
                    "this server is not called {shown:?}: use localhost, its address, or the name \
                     in rest.address"
                ),
            ));
        }
    }
    if changes_something(request) && is_cross_site(request.headers(), host) {
        return Err(RestError::new(
            StatusCode::FORBIDDEN,
            "a page of another site may not change anything here",
        ));
    }
    Ok(())
}

fn changes_something(request: &Request) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let path = request.uri().path();
    let ends_a_job = path.ends_with("/yarn-cancel") || path.ends_with("/yarn-stop");
    !reads || ends_a_job || path.ends_with("/plan") && path.contains("/jars/")
}

fn is_own(host: &str, host_names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || host_names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text("origin") else { return false };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_none() || authority != host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(host: &str) -> bool {
        is_own(host, &["jobs.example".to_owned()])
    }

    #[test]
    fn only_own_names_and_addresses_are_answered() {
        for host in ["localhost", "LocalHost:8081", "127.0.0.1:1", "[::1]:8081", "jobs.example"] {
            assert!(own(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example", "["] {
            assert!(!own(host), "{host}");
        }
    }

    #[test]
    fn other_origins_are_cross_site() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            is_cross_site(&headers, Some("localhost:8081"))
        };
        assert!(!is_cross_site(&HeaderMap::new(), None));
        assert!(!with("origin", "http://localhost:8081"));
        assert!(!with("sec-fetch-site", "same-origin"));
        for origin in ["http://localhost:8082", "null", "http://evil.example"] {
            assert!(with("origin", origin), "{origin}");
        }
        assert!(with("sec-fetch-site", "cross-site"));
    }
}
