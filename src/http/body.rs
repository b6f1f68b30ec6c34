//! Request bodies: the raw bytes first, with a limit and a deadline, because signatures are over
//! bytes; what they mean comes afterwards.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;

use super::problem::{Code, Problem};

/// Reads the whole body. 413 beyond `limit` bytes, 408 beyond `deadline`, 415 where it is encoded;
/// in all three the rest stays unread and the connection closes.
pub async fn read(
    request: &HttpRequest,
    mut payload: Payload,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("The body may have at most {limit} bytes."),
        )
        .with("limit_bytes", limit)
        .closing()
    };
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "Expected a body without Content-Encoding.",
        )
        .closing());
    }
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let read = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::new(
                    Code::MalformedJson,
                    "The body ended before it was complete.",
                )
                .closing()
            })?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(deadline, read).await {
        Ok(body) => body,
        Err(_) => Err(Problem::new(
            Code::BodyTooSlow,
            format!("The body must arrive within {} s.", deadline.as_secs()),
        )
        .closing()),
    }
}

/// Is the body declared as `expected` (a lower-case media type)? A `charset` must be UTF-8.
pub fn require_media_type(request: &HttpRequest, expected: &'static str) -> Result<(), Problem> {
    let declared = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut parts = declared.split(';').map(str::trim);
    let named = parts
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case(expected));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if named && utf8 {
        Ok(())
    } else {
        Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("Expected Content-Type: {expected}, in UTF-8."),
        ))
    }
}
