//! Bytes of onodes: frozen, canonical, and harmless whatever they are.

use fastrand::Rng;

use super::*;

fn onode(rng: &mut Rng) -> Onode {
    let mut onode = Onode::new([0, 5, 300, u64::MAX][rng.usize(..4)]);
    onode.size = [0, 1, 100, 1 << 40][rng.usize(..4)];
    onode.number = rng.u64(..3);
    if rng.bool() {
        onode.hint =
            Hint { object_bytes: rng.u64(..), write_bytes: rng.u64(..200), flags: HintFlags::IMMUTABLE };
    }
    for pairs in [&mut onode.attributes, &mut onode.omap] {
        for _ in 0..rng.usize(..4) {
            pairs.insert(
                &Bytes::from(vec![rng.u8(..3); rng.usize(1..4)]),
                &Bytes::from(vec![7; rng.usize(..150)]),
            );
        }
    }
    if rng.bool() {
        onode.header = Bytes::from(vec![3; rng.usize(..20)]);
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
            Parts::HEADER => onode.header = Bytes::new(),
            _ => {}
        }
        onode.parts = onode.parts.with(part).with(Parts::EVER);
    }
    onode
}

#[test]
fn frozen_bytes() {
    assert_eq!(Onode::new(5).encode(), [1, 0, 5, 0, 0, 0, 0, 0, 0]);
    let mut onode = Onode::new(5);
    onode.size = 300;
    onode.hint = Hint { object_bytes: 1, write_bytes: 2, flags: HintFlags::APPEND_ONLY };
    onode.attributes.insert(&Bytes::from_static(b"n"), &Bytes::from_static(b"vw"));
    onode.omap.count = 2;
    onode.parts = Parts::OMAP.with(Parts::EVER);
    onode.header = Bytes::from_static(b"h");
    onode.data = b"data".to_vec();
    assert_eq!(onode.encode(), b"\x01\x29\x05\x00\xac\x02\x01\x02\x10\x01\x01n\x02vw\x02\x01h\x04data");
}

#[test]
fn onodes_come_back() {
    let mut rng = Rng::with_seed(6);
    for _ in 0..20_000 {
        let onode = onode(&mut rng);
        let bytes = onode.encode();
        assert_eq!(bytes.len(), onode.encoded_bytes());
        assert_eq!(OnodeRef::decode(&bytes).expect("good bytes").to_onode(), onode);
    }
}

#[test]
fn no_bytes_make_it_panic_and_one_encoding_each() {
    let mut rng = Rng::with_seed(7);
    let mut decoded = 0;
    for _ in 0..200_000 {
        let mut bytes = onode(&mut rng).encode();
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
            assert_eq!(onode.to_onode().encode(), bytes);
            decoded += 1;
        }
    }
    assert!(decoded > 50_000, "most would prove nothing");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let refused = |change: &dyn Fn(&mut Onode)| {
        let mut onode = Onode::new(5);
        onode.size = 10;
        onode.attributes.insert(&Bytes::from_static(b"b"), &Bytes::new());
        onode.attributes.insert(&Bytes::from_static(b"c"), &Bytes::new());
        assert!(OnodeRef::decode(&onode.encode()).is_ok());
        change(&mut onode);
        assert!(OnodeRef::decode(&onode.encode()).is_err(), "{onode:?}");
    };
    refused(&|onode| onode.attributes.inline.swap(0, 1));
    refused(&|onode| onode.attributes.inline[1].0 = Bytes::from_static(b"b"));
    refused(&|onode| onode.attributes.inline[0].0 = Bytes::new());
    refused(&|onode| onode.attributes.inline[0].0 = Bytes::from(vec![b'a'; 257]));
    refused(&|onode| onode.attributes.count = 3);
    refused(&|onode| onode.data = vec![0; 11]);
    refused(&|onode| onode.size = limits::OBJECT_BYTES_MAX + 1);
    refused(&|onode| onode.parts = Parts::HEADER);
    refused(&|onode| onode.parts = Parts::OMAP.with(Parts::EVER));
    refused(&|onode| onode.parts = Parts(64));
    refused(&|onode| onode.hint.flags = HintFlags(1 << 10));
    refused(&|onode| {
        onode.size = 0;
        onode.parts = Parts::DATA.with(Parts::EVER);
    });
}
