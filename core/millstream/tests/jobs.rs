//! Programs that look at their jobs: records that come while a job runs, its state, its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream::prelude::*;
use millstream::{Error, JobStatus, testing};

fn endless(env: &mut Environment, made: &Arc<AtomicU64>) -> Stream<u64> {
    let made = Arc::clone(made);
    env.source("numbers", Datagen::from_fn(|n| n)).map(move |n| {
        made.fetch_max(n, Ordering::Relaxed);
        Ok(n)
    })
}

#[test]
fn records_come_while_the_job_runs_and_no_faster_than_they_are_taken() {
    for parallelism in [1, 3] {
        let (mut env, made) = (testing::environment(), Arc::default());
        env.set_parallelism(parallelism);
        let numbers = endless(&mut env, &made);
        let mut records = env.execute_and_collect("numbers", numbers).unwrap();
        let first = records.next().unwrap().unwrap();
        assert!(first < 3 * 10_000, "{first}");
        // Nothing takes any: the tasks stop.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut before = made.load(Ordering::Relaxed);
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = made.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            assert!(Instant::now() < deadline, "it goes on at {now}");
            before = now;
        }
        assert!(before < 1_000_000, "{before} records were made, and one was taken");
        let more: Vec<u64> = records.by_ref().take(100_000).collect::<Result<_>>().unwrap();
        assert_eq!(more.len(), 100_000);
        let job = records.job().clone();
        drop(records);
        assert!(job.result().unwrap_err().to_string().ends_with("was cancelled"));
    }
}

#[test]
fn all_records_of_a_job_that_ends_are_collected_once_in_both_modes() {
    for (mode, parallelism) in [(RuntimeMode::Streaming, 2), (RuntimeMode::Batch, 3)] {
        let mut env = testing::environment();
        env.set_runtime_mode(mode);
        env.set_parallelism(parallelism);
        let odd = env
            .source("numbers", Datagen::sequence(0..50_000))
            .on_error(OnError::drop_record())
            .map(|n| if n % 2 == 1 { Ok(n) } else { Err(millstream::error!("{n} is even")) });
        let records = env.execute_and_collect("odd", odd).unwrap();
        let mut records: Vec<u64> = records.collect::<Result<_>>().unwrap();
        records.sort_unstable();
        assert!(records.into_iter().eq((0..50_000).filter(|n| n % 2 == 1)));
    }
}

#[test]
fn the_failure_of_a_job_is_the_last_record() {
    let mut env = testing::environment();
    let numbers = env.source("numbers", Datagen::sequence(0..6)).map(|n| {
        millstream::ensure!(n != 3, "no {n}");
        Ok(n)
    });
    let records = env.execute_and_collect("numbers", numbers).unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = records.partition(Result::is_ok);
    assert!(good.len() <= 3, "{good:?}");
    let [Err(error)] = &bad[..] else { panic!("{bad:?}") };
    assert!(error.to_string().contains("no 3"), "{error}");
}

#[test]
fn a_policy_before_the_end_is_refused() {
    let mut env = testing::environment();
    let numbers = env.source("numbers", Datagen::sequence(0..6)).on_error(OnError::drop_record());
    let error = env.execute_and_collect("numbers", numbers).err().unwrap().to_string();
    assert!(error.contains("on_error() before execute_and_collect() has no effect"), "{error}");
}

#[test]
fn a_job_is_asked_cancelled_and_waited_for() {
    let (mut env, made) = (testing::environment(), Arc::default());
    endless(&mut env, &made).sink("nowhere", DiscardSink::new());
    let job = env.execute_async("endless").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while job.status().unwrap() != JobStatus::Running {
        assert!(Instant::now() < deadline, "{:?}", job.status());
        std::thread::sleep(Duration::from_millis(1));
    }
    let same = job.clone();
    job.cancel().unwrap();
    let error: Error = same.result().unwrap_err();
    assert!(error.to_string().ends_with("was cancelled"), "{error}");
    assert_eq!(job.status().unwrap(), JobStatus::Canceled);
    // Once more changes nothing.
    job.cancel().unwrap();
    assert_eq!(job.result().unwrap_err().to_string(), error.to_string());
}
