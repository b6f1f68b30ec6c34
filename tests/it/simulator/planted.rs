//! Planted differences: each is in the bill, none besides, and the list says exactly which.

use std::collections::BTreeSet;

use enrollpay::simulator::{Booking, Difference, Plant, PlantError, Planted};

use super::bills::{DAY, Table, at, fen, gunzip, sha1};
use super::*;

/// What is wrong with a bill, in words of `kind key what-it-says`; the merchant's side is the books.
type Found = BTreeSet<String>;

/// Five payments, two of them refunded.
fn bookings(wallet: Wallet) -> Vec<Booking> {
    (1..=5)
        .map(|index| {
            let number = format!("EP2026PLANT{index}");
            let booking = Booking::new(wallet, &number, 10_000 + index, at(8 + index, 0));
            if index <= 2 {
                booking.refunded(&format!("RF-{index}"), 1_000, at(15, index))
            } else {
                booking
            }
        })
        .collect()
}

/// How either provider's rows read.
struct Columns {
    out_trade_no: &'static str,
    transaction: &'static str,
    refund: &'static str,
    payment_amount: &'static str,
    refund_amount: &'static str,
}

const WECHAT: Columns = Columns {
    out_trade_no: "商户订单号",
    transaction: "微信订单号",
    refund: "商户退款单号",
    payment_amount: "订单金额",
    refund_amount: "申请退款金额",
};
const ALIPAY: Columns = Columns {
    out_trade_no: "商户订单号",
    transaction: "支付宝交易号",
    refund: "退款批次号/请求号",
    payment_amount: "订单金额（元）",
    refund_amount: "订单金额（元）",
};

fn key(number: &str, refund: Option<&str>) -> String {
    format!("{number}/{}", refund.unwrap_or("-"))
}

/// Holds a bill against the books.
fn compare(world: &World, wallet: Wallet, bill: &Table) -> Found {
    let columns = match wallet {
        Wallet::Wechat => WECHAT,
        Wallet::Alipay => ALIPAY,
    };
    let handle = world.simulator.handle();
    let mut ours: BTreeMap<(String, String), i64> = BTreeMap::new();
    for booking in bookings(wallet) {
        let trade = handle.trade(wallet, &booking.out_trade_no).unwrap();
        let id = trade.trade_no.clone().unwrap();
        ours.insert((key(&booking.out_trade_no, None), id.clone()), trade.total);
        for refund in &trade.refunds {
            let key = key(&booking.out_trade_no, Some(&refund.number));
            ours.insert((key, id.clone()), refund.amount);
        }
    }
    let mut found = Found::new();
    for row in &bill.rows {
        let refund = row[columns.refund].as_str();
        let refund = (!matches!(refund, "" | "0")).then_some(refund);
        let key = key(&row[columns.out_trade_no], refund);
        let column = match refund {
            None => columns.payment_amount,
            Some(_) => columns.refund_amount,
        };
        let amount = fen(&row[column]).abs();
        let id = row[columns.transaction].clone();
        let Some(expected) = ours.remove(&(key.clone(), id.clone())) else {
            found.insert(format!("extra {key} {id} {amount}"));
            continue;
        };
        if expected != amount {
            found.insert(format!("amount {key} {amount} for {expected}"));
        }
        if wallet == Wallet::Wechat {
            let status = match refund {
                None => &row["交易状态"],
                Some(_) => &row["退款状态"],
            };
            if status != "SUCCESS" {
                found.insert(format!("status {key} {status}"));
            }
            let merchant = &world.wechat["merchant"];
            for (word, column, own) in [
                ("appid", "公众账号ID", &merchant["appid"]),
                ("account", "商户号", &merchant["mchid"]),
            ] {
                if row[column] != text(own) {
                    found.insert(format!("{word} {key} {}", row[column]));
                }
            }
        }
    }
    found.extend(ours.keys().map(|(key, _)| format!("missing {key}")));
    found
}

/// The list of what was planted, in the same words.
fn expected(planted: &[Planted]) -> Found {
    planted
        .iter()
        .map(|planted| {
            let plant = &planted.plant;
            let key = key(
                plant.out_trade_no.as_deref().unwrap(),
                plant.out_refund_no.as_deref(),
            );
            let value = plant.value.as_deref().unwrap_or_default();
            let amount = plant.amount.unwrap_or_default();
            match plant.what {
                Difference::Missing => format!("missing {key}"),
                Difference::Extra => format!(
                    "extra {key} {} {amount}",
                    plant.transaction_id.as_deref().unwrap()
                ),
                Difference::Amount => {
                    format!(
                        "amount {key} {amount} for {}",
                        planted.truth.as_deref().unwrap()
                    )
                }
                Difference::Status => format!("status {key} {value}"),
                Difference::Appid => format!("appid {key} {value}"),
                Difference::Account => format!("account {key} {value}"),
                other => panic!("{other:?} is about a whole file"),
            }
        })
        .collect()
}

async fn listed(world: &World) -> Vec<Planted> {
    let list = world
        .client
        .get(world.at("/control/bills/planted"))
        .send()
        .await
        .unwrap();
    list.json().await.unwrap()
}

async fn plant(world: &World, plants: Value) {
    let (status, body) = world.control("/control/bills/plant", &plants).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn every_planted_line_is_found_in_wechats_bill_and_no_other() {
    let world = World::open();
    world.book(bookings(Wallet::Wechat)).await;
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(compare(&world, Wallet::Wechat, &bill), Found::new());
    let one = |what: &str, more: Value| {
        let mut plant = json!({ "wallet": "wechat", "day": DAY, "what": what });
        plant
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        plant
    };
    let refund = |number: &str| json!({ "out_trade_no": "EP2026PLANT1", "out_refund_no": number });
    plant(
        &world,
        json!([
            one("missing", json!({ "out_trade_no": "EP2026PLANT3" })),
            one("amount", json!({ "out_trade_no": "EP2026PLANT4", "amount": 1 })),
            one("appid", json!({ "out_trade_no": "EP2026PLANT5" })),
            one("account", json!({ "out_trade_no": "EP2026PLANT1" })),
            one("status", json!({ "out_trade_no": "EP2026PLANT1", "out_refund_no": "RF-1", "value": "CHANGE" })),
            one("missing", json!({ "out_trade_no": "EP2026PLANT2", "out_refund_no": "RF-2" })),
            one("extra", json!({ "out_trade_no": "FOREIGN1", "amount": 700 })),
            one("extra", json!({ "out_trade_no": "EP2026PLANT2", "amount": 10_002 })),
            one("extra", refund("RF-FOREIGN")),
        ]),
    )
    .await;
    let bill = world.wechat_bill("tradebill", "").await;
    let planted = listed(&world).await;
    assert_eq!(planted.len(), 9);
    let found = compare(&world, Wallet::Wechat, &bill);
    assert_eq!(found, expected(&planted));
    assert_eq!(found.len(), 9, "{found:?}");
    assert!(planted.iter().all(|planted| planted.served == 1));
    // Totals are those of the rows: a wrong line is no wrong file.
    let paid: i64 = bill.rows.iter().map(|row| fen(&row["订单金额"])).sum();
    assert_eq!(fen(&bill.totals["订单总金额"]), paid);
    // The money tells the same story.
    let flows = world.wechat_bill("fundflowbill", "").await;
    assert!(
        flows
            .rows
            .iter()
            .all(|row| row["业务凭证号"] != "EP2026PLANT3")
    );
    assert_eq!(
        flows.row("业务凭证号", "EP2026PLANT4")["收支金额(元)"],
        "0.01"
    );
    let cleared = world
        .client
        .delete(world.at("/control/bills/planted"))
        .send()
        .await
        .unwrap();
    assert_eq!(cleared.status(), 204);
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(compare(&world, Wallet::Wechat, &bill), Found::new());
}

#[tokio::test]
async fn every_planted_line_is_found_in_alipays_bill_and_no_other() {
    let world = World::open();
    world.book(bookings(Wallet::Alipay)).await;
    world.next_morning();
    let bill = world.alipay_bill().await;
    assert_eq!(compare(&world, Wallet::Alipay, &bill), Found::new());
    let new = |what| Plant::new(Wallet::Alipay, DAY, what);
    for plant in [
        new(Difference::Missing).payment("EP2026PLANT3"),
        new(Difference::Missing).refund("EP2026PLANT1", "RF-1"),
        new(Difference::Amount)
            .refund("EP2026PLANT2", "RF-2")
            .amount(2_000),
        new(Difference::Extra).payment("FOREIGN1").amount(5),
        new(Difference::Extra)
            .refund("FOREIGN2", "RF-FOREIGN")
            .amount(5),
    ] {
        world.plant(plant).await;
    }
    let bill = world.alipay_bill().await;
    let planted = listed(&world).await;
    assert_eq!(compare(&world, Wallet::Alipay, &bill), expected(&planted));
    assert_eq!(planted.len(), 5);
    world.plant(new(Difference::Account)).await;
    let files = world.alipay_files().await;
    assert!(files[0].1.contains("#账号：[20889999999999990156]"));
}

#[tokio::test]
async fn what_would_make_the_list_inexact_is_not_planted() {
    let world = World::open();
    world.book(bookings(Wallet::Wechat)).await;
    world.book(bookings(Wallet::Alipay)).await;
    let handle = world.simulator.handle();
    let new = |what| Plant::new(Wallet::Wechat, DAY, what);
    world
        .plant(new(Difference::Missing).payment("EP2026PLANT1"))
        .await;
    world
        .plant(new(Difference::Extra).payment("FOREIGN").amount(5))
        .await;
    world.plant(new(Difference::HashMismatch)).await;
    let id = handle
        .trade(Wallet::Wechat, "EP2026PLANT2")
        .unwrap()
        .trade_no;
    let mut known = new(Difference::Extra).payment("OTHER");
    known.transaction_id = id;
    for (plant, why) in [
        (
            new(Difference::Amount).payment("EP2026PLANT1").amount(1),
            PlantError::Again,
        ),
        (new(Difference::HashMismatch), PlantError::Again),
        (known, PlantError::Again),
        (
            new(Difference::Extra).refund("EP2026PLANT1", "RF-1"),
            PlantError::Again,
        ),
        (
            new(Difference::Missing).payment("UNKNOWN"),
            PlantError::NoSuchLine,
        ),
        (
            new(Difference::Missing).refund("EP2026PLANT3", "RF-1"),
            PlantError::NoSuchLine,
        ),
        (
            new(Difference::Amount).payment("EP2026PLANT3"),
            PlantError::Required("amount"),
        ),
        (
            new(Difference::Amount)
                .payment("EP2026PLANT3")
                .amount(10_003),
            PlantError::NoDifference,
        ),
        (
            new(Difference::Missing),
            PlantError::Required("out_trade_no"),
        ),
        (
            Plant::new(Wallet::Wechat, "20260101", Difference::Truncated),
            PlantError::Day,
        ),
        (
            Plant::new(Wallet::Alipay, DAY, Difference::Status).refund("EP2026PLANT1", "RF-1"),
            PlantError::NotHere,
        ),
        (
            new(Difference::EarlyFormat).fund_flow(),
            PlantError::NotHere,
        ),
    ] {
        assert_eq!(handle.plant(plant.clone()).await, Err(why), "{plant:?}");
    }
    assert_eq!(handle.planted().len(), 3);
}

/// The unpacked file of an answer, whatever it is worth.
async fn file(world: &World, answer: &Value) -> String {
    let bytes = world.fetch_bill(answer).await.bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn whole_files_of_wechat_can_be_wrong() {
    let world = World::open();
    world.book(bookings(Wallet::Wechat)).await;
    world.next_morning();
    let truth = world.wechat_bill("tradebill", "").await;
    let handle = world.simulator.handle();
    let new = |what| Plant::new(Wallet::Wechat, DAY, what).times(1);

    world.plant(new(Difference::HashMismatch)).await;
    let (_, answer) = world.ask_bill("tradebill", "").await;
    let bytes = file(&world, &answer).await;
    assert_ne!(text(&answer["hash_value"]), sha1(bytes.as_bytes()));
    assert_eq!(Table::wechat(&bytes).rows.len(), truth.rows.len());
    // Once is once.
    world.wechat_bill("tradebill", "").await;
    assert_eq!(handle.planted()[0].served, 1);

    world.plant(new(Difference::Truncated)).await;
    let (_, answer) = world.ask_bill("tradebill", "&tar_type=GZIP").await;
    let half = world.fetch_bill(&answer).await.bytes().await.unwrap();
    assert!(gunzip(&half).is_err());

    world.plant(new(Difference::ExpiredLink)).await;
    let (_, answer) = world.ask_bill("tradebill", "").await;
    assert_eq!(world.fetch_bill(&answer).await.status(), 400);

    world.plant(new(Difference::ColumnsReordered)).await;
    let turned = world.wechat_bill("tradebill", "").await;
    let mut names: Vec<&str> = truth.header.split(',').collect();
    names.reverse();
    assert_eq!(turned.header, names.join(","));
    assert_eq!(turned.rows, truth.rows, "by name it is the same bill");
    assert_eq!(turned.totals, truth.totals);

    world.plant(new(Difference::EarlyFormat)).await;
    let early = world.wechat_bill("tradebill", "").await;
    for (name, then) in [
        ("订单金额", false),
        ("申请退款金额", false),
        ("应结订单金额", false),
        ("代金券金额", false),
        ("总金额", true),
        ("企业红包金额", true),
    ] {
        let there = early.header.split(',').any(|column| column == name);
        assert_eq!(there, then, "{name}");
    }
    assert_eq!(early.row("商户退款单号", "RF-1")["退款金额"], "10.00");
    assert_eq!(early.totals.len(), 5);

    world.plant(new(Difference::WrongTotals)).await;
    let wrong = world.wechat_bill("tradebill", "").await;
    assert_eq!(wrong.rows, truth.rows);
    assert_eq!(
        fen(&wrong.totals["订单总金额"]),
        fen(&truth.totals["订单总金额"]) + 1
    );

    world.plant(new(Difference::GarbageRow)).await;
    let (_, answer) = world.ask_bill("tradebill", "").await;
    let text = file(&world, &answer).await;
    let columns = truth.header.split(',').count();
    let odd = text
        .lines()
        .filter(|line| line.starts_with('`') && line.split(",`").count() < 7)
        .count();
    assert_eq!(odd, 1, "of {columns} columns");

    world.plant(new(Difference::WrongTotals).fund_flow()).await;
    world.wechat_bill("tradebill", "").await;
    let flows = world.wechat_bill("fundflowbill", "").await;
    let earned: i64 = flows
        .rows
        .iter()
        .filter(|row| row["收支类型"] == "收入")
        .map(|row| fen(&row["收支金额(元)"]))
        .sum();
    assert_eq!(fen(&flows.totals["收入金额"]), earned + 1);
    assert!(handle.planted().iter().all(|planted| planted.served == 1));
}

#[tokio::test]
async fn a_file_that_is_not_handed_out_uses_nothing_up() {
    let world = World::open();
    let payment = Booking::new(Wallet::Wechat, "EP2026ALONE", 100, at(9, 0));
    world.book([payment]).await;
    world.next_morning();
    let plant = Plant::new(Wallet::Wechat, DAY, Difference::HashMismatch).times(1);
    world.plant(plant).await;
    let (status, _) = world.ask_bill("tradebill", "&bill_type=REFUND").await;
    assert_eq!(status, 400);
    assert_eq!(world.simulator.handle().planted()[0].served, 0);
    let (_, answer) = world.ask_bill("tradebill", "").await;
    let bytes = file(&world, &answer).await;
    assert_ne!(text(&answer["hash_value"]), sha1(bytes.as_bytes()));
}

#[tokio::test]
async fn whole_files_of_alipay_can_be_wrong() {
    let world = World::open();
    world.book(bookings(Wallet::Alipay)).await;
    world.next_morning();
    let truth = world.alipay_bill().await;
    let new = |what| Plant::new(Wallet::Alipay, DAY, what).times(1);

    world.plant(new(Difference::Truncated)).await;
    let answer = world.ask_alipay_bill("trade", DAY).await;
    let half = world
        .fetch_alipay_bill(&answer)
        .await
        .bytes()
        .await
        .unwrap();
    assert!(zip::ZipArchive::new(std::io::Cursor::new(half)).is_err());

    world.plant(new(Difference::ExpiredLink)).await;
    let answer = world.ask_alipay_bill("trade", DAY).await;
    assert_eq!(world.fetch_alipay_bill(&answer).await.status(), 403);

    world.plant(new(Difference::ColumnsReordered)).await;
    let turned = world.alipay_bill().await;
    assert_ne!(turned.header, truth.header);
    assert_eq!(turned.rows, truth.rows, "by name it is the same bill");

    world.plant(new(Difference::EarlyFormat)).await;
    let early = world.alipay_bill().await;
    assert_eq!(early.header.split(',').count(), 21);
    assert!(!early.header.contains("券"));

    world.plant(new(Difference::WrongTotals)).await;
    let wrong = &world.alipay_files().await[0].1;
    assert!(
        wrong.contains("#交易合计：5笔，商家实收共500.16元"),
        "{wrong}"
    );

    world.plant(new(Difference::GarbageRow)).await;
    let garbage = &world.alipay_files().await[0].1;
    assert!(garbage.contains("\n不是账单"));
    assert_eq!(world.alipay_bill().await.rows, truth.rows);
}
