//! Files that containers get, on the cluster's file system.
//!
//! Executables lie in a directory that the user's applications share, each under the SHA-256 of its
//! bytes, so that one that is there is not staged again, and a node that has it does not fetch it
//! again. It is used only if it is ours, as long as it should be, and holds the bytes that it
//! should hold: NodeManagers look at nothing but its time. Everything else lies in a directory
//! of the application, which goes with it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream_security::SecretBytes;
use millstream_storage::{
    CreateOptions, FilePath, FileStatus, FileSystem, IfExists, StorageError, read_all,
};
use millstream_types::ArtifactHash;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::ids::ApplicationId;
use crate::proto::container::Resource;

/// Below the staging directory, all that is Millstream's.
const FOLDER: &str = ".millstream";
const CACHE: &str = "cache";
/// What the owner's client shows to the cluster, readable for the owner alone.
pub const CLIENT_SECRET: &str = "client.secret";
const CLIENT_SECRET_BYTES_MAX: u64 = 64 << 10;
const PIECE_BYTES: usize = 4 << 20;
const SHARED_DIRECTORY: u32 = 0o755;
const EXECUTABLE: u32 = 0o755;
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Why a file could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// A file of this machine cannot be read.
    #[error("failed to read {path}")]
    Local {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The cluster's file system refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A file of this machine, by the hash of its bytes.
#[derive(Debug, Clone)]
pub struct Executable {
    /// Where it is.
    pub path: PathBuf,
    /// Of its bytes.
    pub hash: ArtifactHash,
    /// How many.
    pub size: u64,
}

impl Executable {
    /// Reads the file beside what the runtime does.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read_aside(path: PathBuf) -> Result<Self, StagingError> {
        let read = path.clone();
        let read = tokio::task::spawn_blocking(move || Self::read(&read)).await;
        read.unwrap_or_else(|panic| {
            Err(StagingError::Local { path, source: std::io::Error::other(panic) })
        })
    }

    /// Reads the file; blocking.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self, StagingError> {
        let failed = |source| StagingError::Local { path: path.to_owned(), source };
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let mut hash = Sha256::new();
        let size = std::io::copy(&mut file, &mut hash).map_err(failed)?;
        Ok(Self { path: path.to_owned(), hash: ArtifactHash::new(hash.finalize().into()), size })
    }
}

/// The directories of one user's applications.
#[derive(Debug)]
pub struct Staging<'a> {
    files: &'a dyn FileSystem,
    root: FilePath,
    user: String,
}

impl<'a> Staging<'a> {
    /// Below this directory (`yarn.staging-directory`), as this user.
    #[must_use]
    pub fn new(files: &'a dyn FileSystem, directory: &FilePath, user: &str) -> Self {
        Self { files, root: directory.join(FOLDER), user: user.to_owned() }
    }

    /// The directory of one application.
    #[must_use]
    pub fn application(&self, id: ApplicationId) -> FilePath {
        self.root.join(id.to_string())
    }

    /// An executable in the shared directory, staged unless it is there.
    ///
    /// # Errors
    /// It cannot be read here or written there.
    pub async fn executable(
        &self,
        executable: &Executable,
        link: &str,
    ) -> Result<Resource, StagingError> {
        let directory = self.root.join(CACHE).join(executable.hash.to_string());
        let path = directory.join("executable");
        match self.files.status(&path).await {
            Ok(status) if self.is_sound(&status, executable).await? => {
                return self.resource(status, link, false).await;
            }
            // Not ours, or not what its name says: it is left alone and not used.
            Ok(status) => {
                tracing::warn!(path = %path, owner = status.owner, "a staged file is not ours");
                return self.planted(executable, link).await;
            }
            Err(StorageError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.files.make_directories(&directory, Some(SHARED_DIRECTORY)).await?;
        let partial = directory.join(format!("{}.part", random_name()));
        self.copy(&executable.path, &partial, EXECUTABLE).await?;
        match self.files.publish(&partial, &path, IfExists::Refuse).await {
            Ok(()) => {}
            // Somebody was faster.
            Err(StorageError::AlreadyExists { .. }) => {
                self.files.delete(&partial, false).await?;
            }
            Err(error) => return Err(error.into()),
        }
        let status = self.files.status(&path).await?;
        match self.is_sound(&status, executable).await? {
            true => self.resource(status, link, false).await,
            false => self.planted(executable, link).await,
        }
    }

    /// Beside a file that somebody put in its place, under a name that nobody can foresee.
    async fn planted(&self, executable: &Executable, link: &str) -> Result<Resource, StagingError> {
        let directory = self.root.join(CACHE).join(random_name());
        self.files.make_directories(&directory, Some(PRIVATE_DIRECTORY)).await?;
        self.file(&executable.path, &directory, link).await
    }

    /// Whether a staged file is ours and holds these bytes.
    async fn is_sound(
        &self,
        status: &FileStatus,
        expected: &Executable,
    ) -> Result<bool, StagingError> {
        if status.is_directory() || status.owner != self.user || status.length != expected.size {
            return Ok(false);
        }
        let mut reader = self.files.open(&status.path).await?;
        let mut hash = Sha256::new();
        let (mut piece, mut offset) = (vec![0; PIECE_BYTES], 0);
        loop {
            let read = reader.read_at(offset, &mut piece).await?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hash.update(bytes);
            offset += read as u64;
        }
        Ok(ArtifactHash::new(hash.finalize().into()) == expected.hash)
    }

    /// A file for an application alone, in its directory, which is made.
    ///
    /// # Errors
    /// It cannot be read here or written there.
    pub async fn file(
        &self,
        local: &Path,
        directory: &FilePath,
        link: &str,
    ) -> Result<Resource, StagingError> {
        self.files.make_directories(directory, Some(PRIVATE_DIRECTORY)).await?;
        let path = directory.join(link);
        self.copy(local, &path, EXECUTABLE & 0o700).await?;
        self.staged(&path, link, false).await
    }

    /// Bytes for an application alone, in its directory, which is made.
    ///
    /// # Errors
    /// They cannot be written.
    pub async fn bytes(
        &self,
        bytes: Bytes,
        directory: &FilePath,
        link: &str,
    ) -> Result<Resource, StagingError> {
        self.files.make_directories(directory, Some(PRIVATE_DIRECTORY)).await?;
        let path = directory.join(link);
        let options = CreateOptions::NEW.permission(PRIVATE_FILE);
        let mut writer = self.files.create(&path, options).await?;
        writer.write(bytes).await?;
        writer.close().await?;
        self.staged(&path, link, false).await
    }

    /// What the owner's client shows to an application's cluster, from where it was staged.
    ///
    /// # Errors
    /// It is not there or not readable: the cluster is another user's, or has ended.
    pub async fn client_secret(&self, id: ApplicationId) -> Result<SecretBytes, StagingError> {
        let path = self.application(id).join(CLIENT_SECRET);
        let bytes = read_all(self.files, &path, CLIENT_SECRET_BYTES_MAX).await?;
        Ok(SecretBytes::new(bytes))
    }

    /// A file that is on the cluster's file system already.
    ///
    /// # Errors
    /// It is not there, or is no file.
    pub async fn staged(
        &self,
        path: &FilePath,
        link: &str,
        archive: bool,
    ) -> Result<Resource, StagingError> {
        let status = self.files.status(path).await?;
        if status.is_directory() {
            let reason = "it is a directory, and a file is expected".to_owned();
            let (action, path) = ("use", path.clone());
            return Err(StorageError::Other { action, path, reason }.into());
        }
        self.resource(status, link, archive).await
    }

    /// Files for every container, from here or from the cluster's file system: a file under its
    /// name, a directory with all that is in it under its own.
    ///
    /// # Errors
    /// One cannot be read, or not be written.
    pub async fn shipped(
        &self,
        path: &FilePath,
        archive: bool,
        directory: &FilePath,
    ) -> Result<Vec<Resource>, StagingError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("shipped").to_owned();
        let Some(local) = path.local() else {
            return self.provided_below(path, &name, archive).await;
        };
        let failed = |source| StagingError::Local { path: local.to_owned(), source };
        let mut resources = Vec::new();
        let mut pending = vec![(local.to_owned(), name)];
        while let Some((file, link)) = pending.pop() {
            if !std::fs::metadata(&file).map_err(failed)?.is_dir() {
                let target = directory.join(link.replace('/', "_"));
                self.files.make_directories(directory, Some(PRIVATE_DIRECTORY)).await?;
                self.copy(&file, &target, EXECUTABLE & 0o700).await?;
                resources.push(self.staged(&target, &link, archive).await?);
                continue;
            }
            for entry in std::fs::read_dir(&file).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let below = entry.file_name();
                pending.push((entry.path(), format!("{link}/{}", below.to_string_lossy())));
            }
        }
        Ok(resources)
    }

    /// All files of a directory that is on the cluster's file system already, each under its path
    /// below that directory.
    ///
    /// # Errors
    /// It cannot be listed.
    pub async fn provided(&self, directory: &FilePath) -> Result<Vec<Resource>, StagingError> {
        self.provided_below(directory, "", false).await
    }

    async fn provided_below(
        &self,
        path: &FilePath,
        name: &str,
        archive: bool,
    ) -> Result<Vec<Resource>, StagingError> {
        let mut resources = Vec::new();
        let mut pending = vec![(self.files.status(path).await?, name.to_owned())];
        while let Some((status, link)) = pending.pop() {
            if !status.is_directory() {
                resources.push(self.resource(status, &link, archive).await?);
                continue;
            }
            for below in self.files.list(&status.path).await? {
                let own = below.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let link = if link.is_empty() { own.to_owned() } else { format!("{link}/{own}") };
                pending.push((below, link));
            }
        }
        Ok(resources)
    }

    async fn resource(
        &self,
        status: FileStatus,
        link: &str,
        archive: bool,
    ) -> Result<Resource, StagingError> {
        Ok(Resource {
            link: link.to_owned(),
            uri: status.path.to_string(),
            size: i64::try_from(status.length).unwrap_or(i64::MAX),
            modified_ms: i64::try_from(status.modified_ms()).unwrap_or(i64::MAX),
            archive,
            public: self.is_public(&status).await?,
        })
    }

    /// Whether everybody may read the file and pass all directories above it: only then a
    /// NodeManager, as nobody in particular, can.
    async fn is_public(&self, status: &FileStatus) -> Result<bool, StagingError> {
        let mut passes = status.permission & 0o004 != 0;
        let mut above = status.path.parent();
        while let Some(directory) = above.filter(|_| passes) {
            passes = self.files.status(&directory).await?.permission & 0o001 != 0;
            above = directory.parent();
        }
        Ok(passes)
    }

    async fn copy(&self, from: &Path, to: &FilePath, mode: u32) -> Result<(), StagingError> {
        let failed = |source| StagingError::Local { path: from.to_owned(), source };
        let mut file = tokio::fs::File::open(from).await.map_err(failed)?;
        let mut writer = self.files.create(to, CreateOptions::NEW.permission(mode)).await?;
        loop {
            let mut piece = bytes::BytesMut::with_capacity(PIECE_BYTES);
            while piece.len() < PIECE_BYTES && file.read_buf(&mut piece).await.map_err(failed)? > 0
            {
            }
            if piece.is_empty() {
                break;
            }
            writer.write(piece.freeze()).await?;
        }
        Ok(writer.close().await?)
    }

    /// The applications that have a directory here, and since when.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub async fn applications(&self) -> Result<Vec<(ApplicationId, FileStatus)>, StagingError> {
        let listed = match self.files.list(&self.root).await {
            Ok(listed) => listed,
            Err(StorageError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let named = |status: FileStatus| {
            let name = status.path.file_name()?.to_str()?.parse().ok()?;
            Some((name, status))
        };
        Ok(listed.into_iter().filter_map(named).collect())
    }

    /// Removes the directory of an application; one that is not there is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, id: ApplicationId) -> Result<(), StagingError> {
        self.files.delete(&self.application(id), true).await?;
        Ok(())
    }
}

/// A name that nobody can foresee.
fn random_name() -> String {
    let mut bytes = [0; 16];
    // Without randomness the name is only less surprising: creating refuses one that exists.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use millstream_storage::LocalFileSystem;

    use super::*;

    /// The number of the user that runs this, as the local file system names owners.
    fn user() -> String {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/self").unwrap().uid().to_string()
    }

    fn world() -> (tempfile::TempDir, FilePath, Executable) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, "a program").unwrap();
        let executable = Executable::read(&program).unwrap();
        let root = FilePath::from(dir.path().join("home").as_path());
        std::fs::create_dir(dir.path().join("home")).unwrap();
        (dir, root, executable)
    }

    #[tokio::test]
    async fn an_executable_is_staged_once() {
        let (_dir, root, executable) = world();
        let user = user();
        let staging = Staging::new(&LocalFileSystem, &root, &user);
        let first = staging.executable(&executable, "millstream").await.unwrap();
        let second = staging.executable(&executable, "millstream").await.unwrap();
        assert_eq!(first, second);
        assert!(first.uri.contains(&executable.hash.to_string()), "{}", first.uri);
        assert_eq!(std::fs::read_to_string(first.uri).unwrap(), "a program");
    }

    #[tokio::test]
    async fn a_planted_file_is_not_used() {
        let (_dir, root, executable) = world();
        let user = user();
        let staging = Staging::new(&LocalFileSystem, &root, &user);
        let honest = staging.executable(&executable, "millstream").await.unwrap();
        std::fs::write(&honest.uri, "b program").unwrap();
        let other = staging.executable(&executable, "millstream").await.unwrap();
        assert_ne!(honest.uri, other.uri);
        assert_eq!(std::fs::read_to_string(other.uri).unwrap(), "a program");
        let of_nobody = Staging::new(&LocalFileSystem, &root, "nobody");
        let third = of_nobody.executable(&executable, "millstream").await.unwrap();
        assert_ne!(third.uri, honest.uri);
    }

    #[tokio::test]
    async fn only_what_everybody_can_reach_is_public() {
        let (dir, root, executable) = world();
        let user = user();
        let staging = Staging::new(&LocalFileSystem, &root, &user);
        let home = dir.path().join("home");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for (mode, public) in [(0o700, false), (0o711, true)] {
            std::fs::set_permissions(&home, std::fs::Permissions::from_mode(mode)).unwrap();
            let staged = staging.executable(&executable, "x").await.unwrap();
            assert_eq!(staged.public, public, "{mode:o}");
        }
        let own = staging.application("application_1_0001".parse().unwrap());
        let bytes = staging.bytes(Bytes::from_static(b"x"), &own, "job.graph").await.unwrap();
        assert!(!bytes.public);
        assert_eq!(staging.applications().await.unwrap().len(), 1);
        staging.remove("application_1_0001".parse().unwrap()).await.unwrap();
        assert_eq!(staging.applications().await.unwrap().len(), 0);
    }
}
