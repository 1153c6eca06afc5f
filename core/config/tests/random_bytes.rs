//! No bytes in a file, in the environment or on the command line make the loader panic or hang.

use std::fs;

use millstream_config::{KnownOptions, Loader};
use proptest::prelude::*;

/// Text of what YAML gives a meaning to, which random bytes seldom hit.
fn nearly_yaml() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("rest.port"),
        Just("rest"),
        Just("port"),
        Just("a"),
        Just(": "),
        Just(":"),
        Just("\n"),
        Just("\n  "),
        Just("\n\t"),
        Just("- "),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(","),
        Just("? "),
        Just("| "),
        Just(">+\n"),
        Just("&x "),
        Just("*x"),
        Just("!!str "),
        Just("!<"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("\\x"),
        Just("#"),
        Just("%YAML 1.2\n"),
        Just("---\n"),
        Just("...\n"),
        Just("\r"),
        Just("\u{feff}"),
        Just("\u{85}"),
        Just("é"),
        Just("\0"),
        Just("<<: "),
        Just("~"),
        Just("1"),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Loads the bytes in every way; whether they are a good `config.yaml`.
fn load(bytes: &[u8]) -> bool {
    let mut is_good = false;
    for file in ["flink-conf.yaml", "config.yaml"] {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(directory.path().join(file), bytes).expect("it is writable");
        is_good = Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path()).load().is_ok();
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let _ = Loader::new(KnownOptions::ENGINE).with_properties(text.as_str()).load();
    let _ = Loader::new(KnownOptions::ENGINE).with_dynamic_properties([text.as_str()]).load();
    for key in ["pipeline.name", "rest.port", "rest.bind-port", "io.tmp.dirs", "heartbeat.interval"]
    {
        let _ = Loader::new(KnownOptions::ENGINE)
            .with_dynamic_properties([format!("{key}={text}")])
            .load();
    }
    is_good
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load(&bytes);
    }

    #[test]
    fn random_yaml_never_panics(bytes in nearly_yaml()) {
        load(&bytes);
    }
}

#[test]
fn deep_and_long_texts_end() {
    let good = ["[", "{", "- ", "a: ", "? ", "\"", "*a", "a:\n ", "!", "&a ", "{a: [", "#\n"]
        .map(|text| (text, load(text.repeat(20_000).as_bytes())))
        .into_iter()
        .filter_map(|(text, is_good)| is_good.then_some(text));
    assert_eq!(good.collect::<Vec<_>>(), ["#\n"]);
    let staircase: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    load(staircase.as_bytes());
}
