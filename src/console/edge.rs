//! What every request passes: the `Host` that it names, the headers of the answer, one line in the log.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::{Authority, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::Console;

const HEADERS: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not even the address of an order leaves with a link.
    (header::REFERRER_POLICY, "same-origin"),
    // No scripts at all: there is nothing for them to do.
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// The middleware. Wrap it around everything once.
pub(super) async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let console = request.app_data::<web::Data<Console>>().cloned();
    let Some(console) = console.filter(|console| is_ours(&request, &console.hosts)) else {
        // A page of somebody else's that has our address by its own name speaks to nobody here.
        let mut answer = HttpResponse::build(StatusCode::MISDIRECTED_REQUEST)
            .content_type("text/plain; charset=utf-8")
            .body("This name is none of the console's: see console.hosts.\n");
        complete(answer.headers_mut());
        return Ok(request.into_response(answer));
    };
    drop(console);
    let method = request.method().clone();
    let answered = next.call(request).await;
    let mut response = answered?.map_into_boxed_body();
    complete(response.headers_mut());
    let route = response.request().match_pattern();
    let route = route.as_deref().unwrap_or("unmatched");
    let status = response.status().as_u16();
    if status >= 500 {
        tracing::warn!(route, %method, status, "the console answered");
    } else {
        tracing::debug!(route, %method, status, "the console answered");
    }
    Ok(response)
}

fn is_ours(request: &ServiceRequest, hosts: &[String]) -> bool {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(Authority::as_str));
    named.is_some_and(|named| {
        hosts.iter().any(|host| host.eq_ignore_ascii_case(named)) && from_ourselves(request, named)
    })
}

/// What a form of another page says of where it comes from; most of our own say nothing.
fn from_ourselves(request: &ServiceRequest, named: &str) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return true;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.parse::<Uri>().ok());
    origin.is_some_and(|origin| {
        let from = origin.authority().map(Authority::as_str);
        from.is_some_and(|from| from.eq_ignore_ascii_case(named))
    })
}

fn complete(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
