//! The contract of file systems, on a real NameNode and as an ordinary user.

use std::sync::Arc;

use millstream_storage::{FileSystem, block_on, conformance};

use crate::{files, hdfs, home};

#[test]
fn hdfs_keeps_the_contract_of_file_systems() {
    let hadoop = hdfs().start();
    let (files, root) = (Arc::new(files(&hadoop)), home(&hadoop, "suite"));
    block_on(files.make_directories(&root, Some(0o755))).unwrap();
    conformance::run(files, &root);
}
