//! The fuzz targets without a fuzzer: every body on its seeds and on seeded mutations of them, and the canary that proves
//! that a body which fails is seen.

use seabed_tests::fuzz::{CANARY, TARGETS, Target, mutated, run};

/// How many mutations: decoders take microseconds, images some milliseconds, programs more.
fn count(target: &Target) -> u32 {
    match target.name {
        "image" => 400,
        "program" => 40,
        _ => 4000,
    }
}

fn hammer(target: &Target) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{}: nothing to begin with", target.name);
    for (number, seed) in seeds.iter().enumerate() {
        told(target, seed, &format!("seed {number}"));
    }
    let mut rng = fastrand::Rng::with_seed(11);
    for number in 0..count(target) {
        told(target, &mutated(&seeds, &mut rng), &format!("mutation {number}"));
    }
}

/// Runs a body; if it panics, the input is shown, to be written to a file for `fuzz/`.
fn told(target: &Target, input: &[u8], which: &str) {
    let ran = std::panic::catch_unwind(|| (target.run)(input));
    if ran.is_err() {
        let hex: Vec<String> = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} fails on {which}: {}", target.name, hex.concat());
    }
}

fn decoders() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().filter(|target| !["image", "program"].contains(&target.name))
}

#[test]
fn decoders_take_anything() {
    assert_eq!(decoders().count(), 15);
    decoders().for_each(hammer);
}

#[test]
fn images_with_right_checksums_do_no_harm() {
    hammer(TARGETS.iter().find(|target| target.name == "image").expect("one of them"));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 1 << 20, "{kib} KiB for images of 3 MiB");
}

/// Found by the target `image`: a parent named a leaf for an interval to which its rows do not belong. A leaf is taken into
/// memory at the place of its first row, since the tree may have changed while it was read; it was not of the place where it
/// was looked for, and was read again, for ever. Now that is tried some times, and then it is an error.
#[test]
fn a_leaf_that_its_parent_names_wrongly_is_an_error() {
    run("image", b"\xc7\x18\x2c\xfe\x84\xff\xff\x3a\xff\x29\xf7\x35\x1c\x18\x9c\x01\x01");
}

#[test]
fn programs_with_faults_keep_what_was_acknowledged() {
    hammer(TARGETS.iter().find(|target| target.name == "program").expect("one of them"));
}

#[test]
#[should_panic(expected = "canary fails on mutation")]
fn the_canary_is_heard() {
    hammer(&CANARY);
}

/// A binary in `fuzz/` for each target, and none besides.
#[test]
fn each_target_has_a_binary() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).expect("it is there");
    let mut names: Vec<&str> = TARGETS.iter().chain([&CANARY]).map(|target| target.name).collect();
    names.sort_unstable();
    for name in &names {
        let source = std::fs::read_to_string(directory.join(format!("fuzz_targets/{name}.rs")));
        let source = source.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(source.contains(&format!("run(\"{name}\"")), "{name} runs another body");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        run(name, &[]);
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
}
