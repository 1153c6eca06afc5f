//! Timers in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use millstream_mutants::Mutant;
use millstream_types::{Key, KeyGroup, MaxParallelism};
use serde::{Deserialize, Serialize};

use crate::copying::{Marks, SharedWritten, SliceBudget, lock};

/// The clock of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeDomain {
    /// Event time: a timer is due when the watermark has reached it.
    Event,
    /// The machine's wall clock.
    Processing,
}

impl TimeDomain {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Processing => "processing",
        }
    }
}

/// The timers of one name, which belong to keys like values of a state. A key has at most one timer
/// for a time.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let expiry: Timers = states.timers("expiry", TimeDomain::Event)?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash())?;
/// // In a keyed function, for the key of the record at hand:
/// expiry.set(ctx, 60_000)?;
/// expiry.set(ctx, 60_000)?; // it is set already
/// expiry.set(ctx, 90_000)?;
/// expiry.delete(ctx, 90_000)?;
/// # assert_eq!(ctx.next_timer(TimeDomain::Event), Some(60_000));
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    pub(crate) domain: TimeDomain,
    /// Its place among the names of the operator's timers.
    pub(crate) number: u16,
    pub(crate) name: &'static str,
}

/// A timer that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    pub(crate) timers: Timers,
    pub(crate) millis: i64,
}

impl Timer {
    /// The time that it was set for, in milliseconds since 1970.
    #[must_use]
    pub const fn time(&self) -> i64 {
        self.millis
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.timers.name
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn is_of(&self, timers: &Timers) -> bool {
        self.timers == *timers
    }
}

/// All timers of an operator.
#[derive(Debug)]
pub(crate) struct AllTimers<K> {
    pub(crate) names: Vec<Timers>,
    event: TimerQueue<K>,
    processing: TimerQueue<K>,
}

impl<K> AllTimers<K> {
    pub(crate) const fn new() -> Self {
        Self { names: Vec::new(), event: TimerQueue::new(), processing: TimerQueue::new() }
    }

    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.names.iter().any(|timers| timers.name == name)
    }

    pub(crate) const fn queue(&self, domain: TimeDomain) -> &TimerQueue<K> {
        match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        }
    }

    pub(crate) const fn queue_mut(&mut self, domain: TimeDomain) -> &mut TimerQueue<K> {
        match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        }
    }
}

/// A timer but for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) millis: i64,
    /// The number of its name.
    pub(crate) number: u16,
    /// The key's hash.
    pub(crate) hash: u64,
}

impl Alarm {
    /// Its hash among all timers.
    const fn mixed(self) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let time = (self.millis.cast_unsigned() ^ (self.number as u64) << 48).wrapping_mul(ODD);
        (self.hash ^ time ^ time >> 32).wrapping_mul(ODD)
    }
}

/// Timers in order of time.
///
/// The timers stand in a slab. A heap orders their times, a table finds the timer of a key. What is
/// deleted stays in the heap until it comes up, or until it is more than half of the heap.
#[derive(Debug)]
pub(crate) struct TimerQueue<K> {
    pub(crate) slab: Vec<Place<K>>,
    /// The first free place of the slab.
    free: Option<u32>,
    pub(crate) heap: BinaryHeap<Reverse<Due>>,
    /// The places in the slab by [`Alarm::mixed`].
    table: HashTable<u32>,
    pub(crate) is_closed: bool,
    /// The copy for a snapshot that is being written: each timer is copied before it goes.
    copying: Option<Box<TimerCopy>>,
}

/// The copy of a queue that is being written.
#[derive(Debug)]
struct TimerCopy {
    max_parallelism: MaxParallelism,
    /// The name of each timer's number, and what is written of it; `None`: of the other kind.
    written: Vec<Option<(&'static str, SharedWritten)>>,
    /// The first group.
    first: u16,
    /// The places from this one to the end are left.
    next: usize,
    end: usize,
    /// Places of those that are copied, or new.
    marks: Marks,
}

impl TimerCopy {
    /// Copies the timer at a place, if it has one, unless that is done; the number of bytes.
    fn copy<K: Key>(&mut self, at: usize, slab: &[Place<K>]) -> usize {
        if at < self.next || at >= self.end || self.marks.has(at) {
            return 0;
        }
        let Some(Content::Timer(alarm, key)) = slab.get(at).map(|place| &place.content) else {
            return 0;
        };
        self.marks.set(at);
        let written = self.written.get(usize::from(alarm.number));
        let Some(Some((name, written))) = written else { return 0 };
        if Mutant::ForgetsTimer.strikes(16) {
            return 0;
        }
        let group = KeyGroup::of_hash(alarm.hash, self.max_parallelism).get();
        let group = usize::from(group.wrapping_sub(self.first));
        lock(written).add(group, |bytes| bytes.add(name, &(alarm.millis, key)))
    }
}

/// A place of the slab that is looked at costs about as much time as writing so many bytes.
const COPY_LOOK: usize = 4;

/// A timer's time and place. Places are used again, so a timer is there if its version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    millis: i64,
    place: u32,
    version: u32,
}

#[derive(Debug)]
pub(crate) struct Place<K> {
    version: u32,
    content: Content<K>,
}

#[derive(Debug)]
enum Content<K> {
    Timer(Alarm, K),
    /// With the next free place.
    Free(Option<u32>),
}

impl<K> TimerQueue<K> {
    const fn new() -> Self {
        Self {
            slab: Vec::new(),
            free: None,
            heap: BinaryHeap::new(),
            table: HashTable::new(),
            is_closed: false,
            copying: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The top of the heap is always a timer that is set.
    #[inline]
    pub(crate) fn first(&self) -> Option<i64> {
        self.heap.peek().map(|due| due.0.millis)
    }

    fn is_there(slab: &[Place<K>], due: Due) -> bool {
        slab.get(due.place as usize).is_some_and(|place| place.version == due.version)
    }

    /// Takes deleted timers off the top, and all of them if they are most of the heap.
    fn tidy(&mut self) {
        let slab = &self.slab;
        if self.heap.len() > 64 && self.heap.len() / 2 > self.table.len() {
            self.heap.retain(|due| Self::is_there(slab, due.0));
        }
        while self.heap.peek().is_some_and(|due| !Self::is_there(&self.slab, due.0)) {
            self.heap.pop();
        }
    }
}

impl<K: Key> TimerQueue<K> {
    /// Empties a place of the slab.
    fn empty(&mut self, number: u32) -> Option<(Alarm, K)> {
        if let Some(copying) = &mut self.copying {
            copying.copy(number as usize, &self.slab);
        }
        let place = self.slab.get_mut(number as usize)?;
        place.version = place.version.wrapping_add(1);
        let content = std::mem::replace(&mut place.content, Content::Free(self.free));
        self.free = Some(number);
        match content {
            Content::Timer(at, key) => Some((at, key)),
            Content::Free(_) => None,
        }
    }

    /// Begins a copy of the timers as they are now, of those whose numbers have something to write
    /// to. `first` is the first key group.
    pub(crate) fn begin_copy(
        &mut self,
        written: Vec<Option<(&'static str, SharedWritten)>>,
        first: u16,
        max_parallelism: MaxParallelism,
    ) {
        let (next, end, marks) = (0, self.slab.len(), Marks::default());
        let copying = TimerCopy { max_parallelism, written, first, next, end, marks };
        self.copying = Some(Box::new(copying));
    }

    /// Goes on with the copy; whether it is whole, or there is none.
    pub(crate) fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        let Some(copying) = &mut self.copying else { return true };
        while copying.next < copying.end {
            if budget.is_spent() {
                return false;
            }
            budget.spend(COPY_LOOK + copying.copy(copying.next, &self.slab));
            copying.next += 1;
        }
        self.copying = None;
        true
    }

    pub(crate) fn drop_copy(&mut self) {
        self.copying = None;
    }

    /// Sets a timer; `false` if it is set already.
    pub(crate) fn set(&mut self, at: Alarm, key: &K) -> bool {
        if self.is_closed {
            return false;
        }
        let slab = &mut self.slab;
        let entry = self.table.entry(
            at.mixed(),
            |place| holds(slab, *place, at, key),
            |place| match slab.get(*place as usize).map(|place| &place.content) {
                Some(Content::Timer(at, _)) => at.mixed(),
                Some(Content::Free(_)) | None => 0,
            },
        );
        let Entry::Vacant(entry) = entry else { return false };
        let content = Content::Timer(at, key.clone());
        let (number, version) = match self.free {
            Some(number) if let Some(place) = slab.get_mut(number as usize) => {
                if let Content::Free(next) = std::mem::replace(&mut place.content, content) {
                    self.free = next;
                }
                if let Some(copying) = &mut self.copying {
                    copying.marks.set(number as usize);
                }
                (number, place.version)
            }
            Some(_) | None => {
                let number = u32::try_from(slab.len()).unwrap_or(u32::MAX);
                slab.push(Place { version: 0, content });
                (number, 0)
            }
        };
        entry.insert(number);
        self.heap.push(Reverse(Due { millis: at.millis, place: number, version }));
        true
    }

    /// Deletes a timer; `false` if it is not set.
    pub(crate) fn delete(&mut self, at: Alarm, key: &K) -> bool {
        let slab = &self.slab;
        let found = self.table.find_entry(at.mixed(), |place| holds(slab, *place, at, key));
        let Ok(entry) = found else { return false };
        let (number, _) = entry.remove();
        self.empty(number);
        self.tidy();
        true
    }

    pub(crate) fn take_first(&mut self) -> Option<(Alarm, K)> {
        let due = self.heap.pop()?.0;
        let taken = self.empty(due.place)?;
        let found = self.table.find_entry(taken.0.mixed(), |place| *place == due.place);
        if let Ok(entry) = found {
            entry.remove();
        }
        self.tidy();
        Some(taken)
    }
}

/// Whether a place of the slab holds this timer.
fn holds<K: Key>(slab: &[Place<K>], number: u32, at: Alarm, key: &K) -> bool {
    slab.get(number as usize).is_some_and(
        |place| matches!(&place.content, Content::Timer(timer, own) if *timer == at && own == key),
    )
}
