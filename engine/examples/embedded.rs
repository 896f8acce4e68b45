//! Embedded: a store on an executor that this program runs, with no thread of the engine's and no hop.
//!
//! For servers that are built on glommio. Run it with `cargo run --release -p seabed --example embedded`.
#![expect(clippy::print_stdout, reason = "an example speaks")]

use std::time::Duration;

use futures::future::try_join_all;
use seabed::device::glommio::LocalExecutorBuilder;
use seabed::{FormatOptions, OpenOptions, Store, embed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("embedded.img");
    Store::format(&path, FormatOptions { size: Some(64 << 20), ..FormatOptions::default() })?;

    let executor = LocalExecutorBuilder::default().preempt_timer(Duration::from_millis(25)).make()?;
    let (objects, transactions) = executor.run(async {
        let store = embed::open(&path, OpenOptions::default()).await?;
        let pool = store.pool_or_create("words").await?;
        // All of them are in flight together, and share records of the journal.
        try_join_all((0..100).map(|number| pool.put(format!("word {number}"), b"durable"))).await?;
        assert_eq!(pool.get("word 7").await?, b"durable"[..]);
        let counts = (pool.usage()?.objects, store.stats().transactions);
        store.close().await?;
        Ok::<_, seabed::Error>(counts)
    })?;
    println!("{objects} objects are durable, in {transactions} transactions");
    Ok(())
}
