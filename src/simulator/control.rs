//! `/control`: the levers over HTTP, JSON in and out, for tests in other processes.

mod bills;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::books::Refusal;
use super::faults::{Fault, Rule};
use super::handle::Handle;
use super::people::{Person, Wallet};
use super::world::World;

type Shared = web::Data<World>;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/control/books", web::get().to(books))
        .route("/control/scan", web::post().to(scan))
        .route("/control/pay", web::post().to(pay))
        .route("/control/pay_late", web::post().to(pay_late))
        .route("/control/give_up", web::post().to(give_up))
        .route("/control/redeliver", web::post().to(redeliver))
        .route("/control/forge", web::post().to(forge_notice))
        .route("/control/users", web::post().to(users))
        .route("/control/clock", web::get().to(clock))
        .route("/control/clock", web::post().to(advance))
        .route("/control/rotate", web::post().to(rotate))
        .route("/control/browsers", web::get().to(browsers))
        .configure(bills::routes)
        .route("/control/silence", web::post().to(silence))
        .route("/control/faults", web::get().to(faults))
        .route("/control/faults", web::post().to(add_faults))
        .route("/control/faults", web::delete().to(clear_faults));
}

fn handle(world: &Shared) -> Handle {
    Handle::new(Arc::clone(world))
}

fn failed(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": code, "detail": detail }))
}

fn refused(refusal: Refusal) -> HttpResponse {
    let status = if refusal == Refusal::Unknown {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::CONFLICT
    };
    failed(status, refusal.code(), &refusal.to_string())
}

fn unreadable(error: &serde_json::Error) -> HttpResponse {
    failed(
        StatusCode::BAD_REQUEST,
        "bad_request",
        &format!("expected the members this page documents; {error}"),
    )
}

macro_rules! read {
    ($body:expr) => {
        match serde_json::from_slice(&$body) {
            Ok(read) => read,
            Err(error) => return unreadable(&error),
        }
    };
}
use read;

/// Which order, and who acts on it. Only `out_trade_no` is required.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    out_trade_no: String,
    wallet: Option<Wallet>,
    user: Option<String>,
    /// The payment happens this much later; the answer is 202 at once.
    delay_ms: Option<u64>,
    /// From the payment to its first notice.
    notice_delay_ms: Option<u64>,
}

async fn books(world: Shared, query: web::Query<HashMap<String, String>>) -> HttpResponse {
    let mut all = handle(&world).books();
    if let (Some(number), Some(list)) = (query.get("out_trade_no"), all["trades"].as_array_mut()) {
        list.retain(|trade| trade["out_trade_no"] == json!(number));
    }
    HttpResponse::Ok().json(all)
}

/// Either what a code says, or an order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    content: Option<String>,
    out_trade_no: Option<String>,
    wallet: Option<Wallet>,
    user: Option<String>,
}

async fn scan(world: Shared, body: web::Bytes) -> HttpResponse {
    let scan: Scan = read!(body);
    let handle = handle(&world);
    let target = match (&scan.content, &scan.out_trade_no) {
        (Some(content), _) => {
            let Some(token) = super::wallet::token_of(content) else {
                return failed(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "not_a_native_code",
                    "expected weixin://wxpay/bizpayurl?pr=… or https://qr.alipay.com/…; a gateway address is opened in the wallet's browser: GET /wallet/open?user=…&url=…",
                );
            };
            let found = world.books().redeem(&token, world.now());
            match found {
                Ok(found) => Some(found),
                Err(refusal) => return refused(refusal),
            }
        }
        (None, Some(number)) => handle
            .find(scan.wallet, number, scan.user.as_deref())
            .map(|(wallet, _)| (wallet, number.clone())),
        (None, None) => None,
    };
    let Some((wallet, number)) = target else {
        return refused(Refusal::Unknown);
    };
    let person = match scan.user.as_deref() {
        // A face has its own wallet: scanning a foreign code must fail as it does on a phone.
        Some(user) => Person::face(user).or_else(|| Person::new(wallet, user)),
        None => handle
            .find(Some(wallet), &number, None)
            .map(|(_, person)| person),
    };
    let Some(person) = person else {
        return refused(Refusal::Unknown);
    };
    match handle.open(wallet, &number, &person).await {
        Ok(_) => answer(&world, wallet, &number),
        Err(refusal) => refused(refusal),
    }
}

fn answer(world: &World, wallet: Wallet, number: &str) -> HttpResponse {
    let now = world.now();
    let found = world.books().trade_json(wallet, number, now);
    match found {
        Some(trade) => HttpResponse::Ok().json(trade),
        None => refused(Refusal::Unknown),
    }
}

async fn pay(world: Shared, body: web::Bytes) -> HttpResponse {
    let act: Act = read!(body);
    act_on(world, act, true).await
}

async fn pay_late(world: Shared, body: web::Bytes) -> HttpResponse {
    let act: Act = read!(body);
    act_on(world, act, false).await
}

async fn act_on(world: Shared, act: Act, begin: bool) -> HttpResponse {
    let handle = handle(&world);
    let Some((wallet, person)) = handle.find(act.wallet, &act.out_trade_no, act.user.as_deref())
    else {
        return refused(Refusal::Unknown);
    };
    let notice_delay = act.notice_delay_ms.map(Duration::from_millis);
    let number = act.out_trade_no;
    if let Some(millis) = act.delay_ms {
        actix_web::rt::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let paid = if begin {
                handle.pay(wallet, &number, &person, notice_delay).await
            } else {
                handle
                    .pay_late(wallet, &number, &person, notice_delay)
                    .await
            };
            if let Err(refusal) = paid {
                tracing::debug!(code = refusal.code(), "a delayed payment was refused");
            }
        });
        return HttpResponse::Accepted().json(json!({ "accepted": true }));
    }
    let paid = if begin {
        handle.pay(wallet, &number, &person, notice_delay).await
    } else {
        handle
            .pay_late(wallet, &number, &person, notice_delay)
            .await
    };
    match paid {
        Ok(_) => answer(&world, wallet, &number),
        Err(refusal) => refused(refusal),
    }
}

async fn give_up(world: Shared, body: web::Bytes) -> HttpResponse {
    let act: Act = read!(body);
    let handle = handle(&world);
    let Some((wallet, _)) = handle.find(act.wallet, &act.out_trade_no, act.user.as_deref()) else {
        return refused(Refusal::Unknown);
    };
    match handle.give_up(wallet, &act.out_trade_no).await {
        Ok(_) => answer(&world, wallet, &act.out_trade_no),
        Err(refusal) => refused(refusal),
    }
}

async fn redeliver(world: Shared, body: web::Bytes) -> HttpResponse {
    let act: Act = read!(body);
    let handle = handle(&world);
    let Some((wallet, _)) = handle.find(act.wallet, &act.out_trade_no, None) else {
        return refused(Refusal::Unknown);
    };
    let sent = handle.redeliver(wallet, &act.out_trade_no);
    HttpResponse::Ok().json(json!({ "redelivering": sent }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Forge {
    out_trade_no: String,
    wallet: Option<Wallet>,
    fault: Fault,
}

async fn forge_notice(world: Shared, body: web::Bytes) -> HttpResponse {
    let forge: Forge = read!(body);
    if !forge.fault.spoils() {
        return failed(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "fault: expected one that spoils a notice, such as forged or wrong_amount",
        );
    }
    let handle = handle(&world);
    let Some((wallet, _)) = handle.find(forge.wallet, &forge.out_trade_no, None) else {
        return refused(Refusal::Unknown);
    };
    match handle.forge(wallet, &forge.out_trade_no, forge.fault).await {
        Some((status, acked)) => {
            HttpResponse::Ok().json(json!({ "status": status, "acked": acked }))
        }
        None => refused(Refusal::Unknown),
    }
}

/// A notice about a payment as it would look had it happened now, spoiled, sent once.
pub(super) async fn forge(
    world: &World,
    wallet: Wallet,
    out_trade_no: &str,
    fault: Fault,
) -> Option<(Option<u16>, bool)> {
    let now = world.now();
    let mut trade = world.books().trade(wallet, out_trade_no)?.clone();
    if trade.captures.is_empty() {
        let by = trade.buyer.clone().or_else(|| {
            Some(
                super::people::FACES
                    .iter()
                    .find(|face| face.1 == wallet)?
                    .0
                    .to_owned(),
            )
        })?;
        let person = Person::new(wallet, &by)?;
        trade.state = super::books::State::Waiting;
        trade.time_expire = now;
        trade.begun_at = Some(now);
        trade.exists = true;
        // A forger asks nobody who they are.
        trade.identity = None;
        trade.pay(&person, now, || world.trade_no(wallet, 0)).ok()?;
    }
    let notice = match wallet {
        Wallet::Wechat => super::wechatpay::notice::paid(world, &trade),
        Wallet::Alipay => super::alipay::notice::paid(world, &trade),
    }?;
    if !super::world::may_be_called(&notice.url) {
        return None;
    }
    let letter = match wallet {
        Wallet::Wechat => super::wechatpay::notice::letter(world, &notice, Some(fault)),
        Wallet::Alipay => super::alipay::notice::letter(world, &notice, Some(fault)),
    };
    let client = super::notices::client().ok()?;
    Some(super::notices::post(&client, wallet, &notice.url, letter).await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    wallet: Wallet,
    user: String,
}

async fn users(world: Shared, body: web::Bytes) -> HttpResponse {
    let user: User = read!(body);
    match handle(&world).meet(user.wallet, &user.user) {
        Some((person, payer)) => HttpResponse::Ok().json(json!({
            "wallet": person.wallet, "user": person.id, "payer": payer,
            "real_name": person.real_name(),
        })),
        None => failed(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "user: expected 1 to 40 letters, digits, - or _",
        ),
    }
}

async fn clock(world: Shared) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "now": world.now() }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: i64,
}

async fn advance(world: Shared, body: web::Bytes) -> HttpResponse {
    let advance: Advance = read!(body);
    let now = handle(&world).advance_clock(advance.advance_ms).await;
    HttpResponse::Ok().json(json!({ "now": now }))
}

async fn rotate(world: Shared) -> HttpResponse {
    match handle(&world).rotate_wechat_certificate() {
        Ok(serial) => HttpResponse::Ok().json(json!({ "serial_no": serial })),
        Err(error) => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            &error.to_string(),
        ),
    }
}

async fn browsers(world: Shared) -> HttpResponse {
    let list: Vec<Value> = world
        .browsers
        .iter()
        .map(|(user, _)| json!({ "user": user, "origin": super::browser::origin(&world, user) }))
        .collect();
    HttpResponse::Ok().json(list)
}

/// One or a list of them.
fn one_or_many<T: serde::de::DeserializeOwned>(value: Value) -> Result<Vec<T>, serde_json::Error> {
    if value.is_object() {
        serde_json::from_value(value).map(|one| vec![one])
    } else {
        serde_json::from_value(value)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silence {
    wallet: Option<Wallet>,
    out_trade_no: Option<String>,
    silent: Option<bool>,
}

async fn silence(world: Shared, body: web::Bytes) -> HttpResponse {
    let silence: Silence = read!(body);
    let handle = handle(&world);
    handle.silence(
        silence.wallet,
        silence.out_trade_no.as_deref(),
        silence.silent.unwrap_or(true),
    );
    HttpResponse::Ok().json(handle.faults())
}

async fn faults(world: Shared) -> HttpResponse {
    HttpResponse::Ok().json(handle(&world).faults())
}

/// One rule or a list of them.
async fn add_faults(world: Shared, body: web::Bytes) -> HttpResponse {
    let rules: Vec<Rule> = match one_or_many(read!(body)) {
        Ok(rules) => rules,
        Err(error) => return unreadable(&error),
    };
    for rule in &rules {
        if let Err(why) = rule.check() {
            return failed(StatusCode::BAD_REQUEST, "bad_request", &why);
        }
    }
    let handle = handle(&world);
    for mut rule in rules {
        rule.hits = 0;
        handle.add_fault(rule);
    }
    HttpResponse::Ok().json(handle.faults())
}

async fn clear_faults(world: Shared) -> HttpResponse {
    handle(&world).clear_faults();
    HttpResponse::NoContent().finish()
}
