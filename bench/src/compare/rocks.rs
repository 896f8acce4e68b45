//! Rocks: RocksDB, its log synced for each write, blob files for values.

use rocksdb::statistics::Ticker;
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::peer::Peer;
use super::{CompareError, Setup};

/// Values from here on are in blob files.
const BLOB_BYTES_MIN: u64 = 1 << 10;
const NAME: &str = "rocksdb";

/// See the module.
pub(super) struct Rocks {
    database: DB,
    options: Options,
    durable: WriteOptions,
    told: String,
}

fn failed(error: rocksdb::Error) -> CompareError {
    CompareError::Peer { name: NAME, why: error.into_string() }
}

impl Rocks {
    pub(super) fn open(setup: &Setup) -> Result<Self, CompareError> {
        let cache = Cache::new_lru_cache(usize::try_from(setup.cache_bytes).unwrap_or(usize::MAX));
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&cache);
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_bloom_filter(10.0, false);
        let threads =
            std::thread::available_parallelism().map_or(2, |count| i32::try_from(count.get()).unwrap_or(2));
        let mut options = Options::default();
        options.create_if_missing(true);
        options.increase_parallelism(threads);
        options.set_block_based_table_factory(&tables);
        options.set_compression_type(DBCompressionType::None);
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_blob_cache(&cache);
        options.set_enable_blob_gc(true);
        options.set_use_direct_reads(true);
        options.set_use_direct_io_for_flush_and_compaction(true);
        options.enable_statistics();
        let database = DB::open(&options, setup.directory.join("rocksdb")).map_err(failed)?;
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let told = format!(
            "cache {} MiB for tables and blobs, log synced, blob files from {BLOB_BYTES_MIN} bytes with collection, \
             direct I/O but for the log, {threads} background threads, bloom filter of 10 bits, no compression",
            setup.cache_bytes >> 20
        );
        Ok(Self { database, options, durable, told })
    }
}

impl Peer for Rocks {
    fn write(&self, number: u64, value: &[u8]) -> Result<(), CompareError> {
        self.database.put_opt(number.to_be_bytes(), value, &self.durable).map_err(failed)
    }

    fn read(&self, number: u64, value: &mut Vec<u8>) -> Result<(), CompareError> {
        value.clear();
        if let Some(found) = self.database.get_pinned(number.to_be_bytes()).map_err(failed)? {
            value.extend_from_slice(&found);
        }
        Ok(())
    }

    fn load(&self, values: &[(u64, Vec<u8>)]) -> Result<(), CompareError> {
        let mut batch = WriteBatch::default();
        for (number, value) in values {
            batch.put(number.to_be_bytes(), value);
        }
        self.database.write(batch).map_err(failed)
    }

    fn settle(&self) -> Result<(), CompareError> {
        self.database.flush().map_err(failed)
    }

    fn written_bytes(&self) -> Option<u64> {
        let tickers = [Ticker::WalFileBytes, Ticker::FlushWriteBytes, Ticker::CompactWriteBytes];
        Some(tickers.into_iter().map(|ticker| self.options.get_ticker_count(ticker)).sum())
    }

    fn options(&self) -> String {
        self.told.clone()
    }
}
