//! Random operations on trees against an ordered map, with nodes that are written, evicted and loaded at any moment.
//!
//! `keeper` stands for the engine: it has the pages, the images, and checks the contract between them. `shapes` draws
//! keys and values. `program` is the random program; the tests below choose its parameters.

#[path = "model/keeper.rs"]
mod keeper;
#[path = "model/program.rs"]
mod program;
#[path = "model/shapes.rs"]
mod shapes;

use program::{Check, Program};
use shapes::{KeyShape, ValueShape};

const NODE_BYTES: [usize; 4] = [4096, 8192, 16384, 65536];

/// Many operations on trees that grow and shrink by turns; all is checked now and then.
fn many(key_shapes: &[KeyShape], steps: usize) {
    for node_bytes in NODE_BYTES {
        for (index, keys) in key_shapes.iter().enumerate() {
            for values in [ValueShape::Small, ValueShape::Skewed] {
                let seed = (node_bytes + index) as u64;
                let mut program = Program::new(node_bytes, *keys, values, seed, Check::Seldom);
                program.run(steps);
                program.finish();
            }
        }
    }
}

#[test]
fn many_operations_with_fixed_keys() {
    many(&[KeyShape::Hashed, KeyShape::Ascending, KeyShape::Descending], 60_000);
}

#[test]
fn many_operations_with_keys_of_all_sizes() {
    many(&[KeyShape::Skewed, KeyShape::FewBytes, KeyShape::LongPrefix, KeyShape::Maximal], 20_000);
}

#[test]
fn every_step_checked() {
    for round in 0..3 {
        for node_bytes in NODE_BYTES {
            for keys in KeyShape::ALL {
                for values in [ValueShape::Skewed, ValueShape::Maximal] {
                    let mut program = Program::new(node_bytes, keys, values, round, Check::EveryStep);
                    program.run(150);
                    program.finish();
                }
            }
        }
    }
}

#[test]
fn a_tree_that_shrinks_gives_up_its_nodes() {
    for values in [ValueShape::Small, ValueShape::Skewed] {
        let mut program = Program::new(4096, KeyShape::Hashed, values, 9, Check::Seldom);
        program.grow(20_000);
        let full = program.census();
        assert!(full.used_bytes > (full.leaves + full.inner) * 4096 * 6 / 10, "{full:?}");
        program.shrink(1_000);
        let sparse = program.census();
        assert!(sparse.used_bytes > (sparse.leaves + sparse.inner) * 4096 * 3 / 10, "{sparse:?}");
        assert!(sparse.leaves * 5 < full.leaves && sparse.inner < full.inner, "{sparse:?}");
        program.finish();
    }
}

#[test]
fn an_ascending_stream_leaves_full_nodes() {
    let mut program = Program::new(4096, KeyShape::Ascending, ValueShape::Small, 9, Check::Seldom);
    program.grow(50_000);
    let census = program.census();
    assert!(census.used_bytes > (census.leaves + census.inner) * 4096 * 95 / 100, "{census:?}");
}

#[test]
fn exchanged_images_are_refused_without_a_panic() {
    let mut refused = 0;
    for seed in 0..20 {
        for keys in [KeyShape::Hashed, KeyShape::Skewed, KeyShape::Maximal] {
            let mut program = Program::new(4096, keys, ValueShape::Skewed, seed, Check::Seldom);
            program.run(400);
            refused += program.run_damaged(400);
        }
    }
    assert!(refused > 300, "{refused} operations met damage");
}
