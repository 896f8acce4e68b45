//! What job files say, and what is refused with its line.

use super::*;

fn job(options: &str) -> Job {
    let jobs = Jobs::parse(&format!("[a]\nsize=1m\n{options}\n"), &[]);
    jobs.unwrap_or_else(|error| panic!("{options}: {error}")).jobs.remove(0)
}

fn error(text: &str) -> String {
    Jobs::parse(text, &[]).expect_err(text).to_string()
}

#[test]
fn options_of_operations() {
    let split = |parts: &[(u64, u32)]| Split(parts.to_vec());
    for (text, is_random, mix) in [
        ("read", false, Mix::Read),
        ("write", false, Mix::Write),
        ("rw", false, Mix::Both),
        ("readwrite", false, Mix::Both),
        ("trim", false, Mix::Trim),
        ("randread", true, Mix::Read),
        ("randwrite", true, Mix::Write),
        ("randrw", true, Mix::Both),
        ("randtrim", true, Mix::Trim),
        ("trimwrite", false, Mix::TrimWrite),
        ("randtrimwrite", true, Mix::TrimWrite),
    ] {
        assert_eq!(job(&format!("rw={text}")).access, Access { is_random, mix });
        assert_eq!(job(&format!("readwrite={text}")).access.name(), text.replace("readwrite", "rw"));
    }
    assert_eq!(
        job("bs=8k").block_sizes,
        [split(&[(8192, 100)]), split(&[(8192, 100)]), split(&[(8192, 100)])]
    );
    let sizes = job("blocksize=512,4k").block_sizes;
    assert_eq!(sizes, [split(&[(512, 100)]), split(&[(4096, 100)]), split(&[(4096, 100)])]);
    let sizes = job("bssplit=4k/60:64k/40,,8k").block_sizes;
    assert_eq!(
        sizes,
        [split(&[(4096, 60), (65536, 40)]), split(&[(4096, 60), (65536, 40)]), split(&[(8192, 100)])]
    );
    assert_eq!(job("bssplit=4k/50:8k:16k").block_sizes[0], split(&[(4096, 50), (8192, 25), (16384, 25)]));
    assert_eq!(job("bssplit=4k:8k:16k").block_sizes[0], split(&[(4096, 34), (8192, 33), (16384, 33)]));
    assert_eq!(job("rw=randread:8").step, Step::Draw { operations: 8 });
    assert_eq!(job("rw=read:-8k").step, Step::Skip { bytes: -8192 });
    assert_eq!(job("rw=read").step, Step::Each);
    assert_eq!(job("rw_sequencer=identical").sequencer, Sequencer::Identical);
    assert_eq!(job("bsrange=4k-16k").block_sizes[2], split(&[(4096, 1), (8192, 1), (12288, 1), (16384, 1)]));
    assert_eq!(job("blocksize_range=8k:4k,4k-4k").block_sizes[0], split(&[(4096, 1), (8192, 1)]));
    assert_eq!(job("bsrange=4k-10k").block_sizes[0], split(&[(4096, 1), (8192, 1), (10240, 1)]));
    assert_eq!(job("bssplit= 4k/60 : 16k/ ").block_sizes[0], split(&[(4096, 60), (16384, 40)]));
    assert_eq!(job("blockalign=4k").aligns, Some([4096; 3]));
    assert_eq!(job("ba=4k,8k").aligns, Some([4096, 8192, 8192]));
    assert_eq!(job("percentage_random=100,50").random_percent, [100, 50, 50]);
    assert_eq!(job("rwmixread=70").read_percent, 70);
    assert_eq!(job("rwmixread=60\nrwmixwrite=30").read_percent, 70);
    assert_eq!(job("iodepth=32").iodepth, 32);
    assert_eq!(job("numjobs=3").copies, 3);
}

#[test]
fn options_of_places() {
    assert_eq!(job("size=2g").region_bytes(0), 2 << 30);
    let placed = job("size=1m\nfilesize=8m\noffset=4m");
    assert_eq!(
        (placed.bytes_of_file(0), placed.region_bytes(0), placed.region_start(0)),
        (8 << 20, 4 << 20, 4 << 20)
    );
    assert_eq!(placed.budget(0), Some(1 << 20), "with filesize, size is what is read and written");
    assert_eq!(job("size=8m\nfilesize=4m\noffset=1m").region_bytes(0), 3 << 20);
    assert_eq!(job("size=8m\noffset=1m").bytes_of_file(0), 9 << 20);
    assert_eq!(job("fileoffset=1m").region_start(0), 1 << 20);
    let part = job("filesize=10m\nsize=50%\noffset=25%");
    assert_eq!(
        (part.region_start(0), part.region_bytes(0), part.budget(0)),
        (2560 << 10, 5 << 20, Some(5 << 20))
    );
    let end = job("filesize=10m\nsize=50%\noffset=75%\noffset_align=1m");
    assert_eq!((end.region_start(0), end.region_bytes(0)), (8 << 20, 2 << 20));
    let apart = job("offset=1m\noffset_increment=4m\nnumjobs=3");
    assert_eq!([0, 1, 2].map(|copy| apart.region_start(copy)), [1 << 20, 5 << 20, 9 << 20]);
    assert_eq!((apart.bytes_of_file(2), apart.region_bytes(2)), (10 << 20, 1 << 20));
    assert_eq!(job("number_ios=7\nloops=2").operations_max(), Some(14));
    assert_eq!(job("io_size=3m").budget(0), Some(3 << 20));
    assert_eq!(job("io_size=50%").budget(0), Some(512 << 10));
    assert_eq!(job("io_limit=3m\nloops=2").budget(0), Some(6 << 20));
    assert_eq!(job("").budget(0), Some(1 << 20));
    assert_eq!(
        job("size=1000000\nbs=64k\nloops=3").budget(0),
        Some(3 * 15 * 65536),
        "whole blocks in each loop"
    );
    assert_eq!(job("rw=trimwrite").budget(0), Some(2 << 20));
    assert_eq!(job("timeout=9").runtime, Some(Duration::from_secs(9)));
    assert_eq!(job("runtime=0").runtime, None);
    assert_eq!(job("runtime=90").runtime, Some(Duration::from_secs(90)));
    assert_eq!(job("runtime=2m").runtime, Some(Duration::from_mins(2)));
    assert_eq!(job("runtime=250ms\ntime_based=1").budget(0), None);
    assert!(!job("time_based=0").is_time_based);
    assert_eq!(job("ramp_time=3s").ramp_time, Duration::from_secs(3));
}

#[test]
fn options_of_random_places() {
    assert_eq!(job("random_distribution=random").distribution, Distribution::Uniform);
    let centered = |theta, center| Distribution::Zipf { theta: Theta::new(theta).expect("in range"), center };
    let zipf = |theta| centered(theta, 0.0);
    assert_eq!(job("random_distribution=zipf").distribution, zipf(1.1));
    assert_eq!(job("random_distribution=zipf:0.99").distribution, zipf(0.99));
    assert_eq!(job("random_distribution=zipf:1.2:0.25").distribution, centered(1.2, 0.25));
    assert_eq!(job("random_distribution=pareto").distribution, Distribution::Pareto { h: 0.2, center: 0.0 });
    assert_eq!(
        job("random_distribution=pareto:0.3").distribution,
        Distribution::Pareto { h: 0.3, center: 0.0 }
    );
    let normal = Distribution::Normal { deviation: 10.0, center: 0.5 };
    assert_eq!(job("random_distribution=normal:10").distribution, normal);
    let percent = |parts: &[(u32, u32)]| {
        let zone = |(share, percent): &(u32, u32)| Zone { share: *share, extent: Amount::Percent(*percent) };
        parts.iter().map(zone).collect::<Vec<_>>()
    };
    let Distribution::Zoned(zones) = job("random_distribution=zoned:50/5:30/15:20/,60/10:40/20").distribution
    else {
        panic!("zones")
    };
    let writes = percent(&[(60, 10), (40, 20)]);
    assert_eq!(zones, [percent(&[(50, 5), (30, 15), (20, 80)]), writes.clone(), writes]);
    let Distribution::Zoned(zones) = job("random_distribution=zoned_abs:60/20k:40/100k").distribution else {
        panic!("zones")
    };
    assert_eq!(zones[2][1], Zone { share: 40, extent: Amount::Bytes(100 << 10) });
    let sequence = job("random_distribution=sequence:2,0,1\nrandom_sequence_stride=1");
    assert_eq!(
        (sequence.distribution, sequence.strides_sequence),
        (Distribution::Sequence(vec![2, 0, 1]), true)
    );
    assert!(job("").has_random_map);
    assert!(!job("norandommap").has_random_map);
    assert_eq!(job("randseed=18446744073709551615").seed, u64::MAX);
}

#[test]
fn options_of_time() {
    assert!(!job("randrepeat=0").is_repeatable && job("allrandrepeat=1").is_repeatable);
    assert_eq!(job("rate_iops=100").rate_iops, [Some(100); 3]);
    assert_eq!(job("rate_iops=,50").rate_iops, [None, Some(50), Some(50)]);
    assert_eq!(job("rate=1m").rate_bytes, [Some(1 << 20); 3]);
    assert_eq!(job("rate=500k,").rate_bytes, [Some(500 << 10), None, None]);
    assert!(job("rate_process=poisson").has_poisson_rate);
    let think = Think {
        time: Duration::from_millis(2),
        blocks: Some(8),
        is_at_issue: true,
        io_time: Some(Duration::from_secs(9)),
    };
    let text = "thinktime=2000\nthinktime_blocks=8\nthinktime_blocks_type=issue\nthinktime_iotime=9s";
    assert_eq!(job(text).think, Some(think));
    assert_eq!(job("startdelay=4").start_delay, (Duration::from_secs(4), Duration::from_secs(4)));
    assert_eq!(job("startdelay=1s-500ms").start_delay, (Duration::from_millis(500), Duration::from_secs(1)));
    assert!(job("exitall").exits_all);
    assert_eq!(job("exit_what=all").exit_what, ExitWhat::All);
    let waiting = Jobs::parse("[global]\nsize=1m\n[a]\n[b]\nwait_for=a\n", &[]).expect("jobs");
    assert_eq!(waiting.jobs[1].waits_for.as_deref(), Some("a"));
    assert_eq!(job("rate_iops=100,50").rate_iops, [Some(100), Some(50), Some(50)]);
    assert!(job("verify=crc32c").verifies);
    assert!(job("verify=crc32c\nverify_only").verifies_only);
}

#[test]
fn options_of_verification_and_reports() {
    for method in ["md5", "crc32c-intel", "crc64", "xxhash", "sha3-256", "meta", "pattern"] {
        assert!(job(&format!("verify={method}")).verifies, "{method}");
    }
    assert!(!job("verify=none").verifies && !job("verify=null").verifies);
    assert!(!job("verify=md5\ndo_verify=0").verifies_at_end);
    assert!(job("overwrite=1").overwrites);
    assert!(job("new_group").begins_group);
    assert_eq!(job("bs=1\nkb_base=1000\nsize=4k").region_bytes(0), 4000);
    assert!(job("group_reporting").is_group_reported);
    assert_eq!(job("percentile_list=50:99:99.9").percentiles, [50.0, 99.0, 99.9]);
    assert_eq!(job("loops=4").budget(0), Some(4 << 20));
    assert!(job("stonewall").waits && job("wait_for_previous=1").waits && !job("stonewall=0").waits);
}

#[test]
fn options_of_our_own_workloads() {
    let split = |parts: &[(u64, u32)]| Split(parts.to_vec());
    assert_eq!(job("workload=ycsb-d\nruntime=1").workload, Workload::Ycsb(Ycsb::D));
    assert_eq!(job("workload=replicated\nruntime=1").workload, Workload::Replicated);
    let objects =
        job("workload=objects\nobjects=7\nobject_sizes=1k/90:1m/10\nobject_mix=get/80:put/20\nio_size=1g");
    assert_eq!((objects.objects, objects.object_mix), (7, [20, 80, 0]));
    assert_eq!(objects.object_sizes, split(&[(1024, 90), (1 << 20, 10)]));
    assert_eq!(job("records=5").records, 5);
    assert_eq!(job("record_size=100").record_bytes, 100);
}

#[test]
fn every_option_is_tested_above() {
    let tested = include_str!("tests.rs");
    for spec in OPTIONS {
        for name in [&[spec.name], spec.aliases].concat() {
            assert!(tested.contains(&format!("{name}=")) || tested.contains(&format!("{name}\"")), "{name}");
        }
    }
}

#[test]
fn sections() {
    let text = "; a comment\n# another\n[global]\nbs=8k\n size = 4m \n\n[first]\nrw=write\n[global]\nbs=16k\n\
        [second]\nstonewall\nrw=randread\n";
    let jobs = Jobs::parse(text, &[("iodepth".to_owned(), "9".to_owned())]).expect("jobs");
    let [first, second] = &jobs.jobs[..] else { panic!("two jobs") };
    assert_eq!((&first.name[..], first.block_sizes[0].min(), first.access.name()), ("first", 8192, "write"));
    assert_eq!((&second.name[..], second.block_sizes[0].min(), second.waits), ("second", 16384, true));
    assert_eq!((first.iodepth, second.iodepth, first.size), (9, 9, Some(Amount::Bytes(4 << 20))));
    assert_eq!(first.given, [("rw".to_owned(), "write".to_owned())]);
    let global: Vec<_> = jobs.global.iter().map(|(option, value)| format!("{option}={value}")).collect();
    assert_eq!(global, ["bs=8k", "size=4m", "bs=16k", "iodepth=9"]);
}

#[test]
fn the_command_line_alone() {
    let given =
        [("rw", "randwrite"), ("size", "1g")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let jobs = Jobs::of_command_line("mine", &given, &Nothing).expect("a job");
    assert_eq!((&jobs.jobs[0].name[..], jobs.jobs[0].given.len()), ("mine", 2));
    let error = Jobs::of_command_line("mine", &[("size".to_owned(), "big".to_owned())], &Nothing)
        .expect_err("no size");
    assert!(error.to_string().starts_with("command line: size: not a size"), "{error}");
    let error = Jobs::of_command_line("mine", &[], &Nothing).expect_err("no size");
    assert!(error.to_string().starts_with("command line: job `mine`: it needs a size"), "{error}");
}

/// Options on the way of fio's users that no error named but the first one: a file was mended one line at a time.
#[test]
fn one_error_names_all_problems() {
    let said = error(
        "[global]\nflow=8\ndirect=1\n[a]\nsize=big\nzonemode=zbd\n[b]\nioengine=cpuio\nrw=fast\nno_such=1\n",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 7, "{said}");
    assert_eq!(lines[0], "6 problems");
    for (line, expected) in lines[1..].iter().zip([
        "  line 2 [global]: flow=8 is not supported: ",
        "  line 5 [a]: size: not a size",
        "  line 6 [a]: zonemode=zbd is not supported: ",
        "  line 8 [b]: ioengine=cpuio is not supported: ",
        "  line 9 [b]: rw: must be",
        "  line 10 [b]: there is no option `no_such`",
    ]) {
        assert!(line.starts_with(expected), "{said}");
    }
    // Two jobs that cannot run are both named, and the command line's options once.
    let also = [("iodepth".to_owned(), "0".to_owned())];
    let error = Jobs::parse("[a]\nrw=read\n[b]\nrw=read\n", &also).expect_err("too small");
    assert_eq!(error.to_string(), "command line: iodepth: too small");
    let said = super::tests::error("[a]\nrw=read\n[b]\nrw=read\n");
    assert!(
        said.contains("line 1 [a]: job `a`: it needs a size") && said.contains("line 3 [b]: job `b`: "),
        "{said}"
    );
}

#[test]
fn options_that_make_no_difference_are_ignored_and_listed() {
    let text = "[global]\nioengine=libaio\nname=x\n[a]\nsize=1m\ndirect=1\nthread\nflow=0\n\
        filename=${NOT_SET}/a;b\nverify=md5\nrw=write\n";
    let jobs = Jobs::parse(text, &[("fsync".to_owned(), "1".to_owned())]).expect("jobs");
    let listed: Vec<_> = jobs
        .ignored
        .iter()
        .map(|ignored| format!("{}: {}={}", ignored.origin, ignored.option, ignored.value))
        .collect();
    assert_eq!(
        listed,
        [
            "line 2 [global]: ioengine=libaio",
            "line 3 [global]: name=x",
            "line 6 [a]: direct=1",
            "line 7 [a]: thread=",
            "line 8 [a]: flow=0",
            "line 9 [a]: filename=${NOT_SET}/a",
            "line 10 [a]: verify=md5",
            "command line: fsync=1",
        ]
    );
    assert!(jobs.jobs[0].verifies);
    assert_eq!(
        jobs.jobs[0].given,
        [("size", "1m"), ("verify", "md5"), ("rw", "write")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
}

struct Files;

impl Surroundings for Files {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "DEPTH").then(|| "12".to_owned())
    }

    fn include(&self, path: &str) -> std::io::Result<String> {
        match path {
            "sizes" => Ok("; sizes\nsize=8m ; all of it\ninclude depth\n".to_owned()),
            "depth" => Ok("iodepth=${DEPTH}\nbs=9x\n".to_owned()),
            "section" => Ok("[b]\n".to_owned()),
            "itself" => Ok("include itself\n".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    fn cpus(&self) -> u64 {
        3
    }

    fn memory_mib(&self) -> u64 {
        64
    }
}

#[test]
fn includes_variables_and_keywords() {
    let error = |text: &str| Jobs::read(text, &[], &Files).expect_err(text).to_string();
    let said = error("[a]\ninclude sizes\nbs=4k\n");
    assert!(said.starts_with("depth line 2 [a]: bs: not a size"), "{said}");
    assert!(error("[a]\ninclude section\n").starts_with("section line 1 [a]: neither"));
    assert!(error("[a]\ninclude itself\n").contains("includes are too deep"));
    assert!(error("[a]\ninclude none\n").starts_with("line 2 [a]: include none: "));
    let text = "[global]\niodepth=${DEPTH}\nsize=2*$mb_memory\nnumjobs=$ncpus\n[a]\nrw=randread\n\
        size=(1m + 4k*3)  # an expression\nruntime=(2s)\n";
    let jobs = Jobs::read(text, &[], &Files).expect("jobs");
    let job = &jobs.jobs[0];
    assert_eq!((job.iodepth, job.copies, job.region_bytes(0)), (12, 3, (1 << 20) + (12 << 10)));
    assert_eq!(job.runtime, Some(Duration::from_secs(2)));
    assert_eq!(jobs.global[1], ("size".to_owned(), "128".to_owned()));
}

#[test]
fn units_are_fios() {
    let sizes = |units: &str, texts: &[&str]| -> Vec<u64> {
        texts.iter().map(|text| job(&format!("bs=1\nsize={text}\n{units}")).region_bytes(0)).collect()
    };
    let texts = ["4k", "4K", "4kb", "4KB", "4ki", "4KiB", "0x1000", "1m", "2g", "4096b"];
    assert_eq!(sizes("", &texts), [4096, 4096, 4096, 4096, 4096, 4000, 4096, 1 << 20, 2 << 30, 4096]);
    assert_eq!(
        sizes("kb_base=1000", &texts),
        [4000, 4000, 4000, 4000, 4000, 4096, 4096, 1_000_000, 2_000_000_000, 4096]
    );
}

#[test]
fn sections_of_one_name_are_jobs_of_their_own() {
    let jobs = Jobs::parse("[a]\nsize=1m\n[a]\nsize=2m\n[b]\nname=a\nsize=1m\n", &[]).expect("jobs");
    let names: Vec<_> = jobs.jobs.iter().map(|job| (&job.name[..], &job.file_name[..])).collect();
    assert_eq!(names, [("a", "a"), ("a", "a#2"), ("a", "a#3")]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, expected) in [
        ("", "line 1: there is no job"),
        ("[global]\nbs=4k\n", "line 2: there is no job"),
        ("bs=4k\n[a]\n", "line 1: `bs` is above the first [section]"),
        ("[a\n", "line 1: neither [section] nor option=value"),
        ("[]\n", "line 1: neither [section]"),
        ("[a]\nsize=1m\nioengyne=libaio\n", "line 3 [a]: there is no option `ioengyne`"),
        ("[a]\nsize=1m\n\n; x\ndirekt\n", "line 5 [a]: there is no option `direkt`"),
        ("[a]\nrw=trimread\n", "line 2 [a]: rw: must be"),
        ("[a]\nbs=0\n", "line 2 [a]: bs: must be more than 0"),
        ("[a]\nbs=17m\n", "line 2 [a]: bs: a block has at most 16 MiB"),
        ("[a]\nbs=1k,2k,3k,4k\n", "line 2 [a]: bs: at most three values"),
        ("[a]\nbs=\n", "line 2 [a]: bs: not a size"),
        ("[a]\nsize=4kx\n", "line 2 [a]: size: not a size"),
        ("[a]\nsize=50%\n", "line 1 [a]: job `a`: a size that is a percentage needs a filesize"),
        ("[a]\nsize=99999999p\n", "line 2 [a]: size: too large"),
        ("[a]\nbssplit=4k/60:8k/60\n", "line 2 [a]: bssplit: the percentages are more than 100"),
        ("[a]\nbssplit=4k/60:8k/30\n", "line 2 [a]: bssplit: the percentages are less than 100"),
        ("[a]\nbssplit=4k/100:8k\n", "line 2 [a]: bssplit: nothing is left"),
        ("[a]\nrwmixread=101\n", "line 2 [a]: rwmixread: too large"),
        ("[a]\niodepth=0\n", "line 2 [a]: iodepth: too small"),
        ("[a]\nnumjobs=many\n", "line 2 [a]: numjobs: not a whole number"),
        ("[a]\nruntime=1y\n", "line 2 [a]: runtime: not a time"),
        ("[a]\nruntime=99999999999d\n", "line 2 [a]: runtime: too long"),
        ("[a]\ntime_based=yes\n", "line 2 [a]: time_based: a flag stands alone"),
        ("[a]\nrandom_distribution=poisson\n", "line 2 [a]: random_distribution: must be"),
        ("[a]\nrandom_distribution=zipf:0\n", "line 2 [a]: random_distribution: zipf's theta"),
        ("[a]\nverify=md6\n", "line 2 [a]: verify: not one of fio's methods"),
        ("[a]\nrandseed=-1\n", "line 2 [a]: randseed: not a whole number"),
        ("[a]\npercentile_list=50:101\n", "line 2 [a]: percentile_list: a percentile is above 0"),
        ("[a]\npercentile_list=99:50\n", "line 2 [a]: percentile_list: percentiles ascend"),
        ("[a]\npercentile_list=x\n", "line 2 [a]: percentile_list: not a list"),
        ("[a]\nworkload=ycsb-g\n", "line 2 [a]: workload: must be"),
        ("[a]\nobject_mix=put/50:get/40\n", "line 2 [a]: object_mix: not a mix"),
        ("; first\n[a]\nrw=read\n", "line 2 [a]: job `a`: it needs a size"),
        ("[a]\nsize=1m\ntime_based\n", "line 1 [a]: job `a`: time_based needs a runtime"),
        ("[a]\nsize=4k\nbs=8k\n", "line 1 [a]: job `a`: its region is smaller than a block"),
        ("[a]\nsize=4k\nfilesize=8k\noffset=8k\n", "line 1 [a]: job `a`: its region is smaller"),
        ("[a]\nsize=1m\nverify_only\n", "line 1 [a]: job `a`: verify_only needs verify"),
        (
            "[a]\nsize=1m\nrw=trim\nverify=crc32c\n",
            "line 1 [a]: job `a`: there is nothing to verify after trims",
        ),
        ("[a]\nsize=1m\nrw=write\nbs=1000\nverify=crc32c\n", "line 1 [a]: job `a`: verify takes blocks"),
        ("[a]\nsize=1m\nrw=write\noffset=100\nverify=crc32c\n", "line 1 [a]: job `a`: verify takes blocks"),
        ("[a]\nworkload=objects\n", "line 1 [a]: job `a`: it needs a runtime, an io_size or number_ios"),
        (
            "[a]\nworkload=ycsb-a\nruntime=1\nverify=crc32c\n",
            "line 1 [a]: job `a`: only workload=blocks takes verify",
        ),
    ] {
        let said = error(text);
        assert!(said.starts_with(expected), "{text:?}: {said}");
    }
}

#[test]
fn what_is_wrong_with_fios_finer_options() {
    for (text, expected) in [
        ("[a]\nfilesize=1m\noffset=50%\nsize=1z\n", "line 4 [a]: size: there are no zones"),
        (
            "[a]\nsize=1m\noffset=50%\n",
            "line 1 [a]: job `a`: an offset that is a percentage needs a filesize",
        ),
        (
            "[a]\nsize=1m\nrandom_distribution=zoned:50/10\n",
            "line 3 [a]: random_distribution: the zones' shares",
        ),
        (
            "[a]\nsize=1m\nrandom_distribution=zoned:x\n",
            "line 3 [a]: random_distribution: not a list of zones",
        ),
        ("[a]\nsize=1m\nrandom_distribution=pareto:1\n", "line 3 [a]: random_distribution: pareto's h"),
        ("[a]\nsize=1m\nrandom_distribution=normal:100\n", "line 3 [a]: random_distribution: the deviation"),
        ("[a]\nsize=1m\nrandom_distribution=zipf:1.2:2\n", "line 3 [a]: random_distribution: not a number"),
        ("[a]\nsize=8k\nrandom_distribution=sequence:2\n", "line 1 [a]: job `a`: a block of its sequence"),
        (
            "[a]\nsize=1m\nrate=1m\nrate_iops=9\n",
            "line 1 [a]: job `a`: rate and rate_iops exclude each other",
        ),
        ("[a]\nsize=1m\nthinktime_blocks=9\n", "line 1 [a]: job `a`: options of thinktime need a thinktime"),
        ("[a]\nsize=1m\nwait_for=a\n", "line 1 [a]: job `a`: wait_for names no job before it"),
        (
            "[a]\nsize=1m\n[a]\nsize=1m\n[b]\nsize=1m\nwait_for=a\n",
            "line 5 [b]: job `b`: wait_for names more",
        ),
        ("[a]\nsize=1m\nexit_what=some\n", "line 3 [a]: exit_what: must be"),
        ("[a]\nsize=1m\nrw=randread:0\n", "line 3 [a]: rw: too small"),
        ("[a]\nsize=1m\nbsrange=1-16m\n", "line 3 [a]: bsrange: the largest block is more"),
        ("[a]\nsize=1m\nzonemode=zbd\n", "line 3 [a]: zonemode=zbd is not supported: there are no zones"),
        ("[a]\nsize=${NONE}\n", "line 2 [a]: size: the environment variable NONE is not set"),
        ("[a]\nsize=$ncpus/0\n", "line 2 [a]: size: not an expression"),
        ("[a]\nsize=(4k+)\n", "line 2 [a]: size: not an expression"),
        ("[a]\ninclude other.fio\n", "line 2 [a]: include other.fio: "),
        ("include other.fio\n[a]\n", "line 1: `include` is above the first [section]"),
        ("[a]\nsize=1m\nkb_base=1001\n", "line 3 [a]: kb_base: must be"),
    ] {
        let said = error(text);
        assert!(said.starts_with(expected), "{text:?}: {said}");
    }
}
