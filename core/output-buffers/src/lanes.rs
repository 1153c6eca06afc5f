//! The channels of one exchange, each with a buffer of its own while records wait for it.
//!
//! A channel that no record waits for has no buffer: buffers that were sent are kept for whichever
//! channel is next. So their memory follows the records that wait, and has a limit that is known
//! before: the bytes of one output of a task, divided by its channels.

use millstream_network::{
    Batch, BatchLimit, ChannelWriter, Data, Element, Event, ExchangeError, Flow,
};
use millstream_types::Barrier;

use crate::results::Results;
use crate::{Error, Result};

/// The room of a buffer at first; it grows to what the channel's share allows.
const ROOM_MIN: usize = 16;

/// The place of a lane that has no buffer.
const CLOSED: usize = usize::MAX;

/// Lanes begin at lines of the cache: one that shares a line with another task's lanes, or has what
/// each record needs in three of them, costs a fifth of the time of an exchange by key.
#[repr(align(64))]
struct Lane<T> {
    channel: ChannelWriter<T>,
    buffer: Results<T>,
    /// Where it stands among the lanes that have records.
    place: usize,
}

/// The channels of one exchange with their buffers.
pub struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// The lanes that have records, in any order.
    filled: Vec<usize>,
    /// Empty buffers with room.
    rooms: Vec<Batch<T>>,
    /// Measures batches that come as a whole.
    limit: BatchLimit<T>,
    /// The answer of the channels to what was sent since it was last asked for.
    flow: Flow,
    /// Whether the records have event times.
    timed: bool,
    /// The lanes of the records of a batch, kept for its room.
    chosen: Vec<usize>,
}

impl<T: Data> Lanes<T> {
    /// One for each channel; all of them together keep about so many bytes of records.
    #[must_use]
    pub fn new(channels: Vec<ChannelWriter<T>>, bytes: usize, timed: bool) -> Self {
        let share = bytes / channels.len().max(1);
        let lane = |channel| {
            let buffer = Results::limited_by(BatchLimit::within(share), timed);
            Lane { channel, buffer, place: CLOSED }
        };
        Self {
            lanes: channels.into_iter().map(lane).collect(),
            filled: Vec::new(),
            rooms: Vec::new(),
            limit: BatchLimit::within(share),
            flow: Flow::Ready,
            timed,
            chosen: Vec::new(),
        }
    }

    /// The number of lanes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether the records have event times.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.timed
    }

    /// The most records of a batch.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.limit.capacity()
    }

    /// Whether the channels take more, as far as they were sent anything since the last answer.
    pub const fn answer(&mut self) -> Flow {
        std::mem::replace(&mut self.flow, Flow::Ready)
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, record: T) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        let records = &mut target.buffer.records;
        let length = records.len();
        if const { size_of::<T>() == 0 } && length == 0 {
            return self.put_first(lane, record);
        }
        // As `push`, but without a call on the way that would make the compiler copy twice.
        let Some(place) = records.spare_capacity_mut().first_mut() else {
            return self.put_first(lane, record);
        };
        place.write(record);
        // SAFETY: there was room for one more, and now a record is in it.
        unsafe { records.set_len(length + 1) };
        if target.buffer.limit.is_due(length + 1) { self.look(lane) } else { Ok(()) }
    }

    /// Puts a record where there is no room yet.
    #[cold]
    fn put_first(&mut self, lane: usize, record: T) -> Result<()> {
        self.open(lane)?;
        let most = self.capacity();
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        let records = &mut target.buffer.records;
        let length = records.len();
        if length == records.capacity() {
            let room = (length * 4).max(ROOM_MIN).min(most);
            records.reserve_exact(room.saturating_sub(length).max(1));
        }
        records.push(record);
        if target.buffer.limit.is_due(length + 1) { self.look(lane) } else { Ok(()) }
    }

    #[inline(always)]
    fn put_timed(&mut self, lane: usize, record: T, time: i64) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        let Results { records, times, .. } = &mut target.buffer;
        let (length, timed) = (records.len(), times.len());
        if const { size_of::<T>() == 0 } && length == 0 {
            return self.put_first_timed(lane, record, time);
        }
        // As in `put`.
        let (Some(place), Some(time_place)) =
            (records.spare_capacity_mut().first_mut(), times.spare_capacity_mut().first_mut())
        else {
            return self.put_first_timed(lane, record, time);
        };
        place.write(record);
        time_place.write(time);
        // SAFETY: there was room for one more in both, and now a record and its time are in it.
        unsafe {
            records.set_len(length + 1);
            times.set_len(timed + 1);
        }
        if target.buffer.limit.is_due(length + 1) { self.look(lane) } else { Ok(()) }
    }

    /// Puts a record and its time where there is no room yet for one of them.
    #[cold]
    fn put_first_timed(&mut self, lane: usize, record: T, time: i64) -> Result<()> {
        self.open(lane)?;
        if let Some(target) = self.lanes.get_mut(lane) {
            target.buffer.times.push(time);
        }
        self.put(lane, record)
    }

    /// Gives a lane a buffer, unless it has one.
    fn open(&mut self, lane: usize) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        if target.place == CLOSED {
            target.place = self.filled.len();
            self.filled.push(lane);
            if let Some(room) = self.rooms.pop() {
                target.buffer.reuse(room);
            }
        }
        Ok(())
    }

    /// Sends a lane's records if they make a batch.
    #[inline(never)]
    fn look(&mut self, lane: usize) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        if target.buffer.is_full() { self.flush(lane) } else { Ok(()) }
    }

    /// Puts every record into the lane that `choose` returns. All lanes are chosen first: a record
    /// whose address is taken while it moves is copied once more.
    ///
    /// # Errors
    /// There is no such lane, or the records cannot be sent.
    #[inline]
    pub fn put_each(&mut self, batch: Batch<T>, choose: impl FnMut(&T) -> usize) -> Result<()> {
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.clear();
        chosen.extend(batch.records().iter().map(choose));
        let (records, times) = batch.into_parts();
        let records = records.into_iter().zip(&chosen);
        match times {
            None => {
                for (record, lane) in records {
                    self.put(*lane, record)?;
                }
            }
            Some(times) => {
                for ((record, lane), time) in records.zip(times) {
                    self.put_timed(*lane, record, time)?;
                }
            }
        }
        self.chosen = chosen;
        Ok(())
    }

    /// Calls `put` with a batch, or with parts of it that are no larger than a lane's share.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn in_parts(
        &mut self,
        mut batch: Batch<T>,
        mut put: impl FnMut(&mut Self, Batch<T>) -> Result<()>,
    ) -> Result<()> {
        loop {
            let fitting = self.limit.fitting(batch.records());
            if fitting >= batch.len() {
                return put(self, batch);
            }
            let part = batch.take_first(fitting);
            put(self, part)?;
        }
    }

    /// Sends a whole batch through one lane, as it is if it is large.
    ///
    /// # Errors
    /// There is no such lane, or the records cannot be sent.
    pub fn put_batch(&mut self, lane: usize, batch: Batch<T>) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        let most = self.limit.capacity();
        let large = batch.len() * 2 >= most;
        if large || target.buffer.len() + batch.len() > most {
            self.flush(lane)?;
        }
        if !large {
            self.open(lane)?;
        }
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        if large {
            self.flow = self.flow.and(target.channel.send_batch(batch)?);
            return Ok(());
        }
        target.buffer.append(batch);
        self.look(lane)
    }

    /// Sends a lane's records. Kept out of the loop over the records.
    #[inline(never)]
    fn flush(&mut self, lane: usize) -> Result<()> {
        let Some(target) = self.lanes.get_mut(lane) else { return Err(no_lane(lane)) };
        if target.place == CLOSED {
            return Ok(());
        }
        let place = std::mem::replace(&mut target.place, CLOSED);
        let mut batch = target.buffer.take()?;
        let sent = target.channel.send_all_of(&mut batch)?;
        self.flow = self.flow.and(sent);
        self.rooms.push(batch);
        self.filled.swap_remove(place);
        let moved = self.filled.get(place).and_then(|moved| self.lanes.get_mut(*moved));
        if let Some(moved) = moved {
            moved.place = place;
        }
        Ok(())
    }

    /// Sends all records that wait for others to become a batch.
    ///
    /// # Errors
    /// They cannot be sent.
    pub fn flush_all(&mut self) -> Result<()> {
        while let Some(lane) = self.filled.last() {
            self.flush(*lane)?;
        }
        Ok(())
    }

    /// Sends what waits for consumers that may be waiting for it. They have taken most of what was
    /// sent before, so a consumer that is slow still gets large batches.
    ///
    /// # Errors
    /// It cannot be sent.
    pub fn flush_awaited(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some(&lane) = self.filled.get(at) {
            if self.lanes.get(lane).is_some_and(|lane| lane.channel.is_awaited()) {
                // Another lane comes into its place.
                self.flush(lane)?;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// Whether no record waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Sends an event through all lanes, behind the records that wait.
    ///
    /// # Errors
    /// They or the event cannot be sent.
    pub fn send_event(&mut self, event: Event) -> Result<()> {
        self.flush_all()?;
        for lane in &mut self.lanes {
            self.flow = self.flow.and(lane.channel.send_event(event)?);
        }
        Ok(())
    }

    /// Sends a barrier through all lanes, before what waits in each, which `note` is shown.
    ///
    /// # Errors
    /// `note` fails, or the barrier cannot be sent.
    pub fn overtake(
        &mut self,
        barrier: Barrier,
        mut note: impl FnMut(u32, &Element<T>) -> Result<(), ExchangeError>,
    ) -> Result<()> {
        for (to, lane) in (0..).zip(&mut self.lanes) {
            lane.channel.overtake(barrier, |element| note(to, element))?;
        }
        Ok(())
    }

    /// Puts what was in flight through a lane behind what waits there.
    ///
    /// # Errors
    /// There is no such lane.
    pub fn restore(&mut self, to: u32, element: Element<T>) -> Result<()> {
        let lane = self.lanes.get_mut(to as usize).ok_or_else(|| no_lane(to as usize))?;
        lane.channel.restore(element);
        Ok(())
    }

    /// Sends what waits for credits.
    ///
    /// # Errors
    /// It cannot be sent.
    pub fn drain(&mut self) -> Result<Flow> {
        self.lanes
            .iter_mut()
            .try_fold(Flow::Ready, |flow, lane| Ok(flow.and(lane.channel.drain()?)))
    }

    /// Number of batches and events that wait for credits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.channel.waiting()).sum()
    }
}

#[cold]
fn no_lane(lane: usize) -> Error {
    anyhow::anyhow!("the partitioner chose subtask {lane}, which does not exist")
}
