//! The architecture as a test: who may depend on whom, who may name glommio, and a module doc in every file.
//!
//! The manifests are read as they are: the members of the workspace, their `[dependencies]`, and their `[dev-dependencies]`
//! where even tests must not reach further.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that each may depend on; `types` may be used by all. Nothing else is an arrow.
const ARROWS: [(&str, &[&str]); 12] = [
    ("types", &[]),
    ("device", &[]),
    ("segment", &["device"]),
    ("journal", &["device", "segment"]),
    ("btree", &[]),
    ("object", &[]),
    ("cleaner", &[]),
    ("engine", &["device", "segment", "journal", "btree", "object", "cleaner"]),
    ("check", &["segment", "journal", "btree", "object"]),
    ("bench", &["cleaner", "engine"]),
    ("cli", &["engine", "check", "bench"]),
    (
        "tests",
        &["device", "segment", "journal", "btree", "object", "cleaner", "engine", "check", "bench", "cli"],
    ),
];

/// The crates that may name glommio. The engine may pass it on, in one line.
const NAME_GLOMMIO: [&str; 3] = ["device", "bench", "cli"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of the workspace's members.
fn members() -> Vec<String> {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, list) = manifest.split_once("\nmembers = [").expect("the workspace lists its members");
    let (list, _) = list.split_once(']').expect("the list ends");
    list.split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|m| !m.is_empty())
        .collect()
}

/// The crates of this workspace that a section of a member's manifest names.
fn of_section(member: &str, wanted: &str) -> BTreeSet<String> {
    let manifest = read(&root().join(member).join("Cargo.toml"));
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            // A table of its own for one dependency would escape the reading of lines below.
            assert!(!name.contains("dependencies."), "{member}: [{name}]: write it as one line");
            assert!(!name.starts_with("target"), "{member}: [{name}]: no dependency by target");
        } else if section == wanted {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            match name.strip_prefix("seabed-") {
                Some(folder) => drop(found.insert(folder.to_owned())),
                None if name == "seabed" => drop(found.insert("engine".to_owned())),
                None => {}
            }
        }
    }
    found
}

/// The sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn dependencies_have_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let members = members();
    assert_eq!(
        members.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        allowed.keys().copied().collect(),
        "a new crate takes its place here"
    );
    let mut arrows = 0;
    for member in &members {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = "));
        let name = name.expect("a package has a name").trim_matches('"');
        let expected = if member == "engine" { "seabed".to_owned() } else { format!("seabed-{member}") };
        assert_eq!(name, expected, "packages are called by their folders");
        for on in of_section(member, "dependencies") {
            arrows += 1;
            let may = on == "types" || allowed[member.as_str()].contains(&on.as_str());
            assert!(may, "{member} must not depend on {on}");
        }
    }
    assert!(arrows > 20, "the manifests were understood");
}

#[test]
fn the_checker_is_independent_of_the_engine() {
    let mut reached: BTreeSet<String> = BTreeSet::from(["check".to_owned()]);
    let mut open = vec!["check".to_owned()];
    while let Some(member) = open.pop() {
        for on in of_section(&member, "dependencies") {
            if reached.insert(on.clone()) {
                open.push(on);
            }
        }
    }
    assert!(!reached.contains("engine"), "by any way: {reached:?}");
    let direct: BTreeSet<String> = ["dependencies", "build-dependencies"]
        .iter()
        .flat_map(|section| of_section("check", section))
        .collect();
    assert!(!direct.contains("device"), "it reads through its own trait");
    assert!(!of_section("check", "dev-dependencies").contains("engine"), "nor in its tests");
}

#[test]
fn only_the_seam_names_glommio() {
    let mut named = BTreeSet::new();
    for member in members() {
        for path in sources(&root().join(&member)) {
            // What embedders write names it.
            let is_embedder = path.components().any(|part| part.as_os_str() == "examples")
                || path.ends_with("tests/store/embed.rs");
            if is_embedder || path.file_name().is_some_and(|name| name == "architecture.rs") {
                continue;
            }
            let text = read(&path);
            // What is said in comments, and this workspace's own module of that name, is no use of it.
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            let uses: Vec<&str> = code
                .filter(|line| {
                    let line = line.replace("seabed_device::glommio_host", "").replace("glommio_host", "");
                    line.contains("glommio::")
                        || line.contains("glommio;")
                        || line.contains("extern crate glommio")
                })
                .collect();
            if uses.is_empty() {
                continue;
            }
            named.insert(member.clone());
            let passed_on = member == "engine"
                && path.ends_with("src/lib.rs")
                && uses == ["pub use seabed_device::glommio;"];
            assert!(
                passed_on || NAME_GLOMMIO.contains(&member.as_str()),
                "{} names glommio: {uses:?}",
                path.display()
            );
        }
    }
    assert!(named.contains("device"), "the sources were read");
    assert!(named.contains("engine"), "the line that passes it on was seen");
}

#[test]
fn every_file_opens_with_a_module_doc() {
    let mut files = 0;
    for member in members() {
        for path in sources(&root().join(&member).join("src")) {
            files += 1;
            let text = read(&path);
            assert!(text.starts_with("//! "), "{} opens without a module doc", path.display());
        }
    }
    assert!(files > 100, "the sources were found");
}
