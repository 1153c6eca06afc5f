//! The workspace's own checks: `cargo xtask tidy`, `layers`, `features`, `dependencies`, and
//! `cargo xtask ci`.
//!
//! `tidy` holds the sources to their size budgets and their words, `layers` holds the crates to the
//! order that the root `Cargo.toml` declares, `features` has third-party crates compiled once,
//! `dependencies` looks at their licences and versions, and `ci` runs everything that CI runs. All
//! but the last are also tests of this package, so a plain `cargo test` notices what they notice.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod ci;
mod claims;
mod dependencies;
mod errors;
mod features;
mod layers;
mod modules;
mod source;
mod tidy;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask <command>

  tidy      size budgets, module docs, forbidden words, and the tests of pages' claims
  layers    every dependency goes down to a lower layer, and modules use each other in no cycle
  features  every selection of packages builds the same third-party crates
  dependencies
            licences are allowed, and no crate is there in more versions than known
  ci        fmt, tidy, layers, clippy, docs, build, tests: what CI runs, in the release profile";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = workspace_root()?;
    match arguments.first().map(String::as_str) {
        Some("tidy") => tidy::command(&root),
        Some("layers") => layers::command(&root),
        Some("features") => features::command(&root),
        Some("dependencies") => dependencies::command(&root),
        Some("ci") => ci::command(&root),
        Some("help" | "-h" | "--help") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("unknown command `{other}`\n{USAGE}"),
        None => bail!("a command is missing\n{USAGE}"),
    }
}

/// The folder of the workspace's `Cargo.toml`, two above this package.
fn workspace_root() -> Result<PathBuf> {
    // Not what it was when this was built: checkouts may share a target directory.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").context("run this by `cargo run`")?;
    let root = Path::new(&package).parent().and_then(Path::parent);
    root.map(Path::to_path_buf).context("failed to find the workspace above scripts/xtask")
}

/// Prints every fault and fails when there is one.
fn refuse(check: &str, faults: &[String]) -> Result<()> {
    for fault in faults {
        eprintln!("{fault}");
    }
    match faults.len() {
        0 => {
            println!("{check}: ok");
            Ok(())
        }
        count => bail!("{check}: {count} fault(s), listed above"),
    }
}
