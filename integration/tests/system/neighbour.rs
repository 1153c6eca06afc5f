//! The well-behaved job beside the one that a test is about.

use std::fmt::Write as _;
use std::path::PathBuf;

use millstream_integration::{Cluster, Job, sorted_lines};

const GROUPS: u64 = 97;

/// A bounded job with an output that is known.
pub struct Neighbour {
    pub job: Job,
    records: u64,
    output: PathBuf,
}

impl Neighbour {
    /// Starts one that makes `records` records at `rate` per second, and waits until it runs.
    pub fn start(cluster: &Cluster, name: &str, records: u64, rate: u64, options: &[&str]) -> Self {
        let output = cluster.data(name);
        let job = cluster.submit_job(
            options,
            &[
                "--job",
                "neighbour",
                "--records",
                &records.to_string(),
                "--rate",
                &rate.to_string(),
                "--groups",
                &GROUPS.to_string(),
                "--output",
                output.to_str().unwrap(),
            ],
        );
        job.wait_for_tasks();
        Self { job, records, output }
    }

    /// Waits for its end and checks its output.
    pub fn finish(&self) {
        self.job.wait_for("FINISHED");
        assert_eq!(sorted_lines(&self.output), sums(self.records));
    }

    /// The same, and it was never disturbed.
    pub fn finish_undisturbed(&self) {
        self.finish();
        let attempts = self.job.attempts();
        assert!(!attempts.is_empty() && attempts.iter().all(|attempt| *attempt == 0));
        assert_eq!(self.job.causes(), [""; 0]);
    }
}

/// The expected output of the job.
fn sums(records: u64) -> Vec<String> {
    let mut lines: Vec<String> = (0..GROUPS.min(records))
        .map(|group| {
            let numbers = (group..records).step_by(usize::try_from(GROUPS).unwrap());
            let (count, sum) = numbers.fold((0, 0), |(count, sum), n| (count + 1, sum + n));
            let mut line = String::new();
            write!(line, "{group} {count} {sum}").unwrap();
            line
        })
        .collect();
    lines.sort_unstable();
    lines
}
