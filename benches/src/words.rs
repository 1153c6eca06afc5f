//! The words of a line, as `flink/SplitWords.java` finds them.

use millstream::Str;

/// Runs of ASCII letters and digits, lower-cased.
#[derive(Debug)]
pub struct Words {
    /// The line in lower case, with a space for every byte that is part of no word.
    line: String,
    at: usize,
}

impl Words {
    /// The words of this line.
    #[must_use]
    pub fn new(mut line: Vec<u8>) -> Self {
        for byte in &mut line {
            let lower = *byte | 0x20;
            let is_letter = lower.wrapping_sub(b'a') < 26;
            let is_digit = byte.wrapping_sub(b'0') < 10;
            *byte = if is_letter || is_digit { lower } else { b' ' };
        }
        Self { line: String::from_utf8(line).unwrap_or_default(), at: 0 }
    }
}

impl Iterator for Words {
    type Item = Str;

    #[inline]
    fn next(&mut self) -> Option<Str> {
        let rest = self.line.get(self.at..)?;
        let start = rest.bytes().position(|byte| byte != b' ')?;
        let rest = rest.get(start..)?;
        let len = rest.bytes().position(|byte| byte == b' ').unwrap_or(rest.len());
        self.at += start + len;
        rest.get(..len).map(Str::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_cased_runs_of_letters_and_digits() {
        let words: Vec<Str> = Words::new(b" Ab-ab \xff 7x".to_vec()).collect();
        assert_eq!(words, ["ab", "ab", "7x"]);
        assert_eq!(Words::new(b"..".to_vec()).count(), 0);
    }
}
