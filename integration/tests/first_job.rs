//! The tutorial `docs/guide/first-job.md`, run word for word.
//!
//! Every `sh` block is run in order, in one shell; a `rust` block is written to the file that its
//! first line names; every line of a `text` block must be in the output of the `sh` block before
//! it. Only places differ from a reader's: ports are free ones, and builds go to the target folder
//! of this test, whose libraries are there already. Nothing is downloaded.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use millstream_integration::{free_port, workspace};

/// The separator between the outputs of two blocks.
const BLOCK: &str = "@@ block";

/// A fenced block: its language and its lines.
struct Block<'a> {
    language: &'a str,
    lines: Vec<&'a str>,
}

fn blocks(guide: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let lines = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language, lines });
        }
    }
    blocks
}

/// The guide as one script.
fn script(blocks: &[Block<'_>]) -> String {
    let mut script = String::from("set -eo pipefail\n");
    for (number, Block { language, lines }) in blocks.iter().enumerate() {
        let text = lines.join("\n");
        match *language {
            "sh" => script += &format!("echo '{BLOCK} {number}'\n{text}\n"),
            "rust" => {
                let file =
                    lines[0].strip_prefix("// ").expect("a file's block begins with its name");
                script += &format!("cat >{file} <<'END OF FILE'\n{text}\nEND OF FILE\n");
            }
            "text" => {}
            other => panic!("the guide has a block of {other:?}"),
        }
    }
    script
}

/// Whether `line` is what `shown` stands for: `…` is any text.
fn is_shown(shown: &str, line: &str) -> bool {
    let mut rest = line;
    shown.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Compares the output that the guide shows with the real one.
fn check(blocks: &[Block<'_>], output: &str) {
    let mut printed: &str = "";
    for (number, Block { language, lines }) in blocks.iter().enumerate() {
        match *language {
            "sh" => {
                let (_, rest) = output.split_once(&format!("{BLOCK} {number}\n")).unwrap();
                printed = rest.split_once(BLOCK).map_or(rest, |(block, _)| block);
            }
            "text" => {
                let mut left = printed.lines();
                for shown in lines.iter().filter(|shown| !shown.is_empty()) {
                    let found = left.any(|line| is_shown(shown, line));
                    assert!(found, "the guide shows {shown:?}, but this was printed:\n{printed}");
                }
            }
            _ => {}
        }
    }
}

/// Where the guide is run.
struct Place {
    directory: tempfile::TempDir,
    checkout: PathBuf,
    rest_port: u16,
}

impl Place {
    fn new() -> Self {
        let checkout = workspace();
        let place =
            Self { directory: tempfile::tempdir().unwrap(), checkout, rest_port: free_port() };
        for folder in ["conf", "target/log", ".cargo"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        symlink(place.target().join("release"), place.path("target/release")).unwrap();

        // Libraries are shared with this workspace if they are built in the same way.
        let manifest = fs::read_to_string(place.checkout.join("Cargo.toml")).unwrap();
        let profiles = &manifest[manifest.find("[profile.").unwrap()..];
        let settings = format!("[net]\noffline = true\n\n{profiles}");
        fs::write(place.path(".cargo/config.toml"), settings).unwrap();

        let defaults = place.checkout.join("scripts/conf");
        for file in ["masters", "workers"] {
            fs::copy(defaults.join(file), place.path("conf").join(file)).unwrap();
        }
        let config = fs::read_to_string(defaults.join("config.yaml")).unwrap();
        let config = config.replace("8081", &place.rest_port.to_string());
        let config = config.replace("6123", &free_port().to_string());
        fs::write(place.path("conf/config.yaml"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where cargo builds.
    fn target(&self) -> PathBuf {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(3).unwrap().to_owned()
    }

    fn bash(&self) -> Command {
        let mut bash = Command::new("bash");
        bash.current_dir(&self.checkout)
            .env("CARGO_TARGET_DIR", self.target())
            .env("TARGET", self.path("target"))
            .env("TMPDIR", self.directory.path())
            .env("MILLSTREAM_BINARY", self.path("target/release/millstream"))
            .env("MILLSTREAM_CONF_DIR", self.path("conf"))
            .env("MILLSTREAM_LOG_DIR", self.path("target/log"))
            .env("MILLSTREAM_PID_DIR", self.path("pid"));
        bash
    }

    /// Runs the script; its output and whether it succeeded.
    fn run(&self, script: &str) -> (String, bool) {
        let script = script
            .replace("$MILLSTREAM/target/", "$TARGET/")
            .replace("\"$MILLSTREAM\"/target/", "\"$TARGET\"/")
            .replace(" target/release/", " \"$TARGET\"/release/")
            .replace("8081", &self.rest_port.to_string());
        fs::write(self.path("guide.sh"), script).unwrap();
        let output = fs::File::create(self.path("output")).unwrap();
        let mut bash = self.bash();
        bash.arg(self.path("guide.sh")).stdin(Stdio::null());
        bash.stdout(output.try_clone().unwrap()).stderr(output);
        let success = bash.status().unwrap().success();
        let output = fs::read(self.path("output")).unwrap();
        let output = String::from_utf8_lossy(&output);
        (output.replace(&self.rest_port.to_string(), "8081"), success)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for daemon in ["taskmanager", "jobmanager"] {
            let mut stop = self.bash();
            stop.arg(self.checkout.join(format!("scripts/{daemon}.sh"))).arg("stop-all");
            let _ = stop.stdout(Stdio::null()).status();
        }
    }
}

#[test]
fn every_command_of_the_first_job_works() {
    let place = Place::new();
    let guide = fs::read_to_string(place.checkout.join("docs/guide/first-job.md")).unwrap();
    let blocks = blocks(&guide);
    let (output, success) = place.run(&script(&blocks));
    assert!(success, "a command of the guide failed:\n{output}");
    check(&blocks, &output);
}

#[test]
fn dots_stand_for_any_text() {
    assert!(is_shown("Job … has finished.", "Job 4711 has finished."));
    assert!(!is_shown("Job … has finished.", "Job 4711 has failed."));
}
