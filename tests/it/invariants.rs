//! The shared checker: a store file held against the providers' books, invariant by invariant
//! (reliability §1). It trusts neither: rows are compared with one another, the timeline is replayed,
//! and every sum is taken on both sides. A store that somebody doctored must not pass: the tests at
//! the end see to that.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use enrollpay::order::event::Attention;
use enrollpay::order::evolve::replay;
use enrollpay::order::invariants::{Books, at_rest, check, check_at_rest};
use enrollpay::order::state::MismatchStanding;
use enrollpay::order::{AttemptNumber, Event, Fen, Order, OrderId, OutTradeNo, Timestamp, ledger};
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use serde_json::Value;

use crate::support::receiver::Delivery;

mod doctored;

/// One invariant that does not hold.
#[derive(Debug)]
pub struct Broken {
    pub invariant: &'static str,
    #[expect(dead_code, reason = "read by whoever reads the failure")]
    pub what: String,
}

struct OrderRow {
    id: String,
    version: i64,
    status: String,
    amount: i64,
    order: Order,
}

struct EventRow {
    version: i64,
    position: i64,
    at: i64,
    event: Event,
}

struct AttemptRow {
    order: String,
    number: u16,
    status: String,
    expires_at: i64,
}

struct ClaimRow {
    order: String,
    attempt: u16,
    payer: Vec<u8>,
    claimed_at: i64,
}

struct CaptureRow {
    account: String,
    transaction: String,
    order: String,
    attempt: u16,
    wallet: String,
    amount: i64,
    refund: Option<String>,
}

struct RefundRow {
    account: String,
    number: String,
    refund: String,
    round: u8,
    order: String,
    attempt: u16,
    cause: String,
    amount: i64,
    status: String,
}

struct MismatchRow {
    order: String,
    number: u16,
    settled: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct LineRow {
    order: String,
    version: i64,
    position: i64,
    line: i64,
    book: String,
    amount: i64,
}

struct OutboxRow {
    id: String,
    order: String,
    version: i64,
    kind: String,
}

/// The store, read in one transaction.
struct Rows {
    orders: Vec<OrderRow>,
    events: BTreeMap<String, Vec<EventRow>>,
    attempts: Vec<AttemptRow>,
    claims: Vec<ClaimRow>,
    captures: Vec<CaptureRow>,
    refunds: Vec<RefundRow>,
    mismatches: Vec<MismatchRow>,
    ledger: Vec<LineRow>,
    totals: BTreeMap<String, i64>,
    outbox: Vec<OutboxRow>,
    pending_webhooks: i64,
}

#[derive(Deserialize)]
struct TheirBooks {
    trades: Vec<Trade>,
}

#[derive(Deserialize)]
struct Trade {
    wallet: String,
    out_trade_no: String,
    payable: bool,
    captures: Vec<TheirCapture>,
    refunds: Vec<TheirRefund>,
    notices: Vec<TheirNotice>,
}

#[derive(Deserialize)]
struct TheirCapture {
    transaction_id: String,
    amount: i64,
}

#[derive(Deserialize)]
struct TheirRefund {
    number: String,
    amount: i64,
    status: String,
}

#[derive(Deserialize)]
struct TheirNotice {
    acked: bool,
}

impl TheirRefund {
    /// Merchants' refunds go by their own ids, all others by the number of their trade.
    fn is_merchants(&self) -> bool {
        self.number.starts_with("rfd_")
    }
}

impl Trade {
    /// The order it is for: `ord_` and the first 26 characters.
    fn order(&self) -> String {
        format!("ord_{}", &self.out_trade_no[..26])
    }

    fn captured(&self) -> i64 {
        self.captures.iter().map(|capture| capture.amount).sum()
    }

    /// What went back by refunds of this kind.
    fn refunded(&self, of: impl Fn(&TheirRefund) -> bool) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.status == "SUCCESS" && of(refund))
            .map(|refund| refund.amount)
            .sum()
    }

    /// What left by every refund that the provider has not refused.
    fn left(&self) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.status != "CLOSED")
            .map(|refund| refund.amount)
            .sum()
    }
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = connection.prepare(sql).unwrap();
    let found = statement.query_map([], read).unwrap();
    found.map(Result::unwrap).collect()
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Rows {
    fn read(connection: &Connection) -> Self {
        let events = rows(
            connection,
            "SELECT order_id, version, position, at, event FROM order_events
             ORDER BY order_id, version, position",
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    EventRow {
                        version: row.get(1)?,
                        position: row.get(2)?,
                        at: row.get(3)?,
                        event: json(&row.get::<_, String>(4)?),
                    },
                ))
            },
        );
        let mut by_order: BTreeMap<String, Vec<EventRow>> = BTreeMap::new();
        for (order, event) in events {
            by_order.entry(order).or_default().push(event);
        }
        Self {
            orders: rows(
                connection,
                "SELECT id, version, status, amount, state FROM orders ORDER BY id",
                |row| {
                    Ok(OrderRow {
                        id: row.get(0)?,
                        version: row.get(1)?,
                        status: row.get(2)?,
                        amount: row.get(3)?,
                        order: json(&row.get::<_, String>(4)?),
                    })
                },
            ),
            events: by_order,
            attempts: rows(
                connection,
                "SELECT order_id, number, status, expires_at FROM attempts",
                |row| {
                    Ok(AttemptRow {
                        order: row.get(0)?,
                        number: row.get(1)?,
                        status: row.get(2)?,
                        expires_at: row.get(3)?,
                    })
                },
            ),
            claims: rows(
                connection,
                "SELECT order_id, attempt, payer, claimed_at FROM claims",
                |row| {
                    Ok(ClaimRow {
                        order: row.get(0)?,
                        attempt: row.get(1)?,
                        payer: row.get(2)?,
                        claimed_at: row.get(3)?,
                    })
                },
            ),
            captures: rows(
                connection,
                "SELECT account, transaction_id, order_id, attempt, wallet, amount, refund
                 FROM captures",
                |row| {
                    Ok(CaptureRow {
                        account: row.get(0)?,
                        transaction: row.get(1)?,
                        order: row.get(2)?,
                        attempt: row.get(3)?,
                        wallet: row.get(4)?,
                        amount: row.get(5)?,
                        refund: row.get(6)?,
                    })
                },
            ),
            refunds: rows(
                connection,
                "SELECT account, number, refund, round, order_id, attempt, cause, amount, status
                 FROM refunds ORDER BY refund, round",
                |row| {
                    Ok(RefundRow {
                        account: row.get(0)?,
                        number: row.get(1)?,
                        refund: row.get(2)?,
                        round: row.get(3)?,
                        order: row.get(4)?,
                        attempt: row.get(5)?,
                        cause: row.get(6)?,
                        amount: row.get(7)?,
                        status: row.get(8)?,
                    })
                },
            ),
            mismatches: rows(
                connection,
                "SELECT order_id, number, settled FROM mismatches ORDER BY order_id, number",
                |row| {
                    Ok(MismatchRow {
                        order: row.get(0)?,
                        number: row.get(1)?,
                        settled: row.get(2)?,
                    })
                },
            ),
            ledger: rows(
                connection,
                "SELECT order_id, version, position, line, book, amount FROM ledger",
                |row| {
                    Ok(LineRow {
                        order: row.get(0)?,
                        version: row.get(1)?,
                        position: row.get(2)?,
                        line: row.get(3)?,
                        book: row.get(4)?,
                        amount: row.get(5)?,
                    })
                },
            ),
            totals: rows(
                connection,
                "SELECT book, amount FROM ledger_totals",
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .into_iter()
            .collect(),
            outbox: rows(
                connection,
                "SELECT id, order_id, version, kind FROM outbox",
                |row| {
                    Ok(OutboxRow {
                        id: row.get(0)?,
                        order: row.get(1)?,
                        version: row.get(2)?,
                        kind: row.get(3)?,
                    })
                },
            ),
            pending_webhooks: connection
                .query_row(
                    "SELECT count(*) FROM outbox WHERE state = 'pending'",
                    [],
                    |row| row.get(0),
                )
                .unwrap(),
        }
    }

    fn refund_numbered(&self, number: &str) -> Option<&RefundRow> {
        self.refunds.iter().find(|row| row.number == number)
    }

    /// Was a person told that money of this order went back past these books?
    fn was_foreign(&self, order: &str) -> bool {
        let events = self.events.get(order).into_iter().flatten();
        let mut told = events.map(|row| &row.event);
        told.any(|event| {
            matches!(event, Event::AttentionRaised { why } if *why == Attention::ForeignRefund)
        })
    }
}

/// What is still under way, here or between us and the providers; `None` at rest. Reads the store
/// beside the running gateway.
pub fn unrest(store: &Path, books: &Value) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(store, flags).unwrap();
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .unwrap();
    connection.execute_batch("BEGIN").unwrap();
    let rows = Rows::read(&connection);
    let books = TheirBooks::deserialize(books).unwrap();
    for row in &rows.orders {
        if row.order.live_attempt().is_some() {
            return Some(format!("{} has a live attempt", row.id));
        }
        if !at_rest(&row.order) && row.order.mismatches.is_empty() {
            return Some(format!("{} has a refund under way", row.id));
        }
    }
    let known: BTreeSet<&str> = rows
        .captures
        .iter()
        .map(|row| row.transaction.as_str())
        .chain(rows.orders.iter().flat_map(|row| {
            let odd = row.order.mismatches.iter();
            odd.map(|mismatch| &*mismatch.transaction_id)
        }))
        .collect();
    for trade in &books.trades {
        if let Some(unknown) = trade
            .captures
            .iter()
            .find(|capture| !known.contains(capture.transaction_id.as_str()))
        {
            return Some(format!(
                "{} was paid by {}, and we do not know",
                trade.out_trade_no, unknown.transaction_id
            ));
        }
    }
    (rows.pending_webhooks > 0).then(|| format!("{} events wait", rows.pending_webhooks))
}

/// Copies the store with its log, so that looking at it changes nothing, and checks the copy.
pub fn check_invariants(store: &Path, books: &Value) -> Vec<Broken> {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_store(store, folder.path());
    check_connection(&Connection::open(copy).unwrap(), books)
}

/// E1, E2, E4 as the merchant saw them: every event of the outbox was delivered, as the order of its
/// version, with the same bytes each time, and nothing else was.
pub fn told_as_kept(store: &Path, told: &[Delivery]) -> Vec<Broken> {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_store(store, folder.path());
    let rows = Rows::read(&Connection::open(copy).unwrap());
    let mut broken = Vec::new();
    let mut report = |invariant, what| broken.push(Broken { invariant, what });
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for delivery in told {
        let fits = rows.outbox.iter().any(|row| {
            row.id == delivery.id
                && row.kind == delivery.kind
                && delivery.order["id"] == row.order.as_str()
                && delivery.order["version"] == row.version
        });
        if !fits {
            report("E1", format!("{} tells what no row holds", delivery.id));
        }
        let first = bodies.entry(&delivery.id).or_insert(&delivery.body);
        if *first != delivery.body {
            report("E4", format!("{} changed its bytes", delivery.id));
        }
    }
    for row in &rows.outbox {
        if !bodies.contains_key(row.id.as_str()) {
            report("E2", format!("{} was never told", row.id));
        }
    }
    broken
}

fn copy_store(store: &Path, to: &Path) -> std::path::PathBuf {
    let copy = to.join("store.db");
    std::fs::copy(store, &copy).unwrap();
    let log = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        std::path::PathBuf::from(name)
    };
    if log(store).exists() {
        std::fs::copy(log(store), log(&copy)).unwrap();
    }
    copy
}

type Look = fn(&Rows, &TheirBooks, &mut dyn FnMut(String));

const ALL: [(&str, Look); 18] = [
    ("M1", paid_once_or_not_at_all),
    ("M2", one_capture_is_kept),
    ("M3", captures_fit),
    ("M3", odd_captures_stand_apart),
    ("M4", refunds_stay_within_the_payment),
    ("M5", one_refund_each),
    ("M7", settlements_are_final),
    ("M9", the_books_balance),
    ("Q1", one_live_attempt),
    ("Q2", one_claim_each),
    ("Q3", claims_in_time),
    ("Q4", what_ended_is_dead),
    ("Q5", one_payable_trade),
    ("A1", what_was_acknowledged_is_here),
    ("A2", heard_once),
    ("E1", one_event_each),
    ("E5", the_timeline_gives_the_row),
    ("state", states_are_sound),
];

fn check_connection(connection: &Connection, books: &Value) -> Vec<Broken> {
    let rows = Rows::read(connection);
    let books = TheirBooks::deserialize(books).unwrap();
    let mut broken = Vec::new();
    for (invariant, look) in ALL {
        look(&rows, &books, &mut |what| {
            broken.push(Broken { invariant, what });
        });
    }
    broken
}

fn trades_of<'a>(books: &'a TheirBooks, order: &str) -> Vec<&'a Trade> {
    books
        .trades
        .iter()
        .filter(|trade| trade.order() == order)
        .collect()
}

fn trade_number(order: &str, attempt: u16) -> String {
    let order: OrderId = order.parse().unwrap();
    let attempt = AttemptNumber::new(attempt).unwrap();
    OutTradeNo { order, attempt }.to_string()
}

/// M1: at rest what was taken and not given back is the amount of a paid order, else nothing; by our
/// rows, by our state, and by the providers' books.
fn paid_once_or_not_at_all(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let trades = trades_of(books, &row.id);
        // What went back past these books is told to people, and is nobody's refund here.
        let foreign = rows.was_foreign(&row.id);
        let ours =
            |refund: &TheirRefund| !foreign || rows.refund_numbered(&refund.number).is_some();
        let gone = |merchants| {
            let of = |refund: &TheirRefund| ours(refund) && refund.is_merchants() == merchants;
            Fen::new(trades.iter().map(|trade| trade.refunded(of)).sum())
        };
        let provider = Books {
            captured: Fen::new(trades.iter().map(|trade| trade.captured()).sum()),
            surplus_refunded: gone(false),
            refunded: gone(true),
        };
        if let Err(violation) = check_at_rest(&row.order, provider) {
            report(format!("{}: {violation} ({provider:?})", row.id));
        }
        let ours = rows
            .captures
            .iter()
            .filter(|capture| capture.order == row.id);
        let (mut kept, mut surplus) = (0, 0);
        for capture in ours {
            match capture.refund {
                None => kept += capture.amount,
                Some(_) => surplus += capture.amount,
            }
        }
        let owed = if row.status == "paid" { row.amount } else { 0 };
        if kept != owed {
            report(format!("{}: kept {kept}, owed {owed}", row.id));
        }
        let is_quiet = at_rest(&row.order) && row.order.mismatches.is_empty();
        if is_quiet && surplus != provider.surplus_refunded.get() {
            report(format!("{}: surplus {surplus}, {provider:?}", row.id));
        }
    }
}

/// M2: one capture is kept, every other has a refund of its own over its full value.
fn one_capture_is_kept(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut kept = BTreeSet::new();
    let mut refunds = BTreeSet::new();
    for capture in &rows.captures {
        match &capture.refund {
            None if !kept.insert(&capture.order) => {
                report(format!("{}: two captures are kept", capture.order));
            }
            Some(refund) if !refunds.insert(refund) => {
                report(format!("{refund} stands for two captures"));
            }
            _ => {}
        }
        let number = trade_number(&capture.order, capture.attempt);
        let Some(trade) = books
            .trades
            .iter()
            .find(|trade| trade.out_trade_no == number)
        else {
            continue;
        };
        let whole = format!("{number}S");
        for refund in &trade.refunds {
            let as_surplus = refund.number.starts_with(&whole);
            if as_surplus && capture.refund.is_none() {
                report(format!("{number}: the payment itself was refunded"));
            }
            if as_surplus && refund.amount != capture.amount {
                report(format!(
                    "{number}: {} refunded of {}",
                    refund.amount, capture.amount
                ));
            }
        }
    }
}

/// M3: a capture equals its trade's frozen request and the provider's own line.
fn captures_fit(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for capture in &rows.captures {
        let name = format!("{} of {}", capture.transaction, capture.order);
        let Some(row) = rows.orders.iter().find(|row| row.id == capture.order) else {
            report(format!("{name}: no such order"));
            continue;
        };
        let trade = AttemptNumber::new(capture.attempt)
            .and_then(|number| row.order.attempt(number))
            .and_then(|attempt| attempt.trade.as_ref());
        let fits = trade.is_some_and(|trade| {
            trade.account.as_str() == capture.account
                && trade.product.wallet().as_str() == capture.wallet
        });
        if !fits || capture.amount != row.amount {
            report(format!("{name}: other than the trade that was intended"));
        }
        let number = trade_number(&capture.order, capture.attempt);
        let told = books.trades.iter().any(|trade| {
            trade.out_trade_no == number
                && trade.wallet == capture.wallet
                && trade.captures.iter().any(|theirs| {
                    theirs.transaction_id == capture.transaction && theirs.amount == capture.amount
                })
        });
        if !told {
            report(format!("{name}: the provider knows no such payment"));
        }
    }
}

/// M3: each odd capture has the row by which people find it, settled or not as its order has it.
fn odd_captures_stand_apart(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let kept = rows.mismatches.iter().filter(|odd| odd.order == row.id);
        let kept: Vec<_> = kept.map(|odd| (odd.number, odd.settled)).collect();
        let owed = (0..).zip(&row.order.mismatches);
        let owed: Vec<_> = owed
            .map(|(number, odd)| (number, odd.is_settled()))
            .collect();
        if kept != owed {
            report(format!("{}: odd captures {owed:?}, rows {kept:?}", row.id));
        }
    }
}

/// M4: what merchants gave back, or may have, is within the payment; and no more left any trade than
/// it had taken.
fn refunds_stay_within_the_payment(
    rows: &Rows,
    books: &TheirBooks,
    report: &mut dyn FnMut(String),
) {
    for row in &rows.orders {
        let merchants = rows
            .refunds
            .iter()
            .filter(|refund| refund.order == row.id && refund.cause == "merchant");
        let held: i64 = merchants
            .filter(|refund| refund.status != "failed")
            .map(|refund| refund.amount)
            .sum();
        let kept: i64 = rows
            .captures
            .iter()
            .filter(|capture| capture.order == row.id && capture.refund.is_none())
            .map(|capture| capture.amount)
            .sum();
        if held > kept {
            report(format!("{}: {held} given back of {kept}", row.id));
        }
    }
    if let Some(nothing) = rows.refunds.iter().find(|refund| refund.amount < 1) {
        report(format!("{}: of {}", nothing.number, nothing.amount));
    }
    for trade in &books.trades {
        if trade.left() > trade.captured() {
            report(format!(
                "{}: more refunded than captured",
                trade.out_trade_no
            ));
        }
    }
}

/// M5: one row, one number, one refund at the provider; and each row is the heart's.
fn one_refund_each(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for trade in &books.trades {
        let mut numbers = BTreeSet::new();
        for refund in &trade.refunds {
            let name = format!("{} of {}", refund.number, trade.out_trade_no);
            if !numbers.insert(&refund.number) {
                report(format!("{name}: twice"));
            }
            match rows.refund_numbered(&refund.number) {
                None if rows.was_foreign(&trade.order()) => {}
                None => report(format!("{name}: nobody asked for it")),
                Some(row) => {
                    let trade_of_ours = trade_number(&row.order, row.attempt);
                    if trade_of_ours != trade.out_trade_no || row.amount != refund.amount {
                        report(format!("{name}: other than its row"));
                    }
                    if row.status == "failed" && refund.status == "SUCCESS" {
                        report(format!("{name}: failed here, and went back"));
                    }
                }
            }
        }
    }
    for row in rows.refunds.iter().filter(|row| row.status == "succeeded") {
        let number = trade_number(&row.order, row.attempt);
        let went_back = books.trades.iter().any(|trade| {
            let refunds = trade
                .refunds
                .iter()
                .filter(|_| trade.out_trade_no == number);
            let mut same = refunds.filter(|refund| refund.number == row.number);
            same.any(|refund| refund.status == "SUCCESS")
        });
        if !went_back {
            report(format!("{}: gone here, and not there", row.number));
        }
    }
    for row in &rows.orders {
        let of_order = |refund: &&RefundRow| refund.order == row.id;
        let owed: BTreeSet<_> = row
            .order
            .every_refund()
            .map(|refund| {
                let standing = refund.standing.as_str();
                let (number, cause) = (refund.number(&row.order), refund.cause.as_str());
                (
                    refund.id.to_string(),
                    refund.round(),
                    number,
                    cause,
                    standing,
                )
            })
            .collect();
        let last = |refund: &&RefundRow| {
            let later =
                |other: &RefundRow| other.refund == refund.refund && other.round > refund.round;
            !rows.refunds.iter().any(later)
        };
        let kept: BTreeSet<_> = rows
            .refunds
            .iter()
            .filter(of_order)
            .filter(last)
            .map(|row| {
                let (cause, status) = (row.cause.as_str(), row.status.as_str());
                (
                    row.refund.clone(),
                    row.round,
                    row.number.clone(),
                    cause,
                    status,
                )
            })
            .collect();
        if owed != kept {
            report(format!("{}: refunds {owed:?}, rows {kept:?}", row.id));
        }
        let mut earlier = rows.refunds.iter().filter(of_order);
        if let Some(row) = earlier.find(|refund| !last(refund) && refund.status != "failed") {
            report(format!(
                "{}: {} before another round",
                row.number, row.status
            ));
        }
    }
}

/// M7: an order is settled once, and its row says how.
fn settlements_are_final(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        if row.order.status().as_str() != row.status {
            report(format!("{}: the row says {}", row.id, row.status));
        }
        let ends: Vec<&str> = rows.events[&row.id]
            .iter()
            .filter_map(|event| match event.event {
                Event::OrderPaid => Some("paid"),
                Event::OrderClosed { .. } => Some("closed"),
                _ => None,
            })
            .collect();
        let stands =
            matches!(row.status.as_str(), "paid" | "closed").then_some(row.status.as_str());
        if ends.len() > 1 || ends.first().copied() != stands {
            report(format!(
                "{}: settled {ends:?}, the row says {}",
                row.id, row.status
            ));
        }
    }
}

/// M9: the lines are those of the events, each event's sum to zero, and each book holds what captures
/// and refunds say.
fn the_books_balance(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut sums: BTreeMap<(&str, i64, i64), i64> = BTreeMap::new();
    let mut added: BTreeMap<&str, i64> = BTreeMap::new();
    for line in &rows.ledger {
        let event = (line.order.as_str(), line.version, line.position);
        *sums.entry(event).or_default() += line.amount;
        *added.entry(&line.book).or_default() += line.amount;
    }
    for (event, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
        report(format!("{event:?}: lines that sum to {sum}"));
    }
    let of = |book: &str| added.get(book).copied().unwrap_or_default();
    for (book, total) in &rows.totals {
        if of(book) != *total {
            report(format!("{book}: {total} told, {} added up", of(book)));
        }
    }
    if let Some(book) = added.keys().find(|book| !rows.totals.contains_key(**book)) {
        report(format!("{book}: not told"));
    }

    let mut told: BTreeSet<LineRow> = BTreeSet::new();
    for row in &rows.orders {
        let commits = commits(rows, &row.id);
        for event in rows.events.get(&row.id).into_iter().flatten() {
            // As its commit left the order: what is heard later may correct it, by lines of its own.
            let so_far = commits.range(..=event.version).map(|(_, commit)| commit);
            let Some(after) = replayed(&row.id, so_far) else {
                continue;
            };
            let lines = ledger::lines(&after, &event.event);
            told.extend(lines.iter().zip(0..).map(|(line, number)| LineRow {
                order: row.id.clone(),
                version: event.version,
                position: event.position,
                line: number,
                book: line.book.to_string(),
                amount: line.amount.get(),
            }));
        }
    }
    let kept: BTreeSet<&LineRow> = rows.ledger.iter().collect();
    let differs: Vec<_> = told
        .iter()
        .filter(|line| !kept.contains(line))
        .chain(rows.ledger.iter().filter(|line| !told.contains(line)))
        .collect();
    if !differs.is_empty() {
        report(format!("not told, or not kept: {differs:?}"));
    }

    // The same sums from the tables of what moved.
    let mut moved: BTreeMap<String, i64> = BTreeMap::new();
    let mut transfer = |gains: &str, loses: &str, amount: i64| {
        *moved.entry(gains.to_owned()).or_default() += amount;
        *moved.entry(loses.to_owned()).or_default() -= amount;
    };
    let provider = |account: &str| format!("provider:{account}");
    for capture in &rows.captures {
        let owner = match capture.refund {
            None => "merchant",
            Some(_) => "surplus",
        };
        transfer(&provider(&capture.account), owner, capture.amount);
    }
    for refund in rows.refunds.iter().filter(|row| row.status == "succeeded") {
        let owner = match refund.cause.as_str() {
            "mismatch" => "suspense",
            cause => cause,
        };
        transfer(owner, &provider(&refund.account), refund.amount);
    }
    let orders = rows.orders.iter();
    let odd = orders.flat_map(|row| {
        let places = row.order.mismatches.iter().enumerate();
        places.filter(|(place, mismatch)| {
            // Told again in a way that fits, it was taken back, unless it was on its way already.
            row.order.mismatch_counts(*place)
                || matches!(mismatch.standing, MismatchStanding::GoingBack { .. })
                    && mismatch.counts()
        })
    });
    for (_, mismatch) in odd {
        let Some(account) = &mismatch.account else {
            continue;
        };
        let amount = mismatch.amount.get();
        transfer(&provider(account.as_str()), "suspense", amount);
        if let MismatchStanding::SettledOutside { .. } = mismatch.standing {
            transfer("suspense", "outside", amount);
        }
    }
    let books: BTreeSet<&str> = moved.keys().map(String::as_str).collect();
    for book in books.union(&added.keys().copied().collect()) {
        let moved = moved.get(*book).copied().unwrap_or_default();
        if moved != of(book) {
            report(format!("{book}: holds {}, {moved} moved", of(book)));
        }
    }
}

fn one_live_attempt(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut live = BTreeSet::new();
    for attempt in &rows.attempts {
        let lives = matches!(attempt.status.as_str(), "shown" | "scanned" | "closing");
        if lives && !live.insert(&attempt.order) {
            report(format!("{}: two live attempts", attempt.order));
        }
    }
}

/// Q2: the claim of the row, of the state and of the timeline are one.
fn one_claim_each(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        for attempt in &row.order.attempts {
            let number = attempt.number.get();
            let events = rows.events[&row.id]
                .iter()
                .filter(|event| {
                    matches!(&event.event, Event::AttemptClaimed { attempt, .. }
                        if attempt.get() == number)
                })
                .count();
            let claims: Vec<&[u8]> = rows
                .claims
                .iter()
                .filter(|claim| claim.order == row.id && claim.attempt == number)
                .map(|claim| claim.payer.as_slice())
                .collect();
            let payer = attempt.claim.map(|claim| claim.payer.0.to_be_bytes());
            let agree = match (&payer, claims.as_slice()) {
                (None, []) => events == 0,
                (Some(payer), [claim]) => payer == claim && events == 1,
                _ => false,
            };
            if !agree {
                report(format!(
                    "{} attempt {number}: {} claims, {events} told",
                    row.id,
                    claims.len()
                ));
            }
        }
    }
}

fn claims_in_time(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for claim in &rows.claims {
        let in_time = rows.attempts.iter().any(|attempt| {
            attempt.order == claim.order
                && attempt.number == claim.attempt
                && claim.claimed_at < attempt.expires_at
        });
        if !in_time {
            report(format!(
                "{} attempt {}: claimed after its end",
                claim.order, claim.attempt
            ));
        }
    }
}

/// Q4: what ended unpaid cannot be paid at the provider.
fn what_ended_is_dead(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for attempt in &rows.attempts {
        if !matches!(attempt.status.as_str(), "expired" | "cancelled" | "failed") {
            continue;
        }
        let number = trade_number(&attempt.order, attempt.number);
        let payable = books
            .trades
            .iter()
            .any(|trade| trade.out_trade_no == number && trade.payable);
        if payable {
            report(format!(
                "{number} is {} here and payable there",
                attempt.status
            ));
        }
    }
}

fn one_payable_trade(_: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut payable = BTreeSet::new();
    for trade in books.trades.iter().filter(|trade| trade.payable) {
        if !payable.insert(trade.order()) {
            report(format!("{}: two payable trades", trade.order()));
        }
    }
}

/// A1: whatever we acknowledged survived.
fn what_was_acknowledged_is_here(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for trade in &books.trades {
        if !trade.notices.iter().any(|notice| notice.acked) {
            continue;
        }
        for theirs in &trade.captures {
            let here = rows.captures.iter().any(|capture| {
                capture.transaction == theirs.transaction_id && capture.order == trade.order()
            });
            let orders = rows.orders.iter().filter(|row| row.id == trade.order());
            let mut odd = orders.flat_map(|row| &row.order.mismatches);
            let here = here || odd.any(|odd| *odd.transaction_id == *theirs.transaction_id);
            if !here {
                report(format!(
                    "{}: {} was acknowledged and is not here",
                    trade.out_trade_no, theirs.transaction_id
                ));
            }
        }
    }
}

/// A2: a payment is told once, and the timeline and the table know the same ones.
fn heard_once(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let mut told = BTreeSet::new();
        for event in &rows.events[&row.id] {
            if let Event::MoneyCaptured { capture } = &event.event
                && !told.insert(capture.transaction_id.to_string())
            {
                report(format!("{}: {} twice", row.id, capture.transaction_id));
            }
        }
        let kept: BTreeSet<String> = rows
            .captures
            .iter()
            .filter(|capture| capture.order == row.id)
            .map(|capture| capture.transaction.clone())
            .collect();
        if told != kept {
            report(format!("{}: told {told:?}, kept {kept:?}", row.id));
        }
    }
}

/// E1: each event with a webhook has one row of its version. The bodies stand sealed: see
/// [`told_as_kept`].
fn one_event_each(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let mut owed: Vec<(i64, &str)> = rows.events[&row.id]
            .iter()
            .filter_map(|event| Some((event.version, event.event.webhook()?.as_str())))
            .collect();
        let mut kept: Vec<(i64, &str)> = rows
            .outbox
            .iter()
            .filter(|event| event.order == row.id)
            .map(|event| (event.version, event.kind.as_str()))
            .collect();
        owed.sort_unstable();
        kept.sort_unstable();
        if owed != kept {
            report(format!("{}: owed {owed:?}, kept {kept:?}", row.id));
        }
    }
}

type Commit = (Timestamp, Vec<Event>);

/// An order's events by version.
fn commits(rows: &Rows, order: &str) -> BTreeMap<i64, Commit> {
    let mut commits: BTreeMap<i64, Commit> = BTreeMap::new();
    for event in rows.events.get(order).into_iter().flatten() {
        let at = Timestamp::from_millis(event.at);
        let commit = commits.entry(event.version);
        let (_, events) = commit.or_insert_with(|| (at, Vec::new()));
        events.push(event.event.clone());
    }
    commits
}

fn replayed<'a>(order: &str, commits: impl Iterator<Item = &'a Commit>) -> Option<Order> {
    let id = order.parse().ok()?;
    replay(id, commits.map(|(at, events)| (*at, events.as_slice())))
}

/// E5: the timeline, replayed, is the row.
fn the_timeline_gives_the_row(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let commits = commits(rows, &row.id);
        let gapless = commits.keys().copied().eq(1..=row.version);
        let replayed = replayed(&row.id, commits.values());
        if !gapless || replayed.as_ref() != Some(&row.order) {
            report(format!(
                "{}: versions {:?}, row {}",
                row.id,
                commits.keys().collect::<Vec<_>>(),
                row.version
            ));
        }
    }
}

/// The heart's own judgement of each state.
fn states_are_sound(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        if let Err(violation) = check(&row.order) {
            report(format!("{}: {violation}", row.id));
        }
    }
}
