//! Sinks that name so many results that no message can hold their names: the job says so.

use std::collections::BTreeMap;

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_connectors::Datagen;
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;

/// Names so many results of 1 KB, once.
#[derive(Clone)]
struct Naming(usize);

impl Sink<u64> for Naming {
    type Committable = String;
    type Writer = Self;
    type Committer = Self;

    fn writer(&self, _info: &WriterInfo) -> Result<Self> {
        Ok(self.clone())
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Self> {
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for Naming {
    type Committable = String;

    fn write(&mut self, _: Batch<u64>) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<String>> {
        Ok(vec!["x".repeat(1_000); std::mem::take(&mut self.0)])
    }
}

impl Committer for Naming {
    type Committable = String;

    fn recover(&mut self, _: Vec<(CheckpointId, Vec<String>)>, _: &[AttemptId]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _: CheckpointId, _: Vec<String>) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _: &[AttemptId]) -> Result<()> {
        Ok(())
    }
}

struct Local(JobSettings);

impl Executor for Local {
    fn settings(&self) -> JobSettings {
        self.0.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let config = JobMasterConfig::default().for_job(&graph.settings.config)?;
        Ok(Execution::Finished(MiniCluster::start(program, graph, config)?.wait()?))
    }
}

/// Runs a job whose subtasks name so many results each.
fn run(parallelism: u32, results: usize) -> Result<()> {
    let settings =
        [("execution.checkpointing.interval", "20 ms"), ("restart-strategy.type", "none")];
    let config: BTreeMap<String, String> =
        settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let settings = JobSettings { parallelism, config, ..JobSettings::default() };
    let mut env = Environment::new(Box::new(Local(settings)));
    env.set_runtime_mode(RuntimeMode::Streaming);
    let numbers = Datagen::sequence(0..1_000).rate_per_second(1_000);
    env.source("numbers", numbers).sink("names", Naming(results));
    env.execute("test").map(drop)
}

#[test]
fn names_that_no_message_holds_fail_the_job_with_their_sink_and_the_limit() {
    run(3, 14_000).unwrap();
    // Those of one task, and those of all.
    for (parallelism, results) in [(1, 100_000), (3, 20_000)] {
        let error = format!("{:#}", run(parallelism, results).unwrap_err());
        assert!(error.contains("names\""), "{error}");
        assert!(error.contains("50331648 are the most"), "{error}");
        assert!(error.contains("fewer and larger"), "{error}");
    }
}
