//! Everything that CI runs, in the order in which a mistake is cheapest to find.
//!
//! One profile, release, serves all steps, so that dependencies are compiled once. The tests come
//! last and write to the terminal as they are: their closing lines are the result.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// One step: what it is called, the arguments of cargo, and one environment variable.
type Step = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);

const LINTS: &[&str] = &["clippy", "--release", "--workspace", "--all-targets", "--", "-Dwarnings"];
const DOCS: &[&str] = &["doc", "--release", "--workspace", "--no-deps"];
const BUILD: &[&str] = &["build", "--release", "--workspace", "--bins", "--examples"];
const TESTS: &[&str] = &["test", "--release", "--workspace", "--no-fail-fast"];

const STEPS: [Step; 4] = [
    ("clippy", LINTS, None),
    ("docs", DOCS, Some(("RUSTDOCFLAGS", "-Dwarnings"))),
    ("build", BUILD, None),
    ("tests", TESTS, None),
];

/// Runs all steps and stops at the first that fails.
pub fn command(root: &Path) -> Result<()> {
    let mut times = Vec::new();
    timed("fmt", &mut times, || cargo(root, &["fmt", "--all", "--", "--check"], None))?;
    timed("tidy", &mut times, || crate::tidy::command(root))?;
    timed("layers", &mut times, || crate::layers::command(root))?;
    timed("features", &mut times, || crate::features::command(root))?;
    for (name, arguments, variable) in STEPS {
        timed(name, &mut times, || cargo(root, arguments, variable))?;
    }
    let line: Vec<String> =
        times.iter().map(|(name, time)| format!("{name} {:.1} s", time.as_secs_f64())).collect();
    println!("ci: ok ({})", line.join(", "));
    Ok(())
}

fn timed(
    name: &'static str,
    times: &mut Vec<(&'static str, Duration)>,
    step: impl FnOnce() -> Result<()>,
) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    step().with_context(|| format!("step `{name}` failed"))?;
    times.push((name, start.elapsed()));
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str], variable: Option<(&str, &str)>) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(arguments)
        .envs(variable)
        .current_dir(root)
        .status()
        .context("failed to start cargo")?;
    ensure!(status.success(), "cargo {} ended with {status}", arguments.join(" "));
    Ok(())
}
