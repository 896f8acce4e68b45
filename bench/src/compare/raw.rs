//! Raw: what the device does by itself, through fio, on a file that was written once from end to end.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{CompareError, Contestant, PERCENTILES, Setup, Trial, Work};

pub(super) fn run(setup: &Setup) -> Result<Trial, CompareError> {
    let is_null = setup.contestant == Contestant::NullFio;
    if !is_null {
        // Past the page cache: what is in there slows every direct write of it down.
        fio(setup, &["--rw=write", "--bs=1m", "--ioengine=psync", "--direct=1", "--end_fsync=1"])?;
    }
    let seconds = format!("--runtime={}", setup.time.as_secs().max(1));
    let depth = format!("--iodepth={}", setup.clients);
    let percentiles = PERCENTILES.map(|percent| percent.to_string()).join(":");
    let percentiles = format!("--percentile_list={percentiles}");
    let mut options = vec![
        match setup.work {
            Work::Overwrite => "--rw=randwrite",
            Work::Read => "--rw=randread",
            Work::Put => return Err(wrong("a bare device has no objects")),
        },
        "--bs=4k",
        if is_null { "--ioengine=null" } else { "--ioengine=io_uring" },
        "--norandommap",
        "--time_based",
        &seconds,
        &depth,
    ];
    if !is_null {
        options.push("--direct=1");
    }
    match (setup.contestant, setup.work) {
        (Contestant::RawDsync, Work::Overwrite) => options.push("--sync=dsync"),
        (Contestant::RawFlush, Work::Overwrite) => options.push("--fdatasync=1"),
        _ => {}
    }
    let mut told = options.join(" ");
    if setup.contestant == Contestant::RawFlush {
        // fio counts the flush as an operation of its own.
        told.push_str("; latencies are those of the writes, without the flush that follows each");
    }
    options.push(&percentiles);
    trial(setup, &fio(setup, &options)?, told).ok_or_else(|| wrong("its report is not understood"))
}

fn wrong(why: &str) -> CompareError {
    CompareError::Peer { name: "fio", why: why.to_owned() }
}

fn fio(setup: &Setup, options: &[&str]) -> Result<Value, CompareError> {
    let output = Command::new("fio")
        .args(["--name=raw", "--output-format=json", "--thread"])
        .arg(format!("--filename={}", setup.directory.join("raw").display()))
        .arg(format!("--size={}", setup.values() * setup.value_bytes()))
        .args(options)
        .output()
        .map_err(|error| CompareError::Io { doing: "starting fio", error })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(wrong(said.lines().next().unwrap_or("it failed")));
    }
    // It may write notes above its report.
    let from = output.stdout.iter().position(|byte| *byte == b'{').unwrap_or(0);
    serde_json::from_slice(&output.stdout[from..]).map_err(|error| wrong(&error.to_string()))
}

fn trial(setup: &Setup, report: &Value, options: String) -> Option<Trial> {
    let job = &report["jobs"][0];
    let direction = match setup.work {
        Work::Overwrite | Work::Put => &job["write"],
        Work::Read => &job["read"],
    };
    let seconds = Duration::from_millis(direction["runtime"].as_u64()?).as_secs_f64();
    let percentiles = &direction["clat_ns"]["percentile"];
    // fio tells CPU time as a share of the job's time.
    let cpu_share = (job["usr_cpu"].as_f64()? + job["sys_cpu"].as_f64()?) / 100.0;
    let cpu_time = Duration::from_millis(job["job_runtime"].as_u64()?).as_secs_f64() * cpu_share;
    let bytes = direction["io_bytes"].as_u64()?;
    Some(Trial {
        clients: setup.clients,
        operations: direction["total_ios"].as_u64()?,
        bytes,
        seconds,
        latencies: PERCENTILES.map(|percent| percentiles[format!("{percent:.6}")].as_f64().unwrap_or(0.0)),
        cpu_seconds: cpu_time,
        stolen: 0.0,
        own_bytes: (setup.work == Work::Overwrite && setup.contestant != Contestant::NullFio)
            .then_some(bytes),
        kernel_bytes: None,
        peak_bytes: None,
        wrong: 0,
        ran_out: false,
        options,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fios_report() {
        let setup = Setup {
            work: Work::Overwrite,
            contestant: Contestant::RawDsync,
            clients: 8,
            data_bytes: 1 << 20,
            cache_bytes: 0,
            time: Duration::from_secs(2),
            directory: "/tmp".into(),
            free_bytes: 0,
        };
        let percentiles = json!({"50.000000": 1000, "99.000000": 2000, "99.900000": 3000, "99.990000": 4000});
        let report = json!({"jobs": [{
            "usr_cpu": 10.0, "sys_cpu": 40.0, "job_runtime": 2000,
            "write": {"io_bytes": 40960, "total_ios": 10, "runtime": 1000, "clat_ns": {"percentile": percentiles}},
        }]});
        let trial = trial(&setup, &report, String::new()).expect("understood");
        assert_eq!((trial.operations, trial.own_bytes), (10, Some(40960)));
        assert_eq!(trial.latencies.map(|latency| format!("{latency}")), ["1000", "2000", "3000", "4000"]);
        assert!((trial.cpu_seconds - 1.0).abs() < 1e-9 && (trial.rate() - 10.0).abs() < 1e-9);
        assert_eq!(super::trial(&setup, &json!({}), String::new()), None);
    }
}
