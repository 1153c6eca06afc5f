//! The role of a program that nobody started: it runs its jobs itself.

use std::cell::RefCell;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use millstream_api::{Args, Environment, Execution, Executor, JobResult, Program, Result};
use millstream_cluster::{JobFailed, MiniCluster};
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;
use millstream_runtime::BuildFunction;

/// Jobs that were started and not waited for.
pub(crate) type Running = Rc<RefCell<Vec<MiniCluster>>>;

struct Local {
    settings: JobSettings,
    running: Running,
}

impl Executor for Local {
    fn settings(&self) -> JobSettings {
        self.settings.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, wait: bool) -> Result<Execution> {
        let config = JobMasterConfig::default().for_job(&graph.settings.config)?;
        let cluster = MiniCluster::start(program, graph, config)?;
        if wait {
            return Ok(Execution::Finished(wait_for(cluster)?));
        }
        let job = cluster.job();
        self.running.borrow_mut().push(cluster);
        Ok(Execution::Submitted(job))
    }
}

/// Waits for a job's end, and says how many records it has dropped.
fn wait_for(cluster: MiniCluster) -> Result<JobResult, JobFailed> {
    let details = cluster.details();
    let result = cluster.wait();
    let details = details.borrow();
    let subtasks = details.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let dropped: u64 = subtasks.map(|subtask| subtask.metrics.records_dropped).sum();
    if dropped > 0 {
        let _ =
            writeln!(std::io::stderr(), "{dropped} bad records were dropped (numRecordsDropped)");
    }
    result
}

/// An environment whose jobs run here.
pub(crate) fn environment(args: Vec<String>, parallelism: u32, running: &Running) -> Environment {
    let settings = JobSettings { args, parallelism, ..JobSettings::default() };
    Environment::new(Box::new(Local { settings, running: Rc::clone(running) }))
}

/// Runs the build function and waits for every job that it started.
pub(crate) fn run(build: BuildFunction) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let running = Running::default();
    let parallelism = u32::try_from(cores).unwrap_or(1);
    let mut environment = environment(args.clone(), parallelism, &running);
    let built = build(&mut environment, Args::new(args));
    let waited = running.take().into_iter().try_for_each(|job| wait_for(job).map(drop));
    match built.and(waited.map_err(Into::into)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}
