//! The trial of exactly-once on a session of YARN, with checkpoints and output on HDFS.

use std::time::{SystemTime, UNIX_EPOCH};

use millstream_integration::exactly_once::{Campaign, Surroundings};
use millstream_integration::rounds;

/// Other seeds each day, as on local clusters.
#[test]
fn runs_on_hdfs_are_exact() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let day = since_1970.as_secs() / (24 * 60 * 60);
    for round in rounds("runs of the oracle on HDFS", 0.1, 1, 20) {
        let (seed, kills) = (101 * day + round, 2);
        let surroundings = Surroundings { hdfs: true, ..Surroundings::default() };
        let campaign = Campaign { runs: 1, seed, kills, workload: None, surroundings };
        let mut log = Vec::new();
        let is_exact = campaign.carry_out(&mut log).unwrap();
        let log = String::from_utf8(log).unwrap();
        assert!(is_exact, "scripts/oracle.sh --hdfs --seed {seed} --kills {kills}:\n{log}");
        eprintln!("{log}");
    }
}
