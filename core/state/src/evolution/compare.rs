//! Decides whether a type of the program reads what was written as another one.

use std::collections::HashMap;

use millstream_types::Schema;
use millstream_types::schema::{self, Kind};

use super::{Body, Conversion, DEPTH_MAX, Field, Fields, Node, Variant};

/// The way in which a type reads what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compatibility {
    /// The bytes are those that the type itself writes.
    Same,
    /// The bytes are read by the schema with which they were written.
    Converts(Conversion),
}

/// Why a type cannot read what was written: the part, and what it is in both versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} {difference}")]
pub struct Incompatible {
    part: String,
    difference: String,
}

/// Compares the schema of bytes with that of the type that is to read them.
///
/// # Errors
/// The type cannot read such bytes, whatever the values are.
pub fn compare(written: &Schema, read: &Schema) -> Result<Compatibility, Incompatible> {
    if written == read {
        return Ok(Compatibility::Same);
    }
    let mut comparison = Comparison::new(written, read);
    let root = comparison.kind(written.root(), read.root(), "it")?;
    let same = comparison.same();
    if let Some((_, part)) = comparison.map_keys.iter().find(|(key, _)| !key.is_same(&same)) {
        let difference = "has changed: keys of maps are read only as they were written";
        return Err(refusal(part, difference));
    }
    if root.is_same(&same) {
        return Ok(Compatibility::Same);
    }
    let mut conversion = comparison.conversion(root);
    conversion.root.collapse(&same);
    for body in &mut conversion.types {
        body.nodes_mut().for_each(|node| node.collapse(&same));
    }
    Ok(Compatibility::Converts(conversion))
}

fn refusal(part: &str, difference: impl Into<String>) -> Incompatible {
    Incompatible { part: part.to_owned(), difference: difference.into() }
}

struct Comparison<'a> {
    written: &'a Schema,
    read: &'a Schema,
    /// The pairs of named types that have been met, by their places in the schemas.
    pairs: HashMap<(usize, usize), usize>,
    types: Vec<Body>,
    /// Whether each of `types` is written in the order in which it is read, with nothing else.
    in_place: Vec<bool>,
    map_keys: Vec<(Node, String)>,
    depth: usize,
}

impl<'a> Comparison<'a> {
    fn new(written: &'a Schema, read: &'a Schema) -> Self {
        let (pairs, types, in_place) = (HashMap::new(), Vec::new(), Vec::new());
        Self { written, read, pairs, types, in_place, map_keys: Vec::new(), depth: 0 }
    }

    fn conversion(self, root: Node) -> Conversion {
        Conversion { root, types: self.types, written: self.written.types().to_vec() }
    }

    /// Compares two kinds, of `part`.
    fn kind(&mut self, was: &Kind, is: &Kind, part: &str) -> Result<Node, Incompatible> {
        if self.depth >= DEPTH_MAX {
            return Err(refusal(part, format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let node = self.kind_below(was, is, part);
        self.depth -= 1;
        node
    }

    fn kind_below(&mut self, was: &Kind, is: &Kind, part: &str) -> Result<Node, Incompatible> {
        Ok(match (was, is) {
            (Kind::Optional(was), Kind::Optional(is)) => {
                Node::Optional(Box::new(self.kind(was, is, &format!("the value in {part}"))?))
            }
            (Kind::Sequence(was), Kind::Sequence(is)) => {
                Node::Sequence(Box::new(self.kind(was, is, &format!("an element of {part}"))?))
            }
            (Kind::Array(was, len), Kind::Array(is, other)) if len == other => {
                let element = self.kind(was, is, &format!("an element of {part}"))?;
                Node::Array(Box::new(element), *len)
            }
            (Kind::Tuple(was), Kind::Tuple(is)) if was.len() == is.len() => {
                let both = was.iter().zip(is).enumerate();
                let nodes =
                    both.map(|(at, (was, is))| self.kind(was, is, &format!("part {at} of {part}")));
                Node::Tuple(nodes.collect::<Result<_, _>>()?)
            }
            (Kind::Map(was_key, was), Kind::Map(is_key, is)) => {
                let key_part = format!("a key of {part}");
                let key = self.kind(was_key, is_key, &key_part)?;
                self.map_keys.push((key, key_part));
                Node::Map(Box::new(self.kind(was, is, &format!("a value of {part}"))?))
            }
            (Kind::Named(was), Kind::Named(is)) => self.named((*was, *is), part)?,
            (Kind::Integer { bits, signed }, Kind::Integer { bits: more, signed: signed_too })
                if more > bits && (signed == signed_too || !signed) =>
            {
                Node::Integer { bits: *bits, signed: *signed }
            }
            (was, is) if was == is => Node::Same,
            (was, is) => return Err(self.differs(part, was, is)),
        })
    }

    fn differs(&self, part: &str, was: &Kind, is: &Kind) -> Incompatible {
        let (was, is) = (self.written.of_part(was), self.read.of_part(is));
        refusal(part, format!("is {was} in the snapshot and {is} in the program"))
    }

    fn named(&mut self, pair: (usize, usize), part: &str) -> Result<Node, Incompatible> {
        if let Some(at) = self.pairs.get(&pair) {
            return Ok(Node::Named(*at));
        }
        let (written, read) = (self.written, self.read);
        let (Some(was), Some(is)) = (written.types().get(pair.0), read.types().get(pair.1)) else {
            return Err(refusal(part, "is of a type that the schema does not have: it is damaged"));
        };
        let at = self.types.len();
        self.pairs.insert(pair, at);
        self.types.push(Body::Struct(Fields::Named(Vec::new())));
        self.in_place.push(true);
        let (body, in_place) = match (&was.body, &is.body) {
            (schema::Body::Struct(was), schema::Body::Struct(fields)) => {
                let (fields, in_place) = self.fields(&is.name, was, fields)?;
                (Body::Struct(fields), in_place)
            }
            (schema::Body::Enum(was), schema::Body::Enum(variants)) => {
                self.variants(&is.name, was, variants)?
            }
            (schema::Body::Struct(_), schema::Body::Enum(_))
            | (schema::Body::Enum(_), schema::Body::Struct(_)) => {
                return Err(self.differs(part, &Kind::Named(pair.0), &Kind::Named(pair.1)));
            }
        };
        if let (Some(known), Some(known_in_place)) =
            (self.types.get_mut(at), self.in_place.get_mut(at))
        {
            (*known, *known_in_place) = (body, in_place);
        }
        Ok(Node::Named(at))
    }

    /// Compares the variants of an enum, and says whether those that were written have the numbers
    /// that they are read with.
    fn variants(
        &mut self,
        owner: &str,
        was: &[schema::Variant],
        is: &[schema::Variant],
    ) -> Result<(Body, bool), Incompatible> {
        let mut variants = Vec::with_capacity(was.len());
        let mut in_place = true;
        for (at, variant) in was.iter().enumerate() {
            let name = variant.name.clone();
            let part = format!("variant `{name}` of {owner}");
            let mut found = is.iter().enumerate().filter(|(_, is)| is.reads(&name));
            let (found, other) = (found.next(), found.next());
            if other.is_some() {
                return Err(refusal(&part, "is the name or alias of two variants in the program"));
            }
            let Some((to, found)) = found else {
                in_place = false;
                variants.push(Variant { was: name, is: None });
                continue;
            };
            let (fields, fields_in_place) = self.fields(&part, &variant.fields, &found.fields)?;
            in_place &= to == at && fields_in_place;
            variants.push(Variant { was: name, is: Some((found.name.clone(), fields)) });
        }
        Ok((Body::Enum { name: owner.to_owned(), variants }, in_place))
    }

    /// Compares the fields of a struct or variant, and says whether they are written as they are
    /// read: those fields, in that order.
    fn fields(
        &mut self,
        owner: &str,
        was: &[schema::Field],
        is: &[schema::Field],
    ) -> Result<(Fields, bool), Incompatible> {
        if is_numbered(was) || is_numbered(is) {
            return Ok((Fields::Numbered(self.numbered(owner, was, is)?), true));
        }
        let mut read_from: Vec<Option<&str>> = vec![None; is.len()];
        let mut fields = Vec::with_capacity(was.len());
        let mut in_place = was.len() == is.len();
        for (at, field) in was.iter().enumerate() {
            let part = format!("field `{}` of {owner}", field.name);
            let mut found = is
                .iter()
                .zip(&mut read_from)
                .enumerate()
                .filter(|(_, (f, _))| f.reads(&field.name));
            let (found, other) = (found.next(), found.next());
            if other.is_some() {
                return Err(refusal(&part, "is the name or alias of two fields in the program"));
            }
            let Some((to, (found, read_from))) = found else {
                if self.has_opaque(&field.kind) {
                    return Err(refusal(
                        &part,
                        "is not in the program, and cannot be left out because it has opaque \
                         parts, which only their type can read: keep the field",
                    ));
                }
                in_place = false;
                fields.push(Field::Skip(field.kind.clone()));
                continue;
            };
            if let Some(before) = read_from.replace(&field.name) {
                let both = format!("and `{before}` are both `{}` in the program", found.name);
                return Err(refusal(&part, both));
            }
            in_place &= to == at;
            let node = self.kind(&field.kind, &found.kind, &part)?;
            fields.push(Field::Read(found.name.clone(), node));
        }
        for (field, from) in is.iter().zip(read_from) {
            if from.is_none() && !field.default && !matches!(field.kind, Kind::Optional(_)) {
                return Err(refusal(
                    &format!("field `{}` of {owner}", field.name),
                    "is not in the snapshot: give it #[serde(default)] if it is new, or \
                     #[serde(alias = \"..\")] with its name there if it was renamed",
                ));
            }
        }
        Ok((Fields::Named(fields), in_place))
    }

    fn numbered(
        &mut self,
        owner: &str,
        was: &[schema::Field],
        is: &[schema::Field],
    ) -> Result<Vec<Node>, Incompatible> {
        if is_numbered(was) != is_numbered(is) || was.len() != is.len() {
            let count = |fields: &[schema::Field]| {
                let names = if is_numbered(fields) { "without" } else { "with" };
                let s = if fields.len() == 1 { "" } else { "s" };
                format!("{} field{s} {names} names", fields.len())
            };
            let (was, is) = (count(was), count(is));
            return Err(refusal(
                owner,
                format!("has {was} in the snapshot and {is} in the program"),
            ));
        }
        let both = was.iter().zip(is);
        let nodes = both.map(|(was, is)| {
            self.kind(&was.kind, &is.kind, &format!("field `{}` of {owner}", was.name))
        });
        nodes.collect()
    }

    /// Whether a written kind has parts that cannot be skipped.
    fn has_opaque(&self, kind: &Kind) -> bool {
        let mut seen = vec![false; self.written.types().len()];
        let mut left = vec![kind];
        while let Some(kind) = left.pop() {
            match kind {
                Kind::SerdeOnly(_) => return true,
                Kind::Optional(inner) | Kind::Sequence(inner) | Kind::Array(inner, _) => {
                    left.push(inner);
                }
                Kind::Tuple(parts) => left.extend(parts),
                Kind::Map(key, value) => left.extend([&**key, &**value]),
                Kind::Named(at) => {
                    let Some(seen) = seen.get_mut(*at) else { continue };
                    if std::mem::replace(seen, true) {
                        continue;
                    }
                    match self.written.types().get(*at).map(|named| &named.body) {
                        Some(schema::Body::Struct(fields)) => {
                            left.extend(fields.iter().map(|field| &field.kind));
                        }
                        Some(schema::Body::Enum(variants)) => {
                            let fields = variants.iter().flat_map(|variant| &variant.fields);
                            left.extend(fields.map(|field| &field.kind));
                        }
                        None => {}
                    }
                }
                // A kind that is not known cannot be skipped either.
                Kind::Unit
                | Kind::Bool
                | Kind::Char
                | Kind::Text
                | Kind::Integer { .. }
                | Kind::Float { .. } => {}
                _ => return true,
            }
        }
        false
    }

    /// Whether postcard reads each of the pairs as it is: with all that is in it.
    fn same(&self) -> Vec<bool> {
        let mut same = self.in_place.clone();
        loop {
            let differs = |(at, body): (usize, &Body)| {
                let is_same = same.get(at).is_some_and(|same| *same);
                (is_same && !body.nodes().all(|node| node.is_same(&same))).then_some(at)
            };
            let changed: Vec<usize> = self.types.iter().enumerate().filter_map(differs).collect();
            if changed.is_empty() {
                return same;
            }
            for at in changed {
                if let Some(same) = same.get_mut(at) {
                    *same = false;
                }
            }
        }
    }
}

fn is_numbered(fields: &[schema::Field]) -> bool {
    let mut numbers = fields.iter().enumerate();
    !fields.is_empty() && numbers.all(|(at, field)| field.name == at.to_string())
}

impl Body {
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let (fields, variants) = match self {
            Self::Struct(fields) => (Some(fields), &[][..]),
            Self::Enum { variants, .. } => (None, &variants[..]),
        };
        let of_variants =
            variants.iter().filter_map(|variant| variant.is.as_ref().map(|(_, fields)| fields));
        fields.into_iter().chain(of_variants).flat_map(Fields::nodes)
    }

    fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let (fields, variants) = match self {
            Self::Struct(fields) => (Some(fields), &mut [][..]),
            Self::Enum { variants, .. } => (None, &mut variants[..]),
        };
        let of_variants =
            variants.iter_mut().filter_map(|variant| variant.is.as_mut().map(|(_, fields)| fields));
        fields.into_iter().chain(of_variants).flat_map(Fields::nodes_mut)
    }
}

impl Fields {
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let (numbered, named) = match self {
            Self::Numbered(nodes) => (&nodes[..], &[][..]),
            Self::Named(fields) => (&[][..], &fields[..]),
        };
        numbered.iter().chain(named.iter().filter_map(|field| match field {
            Field::Read(_, node) => Some(node),
            Field::Skip(_) => None,
        }))
    }

    fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let (numbered, named) = match self {
            Self::Numbered(nodes) => (&mut nodes[..], &mut [][..]),
            Self::Named(fields) => (&mut [][..], &mut fields[..]),
        };
        numbered.iter_mut().chain(named.iter_mut().filter_map(|field| match field {
            Field::Read(_, node) => Some(node),
            Field::Skip(_) => None,
        }))
    }
}

impl Node {
    fn is_same(&self, types: &[bool]) -> bool {
        match self {
            Self::Same => true,
            Self::Integer { .. } => false,
            Self::Optional(inner)
            | Self::Sequence(inner)
            | Self::Array(inner, _)
            | Self::Map(inner) => inner.is_same(types),
            Self::Tuple(parts) => parts.iter().all(|part| part.is_same(types)),
            Self::Named(at) => types.get(*at).is_some_and(|same| *same),
        }
    }

    /// Leaves parts that have not changed to postcard.
    fn collapse(&mut self, types: &[bool]) {
        if self.is_same(types) {
            *self = Self::Same;
            return;
        }
        match self {
            Self::Optional(inner)
            | Self::Sequence(inner)
            | Self::Array(inner, _)
            | Self::Map(inner) => inner.collapse(types),
            Self::Tuple(parts) => parts.iter_mut().for_each(|part| part.collapse(types)),
            Self::Same | Self::Integer { .. } | Self::Named(_) => {}
        }
    }
}

#[cfg(test)]
impl Conversion {
    /// Reads a type as it was written, and leaves nothing to postcard that has parts.
    pub(super) fn identity(schema: &Schema) -> Self {
        let mut comparison = Comparison::new(schema, schema);
        let root = comparison.kind(schema.root(), schema.root(), "it").unwrap();
        comparison.conversion(root)
    }
}
