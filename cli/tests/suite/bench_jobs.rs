//! Jobs as fio's on small stores: that each kind of workload runs, verifies and reports, not how fast it is.

use std::fs;

use crate::world::{Ended, World};

/// A store with room for what the jobs below write.
fn world() -> World {
    let world = World::empty();
    world.seabed(["format", "store", "--size", "256M", "--sparse"]).is(0);
    world
}

fn bench(world: &World, arguments: &[&str]) -> Ended {
    world.seabed([&["bench", "--store", "store", "--output-format=json"], arguments].concat())
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

#[test]
fn a_job_file_with_groups() {
    let world = world();
    let file = "[global]\nbs=4k\nsize=4m\n[fill]\nrw=write\nbs=64k\n[mixed]\nstonewall\nrw=randrw\nrwmixread=70\n\
        iodepth=8\nnumjobs=2\ngroup_reporting\nrandom_distribution=zipf:0.9\nverify=crc32c\n[old]\nstonewall\nrw=trim\n";
    fs::write(world.path("jobs.fio"), file).expect("written");
    let report = json(&bench(&world, &["jobs.fio"]).is(0));
    let names: Vec<_> = report["jobs"].as_array().expect("jobs").iter().map(|job| &job["jobname"]).collect();
    assert_eq!(names, ["fill", "mixed", "old"]);
    let [fill, mixed, old] = [0, 1, 2].map(|place| &report["jobs"][place]);
    assert_eq!((&fill["write"]["total_ios"], &fill["write"]["io_bytes"]), (&64.into(), &(4 << 20).into()));
    assert_eq!((&mixed["groupid"], &mixed["job options"]["numjobs"]), (&1.into(), &"2".into()));
    let of = |direction: &str| mixed[direction]["total_ios"].as_u64().expect("a number");
    assert_eq!(of("read") + of("write"), 2 * 1024, "both copies as one");
    assert!(of("read") > of("write") && of("write") > 0);
    assert_eq!(old["trim"]["io_bytes"], 4 << 20);
    assert!(report["seabed"]["verified_units"].as_u64().expect("a number") > 1000);
    assert_eq!(report["seabed"]["wrong_units"], 0);
    assert!(report["seabed"]["device_bytes"].as_u64().expect("a number") > 4 << 20);
    let own = |what: &str| report["seabed"][what].as_u64().expect("a number");
    assert!(own("device_reads") + own("data_hits") >= of("read"));
    assert!(report["seabed"]["node_loads"].is_u64());
    assert!(report["seabed"]["data_misses"].is_u64());
    world.is_clean();
}

#[test]
fn options_alone_and_over_a_file() {
    let world = world();
    fs::write(world.path("job.fio"), "[a]\nrw=randwrite\nsize=1m\n").expect("written");
    let report = json(&bench(&world, &["job.fio", "--bs=8k", "--iodepth=4", "--stonewall"]).is(0));
    assert_eq!(report["jobs"][0]["write"]["total_ios"], 128);
    assert_eq!(report["global options"]["iodepth"], "4");
    let report =
        json(&bench(&world, &["--name=mine", "--rw=randread", "--size=1m", "--clients=threads"]).is(0));
    assert_eq!(
        (&report["jobs"][0]["jobname"], &report["jobs"][0]["read"]["total_ios"]),
        (&"mine".into(), &256.into())
    );
    let text = world.seabed(["bench", "--store", "store", "--rw=read", "--size=1m", "--bs=64k"]).is(0);
    assert!(text.text().contains("read: ") && text.text().contains("p99.99"), "{}", text.text());
}

#[test]
fn a_page_for_people() {
    let world = world();
    let arguments = ["--name=<mine>", "--rw=randrw", "--size=2m", "--iodepth=4", "--html", "page.html"];
    bench(&world, &arguments).is(0);
    let page = fs::read_to_string(world.path("page.html")).expect("written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("&lt;mine&gt; read") && page.contains("&lt;mine&gt; write"));
    assert!(
        !page.contains("<mine>") && !page.contains("http") && !page.contains("NaN"),
        "it is whole by itself"
    );
    bench(&world, &["--size=1m", "--html", "nowhere/page.html"]).is(3).says("nowhere/page.html");
}

#[test]
fn what_is_wrong_is_told() {
    let world = world();
    fs::write(world.path("job.fio"), "[a]\nrw=randwrite\nzonemode=zbd\nioengyne=libaio\n").expect("written");
    let ended = bench(&world, &["job.fio", "--bs=x"]).is(2);
    let ended = ended.says("job.fio: 3 problems").says("line 3 [a]: zonemode=zbd is not supported");
    ended.says("line 4 [a]: there is no option `ioengyne`").says("command line: bs: not a size");
    bench(&world, &["--size=1m", "--bs=x"]).is(2).says("command line: bs: not a size");
    bench(&world, &["--size=1m", "--null"]).is(2);
    bench(&world, &["--size=1m", "--rw=write", "--verify=crc32c", "--clients=threads", "--iodepth=65"]).is(2);
    bench(&world, &["none.fio"]).is(3).says("none.fio");
    bench(&world, &[]).is(2).says("there is nothing to do");
    world
        .seabed(["bench", "--null", "--rw=write", "--size=1m", "--verify=crc32c", "--verify_only"])
        .is(2)
        .says("nothing to verify");
}

/// A job file as people have them: written for a device and an engine of the kernel's. Each of these options was an error.
#[test]
fn a_job_file_made_for_a_device_runs() {
    let world = world();
    let file = "; made for a device\n[global]\nioengine=libaio   ; of the kernel\ndirect=1\nthread\n\
        filename=/dev/nvme0n1\ngroup_reporting\nfilesize=2m\ninclude depth.fio\n[a]\nrw=randrw:4\nrwmixwrite=30\n\
        size=${TOTAL}\nfsync=1\nverify=md5\n[b]\nstonewall\nrw=read:4k\nsize=50%\nbs=4k\nstartdelay=1ms\n";
    fs::write(world.path("jobs.fio"), file).expect("written");
    fs::write(world.path("depth.fio"), "iodepth=2*$ncpus\n").expect("written");
    let run = |arguments: &[&str]| {
        let mut command = world.command(["bench", "--store", "store", "--output-format=json", "jobs.fio"]);
        command.args(arguments).env("TOTAL", "1024k").output().expect("it starts")
    };
    let output = run(&["--invalidate=1", "--ioengine=io_uring"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("ignored: ioengine, direct, thread (all jobs go through the store's own I/O)"),
        "{said}"
    );
    assert!(said.contains("ignored: filename (") && said.contains("ignored: fsync ("), "{said}");
    assert!(said.contains("ignored: verify (stamps of our own"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ios =
        |job: usize, direction: &str| report["jobs"][job][direction]["total_ios"].as_u64().expect("a number");
    assert_eq!((ios(0, "read") + ios(0, "write"), ios(1, "read")), (256, 256));
    assert!(ios(0, "read") > ios(0, "write"));
    let ignored = report["seabed"]["ignored_options"].as_array().expect("a list");
    assert_eq!(
        (&ignored[0]["where"], &ignored[0]["option"]),
        (&"line 3 [global]".into(), &"ioengine".into())
    );
    assert_eq!(report["seabed"]["wrong_units"], 0);
    let quiet = run(&["--quiet"]);
    assert_eq!(String::from_utf8_lossy(&quiet.stderr), "");
    world.is_clean();
}

/// Rates, pauses, delays, jobs that wait for others and end them: what was done is counted, not how fast.
#[test]
fn jobs_that_wait_and_end() {
    let world = world();
    let run = |text: &str| {
        fs::write(world.path("jobs.fio"), text).expect("written");
        json(&bench(&world, &["jobs.fio"]).is(0))
    };
    let ios = |report: &serde_json::Value, job: usize, direction: &str| {
        report["jobs"][job][direction]["total_ios"].as_u64().expect("a number")
    };
    // The second job reads what the first has written, and the third ends with the first that ends.
    let report =
        run("[global]\nsize=1m\nexitall\n[a]\nrw=write\nthinktime=100\nthinktime_blocks=16\niodepth=4\n\
        [b]\nnew_group\nwait_for=a\nrw=randread\nstartdelay=1ms\nnumber_ios=20\n\
        [c]\nrw=randread\nrate=4m\ntime_based\nruntime=1h\n");
    assert_eq!((ios(&report, 0, "write"), ios(&report, 1, "read")), (256, 20));
    let groups: Vec<_> = report["jobs"].as_array().expect("jobs").iter().map(|job| &job["groupid"]).collect();
    assert_eq!(groups, [0, 1, 1]);
    // What stands behind a stonewall does not begin after exit_what=all.
    let report = run("[global]\nsize=1m\nexitall\n[a]\nrw=read\nexit_what=all\n[b]\nstonewall\nrw=read\n");
    assert_eq!(report["jobs"].as_array().map(Vec::len), Some(1));
    for clients in ["--clients=threads", "--clients=shard"] {
        fs::write(
            world.path("jobs.fio"),
            "[a]\nrw=trimwrite\nsize=256k\nrate_iops=,,20000\nrate_process=poisson\n\
            iodepth=4\nthinktime=10\nthinktime_blocks_type=issue\nthinktime_blocks=5\n",
        )
        .expect("written");
        let report = json(&bench(&world, &["jobs.fio", clients]).is(0));
        assert_eq!((ios(&report, 0, "trim"), ios(&report, 0, "write")), (64, 64), "{clients}");
    }
    world.is_clean();
}

#[test]
fn verification_finds_what_somebody_else_wrote() {
    let world = world();
    let job = ["--rw=randwrite", "--size=1m", "--bssplit=4k/70:8k/30", "--verify=crc32c", "--norandommap"];
    let written = json(&bench(&world, &job).is(0));
    assert!(written["seabed"]["verified_units"].as_u64().expect("a number") > 100);
    let only: Vec<&str> = job.into_iter().chain(["--verify_only"]).collect();
    let report = json(&bench(&world, &only).is(0));
    assert_eq!(report["seabed"]["verified_units"], 256, "all of the file was written by the first run");
    assert_eq!(report["jobs"][0]["write"]["total_ios"], 0);
    // Another run without verification overwrites a block.
    bench(&world, &["--rw=randwrite", "--size=1m", "--io_size=4k"]).is(0);
    let report = bench(&world, &only).is(5);
    assert_eq!(json(&report)["seabed"]["wrong_units"], 1);
    world.is_clean();
}

#[test]
fn each_kind_of_workload() {
    let world = world();
    for (workload, size, more) in [
        ("objects", "4m", "--objects=50"),
        ("ycsb-a", "500k", "--records=500"),
        ("ycsb-b", "500k", "--records=500"),
        ("ycsb-c", "500k", "--records=500"),
        ("ycsb-d", "500k", "--records=500"),
        ("ycsb-e", "5m", "--records=500"),
        ("ycsb-f", "500k", "--records=500"),
        ("replicated", "2m", "--objects=2"),
    ] {
        let (kind, size) = (format!("--workload={workload}"), format!("--io_size={size}"));
        for clients in ["shard", "threads"] {
            let name = format!("--name={workload}-{clients}");
            let clients = format!("--clients={clients}");
            let report = json(&bench(&world, &[&kind, &size, more, "--iodepth=8", &clients, &name]).is(0));
            let job = &report["jobs"][0];
            let all: u64 = ["read", "write", "trim"]
                .iter()
                .map(|direction| job[*direction]["total_ios"].as_u64().expect("a number"))
                .sum();
            assert!(all > 30, "{workload}: {all}");
            assert_eq!(report["seabed"]["wrong_units"], 0, "{workload}");
            let looks = report["seabed"]["verified_units"].as_u64().expect("a number");
            assert_eq!(looks > 0, workload != "replicated", "{workload}: {looks}");
        }
    }
    world.is_clean();
}

#[test]
fn nothing_is_stored_with_null() {
    let world = World::empty();
    for options in
        [&["--rw=randrw", "--size=1g", "--io_size=16m"][..], &["--workload=ycsb-a", "--io_size=1m"]]
    {
        let arguments = [&["bench", "--null", "--iodepth=8", "--output-format=json"], options].concat();
        let report = json(&world.seabed(arguments).is(0));
        assert_eq!(
            (&report["seabed"]["null"], &report["seabed"]["device_bytes"]),
            (&true.into(), &().into())
        );
        assert!(report["jobs"][0]["read"]["total_ios"].as_u64().expect("a number") > 100);
    }
}

/// The engine's count of what it writes is what the kernel counts, where the file is on a device.
#[test]
fn both_counts_of_written_bytes_agree() {
    let world = world();
    let report = json(&bench(&world, &["--rw=randwrite", "--size=4m", "--io_size=16m", "--iodepth=8"]).is(0));
    let count = |name: &str| report["seabed"][name].as_u64();
    let own = count("device_bytes").expect("counted");
    assert!(own > 16 << 20, "{own}");
    if let Some(kernel) = count("kernel_bytes").filter(|kernel| *kernel > 0) {
        assert!(own.abs_diff(kernel) <= own / 50, "{own} {kernel}");
    }
}

#[test]
fn seabed_beside_files() {
    let world = World::empty();
    let arguments = ["bench", "compare", "--work=read", "--only=seabed,files", "--clients=2", "--data=4M"];
    let more = ["--directory=.", "--seconds=1", "--repeats=2", "--json", "--html=page.html", "--cache=64M"];
    let report = json(&world.seabed([&arguments[..], &more].concat()).is(0));
    for (place, name) in [(0, "seabed"), (1, "files")] {
        let one = &report["contestants"][place];
        assert_eq!((&one["name"], &one["clients"]), (&name.into(), &2.into()));
        assert_eq!(one["trials"].as_array().map(Vec::len), Some(2));
        assert!(one["figures"]["iops"]["median"].as_f64().is_some_and(|rate| rate > 0.0), "{one}");
        assert!(one["figures"]["cpu_seconds_per_million_less_null"]["median"].is_f64(), "its null was run");
        assert_eq!(one["trials"][0]["wrong"], 0);
    }
    assert_eq!(report["contestants"][0]["figures"]["iops"]["ratio"], 1.0);
    assert!(fs::read_to_string(world.path("page.html")).expect("written").contains("<td>peak memory</td>"));
    assert_eq!(fs::read_dir(world.path(".")).expect("readable").count(), 1, "only the page stays");
    world.seabed(["bench", "compare", "--only=null"]).is(2);
}

#[test]
#[cfg(not(feature = "peers"))]
fn a_peer_that_is_not_built_says_so() {
    let world = World::empty();
    let arguments =
        ["bench", "compare", "--directory=.", "--only=rocksdb", "--clients=1", "--seconds=1", "--data=4M"];
    let ended = world.seabed(arguments).is(1);
    assert!(
        ended.text().contains("rocksdb: failed: rocksdb is not in this build; it takes --features peers")
    );
}

#[test]
fn a_full_store_ends_the_run_and_it_says_so() {
    let world = World::new();
    let ended = bench(&world, &["--rw=write", "--bs=64k", "--size=200m", "--iodepth=4"]).is(4);
    let report = json(&ended);
    assert_eq!(report["seabed"]["ended"], "no space");
    assert!(report["jobs"][0]["write"]["total_ios"].as_u64().expect("a number") > 100);
}

#[test]
fn a_temporary_store_is_removed() {
    let world = World::empty();
    fs::create_dir(world.path("tmp")).expect("a directory");
    let output = world
        .command(["bench", "--rw=randwrite", "--size=1m", "--iodepth=2"])
        .env("TMPDIR", world.path("tmp"))
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a temporary store of"));
    assert_eq!(fs::read_dir(world.path("tmp")).expect("readable").count(), 0, "it cleans up");
}
