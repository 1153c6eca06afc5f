//! Checks that dependencies inside the workspace only go down.
//!
//! `[workspace.metadata.layers]` gives every member a number. A normal or build dependency must
//! have a lower number than its dependent, and nothing in `core/` may depend on a crate of an
//! `rm-*` folder: the engine must not know which resource manager it runs on. Dev-dependencies
//! are free, because tests may look at the parts above. The code map of `docs/ARCHITECTURE.md` has
//! a row for every member, with its layer. Inside a crate, [`crate::modules`] checks the modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The document with the code map.
const MAP: &str = "docs/ARCHITECTURE.md";

/// Runs the check and prints what it found.
pub fn command(root: &Path) -> Result<()> {
    crate::refuse("layers", &check(root)?)
}

fn check(root: &Path) -> Result<Vec<String>> {
    let metadata = read_metadata(root)?;
    let map = std::fs::read_to_string(root.join(MAP)).with_context(|| format!("no {MAP}"))?;
    let mut faults = faults_of(&metadata);
    faults.extend(missing_rows(&metadata, &map));
    faults.extend(crate::modules::faults_of(&metadata)?);
    Ok(faults)
}

pub fn read_metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("failed to start cargo metadata")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {complaint}");
    serde_json::from_slice(&output.stdout).context("failed to read the output of cargo metadata")
}

/// One member of the workspace.
struct Member {
    /// Relative to the workspace, like `core/types`.
    folder: PathBuf,
    layer: Option<i64>,
}

/// Every broken rule, one sentence each.
fn faults_of(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let members: BTreeMap<&str, Member> =
        packages.iter().map(|package| (name_of(package), member(package, metadata))).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = name_of(package);
        let Some(dependent) = members.get(name) else { continue };
        if dependent.layer.is_none() {
            faults.push(format!(
                "{name} has no layer: add it to [workspace.metadata.layers] in Cargo.toml"
            ));
        }
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"] != "dev") {
            let Some(below) = members.get(name_of(dependency)) else { continue };
            faults.extend(broken_edge(name, dependent, name_of(dependency), below));
        }
    }
    faults
}

fn broken_edge(name: &str, dependent: &Member, other: &str, below: &Member) -> Option<String> {
    let is_driver = below.folder.to_string_lossy().starts_with("rm-");
    if dependent.folder.starts_with("core") && is_driver {
        return Some(format!(
            "{name} in core/ depends on {other}: only cli, tests and benches may know a driver"
        ));
    }
    let (from, to) = (dependent.layer?, below.layer?);
    (to >= from).then(|| {
        format!("{name} (layer {from}) depends on {other} (layer {to}), which is not below it")
    })
}

/// Every member without its row in the code map.
fn missing_rows(metadata: &Value, map: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = packages.iter().filter_map(|package| {
        let member = member(package, metadata);
        Some(format!("| {} | `{}` |", member.layer?, member.folder.display()))
    });
    rows.filter(|row| !map.contains(row)).map(|row| format!("{MAP} lacks the row {row}")).collect()
}

fn member(package: &Value, metadata: &Value) -> Member {
    let root = Path::new(metadata["workspace_root"].as_str().unwrap_or_default());
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.parent().unwrap_or(manifest);
    Member {
        folder: folder.strip_prefix(root).unwrap_or(folder).to_path_buf(),
        layer: metadata["metadata"]["layers"][name_of(package)].as_i64(),
    }
}

fn name_of(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of `core/low` (0), `core/high` (2), `core/peer` (2), `rm-x` (1), with one
    /// dependency from `from` to `to`.
    fn workspace(from: &str, to: &str, kind: Option<&str>) -> Value {
        let package = |name: &str, folder: &str| {
            let dependencies =
                if name == from { json!([{ "name": to, "kind": kind }]) } else { json!([]) };
            json!({
                "name": name,
                "manifest_path": format!("/w/{folder}/Cargo.toml"),
                "dependencies": dependencies,
            })
        };
        json!({
            "workspace_root": "/w",
            "metadata": { "layers": { "low": 0, "rm-x": 1, "high": 2, "peer": 2 } },
            "packages": [
                package("low", "core/low"),
                package("high", "core/high"),
                package("peer", "core/peer"),
                package("rm-x", "rm-x"),
            ],
        })
    }

    fn assert_one_fault(metadata: &Value, expected: &str) {
        let faults = faults_of(metadata);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        let faults = check(&crate::workspace_root().unwrap()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn downward_edges_are_fine() {
        assert_eq!(faults_of(&workspace("high", "low", None)), Vec::<String>::new());
        assert_eq!(faults_of(&workspace("rm-x", "low", Some("build"))), Vec::<String>::new());
        assert_eq!(faults_of(&workspace("high", "serde", None)), Vec::<String>::new());
    }

    #[test]
    fn edges_up_and_sideways_are_refused() {
        assert_one_fault(&workspace("low", "high", None), "which is not below it");
        assert_one_fault(&workspace("low", "high", Some("build")), "which is not below it");
        assert_one_fault(&workspace("high", "peer", None), "which is not below it");
    }

    #[test]
    fn dev_dependencies_are_free() {
        assert_eq!(faults_of(&workspace("low", "high", Some("dev"))), Vec::<String>::new());
        assert_eq!(faults_of(&workspace("high", "rm-x", Some("dev"))), Vec::<String>::new());
    }

    #[test]
    fn core_knows_no_driver() {
        assert_one_fault(&workspace("high", "rm-x", None), "high in core/ depends on rm-x");
    }

    #[test]
    fn the_code_map_names_every_member() {
        let metadata = workspace("high", "low", None);
        let map = "| 0 | `core/low` | a |\n| 2 | `core/high` | b |\n| 1 | `rm-x` | c |";
        assert_eq!(
            missing_rows(&metadata, map),
            ["docs/ARCHITECTURE.md lacks the row | 2 | `core/peer` |"]
        );
    }

    #[test]
    fn a_member_without_layer_is_named() {
        let mut metadata = workspace("high", "low", None);
        metadata["metadata"]["layers"].as_object_mut().unwrap().remove("peer");
        assert_one_fault(&metadata, "peer has no layer");
    }
}
