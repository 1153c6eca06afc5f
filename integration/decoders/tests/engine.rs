//! Messages between the engine's own processes, and the input of its users and deployers.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use millstream_graph::{JobGraph, JobSettings};
use millstream_network::testing::{
    credit_frame, data_frame, event_frame, hear, hear_hello, hello_frame,
};
use millstream_network::{
    Batch, ChannelId, ChannelLayout, Event, Exchange, ExchangeConfig, Generation, Inbox,
    InputChannels, Received,
};
use millstream_protocol::cluster::{self, FromTaskManager, ToTaskManager};
use millstream_protocol::frame;
use millstream_protocol::host::{self, FromHost, ToHost, from_host, to_host, user_metric::Value};
use millstream_protocol::job;
use millstream_security::{Authority, Credentials, Role, Secret};
use millstream_types::{Barrier, BarrierKind, CheckpointId, HostId, Timestamp};
use prost::Message;

use millstream_decoders::run;

fn settings() -> job::JobSettings {
    job::JobSettings {
        args: vec!["--input".to_owned(), "a".to_owned()],
        parallelism: 2,
        max_parallelism: 128,
        chaining: true,
        runtime_mode: job::RuntimeMode::Streaming.into(),
        buffer_timeout_ms: 100,
        config: [("restart-strategy.type".to_owned(), "none".to_owned())].into(),
        entry: None,
    }
}

/// A source, and behind a hash edge a sink.
fn graph() -> job::JobGraph {
    let vertex = |number: u8, source: bool| job::JobVertex {
        id: vec![number; 16],
        name: format!("vertex {number}"),
        parallelism: 2,
        max_parallelism: 128,
        operators: vec![job::ChainedOperator {
            id: vec![number + 10; 16],
            node: u32::from(number),
            uid: Some(format!("uid {number}")),
            name: "operator".to_owned(),
            coordinated: true,
            restarts_alone: false,
            source,
            upstream: None,
            output_type: "u64".to_owned(),
            timed: true,
        }],
        slot_sharing_group: "default".to_owned(),
    };
    job::JobGraph {
        name: "job".to_owned(),
        vertices: vec![vertex(1, true), vertex(2, false)],
        edges: vec![job::JobEdge {
            id: 0,
            source: vec![1; 16],
            source_node: 1,
            side_output: None,
            target: vec![2; 16],
            target_node: 2,
            input: 0,
            partitioner: job::Partitioner::Hash.into(),
        }],
        runtime_mode: job::RuntimeMode::Streaming.into(),
        ordinal: 0,
        plan_values: [("now".to_owned(), vec![1, 2, 3])].into(),
        settings: Some(settings()),
        fingerprint: vec![7; 32],
    }
}

#[test]
fn job_graphs() {
    let whole = graph();
    JobGraph::try_from(whole.clone()).expect("it is a good one");
    let good = [whole.encode_to_vec(), settings().encode_to_vec()];
    run("job graphs", 200, &good, |bytes| {
        if let Ok(graph) = job::JobGraph::decode(bytes) {
            let _ = JobGraph::try_from(graph).map(|graph| job::JobGraph::from(&graph));
        }
        if let Ok(settings) = job::JobSettings::decode(bytes) {
            let _ = JobSettings::try_from(settings);
        }
    });
}

fn begin() -> host::Begin {
    host::Begin {
        role: host::Role::TaskHost.into(),
        major: 1,
        job_id: vec![1; 16],
        job_graph: Some(graph()),
        host_id: vec![2; 16],
        bind_address: "127.0.0.1:0".to_owned(),
        exchange_token: vec![3; 32],
        temp_dir: "/tmp".to_owned(),
        ..host::Begin::default()
    }
}

fn task() -> host::TaskId {
    host::TaskId { vertex: vec![1; 16], subtask: 1, attempt: 0 }
}

fn of_host() -> Vec<FromHost> {
    let failure = host::Failure { message: "a word".to_owned(), ..host::Failure::default() };
    let lookups =
        host::Histogram { quantiles: vec![1; 7], mean: 0.5, ..host::Histogram::default() };
    let user = |name: &str, value| host::UserMetric { name: name.to_owned(), value: Some(value) };
    let metrics = host::TaskMetrics {
        task: Some(task()),
        records_in: 1 << 40,
        user: vec![
            user("seen", Value::Counter(-5)),
            user("cache_bytes", Value::Gauge(0.5)),
            user("lookup_us", Value::Histogram(lookups)),
        ],
        ..host::TaskMetrics::default()
    };
    [
        from_host::Message::Hello(host::Hello { major: 1, ..host::Hello::default() }),
        from_host::Message::Planned(graph()),
        from_host::Message::JobQuery(host::JobQuery { job_id: vec![1; 16], cancel: true }),
        from_host::Message::Ready(host::Ready { data_address: "127.0.0.1:1".to_owned() }),
        from_host::Message::TaskState(host::TaskState {
            task: Some(task()),
            state: host::Execution::Failed.into(),
            cause: Some(failure),
            metrics: Some(metrics.clone()),
            last_barrier: 7,
            committables: vec![committables()],
        }),
        from_host::Message::Metrics(host::Metrics { tasks: vec![metrics] }),
        from_host::Message::CheckpointAck(host::CheckpointAck {
            task: Some(task()),
            checkpoint: 7,
            snapshots: vec![snapshot()],
            committables: vec![committables()],
            metrics: Some(host::CheckpointMetrics { sync_ns: 9, ..Default::default() }),
        }),
        from_host::Message::SubtasksRestarted(host::SubtasksRestarted { attempt: 3 }),
        from_host::Message::HandedOut(host::HandedOut {
            instance: 2,
            tasks: vec![host::TaskHanded {
                task: Some(task()),
                ended: true,
                events: vec![handed()],
            }],
            last: true,
        }),
    ]
    .map(|message| FromHost { message: Some(message) })
    .to_vec()
}

fn handed() -> host::HandedEvent {
    host::HandedEvent { operator_id: vec![1; 16], subtask: 1, after: 7, payload: vec![2; 12] }
}

fn committables() -> host::Committables {
    host::Committables {
        operator_id: vec![1; 16],
        subtask: 1,
        checkpoint: 7,
        count: 2,
        payload: vec![3; 9],
        ..host::Committables::default()
    }
}

fn snapshot() -> host::OperatorSnapshot {
    let file = host::FileSegment { path: "a/b".to_owned(), offset: 1, length: 2, crc32: 3 };
    let content = Some(host::state_handle::Content::File(file));
    let groups = vec![host::GroupOffset { group: 5, offset: 0 }];
    host::OperatorSnapshot {
        operator_id: vec![1; 16],
        max_parallelism: 128,
        key_schema: Some(vec![1, 2]),
        states: vec![host::StateDescription {
            name: "total".to_owned(),
            kind: host::StateKind::Value.into(),
            schema: vec![4],
        }],
        positions: vec![vec![1], vec![2]],
        handles: vec![host::StateHandle { content, groups, ..host::StateHandle::default() }],
        rescaled: true,
    }
}

fn to_host() -> Vec<ToHost> {
    let deploy = host::Deploy {
        peers: vec![host::PeerHost { host_id: vec![1; 16], data_address: "a:1".to_owned() }],
        placements: vec![host::Placement { vertex: vec![1; 16], subtask: 1, host_id: vec![1; 16] }],
        tasks: vec![host::Task {
            vertex: vec![1; 16],
            subtask: 1,
            slot: 1,
            restored: 7,
            snapshots: vec![snapshot()],
            ..host::Task::default()
        }],
    };
    let event = host::OperatorEvent {
        operator_id: vec![1; 16],
        subtask: 1,
        payload: vec![0; 20],
        hands_out: true,
    };
    [
        to_host::Message::Begin(begin()),
        to_host::Message::Deploy(deploy),
        to_host::Message::Cancel(host::Cancel { tasks: vec![task()] }),
        to_host::Message::OperatorEvent(event),
        to_host::Message::CommitCheckpoint(host::CommitCheckpoint {
            commit: 1,
            checkpoint: 7,
            recover: true,
            committables: vec![committables()],
        }),
        to_host::Message::RestartSubtasks(host::RestartSubtasks {
            attempt: 3,
            restored: 7,
            operators: vec![host::OperatorSubtasks {
                operator_id: vec![1; 16],
                subtasks: vec![0, 5],
            }],
        }),
        to_host::Message::ReportHandedOut(host::ReportHandedOut { instance: 2, from: 7 }),
        to_host::Message::TakeOver(host::TakeOver {
            from: 7,
            newest: 8,
            events: vec![handed()],
            ended: vec![host::OperatorSubtasks { operator_id: vec![1; 16], subtasks: vec![0, 5] }],
        }),
    ]
    .map(|message| ToHost { message: Some(message) })
    .to_vec()
}

#[test]
fn frames_of_the_host_protocol() {
    let mut good: Vec<_> =
        of_host().iter().map(|message| frame::encode(message).unwrap()).collect();
    good.extend(to_host().iter().map(|message| frame::encode(message).unwrap()));
    run("frames of the host protocol", 300, &good, |bytes| {
        let mut rest = bytes;
        while frame::read_blocking::<FromHost>(&mut rest).is_ok() {}
        let mut rest = bytes;
        while frame::read_blocking::<ToHost>(&mut rest).is_ok() {}
    });
}

#[test]
fn messages_of_the_cluster_protocol() {
    let register = cluster::Register {
        major: 1,
        task_manager_id: "tm".to_owned(),
        address: "here".to_owned(),
        slots: 2,
        cpu_cores_per_slot: 1.5,
        ..cluster::Register::default()
    };
    let said = cluster::HostMessage { host_id: vec![1; 16], message: of_host().pop() };
    let start = cluster::StartHost {
        host_id: vec![1; 16],
        sha256: "ab".repeat(32),
        artifact_size: 1,
        begin: Some(begin()),
        slots: vec![0, 1],
    };
    let from = |message| FromTaskManager { epoch: 1, message: Some(message) }.encode_to_vec();
    let to = |message| ToTaskManager { epoch: 1, message: Some(message) }.encode_to_vec();
    let good = [
        from(cluster::from_task_manager::Message::Register(register)),
        from(cluster::from_task_manager::Message::HostMessage(said)),
        to(cluster::to_task_manager::Message::StartHost(start)),
    ];
    run("messages of the cluster protocol", 200, &good, |bytes| {
        let _ = FromTaskManager::decode(bytes);
        let _ = ToTaskManager::decode(bytes);
    });
}

type Record = (u64, String, Option<Vec<u32>>);

const CHANNEL: ChannelId = ChannelId { edge: 1, from: 0, to: 0, generation: Generation::FIRST };
const NOTHING: ChannelId = ChannelId { edge: 2, from: 0, to: 0, generation: Generation::FIRST };
const TOKEN: [u8; 32] = [9; 32];
const OWN: HostId = HostId::from_u128(1);

#[test]
fn frames_of_the_exchange() {
    let peer = HostId::from_u128(2);
    let records: Vec<Record> =
        (0..5).map(|n| (n, "x".repeat(7), (n % 2 == 0).then(|| vec![1, 2, 3]))).collect();
    let timed = Batch::timed(records.clone(), (0..5).collect()).unwrap();
    let barrier = Event::Barrier(Barrier::new(CheckpointId::new(7), BarrierKind::Savepoint));
    let good = [
        hello_frame(&TOKEN, (peer, OWN), Generation::FIRST),
        data_frame(CHANNEL, &Batch::of(records)).unwrap(),
        data_frame(CHANNEL, &timed).unwrap(),
        data_frame(NOTHING, &Batch::of(vec![(); 9])).unwrap(),
        event_frame(CHANNEL, Event::Watermark(Timestamp::from_millis(5))),
        event_frame(CHANNEL, barrier),
        event_frame(CHANNEL, Event::EndOfInput),
        credit_frame(CHANNEL, 4),
    ];
    run("frames of the exchange", 400, &good, |bytes| {
        let _ = hear_hello(bytes, &TOKEN, OWN, Generation::FIRST);
        let exchange = Exchange::start(ExchangeConfig {
            host: OWN,
            generation: Generation::FIRST,
            token: Secret::new(TOKEN),
            credentials: None,
            bind: Vec::new(),
            layout: ChannelLayout::new(|_, from| if from == 0 { 0..1 } else { 0..0 }),
        });
        let exchange = exchange.expect("it opens no port");
        let input = |channel| vec![InputChannels::one(channel, peer)];
        let inbox = Inbox::<Record>::new(input(CHANNEL), 2, Waker::noop().clone(), Arc::default());
        let unit = Inbox::<()>::new(input(NOTHING), 2, Waker::noop().clone(), Arc::default());
        exchange.attach(&inbox);
        exchange.attach(&unit);
        let _ = hear(&exchange, peer, bytes);
        while matches!(inbox.receive(), Ok(Received::Batch(..) | Received::Event(..))) {}
        while matches!(unit.receive(), Ok(Received::Batch(..) | Received::Event(..))) {}
    });
}

#[test]
fn authorities_and_credentials() {
    let authority = Authority::generate("application_1_2").unwrap();
    let worker = authority.issue(Role::Worker, "tm", Duration::from_secs(86_400)).unwrap();
    let secrets = [authority.to_secret(), worker.to_secret()];
    let good = secrets.map(|secret| secret.expose().clone());
    // Those that are nearly right take some signatures each.
    run("authorities and credentials", 40, &good, |bytes| {
        let _ = Authority::from_secret(bytes);
        let _ = Credentials::from_secret(bytes);
    });
}
