//! Commits at every checkpoint while writers go on, and recoveries that die at any point.

use std::collections::BTreeSet;
use std::sync::Mutex;

use millstream_storage::{
    BoxFuture, CreateOptions, FileReader, FileStatus, FileWriter, IfExists, LocalFileSystem,
    block_on,
};

use super::*;

type Outcome<T> = std::result::Result<T, StorageError>;

/// The end that a change comes to when the process dies at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Before,
    After,
    /// A rename has made the new name and not removed the old one.
    Between,
}

/// The local disk under a process that dies at some change, and that counts calls.
#[derive(Debug)]
struct Watched {
    /// The number of renames and deletions until the process dies; `None`: it lives.
    left: Mutex<Option<u32>>,
    death: Death,
    /// The calls and the entries that they have listed.
    calls: Mutex<u64>,
}

impl Watched {
    fn dying(after: u32, death: Death) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(Some(after)), death, calls: Mutex::new(0) })
    }

    fn living() -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(None), death: Death::Before, calls: Mutex::new(0) })
    }

    fn call(&self) {
        *self.calls.lock().unwrap() += 1;
    }

    /// Makes a change. If the process dies at it, `half` of the change is made at most.
    fn change(
        &self,
        path: &FilePath,
        change: impl FnOnce() -> Outcome<()>,
        half: impl FnOnce(),
    ) -> Outcome<()> {
        self.call();
        let mut left = self.left.lock().unwrap();
        match &mut *left {
            None => return change(),
            Some(0) => {}
            Some(more) => {
                *more -= 1;
                if *more > 0 {
                    return change();
                }
                match self.death {
                    Death::Before => {}
                    Death::After => change()?,
                    Death::Between => half(),
                }
            }
        }
        let reason = "the process is dead".to_owned();
        Err(StorageError::Unavailable { action: "go on with", path: path.clone(), reason })
    }
}

impl FileSystem for Watched {
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Outcome<FileStatus>> {
        self.call();
        LocalFileSystem.status(path)
    }

    fn list<'a>(&'a self, directory: &'a FilePath) -> BoxFuture<'a, Outcome<Vec<FileStatus>>> {
        Box::pin(async move {
            let listed = LocalFileSystem.list(directory).await?;
            *self.calls.lock().unwrap() += 1 + listed.len() as u64;
            Ok(listed)
        })
    }

    fn open<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Outcome<Box<dyn FileReader>>> {
        self.call();
        LocalFileSystem.open(path)
    }

    fn create<'a>(
        &'a self,
        path: &'a FilePath,
        options: CreateOptions,
    ) -> BoxFuture<'a, Outcome<Box<dyn FileWriter>>> {
        LocalFileSystem.create(path, options)
    }

    fn publish<'a>(
        &'a self,
        from: &'a FilePath,
        to: &'a FilePath,
        if_exists: IfExists,
    ) -> BoxFuture<'a, Outcome<()>> {
        let rename = move || block_on(LocalFileSystem.publish(from, to, if_exists));
        let half = move || drop(fs::hard_link(from.path(), to.path()));
        Box::pin(async move { self.change(from, rename, half) })
    }

    fn make_directories<'a>(
        &'a self,
        path: &'a FilePath,
        permission: Option<u32>,
    ) -> BoxFuture<'a, Outcome<()>> {
        LocalFileSystem.make_directories(path, permission)
    }

    fn delete<'a>(&'a self, path: &'a FilePath, recursive: bool) -> BoxFuture<'a, Outcome<bool>> {
        Box::pin(async move {
            let there = LocalFileSystem.status(path).await.is_ok();
            if recursive && path.path().is_dir() {
                // One entry after the other, so that it can die between two.
                for entry in LocalFileSystem.list(path).await? {
                    let entry = entry.path;
                    let delete = || block_on(LocalFileSystem.delete(&entry, true)).map(drop);
                    self.change(&entry, delete, || ())?;
                }
            }
            let delete = || block_on(LocalFileSystem.delete(path, recursive)).map(drop);
            self.change(path, delete, || ()).map(|()| there)
        })
    }

    fn set_permission<'a>(
        &'a self,
        path: &'a FilePath,
        permission: u32,
    ) -> BoxFuture<'a, Outcome<()>> {
        LocalFileSystem.set_permission(path, permission)
    }
}

/// A committer in a process of its own.
fn committer_on(output: &Path, system: Arc<Watched>) -> FileCommitter {
    let info = committer_info();
    let places = Places::new(&FilePath::from(output), info.job, info.operator).unwrap();
    FileCommitter::new(Places { system, ..places }, ".txt".to_owned())
}

fn write(writer: &mut FileSinkWriter<DisplayLines>, line: &str) {
    assert_eq!(writer.write(Batch::of(vec![line.to_owned()])).unwrap(), Flow::Ready);
}

fn pre_commit(writer: &mut FileSinkWriter<DisplayLines>, id: u64) -> Vec<FinishedFile> {
    SinkWriter::<String>::pre_commit(writer, CheckpointId::new(id)).unwrap()
}

/// The lines of all published files.
fn lines(output: &Path) -> Vec<String> {
    let visible = contents(output).into_iter().filter(|(name, _)| !name.starts_with('.'));
    let lines = visible.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

fn hidden(output: &Path) -> std::path::PathBuf {
    let info = committer_info();
    Places::new(&FilePath::from(output), info.job, info.operator).unwrap().hidden.path().to_owned()
}

#[test]
fn a_checkpoint_without_records_publishes_nothing_and_the_next_one_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    let mut names = BTreeSet::new();
    let mut expected = Vec::new();
    let mut late = Vec::new();
    for id in 1..300 {
        if id % 3 != 0 {
            write(&mut writer, &format!("{id:04}"));
            expected.push(format!("{id:04}"));
        }
        let files = pre_commit(&mut writer, id);
        assert_eq!(files.len(), usize::from(id % 3 != 0));
        assert!(files.iter().all(|file| names.insert((file.subtask, file.number))), "{files:?}");
        late.extend(files);
        // Some checkpoints fail, and some confirmations are lost.
        if id % 5 != 0 {
            let before = lines(directory.path()).len();
            assert_eq!(before + late.len(), expected.len(), "published before its commit");
            for _ in 0..1 + id % 2 {
                committer.commit(CheckpointId::new(id), late.clone()).unwrap();
            }
            late.clear();
        }
    }
    committer.commit(CheckpointId::new(300), late).unwrap();
    assert_eq!(lines(directory.path()), expected);
    write(&mut writer, "not of any checkpoint");
    drop(writer);
    // The job is cancelled, and its host dies before anybody knows: a checkpoint's results stay.
    for _ in 0..2 {
        committer.recover(Vec::new(), &before(1)).unwrap();
        committer.close().unwrap();
        assert_eq!(lines(directory.path()), expected);
        assert!(!hidden(directory.path()).exists());
        committer = Sink::<String>::committer(&sink, &committer_info()).unwrap();
    }
}

#[test]
fn a_commit_costs_the_same_however_many_files_are_published() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let system = Watched::living();
    let mut committer = committer_on(directory.path(), Arc::clone(&system));
    committer.recover(Vec::new(), &[]).unwrap();
    let mut writers = [writer(&sink, 0, 0), writer(&sink, 1, 0)];
    let mut costs = BTreeSet::new();
    for id in 1..200 {
        let mut files = Vec::new();
        for writer in &mut writers {
            write(writer, "x");
            files.extend(pre_commit(writer, id));
        }
        let before = *system.calls.lock().unwrap();
        committer.commit(CheckpointId::new(id), files).unwrap();
        costs.insert(*system.calls.lock().unwrap() - before);
    }
    assert!(costs.len() == 1 && costs.iter().all(|cost| *cost <= 8), "{costs:?}");
}

#[test]
fn a_file_that_has_both_names_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    write(&mut writer, "x");
    let files = pre_commit(&mut writer, 1);
    let published = directory.path().join(format!("{PUBLISHED}0-0"));
    // As a rename that refuses to replace does where the system has none.
    fs::hard_link(unpublished(directory.path(), &files[0]), &published).unwrap();
    committer.commit(CheckpointId::FIRST, files.clone()).unwrap();
    assert!(!unpublished(directory.path(), &files[0]).exists());
    committer.commit(CheckpointId::FIRST, files).unwrap();
    assert_eq!(lines(directory.path()), ["x"]);
}

#[test]
fn a_published_file_with_another_content_is_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    write(&mut writer, "x");
    let files = pre_commit(&mut writer, 1);
    committer.commit(CheckpointId::FIRST, files.clone()).unwrap();
    let published = directory.path().join(format!("{PUBLISHED}0-0"));
    // Longer, and then of the same length: the length alone does not tell.
    for content in ["x and more\n", "y\n"] {
        fs::write(&published, content).unwrap();
        let error = committer.commit(CheckpointId::FIRST, files.clone()).unwrap_err();
        assert!(format!("{error:#}").contains(&published.display().to_string()), "{error:#}");
        assert_eq!(fs::read_to_string(&published).unwrap(), content);
    }
    fs::write(&published, "x\n").unwrap();
    committer.commit(CheckpointId::FIRST, files).unwrap();
}

#[test]
fn files_that_are_away_are_published_when_they_are_back() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("output");
    let sink = FileSink::lines(&output);
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    write(&mut writer, "x");
    let files = pre_commit(&mut writer, 1);
    let moved = directory.path().join("moved");
    fs::rename(&output, &moved).unwrap();
    let error = format!("{:#}", committer.commit(CheckpointId::FIRST, files.clone()).unwrap_err());
    assert!(error.contains("neither it nor"), "{error}");
    fs::rename(&moved, &output).unwrap();
    committer.commit(CheckpointId::FIRST, files).unwrap();
    assert_eq!(lines(&output), ["x"]);
}

/// An attempt that has ended with two checkpoints whose commits are not confirmed, and a running
/// one. Answers the committables of both.
fn two_attempts(output: &Path) -> (Vec<(CheckpointId, Vec<FinishedFile>)>, Vec<FinishedFile>) {
    let sink = FileSink::lines(output).suffix(".txt");
    drop(committer(&sink, 0));
    let mut pending = Vec::new();
    let mut ended = [writer(&sink, 0, 0), writer(&sink, 1, 0)];
    for id in 1..=2 {
        let mut files = Vec::new();
        for writer in &mut ended {
            write(writer, &format!("{id}"));
            files.extend(pre_commit(writer, id));
        }
        pending.push((CheckpointId::new(id), files));
    }
    for writer in &mut ended {
        write(writer, "lost");
        pre_commit(writer, 3);
        write(writer, "lost too");
    }
    let mut running = writer(&sink, 0, 1);
    write(&mut running, "4");
    let files = pre_commit(&mut running, 4);
    (pending, files)
}

#[test]
fn a_recovery_that_dies_anywhere_is_completed_by_the_next_one() {
    let ended = [AttemptId::new(0)];
    let mut deaths = 0;
    for death in [Death::Before, Death::After, Death::Between] {
        for after in 1.. {
            let directory = tempfile::tempdir().unwrap();
            let output = directory.path();
            let (pending, running) = two_attempts(output);
            let kept = contents(&hidden(output).join("attempt-1"));
            let mut dying = committer_on(output, Watched::dying(after, death));
            let has_died = dying.recover(pending.clone(), &ended).is_err();
            drop(dying);
            for _ in 0..2 {
                let mut next = committer_on(output, Watched::living());
                next.recover(pending.clone(), &ended).unwrap();
                assert_eq!(lines(output), ["1", "1", "2", "2"], "{death:?} at {after}");
                assert!(!hidden(output).join("attempt-0").exists());
                assert_eq!(contents(&hidden(output).join("attempt-1")), kept);
            }
            let mut last = committer_on(output, Watched::living());
            last.recover(pending, &ended).unwrap();
            last.commit(CheckpointId::new(4), running).unwrap();
            last.close().unwrap();
            assert_eq!(lines(output), ["1", "1", "2", "2", "4"]);
            assert_eq!(contents(output).len(), 5, "nothing hidden is left");
            if !has_died {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths >= 3 * 8, "it died {deaths} times only");
}

#[test]
fn a_commit_that_dies_anywhere_is_completed_by_the_next_host() {
    for death in [Death::Before, Death::After, Death::Between] {
        for after in 1..=3 {
            let directory = tempfile::tempdir().unwrap();
            let output = directory.path();
            let (_, files) = two_attempts(output);
            let sink = FileSink::lines(output).suffix(".txt");
            let mut other = writer(&sink, 1, 1);
            write(&mut other, "5");
            let files = [files, pre_commit(&mut other, 5)].concat();
            let mut dying = committer_on(output, Watched::dying(after, death));
            let has_died = dying.commit(CheckpointId::new(5), files.clone()).is_err();
            assert_eq!(has_died, after <= 2);
            let mut next = committer_on(output, Watched::living());
            // Its host alone was lost: no attempt has ended.
            next.recover(vec![(CheckpointId::new(5), files)], &[]).unwrap();
            assert_eq!(lines(output), ["4", "5"], "{death:?} at {after}");
            write(&mut other, "6");
            let files = pre_commit(&mut other, 6);
            next.commit(CheckpointId::new(6), files).unwrap();
            assert_eq!(lines(output), ["4", "5", "6"], "the writer goes on");
        }
    }
}
