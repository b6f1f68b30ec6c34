//! One order for every state of the page: for the tests of this room, and to look at
//! (`ENROLLPAY_PREVIEW=folder cargo test --lib preview`).

use std::sync::Arc;

use ulid::Ulid;

use super::panel::{Panel, Scene};
use super::state::State;
use super::times::Zone;
use crate::http::words::Language;
use crate::order::attempt::{
    Attempt, Claim, Closing, ClosingCause, ClosingStep, EndReason, Phase, Queries, Trade,
    TradeStanding,
};
use crate::order::state::{
    Capture, CaptureStanding, Mismatch, MismatchStanding, MismatchedField, RefundStanding,
};
use crate::order::{
    AccountId, AttemptId, AttemptNumber, CloseReason, CodeMode, Fen, LatePayment, MerchantId,
    Offer, Order, OrderId, PayerHash, Product, RefundId, Settlement, Terms, Timestamp, Wallet,
};
use crate::random::SeededRandom;
use crate::sealing::Sealer;
use crate::store::{
    DuplicatePolicy, Item, MaskedPayer, Masks, Merchant, OrderSnapshot, PayerIdentity, StoredOrder,
};
use crate::view::View;

/// 2026-11-20 10:30:00 in Beijing.
pub const NOW: Timestamp = Timestamp::from_seconds(1_795_141_800);
pub const TOKEN: &str = "Zm9vYmFyYmF6cXV4MTIzNA";

pub fn view() -> View {
    View {
        public_url: "https://pay.example.edu.cn".to_owned(),
        zone_minutes: 480,
        sealer: Sealer::new(
            &[(1, [3; 32])],
            &[1; 32],
            &[2; 32],
            Arc::new(SeededRandom::new(7)),
        ),
    }
}

pub fn merchant() -> Merchant {
    Merchant {
        id: MerchantId::from_ulid(Ulid(5)),
        name: "xj".to_owned(),
        display_name: "新疆自学考试办公室".to_owned(),
        help_lines: [
            Some("0991-2345678（工作日 9:30–19:00）".to_owned()),
            Some("各地州考试中心".to_owned()),
        ],
        webhook_url: None,
        webhook_secrets: Vec::new(),
        return_hosts: Vec::new(),
        duplicate: DuplicatePolicy::Warn,
        masks: Masks::default(),
        payer_must_be_registrant: false,
        accounts: Vec::new(),
        created_at: NOW,
    }
}

fn snapshot() -> OrderSnapshot {
    let item = |code: &str, name: &str, note: &str| Item {
        code: Some(code.to_owned()),
        name: name.to_owned(),
        note: Some(note.to_owned()),
        amount: Fen::new(3_500),
    };
    OrderSnapshot {
        merchant_order_no: "ZK202104-000123".to_owned(),
        subject: "2021年4月自学考试报考费".to_owned(),
        items: vec![
            item("00024", "普通逻辑", "2021年04月01日 上午"),
            item("00018", "计算机应用基础", "2021年04月10日 下午"),
            item("00031", "心理学", "2021年04月11日 上午"),
            item("00144", "企业管理概论", "2021年04月11日 下午"),
        ],
        purpose: Some("ZK202104".to_owned()),
        payer_identity: PayerIdentity::None,
        payer_masked: MaskedPayer {
            name: Some("测*".to_owned()),
            id_number: Some("6501**********0011".to_owned()),
            phone: Some("138****0000".to_owned()),
            registrant: None,
        },
        payer_index: 1,
        wallets: vec![Wallet::Wechat, Wallet::Alipay],
        late_grace_seconds: 0,
        return_url: Some("https://bm.example.edu.cn/".to_owned()),
        hash: "6f1c0a4be2".to_owned(),
        field_hashes: Vec::new(),
        possible_duplicate: None,
        has_display_fields: false,
        bills: Vec::new(),
    }
}

fn attempt(started_at: Timestamp, phase: Phase) -> Attempt {
    Attempt {
        number: AttemptNumber::FIRST,
        id: AttemptId::from_ulid(Ulid(77)),
        native: None,
        started_at,
        expires_at: started_at.plus_ms(180_000),
        phase,
        claim: None,
        trade: None,
        queries: Queries::default(),
    }
}

fn closing(since: Timestamp, cause: ClosingCause) -> Phase {
    Phase::Closing(Closing {
        since,
        cause,
        step: ClosingStep::Query,
        next_at: since.plus_ms(2_000),
        tries: 1,
        stuck_raised: false,
    })
}

fn capture(heard_at: Timestamp, standing: CaptureStanding) -> Capture {
    Capture {
        attempt: AttemptNumber::FIRST,
        wallet: Wallet::Wechat,
        transaction_id: "4200002345202611201234567890".into(),
        amount: Fen::new(14_000),
        succeeded_at: NOW.minus_ms(8_000),
        heard_at,
        standing,
    }
}

/// An order in this state at [`NOW`].
pub fn sample(state: State) -> StoredOrder {
    let offer = |wallet, account: &str| Offer {
        wallet,
        account: AccountId::new(account),
        application: "app".into(),
    };
    let mut snapshot = snapshot();
    let mut order = Order::created(
        OrderId::from_ulid(Ulid(9)),
        Terms {
            merchant: MerchantId::from_ulid(Ulid(5)),
            amount: Fen::new(14_000),
            pay_before: Some(NOW.plus_ms(7_200_000)),
            late_payment: LatePayment::Refund,
            mode: CodeMode::Unified,
            offers: vec![offer(Wallet::Wechat, "w"), offer(Wallet::Alipay, "a")],
            qr_ms: 180_000,
        },
        NOW.minus_ms(60_000),
    );
    let fresh = NOW.minus_ms(7_000);
    let old = NOW.minus_ms(200_000);
    let push = |order: &mut Order, started, phase| order.attempts.push(attempt(started, phase));
    match state {
        State::Review => snapshot.payer_identity = PayerIdentity::Confirm,
        State::Notice => {
            snapshot.possible_duplicate = Some(OrderId::from_ulid(Ulid(424_242)));
        }
        State::Ready => {}
        State::Choose => order.terms.mode = CodeMode::Native,
        State::TooClose => order.terms.pay_before = Some(NOW.plus_ms(100_000)),
        State::Loading => {
            order.terms.mode = CodeMode::Native;
            push(&mut order, fresh, Phase::Shown);
            order.attempts[0].native = Some(Wallet::Wechat);
        }
        State::Awaiting => push(&mut order, fresh, Phase::Shown),
        State::Warning => push(&mut order, NOW.minus_ms(130_000), Phase::Shown),
        State::Scanned => {
            push(&mut order, fresh, Phase::Scanned);
            order.attempts[0].claim = Some(Claim {
                payer: PayerHash(4),
                product: Product::WechatJsapi,
                at: NOW,
            });
        }
        State::Superseded => push(
            &mut order,
            fresh,
            Phase::Cancelled {
                at: NOW,
                reason: EndReason::Superseded,
            },
        ),
        State::Released => push(
            &mut order,
            fresh,
            Phase::Cancelled {
                at: NOW,
                reason: EndReason::Released,
            },
        ),
        State::Confirming => push(&mut order, old, closing(NOW, ClosingCause::TimeUp)),
        State::Unverified => push(
            &mut order,
            old,
            closing(NOW.minus_ms(12_000), ClosingCause::TimeUp),
        ),
        State::Cancelling => {
            push(
                &mut order,
                fresh,
                closing(NOW, ClosingCause::Ended(EndReason::Cancelled)),
            );
            order.cancel_requested_at = Some(NOW);
        }
        State::Mismatch => {
            push(&mut order, old, Phase::Expired { at: NOW });
            order.mismatches.push(Mismatch {
                attempt: AttemptNumber::FIRST,
                transaction_id: "x".into(),
                amount: Fen::new(1),
                field: MismatchedField::Amount,
                heard_at: NOW,
                account: None,
                currency: None,
                standing: MismatchStanding::Waiting,
            });
        }
        State::Paid | State::PaidLate | State::Duplicate => {
            let started = if state == State::PaidLate { old } else { fresh };
            push(&mut order, started, Phase::Succeeded { at: NOW });
            order.captures.push(capture(NOW, CaptureStanding::Kept));
            if state == State::Duplicate {
                order.captures.push(capture(
                    NOW,
                    CaptureStanding::Surplus {
                        refund: RefundId::from_ulid(Ulid(3)),
                        standing: RefundStanding::Pending {
                            next_at: NOW,
                            tries: 1,
                            underfunded: false,
                        },
                        round: 0,
                    },
                ));
            }
            order.settlement = Settlement::Paid { at: NOW };
        }
        State::LateAfterClosing => {
            push(&mut order, old, Phase::Succeeded { at: NOW });
            order.captures.push(capture(
                NOW,
                CaptureStanding::Surplus {
                    refund: RefundId::from_ulid(Ulid(3)),
                    standing: RefundStanding::Succeeded { at: NOW },
                    round: 0,
                },
            ));
            order.settlement = Settlement::Closed {
                at: NOW,
                reason: CloseReason::Deadline,
            };
        }
        State::Expired => push(&mut order, old, Phase::Expired { at: NOW }),
        State::Failed => push(
            &mut order,
            fresh,
            Phase::Failed {
                at: NOW,
                code: "NO_AUTH".into(),
            },
        ),
        State::Cancelled | State::Deadline => {
            order.settlement = Settlement::Closed {
                at: NOW,
                reason: if state == State::Cancelled {
                    CloseReason::Cancelled
                } else {
                    CloseReason::Deadline
                },
            };
        }
    }
    StoredOrder { order, snapshot }
}

/// A native order whose code is on show.
pub fn native(wallet: Wallet, content: &str) -> StoredOrder {
    let mut stored = sample(State::Awaiting);
    stored.order.terms.mode = CodeMode::Native;
    let attempt = &mut stored.order.attempts[0];
    attempt.native = Some(wallet);
    attempt.trade = Some(Trade {
        product: Product::WechatNative,
        account: AccountId::new("w"),
        application: "app".into(),
        time_expire: attempt.expires_at,
        intended_at: attempt.started_at,
        standing: TradeStanding::Made {
            handle: content.into(),
            at: NOW,
        },
    });
    stored
}

pub fn panel(stored: &StoredOrder, language: Language, pays_here: bool) -> Panel {
    let view = view();
    Panel::of(
        stored,
        Scene {
            words: language.words(),
            zone: Zone::new(480),
            view: &view,
            now: NOW,
            pays_here,
            demo_wallet_url: Some("http://127.0.0.1:8080/simulator/wallet"),
        },
    )
}
