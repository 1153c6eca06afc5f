//! Shared by the tests of the examples: the same files go through awk and through the job.

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream::RuntimeMode;

/// The same random numbers at every call, each below the limit that is asked for.
pub fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |limit| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % limit
    }
}

/// Holds a job to the program `NAME.awk` in both modes and at two parallelisms: `run` gives the
/// job's lines in the order of awk's, which are sorted and given back.
pub fn hold_to_awk(
    name: &str,
    make_files: impl Fn(&Path),
    run: impl Fn(&Path, u32, RuntimeMode) -> Vec<String>,
) -> Vec<String> {
    let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    make_files(&directory);
    let expected = awk(name, &directory);
    for parallelism in [1, 4] {
        for mode in [RuntimeMode::Batch, RuntimeMode::Streaming] {
            let mut got = run(&directory, parallelism, mode);
            got.sort();
            assert!(got == expected, "{mode:?} at parallelism {parallelism}: {got:#?}");
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
    expected
}

fn awk(name: &str, directory: &Path) -> Vec<String> {
    let scripts = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("reference");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    let mut awk = Command::new("awk");
    awk.arg("-f").arg(scripts.join(format!("{name}.awk"))).args(files).env("LC_ALL", "C");
    let output = awk.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
