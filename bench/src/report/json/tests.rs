//! The layout against fio's own: `fio-3.33.txt` lists all keys of what fio 3.33 wrote for a job of reads and writes, with
//! their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::blocks::Verified;
use crate::job::Jobs;
use crate::run::Totals;

fn a_report(operations: u64) -> Report {
    let options = "[a]\nrw=randrw\nsize=4m\niodepth=4\nverify=crc32c";
    let job = Jobs::parse(options, &[]).expect("a job").jobs.remove(0);
    let mut records: [Record; 3] = Default::default();
    for number in 0..operations {
        let latency = Duration::from_micros(10 + number % 90);
        let at = Duration::from_millis(number * 2);
        records[usize::from(number % 4 == 0)].add(4096, latency, at);
    }
    let report = JobReport {
        job: Arc::new(job),
        group: 0,
        copies: 1,
        records,
        depths: [0, operations / 4, operations - operations / 4, 0, 0, 0, 0],
        runtime: Duration::from_secs(2),
        verified: Verified::default(),
        ending: Ending::Done,
        cpu: (0.5, 0.25),
        events: (3, 0, 9),
    };
    Report {
        global: vec![("bs".to_owned(), "4k".to_owned())],
        ignored: Vec::new(),
        jobs: vec![report],
        totals: Totals::default(),
        began: UNIX_EPOCH + Duration::from_secs(1_795_265_373),
        time: Duration::from_secs(3),
        is_null: false,
    }
}

fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, &'static str>) {
    match value {
        Value::Object(object) if object.is_empty() => {
            into.insert(path.to_owned(), "object");
        }
        Value::Object(object) => {
            for (key, value) in object {
                walk(&format!("{path}/{key}"), value, into);
            }
        }
        Value::Array(_) => drop(into.insert(path.to_owned(), "list")),
        Value::String(_) => drop(into.insert(path.to_owned(), "text")),
        Value::Number(number) if number.is_f64() => drop(into.insert(path.to_owned(), "real")),
        Value::Number(_) => drop(into.insert(path.to_owned(), "whole")),
        Value::Bool(_) => drop(into.insert(path.to_owned(), "bool")),
        Value::Null => drop(into.insert(path.to_owned(), "null")),
    }
}

#[test]
fn every_key_of_fio_with_its_type() {
    let mut value = json(&a_report(1000));
    let mut ours = BTreeMap::new();
    value["jobs"][0]["job options"] = json!({});
    walk("job", &value["jobs"][0].take(), &mut ours);
    let top = value.as_object_mut().expect("an object");
    assert!(top.remove("seabed").is_some_and(|own| own.is_object()), "the one key that fio lacks");
    top.insert("global options".to_owned(), json!({}));
    for (key, value) in &*top {
        walk(key, value, &mut ours);
    }
    let theirs =
        include_str!("fio-3.33.txt").lines().map(|line| line.rsplit_once(' ').expect("key and type"));
    let theirs: BTreeMap<String, &str> = theirs.map(|(key, of)| (key.to_owned(), of)).collect();
    assert!(theirs.len() > 200, "the list was read");
    assert_eq!(ours, theirs);
}

#[test]
fn figures() {
    let value = json(&a_report(1000));
    let job = &value["jobs"][0];
    assert_eq!((&job["read"]["total_ios"], &job["write"]["total_ios"]), (&json!(750), &json!(250)));
    assert_eq!((&job["read"]["iops"], &job["read"]["bw_bytes"]), (&json!(375.0), &json!(1_536_000)));
    assert_eq!((&job["read"]["bw"], &job["read"]["runtime"]), (&json!(1500), &json!(2000)));
    assert_eq!((&job["read"]["bw_samples"], &job["write"]["bw_samples"]), (&json!(4), &json!(4)));
    assert_eq!((&job["iodepth_level"]["2"], &job["iodepth_level"]["4"]), (&json!(25.0), &json!(75.0)));
    assert_eq!((&job["usr_cpu"], &job["sys_cpu"]), (&json!(50.0), &json!(25.0)));
    assert_eq!(value["time"], "Sat Nov 21 12:49:33 2026");
    assert_eq!(value["global options"], json!({"bs": "4k"}));
    assert_eq!(job["job options"]["verify"], "crc32c");
    let shares: f64 = ["latency_ns", "latency_us", "latency_ms"]
        .iter()
        .flat_map(|name| job[name].as_object().expect("an object").values())
        .map(|share| share.as_f64().expect("a number"))
        .sum();
    assert!((shares - 100.0).abs() < 1e-6, "{shares}");
    // 10 to 99 us, evenly: 21 to 50 us are a third.
    assert!((job["latency_us"]["50"].as_f64().expect("a number") - 33.3).abs() < 2.0);
}

#[test]
fn nothing_was_done() {
    let mut value = json(&a_report(0));
    assert_eq!(value["jobs"][0]["read"]["iops"], 0.0);
    let clat = value["jobs"][0]["read"]["clat_ns"].take();
    assert_eq!(clat, json!({"min": 0, "max": 0, "mean": 0.0, "stddev": 0.0, "N": 0}));
}

#[test]
fn dates() {
    for (seconds, text) in [
        (0, "Thu Jan  1 00:00:00 1970"),
        (951_782_400, "Tue Feb 29 00:00:00 2000"),
        (4_107_542_399, "Sun Feb 28 23:59:59 2100"),
        (4_107_542_400, "Mon Mar  1 00:00:00 2100"),
    ] {
        assert_eq!(date_of(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
}
