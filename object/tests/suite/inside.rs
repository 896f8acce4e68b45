//! Extents in onodes: when they stay, when they move out, and onodes that no program makes.

use seabed_object::{Change, Limits, ObjectId, Outcome, Transaction, execute, key, read};
use seabed_types::TreeKind;

use super::store::{Store, encoded};

fn store() -> Store {
    Store::new(Limits::new(4096, 1024 * 1024), 1)
}

fn apply(store: &mut Store, build: impl FnOnce(&mut Transaction)) {
    let mut txn = Transaction::new();
    build(&mut txn);
    let outcome = store.execute(&txn, &[]);
    let Outcome::Ready(effects) = outcome else { panic!("{outcome:?}") };
    store.apply(effects);
}

/// An omap header in a row was cleared, so that the onode had an empty one again, one byte, and was not settled: an onode
/// that had just fitted its row was a panic.
#[test]
fn an_onode_whose_header_is_cleared_fits_its_row() {
    for attribute_bytes in 200..512 {
        for has_data in [false, true] {
            let (mut store, id) = (store(), ObjectId::new("a"));
            apply(&mut store, |txn| {
                txn.touch(&id).omap_set_header(&id, vec![3; 600]);
                if has_data {
                    txn.write(&id, 0, vec![1; 5000]);
                }
            });
            apply(&mut store, |txn| {
                txn.set_attr(&id, "n", vec![7; attribute_bytes]);
            });
            apply(&mut store, |txn| {
                if has_data {
                    txn.write(&id, 0, vec![2; 4096]);
                }
                txn.omap_set_header(&id, Vec::<u8>::new());
            });
            store.check();
        }
    }
}

#[test]
fn extents_stay_in_short_onodes_only() {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.put(&id, vec![1; 60_000], [("a", vec![1; 200])]);
    });
    assert!(store.tree(TreeKind::Bodies).is_empty());
    apply(&mut store, |txn| {
        txn.set_attr(&id, "b", vec![1; 100]);
    });
    assert_eq!(store.tree(TreeKind::Bodies).len(), 1, "an attribute more than fits beside them");
    store.check();
    let whole = read::read(&store, &id, 0, 60_000).expect("it exists");
    assert!(store.load_plan(whole) == vec![1; 60_000]);
    apply(&mut store, |txn| {
        txn.put(&id, vec![2; 60_000], [("a", vec![1; 200])]);
    });
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![3; 4096]).write(&id, 20_000, vec![3; 9000]);
    });
    assert_eq!(store.tree(TreeKind::Names).len(), 1);
    let kinds = store.tree(TreeKind::Bodies).len();
    assert_eq!(kinds, 2, "the old row, which the grave drains, and the chunks that are scattered now");
    store.check();
}

/// An object whose onode has more beside its extents than any that a program makes.
fn odd(attribute_bytes: u8) -> (Store, ObjectId) {
    let (mut store, id) = (store(), ObjectId::new("a"));
    apply(&mut store, |txn| {
        txn.write(&id, 0, vec![1; 4096]).truncate(&id, 65_536);
    });
    let key = key::names(&id).to_vec();
    let value = store.trees[0][&key].clone();
    // Tag, flags, family, number and size; then the counts of attributes and omap pairs.
    let (before, behind) = value.split_at(7);
    assert_eq!((before[1], behind[0]), (64, 0));
    let pair =
        [&[1, b'n', attribute_bytes & 127 | 128, 3][..], &vec![9; usize::from(attribute_bytes & 127) + 384]];
    let odd = [before, &[2, 1, b'a', 0], &pair.concat(), &behind[1..]].concat();
    store.trees[0].insert(key, odd);
    assert!(read::stat(&store, &id).is_ok());
    (store, id)
}

#[test]
fn an_odd_onode_never_outgrows_its_row() {
    for attribute_bytes in 0..90 {
        let (store, id) = odd(attribute_bytes);
        let mut txns = [Transaction::new(), Transaction::new(), Transaction::new()];
        txns[0].write(&id, 8192, vec![2; 4096]);
        txns[1].write(&id, 8192, vec![2; 4096]).remove_attr(&id, "a");
        txns[2].zero(&id, 0, 100).remove_attr(&id, "a");
        for txn in &txns {
            let outcome = execute(&store, txn, &[], 10, &store.limits);
            let Outcome::Ready(mut effects) = outcome else { panic!("{outcome:?}") };
            let mut other = self::store();
            let placed: Vec<_> = effects.pieces.clone().iter().map(|piece| other.place(piece)).collect();
            for row in encoded(&mut effects, &placed).0 {
                if let (TreeKind::Names, Change::Set(value)) = (row.tree, &row.change) {
                    assert!(value.len() <= store.limits.row_value_bytes_max(), "{}", value.len());
                }
            }
        }
    }
}
