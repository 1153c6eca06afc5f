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

mod bulk;
mod decode;
mod encode;
mod probe;
mod room;

pub(crate) use bulk::are_numbers;
pub(crate) use decode::{decode, decode_all};
pub use encode::encoded_bytes;
pub(crate) use encode::{encode, encode_all};
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
    #[cold]
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self::Type(message.to_string())
    }

    #[cold]
    fn invalid_length(length: usize, expected: &dyn serde::de::Expected) -> Self {
        Self::Type(format!("invalid length {length}, expected {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
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
        let mut bytes = vec![0xee; 8192];
        let rest = encode(value, &mut bytes).unwrap().len();
        bytes.truncate(8192 - rest);
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
    fn lists_of_numbers_survive_wherever_they_stand() {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct Holder {
            bytes: Vec<u8>,
            maybe: Option<Vec<f64>>,
            none: Option<Vec<i16>>,
            lists: Vec<Vec<u32>>,
            named: BTreeMap<String, Vec<i128>>,
            boxed: Box<[i64]>,
            wrapped: Wrapped,
            array: [u16; 3],
            arrays: ([f32; 1], Option<[u8; 32]>, Vec<[i8; 2]>),
            kind: Kind,
        }
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct Wrapped(Vec<usize>);
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        enum Kind {
            Newtype(Vec<u64>),
            Pair(Vec<i8>, Vec<f32>),
        }
        let holder = |kind| Holder {
            bytes: (0..=255).collect(),
            maybe: Some(vec![1.5, f64::MIN]),
            none: None,
            lists: vec![vec![], vec![1, 2, 3], vec![u32::MAX]],
            named: BTreeMap::from([("a".to_owned(), vec![i128::MIN]), ("b".to_owned(), vec![])]),
            boxed: Box::new([i64::MIN, 1]),
            wrapped: Wrapped(vec![usize::MAX]),
            array: [1, 2, u16::MAX],
            arrays: ([f32::MIN], Some([7; 32]), vec![[-1, 1], [2, 3]]),
            kind,
        };
        survives(&holder(Kind::Newtype(vec![u64::MAX, 1])));
        survives(&holder(Kind::Pair(vec![-1, 1], vec![f32::MAX])));
        assert_eq!(bytes_of(&vec![1u16, 2]), [2, 0, 0, 0, 1, 0, 2, 0]);
        assert_eq!(bytes_of(&Some(vec![7u8])), [1, 1, 0, 0, 0, 7]);
        assert_eq!(bytes_of(&[1u16, 2]), [1, 0, 2, 0]);
        assert_eq!(back::<Vec<u64>>(&[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), Err(RowError::CutOff));
    }

    #[test]
    fn a_list_that_is_copied_on_one_side_may_be_visited_on_the_other() {
        let numbers = vec![1u32, 2, u32::MAX];
        let visited = VecDeque::from(numbers.clone());
        assert_eq!(bytes_of(&numbers), bytes_of(&visited));
        assert_eq!(back::<Vec<u32>>(&bytes_of(&visited)).as_ref(), Ok(&numbers));
        assert_eq!(back::<VecDeque<u32>>(&bytes_of(&numbers)), Ok(visited));
        assert_eq!(back::<(u32, u32)>(&bytes_of(&[7u32, 8])), Ok((7, 8)));
        assert_eq!(back::<[u32; 2]>(&bytes_of(&(7u32, 8u32))), Ok([7, 8]));
    }

    #[test]
    fn many_values_are_the_rows_of_each() {
        fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(values: &[T]) {
            let mut all = [0; 256];
            let left = encode_all(values, &mut all).unwrap().len();
            let all = &all[..256 - left];
            assert_eq!(all, values.iter().flat_map(bytes_of).collect::<Vec<_>>());
            assert_eq!(decode_all(&mut &*all, values.len()).as_deref(), Ok(values));
            assert_eq!(decode_all::<T>(&mut &*all, values.len() + 1), Err(RowError::CutOff));
            assert_eq!(decode_all::<T>(&mut &*all, usize::MAX), Err(RowError::CutOff));
            assert_eq!(encode_all(values, &mut [0; 5]), Err(RowError::Full));
        }
        check(&[1u64, 2, u64::MAX]);
        check(&[1.5f32, -0.0]);
        check(&[7u8; 100]);
        check(&[(1u64, 2u8), (3, 4)]);
        check(&["a".to_owned(), "bc".to_owned()]);
    }

    #[test]
    fn bytes_are_counted_as_they_are_written() {
        #[derive(Serialize)]
        struct Skipping {
            #[serde(skip_serializing_if = "Option::is_none")]
            maybe: Option<u8>,
        }
        let shape = Shape::Named {
            text: "abc".to_owned(),
            ratio: 1.0,
            list: vec![Shape::Nothing, Shape::Pair(1, 'a'), Shape::Wrapped(None)],
        };
        assert_eq!(encoded_bytes(&shape), bytes_of(&shape).len());
        let map = BTreeMap::from([("a".to_owned(), vec![1.5]), ("b".to_owned(), vec![])]);
        assert_eq!(encoded_bytes(&map), bytes_of(&map).len());
        assert_eq!(encoded_bytes("text"), 4 + 4);
        assert_eq!(encoded_bytes(&vec![0u8; 10_000]), 4 + 10_000);
        assert_eq!(encoded_bytes(&[0f64; 100][..]), 4 + 800);
        assert_eq!(encoded_bytes(&((), Empty {}, [1u16; 3])), 1 + 1 + 6);
        assert_eq!(encoded_bytes(&Skipping { maybe: None }), size_of::<Skipping>());
    }

    /// A list whose type reads it in a way of its own is not taken for a plain one.
    #[test]
    fn lists_with_a_reader_of_their_own_are_left_to_it() {
        mod reversed {
            use super::*;

            #[expect(clippy::ptr_arg, reason = "serde gives the field")]
            pub(super) fn serialize<S: serde::Serializer>(
                bytes: &Vec<u8>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(bytes.iter().rev().map(|byte| u16::from(*byte)))
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<u8>, D::Error> {
                let words = Vec::<u16>::deserialize(deserializer)?;
                Ok(words.into_iter().rev().map(|word| word as u8).collect())
            }
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Odd(#[serde(with = "reversed")] Vec<u8>);
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct OddField {
            #[serde(with = "reversed")]
            bytes: Vec<u8>,
        }
        assert_eq!(bytes_of(&Odd(vec![1, 2])), [2, 0, 0, 0, 2, 0, 1, 0]);
        survives(&Odd(vec![1, 2]));
        survives(&OddField { bytes: vec![1, 2, 3] });
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
    fn texts_of_any_length_are_checked() {
        for length in [1, 15, 255, 256, 1_000] {
            for letter in ["a", "\u{44f}", "\u{4e16}", "\u{1f600}"] {
                let text = letter.repeat(length);
                survives(&text);
                let mut bytes = bytes_of(&text);
                if let Some(last) = bytes.last_mut() {
                    *last = 0xff;
                }
                assert_eq!(back::<String>(&bytes), Err(RowError::Malformed));
            }
        }
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
