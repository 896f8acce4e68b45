//! Redb: a copy-on-write tree in one file; all writes that wait share a transaction.

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::group::{Batch, Group};
use super::peer::Peer;
use super::{CompareError, Setup};

const NAME: &str = "redb";
const VALUES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("values");

/// See the module.
pub(super) struct Redb {
    database: Database,
    group: Group,
    told: String,
}

fn failed(error: impl Into<redb::Error>) -> CompareError {
    CompareError::Peer { name: NAME, why: error.into().to_string() }
}

impl Redb {
    pub(super) fn open(setup: &Setup) -> Result<Self, CompareError> {
        let cache_bytes = usize::try_from(setup.cache_bytes).unwrap_or(usize::MAX);
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let database = builder.create(setup.directory.join("values.redb")).map_err(failed)?;
        let told = format!(
            "cache {} MiB, durable commits, one for all writes that wait, page cache",
            setup.cache_bytes >> 20
        );
        Ok(Self { database, group: Group::default(), told })
    }

    fn commit(&self, values: &[(u64, Vec<u8>)]) -> Result<(), CompareError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        {
            let mut table = transaction.open_table(VALUES).map_err(failed)?;
            for (number, value) in values {
                table.insert(number, value.as_slice()).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }
}

impl Peer for Redb {
    fn write(&self, number: u64, value: &[u8]) -> Result<(), CompareError> {
        self.group.write(NAME, (number, value.to_vec()), |batch: &Batch| self.commit(batch))
    }

    fn read(&self, number: u64, value: &mut Vec<u8>) -> Result<(), CompareError> {
        value.clear();
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(VALUES).map_err(failed)?;
        if let Some(found) = table.get(number).map_err(failed)? {
            value.extend_from_slice(found.value());
        }
        Ok(())
    }

    fn load(&self, values: &[(u64, Vec<u8>)]) -> Result<(), CompareError> {
        self.commit(values)
    }

    fn settle(&self) -> Result<(), CompareError> {
        Ok(())
    }

    fn written_bytes(&self) -> Option<u64> {
        None
    }

    fn options(&self) -> String {
        self.told.clone()
    }
}
