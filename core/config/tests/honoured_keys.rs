//! An option of the table is a promise: some code outside this crate reads it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_config::{OptionInfo, options};

/// Folders whose code honours no key: this crate, tests, benches and build products.
const SKIPPED: [&str; 7] =
    ["core/config", "target", "tests", "benches", "integration", "docs", "node_modules"];

/// The options that neither a source file (by constant) nor a script (by key) below `root` reads.
fn unread_options(root: &Path) -> io::Result<Vec<&'static OptionInfo>> {
    let mut unread: Vec<&OptionInfo> = options::ALL.iter().collect();
    let mut folders = vec![root.to_owned()];
    // The one file of this crate that reads options: the memory of a TaskManager.
    if let Ok(text) = fs::read_to_string(root.join("core/config/src/worker_memory.rs")) {
        unread.retain(|option| !has_word(&text, option.constant, |c| c == '_'));
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if hidden || SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let extension = path.extension().and_then(|extension| extension.to_str());
            let Some(extension @ ("rs" | "sh")) = extension else { continue };
            let text = fs::read_to_string(&path)?;
            unread.retain(|option| match extension {
                "rs" => {
                    let quoted = format!("\"{}\"", option.key);
                    !has_word(&text, option.constant, |c| c == '_') && !text.contains(&quoted)
                }
                _ => !has_word(&text, option.key, |c| ".-_".contains(c)),
            });
        }
    }
    Ok(unread)
}

/// Whether `word` stands in `text` and is not a part of a longer one.
fn has_word(text: &str, word: &str, joins: impl Fn(char) -> bool) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || joins(c);
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(&part) && !after.is_some_and(&part)
    })
}

#[test]
fn every_honoured_option_is_read() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let unread = unread_options(&root).expect("the sources can be read");
    let keys: Vec<&str> = unread.iter().map(|option| option.key).collect();
    assert!(keys.is_empty(), "no code reads these options; honour or remove them: {keys:#?}");
}

#[test]
fn a_reader_is_found_by_constant_in_code_and_by_key_in_scripts() {
    let root = tempfile::tempdir().expect("a temporary directory can be made");
    let unread = || {
        let options = unread_options(root.path()).expect("the sources can be read");
        options.iter().map(|option| option.key).collect::<Vec<_>>()
    };
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("it can be made");
        fs::write(path, text).expect("it is writable");
    };
    write("a.rs", "get(&options::REST_PORT_) MY_REST_PORT rest.port");
    write("core/config/a.rs", "REST_PORT");
    write("tests/a.rs", "REST_PORT");
    write("a.sh", "config env.log.max.bytes");
    assert_eq!(unread().len(), options::ALL.len());
    write("b.rs", "get(&options::REST_PORT)");
    write("b.sh", "config 'env.log.max'");
    assert!(!unread().contains(&"rest.port") && !unread().contains(&"env.log.max"));
    assert_eq!(unread().len(), options::ALL.len() - 2);
}
