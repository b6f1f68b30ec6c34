//! `POST /s/{scan_token}/claim`: the scan. The code is exchanged once, then the attempt is taken for
//! the payer it names, if nobody else has it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::page::{
    Scanned, confirm, find, kept_hash, leave, not_offered, provider_of, retry, say, trouble,
};
use super::proof;
use super::standing::Standing;
use crate::actors::{Reply, Verdict};
use crate::http::cashier::actions::tell;
use crate::http::cashier::visitor::{Form, Visitor};
use crate::http::edge::ClientAddress;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, refusal};
use crate::order::{AttemptNumber, Command, OrderId, PayerHash, Product, Refusal, Wallet};
use crate::provider::OauthError;
use crate::sealing::{Place, TokenHash};
use crate::store::{OauthState, Write};

/// Stands for the address of the demo's payer; it belongs to nobody (RFC 5737).
const DEMO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// How long a post waits for its twin, which exchanges the same code.
const TWIN: Duration = Duration::from_millis(400);

/// The handler.
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let token = path.into_inner();
    match scan(&request, payload, &deps, &visitor, &token).await {
        Ok(response) => Ok(response),
        Err(problem) => trouble(&deps, &visitor, problem),
    }
}

async fn scan(
    request: &HttpRequest,
    payload: web::Payload,
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
) -> Result<HttpResponse, Problem> {
    let form = Form::read(request, payload, deps).await?;
    let scanned = find(deps, token).await?;
    let code = form.get("code").or_else(|| form.get("auth_code"));
    let code = code.filter(|code| !code.is_empty());
    let Some((code, state)) = code.zip(form.get("state")) else {
        return press(request, deps, visitor, token, &scanned, &form).await;
    };
    // The state is a secret of this very round trip; where a cookie came, it must fit as well.
    if !visitor.is_new() && !visitor.check_csrf(deps, token, form.get("csrf")) {
        return retry(deps, visitor, token, &scanned.stored).await;
    }
    let again = form.get("again").is_some_and(|again| again == "1");
    let Some(row) = known_state(deps, &scanned, state).await? else {
        return restart(deps, visitor, token, &scanned, again).await;
    };
    let code = SecretString::from(code.to_owned());
    let code_hash = kept_hash(deps, "oauth_code", code.expose_secret());
    match payer_of(deps, &scanned, &row, &code, code_hash).await? {
        Payer::Known(payer, writes) => {
            let Some(provider) = deps.providers.get(&row.account) else {
                return retry(deps, visitor, token, &scanned.stored).await;
            };
            let product = match provider.account().wallet {
                Wallet::Wechat => Product::WechatJsapi,
                Wallet::Alipay => Product::AlipayCreate,
            };
            let proof = proof::seal(deps, scanned.attempt.id, payer);
            take(
                deps, visitor, token, &scanned, payer, product, writes, &proof,
            )
            .await
        }
        Payer::StartOver => restart(deps, visitor, token, &scanned, again).await,
        Payer::Unreachable => retry(deps, visitor, token, &scanned.stored).await,
    }
}

/// The row of a state that this server made for this code.
async fn known_state(
    deps: &Deps,
    scanned: &Scanned,
    state: &str,
) -> Result<Option<OauthState>, Problem> {
    let is_ours = state.len() == 32 && state.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_ours {
        return Ok(None);
    }
    let row = deps
        .store
        .oauth_state(kept_hash(deps, "oauth_state", state))
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    Ok(row.filter(|row| {
        row.order == scanned.stored.order.id && row.attempt == scanned.attempt.number
    }))
}

enum Payer {
    /// And what is committed with the claim.
    Known(PayerHash, Vec<Write>),
    StartOver,
    Unreachable,
}

async fn payer_of(
    deps: &Deps,
    scanned: &Scanned,
    row: &OauthState,
    code: &SecretString,
    code_hash: TokenHash,
) -> Result<Payer, Problem> {
    if let Some(known) = before(row, code_hash) {
        return Ok(known);
    }
    let Some(provider) = deps.providers.get(&row.account) else {
        return Ok(Payer::Unreachable);
    };
    match provider.exchange_code(code).await {
        Ok(id) => {
            let id = id.0.expose_secret();
            let kind = format!("payer:{}", row.account);
            let payer = PayerHash(deps.sealer.index(&kind, id));
            let used = Write::OauthStateUsed {
                state_hash: row.state_hash,
                code_hash,
                payer: Some(payer.0),
            };
            let kept = personal(
                deps,
                scanned.stored.order.id,
                scanned.attempt.number,
                &json!({ "payer": id, "address": null }),
            );
            Ok(Payer::Known(payer, vec![used, kept]))
        }
        Err(OauthError::CodeUsed) => {
            // Perhaps by the same post, sent twice: its first sending knows the payer.
            tokio::time::sleep(TWIN).await;
            let row = deps
                .store
                .oauth_state(row.state_hash)
                .await
                .map_err(|error| refusal::store_failed(&error))?;
            Ok(row
                .and_then(|row| before(&row, code_hash))
                .unwrap_or(Payer::StartOver))
        }
        Err(error) => {
            tracing::warn!(order = %scanned.stored.order.id, account = %row.account, %error, "a payer could not be identified");
            Ok(Payer::Unreachable)
        }
    }
}

/// What an earlier post under this state came to.
fn before(row: &OauthState, code_hash: TokenHash) -> Option<Payer> {
    let (used_with, payer) = row.used?;
    Some(match payer {
        Some(payer) if used_with == code_hash => Payer::Known(PayerHash(payer), Vec::new()),
        _ => Payer::StartOver,
    })
}

/// The claimant's slot: whom the trade is for.
pub fn personal(
    deps: &Deps,
    order: OrderId,
    number: AttemptNumber,
    claimant: &serde_json::Value,
) -> Write {
    let number = number.get();
    let row = format!("{order}/{number}");
    let place = Place {
        table: "personal",
        column: "payer",
        row: &row,
    };
    Write::Personal {
        order,
        slot: format!("payer:{number}"),
        sealed: deps.sealer.seal(place, claimant.to_string().as_bytes()),
    }
}

/// OAuth once more, by itself; the second time a button.
async fn restart(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    again: bool,
) -> Result<HttpResponse, Problem> {
    if again {
        return retry(deps, visitor, token, &scanned.stored).await;
    }
    let to = format!("/s/{token}?again=1");
    leave(deps, visitor, &scanned.stored, to).await
}

/// Alipay's WAP: no identity, so the press itself claims, for this browser.
async fn press(
    request: &HttpRequest,
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    form: &Form,
) -> Result<HttpResponse, Problem> {
    if !visitor.check_csrf(deps, token, form.get("csrf")) {
        if visitor.json {
            return Err(Problem::new(
                Code::PageStale,
                "Expected the csrf member and the cookie of a page that this browser loaded, or \
                 a code and its state.",
            ));
        }
        return retry(deps, visitor, token, &scanned.stored).await;
    }
    let wap = provider_of(deps, &scanned.stored, Wallet::Alipay)
        .is_some_and(|provider| provider.account().alipay_wap);
    if !wap {
        return retry(deps, visitor, token, &scanned.stored).await;
    }
    let proof = proof::given(request, token)
        .filter(|proof| proof.starts_with('k'))
        .unwrap_or_else(|| proof::fresh_key(deps));
    let Some(payer) = proof::payer(deps, scanned.attempt.id, &proof) else {
        return retry(deps, visitor, token, &scanned.stored).await;
    };
    let writes = vec![keyed(request, deps, scanned)];
    let product = Product::AlipayWap;
    take(
        deps, visitor, token, scanned, payer, product, writes, &proof,
    )
    .await
}

/// The slot of a browser that no wallet names: its address, which H5 asks for.
pub fn keyed(request: &HttpRequest, deps: &Deps, scanned: &Scanned) -> Write {
    use actix_web::HttpMessage as _;
    let address = request
        .extensions()
        .get::<ClientAddress>()
        .map(|client| match client.0 {
            // The demo's payer sits at the same machine, whose address WeChat H5 refuses.
            here if deps.settings.demo && here.is_loopback() => DEMO_ADDRESS,
            address => address,
        })
        .map(|address| address.to_string());
    personal(
        deps,
        scanned.stored.order.id,
        scanned.attempt.number,
        &json!({ "payer": null, "address": address }),
    )
}

/// Takes the attempt for a payer.
pub async fn claim(
    deps: &Deps,
    scanned: &Scanned,
    payer: PayerHash,
    product: Product,
    writes: Vec<Write>,
) -> Result<Reply, Problem> {
    let command = Command::Claim {
        attempt: scanned.attempt.number,
        payer,
        product,
    };
    let reply = tell(deps, scanned.stored.order.id, command, writes).await?;
    let outcome = match &reply.verdict {
        Verdict::Applied => "claimed",
        Verdict::Already(_) => "claimed_before",
        Verdict::Refused(Refusal::WalletNotOffered { .. }) => "wallet_not_offered",
        Verdict::Refused(refusal) => Standing::of_refusal(refusal).name(),
    };
    metrics::counter!("enrollpay_scans_total", "outcome" => outcome).increment(1);
    Ok(reply)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one scan in full: who asks, what was scanned, for whom, with what proof"
)]
async fn take(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    scanned: &Scanned,
    payer: PayerHash,
    product: Product,
    writes: Vec<Write>,
    proof: &str,
) -> Result<HttpResponse, Problem> {
    let reply = claim(deps, scanned, payer, product, writes).await?;
    let now_scanned = Scanned {
        attempt: reply
            .stored
            .order
            .attempt(scanned.attempt.number)
            .cloned()
            .unwrap_or_else(|| scanned.attempt.clone()),
        stored: reply.stored,
    };
    match &reply.verdict {
        Verdict::Applied | Verdict::Already(_) => {
            confirm(deps, visitor, token, &now_scanned, proof, None).await
        }
        Verdict::Refused(Refusal::WalletNotOffered { wallet }) => {
            not_offered(deps, visitor, &now_scanned, *wallet).await
        }
        Verdict::Refused(refusal) if visitor.json => Err(refusal::refused(
            refusal,
            &now_scanned.stored,
            &deps.view(),
            deps.clock.now(),
        )),
        Verdict::Refused(refusal) => {
            let standing = Standing::of_refusal(refusal);
            say(deps, visitor, token, &now_scanned, standing).await
        }
    }
}
