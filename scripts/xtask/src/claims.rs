//! Holds pages to their tests: a claim names the test that would fail if it were wrong.
//!
//! A mark is a comment of Markdown, `<!-- test: path/from/root.rs::function -->`, with several
//! tests separated by commas. In every page it must name functions that are tests, or whose doc
//! comment holds an example. In the pages under the rule (the guide, and the comparison with
//! Flink) every paragraph, list item, table row and fenced block carries a mark, inside or on the
//! next line, unless
//! - it is a `rust` block, and [`DOC_TESTS`] has the page's examples run;
//! - it is a paragraph that ends in a colon, and so belongs to what follows it;
//! - it states nothing that could be wrong, and says so: `<!-- no claim -->`;
//! - the whole page is run by one test, which its first lines name: `<!-- page test: … -->`.
//!
//! ARCHITECTURE.md ends with a table of its claims, whose last column names the tests as code.

use std::fs;
use std::path::Path;

use crate::source::Source;

/// Where the examples of pages are made doc tests.
const DOC_TESTS: &str = "core/millstream/src/pages.rs";
const NO_CLAIM: &str = "<!-- no claim -->";
const MARK: &str = "<!-- test: ";
const PAGE_MARK: &str = "<!-- page test: ";

/// The page with a table of claims, and the table's heading.
const TABLE_PAGE: &str = "docs/ARCHITECTURE.md";
const TABLE_HEADING: &str = "## Claims and their tests";

/// Whether every claim of this page needs a mark.
fn is_under_the_rule(page: &str) -> bool {
    page.starts_with("docs/guide/") || page == "docs/compared-with-flink.md"
}

/// Every broken rule of one page, one sentence each.
pub fn check_page(root: &Path, page: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in lines_outside_code(text) {
        for mark in marks(line) {
            if let Err(why) = find_test(root, mark) {
                faults.push(format!("{page}:{}: the mark `{mark}` {why}", number + 1));
            }
        }
    }
    if is_under_the_rule(page) && !text.contains(PAGE_MARK) {
        let name = page.trim_start_matches("docs/");
        let runs = fs::read_to_string(root.join(DOC_TESTS)).is_ok_and(|list| list.contains(name));
        for block in blocks(text).iter().filter(|block| !block.is_covered(runs)) {
            faults.push(format!(
                "{page}:{}: the {} has no mark of its test, `{MARK}path/from/root.rs::name -->`",
                block.line + 1,
                block.kind.name()
            ));
        }
    }
    if page == TABLE_PAGE {
        check_table(root, page, text, &mut faults);
    }
    faults
}

/// Checks that every row of the table of claims names tests.
fn check_table(root: &Path, page: &str, text: &str, faults: &mut Vec<String>) {
    let table = text.lines().enumerate().skip_while(|(_, line)| *line != TABLE_HEADING).skip(1);
    let table = table.take_while(|(_, line)| !line.starts_with("## "));
    let rows: Vec<_> = table.filter(|(_, line)| line.starts_with('|')).skip(2).collect();
    if rows.is_empty() {
        faults.push(format!("{page}: there is no table of claims below `{TABLE_HEADING}`"));
    }
    for (number, row) in rows {
        let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            faults.push(format!("{page}:{}: the claim names no test", number + 1));
        }
        for test in tests {
            if let Err(why) = find_test(root, test) {
                faults.push(format!("{page}:{}: the test `{test}` {why}", number + 1));
            }
        }
    }
}

/// The lines that are not inside a fenced block, with their numbers from 0.
fn lines_outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The tests that the marks of a line name; a mark in backquotes is only spoken of.
fn marks(line: &str) -> impl Iterator<Item = &str> {
    [MARK, PAGE_MARK].into_iter().flat_map(move |start| {
        let quoted = |at: usize| line[..at].ends_with('`');
        let found = line.match_indices(start).filter(move |(at, _)| !quoted(*at));
        found.flat_map(move |(at, _)| {
            let rest = &line[at + start.len()..];
            rest.split_once("-->").map_or(rest, |(mark, _)| mark).split(',').map(str::trim)
        })
    })
}

/// Checks that `path::function` is a test or an example.
fn find_test(root: &Path, mark: &str) -> Result<(), String> {
    let Some((path, function)) = mark.split_once("::") else {
        return Err("is not `path/from/root.rs::function`".to_owned());
    };
    let text = fs::read_to_string(root.join(path))
        .map_err(|_| "names a file that does not exist".to_owned())?;
    let source = Source::parse(&text);
    let mut functions = source.functions();
    functions.retain(|candidate| candidate.name == function);
    if functions.is_empty() {
        return Err("names a function that the file does not have".to_owned());
    }
    let is_test = functions.iter().any(|function| is_test(source.lines(), function.first_line));
    is_test.then_some(()).ok_or_else(|| "names a function that is no test".to_owned())
}

/// Whether the attributes and doc comments above a function make it a test or show an example.
fn is_test(lines: &[String], function: usize) -> bool {
    let above = lines.iter().take(function).rev().map(|line| line.trim_start());
    above
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| line.starts_with("#[") && line.contains("test") || line.starts_with("/// ```"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Paragraph,
    Item,
    Row,
    /// A fenced block and whether it is Rust that a doc test may run.
    Code {
        rust: bool,
    },
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Paragraph => "paragraph",
            Self::Item => "list item",
            Self::Row => "table row",
            Self::Code { .. } => "block",
        }
    }
}

/// A part of a page that may make a claim; its line counts from 0.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    kind: Kind,
    line: usize,
    text: String,
}

impl Block {
    fn is_covered(&self, examples_run: bool) -> bool {
        let marked = self.text.contains(MARK) || self.text.contains(NO_CLAIM);
        let text = self.text.trim_end();
        marked
            || match self.kind {
                Kind::Code { rust } => rust && examples_run,
                Kind::Paragraph => text.ends_with(':'),
                Kind::Item | Kind::Row => false,
            }
    }
}

/// Cuts a page into its blocks; a line that is only a mark belongs to the block before it.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false; // the next line may go on with the last block
    let mut in_code = false;
    let mut table_rows = 0;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        table_rows = if trimmed.starts_with('|') && !in_code { table_rows + 1 } else { 0 };
        let is_item = |line: &str| {
            let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
            line.starts_with("- ") || (number.len() < line.len() && number.starts_with(". "))
        };
        let kind = if in_code {
            in_code = !trimmed.starts_with("```");
            continue;
        } else if let Some(language) = trimmed.strip_prefix("```") {
            in_code = true;
            Kind::Code { rust: language == "rust" }
        } else if trimmed.starts_with("<!--") && trimmed.ends_with("-->") {
            if let Some(block) = blocks.last_mut() {
                block.text.push_str(trimmed);
            }
            open = false;
            continue;
        } else if trimmed.is_empty() || trimmed.starts_with('#') {
            open = false;
            continue;
        } else if trimmed.starts_with('|') {
            // The head of a table and the line below it say what its rows are about.
            if table_rows <= 2 {
                continue;
            }
            Kind::Row
        } else if is_item(trimmed) {
            Kind::Item
        } else if let (true, Some(block)) = (open, blocks.last_mut()) {
            block.text.push(' ');
            block.text.push_str(trimmed);
            continue;
        } else {
            Kind::Paragraph
        };
        open = matches!(kind, Kind::Paragraph | Kind::Item);
        blocks.push(Block { kind, line: number, text: trimmed.to_owned() });
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIS: &str = "scripts/xtask/src/claims.rs";

    fn faults(page: &str, text: &str) -> Vec<String> {
        check_page(&crate::workspace_root().unwrap(), page, text)
    }

    fn assert_one_fault(text: &str, expected: &str) {
        let faults = faults("docs/guide/a.md", text);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{text}: {faults:?}");
    }

    fn mark(function: &str) -> String {
        format!("{MARK}{THIS}::{function} -->")
    }

    #[test]
    fn a_mark_names_a_test_that_exists() {
        let good = mark("a_mark_names_a_test_that_exists");
        assert_eq!(faults("README.md", &good), Vec::<String>::new());
        assert_eq!(faults("README.md", &format!("`{MARK}a::b -->`")), Vec::<String>::new());
        let two = good.replace(" -->", &format!(", {THIS}::is_test -->"));
        let cases = [
            (mark("gone"), "names a function that the file does not have"),
            (mark("blocks"), "names a function that is no test"),
            (two, "names a function that is no test"),
            (format!("{MARK}scripts/gone.rs::gone -->"), "names a file that does not exist"),
            (format!("{MARK}gone -->"), "is not `path/from/root.rs::function`"),
            (format!("{PAGE_MARK}{THIS}::gone -->"), "the file does not have"),
        ];
        for (text, expected) in cases {
            let faults = faults("README.md", &text);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{text}: {faults:?}");
        }
    }

    #[test]
    fn a_function_with_an_example_is_a_test() {
        let lines = ["/// Does.", "///", "/// ```", "/// ```", "#[must_use]", "pub fn a() {}"];
        let lines = lines.map(str::to_owned);
        assert!(is_test(&lines, 5));
        assert!(!is_test(&lines[4..], 1));
    }

    #[test]
    fn every_claim_of_a_page_under_the_rule_has_a_mark() {
        assert_one_fault("# A\n\nIt works,\nalways.\n", "a.md:3: the paragraph has no mark");
        assert_one_fault("- it works\n  always\n", "a.md:1: the list item has no mark");
        assert_one_fault("1. it works\n", "a.md:1: the list item has no mark");
        assert_one_fault("| a | b |\n|---|---|\n| c | d |\n", "a.md:3: the table row has no mark");
        assert_one_fault("```sh\necho\n\n# more\n```\n", "a.md:1: the block has no mark");
        assert_one_fault("```rust\nlet a = 1;\n```\n", "a.md:1: the block has no mark");
        assert_eq!(faults("docs/rest.md", "It works.\n"), Vec::<String>::new());
    }

    #[test]
    fn a_mark_inside_or_below_covers_its_block_alone() {
        let mark = mark("a_mark_inside_or_below_covers_its_block_alone");
        let covered = [
            format!("It works,\nalways. {mark}\n"),
            format!("It works,\nalways.\n{mark}\n"),
            format!("- one {mark}\n- two\n  more\n  {mark}\n"),
            format!("| a |\n|---|\n| c {mark} |\n"),
            format!("```sh\necho\n```\n{mark}\n"),
        ];
        for text in covered {
            assert_eq!(faults("docs/guide/a.md", &text), Vec::<String>::new(), "{text}");
        }
        assert_one_fault(&format!("One. {mark}\n\nTwo.\n"), "a.md:3");
        assert_one_fault(&format!("- one {mark}\n- two\n"), "a.md:2");
        assert_one_fault(&format!("| a |\n|---|\n| c |\n| d {mark} |\n"), "a.md:3");
    }

    #[test]
    fn what_claims_nothing_needs_no_mark() {
        let text = format!("# Title\n\nSee [here](a.md). {NO_CLAIM}\n\nSo it goes:\n");
        assert_eq!(faults("docs/guide/a.md", &text), Vec::<String>::new());
    }

    #[test]
    fn every_row_of_the_table_of_claims_names_tests() {
        let test = format!("`{THIS}::every_row_of_the_table_of_claims_names_tests`");
        let check = |row: &str| {
            let text = format!("{TABLE_HEADING}\n\n| claim | tests |\n|---|---|\n{row}\n## End\n");
            faults(TABLE_PAGE, &text)
        };
        assert_eq!(check(&format!("| it works | {test}, {test} |")), Vec::<String>::new());
        let cases = [
            ("| it works | |".to_owned(), "ARCHITECTURE.md:5: the claim names no test"),
            (format!("| it works | {test}, `{THIS}::gone` |"), "the file does not have"),
            (String::new(), "there is no table of claims"),
        ];
        for (row, expected) in cases {
            let faults = check(&row);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{row}: {faults:?}");
        }
    }

    #[test]
    fn one_test_may_run_a_whole_page() {
        let test = format!("{THIS}::one_test_may_run_a_whole_page");
        let text = format!("# A\n{PAGE_MARK}{test} -->\n\nIt works.\n");
        assert_eq!(faults("docs/guide/a.md", &text), Vec::<String>::new());
    }
}
