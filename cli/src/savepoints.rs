//! `savepoint`, `stop`, `checkpoint` and `cancel -s`: what they send and print is Flink's.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use millstream_types::JobId;
use serde::Deserialize;
use serde_json::json;

use crate::arguments::{
    CancelArguments, CheckpointArguments, ClusterArguments, SavepointArguments, StopArguments,
};
use crate::program::random_id;
use crate::rest::RestClient;
use crate::{client_path, console, operations, runtime, target};

/// The result of a savepoint.
#[derive(Debug, Deserialize)]
struct Savepoint {
    location: String,
}

/// The result of a checkpoint on request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checkpoint {
    checkpoint_id: u64,
}

/// The result of an operation that has none.
#[derive(Debug, Deserialize)]
struct Done {}

/// Reads a job's id from the command line of a verb.
pub(crate) fn job_of(word: Option<&str>, verb: &str) -> Result<JobId> {
    let Some(word) = word else {
        bail!("no job was named: write the id that `millstream list` shows after {verb}");
    };
    Ok(word.parse()?)
}

/// The job and the directory of `stop -p` and `cancel -s`: with no other word, the option's value
/// is the job.
fn job_and_directory<'a>(
    job: Option<&'a str>,
    option: Option<&'a str>,
    verb: &str,
) -> Result<(JobId, Option<&'a str>)> {
    match job {
        Some(job) => Ok((job_of(Some(job), verb)?, option)),
        None => Ok((job_of(option, verb)?, None)),
    }
}

/// An id that makes a repeated trigger harmless, if the answer to the first one is lost.
fn trigger_id() -> Result<String> {
    Ok(JobId::from_bytes(random_id()?).to_string())
}

fn sent(directory: Option<&str>) -> Result<Option<String>> {
    directory.map(client_path::absolute).transpose()
}

/// Runs an action with a client of the cluster that the options name.
fn on_cluster<T>(
    cluster: &ClusterArguments,
    action: impl AsyncFnOnce(RestClient) -> Result<T>,
) -> Result<T> {
    let (configuration, _) = target::configuration(cluster)?;
    runtime()?
        .block_on(async { action(target::running_cluster(cluster, &configuration).await?).await })
}

async fn location(client: &RestClient, job: JobId, trigger: &str) -> Result<String> {
    let path = format!("/v1/jobs/{job}/savepoints/{trigger}");
    Ok(operations::outcome::<Savepoint>(client, &path).await?.location)
}

/// Triggers or disposes of a savepoint.
pub(crate) fn savepoint(arguments: &SavepointArguments) -> Result<ExitCode> {
    if let Some(path) = &arguments.dispose {
        return dispose(&arguments.cluster, path);
    }
    let mut words = arguments.words.iter().map(String::as_str);
    let job = job_of(words.next(), "savepoint")?;
    let directory = sent(words.next())?;
    if words.next().is_some() {
        console::print(format_args!(
            "Provided more arguments than required. Ignoring not needed arguments."
        ));
    }
    let mode = if arguments.detached { " in detached mode" } else { "" };
    console::print(format_args!("Triggering savepoint{mode} for job {job}."));
    let body = json!({
        "target-directory": directory,
        "cancel-job": false,
        "formatType": arguments.format.name(),
        "triggerId": trigger_id()?,
    });
    let triggered = on_cluster(&arguments.cluster, async |client| {
        let path = format!("/v1/jobs/{job}/savepoints");
        let trigger = operations::trigger(&client, &path, &body).await?;
        if arguments.detached {
            return Ok((trigger, None));
        }
        console::print(format_args!("Waiting for response..."));
        let location = location(&client, job, &trigger).await?;
        Ok((trigger, Some(location)))
    });
    let triggered =
        triggered.with_context(|| format!("failed to trigger a savepoint for the job {job}"));
    match triggered? {
        (trigger, None) => console::print(format_args!(
            "Successfully trigger manual savepoint, triggerId: {trigger}"
        )),
        (_, Some(location)) => {
            console::print(format_args!("Savepoint completed. Path: {location}"));
            console::print(format_args!(
                "You can resume your program from this savepoint with the run command."
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn dispose(cluster: &ClusterArguments, path: &str) -> Result<ExitCode> {
    console::print(format_args!("Disposing savepoint '{path}'."));
    let body = json!({ "savepoint-path": client_path::absolute(path)? });
    let disposed = on_cluster(cluster, async |client| {
        let trigger = operations::trigger(&client, "/v1/savepoint-disposal", &body).await?;
        console::print(format_args!("Waiting for response..."));
        let path = format!("/v1/savepoint-disposal/{trigger}");
        operations::outcome::<Done>(&client, &path).await
    });
    disposed.with_context(|| format!("failed to dispose the savepoint '{path}'"))?;
    console::print(format_args!("Savepoint '{path}' disposed."));
    Ok(ExitCode::SUCCESS)
}

/// Stops a job with a savepoint.
pub(crate) fn stop(arguments: &StopArguments) -> Result<ExitCode> {
    let option = arguments.savepoint_path.as_ref().and_then(Option::as_deref);
    let (job, directory) = job_and_directory(arguments.job.as_deref(), option, "stop")?;
    let format = arguments.format.name();
    let doing = if arguments.drain { "Draining" } else { "Suspending" };
    console::print(format_args!("{doing} job \"{job}\" with a {format} savepoint."));
    let body = json!({
        "targetDirectory": sent(directory)?,
        "drain": arguments.drain,
        "formatType": format,
        "triggerId": trigger_id()?,
    });
    let stopped = on_cluster(&arguments.cluster, async |client| {
        let path = format!("/v1/jobs/{job}/stop");
        let trigger = operations::trigger(&client, &path, &body).await?;
        if arguments.detached {
            return Ok((trigger, None));
        }
        let location = location(&client, job, &trigger).await?;
        Ok((trigger, Some(location)))
    });
    match stopped.with_context(|| format!("could not stop with a savepoint job \"{job}\""))? {
        (trigger, None) => console::print(format_args!(
            "Successfully trigger stop-with-savepoint, triggerId: {trigger}"
        )),
        (_, Some(location)) => {
            console::print(format_args!("Savepoint completed. Path: {location}"))
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Cancels a job when a savepoint of it is complete.
pub(crate) fn cancel(arguments: &CancelArguments, option: Option<&str>) -> Result<ExitCode> {
    console::print(format_args!(
        "DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use \"stop\" instead."
    ));
    let (job, directory) = job_and_directory(arguments.job.as_deref(), option, "cancel")?;
    let format = arguments.format.name();
    let place = directory.map_or("default savepoint directory", |directory| directory);
    console::print(format_args!("Cancelling job {job} with {format} savepoint to {place}."));
    let body = json!({
        "target-directory": sent(directory)?,
        "cancel-job": true,
        "formatType": format,
        "triggerId": trigger_id()?,
    });
    let cancelled = on_cluster(&arguments.cluster, async |client| {
        let path = format!("/v1/jobs/{job}/savepoints");
        let trigger = operations::trigger(&client, &path, &body).await?;
        location(&client, job, &trigger).await
    });
    let location = cancelled.with_context(|| format!("could not cancel job {job}"))?;
    console::print(format_args!("Cancelled job {job}. Savepoint stored in {location}."));
    Ok(ExitCode::SUCCESS)
}

/// Triggers a checkpoint.
pub(crate) fn checkpoint(arguments: &CheckpointArguments) -> Result<ExitCode> {
    let job = job_of(arguments.job.as_deref(), "checkpoint")?;
    let (kind, shown) = if arguments.full { ("FULL", "(FULL)") } else { ("CONFIGURED", "") };
    console::print(format_args!("Triggering checkpoint for job {job}."));
    let body = json!({ "checkpointType": kind, "triggerId": trigger_id()? });
    let taken = on_cluster(&arguments.cluster, async |client| {
        let path = format!("/v1/jobs/{job}/checkpoints");
        let trigger = operations::trigger(&client, &path, &body).await?;
        console::print(format_args!("Waiting for response..."));
        operations::outcome::<Checkpoint>(&client, &format!("{path}/{trigger}")).await
    });
    let taken =
        taken.with_context(|| format!("failed to trigger a checkpoint for the job {job}"))?;
    let id = taken.checkpoint_id;
    console::print(format_args!("Checkpoint{shown} {id} for job {job} completed."));
    console::print(format_args!(
        "You can resume your program from this checkpoint with the run command."
    ));
    Ok(ExitCode::SUCCESS)
}
