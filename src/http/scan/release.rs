//! `POST /s/{scan_token}/release`: the claimant gives the code up. It is never claimable again.

use actix_web::{HttpRequest, HttpResponse, web};

use super::page::{Scanned, say};
use super::pay::{Claimant, by_claimant};
use super::standing::Standing;
use crate::actors::Verdict;
use crate::http::Deps;
use crate::http::cashier::actions::tell;
use crate::http::problem::Problem;
use crate::order::Command;

/// The handler.
pub async fn post(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    by_claimant(&request, payload, path.into_inner(), &deps, give_up).await
}

async fn give_up(deps: &Deps, claimant: &Claimant) -> Result<HttpResponse, Problem> {
    let scanned = &claimant.scanned;
    let number = scanned.attempt.number;
    let command = Command::Release {
        attempt: number,
        payer: claimant.payer,
    };
    let reply = tell(deps, scanned.stored.order.id, command, Vec::new()).await?;
    let attempt = reply.stored.order.attempt(number).cloned();
    let found = Scanned {
        attempt: attempt.unwrap_or_else(|| scanned.attempt.clone()),
        stored: reply.stored,
    };
    let standing = match &reply.verdict {
        Verdict::Refused(refusal) => Standing::of_refusal(refusal),
        Verdict::Applied | Verdict::Already(_) => {
            Standing::of(&found.stored.order, &found.attempt, deps.clock.now())
        }
    };
    let mut response = say(deps, &claimant.visitor, &claimant.token, &found, standing).await?;
    if matches!(reply.verdict, Verdict::Applied | Verdict::Already(_)) {
        // What was asked for was done: a code that is gone is the success of giving it up.
        *response.status_mut() = actix_web::http::StatusCode::OK;
    }
    Ok(response)
}
