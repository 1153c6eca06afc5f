//! The first example, against the tools of every Unix.

use std::path::Path;
use std::process::Command;

use millstream_integration::{
    Cluster, Outcome, binary, example, make_text, reference_counts, scale, sorted_lines,
};
use serde_json::json;

fn arguments<'a>(input: &'a Path, output: &'a Path) -> [&'a str; 4] {
    ["--input", input.to_str().unwrap(), "--output", output.to_str().unwrap()]
}

#[test]
fn words_are_counted_exactly_at_every_parallelism_and_locally() {
    let cluster = Cluster::builder().task_managers(2).start();
    let text = cluster.data("text");
    make_text(&text, scale(4 << 20, 110 << 20));
    let expected = reference_counts(&text);
    assert!(expected.len() > 1_000);
    let program = example("word_count");
    for parallelism in ["1", "2", "4"] {
        let output = cluster.data(&format!("counts-{parallelism}"));
        let start = std::time::Instant::now();
        let arguments = arguments(&text, &output);
        let _ = cluster.run(&["-p", parallelism], &program, &arguments).success();
        eprintln!("parallelism {parallelism}: {:?}", start.elapsed());
        assert!(sorted_lines(&output) == expected, "wrong counts at parallelism {parallelism}");
    }
    let output = cluster.data("counts-local");
    let mut local = Command::new(program);
    local.args(arguments(&text, &output));
    let _ = Outcome::of(local).success();
    assert!(sorted_lines(&output) == expected, "wrong counts locally");
}

/// A program that builds another job for another name must build the same one in its hosts.
#[test]
fn one_program_has_several_jobs_by_name() {
    let cluster = Cluster::builder().start();
    let output = cluster.data("sums");
    let arguments = ["--records", "1000", "--rate", "0", "--groups", "10", "--output"];
    let arguments = [&arguments[..], &[output.to_str().unwrap()]].concat();
    let _ = cluster.run_job(&["-p", "2", "-c", "neighbour"], &arguments).success();
    assert_eq!(sorted_lines(&output).len(), 10);
    let jar = cluster.rest.upload_jar(&binary("jobs"));
    let over_rest = cluster.data("sums-over-rest");
    let arguments = [&arguments[..7], &[over_rest.to_str().unwrap()]].concat();
    let request = json!({ "entryClass": "neighbour", "programArgsList": arguments });
    let answer = cluster.rest.post(&format!("/v1/jars/{jar}/run"), &request);
    assert_eq!(answer.status, 200, "{}", answer.text);
    cluster.job(answer.json["jobid"].as_str().unwrap()).wait_for("FINISHED");
    assert_eq!(sorted_lines(&over_rest), sorted_lines(&output));
    let refused = cluster.run_job(&["-c", "nonsense"], &[]);
    let complaint = refused.complaint();
    assert!(complaint.contains("there is no job \"nonsense\""), "{complaint}");
}

#[test]
fn a_directory_with_odd_bytes_is_counted_too() {
    let cluster = Cluster::builder().start();
    let texts = cluster.data("texts");
    std::fs::create_dir(&texts).unwrap();
    std::fs::write(texts.join("one"), b"Na\xc3\xafve \xff\xfe one\r\n\r\n\0two ONE").unwrap();
    std::fs::write(texts.join("two"), b"").unwrap();
    std::fs::write(texts.join("three"), vec![b'x'; 3 << 20]).unwrap();
    let output = cluster.data("counts");
    let _ =
        cluster.run(&["-p", "2"], &example("word_count"), &arguments(&texts, &output)).success();
    let long = format!("{} 1", "x".repeat(3 << 20));
    assert_eq!(sorted_lines(&output), ["na 1", "one 2", "two 1", "ve 1", long.as_str()]);
}
