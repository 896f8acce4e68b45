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
fn each_option() {
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
    assert_eq!(job("rwmixread=70").read_percent, 70);
    assert_eq!(job("iodepth=32").iodepth, 32);
    assert_eq!(job("numjobs=3").copies, 3);
    assert_eq!(job("size=2g").region_bytes(), 2 << 30);
    let placed = job("size=1m\nfilesize=8m\noffset=4m");
    assert_eq!((placed.bytes_of_file(), placed.region_bytes(), placed.offset), (8 << 20, 1 << 20, 4 << 20));
    assert_eq!(job("size=8m\nfilesize=4m\noffset=1m").region_bytes(), 3 << 20);
    assert_eq!(job("size=8m\noffset=1m").bytes_of_file(), 9 << 20);
    assert_eq!(job("io_size=3m").budget(), Some(3 << 20));
    assert_eq!(job("io_limit=3m\nloops=2").budget(), Some(6 << 20));
    assert_eq!(job("").budget(), Some(1 << 20));
    assert_eq!(job("runtime=90").runtime, Some(Duration::from_secs(90)));
    assert_eq!(job("runtime=2m").runtime, Some(Duration::from_mins(2)));
    assert_eq!(job("runtime=250ms\ntime_based").budget(), None);
    assert!(!job("time_based=0").is_time_based);
    assert_eq!(job("ramp_time=3s").ramp_time, Duration::from_secs(3));
    assert_eq!(job("random_distribution=random").distribution, Distribution::Uniform);
    let zipf = |theta| Distribution::Zipf(Theta::new(theta).expect("in range"));
    assert_eq!(job("random_distribution=zipf").distribution, zipf(1.1));
    assert_eq!(job("random_distribution=zipf:0.99").distribution, zipf(0.99));
    assert!(job("").has_random_map);
    assert!(!job("norandommap").has_random_map);
    assert_eq!(job("randseed=18446744073709551615").seed, u64::MAX);
    assert_eq!(job("rate_iops=100").rate_iops, [Some(100); 3]);
    assert_eq!(job("rate_iops=100,50").rate_iops, [Some(100), Some(50), Some(50)]);
    assert!(job("verify=crc32c").verifies);
    assert!(job("verify=crc32c\nverify_only").verifies_only);
    assert!(job("group_reporting").is_group_reported);
    assert_eq!(job("percentile_list=50:99:99.9").percentiles, [50.0, 99.0, 99.9]);
    assert_eq!(job("loops=4").budget(), Some(4 << 20));
    assert!(job("stonewall").waits && job("wait_for_previous=1").waits && !job("stonewall=0").waits);
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
    assert_eq!((first.iodepth, second.iodepth, first.size), (9, 9, Some(4 << 20)));
    assert_eq!(first.given, [("rw".to_owned(), "write".to_owned())]);
    let global: Vec<_> = jobs.global.iter().map(|(option, value)| format!("{option}={value}")).collect();
    assert_eq!(global, ["bs=8k", "size=4m", "bs=16k", "iodepth=9"]);
}

#[test]
fn the_command_line_alone() {
    let given =
        [("rw", "randwrite"), ("size", "1g")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let jobs = Jobs::of_command_line("mine", &given).expect("a job");
    assert_eq!((&jobs.jobs[0].name[..], jobs.jobs[0].given.len()), ("mine", 2));
    let error = Jobs::of_command_line("mine", &[("size".to_owned(), "big".to_owned())]).expect_err("no size");
    assert!(error.to_string().starts_with("command line: size: not a size"), "{error}");
    let error = Jobs::of_command_line("mine", &[]).expect_err("no size");
    assert_eq!(error.to_string(), "command line: job `mine`: it needs a size");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, expected) in [
        ("", "line 1: there is no job"),
        ("[global]\nbs=4k\n", "line 2: there is no job"),
        ("bs=4k\n[a]\n", "line 1: `bs` stands above the first [section]"),
        ("[a\n", "line 1: neither [section] nor option=value"),
        ("[]\n", "line 1: neither [section]"),
        ("[a]\nsize=1m\nioengine=libaio\n", "line 3: there is no option `ioengine` here"),
        ("[a]\nsize=1m\n\n; x\ndirect\n", "line 5: there is no option `direct` here"),
        ("[a]\nrw=randtrim\n", "line 2: rw: must be"),
        ("[a]\nbs=0\n", "line 2: bs: must be more than 0"),
        ("[a]\nbs=17m\n", "line 2: bs: a block has at most 16 MiB"),
        ("[a]\nbs=1k,2k,3k,4k\n", "line 2: bs: at most three values"),
        ("[a]\nbs=\n", "line 2: bs: not a size"),
        ("[a]\nsize=4ki\n", "line 2: size: not a size"),
        ("[a]\nsize=50%\n", "line 2: size: a share of the file is not taken"),
        ("[a]\nsize=99999999p\n", "line 2: size: too large"),
        ("[a]\nbssplit=4k/60:8k/60\n", "line 2: bssplit: the percentages are more than 100"),
        ("[a]\nbssplit=4k/60:8k/30\n", "line 2: bssplit: the percentages are less than 100"),
        ("[a]\nbssplit=4k/100:8k\n", "line 2: bssplit: nothing is left"),
        ("[a]\nrwmixread=101\n", "line 2: rwmixread: too large"),
        ("[a]\niodepth=0\n", "line 2: iodepth: too small"),
        ("[a]\nnumjobs=many\n", "line 2: numjobs: not a whole number"),
        ("[a]\nruntime=1y\n", "line 2: runtime: not a time"),
        ("[a]\nruntime=99999999999d\n", "line 2: runtime: too long"),
        ("[a]\ntime_based=yes\n", "line 2: time_based: a flag stands alone"),
        ("[a]\nrandom_distribution=pareto\n", "line 2: random_distribution: must be"),
        ("[a]\nrandom_distribution=zipf:0\n", "line 2: random_distribution: must be"),
        ("[a]\nverify=md5\n", "line 2: verify: only crc32c"),
        ("[a]\nrandseed=-1\n", "line 2: randseed: not a whole number"),
        ("[a]\npercentile_list=50:101\n", "line 2: percentile_list: a percentile is above 0"),
        ("[a]\npercentile_list=99:50\n", "line 2: percentile_list: percentiles ascend"),
        ("[a]\npercentile_list=x\n", "line 2: percentile_list: not a list"),
        ("[a]\nworkload=ycsb-g\n", "line 2: workload: must be"),
        ("[a]\nobject_mix=put/50:get/40\n", "line 2: object_mix: not a mix"),
        ("; first\n[a]\nrw=read\n", "line 2: job `a`: it needs a size"),
        ("[a]\nsize=1m\ntime_based\n", "line 1: job `a`: time_based needs a runtime"),
        ("[a]\nsize=4k\nbs=8k\n", "line 1: job `a`: its region is smaller than a block"),
        ("[a]\nsize=4k\nfilesize=8k\noffset=8k\n", "line 1: job `a`: its region is smaller"),
        ("[a]\nsize=1m\nverify_only\n", "line 1: job `a`: verify_only needs verify"),
        ("[a]\nsize=1m\nrw=trim\nverify=crc32c\n", "line 1: job `a`: there is nothing to verify"),
        ("[a]\nsize=1m\nrw=write\nbs=1000\nverify=crc32c\n", "line 1: job `a`: verify takes blocks"),
        ("[a]\nsize=1m\nrw=write\noffset=100\nverify=crc32c\n", "line 1: job `a`: verify takes blocks"),
        ("[a]\nworkload=objects\n", "line 1: job `a`: it needs a runtime or an io_size"),
        (
            "[a]\nworkload=ycsb-a\nruntime=1\nverify=crc32c\n",
            "line 1: job `a`: only workload=blocks takes verify",
        ),
    ] {
        let said = error(text);
        assert!(said.starts_with(expected), "{text:?}: {said}");
    }
}
