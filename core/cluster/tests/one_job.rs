//! A JobManager that exists for one job, seen by the client that waits for that job.

#![cfg(feature = "daemons")]
#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

use millstream_cluster::{DaemonFiles, JobManagerSetup, Lifecycle, PlannedJob, run_job_manager};
use millstream_config::{Configuration, options};
use millstream_graph::{
    Boundedness, Chaining, JobSettings, NodeId, NodeKind, OutputName, StreamEdge, StreamGraph,
    StreamNode, plan,
};
use millstream_rm_driver::testing::TestingDriver;
use millstream_rm_driver::{ClusterStatus, KnownEpoch, driver_events};
use millstream_types::{JobId, LeaderEpoch};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JOB: JobId = JobId::from_bytes([7; 16]);

fn write_graph(file: &Path) {
    let node = |id, name: &str, kind| StreamNode {
        id: NodeId(id),
        uid: None,
        name: name.to_owned(),
        kind,
        stateful: false,
        assigns_times: false,
        needs_times: false,
        parallelism: None,
        max_parallelism: None,
        slot_sharing_group: None,
        chaining: Chaining::Always,
        output_type: "u64".to_owned(),
    };
    let source = NodeKind::Source {
        boundedness: Boundedness::Bounded,
        coordinated: false,
        restarts_alone: true,
    };
    let nodes = vec![node(0, "in", source), node(1, "out", NodeKind::Sink { coordinated: false })];
    let edge = StreamEdge {
        source: NodeId(0),
        output: OutputName::Main,
        target: NodeId(1),
        input: 0,
        partitioner: None,
    };
    let graph = StreamGraph { nodes, edges: vec![edge] };
    let graph = plan(&graph, "test", 0, BTreeMap::new(), &JobSettings::default()).unwrap();
    let graph = millstream_protocol::job::JobGraph::from(&graph);
    std::fs::write(file, graph.encode_to_vec()).unwrap();
}

/// The status line of the answer.
async fn asked(rest: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(rest).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: {rest}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_answered_at_all_is_told_about_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let planned = PlannedJob {
        job: JOB,
        graph: dir.path().join("graph"),
        settings: JobSettings::default(),
        artifact: dir.path().join("artifact"),
    };
    write_graph(&planned.graph);
    // Its content is read before the job can begin, and that takes a while.
    File::create(&planned.artifact).unwrap().set_len(256 << 20).unwrap();
    let configuration = Configuration::from_pairs([
        (options::REST_BIND_PORT.key(), "0"),
        (options::JOBMANAGER_RPC_PORT.key(), "0"),
        (options::IO_TMP_DIRS.key(), dir.path().to_str().unwrap()),
    ])
    .unwrap();
    let first = Box::new(KnownEpoch(LeaderEpoch::new(1)));
    let lifecycle = Lifecycle::PerJob(planned);
    let setup = JobManagerSetup { lifecycle, ..JobManagerSetup::session(first) };

    let (driver_at, driver) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(run_job_manager(
        configuration,
        DaemonFiles::default(),
        setup,
        move |endpoints| {
            let (events, received) = driver_events();
            let (driver, manager) = TestingDriver::new(1, events);
            driver_at.send((endpoints.rest, manager)).unwrap();
            Ok((Box::new(driver), received))
        },
    ));
    let (rest, manager) = driver.await.unwrap();
    assert_eq!(asked(rest, &format!("GET /v1/jobs/{JOB}")).await, "HTTP/1.1 200 OK");
    assert_eq!(asked(rest, "DELETE /v1/cluster").await, "HTTP/1.1 200 OK");
    running.await.unwrap().unwrap();
    assert_eq!(manager.ended().unwrap().0, ClusterStatus::Cancelled);
}
