//! Lines up the barriers of a task's channels: decides which channels are held back until the
//! barrier of a checkpoint has come from all of them. It has no channels itself, see
//! [`Gate`](crate::Gate).
//!
//! ```text
//!  channel 0   ──1──2──|──3──      held from the barrier on: 3 waits
//!  channel 1   ──a──|──b──         held from the barrier on: b waits
//!  channel 2   ──x──y──z──         the barrier is still to come
//! ```
//!
//! # Invariants
//! - When a barrier is aligned, the task has seen of each channel what is before that barrier, and
//!   nothing behind it.
//! - A channel that has ended has had all barriers that are still to come.
//! - The barriers of a channel grow, so one that a channel has left out will never come from it: a
//!   later one abandons it.
//!
//! An unaligned barrier holds nothing back. The first one of a checkpoint begins it, and what comes
//! of each other channel before its barrier is noted as being in flight.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_mutants::Mutant;
use millstream_types::{Barrier, CheckpointId};

/// The most checkpoints that are remembered as aborted before one of their barriers has come. One
/// beyond takes the place of the oldest, which is aligned in vain if its barriers come after all.
const ABORTED_MAX: usize = 1_024;

/// The barriers of a task, whose channels are numbered through over all its inputs.
#[derive(Debug)]
pub struct BarrierAlignment {
    channels: Vec<Channel>,
    /// The number of channels that have not ended.
    open: usize,
    pending: Option<Pending>,
    /// The unaligned checkpoint whose records in flight are noted.
    noting: Option<Pending>,
    /// The last checkpoint that was aligned, abandoned, or begun without alignment.
    last: Option<CheckpointId>,
    /// Aborted ones that are later than that.
    aborted: BTreeSet<CheckpointId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// It had this barrier last.
    Open(Option<CheckpointId>),
    Ended,
}

/// A checkpoint whose barrier has come from some channels.
#[derive(Debug)]
struct Pending {
    barrier: Barrier,
    since: Instant,
    /// The number of open channels from which it has not come.
    missing: usize,
}

/// The outcome of a barrier, an end or an abort. If either part is there, channels that were held
/// back may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct BarrierOutcome {
    /// This checkpoint will not be aligned any more.
    pub abandoned: Option<CheckpointId>,
    /// This barrier has come from all channels, and the first of them waited for the last one for
    /// so long.
    pub barrier: Option<(Barrier, Duration)>,
}

impl BarrierOutcome {
    /// Whether channels that were held back may go on.
    #[must_use]
    pub const fn releases(self) -> bool {
        self.abandoned.is_some() || self.barrier.is_some()
    }
}

impl BarrierAlignment {
    /// That of so many channels.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            channels: vec![Channel::Open(None); channels],
            open: channels,
            pending: None,
            noting: None,
            last: None,
            aborted: BTreeSet::new(),
        }
    }

    /// Whether a channel is held back: nothing more of it may be taken now.
    #[inline]
    #[must_use]
    pub fn holds(&self, channel: usize) -> bool {
        self.pending.as_ref().is_some_and(|pending| {
            let had = Some(pending.barrier.checkpoint);
            matches!(self.channels.get(channel), Some(Channel::Open(last)) if *last == had)
                && !Mutant::ReadsBehindBarrier.lives()
        })
    }

    /// Whether any channel is held back.
    #[inline]
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The channels that are waited for, and the checkpoint.
    pub fn waits_for(&self) -> Option<(CheckpointId, impl Iterator<Item = usize>)> {
        let checkpoint = self.pending.as_ref()?.barrier.checkpoint;
        let lacks = move |channel: &Channel| match channel {
            Channel::Open(last) => *last != Some(checkpoint),
            Channel::Ended => false,
        };
        let channels = self.channels.iter().enumerate();
        Some((checkpoint, channels.filter(move |(_, it)| lacks(it)).map(|(at, _)| at)))
    }

    /// A barrier has come from a channel. One that is not later than the channel's last one, or
    /// than the last checkpoint that was aligned or abandoned, says nothing.
    pub fn on_barrier(&mut self, now: Instant, channel: usize, barrier: Barrier) -> BarrierOutcome {
        let Some(Channel::Open(last)) = self.channels.get_mut(channel) else {
            return BarrierOutcome::default();
        };
        let checkpoint = barrier.checkpoint;
        if last.is_some_and(|last| checkpoint <= last) {
            return BarrierOutcome::default();
        }
        *last = Some(checkpoint);
        if let Some(pending) = &mut self.pending
            && checkpoint == pending.barrier.checkpoint
        {
            pending.missing -= 1;
            return BarrierOutcome { abandoned: None, barrier: self.align(now) };
        }
        let is_late = self.pending.as_ref().is_some_and(|it| checkpoint < it.barrier.checkpoint);
        if is_late || self.last.is_some_and(|last| checkpoint <= last) {
            return BarrierOutcome::default();
        }
        // This channel has left out the pending one, and another one may have left out this one.
        let abandoned = self.abandon();
        let left_out = self.channels.iter().any(|channel| match channel {
            Channel::Open(last) => *last > Some(checkpoint),
            Channel::Ended => false,
        });
        if !left_out && !self.aborted.contains(&checkpoint) {
            let missing = if Mutant::IgnoresAlignment.lives() { 0 } else { self.open - 1 };
            self.pending = Some(Pending { barrier, since: now, missing });
        }
        BarrierOutcome { abandoned, barrier: self.align(now) }
    }

    /// An unaligned barrier has come before what waits of its channel; whether its checkpoint
    /// begins now. Then no channel is held back any more, and everything that waits, or comes
    /// before the barrier of its channel, is in flight.
    pub fn begin_unaligned(&mut self, now: Instant, barrier: Barrier) -> bool {
        let checkpoint = barrier.checkpoint;
        let is_late = |other: &Pending| checkpoint < other.barrier.checkpoint;
        if self.last.is_some_and(|last| checkpoint <= last)
            || self.pending.as_ref().is_some_and(is_late)
            || self.aborted.contains(&checkpoint)
        {
            return false;
        }
        self.pending = None;
        let lacks = |channel: &&Channel| Self::lacks(**channel, checkpoint);
        let missing = self.channels.iter().filter(lacks).count();
        self.noting = Some(Pending { barrier, since: now, missing });
        self.pass(checkpoint);
        true
    }

    fn lacks(channel: Channel, checkpoint: CheckpointId) -> bool {
        matches!(channel, Channel::Open(last) if last < Some(checkpoint))
    }

    /// The checkpoint whose records in flight are noted.
    #[inline]
    #[must_use]
    pub fn noting(&self) -> Option<CheckpointId> {
        self.noting.as_ref().map(|noting| noting.barrier.checkpoint)
    }

    /// Whether what comes of a channel is in flight in that checkpoint.
    #[must_use]
    pub fn notes(&self, channel: usize) -> bool {
        let state = self.channels.get(channel).copied();
        self.noting().is_some_and(|noting| state.is_some_and(|it| Self::lacks(it, noting)))
    }

    /// While records in flight are noted: the barrier of a channel has come in its place among
    /// them. One of a later checkpoint gives up the present one, which the channel has left out.
    pub fn note_barrier(&mut self, channel: usize, checkpoint: CheckpointId) {
        let Some(noting) = self.noting() else { return };
        if checkpoint < noting || !self.notes(channel) {
            return;
        }
        if checkpoint > noting {
            self.noting = None;
            return;
        }
        if let Some(state) = self.channels.get_mut(channel) {
            *state = Channel::Open(Some(checkpoint));
        }
        if let Some(noting) = &mut self.noting {
            noting.missing -= 1;
        }
    }

    /// While records in flight are noted: the end of a channel has come.
    pub fn note_end(&mut self, channel: usize) {
        if let Some(noting) = self.noting() {
            self.note_barrier(channel, noting);
        }
    }

    /// Ends the noting once the barrier has come from all channels: the time since the first one.
    pub fn end_noting(&mut self, now: Instant) -> Option<Duration> {
        let noted = self.noting.take_if(|noting| noting.missing == 0)?;
        Some(now.saturating_duration_since(noted.since))
    }

    /// Notes no records any more.
    pub fn stop_noting(&mut self) {
        self.noting = None;
    }

    /// A channel has ended. It must not be held back.
    pub fn on_end(&mut self, now: Instant, channel: usize) -> BarrierOutcome {
        debug_assert!(!self.holds(channel), "nothing is taken of a channel that is held back");
        let Some(state @ Channel::Open(_)) = self.channels.get_mut(channel) else {
            return BarrierOutcome::default();
        };
        if let (Channel::Open(last), Some(noting)) = (*state, &mut self.noting)
            && last < Some(noting.barrier.checkpoint)
        {
            noting.missing -= 1;
        }
        *state = Channel::Ended;
        self.open -= 1;
        if let Some(pending) = &mut self.pending {
            pending.missing -= 1;
        }
        BarrierOutcome { abandoned: None, barrier: self.align(now) }
    }

    /// A checkpoint was aborted: no channel is held back for it, now or later.
    pub fn abort(&mut self, checkpoint: CheckpointId) -> BarrierOutcome {
        match &self.pending {
            Some(pending) if pending.barrier.checkpoint == checkpoint => {
                BarrierOutcome { abandoned: self.abandon(), barrier: None }
            }
            Some(_) | None => {
                if self.last.is_none_or(|last| checkpoint > last) {
                    self.aborted.insert(checkpoint);
                    if self.aborted.len() > ABORTED_MAX {
                        self.aborted.pop_first();
                    }
                }
                BarrierOutcome::default()
            }
        }
    }

    /// Ends the pending checkpoint if its barrier has come from all channels.
    fn align(&mut self, now: Instant) -> Option<(Barrier, Duration)> {
        let pending = self.pending.take_if(|pending| pending.missing == 0)?;
        self.pass(pending.barrier.checkpoint);
        Some((pending.barrier, now.saturating_duration_since(pending.since)))
    }

    fn abandon(&mut self) -> Option<CheckpointId> {
        let checkpoint = self.pending.take()?.barrier.checkpoint;
        self.pass(checkpoint);
        Some(checkpoint)
    }

    /// No barrier up to this one is aligned any more.
    fn pass(&mut self, checkpoint: CheckpointId) {
        self.last = Some(checkpoint);
        self.aborted = self.aborted.split_off(&checkpoint.next());
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::BarrierKind;

    use super::*;

    fn barrier(number: u64) -> Barrier {
        Barrier::new(CheckpointId::new(number), BarrierKind::Checkpoint)
    }

    /// A task's alignment, its time in milliseconds.
    struct Task(BarrierAlignment, Instant);

    impl Task {
        fn of(channels: usize) -> Self {
            Self(BarrierAlignment::new(channels), Instant::now())
        }

        fn at(&self, ms: u64) -> Instant {
            self.1 + Duration::from_millis(ms)
        }

        fn barrier(&mut self, ms: u64, channel: usize, number: u64) -> (u64, u64, u64) {
            let now = self.at(ms);
            said(self.0.on_barrier(now, channel, barrier(number)))
        }

        fn end(&mut self, ms: u64, channel: usize) -> (u64, u64, u64) {
            let now = self.at(ms);
            said(self.0.on_end(now, channel))
        }

        fn abort(&mut self, number: u64) -> (u64, u64, u64) {
            said(self.0.abort(CheckpointId::new(number)))
        }

        fn held(&self) -> Vec<usize> {
            (0..self.0.channels.len()).filter(|at| self.0.holds(*at)).collect()
        }

        fn waits_for(&self) -> Option<(u64, Vec<usize>)> {
            self.0.waits_for().map(|(checkpoint, at)| (checkpoint.get(), at.collect()))
        }
    }

    /// The checkpoints that were abandoned and aligned, and how many milliseconds that took.
    fn said(aligned: BarrierOutcome) -> (u64, u64, u64) {
        let BarrierOutcome { abandoned, barrier } = aligned;
        let (barrier, took) = match barrier {
            Some((barrier, took)) => (barrier.checkpoint.get(), took.as_millis() as u64),
            None => (0, 0),
        };
        (abandoned.map_or(0, CheckpointId::get), barrier, took)
    }

    const NOTHING: (u64, u64, u64) = (0, 0, 0);

    #[test]
    fn a_channel_is_held_from_its_barrier_to_the_last_one() {
        let mut task = Task::of(3);
        assert_eq!(task.waits_for(), None);
        assert_eq!(task.barrier(1, 2, 1), NOTHING);
        assert_eq!(task.held(), [2]);
        assert_eq!(task.waits_for(), Some((1, vec![0, 1])));
        assert_eq!(task.barrier(5, 0, 1), NOTHING);
        assert_eq!(task.barrier(8, 1, 1), (0, 1, 7));
        assert!(task.held().is_empty());
        assert_eq!(task.barrier(9, 1, 1), NOTHING, "it came before");
        assert!(task.held().is_empty());
    }

    #[test]
    fn a_barrier_of_the_only_channel_is_aligned_at_once() {
        let mut task = Task::of(1);
        assert_eq!(task.barrier(0, 0, 3), (0, 3, 0));
        assert_eq!(task.barrier(0, 0, 4), (0, 4, 0));
        assert_eq!(task.barrier(0, 0, 2), NOTHING);
        assert_eq!(task.barrier(0, 7, 9), NOTHING, "it has no such channel");
    }

    #[test]
    fn a_channel_that_ends_has_had_all_barriers() {
        let mut task = Task::of(3);
        assert_eq!(task.end(0, 0), NOTHING);
        assert_eq!(task.barrier(1, 1, 1), NOTHING);
        assert_eq!(task.end(4, 2), (0, 1, 3));
        assert_eq!(task.end(5, 2), NOTHING);
        assert_eq!(task.barrier(5, 2, 2), NOTHING, "it has ended");
        assert_eq!(task.barrier(6, 1, 2), (0, 2, 0));
        assert_eq!(task.end(7, 1), NOTHING);
    }

    #[test]
    fn a_later_barrier_abandons_one_that_a_channel_has_left_out() {
        let mut task = Task::of(3);
        let _ = task.barrier(0, 0, 1);
        assert_eq!(task.barrier(1, 1, 2), (1, 0, 0));
        assert_eq!(task.held(), [1], "the first channel goes on to its next barrier");
        assert_eq!(task.barrier(2, 2, 1), NOTHING, "it was abandoned");
        assert_eq!(task.held(), [1]);
        assert_eq!(task.barrier(2, 2, 2), NOTHING);
        assert_eq!(task.barrier(3, 0, 2), (0, 2, 2));
    }

    #[test]
    fn a_checkpoint_that_is_aborted_holds_nothing_any_more() {
        let mut task = Task::of(2);
        let _ = task.barrier(0, 0, 1);
        assert_eq!(task.abort(1), (1, 0, 0));
        assert!(task.held().is_empty());
        assert_eq!(task.barrier(1, 1, 1), NOTHING);
        assert!(task.held().is_empty());
    }

    #[test]
    fn a_checkpoint_that_is_aborted_before_its_barriers_come_holds_nothing() {
        let mut task = Task::of(2);
        assert_eq!(task.abort(2), NOTHING);
        assert_eq!(task.barrier(0, 0, 1), NOTHING);
        assert_eq!(task.barrier(1, 1, 1), (0, 1, 1), "the one before it goes on");
        assert_eq!(task.barrier(2, 0, 2), NOTHING);
        assert!(task.held().is_empty());
        assert_eq!(task.barrier(2, 0, 3), NOTHING);
        assert_eq!(task.barrier(2, 1, 2), NOTHING);
        assert_eq!(task.barrier(3, 1, 3), (0, 3, 1));
        assert!(task.0.aborted.is_empty(), "it is forgotten with the next one");
        assert_eq!(task.abort(3), NOTHING);
        assert!(task.0.aborted.is_empty(), "it is aligned already");
    }

    #[test]
    fn an_aborted_barrier_shows_that_its_channel_has_left_out_earlier_ones() {
        let mut task = Task::of(3);
        assert_eq!(task.abort(3), NOTHING);
        assert_eq!(task.barrier(0, 0, 1), NOTHING);
        assert_eq!(task.barrier(0, 1, 3), (1, 0, 0));
        assert!(task.held().is_empty());
        assert_eq!(task.barrier(0, 2, 2), NOTHING, "the second channel has left it out");
        assert!(task.held().is_empty());
        assert_eq!(task.barrier(0, 0, 4), NOTHING);
        assert_eq!(task.held(), [0]);
    }

    #[test]
    fn aborted_checkpoints_are_remembered_in_bounded_number() {
        let mut task = Task::of(1);
        (0..10_000).for_each(|number| assert_eq!(task.abort(number), NOTHING));
        assert_eq!(task.0.aborted.len(), ABORTED_MAX);
        assert_eq!(task.barrier(0, 0, 9_999), NOTHING);
        assert_eq!(task.barrier(0, 0, 10_000), (0, 10_000, 0));
    }

    fn unaligned(number: u64) -> Barrier {
        Barrier::new(CheckpointId::new(number), BarrierKind::Unaligned)
    }

    #[test]
    fn an_unaligned_barrier_holds_nothing_and_notes_each_channel_up_to_its_own() {
        let (now, one) = (Instant::now(), CheckpointId::new(1));
        let mut alignment = BarrierAlignment::new(3);
        assert!(alignment.begin_unaligned(now, unaligned(1)));
        assert!(!alignment.begin_unaligned(now, unaligned(1)), "the others change nothing");
        assert_eq!(alignment.noting(), Some(one));
        assert!((0..3).all(|channel| alignment.notes(channel) && !alignment.holds(channel)));
        alignment.note_barrier(1, one);
        assert!(alignment.notes(0) && !alignment.notes(1) && alignment.notes(2));
        alignment.note_end(2);
        assert_eq!(alignment.end_noting(now), None);
        alignment.note_barrier(0, one);
        alignment.note_barrier(0, one);
        assert_eq!(alignment.end_noting(now), Some(Duration::ZERO));
        assert_eq!(alignment.noting(), None);
        assert_eq!(alignment.on_barrier(now, 0, unaligned(1)), BarrierOutcome::default());
    }

    #[test]
    fn a_later_barrier_gives_up_what_is_noted() {
        let now = Instant::now();
        let mut alignment = BarrierAlignment::new(2);
        assert!(alignment.begin_unaligned(now, unaligned(1)));
        alignment.note_barrier(0, CheckpointId::new(2));
        assert_eq!(alignment.noting(), None, "the channel has left out the first one");
        assert!(alignment.begin_unaligned(now, unaligned(3)));
        assert!(alignment.begin_unaligned(now, unaligned(4)));
        assert_eq!(alignment.noting(), Some(CheckpointId::new(4)));
        assert!(!alignment.begin_unaligned(now, unaligned(3)));
    }

    #[test]
    fn an_unaligned_barrier_releases_channels_that_an_earlier_one_holds() {
        let now = Instant::now();
        let mut alignment = BarrierAlignment::new(2);
        let savepoint = Barrier::new(CheckpointId::new(1), BarrierKind::Savepoint);
        assert!(!alignment.on_barrier(now, 0, savepoint).releases());
        assert!(alignment.holds(0));
        assert!(alignment.begin_unaligned(now, unaligned(2)));
        assert!(!alignment.holds(0) && !alignment.is_pending());
    }
}
