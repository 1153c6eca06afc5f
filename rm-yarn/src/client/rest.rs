//! Calls of clients to the ResourceManager over its REST interface.
//!
//! For clusters whose RPC port is closed to clients. Its requests have no field for resources other
//! than memory and virtual cores; no deployment asks for others.

use std::fmt;
use std::time::Duration;

use millstream_hadoop_config::{HadoopConfigError, HadoopConfiguration};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

use super::{ClientError, NewApplication, json as records};
use crate::ids::ApplicationId;
use crate::ipc::RemoteError;
use crate::proto::yarn::{
    ApplicationReportProto, ApplicationSubmissionContextProto, NodeReportProto, QueueInfoProto,
};
use crate::resource_manager::{Circle, addresses, call_timeout};

const WEB_ADDRESS: &str = "yarn.resourcemanager.webapp.address";
const WEB_PORT: u16 = 8088;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The nodes of the largest clusters are some megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a call over REST failed.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The server did not answer, or not in time; whether the call was carried out is unknown.
    #[error("no answer from {address}: {why}")]
    NoAnswer {
        /// Host and port.
        address: String,
        /// The system's reason.
        why: String,
    },
    /// The server at this address is no ResourceManager, or one that does not know this call.
    #[error(
        "{address} does not answer as YARN's REST interface does: {why}; is it the right port?"
    )]
    Foreign {
        /// Host and port.
        address: String,
        /// The unexpected part of the answer.
        why: String,
    },
    /// This ResourceManager is not the active one.
    #[error("{0} is a standby, and none of the ResourceManagers is active")]
    Standby(String),
    /// The server refused: its exception.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// See [`super::YarnClient`].
pub(super) struct RestClient {
    circle: Circle,
    user: String,
    http: Client,
}

impl fmt::Debug for RestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestClient").field("circle", &self.circle).finish_non_exhaustive()
    }
}

/// An answer that is no refusal: its status, and its JSON or null.
type Answer = (StatusCode, Value);

impl RestClient {
    pub(super) fn new(
        hadoop: &HadoopConfiguration,
        user: &str,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let policy = hadoop.get_or("yarn.http.policy", "HTTP_ONLY");
        if policy == "HTTPS_ONLY" {
            return Err(ClientError::Config(HadoopConfigError::Value {
                key: "yarn.http.policy".to_owned(),
                value: policy,
                expected: "HTTP_ONLY; use yarn.client.transport: rpc on this cluster",
            }));
        }
        let circle = Circle::new(addresses(hadoop, WEB_ADDRESS, WEB_PORT)?, patience);
        let http = http(call_timeout(CALL_TIMEOUT, patience))
            .map_err(|error| no_answer("the HTTP client", &error))?;
        Ok(Self { circle, user: user.to_owned(), http })
    }

    pub(super) async fn new_application(&mut self) -> Result<NewApplication, ClientError> {
        let (_, answer) = self.call(Method::POST, "apps/new-application", None).await?;
        records::new_application(&answer).ok_or(ClientError::Incomplete("new-application"))
    }

    pub(super) async fn submit(
        &mut self,
        submission: ApplicationSubmissionContextProto,
    ) -> Result<(), ClientError> {
        let body = records::submission(&submission);
        let _ = self.call(Method::POST, "apps", Some(&body)).await?;
        Ok(())
    }

    pub(super) async fn report(
        &mut self,
        id: ApplicationId,
    ) -> Result<ApplicationReportProto, ClientError> {
        let answer = self.call(Method::GET, &format!("apps/{id}"), None).await;
        let (_, answer) = answer.map_err(|error| unknown_or(error, id))?;
        Ok(records::report(id, &answer["app"]))
    }

    pub(super) async fn kill(&mut self, id: ApplicationId, why: &str) -> Result<bool, ClientError> {
        let body = json!({ "state": "KILLED", "diagnostics": why });
        let answer = self.call(Method::PUT, &format!("apps/{id}/state"), Some(&body)).await;
        let (status, _) = answer.map_err(|error| unknown_or(error, id))?;
        Ok(status == StatusCode::OK)
    }

    pub(super) async fn queue(
        &mut self,
        name: &str,
    ) -> Result<Option<QueueInfoProto>, ClientError> {
        let (_, answer) = self.call(Method::GET, "scheduler", None).await?;
        Ok(records::queue(&answer, name))
    }

    pub(super) async fn running_nodes(&mut self) -> Result<Vec<NodeReportProto>, ClientError> {
        let (_, answer) = self.call(Method::GET, "nodes?states=RUNNING", None).await?;
        Ok(records::nodes(&answer))
    }

    /// Calls at whichever ResourceManager answers.
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, RestError> {
        let mut round = self.circle.round();
        loop {
            let error = match self.call_once(method.clone(), path, body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tracing::debug!(path, %error, "the ResourceManager does not answer");
            let another_may = matches!(error, RestError::NoAnswer { .. } | RestError::Standby(_));
            if !another_may || !self.circle.turn(&mut round).await {
                return Err(error);
            }
        }
    }

    async fn call_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, RestError> {
        let address = self.circle.address();
        let url = Url::parse(&format!("http://{address}/ws/v1/cluster/{path}"));
        let mut url = url.map_err(|error| foreign(address, error.to_string()))?;
        // Without it, an insecure cluster takes every caller for the user of its web pages.
        url.query_pairs_mut().append_pair("user.name", &self.user);
        let mut request = self.http.request(method, url).header("Accept", "application/json");
        request = match body {
            Some(body) => request.json(body),
            None => request.header("Content-Length", "0"),
        };
        let mut response = request.send().await.map_err(|error| no_answer(address, &error))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| no_answer(address, &error))?
        {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(foreign(address, "the answer is too long".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        judged(address, status, &bytes)
    }
}

/// A client that connects to the cluster directly and ignores proxies in the environment: a
/// submission holds the key of the new cluster's authority.
#[expect(clippy::disallowed_methods, reason = "the one place that makes HTTP clients")]
fn http(timeout: Duration) -> reqwest::Result<Client> {
    let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
    // A standby's redirection would lead round the circle once more.
    builder.no_proxy().redirect(Policy::none()).build()
}

/// Turns a response into an answer or an error.
fn judged(address: &str, status: StatusCode, bytes: &[u8]) -> Result<Answer, RestError> {
    if status.is_redirection() {
        return Err(RestError::Standby(address.to_owned()));
    }
    let json = serde_json::from_slice::<Value>(bytes);
    if let Some(exception) = json.as_ref().ok().and_then(|json| json.get("RemoteException")) {
        let text = |field: &str| exception[field].as_str().unwrap_or_default().to_owned();
        let (class, message) = (text("javaClassName"), text("message"));
        let address = address.to_owned();
        return Err(RemoteError { address, class, message, fatal: false }.into());
    }
    if !status.is_success() {
        return Err(foreign(address, format!("status {status}")));
    }
    match json {
        Ok(json) => Ok((status, json)),
        Err(_) if bytes.is_empty() => Ok((status, Value::Null)),
        Err(_) => Err(foreign(address, "the answer is no JSON".to_owned())),
    }
}

fn foreign(address: &str, why: String) -> RestError {
    RestError::Foreign { address: address.to_owned(), why }
}

/// The innermost cause holds the system's message.
fn no_answer(address: &str, error: &reqwest::Error) -> RestError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    RestError::NoAnswer { address: address.to_owned(), why: cause.to_string() }
}

fn unknown_or(error: RestError, id: ApplicationId) -> ClientError {
    match error {
        RestError::Remote(remote) if remote.is("NotFoundException") => ClientError::Unknown(id),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let judge = |status: u16, text: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            judged("rm:8088", status, text.as_bytes()).map(|(_, json)| json).map_err(|error| {
                let unknown = unknown_or(error, "application_1_0002".parse().unwrap());
                unknown.to_string()
            })
        };
        assert_eq!(judge(202, ""), Ok(Value::Null));
        assert_eq!(judge(200, "{\"a\":1}"), Ok(json!({ "a": 1 })));
        assert!(judge(307, "This is standby RM").unwrap_err().contains("is a standby"));
        let exception = |class: &str| {
            json!({ "RemoteException": { "message": "no", "javaClassName": class } }).to_string()
        };
        let refused = judge(400, &exception("a.b.BadRequestException")).unwrap_err();
        assert_eq!(refused, "rm:8088 refused: no");
        let unknown = judge(404, &exception("a.NotFoundException")).unwrap_err();
        assert!(unknown.contains("does not know application_1_0002"), "{unknown}");
        assert!(judge(404, "<html>").unwrap_err().contains("is it the right port?"));
        assert!(judge(200, "<html>").unwrap_err().contains("no JSON"));
    }

    #[tokio::test]
    async fn impatience_ends_with_the_reason() {
        let mut hadoop = HadoopConfiguration::new();
        hadoop.set(WEB_ADDRESS, "localhost:1");
        let mut client = RestClient::new(&hadoop, "alice", Duration::from_millis(1)).unwrap();
        let error = client.running_nodes().await.unwrap_err().to_string();
        assert!(error.starts_with("no answer from localhost:1: Connection refused"), "{error}");
        hadoop.set("yarn.http.policy", "HTTPS_ONLY");
        let error = RestClient::new(&hadoop, "alice", Duration::ZERO).err().unwrap().to_string();
        assert!(error.contains("yarn.client.transport: rpc"), "{error}");
    }

    /// Like the test above, in a process whose environment names a proxy.
    #[test]
    fn a_proxy_of_the_environment_is_not_used() {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let url = format!("http://{}", proxy.local_addr().unwrap());
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "client::rest::tests::impatience_ends_with_the_reason"]);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
            again.env(name, &url);
        }
        let output = again.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        let error = proxy.accept().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "the proxy was asked");
    }
}
