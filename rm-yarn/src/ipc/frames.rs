//! Frames and the delimited messages in them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::proto::common::{OperationProto, RpcKindProto, RpcRequestHeaderProto};

/// The longest frame that is read. Servers take as much by default (`ipc.maximum.data.length`).
const FRAME_BYTES_MAX: usize = 128 << 20;
/// A frame's length.
const LENGTH_BYTES: usize = 4;

/// Call ids of messages that are no calls.
pub(super) const CONTEXT: i32 = -3;
pub(super) const SASL: i32 = -33;

/// The first bytes of a connection.
pub(super) fn preamble(sasl: bool) -> [u8; 7] {
    let [h, r, p, c] = *b"hrpc";
    [h, r, p, c, 9, 0, if sasl { 0xdf } else { 0 }]
}

/// Appends a frame of these messages.
pub(super) fn put_frame(
    out: &mut BytesMut,
    header: &RpcRequestHeaderProto,
    messages: &[&dyn Delimited],
) {
    let start = out.len();
    out.put_u32(0);
    header.put_delimited(out);
    for message in messages {
        message.put_delimited(out);
    }
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    if let Some(mut place) = out.get_mut(start..start + LENGTH_BYTES) {
        place.put_u32(length);
    }
}

/// A message that says its length first.
pub(super) trait Delimited {
    fn put_delimited(&self, out: &mut BytesMut);
}

impl<M: Message> Delimited for M {
    fn put_delimited(&self, out: &mut BytesMut) {
        // A BytesMut has room for everything.
        let _ = self.encode_length_delimited(out);
    }
}

/// The header of a call, or of a message with one of the negative ids.
pub(super) fn request_header(call: i32, client: &[u8], retries: i32) -> RpcRequestHeaderProto {
    RpcRequestHeaderProto {
        rpc_kind: Some(RpcKindProto::RpcProtocolBuffer.into()),
        rpc_op: Some(OperationProto::RpcFinalPacket.into()),
        call_id: call,
        client_id: client.to_vec(),
        retry_count: Some(retries),
    }
}

/// Cuts the next frame's body off the front; `None` while it is incomplete.
pub(super) fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(format!("it announced an answer of {length} bytes"));
    }
    if buffer.len() - LENGTH_BYTES < length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Takes a delimited message off the front.
pub(super) fn take_message<M: Message + Default>(bytes: &mut Bytes) -> Result<M, String> {
    let mut rest: &[u8] = bytes;
    let before = rest.len();
    let length = prost::decode_length_delimiter(&mut rest)
        .map_err(|_| "a message's length is malformed".to_owned())?;
    let start = before - rest.len();
    if rest.len() < length {
        return Err("a message is cut off".to_owned());
    }
    bytes.advance(start);
    let message = bytes.split_to(length);
    M::decode(message).map_err(|error| format!("a message is malformed: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::common::rpc_sasl_proto::SaslState;
    use crate::proto::common::{IpcConnectionContextProto, RpcResponseHeaderProto, RpcSaslProto};

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    fn client() -> Vec<u8> {
        (0..16).collect()
    }

    #[test]
    fn frames_are_as_hadoop_takes_them() {
        let mut out = BytesMut::new();
        let negotiate =
            RpcSaslProto { state: SaslState::Negotiate.into(), ..RpcSaslProto::default() };
        put_frame(&mut out, &request_header(SASL, &[], -1), &[&negotiate]);
        assert_eq!(out, hex("0000000e 0a 0802100018412200 2801 02 1001"));

        let mut out = BytesMut::new();
        put_frame(&mut out, &request_header(-4, &client(), -1), &[]);
        let id = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(out, hex(&format!("0000001b 1a 0802100018072210 {id} 2801")));

        let mut out = BytesMut::new();
        let context = IpcConnectionContextProto {
            user_info: None,
            protocol: Some(super::super::Protocol::APPLICATION_MASTER.0.to_owned()),
        };
        put_frame(&mut out, &request_header(CONTEXT, &client(), -1), &[&context]);
        let mut expected = hex(&format!("00000054 1a 0802100018052210 {id} 2801 38 1a36"));
        expected.extend(b"org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB");
        assert_eq!(out, expected);
    }

    #[test]
    fn a_giant_length_is_refused_from_the_length_alone() {
        let mut buffer = BytesMut::from(&b"HTTP/1.1 404"[..]);
        assert!(take_frame(&mut buffer).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = take_frame(&mut BytesMut::from(bytes.as_slice()));
            let _ = take_message::<RpcResponseHeaderProto>(&mut Bytes::from(bytes.clone()));
            let _ = take_message::<RpcSaslProto>(&mut Bytes::from(bytes));
        }
    }
}
