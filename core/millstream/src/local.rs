//! The role of a program that was started by hand: it runs its jobs itself.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use millstream_api::{
    Args, Environment, Error, Execution, Executor, JobClient, JobHandle, JobResult, Program,
    Result, bail, ensure, error,
};
use millstream_cluster::{JobFailed, MiniCluster};
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;
use millstream_runtime::{NEVER_EXECUTED, guard, install_panic_hook};
use millstream_types::{JobStatus, counters};

use crate::roles::BuildFunction;

/// Jobs of this process.
#[derive(Default)]
pub(crate) struct Jobs {
    /// They were not waited for, as far as the executor knows.
    running: RefCell<Vec<Rc<LocalJob>>>,
    failure: Rc<FirstFailure>,
}

/// The first failure of a job; what follows is its consequence.
type FirstFailure = RefCell<Option<Error>>;

impl Jobs {
    /// Waits for all: that one fails is no reason to abandon the others.
    fn wait_for_all(&self) {
        for job in self.running.take() {
            // Its failure is noted.
            let _ = job.result();
        }
    }
}

/// A job of this process.
struct LocalJob {
    state: RefCell<State>,
    /// The program has cancelled it.
    cancelled: Cell<bool>,
    failure: Rc<FirstFailure>,
}

enum State {
    Runs(MiniCluster),
    /// A call waits for its end.
    Ends,
    Ended(JobStatus, Result<JobResult, String>),
}

impl LocalJob {
    fn new(cluster: MiniCluster, failure: &Rc<FirstFailure>) -> Self {
        let state = RefCell::new(State::Runs(cluster));
        Self { state, cancelled: Cell::new(false), failure: Rc::clone(failure) }
    }

    fn wait(&self) {
        let state = self.state.replace(State::Ends);
        let ended = match state {
            State::Runs(cluster) => match wait_for(cluster) {
                Ok(result) => State::Ended(result.status, Ok(result)),
                Err(failed) => {
                    let status = match &failed {
                        JobFailed::Ended { status, .. } => *status,
                        JobFailed::TooWide { .. } | JobFailed::Start(_) => JobStatus::Failed,
                    };
                    let sentence = format!("{:#}", Error::from(failed));
                    if !(self.cancelled.get() && status == JobStatus::Canceled) {
                        // A program may take it for no failure of its own; its exit code tells.
                        self.failure.borrow_mut().get_or_insert(error!("{sentence}"));
                    }
                    State::Ended(status, Err(sentence))
                }
            },
            ended => ended,
        };
        self.state.replace(ended);
    }
}

impl JobHandle for LocalJob {
    fn status(&self) -> Result<JobStatus> {
        Ok(match &*self.state.borrow() {
            State::Runs(cluster) => cluster.status(),
            State::Ends => JobStatus::Running,
            State::Ended(status, _) => *status,
        })
    }

    fn cancel(&self) -> Result<()> {
        if let State::Runs(cluster) = &*self.state.borrow() {
            self.cancelled.set(true);
            cluster.cancel();
        }
        Ok(())
    }

    fn result(&self) -> Result<JobResult> {
        self.wait();
        match &*self.state.borrow() {
            State::Ended(_, ended) => ended.clone().map_err(|sentence| error!("{sentence}")),
            State::Runs(_) | State::Ends => bail!("the job is waited for already"),
        }
    }
}

struct Local {
    settings: JobSettings,
    jobs: Rc<Jobs>,
}

impl Executor for Local {
    fn settings(&self) -> JobSettings {
        self.settings.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn runs_here(&self) -> bool {
        true
    }

    fn execute(&mut self, program: Program, graph: JobGraph, wait: bool) -> Result<Execution> {
        let config = JobMasterConfig::default().for_job(&graph.settings.config)?;
        let cluster = MiniCluster::start(program, graph, config)?;
        let id = cluster.job();
        let job = Rc::new(LocalJob::new(cluster, &self.jobs.failure));
        if wait {
            return job.result().map(Execution::Finished);
        }
        self.jobs.running.borrow_mut().push(Rc::clone(&job));
        Ok(Execution::Submitted(JobClient::new(id, job)))
    }
}

/// Waits for a job's end, and reports records that are missing in its results.
fn wait_for(cluster: MiniCluster) -> Result<JobResult, JobFailed> {
    let details = cluster.details();
    let result = cluster.wait();
    let details = details.borrow();
    let metrics =
        || details.vertices.iter().flat_map(|it| &it.subtasks).map(|subtask| &subtask.metrics);
    let lines = counters::left_out(|name| metrics().map(|it| it.left_out(name)).sum());
    for line in lines {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    result
}

/// An environment whose jobs run here.
pub(crate) fn environment(args: Vec<String>, parallelism: u32, jobs: &Rc<Jobs>) -> Environment {
    environment_with(args, parallelism, [], jobs)
}

/// One with settings of the configuration.
pub(crate) fn environment_with<'a>(
    args: Vec<String>,
    parallelism: u32,
    config: impl IntoIterator<Item = (&'a str, &'a str)>,
    jobs: &Rc<Jobs>,
) -> Environment {
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings =
        JobSettings { args, parallelism, config: config.collect(), ..JobSettings::default() };
    Environment::new(Box::new(Local { settings, jobs: Rc::clone(jobs) }))
}

/// Runs the build function and waits for every job that it started.
pub(crate) fn run(build: BuildFunction) -> ExitCode {
    match try_run(build, std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends as `millstream run` does: with the first failure of a job, else with the program's own.
fn try_run(build: BuildFunction, args: impl Iterator<Item = OsString>) -> Result<()> {
    let args = utf8_arguments(args)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = Rc::<Jobs>::default();
    let parallelism = u32::try_from(cores).unwrap_or(1);
    let mut environment = environment(args.clone(), parallelism, &jobs);
    install_panic_hook();
    let built = guard(|| build(&mut environment, Args::new(args)));
    jobs.wait_for_all();
    if let Some(failed) = jobs.failure.take() {
        return Err(failed);
    }
    built.map_err(|failure| error!("the program failed: {}", failure.message))?;
    ensure!(environment.executes() > 0, "the program failed: {NEVER_EXECUTED}");
    Ok(())
}

/// A job's settings are text in every process and format that they pass through.
fn utf8_arguments(args: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    let text = |(at, arg): (usize, OsString)| {
        arg.into_string().map_err(|arg| {
            error!("argument {} is not UTF-8: {arg:?}; arguments of a program are text", at + 1)
        })
    };
    args.enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::connectors::{Datagen, DiscardSink};

    fn ended(build: BuildFunction) -> String {
        match try_run(build, std::iter::empty()) {
            Ok(()) => "finished".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    fn numbers(env: &mut Environment, fails_at: u64) -> crate::Stream<u64> {
        env.source("numbers", Datagen::sequence(0..6)).map(move |n| {
            ensure!(n != fails_at, "no {n}");
            Ok(n)
        })
    }

    #[test]
    fn arguments_that_are_not_text_are_named() {
        let args = ["--input".into(), OsString::from_vec(b"a\xff".to_vec())];
        let error = try_run(|_, _| Ok(()), args.into_iter()).unwrap_err().to_string();
        assert!(error.starts_with("argument 2 is not UTF-8: \"a\\xFF\""), "{error}");
    }

    #[test]
    fn a_failed_job_fails_the_program_that_goes_on() {
        let error = ended(|env, _| {
            numbers(env, 3).sink("out", DiscardSink::new());
            ensure!(env.execute("first").is_err(), "the first job fails");
            numbers(env, 99).sink("out", DiscardSink::new());
            env.execute("second")?;
            Ok(())
        });
        assert!(error.contains("(first) failed: ") && error.contains("no 3"), "{error}");
    }

    #[test]
    fn a_failed_job_in_the_background_does_not_end_the_others() {
        use crate::connectors::CollectSink;
        thread_local! {
            static COLLECTED: CollectSink<u64> = CollectSink::new();
        }
        let error = ended(|env, _| {
            numbers(env, 3).sink("out", DiscardSink::new());
            env.execute_async("first")?;
            numbers(env, 99)
                .map(|n| {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    Ok(n)
                })
                .sink("out", COLLECTED.with(Clone::clone));
            env.execute_async("second")?;
            Ok(())
        });
        assert!(error.contains("(first) failed: ") && error.contains("no 3"), "{error}");
        let mut collected = COLLECTED.with(CollectSink::take);
        collected.sort_unstable();
        assert_eq!(collected, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_job_that_its_program_cancels_is_no_failure() {
        let finished = ended(|env, _| {
            env.source("endless", Datagen::from_fn(|n| n)).sink("out", DiscardSink::new());
            let job = env.execute_async("endless")?;
            job.cancel()?;
            ensure!(job.result().is_err(), "it is cancelled");
            let endless = env.source("endless", Datagen::from_fn(|n| n));
            let first = env.execute_and_collect("first", endless)?.next();
            ensure!(matches!(first, Some(Ok(_))), "{first:?}");
            Ok(())
        });
        assert_eq!(finished, "finished");
    }

    #[test]
    fn a_program_that_runs_nothing_says_so() {
        let error = ended(|env, _| {
            numbers(env, 3).sink("out", DiscardSink::new());
            Ok(())
        });
        assert!(error.contains("without calling execute"), "{error}");
        let error = ended(|env, _| {
            let _ = numbers(env, 99);
            env.execute("endless")?;
            Ok(())
        });
        assert!(error.contains("it has no sink"), "{error}");
    }

    #[test]
    fn a_panic_in_the_build_function_is_an_error() {
        let error = ended(|_, _| panic!("no luck"));
        assert!(error.contains("user code panicked at ") && error.ends_with("no luck"), "{error}");
        let finished = ended(|env, _| {
            numbers(env, 99).sink("out", DiscardSink::new());
            env.execute("good").map(drop)
        });
        assert_eq!(finished, "finished");
    }
}
