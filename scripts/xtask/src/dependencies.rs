//! Checks the licences of third-party crates, and that none is there in more versions than known.
//!
//! Both lists are exact, so that they only change with a commit that says why: a licence must be
//! allowed by [`LICENCES`], which holds none that no crate names, and [`DUPLICATES`] counts the
//! versions of each crate that has several. What counts is what cargo resolves for Linux, with
//! the crates of tests and of build scripts.

mod licence;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use licence::Licence;

/// The one platform that Millstream runs on.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Licences under which a crate may be linked into an Apache-2.0 program.
const LICENCES: [&str; 7] =
    ["Apache-2.0", "BSD-3-Clause", "ISC", "MIT", "Unicode-3.0", "Zlib", "bzip2-1.0.6"];
/// Crates with more than one version, because two crates above them ask for different ones.
const DUPLICATES: [(&str, usize); 24] = [
    ("base64", 2),
    ("bit-vec", 2),
    ("block-buffer", 2),
    ("block-padding", 2),
    ("cbc", 2),
    ("cipher", 2),
    ("cpufeatures", 2),
    ("crypto-common", 2),
    ("des", 2),
    ("digest", 2),
    ("embedded-io", 2),
    ("foldhash", 2),
    ("getrandom", 2),
    ("hashbrown", 3),
    ("hmac", 2),
    ("inout", 2),
    ("itertools", 2),
    ("logos", 2),
    ("logos-codegen", 2),
    ("logos-derive", 2),
    ("md-5", 2),
    ("sha2", 2),
    ("syn", 2),
    ("synstructure", 2),
];

/// Runs the check and prints what it found.
pub fn command(root: &Path) -> Result<()> {
    crate::refuse("dependencies", &check(root)?)
}

fn check(root: &Path) -> Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", PLATFORM])
        .current_dir(root)
        .output()
        .context("failed to start cargo metadata")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {complaint}");
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .context("failed to read the output of cargo metadata")?;
    let mut faults = licence_faults(&metadata, &LICENCES);
    faults.extend(duplicate_faults(&metadata, &DUPLICATES));
    Ok(faults)
}

/// The packages that are not of this workspace.
fn third_party(metadata: &Value) -> impl Iterator<Item = &Value> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    packages.iter().filter(|package| !package["source"].is_null())
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

fn licence_faults(metadata: &Value, allowed: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for package in third_party(metadata) {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let licence = text(package, "license");
        let Some(expression) = Licence::parse(licence) else {
            faults
                .push(format!("{name} {version}: its licence is no SPDX expression: {licence:?}"));
            continue;
        };
        if !expression.is_met(&|one: &str| allowed.contains(&one)) {
            faults.push(format!(
                "{name} {version}: the licence {licence:?} is not allowed: use another crate, or \
                 say in a commit why the list in {} may grow",
                file!()
            ));
        }
        named.extend(expression.names().into_iter().map(str::to_owned));
    }
    let unused = allowed.iter().filter(|one| !named.contains(**one));
    faults
        .extend(unused.map(|one| format!("no crate has the licence {one}: take it from the list")));
    faults
}

fn duplicate_faults(metadata: &Value, known: &[(&str, usize)]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in third_party(metadata) {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let mut known: BTreeMap<&str, usize> = known.iter().copied().collect();
    let mut faults = Vec::new();
    for (name, versions) in versions {
        let (found, limit) = (versions.len(), known.remove(name).unwrap_or(1));
        let list = versions.into_iter().collect::<Vec<_>>().join(", ");
        if found > limit {
            faults.push(format!(
                "{name} is there in {found} versions ({list}), at most {limit}: `cargo tree -i \
                 {name}@VERSION` says who asks for each; a newer or older release of that crate \
                 may agree with the rest"
            ));
        } else if found < limit {
            faults.push(format!(
                "{name} is there in {found} version(s) only: lower its number in the list of {}",
                file!()
            ));
        }
    }
    let gone =
        known.into_keys().map(|name| format!("{name} is no dependency: take it from the list"));
    faults.extend(gone);
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(packages: &[(&str, &str, &str)]) -> Value {
        let package = |(name, version, licence): &(&str, &str, &str)| {
            let source = "registry";
            json!({ "name": name, "version": version, "license": licence, "source": source })
        };
        let mut packages: Vec<Value> = packages.iter().map(package).collect();
        packages.push(json!({ "name": "ours", "version": "0", "license": null, "source": null }));
        json!({ "packages": packages })
    }

    fn assert_one_fault(faults: &[String], expected: &str) {
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    }

    #[test]
    fn this_workspace_has_the_dependencies_that_it_may_have() {
        let faults = check(&crate::workspace_root().unwrap()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn licences_are_held_to_the_list() {
        let check = |licence, allowed: &[&str]| {
            licence_faults(&metadata(&[("a", "1.0.0", licence)]), allowed)
        };
        assert_eq!(check("MIT OR GPL-3.0", &["MIT"]), Vec::<String>::new());
        assert_one_fault(&check("MIT AND GPL-3.0", &["MIT"]), "a 1.0.0: the licence");
        assert_one_fault(&check("free", &[]), "a 1.0.0: the licence");
        assert_one_fault(&check("", &[]), "is no SPDX expression");
        assert_one_fault(&check("MIT", &["ISC", "MIT"]), "no crate has the licence ISC");
    }

    #[test]
    fn versions_are_held_to_their_number() {
        let two = metadata(&[("a", "1.0.0", "MIT"), ("a", "2.0.0", "MIT"), ("b", "1.0.0", "MIT")]);
        assert_eq!(duplicate_faults(&two, &[("a", 2)]), Vec::<String>::new());
        assert_one_fault(&duplicate_faults(&two, &[]), "a is there in 2 versions (1.0.0, 2.0.0)");
        assert_one_fault(&duplicate_faults(&two, &[("a", 3)]), "a is there in 2 version(s) only");
        assert_one_fault(&duplicate_faults(&two, &[("a", 2), ("c", 2)]), "c is no dependency");
    }
}
