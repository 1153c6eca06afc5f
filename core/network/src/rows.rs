//! The codec of records between processes: rows of little-endian bytes, without names or types.
//!
//! Both ends run the same program, so nothing has to describe itself, and loopback and networks
//! of data centres carry bytes faster than a core packs them: plain rows cost a fraction of
//! a compact format's time (`docs/adr/0003-rows.md`).
//!
//! | value | bytes |
//! |---|---|
//! | integer, float, `char` (as `u32`) | as wide as it is, little endian |
//! | `bool` | 0 or 1 |
//! | option | 0, or 1 and the value |
//! | string, bytes | `u32` length, then as they are |
//! | sequence, map | `u32` length, then elements, or keys and values in turn |
//! | tuple, struct | fields in turn |
//! | enum | `u32` index of the variant, then its fields |
//! | unit, and a tuple or struct without fields | one byte 0 |
//!
//! Every value takes a byte at least, so no length can be right that exceeds the bytes behind it.

mod decode;
mod encode;
mod probe;

pub(crate) use decode::decode;
pub(crate) use encode::encode;
pub(crate) use probe::can_be_read;

/// Why a record cannot be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    /// Error of the type's own `Serialize` or `Deserialize`.
    #[error("{0}")]
    Type(String),
    /// `flatten`, `untagged`, `skip_serializing_if` and their like.
    #[error(
        "it needs a format that describes itself, as JSON does, because of a serde attribute \
         (flatten, untagged, tag, skip_serializing_if, ...) or of a type such as \
         serde_json::Value: make it a plain record, or turn it into one before it goes to another \
         task"
    )]
    SelfDescribing,
    /// The bytes to encode to do not suffice: try again with more.
    #[error("the buffer is full")]
    Full,
    /// A string or a collection has 2^32 elements or more.
    #[error("a string or collection in it is too long")]
    TooLong,
    /// The bytes end too early, or a length goes beyond them.
    #[error("its bytes are cut off: its Serialize writes less than its Deserialize reads")]
    CutOff,
    /// A byte has none of the values that it may have.
    #[error(
        "its bytes are malformed: its Serialize writes something else than its Deserialize reads"
    )]
    Malformed,
    /// Bytes are left over.
    #[error("bytes of it are left over: its Serialize writes more than its Deserialize reads")]
    LeftOver,
}

impl serde::ser::Error for RowError {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self::Type(message.to_string())
    }
}

impl serde::de::Error for RowError {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self::Type(message.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::marker::PhantomData;

    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Nothing,
        Wrapped(Option<Box<Shape>>),
        Pair(i8, char),
        Named { text: String, ratio: f32, list: Vec<Shape> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Empty {}

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Newtype(u128);

    fn bytes_of<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = vec![0xee; 4096];
        let rest = encode(value, &mut bytes).unwrap().len();
        bytes.truncate(4096 - rest);
        for room in 0..bytes.len() {
            assert_eq!(encode(value, &mut bytes.clone()[..room]), Err(RowError::Full));
        }
        bytes
    }

    fn back<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, RowError> {
        let value = decode(&mut bytes)?;
        if bytes.is_empty() { Ok(value) } else { Err(RowError::Malformed) }
    }

    fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let bytes = bytes_of(value);
        assert_eq!(back::<T>(&bytes).as_ref(), Ok(value));
        for end in 0..bytes.len() {
            assert!(back::<T>(&bytes[..end]).is_err(), "{value:?} cut off at {end} was decoded");
        }
    }

    #[test]
    fn rows_look_as_documented() {
        assert_eq!(bytes_of(&(1u16, true, -2i8)), [1, 0, 1, 0xfe]);
        assert_eq!(bytes_of(&Some("ab")), [1, 2, 0, 0, 0, b'a', b'b']);
        assert_eq!(bytes_of(&vec![None, Some(7u8)]), [2, 0, 0, 0, 0, 1, 7]);
        assert_eq!(bytes_of(&Shape::Pair(-1, 'a')), [2, 0, 0, 0, 0xff, b'a', 0, 0, 0]);
        assert_eq!(bytes_of(&BTreeMap::from([(1u8, 2u8)])), [1, 0, 0, 0, 1, 2]);
        assert_eq!(bytes_of(&((), Empty {}, [0u8; 0], PhantomData::<u8>)), [0; 4]);
    }

    #[test]
    fn values_of_every_kind_survive() {
        survives(&(u64::MAX, i64::MIN, f64::MIN_POSITIVE, f32::INFINITY, '\u{10ffff}'));
        survives(&(u8::MAX, u16::MAX, u32::MAX, i8::MIN, i16::MIN, i32::MIN));
        survives(&(Newtype(u128::MAX), i128::MIN, "ß".to_owned(), String::new()));
        survives(&[Shape::Nothing, Shape::Wrapped(None)]);
        survives(&vec![((), Empty {}, [0u8; 0], PhantomData::<u8>)]);
        survives(&BTreeMap::from([("a".to_owned(), vec![1.5]), ("b".to_owned(), vec![])]));
        survives(&Some(Some(())));
    }

    #[test]
    fn elements_whose_number_shows_only_at_the_end_survive() {
        struct Filtered;
        impl Serialize for Filtered {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0u32..10).filter(|number| number % 3 == 0))
            }
        }
        assert_eq!(back::<Vec<u32>>(&bytes_of(&Filtered)), Ok(vec![0, 3, 6, 9]));
    }

    #[test]
    fn types_that_need_names_are_refused_when_they_are_sent() {
        #[derive(Serialize)]
        struct Skipping {
            #[serde(skip_serializing_if = "Option::is_none")]
            maybe: Option<u8>,
        }
        #[derive(Serialize)]
        struct Flat {
            #[serde(flatten)]
            inner: BTreeMap<String, u8>,
        }
        let flat = Flat { inner: BTreeMap::from([("a".to_owned(), 1)]) };
        let refused = Err(RowError::SelfDescribing);
        assert_eq!(encode(&Skipping { maybe: None }, &mut [0; 64]), refused);
        assert_eq!(encode(&flat, &mut [0; 64]), refused);
        assert_eq!(back::<serde_json::Value>(&[0; 64]), Err(RowError::SelfDescribing));
    }

    #[test]
    fn bytes_that_cannot_be_are_refused() {
        assert_eq!(back::<bool>(&[2]), Err(RowError::Malformed));
        assert_eq!(back::<Option<u8>>(&[2, 0]), Err(RowError::Malformed));
        assert_eq!(back::<()>(&[1]), Err(RowError::Malformed));
        assert_eq!(back::<char>(&0xd800u32.to_le_bytes()), Err(RowError::Malformed));
        assert_eq!(back::<String>(&[1, 0, 0, 0, 0xff]), Err(RowError::Malformed));
        assert!(matches!(back::<Shape>(&[9, 0, 0, 0]), Err(RowError::Type(_))));
    }

    #[test]
    fn a_giant_length_is_refused_before_anything_is_made_for_it() {
        assert_eq!(back::<Vec<()>>(&[0xff; 64]), Err(RowError::CutOff));
        assert_eq!(back::<Vec<[u8; 0]>>(&[0xff; 64]), Err(RowError::CutOff));
        assert_eq!(back::<String>(&[0xff; 64]), Err(RowError::CutOff));
        assert_eq!(back::<BTreeMap<(), ()>>(&[0xff; 64]), Err(RowError::CutOff));
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let leaf = prop_oneof![
            Just(Shape::Nothing),
            Just(Shape::Wrapped(None)),
            (any::<i8>(), any::<char>()).prop_map(|(number, letter)| Shape::Pair(number, letter)),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|shape| Shape::Wrapped(Some(Box::new(shape)))),
                (any::<String>(), -1e9f32..1e9, proptest::collection::vec(inner, 0..4))
                    .prop_map(|(text, ratio, list)| Shape::Named { text, ratio, list }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_survives(shape in shapes()) {
            prop_assert_eq!(back::<Shape>(&bytes_of(&shape)), Ok(shape));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = back::<(u64, String, Option<Vec<u32>>)>(&bytes);
            let _ = back::<Vec<Shape>>(&bytes);
            let _ = back::<BTreeMap<char, [(); 3]>>(&bytes);
        }
    }
}
