//! Forgetting people: whose, when, and what stays.

use std::sync::Arc;
use std::time::Duration;

use enrollpay::locks::memory::MemoryLocks;
use enrollpay::locks::{Acquired, Locks as _};
use enrollpay::order::event::Attention;
use enrollpay::order::evolve::replay;
use enrollpay::order::{Event, PayerHash};
use enrollpay::retention::erase::{LOCK, Outcome, Sum};
use enrollpay::sealing::Sealed;
use enrollpay::store::bills::Bills as _;
use enrollpay::store::{MaskedPayer, OrderFilter, Rejection, Store as _, Write};
use serde_json::{Value, json};

use super::bench::*;
use crate::store::bills::{bill, bill_id};
use crate::store::sample::*;
use crate::support::merchant::new_order;
use crate::support::student::Alipay;
use crate::support::{World, client, eventually};

fn of_payer(payer_index: u128) -> OrderFilter {
    OrderFilter {
        merchant: merchant_id(1),
        merchant_order_no: None,
        payer_index: Some(payer_index),
        status: None,
        created_after: None,
        before: None,
        limit: 9,
    }
}

/// Two people agree about a notice.
async fn settle(bench: &Bench, reference: &str) {
    for operator in [1, 2] {
        bench
            .write(Write::EvidenceSettled {
                account: account(),
                reference: reference.to_owned(),
                operator: PayerHash(operator),
                at: at(7),
            })
            .await;
    }
}

#[tokio::test]
async fn an_erasure_takes_the_people_and_leaves_the_money() {
    let bench = Bench::new();
    let keys = sealer(&[OLD]);
    let order = bench.furnish(&keys).await;
    let before = bench.store.timeline(order.id).await.unwrap();
    let index = snapshot(1).payer_index;
    assert_eq!(bench.store.orders(&of_payer(index)).await.unwrap().len(), 1);

    let erase = bench.erase();
    assert_eq!(erase.order(order.id, at(1)).await.unwrap(), Outcome::Erased);

    for (name, ..) in slots() {
        assert_eq!(slot(&bench, &name).await, None, "{name}");
    }
    let event = bench
        .store
        .outbox_event(event_id(1))
        .await
        .unwrap()
        .unwrap();
    assert!(event.body.is_erased() && event.body_digest.is_some());
    let key = bench
        .store
        .idempotency(merchant_id(1), "key-1")
        .await
        .unwrap();
    assert!(key.unwrap().answer.unwrap().1.is_erased());
    let notice = bench.store.evidence(&account(), "4200").await.unwrap();
    assert!(notice.unwrap().body.is_erased());
    assert_eq!(bench.store.orders(&of_payer(index)).await.unwrap().len(), 0);

    // The order, what was paid for, and its story are as they were.
    let after = bench.store.order(order.id).await.unwrap().unwrap();
    assert_eq!(after.order, order);
    let mut left = snapshot(1);
    left.payer_masked = MaskedPayer::default();
    left.field_hashes.retain(|(name, _)| name == "amount");
    left.payer_index = after.snapshot.payer_index;
    assert_eq!(after.snapshot, left);
    let timeline = bench.store.timeline(order.id).await.unwrap();
    assert_eq!(timeline, before);
    let commits: Vec<_> = timeline
        .chunk_by(|one, next| one.version == next.version)
        .map(|commit| {
            let events: Vec<_> = commit.iter().map(|entry| entry.event.clone()).collect();
            (commit[0].at, events)
        })
        .collect();
    let told = commits.iter().map(|(at, events)| (*at, events.as_slice()));
    assert_eq!(
        replay(order.id, told).map(|order| order.version),
        Some(order.version)
    );

    let once_more = erase.order(order.id, at(1)).await.unwrap();
    assert_eq!(once_more, Outcome::NothingLeft);
    assert_eq!(
        bench.store.order(order.id).await.unwrap().unwrap().snapshot,
        after.snapshot
    );

    // Whoever gives money back later may name somebody again, who goes like the first.
    let why = Attention::RefundStuck;
    let mut later = step(&order, vec![Event::AttentionRaised { why }], |_| {});
    later.outbox.push(an_event(&keys, &later.order, 2));
    bench.step(later).await;
    bench.delivered(2).await;
    let (name, ..) = slots()[2].clone();
    bench
        .write(Write::Personal {
            order: order.id,
            slot: name.clone(),
            sealed: sealed("a reason"),
        })
        .await;
    let again = erase.order(order.id, at(1)).await.unwrap();
    assert_eq!(again, Outcome::Erased);
    assert_eq!(slot(&bench, &name).await, None);
    let event = bench.store.outbox_event(event_id(2)).await.unwrap();
    assert!(event.unwrap().body.is_erased());
}

#[tokio::test]
async fn what_is_erased_is_not_left_in_the_free_space_of_the_file() {
    let bench = Bench::new();
    bench.furnish(&sealer(&[OLD])).await;
    // More than a page: it lies in pages of its own, which become free.
    let trace = b"sealed under a key that may leak one day ".repeat(500);
    bench
        .write(Write::Personal {
            order: order_id(1),
            slot: "order".to_owned(),
            sealed: Sealed(trace.clone()),
        })
        .await;
    let outcome = bench.erase().order(order_id(1), at(1)).await.unwrap();
    assert_eq!(outcome, Outcome::Erased);
    bench.store.close().await;
    let file = std::fs::read(bench.file()).unwrap();
    let part = &trace[..40];
    assert!(!file.windows(part.len()).any(|found| found == part));
}

#[tokio::test]
async fn the_hashes_of_a_payer_go_and_those_of_the_order_stay() {
    let bench = Bench::new();
    let mut asked = snapshot(1);
    asked.has_display_fields = true;
    asked.field_hashes = ["subject", "payer.ref", "payer.phone", "metadata", "amount"]
        .map(|name| (name.to_owned(), format!("hash of {name}")))
        .into();
    let created = bench.step(creation_of(order(1), asked)).await;
    bench.step(close(&created)).await;
    let erase = bench.erase();
    assert_eq!(
        erase.order(order_id(1), at(1)).await.unwrap(),
        Outcome::Erased
    );
    let left = bench
        .store
        .order(order_id(1))
        .await
        .unwrap()
        .unwrap()
        .snapshot;
    let names: Vec<_> = left
        .field_hashes
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["subject", "amount"]);
    assert!(!left.has_display_fields);
}

#[tokio::test]
async fn an_order_with_something_going_on_is_never_erased() {
    let bench = Bench::new();
    let keys = sealer(&[OLD]);
    let erase = bench.erase();
    let outcome = async |n: u32| erase.order(order_id(n), at(1)).await.unwrap();
    assert_eq!(outcome(9).await, Outcome::NoSuchOrder);

    let open = bench.step(creation(2)).await;
    assert_eq!(outcome(2).await, Outcome::NotOver);
    let shown = bench.step(start(&open)).await;
    assert_eq!(outcome(2).await, Outcome::NotOver);
    drop(shown);

    let paid = bench.paid(1, &keys).await;
    assert_eq!(outcome(1).await, Outcome::EventPending);
    bench.delivered(1).await;
    let odd = bench.step(surplus(&paid, "4299", refund_id(1))).await;
    assert_eq!(outcome(1).await, Outcome::NotAtRest);

    // A refund made past these books waits for people.
    let other = bench.paid(4, &keys).await;
    bench.delivered(4).await;
    bench
        .write(evidence(&keys, "foreign_refund", "R1", Some(other.id), 1))
        .await;
    assert_eq!(outcome(4).await, Outcome::NotAtRest);
    let past_the_job = Write::PeopleErased {
        order: other.id,
        version: other.version,
        payer_index: 1,
        at: at(9),
    };
    let verdict = bench.commit(writes([past_the_job])).await;
    assert_eq!(verdict, Err(Rejection::VersionMoved));
    settle(&bench, "R1").await;
    assert_eq!(outcome(4).await, Outcome::Erased);

    // The last word is the store's: it judged another version.
    let stale = |version| Write::PeopleErased {
        order: odd.id,
        version,
        payer_index: 1,
        at: at(9),
    };
    let verdict = bench.commit(writes([stale(odd.version - 1)])).await;
    assert_eq!(verdict, Err(Rejection::VersionMoved));
    let of_open = Write::PeopleErased {
        order: open.id,
        version: 2,
        payer_index: 1,
        at: at(9),
    };
    let verdict = bench.commit(writes([of_open])).await;
    assert_eq!(verdict, Err(Rejection::VersionMoved));
    let kept = bench.store.order(odd.id).await.unwrap().unwrap();
    assert_eq!(kept.snapshot, snapshot(1));

    // The clock of the last event decides, not that of the creation.
    let closed = bench.step(creation(3)).await;
    bench.step(close(&closed)).await;
    let early = erase.order(order_id(3), at(0)).await.unwrap();
    assert_eq!(early, Outcome::TooRecent);
    assert_eq!(outcome(3).await, Outcome::Erased);
}

#[tokio::test]
async fn the_daily_work_takes_what_is_old_and_no_more_and_nothing_under_anothers_lock() {
    let bench = Bench::new();
    let keys = sealer(&[OLD]);
    bench.furnish(&keys).await;
    let person = |n: u32| Write::Personal {
        order: order_id(n),
        slot: "order".to_owned(),
        sealed: keys.seal(place("personal", "order", &order_id(n).to_string()), b"x"),
    };
    let second = bench.step(creation(2)).await;
    bench.write(person(2)).await;
    // Made after the others, and over at the same time.
    let third = bench.step(creation(5_000)).await;
    bench.step(close(&third)).await;
    bench.write(person(5_000)).await;
    bench
        .write(evidence(&keys, "WAIT_BUYER_PAY", "unknown", None, 1))
        .await;
    bench
        .write(evidence(&keys, "WAIT_BUYER_PAY", "young", None, 50))
        .await;

    let erase = bench.erase();
    let none = erase.older_than(at(1), async || false).await.unwrap();
    assert_eq!(none, Sum::default());
    let sum = erase.older_than(at(4), async || true).await.unwrap();
    assert_eq!(
        sum,
        Sum {
            orders: 1,
            bills: 0,
            evidence: 1,
            kept: 1
        }
    );
    let has = async |n: u32| {
        let found = bench.store.personal(order_id(n), "order").await.unwrap();
        found.is_some()
    };
    assert!(!has(1).await && has(2).await && has(5_000).await);
    let body = async |reference| {
        let found = bench.store.evidence(&account(), reference).await.unwrap();
        found.unwrap().body
    };
    assert!(body("unknown").await.is_erased() && !body("young").await.is_erased());
    // A copy of a notice that comes after the erasure goes at its own age.
    bench
        .write(evidence(
            &keys,
            "WAIT_BUYER_PAY",
            "late",
            Some(order_id(1)),
            2,
        ))
        .await;
    // Money of a number that is nobody's waits for two people, however long.
    bench
        .write(evidence(&keys, "unknown_number", "odd", None, 1))
        .await;
    let again = erase.older_than(at(4), async || true).await.unwrap();
    assert_eq!((again.orders, again.evidence), (0, 1));
    assert!(body("late").await.is_erased() && !body("odd").await.is_erased());
    settle(&bench, "odd").await;
    let settled = erase.older_than(at(4), async || true).await.unwrap();
    assert_eq!((settled.evidence, body("odd").await.is_erased()), (1, true));

    // The job itself: another node has the lock, then gives it back.
    bench.step(close(&second)).await;
    bench.clock.set(at(200 * 86_400));
    let locks = Arc::new(MemoryLocks::new());
    let long = Duration::from_hours(1);
    assert_eq!(locks.acquire(LOCK, 1, long).await, Acquired::Mine);
    let run = async |patience: Duration| {
        let job = bench.erase().daily(180, locks.clone());
        let _ = tokio::time::timeout(patience, job).await;
    };
    run(Duration::from_millis(300)).await;
    assert!(has(2).await && has(5_000).await);
    locks.release(LOCK, 1).await;
    tokio::select! {
        () = run(Duration::from_secs(30)) => panic!("nothing was erased"),
        () = eventually("an erasure", Duration::from_secs(20), async || {
            (!has(2).await && !has(5_000).await).then_some(())
        }) => {}
    }
}

/// A page of the gateway, as a browser gets it.
async fn page(url: &str) -> String {
    let page = client().get(url).send().await.unwrap();
    assert_eq!(page.status(), 200, "{url}");
    page.text().await.unwrap()
}

/// The people of a paid order, end to end.
#[tokio::test]
async fn a_payer_who_asks_is_forgotten_and_the_receipt_stays() {
    const REF: &str = "650102-7788-9900";
    const REASON: &str = "欧阳遗忘同学缺考退费";
    let world = World::start(&[]).await;
    let merchant = &world.merchant;
    let strict = ["merchant", "list"];
    let listed = world.gateway.run(&strict);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let own: Value = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|one| one["name"] == "测试考区")
        .unwrap();
    let merchant_id = own["merchant_id"].as_str().unwrap();
    let person = json!({
        "payer": { "ref": REF, "name": "欧阳遗忘", "id_number": "650102199902309983", "phone": "13900998877" },
        "registrant": { "name": "司马遗忘", "id_number": "650102201212129981", "phone": "13711224466" },
        "receipt_email": "forget.me@example.cn",
        "display_fields": [{ "label": "考区", "value": "乌鲁木齐第九考区" }],
        "metadata": { "note": "记得忘记" },
    });
    let body = new_order(&person);
    let key = format!("create-{}", body["merchant_order_no"].as_str().unwrap());
    let created = merchant.insist("/v1/orders", &body, &key).await;
    let order = created.expect(201);
    let id = order["id"].as_str().unwrap();
    assert_eq!(order["payer"]["id_number"], "6501**********9983");
    let refused = world
        .gateway
        .operate_rows(&["personal", "erase", "--order", id]);
    assert_eq!(refused[0]["outcome"], "not_over");

    let (attempt, mut student) = world.scan(id, Alipay).await;
    student.press_pay().await.expect(200);
    let number = attempt["number"].as_u64().unwrap();
    let trade = crate::support::books::trade_number(id, number);
    world.simulators.pay(&trade).await;
    merchant.until_status(id, "paid").await;
    let told = world.receiver.wait(id, "order.paid").await;
    assert_eq!(told.order["payer"]["ref"], REF);
    let wish = json!({ "merchant_refund_no": "R-1", "amount": 100, "reason": REASON });
    let target = format!("/v1/orders/{id}/refunds");
    merchant
        .insist(&target, &wish, "refund-1")
        .await
        .expect(201);
    let refunded = world.receiver.wait(id, "refund.succeeded").await;

    let by_payer = [
        "personal",
        "erase",
        "--payer-ref",
        REF,
        "--merchant",
        merchant_id,
    ];
    eventually(
        "the end of the delivery",
        Duration::from_secs(20),
        async || {
            let rows = world.gateway.operate_rows(&by_payer);
            assert_eq!(rows[0]["order_id"], id);
            (rows[0]["outcome"] == "erased").then_some(())
        },
    )
    .await;
    assert!(
        world.gateway.operate_rows(&by_payer).is_empty(),
        "found no more"
    );
    let rows = world
        .gateway
        .operate_rows(&["personal", "erase", "--order", id]);
    assert_eq!(rows[0]["outcome"], "nothing_left");

    // The API: the order without the person.
    let left = merchant.order(id).await;
    assert_eq!(
        left["payer"],
        json!({ "ref": null, "name": null, "id_number": null, "phone": null })
    );
    assert_eq!(left["registrant"], Value::Null);
    assert_eq!(left["metadata"], Value::Null);
    for member in [
        "status",
        "amount",
        "items",
        "payment",
        "receipt_url",
        "snapshot_hash",
    ] {
        assert_eq!(left[member], refunded.order[member], "{member}");
    }
    let found = merchant
        .get(&format!("/v1/orders?payer_ref={REF}"))
        .await
        .expect(200);
    assert_eq!(found["data"], json!([]));
    let timeline = merchant
        .get(&format!("/v1/orders/{id}/timeline"))
        .await
        .expect(200);
    assert!(timeline.to_string().contains("order_paid"), "{timeline}");
    // The stored answer is gone; the order itself answers for ever.
    let again = merchant.insist("/v1/orders", &body, &key).await;
    assert_eq!(again.expect(410)["code"], "erased");
    let repeated = merchant.post("/v1/orders", &body).await.expect(200);
    assert_eq!(repeated["id"], id);
    let again = merchant.insist(&target, &wish, "refund-1").await;
    assert_eq!(again.expect(410)["code"], "erased");
    let mut other = body.clone();
    other["subject"] = "another".into();
    let conflict = merchant.post("/v1/orders", &other).await.expect(409);
    assert_eq!(conflict["conflicts"], json!(["subject"]));

    // The pages.
    let receipt = left["receipt_url"].as_str().unwrap();
    let receipt = page(receipt).await;
    let (_, verify) = receipt.split_once("id=\"verify\" href=\"").unwrap();
    let verify = page(verify.split('"').next().unwrap()).await;
    assert!(verify.contains("与凭证一致"), "{verify}");
    let cashier = page(left["cashier_url"].as_str().unwrap()).await;
    assert!(cashier.contains("已完成"), "{cashier}");
    for trace in [
        "欧*",
        "司*",
        "6501**",
        "139****",
        "137****",
        "乌鲁木齐第九考区",
    ] {
        for page in [&receipt, &verify, &cashier] {
            assert!(!page.contains(trace), "{trace} in {page}");
        }
    }

    // The event is not sent again with other bytes, nor at all.
    let resent = world.gateway.run(&["event", "resend", &told.id]);
    assert_eq!(resent.status.code(), Some(1));
    let said = String::from_utf8_lossy(&resent.stderr).into_owned();
    assert!(said.contains("erased"), "{said}");
    let path = format!("/v1/events/{}/resend", told.id);
    let resent = merchant.post(&path, &json!({})).await;
    assert_eq!(resent.expect(410)["code"], "erased");
    let events = merchant.get("/v1/events").await.expect(200);
    assert_eq!(events["data"], json!([]));

    let log = world.gateway.log();
    for trace in ["欧阳遗忘", REF, "13900998877", "forget.me@", "记得忘记"] {
        assert!(!log.contains(trace), "the log tells {trace}");
    }

    let store = world.gateway.store();
    let folder = store.parent().unwrap().to_owned();
    world
        .finish_and(async move || {
            // Not even in the free space of the file.
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if !path.is_file() || path.extension().is_some_and(|end| end == "json") {
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                for trace in [
                    "欧*",
                    "6501**********9983",
                    "139****8877",
                    "司*",
                    "137****4466",
                    "registrant.name",
                    REF,
                    REASON,
                    "13900998877",
                ] {
                    assert!(
                        !bytes
                            .windows(trace.len())
                            .any(|part| part == trace.as_bytes()),
                        "{} holds {trace}",
                        path.display()
                    );
                }
            }
        })
        .await;
}

/// Under the newest key like everything else, and forgotten at their age though nobody ever paid them.
#[tokio::test]
async fn bills_are_sealed_anew_and_lose_their_payers() {
    let bench = Bench::new();
    let old = sealer(&[OLD]);
    let sealed = |n: u32, sealer: &enrollpay::sealing::Sealer| {
        let mut bill = bill(n, 7);
        let row = bill.id.to_string();
        bill.sealed = sealer.seal(place("bills", "sealed", &row), b"somebody");
        bill
    };
    let mut endless = sealed(3, &old);
    endless.pay_before = None;
    let bills = vec![sealed(1, &old), sealed(2, &old), endless];
    bench.write(Write::BillsCreated(bills)).await;
    let both = sealer(&[OLD, NEW]);
    let progress = bench
        .reseal(&both)
        .run(Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((progress.resealed, progress.left), (3, 0));
    let found = async |n: u32| {
        let found = bench.store.bills_by_id(merchant_id(1), &[bill_id(n)]).await;
        found.unwrap().remove(0)
    };
    let first = found(1).await.bill;
    let row = first.id.to_string();
    let opened = sealer(&[NEW]).open(place("bills", "sealed", &row), &first.sealed);
    assert_eq!(opened.unwrap(), b"somebody");

    // Their deadline is at 1,000 s; the one without counts from its making.
    let erase = bench.erase();
    let sum = erase.older_than(at(900), async || true).await.unwrap();
    assert_eq!(
        sum,
        Sum {
            bills: 1,
            ..Sum::default()
        }
    );
    let sum = erase.older_than(at(1_001), async || true).await.unwrap();
    assert_eq!(
        sum,
        Sum {
            bills: 2,
            ..Sum::default()
        }
    );
    for n in [1, 2, 3] {
        assert!(found(n).await.bill.sealed.is_erased());
    }
    let counts = bench.jobs().sealed_counts().await.unwrap();
    assert_eq!(counts, []);
}
