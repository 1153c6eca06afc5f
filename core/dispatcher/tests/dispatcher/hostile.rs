//! Clients that mean no good, or browsers that were told to by a page that does not.

use std::time::{Duration, Instant};

use millstream_dispatcher::RestServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::World;

#[tokio::test]
async fn other_host_names_and_other_sites_are_refused() {
    let world = World::start().await;
    let job = world.job(1).await;
    for host in ["evil.example", "evil.example:8081", "", "localhost.evil.example"] {
        let answer = world.send("GET", "/overview", &[("Host", host)], b"").await;
        assert!(matches!(answer.status, 400 | 403), "{host}: {}", answer.status);
    }
    for host in ["localhost", "localhost:1", "127.0.0.1:8081", "[::1]:8081"] {
        assert_eq!(world.send("GET", "/overview", &[("Host", host)], b"").await.status, 200);
    }
    assert_eq!(world.raw(b"GET /overview HTTP/1.1\r\n\r\n").await.unwrap().status, 400);
    assert_eq!(world.raw(b"GET /overview HTTP/1.0\r\n\r\n").await.unwrap().status, 200);
    let two = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n";
    assert_eq!(world.raw(two).await.unwrap().status, 400);

    let own = format!("http://{}", world.address);
    for (method, path) in [
        ("PATCH", format!("/jobs/{job}")),
        ("GET", format!("/jobs/{job}/yarn-cancel")),
        ("GET", format!("/jobs/{job}/yarn-stop")),
        ("POST", format!("/jobs/{job}/savepoints")),
        ("POST", "/savepoint-disposal".to_owned()),
        ("POST", "/jars/upload".to_owned()),
        ("DELETE", "/cluster".to_owned()),
    ] {
        for header in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
            let answer = world.send(method, &path, &[header], b"").await;
            assert_eq!(answer.status, 403, "{method} {path}");
            assert!(answer.error().contains("another site"));
        }
    }
    assert!(!world.shutdown.is_cancelled());
    let origin = [("Origin", "http://evil.example")];
    assert_eq!(world.send("GET", "/overview", &origin, b"").await.status, 200);
    let same = [("Origin", own.as_str())];
    assert_eq!(world.send("PATCH", &format!("/jobs/{job}"), &same, b"").await.status, 202);
}

#[tokio::test]
async fn giant_and_malformed_requests_are_refused() {
    let world = World::start().await;
    let job = world.job(1).await;
    let long = "x".repeat(1 << 20);
    let many = "a: b\r\n".repeat(10_000);
    // Each of them would be answered with 200 or 202 if it were well-formed and of usual size.
    let get = "GET /overview HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n";
    let body = br#"{"expiredTimestamp":9000000000000}"#;
    let beat = format!("/jobs/{job}/clientHeartbeat");
    assert_eq!(world.raw(format!("{get}\r\n").as_bytes()).await.unwrap().status, 200);
    assert_eq!(world.send("PATCH", &beat, &[], body).await.status, 202);
    for request in [
        get.replace("/overview", &format!("/overview?{long}")) + "\r\n",
        format!("{get}X: {long}\r\n\r\n"),
        format!("{get}{many}\r\n"),
        get.replace("Host:", "Host :") + "\r\n",
        format!("{get}Content-Length: -1\r\n\r\n"),
        format!("{get}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("{get}Content-Length: 99999999999999999999\r\n\r\n"),
        format!(
            "PATCH {beat} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             ffffffffffffffff0\r\n{}",
            String::from_utf8_lossy(body)
        ),
    ] {
        let answer = world.raw(request.as_bytes()).await;
        let refused = answer.as_ref().is_none_or(|answer| (400..500).contains(&answer.status));
        assert!(refused, "{answer:?} to {}", &request[..60]);
        assert_eq!(world.get("/overview").await.status, 200);
    }
}

#[tokio::test]
async fn random_bytes_change_nothing() {
    let world = World::start().await;
    let mut state = 7_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..500 {
        let length = usize::try_from(next() % 300).unwrap();
        let mut bytes: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[0]).collect();
        if next() % 2 == 0 {
            bytes.splice(0..0, *b"POST /v1/millstream/jobs HTTP/1.1\r\nHost: localhost\r\n");
        }
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
    }
    assert_eq!(world.get("/overview").await.status, 200);
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let world = World::start().await;
    let mut idle = Vec::new();
    for _ in 0..700 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(b"GET /overview HT").await.unwrap();
        idle.push(stream);
    }
    let start = Instant::now();
    assert_eq!(world.get("/overview").await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let world = World::start().await;
    let (mut read, mut write) = TcpStream::connect(world.address).await.unwrap().into_split();
    let feeder = tokio::spawn(async move {
        while write.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), read.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the server kept a head of 15 s");
    feeder.abort();
}

#[tokio::test]
async fn a_taken_port_and_a_strange_address_are_named() {
    let first = RestServer::bind("127.0.0.1", [0]).await.unwrap();
    let port = first.local_addr().port();
    let error = RestServer::bind("127.0.0.1", [port]).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("the REST port {port} of 127.0.0.1 is taken")), "{error}");
    let second = RestServer::bind("127.0.0.1", [port, 0]).await.unwrap();
    assert_ne!(second.local_addr().port(), port);
    let error = RestServer::bind("192.0.2.1", [0]).await.unwrap_err().to_string();
    assert!(error.contains("rest.bind-address"), "{error}");
}
