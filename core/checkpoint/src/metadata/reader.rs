//! Reads values from bytes that may be anything.
//!
//! No length is trusted: bytes are taken as a slice that is there, and lists grow as they are read.

use millstream_types::{CheckpointId, LeaderEpoch, OperatorId};

use crate::metadata::{Fault, Owner, Section};

/// Bytes, a place in them, and the section that it belongs to.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    section: Section,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, section: Section::Head }
    }

    pub(crate) const fn enter(&mut self, section: Section) {
        self.section = section;
    }

    pub(crate) const fn section(&self) -> Section {
        self.section
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn rest(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(length).ok_or(Fault::CutOff)?;
        let taken = self.bytes.get(self.at..end).ok_or(Fault::CutOff)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::CutOff)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Fault> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn id(&mut self) -> Result<[u8; 16], Fault> {
        self.array()
    }

    pub(crate) fn operator(&mut self) -> Result<OperatorId, Fault> {
        Ok(OperatorId::from_bytes(self.array()?))
    }

    pub(crate) fn checkpoint(&mut self) -> Result<CheckpointId, Fault> {
        Ok(CheckpointId::new(self.u64()?))
    }

    pub(crate) fn owner(&mut self) -> Result<Owner, Fault> {
        Ok(Owner { epoch: LeaderEpoch::new(self.u64()?), attempt: self.u32()? })
    }

    pub(crate) fn bool(&mut self, of: &'static str) -> Result<bool, Fault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Fault::Tag { of, found }),
        }
    }

    pub(crate) fn blob(&mut self) -> Result<Vec<u8>, Fault> {
        let length = self.u32()? as usize;
        Ok(self.take(length)?.to_vec())
    }

    pub(crate) fn text(&mut self) -> Result<String, Fault> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Fault::Text)?;
        Ok(text.to_owned())
    }

    /// A value behind a byte that says whether it is there.
    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        Ok(if self.bool("option")? { Some(read(self)?) } else { None })
    }

    /// A list behind its number of elements. Every element takes a byte at least, so that a false
    /// number ends at the end of the bytes.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let count = self.u32()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }
}
