//! Elements that travel between tasks, and their frames between processes.
//!
//! A frame is a 28-byte head (little endian: `u32` payload length, `u8` kind, 3 bytes zero, `u32`
//! attempt, `u64` epoch of the leader that deployed it, `u64` channel number) and its payload. A
//! connection starts with a hello frame of each side, whose head says the sender's attempt; nothing
//! else is read before it. Kinds:
//!
//! | kind | payload |
//! |---|---|
//! | hello | magic, version `u32`, sender's 16-byte host id, 32-byte proof |
//! | data | `u32` number of records, `u8` whether timed, records as rows, times (8 bytes each) |
//! | event | `u8` which, `i64` value |
//! | credit | `u32` number of frames, `u32` number of channels |
//! | overtaking | as event: a barrier that has overtaken what waits at the sender |
//!
//! A data or event frame takes one credit of its channel, and an overtaking one none. A credit
//! frame grants the same to the channels of as many producers, from that of its head on, to one
//! consumer.
//!
//! The proof is the HMAC-SHA-256, under the token that the hosts of one attempt share, of what the
//! hello says and the host that it is for: so it is good for this pair of hosts in this direction
//! and attempt alone, and shows no listener the token.

use std::any::type_name;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_types::{Barrier, BarrierKind, CheckpointId, LeaderEpoch, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::{BATCH_BYTES, Batch, TimesError};
use crate::channel_id::{ChannelId, Generation};
use crate::rows::{self, RowError};

/// The most bytes of a frame's payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// A data frame takes no more records once its payload has this many bytes.
const DATA_BYTES: usize = 1 << 20;
/// The bytes of a frame's head.
pub(crate) const HEAD_BYTES: usize = 28;
/// No data frame holds more records, however short they are: a number alone must not keep the
/// receiver busy.
const RECORDS_MAX: usize = 1 << 24;
/// Bytes of a data frame before its records.
const COUNT_BYTES: usize = 5;
/// The most bytes of a frame.
const FRAME_BYTES_MAX: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX;

/// A type whose values can move between tasks. Serde's derives are all that it takes.
///
/// ```
/// # use millstream_network::Data;
/// fn travels<T: Data>() {}
///
/// travels::<(u64, String)>();
/// travels::<Option<Vec<f64>>>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between tasks",
    label = "not a record",
    note = "put `#[millstream::record]` before its definition, or derive serde's `Serialize` and \
            `Deserialize`; records own what they hold (`'static`) and are `Send`"
)]
pub trait Data: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// An element that travels beside the records, in order with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// No record at or before this time will follow. The end of input alone tells that none will
    /// follow at all.
    Watermark(Timestamp),
    /// The records before it are part of a checkpoint, those behind it are not.
    Barrier(Barrier),
    /// Whether the channel has no records for now, so that no watermark waits for it.
    Idle(bool),
    /// Nothing will follow.
    EndOfInput,
}

impl Event {
    /// Whether `earlier`, right before this event, says nothing that this one does not replace.
    #[must_use]
    pub const fn replaces(self, earlier: Self) -> bool {
        matches!(
            (self, earlier),
            (Self::Watermark(_), Self::Watermark(_)) | (Self::Idle(_), Self::Idle(_))
        )
    }
}

/// Any event that no other one replaces.
#[cfg(test)]
pub(crate) const BARRIER: Event =
    Event::Barrier(Barrier::new(CheckpointId::FIRST, BarrierKind::Checkpoint));

/// A batch or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element<T> {
    /// Records.
    Data(Batch<T>),
    /// An event beside them.
    Event(Event),
}

/// Malformed bytes from another process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed data from another host: {0}")]
pub struct WireError(pub(crate) &'static str);

/// Why a record cannot be sent to another process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its type's `Serialize` refused, or needs a format that describes itself.
    #[error("a record of type {kind} cannot be sent to another process: {why}")]
    Record {
        /// The record's type.
        kind: &'static str,
        /// The fault.
        why: String,
    },
    /// It does not fit into a frame.
    #[error(
        "a record of type {kind} takes more than the {PAYLOAD_BYTES_MAX} bytes that can be sent to \
         another process at once: split it, or send where it lies instead"
    )]
    TooLong {
        /// The record's type.
        kind: &'static str,
    },
}

/// Why a record that came from another task cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record of type {kind} cannot be read back from what was sent: {why}. Look at its serde \
     attributes (serialize_with, skip_serializing, ...)"
)]
pub struct DecodeError {
    kind: &'static str,
    why: String,
}

impl DecodeError {
    #[cold]
    fn new<T>(why: &RowError) -> Self {
        Self { kind: type_name::<T>(), why: why.to_string() }
    }
}

impl EncodeError {
    #[cold]
    fn new<T>(why: RowError) -> Self {
        let kind = type_name::<T>();
        match why {
            RowError::Full => Self::TooLong { kind },
            why => Self::Record { kind, why: why.to_string() },
        }
    }
}

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Data = 2,
    Event = 3,
    Credit = 4,
    Overtaking = 5,
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    pub(crate) channel: ChannelId,
}

impl Head {
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() < HEAD_BYTES {
            return Err(WireError("a frame's head is cut off"));
        }
        let length = bytes.get_u32_le() as usize;
        let kind = match bytes.get_u8() {
            1 => Kind::Hello,
            2 => Kind::Data,
            3 => Kind::Event,
            4 => Kind::Credit,
            5 => Kind::Overtaking,
            _ => return Err(WireError("a frame is of an unknown kind")),
        };
        bytes.advance(3);
        let attempt = bytes.get_u32_le();
        let generation = Generation { epoch: LeaderEpoch::new(bytes.get_u64_le()), attempt };
        let channel = ChannelId::of_wire(bytes.get_u64_le(), generation);
        if length > PAYLOAD_BYTES_MAX {
            return Err(WireError("a frame is longer than 64 MiB"));
        }
        Ok(Self { length, kind, channel })
    }
}

/// Builds a frame around what `payload` writes.
pub(crate) fn frame(kind: Kind, channel: ChannelId, payload: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::zeroed(HEAD_BYTES);
    payload(&mut bytes);
    let length = u32::try_from(bytes.len() - HEAD_BYTES).unwrap_or(u32::MAX);
    put_head(&mut bytes.as_mut(), kind, channel, length);
    bytes.freeze()
}

fn put_head(out: &mut impl BufMut, kind: Kind, channel: ChannelId, length: u32) {
    out.put_u32_le(length);
    out.put_u8(kind as u8);
    out.put_bytes(0, 3);
    out.put_u32_le(channel.generation.attempt);
    out.put_u64_le(channel.generation.epoch.get());
    out.put_u64_le(channel.number());
}

/// The content of a credit frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credits {
    /// The number of frames that each channel may send.
    pub(crate) credits: u32,
    /// The number of channels.
    pub(crate) channels: u32,
}

pub(crate) fn credit_frame(first: ChannelId, Credits { credits, channels }: Credits) -> Bytes {
    frame(Kind::Credit, first, |bytes| {
        bytes.put_u32_le(credits);
        bytes.put_u32_le(channels);
    })
}

pub(crate) fn decode_credit(mut payload: &[u8]) -> Result<Credits, WireError> {
    if payload.len() == 8 {
        Ok(Credits { credits: payload.get_u32_le(), channels: payload.get_u32_le() })
    } else {
        Err(WireError("a credit frame is not 8 bytes"))
    }
}

const KINDS: [BarrierKind; 5] = [
    BarrierKind::Checkpoint,
    BarrierKind::Unaligned,
    BarrierKind::Savepoint,
    BarrierKind::Stop { drain: false },
    BarrierKind::Stop { drain: true },
];

/// The number of a barrier of this kind among the events.
const fn kind_number(kind: BarrierKind) -> u8 {
    match kind {
        BarrierKind::Checkpoint => 2,
        BarrierKind::Savepoint => 5,
        BarrierKind::Stop { drain: false } => 6,
        BarrierKind::Stop { drain: true } => 7,
        BarrierKind::Unaligned => 8,
    }
}

pub(crate) fn event_frame(channel: ChannelId, event: Event) -> Bytes {
    frame_of_event(Kind::Event, channel, event)
}

/// The frame of a barrier that has overtaken what waits at its sender.
pub(crate) fn overtaking_frame(channel: ChannelId, barrier: Barrier) -> Bytes {
    frame_of_event(Kind::Overtaking, channel, Event::Barrier(barrier))
}

fn frame_of_event(kind: Kind, channel: ChannelId, event: Event) -> Bytes {
    let (which, value) = match event {
        Event::Watermark(time) => (1, time.as_millis()),
        Event::Barrier(barrier) => {
            (kind_number(barrier.kind), barrier.checkpoint.get().cast_signed())
        }
        Event::Idle(idle) => (3, i64::from(idle)),
        Event::EndOfInput => (4, 0),
    };
    frame(kind, channel, |bytes| {
        bytes.put_u8(which);
        bytes.put_i64_le(value);
    })
}

/// The barrier of an overtaking frame.
pub(crate) fn decode_overtaking(payload: &[u8]) -> Result<Barrier, WireError> {
    match decode_event(payload)? {
        Event::Barrier(barrier) if barrier.kind == BarrierKind::Unaligned => Ok(barrier),
        _ => Err(WireError("something overtakes that is no unaligned barrier")),
    }
}

pub(crate) fn decode_event(mut payload: &[u8]) -> Result<Event, WireError> {
    if payload.len() != 9 {
        return Err(WireError("an event frame is not 9 bytes"));
    }
    let which = payload.get_u8();
    let value = payload.get_i64_le();
    match which {
        1 => Ok(Event::Watermark(Timestamp::from_millis(value))),
        3 => Ok(Event::Idle(value != 0)),
        4 => Ok(Event::EndOfInput),
        _ => {
            let kind = KINDS.into_iter().find(|kind| kind_number(*kind) == which);
            let kind = kind.ok_or(WireError("an event is of an unknown kind"))?;
            let checkpoint = CheckpointId::new(value.cast_unsigned());
            Ok(Event::Barrier(Barrier::new(checkpoint, kind)))
        }
    }
}

/// Where a thread encodes its frames: kept for the next one, warm in the cache and with its bytes
/// initialized.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Encodes the first records of a batch: all of them, unless they are long. Returns the frame
    /// and how many records it holds.
    pub(crate) fn data_frame<T: Data>(
        &mut self,
        channel: ChannelId,
        batch: &Batch<T>,
    ) -> Result<(&[u8], usize), EncodeError> {
        self.frame_of(channel, batch.records(), batch.timestamps())
    }

    /// As [`FrameBuffer::data_frame`], of records with as many times, or without.
    pub(crate) fn frame_of<T: Data>(
        &mut self,
        channel: ChannelId,
        records: &[T],
        timestamps: Option<&[i64]>,
    ) -> Result<(&[u8], usize), EncodeError> {
        if self.bytes.len() > 2 * DATA_BYTES {
            // It held a giant once; that is no reason to keep so much.
            self.bytes = Vec::new();
        }
        if self.bytes.is_empty() {
            // A batch without records has a head too.
            self.grow().map_err(EncodeError::new::<T>)?;
        }
        let (mut count, end, last) = self.records(records).map_err(EncodeError::new::<T>)?;
        let times = timestamps.unwrap_or_default();
        let mut with_times = |count: usize, end: usize| {
            let times = times.get(..count).unwrap_or_default();
            self.append(end, |room| rows::encode_all(times, room))
        };
        let end = match with_times(count, end) {
            Err(RowError::Full) if count > 1 => {
                // The last record fits only without times.
                count -= 1;
                with_times(count, last)
            }
            end => end,
        };
        let end = end.map_err(EncodeError::new::<T>)?;
        let length = end - HEAD_BYTES;
        let (Ok(length), Ok(number)) = (u32::try_from(length), u32::try_from(count)) else {
            return Err(EncodeError::new::<T>(RowError::Full));
        };
        let mut start = self.bytes.get_mut(..end).unwrap_or_default();
        put_head(&mut start, Kind::Data, channel, length);
        start.put_u32_le(number);
        start.put_u8(u8::from(timestamps.is_some()));
        Ok((self.bytes.get(..end).unwrap_or_default(), count))
    }

    /// Writes the first of these records where those of a frame start; returns how many, where they
    /// end, and where the last of them starts.
    #[inline]
    fn records<T: Data>(&mut self, records: &[T]) -> Result<(usize, usize, usize), RowError> {
        let mut end = HEAD_BYTES + COUNT_BYTES;
        if rows::are_numbers::<T>() {
            let numbers = records.get(..DATA_BYTES / size_of::<T>()).unwrap_or(records);
            end = self.append(end, |room| rows::encode_all(numbers, room))?;
            // Far from the most bytes of a frame, so no record is ever left to the next one.
            return Ok((numbers.len(), end, end));
        }
        let (mut count, mut last) = (0, end);
        for record in records.get(..RECORDS_MAX).unwrap_or(records) {
            let next = match self.append(end, |room| rows::encode(record, room)) {
                Ok(next) => next,
                Err(RowError::Full) if count > 0 => break,
                Err(why) => return Err(why),
            };
            (count, last, end) = (count + 1, end, next);
            if end >= DATA_BYTES {
                break;
            }
        }
        Ok((count, end, last))
    }

    /// Encodes a record and reads it back; a record that is too long for that passes.
    pub(crate) fn check_record<T: Data>(&mut self, record: &T) -> Result<(), EncodeError> {
        let end = match self.append(0, |room| rows::encode(record, room)) {
            Ok(end) => end,
            Err(RowError::Full) => return Ok(()),
            Err(why) => return Err(EncodeError::new::<T>(why)),
        };
        let mut row = self.bytes.get(..end).unwrap_or_default();
        match rows::decode::<T>(&mut row) {
            Ok(_) if row.is_empty() => Ok(()),
            Ok(_) => Err(EncodeError::new::<T>(RowError::LeftOver)),
            Err(why) => Err(EncodeError::new::<T>(why)),
        }
    }

    /// Has something written at `start`, to the room that it is given and whose rest it returns;
    /// returns where it ends.
    #[inline]
    fn append(
        &mut self,
        start: usize,
        write: impl Fn(&mut [u8]) -> Result<&mut [u8], RowError>,
    ) -> Result<usize, RowError> {
        loop {
            let room = self.bytes.get_mut(start..).unwrap_or_default();
            match write(room).map(|rest| rest.len()) {
                Ok(left) => return Ok(self.bytes.len() - left),
                Err(RowError::Full) => self.grow()?,
                Err(why) => return Err(why),
            }
        }
    }

    #[cold]
    fn grow(&mut self) -> Result<(), RowError> {
        let length = self.bytes.len();
        if length >= FRAME_BYTES_MAX {
            return Err(RowError::Full);
        }
        self.bytes.resize((length * 2).clamp(BATCH_BYTES * 2, FRAME_BYTES_MAX), 0);
        Ok(())
    }
}

/// Whether values of a type can be sent to another process, as far as the type shows it.
///
/// # Errors
/// It needs a format that describes itself.
pub fn check_travels<T: Data>() -> Result<(), EncodeError> {
    if rows::can_be_read::<T>() {
        Ok(())
    } else {
        Err(EncodeError::new::<T>(RowError::SelfDescribing))
    }
}

/// Why an input cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// A channel's other end is gone.
    #[error("lost the connection to an upstream task: {0}")]
    Lost(String),
    /// A channel's bytes are malformed.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// A record cannot be read back from its bytes.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// A record cannot be sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Records with event times and without came where only one kind can.
    #[error(transparent)]
    Times(#[from] TimesError),
}

/// A batch as it would be after its way to another process, in frames of its records.
///
/// # Errors
/// A record cannot be encoded, or not be read back.
pub fn send_through_rows<T: Data>(mut batch: Batch<T>) -> Result<Batch<T>, InboxError> {
    let mut received = Batch::empty(batch.is_timed());
    let mut buffer = FrameBuffer::default();
    while !batch.is_empty() {
        let channel = ChannelId::of_wire(0, Generation::FIRST);
        let (frame, count) = buffer.data_frame(channel, &batch)?;
        let payload = frame.get(HEAD_BYTES..).unwrap_or_default();
        received.append(decode_data(payload)?)?;
        batch.remove_first(count);
    }
    Ok(received)
}

/// Decodes a data frame's payload.
pub(crate) fn decode_data<T: Data>(mut payload: &[u8]) -> Result<Batch<T>, InboxError> {
    if payload.len() < COUNT_BYTES {
        return Err(WireError("a data frame is cut off").into());
    }
    let count = payload.get_u32_le() as usize;
    if count > RECORDS_MAX {
        return Err(WireError("a data frame says that it holds more records than any can").into());
    }
    let mut times = None;
    if payload.get_u8() != 0 {
        let at = payload.len().checked_sub(count.saturating_mul(8));
        let Some((rows, bytes)) = at.and_then(|at| payload.split_at_checked(at)) else {
            return Err(WireError("a data frame's times are cut off").into());
        };
        let words = bytes.as_chunks::<8>().0.iter();
        times = Some(words.map(|time| i64::from_le_bytes(*time)).collect());
        payload = rows;
    }
    let records = rows::decode_all(&mut payload, count);
    let records = records.map_err(|why| DecodeError::new::<T>(&why))?;
    if !payload.is_empty() {
        return Err(DecodeError::new::<T>(&RowError::LeftOver).into());
    }
    Ok(match times {
        Some(times) => Batch::timed(records, times)?,
        None => Batch::of(records),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GENERATION: Generation =
        Generation { epoch: LeaderEpoch::new(u64::MAX - 1), attempt: 0xfedc_ba98 };
    const CHANNEL: ChannelId =
        ChannelId { edge: 0xff_ffff, from: 0xf_ffff, to: 77, generation: GENERATION };

    #[test]
    fn a_batch_survives_its_frame() {
        let records = || vec![(1u64, "a".to_owned()), (2, String::new())];
        let timed = Batch::timed(records(), vec![5, -6]).unwrap();
        for (batch, records) in [
            (timed, 2),
            (Batch::of(records()), 2),
            (Batch::empty(true), 0),
            (Batch::empty(false), 0),
        ] {
            let mut buffer = FrameBuffer::default();
            let (frame, count) = buffer.data_frame(CHANNEL, &batch).unwrap();
            assert_eq!(count, records);
            let head = Head::decode(frame).unwrap();
            assert_eq!((head.kind, head.channel), (Kind::Data, CHANNEL));
            assert_eq!(frame.len(), HEAD_BYTES + head.length);
            assert_eq!(decode_data(&frame[HEAD_BYTES..]), Ok(batch.clone()));
            assert_eq!(send_through_rows(batch.clone()), Ok(batch));
        }
    }

    #[test]
    fn long_records_are_spread_over_frames() {
        let text = |length: usize| "x".repeat(length);
        let longest = PAYLOAD_BYTES_MAX - COUNT_BYTES - size_of::<u32>() - size_of::<i64>();
        let records = vec![text(10), text(DATA_BYTES), text(1), text(2), text(longest)];
        let mut batch = Batch::timed(records, (0..5).collect()).unwrap();
        let mut frames = Vec::new();
        let mut buffer = FrameBuffer::default();
        while !batch.is_empty() {
            let (frame, count) = buffer.data_frame(CHANNEL, &batch).unwrap();
            assert!(Head::decode(frame).is_ok());
            let part: Vec<_> = batch.clone().into_iter().take(count).collect();
            let decoded = decode_data::<String>(&frame[HEAD_BYTES..]).unwrap();
            assert_eq!(decoded.into_iter().collect::<Vec<_>>(), part);
            batch.remove_first(count);
            frames.push(count);
        }
        assert_eq!(frames, [2, 2, 1]);

        // The second record fits into the frame, but the times do not then.
        let records = vec![text(10), text(longest - 20)];
        let mut batch = Batch::timed(records, vec![1, 2]).unwrap();
        assert_eq!(buffer.data_frame(CHANNEL, &batch).unwrap().1, 1);
        batch.remove_first(1);
        assert_eq!(buffer.data_frame(CHANNEL, &batch).unwrap().1, 1);

        let longer = Batch::timed(vec![text(longest + 1)], vec![1]).unwrap();
        let error = buffer.data_frame(CHANNEL, &longer).unwrap_err();
        assert_eq!(error, EncodeError::TooLong { kind: "alloc::string::String" });
    }

    #[test]
    fn numbers_are_spread_over_frames_too() {
        let numbers: Vec<u64> = (0..300_000).collect();
        let batch = Batch::timed(numbers.clone(), (0..300_000).collect()).unwrap();
        let mut buffer = FrameBuffer::default();
        let (frame, count) = buffer.data_frame(CHANNEL, &batch).unwrap();
        assert_eq!(count, DATA_BYTES / 8);
        assert_eq!(frame.len(), HEAD_BYTES + COUNT_BYTES + 2 * DATA_BYTES);
        assert_eq!(send_through_rows(batch.clone()), Ok(batch));
        let mut cut_off = buffer.data_frame(CHANNEL, &Batch::of(numbers)).unwrap().0.to_vec();
        cut_off.pop();
        assert!(decode_data::<u64>(&cut_off[HEAD_BYTES..]).is_err());
        cut_off.extend([0; 2]);
        assert!(decode_data::<u64>(&cut_off[HEAD_BYTES..]).is_err(), "a byte is left over");
    }

    #[test]
    fn events_survive_their_frames() {
        let barriers = KINDS.map(|kind| Event::Barrier(Barrier::new(CheckpointId::new(7), kind)));
        let others = [Event::Watermark(Timestamp::MIN), Event::Idle(true), Event::EndOfInput];
        for event in barriers.into_iter().chain(others) {
            let frame = event_frame(CHANNEL, event);
            assert_eq!(decode_event(&frame[HEAD_BYTES..]), Ok(event));
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_head_alone() {
        let mut head = [0u8; HEAD_BYTES];
        head[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        head[4] = Kind::Data as u8;
        assert!(Head::decode(&head).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_or_decoded_and_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = Head::decode(&bytes);
            let _ = decode_event(&bytes);
            let _ = decode_credit(&bytes);
            let _ = decode_data::<(u64, String, Option<Vec<u32>>)>(&bytes);
            let _ = decode_data::<([i16; 3], Vec<f64>)>(&bytes);
            let _ = decode_data::<u32>(&bytes);
        }
    }
}
