//! Checks that every selection of packages builds the same third-party crates.
//!
//! Cargo unites features over the packages that are selected, so that `cargo test -p CRATE` may
//! want a `tokio` with fewer features than `cargo test --workspace` has built, and compiles it
//! anew with everything above it. `scripts/third-party` names the features that differed; this
//! check compares what cargo resolves, without building anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where a missing feature is added.
const MANIFEST: &str = "scripts/third-party/Cargo.toml";
/// Edges to the packages that a test of a package is built from.
const FOR_TESTS: &str = "normal,build,dev";
/// Edges to the packages that a program is built from.
const FOR_PROGRAMS: &str = "normal,build";
/// Packages whose programs scripts build by themselves.
const PROGRAMS: [&str; 2] = ["millstream-cli", "millstream-integration"];

/// The variants of each third-party crate: `name version` to its sets of features. A crate that
/// is compiled for build scripts too may have two.
type Crates = BTreeMap<String, BTreeSet<String>>;

/// Runs the check and prints what it found.
pub fn command(root: &Path) -> Result<()> {
    crate::refuse("features", &check(root)?)
}

fn check(root: &Path) -> Result<Vec<String>> {
    let whole = crates_of(&tree(root, &["--workspace", "--edges", FOR_TESTS])?);
    let metadata = crate::layers::read_metadata(root)?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let members = packages.iter().filter_map(|package| package["name"].as_str());
    let selections = members
        .map(|name| (name, FOR_TESTS))
        .chain(PROGRAMS.into_iter().map(|name| (name, FOR_PROGRAMS)));
    let mut faults = Vec::new();
    for (name, edges) in selections {
        let selected = crates_of(&tree(root, &["--package", name, "--edges", edges])?);
        faults.extend(faults_of(name, &selected, &whole));
    }
    Ok(faults)
}

/// Runs `cargo tree` for a selection; each line is a crate with its features.
fn tree(root: &Path, selection: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--prefix", "none", "--format", "{p}|{f}"])
        .args(selection)
        .current_dir(root)
        .output()
        .context("failed to start cargo tree")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo tree {selection:?} failed: {complaint}");
    String::from_utf8(output.stdout).context("failed to read the output of cargo tree")
}

/// The crates of a tree that are not ours, which stand there without a path.
fn crates_of(tree: &str) -> Crates {
    let mut crates = Crates::new();
    for line in tree.lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let package = package.trim_end_matches(" (proc-macro)");
        if !package.ends_with(')') {
            crates.entry(package.to_owned()).or_default().insert(features.trim().to_owned());
        }
    }
    crates
}

/// One sentence for each crate that `package` alone would compile otherwise.
fn faults_of(package: &str, selected: &Crates, whole: &Crates) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, variants) in selected {
        let known = whole.get(name).cloned().unwrap_or_default();
        for features in variants.difference(&known) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            faults.push(format!(
                "`-p {package}` compiles {name} with the features [{features}], the workspace \
                 with [{}]: name the missing ones in {MANIFEST}, below `build-dependencies` if \
                 build scripts or macros use it",
                known.join("] and [")
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "ours v0.1.0 (/w/core/ours)|\n\
         serde v1.0.1|default,derive,std\n\
         syn v3.0.9 (proc-macro)|full\n\
         rustix v1.1.6|fs,net\n\
         rustix v1.1.6|fs (*)\n";

    fn faults(selected: &str) -> Vec<String> {
        faults_of("ours", &crates_of(selected), &crates_of(WHOLE))
    }

    #[test]
    fn every_selection_compiles_the_same_crates() {
        let faults = check(&crate::workspace_root().unwrap()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn a_part_of_the_workspace_with_the_same_features_is_fine() {
        assert_eq!(faults("rustix v1.1.6|fs,net\nsyn v3.0.9|full\n"), Vec::<String>::new());
        assert_eq!(faults("rustix v1.1.6|fs\n"), Vec::<String>::new());
    }

    #[test]
    fn a_crate_with_fewer_features_is_named() {
        let faults = faults("ours v0.1.0 (/w/core/ours)|test-util\nrustix v1.1.6|net\n");
        let expected = "`-p ours` compiles rustix v1.1.6 with the features [net], the workspace \
                        with [fs] and [fs,net]";
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{faults:?}");
    }
}
