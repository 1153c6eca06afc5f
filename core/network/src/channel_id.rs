//! The names of channels.

use millstream_types::LeaderEpoch;

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
