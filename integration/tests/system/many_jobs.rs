//! Many jobs on one cluster, one after another and at once, leave nothing behind.

use std::time::Duration;

use millstream_integration::{Cluster, process_memory, scale, until};

/// Limit on the memory that daemons keep, and on the time until they have given the rest back.
const KEPT_MAX: u64 = 10 << 20;
const DEADLINE: Duration = Duration::from_secs(10);

fn run_one(cluster: &Cluster, number: usize) {
    let output = cluster.data(&format!("job-{number}"));
    let arguments = ["--job", "neighbour", "--records", "5000", "--rate", "0", "--output"];
    let arguments = [&arguments[..], &[output.to_str().unwrap()]].concat();
    let _ = cluster.run_job(&["-p", "2"], &arguments).success();
    let lines = millstream_integration::sorted_lines(&output);
    assert_eq!(lines.len(), 97);
    std::fs::remove_dir_all(output).unwrap();
}

#[test]
fn a_program_asks_after_its_job_and_cancels_it() {
    let cluster = Cluster::builder().start();
    let outcome = cluster.run_job(&[], &["--job", "cancels"]).success();
    for line in ["ended CANCELED", "its state: CANCELED", ", as its program asked."] {
        assert!(outcome.stdout.contains(line), "{line} in {outcome:?}");
    }
    let detached = cluster.run_job(&["-d"], &["--job", "cancels"]);
    assert!(detached.stdout.contains("its end: the end of job"), "{detached:?}");
    assert!(detached.stdout.contains("was started with -d or by REST"), "{detached:?}");
}

#[test]
fn many_jobs_leave_nothing() {
    let mut cluster = Cluster::builder().task_managers(2).slots_with_memory(4, 128).start();
    run_one(&cluster, 0);
    let artifact = |cluster: &Cluster| {
        let files = cluster.census().files;
        files.iter().any(|path| path.parent().is_some_and(|dir| dir.ends_with("artifacts")))
    };
    until("the artifact of the first job is gone", DEADLINE, || {
        (!artifact(&cluster)).then_some(())
    });
    let before = cluster.census();
    let memory = |cluster: &Cluster| -> Vec<u64> {
        cluster.daemons().map(|daemon| process_memory(daemon.pid()).unwrap()).collect()
    };
    let memory_before = memory(&cluster);

    let in_turn = scale(15, 200);
    (0..in_turn).for_each(|number| run_one(&cluster, number));
    // More than there are slots for: some wait for others.
    let at_once = scale(6, 20);
    std::thread::scope(|scope| {
        let cluster = &cluster;
        for number in 0..at_once {
            scope.spawn(move || run_one(cluster, number));
        }
    });

    until("the daemons' memory is as before", DEADLINE, || {
        let now = memory(&cluster);
        let fits = now.iter().zip(&memory_before).all(|(now, before)| *now <= before + KEPT_MAX);
        fits.then(|| eprintln!("memory was {memory_before:?}, is {now:?}"))
    });
    cluster.wait_until_as_before(&before, DEADLINE);
    cluster.assert_daemons_live();
    assert_eq!(cluster.overview("jobs-finished"), Some(1 + in_turn as u64 + at_once as u64));
    assert_eq!(cluster.overview("slots-available"), Some(8));
}
