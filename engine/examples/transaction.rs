//! Transaction: moves money between two accounts with conditions, so that it is right whoever else does the same.
//!
//! The asynchronous face, on whatever executor there is; here the small one of the futures crate. Run it with
//! `cargo run --release -p seabed --example transaction`.
#![expect(clippy::print_stdout, reason = "an example speaks")]

use bytes::Bytes;
use futures::future::try_join_all;
use seabed::{
    Condition, Error, FormatOptions, ObjectId, OpenOptions, Pool, Refused, Result, Store, Transaction,
};

/// An account's balance is an attribute of its object.
const BALANCE: &str = "balance";

fn number(value: &Bytes) -> Result<u64> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    text.ok_or(Error::Invalid { what: "a balance is a number" })
}

/// Moves `amount` from one account to another; false if there is too little. Tries again when others were faster.
async fn transfer(pool: &Pool, from: &ObjectId, to: &ObjectId, amount: u64) -> Result<bool> {
    loop {
        let (giver, taker) =
            (pool.attr(from, BALANCE.as_bytes()).await?, pool.attr(to, BALANCE.as_bytes()).await?);
        let (has, gets) = (number(&giver)?, number(&taker)?);
        let Some(left) = has.checked_sub(amount) else { return Ok(false) };
        let unchanged =
            |value: &Bytes| Condition::Attr { name: BALANCE.as_bytes().into(), value: Some(value.clone()) };
        let mut txn = Transaction::new();
        txn.expect(from, unchanged(&giver))
            .expect(to, unchanged(&taker))
            .set_attr(from, BALANCE, left.to_string())
            .set_attr(to, BALANCE, (gets + amount).to_string());
        match pool.submit(txn).await {
            // Somebody changed a balance since it was read: nothing was applied.
            Err(Error::Refused { why: Refused::PreconditionFailed, .. }) => {}
            result => return result.map(|()| true),
        }
    }
}

async fn run(path: &std::path::Path) -> Result<()> {
    Store::format(path, FormatOptions { size: Some(64 << 20), ..FormatOptions::default() })?;
    let store = Store::open(path, OpenOptions::default()).await?;
    let pool = store.create_pool("bank").await?;
    let accounts = ["ann", "bob", "eve"].map(ObjectId::from);
    let mut txn = Transaction::new();
    for account in &accounts {
        txn.create(account).set_attr(account, BALANCE, "100");
    }
    pool.submit(txn).await?;

    let [ann, bob, eve] = &accounts;
    let transfers =
        [(ann, bob), (bob, eve), (eve, ann), (ann, eve)].map(|(from, to)| (0..5).map(move |_| (from, to)));
    let moved =
        try_join_all(transfers.into_iter().flatten().map(|(from, to)| transfer(&pool, from, to, 7))).await?;
    println!("{} of {} transfers were made", moved.iter().filter(|moved| **moved).count(), moved.len());

    let mut sum = 0;
    for account in &accounts {
        let balance = number(&pool.attr(account, BALANCE.as_bytes()).await?)?;
        println!("{account:?}: {balance}");
        sum += balance;
    }
    assert_eq!(sum, 300, "no transfer was done by half");
    store.close().await
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    futures::executor::block_on(run(&directory.path().join("bank.img")))?;
    Ok(())
}
