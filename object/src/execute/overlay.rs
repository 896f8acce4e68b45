//! Overlay: the rows that a transaction has touched, found by key.
//!
//! Most transactions touch one row or a few, so a short list is searched from its end; from [`SEARCHED`] rows on an
//! ordered index finds them. Rows stay in the order in which they were first touched, so a transaction gives the same
//! changes in the same order wherever it runs.

use std::collections::BTreeMap;

use smallvec::SmallVec;

/// Most rows that are found without an index.
const SEARCHED: usize = 8;

#[derive(Debug)]
pub(crate) struct Overlay<K, V> {
    rows: SmallVec<[(K, V); 1]>,
    index: BTreeMap<K, usize>,
}

impl<K, V> Default for Overlay<K, V> {
    fn default() -> Self {
        Self { rows: SmallVec::new(), index: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V> Overlay<K, V> {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where `key` is.
    pub(crate) fn find(&self, key: &K) -> Option<usize> {
        if self.rows.len() <= SEARCHED {
            self.rows.iter().rposition(|(known, _)| known == key)
        } else {
            self.index.get(key).copied()
        }
    }

    /// Adds a row that is not there yet, and says where it is.
    pub(crate) fn push(&mut self, key: K, row: V) -> usize {
        let index = self.rows.len();
        if index == SEARCHED {
            self.index = self.rows.iter().map(|(known, _)| known.clone()).zip(0..).collect();
        }
        if index >= SEARCHED {
            let known = self.index.insert(key.clone(), index);
            assert!(known.is_none(), "a row is added once");
        }
        if index == 1 {
            // Who touches more than one row usually touches some.
            self.rows.reserve(SEARCHED - 1);
        }
        self.rows.push((key, row));
        index
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut V {
        &mut self.rows[index].1
    }

    /// Takes a row out.
    pub(crate) fn take(&mut self, key: &K) -> Option<V> {
        let at = self.find(key)?;
        self.index.clear();
        let (_, row) = self.rows.remove(at);
        if self.rows.len() > SEARCHED {
            self.index = self.rows.iter().map(|(known, _)| known.clone()).zip(0..).collect();
        }
        Some(row)
    }

    pub(crate) fn find_row(&self, key: &K) -> Option<&V> {
        self.find(key).map(|index| &self.rows[index].1)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.iter().map(|(key, _)| key)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.rows.iter_mut().map(|(key, row)| (&*key, row))
    }

    /// Takes all rows out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.index.clear();
        std::mem::take(&mut self.rows).into_iter()
    }
}
