//! The actor of one job: feeds the decider and carries out its actions.
//!
//! Calls to TaskManagers are queued on their connections and never wait. Calls to the
//! ResourceManager go through a slot that holds only the newest declaration and the pending
//! releases, so neither component ever waits for room in the other's mailbox while its own is full.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use millstream_checkpoint::messages::Now;
use millstream_gateway::{
    CauseKind, Explanation, FailureCause, JobDetails, JobMasterEvent, JobMasterFactory,
    JobMasterGateway, JobSubmission, ResourceManagerGateway, SlotRequirement, Stopped,
    TaskManagerGateway, TaskManagerGone,
};
use millstream_types::{AllocationId, JobId, Timestamp};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::time::DelayQueue;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::checkpoints::StorageAnswer;
use crate::config::JobMasterConfig;
use crate::ids::{IdSource, OsIds, SecuredIds};
use crate::master::{Action, Event, JobMaster};
use crate::storage::{Opened, Storage};
use crate::timer::Timer;

/// The number of events that may wait; more make their senders wait.
const MAILBOX_EVENTS_MAX: usize = 1024;

/// The number of events that are handled before their changes are published.
const EVENTS_PER_TURN: usize = 64;

/// Starts JobMasters in this process.
#[derive(Debug, Clone)]
pub struct Factory {
    /// Gives slots.
    pub resource_manager: Arc<dyn ResourceManagerGateway>,
    /// Starts coordinator hosts: like a TaskManager, but without slots. Its name is no
    /// TaskManager's.
    pub coordinator_hosts: Arc<dyn TaskManagerGateway>,
    /// The cluster's configuration.
    pub config: JobMasterConfig,
}

impl JobMasterFactory for Factory {
    /// Must be called within a Tokio runtime.
    fn start(&self, submission: JobSubmission) -> Arc<dyn JobMasterGateway> {
        let job = submission.job;
        let ids: Box<dyn IdSource> = match &self.config.authority {
            Some(authority) => Box::new(SecuredIds(Arc::clone(authority))),
            None => Box::new(OsIds),
        };
        let master = JobMaster::new(
            submission,
            &self.config,
            Arc::clone(&self.coordinator_hosts),
            ids,
            now(),
        );
        let (events, mailbox) = mpsc::channel(MAILBOX_EVENTS_MAX);
        let (published, details) = watch::channel(Arc::new(master.details()));
        let handle = Arc::new(Handle { job, events, details });
        let owner: Arc<dyn JobMasterGateway> = handle.clone();
        let resources = Arc::new(Resources::default());
        let teller =
            Arc::clone(&resources).tell(Arc::clone(&self.resource_manager), Arc::clone(&owner));
        let directory = master.checkpoint_directory().map(str::to_owned);
        let recovery = master.recovery().cloned();
        let run = async move {
            let Opened { storage, answers, start } = Storage::open(job, directory, recovery).await;
            let timers = DelayQueue::new();
            let actor =
                Actor { master, owner, published, resources, timers, storage, ended: false };
            let start = match start {
                Ok(None) => Event::Start,
                Ok(Some(loaded)) => Event::StartFrom(loaded),
                Err(cause) => Event::Refuse(cause),
            };
            actor.run(mailbox, answers, start).await;
        };
        let span = info_span!("job", %job);
        tokio::spawn(async move { tokio::join!(run, teller) }.instrument(span));
        handle
    }
}

/// The actor's handle for other components.
#[derive(Debug)]
struct Handle {
    job: JobId,
    events: mpsc::Sender<JobMasterEvent>,
    details: watch::Receiver<Arc<JobDetails>>,
}

impl JobMasterGateway for Handle {
    fn job(&self) -> JobId {
        self.job
    }

    fn post(&self, event: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async move { self.events.send(event).await.map_err(|_| Stopped) })
    }

    fn details(&self) -> watch::Receiver<Arc<JobDetails>> {
        self.details.clone()
    }
}

/// Calls to the ResourceManager that have not been made. Declarations replace each other.
#[derive(Debug, Default)]
struct Resources {
    untold: Mutex<Untold>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Untold {
    declaration: Option<Vec<SlotRequirement>>,
    release: Vec<AllocationId>,
    /// The job has ended: nothing will be added.
    last: bool,
}

impl Resources {
    fn change(&self, change: impl FnOnce(&mut Untold)) {
        change(&mut self.untold.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Tells the ResourceManager until the job has ended and all is said.
    async fn tell(
        self: Arc<Self>,
        resource_manager: Arc<dyn ResourceManagerGateway>,
        owner: Arc<dyn JobMasterGateway>,
    ) {
        loop {
            let untold = {
                let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
                let last = untold.last;
                Untold { last, ..std::mem::take(&mut *untold) }
            };
            if let Some(slots) = untold.declaration
                && resource_manager.declare(Arc::clone(&owner), slots).await.is_err()
            {
                debug!("the ResourceManager has stopped");
            }
            if !untold.release.is_empty() && resource_manager.release(untold.release).await.is_err()
            {
                debug!("the ResourceManager has stopped");
            }
            if untold.last {
                return;
            }
            self.changed.notified().await;
        }
    }
}

/// Owns the decider.
struct Actor {
    master: JobMaster,
    owner: Arc<dyn JobMasterGateway>,
    published: watch::Sender<Arc<JobDetails>>,
    resources: Arc<Resources>,
    timers: DelayQueue<Timer>,
    storage: Storage,
    ended: bool,
}

/// The time, by both clocks.
fn now() -> Now {
    Now { instant: tokio::time::Instant::now().into_std(), wall: Timestamp::now() }
}

impl Actor {
    async fn run(
        mut self,
        mut mailbox: mpsc::Receiver<JobMasterEvent>,
        mut answers: mpsc::Receiver<StorageAnswer>,
        start: Event,
    ) {
        info!("job starts");
        self.handle([start]);
        let mut news = Vec::new();
        while !self.ended {
            tokio::select! {
                // The handle that this actor owns keeps the mailbox open.
                _ = mailbox.recv_many(&mut news, EVENTS_PER_TURN) => {
                    self.handle(news.drain(..).map(Event::Gateway));
                }
                // The storage that this actor owns keeps the channel open.
                Some(answer) = answers.recv() => self.handle([Event::Storage(answer)]),
                Some(expired) = self.timers.next(), if !self.timers.is_empty() => {
                    self.handle([Event::Timer(expired.into_inner())]);
                }
            }
        }
        // Slots that were granted meanwhile go back.
        mailbox.close();
        while let Some(late) = mailbox.recv().await {
            self.handle([Event::Gateway(late)]);
        }
        self.resources.change(|untold| untold.last = true);
    }

    /// Hands events to the decider and carries out its actions.
    fn handle(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut publish = false;
        for event in events {
            let mut queue = VecDeque::from([event]);
            while let Some(event) = queue.pop_front() {
                for action in self.master.on_event(now(), event) {
                    // The loss is reported by the ResourceManager too; to hear of it twice is
                    // harmless, never to hear of it is not.
                    if let Err(TaskManagerGone(task_manager)) = self.carry_out(action, &mut publish)
                    {
                        let message = format!("TaskManager {task_manager} cannot be reached");
                        let cause = FailureCause::new(CauseKind::WorkerLost, message);
                        let explanation = Explanation::Unknown;
                        let lost =
                            JobMasterEvent::TaskManagerLost { task_manager, cause, explanation };
                        queue.push_back(Event::Gateway(lost));
                    }
                }
            }
        }
        if publish {
            let details = self.master.details();
            self.log_failures(&details);
            if self.published.borrow().status != details.status {
                info!(status = %details.status, "job status changed");
            }
            self.published.send_replace(Arc::new(details));
        }
    }

    /// Logs every cause: REST forgets jobs, the log keeps them.
    fn log_failures(&self, details: &JobDetails) {
        let before = self.published.borrow();
        let known = before.exceptions.first();
        let new = details.exceptions.iter().take_while(|entry| Some(*entry) != known);
        for entry in new.collect::<Vec<_>>().into_iter().rev() {
            let (kind, detail) = (entry.cause.kind.as_str(), &entry.cause.detail);
            warn!(kind, detail, "failure: {}", entry.sentence());
        }
    }

    fn carry_out(&mut self, action: Action, publish: &mut bool) -> Result<(), TaskManagerGone> {
        match action {
            Action::DeclareSlots(slots) => {
                self.resources.change(|untold| untold.declaration = Some(slots));
            }
            Action::ReleaseSlots(slots) => {
                self.resources.change(|untold| untold.release.extend(slots));
            }
            Action::StartHost(on, start) => {
                info!(host = %start.host, worker = %on.id(), slots = ?start.slots, "starting host");
                on.start_host(Arc::clone(&self.owner), start)?;
            }
            Action::Command(on, command) => on.command(command)?,
            Action::StopHost(on, host, grace) => {
                debug!(%host, worker = %on.id(), ?grace, "stopping host");
                on.stop_host(host, grace)?;
            }
            Action::SetTimer(timer, after) => {
                self.timers.insert(timer, after);
            }
            Action::Storage(request) => self.storage.ask(request),
            Action::Publish => *publish = true,
            Action::End => self.ended = true,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
