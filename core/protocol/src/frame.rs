//! Length-prefixed frames of the host protocol.
//!
//! A frame is a little-endian `u32` length and that many bytes of one message. A length above
//! [`FRAME_BYTES_MAX`] is refused from the length alone, before anything is allocated.

use std::io::{Read, Write};

use prost::Message;

/// The longest message, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Why no message could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed the connection between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// Reading or writing failed, or the connection ended inside a frame.
    #[error("failed to read or write a message")]
    Io(#[source] std::io::Error),
    /// A frame is longer than the limit.
    #[error("a message of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// A frame does not hold the message that it should.
    #[error("a message could not be decoded")]
    Malformed(#[source] prost::DecodeError),
}

/// Encodes a message as one frame.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn encode(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let length = message.encoded_len();
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&message.encode_to_vec());
    Ok(frame)
}

/// Checks a frame's length prefix.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn payload_length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > FRAME_BYTES_MAX { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// Decodes a frame's payload.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, FrameError> {
    M::decode(payload).map_err(FrameError::Malformed)
}

/// Writes one message, blocking.
///
/// # Errors
/// [`FrameError::TooLong`] and [`FrameError::Io`].
pub fn write_blocking(writer: &mut impl Write, message: &impl Message) -> Result<(), FrameError> {
    writer.write_all(&encode(message)?).map_err(FrameError::Io)
}

/// Reads one message, blocking.
///
/// # Errors
/// Every [`FrameError`].
pub fn read_blocking<M: Message + Default>(reader: &mut impl Read) -> Result<M, FrameError> {
    let mut prefix = [0; 4];
    read_prefix(reader, &mut prefix)?;
    let length = payload_length(prefix)?;
    let mut payload = Vec::new();
    // Grows with what arrives: a length alone must not allocate 64 MiB.
    let read = reader.take(length as u64).read_to_end(&mut payload).map_err(FrameError::Io)?;
    if read < length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    decode(&payload)
}

fn read_prefix(reader: &mut impl Read, prefix: &mut [u8; 4]) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < prefix.len() {
        let rest = prefix.get_mut(filled..).unwrap_or_default();
        match reader.read(rest) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Hello, Shutdown};

    #[test]
    fn a_message_survives_its_frame() {
        let hello = Hello { major: 1, minor: 2, engine_version: "x".into(), pid: 7 };
        let bytes = encode(&hello).unwrap();
        assert_eq!(read_blocking::<Hello>(&mut bytes.as_slice()).unwrap(), hello);
    }

    #[test]
    fn cut_long_and_empty_input_is_refused() {
        let bytes = encode(&Hello { major: 1, ..Hello::default() }).unwrap();
        for cut in 1..bytes.len() {
            let result = read_blocking::<Hello>(&mut &bytes[..cut]);
            assert!(matches!(result, Err(FrameError::Io(_))), "cut at {cut}");
        }
        let result = read_blocking::<Shutdown>(&mut [].as_slice());
        assert!(matches!(result, Err(FrameError::Closed)));
        let result = read_blocking::<Shutdown>(&mut [255; 8].as_slice());
        assert!(matches!(result, Err(FrameError::TooLong(_))));
    }
}
