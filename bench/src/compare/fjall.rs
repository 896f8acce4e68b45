//! Fjall: a log-structured tree with values apart; all writes that wait share a batch.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::group::{Batch, Group};
use super::peer::Peer;
use super::{CompareError, Setup};

const NAME: &str = "fjall";

/// See the module.
pub(super) struct Fjall {
    database: Database,
    values: Keyspace,
    group: Group,
    told: String,
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn failed(error: fjall::Error) -> CompareError {
    CompareError::Peer { name: NAME, why: error.to_string() }
}

impl Fjall {
    pub(super) fn open(setup: &Setup) -> Result<Self, CompareError> {
        let database = Database::builder(setup.directory.join("fjall")).cache_size(setup.cache_bytes).open();
        let database = database.map_err(failed)?;
        let options =
            || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
        let values = database.keyspace("values", options).map_err(failed)?;
        let told = format!(
            "cache {} MiB, values apart, journal synced, one batch for all writes that wait, page cache",
            setup.cache_bytes >> 20
        );
        Ok(Self { database, values, group: Group::default(), told })
    }

    fn commit(&self, values: &[(u64, Vec<u8>)], mode: PersistMode) -> Result<(), CompareError> {
        let mut batch = self.database.batch().durability(Some(mode));
        for (number, value) in values {
            batch.insert(&self.values, number.to_be_bytes(), value.as_slice());
        }
        batch.commit().map_err(failed)
    }
}

impl Peer for Fjall {
    fn write(&self, number: u64, value: &[u8]) -> Result<(), CompareError> {
        let commit = |batch: &Batch| self.commit(batch, PersistMode::SyncData);
        self.group.write(NAME, (number, value.to_vec()), commit)
    }

    fn read(&self, number: u64, value: &mut Vec<u8>) -> Result<(), CompareError> {
        value.clear();
        if let Some(found) = self.values.get(number.to_be_bytes()).map_err(failed)? {
            value.extend_from_slice(&found);
        }
        Ok(())
    }

    fn load(&self, values: &[(u64, Vec<u8>)]) -> Result<(), CompareError> {
        self.commit(values, PersistMode::Buffer)
    }

    fn settle(&self) -> Result<(), CompareError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn written_bytes(&self) -> Option<u64> {
        None
    }

    fn options(&self) -> String {
        self.told.clone()
    }
}
