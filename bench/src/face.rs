//! Face: the ways to a store that a workload can take: on the shard's own thread, through the face for any thread, or to
//! nothing at all.
//!
//! The null face answers every call at once, after one trip through the executor, which a real answer takes too. What a
//! workload costs on it is the generator's own cost.

use std::time::{Duration, Instant};

use bytes::Bytes;
use seabed::{Direction, Error, LocalPool, ObjectId, Pool, Result, Transaction};

/// See the module.
pub(crate) enum Face {
    Shard(LocalPool),
    Remote(Pool),
    /// The bytes that every read is answered with.
    Null(Bytes),
}

impl Face {
    /// A face to nothing.
    pub(crate) fn null() -> Self {
        Self::Null(Bytes::from(vec![0; 16 << 20]))
    }

    /// Whether nothing is stored, so that nothing that is read can be verified.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null(_))
    }

    pub(crate) async fn submit(&self, txn: Transaction) -> Result<()> {
        match self {
            Self::Shard(pool) => pool.submit(txn).await,
            Self::Remote(pool) => pool.submit(txn).await,
            Self::Null(_) => {
                drop(txn);
                yield_once().await;
                Ok(())
            }
        }
    }

    pub(crate) async fn read(&self, object: &ObjectId, offset: u64, bytes: u64) -> Result<Bytes> {
        match self {
            Self::Shard(pool) => pool.read(object.clone(), offset, bytes).await,
            Self::Remote(pool) => pool.read(object.clone(), offset, bytes).await,
            Self::Null(zeros) => {
                yield_once().await;
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                Ok(zeros.slice(..bytes.min(zeros.len())))
            }
        }
    }

    /// The object's size; none if it does not exist.
    pub(crate) async fn size(&self, object: &ObjectId) -> Result<Option<u64>> {
        let stat = match self {
            Self::Shard(pool) => pool.stat(object.clone()).await,
            Self::Remote(pool) => pool.stat(object.clone()).await,
            Self::Null(_) => return Ok(None),
        };
        match stat {
            Ok(stat) => Ok(Some(stat.size)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value of a key; none if there is no such key.
    pub(crate) async fn value(&self, object: &ObjectId, key: Vec<u8>) -> Result<Option<Bytes>> {
        let pairs = match self {
            Self::Shard(pool) => pool.omap_get(object.clone(), &[key]).await?,
            Self::Remote(pool) => pool.omap_get(object.clone(), vec![key]).await?,
            Self::Null(zeros) => {
                yield_once().await;
                return Ok(Some(zeros.slice(..0)));
            }
        };
        Ok(pairs.into_iter().next().map(|(_, value)| value))
    }

    /// Up to `count` pairs from a key on: how many there were, and their bytes.
    pub(crate) async fn scan(&self, object: &ObjectId, from: &[u8], count: usize) -> Result<(usize, usize)> {
        let page = match self {
            Self::Shard(pool) => {
                pool.omap_range(object.clone(), (from, None), count, Direction::Forward).await?
            }
            Self::Remote(pool) => {
                let range = (Some(from.to_vec()), None);
                pool.omap_range(object.clone(), range, count, Direction::Forward).await?
            }
            Self::Null(_) => {
                yield_once().await;
                return Ok((count, 0));
            }
        };
        let bytes = page.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        Ok((page.pairs.len(), bytes))
    }

    pub(crate) async fn sleep_until(&self, until: Instant) -> Result<()> {
        let time = until.saturating_duration_since(Instant::now());
        match self {
            Self::Shard(pool) => pool.runtime().sleep(time).await,
            Self::Remote(pool) => sleep_on_shard(pool, time).await?,
            Self::Null(_) => {
                while Instant::now() < until {
                    yield_once().await;
                }
            }
        }
        Ok(())
    }
}

/// The clients of this face have no clock of their own that would wake them.
async fn sleep_on_shard(pool: &Pool, time: Duration) -> Result<()> {
    let sleep = pool.store().run_on_shard(move |local| {
        let runtime = local.runtime();
        Box::pin(async move { runtime.sleep(time).await })
    });
    sleep.await
}

/// Lets the other clients of this thread run.
pub(crate) async fn yield_once() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return std::task::Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
