//! Rules of the shell, broken on purpose. Every one must be found (reliability §3.1).

use crate::order::{
    Answer, Command, Effect, Event, Order, Outcome, QueryAnswer, Timestamp, TradeAnswer, decide,
};

/// What is broken. The heart's source is never touched: where a mutation is about a decision, the
/// shell rewrites what the heart said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A notice is acknowledged before it is on disk (A1).
    AckBeforeCommit,
    /// A wish is answered before it is on disk (A5).
    AnswerBeforeCommit,
    /// The store compares no versions (O1).
    SkipVersionCheck,
    /// The store does not compare the owner's pair (O2).
    SkipFenceCheck,
    /// A shard is claimed under the epoch that it had (O3).
    ReuseEpoch,
    /// Captures are looked up first and then written without a constraint (A2).
    CheckThenInsert,
    /// A claim commits whenever it gets there (Q3).
    ClaimByNodeClock,
    /// Refunds are intended, and never asked for (M1).
    SkipRefunds,
    /// Each try of a refund has a number of its own (M5).
    FreshRefundNumber,
    /// An attempt ends when our clock says so (Q5).
    ExpireWithoutClosing,
    /// "No such trade" ends every attempt (Q4).
    NotFoundIsClosed,
    /// An order call without an answer is a refused one (F19).
    UnknownIsRefused,
    /// Calls leave before the commit that intends them (O4).
    EffectsBeforeCommit,
    /// A call is repeated from memory that may be stale.
    RepeatUnchecked,
    /// A call's time begins when it is made, not when it was decided.
    CallTimeFromDispatch,
    /// Answers to questions that were asked again since still count.
    OutdatedAnswersCount,
    /// Webhook events are written after the commit, if the process gets that far (E1).
    DropOutboxRow,
    /// A delivery's body is written anew from the order as it is now (E4).
    ReserialiseBody,
    /// How a delivery went is written whatever has become of the event since (E2).
    DeliverUnconditionally,
    /// Deliveries do not wait for earlier ones of their order (E3).
    DeliverOutOfTurn,
    /// "Nothing due" and refusals are said from memory that may be stale (Q7).
    TrustMemory,
    /// Only timers in memory wake orders (Q7).
    NoSweep,
    /// A movement of money writes one line (M9).
    DropLedgerLine,
    /// Late money is acknowledged, and nothing else (M6).
    ForgetLateMoney,
}

/// What a mutation makes of the heart's answer.
pub(crate) fn rewrite(
    mutation: Option<Mutation>,
    order: &Order,
    command: &Command,
    now: Timestamp,
    outcome: Outcome,
) -> Outcome {
    match (mutation, command, outcome) {
        (Some(Mutation::NotFoundIsClosed), Command::QueryAnswer { attempt, answer }, _)
            if *answer == QueryAnswer::NotFound =>
        {
            let answer = QueryAnswer::Closed;
            let attempt = *attempt;
            decide(order, &Command::QueryAnswer { attempt, answer }, now)
        }
        (Some(Mutation::UnknownIsRefused), Command::TradeAnswer { attempt, answer }, _)
            if *answer == TradeAnswer::Unknown =>
        {
            let answer = TradeAnswer::Refused {
                code: "TIMEOUT".into(),
            };
            let attempt = *attempt;
            decide(order, &Command::TradeAnswer { attempt, answer }, now)
        }
        (Some(Mutation::ForgetLateMoney), Command::Capture(report), Outcome::Applied { .. })
            if order
                .attempt(report.attempt)
                .is_some_and(|attempt| !attempt.is_live()) =>
        {
            Outcome::Already(Answer::Stale, Vec::new())
        }
        (Some(Mutation::ExpireWithoutClosing), _, Outcome::Applied { events, effects })
            if order.cancel_requested_at.is_none() =>
        {
            without_closing(events, effects)
        }
        (_, _, outcome) => outcome,
    }
}

/// Instead of waiting for the provider's word: the attempt is over, and so is its trade. In two
/// commits, the first of which starts the closing, so that the heart's own check has no objection.
fn without_closing(events: Vec<Event>, effects: Vec<Effect>) -> Outcome {
    let closes = |event: &Event| matches!(event, Event::ClosingMoved { .. });
    let begins = |event: &Event| matches!(event, Event::AttemptClosing { .. });
    if !events.iter().any(closes) || events.iter().any(begins) {
        return Outcome::Applied { events, effects };
    }
    let events = events
        .into_iter()
        .flat_map(|event| match event {
            Event::ClosingMoved { attempt, .. } => {
                vec![
                    Event::TradeDied { attempt },
                    Event::AttemptExpired { attempt },
                ]
            }
            Event::ProviderAsked { .. } => Vec::new(),
            other => vec![other],
        })
        .collect();
    Outcome::Applied {
        events,
        effects: Vec::new(),
    }
}
