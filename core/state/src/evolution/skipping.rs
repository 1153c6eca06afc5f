//! Passes over values that the program does not read.

use millstream_types::schema::{Body, Kind, NamedType};
use serde::de::Error;

use super::DEPTH_MAX;
use super::reading::{Fault, Input};

impl<'de> Input<'de> {
    /// Passes over a value of this kind. `types` are the named types of its schema.
    pub(super) fn skip(
        &mut self,
        types: &[NamedType],
        kind: &Kind,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::too_deep());
        }
        self.step()?;
        match kind {
            Kind::Unit => Ok(()),
            Kind::Bool => self.take::<bool>().map(drop),
            Kind::Char => self.take::<char>().map(drop),
            Kind::Text => self.take::<&'de str>().map(drop),
            Kind::Integer { bits: 8, .. } => self.take::<u8>().map(drop),
            Kind::Integer { bits: 16, .. } => self.take::<u16>().map(drop),
            Kind::Integer { bits: 32, .. } => self.take::<u32>().map(drop),
            Kind::Integer { bits: 64, .. } => self.take::<u64>().map(drop),
            Kind::Integer { bits: 128, .. } => self.take::<u128>().map(drop),
            Kind::Float { bits: 32 } => self.take::<f32>().map(drop),
            Kind::Float { bits: 64 } => self.take::<f64>().map(drop),
            Kind::Optional(inner) => match self.take::<u8>()? {
                0 => Ok(()),
                1 => self.skip(types, inner, depth + 1),
                _ => Err(Fault::custom("an optional value is neither there nor not there")),
            },
            Kind::Sequence(inner) => {
                let len = self.take::<u64>()?;
                self.skip_times(types, &[inner], len, depth + 1)
            }
            Kind::Array(inner, len) => self.skip_times(types, &[inner], *len as u64, depth + 1),
            Kind::Map(key, value) => {
                let len = self.take::<u64>()?;
                self.skip_times(types, &[key, value], len, depth + 1)
            }
            Kind::Tuple(parts) => {
                parts.iter().try_for_each(|part| self.skip(types, part, depth + 1))
            }
            Kind::Named(at) => match types.get(*at).map(|named| &named.body) {
                Some(Body::Struct(fields)) => {
                    fields.iter().try_for_each(|field| self.skip(types, &field.kind, depth + 1))
                }
                Some(Body::Enum(variants)) => {
                    let number = self.take::<u32>()?;
                    let variant = usize::try_from(number).ok().and_then(|at| variants.get(at));
                    let Some(variant) = variant else { return Err(Fault::no_variant(number)) };
                    let mut fields = variant.fields.iter();
                    fields.try_for_each(|field| self.skip(types, &field.kind, depth + 1))
                }
                None => Err(Fault::custom("its schema is damaged")),
            },
            _ => Err(Fault::custom("it has parts that cannot be skipped")),
        }
    }

    fn skip_times(
        &mut self,
        types: &[NamedType],
        kinds: &[&Kind],
        times: u64,
        depth: usize,
    ) -> Result<(), Fault> {
        for _ in 0..times {
            let before = self.left();
            kinds.iter().try_for_each(|kind| self.skip(types, kind, depth))?;
            // A value without bytes has a kind without bytes: the others have none either.
            if self.left() == before {
                break;
            }
        }
        Ok(())
    }
}
