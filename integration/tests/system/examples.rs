//! The examples on a cluster of processes, against awk.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use millstream_integration::{Cluster, example, sorted_lines, workspace};

/// The output of an example's awk program for a file, sorted.
fn reference(program: &str, file: &Path) -> Vec<String> {
    let script = workspace().join("examples/reference").join(program);
    let output = Command::new("awk").arg("-f").arg(script).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn run(cluster: &Cluster, name: &str, input: &Path, output: &Path) {
    let arguments = ["--input", input.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let _ = cluster.run(&["-p", "4"], &example(name), &arguments).success();
}

/// The lines of a sink's files without the heads of CSV.
fn results(directory: &Path, head: &str) -> Vec<String> {
    let mut lines = sorted_lines(directory);
    lines.retain(|line| line != head);
    lines
}

#[test]
fn access_logs_and_card_payments_are_analysed_on_a_cluster() {
    let cluster = Cluster::builder().task_managers(2).slots(2).start();

    let log = cluster.data("access.log");
    let mut text = String::new();
    for n in 0..20_000 {
        let (path, status) = (n % 13, [200, 200, 404, 500][n % 4]);
        let line = format!("192.0.2.1 - - [t] \"GET /p{path} HTTP/1.1\" {status} {}", n % 1_000);
        let line = if n % 97 == 0 { &line[..n % 40] } else { &line };
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(&log, text).unwrap();
    let output = cluster.data("analysed");
    run(&cluster, "access_log", &log, &output);
    let traffic = results(&output.join("traffic"), "path,status,requests,bytes");
    let malformed = sorted_lines(&output.join("malformed"));
    let mut got: Vec<String> = traffic.iter().map(|line| format!("traffic {line}")).collect();
    got.extend(malformed.iter().map(|line| format!("malformed {line}")));
    got.sort();
    assert!(got == reference("access_log.awk", &log), "{got:#?}");

    let payments = cluster.data("payments.csv");
    let mut text = "time_ms,card,cents,country\n".to_owned();
    for n in 0..5_000_u64 {
        let cents = if n % 7 < 3 { 50 } else { 60_000 };
        let (card, country) = (n * n % 31, ["is", "is", "jp"][(n % 11 / 4) as usize]);
        writeln!(text, "{},card {card},{cents},{country}", n * 1_500).unwrap();
    }
    std::fs::write(&payments, text).unwrap();
    let output = cluster.data("alerts");
    run(&cluster, "card_fraud", &payments, &output);
    let got = results(&output, "time_ms,card,rule");
    let expected = reference("card_fraud.awk", &payments);
    assert!(!expected.is_empty() && got == expected, "{got:#?}");
}
