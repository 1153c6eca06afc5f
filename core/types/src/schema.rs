//! Schemas: what a state's type consists of, by name.
//!
//! A savepoint keeps the schema of each state beside its bytes, so that a later version of the
//! program can compare the type that was written with the one that it reads, field by field.
//! A type describes itself to a [`SchemaBuilder`], which knows the types that it has met: a type
//! may contain itself.

mod std_types;

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A type that is stored as state: it has serde's traits and a schema. `#[millstream::record]`
/// derives all three.
///
/// A type of another crate, which has serde's traits alone, is stored as [`Opaque`]. A schema by
/// hand is needed where a type's `Serialize` is written by hand too:
///
/// ```
/// use millstream_types::schema::{Kind, Schema, SchemaBuilder, State};
/// use serde::{Deserialize, Serialize};
///
/// /// Cents, stored as one number.
/// #[derive(Serialize, Deserialize)]
/// #[serde(transparent)]
/// struct Price(i64);
///
/// impl State for Price {
///     fn schema(builder: &mut SchemaBuilder) -> Kind {
///         builder.kind_of::<i64>()
///     }
/// }
///
/// assert_eq!(Schema::of::<Option<Price>>(), Schema::of::<Option<i64>>());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored as state: it has no schema",
    label = "this type has no schema",
    note = "put `#[millstream::record]` before a type of your own",
    note = "a type of another crate that has serde's traits is stored as `Opaque<{Self}>`, and as \
            a field with `#[state(opaque)]` before it"
)]
pub trait State: Serialize + DeserializeOwned + Send + 'static {
    /// Describes the type as its `Serialize` writes it.
    fn schema(builder: &mut SchemaBuilder) -> Kind;
}

/// The schema of a type: its kind, and the named types in it.
///
/// Two schemas are equal if the types consist of the same parts of the same names.
///
/// ```
/// # use millstream_types::schema::Schema;
/// let schema = Schema::of::<Vec<(u32, Option<String>)>>();
/// assert_eq!(schema.to_string(), "[(u32, string?)]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    root: Kind,
    types: Vec<NamedType>,
}

impl Schema {
    /// The schema of `T`.
    #[must_use]
    pub fn of<T: State>() -> Self {
        let mut builder = SchemaBuilder::default();
        let root = T::schema(&mut builder);
        Self { root, types: builder.types }
    }

    /// The kind of the value as a whole.
    #[must_use]
    pub const fn root(&self) -> &Kind {
        &self.root
    }

    /// The schema of a part of the value, whose kind stands somewhere in this schema.
    #[must_use]
    pub fn of_part(&self, kind: &Kind) -> Self {
        Self { root: kind.clone(), types: self.types.clone() }
    }

    /// The types that [`Kind::Named`] names, by their place.
    #[must_use]
    pub fn types(&self) -> &[NamedType] {
        &self.types
    }
}

/// The parts of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing: `()`.
    Unit,
    /// `bool`.
    Bool,
    /// `char`.
    Char,
    /// Text.
    Text,
    /// An integer of so many bits.
    Integer {
        /// 8 to 128.
        bits: u8,
        /// Whether it may be negative.
        signed: bool,
    },
    /// A floating point number of so many bits.
    Float {
        /// 32 or 64.
        bits: u8,
    },
    /// A value or none.
    Optional(Box<Kind>),
    /// Any number of values of one kind.
    Sequence(Box<Kind>),
    /// A fixed number of values of one kind.
    Array(Box<Kind>, usize),
    /// One value of each kind.
    Tuple(Vec<Kind>),
    /// Values by keys.
    Map(Box<Kind>, Box<Kind>),
    /// A struct or enum: its place among [`Schema::types`].
    Named(usize),
    /// A type that only serde knows, of this name. It is read as it was written or not at all.
    SerdeOnly(String),
}

/// A struct or an enum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedType {
    /// The type's name, without its module and parameters.
    pub name: String,
    /// Its fields or variants.
    pub body: Body,
}

/// The fields of a struct or the variants of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A struct with its fields.
    Struct(Vec<Field>),
    /// An enum with its variants.
    Enum(Vec<Variant>),
}

/// A field of a struct or of a variant. Fields without names are called `0`, `1` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The name as serde has it.
    pub name: String,
    /// Other names under which it may have been written.
    pub aliases: Vec<String>,
    /// The kind of its values.
    pub kind: Kind,
    /// Whether a value that was not written is made up.
    pub default: bool,
}

impl Field {
    /// Whether this field reads what was written under a name.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// The name as serde has it.
    pub name: String,
    /// Other names under which it may have been written.
    pub aliases: Vec<String>,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

impl Variant {
    /// Whether this variant reads what was written under a name.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// Collects the named types of a schema while types describe themselves.
#[derive(Debug, Default)]
pub struct SchemaBuilder {
    types: Vec<NamedType>,
    known: HashMap<TypeId, usize>,
}

impl SchemaBuilder {
    /// The kind of another type, as a part of the one that is described.
    pub fn kind_of<T: State>(&mut self) -> Kind {
        T::schema(self)
    }

    /// Describes the struct `T`.
    ///
    /// ```
    /// # use millstream_types::schema::{Kind, Schema, SchemaBuilder, State};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct Tree {
    ///     value: u64,
    ///     children: Vec<Tree>,
    /// }
    ///
    /// impl State for Tree {
    ///     fn schema(builder: &mut SchemaBuilder) -> Kind {
    ///         builder.structure::<Self>("Tree", |fields| {
    ///             fields.add::<u64>("value");
    ///             fields.add::<Vec<Self>>("children");
    ///         })
    ///     }
    /// }
    ///
    /// assert_eq!(Schema::of::<Tree>().to_string(), "Tree { value: u64, children: [Tree] }");
    /// ```
    pub fn structure<T: 'static>(
        &mut self,
        name: &str,
        fields: impl FnOnce(&mut Fields<'_>),
    ) -> Kind {
        self.named::<T>(name, |builder| Body::Struct(Fields::of(builder, fields)))
    }

    /// Describes the enum `T`.
    ///
    /// ```
    /// # use millstream_types::schema::{Kind, Schema, SchemaBuilder, State};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// enum Visitor {
    ///     Anonymous,
    ///     User { number: u64 },
    /// }
    ///
    /// impl State for Visitor {
    ///     fn schema(builder: &mut SchemaBuilder) -> Kind {
    ///         builder.enumeration::<Self>("Visitor", |variants| {
    ///             variants.add("Anonymous", |_| ());
    ///             variants.add("User", |fields| {
    ///                 fields.add::<u64>("number");
    ///             });
    ///         })
    ///     }
    /// }
    ///
    /// let schema = Schema::of::<Visitor>();
    /// assert_eq!(schema.to_string(), "enum Visitor { Anonymous, User { number: u64 } }");
    /// ```
    pub fn enumeration<T: 'static>(
        &mut self,
        name: &str,
        variants: impl FnOnce(&mut Variants<'_>),
    ) -> Kind {
        self.named::<T>(name, |builder| {
            let mut all = Variants { builder, variants: Vec::new() };
            variants(&mut all);
            Body::Enum(all.variants)
        })
    }

    /// The kind of a type that only serde knows.
    #[must_use]
    pub fn opaque<T>(&self) -> Kind {
        Kind::SerdeOnly(short_name(type_name::<T>()))
    }

    fn named<T: 'static>(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Body) -> Kind {
        let id = TypeId::of::<T>();
        if let Some(place) = self.known.get(&id) {
            return Kind::Named(*place);
        }
        let place = self.types.len();
        self.known.insert(id, place);
        self.types.push(NamedType { name: name.to_owned(), body: Body::Struct(Vec::new()) });
        let body = body(self);
        if let Some(named) = self.types.get_mut(place) {
            named.body = body;
        }
        Kind::Named(place)
    }
}

/// The fields of a struct or of a variant while it is described.
#[derive(Debug)]
pub struct Fields<'a> {
    builder: &'a mut SchemaBuilder,
    fields: Vec<Field>,
}

impl Fields<'_> {
    fn of(builder: &mut SchemaBuilder, fields: impl FnOnce(&mut Fields<'_>)) -> Vec<Field> {
        let mut all = Fields { builder, fields: Vec::new() };
        fields(&mut all);
        all.fields
    }

    /// Adds a field.
    pub fn add<T: State>(&mut self, name: &str) -> &mut Self {
        let kind = T::schema(self.builder);
        self.push(name, kind)
    }

    /// Adds a field whose type only serde knows.
    pub fn add_opaque<T>(&mut self, name: &str) -> &mut Self {
        let kind = self.builder.opaque::<T>();
        self.push(name, kind)
    }

    /// The last field's value is made up if it was not written.
    pub fn or_default(&mut self) -> &mut Self {
        if let Some(field) = self.fields.last_mut() {
            field.default = true;
        }
        self
    }

    /// The last field may have been written under this name too.
    pub fn alias(&mut self, name: &str) -> &mut Self {
        if let Some(field) = self.fields.last_mut() {
            field.aliases.push(name.to_owned());
        }
        self
    }

    fn push(&mut self, name: &str, kind: Kind) -> &mut Self {
        let name = name.to_owned();
        self.fields.push(Field { name, aliases: Vec::new(), kind, default: false });
        self
    }
}

/// The variants of an enum while it is described.
#[derive(Debug)]
pub struct Variants<'a> {
    builder: &'a mut SchemaBuilder,
    variants: Vec<Variant>,
}

impl Variants<'_> {
    /// Adds a variant with its fields.
    pub fn add(&mut self, name: &str, fields: impl FnOnce(&mut Fields<'_>)) -> &mut Self {
        let fields = Fields::of(self.builder, fields);
        self.variants.push(Variant { name: name.to_owned(), aliases: Vec::new(), fields });
        self
    }

    /// The last variant may have been written under this name too.
    pub fn alias(&mut self, name: &str) -> &mut Self {
        if let Some(variant) = self.variants.last_mut() {
            variant.aliases.push(name.to_owned());
        }
        self
    }
}

/// A type's name without the modules of its parts: they may move.
fn short_name(name: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut short = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = match is_part(first) {
            true => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (part, after) = rest.split_at(end);
        short.push_str(part.rsplit("::").next().unwrap_or(part));
        rest = after;
    }
    short
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        let names = self.types.iter().map(|named| {
            let same = count.entry(&named.name).or_default();
            *same += 1;
            if *same == 1 { named.name.clone() } else { format!("{}#{same}", named.name) }
        });
        let names = names.collect();
        Printer { types: &self.types, names, shown: vec![false; self.types.len()] }
            .kind(f, &self.root)
    }
}

/// Prints each named type in full where it comes first, and by its name afterwards.
struct Printer<'a> {
    types: &'a [NamedType],
    /// The names, numbered where several types have one.
    names: Vec<String>,
    shown: Vec<bool>,
}

impl Printer<'_> {
    fn kind(&mut self, f: &mut fmt::Formatter<'_>, kind: &Kind) -> fmt::Result {
        match kind {
            Kind::Unit => write!(f, "()"),
            Kind::Bool => write!(f, "bool"),
            Kind::Char => write!(f, "char"),
            Kind::Text => write!(f, "string"),
            Kind::Integer { bits, signed } => {
                write!(f, "{}{bits}", if *signed { 'i' } else { 'u' })
            }
            Kind::Float { bits } => write!(f, "f{bits}"),
            Kind::Optional(inner) => {
                self.kind(f, inner)?;
                write!(f, "?")
            }
            Kind::Sequence(inner) => {
                write!(f, "[")?;
                self.kind(f, inner)?;
                write!(f, "]")
            }
            Kind::Array(inner, len) => {
                write!(f, "[")?;
                self.kind(f, inner)?;
                write!(f, "; {len}]")
            }
            Kind::Tuple(parts) => {
                write!(f, "(")?;
                self.list(f, parts, Self::kind)?;
                write!(f, ")")
            }
            Kind::Map(key, value) => {
                write!(f, "map<")?;
                self.kind(f, key)?;
                write!(f, ", ")?;
                self.kind(f, value)?;
                write!(f, ">")
            }
            Kind::Named(place) => self.named(f, *place),
            Kind::SerdeOnly(name) => write!(f, "opaque({name})"),
        }
    }

    fn list<T>(
        &mut self,
        f: &mut fmt::Formatter<'_>,
        parts: &[T],
        print: impl Fn(&mut Self, &mut fmt::Formatter<'_>, &T) -> fmt::Result,
    ) -> fmt::Result {
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                write!(f, ", ")?;
            }
            print(self, f, part)?;
        }
        Ok(())
    }

    fn named(&mut self, f: &mut fmt::Formatter<'_>, place: usize) -> fmt::Result {
        let (Some(named), Some(name)) = (self.types.get(place), self.names.get(place)) else {
            return write!(f, "?");
        };
        let name = name.clone();
        if self.shown.get_mut(place).is_none_or(|shown| std::mem::replace(shown, true)) {
            return write!(f, "{name}");
        }
        match &named.body {
            Body::Struct(fields) => {
                write!(f, "{name}")?;
                self.fields(f, fields)
            }
            Body::Enum(variants) => {
                write!(f, "enum {name} {{ ")?;
                self.list(f, variants, |printer, f, variant| {
                    name_and_aliases(f, &variant.name, &variant.aliases)?;
                    printer.fields(f, &variant.fields)
                })?;
                write!(f, " }}")
            }
        }
    }

    fn fields(&mut self, f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
        let numbered = fields.iter().enumerate().all(|(at, field)| field.name == at.to_string());
        let value = |printer: &mut Self, f: &mut fmt::Formatter<'_>, field: &Field| {
            printer.kind(f, &field.kind)?;
            if field.default { write!(f, " = default") } else { Ok(()) }
        };
        if fields.is_empty() {
            return Ok(());
        }
        if numbered {
            write!(f, "(")?;
            self.list(f, fields, value)?;
            return write!(f, ")");
        }
        write!(f, " {{ ")?;
        self.list(f, fields, |printer, f, field| {
            name_and_aliases(f, &field.name, &field.aliases)?;
            write!(f, ": ")?;
            value(printer, f, field)
        })?;
        write!(f, " }}")
    }
}

fn name_and_aliases(f: &mut fmt::Formatter<'_>, name: &str, aliases: &[String]) -> fmt::Result {
    write!(f, "{name}")?;
    aliases.iter().try_for_each(|alias| write!(f, " (or {alias})"))
}

/// A type of another crate that has serde's traits but no schema, as state.
///
/// It is written as it is. A later version of the program reads it only if the type's `Deserialize`
/// understands the same bytes: no field can be added, removed or moved.
///
/// ```
/// # use millstream_types::schema::{Opaque, Schema};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Uuid(u128);
/// let last = Opaque(Uuid(7));
/// assert_eq!(last.0.0, 7);
/// assert_eq!(Schema::of::<Opaque<Uuid>>().to_string(), "opaque(Uuid)");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Opaque<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send + 'static> State for Opaque<T> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.opaque::<T>()
    }
}

impl<T> From<T> for Opaque<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Opaque<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests;
