//! `GET /pay/{token}/qr.svg` and `…/qr.png`: the live attempt's code, and no other.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::card::{Caption, card};
use super::page::find;
use super::panel::content_of;
use super::visitor::{Visitor, zone};
use crate::http::Deps;
use crate::http::problem::{Code, Problem};
use crate::http::words::fill;
use crate::order::CodeMode;
use crate::qr::{Qr, QrError};
use crate::store::StoredOrder;

/// Points a module of the plain PNG.
const SCALE: u32 = 10;

struct Wanted {
    stored: std::sync::Arc<StoredOrder>,
    code: Qr,
    card: bool,
}

async fn wanted(request: &HttpRequest, token: &str, deps: &Deps) -> Result<Wanted, Problem> {
    let stored = find(deps, token).await?;
    let parameter = |wanted: &str| {
        url::form_urlencoded::parse(request.query_string().as_bytes())
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    let gone = || Problem::new(Code::AttemptExpired, "This code is not on show any more.");
    let live = stored.order.live_attempt().ok_or_else(gone)?;
    if parameter("attempt").is_some_and(|named| named != live.id.to_string()) {
        return Err(gone());
    }
    let content = content_of(live, &deps.view(), deps.clock.now()).ok_or_else(gone)?;
    let code = Qr::of(&content).map_err(|error| not_drawn(&error))?;
    Ok(Wanted {
        card: parameter("card").as_deref() == Some("1"),
        stored,
        code,
    })
}

fn not_drawn(error: &QrError) -> Problem {
    tracing::error!(%error, "a code could not be drawn");
    Problem::new(Code::InternalError, "The code could not be drawn.")
}

/// The handler of `qr.svg`.
pub async fn svg(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let wanted = wanted(&request, &path, &deps).await?;
    let words = Visitor::of(&request, &deps).words();
    let label = fill(
        words.code_label,
        &[
            ("amount", &wanted.stored.order.terms.amount.to_string()),
            ("wallets", words.both_wallets),
        ],
    );
    Ok(HttpResponse::Ok()
        .content_type("image/svg+xml")
        .insert_header(("X-Robots-Tag", "noindex"))
        .body(wanted.code.svg(&label)))
}

/// The handler of `qr.png`; with `?card=1` the picture to be saved.
pub async fn png(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let wanted = wanted(&request, &path, &deps).await?;
    let order = &wanted.stored.order;
    let number = &wanted.stored.snapshot.merchant_order_no;
    let picture = if wanted.card {
        let end = order
            .live_attempt()
            .map(|live| zone(&deps).date_and_clock(live.expires_at))
            .unwrap_or_default();
        let words = Visitor::of(&request, &deps).words();
        let until = match order.terms.mode {
            CodeMode::Unified => words.card_until_once,
            CodeMode::Native => words.card_until,
        };
        card(
            &wanted.code,
            Caption {
                amount: &order.terms.amount.to_string(),
                subject: &wanted.stored.snapshot.subject,
                number,
                until: &fill(until, &[("time", &end)]),
            },
        )
    } else {
        wanted.code.png(SCALE).map_err(|error| not_drawn(&error))?
    };
    Ok(HttpResponse::Ok()
        .content_type("image/png")
        .insert_header(("X-Robots-Tag", "noindex"))
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("inline; filename=\"{}.png\"", file_name(number)),
        ))
        .body(picture))
}

/// Only what is harmless in a header and on every disk.
fn file_name(number: &str) -> String {
    let name: String = number
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
        .take(64)
        .collect();
    if name.is_empty() {
        "code".to_owned()
    } else {
        name
    }
}
