//! The programs of `scripts/simulate.sh` are tests that exist.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// The Rust files under a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut found: Vec<_> = directories.iter().flat_map(|path| sources(path)).collect();
    found.extend(files.into_iter().filter(|path| path.extension() == Some("rs".as_ref())));
    found
}

/// The names that follow a keyword; a macro of `core/operators` makes modules `in` a name.
fn names<'a>(text: &'a str, keyword: &str) -> Vec<&'a str> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let name = |rest: &'a str| rest.split(|c| !is_of_name(c)).next().unwrap_or_default();
    text.split(keyword).skip(1).map(name).collect()
}

/// Whether a filter of test names has modules of the crate, and in the end the beginning of a name
/// of a module or function.
fn names_a_test(crate_text: &str, filter: &str) -> bool {
    let modules = [names(crate_text, "mod "), names(crate_text, " in ")].concat();
    let mut parts: Vec<&str> = filter.split("::").collect();
    let last = parts.pop().unwrap();
    let functions = names(crate_text, "fn ");
    parts.iter().all(|part| modules.contains(part))
        && modules.iter().chain(&functions).any(|name| name.starts_with(last))
}

#[test]
fn each_world_is_a_test() {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let script = std::fs::read_to_string(root.join("scripts/simulate.sh")).unwrap();
    let table = script.split_once("programs() {").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| *line != "TABLE");
    let mut count = 0;
    for row in rows {
        let [_, folder, _, filter] = row.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{row}: not a name, a folder, a program and a filter");
        };
        let files = sources(&root.join(folder));
        let text: String =
            files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert!(names_a_test(&text, filter), "{row}: no test of {folder} is named so");
        count += 1;
    }
    assert!(count > 10, "{count} programs");
    assert!(!names_a_test("mod worlds; fn each_is_run() {}", "world::each_is_run"));
    assert!(!names_a_test("mod worlds; fn each_is_run() {}", "worlds::one_is_run"));
}
