//! Copies lists of numbers at once.
//!
//! serde visits a list element by element, which costs 600 ns for a `Vec<u8>` of 1 KB. Its bytes in
//! a row are those in memory, so serde's own lists and arrays of numbers are recognized by type,
//! wherever they stand, and copied. The row is the same.
//!
//! A comparison of types is a constant after optimization, and it is made for lists and tuples
//! alone: the code for all other values is as without it. (`docs/adr/0005-data-stays-serde.md`)

use std::any::TypeId;
use std::fmt;
use std::mem::{ManuallyDrop, take, transmute_copy};

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use super::RowError;
use super::room::Room;

/// A number that rows hold as memory does, little endian.
pub(super) trait Number: DeserializeOwned + Copy + 'static {
    /// Fills `bytes` with these numbers.
    fn copy_to(numbers: &[Self], bytes: &mut [u8]);

    fn copy_from(bytes: &[u8]) -> Vec<Self>;

    fn copy_array<const N: usize>(bytes: &[u8]) -> Option<[Self; N]>;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Number for $number {
            #[inline]
            fn copy_to(numbers: &[Self], bytes: &mut [u8]) {
                let (places, _) = bytes.as_chunks_mut::<{ size_of::<Self>() }>();
                for (place, number) in places.iter_mut().zip(numbers) {
                    *place = number.to_le_bytes();
                }
            }

            #[inline]
            fn copy_from(bytes: &[u8]) -> Vec<Self> {
                let (numbers, _) = bytes.as_chunks::<{ size_of::<Self>() }>();
                numbers.iter().map(|number| Self::from_le_bytes(*number)).collect()
            }

            #[inline]
            fn copy_array<const N: usize>(bytes: &[u8]) -> Option<[Self; N]> {
                let (numbers, _) = bytes.as_chunks::<{ size_of::<Self>() }>();
                Some(<&[_; N]>::try_from(numbers).ok()?.map(Self::from_le_bytes))
            }
        })*

        /// Writes a list that serde goes through, if it is one of numbers.
        #[inline(always)]
        pub(super) fn write<I, R: Room>(list: &I, room: &mut R) -> Option<Result<R, RowError>> {
            $(if let Some(numbers) = listed::<I, $number>(list) {
                return Some(put_list(numbers, take(room)));
            })*
            None
        }

        /// Reads the list that the visitor makes, if it is serde's visitor of a list of numbers.
        #[inline(always)]
        pub(super) fn read_list<'de, V: Visitor<'de>>(
            bytes: &mut &[u8],
        ) -> Option<Result<V::Value, RowError>> {
            $(if makes::<V, Vec<$number>>() {
                return Some(take_list::<$number>(bytes).map(named));
            })*
            None
        }

        /// Reads the array that the visitor makes, if it is serde's visitor of an array of numbers.
        #[inline(always)]
        pub(super) fn read_array<'de, V: Visitor<'de>>(
            bytes: &mut &[u8],
        ) -> Option<Result<V::Value, RowError>> {
            $(if let Some(array) = read_array_of::<$number, V>(bytes) {
                return Some(array);
            })*
            None
        }

        /// Whether a type is that of a number that is copied.
        #[inline(always)]
        pub(crate) fn are_numbers<T>() -> bool {
            false $(|| equal::<T, $number>())*
        }

        /// Writes records without their number, if they are numbers.
        #[inline(always)]
        pub(super) fn write_numbers<T, R: Room>(
            records: &[T],
            room: &mut R,
        ) -> Option<Result<R, RowError>> {
            $(if let Some(numbers) = listed::<&[T], $number>(&records) {
                return Some(take(room).put_numbers(numbers));
            })*
            None
        }

        /// Reads so many records, if they are numbers.
        #[inline(always)]
        pub(super) fn read_numbers<T>(
            bytes: &mut &[u8],
            count: usize,
        ) -> Option<Result<Vec<T>, RowError>> {
            $(if equal::<T, $number>() {
                return Some(take_numbers::<$number>(bytes, count).map(named));
            })*
            None
        }
    };
}
numbers!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, usize, isize, f32, f64);

/// Rows hold a `usize` as a `u64`.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// Whether two types are the same up to lifetimes.
#[inline(always)]
fn equal<T, U>() -> bool {
    typeid::of::<T>() == typeid::of::<U>()
}

/// The numbers of a list, if it is `&Vec<N>` or `&[N]`.
#[inline(always)]
fn listed<'a, I, N: Number>(list: &'a I) -> Option<&'a [N]> {
    let list = std::ptr::from_ref(list);
    if equal::<I, &Vec<N>>() {
        // SAFETY: the types are equal up to lifetimes, and `'a` is within that of `I`.
        let list: &'a &'a Vec<N> = unsafe { &*list.cast() };
        return Some(list);
    }
    if equal::<I, &[N]>() {
        // SAFETY: as above.
        let list: &'a &'a [N] = unsafe { &*list.cast() };
        return Some(list);
    }
    None
}

/// The same value as a `T`, which is the type `U` up to lifetimes.
#[inline(always)]
fn named<T, U: 'static>(value: U) -> T {
    assert!(equal::<T, U>(), "the caller has compared the types");
    let value = ManuallyDrop::new(value);
    // SAFETY: the types are equal up to lifetimes, and `U` has none. The value is not used again.
    unsafe { transmute_copy(&*value) }
}

/// Whether the visitor is the one with which serde reads a `T`. It has no content, so it does what
/// `T::deserialize` does.
#[inline(always)]
fn makes<'de, V: Visitor<'de>, T: DeserializeOwned + 'static>() -> bool {
    size_of::<V>() == 0 && equal::<V::Value, T>() && visitor_of::<T>() == Some(typeid::of::<V>())
}

#[inline(always)]
fn visitor_of<T: DeserializeOwned>() -> Option<TypeId> {
    match T::deserialize(Asking) {
        Err(Asked::Visitor(id)) => Some(id),
        Ok(_) | Err(Asked::Else) => None,
    }
}

/// Finds out with which visitor a type is read.
struct Asking;

#[derive(Debug)]
enum Asked {
    Visitor(TypeId),
    Else,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Asked {}

impl de::Error for Asked {
    fn custom<M: fmt::Display>(_message: M) -> Self {
        Self::Else
    }
}

impl<'de> Deserializer<'de> for Asking {
    type Error = Asked;

    #[inline(always)]
    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked::Visitor(typeid::of::<V>()))
    }

    serde::forward_to_deserialize_any! {
        bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// Writes a list with its length.
#[inline]
pub(super) fn put_list<N: Number, R: Room>(numbers: &[N], room: R) -> Result<R, RowError> {
    let length = u32::try_from(numbers.len()).map_err(|_| RowError::TooLong)?;
    room.put(length.to_le_bytes())?.put_numbers(numbers)
}

/// Writes numbers to the front of `room` and returns the rest.
#[inline]
pub(super) fn put<'a, N: Number>(
    numbers: &[N],
    room: &'a mut [u8],
) -> Result<&'a mut [u8], RowError> {
    let (place, room) = room.split_at_mut_checked(size_of_val(numbers)).ok_or(RowError::Full)?;
    N::copy_to(numbers, place);
    Ok(room)
}

#[inline]
fn take_bytes<'de>(bytes: &mut &'de [u8], count: usize) -> Result<&'de [u8], RowError> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(RowError::CutOff)?;
    *bytes = rest;
    Ok(taken)
}

#[inline]
fn take_numbers<N: Number>(bytes: &mut &[u8], count: usize) -> Result<Vec<N>, RowError> {
    let length = count.checked_mul(size_of::<N>()).ok_or(RowError::CutOff)?;
    Ok(N::copy_from(take_bytes(bytes, length)?))
}

#[inline]
fn take_list<N: Number>(bytes: &mut &[u8]) -> Result<Vec<N>, RowError> {
    let (count, rest) = bytes.split_first_chunk().ok_or(RowError::CutOff)?;
    *bytes = rest;
    take_numbers(bytes, u32::from_le_bytes(*count) as usize)
}

macro_rules! lengths {
    ($($length:literal)*) => {
        /// Reads an array of such numbers. serde reads those of up to 32 elements.
        #[inline(always)]
        fn read_array_of<'de, N: Number, V: Visitor<'de>>(
            bytes: &mut &[u8],
        ) -> Option<Result<V::Value, RowError>>
        where
            $([N; $length]: DeserializeOwned,)*
        {
            if const { size_of::<V::Value>() % size_of::<N>() != 0 } {
                return None;
            }
            match const { size_of::<V::Value>() / size_of::<N>() } {
                $($length if makes::<V, [N; $length]>() => {
                    let taken = take_bytes(bytes, size_of::<[N; $length]>());
                    let array = |bytes| N::copy_array::<$length>(bytes).ok_or(RowError::CutOff);
                    Some(taken.and_then(array).map(named))
                })*
                _ => None,
            }
        }
    };
}
lengths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use serde::Serialize;

    use super::*;
    use crate::rows::encode::encode_to;

    /// Room that takes lengths and numbers, and no element by itself.
    #[derive(Default)]
    struct NoElements;

    impl Room for NoElements {
        type Length = ();

        fn put<const N: usize>(self, _bytes: [u8; N]) -> Result<Self, RowError> {
            if N == 4 { Ok(self) } else { Err(RowError::Full) }
        }

        fn put_numbers<N: Number>(self, _numbers: &[N]) -> Result<Self, RowError> {
            Ok(self)
        }

        fn put_length(self) -> Result<((), Self), RowError> {
            Ok(((), self))
        }

        fn set_length(_length: (), _count: u32) {}
    }

    fn is_written_at_once<T: Serialize + ?Sized>(value: &T) -> bool {
        encode_to(NoElements, value).is_ok()
    }

    /// Says of a list or an array whether it would be copied.
    struct Ask;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Copied(bool);

    impl de::Error for Copied {
        fn custom<M: fmt::Display>(_message: M) -> Self {
            Self(false)
        }
    }

    impl<'de> Deserializer<'de> for Ask {
        type Error = Copied;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Copied> {
            let zeros = [0; 512];
            let is_list = read_list::<V>(&mut &zeros[..]).is_some();
            Err(Copied(is_list || read_array::<V>(&mut &zeros[..]).is_some()))
        }

        serde::forward_to_deserialize_any! {
            bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
            ignored_any
        }
    }

    fn is_read_at_once<T: DeserializeOwned>() -> bool {
        matches!(T::deserialize(Ask), Err(Copied(true)))
    }

    /// Guards against a serde that goes through its lists in another way.
    #[test]
    fn lists_of_numbers_are_copied_and_others_are_not() {
        assert!(is_written_at_once(&vec![1u8]) && is_read_at_once::<Vec<u8>>());
        assert!(is_written_at_once(&vec![1.0f64]) && is_read_at_once::<Vec<f64>>());
        assert!(is_written_at_once(&[1u16][..]) && is_read_at_once::<Box<[u16]>>());
        assert!(is_read_at_once::<[u8; 32]>() && is_read_at_once::<[i128; 1]>());
        assert!(!is_written_at_once(&VecDeque::from([1u8])) && !is_read_at_once::<VecDeque<u8>>());
        assert!(!is_written_at_once(&vec![true]) && !is_read_at_once::<Vec<bool>>());
        assert!(!is_read_at_once::<(u64, u64)>() && !is_read_at_once::<[char; 2]>());
    }
}
