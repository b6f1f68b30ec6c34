//! `GET /s/{scan_token}`: fetched by previews, scanners and the wallets themselves, so it claims
//! nothing and shows nothing personal; and the pages that this room is made of.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde_json::json;

use super::proof::{self, CLAIM_COOKIE, cookie_value};
use super::standing::Standing;
use crate::http::cashier::page::{Frame, ItemLine, payer_label, registrant_facts};
use crate::http::cashier::visitor::{App, Visitor, cookie, html, zone};
use crate::http::problem::{Code, Problem};
use crate::http::words::{Words, fill};
use crate::http::{Deps, cashier, refusal};
use crate::order::{Attempt, PayerHash, Wallet};
use crate::provider::Provider;
use crate::sealing::{TokenHash, TokenKind, token_hash};
use crate::store::{Merchant, OauthState, PayerIdentity, StoredOrder, Transaction, Write};

/// The policy of these pages: the wallets' own schemes may be opened, and Trusted Types only report,
/// because the wallets run scripts of their own in them.
pub const SCAN_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'; frame-src weixin: alipay: alipays:";
const REPORT_ONLY: &str = "require-trusted-types-for 'script'";

/// An attempt found by its scan token.
#[derive(Clone, Debug)]
pub struct Scanned {
    pub stored: Arc<StoredOrder>,
    pub attempt: Attempt,
}

/// The attempt behind a scan token. The token is derived again from the attempt: a row that names
/// the wrong one opens nothing.
pub async fn find(deps: &Deps, token: &str) -> Result<Scanned, Problem> {
    let hash = token_hash(TokenKind::Scan, token);
    let target = deps
        .store
        .token(TokenKind::Scan, hash)
        .await
        .map_err(|error| refusal::store_failed(&error))?
        .ok_or_else(Problem::not_found)?;
    let view = deps.view();
    let stored = deps
        .orders
        .read(target.order)
        .await
        .map_err(|error| refusal::unanswered(&error, &view))?
        .ok_or_else(Problem::not_found)?;
    let attempt = stored
        .order
        .attempts
        .iter()
        .find(|attempt| token_hash(TokenKind::Scan, &view.scan_token(attempt.id)) == hash)
        .cloned()
        .ok_or_else(Problem::not_found)?;
    Ok(Scanned { stored, attempt })
}

/// Whom the request proves to be, where that is the attempt's claimant.
pub fn claimant(
    deps: &Deps,
    attempt: &Attempt,
    proof: Option<&str>,
) -> Option<(PayerHash, String)> {
    let proof = proof?;
    let payer = proof::payer(deps, attempt.id, proof)?;
    let claim = attempt.claim.as_ref()?;
    (claim.payer == payer).then(|| (payer, proof.to_owned()))
}

/// The merchant, for its name and help lines; pages go without where it cannot be read.
pub async fn merchant(deps: &Deps, stored: &StoredOrder) -> Option<Merchant> {
    deps.store
        .merchant(stored.order.terms.merchant)
        .await
        .ok()
        .flatten()
}

/// One heading, one sentence, and what to do next.
#[derive(Debug, Template)]
#[template(path = "scan/message.html")]
struct Message {
    frame: Frame,
    w: &'static Words,
    tone: &'static str,
    heading: &'static str,
    text: &'static str,
    /// A link that a script follows by itself.
    follow: Option<String>,
    link: Option<(String, &'static str)>,
    second: Option<(String, &'static str)>,
    state: &'static str,
    watch: Option<String>,
    help: Option<String>,
}

/// The page that posts the code, or, where the wallet gives none, the press that claims.
#[derive(Debug, Template)]
#[template(path = "scan/opening.html")]
struct Opening {
    frame: Frame,
    w: &'static Words,
    action: String,
    csrf: String,
    code: String,
    state: String,
    again: bool,
    by_itself: bool,
}

/// What the claimant sees: the person, the items, the total.
#[derive(Template)]
#[template(path = "scan/confirm.html")]
pub struct Confirm {
    frame: Frame,
    w: &'static Words,
    base: String,
    csrf: String,
    proof: String,
    subject: String,
    amount: String,
    facts: Vec<(&'static str, String)>,
    items: Vec<ItemLine>,
    until: String,
    tick: bool,
    wechat: bool,
    answer: Option<&'static str>,
    help: Option<String>,
}

impl std::fmt::Debug for Confirm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Confirm(***)")
    }
}

/// An answer of this room.
pub fn write(
    deps: &Deps,
    visitor: &Visitor,
    status: StatusCode,
    page: &impl Template,
) -> Result<HttpResponse, Problem> {
    let mut response = html(visitor, deps, status, SCAN_POLICY, page)?;
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
        header::HeaderValue::from_static(REPORT_ONLY),
    );
    Ok(response)
}

/// A problem, as this room's visitors read it.
pub fn trouble(deps: &Deps, visitor: &Visitor, problem: Problem) -> Result<HttpResponse, Problem> {
    cashier::page::trouble(deps, visitor, problem)
}

/// How the attempt stands, on a page or as JSON.
pub async fn say(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    standing: Standing,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let standing = standing.seen_in(&scanned.attempt);
    let (heading, text) = standing.words(w);
    if visitor.json {
        return Ok(state_json(deps, visitor, standing, standing.status()));
    }
    let merchant = merchant(deps, &scanned.stored).await;
    let view = deps.view();
    let pay_page = format!(
        "/pay/{}{}",
        view.pay_token(scanned.stored.order.id),
        visitor.query
    );
    // Whoever came second learns nothing of the person whose order it is.
    let may_see = !matches!(standing, Standing::ScannedByOther | Standing::NotYours);
    let page = Message {
        frame: frame(visitor, heading, merchant.as_ref()),
        w,
        tone: standing.tone(),
        heading,
        text,
        follow: None,
        link: may_see.then_some((pay_page, w.see_page)),
        second: None,
        state: standing.name(),
        watch: (!standing.is_final()).then(|| format!("/s/{token}{}", visitor.query)),
        help: help(merchant.as_ref()),
    };
    write(deps, visitor, standing.status(), &page)
}

fn help(merchant: Option<&Merchant>) -> Option<String> {
    merchant.and_then(|merchant| merchant.help_lines[0].clone())
}

pub fn frame(visitor: &Visitor, heading: &str, merchant: Option<&Merchant>) -> Frame {
    let payee = merchant.map_or(visitor.words().service, |merchant| {
        merchant.display_name.as_str()
    });
    Frame::of(visitor, heading, payee, "scan.js")
}

pub fn state_json(
    deps: &Deps,
    visitor: &Visitor,
    standing: Standing,
    status: StatusCode,
) -> HttpResponse {
    let (heading, text) = standing.words(visitor.words());
    let mut response = HttpResponse::build(status);
    visitor.dress(deps, &mut response, SCAN_POLICY);
    response.json(json!({
        "state": standing.name(),
        "tone": standing.tone(),
        "heading": heading,
        "text": text,
        "done": standing.is_final(),
    }))
}

/// A page that leaves by script, or by its link.
pub async fn leave(
    deps: &Deps,
    visitor: &Visitor,
    stored: &StoredOrder,
    to: String,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    if visitor.json {
        let mut response = HttpResponse::Ok();
        visitor.dress(deps, &mut response, SCAN_POLICY);
        return Ok(response.json(json!({ "url": to })));
    }
    let merchant = merchant(deps, stored).await;
    let page = Message {
        frame: frame(visitor, w.opening_heading, merchant.as_ref()),
        w,
        tone: "calm",
        heading: w.opening_heading,
        text: w.opening_text,
        follow: Some(to.clone()),
        link: Some((to, w.go_on)),
        second: None,
        state: "opening",
        watch: None,
        help: None,
    };
    write(deps, visitor, StatusCode::OK, &page)
}

/// The wallet could not be identified: a button, and no loop.
pub async fn retry(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    stored: &StoredOrder,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    if visitor.json {
        return Err(Problem::new(
            Code::ProviderUnavailable,
            "The wallet's code could not be exchanged: load the address of the QR code again.",
        ));
    }
    let merchant = merchant(deps, stored).await;
    let page = Message {
        frame: frame(visitor, w.oauth_heading, merchant.as_ref()),
        w,
        tone: "wait",
        heading: w.oauth_heading,
        text: w.oauth_text,
        follow: None,
        link: Some((format!("/s/{token}{}", visitor.query), w.retry)),
        second: None,
        state: "retry",
        watch: None,
        help: help(merchant.as_ref()),
    };
    write(deps, visitor, StatusCode::OK, &page)
}

/// The claimant's page: whom and what, and one press.
pub async fn confirm(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    proof: &str,
    answer: Option<&'static str>,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let merchant = merchant(deps, &scanned.stored).await;
    let page = confirm_page(
        deps,
        visitor,
        token,
        scanned,
        merchant.as_ref(),
        proof,
        answer,
    );
    let mut response = if visitor.json {
        let mut response = HttpResponse::Ok();
        visitor.dress(deps, &mut response, SCAN_POLICY);
        response.json(json!({
            "state": "claimed",
            "heading": w.confirm_heading,
            "proof": proof,
            "csrf": page.csrf,
            "payer": scanned.stored.snapshot.payer_masked,
            "amount": scanned.stored.order.terms.amount,
            "items": scanned.stored.snapshot.items,
        }))
    } else {
        write(deps, visitor, StatusCode::OK, &page)?
    };
    // Ours and short: it fits a header.
    let _ = response.add_cookie(&cookie(
        deps,
        CLAIM_COOKIE,
        &cookie_value(token, proof),
        "/",
    ));
    Ok(response)
}

fn confirm_page(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    merchant: Option<&Merchant>,
    proof: &str,
    answer: Option<&'static str>,
) -> Confirm {
    let w = visitor.words();
    let snapshot = &scanned.stored.snapshot;
    let person = &snapshot.payer_masked;
    let mut facts = Vec::new();
    for (label, value) in [
        (
            w.payee,
            merchant.map(|merchant| merchant.display_name.clone()),
        ),
        (payer_label(w, snapshot), person.name.clone()),
        (w.id_number, person.id_number.clone()),
        (w.order_number, Some(snapshot.merchant_order_no.clone())),
    ] {
        facts.extend(value.map(|value| (label, value)));
    }
    facts.extend(registrant_facts(w, person));
    if snapshot.payer_identity == PayerIdentity::Provider {
        facts.push((w.payer_account, w.own_account.to_owned()));
    }
    Confirm {
        frame: frame(visitor, w.confirm_heading, merchant),
        w,
        base: format!("/s/{token}"),
        csrf: visitor.csrf(deps, token),
        proof: proof.to_owned(),
        subject: snapshot.subject.clone(),
        amount: scanned.stored.order.terms.amount.to_string(),
        facts,
        items: snapshot
            .items
            .iter()
            .map(|item| ItemLine {
                code: item.code.clone().unwrap_or_default(),
                name: item.name.clone(),
                note: item.note.clone().unwrap_or_default(),
                fee: item.amount.to_yuan(),
            })
            .collect(),
        until: fill(
            w.deadline_at,
            &[("time", &zone(deps).clock(scanned.attempt.expires_at))],
        ),
        tick: snapshot.payer_identity == PayerIdentity::Confirm,
        wechat: scanned
            .attempt
            .claim
            .is_some_and(|claim| claim.product.wallet() == Wallet::Wechat),
        answer,
        help: help(merchant),
    }
}

/// The keyed hash under which a `state` or a code is kept.
pub fn kept_hash(deps: &Deps, kind: &str, value: &str) -> TokenHash {
    TokenHash(deps.sealer.index(kind, value).to_be_bytes())
}

fn query_value(request: &HttpRequest, names: &[&str]) -> Option<String> {
    url::form_urlencoded::parse(request.query_string().as_bytes())
        .find(|(name, _)| names.contains(&&**name))
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.is_empty())
}

/// The handler.
pub async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let token = path.into_inner();
    let scanned = match find(&deps, &token).await {
        Ok(scanned) => scanned,
        Err(problem) => return trouble(&deps, &visitor, problem),
    };
    match answer(&request, &deps, &visitor, &token, &scanned).await {
        Ok(response) => Ok(response),
        Err(problem) => trouble(&deps, &visitor, problem),
    }
}

async fn answer(
    request: &HttpRequest,
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
) -> Result<HttpResponse, Problem> {
    let now = deps.clock.now();
    let standing = Standing::of(&scanned.stored.order, &scanned.attempt, now);
    if visitor.json {
        if query_value(request, &["bridge"]).as_deref() == Some("timeout")
            && let Some(claim) = scanned.attempt.claim
        {
            let wallet = claim.product.wallet().as_str();
            metrics::counter!("enrollpay_bridge_timeouts_total", "wallet" => wallet).increment(1);
        }
        return Ok(state_json(deps, visitor, standing, StatusCode::OK));
    }
    if standing != Standing::Open {
        return say(deps, visitor, token, scanned, standing).await;
    }
    let given = proof::given(request, token);
    if let Some((_, proof)) = claimant(deps, &scanned.attempt, given.as_deref()) {
        return confirm(deps, visitor, token, scanned, &proof, None).await;
    }
    let again = query_value(request, &["again"]).is_some();
    let code = query_value(request, &["code", "auth_code"]);
    let state = query_value(request, &["state"]);
    if let (Some(code), Some(state)) = (code, state) {
        return open(deps, visitor, token, scanned, Some((code, state)), again).await;
    }
    let wallet = match visitor.app {
        App::Wechat => Wallet::Wechat,
        App::Alipay => Wallet::Alipay,
        App::Phone | App::Computer => return wrong_app(deps, visitor, scanned).await,
    };
    let provider = provider_of(deps, &scanned.stored, wallet);
    let Some(provider) = provider else {
        return not_offered(deps, visitor, scanned, wallet).await;
    };
    if wallet == Wallet::Alipay && provider.account().alipay_wap {
        return open(deps, visitor, token, scanned, None, false).await;
    }
    if request.method() == Method::HEAD {
        // A look from outside: nothing is kept for it.
        return open(deps, visitor, token, scanned, None, false).await;
    }
    let to = begin_oauth(deps, token, scanned, &**provider, again).await?;
    let mut response = HttpResponse::Found();
    visitor.dress(deps, &mut response, SCAN_POLICY);
    Ok(response.insert_header((header::LOCATION, to)).finish())
}

/// The account that takes this order's money from a wallet.
pub fn provider_of<'a>(
    deps: &'a Deps,
    stored: &StoredOrder,
    wallet: Wallet,
) -> Option<&'a Arc<dyn Provider>> {
    deps.providers
        .get(&stored.order.terms.offer(wallet)?.account)
}

/// Keeps a fresh state and says where the wallet's browser goes with it.
async fn begin_oauth(
    deps: &Deps,
    token: &str,
    scanned: &Scanned,
    provider: &dyn Provider,
    again: bool,
) -> Result<String, Problem> {
    let state = deps.random.hex::<16>();
    let row = OauthState {
        state_hash: kept_hash(deps, "oauth_state", &state),
        order: scanned.stored.order.id,
        attempt: scanned.attempt.number,
        account: provider.account().id.clone(),
        created_at: deps.clock.now(),
        used: None,
    };
    let kept = deps
        .store
        .commit(vec![Transaction {
            order: None,
            writes: vec![Write::OauthState(row)],
        }])
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    for result in kept {
        result.map_err(|rejection| refusal::rejected(&rejection, &deps.view()))?;
    }
    let mark = if again { "?again=1" } else { "" };
    let back = format!("{}/s/{token}{mark}", deps.settings.public_url);
    Ok(provider.authorize_url(&back, &state))
}

async fn open(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    brought: Option<(String, String)>,
    again: bool,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let merchant = merchant(deps, &scanned.stored).await;
    let by_itself = brought.is_some();
    let (code, state) = brought.unwrap_or_default();
    let page = Opening {
        frame: frame(visitor, w.opening_heading, merchant.as_ref()),
        w,
        action: format!("/s/{token}/claim{}", visitor.query),
        csrf: visitor.csrf(deps, token),
        code,
        state,
        again,
        by_itself,
    };
    write(deps, visitor, StatusCode::OK, &page)
}

async fn wrong_app(
    deps: &Deps,
    visitor: &Visitor,
    scanned: &Scanned,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let merchant = merchant(deps, &scanned.stored).await;
    let pay_page = deps.view().cashier_url(scanned.stored.order.id);
    let page = Message {
        frame: frame(visitor, w.wrong_app_heading, merchant.as_ref()),
        w,
        tone: "wait",
        heading: w.wrong_app_heading,
        text: w.wrong_app_text,
        follow: None,
        link: Some((pay_page, w.wrong_app_page)),
        second: None,
        state: "wrong_app",
        watch: None,
        help: help(merchant.as_ref()),
    };
    write(deps, visitor, StatusCode::OK, &page)
}

/// This order has no account for the wallet that came.
pub async fn not_offered(
    deps: &Deps,
    visitor: &Visitor,
    scanned: &Scanned,
    wallet: Wallet,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let merchant = merchant(deps, &scanned.stored).await;
    let page = Message {
        frame: frame(visitor, w.not_offered_heading, merchant.as_ref()),
        w,
        tone: "wait",
        heading: w.not_offered_heading,
        text: match wallet {
            Wallet::Wechat => w.only_alipay,
            Wallet::Alipay => w.only_wechat,
        },
        follow: None,
        link: None,
        second: None,
        state: "wallet_not_offered",
        watch: None,
        help: help(merchant.as_ref()),
    };
    write(deps, visitor, StatusCode::OK, &page)
}
