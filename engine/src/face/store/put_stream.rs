//! Streaming put: a put of any size from any thread, in bounded memory.
//!
//! The engine's side is a task that owns the put of the engine thread and takes parts from a queue of one; a long write
//! returns when the engine has taken its bytes, so that no more than one part waits.

use std::fmt;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures::channel::oneshot;
use seabed_object::{IntoData, Transaction};

use crate::{Error, Result};

/// What a streaming put's engine side is sent.
pub(super) enum PutPart {
    /// Bytes, and if they are many a word when the engine is done with them.
    Data(Bytes, Option<oneshot::Sender<()>>),
    /// Bytes that are left out.
    Hole(u64),
    Finish(Vec<(Vec<u8>, Bytes)>, Box<Transaction>),
}

/// Writes of a streaming put that have more wait until the engine has taken them, so that no more of them lies in the queue.
const QUEUED_BYTES: usize = 16 << 10;

/// The engine's side of a streaming put: ends without an object if the other side is dropped.
pub(super) async fn stream(mut put: crate::operate::put::LocalPut, parts: Receiver<PutPart>) -> Result<()> {
    while let Ok(part) = parts.recv().await {
        match part {
            PutPart::Data(data, taken) => {
                put.write(data).await?;
                if let Some(taken) = taken {
                    let _ = taken.send(());
                }
            }
            PutPart::Hole(bytes) => put.skip(bytes).await?,
            PutPart::Finish(attributes, other) => return put.finish_with(attributes, *other).await,
        }
    }
    Err(Error::Closed)
}

/// A put that takes its bytes as they come. Dropped before it is finished nothing is made.
pub struct PutStream {
    parts: Sender<PutPart>,
    done: oneshot::Receiver<Result<()>>,
}

impl fmt::Debug for PutStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutStream").finish_non_exhaustive()
    }
}

impl PutStream {
    pub(super) fn new(parts: Sender<PutPart>, done: oneshot::Receiver<Result<()>>) -> Self {
        Self { parts, done }
    }

    /// Adds bytes at the end; waits while the engine is behind. An error ends the put; nothing is made.
    pub async fn write(&mut self, data: impl IntoData) -> Result<()> {
        let data = data.into_data();
        let (sender, taken) = oneshot::channel();
        let is_queued = data.len() <= QUEUED_BYTES;
        let part = PutPart::Data(data, Some(sender).filter(|_| !is_queued));
        self.send(part, (!is_queued).then_some(taken)).await
    }

    /// Leaves out `bytes` bytes, which read as zeros; whole chunks of 4 KiB among them take no space. An error ends the put;
    /// nothing is made.
    pub async fn skip(&mut self, bytes: u64) -> Result<()> {
        self.send(PutPart::Hole(bytes), None).await
    }

    /// Hands a part to the engine and waits until it has been taken, if `taken` notifies of that.
    async fn send(&mut self, part: PutPart, taken: Option<oneshot::Receiver<()>>) -> Result<()> {
        let is_sent = self.parts.send(part).await.is_ok();
        let is_taken = match taken {
            Some(taken) if is_sent => taken.await.is_ok(),
            _ => is_sent,
        };
        if is_taken {
            return Ok(());
        }
        (&mut self.done).await.unwrap_or(Err(Error::Closed))
    }

    /// Makes the object, in place of one that has the name. Durable when it returns.
    pub async fn finish(self, attributes: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        self.finish_with(attributes, Transaction::new()).await
    }

    /// As [`PutStream::finish`], together with a transaction on objects of the same collection: all of it happens, or
    /// nothing. The conditions ([`Transaction::expect`]) that the transaction begins with are looked at before the object is
    /// made; its other operations come after that. An error that names an operation names one of `other`, or 0.
    pub async fn finish_with(self, attributes: Vec<(Vec<u8>, Bytes)>, other: Transaction) -> Result<()> {
        // A put that failed has told why, or tells now.
        let _ = self.parts.send(PutPart::Finish(attributes, Box::new(other))).await;
        self.done.await.unwrap_or(Err(Error::Closed))
    }
}
