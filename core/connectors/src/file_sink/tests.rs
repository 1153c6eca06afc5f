//! Writers and committers of a job, its restarts and its failures.

mod checkpoints;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use millstream_connector::conformance::{SinkTarget, check_sink};
use millstream_connector::{Batch, CheckpointId, Committer, Flow, Sink, SinkWriter};
use serde::Serialize;

use super::*;
use crate::testing::{before, committer_info, writer_info};

const PUBLISHED: &str = "part-abababab-cdcdcdcd-0-";

type Lines = FileSink<DisplayLines>;

/// The committer of a job's only attempt, or of a later one that begins anew.
fn committer(sink: &Lines, attempt: u32) -> FileCommitter {
    let mut committer = Sink::<String>::committer(sink, &committer_info()).unwrap();
    if attempt > 0 {
        committer.abort(&before(attempt)).unwrap();
    }
    committer.recover(Vec::new(), &before(attempt)).unwrap();
    committer
}

/// The end of a job: its files are published.
fn publish(committer: &mut FileCommitter, files: Vec<FinishedFile>) {
    committer.commit(CheckpointId::FIRST, files).unwrap();
    committer.close().unwrap();
}

fn finish<T>(writer: &mut impl SinkWriter<T, Committable = FinishedFile>) -> Vec<FinishedFile> {
    writer.pre_commit(CheckpointId::FIRST).unwrap()
}

fn writer(sink: &Lines, subtask: u32, attempt: u32) -> FileSinkWriter<DisplayLines> {
    Sink::<String>::writer(sink, &writer_info(subtask, 2, attempt)).unwrap()
}

/// Names and contents, hidden ones included.
fn contents(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect();
    files.sort();
    files
}

fn file(name: &str, text: &str) -> (String, String) {
    (format!("{PUBLISHED}{name}"), text.to_owned())
}

#[test]
fn files_appear_when_all_are_complete() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("deep/output");
    let sink = FileSink::lines(&output).suffix(".txt");
    let mut committer = committer(&sink, 0);
    let mut files = Vec::new();
    for subtask in 0..2 {
        let mut writer = writer(&sink, subtask, 0);
        writer.write(Batch::of(vec![format!("of {subtask}"), "x".to_owned()])).unwrap();
        files.extend(finish::<String>(&mut writer));
    }
    let hidden = contents(&output);
    assert_eq!(hidden.len(), 1);
    assert!(hidden[0].0.starts_with(".millstream-abab"), "{hidden:?}");
    publish(&mut committer, files);
    let expected = [file("0-0.txt", "of 0\nx\n"), file("1-0.txt", "of 1\nx\n")];
    assert_eq!(contents(&output), expected);
}

#[test]
fn a_subtask_without_records_makes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    writer.write(Batch::<String>::empty(false)).unwrap();
    assert!(finish::<String>(&mut writer).is_empty());
    publish(&mut committer, Vec::new());
    assert!(contents(directory.path()).is_empty());
}

#[test]
fn a_job_that_begins_anew_discards_what_earlier_attempts_wrote_and_published() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let foreign = ("part-0-0".to_owned(), "of another\n".to_owned());
    fs::write(directory.path().join(&foreign.0), &foreign.1).unwrap();

    // The first attempt publishes everything, the second dies while it writes.
    let mut first = committer(&sink, 0);
    let mut early = writer(&sink, 0, 0);
    early.write(Batch::of(vec!["early".to_owned()])).unwrap();
    first.commit(CheckpointId::FIRST, finish::<String>(&mut early)).unwrap();
    drop(first);
    let second = committer(&sink, 1);
    assert_eq!(contents(directory.path()).len(), 2);
    let mut dying = writer(&sink, 1, 1);
    dying.write(Batch::of(vec!["dying".to_owned()])).unwrap();
    drop(second);

    let mut third = committer(&sink, 2);
    // A task of the attempt before that still runs cannot write any more.
    let error = SinkWriter::<String>::pre_commit(&mut dying, CheckpointId::FIRST).unwrap_err();
    assert!(error.to_string().contains("attempt-1 of this attempt is gone"), "{error}");

    let mut good = writer(&sink, 0, 2);
    good.write(Batch::of(vec!["good".to_owned()])).unwrap();
    publish(&mut third, finish::<String>(&mut good));
    let published = ("part-abababab-cdcdcdcd-2-0-0".to_owned(), "good\n".to_owned());
    assert_eq!(contents(directory.path()), [foreign, published]);
    // Nothing can be written any more once the job has ended.
    let mut late = writer(&sink, 1, 1);
    let error = late.write(Batch::of(vec!["late".to_owned()])).unwrap_err().to_string();
    assert!(error.contains("attempt-1 of this attempt is gone"), "{error}");
}

/// The files of two writers, of which the first is in the way in some test.
fn two_files(sink: &Lines) -> Vec<FinishedFile> {
    let mut files = Vec::new();
    for subtask in 0..2 {
        let mut writer = writer(sink, subtask, 0);
        writer.write(Batch::of(vec!["x".to_owned()])).unwrap();
        files.extend(finish::<String>(&mut writer));
    }
    files
}

fn unpublished(directory: &Path, file: &FinishedFile) -> std::path::PathBuf {
    let info = committer_info();
    let places = Places::new(&FilePath::from(directory), info.job, info.operator).unwrap();
    places.unpublished(file.attempt, file.subtask, file.number).path().to_owned()
}

#[test]
fn a_commit_that_cannot_be_complete_publishes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let mut committer = committer(&sink, 0);
    let files = two_files(&sink);
    fs::remove_file(unpublished(directory.path(), &files[1])).unwrap();
    let error = committer.commit(CheckpointId::FIRST, files).unwrap_err().to_string();
    assert!(error.contains("0-1-0 cannot be published: neither it nor "), "{error}");
    assert_eq!(contents(directory.path()).len(), 1);
}

#[test]
fn a_commit_that_died_between_two_renames_is_completed_by_look() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let dying = committer(&sink, 0);
    let files = two_files(&sink);
    let published = directory.path().join(format!("{PUBLISHED}0-0"));
    fs::rename(unpublished(directory.path(), &files[0]), &published).unwrap();
    drop(dying);
    for _ in 0..2 {
        let mut next = Sink::<String>::committer(&sink, &committer_info()).unwrap();
        let pending = vec![(CheckpointId::FIRST, files.clone())];
        next.recover(pending, &[AttemptId::new(0)]).unwrap();
        next.commit(CheckpointId::FIRST, files.clone()).unwrap();
    }
    let mut next = committer(&sink, 0);
    next.close().unwrap();
    let expected = [file("0-0", "x\n"), file("1-0", "x\n")];
    assert_eq!(contents(directory.path()), expected);

    // A published file that is not the one that was written is an error.
    fs::write(&published, "y\n").unwrap();
    let error = next.commit(CheckpointId::FIRST, files).unwrap_err().to_string();
    assert!(error.contains("0-0-0 exists already"), "{error}");
}

#[test]
fn a_failed_attempt_leaves_nothing_and_may_be_discarded_again() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path().join("output"));
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    writer.write(Batch::of(vec!["x".to_owned()])).unwrap();
    for _ in 0..2 {
        committer.abort(&[AttemptId::new(0)]).unwrap();
        committer.close().unwrap();
    }
    assert!(contents(directory.path()).is_empty());
}

/// A directory that a file sink writes numbers to.
struct Numbers(tempfile::TempDir);

impl SinkTarget for Numbers {
    type Record = u64;
    type Sink = Lines;

    fn sink(&self) -> Lines {
        FileSink::lines(self.0.path()).roll_at_bytes(60).roll_after(Duration::from_secs(15))
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn published(&self) -> millstream_connector::Result<Vec<u64>> {
        let visible =
            contents(self.0.path()).into_iter().filter(|(name, _)| !name.starts_with('.'));
        let numbers = visible
            .flat_map(|(_, text)| text.lines().map(|line| line.parse::<u64>()).collect::<Vec<_>>());
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    fn leftovers(&self) -> millstream_connector::Result<Vec<String>> {
        let names = contents(self.0.path()).into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| name.starts_with('.')).collect())
    }
}

#[test]
fn whatever_is_killed_every_record_is_published_once() {
    let make = || Ok(Numbers(tempfile::tempdir()?));
    check_sink(make, 0..40).unwrap();
}

#[test]
fn a_writer_is_full_while_too_many_files_are_completed_and_wakes_its_task() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path()).roll_at_bytes(1);
    let _committer = committer(&sink, 0);
    let (ctx, woken) = crate::testing::context(0, 1);
    let info = WriterInfo { waker: ctx.waker, ..writer_info(0, 1, 0) };
    let mut writer = Sink::<String>::writer(&sink, &info).unwrap();
    // The disk may be fast: then it is never full, and all is there all the same.
    for number in 0..200 {
        let mut flow = writer.write(Batch::of(vec![number.to_string()])).unwrap();
        while flow == Flow::Full {
            woken.wait();
            flow = SinkWriter::<String>::resume(&mut writer).unwrap();
        }
    }
    assert_eq!(finish::<String>(&mut writer).len(), 200);
}

#[test]
fn a_file_of_the_same_name_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(directory.path());
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    writer.write(Batch::of(vec!["x".to_owned()])).unwrap();
    let files = finish::<String>(&mut writer);
    fs::write(directory.path().join(format!("{PUBLISHED}0-0")), "other\n").unwrap();
    let error = committer.commit(CheckpointId::FIRST, files).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    assert!(contents(directory.path()).contains(&file("0-0", "other\n")));
}

#[test]
fn files_roll_by_size_and_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let age = Duration::from_secs(60);
    let sink = FileSink::lines(directory.path()).roll_at_bytes(10).roll_after(age);
    let mut committer = committer(&sink, 0);
    let mut writer = writer(&sink, 0, 0);
    let next = |writer: &FileSinkWriter<_>| SinkWriter::<String>::next_time(writer);
    assert_eq!(next(&writer), None);
    for text in ["0123456789", "short", "x"] {
        writer.write(Batch::of(vec![text.to_owned()])).unwrap();
        let now = Instant::now();
        if text == "short" {
            assert!(next(&writer).is_some_and(|at| at > now && at <= now + age));
            SinkWriter::<String>::on_time(&mut writer, now).unwrap();
            assert!(next(&writer).is_some());
            SinkWriter::<String>::on_time(&mut writer, now + age).unwrap();
            assert_eq!(next(&writer), None);
        }
    }
    publish(&mut committer, finish::<String>(&mut writer));
    let expected = [file("0-0", "0123456789\n"), file("0-1", "short\n"), file("0-2", "x\n")];
    assert_eq!(contents(directory.path()), expected);
}

#[derive(Serialize)]
struct City {
    name: &'static str,
    people: u32,
}

fn encoded<E: Encoder<City>>(sink: &FileSink<E>) -> Vec<String> {
    let info = writer_info(0, 1, 0);
    let mut committer = sink.committer(&committer_info()).unwrap();
    committer.recover(Vec::new(), &[]).unwrap();
    let mut writer = sink.writer(&info).unwrap();
    for batch in [1, 2] {
        let cities = (0..batch).map(|_| City { name: "a,b", people: batch });
        writer.write(Batch::of(cities.collect())).unwrap();
    }
    let files = writer.pre_commit(CheckpointId::FIRST).unwrap();
    committer.commit(CheckpointId::FIRST, files).unwrap();
    committer.close().unwrap();
    contents(sink.directory.path()).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn records_are_written_as_json_csv_or_by_a_function() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let json = encoded(&FileSink::json_lines(at("json")));
    let row = |people| format!("{{\"name\":\"a,b\",\"people\":{people}}}\n");
    assert_eq!(json, [format!("{}{}{}", row(1), row(2), row(2))]);
    let csv = encoded(&FileSink::csv(at("csv")));
    assert_eq!(csv, ["name,people\n\"a,b\",1\n\"a,b\",2\n\"a,b\",2\n"]);
    let rolled = encoded(&FileSink::csv(at("rolled")).roll_at_bytes(1));
    assert_eq!(rolled, ["name,people\n\"a,b\",1\n", "name,people\n\"a,b\",2\n\"a,b\",2\n"]);
    let with = FileSink::with(at("with"), |city: &City, out: &mut Vec<u8>| {
        out.extend(city.people.to_string().bytes());
        Ok(())
    });
    assert_eq!(encoded(&with), ["122"]);
}

#[test]
fn what_the_system_refuses_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("blocked");
    fs::write(&blocked, "a file").unwrap();
    let sink = FileSink::lines(&blocked);
    let mut refused = Sink::<String>::committer(&sink, &committer_info()).unwrap();
    let error = format!("{:#}", refused.recover(Vec::new(), &[]).unwrap_err());
    assert!(error.contains("blocked"), "{error}");

    let sink = FileSink::lines(directory.path());
    let _committer = committer(&sink, 0);
    let mut full = writer(&sink, 0, 0);
    full.write_to_full_disk();
    full.write(Batch::of(vec!["x".to_owned()])).unwrap();
    let error = format!(
        "{:#}",
        SinkWriter::<String>::pre_commit(&mut full, CheckpointId::FIRST).unwrap_err()
    );
    assert_eq!(
        error,
        "the output cannot be written: no room to write to /dev/full: No space left on device \
         (os error 28); free space or have the quota raised"
    );
}

#[test]
fn an_attempt_that_fails_leaves_no_directory_that_the_job_has_made() {
    let directory = tempfile::tempdir().unwrap();
    // What was there stays, and what an earlier attempt has made is known to a later one.
    let kept = FileSink::lines(directory.path());
    drop(committer(&kept, 0));
    let mut failed = committer(&kept, 1);
    failed.abort(&[AttemptId::new(1)]).unwrap();
    failed.close().unwrap();
    assert!(directory.path().exists());
    let output = directory.path().join("a/b");
    let sink = FileSink::lines(&output);
    drop(committer(&sink, 0));
    let mut second = committer(&sink, 1);
    second.abort(&[AttemptId::new(1)]).unwrap();
    second.close().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_output_that_is_a_link_to_nothing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    std::os::unix::fs::symlink("nothing", &output).unwrap();
    let sink = FileSink::lines(&output);
    let mut refused = Sink::<String>::committer(&sink, &committer_info()).unwrap();
    let error = format!("{:#}", refused.recover(Vec::new(), &[]).unwrap_err());
    assert!(error.contains("is a symbolic link that leads to no directory"), "{error}");
    assert!(output.is_symlink());
}

#[test]
fn what_dead_jobs_have_left_goes_and_what_may_live_stays() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    let leftover = |name: &str, lock: Option<&[u8]>, alive_seconds_ago: u64| {
        fs::create_dir_all(at(name).join("attempt-0")).unwrap();
        fs::write(at(name).join("attempt-0/part-0-0"), "lost").unwrap();
        lock.inspect(|boot| fs::write(at(name).join("lock"), boot).unwrap());
        let alive = fs::File::create(at(name).join("alive")).unwrap();
        let then = std::time::SystemTime::now();
        let then = then - std::time::Duration::from_secs(alive_seconds_ago);
        alive.set_modified(then).unwrap();
    };
    leftover(".millstream-killed", Some(&boot), 5);
    leftover(".millstream-locked", Some(&boot), 5_000);
    leftover(".millstream-elsewhere", Some(b"another machine"), 5);
    leftover(".millstream-elsewhere-dead", Some(b"another machine"), 5_000);
    leftover(".millstream-remote", None, 5);
    leftover(".millstream-remote-dead", None, 5_000);
    fs::create_dir(at(".millstream-unknown")).unwrap();
    fs::write(at(".millstream-file"), "a file").unwrap();
    fs::create_dir(at(".other")).unwrap();
    let lives = fs::File::open(at(".millstream-locked/lock")).unwrap();
    lives.try_lock().unwrap();

    let sink = FileSink::lines(directory.path());
    let mut ours = committer(&sink, 0);
    // Another job into the same directory: this one lives.
    let info = CommitterInfo { job: JobId::from_bytes([9; 16]), ..committer_info() };
    let mut theirs = Sink::<String>::committer(&sink, &info).unwrap();
    theirs.recover(Vec::new(), &[]).unwrap();
    theirs.abort(&[AttemptId::new(0)]).unwrap();
    theirs.close().unwrap();
    let left = || {
        let names = contents(directory.path()).into_iter().map(|(name, _)| name);
        names.filter(|name| !name.contains("abababab")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        left(),
        ".millstream-elsewhere .millstream-elsewhere-dead .millstream-file .millstream-locked \
         .millstream-remote .millstream-remote-dead .millstream-unknown .other"
    );
    ours.sweep_by_signs();
    assert_eq!(
        left(),
        ".millstream-elsewhere .millstream-file .millstream-locked .millstream-remote \
         .millstream-unknown .other"
    );
    publish(&mut ours, Vec::new());
}
