//! Blocking: the same store for callers without an executor. Each call blocks its thread until it is answered.
//!
//! On an engine's thread, and inside an executor of `futures`, a call is [`crate::Error::WouldBlock`]: it would wait for itself.

use std::ops::RangeBounds;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use seabed_object::read::{Range, Stat};
use seabed_object::{Direction, IntoData, ObjectId, Transaction, Usage};

use crate::Result;
use crate::face::guest::may_block;
use crate::face::limits::StoreLimits;
use crate::face::local::PoolEntry;
use crate::face::store::{self, StoreInfo};
use crate::maintain::capacity::Space;
use crate::maintain::clean_now::{CleanOptions, Cleaned};
use crate::operate::listing::ListPage;
use crate::operate::read::OmapPage;
use crate::options::{FormatOptions, OpenOptions};
use crate::stats::Stats;

fn block_on<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    may_block()?;
    futures::executor::block_on(call)
}

/// An open store; see [`crate::Store`].
#[derive(Clone, Debug)]
pub struct Store(store::Store);

/// A pool; see [`crate::Pool`].
#[derive(Clone, Debug)]
pub struct Pool(store::Pool);

/// An object pinned to one version; see [`crate::ReadHandle`].
#[derive(Debug)]
pub struct ReadHandle(store::ReadHandle);

/// A put that takes its bytes as they come; see [`crate::PutStream`].
#[derive(Debug)]
pub struct PutStream(store::PutStream);

/// The objects of a pool; see [`crate::List`].
#[derive(Debug)]
pub struct List(Option<crate::face::list::List>);

impl Iterator for List {
    type Item = Result<ObjectId>;

    fn next(&mut self) -> Option<Self::Item> {
        let list = self.0.as_mut()?;
        let next = block_on(async { Ok(list.next().await) }).unwrap_or_else(|error| Some(Err(error)));
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        next
    }
}

impl Store {
    /// See [`crate::Store::format`].
    pub fn format(path: impl AsRef<Path>, options: FormatOptions) -> Result<()> {
        store::Store::format(path, options)
    }

    /// See [`crate::Store::open`].
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self> {
        block_on(store::Store::open(path, options)).map(Self)
    }

    /// See [`crate::Store::open_or_create`].
    pub fn open_or_create(
        path: impl AsRef<Path>,
        format: FormatOptions,
        options: OpenOptions,
    ) -> Result<Self> {
        block_on(store::Store::open_or_create(path, format, options)).map(Self)
    }

    /// The asynchronous face of the same store.
    pub fn inner(&self) -> &store::Store {
        &self.0
    }

    /// See [`crate::Store::close`].
    pub fn close(self) -> Result<()> {
        block_on(self.0.close())
    }

    /// See [`crate::Store::info`].
    pub fn info(&self) -> StoreInfo {
        self.0.info()
    }

    /// See [`crate::Store::pool`].
    pub fn pool(&self, name: &str) -> Result<Pool> {
        block_on(self.0.pool(name)).map(Pool)
    }

    /// See [`crate::Store::create_pool`].
    pub fn create_pool(&self, name: &str) -> Result<Pool> {
        block_on(self.0.create_pool(name)).map(Pool)
    }

    /// See [`crate::Store::pool_or_create`].
    pub fn pool_or_create(&self, name: &str) -> Result<Pool> {
        block_on(self.0.pool_or_create(name)).map(Pool)
    }

    /// See [`crate::Store::remove_pool`].
    pub fn remove_pool(&self, name: &str) -> Result<()> {
        block_on(self.0.remove_pool(name))
    }

    /// See [`crate::Store::rename_pool`].
    pub fn rename_pool(&self, from: &str, to: &str) -> Result<()> {
        block_on(self.0.rename_pool(from, to))
    }

    /// See [`crate::Store::pools`].
    pub fn pools(&self) -> Result<Vec<PoolEntry>> {
        block_on(self.0.pools())
    }

    /// See [`crate::Store::limits`].
    pub fn limits(&self) -> Result<StoreLimits> {
        block_on(self.0.limits())
    }

    /// See [`crate::Store::usage`].
    pub fn usage(&self) -> Result<Usage> {
        block_on(self.0.usage())
    }

    /// See [`crate::Store::stats`].
    pub fn stats(&self) -> Result<Stats> {
        block_on(self.0.stats())
    }

    /// See [`crate::Store::space`].
    pub fn space(&self) -> Result<Space> {
        block_on(self.0.space())
    }

    /// See [`crate::Store::clean`].
    pub fn clean(&self, options: CleanOptions) -> Result<Cleaned> {
        block_on(self.0.clean(options))
    }
}

impl Pool {
    /// The asynchronous face of the same pool.
    pub fn inner(&self) -> &store::Pool {
        &self.0
    }

    /// See [`crate::Pool::name`].
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// See [`crate::Pool::submit`].
    pub fn submit(&self, txn: Transaction) -> Result<()> {
        block_on(self.0.submit(txn))
    }

    /// See [`crate::Pool::put`].
    pub fn put(&self, object: impl Into<ObjectId>, data: impl IntoData) -> Result<()> {
        block_on(self.0.put(object, data))
    }

    /// See [`crate::Pool::put_with`].
    pub fn put_with(
        &self,
        object: impl Into<ObjectId>,
        data: impl IntoData,
        attributes: Vec<(Vec<u8>, Bytes)>,
    ) -> Result<()> {
        block_on(self.0.put_with(object, data, attributes))
    }

    /// See [`crate::Pool::put_stream`].
    pub fn put_stream(&self, object: impl Into<ObjectId>) -> Result<PutStream> {
        block_on(self.0.put_stream(object)).map(PutStream)
    }

    /// See [`crate::Pool::open_read`].
    pub fn open_read(&self, object: impl Into<ObjectId>) -> Result<ReadHandle> {
        block_on(self.0.open_read(object)).map(ReadHandle)
    }

    /// See [`crate::Pool::get`].
    pub fn get(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        block_on(self.0.get(object))
    }

    /// See [`crate::Pool::remove`].
    pub fn remove(&self, object: impl Into<ObjectId>) -> Result<()> {
        block_on(self.0.remove(object))
    }

    /// See [`crate::Pool::exists`].
    pub fn exists(&self, object: impl Into<ObjectId>) -> Result<bool> {
        block_on(self.0.exists(object))
    }

    /// See [`crate::Pool::stat`].
    pub fn stat(&self, object: impl Into<ObjectId>) -> Result<Stat> {
        block_on(self.0.stat(object))
    }

    /// See [`crate::Pool::allocated`].
    pub fn allocated(&self, object: impl Into<ObjectId>) -> Result<u64> {
        block_on(self.0.allocated(object))
    }

    /// See [`crate::Pool::read`].
    pub fn read(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Bytes> {
        block_on(self.0.read(object, offset, bytes))
    }

    /// See [`crate::Pool::read_range`].
    pub fn read_range(&self, object: impl Into<ObjectId>, range: impl RangeBounds<u64>) -> Result<Bytes> {
        block_on(self.0.read_range(object, range))
    }

    /// See [`crate::Pool::read_vec`].
    pub fn read_vec(
        &self,
        object: impl Into<ObjectId>,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Vec<Result<Bytes>>> {
        block_on(self.0.read_vec(object, ranges))
    }

    /// See [`crate::Pool::extents`].
    pub fn extents(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Vec<Range>> {
        block_on(self.0.extents(object, offset, bytes))
    }

    /// See [`crate::Pool::attr`].
    pub fn attr(&self, object: impl Into<ObjectId>, name: impl AsRef<[u8]>) -> Result<Bytes> {
        block_on(self.0.attr(object, name))
    }

    /// See [`crate::Pool::attrs`].
    pub fn attrs(&self, object: impl Into<ObjectId>) -> Result<Vec<(Bytes, Bytes)>> {
        block_on(self.0.attrs(object))
    }

    /// See [`crate::Pool::omap_header`].
    pub fn omap_header(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        block_on(self.0.omap_header(object))
    }

    /// See [`crate::Pool::omap_get`].
    pub fn omap_get(
        &self,
        object: impl Into<ObjectId>,
        keys: impl IntoIterator<Item = impl IntoData>,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        block_on(self.0.omap_get(object, keys))
    }

    /// See [`crate::Pool::omap_range`].
    pub fn omap_range(
        &self,
        object: impl Into<ObjectId>,
        range: (Option<Vec<u8>>, Option<Vec<u8>>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        block_on(self.0.omap_range(object, range, limit, direction))
    }

    /// See [`crate::Pool::list_page`].
    pub fn list_page(&self, from: Option<ObjectId>, limit: usize) -> Result<ListPage> {
        block_on(self.0.list_page(from, limit))
    }

    /// See [`crate::Pool::list`].
    pub fn list(&self) -> List {
        List(Some(self.0.list()))
    }

    /// See [`crate::Pool::usage`].
    pub fn usage(&self) -> Result<Usage> {
        block_on(self.0.usage())
    }
}

impl ReadHandle {
    /// See [`crate::ReadHandle::size`].
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// See [`crate::ReadHandle::stat`].
    pub fn stat(&self) -> Stat {
        self.0.stat()
    }

    /// See [`crate::ReadHandle::version`].
    pub fn version(&self) -> u64 {
        self.0.version()
    }

    /// See [`crate::ReadHandle::read_at`].
    pub fn read_at(&self, offset: u64, bytes: u64) -> Result<Bytes> {
        block_on(self.0.read_at(offset, bytes))
    }

    /// See [`crate::ReadHandle::next_chunk`].
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        block_on(self.0.next_chunk())
    }
}

impl Iterator for ReadHandle {
    type Item = Result<Bytes>;

    /// As [`ReadHandle::next_chunk`].
    fn next(&mut self) -> Option<Result<Bytes>> {
        self.next_chunk().transpose()
    }
}

impl PutStream {
    /// See [`crate::PutStream::write`].
    pub fn write(&mut self, data: impl IntoData) -> Result<()> {
        block_on(self.0.write(data))
    }

    /// See [`crate::PutStream::skip`].
    pub fn skip(&mut self, bytes: u64) -> Result<()> {
        block_on(self.0.skip(bytes))
    }

    /// See [`crate::PutStream::finish`].
    pub fn finish(self, attributes: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        block_on(self.0.finish(attributes))
    }

    /// See [`crate::PutStream::finish_with`].
    pub fn finish_with(self, attributes: Vec<(Vec<u8>, Bytes)>, other: Transaction) -> Result<()> {
        block_on(self.0.finish_with(attributes, other))
    }
}
