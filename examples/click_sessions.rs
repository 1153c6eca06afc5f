//! Cuts the clicks of each user into sessions, by windows that end after half an hour of silence.
//!
//! Clicks are CSV, `time_ms,user,page`, in any order. A session is written as a line of CSV: the
//! user, when the session began, how long it lasted, the number of clicks, and the pages of the
//! first and the last one.
//!
//! Files are read side by side and one after another, so time is told by their end alone. A stream
//! that never ends needs another strategy, like `WatermarkStrategy::bounded_out_of_orderness`.
//!
//! ```text
//! cargo run --release --example click_sessions -- --input FILE_OR_DIR --output DIR
//! millstream run click_sessions --input FILE_OR_DIR --output DIR
//! ```

use std::path::{PathBuf, absolute};
use std::time::Duration;

use millstream::prelude::*;

const SILENCE: Duration = Duration::from_secs(30 * 60);

#[millstream::record]
struct Click {
    time_ms: i64,
    user: String,
    page: String,
}

#[millstream::record]
struct Visit {
    user: String,
    start_ms: i64,
    millis: i64,
    clicks: u64,
    entry: String,
    exit: String,
}

#[millstream::main]
fn click_sessions(env: &mut Environment, args: Args) -> Result<()> {
    // Computed once, where the user is: the job's processes have working directories of their own.
    let input: PathBuf = env.plan_value("input", || Ok(absolute(args.required("input")?)?))?;
    let output: PathBuf = env.plan_value("output", || Ok(absolute(args.required("output")?)?))?;

    let visits = find_visits(env.source("clicks", FileSource::csv(input)));
    visits.sink("visits", FileSink::csv(output).suffix(".csv"));
    env.execute("click sessions")?;
    Ok(())
}

/// The job between its source and its sink.
fn find_visits(clicks: Stream<Click>) -> Stream<Visit> {
    let times = WatermarkStrategy::none().timestamps(|click: &Click| Ok(click.time_ms));
    clicks
        .assign_timestamps(times)
        .key_by_ref(|click| &click.user)
        .window(Session::event_time(SILENCE))
        .aggregate("sessions", Seen::default, Seen::add, Seen::merge, |user, window, seen| {
            let (Some((first, entry)), Some((last, exit))) = (seen.first, seen.last) else {
                bail!("{user} has a session without clicks in {window}");
            };
            let millis = last - first;
            Ok(Visit { user, start_ms: first, millis, clicks: seen.clicks, entry, exit })
        })
}

/// The part of a session that has been seen: the number of clicks, and the first and the last one
/// with their times.
#[millstream::record]
#[derive(Default)]
struct Seen {
    clicks: u64,
    first: Option<(i64, String)>,
    last: Option<(i64, String)>,
}

impl Seen {
    fn add(&mut self, click: Click) -> Result<()> {
        let at = (click.time_ms, click.page);
        self.merge(Self { clicks: 1, first: Some(at.clone()), last: Some(at) })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.clicks += other.clicks;
        let firsts = [self.first.take(), other.first].into_iter().flatten();
        self.first = firsts.min();
        self.last = self.last.take().max(other.last);
        Ok(())
    }
}

#[cfg(test)]
#[path = "reference/mod.rs"]
mod reference;

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use millstream::testing;

    use super::reference::{hold_to_awk, random};
    use super::*;

    /// Four files of 1,500 clicks by 40 users.
    fn make_clicks(directory: &Path) {
        let mut below = random(12);
        for file in 0..4 {
            let mut clicks = "time_ms,user,page\n".to_owned();
            for _ in 0..1_500 {
                let time_ms = 1_760_000_000_000 + below(200_000_000);
                writeln!(clicks, "{time_ms},u{},/{}", below(40), below(300)).unwrap();
            }
            std::fs::write(directory.join(format!("{file}.csv")), clicks).unwrap();
        }
    }

    fn run(clicks: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        let visits = CollectSink::new();
        find_visits(env.source("clicks", FileSource::csv(clicks))).sink("visits", visits.clone());
        env.execute("click sessions").unwrap();
        let visits = visits.take().into_iter();
        visits
            .map(|v| {
                let Visit { user, start_ms, millis, clicks, entry, exit } = v;
                format!("{user},{start_ms},{millis},{clicks},{entry},{exit}")
            })
            .collect()
    }

    #[test]
    fn sessions_are_what_awk_finds_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("click_sessions", make_clicks, run);
        assert!((500..5_000).contains(&lines.len()), "{} sessions", lines.len());
    }
}
