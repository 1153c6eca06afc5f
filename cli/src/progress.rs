//! The line that shows how an attached job is doing.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use millstream_rest_types::jobs::JobDetailsInfo;
use millstream_types::counters::grouped;
use millstream_types::{Escaped, ExecutionState};

/// A rate is measured over this long: workers report about once a second.
const RATE_WINDOW: Duration = Duration::from_secs(4);
/// For how long a job may wait before a log, where no line is live, hears of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The progress line of one job.
#[derive(Debug)]
pub(crate) struct Progress {
    live: bool,
    started: Instant,
    /// One per look at the job, of the last [`RATE_WINDOW`].
    samples: VecDeque<(Instant, u64)>,
    waits_since: Option<Instant>,
    said_waiting: bool,
}

impl Progress {
    /// Live if standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            live: std::io::stderr().is_terminal(),
            started: Instant::now(),
            samples: VecDeque::new(),
            waits_since: None,
            said_waiting: false,
        }
    }

    /// Shows the job as REST describes it.
    pub(crate) fn show(&mut self, details: &JobDetailsInfo) {
        let now = Instant::now();
        let line = self.line(now, details);
        if self.live {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
        } else if let Some(waiting) = self.news_of_waiting(now, details) {
            let _ = writeln!(std::io::stderr().lock(), "{waiting}");
        }
    }

    /// Makes room for lines that stay.
    pub(crate) fn clear(&self) {
        if self.live {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }

    fn line(&mut self, now: Instant, details: &JobDetailsInfo) -> String {
        let seconds = now.duration_since(self.started).as_secs();
        let (running, total) = tasks(details);
        let mut line = format!(
            "{} {}:{:02}, {running}/{total} tasks run",
            details.state,
            seconds / 60,
            seconds % 60
        );
        let records = records(details);
        if let Some(rate) = self.rate(now, records) {
            line += &format!(", {} records/s, {} records", grouped(rate), grouped(records));
        }
        match &details.millstream.waiting_for {
            Some(waiting) if running < total => {
                format!("{line}, waiting for {}", Escaped::line(waiting))
            }
            Some(_) | None => line,
        }
    }

    /// Records a second; none before there is an earlier sample.
    fn rate(&mut self, now: Instant, records: u64) -> Option<u64> {
        if records == 0 || self.samples.back().is_some_and(|(_, before)| *before > records) {
            // Nothing flows yet, or the job was restarted: the rate is of what comes.
            self.samples.clear();
        }
        self.samples.push_back((now, records));
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
        let (since, before) = *self.samples.front()?;
        let elapsed = u64::try_from(now.duration_since(since).as_millis()).ok()?;
        if records == 0 || elapsed < 200 {
            return None;
        }
        Some((records - before).saturating_mul(1000) / elapsed)
    }

    /// The reason why a job waits, returned once if it waits for long.
    fn news_of_waiting(&mut self, now: Instant, details: &JobDetailsInfo) -> Option<String> {
        let Some(waiting) = &details.millstream.waiting_for else {
            self.waits_since = None;
            return None;
        };
        let since = *self.waits_since.get_or_insert(now);
        if self.said_waiting || now.duration_since(since) < PATIENCE {
            return None;
        }
        self.said_waiting = true;
        Some(format!("waiting for {}", Escaped::line(waiting)))
    }
}

/// Counts the subtasks that run, and all of them.
fn tasks(details: &JobDetailsInfo) -> (u32, u32) {
    let counts = &details.status_counts;
    let running = counts.get(&ExecutionState::Running).copied().unwrap_or(0);
    (running, counts.values().sum())
}

/// Counts the records of the busiest exchange.
fn records(details: &JobDetailsInfo) -> u64 {
    let metrics = details.vertices.iter().map(|vertex| &vertex.metrics);
    metrics.map(|m| m.read_records.max(m.write_records)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_rest_types::testing::{job, vertex};
    use millstream_rest_types::vertices::IoMetricsInfo;
    use millstream_types::JobStatus;

    use super::*;

    fn details(records: u64) -> JobDetailsInfo {
        let io = |read_records, write_records| IoMetricsInfo {
            read_records,
            write_records,
            ..IoMetricsInfo::default()
        };
        let mut details = job(1, JobStatus::Running);
        details.vertices = vec![vertex(1, io(0, records)), vertex(2, io(records / 2, 0))];
        details.status_counts = BTreeMap::from([
            (ExecutionState::Created, 0),
            (ExecutionState::Scheduled, 1),
            (ExecutionState::Running, 3),
        ]);
        details.millstream.waiting_for = Some("1 of 2 slots".to_owned());
        details
    }

    #[test]
    fn the_line_shows_tasks_records_and_what_is_awaited() {
        let mut progress = Progress::new();
        let at = |millis| progress.started + Duration::from_millis(millis);
        let times = [at(0), at(1_000), at(61_000)];
        let mut line = |now, records| progress.line(now, &details(records));
        assert_eq!(line(times[0], 0), "RUNNING 0:00, 3/4 tasks run, waiting for 1 of 2 slots");
        assert_eq!(
            line(times[1], 1_500_000),
            "RUNNING 0:01, 3/4 tasks run, 1,500,000 records/s, 1,500,000 records, \
             waiting for 1 of 2 slots"
        );
        // Half a minute later the counters are those of a restarted job.
        assert!(!line(times[2], 10).contains("records/s"));
    }

    #[test]
    fn a_log_hears_once_of_a_long_wait() {
        let mut progress = Progress::new();
        let start = progress.started;
        let details = details(0);
        let mut news =
            |seconds| progress.news_of_waiting(start + Duration::from_secs(seconds), &details);
        let heard = [news(0), news(1), news(4), news(9)].map(|news| news.is_some());
        assert_eq!(heard, [false, false, true, false]);
    }
}
