//! Our own submission.

use millstream_types::ArtifactHash;
use prost::Message as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::world::{World, graph};

fn hash(bytes: &[u8]) -> ArtifactHash {
    ArtifactHash::new(Sha256::digest(bytes).into())
}

fn message() -> Vec<u8> {
    millstream_protocol::job::JobGraph::from(&graph()).encode_to_vec()
}

#[tokio::test]
async fn an_artifact_is_put_once_and_a_job_names_it() {
    let world = World::start().await;
    let program = std::fs::read("/bin/true").unwrap();
    let hash = hash(&program);
    let path = format!("/v1/millstream/artifacts/{hash}");
    assert_eq!(world.send("HEAD", &path, &[], b"").await.status, 404);
    let answer = world.send("PUT", &path, &[], &program).await;
    assert_eq!((answer.status, answer.json()), (201, json!({ "sha256": hash })));
    assert_eq!(world.send("HEAD", &path, &[], b"").await.status, 200);
    assert_eq!(world.send("PUT", &path, &[], &program).await.status, 200);

    let id = "000000000000000000000000000000ff";
    let submit = format!("/v1/millstream/jobs?artifact={hash}&job-id={id}");
    let answer = world.send("POST", &submit, &[], &message()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "jobid": id })));
    let submission = world.factory.submissions.lock().unwrap()[0].clone();
    assert_eq!(*submission.graph, graph());
    assert_eq!(submission.artifact_size, program.len() as u64);
    let again = world.send("POST", &submit, &[], &message()).await;
    assert_eq!(again.status, 409);
    assert!(again.error().contains("exists already"));
}

#[tokio::test]
async fn bad_submissions_are_refused_with_a_sentence() {
    let world = World::start().await;
    let text = world.artifact(b"#!/bin/sh").await;
    let unknown = ArtifactHash::new([1; 32]);
    let program = world.artifact(&std::fs::read("/bin/true").unwrap()).await;
    let empty = millstream_protocol::job::JobGraph::default().encode_to_vec();
    let cases = [
        (unknown, message(), 404, "is not in the store"),
        (text, message(), 400, "not a Linux executable"),
        (program, b"\xff\xff\xff\xff".to_vec(), 400, "not a job graph"),
        (program, empty, 400, "it has no vertex"),
        (program, vec![0; 33 << 20], 413, "larger than"),
    ];
    for (artifact, body, status, text) in cases {
        let path = format!("/millstream/jobs?artifact={artifact}");
        let answer = world.send("POST", &path, &[], &body).await;
        assert_eq!(answer.status, status, "{text}");
        assert!(answer.error().contains(text), "{}", answer.error());
    }
    let path = format!("/millstream/artifacts/{unknown}");
    let answer = world.send("PUT", &path, &[], b"other bytes").await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("damaged on the way"), "{}", answer.error());
    let answer = world.send("PUT", &path, &[], b"").await;
    assert!(answer.error().contains("empty"));
    let answer = world.send("PUT", &path, &[], &vec![0; 5 << 20]).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn random_job_graphs_never_panic() {
    let world = World::start().await;
    let program = world.artifact(&std::fs::read("/bin/true").unwrap()).await;
    let good = message();
    for seed in 0..200_usize {
        let mut bytes = good.clone();
        let at = (seed * 7919) % bytes.len();
        bytes[at] = bytes[at].wrapping_add(u8::try_from(seed % 255).unwrap() + 1);
        bytes.truncate(bytes.len() - seed % 17);
        let path = format!("/millstream/jobs?artifact={program}");
        let answer = world.send("POST", &path, &[], &bytes).await;
        assert!(matches!(answer.status, 200 | 400), "{seed}: {}", answer.status);
    }
}

#[tokio::test]
async fn delete_cluster_asks_for_the_end_and_serving_can_be_stopped() {
    let world = World::start().await;
    assert!(!world.shutdown.is_cancelled());
    let answer = world.send("DELETE", "/v1/cluster", &[], b"{}").await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    assert!(world.shutdown.is_cancelled());
    world.stop.cancel();
    crate::world::until("the port is closed", || async {
        tokio::net::TcpStream::connect(world.address).await.is_err()
    })
    .await;
}
