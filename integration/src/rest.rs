//! A small HTTP client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_security::rustls::{ClientConfig, ClientConnection, StreamOwned};
use millstream_security::{Credentials, Role, server_name};
use serde_json::Value;

/// Time limit for a call.
const DEADLINE: Duration = Duration::from_secs(60);

/// An answer of REST.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null if it is not JSON.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The one sentence of a refusal.
    #[must_use]
    pub fn error(&self) -> String {
        match self.json.pointer("/errors/0").and_then(Value::as_str) {
            Some(sentence) => sentence.to_owned(),
            None => format!("no error but {} {}", self.status, self.text),
        }
    }
}

/// The REST address of a cluster.
#[derive(Debug, Clone)]
pub struct Rest {
    /// On the loopback interface.
    pub port: u16,
    tls: Option<Arc<ClientConfig>>,
}

trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

impl Rest {
    /// Without TLS.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self { port, tls: None }
    }

    /// With TLS, as this client.
    ///
    /// # Panics
    /// The credentials cannot be used.
    #[must_use]
    pub fn secured(port: u16, own: &Credentials) -> Self {
        Self { port, tls: Some(own.client_config(Role::JobManager, None).unwrap()) }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// There was no answer.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let session = ClientConnection::new(Arc::clone(config), server_name());
                Box::new(StreamOwned::new(session.map_err(std::io::Error::other)?, stream))
            }
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        // A server that refuses may answer before it has read all.
        let written = stream.write_all(body);
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        if bytes.is_empty() {
            written?;
            read?;
        }
        let malformed = || std::io::Error::other("not an HTTP answer");
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(malformed)?;
        let (head, body) = bytes.split_at(end);
        let status = String::from_utf8_lossy(head).split(' ').nth(1).and_then(|s| s.parse().ok());
        let text = String::from_utf8_lossy(body.get(4..).unwrap_or_default()).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status: status.ok_or_else(malformed)?, json, text })
    }

    /// Asks.
    ///
    /// # Panics
    /// There was no answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "application/json", b"").unwrap()
    }

    /// Tells.
    ///
    /// # Panics
    /// There was no answer.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, "application/json", body.to_string().as_bytes()).unwrap()
    }

    /// Uploads a file as Flink's clients do.
    ///
    /// # Panics
    /// The file cannot be read, or there was no answer.
    #[must_use]
    pub fn upload(&self, file: &Path) -> Answer {
        let name = file.file_name().unwrap().to_string_lossy();
        let mut body = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend(std::fs::read(file).unwrap());
        body.extend(b"\r\n--edge--\r\n");
        let kind = "multipart/form-data; boundary=edge";
        self.call("POST", "/v1/jars/upload", kind, &body).unwrap()
    }

    /// Uploads a file and gives the id that it got.
    ///
    /// # Panics
    /// It was refused.
    #[must_use]
    pub fn upload_jar(&self, file: &Path) -> String {
        let answer = self.upload(file);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let path = answer.json["filename"].as_str().unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    }
}
