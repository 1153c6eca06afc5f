//! As much of HTTP/1.1 as the REST interface of a cluster on this machine needs: one request per
//! connection, answers that carry their length.

use anyhow::{Context, Result, bail};
use millstream_security::rustls::{ClientConfig, ClientConnection, StreamOwned};
use millstream_security::{Credentials, Role, server_name};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// No answer of a cluster that works is slower; nor is any of them longer.
const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A server, and how to speak to it.
#[derive(Debug, Clone)]
pub struct Server {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

impl Server {
    /// A server without TLS.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// A JobManager of ours with TLS, to which this is a client.
    pub fn secured(address: SocketAddr, client: &Credentials) -> Result<Self> {
        Ok(Self { address, tls: Some(client.client_config(Role::JobManager, None)?) })
    }

    /// Gets a JSON document.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, "application/json", &[])
    }

    /// Posts a JSON document.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.request("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// Puts a JSON document.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.request("PUT", path, "application/json", body.to_string().as_bytes())
    }

    /// Deletes.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.request("DELETE", path, "application/json", &[])
    }

    /// Uploads one file as a form.
    pub fn upload(&self, path: &str, name: &str, content: &[u8]) -> Result<Value> {
        let boundary = "----------------millstream-benches";
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"jarfile\"; \
             filename=\"{name}\"\r\nContent-Type: application/x-java-archive\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        self.request("POST", path, &format!("multipart/form-data; boundary={boundary}"), &body)
    }

    fn connect(&self) -> Result<Box<dyn Duplex>> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let session = ClientConnection::new(Arc::clone(config), server_name())?;
                Box::new(StreamOwned::new(session, stream))
            }
        })
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Value> {
        let mut stream = self.connect()?;
        let (address, length) = (self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let (status, body) = parse(&answer).context("the answer is not HTTP/1.1")?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} was answered with {status}: {}", String::from_utf8_lossy(body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(body)
            .with_context(|| format!("{method} {path}: the answer is no JSON"))
    }
}

fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, answer.get(end + 4..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((404, b"{}".as_slice())));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(parse(b"nonsense\r\n\r\n"), None);
    }
}
