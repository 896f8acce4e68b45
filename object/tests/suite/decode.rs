//! Keys, extents, patches and changes as bytes: frozen, in order, canonical, harmless, absolute.

use fastrand::Rng;
use seabed_object::extents::{Chunk, Extents, Patch};
use seabed_object::key::{self, Kind, Member, Position};
use seabed_object::limits::Limits;
use seabed_object::{Change, ObjectId, apply, merge, pieces_of_row, usage_of_row};
use seabed_types::{Crc, Paddr, SegmentId, TreeKind};

fn chunk(rng: &mut Rng, before: Option<Chunk>) -> Option<Chunk> {
    let bytes = if rng.u32(..4) == 0 { rng.u16(1..4096) } else { 4096 };
    let crc = Crc(rng.u32(..));
    match (rng.u32(..4), before) {
        (0, _) => None,
        (1..3, Some(before)) if before.at.offset < u32::MAX - 8192 => {
            Some(Chunk { at: before.at.plus(4096), bytes, crc })
        }
        _ => Some(Chunk { at: Paddr::new(SegmentId(rng.u32(1..5)), rng.u32(..)), bytes, crc }),
    }
}

fn extents(rng: &mut Rng) -> Extents {
    let mut extents = Extents::EMPTY;
    let mut before = None;
    let dense = rng.bool();
    for index in 0..16 {
        if dense || rng.u32(..4) == 0 {
            before = chunk(rng, before);
            extents.set(index, before);
        }
    }
    extents
}

fn change(rng: &mut Rng) -> Change {
    let extents = extents(rng);
    match rng.u32(..4) {
        0 => Change::Gone,
        1 => extents.encode().map_or(Change::Gone, Change::Set),
        _ => Change::Patch(Patch::new(1 << rng.u32(..16) | rng.u16(..) & rng.u16(..), &extents).encode()),
    }
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(..3) {
        let index = rng.usize(..=bytes.len());
        match rng.u32(..4) {
            0 => bytes.truncate(index),
            1 => bytes.insert(index, [0, 1, 255, rng.u8(..)][rng.usize(..4)]),
            _ if index == bytes.len() => {}
            2 => bytes[index] = [0, 1, 255, 128][rng.usize(..4)],
            _ => bytes[index] ^= 1 << rng.u32(..8),
        }
    }
}

#[test]
fn extents_and_patches_are_canonical_and_harmless() {
    let mut rng = Rng::with_seed(8);
    let mut decoded = [0; 2];
    for _ in 0..200_000 {
        let state = extents(&mut rng);
        let mut bytes = state.encode().unwrap_or_default();
        assert_eq!(bytes.len(), state.encoded_bytes());
        assert!(state.is_empty() || Extents::decode(&bytes) == Ok(state));
        damage(&mut rng, &mut bytes);
        if let Ok(state) = Extents::decode(&bytes) {
            assert_eq!(state.encode().as_ref(), Some(&bytes));
            decoded[0] += 1;
        }
        let mut bytes = Patch::new(rng.u16(1..), &state).encode();
        assert_eq!(Patch::decode(&bytes).map(|patch| patch.encode()).as_ref(), Ok(&bytes));
        damage(&mut rng, &mut bytes);
        if let Ok(patch) = Patch::decode(&bytes) {
            assert_eq!(patch.encode(), bytes);
            decoded[1] += 1;
        }
    }
    assert!(decoded.iter().all(|decoded| *decoded > 50_000), "{decoded:?}: most would prove nothing");
}

#[test]
fn frozen_extents() {
    let chunk =
        |offset, bytes, crc| Some(Chunk { at: Paddr::new(SegmentId(3), offset), bytes, crc: Crc(crc) });
    let mut row = Extents::EMPTY;
    row.set(1, chunk(0x1000, 4096, 0xa));
    row.set(2, chunk(0x2000, 100, 0xb));
    row.set(3, chunk(0x3000, 4096, 0xc));
    let bytes = b"\x01\x0e\x00\x04\x00\x04\x00\x03\0\0\0\x00\x10\0\0\x0a\0\0\0\x64\0\x0b\0\0\0\x03\0\0\0\x00\x30\0\0\x0c\0\0\0";
    assert_eq!(row.encode().as_deref(), Some(&bytes[..]));
    let patch = Patch::new(0b1010_0000_0000_0010, &row).encode();
    assert_eq!(patch, b"\x02\xa0\x01\x02\x00\0\0\0\0\x03\0\0\0\x00\x10\0\0\x0a\0\0\0");
}

fn run(row: Option<&Vec<u8>>, change: &Change) -> Option<Vec<u8>> {
    apply(row.map(|row| &row[..]), change).expect("good bytes")
}

#[test]
fn changes_merge_and_are_absolute() {
    let mut rng = Rng::with_seed(9);
    for _ in 0..100_000 {
        let row = extents(&mut rng).encode();
        let (a, b) = (change(&mut rng), change(&mut rng));
        let after = run(run(row.as_ref(), &a).as_ref(), &b);
        assert_eq!(after, run(row.as_ref(), &merge(&a, &b).expect("good bytes")));
        assert_eq!(after, run(after.as_ref(), &b), "twice is once");
        let c = change(&mut rng);
        let left = merge(&merge(&a, &b).expect("good bytes"), &c);
        assert_eq!(left, merge(&a, &merge(&b, &c).expect("good bytes")), "in any grouping");
        // A replay repeats a run of changes over a row that has them all.
        assert_eq!(after, run(run(after.as_ref(), &a).as_ref(), &b));
    }
}

fn bytes(rng: &mut Rng, range: std::ops::Range<usize>) -> Vec<u8> {
    let zeros = [1, 2, 20][rng.usize(..3)];
    (0..rng.usize(range)).map(|_| if rng.u32(..zeros) == 0 { 0 } else { rng.u8(..) }).collect()
}

fn id(rng: &mut Rng) -> ObjectId {
    let numbers = [0, 246, 247, 300, u64::MAX - 1, u64::MAX];
    ObjectId::new(bytes(rng, 1..9))
        .in_namespace(bytes(rng, 0..3))
        .with_hash(rng.u32(..4))
        .with_snap(numbers[rng.usize(..6)])
        .with_generation(numbers[rng.usize(..6)])
}

#[test]
fn names_keys_order_as_objects_do() {
    let mut rng = Rng::with_seed(10);
    let mut ids: Vec<ObjectId> = (0..20_000).map(|_| id(&mut rng)).collect();
    ids.sort();
    ids.dedup();
    for pair in ids.windows(2) {
        let (a, b) = (key::names(&pair[0]), key::names(&pair[1]));
        assert!(a < b, "{pair:?}");
        assert_eq!(key::decode_names(&a).as_ref(), Ok(&pair[0]));
    }
}

fn body(rng: &mut Rng) -> (Member, Position) {
    let numbers = [0, 1, 246, 247, 70_000, u64::MAX];
    let mut number = || numbers[rng.usize(..6)];
    let member = Member { hash: 5, family: number(), number: number() };
    let position = match rng.u32(..4) {
        0 => Position::Extents(rng.u64(..1000)),
        1 => Position::Attribute(bytes(rng, 1..5).into()),
        2 => Position::Header,
        _ => Position::Omap(bytes(rng, 1..5).into()),
    };
    (member, position)
}

#[test]
fn bodies_keys_order_by_family_kind_position_number() {
    let mut rng = Rng::with_seed(11);
    let mut rows: Vec<_> = (0..20_000).map(|_| body(&mut rng)).collect();
    rows.sort_by(|(a, at), (b, bt)| (a.family, at, a.number).cmp(&(b.family, bt, b.number)));
    rows.dedup();
    for pair in rows.windows(2) {
        let (a, b) = (key::bodies(pair[0].0, &pair[0].1), key::bodies(pair[1].0, &pair[1].1));
        assert!(a < b, "{pair:?}");
        assert_eq!(key::decode_bodies(&a).as_ref(), Ok(&pair[0]));
        let (from, to) = (key::family_bound(pair[0].0), key::family_end(pair[0].0));
        assert!(from <= a && a < to);
        assert_eq!(b < to, pair[1].0.family == pair[0].0.family);
    }
}

#[test]
fn keys_are_canonical_and_harmless() {
    let mut rng = Rng::with_seed(12);
    let mut decoded = [0; 3];
    for _ in 0..100_000 {
        let (member, position) = body(&mut rng);
        let mut keys = [key::names(&id(&mut rng)), key::bodies(member, &position), key::graves(member)]
            .map(|key| key.to_vec());
        for key in &mut keys {
            damage(&mut rng, key);
        }
        if let Ok(id) = key::decode_names(&keys[0]) {
            assert_eq!(key::names(&id)[..], keys[0]);
            decoded[0] += 1;
        }
        if let Ok((member, position)) = key::decode_bodies(&keys[1]) {
            assert_eq!(key::bodies(member, &position)[..], keys[1]);
            decoded[1] += 1;
        }
        if let Ok(member) = key::decode_graves(&keys[2]) {
            assert_eq!(key::graves(member)[..], keys[2]);
            decoded[2] += 1;
        }
        let value = bytes(&mut rng, 0..30);
        for tree in TreeKind::ALL {
            for key in &keys {
                let _ = usage_of_row(tree, key, &value);
                let _ = pieces_of_row(tree, key, &value);
            }
        }
    }
    assert!(decoded.iter().all(|decoded| *decoded > 30_000), "{decoded:?}: most would prove nothing");
}

#[test]
fn frozen_keys() {
    let id = ObjectId::new("a").with_hash(0x8000_0001);
    assert_eq!(key::names(&id)[..], *b"\x80\x00\x00\x01\0\0a\0\0\xff\xff");
    let member = Member { hash: 1, family: 300, number: 0 };
    assert_eq!(key::extents(member, 2)[..], *b"\x80\0\0\0\xf8\x01\x2c\x01\x02\0");
    assert_eq!(key::named(member, Kind::Omap, b"k\0")[..], *b"\x80\0\0\0\xf8\x01\x2c\x04k\x00\x01\0");
    assert_eq!(key::named(member, Kind::Header, b"")[..], *b"\x80\0\0\0\xf8\x01\x2c\x03\0");
    assert_eq!(key::graves(member)[..], *b"\x80\0\0\0\xf8\x01\x2c\0");
}

#[test]
fn a_collection_is_an_interval() {
    for bits in [0, 1, 2, 5, 32] {
        for prefix in [0, 1, 2, 3, 31, 0x8000_0000, u32::MAX] {
            let (from, to) = key::collection(prefix, bits);
            for hash in [0, 1, 2, 3, 31, 63, 0x8000_0000, u32::MAX, u32::MAX - 1] {
                let key = key::names(&ObjectId::new("a").with_hash(hash));
                let is_inside = from <= key && to.as_ref().is_none_or(|to| key < *to);
                let mask = if bits == 0 { 0 } else { u32::MAX >> (32 - u32::from(bits)) };
                assert_eq!(is_inside, hash & mask == prefix & mask, "{hash:x} in {prefix:x}/{bits}");
            }
        }
    }
}

#[test]
fn every_legal_name_fits_nodes_of_16_kib() {
    let limits = Limits::new(16 * 1024, 1 << 20);
    let worst: Vec<u8> = [0, 1].repeat(1024);
    let id = ObjectId::new(&worst).in_namespace(&worst[..256]).with_snap(1 << 60).with_generation(1 << 60);
    assert!(limits.check_id(&id).is_ok());
    assert!(limits.check_omap_key(&worst).is_ok());
    let small = Limits::new(4096, 1 << 20);
    assert!(small.check_id(&id).is_err());
    assert!(small.check_omap_key(&worst).is_err());
    assert!(small.check_id(&ObjectId::new(vec![b'a'; 900])).is_ok());
    assert!(small.check_attribute_name(&worst[..256]).is_ok());
}
