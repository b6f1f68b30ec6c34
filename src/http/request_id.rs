//! The number under which one request is found again: in the answer, in problem documents, in the
//! log and in an order's timeline.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use crate::order::Timestamp;
use crate::random::Random;

/// The header that carries it both ways.
pub const HEADER: &str = "x-request-id";

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The id of the request that this task is answering.
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs `work` as the answer to the request `id`.
pub async fn scope<F: Future>(id: Arc<str>, work: F) -> F::Output {
    CURRENT.scope(id, work).await
}

/// The id that a trusted proxy gave this request.
pub fn given(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let sane = (8..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    sane.then(|| Arc::from(text))
}

/// A new id.
pub fn fresh(random: &dyn Random, now: Timestamp) -> Arc<str> {
    Arc::from(format!("req_{}", random.ulid(now)))
}
