//! What happens to every request on the public listener, whichever room answers it: its id, the
//! security headers, the limit on its address, its metrics and its one line in the log.

use std::net::IpAddr;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError as _, web};

use super::limits::Limiters;
use super::problem::{Code, Problem};
use super::{Deps, address, metric, request_id};

/// The client's address, for handlers: in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Headers that every answer has unless its handler chose its own.
const DEFAULT_HEADERS: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    (
        header::PERMISSIONS_POLICY,
        "camera=(), microphone=(), geolocation=()",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// The middleware. Wrap it around everything once.
pub async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = tokio::time::Instant::now();
    let deps = request.app_data::<web::Data<Deps>>().cloned();
    let limiters = request.app_data::<web::Data<Limiters>>().cloned();
    let (Some(deps), Some(limiters)) = (deps, limiters) else {
        let problem = Problem::new(Code::InternalError, "The gateway is not wired up.");
        return Ok(request.into_response(problem.error_response()));
    };
    let trusted = &deps.settings.trusted_proxies;
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let client = peer.and_then(|peer| address::resolve(peer, request.headers(), trusted));
    let behind_proxy =
        peer.is_some_and(|peer| trusted.iter().any(|network| network.contains(&peer)));
    let id = behind_proxy
        .then(|| request_id::given(request.headers()))
        .flatten()
        .unwrap_or_else(|| request_id::fresh(&*deps.random, deps.clock.now()));
    if let Some(client) = client {
        request.extensions_mut().insert(ClientAddress(client));
    }
    let method = method_label(request.method().as_str());
    // Providers are never turned away, and a merchant's signed requests have a limit of their own.
    let limited = !["/callbacks/", "/v1/"]
        .iter()
        .any(|prefix| request.path().starts_with(prefix));

    let answered = request_id::scope(id.clone(), async {
        let granted = match client.filter(|_| limited) {
            Some(client) => limiters.address(client).await,
            None => Ok(()),
        };
        match granted {
            Err(problem) => Ok(request.into_response(problem.error_response())),
            Ok(()) => next
                .call(request)
                .await
                .map(ServiceResponse::map_into_boxed_body)
                .map_err(|error| error.error_response()),
        }
    })
    .await;

    let (status, route) = match &answered {
        Ok(response) => (
            response.status(),
            response
                .request()
                .match_pattern()
                .unwrap_or_else(|| "unmatched".to_owned()),
        ),
        Err(response) => (response.status(), "unmatched".to_owned()),
    };
    let elapsed = started.elapsed();
    metrics::counter!(
        metric::REQUESTS,
        "route" => route.clone(), "method" => method, "status" => status.as_str().to_owned()
    )
    .increment(1);
    metrics::histogram!(metric::DURATION, "route" => route.clone()).record(elapsed.as_secs_f64());
    let (status, millis) = (status.as_u16(), elapsed.as_millis());
    if status >= 500 {
        tracing::warn!(request_id = %id, %route, method, status, millis, "answered");
    } else {
        tracing::debug!(request_id = %id, %route, method, status, millis, "answered");
    }

    match answered {
        Ok(mut response) => {
            complete(response.headers_mut(), &id);
            Ok(response)
        }
        Err(mut response) => {
            complete(response.headers_mut(), &id);
            Err(unanswered(response))
        }
    }
}

/// A middleware's error keeps the answer it stands for.
fn unanswered(response: HttpResponse) -> Error {
    actix_web::error::InternalError::from_response("refused", response).into()
}

fn complete(headers: &mut HeaderMap, id: &str) {
    for (name, value) in DEFAULT_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(request_id::HEADER), value);
    }
}

/// Strangers may invent methods; a label may not grow without bound.
fn method_label(method: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("OTHER")
}
