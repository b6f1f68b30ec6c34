//! The store of many nodes: the list of every store, and what only a server can show.

use std::sync::Arc;

use async_trait::async_trait;
use enrollpay::store::Store;
use enrollpay::store::postgres::{Options, PostgresStore};

use super::Place;
use crate::support::postgres::{Database, Postgres};

#[async_trait]
impl Place for Database {
    async fn open(&self) -> Arc<dyn Store> {
        let store = PostgresStore::open(&self.url(), Options::default()).await;
        Arc::new(store.unwrap())
    }
}

store_suite!(Postgres::shared().database());
