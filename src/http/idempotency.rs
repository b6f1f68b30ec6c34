//! Doing a signed request once: its nonce is taken with the work, and an `Idempotency-Key` gives a
//! repeat the first answer (contract §4, "Idempotency-Key"; reliability A5).
//!
//! [`once`] wraps every request that may change something. The work gets an [`Intent`], through which
//! it speaks to orders; what has to be committed with the first command goes along by itself.

use std::cell::Cell;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError as _};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::Signed;
use super::problem::{Code, Problem};
use super::{Deps, refusal, request_id};
use crate::actors::{OrdersError, Reply, Request};
use crate::order::{Command, MerchantId, OrderId, Timestamp};
use crate::sealing::{Place, Sealed};
use crate::store::{Actor, IdempotencyRow, Rejection, StoreError, Transaction, Write};
use crate::view::View;

/// After this a request that never finished counts as dead (its process was killed): the next one
/// under its key takes over from the order's state. No request lives half as long.
const ABANDONED_MS: i64 = 30_000;

/// An answer of success, as it is sent and kept.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(header::HeaderName, String)>,
    pub body: Value,
}

impl Answer {
    pub const fn ok(body: Value) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body,
        }
    }

    pub fn created(location: String, body: Value) -> Self {
        Self {
            status: 201,
            headers: vec![(header::LOCATION, location)],
            body,
        }
    }

    /// Not known yet; never kept under a key.
    pub fn accepted(retry_after_seconds: u32, body: Value) -> Self {
        Self {
            status: 202,
            headers: vec![(header::RETRY_AFTER, retry_after_seconds.to_string())],
            body,
        }
    }
}

/// Why the work ends without an answer of success.
#[derive(Debug)]
pub enum Stop {
    Problem(Problem),
    /// Another request took the key first.
    KeyTaken(Box<IdempotencyRow>),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// What a signed request commits beside its work.
#[derive(Debug)]
pub struct Intent<'a> {
    pub deps: &'a Deps,
    pub signed: &'a Signed,
    pub view: View,
    key: Option<&'a str>,
    /// The first request under this key died: whose it was, and when it began.
    resumed: Option<(u128, Timestamp)>,
    committed: Cell<bool>,
    /// Whose people the answer may show.
    order: Cell<Option<OrderId>>,
    /// An answer of the store was lost: nothing more is written on a guess.
    uncertain: Cell<bool>,
    request_hash: [u8; 32],
}

impl Intent<'_> {
    /// Whether an earlier request under this key may have done the work already, and since when.
    pub fn resumed(&self) -> Option<Timestamp> {
        self.resumed.map(|(_, since)| since)
    }

    pub fn merchant(&self) -> MerchantId {
        self.signed.caller.merchant.id
    }

    /// The answer will show this order: once its people are erased, the answer is too.
    pub fn about(&self, order: OrderId) {
        self.order.set(Some(order));
    }

    /// What is committed with the first command: nonce and key. Empty once it was.
    pub fn writes(&self) -> Vec<Write> {
        if self.committed.get() {
            return Vec::new();
        }
        let mut writes = self.signed.writes.clone();
        writes.extend(self.started());
        writes
    }

    fn started(&self) -> Option<Write> {
        let (merchant, key) = (self.merchant(), self.key?.to_owned());
        let instance = self.deps.orders.ownership().instance();
        let at = self.deps.clock.now();
        Some(match self.resumed {
            None => Write::IdempotencyStarted {
                merchant,
                key,
                request_hash: self.request_hash,
                instance,
                at,
            },
            Some(was) => Write::IdempotencyResumed {
                merchant,
                key,
                was,
                instance,
                at,
            },
        })
    }

    /// Has the order decide a command; `extra` is committed with it.
    pub async fn tell(
        &self,
        order: OrderId,
        command: Command,
        extra: Vec<Write>,
    ) -> Result<Reply, Stop> {
        self.about(order);
        let request = self.request(command, extra);
        let reply = self.deps.orders.tell(order, request).await;
        self.heard(reply)
    }

    /// The same for a question to the provider, which many may ask at once.
    pub async fn query(&self, order: OrderId) -> Result<Reply, Stop> {
        self.about(order);
        let request = self.request(Command::Query, Vec::new());
        let reply = self.deps.orders.query(order, request).await;
        self.heard(reply)
    }

    fn request(&self, command: Command, extra: Vec<Write>) -> Request {
        let mut writes = self.writes();
        writes.extend(extra);
        Request {
            command,
            actor: Actor::Merchant,
            request_id: request_id::current().map(|id| id.to_string()),
            writes,
        }
    }

    /// Commits work that is no order's command, with nonce and key.
    pub async fn commit(&self, work: Vec<Write>) -> Result<(), Stop> {
        let mut writes = self.writes();
        writes.extend(work);
        let transaction = Transaction {
            order: None,
            writes,
        };
        let committed = match self.deps.store.commit(vec![transaction]).await {
            Ok(mut outcomes) => outcomes
                .pop()
                .unwrap_or(Ok(()))
                .map_err(OrdersError::Rejected),
            Err(error) => Err(OrdersError::Store(error)),
        };
        self.heard(committed)
    }

    /// Takes note of what an answer of the actors, or of the store, says about our writes.
    pub fn heard<T>(&self, answer: Result<T, OrdersError>) -> Result<T, Stop> {
        match answer {
            Ok(reply) => {
                self.committed.set(true);
                Ok(reply)
            }
            Err(OrdersError::Rejected(Rejection::IdempotencyKeyTaken(row))) => {
                Err(Stop::KeyTaken(row))
            }
            Err(error) => {
                if matches!(
                    error,
                    OrdersError::ActorLost | OrdersError::Store(StoreError::OutcomeUnknown { .. })
                ) {
                    self.uncertain.set(true);
                }
                Err(Stop::Problem(refusal::unanswered(&error, &self.view)))
            }
        }
    }
}

/// Does the work of one signed request, once.
pub async fn once(
    deps: &Deps,
    signed: &Signed,
    work: impl AsyncFn(&Intent<'_>) -> Result<Answer, Stop>,
) -> HttpResponse {
    let (key, unusable) = match &signed.idempotency_key {
        None => (None, None),
        Some(Ok(key)) => (Some(key.as_str()), None),
        Some(Err(problem)) => (None, Some(problem.clone())),
    };
    let mut intent = Intent {
        deps,
        signed,
        view: deps.view(),
        key,
        resumed: None,
        committed: Cell::new(false),
        order: Cell::new(None),
        uncertain: Cell::new(false),
        request_hash: request_hash(signed),
    };
    let outcome = match unusable {
        Some(problem) => Outcome::refused(&problem),
        None => first_or_again(&mut intent, work).await,
    };
    match settle(&intent, &outcome).await {
        Ok(()) => outcome.respond(),
        Err(problem) => problem.error_response(),
    }
}

async fn first_or_again(
    intent: &mut Intent<'_>,
    work: impl AsyncFn(&Intent<'_>) -> Result<Answer, Stop>,
) -> Outcome {
    if let Some(key) = intent.key {
        match intent.deps.store.idempotency(intent.merchant(), key).await {
            Ok(None) => {}
            Ok(Some(row)) => match judge(intent, &row).await {
                Judged::Settled(outcome) => return outcome,
                Judged::Abandoned => intent.resumed = Some((row.instance, row.started_at)),
            },
            Err(error) => return Outcome::refused(&refusal::store_failed(&error)),
        }
    }
    match work(intent).await {
        Ok(answer) => Outcome::answered(answer),
        Err(Stop::Problem(problem)) => Outcome::refused(&problem),
        Err(Stop::KeyTaken(row)) => match judge(intent, &row).await {
            Judged::Settled(outcome) => outcome,
            Judged::Abandoned => Outcome::refused(&refusal::in_progress()),
        },
    }
}

enum Judged {
    Settled(Outcome),
    Abandoned,
}

/// What an earlier request under the same key means for this one.
async fn judge(intent: &Intent<'_>, row: &IdempotencyRow) -> Judged {
    if row.request_hash != intent.request_hash {
        let problem = Problem::new(
            Code::IdempotencyKeyReused,
            "This Idempotency-Key was used with another method, address or body.",
        )
        .with("first_used_at", intent.view.time(row.started_at));
        return Judged::Settled(Outcome::refused(&problem).again());
    }
    let Some((status, sealed)) = &row.answer else {
        let age = intent.deps.clock.now().since(row.started_at);
        match is_dead(intent.deps, row.instance).await {
            Ok(dead) if dead || age >= ABANDONED_MS => return Judged::Abandoned,
            Ok(_) => {}
            Err(error) => return Judged::Settled(Outcome::refused(&refusal::store_failed(&error))),
        }
        return Judged::Settled(Outcome::refused(&refusal::in_progress()).again());
    };
    if sealed.is_erased() {
        let problem = Problem::new(
            Code::Erased,
            "The first answer under this key was erased together with the payer's data.",
        );
        return Judged::Settled(Outcome::refused(&problem).again());
    }
    let place_row = place_row(row.merchant, &row.key);
    let kept = intent
        .deps
        .sealer
        .open(place(&place_row), sealed)
        .ok()
        .and_then(|plain| serde_json::from_slice::<Kept>(&plain).ok());
    let Some(kept) = kept else {
        tracing::error!("a kept answer cannot be opened");
        let problem = Problem::new(
            Code::InternalError,
            "The first answer under this key cannot be read.",
        );
        return Judged::Settled(Outcome::refused(&problem).again());
    };
    Judged::Settled(Outcome {
        status: *status,
        kept,
        keep: Keep::Replayed,
    })
}

/// Whose request it was lives no more: what it began, a kill has ended.
async fn is_dead(deps: &Deps, instance: u128) -> Result<bool, StoreError> {
    if instance == deps.orders.ownership().instance() {
        return Ok(false);
    }
    let known = deps.store.instances().await?;
    Ok(!known
        .iter()
        .any(|row| row.instance == instance && row.is_alive()))
}

/// What is sent, and whether it is kept.
struct Outcome {
    status: u16,
    kept: Kept,
    keep: Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
    /// It was kept before, or concerns another request's key: the row is not ours to write.
    Replayed,
}

/// Headers and body, as they stand in the store.
#[derive(Serialize, Deserialize)]
struct Kept {
    headers: Vec<(String, String)>,
    body: String,
}

impl Outcome {
    fn answered(answer: Answer) -> Self {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(
            answer
                .headers
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), value)),
        );
        Self {
            status: answer.status,
            kept: Kept {
                headers,
                body: answer.body.to_string(),
            },
            keep: if answer.status == 202 {
                Keep::No
            } else {
                Keep::Yes
            },
        }
    }

    /// Refusals by state are kept, and nothing that may go better next time.
    fn refused(problem: &Problem) -> Self {
        let entry = problem.code().entry();
        let by_state = matches!(entry.status, 409 | 410 | 422)
            && !matches!(
                entry.code,
                Code::RequestInProgress | Code::IdempotencyKeyReused
            );
        let mut headers = vec![(
            "content-type".to_owned(),
            "application/problem+json".to_owned(),
        )];
        headers.extend(problem.headers().iter().filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        }));
        Self {
            status: entry.status,
            kept: Kept {
                headers,
                body: problem.document().to_string(),
            },
            keep: if by_state { Keep::Yes } else { Keep::No },
        }
    }

    fn again(mut self) -> Self {
        self.keep = Keep::Replayed;
        self
    }

    fn respond(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        for (name, value) in self.kept.headers {
            response.insert_header((name, value));
        }
        if self.keep == Keep::Replayed && self.status < 400 {
            response.insert_header(("idempotent-replayed", "true"));
        }
        response.body(self.kept.body)
    }
}

/// Commits what the work left open: the nonce of a refused request, and the key's end.
async fn settle(intent: &Intent<'_>, outcome: &Outcome) -> Result<(), Problem> {
    if intent.uncertain.get() {
        return Ok(());
    }
    let committed = intent.committed.get();
    let mut writes = Vec::new();
    if !committed {
        writes.extend(intent.signed.writes.clone());
    }
    if let Some(key) = intent.key {
        let merchant = intent.merchant();
        match outcome.keep {
            Keep::Yes => {
                if !committed {
                    writes.extend(intent.started());
                }
                writes.push(Write::IdempotencyFinished {
                    merchant,
                    key: key.to_owned(),
                    status: outcome.status,
                    answer: seal(intent, key, &outcome.kept),
                    order: intent.order.get(),
                });
            }
            Keep::No if committed || intent.resumed.is_some() => {
                writes.push(Write::IdempotencyDropped {
                    merchant,
                    key: key.to_owned(),
                });
            }
            Keep::No | Keep::Replayed => {}
        }
    }
    if writes.is_empty() {
        return Ok(());
    }
    let transaction = Transaction {
        order: None,
        writes,
    };
    let result = intent.deps.store.commit(vec![transaction]).await;
    match result.map(|mut results| results.pop().unwrap_or(Ok(()))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(rejection)) => Err(refusal::rejected(&rejection, &intent.view)),
        // The work stands and its answer is true; the key is finished by whoever asks again.
        Err(error) if committed => {
            tracing::warn!(%error, "an answer could not be kept under its key");
            Ok(())
        }
        Err(error) => Err(refusal::store_failed(&error)),
    }
}

fn seal(intent: &Intent<'_>, key: &str, kept: &Kept) -> Sealed {
    let row = place_row(intent.merchant(), key);
    let plain = serde_json::to_vec(kept).expect("texts serialise");
    intent.deps.sealer.seal(place(&row), &plain)
}

fn place_row(merchant: MerchantId, key: &str) -> String {
    format!("{merchant}/{key}")
}

const fn place(row: &str) -> Place<'_> {
    Place {
        table: "idempotency",
        column: "answer",
        row,
    }
}

/// What makes two requests the same: method, path with query, and the body's SHA-256.
fn request_hash(signed: &Signed) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [signed.method.as_str(), "\n", &signed.path_and_query, "\n"] {
        context.update(part.as_bytes());
    }
    context.update(digest::digest(&digest::SHA256, &signed.body).as_ref());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
