//! `POST /s/{scan_token}/pay`: 确认付款. Pay parameters leave only after a command that still found
//! the attempt live, with its trade made.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::page::{Scanned, confirm, find, frame, merchant, say, trouble, write};
use super::proof;
use super::standing::Standing;
use crate::actors::{Reply, Verdict};
use crate::http::attempts::settled;
use crate::http::cashier::actions::tell;
use crate::http::cashier::page::Frame;
use crate::http::cashier::panel::wallet_name;
use crate::http::cashier::visitor::{Form, Visitor};
use crate::http::problem::{Code, Problem};
use crate::http::words::{Words, fill};
use crate::http::{Deps, refusal};
use crate::order::{Attempt, Command, PayerHash, TradeStanding};
use crate::provider::PayParameters;
use crate::store::{PayerIdentity, StoredOrder};

/// How long a press waits for the provider to make the trade.
const WAIT_FOR_TRADE: Duration = Duration::from_secs(8);

/// The page that opens the wallet's payment, and shows the result afterwards.
#[derive(Template)]
#[template(path = "scan/pay.html")]
struct Paying {
    frame: Frame,
    w: &'static Words,
    base: String,
    csrf: String,
    proof: String,
    heading: String,
    text: &'static str,
    amount: String,
    subject: String,
    kind: &'static str,
    parameters: String,
    link: Option<String>,
    client_words: String,
    pay_page: String,
}

/// A press by the claimant, or the answer to somebody else.
pub struct Claimant {
    pub visitor: Visitor,
    pub token: String,
    pub scanned: Scanned,
    pub proof: String,
    pub payer: PayerHash,
}

impl std::fmt::Debug for Claimant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Claimant(***)")
    }
}

/// Reads a press that only a claimant may make. The proof is a secret of the claimant's page; where
/// the cookie of a visit came as well, the CSRF token must fit it.
async fn claimant(
    request: &HttpRequest,
    payload: web::Payload,
    deps: &Deps,
    visitor: &Visitor,
    token: String,
) -> Result<Claimant, End> {
    let form = Form::read(request, payload, deps).await?;
    let scanned = find(deps, &token).await?;
    let in_form = form.get("k").map(ToOwned::to_owned);
    let fits = visitor.check_csrf(deps, &token, form.get("csrf"));
    if !fits && (!visitor.is_new() || in_form.is_none()) {
        return Err(End::Problem(Problem::new(
            Code::PageStale,
            "Expected the csrf member and the cookie of a page that this browser loaded.",
        )));
    }
    let proof = in_form
        .or_else(|| proof::from_cookie(request, &token))
        .unwrap_or_default();
    let Some(payer) = proof::payer(deps, scanned.attempt.id, &proof) else {
        return Err(End::Standing(token, Box::new(scanned), Standing::NotYours));
    };
    Ok(Claimant {
        visitor: visitor.clone(),
        token,
        scanned,
        proof,
        payer,
    })
}

/// How a press ends early.
#[derive(Debug)]
pub enum End {
    Problem(Problem),
    Standing(String, Box<Scanned>, Standing),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl End {
    pub async fn answer(self, deps: &Deps, visitor: &Visitor) -> Result<HttpResponse, Problem> {
        match self {
            Self::Problem(problem) => trouble(deps, visitor, problem),
            Self::Standing(token, scanned, standing) => {
                match say(deps, visitor, &token, &scanned, standing).await {
                    Ok(response) => Ok(response),
                    Err(problem) => trouble(deps, visitor, problem),
                }
            }
        }
    }
}

/// The handler.
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    by_claimant(&request, payload, path.into_inner(), &deps, pay).await
}

/// Does what only the claimant may ask for; anybody else, and any trouble, gets its page.
pub async fn by_claimant(
    request: &HttpRequest,
    payload: web::Payload,
    token: String,
    deps: &Deps,
    act: impl AsyncFnOnce(&Deps, &Claimant) -> Result<HttpResponse, Problem>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(request, deps);
    let claimant = match claimant(request, payload, deps, &visitor, token).await {
        Ok(claimant) => claimant,
        Err(end) => return end.answer(deps, &visitor).await,
    };
    match act(deps, &claimant).await {
        Ok(response) => Ok(response),
        Err(problem) => trouble(deps, &visitor, problem),
    }
}

async fn pay(deps: &Deps, claimant: &Claimant) -> Result<HttpResponse, Problem> {
    let Claimant {
        visitor,
        token,
        scanned,
        payer,
        ..
    } = claimant;
    let (id, number) = (scanned.stored.order.id, scanned.attempt.number);
    let deadline = Instant::now() + WAIT_FOR_TRADE;
    let mut watch = deps.orders.watch(id);
    let mut heard = deps.orders.heard(id);
    loop {
        watch.borrow_and_update();
        let before = heard.borrow_and_update().trades_unanswered;
        let command = Command::Pay {
            attempt: number,
            payer: *payer,
        };
        let reply = tell(deps, id, command, Vec::new()).await?;
        let found = current(scanned, &reply);
        if let Verdict::Refused(refusal) = &reply.verdict {
            if visitor.json {
                return Err(refusal::refused(
                    refusal,
                    &reply.stored,
                    &deps.view(),
                    deps.clock.now(),
                ));
            }
            let standing = Standing::of_refusal(refusal);
            return say(deps, visitor, token, &found, standing).await;
        }
        if let Some(handle) = handle(&found.attempt) {
            return hand_out(deps, claimant, &found, handle).await;
        }
        if Instant::now() >= deadline {
            return busy(deps, claimant, &found).await;
        }
        // Wait for news of the trade before pressing again: every press may repeat the call.
        loop {
            tokio::select! {
                () = settled(&mut watch, deadline) => {}
                Ok(()) = heard.changed() => {}
            }
            if heard.borrow_and_update().trades_unanswered > before {
                return busy(deps, claimant, &found).await;
            }
            watch.borrow_and_update();
            let read = deps.orders.read(id).await;
            let read = read.map_err(|error| refusal::unanswered(&error, &deps.view()))?;
            let is_news = read.is_some_and(|stored| is_decided(&stored, number));
            if is_news || Instant::now() >= deadline {
                break;
            }
        }
    }
}

fn current(scanned: &Scanned, reply: &Reply) -> Scanned {
    let attempt = reply.stored.order.attempt(scanned.attempt.number).cloned();
    Scanned {
        attempt: attempt.unwrap_or_else(|| scanned.attempt.clone()),
        stored: std::sync::Arc::clone(&reply.stored),
    }
}

fn handle(attempt: &Attempt) -> Option<&str> {
    match &attempt.trade.as_ref()?.standing {
        TradeStanding::Made { handle, .. } if attempt.is_open() => Some(handle),
        _ => None,
    }
}

/// Is it known what became of the trade, or is the attempt over?
fn is_decided(stored: &StoredOrder, number: crate::order::AttemptNumber) -> bool {
    stored.order.attempt(number).is_none_or(|attempt| {
        !attempt.is_open()
            || attempt
                .trade
                .as_ref()
                .is_some_and(|trade| trade.standing != TradeStanding::Intended)
    })
}

/// The provider has not answered: the claim stands, and the same press asks again.
async fn busy(deps: &Deps, claimant: &Claimant, found: &Scanned) -> Result<HttpResponse, Problem> {
    if claimant.visitor.json {
        return Err(Problem::new(
            Code::ProviderUnavailable,
            "The provider has not made the trade yet: the claim stands, repeat this request.",
        )
        .retry_after(2));
    }
    let answer = Some(claimant.visitor.words().answer_wallet_busy);
    let Claimant {
        visitor,
        token,
        proof,
        ..
    } = claimant;
    confirm(deps, visitor, token, found, proof, answer).await
}

async fn hand_out(
    deps: &Deps,
    claimant: &Claimant,
    found: &Scanned,
    handle: &str,
) -> Result<HttpResponse, Problem> {
    let visitor = &claimant.visitor;
    let w = visitor.words();
    let parameters = parameters(deps, found, handle).await?;
    let (kind, parameters, link) = match parameters {
        PayParameters::Jsapi(members) => ("jsapi", json!(members), None),
        PayParameters::TradePay { trade_no } => ("trade_pay", json!({ "tradeNO": trade_no }), None),
        PayParameters::Link { url } => ("link", json!({ "url": url }), Some(url)),
        PayParameters::Code { .. } => {
            return Err(Problem::new(
                Code::InternalError,
                "A claimed attempt cannot have the provider's own code.",
            ));
        }
    };
    if visitor.json {
        let mut response = HttpResponse::Ok();
        visitor.dress(deps, &mut response, super::page::SCAN_POLICY);
        return Ok(response.json(json!({ "type": kind, "parameters": parameters })));
    }
    let merchant = merchant(deps, &found.stored).await;
    let wallet = found
        .attempt
        .claim
        .map_or("", |claim| wallet_name(claim.product.wallet(), w));
    let (heading, text) = if link.is_some() {
        let heading = fill(w.leaving_heading, &[("wallet", wallet)]);
        (heading, w.leaving_text)
    } else {
        (w.in_wallet_heading.to_owned(), w.in_wallet_text)
    };
    let page = Paying {
        frame: frame(visitor, &heading, merchant.as_ref()),
        w,
        base: format!("/s/{}", claimant.token),
        csrf: visitor.csrf(deps, &claimant.token),
        proof: claimant.proof.clone(),
        heading,
        text,
        amount: found.stored.order.terms.amount.to_string(),
        subject: found.stored.snapshot.subject.clone(),
        kind,
        parameters: parameters.to_string(),
        link,
        client_words: client_words(w, found).to_string(),
        pay_page: format!(
            "/pay/{}{}",
            deps.view().pay_token(found.stored.order.id),
            visitor.query
        ),
    };
    write(deps, visitor, StatusCode::OK, &page)
}

fn client_words(w: &'static Words, found: &Scanned) -> Value {
    // The wallet itself says why it refuses somebody; the page says what to do about it.
    let unpaid = match found.stored.snapshot.payer_identity {
        PayerIdentity::Provider => w.unpaid_own_text,
        PayerIdentity::None | PayerIdentity::Confirm => w.unpaid_text,
    };
    json!({
        "unpaid": [w.unpaid_heading, unpaid],
        "bridge": [w.bridge_heading, w.bridge_text],
        "offline": [w.offline_heading, w.offline_text],
        "service": w.service,
    })
}

async fn parameters(deps: &Deps, found: &Scanned, handle: &str) -> Result<PayParameters, Problem> {
    let order = found.stored.order.id;
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        tracing::error!(%order, %error, "{what}");
        Problem::new(
            Code::InternalError,
            "The payment could not be prepared: the claim stands, try again.",
        )
    };
    let request = deps
        .orders
        .trade_request(&found.stored, found.attempt.number)
        .await
        .map_err(|error| unusable("a trade's request cannot be made again", &error))?;
    let account = found.attempt.trade.as_ref().map(|trade| &trade.account);
    let provider = account
        .and_then(|account| deps.providers.get(account))
        .ok_or_else(|| unusable("an order's account is not configured any more", &order))?;
    provider
        .pay_parameters(&request, handle)
        .map_err(|error| unusable("pay parameters cannot be signed", &error))
}
