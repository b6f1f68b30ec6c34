//! Acts in the world, beside the actors: each leaves after the commit that intends it, and its result
//! comes back as a command. Nothing is repeated here: what got no answer is due again, by its row.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::house::House;
use super::messages::Call;
use super::options::Options;
use super::requests::{self, CannotAsk, trade_of};
use super::{Orders, Request, meters};
use crate::faults::crash_point;
use crate::order::decide::CALL_TIMEOUT_MS;
use crate::order::{
    AccountId, AttemptNumber, CaptureReport, CloseAnswer, Command, Effect, OutTradeNo, QueryAnswer,
    RefundAnswer, RefundId, TradeAnswer,
};
use crate::provider::{Provider, Success, TradeState};
use crate::store::{Actor, StoredOrder};

const WIRE_MARGIN_MS: i64 = 5_000;

/// The calls of one account.
#[derive(Debug)]
pub(super) struct Line {
    provider: Arc<dyn Provider>,
    turns: Semaphore,
    waiting: AtomicUsize,
}

impl Line {
    pub(super) fn new(provider: Arc<dyn Provider>, options: &Options) -> Self {
        Self {
            provider,
            turns: Semaphore::new(options.calls_per_account.max(1)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Calls that wait or are under way.
    pub(super) fn busy(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Starts the call. The handle lives until its result was told; `None` where no call is made.
pub(super) fn start(
    house: &Arc<House>,
    stored: &Arc<StoredOrder>,
    effect: &Effect,
) -> Option<Weak<Call>> {
    let name = meters::effect_name(effect);
    let account = account_of(stored, effect)?;
    let Some(line) = house.lines.get(&account) else {
        tracing::error!(order = %stored.order.id, %account, effect = name, "an order's account is not configured any more");
        return None;
    };
    let line = Arc::clone(line);
    let most = house.options.calls_per_account + house.options.calls_waiting;
    if line.waiting.fetch_add(1, Ordering::Relaxed) >= most {
        line.waiting.fetch_sub(1, Ordering::Relaxed);
        metrics::counter!("enrollpay_mailbox_rejected_total", "kind" => "effect").increment(1);
        return None;
    }
    let call = Arc::new(Call {
        asked_at: Instant::now(),
    });
    let handle = Arc::downgrade(&call);
    let under_way = UnderWay { line, name, call };
    metrics::gauge!("enrollpay_effects_in_flight").increment(1);
    let (house, stored, effect) = (Arc::clone(house), Arc::clone(stored), effect.clone());
    let caller = house.caller.clone();
    caller.spawn(async move {
        let stop = house.stop_calls.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = run(&house, &stored, &effect, &under_way) => {}
        }
        drop(under_way);
    });
    Some(handle)
}

/// Counts a call for as long as it exists.
struct UnderWay {
    line: Arc<Line>,
    name: &'static str,
    call: Arc<Call>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("enrollpay_effects_in_flight").decrement(1);
    }
}

fn account_of(stored: &StoredOrder, effect: &Effect) -> Option<AccountId> {
    let attempt = match effect {
        Effect::MakeTrade { attempt }
        | Effect::QueryTrade { attempt }
        | Effect::CloseTrade { attempt } => *attempt,
        Effect::Refund { refund } | Effect::RepairRefund { refund } => {
            return stored.order.refund(*refund)?.account.cloned();
        }
    };
    Some(trade_of(&stored.order, attempt)?.1.account.clone())
}

async fn run(house: &Arc<House>, stored: &StoredOrder, effect: &Effect, under_way: &UnderWay) {
    let line = &under_way.line;
    let provider = &*line.provider;
    // Waiting for a turn counts: an order call must not reach the provider after the heart has
    // concluded from its silence that it never will.
    let until = under_way.call.asked_at + call_limit(&house.options);
    let Ok(Ok(_turn)) = tokio::time::timeout_at(until, line.turns.acquire()).await else {
        return;
    };
    if Instant::now() >= until {
        return;
    }
    let id = stored.order.id;
    let command = match effect {
        Effect::MakeTrade { attempt } => {
            let asked =
                tokio::time::timeout_at(until, make(house, provider, stored, *attempt)).await;
            let answer = asked.unwrap_or(TradeAnswer::Unknown);
            crash_point("c4");
            Command::TradeAnswer {
                attempt: *attempt,
                answer,
            }
        }
        Effect::QueryTrade { attempt } => {
            let number = OutTradeNo {
                order: id,
                attempt: *attempt,
            };
            let asked = tokio::time::timeout_at(until, provider.query_trade(number)).await;
            let state = asked.unwrap_or(TradeState::Unknown);
            Command::QueryAnswer {
                attempt: *attempt,
                answer: query_answer(house, provider, number, state),
            }
        }
        Effect::CloseTrade { attempt } => {
            let number = OutTradeNo {
                order: id,
                attempt: *attempt,
            };
            let asked = tokio::time::timeout_at(until, provider.close_trade(number)).await;
            crash_point("c10");
            Command::CloseAnswer {
                attempt: *attempt,
                answer: asked.unwrap_or(CloseAnswer::Unknown),
            }
        }
        Effect::Refund { refund } | Effect::RepairRefund { refund } => {
            let asked = async {
                if matches!(effect, Effect::Refund { .. }) {
                    give_back(house, provider, stored, *refund).await
                } else {
                    repair(house, provider, stored, *refund).await
                }
            };
            let answer = tokio::time::timeout_at(until, asked)
                .await
                .unwrap_or(RefundAnswer::Unknown);
            crash_point("c12");
            Command::RefundAnswer {
                refund: *refund,
                answer,
            }
        }
    };
    let told = Orders::of(Arc::clone(house))
        .tell_answer(
            id,
            Request {
                command,
                actor: Actor::Provider,
                request_id: None,
                writes: Vec::new(),
            },
            Arc::clone(&under_way.call),
        )
        .await;
    if let Err(error) = told {
        // Nothing is lost: the question is due again, and so is its answer.
        tracing::warn!(order = %id, effect = under_way.name, %error, "a provider's answer was not recorded");
    }
}

/// Shorter than the heart's own limit, by a margin for what is on the wire already.
fn call_limit(options: &Options) -> Duration {
    let most = u64::try_from(CALL_TIMEOUT_MS - WIRE_MARGIN_MS).unwrap_or_default();
    Duration::from_millis(options.call_timeout_ms.clamp(1, most))
}

async fn make(
    house: &House,
    provider: &dyn Provider,
    stored: &StoredOrder,
    attempt: AttemptNumber,
) -> TradeAnswer {
    match requests::trade(house, stored, attempt).await {
        Ok(request) => provider.make_trade(&request).await,
        Err(error) => {
            tracing::error!(order = %stored.order.id, %error, "a trade could not be asked for");
            TradeAnswer::Unknown
        }
    }
}

async fn give_back(
    house: &House,
    provider: &dyn Provider,
    stored: &StoredOrder,
    refund: RefundId,
) -> RefundAnswer {
    let (request, tried_before) = match requests::refund(house, stored, refund).await {
        Ok(request) => request,
        Err(error) => return not_asked(stored, &error),
    };
    if tried_before {
        let answer = provider.query_refund(&request).await;
        if answer != RefundAnswer::Unknown {
            return answer;
        }
    }
    provider.refund(&request).await
}

async fn repair(
    house: &House,
    provider: &dyn Provider,
    stored: &StoredOrder,
    refund: RefundId,
) -> RefundAnswer {
    let asked = async {
        let (request, _) = requests::refund(house, stored, refund).await?;
        let destination = requests::destination(house, stored, refund).await?;
        Ok(provider.repair_refund(&request, &destination).await)
    };
    asked
        .await
        .unwrap_or_else(|error| not_asked(stored, &error))
}

fn not_asked(stored: &StoredOrder, error: &CannotAsk) -> RefundAnswer {
    tracing::error!(order = %stored.order.id, %error, "a refund could not be asked for");
    RefundAnswer::Unknown
}

fn query_answer(
    house: &House,
    provider: &dyn Provider,
    number: OutTradeNo,
    state: TradeState,
) -> QueryAnswer {
    match state {
        TradeState::Paid(success) => match report(house, provider, &success) {
            Some((named, report)) if named == number => QueryAnswer::Paid(report),
            _ => {
                tracing::error!(order = %number.order, "a query was answered with another trade");
                QueryAnswer::Unknown
            }
        },
        TradeState::Unpaid => QueryAnswer::Unpaid,
        TradeState::NotFound => QueryAnswer::NotFound,
        TradeState::Closed => QueryAnswer::Closed,
        TradeState::Unknown => QueryAnswer::Unknown,
    }
}

/// A provider's success as the heart takes it; `None` where its number is none of ours.
fn report(
    house: &House,
    provider: &dyn Provider,
    success: &Success,
) -> Option<(OutTradeNo, CaptureReport)> {
    let number: OutTradeNo = success.out_trade_no.parse().ok()?;
    let now = house.parts.clock.now();
    let report = CaptureReport {
        attempt: number.attempt,
        account: provider.account().id.clone(),
        application: success.application.clone(),
        transaction_id: success.transaction_id.clone(),
        amount: success.amount,
        currency: success.currency.clone(),
        succeeded_at: success.succeeded_at,
        surplus_refund: RefundId::from_ulid(house.parts.random.ulid(now)),
    };
    Some((number, report))
}
