//! Reads a Rust source just far enough to count: where code is, and where functions end.
//!
//! [`Source::parse`] blanks the content of comments, strings and character literals, so that the
//! checks can look for tokens and count braces without a parser. It needs no valid program: an
//! unterminated literal blanks the rest of the file, which the compiler reports better than we.

/// A source text beside its blanked copy; both have the same lines.
pub struct Source {
    lines: Vec<String>,
    code: Vec<Vec<char>>,
    starts_in_literal: Vec<bool>,
}

/// A function with a body; lines count from 0.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub first_line: usize,
    pub last_line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text,
    RawText { hashes: usize },
}

impl Source {
    pub fn parse(text: &str) -> Self {
        let mut code = vec![Vec::new()];
        let mut starts_in_literal = vec![false];
        let chars: Vec<char> = text.chars().collect();
        let mut state = State::Code;
        let mut at = 0;
        while at < chars.len() {
            let (next, length) = step(state, &chars, at);
            for &c in &chars[at..(at + length).min(chars.len())] {
                if c == '\n' {
                    starts_in_literal.push(matches!(next, State::Text | State::RawText { .. }));
                    code.push(Vec::new());
                } else if let Some(line) = code.last_mut() {
                    // The quotes vanish with the text: only what is code on both sides is kept.
                    let kept = state == State::Code && next == State::Code && length == 1;
                    line.push(if kept { c } else { ' ' });
                }
            }
            state =
                if state == State::LineComment && chars[at] == '\n' { State::Code } else { next };
            at += length;
        }
        let lines = text.lines().map(str::to_owned).collect();
        Self { lines, code, starts_in_literal }
    }

    /// The lines as written.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether a string that spans lines covers the start of this line.
    pub fn starts_in_literal(&self, line: usize) -> bool {
        self.starts_in_literal.get(line).copied().unwrap_or(false)
    }

    /// The code of a line: comments and literals are blank.
    pub fn code(&self, line: usize) -> String {
        self.code.get(line).map(|chars| chars.iter().collect()).unwrap_or_default()
    }

    /// Every function that has a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for line in 0..self.code.len() {
            for (column, name) in names_after_fn(&self.code[line]) {
                if let Some(last_line) = self.end_of_body(line, column) {
                    found.push(Function { name, first_line: line, last_line });
                }
            }
        }
        found
    }

    /// Number of lines without the trailing `#[cfg(test)] mod tests { … }`.
    pub fn lines_without_tests(&self) -> usize {
        let is_attribute = |line: usize| self.code(line).trim_start().starts_with("#[");
        for first in 0..self.code.len() {
            if self.code(first).trim_end() != "#[cfg(test)]" {
                continue;
            }
            let mut item = first + 1;
            while is_attribute(item) {
                item += 1;
            }
            if self.code(item).starts_with("mod tests") {
                let last = self.end_of_body(item, 0).unwrap_or(item);
                return self.lines.len().saturating_sub(last + 1 - first);
            }
        }
        self.lines.len()
    }

    /// The line of the brace that closes the body which opens after (`line`, `column`), or `None`
    /// when a semicolon comes before any body.
    fn end_of_body(&self, line: usize, column: usize) -> Option<usize> {
        let (mut brackets, mut braces) = (0_usize, 0_usize);
        for (number, code) in self.code.iter().enumerate().skip(line) {
            let skipped = if number == line { column } else { 0 };
            for c in code.iter().skip(skipped) {
                match c {
                    '(' | '[' => brackets += 1,
                    ')' | ']' => brackets = brackets.saturating_sub(1),
                    '{' => braces += 1,
                    '}' if braces <= 1 => return (braces == 1).then_some(number),
                    '}' => braces -= 1,
                    ';' if braces == 0 && brackets == 0 => return None,
                    _ => {}
                }
            }
        }
        None
    }
}

/// Reads the characters at `at` that change the state: the state after them, and their number.
fn step(state: State, chars: &[char], at: usize) -> (State, usize) {
    let here = |text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    match state {
        State::Code if here("//") => (State::LineComment, 2),
        State::Code if here("/*") => (State::BlockComment { depth: 1 }, 2),
        State::Code if here("\"") => (State::Text, 1),
        State::Code if here("'") => (State::Code, character_literal(chars, at)),
        State::Code => match raw_text_start(chars, at) {
            Some((hashes, length)) => (State::RawText { hashes }, length),
            None => (State::Code, 1),
        },
        State::LineComment => (State::LineComment, 1),
        State::BlockComment { depth } if here("/*") => {
            (State::BlockComment { depth: depth + 1 }, 2)
        }
        State::BlockComment { depth: 1 } if here("*/") => (State::Code, 2),
        State::BlockComment { depth } if here("*/") => {
            (State::BlockComment { depth: depth - 1 }, 2)
        }
        State::BlockComment { .. } => (state, 1),
        State::Text if here("\\") => (State::Text, 2),
        State::Text if here("\"") => (State::Code, 1),
        State::Text => (State::Text, 1),
        State::RawText { hashes } => {
            let closes = here("\"") && (1..=hashes).all(|i| chars.get(at + i) == Some(&'#'));
            if closes { (State::Code, hashes + 1) } else { (state, 1) }
        }
    }
}

/// The length of the character literal at `at`; 1 for the tick of a lifetime.
fn character_literal(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let end = chars.iter().skip(at + 3).take(12).position(|&c| c == '\'');
        return end.map_or(1, |end| end + 4);
    }
    if chars.get(at + 2) == Some(&'\'') { 3 } else { 1 }
}

/// The number of hashes and the length of a raw string's opening (`r"`, `br#"`) at `at`.
fn raw_text_start(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let inside_a_name = at > 0 && is_name(chars[at - 1]) && !matches!(chars[at - 1], 'b' | 'c');
    if chars.get(at) != Some(&'r') || inside_a_name {
        return None;
    }
    let hashes = chars.iter().skip(at + 1).take_while(|&&c| c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some((hashes, hashes + 2))
}

/// Every `fn name` of a line of code: the column after the name, and the name.
fn names_after_fn(code: &[char]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in 0..code.len().saturating_sub(3) {
        let alone = at == 0 || !is_name(code[at - 1]);
        if !(alone && code[at] == 'f' && code[at + 1] == 'n' && code[at + 2] == ' ') {
            continue;
        }
        let name: String = code[at + 3..].iter().take_while(|&&c| is_name(c)).collect();
        if !name.is_empty() {
            found.push((at + 3 + name.chars().count(), name));
        }
    }
    found
}

pub fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(text: &str) -> Vec<(String, usize, usize)> {
        let functions = Source::parse(text).functions();
        functions.into_iter().map(|f| (f.name, f.first_line, f.last_line)).collect()
    }

    #[test]
    fn comments_and_literals_are_blank() {
        let source =
            Source::parse("let a = \"}{\"; // }\nlet b = '{'; /* { /* } */ */ let c = 'x';");
        assert_eq!(source.code(0).trim_end(), "let a =     ;");
        assert!(!source.code(1).contains(['{', '}']));
        assert!(source.code(1).contains("let c ="));
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let source = Source::parse("let a = r#\"x \" { \"#; done();\nlet r = br\"\\\"; end();");
        assert!(source.code(0).contains("done()") && !source.code(0).contains('{'));
        assert!(source.code(1).contains("end()"));
    }

    #[test]
    fn lifetimes_are_not_literals() {
        let source = Source::parse("fn a<'a>(x: &'a str) -> char { '\\'' }\nfn b() {}");
        assert_eq!(source.functions().len(), 2);
    }

    #[test]
    fn lines_inside_a_string_are_known() {
        let source = Source::parse("let a = \"one\ntwo\nthree\";\nlet b = 1;");
        let inside: Vec<bool> = (0..4).map(|line| source.starts_in_literal(line)).collect();
        assert_eq!(inside, [false, true, true, false]);
    }

    #[test]
    fn functions_end_at_their_brace() {
        let text = "trait T {
    fn no_body(&self, a: [u8; 4]);
    fn with(&self) {
        {}
    }
}";
        assert_eq!(function(text), [("with".to_owned(), 2, 4)]);
    }

    #[test]
    fn function_pointers_are_not_functions() {
        assert_eq!(function("type F = fn(u8) -> u8;\nstruct S { defn : u8 }"), []);
    }

    #[test]
    fn trailing_tests_do_not_count() {
        let text = "//! a\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(Source::parse(text).lines_without_tests(), 3);
        assert_eq!(Source::parse("//! a\n#[cfg(test)]\nmod tests;\n").lines_without_tests(), 1);
        assert_eq!(Source::parse("//! a\nfn a() {}\n").lines_without_tests(), 2);
    }
}
