//! Contents: all that a store holds, in lines of text that can be compared and read.
//!
//! A value is told as its runs of one byte: `61*1000 62*24` is a thousand times "a", then 24 times "b". So the text is
//! exact, and short for the data of the golden stores.

use std::fmt::Write as _;

use seabed::{Error, LocalPool, LocalStore};
use seabed_object::{Direction, ObjectId};

/// All pools of a store, in order.
pub async fn contents(store: &LocalStore) -> Result<String, Error> {
    let mut text = String::new();
    for entry in store.pools().await? {
        let pool = store.pool_of(entry.id);
        let usage = pool.usage()?;
        put_line(
            &mut text,
            &format!("pool {}: objects {}, stored {}", entry.name, usage.objects, usage.stored),
        );
        let mut from = None;
        loop {
            let page = pool.list_page(from, 4).await?;
            if let Some(damaged) = page.damaged.into_iter().next() {
                return Err(damaged.error);
            }
            for id in &page.objects {
                object(&pool, id, &mut text).await?;
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(text)
}

async fn object(pool: &LocalPool, id: &ObjectId, text: &mut String) -> Result<(), Error> {
    let (namespace, name) = (id.namespace.escape_ascii(), id.name.escape_ascii());
    let stat = pool.stat(id.clone()).await?;
    put_line(
        text,
        &format!(
            "object {:08x} \"{namespace}\" \"{name}\" snap {} generation {}: {} bytes, hint {} {} {}",
            id.hash,
            id.snap,
            id.generation,
            stat.size,
            stat.hint.object_bytes,
            stat.hint.write_bytes,
            stat.hint.flags.0
        ),
    );
    put_line(text, &format!("  data{}", runs(&pool.get(id.clone()).await?)));
    for (name, value) in pool.attrs(id.clone()).await? {
        put_line(text, &format!("  attribute {}{}", name.escape_ascii(), runs(&value)));
    }
    let header = pool.omap_header(id.clone()).await?;
    if !header.is_empty() {
        put_line(text, &format!("  omap header{}", runs(&header)));
    }
    let mut from = Some(bytes::Bytes::new());
    while let Some(start) = from {
        let page = pool.omap_range(id.clone(), (&start, None), 7, Direction::Forward).await?;
        for (key, value) in &page.pairs {
            put_line(text, &format!("  omap {}{}", key.escape_ascii(), runs(value)));
        }
        from = page.next;
    }
    Ok(())
}

fn put_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn runs(bytes: &[u8]) -> String {
    const MANY: usize = 64;
    let mut text = String::new();
    let mut rest = bytes;
    while let [first, ..] = rest {
        // Most runs are long, and comparing many bytes at a time is much faster.
        let many = rest.chunks_exact(MANY).take_while(|chunk| **chunk == [*first; MANY]).count() * MANY;
        let few = rest[many..].iter().take_while(|byte| *byte == first).count();
        write!(text, " {first:02x}*{}", many + few).expect("a string takes all");
        rest = &rest[many + few..];
    }
    text
}
