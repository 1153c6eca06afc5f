//! Types that cannot go to another process, seen in one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::*;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flat {
    page: u64,
    #[serde(flatten)]
    more: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Click { page: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Optional {
    page: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OneWay {
    #[serde(serialize_with = "as_text")]
    page: u64,
}

fn as_text<S: Serializer>(page: &u64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(page)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unwritten {
    page: u64,
    #[serde(skip_serializing)]
    more: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unread {
    page: u64,
    #[serde(skip_deserializing)]
    more: u64,
}

/// Has ten records of `T` go to another task, or to another operator of the same task; what
/// failed, and whether the job ran.
fn send<T: Data>(
    record: fn(u64) -> T,
    exchange: bool,
    serialize_always: bool,
) -> (Result<Vec<u64>>, bool) {
    let mut settings = JobSettings::default();
    if !serialize_always {
        settings.config.insert(AS_THEY_ARE.to_owned(), String::new());
    }
    let out = Collect::new();
    let (result, seen) = run_and_see(settings, |env| {
        let records = env.source("numbers", Numbers(10)).map(move |n| Ok(record(n)));
        let records = if exchange { records.rebalance() } else { records };
        let bytes = records.map(|record| Ok(size_of_val(&record) as u64));
        bytes.sink("out", out.clone());
        Ok(())
    });
    (result.map(|()| out.records()), seen.is_some())
}

/// The type's records are refused before the job runs if they go to another task, and only then.
fn check_refused_when_planned<T: Data>(record: fn(u64) -> T) {
    for always in [false, true] {
        let (result, ran) = send(record, true, always);
        let error = format!("{:#}", result.unwrap_err());
        assert!(!ran, "{error}");
        assert!(error.contains("the main output of operator \"Map\" goes to another task"));
        assert!(error.contains(std::any::type_name::<T>()), "{error}");
        assert!(error.contains("a format that describes itself"), "{error}");
        assert_eq!(send(record, false, always).0.unwrap().len(), 10);
    }
}

#[test]
fn types_that_need_names_are_refused_when_the_job_is_planned() {
    check_refused_when_planned(|page| Flat { page, more: BTreeMap::new() });
    check_refused_when_planned(Untagged::Number);
    check_refused_when_planned(|page| Tagged::Click { page });
    check_refused_when_planned(serde_json::Value::from);
    check_refused_when_planned(|n| vec![(n, Some(Untagged::Text(String::new())))]);
}

/// The first record fails the job in one process as it would in two, and any record in tests.
fn check_fails<T: Data>(record: fn(u64) -> T, cause: &str) {
    for (exchange, always) in [(true, false), (true, true), (false, true)] {
        let (result, ran) = send(record, exchange, always);
        let error = format!("{:#}", result.unwrap_err());
        assert!(ran && error.contains(cause), "{error}");
        assert!(error.contains(std::any::type_name::<T>()), "{error}");
    }
}

#[test]
fn types_that_do_not_read_what_they_write_fail_with_their_name() {
    check_fails(|page| OneWay { page }, "a record of type");
    check_fails(|page| Unwritten { page, more: 7 }, "writes less than its Deserialize reads");
    check_fails(|page| Unread { page, more: 7 }, "writes more than its Deserialize reads");
    check_fails(|page| Optional { page, more: None }, "a format that describes itself");
}

#[test]
fn a_record_that_only_sometimes_fails_is_found_by_tests() {
    let sometimes = |page| Optional { page, more: (page != 7).then_some(page) };
    let (result, _) = send(sometimes, true, true);
    assert!(format!("{:#}", result.unwrap_err()).contains("skip_serializing_if"));
    let (result, _) = send(sometimes, false, true);
    assert!(format!("{:#}", result.unwrap_err()).contains("skip_serializing_if"));
}

#[test]
fn long_records_pass_through_rows_too() {
    let out = Collect::new();
    run(2, |env| {
        let texts =
            env.source("numbers", Numbers(40)).map(|n| Ok("x".repeat(500_000 + n as usize)));
        texts.rebalance().map(|text| Ok(text.len())).sink("out", out.clone());
        Ok(())
    });
    assert_eq!(out.records(), (500_000..500_040).collect::<Vec<usize>>());
}
