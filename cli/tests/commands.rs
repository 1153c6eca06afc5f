//! The binary against a stand-in for the cluster's REST server, with a program that says what an
//! artifact says.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "commands/savepoints.rs"]
mod savepoints;
#[path = "commands/state.rs"]
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use millstream_rest_types::jobs::{
    JobDetailsInfo, JobSummary, MultipleJobsDetails, RootExceptionInfo,
};
use millstream_rest_types::testing::{exceptions, failure, job, summary, vertex};
use millstream_rest_types::vertices::IoMetricsInfo;
use millstream_types::JobStatus;
use serde::Serialize;
use serde_json::Value;

/// Requests that the server received, and its answers by method and start of the path.
#[derive(Default)]
struct Script {
    requests: Vec<String>,
    answers: BTreeMap<&'static str, (u16, String)>,
    /// The bodies of the requests that had one.
    bodies: Vec<Value>,
    /// The answers to the first `GET`s.
    first: VecDeque<(u16, String)>,
    /// The answer to every question for metrics.
    metrics: Option<String>,
}

struct Server {
    address: String,
    script: Arc<Mutex<Script>>,
}

impl Server {
    fn start(answers: &[(&'static str, u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = answers.iter().map(|(call, status, body)| (*call, (*status, (*body).into())));
        let script = Script { answers: answers.collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &shared);
            }
        });
        Self { address, script }
    }

    fn answer(&self, call: &'static str, body: &str) {
        self.script.lock().unwrap().answers.insert(call, (200, body.to_owned()));
    }

    fn requests(&self) -> Vec<String> {
        self.script.lock().unwrap().requests.clone()
    }

    fn wait_for(&self, start: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.requests().iter().any(|request| request.starts_with(start)) {
            assert!(Instant::now() < deadline, "no {start} in {:?}", self.requests());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn serve(mut stream: TcpStream, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).unwrap();
    let request = request.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let mut script = script.lock().unwrap();
    script.bodies.extend(serde_json::from_slice::<Value>(&body).ok());
    let best = script.answers.iter().filter(|(call, _)| request.starts_with(**call));
    let answer = best.max_by_key(|(call, _)| call.len()).map(|(_, answer)| answer.clone());
    let metrics = script.metrics.clone().filter(|_| request.contains("/metrics?"));
    let answer = metrics.map(|body| (200, body)).or(answer);
    let first = if request.starts_with("GET ") { script.first.pop_front() } else { None };
    let answer = first.or(answer);
    let (status, body) = answer.unwrap_or((404, r#"{"errors":["not found"]}"#.to_owned()));
    script.requests.push(request);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all((head + &body).as_bytes());
}

/// One body that answers requests for a job's details, for its end, and for its status alone.
fn job_in(state: JobStatus, duration: i64) -> String {
    let details = JobDetailsInfo { duration, ..job(1, state) };
    both(&details, &serde_json::json!({ "status": state }))
}

/// One body with the fields of two.
fn both(first: &impl Serialize, second: &impl Serialize) -> String {
    let fields = |body: Value| body.as_object().unwrap().clone();
    let (first, second) = (serde_json::to_value(first), serde_json::to_value(second));
    Value::Object(fields(first.unwrap()).into_iter().chain(fields(second.unwrap())).collect())
        .to_string()
}

fn program() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_millstream"));
    binary.with_file_name("examples").join("program")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).env_remove("MILLSTREAM_CONF_DIR").env_remove("MILLSTREAM_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn execute(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Compares a command's output and exit code, without parts that differ by machine and run.
fn check(output: &Output, expected: Expect) {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    text += &format!("exit code {:?}\n", output.status.code());
    text = text.replace(program().to_str().unwrap(), "PROGRAM");
    expected.assert_eq(&without_ids(&text));
}

fn without_ids(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split_inclusive([' ', '\n', '.', '`']) {
        let digits = word.trim_end_matches([' ', '\n', '.', '`', ':', ';']);
        let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        words.push(if is_id { word.replace(digits, "ID") } else { word.to_owned() });
    }
    words.concat()
}

const ACCEPTS: [(&str, u16, &str); 3] = [
    ("HEAD /v1/millstream/artifacts/", 404, ""),
    ("PUT /v1/millstream/artifacts/", 201, "{}"),
    ("POST /v1/millstream/jobs?artifact=", 200, r#"{"jobid":"x"}"#),
];

fn run(server: &Server, options: &[&str], mode: &str) -> Output {
    execute(&run_arguments(server, options, program().to_str().unwrap(), mode))
}

fn run_arguments<'a>(
    server: &'a Server,
    options: &[&'a str],
    program: &'a str,
    mode: &'a str,
) -> Vec<&'a str> {
    [&["run", "-m", &server.address], options, &[program, mode]].concat()
}

#[test]
fn jobs_are_listed() {
    let server = Server::start(&[("GET /v1/jobs/overview", 200, r#"{"jobs":[]}"#)]);
    check(
        &execute(&["list", "-m", &server.address]),
        expect![[r#"
        Waiting for response...
        No running jobs.
        No scheduled jobs.
        exit code Some(0)
    "#]],
    );
}

#[test]
fn a_cluster_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = execute(&["list", "-m", &address]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with(&format!("error: no JobManager can be reached at {address}")),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_detached_run_ends_when_its_jobs_are_accepted() {
    let server = Server::start(&ACCEPTS);
    check(
        &run(&server, &["-d"], "twice"),
        expect![[r#"
        Job has been submitted with JobID ID
        Job has been submitted with JobID ID
        exit code Some(0)
    "#]],
    );
    let calls: Vec<String> =
        server.requests().iter().map(|request| request[..24].to_owned()).collect();
    let submission = ["HEAD /v1/millstream/arti", "PUT /v1/millstream/artif"];
    assert_eq!(calls[..2], submission);
    assert_eq!(calls.iter().filter(|call| call.starts_with("POST")).count(), 2);
}

#[test]
fn an_attached_run_ends_with_its_job() {
    let server = Server::start(&ACCEPTS);
    server.answer("GET /v1/jobs/", &job_in(JobStatus::Finished, 1234));
    check(
        &run(&server, &[], "once"),
        expect![[r#"
        Job has been submitted with JobID ID
        Program execution finished
        Job with JobID ID has finished.
        Job Runtime: 1234 ms
        exit code Some(0)
    "#]],
    );

    server.answer("GET /v1/jobs/", &job_in(JobStatus::Canceled, 1234));
    check(
        &run(&server, &[], "once"),
        expect![[r#"
        Job has been submitted with JobID ID
        error: job ID (probe) was cancelled
        exit code Some(1)
    "#]],
    );
}

#[test]
fn a_failed_job_is_a_failed_run() {
    let server = Server::start(&ACCEPTS);
    let newest = RootExceptionInfo {
        task_name: Some("out (1/1)".to_owned()),
        ..failure("UserError", "UserError: line 7 is no number\n\tat x")
    };
    // One body answers for the job and for its exceptions.
    let failed = both(&job(1, JobStatus::Failed), &exceptions(vec![newest]));
    server.answer("GET /v1/jobs/", &failed);
    check(
        &run(&server, &[], "once"),
        expect![[r#"
        Job has been submitted with JobID ID
        error: job ID (probe) failed: line 7 is no number (task out (1/1))
        exit code Some(1)
    "#]],
    );
}

#[test]
fn a_refused_submission_is_a_failed_run() {
    let refused = ("POST /v1/millstream/jobs?artifact=", 400, r#"{"errors":["too many jobs"]}"#);
    let server = Server::start(&[ACCEPTS[0], ACCEPTS[1], refused]);
    check(
        &run(&server, &[], "once"),
        expect![[r#"
        error: the job was not submitted: the JobManager refused: too many jobs
        exit code Some(1)
    "#]],
    );
}

#[test]
fn bad_programs_are_refused_in_one_sentence() {
    let server = Server::start(&ACCEPTS);
    check(
        &run(&server, &[], "never"),
        expect![[r#"
            error: the program PROGRAM failed: it ended without calling execute: end its build function with env.execute(..)
            exit code Some(1)
        "#]],
    );
    let output = run(&server, &[], "abort");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("signal SIGABRT ended the process"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    check(
        &execute(&["run", "-m", &server.address, "/nowhere/job"]),
        expect![[r#"
            error: cannot run /nowhere/job: the artifact does not exist
            exit code Some(1)
        "#]],
    );
    check(
        &execute(&["run", "-m", &server.address, "-p", "0", "/nowhere/job"]),
        expect![[r#"
            error: the parallelism is 0, but must be 1 to 32768: set it with -p or parallelism.default
            exit code Some(1)
        "#]],
    );
    check(
        &execute(&["run", "-m", &server.address, "/etc/passwd"]),
        expect![[r#"
            error: cannot run /etc/passwd: the artifact is not a Linux executable (ELF): build one with cargo build --release
            exit code Some(1)
        "#]],
    );
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn a_file_that_is_no_program_is_not_heard_and_not_waited_for() {
    let server = Server::start(&ACCEPTS);
    let started = Instant::now();
    let limit = "-Dmillstream.plan.timeout=1s";
    let output = execute(&["run", "-m", &server.address, limit, "/usr/bin/yes"]);
    assert!(started.elapsed() < Duration::from_secs(60));
    check(
        &output,
        expect![[r#"
            error: the program /usr/bin/yes failed: the program did not say hello within 1s and was killed: it is not a Millstream program, or it hangs before its main function
            exit code Some(1)
        "#]],
    );
    // One that complains, and one that prints.
    let output = execute(&["run", "-m", &server.address, "/usr/bin/mv"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("code 1 before it said hello (it wrote: "), "{text}");
    let output = execute(&["run", "-m", &server.address, "/usr/bin/env"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("code 0 before it said hello: it is not a Millstream"), "{text}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_build_function_that_hangs_or_exits_is_told() {
    let server = Server::start(&ACCEPTS);
    check(
        &run(&server, &["-Dmillstream.plan.timeout=1s"], "hang"),
        expect![[r#"
            error: the program PROGRAM failed: it has not called execute within 1s (millstream.plan.timeout): its build function hangs or does too much
            exit code Some(1)
        "#]],
    );
    check(
        &run(&server, &[], "exit"),
        expect![[r#"
            error: the program PROGRAM failed: its process ended with exit code 0 before the build function returned: return from it instead of calling exit
            exit code Some(1)
        "#]],
    );
}

#[test]
fn what_a_program_prints_is_shown() {
    let server = Server::start(&ACCEPTS);
    let output = run(&server, &["-d"], "prints");
    let (stdout, stderr) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let stdout = stdout.unwrap();
    assert!(stdout.contains("planning \u{1b}[1mnow"), "its own terminal is its own: {stdout}");
    assert_eq!(stderr.unwrap(), "to standard error\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn arguments_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let server = Server::start(&ACCEPTS);
    let mut refused = command(&["run", "-m", &server.address]);
    refused.arg(program()).arg(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    check(
        &refused.output().unwrap(),
        expect![[r#"
            error: argument 1 of the program is not UTF-8: "caf\xE9"; arguments are text
            exit code Some(1)
        "#]],
    );
    // A path is none of them.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::copy(program(), &path).unwrap();
    let mut runs = command(&["run", "-d", "-m", &server.address]);
    let output = runs.arg(&path).arg("once").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn options_behind_the_program_are_named() {
    let server = Server::start(&ACCEPTS);
    let program = program();
    let program = program.to_str().unwrap();
    let output =
        execute(&["run", "-d", "-m", &server.address, program, "once", "-p", "2", "--what", "x"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        text,
        "warning: -p after the program: it goes to the program; options of this command stand \
         before it\n"
    );
    assert_eq!(output.status.code(), Some(0));
    let output = execute(&["run", "-m", &server.address, "-p", program]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("for '--parallelism <number>': it is no number"), "{text}");
}

#[test]
fn options_of_clusters_are_named_when_a_job_has_no_use_for_them() {
    let server = Server::start(&ACCEPTS);
    let options = ["-d", "-D", "taskmanager.numberOfTaskSlots=4", "-D", "pipeline.name=x"];
    let output = run(&server, &options, "once");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "warning: -D taskmanager.numberOfTaskSlots: this belongs to the cluster and has no effect \
         on a job in a running one\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

/// Runs a command whose output goes to another file.
fn printing_to(target: &str, arguments: &[&str]) -> Output {
    let file = std::fs::File::options().write(true).open(target).unwrap();
    command(arguments).stdout(file).output().unwrap()
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    let jobs = r#"{"jobs":[]}"#;
    let finished = job_in(JobStatus::Finished, 1);
    let mut answers = ACCEPTS.to_vec();
    answers.extend([
        ("GET /v1/jobs/overview", 200, jobs),
        ("PATCH /v1/jobs/", 202, "{}"),
        ("GET /v1/jobs/", 200, &finished),
    ]);
    let server = Server::start(&answers);
    let program = program();
    let program = program.to_str().unwrap();
    let job = "0123456789abcdef0123456789abcdef";
    let verbs: [&[&str]; 8] = [
        &["list", "-m", &server.address],
        &["cancel", "-m", &server.address, job],
        &["run", "-m", &server.address, program, "once"],
        &["run", "-d", "-m", &server.address, program, "once"],
        &["info", program],
        &["--version"],
        &["--help"],
        &["list", "--help"],
    ];
    for verb in verbs {
        let full = printing_to("/dev/full", verb);
        let text = String::from_utf8(full.stderr).unwrap();
        assert_eq!(full.status.code(), Some(1), "{verb:?}: {text}");
        assert!(text.contains("failed to write to standard output: No space"), "{verb:?}: {text}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = command(verb).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8(closed.stderr).unwrap(), "", "{verb:?}");
        assert_eq!(closed.status.code(), Some(0), "{verb:?}");
    }
}

#[test]
fn names_from_outside_cannot_write_to_the_terminal() {
    let name = "a\nb\u{1b}[2J\u{9b}31m\u{202e}c".to_owned();
    let evil = JobSummary { name, ..summary(1, JobStatus::Running) };
    let jobs = MultipleJobsDetails { jobs: vec![evil] };
    let evil = r#"{"errors":["no\u001b[31m\u0007 such job"]}"#;
    let overview = serde_json::to_string(&jobs).unwrap();
    let server =
        Server::start(&[("GET /v1/jobs/overview", 200, &overview), ("PATCH /v1/jobs/", 400, evil)]);
    let listed = execute(&["list", "-m", &server.address]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains(r": a\nb\u{1b}[2J\u{9b}31m\u{202e}c (RUNNING)"), "{text}");
    let job = "0123456789abcdef0123456789abcdef";
    let refused = execute(&["cancel", "-m", &server.address, job]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(text, "error: the JobManager refused: no\\u{1b}[31m\\u{7} such job\n");
}

#[test]
fn records_that_were_dropped_are_told() {
    let server = Server::start(&ACCEPTS);
    let vertices = vec![vertex(1, IoMetricsInfo::default()), vertex(2, IoMetricsInfo::default())];
    let details = JobDetailsInfo { duration: 7, vertices, ..job(1, JobStatus::Finished) };
    server.answer("GET /v1/jobs/", &serde_json::to_string(&details).unwrap());
    let metrics =
        r#"[{"id":"numRecordsDropped","sum":1234.0},{"id":"numRecordsReplaced","sum":0.0}]"#;
    let shared = Arc::clone(&server.script);
    // The path has the job's id in it, which is drawn by the command.
    shared.lock().unwrap().metrics = Some(metrics.to_owned());
    check(
        &run(&server, &[], "once"),
        expect![[r#"
            Job has been submitted with JobID ID
            Program execution finished
            Job with JobID ID has finished.
            Job Runtime: 7 ms
            Records dropped: 2,468 (numRecordsDropped)
            exit code Some(0)
        "#]],
    );
}

fn interrupted(server: &Server, options: &[&str]) -> Output {
    server.answer("GET /v1/jobs/", &job_in(JobStatus::Running, 0));
    let program = program();
    let arguments = run_arguments(server, options, program.to_str().unwrap(), "once");
    let child: Child = command(&arguments).spawn().unwrap();
    server.wait_for("GET /v1/jobs/");
    let id = i32::try_from(child.id()).unwrap();
    // SAFETY: kill touches no memory, and the child is not reaped before it is waited for below.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
    child.wait_with_output().unwrap()
}

#[test]
fn an_interrupted_run_leaves_its_job_alone() {
    let server = Server::start(&ACCEPTS);
    check(
        &interrupted(&server, &[]),
        expect![[r#"
        Job has been submitted with JobID ID
        warning: job ID goes on; `millstream cancel ID` cancels it
        exit code Some(130)
    "#]],
    );
    assert!(!server.requests().iter().any(|request| request.starts_with("PATCH")));
}

#[test]
fn an_interrupted_run_cancels_its_job_if_told_so() {
    let server = Server::start(&ACCEPTS);
    server.answer("PATCH /v1/jobs/", "{}");
    let shared = Arc::clone(&server.script);
    let cluster = thread::spawn(move || {
        let cancels = |request: &String| request.ends_with("?mode=cancel");
        while !shared.lock().unwrap().requests.iter().any(cancels) {
            thread::sleep(Duration::from_millis(5));
        }
        let ended = (200, job_in(JobStatus::Canceled, 0));
        shared.lock().unwrap().answers.insert("GET /v1/jobs/", ended);
    });
    check(
        &interrupted(&server, &["-sae"]),
        expect![[r#"
        Job has been submitted with JobID ID
        Cancelling job ID.
        Cancelled job ID.
        exit code Some(130)
    "#]],
    );
    cluster.join().unwrap();
    let heartbeats = server.requests();
    assert!(heartbeats.iter().any(|request| request.ends_with("/clientHeartbeat")));
}

#[test]
fn plans_are_shown() {
    let program = program();
    let program = program.to_str().unwrap();
    check(
        &execute(&["info", "-p", "2", program]),
        expect![[r#"
            Job "counting": STREAMING, vertices 2, exchanges 1, slots 2, fingerprint fb277cf09112fc02

            Vertex 1, id 9c2b135cb2ef7b3d1ac1e0c0d0e7ad4f, parallelism 2 (at most 128), slot sharing group "default"
              Source: numbers (uid "numbers"): u64

            Vertex 2, id 330fa10f3c746545452b9d311f9d14d0, parallelism 2 (at most 128), slot sharing group "default"
              <- vertex 1 by HASH
              Sink: out (uid "out"): u64
            exit code Some(0)
        "#]],
    );
    check(
        &execute(&["info", "--json", program]),
        expect![[r#"
        ----------------------- Execution Plan -----------------------
        {"jid":"00000000000000000000000000000000","name":"counting","nodes":[{"description":"Source: numbers<br/>","id":"9c2b135cb2ef7b3d1ac1e0c0d0e7ad4f","operator":"","operator_strategy":"","optimizer_properties":{},"parallelism":1},{"description":"Sink: out<br/>","id":"330fa10f3c746545452b9d311f9d14d0","inputs":[{"exchange":"pipelined_bounded","id":"9c2b135cb2ef7b3d1ac1e0c0d0e7ad4f","num":0,"ship_strategy":"HASH"}],"operator":"","operator_strategy":"","optimizer_properties":{},"parallelism":1}],"type":"STREAMING"}
        --------------------------------------------------------------
        exit code Some(0)
    "#]],
    );
    check(
        &execute(&["info", program, "never"]),
        expect![[r#"
        error: the program PROGRAM failed: it ended without calling execute: end its build function with env.execute(..)
        exit code Some(1)
    "#]],
    );
}

#[test]
fn jobs_are_cancelled() {
    let server = Server::start(&[("PATCH /v1/jobs/", 202, "{}")]);
    let job = "0123456789abcdef0123456789abcdef";
    check(
        &execute(&["cancel", "-m", &server.address, job]),
        expect![[r#"
        Cancelling job ID.
        Cancelled job ID.
        exit code Some(0)
    "#]],
    );
    assert_eq!(server.requests(), [format!("PATCH /v1/jobs/{job}?mode=cancel")]);
    check(
        &execute(&["cancel", "-m", &server.address, "7"]),
        expect![[r#"
        error: a job id is 32 hexadecimal digits, not "7"
        exit code Some(1)
    "#]],
    );
    check(
        &execute(&["cancel", "-m", &server.address]),
        expect![[r#"
        error: no job was named: write the id that `millstream list` shows after cancel
        exit code Some(1)
    "#]],
    );
    let empty = Server::start(&[]);
    check(
        &execute(&["cancel", "-m", &empty.address, job]),
        expect![[r#"
        Cancelling job ID.
        error: job ID is not known: `millstream list -a` shows all
        exit code Some(1)
    "#]],
    );
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    let output = execute(&[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("please specify an action"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(execute(&["fly"]).status.code(), Some(1));
    assert_eq!(execute(&["--help"]).status.code(), Some(0));
    check(
        &execute(&["--version"]),
        expect![[r#"
        Version: 0.1.0, Commit ID: unknown
        exit code Some(0)
    "#]],
    );
    check(
        &execute(&["list", "-Drest.prot=1"]),
        expect![[r#"
        error: command line -D: unknown option "rest.prot"; did you mean rest.port?
        exit code Some(1)
    "#]],
    );
    check(
        &execute(&["list", "-Dfoo.bar=1"]),
        expect![[r#"
            error: command line -D: unknown option "foo.bar"; docs/configuration.md lists all
            exit code Some(1)
        "#]],
    );
    check(
        &execute(&["list", "-t", "yarn-session"]),
        expect![[r#"
        error: no session on YARN is known: start one with yarn-session.sh, or name one with -Dyarn.application.id=application_...
        exit code Some(1)
    "#]],
    );
}
