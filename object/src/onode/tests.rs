//! Bytes of onodes: frozen, canonical, and harmless whatever they are.

use fastrand::Rng;
use seabed_types::{Crc, Paddr, SegmentId};

use super::*;
use crate::extents::Chunk;

/// What onodes are made of.
struct Texts {
    /// One to three equal bytes of 0, 1 or 2.
    names: Vec<Bytes>,
    /// By their lengths.
    values: Vec<Bytes>,
    headers: Vec<Bytes>,
}

impl Texts {
    fn new() -> Self {
        let of = |byte: u8, bytes: usize| Bytes::from(vec![byte; bytes]);
        Self {
            names: (0..9).map(|number| of(number / 3, usize::from(number % 3) + 1)).collect(),
            values: (0..150).map(|bytes| of(7, bytes)).collect(),
            headers: (0..20).map(|bytes| of(3, bytes)).collect(),
        }
    }
}

fn onode<'a>(rng: &mut Rng, texts: &'a Texts) -> Onode<'a> {
    let mut onode = Onode::new([0, 5, 300, u64::MAX][rng.usize(..4)]);
    onode.size = [0, 1, 100, 1 << 40][rng.usize(..4)];
    onode.number = rng.u64(..3);
    if rng.bool() {
        onode.hint =
            Hint { object_bytes: rng.u64(..), write_bytes: rng.u64(..200), flags: HintFlags::IMMUTABLE };
    }
    for pairs in [&mut onode.attributes, &mut onode.omap] {
        for _ in 0..rng.usize(..4) {
            pairs.insert(&texts.names[rng.usize(..9)], &texts.values[rng.usize(..150)]);
        }
    }
    if rng.bool() {
        onode.header = Text::Given(&texts.headers[rng.usize(..20)]);
    }
    onode.data = vec![9; rng.usize(..=usize::try_from(onode.size.min(50)).expect("small"))];
    let parts = [Parts::DATA, Parts::ATTRIBUTES, Parts::OMAP, Parts::HEADER, Parts::EVER];
    for part in parts.into_iter().filter(|_| rng.u32(..4) == 0) {
        match part {
            Parts::DATA if onode.size == 0 => continue,
            Parts::DATA => onode.data.clear(),
            Parts::ATTRIBUTES if onode.attributes.count == 0 => continue,
            Parts::ATTRIBUTES => drop(onode.attributes.move_out()),
            Parts::OMAP if onode.omap.count == 0 => continue,
            Parts::OMAP => drop(onode.omap.move_out()),
            Parts::HEADER => onode.header = Text::default(),
            _ => {}
        }
        onode.parts = onode.parts.with(part).with(Parts::EVER);
    }
    if (100..=ROW_BYTES).contains(&onode.size) && !onode.parts.has(Parts::DATA) && rng.bool() {
        onode.parts = onode.parts.with(Parts::EXTENTS);
        onode.data.clear();
    }
    onode
}

/// One chunk of 100 bytes.
const EXTENTS: [u8; 21] = [1, 1, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 16, 0, 0, 100, 0, 1, 2, 3, 4];

/// A row's value; with [`EXTENTS`], if the onode has some.
fn whole(onode: &Onode) -> Vec<u8> {
    let mut value = onode.encode(0);
    value.extend(EXTENTS.iter().filter(|_| onode.parts.has(Parts::EXTENTS)));
    value
}

#[test]
fn frozen_bytes() {
    assert_eq!(Onode::new(5).encode(0), [1, 0, 5, 0, 0, 0, 0, 0, 0]);
    let value = Bytes::from_static(b"vw");
    let mut onode = Onode::new(5);
    onode.size = 300;
    onode.hint = Hint { object_bytes: 1, write_bytes: 2, flags: HintFlags::APPEND_ONLY };
    onode.attributes.insert(b"n", &value);
    onode.omap.count = 2;
    onode.parts = Parts::OMAP.with(Parts::EVER);
    onode.header = Text::Row(b"h");
    onode.data = b"data".to_vec();
    assert_eq!(onode.encode(0), b"\x01\x29\x05\x00\xac\x02\x01\x02\x10\x01\x01n\x02vw\x02\x01h\x04data");
}

/// The example of `docs/FORMAT.md`.
#[test]
fn frozen_bytes_with_extents() {
    let onode = Onode { size: 1024, parts: Parts::EXTENTS, ..Onode::new(5) };
    let mut extents = Extents::EMPTY;
    let at = Paddr::new(SegmentId(7), 0x3000);
    extents.set(0, Some(Chunk { at, bytes: 1024, crc: Crc(0x0403_0201) }));
    let value = [onode.encode(0), extents.encode().expect("not empty")].concat();
    let row = b"\x01\x01\0\0\0\x01\0\x07\0\0\0\0\x30\0\0\0\x04\x01\x02\x03\x04";
    assert_eq!(value, [&b"\x01\x40\x05\0\x80\x08\0\0\0"[..], row].concat());
    assert_eq!(OnodeRef::decode(&value).expect("good bytes").extents(), Ok(Some(extents)));
    let id = crate::ObjectId::new("a");
    let row = key::extents(Member { hash: id.hash, family: 5, number: 0 }, 0);
    assert_eq!(identity_of(TreeKind::Names, &key::names(&id), &value), Ok(row));
}

#[test]
fn onodes_come_back() {
    let (mut rng, texts) = (Rng::with_seed(6), Texts::new());
    for _ in 0..20_000 {
        let bytes = whole(&onode(&mut rng.clone(), &texts));
        let onode = onode(&mut rng, &texts);
        let room = if onode.parts.has(Parts::EXTENTS) { EXTENTS_BYTES_MAX - EXTENTS.len() } else { 0 };
        assert_eq!(bytes.len() + room, onode.encoded_bytes());
        let back = OnodeRef::decode(&bytes).expect("good bytes");
        assert_eq!(back.to_onode(), onode);
        assert_eq!(!back.extents.is_empty(), onode.parts.has(Parts::EXTENTS));
    }
}

#[test]
fn no_bytes_make_it_panic_and_one_encoding_each() {
    let (mut rng, texts) = (Rng::with_seed(7), Texts::new());
    let mut decoded = 0;
    for _ in 0..200_000 {
        let mut bytes = whole(&onode(&mut rng, &texts));
        for _ in 0..rng.usize(..3) {
            let index = rng.usize(..bytes.len());
            match rng.u32(..4) {
                0 => bytes.truncate(index),
                1 => bytes.insert(index, rng.u8(..)),
                2 => bytes[index] = rng.u8(..4),
                _ => bytes[index] ^= 1 << rng.u32(..8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(onode) = OnodeRef::decode(&bytes) {
            assert_eq!([&onode.to_onode().encode(0), onode.extents].concat(), bytes);
            decoded += 1;
        }
    }
    assert!(decoded > 50_000, "most would prove nothing");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let texts = Texts::new();
    let refused = |change: &dyn Fn(&mut Onode)| {
        let mut onode = Onode::new(5);
        onode.size = 10;
        onode.attributes.insert(b"b", &texts.values[0]);
        onode.attributes.insert(b"c", &texts.values[0]);
        assert!(OnodeRef::decode(&onode.encode(0)).is_ok());
        change(&mut onode);
        assert!(OnodeRef::decode(&whole(&onode)).is_err(), "{onode:?}");
    };
    let refused_extents = |size: u64, parts: Parts, extents: &[u8]| {
        let onode = Onode { size, parts: Parts::EXTENTS.with(parts), ..Onode::new(5) };
        let value = [&onode.encode(0), extents].concat();
        assert!(OnodeRef::decode(&value).is_err(), "{onode:?} {extents:?}");
    };
    assert!(OnodeRef::decode(&whole(&Onode { size: 100, parts: Parts::EXTENTS, ..Onode::new(5) })).is_ok());
    refused_extents(99, Parts::default(), &EXTENTS);
    refused_extents(ROW_BYTES + 1, Parts::default(), &EXTENTS);
    refused_extents(100, Parts::DATA.with(Parts::EVER), &EXTENTS);
    refused_extents(100, Parts::default(), &[]);
    refused_extents(100, Parts::default(), &EXTENTS[..20]);
    refused_extents(100, Parts::default(), &[&EXTENTS[..], &[0]].concat());
    refused_extents(100, Parts::default(), &[1, 0, 0, 0, 0, 0, 0]);
    refused(&|onode| onode.attributes.inline.swap(0, 1));
    refused(&|onode| onode.attributes.inline[1].0 = b"b");
    refused(&|onode| onode.attributes.inline[0].0 = b"");
    refused(&|onode| onode.attributes.inline[0].0 = &[b'a'; 257]);
    refused(&|onode| onode.attributes.count = 3);
    refused(&|onode| onode.data = vec![0; 11]);
    refused(&|onode| onode.size = limits::OBJECT_BYTES_MAX + 1);
    refused(&|onode| onode.parts = Parts::HEADER);
    refused(&|onode| onode.parts = Parts::OMAP.with(Parts::EVER));
    refused(&|onode| onode.parts = Parts(128));
    refused(&|onode| onode.hint.flags = HintFlags(1 << 10));
    refused(&|onode| {
        onode.size = 0;
        onode.parts = Parts::DATA.with(Parts::EVER);
    });
}
