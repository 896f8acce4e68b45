//! What single operations do, and what they cost: rows looked up, rows changed, pieces.

use bytes::Bytes;
use seabed_object::graves::{Drained, drain};
use seabed_object::read::{self, Part, Range, ReadError};
use seabed_object::stream::{self, Streamed};
use seabed_object::value::Value;
use seabed_object::{
    Condition, Direction, Effects, Family, Hint, HintFlags, Limits, NewPiece, ObjectId, Op, Outcome, Placed,
    Refusal, Refused, Transaction, bulk_parts, execute, key, resolve_appends,
};
use seabed_types::TreeKind;

use super::store::{Store, encoded};

const MIB: usize = 1024 * 1024;

fn store() -> Store {
    Store::new(Limits::new(16 * 1024, 64 * MIB), 1)
}

fn txn(build: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut txn = Transaction::new();
    build(&mut txn);
    txn
}

fn ready(store: &mut Store, build: impl FnOnce(&mut Transaction)) -> Effects {
    let outcome = store.execute(&txn(build), &[]);
    let Outcome::Ready(effects) = outcome else { panic!("{outcome:?}") };
    effects
}

fn apply(store: &mut Store, build: impl FnOnce(&mut Transaction)) {
    let effects = ready(store, build);
    store.apply(effects);
}

fn refused(store: &mut Store, build: impl FnOnce(&mut Transaction)) -> (usize, Refused) {
    let outcome = store.execute(&txn(build), &[]);
    let Outcome::Refused(Refusal { op, why }) = outcome else { panic!("{outcome:?}") };
    (op, why)
}

fn bytes_of(store: &Store, id: &ObjectId) -> Vec<u8> {
    store.load_plan(read::read(store, id, 0, u64::MAX).expect("it exists"))
}

fn trees(effects: &Effects) -> Vec<TreeKind> {
    effects.rows.iter().map(|row| row.tree).collect()
}

#[test]
fn an_aligned_overwrite_costs_two_look_ups_and_one_small_patch() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; MIB]);
    });
    let mut effects = ready(&mut store, |txn| {
        txn.write(&id, 8192, vec![2; 4096]);
    });
    assert_eq!(store.looked_up.borrow().len(), 2);
    assert_eq!(trees(&effects), [TreeKind::Bodies], "no onode changes");
    assert_eq!(effects.pieces.iter().map(|piece| piece.data.len()).collect::<Vec<_>>(), [4096]);
    assert_eq!(effects.freed.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [4096]);
    let placed = [Placed {
        at: seabed_types::Paddr::new(seabed_types::SegmentId(9), 0),
        crcs: effects.pieces[0].sum(),
    }];
    let (rows, usage) = encoded(&mut effects, &placed);
    let seabed_object::Change::Patch(patch) = &rows[0].change else { panic!("a patch") };
    assert_eq!(patch.len(), 2 + 7 + 12);
    assert_eq!(rows[0].pieces[..], [(placed[0].at, 4096)]);
    assert_eq!(usage.allocated, 0);
}

#[test]
fn new_objects_and_growth_look_up_no_bodies() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.put(&id, vec![1; 200_000], [("name", vec![1; 1000])]);
    });
    assert!(store.looked_up.borrow().iter().all(|(tree, _)| *tree == TreeKind::Names));
    apply(&mut store, |txn| {
        txn.truncate(&id, 65_536 * 4);
    });
    apply(&mut store, |txn| {
        txn.append(&id, vec![2; 65_536]);
    });
    assert!(store.looked_up.borrow().iter().all(|(tree, _)| *tree == TreeKind::Names));
}

#[test]
fn pieces_are_runs_of_whole_chunks_and_short_ones_apart() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    let effects = ready(&mut store, |txn| {
        txn.write(&id, 61_440, vec![7; 4096 + 65_536 + 5000]);
    });
    let shape = |effects: &Effects| {
        effects.pieces.iter().map(|piece| (piece.data.len(), piece.is_aligned())).collect::<Vec<_>>()
    };
    assert_eq!(shape(&effects), [(4096, true), (65_536, true), (4096, true), (904, false)]);
    store.apply(effects);
    // Within the last chunk: old bytes survive, the length stays.
    let effects = ready(&mut store, |txn| {
        txn.write(&id, 61_440 + 73_728 + 100, b"xyz");
    });
    assert_eq!(shape(&effects), [(904, false)]);
    store.apply(effects);
    // Two writes that meet in one chunk are one piece.
    let effects = ready(&mut store, |txn| {
        txn.write(&id, 0, b"one").write(&id, 3, b"two").write(&id, 4096, vec![1; 4096]);
    });
    assert_eq!(shape(&effects), [(6, false), (4096, true)]);
    store.apply(effects);
    assert_eq!(&bytes_of(&store, &id)[..8], b"onetwo\0\0");
    store.check();
}

#[test]
fn zero_and_truncate_make_holes_and_shorten_chunks() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 20_000]);
    });
    apply(&mut store, |txn| {
        txn.zero(&id, 4000, 9000);
    });
    assert_eq!(read::allocated(&store, &id), Ok(4000 + 4096 + 3616));
    let range = |offset, bytes| Range { offset, bytes };
    assert_eq!(
        read::extents(&store, &id, 0, u64::MAX),
        Err(ReadError::Invalid { what: "" }).or(read::extents(&store, &id, 0, 30_000))
    );
    assert_eq!(
        read::extents(&store, &id, 0, 30_000),
        Ok(vec![range(0, 4000), range(12_288, 20_000 - 12_288)])
    );
    apply(&mut store, |txn| {
        txn.truncate(&id, 12_300);
    });
    apply(&mut store, |txn| {
        txn.truncate(&id, 20_000);
    });
    let mut expected = vec![0; 20_000];
    expected[..4000].fill(1);
    assert!(bytes_of(&store, &id) == expected);
    // A zero far away costs nothing.
    let effects = ready(&mut store, |txn| {
        txn.zero(&id, 1 << 40, 1 << 40);
    });
    assert_eq!(
        trees(&effects),
        [TreeKind::Names, TreeKind::Bodies],
        "its extents are not in its onode any more"
    );
    store.apply(effects);
    let effects = ready(&mut store, |txn| {
        txn.zero(&id, 1 << 42, 1 << 40);
    });
    assert_eq!(trees(&effects), [TreeKind::Names]);
    store.apply(effects);
    let plan = read::read(&store, &id, 1 << 30, 1 << 30).expect("it exists");
    assert_eq!(plan.parts, [Part::Zeros(1 << 30)]);
}

#[test]
fn what_moved_out_stays_out_until_it_is_empty() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 512]).set_attr(&id, "a", vec![2; 400]);
    });
    assert!(store.tree(TreeKind::Bodies).is_empty());
    apply(&mut store, |txn| {
        txn.set_attr(&id, "b", vec![3; 200]);
    });
    assert_eq!(store.tree(TreeKind::Bodies).len(), 2);
    apply(&mut store, |txn| {
        txn.remove_attr(&id, "b");
    });
    assert_eq!(store.tree(TreeKind::Bodies).len(), 1);
    apply(&mut store, |txn| {
        txn.remove_attr(&id, "a").set_attr(&id, "c", b"c");
    });
    assert!(store.tree(TreeKind::Bodies).is_empty());
    apply(&mut store, |txn| {
        txn.write(&id, 512, b"x").truncate(&id, 10);
    });
    assert_eq!(read::allocated(&store, &id), Ok(10), "data is a chunk, which the onode points to");
    assert!(store.tree(TreeKind::Bodies).is_empty());
    apply(&mut store, |txn| {
        txn.truncate(&id, 70_000).truncate(&id, 10);
    });
    assert_eq!(store.tree(TreeKind::Bodies).len(), 1);
    apply(&mut store, |txn| {
        txn.truncate(&id, 0).write(&id, 0, b"x");
    });
    assert!(store.tree(TreeKind::Bodies).is_empty());
    store.check();
}

#[test]
fn an_onode_that_is_too_large_loses_its_largest_part() {
    let limits = Limits::new(4096, 64 * MIB);
    let (mut store, id) = (Store::new(limits, 1), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 200]).set_attr(&id, "a", vec![2; 210]).omap_insert(&id, [("k", [3; 20])]);
    });
    assert!(store.tree(TreeKind::Bodies).is_empty());
    apply(&mut store, |txn| {
        txn.omap_set_header(&id, vec![4; 100]);
    });
    let kinds: Vec<_> =
        store.tree(TreeKind::Bodies).keys().map(|key| key::decode_bodies(key).expect("good").1).collect();
    assert_eq!(kinds, [key::Position::Attribute(Bytes::from_static(b"a"))]);
}

#[test]
fn removal_leaves_a_grave_only_if_there_are_rows() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, b"small");
    });
    let effects = ready(&mut store, |txn| {
        txn.remove(&id);
    });
    assert_eq!(trees(&effects), [TreeKind::Names]);
    store.apply(effects);
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 5000]);
    });
    let effects = ready(&mut store, |txn| {
        txn.put(&id, vec![2; 70_000], [("a", "b")]);
    });
    assert_eq!(trees(&effects), [TreeKind::Names, TreeKind::Bodies, TreeKind::Bodies]);
    assert_eq!(effects.freed.iter().map(|(_, bytes)| bytes).sum::<u32>(), 5000, "its onode pointed to it");
    store.apply(effects);
    let family = read::stat(&store, &id).expect("it exists").family;
    let effects = ready(&mut store, |txn| {
        txn.put(&id, vec![2; 5000], [("a", "b")]);
    });
    assert_eq!(trees(&effects), [TreeKind::Graves, TreeKind::Names]);
    assert!(effects.freed.is_empty(), "the grave's rows still point to it");
    store.apply(effects);
    assert_ne!(read::stat(&store, &id).expect("it exists").family, family, "a family is never used again");
    assert_eq!(drain(&store, &|alive| alive == family, 10), Ok(Drained::Nothing));
    let Ok(Drained::Slice { effects, is_last: true, .. }) = drain(&store, &|_| false, 10) else {
        panic!("a slice")
    };
    assert_eq!(effects.freed.iter().map(|(_, bytes)| bytes).sum::<u32>(), 70_000);
    store.apply(effects);
    store.check();
    assert_eq!(bytes_of(&store, &id), [2; 5000]);
}

#[test]
fn an_object_made_and_removed_at_once_leaves_nothing() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    let effects = ready(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 100_000]).set_attr(&id, "a", vec![1; 10_000]).remove(&id);
    });
    assert!(effects.is_empty() && effects.pieces.is_empty() && effects.freed.is_empty());
}

#[test]
fn refusals_name_the_operation_and_the_reason() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    let builds: [&dyn Fn(&mut Transaction); 9] = [
        &|txn| {
            txn.truncate(&id, 1);
        },
        &|txn| {
            txn.set_attr(&id, "a", "b");
        },
        &|txn| {
            txn.remove_attr(&id, "a");
        },
        &|txn| {
            txn.omap_insert(&id, [("a", "b")]);
        },
        &|txn| {
            txn.omap_remove(&id, ["a"]);
        },
        &|txn| {
            txn.omap_remove_range(&id, "a", "b");
        },
        &|txn| {
            txn.omap_clear(&id);
        },
        &|txn| {
            txn.omap_set_header(&id, "a");
        },
        &|txn| {
            txn.set_hint(&id, Hint::default());
        },
    ];
    for build in builds {
        assert_eq!(refused(&mut store, build), (0, Refused::NotFound));
    }
    assert_eq!(
        refused(&mut store, |txn| {
            txn.touch(&id).create(&id);
        }),
        (1, Refused::AlreadyExists)
    );
    let expect = |condition| {
        move |txn: &mut Transaction| {
            txn.touch(&ObjectId::new("b")).expect(&ObjectId::new("a"), condition);
        }
    };
    for condition in
        [Condition::Exists, Condition::Size(0), Condition::Attr { name: "a".into(), value: None }]
    {
        assert_eq!(refused(&mut store, expect(condition)), (1, Refused::PreconditionFailed));
    }
    let invalid = |store: &mut Store, op: Op| {
        let (at, why) = refused(store, |txn| {
            txn.touch(&id).push(&id, op);
        });
        assert!(matches!(why, Refused::Invalid { .. }) && at == 1, "{why:?}");
    };
    let data = || Bytes::from_static(b"data");
    invalid(&mut store, Op::Write { offset: u64::MAX - 2, data: data() });
    invalid(&mut store, Op::Write { offset: 1 << 50, data: data() });
    invalid(&mut store, Op::Zero { offset: 5, bytes: u64::MAX });
    invalid(&mut store, Op::Truncate { size: (1 << 50) + 1 });
    invalid(&mut store, Op::SetAttrs { pairs: [(Bytes::new(), data())].into_iter().collect() });
    invalid(&mut store, Op::SetAttrs { pairs: [(data(), vec![0; 65_537].into())].into_iter().collect() });
    invalid(&mut store, Op::OmapInsert { pairs: vec![(vec![1; 2049].into(), data())] });
    invalid(&mut store, Op::OmapInsert { pairs: vec![(data(), vec![0; MIB + 1].into())] });
    invalid(&mut store, Op::OmapSetHeader { header: vec![0; 65_537].into() });
    invalid(&mut store, Op::OmapRemoveRange { from: "b".into(), to: "a".into() });
    invalid(&mut store, Op::SetHint { hint: Hint { flags: HintFlags(1 << 20), ..Hint::default() } });
    let long = ObjectId::new(vec![1; 2049]);
    assert!(matches!(
        refused(&mut store, |txn| {
            txn.touch(&id).touch(&long);
        }),
        (1, Refused::Invalid { .. })
    ));
    assert!(matches!(read::stat(&store, &long), Err(ReadError::Invalid { .. })));
}

#[test]
fn what_does_not_fit_a_record_is_too_large_and_told_early() {
    let limits = Limits { record_bytes_max: 64 * 1024, ..Limits::new(16 * 1024, 64 * MIB) };
    let (mut store, id) = (Store::new(limits, 1), ObjectId::new("a"));
    for i in 0..100u32 {
        let pairs = (0..100u32).map(|j| ((i * 100 + j).to_be_bytes(), [0; 10]));
        apply(&mut store, |txn| {
            txn.touch(&id).omap_insert(&id, pairs);
        });
    }
    let before = store.trees.clone();
    let (op, why) = refused(&mut store, |txn| {
        txn.touch(&id).omap_clear(&id).touch(&id);
    });
    assert_eq!(op, 1);
    assert!(matches!(why, Refused::TooLarge { max: 65_536, .. }), "{why:?}");
    assert_eq!(store.trees, before);
    assert!(matches!(
        refused(&mut store, |txn| {
            txn.omap_insert(&id, (0..40u8).map(|i| ([i], [0; 2000])));
        }),
        (0, Refused::TooLarge { .. })
    ));
    apply(&mut store, |txn| {
        txn.omap_remove_range(&id, 0u32.to_be_bytes(), 1000u32.to_be_bytes());
    });
    assert_eq!(read::stat(&store, &id).expect("it exists").omap, 9000);
    store.check();
}

#[test]
fn one_pass_meets_all_that_is_absent() {
    let (mut store, ids) = (store(), ["a", "b", "c"].map(ObjectId::new));
    for id in &ids {
        apply(&mut store, |txn| {
            txn.write(id, 0, vec![1; 300_000]).set_attr(id, "x", vec![2; 600]);
        });
    }
    let txn = txn(|txn| {
        for id in &ids {
            txn.write(id, 10, vec![3; 200_000]).set_attr(id, "x", b"y").expect(id, Condition::Size(7));
        }
    });
    store.absent_one_in = 1;
    assert!(matches!(store.execute(&txn, &[]), Outcome::Refused(Refusal { op: 2, .. })));
    // Onodes; then rows (four of extents, one attribute, each object); then the chunks at the edges.
    assert_eq!(store.rounds, 3);
}

#[test]
fn damage_is_told_with_its_place() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 5000]);
    });
    let key = key::names(&id).to_vec();
    let onode = store.trees[0].insert(key.clone(), vec![9]).expect("it exists");
    let write = txn(|txn| {
        txn.write(&id, 0, b"x");
    });
    assert!(matches!(store.execute(&write, &[]), Outcome::Corrupt { at: None, .. }));
    assert!(matches!(read::stat(&store, &id), Err(ReadError::Stop(_))));
    store.trees[0].insert(key.clone(), onode);
    apply(&mut store, |txn| {
        txn.write(&id, 100_000, b"x");
    });
    let row = store.trees[1].first_entry().expect("two rows");
    let row = (row.key().clone(), row.get().clone());
    store.trees[1].insert(row.0.clone(), row.1[1..].to_vec());
    assert!(matches!(store.execute(&write, &[]), Outcome::Corrupt { at: None, .. }));
    assert!(matches!(read::read(&store, &id, 0, 10), Err(ReadError::Stop(_))));
}

#[test]
fn more_rows_than_an_onode_counts_are_damage() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    let key = key::names(&id).to_vec();
    apply(&mut store, |txn| {
        txn.touch(&id).omap_insert(&id, [("a", vec![1; 600])]);
    });
    let one = store.trees[0][&key].clone();
    apply(&mut store, |txn| {
        txn.omap_insert(&id, [("b", vec![1; 600])]);
    });
    store.trees[0].insert(key, one);
    let clear = txn(|txn| {
        txn.omap_clear(&id);
    });
    assert!(matches!(store.execute(&clear, &[]), Outcome::Corrupt { at: None, .. }));
}

#[test]
fn bulk_data_belongs_to_a_family() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    let write = txn(|txn| {
        txn.remove(&id).write(&id, 5, vec![7; 200_000]).omap_insert(&id, [("k", vec![8; 150_000])]);
    });
    let plan = bulk_parts(&store, &write, 128 * 1024, store.next_id, &store.limits).expect("all in memory");
    let shape: Vec<_> = plan.parts.iter().map(|part| (part.op, part.from, part.data.len())).collect();
    // Whole chunks only: not the first, of which 5 bytes were not written, nor the last, of 3397.
    assert_eq!(shape, [(1, 4091, 61_440), (1, 65_531, 65_536), (1, 131_067, 65_536), (2, 0, 150_000)]);
    assert!(plan.parts.iter().all(|part| part.family == Family::Allotted(store.next_id)));
    let base = std::mem::replace(&mut store.next_id, plan.next_id);
    let mut stored = Vec::new();
    for part in &plan.parts {
        let checksums =
            if part.op == 1 { seabed_object::Checksums::Chunks } else { seabed_object::Checksums::Whole };
        let Placed { at, crcs } = store.place(&NewPiece { data: part.data.clone(), row: 0, checksums });
        stored.push(part.stored(at, crcs));
    }
    let Outcome::Ready(effects) = store.execute(&write, &stored) else { panic!("it goes") };
    assert!(
        matches!(execute(&store, &write, &stored, base, &store.limits), Outcome::Ready(early) if early.next_id == plan.next_id),
        "a family that was allotted is passed even by a counter that was not advanced"
    );
    assert_eq!(
        effects.pieces.iter().map(|piece| piece.data.len()).collect::<Vec<_>>(),
        [4096, 200_005 % 4096]
    );
    store.apply(effects);
    let expected = [vec![0; 5], vec![7; 200_000]].concat();
    assert!(bytes_of(&store, &id) == expected);
    // The same parts are of no use to the object that replaces it.
    let again = txn(|txn| {
        txn.write(&id, 5, vec![7; 200_000]);
    });
    let others: Vec<_> = stored
        .iter()
        .map(|part| seabed_object::Stored { op: 0, family: Family::Existing(99), ..part.clone() })
        .collect();
    assert_eq!(execute(&store, &again, &others[..3], store.next_id, &store.limits), Outcome::Stale);
    store.check();
}

#[test]
fn appends_become_writes_where_they_will_be() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 100]);
    });
    let appends = txn(|txn| {
        txn.append(&id, b"ab").truncate(&id, 50).append(&id, b"cd").remove(&id).append(&id, b"ef");
    });
    let resolved = resolve_appends(&store, &appends, &[]).expect("all in memory");
    let offset = |op: &Op| if let Op::Write { offset, .. } = op { Some(*offset) } else { None };
    let offsets: Vec<_> =
        resolved.operations().iter().filter_map(|operation| offset(&operation.op)).collect();
    assert_eq!(offsets, [100, 50, 0]);
}

#[test]
fn a_streaming_put_whose_grave_was_drained_is_stale() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    let (family, effects) = stream::begin(id.hash, store.next_id);
    store.apply(effects);
    let streamed = Streamed { object: &id, family, size: 3, tail: Bytes::from_static(b"abc"), attrs: &[] };
    assert!(matches!(stream::finish(&store, &streamed, store.next_id, &store.limits), Outcome::Ready(_)));
    let Ok(Drained::Slice { effects, .. }) = drain(&store, &|_| false, 1) else { panic!("a slice") };
    store.apply(effects);
    assert_eq!(stream::finish(&store, &streamed, store.next_id, &store.limits), Outcome::Stale);
}

#[test]
fn reads_give_runs_of_neighbouring_chunks() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 65_536]);
    });
    let plan = read::read(&store, &id, 5000, 20_000).expect("it exists");
    let [Part::Run(run)] = &plan.parts[..] else { panic!("one run, not {:?}", plan.parts) };
    assert_eq!((run.bytes, run.crcs.len(), run.skip, run.take), (24_576, 6, 904, 20_000));
    assert_eq!(read::read(&store, &id, 70_000, 5).expect("it exists").parts, []);
    assert!(matches!(read::attr(&store, &id, b"no"), Err(ReadError::NoSuchAttr)));
    apply(&mut store, |txn| {
        txn.set_attr(&id, "large", vec![1; 5000]);
    });
    assert!(matches!(read::attr(&store, &id, b"large"), Ok(Value::Stored(_))));
    let page = read::omap_range(&store, &id, (b"", None), 10, Direction::Forward).expect("it exists");
    assert_eq!(page, read::OmapPage::default());
}
