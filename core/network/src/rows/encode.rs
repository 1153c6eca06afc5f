//! From values to rows.

use std::mem::take;

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::room::{Counter, Room};
use super::{RowError, bulk};

/// Writes the row of `value` to the front of `room` and returns the rest, or [`RowError::Full`].
#[inline]
pub(crate) fn encode<'a, T>(value: &T, room: &'a mut [u8]) -> Result<&'a mut [u8], RowError>
where
    T: Serialize + ?Sized,
{
    encode_to(room, value)
}

#[inline(always)]
pub(super) fn encode_to<T: Serialize + ?Sized, R: Room>(room: R, value: &T) -> Result<R, RowError> {
    value.serialize(Encoder { room })
}

/// Writes the rows of all these values to the front of `room` and returns the rest.
#[inline]
pub(crate) fn encode_all<'a, T: Serialize>(
    values: &[T],
    mut room: &'a mut [u8],
) -> Result<&'a mut [u8], RowError> {
    if let Some(written) = bulk::write_numbers(values, &mut room) {
        return written;
    }
    values.iter().try_fold(room, |room, value| encode(value, room))
}

/// The bytes that the row of `value` takes, without writing them: known at once for texts and for
/// lists of numbers. For a value that cannot be encoded it is the size of the value alone.
#[inline]
pub fn encoded_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    match encode_to(Counter::default(), value) {
        Ok(counter) => counter.bytes,
        Err(_) => size_of_val(value),
    }
}

struct Encoder<R> {
    room: R,
}

impl<R: Room> Encoder<R> {
    /// Fields in turn; a byte stands for none.
    #[inline]
    fn fields(self, count: usize) -> Result<Fields<R>, RowError> {
        let room = if count == 0 { self.room.put([0])? } else { self.room };
        Ok(Fields { room })
    }

    #[inline]
    fn variant(self, index: u32) -> Result<Fields<R>, RowError> {
        Ok(Fields { room: self.room.put(index.to_le_bytes())? })
    }

    #[inline]
    fn elements(self) -> Result<Elements<R>, RowError> {
        let (length, room) = self.room.put_length()?;
        Ok(Elements { length, count: 0, room })
    }
}

macro_rules! numbers {
    ($($method:ident: $number:ty),*) => {
        $(#[inline]
        fn $method(self, value: $number) -> Result<R, RowError> {
            self.room.put(value.to_le_bytes())
        })*
    };
}

impl<R: Room> Serializer for Encoder<R> {
    type Ok = R;
    type Error = RowError;
    type SerializeSeq = Elements<R>;
    type SerializeTuple = Fields<R>;
    type SerializeTupleStruct = Fields<R>;
    type SerializeTupleVariant = Fields<R>;
    type SerializeMap = Elements<R>;
    type SerializeStruct = Fields<R>;
    type SerializeStructVariant = Fields<R>;

    numbers! {
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_f32: f32, serialize_f64: f64
    }

    fn serialize_bool(self, value: bool) -> Result<R, RowError> {
        self.room.put([u8::from(value)])
    }

    fn serialize_char(self, value: char) -> Result<R, RowError> {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<R, RowError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<R, RowError> {
        bulk::put_list(value, self.room)
    }

    fn serialize_none(self) -> Result<R, RowError> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<R, RowError> {
        encode_to(self.room.put([1])?, value)
    }

    fn serialize_unit(self) -> Result<R, RowError> {
        self.room.put([0])
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<R, RowError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<R, RowError> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<R, RowError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<R, RowError> {
        encode_to(self.room.put(index.to_le_bytes())?, value)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Elements<R>, RowError> {
        self.elements()
    }

    #[inline]
    fn collect_seq<I>(mut self, list: I) -> Result<R, RowError>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        if let Some(written) = bulk::write(&list, &mut self.room) {
            return written;
        }
        let Elements { length, mut count, mut room } = self.elements()?;
        for element in list {
            room = encode_to(room, &element)?;
            count += 1;
        }
        Elements { length, count, room }.finish()
    }

    fn serialize_tuple(self, count: usize) -> Result<Fields<R>, RowError> {
        self.fields(count)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        count: usize,
    ) -> Result<Fields<R>, RowError> {
        self.fields(count)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _count: usize,
    ) -> Result<Fields<R>, RowError> {
        self.variant(index)
    }

    /// A map says its length unless it is a struct with flattened fields.
    fn serialize_map(self, length: Option<usize>) -> Result<Elements<R>, RowError> {
        if length.is_none() { Err(RowError::SelfDescribing) } else { self.elements() }
    }

    fn serialize_struct(self, _name: &'static str, count: usize) -> Result<Fields<R>, RowError> {
        self.fields(count)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _count: usize,
    ) -> Result<Fields<R>, RowError> {
        self.variant(index)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A value whose number of parts its type fixes.
struct Fields<R> {
    room: R,
}

impl<R: Room> Fields<R> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.room = encode_to(take(&mut self.room), value)?;
        Ok(())
    }
}

macro_rules! fields {
    ($($kind:ident::$method:ident),*) => {
        $(impl<R: Room> $kind for Fields<R> {
            type Ok = R;
            type Error = RowError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
                self.field(value)
            }

            fn end(self) -> Result<R, RowError> {
                Ok(self.room)
            }
        })*
    };
}

fields! {
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
}

macro_rules! named_fields {
    ($($kind:ident),*) => {
        $(impl<R: Room> $kind for Fields<R> {
            type Ok = R;
            type Error = RowError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), RowError> {
                self.field(value)
            }

            /// A decoder expects every field.
            fn skip_field(&mut self, _name: &'static str) -> Result<(), RowError> {
                Err(RowError::SelfDescribing)
            }

            fn end(self) -> Result<R, RowError> {
                Ok(self.room)
            }
        })*
    };
}

named_fields!(SerializeStruct, SerializeStructVariant);

/// A sequence or map, whose length is filled in at its end: the length that it announces is a
/// guess.
struct Elements<R: Room> {
    length: R::Length,
    count: usize,
    room: R,
}

impl<R: Room> Elements<R> {
    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.room = encode_to(take(&mut self.room), value)?;
        Ok(())
    }

    #[inline]
    fn finish(self) -> Result<R, RowError> {
        let count = u32::try_from(self.count).map_err(|_| RowError::TooLong)?;
        R::set_length(self.length, count);
        Ok(self.room)
    }
}

impl<R: Room> SerializeSeq for Elements<R> {
    type Ok = R;
    type Error = RowError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.count += 1;
        self.element(value)
    }

    fn end(self) -> Result<R, RowError> {
        self.finish()
    }
}

impl<R: Room> SerializeMap for Elements<R> {
    type Ok = R;
    type Error = RowError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), RowError> {
        self.count += 1;
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.element(value)
    }

    fn end(self) -> Result<R, RowError> {
        self.finish()
    }
}
