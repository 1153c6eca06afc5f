//! Checks whether a file can be run on this machine, without running it.
//!
//! Reads only the ELF header, the program headers and the table of needed symbol versions, each
//! piece with a limit, for files of any size and content.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;

/// A version of the GNU C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GlibcVersion {
    /// Always 2 so far.
    pub major: u32,
    /// Counts up twice a year.
    pub minor: u32,
}

impl GlibcVersion {
    /// The library that this process runs with; `None` without one.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        #[cfg(target_env = "gnu")]
        {
            // SAFETY: takes nothing and returns a string that is never freed or changed.
            let text = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
            text.to_str().ok()?.parse().ok()
        }
        #[cfg(not(target_env = "gnu"))]
        None
    }
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for GlibcVersion {
    type Err = std::num::ParseIntError;

    /// Reads `2.36` and `2.2.5`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let mut number = || parts.next().unwrap_or_default().parse();
        Ok(Self { major: number()?, minor: number()? })
    }
}

/// An executable for this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArtifactInfo {
    /// Its size in bytes.
    pub size: u64,
    /// The newest version of the GNU C library that it asks for; `None` when it asks for none.
    pub glibc: Option<GlibcVersion>,
}

impl ArtifactInfo {
    /// Checks that the artifact starts where the C library has this version.
    ///
    /// # Errors
    /// [`ArtifactError::NewerGlibc`].
    pub fn check_glibc(&self, workers: GlibcVersion) -> Result<(), ArtifactError> {
        match self.glibc {
            Some(needed) if needed > workers => Err(ArtifactError::NewerGlibc { needed, workers }),
            _ => Ok(()),
        }
    }
}

/// The reason why a file is no artifact for this machine.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is no such file.
    #[error("the artifact does not exist")]
    Missing,
    /// It is there and cannot be read.
    #[error("the artifact cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a directory, a device or the like.
    #[error("the artifact is not a regular file")]
    NotAFile,
    /// It has no bytes.
    #[error("the artifact is empty")]
    Empty,
    /// It is another kind of file.
    #[error("the artifact is not a Linux executable (ELF): build one with cargo build --release")]
    NotElf,
    /// It was built for another kind of machine.
    #[error("the artifact is for {artifact}, the cluster runs {machine}")]
    OtherArchitecture {
        /// The artifact's.
        artifact: String,
        /// Ours.
        machine: &'static str,
    },
    /// It is a library or an object file.
    #[error("the artifact is {0}, not an executable")]
    NotExecutable(&'static str),
    /// It was cut or changed.
    #[error("the artifact is damaged: {0}")]
    Damaged(&'static str),
    /// It would not start on the TaskManagers.
    #[error(
        "the artifact needs glibc {needed} but the workers have {workers}: build it on an older \
         system or with cargo-zigbuild for glibc {workers}"
    )]
    NewerGlibc {
        /// The version that the artifact asks for.
        needed: GlibcVersion,
        /// The version of the TaskManagers.
        workers: GlibcVersion,
    },
}

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PROGRAM_HEADERS_MAX: u16 = 256;
const DYNAMIC_BYTES_MAX: u64 = 64 << 10;
const NEEDED_FILES_MAX: u64 = 1024;
const VERSIONS_PER_FILE_MAX: u16 = 1024;
const VERSION_NAME_BYTES_MAX: usize = 64;

/// Looks at a file's headers.
///
/// # Errors
/// Every [`ArtifactError`] but `NewerGlibc`; each is a sentence for the user.
pub fn inspect_artifact(path: &Path) -> Result<ArtifactInfo, ArtifactError> {
    // Opening a pipe must not wait for its other end.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ArtifactError::Missing,
        _ => ArtifactError::Unreadable(error),
    })?;
    let metadata = file.metadata().map_err(ArtifactError::Unreadable)?;
    if !metadata.is_file() {
        return Err(ArtifactError::NotAFile);
    }
    let glibc = inspect(&file, metadata.len())?;
    Ok(ArtifactInfo { size: metadata.len(), glibc })
}

/// A file or, in tests, its bytes.
trait Source {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Source for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Bytes of the file with checked access to its little-endian numbers.
struct Piece(Vec<u8>);

impl Piece {
    fn read(
        source: &impl Source,
        offset: u64,
        length: usize,
        what: &'static str,
    ) -> Result<Self, ArtifactError> {
        let mut bytes = vec![0; length];
        // The kernel refuses offsets beyond the largest signed number.
        if i64::try_from(offset).is_err() {
            return Err(ArtifactError::Damaged(what));
        }
        let count = source.read(offset, &mut bytes).map_err(ArtifactError::Unreadable)?;
        if count < length { Err(ArtifactError::Damaged(what)) } else { Ok(Self(bytes)) }
    }

    fn number<const N: usize>(&self, at: usize) -> [u8; N] {
        at.checked_add(N)
            .and_then(|end| self.0.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.number(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.number(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.number(at))
    }
}

/// A program header.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;

fn inspect(source: &impl Source, size: u64) -> Result<Option<GlibcVersion>, ArtifactError> {
    if size == 0 {
        return Err(ArtifactError::Empty);
    }
    let mut magic = [0; 4];
    let count = source.read(0, &mut magic).map_err(ArtifactError::Unreadable)?;
    if count < 4 || magic != *b"\x7fELF" {
        return Err(ArtifactError::NotElf);
    }
    let header = Piece::read(source, 0, HEADER_BYTES, "its header is cut")?;
    check_machine(&header)?;
    let segments = segments(source, &header)?;
    let dynamic = segments.iter().find(|segment| segment.kind == DYNAMIC);
    let dynamic = dynamic.map(|segment| dynamic_section(source, segment)).transpose()?;
    let interpreted = segments.iter().any(|segment| segment.kind == INTERPRETER);
    let standalone = dynamic.as_ref().is_some_and(|dynamic| dynamic.position_independent);
    match header.u16(16) {
        2 => {}
        3 if interpreted || standalone => {}
        3 => return Err(ArtifactError::NotExecutable("a shared library")),
        1 => return Err(ArtifactError::NotExecutable("an object file")),
        4 => return Err(ArtifactError::NotExecutable("a core dump")),
        _ => return Err(ArtifactError::Damaged("its type is unknown")),
    }
    dynamic.map_or(Ok(None), |dynamic| newest_glibc(source, &segments, &dynamic))
}

fn check_machine(header: &Piece) -> Result<(), ArtifactError> {
    let [class, order] = header.number(4);
    let machine = if order == 2 { header.u16(18).swap_bytes() } else { header.u16(18) };
    let expected = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => machine,
    };
    if machine == expected && class == 2 && order == 1 {
        return Ok(());
    }
    let name = match (machine, class) {
        (62, 2) => "x86-64",
        (62, _) => "x32",
        (183, _) => "aarch64",
        (3, _) => "32-bit x86",
        (40, _) => "32-bit ARM",
        (21, _) => "ppc64",
        (22, _) => "s390x",
        (243, _) => "riscv",
        (258, _) => "loongarch",
        _ => "an unknown machine",
    };
    let artifact = match name {
        "an unknown machine" => format!("{name} (number {machine})"),
        _ => name.to_owned(),
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        other => other,
    };
    Err(ArtifactError::OtherArchitecture { artifact, machine })
}

fn segments(source: &impl Source, header: &Piece) -> Result<Vec<Segment>, ArtifactError> {
    let (offset, each, count) = (header.u64(32), header.u16(54), header.u16(56));
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(each) != PROGRAM_HEADER_BYTES || count > PROGRAM_HEADERS_MAX {
        return Err(ArtifactError::Damaged("its program headers are not as they should be"));
    }
    let length = usize::from(count) * PROGRAM_HEADER_BYTES;
    let table = Piece::read(source, offset, length, "its program headers are cut")?;
    Ok((0..usize::from(count))
        .map(|index| index * PROGRAM_HEADER_BYTES)
        .map(|at| Segment {
            kind: table.u32(at),
            offset: table.u64(at + 8),
            address: table.u64(at + 16),
            file_size: table.u64(at + 32),
        })
        .collect())
}

/// The entries of the dynamic section, with addresses of the loaded program.
#[derive(Default)]
struct Dynamic {
    position_independent: bool,
    strings: u64,
    needed: u64,
    needed_count: u64,
}

fn dynamic_section(source: &impl Source, segment: &Segment) -> Result<Dynamic, ArtifactError> {
    let length = usize::try_from(segment.file_size.min(DYNAMIC_BYTES_MAX)).unwrap_or(0);
    let table = Piece::read(source, segment.offset, length, "its dynamic section is cut")?;
    let mut found = Dynamic::default();
    for at in (0..length / 16).map(|index| index * 16) {
        let value = table.u64(at + 8);
        match table.u64(at) {
            0 => break,
            5 => found.strings = value,
            0x6fff_fffb => found.position_independent = value & 0x0800_0000 != 0,
            0x6fff_fffe => found.needed = value,
            0x6fff_ffff => found.needed_count = value,
            _ => {}
        }
    }
    Ok(found)
}

fn newest_glibc(
    source: &impl Source,
    segments: &[Segment],
    dynamic: &Dynamic,
) -> Result<Option<GlibcVersion>, ArtifactError> {
    const CUT: &str = "its table of needed versions is cut";
    if dynamic.needed == 0 {
        return Ok(None);
    }
    let file_offset = |address: u64| {
        segments
            .iter()
            .filter(|segment| segment.kind == LOAD)
            .find(|segment| {
                address.checked_sub(segment.address).is_some_and(|at| at < segment.file_size)
            })
            .and_then(|segment| (address - segment.address).checked_add(segment.offset))
            .ok_or(ArtifactError::Damaged("its dynamic section points nowhere"))
    };
    let strings = file_offset(dynamic.strings)?;
    let mut newest = None;
    let mut at = file_offset(dynamic.needed)?;
    for _ in 0..dynamic.needed_count.min(NEEDED_FILES_MAX) {
        let file = Piece::read(source, at, 16, CUT)?;
        let mut version_at = at.saturating_add(file.u32(8).into());
        for _ in 0..file.u16(2).min(VERSIONS_PER_FILE_MAX) {
            let version = Piece::read(source, version_at, 16, CUT)?;
            let name = name(source, strings.saturating_add(version.u32(8).into()))?;
            newest = newest.max(glibc_version(&name));
            match version.u32(12) {
                0 => break,
                next => version_at = version_at.saturating_add(next.into()),
            }
        }
        match file.u32(12) {
            0 => break,
            next => at = at.saturating_add(next.into()),
        }
    }
    Ok(newest)
}

fn name(source: &impl Source, offset: u64) -> Result<Vec<u8>, ArtifactError> {
    let mut bytes = vec![0; VERSION_NAME_BYTES_MAX];
    if i64::try_from(offset).is_err() {
        return Err(ArtifactError::Damaged("the name of a version lies nowhere"));
    }
    let count = source.read(offset, &mut bytes).map_err(ArtifactError::Unreadable)?;
    bytes.truncate(count);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

fn glibc_version(name: &[u8]) -> Option<GlibcVersion> {
    std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.parse().ok()
}

#[cfg(test)]
mod tests;
