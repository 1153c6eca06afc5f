//! Inputs of all kinds, drawn by a seed.

use crate::{Input, Record};

/// A seeded stream of numbers (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// The inputs of an operator, and how a job runs it.
#[derive(Debug)]
pub struct Case {
    /// All inputs, in order.
    pub inputs: Vec<Input>,
    /// The parallelism of the operator.
    pub parallelism: u32,
    /// The most records that the source hands over at once.
    pub batch: usize,
}

impl Case {
    /// A case: few or many keys, one of them perhaps more frequent; times that advance slowly or
    /// fast, in order or not, at the limits of what is possible, or all equal; watermarks that are
    /// frequent or rare, far behind or too far ahead, and that go back.
    pub fn random(random: &mut Random) -> Self {
        let keys = [1, 3, 50][random.below(3) as usize];
        let skew = random.below(3);
        let disorder = [0, 5, 100][random.below(3) as usize];
        let pace = [0, 1, 20, 300][random.below(4) as usize];
        let start = [0, -1_000, 1_700_000_000_000, i64::MIN, i64::MAX - 500];
        let mut time = start[random.below(start.len() as u64) as usize];
        let watermarks = [0, 2, 7, 40][random.below(4) as usize];
        let behind = [0, 10, 150][random.below(3) as usize];
        let most = if random.one_in(10) { 2_000 } else { 120 };
        let count = random.below(most);
        let mut inputs = Vec::new();
        for value in 0..count {
            time = time.saturating_add(random.below(pace + 1).cast_signed());
            let key = if random.below(3) < skew { 0 } else { random.below(keys) };
            let early = random.below(disorder + 1).cast_signed();
            let time = if random.one_in(200) {
                [i64::MIN, i64::MAX, 0, -1][random.below(4) as usize]
            } else {
                time.saturating_sub(early)
            };
            inputs.push(Input::Record(Record { key, value, time }));
            if watermarks > 0 && random.one_in(watermarks) {
                let jump =
                    if random.one_in(20) { random.below(400).cast_signed() - 200 } else { 0 };
                inputs.push(Input::Watermark(time.saturating_sub(behind).saturating_add(jump)));
            }
        }
        Self {
            inputs,
            parallelism: 1 + random.below(4) as u32,
            batch: [1, 3, 100][random.below(3) as usize],
        }
    }

    /// The inputs as in batch mode: the end alone says how far time has come.
    #[must_use]
    pub fn without_watermarks(&self) -> Vec<Input> {
        let records = self.inputs.iter().filter(|input| matches!(input, Input::Record(_)));
        records.copied().collect()
    }
}
