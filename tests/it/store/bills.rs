//! What every store promises about bills.

use std::sync::Arc;

use enrollpay::order::{BillId, Fen, LatePayment, Status, Timestamp};
use enrollpay::sealing::Sealed;
use enrollpay::store::bills::{
    Bill, BillContent, BillFilter, BillRef, BillStatus, PayerLink, StoredBill,
};
use enrollpay::store::{MaskedPayer, OrderWrite, Rejection, Store, Transaction, Write};
use ulid::Ulid;

use super::Place;
use super::sample::*;
use super::suite::{commit, commit_step, commit_write, is_broken};

pub fn bill_id(n: u32) -> BillId {
    let made = START.as_millis().unsigned_abs() + u64::from(n);
    BillId::from_ulid(Ulid::from_parts(made, n.into()))
}

/// The `n`th bill of merchant 1, of the payer with this index.
pub fn bill(n: u32, payer_index: u128) -> Bill {
    let hashes = |name: &str| vec![(name.to_owned(), format!("hash-{n}"))];
    Bill {
        id: bill_id(n),
        merchant: merchant_id(1),
        merchant_bill_no: format!("B-{n}"),
        amount: Fen::new(7_000),
        pay_before: Some(at(1_000)),
        created_at: at(0),
        content: BillContent {
            subject: "学费".to_owned(),
            items: snapshot(n).items,
            late_payment: LatePayment::Accept { grace_ms: 5_000 },
            late_grace_seconds: 5,
            hashes: hashes("subject"),
        },
        payer_masked: MaskedPayer {
            name: Some("测*".to_owned()),
            ..MaskedPayer::default()
        },
        payer_index,
        personal_hashes: hashes("payer.ref"),
        sealed: sealed("somebody"),
    }
}

fn all(payer_index: Option<u128>) -> BillFilter {
    BillFilter {
        merchant: merchant_id(1),
        payer_index,
        status: None,
        merchant_bill_no: None,
        before: None,
        limit: 99,
        now: at(10),
    }
}

async fn listed(store: &Arc<dyn Store>, filter: &BillFilter) -> Vec<BillId> {
    let found = store.bills(filter).await.unwrap();
    found.into_iter().map(|stored| stored.bill.id).collect()
}

async fn found(store: &Arc<dyn Store>, n: u32) -> StoredBill {
    let found = store.bills_by_id(merchant_id(1), &[bill_id(n)]).await;
    found.unwrap().remove(0)
}

async fn status(store: &Arc<dyn Store>, n: u32) -> BillStatus {
    found(store, n).await.status(at(10))
}

/// Order `n`, made of these bills.
fn made_of(n: u32, bills: &[u32]) -> Transaction {
    let mut snapshot = snapshot(n);
    snapshot.bills = bills
        .iter()
        .map(|bill| BillRef {
            id: bill_id(*bill),
            merchant_bill_no: format!("B-{bill}"),
        })
        .collect();
    Transaction {
        order: Some(creation_of(order(n), snapshot)),
        writes: vec![Write::BillsClaimed {
            merchant: merchant_id(1),
            order: order_id(n),
            bills: bills.iter().copied().map(bill_id).collect(),
        }],
    }
}

async fn uploaded(place: &dyn Place, bills: u32) -> Arc<dyn Store> {
    let store = place.open().await;
    let bills = (1..=bills).map(|n| bill(n, 7)).collect();
    assert_eq!(
        commit_write(&store, Write::BillsCreated(bills)).await,
        Ok(())
    );
    store
}

pub async fn bills_come_back_as_they_were(place: &dyn Place) {
    let store = uploaded(place, 3).await;
    let mut others = bill(4, 8);
    "other".clone_into(&mut others.merchant_bill_no);
    let kept = commit_write(&store, Write::BillsCreated(vec![others.clone()])).await;
    assert_eq!(kept, Ok(()));
    let stored = found(&store, 4).await;
    assert_eq!(
        (stored.bill, stored.cancelled_at, stored.order),
        (others, None, None)
    );
    let numbers = ["B-2".to_owned(), "other".to_owned(), "nobody's".to_owned()];
    let known = store.bills_by_number(merchant_id(1), &numbers).await;
    assert_eq!(known.unwrap().len(), 2);
    let of_another = store.bills_by_number(merchant_id(2), &numbers).await;
    assert!(of_another.unwrap().is_empty());

    let ids = |numbers: &[u32]| numbers.iter().copied().map(bill_id).collect::<Vec<_>>();
    assert_eq!(listed(&store, &all(None)).await, ids(&[4, 3, 2, 1]));
    assert_eq!(listed(&store, &all(Some(7))).await, ids(&[3, 2, 1]));
    let page = BillFilter {
        before: Some(bill_id(3)),
        limit: 1,
        ..all(Some(7))
    };
    assert_eq!(listed(&store, &page).await, ids(&[2]));
    let by_number = BillFilter {
        merchant_bill_no: Some("B-1".to_owned()),
        ..all(None)
    };
    assert_eq!(listed(&store, &by_number).await, ids(&[1]));
}

pub async fn an_upload_is_kept_whole_or_not_at_all(place: &dyn Place) {
    let store = uploaded(place, 2).await;
    let mut again = bill(9, 7);
    "B-2".clone_into(&mut again.merchant_bill_no);
    let upload = Write::BillsCreated(vec![bill(3, 7), again]);
    let taken = Err(Rejection::MerchantBillNoTaken {
        existing: bill_id(2),
    });
    assert_eq!(commit_write(&store, upload).await, taken);
    assert_eq!(listed(&store, &all(None)).await.len(), 2);
}

pub async fn a_bill_is_in_one_open_order(place: &dyn Place) {
    let store = uploaded(place, 3).await;
    assert_eq!(status(&store, 1).await, BillStatus::Unpaid);
    assert_eq!(commit(&store, made_of(1, &[1, 2])).await, Ok(()));
    assert_eq!(status(&store, 1).await, BillStatus::Paying);
    // One of them is in an order: the whole order falls, and the other stays free.
    let taken = Err(Rejection::BillTaken { bill: bill_id(2) });
    assert_eq!(commit(&store, made_of(2, &[3, 2])).await, taken);
    assert!(store.order(order_id(2)).await.unwrap().is_none());
    assert_eq!(status(&store, 3).await, BillStatus::Unpaid);
    // Nor is there a bill that nobody uploaded, or of another merchant.
    let nobodys = Err(Rejection::BillTaken { bill: bill_id(99) });
    assert_eq!(commit(&store, made_of(2, &[3, 99])).await, nobodys);

    // Closed, it gives them back.
    assert_eq!(commit_step(&store, close(&order(1))).await, Ok(()));
    assert_eq!(status(&store, 1).await, BillStatus::Unpaid);
    assert_eq!(commit(&store, made_of(3, &[2, 1])).await, Ok(()));
    let holder = found(&store, 1).await.holder().unwrap().id;
    assert_eq!(holder, order_id(3));

    // Paid, it keeps them for good, and tells what paid them.
    let mut last = order(3);
    for step in [
        start,
        |o: &_| claim(o, 1),
        |o: &_| pay(o, "4200"),
        |o: &_| surplus(o, "4201", refund_id(1)),
    ] {
        let step: OrderWrite = step(&last);
        last = step.order.clone();
        assert_eq!(commit_step(&store, step).await, Ok(()));
    }
    let stored = found(&store, 1).await;
    assert_eq!(stored.status(at(9_999)), BillStatus::Paid);
    let paid = stored.order.unwrap();
    assert_eq!((paid.id, paid.status), (order_id(3), Status::Paid));
    let payment = paid.payment.unwrap();
    assert_eq!((&*payment.transaction_id, payment.paid_at), ("4200", at(3)));
    let taken = Err(Rejection::BillTaken { bill: bill_id(1) });
    assert_eq!(commit(&store, made_of(4, &[1])).await, taken);
}

pub async fn of_two_orders_one_gets_the_bill(place: &dyn Place) {
    let store = uploaded(place, 2).await;
    let races: Vec<_> = (1..=20)
        .map(|n| {
            let store = Arc::clone(&store);
            let bills: &[u32] = if n % 2 == 0 { &[1, 2] } else { &[2, 1] };
            tokio::spawn(async move { (n, commit(&store, made_of(n, bills)).await) })
        })
        .collect();
    let mut won = Vec::new();
    for race in races {
        match race.await.unwrap() {
            (n, Ok(())) => won.push(n),
            (_, Err(Rejection::BillTaken { .. })) => {}
            (n, verdict) => panic!("{n}: {verdict:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    for bill in [1, 2] {
        let holder = found(&store, bill).await.holder().unwrap().id;
        assert_eq!(holder, order_id(won[0]));
    }
    // As one group, too.
    let bills = Write::BillsCreated(vec![bill(5, 7), bill(6, 7)]);
    assert_eq!(commit_write(&store, bills).await, Ok(()));
    let group = vec![
        made_of(31, &[5]),
        made_of(32, &[5]),
        made_of(33, &[6, 5]),
        made_of(34, &[6]),
    ];
    let taken = Err(Rejection::BillTaken { bill: bill_id(5) });
    let verdicts = store.commit(group).await.unwrap();
    assert_eq!(verdicts, [Ok(()), taken.clone(), taken, Ok(())]);
    let twice = commit(&store, made_of(35, &[1, 1])).await;
    assert!(twice.is_err());
}

pub async fn a_cancelled_bill_is_paid_by_nobody(place: &dyn Place) {
    let store = uploaded(place, 2).await;
    let cancel = |n, seconds| Write::BillCancelled {
        merchant: merchant_id(1),
        bill: bill_id(n),
        at: at(seconds),
    };
    assert_eq!(commit(&store, made_of(1, &[1])).await, Ok(()));
    let taken = |n| Err(Rejection::BillTaken { bill: bill_id(n) });
    assert_eq!(commit_write(&store, cancel(1, 5)).await, taken(1));
    assert_eq!(commit_write(&store, cancel(9, 5)).await, taken(9));
    assert_eq!(commit_step(&store, close(&order(1))).await, Ok(()));
    for seconds in [5, 6] {
        assert_eq!(commit_write(&store, cancel(1, seconds)).await, Ok(()));
    }
    assert_eq!(found(&store, 1).await.cancelled_at, Some(at(5)));
    assert_eq!(commit(&store, made_of(2, &[1])).await, taken(1));
    assert_eq!(commit(&store, made_of(2, &[2])).await, Ok(()));
}

pub async fn bills_are_listed_by_how_they_stand(place: &dyn Place) {
    let store = uploaded(place, 5).await;
    commit(&store, made_of(1, &[1])).await.unwrap();
    commit(&store, made_of(2, &[2])).await.unwrap();
    let mut paying = order(2);
    for step in [start, |o: &_| claim(o, 1), |o: &_| pay(o, "4200")] {
        let step: OrderWrite = step(&paying);
        paying = step.order.clone();
        commit_step(&store, step).await.unwrap();
    }
    let cancelled = Write::BillCancelled {
        merchant: merchant_id(1),
        bill: bill_id(3),
        at: at(5),
    };
    commit_write(&store, cancelled).await.unwrap();
    commit(&store, made_of(4, &[4])).await.unwrap();
    commit_step(&store, close(&order(4))).await.unwrap();
    let stand = async |status, now: Timestamp| {
        let filter = BillFilter {
            status: Some(status),
            now,
            ..all(Some(7))
        };
        let found = store.bills(&filter).await.unwrap();
        assert!(found.iter().all(|stored| stored.status(now) == status));
        found
            .iter()
            .map(|stored| stored.bill.merchant_bill_no.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(stand(BillStatus::Unpaid, at(10)).await, ["B-5", "B-4"]);
    assert_eq!(stand(BillStatus::Paying, at(10)).await, ["B-1"]);
    assert_eq!(stand(BillStatus::Paid, at(10)).await, ["B-2"]);
    assert_eq!(stand(BillStatus::Closed, at(10)).await, ["B-3"]);
    let after = at(1_000);
    assert_eq!(stand(BillStatus::Unpaid, after).await, Vec::<String>::new());
    assert_eq!(
        stand(BillStatus::Closed, after).await,
        ["B-5", "B-4", "B-3"]
    );
    assert_eq!(stand(BillStatus::Paying, after).await, ["B-1"]);
}

pub async fn a_payers_link_ends_and_is_forgotten(place: &dyn Place) {
    let store = place.open().await;
    let link = PayerLink {
        hash: hash(1),
        merchant: merchant_id(1),
        payer_index: 7,
        payer_masked: bill(1, 7).payer_masked,
        return_url: Some("https://school.example/".to_owned()),
        created_at: at(0),
        expires_at: at(60),
    };
    let kept = commit_write(&store, Write::PayerLink(link.clone())).await;
    assert_eq!(kept, Ok(()));
    let twice = commit_write(&store, Write::PayerLink(link.clone())).await;
    assert!(is_broken(&twice));
    assert_eq!(store.payer_link(hash(1)).await.unwrap(), Some(link.clone()));
    assert_eq!(store.payer_link(hash(2)).await.unwrap(), None);
    store.forget(at(0), at(60)).await.unwrap();
    assert_eq!(store.payer_link(hash(1)).await.unwrap(), Some(link));
    assert_eq!(store.forget(at(0), at(61)).await.unwrap(), 1);
    assert_eq!(store.payer_link(hash(1)).await.unwrap(), None);
}

pub async fn a_bill_loses_its_payer_once(place: &dyn Place) {
    let store = uploaded(place, 3).await;
    let mut endless = bill(4, 7);
    endless.pay_before = None;
    let created = Write::BillsCreated(vec![endless]);
    commit_write(&store, created).await.unwrap();
    commit(&store, made_of(1, &[1])).await.unwrap();
    commit(&store, made_of(2, &[2])).await.unwrap();
    let with_people = async |before| store.bills_with_people(None, before, 9).await.unwrap();
    // Those without a deadline count from their making; those of an open order wait.
    assert_eq!(with_people(at(1)).await, [bill_id(4)]);
    assert_eq!(with_people(at(1_001)).await, [bill_id(3), bill_id(4)]);

    let erase = |n, index| Write::BillErased {
        bill: bill_id(n),
        payer_index: index,
        at: at(2_000),
    };
    let taken = |n| Err(Rejection::BillTaken { bill: bill_id(n) });
    assert_eq!(commit_write(&store, erase(1, 1)).await, taken(1));
    for n in [3, 4] {
        assert_eq!(commit_write(&store, erase(n, n.into())).await, Ok(()));
        assert_eq!(commit_write(&store, erase(n, 9)).await, taken(n));
        let stored = found(&store, n).await;
        assert_eq!(stored.bill.payer_index, u128::from(n));
        assert_eq!(stored.bill.sealed, Sealed(Vec::new()));
        assert_eq!(stored.bill.payer_masked, MaskedPayer::default());
        assert!(stored.bill.personal_hashes.is_empty());
        assert_eq!(stored.status(at(2_001)), BillStatus::Closed);
        assert_eq!(commit(&store, made_of(9, &[n])).await, taken(n));
    }
    assert_eq!(with_people(at(9_999)).await, Vec::new());

    // What an order paid is forgotten with it; what it closed over is not.
    let mut paid = order(1);
    for step in [start, |o: &_| claim(o, 1), |o: &_| pay(o, "4200")] {
        let step: OrderWrite = step(&paid);
        paid = step.order.clone();
        commit_step(&store, step).await.unwrap();
    }
    let closed = close(&order(2));
    commit_step(&store, closed.clone()).await.unwrap();
    for order in [paid, closed.order] {
        let erased = Write::PeopleErased {
            order: order.id,
            version: order.version,
            payer_index: 77,
            at: at(3_000),
        };
        assert_eq!(commit_write(&store, erased).await, Ok(()));
    }
    assert!(found(&store, 1).await.bill.sealed.is_erased());
    assert_eq!(found(&store, 1).await.bill.payer_index, 77);
    assert!(!found(&store, 2).await.bill.sealed.is_erased());
}
