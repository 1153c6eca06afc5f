//! Stopping daemons: SIGTERM, then SIGKILL after a deadline. A process stays in the pid file until
//! it is known to be gone.

use anyhow::{Result, bail};

use super::hosts;
use super::instances::{Instances, Lock, Service};
use super::places::{Home, Places};
use super::processes::ended;
use super::remote::Remote;
use crate::{console, runtime};

/// Number of daemons to stop, the newest first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Newest(usize),
    All,
}

/// Stops daemons of one kind on this host.
pub(super) fn stop_daemons(
    home: &Home,
    properties: &[String],
    service: Service,
    count: Count,
) -> Result<()> {
    let places = lenient_places(home, properties)?;
    runtime()?.block_on(async {
        if !places.pid_dir.exists() {
            say_none(&places, service);
            return Ok(());
        }
        let _lock = Lock::acquire(&places).await?;
        stop(&places, service, count).await
    })
}

/// Stops what start-cluster.sh started.
pub(super) fn stop_cluster(home: &Home, properties: &[String]) -> Result<()> {
    let places = lenient_places(home, properties)?;
    let hint = |error: anyhow::Error| {
        error.context(
            "nothing is stopped; taskmanager.sh stop-all and jobmanager.sh stop-all end what runs \
             on this host",
        )
    };
    let workers = hosts::workers(&places.conf_dir, &places.hostname).map_err(hint)?;
    let master = hosts::master(&places.conf_dir, &places.hostname).map_err(hint)?;
    runtime()?.block_on(async {
        let mut remote = Vec::new();
        for worker in workers.iter().filter(|worker| !worker.local) {
            remote.push(Remote::start(&places, &worker.name, "taskmanager.sh", "stop"));
        }
        let here = workers.iter().filter(|worker| worker.local).count();
        let exists = places.pid_dir.exists();
        let lock = if exists { Some(Lock::acquire(&places).await?) } else { None };
        let mut failed = None;
        if here > 0 {
            failed = stop(&places, Service::TaskManager, Count::Newest(here)).await.err();
        }
        if master.local {
            let stopped = stop(&places, Service::Session, Count::Newest(1)).await;
            failed = failed.or(stopped.err());
        } else {
            remote.push(Remote::start(&places, &master.name, "jobmanager.sh", "stop"));
        }
        drop(lock);
        for started in remote {
            let finished = match started {
                Ok(remote) => remote.finish().await,
                Err(error) => Err(error),
            };
            failed = failed.or(finished.err());
        }
        failed.map_or(Ok(()), Err)
    })
}

/// A configuration that has become wrong since the start must not keep daemons from being stopped.
fn lenient_places(home: &Home, properties: &[String]) -> Result<Places> {
    let loaded = home.loader(properties).load_leniently()?;
    for warning in &loaded.warnings {
        console::warn(format_args!("{warning}"));
    }
    home.places(&loaded.configuration)
}

fn say_none(places: &Places, service: Service) {
    let (name, host) = (service.name(), &places.hostname);
    console::print(format_args!("No {name} daemon to stop on host {host}."));
}

/// Hold the [`Lock`].
async fn stop(places: &Places, service: Service, count: Count) -> Result<()> {
    let mut instances = Instances::read(places, service)?;
    let (name, host) = (service.name(), &places.hostname);
    for pid in &instances.gone {
        console::print(format_args!("No {name} daemon (pid: {pid}) is running anymore on {host}."));
    }
    let count = match count {
        Count::Newest(count) => count,
        Count::All => usize::MAX,
    };
    let chosen: Vec<_> = instances.living.iter().rev().take(count).cloned().collect();
    if chosen.is_empty() {
        say_none(places, service);
    }
    for instance in &chosen {
        let pid = instance.identity.pid;
        console::print(format_args!("Stopping {name} daemon (pid: {pid}) on host {host}."));
        instance.identity.signal(libc::SIGTERM);
    }
    let mut alive = Vec::new();
    for instance in &chosen {
        let (pid, patience) = (instance.identity.pid, places.stop_timeout);
        let on_kill = || {
            console::print(format_args!(
                "The {name} daemon (pid: {pid}) did not stop within {} s, killing it.",
                patience.as_secs()
            ));
        };
        if ended(&instance.identity, patience, on_kill).await {
            instances.remove(&instance.identity);
        } else {
            alive.push(pid.to_string());
        }
        instances.write()?;
    }
    instances.write()?;
    if !alive.is_empty() {
        bail!("{name} daemon(s) with pid {} live on although they were killed", alive.join(", "));
    }
    Ok(())
}
