//! One command's way: decide, check, commit; decide again where the row had moved on.
//!
//! The store has the last word. A rejection that says "not as you thought" loads the row and decides
//! anew, a few times; a lost answer is looked up and never blindly repeated.

use std::sync::Arc;

use tokio::time::Instant;

use super::committer::Lane;
use super::effects::account_of;
use super::house::House;
use super::line::Room;
use super::messages::Answered;
use super::options::{EventBody, Told};
use super::ownership::is_fact;
use super::urgency::Urgency;
use super::{OrdersError, Reply, Request, Verdict, meters};
use crate::order::effect::Answer;
use crate::order::invariants::check_step;
use crate::order::{
    Command, Effect, Event, EventId, Order, OrderId, Outcome, RefundId, Refusal, Timestamp, decide,
    evolve,
};
use crate::sealing::Place;
use crate::store::{
    DeliveryState, OrderWrite, OutboxEntry, PersonalData, Rejection, StoreError, StoredOrder,
    TimelineEntry, Transaction, Write,
};

/// How often one command is decided before its last rejection is its answer.
const DECISIONS: u32 = 4;

/// What became of a command, and what its order knows now.
#[derive(Debug)]
pub(super) struct Done {
    /// `None`: what was known may be wrong; load it before the next command.
    pub stored: Option<Arc<StoredOrder>>,
    pub answered: Answered,
    /// They may leave now.
    pub effects: Vec<Effect>,
    /// The heart counts their time from here: a commit that took long leaves them less of it.
    pub decided_at: Instant,
    pub committed: bool,
    /// Room for the effects; given back once they wait in their lines.
    pub rooms: Vec<Room>,
    /// Nothing was decided: it is due, and will be woken when there is room.
    pub waits_for_room: bool,
}

impl Done {
    fn failed(stored: Option<Arc<StoredOrder>>, error: OrdersError) -> Self {
        Self {
            stored,
            answered: Err(error),
            effects: Vec::new(),
            decided_at: Instant::now(),
            committed: false,
            rooms: Vec::new(),
            waits_for_room: false,
        }
    }

    fn with(stored: Arc<StoredOrder>, verdict: Verdict, effects: Vec<Effect>) -> Self {
        let committed = verdict == Verdict::Applied;
        Self {
            answered: Ok(Reply {
                stored: Arc::clone(&stored),
                verdict,
            }),
            stored: Some(stored),
            effects,
            decided_at: Instant::now(),
            committed,
            rooms: Vec::new(),
            waits_for_room: false,
        }
    }
}

/// What a commit came to.
enum Step {
    Committed(Arc<StoredOrder>),
    /// Refused because the row, or the time, is not what the decision assumed.
    DecideAgain(Rejection),
    /// Over, with what is known of the order after it.
    Failed(Option<Arc<StoredOrder>>, OrdersError),
}

pub(super) async fn carry_out(
    house: &House,
    shard: u16,
    id: OrderId,
    known: Option<Arc<StoredOrder>>,
    request: &Request,
    room: Option<Room>,
) -> Done {
    let may_differ = known.is_some() && house.options.ownership.is_shared();
    let mut known = known;
    let mut rooms = Vec::from_iter(room);
    let mut last = None;
    for decision in 0..DECISIONS {
        let stored = match known.take() {
            Some(stored) => stored,
            None => match house.load(id, &request.command).await {
                Ok(Some(stored)) => Arc::new(stored),
                Ok(None) => return Done::failed(None, OrdersError::NotFound),
                Err(error) => return Done::failed(None, OrdersError::Store(error)),
            },
        };
        let decided_at = Instant::now();
        let now = house.parts.clock.now();
        let outcome = decide(&stored.order, &request.command, now);
        // What is committed meets the row; what changes nothing has to be held against it.
        if may_differ && decision == 0 && !matches!(outcome, Outcome::Applied { .. }) {
            // After a failover the row may know less than we do: a fact is recorded only once it is in
            // the store that is now.
            if is_fact(&request.command) {
                continue;
            }
            match stands(house, shard, &stored).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => return Done::failed(None, OrdersError::Store(error)),
            }
        }
        match outcome {
            Outcome::Applied { events, effects } => {
                if matches!(request.command, Command::Tick) && rooms.is_empty() {
                    let Some(given) = room_for(house, &stored, &events, &effects) else {
                        let verdict = Verdict::Already(Answer::NothingDue);
                        let mut done = Done::with(stored, verdict, Vec::new());
                        done.waits_for_room = true;
                        return done;
                    };
                    rooms = given;
                }
                match commit(house, shard, &stored, events, now, request).await {
                    Step::Committed(after) => {
                        let mut done = Done::with(after, Verdict::Applied, effects);
                        done.rooms = rooms;
                        done.decided_at = decided_at;
                        return done;
                    }
                    Step::DecideAgain(rejection) => {
                        last = Some((stored, rejection));
                    }
                    Step::Failed(stored, error) => return Done::failed(stored, error),
                }
            }
            Outcome::Already(answer, effects) => {
                return alone(
                    house,
                    shard,
                    stored,
                    request,
                    Verdict::Already(answer),
                    effects,
                )
                .await;
            }
            Outcome::Refused(refusal) => {
                let verdict = Verdict::Refused(refusal);
                return alone(house, shard, stored, request, verdict, Vec::new()).await;
            }
        }
    }
    let Some((stored, rejection)) = last else {
        return Done::failed(None, OrdersError::NotFound);
    };
    if rejection == Rejection::TooLate
        && let Some(until) = not_after(&stored.order, &request.command)
    {
        // Our clock says in time, the store's says no: the store's decides (Q3).
        let verdict = Verdict::Refused(Refusal::TooLate { until });
        let mut done = alone(house, shard, stored, request, verdict, Vec::new()).await;
        done.stored = None;
        return done;
    }
    tracing::warn!(order = %id, %rejection, "a command found no row to decide on");
    Done::failed(None, OrdersError::Rejected(rejection))
}

/// Is the row as we know it, and the shard ours? Another node may have recorded a payment, or taken over.
async fn stands(house: &House, shard: u16, stored: &StoredOrder) -> Result<bool, StoreError> {
    let (id, version) = (stored.order.id, stored.order.version);
    let ids = [id];
    let versions = house.parts.store.versions(&ids);
    let (versions, is_ours) =
        futures_util::future::try_join(versions, house.is_still_ours(shard)).await?;
    Ok(is_ours && versions.contains(&(id, version)))
}

/// What time brings about by itself is never held up. What needs a provider waits until its account can
/// ask soon: deciding it earlier would fill the store with intentions, and the line with calls that are
/// due again before their turn (F37). Where one of several accounts can be asked, the order goes on.
/// `None`: the order waits in a line, which wakes it.
fn room_for(
    house: &House,
    stored: &StoredOrder,
    events: &[Event],
    effects: &[Effect],
) -> Option<Vec<Room>> {
    let ends_something = |event: &Event| {
        matches!(
            event,
            Event::AttemptExpired { .. }
                | Event::AttemptCancelled { .. }
                | Event::OrderClosed { .. }
                | Event::AttentionRaised { .. }
        )
    };
    if effects.is_empty() || events.iter().any(ends_something) {
        return Some(Vec::new());
    }
    let closes = |event: &Event| matches!(event, Event::ClosingMoved { .. });
    let mut waits = false;
    for effect in effects {
        let urgency = match effect {
            Effect::Refund { .. } | Effect::RepairRefund { .. } => Urgency::Background,
            _ if events.iter().any(closes) => Urgency::Closing,
            _ => Urgency::Scheduled,
        };
        let account = account_of(stored, effect);
        let Some(line) = account.and_then(|account| house.lines.get(&account)) else {
            continue;
        };
        match line.room(stored.order.id, urgency) {
            Some(room) => return Some(vec![room]),
            None => waits = true,
        }
    }
    (!waits).then(Vec::new)
}

/// A claim must be on disk before its attempt ends, by the store's own clock (Q3).
fn not_after(order: &Order, command: &Command) -> Option<Timestamp> {
    let Command::Claim { attempt, .. } = command else {
        return None;
    };
    Some(order.attempt(*attempt)?.expires_at)
}

async fn commit(
    house: &House,
    shard: u16,
    stored: &Arc<StoredOrder>,
    events: Vec<Event>,
    now: Timestamp,
    request: &Request,
) -> Step {
    let before = &stored.order;
    let order = evolve(before.clone(), &events, now);
    if let Err(violation) = check_step(before, &order) {
        meters::violated(violation.invariant);
        tracing::error!(
            order = %before.id,
            command = meters::command_name(&request.command),
            %violation,
            "a write was refused: a person must look at this order"
        );
        let rule = violation.invariant.to_owned();
        let error = OrdersError::Rejected(Rejection::RuleBroken { rule });
        return Step::Failed(Some(Arc::clone(stored)), error);
    }
    let after = Arc::new(StoredOrder {
        order,
        snapshot: stored.snapshot.clone(),
    });
    let outbox = match outbox(house, &after, &events, now, &request.command).await {
        Ok(outbox) => outbox,
        Err(error) => return Step::Failed(Some(Arc::clone(stored)), OrdersError::Store(error)),
    };
    let told = u64::try_from(outbox.len()).unwrap_or_default();
    let fence = house.options.ownership.fence_of(shard, &request.command);
    let transaction = Transaction {
        order: Some(OrderWrite {
            next_due_at: after.order.next_due_at(),
            not_after: not_after(before, &request.command),
            order: after.order.clone(),
            snapshot: None,
            events: timeline(&after.order, events.clone(), now, request),
            outbox,
            fence,
        }),
        writes: request.writes.clone(),
    };
    match house
        .commit(shard, transaction, lane_of(&request.command))
        .await
    {
        Ok(Ok(())) => {}
        Ok(Err(
            rejection @ (Rejection::VersionMoved
            | Rejection::TooLate
            | Rejection::AlreadyClaimed
            | Rejection::CaptureKnown),
        )) => return Step::DecideAgain(rejection),
        Ok(Err(Rejection::FenceMoved)) => {
            house.options.ownership.lose_pair(fence);
            return Step::Failed(None, OrdersError::NoOwner);
        }
        Ok(Err(rejection)) => {
            if let Rejection::RuleBroken { rule } = &rejection {
                meters::violated("store");
                tracing::error!(order = %before.id, rule, "the store refused a write");
            }
            return Step::Failed(Some(Arc::clone(stored)), OrdersError::Rejected(rejection));
        }
        Err(error @ StoreError::OutcomeUnknown { .. }) => {
            // The row tells: it stands, or something else does. Sending it again could do it twice.
            match house.load(before.id, &request.command).await {
                Ok(Some(found)) if found.order == after.order => {}
                Ok(found) => return Step::Failed(found.map(Arc::new), OrdersError::Store(error)),
                Err(_) => return Step::Failed(None, OrdersError::Store(error)),
            }
        }
        Err(error) => return Step::Failed(Some(Arc::clone(stored)), OrdersError::Store(error)),
    }
    meters::committed(before, &after.order, &events);
    if told > 0 {
        house.outbox_written.send_modify(|written| *written += told);
    }
    Step::Committed(after)
}

const fn lane_of(command: &Command) -> Lane {
    match command {
        Command::Tick => Lane::Ticks,
        command if is_fact(command) => Lane::Facts,
        _ => Lane::Asked,
    }
}

/// The command changes nothing. What must be kept all the same is committed before the answer.
async fn alone(
    house: &House,
    shard: u16,
    stored: Arc<StoredOrder>,
    request: &Request,
    verdict: Verdict,
    effects: Vec<Effect>,
) -> Done {
    let writes: Vec<_> = request
        .writes
        .iter()
        .filter(|write| stands_alone(write))
        .cloned()
        .collect();
    if !writes.is_empty() {
        let transaction = Transaction {
            order: None,
            writes,
        };
        let lane = lane_of(&request.command);
        let error = match house.commit(shard, transaction, lane).await {
            Ok(Ok(())) => None,
            Ok(Err(rejection)) => Some(OrdersError::Rejected(rejection)),
            Err(error) => Some(OrdersError::Store(error)),
        };
        if let Some(error) = error {
            return Done::failed(Some(stored), error);
        }
    }
    Done::with(stored, verdict, effects)
}

/// May this be kept though its command did not happen? Not what the command would have made true: a
/// second payer's openid must not take the place of the claimant's, and nobody's log must say that he
/// did what was refused.
const fn stands_alone(write: &Write) -> bool {
    !matches!(
        write,
        Write::Token { .. } | Write::Personal { .. } | Write::Audit(_)
    )
}

pub(super) fn timeline(
    order: &Order,
    events: Vec<Event>,
    at: Timestamp,
    request: &Request,
) -> Vec<TimelineEntry> {
    events
        .into_iter()
        .zip(0_u16..)
        .map(|(event, position)| TimelineEntry {
            order: order.id,
            version: order.version,
            position,
            at,
            actor: request.actor,
            request_id: request.request_id.clone(),
            event,
        })
        .collect()
}

/// One outbox row for each event that a webhook tells of (E1).
async fn outbox(
    house: &House,
    after: &StoredOrder,
    events: &[Event],
    now: Timestamp,
    command: &Command,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| Some((event.webhook()?, refund_of(event))))
        .collect();
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let personal = personal(house, after.order.id, command).await?;
    let writer: &dyn EventBody = &*house.parts.webhook_body;
    Ok(told
        .into_iter()
        .map(|(kind, refund)| {
            let id = EventId::from_ulid(house.parts.random.ulid(now));
            let told = Told {
                id,
                kind,
                at: now,
                refund,
            };
            let body = writer.body(after, personal.as_ref(), told);
            let row = id.to_string();
            let place = Place {
                table: "outbox",
                column: "body",
                row: &row,
            };
            OutboxEntry {
                body_digest: Some(house.parts.sealer.body_digest(&body)),
                id,
                merchant: after.order.terms.merchant,
                order: after.order.id,
                version: after.order.version,
                kind,
                body: house.parts.sealer.seal(place, &body),
                created_at: now,
                state: DeliveryState::Pending,
                tries: 0,
                next_at: Some(now),
                note: String::new(),
            }
        })
        .collect())
}

/// The refund whose end a webhook tells.
const fn refund_of(event: &Event) -> Option<RefundId> {
    match event {
        Event::RefundSucceeded { refund }
        | Event::RefundFailed { refund }
        | Event::SurplusRefunded { refund } => Some(*refund),
        _ => None,
    }
}

/// Money is recorded even where the payer's data cannot be opened: then the body goes without.
async fn personal(
    house: &House,
    id: OrderId,
    command: &Command,
) -> Result<Option<PersonalData>, StoreError> {
    let store = &house.parts.store;
    let sealed = if is_fact(command) {
        store.personal_for_fact(id, "order").await?
    } else {
        store.personal(id, "order").await?
    };
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let row = id.to_string();
    let place = Place {
        table: "personal",
        column: "order",
        row: &row,
    };
    let opened = house.parts.sealer.open(place, &sealed);
    match opened {
        Ok(plain) => {
            let personal = serde_json::from_slice(&plain).ok();
            if personal.is_none() {
                tracing::error!(order = %id, "the payer's data is no PersonalData: a webhook goes without it");
            }
            Ok(personal)
        }
        Err(error) => {
            tracing::error!(order = %id, %error, "the payer's data does not open: a webhook goes without it");
            Ok(None)
        }
    }
}
