//! A JobManager or TaskManager of ours with TLS, as on YARN, but without YARN: for rows with TLS.
//!
//! usage: secured jobmanager|taskmanager RUN_DIRECTORY NUMBER

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use millstream_benches::tls;
use millstream_cluster::{
    DaemonFiles, JobManagerSetup, TaskManagerSetup, run_job_manager, run_task_manager,
};
use millstream_config::{Configuration, KnownOptions, Loader};
use millstream_rm_driver::driver_events;
use millstream_rm_standalone::{EpochCounter, StandaloneDriver};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, run, number] = arguments.as_slice() else { bail!("three arguments are needed") };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let (run, name) = (Path::new(run), format!("tm-{number}"));
    let own = [format!("taskmanager.resource-id={name}")];
    let loader = Loader::new(KnownOptions::ENGINE).with_conf_dir(run.join("conf"));
    let configuration = loader.with_dynamic_properties(own).load()?.configuration;
    let log = run.join(format!("log/{role}-{number}.log"));
    let files = DaemonFiles { log: Some(log), ready: None };
    // As many threads as the daemons of the distribution have.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    match role.as_str() {
        "jobmanager" => runtime.block_on(job_manager(run, configuration, files)),
        "taskmanager" => {
            let credentials = Some(tls::worker(run, &name)?);
            let setup = TaskManagerSetup { credentials, ..TaskManagerSetup::default() };
            runtime.block_on(async {
                run_task_manager(configuration, files, setup).await.map(drop)
            })?;
            Ok(())
        }
        _ => bail!("there is no role {role}"),
    }
}

async fn job_manager(run: &Path, configuration: Configuration, files: DaemonFiles) -> Result<()> {
    let epochs = Box::new(EpochCounter::new(run.join("state")));
    let authority = Some(Arc::new(tls::authority(run)?));
    let setup = JobManagerSetup { authority, ..JobManagerSetup::session(epochs) };
    let ended = run_job_manager(configuration, files, setup, |_| {
        let (events, received) = driver_events();
        Ok((Box::new(StandaloneDriver::new(events)), received))
    });
    ended.await.map(drop).context("the JobManager failed")
}
