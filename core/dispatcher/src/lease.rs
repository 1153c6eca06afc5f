//! The lease of a client for which a cluster exists: without its client the cluster ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A lease; all clones share one state.
#[derive(Debug, Clone)]
pub struct ClientLease {
    timeout: Duration,
    until: watch::Sender<Instant>,
}

impl ClientLease {
    /// Creates a lease that begins now and ends after `timeout` unless it is renewed.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, until: watch::Sender::new(Instant::now() + timeout) }
    }

    /// Notes that the client lives.
    pub fn renew(&self) {
        self.until.send_replace(Instant::now() + self.timeout);
    }

    /// Returns the silence after which the client counts as gone.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for the end. Cancel-safe.
    pub async fn expired(&self) {
        let mut until = self.until.subscribe();
        loop {
            let end = *until.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                // The sender lives as long as this lease.
                _ = until.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_when_it_is_not_renewed() {
        let lease = ClientLease::new(Duration::from_secs(10));
        let start = Instant::now();
        let renewing = lease.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            renewing.renew();
        });
        lease.expired().await;
        assert_eq!(start.elapsed().as_secs(), 17);
    }
}
