//! Tests of the artifact's check: real executables, changed ones, and any bytes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

impl Source for [u8] {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Source for Vec<u8> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read(offset, buffer)
    }
}

static EXECUTABLE: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(std::env::current_exe().unwrap()).unwrap());

fn sentence(bytes: Vec<u8>) -> String {
    inspect(&bytes, bytes.len() as u64).unwrap_err().to_string()
}

fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut copy = EXECUTABLE.clone();
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    copy
}

#[test]
fn this_very_program_is_an_artifact() {
    let info = inspect_artifact(&std::env::current_exe().unwrap()).unwrap();
    assert_eq!(info.size, EXECUTABLE.len() as u64);
    let needed = info.glibc.expect("tests are linked against glibc");
    let ours = GlibcVersion::of_this_machine().unwrap();
    assert!(needed > GlibcVersion { major: 2, minor: 10 } && needed <= ours, "{needed} {ours}");
    info.check_glibc(ours).unwrap();
    let refused = info.check_glibc(GlibcVersion { major: 2, minor: 3 }).unwrap_err().to_string();
    assert!(refused.contains("but the workers have 2.3: build it"), "{refused}");
}

#[test]
fn every_fault_has_its_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let check = |path: PathBuf| inspect_artifact(&path).unwrap_err().to_string();
    assert_eq!(check(dir.path().join("none")), "the artifact does not exist");
    assert_eq!(check(dir.path().to_owned()), "the artifact is not a regular file");
    assert_eq!(check(file("empty", b"")), "the artifact is empty");
    assert!(check(file("script", b"#!/bin/sh\n")).contains("is not a Linux executable"));
    assert!(check(file("jar", b"PK\x03\x04")).contains("is not a Linux executable"));
    assert!(check(file("cut", &EXECUTABLE[..40])).contains("damaged: its header is cut"));
    if !rustix::process::getuid().is_root() {
        let path = file("secret", b"x");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        assert!(check(path).contains("cannot be read"));
    }
}

#[test]
fn a_pipe_does_not_block_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(matches!(inspect_artifact(&path), Err(ArtifactError::NotAFile)));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_machines_and_kinds_are_named() {
    assert_eq!(
        sentence(patched(18, &183_u16.to_le_bytes())),
        "the artifact is for aarch64, the cluster runs x86-64"
    );
    assert!(sentence(patched(18, &[0x34, 0x12])).contains("an unknown machine (number 4660)"));
    assert!(sentence(patched(4, &[1])).contains("for x32"));
    let mut big_endian = patched(18, &[0, 22]);
    big_endian[5] = 2;
    assert!(sentence(big_endian).contains("for s390x"));
    assert_eq!(sentence(patched(16, &[1, 0])), "the artifact is an object file, not an executable");
    assert!(sentence(patched(56, &[255, 255])).contains("program headers are not as they should"));
    assert!(sentence(patched(32, &[255; 8])).contains("program headers are cut"));
}

#[test]
fn a_shared_library_is_no_executable() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.contains("libgcc_s").then(|| PathBuf::from(path))
    });
    let error = inspect_artifact(&library.unwrap()).unwrap_err().to_string();
    assert_eq!(error, "the artifact is a shared library, not an executable");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = inspect(&bytes, bytes.len() as u64);
    }

    #[test]
    fn no_change_of_a_real_header_makes_it_panic(
        changes in proptest::collection::vec((0_usize..1024, any::<u8>()), 1..16),
        cut in 64_usize..65_536,
    ) {
        let mut bytes = EXECUTABLE[..cut.min(EXECUTABLE.len())].to_vec();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at).filter(|_| at >= 20) {
                *byte = value;
            }
        }
        let _ = inspect(&bytes, bytes.len() as u64);
    }
}
