//! Alipay's trade bill: the zip, its two files, days and links.

use enrollpay::simulator::{Booking, Fault};

use super::bills::{DAY, Table, at};
use super::*;

fn booking(number: &str, amount: i64, when: Timestamp) -> Booking {
    Booking::new(Wallet::Alipay, number, amount, when)
}

#[tokio::test]
async fn a_trade_bill_looks_like_the_known_ones() {
    let world = World::open();
    world
        .book([booking("EP2026A1", 12_850, at(8, 1)).refunded("RF-1", 2_850, at(9, 0))])
        .await;
    world.next_morning();
    let files = world.alipay_files().await;
    let account = format!("{}0156", text(&world.alipay["seller_id"]));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            format!("{account}_20260101_业务明细.csv"),
            format!("{account}_20260101_业务明细(汇总).csv"),
        ]
    );
    let sample = vectors("alipay-bill");
    let sample: Vec<&str> = text(&sample["csv_utf8"]).lines().collect();
    let lines: Vec<&str> = files[0].1.lines().collect();
    assert_eq!(lines[0], sample[0]);
    assert_eq!(lines[1], format!("#账号：[{account}]"));
    assert_eq!(
        lines[2],
        "#起始日期：[2026年01月01日 00:00:00]   终止日期：[2026年01月02日 00:00:00]"
    );
    assert_eq!(lines[3..5], sample[3..5], "marker and header");
    assert_eq!(lines[7], sample[7], "marker of the end");
    assert_eq!(
        lines[8],
        "#交易合计：1笔，商家实收共128.50元，商家优惠共0.00元"
    );
    assert_eq!(
        lines[9],
        "#退款合计：1笔，商家实收退款共-28.50元，商家优惠退款共0.00元"
    );
    // Cell by cell like the sample's two rows, but for numbers and names.
    let trade_no = world
        .simulator
        .handle()
        .trade(Wallet::Alipay, "EP2026A1")
        .unwrap()
        .trade_no
        .unwrap();
    for (line, like) in [(lines[5], sample[5]), (lines[6], sample[6])] {
        let (cells, like): (Vec<&str>, Vec<&str>) =
            (line.split(',').collect(), like.split(',').collect());
        assert_eq!(cells.len(), like.len());
        for (index, (cell, like)) in cells.iter().zip(&like).enumerate() {
            match index {
                0 => assert_eq!(*cell, format!("{trade_no}\t")),
                1 => assert_eq!(*cell, "EP2026A1\t"),
                10 => assert!(cell.starts_with("**五(") && cell.ends_with(")\t"), "{cell}"),
                21 if !like.trim().is_empty() => assert_eq!(*cell, "RF-1\t"),
                4 | 5 => assert_eq!(cell.len(), like.len(), "a time"),
                _ => assert_eq!(cell, like, "cell {index}"),
            }
        }
    }
    assert!(
        files[1]
            .1
            .contains("合计,,1,1,100.00,100.00,0.00,0.00,0.00,-0.60,0.00,99.40\n")
    );
}

#[tokio::test]
async fn bills_are_there_from_nine_and_their_links_live_half_a_minute() {
    let world = World::open();
    world.book([booking("EP2026A1", 100, at(9, 0))]).await;
    let ask = |kind: &'static str, day: &'static str| {
        let world = &world;
        async move {
            let answer = world.ask_alipay_bill(kind, day).await;
            answer["sub_code"].as_str().unwrap_or("OK").to_owned()
        }
    };
    assert_eq!(ask("trade", DAY).await, "INVAILID_ARGUMENTS", "today");
    world.clock.set(at(33, 0).minus_ms(1));
    assert_eq!(ask("trade", DAY).await, "BILL_NOT_EXIST");
    world.clock.set(at(33, 0));
    assert_eq!(ask("trade", DAY).await, "OK");
    assert_eq!(ask("trade", "2025-12-31").await, "NO_BILL_DATA");
    assert_eq!(ask("trade", "2026-1-1").await, "INVAILID_ARGUMENTS");
    assert_eq!(ask("trade", "2019-12-31").await, "INVAILID_ARGUMENTS");
    // Its columns are not published: an honest no.
    assert_eq!(ask("signcustomer", DAY).await, "TYPE_NOT_SUPPORTED");
    let answer = world.ask_alipay_bill("trade", DAY).await;
    world.clock.advance_ms(29_999);
    assert_eq!(world.fetch_alipay_bill(&answer).await.status(), 200);
    world.clock.advance_ms(1);
    assert_eq!(world.fetch_alipay_bill(&answer).await.status(), 403);
}

#[tokio::test]
async fn asking_and_fetching_can_fail_in_the_usual_ways() {
    let world = World::open();
    world.book([booking("EP2026A1", 100, at(9, 0))]).await;
    world.next_morning();
    let handle = world.simulator.handle();
    let mut refused = Rule::new("alipay.bill", Fault::Refused);
    refused.code = Some("BILL_NOT_EXIST".to_owned());
    handle.add_fault(refused);
    let answer = world.ask_alipay_bill("trade", DAY).await;
    assert_eq!(answer["sub_code"], "BILL_NOT_EXIST");
    let answer = world.ask_alipay_bill("trade", DAY).await;
    let whole = world
        .fetch_alipay_bill(&answer)
        .await
        .bytes()
        .await
        .unwrap();
    handle.add_fault(Rule::new("alipay.bill_file", Fault::TruncatedBody));
    let half = world
        .fetch_alipay_bill(&answer)
        .await
        .bytes()
        .await
        .unwrap();
    assert_eq!(half.len(), whole.len() / 2);
    handle.add_fault(Rule::new("alipay.bill_file", Fault::Html502));
    assert_eq!(world.fetch_alipay_bill(&answer).await.status(), 502);
    assert_eq!(world.fetch_alipay_bill(&answer).await.status(), 200);
}

#[tokio::test]
async fn a_subject_with_commas_keeps_the_columns() {
    let world = World::open();
    let biz = json!({
        "out_trade_no": "EP2026COMMA", "total_amount": "128.50", "subject": "报名费,春季,二班",
        "product_code": "QR_CODE_OFFLINE",
    });
    world.alipay("alipay.trade.precreate", &biz, &[]).await;
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026COMMA" }))
        .await;
    world.next_morning();
    let bill: Table = world.alipay_bill().await;
    assert_eq!(bill.rows[0]["商品名称"], "报名费 春季 二班");
}
