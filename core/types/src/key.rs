//! Keys, their stable hash, and key groups.
//!
//! # Hash format, version 1
//! The hash of a key decides which subtask owns its state, so it is part of every savepoint and
//! never changes. It is defined on a stream of 64-bit words:
//!
//! - `fold(a, b)` is the 128-bit product of `a` and `b`, its two halves xored;
//! - the state starts at `0x9e37_79b9_7f4a_7c15`, and a word `w` makes it
//!   `fold(state ^ w, 0xa076_1d64_78bd_642f) ^ w.rotate_left(32)`;
//! - an integer, `bool` or `char` is one word, zero-extended from its two's complement of its own
//!   width (`u128`/`i128`: low word, then high);
//! - bytes and text are their little-endian 8-byte words, the last one padded with zeros, then the
//!   number of bytes as a word;
//! - a list, array, ordered set or ordered map of other things is these in order (a map's keys and
//!   values in turn), then their number as a word;
//! - tuples and derived structs are their fields in order; an enum is its variant's index as a
//!   word, then the variant's fields; `None` is the word 0, `Some` the word 1 and the value;
//! - the hash is the state through the finaliser of MurmurHash3 (`fmix64`).
//!
//! The bits are used apart: 16 to 47 choose the key group, the low bits a bucket of a heap table
//! and the top 7 that table's tag. (Taking the group from the tag's bits made tables up to 2.8
//! times slower.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::prefetch::prefetch_first;
use crate::schema::State;

/// Feeds a [`Key`]'s words to the stable hash; see the module for the format.
///
/// ```
/// # use millstream_types::schema::{Kind, SchemaBuilder, State};
/// # use millstream_types::{Key, KeyHasher};
/// # use serde::{Deserialize, Serialize};
/// /// A name whose case does not matter.
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Name(String);
///
/// # impl State for Name {
/// #     fn schema(builder: &mut SchemaBuilder) -> Kind {
/// #         builder.kind_of::<String>()
/// #     }
/// # }
//////
/// impl PartialEq for Name {
///     fn eq(&self, other: &Self) -> bool {
///         self.0.eq_ignore_ascii_case(&other.0)
///     }
/// }
///
/// impl Eq for Name {}
///
/// impl Key for Name {
///     fn write(&self, hasher: &mut KeyHasher) {
///         hasher.write_bytes(self.0.to_ascii_lowercase().as_bytes());
///     }
/// }
///
/// let [left, right] = ["Ada", "ADA"].map(|name| Name(name.to_owned()));
/// assert_eq!(left.stable_hash(), right.stable_hash());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct KeyHasher(u64);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xa076_1d64_78bd_642f;

impl KeyHasher {
    /// A hasher that has seen nothing.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self(SEED)
    }

    /// Adds one word.
    #[inline]
    pub const fn write_word(&mut self, word: u64) {
        let product = (self.0 ^ word) as u128 * FACTOR as u128;
        self.0 = product as u64 ^ (product >> 64) as u64 ^ word.rotate_left(32);
    }

    /// Adds bytes and their number.
    #[inline]
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.write_word(padded_word(rest));
        }
        self.write_word(bytes.len() as u64);
    }

    /// The hash of what was added.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// Up to 7 bytes as a little-endian word, by two loads that may overlap instead of a loop.
#[inline]
pub(crate) fn padded_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let last = u64::from(u32::from_le_bytes(*last));
        return u64::from(u32::from_le_bytes(*first)) | last << (8 * (len - 4));
    }
    let at = |index: usize| bytes.get(index).map_or(0, |byte| u64::from(*byte) << (8 * index));
    at(0) | at(len / 2) | at(len.saturating_sub(1))
}

impl Default for KeyHasher {
    #[inline]
    fn default() -> Self {
        Self::new()
    }
}

/// A value that records can be partitioned by; `#[derive(Key)]` implements it.
///
/// A key is stored beside its state, so it is a [`State`] itself: `#[millstream::record]` makes it
/// one. A type of another crate is a key in a struct of your own, with a `Key` by hand.
///
/// Equal keys must write equal words. Floats are not keys: `NaN` and `-0.0` would break that.
///
/// ```
/// # use millstream_types::Key;
/// fn same_subtask(left: &impl Key, right: &impl Key) -> bool {
///     left.stable_hash() == right.stable_hash()
/// }
///
/// assert!(same_subtask(&"word".to_owned(), &Box::<str>::from("word")));
/// assert!(same_subtask(&(1u32, true), &(1u32, true)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    note = "keys are integers, text, bytes, tuples and lists of keys, or types with \
            `#[millstream::record]` and `#[derive(PartialEq, Eq, Key)]`; floating point numbers are not, because `NaN != NaN`",
    note = "a key that is a part of the record is given by reference to `key_by_ref`"
)]
pub trait Key: State + Eq + Clone {
    /// Adds the key's words to `hasher`.
    fn write(&self, hasher: &mut KeyHasher);

    /// The stable hash.
    #[inline]
    fn stable_hash(&self) -> u64 {
        let mut hasher = KeyHasher::new();
        self.write(&mut hasher);
        hasher.finish()
    }

    /// Makes this key equal to `other` in the memory that it has: a task does so for each record,
    /// and a key of the same size then allocates nothing. `#[derive(Key)]` goes field by field.
    #[inline]
    fn copy_from(&mut self, other: &Self) {
        self.clone_from(other);
    }

    /// Asks the processor to fetch what the key points to, because it is compared soon; `false` if
    /// it points to nothing. A task does so for each record that meets a large state.
    /// `#[derive(Key)]` goes field by field.
    #[inline]
    fn prefetch(&self) -> bool {
        false
    }

    /// Adds the words of a list of keys. Bytes are written as such.
    #[doc(hidden)]
    fn write_list(list: &[Self], hasher: &mut KeyHasher) {
        list.iter().for_each(|key| key.write(hasher));
        hasher.write_word(list.len() as u64);
    }
}

impl Key for u8 {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        hasher.write_word(u64::from(*self));
    }

    #[inline]
    fn write_list(list: &[Self], hasher: &mut KeyHasher) {
        hasher.write_bytes(list);
    }
}

impl Key for i8 {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        self.cast_unsigned().write(hasher);
    }
}

macro_rules! integer_keys {
    ($($signed:ty as $unsigned:ty),*) => { $(
        impl Key for $unsigned {
            #[inline]
            fn write(&self, hasher: &mut KeyHasher) {
                hasher.write_word(u64::from(*self));
            }
        }
        impl Key for $signed {
            #[inline]
            fn write(&self, hasher: &mut KeyHasher) {
                self.cast_unsigned().write(hasher);
            }
        }
    )* };
}
integer_keys!(i16 as u16, i32 as u32, i64 as u64);

macro_rules! word_keys {
    ($($name:ty: |$value:ident| $words:expr),* $(,)?) => { $(
        impl Key for $name {
            #[inline]
            fn write(&self, hasher: &mut KeyHasher) {
                let $value = self;
                for word in $words { hasher.write_word(word); }
            }
        }
    )* };
}
word_keys!(
    usize: |v| [*v as u64],
    isize: |v| [*v as u64],
    u128: |v| [*v as u64, (*v >> 64) as u64],
    i128: |v| [*v as u64, (*v >> 64) as u64],
    bool: |v| [u64::from(*v)],
    char: |v| [u64::from(*v)],
    (): |_v| [0u64; 0],
);

impl Key for String {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        hasher.write_bytes(self.as_bytes());
    }

    #[inline]
    fn prefetch(&self) -> bool {
        prefetch_first(self.as_bytes())
    }
}

impl Key for Box<str> {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        hasher.write_bytes(self.as_bytes());
    }

    #[inline]
    fn prefetch(&self) -> bool {
        prefetch_first(self.as_bytes())
    }
}

impl<K: Key> Key for Vec<K> {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        K::write_list(self, hasher);
    }

    #[inline]
    fn prefetch(&self) -> bool {
        prefetch_first(self)
    }
}

impl<K: Key, const N: usize> Key for [K; N]
where
    Self: State,
{
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        K::write_list(self, hasher);
    }

    #[inline]
    fn prefetch(&self) -> bool {
        self.iter().fold(false, |asked, key| asked | key.prefetch())
    }
}

impl<K: Key> Key for Box<K> {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        K::write(self, hasher);
    }

    #[inline]
    fn copy_from(&mut self, other: &Self) {
        K::copy_from(self, other);
    }

    #[inline]
    fn prefetch(&self) -> bool {
        prefetch_first(std::slice::from_ref(self.as_ref()))
    }
}

impl<K: Key + Ord> Key for BTreeSet<K> {
    fn write(&self, hasher: &mut KeyHasher) {
        self.iter().for_each(|key| key.write(hasher));
        hasher.write_word(self.len() as u64);
    }
}

impl<K: Key + Ord, V: Key> Key for BTreeMap<K, V> {
    fn write(&self, hasher: &mut KeyHasher) {
        for (key, value) in self {
            key.write(hasher);
            value.write(hasher);
        }
        hasher.write_word(self.len() as u64);
    }
}

impl<K: Key> Key for Option<K> {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        match self {
            None => hasher.write_word(0),
            Some(key) => {
                hasher.write_word(1);
                key.write(hasher);
            }
        }
    }

    #[inline]
    fn copy_from(&mut self, other: &Self) {
        if let (Some(key), Some(other)) = (&mut *self, other) {
            key.copy_from(other);
        } else {
            self.clone_from(other);
        }
    }

    #[inline]
    fn prefetch(&self) -> bool {
        self.as_ref().is_some_and(Key::prefetch)
    }
}

macro_rules! tuple_keys {
    ($(($($field:ident . $index:tt),+)),*) => { $(
        impl<$($field: Key),+> Key for ($($field,)+) {
            #[inline]
            fn write(&self, hasher: &mut KeyHasher) {
                $(self.$index.write(hasher);)+
            }

            #[inline]
            fn copy_from(&mut self, other: &Self) {
                $(self.$index.copy_from(&other.$index);)+
            }

            #[inline]
            fn prefetch(&self) -> bool {
                false $(| self.$index.prefetch())+
            }
        }
    )* };
}
tuple_keys!(
    (A.0),
    (A.0, B.1),
    (A.0, B.1, C.2),
    (A.0, B.1, C.2, D.3),
    (A.0, B.1, C.2, D.3, E.4),
    (A.0, B.1, C.2, D.3, E.4, F.5)
);

/// The number of key groups of a vertex: 1 to 32,768. State is cut along them and no finer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxParallelism(u16);

impl MaxParallelism {
    /// That of a vertex of up to 85 subtasks, if neither the program nor the configuration says
    /// another.
    pub const DEFAULT: Self = Self(128);
    /// The largest there is.
    pub const MAX: Self = Self(1 << 15);

    /// `count` groups, or `None` for zero or more than 32,768.
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        if count == 0 || count > Self::MAX.0 as u32 { None } else { Some(Self(count as u16)) }
    }

    /// That of a vertex of so many subtasks if nothing else is said: as in Flink, half as many
    /// again, rounded up to a power of two, from 128 to 32,768.
    #[must_use]
    pub const fn derived(parallelism: u32) -> Self {
        match parallelism.saturating_add(parallelism / 2).checked_next_power_of_two() {
            Some(count) if count <= Self::DEFAULT.0 as u32 => Self::DEFAULT,
            Some(count) if count < Self::MAX.0 as u32 => Self(count as u16),
            Some(_) | None => Self::MAX,
        }
    }

    /// The number of groups.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

/// One of a vertex's key groups, the unit that moves when the vertex is rescaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// The group of the key with this stable hash.
    #[inline]
    #[must_use]
    pub const fn of_hash(hash: u64, groups: MaxParallelism) -> Self {
        let middle = (hash >> 16) as u32 as u64;
        Self(((middle * groups.0 as u64) >> 32) as u16)
    }

    /// The group of this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The group's number, from 0.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The subtask that owns the group at `parallelism`: contiguous, even ranges, as in Flink.
    #[inline]
    #[must_use]
    pub const fn owner(self, groups: MaxParallelism, parallelism: u32) -> u32 {
        self.0 as u32 * parallelism / groups.0 as u32
    }

    /// The groups that `subtask` owns at `parallelism`.
    #[must_use]
    pub fn range_of(
        subtask: u32,
        groups: MaxParallelism,
        parallelism: u32,
    ) -> std::ops::Range<u16> {
        let first = |subtask: u32| {
            let groups = u64::from(groups.0);
            let parallelism = u64::from(parallelism.max(1));
            u16::try_from((u64::from(subtask) * groups).div_ceil(parallelism).min(groups))
                .unwrap_or(u16::MAX)
        };
        first(subtask)..first(subtask + 1)
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key group {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Str;

    /// A savepoint of any version relies on these values.
    #[test]
    fn hash_format_version_1() {
        let golden = [
            (0u64.stable_hash(), 0x6c50_2250_5951_f9d6),
            (1u64.stable_hash(), 0x4cee_bceb_6d38_2568),
            ((-1i32).stable_hash(), 0x559b_f564_8c6b_6104),
            ("millstream".to_owned().stable_hash(), 0x788d_8546_c788_a27a),
            ((7u32, "x".to_owned()).stable_hash(), 0xca07_8f87_b2ab_e907),
            (Some(3u8).stable_hash(), 0x0068_5aa0_8576_96eb),
            (vec![1u16, 2].stable_hash(), 0x4cd5_7694_68cc_3de9),
            (BTreeMap::from([(1u8, true)]).stable_hash(), 0x2130_addf_7a26_a0da),
        ];
        for (at, (hash, expected)) in golden.into_iter().enumerate() {
            assert_eq!(hash, expected, "vector {at}: {hash:#x}");
        }
        assert_eq!("ab".to_owned().stable_hash(), b"ab".to_vec().stable_hash());
        assert_eq!(b"ab".stable_hash(), b"ab".to_vec().stable_hash());
        assert_eq!([1u16, 2].stable_hash(), vec![1u16, 2].stable_hash());
        assert_ne!(vec![vec![1u16], vec![]].stable_hash(), vec![vec![], vec![1u16]].stable_hash());
        assert_eq!(Box::new(7u64).stable_hash(), 7u64.stable_hash());
        assert_ne!((1u64, 2u64).stable_hash(), (2u64, 1u64).stable_hash());
    }

    #[test]
    fn a_key_is_copied_into_the_memory_of_the_one_before_it() {
        let text = |letter: char| letter.to_string().repeat(40);
        let mut key = (Some(text('a')), 1u64, (text('b'), text('c').into_bytes()));
        let other = (Some(text('d')), 2u64, (text('e'), text('f').into_bytes()));
        let places = |key: &(Option<String>, u64, (String, Vec<u8>))| {
            (key.0.as_ref().unwrap().as_ptr(), key.2.0.as_ptr(), key.2.1.as_ptr())
        };
        let before = places(&key);
        key.copy_from(&other);
        assert_eq!((places(&key), &key), (before, &other));
        key.copy_from(&(None, 3, (String::new(), Vec::new())));
        assert_eq!(key.0, None);
        key.copy_from(&other);
        assert_eq!(key, other);
    }

    #[test]
    fn a_key_that_points_somewhere_can_be_fetched() {
        let text = "a text that is longer than a line of the cache, and by far longer".to_owned();
        assert!(text.prefetch() && "a".to_owned().prefetch() && !String::new().prefetch());
        assert!(Box::<str>::from("a").prefetch() && Box::new(7u32).prefetch());
        assert!(Str::from(text.as_str()).prefetch() && !Str::from("a").prefetch());
        assert!(vec![7u64].prefetch() && !vec![(); 3].prefetch() && ![7u8; 10].prefetch());
        assert!([Vec::new(), b"a".to_vec()].prefetch());
        assert!((7u64, Some(text)).prefetch() && !(7u64, None::<String>).prefetch());
    }

    #[test]
    fn the_last_word_of_bytes_is_padded_with_zeros() {
        let bytes = [0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7];
        for len in 0..=7 {
            let mut padded = [0; 8];
            padded[..len].copy_from_slice(&bytes[..len]);
            assert_eq!(padded_word(&bytes[..len]), u64::from_le_bytes(padded), "{len} bytes");
        }
    }

    #[test]
    fn every_group_has_the_owner_whose_range_holds_it() {
        for groups in [1, 2, 7, 128, 32_768] {
            let groups = MaxParallelism::new(groups).unwrap();
            for parallelism in [1, 2, 3, 5, 127, 128].map(|p: u32| p.min(groups.get())) {
                for group in 0..groups.get() {
                    let group = KeyGroup::new(u16::try_from(group).unwrap());
                    let owner = group.owner(groups, parallelism);
                    let range = KeyGroup::range_of(owner, groups, parallelism);
                    assert!(range.contains(&group.get()), "{group} of {groups:?} at {parallelism}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_key_groups_is_derived_as_in_flink() {
        for (parallelism, groups) in [
            (0, 128),
            (1, 128),
            (85, 128),
            (86, 256),
            (200, 512),
            (10_922, 16_384),
            (10_923, 16_384),
            (10_924, 32_768),
            (32_768, 32_768),
            (u32::MAX, 32_768),
        ] {
            assert_eq!(MaxParallelism::derived(parallelism).get(), groups, "of {parallelism}");
        }
    }

    #[test]
    fn sequential_keys_spread_evenly() {
        let mut counts = [0u32; 128];
        for key in 0..128_000u64 {
            let group = KeyGroup::of_hash(key.stable_hash(), MaxParallelism::DEFAULT);
            counts[usize::from(group.get())] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
