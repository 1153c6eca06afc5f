//! As much of HTTP/1.1 as the REST interface of a cluster on this machine needs: one request per
//! connection, answers that carry their length.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer of a cluster that works is slower; nor is any of them longer.
const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Gets a JSON document.
pub fn get(address: SocketAddr, path: &str) -> Result<Value> {
    request(address, "GET", path, "application/json", &[])
}

/// Posts a JSON document.
pub fn post(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    request(address, "POST", path, "application/json", body.to_string().as_bytes())
}

/// Puts a JSON document.
pub fn put(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    request(address, "PUT", path, "application/json", body.to_string().as_bytes())
}

/// Deletes.
pub fn delete(address: SocketAddr, path: &str) -> Result<Value> {
    request(address, "DELETE", path, "application/json", &[])
}

/// Uploads one file as a form.
pub fn upload(address: SocketAddr, path: &str, name: &str, content: &[u8]) -> Result<Value> {
    let boundary = "----------------millstream-benches";
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\n\
         Content-Type: application/x-java-archive\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    request(address, "POST", path, &format!("multipart/form-data; boundary={boundary}"), &body)
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let length = body.len();
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
    serde_json::from_slice(body).with_context(|| format!("{method} {path}: the answer is no JSON"))
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
