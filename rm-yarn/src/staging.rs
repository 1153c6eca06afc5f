//! Files that containers get, on the cluster's file system.
//!
//! Executables lie in a directory that the user's applications share, each under the SHA-256 of its
//! bytes, so that one that is there is not staged again, and a node that has it does not fetch it
//! again. It is used only if it is ours, as long as it should be, and holds the bytes that it
//! should hold: NodeManagers look at nothing but its time. Everything else lies in a directory
//! of the application, which goes with it.
//!
//! Several YARN clusters may share a file system and a user's home. A directory says to which
//! cluster it belongs ([`Cluster`]); only directories of this one are ever looked at or removed.

mod shipping;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millstream_hadoop_config::{HadoopConfigError, HadoopConfiguration};
use millstream_rm_driver::Executable;
use millstream_security::SecretBytes;
use millstream_storage::{
    CreateOptions, FilePath, FileStatus, FileSystem, IfExists, StorageError, read_all,
};
use millstream_types::ArtifactHash;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::ids::ApplicationId;
use crate::launch_script::{LinkName, UnsafeName};
use crate::proto::container::Resource;
use crate::resource_manager::{Service, addresses};
pub use shipping::Shipment;

/// Below the staging directory, all that is Millstream's.
const FOLDER: &str = ".millstream";
const CACHE: &str = "cache";
/// The file with the secret that identifies the owner's client to the cluster; readable for the
/// owner alone.
pub const CLIENT_SECRET: &str = "client.secret";
const CLIENT_SECRET_BYTES_MAX: u64 = 64 << 10;
/// In an application's directory, the cluster that it belongs to.
const CLUSTER: &str = "cluster";
const CLUSTER_BYTES_MAX: u64 = 64 << 10;
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
    /// A file cannot be given to containers as it is.
    #[error("cannot ship {path}: {why}")]
    Refused {
        /// The file.
        path: String,
        /// Why not, and what to do.
        why: String,
    },
    /// There is no file system for a path.
    #[error("{path}: {why}")]
    NoFileSystem {
        /// The path.
        path: FilePath,
        /// Why not.
        why: String,
    },
}

/// A YARN cluster, by what its clients are configured with: it is the same as long as they find it
/// at the same addresses. `localhost` is another cluster on each machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster(String);

impl Cluster {
    /// The one that this configuration leads to.
    ///
    /// # Errors
    /// It leads to none.
    pub fn of(hadoop: &HadoopConfiguration) -> Result<Self, HadoopConfigError> {
        let mut addresses = addresses(hadoop, Service::Client.key(), Service::Client.port())?;
        addresses.sort_unstable();
        let is_here = |address: &String| {
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            matches!(host, "localhost" | "0.0.0.0" | "[::1]" | "[::]") || host.starts_with("127.")
        };
        let machine = match addresses.iter().any(is_here) {
            true => machine(),
            false => String::new(),
        };
        let name = hadoop.get_or("yarn.resourcemanager.cluster-id", "");
        Ok(Self(format!("name={name}\naddresses={}\nmachine={machine}\n", addresses.join(","))))
    }
}

/// The name of this machine.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds the file system of a path that is not on that of the staging directory, or says why there
/// is none.
pub type Elsewhere = dyn Fn(&FilePath) -> Result<Arc<dyn FileSystem>, String> + Send + Sync;

/// Reads an executable on a blocking thread of the runtime.
///
/// # Errors
/// The file cannot be read.
pub async fn read_aside(path: PathBuf) -> Result<Executable, StagingError> {
    let read = path.clone();
    let read = tokio::task::spawn_blocking(move || read_executable(&read)).await;
    read.unwrap_or_else(|panic| {
        Err(StagingError::Local { path, source: std::io::Error::other(panic) })
    })
}

/// Reads a file of this machine; blocking.
fn read_executable(path: &Path) -> Result<Executable, StagingError> {
    let failed = |source| StagingError::Local { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let size = std::io::copy(&mut file, &mut hash).map_err(failed)?;
    let hash = ArtifactHash::new(hash.finalize().into());
    Ok(Executable { path: path.to_owned(), hash, size })
}

/// The directories of one user's applications on one cluster.
pub struct Staging<'a> {
    files: &'a dyn FileSystem,
    root: FilePath,
    user: String,
    cluster: Cluster,
    elsewhere: Option<&'a Elsewhere>,
}

impl fmt::Debug for Staging<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'a> Staging<'a> {
    /// Below this directory (`yarn.staging-directory`), as this user, for applications of this
    /// cluster.
    #[must_use]
    pub fn new(
        files: &'a dyn FileSystem,
        directory: &FilePath,
        user: &str,
        cluster: Cluster,
    ) -> Self {
        let (root, user) = (directory.join(FOLDER), user.to_owned());
        Self { files, root, user, cluster, elsewhere: None }
    }

    /// Files may be on other file systems, too, which are found by this.
    #[must_use]
    pub fn elsewhere(mut self, elsewhere: &'a Elsewhere) -> Self {
        self.elsewhere = Some(elsewhere);
        self
    }

    /// The file system of a path: that of the staging directory, or another.
    fn files_of(&self, path: &FilePath) -> Result<Files<'a>, StagingError> {
        let own = (self.root.scheme(), self.root.authority());
        if (path.scheme(), path.authority()) == own {
            return Ok(Files::Own(self.files));
        }
        let missing = || Err("it is on another file system than the staging directory".to_owned());
        let found = self.elsewhere.map_or_else(missing, |elsewhere| elsewhere(path));
        let path = || path.clone();
        found.map(Files::Other).map_err(|why| StagingError::NoFileSystem { path: path(), why })
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
            // Another client was faster.
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

    /// Stages the executable in a private directory with an unpredictable name, because the cached
    /// file was replaced by another user.
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

    /// The secret that identifies the owner's client to an application's cluster, from the staging
    /// directory.
    ///
    /// # Errors
    /// The file is absent or not readable: the cluster is another user's, or has ended.
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
        let status = self.files_of(path)?.status(path).await?;
        if status.is_directory() {
            let reason = "it is a directory, and a file is expected".to_owned();
            let (action, path) = ("use", path.clone());
            return Err(StorageError::Other { action, path, reason }.into());
        }
        self.resource(status, link, archive).await
    }

    async fn resource(
        &self,
        status: FileStatus,
        link: &str,
        archive: bool,
    ) -> Result<Resource, StagingError> {
        // Its last part is a path on every node that fetches it.
        let name = status.path.file_name().map(|name| name.to_string_lossy());
        for name in [link, &name.unwrap_or_default()] {
            let refused = |error: UnsafeName| StagingError::Refused {
                path: status.path.to_string().escape_debug().to_string(),
                why: error.to_string(),
            };
            LinkName::new(name).map_err(refused)?;
        }
        Ok(Resource {
            link: link.to_owned(),
            uri: status.path.to_string(),
            size: i64::try_from(status.length).unwrap_or(i64::MAX),
            modified_ms: i64::try_from(status.modified_ms()).unwrap_or(i64::MAX),
            archive,
            public: self.is_public(&status).await?,
        })
    }

    /// Whether all users may read the file and pass all directories above it: only then a
    /// NodeManager, without the owner's rights, can.
    async fn is_public(&self, status: &FileStatus) -> Result<bool, StagingError> {
        let files = self.files_of(&status.path)?;
        let mut passes = status.permission & 0o004 != 0;
        let mut above = status.path.parent();
        while let Some(directory) = above.filter(|_| passes) {
            passes = files.status(&directory).await?.permission & 0o001 != 0;
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

    /// Makes the directory of a new application, which has none yet.
    ///
    /// # Errors
    /// There is one: another cluster has given the same name. Or it cannot be made.
    pub async fn create(&self, id: ApplicationId) -> Result<FilePath, StagingError> {
        let directory = self.application(id);
        match self.files.status(&directory).await {
            Err(StorageError::NotFound { .. }) => {}
            Ok(_) => return Err(StorageError::AlreadyExists { path: directory }.into()),
            Err(error) => return Err(error.into()),
        }
        self.files.make_directories(&directory, Some(PRIVATE_DIRECTORY)).await?;
        Ok(directory)
    }

    /// Says in an application's directory to which cluster it belongs.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn mark(&self, directory: &FilePath) -> Result<Resource, StagingError> {
        let mark = Bytes::from(self.cluster.to_string());
        self.bytes(mark, directory, CLUSTER).await
    }

    /// Whether a directory says that it belongs to this cluster.
    async fn is_ours(&self, directory: &FilePath) -> Result<bool, StagingError> {
        match read_all(self.files, &directory.join(CLUSTER), CLUSTER_BYTES_MAX).await {
            Ok(mark) => Ok(mark == self.cluster.to_string().into_bytes()),
            // Directories of earlier releases say nothing: they are left alone.
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The applications of this cluster that have a directory here, and since when.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub async fn applications(&self) -> Result<Vec<(ApplicationId, FileStatus)>, StagingError> {
        let listed = match self.files.list(&self.root).await {
            Ok(listed) => listed,
            Err(StorageError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut applications = Vec::new();
        for status in listed {
            let name = status.path.file_name().and_then(|name| name.to_str());
            let Some(id) = name.and_then(|name| name.parse().ok()) else { continue };
            if self.is_ours(&status.path).await? {
                applications.push((id, status));
            }
        }
        Ok(applications)
    }

    /// Removes the directory of an application of this cluster; one that is not there, or that
    /// does not say that it is of this cluster, is left as it is, and no error.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, id: ApplicationId) -> Result<(), StagingError> {
        let directory = self.application(id);
        if self.is_ours(&directory).await? {
            self.files.delete(&directory, true).await?;
        }
        Ok(())
    }

    /// Removes a directory that this client has just made.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn discard(&self, created: &FilePath) -> Result<(), StagingError> {
        self.files.delete(created, true).await?;
        Ok(())
    }
}

/// A file system, borrowed or opened for one path.
enum Files<'a> {
    Own(&'a dyn FileSystem),
    Other(Arc<dyn FileSystem>),
}

impl<'a> std::ops::Deref for Files<'a> {
    type Target = dyn FileSystem + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(files) => *files,
            Self::Other(files) => files.as_ref(),
        }
    }
}

/// An unpredictable name.
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

    fn cluster(address: &str) -> Cluster {
        let mut hadoop = HadoopConfiguration::new();
        hadoop.set("yarn.resourcemanager.address", address);
        Cluster::of(&hadoop).unwrap()
    }

    fn staging_of(root: &FilePath, user: &str) -> Staging<'static> {
        Staging::new(&LocalFileSystem, root, user, cluster("rm:8032"))
    }

    fn world() -> (tempfile::TempDir, FilePath, Executable) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, "a program").unwrap();
        let executable = read_executable(&program).unwrap();
        let root = FilePath::from(dir.path().join("home").as_path());
        std::fs::create_dir(dir.path().join("home")).unwrap();
        (dir, root, executable)
    }

    #[tokio::test]
    async fn an_executable_is_staged_once() {
        let (_dir, root, executable) = world();
        let user = user();
        let staging = staging_of(&root, &user);
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
        let staging = staging_of(&root, &user);
        let honest = staging.executable(&executable, "millstream").await.unwrap();
        std::fs::write(&honest.uri, "b program").unwrap();
        let other = staging.executable(&executable, "millstream").await.unwrap();
        assert_ne!(honest.uri, other.uri);
        assert_eq!(std::fs::read_to_string(other.uri).unwrap(), "a program");
        let of_nobody = staging_of(&root, "nobody");
        let third = of_nobody.executable(&executable, "millstream").await.unwrap();
        assert_ne!(third.uri, honest.uri);
    }

    #[tokio::test]
    async fn only_what_everybody_can_reach_is_public() {
        let (dir, root, executable) = world();
        let user = user();
        let staging = staging_of(&root, &user);
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
    }

    #[tokio::test]
    async fn only_directories_of_this_cluster_are_seen_and_removed() {
        let (_dir, root, _) = world();
        let (here, there) = (
            staging_of(&root, "alice"),
            Staging::new(&LocalFileSystem, &root, "alice", cluster("other:8032")),
        );
        let ids: Vec<ApplicationId> =
            (1..4).map(|id| format!("application_1_{id:04}").parse().unwrap()).collect();
        let mine = here.create(ids[0]).await.unwrap();
        here.mark(&mine).await.unwrap();
        let theirs = there.create(ids[1]).await.unwrap();
        there.mark(&theirs).await.unwrap();
        // As an earlier release has left it, or another program.
        let unmarked = here.create(ids[2]).await.unwrap();
        let seen = here.applications().await.unwrap();
        assert_eq!(seen.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ids[0]]);
        for id in &ids {
            here.remove(*id).await.unwrap();
        }
        let exists = |path: &FilePath| path.local().unwrap().exists();
        assert_eq!([&mine, &theirs, &unmarked].map(exists), [false, true, true]);
        let refused = here.create(ids[1]).await.unwrap_err().to_string();
        assert!(refused.contains("exists already"), "{refused}");
        here.remove(ids[0]).await.unwrap();
    }

    #[test]
    fn a_cluster_is_where_its_clients_find_it() {
        assert_eq!(cluster("rm"), cluster("rm:8032"));
        assert_ne!(cluster("rm:8032"), cluster("rm:9032"));
        assert!(cluster("rm").to_string().ends_with("machine=\n"));
        let here = format!("machine={}\n", machine());
        assert!(cluster("127.0.0.1:1").to_string().contains(&here));
        let ha = |ids: &str, name: &str| {
            let mut hadoop = HadoopConfiguration::new();
            hadoop.set("yarn.resourcemanager.ha.enabled", "true");
            hadoop.set("yarn.resourcemanager.ha.rm-ids", ids);
            hadoop.set("yarn.resourcemanager.hostname.rm1", "a");
            hadoop.set("yarn.resourcemanager.hostname.rm2", "b");
            hadoop.set("yarn.resourcemanager.cluster-id", name);
            Cluster::of(&hadoop).unwrap()
        };
        assert_eq!(ha("rm1,rm2", "x"), ha("rm2, rm1", "x"));
        assert_ne!(ha("rm1,rm2", "x"), ha("rm1,rm2", "y"));
    }

    #[tokio::test]
    async fn a_staged_file_whose_name_a_shell_reads_is_refused() {
        let (dir, root, _) = world();
        let staging = staging_of(&root, "alice");
        let path = dir.path().join("x$(touch PWNED)");
        std::fs::write(&path, "x").unwrap();
        let refused = staging.staged(&FilePath::from(path.as_path()), "artifact", false).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("PWNED") && refused.contains("'$'"), "{refused}");
        let remote = FilePath::from("hdfs://other:8020/app");
        let refused = staging.staged(&remote, "artifact", false).await.unwrap_err().to_string();
        assert!(refused.contains("another file system"), "{refused}");
    }
}
