//! Text from outside, made safe for terminals and logs.

use std::fmt;

/// Shows text that others wrote: control characters and characters that reorder what follows are
/// escaped, so that a name can neither move a cursor nor pretend to be a line of its own.
///
/// ```
/// # use millstream_types::Escaped;
/// assert_eq!(Escaped::line("a\n\u{1b}[2Jb").to_string(), "a\\n\\u{1b}[2Jb");
/// assert_eq!(Escaped::lines("a\nb\u{7}").to_string(), "a\nb\\u{7}");
/// assert_eq!(Escaped::line("Zähler “5”").to_string(), "Zähler “5”");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a> {
    text: &'a str,
    lines: bool,
}

impl<'a> Escaped<'a> {
    /// A text of one line, such as a name.
    #[must_use]
    pub const fn line(text: &'a str) -> Self {
        Self { text, lines: false }
    }

    /// A text whose line ends and tabs stay.
    #[must_use]
    pub const fn lines(text: &'a str) -> Self {
        Self { text, lines: true }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.text.chars() {
            let stays = self.lines && matches!(c, '\n' | '\t');
            match is_harmful(c) && !stays {
                true => write!(f, "{}", c.escape_default())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for c in ['\0', '\r', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{2066}'] {
            let text = format!("a{c}b");
            for shown in [Escaped::line(&text).to_string(), Escaped::lines(&text).to_string()] {
                assert!(!shown.contains(c) && shown.starts_with("a\\"), "{shown}");
            }
        }
        assert_eq!(Escaped::line("a\tb").to_string(), "a\\tb");
        assert_eq!(Escaped::lines("a\tb\r\n").to_string(), "a\tb\\r\n");
    }
}
