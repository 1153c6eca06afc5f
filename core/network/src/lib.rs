//! The way of records between tasks: in batches, through channels whose consumer grants credits.
//!
//! A producing task holds one [`ChannelWriter`] per consuming subtask, a consuming task one
//! [`Inbox`] per input, behind a [`Gate`] that holds channels back while the barrier of a
//! checkpoint is to come from others. [`Exchange`] is the process's registry that brings the two
//! ends together: in one process a [`Batch`] changes hands as it is; between processes it is
//! encoded once and travels as a frame of the one TCP connection that the two processes share.
//!
//! # Invariants
//! - A producer sends a batch or an event only for a credit, so an inbox never holds more than what
//!   it granted. One that sends or grants more than any honest peer is refused.
//! - Frames of another attempt than the channel's are dropped and counted, and so are hosts of
//!   another attempt than this one's. An attempt is a leader's epoch and a number.
//! - Data and events of one channel arrive in the order in which they were sent. An unaligned
//!   barrier alone overtakes what waits at its sender, which has noted it before.
//! - A barrier is aligned when each channel is read up to it and no further.
//! - Nothing here blocks: who finds no input or no credit is woken through its task's `Waker`.
//! - Bytes from another process never panic, and a length alone never allocates.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests measure by the system's clock")
)]

mod barrier_alignment;
mod batch;
mod batch_limit;
mod channel;
mod channel_id;
mod connection;
mod counters;
mod ends;
mod error;
mod exchange;
mod flight;
mod gate;
mod in_flight;
mod in_place;
mod inbox;
mod low_water;
mod outgoing;
mod outlet;
mod overdraft;
mod registry;
mod rows;
mod socket;
#[cfg(feature = "test-util")]
pub mod testing;
mod wire;

pub use barrier_alignment::{BarrierAlignment, BarrierOutcome};
pub use batch::{BATCH_BYTES, BATCH_RECORDS, Batch, Records, TimesError, batch_capacity};
pub use batch_limit::BatchLimit;
pub use channel::{ChannelWriter, bytes_of};
pub use channel_id::{ChannelId, ChannelLayout, EndId, Generation, InputChannels};
pub use counters::{CounterValues, TaskCounters};
pub use error::ExchangeError;
pub use exchange::{Exchange, ExchangeConfig, PeerAddress};
pub use gate::{Gate, Overtaken};
pub use in_flight::{FlightChannel, InFlight, InFlightItems, ReadInFlight, read_in_flight};
pub use in_place::filter_map_in_place;
pub use inbox::{Inbox, Received};
pub use outlet::{CREDITS_MAX, Flow};
pub use overdraft::{IN_FLIGHT_BYTES_MAX, Overdraft};
pub use rows::encoded_bytes;
pub use wire::{
    Data, DecodeError, Element, EncodeError, Event, InboxError, WireError, check_travels,
    send_through_rows,
};
