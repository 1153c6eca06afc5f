//! Finds the three pages that were seen most in each minute, by two windows in sequence.
//!
//! Views are CSV, `time_ms,page`, in any order. The first window counts the views of each page in a
//! minute, in parallel; a count has the last millisecond of its minute as its event time, so that
//! it is in the window of the same minute that ranks all pages. A line of the output is CSV: when
//! the minute began, the rank, the page, and its views. Of pages with as many views the first by
//! name ranks higher.
//!
//! Files are read side by side and one after another, so time is told by their end alone. A stream
//! that never ends needs another strategy, like `WatermarkStrategy::bounded_out_of_orderness`.
//!
//! ```text
//! cargo run --release --example top_pages -- --input FILE_OR_DIR --output DIR
//! millstream run top_pages --input FILE_OR_DIR --output DIR
//! ```

use std::cmp::Reverse;
use std::path::{PathBuf, absolute};
use std::time::Duration;

use millstream::prelude::*;

const MINUTE: Tumbling = Tumbling::event_time(Duration::from_secs(60));
const PLACES: usize = 3;

#[millstream::record]
struct View {
    time_ms: i64,
    page: String,
}

#[millstream::record]
struct Place {
    minute_ms: i64,
    rank: usize,
    page: String,
    views: u64,
}

#[millstream::main]
fn top_pages(env: &mut Environment, args: Args) -> Result<()> {
    // Computed once, where the user is: the job's processes have working directories of their own.
    let input: PathBuf = env.plan_value("input", || Ok(absolute(args.required("input")?)?))?;
    let output: PathBuf = env.plan_value("output", || Ok(absolute(args.required("output")?)?))?;

    let places = rank_pages(env.source("views", FileSource::csv(input)));
    places.sink("places", FileSink::csv(output).suffix(".csv"));
    env.execute("top pages")?;
    Ok(())
}

/// The job between its source and its sink.
fn rank_pages(views: Stream<View>) -> Stream<Place> {
    let times = WatermarkStrategy::none().timestamps(|view: &View| Ok(view.time_ms));
    views
        .assign_timestamps(times)
        .key_by_ref(|view| &view.page)
        .window(MINUTE)
        .count("views of pages")
        .window_all(MINUTE)
        .process("ranks", |_| Ok(Rank))
}

/// Ranks the pages of a minute.
struct Rank;

impl WindowFunction<(), Vec<(String, u64)>> for Rank {
    type Out = Place;

    fn process(
        &mut self,
        _: (),
        window: Window,
        mut pages: Vec<(String, u64)>,
        out: &mut Collector<'_, Place>,
    ) -> Result<()> {
        pages.sort_by(|(page, views), (other, more)| {
            Reverse(views).cmp(&Reverse(more)).then_with(|| page.cmp(other))
        });
        for (rank, (page, views)) in (1..).zip(pages.into_iter().take(PLACES)) {
            out.emit(Place { minute_ms: window.start, rank, page, views });
        }
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

    /// Four files of 5,000 views of 40 pages within 100 minutes.
    fn make_views(directory: &Path) {
        let mut below = random(13);
        for file in 0..4 {
            let mut views = "time_ms,page\n".to_owned();
            for _ in 0..5_000 {
                let time_ms = 1_760_000_000_000 + below(6_000_000);
                let page = below(40) * below(40) / 40;
                writeln!(views, "{time_ms},/p{page}").unwrap();
            }
            std::fs::write(directory.join(format!("{file}.csv")), views).unwrap();
        }
    }

    fn run(views: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        let places = CollectSink::new();
        rank_pages(env.source("views", FileSource::csv(views))).sink("places", places.clone());
        env.execute("top pages").unwrap();
        let places = places.take().into_iter();
        places.map(|p| format!("{},{},{},{}", p.minute_ms, p.rank, p.page, p.views)).collect()
    }

    #[test]
    fn ranks_are_what_awk_finds_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("top_pages", make_views, run);
        assert!((300..=303).contains(&lines.len()), "{} places", lines.len());
    }
}
