//! Faces: calls that one task makes one after the other on the `Send` face, of which some are dropped.
//!
//! The engine thread is held back until all calls are made, so that each of them waits and what was dropped was dropped before
//! it began. Then every call must have taken effect, in the order of the calls, and each that was kept has the result that
//! this order gives it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures::executor::block_on;
use futures::future::{join_all, ready};
use seabed::{Answer, Error, FormatOptions, ObjectId, OpenOptions, Pool, Store, Transaction};

use crate::crash::{Broken, Rule, broken};

/// Whether callers drop some of their calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callers {
    /// They wait for all.
    Wait,
    /// They drop some, before or after the first poll, and then make the same kind of call again.
    Drop,
}

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

/// Makes a few hundred calls; returns how many.
pub fn calls(seed: u64, callers: Callers) -> Result<usize, Broken> {
    let name = format!("seabed-calls-{}-{seed}-{callers:?}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let options =
        FormatOptions { size: Some(64 << 20), first_write: false, force: true, ..FormatOptions::default() };
    let run = || {
        Store::format(&path, options).map_err(wrong)?;
        block_on(async {
            let store = Store::open(&path, OpenOptions::default()).await.map_err(wrong)?;
            let made = on_store(&store, seed, callers).await;
            store.close().await.map_err(wrong)?;
            made
        })
    };
    let result = run();
    // What cannot be removed is a small sparse file among temporary ones.
    let _ = std::fs::remove_file(&path);
    result
}

/// What the calls so far lead to.
#[derive(Default)]
struct Model {
    log: Vec<u8>,
    last: Option<u32>,
}

impl Model {
    /// Makes call `number`; its result follows.
    fn call(&mut self, pool: &Pool, number: u32, rng: &mut fastrand::Rng) -> (Answer<()>, Result<(), Error>) {
        let bytes = number.to_le_bytes();
        match rng.u8(..8) {
            0 => {
                let is_there = self.last.take().is_some();
                (pool.remove("last"), if is_there { Ok(()) } else { Err(Error::NotFound) })
            }
            1..4 => {
                self.last = Some(number);
                (pool.put("last", bytes), Ok(()))
            }
            _ => {
                self.log.extend(bytes);
                let mut txn = Transaction::new();
                txn.append(&ObjectId::new("log"), bytes);
                (pool.submit(txn), Ok(()))
            }
        }
    }
}

async fn on_store(store: &Store, seed: u64, callers: Callers) -> Result<usize, Broken> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let pool = store.create_pool("calls").await.map_err(wrong)?;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let holding = store.run_on_shard(move |_| {
        // Ends at the latest when the other side is dropped.
        let _ = held.recv();
        Box::pin(ready(()))
    });
    let mut model = Model::default();
    let mut kept = Vec::new();
    let calls = rng.u32(200..500);
    for number in 0..calls {
        let (mut answer, result) = model.call(&pool, number, &mut rng);
        let is_dropped = callers == Callers::Drop && rng.bool();
        if is_dropped {
            if rng.bool() {
                poll_fn(|context| Poll::Ready(Pin::new(&mut answer).poll(context).is_ready())).await;
            }
            drop(answer);
        } else {
            kept.push((answer, number, result));
        }
    }
    drop(release);
    holding.await.map_err(wrong)?;
    // In which order the answers are looked at does not matter.
    rng.shuffle(&mut kept);
    let ended =
        kept.into_iter().map(|(answer, number, wanted)| async move { (answer.await, number, wanted) });
    for (result, number, wanted) in join_all(ended).await {
        if result != wanted {
            return Err(broken(Rule::Wrong, format!("call {number}: {result:?} instead of {wanted:?}")));
        }
    }
    // A call that changes nothing is behind all others, of which the last may have been dropped.
    pool.put("end", b"").await.map_err(wrong)?;
    let log = pool.get("log").await.map_err(wrong)?;
    if log != model.log {
        let at = log.iter().zip(&model.log).take_while(|(found, wanted)| found == wanted).count();
        let what =
            format!("{} of {} bytes were appended, the first wrong one is {at}", log.len(), model.log.len());
        return Err(broken(Rule::Wrong, what));
    }
    let last = match pool.get("last").await {
        Ok(bytes) => Some(bytes.to_vec()),
        Err(Error::NotFound) => None,
        Err(error) => return Err(wrong(error)),
    };
    let wanted = model.last.map(|number| number.to_le_bytes().to_vec());
    if last != wanted {
        return Err(broken(Rule::Wrong, format!("the last put left {last:?} instead of {wanted:?}")));
    }
    Ok(calls as usize)
}
