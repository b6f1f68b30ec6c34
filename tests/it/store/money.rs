//! What every store promises of money: refunds within the payment, odd captures that wait, books that
//! sum to zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use enrollpay::order::ledger::Book;
use enrollpay::order::state::{MismatchStanding, MismatchedField};
use enrollpay::order::{
    AccountId, AttemptNumber, Command, Event, Fen, Mismatch, Order, OrderId, OutTradeNo, Outcome,
    PayerHash, RefundCause, RefundId, Refusal, SettleBy, decide,
};
use enrollpay::store::{RefundRow, RefundStatus, Rejection, Store};

use super::Place;
use super::sample::*;
use super::suite::{commit_step, is_broken};

const ACCOUNT: &str = "school-wechat";

/// Commits an order that was paid with 14,000 fen by way of a trade, and gives its state.
async fn paid(store: &Arc<dyn Store>, n: u32) -> Order {
    let claimed = claimed(store, n).await;
    accept(store, pay(&claimed, &format!("42{n:04}"))).await
}

async fn claimed(store: &Arc<dyn Store>, n: u32) -> Order {
    accept(store, creation(n)).await;
    let shown = accept(store, start(&order(n))).await;
    accept(store, claim(&shown, 1)).await
}

/// Commits a step, and gives the order after it.
async fn accept(store: &Arc<dyn Store>, write: enrollpay::store::OrderWrite) -> Order {
    assert_eq!(commit_step(store, write.clone()).await, Ok(()));
    write.order
}

/// What comes of these events.
async fn tell(store: &Arc<dyn Store>, before: &Order, events: Vec<Event>) -> Order {
    accept(store, told(before, events)).await
}

pub fn requested(n: u32, number: &str, amount: i64) -> Event {
    Event::RefundRequested {
        refund: refund_id(n),
        merchant_refund_no: number.into(),
        amount: Fen::new(amount),
        next_at: at(20),
        tries: 1,
    }
}

pub fn succeeded(n: u32) -> Event {
    let refund = refund_id(n);
    Event::RefundSucceeded { refund }
}

fn failed(n: u32) -> Event {
    let refund = refund_id(n);
    Event::RefundFailed { refund }
}

/// Two of 8,400 at once, from a payment of 14,000: the store takes one, and whoever decides again on
/// what stands there is told how much is left.
pub async fn refunds_stay_within_the_payment(place: &dyn Place) {
    let store = place.open().await;
    for (n, turned) in [(1, false), (2, true)] {
        let paid = paid(&store, n).await;
        let mut both = [n * 10, n * 10 + 1].map(|refund| {
            let number = refund.to_string();
            told(&paid, vec![requested(refund, &number, 8_400)])
        });
        if turned {
            both.reverse();
        }
        let [first, second] = both.clone().map(|write| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { commit_step(&store, write).await })
        });
        let verdicts = [first.await.unwrap(), second.await.unwrap()];
        let moved = Err(Rejection::VersionMoved);
        assert!(
            verdicts == [Ok(()), moved.clone()] || verdicts == [moved, Ok(())],
            "{verdicts:?}"
        );
        let lost = usize::from(verdicts[0].is_ok());
        let stands = store.order(order_id(n)).await.unwrap().unwrap().order;
        let again = Command::Refund {
            refund: refund_id(n * 10 + 2),
            merchant_refund_no: "another".into(),
            amount: Fen::new(8_400),
        };
        let remaining = Fen::new(5_600);
        assert_eq!(
            decide(&stands, &again, at(60)),
            Outcome::Refused(Refusal::RefundExceedsCaptured { remaining })
        );
        // Past the heart: the loser's own events, on the version that stands.
        let doctored = told(&stands, told_events(&both[lost]));
        let verdict = commit_step(&store, doctored).await;
        assert!(is_broken(&verdict), "{verdict:?}");
        assert!(format!("{verdict:?}").contains("M4"), "{verdict:?}");
        let found = store.order(order_id(n)).await.unwrap().unwrap();
        assert_eq!(found.order, stands);
        // The rest is there to be given back, to the last fen.
        let rest = requested(n * 10 + 3, &format!("rest {n}"), 5_600);
        let all = tell(&store, &stands, vec![rest]).await;
        let more = told(&all, vec![requested(n * 10 + 4, "more", 1)]);
        assert!(is_broken(&commit_step(&store, more).await));
    }
    // What failed no longer counts; and what is not paid gives nothing back.
    let payment = paid(&store, 3).await;
    let whole = tell(&store, &payment, vec![requested(30, "30", 14_000)]).await;
    let refused = tell(&store, &whole, vec![failed(30)]).await;
    let again = tell(&store, &refused, vec![requested(31, "31", 14_000)]).await;
    // A late success of the first would be twice the payment.
    assert!(is_broken(
        &commit_step(&store, told(&again, vec![succeeded(30)])).await
    ));
    let unpaid = claimed(&store, 4).await;
    let mut nothing = told(&unpaid, vec![requested(40, "40", 1)]);
    nothing.order.captures = payment.captures.clone();
    assert!(is_broken(&commit_step(&store, nothing).await));
}

fn told_events(write: &enrollpay::store::OrderWrite) -> Vec<Event> {
    write
        .events
        .iter()
        .map(|entry| entry.event.clone())
        .collect()
}

pub async fn a_refund_is_one_number_until_it_is_over(place: &dyn Place) {
    let store = place.open().await;
    let payment = paid(&store, 1).await;
    let asked = tell(&store, &payment, vec![requested(1, "R-1", 5_000)]).await;
    let find = async || store.refund_row(merchant_id(1), "R-1").await.unwrap();
    let row = RefundRow {
        account: AccountId::new(ACCOUNT),
        number: refund_id(1).to_string(),
        id: refund_id(1),
        round: 0,
        order: order_id(1),
        attempt: AttemptNumber::FIRST,
        transaction_id: "420001".to_owned(),
        cause: RefundCause::Merchant,
        merchant: merchant_id(1),
        merchant_refund_no: Some("R-1".to_owned()),
        amount: Fen::new(5_000),
        status: RefundStatus::Pending,
        requested_at: at(1),
        ended_at: None,
    };
    assert_eq!(find().await, Some(row.clone()));
    let of_another = store.refund_row(merchant_id(2), "R-1").await.unwrap();
    assert_eq!(of_another, None);
    // One id is one refund, whatever is told of it again.
    let twin = told(&asked, vec![requested(1, "R-2", 10)]);
    assert!(is_broken(&commit_step(&store, twin).await));
    // What nobody intended cannot become anything.
    let mut unknown = told(&asked, vec![]);
    unknown.events = told(&asked, vec![succeeded(9)]).events;
    assert!(is_broken(&commit_step(&store, unknown).await));

    let refund = refund_id(1);
    let next_at = at(90);
    let on_its_way = vec![Event::RefundAccepted { refund, next_at }];
    let asked = tell(&store, &asked, on_its_way).await;
    assert_eq!(find().await, Some(row.clone()));
    let stuck = vec![Event::RefundAbnormal { refund, next_at }];
    let asked = tell(&store, &asked, stuck).await;
    let abnormal = RefundRow {
        status: RefundStatus::Abnormal,
        ..row.clone()
    };
    assert_eq!(find().await, Some(abnormal.clone()));
    assert_eq!(store.refunds_open(10).await.unwrap(), vec![abnormal]);
    let asked = tell(&store, &asked, vec![succeeded(1)]).await;
    let gone = RefundRow {
        status: RefundStatus::Succeeded,
        ended_at: Some(at(1)),
        ..row
    };
    assert_eq!(find().await, Some(gone.clone()));
    assert_eq!(store.refunds_open(10).await.unwrap(), vec![]);
    // Money that went back has gone.
    assert!(is_broken(
        &commit_step(&store, told(&asked, vec![failed(1)])).await
    ));
    assert_eq!(find().await, Some(gone));
}

pub async fn a_merchants_refund_number_is_taken_once(place: &dyn Place) {
    let store = place.open().await;
    let first = paid(&store, 1).await;
    tell(&store, &first, vec![requested(1, "R-1", 100)]).await;
    let second = paid(&store, 2).await;
    let again = told(&second, vec![requested(2, "R-1", 100)]);
    assert_eq!(
        commit_step(&store, again).await,
        Err(Rejection::MerchantRefundNoTaken {
            existing_order: order_id(1),
            existing: refund_id(1),
        })
    );
    let found = store.order(order_id(2)).await.unwrap().unwrap();
    assert_eq!(found.order, second);
    // Another merchant may call it the same.
    let theirs = order_of(2, 3);
    accept(&store, creation_of(theirs.clone(), snapshot(3))).await;
    let shown = accept(&store, start(&theirs)).await;
    let claimed = accept(&store, claim(&shown, 1)).await;
    let paid = accept(&store, pay(&claimed, "420003")).await;
    tell(&store, &paid, vec![requested(3, "R-1", 100)]).await;
    let row = store.refund_row(merchant_id(2), "R-1").await.unwrap();
    assert_eq!(row.unwrap().order, order_id(3));
}

/// A surplus: one refund of the whole capture, a new number for each round, open until it went back.
pub async fn a_surplus_goes_back_whole_in_rounds(place: &dyn Place) {
    let store = place.open().await;
    let payment = paid(&store, 1).await;
    // Another refund than the capture's own, and less than the whole.
    let mut less = surplus(&payment, "429999", refund_id(1));
    less.order.captures[1].amount = Fen::new(13_999);
    let verdict = commit_step(&store, less).await;
    assert!(is_broken(&verdict), "{verdict:?}");
    let more = accept(&store, surplus(&payment, "429999", refund_id(1))).await;
    let trade = OutTradeNo {
        order: order_id(1),
        attempt: AttemptNumber::FIRST,
    };
    let open = async || {
        let rows = store.refunds_open(10).await.unwrap();
        rows.into_iter()
            .map(|row| (row.number, row.round, row.status, row.amount.get()))
            .collect::<Vec<_>>()
    };
    // The first surplus of its trade.
    let number = format!("{trade}S");
    let pending = RefundStatus::Pending;
    assert_eq!(open().await, [(number.clone(), 0, pending, 14_000)]);
    let refund = refund_id(1);
    let no = tell(&store, &more, vec![Event::SurplusRefundFailed { refund }]).await;
    let failed = RefundStatus::Failed;
    assert_eq!(open().await, [(number.clone(), 0, failed, 14_000)]);
    let next_at = at(30);
    let round = 1;
    let renewed = vec![Event::RefundRenewed {
        refund,
        round,
        next_at,
    }];
    let anew = tell(&store, &no, renewed).await;
    assert_eq!(open().await, [(format!("{number}R1"), 1, pending, 14_000)]);
    tell(&store, &anew, vec![Event::SurplusRefunded { refund }]).await;
    assert_eq!(open().await, []);
}

fn mismatch(transaction_id: &str, amount: i64) -> Mismatch {
    Mismatch {
        attempt: AttemptNumber::FIRST,
        transaction_id: transaction_id.into(),
        amount: Fen::new(amount),
        field: MismatchedField::Amount,
        heard_at: at(4),
        account: Some(AccountId::new(ACCOUNT)),
        currency: Some("CNY".into()),
        standing: MismatchStanding::Waiting,
    }
}

pub fn odd_capture() -> Event {
    let mismatch = mismatch("odd", 70);
    Event::MoneyMismatched { mismatch }
}

fn settled(number: u16, refund: Option<RefundId>) -> Event {
    Event::MismatchSettled {
        mismatch: number,
        by: match refund {
            Some(_) => SettleBy::Refund,
            None => SettleBy::Outside,
        },
        operator: PayerHash(2),
        refund,
        next_at: at(20),
    }
}

pub async fn odd_captures_wait_until_they_are_settled(place: &dyn Place) {
    let store = place.open().await;
    let odd = async |limit| store.odd_captures(limit).await.unwrap();
    let ids = |numbers: &[u32]| numbers.iter().map(|n| order_id(*n)).collect::<Vec<_>>();
    let heard = |transaction: &str, amount| Event::MoneyMismatched {
        mismatch: mismatch(transaction, amount),
    };
    let second = claimed(&store, 2).await;
    let second = tell(&store, &second, vec![heard("a", 1), heard("b", 2)]).await;
    let first = claimed(&store, 1).await;
    let first = tell(&store, &first, vec![heard("c", 3)]).await;
    assert_eq!(odd(10).await, ids(&[1, 2]));
    assert_eq!(odd(1).await, ids(&[1]));

    let proposed = Event::SettlementProposed {
        mismatch: 0,
        by: SettleBy::Outside,
        operator: PayerHash(1),
    };
    let first = tell(&store, &first, vec![proposed]).await;
    assert_eq!(odd(10).await, ids(&[1, 2]));
    tell(&store, &first, vec![settled(0, None)]).await;
    assert_eq!(odd(10).await, ids(&[2]));
    // One goes back, and is settled once it has.
    let refund = refund_id(2);
    let events = vec![settled(0, None), settled(1, Some(refund))];
    let second = tell(&store, &second, events).await;
    assert_eq!(odd(10).await, ids(&[2]));
    let open = store.refunds_open(10).await.unwrap();
    assert_eq!(open.len(), 1);
    let trade = OutTradeNo {
        order: order_id(2),
        attempt: AttemptNumber::FIRST,
    };
    assert_eq!(open[0].number, format!("{trade}M1"));
    assert_eq!(open[0].cause, RefundCause::Mismatch);
    assert_eq!(open[0].amount, Fen::new(2));
    tell(&store, &second, vec![Event::MismatchRefunded { refund }]).await;
    assert_eq!(odd(10).await, ids(&[]));
    assert_eq!(store.refunds_open(10).await.unwrap(), vec![]);
}

/// M9: every event's lines sum to zero, and each book holds what captures and refunds say.
pub async fn the_books_agree_with_what_moved(place: &dyn Place) {
    let store = place.open().await;
    let provider = Book::Provider(AccountId::new(ACCOUNT)).to_string();
    // Paid, and 5,000 of it given back; 1,000 more is on its way.
    let one = paid(&store, 1).await;
    let one = tell(&store, &one, vec![requested(1, "R-1", 5_000)]).await;
    let one = tell(&store, &one, vec![succeeded(1)]).await;
    let one = tell(&store, &one, vec![requested(2, "R-2", 1_000)]).await;
    // Paid twice: one surplus went back, another did not yet.
    let two = paid(&store, 2).await;
    let two = accept(&store, surplus(&two, "b", refund_id(3))).await;
    let two = accept(&store, surplus(&two, "c", refund_id(4))).await;
    let refund = refund_id(3);
    let two = tell(&store, &two, vec![Event::SurplusRefunded { refund }]).await;
    // Three odd ones: back, settled outside, waiting. A fourth is in a currency nobody counts.
    let three = claimed(&store, 3).await;
    let mut events: Vec<Event> = [("d", 10), ("e", 20), ("f", 40)]
        .into_iter()
        .map(|(transaction, amount)| Event::MoneyMismatched {
            mismatch: mismatch(transaction, amount),
        })
        .collect();
    events.push(Event::MoneyMismatched {
        mismatch: Mismatch {
            currency: Some("HKD".into()),
            ..mismatch("g", 80)
        },
    });
    let three = tell(&store, &three, events).await;
    let refund = refund_id(5);
    let events = vec![settled(0, Some(refund)), settled(1, None)];
    let three = tell(&store, &three, events).await;
    tell(&store, &three, vec![Event::MismatchRefunded { refund }]).await;

    let totals: BTreeMap<String, i64> = store
        .ledger_totals()
        .await
        .unwrap()
        .into_iter()
        .map(|(book, amount)| (book, amount.get()))
        .collect();
    let expected = [
        (provider.as_str(), 14_000 * 4 - 5_000 - 14_000 + 70 - 10),
        ("merchant", -14_000 * 2 + 5_000),
        ("surplus", -14_000),
        ("suspense", -40),
        ("outside", -20),
    ];
    let expected = expected.map(|(book, amount)| (book.to_owned(), amount));
    assert_eq!(totals, BTreeMap::from(expected));

    let mut added: BTreeMap<String, i64> = BTreeMap::new();
    for n in 1..=3 {
        let mut events: BTreeMap<(u64, u16), Vec<i64>> = BTreeMap::new();
        let lines = store.ledger(order_id(n)).await.unwrap();
        assert!(lines.is_sorted_by_key(|line| (line.version, line.position, line.line)));
        for line in lines {
            assert_eq!((line.order, line.at), (order_id(n), at(1)));
            *added.entry(line.book).or_default() += line.amount.get();
            let event = events.entry((line.version, line.position)).or_default();
            event.push(line.amount.get());
        }
        for (event, amounts) in events {
            assert_eq!(amounts.len(), 2, "{event:?}");
            assert_eq!(amounts.iter().sum::<i64>(), 0, "{event:?}");
        }
    }
    assert_eq!(added, totals, "the totals are the lines added up");
    // What was rejected moved nothing.
    let again = told(&one, vec![requested(9, "R-1", 1)]);
    assert!(commit_step(&store, again).await.is_err());
    assert!(commit_step(&store, pay(&two, "h")).await.is_err());
    let after: BTreeMap<_, _> = store.ledger_totals().await.unwrap().into_iter().collect();
    assert!(
        after
            .iter()
            .all(|(book, amount)| totals[book] == amount.get())
    );
    let nothing = store.ledger(order_id(9)).await.unwrap();
    assert_eq!(nothing, vec![]);
}

/// The lists for people name orders and amounts that are there.
pub async fn open_refunds_come_oldest_first(place: &dyn Place) {
    let store = place.open().await;
    let mut expected: Vec<(OrderId, RefundStatus)> = Vec::new();
    for n in 1..=3 {
        let order = paid(&store, n).await;
        let seconds = i64::from(10 - n);
        let asked = told_at(&order, vec![requested(n, &n.to_string(), 1)], at(seconds));
        accept(&store, asked).await;
        expected.insert(0, (order.id, RefundStatus::Pending));
    }
    // A merchant's that failed is told to the merchant, not to people here.
    let order = paid(&store, 4).await;
    let asked = tell(&store, &order, vec![requested(4, "4", 1)]).await;
    tell(&store, &asked, vec![failed(4)]).await;
    let open = async |limit| {
        let rows = store.refunds_open(limit).await.unwrap();
        let rows = rows.into_iter().map(|row| (row.order, row.status));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(open(9).await, expected);
    assert_eq!(open(2).await, expected[..2]);
}
