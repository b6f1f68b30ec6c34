//! Small orders made by hand: what a store is tested with needs no state machine.

use enrollpay::order::attempt::{EndReason, Queries};
use enrollpay::order::state::{CaptureStanding, RefundStanding};
use enrollpay::order::{
    AccountId, Attempt, AttemptId, AttemptNumber, Capture, Claim, CloseReason, CodeMode, Event,
    EventId, Fen, FiscalReceipt, KeyId, LatePayment, MerchantId, Offer, Order, OrderId, PayerHash,
    Phase, Product, RefundId, Settlement, Terms, Timestamp, Trade, TradeStanding, Wallet,
    WebhookType, evolve,
};
use enrollpay::sealing::{BodyDigest, Sealed, TokenHash};
use enrollpay::store::{
    Actor, DeliveryState, Fence, Item, MaskedPayer, MaskedRegistrant, OrderSnapshot, OrderWrite,
    OutboxEntry, PayerIdentity, TimelineEntry, Transaction, Write,
};
use ulid::Ulid;

pub const START: Timestamp = Timestamp::from_seconds(1_795_168_800);

/// The `n`th of its kind; a greater one is younger.
fn ulid(n: u32) -> Ulid {
    Ulid::from_parts(START.as_millis().unsigned_abs() + u64::from(n), n.into())
}

pub fn order_id(n: u32) -> OrderId {
    OrderId::from_ulid(ulid(n))
}

pub fn merchant_id(n: u32) -> MerchantId {
    MerchantId::from_ulid(ulid(n))
}

pub fn key_id(n: u32) -> KeyId {
    KeyId::from_ulid(ulid(n))
}

pub fn event_id(n: u32) -> EventId {
    EventId::from_ulid(ulid(n))
}

pub fn refund_id(n: u32) -> RefundId {
    RefundId::from_ulid(ulid(n))
}

pub fn sealed(text: &str) -> Sealed {
    Sealed(text.as_bytes().to_vec())
}

pub fn hash(n: u8) -> TokenHash {
    TokenHash([n; 16])
}

/// A later instant.
pub fn at(seconds: i64) -> Timestamp {
    START.plus_ms(seconds * 1000)
}

/// The `n`th order, of merchant 1, unpaid.
pub fn order(n: u32) -> Order {
    order_of(1, n)
}

pub fn order_of(merchant: u32, n: u32) -> Order {
    let offer = |wallet, account: &str, application: &str| Offer {
        wallet,
        account: AccountId::new(account),
        application: application.into(),
    };
    let terms = Terms {
        merchant: merchant_id(merchant),
        amount: Fen::new(14_000),
        pay_before: Some(at(86_400)),
        late_payment: LatePayment::Refund,
        mode: CodeMode::Unified,
        offers: vec![
            offer(Wallet::Wechat, "school-wechat", "wx8888888888888888"),
            offer(Wallet::Alipay, "school-alipay", "2021000000000001"),
        ],
        qr_ms: 180_000,
    };
    let created_at = START.plus_ms(n.into());
    Order::created(order_id(n), terms, created_at)
}

pub fn snapshot(n: u32) -> OrderSnapshot {
    OrderSnapshot {
        merchant_order_no: format!("ZK202104-{n:06}"),
        subject: "2021年4月自学考试报考费".to_owned(),
        items: vec![Item {
            code: Some("00024".to_owned()),
            name: "普通逻辑".to_owned(),
            note: None,
            amount: Fen::new(14_000),
        }],
        purpose: Some("ZK202104".to_owned()),
        payer_identity: PayerIdentity::None,
        payer_masked: MaskedPayer {
            name: Some("测*".to_owned()),
            registrant: Some(MaskedRegistrant {
                name: Some("报*".to_owned()),
                id_number: None,
                phone: None,
                differs: true,
            }),
            ..MaskedPayer::default()
        },
        payer_index: u128::MAX - u128::from(n),
        wallets: vec![Wallet::Wechat, Wallet::Alipay],
        late_grace_seconds: 0,
        return_url: None,
        hash: "hash".to_owned(),
        field_hashes: ["amount", "registrant.name"]
            .map(|name| (name.to_owned(), "hash".to_owned()))
            .to_vec(),
        possible_duplicate: None,
        has_display_fields: false,
        bills: Vec::new(),
    }
}

/// A new order as it is committed.
pub fn creation(n: u32) -> OrderWrite {
    creation_of(order(n), snapshot(n))
}

pub fn creation_of(order: Order, snapshot: OrderSnapshot) -> OrderWrite {
    let terms = order.terms.clone();
    let mut write = write(order, vec![Event::OrderCreated { terms }]);
    write.snapshot = Some(snapshot);
    write
}

/// The step after `before`: `change` makes the state, `events` tell of it.
pub fn step(before: &Order, events: Vec<Event>, change: impl FnOnce(&mut Order)) -> OrderWrite {
    let mut order = before.clone();
    order.version += 1;
    change(&mut order);
    write(order, events)
}

/// The step after `before` as the heart has it once these events are told, at one second.
pub fn told(before: &Order, events: Vec<Event>) -> OrderWrite {
    told_at(before, events, at(1))
}

pub fn told_at(before: &Order, events: Vec<Event>, now: Timestamp) -> OrderWrite {
    let mut write = write(evolve(before.clone(), &events, now), events);
    for entry in &mut write.events {
        entry.at = now;
    }
    write
}

fn write(order: Order, events: Vec<Event>) -> OrderWrite {
    let events = events
        .into_iter()
        .zip(0..)
        .map(|(event, position)| TimelineEntry {
            order: order.id,
            version: order.version,
            position,
            at: at(1),
            actor: Actor::Gateway,
            request_id: Some("req-1".to_owned()),
            event,
        })
        .collect();
    OrderWrite {
        order,
        snapshot: None,
        events,
        outbox: Vec::new(),
        next_due_at: None,
        not_after: None,
        fence: Fence::None,
    }
}

pub fn alone(write: OrderWrite) -> Transaction {
    Transaction {
        order: Some(write),
        writes: Vec::new(),
    }
}

pub fn writes(writes: impl Into<Vec<Write>>) -> Transaction {
    Transaction {
        order: None,
        writes: writes.into(),
    }
}

/// A new code is shown.
pub fn start(before: &Order) -> OrderWrite {
    let number = u16::try_from(before.attempts.len()).unwrap() + 1;
    let number = AttemptNumber::new(number).unwrap();
    let seed = u128::from(before.id.ulid()) + u128::from(number.get());
    let attempt = Attempt {
        number,
        id: AttemptId::from_ulid(Ulid(seed)),
        native: None,
        started_at: at(1),
        expires_at: at(181),
        phase: Phase::Shown,
        claim: None,
        trade: None,
        queries: Queries::default(),
    };
    let started = Event::AttemptStarted {
        attempt: number,
        id: attempt.id,
        native: None,
        expires_at: attempt.expires_at,
    };
    step(before, vec![started], |order| order.attempts.push(attempt))
}

/// Somebody takes the last code, and a trade is intended.
pub fn claim(before: &Order, payer: u128) -> OrderWrite {
    let number = last(before);
    let claim = Claim {
        payer: PayerHash(payer),
        product: Product::WechatJsapi,
        at: at(2),
    };
    let event = Event::AttemptClaimed {
        attempt: number,
        claim,
    };
    step(before, vec![event], |order| {
        let attempt = order.attempt_mut(number).unwrap();
        attempt.phase = Phase::Scanned;
        attempt.claim = Some(claim);
        attempt.trade = Some(Trade {
            product: Product::WechatJsapi,
            account: AccountId::new("school-wechat"),
            application: "wx8888888888888888".into(),
            time_expire: at(181),
            intended_at: at(2),
            standing: TradeStanding::Intended,
        });
    })
}

/// The last code ends, and another is shown, in one step.
pub fn supersede(before: &Order) -> OrderWrite {
    let number = last(before);
    let mut next = start(before);
    next.order.attempt_mut(number).unwrap().phase = Phase::Cancelled {
        at: at(3),
        reason: EndReason::Superseded,
    };
    let ended = TimelineEntry {
        position: 1,
        event: Event::AttemptCancelled {
            attempt: number,
            reason: EndReason::Superseded,
        },
        ..next.events[0].clone()
    };
    next.events.push(ended);
    next
}

/// Money that pays the order.
pub fn pay(before: &Order, transaction_id: &str) -> OrderWrite {
    let capture = capture(before, transaction_id, CaptureStanding::Kept);
    let number = capture.attempt;
    let events = vec![
        Event::MoneyCaptured {
            capture: capture.clone(),
        },
        Event::AttemptSucceeded { attempt: number },
        Event::OrderPaid,
    ];
    step(before, events, |order| {
        order.captures.push(capture);
        order.attempt_mut(number).unwrap().phase = Phase::Succeeded { at: at(4) };
        order.settlement = Settlement::Paid { at: at(4) };
    })
}

/// Money that the order does not owe.
pub fn surplus(before: &Order, transaction_id: &str, refund: RefundId) -> OrderWrite {
    let standing = CaptureStanding::Surplus {
        refund,
        standing: RefundStanding::Pending {
            next_at: at(5),
            tries: 0,
            underfunded: false,
        },
        round: 0,
    };
    let capture = capture(before, transaction_id, standing);
    let event = Event::MoneyCaptured {
        capture: capture.clone(),
    };
    step(before, vec![event], |order| order.captures.push(capture))
}

fn capture(order: &Order, transaction_id: &str, standing: CaptureStanding) -> Capture {
    Capture {
        attempt: last(order),
        wallet: Wallet::Wechat,
        transaction_id: transaction_id.into(),
        amount: Fen::new(14_000),
        succeeded_at: at(3),
        heard_at: at(4),
        standing,
    }
}

/// The school has the fiscal e-receipt.
pub fn receipt(before: &Order) -> OrderWrite {
    let receipt = FiscalReceipt {
        number: "6501012600000123".into(),
        url: "https://czpj.example.gov.cn/check?n=6501012600000123&t=票据".into(),
        issued_at: at(6),
    };
    let event = Event::ReceiptIssued {
        receipt: receipt.clone(),
    };
    step(before, vec![event], |order| {
        order.fiscal_receipt = Some(receipt);
    })
}

pub fn close(before: &Order) -> OrderWrite {
    let reason = CloseReason::Cancelled;
    step(before, vec![Event::OrderClosed { reason }], |order| {
        order.settlement = Settlement::Closed { at: at(5), reason };
    })
}

fn last(order: &Order) -> AttemptNumber {
    order.attempts.last().expect("a code was shown").number
}

/// An event of the order's present version, due at once.
pub fn outbox(order: &Order, n: u32) -> OutboxEntry {
    OutboxEntry {
        id: event_id(n),
        merchant: order.terms.merchant,
        order: order.id,
        version: order.version,
        kind: WebhookType::OrderPaid,
        body: sealed("the order"),
        body_digest: Some(BodyDigest([7; 32])),
        created_at: at(n.into()),
        state: DeliveryState::Pending,
        tries: 0,
        next_at: Some(at(n.into())),
        note: String::new(),
    }
}
