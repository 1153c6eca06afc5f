//! Good inputs, changed.

/// No input is longer.
const INPUT_BYTES_MAX: usize = 8 << 10;
/// Lengths and counts that are absurd, or just beyond a limit.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x03ff_ffff,
    1 << 40,
    u64::MAX,
];

/// One of the good inputs, with one to six changes; the same for the same seed.
pub(crate) fn changed(good: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut input = pick(&mut random, good).clone();
    for _ in 0..=random.below(6) {
        change(&mut random, &mut input, good);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[index(random, of.len())]
}

/// Below `length`; 0 of nothing.
fn index(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length.max(1) as u64)).unwrap()
}

fn change(random: &mut Random, input: &mut Vec<u8>, good: &[Vec<u8>]) {
    let at = index(random, input.len());
    match random.below(10) {
        // A bit, a byte.
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.next_u64() as u8,
        // Cut off, or with a piece left out.
        2 => input.truncate(at),
        3 => drop(input.drain(at..(at + 1 + index(random, 16)).min(input.len()))),
        // A piece twice, or a piece of another input.
        4 => {
            let end = (at + 1 + index(random, 64)).min(input.len());
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let other = pick(random, good);
            let start = index(random, other.len());
            let end = (start + index(random, 200)).min(other.len());
            input.splice(at..at, other[start..end].iter().copied());
        }
        // A number, in the ways in which formats write lengths.
        6 => {
            let number = *pick(random, &NUMBERS);
            let bytes = match random.below(5) {
                0 => (number as u32).to_be_bytes().to_vec(),
                1 => (number as u32).to_le_bytes().to_vec(),
                2 => number.to_be_bytes().to_vec(),
                3 => number.to_le_bytes().to_vec(),
                _ => varint(number),
            };
            let end = (at + bytes.len()).min(input.len());
            input.splice(at..end, bytes);
        }
        // Noise within, or at the end.
        7 => {
            let length = index(random, 40);
            let noise: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            input.splice(at..at, noise);
        }
        8 => {
            let other = pick(random, good).clone();
            input.extend(other);
        }
        _ => {
            let byte = random.next_u64() as u8;
            let length = index(random, 300);
            input.splice(at..at, std::iter::repeat_n(byte, length));
        }
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A small generator (splitmix64): the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}
