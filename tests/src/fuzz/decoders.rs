//! Decoders: each takes any bytes, and gives back the same bytes for all that it accepts.
//!
//! A value of the format has one encoding (`docs/FORMAT.md`), so what a decoder accepts and an encoder does not give back
//! is a second one: it would be changed by reading and writing it, and a checksum of it would not hold. Where a structure
//! carries a checksum of itself it is decoded as it came and with a right one. Where an encoder is not public what was
//! decoded is walked instead.
//!
//! The store is that of the golden images, from which the seeds are cut. What a structure says of its own place is taken
//! as its place.

use seabed_bench::job::Jobs;
use seabed_btree::Page;
use seabed_journal::{Body, EntryRef, Slot};
use seabed_object::extents::{Extents, Patch};
use seabed_object::key::{self, Position};
use seabed_object::onode::OnodeRef;
use seabed_object::value::RowValue;
use seabed_object::{ObjectId, pieces_of_row, usage_of_row};
use seabed_segment::{
    Identity, Layout, Listed, RecordHeader, SealBlock, SegmentHeader, Superblock, entries_of,
};
use seabed_types::{BLOCK_BYTES, Crc, Paddr, SegmentId, ShardId, TreeKind};

use crate::golden::again::{Kind, structures};

/// Bytes of a node in the golden images.
const NODE_BYTES: usize = 4096;
/// How many seeds of a kind are enough.
const SEEDS_MAX: usize = 24;

/// The superblock of the golden images: who wrote them, and where things are.
fn store() -> (Identity, Layout) {
    let superblock = crate::golden::superblock();
    (superblock.identity, superblock.layout)
}

/// A block that begins with these bytes.
fn block_of(input: &[u8]) -> Vec<u8> {
    let mut block = input.to_vec();
    block.resize(BLOCK_BYTES, 0);
    block
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes(word.try_into().expect("four bytes")))
}

/// The same with the checksum at `at`, which is of all bytes with itself as zeros, made right.
fn summed(bytes: &[u8], at: usize, sum: impl Fn(&[u8]) -> Crc) -> Vec<u8> {
    let mut right = bytes.to_vec();
    right[at..at + 4].fill(0);
    let crc = sum(&right);
    right[at..at + 4].copy_from_slice(&crc.0.to_le_bytes());
    right
}

pub(super) fn superblock(input: &[u8]) {
    let block = block_of(input);
    let copy = u16::from_le_bytes([block[78], block[79]]);
    for block in [summed(&block, 12, Crc::of), block] {
        if let Ok(superblock) = Superblock::decode(&block, copy) {
            assert!(superblock.encode(copy)[..] == block[..], "another encoding: {superblock:?}");
            let layout = superblock.layout;
            layout.check().expect("a superblock that is accepted has a geometry that is");
            // The arithmetic of addresses, at both ends.
            for segment in [layout.first_segment(), SegmentId(u32::MAX)] {
                let at = Paddr::new(segment, 4096);
                assert_eq!(layout.contains(at, 1), layout.has_segment(segment));
            }
            assert!(layout.record_bytes_max() > 0 && layout.segments().next().is_some());
        }
    }
}

pub(super) fn superblock_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Superblock)
}

pub(super) fn segment_header(input: &[u8]) {
    let (identity, _) = store();
    let block = block_of(input);
    let segment = SegmentId(word(&block, 12));
    for block in [summed(&block, 8, |bytes| identity.header_crc(bytes)), block] {
        if let Ok((header, crc)) = SegmentHeader::decode(&block, &identity, segment) {
            let (again, crc_again) = header.encode(&identity);
            assert!(again[..] == block[..] && crc_again == crc, "another encoding: {header:?}");
        }
    }
}

pub(super) fn segment_header_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::SegmentHeader)
}

pub(super) fn seal(input: &[u8]) {
    let (identity, layout) = store();
    let block = block_of(input);
    let segment = SegmentId(word(&block, 12));
    for block in [summed(&block, 8, |bytes| identity.header_crc(bytes)), block] {
        if let Ok(seal) = SealBlock::decode(&block, &identity, segment, layout.segment_bytes) {
            assert!(seal.encode(&identity)[..] == block[..], "another encoding: {seal:?}");
            let end = u64::from(seal.inventory_offset) + u64::from(seal.inventory_bytes);
            assert!(end < u64::from(layout.segment_bytes), "{seal:?}");
        }
    }
}

pub(super) fn seal_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Seal)
}

pub(super) fn inventory(input: &[u8]) {
    if let Ok(listed) = Listed::decode_all(input) {
        let mut again = Vec::new();
        for listed in &listed {
            listed.encode(&mut again);
        }
        assert!(again == input, "another encoding: {listed:?}");
    }
}

pub(super) fn inventory_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::List)
}

/// A whole record: the header's checksums of entries and data are made right too, if its lengths leave room for both.
pub(super) fn record(input: &[u8]) {
    let (identity, layout) = store();
    let mut bytes = input.to_vec();
    bytes.resize(input.len().max(BLOCK_BYTES).next_multiple_of(BLOCK_BYTES), 0);
    let said = Paddr::new(SegmentId(word(&bytes, 24)), word(&bytes, 28));
    let at = if layout.contains(said, BLOCK_BYTES as u64) { said } else { Paddr::new(SegmentId(1), 4096) };
    let sum = |bytes: &[u8]| {
        let mut right = bytes.to_vec();
        right[..96].copy_from_slice(&summed(&bytes[..96], 4, |header| identity.header_crc(header)));
        right
    };
    let first = sum(&bytes);
    if let Ok(header) = RecordHeader::decode(&first, &identity, &layout, at) {
        let pieces = header.pieces_bytes as usize;
        let entries = header.entries_bytes as usize;
        let inside = entries.min(BLOCK_BYTES - 96);
        assert!(header.end() <= layout.segment_bytes, "it ends in its segment: {header:?}");
        // Short inputs are most; what they leave out is zeros.
        bytes.resize(bytes.len().max(header.record_bytes as usize), 0);
        let rest = BLOCK_BYTES + pieces;
        let crc = Crc::of(&bytes[96..96 + inside]).append(&bytes[rest..rest + entries - inside]);
        bytes[72..76].copy_from_slice(&crc.0.to_le_bytes());
        let crc = Crc::of(&bytes[BLOCK_BYTES..rest]);
        bytes[76..80].copy_from_slice(&crc.0.to_le_bytes());
    }
    for bytes in [sum(&bytes), first] {
        let Ok(header) = RecordHeader::decode(&bytes, &identity, &layout, at) else { continue };
        let record = &bytes[..bytes.len().min(header.record_bytes as usize)];
        let is_sound = record.len() == header.record_bytes as usize && header.data_is_sound(record);
        if let Ok(decoded) = entries_of(&header, record) {
            assert_eq!(decoded.len(), header.entries_bytes as usize);
            if is_sound {
                entries(&decoded);
                inventory(&decoded);
            }
        }
    }
}

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Record)
}

pub(super) fn entries(input: &[u8]) {
    let mut again = Vec::new();
    if EntryRef::decode_all(input, |entry| entry.encode(&mut again)).is_ok() {
        assert!(again == input, "entries have another encoding");
    }
}

pub(super) fn entries_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Entries)
}

pub(super) fn slot(input: &[u8]) {
    let (identity, _) = store();
    let block = block_of(input);
    let shard = ShardId(u16::from_le_bytes([block[32], block[33]]));
    for block in [summed(&block, 8, |bytes| identity.header_crc(bytes)), block] {
        if let Ok(slot) = Slot::decode(&block, &identity, shard) {
            assert!(slot.encode(&identity)[..] == block[..], "another encoding: {slot:?}");
        }
    }
}

pub(super) fn slot_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Slot)
}

pub(super) fn body(input: &[u8]) {
    if let Ok(body) = Body::decode(input) {
        assert!(body.encode() == input, "another encoding: {body:?}");
    }
}

pub(super) fn body_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Body)
}

/// A page that is accepted can be searched and read, and is its own image.
pub(super) fn page(input: &[u8]) {
    let mut bytes = input.to_vec();
    let node_bytes = [NODE_BYTES, 2 * NODE_BYTES][usize::from(input.len() > NODE_BYTES)];
    bytes.resize(node_bytes, 0);
    let Ok(mut page) = Page::decode(bytes.clone().into()) else { return };
    page.validate().expect("an image is a page in memory too");
    for index in 0..page.len() {
        let key = page.key(index);
        if page.level() == 0 {
            assert_eq!(page.search(&key), Ok(index), "row {index} is found");
            let value = page.value(index);
            for tree in [TreeKind::Names, TreeKind::Bodies, TreeKind::Graves] {
                row(tree, &key, value);
            }
        } else {
            assert!(page.child(index).is_image(), "an image names images");
        }
    }
    let before = [0; 3];
    assert!(page.search(&before).is_err() || !page.is_empty());
    assert!(page.image() == &bytes[..], "another encoding");
}

pub(super) fn page_seeds() -> Vec<Vec<u8>> {
    [of_kind(Kind::Leaf), of_kind(Kind::InnerNode)].concat()
}

/// What the engine asks of any row that it reads.
fn row(tree: TreeKind, key: &[u8], value: &[u8]) {
    let mut pieces = Vec::new();
    let _ = pieces_of_row(tree, key, value).map(|found| pieces.extend(found));
    let _ = usage_of_row(tree, key, value);
    assert!(pieces.len() <= 64, "a row has few pieces");
}

pub(super) fn onode(input: &[u8]) {
    if let Ok(onode) = OnodeRef::decode(input) {
        for pairs in [onode.attributes, onode.omap] {
            for (name, value) in pairs.iter() {
                assert_eq!(pairs.find(name), Some(value), "each name once");
            }
        }
        let inline: usize = [onode.attributes, onode.omap]
            .into_iter()
            .flat_map(seabed_object::onode::PairsRef::iter)
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(inline + onode.header.len() + onode.data.len() <= input.len(), "nothing twice");
        assert!(onode.data.len() as u64 <= onode.size);
    }
}

pub(super) fn onode_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Onode)
}

/// Rows of extents and patches of them: the first byte chooses.
pub(super) fn extents(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    if choice % 2 == 0 {
        if let Ok(extents) = Extents::decode(bytes) {
            assert!(extents.encode().as_deref() == Some(bytes), "another encoding: {extents:?}");
            assert_eq!(extents.encoded_bytes(), bytes.len());
        }
    } else if let Ok(patch) = Patch::decode(bytes) {
        assert!(patch.encode() == bytes, "another encoding: {patch:?}");
        let mut row = Extents::EMPTY;
        row.apply(&patch);
        let once = row;
        row.apply(&patch);
        assert!(row == once, "a patch is absolute");
    }
}

pub(super) fn extents_seeds() -> Vec<Vec<u8>> {
    let with =
        |choice: u8, seeds: Vec<Vec<u8>>| seeds.into_iter().map(move |seed| [vec![choice], seed].concat());
    with(0, of_kind(Kind::Extents)).chain(with(1, of_kind(Kind::Patch))).collect()
}

pub(super) fn value(input: &[u8]) {
    if let Ok(value) = RowValue::decode(input) {
        assert!(value.encode() == input, "another encoding: {value:?}");
        assert_eq!(value.encoded_bytes(), input.len());
    }
}

pub(super) fn value_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::Value)
}

/// Keys of the bodies and graves trees; and two keys order as what they name.
pub(super) fn keys(input: &[u8]) {
    if let Ok((member, position)) = key::decode_bodies(input) {
        assert!(key::bodies(member, &position)[..] == *input, "another encoding: {position:?}");
        if let Position::Extents(row) = position {
            assert!(key::extents_bound(member, row)[..] <= *input);
            assert!(key::extents_bound(member, row + 1)[..] > *input);
        }
        assert!(key::family_bound(member)[..] < *input && *input < key::family_end(member)[..]);
    }
    if let Ok(member) = key::decode_graves(input) {
        assert!(key::graves(member)[..] == *input, "another encoding: {member:?}");
    }
}

pub(super) fn keys_seeds() -> Vec<Vec<u8>> {
    of_kind(Kind::BodiesKey)
}

/// Object ids as the keys of the names tree, in two parts: they order as their objects do.
pub(super) fn object_id(input: &[u8]) {
    let Some((at, keys)) = input.split_first() else { return };
    let (one, two) = keys.split_at(usize::from(*at).min(keys.len()));
    let ids: Vec<(ObjectId, &[u8])> =
        [one, two].into_iter().filter_map(|key| Some((key::decode_names(key).ok()?, key))).collect();
    for (id, key) in &ids {
        assert!(key::names(id)[..] == **key, "another encoding: {id:?}");
        id.check().expect("only what is legal is decoded");
    }
    if let [(one, key_one), (two, key_two)] = &ids[..] {
        assert_eq!(one.cmp(two), key_one.cmp(key_two), "{one:?} and {two:?}");
    }
}

pub(super) fn object_id_seeds() -> Vec<Vec<u8>> {
    let keys = of_kind(Kind::NamesKey);
    let pairs = keys.iter().zip(keys.iter().skip(1));
    pairs
        .map(|(one, two)| [vec![u8::try_from(one.len()).unwrap_or(0)], one.clone(), two.clone()].concat())
        .collect()
}

/// Job files: any text is jobs or a refusal.
pub(super) fn job(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(jobs) = Jobs::parse(text, &[]) {
        for job in &jobs.jobs {
            for copy in [0, job.copies - 1] {
                let _ = (job.bytes_of_file(copy), job.region_bytes(copy), job.budget(copy));
            }
            let _ = (job.directions(), job.verify_unit(), job.operations_max());
        }
    }
}

pub(super) fn job_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "[global]\nsize=1g\nbs=4k\n[a]\nrw=randrw\nrwmixread=70\niodepth=32\n",
        "[a]\nsize=1m\nbssplit=4k/60:64k/40,,8k\nrw=write\nverify=crc32c\n",
        "[z]\nsize=8m\noffset=1m\nio_size=3m\nloops=2\nrandom_distribution=zipf:1.2\n; a comment\n",
        "[b]\nsize=50%\nruntime=2m\ntime_based\nramp_time=3s\nnumjobs=3\nstonewall\nrate_iops=100\n",
        "[c]\nsize=16m\nrandom_distribution=zoned:50/10:30/20:20/70\nbuffer_compress_percentage=50\n",
        "[d]\nfilesize=(16m+4k*3)\nsize=50%\noffset=25%\noffset_align=4KiB\nkb_base=1000\nnumber_ios=2*$ncpus\n",
        "[e]\nsize=0x10000\nrw=randread:8\nrate=1m,,2k\nthinktime=5ms\nioengine=libaio\nflow=1\ninclude x\n",
        "[f]\nsize=1m\nrw=trimwrite\nbsrange=4k-64k\nblockalign=512\noffset_increment=9g\nnumjobs=512\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The decoder of entries, with a defect: it does not stand a claim of segment 3 with another incarnation than it has.
pub(super) fn canary(input: &[u8]) {
    let mut claims = 0;
    let decoded = EntryRef::decode_all(input, |entry| {
        claims += u32::from(matches!(entry, EntryRef::Claim { incarnation, .. } if incarnation.0 > 40));
    });
    assert!(decoded.is_err() || claims == 0, "the canary sings");
}

/// Different structures of a kind in the golden images.
fn of_kind(kind: Kind) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for image in super::golden() {
        for (found, bytes) in structures(&image) {
            if found == kind && !seeds.contains(&bytes) {
                seeds.push(bytes);
            }
        }
    }
    // Short ones say as much, and are changed to more effect.
    seeds.sort_by_key(Vec::len);
    let step = seeds.len().div_ceil(SEEDS_MAX).max(1);
    seeds.into_iter().step_by(step).collect()
}
