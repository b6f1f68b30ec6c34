//! `POST /pay/{token}/go`: the buttons of a phone, inside a wallet or not. Takes the live code if
//! nobody has it, else starts one, and goes on to it; the answer is a page of ours in every case.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::claim::{claim, keyed};
use super::page::{Scanned, claimant, leave, provider_of};
use super::proof::{self, CLAIM_COOKIE, cookie_value};
use crate::actors::Verdict;
use crate::http::cashier::actions::{End, Press, answer, start_attempt};
use crate::http::cashier::page::{find, may_leave_by_wap};
use crate::http::cashier::said::Said;
use crate::http::cashier::visitor::{PAGE_POLICY, cookie};
use crate::http::limits::Limiters;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, refusal};
use crate::order::{CodeMode, Phase, Product, Refusal, Wallet};
use crate::store::StoredOrder;

/// A code that is found unclaimed may be gone a moment later: once more, with a new one.
const TRIES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    /// The wallet names the payer: by way of its OAuth page.
    Oauth(Wallet),
    /// Nobody names the payer: claimed here, for this browser.
    Key(Product),
}

/// The way that was asked for, where this order has it.
fn via(deps: &Deps, stored: &StoredOrder, named: Option<&str>) -> Option<Via> {
    if stored.order.terms.mode == CodeMode::Native {
        return None;
    }
    let wallet = match named? {
        "jsapi" | "h5" => Wallet::Wechat,
        "alipay" | "wap" => Wallet::Alipay,
        _ => return None,
    };
    let account = provider_of(deps, stored, wallet)?.account();
    match named? {
        "jsapi" => Some(Via::Oauth(wallet)),
        "h5" => account.h5.then_some(Via::Key(Product::WechatH5)),
        "alipay" if !account.alipay_wap => Some(Via::Oauth(wallet)),
        _ if !may_leave_by_wap(stored) => None,
        _ => Some(Via::Key(Product::AlipayWap)),
    }
}

/// The handler.
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
    limiters: web::Data<Limiters>,
) -> Result<HttpResponse, Problem> {
    let again = request.clone();
    answer(
        request,
        payload,
        path.into_inner(),
        deps,
        async |press| match go(&again, press, &limiters).await {
            Ok(end) => end,
            Err(problem) => End::Trouble(problem),
        },
    )
    .await
}

async fn go(request: &HttpRequest, press: &Press, limiters: &Limiters) -> Result<End, Problem> {
    let deps = &*press.deps;
    let Some(via) = via(deps, &press.stored, press.form.get("via")) else {
        let problem = Problem::new(
            Code::ValidationFailed,
            "This order cannot be paid that way.",
        )
        .at(
            "/via",
            "expected \"jsapi\", \"alipay\", \"h5\" or \"wap\", as the order allows",
        );
        let stored = std::sync::Arc::clone(&press.stored);
        return Ok(End::Refused(stored, Some(Said::NotOffered), problem));
    };
    let mut stored = std::sync::Arc::clone(&press.stored);
    for _ in 0..TRIES {
        if let Some((scanned, token, proof)) = mine(request, deps, &stored) {
            return onwards(deps, press, &scanned, &token, &proof).await;
        }
        let unclaimed = stored.order.live_attempt().filter(|live| {
            live.phase == Phase::Shown && live.claim.is_none() && live.expires_at > deps.clock.now()
        });
        let Some(live) = unclaimed.cloned() else {
            match start_attempt(press, limiters, None).await {
                End::Page(started, _) => stored = started,
                other => return Ok(other),
            }
            continue;
        };
        let token = deps.view().scan_token(live.id);
        let scanned = Scanned {
            stored: std::sync::Arc::clone(&stored),
            attempt: live,
        };
        let product = match via {
            Via::Oauth(_) => {
                let to = format!("/s/{token}{}", press.visitor.query);
                let left = leave(deps, &press.visitor, &stored, to).await?;
                return Ok(End::Other(left));
            }
            Via::Key(product) => product,
        };
        let proof = proof::fresh_key(deps);
        let Some(payer) = proof::payer(deps, scanned.attempt.id, &proof) else {
            break;
        };
        let writes = vec![keyed(request, deps, &scanned)];
        let reply = claim(deps, &scanned, payer, product, writes).await?;
        match &reply.verdict {
            Verdict::Applied | Verdict::Already(_) => {
                return onwards(deps, press, &scanned, &token, &proof).await;
            }
            // Somebody was faster, or its time is nearly up: with a new code.
            Verdict::Refused(
                Refusal::AlreadyScanned
                | Refusal::TooLate { .. }
                | Refusal::AttemptExpired
                | Refusal::AttemptSuperseded,
            ) => match start_attempt(press, limiters, None).await {
                End::Page(started, _) => stored = started,
                other => return Ok(other),
            },
            Verdict::Refused(refusal) => {
                let problem =
                    refusal::refused(refusal, &reply.stored, &deps.view(), deps.clock.now());
                return Ok(End::Refused(reply.stored, None, problem));
            }
        }
    }
    Ok(End::Page(
        find(deps, &press.token).await?,
        Some(Said::Closing),
    ))
}

/// The live attempt, where this browser has claimed it already.
fn mine(
    request: &HttpRequest,
    deps: &Deps,
    stored: &std::sync::Arc<StoredOrder>,
) -> Option<(Scanned, String, String)> {
    let live = stored.order.live_attempt().filter(|live| live.is_open())?;
    let token = deps.view().scan_token(live.id);
    let given = proof::from_cookie(request, &token)?;
    let (_, proof) = claimant(deps, live, Some(&given))?;
    let scanned = Scanned {
        attempt: live.clone(),
        stored: std::sync::Arc::clone(stored),
    };
    Some((scanned, token, proof))
}

/// To the claimant's page, by its address: it works without cookies too.
async fn onwards(
    deps: &Deps,
    press: &Press,
    scanned: &Scanned,
    token: &str,
    proof: &str,
) -> Result<End, Problem> {
    let lang = press.visitor.query.replace('?', "&");
    let to = format!("/s/{token}?k={proof}{lang}");
    let mut response = if press.visitor.json {
        leave(deps, &press.visitor, &scanned.stored, to).await?
    } else {
        let mut response = HttpResponse::SeeOther();
        press.visitor.dress(deps, &mut response, PAGE_POLICY);
        response.insert_header((header::LOCATION, to)).finish()
    };
    // Ours and short: it fits a header.
    let _ = response.add_cookie(&cookie(
        deps,
        CLAIM_COOKIE,
        &cookie_value(token, proof),
        "/",
    ));
    Ok(End::Other(response))
}
