//! Values that an earlier version of the program wrote, read as types of this version.
//!
//! Postcard writes values by position, without names. So where two versions of a type differ, the
//! bytes are read by the schema that was written beside them. Three steps:
//!
//! 1. [`compare`] decides, once per state, whether the program's type reads what was written:
//!    as it is, after a conversion, or not at all.
//! 2. A [`Conversion`] says of each part of a value how it is read. Parts that are written as they
//!    are read have no structure in it: postcard reads them.
//! 3. `reading` walks along the conversion and the bytes, and offers serde the fields and variants
//!    by their names; `skipping` passes over fields that the program does not have any more.
//!
//! Bytes and written schemas come from outside: nothing here panics, recurses without bound, or
//! reserves memory for a length that it has only been told.

mod compare;
mod reading;
mod skipping;

use millstream_types::schema::{Kind, NamedType};

pub use compare::{Compatibility, Incompatible, compare};

/// Levels of structs, lists and so on in each other, beyond which nothing is compared or converted.
const DEPTH_MAX: usize = 256;

/// The way from bytes of one type to a value of another; see [`compare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    root: Node,
    /// The pairs of a written and a read type that [`Node::Named`] names.
    types: Vec<Body>,
    /// The named types of the written schema, to skip values of theirs.
    written: Vec<NamedType>,
}

/// One part of a value: how its bytes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// As postcard reads them.
    Same,
    /// As an integer of so many bits; the program's has more.
    Integer {
        bits: u8,
        signed: bool,
    },
    Optional(Box<Node>),
    Sequence(Box<Node>),
    Array(Box<Node>, usize),
    Tuple(Vec<Node>),
    /// Its keys are read as they are.
    Map(Box<Node>),
    /// A struct or enum: its place among [`Conversion::types`].
    Named(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    Struct(Fields),
    Enum {
        name: String,
        /// By the number that is written.
        variants: Vec<Variant>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variant {
    /// The name with which it was written.
    was: String,
    /// The program's name and fields; `None` if the program has no such variant.
    is: Option<(String, Fields)>,
}

/// Fields as they are written, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fields {
    Numbered(Vec<Node>),
    Named(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    /// It is the program's field of this name.
    Read(String, Node),
    /// The program has no such field.
    Skip(Kind),
}

impl Conversion {
    /// The conversion of one entry of a map, as a pair. It is the conversion itself if that is not
    /// one of a map.
    pub(crate) fn of_entries(self) -> Self {
        match self.root {
            Node::Map(value) => Self { root: Node::Tuple(vec![Node::Same, *value]), ..self },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests;
