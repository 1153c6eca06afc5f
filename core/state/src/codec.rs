//! The bytes of keys and values: postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{StateError, incompatible};
use crate::evolution::Conversion;

/// The bytes of a value of this state.
pub(crate) fn encode<T: Serialize>(
    state: &'static str,
    value: &T,
    start: Vec<u8>,
) -> Result<Vec<u8>, StateError> {
    postcard::to_extend(value, start)
        .map_err(|error| StateError::Codec { state, reason: error.to_string() })
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
