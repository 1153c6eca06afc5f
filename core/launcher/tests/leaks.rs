//! Many hosts one after another and at once: descriptors, threads, processes and memory stay level.
//! Alone in its process, because it counts what the process has.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod child;

use std::sync::Arc;
use std::time::{Duration, Instant};

use child::{event, marked, spec};
use futures::future::BoxFuture;
use millstream_launcher::{
    HostLaunch, HostListener, HostManager, HostProcessExit, adopt_orphans, own_usage,
};
use millstream_protocol::host::{FromHost, ToHost, to_host};
use millstream_types::{ByteSize, CauseKind, FailureCause, HostId};
use tempfile::{TempDir, tempdir};
use tokio::sync::mpsc;

#[derive(Debug)]
enum Heard {
    Message,
    Exited(HostId, HostProcessExit),
}

struct Listener(mpsc::Sender<Heard>);

impl HostListener for Listener {
    fn on_message(&self, _: HostId, _: FromHost) -> BoxFuture<'_, ()> {
        Box::pin(async { self.0.send(Heard::Message).await.unwrap() })
    }

    fn on_exited(&self, host: HostId, exit: HostProcessExit) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.0.send(Heard::Exited(host, exit)).await.unwrap() })
    }
}

fn count(path: &str) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

fn launch(dir: &TempDir, behaviour: &str) -> (HostId, HostLaunch) {
    let spec = spec(dir, behaviour);
    let first = ToHost { message: Some(to_host::Message::OperatorEvent(event(1, 10))) };
    (spec.host, HostLaunch { spec, first, lease: Box::new(()) })
}

async fn round(manager: &HostManager, dir: &TempDir, hosts: usize) {
    let (heard, mut events) = mpsc::channel(16);
    let listener: Arc<dyn HostListener> = Arc::new(Listener(heard));
    let behaviours = ["serve", "abort", "children", "exit at once"];
    let mut names = Vec::new();
    for number in 0..hosts {
        let (host, launch) = launch(dir, behaviours[number % behaviours.len()]);
        manager.start(host, Box::pin(async { Ok(launch) }), Arc::clone(&listener)).unwrap();
        names.push(host);
    }
    let mut ended = 0;
    while ended < hosts {
        match events.recv().await.unwrap() {
            // Only those that serve answer; they end when told to.
            Heard::Message => names.iter().for_each(|host| {
                manager.stop(*host, Duration::from_secs(60));
            }),
            Heard::Exited(host, _) => {
                ended += 1;
                assert_eq!(marked(host), Vec::<String>::new());
            }
        }
    }
    manager.all_ended().await;
}

#[tokio::test]
async fn nothing_grows_with_the_number_of_hosts() {
    adopt_orphans().await.unwrap();
    let dir = tempdir().unwrap();
    let manager = HostManager::default();
    round(&manager, &dir, 12).await;
    let before = (count("/proc/self/fd"), count("/proc/self/task"), own_usage().resident);
    for _ in 0..4 {
        round(&manager, &dir, 12).await;
    }
    // A descriptor of a host may be closed shortly after its end was told, before as after.
    let deadline = Instant::now() + Duration::from_secs(10);
    while count("/proc/self/fd") > before.0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let after = (count("/proc/self/fd"), count("/proc/self/task"), own_usage().resident);
    assert!(after.0 <= before.0, "descriptors: {} then {}", before.0, after.0);
    // Conclusions run on the pool of blocking threads, which comes and goes.
    assert!(after.1 <= before.1 + 12, "threads: {} then {}", before.1, after.1);
    let growth = after.2.saturating_sub(before.2);
    assert!(growth < ByteSize::from_mib(4), "memory grew by {growth}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.path().is_file()), "{left:?}");

    // Stopped while its executable is still on its way; never fetched; one name twice.
    let (heard, mut events) = mpsc::channel(16);
    let listener: Arc<dyn HostListener> = Arc::new(Listener(heard));
    let host = HostId::from_u128(7);
    let never = Box::pin(std::future::pending());
    manager.start(host, never, Arc::clone(&listener)).unwrap();
    let refused = manager.start(host, Box::pin(std::future::pending()), Arc::clone(&listener));
    assert_eq!(refused.unwrap_err().0, host);
    manager.stop(host, Duration::from_secs(60));
    let exited = events.recv().await;
    assert!(
        matches!(&exited, Some(Heard::Exited(_, exit)) if exit.cause.kind == CauseKind::Requested)
    );
    let cause = FailureCause::new(CauseKind::Start, "no such artifact");
    let failed = Box::pin(std::future::ready(Err(cause.clone())));
    manager.start(host, failed, Arc::clone(&listener)).unwrap();
    let exited = events.recv().await;
    assert!(matches!(exited, Some(Heard::Exited(_, exit)) if exit.cause == cause));

    // A dropped manager takes its hosts with it.
    let (host, launch) = launch(&dir, "deaf");
    manager.start(host, Box::pin(async { Ok(launch) }), listener).unwrap();
    while marked(host).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(manager);
    assert!(matches!(events.recv().await, Some(Heard::Exited(..))));
    assert_eq!(marked(host), Vec::<String>::new());
}
