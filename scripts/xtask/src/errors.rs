//! An error's text must not hold that of its source: who prints causes would print it twice.
//!
//! `syn` is no dependency of this package, and none is needed: attributes of `thiserror` are found
//! by their words, and a variant's fields by their brackets.

/// The faults of one Rust file.
pub fn check(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, attribute) in text.match_indices("#[error(") {
        let arguments = text[at + attribute.len()..].trim_start();
        let Some((format, rest)) = arguments.strip_prefix('"').and_then(literal) else { continue };
        let Some(fields) = fields(rest) else { continue };
        if let Some(source) = source_of(fields)
            && shows(format, &source)
        {
            let line = text[..at].matches('\n').count() + 1;
            faults.push(format!(
                "{name}:{line}: the text shows its source {{{source}}}, printed behind it anyway: \
                 leave it out"
            ));
        }
    }
    faults
}

/// A string's content, after its first quote, and what follows it.
fn literal(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return Some((&text[..at], &text[at..])),
            c => escaped = c == '\\' && !escaped,
        }
    }
    None
}

/// The text between the brackets of the item behind an attribute: fields of a variant or a struct.
fn fields(text: &str) -> Option<&str> {
    let (_, text) = text.split_once(")]")?;
    let open = text.find(['(', '{', ',', ';'])?;
    let (left, right) = match text.as_bytes()[open] {
        b'(' => ('(', ')'),
        b'{' => ('{', '}'),
        _ => return None,
    };
    let mut depth = 0_usize;
    for (at, c) in text[open..].char_indices() {
        if c == left {
            depth += 1;
        } else if c == right {
            depth -= 1;
            if depth == 0 {
                return Some(&text[open + 1..open + at]);
            }
        }
    }
    None
}

/// The name of the field that is the source, as a text would show it: its name, or its place.
fn source_of(fields: &str) -> Option<String> {
    let marked = ["#[source]", "#[from]"].into_iter().find_map(|mark| {
        let at = fields.find(mark)?;
        Some((at, fields[at + mark.len()..].trim_start()))
    });
    match marked {
        None => fields.contains("source:").then(|| "source".to_owned()),
        Some((at, field)) => Some(match field.split_once(':') {
            Some((name, rest)) if !rest.starts_with(':') => name.trim().to_owned(),
            _ => fields[..at].matches(',').count().to_string(),
        }),
    }
}

fn shows(format: &str, field: &str) -> bool {
    ["}", ":"].iter().any(|end| format.contains(&format!("{{{field}{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_shows_its_source_is_a_fault() {
        for text in [
            "enum E {\n#[error(\"{0}\")]\nIo(#[from] std::io::Error),\n}",
            "#[error(\"a {{\\\"}} {1:?}\")]\nA(u8, #[source] std::io::Error),",
            "#[error(\n\"x {source}\"\n)]",
        ] {
            let text = format!("{text}\nB {{ a: u8, source: X }}");
            let faults = check("a.rs", &text);
            assert!(faults.len() == 1 && faults[0].contains("shows its source"), "{text}");
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "#[error(\"failed to read {path}\")]\nRead { path: P, source: io::Error },",
            "#[error(\"{0} failed\")]\nB(String, #[source] io::Error),",
            "#[error(\"{0}\")]\nC(String),\nD { source: X },",
            "#[error(\"{0}\")]\nstruct F(String);",
            "#[error(transparent)]\nE(#[from] io::Error),",
        ] {
            assert_eq!(check("a.rs", text), Vec::<String>::new());
        }
    }
}
