//! WordCount from HDFS to HDFS, in the program's own process.

use std::process::Command;

use bytes::Bytes;
use millstream_integration::{Hadoop, Outcome, USER, example, make_text, reference_counts};
use millstream_storage::{CreateOptions, FilePath, FileSystem, block_on, read_all, write_all};

use crate::{files, hdfs, home};

/// The program as a user of the cluster starts it.
fn word_count(hadoop: &Hadoop, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(example("word_count"));
    command
        .args(arguments)
        .env("HADOOP_CONF_DIR", hadoop.conf_dir())
        .env("HADOOP_USER_NAME", USER)
        .env_remove("YARN_CONF_DIR");
    Outcome::of(command)
}

#[test]
fn word_count_reads_and_writes_hdfs() {
    // Blocks of a megabyte: 5 MB lie in several.
    let hadoop = hdfs().set("dfs.blocksize", "1048576").start();
    let text = hadoop.dir().join("text");
    make_text(&text, 5 << 20);
    let files = files(&hadoop);
    let (input, output) = (home(&hadoop, "input/text"), home(&hadoop, "output"));
    let bytes = Bytes::from(std::fs::read(&text).unwrap());
    block_on(files.make_directories(&input.parent().unwrap(), None)).unwrap();
    block_on(write_all(&files, &input, CreateOptions::NEW, bytes)).unwrap();
    assert_eq!(block_on(files.status(&input)).unwrap().block_bytes, Some(1 << 20));

    // The path without a NameNode is on the cluster's default file system.
    let input = format!("hdfs:///user/{USER}/input");
    let _ = word_count(&hadoop, &["--input", &input, "--output", &output.to_string()]).success();
    let mut lines = Vec::new();
    for status in block_on(files.list(&output)).unwrap() {
        assert!(!status.is_directory(), "{} was left in the output", status.path);
        assert_eq!((status.permission, status.owner.as_str()), (0o644, USER));
        let bytes = block_on(read_all(&files, &status.path, 64 << 20)).unwrap();
        lines.extend(String::from_utf8(bytes).unwrap().lines().map(str::to_owned));
    }
    lines.sort_unstable();
    assert_eq!(lines, reference_counts(&text));

    for (input, output, expected) in [
        ("hdfs:///none", output.to_string(), "there is no file or directory hdfs:///none"),
        (input.as_str(), "hdfs:///not-mine".to_owned(), "no permission to create directory"),
        ("hdfs://localhost:1/a", output.to_string(), "no NameNode answers"),
        ("s3://bucket/a", output.to_string(), "no file systems with the scheme \"s3\""),
    ] {
        let ended = word_count(&hadoop, &["--input", input, "--output", &output]);
        let complaint = ended.complaint();
        assert!(complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn hdfs_without_a_configuration_is_refused_with_what_to_set() {
    let mut command = Command::new(example("word_count"));
    for variable in ["HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_HOME"] {
        command.env_remove(variable);
    }
    let input = FilePath::from("hdfs:///a").to_string();
    command.args(["--input", &input]);
    let ended = Outcome::of(command);
    assert!(ended.complaint().contains("set HADOOP_CONF_DIR"), "{ended:?}");
}
