//! The cluster's REST interface: one connection per call, answers as JSON.
//!
//! The first call of a command fails at once if no server listens, because the address is probably
//! wrong. Once the cluster has answered, a connection that fails and "no leader" (503) are retried
//! as `rest.retry.*` says: its master may be on the way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use millstream_config::{Configuration, options};
use millstream_rest_types::ErrorBody;
use millstream_security::rustls::ClientConfig;
use millstream_security::{Credentials, Role, Stream};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::fs::File;
use tokio::net::TcpStream;
use tokio_util::io::ReaderStream;

use crate::arguments::ClusterArguments;

/// No answer that a client needs is longer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

type Body = BoxBody<Bytes, std::io::Error>;

/// The body of a call.
pub(crate) enum Content {
    None,
    Bytes { kind: &'static str, bytes: Bytes },
    File { path: std::path::PathBuf, size: u64 },
}

/// An answer: the status, and the JSON or null.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    json: Value,
}

impl Answer {
    /// Reads the body of a call that worked.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T> {
        if !self.status.is_success() {
            return Err(self.into_error());
        }
        serde_json::from_value(self.json)
            .map_err(|error| anyhow!("the JobManager's answer is malformed: {error}"))
    }

    /// Checks that the call worked; its body says nothing more.
    pub(crate) fn accepted(self) -> Result<()> {
        if self.status.is_success() { Ok(()) } else { Err(self.into_error()) }
    }

    /// Turns a refusal into an error with the JobManager's words.
    fn into_error(self) -> anyhow::Error {
        match serde_json::from_value::<ErrorBody>(self.json) {
            Ok(body) if !body.errors.is_empty() => {
                anyhow!("the JobManager refused: {}", body.errors.join("; "))
            }
            Ok(_) | Err(_) => anyhow!("the JobManager answered {}", self.status),
        }
    }
}

/// The cluster's REST server.
#[derive(Debug, Clone)]
pub(crate) struct RestClient {
    host: String,
    port: u16,
    connection_timeout: Duration,
    call_timeout: Duration,
    retries_max: u32,
    retry_delay: Duration,
    answered: Arc<AtomicBool>,
    tls: Option<Arc<ClientConfig>>,
}

impl RestClient {
    /// The server that the options and the configuration name.
    pub(crate) fn new(cluster: &ClusterArguments, configuration: &Configuration) -> Result<Self> {
        let port = configuration.get(&options::REST_PORT)?;
        let (host, port) = match &cluster.jobmanager {
            Some(address) => read_address(address, port)?,
            None => (configuration.get(&options::REST_ADDRESS)?, port),
        };
        Self::at(&host, port, configuration)
    }

    /// The server at this address.
    pub(crate) fn at(host: &str, port: u16, configuration: &Configuration) -> Result<Self> {
        Ok(Self {
            host: host.to_owned(),
            port,
            connection_timeout: configuration.get(&options::REST_CONNECTION_TIMEOUT)?,
            call_timeout: configuration.get(&options::CLIENT_TIMEOUT)?,
            retries_max: configuration.get(&options::REST_RETRY_MAX_ATTEMPTS)?,
            retry_delay: configuration.get(&options::REST_RETRY_DELAY)?,
            answered: Arc::new(AtomicBool::new(false)),
            tls: None,
        })
    }

    /// The same with TLS, as this client: only the JobManager of its cluster is talked to.
    pub(crate) fn secured(mut self, credentials: &Credentials) -> Result<Self> {
        self.tls = Some(credentials.client_config(Role::JobManager, None)?);
        Ok(self)
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Reads the body that a `GET` is answered with.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, &Content::None).await?.read()
    }

    /// Makes a call, with retries; any status is an answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        content: &Content,
    ) -> Result<Answer> {
        let mut retries = 0;
        loop {
            let outcome = self.call_once(method.clone(), path, content).await;
            let again = match &outcome {
                Ok(answer) => answer.status == StatusCode::SERVICE_UNAVAILABLE,
                Err(_) => self.answered.load(Ordering::Relaxed),
            };
            if outcome.is_ok() {
                self.answered.store(true, Ordering::Relaxed);
            }
            if !again || retries >= self.retries_max {
                return outcome;
            }
            retries += 1;
            tokio::time::sleep(self.retry_delay).await;
        }
    }

    /// Makes a call once; any status is an answer.
    pub(crate) async fn call_once(
        &self,
        method: Method,
        path: &str,
        content: &Content,
    ) -> Result<Answer> {
        let stream = self.connect().await?;
        let call = async {
            let request = self.request(method, path, content).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!("{error}"))?.to_bytes();
            connection.abort();
            let json = match serde_json::from_slice(&body) {
                Ok(json) => json,
                Err(_) if body.is_empty() || !status.is_success() => Value::Null,
                Err(_) => bail!("it is not JSON; is {} a JobManager?", self.address()),
            };
            anyhow::Ok(Answer { status, json })
        };
        let failed =
            || format!("failed to get an answer from the JobManager at {}", self.address());
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(answer) => answer.with_context(failed),
            Err(_) => bail!(
                "the JobManager at {} did not answer within {:?} (client.timeout)",
                self.address(),
                self.call_timeout
            ),
        }
    }

    async fn connect(&self) -> Result<Stream> {
        let connect = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            // The end of the handshake and the request must not wait for each other.
            stream.set_nodelay(true)?;
            Stream::connect(stream, self.tls.clone()).await
        };
        let reason = match tokio::time::timeout(self.connection_timeout, connect).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.connection_timeout),
        };
        bail!(
            "no JobManager can be reached at {} ({reason}): start a cluster, or name another with \
             -m host:port",
            self.address()
        )
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content: &Content,
    ) -> Result<Request<Body>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address())
            .header(ACCEPT, "application/json");
        let whole = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed();
        Ok(match content {
            Content::None => request.body(whole(Bytes::new()))?,
            Content::Bytes { kind, bytes } => {
                request.header(CONTENT_TYPE, *kind).body(whole(bytes.clone()))?
            }
            Content::File { path, size } => {
                let file = File::open(path).await?;
                let pieces = ReaderStream::with_capacity(file, 256 << 10);
                let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
                request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, *size)
                    .body(http_body_util::BodyExt::boxed(body))?
            }
        })
    }
}

/// Reads `host:port`, `[::1]:port`, `host`, and any of them after `http://`.
fn read_address(address: &str, default_port: u16) -> Result<(String, u16)> {
    let wrong = || anyhow!("{address:?} is no address: write -m host:port");
    let text = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => default_port,
    };
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use millstream_rest_types::jobs::JobStatusInfo;
    use millstream_types::JobStatus;

    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text| read_address(text, 8081).map(|(host, port)| format!("{host} {port}"));
        for (text, expected) in [
            ("host:1", "host 1"),
            ("host", "host 8081"),
            ("http://host:1/", "host 1"),
            ("[::1]:99", "::1 99"),
            ("[::1]", "::1 8081"),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for text in ["", ":1", "host:", "host:x", "host:70000", "a/b:1", "[::1", "::1:1"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("write -m host:port"), "{error}");
        }
    }

    #[test]
    fn errors_are_what_the_cluster_said() {
        let answer = |json: &str| Answer {
            status: StatusCode::BAD_REQUEST,
            json: serde_json::from_str(json).unwrap_or_default(),
        };
        let error = answer(r#"{"errors":["job x not found"]}"#).accepted().unwrap_err();
        assert_eq!(error.to_string(), "the JobManager refused: job x not found");
        let error = answer("").accepted().unwrap_err();
        assert_eq!(error.to_string(), "the JobManager answered 400 Bad Request");
    }

    #[test]
    fn answers_of_another_shape_are_refused() {
        let read = |json: &str| {
            let json = serde_json::from_str(json).unwrap();
            Answer { status: StatusCode::OK, json }.read::<JobStatusInfo>()
        };
        assert_eq!(read(r#"{"status":"RUNNING"}"#).unwrap().status, JobStatus::Running);
        for json in [r#"{"status":"FLYING"}"#, "{}", "3", "null"] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.starts_with("the JobManager's answer is malformed: "), "{error}");
        }
    }
}
