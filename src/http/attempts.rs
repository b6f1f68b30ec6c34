//! Starting a code: the same for merchants and for the cashier page. What lives before it is ended at
//! the provider first, so a start may have to wait.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::problem::{Code, Problem};
use super::{Deps, metric, refusal};
use crate::actors::{Reply, Verdict};
use crate::order::{
    Attempt, AttemptId, AttemptNumber, Command, Event, Order, Outcome, Phase, Refusal, Timestamp,
    TradeStanding, Wallet, decide,
};
use crate::sealing::{TokenKind, token_hash};
use crate::store::{StoredOrder, TokenTarget, Write};
use crate::view::View;

/// How long a start waits for the earlier attempt's end.
const WAIT_FOR_END: Duration = Duration::from_secs(3);
/// How long a native start waits for the provider's code.
const WAIT_FOR_CODE: Duration = Duration::from_secs(5);

/// An attempt that was started, and its order as committed.
#[derive(Clone, Debug)]
pub struct Started {
    pub stored: Arc<StoredOrder>,
    pub id: AttemptId,
}

impl Started {
    pub fn attempt(&self) -> Option<&Attempt> {
        with_id(&self.stored.order, self.id)
    }
}

fn with_id(order: &Order, id: AttemptId) -> Option<&Attempt> {
    order.attempts.iter().rev().find(|attempt| attempt.id == id)
}

/// Starts an attempt of `stored`. `tell` hands a command to the order, with what is to be committed
/// beside it.
pub async fn start<E: From<Problem>>(
    deps: &Deps,
    view: &View,
    stored: Arc<StoredOrder>,
    wallet: Option<Wallet>,
    tell: impl AsyncFn(Command, Vec<Write>) -> Result<Reply, E>,
) -> Result<Started, E> {
    let order = stored.order.id;
    let mut watch = deps.orders.watch(order);
    let deadline = Instant::now() + WAIT_FOR_END;
    let mut known = stored;
    let mut id = AttemptId::from_ulid(deps.random.ulid(deps.clock.now()));
    let mut ended_one = false;
    loop {
        let command = Command::StartAttempt { id, wallet };
        let expected = expected_number(&known.order, &command, deps.clock.now());
        let token = expected.map(|number| scan_token(view, order, id, number));
        let reply = tell(command, token.into_iter().collect()).await?;
        let now = deps.clock.now();
        match &reply.verdict {
            Verdict::Applied | Verdict::Already(_) => {
                let number = with_id(&reply.stored.order, id).map(|attempt| attempt.number);
                let native = reply.stored.order.terms.mode == crate::order::CodeMode::Native;
                match number {
                    Some(number) if native || expected == Some(number) => {
                        if number != AttemptNumber::FIRST {
                            metrics::counter!(metric::REGENERATED).increment(1);
                        }
                        let stored = Arc::clone(&reply.stored);
                        return Ok(Started { stored, id });
                    }
                    // Another start came between: this one's code would lead nowhere.
                    Some(_) => id = AttemptId::from_ulid(deps.random.ulid(now)),
                    None => ended_one = true,
                }
            }
            Verdict::Refused(Refusal::AttemptClosing { retry_at }) => {
                if !ended_one || Instant::now() >= deadline {
                    return Err(refusal::attempt_closing(*retry_at, view, now)
                        .with("order_id", order.to_string())
                        .into());
                }
            }
            Verdict::Refused(refusal) => {
                return Err(refusal::refused(refusal, &reply.stored, view, now).into());
            }
        }
        known = reply.stored;
        // Asking while it closes would only race with its end.
        while is_closing(&known.order) && Instant::now() < deadline {
            settled(&mut watch, deadline).await;
            watch.borrow_and_update();
            let fresh = deps.orders.read(order).await;
            if let Some(fresh) = fresh.map_err(|error| refusal::unanswered(&error, view))? {
                known = fresh;
            }
        }
    }
}

fn is_closing(order: &Order) -> bool {
    order
        .live_attempt()
        .is_some_and(|attempt| matches!(attempt.phase, Phase::Closing(_)))
}

/// Which number the attempt gets, if this command starts it at once and its code is ours.
fn expected_number(order: &Order, command: &Command, now: Timestamp) -> Option<AttemptNumber> {
    let Outcome::Applied { events, .. } = decide(order, command, now) else {
        return None;
    };
    events.iter().find_map(|event| match event {
        Event::AttemptStarted {
            attempt,
            native: None,
            ..
        } => Some(*attempt),
        _ => None,
    })
}

fn scan_token(
    view: &View,
    order: crate::order::OrderId,
    id: AttemptId,
    number: AttemptNumber,
) -> Write {
    Write::Token {
        kind: TokenKind::Scan,
        hash: token_hash(TokenKind::Scan, &view.scan_token(id)),
        target: TokenTarget {
            order,
            attempt: Some(number),
        },
    }
}

/// Waits for the order's next version, no longer than until `deadline`.
pub async fn settled(watch: &mut watch::Receiver<u64>, deadline: Instant) {
    match timeout_at(deadline, watch.changed()).await {
        Ok(Ok(())) | Err(_) => {}
        // Nobody announces any more: ask again a little later.
        Ok(Err(_)) => {
            let later = Instant::now() + Duration::from_millis(200);
            tokio::time::sleep_until(later.min(deadline)).await;
        }
    }
}

/// Waits until the provider's own code is there (native mode); at once where the code is ours.
pub async fn with_code(deps: &Deps, started: Started) -> Result<Started, Problem> {
    let mut started = started;
    let deadline = Instant::now() + WAIT_FOR_CODE;
    let mut watch = deps.orders.watch(started.stored.order.id);
    loop {
        watch.borrow_and_update();
        if is_settled(&started) || Instant::now() >= deadline {
            return Ok(started);
        }
        let read = deps.orders.read(started.stored.order.id).await;
        match read.map_err(|error| refusal::unanswered(&error, &deps.view()))? {
            Some(stored) if stored.order.version > started.stored.order.version => {
                started.stored = stored;
            }
            _ => settled(&mut watch, deadline).await,
        }
    }
}

/// Is nothing more to be heard before this attempt can be shown?
fn is_settled(started: &Started) -> bool {
    started.attempt().is_none_or(|attempt| {
        attempt.native.is_none()
            || !attempt.is_open()
            || attempt
                .trade
                .as_ref()
                .is_none_or(|trade| !matches!(trade.standing, TradeStanding::Intended))
    })
}

/// The answer to a start: the attempt with its code and how long it lives.
pub fn answer(
    view: &View,
    started: &Started,
    now: Timestamp,
) -> Result<Map<String, Value>, Problem> {
    let order = &started.stored.order;
    let Some(attempt) = started.attempt() else {
        return Err(Problem::new(
            Code::InternalError,
            "The attempt was not found after its start.",
        ));
    };
    if let Phase::Failed { .. } = attempt.phase {
        return Err(Problem::new(
            Code::ProviderUnavailable,
            "The provider refused to make a code: try again, or another wallet.",
        )
        .with("order_id", order.id.to_string()));
    }
    let mut body = view.attempt(order, attempt);
    body.insert("order_id".to_owned(), json!(order.id));
    body.insert(
        "remaining_ms".to_owned(),
        json!(attempt.expires_at.since(now).max(0)),
    );
    body.insert("server_time".to_owned(), json!(view.time(now)));
    Ok(body)
}
