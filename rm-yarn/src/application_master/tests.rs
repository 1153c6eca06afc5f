//! The master by events and actions; [`simulation`] runs it against a ResourceManager that
//! misbehaves.

use millstream_rm_driver::DriverEvent::{
    Allocated, Draining, Fatal, Recovered, RequestFailed, Terminated,
};

use super::*;
use crate::ids::ApplicationId;
use crate::ipc::RemoteError;
use crate::proto::common::TokenProto;
use crate::proto::yarn::{
    ContainerIdProto, NodeIdProto, PreemptionContainerProto, StrictPreemptionContractProto,
};

mod simulation;

const MEMORY: i64 = 512;

fn settings() -> Settings {
    Settings {
        attempt: attempt(2),
        host: "am".to_owned(),
        rest_port: 8081,
        tracking_url: "http://am:8081".to_owned(),
        history_url: "http://history".to_owned(),
        vcores: 2,
        node_label: Some("fast".to_owned()),
        heartbeat_interval: Duration::from_secs(5),
        pending_interval: Duration::from_millis(500),
        node_failures_max: 3,
    }
}

fn attempt(number: i32) -> AttemptId {
    let application: ApplicationId = "application_1700000000000_0003".parse().unwrap();
    AttemptId { application, number }
}

fn request(number: u64) -> RequestId {
    RequestId::new(number)
}

/// The n-th container.
fn id(number: u64) -> ContainerId {
    format!("container_1700000000000_0003_02_{number:06}").parse().unwrap()
}

fn node(host: &str) -> Node {
    Node { host: host.to_owned(), port: 45454 }
}

fn node_id(host: &str) -> NodeIdProto {
    NodeIdProto { host: Some(host.to_owned()), port: Some(45454) }
}

fn token(password: &str) -> TokenProto {
    TokenProto {
        identifier: vec![1],
        password: password.as_bytes().to_vec(),
        kind: "ContainerToken".to_owned(),
        service: String::new(),
    }
}

fn container(number: u64, key: u64, host: &str) -> ContainerProto {
    ContainerProto {
        id: Some(id(number).into()),
        node_id: Some(node_id(host)),
        container_token: Some(token("c")),
        allocation_request_id: Some(key.cast_signed()),
        ..ContainerProto::default()
    }
}

fn completed(number: u64, exit_status: i32) -> ContainerStatusProto {
    ContainerStatusProto {
        container_id: Some(id(number).into()),
        exit_status: Some(exit_status),
        ..ContainerStatusProto::default()
    }
}

fn remote(class: &str, message: &str) -> IpcError {
    IpcError::Remote(RemoteError {
        address: "rm:8030".to_owned(),
        class: format!("org.apache.hadoop.yarn.exceptions.{class}"),
        message: message.to_owned(),
        fatal: false,
    })
}

fn forgotten() -> IpcError {
    remote("ApplicationMasterNotRegisteredException", "who are you?")
}

fn is_call(action: &Action) -> bool {
    matches!(action, Action::Register(_) | Action::Allocate(_) | Action::Finish(_))
}

/// A registered master, and the time.
struct Harness {
    master: ApplicationMaster,
    now: Instant,
    /// Actions that were not looked at.
    actions: Vec<Action>,
    response_id: i32,
}

impl Harness {
    fn unregistered() -> Self {
        let master = ApplicationMaster::new(settings());
        let mut harness = Self { master, now: Instant::now(), actions: Vec::new(), response_id: 0 };
        harness.event(Event::Tick);
        harness
    }

    /// Registered and without a call under way.
    fn new() -> Self {
        let mut harness = Self::unregistered();
        harness.register();
        harness.answered(AllocateResponseProto::default());
        harness.actions.clear();
        harness
    }

    fn register(&mut self) {
        let maximum_capability = Some(ResourceProto {
            memory: Some(1024),
            virtual_cores: Some(4),
            ..ResourceProto::default()
        });
        let answer = RegisterApplicationMasterResponseProto {
            maximum_capability,
            ..RegisterApplicationMasterResponseProto::default()
        };
        self.event(Event::Registered(Ok(Box::new(answer))));
    }

    fn event(&mut self, event: Event) {
        if let Event::Registered(_) | Event::Allocated(_) | Event::Finished(_) = event {
            self.actions.retain(|action| !is_call(action));
        }
        self.actions.extend(self.master.on_events(self.now, [event]));
    }

    fn request(&mut self, number: u64) {
        self.event(Event::Requested { request: request(number), memory_mb: MEMORY });
    }

    /// The next call: the one that was decided, or that comes when its time has.
    fn call(&mut self) -> Action {
        loop {
            if let Some(at) = self.actions.iter().position(is_call) {
                return self.actions.remove(at);
            }
            self.now = self.now.max(self.master.deadline().expect("a call is to come"));
            self.event(Event::Tick);
        }
    }

    fn heartbeat(&mut self) -> AllocateRequestProto {
        match self.call() {
            Action::Allocate(request) => *request,
            other => panic!("expected a heartbeat, got {other:?}"),
        }
    }

    /// Answers the next heartbeat.
    fn answered(&mut self, answer: AllocateResponseProto) -> AllocateRequestProto {
        let heartbeat = self.heartbeat();
        self.response_id += 1;
        let response_id = Some(self.response_id);
        let answer = AllocateResponseProto {
            response_id,
            num_cluster_nodes: answer.num_cluster_nodes.or(Some(2)),
            ..answer
        };
        self.event(Event::Allocated(Ok(Box::new(answer))));
        heartbeat
    }

    fn allocate(&mut self, containers: Vec<ContainerProto>) -> AllocateRequestProto {
        self.answered(AllocateResponseProto {
            allocated_containers: containers,
            ..AllocateResponseProto::default()
        })
    }

    fn complete(&mut self, statuses: Vec<ContainerStatusProto>) {
        self.answered(AllocateResponseProto {
            completed_container_statuses: statuses,
            ..AllocateResponseProto::default()
        });
    }

    fn started(&mut self, number: u64) {
        self.event(Event::Started { container: id(number), outcome: Ok(()) });
    }

    fn not_started(&mut self, number: u64) {
        let error = StartError { reason: "no disk".to_owned(), blames_node: true };
        self.event(Event::Started { container: id(number), outcome: Err(error) });
    }

    fn posted(&mut self) -> Vec<DriverEvent> {
        let posts = self.actions.extract_if(.., |action| matches!(action, Action::Post(_)));
        posts
            .filter_map(|action| match action {
                Action::Post(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    fn stops(&mut self) -> Vec<ContainerId> {
        let stops = self.actions.extract_if(.., |action| matches!(action, Action::Stop { .. }));
        stops
            .filter_map(|action| match action {
                Action::Stop { container, .. } => Some(container),
                _ => None,
            })
            .collect()
    }

    /// One container of `host` for the request, started.
    fn held(&mut self, number: u64, key: u64, host: &str) {
        self.request(key);
        self.allocate(vec![container(number, key, host)]);
        self.started(number);
        self.posted();
        self.actions.clear();
    }
}

/// (key, count) of each container request.
fn asks(heartbeat: &AllocateRequestProto) -> Vec<(i64, i32)> {
    let ask = |ask: &ResourceRequestProto| (ask.allocation_request_id(), ask.num_containers());
    heartbeat.ask.iter().map(ask).collect()
}

fn releases(heartbeat: &AllocateRequestProto) -> Vec<ContainerId> {
    heartbeat.release.iter().map(ContainerId::from).collect()
}

#[test]
fn it_registers_with_where_it_is_reached() {
    let mut harness = Harness::unregistered();
    let Action::Register(register) = harness.call() else { panic!() };
    assert_eq!((register.host(), register.rpc_port()), ("am", 8081));
    assert_eq!(register.tracking_url(), "http://am:8081");
    harness.register();
    assert_eq!(harness.posted(), [Recovered(vec![])]);
    let heartbeat = harness.heartbeat();
    assert_eq!(heartbeat.response_id(), 0);
}

#[test]
fn a_registration_that_is_refused_is_fatal() {
    let mut harness = Harness::unregistered();
    harness.event(Event::Registered(Err(remote("YarnException", "not today"))));
    let [Fatal { reason }] = &harness.posted()[..] else { panic!() };
    assert_eq!(reason, "failed to register with YARN: rm:8030 refused: not today");
    assert_eq!(harness.master.deadline(), None);
}

#[test]
fn a_registration_whose_answer_was_lost_counts() {
    let mut harness = Harness::unregistered();
    let error = remote(
        "InvalidApplicationMasterRequestException",
        "Application Master is already registered : application_1_2",
    );
    harness.event(Event::Registered(Err(error)));
    assert_eq!(harness.posted(), [Recovered(vec![])]);
}

#[test]
fn a_request_is_asked_for_once_so_that_no_count_is_stale() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.request(2);
    let heartbeat = harness.allocate(vec![]);
    assert_eq!(asks(&heartbeat), [(1, 1), (2, 1)]);
    let ask = &heartbeat.ask[0];
    assert_eq!(ask.capability.as_ref().unwrap().memory(), MEMORY);
    assert_eq!(ask.capability.as_ref().unwrap().virtual_cores(), 2);
    assert_eq!((ask.resource_name(), ask.node_label_expression()), ("*", "fast"));
    harness.request(3);
    assert_eq!(asks(&harness.allocate(vec![container(1, 1, "a")])), [(3, 1)]);
    assert_eq!(asks(&harness.allocate(vec![])), [], "2 and 3 are on the books");
}

#[test]
fn one_call_tells_of_all_that_happened_together() {
    let mut harness = Harness::new();
    harness.now += Duration::from_secs(1);
    let ask = |number| Event::Requested { request: request(number), memory_mb: MEMORY };
    let actions = harness.master.on_events(harness.now, (1..=300).map(ask));
    let [Action::Allocate(heartbeat)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(heartbeat.ask.len(), 300);
}

#[test]
fn a_worker_is_named_before_it_is_started() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.allocate(vec![container(1, 1, "a")]);
    let allocated = Action::Post(Allocated { request: request(1), worker: worker(id(1)) });
    let token = Token::from(token("c"));
    let start = Action::Start(Box::new(WorkerStart { container: id(1), node: node("a"), token }));
    assert_eq!(harness.actions, [allocated, start]);
}

#[test]
fn excess_containers_are_given_back_at_once() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.allocate(vec![container(1, 1, "a"), container(2, 1, "a"), container(3, 9, "b")]);
    assert_eq!(harness.posted().len(), 1);
    assert_eq!(releases(&harness.allocate(vec![])), [id(2), id(3)]);
    harness.complete(vec![completed(2, -100), completed(3, -100)]);
    assert_eq!(harness.posted(), [], "nobody ever heard of them");
    assert_eq!(releases(&harness.allocate(vec![])), []);
}

#[test]
fn a_withdrawn_request_leaves_the_books() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.request(2);
    harness.event(Event::Withdrawn(request(2)));
    assert_eq!(asks(&harness.allocate(vec![])), [(1, 1)], "2 was never on the books");
    harness.event(Event::Withdrawn(request(1)));
    harness.event(Event::Withdrawn(request(1)));
    assert_eq!(asks(&harness.allocate(vec![container(1, 1, "a")])), [(1, 0)]);
    assert_eq!(harness.posted(), []);
    let heartbeat = harness.allocate(vec![]);
    assert_eq!((asks(&heartbeat), releases(&heartbeat)), (vec![], vec![id(1)]));
}

#[test]
fn sizes_never_share_a_key_and_containers_are_matched_by_key_alone() {
    let mut harness = Harness::new();
    harness.event(Event::Requested { request: request(1), memory_mb: 100 });
    harness.event(Event::Requested { request: request(2), memory_mb: 900 });
    let heartbeat = harness.heartbeat();
    let row = |ask: &ResourceRequestProto| {
        (ask.allocation_request_id(), ask.capability.as_ref().unwrap().memory())
    };
    assert_eq!(heartbeat.ask.iter().map(row).collect::<Vec<_>>(), [(1, 100), (2, 900)]);
    // Rounded up, and with a calculator that ignores virtual cores.
    let capability =
        ResourceProto { memory: Some(1024), virtual_cores: Some(1), ..ResourceProto::default() };
    let big = ContainerProto { resource: Some(capability), ..container(1, 1, "a") };
    let answer = AllocateResponseProto {
        response_id: Some(2),
        allocated_containers: vec![big],
        ..AllocateResponseProto::default()
    };
    harness.event(Event::Allocated(Ok(Box::new(answer))));
    assert_eq!(harness.posted(), [Allocated { request: request(1), worker: worker(id(1)) }]);
}

#[test]
fn an_end_is_told_once_however_often_it_is_reported() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.complete(vec![completed(1, 137), completed(1, 137)]);
    harness.complete(vec![completed(1, -100), completed(77, 0)]);
    let posted = harness.posted();
    let [Terminated { worker: ended, reason }] = &posted[..] else { panic!("{posted:?}") };
    assert_eq!(ended, &worker(id(1)));
    let expected = "container container_1700000000000_0003_02_000001 on a:45454: killed by signal \
         9 (exit code 137)";
    assert_eq!(reason, expected);
    assert_eq!(asks(&harness.allocate(vec![])), [], "whether to replace it is not decided here");
}

#[test]
fn a_container_that_is_allocated_twice_is_one() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.request(2);
    harness.allocate(vec![container(1, 1, "a")]);
    harness.allocate(vec![container(1, 1, "a")]);
    assert_eq!(harness.posted().len(), 1);
    assert_eq!(releases(&harness.allocate(vec![])), []);
}

#[test]
fn a_released_worker_is_stopped_given_back_and_silent() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.event(Event::Released(worker(id(1))));
    harness.event(Event::Released(worker(id(1))));
    harness.event(Event::Released(TaskManagerId::new("nobody")));
    assert_eq!(harness.stops(), [id(1)]);
    assert_eq!(releases(&harness.allocate(vec![])), [id(1)]);
    harness.complete(vec![completed(1, -105)]);
    assert_eq!(harness.posted(), []);
}

#[test]
fn a_worker_released_while_it_starts_is_stopped_once_it_has() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.allocate(vec![container(1, 1, "a")]);
    harness.posted();
    harness.event(Event::Released(worker(id(1))));
    assert_eq!(harness.stops(), []);
    harness.started(1);
    assert_eq!(harness.stops(), [id(1)]);
    harness.started(1);
    assert_eq!((harness.stops(), harness.posted()), (vec![], vec![]));
}

#[test]
fn a_start_that_fails_is_told_and_the_container_given_back() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.allocate(vec![container(1, 1, "a")]);
    harness.posted();
    harness.not_started(1);
    let (worker, reason) = (worker(id(1)), "no disk".to_owned());
    assert_eq!(harness.posted(), [Terminated { worker, reason }]);
    assert_eq!(releases(&harness.allocate(vec![])), [id(1)]);
}

/// Lets three starts fail on `host`.
fn sicken(harness: &mut Harness, host: &str, first: u64) {
    for number in first..first + 3 {
        harness.request(number);
        harness.allocate(vec![container(number, number, host)]);
        harness.not_started(number);
    }
    harness.posted();
}

fn additions(heartbeat: &AllocateRequestProto) -> Vec<&str> {
    let request = heartbeat.blacklist_request.as_ref();
    request.map_or(vec![], |it| it.blacklist_additions.iter().map(String::as_str).collect())
}

fn removals(heartbeat: &AllocateRequestProto) -> Vec<&str> {
    let request = heartbeat.blacklist_request.as_ref();
    request.map_or(vec![], |it| it.blacklist_removals.iter().map(String::as_str).collect())
}

#[test]
fn a_sick_node_is_avoided_for_a_while() {
    let mut harness = Harness::new();
    sicken(&mut harness, "sick", 1);
    assert_eq!(additions(&harness.allocate(vec![])), ["sick", "sick:45454"]);
    assert_eq!(additions(&harness.allocate(vec![])), [""; 0]);
    harness.now += Duration::from_secs(601);
    assert_eq!(removals(&harness.allocate(vec![])), ["sick", "sick:45454"]);
}

#[test]
fn a_late_container_of_an_avoided_node_is_given_back_and_asked_for_again() {
    let mut harness = Harness::new();
    sicken(&mut harness, "sick", 1);
    harness.request(9);
    harness.allocate(vec![container(9, 9, "sick")]);
    assert_eq!(harness.posted(), []);
    let heartbeat = harness.allocate(vec![container(10, 9, "fine")]);
    assert_eq!((asks(&heartbeat), releases(&heartbeat)), (vec![(9, 1)], vec![id(9)]));
    assert_eq!(harness.posted(), [Allocated { request: request(9), worker: worker(id(10)) }]);
}

#[test]
fn never_all_nodes_are_avoided() {
    let mut harness = Harness::new();
    sicken(&mut harness, "a", 1);
    harness.now += Duration::from_secs(1);
    sicken(&mut harness, "b", 4);
    let heartbeat = harness.allocate(vec![]);
    assert_eq!(additions(&heartbeat), ["b", "b:45454"]);
    assert_eq!(removals(&heartbeat), ["a", "a:45454"], "the oldest gets another chance");
    let alone = AllocateResponseProto { num_cluster_nodes: Some(1), ..Default::default() };
    harness.answered(alone);
    assert_eq!(removals(&harness.allocate(vec![])), ["b", "b:45454"]);
}

#[test]
fn failures_here_and_there_condemn_no_node() {
    let mut harness = Harness::new();
    for number in 1..=40 {
        harness.request(number);
        harness.allocate(vec![container(number, number, "a")]);
        match number % 10 {
            0 => harness.not_started(number),
            _ => harness.started(number),
        }
        assert!(harness.allocate(vec![]).blacklist_request.is_none());
    }
}

#[test]
fn bad_disks_condemn_at_once_and_preemption_never_does() {
    let mut harness = Harness::new();
    for number in 1..=4 {
        harness.held(number, number, "a");
    }
    harness.complete((1..=3).map(|number| completed(number, -102)).collect());
    assert!(harness.allocate(vec![]).blacklist_request.is_none());
    harness.complete(vec![completed(4, -101)]);
    assert_eq!(additions(&harness.allocate(vec![])), ["a", "a:45454"]);
}

#[test]
fn after_a_resync_everything_is_said_again() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.held(2, 2, "a");
    sicken(&mut harness, "sick", 3);
    harness.request(6);
    harness.request(7);
    harness.event(Event::Released(worker(id(1))));
    harness.allocate(vec![]);
    harness.event(Event::Withdrawn(request(7)));
    harness.heartbeat();
    harness.event(Event::Allocated(Err(forgotten())));
    assert!(matches!(harness.call(), Action::Register(_)));
    harness.request(8);
    harness.register();
    assert_eq!(harness.posted(), [], "the workers were never gone");
    let heartbeat = harness.heartbeat();
    assert_eq!(heartbeat.response_id(), 0);
    assert_eq!(asks(&heartbeat), [(6, 1), (8, 1)]);
    assert_eq!(releases(&heartbeat), [id(1), id(3), id(4), id(5)]);
    assert_eq!(additions(&heartbeat), ["sick", "sick:45454"]);
}

#[test]
fn a_resync_by_command_is_one_too() {
    let mut harness = Harness::new();
    harness.request(1);
    let command = AllocateResponseProto {
        a_m_command: Some(AmCommandProto::AmResync.into()),
        ..AllocateResponseProto::default()
    };
    harness.answered(command);
    assert!(matches!(harness.call(), Action::Register(_)));
    harness.register();
    assert_eq!(asks(&harness.heartbeat()), [(1, 1)]);
}

#[test]
fn a_request_that_was_answered_before_a_failover_is_not_answered_again() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.heartbeat();
    harness.event(Event::Allocated(Err(forgotten())));
    harness.call();
    harness.register();
    // The new ResourceManager allocates the containers of the old one again.
    harness.allocate(vec![container(1, 1, "a"), container(2, 1, "a")]);
    assert_eq!(harness.posted(), []);
    assert_eq!(releases(&harness.allocate(vec![])), [id(2)]);
}

#[test]
fn a_wrong_number_is_adopted_and_the_message_said_again() {
    let mut harness = Harness::new();
    let wrong = || {
        remote(
            "InvalidApplicationMasterRequestException",
            "Invalid responseId in AllocateRequest, expect responseId to be 17 but get 2",
        )
    };
    harness.request(1);
    harness.heartbeat();
    harness.event(Event::Allocated(Err(wrong())));
    let heartbeat = harness.heartbeat();
    assert_eq!((heartbeat.response_id(), asks(&heartbeat)), (17, vec![(1, 1)]));
    for _ in 0..WRONG_IDS_MAX {
        assert_eq!(harness.posted(), []);
        harness.event(Event::Allocated(Err(wrong())));
        if harness.master.phase != Phase::Ended {
            harness.heartbeat();
        }
    }
    assert!(matches!(harness.posted()[..], [Fatal { .. }]));
}

#[test]
fn an_attempt_that_is_over_is_fatal() {
    let over = remote("ApplicationAttemptNotFoundException", "gone");
    let shutdown = AllocateResponseProto {
        a_m_command: Some(AmCommandProto::AmShutdown.into()),
        ..AllocateResponseProto::default()
    };
    for answer in [Err(over), Ok(Box::new(shutdown))] {
        let mut harness = Harness::new();
        harness.heartbeat();
        harness.event(Event::Allocated(answer));
        assert!(matches!(harness.posted()[..], [Fatal { .. }]));
        harness.request(1);
        assert_eq!(harness.actions, []);
        harness.event(Event::Dropped);
        assert_eq!(harness.actions, [Action::End]);
    }
}

#[test]
fn a_new_token_is_shown_from_then_on_and_a_refused_one_gives_way_to_the_other() {
    let mut harness = Harness::new();
    harness
        .answered(AllocateResponseProto { am_rm_token: Some(token("new")), ..Default::default() });
    assert_eq!(harness.actions, [Action::NewToken(token("new").into())]);
    harness.actions.clear();
    let refused = || remote("SecretManager$InvalidToken", "Invalid AMRMToken");
    let start = harness.now;
    while harness.posted().is_empty() {
        harness.heartbeat();
        harness.actions.clear();
        harness.event(Event::Allocated(Err(refused())));
        let fatal = matches!(harness.actions[..], [Action::Post(Fatal { .. })]);
        assert!(fatal || harness.actions == [Action::OtherToken], "{:?}", harness.actions);
        if fatal {
            break;
        }
    }
    let took = harness.now - start;
    assert!(took > TOKEN_REFUSED_MAX && took < 2 * TOKEN_REFUSED_MAX, "{took:?}");
}

#[test]
fn tokens_of_nodes_are_passed_on() {
    let mut harness = Harness::new();
    let one = NmTokenProto { node_id: Some(node_id("a")), token: Some(token("n")) };
    harness.answered(AllocateResponseProto { nm_tokens: vec![one], ..Default::default() });
    let token = Token::from(token("n"));
    assert_eq!(harness.actions, [Action::NodeToken { node: node("a"), token }]);
}

#[test]
fn a_request_beyond_the_maximum_fails_with_the_limit() {
    let mut early = Harness::unregistered();
    early.event(Event::Requested { request: request(1), memory_mb: 1025 });
    early.register();
    let mut late = Harness::new();
    late.event(Event::Requested { request: request(1), memory_mb: 1025 });
    for mut harness in [early, late] {
        let posted = harness.posted();
        let Some(RequestFailed { reason, .. }) = posted.last() else { panic!("{posted:?}") };
        assert!(reason.starts_with("a worker needs 1025 MB but YARN gives a container 1024 MB"));
        assert_eq!(asks(&harness.heartbeat()), []);
    }
}

#[test]
fn what_yarn_refuses_fails_alone() {
    let mut harness = Harness::new();
    harness.request(1);
    harness.allocate(vec![]);
    harness.request(2);
    harness.heartbeat();
    let error = remote("InvalidLabelResourceRequestException", "no label fast in queue q");
    harness.event(Event::Allocated(Err(error)));
    let (request, reason) = (request(2), "YARN refuses it: no label fast in queue q".to_owned());
    assert_eq!(harness.posted(), [RequestFailed { request, reason }]);
    let heartbeat = harness.allocate(vec![container(1, 1, "a")]);
    assert_eq!(asks(&heartbeat), []);
    assert_eq!(heartbeat.response_id(), 2, "the same message, said otherwise");
    assert_eq!(harness.posted().len(), 1);
}

#[test]
fn other_troubles_are_waited_out_for_a_while() {
    let mut harness = Harness::new();
    harness.request(1);
    let start = harness.now;
    while harness.posted().is_empty() {
        assert_eq!(asks(&harness.heartbeat()), [(1, 1)]);
        harness.event(Event::Allocated(Err(remote("YarnException", "UnknownHost"))));
        if harness.master.phase == Phase::Ended {
            break;
        }
    }
    assert!(harness.now - start > REFUSED_MAX);
}

#[test]
fn a_long_wait_for_containers_is_explained_now_and_then() {
    let mut harness = Harness::new();
    harness.request(1);
    let wait = |harness: &mut Harness, seconds: u64, left: i64, nodes: i32| -> Vec<String> {
        let until = harness.now + Duration::from_secs(seconds);
        while harness.now < until {
            let limit = ResourceProto { memory: Some(left), ..ResourceProto::default() };
            harness.answered(AllocateResponseProto {
                limit: Some(limit),
                num_cluster_nodes: Some(nodes),
                ..AllocateResponseProto::default()
            });
        }
        let said = harness.actions.drain(..).filter_map(|action| match action {
            Action::Post(DriverEvent::Waiting { reason }) => Some(reason),
            _ => None,
        });
        said.collect()
    };
    assert_eq!(wait(&mut harness, 3, 0, 1), [""; 0], "a short wait is usual");
    let said = wait(&mut harness, 20, 100, 1);
    let [said] = &said[..] else { panic!("{said:?}") };
    assert!(said.starts_with("YARN has not given a container of 512 MB and 2 virtual"), "{said}");
    assert!(said.ends_with("1 wanted: the application's queue has 100 MB left for it"), "{said}");
    let said = wait(&mut harness, 35, 4096, 1);
    assert!(said[0].ends_with("no node with the label fast has that much free"), "{said:?}");
    let said = wait(&mut harness, 35, 4096, 0);
    assert!(said[0].ends_with("no NodeManager is running"), "{said:?}");
    harness.event(Event::Withdrawn(request(1)));
    assert_eq!(wait(&mut harness, 100, 0, 1), [""; 0]);
}

#[test]
fn it_asks_often_at_first_and_seldom_while_the_queue_is_full() {
    let mut harness = Harness::new();
    let pause = |harness: &mut Harness, headroom: i64| {
        let before = harness.now;
        let limit = ResourceProto { memory: Some(headroom), ..ResourceProto::default() };
        harness.answered(AllocateResponseProto { limit: Some(limit), ..Default::default() });
        (harness.now - before).as_millis()
    };
    assert_eq!(pause(&mut harness, 4096), 5000);
    harness.request(1);
    let pauses: Vec<u128> = (0..6).map(|_| pause(&mut harness, 4096)).collect();
    assert_eq!(pauses, [50, 100, 200, 400, 500, 500]);
    let pauses: Vec<u128> = (0..5).map(|_| pause(&mut harness, 100)).collect();
    assert_eq!(pauses, [500, 1000, 2000, 4000, 5000]);
}

#[test]
fn what_will_be_taken_away_is_drained_once() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.held(2, 2, "b");
    let strict = PreemptionContainerProto { id: Some(ContainerIdProto::from(id(1))) };
    let preempt = PreemptionMessageProto {
        strict_contract: Some(StrictPreemptionContractProto { container: vec![strict] }),
        contract: None,
    };
    let node = NodeReportProto {
        node_id: Some(node_id("b")),
        node_state: Some(NodeStateProto::NsDecommissioning.into()),
        decommissioning_timeout: Some(60),
        ..NodeReportProto::default()
    };
    for expected in [2, 0] {
        harness.answered(AllocateResponseProto {
            updated_nodes: vec![node.clone()],
            preempt: Some(preempt.clone()),
            ..AllocateResponseProto::default()
        });
        let posted = harness.posted();
        assert_eq!(posted.len(), expected, "{posted:?}");
        if let [Draining { worker: first, time_left, .. }, Draining { worker: second, .. }] =
            &posted[..]
        {
            assert_eq!((first, second), (&worker(id(2)), &worker(id(1))));
            assert_eq!(*time_left, Some(Duration::from_secs(60)));
        }
    }
}

#[test]
fn containers_of_an_earlier_attempt_are_recovered_whenever_they_turn_up() {
    let mut harness = Harness::unregistered();
    let old = |number: u64| -> ContainerId {
        format!("container_1700000000000_0003_01_{number:06}").parse().unwrap()
    };
    let found = |number: u64| ContainerProto {
        id: Some(old(number).into()),
        node_id: Some(node_id("a")),
        ..ContainerProto::default()
    };
    let answer = RegisterApplicationMasterResponseProto {
        containers_from_previous_attempts: vec![found(1)],
        ..RegisterApplicationMasterResponseProto::default()
    };
    harness.event(Event::Registered(Ok(Box::new(answer))));
    assert_eq!(harness.posted(), [Recovered(vec![worker(old(1))])]);
    harness.answered(AllocateResponseProto {
        containers_from_previous_attempts: vec![found(1), found(2)],
        ..AllocateResponseProto::default()
    });
    assert_eq!(harness.posted(), [Recovered(vec![worker(old(2))])]);
    harness.event(Event::Released(worker(old(1))));
    assert_eq!(harness.stops(), [old(1)]);
    assert_eq!(releases(&harness.allocate(vec![])), [old(1)]);
}

#[test]
fn it_unregisters_until_that_is_on_the_books() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.request(2);
    let diagnostics = "a job failed".to_owned();
    harness.event(Event::Deregister { status: ClusterStatus::Failed, diagnostics });
    assert_eq!(harness.stops(), [id(1)]);
    harness.actions.retain(|action| !matches!(action, Action::Allocate(_)));
    if harness.master.calling {
        harness.event(Event::Allocated(Ok(Box::default())));
    }
    let Action::Finish(finish) = harness.call() else { panic!() };
    assert_eq!(finish.final_application_status(), FinalApplicationStatusProto::AppFailed);
    assert_eq!((finish.diagnostics(), finish.tracking_url()), ("a job failed", "http://history"));
    harness.event(Event::Finished(Ok(false)));
    assert!(matches!(harness.call(), Action::Finish(_)));
    harness.event(Event::Finished(Err(forgotten())));
    assert!(matches!(harness.call(), Action::Register(_)));
    harness.register();
    assert!(matches!(harness.call(), Action::Finish(_)));
    harness.event(Event::Finished(Ok(true)));
    assert_eq!(harness.actions, [Action::End]);
}

#[test]
fn an_end_that_yarn_refuses_is_an_end_too() {
    let mut harness = Harness::new();
    let diagnostics = String::new();
    harness.event(Event::Deregister { status: ClusterStatus::Succeeded, diagnostics });
    harness.call();
    harness.event(Event::Finished(Err(remote("ApplicationAttemptNotFoundException", "gone"))));
    assert_eq!(harness.actions, [Action::End]);
}

#[test]
fn a_dropped_driver_withdraws_its_requests() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.request(2);
    harness.allocate(vec![]);
    harness.event(Event::Dropped);
    assert_eq!(asks(&harness.allocate(vec![])), [(2, 0)]);
    assert_eq!(harness.actions, [Action::End], "and leaves its workers alone");
}

#[test]
fn progress_is_the_part_of_the_wanted_workers_that_is_there() {
    let mut harness = Harness::new();
    harness.held(1, 1, "a");
    harness.request(2);
    assert!((harness.heartbeat().progress() - 0.5).abs() < f32::EPSILON);
}
