//! Acts in the world, beside the actors: each leaves after the commit that intends it, and its result
//! comes back as a command. Nothing is repeated here: what got no answer is due again, by its row.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::house::House;
use super::line::Line;
use super::messages::Call;
use super::options::Options;
use super::pace::Kind;
use super::requests::{self, CannotAsk, trade_of};
use super::urgency::Urgency;
use super::{Orders, Request, meters};
use crate::faults::crash_point;
use crate::order::decide::CALL_TIMEOUT_MS;
use crate::order::{
    AccountId, AttemptNumber, CaptureReport, CloseAnswer, Command, Effect, OrderId, OutTradeNo,
    Product, QueryAnswer, RefundAnswer, RefundId, TradeAnswer,
};
use crate::provider::{Outcome, Provider, Success, TradeState, observed};
use crate::store::{Actor, StoredOrder};

const WIRE_MARGIN_MS: i64 = 5_000;

/// Starts the call. The handle lives until its result was told; `None` where no call is made.
pub(super) fn start(
    house: &Arc<House>,
    stored: &Arc<StoredOrder>,
    effect: &Effect,
    urgency: Urgency,
    decided_at: Instant,
) -> Option<Weak<Call>> {
    let name = meters::effect_name(effect);
    let account = account_of(stored, effect)?;
    let Some(line) = house.lines.get(&account) else {
        tracing::error!(order = %stored.order.id, %account, effect = name, "an order's account is not configured any more");
        return None;
    };
    let call = Arc::new(Call::new(urgency, decided_at));
    let handle = Arc::downgrade(&call);
    let under_way = UnderWay {
        house: Arc::clone(house),
        line: Arc::clone(line),
        name,
        until: call.asked_at + call_limit(&house.options),
        call,
    };
    metrics::gauge!("enrollpay_effects_in_flight").increment(1);
    let others = house.calls.fetch_add(1, Ordering::Relaxed);
    if others >= house.options.calls_waiting && !urgency.is_awaited() {
        metrics::counter!("enrollpay_mailbox_rejected_total", "kind" => "effect").increment(1);
        return None;
    }
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

/// A call for as long as it exists, from its asking until its answer was told.
struct UnderWay {
    house: Arc<House>,
    line: Arc<Line>,
    name: &'static str,
    call: Arc<Call>,
    /// Waiting for a turn counts: an order call must not reach the provider after the heart has
    /// concluded from its silence that it never will.
    until: Instant,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.house.calls.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("enrollpay_effects_in_flight").decrement(1);
    }
}

impl UnderWay {
    /// One call in its turn. Where there will be none, whoever waits hears `unknown` at once; where
    /// nobody does, the row says when it is due again, and `None` changes nothing.
    async fn in_turn<T>(&self, kind: Kind, unknown: T, call: impl Future<Output = T>) -> Option<T> {
        let urgency = self.call.urgency;
        let Some(turn) = self.line.turn(kind, urgency, &self.call, self.until).await else {
            return (urgency.is_awaited() && !self.call.is_superseded()).then_some(unknown);
        };
        let (answer, outcome) = observed(tokio::time::timeout_at(self.until, call)).await;
        turn.came_to(match answer {
            Ok(_) => outcome,
            Err(_) => Some(Outcome::Timeout),
        });
        Some(answer.unwrap_or(unknown))
    }
}

/// Whose provider an effect asks.
pub(super) fn account_of(stored: &StoredOrder, effect: &Effect) -> Option<AccountId> {
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
    let id = stored.order.id;
    if !may_ask(house, id).await {
        return;
    }
    let Some(command) = ask(house, stored, effect, under_way).await else {
        return;
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

/// Past its lease an owner asks the store first whether it still is one: a node that slept must not act on
/// what it knew before (reliability §4.2).
async fn may_ask(house: &House, id: OrderId) -> bool {
    let shard = house.shard_of(id);
    if house.options.ownership.is_sure(shard) {
        return true;
    }
    house.is_still_ours(shard).await.unwrap_or_else(|error| {
        tracing::warn!(order = %id, %error, "no provider is asked: whether the order is ours cannot be told");
        false
    })
}

/// The provider's answer as a command; `None` where nothing was asked and nobody waits.
async fn ask(
    house: &House,
    stored: &StoredOrder,
    effect: &Effect,
    under_way: &UnderWay,
) -> Option<Command> {
    let provider = &*under_way.line.provider;
    let number = |attempt| OutTradeNo {
        order: stored.order.id,
        attempt,
    };
    Some(match effect {
        Effect::MakeTrade { attempt } => {
            let answer = make(house, provider, stored, *attempt, under_way).await?;
            crash_point("c4");
            Command::TradeAnswer {
                attempt: *attempt,
                answer,
            }
        }
        Effect::QueryTrade { attempt } => {
            let number = number(*attempt);
            let call = provider.query_trade(number);
            let state = under_way.in_turn(Kind::Query, TradeState::Unknown, call);
            Command::QueryAnswer {
                attempt: *attempt,
                answer: query_answer(house, provider, number, state.await?),
            }
        }
        Effect::CloseTrade { attempt } => {
            let call = provider.close_trade(number(*attempt));
            let answer = under_way.in_turn(Kind::Close, CloseAnswer::Unknown, call);
            let answer = answer.await?;
            crash_point("c10");
            Command::CloseAnswer {
                attempt: *attempt,
                answer,
            }
        }
        Effect::Refund { refund } | Effect::RepairRefund { refund } => {
            let answer = if matches!(effect, Effect::Refund { .. }) {
                give_back(house, provider, stored, *refund, under_way).await?
            } else {
                repair(house, provider, stored, *refund, under_way).await?
            };
            crash_point("c12");
            Command::RefundAnswer {
                refund: *refund,
                round: stored
                    .order
                    .refund(*refund)
                    .map_or(0, |asked| asked.round()),
                answer,
            }
        }
    })
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
    under_way: &UnderWay,
) -> Option<TradeAnswer> {
    let request = match requests::trade(house, stored, attempt).await {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(order = %stored.order.id, %error, "a trade could not be asked for");
            return Some(TradeAnswer::Unknown);
        }
    };
    let call = provider.make_trade(&request);
    if request.product == Product::AlipayWap {
        // Its link is signed here: nobody is asked.
        return Some(call.await);
    }
    under_way
        .in_turn(Kind::Order, TradeAnswer::Unknown, call)
        .await
}

async fn give_back(
    house: &House,
    provider: &dyn Provider,
    stored: &StoredOrder,
    refund: RefundId,
    under_way: &UnderWay,
) -> Option<RefundAnswer> {
    let (request, tried_before) = match requests::refund(house, stored, refund).await {
        Ok(request) => request,
        Err(error) => return Some(not_asked(stored, &error)),
    };
    if tried_before {
        let call = provider.query_refund(&request);
        let answer = under_way
            .in_turn(Kind::RefundQuery, RefundAnswer::Unknown, call)
            .await?;
        if answer != RefundAnswer::Unknown {
            return Some(answer);
        }
    }
    let call = provider.refund(&request);
    under_way
        .in_turn(Kind::Refund, RefundAnswer::Unknown, call)
        .await
}

async fn repair(
    house: &House,
    provider: &dyn Provider,
    stored: &StoredOrder,
    refund: RefundId,
    under_way: &UnderWay,
) -> Option<RefundAnswer> {
    let asked = async {
        let (request, _) = requests::refund(house, stored, refund).await?;
        let destination = requests::destination(house, stored, refund).await?;
        Ok((request, destination))
    };
    match asked.await {
        Ok((request, destination)) => {
            let call = provider.repair_refund(&request, &destination);
            under_way
                .in_turn(Kind::Refund, RefundAnswer::Unknown, call)
                .await
        }
        Err(error) => Some(not_asked(stored, &error)),
    }
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
