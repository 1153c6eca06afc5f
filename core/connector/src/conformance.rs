//! Suites that every source and every sink must pass: they stop, restore and compare.
//!
//! A suite plays a seeded schedule: it reads or writes in small steps, takes checkpoints, kills
//! what runs at any moment, restores what the last complete checkpoint holds, often at another
//! parallelism, and compares. Splits, states and committables cross each checkpoint as bytes.
//! [`check_source`] and [`check_sink`] say what must hold.

mod sink;
mod source;

#[cfg(test)]
mod mutants;

pub use sink::{SinkTarget, check_sink};
pub use source::check_source;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;

/// Pseudo-random numbers of a seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// A number below `bound`, which is not 0.
    const fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) as u128 * bound as u128) >> 64) as usize
    }

    /// Whether something of this probability happens.
    const fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Bytes as in a checkpoint.
fn stored<V: Serialize>(value: &V) -> Result<Vec<u8>> {
    Ok(postcard::to_stdvec(value)?)
}

/// The value of bytes of a checkpoint.
fn restored<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    postcard::from_bytes(bytes).map_err(|error| {
        crate::error!(
            "{} cannot be read back from a checkpoint: {error}; it needs a Deserialize that reads \
             what its Serialize writes, without names (no flatten, untagged, ...)",
            std::any::type_name::<V>()
        )
    })
}

/// Adds the seed that repeats a failure.
fn of_seed(seed: u64, result: Result<()>) -> Result<()> {
    result.map_err(|error| error.context(format!("seed {seed} ({seed}..{} repeats it)", seed + 1)))
}
