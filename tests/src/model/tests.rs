//! The model, operation by operation: what each means, what it refuses, and in which order refusals come.

use super::*;

fn bytes(bytes: impl AsRef<[u8]>) -> Bytes {
    bytes.as_ref().into()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}

/// A store with pool 1 and what becomes of these operations on object "a".
fn on_a(operations: &[Op]) -> (Model, Result<(), Refusal>) {
    let mut model = Model::default();
    model.create_pool("p").expect("a good name");
    let id = ObjectId::new("a");
    let transaction: Vec<_> = operations.iter().map(|operation| (id.clone(), operation.clone())).collect();
    let result = model.submit(1, &transaction);
    (model, result)
}

/// Object "a" after these operations, one transaction.
fn a_after(operations: &[Op]) -> Object {
    let (model, result) = on_a(operations);
    result.expect("these are good");
    model.pool(1).expect("made").object(&ObjectId::new("a")).expect("it exists").clone()
}

fn data_after(operations: &[Op]) -> Vec<u8> {
    a_after(operations).contents.read(0, u64::MAX)
}

fn refused(operations: &[Op]) -> (usize, Why) {
    let (model, result) = on_a(operations);
    assert_eq!(model.pool(1).expect("made").object_count(), 0, "nothing is applied");
    let refusal = result.expect_err("refused");
    (refusal.op, refusal.why)
}

#[test]
fn the_hash_and_the_order_are_frozen() {
    let hash = |namespace: &str, name: &str| ObjectId::in_namespace(namespace, name).hash;
    assert_eq!(hash("", "a"), 0x66ad_03f7);
    assert_eq!(hash("", "cat.jpg"), 0x74a7_940f);
    assert_eq!(hash("ns", "cat.jpg"), 0x7f56_a923);
    assert_eq!(hash("a", "bc"), 0x907a_d201);
    assert_eq!(hash("ab", "c"), 0x8c2d_0032);
    let id = |hash| ObjectId::new("n").with_hash(hash);
    let in_order = [
        id(0),
        id(1 << 31),
        id(1 << 30),
        id(1).at(1, u64::MAX),
        id(1).at(2, 1),
        id(1).at(2, 2),
        id(1),
        ObjectId::in_namespace("x", "a").with_hash(1),
        id(3),
    ];
    assert!(in_order.is_sorted());
    assert_eq!((id(1).collection(0), id(1).collection(1), id(2).collection(2)), (0, 1, 1));
}

#[test]
fn writes_grow_and_leave_holes() {
    assert_eq!(data_after(&[Op::Write(2, bytes("xy"))]), b"\0\0xy");
    assert_eq!(data_after(&[Op::Write(9, bytes(""))]), b"", "not even the size");
    assert_eq!(
        data_after(&[Op::Append(bytes("ab")), Op::Append(bytes("c")), Op::Write(1, bytes("X"))]),
        b"aXc"
    );
    assert_eq!(data_after(&[Op::Zero(1, 2)]), b"\0\0\0");
    assert_eq!(data_after(&[Op::Zero(7, 0)]), b"");
    assert_eq!(data_after(&[Op::Append(bytes("abcd")), Op::Zero(1, 2)]), b"a\0\0d");
    assert_eq!(data_after(&[Op::Append(bytes("abcd")), Op::Truncate(2), Op::Truncate(4)]), b"ab\0\0");
    assert_eq!(data_after(&[Op::Touch]), b"");
}

#[test]
fn contents_agree_with_plain_bytes() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..50 {
        let (mut plain, mut contents) = (Vec::new(), Contents::default());
        for _ in 0..40 {
            let (offset, count) = (rng.usize(..20_000), rng.usize(..9_000));
            let end = offset + count;
            match rng.u8(..3) {
                0 if count > 0 => {
                    let data: Vec<u8> = (0..count).map(|_| rng.u8(..3)).collect();
                    plain.resize(plain.len().max(end), 0);
                    plain[offset..end].copy_from_slice(&data);
                    contents.write(offset as u64, &data);
                }
                1 if count > 0 => {
                    plain.resize(plain.len().max(end), 0);
                    plain[offset..end].fill(0);
                    contents.zero(offset as u64, end as u64);
                }
                _ => {
                    plain.resize(offset, 0);
                    contents.truncate(offset as u64);
                }
            }
            assert_eq!(contents.size(), plain.len() as u64);
            assert!(contents.read(0, u64::MAX) == plain);
            let (from, to) = (offset.min(plain.len()), end.min(plain.len()));
            assert!(contents.read(offset as u64, count as u64) == plain[from..to]);
            let mut again = Contents::default();
            again.write(0, &plain);
            assert_eq!(again, contents, "one value for one content");
        }
    }
}

#[test]
fn a_huge_hole_costs_nothing() {
    let object = a_after(&[Op::Truncate(1 << 40)].map(|op| vec![Op::Touch, op]).concat());
    assert_eq!(object.contents.size(), 1 << 40);
    assert_eq!(object.contents.read((1 << 40) - 1, 9), [0]);
    let object = a_after(&[Op::Write(1 << 45, bytes("x")), Op::Zero(0, (1 << 45) + 1)]);
    assert_eq!(object.contents.read(1 << 45, 1), [0]);
}

#[test]
fn the_four_parts_are_independent() {
    let object = a_after(&[
        Op::Append(bytes("data")),
        Op::SetAttributes(pairs(&[("n", "1"), ("m", "2")])),
        Op::RemoveAttribute(bytes("n")),
        Op::RemoveAttribute(bytes("never there")),
        Op::OmapSetHeader(bytes("h")),
        Op::OmapInsert(pairs(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")])),
        Op::OmapRemove(vec![bytes("a"), bytes("x")]),
        Op::OmapRemoveRange(bytes("b"), bytes("d")),
    ]);
    assert_eq!(object.contents.read(0, 9), b"data");
    assert_eq!(object.attributes.into_iter().collect::<Vec<_>>(), pairs(&[("m", "2")]));
    assert_eq!(*object.omap_header, *b"h");
    assert_eq!(object.omap.into_iter().collect::<Vec<_>>(), pairs(&[("d", "4")]));
    let cleared = a_after(&[
        Op::Append(bytes("data")),
        Op::OmapSetHeader(bytes("h")),
        Op::OmapInsert(pairs(&[("a", "1")])),
        Op::OmapClear,
    ]);
    assert!(cleared.omap.is_empty() && cleared.omap_header.is_empty());
    assert_eq!(cleared.contents.size(), 4);
    let made_again =
        a_after(&[Op::Append(bytes("x")), Op::SetAttributes(pairs(&[("n", "1")])), Op::Remove, Op::Create]);
    assert_eq!(made_again, Object::default());
}

#[test]
fn what_needs_an_object_is_refused_without_one() {
    let need = [
        Op::Truncate(0),
        Op::SetAttributes(Vec::new()),
        Op::RemoveAttribute(bytes("n")),
        Op::OmapInsert(Vec::new()),
        Op::OmapRemove(Vec::new()),
        Op::OmapRemoveRange(bytes("a"), bytes("b")),
        Op::OmapClear,
        Op::OmapSetHeader(bytes("")),
        Op::SetHint(Hint::default()),
    ];
    for operation in need {
        assert_eq!(refused(std::slice::from_ref(&operation)), (0, Why::NotFound), "{operation:?}");
        assert_eq!(refused(&[Op::Touch, Op::Remove, operation.clone()]), (2, Why::NotFound), "{operation:?}");
        on_a(&[Op::Touch, operation]).1.expect("it exists");
    }
    assert_eq!(on_a(&[Op::Remove]).1, Ok(()));
    assert_eq!(refused(&[Op::Touch, Op::Create]), (1, Why::AlreadyExists));
}

#[test]
fn conditions() {
    let make = [
        Op::Append(bytes("abc")),
        Op::SetAttributes(pairs(&[("n", "1")])),
        Op::OmapInsert(pairs(&[("k", "2")])),
    ];
    let attribute = |name, value: Option<&str>| Condition::Attribute(bytes(name), value.map(bytes));
    let omap = |name, value: Option<&str>| Condition::Omap(bytes(name), value.map(bytes));
    let good = [
        Condition::Exists,
        Condition::Size(3),
        attribute("n", Some("1")),
        attribute("m", None),
        omap("k", Some("2")),
        omap("j", None),
    ];
    let bad = [
        Condition::Absent,
        Condition::Size(2),
        attribute("n", Some("2")),
        attribute("n", None),
        attribute("m", Some("1")),
        omap("k", Some("3")),
        omap("k", None),
        omap("j", Some("")),
    ];
    for condition in good {
        let operations = [make.to_vec(), vec![Op::Expect(condition.clone())]].concat();
        assert_eq!(on_a(&operations).1, Ok(()), "{condition:?}");
        assert_eq!(
            refused(&[Op::Expect(condition)]),
            (0, Why::PreconditionFailed),
            "none holds of what is absent"
        );
    }
    for condition in bad {
        let operations = [make.to_vec(), vec![Op::Expect(condition)]].concat();
        assert_eq!(refused(&operations), (3, Why::PreconditionFailed));
    }
    let (model, result) = on_a(&[Op::Expect(Condition::Absent)]);
    assert_eq!(result, Ok(()));
    assert_eq!(model.pool(1).expect("made").object_count(), 0, "an expectation makes nothing");
}

#[test]
fn limits() {
    let long = |count| bytes(vec![b'x'; count]);
    let pair = |key, value| vec![(long(key), long(value))];
    let max = 1_u64 << 50;
    let bad = [
        Op::Write(u64::MAX, bytes("x")),
        Op::Write(max, bytes("x")),
        Op::Zero(u64::MAX, 2),
        Op::Zero(1, max),
        Op::Truncate(max + 1),
        Op::SetAttributes(pair(0, 1)),
        Op::SetAttributes(pair(257, 1)),
        Op::SetAttributes(pair(1, 65_537)),
        Op::RemoveAttribute(long(0)),
        Op::OmapInsert(pair(0, 1)),
        Op::OmapInsert(pair(2049, 1)),
        Op::OmapInsert(pair(1, (1 << 20) + 1)),
        Op::OmapRemove(vec![long(2049)]),
        Op::OmapRemoveRange(bytes("b"), bytes("a")),
        Op::OmapSetHeader(long(65_537)),
        Op::SetHint(Hint { flags: 1 << 10, ..Hint::default() }),
        Op::Expect(Condition::Omap(long(0), None)),
    ];
    for operation in bad {
        assert_eq!(refused(std::slice::from_ref(&operation)), (0, Why::Invalid), "absent: {operation:?}");
        assert_eq!(refused(&[Op::Touch, operation]), (1, Why::Invalid));
    }
    let good = [
        Op::Write(u64::MAX, bytes("")),
        Op::Write(max - 1, bytes("x")),
        Op::Zero(0, max),
        Op::Truncate(max),
        Op::SetAttributes(pair(256, 65_536)),
        Op::OmapInsert(pair(2048, 1 << 20)),
        Op::OmapRemoveRange(bytes("a"), bytes("a")),
        Op::OmapSetHeader(long(65_536)),
        Op::SetHint(Hint { flags: 1023, ..Hint::default() }),
    ];
    for operation in good {
        on_a(&[Op::Touch, operation]).1.expect("just within");
    }
    assert_eq!(refused(&[Op::Touch, Op::Truncate(max), Op::Append(bytes("x"))]), (2, Why::Invalid));
    for id in [ObjectId::new(""), ObjectId::new(long(2049)), ObjectId::in_namespace(long(257), "a")] {
        let mut model = on_a(&[]).0;
        assert_eq!(model.submit(1, &[(id, Op::Remove)]), Err(Refusal { op: 0, why: Why::Invalid }));
    }
}

#[test]
fn a_refused_transaction_leaves_nothing_and_later_operations_see_earlier_ones() {
    let (mut model, _) = on_a(&[Op::Append(bytes("1"))]);
    let before = model.clone();
    let (a, b) = (ObjectId::new("a"), ObjectId::new("b"));
    let transaction =
        [(b.clone(), Op::Create), (a.clone(), Op::Remove), (a.clone(), Op::Create), (b.clone(), Op::Create)];
    assert_eq!(model.submit(1, &transaction), Err(Refusal { op: 3, why: Why::AlreadyExists }));
    assert_eq!(model, before);
    model.submit(1, &transaction[..3]).expect("the rest is good");
    assert_eq!(model.pool(1).expect("made").object_count(), 2);
    assert_eq!(model.pool(1).expect("made").read(&a, 0, 9), Ok(Vec::new()));
    assert_ne!(model, before, "the copy is another state");
}

#[test]
fn a_transaction_stays_in_one_collection() {
    let (mut model, _) = on_a(&[]);
    let (one, two) = (ObjectId::new("x").with_hash(0), ObjectId::new("x").with_hash(1));
    let transaction = [(one.clone(), Op::Truncate(1)), (two.clone(), Op::Touch)];
    assert_eq!(model.submit(1, &transaction), Err(Refusal { op: 0, why: Why::NotFound }));
    model.set_collection_bits(1, 1).expect("made");
    assert_eq!(model.submit(1, &transaction), Err(Refusal { op: 1, why: Why::Invalid }), "before all else");
    model.submit(1, &[(two, Op::Touch)]).expect("alone");
}

#[test]
fn listings_and_ranges_page() {
    let (mut model, _) = on_a(&[]);
    let names: Vec<ObjectId> = (0..20).map(|number| ObjectId::new(format!("{number}"))).collect();
    for id in &names {
        model.submit(1, &[(id.clone(), Op::Touch)]).expect("good");
    }
    let pool = model.pool(1).expect("made");
    let mut sorted = names.clone();
    sorted.sort();
    assert_ne!(sorted, names);
    assert_eq!(pool.list(None, 99), sorted);
    assert_eq!(pool.list(Some(&sorted[7]), 3), sorted[7..10]);

    let keys = pairs(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    let (model, _) = on_a(&[Op::Touch, Op::OmapInsert(keys.clone())]);
    let (pool, a) = (model.pool(1).expect("made"), ObjectId::new("a"));
    let range = |from: &str, to: Option<&str>, limit, direction| {
        pool.omap_range(&a, &bytes(from), to.map(bytes).as_ref(), limit, direction).expect("it exists")
    };
    assert_eq!(range("b", None, 2, Direction::Up), keys[1..3]);
    assert_eq!(range("b", Some("d"), 9, Direction::Up), keys[1..3]);
    assert_eq!(range("", Some("d"), 1, Direction::Down), keys[2..3]);
    assert!(range("d", Some("a"), 9, Direction::Up).is_empty());
    assert_eq!(
        pool.omap_get(&a, &[bytes("d"), bytes("x"), bytes("a")]).expect("it exists"),
        [keys[3].clone(), keys[0].clone()]
    );
    assert_eq!(pool.omap_get(&ObjectId::new("none"), &[]), Err(Why::NotFound));
}

#[test]
fn pools_come_and_go() {
    let mut model = Model::default();
    assert_eq!(model.create_pool("one"), Ok(1));
    assert_eq!(model.create_pool("one"), Err(Why::AlreadyExists));
    assert_eq!(model.create_pool("two"), Ok(2));
    assert_eq!(model.remove_pool(1), Ok(()));
    assert_eq!(model.remove_pool(1), Err(Why::NotFound));
    assert_eq!(model.create_pool("one"), Ok(3), "an id is never used twice");
    assert_eq!(model.pools().collect::<Vec<_>>(), [(2, "two"), (3, "one")]);
    for name in ["", "a\nb", &"x".repeat(256)] {
        assert_eq!(model.create_pool(name), Err(Why::Invalid));
    }
    assert_eq!(model.submit(1, &[]), Err(Refusal { op: 0, why: Why::NotFound }));
    assert!(model.pool(1).is_err());
}
