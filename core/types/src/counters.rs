//! The counters that the engine keeps beside those of user code, and how their sums are told.

/// Bad records that a source or a function dropped.
pub const RECORDS_DROPPED: &str = "numRecordsDropped";
/// Records that an operator which waits for the watermark dropped, because they came behind it.
pub const LATE_RECORDS_DROPPED: &str = "numLateRecordsDropped";
/// Records in which a source replaced what could not be read.
pub const RECORDS_REPLACED: &str = "numRecordsReplaced";
/// Files that were gone before a source had read them.
pub const FILES_SKIPPED: &str = "numFilesSkipped";

/// The counters that tell of input which is not in the results as it came, each with its title.
pub const LEFT_OUT: [(&str, &str); 4] = [
    (RECORDS_DROPPED, "Records dropped"),
    (LATE_RECORDS_DROPPED, "Late records dropped"),
    (RECORDS_REPLACED, "Records replaced"),
    (FILES_SKIPPED, "Files skipped"),
];

/// Whether the engine itself counts under this name.
#[must_use]
pub fn is_engines(name: &str) -> bool {
    LEFT_OUT.iter().any(|(known, _)| *known == name)
}

/// The lines that end a job's report: one for each counter of [`LEFT_OUT`] that is above zero.
pub fn left_out(sum: impl Fn(&str) -> u64) -> impl Iterator<Item = String> {
    LEFT_OUT.into_iter().filter_map(move |(name, title)| match sum(name) {
        0 => None,
        sum => Some(format!("{title}: {} ({name})", grouped(sum))),
    })
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn what_is_left_out_is_told_if_there_is_any() {
        let sum = |name: &str| if name == FILES_SKIPPED { 0 } else { 1_234_567 };
        let lines: Vec<String> = left_out(sum).collect();
        let expected = [
            "Records dropped: 1,234,567 (numRecordsDropped)",
            "Late records dropped: 1,234,567 (numLateRecordsDropped)",
            "Records replaced: 1,234,567 (numRecordsReplaced)",
        ];
        assert_eq!(lines, expected);
        assert_eq!(left_out(|_| 0).count(), 0);
    }
}
