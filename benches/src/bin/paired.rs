//! Runs rows of the benchmark matrix beside Apache Flink or an earlier commit: a JSON line per row
//! on standard output, progress on standard error. `paired.sh` prepares both sides and calls this.

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use millstream_benches::engine::Engine;
use millstream_benches::measure::{Pairing, Shared};
use millstream_benches::report::{self, Line};
use millstream_benches::rows;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Pairs Millstream with Apache Flink, or with an earlier commit of its own.
#[derive(Parser)]
#[command(name = "paired.sh")]
struct Options {
    /// Rounds of every row.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Multiplies the numbers of generated records, for differences of a few percent.
    #[arg(long, default_value_t = 1)]
    longer: u64,
    /// Runs one side alone: no ratio.
    #[arg(long)]
    only: Option<Side>,
    /// Has the jobs take checkpoints at this interval, such as `10s`, on both sides.
    #[arg(long)]
    checkpoints: Option<String>,
    /// The other side is ours without checkpoints: the ratio shows what they cost.
    #[arg(long, requires = "checkpoints")]
    cost_of_checkpoints: bool,
    /// Prints the rows of the group `shapes` as a table at the end, too.
    #[arg(long)]
    table: bool,
    /// Rows on YARN: with the intervals that Hadoop has by default (a NodeManager's heartbeat each
    /// second), not with those of tests (200 ms).
    #[arg(long)]
    hadoop_as_shipped: bool,
    /// Where downloads and generated text are kept.
    #[arg(long)]
    cache: PathBuf,
    /// Flink's home.
    #[arg(long)]
    flink_home: Option<PathBuf>,
    /// The jar of Flink's jobs.
    #[arg(long)]
    flink_jobs: Option<PathBuf>,
    /// Our home, with `bin` and `conf`.
    #[arg(long)]
    millstream_home: Option<PathBuf>,
    /// Our job's executable.
    #[arg(long)]
    millstream_job: Option<PathBuf>,
    /// The home of another commit of Millstream, which is the other side instead of Flink.
    #[arg(long, requires = "before_job")]
    before_home: Option<PathBuf>,
    /// That commit's executable of our job.
    #[arg(long, requires = "before_home")]
    before_job: Option<PathBuf>,
    /// Names of rows or groups; all rows that are in no group when none is given.
    rows: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Peer,
    Ours,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("paired.sh: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let mut rows = choose(&options.rows)?;
    rows.iter_mut().for_each(|row| row.lengthen(options.longer));
    let (peer, ours) = sides(&options)?;
    let (rounds, as_shipped) = (options.rounds, options.hadoop_as_shipped);
    let cache = options.cache;
    let pairing = Pairing { peer, ours, rounds, as_shipped, cache, progress: say };
    let mut shared = Shared::default();
    let mut lines = Vec::new();
    let mut failed = 0;
    for row in rows {
        match pairing.measure(&row, &mut shared) {
            Ok(rounds) => {
                let line = Line::new(&row, &rounds);
                writeln!(std::io::stdout(), "{}", serde_json::to_string(&line)?)?;
                lines.push(line);
            }
            Err(error) => {
                failed += 1;
                say(&format!("{}: no number counts: {error:#}", row.name));
            }
        }
    }
    if options.table {
        writeln!(std::io::stdout(), "{}", report::table(&lines))?;
    }
    if failed > 0 {
        bail!("{failed} of the rows failed");
    }
    Ok(())
}

/// The other side and ours.
fn sides(options: &Options) -> Result<(Option<Engine>, Option<Engine>)> {
    let path = |path: &Option<PathBuf>, name| path.clone().context(format!("{name} is missing"));
    let checkpointed = |engine: Engine| engine.with_checkpoints(options.checkpoints.as_deref());
    let ours = match options.only {
        Some(Side::Peer) => None,
        _ => Some(checkpointed(Engine::millstream(
            path(&options.millstream_home, "--millstream-home")?,
            path(&options.millstream_job, "--millstream-job")?,
        ))),
    };
    let peer = match (options.only, &options.before_home, &options.before_job) {
        (Some(Side::Ours), _, _) => None,
        _ if options.cost_of_checkpoints => ours.as_ref().map(Engine::without_checkpoints),
        (_, Some(home), Some(job)) => Some(checkpointed(Engine::before(home.clone(), job.clone()))),
        _ => Some(checkpointed(Engine::flink(
            path(&options.flink_home, "--flink-home")?,
            path(&options.flink_jobs, "--flink-jobs")?,
        ))),
    };
    Ok((peer, ours))
}

fn choose(names: &[String]) -> Result<Vec<rows::Row>> {
    let all = rows::all();
    let named = |row: &rows::Row, name: &String| row.name == *name || row.group == Some(name);
    for name in names {
        if !all.iter().any(|row| named(row, name)) {
            let known: Vec<_> = all.iter().map(|row| row.name.as_str()).collect();
            bail!("there is no row {name}; the rows are {}", known.join(" "));
        }
    }
    let chosen = |row: &rows::Row| match names {
        [] => row.group.is_none(),
        _ => names.iter().any(|name| named(row, name)),
    };
    Ok(all.into_iter().filter(chosen).collect())
}

fn say(text: &str) {
    // A closed standard error must not end a measurement.
    writeln!(std::io::stderr(), "{text}").ok();
}
