//! Tests of all options of this binary: the engine's and its drivers'.
//!
//! An option is a promise: some code reads it. `docs/configuration.md` lists them all;
//! `UPDATE_EXPECT=1 cargo test --release -p millstream-cli every_option` writes it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_config::{Configuration, Loader, OptionInfo, flink, render_reference};

use super::{ALL, options};

/// Folders whose code honours no key: the loader's, tests, benches and build products; and the
/// files of the tables.
const SKIPPED: [&str; 8] = [
    "core/config",
    "src/options.rs",
    "target",
    "tests",
    "benches",
    "integration",
    "docs",
    "node_modules",
];

/// Where our default is another than Flink's, each explained in the option's sentence.
const OTHER_DEFAULTS: [(&str, &str); 10] = [
    ("jobmanager.memory.process.size", "none in Flink; a container must have a size"),
    ("jobmanager.rpc.address", "none in Flink, localhost in its shipped file"),
    ("jobmanager.bind-host", "secure by default"),
    ("rest.address", "the JobManager's address in Flink, too"),
    ("rest.bind-address", "secure by default"),
    ("taskmanager.bind-host", "secure by default"),
    ("taskmanager.memory.process.size", "none in Flink, 1728m in its shipped file"),
    ("jobstore.max-capacity", "infinite is Flink's name of the number"),
    (
        "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        "infinite is Flink's name of the number",
    ),
    ("slotmanager.number-of-slots.max", "infinite is Flink's name of the number"),
];

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

#[test]
fn the_page_of_options_is_up_to_date() {
    expect_test::expect_file!["../../../docs/configuration.md"]
        .assert_eq(&render_reference(options()));
}

#[test]
fn a_drivers_option_is_checked_on_the_command_line_and_in_a_request() {
    let errors = |key: &str, value: &str| {
        let property = format!("{key}={value}");
        let loaded = Loader::new(options()).with_dynamic_properties([property]).load();
        let requested = Configuration::knowing(options()).with_request([(key, value)]);
        [loaded.err(), requested.err()].map(|error| error.map(|error| error.to_string()))
    };
    for (key, value, part) in [
        ("yarn.client.transport", "http", "yarn.client.transport is \"http\": expected rpc, rest"),
        ("yarn.client.transprot", "rest", "did you mean yarn.client.transport?"),
        ("yarn.appmaster.vcores", "0", "expected more than 0"),
        ("millstream.standalone.state-dir", "", "expected a path"),
    ] {
        for error in errors(key, value) {
            assert!(error.as_ref().is_some_and(|error| error.contains(part)), "{error:?}");
        }
    }
    assert_eq!(errors("yarn.client.transport", "rest"), [None, None]);
}

#[test]
fn every_default_is_a_value() {
    for option in options().iter() {
        let Some(default) = option.default else { continue };
        assert_eq!(option.check(default), Ok(()), "{}", option.key);
    }
}

#[test]
fn keys_and_constants_are_unique_and_fallbacks_exist() {
    let keys: BTreeSet<_> = options().iter().map(|option| option.key).collect();
    let constants: BTreeSet<_> = options().iter().map(|option| option.constant).collect();
    let count = options().iter().count();
    assert_eq!((keys.len(), constants.len()), (count, count));
    for fallback in options().iter().filter_map(|option| option.fallback) {
        assert!(keys.contains(fallback), "{fallback}");
    }
}

#[test]
fn an_option_is_flinks_or_carries_our_prefix_or_its_drivers() {
    let driver_of = |key: &str| {
        let has = |options: &[OptionInfo]| options.iter().any(|option| option.key == key);
        ALL.iter().find(|driver| has(driver.options().options)).map(|driver| driver.name())
    };
    for option in options().iter() {
        let of_flink = flink::keys().iter().any(|known| known.key == option.key);
        let of_driver = driver_of(option.key)
            .is_some_and(|driver| option.key.starts_with(&format!("{driver}.")));
        let ours = option.key.starts_with("millstream.");
        let is_named_well = if of_flink { !ours } else { ours || of_driver };
        assert!(is_named_well, "{}", option.key);
    }
}

#[test]
fn defaults_are_flinks() {
    let differ = |key: &str| OTHER_DEFAULTS.iter().any(|(other, _)| *other == key);
    for known in flink::keys() {
        let Some(option) = options().iter().find(|option| option.key == known.key) else {
            continue;
        };
        let ours = option.default.unwrap_or_default();
        let same = ours == known.default
            || option.key == "rest.server.max-content-length" && known.default == "104857600"
            || matches!(option.key, "io.tmp.dirs" | "web.tmpdir") && ours == "/tmp";
        assert_eq!(same, !differ(option.key), "{}: {ours} {}", option.key, known.default);
    }
}

/// The options that neither a source file (by constant) nor a script (by key) below `root` reads.
fn unread_options(root: &Path) -> io::Result<Vec<&'static OptionInfo>> {
    let mut unread: Vec<&OptionInfo> = options().iter().collect();
    let mut folders = vec![root.to_owned()];
    // The one file of the loader's crate that reads options: the memory of a TaskManager.
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
    let unread = unread_options(&root()).expect("the sources can be read");
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
    write("driver/src/options.rs", "REST_PORT");
    write("a.sh", "config env.log.max.bytes");
    assert_eq!(unread().len(), options().iter().count());
    write("b.rs", "get(&options::REST_PORT)");
    write("b.sh", "config 'env.log.max'");
    assert!(!unread().contains(&"rest.port") && !unread().contains(&"env.log.max"));
    assert_eq!(unread().len(), options().iter().count() - 2);
}
