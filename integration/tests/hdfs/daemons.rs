//! The harness itself.

use millstream_integration::{Hadoop, USER};

#[test]
fn daemons_are_killed_paused_and_restarted() {
    let mut hadoop = Hadoop::start(2);
    let home = format!("/user/{USER}");
    let owner = |hadoop: &Hadoop| {
        let status = hadoop.webhdfs("GET", &home, "GETFILESTATUS");
        status["FileStatus"]["owner"].as_str().unwrap().to_owned()
    };
    assert_eq!(owner(&hadoop), USER);
    let names: Vec<String> = hadoop.names().map(str::to_owned).collect();
    for name in &names {
        let before = hadoop.daemon(name).pid();
        hadoop.restart(name);
        assert_ne!(hadoop.daemon(name).pid(), before);
    }
    hadoop.wait_until_ready();
    assert_eq!(owner(&hadoop), USER);
    hadoop.daemon("namenode").pause();
    hadoop.daemon("namenode").resume();
    hadoop.wait_until_ready();
    hadoop.dfs_admin(&["-report"]);
    let dir = hadoop.dir().to_owned();
    drop(hadoop);
    assert!(!dir.exists());
}
