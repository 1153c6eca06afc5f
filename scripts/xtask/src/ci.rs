//! Everything that CI runs, in the order in which a mistake is cheapest to find.
//!
//! One profile, release, serves all steps, so that dependencies are compiled once. The tests come
//! last. Whether a step fails or all pass, the last lines say how long each step took, and the
//! slowest of the test programs.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// One step: what it is called, the arguments of cargo, and one environment variable.
type Step = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);

const LINTS: &[&str] = &["clippy", "--release", "--workspace", "--all-targets", "--", "-Dwarnings"];
/// The engine as `scripts/quickstart.sh` builds it.
const WITHOUT_HDFS: &[&str] = &[
    "clippy",
    "--release",
    "--package",
    "millstream-cli",
    "--package",
    "millstream-examples",
    "--no-default-features",
    "--",
    "-Dwarnings",
];
/// The facade of a program that only runs on clusters and chooses its own allocator.
const WITHOUT_FEATURES: &[&str] = &[
    "clippy",
    "--release",
    "--package",
    "millstream",
    "--no-default-features",
    "--",
    "-Dwarnings",
];
const DOCS: &[&str] = &["doc", "--release", "--workspace", "--no-deps"];
const BUILD: &[&str] = &["build", "--release", "--workspace", "--bins", "--examples"];
const TESTS: &[&str] = &["test", "--release", "--workspace", "--no-fail-fast"];

const STEPS: [Step; 5] = [
    ("clippy", LINTS, None),
    ("clippy without HDFS", WITHOUT_HDFS, None),
    ("clippy without features", WITHOUT_FEATURES, None),
    ("docs", DOCS, Some(("RUSTDOCFLAGS", "-Dwarnings"))),
    ("build", BUILD, None),
];

/// Number of test programs that are named with their times.
const SLOWEST: usize = 15;

/// The time of each step, in order, and of each test program.
#[derive(Default)]
struct Times {
    steps: Vec<(&'static str, Duration)>,
    tests: Vec<(String, Duration)>,
}

/// Runs all steps and stops at the first that fails.
pub fn command(root: &Path) -> Result<()> {
    let mut times = Times::default();
    let outcome = run_all(root, &mut times);
    print!("{}", times.report());
    outcome?;
    println!("ci: ok");
    Ok(())
}

fn run_all(root: &Path, times: &mut Times) -> Result<()> {
    times.measure("fmt", |_| cargo(root, &["fmt", "--all", "--", "--check"], None))?;
    times.measure("tidy", |_| crate::tidy::command(root))?;
    times.measure("layers", |_| crate::layers::command(root))?;
    times.measure("features", |_| crate::features::command(root))?;
    times.measure("dependencies", |_| crate::dependencies::command(root))?;
    for (name, arguments, variable) in STEPS {
        times.measure(name, |_| cargo(root, arguments, variable))?;
    }
    times.measure("tests", |programs| run_tests(root, programs))
}

impl Times {
    fn measure(
        &mut self,
        name: &'static str,
        step: impl FnOnce(&mut Vec<(String, Duration)>) -> Result<()>,
    ) -> Result<()> {
        println!("== {name}");
        let start = Instant::now();
        let outcome = step(&mut self.tests).with_context(|| format!("step `{name}` failed"));
        self.steps.push((name, start.elapsed()));
        outcome
    }

    fn report(&self) -> String {
        let mut report = "== times\n".to_owned();
        let line = |name: &str, time: Duration| format!("{:8.1} s  {name}\n", time.as_secs_f64());
        report.extend(self.steps.iter().map(|(name, time)| line(name, *time)));
        let mut tests: Vec<_> = self.tests.iter().collect();
        tests.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        tests.truncate(SLOWEST);
        if !tests.is_empty() {
            report += &format!("the slowest of {} test programs:\n", self.tests.len());
            report.extend(tests.into_iter().map(|(name, time)| line(name, *time)));
        }
        report
    }
}

fn cargo(root: &Path, arguments: &[&str], variable: Option<(&str, &str)>) -> Result<()> {
    let status =
        cargo_command(root, arguments).envs(variable).status().context("failed to start cargo")?;
    ensure!(status.success(), "cargo {} ended with {status}", arguments.join(" "));
    Ok(())
}

fn cargo_command(root: &Path, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root);
    command
}

/// Runs the tests, shows what they print, and notes how long each program takes.
fn run_tests(root: &Path, programs: &mut Vec<(String, Duration)>) -> Result<()> {
    let (output, writer) = std::io::pipe().context("failed to make a pipe")?;
    let mut command = cargo_command(root, TESTS);
    command.stdout(writer.try_clone().context("failed to copy a pipe")?).stderr(writer);
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().context("failed to start cargo")?;
    drop(command); // and with it our end of the pipe, so that the output ends
    let mut current: Option<(String, Instant)> = None;
    let mut finish = |current: Option<(String, Instant)>| {
        programs.extend(current.map(|(name, start)| (name, start.elapsed())));
    };
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).context("failed to read cargo's output")? > 0 {
        if let Some(name) = program_of(&String::from_utf8_lossy(&line)) {
            finish(current.replace((name, Instant::now())));
        }
        let mut terminal = std::io::stdout().lock();
        terminal.write_all(&line).and_then(|()| terminal.flush()).context("failed to print")?;
        line.clear();
    }
    finish(current);
    let status = child.wait().context("failed to wait for cargo")?;
    ensure!(status.success(), "cargo {} ended with {status}", TESTS.join(" "));
    Ok(())
}

/// The test program that cargo says it starts: `Running tests/a.rs (…/deps/a-0123456789abcdef)` or
/// `Doc-tests a`, in colour or not.
fn program_of(line: &str) -> Option<String> {
    let plain: String = line
        .split('\u{1b}')
        .enumerate()
        .map(|(number, part)| match part.split_once('m') {
            Some((_, text)) if number > 0 => text,
            _ => part,
        })
        .collect();
    let plain = plain.trim();
    if let Some(name) = plain.strip_prefix("Doc-tests ") {
        return Some(format!("{name}, doc tests"));
    }
    let path = plain.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once('(')?.1;
    let file = path.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_what_cargo_says_of_it() {
        let cases = [
            ("     Running unittests src/lib.rs (target/release/deps/a_b-0123)\n", Some("a_b")),
            ("     Running tests/system/main.rs (/t/deps/system-01)\n", Some("system")),
            ("\u{1b}[1m\u{1b}[92m     Running\u{1b}[0m tests/a.rs (deps/a-01)\n", Some("a")),
            ("   Doc-tests millstream_api\n", Some("millstream_api, doc tests")),
            ("running 3 tests\n", None),
            ("test Running (a) ... ok\n", None),
        ];
        for (line, expected) in cases {
            assert_eq!(program_of(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn times_are_reported_when_a_step_fails() {
        let mut times = Times::default();
        times.measure("fmt", |_| Ok(())).unwrap();
        let failed = times.measure("tests", |programs| {
            programs.push(("fast".to_owned(), Duration::from_millis(100)));
            programs.push(("slow".to_owned(), Duration::from_secs(7)));
            anyhow::bail!("a test failed")
        });
        assert_eq!(format!("{:#}", failed.unwrap_err()), "step `tests` failed: a test failed");
        let report = times.report();
        let lines: Vec<&str> = report.lines().collect();
        assert!(lines[1].ends_with(" s  fmt") && lines[2].ends_with(" s  tests"), "{report}");
        assert_eq!(lines[3], "the slowest of 2 test programs:");
        assert_eq!(lines[4..], ["     7.0 s  slow", "     0.1 s  fast"]);
    }
}
