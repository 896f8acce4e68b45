//! Nodes: bytes that are not the pointer's, pages that contradict their parents, pointers that lead nowhere.

use seabed_check::{NodeFault, Report, Violation};
use seabed_types::{NodePtr, Paddr, SegmentId, TreeKind};

use super::clean::{NAMES, check_all, expect, populated};
use super::objects::{names_key, onode};
use super::shard::{Edits, Shard};

/// A store whose names tree has two leaves or more below one root; the image of its nodes is edited.
pub fn tall(image: impl FnMut(TreeKind, u8, &mut Vec<u8>) + 'static) -> Shard {
    let mut shard = populated();
    for part in 0..2u64 {
        shard.record(|record| {
            for family in 10 + part * 20..30 + part * 20 {
                let name = format!("{family}{}", "x".repeat(100));
                let hash = u32::try_from(family).expect("small") << 8;
                record.set(NAMES, names_key(&name, hash), onode(0, family, family, 0, 0), &[]);
            }
        });
    }
    shard.checkpoint_with(Edits { image: Box::new(image), ..Edits::default() });
    assert!(shard.images.iter().any(|(tree, level, _)| (*tree, *level) == (NAMES, 1)));
    shard
}

/// Checks that a fault is found, and that nothing is found that would only follow from it.
fn expect_fault(shard: &Shard, expected: impl Fn(NodeFault) -> bool) -> Report {
    expect(shard, |violation| matches!(violation, Violation::Node { fault, .. } if expected(*fault)))
}

/// The pointer to child 0 or 1 in the image of an inner node: cells stand in order from the end, the first has no key.
pub fn child_range(image: &[u8], index: usize) -> std::ops::Range<usize> {
    let end = image.len() - index * 14;
    end - NodePtr::BYTES..end
}

pub fn swap_children(image: &mut [u8]) {
    let (first, second) = (child_range(image, 0), child_range(image, 1));
    let pointer = image[first.clone()].to_vec();
    image.copy_within(second.clone(), first.start);
    image[second].copy_from_slice(&pointer);
}

#[test]
fn bytes_that_are_not_those_of_the_pointer() {
    let shard = tall(|_, _, _| {});
    for (_, _, node) in &shard.images {
        let mut shard = shard.clone();
        shard.disk.flip(node.at.plus(4000));
        expect_fault(&shard, |fault| matches!(fault, NodeFault::Checksum(_)));
    }
}

#[test]
fn pages_that_are_none() {
    let shard = tall(|tree, level, image| {
        if (tree, level) == (NAMES, 0) {
            image[15] = 1;
        }
    });
    let report = expect_fault(&shard, |fault| matches!(fault, NodeFault::Malformed(_)));
    assert!(report.violations.len() > 1, "each leaf");
}

#[test]
fn a_level_too_high() {
    let shard = tall(|tree, level, image| {
        if (tree, level) == (NAMES, 1) {
            image[5] = 2;
        }
    });
    // The root is listed with its own level, too.
    expect(&shard, |violation| {
        let is_level = matches!(violation, Violation::Node { fault: NodeFault::Level(1, 0), .. });
        is_level || matches!(violation, Violation::NotListed { .. })
    });
}

#[test]
fn keys_outside_of_the_interval() {
    let shard = tall(|tree, level, image| {
        if (tree, level) == (NAMES, 1) {
            swap_children(image);
        }
    });
    expect_fault(&shard, |fault| fault == NodeFault::Interval);
}

#[test]
fn a_child_of_two_parents() {
    let shard = tall(|tree, level, image| {
        if (tree, level) == (NAMES, 1) {
            let (first, second) = (child_range(image, 0), child_range(image, 1));
            image.copy_within(first, second.start);
        }
    });
    expect_fault(&shard, |fault| fault == NodeFault::Twice);
}

#[test]
fn pointers_that_lead_nowhere() {
    for at in [
        Paddr::new(SegmentId(0x7fff_ffff), 4096),
        Paddr::new(SegmentId(2), 60 << 10 | 1),
        Paddr::new(SegmentId(2), 5000),
        Paddr::new(SegmentId(2), 0),
    ] {
        let shard = tall(move |tree, level, image| {
            if (tree, level) == (NAMES, 1) {
                let range = child_range(image, 1);
                let pointer = NodePtr::from_bytes(image[range.clone()].try_into().expect("a pointer"));
                image[range].copy_from_slice(&NodePtr::image(at, pointer.crc).to_bytes());
            }
        });
        expect_fault(&shard, |fault| fault == NodeFault::Pointer);
    }
}

#[test]
fn a_leaf_without_rows() {
    let shard = tall(|tree, level, image| {
        if (tree, level) == (TreeKind::Graves, 0) {
            *image = seabed_btree::Page::new(4096, 0).image().to_vec();
        }
    });
    let report = check_all(&shard);
    let found = |violation: &Violation| matches!(violation, Violation::Node { fault: NodeFault::Empty, .. });
    assert!(report.violations.iter().any(found), "{report}");
}
