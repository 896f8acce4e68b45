//! On shard: runs a server's code on the engine's own thread, where a request costs no hop and no lock.
//!
//! The closure is sent to the engine's thread; what it starts there may use `Rc` and `RefCell`. Several clients at a time
//! share the records of the journal. Run it with `cargo run --release -p seabed --example on_shard`.
#![expect(clippy::print_stdout, reason = "an example speaks")]

use std::cell::Cell;
use std::rc::Rc;

use futures::executor::block_on;
use futures::future::try_join_all;
use seabed::{FormatOptions, LocalPool, LocalStore, OpenOptions, Result, Store, Transaction};

const CLIENTS: u64 = 32;
const WRITES: u64 = 100;

/// One client: writes blocks of its own object, one after the other, each durable before the next.
async fn client(pool: LocalPool, number: u64, done: Rc<Cell<u64>>) -> Result<()> {
    let object = format!("client {number}").as_str().into();
    for block in 0..WRITES {
        let mut txn = Transaction::new();
        txn.write(&object, block * 4096, [number.to_le_bytes()[0]; 4096]);
        pool.submit(txn).await?;
        done.set(done.get() + 1);
    }
    Ok(())
}

async fn serve(store: LocalStore) -> Result<u64> {
    let pool = store.create_pool("blocks").await?;
    let done = Rc::new(Cell::new(0));
    try_join_all((0..CLIENTS).map(|number| client(pool.clone(), number, Rc::clone(&done)))).await?;
    Ok(done.get())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("blocks.img");
    Store::format(&path, FormatOptions { size: Some(128 << 20), ..FormatOptions::default() })?;
    let store = block_on(Store::open(&path, OpenOptions::default()))?;

    let done = block_on(store.run_on_shard(|local| Box::pin(serve(local))))??;
    let stats = block_on(store.stats())?;
    println!("{done} writes of 4 KiB are durable");
    println!(
        "in {} device writes: {} bytes of journal for {} bytes of data",
        stats.device_writes, stats.journal_bytes_written, stats.user_bytes_written
    );
    block_on(store.close())?;
    Ok(())
}
