//! Records in flight, which an unaligned barrier has overtaken, as checkpoints have them.
//!
//! Those of one stream between two tasks are a list of items: first a head, then batches and
//! watermarks in their order, each with its channel. Batches are written as rows, like the frames
//! between processes. Idleness is left out, as its channel would be held to be idle after a
//! restore although records come; so is the end of the input, which the producer says again.

use std::any::type_name;

use bytes::{Buf, BufMut};
use millstream_types::Timestamp;

use crate::batch::Batch;
use crate::channel_id::{ChannelId, Generation};
use crate::error::ExchangeError;
use crate::wire::{self, Data, EncodeError, Event, FrameBuffer, InboxError, WireError};

const HEAD: u8 = 0;
const RECORDS: u8 = 1;
const WATERMARK: u8 = 2;

/// A channel of a stream, by its two subtasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightChannel {
    /// The producing subtask.
    pub from: u32,
    /// The consuming subtask.
    pub to: u32,
}

/// The records in flight of one stream, as they are written.
#[derive(Debug, Default)]
pub struct InFlightItems {
    items: Vec<Vec<u8>>,
    bytes: usize,
    buffer: FrameBuffer,
}

impl InFlightItems {
    /// None yet, of a stream of this type between so many producers and consumers.
    #[must_use]
    pub fn of<T: Data>(producers: u32, consumers: u32) -> Self {
        let mut items = Self::default();
        let mut head = vec![HEAD];
        head.put_u32_le(producers);
        head.put_u32_le(consumers);
        head.put_slice(type_name::<T>().as_bytes());
        items.items.push(head);
        items
    }

    fn add(&mut self, kind: u8, channel: FlightChannel, content: &[u8]) {
        let mut item = Vec::with_capacity(9 + content.len());
        item.put_u8(kind);
        item.put_u32_le(channel.from);
        item.put_u32_le(channel.to);
        item.put_slice(content);
        self.bytes += item.len();
        self.items.push(item);
    }

    /// Adds a batch of a channel.
    ///
    /// # Errors
    /// A record cannot be encoded.
    pub fn add_batch<T: Data>(
        &mut self,
        channel: FlightChannel,
        batch: &Batch<T>,
    ) -> Result<(), EncodeError> {
        let (mut records, mut times) = (batch.records(), batch.timestamps());
        let mut buffer = std::mem::take(&mut self.buffer);
        while !records.is_empty() {
            let name = ChannelId::of_wire(0, Generation::FIRST);
            let (frame, count) = buffer.frame_of(name, records, times)?;
            self.add(RECORDS, channel, frame.get(wire::HEAD_BYTES..).unwrap_or_default());
            records = records.get(count..).unwrap_or_default();
            times = times.map(|times| times.get(count..).unwrap_or_default());
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Adds the payload of a data frame that came through a channel.
    pub(crate) fn add_frame(&mut self, channel: FlightChannel, payload: &[u8]) {
        self.add(RECORDS, channel, payload);
    }

    /// Adds an event of a channel, if it must come again.
    pub fn add_event(&mut self, channel: FlightChannel, event: Event) {
        match event {
            Event::Watermark(time) => {
                self.add(WATERMARK, channel, &time.as_millis().to_le_bytes());
            }
            Event::Barrier(_) | Event::Idle(_) | Event::EndOfInput => {}
        }
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The items; none if only the head is there.
    #[must_use]
    pub fn into_items(self) -> Vec<Vec<u8>> {
        if self.items.len() > 1 { self.items } else { Vec::new() }
    }
}

/// A batch or a watermark that was in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InFlight<T> {
    /// Records.
    Batch(Batch<T>),
    /// A watermark, of a stream whose channels are the same as before.
    Watermark(Timestamp),
}

/// The records in flight of a stream, as they are read.
#[derive(Debug)]
pub struct ReadInFlight<T> {
    /// In order.
    pub items: Vec<(FlightChannel, InFlight<T>)>,
    /// The number of consumers that there were.
    pub consumers: u32,
}

/// Reads the items of a stream. Watermarks are left out if its channels are not those of these
/// producers and consumers: a channel that takes the place of others starts without one.
///
/// # Errors
/// They are damaged, or of another record type, which the error names.
pub fn read_in_flight<T: Data>(
    items: &[Vec<u8>],
    (producers, consumers): (u32, u32),
) -> Result<ReadInFlight<T>, ExchangeError> {
    let damaged = || WireError("an item of records in flight is cut off");
    let (mut all, mut is_same) = (Vec::with_capacity(items.len()), false);
    let mut stored_consumers = consumers;
    for item in items {
        let mut item = item.as_slice();
        if item.len() < 9 {
            return Err(InboxError::from(damaged()).into());
        }
        let kind = item.get_u8();
        let (from, to) = (item.get_u32_le(), item.get_u32_le());
        let channel = FlightChannel { from, to };
        match kind {
            HEAD => {
                is_same = (from, to) == (producers, consumers);
                stored_consumers = to;
                let stored = String::from_utf8_lossy(item);
                if stored != type_name::<T>() {
                    return Err(ExchangeError::InFlightType {
                        stored: stored.into_owned(),
                        declared: type_name::<T>(),
                    });
                }
            }
            RECORDS => all.push((channel, InFlight::Batch(wire::decode_data(item)?))),
            WATERMARK if item.len() == 8 => {
                if is_same {
                    let time = Timestamp::from_millis(item.get_i64_le());
                    all.push((channel, InFlight::Watermark(time)));
                }
            }
            _ => return Err(InboxError::from(damaged()).into()),
        }
    }
    Ok(ReadInFlight { items: all, consumers: stored_consumers })
}

#[cfg(test)]
mod tests {
    use millstream_types::{Barrier, BarrierKind, CheckpointId};

    use super::*;

    const TO_ONE: FlightChannel = FlightChannel { from: 0, to: 1 };
    const TO_TWO: FlightChannel = FlightChannel { from: 3, to: 2 };

    fn items() -> Vec<Vec<u8>> {
        let mut items = InFlightItems::of::<String>(4, 3);
        let long = Batch::timed(vec!["x".repeat(900_000); 3], vec![1, 2, 3]).unwrap();
        items.add_batch(TO_ONE, &long).unwrap();
        items.add_event(TO_ONE, Event::Watermark(Timestamp::from_millis(2)));
        items.add_event(TO_ONE, Event::Idle(true));
        items.add_event(TO_TWO, Event::EndOfInput);
        let barrier = Barrier::new(CheckpointId::FIRST, BarrierKind::Unaligned);
        items.add_event(TO_TWO, Event::Barrier(barrier));
        items.add_batch(TO_TWO, &Batch::of(vec!["a".to_owned()])).unwrap();
        assert!(items.bytes() > 2_700_000);
        items.into_items()
    }

    #[test]
    fn batches_and_watermarks_come_back_in_order_with_their_channels() {
        let read = read_in_flight::<String>(&items(), (4, 3)).unwrap();
        assert_eq!(read.consumers, 3);
        let channels: Vec<FlightChannel> = read.items.iter().map(|(at, _)| *at).collect();
        assert_eq!(channels, [TO_ONE, TO_ONE, TO_ONE, TO_TWO], "two frames of the long records");
        let records = read.items.iter().filter_map(|(_, found)| match found {
            InFlight::Batch(batch) => Some(batch.len()),
            InFlight::Watermark(time) => {
                assert_eq!(*time, Timestamp::from_millis(2));
                None
            }
        });
        assert_eq!(records.sum::<usize>(), 4);
    }

    #[test]
    fn other_channels_start_without_watermarks() {
        for now in [(4, 2), (5, 3)] {
            let read = read_in_flight::<String>(&items(), now).unwrap();
            assert!(read.items.iter().all(|(_, found)| matches!(found, InFlight::Batch(_))));
            assert_eq!((read.items.len(), read.consumers), (3, 3));
        }
    }

    #[test]
    fn another_type_and_damaged_items_are_refused() {
        let error = read_in_flight::<u64>(&items(), (4, 3)).unwrap_err().to_string();
        assert!(error.contains("alloc::string::String") && error.contains("u64"), "{error}");
        let whole = items();
        for item in 0..whole.len() {
            let length = whole[item].len();
            for cut in (0..length).step_by(length / 9 + 1) {
                let mut damaged = whole.clone();
                damaged[item].truncate(cut);
                // The type's name may be cut off so that it is another one.
                assert!(read_in_flight::<String>(&damaged, (4, 3)).is_err(), "{item} at {cut}");
            }
        }
    }

    #[test]
    fn a_stream_with_nothing_in_flight_has_no_items() {
        assert!(InFlightItems::of::<u64>(1, 1).into_items().is_empty());
    }
}
