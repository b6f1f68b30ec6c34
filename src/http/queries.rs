//! Asking the provider now (更新缴费结果): the same for merchants and for the cashier page.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempts::settled;
use super::problem::Problem;
use super::{Deps, metric, refusal};
use crate::actors::{Reply, Verdict};
use crate::order::{Answer, Command, Status, Timestamp};
use crate::store::StoredOrder;
use crate::view::View;

/// How long the provider's answer is waited for.
const WAIT_FOR_ANSWER: Duration = Duration::from_secs(5);
/// How long the answer to another's question is waited for: most of it has passed already.
const WAIT_FOR_SHARED: Duration = Duration::from_secs(1);

/// The order after asking, and when the provider was asked; `None` where there is nothing to ask.
#[derive(Clone, Debug)]
pub struct Asked {
    pub stored: Arc<StoredOrder>,
    pub as_of: Option<Timestamp>,
}

/// Asks the provider about `stored` and waits for its answer. Whoever asks within two seconds of
/// another shares that answer.
pub async fn ask<E: From<Problem>>(
    deps: &Deps,
    view: &View,
    stored: &StoredOrder,
    tell: impl AsyncFn(Command) -> Result<Reply, E>,
) -> Result<Asked, E> {
    let id = stored.order.id;
    let was_open = stored.order.is_open();
    let mut answers = deps.orders.answers(id);
    let deadline = Instant::now() + WAIT_FOR_ANSWER;
    let reply = tell(Command::Query).await?;
    let shared = matches!(reply.verdict, Verdict::Already(Answer::AskedJustNow));
    let asks = reply.verdict == Verdict::Applied;
    match reply.verdict {
        Verdict::Refused(refusal) => {
            let now = deps.clock.now();
            return Err(refusal::refused(&refusal, &reply.stored, view, now).into());
        }
        Verdict::Applied => settled(&mut answers, deadline).await,
        // Another's question may still be on its way: its answer is this one's as well.
        Verdict::Already(Answer::AskedJustNow) => {
            let soon = Instant::now() + WAIT_FOR_SHARED;
            settled(&mut answers, soon.min(deadline)).await;
        }
        Verdict::Already(_) => {}
    }
    let read = deps.orders.read(id).await;
    let read = read.map_err(|error| refusal::unanswered(&error, view))?;
    let stored = read.unwrap_or(reply.stored);
    let as_of = stored
        .order
        .attempts
        .last()
        .and_then(|attempt| attempt.queries.last_at);
    let outcome = match stored.order.status() {
        // Nobody had told us: in numbers an early sign of lost callbacks.
        Status::Paid if was_open => "found",
        Status::Paid => "known",
        Status::Closed => "closed",
        _ if shared => "shared",
        _ if asks => "unpaid",
        _ => "nothing_to_ask",
    };
    metrics::counter!(metric::MANUAL_QUERIES, "outcome" => outcome).increment(1);
    Ok(Asked { stored, as_of })
}
