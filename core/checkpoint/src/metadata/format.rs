//! The bytes of metadata, version 1.
//!
//! Numbers are little endian; texts, contents and lists have a `u32` length before them; an option
//! has a byte 0, or 1 and the value.
//!
//! | part | bytes |
//! |---|---|
//! | magic | `MILLSCHK` |
//! | version | `u32` |
//! | length of the whole file | `u64` |
//! | head | job (16), checkpoint `u64`, kind `u8`, time of the start `i64` |
//! | operators | list of operators |
//! | operator | id (16), uid?, name, max parallelism `u32`, key schema?, coordinator?, |
//! | | states, subtasks |
//! | state | name, kind `u8`, schema |
//! | subtask | finished `u8`, positions, handles |
//! | handle | state `u32`, epoch `u64`, attempt `u32`, content, |
//! | | list of (group `u16`, offset `u64`) |
//! | content | 0 and bytes, or 1 and path, offset `u64`, length `u64`, CRC-32 `u32` |
//! | committables | list: operator (16), subtask `u32`, epoch `u64`, attempt `u32`, then |
//! | | checkpoint `u64`, count `u32`, bytes |
//! | size of all states | `u64` |
//! | CRC-32 of everything before | `u32` |
//!
//! The length is checked before the checksum: a file that was cut off is told from a damaged one.

use std::sync::Arc;

use millstream_types::{JobId, KeyGroup, MaxParallelism, Timestamp};

use crate::metadata::reader::Reader;
use crate::metadata::{
    Committables, Content, DecodeError, EncodeError, Fault, FileSegment, GroupOffset, Handle, Kind,
    Metadata, OperatorState, Owner, Section, StateDescription, StateKind, SubtaskState,
};

/// The version that is written, and the latest that is read.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"MILLSCHK";
/// Magic, version, length.
const PREFIX_BYTES: usize = 20;
const CHECKSUM_BYTES: usize = 4;

struct Writer {
    bytes: Vec<u8>,
    section: Section,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    fn length(&mut self, length: usize) -> Result<(), EncodeError> {
        let section = self.section;
        let fits = u32::try_from(length).map_err(|_| EncodeError::TooLong { section, length })?;
        self.u32(fits);
        Ok(())
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.length(bytes.len())?;
        self.put(bytes);
        Ok(())
    }

    fn option(&mut self, bytes: Option<&[u8]>) -> Result<(), EncodeError> {
        self.put(&[u8::from(bytes.is_some())]);
        bytes.map_or(Ok(()), |bytes| self.blob(bytes))
    }

    fn owner(&mut self, owner: Owner) {
        self.u64(owner.epoch.get());
        self.u32(owner.attempt);
    }

    fn operator(&mut self, operator: &OperatorState) -> Result<(), EncodeError> {
        self.put(operator.id.as_bytes());
        self.option(operator.uid.as_deref().map(str::as_bytes))?;
        self.blob(operator.name.as_bytes())?;
        self.u32(operator.max_parallelism.get());
        self.option(operator.key_schema.as_deref())?;
        self.option(operator.coordinator.as_deref())?;
        self.length(operator.states.len())?;
        for state in &operator.states {
            self.blob(state.name.as_bytes())?;
            self.put(&[tag_of_state(state.kind)]);
            self.blob(&state.schema)?;
        }
        self.length(operator.subtasks.len())?;
        operator.subtasks.iter().try_for_each(|subtask| self.subtask(subtask))
    }

    fn subtask(&mut self, subtask: &SubtaskState) -> Result<(), EncodeError> {
        self.put(&[u8::from(subtask.finished)]);
        self.length(subtask.positions.len())?;
        subtask.positions.iter().try_for_each(|position| self.blob(position))?;
        self.length(subtask.handles.len())?;
        subtask.handles.iter().try_for_each(|handle| self.handle(handle))
    }

    fn handle(&mut self, handle: &Handle) -> Result<(), EncodeError> {
        self.u32(handle.state);
        self.owner(handle.owner);
        match &handle.content {
            Content::Inline(bytes) => {
                self.put(&[0]);
                self.blob(bytes)?;
            }
            Content::File(segment) => {
                self.put(&[1]);
                self.blob(segment.path.as_bytes())?;
                self.u64(segment.offset);
                self.u64(segment.length);
                self.u32(segment.crc32);
            }
        }
        self.length(handle.groups.len())?;
        for at in &handle.groups {
            self.put(&at.group.get().to_le_bytes());
            self.u64(at.offset);
        }
        Ok(())
    }

    fn committables(&mut self, one: &Committables) -> Result<(), EncodeError> {
        self.put(one.operator.as_bytes());
        self.u32(one.subtask);
        self.owner(one.owner);
        self.u64(one.checkpoint.get());
        self.u32(one.count);
        self.blob(&one.bytes)
    }
}

/// Encodes metadata that is known to be valid.
pub(crate) fn encode(metadata: &Metadata) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer { bytes: Vec::new(), section: Section::Head };
    writer.put(MAGIC);
    writer.u32(FORMAT_VERSION);
    writer.u64(0);
    writer.put(metadata.job.as_bytes());
    writer.u64(metadata.checkpoint.get());
    writer.put(&[tag_of_kind(metadata.kind)]);
    writer.put(&metadata.triggered.as_millis().to_le_bytes());
    writer.length(metadata.operators.len())?;
    for (at, operator) in (0..).zip(&metadata.operators) {
        writer.section = Section::Operator(at);
        writer.operator(operator)?;
    }
    writer.section = Section::Committables;
    writer.length(metadata.committables.len())?;
    metadata.committables.iter().try_for_each(|one| writer.committables(one))?;
    writer.u64(metadata.state_bytes());
    let mut bytes = writer.bytes;
    let length = (bytes.len() + CHECKSUM_BYTES) as u64;
    if let Some(place) = bytes.get_mut(PREFIX_BYTES - 8..PREFIX_BYTES) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

/// Decodes metadata, which may contradict itself still.
pub(crate) fn decode(file: &str, bytes: &[u8]) -> Result<Metadata, DecodeError> {
    let content = verified(file, bytes)?;
    let mut reader = Reader::new(content, PREFIX_BYTES);
    metadata(&mut reader).map_err(|fault| DecodeError::Malformed {
        file: file.to_owned(),
        section: reader.section(),
        at: reader.at() as u64,
        fault,
    })
}

/// The bytes before the checksum, if magic, version, length and checksum are right.
fn verified<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let file = || file.to_owned();
    let found = bytes.len() as u64;
    let known_magic = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    if bytes.is_empty() || !MAGIC.starts_with(known_magic) {
        return Err(DecodeError::NotMetadata { file: file() });
    }
    let least = (PREFIX_BYTES + CHECKSUM_BYTES) as u64;
    let too_short = || DecodeError::Length { file: file(), expected: least, found };
    let mut reader = Reader::new(bytes, MAGIC.len());
    let version = reader.u32().map_err(|_| too_short())?;
    if version > FORMAT_VERSION {
        let known = FORMAT_VERSION;
        return Err(DecodeError::NewerVersion { file: file(), found: version, known });
    }
    if version == 0 {
        return Err(DecodeError::UnknownVersion { file: file(), found: version });
    }
    let expected = reader.u64().map_err(|_| too_short())?;
    if expected != found {
        return Err(DecodeError::Length { file: file(), expected, found });
    }
    let (content, checksum) = bytes.split_last_chunk().ok_or_else(too_short)?;
    let (expected, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(content));
    if expected != found {
        return Err(DecodeError::Checksum { file: file(), expected, found });
    }
    Ok(content)
}

fn metadata(reader: &mut Reader<'_>) -> Result<Metadata, Fault> {
    let job = JobId::from_bytes(reader.id()?);
    let checkpoint = reader.checkpoint()?;
    let kind = kind_of_tag(reader.u8()?)?;
    let triggered = Timestamp::from_millis(reader.i64()?);
    let count = reader.u32()?;
    let mut operators = Vec::new();
    for at in 0..count {
        reader.enter(Section::Operator(at));
        operators.push(operator(reader)?);
    }
    reader.enter(Section::Committables);
    let committables = reader.list(committables)?;
    reader.enter(Section::End);
    let stated = reader.u64()?;
    let metadata = Metadata { job, checkpoint, kind, triggered, operators, committables };
    let found = metadata.state_bytes();
    if found != stated {
        return Err(Fault::Size { stated, found });
    }
    match reader.rest() {
        0 => Ok(metadata),
        rest => Err(Fault::LeftOver(rest as u64)),
    }
}

fn operator(reader: &mut Reader<'_>) -> Result<OperatorState, Fault> {
    Ok(OperatorState {
        id: reader.operator()?,
        uid: reader.option(Reader::text)?,
        name: reader.text()?,
        max_parallelism: {
            let number = reader.u32()?;
            MaxParallelism::new(number).ok_or(Fault::MaxParallelism(number))?
        },
        key_schema: reader.option(Reader::blob)?,
        coordinator: reader.option(Reader::blob)?,
        states: reader.list(|reader| {
            Ok(StateDescription {
                name: reader.text()?,
                kind: state_of_tag(reader.u8()?)?,
                schema: reader.blob()?,
            })
        })?,
        subtasks: reader.list(|reader| {
            Ok(SubtaskState {
                finished: reader.bool("flag of a finished subtask")?,
                positions: reader.list(Reader::blob)?,
                handles: reader.list(handle)?,
            })
        })?,
    })
}

fn handle(reader: &mut Reader<'_>) -> Result<Handle, Fault> {
    Ok(Handle {
        state: reader.u32()?,
        owner: reader.owner()?,
        content: match reader.u8()? {
            0 => Content::Inline(reader.blob()?),
            1 => Content::File(FileSegment {
                path: reader.text()?,
                offset: reader.u64()?,
                length: reader.u64()?,
                crc32: reader.u32()?,
            }),
            found => return Err(Fault::Tag { of: "place of a content", found }),
        },
        groups: reader.list(|reader| {
            Ok(GroupOffset { group: KeyGroup::new(reader.u16()?), offset: reader.u64()? })
        })?,
    })
}

fn committables(reader: &mut Reader<'_>) -> Result<Arc<Committables>, Fault> {
    Ok(Arc::new(Committables {
        operator: reader.operator()?,
        subtask: reader.u32()?,
        owner: reader.owner()?,
        checkpoint: reader.checkpoint()?,
        count: reader.u32()?,
        bytes: reader.blob()?,
    }))
}

const fn tag_of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::Checkpoint => 0,
        Kind::Final => 1,
        Kind::Savepoint => 2,
        Kind::Stop { drain: false } => 3,
        Kind::Stop { drain: true } => 4,
    }
}

const fn kind_of_tag(tag: u8) -> Result<Kind, Fault> {
    Ok(match tag {
        0 => Kind::Checkpoint,
        1 => Kind::Final,
        2 => Kind::Savepoint,
        3 => Kind::Stop { drain: false },
        4 => Kind::Stop { drain: true },
        found => return Err(Fault::Tag { of: "kind of a checkpoint", found }),
    })
}

const fn tag_of_state(kind: StateKind) -> u8 {
    match kind {
        StateKind::Value => 0,
        StateKind::List => 1,
        StateKind::Map => 2,
        StateKind::Reducing => 3,
        StateKind::Aggregating => 4,
        StateKind::Timers => 5,
        StateKind::Broadcast => 6,
        StateKind::OperatorList => 7,
        StateKind::OperatorUnion => 8,
    }
}

const fn state_of_tag(tag: u8) -> Result<StateKind, Fault> {
    Ok(match tag {
        0 => StateKind::Value,
        1 => StateKind::List,
        2 => StateKind::Map,
        3 => StateKind::Reducing,
        4 => StateKind::Aggregating,
        5 => StateKind::Timers,
        6 => StateKind::Broadcast,
        7 => StateKind::OperatorList,
        8 => StateKind::OperatorUnion,
        found => return Err(Fault::Tag { of: "kind of a state", found }),
    })
}
