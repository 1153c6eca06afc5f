//! The suite of [`ClusterDeployer`].

use std::path::Path;
use std::time::{Duration, Instant};

use crate::{
    ClusterDeployer, ClusterEnd, ClusterId, ClusterReport, DeployError, Deployment, Purpose,
    Running,
};

/// Time limit of a cluster's start, and of its end.
const DEADLINE: Duration = Duration::from_secs(120);
const NAP: Duration = Duration::from_millis(50);

/// Runs the suite; `make` makes the deployer of the next command of one user, on a manager with
/// room for two sessions of this engine. `unknown` looks like a cluster of the manager and is none.
///
/// # Panics
/// The deployer breaks the contract.
pub async fn deployer<D: ClusterDeployer>(
    mut make: impl FnMut() -> D,
    engine: &Path,
    unknown: &ClusterId,
) {
    an_unknown_cluster_is_told(&mut make(), unknown).await;
    let mut first = make();
    let (one, up) = session(&mut first, engine).await;
    another_command_finds_it(&mut make(), &one, &up).await;
    let mut second = make();
    let (other, _) = session(&mut second, engine).await;
    assert_ne!(one, other, "two clusters have one id");
    second.sweep().await.expect("it sweeps");
    for id in [&one, &other] {
        assert_eq!(report(&mut first, id).await, ClusterReport::Alive, "a sweep ended {id}");
    }
    second.kill(&one, "the suite ends it").await.expect("it is killed");
    let end = ended(&mut first, &one).await;
    assert!(!end.succeeded && !end.state.is_empty() && !end.why.is_empty(), "{end:?}");
    one_that_has_ended_comes_up_no_more(&mut make(), &one).await;
    assert_eq!(report(&mut first, &other).await, ClusterReport::Alive, "{one} took {other} along");
    drop((first, second));
    let mut last = make();
    assert_eq!(report(&mut last, &other).await, ClusterReport::Alive, "it ended with its deployer");
    last.kill(&other, "the suite ends it").await.expect("it is killed");
    ended(&mut last, &other).await;
    last.sweep().await.expect("it sweeps");
}

async fn an_unknown_cluster_is_told(deployer: &mut impl ClusterDeployer, unknown: &ClusterId) {
    let words = deployer.words();
    assert!(!words.system.is_empty() && !words.manager.is_empty() && !words.cluster.is_empty());
    assert!(deployer.silence_max() > Duration::ZERO);
    let error = deployer.report(unknown).await.expect_err("it is unknown");
    assert!(error.is_unknown(), "{error:?}");
    let error = deployer.kill(unknown, "it is unknown").await.expect_err("it is unknown");
    assert!(error.is_unknown(), "{error:?}");
}

async fn session(deployer: &mut impl ClusterDeployer, engine: &Path) -> (ClusterId, Running) {
    let engine = engine.to_owned();
    let deployment = Deployment { purpose: Purpose::Session, attached: false, engine };
    let id = deployer.submit(deployment).await.expect("it is accepted");
    assert!(!id.as_str().is_empty());
    let up = up(deployer, &id).await.expect("it comes up");
    assert_eq!(report(deployer, &id).await, ClusterReport::Alive);
    (id, up)
}

async fn up(deployer: &mut impl ClusterDeployer, id: &ClusterId) -> Result<Running, DeployError> {
    let mut progress = |sentence: &str| assert!(!sentence.is_empty());
    let up = tokio::time::timeout(DEADLINE, deployer.wait_until_up(id, &mut progress)).await;
    let up = up.expect("it is waited for in vain")?;
    assert!(!up.host.is_empty() && up.port > 0, "{up:?}");
    Ok(up)
}

async fn another_command_finds_it(
    deployer: &mut impl ClusterDeployer,
    id: &ClusterId,
    known: &Running,
) {
    assert_eq!(report(deployer, id).await, ClusterReport::Alive);
    let found = up(deployer, id).await.expect("another command finds it");
    assert_eq!((&found.host, found.port), (&known.host, known.port));
    let secret = |up: &Running| {
        up.credentials.as_ref().map(|credentials| credentials.to_secret().expose().clone())
    };
    assert!(secret(&found) == secret(known), "another command shows other credentials");
}

async fn one_that_has_ended_comes_up_no_more(deployer: &mut impl ClusterDeployer, id: &ClusterId) {
    let error = up(deployer, id).await.expect_err("it has ended");
    let DeployError::Ended { id: told, end } = &error else {
        unreachable!("expected its end, got {error:?}");
    };
    assert_eq!(told, id);
    assert!(!end.succeeded);
    assert!(error.to_string().contains(id.as_str()), "{error}");
}

async fn report(deployer: &mut impl ClusterDeployer, id: &ClusterId) -> ClusterReport {
    deployer.report(id).await.expect("the manager answers")
}

async fn ended(deployer: &mut impl ClusterDeployer, id: &ClusterId) -> ClusterEnd {
    let start = Instant::now();
    loop {
        if let ClusterReport::Over(end) = report(deployer, id).await {
            return end;
        }
        assert!(start.elapsed() < DEADLINE, "{id} does not end");
        tokio::time::sleep(NAP).await;
    }
}
