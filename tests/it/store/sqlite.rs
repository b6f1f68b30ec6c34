//! The embedded store: the list of every store, and what only a file can show.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use enrollpay::clock::ManualClock;
use enrollpay::store::Store;
use enrollpay::store::sqlite::{Options, SqliteStore};
use tempfile::TempDir;

use super::Place;
use super::sample::START;

/// A folder that goes with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("data/enrollpay.db")
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(self.file(), options()).unwrap()
    }
}

fn options() -> Options {
    Options::new(Arc::new(ManualClock::at(START)))
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }
}

store_suite!(Folder::new());
