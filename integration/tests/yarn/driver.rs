//! The driver on a real ResourceManager: this process is an unmanaged ApplicationMaster, its
//! workers are shells in containers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_hadoop_config::HadoopConfiguration;
use millstream_integration::{Hadoop, processes_marked, scale, until};
use millstream_rm_driver::{
    ClusterStatus, DriverEvent, DriverEventReceiver, DriverEvents, RequestId,
    ResourceManagerDriver, WorkerRequest, conformance, driver_events,
};
use millstream_rm_yarn::credentials::Token;
use millstream_rm_yarn::driver::{YarnDriver, YarnDriverConfig};
use millstream_rm_yarn::ids::AttemptId;
use millstream_rm_yarn::ipc::{Connection, Identity, Options};
use millstream_rm_yarn::launch::WorkerLaunch;
use millstream_rm_yarn::proto::yarn::{
    ApplicationIdProto, ApplicationReportProto, ApplicationSubmissionContextProto,
    ContainerLaunchContextProto, FinalApplicationStatusProto, GetNewApplicationRequestProto,
    GetNewApplicationResponseProto, LocalResourceProto, ResourceProto, StringLocalResourceMapProto,
    SubmitApplicationRequestProto, SubmitApplicationResponseProto, YarnApplicationStateProto,
};
use millstream_rm_yarn::resource_manager::{ResourceManager, Service};
use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};

use crate::{DEADLINE, alice, connect, report};

const SLEEP: &str = "exec sleep 600";
/// Instead of a command: nothing can be composed for the worker.
const NOTHING: &str = "";
/// Instead of a command: what no NodeManager accepts.
const MALFORMED: &str = "malformed";

/// Runs these in the containers, one after the other, and the last one in all that follow.
#[derive(Debug)]
struct Shell(Mutex<VecDeque<String>>);

impl Shell {
    fn new(commands: &[&str]) -> Box<Self> {
        Box::new(Self(Mutex::new(commands.iter().map(|command| (*command).to_owned()).collect())))
    }

    fn next(&self) -> String {
        let mut commands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match commands.len() {
            1 => commands[0].clone(),
            _ => commands.pop_front().unwrap(),
        }
    }
}

impl WorkerLaunch for Shell {
    fn context(
        &self,
        worker: &TaskManagerId,
        host: &str,
    ) -> Result<ContainerLaunchContextProto, String> {
        assert!(worker.as_str().starts_with("container_"), "{worker}");
        assert_eq!(host, "localhost");
        let mut context = ContainerLaunchContextProto::default();
        match self.next().as_str() {
            NOTHING => return Err("there is no certificate for it".to_owned()),
            MALFORMED => context.local_resources.push(StringLocalResourceMapProto {
                key: Some("x".to_owned()),
                value: Some(LocalResourceProto::default()),
            }),
            command => context.command.push(format!("{{ {command}; }} 2><LOG_DIR>/worker.stderr")),
        }
        Ok(context)
    }
}

/// Submits an application whose master is this process; returns its report once it may register.
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

/// Settings of the driver of this application.
fn config(hadoop: &Hadoop, application: &ApplicationReportProto) -> YarnDriverConfig {
    let mut site = HadoopConfiguration::new();
    site.set("yarn.resourcemanager.scheduler.address", hadoop.scheduler_address());
    let identity = Identity::Token(Token::from(application.am_rm_token.clone().unwrap()));
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
        tracking_url: "http://localhost:4711".to_owned(),
        history_url: "http://localhost:4712/history".to_owned(),
        worker: kind(),
        vcores: 1,
        node_label: None,
        heartbeat_interval: Duration::from_secs(1),
        pending_interval: Duration::from_millis(500),
        node_failures_max: 3,
    }
}

async fn start(
    hadoop: &Hadoop,
    commands: &[&str],
    events: DriverEvents,
) -> (YarnDriver, ApplicationIdProto) {
    let client = connect(&hadoop.client_address(), alice()).await.unwrap();
    let application = unmanaged(&client).await;
    let driver = YarnDriver::start(config(hadoop, &application), Shell::new(commands), events);
    (driver, application.application_id.unwrap())
}

/// A driver in the hands of a test.
struct Master {
    driver: YarnDriver,
    events: DriverEventReceiver,
    application: ApplicationIdProto,
}

impl Master {
    async fn start(hadoop: &Hadoop, commands: &[&str]) -> Self {
        let (sender, events) = driver_events();
        let (driver, application) = start(hadoop, commands, sender).await;
        let mut master = Self { driver, events, application };
        assert_eq!(master.next().await, DriverEvent::Recovered(Vec::new()));
        master
    }

    async fn next(&mut self) -> DriverEvent {
        let next = async {
            loop {
                match self.events.next().await.unwrap() {
                    // The machine may be busy.
                    DriverEvent::Waiting { .. } => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(DEADLINE, next).await.unwrap()
    }

    /// Asks for a worker and waits for it.
    async fn worker(&mut self) -> TaskManagerId {
        let request = self.driver.request(kind());
        match self.next().await {
            DriverEvent::Allocated { request: answered, worker } if answered == request => worker,
            other => panic!("expected a worker for {request}, got {other:?}"),
        }
    }

    /// Waits for the end of a worker; why it ended.
    async fn end_of(&mut self, expected: &TaskManagerId) -> String {
        match self.next().await {
            DriverEvent::Terminated { worker, reason } if worker == *expected => reason,
            other => panic!("expected the end of {expected}, got {other:?}"),
        }
    }

    async fn deregister(&mut self, status: ClusterStatus, diagnostics: &str) {
        let ended = self.driver.deregister(status, diagnostics.to_owned());
        tokio::time::timeout(DEADLINE, ended).await.unwrap();
    }
}

/// The processes of a worker that runs `sleep`.
fn sleeping(worker: &TaskManagerId) -> Vec<u32> {
    let processes = processes_marked(&format!("CONTAINER_ID={worker}"));
    let sleep = |command: &String| command.starts_with("sleep");
    processes.into_iter().filter(|(_, command)| sleep(command)).map(|(pid, _)| pid).collect()
}

fn wait_until_it_sleeps(worker: &TaskManagerId) -> u32 {
    until(&format!("{worker} runs"), DEADLINE, || sleeping(worker).first().copied())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_gets_and_keeps_workers_whatever_happens() {
    let mut hadoop = Hadoop::builder()
        .node_managers(2)
        .set("yarn.nodemanager.container-monitor.interval-ms", "500")
        // By default limits are left to control groups, whether there are any or not.
        .set("yarn.nodemanager.resource.memory.enforced", "false")
        // Tokens roll while the test runs.
        .set("yarn.resourcemanager.am-rm-tokens.master-key-rolling-interval-secs", "31")
        .start();
    let mut long_lived = Master::start(&hadoop, &[SLEEP]).await;
    let survivor = long_lived.worker().await;
    conformance::run(|events| {
        tokio::task::block_in_place(|| {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(start(&hadoop, &[SLEEP], events)).0
        })
    })
    .await;
    ends_are_told_with_their_causes(&hadoop).await;
    starts_that_fail_are_told(&hadoop).await;
    requests_that_cannot_be_served_fail(&hadoop).await;
    the_end_is_on_the_books(&hadoop).await;
    a_restart_of_the_resource_manager_costs_no_worker(&mut hadoop, &mut long_lived, &survivor)
        .await;
}

async fn ends_are_told_with_their_causes(hadoop: &Hadoop) {
    // The shell that starts the command would read a plain dollar sign itself, and this one would
    // turn into its last command.
    let greedy = r"x=\$(head -c 157286400 /dev/zero | tr '\0' x); sleep 600; exit 9";
    let commands = ["echo out of luck 1>&2; exit 7", greedy, SLEEP];
    let mut master = Master::start(hadoop, &commands).await;
    let worker = master.worker().await;
    let reason = master.end_of(&worker).await;
    let expected = format!("container {worker} on localhost:");
    assert!(reason.starts_with(&expected), "{reason}");
    assert!(reason.ends_with("it ended with exit code 7; it said: out of luck"), "{reason}");

    let worker = master.worker().await;
    let reason = master.end_of(&worker).await;
    assert!(reason.contains("killed for exceeding its memory: "), "{reason}");
    assert!(reason.ends_with(" MB of 64 MB used"), "{reason}");

    let worker = master.worker().await;
    let pid = wait_until_it_sleeps(&worker);
    kill(pid);
    let reason = master.end_of(&worker).await;
    assert!(reason.ends_with("killed by signal 9 (exit code 137)"), "{reason}");
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

async fn starts_that_fail_are_told(hadoop: &Hadoop) {
    let mut master = Master::start(hadoop, &[NOTHING, MALFORMED, SLEEP]).await;
    let worker = master.worker().await;
    assert_eq!(master.end_of(&worker).await, "there is no certificate for it");
    let worker = master.worker().await;
    let reason = master.end_of(&worker).await;
    assert!(reason.starts_with("NodeManager localhost:"), "{reason}");
    assert!(reason.contains(" refused to start it: "), "{reason}");
    let worker = master.worker().await;
    wait_until_it_sleeps(&worker);
    master.deregister(ClusterStatus::Succeeded, "").await;
}

async fn requests_that_cannot_be_served_fail(hadoop: &Hadoop) {
    let mut master = Master::start(hadoop, &[SLEEP]).await;
    let big = WorkerRequest { memory_process: ByteSize::from_mib(1 << 20), ..kind() };
    let request = master.driver.request(big);
    let DriverEvent::RequestFailed { request: failed, reason } = master.next().await else {
        panic!("a terabyte was given")
    };
    assert_eq!(failed, request);
    assert!(
        reason.starts_with("a worker needs 1048576 MB but YARN gives a container "),
        "{reason}"
    );
}

async fn the_end_is_on_the_books(hadoop: &Hadoop) {
    let mut master = Master::start(hadoop, &[SLEEP]).await;
    let worker = master.worker().await;
    wait_until_it_sleeps(&worker);
    master.deregister(ClusterStatus::Failed, "the job failed").await;
    let client = connect(&hadoop.client_address(), alice()).await.unwrap();
    // An unmanaged master is told that it may go before its end is stored.
    let start = Instant::now();
    let report = loop {
        let report = report(&client, master.application).await.unwrap();
        if report.yarn_application_state() == YarnApplicationStateProto::Finished {
            break report;
        }
        assert!(start.elapsed() < DEADLINE, "the application does not end: {report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(report.final_application_status(), FinalApplicationStatusProto::AppFailed);
    assert_eq!(report.diagnostics(), "the job failed");
    assert_eq!(report.original_tracking_url(), "http://localhost:4712/history");
    until("the worker is gone", DEADLINE, || sleeping(&worker).is_empty().then_some(()));
}

/// Its tokens have rolled when it comes back.
async fn a_restart_of_the_resource_manager_costs_no_worker(
    hadoop: &mut Hadoop,
    master: &mut Master,
    survivor: &TaskManagerId,
) {
    until("the key of tokens has rolled", DEADLINE, || {
        let log = hadoop.daemon("resourcemanager").logged();
        log.contains("Activating next master key").then_some(())
    });
    let pid = wait_until_it_sleeps(survivor);
    let open = master.driver.request(kind());
    hadoop.restart("resourcemanager");
    let lost = master.driver.request(kind());
    master.driver.withdraw(lost);
    hadoop.wait_until_ready();
    let DriverEvent::Allocated { request, worker } = master.next().await else {
        panic!("expected a worker")
    };
    assert_eq!(request, open);
    wait_until_it_sleeps(&worker);
    assert_eq!(wait_until_it_sleeps(survivor), pid, "it was never stopped");
    master.driver.release(survivor);
    master.driver.release(&worker);
    for worker in [survivor, &worker] {
        until("it is stopped", DEADLINE, || sleeping(worker).is_empty().then_some(()));
    }
    master.deregister(ClusterStatus::Succeeded, "").await;
}

/// One gauge or counter of the root queue.
fn metric(hadoop: &Hadoop, name: &str) -> u64 {
    let path = "/jmx?qry=Hadoop:service=ResourceManager,name=QueueMetrics,q0=root";
    let answer = hadoop.web.call("GET", path, "text/plain", b"").unwrap();
    answer.json["beans"][0][name].as_u64().unwrap()
}

/// As many workers as nearly fill the cluster, while one start in ten fails.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_workers_are_there_in_time_and_none_too_many() {
    let (need, nodes): (usize, usize) = scale((60, 2), (300, 4));
    let room = (need + need / 15).div_ceil(nodes);
    let hadoop = Hadoop::builder()
        .node_managers(nodes)
        // Room for one in 15 more than are needed, by memory alone.
        .set("yarn.nodemanager.resource.memory-mb", &(room * 64).to_string())
        .start();
    let up = hadoop.dir().join("up");
    std::fs::create_dir(&up).unwrap();
    let command = format!(
        "case $CONTAINER_ID in *3) echo unlucky 1>&2; exit 1;; esac; \
         touch {}/$CONTAINER_ID; {SLEEP}",
        up.display()
    );
    let mut master = Master::start(&hadoop, &[&command]).await;
    let start = Instant::now();
    let mut open: BTreeSet<RequestId> = (0..need).map(|_| master.driver.request(kind())).collect();
    let (mut workers, mut failures, mut wait) = (BTreeSet::new(), 0, None);
    let all_up = |workers: &BTreeSet<TaskManagerId>| {
        workers.len() == need && workers.iter().all(|worker| up.join(worker.as_str()).exists())
    };
    while !all_up(&workers) {
        assert!(
            start.elapsed() < 5 * DEADLINE,
            "{} of {need} workers, {failures} failed; the last wait: {wait:?}",
            workers.len()
        );
        let next = tokio::time::timeout(Duration::from_millis(20), master.events.next()).await;
        match next {
            Err(_) => {}
            Ok(Some(DriverEvent::Allocated { request, worker })) => {
                assert!(open.remove(&request) && workers.insert(worker));
            }
            Ok(Some(DriverEvent::Terminated { worker, reason })) => {
                assert!(reason.contains("exit code 1; it said: unlucky"), "{reason}");
                assert!(workers.remove(&worker));
                failures += 1;
                open.insert(master.driver.request(kind()));
            }
            // The little room to spare may be taken by failed starts for a while.
            Ok(Some(DriverEvent::Waiting { reason })) => {
                let full = [" MB left for it", ": no node has that much free"];
                assert!(full.iter().any(|why| reason.ends_with(why)), "{reason}");
                wait = Some(reason);
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
    let took = start.elapsed();
    let allocated = metric(&hadoop, "AggregateContainersAllocated");
    let excess = allocated - (need + failures) as u64;
    println!(
        "{need} workers in {took:.1?}; {failures} starts failed, {excess} containers in excess"
    );
    assert!(excess * 20 <= need as u64, "{excess} containers in excess");
    assert!(failures > 0);
    master.deregister(ClusterStatus::Succeeded, "").await;
    until("nothing is held", DEADLINE, || {
        (metric(&hadoop, "AllocatedContainers") == 0).then_some(())
    });
}
