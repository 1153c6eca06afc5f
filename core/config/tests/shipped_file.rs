//! The file that a new installation starts with loads, and every line of it has an effect.

use std::path::Path;

use millstream_config::{KnownOptions, Loader};

#[test]
fn the_shipped_file_loads_without_a_warning() {
    let directory =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../scripts/conf");
    let loaded = Loader::new(KnownOptions::ENGINE)
        .with_conf_dir(directory)
        .load()
        .expect("the shipped file is valid");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.configuration.text("rest.port"), Some("8081"));
}
