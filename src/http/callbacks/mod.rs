//! Provider callbacks: `POST /callbacks/{wechatpay|alipay}/{account}` (contract §5).
//!
//! The raw bytes are verified before anything of them is read. A payment is acknowledged once it is on
//! disk, and never before; whatever is in doubt is answered with a 4xx or 5xx, so that the provider
//! comes again. A duplicate gets the same acknowledgement and changes nothing.

mod refunds;

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse};
use aws_lc_rs::digest;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::Deps;
use crate::actors::{OrdersError, Request};
use crate::faults::crash_point;
use crate::order::money::CURRENCY;
use crate::order::{
    AccountId, CaptureReport, Command, OrderId, OutTradeNo, RefundId, Timestamp, Wallet,
};
use crate::provider::{Notice, NoticeError, Provider, Success};
use crate::sealing::Place;
use crate::store::{
    Actor, EvidenceRow, EvidenceStanding, Rejection, StoreError, StoredOrder, Transaction, Write,
};

/// How long a provider may take to send its notice.
const READ_DEADLINE: Duration = Duration::from_secs(3);
/// How long it waits for our answer before we say 5xx (A4: WeChat gives up after 5 s).
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// So long an unknown number is answered 5xx: a restore may be running (contract §5).
const UNKNOWN_FOR_MS: i64 = 600_000;

/// The routes of this room; they need `web::Data<Deps>`.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/callbacks/wechatpay/{account}", web::post().to(wechatpay))
        .route("/callbacks/alipay/{account}", web::post().to(alipay));
}

async fn wechatpay(
    request: HttpRequest,
    account: web::Path<String>,
    payload: web::Payload,
    deps: web::Data<Deps>,
) -> HttpResponse {
    receive(
        Wallet::Wechat,
        &request,
        account.into_inner(),
        payload,
        &deps,
    )
    .await
}

async fn alipay(
    request: HttpRequest,
    account: web::Path<String>,
    payload: web::Payload,
    deps: web::Data<Deps>,
) -> HttpResponse {
    receive(
        Wallet::Alipay,
        &request,
        account.into_inner(),
        payload,
        &deps,
    )
    .await
}

/// What becomes of one notice, and what its provider is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Recorded now.
    Recorded,
    /// Recorded before.
    Duplicate,
    /// True and of no consequence.
    Noted,
    /// An unknown number that stayed unknown: kept for a person.
    Kept,
    Refused(NoticeError),
    /// Not believed, and nobody needs to be woken by it.
    OlderInterface,
    /// The number is none of ours, or of an order that is not here (yet).
    Unknown,
    TooLarge,
    TooSlow,
    /// Nothing, or nothing certain, was written: the provider comes again.
    Unavailable(&'static str),
}

impl Outcome {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Duplicate => "duplicate",
            Self::Noted => "noted",
            Self::Kept => "kept",
            Self::Refused(_) => "rejected",
            Self::OlderInterface => "older_interface",
            Self::Unknown => "unknown",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// `None`: the provider's own acknowledgement.
    const fn refused_with(&self) -> Option<StatusCode> {
        match self {
            Self::Recorded | Self::Duplicate | Self::Noted | Self::Kept => None,
            Self::Refused(NoticeError::Unreadable { .. }) | Self::OlderInterface => {
                Some(StatusCode::BAD_REQUEST)
            }
            Self::Refused(_) => Some(StatusCode::UNAUTHORIZED),
            Self::Unknown | Self::Unavailable(_) => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::TooLarge => Some(StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooSlow => Some(StatusCode::REQUEST_TIMEOUT),
        }
    }
}

async fn receive(
    wallet: Wallet,
    request: &HttpRequest,
    account: String,
    payload: web::Payload,
    deps: &Deps,
) -> HttpResponse {
    let account = AccountId::new(account);
    let provider = deps
        .providers
        .get(&account)
        .filter(|provider| provider.account().wallet == wallet);
    let Some(provider) = provider else {
        metrics::counter!("enrollpay_callbacks_total", "provider" => name(wallet), "outcome" => "no_account")
            .increment(1);
        return HttpResponse::NotFound().finish();
    };
    let body = timeout(
        READ_DEADLINE,
        read(payload, deps.settings.limits.callback_body_bytes),
    );
    let outcome = match body.await {
        Ok(Ok(body)) => {
            let handled = handle(&**provider, request.headers(), &body, deps);
            timeout(ANSWER_DEADLINE, handled)
                .await
                .unwrap_or(Outcome::Unavailable("no answer in time"))
        }
        Ok(Err(outcome)) => outcome,
        Err(_) => Outcome::TooSlow,
    };
    tell(&**provider, &outcome);
    answer(&**provider, &outcome)
}

/// The raw bytes, or why there are none.
async fn read(mut payload: web::Payload, limit: usize) -> Result<Bytes, Outcome> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Outcome::Unavailable("the body broke off"))?;
        if body.len() + chunk.len() > limit {
            return Err(Outcome::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Counts and logs, once. A refusal says nothing about its sender but the reason.
fn tell(provider: &dyn Provider, outcome: &Outcome) {
    let account = &provider.account().id;
    let provider = name(provider.account().wallet);
    metrics::counter!("enrollpay_callbacks_total", "provider" => provider, "outcome" => outcome.as_str())
        .increment(1);
    match outcome {
        Outcome::Recorded | Outcome::Duplicate | Outcome::Noted | Outcome::Kept => {}
        Outcome::Refused(error) => {
            let reason = error.reason();
            metrics::counter!("enrollpay_callbacks_rejected_total", "provider" => provider, "reason" => reason)
                .increment(1);
            tracing::warn!(%account, reason, "a notice was not believed");
        }
        Outcome::OlderInterface => tracing::info!(
            %account,
            "a notice of the older interface: a refund made past this gateway, found by the next bill",
        ),
        Outcome::Unknown => tracing::warn!(%account, "a notice of an unknown number"),
        Outcome::TooLarge | Outcome::TooSlow => {
            tracing::warn!(%account, outcome = outcome.as_str(), "a notice was not read");
        }
        Outcome::Unavailable(why) => {
            tracing::error!(%account, why, "a notice was not recorded: its provider will send it again");
        }
    }
}

fn answer(provider: &dyn Provider, outcome: &Outcome) -> HttpResponse {
    let (status, content_type, body) = match outcome.refused_with() {
        None => {
            let (status, content_type, body) = provider.acknowledgement();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            (status, content_type, body)
        }
        Some(status) => {
            let (content_type, body) = provider.refusal();
            (status, content_type, body)
        }
    };
    let mut response = HttpResponse::build(status);
    if !content_type.is_empty() {
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static(content_type)));
    }
    response.body(body)
}

async fn handle(
    provider: &dyn Provider,
    headers: &HeaderMap,
    body: &Bytes,
    deps: &Deps,
) -> Outcome {
    let now = deps.clock.now();
    let headers: BTreeMap<String, String> = headers
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    match provider.read_notice(&headers, body, now) {
        Ok(Notice::Paid { notice_id, success }) => {
            crash_point("c6");
            paid(provider, notice_id, &success, body, deps, now).await
        }
        Ok(Notice::Refund {
            notice_id,
            news,
            success,
        }) => {
            let captured = match &success {
                Some(success) => {
                    crash_point("c6");
                    paid(provider, notice_id.clone(), success, body, deps, now).await
                }
                None => Outcome::Duplicate,
            };
            // What gave no capture to the books has no refund of ours either.
            if !matches!(captured, Outcome::Recorded | Outcome::Duplicate) {
                return captured;
            }
            match refunds::told(provider, notice_id, &news, body, deps, now).await {
                Outcome::Duplicate => captured,
                told => told,
            }
        }
        Ok(Notice::Other {
            notice_id,
            what,
            out_trade_no,
        }) => {
            let number = out_trade_no.and_then(|number| number.parse::<OutTradeNo>().ok());
            let order = number.map(|number| number.order);
            tracing::info!(account = %provider.account().id, what, "a notice without consequence");
            // Every verified word is acknowledged once stored (contract §5), this one too.
            let reason = format!("{}{what}", EvidenceRow::NOTED);
            match keep(provider, &notice_id, &reason, order, body, deps, now).await {
                Ok(()) => Outcome::Noted,
                Err(error) => unavailable(&error),
            }
        }
        Err(error @ NoticeError::Unreadable { .. }) => {
            let reference = hash_of(body);
            match keep(provider, &reference, "unreadable", None, body, deps, now).await {
                Ok(()) => Outcome::Refused(error),
                Err(error) => unavailable(&error),
            }
        }
        Err(NoticeError::OlderInterface) => Outcome::OlderInterface,
        Err(error) => Outcome::Refused(error),
    }
}

async fn paid(
    provider: &dyn Provider,
    notice_id: String,
    success: &Success,
    body: &Bytes,
    deps: &Deps,
    now: Timestamp,
) -> Outcome {
    let Ok(number) = success.out_trade_no.parse::<OutTradeNo>() else {
        return unknown(provider, &success.transaction_id, body, deps, now).await;
    };
    let account = &provider.account().id;
    match deps.orders.read_for_fact(number.order).await {
        Ok(Some(stored)) if is_recorded(&stored, number, account, success) => {
            return Outcome::Duplicate;
        }
        Ok(Some(_)) => {}
        Ok(None) => return unknown(provider, &success.transaction_id, body, deps, now).await,
        Err(error) => return orders_failed(&error),
    }
    let report = CaptureReport {
        attempt: number.attempt,
        account: account.clone(),
        application: success.application.clone(),
        transaction_id: success.transaction_id.clone(),
        amount: success.amount,
        currency: success.currency.clone(),
        succeeded_at: success.succeeded_at,
        surplus_refund: RefundId::from_ulid(deps.random.ulid(now)),
    };
    let request = Request {
        command: Command::Capture(report),
        actor: Actor::Provider,
        request_id: Some(notice_id),
        writes: Vec::new(),
    };
    let outcome = match deps.orders.tell(number.order, request).await {
        Ok(reply) => match reply.verdict {
            crate::actors::Verdict::Applied => {
                let lag = u64::try_from(now.since(success.succeeded_at)).unwrap_or_default();
                metrics::histogram!("enrollpay_callback_lag_seconds", "provider" => name(provider.account().wallet))
                    .record(Duration::from_millis(lag));
                Outcome::Recorded
            }
            crate::actors::Verdict::Already(_) => Outcome::Duplicate,
            // A capture is a fact: the heart refuses none.
            crate::actors::Verdict::Refused(_) => Outcome::Unavailable("the order refused a fact"),
        },
        Err(OrdersError::NotFound) => {
            return unknown(provider, &success.transaction_id, body, deps, now).await;
        }
        Err(OrdersError::Rejected(Rejection::CaptureKnown)) => {
            // Recorded already, for another trade: one transaction cannot have paid two.
            let reference = success.transaction_id.as_ref();
            let why = "recorded_elsewhere";
            match keep(
                provider,
                reference,
                why,
                Some(number.order),
                body,
                deps,
                now,
            )
            .await
            {
                Ok(()) => Outcome::Kept,
                Err(error) => return unavailable(&error),
            }
        }
        Err(error) => return orders_failed(&error),
    };
    crash_point("c7");
    outcome
}

/// Is exactly this success in the order already? Then there is nothing to write.
fn is_recorded(
    stored: &StoredOrder,
    number: OutTradeNo,
    account: &AccountId,
    success: &Success,
) -> bool {
    let trade_fits = stored
        .order
        .attempt(number.attempt)
        .and_then(|attempt| attempt.trade.as_ref())
        .is_some_and(|trade| trade.account == *account && trade.application == success.application);
    trade_fits
        && &*success.currency == CURRENCY
        && stored.order.captures.iter().any(|capture| {
            capture.attempt == number.attempt
                && capture.transaction_id == success.transaction_id
                && capture.amount == success.amount
        })
}

/// Money for a number that we do not know: 5xx at first, for a restore may be running; later it is
/// kept for a person, and acknowledged. `reference` is the provider's number of it.
async fn unknown(
    provider: &dyn Provider,
    reference: &str,
    body: &Bytes,
    deps: &Deps,
    now: Timestamp,
) -> Outcome {
    let account = &provider.account().id;
    let known = match deps.store.evidence(account, reference).await {
        Ok(known) => known,
        Err(error) => return unavailable(&error),
    };
    match known {
        Some(evidence) if now.since(evidence.first_seen) >= UNKNOWN_FOR_MS => {
            tracing::error!(%account, "money for a number of no order here: a person must look at the evidence");
            Outcome::Kept
        }
        Some(_) => Outcome::Unknown,
        None => match keep(provider, reference, "unknown_number", None, body, deps, now).await {
            Ok(()) => Outcome::Unknown,
            Err(error) => unavailable(&error),
        },
    }
}

/// Keeps the notice, sealed. The first copy stays.
async fn keep(
    provider: &dyn Provider,
    reference: &str,
    reason: &str,
    order: Option<OrderId>,
    body: &Bytes,
    deps: &Deps,
    now: Timestamp,
) -> Result<(), StoreError> {
    let account = &provider.account().id;
    let row = format!("{account}/{reference}");
    let place = Place {
        table: "evidence",
        column: "body",
        row: &row,
    };
    let evidence = EvidenceRow {
        account: account.clone(),
        reference: reference.to_owned(),
        reason: reason.to_owned(),
        body: deps.sealer.seal(place, body),
        order,
        first_seen: now,
        standing: EvidenceStanding::Open,
    };
    let transaction = Transaction {
        order: None,
        writes: vec![Write::Evidence(evidence)],
    };
    let verdicts = deps.store.commit(vec![transaction]).await?;
    match verdicts.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some(rejection) => {
            tracing::error!(%account, %rejection, "the store refused evidence");
            Err(StoreError::Unavailable {
                why: rejection.to_string(),
            })
        }
    }
}

const fn unavailable(error: &StoreError) -> Outcome {
    Outcome::Unavailable(match error {
        StoreError::Unavailable { .. } => "the store cannot be used",
        StoreError::OutcomeUnknown { .. } => "the store's answer was lost",
        StoreError::Inconsistent { .. } => "a row is inconsistent",
    })
}

const fn orders_failed(error: &OrdersError) -> Outcome {
    match error {
        OrdersError::NotFound => Outcome::Unknown,
        OrdersError::Overloaded { .. } => Outcome::Unavailable("too much is under way"),
        OrdersError::Rejected(_) => Outcome::Unavailable("the store refused the commit"),
        OrdersError::Store(error) => unavailable(error),
        OrdersError::ActorLost => Outcome::Unavailable("the order's actor was lost"),
        OrdersError::NoOwner => Outcome::Unavailable("the order is changing hands"),
        OrdersError::Stopping => Outcome::Unavailable("the gateway is stopping"),
    }
}

fn hash_of(body: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = digest::digest(&digest::SHA256, body);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

const fn name(wallet: Wallet) -> &'static str {
    match wallet {
        Wallet::Wechat => "wechatpay",
        Wallet::Alipay => "alipay",
    }
}
