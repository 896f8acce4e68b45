//! Large data goes to the device once, also if the object that it is for is not there yet.

use futures::future::join_all;
use seabed::{ObjectId, Transaction};
use seabed_tests::machine::{SimOptions, Simulation};
use seabed_tests::site::new_store;

const DISK_BYTES: u64 = 128 << 20;
const PART_BYTES: usize = 192 << 10;
const PARTS: u64 = 8;

/// Eight writes that are in flight together make an object: each stored its data for a family of its own, seven found that
/// the object had another, and stored it again, so a file of 3 GiB that was written with eight writes of 1 MiB in flight took
/// 5.7 GiB.
#[test]
fn writes_that_make_an_object_together() {
    for seed in 0..20 {
        let sim = Simulation::new(seed, SimOptions { disk_bytes: DISK_BYTES, ..SimOptions::default() });
        let machine = sim.machine();
        let work = async {
            let store = new_store(&machine, DISK_BYTES).await;
            let pool = store.create_pool("pool").await.expect("a new pool");
            let writes = (0..PARTS).map(|part| {
                let mut txn = Transaction::new();
                let data = vec![u8::try_from(part).expect("a few"); PART_BYTES];
                txn.write(&ObjectId::new("object"), part * PART_BYTES as u64, data);
                pool.submit(txn)
            });
            for written in join_all(writes).await {
                written.expect("there is space");
            }
            let read = pool.get("object").await.expect("it is there");
            for (part, bytes) in read.chunks(PART_BYTES).enumerate() {
                assert!(bytes.iter().all(|byte| usize::from(*byte) == part), "part {part}");
            }
            let written = store.stats().bulk_bytes_written;
            store.shard().close().await.expect("nothing failed");
            written
        };
        let written = sim.run(work).expect("it comes to an end");
        let data = PARTS * PART_BYTES as u64;
        assert!(written >= data && written < data + data / 2, "seed {seed}: {written} bytes for {data}");
    }
}
