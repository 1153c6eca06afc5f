//! Where rows go: bytes to be filled, or a counter of them.

use super::RowError;
use super::bulk::{self, Number};

/// The room that is left to write to. It is handed from field to field by value: kept behind a
/// reference, it would be loaded and stored again for each.
pub(super) trait Room: Default {
    /// The place of a length that is known only after what follows it.
    type Length;

    fn put<const N: usize>(self, bytes: [u8; N]) -> Result<Self, RowError>;

    /// Writes numbers one after the other.
    fn put_numbers<N: Number>(self, numbers: &[N]) -> Result<Self, RowError>;

    fn put_length(self) -> Result<(Self::Length, Self), RowError>;

    fn set_length(length: Self::Length, count: u32);
}

/// The free part of the bytes.
impl<'a> Room for &'a mut [u8] {
    type Length = &'a mut [u8; 4];

    #[inline]
    fn put<const N: usize>(self, bytes: [u8; N]) -> Result<Self, RowError> {
        let (place, room) = self.split_first_chunk_mut::<N>().ok_or(RowError::Full)?;
        *place = bytes;
        Ok(room)
    }

    #[inline]
    fn put_numbers<N: Number>(self, numbers: &[N]) -> Result<Self, RowError> {
        bulk::put(numbers, self)
    }

    #[inline]
    fn put_length(self) -> Result<(Self::Length, Self), RowError> {
        self.split_first_chunk_mut().ok_or(RowError::Full)
    }

    #[inline]
    fn set_length(length: Self::Length, count: u32) {
        *length = count.to_le_bytes();
    }
}

/// Counts the bytes instead of keeping them.
#[derive(Default)]
pub(super) struct Counter {
    pub(super) bytes: usize,
}

impl Room for Counter {
    type Length = ();

    #[inline]
    fn put<const N: usize>(self, _bytes: [u8; N]) -> Result<Self, RowError> {
        Ok(Self { bytes: self.bytes + N })
    }

    #[inline]
    fn put_numbers<N: Number>(self, numbers: &[N]) -> Result<Self, RowError> {
        Ok(Self { bytes: self.bytes + size_of_val(numbers) })
    }

    #[inline]
    fn put_length(self) -> Result<(Self::Length, Self), RowError> {
        Ok(((), self.put([0; 4])?))
    }

    #[inline]
    fn set_length(_length: (), _count: u32) {}
}
