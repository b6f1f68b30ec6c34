//! Bad answers shared by both gateways: dropped connections, proxies' HTML, drips and floods.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use futures_util::stream;

use super::faults::{Fault, Rule};

/// The connection closes without a single byte of an answer.
pub(super) fn dropped() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::once(async {
        Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    }))
}

pub(super) fn html(status: StatusCode) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html")
        .body(format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        ))
}

/// Faults of every kind of call that strike before anything is done. `None`: carry on.
pub(super) async fn strike_before(rule: Option<&Rule>) -> Option<HttpResponse> {
    let rule = rule?;
    match rule.fault {
        Fault::TimeoutBefore => {
            tokio::time::sleep(rule.delay(30_000)).await;
            Some(dropped())
        }
        Fault::ResetBefore => Some(dropped()),
        Fault::Html502 => Some(html(StatusCode::BAD_GATEWAY)),
        Fault::Html503 => Some(html(StatusCode::SERVICE_UNAVAILABLE)),
        Fault::SlowBefore => {
            tokio::time::sleep(rule.delay(1_000)).await;
            None
        }
        _ => None,
    }
}

/// Faults that strike when the work is done: `None` leaves the answer alone.
pub(super) async fn strike_after(rule: Option<&Rule>) -> Option<HttpResponse> {
    let rule = rule?;
    match rule.fault {
        Fault::TimeoutAfter => {
            tokio::time::sleep(rule.delay(30_000)).await;
            Some(dropped())
        }
        Fault::ResetAfter => Some(dropped()),
        Fault::Html502After => Some(html(StatusCode::BAD_GATEWAY)),
        Fault::SlowAfter => {
            tokio::time::sleep(rule.delay(1_000)).await;
            None
        }
        _ => None,
    }
}

/// The body as the fault wants it on the wire, under the headers already set.
pub(super) fn finish(
    mut builder: HttpResponseBuilder,
    body: impl Into<Bytes>,
    rule: Option<&Rule>,
) -> HttpResponse {
    let body = body.into();
    match rule.map(|rule| (rule.fault, rule)) {
        Some((Fault::TruncatedBody, _)) => builder.body(body.slice(..body.len() / 2)),
        Some((Fault::TamperedBody, _)) => {
            // JSON stays JSON, with one more blank in front: other bytes than the signed ones.
            builder.body([b" ", &body[..]].concat())
        }
        Some((Fault::HugeBody, _)) => builder.body([&body[..], &vec![b' '; 10 << 20]].concat()),
        Some((Fault::Drip, rule)) => {
            let pause = rule
                .delay(5_000)
                .checked_div(u32::try_from(body.len()).unwrap_or(u32::MAX))
                .unwrap_or(Duration::ZERO);
            builder.streaming(stream::unfold(
                body.into_iter(),
                move |mut rest| async move {
                    let byte = rest.next()?;
                    tokio::time::sleep(pause).await;
                    Some((Ok::<_, std::io::Error>(Bytes::from(vec![byte])), rest))
                },
            ))
        }
        _ => builder.body(body),
    }
}
