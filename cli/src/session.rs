//! Session: an open store, for as long as a command needs it.
//!
//! The engine's calls are futures that any executor runs; a command waits for each on its own thread.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures::executor::block_on;
use seabed::{Access, Error, OpenOptions, Pool, Store};

use crate::args::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::refuse_standard_streams;
use crate::names;
use crate::report::Report;

/// See the module.
pub(crate) struct Session {
    /// Before the store: it ends first.
    report: Option<Report>,
    store: Store,
    shown: String,
}

/// The pool that a command writes to.
pub(crate) struct TargetPool {
    pub(crate) pool: Pool,
    /// Whether this session created it.
    is_new: bool,
}

impl Session {
    /// For commands that only read: works on a file without write permission, and writes nothing.
    pub(crate) fn read(path: &Path, global: &Global) -> Outcome<Self> {
        Self::open(path, Access::ReadOnly, global)
    }

    pub(crate) fn write(path: &Path, global: &Global) -> Outcome<Self> {
        Self::open(path, Access::ReadWrite, global)
    }

    fn open(path: &Path, access: Access, global: &Global) -> Outcome<Self> {
        refuse_standard_streams(path)?;
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let options = OpenOptions {
            access,
            memory_bytes: bytes(global.memory),
            data_cache_bytes: global.data_cache.map(bytes),
            cleaning: !global.no_cleaning,
            discard: global.discard.into(),
            lock_wait: global.lock_wait(),
            ..OpenOptions::default()
        };
        let store = block_on(Store::open(path, options)).map_err(|error| of_store(path, &error))?;
        let report = global.report.map(|seconds| Report::start(&store, Duration::from_secs(seconds)));
        Ok(Self { report, store, shown: shown(path) })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// A pool that exists.
    pub(crate) fn pool(&self, name: &str) -> Outcome<Pool> {
        block_on(self.store.pool(name)).map_err(|error| Failure::engine(&self.shown, &error))
    }

    /// A pool to write to, created if there is none.
    pub(crate) fn pool_or_create(&self, name: &str) -> Outcome<TargetPool> {
        match block_on(self.store.pool(name)) {
            Ok(pool) => Ok(TargetPool { pool, is_new: false }),
            Err(Error::NoSuchPool { .. }) => {
                let pool = self.wait(self.store.create_pool(name))?;
                Ok(TargetPool { pool, is_new: true })
            }
            Err(error) => Err(Failure::engine(&self.shown, &error)),
        }
    }

    /// After a failure: removes a pool that this session created, if it holds no object.
    ///
    /// The session has the store exclusively, so nothing else adds an object between the listing and the removal. Best
    /// effort, as the failure itself is what has to be reported: a pool that cannot be listed completely stays.
    pub(crate) fn remove_if_unused(&self, target: TargetPool) {
        let TargetPool { pool, is_new } = target;
        if !is_new {
            return;
        }
        let page = block_on(pool.list_page(None, 1));
        if page.is_ok_and(|page| page.objects.is_empty() && page.damaged.is_empty() && page.next.is_none()) {
            let _ = block_on(self.store.remove_pool(pool.name()));
        }
    }

    /// Waits for a call on the store.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = seabed::Result<T>>) -> Outcome<T> {
        block_on(call).map_err(|error| Failure::engine(&self.shown, &error))
    }

    /// Ends well: all that was done is durable, the file is free for the next.
    pub(crate) fn close(self) -> Outcome<()> {
        drop(self.report);
        block_on(self.store.close())
            .map_err(|error| Failure::engine(&format!("{}: closing", self.shown), &error))
    }
}

/// How messages call a path.
pub(crate) fn shown(path: &Path) -> String {
    names::for_terminal(names::bytes_of(path.as_os_str()))
}

/// A failure of a store as a whole. Those of its device name the path themselves.
pub(crate) fn of_store(path: &Path, error: &seabed::Error) -> Failure {
    let at = if matches!(error, seabed::Error::Open(_)) { String::new() } else { shown(path) };
    Failure::engine(&at, error)
}

/// Waits for a call on an object; a failure names it.
pub(crate) fn wait_for<T>(object: &[u8], call: impl Future<Output = seabed::Result<T>>) -> Outcome<T> {
    block_on(call).map_err(|error| about(object, &error))
}

/// A failure of a call on an object.
pub(crate) fn about(object: &[u8], error: &seabed::Error) -> Failure {
    let failure = Failure::engine(&names::quoted(object), error);
    if failure.exit == Exit::NotFound {
        failure.advise("`seabed ls STORE POOL` lists the objects")
    } else {
        failure
    }
}
