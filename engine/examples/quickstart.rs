//! Quickstart: makes a store in a temporary directory, puts, reads, lists, and opens it again.
//!
//! Run it with `cargo run --release -p seabed --example quickstart`.
#![expect(clippy::print_stdout, reason = "an example speaks")]

use seabed::blocking::Store;
use seabed::{FormatOptions, OpenOptions, Transaction};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("photos.img");
    Store::format(&path, FormatOptions { size: Some(64 << 20), ..FormatOptions::default() })?;

    let store = Store::open(&path, OpenOptions::default())?;
    let pool = store.create_pool("photos")?;
    pool.put("cat.jpg", vec![7; 100_000])?;

    // Several operations, durable together or not at all.
    let cat = "cat.jpg".into();
    let mut txn = Transaction::new();
    txn.write(&cat, 8192, [1; 4096]).set_attr(&cat, "type", "image/jpeg").omap_insert(&cat, [("seen", "1")]);
    pool.submit(txn)?;

    assert_eq!(pool.read("cat.jpg", 8192, 4096)?, vec![1; 4096]);
    assert_eq!(pool.attr("cat.jpg", b"type")?, "image/jpeg");

    // Data of any size, in bounded memory.
    let mut stream = pool.put_stream("film.mkv")?;
    for part in 0..20u8 {
        stream.write(vec![part; 500_000])?;
    }
    stream.finish(Vec::new())?;
    store.close()?;

    let store = Store::open(&path, OpenOptions::default())?;
    println!("mounted: {} records replayed", store.info().mount.records);
    let pool = store.pool("photos")?;
    for object in pool.list() {
        let object = object?;
        println!("{object:?}: {} bytes", pool.stat(&object)?.size);
    }
    store.close()?;
    Ok(())
}
