//! Disposals, and the files that they delete.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millstream_checkpoint::metadata::{
    Content, FileSegment, Handle, Kind, OperatorState, Owner, StateDescription, StateKind,
    SubtaskState,
};
use millstream_types::{CheckpointId, JobId, LeaderEpoch, MaxParallelism, OperatorId, Timestamp};

use super::*;

const METADATA: &str = "_metadata";

/// Metadata of this kind that names these files.
fn metadata(kind: Kind, files: &[&str]) -> Vec<u8> {
    let handle = |path: &&str| Handle {
        state: 0,
        owner: Owner { epoch: LeaderEpoch::new(1), attempt: 0 },
        content: Content::File(FileSegment {
            path: (*path).to_owned(),
            offset: 0,
            length: 1,
            crc32: 0,
        }),
        groups: vec![],
    };
    let kind_of_state = StateKind::OperatorList;
    let state = StateDescription { name: "s".to_owned(), kind: kind_of_state, schema: vec![] };
    let operator = OperatorState {
        id: OperatorId::from_u128(1),
        uid: None,
        name: "n".to_owned(),
        max_parallelism: MaxParallelism::DEFAULT,
        key_schema: None,
        coordinator: None,
        states: vec![state],
        subtasks: vec![SubtaskState {
            handles: files.iter().map(handle).collect(),
            ..SubtaskState::default()
        }],
    };
    let metadata = Metadata {
        job: JobId::from_u128(0xcafe),
        checkpoint: CheckpointId::new(7),
        kind,
        triggered: Timestamp::from_millis(0),
        operators: vec![operator],
        committables: vec![],
    };
    metadata.encode().unwrap()
}

/// A savepoint of the files `a` and `b` below `parent`.
fn savepoint(parent: &Path) -> PathBuf {
    let directory = parent.join("savepoint-1");
    std::fs::create_dir(&directory).unwrap();
    let named = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let files = [named("a"), named("b")];
    let bytes = metadata(Kind::Savepoint, &files.each_ref().map(String::as_str));
    std::fs::write(directory.join(METADATA), bytes).unwrap();
    for file in files {
        std::fs::write(file, "x").unwrap();
    }
    directory
}

async fn dispose_of(path: &Path) -> Result<(), String> {
    StoredSavepoints.dispose(path.to_str().unwrap().to_owned()).await
}

#[tokio::test]
async fn a_savepoint_goes_with_its_directory() {
    let parent = tempfile::tempdir().unwrap();
    for named in ["", METADATA] {
        let directory = savepoint(parent.path());
        dispose_of(&directory.join(named)).await.unwrap();
        assert!(!directory.exists(), "{named:?}");
    }
    let directory = savepoint(parent.path());
    StoredSavepoints.dispose(format!("file://{}", directory.display())).await.unwrap();
    assert!(!directory.exists());
}

#[tokio::test]
async fn files_that_are_not_the_savepoints_stay() {
    let parent = tempfile::tempdir().unwrap();
    let directory = savepoint(parent.path());
    let outside = parent.path().join("outside");
    std::fs::write(&outside, "x").unwrap();
    std::fs::write(directory.join("stranger"), "x").unwrap();
    std::fs::create_dir(directory.join("nested")).unwrap();
    let files = ["a", "nested", "..", "/", "../outside", outside.to_str().unwrap()];
    let bytes = metadata(Kind::Stop { drain: false }, &files);
    std::fs::write(directory.join(METADATA), bytes).unwrap();
    dispose_of(&directory).await.unwrap();
    let left = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
    let left: BTreeSet<_> = left.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(left, ["b", "nested", "stranger"].map(str::to_owned).into());
    assert!(outside.exists());
}

#[tokio::test]
async fn whatever_is_no_savepoint_is_refused_and_stays() {
    let parent = tempfile::tempdir().unwrap();
    let directory = savepoint(parent.path());
    let file = directory.join(METADATA);
    for (bytes, text) in [
        (metadata(Kind::Checkpoint, &["a"]), "is no savepoint but a checkpoint of job 0000"),
        (metadata(Kind::Final, &["a"]), "is no savepoint but a final checkpoint"),
        (b"hello".to_vec(), "_metadata"),
        (vec![], "_metadata"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = dispose_of(&directory).await.unwrap_err();
        assert!(error.contains(text), "{error}");
        assert!(directory.join("a").exists() && file.exists());
    }
    std::fs::remove_file(&file).unwrap();
    for (path, text) in [
        (directory.to_str().unwrap(), "it has no _metadata"),
        ("/", "it has no _metadata"),
        ("/no/such/directory", "it has no _metadata"),
        ("relative/path", "need an absolute path"),
        ("gopher:///x", "scheme"),
        ("file://x", "did you forget a slash"),
    ] {
        let error = StoredSavepoints.dispose(path.to_owned()).await.unwrap_err();
        assert!(error.contains(text), "{path}: {error}");
    }
    assert!(directory.join("a").exists());
}

/// Disposes of everything but of `/bad` and `/bug`; of `/slow` never.
#[derive(Debug, Default)]
struct Pretended {
    asked: Arc<Mutex<Vec<String>>>,
}

impl SavepointDisposer for Pretended {
    fn dispose(&self, path: String) -> BoxFuture<'static, Result<(), String>> {
        self.asked.lock().unwrap().push(path.clone());
        Box::pin(async move {
            match path.as_str() {
                "/bad" => Err("it is bad".to_owned()),
                "/bug" => panic!("a bug"),
                "/slow" => std::future::pending().await,
                _ => Ok(()),
            }
        })
    }
}

async fn outcome(disposals: &Disposals, trigger: TriggerId) -> Result<(), String> {
    loop {
        match disposals.get(trigger).unwrap() {
            Disposal::Running => tokio::time::sleep(Duration::from_millis(1)).await,
            Disposal::Done(outcome) => return outcome,
        }
    }
}

const fn id(number: usize) -> TriggerId {
    TriggerId::from_u128(number as u128)
}

#[tokio::test(start_paused = true)]
async fn an_operation_runs_once_and_is_forgotten_after_a_while() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let disposals = Disposals::new(Arc::new(Pretended { asked: asked.clone() }));
    for _ in 0..3 {
        assert_eq!(disposals.start(id(1), "/good".to_owned()), Ok(()));
    }
    assert_eq!(disposals.start(id(1), "/other".to_owned()), Err(Refused::OtherPath));
    assert_eq!(disposals.start(id(2), "/bad".to_owned()), Ok(()));
    assert_eq!(disposals.start(id(3), "/bug".to_owned()), Ok(()));
    assert_eq!(outcome(&disposals, id(1)).await, Ok(()));
    assert_eq!(outcome(&disposals, id(2)).await, Err("it is bad".to_owned()));
    assert!(outcome(&disposals, id(3)).await.unwrap_err().contains("/bug"));
    assert_eq!(*asked.lock().unwrap(), ["/good", "/bad", "/bug"]);
    tokio::time::advance(KEPT_FOR).await;
    assert_eq!(disposals.get(id(1)), None);
}

#[tokio::test(start_paused = true)]
async fn operations_are_limited_and_running_ones_are_not_forgotten() {
    let disposals = Disposals::new(Arc::new(Pretended::default()));
    for number in 0..OPERATIONS_MAX + 10 {
        disposals.start(id(number), "/good".to_owned()).unwrap();
        outcome(&disposals, id(number)).await.unwrap();
    }
    assert_eq!(disposals.get(id(9)), None);
    assert!(disposals.get(id(10)).is_some());
    for number in 1_000..1_000 + OPERATIONS_MAX {
        disposals.start(id(number), "/slow".to_owned()).unwrap();
    }
    assert_eq!(disposals.start(id(1), "/good".to_owned()), Err(Refused::Full));
    tokio::time::advance(KEPT_FOR * 2).await;
    assert_eq!(disposals.get(id(1_000)), Some(Disposal::Running));
}
