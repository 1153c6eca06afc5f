//! State of an operator that belongs to no key, as checkpoints have it: lists of items.
//!
//! An item is the smallest part that a change of the parallelism can move: the bytes of one value,
//! as postcard writes it.

use millstream_mutants::Mutant;
use millstream_types::{Schema, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{decode, decode_converted, encode};
use crate::error::incompatible;
use crate::error::{StateError, unreadable};
use crate::evolution::{Compatibility, Conversion, compare};

/// The way in which the items of a list come to the subtasks that restore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Each subtask gets those that it had; after a change of the parallelism they are dealt out.
    Divided,
    /// Each subtask gets those of all subtasks.
    Union,
    /// All subtasks had the same ones, and each gets them once.
    Broadcast,
}

impl ListKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Divided => "a divided list",
            Self::Union => "a union list",
            Self::Broadcast => "broadcast state",
        }
    }
}

/// A list of one operator's subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSnapshot {
    /// Its name; lists of different kinds may have the same one.
    pub name: String,
    /// Its kind.
    pub kind: ListKind,
    /// The schema of an item.
    pub schema: Schema,
    /// The items, encoded.
    pub items: Vec<Vec<u8>>,
}

impl ListSnapshot {
    /// A list of these items.
    ///
    /// # Errors
    /// An item has no bytes.
    pub fn of<T: Serialize>(
        name: &'static str,
        kind: ListKind,
        schema: Schema,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Self, StateError> {
        let items = items.into_iter().map(|item| encode(name, &item, Vec::new()));
        Ok(Self { name: name.to_owned(), kind, schema, items: items.collect::<Result<_, _>>()? })
    }
}

/// The name of the list with an operator's watermark.
const WATERMARK: &str = "watermark";

/// The lists from which an operator's subtask begins.
#[derive(Debug, Default)]
pub struct RestoredLists {
    lists: Vec<ListSnapshot>,
    /// The subtask and the parallelism, if the lists are those of another parallelism: a divided
    /// list has the items of all its subtasks then.
    rescaled: Option<(u32, u32)>,
}

/// The items of one list.
#[derive(Debug, Default)]
struct Items {
    bytes: Vec<Vec<u8>>,
    /// The way to read them, if the program's type is not the one that was written.
    conversion: Option<Conversion>,
}

impl Items {
    fn decode<T: DeserializeOwned>(
        &self,
        name: &'static str,
        item: &[u8],
    ) -> Result<T, StateError> {
        match &self.conversion {
            None => decode(name, item),
            Some(conversion) => decode_converted(name, conversion, item),
        }
    }
}

impl RestoredLists {
    /// The lists of the subtask that had the same number.
    #[must_use]
    pub const fn same(lists: Vec<ListSnapshot>) -> Self {
        Self { lists, rescaled: None }
    }

    /// The lists of all subtasks, for this one of another number of them.
    #[must_use]
    pub const fn rescaled(lists: Vec<ListSnapshot>, subtask: u32, parallelism: u32) -> Self {
        Self { lists, rescaled: Some((subtask, parallelism)) }
    }

    /// Takes a list out, as the subtasks had it; it is empty if there is none.
    fn take_all(
        &mut self,
        name: &str,
        kind: ListKind,
        schema: &Schema,
    ) -> Result<Items, StateError> {
        let is_it = |list: &ListSnapshot| list.name == name && list.kind == kind;
        let Some(at) = self.lists.iter().position(is_it) else { return Ok(Items::default()) };
        let list = self.lists.swap_remove(at);
        let compared = compare(&list.schema, schema);
        let compatibility = compared
            .map_err(|reason| incompatible(name, format!("as {}, {reason}", kind.name())))?;
        let conversion = match compatibility {
            Compatibility::Same => None,
            // The schema is that of the map, and the items are its entries.
            Compatibility::Converts(map) if kind == ListKind::Broadcast => Some(map.of_entries()),
            Compatibility::Converts(conversion) => Some(conversion),
        };
        Ok(Items { bytes: list.items, conversion })
    }

    /// Takes the items of a list for this subtask; none if there is no such list.
    ///
    /// # Errors
    /// [`StateError::Incompatible`]: its items are of another type, or damaged.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        kind: ListKind,
        schema: &Schema,
    ) -> Result<Vec<T>, StateError> {
        let items = self.take_all(name, kind, schema)?;
        let (first, step) = match self.rescaled {
            Some((subtask, parallelism)) if kind == ListKind::Divided => {
                (subtask as usize, parallelism.max(1) as usize)
            }
            Some(_) | None => (0, 1),
        };
        let mine = items.bytes.iter().skip(first).step_by(step);
        mine.map(|item| items.decode(name, item).map_err(unreadable)).collect()
    }

    /// Takes the watermark from which the operator begins: its own, or the least of all subtasks
    /// after a change of the parallelism. No record may be timely that was late before: it would
    /// open windows again that have been fired.
    ///
    /// # Errors
    /// As [`RestoredLists::take`].
    pub fn take_watermark(&mut self) -> Result<Timestamp, StateError> {
        let schema = Schema::of::<i64>();
        let items = self.take_all(WATERMARK, ListKind::Divided, &schema)?;
        let mut watermarks = Vec::with_capacity(items.bytes.len());
        for item in &items.bytes {
            watermarks.push(Timestamp::from_millis(items.decode(WATERMARK, item)?));
        }
        // The end of time was that of the drained job, and a job that goes on has another.
        let least = watermarks.into_iter().filter(|watermark| *watermark < Timestamp::MAX).min();
        let least = least.filter(|_| !Mutant::ForgetsWatermark.lives());
        Ok(least.unwrap_or(Timestamp::MIN))
    }

    /// Takes out the divided lists whose names begin so: the name of each, its items as they were
    /// written, and whether they are those of all subtasks, of which there was another number.
    pub fn take_named(&mut self, prefix: &str) -> Vec<(String, Vec<Vec<u8>>, bool)> {
        let is_it = |list: &mut ListSnapshot| {
            list.kind == ListKind::Divided && list.name.starts_with(prefix)
        };
        let named = self.lists.extract_if(.., is_it);
        let is_rescaled = self.rescaled.is_some();
        named.map(|list| (list.name, list.items, is_rescaled)).collect()
    }

    /// The name of a list of this kind that was not taken.
    #[must_use]
    pub fn not_taken(&self, kind: ListKind) -> Option<&str> {
        self.lists.iter().find(|list| list.kind == kind).map(|list| &*list.name)
    }
}

/// The list with an operator's watermark.
///
/// # Errors
/// Never: a number has bytes.
pub fn watermark_list(watermark: Timestamp) -> Result<ListSnapshot, StateError> {
    let (kind, schema) = (ListKind::Divided, Schema::of::<i64>());
    ListSnapshot::of(WATERMARK, kind, schema, [watermark.as_millis()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: ListKind, items: impl IntoIterator<Item = u32>) -> ListSnapshot {
        ListSnapshot::of("numbers", kind, Schema::of::<u32>(), items).unwrap()
    }

    fn take(mut lists: RestoredLists, kind: ListKind) -> Vec<u32> {
        lists.take("numbers", kind, &Schema::of::<u32>()).unwrap()
    }

    #[test]
    fn a_divided_list_is_dealt_out_after_a_change_of_the_parallelism_alone() {
        let divided = || vec![list(ListKind::Divided, 0..7)];
        assert!(take(RestoredLists::same(divided()), ListKind::Divided).into_iter().eq(0..7));
        let of = |subtask| take(RestoredLists::rescaled(divided(), subtask, 3), ListKind::Divided);
        assert_eq!([of(0), of(1), of(2)], [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
        let union = vec![list(ListKind::Union, 0..7)];
        assert_eq!(take(RestoredLists::rescaled(union, 2, 3), ListKind::Union).len(), 7);
    }

    #[test]
    fn lists_of_two_kinds_may_have_one_name_and_another_type_is_refused() {
        let lists = vec![list(ListKind::Union, [1]), list(ListKind::Broadcast, [2])];
        assert_eq!(take(RestoredLists::same(lists.clone()), ListKind::Broadcast), [2]);
        assert_eq!(take(RestoredLists::same(lists.clone()), ListKind::Divided), [0; 0]);
        let mut lists = RestoredLists::same(lists);
        let text = Schema::of::<String>();
        let refused = lists.take::<String>("numbers", ListKind::Union, &text).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("u32 in the snapshot and string in the program"), "{said}");
        assert_eq!(lists.not_taken(ListKind::Broadcast), Some("numbers"));
    }

    #[test]
    fn the_watermark_is_the_own_one_or_the_least_of_all() {
        let at = |millis| watermark_list(Timestamp::from_millis(millis)).unwrap();
        let own = RestoredLists::same(vec![at(7)]).take_watermark().unwrap();
        assert_eq!(own, Timestamp::from_millis(7));
        let mut all = at(7);
        all.items.extend(at(5).items);
        all.items.extend(watermark_list(Timestamp::MAX).unwrap().items);
        let least = RestoredLists::rescaled(vec![all], 0, 2).take_watermark().unwrap();
        assert_eq!(least, Timestamp::from_millis(5));
        assert_eq!(RestoredLists::default().take_watermark().unwrap(), Timestamp::MIN);
        let drained = RestoredLists::same(vec![watermark_list(Timestamp::MAX).unwrap()]);
        let drained = { drained }.take_watermark().unwrap();
        assert_eq!(drained, Timestamp::MIN);
    }
}
