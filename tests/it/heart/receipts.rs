//! The fiscal e-receipt of an order: only of a paid one, and only once the same.

use enrollpay::order::{FiscalReceipt, WebhookType};

use super::*;

fn paid() -> Bench {
    let mut bench = Bench::made(Product::WechatJsapi);
    let report = bench.capture(FIRST, 1, 3 * SECOND);
    bench.at(4 * SECOND).apply(&Command::Capture(report));
    bench
}

fn receipt(n: u8, issued_at: Timestamp) -> FiscalReceipt {
    FiscalReceipt {
        number: format!("6501{n}").into(),
        url: format!("https://czpj.example.gov.cn/{n}").into(),
        issued_at,
    }
}

#[test]
fn only_a_paid_order_has_one() {
    let mut open = Bench::made(Product::WechatJsapi);
    assert_eq!(open.refused(&issue(1, None)), Refusal::NotPaid);
    let mut closed = Bench::new(terms());
    closed.apply(&Command::Cancel);
    assert_eq!(closed.refused(&issue(1, None)), Refusal::NotPaid);

    // A row that says otherwise is refused, and so is one that has lost it.
    let mut bench = paid();
    let without = bench.order.clone();
    bench.apply(&issue(1, None));
    let with = bench.order.clone();
    let mut forged = open.order.clone();
    forged.fiscal_receipt = with.fiscal_receipt.clone();
    assert_eq!(check(&forged).unwrap_err().invariant, "M7");
    let mut lost = without;
    lost.version = with.version + 1;
    assert_eq!(check_step(&with, &lost).unwrap_err().invariant, "M7");
}

#[test]
fn the_same_again_is_nothing_new_and_another_takes_its_place() {
    let mut bench = paid();
    assert_eq!(bench.at(MINUTE).apply(&issue(1, None)), []);
    assert_eq!(bench.order.fiscal_receipt, Some(receipt(1, at(MINUTE))));
    // Without a time it is the one we know; with the same time too.
    for repeat in [issue(1, None), issue(1, Some(at(MINUTE)))] {
        assert_eq!(bench.at(2 * MINUTE).already(&repeat).0, Answer::Same);
    }
    bench.apply(&issue(1, Some(at(30 * SECOND))));
    bench.apply(&issue(2, None));
    assert_eq!(bench.order.fiscal_receipt, Some(receipt(2, at(2 * MINUTE))));

    // Each of them is told once, and the timeline gives the state back (E5).
    let told = bench
        .log
        .iter()
        .flat_map(|(_, events)| events)
        .filter(|event| event.webhook() == Some(WebhookType::ReceiptIssued))
        .count();
    assert_eq!(told, 3);
    assert_eq!(bench.replayed(), Some(bench.order.clone()));

    // It moves no money, and money moves past it.
    bench.apply(&Command::Refund {
        refund: RefundId::from_ulid(Ulid(1)),
        merchant_refund_no: "R1".into(),
        amount: AMOUNT,
    });
    assert_eq!(bench.order.fiscal_receipt, Some(receipt(2, at(2 * MINUTE))));
}

/// An order, and a timeline, from before there were any.
#[test]
fn an_older_row_reads_as_one_without() {
    let order = paid().order;
    let mut row = serde_json::to_value(&order).unwrap();
    row.as_object_mut().unwrap().remove("fiscal_receipt");
    assert_eq!(serde_json::from_value::<Order>(row).unwrap(), order);
    let event = Event::ReceiptIssued {
        receipt: receipt(1, at(0)),
    };
    let written = serde_json::to_string(&event).unwrap();
    assert!(written.contains("\"type\":\"receipt_issued\""), "{written}");
    assert_eq!(serde_json::from_str::<Event>(&written).unwrap(), event);
}
