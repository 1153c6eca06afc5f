//! HDFS on real daemons of Hadoop.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

mod conformance;
mod daemons;
mod faults;
mod word_count;

use std::time::Duration;

use millstream_hadoop_config::HadoopConfiguration;
use millstream_integration::{Hadoop, HadoopBuilder, USER};
use millstream_storage::FilePath;
use millstream_storage_hdfs::Hdfs;

/// A machine that is busy with other tests takes its time.
const DEADLINE: Duration = Duration::from_secs(120);

/// HDFS alone.
fn hdfs() -> HadoopBuilder {
    Hadoop::builder().node_managers(0)
}

fn configuration(hadoop: &Hadoop) -> HadoopConfiguration {
    let mut configuration = HadoopConfiguration::new();
    assert!(configuration.add_dir(&hadoop.conf_dir()).unwrap());
    configuration
}

/// The file system as the ordinary user.
fn files(hadoop: &Hadoop) -> Hdfs {
    Hdfs::open(&configuration(hadoop), "", USER).unwrap()
}

/// A path in the ordinary user's home.
fn home(hadoop: &Hadoop, name: &str) -> FilePath {
    FilePath::from(format!("{}/user/{USER}", hadoop.default_fs())).join(name)
}
