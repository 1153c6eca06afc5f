//! Text to settings: YAML with nested or dotted keys, the old `key: value` lines, and lists.
//!
//! A scalar keeps the text that the user wrote (`007` stays `007`), because only the option knows
//! its type. Nested maps become dotted keys; a list becomes YAML's flow form in one line. Depth is
//! bounded, anchors and further documents are refused, and no bytes make it panic.

use std::collections::HashMap;
use std::fmt::Write as _;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use crate::error::{ConfigError, Origin};

const DEPTH_MAX: usize = 32;

/// One key and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// A syntax error, with its line.
struct Fault {
    line: usize,
    reason: String,
}

impl Fault {
    fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

enum Node {
    Empty,
    Scalar(String),
    List(Vec<Self>),
    Map(Vec<Member>),
}

struct Member {
    key: String,
    line: usize,
    node: Node,
}

/// Reads a YAML map of options; `at` names the place of a line.
pub(crate) fn read_yaml(
    text: &str,
    at: impl Fn(usize) -> Origin,
) -> Result<Vec<Setting>, ConfigError> {
    let members = match read_document(text).map_err(|fault| syntax_error(fault, &at))? {
        Node::Empty => Vec::new(),
        Node::Map(members) => members,
        Node::Scalar(_) | Node::List(_) => {
            let fault = Fault::new(1, "expected lines such as \"rest.port: 8081\"");
            return Err(syntax_error(fault, &at));
        }
    };
    let mut flat = Vec::new();
    flatten("", members, &mut flat).map_err(|fault| syntax_error(fault, &at))?;
    // `a.b: 1` and `a: {b: 1}` set the same key.
    let mut first_lines = HashMap::new();
    for (key, line, _) in &flat {
        once(&mut first_lines, key, *line).map_err(|fault| syntax_error(fault, &at))?;
    }
    let setting = |(key, line, value)| Setting { key, value, origin: at(line) };
    Ok(flat.into_iter().map(setting).collect())
}

/// Reads the lines of an old `flink-conf.yaml`, which is not YAML: the last of two equal keys wins,
/// and `#` starts a comment anywhere in a line.
pub(crate) fn read_legacy(
    text: &str,
    at: impl Fn(usize) -> Origin,
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() || content == "---" {
            continue;
        }
        let origin = at(index + 1);
        match content.split_once(": ") {
            Some((key, value)) if !key.trim().is_empty() => settings.push(Setting {
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
                origin,
            }),
            // A key without a value leaves the default.
            None if content.ends_with(':') => {}
            Some(_) | None => {
                let reason = "expected \"key: value\" with a space after the colon".to_owned();
                return Err(ConfigError::Syntax { origin, reason });
            }
        }
    }
    Ok(settings)
}

/// Reads `[a, b]` or `a;b`.
pub(crate) fn read_list(text: &str) -> Result<Vec<String>, String> {
    let trimmed = text.trim();
    if !trimmed.starts_with('[') {
        let items = trimmed.split(';').map(str::trim).filter(|item| !item.is_empty());
        return Ok(items.map(str::to_owned).collect());
    }
    let Node::List(items) = read_document(trimmed).map_err(|fault| fault.reason)? else {
        return Err("this is not a list".into());
    };
    let text_of = |item| match item {
        Node::Scalar(text) => Ok(text),
        Node::Empty => Ok(String::new()),
        Node::List(_) | Node::Map(_) => Err("its items must be plain values".to_owned()),
    };
    items.into_iter().map(text_of).collect()
}

fn syntax_error(fault: Fault, at: impl Fn(usize) -> Origin) -> ConfigError {
    ConfigError::Syntax { origin: at(fault.line), reason: fault.reason }
}

/// Appends the settings of a map, whose keys begin with `prefix`.
fn flatten(
    prefix: &str,
    members: Vec<Member>,
    flat: &mut Vec<(String, usize, String)>,
) -> Result<(), Fault> {
    let mut first_lines = HashMap::new();
    for Member { key, line, node } in members {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        once(&mut first_lines, &key, line)?;
        match node {
            Node::Map(members) => flatten(&key, members, flat)?,
            Node::Scalar(text) => flat.push((key, line, text)),
            Node::List(_) => flat.push((key, line, flow(&node))),
            Node::Empty => {} // a key without a value leaves the default
        }
    }
    Ok(())
}

/// Refuses a key that stands in an earlier line.
fn once(first_lines: &mut HashMap<String, usize>, key: &str, line: usize) -> Result<(), Fault> {
    match first_lines.insert(key.to_owned(), line) {
        None => Ok(()),
        Some(first) => {
            let reason = format!("{key} is set in line {first} already; remove one of the two");
            Err(Fault::new(line, reason))
        }
    }
}

/// The node in one line of YAML.
fn flow(node: &Node) -> String {
    match node {
        Node::Empty => "null".to_owned(),
        Node::Scalar(text) => flow_scalar(text),
        Node::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Node::Map(members) => {
            let member =
                |member: &Member| format!("{}: {}", flow_scalar(&member.key), flow(&member.node));
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

fn flow_scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !is_null(text) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

fn read_document(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader { parser: Parser::new_from_str(text), line: 1 };
    let mut document = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(document.unwrap_or(Node::Empty)),
            Event::DocumentStart(..) if document.is_some() => {
                return Err(Fault::new(reader.line, "a second document; remove the line \"---\""));
            }
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => document = Some(reader.node(event, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, Fault> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => {
                    self.line = span.start.line();
                    return Ok(event);
                }
                Some(Err(error)) => {
                    return Err(Fault::new(error.marker().line(), error.info()));
                }
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(self.line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Ok(Node::Empty),
            Event::Scalar(text, ..) => Ok(Node::Scalar(text.into_owned())),
            Event::SequenceStart(..) => self.list(depth),
            Event::MappingStart(..) => self.map(depth),
            _ => Err(Fault::new(
                self.line,
                "anchors and aliases are not supported; repeat the value",
            )),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd | Event::StreamEnd => return Ok(Node::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, Fault> {
        let mut members = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd | Event::StreamEnd => return Ok(Node::Map(members)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Fault::new(self.line, "a key must be plain text")),
            };
            let line = self.line;
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            members.push(Member { key, line, node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize) -> Origin {
        Origin::Environment { line }
    }

    fn yaml(text: &str) -> Vec<(String, String)> {
        let settings = read_yaml(text, at).unwrap();
        settings.into_iter().map(|setting| (setting.key, setting.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    fn fault(text: &str) -> String {
        read_yaml(text, at).unwrap_err().to_string()
    }

    #[test]
    fn nested_and_dotted_keys_are_the_same() {
        let nested = "rest:\n  port: 8081\n  retry:\n    max-attempts: 3\n";
        let dotted = "rest.port: 8081\nrest.retry.max-attempts: 3\n";
        assert_eq!(yaml(nested), yaml(dotted));
        assert_eq!(yaml("rest: {port: 8081}"), [pair("rest.port", "8081")]);
    }

    #[test]
    fn scalars_keep_their_text() {
        assert_eq!(
            yaml("a: 007\nb: 1e3\nc: yes\nd: '10 s'\ne: \"x\\ty\"\nf: a#b # comment\n"),
            [
                pair("a", "007"),
                pair("b", "1e3"),
                pair("c", "yes"),
                pair("d", "10 s"),
                pair("e", "x\ty"),
                pair("f", "a#b"),
            ]
        );
    }

    #[test]
    fn a_key_without_value_is_not_set() {
        assert_eq!(yaml("a:\nb: ~\nc: null\nd: {}\ne: ''\n"), [pair("e", "")]);
        assert!(yaml("").is_empty());
        assert!(yaml("# nothing\n").is_empty());
        assert!(yaml("---\n").is_empty());
    }

    #[test]
    fn lists_survive_the_way_through_one_line() {
        let settings = yaml("a:\n  - x\n  - \"y, z\"\n  - 'it\"s'\n  - \"é\\n\"\n  - 'null'\n");
        let [(_, value)] = settings.as_slice() else { panic!("{settings:?}") };
        assert_eq!(read_list(value).unwrap(), ["x", "y, z", "it\"s", "é\n", "null"]);
    }

    #[test]
    fn faults_name_the_line() {
        for (text, line, part) in [
            ("a: 1\nb: 2\na: 3\n", 3, "set in line 1 already"),
            ("a.b: 1\na:\n  b: 2\n", 3, "set in line 1 already"),
            ("a:\nb: 1\na:\n", 3, "a is set in line 1 already"),
            ("a:\n  b: 1\na:\n  c: 2\n", 3, "a is set in line 1 already"),
            ("a:\n  b:\n    c: 1\n  b: {}\n", 4, "a.b is set in line 2 already"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("- a\n", 1, "expected lines such as"),
            ("a: &x 1\nb: *x\n", 2, "anchors"),
            ("a: 1\n[b]: 2\n", 2, "a key must be plain text"),
        ] {
            let message = fault(text);
            assert!(message.contains(&format!("line {line}:")), "{text:?}: {message}");
            assert!(message.contains(part), "{text:?}: {message}");
        }
        assert!(fault("a: [1\nb: 2\n").contains("line "), "{}", fault("a: [1\nb: 2\n"));
        assert!(fault(&"[".repeat(5_000)).contains("line 1"));
    }

    #[test]
    fn maps_of_different_depth_may_complete_each_other() {
        let settings = yaml("a.b:\n  c: 1\na:\n  b:\n    d: 2\na.b.e:\n");
        assert_eq!(settings, [pair("a.b.c", "1"), pair("a.b.d", "2")]);
    }

    #[test]
    fn old_files_are_lines() {
        let text = "# old\r\na.b: 1728m # heap\nc:d: x: y\nempty:\nempty2: \na.b: 2g\n";
        let settings = read_legacy(text, at).unwrap();
        let pairs: Vec<_> = settings.into_iter().map(|s| (s.key, s.value)).collect();
        assert_eq!(pairs, [pair("a.b", "1728m"), pair("c:d", "x: y"), pair("a.b", "2g")]);
        let error = read_legacy("a: 1\nrest.port=8081\n", at).unwrap_err().to_string();
        assert!(error.contains("line 2: expected \"key: value\""), "{error}");
    }
}
