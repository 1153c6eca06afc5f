//! Finds out whether a type can be read from rows, before there is any value of it.
//!
//! The type's own `Deserialize` is run on made-up values, every variant of every enum in turn, as
//! far as they please it. Only one thing counts: that it asks for what rows cannot tell, the
//! names and types of values. A type that refuses the made-up values may be anything, and passes.

use std::collections::HashMap;

use serde::Deserializer;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// Depth of nesting from which values are made as short as possible.
const DEEP: usize = 12;
/// The largest depth of nesting.
const DEPTH_MAX: usize = 64;
/// The most values that are made.
const VALUES_MAX: usize = 100_000;

/// Whether rows have all that the type's `Deserialize` asks for, as far as that can be known.
pub(crate) fn can_be_read<T: DeserializeOwned>() -> bool {
    let mut known = Known::default();
    loop {
        let before = known.tried();
        match T::deserialize(Probe { known: &mut known, depth: 0 }) {
            Err(Stopped::NeedsNames) => return false,
            Err(Stopped::Unknown) | Ok(_) => {}
        }
        // Another round helps if this one has met a variant for the first time.
        if known.values >= VALUES_MAX || known.tried() == before {
            return true;
        }
    }
}

/// Why a round ended early.
#[derive(Debug)]
enum Stopped {
    /// The type asks for names or types.
    NeedsNames,
    /// It refuses its input, or there was too much of it.
    Unknown,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Stopped {}

impl serde::de::Error for Stopped {
    fn custom<M: std::fmt::Display>(_message: M) -> Self {
        Self::Unknown
    }
}

/// An enum: its name and where its variants' names are.
type Enum = (&'static str, usize);

#[derive(Default)]
struct Variants {
    tried: usize,
    /// The first one whose value was made to its end: it does not hold others of its enum.
    short: Option<u32>,
}

#[derive(Default)]
struct Known {
    enums: HashMap<Enum, Variants>,
    values: usize,
}

impl Known {
    fn tried(&self) -> usize {
        self.enums.values().map(|variants| variants.tried).sum()
    }
}

struct Probe<'a> {
    known: &'a mut Known,
    depth: usize,
}

impl<'a> Probe<'a> {
    /// The probe of a value inside this one.
    fn inner(&mut self) -> Result<Probe<'_>, Stopped> {
        self.known.values += 1;
        if self.depth >= DEPTH_MAX || self.known.values > VALUES_MAX {
            return Err(Stopped::Unknown);
        }
        Ok(Probe { known: self.known, depth: self.depth + 1 })
    }

    const fn parts(self, left: usize) -> Parts<'a> {
        Parts { probe: self, left }
    }

    /// The length of a collection.
    const fn length(&self) -> usize {
        if self.depth < DEEP { 1 } else { 0 }
    }
}

macro_rules! made_up {
    ($($method:ident $visit:ident: $value:expr),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stopped> {
            visitor.$visit($value)
        })*
    };
}

macro_rules! refused {
    ($($method:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stopped> {
            Err(Stopped::NeedsNames)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stopped;

    made_up! {
        deserialize_bool visit_bool: false, deserialize_char visit_char: 'a',
        deserialize_u8 visit_u8: 1, deserialize_u16 visit_u16: 1, deserialize_u32 visit_u32: 1,
        deserialize_u64 visit_u64: 1, deserialize_u128 visit_u128: 1,
        deserialize_i8 visit_i8: 1, deserialize_i16 visit_i16: 1, deserialize_i32 visit_i32: 1,
        deserialize_i64 visit_i64: 1, deserialize_i128 visit_i128: 1,
        deserialize_f32 visit_f32: 1.0, deserialize_f64 visit_f64: 1.0,
        deserialize_str visit_borrowed_str: "a", deserialize_string visit_borrowed_str: "a",
        deserialize_bytes visit_borrowed_bytes: b"a",
        deserialize_byte_buf visit_borrowed_bytes: b"a"
    }

    refused!(deserialize_any, deserialize_identifier, deserialize_ignored_any);

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        match self.length() {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self.inner()?),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stopped> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        visitor.visit_newtype_struct(self.inner()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stopped> {
        let length = self.length();
        visitor.visit_seq(self.parts(length))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        visitor.visit_seq(self.parts(count))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        visitor.visit_seq(self.parts(count))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stopped> {
        let length = self.length();
        visitor.visit_map(self.parts(length))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        visitor.visit_seq(self.parts(fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        let key = (name, variants.as_ptr() as usize);
        let count = u32::try_from(variants.len()).unwrap_or(u32::MAX).max(1);
        let known = self.known.enums.entry(key).or_default();
        let next = u32::try_from(known.tried).unwrap_or(u32::MAX);
        let variant = match known.short {
            Some(short) if next >= count || self.depth >= DEEP => short,
            _ => next % count,
        };
        if next < count && variant == next {
            known.tried += 1;
        }
        let chosen = Chosen { probe: Probe { known: self.known, depth: self.depth }, variant };
        let value = visitor.visit_enum(chosen)?;
        self.known.enums.entry(key).or_default().short.get_or_insert(variant);
        Ok(value)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Fields, elements, or keys and values.
struct Parts<'a> {
    probe: Probe<'a>,
    left: usize,
}

impl Parts<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stopped> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.probe.inner()?).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stopped;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stopped> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stopped;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stopped> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stopped> {
        seed.deserialize(self.probe.inner()?)
    }
}

/// A variant that was chosen.
struct Chosen<'a> {
    probe: Probe<'a>,
    variant: u32,
}

impl<'a, 'de> EnumAccess<'de> for Chosen<'a> {
    type Error = Stopped;
    type Variant = Probe<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Probe<'a>), Stopped> {
        let index: U32Deserializer<Stopped> = self.variant.into_deserializer();
        Ok((seed.deserialize(index)?, self.probe))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Stopped;

    fn unit_variant(self) -> Result<(), Stopped> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<S::Value, Stopped> {
        seed.deserialize(self.inner()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Stopped> {
        visitor.visit_seq(self.parts(count))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        visitor.visit_seq(self.parts(fields.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::net::IpAddr;
    use std::num::NonZeroU32;
    use std::time::{Duration, SystemTime};

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    struct Plain {
        number: u64,
        text: String,
        list: Vec<Option<NonZeroU32>>,
        map: BTreeMap<String, (f64, char)>,
        tree: Tree,
        shape: Shape,
        time: SystemTime,
        address: Option<IpAddr>,
        unit: (),
        set: HashSet<i128>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    enum Tree {
        Both(Box<Tree>, Box<Tree>),
        Many(Vec<Tree>),
        Leaf(u8),
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    enum Shape {
        Nothing,
        Named { tree: Tree, span: Duration },
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    struct Endless(Box<Endless>);

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    struct Flat {
        #[serde(flatten)]
        inner: BTreeMap<String, u64>,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    enum Untagged {
        Number(u64),
        Text(String),
    }

    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    enum Tagged {
        Click { page: u64 },
    }

    /// A type whose fault is in the last variant of the last field.
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    struct Hidden {
        tree: Tree,
        event: Event,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their `Deserialize` counts")]
    enum Event {
        Nothing,
        Pair(u8, Shape),
        Other(BTreeMap<u64, Vec<Option<serde_json::Value>>>),
    }

    #[test]
    fn types_whose_rows_say_enough_pass() {
        assert!(can_be_read::<Plain>());
        assert!(can_be_read::<Tree>());
        assert!(can_be_read::<Endless>());
        assert!(can_be_read::<(u64, String, [u8; 32], Option<Vec<bool>>)>());
    }

    #[test]
    fn types_that_ask_for_names_are_found_wherever_they_are() {
        assert!(!can_be_read::<Flat>());
        assert!(!can_be_read::<Untagged>());
        assert!(!can_be_read::<Tagged>());
        assert!(!can_be_read::<serde_json::Value>());
        assert!(!can_be_read::<Option<Vec<(u8, Untagged)>>>());
        assert!(!can_be_read::<Hidden>());
    }
}
