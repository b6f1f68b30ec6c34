//! What operators do about money and events that do not come to their end, and what is written down
//! of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use enrollpay::operations::{
    Destination, Hidden, OddCapture, Operation, OperationError, Operations, Operator, Released,
};
use enrollpay::order::{
    AccountId, EventId, Fen, OrderId, RefundAnswer, RefundId, RefundStanding, SettleBy,
};
use enrollpay::provider::RefundDestination;
use enrollpay::retention::erase::Erase;
use enrollpay::retention::reseal::Reseal;
use enrollpay::sealing::Place;
use enrollpay::store::{
    DeliveryState, EvidenceRow, EvidenceStanding, Transaction, Write, verify_audit,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{asked, refund_id};
use crate::api::gateway::Gateway;
use crate::support::World;
use crate::support::student::Alipay;

impl Gateway {
    pub fn operations(&self) -> Operations {
        Operations {
            store: self.store.clone(),
            orders: Some(self.deps.orders.clone()),
            reconciler: None,
            reseal: Arc::new(Reseal::new(self.store.clone(), self.deps.sealer.clone())),
            erase: Erase::new(
                self.store.clone(),
                self.deps.clock.clone(),
                self.deps.random.clone(),
            ),
            sealer: self.deps.sealer.clone(),
            clock: self.deps.clock.clone(),
            random: self.deps.random.clone(),
            accounts: Vec::new(),
            check_webhook_url: Arc::new(|_| Box::pin(async { Ok(()) })),
            zone_minutes: 480,
        }
    }

    pub(super) async fn operate(
        &self,
        by: &str,
        operation: Operation,
    ) -> Result<Value, OperationError> {
        let by = Operator::of(1_000, Some(by)).unwrap();
        self.operations().run(&by, operation).await
    }

    /// Operator, action, target and outcome of everything that was written down; its chain holds.
    async fn log(&self) -> Vec<[String; 4]> {
        let entries = self.store.audit(0, 100).await.unwrap();
        let (count, _) = verify_audit(&*self.store).await.unwrap();
        assert_eq!(count, entries.len() as u64);
        entries
            .into_iter()
            .map(|entry| [entry.operator, entry.action, entry.target, entry.outcome])
            .collect()
    }

    /// An order whose provider told of a fen too little.
    async fn odd(&self) -> OrderId {
        let order = self.order("A-1").await;
        let path = format!("/v1/orders/{order}/attempts");
        assert_eq!(self.post(&path, &Value::Null).await.status, 201);
        let attempt = self.scan(order).await;
        self.capture_of(order, attempt, "4200001", 13_999).await;
        order
    }
}

fn settle(order: OrderId, by: SettleBy) -> Operation {
    Operation::CaptureSettle {
        odd: OddCapture::Order {
            order: order.to_string(),
            mismatch: 0,
        },
        by,
    }
}

fn said(answer: Result<Value, OperationError>) -> String {
    answer.unwrap_err().to_string()
}

#[actix_web::test]
async fn two_people_give_odd_money_back() {
    let gateway = Gateway::start().await;
    let order = gateway.odd().await;
    let listed = gateway.operate("li", Operation::CaptureList).await.unwrap();
    assert_eq!(
        listed,
        json!([{
            "order_id": order,
            "mismatch": 0,
            "merchant_id": gateway.school.merchant,
            "account": "school-wechat",
            "reference": "4200001",
            "reason": "amount",
            "amount": 13_999,
            "currency": "CNY",
            "seen_at": "2026-11-20T18:00:00+08:00",
            "standing": "waiting",
            "by": null,
            "refund_id": null,
            "refund_status": null,
        }])
    );
    let proposed = gateway
        .operate("li", settle(order, SettleBy::Refund))
        .await
        .unwrap();
    assert_eq!(
        (&proposed["standing"], &proposed["by"]),
        (&json!("proposed"), &json!("refund"))
    );
    for same in ["li", "LI"] {
        let again = gateway.operate(same, settle(order, SettleBy::Refund)).await;
        assert!(said(again).contains("the same person"));
    }
    let otherwise = gateway
        .operate("wang", settle(order, SettleBy::Outside))
        .await;
    assert!(said(otherwise).contains("proposed otherwise"));
    assert!(gateway.wechat.refunds.lock().unwrap().is_empty());

    let agreed = gateway
        .operate("wang", settle(order, SettleBy::Refund))
        .await
        .unwrap();
    assert_eq!(agreed["standing"], "going_back");
    let id: RefundId = agreed["refund_id"].as_str().unwrap().parse().unwrap();
    gateway.until_refund(order, id, "succeeded").await;
    let sent = gateway.wechat.refunds.lock().unwrap().clone();
    assert_eq!((sent.len(), sent[0].amount), (1, Fen::new(13_999)));
    let settled = gateway
        .operate("chen", settle(order, SettleBy::Refund))
        .await;
    assert!(said(settled).contains("settled"));
    let none = gateway.operate("li", Operation::CaptureList).await.unwrap();
    assert_eq!(none, json!([]));
    let read = gateway.read(order).await;
    assert_eq!(
        (&read["amount_paid"], &read["status"]),
        (&json!(0), &json!("paying"))
    );

    let timeline = gateway.get(&format!("/v1/orders/{order}/timeline")).await;
    let lines = timeline.body["data"].as_array().unwrap();
    let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).unwrap();
    for kind in ["settlement_proposed", "mismatch_settled"] {
        let line = of(kind);
        assert_eq!(line["actor"], "operator", "{kind}");
        // The same number leads to the line of the log.
        let number = line["request_id"].as_str().unwrap();
        let log = gateway.log().await;
        assert!(number.starts_with("op_"));
        assert!(log.iter().any(|[.., outcome]| outcome.ends_with(number)));
    }
    assert_eq!(of("mismatch_refunded")["actor"], "provider");

    let log = gateway.log().await;
    let by: Vec<_> = log.iter().map(|[operator, ..]| operator.as_str()).collect();
    assert_eq!(
        by,
        [
            "1000:li",
            "1000:li",
            "1000:LI",
            "1000:wang",
            "1000:wang",
            "1000:chen"
        ]
    );
    assert!(
        log.iter()
            .all(|[_, _, target, _]| *target == format!("{order} 0"))
    );
    assert_eq!(log[1][3], "nothing had to change");
    assert!(log[4][3].starts_with("done, op_"));
    gateway.stop().await;
}

#[actix_web::test]
async fn what_fits_no_order_is_settled_outside_by_two() {
    let gateway = Gateway::start().await;
    let account = AccountId::new("school-wechat");
    let evidence = |reference: &str, reason: &str| {
        let row = format!("{account}/{reference}");
        let place = Place {
            table: "evidence",
            column: "body",
            row: &row,
        };
        Write::Evidence(EvidenceRow {
            account: account.clone(),
            reference: reference.to_owned(),
            reason: reason.to_owned(),
            body: gateway.deps.sealer.seal(place, b"{}"),
            order: None,
            first_seen: gateway.deps.clock.now(),
            standing: EvidenceStanding::Open,
        })
    };
    let transaction = Transaction {
        order: None,
        writes: vec![
            evidence("4200009", "unknown_number"),
            evidence("4200010", "noted: an event that is not for us"),
        ],
    };
    gateway.store.commit(vec![transaction]).await.unwrap()[0]
        .clone()
        .unwrap();
    let listed = gateway.operate("li", Operation::CaptureList).await.unwrap();
    assert_eq!(
        listed.as_array().unwrap().len(),
        1,
        "only what asks for somebody"
    );
    assert_eq!(
        (&listed[0]["reference"], &listed[0]["standing"]),
        (&json!("4200009"), &json!("waiting"))
    );
    let settle = |reference: &str, by| Operation::CaptureSettle {
        odd: OddCapture::Evidence {
            account: "school-wechat".to_owned(),
            reference: reference.to_owned(),
        },
        by,
    };
    let outside = || settle("4200009", SettleBy::Outside);
    let back = gateway
        .operate("li", settle("4200009", SettleBy::Refund))
        .await;
    assert!(said(back).contains("outside"));
    let unknown = gateway.operate("li", settle("1", SettleBy::Outside)).await;
    assert!(said(unknown).contains("no evidence school-wechat/1"));
    let first = gateway.operate("li", outside()).await.unwrap();
    assert_eq!(first["standing"], "proposed");
    assert!(said(gateway.operate("li", outside()).await).contains("the same person"));
    let second = gateway.operate("wang", outside()).await.unwrap();
    assert_eq!(second["standing"], "settled");
    assert!(said(gateway.operate("chen", outside()).await).contains("is settled"));
    let none = gateway.operate("li", Operation::CaptureList).await.unwrap();
    assert_eq!(none, json!([]));
    assert_eq!(gateway.log().await.len(), 4);
    gateway.stop().await;
}

#[actix_web::test]
async fn an_abnormal_refund_is_sent_to_a_card_that_no_file_shows() {
    const ACCOUNT: &str = "6222020200112233445";
    const NAME: &str = "欧阳测试";
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Abnormal;
    let id = refund_id(&gateway.refund(order, &asked("R-1", 14_000)).await);
    gateway.until_refund(order, id, "abnormal").await;
    let row = &gateway.operate("li", Operation::RefundList).await.unwrap()[0];
    assert_eq!(
        (&row["refund_id"], &row["order_id"], &row["status"]),
        (&json!(id), &json!(order), &json!("abnormal"))
    );
    let repair = |bank_type: &str, account: &str| Operation::RefundRepair {
        order: order.to_string(),
        refund: id.to_string(),
        to: Destination::PayerCard {
            bank_type: bank_type.to_owned(),
            bank_account: Hidden(account.to_owned()),
            real_name: Hidden(NAME.to_owned()),
        },
    };
    for (bank_type, account, key) in [
        ("icbc", ACCOUNT, "--bank-type"),
        ("ICBC_DEBIT", "6222x", "--bank-account-file"),
    ] {
        let refused = said(gateway.operate("li", repair(bank_type, account)).await);
        assert!(
            refused.starts_with(key) && !refused.contains("6222"),
            "{refused}"
        );
    }
    assert!(!format!("{:?}", repair("ICBC_DEBIT", ACCOUNT)).contains(ACCOUNT));
    let sent = gateway.operate("li", repair("ICBC_DEBIT", ACCOUNT)).await;
    assert_eq!(sent.unwrap()["order_id"], json!(order));
    gateway.until_refund(order, id, "succeeded").await;
    let destinations = gateway.wechat.destinations.lock().unwrap().clone();
    let RefundDestination::PayerCard {
        bank_type,
        bank_account,
        real_name,
    } = &destinations[0]
    else {
        panic!("expected the payer's card");
    };
    assert_eq!(
        (
            bank_type.as_str(),
            bank_account.expose_secret(),
            real_name.expose_secret()
        ),
        ("ICBC_DEBIT", ACCOUNT, NAME)
    );
    let stored = gateway.stored_bytes();
    for text in [ACCOUNT, NAME] {
        let found = stored
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(!found, "{text}");
    }
    let over = gateway.operate("li", repair("ICBC_DEBIT", ACCOUNT)).await;
    assert!(said(over).contains("over"));
    let log = gateway.log().await;
    assert_eq!(log.len(), 2);
    assert_eq!(log[0][1], "refund repair --to payer-card");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_surplus_that_was_refused_begins_anew() {
    let gateway = Gateway::start().await;
    let order = gateway.order("A-1").await;
    let path = format!("/v1/orders/{order}/attempts");
    assert_eq!(gateway.post(&path, &Value::Null).await.status, 201);
    let attempt = gateway.scan(order).await;
    gateway.capture(order, attempt, "4200001").await;
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Failed;
    gateway.capture(order, attempt, "4200002").await;
    gateway
        .until(order, |order| {
            order
                .every_refund()
                .any(|refund| matches!(refund.standing, RefundStanding::Failed { .. }))
        })
        .await;
    let row = gateway.operate("li", Operation::RefundList).await.unwrap()[0].clone();
    assert_eq!(
        (&row["cause"], &row["status"], &row["round"]),
        (&json!("surplus"), &json!("failed"), &json!(0))
    );
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Succeeded;
    let retry = |refund: &str| Operation::RefundRetry {
        order: order.to_string(),
        refund: refund.to_owned(),
    };
    let id = row["refund_id"].as_str().unwrap();
    let again = gateway.operate("li", retry(id)).await.unwrap();
    assert_eq!(
        again["number"],
        format!("{}R1", row["number"].as_str().unwrap())
    );
    gateway
        .until_refund(order, id.parse().unwrap(), "succeeded")
        .await;
    let none = gateway.operate("li", Operation::RefundList).await.unwrap();
    assert_eq!(none, json!([]));
    for (refund, why) in [
        (id, "over"),
        ("rfd_00000000000000000000000001", "no such refund"),
        ("nonsense", "no refund nonsense"),
    ] {
        let refused = said(gateway.operate("li", retry(refund)).await);
        assert!(refused.contains(why), "{refused}");
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn parked_events_are_released_one_or_all() {
    let gateway = Gateway::start().await;
    let mut events: Vec<EventId> = Vec::new();
    for number in 0..4 {
        let (order, _) = gateway.closed(&format!("A-{number}")).await;
        events.push(gateway.event(order).await.id);
    }
    for event in &events[..3] {
        gateway.deliver(*event, DeliveryState::Parked).await;
    }
    gateway.deliver(events[3], DeliveryState::Delivered).await;
    let parked = async || {
        let list = gateway.operate("li", Operation::EventList { all: false });
        list.await.unwrap().as_array().unwrap().len()
    };
    let release = |released| Operation::EventRelease { released };
    assert_eq!(parked().await, 3);
    let one = Released::Event(events[0].to_string());
    let answer = gateway.operate("li", release(one)).await.unwrap();
    assert_eq!(answer["state"], "pending");
    assert_eq!(parked().await, 2);
    let delivered = Released::Event(events[3].to_string());
    let refused = gateway.operate("li", release(delivered)).await;
    assert!(said(refused).contains("not parked"));
    let all = Released::Merchant(gateway.school.merchant.to_string());
    let answer = gateway.operate("li", release(all)).await.unwrap();
    assert_eq!(answer["released"], 2);
    assert_eq!(parked().await, 0);
    let event = gateway.store.outbox_event(events[3]).await.unwrap();
    assert_eq!(event.unwrap().state, DeliveryState::Delivered);
    let log = gateway.log().await;
    let outcomes: Vec<_> = log.iter().map(|[.., outcome]| outcome.as_str()).collect();
    assert_eq!(outcomes, ["done", "done, 2 events"]);
    gateway.stop().await;
}

#[actix_web::test]
async fn the_ledger_is_read_whole_or_by_order_and_nothing_is_written_down() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    gateway.paid("A-2").await;
    let id = refund_id(&gateway.refund(order, &asked("R-1", 4_000)).await);
    gateway.until_refund(order, id, "succeeded").await;
    let read = async |order: Option<String>| {
        let rows = gateway.operate("li", Operation::Ledger { order }).await;
        rows.unwrap().as_array().unwrap().clone()
    };
    let totals = read(None).await;
    let of = |book: &str| {
        let row = totals.iter().find(|row| row["book"] == book);
        row.unwrap()["amount"].as_i64().unwrap()
    };
    assert_eq!(of("provider:school-wechat"), 24_000);
    assert_eq!(of("merchant"), -24_000);
    let lines = read(Some(order.to_string())).await;
    assert_eq!(lines.len(), 4);
    let sum: i64 = lines
        .iter()
        .map(|line| line["amount"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, 0);
    assert!(gateway.log().await.is_empty());
    gateway.stop().await;
}

#[actix_web::test]
async fn without_a_node_orders_are_left_alone() {
    let gateway = Gateway::start().await;
    let order = gateway.odd().await;
    let mut operations = gateway.operations();
    operations.orders = None;
    let by = Operator::of(0, Some("li")).unwrap();
    let refused = operations
        .run(&by, settle(order, SettleBy::Outside))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("enrollpay serve"), "{refused}");
    assert!(gateway.log().await.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn over_the_socket_two_operators_settle_what_the_real_binary_kept() {
    let world = World::start(&[]).await;
    let asked = world.ask(Alipay).await;
    let (_, believed) = world.simulators.forge(&asked.trade, "wrong_amount").await;
    assert!(believed);
    world.receiver.wait(&asked.order, "order.attention").await;
    let settle = |operator: &'static str| {
        [
            "capture",
            "settle",
            "--order",
            &asked.order,
            "--mismatch",
            "0",
            "--by",
            "outside",
            "--operator",
            operator,
        ]
    };
    let listed = world.gateway.operate(&["capture", "list"]);
    assert_eq!(listed["standing"], "waiting");
    let first = world.gateway.operate(&settle("li.wei"));
    assert_eq!(first["standing"], "proposed");
    let same = world.gateway.run(&settle("li.wei"));
    assert_eq!(same.status.code(), Some(1));
    let why = String::from_utf8_lossy(&same.stderr).into_owned();
    assert!(why.contains("the same person"), "{why}");
    let second = world.gateway.operate(&settle("zhang.san"));
    assert_eq!(
        (&second["standing"], &second["by"]),
        (&json!("settled"), &json!("outside"))
    );
    let timeline = world
        .merchant
        .get(&format!("/v1/orders/{}/timeline", asked.order))
        .await
        .expect(200);
    let lines = timeline["data"].as_array().unwrap();
    let by_operators = lines.iter().filter(|line| line["actor"] == "operator");
    assert_eq!(by_operators.count(), 2);

    for reading in [
        &["capture", "list"][..],
        &["refund", "list"],
        &["event", "list"],
    ] {
        let output = world.gateway.run(reading);
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{reading:?}"
        );
    }
    let blank = world.gateway.run(&settle("li wei"));
    assert_eq!(blank.status.code(), Some(1));
    // Whoever types something else is told how it goes.
    for wrong in [
        &["capture", "settle", "--by", "outside"][..],
        &["event", "release"],
        &["refund", "repair", "o", "r", "--to", "payer-card"],
    ] {
        assert_eq!(world.gateway.run(wrong).status.code(), Some(2), "{wrong:?}");
    }

    world.simulators.pay(&asked.trade).await;
    world.merchant.until_status(&asked.order, "paid").await;
    let body = json!({ "merchant_refund_no": "R-1", "amount": 14_000 });
    let path = format!("/v1/orders/{}/refunds", asked.order);
    let made = world.merchant.post(&path, &body).await.expect(201);
    world
        .merchant
        .until(&asked.order, "given back", |order| {
            order["refund_status"] == "full"
        })
        .await;
    let told = world.receiver.wait(&asked.order, "refund.succeeded").await;
    assert_eq!(told.order["refunds"][0]["id"], made["id"]);
    world.rest().await;

    // The store alone is enough to read, and no more.
    assert_eq!(world.gateway.terminate().await.code(), Some(0));
    let refund = made["id"].as_str().unwrap();
    let retry = world
        .gateway
        .run(&["refund", "retry", &asked.order, refund]);
    assert_eq!(retry.status.code(), Some(1));
    let why = String::from_utf8_lossy(&retry.stderr).into_owned();
    assert!(why.contains("enrollpay serve"), "{why}");
    let ledger = world.gateway.run(&["ledger", "--order", &asked.order]);
    // Odd, settled outside, told again as it is: taken back and captured, given back.
    let mut books = BTreeMap::<String, i64>::new();
    for line in String::from_utf8_lossy(&ledger.stdout).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let book = line["book"].as_str().unwrap().to_owned();
        *books.entry(book).or_default() += line["amount"].as_i64().unwrap();
    }
    assert!(books.contains_key("suspense") && books.contains_key("merchant"));
    assert!(books.values().all(|sum| *sum == 0), "{books:?}");
    world.check().await;
}
