//! The built programs that tests run.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Where cargo puts this profile's programs. Tests are in a folder `deps` there.
fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let profile = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    profile.to_owned()
}

/// A program of this workspace: the engine `millstream`, or one of this package.
///
/// # Panics
/// It does not exist and cannot be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    built(profile_dir().join(name))
}

/// A program of the package `millstream-examples`.
///
/// # Panics
/// It does not exist and cannot be built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built(profile_dir().join("examples").join(name))
}

fn built(path: PathBuf) -> PathBuf {
    if !path.exists() {
        static BUILT: OnceLock<()> = OnceLock::new();
        BUILT.get_or_init(build);
    }
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// The folder of the workspace whose tests run. Cargo's variable is read at run time: at build time
/// it may have named another checkout that shares this one's target directory.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("tests are run by cargo");
    PathBuf::from(package).parent().unwrap().to_owned()
}

/// Cargo builds the binaries of a test's own package only; CI has built the others before.
fn build() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--bins", "--examples"]);
    cargo.arg("--workspace");
    if profile_dir().ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "failed to build the programs that tests run");
}
