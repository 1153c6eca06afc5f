//! The life of jobs in the Dispatcher.

use std::time::Duration;

use millstream_dispatcher::DispatcherConfig;
use millstream_gateway::{DispatcherGateway as _, SubmitJobError};
use millstream_types::{ArtifactHash, JobId, JobStatus};

use crate::world::{World, until};

#[tokio::test]
async fn a_job_id_is_used_once_even_after_the_job_has_ended() {
    let world = World::start().await;
    let job = world.job(1).await;
    let artifact = world.artifact(b"program").await;
    let again = world.dispatcher.submit(World::submission(1, artifact)).await;
    assert_eq!(again, Err(SubmitJobError::Duplicate { job }));
    world.factory.master(job).set(JobStatus::Finished);
    let again = world.dispatcher.submit(World::submission(1, artifact)).await;
    assert_eq!(again, Err(SubmitJobError::Duplicate { job }));
    let unknown = ArtifactHash::new([9; 32]);
    let error = world.dispatcher.submit(World::submission(2, unknown)).await;
    assert_eq!(error, Err(SubmitJobError::UnknownArtifact { artifact: unknown }));
    assert_eq!(world.factory.submissions.lock().unwrap()[0].artifact_size, 7);
}

#[tokio::test]
async fn as_many_ended_jobs_are_remembered_as_configured() {
    let config = DispatcherConfig { ended_jobs_max: 1, ..DispatcherConfig::default() };
    let world = World::configured(&[], config).await;
    let (first, second) = (world.job(1).await, world.job(2).await);
    world.factory.master(first).set(JobStatus::Finished);
    until("job 1 has ended", || async {
        world.dispatcher.job(first).await.unwrap().status == JobStatus::Finished
    })
    .await;
    world.factory.master(second).set(JobStatus::Finished);
    until("job 1 is forgotten", || async { world.dispatcher.job(first).await.is_err() }).await;
    assert_eq!(world.dispatcher.job(second).await.unwrap().status, JobStatus::Finished);
}

#[tokio::test]
async fn ended_jobs_expire() {
    let ended_jobs_expiration = Duration::from_millis(100);
    let config = DispatcherConfig { ended_jobs_expiration, ..DispatcherConfig::default() };
    let world = World::configured(&[], config).await;
    let job = world.job(1).await;
    world.factory.master(job).set(JobStatus::Finished);
    until("the job is forgotten", || async { world.dispatcher.job(job).await.is_err() }).await;
}

#[tokio::test]
async fn a_cancelled_job_ends_and_an_ended_one_cannot_be_cancelled() {
    let world = World::start().await;
    let (first, second) = (world.job(1).await, world.job(2).await);
    let path = format!("/v1/jobs/{first}?mode=cancel");
    let answer = world.send("PATCH", &path, &[], b"{}").await;
    assert_eq!((answer.status, answer.body.as_slice()), (202, &b"{}"[..]));
    until("it is cancelled", || async {
        world.dispatcher.job(first).await.unwrap().status == JobStatus::Canceled
    })
    .await;
    assert_eq!(world.send("PATCH", &path, &[], b"").await.status, 202);

    let answer = world.get(&format!("/jobs/{second}/yarn-cancel")).await;
    assert_eq!(answer.status, 202);
    let third = world.job(3).await;
    world.factory.master(third).set(JobStatus::Finished);
    let answer = world.send("PATCH", &format!("/jobs/{third}"), &[], b"").await;
    assert_eq!(answer.status, 409);
    assert!(answer.error().contains("has ended already (FINISHED)"));
}

#[tokio::test]
async fn a_job_whose_client_is_silent_is_cancelled() {
    let world = World::start().await;
    let job = world.job(1).await;
    let path = format!("/jobs/{job}/clientHeartbeat");
    let answer = world.send("PATCH", &path, &[], b"{\"expiredTimestamp\":1}").await;
    assert_eq!((answer.status, answer.body.as_slice()), (202, &b"{}"[..]));
    until("it is cancelled", || async {
        world.dispatcher.job(job).await.unwrap().status == JobStatus::Canceled
    })
    .await;
}

#[tokio::test]
async fn a_job_master_that_dies_fails_its_job() {
    let world = World::start().await;
    let job = world.job(1).await;
    world.factory.master(job).die();
    until("the job has failed", || async {
        world.dispatcher.job(job).await.unwrap().status == JobStatus::Failed
    })
    .await;
    let exceptions = world.get(&format!("/jobs/{job}/exceptions")).await.json();
    assert!(exceptions["root-exception"].as_str().unwrap().contains("JobMaster stopped"));
}

#[tokio::test]
async fn a_shutdown_cancels_all_and_takes_no_more() {
    let world = World::start().await;
    let (first, second) = (world.job(1).await, world.job(2).await);
    world.dispatcher.shutdown().await;
    for job in [first, second] {
        assert_eq!(world.dispatcher.job(job).await.unwrap().status, JobStatus::Canceled);
    }
    let artifact = world.artifact(b"program").await;
    let refused = world.dispatcher.submit(World::submission(3, artifact)).await;
    assert_eq!(refused, Err(SubmitJobError::ShuttingDown));
}

#[tokio::test]
async fn workers_are_told_of_artifacts_that_nobody_uses() {
    let world = World::start().await;
    let job = world.job(1).await;
    let artifact = world.artifact(b"program").await;
    world.factory.master(job).set(JobStatus::Finished);
    until("the job has ended", || async {
        world.dispatcher.job(job).await.unwrap().status == JobStatus::Finished
    })
    .await;
    assert!(world.artifacts.path(artifact).is_some());
    // Held once more and let go: the artifact has been used.
    let _ = world.artifacts.hold(artifact);
    world.artifacts.release(artifact);
    until("workers are told", || async { world.released.lock().unwrap().contains(&artifact) })
        .await;
    assert!(world.artifacts.path(artifact).is_none());
    assert_eq!(job, JobId::from_u128(1));
}
