//! `scripts/soak.sh`, with a stand-in for cargo that says how it is called.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const CARGO: &str = "#!/bin/sh\n\
    echo \"$MILLSTREAM_SOAK for $MILLSTREAM_SOAK_MINUTES minutes: cargo $*\"\n";

fn soak(name: &str, arguments: &[&str]) -> Output {
    let bin = std::env::temp_dir().join(format!("soak-{name}-{}", std::process::id()));
    fs::create_dir_all(&bin).unwrap();
    // All that Hadoop's daemons need is there, or the script would install it.
    for program in ["cargo", "java", "mvn"] {
        fs::write(bin.join(program), CARGO).unwrap();
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../scripts/soak.sh");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new(script).args(arguments).env("PATH", path).output().unwrap();
    fs::remove_dir_all(bin).unwrap();
    output
}

fn last_line(name: &str, arguments: &[&str]) -> String {
    let output = soak(name, arguments);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    printed.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn minutes_and_the_arguments_of_cargo_test_may_be_given() {
    let cases: [(&[&str], &str); 5] = [
        (&[], "1 for 30 minutes: cargo test --release --no-fail-fast --workspace"),
        (&["--minutes", "5"], "1 for 5 minutes: cargo test --release --no-fail-fast --workspace"),
        (&["--minutes=7", "-p", "a"], "1 for 7 minutes: cargo test --release --no-fail-fast -p a"),
        (&["--test", "yarn"], "1 for 30 minutes: cargo test --release --no-fail-fast --test yarn"),
        (
            &["--minutes", "2", "--workspace", "--", "--nocapture"],
            "1 for 2 minutes: cargo test --release --no-fail-fast --workspace -- --nocapture",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(last_line("good", arguments), expected, "{arguments:?}");
    }
}

#[test]
fn minutes_that_are_no_number_are_refused_before_anything_is_built() {
    for arguments in [&["--minutes"][..], &["--minutes", "0"], &["--minutes", "half"]] {
        let output = soak("bad", arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(complaint.contains("--minutes needs a whole number above 0"), "{complaint}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn help_shows_the_usage() {
    let output = soak("help", &["--help"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.starts_with("usage: soak.sh [--minutes N]"), "{output:?}");
}
