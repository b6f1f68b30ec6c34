//! WeChat Pay's bills from a server on loopback: what is fetched, what is read of it, and what is not
//! believed.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enrollpay::order::{Fen, Timestamp};
use enrollpay::provider::bill::{FlowKind, FlowLine, LineKind, LineStanding, TradeLine};
use enrollpay::provider::wechatpay::{Connector, Settings};
use enrollpay::provider::{Bill, BillError, BillKind, Provider};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::{Date, date};
use serde_json::{Value, json};

use crate::calls_wechatpay::{assert_signed_by, at, connect, refused, signed};
use crate::loopback::{Act, Seen, Server, serve};

const DATE: Date = date(2019, 2, 19);
const MCHID: &str = "1921000401";
const FILE: &str = "/v3/billdownload/file";

fn published(name: &str) -> Value {
    let text = include_str!("../vectors/wechat-v3-bills.json");
    serde_json::from_str::<Value>(text).unwrap()[name].clone()
}

fn csv(of: &Value) -> Vec<u8> {
    STANDARD.decode(of["csv_base64"].as_str().unwrap()).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn sha1(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let bytes = digest.as_ref().iter();
    bytes.fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// The signed answer that names the file of this very server.
fn announcement(seen: &Seen, hash: &str) -> Value {
    json!({
        "hash_type": "SHA1", "hash_value": hash,
        "download_url": format!("http://{}{FILE}?token=a%2Fb%7C", seen.headers["host"]),
        "a new member": {},
    })
}

fn is_file(seen: &Seen) -> bool {
    seen.path == FILE
}

fn connected(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> (Server, Connector) {
    let server = serve(script);
    let connector = connect(Settings {
        mchid: MCHID.to_owned(),
        ..at(&server.url)
    });
    (server, connector)
}

fn offering(packed: Vec<u8>, hash: String) -> (Server, Connector) {
    connected(move |seen| {
        if is_file(seen) {
            Act::plain(200, packed.clone())
        } else {
            signed(200, announcement(seen, &hash).to_string())
        }
    })
}

/// Offers these bytes, packed and with their true hash.
async fn read(kind: BillKind, text: &[u8]) -> Result<Bill, BillError> {
    let (_server, connector) = offering(gzip(text), sha1(text));
    connector.bill(kind, DATE).await
}

async fn trades(text: &str) -> Result<Vec<TradeLine>, BillError> {
    match read(BillKind::Trades, text.as_bytes()).await? {
        Bill::Trades(lines) => Ok(lines),
        Bill::Flows(_) => panic!("another bill"),
    }
}

fn why(error: BillError) -> String {
    match error {
        BillError::Damaged { date, why } if date == DATE => why,
        error => panic!("{error:?}"),
    }
}

fn sum(lines: &[TradeLine], kind: LineKind) -> Fen {
    let amounts = lines.iter().filter(|line| line.kind == kind);
    Fen::sum(amounts.map(|line| line.amount)).unwrap()
}

fn at_time(text: &str) -> Timestamp {
    let civil: jiff::civil::DateTime = text.parse().unwrap();
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(8));
    let instant = civil.to_zoned(zone).unwrap().timestamp();
    Timestamp::from_millis(instant.as_millisecond())
}

#[actix_web::test]
async fn the_published_bill_has_its_lines_and_sums() {
    let published = published("trade_bill_all");
    let hash = published["hash_value"].as_str().unwrap();
    let packed = STANDARD
        .decode(published["gzip_base64"].as_str().unwrap())
        .unwrap();
    let (server, connector) = offering(packed, hash.to_uppercase());
    let Ok(Bill::Trades(lines)) = connector.bill(BillKind::Trades, DATE).await else {
        panic!("no bill");
    };
    assert_eq!(lines.len(), 45);
    assert_eq!(sum(&lines, LineKind::Payment), Fen::new(47));
    assert_eq!(sum(&lines, LineKind::Refund), Fen::new(14));
    let fees = Fen::sum(lines.iter().map(|line| line.fee)).unwrap();
    assert_eq!(fees, Fen::new(8));
    let numbers: Vec<_> = lines.iter().map(|line| line.line).collect();
    assert_eq!(numbers, (2..=46).collect::<Vec<_>>());
    assert!(
        lines
            .iter()
            .all(|line| line.refund_no.is_some() == (line.kind == LineKind::Refund))
    );
    assert_eq!(
        lines[0],
        TradeLine {
            line: 2,
            kind: LineKind::Refund,
            out_trade_no: "autotest_20190216081946_82335".into(),
            transaction_id: "4200000263201902167700134212".into(),
            application: Some("wxab8acd895ab1638a".into()),
            amount: Fen::new(1),
            currency: "CNY".into(),
            at: at_time("2019-02-19 05:01:46"),
            standing: LineStanding::Succeeded,
            refund_no: Some("REF4200000263201902167700963919".into()),
            fee: Fen::ZERO,
        }
    );
    // With coupons: what the payer's order was about, not what is settled.
    assert_eq!(lines[2].amount, Fen::new(3));
    assert_eq!(lines[2].fee, Fen::new(1));

    let seen = server.seen();
    for one in &seen {
        assert_signed_by(one, MCHID);
    }
    let targets: Vec<_> = seen.iter().map(Seen::target).collect();
    assert_eq!(
        targets,
        [
            "/v3/bill/tradebill?bill_date=2019-02-19&bill_type=ALL&tar_type=GZIP",
            "/v3/billdownload/file?token=a%2Fb%7C",
        ]
    );
}

#[actix_web::test]
async fn movements_of_the_balance_are_read() {
    let published = String::from_utf8(csv(&published("fund_flow_bill"))).unwrap();
    // The page's sample shows one row of twenty: its totals are not that row's.
    let error = read(BillKind::Flows, published.as_bytes()).await;
    assert!(why(error.unwrap_err()).contains("资金流水总笔数"));
    let (rows, _) = published.split_once("资金流水总笔数").unwrap();
    let more = "`2018-02-01 04:22:00,`420000,`19,`交易,`交易,`收入,`0.35,`0.52,`system,`,`x\r\n\
                `2018-02-01 04:22:00,`420000,`19,`扣除交易手续费,`扣除交易手续费,`支出,`0.01,`0.51,`system,`,`x\r\n\
                `2018-02-01 05:00:00,`1,`20,`提现,`提现,`支出,`0.50,`,`someone,`,`\r\n\
                资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n";
    let bill = |totals: &str| format!("{rows}{more}{totals}\r\n");
    let good = bill("`4.0,`1.0,`0.35,`3.0,`0.53");
    let (server, connector) = offering(gzip(good.as_bytes()), sha1(good.as_bytes()));
    let Ok(Bill::Flows(lines)) = connector.bill(BillKind::Flows, DATE).await else {
        panic!("no bill");
    };
    assert_eq!(
        server.seen()[0].target(),
        "/v3/bill/fundflowbill?bill_date=2019-02-19&account_type=BASIC&tar_type=GZIP"
    );
    assert_eq!(
        lines[0],
        FlowLine {
            line: 2,
            at: at_time("2018-02-01 04:21:23"),
            business_no: "50000305742018020103387128253".into(),
            kind: FlowKind::Refund,
            amount: Fen::new(-2),
            balance: Some(Fen::new(17)),
        }
    );
    let told: Vec<_> = lines[1..]
        .iter()
        .map(|line| (line.kind.clone(), line.amount.get(), line.balance))
        .collect();
    assert_eq!(
        told,
        [
            (FlowKind::Payment, 35, Some(Fen::new(52))),
            (FlowKind::Fee, -1, Some(Fen::new(51))),
            (FlowKind::Other("提现".into()), -50, None),
        ]
    );
    for totals in [
        "`5.0,`1.0,`0.35,`3.0,`0.53",
        "`4.0,`2.0,`0.35,`3.0,`0.53",
        "`4.0,`1.0,`0.36,`3.0,`0.53",
        "`4.0,`1.0,`0.35,`2.0,`0.53",
        "`4.0,`1.0,`0.35,`3.0,`0.52",
    ] {
        let error = read(BillKind::Flows, bill(totals).as_bytes()).await;
        assert!(why(error.unwrap_err()).contains("of its rows"), "{totals}");
    }
    let odd = good.replace("`支出,`0.50", "`转移,`0.50");
    let error = read(BillKind::Flows, odd.as_bytes()).await.unwrap_err();
    assert!(matches!(error, BillError::Unreadable { line: 5, .. }));
}

/// Every column that is asked for, in an order of its own.
const COLUMNS: &str = "商户号,交易状态,交易时间,公众账号ID,微信订单号,商户订单号,货币种类,商户退款单号,退款状态,\
                       手续费,订单金额,申请退款金额,商品名称,商户数据包";

fn payment(text: &str) -> String {
    format!(
        "`{MCHID},`SUCCESS,`2019-02-19 08:00:00,`wx1,`4201,`T1,`CNY,`0,`,`0.60000,`100.00,`0.00,`{text},`"
    )
}

fn refund(status: &str) -> String {
    format!(
        "`{MCHID},`REFUND,`2019-02-19 09:00:00,`wx1,`4201,`T1,`CNY,`rfd_1,`{status},`-0.12000,`0.00,`20.00,`费,`"
    )
}

fn bill(rows: &[String], totals: &str) -> String {
    let rows = [&[format!("\u{feff}{COLUMNS}")], rows]
        .concat()
        .join("\r\n");
    format!("{rows}\r\n订单总金额,总交易单数,申请退款总金额\r\n{totals}\r\n")
}

#[actix_web::test]
async fn columns_are_found_by_name_and_commas_stay_in_their_text() {
    for text in [
        "报名费",
        "学费, 住宿费",
        "学费\\, 住宿费",
        "学费\\ 住宿费",
        ",,",
        "a\"b,\"c",
        "",
    ] {
        let rows = [payment(text), refund("SUCCESS")];
        let lines = trades(&bill(&rows, "`100.00,`2.0,`20.0")).await.unwrap();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0].amount, Fen::new(10_000), "{text}");
        assert_eq!((lines[0].fee, lines[1].fee), (Fen::new(60), Fen::new(-12)));
        assert_eq!(lines[1].refund_no.as_deref(), Some("rfd_1"));
        assert_eq!(lines[1].amount, Fen::new(2_000));
    }
    for (word, standing) in [
        ("SUCCESS", LineStanding::Succeeded),
        ("PROCESSING", LineStanding::Processing),
        ("FAIL", LineStanding::Failed),
        ("CHANGE", LineStanding::Abnormal),
    ] {
        let lines = trades(&bill(&[refund(word)], "`0.00,`1.0,`20.0")).await;
        assert_eq!(lines.unwrap()[0].standing, standing);
    }
    assert_eq!(trades(&bill(&[], "`0.00,`0.0,`0.00")).await, Ok(vec![]));
    // Unix line ends, and blank lines at the end.
    let text = bill(&[payment("x")], "`100.00,`1.0,`0.00").replace('\r', "") + "\n\r\n";
    assert_eq!(trades(&text).await.unwrap().len(), 1);
}

/// Before there were coupons, files had fewer columns and other names.
#[actix_web::test]
async fn early_files_are_read() {
    let text = format!(
        "交易时间,公众账号ID,商户号,子商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,\
         货币种类,总金额,企业红包金额,微信退款单号,商户退款单号,退款金额,企业红包退款金额,退款类型,退款状态,\
         商品名称,商户数据包,手续费,费率\n\
         `2019-02-19 08:00:00,`wx1,`{MCHID},`0,`,`4201,`T1,`o,`JSAPI,`SUCCESS,`OTHERS,`CNY,`1.50,`0.00,`0,`0,\
         `0.00,`0.00,`,`,`费,`,`0.01000,`0.60%\n\
         `2019-02-19 09:00:00,`wx1,`{MCHID},`0,`,`4201,`T1,`o,`JSAPI,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`50,`R1,\
         `0.50,`0.00,`ORIGINAL,`SUCCESS,`费,`,`0.00000,`0.60%\n\
         总交易单数,总交易额,总退款金额,总企业红包退款金额,手续费总金额\n`2.0,`1.5,`0.5,`0.0,`0.01\n"
    );
    let lines = trades(&text).await.unwrap();
    assert_eq!(sum(&lines, LineKind::Payment), Fen::new(150));
    assert_eq!(sum(&lines, LineKind::Refund), Fen::new(50));
    for (from, to) in [("`1.5,`0.5", "`1.6,`0.5"), ("`1.5,`0.5", "`1.5,`0.6")] {
        let error = trades(&text.replace(from, to)).await.unwrap_err();
        assert!(why(error).contains("not the sum"));
    }
}

#[actix_web::test]
async fn a_file_that_is_not_what_was_announced_is_not_believed() {
    let text = csv(&published("trade_bill_all"));
    let hash = sha1(&text);
    let mut changed = text.clone();
    let digit = changed.iter().rposition(|byte| *byte == b'7').unwrap();
    changed[digit] = b'8';
    let packed = gzip(&text);
    for (name, file, hash) in [
        ("another hash", packed.clone(), sha1(b"")),
        ("no hash", packed.clone(), String::new()),
        ("the hash of what is packed", packed.clone(), sha1(&packed)),
        ("one digit changed", gzip(&changed), hash.clone()),
        (
            "cut short",
            packed[..packed.len() / 2].to_vec(),
            hash.clone(),
        ),
        ("not packed", text.clone(), hash.clone()),
        ("nothing", vec![], hash.clone()),
        // Read as they come, and stopped: 64 MiB of blanks in 64 KiB.
        ("a bomb", gzip(&vec![b' '; 64 << 20]), hash.clone()),
    ] {
        let (_server, connector) = offering(file, hash);
        let read = connector.bill(BillKind::Trades, DATE).await;
        assert!(
            matches!(read, Err(BillError::Damaged { .. })),
            "{name}: {read:?}"
        );
    }
}

#[actix_web::test]
async fn totals_that_are_not_of_the_rows_are_not_believed() {
    let rows = [payment("x"), refund("SUCCESS")];
    let good = bill(&rows, "`100.00,`2.0,`20.0");
    assert!(trades(&good).await.is_ok());
    for totals in [
        "`100.01,`2.0,`20.0",
        "`100.00,`3.0,`20.0",
        "`100.00,`2.5,`20.0",
        "`100.00,`2.0,`20.01",
    ] {
        let error = trades(&bill(&rows, totals)).await.unwrap_err();
        assert!(why(error).contains("of its rows"), "{totals}");
    }
    let (without_totals, _) = good.split_once("订单总金额,").unwrap();
    let (without_values, _) = good.rsplit_once("`100.00,`2.0").unwrap();
    let without_count = good.replace("总交易单数", "别的");
    let without_column = good.replace("退款状态", "别的");
    for text in [
        without_totals,
        without_values,
        &without_count,
        &without_column,
        "\n",
    ] {
        why(trades(text).await.unwrap_err());
    }
    // Another merchant's line makes the whole file another's.
    let foreign = good.replace(&format!("`{MCHID},`REFUND"), "`1900000001,`REFUND");
    assert!(why(trades(&foreign).await.unwrap_err()).contains("another merchant"));
}

#[actix_web::test]
async fn a_line_that_cannot_be_read_is_named() {
    let rows = [payment("x"), refund("SUCCESS")];
    let good = bill(&rows, "`100.00,`2.0,`20.0");
    let more = format!("{good}{}\r\n", payment("x"));
    for (line, text) in [
        (2, good.replacen("2019-02-19 08", "2019-99-99 08", 1)),
        (2, good.replacen("`SUCCESS,`2019", "`NOTPAY,`2019", 1)),
        (2, good.replacen("`100.00,`0.00", "`1e2,`0.00", 1)),
        (2, good.replacen("`100.00,`0.00", "`-100.00,`0.00", 1)),
        (2, good.replacen("`100.00,`0.00", "`100.001,`0.00", 1)),
        (2, good.replacen("`0.60000", "`free", 1)),
        (2, good.replacen(",`x,`", ",`x", 1)),
        (2, good.replacen(",`x,`", ",`x,`,`", 1)),
        (3, good.replacen("`SUCCESS,`-0.12", "`LOST,`-0.12", 1)),
        (5, good.replacen("`100.00,`2.0", "`many,`2.0", 1)),
        (5, good.replacen("`100.00,`2.0", "`2.0", 1)),
        (6, more),
    ] {
        let error = trades(&text).await.unwrap_err();
        let BillError::Unreadable { line: named, .. } = error else {
            panic!("{error:?}: {text}");
        };
        assert_eq!(named, line, "{text}");
    }
    let mut bytes = good.into_bytes();
    let text = bytes.windows(2).position(|two| two == b"T1").unwrap();
    bytes[text] = 0xff;
    let error = read(BillKind::Trades, &bytes).await.unwrap_err();
    assert!(matches!(error, BillError::Unreadable { line: 2, .. }));
}

#[actix_web::test]
async fn a_day_without_a_bill_is_empty_late_or_refused() {
    let refused_with = |code: &str| BillError::Refused {
        code: code.to_owned(),
    };
    for kind in [BillKind::Trades, BillKind::Flows] {
        for (status, code, expected) in [
            (400, "NO_STATEMENT_EXIST", Ok(Bill::empty(kind))),
            (404, "NO_STATEMENT_EXIST", Ok(Bill::empty(kind))),
            (
                400,
                "STATEMENT_CREATING",
                Err(BillError::NotReady { date: DATE }),
            ),
            (400, "PARAM_ERROR", Err(refused_with("PARAM_ERROR"))),
            (400, "INVALID_REQUEST", Err(refused_with("INVALID_REQUEST"))),
        ] {
            let (server, connector) = connected(move |_| refused(status, code));
            assert_eq!(connector.bill(kind, DATE).await, expected, "{code}");
            assert_eq!(server.seen().len(), 1);
        }
        for (status, code) in [(429, "FREQUENCY_LIMITED"), (500, "SYSTEM_ERROR")] {
            let (_server, connector) = connected(move |_| refused(status, code));
            let read = connector.bill(kind, DATE).await;
            assert!(matches!(read, Err(BillError::Unavailable { .. })), "{code}");
        }
    }
}

#[actix_web::test]
async fn a_dead_link_is_asked_for_anew_once() {
    let text = csv(&published("trade_bill_all"));
    for (deaths, read) in [(1, true), (2, false)] {
        let (packed, hash) = (gzip(&text), sha1(&text));
        let left = AtomicUsize::new(deaths);
        let (server, connector) = connected(move |seen| {
            if !is_file(seen) {
                return signed(200, announcement(seen, &hash).to_string());
            }
            let dead = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            if dead.is_ok() {
                refused(400, "INVALID_REQUEST")
            } else {
                Act::plain(200, packed.clone())
            }
        });
        let bill = connector.bill(BillKind::Trades, DATE).await;
        if read {
            assert!(matches!(bill, Ok(Bill::Trades(lines)) if lines.len() == 45));
        } else {
            let code = "INVALID_REQUEST".to_owned();
            assert_eq!(bill, Err(BillError::Refused { code }));
        }
        assert_eq!(server.count("tradebill"), 2);
        assert_eq!(server.count("file"), 2);
    }
    for (status, code, expected) in [
        (
            403,
            "NO_AUTH",
            Some(BillError::Refused {
                code: "NO_AUTH".to_owned(),
            }),
        ),
        (500, "SYSTEM_ERROR", None),
    ] {
        let (server, connector) = connected(move |seen| {
            if is_file(seen) {
                refused(status, code)
            } else {
                signed(200, announcement(seen, "00").to_string())
            }
        });
        let error = connector.bill(BillKind::Trades, DATE).await.unwrap_err();
        match expected {
            Some(expected) => assert_eq!(error, expected),
            None => assert!(matches!(error, BillError::Unavailable { .. })),
        }
        assert_eq!(server.count("file"), 1);
    }
}

#[actix_web::test]
async fn our_signature_goes_to_no_other_house() {
    let stranger = serve(|_| Act::plain(200, "x"));
    let elsewhere = format!("{}{FILE}", stranger.url);
    for url in [
        elsewhere.as_str(),
        "https://files.example.com/v3/billdownload/file",
        "http://api.mch.weixin.qq.com/v3/billdownload/file",
        "https://api.mch.weixin.qq.com.example.com/x",
        "https://user:secret@api.mch.weixin.qq.com/x",
        "file:///etc/passwd",
        "no address",
    ] {
        let url = url.to_owned();
        let (server, connector) = connected(move |seen| {
            let mut announced = announcement(seen, "00");
            announced["download_url"] = json!(url);
            signed(200, announced.to_string())
        });
        let error = connector.bill(BillKind::Trades, DATE).await.unwrap_err();
        assert!(why(error).contains("address"));
        assert_eq!(server.seen().len(), 1);
    }
    assert!(stranger.seen().is_empty());
    // Unsigned, of another hash, of nothing: no file is asked for.
    let scripts: [fn(&Seen) -> Act; 3] = [
        |seen| Act::plain(200, announcement(seen, "00").to_string()),
        |seen| {
            let mut announced = announcement(seen, "00");
            announced["hash_type"] = json!("MD5");
            signed(200, announced.to_string())
        },
        |_| signed(200, "{}"),
    ];
    for script in scripts {
        let (server, connector) = connected(script);
        assert!(connector.bill(BillKind::Trades, DATE).await.is_err());
        assert_eq!(server.seen().len(), 1);
    }
}
