//! Names that cannot be guessed and do not repeat.

/// Random bytes of the operating system.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        // A kernel without randomness; names must still differ within this process.
        let hasher = std::collections::hash_map::RandomState::new();
        for (at, byte) in bytes.iter_mut().enumerate() {
            let word = std::hash::BuildHasher::hash_one(&hasher, at);
            *byte = word.to_le_bytes()[0];
        }
    }
    bytes
}

/// A random UUID (version 4), as text.
pub(crate) fn uuid() -> String {
    let mut number = u128::from_be_bytes(bytes());
    number = number & !(0xf << 76) | 4 << 76;
    number = number & !(0x3 << 62) | 2 << 62;
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn uuids_are_of_version_four_and_differ() {
        let (a, b) = (super::uuid(), super::uuid());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(&a[14..15], "4");
        assert!("89ab".contains(&a[19..20]), "{a}");
    }
}
