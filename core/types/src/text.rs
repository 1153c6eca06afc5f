//! Text of records.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::{Key, KeyHasher, padded_word};
use crate::prefetch::prefetch_first;
use crate::schema::{Kind, SchemaBuilder, State};

const _: () = assert!(cfg!(target_endian = "little") && size_of::<usize>() == 8);

/// The longest text in place.
const INLINE_BYTES: usize = 15;
/// The tag of text that is not in place.
const HEAP: u8 = 0xff;
const TAG_SHIFT: u32 = 56;
const LEN_MASK: u64 = (1 << TAG_SHIFT) - 1;

/// Text that does not change: up to 15 bytes are stored in place, more behind a pointer. As a key
/// it is the same as a `String`.
///
/// It is two words, and short text is built, moved, compared and hashed as two words in registers.
/// (A type whose short text is written byte by byte and then moved makes the processor wait for
/// its own stores, some 6 ns each time.)
// The text in place is the first 15 bytes, padded with zeros; the last byte is its length. On the
// heap, `low` points to the bytes, the rest of `high` is their number and its last byte is `HEAP`.
#[repr(C)]
pub struct Str {
    low: *const u8,
    high: u64,
}

// SAFETY: it owns what it points to and never changes it.
unsafe impl Send for Str {}
// SAFETY: as above.
unsafe impl Sync for Str {}

impl Str {
    /// The text of these bytes.
    ///
    /// # Errors
    /// They are not UTF-8.
    #[inline]
    pub fn from_utf8(bytes: &[u8]) -> Result<Self, Utf8Error> {
        std::str::from_utf8(bytes).map(Self::from)
    }

    /// The text.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = match self.inline_len() {
            // SAFETY: that many of the bytes that `self` consists of are text.
            Some(len) => unsafe {
                std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), len)
            },
            // SAFETY: the words are those of `on_heap`.
            None => unsafe { std::slice::from_raw_parts(self.low, self.heap_len()) },
        };
        // SAFETY: it was made from a `str`.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }

    #[inline]
    const fn inline_len(&self) -> Option<usize> {
        let tag = (self.high >> TAG_SHIFT) as u8;
        if tag == HEAP { None } else { Some(tag as usize) }
    }

    const fn heap_len(&self) -> usize {
        (self.high & LEN_MASK) as usize
    }

    #[cold]
    fn on_heap(text: Box<str>) -> Self {
        let high = text.len() as u64 | u64::from(HEAP) << TAG_SHIFT;
        Self { low: Box::into_raw(text).cast_const().cast(), high }
    }

    #[cold]
    fn free(&mut self) {
        let bytes = std::ptr::slice_from_raw_parts_mut(self.low.cast_mut(), self.heap_len());
        // SAFETY: the words are those of `on_heap`, and are not used again.
        drop(unsafe { Box::from_raw(bytes) });
    }
}

impl From<&str> for Str {
    #[inline]
    fn from(text: &str) -> Self {
        let bytes = text.as_bytes();
        let len = bytes.len();
        if len > INLINE_BYTES {
            return Self::on_heap(text.into());
        }
        let (low, rest) = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => {
                let rest = u64::from_le_bytes(*last).checked_shr(8 * (16 - len as u32));
                (u64::from_le_bytes(*first), rest.unwrap_or(0))
            }
            _ => (padded_word(bytes), 0),
        };
        let low = std::ptr::without_provenance(low as usize);
        Self { low, high: rest | (len as u64) << TAG_SHIFT }
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        if text.len() > INLINE_BYTES { Self::on_heap(text.into()) } else { text.as_str().into() }
    }
}

impl From<Str> for String {
    fn from(text: Str) -> Self {
        text.as_str().to_owned()
    }
}

impl Clone for Str {
    #[inline]
    fn clone(&self) -> Self {
        match self.inline_len() {
            Some(_) => Self { low: self.low, high: self.high },
            None => Self::on_heap(self.as_str().into()),
        }
    }
}

impl Drop for Str {
    #[inline]
    fn drop(&mut self) {
        if self.inline_len().is_none() {
            self.free();
        }
    }
}

impl Deref for Str {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl Default for Str {
    fn default() -> Self {
        "".into()
    }
}

impl PartialEq for Str {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // Text on the heap is longer than any in place.
        self.low == other.low && self.high == other.high
            || self.inline_len().is_none() && self.as_str() == other.as_str()
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Str {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Str {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Str;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Str, E> {
                Ok(text.into())
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Str, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl State for Str {
    fn schema(_builder: &mut SchemaBuilder) -> Kind {
        Kind::Text
    }
}

impl Key for Str {
    #[inline]
    fn write(&self, hasher: &mut KeyHasher) {
        let Some(len) = self.inline_len() else { return hasher.write_bytes(self.as_bytes()) };
        if len > 0 {
            hasher.write_word(self.low.addr() as u64);
        }
        if len > 8 {
            hasher.write_word(self.high & LEN_MASK);
        }
        hasher.write_word(len as u64);
    }

    #[inline]
    fn prefetch(&self) -> bool {
        self.inline_len().is_none() && prefetch_first(self.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_same_text_and_key_as_a_string(
            texts in proptest::collection::vec("[a-c\u{e9}]{0,40}|\\PC{0,20}", 1..6)
        ) {
            for text in &texts {
                let same = Str::from(text.as_str());
                prop_assert_eq!(same.as_str(), text);
                prop_assert_eq!(same.stable_hash(), text.stable_hash());
                prop_assert_eq!(&same.clone(), &same);
                prop_assert_eq!(&Str::from(text.clone()), &same);
                prop_assert_eq!(&Str::from_utf8(text.as_bytes()).unwrap(), &same);
                prop_assert_eq!(format!("{same} {same:?}"), format!("{text} {text:?}"));
                for other in &texts {
                    let right = Str::from(other.as_str());
                    prop_assert_eq!(same == right, text == other);
                    prop_assert_eq!(same.cmp(&right), text.cmp(other));
                }
            }
        }
    }

    #[test]
    fn sixteen_bytes_hold_fifteen() {
        assert_eq!(size_of::<Str>(), 16);
        assert_eq!(Str::from("fifteen letters").inline_len(), Some(15));
        assert_eq!(Str::from("sixteen letters.").inline_len(), None);
        assert_eq!(Str::default(), "");
        assert!(Str::from_utf8(b"\xff").is_err());
    }
}
