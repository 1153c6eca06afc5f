//! A program for the tests of the command line: it says what an artifact says, by its first
//! argument, without an engine inside.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

use millstream_graph::{
    Boundedness, Chaining, JobSettings, NodeId, NodeKind, OutputName, Partitioner, StreamEdge,
    StreamGraph, StreamNode, plan,
};
use millstream_protocol::frame::{FrameError, read_blocking, write_blocking};
use millstream_protocol::host::{
    Failure, Finished, FromHost, Hello, ToHost, answer, from_host, to_host,
};
use millstream_protocol::{HOST_PROTOCOL, HOST_SOCKET_VARIABLE};

struct Parent(UnixStream);

impl Parent {
    fn say(&mut self, message: from_host::Message) {
        write_blocking(&mut self.0, &FromHost { message: Some(message) }).expect("the parent reads")
    }

    fn hear(&mut self) -> to_host::Message {
        let message: ToHost = match read_blocking(&mut self.0) {
            // The parent has the plan and wants no more.
            Err(FrameError::Closed) => std::process::exit(0),
            answer => answer.expect("the parent answers"),
        };
        message.message.expect("it is one that this version knows")
    }

    /// One `execute()`: the job's state at its end, or why it was refused.
    fn execute(&mut self, settings: &JobSettings, ordinal: u32) -> Result<String, String> {
        let graph = plan(&graph(), "counting", ordinal, BTreeMap::new(), settings);
        self.say(from_host::Message::Planned((&graph.map_err(|error| error.to_string())?).into()));
        loop {
            let to_host::Message::Answer(answer) = self.hear() else { continue };
            match answer.answer.expect("an answer says something") {
                answer::Answer::Submitted(_) | answer::Answer::JobState(_) => {}
                answer::Answer::Result(result) => return Ok(result.status),
                answer::Answer::Refused(failure) => return Err(failure.message),
            }
        }
    }
}

fn graph() -> StreamGraph {
    let node = |id, name: &str, kind| StreamNode {
        id: NodeId(id),
        uid: Some(name.to_owned()),
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
    StreamGraph {
        nodes: vec![
            node(0, "numbers", source),
            node(1, "out", NodeKind::Sink { coordinated: false }),
        ],
        edges: vec![StreamEdge {
            source: NodeId(0),
            output: OutputName::Main,
            target: NodeId(1),
            input: 0,
            partitioner: Some(Partitioner::Hash),
        }],
    }
}

fn main() {
    let socket = std::env::var(HOST_SOCKET_VARIABLE).expect("it is started by the command line");
    let socket = socket.parse().expect("it is a descriptor");
    // SAFETY: the parent left this descriptor for us alone.
    let mut parent = Parent(unsafe { UnixStream::from_raw_fd(socket) });
    parent.say(from_host::Message::Hello(Hello {
        major: HOST_PROTOCOL.major,
        minor: HOST_PROTOCOL.minor,
        engine_version: "test".to_owned(),
        pid: std::process::id(),
    }));
    let to_host::Message::Begin(begin) = parent.hear() else { return };
    let settings: JobSettings =
        begin.settings.expect("a client has settings").try_into().expect("they are sound");
    let executes = match settings.args.first().map(String::as_str) {
        Some("never") => 0,
        Some("twice") => 2,
        Some("abort") => std::process::abort(),
        Some("exit") => std::process::exit(0),
        Some("hang") => loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        },
        Some("prints") => {
            let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
            writeln!(stdout, "planning \u{1b}[1mnow\u{1b}[0m").expect("it is read");
            writeln!(stderr, "to standard error").expect("it is read");
            1
        }
        _ => 1,
    };
    let outcome: Result<Vec<_>, _> =
        (0..executes).map(|ordinal| parent.execute(&settings, ordinal)).collect();
    let failure = match outcome {
        // A client that does not wait says of a job that it runs.
        Ok(states) if states.iter().all(|state| state == "FINISHED" || state == "RUNNING") => None,
        Ok(states) => Some(format!("the job ended {states:?}")),
        Err(refusal) => Some(refusal),
    };
    let failure = failure.map(|message| Failure { message, ..Failure::default() });
    parent.say(from_host::Message::Finished(Finished { failure, executes }));
}
