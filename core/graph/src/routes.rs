//! The channels of an exchange: between which subtasks they are.

use std::ops::Range;

use crate::stream_graph::Partitioner;

/// The consuming subtasks that subtask `from` of `producers` sends to.
#[must_use]
pub fn targets(partitioner: Partitioner, from: u32, producers: u32, consumers: u32) -> Range<u32> {
    let only = |to: u32| to..to + 1;
    match partitioner {
        Partitioner::Forward => only(from),
        Partitioner::Global => only(0),
        Partitioner::Rescale if consumers >= producers => {
            from * consumers / producers..(from + 1) * consumers / producers
        }
        Partitioner::Rescale => only(from * consumers / producers),
        Partitioner::Rebalance
        | Partitioner::Hash
        | Partitioner::Broadcast
        | Partitioner::Custom => 0..consumers,
    }
}

/// The producing subtasks that subtask `to` of `consumers` receives from.
#[must_use]
pub fn sources(partitioner: Partitioner, to: u32, producers: u32, consumers: u32) -> Range<u32> {
    match partitioner {
        Partitioner::Forward => to..to + 1,
        Partitioner::Global if to > 0 => 0..0,
        Partitioner::Rescale => {
            // The producers that `targets` would send to `to`: the first whose range goes beyond
            // it, or those that share it.
            let first = |to: u32| (to * producers).div_ceil(consumers);
            let end = first(to + 1);
            if consumers >= producers { end - 1..end } else { first(to)..end }
        }
        Partitioner::Global
        | Partitioner::Rebalance
        | Partitioner::Hash
        | Partitioner::Broadcast
        | Partitioner::Custom => 0..producers,
    }
}
