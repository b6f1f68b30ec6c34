//! Asking the provider now (更新缴费结果): the same for merchants and for the cashier page.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use super::{Deps, metric, refusal};
use crate::actors::{Heard, Reply, Verdict};
use crate::order::{Answer, Status, Timestamp};
use crate::store::StoredOrder;
use crate::view::View;

/// How long the provider's answer is waited for.
const WAIT_FOR_ANSWER: Duration = Duration::from_secs(5);

/// The order after asking, and what the asking came to.
#[derive(Clone, Debug)]
pub struct Asked {
    pub stored: Arc<StoredOrder>,
    /// When the provider was asked; `None` where there is nothing to ask.
    pub as_of: Option<Timestamp>,
    /// Did the provider say anything? True, too, where nothing was asked.
    pub answered: bool,
}

impl Asked {
    /// The API's word for what asking came to.
    pub fn outcome(&self) -> &'static str {
        match self.stored.order.status() {
            Status::Paid => "paid",
            _ if self.as_of.is_none() => "nothing_to_ask",
            _ if self.answered => "unpaid",
            _ => "provider_unreachable",
        }
    }
}

/// Asks the provider about `stored` by `query` and waits for its answer. Whoever asks within two seconds of
/// another shares that answer, be it here already or still on its way.
pub async fn ask<E: From<Problem>>(
    deps: &Deps,
    view: &View,
    stored: &StoredOrder,
    query: impl AsyncFnOnce() -> Result<Reply, E>,
) -> Result<Asked, E> {
    let id = stored.order.id;
    let was_open = stored.order.is_open();
    let mut heard = deps.orders.heard(id);
    let deadline = Instant::now() + WAIT_FOR_ANSWER;
    let reply = query().await?;
    let shared = matches!(reply.verdict, Verdict::Already(Answer::AskedJustNow));
    let asks = reply.verdict == Verdict::Applied;
    let answered = match reply.verdict {
        Verdict::Refused(refusal) => {
            let now = deps.clock.now();
            return Err(refusal::refused(&refusal, &reply.stored, view, now).into());
        }
        Verdict::Already(Answer::AskedJustNow) | Verdict::Applied => {
            let asked_at = last_asked(&reply.stored);
            is_answered(&mut heard, asked_at, deadline).await
        }
        Verdict::Already(_) => true,
    };
    let read = deps.orders.read(id).await;
    let read = read.map_err(|error| refusal::unanswered(&error, view))?;
    let stored = read.unwrap_or(reply.stored);
    let as_of = last_asked(&stored);
    let outcome = match stored.order.status() {
        // Nobody had told us: in numbers an early sign of lost callbacks.
        Status::Paid if was_open => "found",
        Status::Paid => "known",
        Status::Closed => "closed",
        _ if !answered => "unreachable",
        _ if shared => "shared",
        _ if asks => "unpaid",
        _ => "nothing_to_ask",
    };
    metrics::counter!(metric::MANUAL_QUERIES, "outcome" => outcome).increment(1);
    Ok(Asked {
        stored,
        as_of,
        answered,
    })
}

fn last_asked(stored: &StoredOrder) -> Option<Timestamp> {
    stored.order.attempts.last()?.queries.last_at
}

/// Waits until the question of `asked_at`, or a later one, is answered: by something that proves
/// anything?
async fn is_answered(
    heard: &mut watch::Receiver<Heard>,
    asked_at: Option<Timestamp>,
    deadline: Instant,
) -> bool {
    let answer = heard.wait_for(|heard| {
        let answered_at = heard.query.map(|(asked_at, _)| asked_at);
        answered_at.is_some() && answered_at >= asked_at
    });
    match timeout_at(deadline, answer).await {
        Ok(Ok(heard)) => heard.query.is_some_and(|(_, is_known)| is_known),
        Ok(Err(_)) | Err(_) => false,
    }
}
