//! Splits `programArgs` into arguments as Flink does.
//!
//! The rule (1.20) is that of the pattern `([^"']\S*|".+?"|'.+?')\s*`, searched for again and
//! again; every match, without surrounding white space and without any quotes, is one argument.
//! Nothing escapes a quote; `programArgsList` is the way to pass anything.

/// The arguments in `text`.
pub(crate) fn split(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut arguments = Vec::new();
    let mut at = 0;
    while let Some(first) = chars.get(at) {
        let end = match first {
            '"' | '\'' => quoted_end(&chars, at),
            _ => Some(skip(&chars, at + 1, |c| !is_space(c))),
        };
        match end {
            Some(end) => {
                let matched: String = chars.get(at..end).unwrap_or_default().iter().collect();
                arguments.push(matched.trim().replace(['"', '\''], ""));
                at = skip(&chars, end, is_space);
            }
            // A quote that nothing closes is passed over.
            None => at += 1,
        }
    }
    arguments
}

/// One past the quote that closes the one at `at`; between them at least one character and no
/// new line.
fn quoted_end(chars: &[char], at: usize) -> Option<usize> {
    let quote = chars.get(at)?;
    for (offset, c) in chars.iter().enumerate().skip(at + 1) {
        if c == quote && offset > at + 1 {
            return Some(offset + 1);
        }
        if matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            return None;
        }
    }
    None
}

fn skip(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    let rest = chars.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|c| wanted(**c)).count()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn arguments_are_split_as_flink_splits_them() {
        for (text, expected) in [
            ("--foo bar", &["--foo", "bar"][..]),
            ("--foo \"bar baz\"", &["--foo", "bar baz"]),
            ("--foo 'bar baz'", &["--foo", "bar baz"]),
            ("", &[]),
            ("a  b\t c", &["a", "b", "c"]),
            ("--name=\"a b\"", &["--name=a", "b"]),
            ("\"unclosed", &["unclosed"]),
            ("'it''s'", &["it", "s"]),
            (" a", &["a"]),
        ] {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,200}|[\"' \n\\\\a]{0,50}") {
            for argument in split(&text) {
                proptest::prop_assert!(!argument.contains(['"', '\'']));
            }
        }
    }
}
