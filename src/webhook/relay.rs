//! The loop from the outbox to the merchants.
//!
//! One task owns the books: who has how much under way, what is to be recorded. Tries run beside it
//! and report back; their results are committed in groups. Nothing in memory matters for
//! correctness: what is lost in a crash is still due in the store, and is sent again under the same
//! id (E4). The store hands out only the oldest undelivered event of an order, which is what keeps
//! an order's events in line (E3).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use metrics::{counter, gauge, histogram};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::deliver::{Courier, Outcome, Report, StartError};
use super::guard::{Guard, Lookup, Policy, SystemLookup};
use super::schedule::{JITTER_PERMILLE_MAX, Next, Schedule};
use super::sign::{self, Secret};
use crate::clock::Clock;
use crate::faults::crash_point;
use crate::order::{EventId, MerchantId, OrderId, Timestamp};
use crate::random::Random;
use crate::sealing::{Place, Sealer};
use crate::store::{DeliveryState, Merchant, OutboxEntry, Owned, Store, Transaction, Write};

/// `webhooks.*` of the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    pub policy: Policy,
    pub schedule: Schedule,
    /// For one try, answer included.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// Tries under way at once, overall and for one merchant. While a merchant's last try failed,
    /// it has one at a time, so that dead endpoints hold next to nothing.
    pub in_flight: usize,
    pub in_flight_per_merchant: usize,
    /// How often the outbox is looked at when nobody nudges.
    pub poll_every: Duration,
    /// How long [`Relay::stop`] waits for tries under way.
    pub drain: Duration,
    pub lookup: Arc<dyn Lookup>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            schedule: Schedule::default(),
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            in_flight: 512,
            in_flight_per_merchant: 32,
            poll_every: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            lookup: Arc::new(SystemLookup),
        }
    }
}

/// What the relay works with.
#[derive(Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub sealer: Sealer,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// Whose events are ours to send: the orders' owner sends them.
    pub owned: Arc<dyn Fn() -> Owned + Send + Sync>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The handle to a running relay.
#[derive(Debug)]
pub struct Relay {
    nudge: Nudge,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Shortens the wait for a look that would come anyway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// Call it after a commit with an outbox row.
    pub fn nudge(&self) {
        self.0.notify_one();
    }
}

impl Relay {
    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Starts no more tries, waits for those under way (at most `Options::drain`), records them.
    pub async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            error!("the webhook relay had ended before it was stopped");
        }
    }
}

/// Rows in one look: a backlog of any size costs this much memory.
const ROWS_PER_LOOK: usize = 2048;
/// Two looks are at least this far apart, however often somebody nudges.
const LOOKS_APART: Duration = Duration::from_millis(20);
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// Starts the relay on the current tokio runtime.
pub fn start(options: Options, parts: Parts) -> Result<Relay, StartError> {
    let guard = Guard::new(options.policy.clone(), options.lookup.clone());
    let courier = Courier::new(guard, options.timeout, options.connect_timeout)?;
    let shared = Arc::new(Shared {
        options,
        parts,
        courier,
    });
    let nudge = Nudge(Arc::new(Notify::new()));
    let stop = CancellationToken::new();
    let task = tokio::spawn(supervise(shared, nudge.clone(), stop.clone()));
    Ok(Relay { nudge, stop, task })
}

/// A panic of the loop must not end all deliveries for good: it starts anew from the store.
async fn supervise(shared: Arc<Shared>, nudge: Nudge, stop: CancellationToken) {
    loop {
        let run = Loop::new(shared.clone(), nudge.clone(), stop.clone()).run();
        if AssertUnwindSafe(run).catch_unwind().await.is_ok() {
            return;
        }
        error!("the webhook relay panicked; it starts again from the store");
        counter!("enrollpay_actor_restarts_total", "cause" => "webhook_relay").increment(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[derive(Debug)]
struct Shared {
    options: Options,
    parts: Parts,
    courier: Courier,
}

/// What there is to do for one merchant.
#[derive(Debug, Default)]
struct Lane {
    due: VecDeque<OutboxEntry>,
    in_flight: usize,
    /// The last try failed.
    failing: bool,
    /// The endpoint asked for a pause.
    paused_until: Option<Timestamp>,
}

/// A finished try.
#[derive(Debug)]
struct Done {
    event: EventId,
    merchant: MerchantId,
    order: OrderId,
    was: (DeliveryState, u16),
    tries: u16,
    report: Report,
    at: Timestamp,
}

struct Loop {
    shared: Arc<Shared>,
    nudge: Nudge,
    stop: CancellationToken,
    /// Ends the tries under way when the loop ends.
    tries: CancellationToken,
    lanes: BTreeMap<MerchantId, Lane>,
    /// Orders with a try under way or a result not yet recorded.
    busy: HashSet<OrderId>,
    in_flight: usize,
    /// Whom the last free place went to, so that the places go round.
    last_served: Option<MerchantId>,
    unrecorded: Vec<Done>,
    done: mpsc::UnboundedReceiver<Done>,
    report_to: mpsc::UnboundedSender<Done>,
    looked_at: Instant,
    look_at: Instant,
    gauges_at: Instant,
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.tries.cancel();
    }
}

impl Loop {
    fn new(shared: Arc<Shared>, nudge: Nudge, stop: CancellationToken) -> Self {
        // Unbounded in type only: at most `in_flight` tries report.
        let (report_to, done) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self {
            shared,
            nudge,
            stop,
            tries: CancellationToken::new(),
            lanes: BTreeMap::new(),
            busy: HashSet::new(),
            in_flight: 0,
            last_served: None,
            unrecorded: Vec::new(),
            done,
            report_to,
            looked_at: now,
            look_at: now,
            gauges_at: now,
        }
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        let nudge = self.nudge.clone();
        let mut finished = Vec::new();
        loop {
            if Instant::now() >= self.look_at {
                self.look().await;
            }
            self.start_tries();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = self.done.recv_many(&mut finished, 256) => {
                    self.take(&mut finished);
                    self.record().await;
                }
                () = nudge.0.notified() => self.look_soon(),
                () = tokio::time::sleep_until(self.look_at) => {}
            }
        }
        self.drain(&mut finished).await;
    }

    fn look_soon(&mut self) {
        self.look_at = self.look_at.min(self.looked_at + LOOKS_APART);
    }

    /// Reads what is due. What was queued before and not started is read anew, so that a change of
    /// an operator (resend, park) is heeded.
    async fn look(&mut self) {
        self.looked_at = Instant::now();
        self.look_at = self.looked_at + self.shared.options.poll_every;
        if !self.unrecorded.is_empty() {
            self.record().await;
        }
        let now = self.now();
        for lane in self.lanes.values_mut() {
            lane.due.clear();
            lane.paused_until = lane.paused_until.filter(|until| *until > now);
        }
        let per_merchant = self.shared.options.in_flight_per_merchant.saturating_mul(4);
        let store = &self.shared.parts.store;
        let owned = (self.shared.parts.owned)();
        match store
            .outbox_due(now, &owned, ROWS_PER_LOOK, per_merchant)
            .await
        {
            Ok(entries) => {
                for entry in entries {
                    if !self.busy.contains(&entry.order) {
                        let lane = self.lanes.entry(entry.merchant).or_default();
                        lane.due.push_back(entry);
                    }
                }
            }
            Err(error) => warn!(%error, "cannot read the webhook outbox; trying again soon"),
        }
        self.lanes.retain(|_, lane| {
            !lane.due.is_empty()
                || lane.in_flight > 0
                || lane.failing
                || lane.paused_until.is_some()
        });
        if self.looked_at >= self.gauges_at {
            self.gauges_at = self.looked_at + GAUGES_EVERY;
            self.tell_gauges(now).await;
        }
    }

    async fn tell_gauges(&self, now: Timestamp) {
        match self.shared.parts.store.outbox_gauge().await {
            Ok(found) => {
                let age_ms = found.oldest_pending.map_or(0, |oldest| now.since(oldest));
                let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
                let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
                gauge!("enrollpay_webhook_oldest_pending_seconds").set(age);
                gauge!("enrollpay_webhook_pending").set(count(found.pending));
                gauge!("enrollpay_webhook_parked").set(count(found.parked));
            }
            Err(error) => debug!(%error, "cannot read the outbox's gauges"),
        }
    }

    /// Hands the free places round, one to a merchant at a time.
    fn start_tries(&mut self) {
        let now = self.now();
        loop {
            let after = |id: &MerchantId| self.last_served.is_none_or(|last| *id > last);
            let (mut order, before): (Vec<_>, Vec<_>) = self
                .lanes
                .iter()
                .filter(|(_, lane)| !lane.due.is_empty())
                .map(|(id, _)| *id)
                .partition(after);
            order.extend(before);
            let mut started = false;
            for merchant in order {
                if self.in_flight >= self.shared.options.in_flight {
                    return;
                }
                let Some(lane) = self.lanes.get_mut(&merchant) else {
                    continue;
                };
                let places = if lane.failing {
                    1
                } else {
                    self.shared.options.in_flight_per_merchant
                };
                let paused = lane.paused_until.is_some_and(|until| until > now);
                if paused || lane.in_flight >= places {
                    continue;
                }
                let Some(entry) = lane.due.pop_front() else {
                    continue;
                };
                lane.in_flight += 1;
                self.in_flight += 1;
                self.busy.insert(entry.order);
                self.last_served = Some(merchant);
                self.start_try(entry);
                started = true;
            }
            if !started {
                return;
            }
        }
    }

    fn start_try(&self, entry: OutboxEntry) {
        let shared = self.shared.clone();
        let tries = self.tries.clone();
        let report_to = self.report_to.clone();
        tokio::spawn(tries.run_until_cancelled_owned(async move {
            let attempt = AssertUnwindSafe(shared.attempt(&entry)).catch_unwind();
            let report = attempt.await.unwrap_or_else(|_| {
                error!(event = %entry.id, "a webhook delivery panicked");
                Report::new(Outcome::NotSent, "the gateway failed to send it")
            });
            let done = Done {
                event: entry.id,
                merchant: entry.merchant,
                order: entry.order,
                was: (entry.state, entry.tries),
                tries: entry.tries.saturating_add(1),
                report,
                at: shared.parts.clock.now(),
            };
            // The loop has ended: the row is still due.
            let _ = report_to.send(done);
        }));
    }

    /// Books finished tries: their places are free again, their orders not before the record.
    fn take(&mut self, finished: &mut Vec<Done>) {
        for done in finished.drain(..) {
            self.in_flight = self.in_flight.saturating_sub(1);
            if let Some(lane) = self.lanes.get_mut(&done.merchant) {
                lane.in_flight = lane.in_flight.saturating_sub(1);
                lane.failing = !matches!(done.report.outcome, Outcome::Delivered | Outcome::Gone);
                if let Outcome::Busy(Some(put_off)) = done.report.outcome {
                    let put_off = put_off.min(super::schedule::RETRY_AFTER_MAX);
                    let ms = i64::try_from(put_off.as_millis()).unwrap_or(i64::MAX);
                    lane.paused_until = Some(done.at.plus_ms(ms));
                }
            }
            self.unrecorded.push(done);
        }
    }

    /// Commits all results in one group. What the store does not take stays here, and its orders
    /// stay busy: the same result is offered again at the next look.
    async fn record(&mut self) {
        if !self.unrecorded.is_empty() {
            crash_point("c13");
        }
        let transactions = self.unrecorded.iter().map(|done| Transaction {
            order: None,
            writes: vec![self.shared.verdict(done)],
        });
        let outcome = self.shared.parts.store.commit(transactions.collect()).await;
        match outcome {
            Ok(results) => {
                for (done, result) in self.unrecorded.drain(..).zip(results) {
                    self.busy.remove(&done.order);
                    // Somebody else tried it, or an operator has spoken: the row says what is next.
                    if let Err(rejection) = result {
                        warn!(event = %done.event, %rejection, "a delivery could not be recorded");
                    }
                }
                let wanting = |lane: &Lane| lane.due.is_empty() && lane.paused_until.is_none();
                if self.lanes.values().any(wanting) {
                    self.look_soon();
                }
            }
            Err(error) => {
                warn!(%error, "deliveries are not recorded yet; trying again soon");
            }
        }
    }

    async fn drain(&mut self, finished: &mut Vec<Done>) {
        let end = Instant::now() + self.shared.options.drain;
        while self.in_flight > 0 {
            let received = self.done.recv_many(finished, 256);
            if tokio::time::timeout_at(end, received).await.is_err() {
                let left = self.in_flight;
                info!(
                    left,
                    "webhook deliveries under way are left for the next start"
                );
                break;
            }
            self.take(finished);
        }
        if !self.unrecorded.is_empty() {
            self.record().await;
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.parts.clock.now()
    }
}

impl Shared {
    /// One try, measured and logged.
    async fn attempt(&self, entry: &OutboxEntry) -> Report {
        let started = Instant::now();
        let report = match self.prepare(entry).await {
            Ok(ready) => {
                let now = self.parts.clock.now();
                let id = entry.id.to_string();
                let headers = sign::headers(&id, now, &ready.body, &ready.secrets);
                self.courier
                    .deliver(&ready.url, headers, ready.body, now)
                    .await
            }
            Err(report) => report,
        };
        let outcome = report.outcome.as_str();
        histogram!("enrollpay_webhook_delivery_duration_seconds").record(started.elapsed());
        counter!("enrollpay_webhook_deliveries_total", "outcome" => outcome).increment(1);
        let tries = entry.tries.saturating_add(1);
        let (event, merchant, kind) = (entry.id, entry.merchant, entry.kind.as_str());
        if report.outcome == Outcome::Delivered {
            debug!(%event, %merchant, kind, tries, "webhook delivered");
        } else {
            info!(%event, %merchant, kind, tries, outcome, note = report.note, "webhook not delivered");
        }
        report
    }

    /// What is needed for a try, read anew for each: address and secrets may have changed since.
    async fn prepare(&self, entry: &OutboxEntry) -> Result<Ready, Report> {
        let not_sent = |note: &str| Report::new(Outcome::NotSent, note);
        let merchant = match self.parts.store.merchant(entry.merchant).await {
            Ok(Some(merchant)) => merchant,
            Ok(None) => return Err(not_sent("no such merchant")),
            Err(error) => {
                warn!(%error, "cannot read a merchant");
                return Err(not_sent("the gateway's store could not be read"));
            }
        };
        let Some(url) = merchant.webhook_url.clone() else {
            return Err(not_sent(NO_URL));
        };
        let secrets = self.secrets(&merchant)?;
        let event = entry.id.to_string();
        let place = Place {
            table: "outbox",
            column: "body",
            row: &event,
        };
        if entry.body.is_erased() {
            return Err(not_sent(ERASED));
        }
        let body = self.parts.sealer.open(place, &entry.body).map_err(|why| {
            error!(event, %why, "a webhook body does not open");
            not_sent("the stored body does not open")
        })?;
        let digest = self.parts.sealer.body_digest(&body);
        if entry.body_digest.is_some_and(|kept| kept != digest) {
            counter!("enrollpay_webhook_altered_total").increment(1);
            error!(event, "a webhook body is not the one that was written");
            return Err(not_sent("the stored body is not the one that was written"));
        }
        Ok(Ready { url, secrets, body })
    }

    fn secrets(&self, merchant: &Merchant) -> Result<Vec<Secret>, Report> {
        let now = self.parts.clock.now();
        let row = merchant.id.to_string();
        let place = Place {
            table: "merchants",
            column: "webhook_secret",
            row: &row,
        };
        let mut secrets = Vec::new();
        let valid = |until: Option<Timestamp>| until.is_none_or(|until| until > now);
        for secret in &merchant.webhook_secrets {
            if !valid(secret.until) {
                continue;
            }
            let text = self.parts.sealer.open(place, &secret.sealed);
            let text = text.map(zeroize::Zeroizing::new).map_err(|why| {
                error!(merchant = row, %why, "a webhook secret does not open");
                Report::new(Outcome::NotSent, "a webhook secret does not open")
            })?;
            let secret = Secret::parse(&text)
                .map_err(|bad| Report::new(Outcome::NotSent, bad.to_string()))?;
            secrets.push(secret);
        }
        if secrets.is_empty() {
            return Err(Report::new(Outcome::NotSent, "no valid webhook secret"));
        }
        Ok(secrets)
    }

    /// What a finished try means for its row.
    fn verdict(&self, done: &Done) -> Write {
        let mut note = done.report.note.clone();
        let (state, next_at) = match done.report.outcome {
            Outcome::Delivered => (DeliveryState::Delivered, None),
            Outcome::Gone => {
                note.push_str(": the receiver wants no more of it");
                (DeliveryState::Parked, None)
            }
            // Waiting cannot help: the merchant sets an address, then the event is resent.
            Outcome::NotSent if note == NO_URL || note == ERASED => (DeliveryState::Parked, None),
            outcome => {
                let put_off = match outcome {
                    Outcome::Busy(put_off) => put_off,
                    _ => None,
                };
                let jitter = self.parts.random.below(JITTER_PERMILLE_MAX + 1);
                let schedule = &self.options.schedule;
                match schedule.after_failure(done.tries, put_off, jitter, done.at) {
                    Next::RetryAt(at) => (DeliveryState::Pending, Some(at)),
                    Next::Park => {
                        note = format!("given up after {} tries, the last: {note}", done.tries);
                        (DeliveryState::Parked, None)
                    }
                }
            }
        };
        if state == DeliveryState::Parked {
            let (event, merchant) = (done.event, done.merchant);
            warn!(%event, %merchant, note, "webhook parked: mend the endpoint, then resend it");
        }
        Write::Delivery {
            event: done.event,
            was: done.was,
            state,
            tries: done.tries,
            next_at,
            note,
            at: done.at,
        }
    }
}

const NO_URL: &str = "no webhook_url";
const ERASED: &str = "erased with the payer's data";

/// All that one try needs.
struct Ready {
    url: String,
    secrets: Vec<Secret>,
    body: Vec<u8>,
}
