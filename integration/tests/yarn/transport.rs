//! One contract for both ways to the ResourceManager.

use std::time::Duration;

use millstream_hadoop_config::HadoopConfiguration;
use millstream_integration::{Hadoop, OnYarn, USER, application_id, binary};
use millstream_rm_yarn::client::{ClientError, Transport, YarnClient};
use millstream_rm_yarn::deployer::{is_over, state};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::{
    ApplicationSubmissionContextProto, ContainerLaunchContextProto, NodeReportProto,
    QueueStateProto, ResourceProto, StringStringMapProto, YarnApplicationStateProto,
};

const MASTER_MB: i64 = 256;

fn sized(memory: i64) -> ResourceProto {
    ResourceProto { memory: Some(memory), virtual_cores: Some(1), ..ResourceProto::default() }
}

fn client(hadoop: &Hadoop, transport: Transport) -> YarnClient {
    let mut configuration = HadoopConfiguration::new();
    assert!(configuration.add_dir(&hadoop.conf_dir()).unwrap());
    YarnClient::new(&configuration, USER, transport, Duration::from_secs(20)).unwrap()
}

/// Waits until the application's state is one of these.
async fn wait_for(client: &mut YarnClient, id: ApplicationId, what: &str) -> String {
    let start = std::time::Instant::now();
    loop {
        let report = client.report(id).await.unwrap();
        let state = state(&report);
        if state.starts_with(what) {
            assert_eq!(report.user(), USER);
            return report.diagnostics().to_owned();
        }
        assert!(!is_over(&report), "{state}: {}", report.diagnostics());
        assert!(start.elapsed() < super::DEADLINE, "{id} is {state}, not {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_contract(hadoop: &Hadoop, transport: Transport) {
    let mut client = client(hadoop, transport);
    let queue = client.queue("default").await.unwrap().unwrap();
    assert_eq!(queue.state(), QueueStateProto::QRunning);
    assert!(client.queue("nowhere").await.unwrap().is_none());

    let nodes = client.running_nodes().await.unwrap();
    let memory = |node: &NodeReportProto| node.capability.clone().unwrap().memory();
    assert_eq!(nodes.iter().map(memory).collect::<Vec<_>>(), [8192, 8192]);
    assert!(nodes.iter().all(|node| node.node_id.clone().unwrap().port() > 0));

    let new = client.new_application().await.unwrap();
    assert_ne!(new.id, client.new_application().await.unwrap().id);
    assert_eq!(new.maximum.memory(), 8192);
    let reserved = client.report(new.id).await.unwrap_err();
    assert!(matches!(reserved, ClientError::Unknown(id) if id == new.id), "{reserved}");
    let unknown = client.kill(new.id, "x").await.unwrap_err();
    assert!(matches!(unknown, ClientError::Unknown(_)), "{unknown}");

    let (key, value) = hadoop.mark();
    let launch = ContainerLaunchContextProto {
        command: vec!["exec sleep 600".to_owned()],
        environment: vec![StringStringMapProto { key: Some(key), value: Some(value) }],
        ..ContainerLaunchContextProto::default()
    };
    let submission = |size| ApplicationSubmissionContextProto {
        application_id: Some(new.id.into()),
        application_name: Some("contract".to_owned()),
        application_type: Some("Millstream".to_owned()),
        application_tags: vec!["one".to_owned(), "two".to_owned()],
        queue: Some("default".to_owned()),
        max_app_attempts: Some(1),
        resource: Some(sized(size)),
        am_container_spec: Some(launch.clone()),
        ..ApplicationSubmissionContextProto::default()
    };
    let refused = client.submit(submission(1 << 20)).await.unwrap_err().to_string();
    assert!(refused.contains("memory"), "{refused}");
    assert!(!refused.contains('\n'), "{refused}");
    client.submit(submission(MASTER_MB)).await.unwrap();
    client.submit(submission(MASTER_MB)).await.unwrap();
    let report = client.report(new.id).await.unwrap();
    assert_eq!((report.name(), report.queue()), ("contract", "root.default"));
    assert!(report.yarn_application_state() < YarnApplicationStateProto::Finished);
    let shown = hadoop.web.get(&format!("/ws/v1/cluster/apps/{}", new.id)).json;
    assert_eq!(shown["app"]["applicationTags"], "one,two");
    assert_eq!(shown["app"]["applicationType"], "Millstream");
    wait_for(&mut client, new.id, "ACCEPTED").await;
    while !client.kill(new.id, "it was asked to").await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let why = wait_for(&mut client, new.id, "KILLED/KILLED").await;
    assert!(why.contains("it was asked to"), "{why}");
    assert!(client.kill(new.id, "twice").await.unwrap(), "it is over already");
}

#[test]
fn both_transports_keep_the_contract() {
    let yarn = OnYarn::new(Hadoop::start(2));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for transport in [Transport::Rpc, Transport::Rest] {
        runtime.block_on(assert_contract(&yarn.hadoop, transport));
    }
    // The RPC port of this client's configuration is closed.
    let yarn = yarn
        .set("yarn.client.transport", "rest")
        .set("flink.yarn.resourcemanager.address", "localhost:1");
    let deployed = yarn.run("yarn-session", &["-d"]).success();
    let session = application_id(&deployed.stdout);
    let (program, output) = (binary("jobs"), yarn.home("sums"));
    let job = ["-c", "neighbour", program.to_str().unwrap(), "--records", "1000"];
    let options = ["--rate", "1000000", "--groups", "10", "--output", output.as_str()];
    let _ = yarn.run("run", &[&job[..], &options[..]].concat()).success();
    assert_eq!(yarn.sorted_lines(&output).len(), 10);
    let _ = yarn.told("yarn-session", &["-id", &session], "stop\n").success();
    assert_eq!(yarn.ended(&session), "FINISHED/SUCCEEDED");
}
