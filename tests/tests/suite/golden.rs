//! Golden images of every format version: each opens, is clean, holds what it held, takes writes, and is still what the
//! present program writes.

use std::path::{Path, PathBuf};

use seabed::Access;
use seabed_object::onode::{OnodeRef, Parts};
use seabed_object::{ObjectId, Transaction};
use seabed_segment::FORMAT_VERSION;
use seabed_tests::golden::again::{Kind, structures};
use seabed_tests::golden::contents::contents;
use seabed_tests::golden::{DEVICE_BYTES, Golden, Stored, bytes_of, disk_of, load, on_store, runs};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn all() -> Vec<(String, Stored)> {
    let versions = 1..=FORMAT_VERSION;
    let both = versions.flat_map(|version| Golden::ALL.map(|golden| (golden.stem(version), golden, version)));
    both.map(|(name, golden, version)| {
        let stored = load(&directory(), golden, version);
        let stored = stored.unwrap_or_else(|error| panic!("{name}: every version has its images: {error}"));
        (name, stored)
    })
    .collect()
}

fn assert_clean(name: &str, image: &[u8]) {
    let report = seabed_check::check(&image, &seabed_check::Options::default()).expect("a store");
    assert!(report.is_clean(), "{name}: {:?}", report.violations);
}

/// A new version of the format comes with images of its own; a change of the format without one fails the tests below.
#[test]
fn every_image_is_of_its_version() {
    for (version, golden) in (1..=FORMAT_VERSION).flat_map(|one| Golden::ALL.map(|golden| (one, golden))) {
        let Stored { image, .. } = load(&directory(), golden, version).expect("every version has its images");
        assert_eq!(image.len(), DEVICE_BYTES);
        assert_eq!(image[8..12], version.to_le_bytes(), "the version stands in the first superblock");
    }
    let files = std::fs::read_dir(directory()).expect("it is there").count();
    assert_eq!(files, 4 * FORMAT_VERSION as usize, "an image and its contents, twice for each version");
}

#[test]
fn each_opens_for_reading_and_holds_what_it_held() {
    for (name, stored) in all() {
        assert_clean(&name, &stored.image);
        let disk = disk_of(&stored.image);
        let (found, after) =
            on_store(&disk, Access::ReadOnly, async |store, _| contents(&store).await).expect("it opens");
        assert_eq!(found, stored.contents, "{name}");
        assert!(after.difference(&disk).is_empty(), "{name}: a mount that only reads writes nothing");
    }
}

#[test]
fn each_opens_for_writing_takes_writes_and_is_clean_again() {
    for (name, stored) in all() {
        let object = ObjectId::new("rewritten");
        let (before, after) = on_store(&disk_of(&stored.image), Access::ReadWrite, async |store, shard| {
            let before = contents(&store).await?;
            assert_eq!(before, stored.contents, "{name}");
            // Enough for a checkpoint by today's program, over what is there.
            let (one, two) = (store.pool("one").await?, store.pool("two").await?);
            for round in 0..40_u8 {
                let mut txn = Transaction::new();
                txn.write(&object, u64::from(round) * 1500, vec![round; 9000]);
                txn.omap_insert(&object, [(vec![b'r', round], vec![round; 50])]);
                one.submit(txn).await?;
            }
            two.remove("table").await?;
            store.create_pool("three").await?.put("new", vec![9; 200]).await?;
            let now = contents(&store).await?;
            shard.close().await?;
            Ok(now)
        })
        .expect("it takes writes");
        assert_ne!(before, stored.contents);
        assert_clean(&name, &bytes_of(&after));
        let (again, _) =
            on_store(&after, Access::ReadOnly, async |store, _| contents(&store).await).expect("it opens");
        assert_eq!(again, before, "{name}");
        let found = structures(&bytes_of(&after));
        let mut onodes = found.iter().filter(|(kind, _)| *kind == Kind::Onode);
        let has_extents =
            onodes.any(|(_, value)| OnodeRef::decode(value).expect("valid").parts.has(Parts::EXTENTS));
        assert_eq!(has_extents, !name.starts_with("v1"), "{name}: version 1 does not know them");
    }
}

/// The killed store was cut in a record: what a mount recovers is not only what a checkpoint holds.
#[test]
fn the_killed_store_has_a_torn_end() {
    let killed = load(&directory(), Golden::Killed, FORMAT_VERSION).expect("it is there");
    let (report, _) =
        on_store(&disk_of(&killed.image), Access::ReadOnly, async |_, shard| Ok(shard.report()))
            .expect("opens");
    assert!(report.torn.is_some() && report.records > 2, "{report:?}");
}

#[test]
fn what_is_encoded_today_is_what_was_written_then() {
    for (name, stored) in all() {
        let found = structures(&stored.image);
        for kind in Kind::ALL {
            assert!(found.iter().any(|(found, _)| *found == kind), "{name} has no {kind:?}");
        }
        assert!(found.len() > 500, "{name} has {}", found.len());
    }
}

/// Small enough to be kept: a store of three MiB in some kilobytes.
#[test]
fn the_files_are_small() {
    for (name, stored) in all() {
        let encoded = runs::encode(&stored.image);
        assert!(encoded.len() < 50_000, "{name} takes {}", encoded.len());
    }
}
