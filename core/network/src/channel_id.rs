//! The names of channels.

use std::ops::Range;
use std::sync::Arc;

use millstream_types::{HostId, LeaderEpoch};

/// An attempt to run a region: frames of another one than the channel's are dropped.
///
/// Attempts of a later leader are newer than all of the leaders before, which may have used the
/// same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The epoch of the leader that deployed it.
    pub epoch: LeaderEpoch,
    /// The number of attempts of this leader before it.
    pub attempt: u32,
}

impl Generation {
    /// Before every other one.
    pub const FIRST: Self = Self { epoch: LeaderEpoch::new(0), attempt: 0 };
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attempt {} of {}", self.attempt, self.epoch)
    }
}

/// Names a channel: which edge of the job graph, from which subtask, to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The edge's number, below 2^24.
    pub edge: u32,
    /// The producing subtask, below 2^20.
    pub from: u32,
    /// The consuming subtask, below 2^20.
    pub to: u32,
    /// The attempt that both ends belong to.
    pub generation: Generation,
}

impl ChannelId {
    /// The number that stands for it on the wire, beside its generation.
    #[must_use]
    pub(crate) const fn number(self) -> u64 {
        (self.edge as u64) << 40 | (self.from as u64 & 0xf_ffff) << 20 | self.to as u64 & 0xf_ffff
    }

    pub(crate) const fn of_wire(number: u64, generation: Generation) -> Self {
        let (from, to) = ((number >> 20) as u32 & 0xf_ffff, number as u32 & 0xf_ffff);
        Self { edge: (number >> 40) as u32, from, to, generation }
    }
}

/// Names the channels of one exchange that start at one subtask, or those that end at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndId {
    /// The edge's number, below 2^24.
    pub edge: u32,
    /// The subtask, below 2^20.
    pub subtask: u32,
    /// The attempt that it belongs to.
    pub generation: Generation,
}

impl ChannelId {
    /// The end where its records start.
    #[must_use]
    pub const fn output(self) -> EndId {
        EndId { edge: self.edge, subtask: self.from, generation: self.generation }
    }

    /// The end where its records arrive.
    #[must_use]
    pub const fn input(self) -> EndId {
        EndId { edge: self.edge, subtask: self.to, generation: self.generation }
    }
}

/// The channels of one exchange that end at one subtask, and where they come from.
#[derive(Debug, Clone)]
pub struct InputChannels {
    /// The end.
    pub end: EndId,
    /// The producing subtasks.
    pub from: Range<u32>,
    /// The host of each subtask of the producing vertex, from the first on.
    pub hosts: Arc<[HostId]>,
}

impl InputChannels {
    /// One channel, whose producer runs in this host.
    #[must_use]
    pub fn one(channel: ChannelId, host: HostId) -> Self {
        let from = channel.from..channel.from + 1;
        Self { end: channel.input(), from, hosts: vec![host; channel.from as usize + 1].into() }
    }

    /// The number of channels.
    pub(crate) fn count(&self) -> u32 {
        self.from.end.saturating_sub(self.from.start)
    }

    pub(crate) const fn channel(&self, from: u32) -> ChannelId {
        let EndId { edge, subtask, generation } = self.end;
        ChannelId { edge, from, to: subtask, generation }
    }

    /// The producers, in runs that are in one host each.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Range<u32>, HostId)> {
        let producers = self.from.start as usize..self.from.end as usize;
        let runs = self.hosts.get(producers).unwrap_or_default().chunk_by(|a, b| a == b);
        runs.scan(self.from.start, |next, run| {
            let first = *next;
            *next += u32::try_from(run.len()).unwrap_or(u32::MAX);
            Some((first..*next, *run.first()?))
        })
    }
}

/// The subtasks that each producing subtask of an exchange sends to, as the job's graph says.
#[derive(Clone)]
pub struct ChannelLayout(Arc<dyn Fn(u32, u32) -> Range<u32> + Send + Sync>);

impl ChannelLayout {
    /// Asks `targets` by the number of an edge and of a producing subtask; an empty answer means
    /// that the job has no such subtask.
    pub fn new(targets: impl Fn(u32, u32) -> Range<u32> + Send + Sync + 'static) -> Self {
        Self(Arc::new(targets))
    }

    /// Every subtask of any exchange sends to this many.
    #[must_use]
    pub fn all_to(consumers: u32) -> Self {
        Self::new(move |_, _| 0..consumers)
    }

    pub(crate) fn targets(&self, edge: u32, from: u32) -> Range<u32> {
        (self.0)(edge, from)
    }
}

impl std::fmt::Debug for ChannelLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelLayout")
    }
}
