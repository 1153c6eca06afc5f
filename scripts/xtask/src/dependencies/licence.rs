//! Reads the licence of a package, an SPDX expression: `MIT OR Apache-2.0`, `(A OR B) AND C`.

/// An expression of licences.
#[derive(Debug, PartialEq, Eq)]
pub enum Licence {
    /// One licence, with its exception: `Apache-2.0 WITH LLVM-exception`.
    One(String),
    /// The user chooses one of them.
    Any(Vec<Licence>),
    /// All of them hold.
    All(Vec<Licence>),
}

impl Licence {
    /// Reads an expression; `None` if it is none. A slash is the old form of `OR`.
    pub fn parse(text: &str) -> Option<Self> {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = &words[..];
        let licence = any(&mut rest)?;
        rest.is_empty().then_some(licence)
    }

    /// Whether a choice of licences exists that are all `allowed`.
    pub fn is_met(&self, allowed: &impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(name) => allowed(name),
            Self::Any(parts) => parts.iter().any(|part| part.is_met(allowed)),
            Self::All(parts) => parts.iter().all(|part| part.is_met(allowed)),
        }
    }

    /// Every licence that the expression names.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::One(name) => vec![name],
            Self::Any(parts) | Self::All(parts) => parts.iter().flat_map(Self::names).collect(),
        }
    }
}

/// Parts with `OR` between them, which binds less than `AND`.
fn any(words: &mut &[&str]) -> Option<Licence> {
    parts(words, "OR", all).map(|parts| one_or(parts, Licence::Any))
}

fn all(words: &mut &[&str]) -> Option<Licence> {
    parts(words, "AND", one).map(|parts| one_or(parts, Licence::All))
}

fn one_or(mut parts: Vec<Licence>, several: fn(Vec<Licence>) -> Licence) -> Licence {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => several(parts.into_iter().chain(last).collect()),
    }
}

fn parts(
    words: &mut &[&str],
    between: &str,
    part: fn(&mut &[&str]) -> Option<Licence>,
) -> Option<Vec<Licence>> {
    let mut parts = vec![part(words)?];
    while let Some((word, rest)) = words.split_first()
        && *word == between
    {
        *words = rest;
        parts.push(part(words)?);
    }
    Some(parts)
}

/// A licence, or an expression in parentheses.
fn one(words: &mut &[&str]) -> Option<Licence> {
    let (word, rest) = words.split_first()?;
    *words = rest;
    match *word {
        "(" => {
            let inner = any(words)?;
            let (close, rest) = words.split_first()?;
            *words = rest;
            (*close == ")").then_some(inner)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        name => match *words {
            ["WITH", exception, rest @ ..] => {
                let exception = *exception;
                *words = rest;
                Some(Licence::One(format!("{name} WITH {exception}")))
            }
            _ => Some(Licence::One(name.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_met(text: &str, allowed: &[&str]) -> bool {
        Licence::parse(text).unwrap().is_met(&|name: &str| allowed.contains(&name))
    }

    #[test]
    fn one_of_a_choice_is_enough() {
        for text in ["MIT OR GPL-3.0", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "GPL-3.0 / MIT", "(MIT)"] {
            assert!(is_met(text, &["MIT"]), "{text}");
            assert!(!is_met(text, &["ISC"]), "{text}");
        }
    }

    #[test]
    fn every_part_of_a_conjunction_is_needed() {
        assert!(is_met("MIT AND ISC", &["MIT", "ISC"]));
        assert!(!is_met("MIT AND ISC", &["MIT"]));
        assert!(!is_met("(MIT OR Apache-2.0) AND BSD-3-Clause", &["MIT"]));
        assert!(is_met("(MIT OR Apache-2.0) AND BSD-3-Clause", &["Apache-2.0", "BSD-3-Clause"]));
    }

    #[test]
    fn and_binds_more_than_or() {
        assert!(is_met("MIT OR ISC AND GPL-3.0", &["MIT"]));
        assert!(is_met("GPL-3.0 AND ISC OR MIT", &["MIT"]));
        assert!(!is_met("(MIT OR ISC) AND GPL-3.0", &["MIT"]));
    }

    #[test]
    fn an_exception_makes_another_licence() {
        assert!(!is_met("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"]));
        assert!(is_met("Apache-2.0 WITH LLVM-exception OR MIT", &["MIT"]));
        let exact = "Apache-2.0 WITH LLVM-exception";
        assert!(is_met(exact, &[exact]));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["", "OR", "MIT OR", "MIT ISC", "(MIT", "MIT)", "AND MIT", "MIT WITH", "()"] {
            assert_eq!(Licence::parse(text), None, "{text}");
        }
    }
}
