//! Reads bytes along a conversion: a deserializer that offers serde fields and variants by name.
//!
//! What the type's `Deserialize` asks for matters little, because the conversion knows the bytes.
//! A `Deserialize` that is at odds with the type's schema gets an error.

use std::fmt;
use std::{iter, slice};

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::{Body, Conversion, DEPTH_MAX, Field, Fields, Node};

/// Elements without bytes that a list may have.
const EMPTY_ELEMENTS_MAX: u64 = 1 << 16;

/// Steps without bytes in a row.
const IDLE_STEPS_MAX: u32 = 1 << 20;

/// Why a value cannot be converted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(String);

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<postcard::Error> for Fault {
    fn from(error: postcard::Error) -> Self {
        Self(error.to_string())
    }
}

impl Fault {
    pub(super) fn too_deep() -> Self {
        Self(format!("a value is nested deeper than {DEPTH_MAX} levels"))
    }

    pub(super) fn no_variant(number: u32) -> Self {
        Self(format!("its schema has no variant of number {number}: the snapshot is damaged"))
    }

    /// A `Deserialize` asks for something else than the schema says.
    fn other_shape() -> Self {
        Self("the type's Deserialize does not fit its schema".to_owned())
    }
}

/// The bytes that are not read yet.
#[derive(Debug)]
pub(super) struct Input<'de> {
    rest: &'de [u8],
    /// The number of steps since bytes were last taken.
    idle: u32,
}

impl<'de> Input<'de> {
    pub(super) const fn new(rest: &'de [u8]) -> Self {
        Self { rest, idle: 0 }
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Takes a value as postcard writes it.
    pub(super) fn take<T: Deserialize<'de>>(&mut self) -> Result<T, Fault> {
        let (value, rest) = postcard::take_from_bytes(self.rest)?;
        (self.rest, self.idle) = (rest, 0);
        Ok(value)
    }

    /// Counts a step that may take no bytes: a damaged schema may have more of them than can ever
    /// be made.
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        self.idle += 1;
        if self.idle > IDLE_STEPS_MAX {
            Err(Fault::custom("its schema is damaged"))
        } else {
            Ok(())
        }
    }

    /// Has postcard read a part of the bytes.
    fn postcard<T>(
        &mut self,
        read: impl FnOnce(&mut Postcard<'de>) -> Read<T>,
    ) -> Result<T, Fault> {
        let mut postcard = postcard::Deserializer::from_bytes(self.rest);
        let value = read(&mut postcard)?;
        self.rest = postcard.finalize()?;
        Ok(value)
    }

    /// Takes the length of a list whose elements are read one by one.
    fn take_len(&mut self) -> Result<usize, Fault> {
        let len = self.take::<u64>()?;
        // Only elements without bytes can outnumber the bytes.
        if len > (self.left() as u64).max(EMPTY_ELEMENTS_MAX) {
            return Err(Fault(format!("it has a list of {len} elements and too few bytes")));
        }
        usize::try_from(len).map_err(Fault::custom)
    }
}

type Postcard<'de> = postcard::Deserializer<'de, postcard::de_flavors::Slice<'de>>;
type Read<T> = Result<T, postcard::Error>;

impl Conversion {
    /// Takes the value at the start of some bytes off them.
    pub(crate) fn take<T: DeserializeOwned>(&self, bytes: &mut &[u8]) -> Result<T, Fault> {
        let mut input = Input::new(bytes);
        let value = T::deserialize(Walker {
            conversion: self,
            node: &self.root,
            input: &mut input,
            depth: 0,
        })?;
        *bytes = input.rest;
        Ok(value)
    }
}

/// Reads one part of a value.
#[derive(Debug)]
struct Walker<'a, 'de> {
    conversion: &'a Conversion,
    node: &'a Node,
    input: &'a mut Input<'de>,
    depth: usize,
}

impl<'a, 'de> Walker<'a, 'de> {
    /// The reader of a part of this one.
    fn part<'b>(&'b mut self, node: &'b Node) -> Walker<'b, 'de> {
        let (conversion, depth) = (self.conversion, self.depth + 1);
        Walker { conversion, node, input: self.input, depth }
    }

    fn body(&self) -> Option<&'a Body> {
        match self.node {
            Node::Named(at) => self.conversion.types.get(*at),
            _ => None,
        }
    }

    /// Offers the visitor the parts that were written.
    fn walk<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        if self.depth > DEPTH_MAX {
            return Err(Fault::too_deep());
        }
        match self.node {
            Node::Same => Err(Fault::other_shape()),
            Node::Integer { bits, signed } => self.integer(*bits, *signed, visitor),
            Node::Optional(inner) => match self.input.take::<u8>()? {
                0 => visitor.visit_none(),
                1 => visitor.visit_some(self.part(inner)),
                _ => Err(Fault("an optional value is neither there nor not there".to_owned())),
            },
            Node::Sequence(inner) => {
                let len = self.input.take_len()?;
                self.elements(iter::repeat_n(&**inner, len), visitor)
            }
            Node::Array(inner, len) => self.elements(iter::repeat_n(&**inner, *len), visitor),
            Node::Tuple(parts) => self.elements(parts.iter(), visitor),
            Node::Map(value) => {
                let left = self.input.take_len()?;
                let mut entries = Entries { walker: self, value, left };
                let map = visitor.visit_map(&mut entries)?;
                if entries.left > 0 { Err(Fault::other_shape()) } else { Ok(map) }
            }
            Node::Named(_) => match self.body() {
                Some(Body::Struct(Fields::Numbered(parts))) => self.elements(parts.iter(), visitor),
                Some(Body::Struct(Fields::Named(fields))) => self.named(fields, visitor),
                Some(Body::Enum { .. }) => visitor.visit_enum(self),
                None => Err(Fault::other_shape()),
            },
        }
    }

    fn integer<V: Visitor<'de>>(
        self,
        bits: u8,
        signed: bool,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (bits, signed) {
            (8, false) => visitor.visit_u8(self.input.take()?),
            (16, false) => visitor.visit_u16(self.input.take()?),
            (32, false) => visitor.visit_u32(self.input.take()?),
            (64, false) => visitor.visit_u64(self.input.take()?),
            (8, true) => visitor.visit_i8(self.input.take()?),
            (16, true) => visitor.visit_i16(self.input.take()?),
            (32, true) => visitor.visit_i32(self.input.take()?),
            (64, true) => visitor.visit_i64(self.input.take()?),
            _ => Err(Fault::other_shape()),
        }
    }

    fn elements<'n, V: Visitor<'de>>(
        self,
        nodes: impl ExactSizeIterator<Item = &'n Node>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut elements = Elements { walker: self, nodes };
        let value = visitor.visit_seq(&mut elements)?;
        if elements.nodes.len() > 0 { Err(Fault::other_shape()) } else { Ok(value) }
    }

    fn named<V: Visitor<'de>>(self, fields: &[Field], visitor: V) -> Result<V::Value, Fault> {
        let mut named = Named { walker: self, fields: fields.iter(), value: None };
        let value = visitor.visit_map(&mut named)?;
        if named.fields.len() > 0 || named.value.is_some() {
            return Err(Fault::other_shape());
        }
        Ok(value)
    }

    /// Passes over fields, of which the program has none.
    fn skip_all(&mut self, fields: &Fields) -> Result<(), Fault> {
        match fields {
            Fields::Named(fields) => fields.iter().try_for_each(|field| match field {
                Field::Skip(kind) => self.input.skip(&self.conversion.written, kind, self.depth),
                Field::Read(..) => Err(Fault::other_shape()),
            }),
            Fields::Numbered(_) => Err(Fault::other_shape()),
        }
    }
}

/// Checks that a type knows all fields that it is about to be offered: serde would pass over others
/// without a word.
fn check_known(fields: &Fields, known: &[&str]) -> Result<(), Fault> {
    let Fields::Named(fields) = fields else { return Ok(()) };
    for field in fields {
        if let Field::Read(name, _) = field
            && !known.contains(&name.as_str())
        {
            return Err(Fault(format!(
                "its Deserialize has no field `{name}`: give the field one name to write and read"
            )));
        }
    }
    Ok(())
}

macro_rules! walk {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.node {
                Node::Same => self.input.postcard(|postcard| postcard.$method(visitor)),
                _ => self.walk(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Walker<'_, 'de> {
    type Error = Fault;

    walk! {
        deserialize_any deserialize_bool deserialize_char deserialize_str deserialize_string
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (self.node, self.body()) {
            (Node::Same, _) => self.input.postcard(|p| p.deserialize_unit_struct(name, visitor)),
            (_, Some(Body::Struct(fields))) => {
                self.skip_all(fields)?;
                visitor.visit_unit()
            }
            _ => self.walk(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (self.node, self.body()) {
            (Node::Same, _) => {
                self.input.postcard(|postcard| postcard.deserialize_newtype_struct(name, visitor))
            }
            (_, Some(Body::Struct(Fields::Numbered(parts)))) => match &parts[..] {
                [part] if self.depth <= DEPTH_MAX => visitor.visit_newtype_struct(self.part(part)),
                [_] => Err(Fault::too_deep()),
                _ => Err(Fault::other_shape()),
            },
            // The schema may say of a type what it wraps.
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Same => self.input.postcard(|p| p.deserialize_tuple(len, visitor)),
            _ => self.walk(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::Same => self.input.postcard(|p| p.deserialize_tuple_struct(name, len, visitor)),
            _ => self.walk(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (self.node, self.body()) {
            (Node::Same, _) => {
                return self.input.postcard(|p| p.deserialize_struct(name, fields, visitor));
            }
            (_, Some(Body::Struct(offered))) => check_known(offered, fields)?,
            _ => {}
        }
        self.walk(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::Same => self.input.postcard(|p| p.deserialize_enum(name, variants, visitor)),
            _ => self.walk(visitor),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Parts that have no names.
#[derive(Debug)]
struct Elements<'a, 'de, I> {
    walker: Walker<'a, 'de>,
    nodes: I,
}

impl<'n, 'de, I: ExactSizeIterator<Item = &'n Node>> SeqAccess<'de> for Elements<'_, 'de, I> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.nodes.next().map(|node| seed.deserialize(self.walker.part(node))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len().min(self.walker.input.left()))
    }
}

/// Entries of a map.
#[derive(Debug)]
struct Entries<'a, 'de> {
    walker: Walker<'a, 'de>,
    value: &'a Node,
    left: usize,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.walker.part(&Node::Same)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.walker.part(self.value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.walker.input.left()))
    }
}

/// Fields by their names.
#[derive(Debug)]
struct Named<'a, 'de, 'n> {
    walker: Walker<'a, 'de>,
    fields: slice::Iter<'n, Field>,
    /// The value of the field whose name was given last.
    value: Option<&'n Node>,
}

impl<'de> MapAccess<'de> for Named<'_, 'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        for field in self.fields.by_ref() {
            match field {
                Field::Skip(kind) => {
                    let (written, depth) = (&self.walker.conversion.written, self.walker.depth);
                    self.walker.input.skip(written, kind, depth)?;
                }
                Field::Read(name, node) => {
                    self.value = Some(node);
                    return seed.deserialize(StrDeserializer::new(name)).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(Fault::other_shape)?;
        seed.deserialize(self.walker.part(node))
    }
}

impl<'a, 'de> EnumAccess<'de> for Walker<'a, 'de> {
    type Error = Fault;
    type Variant = VariantFields<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Fault> {
        let number = self.input.take::<u32>()?;
        let Some(Body::Enum { name, variants }) = self.body() else {
            return Err(Fault::other_shape());
        };
        let variant = usize::try_from(number).ok().and_then(|at| variants.get(at));
        let variant = variant.ok_or_else(|| Fault::no_variant(number))?;
        let Some((is, fields)) = &variant.is else {
            let was = &variant.was;
            return Err(Fault(format!(
                "it has a value `{was}` of enum {name}, and the program's {name} has no such \
                 variant"
            )));
        };
        let value = seed.deserialize(StrDeserializer::<Fault>::new(is))?;
        Ok((value, VariantFields { walker: self, fields }))
    }
}

/// The fields of a variant.
#[derive(Debug)]
struct VariantFields<'a, 'de> {
    walker: Walker<'a, 'de>,
    fields: &'a Fields,
}

impl<'de> VariantAccess<'de> for VariantFields<'_, 'de> {
    type Error = Fault;

    fn unit_variant(mut self) -> Result<(), Fault> {
        self.walker.skip_all(self.fields)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Fault> {
        match self.fields {
            Fields::Numbered(parts) => match &parts[..] {
                [part] => seed.deserialize(self.walker.part(part)),
                _ => Err(Fault::other_shape()),
            },
            Fields::Named(_) => Err(Fault::other_shape()),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.fields {
            Fields::Numbered(parts) => self.walker.elements(parts.iter(), visitor),
            Fields::Named(_) => {
                self.walker.skip_all(self.fields)?;
                self.walker.elements([].iter(), visitor)
            }
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        check_known(self.fields, fields)?;
        match self.fields {
            Fields::Named(fields) => self.walker.named(fields, visitor),
            Fields::Numbered(_) => Err(Fault::other_shape()),
        }
    }
}
