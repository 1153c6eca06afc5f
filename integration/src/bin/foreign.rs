//! An artifact that speaks the host protocol of another major version.

use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use millstream_protocol::HOST_SOCKET_VARIABLE;
use millstream_protocol::frame::write_blocking;
use millstream_protocol::host::{FromHost, Hello, from_host};

/// Newer than any.
const MAJOR: u32 = 99;

fn main() -> ExitCode {
    let number = std::env::var(HOST_SOCKET_VARIABLE).ok().and_then(|text| text.parse().ok());
    let Some(number) = number else { return ExitCode::FAILURE };
    // SAFETY: the parent left the descriptor for this process, and it has no other owner here.
    let mut socket = unsafe { UnixStream::from_raw_fd(number) };
    let engine_version = "99.0.0".to_owned();
    let hello = Hello { major: MAJOR, minor: 0, engine_version, pid: std::process::id() };
    let hello = FromHost { message: Some(from_host::Message::Hello(hello)) };
    if write_blocking(&mut socket, &hello).is_err() {
        return ExitCode::FAILURE;
    }
    // Waits to be sent away.
    let _ = socket.read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}
