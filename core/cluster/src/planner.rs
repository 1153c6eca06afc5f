//! Plans a program for REST: in a child process with limits and a deadline.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_config::{ConfigError, Configuration, options};
use millstream_dispatcher::{PlanFailed, Planner};
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::{IdSource, OsIds};
use millstream_launcher::{
    HostEvents, HostOutput, HostProcess, HostProcessEvent, HostSpec, inspect_artifact,
};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{Begin, Role, ToHost, from_host, to_host};
use millstream_types::{ByteSize, HostId};

/// Starts programs in the plan role.
#[derive(Debug)]
pub(crate) struct ChildPlanner {
    /// Where each child gets a directory of its own.
    pub(crate) temp_dir: PathBuf,
    memory: ByteSize,
    timeout: Duration,
}

impl ChildPlanner {
    pub(crate) fn new(
        configuration: &Configuration,
        temp_dir: PathBuf,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            temp_dir,
            memory: configuration.get(&options::PLAN_MEMORY)?,
            timeout: configuration.get(&options::PLAN_TIMEOUT)?,
        })
    }

    async fn run(&self, artifact: PathBuf, settings: JobSettings) -> Result<JobGraph, PlanFailed> {
        let path = artifact.clone();
        let inspected = tokio::task::spawn_blocking(move || inspect_artifact(&path)).await;
        match inspected {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(error) => return Err(failed(error.to_string())),
        }
        let mut id = [0; 16];
        OsIds.fill(&mut id);
        let host = HostId::from_bytes(id);
        let temp_dir = self.temp_dir.join(format!("plan-{host}"));
        let output = self.temp_dir.join(format!("plan-{host}.out"));
        let _output = RemoveFile(output.clone());
        let spec = HostSpec {
            temp_dir: Some(temp_dir),
            output: HostOutput::Files { stdout: output.clone(), stderr: output },
            memory_limit: Some(self.memory),
            start_timeout: self.timeout,
            // Relative paths have no meaning there.
            variables: vec![("MILLSTREAM_PLANNED_ON_CLUSTER".into(), "1".into())],
            ..HostSpec::new(host, artifact)
        };
        let spawned = HostProcess::spawn(spec).await;
        let (process, mut events) = spawned.map_err(|error| failed(error.to_string()))?;
        let begin = Begin {
            role: Role::Plan.into(),
            major: HOST_PROTOCOL.major,
            minor: HOST_PROTOCOL.minor,
            settings: Some((&settings).into()),
            host_id: host.as_bytes().to_vec(),
            ..Begin::default()
        };
        // If it is gone already, its last event says why.
        let _ = process.send(&ToHost { message: Some(to_host::Message::Begin(begin)) });
        let planned = tokio::time::timeout(self.timeout, planned(&mut events)).await;
        process.stop(Duration::ZERO);
        planned.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs();
            Err(failed(format!(
                "the program has not called execute within {seconds} s (millstream.plan.timeout): \
                 its build function hangs or does too much"
            )))
        })
    }
}

impl Planner for ChildPlanner {
    fn plan(
        &self,
        artifact: PathBuf,
        settings: JobSettings,
    ) -> BoxFuture<'_, Result<JobGraph, PlanFailed>> {
        Box::pin(self.run(artifact, settings))
    }
}

async fn planned(events: &mut HostEvents) -> Result<JobGraph, PlanFailed> {
    let mut last_failure = None;
    while let Some(event) = events.next().await {
        match event {
            HostProcessEvent::Message(message) => match message.message {
                Some(from_host::Message::Planned(graph)) => {
                    return JobGraph::try_from(graph).map_err(|error| failed(error.to_string()));
                }
                Some(from_host::Message::Failure(failure)) => last_failure = Some(failure),
                Some(from_host::Message::Finished(finished)) => match finished.failure {
                    Some(failure) => last_failure = Some(failure),
                    None => {
                        return Err(failed(
                            "the program ended without calling execute: end its build function \
                             with env.execute(..)",
                        ));
                    }
                },
                _ => {}
            },
            HostProcessEvent::Exited(exit) => {
                let (message, detail) = match last_failure {
                    Some(failure) => (failure.message, failure.detail),
                    None => (exit.cause.message, exit.stderr_tail),
                };
                return Err(PlanFailed { message, detail });
            }
        }
    }
    Err(failed("the program's process ended without a word"))
}

fn failed(message: impl Into<String>) -> PlanFailed {
    PlanFailed { message: message.into(), detail: String::new() }
}

struct RemoveFile(PathBuf);

impl Drop for RemoveFile {
    fn drop(&mut self) {
        // It is not there if nothing was started.
        let _ = std::fs::remove_file(&self.0);
    }
}
