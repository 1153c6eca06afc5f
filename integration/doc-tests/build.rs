//! Collects the examples: each becomes the doc comment of an empty module.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked for when it runs: the program may have been built in another checkout.
    let core = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../core");
    let mut modules = String::new();
    for entry in fs::read_dir(&core)? {
        let folder = entry?.path();
        let manifest = folder.join("Cargo.toml");
        if !manifest.exists() {
            continue;
        }
        println!("cargo::rerun-if-changed={}", manifest.display());
        if !fs::read_to_string(manifest)?.contains("doctest = false") {
            continue;
        }
        let source = folder.join("src");
        println!("cargo::rerun-if-changed={}", source.display());
        for file in rust_files(&source)? {
            let name = name_of(file.strip_prefix(&core)?);
            collect(&name, &fs::read_to_string(&file)?, &mut modules)?;
        }
    }
    if modules.is_empty() {
        return Err("no crate in core/ has an example".into());
    }
    fs::write(Path::new(&std::env::var("OUT_DIR")?).join("examples.rs"), modules)?;
    Ok(())
}

fn rust_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `operators_keyed` for `operators/src/keyed.rs`.
fn name_of(file: &Path) -> String {
    let parts = file.with_extension("");
    let parts: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
    parts
        .iter()
        .filter(|part| *part != "src")
        .map(|part| part.replace('-', "_"))
        .collect::<Vec<_>>()
        .join("_")
}

/// Appends a module for each fenced block in the doc comments of `text`.
fn collect(name: &str, text: &str, modules: &mut String) -> std::fmt::Result {
    let mut opened = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            continue;
        };
        let is_fence = doc.trim_start().starts_with("```");
        if is_fence || opened.is_some() {
            writeln!(modules, "///{doc}")?;
        }
        if is_fence {
            match opened.take() {
                Some(line) => writeln!(modules, "mod {name}_line_{line} {{}}")?,
                None => opened = Some(number + 1),
            }
        }
    }
    Ok(())
}
