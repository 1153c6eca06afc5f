//! The files that users ship to containers: found, named and checked before anything is staged.
//!
//! Every file gets the name under which containers find it: its own, or, if a directory is shipped,
//! its path from that directory on. Two files of one name, the names that containers need
//! themselves, links that lead in circles, pipes, sockets and devices are refused here, so that a
//! mistake costs no upload. Staged files lie below one directory under the same names, so that they
//! collide no more than the links do.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{FileType, Metadata};
use std::ops::Bound;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use millstream_storage::{FilePath, FileStatus};

use super::{EXECUTABLE, PRIVATE_DIRECTORY, Staging, StagingError};
use crate::container::{ARTIFACT, ENGINE, HADOOP_CONF, JOB_GRAPH, TEMPORARY};
use crate::launch_script::LinkName;
use crate::proto::container::Resource;

/// Subdirectory of an application's directory for shipped files.
const SHIPPED: &str = "shipped";
/// As many files and directories as a container should get one by one.
const ENTRIES_MAX: usize = 10_000;
/// So many files are uploaded side by side: completing one can take half a second.
const UPLOADS: usize = 8;
/// Names that the driver or a NodeManager uses in a container's directory.
const RESERVED: [&str; 11] = [
    ENGINE,
    ARTIFACT,
    JOB_GRAPH,
    HADOOP_CONF,
    TEMPORARY,
    "container_tokens",
    "launch_container.sh",
    "default_container_executor.sh",
    "default_container_executor_session.sh",
    "docker_container_executor.sh",
    "sysfs",
];

/// A file that containers will get.
#[derive(Debug, Clone)]
struct Item {
    link: LinkName,
    from: Origin,
    archive: bool,
}

#[derive(Debug, Clone)]
enum Origin {
    Local(PathBuf),
    Remote(FileStatus),
}

/// The files to ship, under names that do not collide.
#[derive(Debug, Default)]
pub struct Shipment {
    items: Vec<Item>,
    /// Each name with where its file is.
    names: BTreeMap<String, String>,
    entries: usize,
}

impl Shipment {
    /// Whether one of the files is the engine itself.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        self.names.contains_key(ENGINE)
    }

    /// Takes a file under a name; one that was named twice is taken once.
    fn add(&mut self, item: Item, kind: Kind) -> Result<(), StagingError> {
        let source = item.from.shown();
        let refused = |why: String| Err(StagingError::Refused { path: source.clone(), why });
        let (name, first) = (item.link.as_str(), item.link.first());
        let engine = kind == Kind::Provided && name == ENGINE;
        let is_hidden_copy = first.starts_with('.') && first.ends_with(".crc");
        if (RESERVED.contains(&first) || is_hidden_copy) && !engine {
            return refused(format!(
                "{first:?} is a name that Millstream or YARN uses in every container: rename it"
            ));
        }
        if let Some(other) = self.names.get(name) {
            return if *other == source {
                Ok(())
            } else {
                refused(format!("containers get {other} as {name:?} already: rename one of them"))
            };
        }
        if let Some((taken, other)) = self.crossing(name) {
            return refused(format!(
                "{name:?} and {taken:?}, which is {other}, cannot both be in a container: one \
                 would be a file and a directory"
            ));
        }
        self.names.insert(name.to_owned(), source);
        self.items.push(item);
        Ok(())
    }

    /// A name that is a directory of this one, or the other way round.
    fn crossing(&self, name: &str) -> Option<(&String, &String)> {
        let above = name.match_indices('/').filter_map(|(at, _)| name.get(..at));
        let above = above.filter_map(|above| self.names.get_key_value(above)).next();
        let directory = format!("{name}/");
        let bounds = (Bound::Included(directory.as_str()), Bound::Unbounded);
        let below = self.names.range::<str, _>(bounds).next();
        above.or_else(|| below.filter(|(other, _)| other.starts_with(&directory)))
    }

    fn count(&mut self, path: impl FnOnce() -> String) -> Result<(), StagingError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            let why = format!(
                "there are more than {ENTRIES_MAX} files and directories to ship: ship an archive \
                 (yarn.ship-archives)"
            );
            return Err(StagingError::Refused { path: path(), why });
        }
        Ok(())
    }

    /// Adds a file of this machine, or all files of a directory.
    fn add_local(&mut self, root: &Path, kind: Kind) -> Result<(), StagingError> {
        let failed = |path: &Path, source| StagingError::Local { path: path.to_owned(), source };
        let metadata = |path: &Path| std::fs::metadata(path).map_err(|error| failed(path, error));
        let own = match root.file_name() {
            Some(name) => Some(name.to_owned()),
            // `.` and what ends with `..` have the name of the directory that they are.
            None => {
                let real = std::fs::canonicalize(root).map_err(|error| failed(root, error))?;
                real.file_name().map(OsStr::to_owned)
            }
        };
        let name = link_part(own.as_deref(), &root.display().to_string())?;
        let mut pending = vec![(root.to_owned(), name, Vec::<(u64, u64)>::new())];
        while let Some((path, link, above)) = pending.pop() {
            self.count(|| shown(&path))?;
            let found = metadata(&path)?;
            if !found.is_dir() {
                let why = refusal_of(found.file_type()).map(str::to_owned);
                let link = named(&link, &path.display().to_string());
                let link =
                    why.map_or(link, |why| Err(StagingError::Refused { path: shown(&path), why }))?;
                let archive = kind == Kind::Archive;
                self.add(Item { link, from: Origin::Local(path), archive }, kind)?;
                continue;
            }
            if kind == Kind::Archive {
                let why = "it is a directory, and an archive is a file".to_owned();
                return Err(StagingError::Refused { path: shown(&path), why });
            }
            let id = |metadata: &Metadata| (metadata.dev(), metadata.ino());
            if above.contains(&id(&found)) {
                let why = "it is a link to a directory that it is in: remove it".to_owned();
                return Err(StagingError::Refused { path: shown(&path), why });
            }
            let above: Vec<_> = above.into_iter().chain([id(&found)]).collect();
            for entry in std::fs::read_dir(&path).map_err(|error| failed(&path, error))? {
                let below = entry.map_err(|error| failed(&path, error))?;
                let shown = below.path().display().to_string();
                let part = link_part(Some(&below.file_name()), &shown)?;
                pending.push((below.path(), format!("{link}/{part}"), above.clone()));
            }
        }
        Ok(())
    }
}

/// In which way a file comes to the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From a directory of the cluster's file system, which may hold the engine.
    Provided,
    File,
    Archive,
}

impl Origin {
    fn shown(&self) -> String {
        match self {
            Self::Local(path) => shown(&std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Self::Remote(status) => status.path.to_string(),
        }
    }
}

/// A path as text, without control characters that a terminal would obey.
fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// Why a thing that is no directory cannot be shipped.
fn refusal_of(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_fifo() => Some("it is a named pipe, and only files can be shipped"),
        kind if kind.is_socket() => Some("it is a socket, and only files can be shipped"),
        _ => Some("it is a device, and only files can be shipped"),
    }
}

/// One part of a link.
fn link_part(name: Option<&OsStr>, path: &str) -> Result<String, StagingError> {
    let refused = |why: &str| {
        let path = path.escape_debug().to_string();
        StagingError::Refused { path, why: why.to_owned() }
    };
    let name = name.ok_or_else(|| refused("name a file or a directory below the root"))?;
    let text = name.to_str().ok_or_else(|| refused("its name is not UTF-8: rename it"))?;
    named(text, path)?;
    Ok(text.to_owned())
}

fn named(link: &str, path: &str) -> Result<LinkName, StagingError> {
    let unsafe_name = |error: crate::launch_script::UnsafeName| StagingError::Refused {
        path: path.escape_debug().to_string(),
        why: error.to_string(),
    };
    LinkName::new(link).map_err(unsafe_name)
}

impl Staging<'_> {
    /// Finds the files provided on the cluster's file system, and the local or remote files to
    /// ship; writes nothing.
    ///
    /// # Errors
    /// A file is absent, or cannot be shipped.
    pub async fn find(
        &self,
        provided: &[FilePath],
        files: &[FilePath],
        archives: &[FilePath],
    ) -> Result<Shipment, StagingError> {
        let mut shipment = Shipment::default();
        for directory in provided {
            self.add_remote(&mut shipment, directory, Kind::Provided).await?;
        }
        for (paths, kind) in [(files, Kind::File), (archives, Kind::Archive)] {
            for path in paths {
                match path.local() {
                    Some(local) => shipment.add_local(local, kind)?,
                    None => self.add_remote(&mut shipment, path, kind).await?,
                }
            }
        }
        Ok(shipment)
    }

    /// A file of the cluster's file system, or all files of a directory.
    async fn add_remote(
        &self,
        shipment: &mut Shipment,
        root: &FilePath,
        kind: Kind,
    ) -> Result<(), StagingError> {
        let files = self.files_of(root)?;
        let name = match kind {
            Kind::Provided => String::new(),
            Kind::File | Kind::Archive => link_part(root.file_name(), &root.to_string())?,
        };
        let mut pending = vec![(files.status(root).await?, name)];
        while let Some((status, link)) = pending.pop() {
            let shown = status.path.to_string();
            shipment.count(|| shown.clone())?;
            if !status.is_directory() {
                let link = if link.is_empty() {
                    link_part(status.path.file_name(), &shown)?
                } else {
                    link
                };
                let link = named(&link, &shown)?;
                let archive = kind == Kind::Archive;
                shipment.add(Item { link, from: Origin::Remote(status), archive }, kind)?;
                continue;
            }
            if kind == Kind::Archive {
                let why = "it is a directory, and an archive is a file".to_owned();
                return Err(StagingError::Refused { path: shown, why });
            }
            for below in files.list(&status.path).await? {
                let part = link_part(below.path.file_name(), &below.path.to_string())?;
                let link = if link.is_empty() { part } else { format!("{link}/{part}") };
                pending.push((below, link));
            }
        }
        Ok(())
    }

    /// Uploads files that are on other file systems to the application's directory.
    ///
    /// # Errors
    /// It cannot be read here or written there.
    pub async fn ship(
        &self,
        shipment: Shipment,
        directory: &FilePath,
    ) -> Result<Vec<Resource>, StagingError> {
        let target = directory.join(SHIPPED);
        let targets: Vec<_> =
            shipment.items.iter().map(|item| target.join(item.link.as_str())).collect();
        let local = |item: &Item| matches!(item.from, Origin::Local(_));
        let parents: BTreeSet<_> = shipment
            .items
            .iter()
            .zip(&targets)
            .filter(|(item, _)| local(item))
            .filter_map(|(_, target)| target.parent())
            .collect();
        for parent in parents {
            self.files.make_directories(&parent, Some(PRIVATE_DIRECTORY)).await?;
        }
        let resources = shipment.items.into_iter().zip(targets).map(|(item, target)| async move {
            let Item { link, from, archive } = item;
            match from {
                Origin::Remote(status) => self.resource(status, link.as_str(), archive).await,
                Origin::Local(path) => {
                    self.copy(&path, &target, EXECUTABLE & 0o700).await?;
                    self.staged(&target, link.as_str(), archive).await
                }
            }
        });
        // A failure waits for the others: what is still on its way to the file system would make
        // the directory again that the failure removes.
        let shipped: Vec<_> = futures::stream::iter(resources).buffered(UPLOADS).collect().await;
        shipped.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::symlink;

    use millstream_hadoop_config::HadoopConfiguration;
    use millstream_storage::LocalFileSystem;

    use super::*;
    use crate::staging::Cluster;

    struct World {
        dir: tempfile::TempDir,
    }

    impl World {
        fn new(files: &[&str]) -> Self {
            let world = Self { dir: tempfile::tempdir().unwrap() };
            for name in files {
                let path = world.path(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
            world
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        async fn ship(&self, files: &[&str], archives: &[&str]) -> Result<Vec<Resource>, String> {
            let paths = |names: &[&str]| -> Vec<FilePath> {
                names.iter().map(|name| FilePath::from(self.path(name).as_path())).collect()
            };
            let root = FilePath::from(self.path("staging").as_path());
            let mut hadoop = HadoopConfiguration::new();
            hadoop.set("yarn.resourcemanager.address", "rm:8032");
            let cluster = Cluster::of(&hadoop).unwrap();
            let staging = Staging::new(&LocalFileSystem, &root, "alice", cluster);
            let shipment = staging.find(&[], &paths(files), &paths(archives)).await;
            let shipment = shipment.map_err(|error| {
                assert!(!self.path("staging").exists(), "something was staged");
                error.to_string()
            })?;
            let directory = root.join("application_1_0001");
            staging.ship(shipment, &directory).await.map_err(|error| error.to_string())
        }
    }

    #[tokio::test]
    async fn files_keep_their_paths_and_never_collide() {
        let world = World::new(&["tree/a/b", "tree/a_b", "tree/a/b.c/d", "x.txt", "y.zip"]);
        let mut shipped = world.ship(&["tree", "x.txt", "x.txt"], &["y.zip"]).await.unwrap();
        shipped.sort_by(|left, right| left.link.cmp(&right.link));
        let links: Vec<_> = shipped.iter().map(|resource| resource.link.as_str()).collect();
        assert_eq!(links, ["tree/a/b", "tree/a/b.c/d", "tree/a_b", "x.txt", "y.zip"]);
        for resource in &shipped {
            assert_eq!(std::fs::read_to_string(&resource.uri).unwrap(), resource.link);
            assert_eq!(resource.archive, resource.link == "y.zip");
        }
    }

    #[tokio::test]
    async fn names_that_a_shell_reads_are_refused_before_anything_is_staged() {
        for name in ["x$(touch PWNED)", "$HOME", "a b", "a\nb", "-rf", "a'b", "a\\b", "a:b", "ä"] {
            let world = World::new(&[&format!("tree/ok/{name}"), &format!("{name}/x")]);
            for shipped in ["tree", name] {
                let error = world.ship(&[shipped], &[]).await.unwrap_err();
                assert!(error.contains("cannot be the name of a file in a container"), "{error}");
                assert!(!error.contains('\n'), "{error:?}");
            }
        }
        let world = World::new(&["tree/x"]);
        let bytes = OsString::from_vec(b"a\xff".to_vec());
        std::fs::write(world.path("tree").join(bytes), "x").unwrap();
        let error = world.ship(&["tree"], &[]).await.unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
        assert!(World::new(&[]).ship(&["../../../../../../../.."], &[]).await.is_err());
    }

    #[tokio::test]
    async fn two_files_of_one_name_and_reserved_names_are_refused() {
        let world = World::new(&["a/x", "b/x", "c/a", "a.zip", "d/a.zip/x", "e/a.zip"]);
        let error = world.ship(&["a/x", "b/x"], &[]).await.unwrap_err();
        assert!(error.contains("b/x") && error.contains("a/x as \"x\" already"), "{error}");
        for ship in [["a", "c/a"], ["c/a", "a"]] {
            let error = world.ship(&ship, &[]).await.unwrap_err();
            assert!(error.contains("a file and a directory"), "{error}");
        }
        assert!(world.ship(&["d/a.zip"], &["a.zip"]).await.unwrap_err().contains("a directory"));
        assert!(world.ship(&[], &["a.zip", "e/a.zip"]).await.unwrap_err().contains("already"));
        assert!(world.ship(&[], &["d/a.zip"]).await.unwrap_err().contains("an archive is a file"));
        for name in RESERVED.into_iter().chain([".launch_container.sh.crc", "hadoop-conf/x"]) {
            let world = World::new(&[name]);
            let first = name.split('/').next().unwrap();
            let error = world.ship(&[first], &[]).await.unwrap_err();
            assert!(error.contains("uses in every container: rename it"), "{error}");
        }
        let world = World::new(&["lib/millstream"]);
        assert_eq!(world.ship(&["lib"], &[]).await.unwrap()[0].link, "lib/millstream");
    }

    #[tokio::test]
    async fn loops_and_what_is_no_file_are_found_at_once() {
        let world = World::new(&["tree/a/x", "tree/b/y", "other/z"]);
        symlink("..", world.path("tree/a/up")).unwrap();
        let error = world.ship(&["tree"], &[]).await.unwrap_err();
        assert!(error.contains("a link to a directory that it is in"), "{error}");
        std::fs::remove_file(world.path("tree/a/up")).unwrap();
        symlink("self", world.path("tree/self")).unwrap();
        let error = world.ship(&["tree"], &[]).await.unwrap_err();
        assert!(error.contains("tree/self"), "{error}");
        std::fs::remove_file(world.path("tree/self")).unwrap();
        // The same directory twice, side by side, is no loop.
        symlink("../other", world.path("tree/first")).unwrap();
        symlink("../other", world.path("tree/second")).unwrap();
        assert_eq!(world.ship(&["tree"], &[]).await.unwrap().len(), 4);
        let world = World::new(&["tree/x"]);
        let pipe = world.path("tree/pipe");
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        let error = world.ship(&["tree"], &[]).await.unwrap_err();
        assert!(error.contains("named pipe"), "{error}");
        let error = world.ship(&["missing"], &[]).await.unwrap_err();
        assert!(error.contains("missing"), "{error}");
    }

    #[tokio::test]
    async fn more_files_than_a_container_should_get_are_refused() {
        let world = World::new(&["tree/x"]);
        // Each level doubles the files below it.
        for level in 0..20 {
            let directory = world.path(&format!("tree/{level}"));
            std::fs::create_dir(&directory).unwrap();
            for name in ["a", "b"] {
                symlink(format!("../{}", level + 1), directory.join(name)).unwrap();
            }
        }
        std::fs::create_dir(world.path("tree/20")).unwrap();
        let error = world.ship(&["tree"], &[]).await.unwrap_err();
        assert!(error.contains("more than 10000") && error.contains("archive"), "{error}");
    }
}
