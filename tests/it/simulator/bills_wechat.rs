//! `WeChat`'s trade and fund-flow bills: form, days, links.

use enrollpay::simulator::Booking;

use super::bills::{DAY, Table, at, fen, sha1};
use super::*;

fn sample(name: &str) -> Vec<String> {
    let sample = vectors("wechat-v3-bills")[name].clone();
    let bytes = STANDARD.decode(text(&sample["csv_base64"])).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::to_owned)
        .collect()
}

fn booking(number: &str, amount: i64, when: Timestamp) -> Booking {
    Booking::new(Wallet::Wechat, number, amount, when)
}

#[tokio::test]
async fn a_trade_bill_looks_like_the_published_one() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    let mut order = world.native_order("EP2026BILL01", &merchant.address);
    order["description"] = json!("报名费,2026春季");
    order["attach"] = json!("class=7");
    world
        .wechat("POST", "/v3/pay/transactions/native", &order)
        .await;
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026BILL01" }))
        .await;
    let refund = json!({
        "out_trade_no": "EP2026BILL01", "out_refund_no": "RF-1", "reason": "转班, 退差价",
        "amount": { "refund": 2850, "total": 12850, "currency": "CNY" },
    });
    let (_, refunded) = world
        .wechat("POST", "/v3/refund/domestic/refunds", &refund)
        .await;
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "&bill_type=ALL").await;
    let published = sample("trade_bill_all");
    assert_eq!(bill.header, published[0]);
    let paid = bill.row("交易状态", "SUCCESS");
    let back = bill.row("交易状态", "REFUND");
    let said = |row: &BTreeMap<String, String>, pairs: &[(&str, &str)]| {
        for (column, value) in pairs {
            assert_eq!(row[*column], *value, "{column}");
        }
    };
    let state = world.wechat_state("EP2026BILL01").await;
    let both = [
        ("交易时间", "2026-01-01 08:00:00"),
        ("公众账号ID", text(&world.wechat["merchant"]["appid"])),
        ("商户号", text(&world.wechat["merchant"]["mchid"])),
        ("特约商户号", "0"),
        ("微信订单号", text(&state["transaction_id"])),
        ("商户订单号", "EP2026BILL01"),
        ("用户标识", text(&state["payer"]["openid"])),
        ("交易类型", "NATIVE"),
        ("货币种类", "CNY"),
        ("商品名称", "报名费\\ 2026春季"),
        ("商户数据包", "class=7"),
        ("费率", "0.60%"),
    ];
    said(paid, &both);
    said(back, &both);
    said(
        paid,
        &[
            ("应结订单金额", "128.50"),
            ("订单金额", "128.50"),
            ("申请退款金额", "0.00"),
            ("微信退款单号", "0"),
            ("商户退款单号", "0"),
            ("退款类型", ""),
            ("退款状态", ""),
            ("手续费", "0.77000"),
        ],
    );
    said(
        back,
        &[
            ("应结订单金额", "0.00"),
            ("订单金额", "0.00"),
            ("退款金额", "28.50"),
            ("申请退款金额", "28.50"),
            ("微信退款单号", text(&refunded["refund_id"])),
            ("商户退款单号", "RF-1"),
            ("退款类型", "ORIGINAL"),
            ("退款状态", "SUCCESS"),
            ("手续费", "-0.17000"),
        ],
    );
    said(
        &bill.totals,
        &[
            ("总交易单数", "2.0"),
            ("应结订单总金额", "128.5"),
            ("退款总金额", "28.5"),
            ("充值券退款总金额", "0.0"),
            ("手续费总金额", "0.6"),
            ("订单总金额", "128.5"),
            ("申请退款总金额", "28.5"),
        ],
    );
    let names: Vec<&str> = published[published.len() - 2].split(',').collect();
    assert_eq!(bill.totals.len(), names.len());
    assert!(names.iter().all(|name| bill.totals.contains_key(*name)));
}

#[tokio::test]
async fn success_and_refund_bills_have_their_own_columns() {
    let mut options = options();
    options.refund_delay_ms = 60_000;
    let world = World::with(options);
    world
        .book([booking("EP2026KIND1", 10_000, at(9, 0)).refunded("RF-1", 4_000, at(10, 0))])
        .await;
    world.next_morning();
    let all = world.wechat_bill("tradebill", "").await;
    let success = world.wechat_bill("tradebill", "&bill_type=SUCCESS").await;
    let refund = world.wechat_bill("tradebill", "&bill_type=REFUND").await;
    assert_eq!(
        (all.rows.len(), success.rows.len(), refund.rows.len()),
        (2, 1, 1)
    );
    let names =
        |table: &Table| -> Vec<String> { table.header.split(',').map(str::to_owned).collect() };
    let missing: Vec<String> = names(&all)
        .into_iter()
        .filter(|name| !names(&success).contains(name))
        .collect();
    assert!(
        missing.iter().all(|name| name.contains("退款")),
        "{missing:?}"
    );
    assert_eq!(missing.len(), 7);
    let more: Vec<String> = names(&refund)
        .into_iter()
        .filter(|name| !names(&all).contains(name))
        .collect();
    assert_eq!(more, ["退款申请时间", "退款成功时间"]);
    assert_eq!(refund.rows[0]["退款申请时间"], "2026-01-01 10:00:00");
    assert_eq!(success.totals.len(), 4);
}

#[tokio::test]
async fn money_flows_are_in_order_and_their_balances_add_up() {
    let world = World::open();
    let yesterday = Timestamp::from_seconds(HOUR - 86_400);
    world
        .book([
            booking("EP2025FLOW0", 50_000, yesterday),
            booking("EP2026FLOW2", 3, at(12, 0)),
            booking("EP2026FLOW1", 12_850, at(9, 0)).refunded("RF-1", 12_850, at(13, 0)),
        ])
        .await;
    world.next_morning();
    let bill = world.wechat_bill("fundflowbill", "").await;
    let published = sample("fund_flow_bill");
    assert_eq!(bill.header, published[0]);
    let seen: Vec<(&str, &str, &str, &str)> = bill
        .rows
        .iter()
        .map(|row| {
            (
                row["业务类型"].as_str(),
                row["收支类型"].as_str(),
                row["收支金额(元)"].as_str(),
                row["账户结余(元)"].as_str(),
            )
        })
        .collect();
    // 500.00 less its fee of 3.00 from the day before; a fee below half a fen is none.
    assert_eq!(
        seen,
        [
            ("交易", "收入", "128.50", "625.50"),
            ("扣除交易手续费", "支出", "0.77", "624.73"),
            ("交易", "收入", "0.03", "624.76"),
            ("退回交易手续费", "收入", "0.77", "625.53"),
            ("退款", "支出", "128.50", "497.03"),
        ]
    );
    let refund = bill.row("业务类型", "退款");
    assert_eq!(refund["业务凭证号"], "RF-1");
    assert_eq!(bill.totals["资金流水总笔数"], "5.0");
    assert_eq!(bill.totals["收入金额"], "129.3");
    assert_eq!(bill.totals["支出金额"], "129.27");
    for other in ["OPERATION", "FEES"] {
        let more = format!("&account_type={other}");
        let (status, answer) = world.ask_bill("fundflowbill", &more).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("NO_STATEMENT_EXIST"))
        );
    }
}

#[tokio::test]
async fn bills_are_there_from_ten_and_for_three_months() {
    let world = World::open();
    world.book([booking("EP2026DAYS1", 100, at(9, 0))]).await;
    let ask = |day: &str, more: &str| {
        let path = format!("/v3/bill/tradebill?bill_date={day}{more}");
        let world = &world;
        async move {
            let (status, body) = world.wechat("GET", &path, &Value::Null).await;
            (status, body["code"].as_str().unwrap_or("OK").to_owned())
        }
    };
    let refused = |status, code: &str| (status, code.to_owned());
    world.clock.set(at(20, 0));
    assert_eq!(ask(DAY, "").await, refused(400, "INVALID_REQUEST"));
    assert_eq!(ask("2026-01-02", "").await, refused(400, "INVALID_REQUEST"));
    world.clock.set(at(34, 0).minus_ms(1));
    assert_eq!(ask(DAY, "").await, refused(400, "STATEMENT_CREATING"));
    world.next_morning();
    assert_eq!(ask(DAY, "").await.0, 200);
    assert_eq!(
        ask("2025-12-31", "").await,
        refused(400, "NO_STATEMENT_EXIST")
    );
    assert_eq!(
        ask(DAY, "&bill_type=REFUND").await,
        refused(400, "NO_STATEMENT_EXIST")
    );
    assert_eq!(ask("2025-10-01", "").await, refused(400, "INVALID_REQUEST"));
    for wrong in ["20260101", "2026-1-1", "2026-02-30", ""] {
        assert_eq!(ask(wrong, "").await, refused(400, "PARAM_ERROR"), "{wrong}");
    }
    for wrong in ["&bill_type=EVERYTHING", "&tar_type=ZIP"] {
        assert_eq!(
            ask(DAY, wrong).await,
            refused(400, "PARAM_ERROR"),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_day_begins_at_midnight_in_beijing() {
    let world = World::open();
    let midnight = at(24, 0);
    world
        .book([
            booking("EP2026CUT01", 100, at(0, 0)).refunded("RF-1", 1, midnight),
            booking("EP2026CUT02", 200, midnight.minus_ms(1)),
            booking("EP2026CUT03", 300, midnight),
        ])
        .await;
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "").await;
    let numbers: Vec<&str> = bill
        .rows
        .iter()
        .map(|row| row["商户订单号"].as_str())
        .collect();
    assert_eq!(numbers, ["EP2026CUT01", "EP2026CUT02"]);
    world.clock.advance_ms(86_400_000);
    let path = "/v3/bill/tradebill?bill_date=2026-01-02";
    let (_, answer) = world.wechat("GET", path, &Value::Null).await;
    let file = world.fetch_bill(&answer).await.text().await.unwrap();
    let bill = Table::wechat(&file);
    assert_eq!(bill.rows.len(), 2);
    assert_eq!(bill.row("交易状态", "REFUND")["商户订单号"], "EP2026CUT01");
}

#[tokio::test]
async fn a_bill_keeps_the_state_a_refund_had_when_it_was_made() {
    let mut options = options();
    options.refund_delay_ms = 3 * 86_400_000;
    let world = World::with(options);
    world.book([booking("EP2026SNAP1", 100, at(7, 0))]).await;
    let refund = json!({
        "out_trade_no": "EP2026SNAP1", "out_refund_no": "RF-1",
        "amount": { "refund": 100, "total": 100, "currency": "CNY" },
    });
    let (status, _) = world
        .wechat("POST", "/v3/refund/domestic/refunds", &refund)
        .await;
    assert_eq!(status, 200);
    world.clock.advance_ms(5 * 86_400_000);
    let now = world
        .wechat("GET", "/v3/refund/domestic/refunds/RF-1", &Value::Null)
        .await;
    assert_eq!(now.1["status"], "SUCCESS");
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(bill.row("商户退款单号", "RF-1")["退款状态"], "PROCESSING");
}

#[tokio::test]
async fn a_file_wants_a_signature_and_its_link_dies_after_five_minutes() {
    let world = World::open();
    world.book([booking("EP2026LINK1", 100, at(9, 0))]).await;
    world.next_morning();
    let (_, answer) = world.ask_bill("tradebill", "").await;
    let unsigned = world
        .client
        .get(text(&answer["download_url"]))
        .header("accept", "*/*")
        .header("user-agent", "test")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 401);
    world.clock.advance_ms(299_999);
    let file = world.fetch_bill(&answer).await;
    assert_eq!(file.status(), 200);
    let plain = file.bytes().await.unwrap();
    assert_eq!(text(&answer["hash_value"]), sha1(&plain), "not packed");
    world.clock.advance_ms(1);
    let dead = world.fetch_bill(&answer).await;
    assert_eq!(dead.status(), 400);
    let body: Value = dead.json().await.unwrap();
    assert_eq!(body["code"], "INVALID_REQUEST");
}

#[tokio::test]
async fn a_day_of_a_hundred_thousand_payments_is_one_file() {
    let world = World::open();
    let many = 100_000;
    let numbers = (0..many).map(|index| format!("EP2026MANY{index:06}"));
    world
        .book(numbers.map(|number| booking(&number, 12_850, at(9, 0))))
        .await;
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(bill.rows.len(), many);
    let ids: std::collections::BTreeSet<&String> =
        bill.rows.iter().map(|row| &row["微信订单号"]).collect();
    assert_eq!(ids.len(), many, "every payment has a number of its own");
    assert_eq!(fen(&bill.totals["订单总金额"]), 12_850 * 100_000);
}
