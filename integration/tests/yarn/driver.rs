//! The driver on a real ResourceManager: this process is an unmanaged ApplicationMaster, its
//! workers are shells in containers.

use std::time::{Duration, Instant};

use millstream_hadoop_config::HadoopConfiguration;
use millstream_integration::Hadoop;
use millstream_rm_driver::{DriverEvents, WorkerRequest, conformance};
use millstream_rm_yarn::credentials::Token;
use millstream_rm_yarn::driver::{YarnDriver, YarnDriverConfig};
use millstream_rm_yarn::ids::AttemptId;
use millstream_rm_yarn::ipc::{Connection, Identity, Options};
use millstream_rm_yarn::launch::WorkerLaunch;
use millstream_rm_yarn::proto::yarn::{
    ApplicationReportProto, ApplicationSubmissionContextProto, ContainerLaunchContextProto,
    GetNewApplicationRequestProto, GetNewApplicationResponseProto, ResourceProto,
    StringStringMapProto, SubmitApplicationRequestProto, SubmitApplicationResponseProto,
};
use millstream_rm_yarn::resource_manager::{ResourceManager, Service};
use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};

use crate::{DEADLINE, alice, connect, report};

/// Runs this in every container.
#[derive(Debug)]
struct Shell {
    mark: (String, String),
    command: &'static str,
}

impl WorkerLaunch for Shell {
    fn context(
        &self,
        _worker: &TaskManagerId,
        _host: &str,
    ) -> Result<ContainerLaunchContextProto, String> {
        let (key, value) = self.mark.clone();
        Ok(ContainerLaunchContextProto {
            command: vec![format!("{} 2><LOG_DIR>/stderr", self.command)],
            environment: vec![StringStringMapProto { key: Some(key), value: Some(value) }],
            ..ContainerLaunchContextProto::default()
        })
    }
}

/// Submits an application whose master is this process; its report once it may register.
async fn unmanaged(client: &Connection) -> ApplicationReportProto {
    let new: GetNewApplicationResponseProto =
        client.call("getNewApplication", &GetNewApplicationRequestProto {}).await.unwrap();
    let submission = ApplicationSubmissionContextProto {
        application_id: new.application_id,
        application_name: Some("driver".to_owned()),
        unmanaged_am: Some(true),
        max_app_attempts: Some(1),
        resource: Some(ResourceProto { memory: Some(64), ..ResourceProto::default() }),
        am_container_spec: Some(ContainerLaunchContextProto::default()),
        ..ApplicationSubmissionContextProto::default()
    };
    let request =
        SubmitApplicationRequestProto { application_submission_context: Some(submission) };
    let _: SubmitApplicationResponseProto =
        client.call("submitApplication", &request).await.unwrap();
    let start = Instant::now();
    loop {
        let report = report(client, new.application_id.unwrap()).await.unwrap();
        if report.am_rm_token.is_some() {
            return report;
        }
        assert!(start.elapsed() < DEADLINE, "the application is not accepted: {report:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn kind() -> WorkerRequest {
    WorkerRequest {
        slots: 1,
        slot_profile: ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(64) },
        memory_process: ByteSize::from_mib(64),
    }
}

/// What the driver of this application is told.
fn config(hadoop: &Hadoop, application: ApplicationReportProto) -> YarnDriverConfig {
    let mut site = HadoopConfiguration::new();
    site.set("yarn.resourcemanager.scheduler.address", hadoop.scheduler_address());
    let identity = Identity::Token(Token::from(application.am_rm_token.unwrap()));
    let resource_manager = ResourceManager::new(
        &site,
        Service::Scheduler,
        identity,
        Options::default(),
        Duration::from_secs(900),
    );
    YarnDriverConfig {
        resource_manager: resource_manager.unwrap(),
        node_manager_options: Options::default(),
        attempt: AttemptId::from(application.current_application_attempt_id.unwrap()),
        host: "localhost".to_owned(),
        rest_port: 4711,
        tracking_url: String::new(),
        history_url: String::new(),
        worker: kind(),
        vcores: 1,
        node_label: None,
        heartbeat_interval: Duration::from_secs(1),
        pending_interval: Duration::from_millis(500),
        node_failures_max: 3,
    }
}

async fn start(hadoop: &Hadoop, command: &'static str, events: DriverEvents) -> YarnDriver {
    let client = connect(&hadoop.client_address(), alice()).await.unwrap();
    let config = config(hadoop, unmanaged(&client).await);
    YarnDriver::start(config, Box::new(Shell { mark: hadoop.mark(), command }), events)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_yarn_driver_keeps_the_driver_contract() {
    let hadoop = Hadoop::start(2);
    conformance::run(|events| {
        tokio::task::block_in_place(|| {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(start(&hadoop, "exec sleep 600", events))
        })
    })
    .await;
}
