//! Daemons that die and come back, quotas, permissions and safe mode.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use millstream_hadoop_config::HadoopConfiguration;
use millstream_integration::{Hadoop, USER};
use millstream_storage::{
    CreateOptions, FilePath, FileSystem, IfExists, Result, StorageError, block_on, read_all,
    write_all,
};
use millstream_storage_hdfs::Hdfs;

use crate::{DEADLINE, files, hdfs, home};

const MIB: usize = 1 << 20;

fn bytes(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from((at / 7 + at / 4099) % 256).unwrap()).collect()
}

fn put(files: &Hdfs, path: &FilePath, bytes: Bytes) -> Result<()> {
    block_on(write_all(files, path, CreateOptions::NEW, bytes))
}

/// Reads a file in small pieces, with a look at the world in between; its bytes.
fn read_slowly(files: &Hdfs, path: &FilePath, mut each: impl FnMut(usize)) -> Result<Vec<u8>> {
    let mut reader = block_on(files.open(path))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 300_000]);
    loop {
        each(all.len());
        match block_on(reader.read_at(all.len() as u64, &mut buffer))? {
            0 => return Ok(all),
            read => all.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Writes a file in small pieces likewise.
fn write_slowly(
    files: &Hdfs,
    path: &FilePath,
    bytes: &Bytes,
    mut each: impl FnMut(usize),
) -> Result<()> {
    let mut writer = block_on(files.create(path, CreateOptions::NEW))?;
    for start in (0..bytes.len()).step_by(300_000) {
        each(start);
        let end = bytes.len().min(start + 300_000);
        block_on(writer.write(bytes.slice(start..end)))?;
    }
    each(bytes.len());
    block_on(writer.close())
}

/// Calls `action` once, when the first `at` bytes are done.
fn once_at(at: usize, mut action: impl FnMut()) -> impl FnMut(usize) {
    let mut done = false;
    move |bytes| {
        if bytes >= at && !done {
            done = true;
            action();
        }
    }
}

/// The least blocks that a file of some megabytes fits into.
const BLOCK: usize = 8 * MIB;

/// One cluster for all that follows: it takes its time to start.
#[test]
fn files_outlive_daemons() {
    let mut hadoop = hdfs().set("dfs.blocksize", &BLOCK.to_string()).start();
    let files = files(&hadoop).patience(DEADLINE);
    readers_go_on_over_a_restart_of_the_name_node(&mut hadoop, &files);
    writers_go_on_or_say_that_they_are_lost(&mut hadoop, &files);
    calls_wait_for_a_name_node_that_starts(&mut hadoop, &files);
    a_data_node_that_dies_is_not_missed(&mut hadoop, &files);
    a_name_node_that_hangs_ends_calls(&mut hadoop, &files);
}

fn readers_go_on_over_a_restart_of_the_name_node(hadoop: &mut Hadoop, files: &Hdfs) {
    let (path, expected) = (home(hadoop, "read"), bytes(20 * MIB));
    put(files, &path, expected.clone()).unwrap();
    let restart = || hadoop.restart("namenode");
    let read = read_slowly(files, &path, once_at(5 * MIB, restart)).unwrap();
    assert!(read == expected, "what was read differs");
    hadoop.wait_until_ready();
}

fn writers_go_on_or_say_that_they_are_lost(hadoop: &mut Hadoop, files: &Hdfs) {
    let expected = bytes(12 * MIB);
    for (round, at) in [3 * MIB, 11 * MIB, 12 * MIB].into_iter().enumerate() {
        let path = home(hadoop, &format!("write-{round}"));
        let restart = || hadoop.restart("namenode");
        match write_slowly(files, &path, &expected, once_at(at, restart)) {
            Ok(()) => {
                let read = block_on(read_all(files, &path, 64 << 20)).unwrap();
                assert!(read == expected, "what was kept differs");
            }
            Err(error) => assert!(matches!(error, StorageError::Lost { .. }), "{error}"),
        }
        hadoop.wait_until_ready();
        // A name whose file was lost can be used again.
        let replaced = write_all(files, &path, CreateOptions::REPLACE, expected.slice(..10));
        block_on(replaced).unwrap();
    }
}

fn calls_wait_for_a_name_node_that_starts(hadoop: &mut Hadoop, files: &Hdfs) {
    let (from, to) = (home(hadoop, "from"), home(hadoop, "to"));
    put(files, &from, bytes(10)).unwrap();
    hadoop.kill("namenode");
    let impatient = files.clone().patience(Duration::from_millis(500));
    let error = block_on(impatient.status(&from)).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("no NameNode answers"), "{error}");
    let error = block_on(impatient.publish(&from, &to, IfExists::Refuse)).unwrap_err();
    assert!(error.is_transient(), "{error}");
    let error = block_on(impatient.create(&to, CreateOptions::NEW)).err().unwrap();
    assert!(error.is_transient(), "{error}");
    let (waiting, renamed) = (files.clone(), (from.clone(), to.clone()));
    let waiting =
        thread::spawn(move || block_on(waiting.publish(&renamed.0, &renamed.1, IfExists::Refuse)));
    hadoop.restart("namenode");
    waiting.join().unwrap().unwrap();
    hadoop.wait_until_ready();
    assert_eq!(block_on(read_all(files, &to, 100)).unwrap(), bytes(10));
}

fn a_data_node_that_dies_is_not_missed(hadoop: &mut Hadoop, files: &Hdfs) {
    let (path, expected) = (home(hadoop, "copies"), bytes(20 * MIB));
    put(files, &path, expected.clone()).unwrap();
    let kill = || hadoop.kill("datanode-0");
    let read = read_slowly(files, &path, once_at(5 * MIB, kill)).unwrap();
    assert!(read == expected, "what was read differs");
    hadoop.restart("datanode-0");
    hadoop.wait_until_ready();
    let (path, expected) = (home(hadoop, "copied"), expected.slice(..BLOCK - 1));
    let kill = || hadoop.kill("datanode-1");
    write_slowly(files, &path, &expected, once_at(5 * MIB, kill)).unwrap();
    let read = block_on(read_all(files, &path, 64 << 20)).unwrap();
    assert!(read == expected, "what was written differs");
    // The NameNode does not know yet, and gives every new block to both DataNodes.
    let path = home(hadoop, "new");
    put(files, &path, expected.slice(..3 * MIB)).unwrap();
    let read = block_on(read_all(files, &path, 64 << 20)).unwrap();
    assert!(read == expected.slice(..3 * MIB), "what was written differs");
    let file = format!("/user/{USER}/new");
    let status = hadoop.webhdfs("GET", &file, "GETFILESTATUS");
    assert_eq!(status["FileStatus"]["replication"].as_u64(), Some(2));
    hadoop.restart("datanode-1");
    hadoop.wait_until_ready();
}

fn a_name_node_that_hangs_ends_calls(hadoop: &mut Hadoop, files: &Hdfs) {
    let path = home(hadoop, "hangs");
    put(files, &path, bytes(1)).unwrap();
    hadoop.daemon("namenode").pause();
    let impatient = files.clone().patience(Duration::from_millis(100));
    let (other, looking, seen) = (home(hadoop, "other"), impatient.clone(), path.clone());
    let looking = thread::spawn(move || block_on(looking.status(&seen)).unwrap_err());
    let error = block_on(impatient.set_permission(&path, 0o600)).unwrap_err();
    assert!(matches!(error, StorageError::OutcomeUnknown { .. }), "{error}");
    let error = looking.join().unwrap();
    assert!(error.is_transient() && error.to_string().contains("gave no answer"), "{error}");
    hadoop.daemon("namenode").resume();
    block_on(files.publish(&path, &other, IfExists::Refuse)).unwrap();
}

#[test]
fn what_the_cluster_refuses_is_told() {
    let hadoop = hdfs().start();
    let files = files(&hadoop);
    permissions_are_those_of_the_user(&hadoop, &files);
    full_quotas_are_told_apart(&hadoop, &files);
    safe_mode_is_waited_for(&hadoop, &files);
    wrong_addresses_are_told(&hadoop);
}

fn permissions_are_those_of_the_user(hadoop: &Hadoop, files: &Hdfs) {
    let root = FilePath::from(hadoop.default_fs());
    let mine = home(hadoop, "mine");
    put(files, &mine, bytes(10)).unwrap();
    assert_eq!(block_on(files.status(&mine)).unwrap().owner, USER);
    assert_eq!(block_on(files.status(&mine)).unwrap().permission, 0o644);
    block_on(files.set_permission(&mine, 0o600)).unwrap();
    let bob = Hdfs::open(&crate::configuration(hadoop), "", "bob").unwrap();
    let denied = [
        put(files, &root.join("not-mine"), bytes(1)).unwrap_err(),
        block_on(files.make_directories(&root.join("not/mine"), None)).unwrap_err(),
        block_on(read_all(&bob, &mine, 100)).unwrap_err(),
        block_on(bob.delete(&mine, false)).unwrap_err(),
        block_on(bob.publish(&mine, &root.join("tmp/stolen"), IfExists::Refuse)).unwrap_err(),
    ];
    for error in denied {
        let text = error.to_string();
        assert!(matches!(error, StorageError::PermissionDenied { .. }), "{text}");
        assert!(text.contains("Permission denied: user=") && !text.contains('\n'), "{text}");
    }
    // All users may put files into /tmp, and take away only their own.
    let shared = root.join("tmp/shared");
    put(files, &shared, bytes(1)).unwrap();
    assert_eq!(block_on(files.status(&root.join("tmp"))).unwrap().permission, 0o1777);
    let error = block_on(bob.delete(&shared, false)).unwrap_err();
    assert!(matches!(error, StorageError::PermissionDenied { .. }), "{error}");
}

fn full_quotas_are_told_apart(hadoop: &Hadoop, files: &Hdfs) {
    let (names, space) = (home(hadoop, "names"), home(hadoop, "space"));
    for directory in [&names, &space] {
        block_on(files.make_directories(directory, None)).unwrap();
    }
    hadoop.dfs_admin(&["-setQuota", "2", &names.path().display().to_string()]);
    hadoop.dfs_admin(&["-setSpaceQuota", "1m", &space.path().display().to_string()]);
    put(files, &names.join("1"), bytes(1)).unwrap();
    for (path, limit) in [(names.join("2"), "NameSpace quota"), (space.join("1"), "DiskSpace")] {
        let error = put(files, &path, bytes(1)).unwrap_err();
        assert!(matches!(error, StorageError::QuotaExceeded { .. }), "{error}");
        assert!(error.to_string().contains(limit), "{error}");
    }
}

fn safe_mode_is_waited_for(hadoop: &Hadoop, files: &Hdfs) {
    hadoop.dfs_admin(&["-safemode", "enter"]);
    let path = home(hadoop, "safe");
    let impatient = files.clone().patience(Duration::from_millis(500));
    let error = put(&impatient, &path, bytes(1)).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("safe mode"), "{error}");
    assert!(block_on(impatient.status(&path)).unwrap_err().is_not_found());
    let (waiting, new) = (files.clone(), path.clone());
    let waiting = thread::spawn(move || put(&waiting, &new, bytes(1)));
    hadoop.dfs_admin(&["-safemode", "leave"]);
    waiting.join().unwrap().unwrap();
}

fn wrong_addresses_are_told(hadoop: &Hadoop) {
    let error = |authority: &str| {
        let files = Hdfs::open(&HadoopConfiguration::new(), authority, USER).unwrap();
        let files = files.patience(Duration::from_millis(100));
        let path = FilePath::remote("hdfs", authority, "/a");
        block_on(files.status(&path)).unwrap_err().to_string()
    };
    let web = error(&format!("localhost:{}", hadoop.name_node_web.port));
    assert!(web.contains("right port?") || web.contains("the connection"), "{web}");
    let nobody = error("localhost:1");
    assert!(nobody.contains("no NameNode answers"), "{nobody}");
    let unknown = error("no-such-host.invalid:8020");
    assert!(unknown.contains("host name is not known"), "{unknown}");
    let mut kerberos = HadoopConfiguration::new();
    kerberos.set("hadoop.security.authentication", "kerberos");
    let refused = Hdfs::open(&kerberos, "nn", USER).unwrap_err().to_string();
    assert!(refused.contains("Kerberos"), "{refused}");
}
