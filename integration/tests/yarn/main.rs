//! Millstream's Hadoop RPC on real daemons of Hadoop.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where a step fails")]

use std::time::{Duration, Instant};

use millstream_integration::{Hadoop, binary, until};
use millstream_rm_yarn::credentials::{AM_RM_TOKEN, Token};
use millstream_rm_yarn::ipc::{Connection, Identity, IpcError, Options, Protocol};
use millstream_rm_yarn::proto::yarn::{
    ApplicationIdProto, ApplicationReportProto, ApplicationSubmissionContextProto,
    ContainerLaunchContextProto, FinalApplicationStatusProto, GetApplicationReportRequestProto,
    GetApplicationReportResponseProto, GetClusterMetricsRequestProto,
    GetClusterMetricsResponseProto, GetNewApplicationRequestProto, GetNewApplicationResponseProto,
    ResourceProto, StringStringMapProto, SubmitApplicationRequestProto,
    SubmitApplicationResponseProto, YarnApplicationStateProto,
};

mod bad_input;
mod deployer;
mod driver;
mod exactly_once;
mod faults;
mod modes;
mod nodes;
mod outages;
mod people;
mod savepoints;
mod shipping;
mod transport;

const DEADLINE: Duration = Duration::from_secs(60);

async fn connect(address: &str, identity: Identity) -> Result<Connection, IpcError> {
    Connection::open(address, Protocol::APPLICATION_CLIENT, identity, &Options::default()).await
}

fn alice() -> Identity {
    Identity::User("alice".to_owned())
}

fn false_token() -> Identity {
    Identity::Token(Token {
        identifier: vec![10, 2, 8, 1],
        password: b"guessed".to_vec(),
        kind: AM_RM_TOKEN.to_owned(),
        service: String::new(),
    })
}

/// Submits an application whose master runs this command; returns its report once it has ended.
async fn run(hadoop: &Hadoop, client: &Connection, command: String) -> ApplicationReportProto {
    let new: GetNewApplicationResponseProto =
        client.call("getNewApplication", &GetNewApplicationRequestProto {}).await.unwrap();
    let (key, value) = hadoop.mark();
    let launch = ContainerLaunchContextProto {
        command: vec![command],
        environment: vec![StringStringMapProto { key: Some(key), value: Some(value) }],
        ..ContainerLaunchContextProto::default()
    };
    let submission = ApplicationSubmissionContextProto {
        application_id: new.application_id,
        application_name: Some("test".to_owned()),
        max_app_attempts: Some(1),
        resource: Some(ResourceProto { memory: Some(256), ..ResourceProto::default() }),
        am_container_spec: Some(launch),
        ..ApplicationSubmissionContextProto::default()
    };
    let request =
        SubmitApplicationRequestProto { application_submission_context: Some(submission) };
    let _: SubmitApplicationResponseProto =
        client.call("submitApplication", &request).await.unwrap();
    let id = new.application_id.unwrap();
    let start = Instant::now();
    loop {
        let report = report(client, id).await.unwrap();
        if report.yarn_application_state() >= YarnApplicationStateProto::Finished {
            return report;
        }
        assert!(start.elapsed() < DEADLINE, "the application does not end: {report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn report(
    client: &Connection,
    id: ApplicationIdProto,
) -> Result<ApplicationReportProto, IpcError> {
    let request = GetApplicationReportRequestProto { application_id: Some(id) };
    let answer: GetApplicationReportResponseProto =
        client.call("getApplicationReport", &request).await?;
    Ok(answer.application_report.unwrap())
}

#[tokio::test]
async fn an_application_master_gets_and_starts_a_container() {
    let hadoop = Hadoop::start(2);
    let client = connect(&hadoop.client_address(), alice()).await.unwrap();
    let metrics: GetClusterMetricsResponseProto =
        client.call("getClusterMetrics", &GetClusterMetricsRequestProto {}).await.unwrap();
    assert_eq!(metrics.cluster_metrics.unwrap().num_node_managers(), 2);

    let program = binary("application_master");
    let scheduler = hadoop.scheduler_address();
    let told = hadoop.dir().join("told");
    let command = format!(
        "exec {} {scheduler} 'exit 3' 1>{} 2><LOG_DIR>/stderr",
        program.display(),
        told.display()
    );
    let ended = run(&hadoop, &client, command).await;
    let succeeded = FinalApplicationStatusProto::AppSucceeded;
    assert_eq!(ended.final_application_status(), succeeded, "{}", ended.diagnostics());
    assert_eq!((ended.user(), ended.diagnostics()), ("alice", "all is well"));
    // The report runs ahead of the master, which still hears that it may go.
    let told = until("the master has finished", DEADLINE, || {
        std::fs::read_to_string(&told).ok().filter(|told| told.contains("finished"))
    });
    let expected = [
        "registered in root.default",
        "allocated for 7",
        "started",
        "completed with 3",
        "finished",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);

    what_it_refuses_is_told(&hadoop, &client).await;
}

async fn what_it_refuses_is_told(hadoop: &Hadoop, client: &Connection) {
    let failed = run(hadoop, client, "exit 4".to_owned()).await;
    assert_eq!(failed.yarn_application_state(), YarnApplicationStateProto::Failed);
    assert!(failed.diagnostics().contains("exitCode: 4"), "{}", failed.diagnostics());

    let unknown = ApplicationIdProto { id: Some(99), cluster_timestamp: Some(1) };
    let error = report(client, unknown).await.unwrap_err().to_string();
    assert!(error.contains("refused: Application with id"), "{error}");
    assert!(!error.contains('\n'), "{error}");

    let request = GetClusterMetricsRequestProto {};
    let call = client.call::<_, GetClusterMetricsResponseProto>("unheardOf", &request);
    let error = call.await.unwrap_err().to_string();
    assert!(error.contains("refused: Unknown method unheardOf"), "{error}");

    let web = connect(&format!("localhost:{}", hadoop.web.port), alice()).await.unwrap();
    let call = web.call::<_, GetClusterMetricsResponseProto>("getClusterMetrics", &request);
    let error = call.await.unwrap_err().to_string();
    assert!(error.contains("is it the right port?"), "{error}");

    for address in [hadoop.scheduler_address(), hadoop.client_address()] {
        let error = connect(&address, false_token()).await.unwrap_err();
        assert!(matches!(error, IpcError::Remote(_) | IpcError::Broken { .. }), "{error}");
    }
}
