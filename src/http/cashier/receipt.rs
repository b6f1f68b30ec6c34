//! `GET /receipts/{token}`: leads to the paid order's page, which shows and prints the voucher. An
//! address of its own, so that a receipt can be handed on and kept apart from the cashier's.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::page::{find_by, trouble};
use super::visitor::Visitor;
use crate::http::Deps;
use crate::http::problem::Problem;
use crate::order::Status;
use crate::sealing::TokenKind;

pub async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let found = find_by(&deps, TokenKind::Receipt, &path).await;
    let paid = found.and_then(|stored| match stored.order.status() {
        Status::Paid => Ok(stored),
        _ => Err(Problem::not_found()),
    });
    match paid {
        Ok(stored) => {
            let page = format!("/pay/{}", deps.view().pay_token(stored.order.id));
            Ok(HttpResponse::SeeOther()
                .insert_header((header::LOCATION, page))
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .finish())
        }
        Err(problem) => trouble(&deps, &Visitor::of(&request, &deps), problem),
    }
}
