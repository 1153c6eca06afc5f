//! REST with TLS, and what YARN's web proxy gets to see.

use std::time::{Duration, Instant};

use millstream_security::{Authority, Credentials, Role, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::World;

const DAY: Duration = Duration::from_secs(86_400);
const REQUEST: &[u8] = b"GET /overview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The answer to a client with these credentials; an error if it is not let in.
async fn ask(world: &World, own: &Credentials) -> std::io::Result<String> {
    let config = own.client_config(Role::JobManager, None).unwrap();
    let stream = TcpStream::connect(world.address).await?;
    let mut stream = Stream::connect(stream, Some(config)).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn clients_alone_are_answered() {
    let authority = Authority::generate("c").unwrap();
    let mut world = World::start().await;
    world.secured(&authority.issue(Role::JobManager, "jobmanager", DAY).unwrap()).await;
    let client = authority.issue(Role::Client, "me", DAY).unwrap();
    let answer = ask(&world, &client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let other = Authority::generate("c").unwrap();
    for stranger in [
        authority.issue(Role::Worker, "tm", DAY),
        authority.issue(Role::Host, "j/h", DAY),
        authority.issue(Role::JobManager, "jobmanager", DAY),
        other.issue(Role::Client, "me", DAY),
        Authority::generate("d").unwrap().issue(Role::Client, "me", DAY),
    ] {
        let stranger = stranger.unwrap();
        assert!(ask(&world, &stranger).await.is_err(), "{stranger:?} was answered");
    }
    assert!(world.raw(REQUEST).await.is_none(), "plain HTTP was answered");
    assert!(ask(&world, &client).await.is_ok());
}

#[tokio::test]
async fn half_handshakes_keep_nobody_out_and_end() {
    let authority = Authority::generate("c").unwrap();
    let mut world = World::start().await;
    world.secured(&authority.issue(Role::JobManager, "jobmanager", DAY).unwrap()).await;
    let mut idle = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&[0x16, 3, 1, 0x10]).await.unwrap();
        idle.push(stream);
    }
    let start = Instant::now();
    let client = authority.issue(Role::Client, "me", DAY).unwrap();
    assert!(ask(&world, &client).await.is_ok());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Only the eldest had to go for others, but all of them do go.
    let mut last = idle.pop().unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), last.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a half handshake was kept");
}

#[tokio::test]
async fn the_web_proxy_looks_and_does_nothing_else() {
    let mut world = World::start().await;
    let job = world.job(1).await;
    world.proxied(&["192.0.2.1", "::ffff:127.0.0.1"]).await;
    let (one, id) = (format!("/jobs/{job}"), "0".repeat(32));
    for path in ["/", "/overview", "/v1/jobs/overview", &one, "/taskmanagers", "/jobmanager/log"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
        assert_eq!(world.send("HEAD", path, &[], b"").await.status, 200, "HEAD {path}");
    }
    for path in [&format!("{one}/savepoints/{id}"), &format!("/savepoint-disposal/{id}")] {
        let error = world.get(path).await.error();
        assert!(error.contains("no operation with triggerId"), "{path}: {error}");
    }
    let page = String::from_utf8(world.get("/").await.body).unwrap();
    assert!(!page.contains("=\"/") && !page.contains("://"), "{page}");
    let artifact = format!("/millstream/artifacts/{}", "0".repeat(64));
    for (method, path) in [
        ("PATCH", one.clone()),
        ("GET", format!("{one}/yarn-cancel")),
        ("GET", format!("/v1{one}/yarn-cancel")),
        ("GET", format!("{one}/yarn-stop")),
        ("POST", format!("{one}/savepoints")),
        ("POST", format!("{one}/stop")),
        ("POST", format!("{one}/checkpoints")),
        ("POST", "/savepoint-disposal".to_owned()),
        ("GET", "/jars".to_owned()),
        ("GET", "/jars/x/plan".to_owned()),
        ("POST", "/jars/upload".to_owned()),
        ("POST", "/jars/x/run".to_owned()),
        ("DELETE", "/jars/x".to_owned()),
        ("DELETE", "/cluster".to_owned()),
        ("POST", "/jobs".to_owned()),
        ("PUT", artifact.clone()),
        ("HEAD", artifact),
        ("POST", "/millstream/jobs".to_owned()),
        ("PUT", "/overview".to_owned()),
    ] {
        let answer = world.send(method, &path, &[], b"").await;
        assert!(matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.status);
    }
    assert!(!world.shutdown.is_cancelled());
    let features = &world.get("/config").await.json()["features"];
    assert_eq!([&features["web-submit"], &features["web-cancel"]], [false, false]);
}

#[tokio::test]
async fn the_proxys_port_is_closed_to_others() {
    let mut world = World::start().await;
    world.proxied(&["192.0.2.1"]).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let _ = stream.write_all(REQUEST).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, [0; 0]);
}
