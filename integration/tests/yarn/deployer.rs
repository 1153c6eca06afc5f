//! YARN as commands know it, against the contract of deployers.

use std::sync::Arc;

use millstream_config::Configuration;
use millstream_hadoop_config::HadoopConfiguration;
use millstream_integration::{Hadoop, binary};
use millstream_rm_driver::{ClusterId, conformance};
use millstream_rm_yarn::cluster_deployer::YarnDeployer;
use millstream_storage_hdfs::Hdfs;

#[tokio::test]
async fn yarn_keeps_the_contract_of_deployers() {
    let hadoop = Hadoop::start(1);
    let mut described = HadoopConfiguration::new();
    assert!(described.add_dir(&hadoop.conf_dir()).unwrap());
    let configuration = Configuration::from_pairs([
        ("jobmanager.memory.process.size", "256m"),
        ("taskmanager.memory.process.size", "512m"),
    ])
    .unwrap();
    let make = || {
        let (described, user) = (described.clone(), "alice".to_owned());
        YarnDeployer::new(&configuration, described, user, None, |hadoop, path, user| {
            let hdfs = Hdfs::open(hadoop, path.authority(), user);
            Ok(Arc::new(hdfs.map_err(|error| error.to_string())?))
        })
        .unwrap()
    };
    let unknown = ClusterId::new("application_1_0001");
    conformance::deployer(make, &binary("millstream"), &unknown).await;
}
