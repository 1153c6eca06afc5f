//! Runs a job under kills and says whether what it publishes is exact: `scripts/oracle.sh` starts
//! it.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use millstream_integration::exactly_once::{Campaign, Workload};

/// Runs a job on real clusters under kills and judges what it publishes, while it runs and at its
/// end. The last line is the verdict.
#[derive(Debug, Parser)]
#[command(name = "oracle.sh", bin_name = "oracle.sh")]
struct Arguments {
    /// Number of runs, each on a cluster of its own.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least(1))]
    runs: u32,
    /// The seed of the first run; it draws input, cluster and kills, and the next run has the next.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Number of faults in each run: kills of one process or two, and stops.
    #[arg(long, value_name = "K", default_value = "3", value_parser = at_least(0))]
    kills: u32,
    /// The job: keyed-sum.
    #[arg(long, value_name = "NAME", default_value_t = Workload::KeyedSum)]
    workload: Workload,
}

fn at_least(least: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(least..=1_000)
}

fn main() -> ExitCode {
    let Arguments { runs, seed, kills, workload } = Arguments::parse();
    let campaign = Campaign { runs, seed, kills, workload };
    match campaign.carry_out(&mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        // The verdict is printed, or the output is closed.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}
