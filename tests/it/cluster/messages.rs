//! What nodes say to one another arrives as it was said: every command, every write, every refusal.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::fmt::Debug;

use enrollpay::actors::{OrdersError, Request, Verdict};
use enrollpay::order::command::QueryAnswer;
use enrollpay::order::{
    AccountId, Answer, AttemptId, AttemptNumber, BillId, CaptureReport, CloseAnswer, Command,
    EventId, Fen, ForeignRefund, KeyId, LatePayment, MerchantId, OrderId, PayerHash, Product,
    RefundAnswer, RefundId, Refusal, SettleBy, Timestamp, TradeAnswer, Wallet,
};
use enrollpay::sealing::{BodyDigest, Sealed, TokenHash, TokenKind};
use enrollpay::store::bills::{Bill, BillContent, PayerLink};
use enrollpay::store::desk::{DeskWrite, OperatorRow, SessionRow};
use enrollpay::store::personal::{Cell, Resealed};
use enrollpay::store::reconciliation::{
    Field, FlowSums, ReconciliationWrite, Row, RowKind, Run, RunBy, RunState, Side, Tally,
    Verdict as Compared,
};
use enrollpay::store::{
    Actor, AuditEntry, DeliveryState, DuplicatePolicy, EvidenceRow, EvidenceStanding,
    IdempotencyRow, Item, MaskedPayer, Masks, Merchant, MerchantKey, OauthState, Rejection,
    StoreError, TokenTarget, WebhookSecret, Write,
};
use jiff::civil::Date;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ulid::Ulid;

/// A strategy of values of every variant. One that has no line here does not compile.
macro_rules! every {
    ($type:ty { $($variant:pat => $strategy:expr,)+ }) => {{
        fn _all(value: &$type) {
            match value {
                $($variant => {})+
            }
        }
        Union::new([$($strategy.prop_map(|value: $type| {
            assert!(matches!(value, $variant), "a value of another line: {value:?}");
            value
        }).boxed()),+]).boxed()
    }};
}

fn comes_as_it_went<T: Serialize + DeserializeOwned + Debug>(value: &T) {
    let bytes = serde_json::to_vec(value).unwrap();
    let back: T = serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
    // What hides from one of the two does not hide from the other.
    assert_eq!(format!("{value:?}"), format!("{back:?}"));
    assert_eq!(serde_json::to_vec(&back).unwrap(), bytes);
}

fn text() -> BoxedStrategy<String> {
    "\\PC{0,12}".boxed()
}

fn boxed() -> BoxedStrategy<Box<str>> {
    text().prop_map(Into::into).boxed()
}

fn ulid() -> impl Strategy<Value = Ulid> {
    any::<u128>().prop_map(Ulid)
}

fn order() -> BoxedStrategy<OrderId> {
    ulid().prop_map(OrderId::from_ulid).boxed()
}

fn merchant() -> BoxedStrategy<MerchantId> {
    ulid().prop_map(MerchantId::from_ulid).boxed()
}

fn refund() -> BoxedStrategy<RefundId> {
    ulid().prop_map(RefundId::from_ulid).boxed()
}

fn event() -> BoxedStrategy<EventId> {
    ulid().prop_map(EventId::from_ulid).boxed()
}

fn key_id() -> BoxedStrategy<KeyId> {
    ulid().prop_map(KeyId::from_ulid).boxed()
}

fn account() -> BoxedStrategy<AccountId> {
    text().prop_map(AccountId::new).boxed()
}

fn attempt() -> BoxedStrategy<AttemptNumber> {
    let numbers = 1..=1023_u16;
    numbers
        .prop_map(|number| AttemptNumber::new(number).unwrap())
        .boxed()
}

fn payer() -> BoxedStrategy<PayerHash> {
    any::<u128>().prop_map(PayerHash).boxed()
}

fn at() -> BoxedStrategy<Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis).boxed()
}

fn fen() -> BoxedStrategy<Fen> {
    any::<i64>().prop_map(Fen::new).boxed()
}

fn sealed() -> BoxedStrategy<Sealed> {
    vec(any::<u8>(), 0..40).prop_map(Sealed).boxed()
}

fn hash() -> BoxedStrategy<TokenHash> {
    any::<[u8; 16]>().prop_map(TokenHash).boxed()
}

fn date() -> BoxedStrategy<Date> {
    (2000..2100_i16, 1..=12_i8, 1..=28_i8)
        .prop_map(|(year, month, day)| Date::new(year, month, day).unwrap())
        .boxed()
}

fn one_of<T: Clone + Debug + 'static>(values: &'static [T]) -> BoxedStrategy<T> {
    prop::sample::select(values).boxed()
}

fn report() -> BoxedStrategy<CaptureReport> {
    let ours = (attempt(), account(), boxed(), boxed());
    (ours, fen(), boxed(), at(), refund())
        .prop_map(|(ours, amount, currency, succeeded_at, surplus_refund)| {
            let (attempt, account, application, transaction_id) = ours;
            CaptureReport {
                attempt,
                account,
                application,
                transaction_id,
                amount,
                currency,
                succeeded_at,
                surplus_refund,
            }
        })
        .boxed()
}

fn trade_answer() -> BoxedStrategy<TradeAnswer> {
    every!(TradeAnswer {
        TradeAnswer::Made { .. } => boxed().prop_map(|handle| TradeAnswer::Made { handle }),
        TradeAnswer::Refused { .. } => boxed().prop_map(|code| TradeAnswer::Refused { code }),
        TradeAnswer::Unknown => Just(TradeAnswer::Unknown),
    })
}

fn query_answer() -> BoxedStrategy<QueryAnswer> {
    every!(QueryAnswer {
        QueryAnswer::Paid(_) => report().prop_map(QueryAnswer::Paid),
        QueryAnswer::Unpaid => Just(QueryAnswer::Unpaid),
        QueryAnswer::NotFound => Just(QueryAnswer::NotFound),
        QueryAnswer::Closed => Just(QueryAnswer::Closed),
        QueryAnswer::Unknown => Just(QueryAnswer::Unknown),
    })
}

fn close_answer() -> BoxedStrategy<CloseAnswer> {
    every!(CloseAnswer {
        CloseAnswer::Closed => Just(CloseAnswer::Closed),
        CloseAnswer::AlreadyPaid => Just(CloseAnswer::AlreadyPaid),
        CloseAnswer::NotYet => Just(CloseAnswer::NotYet),
        CloseAnswer::NotFound => Just(CloseAnswer::NotFound),
        CloseAnswer::Unknown => Just(CloseAnswer::Unknown),
    })
}

fn refund_answer() -> BoxedStrategy<RefundAnswer> {
    every!(RefundAnswer {
        RefundAnswer::Succeeded => Just(RefundAnswer::Succeeded),
        RefundAnswer::Processing => Just(RefundAnswer::Processing),
        RefundAnswer::Abnormal => Just(RefundAnswer::Abnormal),
        RefundAnswer::Underfunded => Just(RefundAnswer::Underfunded),
        RefundAnswer::Failed => Just(RefundAnswer::Failed),
        RefundAnswer::Unknown => Just(RefundAnswer::Unknown),
    })
}

fn product() -> BoxedStrategy<Product> {
    one_of(&[
        Product::WechatJsapi,
        Product::WechatNative,
        Product::WechatH5,
        Product::AlipayCreate,
        Product::AlipayWap,
        Product::AlipayPrecreate,
    ])
}

fn wallet() -> BoxedStrategy<Wallet> {
    one_of(&[Wallet::Wechat, Wallet::Alipay])
}

fn command() -> BoxedStrategy<Command> {
    every!(Command {
        Command::StartAttempt { .. } => (ulid(), option::of(wallet())).prop_map(|(id, wallet)| {
            Command::StartAttempt { id: AttemptId::from_ulid(id), wallet }
        }),
        Command::Claim { .. } => (attempt(), payer(), product()).prop_map(
            |(attempt, payer, product)| Command::Claim { attempt, payer, product }
        ),
        Command::Pay { .. } => (attempt(), payer())
            .prop_map(|(attempt, payer)| Command::Pay { attempt, payer }),
        Command::Release { .. } => (attempt(), payer())
            .prop_map(|(attempt, payer)| Command::Release { attempt, payer }),
        Command::Query => Just(Command::Query),
        Command::Cancel => Just(Command::Cancel),
        Command::TradeAnswer { .. } => (attempt(), trade_answer())
            .prop_map(|(attempt, answer)| Command::TradeAnswer { attempt, answer }),
        Command::QueryAnswer { .. } => (attempt(), query_answer())
            .prop_map(|(attempt, answer)| Command::QueryAnswer { attempt, answer }),
        Command::CloseAnswer { .. } => (attempt(), close_answer())
            .prop_map(|(attempt, answer)| Command::CloseAnswer { attempt, answer }),
        Command::Capture(_) => report().prop_map(Command::Capture),
        Command::Refund { .. } => (refund(), boxed(), fen()).prop_map(
            |(refund, merchant_refund_no, amount)| Command::Refund {
                refund,
                merchant_refund_no,
                amount,
            }
        ),
        Command::RefundAnswer { .. } => (refund(), any::<u8>(), refund_answer()).prop_map(
            |(refund, round, answer)| Command::RefundAnswer { refund, round, answer }
        ),
        Command::RetryRefund { .. } => refund().prop_map(|refund| Command::RetryRefund { refund }),
        Command::RepairRefund { .. } => refund()
            .prop_map(|refund| Command::RepairRefund { refund }),
        Command::SettleMismatch { .. } => (any::<u16>(), any::<bool>(), payer(), refund())
            .prop_map(|(mismatch, back, operator, refund)| Command::SettleMismatch {
                mismatch,
                by: if back { SettleBy::Refund } else { SettleBy::Outside },
                operator,
                refund,
            }),
        Command::IssueReceipt { .. } => (boxed(), boxed(), option::of(at())).prop_map(
            |(number, url, issued_at)| Command::IssueReceipt { number, url, issued_at }
        ),
        Command::ForeignRefund(_) => (attempt(), boxed(), option::of(fen())).prop_map(
            |(attempt, number, amount)| {
                Command::ForeignRefund(ForeignRefund { attempt, number, amount })
            }
        ),
        Command::Tick => Just(Command::Tick),
    })
}

fn idempotency_row() -> BoxedStrategy<IdempotencyRow> {
    let answer = option::of((any::<u16>(), sealed()));
    (
        merchant(),
        text(),
        any::<[u8; 32]>(),
        any::<u128>(),
        at(),
        answer,
    )
        .prop_map(
            |(merchant, key, request_hash, instance, started_at, answer)| IdempotencyRow {
                merchant,
                key,
                request_hash,
                instance,
                started_at,
                answer,
            },
        )
        .boxed()
}

fn token_target() -> BoxedStrategy<TokenTarget> {
    (order(), option::of(attempt()))
        .prop_map(|(order, attempt)| TokenTarget { order, attempt })
        .boxed()
}

fn token_kind() -> BoxedStrategy<TokenKind> {
    every!(TokenKind {
        TokenKind::Pay => Just(TokenKind::Pay),
        TokenKind::Scan => Just(TokenKind::Scan),
        TokenKind::Receipt => Just(TokenKind::Receipt),
        TokenKind::Bills => Just(TokenKind::Bills),
    })
}

fn oauth_state() -> BoxedStrategy<OauthState> {
    let used = option::of((hash(), option::of(any::<u128>())));
    (hash(), order(), attempt(), account(), at(), used)
        .prop_map(
            |(state_hash, order, attempt, account, created_at, used)| OauthState {
                state_hash,
                order,
                attempt,
                account,
                created_at,
                used,
            },
        )
        .boxed()
}

fn standing() -> BoxedStrategy<EvidenceStanding> {
    every!(EvidenceStanding {
        EvidenceStanding::Open => Just(EvidenceStanding::Open),
        EvidenceStanding::Proposed { .. } => (payer(), at())
            .prop_map(|(by, at)| EvidenceStanding::Proposed { by, at }),
        EvidenceStanding::Settled { .. } => (payer(), payer(), at()).prop_map(
            |(proposed_by, by, at)| EvidenceStanding::Settled { proposed_by, by, at }
        ),
    })
}

fn evidence() -> BoxedStrategy<EvidenceRow> {
    let words = (account(), text(), text());
    (words, sealed(), option::of(order()), at(), standing())
        .prop_map(|(words, body, order, first_seen, standing)| EvidenceRow {
            account: words.0,
            reference: words.1,
            reason: words.2,
            body,
            order,
            first_seen,
            standing,
        })
        .boxed()
}

fn audit() -> BoxedStrategy<AuditEntry> {
    let words = (text(), text(), text(), text());
    (any::<u64>(), at(), words, any::<[u8; 32]>())
        .prop_map(|(id, at, (operator, action, target, outcome), previous)| {
            AuditEntry::new(at, operator, action, target, outcome).chained(id, previous)
        })
        .boxed()
}

fn merchant_row() -> BoxedStrategy<Merchant> {
    let words = (text(), text(), option::of(text()), option::of(text()));
    let secret =
        (sealed(), option::of(at())).prop_map(|(sealed, until)| WebhookSecret { sealed, until });
    let lists = (vec(secret, 0..3), vec(text(), 0..3), vec(account(), 0..3));
    (merchant(), words, lists, any::<[bool; 3]>(), at())
        .prop_map(|(id, words, lists, flags, created_at)| Merchant {
            id,
            name: words.0,
            display_name: words.1,
            help_lines: [words.2.clone(), None],
            webhook_url: words.3,
            webhook_secrets: lists.0,
            return_hosts: lists.1,
            duplicate: if flags[0] {
                DuplicatePolicy::Warn
            } else {
                DuplicatePolicy::Refuse
            },
            masks: if flags[1] {
                Masks::Standard
            } else {
                Masks::Strict
            },
            payer_must_be_registrant: flags[2],
            accounts: lists.2,
            created_at,
        })
        .boxed()
}

fn bill_id() -> BoxedStrategy<BillId> {
    ulid().prop_map(BillId::from_ulid).boxed()
}

fn masked_payer() -> BoxedStrategy<MaskedPayer> {
    (option::of(text()), option::of(text()), option::of(text()))
        .prop_map(|(name, id_number, phone)| MaskedPayer {
            name,
            id_number,
            phone,
            registrant: None,
        })
        .boxed()
}

fn bill() -> BoxedStrategy<Bill> {
    let hashes = || vec((text(), text()), 0..3);
    let item = (option::of(text()), text(), option::of(text()), fen()).prop_map(
        |(code, name, note, amount)| Item {
            code,
            name,
            note,
            amount,
        },
    );
    let late = option::of(any::<i64>()).prop_map(|grace| match grace {
        None => LatePayment::Refund,
        Some(grace_ms) => LatePayment::Accept { grace_ms },
    });
    let content = (text(), vec(item, 0..3), late, any::<i64>(), hashes()).prop_map(
        |(subject, items, late_payment, late_grace_seconds, hashes)| BillContent {
            subject,
            items,
            late_payment,
            late_grace_seconds,
            hashes,
        },
    );
    let what = (
        bill_id(),
        merchant(),
        text(),
        fen(),
        option::of(at()),
        at(),
        content,
    );
    let who = (masked_payer(), any::<u128>(), hashes(), sealed());
    (what, who)
        .prop_map(|(what, who)| Bill {
            id: what.0,
            merchant: what.1,
            merchant_bill_no: what.2,
            amount: what.3,
            pay_before: what.4,
            created_at: what.5,
            content: what.6,
            payer_masked: who.0,
            payer_index: who.1,
            personal_hashes: who.2,
            sealed: who.3,
        })
        .boxed()
}

fn payer_link() -> BoxedStrategy<PayerLink> {
    (
        hash(),
        merchant(),
        any::<u128>(),
        masked_payer(),
        option::of(text()),
        at(),
        at(),
    )
        .prop_map(
            |(hash, merchant, payer_index, payer_masked, return_url, created_at, expires_at)| {
                PayerLink {
                    hash,
                    merchant,
                    payer_index,
                    payer_masked,
                    return_url,
                    created_at,
                    expires_at,
                }
            },
        )
        .boxed()
}

fn cell() -> BoxedStrategy<Cell> {
    every!(Cell {
        Cell::Personal { .. } => (order(), text())
            .prop_map(|(order, slot)| Cell::Personal { order, slot }),
        Cell::Body { .. } => (event(), any::<bool>())
            .prop_map(|(event, digested)| Cell::Body { event, digested }),
        Cell::Answer { .. } => (merchant(), text())
            .prop_map(|(merchant, key)| Cell::Answer { merchant, key }),
        Cell::Evidence { .. } => (account(), text())
            .prop_map(|(account, reference)| Cell::Evidence { account, reference }),
        Cell::Bill { .. } => bill_id().prop_map(|bill| Cell::Bill { bill }),
        Cell::WebhookSecret { .. } => merchant()
            .prop_map(|merchant| Cell::WebhookSecret { merchant }),
        Cell::KeySecret { .. } => key_id().prop_map(|key| Cell::KeySecret { key }),
    })
}

fn side() -> BoxedStrategy<Side> {
    let words = (boxed(), boxed(), option::of(boxed()), boxed());
    (
        option::of(any::<u32>()),
        words,
        fen(),
        at(),
        option::of(fen()),
        option::of(boxed()),
    )
        .prop_map(|(line, words, amount, at, fee, currency)| Side {
            line,
            out_trade_no: words.0,
            transaction_id: words.1,
            refund_no: words.2,
            amount,
            at,
            status: words.3,
            fee,
            currency,
        })
        .boxed()
}

fn row() -> BoxedStrategy<Row> {
    let words = (
        one_of(Compared::ALL),
        one_of(RowKind::ALL),
        option::of(one_of(Field::ALL)),
    );
    let whose = (option::of(order()), option::of(merchant()));
    let sides = (option::of(side()), option::of(side()));
    (any::<u32>(), words, any::<bool>(), whose, sides)
        .prop_map(|(number, words, repaired, whose, sides)| Row {
            number,
            verdict: words.0,
            kind: words.1,
            field: words.2,
            repaired,
            order: whose.0,
            merchant: whose.1,
            ours: sides.0,
            theirs: sides.1,
        })
        .boxed()
}

fn run() -> BoxedStrategy<Run> {
    let tally = (option::of(merchant()), any::<u64>(), any::<i64>()).prop_map(
        |(merchant, matched, fees_there)| Tally {
            matched,
            fees_there,
            ..Tally::of(merchant)
        },
    );
    let flows = (any::<i64>(), option::of(any::<i64>())).prop_map(|(payments, opening)| FlowSums {
        payments,
        opening,
        ..FlowSums::default()
    });
    let name = (account(), date(), any::<u32>());
    let words = (one_of(RunState::ALL), one_of(RunBy::ALL));
    let results = (vec(tally, 0..3), option::of(flows), option::of(text()));
    (name, words, at(), option::of(at()), results)
        .prop_map(|(name, words, started_at, finished_at, results)| Run {
            account: name.0,
            date: name.1,
            run: name.2,
            state: words.0,
            by: words.1,
            started_at,
            finished_at,
            tallies: results.0,
            flows: results.1,
            why: results.2,
        })
        .boxed()
}

fn reconciliation() -> BoxedStrategy<ReconciliationWrite> {
    every!(ReconciliationWrite {
        ReconciliationWrite::Started { .. } =>
            (account(), date(), any::<u32>(), one_of(RunBy::ALL), at()).prop_map(
                |(account, date, run, by, at)| ReconciliationWrite::Started {
                    account,
                    date,
                    run,
                    by,
                    at,
                }
            ),
        ReconciliationWrite::Rows { .. } =>
            (account(), date(), any::<u32>(), vec(row(), 0..3)).prop_map(
                |(account, date, run, rows)| ReconciliationWrite::Rows { account, date, run, rows }
            ),
        ReconciliationWrite::Ended(_) => run()
            .prop_map(|run| ReconciliationWrite::Ended(Box::new(run))),
        ReconciliationWrite::Cleared { .. } =>
            (account(), date(), any::<u32>(), any::<usize>()).prop_map(
                |(account, date, run, most)| ReconciliationWrite::Cleared {
                    account,
                    date,
                    run,
                    most,
                }
            ),
    })
}

fn delivery_state() -> BoxedStrategy<DeliveryState> {
    one_of(&[
        DeliveryState::Pending,
        DeliveryState::Delivered,
        DeliveryState::Parked,
    ])
}

fn write() -> BoxedStrategy<Write> {
    every!(Write {
        Write::Nonce { .. } => (key_id(), text(), at())
            .prop_map(|(key, nonce, at)| Write::Nonce { key, nonce, at }),
        Write::IdempotencyStarted { .. } =>
            (merchant(), text(), any::<[u8; 32]>(), any::<u128>(), at()).prop_map(
                |(merchant, key, request_hash, instance, at)| Write::IdempotencyStarted {
                    merchant,
                    key,
                    request_hash,
                    instance,
                    at,
                }
            ),
        Write::IdempotencyResumed { .. } =>
            (merchant(), text(), (any::<u128>(), at()), any::<u128>(), at()).prop_map(
                |(merchant, key, was, instance, at)| Write::IdempotencyResumed {
                    merchant,
                    key,
                    was,
                    instance,
                    at,
                }
            ),
        Write::IdempotencyFinished { .. } =>
            (merchant(), text(), any::<u16>(), sealed(), option::of(order())).prop_map(
                |(merchant, key, status, answer, order)| Write::IdempotencyFinished {
                    merchant,
                    key,
                    status,
                    answer,
                    order,
                }
            ),
        Write::IdempotencyDropped { .. } => (merchant(), text())
            .prop_map(|(merchant, key)| Write::IdempotencyDropped { merchant, key }),
        Write::Token { .. } => (token_kind(), hash(), token_target())
            .prop_map(|(kind, hash, target)| Write::Token { kind, hash, target }),
        Write::Personal { .. } => (order(), text(), sealed())
            .prop_map(|(order, slot, sealed)| Write::Personal { order, slot, sealed }),
        Write::OauthState(_) => oauth_state().prop_map(Write::OauthState),
        Write::BillsCreated(_) => vec(bill(), 0..3).prop_map(Write::BillsCreated),
        Write::BillsClaimed { .. } => (merchant(), order(), vec(bill_id(), 0..3)).prop_map(
            |(merchant, order, bills)| Write::BillsClaimed { merchant, order, bills }
        ),
        Write::BillCancelled { .. } => (merchant(), bill_id(), at())
            .prop_map(|(merchant, bill, at)| Write::BillCancelled { merchant, bill, at }),
        Write::PayerLink(_) => payer_link().prop_map(Write::PayerLink),
        Write::BillErased { .. } => (bill_id(), any::<u128>(), at())
            .prop_map(|(bill, payer_index, at)| Write::BillErased { bill, payer_index, at }),
        Write::OauthStateUsed { .. } => (hash(), hash(), option::of(any::<u128>())).prop_map(
            |(state_hash, code_hash, payer)| Write::OauthStateUsed { state_hash, code_hash, payer }
        ),
        Write::Evidence(_) => evidence().prop_map(Write::Evidence),
        Write::EvidenceSettled { .. } => (account(), text(), payer(), at()).prop_map(
            |(account, reference, operator, at)| Write::EvidenceSettled {
                account,
                reference,
                operator,
                at,
            }
        ),
        Write::Audit(_) => audit().prop_map(Write::Audit),
        Write::Merchant(_) => merchant_row().prop_map(Write::Merchant),
        Write::MerchantKey(_) =>
            (key_id(), merchant(), sealed(), at(), option::of(at()), option::of(at())).prop_map(
                |(id, merchant, sealed_secret, created_at, valid_until, last_used_at)| {
                    Write::MerchantKey(MerchantKey {
                        id,
                        merchant,
                        sealed_secret,
                        created_at,
                        valid_until,
                        last_used_at,
                    })
                }
            ),
        Write::KeyUsed { .. } => (key_id(), at()).prop_map(|(key, at)| Write::KeyUsed { key, at }),
        Write::Delivery { .. } => {
            let states = (delivery_state(), any::<u16>(), delivery_state(), any::<u16>());
            (event(), states, option::of(at()), text(), at()).prop_map(
                |(event, (was, tried, state, tries), next_at, note, at)| Write::Delivery {
                    event,
                    was: (was, tried),
                    state,
                    tries,
                    next_at,
                    note,
                    at,
                }
            )
        },
        Write::Setting { .. } => (text(), text())
            .prop_map(|(name, value)| Write::Setting { name, value }),
        Write::Reconciliation(_) => reconciliation().prop_map(Write::Reconciliation),
        Write::Desk(_) => desk().prop_map(Write::Desk),
        Write::Resealed(_) => {
            let digest = option::of(any::<[u8; 32]>().prop_map(BodyDigest));
            (cell(), sealed(), sealed(), digest).prop_map(|(cell, was, now, digest)| {
                Write::Resealed(Resealed { cell, was, now, digest })
            })
        },
        Write::PeopleErased { .. } => (order(), any::<u64>(), any::<u128>(), at()).prop_map(
            |(order, version, payer_index, at)| Write::PeopleErased {
                order,
                version,
                payer_index,
                at,
            }
        ),
        Write::EvidenceErased { .. } => (account(), text())
            .prop_map(|(account, reference)| Write::EvidenceErased { account, reference }),
        Write::ShardClaimed { .. } =>
            (any::<u16>(), any::<u64>(), any::<u128>(), option::of(any::<i64>()), at()).prop_map(
                |(shard, epoch, instance, silent_ms, at)| Write::ShardClaimed {
                    shard,
                    epoch,
                    instance,
                    silent_ms,
                    at,
                }
            ),
        Write::ShardReleased { .. } => (any::<u16>(), any::<u64>(), any::<u128>()).prop_map(
            |(shard, epoch, instance)| Write::ShardReleased { shard, epoch, instance }
        ),
        Write::InstanceSeen { .. } => (any::<u128>(), text(), option::of(text()), any::<i64>())
            .prop_map(|(instance, node, internal_url, lease_ms)| Write::InstanceSeen {
                instance,
                node,
                internal_url,
                lease_ms,
            }),
        Write::InstanceGone { .. } => any::<u128>()
            .prop_map(|instance| Write::InstanceGone { instance }),
    })
}

fn desk() -> BoxedStrategy<DeskWrite> {
    let operator = || {
        (text(), text(), at(), option::of(at())).prop_map(
            |(name, password, created_at, disabled_at)| OperatorRow {
                name,
                password,
                created_at,
                disabled_at,
            },
        )
    };
    every!(DeskWrite {
        DeskWrite::OperatorAdded(_) => operator().prop_map(DeskWrite::OperatorAdded),
        DeskWrite::OperatorChanged(_) => operator().prop_map(DeskWrite::OperatorChanged),
        DeskWrite::SessionBegun { .. } => (hash(), text(), at(), at(), at()).prop_map(
            |(token, operator, created_at, seen_at, forget_before)| DeskWrite::SessionBegun {
                session: SessionRow { token, operator, created_at, seen_at },
                forget_before,
            }
        ),
        DeskWrite::SessionSeen { .. } => (hash(), at())
            .prop_map(|(token, at)| DeskWrite::SessionSeen { token, at }),
        DeskWrite::SessionEnded { .. } => hash()
            .prop_map(|token| DeskWrite::SessionEnded { token }),
    })
}

fn rejection() -> BoxedStrategy<Rejection> {
    every!(Rejection {
        Rejection::VersionMoved => Just(Rejection::VersionMoved),
        Rejection::FenceMoved => Just(Rejection::FenceMoved),
        Rejection::TooLate => Just(Rejection::TooLate),
        Rejection::MerchantOrderNoTaken { .. } => order()
            .prop_map(|existing| Rejection::MerchantOrderNoTaken { existing }),
        Rejection::NonceReplayed { .. } => at()
            .prop_map(|first_seen| Rejection::NonceReplayed { first_seen }),
        Rejection::IdempotencyKeyTaken(_) => idempotency_row()
            .prop_map(|row| Rejection::IdempotencyKeyTaken(Box::new(row))),
        Rejection::AlreadyClaimed => Just(Rejection::AlreadyClaimed),
        Rejection::CaptureKnown => Just(Rejection::CaptureKnown),
        Rejection::MerchantRefundNoTaken { .. } => (order(), refund()).prop_map(
            |(existing_order, existing)| Rejection::MerchantRefundNoTaken {
                existing_order,
                existing,
            }
        ),
        Rejection::EpochMoved { .. } => any::<u64>()
            .prop_map(|epoch| Rejection::EpochMoved { epoch }),
        Rejection::ShardHeld => Just(Rejection::ShardHeld),
        Rejection::DeliveryMoved => Just(Rejection::DeliveryMoved),
        Rejection::OperatorTaken => Just(Rejection::OperatorTaken),
        Rejection::MerchantBillNoTaken { .. } => bill_id()
            .prop_map(|existing| Rejection::MerchantBillNoTaken { existing }),
        Rejection::BillTaken { .. } => bill_id().prop_map(|bill| Rejection::BillTaken { bill }),
        Rejection::RuleBroken { .. } => text().prop_map(|rule| Rejection::RuleBroken { rule }),
    })
}

fn store_error() -> BoxedStrategy<StoreError> {
    every!(StoreError {
        StoreError::Unavailable { .. } => text().prop_map(|why| StoreError::Unavailable { why }),
        StoreError::OutcomeUnknown { .. } => text()
            .prop_map(|why| StoreError::OutcomeUnknown { why }),
        StoreError::Inconsistent { .. } =>
            (one_of(&["orders", "outbox", "tokens"]), text(), text()).prop_map(
                |(table, row, why)| StoreError::Inconsistent { table, row, why }
            ),
    })
}

fn orders_error() -> BoxedStrategy<OrdersError> {
    every!(OrdersError {
        OrdersError::NotFound => Just(OrdersError::NotFound),
        OrdersError::Overloaded { .. } => any::<u32>().prop_map(
            |retry_after_seconds| OrdersError::Overloaded { retry_after_seconds }
        ),
        OrdersError::Rejected(_) => rejection().prop_map(OrdersError::Rejected),
        OrdersError::Store(_) => store_error().prop_map(OrdersError::Store),
        OrdersError::ActorLost => Just(OrdersError::ActorLost),
        OrdersError::NoOwner => Just(OrdersError::NoOwner),
        OrdersError::Stopping => Just(OrdersError::Stopping),
    })
}

fn refusal() -> BoxedStrategy<Refusal> {
    every!(Refusal {
        Refusal::AlreadyPaid => Just(Refusal::AlreadyPaid),
        Refusal::OrderClosed => Just(Refusal::OrderClosed),
        Refusal::CancelPending => Just(Refusal::CancelPending),
        Refusal::DeadlinePassed { .. } => at()
            .prop_map(|pay_before| Refusal::DeadlinePassed { pay_before }),
        Refusal::AttemptClosing { .. } => at()
            .prop_map(|retry_at| Refusal::AttemptClosing { retry_at }),
        Refusal::TooLate { .. } => at().prop_map(|until| Refusal::TooLate { until }),
        Refusal::AlreadyScanned => Just(Refusal::AlreadyScanned),
        Refusal::AttemptExpired => Just(Refusal::AttemptExpired),
        Refusal::AttemptSuperseded => Just(Refusal::AttemptSuperseded),
        Refusal::AttemptCancelled => Just(Refusal::AttemptCancelled),
        Refusal::AttemptFailed => Just(Refusal::AttemptFailed),
        Refusal::NotClaimed => Just(Refusal::NotClaimed),
        Refusal::UnknownAttempt => Just(Refusal::UnknownAttempt),
        Refusal::WalletRequired => Just(Refusal::WalletRequired),
        Refusal::WalletNotOffered { .. } => wallet()
            .prop_map(|wallet| Refusal::WalletNotOffered { wallet }),
        Refusal::TooManyAttempts => Just(Refusal::TooManyAttempts),
        Refusal::NotPaid => Just(Refusal::NotPaid),
        Refusal::NotRefundable => Just(Refusal::NotRefundable),
        Refusal::RefundExceedsCaptured { .. } => fen()
            .prop_map(|remaining| Refusal::RefundExceedsCaptured { remaining }),
        Refusal::RefundNoConflict { .. } => refund()
            .prop_map(|existing| Refusal::RefundNoConflict { existing }),
        Refusal::TooManyRefunds => Just(Refusal::TooManyRefunds),
        Refusal::UnknownRefund => Just(Refusal::UnknownRefund),
        Refusal::RefundStands => Just(Refusal::RefundStands),
        Refusal::UnknownMismatch => Just(Refusal::UnknownMismatch),
        Refusal::MismatchSettled => Just(Refusal::MismatchSettled),
        Refusal::OtherProposal => Just(Refusal::OtherProposal),
        Refusal::CannotGoBack => Just(Refusal::CannotGoBack),
    })
}

fn answer() -> BoxedStrategy<Answer> {
    every!(Answer {
        Answer::Same => Just(Answer::Same),
        Answer::AskedJustNow => Just(Answer::AskedJustNow),
        Answer::NothingDue => Just(Answer::NothingDue),
        Answer::Stale => Just(Answer::Stale),
    })
}

fn verdict() -> BoxedStrategy<Verdict> {
    every!(Verdict {
        Verdict::Applied => Just(Verdict::Applied),
        Verdict::Already(_) => answer().prop_map(Verdict::Already),
        Verdict::Refused(_) => refusal().prop_map(Verdict::Refused),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn every_command(command in command()) {
        comes_as_it_went(&command);
    }

    #[test]
    fn every_write(write in write()) {
        comes_as_it_went(&write);
    }

    #[test]
    fn every_rejection_and_error(rejection in rejection(), error in orders_error()) {
        comes_as_it_went(&rejection);
        comes_as_it_went(&error);
    }

    #[test]
    fn every_verdict(verdict in verdict()) {
        comes_as_it_went(&verdict);
    }

    #[test]
    fn a_whole_request(command in command(), writes in vec(write(), 0..4), id in option::of(text())) {
        comes_as_it_went(&Request {
            command,
            actor: Actor::Operator,
            request_id: id,
            writes,
        });
    }
}

/// Numbers beyond an attempt's make no `out_trade_no`: they are refused where they arrive.
#[test]
fn an_attempt_that_cannot_be_is_not_read() {
    for number in ["0", "1024", "65535", "-1"] {
        let read = serde_json::from_str::<AttemptNumber>(number);
        assert!(read.is_err(), "{number}");
    }
}
