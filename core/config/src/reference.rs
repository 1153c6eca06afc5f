//! Renders `docs/configuration.md` from the tables of options and the list of Flink's keys.

use std::fmt::Write as _;

use crate::flink::{self, FlinkKey, KeyStatus};
use crate::known::KnownOptions;
use crate::option::{KeyPrefix, OptionInfo};

const INTRODUCTION: &str = "# Configuration

This page is generated from the code; a test fails when it is stale.

Options stand in `config.yaml` in the directory that `MILLSTREAM_CONF_DIR` names, else in `conf` of
the installation. Keys may be nested or dotted. An old `flink-conf.yaml` is read when there is no
`config.yaml`. Over the file goes the environment variable `MILLSTREAM_PROPERTIES` (lines
`key: value`), and over both the command line (`-D key=value`).

Keys are Flink's where the meaning is Flink's; our own start with `millstream.` or with the name of
their cluster manager. Every key of Flink 1.20 and 2.3 is accepted: one that is not honoured causes
one warning at the start. An unknown key is an error that names the nearest known one.

- A duration is a number and `ms`, `s`, `min`, `h` or `d`; without a unit it counts milliseconds.
- A size is a number and `kb`, `mb`, `gb` or `tb` in steps of 1024; without a unit it counts bytes.
- Ports are one, a range or several: `8081`, `9000-9010`, `8081,9000-9010`; 0 is any free port.
- A list is `[a, b]`, or `a;b` as in old files.
";

/// The text of the reference for a binary with these options.
#[must_use]
pub fn render_reference(options: KnownOptions) -> String {
    let mut page = INTRODUCTION.to_owned();
    let (flinks, ours): (Vec<_>, Vec<_>) =
        options.iter().partition(|option| flink::keys().iter().any(|it| it.key == option.key));
    section(&mut page, options, "Honoured options of Flink", &flinks);
    section(&mut page, options, "Our own options", &ours);
    line(
        &mut page,
        format_args!("\n## Keys whose end users choose\n\n| key | meaning |\n|---|---|"),
    );
    for KeyPrefix { prefix, end, doc } in options.prefixes() {
        line(&mut page, format_args!("| `{prefix}<{end}>` | {doc} |"));
    }
    keys(
        &mut page,
        options,
        KeyStatus::Lacking,
        "Options of Flink that are not supported yet",
        "They are accepted and have no effect.",
    );
    keys(
        &mut page,
        options,
        KeyStatus::WithoutJvm,
        "Options of Flink that mean nothing without a JVM",
        "They are accepted and never have an effect.",
    );
    page
}

fn section(page: &mut String, known: KnownOptions, title: &str, options: &[&OptionInfo]) {
    line(page, format_args!("\n## {title}\n\n| key | type | default | meaning |"));
    line(page, format_args!("|---|---|---|---|"));
    for option in options {
        let default = match (option.default, option.fallback) {
            (_, Some(fallback)) => format!("`{fallback}`"),
            (Some(default), None) => default.to_owned(),
            (None, None) => "unset".to_owned(),
        };
        let mut meaning = sentence(option.doc);
        if let old @ [_, ..] = flink::old_names(option.key) {
            let old: Vec<String> = old
                .iter()
                .filter(|name| flink::status(known, name).is_none())
                .map(|name| format!("`{name}`"))
                .collect();
            if !old.is_empty() {
                let _ = write!(meaning, " Old names: {}.", old.join(", "));
            }
        }
        line(page, format_args!("| `{}` | {} | {default} | {meaning} |", option.key, option.kind));
    }
}

fn keys(page: &mut String, options: KnownOptions, status: KeyStatus, title: &str, text: &str) {
    line(page, format_args!("\n## {title}\n\n{text}\n"));
    for FlinkKey { key, .. } in flink::keys() {
        if flink::status(options, key) == Some(status) {
            line(page, format_args!("- `{key}`"));
        }
    }
}

/// A doc comment in one line.
fn sentence(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_on_the_page() {
        let page = render_reference(KnownOptions::ENGINE);
        for option in KnownOptions::ENGINE.iter() {
            assert!(page.contains(&format!("| `{}` |", option.key)), "{}", option.key);
        }
        for known in flink::keys() {
            assert!(page.contains(&format!("`{}`", known.key)), "{}", known.key);
        }
    }
}
