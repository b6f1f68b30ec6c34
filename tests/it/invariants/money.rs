//! M1 to M5, M9: what was taken, kept and given back, here and there.

use std::collections::{BTreeMap, BTreeSet};

use enrollpay::order::invariants::{Books, at_rest, check_at_rest};
use enrollpay::order::state::MismatchStanding;
use enrollpay::order::{AttemptNumber, Fen, ledger};

use super::rows::{LineRow, RefundRow, Rows, commits, replayed};
use super::theirs::{TheirBooks, TheirRefund, trade_number, trades_of};

/// M1: at rest what was taken and not given back is the amount of a paid order, else nothing; by our
/// rows, by our state, and by the providers' books.
pub fn paid_once_or_not_at_all(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
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
pub fn one_capture_is_kept(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
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
pub fn captures_fit(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
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
pub fn odd_captures_stand_apart(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
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
pub fn refunds_stay_within_the_payment(
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
pub fn one_refund_each(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
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

/// M9: the lines are those of the events, each event's sum to zero, and each book holds what captures
/// and refunds say.
pub fn the_books_balance(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
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
