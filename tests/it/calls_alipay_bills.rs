//! Alipay's bills from a server on loopback: what is fetched, what is read of it, and what is not believed.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::io::{Cursor, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use enrollpay::order::Fen;
use enrollpay::provider::alipay::{Connector, Settings};
use enrollpay::provider::bill::{LineKind, LineStanding, TradeLine};
use enrollpay::provider::{Bill, BillError, BillKind, Provider};
use jiff::civil::{Date, date};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use crate::calls_alipay::{at, business, connect, failure, sent, signed, unsigned};
use crate::loopback::{Act, Seen, Server, serve};
use crate::vectors_wechatpay::CLOCK;

/// The day before yesterday, by the tests' clock: its bill has long been made.
const DATE: Date = date(2025, 12, 30);
const FILE: &str = "/downloadBillFile.resource";
const DETAILS: &str = "20880000000000010156_20251230_业务明细.csv";
const SUMMARY: &str = "20880000000000010156_20251230_业务明细(汇总).csv";

fn published() -> String {
    let text = include_str!("../vectors/alipay-bill.json");
    let document: Value = serde_json::from_str(text).unwrap();
    document["csv_utf8"].as_str().unwrap().to_owned()
}

fn gbk(text: &str) -> Vec<u8> {
    encoding_rs::GBK.encode(text).0.into_owned()
}

/// An archive as Alipay makes it: names in GBK.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let name = gbk(name);
        archive
            .start_file_with_options(SimpleFileOptions::default().name(&name))
            .unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn zipped(text: &str) -> Vec<u8> {
    archive(&[(SUMMARY, &gbk("#汇总\n")), (DETAILS, &gbk(text))])
}

fn link(seen: &Seen) -> Value {
    let host = &seen.headers["host"];
    json!({
        "code": "10000", "msg": "Success",
        "bill_download_url": format!("http://{host}{FILE}?bizType=trade&fileId=%2Fx"),
    })
}

fn connected(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> (Server, Connector) {
    let server = serve(script);
    let connector = connect(at(&server.url));
    (server, connector)
}

fn offering(packed: Vec<u8>) -> (Server, Connector) {
    connected(move |seen| {
        if seen.path == FILE {
            Act::plain(200, packed.clone())
        } else {
            signed(seen, &link(seen))
        }
    })
}

async fn read(packed: Vec<u8>) -> Result<Vec<TradeLine>, BillError> {
    let (_server, connector) = offering(packed);
    match connector.bill(BillKind::Trades, DATE).await? {
        Bill::Trades(lines) => Ok(lines),
        Bill::Flows(_) => panic!("another bill"),
    }
}

#[actix_web::test]
async fn the_published_bill_has_its_lines_and_sums() {
    let (server, connector) = offering(zipped(&published()));
    let Ok(Bill::Trades(lines)) = connector.bill(BillKind::Trades, DATE).await else {
        panic!("no bill");
    };
    let day = |minutes: i64| CLOCK.minus_ms(24 * 3_600_000).plus_ms(minutes * 60_000);
    let payment = TradeLine {
        line: 6,
        kind: LineKind::Payment,
        out_trade_no: "EP20251231080000000001".into(),
        transaction_id: "2025123122001400000000000001".into(),
        application: None,
        amount: Fen::new(12_850),
        currency: "CNY".into(),
        at: day(1).plus_ms(30_000),
        standing: LineStanding::Succeeded,
        refund_no: None,
        fee: Fen::new(77),
    };
    let refund = TradeLine {
        line: 7,
        kind: LineKind::Refund,
        amount: Fen::new(2_850),
        at: day(60),
        refund_no: Some("RF20251231080000000001".into()),
        fee: Fen::new(-17),
        ..payment.clone()
    };
    assert_eq!(lines, [payment, refund]);
    let seen = server.seen();
    assert_eq!(
        sent(&seen[0])["method"],
        "alipay.data.dataservice.bill.downloadurl.query"
    );
    assert_eq!(
        business(&seen[0]),
        json!({ "bill_type": "trade", "bill_date": "2025-12-30" })
    );
    // The file is asked for without anything of ours.
    assert_eq!(
        seen[1].target(),
        format!("{FILE}?bizType=trade&fileId=%2Fx")
    );
    assert_eq!(
        (seen[1].method.as_str(), seen[1].body.as_str()),
        ("GET", "")
    );
    assert!(!seen[1].headers.contains_key("authorization"));
}

#[actix_web::test]
async fn account_flows_are_not_offered() {
    let (server, connector) = offering(zipped(&published()));
    let read = connector.bill(BillKind::Flows, DATE).await;
    assert_eq!(read, Err(BillError::NotOffered));
    assert!(server.seen().is_empty());
}

/// Moves the last column of every row to the front.
fn turned(text: &str) -> String {
    text.lines()
        .map(|line| match line.rsplit_once(',') {
            Some((rest, last)) if !line.starts_with('#') => format!("{last},{rest}\r\n"),
            _ => format!("{line}\r\n"),
        })
        .collect()
}

#[actix_web::test]
async fn columns_are_found_by_name_and_commas_stay_in_their_text() {
    let original = read(zipped(&published())).await.unwrap();
    let text = published();
    for same in [
        turned(&text),
        text.replace("券名称,", "")
            .replace(",0.00,,0.00", ",0.00,0.00"),
        text.replace('（', "(").replace('）', ")"),
        text.replace(",报名费,", ",报名费,春,季,"),
        text.replace("0.00,\n", "0.00,a,b\n"),
        text.replace(",报名费,", ",\"报名费,"),
        text.replace("-28.50", "28.50"),
        format!("{text}\n\n#导出时间：[2026年01月01日 09:00:00]\n"),
        format!(
            "{text}#交易合计：1笔，商家实收共128.50元，商家优惠共0.00元\n#退款合计：1笔，商家实收退款共-28.50元\n"
        ),
    ] {
        assert_ne!(same, text);
        assert_eq!(read(zipped(&same)).await.as_ref(), Ok(&original), "{same}");
    }
}

#[actix_web::test]
async fn a_file_that_is_not_whole_is_not_believed() {
    let text = published();
    let sheet = gbk(&text);
    let good = zipped(&text);
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    let stored = {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file("bill.csv", options).unwrap();
        archive.write_all(&sheet).unwrap();
        archive.finish().unwrap().into_inner()
    };
    assert!(read(stored.clone()).await.is_ok());
    let amount = stored.windows(6).position(|six| six == b"128.50").unwrap();
    let mut another_amount = stored;
    another_amount[amount] = b'9';
    let many: Vec<_> = (0..17).map(|number| format!("{number}.txt")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    for (name, packed) in [
        ("a changed byte", changed),
        ("another amount", another_amount),
        ("cut short", good[..good.len() / 2].to_vec()),
        ("nothing but a summary", archive(&[(SUMMARY, &sheet)])),
        (
            "two sheets",
            archive(&[(DETAILS, &sheet), ("x.CSV", &sheet)]),
        ),
        ("a text", archive(&[("x.txt", &sheet)])),
        ("many files", archive(&many)),
        ("an empty archive", archive(&[])),
        ("an empty sheet", zipped("")),
        (
            "no end",
            zipped(&text.replace(
                "#-----------------------------------------业务明细列表结束",
                "结束",
            )),
        ),
        ("no rows and no header", zipped("#\n#\n")),
        (
            "another seller",
            zipped(&text.replace("20880000000000010156", "20880000000000020156")),
        ),
        (
            "a column missing",
            zipped(&text.replace("完成时间", "时间")),
        ),
        ("a bomb", archive(&[(DETAILS, &vec![b' '; 64 << 20])])),
        (
            "another count",
            zipped(&format!("{text}#交易合计：2笔，商家实收共128.50元\n")),
        ),
        (
            "another sum",
            zipped(&format!("{text}#交易合计：1笔，商家实收共128.51元\n")),
        ),
        (
            "another count of refunds",
            zipped(&format!("{text}#退款合计：0笔，商家实收退款共-28.50元\n")),
        ),
        (
            "another sum of refunds",
            zipped(&format!("{text}#退款合计：1笔，商家实收退款共-28.51元\n")),
        ),
    ] {
        let read = read(packed).await;
        let is_known = matches!(
            &read,
            Err(BillError::Damaged { date: DATE, .. } | BillError::Unreadable { line: 8, .. })
        );
        assert!(is_known, "{name}: {read:?}");
    }
}

#[actix_web::test]
async fn a_line_that_cannot_be_read_is_named() {
    let text = published();
    for (line, wrong) in [
        (
            6,
            text.replacen("2025-12-31 08:01:30", "2025-12-99 08:01:30", 1),
        ),
        (6, text.replacen(",128.50,128.50,", ",-128.50,-128.50,", 1)),
        (6, text.replacen(",128.50,128.50,", ",1e2,128.50,", 1)),
        (6, text.replacen("交易\t", "充值\t", 1)),
        (6, text.replacen("-0.77", "free", 1)),
        (7, text.replacen("-28.50,-28.50", "-28.50", 1)),
        (9, format!("{text}{}\n", text.lines().nth(5).unwrap())),
    ] {
        let error = read(zipped(&wrong)).await.unwrap_err();
        let BillError::Unreadable { line: named, .. } = error else {
            panic!("{error:?}: {wrong}");
        };
        assert_eq!(named, line, "{wrong}");
    }
    let mut sheet = gbk(&text);
    let number = sheet.windows(6).position(|six| six == b"EP2025").unwrap();
    sheet[number..number + 2].copy_from_slice(&[0xff, 0xff]);
    let error = read(archive(&[(DETAILS, &sheet)])).await.unwrap_err();
    assert!(matches!(error, BillError::Unreadable { line: 6, .. }));
}

#[actix_web::test]
async fn a_day_without_a_bill_is_empty_late_or_refused() {
    // It is eight in the morning of the first of January.
    let yesterday = date(2025, 12, 31);
    for code in [
        "NO_BILL_DATA",
        "BILL_NOT_EXIST",
        "isv.EMPTY_DATA_WITH_BILL_FILE",
    ] {
        let (_server, connector) = connected(move |seen| signed(seen, &failure("40004", code)));
        let empty = Ok(Bill::Trades(vec![]));
        assert_eq!(
            connector.bill(BillKind::Trades, DATE).await,
            empty,
            "{code}"
        );
        let late = connector.bill(BillKind::Trades, yesterday).await;
        assert_eq!(late, Err(BillError::NotReady { date: yesterday }), "{code}");
        // Nobody signed it: it proves nothing.
        let (_server, connector) = connected(move |seen| unsigned(seen, &failure("40004", code)));
        let read = connector.bill(BillKind::Trades, DATE).await;
        assert!(matches!(read, Err(BillError::Unavailable { .. })), "{code}");
    }
    let (server, connector) = connected(|seen| {
        let mut empty = link(seen);
        empty["bill_file_code"] = json!("EMPTY_DATA_WITH_BILL_FILE");
        signed(seen, &empty)
    });
    let read = connector.bill(BillKind::Trades, DATE).await;
    assert_eq!(read, Ok(Bill::Trades(vec![])));
    assert_eq!(server.seen().len(), 1);
    for (code, sub_code, is_refused) in [
        ("40004", "INVAILID_ARGUMENTS", true),
        ("40006", "isv.insufficient-isv-permissions", true),
        ("40004", "UNKNOW_ERROR", false),
        ("40004", "SYSTEM_RATE_LIMIT", false),
        ("40005", "isv.app-call-limited", false),
        ("20000", "isp.unknow-error", false),
    ] {
        let (_server, connector) = connected(move |seen| signed(seen, &failure(code, sub_code)));
        let error = connector.bill(BillKind::Trades, DATE).await.unwrap_err();
        if is_refused {
            let code = sub_code.to_owned();
            assert_eq!(error, BillError::Refused { code });
        } else {
            assert!(matches!(error, BillError::Unavailable { .. }), "{sub_code}");
        }
    }
}

#[actix_web::test]
async fn a_dead_link_is_asked_for_anew_once() {
    // With a page, or with a refusal: how it answers is published nowhere.
    for status in [200, 403, 404] {
        for (deaths, is_read) in [(1, true), (2, false)] {
            let packed = zipped(&published());
            let left = AtomicUsize::new(deaths);
            let (server, connector) = connected(move |seen| {
                if seen.path != FILE {
                    return signed(seen, &link(seen));
                }
                let dead = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
                if dead.is_ok() {
                    Act::plain(status, "<html>")
                } else {
                    Act::plain(200, packed.clone())
                }
            });
            let read = connector.bill(BillKind::Trades, DATE).await;
            if is_read {
                assert!(matches!(read, Ok(Bill::Trades(lines)) if lines.len() == 2));
            } else {
                assert!(matches!(read, Err(BillError::Unavailable { .. })));
            }
            assert_eq!(server.count("gateway.do"), 2);
            assert_eq!(server.count(FILE), 2);
        }
    }
    let (server, connector) = connected(|seen| {
        if seen.path == FILE {
            Act::plain(502, "<html>")
        } else {
            signed(seen, &link(seen))
        }
    });
    let read = connector.bill(BillKind::Trades, DATE).await;
    assert!(matches!(read, Err(BillError::Unavailable { .. })));
    assert_eq!(server.count(FILE), 1);
}

#[actix_web::test]
async fn a_file_is_fetched_over_https_or_from_home() {
    let stranger = serve(|_| Act::plain(200, zipped(&published())));
    let elsewhere = format!("{}{FILE}", stranger.url);
    for url in [
        json!(elsewhere),
        json!("http://dwbillcenter.alipay.com/downloadBillFile.resource"),
        json!("https://user@dwbillcenter.alipay.com/x"),
        json!("file:///etc/passwd"),
        json!("no address"),
        Value::Null,
    ] {
        let (server, connector) = connected(move |seen| {
            let mut answer = link(seen);
            answer["bill_download_url"] = url.clone();
            signed(seen, &answer)
        });
        let read = connector.bill(BillKind::Trades, DATE).await;
        assert!(matches!(read, Err(BillError::Damaged { .. })), "{read:?}");
        assert_eq!(server.seen().len(), 1);
    }
    assert!(stranger.seen().is_empty());
    // Without a configured seller, whose file it is stays open.
    let text = published().replace("20880000000000010156", "20880000000000020156");
    let server = serve(move |seen| {
        if seen.path == FILE {
            Act::plain(200, zipped(&text))
        } else {
            signed(seen, &link(seen))
        }
    });
    let connector = connect(Settings {
        seller_id: None,
        ..at(&server.url)
    });
    assert!(connector.bill(BillKind::Trades, DATE).await.is_ok());
}
