//! What a merchant sees of it, and what it does not.

use enrollpay::provider::bill::TradeLine;
use enrollpay::provider::{Bill, BillKind};
use enrollpay::store::reconciliation::RunBy;
use serde_json::{Value, json};

use super::bench::{Bench, TODAY, alipay, give, payment};
use crate::api::gateway::{START, new_order};

const PATH: &str = "/v1/reconciliations/school-wechat/2026-11-20";

/// Two orders of the school, one of another merchant on the same account, and a line of nobody.
async fn day() -> Bench {
    let bench = Bench::start().await;
    let mut lines = Vec::new();
    for n in 1..=2 {
        let (trade, transaction) = bench.paid(&format!("A-{n}")).await;
        lines.push(payment(n, &trade.to_string(), &transaction, START));
    }
    let gateway = &bench.gateway;
    let body = new_order("B-1");
    let other = gateway
        .call_as(&gateway.other, "POST", "/v1/orders", &body, &[])
        .await;
    let other: enrollpay::order::OrderId = other.body["id"].as_str().unwrap().parse().unwrap();
    let path = format!("/v1/orders/{other}/attempts");
    let started = gateway
        .call_as(&gateway.other, "POST", &path, &Value::Null, &[])
        .await;
    assert_eq!(started.status, 201);
    let attempt = gateway.scan(other).await;
    let number = enrollpay::order::OutTradeNo {
        order: other,
        attempt,
    };
    lines.push(payment(3, &number.to_string(), "4200000033", START));
    // A second time: it stays the other merchant's.
    lines.push(payment(4, &number.to_string(), "4200000033", START));
    lines.push(payment(
        5,
        "=cmd|' /C calc'!A0",
        "4200001234202611201234567890",
        START,
    ));
    bench.bill(lines);
    bench.tomorrow_at(11);
    bench.run().await;
    bench
}

#[actix_web::test]
async fn a_merchant_reads_its_own_rows_and_those_of_nobody() {
    let bench = day().await;
    let gateway = &bench.gateway;
    let answer = gateway.get(PATH).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["object"], "reconciliation");
    assert_eq!(
        (&answer.body["state"], &answer.body["run"]),
        (&json!("finished"), &json!(1))
    );
    let summary = &answer.body["summary"];
    assert_eq!(
        (&summary["matched"], &summary["only_there"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(summary["payments_there"], 42_000);
    assert_eq!(answer.body["data"].as_array().unwrap().len(), 3);
    assert_eq!(answer.body["has_more"], false);
    let row = &answer.body["data"][0];
    assert_eq!(row["verdict"], "matched");
    assert_eq!(row["ours"]["at"], "2026-11-20T18:00:00+08:00");
    assert_eq!(row["theirs"]["fee"], 84);

    let theirs = gateway
        .call_as(&gateway.other, "GET", PATH, &Value::Null, &[])
        .await;
    let verdicts: Vec<_> = theirs.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["verdict"].clone(),
                row["repaired"].clone(),
                row["field"].clone(),
            )
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            (json!("matched"), json!(true), Value::Null),
            (json!("only_there"), json!(false), json!("duplicate")),
            (json!("only_there"), json!(false), Value::Null),
        ]
    );
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn rows_come_by_pages_of_one_result() {
    let bench = day().await;
    let gateway = &bench.gateway;
    let mut numbers = Vec::new();
    let mut path = format!("{PATH}?limit=1");
    loop {
        let page = gateway.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        numbers.push(page.body["data"][0]["number"].as_u64().unwrap());
        let Some(cursor) = page.body["next_cursor"].as_str() else {
            break;
        };
        path = format!("{PATH}?limit=1&cursor={cursor}");
    }
    assert_eq!(numbers, [1, 2, 5]);

    let only = gateway.get(&format!("{PATH}?verdict=only_there")).await;
    assert_eq!(only.body["data"].as_array().unwrap().len(), 1);
    let first = gateway.get(&format!("{PATH}?limit=1")).await;
    let cursor = first.body["next_cursor"].as_str().unwrap().to_owned();
    bench.run().await;
    let stale = gateway.get(&format!("{PATH}?cursor={cursor}")).await;
    stale.is_problem(400, "validation_failed");
    assert_eq!(stale.pointers(), ["cursor"]);
    for (query, pointer) in [
        ("verdict=none", "verdict"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("format=xml", "format"),
        ("limit=1&limit=2", "limit"),
        ("other=1", "other"),
    ] {
        let refused = gateway.get(&format!("{PATH}?{query}")).await;
        refused.is_problem(400, "validation_failed");
        assert_eq!(refused.pointers(), [pointer], "{query}");
    }
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_spreadsheet_gets_all_of_it_and_runs_none_of_it() {
    let bench = day().await;
    let gateway = &bench.gateway;
    let accept = [("accept", "text/csv")];
    let answer = gateway
        .call_as(&gateway.school, "GET", PATH, &Value::Null, &accept)
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    let asked = gateway.get(&format!("{PATH}?format=csv")).await;
    assert_eq!(asked.bytes, answer.bytes);
    let text = String::from_utf8(answer.bytes).unwrap();
    let text = text.strip_prefix('\u{feff}').unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("number,verdict,kind,field,repaired,order_id,our_out_trade_no"));
    let columns = lines[0].split(',').count();
    assert!(
        lines.iter().all(|line| line.split(',').count() == columns),
        "{text}"
    );
    assert!(lines[3].contains("'=cmd|' /C calc'!A0"), "{text}");
    assert!(
        lines[3].contains("4200001234202611201234567890\t"),
        "{text}"
    );
    assert!(!text.contains("4200000033"), "another merchant's");
    let only = gateway
        .get(&format!("{PATH}?format=csv&verdict=matched"))
        .await;
    assert_eq!(String::from_utf8(only.bytes).unwrap().lines().count(), 3);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn where_there_is_nothing_nothing_is_found() {
    let bench = Bench::start().await;
    let gateway = &bench.gateway;
    for path in [
        PATH,
        "/v1/reconciliations/nobody/2026-11-20",
        "/v1/reconciliations/school-wechat/yesterday",
        "/v1/reconciliations/school-wechat/2026-13-01",
    ] {
        gateway.get(path).await.is_problem(404, "not_found");
    }
    // A day that waits has a state, and no rows.
    bench.tomorrow_at(9);
    bench.no_bill(enrollpay::provider::BillError::NotReady { date: TODAY });
    bench.run().await;
    let answer = gateway.get(PATH).await;
    assert_eq!(
        (answer.status, &answer.body["state"]),
        (200, &json!("waiting"))
    );
    assert_eq!(
        (&answer.body["run"], &answer.body["data"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(answer.body["latest_run"]["state"], "waiting");
    // Why a run failed is the operators' to know.
    bench.no_bill(enrollpay::provider::BillError::Refused {
        code: "NO_AUTH".to_owned(),
    });
    bench.run().await;
    let failed = gateway.get(PATH).await;
    assert_eq!(failed.body["state"], "failed");
    assert!(!String::from_utf8_lossy(&failed.bytes).contains("NO_AUTH"));
    let csv = gateway.get(&format!("{PATH}?format=csv")).await;
    assert_eq!(String::from_utf8(csv.bytes).unwrap().lines().count(), 1);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn what_is_answered_has_the_shape_that_is_described() {
    let bench = day().await;
    let gateway = &bench.gateway;
    let document = gateway
        .send("GET", "/openapi.json", Vec::new(), &[])
        .await
        .body;
    let answer = gateway.get(PATH).await;
    let schema = &document["components"]["schemas"]["Reconciliation"];
    crate::openapi::fits(&document, schema, &answer.body, "");
    // Alipay's bill, whose lines name no application.
    let line = TradeLine {
        application: None,
        ..payment(1, "another system's", "2026112022001", START)
    };
    give(
        &gateway.alipay,
        BillKind::Trades,
        Ok(Bill::Trades(vec![line])),
    );
    let run = bench
        .reconciler
        .run(&alipay(), TODAY, RunBy::Operator)
        .await;
    assert_eq!(run.unwrap().total().only_there, 1);
    bench.gateway.stop().await;
}
