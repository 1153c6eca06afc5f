//! An ApplicationMaster that gets one container, runs a command in it, and tells what happened.
//!
//! usage: application_master SCHEDULER_ADDRESS COMMAND

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use millstream_rm_yarn::credentials::{AM_RM_TOKEN, HadoopCredentials, Token};
use millstream_rm_yarn::ipc::{Connection, Identity, Options, Protocol};
use millstream_rm_yarn::proto::yarn::{
    AllocateRequestProto, AllocateResponseProto, ContainerLaunchContextProto, ContainerProto,
    FinalApplicationStatusProto, FinishApplicationMasterRequestProto,
    FinishApplicationMasterResponseProto, PriorityProto, RegisterApplicationMasterRequestProto,
    RegisterApplicationMasterResponseProto, ResourceProto, ResourceRequestProto,
    StartContainerRequestProto, StartContainersRequestProto, StartContainersResponseProto,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ALLOCATION: i64 = 7;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scheduler = arguments.next().ok_or("the scheduler's address is missing")?;
    let command = arguments.next().ok_or("a command is missing")?;
    let mut out = std::io::stdout();

    let credentials =
        HadoopCredentials::decode(&std::fs::read(std::env::var("HADOOP_TOKEN_FILE_LOCATION")?)?)?;
    let token = credentials.token(AM_RM_TOKEN).ok_or("there is no token for the scheduler")?;
    let identity = Identity::Token(token.clone());
    let options = Options::default();
    let master =
        Connection::open(&scheduler, Protocol::APPLICATION_MASTER, identity, &options).await?;
    let register = RegisterApplicationMasterRequestProto {
        host: Some("localhost".to_owned()),
        rpc_port: Some(4711),
        tracking_url: Some(String::new()),
    };
    let registered: RegisterApplicationMasterResponseProto =
        master.call("registerApplicationMaster", &register).await?;
    writeln!(out, "registered in {}", registered.queue())?;

    let mut asks = vec![one_container()];
    let mut response_id = 0;
    let mut node_tokens = HashMap::new();
    loop {
        let heartbeat = AllocateRequestProto {
            ask: std::mem::take(&mut asks),
            response_id: Some(response_id),
            progress: Some(0.5),
            ..AllocateRequestProto::default()
        };
        let answer: AllocateResponseProto = master.call("allocate", &heartbeat).await?;
        response_id = answer.response_id();
        for node in answer.nm_tokens {
            let id = node.node_id.unwrap_or_default();
            let token = Token::from(node.token.ok_or("a node without token")?);
            node_tokens.insert(format!("{}:{}", id.host(), id.port()), token);
        }
        for container in answer.allocated_containers {
            writeln!(out, "allocated for {}", container.allocation_request_id())?;
            start(&container, &node_tokens, &command, &options).await?;
            writeln!(out, "started")?;
        }
        if let Some(status) = answer.completed_container_statuses.first() {
            writeln!(out, "completed with {}", status.exit_status())?;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let finish = FinishApplicationMasterRequestProto {
        diagnostics: Some("all is well".to_owned()),
        tracking_url: None,
        final_application_status: Some(FinalApplicationStatusProto::AppSucceeded.into()),
    };
    loop {
        let finished: FinishApplicationMasterResponseProto =
            master.call("finishApplicationMaster", &finish).await?;
        if finished.is_unregistered() {
            writeln!(out, "finished")?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn one_container() -> ResourceRequestProto {
    ResourceRequestProto {
        priority: Some(PriorityProto { priority: Some(1) }),
        resource_name: Some("*".to_owned()),
        capability: Some(ResourceProto {
            memory: Some(128),
            virtual_cores: Some(1),
            ..ResourceProto::default()
        }),
        num_containers: Some(1),
        allocation_request_id: Some(ALLOCATION),
        ..ResourceRequestProto::default()
    }
}

async fn start(
    container: &ContainerProto,
    tokens: &HashMap<String, Token>,
    command: &str,
    options: &Options,
) -> Result<()> {
    let node = container.node_id.clone().unwrap_or_default();
    let address = format!("{}:{}", node.host(), node.port());
    let token = tokens.get(&address).ok_or("no token for the container's node")?;
    let identity = Identity::Token(token.clone());
    let node =
        Connection::open(&address, Protocol::CONTAINER_MANAGEMENT, identity, options).await?;
    let launch = ContainerLaunchContextProto {
        command: vec![command.to_owned()],
        ..ContainerLaunchContextProto::default()
    };
    let request = StartContainersRequestProto {
        start_container_request: vec![StartContainerRequestProto {
            container_launch_context: Some(launch),
            container_token: container.container_token.clone(),
        }],
    };
    let started: StartContainersResponseProto = node.call("startContainers", &request).await?;
    match started.failed_requests.first().and_then(|failed| failed.exception.as_ref()) {
        None => Ok(()),
        Some(exception) => Err(exception.message().into()),
    }
}
