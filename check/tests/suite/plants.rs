//! Plants: for each kind of violation a store that has it and nothing else, and that the report says just that.
//!
//! [`plant`] is a `match` without a wildcard: a kind without a plant does not compile. A defect without which another cannot
//! be is named as its company; then both must be found.

use std::io;
use std::ops::Range;

use seabed_btree::Page;
use seabed_check::{Image, Kind, Options, check};
use seabed_journal::{CollectionId, EntryRef};
use seabed_object::PieceRef;
use seabed_object::key::Kind as RowKind;
use seabed_object::value::RowValue;
use seabed_segment::{Listed, ListedWhat, SlotCopy, StreamKind, Summing, Superblock};
use seabed_types::{BLOCK_BYTES, Crc, Lsn, NodePtr, Paddr, PoolId, SegmentId, ShardId};

use super::clean::{BODIES, GRAVES, NAMES, populated};
use super::objects::{
    ATTRIBUTES, DATA, HASH, HEADER, OMAP, data, extents, extents_key, graves_key, inline, named_key,
    names_key, onode, stored,
};
use super::segments::{header, seal};
use super::shard::{COLLECTION, Edits, POOL, Record, Shard};
use super::trees::{child_range, swap_children, tall};

/// A store with something planted in it.
pub struct Planted {
    pub bytes: Vec<u8>,
    pub unreadable: Range<u64>,
    /// What there cannot but be besides.
    pub company: &'static [Kind],
}

impl Planted {
    fn in_company(self, company: &'static [Kind]) -> Self {
        Self { company, ..self }
    }
}

impl From<Shard> for Planted {
    fn from(shard: Shard) -> Self {
        Self { bytes: shard.disk.bytes, unreadable: 0..0, company: &[] }
    }
}

impl Image for Planted {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if at < self.unreadable.end && self.unreadable.start < at + into.len() as u64 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Image::read(&self.bytes, at, into)
    }
}

/// A populated store, changed.
fn changed(change: impl FnOnce(&mut Shard)) -> Planted {
    let mut shard = populated();
    change(&mut shard);
    shard.into()
}

/// A populated store with another record.
fn recorded(fill: impl FnOnce(&mut Record)) -> Planted {
    changed(|shard| shard.record(fill))
}

/// A populated store whose last checkpoint was written with `edits`.
fn checkpointed(edits: Edits) -> Planted {
    changed(|shard| shard.checkpoint_with(edits))
}

/// A populated store that cannot be read where `at` says.
fn unreadable(at: impl FnOnce(&Shard) -> u64) -> Planted {
    let shard = populated();
    let at = at(&shard);
    Planted { unreadable: at..at + 1, ..shard.into() }
}

fn front(kind: Kind) -> Option<Planted> {
    let slot = |shard: &Shard, which| shard.disk.layout.slot(ShardId(0), which);
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of another group; `plant` names all")]
    Some(match kind {
        Kind::Short => changed(|shard| shard.disk.bytes.truncate(shard.disk.bytes.len() - BLOCK_BYTES)),
        Kind::Superblock => changed(|shard| shard.disk.write_at(16 << 10, &[0; BLOCK_BYTES])),
        Kind::SuperblockDiffers => changed(|shard| {
            let first = shard.disk.bytes[..BLOCK_BYTES].to_vec();
            let superblock = Superblock::decode(&first, 0).expect("a superblock");
            let other = Superblock { window_bytes: 1 << 30, ..superblock };
            shard.disk.write_at(32 << 10, &other.encode(2));
        }),
        Kind::SuperblockUnreadable => unreadable(|_| 16 << 10),
        Kind::Slot => changed(|shard| {
            let at = slot(shard, SlotCopy::B);
            shard.disk.write_at(at + 100, &[0xee]);
        }),
        Kind::SlotsContradict => checkpointed(Edits {
            slot: Box::new(|which, slot| slot.durable.0 -= u64::from(which == SlotCopy::B)),
            ..Edits::default()
        }),
        Kind::SlotsApart => checkpointed(Edits {
            slot: Box::new(|which, slot| slot.sequence += 3 * u64::from(which == SlotCopy::A)),
            ..Edits::default()
        }),
        Kind::NoCheckpoint => changed(|shard| {
            for which in [SlotCopy::A, SlotCopy::B] {
                let at = slot(shard, which);
                shard.disk.write_at(at, &[0; BLOCK_BYTES]);
            }
        })
        .in_company(&[Kind::Slot]),
        Kind::BodyPart => changed(|shard| shard.disk.flip(shard.parts[1].at)),
        Kind::BodyCopiesDiffer => {
            checkpointed(Edits { second_copy: Box::new(|copy| copy[1] ^= 1), ..Edits::default() })
        }
        Kind::BodyCopiesShare => checkpointed(Edits { second_stream: StreamKind::Nodes, ..Edits::default() }),
        Kind::Body => {
            checkpointed(Edits { slot: Box::new(|_, slot| slot.body[1].clear()), ..Edits::default() })
        }
        _ => return None,
    })
}

fn log(kind: Kind) -> Option<Planted> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of another group; `plant` names all")]
    Some(match kind {
        Kind::JournalDamaged => changed(|shard| {
            let (at, _) = shard.places[&Lsn(3)];
            shard.record(|_| {});
            shard.disk.flip(at);
        }),
        Kind::Record => recorded(|record| record.entry(&EntryRef::Seal { segment: SegmentId(5000) })),
        Kind::CollectionsOverlap => recorded(|record| {
            let half = CollectionId { pool: POOL, prefix: 1 << 31, bits: 1 };
            record.collection(half);
        }),
        Kind::Patch => recorded(|record| record.patch(extents_key(1, 0), b"no patch".to_vec(), &[])),
        _ => return None,
    })
}

/// A store whose tree of names has two levels, the image at a level of it edited.
fn edited(level: u8, edit: fn(&mut Vec<u8>)) -> Planted {
    let edit = move |tree, of: u8, image: &mut Vec<u8>| {
        if (tree, of) == (NAMES, level) {
            edit(image);
        }
    };
    tall(edit).into()
}

fn nodes(kind: Kind) -> Option<Planted> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of another group; `plant` names all")]
    Some(match kind {
        Kind::NodePointer => edited(1, |image| {
            let range = child_range(image, 1);
            let pointer = NodePtr::image(Paddr::new(SegmentId(0x7fff_ffff), 4096), Crc(0));
            image[range].copy_from_slice(&pointer.to_bytes());
        }),
        Kind::NodeUnreadable => unreadable(|shard| shard.disk.layout.device_offset(shard.images[0].2.at)),
        Kind::NodeChecksum => changed(|shard| shard.disk.flip(shard.images[0].2.at.plus(4000))),
        Kind::NodeMalformed => edited(0, |image| image[15] = 1),
        Kind::NodeLevel => edited(1, |image| image[5] = 2),
        Kind::NodeInterval => edited(1, |image| swap_children(image)),
        Kind::NodeTwice => edited(1, |image| {
            let (first, second) = (child_range(image, 0), child_range(image, 1));
            image.copy_within(first, second.start);
        }),
        Kind::NodeEmpty => {
            let mut shard = Shard::new();
            shard.record(|record| record.collection(COLLECTION));
            let image = Page::new(4096, 0).image().to_vec();
            let mut record = shard.disk.record(shard.nodes.at());
            let at = record.place(&[&image], Summing::Whole).at;
            let what = ListedWhat::Image { pool: POOL, tree: GRAVES, level: 0, first_key: Vec::new() };
            let listed = Listed { offset: at.offset, bytes: 4096, what };
            shard.disk.append(shard.id, &mut shard.nodes, record, &[listed]);
            let root = NodePtr::image(at, Crc::of(&image));
            let body = move |body: &mut seabed_journal::Body| {
                body.collections[0].roots[2] = Some(root);
                let of = body.segments.iter_mut().find(|state| state.segment == at.segment);
                of.expect("the segment of nodes is known").live += 4096;
            };
            shard.checkpoint_with(Edits { body: Box::new(body), ..Edits::default() });
            shard.into()
        }
        _ => return None,
    })
}

/// A record with an object whose onode has these flags and counts, and one row.
fn counted(flags: u64, (attributes, omap): (u64, u64), row: Option<Vec<u8>>) -> Planted {
    recorded(|record| {
        record.set(NAMES, names_key("counted", HASH), onode(flags, 9, 0, attributes, omap), &[]);
        if let Some(row) = row {
            record.set(BODIES, row, inline(b"value"), &[]);
        }
    })
}

/// A record with an object of family 9 that has one chunk of 4096 bytes, at offset 4096.
fn chunk_of(flags: u64, size: u64) -> Planted {
    recorded(|record| {
        let chunk = data(4096, 8);
        let at = record.place(&chunk);
        record.set(NAMES, names_key("chunk", HASH), onode(flags, 9, size, 0, 0), &[]);
        let row = extents(1, at, &chunk).encode().expect("not empty");
        record.set(BODIES, extents_key(9, 0), row, &[(at, 4096)]);
    })
}

fn rows(kind: Kind) -> Option<Planted> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of another group; `plant` names all")]
    Some(match kind {
        Kind::RowOutside => checkpointed(Edits {
            body: Box::new(|body| {
                let collection = &mut body.collections[0];
                (collection.id.bits, collection.id.prefix) = (1, 1 << 31);
            }),
            ..Edits::default()
        }),
        Kind::RowMalformed => {
            recorded(|record| record.set(NAMES, names_key("bad", HASH), b"no onode".to_vec(), &[]))
        }
        Kind::RowTooLong => recorded(|record| {
            record.set(NAMES, names_key("long", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
            record.set(BODIES, named_key(9, RowKind::Attribute, b"long"), inline(&[7; 600]), &[]);
        }),
        Kind::FamilyTwice => recorded(|record| {
            record.set(NAMES, names_key("other", HASH), onode(DATA, 1, 10_000, 0, 0), &[]);
        }),
        Kind::Orphan => recorded(|record| {
            record.set(BODIES, named_key(50, RowKind::Omap, b"x"), inline(b"y"), &[]);
        }),
        Kind::GraveOfLiving => recorded(|record| record.set(GRAVES, graves_key(1), vec![1], &[])),
        Kind::IdNotCounted => recorded(|record| {
            record.set(NAMES, names_key("new", 0x99), onode(0, 64, 0, 0, 0), &[]);
        }),
        Kind::CountOfData => chunk_of(0, 8192),
        Kind::CountOfAttributes => {
            counted(ATTRIBUTES, (3, 0), Some(named_key(9, RowKind::Attribute, b"one")))
        }
        Kind::CountOfHeader => counted(HEADER, (0, 0), None),
        Kind::CountOfOmap => counted(OMAP, (0, 2), Some(named_key(9, RowKind::Omap, b"one"))),
        Kind::BeyondSize => chunk_of(DATA, 8191),
        Kind::Tally => checkpointed(Edits {
            body: Box::new(|body| body.collections[0].tally.objects += 1),
            ..Edits::default()
        }),
        Kind::Live => recorded(|record| record.entry(&EntryRef::Live(vec![(SegmentId(20), 4096)]))),
        _ => return None,
    })
}

/// A record with an object that has one stored attribute.
fn pointing(at: Paddr) -> Planted {
    recorded(|record| {
        let value = RowValue::Stored(PieceRef { at, bytes: 700, crc: Crc(1) }).encode();
        record.set(NAMES, names_key("lost", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
        record.set(BODIES, named_key(9, RowKind::Attribute, b"a"), value, &[]);
    })
}

fn pieces(kind: Kind) -> Option<Planted> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of another group; `plant` names all")]
    Some(match kind {
        Kind::PiecePointer => pointing(Paddr::new(SegmentId(3), 65_000)),
        Kind::PieceUnreadable => {
            unreadable(|shard| shard.disk.layout.device_offset(Paddr::new(SegmentId(3), 24_576)))
        }
        Kind::PieceChecksum => changed(|shard| shard.disk.flip(Paddr::new(SegmentId(3), 24_576))),
        Kind::Overlap => changed(|shard| {
            // Two rows with the same bytes, listed for both.
            let (first, second) =
                (named_key(9, RowKind::Attribute, b"a"), named_key(10, RowKind::Attribute, b"a"));
            let value = data(2_000, 2);
            let at = shard.bulk(&first, &value);
            let what = ListedWhat::Piece { pool: POOL, key: second.clone() };
            let listed = Listed { offset: at.offset, bytes: 2_000, what };
            let record = shard.disk.record(shard.bulk.at());
            shard.disk.append(shard.id, &mut shard.bulk, record, &[listed]);
            shard.record(|record| {
                for (family, key) in [(9, first), (10, second)] {
                    let name = names_key(&family.to_string(), HASH);
                    record.set(NAMES, name, onode(ATTRIBUTES, family, 0, 1, 0), &[]);
                    record.set(BODIES, key, stored(at, &value), &[]);
                }
            });
        }),
        _ => return None,
    })
}

fn segments(kind: Kind) -> Option<Planted> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of another group; `plant` names all")]
    Some(match kind {
        Kind::Unclaimed => {
            checkpointed(Edits { body: Box::new(|body| body.segments[2].stream = None), ..Edits::default() })
        }
        Kind::SegmentReused => changed(|shard| {
            shard.disk.write(Paddr::new(SegmentId(3), 0), &header(SegmentId(3), 2, StreamKind::Bulk));
        }),
        Kind::SegmentHeader => changed(|shard| {
            shard.disk.write(Paddr::new(SegmentId(4), 0), &header(SegmentId(4), 1, StreamKind::Bulk));
        }),
        Kind::Inventory => changed(|shard| {
            let what = ListedWhat::Piece { pool: PoolId(1), key: Vec::new() };
            let open = shard.fresh(StreamKind::Bulk);
            shard.record(|record| {
                record.claim(&open);
                // Something live, so that its lists are looked at.
                record.set(NAMES, names_key("b", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
            });
            let value = data(1_000, 3);
            let key = named_key(9, RowKind::Attribute, b"a");
            shard.bulk = open;
            let at = shard.bulk(&key, &value);
            let piece = ListedWhat::Piece { pool: POOL, key: key.clone() };
            shard.record(|record| record.set(BODIES, key, stored(at, &value), &[]));
            let all = [
                Listed { offset: at.offset, bytes: 1_000, what: piece },
                Listed { offset: 60 << 10, bytes: 1, what },
            ];
            seal(shard, at.segment, 1, &all);
        }),
        Kind::NotInInventory => changed(|shard| seal(shard, SegmentId(3), 1, &[])),
        Kind::NotInRecords => changed(|shard| {
            // The header of the bulk record with the big object's data; the first one is that of a body.
            shard.disk.flip(Paddr::new(SegmentId(3), 4096 + 8192));
        }),
        Kind::SlotsDisagree => changed(|shard| {
            // The newer checkpoint has lost an object and counts as if it had never been.
            let row = (NAMES, names_key("later", 0x12));
            let value = shard.rows.remove(&row).expect("it is there");
            let bytes = i64::try_from(row.1.len() + value.len()).expect("small");
            shard.checkpoint_with(Edits {
                body: Box::new(move |body| {
                    body.collections[0].tally.objects -= 1;
                    body.collections[0].tally.metadata -= bytes;
                }),
                slots: vec![SlotCopy::A],
                ..Edits::default()
            });
        }),
        Kind::OlderSlot => changed(|shard| {
            let (_, _, old) = shard.images[0];
            shard.checkpoint_with(Edits { slots: vec![SlotCopy::A], ..Edits::default() });
            shard.disk.flip(old.at);
        }),
        _ => return None,
    })
}

/// A store with a violation of this kind.
pub fn plant(kind: Kind) -> Planted {
    let planted = match kind {
        Kind::Short
        | Kind::Superblock
        | Kind::SuperblockDiffers
        | Kind::SuperblockUnreadable
        | Kind::Slot
        | Kind::SlotsContradict
        | Kind::SlotsApart
        | Kind::NoCheckpoint
        | Kind::BodyPart
        | Kind::BodyCopiesDiffer
        | Kind::BodyCopiesShare
        | Kind::Body => front(kind),
        Kind::JournalDamaged | Kind::Record | Kind::CollectionsOverlap | Kind::Patch => log(kind),
        Kind::NodePointer
        | Kind::NodeUnreadable
        | Kind::NodeChecksum
        | Kind::NodeMalformed
        | Kind::NodeLevel
        | Kind::NodeInterval
        | Kind::NodeTwice
        | Kind::NodeEmpty => nodes(kind),
        Kind::RowOutside
        | Kind::RowMalformed
        | Kind::RowTooLong
        | Kind::FamilyTwice
        | Kind::Orphan
        | Kind::GraveOfLiving
        | Kind::IdNotCounted
        | Kind::CountOfData
        | Kind::CountOfAttributes
        | Kind::CountOfHeader
        | Kind::CountOfOmap
        | Kind::BeyondSize
        | Kind::Tally
        | Kind::Live => rows(kind),
        Kind::PiecePointer | Kind::PieceUnreadable | Kind::PieceChecksum | Kind::Overlap => pieces(kind),
        Kind::Unclaimed
        | Kind::SegmentReused
        | Kind::SegmentHeader
        | Kind::Inventory
        | Kind::NotInInventory
        | Kind::NotInRecords
        | Kind::SlotsDisagree
        | Kind::OlderSlot => segments(kind),
    };
    planted.expect("each group plants its kinds")
}

#[test]
fn each_kind_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let planted = plant(*kind);
        let report = check(&planted, &Options::default()).expect("a store");
        let mut found: Vec<Kind> = report.violations.iter().map(seabed_check::Violation::kind).collect();
        found.sort_unstable();
        found.dedup();
        let mut expected = [planted.company, &[*kind]].concat();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!("{kind:?}: {report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(Kind::ALL.len() > 45);
}
