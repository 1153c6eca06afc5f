//! Jobs with files that are refused when they are planned, or fail when they open them.

use std::fs;

use millstream::bail;
use millstream::connectors::{Datagen, DiscardSink, FileSink, FileSource};

/// Why a job is refused that the function builds.
fn refusal(build: impl FnOnce(&mut millstream::Environment)) -> String {
    let mut env = millstream::testing::environment();
    build(&mut env);
    format!("{:#}", env.execute("refused").expect_err("the job is refused"))
}

/// Ends a job that should have been refused.
fn never<T>(_record: T) -> millstream::Result<T> {
    bail!("the job runs")
}

#[test]
fn what_can_never_be_published_is_refused_when_the_job_is_planned() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let error = refusal(|env| {
        let bounded = env.source("bounded", Datagen::sequence(0..3));
        let endless = env.source("endless", Datagen::from_fn(|n| n));
        let both = bounded.union(endless).map(never).rebalance();
        both.sink("files", FileSink::lines(&output));
    });
    assert_eq!(
        error,
        "job \"refused\": sink \"files\" publishes its output when the input has ended, and source \
         \"endless\" never ends: have the job take checkpoints \
         (`-D execution.checkpointing.interval=10s`), bound the source (`count` of a generator, no \
         `watch` of files), or use a sink that needs no end, as PrintSink"
    );
    let input = directory.path().join("in");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("a"), "a line\n").unwrap();
    let error = refusal(|env| {
        let watched = FileSource::text(&input).watch(std::time::Duration::from_secs(1));
        env.source("watched", watched).map(never).sink("files", FileSink::lines(&output));
    });
    assert!(error.contains("source \"watched\" never ends"), "{error}");
    assert!(!output.exists());

    // An endless source may stand beside, where no file sink is below it.
    let mut env = millstream::testing::environment();
    env.source("bounded", Datagen::sequence(0..3)).sink("files", FileSink::lines(&output));
    env.execute("bounded").unwrap();
}

#[test]
fn suffixes_that_no_file_can_have_are_refused_when_the_job_is_planned() {
    for (suffix, why) in [
        ("/a".to_owned(), "it holds a slash"),
        ("x".repeat(201), "it has 201 bytes, and at most 200 are possible"),
        ("x".repeat(300), "it has 300 bytes"),
        ("a\0".to_owned(), "it holds a control character"),
        ("..".to_owned(), "it holds two dots in a row"),
    ] {
        let error = refusal(|env| {
            let numbers = env.source("numbers", Datagen::sequence(0..3));
            numbers.sink("files", FileSink::lines("/nowhere").suffix(&suffix));
        });
        assert!(error.contains("sink \"files\": the suffix"), "{error}");
        assert!(error.contains(why), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut env = millstream::testing::environment();
    let longest = FileSink::lines(directory.path()).suffix(&"x".repeat(200));
    env.source("numbers", Datagen::sequence(0..3)).sink("files", longest);
    env.execute("longest").unwrap();
}

#[test]
fn paths_that_cannot_be_meant_are_refused_when_the_job_is_planned() {
    for (path, why) in [
        ("file://data/in", "did you forget a slash, as in file:///data/in?"),
        ("hdfs:in", "write hdfs:///in"),
        ("s3://bucket/in", "there are no file systems with the scheme \"s3\""),
        ("", "it is empty"),
    ] {
        let error = refusal(|env| {
            env.source("text", FileSource::text(path)).sink("none", DiscardSink::new());
        });
        assert!(error.contains("source \"text\": ") && error.contains(why), "{error}");
        let error = refusal(|env| {
            let numbers = env.source("numbers", Datagen::sequence(0..3));
            numbers.sink("files", FileSink::lines(path));
        });
        assert!(error.contains("sink \"files\": ") && error.contains(why), "{error}");
    }
}

#[test]
fn a_job_that_fails_leaves_no_directory_that_it_has_made() {
    let directory = tempfile::tempdir().unwrap();
    for output in ["out", "a/b/c"] {
        let error = refusal(|env| {
            env.source("text", FileSource::text(directory.path().join("missing")))
                .sink("files", FileSink::lines(directory.path().join(output)));
        });
        assert!(error.contains("there is no file or directory"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{output}");
    }
}
