//! Runs jobs under kills and says whether what they publish is exact: `scripts/oracle.sh` starts
//! it.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use millstream_integration::exactly_once::{Campaign, Surroundings, Workload};
use millstream_mutants::Mutant;

/// Runs jobs on real clusters under kills and judges what they publish, while they run and at their
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
    /// The job, or all: then seeds that follow each other have the workloads by turns.
    #[arg(long, value_name = "NAME", default_value = "all", value_parser = workload)]
    workload: Selected,
    /// Runs on YARN, with checkpoints and output on HDFS.
    #[arg(long, conflicts_with = "mutant")]
    hdfs: bool,
    /// A deliberate fault that all processes have: one of the runs must notice it.
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Lists the deliberate faults.
    #[arg(long)]
    list_mutants: bool,
}

/// The workload of all runs; none if they have all of them.
#[derive(Debug, Clone, Copy)]
struct Selected(Option<Workload>);

fn workload(name: &str) -> Result<Selected, String> {
    if name == "all" { Ok(Selected(None)) } else { name.parse().map(Some).map(Selected) }
}

fn mutant(name: &str) -> Result<Mutant, String> {
    if !cfg!(feature = "mutants") {
        return Err(
            "this program has no deliberate faults: scripts/oracle.sh builds one".to_owned()
        );
    }
    let unknown = || "there is no such mutant; see --list-mutants".to_owned();
    Mutant::of_name(name).ok_or_else(unknown)
}

fn at_least(least: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(least..=1_000)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = &mut io::stdout().lock();
    if arguments.list_mutants {
        return match list(out) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let Arguments { runs, seed, kills, workload: Selected(workload), hdfs, mutant, .. } = arguments;
    let surroundings = Surroundings { mutant, hdfs };
    let campaign = Campaign { runs, seed, kills, workload, surroundings };
    match campaign.carry_out(out) {
        Ok(true) => ExitCode::SUCCESS,
        // The verdict is printed, or the output is closed.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// Writes the name and the sentence of each mutant.
fn list(out: &mut dyn Write) -> io::Result<()> {
    for mutant in Mutant::ALL {
        writeln!(out, "{:26} {}", mutant.name(), mutant.description())?;
    }
    Ok(())
}
