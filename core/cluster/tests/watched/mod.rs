//! A job that runs in the process of its test, which looks at it meanwhile. Part of several test
//! programs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_api::{Environment, Execution, Executor, Program, Result, RuntimeMode};
use millstream_cluster::MiniCluster;
use millstream_gateway::JobDetails;
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;

/// The job as it was when it ended.
#[derive(Clone, Default)]
pub struct Seen(Rc<RefCell<Option<Arc<JobDetails>>>>);

impl Seen {
    /// The job of an execution with this result, which has ended.
    #[track_caller]
    pub fn take(&self, result: &Result<()>) -> Arc<JobDetails> {
        self.0.borrow_mut().take().unwrap_or_else(|| panic!("{result:?}"))
    }
}

struct Watched<W> {
    settings: JobSettings,
    watch: Option<W>,
    seen: Seen,
}

/// An environment of a streaming job with these settings; `watch` is called once the job runs, and
/// then its end is waited for.
pub fn environment(
    settings: JobSettings,
    watch: impl FnOnce(&MiniCluster) + 'static,
) -> (Environment, Seen) {
    let seen = Seen::default();
    let watched = Watched { settings, watch: Some(watch), seen: seen.clone() };
    let mut env = Environment::new(Box::new(watched));
    env.set_runtime_mode(RuntimeMode::Streaming);
    (env, seen)
}

impl<W: FnOnce(&MiniCluster)> Executor for Watched<W> {
    fn settings(&self) -> JobSettings {
        self.settings.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let config = JobMasterConfig::default().for_job(&graph.settings.config)?;
        let cluster = MiniCluster::start(program, graph, config)?;
        let details = cluster.details();
        if let Some(watch) = self.watch.take() {
            watch(&cluster);
        }
        let result = cluster.wait();
        *self.seen.0.borrow_mut() = Some(Arc::clone(&details.borrow()));
        Ok(Execution::Finished(result?))
    }
}
