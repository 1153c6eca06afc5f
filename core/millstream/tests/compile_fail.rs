//! Misuse that the types forbid, and the compiler's error for each.
//!
//! A program that must not compile says by comments `//~ TEXT` which texts the compiler must show.
//! They are our own messages, and of the compiler's own words as few as tell the error from others:
//! the rest of its output differs from build to build.

use std::path::Path;
use std::{env, fs};

/// The texts that the compiler must show for a program.
fn expected(program: &str) -> impl Iterator<Item = &str> {
    program.lines().filter_map(|line| line.strip_prefix("//~ "))
}

#[test]
fn misuse_does_not_compile() {
    let programs =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/compile_fail");
    let copies = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(&programs).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        fs::copy(&path, copies.path().join(&name)).unwrap();
        names.push(name);
    }
    // SAFETY: this program has no other test, hence no other thread that reads the environment.
    unsafe { env::set_var("TRYBUILD", "overwrite") };
    // Fails if a program compiles, else writes the compiler's output beside it.
    trybuild::TestCases::new().compile_fail(copies.path().join("*.rs"));
    let mut faults = Vec::new();
    for name in names {
        let program = copies.path().join(&name);
        let shown = fs::read_to_string(program.with_extension("stderr")).unwrap();
        let program = fs::read_to_string(program).unwrap();
        assert!(expected(&program).count() > 0, "{} expects nothing", name.display());
        let missing: Vec<_> = expected(&program).filter(|text| !shown.contains(text)).collect();
        if !missing.is_empty() {
            faults.push(format!("{}: {missing:#?} is not in\n{shown}", name.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
