//! Where the rows are kept, and how they are read: every value as a text, which both stores give.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use enrollpay::store::OrderSnapshot;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::de::DeserializeOwned;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::rows::{
    AttemptRow, BillRow, CaptureRow, ClaimRow, EventRow, LineRow, MismatchRow, OrderRow, OutboxRow,
    RefundRow, Rows,
};

/// A store as a test finds it.
#[derive(Clone, Debug)]
pub enum Kept {
    /// A SQLite file.
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Database(String),
}

/// What is read of every table, in the order in which [`Rows::of`] takes it.
const SELECTS: [&str; 12] = [
    "SELECT id, version, status, amount, state, snapshot FROM orders ORDER BY id",
    "SELECT order_id, version, position, at, event FROM order_events
     ORDER BY order_id, version, position",
    "SELECT order_id, number, status, expires_at FROM attempts",
    "SELECT order_id, attempt, payer, claimed_at FROM claims",
    "SELECT account, transaction_id, order_id, attempt, wallet, amount, refund FROM captures",
    "SELECT account, number, refund, round, order_id, attempt, cause, amount, status
     FROM refunds ORDER BY refund, round",
    "SELECT order_id, number, settled FROM mismatches ORDER BY order_id, number",
    "SELECT order_id, version, position, line, book, amount FROM ledger",
    "SELECT book, amount FROM ledger_totals",
    "SELECT id, order_id, version, kind FROM outbox",
    "SELECT count(*) FROM outbox WHERE state = 'pending'",
    "SELECT id, amount, order_id FROM bills",
];

/// One row; `None` is a null, and bytes are in hexadecimal.
struct Cells(std::vec::IntoIter<Option<String>>);

impl Cells {
    fn maybe(&mut self) -> Option<String> {
        self.0.next().expect("as many values as are read")
    }

    fn text(&mut self) -> String {
        self.maybe().expect("no null")
    }

    fn number<T: FromStr<Err: std::fmt::Debug>>(&mut self) -> T {
        self.text().parse().unwrap()
    }

    fn flag(&mut self) -> bool {
        matches!(self.text().as_str(), "1" | "t")
    }

    fn bytes(&mut self) -> Vec<u8> {
        let text = self.text();
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn json<T: DeserializeOwned>(&mut self) -> T {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Kept {
    /// Everything at one moment, beside whoever writes.
    pub(super) async fn rows(&self) -> Rows {
        match self {
            Self::File(file) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(file, flags).unwrap();
                connection.busy_timeout(Duration::from_secs(5)).unwrap();
                connection.execute_batch("BEGIN").unwrap();
                Rows::of_file(&connection)
            }
            Self::Database(url) => Rows::of_database(url).await,
        }
    }

    /// The same where nobody writes: what is looked at stays as it is, to the byte.
    pub(super) async fn rows_at_rest(&self) -> Rows {
        match self {
            Self::File(file) => {
                let folder = tempfile::tempdir().unwrap();
                let copy = copy_of(file, folder.path());
                Rows::of_file(&Connection::open(copy).unwrap())
            }
            Self::Database(url) => Rows::of_database(url).await,
        }
    }
}

/// Copies a SQLite file with its log.
pub(super) fn copy_of(store: &Path, to: &Path) -> PathBuf {
    let copy = to.join("store.db");
    std::fs::copy(store, &copy).unwrap();
    let log = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    };
    if log(store).exists() {
        std::fs::copy(log(store), log(&copy)).unwrap();
    }
    copy
}

fn cell(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(std::str::from_utf8(text).unwrap().to_owned()),
        ValueRef::Blob(bytes) => Some(bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })),
        ValueRef::Real(number) => panic!("a broken number: {number}"),
    }
}

impl Rows {
    pub(super) fn of_file(connection: &Connection) -> Self {
        let table = |sql: &str| {
            let mut statement = connection.prepare(sql).unwrap();
            let width = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                let cells = (0..width).map(|at| Ok(cell(row.get_ref(at)?)));
                cells.collect::<rusqlite::Result<Vec<_>>>()
            };
            let found = statement.query_map([], row).unwrap();
            found.map(Result::unwrap).collect()
        };
        Self::of(SELECTS.map(table))
    }

    async fn of_database(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut tables = SELECTS.map(|_| Vec::new());
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        client.batch_execute(begin).await.unwrap();
        for (sql, table) in SELECTS.iter().zip(&mut tables) {
            for message in client.simple_query(sql).await.unwrap() {
                if let SimpleQueryMessage::Row(row) = message {
                    let cell = |at| {
                        let text: &str = row.get(at)?;
                        // Bytes are in hexadecimal, and marked so.
                        Some(text.strip_prefix("\\x").unwrap_or(text).to_owned())
                    };
                    table.push((0..row.len()).map(cell).collect());
                }
            }
        }
        drop(client);
        connection.await.unwrap().unwrap();
        Self::of(tables)
    }

    fn of(tables: [Vec<Vec<Option<String>>>; SELECTS.len()]) -> Self {
        fn each<T>(table: Vec<Vec<Option<String>>>, read: impl Fn(&mut Cells) -> T) -> Vec<T> {
            let rows = table.into_iter().map(|row| Cells(row.into_iter()));
            rows.map(|mut cells| read(&mut cells)).collect()
        }
        let [
            orders,
            events,
            attempts,
            claims,
            captures,
            refunds,
            mismatches,
            ledger,
            totals,
            outbox,
            pending,
            bills,
        ] = tables;
        let mut by_order: BTreeMap<String, Vec<EventRow>> = BTreeMap::new();
        for (order, event) in each(events, |row| {
            let order = row.text();
            let event = EventRow {
                version: row.number(),
                position: row.number(),
                at: row.number(),
                event: row.json(),
            };
            (order, event)
        }) {
            by_order.entry(order).or_default().push(event);
        }
        Self {
            orders: each(orders, |row| OrderRow {
                id: row.text(),
                version: row.number(),
                status: row.text(),
                amount: row.number(),
                order: row.json(),
                bills: row.json::<OrderSnapshot>().bills,
            }),
            events: by_order,
            attempts: each(attempts, |row| AttemptRow {
                order: row.text(),
                number: row.number(),
                status: row.text(),
                expires_at: row.number(),
            }),
            claims: each(claims, |row| ClaimRow {
                order: row.text(),
                attempt: row.number(),
                payer: row.bytes(),
                claimed_at: row.number(),
            }),
            captures: each(captures, |row| CaptureRow {
                account: row.text(),
                transaction: row.text(),
                order: row.text(),
                attempt: row.number(),
                wallet: row.text(),
                amount: row.number(),
                refund: row.maybe(),
            }),
            refunds: each(refunds, |row| RefundRow {
                account: row.text(),
                number: row.text(),
                refund: row.text(),
                round: row.number(),
                order: row.text(),
                attempt: row.number(),
                cause: row.text(),
                amount: row.number(),
                status: row.text(),
            }),
            mismatches: each(mismatches, |row| MismatchRow {
                order: row.text(),
                number: row.number(),
                settled: row.flag(),
            }),
            ledger: each(ledger, |row| LineRow {
                order: row.text(),
                version: row.number(),
                position: row.number(),
                line: row.number(),
                book: row.text(),
                amount: row.number(),
            }),
            totals: each(totals, |row| (row.text(), row.number()))
                .into_iter()
                .collect(),
            outbox: each(outbox, |row| OutboxRow {
                id: row.text(),
                order: row.text(),
                version: row.number(),
                kind: row.text(),
            }),
            pending_webhooks: each(pending, Cells::number)[0],
            bills: each(bills, |row| BillRow {
                id: row.text(),
                amount: row.number(),
                order: row.maybe(),
            }),
        }
    }
}
