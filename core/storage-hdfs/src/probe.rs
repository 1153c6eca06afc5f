//! Checks that a NameNode answers at an address before the library connects to it.
//!
//! The library takes the first four bytes that a server sends for a length and reserves as much
//! memory: the letters `HTTP` of a web port are 1.2 GB. So one small question is asked first, over
//! a connection of its own, and no length in the answer is trusted.

use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::errors::{Failure, first_line};

const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
/// A question that every NameNode answers for every user; a standby answers that it is one.
const METHOD: &str = "getServerDefaults";
/// Deadline of connecting, and again of the answer.
const DEADLINE: Duration = Duration::from_secs(8);
/// Limit of an answer: longer than any header with a whole Java stack trace.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const CONTEXT_CALL: i32 = -3;

#[derive(Clone, PartialEq, Message)]
struct RequestHeader {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    operation: Option<i32>,
    #[prost(sint32, required, tag = "3")]
    call_id: i32,
    #[prost(bytes = "vec", required, tag = "4")]
    client_id: Vec<u8>,
    #[prost(sint32, optional, tag = "5")]
    retry_count: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Context {
    #[prost(message, optional, tag = "2")]
    user: Option<User>,
    #[prost(string, optional, tag = "3")]
    protocol: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct User {
    #[prost(string, optional, tag = "1")]
    effective: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Call {
    #[prost(string, required, tag = "1")]
    method: String,
    #[prost(string, required, tag = "2")]
    protocol: String,
    #[prost(uint64, required, tag = "3")]
    version: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AnswerHeader {
    #[prost(uint32, required, tag = "1")]
    call_id: u32,
    #[prost(int32, required, tag = "2")]
    status: i32,
    #[prost(string, optional, tag = "4")]
    exception: Option<String>,
    #[prost(string, optional, tag = "5")]
    message: Option<String>,
}

/// Asks at `host:port`.
///
/// # Errors
/// No server answers there, or the server is no NameNode; the error names the address.
pub(crate) async fn probe(address: &str, user: &str) -> Result<(), Failure> {
    let not_now = |why: String| Failure::NotNow(format!("no NameNode answers at {address}: {why}"));
    let within = |seconds: u64, what: &str| format!("{what} within {seconds} s");
    let late = |what: &str| not_now(within(DEADLINE.as_secs(), what));
    let connected = timeout(DEADLINE, TcpStream::connect(address)).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.to_string().contains("failed to lookup address") => {
            return Err(not_now("its host name is not known".to_owned()));
        }
        Ok(Err(error)) => return Err(not_now(error.to_string())),
        Err(_elapsed) => return Err(late("no connection")),
    };
    let mut answer = Vec::new();
    let asked = async {
        // A server that closes before it has read everything may still have answered.
        let written = stream.write_all(&question(user)).await;
        let read = read_answer(&mut stream, &mut answer).await;
        read.and(written)
    };
    let asked = timeout(DEADLINE, asked).await;
    match judge(&answer) {
        Judgement::NameNode => Ok(()),
        Judgement::Foreign(what) => Err(Failure::Other(format!(
            "{address} is no NameNode: {what}; is it the right port? Clients reach a NameNode at \
             dfs.namenode.rpc-address, most often port 8020"
        ))),
        Judgement::Silent => Err(match asked {
            Err(_elapsed) => late("it says nothing; is it the right port? No answer came"),
            Ok(Err(error)) => not_now(format!("{error}; is it the right port?")),
            Ok(Ok(())) => {
                not_now("it closes the connection without an answer; is it the right port?".into())
            }
        }),
    }
}

/// The first bytes of a client of Hadoop.
fn question(user: &str) -> Vec<u8> {
    let header = |call_id, retry_count| RequestHeader {
        kind: Some(2),
        operation: Some(0),
        call_id,
        client_id: vec![7; 16],
        retry_count: Some(retry_count),
    };
    let user = User { effective: Some(user.to_owned()) };
    let context = Context { user: Some(user), protocol: Some(PROTOCOL.to_owned()) };
    let call = Call { method: METHOD.to_owned(), protocol: PROTOCOL.to_owned(), version: 1 };
    let mut sent = b"hrpc\x09\0\0".to_vec();
    for frame in [
        [header(CONTEXT_CALL, -1).encode_length_delimited_to_vec(), delimited(&context)].concat(),
        // The question itself has no fields.
        [header(0, 0).encode_length_delimited_to_vec(), delimited(&call), vec![0]].concat(),
    ] {
        sent.extend(u32::try_from(frame.len()).unwrap_or_default().to_be_bytes());
        sent.extend(frame);
    }
    sent
}

fn delimited(message: &impl Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

/// Reads until an answer is complete, or is known not to be one.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let complete = frame_length(answer).is_some_and(|length| answer.len() >= 4 + length);
        let foreign = matches!(judge(answer), Judgement::Foreign(_));
        if complete || foreign {
            return Ok(());
        }
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            read => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
}

fn frame_length(answer: &[u8]) -> Option<usize> {
    let length = answer.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))?;
    usize::try_from(length).ok()
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    NameNode,
    /// Too few bytes have come to judge.
    Silent,
    /// Another server, described in words.
    Foreign(String),
}

fn judge(answer: &[u8]) -> Judgement {
    let foreign = |what: &str| Judgement::Foreign(what.to_owned());
    if answer.is_empty() {
        return Judgement::Silent;
    }
    for (start, what) in [
        (&b"HTTP/"[..], "it answers as a web server does (HTTP)"),
        (b"SSH-", "it answers as an SSH server does"),
        (b"\x15\x03", "it answers as a server with TLS does"),
        (b"\x16\x03", "it answers as a server with TLS does"),
    ] {
        if answer.starts_with(start) {
            return foreign(what);
        }
    }
    let Some(length) = frame_length(answer) else { return Judgement::Silent };
    if length == 0 || length > ANSWER_BYTES_MAX {
        return foreign("it does not speak Hadoop RPC");
    }
    let body = answer.get(4..).unwrap_or_default();
    let complete = body.len() >= length;
    let header = AnswerHeader::decode_length_delimited(body.get(..length).unwrap_or(body));
    match header {
        Ok(AnswerHeader { exception: Some(class), message, .. })
            if class.ends_with("RpcNoSuchProtocolException") =>
        {
            let said = first_line(&message.unwrap_or_default());
            Judgement::Foreign(format!("it speaks Hadoop RPC, but not a NameNode's ({said})"))
        }
        Ok(_) => Judgement::NameNode,
        Err(_) if complete => foreign("it does not speak Hadoop RPC"),
        // The rest of the header is still under way.
        Err(_) => Judgement::Silent,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The outcome for a server that sends this at once and closes, or sends nothing.
    async fn of(says: Option<Vec<u8>>) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            match says {
                Some(says) => {
                    let mut question = vec![0; question("alice").len()];
                    stream.read_exact(&mut question).await.unwrap();
                    stream.write_all(&says).await.unwrap();
                }
                None => std::future::pending().await,
            }
        });
        let found = probe(&address, "alice").await;
        server.abort();
        let named = |failure: &Failure| format!("{failure:?}").contains(&address);
        assert!(found.as_ref().err().is_none_or(named), "{found:?} does not name {address}");
        found
    }

    fn answered(header: &AnswerHeader, body: &[u8]) -> Vec<u8> {
        let frame = [header.encode_length_delimited_to_vec(), body.to_vec()].concat();
        [u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec(), frame].concat()
    }

    #[tokio::test]
    async fn a_server_that_is_no_name_node_is_told_by_what_it_says() {
        let http = b"HTTP/1.1 400 Illegal character\r\nContent-Length: 70\r\n\r\n".to_vec();
        let unknown = AnswerHeader {
            call_id: 0,
            status: 1,
            exception: Some("org.apache.hadoop.ipc.RpcNoSuchProtocolException".to_owned()),
            message: Some("Unknown protocol: x\n\tat a.b".to_owned()),
        };
        for (says, words) in [
            (http, "web server"),
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "SSH"),
            (vec![0x15, 3, 1, 0, 2, 2, 70], "TLS"),
            (b"220 mail.example.org ESMTP\r\n".to_vec(), "does not speak Hadoop RPC"),
            (vec![0; 64], "does not speak Hadoop RPC"),
            (vec![0xff; 64], "does not speak Hadoop RPC"),
            (vec![0, 0, 0, 4, 1, 2, 3, 4], "does not speak Hadoop RPC"),
            (answered(&unknown, b""), "but not a NameNode's (Unknown protocol: x)"),
        ] {
            let found = of(Some(says)).await;
            let Err(Failure::Other(reason)) = found else { panic!("{found:?} of {words}") };
            assert!(reason.contains(words), "{reason}");
            assert!(reason.contains("is it the right port?"), "{reason}");
        }
    }

    #[tokio::test]
    async fn every_answer_of_a_name_node_will_do() {
        let fine = AnswerHeader { call_id: 0, ..AnswerHeader::default() };
        assert_eq!(of(Some(answered(&fine, &[1, 2, 3]))).await, Ok(()));
        let standby = AnswerHeader {
            status: 1,
            exception: Some("org.apache.hadoop.ipc.StandbyException".to_owned()),
            message: Some("Operation category READ is not supported".repeat(300)),
            ..fine
        };
        assert_eq!(of(Some(answered(&standby, b""))).await, Ok(()));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_may_be_one_that_starts() {
        let closed = of(Some(Vec::new())).await;
        let Err(Failure::NotNow(reason)) = closed else { panic!("{closed:?}") };
        assert!(reason.contains("is it the right port?"), "{reason}");
        let refused = probe("127.0.0.1:1", "alice").await;
        let Err(Failure::NotNow(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("127.0.0.1:1: Connection refused"), "{reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_not_waited_for_without_end() {
        let silent = of(None).await;
        let Err(Failure::NotNow(reason)) = silent else { panic!("{silent:?}") };
        assert!(reason.contains("within 8 s"), "{reason}");
    }
}
