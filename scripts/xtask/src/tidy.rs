//! Holds every file to its budgets: size, line width, function length, module docs, and words
//! that must not be in the repository; pages are held to their tests by [`claims`], error texts to
//! their own words by [`errors`], doc comments to plain openings by [`crate::words`].
//!
//! Tests do not count towards the size of a file or of a crate: a trailing `#[cfg(test)] mod
//! tests`, a file `tests.rs`, and whatever lies in a folder `tests/`. Function length and line
//! width hold everywhere. A line inside a multi-line string, and one with a web address, may be
//! as wide as it likes, because breaking it would change it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::claims;
use crate::errors;
use crate::source::{Source, is_name};
use crate::words;

/// Above this a file is worth a warning.
const FILE_LINES_WARN: usize = 500;
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;
const CRATE_LINES_MAX: usize = 10_000;

/// Code that promises what does not exist.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];
/// Notes to self; an issue is the place for them. Written in two parts to pass their own check.
const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
/// Paths of one machine.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
/// Extensions of text files, which are searched for machine paths.
const TEXT_EXTENSIONS: [&str; 11] =
    ["rs", "md", "toml", "sh", "yaml", "yml", "proto", "json", "tsv", "txt", "java"];
/// The Clippy file of the crates of the data plane.
const OF_DATA_PLANE: &str = "core/clippy-data-plane.toml";
/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: [&str; 3] = ["target", "dist", ".git"];

/// The findings of one pass over the workspace.
#[derive(Default)]
pub struct Report {
    pub faults: Vec<String>,
    pub warnings: Vec<String>,
}

/// Runs the check and prints what it found.
pub fn command(root: &Path) -> Result<()> {
    let report = check(root)?;
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    crate::refuse("tidy", &report.faults)
}

/// Checks every text file below `root`.
pub fn check(root: &Path) -> Result<Report> {
    let mut files = Vec::new();
    list_files(root, &mut files)?;
    files.sort();
    let crates: Vec<PathBuf> = files
        .iter()
        .filter(|file| file.file_name().is_some_and(|name| name == "Cargo.toml"))
        .filter_map(|file| file.parent().map(Path::to_path_buf))
        .collect();
    let mut report = Report::default();
    let mut lines_by_crate: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut tests = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "rs")) {
        let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        tests.extend(test_modules(file, &String::from_utf8_lossy(&bytes)));
    }
    for file in &files {
        let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
        check_paths(&name, &text, &mut report);
        if file.extension().is_some_and(|extension| extension == "rs") {
            let source = Source::parse(&text);
            let mut lines = check_rust(&name, &source, &mut report);
            if tests.iter().any(|module| file.with_extension("").starts_with(module)) {
                lines = 0;
            }
            report.faults.extend(errors::check(&name, &text));
            report.faults.extend(words::check(&name, &source));
            let owner = crates.iter().filter(|folder| file.starts_with(folder)).max();
            let owner = owner.cloned().unwrap_or_default();
            *lines_by_crate.entry(owner).or_default() += lines;
        } else if file.extension().is_some_and(|extension| extension == "md") {
            report.faults.extend(claims::check_page(root, &name, &text));
        }
    }
    for (folder, lines) in lines_by_crate {
        if lines > CRATE_LINES_MAX {
            let name = folder.strip_prefix(root).unwrap_or(&folder).display();
            report.faults.push(format!(
                "{name}: the crate has {lines} lines without tests, at most {CRATE_LINES_MAX}"
            ));
        }
    }
    report.faults.extend(check_lints(root)?);
    Ok(report)
}

/// Looks for lines of the workspace's Clippy file that the data plane's leaves out: Clippy reads
/// one file alone.
fn check_lints(root: &Path) -> Result<Vec<String>> {
    let read = |name: &'static str| fs::read_to_string(root.join(name)).context(name);
    Ok(lints_left_out(&read("clippy.toml")?, &read(OF_DATA_PLANE)?))
}

fn lints_left_out(all: &str, of_data_plane: &str) -> Vec<String> {
    let is_lint = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let is_missing = |line: &&str| !of_data_plane.lines().any(|other| other == *line);
    let missing = all.lines().filter(is_lint).filter(is_missing);
    missing.map(|line| format!("{OF_DATA_PLANE}: the line {line:?} is missing")).collect()
}

/// The paths, without extension, of modules that a file declares for tests alone.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let folder = match file.file_name().and_then(|name| name.to_str()) {
        Some("lib.rs" | "main.rs" | "mod.rs") => file.parent().unwrap_or(file).to_owned(),
        _ => file.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter_map(|pair| match pair {
        ["#[cfg(test)]", item] => item.strip_prefix("mod ")?.strip_suffix(';'),
        _ => None,
    });
    declared.map(|name| folder.join(name)).collect()
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("failed to list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let path = entry.path();
        let kind = entry.file_type().with_context(reading)?;
        if kind.is_dir() {
            let name = entry.file_name();
            if !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                list_files(&path, files)?;
            }
        } else if kind.is_file() {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_some_and(|extension| TEXT_EXTENSIONS.contains(&extension)) {
                files.push(path);
            }
        }
    }
    Ok(())
}

/// Checks one Rust file and returns how many lines of it count towards its crate.
fn check_rust(name: &str, source: &Source, report: &mut Report) -> usize {
    if !source.lines().first().is_some_and(|line| line.starts_with("//!")) {
        report.faults.push(format!("{name}:1: a file opens with `//!` and what it is for"));
    }
    check_lines(name, source, report);
    for function in source.functions() {
        let lines = function.last_line - function.first_line + 1;
        if lines > FUNCTION_LINES_MAX {
            report.faults.push(format!(
                "{name}:{}: fn {} has {lines} lines, at most {FUNCTION_LINES_MAX}",
                function.first_line + 1,
                function.name
            ));
        }
    }
    if is_test_file(name) {
        return 0;
    }
    let lines = source.lines_without_tests();
    if lines > FILE_LINES_MAX {
        report
            .faults
            .push(format!("{name}: {lines} lines without tests, at most {FILE_LINES_MAX}"));
    } else if lines > FILE_LINES_WARN {
        report
            .warnings
            .push(format!("{name}: {lines} lines without tests, better {FILE_LINES_WARN}"));
    }
    lines
}

fn check_lines(name: &str, source: &Source, report: &mut Report) {
    for (number, line) in source.lines().iter().enumerate() {
        let mut fault = |what: String| report.faults.push(format!("{name}:{}: {what}", number + 1));
        let columns = line.chars().count();
        let may_be_wide = source.starts_in_literal(number) || line.contains("://");
        if columns > LINE_COLUMNS_MAX && !may_be_wide {
            fault(format!("{columns} columns, at most {LINE_COLUMNS_MAX}"));
        }
        let code = source.code(number);
        for word in UNFINISHED.iter().filter(|word| has_word(&code, word)) {
            fault(format!("`{word}` stands for something that does not exist yet"));
        }
        for word in NOTES.iter().filter(|word| has_word(line, word)) {
            fault(format!("`{word}` belongs into an issue"));
        }
        if code.contains("env::var") && code.contains("else { return }") {
            fault(
                "a test that a variable turns off tests nothing: give the process that it \
                   starts a program of its own, such as an example of the crate"
                    .to_owned(),
            );
        }
    }
}

fn check_paths(name: &str, text: &str, report: &mut Report) {
    for (number, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            report.faults.push(format!("{name}:{}: `{path}` is a path of one machine", number + 1));
        }
    }
}

fn is_test_file(name: &str) -> bool {
    let path = Path::new(name);
    path.file_name().is_some_and(|file| file == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Whether `word` stands in `text` and is not the middle of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
        let ends_in_name = word.chars().next_back().is_some_and(is_name);
        let goes_on = before.is_some_and(is_name) || (ends_in_name && after.is_some_and(is_name));
        !goes_on
    })
}

/// Whether the absolute path `path` stands in `text`, not as the middle of a longer path.
fn has_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| is_name(c) || matches!(c, '.' | '-' | '/' | '}' | '*' | '~'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> Vec<String> {
        let mut report = Report::default();
        check_rust("a.rs", &Source::parse(text), &mut report);
        check_paths("a.rs", text, &mut report);
        report.faults
    }

    fn assert_one_fault(text: &str, expected: &str) {
        let faults = faults_of(text);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    }

    #[test]
    fn this_workspace_is_tidy() {
        let report = check(&crate::workspace_root().unwrap()).unwrap();
        assert!(report.faults.is_empty(), "\n{}", report.faults.join("\n"));
    }

    #[test]
    fn a_clean_file_has_no_fault() {
        assert_eq!(faults_of("//! a\nfn a() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn module_docs_are_required() {
        assert_one_fault("fn a() {}\n", "opens with `//!`");
    }

    #[test]
    fn a_file_has_a_limit_that_its_tests_do_not_use_up() {
        let long = |lines: usize| "// x\n".repeat(lines);
        assert_eq!(faults_of(&format!("//! a\n{}", long(799))), Vec::<String>::new());
        assert_one_fault(&format!("//! a\n{}", long(800)), "801 lines without tests");
        let tested = format!("//! a\n#[cfg(test)]\nmod tests {{\n{}}}\n", long(2000));
        assert_eq!(faults_of(&tested), Vec::<String>::new());
    }

    #[test]
    fn a_large_file_gets_a_warning() {
        let mut report = Report::default();
        let text = format!("//! a\n{}", "// x\n".repeat(500));
        check_rust("a.rs", &Source::parse(&text), &mut report);
        assert_eq!((report.faults.len(), report.warnings.len()), (0, 1));
    }

    #[test]
    fn a_test_file_does_not_count() {
        let mut report = Report::default();
        let source = Source::parse(&format!("//! a\n{}", "// x\n".repeat(2000)));
        assert_eq!(check_rust("core/a/src/b/tests.rs", &source, &mut report), 0);
        assert_eq!(check_rust("core/a/tests/c.rs", &source, &mut report), 0);
        assert!(report.faults.is_empty());
    }

    #[test]
    fn a_long_function_is_named() {
        let body = "    x();\n".repeat(68);
        assert_eq!(faults_of(&format!("//! a\nfn a() {{\n{body}}}\n")), Vec::<String>::new());
        let body = "    x();\n".repeat(69);
        assert_one_fault(&format!("//! a\nfn a() {{\n{body}}}\n"), "a.rs:2: fn a has 71 lines");
    }

    #[test]
    fn a_wide_line_is_refused_outside_strings_and_addresses() {
        let wide = "x".repeat(98);
        assert_one_fault(&format!("//! a\n// {wide}\n"), "a.rs:2: 101 columns");
        assert_eq!(faults_of(&format!("//! a\n// https://{wide}\n")), Vec::<String>::new());
        let golden = format!("//! a\nconst A: &str = \"\n{wide}{wide}\n\";\n");
        assert_eq!(faults_of(&golden), Vec::<String>::new());
    }

    #[test]
    fn unfinished_code_is_refused() {
        assert_one_fault("//! a\nfn a() { todo!() }\n", "`todo!`");
        assert_one_fault("//! a\nfn a() { unimplemented!() }\n", "`unimplemented!`");
        assert_one_fault("//! a\n#[ignore = \"slow\"]\nfn a() {}\n", "`#[ignore`");
        assert_eq!(faults_of("//! a\nconst A: &str = \"todo!\"; // todo!\n"), Vec::<String>::new());
    }

    #[test]
    fn a_test_is_not_turned_off_by_a_variable() {
        let entry = "fn entry() { let Ok(role) = std::env::var(\"ROLE\") else { return }; }";
        assert_one_fault(&format!("//! a\n{entry}\n"), "a test that a variable turns off");
        let chosen = "fn a() { let Some(role) = role else { return }; }";
        assert_eq!(faults_of(&format!("//! a\n{chosen}\n")), Vec::<String>::new());
    }

    #[test]
    fn a_module_that_only_tests_are_built_with_does_not_count() {
        let text = "mod a;\n#[cfg(test)]\nmod explore;\n#[cfg(test)]\nmod tests {}\n";
        let modules = test_modules(Path::new("core/api/src/lib.rs"), text);
        assert_eq!(modules, [Path::new("core/api/src/explore")]);
        let below = test_modules(Path::new("core/api/src/b.rs"), text);
        assert_eq!(below, [Path::new("core/api/src/b/explore")]);
    }

    #[test]
    fn notes_belong_into_issues() {
        let [first, second] = NOTES;
        assert_one_fault(&format!("//! a\n// {first}: more\n"), "belongs into an issue");
        assert_one_fault(&format!("//! a\n// {second} more\n"), "belongs into an issue");
        assert_eq!(faults_of(&format!("//! a\n// {first}S\n")), Vec::<String>::new());
    }

    #[test]
    fn machine_paths_are_refused() {
        for path in MACHINE_PATHS {
            assert_one_fault(&format!("//! a\n// see `{path}main`\n"), "path of one machine");
            let relative = format!("//! a\n// see some{path}main\n");
            assert_eq!(faults_of(&relative), Vec::<String>::new());
        }
    }

    #[test]
    fn a_line_that_the_data_planes_clippy_file_leaves_out_is_named() {
        let all = "first = true\n# A comment.\n\n    { path = \"second\" },\n";
        let faults = lints_left_out(all, "first = true\n\nthird = true\n");
        assert!(faults.len() == 1 && faults[0].contains("second"), "{faults:?}");
        assert_eq!(lints_left_out(all, all), Vec::<String>::new());
    }

    #[test]
    fn a_crate_has_a_limit() {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{}", std::process::id()));
        for folder in ["src", "core"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["Cargo.toml", "clippy.toml", OF_DATA_PLANE] {
            fs::write(root.join(file), "").unwrap();
        }
        let text = format!("//! a\n{}", "// x\n".repeat(779));
        for number in 0..13 {
            fs::write(root.join(format!("src/f{number}.rs")), &text).unwrap();
        }
        let faults = check(&root).map(|report| report.faults);
        fs::remove_dir_all(&root).unwrap();
        let faults = faults.unwrap();
        assert!(faults.len() == 1 && faults[0].contains("10140 lines"), "{faults:?}");
    }
}
