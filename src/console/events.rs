//! The buttons beside an order's events: resend, park, release.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Console;
use super::visitor::{self, Failure};
use crate::operations::{Operation, Released};

/// `POST /orders/{id}/events/{event}`
pub(super) async fn post(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (login, form) = visitor::signed_form(&console, &request, payload).await?;
    let (order, event) = path.into_inner();
    let (operation, note) = match form.get("do") {
        "resend" => (Operation::EventResend { event }, "resent"),
        "park" => (Operation::EventPark { event }, "parked"),
        "release" => {
            let released = Released::Event(event);
            (Operation::EventRelease { released }, "released")
        }
        _ => return Err(Failure::not_found().before(&console, &login)),
    };
    console
        .operations
        .run(&login.operator, operation)
        .await
        .map_err(|error| Failure::from(error).before(&console, &login))?;
    // Whatever was asked for, only an order's address is answered.
    let order = super::order::id(&order).map_err(|failure| failure.before(&console, &login))?;
    Ok(visitor::done(&format!("/orders/{order}"), note))
}
