//! The schema's versions: migrations, and what is refused.

use tokio_postgres::Client;

use super::opening::{OpenError, database};

/// Brings it up to date; whoever calls holds the lock.
pub(super) async fn migrate(client: &mut Client, place: &str) -> Result<(), OpenError> {
    refuse_newer(client, place).await?;
    refuse_strangers(client, place).await?;
    running::run(client)
        .await
        .map_err(|source| OpenError::Migration {
            place: place.to_owned(),
            source: Box::new(source),
        })?;
    check(client, place).await
}

/// An empty database becomes ours; one with tables must already be.
async fn refuse_strangers(client: &Client, place: &str) -> Result<(), OpenError> {
    let failed = || database::<tokio_postgres::Error>(place);
    let tables: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed())?;
    let versions = schema_version(client).await.map_err(failed())?;
    if versions == 0 && tables > i64::from(has_history(client).await.map_err(failed())?) {
        return Err(OpenError::NotOurs {
            place: place.to_owned(),
        });
    }
    Ok(())
}

/// Is it the one that this program needs?
pub(super) async fn check(client: &Client, place: &str) -> Result<(), OpenError> {
    let found = refuse_newer(client, place).await?;
    let expected = newest();
    if found < expected {
        return Err(OpenError::SchemaBehind {
            place: place.to_owned(),
            found,
            expected,
        });
    }
    Ok(())
}

async fn refuse_newer(client: &Client, place: &str) -> Result<i64, OpenError> {
    let found = schema_version(client).await.map_err(database(place))?;
    let expected = newest();
    if found > expected {
        return Err(OpenError::SchemaAhead {
            place: place.to_owned(),
            found,
            expected,
        });
    }
    Ok(found)
}

async fn has_history(client: &Client) -> Result<bool, tokio_postgres::Error> {
    client
        .query_one(
            "SELECT to_regclass('refinery_schema_history') IS NOT NULL",
            &[],
        )
        .await?
        .try_get(0)
}

/// 0 where no migration ever ran.
async fn schema_version(client: &Client) -> Result<i64, tokio_postgres::Error> {
    if !has_history(client).await? {
        return Ok(0);
    }
    client
        .query_one(
            "SELECT coalesce(max(version), 0)::bigint FROM refinery_schema_history",
            &[],
        )
        .await?
        .try_get(0)
}

pub(super) fn newest() -> i64 {
    running::runner()
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or_default()
}

/// The library's traits have the names of the client's own methods.
mod running {
    use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
    use refinery_core::{Error, Migration, Runner};
    use tokio_postgres::Client;

    mod embedded {
        refinery::embed_migrations!("src/store/postgres/migrations");
    }

    /// Each migration and the line that records it stand or fall together.
    pub fn runner() -> Runner {
        embedded::migrations::runner().set_grouped(true)
    }

    /// The library's own way, but for the point before the commit at which a test kills the process.
    struct Migrating<'a>(&'a mut Client);

    impl AsyncTransaction for Migrating<'_> {
        type Error = tokio_postgres::Error;

        async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
            &'a mut self,
            queries: T,
        ) -> Result<usize, Self::Error> {
            let transaction = self.0.transaction().await?;
            let mut count = 0;
            for query in queries {
                transaction.batch_execute(query).await?;
                count += 1;
            }
            // c16: every statement of the migrations has run, and nothing of them is committed. The first
            // call only makes the table of versions.
            if count > 1 {
                crate::faults::crash_point("c16");
            }
            transaction.commit().await?;
            Ok(count)
        }
    }

    impl AsyncQuery<Vec<Migration>> for Migrating<'_> {
        async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
            AsyncQuery::query(self.0, query).await
        }
    }

    impl AsyncMigrate for Migrating<'_> {}

    pub async fn run(client: &mut Client) -> Result<(), Error> {
        runner().run_async(&mut Migrating(client)).await.map(drop)
    }
}
