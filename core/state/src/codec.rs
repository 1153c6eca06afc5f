//! The bytes of keys and values: postcard.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{StateError, incompatible};
use crate::evolution::Conversion;

/// Bytes to which values are added: a whole slice at a time, unlike those of `to_extend`.
struct Added<'a>(&'a mut Vec<u8>);

impl Flavor for Added<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Adds the bytes of a value of this state to others; none of them if it has none.
pub(crate) fn encode_into<T: Serialize>(
    state: &'static str,
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), StateError> {
    let before = bytes.len();
    postcard::serialize_with_flavor(value, Added(bytes)).map_err(|error| {
        bytes.truncate(before);
        StateError::Codec { state, reason: error.to_string() }
    })
}

/// The bytes of a value of this state.
pub(crate) fn encode<T: Serialize>(
    state: &'static str,
    value: &T,
    mut start: Vec<u8>,
) -> Result<Vec<u8>, StateError> {
    encode_into(state, value, &mut start)?;
    Ok(start)
}

/// The value of these bytes.
pub(crate) fn decode<T: DeserializeOwned>(
    state: &'static str,
    bytes: &[u8],
) -> Result<T, StateError> {
    let fault = |reason| StateError::Codec { state, reason };
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(fault(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(fault(error.to_string())),
    }
}

/// Takes the value at the start of some bytes off them.
pub(crate) fn take<T: DeserializeOwned>(
    state: &'static str,
    bytes: &mut &[u8],
) -> Result<T, StateError> {
    let (value, rest) = postcard::take_from_bytes(bytes)
        .map_err(|error| StateError::Codec { state, reason: error.to_string() })?;
    *bytes = rest;
    Ok(value)
}

/// Takes the value at the start of some bytes off them, which an earlier version of its type wrote.
pub(crate) fn take_converted<T: DeserializeOwned>(
    state: &str,
    conversion: &Conversion,
    bytes: &mut &[u8],
) -> Result<T, StateError> {
    conversion.take(bytes).map_err(|fault| incompatible(state, fault.to_string()))
}

/// The value of these bytes, which an earlier version of its type wrote.
pub(crate) fn decode_converted<T: DeserializeOwned>(
    state: &'static str,
    conversion: &Conversion,
    mut bytes: &[u8],
) -> Result<T, StateError> {
    let value = take_converted(state, conversion, &mut bytes)?;
    if bytes.is_empty() {
        return Ok(value);
    }
    Err(StateError::Codec { state, reason: format!("{} bytes are left over", bytes.len()) })
}
