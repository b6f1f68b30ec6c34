//! A refund that does not come to its end, tried again.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Console;
use super::visitor::{self, Failure};
use crate::operations::Operation;

/// `POST /orders/{id}/refunds/{refund}`
pub(super) async fn retry(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (login, _) = visitor::signed_form(&console, &request, payload).await?;
    let (order, refund) = path.into_inner();
    let id = super::order::id(&order).map_err(|failure| failure.before(&console, &login))?;
    console
        .operations
        .run(&login.operator, Operation::RefundRetry { order, refund })
        .await
        .map_err(|error| Failure::from(error).before(&console, &login))?;
    Ok(visitor::done(&format!("/orders/{id}"), "retried"))
}
