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

use enrollpay::order::evolve::replay;
use enrollpay::order::invariants::{Books, at_rest, check, check_at_rest};
use enrollpay::order::{AttemptNumber, Event, Fen, Order, OrderId, OutTradeNo, Timestamp};
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use serde_json::Value;

use crate::support::receiver::Delivery;

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

impl Trade {
    /// The order it is for: `ord_` and the first 26 characters.
    fn order(&self) -> String {
        format!("ord_{}", &self.out_trade_no[..26])
    }

    fn captured(&self) -> i64 {
        self.captures.iter().map(|capture| capture.amount).sum()
    }

    fn refunded(&self) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.status == "SUCCESS")
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
            "SELECT order_id, version, at, event FROM order_events
             ORDER BY order_id, version, position",
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    EventRow {
                        version: row.get(1)?,
                        at: row.get(2)?,
                        event: json(&row.get::<_, String>(3)?),
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

const ALL: [(&str, Look); 15] = [
    ("M1", paid_once_or_not_at_all),
    ("M2", one_capture_is_kept),
    ("M3", captures_fit),
    ("M5", one_refund_each),
    ("M7", settlements_are_final),
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
        let provider = Books {
            captured: Fen::new(trades.iter().map(|trade| trade.captured()).sum()),
            surplus_refunded: Fen::new(trades.iter().map(|trade| trade.refunded()).sum()),
            refunded: Fen::ZERO,
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
        if capture.refund.is_none() && !trade.refunds.is_empty() {
            report(format!("{number}: the payment itself was refunded"));
        }
        for refund in &trade.refunds {
            if refund.amount != capture.amount {
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

/// M5: one refund reaches the provider as one, under a number derived from its capture's.
fn one_refund_each(_: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for trade in &books.trades {
        let numbers: Vec<&str> = trade
            .refunds
            .iter()
            .map(|refund| refund.number.as_str())
            .collect();
        let derived = format!("{}S", trade.out_trade_no);
        if numbers.len() > 1 || numbers.iter().any(|number| *number != derived) {
            report(format!("{}: refunds {numbers:?}", trade.out_trade_no));
        }
        if trade.refunded() > trade.captured() {
            report(format!(
                "{}: more refunded than captured",
                trade.out_trade_no
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

/// E5: the timeline, replayed, is the row.
fn the_timeline_gives_the_row(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let mut commits: BTreeMap<i64, (Timestamp, Vec<Event>)> = BTreeMap::new();
        for event in &rows.events[&row.id] {
            let at = Timestamp::from_millis(event.at);
            commits
                .entry(event.version)
                .or_insert_with(|| (at, Vec::new()))
                .1
                .push(event.event.clone());
        }
        let gapless = commits.keys().copied().eq(1..=row.version);
        let replayed = row.id.parse().ok().and_then(|id| {
            replay(
                id,
                commits
                    .values()
                    .map(|(at, events)| (*at, events.as_slice())),
            )
        });
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

mod doctored {
    //! Each invariant must be seen to break.

    use serde_json::{Value, json};

    use super::*;
    use crate::support::World;
    use crate::support::student::{Alipay, Wechat};

    struct Sample {
        folder: tempfile::TempDir,
        store: std::path::PathBuf,
        books: Value,
    }

    /// A store with a paid order, one whose late payment went back, and one whose code ended.
    async fn sample() -> Sample {
        let mut world = World::start(&[]).await;
        let paid = world.ask(Wechat).await;
        world.simulators.pay(&paid.trade).await;
        world.merchant.until_status(&paid.order, "paid").await;
        let cancelled = world.ask(Alipay).await;
        let path = format!("/v1/orders/{}/cancel", cancelled.order);
        world.merchant.insist(&path, &json!({}), "c1").await;
        world
            .merchant
            .until_status(&cancelled.order, "closed")
            .await;
        world.late_payment().await;
        world.rest().await;
        let books = world.simulators.books().await;
        world.gateway.kill9().await;
        let folder = tempfile::tempdir().unwrap();
        let store = copy_store(&world.gateway.store(), folder.path());
        Sample {
            folder,
            store,
            books,
        }
    }

    impl Sample {
        /// What is found after this was done to a copy.
        fn found(&self, name: &str, sql: &str, books: &Value) -> BTreeSet<&'static str> {
            let folder = self.folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let copy = copy_store(&self.store, &folder);
            let connection = Connection::open(copy).unwrap();
            // The same rows without any rule that would refuse the lie.
            connection
                .execute_batch("PRAGMA foreign_keys = OFF")
                .unwrap();
            for table in [
                "outbox",
                "captures",
                "claims",
                "attempts",
                "order_events",
                "orders",
            ] {
                connection
                    .execute_batch(&format!(
                        "CREATE TABLE bare AS SELECT * FROM {table};
                         DROP TABLE {table};
                         ALTER TABLE bare RENAME TO {table};"
                    ))
                    .unwrap();
            }
            connection.execute_batch(sql).unwrap();
            check_connection(&connection, books)
                .into_iter()
                .map(|broken| broken.invariant)
                .collect()
        }
    }

    type Lie = fn(&mut Value);

    /// The one trade of which this holds.
    fn trade(books: &mut Value, holds: impl Fn(&Value) -> bool) -> &mut Value {
        let trades = books["trades"].as_array_mut().unwrap();
        trades.iter_mut().find(|trade| holds(trade)).unwrap()
    }

    #[tokio::test]
    async fn each_doctored_store_is_found_out() {
        let sample = sample().await;
        let sound = sample.found("sound", "", &sample.books);
        assert_eq!(sound, BTreeSet::new(), "an untouched store is sound");

        let rows_that_lie = [
            (
                "M1",
                "UPDATE captures SET refund = 'rfd_x' WHERE refund IS NULL",
            ),
            (
                "M1",
                "UPDATE orders SET status = 'unpaid' WHERE status = 'paid'",
            ),
            (
                "M2",
                "UPDATE captures SET refund = NULL, order_id = (SELECT order_id FROM captures WHERE refund IS NULL)",
            ),
            (
                "M2",
                "UPDATE captures SET refund = 'rfd_x'; INSERT INTO captures SELECT account, 'twin', order_id, attempt, wallet, amount, succeeded_at, heard_at, refund FROM captures LIMIT 1",
            ),
            ("M3", "UPDATE captures SET amount = amount + 1"),
            ("M3", "UPDATE captures SET account = 'another'"),
            (
                "M3",
                "UPDATE captures SET transaction_id = 'another' || transaction_id",
            ),
            (
                "M7",
                "UPDATE orders SET status = 'paid' WHERE status = 'closed'",
            ),
            (
                "M7",
                "INSERT INTO order_events SELECT order_id, version, position + 50, at, actor, request_id, event FROM order_events WHERE event LIKE '%order_paid%'",
            ),
            (
                "Q1",
                "UPDATE attempts SET status = 'shown'; INSERT INTO attempts SELECT order_id, number + 1, id || 'x', 'closing', started_at, expires_at FROM attempts",
            ),
            ("Q2", "DELETE FROM claims"),
            ("Q2", "UPDATE claims SET payer = zeroblob(16)"),
            ("Q3", "UPDATE claims SET claimed_at = claimed_at + 86400000"),
            ("A1", "DELETE FROM captures WHERE refund IS NULL"),
            (
                "A2",
                "INSERT INTO order_events SELECT order_id, version, position + 50, at, actor, request_id, event FROM order_events WHERE event LIKE '%money_captured%'",
            ),
            ("E1", "DELETE FROM outbox WHERE kind = 'order.paid'"),
            (
                "E1",
                "INSERT INTO outbox SELECT id || 'x', merchant, order_id, version, kind, body, created_at, state, tries, next_at, note, changed_at FROM outbox WHERE kind = 'order.paid'",
            ),
            ("E1", "UPDATE outbox SET version = version + 1"),
            (
                "E5",
                "DELETE FROM order_events WHERE event LIKE '%provider_asked%' OR event LIKE '%trade_made%'",
            ),
            (
                "E5",
                "UPDATE orders SET state = json_set(state, '$.attempts[0].queries.scheduled', 9)",
            ),
            (
                "state",
                "UPDATE orders SET state = json_set(state, '$.settlement', 'open') WHERE status = 'paid'",
            ),
        ];
        for (at, (invariant, sql)) in rows_that_lie.into_iter().enumerate() {
            let found = sample.found(&format!("rows{at}"), sql, &sample.books);
            assert!(found.contains(invariant), "{invariant}: {sql}: {found:?}");
        }

        let books_that_differ: [(&str, Lie); 7] = [
            // The surplus never went back.
            ("M1", |books| {
                trade(books, |trade| trade["refunded"] == 14000)["refunds"] = json!([]);
            }),
            // The payment went back.
            ("M2", |books| {
                let trade = trade(books, kept_trade);
                let number = format!("{}S", trade["out_trade_no"].as_str().unwrap());
                trade["refunds"] =
                    json!([{ "number": number, "amount": 14000, "status": "SUCCESS" }]);
            }),
            // Taken twice, known once.
            ("M1", |books| {
                let trade = trade(books, kept_trade);
                let twin = trade["captures"][0].clone();
                trade["captures"].as_array_mut().unwrap().push(twin);
            }),
            // A second refund, under a number of its own.
            ("M5", |books| {
                let trade = trade(books, |trade| trade["refunded"] == 14000);
                let mut twin = trade["refunds"][0].clone();
                twin["number"] = json!("another");
                trade["refunds"].as_array_mut().unwrap().push(twin);
            }),
            // Ended here, payable there.
            ("Q4", |books| {
                trade(books, |trade| trade["captured"] == 0)["payable"] = json!(true);
            }),
            // Two codes of one order.
            ("Q5", |books| {
                let trades = books["trades"].as_array_mut().unwrap();
                trades[0]["payable"] = json!(true);
                let mut twin = trades[0].clone();
                let number = trades[0]["out_trade_no"].as_str().unwrap()[..26].to_owned();
                twin["out_trade_no"] = json!(format!("{number}0Z"));
                twin["captures"] = json!([]);
                twin["refunds"] = json!([]);
                trades.push(twin);
            }),
            // Acknowledged, and lost.
            ("A1", |books| {
                let trade = trade(books, kept_trade);
                trade["captures"][0]["transaction_id"] = json!("another");
            }),
        ];
        for (at, (invariant, lie)) in books_that_differ.into_iter().enumerate() {
            let mut books = sample.books.clone();
            lie(&mut books);
            let found = sample.found(&format!("books{at}"), "", &books);
            assert!(found.contains(invariant), "{invariant} ({at}): {found:?}");
        }
    }

    fn kept_trade(trade: &Value) -> bool {
        trade["captured"] == 14000 && trade["refunded"] == 0
    }
}
