//! When a TaskManager connects, gives up its hosts, and ends; a pure function of events and time.
//!
//! ```text
//!           Started                 Connected
//!   (new) ----------> Connecting -------------> Registered
//!                      |    ^                       |
//!        ConnectFailed |    | Tick                  | Lost, or silence: hosts die, then connect
//!                      v    |                       v
//!                     Waiting                   Connecting
//!
//!   any --Shutdown--> Ended;  Connecting, Waiting --registration timeout--> Ended
//! ```

use std::time::{Duration, Instant};

use millstream_gateway::ConnectError;

/// Reason for the end of a TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExitReason {
    /// It was told to.
    #[error("the TaskManager was asked to end")]
    Shutdown,
    /// The master does not want it.
    #[error("{0}")]
    Refused(String),
    /// No master was found in time.
    #[error("the TaskManager could not register within {timeout:?}: {last_error}")]
    RegistrationTimeout {
        /// `taskmanager.registration.timeout`.
        timeout: Duration,
        /// The last failure.
        last_error: String,
    },
}

/// Time limit and pauses of the attempts to register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegistrationPolicy {
    pub(crate) timeout: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
}

#[derive(Debug)]
pub(crate) enum Event {
    Started,
    Connected {
        heartbeat_timeout: Duration,
    },
    ConnectFailed(ConnectError),
    /// A message came from the master.
    Heard,
    Lost(String),
    Tick,
    Shutdown,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Connect, once no host is left.
    Connect,
    /// Drop the connection, or the attempt to make one.
    Disconnect,
    KillHosts,
    Exit(ExitReason),
}

#[derive(Debug)]
enum State {
    Connecting { search: Search },
    Waiting { search: Search, until: Instant },
    Registered { heartbeat_timeout: Duration, heard: Instant },
    Ended,
}

/// The search for a master, over several attempts.
#[derive(Debug, Clone)]
struct Search {
    deadline: Instant,
    backoff: Duration,
    last_error: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    policy: RegistrationPolicy,
    state: State,
}

impl Lifecycle {
    pub(crate) fn new(policy: RegistrationPolicy, now: Instant) -> Self {
        let search = Search::new(&policy, now, "nothing was tried");
        Self { policy, state: State::Connecting { search } }
    }

    /// When to tick.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Connecting { search } => Some(search.deadline),
            State::Waiting { search, until } => Some(search.deadline.min(*until)),
            State::Registered { heartbeat_timeout, heard } => Some(*heard + *heartbeat_timeout),
            State::Ended => None,
        }
    }

    pub(crate) fn on_event(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match (event, &mut self.state) {
            (_, State::Ended) => Vec::new(),
            (Event::Shutdown, _) => self.end(ExitReason::Shutdown),
            (Event::Started, State::Connecting { .. }) => vec![Action::Connect],
            (Event::Connected { heartbeat_timeout }, State::Connecting { .. }) => {
                self.state = State::Registered { heartbeat_timeout, heard: now };
                Vec::new()
            }
            (Event::ConnectFailed(ConnectError::Refused(reason)), State::Connecting { .. }) => {
                self.end(ExitReason::Refused(ConnectError::Refused(reason).to_string()))
            }
            (Event::ConnectFailed(error), State::Connecting { search }) => {
                let mut search = search.clone();
                let until = now + search.backoff;
                search.last_error = error.to_string();
                search.backoff = (search.backoff * 2).min(self.policy.backoff_max);
                self.state = State::Waiting { search, until };
                Vec::new()
            }
            (Event::Heard, State::Registered { heard, .. }) => {
                *heard = now;
                Vec::new()
            }
            (Event::Lost(reason), State::Registered { .. }) => self.lost(now, &reason),
            (Event::Tick, _) => self.on_tick(now),
            // Late news of an attempt or a connection that was given up.
            (
                Event::Started
                | Event::Connected { .. }
                | Event::ConnectFailed(_)
                | Event::Heard
                | Event::Lost(_),
                State::Connecting { .. } | State::Waiting { .. } | State::Registered { .. },
            ) => Vec::new(),
        }
    }

    fn on_tick(&mut self, now: Instant) -> Vec<Action> {
        match &self.state {
            State::Connecting { search } | State::Waiting { search, .. }
                if search.deadline <= now =>
            {
                let last_error = search.last_error.clone();
                let timeout = self.policy.timeout;
                self.end(ExitReason::RegistrationTimeout { timeout, last_error })
            }
            State::Waiting { search, until } if *until <= now => {
                self.state = State::Connecting { search: search.clone() };
                vec![Action::Connect]
            }
            State::Registered { heartbeat_timeout, heard }
                if *heard + *heartbeat_timeout <= now =>
            {
                let reason = format!("it was silent for {heartbeat_timeout:?}");
                self.lost(now, &reason)
            }
            State::Connecting { .. }
            | State::Waiting { .. }
            | State::Registered { .. }
            | State::Ended => Vec::new(),
        }
    }

    fn lost(&mut self, now: Instant, reason: &str) -> Vec<Action> {
        let search = Search::new(&self.policy, now, reason);
        self.state = State::Connecting { search };
        vec![Action::Disconnect, Action::KillHosts, Action::Connect]
    }

    fn end(&mut self, reason: ExitReason) -> Vec<Action> {
        self.state = State::Ended;
        vec![Action::Disconnect, Action::KillHosts, Action::Exit(reason)]
    }
}

impl Search {
    fn new(policy: &RegistrationPolicy, now: Instant, last_error: &str) -> Self {
        Self {
            deadline: now + policy.timeout,
            backoff: policy.backoff_min,
            last_error: last_error.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> RegistrationPolicy {
        RegistrationPolicy { timeout: SECOND * 10, backoff_min: SECOND, backoff_max: SECOND * 3 }
    }

    fn started() -> (Lifecycle, Instant) {
        let now = Instant::now();
        let mut lifecycle = Lifecycle::new(policy(), now);
        assert_eq!(lifecycle.on_event(now, Event::Started), [Action::Connect]);
        (lifecycle, now)
    }

    fn registered() -> (Lifecycle, Instant) {
        let (mut lifecycle, now) = started();
        let connected = Event::Connected { heartbeat_timeout: SECOND * 5 };
        assert_eq!(lifecycle.on_event(now, connected), []);
        (lifecycle, now)
    }

    fn failed() -> Event {
        let (address, reason) = ("here".to_owned(), "refused".to_owned());
        Event::ConnectFailed(ConnectError::Unreachable { address, reason })
    }

    #[test]
    fn attempts_are_repeated_more_and_more_slowly() {
        let (mut lifecycle, mut now) = started();
        for wait in [1, 2, 3] {
            assert_eq!(lifecycle.on_event(now, failed()), []);
            assert_eq!(lifecycle.deadline(), Some(now + SECOND * wait));
            assert_eq!(lifecycle.on_event(now, Event::Tick), [], "too early");
            now += SECOND * wait;
            assert_eq!(lifecycle.on_event(now, Event::Tick), [Action::Connect]);
        }
    }

    #[test]
    fn the_search_ends_at_its_timeout_with_the_last_error() {
        let (mut lifecycle, now) = started();
        lifecycle.on_event(now + SECOND * 9, failed());
        assert_eq!(lifecycle.deadline(), Some(now + SECOND * 10));
        let actions = lifecycle.on_event(now + SECOND * 10, Event::Tick);
        let Some(Action::Exit(reason)) = actions.last() else { panic!("{actions:?}") };
        assert_eq!(
            reason.to_string(),
            "the TaskManager could not register within 10s: the JobManager at here cannot be \
             reached: refused"
        );
        assert_eq!(lifecycle.on_event(now, Event::Shutdown), [], "it has ended");
    }

    #[test]
    fn a_refusal_ends_the_worker_at_once() {
        let (mut lifecycle, now) = started();
        let refused = Event::ConnectFailed(ConnectError::Refused("too old".to_owned()));
        let actions = lifecycle.on_event(now, refused);
        assert!(matches!(actions.last(), Some(Action::Exit(ExitReason::Refused(_)))));
    }

    #[test]
    fn a_lost_master_costs_the_hosts_and_starts_a_new_search() {
        let lost = [Action::Disconnect, Action::KillHosts, Action::Connect];
        let (mut lifecycle, now) = registered();
        let later = now + SECOND * 100;
        assert_eq!(lifecycle.on_event(later, Event::Heard), []);
        assert_eq!(lifecycle.on_event(later, Event::Lost("reset".to_owned())), lost);
        assert_eq!(lifecycle.deadline(), Some(later + SECOND * 10));
        assert_eq!(lifecycle.on_event(later, Event::Lost("again".to_owned())), []);

        let (mut lifecycle, now) = registered();
        assert_eq!(lifecycle.on_event(now + SECOND * 4, Event::Tick), []);
        assert_eq!(lifecycle.on_event(now + SECOND * 5, Event::Tick), lost);
    }

    #[test]
    fn shutdown_ends_from_everywhere() {
        for (mut lifecycle, now) in [started(), registered()] {
            let actions = lifecycle.on_event(now, Event::Shutdown);
            assert_eq!(actions.last(), Some(&Action::Exit(ExitReason::Shutdown)));
            assert_eq!(lifecycle.deadline(), None);
        }
    }
}
