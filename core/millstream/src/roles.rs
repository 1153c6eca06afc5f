//! The roles of an artifact that its parent process started.
//!
//! The parent leaves one end of a socket in the child and its number in the environment. The child
//! says hello, hears its role in `Begin`, and only then runs user code. Plan, client and
//! application hand their graphs over at each `execute()`; a host runs the build function up to the
//! `execute()` that its graph came from and stays in it until it is told to stop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_api::{
    Args, Environment, Execution, Executor, JobClient, JobHandle, JobResult, Program, Result, bail,
    error,
};
use millstream_graph::{JobGraph, JobSettings, fingerprint_difference};
use millstream_protocol::host::{
    Answer, Begin, Failure, Finished, Hello, JobQuery, JobResult as EndOfJob, Role, ToHost, answer,
    from_host, to_host,
};
use millstream_protocol::{HOST_PROTOCOL, HOST_SOCKET_VARIABLE, HOST_START_VARIABLE};
use millstream_runtime::failure::{self, guard};
use millstream_runtime::link::{self, Outbox, ToControl};
use millstream_runtime::{CoordinatorHost, HostCheckpointing, TaskHost, TaskHostConfig};
use millstream_security::{Credentials, Secret};
use millstream_storage::patience::{Waiting, set_waiting};
use millstream_types::{Clock, HostId, JobId, JobStatus, LeaderEpoch};

/// Time limit for a host until it is ready, if its parent does not set one.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The user's function, which builds streams and executes them.
pub type BuildFunction = fn(&mut Environment, Args) -> Result<()>;

/// The socket to the parent, if there is a parent. Takes it out of the environment, so that what
/// user code starts does not find it. Call it first thing in `main`, on its only thread.
#[must_use]
pub fn inherited_socket() -> Option<UnixStream> {
    let number: RawFd = std::env::var(HOST_SOCKET_VARIABLE).ok()?.parse().ok()?;
    // SAFETY: no other thread runs yet that could read the environment meanwhile.
    unsafe { std::env::remove_var(HOST_SOCKET_VARIABLE) };
    // SAFETY: fcntl only looks at the descriptor; a number that is none is refused.
    let set = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if set < 0 {
        return None;
    }
    // SAFETY: the parent left the descriptor for this process, and it has no other owner here.
    Some(UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

struct Parent {
    control: SyncSender<ToControl>,
    messages: Receiver<ToControl>,
    outbox: Outbox,
    writer: JoinHandle<()>,
}

impl Parent {
    fn connect(socket: UnixStream) -> std::io::Result<Self> {
        let (control, messages) = link::control_queue();
        let (outbox, outgoing) = Outbox::new();
        link::read_parent(socket.try_clone()?, control.clone())?;
        let writer = link::write_parent(socket, outgoing)?;
        Ok(Self { control, messages, outbox, writer })
    }

    fn next(&self) -> Option<ToHost> {
        match self.messages.recv() {
            Ok(ToControl::Parent(message)) => Some(*message),
            Ok(ToControl::ParentGone | ToControl::Task(_) | ToControl::CoordinatorFailed(_))
            | Err(_) => None,
        }
    }

    /// Ends the process once everything is written that was sent. User code's threads and values
    /// end with it; nothing of theirs runs any more.
    fn exit(self, code: i32) -> ! {
        let Self { outbox, writer, .. } = self;
        drop(outbox);
        // A writer blocked by a parent that does not read must not keep the process, and user code
        // may have left no room for another thread.
        let clock = Clock::system();
        let deadline = clock.now() + Duration::from_secs(5);
        while !writer.is_finished() && clock.now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::process::exit(code)
    }

    fn fail(self, failure: Failure) -> ! {
        self.outbox.send(from_host::Message::Failure(failure));
        self.exit(1)
    }
}

/// Runs the role that the parent gives; never returns to user code.
pub fn run_child(socket: UnixStream, build: BuildFunction) -> ExitCode {
    failure::install_panic_hook();
    let Ok(parent) = Parent::connect(socket) else { return ExitCode::FAILURE };
    parent.outbox.send(from_host::Message::Hello(Hello {
        major: HOST_PROTOCOL.major,
        minor: HOST_PROTOCOL.minor,
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    }));
    let Some(ToHost { message: Some(to_host::Message::Begin(begin)) }) = parent.next() else {
        return ExitCode::FAILURE;
    };
    if begin.major != HOST_PROTOCOL.major {
        let message = format!(
            "the artifact speaks host protocol {HOST_PROTOCOL}, the cluster {}.{}: rebuild the \
             artifact with the cluster's version of millstream",
            begin.major, begin.minor
        );
        parent.fail(failure::of_kind("mismatch", message));
    }
    match begin.role() {
        Role::Plan | Role::Client | Role::Application => hand_over(parent, begin, build),
        Role::TaskHost | Role::Coordinator => run_host(parent, begin, build),
        Role::Unspecified => {
            parent.fail(failure::of_kind("mismatch", "the parent gave a role that is unknown"))
        }
    }
}

fn settings_of(begin: &Begin) -> Result<JobSettings> {
    let settings = begin.settings.clone().ok_or_else(|| error!("the parent gave no settings"))?;
    Ok(settings.try_into()?)
}

/// A role that its environment drives and that the caller takes the parent back from.
struct Shared<R>(Rc<RefCell<R>>);

impl<R> Shared<R> {
    fn new(role: R) -> Self {
        Self(Rc::new(RefCell::new(role)))
    }

    fn handle(&self) -> Box<Self> {
        Box::new(Self(Rc::clone(&self.0)))
    }
}

/// Plan, client and application: graphs go to the parent, answers come back.
struct HandOver {
    parent: Option<Parent>,
    settings: JobSettings,
    plan_only: bool,
    is_in_clients_directory: bool,
    /// Ends of jobs, as far as the parent has told them.
    ended: BTreeMap<JobId, EndOfJob>,
}

impl Executor for Shared<HandOver> {
    fn settings(&self) -> JobSettings {
        self.0.borrow().settings.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn is_in_clients_directory(&self) -> bool {
        self.0.borrow().is_in_clients_directory
    }

    fn execute(&mut self, _program: Program, graph: JobGraph, wait: bool) -> Result<Execution> {
        let mut this = self.0.borrow_mut();
        let plan_only = this.plan_only;
        let planned = from_host::Message::Planned((&graph).into());
        if let Some(parent) = this.parent.take_if(|_| plan_only) {
            parent.outbox.send(planned);
            parent.exit(0);
        }
        this.tell(planned)?;
        let job = this.submitted()?;
        match wait.then(|| this.end_of(job)).transpose()? {
            Some(Some(result)) => Ok(Execution::Finished(finished(&result)?)),
            // Nothing waits for the end.
            Some(None) | None => {
                let role = Rc::clone(&self.0);
                let client = JobClient::new(job, Rc::new(Submission { job, role }));
                Ok(Execution::Submitted(client))
            }
        }
    }
}

impl HandOver {
    fn tell(&self, message: from_host::Message) -> Result<()> {
        let Some(parent) = &self.parent else { bail!("the parent process is gone") };
        parent.outbox.send(message);
        Ok(())
    }

    /// The parent's next answer about jobs; ends are noted, whatever is waited for. A job that was
    /// not waited for may end while another one is submitted or runs.
    fn next(&mut self) -> Result<answer::Answer> {
        loop {
            let message = self.parent.as_ref().and_then(Parent::next);
            let Some(ToHost { message }) = message else {
                bail!("the client that started this program is gone")
            };
            if let Some(to_host::Message::Answer(Answer { answer: Some(answer) })) = message {
                if let answer::Answer::Result(result) = &answer {
                    let job = JobId::try_from(result.job_id.as_slice())?;
                    self.ended.insert(job, result.clone());
                }
                return Ok(answer);
            }
        }
    }

    /// The id of the job whose graph was handed over last.
    fn submitted(&mut self) -> Result<JobId> {
        loop {
            match self.next()? {
                answer::Answer::Submitted(submitted) => {
                    return Ok(JobId::try_from(submitted.job_id.as_slice())?);
                }
                answer::Answer::Refused(failure) => bail!("{}", failure.message),
                answer::Answer::Result(_) | answer::Answer::JobState(_) => {}
            }
        }
    }

    /// Waits for the end of a job; `None` if the parent was told not to wait.
    fn end_of(&mut self, job: JobId) -> Result<Option<EndOfJob>> {
        loop {
            if let Some(result) = self.ended.get(&job) {
                let runs = result.status == JobStatus::Running.as_str();
                return Ok((!runs).then(|| result.clone()));
            }
            self.next()?;
        }
    }

    /// Asks the parent after a job.
    fn ask(&mut self, job: JobId, cancel: bool) -> Result<JobStatus> {
        let job_id = job.as_bytes().to_vec();
        self.tell(from_host::Message::JobQuery(JobQuery { job_id: job_id.clone(), cancel }))?;
        let state = loop {
            match self.next()? {
                answer::Answer::JobState(state) if state.job_id == job_id => break state,
                _ => {}
            }
        };
        // The job may have ended meanwhile, and its cluster with it.
        let ended = self.ended.get(&job).and_then(|result| JobStatus::from_name(&result.status));
        match (ended.filter(|status| status.is_globally_terminal()), state.failure) {
            (Some(status), _) => Ok(status),
            (None, Some(failure)) => bail!("{}", failure.message),
            (None, None) => JobStatus::from_name(&state.status)
                .ok_or_else(|| error!("job {job} is in a state that is unknown: {}", state.status)),
        }
    }
}

/// A job that this program has submitted.
struct Submission {
    job: JobId,
    role: Rc<RefCell<HandOver>>,
}

impl JobHandle for Submission {
    fn status(&self) -> Result<JobStatus> {
        self.role.borrow_mut().ask(self.job, false)
    }

    fn cancel(&self) -> Result<()> {
        self.role.borrow_mut().ask(self.job, true).map(drop)
    }

    fn result(&self) -> Result<JobResult> {
        let job = self.job;
        match self.role.borrow_mut().end_of(job)? {
            Some(result) => finished(&result),
            None => bail!(
                "the end of job {job} cannot be waited for, because the program was started with \
                 -d or by REST: start it without -d, or ask for the status"
            ),
        }
    }
}

fn finished(result: &EndOfJob) -> Result<JobResult> {
    let job = JobId::try_from(result.job_id.as_slice())?;
    match JobStatus::from_name(&result.status) {
        Some(status @ JobStatus::Finished) => {
            Ok(JobResult { job, status, runtime: Duration::from_millis(result.runtime_ms) })
        }
        _ => {
            let cause = result.cause.as_ref().map_or("no cause was given", |cause| &cause.message);
            bail!("job {job} ended {}: {cause}", result.status)
        }
    }
}

/// Set for a program that a daemon plans: its working directory is the daemon's.
const PLANNED_ON_CLUSTER_VARIABLE: &str = "MILLSTREAM_PLANNED_ON_CLUSTER";

fn hand_over(parent: Parent, begin: Begin, build: BuildFunction) -> ExitCode {
    let settings = match settings_of(&begin) {
        Ok(settings) => settings,
        Err(error) => parent.fail(failure::of_error(&error)),
    };
    let args = Args::new(settings.args.clone());
    let plan_only = begin.role() == Role::Plan;
    // An application's program and one that REST has planned run in a daemon's directory.
    let is_in_clients_directory = begin.role() != Role::Application
        && std::env::var_os(PLANNED_ON_CLUSTER_VARIABLE).is_none();
    let parent = Some(parent);
    let ended = BTreeMap::new();
    let shared =
        Shared::new(HandOver { parent, settings, plan_only, is_in_clients_directory, ended });
    let mut environment = Environment::new(shared.handle());
    let built = guard(|| build(&mut environment, args));
    let executes = environment.executes();
    let Some(parent) = shared.0.borrow_mut().parent.take() else { return ExitCode::FAILURE };
    let code = i32::from(built.is_err());
    let message = Finished { failure: built.err(), executes };
    parent.outbox.send(from_host::Message::Finished(message));
    parent.exit(code)
}

/// Task host and coordinator host: runs the build function up to its graph's `execute()`.
struct HostExecutor {
    parent: Option<Parent>,
    begin: Begin,
    planned: JobGraph,
}

impl Executor for Shared<HostExecutor> {
    fn settings(&self) -> JobSettings {
        self.0.borrow().planned.settings.clone()
    }

    fn plan_value(&self, name: &str) -> Option<Vec<u8>> {
        self.0.borrow().planned.plan_values.get(name).cloned()
    }

    /// The planner was there, and has recorded where that is.
    fn is_in_clients_directory(&self) -> bool {
        false
    }

    fn warn(&mut self, _warning: &str) {}

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let mut this = self.0.borrow_mut();
        let job = JobId::try_from(this.begin.job_id.as_slice())?;
        if graph.ordinal < this.planned.ordinal {
            // Here an earlier job of the program counts as finished, for any process that waits.
            let (status, runtime) = (JobStatus::Finished, Duration::ZERO);
            return Ok(Execution::Finished(JobResult { job, status, runtime }));
        }
        let Some(parent) = this.parent.take() else { bail!("the parent process is gone") };
        if let Some(difference) = fingerprint_difference(&this.planned, &graph) {
            let message =
                format!("{difference}; what differs from run to run must go through plan_value()");
            parent.fail(failure::of_kind("mismatch", message));
        }
        let failed = match this.begin.role() {
            Role::Coordinator => coordinate(&parent, &this.begin, job, &program, &graph),
            _ => run_tasks(&parent, &this.begin, job, program, graph),
        };
        match failed {
            Ok(()) => parent.exit(0),
            Err(failure) => {
                failure::note(job, None, &failure.message);
                parent.fail(failure)
            }
        }
    }
}

fn coordinate(
    parent: &Parent,
    begin: &Begin,
    job: JobId,
    program: &Program,
    graph: &JobGraph,
) -> Result<(), Failure> {
    let (control, outbox) = (parent.control.clone(), parent.outbox.clone());
    let on_failure = Arc::new(move |failure| {
        let _ = control.send(ToControl::CoordinatorFailed(Box::new(failure)));
    });
    let clock = Clock::system();
    CoordinatorHost::start(begin, job, program, graph, on_failure, outbox, clock)?
        .run(&parent.messages)
}

/// The addresses of `host:ports`, in the order in which the data port tries them; the ports are
/// one, a range or several (`27600-27610,27700`).
fn data_addresses(address: &str) -> Result<Vec<SocketAddr>> {
    let (host, ports) =
        address.rsplit_once(':').ok_or_else(|| error!("data port {address:?} has no port"))?;
    let resolved = (host.trim_matches(['[', ']']), 0).to_socket_addrs();
    let resolved = resolved.map_err(|e| error!("data port {address:?} cannot be bound: {e}"))?;
    let ip = resolved.into_iter().next().map(|address| address.ip());
    let ip = ip.ok_or_else(|| error!("data port {address:?} has no address"))?;
    let mut addresses = Vec::new();
    for range in ports.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let port = |text: &str| {
            text.parse::<u16>().map_err(|e| error!("data port {address:?}: {text:?} is {e}"))
        };
        addresses.extend((port(first)?..=port(last)?).map(|port| SocketAddr::new(ip, port)));
    }
    Ok(addresses)
}

fn run_tasks(
    parent: &Parent,
    begin: &Begin,
    job: JobId,
    program: Program,
    graph: JobGraph,
) -> Result<(), Failure> {
    let host = guard(|| {
        let config = TaskHostConfig {
            job,
            host: HostId::try_from(begin.host_id.as_slice())?,
            epoch: LeaderEpoch::new(begin.epoch),
            attempt: begin.attempt,
            token: <[u8; 32]>::try_from(begin.exchange_token.as_slice())
                .map(Secret::new)
                .map_err(|_| error!("the exchange token is not 32 bytes"))?,
            credentials: match begin.credentials.as_slice() {
                [] => None,
                bytes => Some(Credentials::from_secret(bytes)?),
            },
            bind: data_addresses(&begin.bind_address)?,
            clock: Clock::system(),
            checkpointing: HostCheckpointing::of(begin)?,
        };
        TaskHost::start(
            config,
            Arc::new(program),
            graph,
            parent.control.clone(),
            parent.outbox.clone(),
        )
    })?;
    host.run(&parent.messages);
    Ok(())
}

/// File systems give up in time for their reason to be told before the host is killed for its
/// silence.
fn limit_patience() {
    let limit = std::env::var(HOST_START_VARIABLE).ok().and_then(|text| text.parse().ok());
    let limit = limit.map_or(START_LIMIT, Duration::from_millis);
    // The limit counts from the start of the process, and the reason needs some time to arrive.
    set_waiting(Waiting::Starting { until: Clock::system().now() + limit * 2 / 3 });
}

fn run_host(parent: Parent, begin: Begin, build: BuildFunction) -> ExitCode {
    limit_patience();
    parent.outbox.show_life(begin.heartbeat_interval_ms);
    let planned = begin.job_graph.clone().ok_or_else(|| error!("the parent gave no job graph"));
    let planned = planned.and_then(|graph| Ok(JobGraph::try_from(graph)?));
    let planned = match planned {
        Ok(planned) => planned,
        Err(error) => parent.fail(failure::of_error(&error)),
    };
    let args = Args::accepted(planned.settings.args.clone());
    let wanted = planned.ordinal + 1;
    let job = JobId::try_from(begin.job_id.as_slice());
    let shared = Shared::new(HostExecutor { parent: Some(parent), begin, planned });
    let mut environment = Environment::new(shared.handle());
    let built = guard(|| build(&mut environment, args));
    let Some(parent) = shared.0.borrow_mut().parent.take() else { return ExitCode::FAILURE };
    let failure = built.err().unwrap_or_else(|| {
        failure::of_kind(
            "mismatch",
            format!(
                "the program called execute {} times here, where it was planned at least {wanted}",
                environment.executes()
            ),
        )
    });
    if let Ok(job) = job {
        failure::note(job, None, &failure.message);
    }
    parent.fail(failure)
}

#[cfg(test)]
mod tests {
    use millstream_protocol::host::{JobState, Submitted};

    use super::*;

    fn id(number: u128) -> Vec<u8> {
        JobId::from_u128(number).as_bytes().to_vec()
    }

    fn submitted(number: u128) -> answer::Answer {
        answer::Answer::Submitted(Submitted { job_id: id(number) })
    }

    fn ended(number: u128, status: JobStatus) -> answer::Answer {
        answer::Answer::Result(EndOfJob {
            job_id: id(number),
            status: status.as_str().to_owned(),
            runtime_ms: u64::try_from(number).unwrap(),
            cause: None,
        })
    }

    fn state(number: u128, status: &str, failure: Option<&str>) -> answer::Answer {
        let failure = failure.map(|message| failure::of_kind("error", message.to_owned()));
        answer::Answer::JobState(JobState {
            job_id: id(number),
            status: status.to_owned(),
            failure,
        })
    }

    /// A program whose parent says this and is gone then.
    fn client(said: impl IntoIterator<Item = answer::Answer>) -> (HandOver, link::Outgoing) {
        let (control, messages) = link::control_queue();
        for answer in said {
            let message = Some(to_host::Message::Answer(Answer { answer: Some(answer) }));
            control.send(ToControl::Parent(Box::new(ToHost { message }))).unwrap();
        }
        let _ = control.send(ToControl::ParentGone);
        let (outbox, outgoing) = Outbox::new();
        let writer = std::thread::spawn(|| {});
        let parent = Some(Parent { control, messages, outbox, writer });
        let (settings, ended) = Default::default();
        let (plan_only, is_in_clients_directory) = (false, true);
        (HandOver { parent, settings, plan_only, is_in_clients_directory, ended }, outgoing)
    }

    #[test]
    fn the_end_of_an_earlier_job_is_not_that_of_the_next() {
        let (mut client, _told) = client([
            submitted(1),
            ended(1, JobStatus::Failed),
            submitted(2),
            ended(3, JobStatus::Failed),
            ended(2, JobStatus::Finished),
        ]);
        let first = client.submitted().unwrap();
        let second = client.submitted().unwrap();
        assert_eq!((first, second), (JobId::from_u128(1), JobId::from_u128(2)));
        let end = finished(&client.end_of(second).unwrap().unwrap()).unwrap();
        assert_eq!((end.job, end.runtime), (second, Duration::from_millis(2)));
        // It ended before anyone asked.
        let error = finished(&client.end_of(first).unwrap().unwrap()).unwrap_err().to_string();
        assert!(error.contains("ended FAILED"), "{error}");
        assert!(client.submitted().is_err(), "the parent is gone");
    }

    #[test]
    fn a_program_asks_after_its_job_and_cancels_it() {
        let (client, told) = client([
            submitted(1),
            submitted(2),
            state(1, "RUNNING", None),
            ended(2, JobStatus::Finished),
            state(1, "CANCELLING", None),
            state(1, "", Some("the cluster is gone")),
            ended(1, JobStatus::Canceled),
            state(1, "", Some("the cluster is gone")),
        ]);
        let role = Rc::new(RefCell::new(client));
        let [first, second] = [(), ()].map(|()| role.borrow_mut().submitted().unwrap());
        let first =
            JobClient::new(first, Rc::new(Submission { job: first, role: Rc::clone(&role) }));
        let second =
            JobClient::new(second, Rc::new(Submission { job: second, role: Rc::clone(&role) }));
        assert_eq!(first.status().unwrap(), JobStatus::Running);
        first.cancel().unwrap();
        assert_eq!(second.result().unwrap().status, JobStatus::Finished);
        assert_eq!(first.status().unwrap_err().to_string(), "the cluster is gone");
        // Its end is known although its cluster has gone with it.
        assert_eq!(first.status().unwrap(), JobStatus::Canceled);
        assert!(first.result().unwrap_err().to_string().contains("ended CANCELED"));
        drop(role.borrow_mut().parent.take());
        let asked = told.filter_map(|message| match message.message {
            Some(from_host::Message::JobQuery(query)) => Some(query.cancel),
            _ => None,
        });
        assert_eq!(asked.collect::<Vec<_>>(), [false, true, false, false]);
    }

    #[test]
    fn a_program_that_was_told_not_to_wait_says_so() {
        let (client, _told) = client([submitted(1), ended(1, JobStatus::Running)]);
        let role = Rc::new(RefCell::new(client));
        let job = role.borrow_mut().submitted().unwrap();
        let error = Submission { job, role }.result().unwrap_err().to_string();
        assert!(error.contains("started with -d or by REST"), "{error}");
    }
}
