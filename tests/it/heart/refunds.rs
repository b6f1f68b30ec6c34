//! Refunds, surplus and odd captures: the rules at their edges.

use enrollpay::order::decide::{
    MOST_REFUNDS, PROCESSING_STUCK_TRIES, QUERY_SPACING_MS, REFUND_STUCK_TRIES,
};
use enrollpay::order::ledger::{self, Book, Line};
use enrollpay::order::refunds::{RefundCause, RefundStanding};
use enrollpay::order::state::MismatchStanding;
use enrollpay::order::{ForeignRefund, OperatorHash, SettleBy};

use super::*;

const ALICE: OperatorHash = PayerHash(11);
const BOB: OperatorHash = PayerHash(12);

/// A paid order: captured at 3 s, heard of at 4 s.
fn paid(product: Product) -> Bench {
    let mut bench = Bench::made(product);
    let report = bench.capture(FIRST, 1, 3 * SECOND);
    bench.at(4 * SECOND).apply(&Command::Capture(report));
    bench
}

/// A paid order whose code was paid once more: the surplus and its refund's id.
fn paid_twice() -> (Bench, RefundId) {
    let mut bench = paid(Product::WechatJsapi);
    let report = bench.capture(FIRST, 2, 5 * SECOND);
    let refund = report.surplus_refund;
    let effects = bench.at(6 * SECOND).apply(&Command::Capture(report));
    assert_eq!(effects, [Effect::Refund { refund }]);
    (bench, refund)
}

fn id(n: u128) -> RefundId {
    RefundId::from_ulid(Ulid(2_000 + n))
}

fn wish(n: u128, fen: i64) -> Command {
    Command::Refund {
        refund: id(n),
        merchant_refund_no: format!("R{n}").into(),
        amount: Fen::new(fen),
    }
}

const fn told(refund: RefundId, answer: RefundAnswer) -> Command {
    Command::RefundAnswer {
        refund,
        round: 0,
        answer,
    }
}

fn standing(bench: &Bench, refund: RefundId) -> RefundStanding {
    bench.order.refund(refund).unwrap().standing
}

fn raised(bench: &Bench, why: Attention) -> usize {
    bench
        .log
        .iter()
        .flat_map(|(_, events)| events)
        .filter(|event| **event == Event::AttentionRaised { why })
        .count()
}

/// Every line of an order's ledger, by replaying its timeline.
fn ledger_of(bench: &Bench) -> Vec<Vec<Line>> {
    let mut entries = Vec::new();
    for upto in 1..=bench.log.len() {
        let commits = &bench.log[..upto];
        let commits = commits.iter().map(|(at, events)| (*at, events.as_slice()));
        let after = replay(bench.order.id, commits).unwrap();
        for event in &bench.log[upto - 1].1 {
            let lines = ledger::lines(&after, event);
            if !lines.is_empty() {
                entries.push(lines);
            }
        }
    }
    entries
}

fn balance(entries: &[Vec<Line>], book: &Book) -> i64 {
    let lines = entries.iter().flatten();
    lines
        .filter(|line| line.book == *book)
        .map(|line| line.amount.get())
        .sum()
}

#[test]
fn a_payment_goes_back_in_parts_and_never_more_than_it_took() {
    let mut bench = paid(Product::AlipayCreate);
    bench.at(MINUTE);
    for wrong in [0, -1, 14_001] {
        assert_eq!(
            bench.refused(&wish(1, wrong)),
            Refusal::RefundExceedsCaptured { remaining: AMOUNT }
        );
    }
    assert_eq!(
        bench.apply(&wish(1, 6_000)),
        [Effect::Refund { refund: id(1) }]
    );
    assert_eq!(bench.already(&wish(1, 6_000)), (Answer::Same, vec![]));
    let other_amount = wish(1, 6_001);
    assert_eq!(
        bench.refused(&other_amount),
        Refusal::RefundNoConflict { existing: id(1) }
    );
    // A pending one holds its share.
    assert_eq!(
        bench.at(2 * MINUTE).refused(&wish(2, 8_001)),
        Refusal::RefundExceedsCaptured {
            remaining: Fen::new(8_000)
        }
    );
    assert_eq!(bench.order.refund_status(), "none");
    bench.apply(&told(id(1), RefundAnswer::Succeeded));
    assert_eq!(bench.order.refund_status(), "partial");
    bench.apply(&wish(2, 8_000));
    // One that failed frees its share.
    bench.apply(&told(id(2), RefundAnswer::Failed));
    bench.at(3 * MINUTE).apply(&wish(3, 8_000));
    bench.apply(&told(id(3), RefundAnswer::Succeeded));
    assert_eq!(bench.order.refund_status(), "full");
    assert_eq!(bench.order.amount_refunded(), AMOUNT);
    assert_eq!(bench.order.status(), Status::Paid, "paid stays paid");
    assert_eq!(bench.order.next_due_at(), None);
    assert_eq!(
        bench.refused(&wish(4, 1)),
        Refusal::RefundExceedsCaptured {
            remaining: Fen::ZERO
        }
    );
    let books = Books {
        captured: AMOUNT,
        surplus_refunded: Fen::ZERO,
        refunded: AMOUNT,
    };
    assert_eq!(check_at_rest(&bench.order, books), Ok(()));
    assert_eq!(bench.replayed().as_ref(), Some(&bench.order));
}

#[test]
fn only_what_is_paid_can_go_back() {
    let mut bench = Bench::made(Product::WechatJsapi);
    assert_eq!(bench.refused(&wish(1, 1)), Refusal::NotRefundable);
    bench.apply(&Command::Cancel);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    let late = bench.capture(FIRST, 1, 3 * SECOND);
    bench.apply(&Command::Capture(late));
    assert_eq!(
        bench.refused(&wish(1, 1)),
        Refusal::NotRefundable,
        "surplus goes back by itself, and merchants never draw on it"
    );
}

#[test]
fn merchants_refunds_never_draw_on_surplus() {
    let (mut bench, surplus) = paid_twice();
    bench.at(MINUTE).apply(&wish(1, 14_000));
    assert_eq!(
        bench.at(5 * MINUTE).refused(&wish(2, 1)),
        Refusal::RefundExceedsCaptured {
            remaining: Fen::ZERO
        }
    );
    bench.apply(&told(id(1), RefundAnswer::Succeeded));
    bench.apply(&told(surplus, RefundAnswer::Succeeded));
    let books = Books {
        captured: Fen::new(28_000),
        surplus_refunded: AMOUNT,
        refunded: AMOUNT,
    };
    assert_eq!(check_at_rest(&bench.order, books), Ok(()));
}

/// Protocol: two refunds of one trade are a minute apart at WeChat Pay, three seconds at Alipay, which
/// counts from the moment at which the first call reached it.
#[test]
fn refunds_of_one_trade_wait_for_their_turn() {
    for (product, spacing) in [
        (Product::WechatJsapi, MINUTE),
        (Product::AlipayCreate, 13 * SECOND),
    ] {
        let mut bench = paid(product);
        let first = bench.at(MINUTE).apply(&wish(1, 100));
        assert_eq!(first, [Effect::Refund { refund: id(1) }]);
        // Accepted at once, asked for in turn.
        assert_eq!(bench.apply(&wish(2, 100)), []);
        assert_eq!(bench.apply(&wish(3, 100)), []);
        bench.apply(&told(id(1), RefundAnswer::Succeeded));
        for n in [2, 3] {
            let due = bench.order.next_due_at().unwrap();
            let turn = i64::try_from(n - 1).unwrap() * spacing;
            assert_eq!(due, at(MINUTE + turn));
            bench.now = due;
            assert_eq!(bench.tick(), [Effect::Refund { refund: id(n) }]);
            bench.apply(&told(id(n), RefundAnswer::Succeeded));
        }
        assert_eq!(bench.order.next_due_at(), None);
    }
}

#[test]
fn fifty_refunds_are_the_most() {
    let mut bench = paid(Product::AlipayCreate);
    for n in 0..u128::try_from(MOST_REFUNDS).unwrap() {
        bench.now = bench.now.plus_ms(MINUTE);
        bench.apply(&wish(n, 1));
        bench.apply(&told(id(n), RefundAnswer::Succeeded));
    }
    assert_eq!(bench.refused(&wish(99, 1)), Refusal::TooManyRefunds);
}

#[test]
fn every_try_has_the_same_number_and_every_refund_its_own() {
    let (mut bench, surplus) = paid_twice();
    let report = bench.capture(FIRST, 3, 5 * SECOND);
    let again = report.surplus_refund;
    bench.apply(&Command::Capture(report));
    bench.at(MINUTE).apply(&wish(1, 100));
    let number = |bench: &Bench, refund| bench.order.refund(refund).unwrap().number(&bench.order);
    let trade = "0000000000000000000000000701";
    assert_eq!(number(&bench, surplus), format!("{trade}S"));
    assert_eq!(number(&bench, again), format!("{trade}S1"));
    assert_eq!(number(&bench, id(1)), id(1).to_string());
    for _ in 0..5 {
        bench.now = bench.order.next_due_at().unwrap();
        bench.tick();
        assert_eq!(number(&bench, surplus), format!("{trade}S"));
    }
    for refund in [surplus, again, id(1)] {
        let number = number(&bench, refund);
        assert_eq!(bench.order.refund_numbered(&number).unwrap().id, refund);
    }
    assert_eq!(bench.order.refund_numbered(&format!("{trade}S2")), None);
}

/// A refund to a bank card takes days: the questions thin out, and nobody is called before the fifth.
#[test]
fn an_accepted_refund_is_waited_for() {
    let mut bench = paid(Product::WechatJsapi);
    bench.at(MINUTE).apply(&wish(1, 14_000));
    bench.apply(&told(id(1), RefundAnswer::Processing));
    assert_eq!(
        bench.already(&told(id(1), RefundAnswer::Processing)),
        (Answer::Same, vec![])
    );
    assert_eq!(standing(&bench, id(1)).as_str(), "pending");
    let accepted = bench.now;
    for tries in 2..=PROCESSING_STUCK_TRIES {
        assert_eq!(raised(&bench, Attention::RefundStuck), 0, "{tries}");
        bench.now = bench.order.next_due_at().unwrap();
        assert_eq!(bench.tick(), [Effect::Refund { refund: id(1) }]);
    }
    assert_eq!(raised(&bench, Attention::RefundStuck), 1);
    let days = bench.now.since(accepted) / (24 * 60 * MINUTE);
    assert!((4..7).contains(&days), "{days} days");
    bench.apply(&told(id(1), RefundAnswer::Succeeded));
    assert_eq!(bench.order.next_due_at(), None);
}

#[test]
fn an_empty_till_calls_a_person_once_and_the_tries_go_on() {
    let mut bench = paid(Product::WechatJsapi);
    bench.at(MINUTE).apply(&wish(1, 14_000));
    bench.apply(&told(id(1), RefundAnswer::Underfunded));
    assert_eq!(
        bench.already(&told(id(1), RefundAnswer::Underfunded)).0,
        Answer::Same
    );
    assert_eq!(raised(&bench, Attention::RefundUnderfunded), 1);
    bench.now = bench.order.next_due_at().unwrap();
    assert_eq!(bench.tick(), [Effect::Refund { refund: id(1) }]);
    bench.apply(&told(id(1), RefundAnswer::Succeeded));
    assert_eq!(bench.order.refund_status(), "full");
}

#[test]
fn an_abnormal_refund_waits_for_a_person_and_is_mended() {
    let mut bench = paid(Product::WechatJsapi);
    bench.at(MINUTE).apply(&wish(1, 14_000));
    let repair = Command::RepairRefund { refund: id(1) };
    assert_eq!(bench.refused(&repair), Refusal::RefundStands);
    bench.apply(&told(id(1), RefundAnswer::Processing));
    bench.apply(&told(id(1), RefundAnswer::Abnormal));
    assert_eq!(standing(&bench, id(1)).as_str(), "abnormal");
    assert_eq!(raised(&bench, Attention::RefundAbnormal), 1);
    // An answer that was under way before does not take it back.
    assert_eq!(
        bench.already(&told(id(1), RefundAnswer::Processing)).0,
        Answer::Same
    );
    // The money may still leave: it counts.
    assert_eq!(
        bench.refused(&wish(2, 1)),
        Refusal::RefundExceedsCaptured {
            remaining: Fen::ZERO
        }
    );
    // Somebody may mend it at the provider: it is asked about, rarely.
    bench.now = bench.order.next_due_at().unwrap();
    assert_eq!(bench.tick(), [Effect::Refund { refund: id(1) }]);

    let mend = [Effect::RepairRefund { refund: id(1) }];
    assert_eq!(bench.apply(&repair), mend);
    assert_eq!(bench.already(&repair).0, Answer::AskedJustNow);
    // No answer: told again.
    bench.now = bench.order.next_due_at().unwrap();
    assert_eq!(bench.tick(), mend);
    bench.apply(&told(id(1), RefundAnswer::Processing));
    bench.apply(&told(id(1), RefundAnswer::Succeeded));
    assert_eq!(bench.order.refund_status(), "full");
    assert_eq!(bench.order.next_due_at(), None);
}

#[test]
fn what_the_provider_refused_for_good_begins_anew_under_a_new_number() {
    let (mut bench, surplus) = paid_twice();
    let retry = Command::RetryRefund { refund: surplus };
    assert_eq!(bench.already(&retry).0, Answer::AskedJustNow);
    bench.now = bench.now.plus_ms(QUERY_SPACING_MS);
    let ask = [Effect::Refund { refund: surplus }];
    assert_eq!(bench.apply(&retry), ask, "asked sooner than due");
    bench.apply(&told(surplus, RefundAnswer::Failed));
    assert_eq!(raised(&bench, Attention::SurplusRefundFailed), 1);
    let number = |bench: &Bench| bench.order.refund(surplus).unwrap().number(&bench.order);
    let first = number(&bench);
    assert_eq!(bench.apply(&retry), ask);
    assert_eq!(number(&bench), format!("{first}R1"));
    bench.apply(&told(surplus, RefundAnswer::Succeeded));
    assert_eq!(bench.refused(&retry), Refusal::RefundStands);

    // A merchant asks again with a number of its own.
    bench.at(5 * MINUTE).apply(&wish(1, 100));
    bench.apply(&told(id(1), RefundAnswer::Failed));
    assert_eq!(
        bench.refused(&Command::RetryRefund { refund: id(1) }),
        Refusal::RefundStands
    );
    assert_eq!(
        bench.refused(&Command::RetryRefund { refund: id(9) }),
        Refusal::UnknownRefund
    );
}

/// The provider's "no" to a merchant's refund turns out to be a yes, when the money was asked for again.
#[test]
fn a_success_after_a_failure_counts_only_while_the_payment_has_it() {
    for other in [false, true] {
        let mut bench = paid(Product::AlipayCreate);
        bench.at(MINUTE).apply(&wish(1, 14_000));
        bench.apply(&told(id(1), RefundAnswer::Failed));
        if other {
            bench.at(2 * MINUTE).apply(&wish(2, 14_000));
        }
        bench.apply(&told(id(1), RefundAnswer::Succeeded));
        let counted = standing(&bench, id(1)).as_str() == "succeeded";
        assert_eq!(counted, !other);
        assert_eq!(raised(&bench, Attention::ForeignRefund) == 1, other);
    }
}

#[test]
fn a_refund_without_any_answer_calls_a_person() {
    let (mut bench, surplus) = paid_twice();
    for _ in 2..=REFUND_STUCK_TRIES {
        assert_eq!(raised(&bench, Attention::RefundStuck), 0);
        bench.now = bench.order.next_due_at().unwrap();
        assert_eq!(bench.tick(), [Effect::Refund { refund: surplus }]);
    }
    assert_eq!(raised(&bench, Attention::RefundStuck), 1);
}

/// An odd capture: 139.99 where 140.00 was asked for.
fn odd(tamper: impl Fn(&mut CaptureReport)) -> Bench {
    let mut bench = Bench::made(Product::WechatJsapi);
    let mut report = bench.capture(FIRST, 1, 3 * SECOND);
    report.amount = Fen::new(13_999);
    tamper(&mut report);
    bench.apply(&Command::Capture(report));
    bench
}

const fn settle(by: SettleBy, operator: OperatorHash) -> Command {
    Command::SettleMismatch {
        mismatch: 0,
        by,
        operator,
        refund: RefundId::from_ulid(Ulid(3_000)),
    }
}

#[test]
fn an_odd_capture_is_settled_by_two_people_and_never_pays() {
    let refund = RefundId::from_ulid(Ulid(3_000));
    let mut bench = odd(|_| ());
    assert_eq!(bench.apply(&settle(SettleBy::Refund, ALICE)), []);
    assert_eq!(
        bench.already(&settle(SettleBy::Refund, ALICE)).0,
        Answer::Same,
        "the same person twice is one person"
    );
    assert_eq!(
        bench.refused(&settle(SettleBy::Outside, BOB)),
        Refusal::OtherProposal
    );
    // Second thoughts of the first.
    bench.apply(&settle(SettleBy::Outside, ALICE));
    bench.apply(&settle(SettleBy::Refund, ALICE));
    assert_eq!(
        bench.apply(&settle(SettleBy::Refund, BOB)),
        [Effect::Refund { refund }]
    );
    for operator in [ALICE, BOB] {
        assert_eq!(
            bench.refused(&settle(SettleBy::Refund, operator)),
            Refusal::MismatchSettled
        );
    }
    let known = bench.order.refund(refund).unwrap();
    assert_eq!(known.cause, RefundCause::Mismatch);
    assert_eq!(known.amount, Fen::new(13_999));
    assert!(known.number(&bench.order).ends_with("01M0"));
    bench.apply(&told(refund, RefundAnswer::Failed));
    assert_eq!(raised(&bench, Attention::MismatchRefundFailed), 1);
    bench.apply(&Command::RetryRefund { refund });
    bench.apply(&told(refund, RefundAnswer::Succeeded));
    assert!(bench.order.mismatches[0].is_settled());
    assert_eq!(bench.order.payment(), None);
    assert_ne!(bench.order.status(), Status::Paid);
    assert_eq!(bench.replayed().as_ref(), Some(&bench.order));

    let mut bench = odd(|_| ());
    bench.apply(&settle(SettleBy::Outside, ALICE));
    assert_eq!(bench.apply(&settle(SettleBy::Outside, BOB)), []);
    assert!(matches!(
        bench.order.mismatches[0].standing,
        MismatchStanding::SettledOutside { .. }
    ));
    let nobody = Command::SettleMismatch {
        mismatch: 1,
        by: SettleBy::Outside,
        operator: ALICE,
        refund,
    };
    assert_eq!(bench.refused(&nobody), Refusal::UnknownMismatch);
}

#[test]
fn another_currency_cannot_go_back_by_itself() {
    let mut bench = odd(|report| report.currency = "USD".into());
    assert_eq!(
        bench.refused(&settle(SettleBy::Refund, ALICE)),
        Refusal::CannotGoBack
    );
    bench.apply(&settle(SettleBy::Outside, ALICE));
    bench.apply(&settle(SettleBy::Outside, BOB));
    assert!(bench.order.mismatches[0].is_settled());
    assert_eq!(ledger_of(&bench), Vec::<Vec<Line>>::new(), "no fen moved");
}

#[test]
fn a_refund_by_the_providers_console_is_evidence_and_calls_a_person_once() {
    let mut bench = paid(Product::WechatJsapi);
    let foreign = |attempt, amount| {
        Command::ForeignRefund(ForeignRefund {
            attempt,
            number: "console-1".into(),
            amount,
        })
    };
    let heard = foreign(FIRST, Some(Fen::new(100)));
    bench.apply(&heard);
    assert_eq!(bench.already(&heard).0, Answer::Same);
    assert_eq!(raised(&bench, Attention::ForeignRefund), 1);
    assert_eq!(bench.order.amount_refunded(), Fen::ZERO);
    assert_eq!(
        bench.refused(&foreign(number(9), None)),
        Refusal::UnknownAttempt
    );
}

/// M9: every movement's lines sum to zero, and the books hold what was captured and given back.
#[test]
fn the_ledger_follows_the_money() {
    let (mut bench, surplus) = paid_twice();
    bench.at(MINUTE).apply(&wish(1, 6_000));
    bench.apply(&wish(2, 500));
    bench.apply(&told(id(1), RefundAnswer::Succeeded));
    bench.apply(&told(id(2), RefundAnswer::Failed));
    let mut report = bench.capture(FIRST, 9, 7 * SECOND);
    report.amount = Fen::new(77);
    bench.apply(&Command::Capture(report));
    let wechat = Book::Provider(AccountId::new("school-wechat"));
    let entries = ledger_of(&bench);
    for lines in &entries {
        assert_eq!(lines.iter().map(|line| line.amount.get()).sum::<i64>(), 0);
    }
    let of = |entries: &[Vec<Line>], book: Book| balance(entries, &book);
    assert_eq!(balance(&entries, &wechat), 14_000 + 14_000 + 77 - 6_000);
    assert_eq!(of(&entries, Book::Merchant), -(14_000 - 6_000));
    assert_eq!(of(&entries, Book::Surplus), -14_000);
    assert_eq!(of(&entries, Book::Suspense), -77);

    bench.apply(&told(surplus, RefundAnswer::Succeeded));
    bench.apply(&settle(SettleBy::Outside, ALICE));
    bench.apply(&settle(SettleBy::Outside, BOB));
    let entries = ledger_of(&bench);
    assert_eq!(of(&entries, Book::Surplus), 0);
    assert_eq!(of(&entries, Book::Suspense), 0);
    assert_eq!(of(&entries, Book::Outside), -77);
    assert_eq!(balance(&entries, &wechat), 14_000 + 77 - 6_000);
}

/// The answer to a number that was given up comes late: a "no" says nothing of the present one, a "yes"
/// is a fact, and then there is no more money for the present one.
#[test]
fn only_a_success_counts_of_a_number_that_was_given_up() {
    let (mut bench, surplus) = paid_twice();
    let of = |round, answer| Command::RefundAnswer {
        refund: surplus,
        round,
        answer,
    };
    let first = bench.order.refund(surplus).unwrap().number(&bench.order);
    bench.apply(&of(0, RefundAnswer::Failed));
    bench.apply(&Command::RetryRefund { refund: surplus });
    bench.apply(&of(1, RefundAnswer::Processing));
    for late in [
        RefundAnswer::Failed,
        RefundAnswer::Processing,
        RefundAnswer::Abnormal,
    ] {
        assert_eq!(bench.already(&of(0, late)).0, Answer::Stale);
    }
    assert_eq!(
        bench.already(&of(2, RefundAnswer::Succeeded)).0,
        Answer::Stale
    );
    assert_eq!(bench.order.refund_numbered(&first).unwrap().round(), 0);
    let mut revived = bench.clone();
    revived.apply(&of(0, RefundAnswer::Succeeded));
    let known = revived.order.refund(surplus).unwrap();
    assert_eq!(known.standing.as_str(), "succeeded");
    assert_eq!(known.number(&revived.order), first);
    assert_eq!(revived.order.next_due_at(), None);
    assert_eq!(revived.replayed().as_ref(), Some(&revived.order));

    bench.apply(&of(1, RefundAnswer::Succeeded));
    assert_eq!(
        bench.already(&of(0, RefundAnswer::Succeeded)).0,
        Answer::Stale
    );
}

/// A trade that took odd money can be neither paid nor closed any more: the provider's own answer ends its
/// attempt, and the order goes on to its end. A notice proves less.
#[test]
fn odd_money_found_by_our_own_question_ends_the_attempt() {
    for closing in [false, true] {
        let mut bench = odd(|_| ());
        if closing {
            bench.apply(&Command::Cancel);
        }
        assert!(bench.order.live_attempt().is_some(), "told by a notice");
        let mut report = bench.capture(FIRST, 1, 3 * SECOND);
        report.amount = Fen::new(13_999);
        let answer = queried(FIRST, QueryAnswer::Paid(report));
        bench.apply(&answer);
        assert_eq!(bench.order.live_attempt(), None);
        assert_eq!(bench.order.mismatches.len(), 1);
        assert_eq!(
            bench.order.status(),
            if closing {
                Status::Closed
            } else {
                Status::Unpaid
            }
        );
        assert_eq!(bench.already(&answer).0, Answer::Same);
    }
}

/// One transaction is one sum of money: told of in two odd ways, or rightly in the end, it counts once,
/// and the payment itself can never go back as odd money.
#[test]
fn one_transaction_counts_once() {
    let wechat = Book::Provider(AccountId::new("school-wechat"));
    let mut bench = odd(|_| ());
    let mut again = bench.capture(FIRST, 1, 3 * SECOND);
    again.currency = "USD".into();
    bench.apply(&Command::Capture(again));
    assert_eq!(balance(&ledger_of(&bench), &wechat), 13_999);
    let good = bench.capture(FIRST, 1, 3 * SECOND);
    bench.apply(&Command::Capture(good));
    assert_eq!(bench.order.status(), Status::Paid);
    let entries = ledger_of(&bench);
    assert_eq!(balance(&entries, &wechat), 14_000);
    assert_eq!(balance(&entries, &Book::Suspense), 0);
    assert_eq!(
        bench.refused(&settle(SettleBy::Refund, ALICE)),
        Refusal::CannotGoBack
    );
    bench.apply(&settle(SettleBy::Outside, ALICE));
    bench.apply(&settle(SettleBy::Outside, BOB));
    let entries = ledger_of(&bench);
    assert_eq!(balance(&entries, &wechat), 14_000);
    assert_eq!(balance(&entries, &Book::Outside), 0);
    for lines in &entries {
        assert_eq!(lines.iter().map(|line| line.amount.get()).sum::<i64>(), 0);
    }
}
