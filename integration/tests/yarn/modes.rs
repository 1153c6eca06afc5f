//! The three modes: a session, a cluster of one job, an application.

use std::time::Duration;

use millstream_integration::{
    Hadoop, OnYarn, application_id, binary, example, make_text, reference_counts, scale, until,
};

const DEADLINE: Duration = Duration::from_secs(60);

fn assert_nothing_left(yarn: &OnYarn) {
    until("no process of a container is left", DEADLINE, || {
        yarn.container_processes().is_empty().then_some(())
    });
    assert_eq!(yarn.staged(), [""; 0], "staged files are left");
}

#[test]
fn words_of_hdfs_are_counted_exactly_in_every_mode() {
    let yarn = OnYarn::new(Hadoop::start(2)).set("taskmanager.numberOfTaskSlots", "2");
    let text = yarn.data("text");
    make_text(&text, scale(4 << 20, 110 << 20));
    let expected = reference_counts(&text);
    let input = yarn.home("text");
    yarn.upload(&text, &input, 0o644);
    let program = example("word_count");
    let program = program.to_str().unwrap();

    let deployed = yarn.run("yarn-session", &["-d"]).success();
    let session = application_id(&deployed.stdout);
    for parallelism in ["1", "4"] {
        let output = yarn.home(&format!("session-{parallelism}"));
        let arguments = ["-p", parallelism, program, "--input", &input, "--output", &output];
        let _ = yarn.run("run", &arguments).success();
        assert!(yarn.sorted_lines(&output) == expected, "wrong counts in {output}");
    }
    let listed = yarn.run("list", &["-a"]).success();
    assert_eq!(listed.stdout.matches("(FINISHED)").count(), 2, "{}", listed.stdout);
    let _ = yarn.told("yarn-session", &["-id", &session], "stop\n").success();
    assert_eq!(yarn.ended(&session), "FINISHED/SUCCEEDED");
    assert_nothing_left(&yarn);

    for parallelism in ["1", "4"] {
        let output = yarn.home(&format!("per-job-{parallelism}"));
        let options = ["-t", "yarn-per-job", "-p", parallelism, program];
        let arguments = [&options[..], &["--input", &input, "--output", &output]].concat();
        let ran = yarn.run("run", &arguments).success();
        assert!(yarn.sorted_lines(&output) == expected, "wrong counts in {output}");
        assert_eq!(yarn.ended(&application_id(&ran.stdout)), "FINISHED/SUCCEEDED");
        assert_nothing_left(&yarn);
    }

    let staged = yarn.home("apps/word_count");
    yarn.upload(program.as_ref(), &staged, 0o755);
    for (parallelism, artifact) in [("1", staged.as_str()), ("4", program)] {
        let output = yarn.home(&format!("application-{parallelism}"));
        let options = ["-t", "yarn-application", "-p", parallelism, artifact];
        let arguments = [&options[..], &["--input", &input, "--output", &output]].concat();
        let ran = yarn.run("run-application", &arguments).success();
        let application = application_id(&ran.stdout);
        assert_eq!(yarn.ended(&application), "FINISHED/SUCCEEDED");
        assert!(yarn.sorted_lines(&output) == expected, "wrong counts in {output}");
        assert_nothing_left(&yarn);
    }
    // A program may have more jobs than one.
    let (program, output) = (binary("jobs"), yarn.home("twice"));
    let options = ["-t", "yarn-application", "-c", "twice", program.to_str().unwrap()];
    let arguments = [&options[..], &["--records", "100", "--output", &output]].concat();
    let ran = yarn.run("run-application", &arguments).success();
    assert_eq!(yarn.ended(&application_id(&ran.stdout)), "FINISHED/SUCCEEDED");
    for job in ["first", "second"] {
        assert_eq!(yarn.sorted_lines(&format!("{output}/{job}")).len(), 100);
    }
    assert_nothing_left(&yarn);
}
