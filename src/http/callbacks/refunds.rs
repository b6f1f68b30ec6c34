//! News of refunds (WeChat Pay protocol §2.6; Alipay protocol §3): the answer to a question of ours that
//! came by itself. Also told are refunds that were made in the provider's own console: they change
//! nothing here, and a person must know.

use actix_web::web::Bytes;

use super::{Deps, Outcome, keep, orders_failed, unavailable, unknown};
use crate::actors::{OrdersError, Request, Verdict};
use crate::faults::crash_point;
use crate::order::{Command, ForeignRefund, Order, OutTradeNo, RefundId, Timestamp};
use crate::provider::{Provider, RefundNews};
use crate::store::Actor;

pub(super) async fn told(
    provider: &dyn Provider,
    notice_id: String,
    news: &RefundNews,
    body: &Bytes,
    deps: &Deps,
    now: Timestamp,
) -> Outcome {
    let Ok(number) = news.out_trade_no.parse::<OutTradeNo>() else {
        return unknown(provider, &news.refund_no, body, deps, now).await;
    };
    let stored = match deps.orders.read_for_fact(number.order).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return unknown(provider, &news.refund_no, body, deps, now).await,
        Err(error) => return orders_failed(&error),
    };
    let command = if let Some((refund, round)) = ours(&stored.order, provider, number, news) {
        Command::RefundAnswer {
            refund,
            round,
            answer: news.answer,
        }
    } else {
        Command::ForeignRefund(ForeignRefund {
            attempt: number.attempt,
            number: news.refund_no.as_str().into(),
            amount: news.amount,
        })
    };
    let is_foreign = matches!(command, Command::ForeignRefund(_));
    let request = Request {
        command,
        actor: Actor::Provider,
        request_id: Some(notice_id),
        writes: Vec::new(),
    };
    let outcome = match deps.orders.tell(number.order, request).await {
        Ok(reply) => match reply.verdict {
            Verdict::Applied => Outcome::Recorded,
            Verdict::Already(_) => Outcome::Duplicate,
            // An attempt of ours that never was: kept, below.
            Verdict::Refused(_) => Outcome::Kept,
        },
        Err(OrdersError::NotFound) => {
            return unknown(provider, &news.refund_no, body, deps, now).await;
        }
        Err(error) => return orders_failed(&error),
    };
    crash_point("c7");
    if is_foreign || outcome == Outcome::Kept {
        let kept = keep(
            provider,
            &news.refund_no,
            "foreign_refund",
            Some(number.order),
            body,
            deps,
            now,
        )
        .await;
        if let Err(error) = kept {
            return unavailable(&error);
        }
    }
    outcome
}

/// The refund of ours that the news is of, every field compared.
fn ours(
    order: &Order,
    provider: &dyn Provider,
    number: OutTradeNo,
    news: &RefundNews,
) -> Option<(RefundId, u8)> {
    let refund = order.refund_numbered(&news.refund_no)?;
    let fits = refund.attempt == number.attempt
        && refund.account == Some(&provider.account().id)
        && news.amount.is_none_or(|amount| amount == refund.amount);
    fits.then_some((refund.id, refund.round()))
}
