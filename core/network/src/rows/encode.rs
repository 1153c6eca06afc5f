//! From values to rows.

use std::mem::take;

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::RowError;

/// The free part of the bytes to write to. It is handed from field to field by value: kept behind a
/// reference, it would be loaded and stored again for each.
type Room<'a> = &'a mut [u8];

/// Writes the row of `value` to the front of `room` and returns the rest, or [`RowError::Full`].
#[inline]
pub(crate) fn encode<'a, T>(value: &T, room: Room<'a>) -> Result<Room<'a>, RowError>
where
    T: Serialize + ?Sized,
{
    value.serialize(Encoder { room })
}

struct Encoder<'a> {
    room: Room<'a>,
}

impl<'a> Encoder<'a> {
    #[inline]
    fn put<const N: usize>(self, bytes: [u8; N]) -> Result<Room<'a>, RowError> {
        let (place, room) = self.room.split_first_chunk_mut::<N>().ok_or(RowError::Full)?;
        *place = bytes;
        Ok(room)
    }

    /// Fields in turn; a byte stands for none.
    #[inline]
    fn fields(self, count: usize) -> Result<Fields<'a>, RowError> {
        let room = if count == 0 { self.put([0])? } else { self.room };
        Ok(Fields { room })
    }

    fn variant(self, index: u32) -> Result<Fields<'a>, RowError> {
        Ok(Fields { room: self.put(index.to_le_bytes())? })
    }

    fn elements(self) -> Result<Elements<'a>, RowError> {
        let (length, room) = self.room.split_first_chunk_mut().ok_or(RowError::Full)?;
        Ok(Elements { length, count: 0, room })
    }
}

macro_rules! numbers {
    ($($method:ident: $number:ty),*) => {
        $(#[inline]
        fn $method(self, value: $number) -> Result<Room<'a>, RowError> {
            self.put(value.to_le_bytes())
        })*
    };
}

impl<'a> Serializer for Encoder<'a> {
    type Ok = Room<'a>;
    type Error = RowError;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Fields<'a>;
    type SerializeTupleStruct = Fields<'a>;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    numbers! {
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_f32: f32, serialize_f64: f64
    }

    fn serialize_bool(self, value: bool) -> Result<Room<'a>, RowError> {
        self.put([u8::from(value)])
    }

    fn serialize_char(self, value: char) -> Result<Room<'a>, RowError> {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<Room<'a>, RowError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Room<'a>, RowError> {
        let length = u32::try_from(value.len()).map_err(|_| RowError::TooLong)?;
        let room = self.put(length.to_le_bytes())?;
        let (place, room) = room.split_at_mut_checked(value.len()).ok_or(RowError::Full)?;
        place.copy_from_slice(value);
        Ok(room)
    }

    fn serialize_none(self) -> Result<Room<'a>, RowError> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Room<'a>, RowError> {
        encode(value, self.put([1])?)
    }

    fn serialize_unit(self) -> Result<Room<'a>, RowError> {
        self.put([0])
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Room<'a>, RowError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<Room<'a>, RowError> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Room<'a>, RowError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<Room<'a>, RowError> {
        encode(value, self.put(index.to_le_bytes())?)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Elements<'a>, RowError> {
        self.elements()
    }

    fn serialize_tuple(self, count: usize) -> Result<Fields<'a>, RowError> {
        self.fields(count)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        count: usize,
    ) -> Result<Fields<'a>, RowError> {
        self.fields(count)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _count: usize,
    ) -> Result<Fields<'a>, RowError> {
        self.variant(index)
    }

    /// A map says its length unless it is a struct with flattened fields.
    fn serialize_map(self, length: Option<usize>) -> Result<Elements<'a>, RowError> {
        if length.is_none() { Err(RowError::SelfDescribing) } else { self.elements() }
    }

    fn serialize_struct(self, _name: &'static str, count: usize) -> Result<Fields<'a>, RowError> {
        self.fields(count)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _count: usize,
    ) -> Result<Fields<'a>, RowError> {
        self.variant(index)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A value whose number of parts its type fixes.
struct Fields<'a> {
    room: Room<'a>,
}

impl Fields<'_> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.room = encode(value, take(&mut self.room))?;
        Ok(())
    }
}

macro_rules! fields {
    ($($kind:ident::$method:ident),*) => {
        $(impl<'a> $kind for Fields<'a> {
            type Ok = Room<'a>;
            type Error = RowError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
                self.field(value)
            }

            fn end(self) -> Result<Room<'a>, RowError> {
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
        $(impl<'a> $kind for Fields<'a> {
            type Ok = Room<'a>;
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

            fn end(self) -> Result<Room<'a>, RowError> {
                Ok(self.room)
            }
        })*
    };
}

named_fields!(SerializeStruct, SerializeStructVariant);

/// A sequence or map, whose length is filled in at its end: the length that it announces is a
/// guess.
struct Elements<'a> {
    length: &'a mut [u8; 4],
    count: usize,
    room: Room<'a>,
}

impl<'a> Elements<'a> {
    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.room = encode(value, take(&mut self.room))?;
        Ok(())
    }

    fn finish(self) -> Result<Room<'a>, RowError> {
        let count = u32::try_from(self.count).map_err(|_| RowError::TooLong)?;
        *self.length = count.to_le_bytes();
        Ok(self.room)
    }
}

impl<'a> SerializeSeq for Elements<'a> {
    type Ok = Room<'a>;
    type Error = RowError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.count += 1;
        self.element(value)
    }

    fn end(self) -> Result<Room<'a>, RowError> {
        self.finish()
    }
}

impl<'a> SerializeMap for Elements<'a> {
    type Ok = Room<'a>;
    type Error = RowError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), RowError> {
        self.count += 1;
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.element(value)
    }

    fn end(self) -> Result<Room<'a>, RowError> {
        self.finish()
    }
}
