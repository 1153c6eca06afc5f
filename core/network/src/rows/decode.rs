//! From rows to values.

use serde::Deserializer;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::{RowError, bulk};

/// The most values for which room is made before there is one of them.
const ROOM_MAX: usize = 1024;

/// Takes the row of one value from the front of `bytes`.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, RowError> {
    T::deserialize(Decoder { bytes })
}

/// Takes the rows of so many values from the front of `bytes`.
#[inline]
pub(crate) fn decode_all<T: DeserializeOwned>(
    bytes: &mut &[u8],
    count: usize,
) -> Result<Vec<T>, RowError> {
    if let Some(numbers) = bulk::read_numbers(bytes, count) {
        return numbers;
    }
    let mut values = Vec::with_capacity(count.min(ROOM_MAX));
    for _ in 0..count {
        values.push(decode(bytes)?);
    }
    Ok(values)
}

/// Texts from this length on are checked by SIMD instructions. That makes no difference to short
/// ones; one of 1 KB takes a third of the time if it is ASCII and a ninth if it is Cyrillic.
const LONG_TEXT_BYTES: usize = 256;

#[inline]
fn text(bytes: &[u8]) -> Result<&str, RowError> {
    let text = match bytes.len() < LONG_TEXT_BYTES {
        true => str::from_utf8(bytes).ok(),
        false => simdutf8::basic::from_utf8(bytes).ok(),
    };
    text.ok_or(RowError::Malformed)
}

struct Decoder<'a, 'de> {
    bytes: &'a mut &'de [u8],
}

impl<'a, 'de> Decoder<'a, 'de> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(RowError::CutOff)?;
        *self.bytes = rest;
        Ok(*taken)
    }

    #[inline]
    fn flag(&mut self) -> Result<bool, RowError> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(RowError::Malformed),
        }
    }

    /// A length that the bytes behind it can have.
    #[inline]
    fn length(&mut self) -> Result<usize, RowError> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        if length <= self.bytes.len() { Ok(length) } else { Err(RowError::CutOff) }
    }

    #[inline]
    fn take_bytes(&mut self) -> Result<&'de [u8], RowError> {
        let length = self.length()?;
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(RowError::CutOff)?;
        *self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn unit(&mut self) -> Result<(), RowError> {
        if self.flag()? { Err(RowError::Malformed) } else { Ok(()) }
    }

    #[inline]
    fn parts(self, left: usize) -> Parts<'a, 'de> {
        Parts { bytes: self.bytes, left }
    }

    #[inline]
    fn fields(mut self, count: usize) -> Result<Parts<'a, 'de>, RowError> {
        if count == 0 {
            self.unit()?;
        }
        Ok(self.parts(count))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident: $number:ty),*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
            visitor.$visit(<$number>::from_le_bytes(self.take()?))
        })*
    };
}

macro_rules! refused {
    ($($method:ident),*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, RowError> {
            Err(RowError::SelfDescribing)
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_, 'de> {
    type Error = RowError;

    numbers! {
        deserialize_u8 visit_u8: u8, deserialize_u16 visit_u16: u16,
        deserialize_u32 visit_u32: u32, deserialize_u64 visit_u64: u64,
        deserialize_u128 visit_u128: u128, deserialize_i8 visit_i8: i8,
        deserialize_i16 visit_i16: i16, deserialize_i32 visit_i32: i32,
        deserialize_i64 visit_i64: i64, deserialize_i128 visit_i128: i128,
        deserialize_f32 visit_f32: f32, deserialize_f64 visit_f64: f64
    }

    refused!(deserialize_any, deserialize_identifier, deserialize_ignored_any);

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_bool(self.flag()?)
    }

    #[inline]
    fn deserialize_char<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        let code = u32::from_le_bytes(self.take()?);
        visitor.visit_char(char::from_u32(code).ok_or(RowError::Malformed)?)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_borrowed_str(text(self.take_bytes()?)?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_borrowed_bytes(self.take_bytes()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        if self.flag()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        self.unit()?;
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        if let Some(list) = bulk::read_list::<V>(self.bytes) {
            return list;
        }
        let length = self.length()?;
        visitor.visit_seq(self.parts(length))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        if let Some(array) = bulk::read_array::<V>(self.bytes) {
            return array;
        }
        visitor.visit_seq(self.fields(count)?)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_seq(self.fields(count)?)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        let length = self.length()?;
        visitor.visit_map(self.parts(length))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_seq(self.fields(fields.len())?)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Fields, elements, or keys and values.
struct Parts<'a, 'de> {
    bytes: &'a mut &'de [u8],
    left: usize,
}

impl<'de> Parts<'_, 'de> {
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Decoder { bytes: self.bytes }).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = RowError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, RowError> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = RowError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, RowError> {
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, RowError> {
        seed.deserialize(Decoder { bytes: self.bytes })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> EnumAccess<'de> for Decoder<'_, 'de> {
    type Error = RowError;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<(S::Value, Self), RowError> {
        let index: U32Deserializer<RowError> = u32::from_le_bytes(self.take()?).into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Decoder<'_, 'de> {
    type Error = RowError;

    fn unit_variant(self) -> Result<(), RowError> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, RowError> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_seq(self.parts(count))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_seq(self.parts(fields.len()))
    }
}
